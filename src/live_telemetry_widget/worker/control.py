r"""What a person wants of a worker while it runs: to pause, to go on, to make so many steps, to make them slower.

A worker that is told to (``LTW_CONTROL=stdin`` in its environment) reads lines on its standard input, and says so in its
first event; docs/wire.md has the lines. :class:`Listener` does the reading. It needs nothing but the standard library:

    listener = Listener.from_environment()
    print(json.dumps({"type": "run_started", "config": {}, "control": listener.listens}), flush=True)
    while training:
        listener.before_step()
        ...

Examples
--------
>>> allowance = Allowance()
>>> allowance.order({"pause": True}); allowance.order({"grant_steps": 2}); allowance.left
2
>>> allowance.order({"resume": True}); allowance.left is None
True
"""

from __future__ import annotations

import io
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from live_telemetry_widget import _names

if TYPE_CHECKING:
    from collections.abc import Mapping

#: An event has one of these.
ORDERS: Final = ("grant_steps", "pause", "resume", "max_rate_hz")

#: Seconds.
_CATCH_UP: Final = 0.05


class Allowance:
    """How many steps a worker may make, and how fast.

    Attributes
    ----------
    left : int or None
        Steps that it may still make; None: as many as it likes.
    rate : int
        Steps a second at most; 0: as many as it can.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.rate = 0
        self._next = 0.0

    @property
    def unlimited(self) -> bool:
        """Whether there is nothing to heed."""
        return self.left is None and not self.rate

    def order(self, event: Mapping[str, Any]) -> None:
        """Take an order; what is none changes nothing."""
        if event.get("pause"):
            self.left = 0
        if event.get("resume"):
            self.left = None
        if (granted := _count(event.get("grant_steps"))) is not None:
            self.left = (self.left or 0) + granted
        if (rate := _count(event.get("max_rate_hz"))) is not None:
            self.rate, self._next = rate, 0.0

    def take(self, wanted: int, now: float) -> int:
        """Use up to `wanted` steps; return how many may be made now."""
        may = wanted if self.left is None else min(wanted, self.left)
        if self.rate and may:
            # What was not used in the last moments may be made up for, because nobody wakes up exactly on time; no more than that.
            burst = max(1, int(self.rate * _CATCH_UP))
            self._next = max(self._next, now - (burst - 1) / self.rate)
            may = min(may, int((now - self._next) * self.rate) + 1) if now >= self._next else 0
            self._next += may / self.rate
        if self.left is not None:
            self.left -= may
        return may

    def wait(self, now: float) -> float | None:
        """Return in how many seconds a step may be made; None: not before another order."""
        return None if self.left == 0 else max(0.0, self._next - now) if self.rate else 0.0


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


class Listener:
    """Reads control lines on a thread of its own, and holds the worker when it is told to.

    Parameters
    ----------
    source
        Where the lines come from; None for a worker that nobody controls.

    Attributes
    ----------
    listens : bool
        What to say as ``control`` in the ``run_started`` event.
    """

    def __init__(self, source: BinaryIO | None) -> None:
        self.listens = source is not None
        self._allowance = Allowance()
        self._news = threading.Condition()
        if source is not None:
            threading.Thread(target=self._read, args=(source,), daemon=True, name="reads control lines").start()

    @classmethod
    def from_environment(cls) -> Self:
        """Listen to standard input if the proxy says that it is for that."""
        if os.environ.get(_names.CONTROL) != "stdin":
            return cls(None)
        # Not sys.stdin: its lock, held by a thread that reads, would trouble the end of the interpreter.
        return cls(io.BufferedReader(io.FileIO(0, closefd=False)))

    def before_step(self) -> None:
        """Return when a step may be made: at once, unless somebody has said otherwise."""
        if self._allowance.unlimited:
            return
        with self._news:
            while not self._allowance.take(1, time.monotonic()):
                self._news.wait(self._allowance.wait(time.monotonic()))

    def _read(self, source: BinaryIO) -> None:
        for line in source:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("type") == "control":
                self._take(event)
        # The proxy is gone, and nobody could say "resume" any more.
        self._take({"resume": True, "max_rate_hz": 0})

    def _take(self, event: Mapping[str, Any]) -> None:
        with self._news:
            self._allowance.order(event)
            self._news.notify_all()
