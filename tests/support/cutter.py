"""A TCP proxy that can cut its connections, and swallow what goes through them, as bad networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

_READ: Final = 64 * 1024
#: SO_LINGER on, with no time: closing such a socket sends RST, not FIN.
_RESET: Final = struct.pack("ii", 1, 0)


class Cutter:
    """Forwards connections to a daemon until it is told to cut them, or to swallow everything.

    It runs in a thread of its own, so that tests of any kind can use it, and its methods may be called from any thread.

    Parameters
    ----------
    target
        ``"host:port"`` to forward to. Nothing needs to answer there yet; who connects meanwhile is cut off.

    Attributes
    ----------
    address : str
        ``"host:port"`` to connect to; it stays the same whatever happens behind it.
    accepted : int
        How many connections have come so far.
    cuts : int
        How many connections were cut by :meth:`cut`.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.accepted = 0
        self.cuts = 0
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="live-telemetry-test-cutter")
        self._thread.start()
        self._server = self._on_loop(self._listen())
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._pairs)

    def cut(self, *, reset: bool = True) -> int:
        """Cut all connections, with RST or with FIN; new ones are taken. Return how many there were."""

        async def cut() -> int:
            return self._cut(reset=reset)

        return self._on_loop(cut())

    def blackhole(self) -> None:
        """Forward nothing from now on: connections stay up, and are made, and nobody hears a word, not even a FIN."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def restore(self) -> None:
        """Forward again, also what came meanwhile."""
        self._loop.call_soon_threadsafe(self._open.set)

    def close(self) -> None:
        """Cut everything and end the thread. May be called twice."""
        if self._loop.is_closed():
            return

        async def end() -> None:
            self._server.close()
            self._cut(reset=True)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._on_loop(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    def _cut(self, *, reset: bool) -> int:
        pairs = list(self._pairs)
        for pair in pairs:
            for writer in pair:
                _end(writer, reset=reset)
        self.cuts += len(pairs)
        return len(pairs)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        if task is not None:  # for close(), which must not leave one behind
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        host, _, port = self.target.rpartition(":")
        try:
            far_reader, far = await asyncio.open_connection(host, int(port))
        except OSError:
            _end(writer, reset=True)
            return
        pair = (writer, far)
        self._pairs.add(pair)
        pumps = [asyncio.create_task(self._pump(*ends)) for ends in ((reader, far), (far_reader, writer))]
        try:
            # Both end when both sides said FIN; one fails when its connection is reset.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            pass  # by close(); asyncio's own callback would report it as a fault
        finally:
            self._pairs.discard(pair)
            for pump in pumps:
                pump.cancel()
            for end in pair:
                _end(end, reset=True)
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_READ):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        # A FIN is news too, and a blackhole passes none on.
        await self._open.wait()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if reset and sock is not None:
        with contextlib.suppress(OSError):  # it is closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    if reset:
        writer.transport.abort()
    else:
        writer.close()
