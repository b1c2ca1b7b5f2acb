"""What a daemon has not confirmed yet: kept in memory and in files, so that neither its absence nor a crash loses it.

A file is a line of JSON that says whose it is, then records: a line of JSON that says what comes (kind, number of the first row, length,
checksum), then so many bytes: an Arrow IPC stream of one batch. Files are written as rows come and deleted once they are confirmed. They
outlive the process, because the operating system holds what was written; they are not synced, so they may not outlive the machine.

Standard library only; nothing here knows Arrow.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import time
import urllib.parse
import uuid
import zlib
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget._flock import lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOG: Final = logging.getLogger(__name__)

#: A file ends when it has so many bytes, so that what is confirmed can be deleted.
_SEGMENT: Final = 8 * 1024 * 1024
#: So many bytes are kept in memory as well, and need not be read back.
_IN_MEMORY: Final = 32 * 1024 * 1024
_LONGEST_LINE: Final = 1024 * 1024
_LONGEST_NAME: Final = 100
_VERSION: Final = 1
#: A new lock file that another takes for an old one is made again so often, after so many seconds.
_LOCK_ATTEMPTS: Final = 20
_LOCK_PAUSE: Final = 0.01


@dataclasses.dataclass(slots=True, eq=False)
class Record:
    """Rows that go together.

    Attributes
    ----------
    kind
        ``"steps"`` or ``"episodes"``.
    first
        The number of the first row; a producer's rows of a kind count on from 0.
    rows
        How many.
    size
        In bytes.
    data
        An Arrow IPC stream; None while it is only in the file.
    """

    kind: str
    first: int
    rows: int
    size: int
    data: bytes | None
    path: pathlib.Path | None = None
    offset: int = 0


class Spool:
    """The records of one producer, in order.

    Parameters
    ----------
    directory
        Where its files are; made when it does not exist. None: in memory only.
    header
        Kept with them, for whoever delivers them after a crash: ``run_id``, ``config`` and the like.

    Attributes
    ----------
    producer : str
        A name unlike any other's.
    size : int
        Bytes of all records.
    failure : str
        Why a record could not be written and is in memory only; empty when all are written.
    """

    def __init__(self, directory: pathlib.Path | None, header: Mapping[str, Any]) -> None:
        self.producer = uuid.uuid4().hex
        self.size = 0
        self.failure = ""
        self._header = _line({"spool": _VERSION, "producer": self.producer, **header})
        self._records: collections.deque[Record] = collections.deque()
        self._in_memory = 0
        self._files = _Files(directory, _stem(str(header.get("run_id", "")), self.producer), self._header)
        if self._files.failure:
            self._fail(self._files.failure)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        return self._records[index]

    def append(self, kind: str, first: int, rows: int, data: bytes) -> Record:
        """Keep a record; where it cannot be written it is kept in memory, and :attr:`failure` says why."""
        record = Record(kind, first, rows, len(data), data)
        head = _line({"kind": kind, "first": first, "rows": rows, "bytes": len(data), "crc": zlib.crc32(data)})
        try:
            place = self._files.write(head, data)
        except OSError as error:
            self._fail(str(error))
        else:
            if place is not None:
                record.path, record.offset = place
                if self._in_memory + record.size > _IN_MEMORY:
                    record.data = None
                if self.failure and all(other.path is not None for other in self._records):
                    self.failure = ""
        if record.data is not None:
            self._in_memory += record.size
        self.size += record.size
        self._records.append(record)
        return record

    def _fail(self, why: str) -> None:
        if not self.failure:
            _LOG.warning("telemetry is kept in memory only, and a crash would lose it: %s", why)
        self.failure = why

    def read(self, record: Record) -> bytes:
        """Return a record's bytes.

        Raises
        ------
        OSError
            Its file was deleted or cut by somebody.
        """
        return record.data if record.data is not None else _read(record)

    def remove(self, index: int = 0) -> Record:
        """Forget a record: it is confirmed, or given up. Files of which nothing is left are deleted."""
        record = self._records[index]
        del self._records[index]
        self.size -= record.size
        if record.data is not None:
            self._in_memory -= record.size
        if not self._records:
            self._files.clear()
        elif record.path is not None and not any(other.path == record.path for other in self._heads(index)):
            self._files.delete(record.path)
        return record

    def _heads(self, index: int) -> Iterator[Record]:
        """Yield a removed record's neighbours: records of a file stand together."""
        if index:
            yield self._records[index - 1]
        if index < len(self._records):
            yield self._records[index]

    def end(self, outcome: str, reason: str) -> None:
        """Note how the run ended, for whoever has to tell it instead of us."""
        try:
            self._files.write(_line({"outcome": outcome, "reason": reason}), b"")
        except OSError as error:
            self._fail(str(error))

    def close(self) -> None:
        """Let go of the files; those of which something is left stay."""
        if not self._records:
            self._files.clear(last=True)
        self._files.close()

    def forget(self) -> None:
        """Let go of the files without touching them: they are those of the process that we were forked from."""
        self._files.close()


class _Files:
    """The files of a spool. `failure` says why there are none."""

    def __init__(self, directory: pathlib.Path | None, stem: str, header: bytes) -> None:
        self.failure = ""
        self._header = header
        self._number = 0
        self._paths: list[pathlib.Path] = []
        self._open: int = -1
        self._at = 0
        self._lock = -1
        self._stem: pathlib.Path | None = None
        if directory is None:
            return
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            stem_path = directory / stem
            self._lock = _locked(pathlib.Path(f"{stem_path}.lock"))
        except OSError as error:
            self.failure = str(error)
            self.close()
        else:
            self._stem = stem_path

    def write(self, head: bytes, data: bytes) -> tuple[pathlib.Path, int] | None:
        """Append; return the file and where in it `data` begins."""
        if self._stem is None:
            return None
        if self._open < 0 or self._at >= _SEGMENT:
            self._begin()
        before = self._at
        try:
            _write(self._open, head)
            _write(self._open, data)
        except OSError:
            # What was written of it would hide what comes behind.
            with contextlib.suppress(OSError):
                os.ftruncate(self._open, before)
                os.lseek(self._open, before, os.SEEK_SET)
            raise
        self._at = before + len(head) + len(data)
        return self._paths[-1], before + len(head)

    def _begin(self) -> None:
        if self._open >= 0:
            os.close(self._open)
            self._open = -1
        self._number += 1
        path = pathlib.Path(f"{self._stem}.{self._number:06d}.spool")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, self._header)
        except OSError:
            # What came behind half a header would be found by nobody.
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._open = descriptor
        self._paths.append(path)
        self._at = len(self._header)

    def delete(self, path: pathlib.Path) -> None:
        """Delete a file of which nothing is left, unless it is the one being written."""
        if path in self._paths[:-1]:
            self._paths.remove(path)
            path.unlink(missing_ok=True)

    def clear(self, *, last: bool = False) -> None:
        """Begin again: nothing of what was written matters any more."""
        for path in self._paths[:-1]:
            self.delete(path)
        if self._open >= 0:
            os.ftruncate(self._open, len(self._header))
            self._at = os.lseek(self._open, 0, os.SEEK_END)
        if last:
            for path in self._paths:
                path.unlink(missing_ok=True)
            if self._stem is not None:
                pathlib.Path(f"{self._stem}.lock").unlink(missing_ok=True)
                self._stem = None

    def close(self) -> None:
        for descriptor in (self._open, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._open = self._lock = -1
        self._stem = None


def _locked(path: pathlib.Path) -> int:
    """Return a lock file that was made and locked, and is still there: before it is locked it looks like what a dead process left."""
    for _ in range(_LOCK_ATTEMPTS):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except OSError:
            time.sleep(_LOCK_PAUSE)  # somebody else is looking at it, and will let go of it
        os.close(descriptor)
    msg = f"{path} cannot be locked: others take it, again and again"
    raise OSError(msg)


@dataclasses.dataclass(slots=True)
class Estate:
    """What a process left that ended before the daemon confirmed it.

    Attributes
    ----------
    header
        Whose it is.
    records
        In order.
    end
        How its run ended, if it came to say that: ``outcome`` and ``reason``.
    torn
        How many files end within a record, because the process or the disk did.
    """

    header: dict[str, Any]
    records: list[Record]
    end: dict[str, str] | None
    torn: int
    paths: list[pathlib.Path]
    lock: int

    @property
    def producer(self) -> str:
        """The name under which its rows are numbered."""
        return str(self.header.get("producer", ""))

    def read(self, record: Record) -> bytes:
        """Return a record's bytes."""
        return _read(record)

    def delete(self) -> None:
        """Delete it: all is delivered."""
        for path in self.paths:
            path.unlink(missing_ok=True)
        self.release()

    def put_aside(self) -> None:
        """Keep what cannot be read, where nobody looks for it again: a later version of this package may have written it."""
        for path in self.paths:
            if path.suffix == ".spool":
                kept = path.with_suffix(".unread")
                path.rename(kept)
                _LOG.warning("%s cannot be read by this version (spool %d); it is kept", kept, _VERSION)
            else:
                path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Leave it to somebody else."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def estates(directory: pathlib.Path, run_id: str = "") -> list[Estate]:
    """Return what dead processes left in a directory (of one run, or of all), oldest first; take it over.

    What belongs to a process that lives is not touched: it holds a lock.
    """
    found: list[Estate] = []
    pattern = f"{_stem(run_id)}--*.lock" if run_id else "*--*.lock"
    for path in sorted(directory.glob(pattern), key=_age):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # delivered by somebody else meanwhile
        try:
            lock(descriptor)
        except OSError:
            os.close(descriptor)
            continue
        paths = sorted(directory.glob(f"{_escape(path.stem)}.*.spool"))
        estate = _read_all(paths, descriptor)
        estate.paths.append(path)
        if run_id and estate.header.get("run_id", run_id) != run_id:  # another whose long name is cut to the same
            estate.release()
        elif estate.records or estate.end:
            found.append(estate)
        elif estate.torn:
            estate.put_aside()
        else:
            estate.delete()
    return found


def _read_all(paths: list[pathlib.Path], descriptor: int) -> Estate:
    estate = Estate({}, [], None, 0, list(paths), descriptor)
    for path in paths:
        with path.open("rb") as file:
            line = file.readline(_LONGEST_LINE)
            if not line.endswith(b"\n"):
                continue  # it was being begun: there is nothing in it
            header = _parse(line)
            if header is None or header.get("spool") != _VERSION:
                estate.torn += 1
                continue
            estate.header = header
            while line := file.readline(_LONGEST_LINE):
                head = _parse(line)
                if head is not None and "outcome" in head:
                    estate.end = {"outcome": str(head["outcome"]), "reason": str(head.get("reason", ""))}
                    continue
                size = head.get("bytes", -1) if head is not None else -1
                offset = file.tell()
                data = file.read(size) if size >= 0 else b""
                if head is None or len(data) != size or zlib.crc32(data) != head.get("crc"):
                    estate.torn += 1
                    break
                record = Record(str(head["kind"]), int(head["first"]), int(head["rows"]), size, None, path, offset)
                estate.records.append(record)
    return estate


def default_directory() -> pathlib.Path:
    """Return where spools are when nobody says otherwise: with the user's other state."""
    base = os.environ.get("XDG_STATE_HOME", "")
    home = pathlib.Path(base) if base else pathlib.Path("~/.local/state").expanduser()
    return home / "live-telemetry" / "spool"


def _stem(run_id: str, producer: str = "") -> str:
    name = urllib.parse.quote(run_id, safe="")[:_LONGEST_NAME]
    return f"{name}--{producer}" if producer else name


def _escape(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _age(path: pathlib.Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), default=str).encode() + b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read(record: Record) -> bytes:
    if record.path is None:
        msg = f"record {record.kind} {record.first} was never written"
        raise OSError(msg)
    with record.path.open("rb") as file:
        file.seek(record.offset)
        data = file.read(record.size)
    if len(data) != record.size:
        msg = f"{record.path} was cut while it was in use"
        raise OSError(msg)
    return data
