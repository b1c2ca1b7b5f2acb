"""The daemon as a whole: lock, log, runs, services, a port; and its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import signal
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import grpc

from live_telemetry_widget._lock import DirectoryLock
from live_telemetry_widget.client import MAX_MESSAGE
from live_telemetry_widget.daemon import silence
from live_telemetry_widget.daemon.control import Relay
from live_telemetry_widget.daemon.dispatch import Dispatcher
from live_telemetry_widget.daemon.log import DurableLog
from live_telemetry_widget.daemon.publish import Intake
from live_telemetry_widget.daemon.runs import Registry
from live_telemetry_widget.daemon.settings import Settings
from live_telemetry_widget.daemon.telemetry import TelemetryService
from live_telemetry_widget.daemon.tokens import Tokens
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
#: Hosts that stand for every address of the machine, and the one by which it calls itself.
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "*": "127.0.0.1"}  # noqa: S104 - to avoid calling it
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

    def __init__(self, address: str, parts: _Parts) -> None:
        self.address = address
        self._parts = parts

    @classmethod
    async def start(cls, data_dir: str | os.PathLike[str], listen: str, settings: Settings | None = None) -> Self:
        """Open the data directory, begin to answer, and take over the workers that an earlier daemon has left there.

        Parameters
        ----------
        data_dir
            Made when it does not exist.
        listen
            ``"host:port"``; port 0 takes a free one.
        settings
            How to behave.

        Raises
        ------
        RecordingError
            The directory is used by another daemon, or holds what this version cannot read.
        TelemetryError
            The address cannot be taken.
        """
        settings = settings or Settings()
        folder = await asyncio.to_thread(_make_folder, data_dir)
        async with contextlib.AsyncExitStack() as undo:
            lock = undo.enter_context(DirectoryLock(folder))
            store = await asyncio.to_thread(Store.open, folder)
            log = DurableLog(store)
            undo.push_async_callback(log.close)
            runs = Registry(log, store.runs(), tokens=Tokens.of_directory(folder))
            server = grpc.aio.server(options=_OPTIONS)
            address = _bind(server, listen, settings)
            relay = Relay(runs)
            dispatcher = Dispatcher(runs, relay, settings, folder, _reachable(address))
            intake = Intake(log, runs, strict=settings.strict)
            trainer = TrainerService(intake, dispatcher, relay, dispatch=settings.dispatch, address=address)
            trainer_pb2_grpc.add_TrainerServiceServicer_to_server(trainer, server)
            telemetry_pb2_grpc.add_TelemetryServiceServicer_to_server(TelemetryService(log, runs, intake), server)
            await server.start()
            undo.pop_all()
        dispatcher.adopt()
        watch = asyncio.create_task(silence.watch(runs.pulse, dispatcher.look_after), name="watch for silent runs")
        return cls(address, _Parts(lock, log, runs, relay, dispatcher, trainer, server, watch))

    async def stop(self, grace: float = _GRACE) -> None:
        """End the workers (unless they are kept), take what they still say, end the streams, commit all, close the file."""
        parts = self._parts
        parts.trainer.stopping = True
        parts.watch.cancel()
        # First, while everything else works, so that the last steps and the ends of the runs get in.
        await parts.dispatcher.stop()
        parts.relay.close()
        parts.log.end()
        parts.runs.close()
        await parts.server.stop(grace)
        await parts.log.close()
        parts.lock.release()


class _Parts(NamedTuple):
    """What a daemon is made of."""

    lock: DirectoryLock
    log: DurableLog
    runs: Registry
    relay: Relay
    dispatcher: Dispatcher
    trainer: TrainerService
    server: grpc.aio.Server
    watch: asyncio.Task[None]


def _make_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    folder = pathlib.Path(path).absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _bind(server: grpc.aio.Server, listen: str, settings: Settings) -> str:
    if not listen.startswith(_LOOPBACK):
        what = "read and write runs"
        if settings.dispatch == "anyone":
            what += ", and run any command as this user"
        _LOG.warning("%s can be reached from other machines, and whoever reaches it can %s", listen, what)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        msg = f"cannot listen on {listen}; is another daemon there? Give another with --listen HOST:PORT"
        raise TelemetryError(msg) from error
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"


def _reachable(address: str) -> str:
    """Return the address by which a process on this machine reaches a daemon that listens on that one.

    >>> _reachable("0.0.0.0:50055"), _reachable("[::]:50055"), _reachable("10.0.0.5:1")
    ('127.0.0.1:50055', '[::1]:50055', '10.0.0.5:1')
    """
    host, _, port = address.rpartition(":")
    return f"{_EVERYWHERE[host]}:{port}" if host in _EVERYWHERE else address


async def run(
    data_dir: str | os.PathLike[str],
    listen: str,
    settings: Settings | None = None,
    *,
    ready: Callable[[Daemon], None],
    stop: asyncio.Event | None = None,
) -> None:
    """Run a daemon until SIGTERM, SIGINT, SIGHUP or `stop`; `ready` is called once it answers."""
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)):
        # nohup has it ignored, and means it.
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        # Windows has no handlers on the loop; there, Ctrl-C ends the process as ever.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    daemon = await Daemon.start(data_dir, listen, settings)
    try:
        ready(daemon)
        await stop.wait()
    finally:
        _LOG.info("stopping")
        await daemon.stop()
        _LOG.info("stopped; everything that was received is committed")
