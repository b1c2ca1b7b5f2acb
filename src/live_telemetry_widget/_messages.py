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
import grpc.experimental

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

#: So many messages, or bytes of them, wait for the loop; then the thread does, and HTTP/2 has the daemon wait.
_MOST: Final = 4_096
_MOST_BYTES: Final = 32 * 1024 * 1024
#: Without it, each call has a thread more, which is what costs.
_BY_ITS_READER: Final = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)


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
                if self._closed:
                    continue  # to the end, or the connection stays
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

    async def close(self, channel: grpc.Channel) -> None:
        """End the call with its channel, and wait until the thread is at its end."""
        self._closed = True
        self._room.set()
        channel.close()
        await self._ended.wait()


async def read(
    address: str, options: Sequence[tuple[str, object]], method: str, request: bytes
) -> AsyncGenerator[list[bytes]]:
    """Yield the messages that a daemon streams, unparsed.

    Parameters
    ----------
    address
        ``"host:port"``, to which a channel of its own is made.
    options
        Of the channel.
    method, request
        What is called, and with what.

    Raises
    ------
    grpc.RpcError
        It has failed, or has come to an end that it was not meant to have.
    """
    box = _Box()
    channel = grpc.insecure_channel(address, options=(*options, _BY_ITS_READER))
    # A channel for each call, and the call is never cancelled by itself: gRPC 1.85 would forget to close the connection of one that is.
    call = channel.unary_stream(method)(request)
    threading.Thread(target=box.fill, args=(call,), name="live-telemetry-messages", daemon=True).start()
    try:
        while found := await box.take():
            yield found
    finally:
        await box.close(channel)
