"""Where runs come from: a daemon (:func:`connect`) or a recording (:func:`open_recording`)."""

from __future__ import annotations

import os
import pathlib
import threading
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Self

import pandas as pd
import pyarrow as pa

from live_telemetry_widget import _columns, lazy, recorder, roster, slices
from live_telemetry_widget._names import DEFAULT_ADDRESS, check_address
from live_telemetry_widget._spill import parse_limit
from live_telemetry_widget.client import RunDetails, RunInfo
from live_telemetry_widget.errors import ClosedError, RecordingError, RunNotFoundError, WaitTimeoutError
from live_telemetry_widget.exports import Exported, is_export
from live_telemetry_widget.feed import Link, RunFeed, info_of, plain_reason, run_name
from live_telemetry_widget.frames import RunFrames
from live_telemetry_widget.hub import TelemetryAsyncHub
from live_telemetry_widget.report import plots
from live_telemetry_widget.run import Run
from live_telemetry_widget.schema import EPISODES, KINDS
from live_telemetry_widget.store import FILE_NAME, RunRow, Store, not_found

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    import plotly.graph_objects as go

    from live_telemetry_widget.bridge import TelemetryBridge
    from live_telemetry_widget.exports import Source
    from live_telemetry_widget.lazy import LazySteps
    from live_telemetry_widget.recorder import Tape
    from live_telemetry_widget.view.widget import LiveTelemetryWidget
    from live_telemetry_widget.watch import LiveTelemetryController

_COLUMNS: Final = (
    *("run_id", "name", "status", "reason", "steps", "episodes"),
    *("created_at", "updated_at", "last_heartbeat"),
)


def connect(
    address: str = DEFAULT_ADDRESS, *, max_attempts: int | None = None, memory_limit: int | str | None = None
) -> Client:
    """Return a client of the trainer daemon at ``"host:port"``; it connects when it is first used.

    Parameters
    ----------
    address
        ``"host:port"``.
    max_attempts
        Give up after so many attempts in a row to connect; None: never. ``client.reconnect()`` begins again.
    memory_limit
        Memory that the rows of each run may take, in bytes or as a text like ``"2GB"``; beyond it the oldest are in files of a temporary
        directory, and read from there (docs/memory.md). None: what ``LIVE_TELEMETRY_MEMORY_LIMIT`` says, else no limit.

    Raises
    ------
    ValueError
        `address` is not ``"host:port"``, or `memory_limit` no such size.
    """
    check_address(address)
    return Client(address, max_attempts=max_attempts, memory_limit=memory_limit)


class Client:
    """A trainer daemon as seen from a notebook; make it with :func:`connect`.

    Everything it follows is followed on one background thread, which ends with :meth:`close`, when the client is
    garbage (it, its runs and their views), or with the process.
    """

    def __init__(self, address: str, *, max_attempts: int | None = None, memory_limit: int | str | None = None) -> None:
        self.address = address
        self.hub = TelemetryAsyncHub(address, max_attempts=max_attempts, memory_limit=memory_limit)
        # A run that nobody holds and no view shows is not followed any more.
        self._runs: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()
        # A run that is garbage is unsubscribed wherever the collector runs, also in a thread that holds this.
        self._lock = threading.RLock()
        self._watches: weakref.WeakSet[LiveTelemetryController] = weakref.WeakSet()
        self._bridges: weakref.WeakSet[TelemetryBridge] = weakref.WeakSet()
        self._finalizer = weakref.finalize(self, self.hub.stop)

    def runs(self) -> pd.DataFrame:
        """Return the daemon's runs, newest first.

        Returns
        -------
        pandas.DataFrame
            ``run_id``, ``name``, ``status``, ``reason``, ``steps, episodes`` (Int64), and ``created_at, updated_at, last_heartbeat``
            (datetime64[ns, UTC]). What another's daemon does not tell (``name, steps, episodes``) is missing.

        Raises
        ------
        ConnectError
            No daemon answers at the address.
        """
        return _runs_frame(self._told())

    def _told(self) -> list[roster.Told]:
        self._check_open()
        told: list[roster.Told] = self.hub.ask(roster.told_by)
        return told

    def _infos(self) -> list[RunInfo]:
        self._check_open()
        infos: list[RunInfo] = self.hub.ask(lambda client: client.list_runs())
        return infos

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            msg = f"the client of {self.address} was closed; ltw.connect({self.address!r}) makes another"
            raise ClosedError(msg)

    def run(
        self, run_id: str | None = None, *, name: str | None = None, record: str | os.PathLike[str] | None = None
    ) -> Run:
        """Return a run and begin to follow it, from its first step on; the same object for the same id, as long as somebody holds it.

        A run that the daemon does not know yet is waited for; the first question for its data warns, with what may have been meant.

        Parameters
        ----------
        run_id
            The run's id.
        name
            In place of the id: the newest run that people call so.
        record
            A directory in which a durable copy of all that comes is kept, for ``ltw.open``, whatever becomes of the daemon. A kernel that is started again goes on
            with the copy that is there. It is kept for as long as the run is held, followed and the process lives; :attr:`Run.recorded` tells how far it has come.

        Raises
        ------
        RecordingError
            Another process writes to that directory, or it holds something else.
        RunNotFoundError
            The daemon has no run of that name; the message names those that are near.
        TypeError
            Neither an id nor a name is given, or both, or one that is no text.
        """
        self._check_open()
        run_id = _one_of(run_id, name, self._told, f"the daemon at {self.address}")
        # A watch asks from a thread of its own: two objects of one run would end each other's stream.
        with self._lock:
            held = self._runs.get(run_id)
            if held is None:
                tapes: list[Tape] = []
                prepare = None if record is None else lambda feed: tapes.append(recorder.record(feed, record))
                feed = self.hub.subscribe_run(run_id, prepare)
                held = self._runs[run_id] = Run(feed, owner=self)
                if tapes:
                    held.keep(tapes[0])
                weakref.finalize(held, _unsubscribe, weakref.ref(self.hub), run_id, weakref.ref(feed))
            elif record is not None and not held.is_recorded_in(record):
                held.keep(recorder.record(held.feed, record))
            return held

    def compare(self, runs: Iterable[str] | Mapping[str, str]) -> pd.DataFrame:
        """Return the episodes of several runs as one frame, to be grouped or drawn by its first column.

        Parameters
        ----------
        runs
            Their ids, or a mapping of labels to ids.

        Returns
        -------
        pandas.DataFrame
            ``run`` (category: the id or label), ``nth`` (int64: the episode's place among those of its agent of its worker, from 0), then
            the columns of :attr:`Run.episodes`; further columns that a run lacks are missing there.

        Raises
        ------
        RunNotFoundError
            There is no such run; the message names the nearest.
        ValueError
            No run is given.
        """
        return _compared(self, f"the daemon at {self.address}", runs)

    def plot(self, runs: Iterable[str] | Mapping[str, str], window: int | None = None) -> go.Figure:
        """Return the returns of several runs as one plotly figure: the trailing mean over the episodes of each agent, by their place.

        Parameters
        ----------
        runs
            As for :meth:`compare`, whose frame is what is drawn.
        window
            Episodes that the mean goes over; None: a twentieth of them, 5 to 100.

        Raises
        ------
        RunNotFoundError
            There is no such run; the message names the nearest.
        NoDataError
            No episode has ended yet.
        ValueError
            No run is given, or `window` is below 1.
        """
        return plots.overlaid(self.compare(runs), window)

    def watch(
        self,
        *,
        status: str | Iterable[str] | None = None,
        name: str | None = None,
        close_done: bool = False,
        most: int = 32,
    ) -> LiveTelemetryController:
        """Return a controller that shows a view per run and agent as they appear; as the last line of a cell it is shown.

        Parameters
        ----------
        status
            Only runs in this state or one of these (``"running"``, ...) when they are seen; None: runs that have not ended.
        name
            Only runs whose id or name matches, like ``"lake-*"``.
        close_done
            Close the views of a run once it has ended and all of it is here.
        most
            At most so many views at a time; the others are counted.
        """
        from live_telemetry_widget.watch import LiveTelemetryController  # noqa: PLC0415 - data alone needs no widgets

        self._check_open()
        watch = LiveTelemetryController(self, status=status, name=name, close_done=close_done, most=most)
        self._watches.add(watch)
        return watch

    def overlay(self, run_ids: Iterable[str]) -> LiveTelemetryWidget:
        """Return the view of the first of these runs, with the curves of the others drawn over its own.

        Parameters
        ----------
        run_ids
            Two or more, live or ended; the same as ``client.run(first).view(compare=[client.run(other), ...])``.

        Raises
        ------
        ValueError
            There is none.
        """
        if isinstance(run_ids, str) or not (ids := list(dict.fromkeys(run_ids))):
            msg = f"overlay takes a list of run ids, such as ['a', 'b'], not {run_ids!r}"
            raise ValueError(msg)
        first, *others = [self.run(run_id) for run_id in ids]
        return first.view(compare=others)

    def bridge(self, *, loop: asyncio.AbstractEventLoop | None = None) -> TelemetryBridge:
        """Return a bridge that calls your functions for each step, episode and end of the runs that are followed.

        Parameters
        ----------
        loop
            The asyncio loop to call them on, like the kernel's; None: background threads.
        """
        from live_telemetry_widget.bridge import TelemetryBridge  # noqa: PLC0415 - few need it

        self._check_open()
        bridge = TelemetryBridge(self.hub, loop=loop)
        self._bridges.add(bridge)
        return bridge

    def name_of(self, run_id: str) -> str:
        """Return a run's name for people; empty when it has none, or the daemon is another's."""
        self._check_open()
        details: RunDetails | None = self.hub.ask(lambda client: client.describe(run_id))
        return run_name(details)

    def reconnect(self) -> None:
        """Try to connect now, rather than when the wait is over; also after `max_attempts` were in vain."""
        self._check_open()
        self.hub.reconnect()

    def latest(self) -> Run:
        """Return the run that was made last.

        Raises
        ------
        RunNotFoundError
            The daemon has none.
        ConnectError
            No daemon answers at the address.
        """
        return self.run(_latest(self._infos(), f"the daemon at {self.address}", self.address))

    def wait_for_run(self, timeout: float = 30.0) -> Run:
        """Return the run that was made last, waiting for one if the daemon has none yet.

        Raises
        ------
        WaitTimeoutError
            None was made within `timeout` seconds.
        ConnectError
            No daemon answers at the address.
        """
        end = time.monotonic() + timeout
        while not (infos := self._infos()):
            if time.monotonic() >= end:
                msg = f"no run was made at {self.address} within {timeout:g} s; is a worker running?"
                raise WaitTimeoutError(msg)
            time.sleep(0.1)
        return self.run(_latest(infos, self.address, self.address))

    def close(self) -> None:
        """Close the views, bridges and watches, and stop following; the data of the runs stays."""
        users: list[LiveTelemetryController | TelemetryBridge | Run] = [*self._watches, *self._bridges]
        for user in [*users, *self._runs.values()]:
            user.close()
        runs = list(self._runs.values())
        self._finalizer()
        for run in runs:
            run.end_recording()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.address}, following {len(self._runs)} runs>"


def _unsubscribe(hub: weakref.ref[TelemetryAsyncHub], run_id: str, feed: weakref.ref[RunFeed]) -> None:
    held, its = hub(), feed()
    if held is not None and its is not None:
        held.unsubscribe_run(run_id, its)


def _one_of(run_id: object, name: object, told: Callable[[], Sequence[roster.Told]], where: str) -> str:
    """Return the id of the run that is meant by an id or by a name."""
    given = name if run_id is None else run_id
    if (run_id is None) == (name is None) or not isinstance(given, str):
        what = f"run_id is {run_id!r} and name is {name!r}"
        msg = f"{what}; give the id of a run as text, or name=..., as in the frame of runs()"
        raise TypeError(msg)
    return roster.newest_named(given, told(), where) if run_id is None else given


def _runs_frame(told: Iterable[roster.Told]) -> pd.DataFrame:
    ordered = sorted(told, key=lambda one: one.info.created_at or 0, reverse=True)
    rows = [
        (
            i.run_id,
            None if details is None else run_name(details),
            i.state.value,
            plain_reason(i),
            *((None, None) if details is None else (details.last_step_seq, details.last_episode_seq)),
            *(_columns.moment(t) for t in (i.created_at, i.updated_at, i.last_heartbeat)),
        )
        for i, details in ordered
    ]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    times = dict.fromkeys(_COLUMNS[6:], "datetime64[ns, UTC]")
    return frame.astype({"steps": "Int64", "episodes": "Int64", **times})


def _compared(of: Client | Recording, where: str, runs: Iterable[str] | Mapping[str, str]) -> pd.DataFrame:
    asked = dict(runs) if isinstance(runs, Mapping) else {run_id: run_id for run_id in runs}
    if not asked or isinstance(runs, str):
        msg = f"runs is {runs!r}; give the ids of some runs, like ['a', 'b']"
        raise ValueError(msg)
    known = [info.run_id for info in of._infos()]  # noqa: SLF001 - of this module
    for run_id in asked.values():
        if run_id not in known:
            raise not_found(run_id, where, [RunRow(name, 0) for name in known])
    return slices.tidy({label: of.run(run_id).episodes_arrow for label, run_id in asked.items()})


def _latest(infos: list[RunInfo], where: str, address: str = "") -> str:
    if not infos:
        how = f"; start one with: live-telemetry run --daemon {address} -- COMMAND" if address else ""
        msg = f"{where} has no runs yet{how}"
        raise RunNotFoundError(msg)
    return max(infos, key=lambda info: info.created_at or 0).run_id


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Open a recording: a daemon's data directory or the file in it, or what ``live-telemetry export`` has written.

    Parameters
    ----------
    path
        A data directory, which a daemon may be writing; a ``.parquet`` or ``.arrow`` file of an exported run; a directory of such files.
        Nothing there is changed.

    Raises
    ------
    RecordingError
        There is no recording, or it is from a newer version, or something that was written for others to read; the message says what.
    TypeError
        `path` is none.
    """
    if not isinstance(path, str | os.PathLike):
        msg = f"path is {path!r}; give that of a daemon's data directory or of an exported run"
        raise TypeError(msg)
    return Recording(path)


class Recording:
    """Runs as they stand in files; make it with ``ltw.open(path)``.

    A run is read when its data is asked for, as far as it was written by then; one episode of it is read without the others.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._source = _source(pathlib.Path(path))
        self._runs: dict[str, RecordedRun] = {}
        self._finalizer = weakref.finalize(self, self._source.close)

    def runs(self) -> pd.DataFrame:
        """Return the recorded runs, newest first; columns as in :meth:`Client.runs` (of exported files, ``steps, episodes`` are missing)."""
        frame = _runs_frame(self._told())
        if not isinstance(self._source, Store):
            frame[["steps", "episodes"]] = pd.NA
        return frame.astype({"steps": "Int64", "episodes": "Int64"})

    def _told(self) -> list[roster.Told]:
        source, told = self._source, []
        last = source.last_seqs() if isinstance(source, Store) else None
        for row in source.runs():
            info = info_of(row)
            steps, episodes = (0 if last is None else last.get((row.run_id, kind), 0) for kind in KINDS)
            details = RunDetails(row.config_json, steps, episodes, ended=info.state.ended)
            told.append(roster.Told(info, details))
        return told

    def _infos(self) -> list[RunInfo]:
        return [info_of(row) for row in self._source.runs()]

    def run(self, run_id: str | None = None, *, name: str | None = None) -> RecordedRun:
        """Return a run with all that is recorded of it; `name`, in place of its id: the newest that people call so.

        Raises
        ------
        RunNotFoundError
            The recording has none of that id or name; the message names the nearest.
        TypeError
            Neither an id nor a name is given, or both, or one that is no text.
        """
        run_id = _one_of(run_id, name, self._told, f"the recording {self.path}")
        held = self._runs.get(run_id)
        if held is None:
            row = self._source.run(run_id)
            if row is None:
                raise not_found(run_id, f"the recording {self.path}", self._source.runs())
            held = self._runs[run_id] = RecordedRun(_RecordedFeed(row, self._source), owner=self)
        return held

    def compare(self, runs: Iterable[str] | Mapping[str, str]) -> pd.DataFrame:
        """Return the episodes of several runs as one frame; see :meth:`Client.compare`."""
        return _compared(self, f"the recording {self.path}", runs)

    def plot(self, runs: Iterable[str] | Mapping[str, str], window: int | None = None) -> go.Figure:
        """Return the returns of several runs as one plotly figure; see :meth:`Client.plot`."""
        return plots.overlaid(self.compare(runs), window)

    def latest(self) -> RecordedRun:
        """Return the run that was made last.

        Raises
        ------
        RunNotFoundError
            The recording has none.
        """
        return self.run(_latest(self._infos(), f"the recording {self.path}"))

    def close(self) -> None:
        """Close the files and the views; the data of the runs that were read stays."""
        for run in self._runs.values():
            run.close()
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recording {self.path!r}>"


def _source(path: pathlib.Path) -> Source:
    if what := _foreign(path):
        msg = f"{path} is {what}; ltw.open reads a daemon's data directory, and exported .parquet and .arrow files of a run"
        raise RecordingError(msg)
    if not (path / FILE_NAME).is_file() and is_export(path):
        return Exported(path)
    return Store.open(path, read_only=True)


#: What an export writes for others, by its end.
_FOR_OTHERS: Final = {
    ".csv": "a CSV file, for pandas.read_csv and the like",
    ".jsonl": "a file of events, one JSON object a line",
    ".html": "a report, for a browser",
}


def _foreign(path: pathlib.Path) -> str:
    """Return what a path is that was written for others to read; empty when it is nothing known."""
    if path.is_file():
        return _FOR_OTHERS.get(path.suffix, "")
    if (path / "steps").is_dir() and (path / "README.md").is_file():
        return f"a Hugging Face dataset: datasets.load_dataset({str(path)!r}, 'steps') reads it"
    if (path / "data" / "main_data.hdf5").is_file() or (path / "data" / "metadata.json").is_file():
        return f"a Minari dataset: minari.MinariDataset({str(path / 'data')!r}) reads it"
    return ""


class RecordedRun(Run):
    """A run out of a recording: a :class:`Run` that reads one episode without reading them all."""

    def __init__(self, feed: _RecordedFeed, owner: object) -> None:
        super().__init__(feed, owner)
        self._recorded = feed

    def lazy_steps(self) -> LazySteps:
        """Return the steps as they are recorded, a batch at a time; see :meth:`Run.lazy_steps`."""
        return self._recorded.lazy_steps()

    def _frames_with(self, number: int) -> RunFrames:
        if self._recorded.read_all:
            return super()._frames_with(number)
        return self._recorded.frames_of(number)

    def _a_record(self) -> pa.Table:
        if self._recorded.read_all:
            return super()._a_record()
        return self._recorded.first_record()


class _RecordedFeed(RunFeed):
    """A run's feed whose frames are filled when they are first asked for.

    Attributes
    ----------
    read_all : bool
        Whether they are.
    """

    def __init__(self, row: RunRow, source: Source) -> None:
        super().__init__(row.run_id, Link("recording"), memory_limit=parse_limit(None))
        self._source = source
        self.info = info = info_of(row)
        self.details = RunDetails(row.config_json, 0, 0, ended=info.state.ended)
        self.finished = info.state.ended
        self.read_all = False
        # Those who listen are called while it is read, and may ask for the data: they see it as far as it is here.
        self._reading = threading.RLock()
        self._begun = False

    @property
    def frames(self) -> RunFrames:
        """All that is recorded, read at the first question."""
        if not self.read_all:
            with self._reading:
                if not self.read_all and not self._begun:
                    self._begun = True
                    try:
                        self._read()
                    finally:
                        self._begun = False
                    self.read_all = True
        return self._frames

    def _read(self) -> None:
        for batch in self._source.read(self.run_id, "steps"):
            self._frames.append_steps(batch)
        for batch in self._source.read(self.run_id, "episodes"):
            self._frames.append_episodes(batch)
        if self.finished:
            self._frames.settle()

    def lazy_steps(self) -> LazySteps:
        """Return the steps as they are recorded."""
        return lazy.of_source(self._source, self.run_id)

    def first_record(self) -> pa.Table:
        """Return the first record of an episode, if there is any, without reading more."""
        batch = next(iter(self._source.read(self.run_id, "episodes")), None)
        return EPISODES.empty_table() if batch is None else pa.table(batch.slice(0, 1))

    def frames_of(self, episode: int) -> RunFrames:
        """Return frames that hold the steps of one episode number, copies merged as ever."""
        frames = RunFrames(self.run_id)
        for batch in self._source.read_episode(self.run_id, episode):
            frames.append_steps(batch)
        return frames
