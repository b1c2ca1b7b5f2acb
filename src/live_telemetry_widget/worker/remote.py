"""The proxy's side of the daemon's word: a heartbeat to it, and what people want of the worker from it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import grpc

from live_telemetry_widget.client import Backoff
from live_telemetry_widget.proto import trainer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from live_telemetry_widget.worker.registration import Registration

_LOG: Final = logging.getLogger(__name__)

_BEAT_TIMEOUT: Final = 10.0


async def beat(registration: Registration, every: float, away_timeout: float, cancel: Callable[[], None]) -> None:
    """Send heartbeats, for ever. One that does not arrive is no matter: the next one may, and the telemetry speaks for itself.

    Parameters
    ----------
    every
        Seconds.
    away_timeout, cancel
        When nobody answers for so many seconds (0: for ever), `cancel` is called.
    """
    loop = asyncio.get_running_loop()
    answered = loop.time()
    while True:
        request = trainer_pb2.HeartbeatRequest(run_id=registration.run_id)
        try:
            await registration.trainer.Heartbeat(request, timeout=_BEAT_TIMEOUT)
            answered = loop.time()
        except grpc.aio.AioRpcError as error:
            # Who says no is there.
            if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                answered = loop.time()
            elif away_timeout and loop.time() - answered > away_timeout:
                _LOG.warning("no daemon at %s for %g s: the worker is ended", registration.address, away_timeout)
                cancel()
        await asyncio.sleep(every)


async def listen(
    registration: Registration, order: Callable[[dict[str, Any]], None], cancel: Callable[[], None]
) -> None:
    """Take what people want of the worker, for as long as it runs; the daemon may go and come back meanwhile.

    Parameters
    ----------
    order
        Given each of them as ``{"pause": True}`` and the like; the daemon is answered when it returns.
    cancel
        Called when the worker is to end.
    """
    backoff = Backoff(first=0.2, most=5.0)
    while registration.ours:
        try:
            stream = registration.trainer.ControlStream(metadata=registration.metadata)
            await stream.write(trainer_pb2.ControlEvent(run_id=registration.run_id))
            while (event := await stream.read()) is not grpc.aio.EOF:
                backoff.reset()
                kind = event.WhichOneof("event")
                if event.cancel:
                    cancel()
                elif kind is not None:
                    order({kind: getattr(event, kind)})
                await stream.write(event)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
            _LOG.info("control events of run %s: %s", registration.run_id, code or error)
            if code == grpc.StatusCode.UNIMPLEMENTED:
                return
            if code in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND}:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await registration.open()
        await asyncio.sleep(backoff.next())
