"""Keeps a durable copy of runs that are followed, whoever's daemon they come from.

A recording is a directory like a daemon's own (:mod:`~live_telemetry_widget.store`), so ``ltw.open`` and the command line read it, also
while it is written. The recorder is a *reader by cursor* of the frames: it commits what came since it last looked, so a disk that is slow, or
full for a while, delays the copy and loses nothing, and the stream does not feel it. Rows are committed in one transaction with the number to
resume from, so a restarted kernel goes on where the recording ends.

A richer copy of a step that is in the file already is put behind it, as a daemon would; readers merge the two. When the run has ended, or is
opened to be recorded further, its rows are written anew without copies.

Examples
--------
>>> import tempfile
>>> from live_telemetry_widget.feed import Link, RunFeed
>>> from live_telemetry_widget import normalize
>>> from live_telemetry_widget.store import Store
>>> feed = RunFeed("mine", Link("live"))
>>> event = {"type": "step", "episode": 0, "step_index": 0, "reward": 1.0}
>>> with tempfile.TemporaryDirectory() as folder:
...     tape = record(feed, folder)
...     _ = feed.frames.append_steps(normalize.steps_from_events([event], run_id="mine").batch)
...     tape.close()
...     with Store.open(folder, read_only=True) as store:
...         store.last_seq("mine", "steps")
1
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import logging
import os
import pathlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from live_telemetry_widget._lock import DirectoryLock
from live_telemetry_widget.errors import RecordingError
from live_telemetry_widget.feed import info_of, row_of
from live_telemetry_widget.schema import KINDS, Problem
from live_telemetry_widget.store import Kind, Mark, Pending, RunRow, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from live_telemetry_widget.feed import RunFeed
    from live_telemetry_widget.frames import RunFrames

_LOG: Final = logging.getLogger(__name__)

#: Seconds for which rows gather before a commit: what a kernel that is killed may lose of the copy.
_LINGER: Final = 0.1
#: Rows in one commit, at most.
_AT_ONCE: Final = 65_536
#: Seconds to the next try after a commit that failed: at first, and at most.
_RETRY_FIRST: Final = 1.0
_RETRY_MOST: Final = 30.0
#: Seconds that an end waits for the last commit.
_PATIENCE: Final = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Recorded:
    """How far the copy of a run has come.

    Attributes
    ----------
    path
        The directory; ``ltw.open(path)`` reads it.
    steps, episodes
        Rows that are committed, richer copies of the same step included until the run has ended.
    waiting
        Rows that are here and not committed yet.
    trouble
        Why the last commit failed; empty when it did not. It is tried again.
    closed
        Whether nothing more is recorded.
    """

    path: str
    steps: int
    episodes: int
    waiting: int
    trouble: str
    closed: bool


class Tape:
    """The copy of one run; made by :func:`record`."""

    def __init__(self, recorder: _Recorder, feed: RunFeed) -> None:
        self.recorder = recorder
        self.feed = feed
        self.trouble = ""
        self.ending = False
        self.ended = threading.Event()
        #: Rows of the frames that are committed, by kind; and how many richer copies stand behind them.
        self.rows: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self.copies: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        #: Rows whose richer copy is to be committed.
        self.fills: dict[Kind, set[int]] = {kind: set() for kind in KINDS}
        self.wrote: RunRow | None = None
        self.not_before = 0.0
        self._wait = _RETRY_FIRST
        feed.frames.note_fills(wanted=True)
        self._stop_listening = feed.listen(recorder.wake)

    @property
    def waiting(self) -> int:
        """How many rows are here and not committed."""
        return sum(_total(self.feed.frames, kind) - self.rows[kind] for kind in KINDS)

    @property
    def state(self) -> Recorded:
        """How far the copy has come."""
        steps, episodes = (self.rows[kind] + self.copies[kind] for kind in KINDS)
        return Recorded(str(self.recorder.path), steps, episodes, self.waiting, self.trouble, self.ended.is_set())

    def release(self) -> None:
        """Commit what is here and record no more, soon; may be called from anywhere, a finaliser too."""
        self.ending = True
        self.recorder.wake()

    def close(self, timeout: float = _PATIENCE) -> None:
        """Commit what is here, and record no more."""
        self.release()
        if threading.current_thread() is not self.recorder.thread:
            self.ended.wait(timeout)

    def failed(self, error: Exception) -> None:
        """Note that a commit failed; it is tried again, ever more seldom."""
        if not self.trouble:
            _LOG.error("run %s cannot be recorded in %s: %s", self.feed.run_id, self.recorder.path, error)
            detail = f"the copy in {self.recorder.path} is behind: {error}; it is tried again"
            self.feed.frames.count([Problem("recording_failed", detail)])
        self.trouble = str(error)
        self.not_before = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, _RETRY_MOST)

    def succeeded(self) -> None:
        """Note that commits work."""
        if self.trouble:
            _LOG.warning("run %s is recorded in %s again", self.feed.run_id, self.recorder.path)
        self.trouble, self._wait, self.not_before = "", _RETRY_FIRST, 0.0

    def end(self) -> None:
        """Let go of the run; what could not be committed is counted."""
        self._stop_listening()
        self.feed.frames.note_fills(wanted=False)
        if self.waiting:
            detail = f"{self.waiting} rows are not in the copy in {self.recorder.path}: {self.trouble}"
            self.feed.frames.count([Problem("not_recorded", detail, count=self.waiting)])
        self.ended.set()


class _Recorder:
    """One directory, its file, and the thread that writes it; ends with its last user."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = DirectoryLock(path, "record into another directory, or end that first")
        try:
            self._store = Store.open(path)
        except BaseException:
            self._lock.release()
            raise
        #: Tapes, and those who are about to add one; changed under the registry's lock.
        self.users = 0
        self._tapes: tuple[Tape, ...] = ()
        # A finaliser may run in a thread that is in the middle of a put: this queue is made for that.
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._called = False
        self.thread = threading.Thread(target=self._main, name="live-telemetry-recorder", daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """Have the thread look."""
        if not self._called:
            self._called = True
            self._calls.put(None)

    def add(self, feed: RunFeed) -> Tape:
        """Begin to record a run; what is recorded of it already is put into its frames first."""
        for other in self._tapes:
            if other.feed.run_id == feed.run_id:
                other.close()
        tape = Tape(self, feed)
        try:
            self._load(tape)
        except BaseException:
            tape.end()
            raise
        with _REGISTRY_LOCK:
            self._tapes = (*self._tapes, tape)
        self.wake()
        return tape

    def end(self) -> None:
        """Commit what is here and end all tapes: the process ends."""
        for tape in self._tapes:
            tape.release()
        self.thread.join(_PATIENCE)

    def _load(self, tape: Tape) -> None:
        feed, frames = tape.feed, tape.feed.frames
        fresh = not (frames.step_count or frames.record_count)
        row = self._store.run(feed.run_id)
        stored = {kind: self._store.last_seq(feed.run_id, kind) for kind in KINDS}
        for batch in self._store.read(feed.run_id, "steps"):
            frames.append_steps(batch)
        for batch in self._store.read(feed.run_id, "episodes"):
            frames.append_episodes(batch)
        frames.take_fills()
        held: dict[Kind, int] = {kind: _total(frames, kind) for kind in KINDS}
        if fresh and held == stored:
            tape.rows = held
        elif any(stored.values()):
            self._write_anew(tape)
        if row is None:
            return
        feed.recorded_config = row.config_json
        if fresh:
            tape.wrote = row
            source = _source(row.created_at)
            numbers = [self._store.produced(feed.run_id, kind, source) for kind in KINDS]
            feed.resume(info_of(row), numbers[0], numbers[1])

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        while True:
            with contextlib.suppress(queue.Empty):
                self._calls.get(timeout=self._pause())
            if not any(tape.ending for tape in self._tapes):
                time.sleep(_LINGER)
            self._called = False
            for tape in self._tapes:
                self._run(tape)
            with _REGISTRY_LOCK:
                if self.users == 0:
                    _REGISTRY.pop(self.path, None)
                    self._store.close()
                    self._lock.release()
                    return

    def _pause(self) -> float | None:
        due = [tape.not_before for tape in self._tapes if tape.trouble]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _run(self, tape: Tape) -> None:
        ending = tape.ending
        if ending or time.monotonic() >= tape.not_before:
            try:
                while self._commit(tape):
                    pass
                if tape.feed.finished and any(tape.copies.values()):
                    self._write_anew(tape)
            except Exception as error:  # noqa: BLE001 - counted, shown and tried again; the copies of other runs go on
                tape.failed(error)
            else:
                tape.succeeded()
        if ending:
            with _REGISTRY_LOCK:
                self._tapes = tuple(held for held in self._tapes if held is not tape)
                self.users -= 1
            tape.end()

    def _commit(self, tape: Tape) -> bool:
        """Commit some of what is new; return whether there is more."""
        feed, frames = tape.feed, tape.feed.frames
        # In this order: a number is that of rows which are in the frames; what comes meanwhile is sent again, and merged.
        numbers = (feed.step_seq, feed.episode_seq) if feed.details is not None else (0, 0)
        finished = feed.finished
        totals = {kind: _total(frames, kind) for kind in KINDS}
        for kind, rows in zip(KINDS, frames.take_fills(), strict=True):
            tape.fills[kind].update(rows)
        upto = {kind: min(totals[kind], tape.rows[kind] + _AT_ONCE) for kind in KINDS}
        copies = {kind: sorted(row for row in tape.fills[kind] if row < tape.rows[kind]) for kind in KINDS}
        more = upto != totals
        pending: list[Pending] = []
        for kind, number in zip(KINDS, numbers, strict=True):
            batches = list(_rows(frames, kind, range(tape.rows[kind], upto[kind])))
            batches += _rows(frames, kind, copies[kind])
            marks = [] if more else self._marks(feed, kind, number)
            if batches or marks:
                pending.append(Pending(feed.run_id, kind, batches, marks))
        row = row_of(feed, all_here=finished and not more)
        news = [row] if tape.wrote is None or _without_times(row) != _without_times(tape.wrote) else []
        if pending or news:
            self._store.commit(pending, news)
        for kind in KINDS:
            tape.rows[kind] = upto[kind]
            tape.copies[kind] += len(copies[kind])
            # What was filled behind the rows of this commit is committed with its own.
            tape.fills[kind] = {held for held in tape.fills[kind] if held >= upto[kind]}
        if news:
            tape.wrote = row
        self._store.compact()
        return more

    def _marks(self, feed: RunFeed, kind: Kind, number: int) -> list[Mark]:
        """Return what notes the number to resume from, if it has grown."""
        source = _source(feed.info.created_at if feed.info else None)
        held = self._store.produced(feed.run_id, kind, source) if number and source else number
        return [Mark(source, held, number, jump=True)] if number > held else []

    def _write_anew(self, tape: Tape) -> None:
        """Write what the frames have in place of what is stored, all of it or nothing."""
        frames = tape.feed.frames
        frames.take_fills()
        totals: dict[Kind, int] = {kind: _total(frames, kind) for kind in KINDS}
        self._store.replace(tape.feed.run_id, {kind: _rows(frames, kind, range(totals[kind])) for kind in KINDS})
        tape.rows, tape.copies, tape.fills = totals, dict.fromkeys(KINDS, 0), {kind: set() for kind in KINDS}


def _total(frames: RunFrames, kind: Kind) -> int:
    return frames.step_count if kind == "steps" else frames.record_count


def _rows(frames: RunFrames, kind: Kind, rows: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Yield some rows of the frames, a bounded number at a time."""
    for at in range(0, len(rows), _AT_ONCE):
        wanted = np.asarray(rows[at : at + _AT_ONCE], np.int64)
        table = frames.take(wanted) if kind == "steps" else frames.records(wanted)
        yield from table.to_batches()


def _source(created_at: int | None) -> str:
    """Return the name under which the numbers of a daemon's run are kept; a run made anew has another."""
    return f"daemon:{created_at}" if created_at else ""


def _without_times(row: RunRow) -> RunRow:
    """Return a record without what every heartbeat changes."""
    return dataclasses.replace(row, updated_at=0, last_heartbeat=None, record_seq=0)


_REGISTRY: Final[dict[pathlib.Path, _Recorder]] = {}
_REGISTRY_LOCK: Final = threading.RLock()


def record(feed: RunFeed, path: str | os.PathLike[str]) -> Tape:
    """Keep a durable copy of a run in a directory, and go on with the copy that is there.

    Parameters
    ----------
    feed
        The run. What is recorded of it already is put into its frames first.
    path
        A directory; made when it does not exist. It may hold any number of runs.

    Raises
    ------
    RecordingError
        Another process writes there, or it holds something else.
    """
    where = pathlib.Path(path).expanduser().resolve()
    if where.exists() and not where.is_dir():
        msg = f"record is {os.fspath(path)!r}, which is a file; give a directory, which ltw.open then reads"
        raise RecordingError(msg)
    # One for each directory in a process: a cell that is run again goes on with the recorder of its first run.
    with _REGISTRY_LOCK:
        recorder = _REGISTRY.get(where)
        if recorder is None:
            recorder = _REGISTRY[where] = _Recorder(where)
        recorder.users += 1
    try:
        return recorder.add(feed)
    except BaseException:
        with _REGISTRY_LOCK:
            recorder.users -= 1
        recorder.wake()
        raise


def _end_all() -> None:
    with _REGISTRY_LOCK:
        recorders = list(_REGISTRY.values())
    for recorder in recorders:
        recorder.end()


atexit.register(_end_all)
