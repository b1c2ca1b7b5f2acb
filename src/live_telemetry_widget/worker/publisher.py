"""Publishes messages over a stream-unary call, and sends again what the daemon did not confirm.

The wire's only acknowledgement is the answer to a stream that was closed. So a stream is closed every so often, and what it
carried is kept until its answer is there. When the answer is lost, all of it is sent again. Messages are numbered, so that a daemon of
ours, which remembers how far each publisher has come, leaves out what it has; readers merge what others' store twice.
"""

from __future__ import annotations

import abc
import asyncio
import collections
import contextlib
import dataclasses
import logging
import uuid
from typing import TYPE_CHECKING, Any, Final

import grpc

from live_telemetry_widget import _names
from live_telemetry_widget.client import MAX_MESSAGE, Backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

_LOG: Final = logging.getLogger(__name__)

Metadata = tuple[tuple[str, str], ...]

#: A stream is closed, and so confirmed, after so many messages or seconds.
_ROTATE_MESSAGES: Final = 4_096
_ROTATE_SECONDS: Final = 1.0
#: So many messages or bytes may be unconfirmed; then the worker's pipe is no longer read, and the worker waits.
_WINDOW: Final = 16_384
_WINDOW_BYTES: Final = 64 * 1024 * 1024
#: A daemon that refuses (rather than is away) is asked so many times.
_REFUSALS: Final = 4
#: The daemon, or what it needs (a disk with room), is not there now. Waiting loses nothing.
_AWAY: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
#: The daemon does not know the run, or us, any more.
FORGOTTEN: Final = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,  # of a session token that was issued under another key
}
#: How gRPC, on either side, says that the message itself is the trouble.
_TOO_LARGE: Final = "larger than max"


@dataclasses.dataclass(slots=True)
class Tally:
    """What became of what was put.

    Attributes
    ----------
    confirmed
        The daemon has answered for it.
    lost
        Refused, or given up.
    dropped
        Answered for, and not kept.
    """

    confirmed: int = 0
    lost: int = 0
    dropped: int = 0


def is_refusal(error: grpc.aio.AioRpcError) -> bool:
    """Whether a daemon refuses, rather than is away: it will not answer otherwise by itself."""
    return error.code() not in _AWAY or _TOO_LARGE in (error.details() or "")


class Delivery(abc.ABC):
    """A task that delivers what was put, again and again, until all is confirmed. Made within a running event loop.

    Parameters
    ----------
    what
        Of which kind, for the log.
    backoff
        How long to wait before each new attempt.

    Attributes
    ----------
    failure : str
        What went wrong last.
    """

    def __init__(self, what: str, backoff: Backoff | None) -> None:
        self.what = what
        self.failure = ""
        self._backoff = backoff or Backoff(first=0.2, most=5.0)
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        self._given_up = False
        self._task = asyncio.create_task(self._run(), name=f"publish {what}")

    @property
    def given_up(self) -> bool:
        """Whether nothing is sent any more."""
        return self._given_up

    async def close(self) -> None:
        """Wait until all is confirmed or given up; :meth:`abandon` cuts that short."""
        self._closing = True
        self._news.set()
        await asyncio.wait([self._task])

    def abandon(self) -> None:
        """Stop: what is not confirmed, and what is put from now on, counts as lost."""
        self._task.cancel()
        self._give_up()

    async def _run(self) -> None:
        try:
            await self._publish()
        except Exception as error:  # noqa: BLE001 - a fault in here must not leave the worker waiting for room without end
            _LOG.exception("publishing %s", self.what)
            self.failure = repr(error)
            self._give_up()

    @abc.abstractmethod
    async def _publish(self) -> None:
        """Deliver until it is closed and nothing waits."""

    @abc.abstractmethod
    def _give_up(self) -> None:
        """Count what waits as lost, and whatever is put from now on."""


@dataclasses.dataclass(slots=True)
class _Attempt:
    """One stream. Its iterator may outlive its call, so each counts for itself."""

    sent: int = 0
    exhausted: bool = False
    over: bool = False


class Publisher(Delivery):
    """One kind of message of one run. Make it within a running event loop, and close it.

    Parameters
    ----------
    what
        ``"steps"`` or ``"episodes"``, for the log.
    call
        Publishes a stream of messages; given the metadata that number them beside it.
    reopen
        Makes the run known to a daemon that has forgotten it.
    backoff
        How long to wait before each new attempt.
    leader
        A publisher whose messages go first: a message waits until what `leader` held when it was put has been sent.
    producer, first
        The name under which the messages are numbered, and the number of the first: of one that goes on with what another left.

    Attributes
    ----------
    confirmed : int
        How many messages the daemon has answered for.
    lost : int
        How many could not be delivered.
    dropped : int
        How many the daemon said that it dropped: malformed for ours, not relayed to slow readers for others'.
    """

    def __init__(  # noqa: PLR0913 - named ones, most with a default
        self,
        what: str,
        call: Callable[[AsyncIterator[Any], Metadata], Awaitable[Any]],
        reopen: Callable[[], Awaitable[None]],
        *,
        backoff: Backoff | None = None,
        leader: Publisher | None = None,
        producer: str = "",
        first: int = 0,
    ) -> None:
        super().__init__(what, backoff)
        self.confirmed = 0
        self.lost = 0
        self.dropped = 0
        self._call = call
        self._reopen = reopen
        self._leader = leader
        self._followers: list[Publisher] = []
        if leader is not None:
            leader._followers.append(self)  # noqa: SLF001 - of this same class
        #: What is not confirmed: the message, its size in bytes, and how far the leader must be.
        self._window: collections.deque[tuple[Any, int, int]] = collections.deque()
        self._bytes = 0
        self._put = 0
        #: The number of the first message in the window.
        self._first = first
        self._producer = producer or uuid.uuid4().hex
        self._attempt = _Attempt()
        self._most = _ROTATE_MESSAGES

    @property
    def waiting(self) -> int:
        """How many messages are not confirmed."""
        return len(self._window)

    async def put(self, messages: Sequence[Any]) -> None:
        """Hand messages over; waits while too much is unconfirmed."""
        await self._room.wait()
        self._put += len(messages)
        if self._given_up:
            self.lost += len(messages)
            return
        mark = self._leader._put if self._leader else 0  # noqa: SLF001 - as above
        for message in messages:
            size = message.ByteSize()
            if size > MAX_MESSAGE:
                self.lost += 1
                self.failure = f"a message of {size:,} bytes is over the wire's limit of {MAX_MESSAGE:,}"
                continue
            self._window.append((message, size, mark))
            self._bytes += size
        self._make_room()
        self._news.set()

    @property
    def _sent(self) -> int:
        """How many of the messages put are on their way, confirmed or lost: those that nobody need wait for."""
        return self._put - len(self._window) + self._attempt.sent

    async def _publish(self) -> None:
        refusals = 0
        while self._window or not self._closing:
            if not self._ready(0):
                self._news.clear()
                await self._news.wait()
                continue
            attempt = self._attempt = _Attempt()
            try:
                numbers = ((_names.PRODUCER, self._producer), (_names.FIRST, str(self._first)))
                answer = await self._call(self._requests(attempt), numbers)
            except grpc.aio.AioRpcError as error:
                self.failure = f"{error.code().name}: {error.details()}"
                refusals = refusals + 1 if is_refusal(error) else 0
                if refusals >= _REFUSALS:
                    _LOG.warning("the daemon refuses %s: %s", self.what, self.failure)
                    self._give_up()
                    return
                await self._recover(error)
                continue
            finally:
                attempt.over = True
                self._attempt = _Attempt()
                self._news.set()
            refusals = 0
            self._most = min(_ROTATE_MESSAGES, self._most * 2)
            self._backoff.reset()
            # An answer before the end of the stream confirms no more than it counts.
            self._confirm(attempt.sent if attempt.exhausted else min(attempt.sent, answer.accepted))
            self.dropped += answer.dropped

    async def _recover(self, error: grpc.aio.AioRpcError) -> None:
        """Do what may make the next attempt work."""
        forgotten = error.code() in FORGOTTEN
        if is_refusal(error) and not forgotten:
            # One message can be what is refused. Sent one by one, then ever more, the others get through.
            if self._most == 1:
                self._drop_first()
            self._most = 1
        wait = self._backoff.next()
        _LOG.info("publishing %s failed (%s); again in %.1f s", self.what, self.failure, wait)
        await asyncio.sleep(wait)
        if forgotten:
            with contextlib.suppress(grpc.aio.AioRpcError):  # the next attempt says what is wrong
                await self._reopen()

    async def _requests(self, attempt: _Attempt) -> AsyncIterator[Any]:
        """Yield the window from its start and what comes meanwhile, until it is time to have it confirmed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _ROTATE_SECONDS
        while attempt.sent < self._most:
            # gRPC asks for one more message after its call has failed: it must not count for the next call.
            if attempt.over:
                return
            if self._ready(attempt.sent):
                message = self._window[attempt.sent][0]
                attempt.sent += 1
                self._tell_followers()
                yield message
                continue
            left = end - loop.time()
            if left <= 0 or (self._closing and attempt.sent >= len(self._window)):
                break
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._news.wait()
        attempt.exhausted = True

    def _ready(self, index: int) -> bool:
        if index >= len(self._window):
            return False
        return self._leader is None or self._leader._sent >= self._window[index][2]  # noqa: SLF001 - of this same class

    def _confirm(self, count: int) -> None:
        self.confirmed += count
        self._first += count
        for _ in range(count):
            self._bytes -= self._window.popleft()[1]
        self._make_room()

    def _drop_first(self) -> None:
        self._bytes -= self._window.popleft()[1]
        self._first += 1
        self.lost += 1
        self._make_room()

    def _make_room(self) -> None:
        if len(self._window) < _WINDOW and self._bytes < _WINDOW_BYTES:
            self._room.set()
        else:
            self._room.clear()
        self._tell_followers()

    def _tell_followers(self) -> None:
        for follower in self._followers:
            follower._news.set()  # noqa: SLF001 - of this same class

    def _give_up(self) -> None:
        self._given_up = True
        self.lost += len(self._window)
        self._window.clear()
        self._bytes = 0
        self._attempt = _Attempt(over=True)
        self._make_room()
