"""Parts of a run by its episode index, without making all of it a DataFrame: the newest steps, a sample, some episodes, two side by side."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import operator
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from live_telemetry_widget import _arrow, _columns, query
from live_telemetry_widget.decode import StepFrame
from live_telemetry_widget.errors import RunNotFoundError
from live_telemetry_widget.schema import LABEL, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from live_telemetry_widget._episode import Episode
    from live_telemetry_widget.frames import RunFrames
    from live_telemetry_widget.lens import Frames

#: What of a step is compared.
_COMPARED: Final = ("observation", "action", "reward", "terminated", "truncated")


def tail(frames: RunFrames, count: int) -> StepFrame:
    """Return the steps that came last, in order of arrival."""
    seen, total = frames.revision, frames.step_count
    count = min(whole(count, "the number of steps"), total)
    return _steps(frames, frames.rows(total - max(count, 1), max(count, 1)).slice(0, count), seen)


def sample(frames: RunFrames, count: int, seed: int | None) -> StepFrame:
    """Return steps drawn without replacement, in order of arrival."""
    count = whole(count, "the number of steps")
    seen, total = frames.revision, frames.step_count
    rows = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
    return _steps(frames, frames.take(np.sort(rows)), seen)


def where(frames: RunFrames, text: str) -> pd.DataFrame:
    """Return the episodes that an expression selects."""
    if not isinstance(text, str):
        msg = f"the expression is {text!r}; give a text, like \"outcome == 'Failed' and steps < 10\""
        raise TypeError(msg)
    for said in query.outcomes_in(text):
        meant = next((one for one in OUTCOMES if one.lower() == said.lower() and one != said), None)
        if meant is not None:
            warnings.warn(f"no outcome is {said!r}, case counts; did you mean {meant!r}?", stacklevel=3)
    seen = frames.revision
    table = frames.episodes_table()
    return frames.marked(_columns.to_frame(query.compile(text, table.schema).filter(table)), seen)


def _steps(frames: RunFrames, table: pa.Table, revision: int) -> StepFrame:
    return frames.marked(_columns.to_frame(table, ("action",), StepFrame), revision)


def episode(frames: RunFrames, number: int, agent: str | None, worker: str | None) -> StepFrame | None:
    """Return the steps of the episodes of that number; None when there are none."""
    seen = frames.revision
    found = frames.find(number, agent, worker)
    return _steps(frames, frames.episode_table(found), seen) if found else None


def record_of(frames: RunFrames, number: int, agent: str | None, worker: str | None) -> dict[str, Any]:
    """Return the row of an episode among the episodes, which must be of one agent of one worker; raises ValueError otherwise."""
    found = frames.find(number, agent, worker)
    _only(number, [(e.agent_id, e.worker_id) for e in found])
    rows: list[dict[str, Any]] = frames.take_episodes([e.ordinal for e in found]).to_pylist()
    return rows[0]


def whole(number: object, what: str) -> int:
    """Return a whole number from 0, NumPy's too; raises TypeError or ValueError with what to give instead."""
    try:
        found = operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        msg = f"{what} is {number!r}; give a whole number"
        raise TypeError(msg) from None
    if found < 0:
        msg = f"{what} is {found}; give a whole number from 0"
        raise ValueError(msg)
    return found


def only_one(  # noqa: PLR0913 - whatever names a step
    frames: RunFrames,
    seen: Frames,
    number: int,
    step: int | None,
    *,
    agent: str | None,
    worker: str | None,
    status: str,
) -> Episode:
    """Return the one episode of a number, with the ordinal that it has among those that are `seen` (the frames, or one agent of them).

    Raises
    ------
    RunNotFoundError
        There is none, or it has no such step; the message names the nearest.
    ValueError
        Several agents or workers have one.
    """
    found = [
        (held, row)
        for held, row in seen.seek(number, step)
        if agent in {None, held.agent_id} and worker in {None, held.worker_id}
    ]
    if not found:
        raise no_episode(frames, number, agent, worker, status)
    _only(number, [(held.agent_id, held.worker_id) for held, _ in found])
    episode, row = found[0]
    if step is not None and row is None:
        indices, _ = seen.episode_steps(episode.ordinal)
        near = sorted(sorted(indices.tolist(), key=lambda held: abs(held - step))[:3])
        has = (
            f"it has {len(indices)}, from {indices[0]} to {indices[-1]}; nearest: {', '.join(map(str, near))}"
            if near
            else "none of its steps is here"
        )
        msg = f"episode {number} has no step {step}; {has}"
        raise RunNotFoundError(msg)
    return episode


def no_episode(frames: RunFrames, number: int, agent: str | None, worker: str | None, status: str) -> RunNotFoundError:
    """Return what to raise where an episode is not there; it names the nearest."""
    run = f"run {frames.run_id!r}"
    numbers = frames.numbers()
    if not numbers:
        return RunNotFoundError(f"{run} has no episode {number}: nothing has come yet ({status})")
    if number not in numbers:
        near = sorted(numbers, key=lambda held: abs(held - number))[:3]
        return RunNotFoundError(
            f"{run} has no episode {number}; it has {len(numbers)}, from {min(numbers)} to {max(numbers)}; "
            f"nearest: {', '.join(map(str, sorted(near)))}"
        )
    held = frames.find(number)
    agents, workers = (
        list(dict.fromkeys(names)) for names in zip(*((e.agent_id, e.worker_id) for e in held), strict=True)
    )
    hints = [_hint("agent", agent, [*agents, *frames.agents]), _hint("worker", worker, workers)]
    told = f"episode {number} has no steps of agent {agent!r}, worker {worker!r}; it is of agents {agents[:10]}, workers {workers[:10]}"
    return RunNotFoundError("; ".join([told, *filter(None, hints)]))


def _hint(what: str, asked: str | None, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(asked, names, 1, 0.5) if asked and asked not in names else []
    return f"did you mean {what}={near[0]!r}?" if near else ""


def tidy(runs: Mapping[str, pa.Table]) -> pd.DataFrame:
    """Return the episodes of several runs (their labels, and tables of episodes) as one frame, with ``run`` and ``nth`` before the others.

    >>> import pyarrow as pa
    >>> table = pa.table({"worker_id": ["", ""], "agent_id": ["", ""], "total_reward": [0.5, 1.0], "seq_id": [1, 2]})
    >>> tidy({"a": table, "b": table.slice(1)})[["run", "nth", "total_reward"]].values.tolist()
    [['a', 0, 0.5], ['a', 1, 1.0], ['b', 0, 1.0]]
    """
    batches: list[pa.RecordBatch] = []
    core = pa.schema([])
    for label, table in runs.items():
        nth: collections.Counter[tuple[str, str]] = collections.Counter()
        places: list[int] = []
        for stream in zip(table.column("worker_id").to_pylist(), table.column("agent_id").to_pylist(), strict=True):
            places.append(nth[stream])
            nth[stream] += 1
        named = table.add_column(0, "nth", pa.array(places, pa.int64()))
        named = named.add_column(0, "run", pa.array([label] * len(places), LABEL))
        # Up to seq_id the columns are those of every run; then come what each worker says.
        core = pa.schema(list(named.schema)[: named.schema.get_field_index("seq_id") + 1])
        batches += named.to_batches() or [_arrow.empty(named.schema)]
    return _columns.to_frame(_arrow.merge(core, batches))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two episodes side by side.

    Attributes
    ----------
    first, second
        Their numbers.
    steps
        A row a ``step_index`` (the index), as many as the longer one has; columns ``(field, episode)`` for ``observation, action, reward,
        terminated, truncated`` and ``total`` (the rewards added up). Missing where an episode has no such step.
    first_difference
        The first step at which anything of it differs; None when nothing does.
    different
        The fields that differ there; ``("steps",)`` where one episode has ended.
    """

    first: int
    second: int
    steps: pd.DataFrame = dataclasses.field(repr=False)
    first_difference: int | None
    different: tuple[str, ...]

    def __str__(self) -> str:
        if self.first_difference is None:
            return f"episodes {self.first} and {self.second} are the same in all of their {len(self.steps)} steps"
        told = f"episodes {self.first} and {self.second} differ first at step {self.first_difference}: {', '.join(self.different)}"
        row = self.steps.loc[self.first_difference]
        named = [f for f in self.different if f in {"action", "reward"}]
        return told + "".join(f"; {f} {row[f, self.first]} and {row[f, self.second]}" for f in named)


def compare(left: StepFrame, right: StepFrame, first: int, second: int) -> Comparison:
    """Return two different episodes, each of one agent, aligned by step.

    Raises
    ------
    ValueError
        One of them is of several agents or workers, or both are the same.
    """
    if first == second:
        msg = f"both episodes are {first}; give two different numbers"
        raise ValueError(msg)
    sides = {number: _alone(frame, number) for number, frame in ((first, left), (second, right))}
    index = sides[first].index.union(sides[second].index)
    columns: dict[tuple[str, int], Any] = {}
    for name in (*_COMPARED, "total"):
        for number, frame in sides.items():
            columns[name, number] = frame[name].reindex(index)
    steps = pd.DataFrame(columns, index=index)
    here = {number: index.isin(frame.index) for number, frame in sides.items()}
    both = here[first] & here[second]
    differ = {"steps": ~both}
    for name in _COMPARED:
        one, other = (steps[name, number] for number in (first, second))
        missing = one.isna().to_numpy(bool), other.isna().to_numpy(bool)
        same = (one.astype(object) == other.astype(object)).to_numpy(bool, na_value=False)
        differ[name] = both & ~((same & ~missing[0] & ~missing[1]) | (missing[0] & missing[1]))
    anything = np.logical_or.reduce(list(differ.values())) if len(index) else np.zeros(0, bool)
    if not anything.any():
        return Comparison(first, second, steps, None, ())
    at = int(anything.argmax())
    return Comparison(first, second, steps, int(index[at]), tuple(name for name, mask in differ.items() if mask[at]))


def _alone(frame: StepFrame, number: int) -> pd.DataFrame:
    _only(number, list(frame[["agent_id", "worker_id"]].drop_duplicates().itertuples(index=False, name=None)))
    plain = pd.DataFrame(frame.set_index("step_index")[list(_COMPARED)])
    plain["total"] = plain["reward"].cumsum()
    # What one of them has no step for is missing, and the others stay what they are.
    kinds = {"i": "Int64", "u": "UInt64", "b": "boolean"}
    return plain.astype({name: kinds[kind.kind] for name, kind in plain.dtypes.items() if kind.kind in kinds})


def _only(number: int, streams: Sequence[tuple[str, str]]) -> None:
    if len(streams) > 1:
        told = ", ".join(f"agent={a!r} of worker={w!r}" for a, w in streams)
        msg = f"episode {number} is of {len(streams)} agents: {told}; say which, with agent= and worker="
        raise ValueError(msg)
