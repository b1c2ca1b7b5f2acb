"""Paces what a view gets: a push at most every 50 ms, holding the newest of what changed since the last.

Nothing is queued for a page. A push is made from the frames when it is due (``frames.since(cursor)``), so what comes faster than it can
be shown is coalesced, and a page that sleeps costs nothing.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget import grids
from live_telemetry_widget.frames import Cursor
from live_telemetry_widget.view import encode, messages
from live_telemetry_widget.view.widget import LiveTelemetryWidget

if TYPE_CHECKING:
    import pyarrow as pa

    from live_telemetry_widget.feed import RunFeed

_LOG: Final = logging.getLogger(__name__)

#: Seconds between pushes; a page that cannot answer (a cell is busy) is paced the same.
_PUSH_EVERY: Final = 0.05
#: A page that was loaded while the kernel could not answer it is right again after a keyframe; the first ones come soon.
_KEYFRAME_FIRST: Final = 0.4
_KEYFRAME_EVERY: Final = 4.0
#: Without any sign of a page and of change, keyframes end after so many seconds.
_KEYFRAMES_END: Final = 120.0
_RATE_WINDOW: Final = 2.0
_LOOK_BACK: Final = 50


class LiveView:
    """Drives one widget from one feed, on a thread of its own.

    Parameters
    ----------
    feed
        The run to show.
    owner
        Kept for as long as the view is, so that ``ltw.connect(...).run(...)`` alone in a cell goes on.
    """

    def __init__(self, feed: RunFeed, owner: object = None) -> None:
        self.feed = feed
        self._owner = owner
        self.widget = LiveTelemetryWidget(self._on_page, title=f"Live telemetry of run {feed.run_id}")
        self._wake = threading.Event()
        self._closed = False
        self._wanted = True  # a keyframe
        self._ready = False
        self._asks: collections.deque[dict[str, Any]] = collections.deque(maxlen=64)
        self._cursor = Cursor()
        self._rates: collections.deque[tuple[float, int]] = collections.deque()
        self._told: messages.State | None = None
        self._grid: tuple[int, grids.Grid | None] = (-1, None)
        self._stop_listening = feed.listen(self._wake.set)
        self._thread = threading.Thread(target=self._main, name=f"live-telemetry-view {feed.run_id}", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether the view was closed, here or by closing its widget."""
        return self._closed or self.widget.comm is None

    def close(self) -> None:
        """Take the view off the page and end its thread."""
        self._closed = True
        self._stop_listening()
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join(2.0)
        self.widget.close()

    # -- from the page -----------------------------------------------------------------------------------------------

    def _on_page(self, content: dict[str, Any]) -> None:
        """Take a message from the page, on the kernel's thread; the answer is made on ours."""
        if content["kind"] == "ready":
            self._ready = self._wanted = True
        else:
            self._asks.append(content)
        self._wake.set()

    def _answer(self, ask: dict[str, Any]) -> None:
        number, table, first, count = (ask.get(name) for name in ("id", "table", "first", "count"))
        known = ask["kind"] == "ask_rows" and table in {"steps", "episodes"}
        if not (known and isinstance(number, int) and isinstance(first, int) and isinstance(count, int)):
            message = f"not a question this version understands: {str(ask)[:200]}"
            asked = number if isinstance(number, int) else -1
            self.widget.push(messages.Refused(kind="refused", version=messages.VERSION, id=asked, message=message))
            return
        frames = self.feed.frames
        if table == "steps":
            rows = frames.rows(first, min(count, messages.MAX_ROWS))
            span = messages.Span(table="steps", first=first, count=rows.num_rows, total=frames.step_count)
        else:
            rows = frames.episode_rows(first, min(count, messages.MAX_EPISODES))
            span = messages.Span(table="episodes", first=first, count=rows.num_rows, total=frames.episode_count)
        answer = messages.Rows(kind="rows", version=messages.VERSION, id=number, spans=[span])
        self.widget.push(answer, [encode.to_page(rows)])

    # -- to the page -------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        began = time.monotonic()
        interval = _KEYFRAME_FIRST
        keyframe_at = began
        changed_at = began
        revision = -1
        while not self.closed:
            self._wake.clear()
            now = time.monotonic()
            if self.feed.frames.revision != revision:
                revision, changed_at = self.feed.frames.revision, now
            idle = now - changed_at
            if now >= keyframe_at and (idle < interval or (not self._ready and idle < _KEYFRAMES_END)):
                self._wanted = True
            keyframe = self._wanted
            if keyframe:
                self._wanted = False
                keyframe_at = now + interval
                interval = min(_KEYFRAME_EVERY, interval * 1.5)
            try:
                while self._asks:
                    self._answer(self._asks.popleft())
                self._push(keyframe=keyframe)
            except Exception:  # noqa: BLE001 - see below
                # The view's own fault must not end the view, nor print into a cell; the log has it, and the next push tries again.
                _LOG.exception("a push to the view of run %s failed", self.feed.run_id)
            spent = time.monotonic() - now
            self._pause(max(0.0, _PUSH_EVERY - spent))
            # A rate falls to zero, and a keyframe falls due, by time alone.
            self._wake.wait(self._rest(keyframe_at))
        self._stop_listening()

    def _pause(self, seconds: float) -> None:
        """Let changes gather; only closing cuts it short."""
        end = time.monotonic() + seconds
        while not self._closed and (left := end - time.monotonic()) > 0:
            time.sleep(left)

    def _rest(self, keyframe_at: float) -> float:
        if self._rates or not self._ready:
            return min(0.5, max(0.05, keyframe_at - time.monotonic()))
        return 5.0  # also finds out that the widget was closed

    def _push(self, *, keyframe: bool) -> None:
        frames = self.feed.frames
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
        state = self._state(delta.steps, delta.first + delta.steps.num_rows)
        if not spans and state == self._told:
            return
        self._told = state
        push = messages.Push(kind="push", version=messages.VERSION, keyframe=keyframe, state=state, spans=spans)
        self.widget.push(push, buffers)
        self._cursor = delta.cursor

    def _state(self, newest: pa.Table, rows: int) -> messages.State:
        feed, frames, link = self.feed, self.feed.frames, self.feed.link
        config = feed.config
        return messages.State(
            run_id=feed.run_id,
            name=str(config.get("run_name") or ""),
            status=feed.state.value,
            reason=feed.reason,
            connection=messages.Connection(
                state=link.state, attempt=link.attempt, retry_at=link.retry_at, message=link.message
            ),
            agents=frames.agents[:100],
            steps=frames.step_count,
            episodes=frames.episode_count,
            expected_episodes=_expected_episodes(config),
            # Of a run that has ended, what arrives is read back, not made.
            steps_per_s=0.0 if feed.state.ended else self._rate(frames.step_count),
            problems=[
                messages.ProblemCount(kind=p.kind, count=p.count, detail=p.detail[:500]) for p in frames.problems()
            ],
            grid=self._newest_grid(newest, rows),
        )

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

    def _newest_grid(self, newest: pa.Table, rows: int) -> grids.Grid | None:
        """Return the grid of the newest step that can be drawn; that of the last push when nothing came."""
        if rows == self._grid[0]:
            return self._grid[1]
        tail = newest.slice(max(0, newest.num_rows - _LOOK_BACK)).select(
            ["episode", "step_index", "action", "observation", "render_payload"]
        )
        for step in reversed(tail.to_pylist()):
            grid = grids.grid_from(
                step["render_payload"],
                step["observation"],
                action=step["action"],
                episode=step["episode"],
                step_index=step["step_index"],
            )
            if grid is not None:
                self._grid = (rows, grid)
                return grid
        return self._grid[1]


def _expected_episodes(config: dict[str, Any]) -> int | None:
    """Return how many episodes the run's config announces, where clients in use put it."""
    at: Any = config
    for name in ("metadata", "worker", "config", "max_episodes"):
        at = at.get(name) if isinstance(at, dict) else None
    return at if isinstance(at, int) and not isinstance(at, bool) and at > 0 else None
