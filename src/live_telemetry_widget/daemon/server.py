"""The gRPC services of the daemon: ``gymgui.trainer.TrainerService`` (generation 2) and our own ``TelemetryService``."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import grpc

from live_telemetry_widget import normalize
from live_telemetry_widget.client import MAX_MESSAGE
from live_telemetry_widget.daemon.log import Log
from live_telemetry_widget.daemon.runs import ConfigError, Registry, StateError
from live_telemetry_widget.errors import ConnectError, RunNotFoundError
from live_telemetry_widget.proto import telemetry_pb2, telemetry_pb2_grpc, trainer_pb2, trainer_pb2_grpc
from live_telemetry_widget.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from live_telemetry_widget.store import Kind, RunRow

_LOG: Final = logging.getLogger(__name__)
_Context = grpc.aio.ServicerContext

#: A publisher's messages become a batch this often (seconds), or when so many wait.
_GATHER: Final = 0.01
_GATHER_AT: Final = 1_024
_LOOPBACK: Final = ("127.", "localhost:", "[::1]:", "unix:")

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.so_reuseport", 0),  # a second daemon on the port must fail, not share it
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)


@contextlib.contextmanager
def _answers() -> Iterator[None]:
    """Turn our errors into status codes (as an exception that :func:`_guarded` hands to gRPC)."""
    try:
        yield
    except RunNotFoundError as error:
        raise _Abort(grpc.StatusCode.NOT_FOUND, str(error)) from error
    except ConfigError as error:
        raise _Abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
    except StateError as error:
        raise _Abort(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from error


class _Abort(Exception):  # noqa: N818 - not an error of ours: the answer to a call
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


async def _guarded(context: _Context, work: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever the call answers
    try:
        with _answers():
            return await work
    except _Abort as abort:
        await context.abort(abort.code, abort.details)


def _need_run_id(run_id: str) -> str:
    if not run_id:
        raise _Abort(grpc.StatusCode.INVALID_ARGUMENT, "run_id is empty; name the run")
    return run_id


class TrainerService(trainer_pb2_grpc.TrainerServiceServicer):
    """The wire that clients, proxies and workers in use speak."""

    def __init__(self, log: Log, runs: Registry, *, strict: bool) -> None:
        self._log = log
        self._runs = runs
        self._strict = strict
        self._started_at = time.time_ns()
        self.address = ""

    # -- runs --------------------------------------------------------------------------------------------------------

    async def SubmitRun(  # noqa: N802 - gRPC's names, here and below
        self, request: trainer_pb2.SubmitRunRequest, context: _Context
    ) -> trainer_pb2.SubmitRunResponse:
        """Make a run. It is not started here yet: its worker comes by itself."""
        run: RunRow = await _guarded(context, self._runs.submit(request.run_id, request.config_json))
        return trainer_pb2.SubmitRunResponse(run_id=run.run_id, digest=run.digest)

    async def CancelRun(  # noqa: N802
        self, request: trainer_pb2.CancelRunRequest, context: _Context
    ) -> trainer_pb2.CancelRunResponse:
        """End a run."""
        await _guarded(context, self._runs.end(request.run_id, "cancelled by request"))
        return trainer_pb2.CancelRunResponse()

    async def ListRuns(  # noqa: N802
        self, request: trainer_pb2.ListRunsRequest, _: _Context
    ) -> trainer_pb2.ListRunsResponse:
        """Return the runs, or those in some states."""
        runs = self._runs.list(set(request.status_filter))
        return trainer_pb2.ListRunsResponse(runs=[_record(run, run.record_seq) for run in runs])

    async def WatchRuns(  # noqa: N802
        self, request: trainer_pb2.WatchRunsRequest, _: _Context
    ) -> AsyncIterator[trainer_pb2.RunRecord]:
        """Stream the runs as they are, then each change."""
        statuses = set(request.status_filter)
        async for run, seq in self._runs.watch(request.since_seq):
            if not statuses or run.status in statuses:
                yield _record(run, seq)

    async def Heartbeat(  # noqa: N802
        self, request: trainer_pb2.HeartbeatRequest, context: _Context
    ) -> trainer_pb2.HeartbeatResponse:
        """Note a sign of life."""
        await _guarded(context, self._runs.heartbeat(request.run_id))
        return trainer_pb2.HeartbeatResponse()

    async def GetHealth(  # noqa: N802
        self, _: trainer_pb2.HealthCheckRequest, __: _Context
    ) -> trainer_pb2.HealthCheckResponse:
        """Say who answers."""
        answer = trainer_pb2.HealthCheckResponse(pid=os.getpid(), listen_address=self.address, healthy=True)
        answer.started_at.FromNanoseconds(self._started_at)
        return answer

    async def RegisterWorker(  # noqa: N802
        self, request: trainer_pb2.RegisterWorkerRequest, context: _Context
    ) -> trainer_pb2.RegisterWorkerResponse:
        """Take a worker's handshake."""

        async def register() -> str:
            return await self._runs.register(_need_run_id(request.run_id), request.worker_id)

        token: str = await _guarded(context, register())
        version = request.proto_version or "MOSAIC/1.0"
        return trainer_pb2.RegisterWorkerResponse(accepted_version=version, session_token=token)

    async def ControlStream(  # noqa: N802
        self, _: AsyncIterator[trainer_pb2.ControlEvent], context: _Context
    ) -> AsyncIterator[trainer_pb2.ControlEvent]:
        """Answer as generation 2 does today."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this daemon does not steer workers yet")
        yield trainer_pb2.ControlEvent()  # pragma: no cover - makes this a stream

    # -- telemetry ---------------------------------------------------------------------------------------------------

    async def PublishRunSteps(  # noqa: N802
        self, requests: AsyncIterator[trainer_pb2.RunStep], context: _Context
    ) -> trainer_pb2.PublishTelemetryResponse:
        """Commit a stream of steps; the answer counts what is committed."""
        publishing = self._publish(requests, "steps", normalize.steps_from_messages)
        return await _guarded(context, publishing)  # type: ignore[no-any-return]

    async def PublishRunEpisodes(  # noqa: N802
        self, requests: AsyncIterator[trainer_pb2.RunEpisode], context: _Context
    ) -> trainer_pb2.PublishTelemetryResponse:
        """Commit a stream of episodes likewise."""
        publishing = self._publish(requests, "episodes", normalize.episodes_from_messages)
        return await _guarded(context, publishing)  # type: ignore[no-any-return]

    async def _publish(
        self, requests: AsyncIterator[Any], kind: Kind, to_batch: Callable[[list[Any]], normalize.Batch]
    ) -> trainer_pb2.PublishTelemetryResponse:
        intake = _Intake(self._log, kind, to_batch)
        run_id = ""
        try:
            async for message in requests:
                if not run_id:
                    run_id = _need_run_id(message.run_id)
                    self._runs.get(run_id)
                    if self._strict and not self._runs.registered(run_id):
                        raise StateError(f"no worker of run {run_id!r} has registered; call RegisterWorker first")  # noqa: TRY003, EM102
                    await self._runs.started(run_id)
                elif message.run_id != run_id:
                    text = f"a stream publishes one run: it began with {run_id!r}, then came {message.run_id!r}"
                    raise _Abort(grpc.StatusCode.INVALID_ARGUMENT, text)
                await intake.take(run_id, message)
        finally:
            # What was received is kept, also when the stream breaks off.
            await asyncio.shield(intake.finish(run_id))
        return trainer_pb2.PublishTelemetryResponse(accepted=intake.accepted, dropped=intake.left_out)

    async def StreamRunSteps(  # noqa: N802
        self, request: trainer_pb2.StreamStepsRequest, context: _Context
    ) -> AsyncIterator[trainer_pb2.RunStep]:
        """Stream every step after since_seq, then live ones."""
        async for batch in self._stream(request, "steps", context):
            for message in normalize.step_messages(batch):
                yield message

    async def StreamRunEpisodes(  # noqa: N802
        self, request: trainer_pb2.StreamEpisodesRequest, context: _Context
    ) -> AsyncIterator[trainer_pb2.RunEpisode]:
        """Stream every episode after since_seq, then live ones."""
        async for batch in self._stream(request, "episodes", context):
            for message in normalize.episode_messages(batch):
                yield message

    async def _stream(
        self, request: trainer_pb2.StreamStepsRequest | trainer_pb2.StreamEpisodesRequest, kind: Kind, context: _Context
    ) -> AsyncIterator[Any]:
        if not request.run_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "run_id is empty; name the run to stream")
        async for batch in self._log.follow(request.run_id, kind, request.since_seq):
            yield batch


class _Intake:
    """Gathers one publisher's messages into batches and commits them in order."""

    def __init__(self, log: Log, kind: Kind, to_batch: Callable[[list[Any]], normalize.Batch]) -> None:
        self._log = log
        self._kind: Kind = kind
        self._to_batch = to_batch
        self._messages: list[Any] = []
        self._timer: asyncio.TimerHandle | None = None
        self._commits: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None
        self._warned: set[str] = set()
        self.accepted = 0
        self.left_out = 0

    async def take(self, run_id: str, message: object) -> None:
        """Take a message; waits when commits do not keep up, so that the publisher is held back."""
        self._messages.append(message)
        if len(self._messages) >= _GATHER_AT:
            self._flush(run_id)
            while len(self._commits) > 4 and self._failed is None:  # noqa: PLR2004 - some in flight, not all
                await asyncio.wait(self._commits, return_when=asyncio.FIRST_COMPLETED)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER, self._flush, run_id)
        if self._failed is not None:
            raise self._failed

    def _flush(self, run_id: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        messages, self._messages = self._messages, []
        if not messages:
            return
        batch, problems = self._to_batch(messages)
        self.left_out += len(messages) - batch.num_rows
        kinds = collections.Counter(problem.kind for problem in problems)
        for kind in kinds.keys() - self._warned:
            self._warned.add(kind)
            _LOG.warning("run %s sends %s with problems: %s", run_id, self._kind, problems[0].detail)
        if batch.num_rows:
            task = asyncio.create_task(self._commit(run_id, batch))
            self._commits.add(task)
            task.add_done_callback(self._commits.discard)

    async def _commit(self, run_id: str, batch: Any) -> None:  # noqa: ANN401 - a record batch
        try:
            appended = await self._log.append(run_id, self._kind, batch)
            self.accepted += appended.last_seq - appended.first_seq + 1
        except Exception as error:
            _LOG.exception("run %s: %d %s could not be committed", run_id, batch.num_rows, self._kind)
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            self._failed = _Abort(code, f"{batch.num_rows} {self._kind} could not be committed: {error}")

    async def finish(self, run_id: str) -> None:
        """Commit the rest.

        Raises
        ------
        _Abort
            Something could not be committed.
        """
        self._flush(run_id)
        if self._commits:
            await asyncio.wait(self._commits)
        if self._failed is not None:
            raise self._failed


class TelemetryService(telemetry_pb2_grpc.TelemetryServiceServicer):
    """What our own clients and proxies ask for beside the wire in use."""

    def __init__(self, log: Log, runs: Registry) -> None:
        self._log = log
        self._runs = runs

    async def OpenRun(  # noqa: N802
        self, request: telemetry_pb2.OpenRunRequest, context: _Context
    ) -> telemetry_pb2.OpenRunResponse:
        """Make a run for a worker that the daemon does not start."""
        run, created = await _guarded(context, self._runs.open(request.run_id, request.config_json))
        return telemetry_pb2.OpenRunResponse(run_id=run.run_id, created=created)

    async def FinishRun(  # noqa: N802
        self, request: telemetry_pb2.FinishRunRequest, context: _Context
    ) -> telemetry_pb2.FinishRunResponse:
        """Note how such a run ended."""
        reason = request.reason
        if request.outcome == telemetry_pb2.OUTCOME_COMPLETED:
            reason = ""
        elif request.outcome == telemetry_pb2.OUTCOME_CANCELLED:
            reason = f"cancelled: {reason}" if reason else "cancelled"
        elif not reason:
            reason = "failed, for no reason given"
        await _guarded(context, self._runs.end(request.run_id, reason))
        return telemetry_pb2.FinishRunResponse()

    async def DescribeRun(  # noqa: N802
        self, request: telemetry_pb2.DescribeRunRequest, context: _Context
    ) -> telemetry_pb2.DescribeRunResponse:
        """Say how much there is of a run, and what it was submitted with."""

        async def describe() -> telemetry_pb2.DescribeRunResponse:
            run = self._runs.get(request.run_id)
            # The state first: steps committed after it was read are no less there.
            ended = run.status == trainer_pb2.RUN_STATUS_TERM
            steps = await self._log.last_seq(run.run_id, "steps")
            episodes = await self._log.last_seq(run.run_id, "episodes")
            return telemetry_pb2.DescribeRunResponse(
                run_id=run.run_id,
                config_json=run.config_json,
                last_step_seq=steps,
                last_episode_seq=episodes,
                total_steps=steps,
                total_episodes=episodes,
                ended=ended,
            )

        return await _guarded(context, describe())  # type: ignore[no-any-return]


def _record(run: RunRow, seq: int) -> trainer_pb2.RunRecord:
    record = trainer_pb2.RunRecord(run_id=run.run_id, digest=run.digest, seq_id=seq)
    record.status = run.status  # type: ignore[assignment]  # an int is what the wire has
    record.created_at.FromNanoseconds(run.created_at)
    record.updated_at.FromNanoseconds(run.updated_at)
    if run.last_heartbeat is not None:
        record.last_heartbeat.FromNanoseconds(run.last_heartbeat)
    if run.failure_reason:
        record.failure_reason = run.failure_reason
    return record


async def serve(
    listen: str,
    data_dir: Path,
    *,
    strict: bool = False,
    ready: Callable[[str], None] = lambda _: None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run a daemon until it is told to stop (SIGTERM, SIGINT, or `stop`); then commit what is under way and close.

    Parameters
    ----------
    listen
        ``"host:port"``; port 0 takes a free one.
    ready
        Called with the real address once it answers there.

    Raises
    ------
    ConnectError
        The address cannot be taken.
    RecordingError
        The directory cannot be used.
    """
    stop = stop or asyncio.Event()
    log = Log(Store(data_dir))
    try:
        runs = Registry(log)
        await runs.load()
        server = grpc.aio.server(options=_OPTIONS)
        trainer = TrainerService(log, runs, strict=strict)
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(trainer, server)
        telemetry_pb2_grpc.add_TelemetryServiceServicer_to_server(TelemetryService(log, runs), server)
        address = _bind(server, listen)
        trainer.address = address
        await server.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        ready(address)
        _LOG.info("serving on %s, data in %s", address, data_dir)
        await stop.wait()
        await server.stop(grace=1.0)
    finally:
        await log.close()


def _bind(server: grpc.aio.Server, listen: str) -> str:
    if not listen.startswith(_LOOPBACK):
        _LOG.warning("%s can be reached from other machines, and whoever reaches it can read and write runs", listen)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        msg = f"cannot listen on {listen}: {error}; is another daemon there? Choose another with --listen HOST:PORT"
        raise ConnectError(msg) from error
    host = listen.rpartition(":")[0]
    return f"{host}:{port}"
