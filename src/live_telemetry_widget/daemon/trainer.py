"""``gymgui.trainer.TrainerService`` as of generation 2: the wire that clients, proxies and workers in use speak."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

import grpc

from live_telemetry_widget import _names, normalize
from live_telemetry_widget.daemon import callers
from live_telemetry_widget.daemon import config as run_config
from live_telemetry_widget.daemon.publish import Numbering
from live_telemetry_widget.daemon.refusal import RefusalError, answering, invalid, metadata_of, session_token
from live_telemetry_widget.proto import trainer_pb2, trainer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from live_telemetry_widget.daemon.control import Relay
    from live_telemetry_widget.daemon.dispatch import Dispatcher
    from live_telemetry_widget.daemon.publish import Intake
    from live_telemetry_widget.daemon.refusal import Context
    from live_telemetry_widget.daemon.settings import Dispatch
    from live_telemetry_widget.store import Kind, RunRow

#: Rows that are turned into messages in one go: some milliseconds, in which the loop does nothing else.
_ROWS_AT_ONCE: Final = 256


class TrainerService(trainer_pb2_grpc.TrainerServiceServicer):
    """Every call of the wire; see the ``.proto`` file for what each is for.

    Parameters
    ----------
    dispatch
        Whose submitted commands are run.
    address
        Where the daemon listens.
    """

    def __init__(
        self, intake: Intake, dispatcher: Dispatcher, relay: Relay, *, dispatch: Dispatch, address: str
    ) -> None:
        self._intake = intake
        self._log = intake.log
        self._runs = intake.runs
        self._dispatcher = dispatcher
        self._relay = relay
        self._dispatch = dispatch
        self._address = address
        self._started_at = time.time_ns()
        #: Set when the daemon is about to end.
        self.stopping = False

    # -- runs --------------------------------------------------------------------------------------------------------

    async def SubmitRun(  # noqa: N802 - gRPC's names, here and below
        self, request: trainer_pb2.SubmitRunRequest, context: Context
    ) -> trainer_pb2.SubmitRunResponse:
        """Make a run and start its worker; or answer the run that the same config has made before."""
        async with answering(context):
            digest = run_config.digest_of(run_config.parse_config(request.config_json))
            run = self._runs.of_digest(digest)
            if run is None:
                self._check_caller(context.peer())
                run = await self._dispatcher.submit(request.run_id, request.config_json)
        return trainer_pb2.SubmitRunResponse(run_id=run.run_id, digest=run.digest)

    def _check_caller(self, peer: str) -> None:
        """Refuse to run a command for somebody who could not run it without us."""
        if self._dispatch != "same-user":
            return
        port = self._address.rpartition(":")[2]
        why = callers.why_not_same_user(peer, int(port) if port.isdigit() else 0)
        if why:
            msg = (
                f"commands are run only for the daemon's own user on its own machine, and {why}. "
                "Start the daemon with --dispatch anyone to run those of everybody who reaches it"
            )
            raise RefusalError(grpc.StatusCode.PERMISSION_DENIED, msg)

    async def CancelRun(  # noqa: N802
        self, request: trainer_pb2.CancelRunRequest, context: Context
    ) -> trainer_pb2.CancelRunResponse:
        """Have a run's worker ended. The run ends when the worker has; WatchRuns tells."""
        async with answering(context):
            await self._dispatcher.cancel(request.run_id)
        return trainer_pb2.CancelRunResponse()

    async def ListRuns(  # noqa: N802
        self, request: trainer_pb2.ListRunsRequest, _: Context
    ) -> trainer_pb2.ListRunsResponse:
        """Answer the runs, or those in some states."""
        runs = self._runs.list(frozenset(request.status_filter))
        return trainer_pb2.ListRunsResponse(runs=[self._record(run, run.record_seq) for run in runs])

    async def WatchRuns(  # noqa: N802
        self, request: trainer_pb2.WatchRunsRequest, context: Context
    ) -> AsyncIterator[trainer_pb2.RunRecord]:
        """Stream the runs as they are, then each change; or the changes after a number."""
        statuses = frozenset(request.status_filter)
        async with answering(context):
            async for run, seq in self._runs.watch(request.since_seq):
                if not statuses or run.status in statuses:
                    yield self._record(run, seq)

    async def Heartbeat(  # noqa: N802
        self, request: trainer_pb2.HeartbeatRequest, context: Context
    ) -> trainer_pb2.HeartbeatResponse:
        """Note a sign of life."""
        async with answering(context):
            await self._runs.heartbeat(request.run_id)
        return trainer_pb2.HeartbeatResponse()

    async def GetHealth(  # noqa: N802
        self, _: trainer_pb2.HealthCheckRequest, __: Context
    ) -> trainer_pb2.HealthCheckResponse:
        """Say who answers; not healthy while commits fail, or the daemon is about to end."""
        healthy = not self._log.trouble and not self.stopping
        answer = trainer_pb2.HealthCheckResponse(pid=os.getpid(), listen_address=self._address, healthy=healthy)
        answer.started_at.FromNanoseconds(self._started_at)
        return answer

    async def RegisterWorker(  # noqa: N802
        self, request: trainer_pb2.RegisterWorkerRequest, context: Context
    ) -> trainer_pb2.RegisterWorkerResponse:
        """Take a worker's handshake."""
        async with answering(context):
            if not request.run_id:
                msg = "run_id is empty; name the run that the worker is of"
                raise invalid(msg)
            takes_control = request.supports_pause
            token = await self._runs.register(request.run_id, request.worker_id, takes_control=takes_control)
        version = request.proto_version or "MOSAIC/1.0"
        return trainer_pb2.RegisterWorkerResponse(accepted_version=version, session_token=token)

    async def ControlStream(  # noqa: N802
        self, events: AsyncIterator[trainer_pb2.ControlEvent], context: Context
    ) -> AsyncIterator[trainer_pb2.ControlEvent]:
        """Relay what a person wants of a worker to its proxy; see :mod:`.control`."""
        async with answering(context):
            async for event in self._relay.serve(events, session_token(context)):
                yield event

    # -- telemetry ---------------------------------------------------------------------------------------------------

    async def PublishRunSteps(  # noqa: N802
        self, messages: AsyncIterator[trainer_pb2.RunStep], context: Context
    ) -> trainer_pb2.PublishTelemetryResponse:
        """Commit a stream of steps; the answer counts what is committed."""
        async with answering(context):
            return await self._intake.publish("steps", messages, session_token(context), _numbering(context))

    async def PublishRunEpisodes(  # noqa: N802
        self, messages: AsyncIterator[trainer_pb2.RunEpisode], context: Context
    ) -> trainer_pb2.PublishTelemetryResponse:
        """Commit a stream of episodes likewise."""
        async with answering(context):
            return await self._intake.publish("episodes", messages, session_token(context), _numbering(context))

    async def StreamRunSteps(  # noqa: N802
        self, request: trainer_pb2.StreamStepsRequest, context: Context
    ) -> AsyncIterator[trainer_pb2.RunStep]:
        """Stream every step after since_seq, then live ones."""
        async with answering(context):
            async for batch in self._follow(request, "steps"):
                for message in normalize.step_messages(batch):
                    yield message

    async def StreamRunEpisodes(  # noqa: N802
        self, request: trainer_pb2.StreamEpisodesRequest, context: Context
    ) -> AsyncIterator[trainer_pb2.RunEpisode]:
        """Stream every episode after since_seq, then live ones."""
        async with answering(context):
            async for batch in self._follow(request, "episodes"):
                for message in normalize.episode_messages(batch):
                    yield message

    async def _follow(
        self, request: trainer_pb2.StreamStepsRequest | trainer_pb2.StreamEpisodesRequest, kind: Kind
    ) -> AsyncIterator[Any]:
        if not request.run_id:
            msg = "run_id is empty; name the run to stream"
            raise invalid(msg)
        at = request.since_seq
        while True:
            batch = await self._log.after(request.run_id, kind, at)
            for offset in range(0, batch.num_rows, _ROWS_AT_ONCE):
                yield batch.slice(offset, _ROWS_AT_ONCE)
            at += batch.num_rows

    def _record(self, run: RunRow, seq: int) -> trainer_pb2.RunRecord:
        gpus = self._dispatcher.gpus_of(run.run_id)
        record = trainer_pb2.RunRecord(run_id=run.run_id, digest=run.digest, seq_id=seq, gpu_slots=gpus)
        if gpus:
            record.gpu_slot = gpus[0]
        record.status = run.status  # type: ignore[assignment]  # an int is what the wire has
        record.created_at.FromNanoseconds(run.created_at)
        record.updated_at.FromNanoseconds(run.updated_at)
        if run.last_heartbeat is not None:
            record.last_heartbeat.FromNanoseconds(run.last_heartbeat)
        if run.failure_reason:
            record.failure_reason = run.failure_reason
        return record


def _numbering(context: Context) -> Numbering | None:
    """Return what the caller says of the numbers of its messages; None when it does not number them."""
    producer, first = metadata_of(context, _names.PRODUCER), metadata_of(context, _names.FIRST)
    if not producer:
        return None
    if not (first.isascii() and first.isdigit() and len(first) < len(str(2**63))):
        msg = f"{_names.FIRST} is {first!r}; give the number of the stream's first message, counted from 0"
        raise invalid(msg)
    return Numbering(producer, int(first))
