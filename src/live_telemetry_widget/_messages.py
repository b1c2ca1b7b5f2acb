"""A stream of messages, read on a thread of its own and handed to an event loop in lists: all that has come since the last.

Used by :mod:`~live_telemetry_widget.client` only. ``grpc.aio`` wakes its loop for every single message, which costs twice as much as a thread that
waits for them itself; and what goes on with a list costs next to nothing for each.
"""

from __future__ import annotations

import asyncio
import collections
import threading
from typing import TYPE_CHECKING, Any, Final

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

#: So many messages, or bytes of them, wait for the loop; then the thread does, and HTTP/2 has the daemon wait.
_MOST: Final = 4_096
_MOST_BYTES: Final = 32 * 1024 * 1024


class _Box:
    """What a thread has read and a loop has not taken. The thread alone counts what came, the loop alone what it took."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._held: collections.deque[bytes] = collections.deque()
        self._came = self._taken = 0
        self._told = self._closed = False
        self._room = threading.Event()
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._error: grpc.RpcError | None = None

    def fill(self, call: Any) -> None:  # noqa: ANN401 - gRPC's calls have no types
        """Read a call to its end, on a thread."""
        held = self._held
        try:
            for raw in call:
                held.append(raw)
                self._came += len(raw)
                if not self._told:
                    self._told = True
                    self._tell(self._news)
                while self._is_full() and not self._closed:
                    self._room.clear()
                    if self._is_full() and not self._closed:  # or it was emptied, or closed, in between
                        self._room.wait()
        except grpc.RpcError as error:
            self._error = error
        finally:
            self._tell(self._ended, self._news)

    def _is_full(self) -> bool:
        return len(self._held) >= _MOST or self._came - self._taken >= _MOST_BYTES

    def _tell(self, *events: asyncio.Event) -> None:
        try:
            for event in events:
                self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            self._closed = True  # the loop is no more, and nobody waits

    async def take(self) -> list[bytes]:
        """Return what has come; when the call has ended, nothing.

        Raises
        ------
        grpc.RpcError
            It has ended with that, and everything before it was taken.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            ended = self._ended.is_set()
            self._told = False  # before looking: what comes from here on is told of
            found = [self._held.popleft() for _ in range(len(self._held))]
            if found:
                self._taken += sum(map(len, found))
                self._room.set()
                if ended:
                    self._news.set()  # come again for the end
                return found
            if ended:
                if self._error is not None:
                    raise self._error
                return []

    async def close(self, call: Any) -> None:  # noqa: ANN401
        """End the call, and wait until the thread is at its end."""
        self._closed = True
        self._room.set()
        call.cancel()
        await self._ended.wait()


async def messages(call: Any) -> AsyncGenerator[list[bytes]]:  # noqa: ANN401
    """Yield the messages of a synchronous call, unparsed, and end it.

    Raises
    ------
    grpc.RpcError
        It has failed.
    """
    box = _Box()
    thread = threading.Thread(target=box.fill, args=(call,), name="live-telemetry-messages", daemon=True)
    thread.start()
    try:
        while found := await box.take():
            yield found
    finally:
        await box.close(call)
