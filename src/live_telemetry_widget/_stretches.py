"""A batch of steps as it comes in: cut into stretches of one episode, what the summaries need of each, and how copies compare.

Used by :mod:`~live_telemetry_widget.frames` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget.schema import LABEL, TEXT

if TYPE_CHECKING:
    from live_telemetry_widget._episode import Episode
    from live_telemetry_widget._rows import Numbers

#: Two copies of a step are of one time when they are no further apart (nanoseconds): a database keeps fewer digits.
_SAME_TIME: Final = 1_000_000
_SECOND: Final = 1_000_000_000


class StepColumns:
    """What the episodes' summaries are made from, of a batch of steps and of each stretch in it."""

    def __init__(self, batch: pa.RecordBatch, cuts: np.ndarray[Any, Any]) -> None:
        self.steps: Numbers = batch.column("step_index").to_numpy()
        self.rewards: np.ndarray[Any, Any] = batch.column("reward").to_numpy()
        self._flags = [batch.column(name).to_numpy(zero_copy_only=False) for name in ("terminated", "truncated")]
        self._times, self._seeds = batch.column("timestamp").cast(pa.int64()), batch.column("episode_seed")
        # Of whole stretches, all at once: a question to NumPy or Arrow costs as much for one as for a thousand.
        starts, last = cuts[:-1], pa.array(cuts[1:] - 1)
        self.starts: list[int] = starts.tolist()
        self.ends: list[int] = cuts[1:].tolist()
        self.firsts: list[int] = self.steps[starts].tolist()
        self.sums: list[float] = np.add.reduceat(self.rewards, starts).tolist()
        self._ended = [np.logical_or.reduceat(flag, starts).tolist() for flag in self._flags]
        self._last_times = self._times.take(last).to_pylist()
        self._last_seeds = self._seeds.take(last).to_pylist() if self._seeds.null_count < len(self._seeds) else None

    def put(self, episode: Episode, at: int, row: int) -> None:
        """Note in its episode that a stretch, all new, is stored from `row` on."""
        seed = self._last_seeds[at] if self._last_seeds is not None else None
        flags = self._ended[0][at], self._ended[1][at]
        self._put(episode, self.firsts[at], self.ends[at] - self.starts[at], row, (self._last_times[at], seed, *flags))

    def put_part(self, episode: Episode, low: int, high: int, row: int) -> None:
        """Note in its episode that the rows `low` to `high`, consecutive new steps of it, are stored from `row` on."""
        flags = (bool(flag[low:high].any()) for flag in self._flags)
        last = (self._times[high - 1].as_py(), self._seeds[high - 1].as_py(), *flags)
        self._put(episode, int(self.steps[low]), high - low, row, last)

    @staticmethod
    def _put(
        episode: Episode, first: int, count: int, row: int, last: tuple[int | None, int | None, bool, bool]
    ) -> None:
        time, seed, terminated, truncated = last
        if first + count >= episode.next_step:
            episode.last_time = time
            if seed is not None:
                episode.seed = seed
        episode.add(first, count, row)
        episode.terminated |= terminated
        episode.truncated |= truncated


def true_runs(mask: np.ndarray[Any, Any], base: int) -> list[tuple[int, int]]:
    """Return the stretches of True in `mask` as (start, end), each plus `base`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(a) + base, int(b) + base) for a, b in edges.reshape(-1, 2)]


def by_naming(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """Return the steps that name no worker, then those that do.

    Whether an unnamed step is a copy of a named one can be seen only when one of them is held.
    """
    names = batch.column("worker_id")
    code = names.dictionary.index("").as_py() if len(names.dictionary) > 1 else -1
    if code < 0:
        return [batch]
    unnamed = pc.equal(names.indices, code)
    return [part for part in (batch.filter(unnamed), batch.filter(pc.invert(unnamed))) if part.num_rows]


def named(batch: pa.RecordBatch, found_out: list[tuple[int, int, str]]) -> pa.RecordBatch:
    """Return the batch with the workers that were found out, of rows (start, end)."""
    names = batch.column("worker_id").to_pylist()
    for start, end, worker in found_out:
        names[start:end] = [worker] * (end - start)
    at = batch.schema.get_field_index("worker_id")
    return batch.set_column(at, batch.schema.field(at), pa.array(names, LABEL))


def segments(
    batch: pa.RecordBatch,
) -> tuple[pa.RecordBatch, np.ndarray[Any, Any], list[tuple[str, str, int]]]:
    """Cut a batch into stretches of one episode with steps that count up by one.

    Returns
    -------
    tuple
        The batch (rows of interleaved agents brought together, otherwise as it was), the edges of the stretches, and the
        (worker, agent, episode) of each.
    """
    codes, names = _stream_codes(batch)
    number = batch.column("episode").to_numpy()
    step = batch.column("step_index").to_numpy()
    edges = _edges(codes, number, step)
    if len(edges) - 1 > max(8, batch.num_rows // 4):
        order = np.lexsort((step, number, codes))
        batch = batch.take(pa.array(order))
        codes, number, step = codes[order], number[order], step[order]
        edges = _edges(codes, number, step)
    keys = [(*names[int(codes[at])], int(number[at])) for at in edges[:-1]]
    return batch, edges, keys


def _edges(
    codes: np.ndarray[Any, Any], number: np.ndarray[Any, Any], step: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    same = (codes[1:] == codes[:-1]) & (number[1:] == number[:-1]) & (step[1:] == step[:-1] + 1)
    edges: np.ndarray[Any, Any] = np.concatenate(([0], np.flatnonzero(~same) + 1, [len(codes)]))
    return edges


def _stream_codes(batch: pa.RecordBatch) -> tuple[np.ndarray[Any, Any], list[tuple[str, str]]]:
    """Return a code for the (worker, agent) of each row, and the pairs that the codes stand for."""
    worker, agent = batch.column("worker_id"), batch.column("agent_id")
    workers, agents = worker.dictionary.to_pylist(), agent.dictionary.to_pylist()
    codes = worker.indices.to_numpy().astype(np.int64) * len(agents) + agent.indices.to_numpy()
    return codes, [(w, a) for w in workers for a in agents]


def differ(held: pa.Table, given: pa.RecordBatch) -> np.ndarray[Any, Any]:
    """Return for each row whether both copies have something to say of it that is not the same."""
    rewards = held.column("reward").to_numpy(), given.column("reward").to_numpy()
    found: np.ndarray[Any, Any] = (rewards[0] != rewards[1]) & ~(np.isnan(rewards[0]) & np.isnan(rewards[1]))
    for name in ("terminated", "truncated"):
        found |= held.column(name).to_numpy() != given.column(name).to_numpy(zero_copy_only=False)
    actions = held.column("action").cast(TEXT), given.column("action").cast(TEXT)
    other = pc.fill_null(pc.not_equal(*actions), fill_value=False)
    found |= other.to_numpy()
    return found


def other_times(held: pa.Table, given: pa.RecordBatch) -> np.ndarray[Any, Any]:
    """Return for each row whether the two copies were made at different times, as far as both tell."""
    left, right = (
        pc.fill_null(table.column("timestamp").cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        for table in (held, given)
    )
    # A database may keep whole seconds only.
    coarse = (left % _SECOND == 0) | (right % _SECOND == 0)
    apart = np.abs(left - right) > np.where(coarse, _SECOND, _SAME_TIME)
    found: np.ndarray[Any, Any] = apart & (left != 0) & (right != 0)
    return found
