"""``live_telemetry.v1.TelemetryService``: what our own clients and proxies ask for beside the wire in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from live_telemetry_widget.daemon import streams
from live_telemetry_widget.daemon.refusal import answering, invalid, session_token
from live_telemetry_widget.daemon.runs import ENDED
from live_telemetry_widget.proto import telemetry_pb2, telemetry_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from live_telemetry_widget.daemon.log import DurableLog
    from live_telemetry_widget.daemon.publish import Intake
    from live_telemetry_widget.daemon.refusal import Context
    from live_telemetry_widget.daemon.runs import Registry


class TelemetryService(telemetry_pb2_grpc.TelemetryServiceServicer):
    """Runs of workers that the daemon does not start, and how much there is of a run."""

    def __init__(self, log: DurableLog, runs: Registry, intake: Intake) -> None:
        self._log = log
        self._runs = runs
        self._intake = intake

    async def OpenRun(  # noqa: N802 - gRPC's names, here and below
        self, request: telemetry_pb2.OpenRunRequest, context: Context
    ) -> telemetry_pb2.OpenRunResponse:
        """Make a run, or answer the one that is there, with what its worker adds to its config."""
        async with answering(context):
            run, created = await self._runs.open(request.run_id, request.config_json)
        return telemetry_pb2.OpenRunResponse(run_id=run.run_id, created=created)

    async def FinishRun(  # noqa: N802
        self, request: telemetry_pb2.FinishRunRequest, context: Context
    ) -> telemetry_pb2.FinishRunResponse:
        """Note how a run ended; the first outcome stands."""
        async with answering(context):
            await self._runs.end(request.run_id, _failure_reason(request))
        return telemetry_pb2.FinishRunResponse()

    async def DescribeRun(  # noqa: N802
        self, request: telemetry_pb2.DescribeRunRequest, context: Context
    ) -> telemetry_pb2.DescribeRunResponse:
        """Say how much there is of a run, and with what config it was made."""
        async with answering(context):
            run = self._runs.find(request.run_id)
        # Numbers are contiguous from 1, so the last one is also how many there are.
        steps, episodes = (self._log.last_seq(run.run_id, kind) for kind in ("steps", "episodes"))
        return telemetry_pb2.DescribeRunResponse(
            run_id=run.run_id,
            config_json=run.config_json,
            last_step_seq=steps,
            last_episode_seq=episodes,
            total_steps=steps,
            total_episodes=episodes,
            ended=run.status in ENDED,
        )

    async def PublishBatches(  # noqa: N802
        self, requests: AsyncIterator[telemetry_pb2.PublishBatch], context: Context
    ) -> AsyncIterator[telemetry_pb2.PublishAck]:
        """Commit batches of rows; answer how far they are committed."""
        async with answering(context):
            async for ack in streams.publish(self._intake, requests, session_token(context)):
                yield ack

    async def StreamBatches(  # noqa: N802
        self, requests: AsyncIterator[telemetry_pb2.BatchCredit], context: Context
    ) -> AsyncIterator[telemetry_pb2.TelemetryBatch]:
        """Stream rows after a number, then live ones, as many as were granted."""
        async with answering(context):
            async for batch in streams.stream(self._log, requests):
                yield batch


def _failure_reason(request: telemetry_pb2.FinishRunRequest) -> str | None:
    """Return what a run record says of such an end; its beginning tells a failure from a cancellation."""
    if request.outcome == telemetry_pb2.OUTCOME_COMPLETED:
        return None
    if request.outcome == telemetry_pb2.OUTCOME_CANCELLED:
        return f"cancelled: {request.reason}" if request.reason else "cancelled"
    if request.outcome == telemetry_pb2.OUTCOME_FAILED:
        reason = request.reason or "failed, for no reason given"
        return f"failed: {reason}" if reason.lower().startswith("cancel") else reason
    msg = f"outcome is {request.outcome}; say OUTCOME_COMPLETED, OUTCOME_FAILED or OUTCOME_CANCELLED"
    raise invalid(msg)
