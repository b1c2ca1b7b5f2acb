"""The daemon as a whole: lock, log, runs, services, a port; and its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import signal
from typing import TYPE_CHECKING, Final, Self

import grpc

from live_telemetry_widget.client import MAX_MESSAGE
from live_telemetry_widget.daemon.lock import DirectoryLock
from live_telemetry_widget.daemon.log import DurableLog
from live_telemetry_widget.daemon.publish import Intake
from live_telemetry_widget.daemon.runs import Registry
from live_telemetry_widget.daemon.telemetry import TelemetryService
from live_telemetry_widget.daemon.trainer import TrainerService
from live_telemetry_widget.errors import TelemetryError
from live_telemetry_widget.proto import telemetry_pb2_grpc, trainer_pb2_grpc
from live_telemetry_widget.store import Store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_LOG: Final = logging.getLogger(__name__)

#: Seconds that calls under way are given to end when the daemon does.
_GRACE: Final = 1.0
_LOOPBACK: Final = ("127.", "localhost:", "[::1]:", "unix:")
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # Two daemons on one port would each get some of the calls; the second is to fail instead.
    ("grpc.so_reuseport", 0),
    # Clients ping every 10 s to find a dead connection, also when no call is open.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class Daemon:
    """A running daemon; make it with :meth:`start`, on the event loop on which it is to live.

    Attributes
    ----------
    address : str
        Where it really listens, as ``"host:port"``.
    """

    def __init__(
        self, address: str, lock: DirectoryLock, log: DurableLog, runs: Registry, server: grpc.aio.Server
    ) -> None:
        self.address = address
        self._lock = lock
        self._log = log
        self._runs = runs
        self._server = server

    @classmethod
    async def start(cls, data_dir: str | os.PathLike[str], listen: str, *, strict: bool = False) -> Self:
        """Open the data directory and begin to answer.

        Parameters
        ----------
        data_dir
            Made when it does not exist.
        listen
            ``"host:port"``; port 0 takes a free one.
        strict
            Take telemetry only of runs of which a worker has registered.

        Raises
        ------
        RecordingError
            The directory is used by another daemon, or holds what this version cannot read.
        TelemetryError
            The address cannot be taken.
        """
        folder = pathlib.Path(data_dir)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        async with contextlib.AsyncExitStack() as undo:
            lock = undo.enter_context(DirectoryLock(folder))
            store = await asyncio.to_thread(Store.open, folder)
            log = DurableLog(store)
            undo.push_async_callback(log.close)
            runs = Registry(log, store.runs())
            intake = Intake(log, runs, strict=strict)
            trainer = TrainerService(intake)
            server = grpc.aio.server(options=_OPTIONS)
            trainer_pb2_grpc.add_TrainerServiceServicer_to_server(trainer, server)
            telemetry_pb2_grpc.add_TelemetryServiceServicer_to_server(TelemetryService(log, runs), server)
            trainer.address = _bind(server, listen)
            await server.start()
            undo.pop_all()
        return cls(trainer.address, lock, log, runs, server)

    async def stop(self, grace: float = _GRACE) -> None:
        """Take no more calls, end the streams, commit what was received, close the file."""
        self._log.end()
        self._runs.close()
        await self._server.stop(grace)
        await self._log.close()
        self._lock.release()


def _bind(server: grpc.aio.Server, listen: str) -> str:
    if not listen.startswith(_LOOPBACK):
        _LOG.warning("%s can be reached from other machines, and whoever reaches it can read and write runs", listen)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        msg = f"cannot listen on {listen}; is another daemon there? Give another with --listen HOST:PORT"
        raise TelemetryError(msg) from error
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"


async def run(
    data_dir: str | os.PathLike[str],
    listen: str,
    *,
    strict: bool = False,
    ready: Callable[[Daemon], None],
    stop: asyncio.Event | None = None,
) -> None:
    """Run a daemon until SIGTERM, SIGINT or `stop`; `ready` is called once it answers."""
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Windows has no handlers on the loop; there, Ctrl-C ends the process as ever.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    daemon = await Daemon.start(data_dir, listen, strict=strict)
    try:
        ready(daemon)
        await stop.wait()
    finally:
        _LOG.info("stopping")
        await daemon.stop()
