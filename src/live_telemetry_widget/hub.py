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
import collections.abc
import concurrent.futures
import contextlib
import dataclasses
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from live_telemetry_widget import normalize
from live_telemetry_widget.bus import RunBus
from live_telemetry_widget.client import Backoff, RunInfo, TrainerClient
from live_telemetry_widget.errors import ClosedError, ConnectError, DaemonError, RunNotFoundError
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.schema import Problem, RunState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    import pyarrow as pa

_LOG: Final = logging.getLogger(__name__)

#: Messages are turned into batches this often (seconds), or when so many wait.
_FLUSH_EVERY: Final = 0.02
_FLUSH_AT: Final = 1_024
#: Seconds that the loop goes on when everything was cancelled.
_SETTLE: Final = 0.05

Kind = Literal["steps", "episodes"]


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """What the bus carries: a batch as it came in, before copies are merged."""

    run_id: str
    kind: Kind
    batch: pa.RecordBatch


class _Inbox:
    """Messages of one kind for one run that wait to become a batch."""

    def __init__(self, kind: Kind, feed: RunFeed) -> None:
        self.kind = kind
        self.feed = feed
        self.messages: list[Any] = []
        self.scheduled: asyncio.TimerHandle | None = None


class _Following:
    """A run that the hub follows: its feed, and the tasks of its streams while the link is up."""

    def __init__(self, feed: RunFeed) -> None:
        self.feed = feed
        self.inboxes: dict[Kind, _Inbox] = {kind: _Inbox(kind, feed) for kind in ("steps", "episodes")}
        self.tasks: list[asyncio.Task[None]] = []


class TelemetryAsyncHub:
    """Follows any number of runs at one daemon.

    Parameters
    ----------
    address
        ``"host:port"`` of the daemon; None for a hub that is only fed by :meth:`submit_step` and :meth:`submit_episode`.
    backoff
        How long to wait before each reconnect.

    Attributes
    ----------
    bus : RunBus[Arrival]
        Every batch that comes in, for your own subscribers.
    """

    def __init__(self, address: str | None = None, *, backoff: Backoff | None = None) -> None:
        self.address = address
        self.bus: RunBus[Arrival] = RunBus()
        self._backoff = backoff or Backoff()
        self._link = Link("connecting") if address else Link("live", message="fed directly")
        self._following: dict[str, _Following] = {}
        self._infos: dict[str, RunInfo] = {}
        self._fed: collections.deque[tuple[str, Kind, Any]] = collections.deque()
        self._lock = threading.Lock()
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
        """End the streams and the thread, and wait for that; what is in the feeds stays. May be called twice."""
        with self._lock:
            thread, loop = self._thread, self._loop
            self._thread = self._loop = None
        if thread is None or loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop ended by itself
            loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _thread_main(self, started: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._loop = loop
        # Ours is the logger that is silent in a notebook; asyncio's own writes to standard error.
        loop.set_exception_handler(
            lambda _, context: _LOG.error("in the hub: %s", context.get("message"), exc_info=context.get("exception"))
        )
        main = loop.create_task(self._supervise(), name="supervise") if self.address else None
        loop.call_soon(started.set)
        try:
            loop.run_forever()
        finally:
            self._flush_all()
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
        self.start()
        loop, address = self._loop, self.address
        if loop is None or address is None:
            msg = "this hub has no daemon to ask; give it an address"
            raise ClosedError(msg)

        async def call() -> Any:  # noqa: ANN401
            # A channel of its own: the streams' is closed, with all that is under way on it, when the link is lost.
            async with TrainerClient(address) as client:
                return await coroutine(client)

        future = asyncio.run_coroutine_threadsafe(call(), loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            msg = f"the daemon at {self.address} did not answer within {timeout:g} s; is it busy or stopped?"
            raise ConnectError(msg) from error

    def _get_client(self) -> TrainerClient:
        if self._client is None:
            if self.address is None:
                msg = "this hub has no daemon; give it an address"
                raise ClosedError(msg)
            self._client = TrainerClient(self.address)
        return self._client

    # -- runs --------------------------------------------------------------------------------------------------------

    def subscribe_run(self, run_id: str) -> RunFeed:
        """Follow a run, from its first step; return its feed (the same one while it is followed)."""
        if not run_id:
            msg = "run_id is empty; name the run to follow"
            raise ValueError(msg)
        self.start()
        with self._lock:
            held = self._following.get(run_id)
            if held is not None:
                return held.feed
            following = self._following[run_id] = _Following(RunFeed(run_id, self._link))
            following.feed.info = self._infos.get(run_id)
        if self.address is not None:
            self._call(self._follow, following)
        return following.feed

    def unsubscribe_run(self, run_id: str) -> None:
        """Stop following a run and forget it; its feed keeps what it has for whoever still holds it."""
        with self._lock:
            following = self._following.pop(run_id, None)
        if following is not None and self._loop is not None:
            self._call(self._unfollow, following)

    def submit_step(self, step: Mapping[str, Any] | trainer_pb2.RunStep) -> None:
        """Feed a step in by hand: a RunStep, or a dict with the names of the workers' step events.

        Raises
        ------
        ValueError
            It names no run, or one that is not subscribed.
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
        self._fed.append((run_id, kind, item))
        self._call(self._take_fed)

    def _take_fed(self) -> None:
        while self._fed:
            run_id, kind, item = self._fed.popleft()
            following = self._following.get(run_id)
            if following is not None:
                self._receive(following.inboxes[kind], item)

    # -- the link ----------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Connect, follow until the link is lost, wait, again; for ever."""
        while True:
            client = self._get_client()
            self._lost = asyncio.get_running_loop().create_future()
            try:
                await client.generation()
                self._set_link(Link("live"))
                self._backoff.reset()
                watching = asyncio.create_task(self._watch(client), name="watch runs")
                for following in list(self._following.values()):
                    self._follow(following)
                error: ConnectError | DaemonError = await self._lost
                watching.cancel()
            except (ConnectError, DaemonError) as reason:
                error = reason
            except Exception as reason:  # noqa: BLE001 - logged, shown, tried again
                # A fault of our own must not end the following of runs: it is shown as the reason, and tried again.
                _LOG.exception("following the runs of %s failed", self.address)
                error = ConnectError(f"an internal error, {type(reason).__name__}: {reason}")
            self._lost = None
            for following in list(self._following.values()):
                self._unfollow(following)
            # A new channel, because another daemon (of another generation) may be there next time.
            self._client = None
            await client.close()
            wait = self._backoff.next()
            attempt = self._backoff.attempt
            self._set_link(Link("reconnecting", attempt, time.time() + wait, str(error)))
            _LOG.info("link to %s lost: %s; attempt %d in %.1f s", self.address, error, attempt, wait)
            await asyncio.sleep(wait)
            self._set_link(Link("reconnecting", attempt, 0.0, str(error)))

    def _set_link(self, link: Link) -> None:
        self._link = link
        for following in list(self._following.values()):
            following.feed.link = link

    def _lose(self, error: ConnectError) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(error)

    async def _watch(self, client: TrainerClient) -> None:
        backoff = Backoff()
        while True:
            try:
                async for info in client.watch_runs():
                    backoff.reset()
                    self._take_info(info)
                    await self._describe(client, info.run_id)
            except ConnectError as error:
                self._lose(error)
                return
            except DaemonError as error:
                _LOG.warning("watching the runs of %s: %s", self.address, error)
            except Exception as error:  # noqa: BLE001 - logged, shown, tried again
                _LOG.exception("watching the runs of %s failed", self.address)
                self._lose(ConnectError(f"an internal error, {type(error).__name__}: {error}"))
                return
            await asyncio.sleep(backoff.next())

    def _take_info(self, info: RunInfo) -> None:
        self._infos[info.run_id] = info
        following = self._following.get(info.run_id)
        if following is not None and following.feed.info != info:
            following.feed.info = info
            following.feed.touch()

    async def _describe(self, client: TrainerClient, run_id: str) -> None:
        """Learn how much there is of a run that is followed, when it is first seen and when it has ended."""
        following = self._following.get(run_id)
        if following is None:
            return
        feed = following.feed
        if feed.details is None or (feed.state.ended and not feed.details.ended):
            try:
                feed.details = await client.describe(run_id)
            except RunNotFoundError:
                return  # the watch says when it is made
            except DaemonError as error:
                _LOG.warning("describing run %s: %s", run_id, error)
            feed.touch()

    # -- the streams of a run ----------------------------------------------------------------------------------------

    def _follow(self, following: _Following) -> None:
        if self._lost is None or self._client is None or following.tasks or self._link.state != "live":
            return  # the supervisor starts it when the link is up
        client, feed = self._client, following.feed
        for inbox in following.inboxes.values():
            task = self._stream(client, inbox)
            following.tasks.append(asyncio.create_task(task, name=f"{inbox.kind} of {feed.run_id}"))
        following.tasks.append(asyncio.create_task(self._describe_first(client, feed.run_id)))

    async def _describe_first(self, client: TrainerClient, run_id: str) -> None:
        try:
            await self._describe(client, run_id)
        except ConnectError as error:
            self._lose(error)

    def _unfollow(self, following: _Following) -> None:
        for task in following.tasks:
            task.cancel()
        following.tasks.clear()
        for inbox in following.inboxes.values():
            self._flush(inbox)

    async def _stream(self, client: TrainerClient, inbox: _Inbox) -> None:
        """Read one stream of a run, again and again; a daemon may end it, or fail on it, without the link being lost."""
        feed, backoff = inbox.feed, Backoff()
        while True:
            try:
                async for message in await self._open(client, inbox):
                    backoff.reset()
                    self._receive(inbox, message)
            except ConnectError as error:
                self._lose(error)
                return
            except DaemonError as error:
                feed.frames.count([Problem("stream_error", f"{inbox.kind}: {error}")])
            except Exception as error:  # noqa: BLE001 - logged, counted, tried again
                # A fault of our own must not end the stream for good.
                _LOG.exception("the stream of %s of run %s failed", inbox.kind, feed.run_id)
                feed.frames.count([Problem("stream_error", f"{inbox.kind}: {type(error).__name__}: {error}")])
            await asyncio.sleep(backoff.next())

    async def _open(self, client: TrainerClient, inbox: _Inbox) -> AsyncIterator[Any]:
        """Open a stream from where it is safe to: exactly after the last row with our daemon, from the start with another's.

        Only ours keeps its numbers over a restart; in another's, a number that was seen may name a new step.
        """
        feed = inbox.feed
        ours = await client.is_ours()
        if inbox.kind == "steps":
            return client.stream_steps(feed.run_id, feed.step_seq if ours else 0)
        return client.stream_episodes(feed.run_id, feed.episode_seq if ours else 0)

    def _receive(self, inbox: _Inbox, message: object) -> None:
        inbox.messages.append(message)
        if len(inbox.messages) >= _FLUSH_AT:
            self._flush(inbox)
        elif inbox.scheduled is None:
            inbox.scheduled = asyncio.get_running_loop().call_later(_FLUSH_EVERY, self._flush, inbox)

    def _flush_all(self) -> None:
        for run_id, kind, item in self._fed:
            following = self._following.get(run_id)
            if following is not None:
                following.inboxes[kind].messages.append(item)
        self._fed.clear()
        for following in self._following.values():
            for inbox in following.inboxes.values():
                self._flush(inbox)

    def _flush(self, inbox: _Inbox) -> None:
        """Turn what waits into a batch, and that into rows."""
        if inbox.scheduled is not None:
            inbox.scheduled.cancel()
            inbox.scheduled = None
        messages, inbox.messages = inbox.messages, []
        if not messages:
            return
        feed, frames = inbox.feed, inbox.feed.frames
        try:
            batches, last = _batches(inbox.kind, messages)
            for batch, problems in batches:
                frames.count(problems)
                if inbox.kind == "steps":
                    frames.append_steps(batch)
                else:
                    frames.append_episodes(batch)
                if batch.num_rows:
                    self.bus.publish(Arrival(feed.run_id, inbox.kind, batch))
            if last and inbox.kind == "steps":
                feed.step_seq = last
            elif last:
                feed.episode_seq = last
        except Exception as error:  # noqa: BLE001 - logged and counted
            _LOG.exception("%d %s of run %s could not be taken in", len(messages), inbox.kind, feed.run_id)
            detail = f"{inbox.kind} could not be taken in, {type(error).__name__}: {error}"
            frames.count([Problem("internal_error", detail, repr(messages[0]), len(messages))])
        feed.touch()


def _batches(kind: Kind, items: list[Any]) -> tuple[list[normalize.Batch], int]:
    """Return the batches of some messages (raw, or parsed and fed by hand) and dicts, and the last sequence number; 0: none."""
    steps = kind == "steps"
    wire: list[Any] = [item for item in items if not isinstance(item, bytes | collections.abc.Mapping)]
    fed = [item for item in items if isinstance(item, collections.abc.Mapping)]
    raws = [item for item in items if isinstance(item, bytes)]
    parsed = normalize.parse_messages(trainer_pb2.RunStep if steps else trainer_pb2.RunEpisode, raws)
    wire += parsed.messages
    batches = []
    if wire or parsed.problems:
        batch, problems = (normalize.steps_from_messages if steps else normalize.episodes_from_messages)(wire)
        batches.append(normalize.Batch(batch, parsed.problems + problems))
    if fed:
        batches.append((normalize.steps_from_events if steps else normalize.episodes_from_events)(fed))
    return batches, parsed.messages[-1].seq_id if parsed.messages else 0
