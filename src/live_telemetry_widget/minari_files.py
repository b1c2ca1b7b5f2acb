"""A run as a Minari dataset, which offline reinforcement learning reads."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shutil
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _json
from live_telemetry_widget.decode import as_array
from live_telemetry_widget.errors import MissingPackageError, NoDataError, RecordingError
from live_telemetry_widget.exports import Written
from live_telemetry_widget.schema import JSON_KIND, LABEL, TEXT

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Mapping, Sequence

    from live_telemetry_widget.decode import Array
    from live_telemetry_widget.frames import RunFrames

#: What Minari takes for the name of a dataset.
_NAME: Final = re.compile(r"[-\w]+-v\d+")
_KEYS: Final = ["worker_id", "agent_id", "episode"]


def write(frames: RunFrames, folder: pathlib.Path, about: Mapping[str, object]) -> Written:
    """Write the whole episodes of a run; ``minari.MinariDataset(folder / "data")`` reads them, in the order of ``run.episodes``.

    Numbers, and arrays of numbers of one shape, keep their values and their shape; other observations and actions are JSON texts. The
    last observation is ``next_observation`` where the worker tells it, else that of the last step once more. An episode that lacks steps
    (``complete`` is False in ``run.episodes``) is left out and counted.

    Raises
    ------
    MissingPackageError
        Minari is not installed.
    NoDataError
        No episode is whole.
    RecordingError
        `folder` is no name of a dataset, or is there.
    """
    try:
        from minari import __version__  # noqa: PLC0415 - optional
        from minari.data_collector import EpisodeBuffer  # noqa: PLC0415 - optional
        from minari.dataset.minari_storage import MinariStorage  # noqa: PLC0415 - optional
    except ImportError as error:
        msg = "a Minari dataset needs Minari: pip install 'live_telemetry_widget[minari]'"
        raise MissingPackageError(msg) from error
    if not _NAME.fullmatch(folder.name):
        msg = f"{folder.name!r} is no name of a Minari dataset; give a directory like 'lake-v0'"
        raise RecordingError(msg)
    if folder.exists() and any(folder.iterdir()):
        msg = f"{folder} is there and not empty; give another path"
        raise RecordingError(msg)
    steps = frames.steps_table()
    parts, left_out = _whole(steps, frames.episodes_table())
    if not parts:
        msg = f"run {frames.run_id!r} has no whole episode to write ({left_out} lack steps)"
        raise NoDataError(msg)
    observations, actions = _observations(steps, parts), _Values.of(_said(steps, "action"))
    # Where each episode's observations begin: it has one more of them than steps.
    firsts = [0, *itertools.accumulate(rows.stop - rows.start + 1 for rows in parts)][:-1]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        storage = MinariStorage.new(
            (folder / "data").absolute(),  # Minari loses relative ones on the way
            observation_space=observations.space(),
            action_space=actions.space(),
            env_spec=_spec(about),
            data_format="arrow",
            jpeg_encoding=False,
        )
        storage.update_metadata(
            {
                "dataset_id": folder.name,
                "minari_version": __version__,
                "algorithm_name": str(about.get("policy") or ""),
                "description": json.dumps({"run_id": frames.run_id, **about}, default=str),
            }
        )
        storage.update_episodes(
            EpisodeBuffer(
                id=at,
                seed=_seed(steps, rows),
                observations=observations.part(first, first + rows.stop - rows.start + 1),
                actions=actions.part(rows.start, rows.stop),
                rewards=_part(steps, "reward", rows),
                terminations=_part(steps, "terminated", rows),
                truncations=_part(steps, "truncated", rows),
            )
            for at, (first, rows) in enumerate(zip(firsts, parts, strict=True))
        )
        storage.update_episode_metadata(list(_keys(steps, parts)))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Written([folder], sum(rows.stop - rows.start for rows in parts), len(parts), left_out)


def _part(steps: pa.Table, name: str, rows: slice) -> list[Any]:
    found: list[Any] = steps.column(name).slice(rows.start, rows.stop - rows.start).to_pylist()
    return found


def _said(steps: pa.Table, name: str) -> list[Any]:
    """Return what a column holds; what its JSON says where it is JSON."""
    values: list[Any] = steps.column(name).to_pylist()
    if (steps.schema.field(name).metadata or {}).get(b"kind") != JSON_KIND[b"kind"]:
        return values
    return [None if text is None else _json.read(text) for text in values]


def _whole(steps: pa.Table, episodes: pa.Table) -> tuple[list[slice], int]:
    """Return where the rows of each whole episode are, one after the other, and how many others there are."""
    if not steps.num_rows:
        return [], episodes.num_rows
    changed = np.zeros(steps.num_rows - 1, bool)
    for name in _KEYS:
        column = steps.column(name)
        codes = pc.dictionary_encode(column.cast(TEXT) if column.type == LABEL else column).unify_dictionaries()
        numbers = np.concatenate([chunk.indices.to_numpy() for chunk in codes.chunks])
        changed |= numbers[1:] != numbers[:-1]
    edges = [0, *(np.flatnonzero(changed) + 1).tolist(), steps.num_rows]
    index = steps.column("step_index").to_numpy()
    slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
    # What an episode's record says of its length is known to the episodes alone. Steps may have come since that table was made.
    complete = {
        key for key, whole in zip(_named(episodes), episodes.column("complete").to_pylist(), strict=True) if whole
    }
    named = _named(steps.take([s.start for s in slices]))
    whole = [
        s
        for s, key in zip(slices, named, strict=True)
        if key in complete and index[s.start] == 0 and index[s.stop - 1] == s.stop - s.start - 1
    ]
    return whole, max(len(slices), episodes.num_rows) - len(whole)


def _named(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in _KEYS), strict=True))


def _observations(steps: pa.Table, parts: Sequence[slice]) -> _Values:
    """Return each episode's observations with its last one behind them, all in one line."""
    seen = _said(steps, "observation")
    told = "next_observation" in steps.schema.names
    after = _said(steps, "next_observation") if told else [None] * len(seen)
    line: list[Any] = []
    for rows in parts:
        line += seen[rows]
        last = after[rows.stop - 1]
        line.append(seen[rows.stop - 1] if last is None else last)
    return _Values.of(line)


@dataclasses.dataclass(frozen=True)
class _Values:
    """Observations or actions: numbers in an array, or JSON texts."""

    array: Array | None
    texts: list[str]

    @classmethod
    def of(cls, values: list[Any]) -> _Values:
        array = as_array(values)
        # Lists of nothing are no numbers, and end the process in Arrow, which Minari asks for lists of length 0.
        if array is not None and array.dtype.kind != "b" and array.size:
            return cls(array, [])
        return cls(None, [json.dumps(value, ensure_ascii=False) for value in values])

    def space(self) -> Any:  # noqa: ANN401 - a space of Gymnasium's
        from gymnasium import spaces  # noqa: PLC0415 - comes with Minari

        if self.array is None:
            letters = frozenset().union(*map(frozenset, self.texts))
            return spaces.Text(max(map(len, self.texts)), charset=letters)
        if self.array.ndim == 1 and self.array.dtype.kind == "i":
            low, high = int(self.array.min()), int(self.array.max())
            if high - low < np.iinfo(np.int64).max:
                return spaces.Discrete(high - low + 1, start=low)
        if self.array.dtype.kind == "i":
            ends = np.iinfo(np.int64)
            return spaces.Box(ends.min, ends.max, self.array.shape[1:], np.int64)
        return spaces.Box(-np.inf, np.inf, self.array.shape[1:], np.float64)

    def part(self, first: int, end: int) -> Any:  # noqa: ANN401 - what Minari takes for this space
        return self.texts[first:end] if self.array is None else self.array[first:end]


def _spec(about: Mapping[str, object]) -> Any:  # noqa: ANN401 - an EnvSpec of Gymnasium's, or None
    """Return how Minari can make the environment again, where Gymnasium knows it."""
    import gymnasium  # noqa: PLC0415 - comes with Minari

    game = about.get("game")
    if not game or game not in gymnasium.envs.registry:
        return None
    spec = gymnasium.spec(str(game))
    kwargs = about.get("kwargs")
    if isinstance(kwargs, dict):
        spec.kwargs = {**spec.kwargs, **kwargs}
    return spec


def _seed(steps: pa.Table, rows: slice) -> int | None:
    seeds = set(_part(steps, "episode_seed", rows)) - {None}
    return seeds.pop() if len(seeds) == 1 else None


def _keys(steps: pa.Table, parts: Sequence[slice]) -> Iterator[dict[str, Any]]:
    for rows in parts:
        first: dict[str, Any] = steps.select(_KEYS).slice(rows.start, 1).to_pylist()[0]
        yield first
