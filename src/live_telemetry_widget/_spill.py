"""Where the rows of a run go that do not fit into memory: files in a folder that ends with the process.

Used by :mod:`~live_telemetry_widget._rows` and those who hand its limit on.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from live_telemetry_widget._flock import lock
from live_telemetry_widget.errors import RecordingError
from live_telemetry_widget.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from live_telemetry_widget._packed import Packed

_LOG: Final = logging.getLogger(__name__)

#: The limit where none is given, as :func:`parse_limit` reads it.
ENVIRONMENT: Final = "LIVE_TELEMETRY_MEMORY_LIMIT"
_PREFIX: Final = "live-telemetry-rows-"
#: A folder without a lock may be one that was made this instant (seconds).
_SETTLED: Final = 60.0
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_limit(limit: int | str | None) -> int | None:
    """Return a memory limit in bytes; None is what the environment says, or no limit.

    Raises
    ------
    ValueError
        It is no such thing.

    Examples
    --------
    >>> parse_limit("1.5 GB"), parse_limit("64MiB"), parse_limit(10**9)
    (1500000000, 67108864, 1000000000)
    """
    where = "memory_limit"
    if limit is None:
        limit, where = os.environ.get(ENVIRONMENT), ENVIRONMENT
        if not limit:
            return None
    text = str(limit).strip().lower()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", text)
    found = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if isinstance(limit, bool) or found < 1:
        msg = f"{where} is {limit!r}; give bytes as a whole number from 1, or a text like '2GB' or '512MiB'"
        raise ValueError(msg)
    return found


class Spilled:
    """A record batch in a file, which is removed when nobody can ask for it any more."""

    __slots__ = ("__weakref__", "_folder", "_path")

    def __init__(self, path: pathlib.Path, folder: Folder) -> None:
        self._path = path
        self._folder = folder  # the folder lives for as long as anything in it
        weakref.finalize(self, _forget, path, os.getpid()).atexit = False

    def read(self) -> pa.RecordBatch:
        """Return the batch, mapped: what is not looked at is not read.

        Raises
        ------
        RecordingError
            The file is gone or was changed.
        """
        try:
            return pa.ipc.open_file(pa.memory_map(str(self._path))).get_batch(0)
        except (OSError, pa.ArrowInvalid) as error:
            msg = (
                f"rows that were moved out of memory to {self._path} cannot be read back: {error}; something removed or changed the file. "
                "A new ltw.connect(...) reads the run from its daemon again"
            )
            raise RecordingError(msg) from error


def _write(path: pathlib.Path, batch: pa.RecordBatch) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _unlink(path: pathlib.Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # the folder went first
        path.unlink()


def _forget(path: pathlib.Path, pid: int) -> None:
    if os.getpid() == pid:  # what a fork's copy of this forgets is its parent's still
        _unlink(path)


class Folder:
    """A folder of this process alone (permissions 0700), removed with it; also after a crash, by the next that makes one."""

    def __init__(self) -> None:
        _sweep()
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX))
        # The lock says that the folder is in use, to the next process and to what cleans temporary directories; the kernel drops it.
        lock = _locked(self.path)
        self._number = 0
        weakref.finalize(self, _remove, self.path, lock, os.getpid())

    def write(self, batch: pa.RecordBatch) -> Spilled:
        """Write a batch to a file of its own.

        Raises
        ------
        OSError
            It cannot be written; nothing is left of it.
        """
        self._number += 1
        path = self.path / f"{self._number}.arrow"
        try:
            _write(path, batch)
        except OSError:
            _unlink(path)
            raise
        return Spilled(path, self)


def _remove(path: pathlib.Path, lock: int | None, pid: int) -> None:
    if os.getpid() != pid:
        return  # a fork's copy of this; the folder is its parent's
    shutil.rmtree(path, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _sweep() -> None:
    """Remove the folders of processes that were killed."""
    for path in _abandoned():
        _LOG.info("removing %s, whose process is gone", path)
        shutil.rmtree(path, ignore_errors=True)


def _abandoned() -> Iterator[pathlib.Path]:
    for path in pathlib.Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, in use, or just removed
            about = path.lstat()
            if time.time() - about.st_mtime < _SETTLED:
                continue
            lock = _locked(path)
            if lock is not None:
                os.close(lock)
                yield path


if sys.platform == "win32":

    def _locked(path: pathlib.Path) -> int | None:
        """Return nothing: folders cannot be locked there, and what a killed process leaves stays."""
        del path

else:

    def _locked(path: pathlib.Path) -> int | None:
        """Lock a folder of this user, or raise OSError; the lock is dropped with the descriptor, or by the kernel with the process."""
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(held).st_uid != os.getuid():
                raise PermissionError(errno.EPERM, "another user's", str(path))
            lock(held)
        except OSError:
            os.close(held)
            raise
        return held


class Spill:
    """Keeps the packed chunks of a run within a limit: beyond it, what was packed longest ago goes to files.

    Parameters
    ----------
    limit
        Bytes; None: no limit.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._held: list[weakref.ref[Packed]] = []
        self._folder: Folder | None = None
        self._lock = threading.Lock()
        self._problems: list[Problem] = []

    def hold(self, packed: Packed) -> None:
        """Count a chunk; move the oldest to files if there are too many."""
        if self.limit is None:
            return
        with self._lock:
            chunks = [chunk for ref in self._held if (chunk := ref()) is not None and chunk.nbytes]
            chunks.append(packed)
            total, at = sum(chunk.nbytes for chunk in chunks), 0
            try:
                while total > self.limit and at < len(chunks):
                    total -= chunks[at].nbytes
                    self._spill(chunks[at])
                    at += 1
            except OSError as error:
                where = self._folder.path if self._folder else tempfile.gettempdir()
                why = "the disk is full" if error.errno == errno.ENOSPC else str(error)
                detail = f"rows beyond memory_limit ({self.limit} bytes) cannot be moved to {where}: {why}; they stay in memory. TMPDIR names another place"
                _LOG.warning("%s", detail)
                self._problems.append(Problem("spill_failed", detail))
            self._held = [weakref.ref(chunk) for chunk in chunks[at:]]

    def _spill(self, chunk: Packed) -> None:
        if self._folder is None:
            self._folder = Folder()
        chunk.spill(self._folder)

    def problems(self) -> list[Problem]:
        """Return what went wrong since this was asked last."""
        found, self._problems = self._problems, []
        return found
