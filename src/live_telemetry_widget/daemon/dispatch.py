"""Starts the workers of submitted runs, sees each through to its end, and finds those that an earlier daemon has left.

A worker is started as ``live-telemetry run``, our proxy around it. One task holds each run's processes for as long as they live; whoever wants them
to end says so to the task, so that nothing is signalled from two sides.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import grpc

from live_telemetry_widget import _names
from live_telemetry_widget.daemon import config as run_config
from live_telemetry_widget.daemon import processes, silence
from live_telemetry_widget.daemon.family import Family
from live_telemetry_widget.daemon.refusal import RefusalError, precondition
from live_telemetry_widget.daemon.runs import ENDED, FAULT, INIT

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Coroutine

    from live_telemetry_widget.daemon.control import Relay
    from live_telemetry_widget.daemon.runs import Registry
    from live_telemetry_widget.daemon.settings import Settings
    from live_telemetry_widget.store import RunRow

_LOG: Final = logging.getLogger(__name__)

#: How often (seconds) it is looked whether a process has ended.
_LOOK: Final = 0.05
#: Seconds that a proxy has, beyond its worker's grace, to deliver what is left and tell the end.
_DRAIN: Final = 10.0
_AWAY: Final = 1.0
#: Seconds in which a proxy that has told its run's end must be gone.
_LINGER: Final = 30.0
#: Seconds after which a commit that failed is tried again.
_AGAIN: Final = 1.0
#: A proxy beats so often (seconds), or often enough for a shorter timeout.
_BEAT: Final = 5.0
_BEATS_IN_TIMEOUT: Final = 4
#: Seconds in which a proxy whose worker has ended may find the daemon again, and after which one whose worker runs gives up.
_DRAIN_ALONE: Final = 300.0
_DAEMON_AWAY: Final = 3_600.0
#: With which our proxy says that it could not join the run.
_EX_UNAVAILABLE: Final = 69
_CANCELLED: Final = "cancelled by request"


class Dispatcher:
    """The dispatched runs of a daemon.

    Parameters
    ----------
    address
        Where the daemon listens, as a proxy on this machine can reach it.
    """

    def __init__(self, runs: Registry, relay: Relay, settings: Settings, data_dir: pathlib.Path, address: str) -> None:
        self._runs = runs
        self._relay = relay
        self._settings = settings
        self._data_dir = data_dir
        self._address = address
        self._families: dict[str, Family] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run something that goes on when whoever asked for it is gone."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.INFO if isinstance(error, RefusalError) else logging.ERROR
            _LOG.log(level, "%s: %s", task.get_name(), error, exc_info=error if level == logging.ERROR else None)

    # -- beginning ---------------------------------------------------------------------------------------------------

    async def submit(self, run_id: str, config_json: str) -> RunRow:
        """Make a run of a config that is new, and start its worker."""
        if self._stopping:
            raise RefusalError(grpc.StatusCode.UNAVAILABLE, "the daemon is shutting down")
        # A client that hangs up half-way must not leave a run without its worker.
        task = self._spawn(self._submit(run_id, config_json), f"submit {run_id}")
        run: RunRow = await asyncio.shield(task)
        return run

    async def _submit(self, run_id: str, config_json: str) -> RunRow:
        config = run_config.parse_config(config_json)
        held = self._runs.of_digest(run_config.digest_of(config))
        if held is not None:
            return held  # another of the same config has come first
        chosen = run_config.choose_run_id(run_id, config)
        if self._settings.dispatch == "never" or self._runs.known(chosen):
            return await self._runs.submit(chosen, config_json)
        family = Family.new(chosen, self._data_dir, self._address)
        family.gpus = self._take_gpus(config)
        self._families[chosen] = family
        try:
            # Before the run, so that no crash leaves a run of which nobody knows that it was to be started.
            family.write()
            run = await self._runs.submit(chosen, config_json)
        except BaseException as error:
            del self._families[chosen]
            family.forget(keep_log=True)
            if isinstance(error, OSError):
                msg = f"no worker can be started, {family.record.parent} cannot be written: {error}"
                raise RefusalError(grpc.StatusCode.RESOURCE_EXHAUSTED, msg) from error
            raise
        self._spawn(self._begin(family, config), f"run {chosen}")
        return run

    async def _begin(self, family: Family, config: dict[str, Any]) -> None:
        try:
            command, environment = self._command(family.run_id, config), self._environment(family, config)
            family.popen = await asyncio.to_thread(_start, command, environment, family.log)
            family.process = processes.find(family.popen.pid)
            family.write()
        except OSError as error:
            family.lost = f"its worker could not be started: {error}"
            family.end.set()
            _LOG.error("run %s: %s", family.run_id, family.lost)
        else:
            _LOG.info("run %s: started as process %d, its output is in %s", family.run_id, family.popen.pid, family.log)
            await self._runs.dispatched(family.run_id)
        await self._see_through(family, config)

    def _command(self, run_id: str, config: dict[str, Any]) -> list[str]:
        timeout = self._settings.heartbeat_timeout
        beat = min(_BEAT, timeout / _BEATS_IN_TIMEOUT) if timeout else _BEAT
        options = {
            "daemon": self._address,
            "run-id": run_id,
            "name": config["run_name"],
            "agent-id": run_config.worker_of(config, "agent_id"),
            "worker-id": run_config.worker_of(config, "worker_id"),
            "grace": f"{self._settings.grace:g}",
            "heartbeat": f"{beat:g}",
            # The daemon may be away for a moment just then, and nobody waits at a terminal.
            "drain-timeout": f"{_DRAIN_ALONE:g}",
            "away-timeout": f"{_DAEMON_AWAY:g}",
        }
        command = [sys.executable, "-m", "live_telemetry_widget", "run", "--control-stdin"]
        # Each in one piece, because a value may begin with a dash.
        command += [f"--{name}={value}" for name, value in options.items()]
        return [*command, "--", config["entry_point"], *config["arguments"]]

    def _environment(self, family: Family, config: dict[str, Any]) -> dict[str, str]:
        # "python" is what many clients say; where the machine has none of that name, it is ours.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable)])  # noqa: PTH120 - a text
        # Numeric libraries take as many threads as there are cores unless they are told.
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, int(config["resources"]["cpus"])))
        worker = {"PATH": path, "OMP_NUM_THREADS": threads, **config["environment"]}
        if self._settings.gpus:
            worker.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, family.gpus)))
        # The config's variables are the worker's. In the proxy's own, PYTHONPATH for one could put another package in place of ours.
        return {**os.environ, _names.MARK: family.mark, _names.WORKER_ENVIRONMENT: json.dumps(worker)}

    # -- graphics cards ----------------------------------------------------------------------------------------------

    def _take_gpus(self, config: dict[str, Any]) -> list[int]:
        """Return those that a run is given: as many as it asks for, or as are free; refuse when it must have more."""
        gpus = config["resources"].get("gpus") or {}
        requested, mandatory = gpus.get("requested", 0), gpus.get("mandatory", False)
        taken = {gpu for family in self._families.values() for gpu in family.gpus}
        free = [gpu for gpu in range(self._settings.gpus) if gpu not in taken]
        if mandatory and requested > self._settings.gpus:
            msg = f"{requested} GPUs are mandatory and this daemon has {self._settings.gpus} to give (serve --gpus N)"
            raise precondition(msg)
        if mandatory and requested > len(free):
            msg = f"{requested} GPUs are mandatory and {len(free)} are free; submit it again when runs have ended"
            raise RefusalError(grpc.StatusCode.RESOURCE_EXHAUSTED, msg)
        return free[:requested]

    def gpus_of(self, run_id: str) -> list[int]:
        """Return which graphics cards a running run was given."""
        family = self._families.get(run_id)
        return family.gpus if family else []

    # -- ending ------------------------------------------------------------------------------------------------------

    async def cancel(self, run_id: str, reason: str = _CANCELLED) -> None:
        """Have a run's worker ended; the run ends when it is gone, or at once when nobody holds one."""
        run = self._runs.find(run_id)
        if run.status in ENDED:
            return
        self._runs.wish_end(run_id, reason)
        family = self._families.get(run_id)
        if family is not None:
            family.end.set()
        elif self._relay.seated(run_id):
            self._relay.cancel(run_id)
            self._spawn(self._end_at_last(run_id), f"cancel {run_id}")
        else:
            await self._runs.end(run_id, reason)

    async def _end_at_last(self, run_id: str) -> None:
        """End a run whose proxy was told to, in case that never answers."""
        await _until(lambda: self._runs.find(run_id).status in ENDED, self._settings.grace + _DRAIN)
        await self._runs.end(run_id, self._runs.wished(run_id) or _CANCELLED)

    async def look_after(self) -> None:
        """Give up runs that have been silent for too long."""
        for run in self._runs.active():
            dispatched = run.run_id in self._families
            limit = silence.patience(run, self._settings, dispatched=dispatched, begun=run.status != INIT)
            silent = self._runs.pulse.silent(run.run_id)
            if not limit or silent <= limit:
                continue
            reason = f"no sign of life for {silent:.0f} s"
            # Whatever fails here is tried again at the next look.
            with contextlib.suppress(RefusalError, sqlite3.Error):
                await self._runs.fault(run.run_id, reason)
            if dispatched:
                self._families[run.run_id].end.set()

    async def _see_through(self, family: Family, config: dict[str, Any]) -> None:
        """Wait for the end of a run's processes, or bring it about; then settle the run."""
        try:
            limit = (config.get("schedule") or {}).get("max_duration_seconds")
            await self._wait(family, limit)
            if family.alive:
                family.send(processes.SIGTERM)
                # Of a proxy that is away nothing more is expected.
                away = family.lost or self._runs.find(family.run_id).status == FAULT
                await _until(lambda: not family.alive, self._settings.grace + (_AWAY if away else _DRAIN))
            await self._clear(family)
            await self._settle(family)
        finally:
            # One that could not be ended, or is left for the next daemon, is still there.
            if not family.alive:
                self._families.pop(family.run_id, None)

    async def _wait(self, family: Family, limit: float | None) -> None:
        run = self._runs.find(family.run_id)
        until = None if limit is None else run.created_at / 1e9 + limit
        ended_at: float | None = None
        while family.alive and not family.end.is_set():
            if until is not None and time.time() > until:
                self._runs.wish_end(family.run_id, f"cancelled: its max_duration_seconds of {limit:g} are over")
                family.end.set()
            if self._runs.find(family.run_id).status in ENDED:
                ended_at = ended_at or time.monotonic()
                if time.monotonic() > ended_at + _LINGER:
                    family.end.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await family.end.wait()

    async def _clear(self, family: Family) -> None:
        """End what a run has left behind: a proxy that does not end, the worker of one that was killed, the worker's own children."""
        left = await asyncio.to_thread(processes.family, family.mark)
        if not left and not family.alive:
            return
        _LOG.warning("run %s: ending %d processes that were left", family.run_id, len(left))
        if not family.alive:
            # A worker may want to save what it has.
            for process in left:
                processes.send(process, processes.SIGTERM)
            await _until(_none_of(left), self._settings.grace)
        # While they are killed they may start others.
        for _ in range(5):
            family.send(processes.SIGKILL)
            for process in left:
                processes.send(process, processes.SIGKILL)
            await _until(_none_of(left), 1.0)
            left = await asyncio.to_thread(processes.family, family.mark)
            if not left and not family.alive:
                return
        _LOG.error("run %s: %d processes could not be ended: %s", family.run_id, len(left), left)

    async def _settle(self, family: Family) -> None:
        """Say how a run ended whose proxy did not, and forget its processes; as soon as there is room on the disk for that."""
        while True:
            try:
                await self._say_end(family)
                break
            except sqlite3.Error as error:
                _LOG.error("run %s: its end could not be committed: %s", family.run_id, error)
                if self._stopping:
                    return  # the record is left, so the next daemon does it
                await asyncio.sleep(_AGAIN)
        family.forget(keep_log=self._keeps_log(family.run_id))

    async def _say_end(self, family: Family) -> None:
        run_id, code = family.run_id, family.code
        wish = self._runs.wished(run_id)
        run = self._runs.find(run_id)
        if run.status in ENDED:
            pass
        elif family.lost:
            await self._runs.fault(run_id, family.lost)
        elif wish:
            await self._runs.end(run_id, wish)
        elif code is None:
            await self._runs.fault(run_id, "its worker ended while no daemon was there to be told how")
        elif code == 0:
            await self._runs.end(run_id, None)
        elif code < 0:
            await self._runs.fault(run_id, f"its proxy was killed by signal {-code}")
        elif code == _EX_UNAVAILABLE:
            await self._runs.fault(run_id, f"its proxy could not join it; see {family.log}")
        else:
            await self._runs.end(run_id, f"the worker exited with code {code}")

    def _keeps_log(self, run_id: str) -> bool:
        run = self._runs.find(run_id)
        artifacts = run_config.parse_object(run.config_json).get("artifacts")
        wanted = not isinstance(artifacts, dict) or artifacts.get("persist_logs", True)
        # What went wrong is to be seen, whether somebody wanted to see what goes well or not.
        return bool(wanted or run.failure_reason)

    # -- from one daemon to the next ---------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Take over what an earlier daemon on this directory has left: go on with what lives, settle what does not."""
        for family in Family.left_in(self._data_dir):
            try:
                run = self._runs.find(family.run_id)
            except RefusalError:
                self._spawn(self._clear_unknown(family), f"processes of unknown run {family.run_id}")
                continue
            if run.status in ENDED:
                family.end.set()
            elif family.process is None:
                family.lost = "the daemon ended while it was starting the worker"
            elif family.alive and family.address != self._address:
                family.lost = f"its worker publishes to {family.address}, where this daemon does not listen"
                family.end.set()
            state = "goes on as" if family.alive and not family.end.is_set() else "is over with"
            _LOG.info("run %s of an earlier daemon %s process %s", family.run_id, state, family.process)
            self._families[family.run_id] = family
            self._runs.pulse.beat(family.run_id)
            config = run_config.parse_object(run.config_json)
            self._spawn(self._see_through(family, config), f"run {family.run_id}")

    async def _clear_unknown(self, family: Family) -> None:
        await self._clear(family)
        family.forget(keep_log=True)

    async def stop(self) -> None:
        """Start no more; end the workers and wait for that, or leave them for the next daemon."""
        self._stopping = True
        if self._settings.keep_workers:
            for task in self._tasks:
                task.cancel()
        else:
            for family in self._families.values():
                self._runs.wish_end(family.run_id, "cancelled: the daemon was stopped")
                family.end.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _start(command: list[str], environment: dict[str, str], log: pathlib.Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - what this is for; who may ask for it is checked before
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _none_of(left: list[processes.Process]) -> Callable[[], bool]:
    return lambda: not any(process.alive for process in left)


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:  # noqa: ASYNC110 - the end of a process that is no child tells nobody
        await asyncio.sleep(_LOOK)
