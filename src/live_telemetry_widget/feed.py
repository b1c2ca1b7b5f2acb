"""What is known of one run at this moment, and who wants to hear of a change.

A feed is written by one party (the hub's thread, or the reader of a recording) and read by anyone.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from live_telemetry_widget.frames import RunFrames
from live_telemetry_widget.schema import RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from live_telemetry_widget.client import RunDetails, RunInfo

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


class RunFeed:
    """One run: its frames, its state at the daemon, the link.

    Attributes
    ----------
    frames : RunFrames
    grace : float
        How long, in seconds, an ended run of a daemon that cannot say how much it sent must be quiet to count as all here.
    """

    def __init__(self, run_id: str, link: Link, *, grace: float = 1.0) -> None:
        self.run_id = run_id
        self.frames = RunFrames(run_id)
        self.grace = grace
        self.info: RunInfo | None = None
        self.details: RunDetails | None = None
        #: Sequence numbers up to which everything that the daemon sent is in the frames.
        self.step_seq = 0
        self.episode_seq = 0
        self._link = link
        self._changed = threading.Condition()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._last_arrival = time.monotonic()
        self.frames.listen(self._arrived)

    def _arrived(self) -> None:
        self._last_arrival = time.monotonic()
        self.touch()

    def touch(self) -> None:
        """Tell everyone that something changed."""
        with self._changed:
            self._changed.notify_all()
        for listener in self._listeners:
            listener()

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
            self._link = link
            self.touch()

    @property
    def state(self) -> RunState:
        """Where the run is."""
        return self.info.state if self.info else RunState.UNKNOWN

    @property
    def reason(self) -> str:
        """Why it failed or was cancelled; empty otherwise."""
        return self.info.reason if self.info else ""

    @property
    def config(self) -> dict[str, Any]:
        """What the run was submitted with; empty when the daemon does not tell."""
        try:
            config = json.loads(self.details.config_json) if self.details else {}
        except ValueError:
            return {}
        return config if isinstance(config, dict) else {}

    @property
    def finished(self) -> bool:
        """Whether the run has ended and its last step is here."""
        if not self.state.ended:
            return False
        details = self.details
        if details is not None:  # our own daemon: what it said before the end is asked again at the end
            return (
                details.ended
                and self.step_seq >= details.last_step_seq
                and self.episode_seq >= details.last_episode_seq
            )
        return self.quiet_for() >= self.grace

    def quiet_for(self) -> float:
        """Return for how many seconds nothing has come."""
        return time.monotonic() - self._last_arrival

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
