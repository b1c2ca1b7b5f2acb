"""A daemon of one's own, for notebooks and tests: a child process that ends with its parent.

A thread would share the interpreter lock with the user's cell; a process does not. It ends when its standard input closes,
so it does not outlive a parent that was killed, and it has a session of its own, so that an interrupt of the kernel
(Ctrl-C, the stop button) does not reach it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import weakref
from typing import IO, Final, Self

from live_telemetry_widget.errors import ConnectError

LOG_NAME: Final = "daemon.log"
#: Seconds that the daemon is given to end its workers, commit and close before it is killed.
_PATIENCE: Final = 20.0
_TAIL: Final = 2_000


def serve(
    data_dir: str | os.PathLike[str] | None = None, listen: str = "127.0.0.1:0", *, timeout: float = 30
) -> Server:
    """Start a daemon and return when it answers.

    >>> with serve() as server:  # a temporary directory, a free port
    ...     server.address.startswith("127.0.0.1:")
    True

    Parameters
    ----------
    data_dir
        Where the runs are kept; made when it does not exist. None: a temporary directory, deleted by :meth:`Server.stop`.
    listen
        ``"host:port"``; port 0 takes a free one.
    timeout
        Seconds to wait until it answers.

    Raises
    ------
    ConnectError
        It did not start (the address or the directory is taken, ...); the message holds what it said.
    """
    return Server(data_dir, listen, timeout=timeout)


class Server:
    """A daemon in a child process; make it with :func:`serve`.

    Ends with :meth:`stop`, as a context manager, when it is garbage, and with this process.

    Attributes
    ----------
    address : str
        ``"host:port"``, for :func:`~live_telemetry_widget.connect`.
    data_dir : pathlib.Path
        Holds the recording (:func:`~live_telemetry_widget.open`) and ``daemon.log``.
    pid : int
    """

    def __init__(self, data_dir: str | os.PathLike[str] | None, listen: str, *, timeout: float) -> None:
        temporary = None if data_dir is not None else tempfile.TemporaryDirectory(prefix="live-telemetry-")
        self.data_dir = pathlib.Path(temporary.name if temporary else data_dir or "").absolute()
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = self.data_dir / LOG_NAME
        command = [sys.executable, "-m", "live_telemetry_widget", "serve", "--exit-with-stdin"]
        command += ["--listen", listen, "--data-dir", str(self.data_dir)]
        with log.open("ab") as errors:
            begin = errors.tell()
            process = subprocess.Popen(  # noqa: S603 - our own command
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        self._finalizer = weakref.finalize(self, _end, process, temporary, os.getpid())
        line = _first_line(process, timeout)
        if not line:
            _end_process(process)
            said = log.read_bytes()[begin:].decode(errors="replace").strip()[-_TAIL:]
            self._finalizer()
            why = (
                f"ended with exit code {process.returncode}"
                if process.returncode >= 0
                else f"was not ready in {timeout:g} s"
            )
            msg = f"the daemon on {listen} for {self.data_dir} {why}; it said: {said or 'nothing'}"
            raise ConnectError(msg)
        ready = json.loads(line)
        self.address: str = ready["address"]
        self.pid: int = ready["pid"]
        self._process = process

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Stop the daemon: it commits what it has received first. Deletes the data directory when it is a temporary one."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "" if self.running else ", stopped"
        return f"<Server at {self.address}, data in {self.data_dir}{state}>"


def _first_line(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    """Return the line with which the daemon says that it is ready; empty when it ends, or takes too long."""
    output: IO[bytes] | None = process.stdout
    found: list[bytes] = []

    def read() -> None:
        if output is not None:
            found.append(output.readline())

    # A thread, because a pipe cannot be waited for with a limit on every platform.
    reader = threading.Thread(target=read, daemon=True, name="waits for the daemon")
    reader.start()
    reader.join(timeout)
    return found[0] if found else b""


def _end(process: subprocess.Popen[bytes], temporary: tempfile.TemporaryDirectory[str] | None, owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child ends; the daemon is its parent's
    _end_process(process)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    if temporary is not None:
        temporary.cleanup()


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
