"""A helper's process and the pipes to it, as :class:`~live_telemetry_widget.worker.helper.Helper` uses them."""

from __future__ import annotations

import collections
import contextlib
import os
import select
import subprocess
import sys
from typing import Any, Final

from live_telemetry_widget.worker.parcels import Unframed, frame, loads, read_some

COMMAND: Final = ("-P", "-m", "live_telemetry_widget.worker.helping")
_PIPE: Final = 1 << 20


class HelperProcess:
    """One helper, and the pipes to it. What it says is read without waiting."""

    def __init__(self, first: bytes) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(  # noqa: S603 - our own
            [sys.executable or "python3", *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Whoever reads the training program's output to its end must not wait for the helper's.
            stderr=subprocess.DEVNULL,
            # Ctrl-C in a terminal is not for it: the last rows are to get out.
            start_new_session=True,
            bufsize=0,
            env=environment,
        )
        self.pid = self._process.pid
        self.ended = False
        assert self._process.stdin is not None  # noqa: S101 - PIPE
        assert self._process.stdout is not None  # noqa: S101 - PIPE
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        _widen(self._to)
        self._cutter = Unframed()
        self._unsent: collections.deque[memoryview] = collections.deque()
        self.send(first)

    @property
    def idle(self) -> bool:
        """Whether all was written that was sent."""
        return not self._unsent

    def send(self, data: bytes) -> None:
        """Have bytes written as soon as there is room for them in the pipe."""
        self._unsent.append(memoryview(frame(data)))

    def write(self) -> None:
        """Write what there is room for."""
        try:
            while self._unsent:
                head = self._unsent[0]
                written = os.write(self._to, head)
                if written < len(head):
                    self._unsent[0] = head[written:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:  # nobody reads any more; what it has said last tells
            self._unsent.clear()

    def hear(self) -> list[Any]:
        """Return what the helper has said; :attr:`ended` when it will say no more."""
        said: list[Any] = []
        while not self.ended:
            data = read_some(self._from)
            if data is None:
                break
            self.ended = not data
            said += map(loads, self._cutter.feed(data))
        return said

    def wait(self, wake: int, seconds: float, *, hearing: bool) -> bool:
        """Wait until somebody wakes us, which is True, the helper reads on, or (if asked for) it says something."""
        readers = [wake, self._from] if hearing and not self.ended else [wake]
        ready, _, _ = select.select(readers, [self._to] if self._unsent else [], [], seconds)
        return wake in ready

    def leave(self) -> None:
        """Close the pipes. A helper that lives finishes what it has, and ends."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def reap(self, seconds: float) -> bool:
        """Wait for its end; whether it came."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _widen(descriptor: int) -> None:
    """Have a pipe hold more, where that can be said: a helper that does not come to run for a moment holds nobody up."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not everywhere

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE)
