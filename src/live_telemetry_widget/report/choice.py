"""Which episodes a report holds, and of which of them the steps, so that it stays within its limit."""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import query
from live_telemetry_widget.errors import NoDataError
from live_telemetry_widget.schema import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from live_telemetry_widget.frames import RunFrames

#: More episodes than this are not put into a page: its newest stay.
MOST_EPISODES: Final = 50_000

_Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """Some episodes of a run, with where their steps are in its table of steps.

    Attributes
    ----------
    episodes
        Their rows, in the order of ``run.episodes``.
    steps
        All steps of the run.
    starts, counts
        Of each episode: its first row in `steps` and how many there are.
    said
        What was chosen, for people: a sentence each.
    """

    episodes: pa.Table
    steps: pa.Table
    starts: _Numbers
    counts: _Numbers
    said: tuple[str, ...]

    def take(self, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Table:
        """Return the steps of the episodes that are kept."""
        rows = [np.arange(s, s + c) for s, c in zip(self.starts[keep], self.counts[keep], strict=True)]
        return self.steps.take(pa.array(np.concatenate(rows) if rows else np.zeros(0, np.int64)))

    def by_worth(self) -> _Numbers:
        """Return the episodes' places, those whose steps are kept first in front: by turns the newest and the one of the lowest return."""
        count = self.episodes.num_rows
        newest = np.arange(count)[::-1]
        returns = self.episodes.column("total_reward").to_numpy()
        worst = np.lexsort((-np.arange(count), returns))
        turns = np.column_stack((newest, worst)).ravel()
        _, first = np.unique(turns, return_index=True)
        order: _Numbers = turns[np.sort(first)]
        return order


def choose(frames: RunFrames, *, episodes: int | Iterable[int] | None, where: str | None, agent: str | None) -> Chosen:
    """Return the episodes that are asked for.

    Parameters
    ----------
    episodes
        Their numbers; a single number: so many of the newest; None: all.
    where
        An expression over the columns of ``run.episodes`` (:mod:`~live_telemetry_widget.query`).
    agent
        Only this agent's.

    Raises
    ------
    QueryError
        `where` is no expression over these columns.
    NoDataError
        The run has episodes, and none of them is chosen.
    """
    table, steps = frames.episodes_table(), frames.steps_table()
    total = table.num_rows
    said: list[str] = []
    if agent is not None:
        table = table.filter(pc.equal(table.column("agent_id").cast(TEXT), agent))
        said.append(f"agent {agent}")
    if where is not None:
        table = query.compile(where, table.schema).filter(table)
        said.append(f"where {where}")
    if isinstance(episodes, bool) or (isinstance(episodes, int) and episodes < 1):
        msg = f"episodes is {episodes!r}; give how many of the newest, from 1, or their numbers"
        raise ValueError(msg)
    if isinstance(episodes, int):
        table = table.slice(max(0, table.num_rows - episodes))
        said.append(f"the newest {episodes:,}")
    elif episodes is not None:
        numbers = [operator.index(number) for number in episodes]
        table = table.filter(pc.is_in(table.column("episode"), pa.array(numbers, pa.int64())))
        said.append(f"{len(set(numbers)):,} by their numbers")
    if said:
        said = [f"Chosen: {'; '.join(said)}: {table.num_rows:,} of {total:,} episodes."]
    if total and not table.num_rows:
        msg = f"run {frames.run_id!r}: none of its {total:,} episodes is chosen ({said[0]})"
        raise NoDataError(msg)
    if table.num_rows > MOST_EPISODES:
        said.append(
            f"Of these {table.num_rows:,} episodes the newest {MOST_EPISODES:,} are here: a page holds no more."
        )
        table = table.slice(table.num_rows - MOST_EPISODES)
    places = _places(steps)
    keys = _keys(table)
    found = [places.get(key, (0, 0)) for key in keys]
    starts, counts = (np.array([place[at] for place in found], np.int64) for at in (0, 1))
    return Chosen(table, steps, starts, counts, tuple(said))


def _keys(table: pa.Table) -> list[tuple[str, str, int]]:
    columns = [table.column(name).to_pylist() for name in ("worker_id", "agent_id", "episode")]
    return list(zip(*columns, strict=True))


def _places(steps: pa.Table) -> dict[tuple[str, str, int], tuple[int, int]]:
    """Return for each (worker, agent, episode) its first row and how many there are: a table of steps has each in one stretch."""
    if not steps.num_rows:
        return {}
    plain = steps.select(["worker_id", "agent_id", "episode"]).unify_dictionaries().combine_chunks()
    codes = [plain.column(name).chunk(0).indices.to_numpy() for name in ("worker_id", "agent_id")]
    codes.append(plain.column("episode").to_numpy())
    changed = np.zeros(steps.num_rows, bool)
    changed[0] = True
    for values in codes:
        changed[1:] |= values[1:] != values[:-1]
    edges = np.append(np.flatnonzero(changed), steps.num_rows)
    firsts = _keys(plain.take(pa.array(edges[:-1])))
    return {key: (int(a), int(b - a)) for key, a, b in zip(firsts, edges[:-1], edges[1:], strict=True)}
