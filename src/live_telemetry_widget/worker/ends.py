"""How emitters end: with their program, by being forgotten, in a forked process."""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING, Final

from live_telemetry_widget.worker import exits, notices

if TYPE_CHECKING:
    from live_telemetry_widget.worker.courier import Courier
    from live_telemetry_widget.worker.gate import Gate
    from live_telemetry_widget.worker.helper import Helper
    from live_telemetry_widget.worker.options import Outcome

#: The emitters' threads that run, and what holds their training threads. Of the process, as what needs it is: its end, and its forks.
LIVE: Final[dict[Courier | Helper, Gate]] = {}


def outcome_of(error: BaseException | None) -> tuple[Outcome, str]:
    """Return how a training loop ended that was left by an exception, or by none.

    >>> outcome_of(None)
    ('completed', '')
    >>> outcome_of(ZeroDivisionError("division by zero"))
    ('failed', 'ZeroDivisionError: division by zero')
    >>> outcome_of(KeyboardInterrupt())
    ('cancelled', 'interrupted')
    """
    from live_telemetry_widget.errors import RunCancelledError  # noqa: PLC0415 - beside what it decides

    if error is None:
        return "completed", ""
    if isinstance(error, KeyboardInterrupt | RunCancelledError):
        return "cancelled", "interrupted" if isinstance(error, KeyboardInterrupt) else "cancelled"
    if isinstance(error, SystemExit):
        return ("failed", f"exit code {error.code}") if error.code else ("completed", "")
    return "failed", f"{type(error).__name__}: {error}"


def ended(courier: Courier | Helper) -> None:
    """Forget one that has ended."""
    LIVE.pop(courier, None)


def end_forgotten(courier: Courier | Helper) -> None:
    """End the run of an emitter that is garbage: a thread or a function was left, by its end or by an exception, without closing it."""
    outcome, reason = outcome_of(exits.left_by())
    if outcome == "completed":
        outcome, reason = "failed", "the emitter was not closed"
    courier.end(outcome, reason, 30.0)


def _finish_all() -> None:
    """At the end of the process: deliver what is left, and say how it ended."""
    # The first is set when an exception ended the program; of SystemExit Python tells nobody.
    outcome, reason = outcome_of(getattr(sys, "last_value", None) or exits.left_by())
    live = list(LIVE.items())  # one that has ended is not in it any more
    for courier, gate in live:
        gate.close("the process ends")
        courier.end(outcome, reason, 10.0)
    for courier, _ in live:
        courier.join(20.0)
        notices.what_is_left(courier)
    LIVE.clear()


def _after_fork() -> None:
    """In a forked process: its parent's emitters record nothing there. gRPC and threads do not survive a fork."""
    for courier, gate in LIVE.items():
        gate.reset("this process was forked from the emitter's; make one here, or use the spawn method")
        courier.forget()
    LIVE.clear()


atexit.register(_finish_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
