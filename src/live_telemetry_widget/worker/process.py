"""The worker's process: started in a group of its own, signalled as a group, never left behind."""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Final, Self

from live_telemetry_widget.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: What people, shells and schedulers send to end a program.
_FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: How much of the worker's output asyncio holds before it stops reading the pipe; twice that, really.
_BUFFER: Final = 512 * 1024
_GRACE: Final = 2.0
#: How often (seconds) it is looked whether the rest of a group has ended.
_LOOK: Final = 0.02


class _Protocol(asyncio.subprocess.SubprocessStreamProtocol):
    """Tells when the process itself has ended: Process.wait() waits for its pipes too, which a grandchild may hold open."""

    def __init__(self, exited: asyncio.Event) -> None:
        super().__init__(_BUFFER, asyncio.get_running_loop())
        self._exited = exited

    def process_exited(self) -> None:
        super().process_exited()
        self._exited.set()


class WorkerProcess:
    """A running worker. Its standard error is ours.

    Attributes
    ----------
    stdout : asyncio.StreamReader
    exited : asyncio.Event
        Set when the process has ended, be its output read or not.
    """

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        stdin: asyncio.StreamWriter | None,
        stdout: asyncio.StreamReader,
        exited: asyncio.Event,
    ) -> None:
        self._transport = transport
        self._stdin = stdin
        self.stdout = stdout
        self.exited = exited

    @classmethod
    async def start(
        cls, command: Sequence[str], environment: Mapping[str, str], *, control_stdin: bool = False
    ) -> Self:
        """Start a command in a session, and so a process group, of its own.

        Parameters
        ----------
        control_stdin
            Its standard input is for :meth:`say`, not ours.

        Raises
        ------
        WorkerError
            There is no such program, or it may not be run.
        """
        loop = asyncio.get_running_loop()
        exited = asyncio.Event()
        try:
            transport, protocol = await loop.subprocess_exec(
                lambda: _Protocol(exited),
                *command,
                stdin=asyncio.subprocess.PIPE if control_stdin else None,
                stdout=asyncio.subprocess.PIPE,
                stderr=None,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            msg = f"cannot start {command[0]!r}: {getattr(error, 'strerror', None) or error}"
            raise WorkerError(msg) from error
        if protocol.stdout is None:  # pragma: no cover - a pipe was asked for
            msg = "the worker has no standard output"
            raise WorkerError(msg)
        return cls(transport, protocol.stdin, protocol.stdout, exited)

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._transport.get_returncode()

    def send(self, number: int) -> None:
        """Send a signal to the worker and the processes that it started."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._transport.get_pid(), number)

    def say(self, line: bytes) -> bool:
        """Write a line to the worker's standard input, without waiting for it to be read; return whether there is one to write to."""
        if self._stdin is None or self._stdin.is_closing():
            return False
        self._stdin.write(line)
        return True

    async def end_group(self, grace: float) -> None:
        """End the worker and the processes that it started: SIGTERM, SIGKILL after `grace` seconds, also for those that outlive it."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        self._signal_group(signal.SIGTERM)
        # As long as one of the group lives, the system gives its number to no other.
        while loop.time() < end and self._signal_group(0):  # noqa: ASYNC110 - nobody tells when a group is empty
            await asyncio.sleep(_LOOK)
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> bool:
        try:
            os.killpg(self._transport.get_pid(), number)
        except (ProcessLookupError, PermissionError):  # macOS answers the latter when only a zombie is left
            return False
        return True

    async def end(self) -> None:
        """End the worker if it still runs, gently first; let go of its pipe."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.exited.is_set():
                break
            self.send(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE):
                    await self.exited.wait()
        self._transport.close()


class Signals:
    """While entered, what would end this process goes to `forward` instead.

    Signals that came before there was somewhere to forward them to are kept for it. Outside the main thread, where signals
    cannot be handled, it does nothing.

    Attributes
    ----------
    received : list of int
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._forward: Callable[[int], None] | None = None

    def forward_to(self, forward: Callable[[int], None]) -> None:
        """Call `forward` with each signal's number from now on, and with those that came before."""
        self._forward = forward
        for number in self.received:
            forward(number)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in _FORWARDED:
                loop.add_signal_handler(number, self._take, number)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in _FORWARDED:
                loop.remove_signal_handler(number)

    def _take(self, number: int) -> None:
        self.received.append(number)
        if self._forward is not None:
            self._forward(number)
