"""What is known of one run at this moment, and who wants to hear of a change.

A feed is written by one party (the hub's thread, or the reader of a recording) and read by anyone.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Literal

from live_telemetry_widget import _json
from live_telemetry_widget.bus import call_each
from live_telemetry_widget.client import Generation, RunInfo, Traffic, run_state, run_status
from live_telemetry_widget.curves import Curves
from live_telemetry_widget.frames import RunFrames
from live_telemetry_widget.schema import Kind, RunState
from live_telemetry_widget.store import RunRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from live_telemetry_widget.client import RunDetails

LinkState = Literal["connecting", "live", "reconnecting", "closed", "recording"]


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """How the hub stands with the daemon.

    Attributes
    ----------
    attempt
        Of the reconnect under way, from 1; 0 when there is none.
    retry_at
        Seconds since 1970 when it is tried again; 0 when it is not waiting.
    message
        Why it is not live.
    """

    state: LinkState
    attempt: int = 0
    retry_at: float = 0.0
    message: str = ""


#: Seconds: a daemon that does not say how much it has is taken to have sent it all when it pauses for so long ...
_LOADED_PAUSE: Final = 0.3
#: ... but not before, and surely after, so long on the link.
_LOADED_AT_FIRST: Final = 0.5
_LOADED_AT_LATEST: Final = 2.0


class RunFeed:
    """One run: its frames, its state at the daemon, the link.

    Attributes
    ----------
    grace : float
        How long, in seconds, an ended run of a daemon that cannot say how much it sent must be quiet to count as all here.
    """

    def __init__(self, run_id: str, link: Link, *, grace: float = 1.0, memory_limit: int | None = None) -> None:
        self.run_id = run_id
        self._frames = RunFrames(run_id, memory_limit=memory_limit)
        self.grace = grace
        #: Whether the run has ended and its last step is here.
        self.finished = False
        self.details: RunDetails | None = None
        #: Since when the streams are open (monotonic seconds); None while they are not.
        self.up_since: float | None = None
        #: The last sequence numbers of steps and episodes that our own daemon had when it was first asked.
        self.backlog: tuple[int, int] | None = None
        #: Sequence numbers up to which everything that the daemon sent is in the frames.
        self.step_seq = 0
        self.episode_seq = 0
        #: What the run was submitted with, as a recording of it says; used where no daemon tells.
        self.recorded_config = ""
        #: Whether the numbers to resume from come from a recording.
        self.resumed = False
        #: What came over the streams, by kind of row.
        self.traffic: dict[Kind, Traffic] = {"steps": Traffic(), "episodes": Traffic()}
        #: Messages and bytes that came and are not in the frames yet.
        self.waiting = (0, 0)
        #: How often the link was lost.
        self.reconnects = 0
        #: What there is to say of an id that the daemon does not know; empty when it knows it, or has not been asked.
        self.unknown = ""
        self._link = link
        self._info: RunInfo | None = None
        self._ended_at = 0.0
        self._loaded = False
        self._changed = threading.Condition()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._last_arrival = time.monotonic()
        self._news = 0
        self._frames.listen(self._arrived)
        self._curves: Curves | None = None

    @property
    def frames(self) -> RunFrames:
        """What is here of the run."""
        return self._frames

    @property
    def curves(self) -> Curves:
        """Return and length by episode; made when first asked for."""
        frames = self.frames  # of a recording: read now, and not under our lock
        with self._changed:
            if self._curves is None:
                self._curves = Curves(frames)
            return self._curves

    def _arrived(self) -> None:
        if self._frames.news != self._news:
            self._news = self._frames.news
            self.heard()
        self.touch()

    def heard(self) -> None:
        """Note that the daemon has sent something, be it copies: what is new may come behind it."""
        self._last_arrival = time.monotonic()

    def touch(self) -> None:
        """Tell everyone that something changed."""
        with self._changed:
            self._changed.notify_all()
        call_each(self._listeners)

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called on every change, on the writer's thread; return what ends that."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(held for held in self._listeners if held is not listener)

        return stop

    @property
    def link(self) -> Link:
        """How the hub stands with the daemon."""
        return self._link

    @link.setter
    def link(self, link: Link) -> None:
        if link != self._link:
            if link.state == "reconnecting" and self._link.state == "live":
                self.reconnects += 1
            self._link = link
            self.touch()

    @property
    def info(self) -> RunInfo | None:
        """What the daemon says of the run; None when it has not said anything."""
        return self._info

    @info.setter
    def info(self, info: RunInfo) -> None:
        if info.state.ended and not self.state.ended:
            self._ended_at = time.monotonic()
        self._info = info

    @property
    def state(self) -> RunState:
        """Where the run is."""
        return self.info.state if self.info else RunState.UNKNOWN

    @property
    def reason(self) -> str:
        """Why it failed or was cancelled; empty otherwise."""
        return plain_reason(self.info) if self.info else ""

    @property
    def config(self) -> dict[str, Any]:
        """What the run was submitted with; empty when the daemon does not tell."""
        return _config(self.details.config_json if self.details else self.recorded_config)

    def resume(self, info: RunInfo, step_seq: int, episode_seq: int) -> None:
        """Begin where a recording ends, whose rows are in the frames: `info` was said of the run, the numbers are its daemon's."""
        self.resumed = True
        self.info = info
        self.step_seq, self.episode_seq = step_seq, episode_seq
        if info.state.ended:
            self.finish()

    def finish(self) -> None:
        """Note that the run has ended and its last step is here; rows that come later are still taken."""
        self.frames.settle()
        self.finished = True
        self.touch()

    @property
    def loaded(self) -> bool:
        """Whether everything is here that the daemon had when it was first asked, as far as that can be known."""
        if self._loaded or self.finished or self._link.state == "recording":
            return True
        if self.backlog is not None:
            loaded = self.step_seq >= self.backlog[0] and self.episode_seq >= self.backlog[1]
        elif self.up_since is None:
            return False
        else:  # a daemon that does not say how much it has: until it pauses
            up = time.monotonic() - self.up_since
            loaded = up > _LOADED_AT_LATEST or (up > _LOADED_AT_FIRST and self.quiet_for() > _LOADED_PAUSE)
        self._loaded = loaded
        return loaded

    def quiet_for(self) -> float:
        """Return for how many seconds nothing has come, since the link is up and the run ended if it has."""
        return time.monotonic() - max(self._last_arrival, self.up_since or 0.0, self._ended_at)

    def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `condition` holds; return whether it does. Checked on every change, and for what time alone brings."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not condition():
                left = self.grace / 4 if deadline is None else min(self.grace / 4, deadline - time.monotonic())
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True


def _config(text: str) -> dict[str, Any]:
    try:
        config = _json.parse(text) if text else {}
    except _json.UNREADABLE:
        return {}
    return config if isinstance(config, dict) else {}


def plain_reason(info: RunInfo) -> str:
    """Return why a run ended, without what its state says already.

    >>> plain_reason(RunInfo("r", RunState.CANCELLED, "cancelled: the worker was interrupted"))
    'the worker was interrupted'
    """
    said = info.state.value
    return "" if info.reason == said else info.reason.removeprefix(f"{said}: ")


def run_name(details: RunDetails | None) -> str:
    """Return the name for people of a run that was described."""
    return str(_config(details.config_json if details else "").get("run_name") or "")


def row_of(feed: RunFeed, *, all_here: bool = True) -> RunRow:
    """Return what is kept of a run beside its rows; one that has ended and is not all here is not said to have."""
    told, state = feed.info, feed.state
    if state.ended and not all_here:
        state = RunState.RUNNING
    status, reason = run_status(state, feed.reason if all_here else "")
    config = feed.details.config_json if feed.details else feed.recorded_config
    row = RunRow(feed.run_id, status, config_json=config or "{}", failure_reason=reason)
    if told is None:
        return row
    made, changed = told.created_at or 0, told.updated_at or 0
    return dataclasses.replace(
        row, digest=told.digest, last_heartbeat=told.last_heartbeat, created_at=made, updated_at=changed
    )


def info_of(row: RunRow) -> RunInfo:
    """Return a stored run as a daemon would tell it."""
    reason = row.failure_reason or ""
    return RunInfo(
        run_id=row.run_id,
        state=run_state(row.status, reason, Generation.TWO),
        reason=reason,
        digest=row.digest,
        created_at=row.created_at,
        updated_at=row.updated_at,
        last_heartbeat=row.last_heartbeat,
        seq_id=row.record_seq,
    )
