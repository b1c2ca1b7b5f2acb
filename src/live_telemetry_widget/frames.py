"""A run in memory: every step once, as Arrow batches, with an index by episode.

Rows are only ever appended (a richer copy of a step fills what its row lacks), so a row number is a position in time and
``since(cursor)`` is cheap. pandas objects are made when asked for and kept until something changes.

Examples
--------
>>> from live_telemetry_widget import frames, normalize
>>> run = frames.RunFrames("r")
>>> event = {"type": "step", "episode": 0, "step_index": 0, "action": 1, "reward": 1.0, "terminated": True}
>>> run.append_steps(normalize.steps_from_events([event, event]).batch).num_rows
1
>>> run.steps()[["episode", "step_index", "action", "reward"]].to_dict("records")
[{'episode': 0, 'step_index': 0, 'action': 1, 'reward': 1.0}]
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import functools
import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _arrow, _columns, _stretches, normalize
from live_telemetry_widget._episode import Episode, Record
from live_telemetry_widget._gaps import Gap, Gaps
from live_telemetry_widget._rows import Rows
from live_telemetry_widget._spill import Spill
from live_telemetry_widget._summaries import Summaries
from live_telemetry_widget.bus import call_each
from live_telemetry_widget.curves import Ended
from live_telemetry_widget.decode import StepFrame
from live_telemetry_widget.schema import EPISODES, LABEL, RAW_LIMIT, STEPS, STOPPED, TEXT, Problem, unify

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    import pandas as pd

    from live_telemetry_widget._rows import Numbers

    _Frame = TypeVar("_Frame", bound=pd.DataFrame)


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


_NONE: Final[dict[int, Episode]] = {}
#: The log of changes is tidied when it is longer than twice the number of episodes, and this.
_LOG_ROOM: Final = 1_024
#: So many stretches of steps are looked at at once.
_A_PIECE: Final = 4_096
#: So many things that are found when looked at are counted.
_COUNTED_ONCE: Final = 100_000


class RunFrames:
    """Steps and episodes of one run.

    All methods may be called from any thread. Listeners are called on the appending thread, without the lock.

    Parameters
    ----------
    run_id
        Its id.
    memory_limit
        Bytes of memory that rows may take, beside those that came last (a few MB): older ones are in files beyond it. None: no limit.

    Attributes
    ----------
    revision : int
        Grows with every change.
    duplicates : int
        How many copies of held steps came in and were merged.
    news : int
        How many steps, and first records of an episode, came in; copies change nothing here.
    """

    def __init__(self, run_id: str, *, memory_limit: int | None = None) -> None:
        self.run_id = run_id
        self.revision = 0
        self.duplicates = 0
        self.news = 0
        #: Whether rows come from one who keeps their workers' names: one that names none has none.
        self.names_are_exact = False
        self._lock = threading.RLock()
        self._spill = Spill(memory_limit)
        self._steps = Rows(STEPS, self._spill)
        self._records = Rows(EPISODES, self._spill)
        # By (worker, agent), by number.
        self._episodes: dict[tuple[str, str], dict[int, Episode]] = {}
        self._streams: dict[tuple[str, str], tuple[str, str]] = {}
        self._order: list[Episode] = []
        self._summaries = Summaries(run_id, self._order, self._records)
        # Whether the episodes of each (worker, agent) were first seen in ascending order.
        self._ascending = True
        # Whether the rows are where `steps_table` has them: the order of arrival; and up to which step of which episode they are.
        self._arranged = True
        self._last = (-1, 0)
        # Ordinals by time of change, newest last: what changed since a revision is at the end. Of an episode only its last counts.
        self._changed = array.array("q")
        # Ordinals of episodes whose record and steps contradict each other.
        self._unsound: dict[int, None] = {}
        # Ordinals of episodes that have not ended, and how many there are of each (worker, agent).
        self._running: set[int] = set()
        self._running_of: collections.Counter[tuple[str, str]] = collections.Counter()
        self._agents: dict[str, None] = {}
        # Episodes by (agent, number), once there are both named and unnamed workers.
        self._namesakes: dict[tuple[str, int], list[Episode]] | None = None
        self._named: set[bool] = set()
        # The workers' names seen with each agent, and how many unnamed steps were taken to be of the only one.
        self._names: dict[str, set[str]] = {}
        self._presumed: collections.Counter[str] = collections.Counter()
        self._gaps = Gaps(self._names, self._order.__getitem__)
        self._problems: dict[str, Problem] = {}
        self._counted: set[Hashable] = set()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._cache: dict[str, tuple[int, Callable[[], Any]]] = {}

    # -- writing -----------------------------------------------------------------------------------------------------

    def append_steps(self, batch: pa.RecordBatch) -> pa.Table:
        """Take steps in; return those that were new. Copies of held steps fill what those lack and are counted."""
        if not batch.num_rows:
            return self._steps.slice(0, 0)
        with self._lock, np.errstate(invalid="ignore", over="ignore"):  # infinities are data
            self.revision += 1
            before = self._steps.total
            for part in _stretches.by_naming(batch):
                self._take_in(part)
            self._count(self._spill.problems())
            new = self._steps.slice(before, self._steps.total - before)
            self.news += new.num_rows
        call_each(self._listeners)
        return new

    def append_episodes(self, batch: pa.RecordBatch) -> pa.Table:
        """Take episode records in; return those of episodes that had none before. A later record of an episode replaces its first."""
        if not batch.num_rows:
            return self._records.slice(0, 0)
        aligned, problems = normalize.align_episodes(batch)
        with self._lock:
            self.revision += 1
            self._count(problems)
            self._summaries.hear(aligned)
            new = self._take_records(aligned)
            self._count(self._spill.problems())
            self.news += new.num_rows
        call_each(self._listeners)
        if STOPPED in aligned.schema.names:
            self._count_stops(aligned)
        return new

    def _count_stops(self, batch: pa.RecordBatch) -> None:
        """Count where an emitter says that it records no more; it may be replayed."""
        reasons, episodes, agents = (batch.column(name).to_pylist() for name in (STOPPED, "episode", "agent_id"))
        for why, episode, agent in zip(reasons, episodes, agents, strict=True):
            if isinstance(why, str):
                detail = f"nothing is recorded after the steps of episode {episode} that are here: {why}"
                self.count_once((STOPPED, agent, episode), Problem(STOPPED, detail))

    def count(self, problems: Iterable[Problem]) -> None:
        """Add to the counts of :meth:`problems`."""
        problems = list(problems)
        if problems:
            with self._lock:
                self.revision += 1
                self._count(problems)
            call_each(self._listeners)

    def count_once(self, key: Hashable, problem: Problem) -> None:
        """Add to the counts of :meth:`problems` what is found when data is looked at: each `key` once, however often it is looked at."""
        with self._lock:
            new = key not in self._counted and len(self._counted) < _COUNTED_ONCE
            if new:
                self._counted.add(key)
        if new:
            self.count([problem])

    def settle(self) -> None:
        """Note that the run has sent everything; what is missing now is missing."""
        with self._lock:
            if self._gaps.settled:
                return
            self._gaps.settle()
            self.revision += 1
        call_each(self._listeners)

    def note_fills(self, *, wanted: bool) -> None:
        """Begin, or end, to note which rows are filled by richer copies, for one who keeps a copy of the rows."""
        with self._lock:
            for rows in (self._steps, self._records):
                rows.filled = [] if wanted else None

    def take_fills(self) -> tuple[list[int], list[int]]:
        """Return the rows of steps, and of records, that were filled since the last call, ascending."""
        found: list[list[int]] = []
        with self._lock:
            for rows in (self._steps, self._records):
                found.append(np.unique(np.concatenate(rows.filled)).tolist() if rows.filled else [])
                if rows.filled is not None:
                    rows.filled = []
        return found[0], found[1]

    @property
    def settled(self) -> bool:
        """Whether the run is known to have sent everything: what is missing at an end is then missing too."""
        return self._gaps.settled

    def _count(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            held = self._problems.get(problem.kind)
            total = problem.count + (held.count if held else 0)
            self._problems[problem.kind] = dataclasses.replace(problem, count=total, raw=problem.raw[:RAW_LIMIT])

    def _take_in(self, batch: pa.RecordBatch) -> None:
        batch, cuts, keys = _stretches.segments(batch)
        self._note_names({key[:2] for key in keys})
        columns = _stretches.StepColumns(batch, cuts)
        keep: list[tuple[int, int]] = []
        copies: list[Numbers] = []
        copied: list[Numbers] = []
        found_out: list[tuple[int, int, str]] = []  # whose steps these are, that name no worker
        row = self._steps.total
        for at, (worker, agent, number) in enumerate(keys):
            start, end = columns.starts[at], columns.ends[at]
            episode = self._episodes.get((worker, agent), _NONE).get(number)
            if episode is None:
                steps = None if self.names_are_exact else functools.partial(batch.slice, start, end - start)
                episode = self._find_or_make(worker, agent, number, steps)
                if episode.worker_id != worker:
                    found_out.append((start, end, episode.worker_id))
            rows = episode.rows_at(columns.firsts[at], end - start)
            if rows is None:
                self._follows(episode, columns.firsts[at], end - start)
                columns.put(episode, at, row)
                episode.reward += columns.sums[at]
                row += end - start
                keep.append((start, end))
                self._touch(episode)
                continue
            runs = _stretches.true_runs(rows < 0, start)
            places = np.flatnonzero(rows >= 0)
            copies.append(places + start)
            copied.append(rows[places])
            for low, high in runs:
                self._follows(episode, int(columns.steps[low]), high - low)
                columns.put_part(episode, low, high, row)
                row += high - low
                keep.append((low, high))
            if runs:
                episode.reward += float(columns.rewards[start:end][rows < 0].sum())
                self._touch(episode)
        fresh = row - self._steps.total
        if found_out:
            batch = _stretches.named(batch, found_out)
        # Copies within this very batch point at rows that are not there before it is appended.
        if fresh:
            all_new = fresh == batch.num_rows
            new = batch if all_new else batch.take(pa.array(np.concatenate([np.arange(*k) for k in keep])))
            self._steps.append(new)
            self._count(_not_finite(new, "reward"))
        if copies:
            self._merge(np.concatenate(copied), batch.take(pa.array(np.concatenate(copies))))

    def _follows(self, episode: Episode, first: int, count: int) -> None:
        """Note that steps of an episode are about to be stored behind all others."""
        place = (episode.ordinal, first)
        self._arranged = self._arranged and place >= self._last
        self._last = (episode.ordinal, first + count)

    def _merge(self, rows: Numbers, given: pa.RecordBatch) -> None:
        """Merge copies (a row of `given` for each of `rows`) into the rows that are held."""
        self.duplicates += len(rows)
        names = ["action", "reward", "terminated", "truncated"]
        differ = np.flatnonzero(_stretches.differ(self._steps.take(rows, names), given))
        if len(differ):
            last = given.slice(int(differ[-1]), 1).to_pylist()[0]
            detail = (
                f"another copy of step {last['step_index']} of episode {last['episode']} has other values "
                f"(reward {last['reward']}, action {last['action']}); the first was kept. Was the worker started twice in this run?"
            )
            self._count([Problem("conflict", detail, str({name: last[name] for name in names}), len(differ))])
        # Two copies of one row, each with something that it lacks, are merged one after the other.
        while len(rows):
            _, places = np.unique(rows, return_index=True)
            once = len(places) == len(rows)
            self._steps.fill(rows[places], given.take(pa.array(places)))
            if once:
                return
            rest = np.delete(np.arange(len(rows)), places)
            rows, given = rows[rest], given.take(pa.array(rest))

    # -- whose is it -------------------------------------------------------------------------------------------------

    def _find_or_make(
        self, worker: str, agent: str, number: int, steps: Callable[[], pa.RecordBatch] | None = None
    ) -> Episode:
        """Return the episode; where workers that are not named are about, that of the worker whose steps these are.

        Steps replayed from a daemon's database lack the worker's name.
        """
        held = self._episodes.get((worker, agent), _NONE).get(number)
        if held is not None:
            return held
        found = self._namesake(worker, agent, number, steps)
        if found is not None:
            return found
        # Every batch has its own copies of the names; the episodes share one.
        worker, agent = self._streams.setdefault((worker, agent), (worker, agent))
        episode = Episode(len(self._order), worker, agent, number)
        self._enter(episode)
        self._order.append(episode)
        self._running.add(episode.ordinal)
        self._running_of[worker, agent] += 1
        self._agents[agent] = None
        self._gaps.add_number(worker, agent, number)
        if self._namesakes is not None:
            self._namesakes.setdefault((agent, number), []).append(episode)
        return episode

    def _enter(self, episode: Episode) -> None:
        numbers = self._episodes.setdefault((episode.worker_id, episode.agent_id), {})
        if numbers and episode.number < next(reversed(numbers)):
            self._ascending = False
        numbers[episode.number] = episode

    def _namesake(
        self, worker: str, agent: str, number: int, steps_of: Callable[[], pa.RecordBatch] | None
    ) -> Episode | None:
        if self.names_are_exact:
            return None
        self._named.add(bool(worker))
        if len(self._named) < 2:  # noqa: PLR2004 - named and unnamed
            return None
        steps = steps_of() if steps_of is not None else None
        if self._namesakes is None:
            self._namesakes = {}
            for episode in self._order:
                self._namesakes.setdefault((episode.agent_id, episode.number), []).append(episode)
        others = [e for e in self._namesakes.get((agent, number), ()) if bool(e.worker_id) != bool(worker)]
        agrees = [self._agree(e, steps) for e in others]
        if True in agrees:
            found = others[agrees.index(True)]
        elif agrees == [None] and len(self._names.get(agent, ())) == 1:
            found = others[0]
            # An episode known by its record alone has no steps that could be another's.
            self._presumed[agent] += found.count if worker else steps.num_rows if steps is not None else 0
        else:
            return None
        if worker:
            self._rename(found, worker)
        return found

    def _note_names(self, streams: set[tuple[str, str]]) -> None:
        """Note which workers (worker, agent) there are, before it is decided whose an unnamed step is."""
        for worker, agent in streams:
            names = self._names.setdefault(agent, set())
            if not worker or worker in names:
                continue
            names.add(worker)
            presumed = self._presumed.pop(agent, 0) if len(names) > 1 else 0
            if presumed:
                detail = (
                    f"{presumed} steps of agent {agent!r} came without their worker's name, when only one worker of that agent was known, "
                    f"and were taken to be its; then came worker {worker!r}, whose they may be"
                )
                self._count([Problem("unnamed_worker", detail, count=presumed)])

    def _agree(self, episode: Episode, steps: pa.RecordBatch | None) -> bool | None:
        """Return whether the steps that both have are the same; None when both have none."""
        rows = episode.rows_at(steps.column("step_index")[0].as_py(), steps.num_rows) if steps is not None else None
        if steps is None or rows is None:
            return None
        # What came in the same batch is not there yet.
        places = np.flatnonzero((rows >= 0) & (rows < self._steps.total))
        if not len(places):
            return None
        given = steps.take(pa.array(places))
        held = self._steps.take(rows[places], ["timestamp", "action", "reward", "terminated", "truncated"])
        return not (_stretches.differ(held, given).any() or _stretches.other_times(held, given).any())

    def _rename(self, episode: Episode, worker: str) -> None:
        """Give an episode of a worker that was not named its worker."""
        del self._episodes[episode.worker_id, episode.agent_id][episode.number]
        self._gaps.forget_stream(episode)
        if episode.ordinal in self._running:
            self._running_of[episode.worker_id, episode.agent_id] -= 1
            self._running_of[worker, episode.agent_id] += 1
        episode.worker_id = worker
        self._enter(episode)
        self._ascending = False  # its place is that of when it was first seen
        self._gaps.add_number(worker, episode.agent_id, episode.number)
        rows = episode.rows()
        if len(rows):
            name = pa.array([worker] * len(rows), LABEL)
            self._steps.fill(np.sort(rows), pa.RecordBatch.from_arrays([name], ["worker_id"]))
        self._touch(episode)

    def _take_records(self, batch: pa.RecordBatch) -> pa.Table:
        new: list[int] = []
        keep: list[int] = []
        copies: list[int] = []
        copied: list[int] = []
        base = self._records.total
        times = batch.column("timestamp").cast(pa.int64()).to_pylist()
        columns: list[list[Any]] = [_words(batch.column(name)) for name in ("worker_id", "agent_id")]
        columns += [
            batch.column(name).to_numpy(zero_copy_only=False).tolist()
            for name in ("episode", "steps", "total_reward", "terminated", "truncated")
        ]
        self._note_names(set(zip(*columns[:2], strict=True)))
        for i, (worker, agent, number, steps, total, terminated, truncated) in enumerate(zip(*columns, strict=True)):
            episode = self._find_or_make(worker, agent, number)
            held, record = episode.record, Record(base + len(keep), steps, total, terminated, truncated, times[i])
            if held is not None:
                same = next((other for other in (held, *episode.replaced) if other.says_the_same(record)), None)
                if same is not None:
                    copies.append(i)
                    copied.append(same.row)
                    self._summaries.forget(episode)  # it may say more
                    continue
                self._count([_other_record(number, held, record)])
                episode.replaced += (held,)
            else:
                new.append(record.row)
            episode.record = record
            keep.append(i)
            self._touch(episode)
        if keep:
            held_now = batch if len(keep) == batch.num_rows else batch.take(pa.array(keep))
            self._records.append(held_now)
            self._count(_not_finite(held_now, "total_reward"))
        for i, row in zip(copies, copied, strict=True):
            self._records.fill(np.array([row]), batch.slice(i, 1))
        return self._records.take(np.array(new, np.int64))

    def _touch(self, episode: Episode) -> None:
        if episode.revision != self.revision:
            episode.revision = self.revision
            self._changed.append(episode.ordinal)
            if len(self._changed) > _LOG_ROOM + 2 * len(self._order):
                last_first = dict.fromkeys(reversed(self._changed))
                self._changed = array.array("q", reversed(last_first))
        self._gaps.look_at(episode)
        if (episode.terminated or episode.truncated or episode.record) and episode.ordinal in self._running:
            self._running.discard(episode.ordinal)
            self._running_of[episode.worker_id, episode.agent_id] -= 1
        if episode.sound:
            self._unsound.pop(episode.ordinal, None)
        else:
            self._unsound[episode.ordinal] = None

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called after every change; return what ends that. It must be quick and must not raise."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(held for held in self._listeners if held is not listener)

        return stop

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def step_count(self) -> int:
        """How many steps are held."""
        return self._steps.total

    @property
    def episode_count(self) -> int:
        """How many episodes are known, by their steps or their record."""
        return len(self._order)

    def ended_episodes(self, agent_id: str | None = None) -> list[int]:
        """Return how many episodes have ended, of each agent of each worker, in order of first sight; of one agent if that is said."""
        with self._lock:
            return [
                len(numbers) - self._running_of[stream]
                for stream, numbers in self._episodes.items()
                if numbers and agent_id in {None, stream[1]}
            ]

    @property
    def record_count(self) -> int:
        """How many episode records are held, replaced ones included."""
        return self._records.total

    @property
    def agents(self) -> list[str]:
        """The agents seen, in order of first sight."""
        with self._lock:
            return list(self._agents)

    def problems(self) -> list[Problem]:
        """Return what was wrong with the data, a row a kind; what is missing is counted as ``"gap"`` and ``"episode_gap"``."""
        with self._lock:
            derived = self._cached("derived problems", lambda: [*self._gaps.problems(), *self._contradictions()])
            return [*self._problems.values(), *derived]

    def _contradictions(self) -> list[Problem]:
        if not self._unsound:
            return []
        episode = self._order[next(reversed(self._unsound))]
        record = episode.record
        said = f"{record.steps} steps with a total of {record.total_reward:g}" if record else ""
        detail = f"episode {episode.number}: its record says {said}; its steps here are {episode.count}, which add up to {episode.reward:g}"
        return [Problem("contradiction", detail, count=len(self._unsound))]

    def gaps(self) -> list[Gap]:
        """Return what is known to be missing: steps that later ones of the same agent have overtaken, and episodes jumped over.

        When the run has sent everything (:attr:`settled`), also what is missing at the end of the last episodes. At most 10,000
        of steps and as many of episodes; :meth:`problems` counts all.
        """
        with self._lock:
            return self._gaps.listed().copy()

    def open_ends(self) -> list[Gap]:
        """Return what is missing at the ends of the newest episodes, as their records say; it may be under way."""
        with self._lock:
            return self._gaps.open_ends()

    def steps_table(self) -> pa.Table:
        """Return all steps: episodes in order of first sight but ascending for each agent of a worker, steps ascending in each.

        Columns as in ``schema.STEPS``.
        """
        return self._made("steps_table", self._ordered_steps)

    def steps_schema(self) -> pa.Schema:
        """Return the columns of :meth:`steps_table`, without making it; a column of unlike numbers is text there, and float64 here."""
        with self._lock:
            return unify(STEPS, [chunk.schema for chunk in self._steps.chunks])

    def _by_number(self) -> list[Episode]:
        """Return the episodes in order of first sight, with those of each agent of a worker ascending in the places that they have."""
        if self._ascending:
            return self._order.copy()
        places: dict[tuple[str, str], list[int]] = {}
        for episode in self._order:
            places.setdefault((episode.worker_id, episode.agent_id), []).append(episode.ordinal)
        ordered = self._order.copy()
        for ordinals in places.values():
            episodes = [self._order[ordinal] for ordinal in ordinals]
            if any(a.number > b.number for a, b in itertools.pairwise(episodes)):
                episodes.sort(key=lambda episode: episode.number)
                for ordinal, episode in zip(ordinals, episodes, strict=True):
                    ordered[ordinal] = episode
        return ordered

    def _arrangement(self) -> Callable[[], Numbers | None]:
        """Return what makes the order of the rows that are here now; None: that in which they came."""
        if self._arranged and self._ascending:
            return lambda: None
        places = array.array("q")
        for episode in self._by_number():
            episode.put_places(places)

        def make() -> Numbers | None:
            _, counts, rows = np.frombuffer(places, np.int64).reshape(-1, 3).T
            if all(
                (np.diff(rows[at : at + _A_PIECE + 1]) == counts[at : at + _A_PIECE][: len(rows) - at - 1]).all()
                for at in range(0, len(rows), _A_PIECE)
            ):
                return None
            return rows.copy() if (counts == 1).all() else _ranges(rows, counts)

        return make

    def _ordered_steps(self) -> Callable[[], pa.Table]:
        steps, order = self._steps.copy(), self._arrangement()

        def make() -> pa.Table:
            rows = order()
            return steps.slice(0, steps.total) if rows is None else steps.arranged(rows)

        return make

    def episodes_table(self) -> pa.Table:
        """Return all episodes, ordered as in :meth:`steps_table`; those without a record are derived from their steps."""

        def begin() -> Callable[[], pa.Table]:
            changed = self.changed(self._summaries.revision, len(self._order))
            make = self._summaries.begin(changed, self.revision, settled=self.settled)
            order = None if self._ascending else np.array([e.ordinal for e in self._by_number()], np.int64)
            return lambda: make() if order is None else make().take(pa.array(order))

        return self._made("episodes_table", begin)

    def steps(self) -> StepFrame:
        """Return :meth:`steps_table` as a DataFrame, with `action` decoded where its values are numbers or words."""

        def begin() -> Callable[[], StepFrame]:
            steps, order, seen = self._steps.copy(), self._arrangement(), self.revision

            def make() -> StepFrame:
                # Not by way of the table: that would be in memory beside the frame.
                try:
                    return _columns.to_frame(steps.columns(order()), ("action",), StepFrame)
                except pa.ArrowInvalid:  # a column of unlike numbers
                    return _columns.to_frame(self.steps_table(), ("action",), StepFrame)

            return lambda: self.marked(make(), seen)

        held: StepFrame = self._made("steps", begin)
        return held

    def episodes(self) -> pd.DataFrame:
        """Return :meth:`episodes_table` as a DataFrame."""

        def begin() -> Callable[[], pd.DataFrame]:
            seen = self.revision
            return lambda: self.marked(_columns.to_frame(self.episodes_table()), seen)

        held: pd.DataFrame = self._made("episodes", begin)
        return held

    def marked(self, frame: _Frame, revision: int) -> _Frame:
        """Return the frame with the moment that it was taken in its ``attrs``: texts and numbers, which every writer of files takes.

        Everything up to `revision` is in it; what came while it was made may be, too.
        """
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        frame.attrs.update(run_id=self.run_id, taken_at=now, revision=revision)
        return frame

    def find(self, number: int, agent_id: str | None = None, worker_id: str | None = None) -> list[Episode]:
        """Return the episodes of that number, of all agents and workers or of the one named; in order of first sight."""
        with self._lock:
            held = [
                numbers.get(number)
                for (worker, agent), numbers in self._episodes.items()
                if (agent_id is None or agent == agent_id) and (worker_id is None or worker == worker_id)
            ]
            return sorted((e for e in held if e is not None), key=lambda e: e.ordinal)

    def episode_table(self, episodes: Iterable[Episode]) -> pa.Table:
        """Return the steps of some episodes, ascending in each."""
        with self._lock:
            parts = [self._steps.slice(s.row, s.length) for e in episodes for s in e.segments]
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

    def records(self, rows: Numbers) -> pa.Table:
        """Return some episode records as they were taken in (``schema.EPISODES``), in order of arrival."""
        with self._lock:
            return self._records.take(rows)

    def scan(self, first: int, count: int, names: Sequence[str]) -> pa.Table:
        """Return some columns of steps by row number; a column that none of these rows has is not there."""
        with self._lock:
            return self._steps.slice(max(first, 0), count, [*names, *(["episode"] if "episode" not in names else [])])

    def columns(self, table: str) -> pa.Schema:
        """Return the columns of ``"steps"`` or ``"episodes"``, further ones included."""
        with self._lock:
            if table == "steps":
                return self.steps_schema()
            held = unify(EPISODES, [chunk.schema for chunk in self._records.chunks])
            some = self._summaries.rows(self._order[-1:], settled=self.settled).schema
            return pa.schema([*some, *(field for field in held if field.name not in some.names)])

    def seek(self, number: int, step: int | None = None) -> list[tuple[Episode, int | None]]:
        """Return the episodes of a number, each with the row of one of its steps: of its first, when none is named."""
        found: list[tuple[Episode, int | None]] = []
        with self._lock:
            for episode in self._order:
                if episode.number == number:
                    first = min((s.first for s in episode.segments), default=0)
                    rows = episode.rows_at(first if step is None else step, 1)
                    found.append((episode, None if rows is None or rows[0] < 0 else int(rows[0])))
        return found

    def take(self, rows: Numbers, names: Sequence[str] | None = None) -> pa.Table:
        """Return some steps by row number, in the order asked for; of `names` only those columns."""
        with self._lock:
            return self._steps.take(rows, names)

    def episode_steps(self, row: int) -> tuple[Numbers, Numbers]:
        """Return the step indices of an episode, by ordinal, ascending, and the rows that hold these steps; both empty when it is not known."""
        with self._lock:
            if not 0 <= row < len(self._order):
                return np.zeros(0, np.int64), np.zeros(0, np.int64)
            segments = list(self._order[row].segments)
        firsts, counts, rows = (np.array([s[i] for s in segments], np.int64) for i in range(3))
        return _ranges(firsts, counts), _ranges(rows, counts)

    def locate(self, number: int, agent_id: str, worker_id: str) -> int | None:
        """Return the ordinal of an episode of one agent of a worker; None when it is not known."""
        with self._lock:
            found = self._episodes.get((worker_id, agent_id), _NONE).get(number)
            return None if found is None else found.ordinal

    def episode_rows(self, first: int, count: int) -> pa.Table:
        """Return episodes by ordinal, with their ordinal in column ``row``."""
        with self._lock:
            return self._summaries.rows(self._order[max(first, 0) : max(first, 0) + count], settled=self.settled)

    def take_episodes(self, ordinals: Iterable[int]) -> pa.Table:
        """Return some episodes by ordinal, with their ordinal in column ``row``."""
        with self._lock:
            return self._summaries.rows([self._order[ordinal] for ordinal in ordinals], settled=self.settled)

    def of_agent(self, agent_id: str, rows: int, ordinals: int) -> tuple[Numbers, list[int], int, int]:
        """Return the rows from `rows` on and the episodes' ordinals from `ordinals` on that are an agent's; and where to go on."""
        with self._lock:
            total = self._steps.total
            column = self._steps.slice(rows, total - rows, ["agent_id"]).column(0)
            parts = [pc.equal(chunk.cast(TEXT), agent_id).to_numpy(zero_copy_only=False) for chunk in column.chunks]
            mask = np.concatenate(parts) if parts else np.zeros(0, bool)
            of_agent = [e.ordinal for e in self._order[ordinals:] if e.agent_id == agent_id]
            return np.flatnonzero(mask) + rows, of_agent, total, len(self._order)

    def changed(self, revision: int, most: int, agent_id: str | None = None) -> list[int]:
        """Return the ordinals of the `most` last changed episodes since a revision, ascending."""
        found: dict[int, None] = {}
        with self._lock:
            for ordinal in reversed(self._changed):
                episode = self._order[ordinal]
                if episode.revision <= revision or len(found) >= most:
                    break
                if agent_id is None or episode.agent_id == agent_id:
                    found[ordinal] = None
        return sorted(found)

    def ends(self, ordinals: Sequence[int]) -> Ended:
        """Return what curves are made of, of some episodes."""
        with self._lock:
            held = [self._order[ordinal] for ordinal in ordinals]
            return Ended(
                ordinals,
                [e.agent_id for e in held],
                [e.number for e in held],
                [e.record.total_reward if e.record else e.reward for e in held],
                [e.record.steps if e.record else e.length for e in held],
                [e.terminated or e.truncated or e.record is not None for e in held],
            )

    def since(self, cursor: Cursor, max_steps: int, max_episodes: int) -> Delta:
        """Return what came after `cursor`: the newest `max_steps` rows of it, and the `max_episodes` last changed episodes."""
        with self._lock:
            total = self._steps.total
            first = max(cursor.rows, total - max_steps)
            changed = self.take_episodes(self.changed(cursor.revision, max_episodes))
            return Delta(first, self._steps.slice(first, total - first), changed, Cursor(total, self.revision))

    def _made(self, name: str, begin: Callable[[], Callable[[], Any]]) -> Any:  # noqa: ANN401
        """Return what is made of everything held, and keep it until something changes.

        `begin` takes what it needs under the lock; what it returns does the work without it, so that rows can come meanwhile.
        """
        with self._lock:
            held = self._kept(name)
            if held is not None and held[0] == self.revision:
                return held[1]
            # What is not of now any more is let go before its like is made, which may then have its memory.
            held = None
            self._cache.pop(name, None)
            revision, make = self.revision, begin()
        made = make()
        with self._lock:
            held = self._kept(name)
            if held is not None and held[0] >= revision:
                return held[1]  # somebody else was quicker
            # What would not fit into the limit is kept only for as long as somebody else does.
            self._cache[name] = (revision, weakref.ref(made) if self._is_too_large(made) else lambda: made)
        return made

    def _kept(self, name: str) -> tuple[int, Any] | None:
        held = self._cache.get(name)
        made = held[1]() if held is not None else None
        return None if held is None or made is None else (held[0], made)

    def _is_too_large(self, made: Any) -> bool:  # noqa: ANN401 - a table or a DataFrame
        limit = self._spill.limit
        return limit is not None and (made.nbytes if isinstance(made, pa.Table) else made.memory_usage().sum()) > limit

    def _cached(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401
        held = self._cache.get(name)
        if held is None or held[0] != self.revision:
            made = make()
            held = self._cache[name] = (self.revision, lambda: made)
        return held[1]()


def _other_record(number: int, held: Record, later: Record) -> Problem:
    first, second = (f"{r.steps} steps with a total of {r.total_reward:g}" for r in (held, later))
    detail = f"episode {number} has another record: {second}, after {first}; the later counts. Was the worker started twice in this run?"
    return Problem("conflict", detail)


def _not_finite(new: pa.RecordBatch, name: str) -> list[Problem]:
    """Return what there is to say of rewards that are NaN, infinite or missing (which are NaN here), of rows that are new."""
    rewards = new.column(name).to_numpy(zero_copy_only=False)
    finite = np.isfinite(rewards)
    if finite.all():
        return []
    wrong = np.flatnonzero(~finite)
    last = new.slice(int(wrong[-1]), 1)
    detail = f"{name} is {rewards[wrong[-1]]} in episode {last.column('episode')[0]}"
    return [Problem("not_finite", detail, count=len(wrong))]


def _words(column: pa.DictionaryArray) -> list[str]:
    """Return the labels of a column that has no nulls."""
    words = column.dictionary.to_pylist()
    return [words[at] for at in column.indices.to_numpy().tolist()]


def _ranges(starts: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the concatenation of arange(start, start + count)."""
    ends = np.cumsum(counts)
    rows: np.ndarray[Any, Any] = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
    return rows
