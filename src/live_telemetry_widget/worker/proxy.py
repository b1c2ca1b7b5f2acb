"""Starts a worker process and publishes the events that it prints.

The daemon, or whoever may call it, can pause the worker, let it go on, slow it down and end it while it runs.

A worker prints JSON objects, one a line, on its standard output (docs/wire.md). Steps and episodes go to the daemon; every other
line goes on to our own standard output as it came, and the worker's standard error is ours. While the daemon is away, what is
not confirmed is kept, up to a limit; then the worker's pipe is no longer read, so that the worker waits and nothing is lost.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pathlib
import signal
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import grpc

from live_telemetry_widget import _names
from live_telemetry_widget._plain import plain
from live_telemetry_widget.client import Backoff
from live_telemetry_widget.errors import ConnectError, DaemonError, WorkerError
from live_telemetry_widget.proto import telemetry_pb2
from live_telemetry_widget.worker import remote
from live_telemetry_widget.worker.outlet import Outlet
from live_telemetry_widget.worker.process import Signals, WorkerProcess
from live_telemetry_widget.worker.registration import Registration
from live_telemetry_widget.worker.steering import Steering
from live_telemetry_widget.worker.versions import versions_of

if TYPE_CHECKING:
    from collections.abc import Sequence


_LOG: Final = logging.getLogger(__name__)

#: A person is told that a daemon is being waited for after so long (seconds).
_SAY_AFTER: Final = 1.0
#: When delivery has been given up, what the worker still said is read so long (seconds), to be counted.
_LAST_WORDS: Final = 1.0
_LEAST_WAIT: Final = 2.0
_LONGEST_REASON: Final = 2_000
_KILLED: Final = 128
_EX_UNAVAILABLE: Final = 69
_EX_NOT_FOUND: Final = 127


async def run_worker(  # noqa: PLR0913 - named ones, as the command line has them
    command: Sequence[str],
    *,
    daemon: str,
    run_id: str = "",
    agent_id: str = "",
    worker_id: str = "",
    name: str = "",
    stdout: BinaryIO | None = None,
    drain_timeout: float = 30.0,
    control_stdin: bool = False,
    grace: float = 5.0,
    heartbeat: float = 5.0,
    away_timeout: float = 0.0,
) -> int:
    """Run a worker command, publish its events, and return its exit code.

    SIGINT, SIGTERM and SIGHUP go to the worker's process group; one that comes when the worker has ended stops the delivery of
    what is left.

    Parameters
    ----------
    command
        The program and its arguments.
    daemon
        ``"host:port"``.
    run_id
        The run to publish to; made when the daemon has none of that id. Empty: the daemon makes a new one.
    agent_id, worker_id
        For events that name none.
    name
        The run's name for people.
    stdout
        Where lines go that are no events; our own standard output by default.
    drain_timeout
        Seconds in which the daemon may confirm what is left when the worker has ended.
    control_stdin
        The worker's standard input is for control lines, if it says that it reads them; otherwise it is ours.
    grace
        Seconds between SIGTERM and SIGKILL when the daemon cancels the run.
    heartbeat
        Seconds between heartbeats; 0: none.
    away_timeout
        End the worker when no daemon has answered a heartbeat for so many seconds; 0: never. So long, too, one is waited for at first.

    Returns
    -------
    int
        The worker's exit code; 128 and the signal's number when it was killed by one, as in shells.

    Raises
    ------
    ConnectError
        No daemon answers at the address; the worker was not started.
    DaemonError
        The daemon refuses the run; the worker was not started.
    WorkerError
        The command cannot be started.

    Examples
    --------
    >>> async def main() -> int:
    ...     return await run_worker(["python", "train.py"], daemon="127.0.0.1:50055", name="first try")
    """
    config = {
        "run_name": name or _name_of(command),
        "entry_point": command[0],
        "arguments": list(command[1:]),
        "metadata": {"agent_id": agent_id, "worker_id": worker_id, "versions": versions_of(command[0])},
    }
    registration = Registration(daemon, run_id, worker_id, config)
    try:
        await _join(registration, away_timeout)
        _LOG.info("run %s at %s: %s", registration.run_id, daemon, " ".join(command))
        outlet = Outlet(registration, agent_id, worker_id, stdout or sys.stdout.buffer)
        try:
            wishes = _Wishes(drain_timeout, control_stdin, grace, heartbeat, away_timeout)
            return await _run(command, registration, outlet, wishes)
        finally:
            outlet.abandon()
    finally:
        await registration.close()


async def _join(registration: Registration, patience: float) -> None:
    """Have a run at the daemon; one that has started us and died meanwhile has so many seconds to come back."""
    loop = asyncio.get_running_loop()
    end, backoff = loop.time() + patience, Backoff(first=0.2, most=5.0)
    waiting = loop.call_later(_SAY_AFTER, _say, f"waiting for the trainer daemon at {registration.address}")
    try:
        while True:
            try:
                await registration.open()
            except grpc.aio.AioRpcError as error:
                said = registration.translated(error)
                if isinstance(said, DaemonError) or loop.time() > end:
                    raise said from None
                _LOG.info("%s", said)
                await asyncio.sleep(backoff.next())
            else:
                return
    finally:
        waiting.cancel()


class _Wishes(NamedTuple):
    """How a worker is to be run; see :func:`run_worker`."""

    drain_timeout: float
    control_stdin: bool
    grace: float
    heartbeat: float
    away_timeout: float


async def _run(command: Sequence[str], registration: Registration, outlet: Outlet, wishes: _Wishes) -> int:
    loop = asyncio.get_running_loop()
    with Signals() as signals:
        try:
            environment = _environment(registration.run_id, control_stdin=wishes.control_stdin)
            worker = await WorkerProcess.start(command, environment, control_stdin=wishes.control_stdin)
        except WorkerError as error:
            await _finish(registration, telemetry_pb2.OUTCOME_FAILED, str(error), _LEAST_WAIT)
            raise
        steering = Steering(worker, outlet, wishes.grace)
        signals.forward_to(steering.signal)
        tasks = [asyncio.create_task(remote.listen(registration, steering.order, steering.cancel))]
        telling: list[asyncio.Task[None]] = []
        outlet.on_config = lambda config: telling.append(asyncio.create_task(registration.tell(config)))
        if wishes.heartbeat:
            beating = remote.beat(registration, wishes.heartbeat, wishes.away_timeout, steering.cancel)
            tasks.append(asyncio.create_task(beating))
        try:
            end = await _see_through(worker, outlet, wishes.drain_timeout)
        finally:
            await worker.end()
            await steering.ended()
        if telling:
            # A run that has ended takes no more word of its worker.
            await asyncio.wait(telling, timeout=_LEAST_WAIT)
            tasks += telling
        code = worker.returncode or 0
        outcome, reason = _outcome(code, outlet.completed, interrupted=steering.interrupted)
        finishing = asyncio.create_task(_finish(registration, outcome, reason, max(_LEAST_WAIT, end - loop.time())))
        await _unless_abandoned(finishing, outlet, _LEAST_WAIT)
        # Until now the daemon hears of us: to deliver what is left may take a while.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _report(outlet, registration)
    return code if code >= 0 else _KILLED - code


def _environment(run_id: str, *, control_stdin: bool) -> dict[str, str]:
    """Return the worker's: ours, what a daemon has handed over for it, and what we tell it."""
    environment = dict(os.environ)
    environment.pop(_names.CONTROL, None)  # of a proxy around us
    environment |= json.loads(environment.pop(_names.WORKER_ENVIRONMENT, "{}"))
    environment[_names.RUN_ID] = run_id
    if control_stdin:
        environment[_names.CONTROL] = "stdin"
    return environment


async def _see_through(worker: WorkerProcess, outlet: Outlet, drain_timeout: float) -> float:
    """Read and deliver to the end; return until when (on the loop's clock) the daemon may take its time."""
    loop = asyncio.get_running_loop()
    reading = asyncio.create_task(outlet.read(worker.stdout))
    exited = asyncio.create_task(worker.exited.wait())
    drain: asyncio.TimerHandle | None = None
    try:
        await asyncio.wait({reading, exited}, return_when=asyncio.FIRST_COMPLETED)
        # Nothing is gained by holding what is there of a worker that is not.
        outlet.brake.lift()
        if reading.done():
            reading.result()  # raises what went wrong in there
            await exited
        end = loop.time() + drain_timeout
        drain = loop.call_at(end, outlet.abandon)
        # Not to its end at any price: the window may be full and the daemon away, or a grandchild hold the pipe open.
        await _unless_abandoned(reading, outlet, _LAST_WORDS)
        await outlet.close()
        return end
    finally:
        if drain is not None:
            drain.cancel()
        for task in (reading, exited):
            task.cancel()


async def _unless_abandoned(task: asyncio.Task[None], outlet: Outlet, grace: float) -> None:
    """Wait for a task; once the delivery is abandoned no longer than `grace` seconds."""
    abandoned = asyncio.create_task(outlet.abandoned.wait())
    await asyncio.wait({task, abandoned}, return_when=asyncio.FIRST_COMPLETED)
    abandoned.cancel()
    if not task.done():
        await asyncio.wait({task}, timeout=grace)
    if task.done():
        task.result()
    else:
        task.cancel()


async def _finish(registration: Registration, outcome: telemetry_pb2.Outcome, reason: str, wait: float) -> None:
    loop = asyncio.get_running_loop()
    why, end, backoff = "no answer in time", loop.time() + wait, Backoff(first=0.2, most=5.0)
    try:
        while why and loop.time() < end:
            try:
                await registration.finish(outcome, reason, timeout=end - loop.time())
                why = ""
            except grpc.aio.AioRpcError as error:
                why = error.details() or error.code().name
                # Waiting for a daemon that is away is part of the call; one that dies in it may come back too.
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    break
                await asyncio.sleep(min(backoff.next(), max(0.0, end - loop.time())))
    finally:
        if why:
            _say(f"the end of run {registration.run_id} could not be told to {registration.address}: {why}")


def _outcome(code: int, completed: dict[str, Any], *, interrupted: bool) -> tuple[telemetry_pb2.Outcome, str]:
    status = completed.get("status")
    if status == "cancelled" or (interrupted and status not in {"completed", "failed"}):
        return telemetry_pb2.OUTCOME_CANCELLED, "the worker was interrupted"
    if status == "failed":
        reason = str(completed.get("error") or "the worker said that it failed")
        return telemetry_pb2.OUTCOME_FAILED, reason[:_LONGEST_REASON]
    if code < 0:
        return telemetry_pb2.OUTCOME_FAILED, f"the worker was killed by {_signal_name(-code)}"
    if code > 0:
        return telemetry_pb2.OUTCOME_FAILED, f"the worker exited with code {code}"
    return telemetry_pb2.OUTCOME_COMPLETED, ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"


def _name_of(command: Sequence[str]) -> str:
    """Return what people call a command: of a Python one its script or module.

    >>> _name_of(["/usr/bin/python3", "-u", "examples/train.py", "--fast"]), _name_of(["python", "-m", "agent.train"])
    ('train.py', 'agent.train')
    """
    name = pathlib.PurePath(command[0]).name
    if not name.startswith("python"):
        return name
    for i, part in enumerate(command[1:], start=1):
        if part in {"-m", "-c"}:
            return command[i + 1] if part == "-m" and i + 1 < len(command) else name
        if not part.startswith("-"):
            return pathlib.PurePath(part).name
    return name


def _report(outlet: Outlet, registration: Registration) -> None:
    delivery, address = outlet.delivery, registration.address
    steps, episodes = delivery.tally("steps"), delivery.tally("episodes")
    _say(f"run {registration.run_id}: {steps.confirmed} steps and {episodes.confirmed} episodes published to {address}")
    if steps.lost or episodes.lost:
        why = delivery.trouble or "no answer in time"
        _say(f"{steps.lost} steps and {episodes.lost} episodes could not be delivered to {address}: {why}")
    if steps.dropped or episodes.dropped:
        _say(f"{address} dropped {steps.dropped} steps and {episodes.dropped} episodes, as it says")
    if outlet.problems:
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(outlet.problems.items()))
        _say(f"problems in the worker's output: {counts}")
        for kind, detail in sorted(outlet.samples.items()):
            _say(f"  the first {kind}: {detail}")


def _say(text: str) -> None:
    sys.stderr.write(f"live-telemetry: {plain(text)}\n")


def run(command: Sequence[str], **options: Any) -> int:  # noqa: ANN401 - those of run_worker
    """Run :func:`run_worker` to its end, for a command line; errors are said on standard error.

    Returns
    -------
    int
        As :func:`run_worker`; 127 when the command cannot be started, 69 when there is no daemon or it refuses the run.
    """
    try:
        return asyncio.run(run_worker(command, **options))
    except WorkerError as error:
        _say(str(error))
        return _EX_NOT_FOUND
    except (ConnectError, DaemonError) as error:
        _say(str(error))
        return _EX_UNAVAILABLE
