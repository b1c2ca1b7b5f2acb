"""Processes that may not be our children: which one is meant, whether it lives, and a signal that reaches no other.

A process id alone names nothing for long, because the system gives it to the next. So a process is named by its id, its start time and
the boot in which it was started; and what a run has started is found by a mark in the environment, which children inherit.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
from typing import Final, NamedTuple

from live_telemetry_widget import _names

SIGTERM: Final = signal.SIGTERM
#: Windows has none; there nothing is dispatched.
SIGKILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)

_PROC: Final = pathlib.Path("/proc")
_HAS_PROC: Final = (_PROC / "self" / "stat").exists()
#: Columns of /proc/PID/stat after the command's name.
_STATE: Final = 0
_START: Final = 19


class Process(NamedTuple):
    """A process, and no later one with the same number.

    Attributes
    ----------
    pid : int
    started : str
        When, and in which boot; as the system tells it, to be compared and not to be read.
    """

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return find(self.pid) == self


def find(pid: int) -> Process | None:
    """Return the process that has that number now; None when there is none, or only what is left of one."""
    started = _start_in_proc(pid) if _HAS_PROC else _start_from_ps(pid)
    return Process(pid, started) if started else None


def _start_in_proc(pid: int) -> str:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    # A command's name may hold spaces and parentheses; the last one ends it.
    columns = stat.rpartition(")")[2].split()
    return "" if columns[_STATE] in {"Z", "X"} else f"{_boot()}:{columns[_START]}"


def _boot() -> str:
    with contextlib.suppress(OSError):
        return (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
    return ""


def _start_from_ps(pid: int) -> str:
    command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - constants and a number
    state, _, started = done.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


def send(process: Process, number: int) -> bool:
    """Send a signal to that very process; return whether it was there to get it."""
    try:
        descriptor = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else -1
    except OSError:
        return False
    try:
        # The descriptor holds on to whoever has the number now, so after the comparison nobody else can come in between.
        if not process.alive:
            return False
        if descriptor >= 0:
            signal.pidfd_send_signal(descriptor, number)
        else:
            os.kill(process.pid, number)
    except OSError:
        return False
    else:
        return True
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def family(mark: str) -> list[Process]:
    """Return the living processes that carry a mark in their environment; none on systems that do not show it."""
    if not _HAS_PROC:
        return []
    wanted = f"{_names.MARK}={mark}".encode()
    found = []
    for path in _PROC.iterdir():
        if not path.name.isdigit():
            continue
        # Others' processes cannot be read, and some end while we look.
        with contextlib.suppress(OSError):
            process = find(int(path.name))
            if process and wanted in (path / "environ").read_bytes().split(b"\0") and process.alive:
                found.append(process)
    return found
