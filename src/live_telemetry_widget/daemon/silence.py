"""Who has shown life lately, on a clock that stands still while the daemon does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from live_telemetry_widget.daemon.settings import Settings
    from live_telemetry_widget.store import RunRow

#: Seconds between two looks. What lies beyond twice that, the daemon itself was not there (stopped, or the machine asleep).
TICK: Final = 0.5
#: Seconds that a proxy has at least for its first heartbeat.
_BEGINNING: Final = 60.0


class Pulse:
    """Signs of life of runs.

    >>> pulse = Pulse()
    >>> pulse.beat("r"); pulse.tick(0.5); pulse.tick(3_600.0)
    >>> pulse.silent("r")
    1.5
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._last: dict[str, float] = {}

    def beat(self, run_id: str) -> None:
        """Note that a run lives."""
        self._last[run_id] = self._now

    def tick(self, elapsed: float) -> None:
        """Let the clock go on; of a long stop only as much as a look may be late."""
        self._now += min(elapsed, 2 * TICK)

    def silent(self, run_id: str) -> float:
        """Return for how many seconds a run has shown no life; one that was never seen begins now."""
        return self._now - self._last.setdefault(run_id, self._now)

    def forget(self, run_id: str) -> None:
        """Keep nothing of a run."""
        self._last.pop(run_id, None)


def patience(run: RunRow, settings: Settings, *, dispatched: bool, begun: bool) -> float:
    """Return for how many seconds a run may show no life; 0: for ever.

    Parameters
    ----------
    dispatched
        Its worker was started by this daemon, or by one before it.
    begun
        Something was heard of it, ever.
    """
    if run.last_heartbeat is not None:
        return settings.heartbeat_timeout
    if dispatched:
        # It beats once it has begun. To begin takes a while on a machine that is busy.
        return settings.heartbeat_timeout and max(settings.heartbeat_timeout, _BEGINNING)
    if begun:
        return settings.silence_timeout
    # Made, and never joined. One that was submitted to a daemon which starts workers has lost its worker in a crash.
    return settings.silence_timeout if run.digest and settings.dispatch != "never" else 0.0


async def watch(pulse: Pulse, look: Callable[[], Awaitable[None]]) -> None:
    """Let the clock go on, and look after the runs; for ever."""
    loop = asyncio.get_running_loop()
    at = loop.time()
    while True:
        await asyncio.sleep(TICK)
        now = loop.time()
        pulse.tick(now - at)
        at = now
        await look()
