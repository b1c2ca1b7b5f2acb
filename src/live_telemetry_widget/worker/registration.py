"""How the proxy comes to have a run at a daemon, of any generation, ours or not."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import uuid
from typing import TYPE_CHECKING, Any, Final

import grpc

from live_telemetry_widget import _names
from live_telemetry_widget.batches import compression_for
from live_telemetry_widget.client import CHANNEL_OPTIONS, Backoff
from live_telemetry_widget.errors import ConnectError, DaemonError
from live_telemetry_widget.proto import telemetry_pb2, telemetry_pb2_grpc, trainer_pb2, trainer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from live_telemetry_widget.batches import Compression

_LOG: Final = logging.getLogger(__name__)

_CALL_TIMEOUT: Final = 10.0
_LONGEST_NAME: Final = 120


class Registration:
    """A run at a daemon: opened (again, when the daemon forgot it), published to, finished.

    Parameters
    ----------
    address
        ``"host:port"``.
    run_id
        Empty: the daemon makes one.
    worker_id
        For the handshake.
    config
        What is known of the run: ``run_name``, ``entry_point``, ``arguments``, ``metadata``.
    worker_kind, supports_pause
        For the handshake.

    Attributes
    ----------
    run_id : str
        As the daemon answered it, once :meth:`open` has returned.
    trainer : TrainerServiceStub
    ours : bool
        Whether the daemon is one of this package, as far as is known.
    """

    def __init__(  # noqa: PLR0913 - what a handshake says, by name
        self,
        address: str,
        run_id: str,
        worker_id: str,
        config: Mapping[str, Any],
        *,
        worker_kind: str = "proxy",
        supports_pause: bool = True,
    ) -> None:
        self.address = address
        self._worker_kind = worker_kind
        self._supports_pause = supports_pause
        self.run_id = run_id
        self._worker_id = worker_id
        self._config = config
        # Daemons answer a second submission of the same config with the first one's run: two unnamed runs of one command
        # must differ, and one that is submitted again after the daemon forgot it must not.
        self._submission = uuid.uuid4().hex if not run_id else ""
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.trainer = trainer_pb2_grpc.TrainerServiceStub(self._channel)
        self._telemetry = telemetry_pb2_grpc.TelemetryServiceStub(self._channel)
        self.ours = True
        self._token = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What calls about the run carry: the session token, for a daemon of ours; others do not ask for it."""
        return ((_names.SESSION_TOKEN, self._token),) if self.ours and self._token else ()

    def publish_steps(
        self, messages: AsyncIterator[trainer_pb2.RunStep], numbers: tuple[tuple[str, str], ...] = ()
    ) -> Awaitable[Any]:
        """Publish steps; `numbers` tells a daemon of ours which they are."""
        metadata = self.metadata + (numbers if self.ours else ())
        call: Awaitable[Any] = self.trainer.PublishRunSteps(messages, metadata=metadata)
        return call

    def publish_episodes(
        self, messages: AsyncIterator[trainer_pb2.RunEpisode], numbers: tuple[tuple[str, str], ...] = ()
    ) -> Awaitable[Any]:
        """Publish episodes; `numbers` tells a daemon of ours which they are."""
        metadata = self.metadata + (numbers if self.ours else ())
        call: Awaitable[Any] = self.trainer.PublishRunEpisodes(messages, metadata=metadata)
        return call

    def publish_batches(self) -> Any:  # noqa: ANN401 - gRPC's stubs have no types
        """Begin to publish batches; returns the call, both ways."""
        return self._telemetry.PublishBatches(metadata=self.metadata)

    @property
    def compression(self) -> Compression:
        """How batches are packed."""
        return compression_for(self.address)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def open(self) -> None:
        """Have a run at the daemon, and shake hands."""
        try:
            request = telemetry_pb2.OpenRunRequest(run_id=self.run_id, config_json=json.dumps(self._config))
            answer = await self._telemetry.OpenRun(request, timeout=_CALL_TIMEOUT, wait_for_ready=True)
            self.run_id = answer.run_id
            self.ours = True
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
            self.ours = False
            await self._submit()
        handshake = trainer_pb2.RegisterWorkerRequest(
            run_id=self.run_id,
            worker_id=self._worker_id,
            worker_kind=self._worker_kind,
            proto_version="MOSAIC/1.0",
            supports_pause=self._supports_pause,
        )
        try:
            answer = await self.trainer.RegisterWorker(handshake, timeout=_CALL_TIMEOUT)
            self._token = answer.session_token
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
            "run_name": str(self._config["run_name"])[:_LONGEST_NAME] or "run",
            "entry_point": sys.executable,
            "arguments": ["-c", ""],
            "environment": {"LTW_SUBMISSION": self._submission} if self._submission else {},
            "resources": {"cpus": 1, "memory_mb": 256, "gpus": {"requested": 0, "mandatory": False}},
            "artifacts": {"output_prefix": "", "persist_logs": False, "keep_checkpoints": False},
            "metadata": {"worker": {"config": {"run_id": self.run_id} if self.run_id else {}}},
        }
        request = trainer_pb2.SubmitRunRequest(run_id=self.run_id, config_json=json.dumps(config))
        answer = await self.trainer.SubmitRun(request, timeout=_CALL_TIMEOUT)
        self.run_id = answer.run_id

    async def tell(self, config: Mapping[str, Any]) -> None:
        """Have the daemon know what the worker says of itself, as soon as one is there; a run at another's daemon has no place for it.

        Parameters
        ----------
        config
            As in the worker's ``run_started``.
        """
        metadata = self._config.get("metadata") or {}
        self._config = {**self._config, "metadata": {**metadata, "worker": {"config": dict(config)}}}
        config_json = json.dumps(self._config)
        backoff = Backoff(first=0.2, most=5.0)
        while self.ours:
            request = telemetry_pb2.OpenRunRequest(run_id=self.run_id, config_json=config_json)
            try:
                await self._telemetry.OpenRun(request, timeout=_CALL_TIMEOUT, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                _LOG.info("the worker's config was not taken: %s", error.code())
                if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                    return
                await asyncio.sleep(backoff.next())
            else:
                return

    async def finish(self, outcome: telemetry_pb2.Outcome, reason: str, *, timeout: float = _CALL_TIMEOUT) -> None:  # noqa: ASYNC109 - gRPC's own
        """Say how the run ended, waiting so many seconds for a daemon that is away; another's has no ear for that."""
        if self.ours:
            request = telemetry_pb2.FinishRunRequest(run_id=self.run_id, outcome=outcome, reason=reason)
            await self._telemetry.FinishRun(request, timeout=timeout, wait_for_ready=True)

    def translated(self, error: grpc.aio.AioRpcError) -> ConnectError | DaemonError:
        """Return what a failed :meth:`open` means to a person."""
        if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
            late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            why = f"within {_CALL_TIMEOUT:g} s" if late else f"({error.details()})"
            return ConnectError(
                f"no trainer daemon answers at {self.address} {why}; "
                f"start one with: live-telemetry serve --listen {self.address}"
            )
        return DaemonError(f"the daemon at {self.address} refuses the run: {error.code().name}: {error.details()}")
