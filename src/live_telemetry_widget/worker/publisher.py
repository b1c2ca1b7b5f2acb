"""Publishes messages over a stream-unary call, and sends again what the daemon did not confirm.

The wire's only acknowledgement is the answer to a stream that was closed. So a stream is closed every so often, and what it
carried is kept until its answer is there. What is sent twice because an answer was lost, readers merge by identity.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import grpc

from live_telemetry_widget.client import Backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

_LOG: Final = logging.getLogger(__name__)

#: A stream is closed, and so confirmed, after so many messages or seconds.
_ROTATE_MESSAGES: Final = 4_096
_ROTATE_SECONDS: Final = 1.0
#: So many messages may be unconfirmed; then the worker's pipe is no longer read, and the worker waits.
_WINDOW: Final = 16_384
#: A daemon that refuses (rather than is away) is asked so many times.
_REFUSALS: Final = 4
_AWAY: Final = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
_FORGOTTEN: Final = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}


class Publisher:
    """One kind of message of one run.

    Parameters
    ----------
    what
        ``"steps"`` or ``"episodes"``, for messages to people.
    call
        The stub's stream-unary method.
    reopen
        Makes the run known to a daemon that has forgotten it.
    backoff
        How long to wait before each new attempt.

    Attributes
    ----------
    confirmed : int
        How many messages the daemon has answered for.
    lost : int
        How many could not be delivered.
    failure : str
        Why.
    """

    def __init__(
        self,
        what: str,
        call: Callable[[AsyncIterator[Any]], Awaitable[Any]],
        reopen: Callable[[], Awaitable[None]],
        backoff: Backoff | None = None,
    ) -> None:
        self.what = what
        self.confirmed = 0
        self.lost = 0
        self.failure = ""
        self._call = call
        self._reopen = reopen
        self._backoff = backoff or Backoff(first=0.2, most=5.0)
        self._window: collections.deque[Any] = collections.deque()
        self._grown = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        self._given_up = False
        self._sent = 0
        self._task = asyncio.create_task(self._publish(), name=f"publish {what}")

    async def put(self, messages: Iterable[Any]) -> None:
        """Hand messages over; waits while too many are unconfirmed."""
        await self._room.wait()
        if self._given_up:
            self.lost += sum(1 for _ in messages)
            return
        self._window.extend(messages)
        if len(self._window) >= _WINDOW:
            self._room.clear()
        self._grown.set()

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109 - part of the promise: at most so long
        """Deliver the rest, for at most `timeout` seconds; then count what could not be as lost."""
        self._closing = True
        self._grown.set()
        await asyncio.wait([self._task], timeout=timeout)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.lost += len(self._window)
        self._window.clear()

    async def _publish(self) -> None:
        refusals = 0
        while self._window or not self._closing:
            if not self._window:
                self._grown.clear()
                await self._grown.wait()
                continue
            try:
                answer = await self._call(self._requests())
            except grpc.aio.AioRpcError as error:
                self.failure = f"{error.code().name}: {error.details()}"
                refusals = 0 if error.code() in _AWAY else refusals + 1
                if refusals >= _REFUSALS:
                    self._give_up()
                    return
                wait = self._backoff.next()
                _LOG.info("publishing %s failed (%s); again in %.1f s", self.what, self.failure, wait)
                await asyncio.sleep(wait)
                if error.code() in _FORGOTTEN:
                    with contextlib.suppress(grpc.aio.AioRpcError):  # the next attempt says what is wrong
                        await self._reopen()
                continue
            refusals = 0
            self._backoff.reset()
            for _ in range(self._sent):
                self._window.popleft()
            self.confirmed += self._sent
            if answer.dropped:
                self.confirmed -= answer.dropped
                self.lost += answer.dropped
                self.failure = "the daemon left them out"
            if len(self._window) < _WINDOW:
                self._room.set()

    async def _requests(self) -> AsyncIterator[Any]:
        """Yield the window from its start and what comes meanwhile, until it is time to have it confirmed."""
        self._sent = 0
        loop = asyncio.get_running_loop()
        end = loop.time() + _ROTATE_SECONDS
        while self._sent < _ROTATE_MESSAGES:
            if self._sent < len(self._window):
                message = self._window[self._sent]
                self._sent += 1
                yield message
                continue
            left = end - loop.time()
            if self._closing or left <= 0:
                return
            self._grown.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._grown.wait()

    def _give_up(self) -> None:
        _LOG.warning("the daemon refuses %s: %s", self.what, self.failure)
        self._given_up = True
        self.lost += len(self._window)
        self._window.clear()
        self._room.set()
