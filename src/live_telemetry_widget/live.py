"""Paces what a view gets: a push as often as its page can take, holding the newest of what changed since the last.

Nothing is queued for a page. A push is made from the frames when it is due (``frames.since(cursor)``), so what comes faster than it can
be shown is coalesced, and a page that sleeps costs nothing. One thread paces all views of the process; it ends with the last of them.
"""

from __future__ import annotations

import atexit
import collections
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget import slices
from live_telemetry_widget._turns import Turns
from live_telemetry_widget.controls import Controls
from live_telemetry_widget.frames import Cursor
from live_telemetry_widget.lens import AgentFrames, Frames
from live_telemetry_widget.progress import announced_episodes
from live_telemetry_widget.report import kept
from live_telemetry_widget.schema import RunState
from live_telemetry_widget.view import encode, messages, questions
from live_telemetry_widget.view.artist import Artist
from live_telemetry_widget.view.channel import Channels
from live_telemetry_widget.view.curve_question import ViewCurves
from live_telemetry_widget.view.layers_question import Layers
from live_telemetry_widget.view.pace import Pace
from live_telemetry_widget.view.rows_question import Arrangements
from live_telemetry_widget.view.selection import EpisodeRef
from live_telemetry_widget.view.widget import LiveTelemetryWidget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from live_telemetry_widget import grids
    from live_telemetry_widget.feed import RunFeed

_LOG: Final = logging.getLogger(__name__)

#: A page that was loaded while the kernel could not answer it is right again after a keyframe; the first ones come soon.
_KEYFRAME_FIRST: Final = 0.4
_KEYFRAME_EVERY: Final = 4.0
#: Without any sign of a page and of change, keyframes end after so many seconds.
_KEYFRAMES_END: Final = 120.0
#: Even when nothing happens a view is looked at so often (seconds): its widget may have been closed, and its page wants to know that we live.
_LOOK_EVERY: Final = 5.0
_RATE_WINDOW: Final = 2.0


class _Pacer:
    """The thread that runs every view when it is due."""

    def __init__(self) -> None:
        self._views: set[LiveView] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._turns = Turns()

    def add(self, view: LiveView) -> None:
        with self._lock:
            self._views.add(view)
            if self._thread is None:
                self._turns.shorten()
                self._thread = threading.Thread(target=self._main, name="live-telemetry-views", daemon=True)
                self._thread.start()
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    def remove(self, view: LiveView) -> None:
        """Let go of a view; when this returns it is not being run."""
        with self._lock:
            self._views.discard(view)
        self._wake.set()
        # Not under our lock: a view that is run may wait for what the caller holds.
        if threading.current_thread() is not self._thread and view.running.acquire(timeout=2.0):
            view.running.release()

    def _main(self) -> None:
        while True:
            self._wake.clear()
            with self._lock:
                if not self._views:
                    self._thread = None
                    self._turns.restore()
                    return
                views = list(self._views)
            now = time.monotonic()
            due = now + _LOOK_EVERY
            for view in views:
                if view.closed:
                    view.close()
                    continue
                if view.due <= now:
                    with view.running:
                        view.run(now)
                due = min(due, view.due)
            del views
            self._wake.wait(max(0.0, due - time.monotonic()))

    def stop(self) -> None:
        """End all views: the process ends, and nothing may be sent any more."""
        with self._lock:
            views, thread = list(self._views), self._thread
            self._views.clear()
        self._wake.set()
        for view in views:
            view.end()
        if thread is not None and thread is not threading.current_thread():
            thread.join(2.0)


_PACER: Final = _Pacer()
atexit.register(_PACER.stop)


class LiveView:
    """Drives one widget from one feed.

    Parameters
    ----------
    feed
        The run to show.
    agent
        Show only this agent; None: all of them.
    owner
        Kept for as long as the view is, so that ``ltw.connect(...).run(...)`` alone in a cell goes on.

    Attributes
    ----------
    due : float
        When it wants to be run (monotonic seconds).
    """

    def __init__(self, feed: RunFeed, agent: str | None = None, owner: object = None) -> None:
        self.feed = feed
        self.agent = agent
        self.frames: Frames = feed.frames if agent is None else AgentFrames(feed.frames, agent)
        self._owner = owner
        hub = getattr(getattr(owner, "owner", None), "hub", None)
        #: What the page's buttons ask for; None where there is no worker to reach.
        self.controls = Controls(hub, feed) if hub is not None and hub.address is not None else None
        title = f"Live telemetry of run {feed.run_id}" + (f", agent {agent}" if agent else "")
        self.widget = LiveTelemetryWidget(self._on_page, title=title)
        self.widget.find = self._find
        #: What a saved notebook keeps beside it.
        self.embed: kept.Embed = "summary"
        self.widget.beside = lambda: kept.bundle(feed, self.frames, agent, self.embed)
        self.running = threading.Lock()
        self.due = 0.0
        self._not_before = 0.0
        self._closed = False
        self._wanted = True  # a keyframe
        self._ready = False
        self.arrangements = Arrangements()
        self._pace = Pace()
        self._pushes = 0
        self._asks: collections.deque[dict[str, Any]] = collections.deque(maxlen=64)
        self._cursor = Cursor()
        self._rates: collections.deque[tuple[float, int]] = collections.deque()
        self._told: messages.State | None = None
        self._told_at = 0.0
        self.artist = Artist(feed)
        self.layers = Layers()
        self.curves = ViewCurves(feed, agent)
        self._compared: tuple[object, ...] = ()
        self._stop_comparing: list[Callable[[], None]] = []
        self._drawn_to = 0
        self._grid: grids.Grid | None = None
        self._interval = _KEYFRAME_FIRST
        self._keyframe_at = self._changed_at = time.monotonic()
        self._revision = -1
        self._stop_listening = feed.listen(self._wake)
        self._channels = Channels(self.widget.view_id, self._on_channel)
        _PACER.add(self)

    def _find(self, episode: int, step: int | None, agent: str | None, worker: str | None) -> EpisodeRef:
        """Return what names an episode in the selection of this view."""
        number = slices.whole(episode, "the episode's number")
        step = None if step is None else slices.whole(step, "the step")
        agent = self.agent if agent is None else agent
        found = slices.only_one(
            self.feed.frames, self.frames, number, step, agent=agent, worker=worker, status=self.feed.state
        )
        return EpisodeRef(row=found.ordinal, worker=found.worker_id, agent=found.agent_id, episode=found.number)

    def _wake(self) -> None:
        if self.due > self._not_before:
            self.due = self._not_before
            _PACER.wake()

    @property
    def closed(self) -> bool:
        """Whether the view was closed, here or by closing its widget."""
        return self._closed or self.widget.comm is None

    def end(self) -> None:
        """Send nothing any more."""
        self._closed = True
        self._stop_listening()
        self._stop_comparisons()

    def compare(self, feeds: Sequence[RunFeed], owners: Sequence[object] = ()) -> None:
        """Draw the curves of these runs too, in place of those so far; `owners` are kept for as long."""
        self._stop_comparisons()
        self.curves.others = tuple(dict.fromkeys(feed for feed in feeds if feed is not self.feed))
        self._compared = tuple(owners)
        self._stop_comparing = [feed.listen(self._wake) for feed in self.curves.others]
        self._wanted = True
        self._wake()

    def _stop_comparisons(self) -> None:
        for stop in self._stop_comparing:
            stop()
        self._stop_comparing = []
        self._compared = ()

    def close(self) -> None:
        """Take the view off the page; nothing of it runs any more when this returns."""
        self.end()
        _PACER.remove(self)
        self._channels.close()
        self.widget.close()
        self._owner = None

    # -- from the page -----------------------------------------------------------------------------------------------

    def _on_page(self, content: dict[str, Any]) -> None:
        """Take a message from the page, on the kernel's thread; the answer is made on ours."""
        if content["kind"] == "ready":
            self._ready = self._wanted = True
        else:
            self._asks.append(content)
        self.due = 0.0
        _PACER.wake()

    def _on_channel(self, page: str, content: dict[str, Any]) -> tuple[object, Sequence[bytes]] | None:
        """Take a message from a page's request channel, on the thread of its subshell; a question is answered there."""
        if content["kind"] == "ready":
            self._on_page(content)
        elif content["kind"] == "seen":
            cost, now = content.get("cost"), time.monotonic()
            sound = isinstance(cost, int | float) and 0 <= cost < math.inf
            hidden = content.get("hidden") is True
            self._pace.seen(page, cost=float(cost or 0) / 1_000 if sound else 0.0, hidden=hidden, now=now)
            # A page that is looked at again gets what it missed at once.
            self._not_before = min(self._not_before, now + self._pace.interval(now))
            self._wake()
        else:
            return questions.answer(self, content)
        return None

    # -- to the page -------------------------------------------------------------------------------------------------

    def run(self, now: float) -> None:
        """Answer what was asked, and push what is new; called by the pacer when it is due."""
        self.due = self._not_before if now < self._not_before else now + _LOOK_EVERY
        self._answer()
        if now < self._not_before:
            return
        if self.frames.revision != self._revision:
            self._revision, self._changed_at = self.frames.revision, now
        idle = now - self._changed_at
        if now >= self._keyframe_at and (idle < self._interval or (not self._ready and idle < _KEYFRAMES_END)):
            self._wanted = True
        keyframe, self._wanted = self._wanted, False
        if keyframe:
            self._keyframe_at = now + self._interval
            self._interval = min(_KEYFRAME_EVERY, self._interval * 1.5)
        try:
            self._push(keyframe=keyframe)
        except Exception:  # noqa: BLE001 - see below
            # The view's own fault must not end the view, nor print into a cell; the log has it, and the next push tries again.
            _LOG.exception("a push to the view of run %s failed", self.feed.run_id)
        self._not_before = now + self._pace.interval(now)
        # A rate falls to zero, and a keyframe falls due, by time alone; and what was asked or changed meanwhile is due soon.
        if self._asks or self._wanted or self.frames.revision != self._revision:
            self.due = self._not_before
        elif self._rates or not self._ready:
            self.due = min(now + 0.5, max(self._not_before, self._keyframe_at))
        if (curves := self.curves.due) is not None:
            self.due = min(self.due, max(self._not_before, curves))
        if self._drawn_to != self.frames.step_count:
            self.due = min(self.due, max(self._not_before, self.artist.due))

    def _answer(self) -> None:
        while self._asks:
            self.widget.push(*questions.answer(self, self._asks.popleft()))

    def _push(self, *, keyframe: bool) -> None:
        frames = self.frames
        cursor = Cursor() if keyframe else self._cursor
        delta = frames.since(cursor, messages.MAX_ROWS, messages.MAX_EPISODES)
        spans: list[messages.Span] = []
        buffers: list[bytes] = []
        if delta.steps.num_rows or keyframe:
            spans.append(
                messages.Span(table="steps", first=delta.first, count=delta.steps.num_rows, total=frames.step_count)
            )
            buffers.append(encode.to_page(delta.steps))
        if delta.episodes.num_rows or keyframe:
            rows = delta.episodes
            first = rows.column("row")[0].as_py() if rows.num_rows else 0
            spans.append(messages.Span(table="episodes", first=first, count=rows.num_rows, total=frames.episode_count))
            buffers.append(encode.to_page(rows))
        state = self._state(delta.first + delta.steps.num_rows)
        curves = self.curves.push(keyframe=keyframe)
        now = time.monotonic()
        # A page takes a kernel that says nothing of a run that goes on to be gone (js/src/kernel-watch.ts).
        alive = now - self._told_at >= _LOOK_EVERY and _goes_on(state)
        if not (spans or curves is not None or alive or state != self._told):
            return
        self._told, self._told_at = state, now
        self._pushes += 1
        push = messages.Push(
            kind="push",
            version=messages.VERSION,
            number=self._pushes,
            keyframe=keyframe,
            state=state,
            spans=spans,
        )
        if curves is not None:
            push["curves"], push["curves_more"], points = curves
            buffers.append(points)
        self._pace.sent(now)
        self.widget.push(push, buffers)
        self._cursor = delta.cursor

    def _state(self, rows: int) -> messages.State:
        feed, frames, link = self.feed, self.frames, self.feed.link
        config = feed.config
        # First, because drawing counts what cannot be drawn.
        grid = self._newest_grid(rows)
        ended = frames.ended_episodes()
        return messages.State(
            run_id=feed.run_id,
            name=str(config.get("run_name") or ""),
            status=feed.state.value,
            # Of a run that nobody knows: why there is nothing to see.
            reason=feed.reason or feed.unknown,
            connection=messages.Connection(
                state=link.state, attempt=link.attempt, retry_at=link.retry_at, message=link.message
            ),
            agents=frames.agents[:100],
            steps=rows,
            episodes=frames.episode_count,
            ended_episodes=sum(ended),
            # What a worker says is for itself; whether for each of its agents or for all together, nobody says.
            expected_episodes=announced_episodes(config) if len(ended) <= 1 else None,
            # Of a run that has ended, what arrives is read back, not made.
            steps_per_s=0.0 if feed.state.ended else self._rate(frames.step_count),
            problems=[
                messages.ProblemCount(kind=p.kind, count=p.count, detail=p.detail[:500]) for p in frames.problems()
            ],
            controls=self._control_state(),
            grid=grid,
        )

    def _control_state(self) -> messages.ControlState | None:
        if self.controls is None:
            return None
        offered, asked, trouble = self.controls.state
        return messages.ControlState(offered=list(offered), asked=asked, trouble=trouble[:500])

    def _rate(self, steps: int) -> float:
        """Return steps a second over the last two seconds of the view's life."""
        now = time.monotonic()
        self._rates.append((now, steps))
        while len(self._rates) > 1 and now - self._rates[1][0] >= _RATE_WINDOW:
            self._rates.popleft()
        then, before = self._rates[0]
        span = now - then
        if steps == before and span >= _RATE_WINDOW:
            self._rates.clear()
            return 0.0
        return (steps - before) / span if span > 0 else 0.0

    def _newest_grid(self, rows: int) -> grids.Grid | None:
        """Return the grid of the newest step that can be drawn; that of the last push when nothing came, or frames take long."""
        if rows != self._drawn_to and time.monotonic() >= self.artist.due:
            self._drawn_to = rows
            self._grid = self.artist.newest(self.frames, rows)
        return self._grid


def _goes_on(state: messages.State) -> bool:
    """Whether something may still come of the run."""
    return not RunState(state["status"]).ended and state["connection"]["state"] not in {"closed", "recording"}
