"""Starts a worker process and publishes the events that it prints.

A worker prints JSON objects, one a line, on its standard output (docs/wire.md). Steps and episodes go to the daemon; every other
line goes on to our own standard output as it came, and the worker's standard error is ours.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import grpc

from live_telemetry_widget import normalize
from live_telemetry_widget.client import CHANNEL_OPTIONS
from live_telemetry_widget.errors import ConnectError, DaemonError, WorkerError
from live_telemetry_widget.proto import telemetry_pb2, telemetry_pb2_grpc, trainer_pb2, trainer_pb2_grpc
from live_telemetry_widget.worker.lines import LineCutter
from live_telemetry_widget.worker.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOG: Final = logging.getLogger(__name__)

#: The environment variable in which the worker finds the id of its run.
RUN_ID_VARIABLE: Final = "LTW_RUN_ID"

_READ: Final = 256 * 1024
_CALL_TIMEOUT: Final = 10.0
_KILLED: Final = 128
_EX_UNAVAILABLE: Final = 69
_EX_NOT_FOUND: Final = 127


class _Daemon:
    """The daemon as the proxy needs it: a run, two publish calls, an end."""

    def __init__(self, address: str, run_id: str, worker_id: str, config: dict[str, Any]) -> None:
        self.address = address
        self.run_id = run_id
        self._worker_id = worker_id
        self._config = config
        self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.trainer = trainer_pb2_grpc.TrainerServiceStub(self.channel)
        self._telemetry = telemetry_pb2_grpc.TelemetryServiceStub(self.channel)
        self._ours = True

    async def open(self) -> None:
        """Have a run at the daemon, and shake hands."""
        try:
            request = telemetry_pb2.OpenRunRequest(run_id=self.run_id, config_json=json.dumps(self._config))
            answer = await self._telemetry.OpenRun(request, timeout=_CALL_TIMEOUT, wait_for_ready=True)
            self.run_id = answer.run_id
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
            self._ours = False
            await self._submit()
        request = trainer_pb2.RegisterWorkerRequest(
            run_id=self.run_id, worker_id=self._worker_id, worker_kind="proxy", proto_version="MOSAIC/1.0"
        )
        try:
            await self.trainer.RegisterWorker(request, timeout=_CALL_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:  # generation 1 knows no handshake
                raise

    async def _submit(self) -> None:
        """Make the run at another's daemon, unless it is there (it is when that daemon started us)."""
        if self.run_id:
            listed = await self.trainer.ListRuns(trainer_pb2.ListRunsRequest(), timeout=_CALL_TIMEOUT)
            if any(run.run_id == self.run_id for run in listed.runs):
                return
        # Such a daemon starts what is submitted. The worker is started here, so it gets a command that does nothing.
        config = {
            **self._config,
            "entry_point": sys.executable,
            "arguments": ["-c", ""],
            "environment": {},
            "resources": {"cpus": 1, "memory_mb": 256, "gpus": {"requested": 0, "mandatory": False}},
            "artifacts": {"output_prefix": "", "persist_logs": False, "keep_checkpoints": False},
            "metadata": {"worker": {"config": {"run_id": self.run_id}}},
        }
        request = trainer_pb2.SubmitRunRequest(run_id=self.run_id, config_json=json.dumps(config))
        answer = await self.trainer.SubmitRun(request, timeout=_CALL_TIMEOUT)
        self.run_id = answer.run_id

    async def finish(self, outcome: telemetry_pb2.Outcome, reason: str) -> None:
        """Say how the run ended; another's daemon has no ear for that."""
        if not self._ours:
            return
        request = telemetry_pb2.FinishRunRequest(run_id=self.run_id, outcome=outcome, reason=reason)
        await self._telemetry.FinishRun(request, timeout=_CALL_TIMEOUT)


class _Outlet:
    """Sorts a worker's lines: events to the publishers, the rest to our standard output."""

    def __init__(self, daemon: _Daemon, agent_id: str, worker_id: str, stdout: BinaryIO) -> None:
        self._names = {"run_id": daemon.run_id, "agent_id": agent_id, "worker_id": worker_id}
        self._stdout = stdout
        self._cutter = LineCutter()
        self.steps = Publisher("steps", daemon.trainer.PublishRunSteps, daemon.open)
        self.episodes = Publisher("episodes", daemon.trainer.PublishRunEpisodes, daemon.open)
        self.problems: collections.Counter[str] = collections.Counter()
        self.completed: dict[str, Any] = {}

    async def take(self, data: bytes) -> None:
        """Take output of the worker as it comes."""
        await self._lines(self._cutter.feed(data))

    async def end(self) -> None:
        """Take what stands after the last line's end: an event if it is whole, cut by a crash otherwise."""
        rest = self._cutter.rest()
        if rest:
            if rest.lstrip().startswith(b"{") and normalize.parse_line(rest) is None:
                self.problems["torn_line"] += 1
            await self._lines([rest])
        if self._cutter.too_long:
            self.problems["line_too_long"] += self._cutter.too_long

    async def _lines(self, lines: list[bytes]) -> None:
        steps: list[dict[str, Any]] = []
        episodes: list[dict[str, Any]] = []
        for line in lines:
            event = normalize.parse_line(line)
            if event is None:
                self._stdout.write(line)
            elif event["type"] == "step":
                steps.append(event)
            elif event["type"] == "episode":
                episodes.append(event)
            else:
                _LOG.info("%s: %s", event["type"], line.decode(errors="replace").strip())
                if event["type"] == "run_completed":
                    self.completed = event
        self._stdout.flush()
        if steps:
            batch, problems = normalize.steps_from_events(steps, **self._names)
            self._count(problems)
            await self.steps.put(normalize.step_messages(batch))
        if episodes:
            batch, problems = normalize.episodes_from_events(episodes, **self._names)
            self._count(problems)
            await self.episodes.put(normalize.episode_messages(batch))

    def _count(self, problems: list[normalize.Problem]) -> None:
        for problem in problems:
            self.problems[problem.kind] += problem.count
            _LOG.debug("%s: %s", problem.kind, problem.detail)


async def run_worker(
    command: Sequence[str],
    *,
    daemon: str,
    run_id: str = "",
    agent_id: str = "",
    worker_id: str = "",
    name: str = "",
    stdout: BinaryIO | None = None,
    drain_timeout: float = 30.0,
) -> int:
    """Run a worker command, publish its events, and return its exit code.

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
    """
    config = {"run_name": name or os.path.basename(command[0]), "entry_point": command[0], "arguments": list(command[1:])}  # noqa: PTH119
    at = _Daemon(daemon, run_id, worker_id, config)
    try:
        try:
            await at.open()
        except grpc.aio.AioRpcError as error:
            raise _translated(error, daemon) from error
        _LOG.info("run %s at %s: %s", at.run_id, daemon, " ".join(command))
        return await _run(command, at, _Outlet(at, agent_id, worker_id, stdout or sys.stdout.buffer), drain_timeout)
    finally:
        await at.channel.close()


def _translated(error: grpc.aio.AioRpcError, daemon: str) -> ConnectError | DaemonError:
    if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return ConnectError(
            f"no trainer daemon answers at {daemon} ({error.details()}); start one with: live-telemetry serve --listen {daemon}"
        )
    return DaemonError(f"the daemon at {daemon} refuses the run: {error.code().name}: {error.details()}")


async def _run(command: Sequence[str], daemon: _Daemon, outlet: _Outlet, drain_timeout: float) -> int:
    environment = {**os.environ, RUN_ID_VARIABLE: daemon.run_id}
    try:
        worker = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, env=environment, start_new_session=True
        )
    except OSError as error:
        reason = f"cannot start {command[0]!r}: {error.strerror or error}"
        await outlet.steps.close(0)
        await outlet.episodes.close(0)
        await daemon.finish(telemetry_pb2.OUTCOME_FAILED, reason)
        raise WorkerError(reason) from error
    interrupted: list[int] = []

    def forward(number: int) -> None:
        interrupted.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, forward, number)
    reader = worker.stdout
    if reader is None:  # pragma: no cover - a pipe was asked for
        msg = "the worker has no standard output"
        raise WorkerError(msg)
    while data := await reader.read(_READ):
        await outlet.take(data)
    await outlet.end()
    code = await worker.wait()
    # Steps first: an episode's record is of use when its steps are there.
    await outlet.steps.close(drain_timeout)
    await outlet.episodes.close(drain_timeout)
    outcome, reason = _outcome(code, outlet.completed, interrupted=bool(interrupted))
    try:
        await daemon.finish(outcome, reason)
    except grpc.aio.AioRpcError as error:
        _say(f"the end of run {daemon.run_id} could not be told to {daemon.address}: {error.details()}")
    _report(outlet, daemon.address)
    return code if code >= 0 else _KILLED - code


def _outcome(code: int, completed: dict[str, Any], *, interrupted: bool) -> tuple[telemetry_pb2.Outcome, str]:
    status = completed.get("status")
    if status == "cancelled" or (interrupted and status != "completed"):
        return telemetry_pb2.OUTCOME_CANCELLED, "the worker was interrupted"
    if status == "failed":
        return telemetry_pb2.OUTCOME_FAILED, str(completed.get("error") or "the worker said that it failed")[:2_000]
    if code < 0:
        return telemetry_pb2.OUTCOME_FAILED, f"the worker was killed by {signal.Signals(-code).name}"
    if code > 0:
        return telemetry_pb2.OUTCOME_FAILED, f"the worker exited with code {code}"
    return telemetry_pb2.OUTCOME_COMPLETED, ""


def _report(outlet: _Outlet, address: str) -> None:
    for publisher in (outlet.steps, outlet.episodes):
        if publisher.lost:
            _say(f"{publisher.lost} {publisher.what} could not be delivered to {address}: {publisher.failure}")
    if outlet.problems:
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(outlet.problems.items()))
        _say(f"problems in the worker's output: {counts}")


def _say(text: str) -> None:
    sys.stderr.write(f"live-telemetry: {text}\n")


def run(command: Sequence[str], **options: Any) -> int:  # noqa: ANN401 - those of run_worker
    """Run :func:`run_worker` to its end, for a command line; errors are said on standard error."""
    try:
        return asyncio.run(run_worker(command, **options))
    except WorkerError as error:
        _say(str(error))
        return _EX_NOT_FOUND
    except (ConnectError, DaemonError) as error:
        _say(str(error))
        return _EX_UNAVAILABLE
