"""What holds a training thread at its next step: somebody's order, a full spool, or that nothing is recorded any more."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from live_telemetry_widget.errors import RunCancelledError
from live_telemetry_widget.worker.control import Allowance

if TYPE_CHECKING:
    from collections.abc import Mapping


class Door(Protocol):
    """What an emitter's own thread, or its helper, does with a gate."""

    off: str
    turned_away: int

    def order(self, event: Mapping[str, Any]) -> None:
        """Take an order."""

    def cancel(self) -> None:
        """Note that the run was cancelled."""

    def fill(self, *, full: bool) -> None:
        """Hold steps for want of room, or let them go on."""

    def close(self, why: str) -> None:
        """Record nothing any more."""


class Gate:
    """Between a training thread, which passes it with each step, and an emitter's own thread.

    Parameters
    ----------
    obeys
        Whether orders (pause, cancel ...) hold and end the training loop.

    Attributes
    ----------
    shut : bool
        Whether a step has to ask :meth:`admit`; a plain attribute, because every step reads it.
    off : str
        Why nothing is recorded any more; empty while it is.
    turned_away : int
        Steps that were not recorded for that reason.
    cancelled : bool
        Whether somebody has cancelled the run.
    """

    def __init__(self, *, obeys: bool) -> None:
        self.shut = False
        self.off = ""
        self.turned_away = 0
        self.cancelled = False
        self._obeys = obeys
        self._full = False
        self._crowded = False
        self._allowance = Allowance()
        self._news = threading.Condition()

    @property
    def paused(self) -> bool:
        """Whether a step would have to wait for somebody's word."""
        return self._allowance.left == 0

    @property
    def full(self) -> bool:
        """Whether steps wait for room."""
        return self._full

    def admit(self) -> bool:
        """Wait until a step may be made; whether it is recorded.

        Raises
        ------
        RunCancelledError
            Somebody has cancelled the run.
        """
        with self._news:
            while not self.off:
                if self.cancelled and self._obeys:
                    msg = "the run was cancelled; end the training loop"
                    raise RunCancelledError(msg)
                now = time.monotonic()
                if self._full or self._crowded:
                    self._news.wait()
                elif not self._obeys or self._allowance.take(1, now):
                    return True
                else:
                    self._news.wait(self._allowance.wait(now))
            self.turned_away += 1
            return False

    def hold(self) -> None:
        """Have the next step ask, whatever else is the case; :meth:`release` undoes it."""
        self.shut = True

    def release(self) -> None:
        """Have steps ask only when there is a reason."""
        with self._news:
            self._change()

    def order(self, event: Mapping[str, Any]) -> None:
        """Take an order, as :class:`~live_telemetry_widget.worker.control.Allowance` does."""
        with self._news:
            self._allowance.order(event)
            self._change()

    def cancel(self) -> None:
        """Note that the run was cancelled."""
        with self._news:
            self.cancelled = True
            self._change()

    def fill(self, *, full: bool) -> None:
        """Hold steps for want of room, or let them go on."""
        if full != self._full:
            with self._news:
                self._full = full
                self._change()

    def crowd(self, *, crowded: bool) -> None:
        """Hold steps until those that are there have been taken."""
        if crowded != self._crowded:
            with self._news:
                self._crowded = crowded
                self._change()

    def close(self, why: str) -> None:
        """Record nothing any more; the training loop goes on."""
        with self._news:
            self.off = self.off or why
            self._change()

    def reset(self, why: str) -> None:
        """Do so in a process that was forked: whoever held the lock is not here to release it."""
        self._news = threading.Condition()
        self.close(why)

    def _change(self) -> None:
        self.shut = bool(self.off or self.cancelled or self._full or self._crowded or not self._allowance.unlimited)
        self._news.notify_all()
