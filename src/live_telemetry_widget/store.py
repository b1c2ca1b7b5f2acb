"""Runs in one SQLite file: what the daemon writes, what ``ltw.open`` reads, and what a recording is.

``DATA_DIR/telemetry.sqlite3`` in WAL mode, so that any number of processes read while one writes. A *chunk* is an Arrow IPC
stream of one record batch (lz4 as it is committed, zstd once it is merged); its rows have consecutive ``seq_id``, which count from 1 per run and kind, are given when
the rows are committed, and never change. Small neighbouring chunks are merged in tiers, as in a log-structured merge tree:
a row is rewritten O(log n) times, and a slow run does not leave a million chunks.

**What survives.** A commit survives the death of the process at any moment (SIGKILL too): it is in the operating system's
hands. ``synchronous=NORMAL`` does not wait for the disk at each commit, so a *power cut* or a crash of the operating system may
take the commits since the last checkpoint (some 4 MB of log), newest first; it never leaves a torn or mixed-up file.
``durable=True`` (``synchronous=FULL``) waits for the disk, at the price of one fsync a commit.

Examples
--------
>>> import tempfile
>>> from live_telemetry_widget import normalize
>>> event = {"type": "step", "episode": 0, "step_index": 0, "action": 1, "reward": 1.0}
>>> with tempfile.TemporaryDirectory() as folder, Store.open(folder) as store:
...     store.append("r", "steps", [normalize.steps_from_events([event, event], run_id="r").batch])
...     [batch.column("seq_id").to_pylist() for batch in store.read("r", "steps", since_seq=1)]
(1, 2)
[[2]]
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import logging
import threading
from itertools import starmap
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _arrow, _chunks
from live_telemetry_widget._chunks import Chunk
from live_telemetry_widget._database import FILE_NAME, Database
from live_telemetry_widget.errors import RunNotFoundError
from live_telemetry_widget.schema import CORE, Kind

if TYPE_CHECKING:
    import os
    import pathlib
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "CORE",
    "FILE_NAME",
    "Chunk",
    "Committed",
    "Kind",
    "Mark",
    "OutOfOrderError",
    "Pending",
    "RunRow",
    "Store",
    "not_found",
]

_LOG: Final = logging.getLogger(__name__)

_RUN_COLUMNS: Final = (
    "run_id, status, digest, config_json, created_at, updated_at, last_heartbeat, failure_reason, record_seq"
)
# The chunk that holds the first wanted row: the last one that begins at or before it, if it reaches that far, else the next.
_CHUNK_AFTER: Final = """SELECT first_seq, last_seq, data FROM chunks WHERE run_id = :run AND kind = :kind AND last_seq > :since
    AND first_seq >= coalesce((SELECT max(first_seq) FROM chunks
        WHERE run_id = :run AND kind = :kind AND first_seq <= :since + 1), 0)
    ORDER BY first_seq LIMIT 1"""
_PRODUCER: Final = "FROM producers WHERE run_id = ? AND kind = ? AND producer = ?"


@dataclasses.dataclass(frozen=True, slots=True)
class RunRow:
    """What is kept of a run beside its rows; times in nanoseconds since 1970.

    Attributes
    ----------
    status
        A RunStatus number of generation 2.
    digest
        SHA-256 of the canonical config of a submitted run; empty for one that was opened.
    record_seq
        Number of its last change, counted over all runs of the file.
    """

    run_id: str
    status: int
    digest: str = ""
    config_json: str = "{}"
    created_at: int = 0
    updated_at: int = 0
    last_heartbeat: int | None = None
    failure_reason: str | None = None
    record_seq: int = 0


def not_found(run_id: str, where: str, known: Iterable[RunRow]) -> RunNotFoundError:
    """Return what to raise when a run is not there; it names the nearest."""
    names = [run.run_id for run in known]
    near = difflib.get_close_matches(run_id, names, 3)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return RunNotFoundError(f"{where} has no run {run_id!r} among its {len(names)}{hint}")


class OutOfOrderError(Exception):
    """Rows of a publisher that numbers its messages do not follow those that are committed: it is to send again from there."""


class Mark(NamedTuple):
    """Which messages of a publisher that numbers them some rows are made of.

    Attributes
    ----------
    first, upto
        From `first` until before `upto`, counted from 0.
    jump
        Those between what is committed and `first` will never come; otherwise `first` must be the next one.
    """

    producer: str
    first: int
    upto: int
    jump: bool


class Pending(NamedTuple):
    """Rows to be committed: batches of one run and kind, in order. Their ``seq_id`` is overwritten.

    Attributes
    ----------
    data
        Of a single batch: an IPC stream that says the same, save for the run's name and the rows' numbers. It is stored as it is.
    """

    run_id: str
    kind: Kind
    batches: Sequence[pa.RecordBatch]
    marks: Sequence[Mark] = ()
    data: bytes | None = None


class Committed(NamedTuple):
    """Rows as they were committed: one batch, numbered, and the chunks that hold it."""

    run_id: str
    kind: Kind
    first_seq: int
    last_seq: int
    batch: pa.RecordBatch
    chunks: Sequence[Chunk] = ()


class _Tail:
    """The chunks of a run and kind that may still be merged, and the last number given."""

    def __init__(self, last_seq: int, pieces: list[_chunks.Piece]) -> None:
        self.last_seq = last_seq
        self.pieces = pieces


class Store:
    """One file of runs. Make it with :meth:`open`; any thread may use it.

    One process at a time writes (the daemon holds a lock on the directory); reading needs no lock.
    """

    def __init__(self, database: Database, *, read_only: bool) -> None:
        self._database = database
        self.read_only = read_only
        self._write_lock = threading.Lock()
        #: Where each run stands that was written to since the store was opened.
        self._tails: dict[tuple[str, Kind], _Tail] = {}
        self._due: set[tuple[str, Kind]] = set()
        #: Whose chunks could not be merged, until their rows are replaced or the store is opened again.
        self._unmerged: set[tuple[str, Kind]] = set()

    @classmethod
    def open(cls, data_dir: str | os.PathLike[str], *, read_only: bool = False, durable: bool = False) -> Self:
        """Open a data directory, or the SQLite file in it.

        Parameters
        ----------
        data_dir
            Made when it does not exist, unless `read_only`.
        read_only
            Create and change nothing. Works while another process writes.
        durable
            Wait for the disk at each commit, so that a power cut takes nothing that was acknowledged.

        Raises
        ------
        RecordingError
            It is no recording, or one of a newer version.
        """
        return cls(Database(data_dir, read_only=read_only, durable=durable), read_only=read_only)

    @property
    def path(self) -> pathlib.Path:
        """The SQLite file."""
        return self._database.path

    def close(self) -> None:
        """Close the file. A writer leaves one plain file behind, which can be read on a read-only medium too."""
        with self._write_lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database.transaction() as writer:
                yield writer
        except BaseException:
            # What was noted in memory may be of rows that are not there now: read it from the file again.
            self._tails.clear()
            raise

    def append(self, run_id: str, kind: Kind, batches: Sequence[pa.RecordBatch]) -> tuple[int, int]:
        """Commit batches of one run, merge what is due, and return the first and last number they got.

        No rows give ``(last + 1, last)``.
        """
        committed = self.commit([Pending(run_id, kind, batches)])
        self.compact()
        return committed[0].first_seq, committed[0].last_seq

    def commit(self, pending: Sequence[Pending], runs: Iterable[RunRow] = ()) -> list[Committed]:
        """Write rows of many runs, and the records of runs, in one transaction; number the rows.

        Either all of it is there when this returns, or nothing and this raises.

        Raises
        ------
        sqlite3.Error
            The disk is full, or the file cannot be written.
        OutOfOrderError
            Messages of a publisher that numbers them are missing before some of these.
        """
        with self._write_lock, self._transaction() as writer:
            marks = ", ".join("?" * 9)
            writer.executemany(
                f"INSERT OR REPLACE INTO runs ({_RUN_COLUMNS}) VALUES ({marks})",  # noqa: S608 - constants
                [dataclasses.astuple(row) for row in runs],
            )
            for item in pending:
                for mark in item.marks:
                    self._advance(writer, item, mark)
            return [self._insert(writer, item) for item in pending]

    @staticmethod
    def _advance(writer: sqlite3.Connection, item: Pending, mark: Mark) -> None:
        """Note how far a publisher has come, in the same transaction as its rows: so one knows what it sends again."""
        key = (item.run_id, item.kind, mark.producer)
        found = writer.execute(f"SELECT upto {_PRODUCER}", key).fetchone()
        held = found[0] if found else 0
        if mark.first < held or (mark.first > held and not mark.jump):
            msg = f"messages {mark.first} to {mark.upto} of {item.kind} came where message {held} is the next one"
            raise OutOfOrderError(msg)
        writer.execute("INSERT OR REPLACE INTO producers VALUES (?, ?, ?, ?)", (*key, mark.upto))

    def produced(self, run_id: str, kind: Kind, producer: str) -> int:
        """Return how many messages of a publisher that numbers them are committed."""
        with self._database.reader() as reader:
            found = reader.execute(f"SELECT upto {_PRODUCER}", (run_id, kind, producer)).fetchone()
        return int(found[0]) if found else 0

    def _insert(self, writer: sqlite3.Connection, item: Pending) -> Committed:
        tail = self._tail(writer, (item.run_id, item.kind))
        core = CORE[item.kind]
        batch = _arrow.combine(core, item.batches)
        first, last = tail.last_seq + 1, tail.last_seq + batch.num_rows
        data = item.data if len(item.batches) == 1 and _chunks.holds(batch) else None
        batch = _arrow.numbered(batch, first)
        chunks: list[Chunk] = []
        if batch.num_rows:
            for piece, rows in _chunks.split(batch, first):
                held = data or _chunks.encode(rows, merged=False)
                self._write_chunk(writer, item.run_id, item.kind, piece, rows, held)
                tail.pieces.append(piece)
                chunks.append(Chunk(item.run_id, piece.first_seq, piece.rows, held))
            tail.last_seq = last
            if (item.run_id, item.kind) not in self._unmerged:
                self._due.add((item.run_id, item.kind))
        return Committed(item.run_id, item.kind, first, last, batch, chunks)

    @staticmethod
    def _write_chunk(  # noqa: PLR0913, PLR0917 - a row of the table
        writer: sqlite3.Connection, run_id: str, kind: Kind, piece: _chunks.Piece, rows: pa.RecordBatch, data: bytes
    ) -> None:
        episodes = pc.min_max(rows.column("episode")).as_py()
        span = (piece.first_seq, piece.first_seq + piece.rows - 1, piece.rows, episodes["min"], episodes["max"])
        writer.execute(
            "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (run_id, kind, *span, piece.nbytes, data),
        )

    def _tail(self, writer: sqlite3.Connection, key: tuple[str, Kind]) -> _Tail:
        tail = self._tails.get(key)
        if tail is None:
            pieces: list[_chunks.Piece] = []
            last = 0
            for first, rows, nbytes in writer.execute(
                "SELECT first_seq, rows, nbytes FROM chunks WHERE run_id = ? AND kind = ? ORDER BY first_seq DESC", key
            ):
                piece = _chunks.Piece(first, rows, nbytes)
                last = last or first + rows - 1
                if piece.sealed:
                    break
                pieces.append(piece)
            tail = self._tails[key] = _Tail(last, pieces[::-1])
        return tail

    def compact(self, limit: int | None = None) -> int:
        """Merge small neighbouring chunks where there are enough of them, at most `limit` times; return how often.

        Each merge is a transaction of its own, so a reader sees the rows before or after it, and always all of them.
        """
        merged = 0
        with self._write_lock:
            while self._due and (limit is None or merged < limit):
                key = next(iter(self._due))
                try:
                    merged += self._merge_due(key)
                except (pa.ArrowException, ValueError, MemoryError):
                    # The rows are there, in more chunks than they need; the other runs are merged as ever.
                    self._due.discard(key)
                    self._unmerged.add(key)
                    _LOG.exception("chunks of %s of run %r cannot be merged, and stay as they are", key[1], key[0])
        return merged

    def _merge_due(self, key: tuple[str, Kind]) -> int:
        """Merge chunks of a run where enough of them are small; return whether there were."""
        with self._transaction() as writer:
            tail = self._tail(writer, key)
            at = _chunks.due(tail.pieces)
            if at is None:
                self._due.discard(key)
                return 0
            self._merge(writer, key, tail, at)
            return 1

    def _merge(self, writer: sqlite3.Connection, key: tuple[str, Kind], tail: _Tail, at: int) -> None:
        first = tail.pieces[at].first_seq
        where = "FROM chunks WHERE run_id = ? AND kind = ? AND first_seq >= ?"
        found = writer.execute(f"SELECT first_seq, rows, data {where} ORDER BY first_seq", (*key, first)).fetchall()
        rows = _arrow.combine(CORE[key[1]], [Chunk(key[0], *row).batch() for row in found])
        piece = _chunks.Piece(first, rows.num_rows, rows.nbytes)
        writer.execute(f"DELETE {where}", (*key, first))
        self._write_chunk(writer, *key, piece, rows, _chunks.encode(rows, merged=True))
        tail.pieces[at:] = [] if piece.sealed else [piece]

    def replace(self, run_id: str, rows: Mapping[Kind, Iterable[pa.RecordBatch]]) -> None:
        """Put rows in place of all that is stored of a run, in one transaction; they are numbered from 1."""
        with self._write_lock, self._transaction() as writer:
            for kind, batches in rows.items():
                writer.execute("DELETE FROM chunks WHERE run_id = ? AND kind = ?", (run_id, kind))
                self._tails[run_id, kind] = _Tail(0, [])
                self._unmerged.discard((run_id, kind))
                for batch in batches:
                    self._insert(writer, Pending(run_id, kind, [batch]))

    def delete(self, run_ids: Sequence[str]) -> None:
        """Delete runs with all their rows, in one transaction. Their place in the file is used again, or :meth:`shrink` frees it."""
        names = [(run_id,) for run_id in run_ids]
        with self._write_lock, self._transaction() as writer:
            for table in ("chunks", "producers", "runs"):
                writer.executemany(f"DELETE FROM {table} WHERE run_id = ?", names)  # noqa: S608 - constants
            self._tails.clear()
            self._due.clear()
            self._unmerged.clear()

    def shrink(self) -> int:
        """Give what deleted runs have left back to the file system; return how many bytes that were.

        Raises
        ------
        RecordingError
            There is no room for the copy that this takes; nothing is lost.
        """
        with self._write_lock:
            return self._database.shrink()

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, run_id: str, kind: Kind, since_seq: int = 0, limit: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows numbered after `since_seq`, in order, at most `limit` of them, a chunk at a time.

        Batches may differ in their further columns. Rows that are committed meanwhile are yielded too.
        """
        left = limit
        while left is None or left > 0:
            batch = self.read_chunk(run_id, kind, since_seq)
            if batch is None:
                return
            if left is not None:
                batch = batch.slice(0, left)
                left -= batch.num_rows
            since_seq = batch.column("seq_id")[batch.num_rows - 1].as_py()
            yield batch

    def read_chunk(self, run_id: str, kind: Kind, since_seq: int) -> pa.RecordBatch | None:
        """Return the rows numbered after `since_seq` that the next chunk holds; None when there are none."""
        chunk = self.find_chunk(run_id, kind, since_seq)
        return None if chunk is None else chunk.after(since_seq)

    def find_chunk(self, run_id: str, kind: Kind, since_seq: int) -> Chunk | None:
        """Return the chunk that holds the first row numbered after `since_seq`, as it is stored; None when there is none."""
        # Each chunk is a query of its own: a cursor left open would keep the log from being checkpointed.
        with self._database.reader() as reader:
            found = reader.execute(_CHUNK_AFTER, {"run": run_id, "kind": kind, "since": since_seq}).fetchone()
        if found is None:
            return None
        first, last, data = found
        return Chunk(run_id, first, last - first + 1, data)

    def read_episode(self, run_id: str, episode: int) -> list[pa.RecordBatch]:
        """Return the steps of the episodes of that number, without reading the others: the chunks know their span."""
        with self._database.reader() as reader:
            found = reader.execute(
                "SELECT first_seq, rows, data FROM chunks WHERE run_id = ? AND kind = 'steps' AND first_episode <= ? AND last_episode >= ? "
                "ORDER BY first_seq",
                (run_id, episode, episode),
            )
            batches = [_arrow.of_episode(Chunk(run_id, *row).batch(), episode) for row in found]
        return [batch for batch in batches if batch.num_rows]

    def schemas(self, run_id: str, kind: Kind, last_seq: int) -> list[pa.Schema]:
        """Return the different schemas of the rows up to a number; the rows themselves are not decoded."""
        found: list[pa.Schema] = []
        at = 0
        while at < last_seq:
            with self._database.reader() as reader:
                row = reader.execute(_CHUNK_AFTER, {"run": run_id, "kind": kind, "since": at}).fetchone()
            if row is None:
                break
            _, at, data = row
            schema = _chunks.schema_of(data)
            if not any(schema.equals(held, check_metadata=True) for held in found):
                found.append(schema)
        return found

    def last_seq(self, run_id: str, kind: Kind) -> int:
        """Return the last number given to a row of that run and kind; 0 when there is none."""
        with self._database.reader() as reader:
            found = reader.execute(
                "SELECT last_seq FROM chunks WHERE run_id = ? AND kind = ? ORDER BY first_seq DESC LIMIT 1",
                (run_id, kind),
            ).fetchone()
        return int(found[0]) if found else 0

    def last_seqs(self) -> dict[tuple[str, Kind], int]:
        """Return :meth:`last_seq` of every run and kind that has rows."""
        with self._database.reader() as reader:
            keys = reader.execute("SELECT DISTINCT run_id, kind FROM chunks").fetchall()
        return {(run_id, kind): self.last_seq(run_id, kind) for run_id, kind in keys}

    def runs(self) -> list[RunRow]:
        """Return the runs in the order in which they were made."""
        with self._database.reader() as reader:
            found = reader.execute(f"SELECT {_RUN_COLUMNS} FROM runs ORDER BY created_at, run_id")  # noqa: S608
            return list(starmap(RunRow, found))

    def run(self, run_id: str) -> RunRow | None:
        """Return one run, or None."""
        with self._database.reader() as reader:
            found = reader.execute(f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id = ?", (run_id,)).fetchone()  # noqa: S608
        return RunRow(*found) if found else None
