"""The one background thread: it follows runs at a daemon and puts what comes into their feeds.

It has a thread and an asyncio loop of its own, so that a busy cell does not stop the stream and the stream does not touch the kernel's
loop. It alone joins client, normalize, frames and bus.

Examples
--------
Feeding a run without any daemon:

>>> with TelemetryAsyncHub() as hub:
...     feed = hub.subscribe_run("mine")
...     hub.submit_step({"run_id": "mine", "episode": 0, "step_index": 0, "action": 1, "reward": 1.0})
...     feed.wait_until(lambda: feed.frames.step_count == 1, timeout=5)
True
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self

from live_telemetry_widget import _arrow
from live_telemetry_widget._follow import Arrival, Ended, Following
from live_telemetry_widget._spill import parse_limit
from live_telemetry_widget.bus import RunBus, call_each
from live_telemetry_widget.client import Backoff, RunInfo, TrainerClient, sleep_or
from live_telemetry_widget.errors import ClosedError, ConnectError, DaemonError
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.schema import Kind, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

_LOG: Final = logging.getLogger(__name__)

__all__ = ["Arrival", "Ended", "TelemetryAsyncHub"]

#: Seconds that the loop goes on when everything was cancelled.
_SETTLE: Final = 0.05
#: A link that held for so long (seconds) was a good one, even if nobody said anything.
_GOOD_LINK: Final = 30.0
#: So many steps and episodes fed by hand may wait to be taken in; then who feeds them waits.
_MAX_FED: Final = 16_384


class TelemetryAsyncHub:
    """Follows any number of runs at one daemon.

    Parameters
    ----------
    address
        ``"host:port"`` of the daemon; None for a hub that is only fed by :meth:`submit_step` and :meth:`submit_episode`.
    backoff
        How long to wait before each reconnect.
    max_attempts
        Give up after so many attempts in a row to connect; None: never. :meth:`reconnect` begins again.
    memory_limit
        Bytes of memory that the rows of each run may take, or a text like ``"2GB"``; older rows are in files of a temporary directory beyond it.
        None: what the environment variable ``LIVE_TELEMETRY_MEMORY_LIMIT`` says, else no limit.

    Attributes
    ----------
    bus : RunBus[Arrival | Ended]
        Every batch that comes in and every run that ends, for your own subscribers.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        backoff: Backoff | None = None,
        max_attempts: int | None = None,
        memory_limit: int | str | None = None,
    ) -> None:
        if max_attempts is not None and max_attempts < 1:
            msg = f"max_attempts is {max_attempts}; give a number from 1, or None to try for ever"
            raise ValueError(msg)
        self.address = address
        self.bus: RunBus[Arrival | Ended] = RunBus(_weight)
        self._backoff = backoff or Backoff()
        self._max_attempts = max_attempts
        self._memory_limit = parse_limit(memory_limit)
        self._again = asyncio.Event()
        self._link = Link("connecting") if address else Link("live", message="fed directly")
        self._following: dict[str, Following] = {}
        self._infos: dict[str, RunInfo] = {}
        self._run_listeners: tuple[Callable[[RunInfo], None], ...] = ()
        self._fed: collections.deque[tuple[str, Kind, Any]] = collections.deque()
        self._fed_room = threading.Condition()
        #: Whether the hub's thread has been told of what is there.
        self._fed_told = False
        # A run that is garbage is unsubscribed wherever the collector runs, also in a thread that holds this.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: TrainerClient | None = None
        self._lost: asyncio.Future[ConnectError] | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the thread; does nothing when it runs already."""
        with self._lock:
            if self._thread is None:
                started = threading.Event()
                self._thread = threading.Thread(
                    target=self._thread_main, args=(started,), name="live-telemetry-hub", daemon=True
                )
                self._thread.start()
                started.wait()
        return self

    def stop(self, timeout: float = 5.0) -> None:
        """End the streams, the thread and the bus's subscriptions, and wait for that; what is in the feeds stays. May be called twice."""
        with self._lock:
            thread, loop = self._thread, self._loop
            self._thread = self._loop = None
        if thread is None or loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop ended by itself
            loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(timeout)
        self.bus.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _thread_main(self, started: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._loop = loop
        # An event belongs to the loop that first waited for it, and this hub may have been stopped and started again.
        self._again = asyncio.Event()
        self._lost = None
        self._set_link(Link("connecting") if self.address else Link("live", message="fed directly"))
        # Ours is the logger that is silent in a notebook; asyncio's own writes to standard error.
        loop.set_exception_handler(
            lambda _, context: _LOG.error("in the hub: %s", context.get("message"), exc_info=context.get("exception"))
        )
        main = loop.create_task(self._supervise(), name="supervise") if self.address else None
        loop.call_soon(started.set)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(self._take_what_waits())
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            if self._client is not None:
                loop.run_until_complete(self._client.close())
                self._client = None
            # gRPC hands the end of each cancelled call to this loop a moment later, and trips over a loop that is closed.
            loop.run_until_complete(asyncio.sleep(_SETTLE))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            self._set_link(Link("closed"))
            del main

    def _call(self, function: Callable[..., object], *args: object) -> None:
        loop = self._loop
        if loop is None:
            msg = "the hub is stopped; start() it first"
            raise ClosedError(msg)
        loop.call_soon_threadsafe(function, *args)

    def ask(self, coroutine: Callable[[TrainerClient], Coroutine[Any, Any, Any]], timeout: float = 15.0) -> Any:  # noqa: ANN401
        """Run a call of the client on the hub's loop and return its answer.

        Raises
        ------
        ConnectError
            No daemon answers.
        DaemonError
            It answered with an error.
        """
        future = self.ask_soon(coroutine)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            future.cancel()
            msg = f"the daemon at {self.address} did not answer within {timeout:g} s; is it busy or stopped?"
            raise ConnectError(msg) from None

    def ask_soon(
        self, coroutine: Callable[[TrainerClient], Coroutine[Any, Any, Any]]
    ) -> concurrent.futures.Future[Any]:
        """Begin a call as :meth:`ask` does, without waiting for its answer."""
        self.start()
        loop, address = self._loop, self.address
        if loop is None or address is None:
            msg = "this hub has no daemon to ask; give it an address"
            raise ClosedError(msg)

        async def call() -> Any:  # noqa: ANN401
            # A channel of its own: the streams' is closed, with all that is under way on it, when the link is lost.
            async with TrainerClient(address) as client:
                return await coroutine(client)

        return asyncio.run_coroutine_threadsafe(call(), loop)

    def _get_client(self) -> TrainerClient:
        if self._client is None:
            if self.address is None:
                msg = "this hub has no daemon; give it an address"
                raise ClosedError(msg)
            self._client = TrainerClient(self.address)
        return self._client

    # -- runs --------------------------------------------------------------------------------------------------------

    def subscribe_run(self, run_id: str, prepare: Callable[[RunFeed], object] | None = None) -> RunFeed:
        """Follow a run, from its first step; return its feed (the same one while it is followed).

        `prepare` is called with a feed that is new, before anything is asked for; what it raises ends this.
        """
        if not run_id:
            msg = "run_id is empty; name the run to follow"
            raise ValueError(msg)
        self.start()
        held = self._following.get(run_id)
        if held is not None:
            return held.feed
        feed = RunFeed(run_id, self._link, memory_limit=self._memory_limit)
        if prepare is not None:
            prepare(feed)
        with self._lock:
            held = self._following.get(run_id)
            if held is not None:  # somebody else was quicker
                return held.feed
            feed.link = self._link
            if self.address is None:
                feed.backlog = (0, 0)  # nobody to have one
            following = Following(
                feed, publish=self.bus.publish, spoke=self._backoff.reset, lose=self._lose, backoff=self._backoff
            )
            self._following[run_id] = following
        self._call(self._follow, following)
        return feed

    def unsubscribe_run(self, run_id: str, feed: RunFeed | None = None) -> None:
        """Stop following a run (with `feed`: only if it is still the one) and forget it; its feed keeps what it has for whoever still holds it."""
        with self._lock:
            held, loop = self._following.get(run_id), self._loop
            following = held if held is not None and feed in {None, held.feed} else None
            if following is not None:
                del self._following[run_id]
        if following is not None and loop is not None:
            following.feed.link = Link("closed")
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the streams with it
                loop.call_soon_threadsafe(following.unfollow)

    def listen_runs(self, listener: Callable[[RunInfo], None]) -> Callable[[], None]:
        """Have `listener` called, on the hub's thread, with what the daemon says of any run, beginning with what it has said; return what ends that."""
        self.start()
        self._call(self._add_run_listener, listener)

        def stop() -> None:
            self._run_listeners = tuple(held for held in self._run_listeners if held is not listener)

        return stop

    def _add_run_listener(self, listener: Callable[[RunInfo], None]) -> None:
        self._run_listeners = (*self._run_listeners, listener)
        for info in list(self._infos.values()):
            call_each([listener], info)

    def reconnect(self) -> None:
        """Try to connect now, rather than when the wait is over; also after `max_attempts` were in vain."""
        self.start()
        self._call(self._again.set)

    def submit_step(self, step: Mapping[str, Any] | trainer_pb2.RunStep) -> None:
        """Feed a step in by hand: a RunStep, or a dict with the names of the workers' step events.

        Waits while the hub has much to take in already, so that feeding faster than that costs no memory.

        Raises
        ------
        ValueError
            It names no run, or one that is not subscribed.
        ClosedError
            The hub is stopped.
        """
        self._submit("steps", step)

    def submit_episode(self, episode: Mapping[str, Any] | trainer_pb2.RunEpisode) -> None:
        """Feed an episode in by hand; see :meth:`submit_step`."""
        self._submit("episodes", episode)

    def complete_run(self, run_id: str, state: RunState = RunState.COMPLETED, reason: str = "") -> None:
        """Say that a run fed by hand has ended."""
        self._call(self._take_info, RunInfo(run_id, state, reason))

    def _submit(self, kind: Kind, item: Any) -> None:  # noqa: ANN401 - a message or a mapping
        run_id = item.run_id if isinstance(item, trainer_pb2.RunStep | trainer_pb2.RunEpisode) else item.get("run_id")
        if run_id not in self._following:
            msg = f"run {run_id!r} is not subscribed; call subscribe_run({run_id!r}) first"
            raise ValueError(msg)
        # A listener that feeds runs on the hub's thread, and nobody else could make room for it.
        waits = threading.current_thread() is not self._thread
        with self._fed_room:
            self._fed_room.wait_for(lambda: not waits or len(self._fed) < _MAX_FED or self._loop is None)
            if not self._fed_told or self._loop is None:
                self._call(self._take_fed)  # raises when the hub is stopped
                self._fed_told = True
            self._fed.append((run_id, kind, item))

    def _take_fed(self) -> None:
        with self._fed_room:
            self._fed_told = False
            fed = list(self._fed)
            self._fed.clear()
            self._fed_room.notify_all()
        for run_id, kind, item in fed:
            following = self._following.get(run_id)
            if following is not None:
                following.take(kind, item)

    # -- the link ----------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Connect, follow until the link is lost, wait, again."""
        while True:
            began = time.monotonic()
            try:
                linked = self._get_client()
                self._lost = asyncio.get_running_loop().create_future()
                await linked.generation()
                began = time.monotonic()
                error = await self._while_linked(linked, self._lost)
            except (ConnectError, DaemonError) as reason:
                error = reason
            except Exception as reason:  # noqa: BLE001 - logged, shown, tried again
                # A fault of our own must not end the following of runs: it is shown as the reason, and tried again.
                _LOG.exception("following the runs of %s failed", self.address)
                error = ConnectError(f"an internal error, {type(reason).__name__}: {reason}")
            self._lost = None
            for following in list(self._following.values()):
                following.unfollow()
            # A new channel, because another daemon (of another generation) may be there next time.
            client, self._client = self._client, None
            if client is not None:
                await client.close()
            if time.monotonic() - began > _GOOD_LINK and self._link.state == "live":
                self._backoff.reset()
            await self._rest(error)

    async def _while_linked(
        self, client: TrainerClient, lost: asyncio.Future[ConnectError]
    ) -> ConnectError | DaemonError:
        """Follow everything until the link is lost; return why it was."""
        self._set_link(Link("live"))
        watching = asyncio.create_task(self._watch(client), name="watch runs")
        checking = asyncio.create_task(self._check_known(client), name="known runs")
        try:
            for following in list(self._following.values()):
                self._follow(following)
            return await lost
        finally:
            watching.cancel()
            checking.cancel()

    async def _check_known(self, client: TrainerClient) -> None:
        """Name the followed runs that the daemon has forgotten."""
        if not self._infos:
            return
        try:
            known = {info.run_id for info in await client.list_runs()}
        except ConnectError as error:
            self._lose(error)
            return
        except DaemonError as error:
            _LOG.info("listing the runs of %s: %s", self.address, error)
            return
        for run_id in set(self._infos) - known:
            del self._infos[run_id]
            following = self._following.get(run_id)
            if following is not None:
                following.forgotten(str(self.address))

    async def _rest(self, error: ConnectError | DaemonError) -> None:
        """Wait before the next attempt, or for good."""
        wait = self._backoff.next()
        attempt = self._backoff.attempt
        self._again.clear()
        if self._max_attempts is not None and attempt > self._max_attempts:
            self._set_link(Link("closed", attempt - 1, 0.0, f"given up after {attempt - 1} attempts: {error}"))
            _LOG.info("given up on %s after %d attempts: %s", self.address, attempt - 1, error)
            await self._again.wait()
            self._backoff.reset()
        else:
            self._set_link(Link("reconnecting", attempt, time.time() + wait, str(error)))
            _LOG.info("link to %s lost: %s; attempt %d in %.1f s", self.address, error, attempt, wait)
            await sleep_or(self._again, wait)
        self._set_link(Link("reconnecting", attempt, 0.0, str(error)))

    def _set_link(self, link: Link) -> None:
        self._link = link
        for following in list(self._following.values()):
            following.feed.link = link

    def _lose(self, error: ConnectError) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(error)

    async def _watch(self, client: TrainerClient) -> None:
        backoff = dataclasses.replace(self._backoff, attempt=0)
        while True:
            try:
                async for info in client.watch_runs():
                    backoff.reset()
                    self._backoff.reset()
                    self._take_info(info)
            except ConnectError as error:
                self._lose(error)
                return
            except DaemonError as error:
                _LOG.info("watching the runs of %s: %s", self.address, error)
            except Exception as error:  # noqa: BLE001 - logged, shown, tried again
                _LOG.exception("watching the runs of %s failed", self.address)
                self._lose(ConnectError(f"an internal error, {type(error).__name__}: {error}"))
                return
            await asyncio.sleep(backoff.next())

    def _take_info(self, info: RunInfo) -> None:
        self._infos[info.run_id] = info
        following = self._following.get(info.run_id)
        if following is not None:
            following.take_info(info)
        call_each(self._run_listeners, info)

    def _follow(self, following: Following) -> None:
        if (info := self._infos.get(following.feed.run_id)) is not None:
            following.take_info(info)  # a feed that a recording has filled knows only what was said back then
        if self._lost is None or self._client is None or following.up or self._link.state != "live":
            return  # the supervisor starts it when the link is up
        if self._following.get(following.feed.run_id) is following:
            following.follow(self._client)

    async def _take_what_waits(self) -> None:
        """Take in what came before the end."""
        self._take_fed()
        for following in list(self._following.values()):
            following.unfollow()


def _weight(item: Arrival | Ended) -> int:
    """Return how many bytes a subscriber holds that has not taken an item yet."""
    return _arrow.weight(item.batch) + _arrow.weight(item.new) if isinstance(item, Arrival) else 0
