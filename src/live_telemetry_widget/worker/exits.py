"""With which code a program was left: at its end Python tells of an exception, but of ``sys.exit`` nothing.

``raise SystemExit(3)`` and ``os._exit`` pass by here unseen; a ``with`` block sees the former too.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import NoReturn

_LEFT: list[SystemExit] = []


def watch() -> None:
    """Have ``sys.exit`` note its code from now on; what it does stays."""
    leave = sys.exit
    if getattr(leave, "notes_code", False):
        return

    @functools.wraps(leave)
    def exit(status: object = None, /) -> NoReturn:  # noqa: A001 - the name of what it stands for
        # In another thread it ends that thread only.
        if threading.current_thread() is threading.main_thread():
            # One of our own, without the frames that the raised one holds.
            _LEFT[:] = [SystemExit(status)]
        leave(status)  # type: ignore[arg-type]  # whatever it was given

    exit.notes_code = True  # type: ignore[attr-defined]  # ours
    sys.exit = exit


def left_by() -> SystemExit | None:
    """Return what ``sys.exit`` was given last, also if somebody caught it."""
    return _LEFT[0] if _LEFT else None
