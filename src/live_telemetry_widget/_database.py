"""The SQLite file of a recording: making it, refusing what is none, connections, transactions. Used by :mod:`~.store` only."""

from __future__ import annotations

import collections
import contextlib
import logging
import pathlib
import sqlite3
from typing import TYPE_CHECKING, Final

from live_telemetry_widget.errors import ClosedError, RecordingError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

_LOG: Final = logging.getLogger(__name__)

FILE_NAME: Final = "telemetry.sqlite3"
#: Version of the file's layout. A newer one is refused; an older one is read as it is, and brought here when it is opened for writing.
FORMAT: Final = 2
#: "ltw1": tells a recording from any other SQLite file.
_APPLICATION_ID: Final = 0x6C747731
_BUSY_SECONDS: Final = 10.0

#: How far each publisher has come that numbers its messages: what it sends again is known by that.
_PRODUCERS: Final = """CREATE TABLE producers (
    run_id TEXT NOT NULL, kind TEXT NOT NULL, producer TEXT NOT NULL, upto INTEGER NOT NULL,
    PRIMARY KEY (run_id, kind, producer)) WITHOUT ROWID"""
_LAYOUT: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE runs (
        run_id TEXT PRIMARY KEY, status INTEGER NOT NULL, digest TEXT NOT NULL, config_json TEXT NOT NULL,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, last_heartbeat INTEGER, failure_reason TEXT,
        record_seq INTEGER NOT NULL)""",
    """CREATE TABLE chunks (
        run_id TEXT NOT NULL, kind TEXT NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
        rows INTEGER NOT NULL, first_episode INTEGER NOT NULL, last_episode INTEGER NOT NULL, nbytes INTEGER NOT NULL,
        data BLOB NOT NULL, PRIMARY KEY (run_id, kind, first_seq))""",
    _PRODUCERS,
    f"INSERT INTO meta VALUES ('format', '{FORMAT}')",  # noqa: S608 - a constant
    f"PRAGMA application_id = {_APPLICATION_ID}",
)
#: What brings a file of each older format to the next one.
_MIGRATIONS: Final = {1: (_PRODUCERS,)}


class Database:
    """A recording's file, open. Any thread may read; the caller sees to it that one at a time writes.

    Parameters
    ----------
    data_dir, read_only, durable
        See :meth:`live_telemetry_widget.store.Store.open`.

    Raises
    ------
    RecordingError
        It is no recording, or one of a newer version.
    """

    def __init__(self, data_dir: str | os.PathLike[str], *, read_only: bool, durable: bool) -> None:
        self.path = _locate(pathlib.Path(data_dir), read_only=read_only)
        self._read_only = read_only
        self._durable = durable
        self._immutable = False
        self._closed = False
        #: Reading connections that nobody uses at the moment.
        self._idle: collections.deque[sqlite3.Connection] = collections.deque()
        self._writer: sqlite3.Connection | None = None
        #: Bytes of write-ahead log that the last writer left.
        self._left = 0
        try:
            if not read_only:
                self._writer = self._prepare()
            found = self._check()
            if self._writer is not None:
                if self._left:
                    self._recover(self._writer)
                self._migrate(found)
        except (sqlite3.Error, OSError) as error:
            self._close_connections()
            msg = f"{self.path} cannot be used as a recording: {error}"
            raise RecordingError(msg) from error
        except RecordingError:
            self._close_connections()
            raise
        if self._writer is not None:
            self._writer.execute("PRAGMA journal_mode = WAL")

    def _prepare(self) -> sqlite3.Connection:
        """Return the writing connection; lay out a file that is empty, and leave any other as it is."""
        log = self.path.with_name(f"{self.path.name}-wal")
        self._left = log.stat().st_size if log.exists() else 0
        # A run's config may hold secrets. SQLite gives its side files the permissions of the file.
        with contextlib.suppress(FileExistsError):
            self.path.touch(mode=0o600, exist_ok=False)
        self._writer = writer = self._connect("rwc")
        writer.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        if writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            writer.execute("PRAGMA journal_mode = WAL")
            with self.transaction():
                for statement in _LAYOUT:
                    writer.execute(statement)
        return writer

    def _recover(self, writer: sqlite3.Connection) -> None:
        """Take over what a writer has left that did not close the file; SQLite has already cut off a torn end."""
        _, pages, _ = writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        _LOG.warning(
            "%s was not closed by its last writer: %d pages were recovered from %d bytes of write-ahead log; "
            "what does not belong to a whole commit was left out",
            self.path,
            max(pages, 0),
            self._left,
        )

    def _migrate(self, found: int) -> None:
        """Bring an older file to this version's format, all of the way or not at all."""
        if found == FORMAT:
            return
        with self.transaction() as writer:
            for version in range(found, FORMAT):
                for statement in _MIGRATIONS[version]:
                    writer.execute(statement)
            writer.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(FORMAT),))
        _LOG.info("%s was brought from format %d to %d", self.path, found, FORMAT)

    def _check(self) -> int:
        """Return the file's format; refuse what is no recording, or a newer one."""
        try:
            found = self._format()
        except sqlite3.OperationalError:
            if not self._read_only:
                raise
            # A recording on a medium that cannot be written: SQLite may not make its side files there, nor may others.
            self._immutable = True
            found = self._format()
        if found > FORMAT:
            msg = (
                f"{self.path} has format {found}, which a newer version of live_telemetry_widget wrote; this one reads "
                f"format {FORMAT}. Install the newer version to use it; nothing was changed."
            )
            raise RecordingError(msg)
        return found

    def _format(self) -> int:
        with self.reader() as reader:
            if reader.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                msg = f"{self.path} is not a recording, but an SQLite file of something else"
                raise RecordingError(msg)
            return int(reader.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()[0])

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}{'&immutable=1' if self._immutable else ''}"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection to read with; no two users have the same at once, and those that are done are used again."""
        if self._closed:
            msg = f"{self.path} was closed before"
            raise ClosedError(msg)
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect("ro")
        try:
            yield connection
        finally:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to write with; all that is done with it is kept, or nothing when something is raised."""
        writer = self._writer
        if writer is None:
            if self._read_only:
                msg = f"{self.path} is open for reading only"
                raise RecordingError(msg)
            msg = f"{self.path} was closed before"
            raise ClosedError(msg)
        writer.execute("BEGIN IMMEDIATE")
        try:
            yield writer
            writer.execute("COMMIT")
        except BaseException:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            raise

    def shrink(self) -> int:
        """Rewrite the file without the pages that are free; return by how many bytes it is smaller."""
        if self._writer is None:
            msg = f"{self.path} is not open for writing"
            raise ClosedError(msg)
        before = self.path.stat().st_size
        try:
            self._writer.execute("VACUUM")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            msg = f"{self.path} cannot be rewritten: {error}"
            raise RecordingError(msg) from error
        return before - self.path.stat().st_size

    def close(self) -> None:
        """Close the file. A writer leaves one plain file behind, which can be read on a read-only medium too."""
        if self._closed:
            return
        if self._writer is not None:
            self._closed = True
            self._close_idle()
            self._writer.execute("PRAGMA busy_timeout = 200")
            # Not while another process reads; then SQLite's side files stay, if they can with nothing in them.
            with contextlib.suppress(sqlite3.OperationalError):
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._writer.execute("PRAGMA journal_mode = DELETE")
        self._close_connections()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _close_connections(self) -> None:
        self._closed = True
        self._close_idle()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _locate(path: pathlib.Path, *, read_only: bool) -> pathlib.Path:
    """Return the file that a data directory, or the file itself, stands for."""
    if read_only:
        if not path.exists():
            msg = f"{path} does not exist; give the data directory of a daemon, or the {FILE_NAME} in it"
            raise RecordingError(msg)
        if path.is_dir() and not (path / FILE_NAME).is_file():
            msg = f"{path} holds no {FILE_NAME}: it is not the data directory of a daemon, or of one that never ran"
            raise RecordingError(msg)
    elif not path.is_file():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path / FILE_NAME if path.is_dir() else path
