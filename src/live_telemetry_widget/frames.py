"""A run in memory: every step once, as Arrow batches, with an index by episode.

Rows are only ever appended (a richer copy of a step fills what its row lacks), so a row number is a position in time and
``since(cursor)`` is cheap. pandas objects are made when asked for and kept until something changes.

Examples
--------
>>> from live_telemetry_widget import frames, normalize
>>> run = frames.RunFrames("r")
>>> event = {"type": "step", "episode": 0, "step_index": 0, "action": 1, "reward": 1.0, "terminated": True}
>>> run.append_steps(normalize.steps_from_events([event, event]).batch)
1
>>> run.steps()[["episode", "step_index", "action", "reward"]].to_dict("records")
[{'episode': 0, 'step_index': 0, 'action': 1, 'reward': 1.0}]
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _arrow, _columns, normalize
from live_telemetry_widget._episode import Episode, Record
from live_telemetry_widget.schema import EPISODES, JSON_KIND, LABEL, RAW_LIMIT, STEPS, TEXT, TIMESTAMP, Problem, further

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pandas as pd

#: Chunks below this many rows are merged with their neighbours, so that a slow run is not a million of them.
_CHUNK_ROWS: Final = 65_536


@dataclasses.dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader of the frames has come: rows of steps, and the revision of the episodes."""

    rows: int = 0
    revision: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Delta:
    """What came since a cursor.

    Attributes
    ----------
    first
        Row number of the first of `steps`; later than the cursor's when a limit left rows out.
    steps, episodes
        Tables; `episodes` has an int64 column ``row``, its place in order of first sight.
    cursor
        Where to go on.
    """

    first: int
    steps: pa.Table
    episodes: pa.Table
    cursor: Cursor


class _Rows:
    """Record batches by global row number: append, slice, replace; small neighbours are merged."""

    def __init__(self, core: pa.Schema) -> None:
        self.core = core
        self.chunks: list[pa.RecordBatch] = []
        self.starts: list[int] = []
        self.total = 0

    def append(self, batch: pa.RecordBatch) -> None:
        self.chunks.append(batch)
        self.starts.append(self.total)
        self.total += batch.num_rows
        # As in a binary counter, every row is copied at most log2(_CHUNK_ROWS) times.
        while len(self.chunks) > 1:
            left, right = self.chunks[-2].num_rows, self.chunks[-1].num_rows
            if left > 2 * right or left + right > _CHUNK_ROWS:
                break
            joined = _arrow.combine(self.core, self.chunks[-2:])
            self.chunks[-2:] = [joined]
            self.starts.pop()

    def slice(self, first: int, count: int) -> pa.Table:
        """Return `count` rows from `first`, or what there is of them."""
        end = min(first + count, self.total)
        parts: list[pa.RecordBatch] = []
        at = max(0, bisect.bisect_right(self.starts, first) - 1)
        while first < end:
            offset = first - self.starts[at]
            part = self.chunks[at].slice(offset, end - first)
            parts.append(part)
            first += part.num_rows
            at += 1
        return _arrow.merge(self.core, parts or [_arrow.empty(self.core)])

    def fill(self, rows: Sequence[int], richer: pa.RecordBatch) -> int:
        """Put the values of `richer` (a row for each of `rows`) where those rows have nulls; return how many changed."""
        changed = 0
        by_chunk: dict[int, list[int]] = collections.defaultdict(list)
        for i, row in enumerate(rows):
            by_chunk[bisect.bisect_right(self.starts, row) - 1].append(i)
        for at, picks in by_chunk.items():
            chunk = self.chunks[at]
            given = richer.take(pa.array(picks, pa.int64()))
            offsets = np.array([rows[i] - self.starts[at] for i in picks], np.int64)
            names = [
                field.name
                for field in given.schema
                if given.column(field.name).null_count < given.num_rows
                and (field.name not in chunk.schema.names or self._lacks(chunk, field.name, offsets))
            ]
            if names:
                self.chunks[at] = self._filled(chunk, given.select(names), offsets)
                changed += len(picks)
        return changed

    @staticmethod
    def _lacks(chunk: pa.RecordBatch, name: str, offsets: np.ndarray[Any, Any]) -> bool:
        column = chunk.column(name)
        return bool(column.null_count) and bool(column.take(pa.array(offsets)).null_count)

    def _filled(self, chunk: pa.RecordBatch, given: pa.RecordBatch, offsets: np.ndarray[Any, Any]) -> pa.RecordBatch:
        scatter = np.full(chunk.num_rows, -1, np.int64)
        scatter[offsets] = np.arange(len(offsets))
        index = pa.array(scatter, mask=scatter < 0)
        schema, (held, new) = _arrow.unified(self.core, [chunk, given])
        arrays = list(held.columns)
        for name in given.schema.names:
            at = schema.get_field_index(name)
            old, fresh = held.column(at), new.column(name).take(index)
            if pa.types.is_dictionary(old.type):
                arrays[at] = pc.coalesce(old.cast(TEXT), fresh.cast(TEXT)).cast(LABEL)
            else:
                arrays[at] = pc.coalesce(old, fresh)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


class RunFrames:
    """Steps and episodes of one run.

    All methods may be called from any thread. Listeners are called on the appending thread, without the lock.

    Attributes
    ----------
    revision : int
        Grows with every change.
    duplicates : int
        How many copies of held steps came in and were merged.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.revision = 0
        self.duplicates = 0
        self._lock = threading.RLock()
        self._steps = _Rows(STEPS)
        self._records = _Rows(EPISODES)
        self._episodes: dict[tuple[str, str, int], Episode] = {}
        self._order: list[Episode] = []
        # Ordinals by time of last change, newest last: what changed since a revision is at the end.
        self._changed: collections.OrderedDict[int, None] = collections.OrderedDict()
        self._incomplete: dict[int, None] = {}
        self._agents: dict[str, None] = {}
        # The newest ordinal of each (worker, agent): what it says of earlier episodes is final.
        self._newest: dict[tuple[str, str], int] = {}
        self._problems: dict[str, Problem] = {}
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._cache: dict[str, tuple[int, Any]] = {}

    # -- writing -----------------------------------------------------------------------------------------------------

    def append_steps(self, batch: pa.RecordBatch) -> int:
        """Take steps in; return how many were new. Copies of held steps fill what those lack and are counted."""
        if not batch.num_rows:
            return 0
        with self._lock:
            self.revision += 1
            kept = self._take_in(batch)
        self._notify()
        return kept

    def append_episodes(self, batch: pa.RecordBatch) -> int:
        """Take episode records in; return how many episodes had none before. A later record of an episode replaces its first."""
        if not batch.num_rows:
            return 0
        aligned, problems = normalize.align_episodes(batch)
        with self._lock:
            self.revision += 1
            self._count(problems)
            fresh = self._take_records(aligned)
        self._notify()
        return fresh

    def count(self, problems: Iterable[Problem]) -> None:
        """Add to the counts of :meth:`problems`."""
        problems = list(problems)
        if problems:
            with self._lock:
                self.revision += 1
                self._count(problems)
            self._notify()

    def _count(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            held = self._problems.get(problem.kind)
            total = problem.count + (held.count if held else 0)
            self._problems[problem.kind] = dataclasses.replace(problem, count=total, raw=problem.raw[:RAW_LIMIT])

    def _take_in(self, batch: pa.RecordBatch) -> int:
        batch, cuts, keys = _segments(batch)
        steps = batch.column("step_index").to_numpy()
        rewards = batch.column("reward").to_numpy()
        terminated = batch.column("terminated").to_numpy(zero_copy_only=False)
        truncated = batch.column("truncated").to_numpy(zero_copy_only=False)
        times = batch.column("timestamp").cast(pa.int64())
        seeds = batch.column("episode_seed")
        sums = np.add.reduceat(rewards, cuts[:-1])
        keep: list[np.ndarray[Any, Any]] = []
        dup_rows: list[int] = []
        dup_at: list[int] = []
        row = self._steps.total
        for (worker, agent, number), start, end, reward in zip(
            keys, cuts[:-1].tolist(), cuts[1:].tolist(), sums.tolist(), strict=True
        ):
            episode = self._episode(worker, agent, number)
            first, count = int(steps[start]), end - start
            mask = episode.unseen(first, count)
            runs = [(start, end)] if mask is None else _true_runs(mask, start)
            if mask is not None:
                for i in np.flatnonzero(~mask).tolist():
                    dup_rows.append(episode.row_of(first + i))
                    dup_at.append(start + i)
                reward = float(rewards[start:end][mask].sum())  # noqa: PLW2901 - what of it is new
            for low, high in runs:
                newest = int(steps[high - 1]) + 1 >= episode.next_step
                episode.add(int(steps[low]), high - low, row)
                row += high - low
                keep.append(np.arange(low, high))
                if newest:
                    episode.last_time = times[high - 1].as_py()
                    episode.seed = seeds[high - 1].as_py() if seeds[high - 1].is_valid else episode.seed
                episode.terminated |= bool(terminated[low:high].any())
                episode.truncated |= bool(truncated[low:high].any())
            if runs:
                episode.reward += reward
                self._touch(episode)
        fresh = row - self._steps.total
        # Copies within this very batch point at rows that are not there before it is appended.
        if fresh:
            picked = batch if fresh == batch.num_rows else batch.take(pa.array(np.concatenate(keep)))
            self._steps.append(picked)
        if dup_rows:
            self.duplicates += len(dup_rows)
            self._steps.fill(dup_rows, batch.take(pa.array(dup_at, pa.int64())))
        return fresh

    def _take_records(self, batch: pa.RecordBatch) -> int:
        fresh = 0
        base = self._records.total
        times = batch.column("timestamp").cast(pa.int64()).to_pylist()
        columns = [batch.column(name).to_pylist() for name in ("worker_id", "agent_id", "episode", "steps")]
        columns += [batch.column(name).to_pylist() for name in ("total_reward", "terminated", "truncated")]
        for i, (worker, agent, number, steps, total, terminated, truncated) in enumerate(zip(*columns, strict=True)):
            episode = self._episode(worker, agent, number)
            fresh += episode.record is None
            episode.record = Record(base + i, steps, total, terminated, truncated, times[i])
            self._touch(episode)
        self._records.append(batch)
        return fresh

    def _episode(self, worker: str, agent: str, number: int) -> Episode:
        key = (worker, agent, number)
        episode = self._episodes.get(key)
        if episode is None:
            episode = self._episodes[key] = Episode(len(self._order), worker, agent, number)
            self._order.append(episode)
            self._agents[agent] = None
        return episode

    def _touch(self, episode: Episode) -> None:
        episode.revision = self.revision
        self._changed[episode.ordinal] = None
        self._changed.move_to_end(episode.ordinal)
        if episode.complete:
            self._incomplete.pop(episode.ordinal, None)
        else:
            self._incomplete[episode.ordinal] = None
        if episode.count:
            stream = (episode.worker_id, episode.agent_id)
            self._newest[stream] = max(self._newest.get(stream, 0), episode.ordinal)

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called after every change; return what ends that. It must be quick and must not raise."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(held for held in self._listeners if held is not listener)

        return stop

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def step_count(self) -> int:
        """How many steps are held."""
        return self._steps.total

    @property
    def episode_count(self) -> int:
        """How many episodes are known, by their steps or their record."""
        return len(self._order)

    @property
    def agents(self) -> list[str]:
        """The agents seen, in order of first sight."""
        with self._lock:
            return list(self._agents)

    def problems(self) -> list[Problem]:
        """Return what was wrong with the data, a row a kind; missing steps are counted as ``"gap"``."""
        with self._lock:
            held = list(self._problems.values())
            gap = self._cached("gap", self._gap)
        return [*held, *gap]

    def _gap(self) -> list[Problem]:
        """Return the steps that are known to be missing: those that later ones of the same agent have overtaken."""
        count, detail = 0, ""
        for ordinal in self._incomplete:
            episode = self._order[ordinal]
            gaps = episode.gaps()
            if gaps and self._newest.get((episode.worker_id, episode.agent_id), -1) <= ordinal:
                # The newest episode's last steps may still be under way; what is missing before its last step is not.
                gaps = [gap for gap in gaps if gap[0] < episode.next_step]
            if gaps:
                count += sum(length for _, length in gaps)
                who = f" of agent {episode.agent_id!r}" if episode.agent_id else ""
                detail = f"{gaps[-1][1]} steps from step {gaps[-1][0]} of episode {episode.number}{who} are missing"
        return [Problem("gap", detail, count=count)] if count else []

    def steps_table(self) -> pa.Table:
        """Return all steps: episodes in order of first sight, steps ascending in each. Columns as in ``schema.STEPS``."""
        with self._lock:
            return self._cached("steps_table", self._ordered_steps)

    def _ordered_steps(self) -> pa.Table:
        table = self._steps.slice(0, self._steps.total)
        segments = [s for episode in self._order for s in episode.sorted_segments()]
        rows = np.array([s.row for s in segments], np.int64)
        counts = np.array([s.length for s in segments], np.int64)
        if (np.diff(rows) == counts[:-1]).all():
            return table
        return table.take(pa.array(_ranges(rows, counts)))

    def episodes_table(self) -> pa.Table:
        """Return all episodes in order of first sight; those without a record are derived from their steps."""
        with self._lock:
            return self._cached("episodes_table", lambda: self._episode_rows(self._order)).drop_columns(["row"])

    def steps(self) -> pd.DataFrame:
        """Return :meth:`steps_table` as a DataFrame, with `action` decoded where its values are numbers or words."""
        table = self.steps_table()
        with self._lock:
            held: pd.DataFrame = self._cached("steps", lambda: _columns.to_frame(table, decode=("action",)))
            return held

    def episodes(self) -> pd.DataFrame:
        """Return :meth:`episodes_table` as a DataFrame."""
        table = self.episodes_table()
        with self._lock:
            held: pd.DataFrame = self._cached("episodes", lambda: _columns.to_frame(table))
            return held

    def find(self, number: int, agent_id: str | None = None, worker_id: str | None = None) -> list[Episode]:
        """Return the episodes of that number, of all agents and workers or of the one named."""
        with self._lock:
            return [
                e
                for e in self._order
                if e.number == number
                and (agent_id is None or e.agent_id == agent_id)
                and (worker_id is None or e.worker_id == worker_id)
            ]

    def episode_table(self, episodes: Iterable[Episode]) -> pa.Table:
        """Return the steps of some episodes, ascending in each."""
        with self._lock:
            parts = [self._steps.slice(s.row, s.length) for e in episodes for s in e.sorted_segments()]
        batches = [batch for part in parts for batch in part.to_batches()]
        return _arrow.merge(STEPS, batches or [_arrow.empty(STEPS)])

    def numbers(self) -> list[int]:
        """Return the numbers of the known episodes, each once, in order of first sight."""
        with self._lock:
            return list(dict.fromkeys(e.number for e in self._order))

    def rows(self, first: int, count: int) -> pa.Table:
        """Return steps by row number (order of arrival)."""
        with self._lock:
            return self._steps.slice(max(first, 0), count)

    def episode_rows(self, first: int, count: int) -> pa.Table:
        """Return episodes by ordinal, with their ordinal in column ``row``."""
        with self._lock:
            return self._episode_rows(self._order[max(first, 0) : max(first, 0) + count])

    def since(self, cursor: Cursor, max_steps: int, max_episodes: int) -> Delta:
        """Return what came after `cursor`: the newest `max_steps` rows of it, and the `max_episodes` last changed episodes."""
        with self._lock:
            total = self._steps.total
            first = max(cursor.rows, total - max_steps)
            changed: list[Episode] = []
            for ordinal in reversed(self._changed):
                episode = self._order[ordinal]
                if episode.revision <= cursor.revision or len(changed) >= max_episodes:
                    break
                changed.append(episode)
            changed.sort(key=lambda episode: episode.ordinal)
            steps = self._steps.slice(first, total - first)
            return Delta(first, steps, self._episode_rows(changed), Cursor(total, self.revision))

    def _cached(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401
        held = self._cache.get(name)
        if held is None or held[0] != self.revision:
            held = self._cache[name] = (self.revision, make())
        return held[1]

    def _episode_rows(self, episodes: Sequence[Episode]) -> pa.Table:
        records = [e.record for e in episodes]
        index = pa.array([r.row if r else None for r in records], pa.int64())
        stored = self._records.slice(0, self._records.total)
        extra = further(stored.schema, EPISODES)
        totals = [r.total_reward if r else e.reward for e, r in zip(episodes, records, strict=True)]
        terminated = [e.terminated or bool(r and r.terminated) for e, r in zip(episodes, records, strict=True)]
        truncated = [e.truncated or bool(r and r.truncated) for e, r in zip(episodes, records, strict=True)]
        outcomes = [
            _outcome(term or (r is not None and not trunc), trunc, total)
            for r, term, trunc, total in zip(records, terminated, truncated, totals, strict=True)
        ]
        seq = pc.fill_null(stored.column("seq_id").take(index), 0)
        columns: dict[str, tuple[pa.DataType, Any]] = {
            "run_id": (LABEL, [self.run_id] * len(episodes)),
            "worker_id": (LABEL, [e.worker_id for e in episodes]),
            "agent_id": (LABEL, [e.agent_id for e in episodes]),
            "episode": (pa.int64(), [e.number for e in episodes]),
            "timestamp": (
                TIMESTAMP,
                [r.timestamp if r else e.last_time for e, r in zip(episodes, records, strict=True)],
            ),
            "total_reward": (pa.float64(), totals),
            "steps": (pa.int64(), [r.steps if r else e.length for e, r in zip(episodes, records, strict=True)]),
            "terminated": (pa.bool_(), terminated),
            "truncated": (pa.bool_(), truncated),
            "outcome": (LABEL, outcomes),
            "episode_seed": (pa.uint64(), [e.seed for e in episodes]),
            "source": (LABEL, ["record" if r else "steps" for r in records]),
            "complete": (pa.bool_(), [e.complete for e in episodes]),
        }
        fields = [pa.field(name, kind) for name, (kind, _) in columns.items()]
        arrays = [pa.array(values, kind) for kind, values in columns.values()]
        fields += [pa.field("metadata", TEXT, metadata=JSON_KIND), pa.field("seq_id", pa.uint64())]
        arrays += [stored.column("metadata").take(index).combine_chunks(), seq.combine_chunks()]
        for field in extra:
            if field.name not in columns:
                fields.append(field)
                arrays.append(stored.column(field.name).take(index).combine_chunks())
        fields.append(pa.field("row", pa.int64()))
        arrays.append(pa.array([e.ordinal for e in episodes], pa.int64()))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _outcome(ended: bool, truncated: bool, total: float) -> str:  # noqa: FBT001 - three facts, one table
    """Return the outcome as the desktop view names it."""
    if truncated and not ended:
        return "Timeout"
    if not ended:
        return "Running"
    return "Success" if total > 0 else "Failed" if total < 0 else "Completed"


def _true_runs(mask: np.ndarray[Any, Any], base: int) -> list[tuple[int, int]]:
    """Return the stretches of True in `mask` as (start, end), each plus `base`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(a) + base, int(b) + base) for a, b in edges.reshape(-1, 2)]


def _ranges(starts: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the concatenation of arange(start, start + count)."""
    ends = np.cumsum(counts)
    rows: np.ndarray[Any, Any] = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
    return rows


def _segments(
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
