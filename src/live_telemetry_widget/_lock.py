"""One writer per data directory: a daemon, or a recorder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Self

from live_telemetry_widget._flock import lock
from live_telemetry_widget.errors import RecordingError

if TYPE_CHECKING:
    import pathlib

FILE_NAME: Final = "daemon.lock"


class DirectoryLock:
    """A lock on a data directory, which the operating system lifts when the process ends, however it ends.

    Parameters
    ----------
    data_dir
        An existing directory.
    otherwise
        What to do when it is taken.

    Raises
    ------
    RecordingError
        Another daemon or recorder holds it; the message names its process id.
    """

    def __init__(self, data_dir: pathlib.Path, otherwise: str = "stop it, or give this one another --data-dir") -> None:
        path = data_dir / FILE_NAME
        # Never deleted: a lock on a file that someone unlinked would lock nobody out.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            lock(self._descriptor)
        except OSError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() if os.name == "posix" else ""
            os.close(self._descriptor)
            msg = f"another daemon or recorder{f' (process {holder})' if holder else ''} writes to {data_dir}; {otherwise}"
            raise RecordingError(msg) from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let another writer in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
