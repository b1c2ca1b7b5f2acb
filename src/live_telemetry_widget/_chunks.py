"""Chunks of rows: Arrow batches as bytes, and when to join them. Used by :mod:`~.store` only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa

from live_telemetry_widget import _arrow

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A chunk has at most so many rows, or so many bytes before compression (or one row).
MAX_ROWS: Final = 32_768
MAX_BYTES: Final = 16 * 1024 * 1024
#: A chunk is sealed, and not merged any more, when it has half of that: most of those that come under load are never rewritten.
_SEALED: Final = 2
#: A chunk is merged with those behind it once they hold so many times its rows: eight of a size make one of the next.
FACTOR: Final = 7

#: Small, at a price for each column however short it is: of what was merged.
_SMALL: Final = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)
#: Quick: of what is committed, before somebody waits for it. Fewer rows than this are not worth packing.
_QUICK: Final = pa.ipc.IpcWriteOptions(compression=pa.Codec("lz4"), use_threads=False)
_FEW: Final = 64


class Piece(NamedTuple):
    """What there is to know of a chunk to decide on merging."""

    first_seq: int
    rows: int
    nbytes: int

    @property
    def sealed(self) -> bool:
        """Whether it is large enough to be left alone for ever."""
        return self.rows * _SEALED >= MAX_ROWS or self.nbytes * _SEALED >= MAX_BYTES


class Chunk(NamedTuple):
    """Rows as they are stored, and as they may be sent: an IPC stream, in which the run's name and the rows' numbers are not looked at.

    Attributes
    ----------
    first_seq
        The number of the first row.
    rows
        How many.
    """

    run_id: str
    first_seq: int
    rows: int
    data: bytes

    def batch(self) -> pa.RecordBatch:
        """Return the rows, with what the bytes need not say."""
        batch = _arrow.numbered(_arrow.from_stream(self.data), self.first_seq)
        return batch.set_column(0, batch.schema.field(0), _arrow.constant(self.run_id, batch.num_rows))

    def after(self, since_seq: int) -> pa.RecordBatch:
        """Return the rows behind a number."""
        batch = self.batch()
        return batch.slice(since_seq + 1 - self.first_seq) if self.first_seq <= since_seq else batch


def encode(batch: pa.RecordBatch, *, merged: bool) -> bytes:
    """Return the batch as an IPC stream: small when it was merged, quickly made when it was not."""
    options = _SMALL if merged else _QUICK if batch.num_rows > _FEW else None
    data: bytes = _arrow.to_stream(batch, options).to_pybytes()
    return data


def schema_of(data: bytes) -> pa.Schema:
    """Return the schema of what :func:`encode` made, without decoding the rows."""
    return pa.ipc.open_stream(data).schema


def holds(batch: pa.RecordBatch) -> bool:
    """Whether one chunk may hold a batch."""
    return bool(batch.num_rows <= MAX_ROWS and batch.nbytes <= MAX_BYTES)


def split(batch: pa.RecordBatch, first_seq: int) -> Iterator[tuple[Piece, pa.RecordBatch]]:
    """Cut a batch that is larger than a chunk may be."""
    by_bytes = max(1, MAX_BYTES * batch.num_rows // max(batch.nbytes, 1))
    step = min(MAX_ROWS, by_bytes)
    for offset in range(0, batch.num_rows, step):
        rows = batch.slice(offset, step)
        yield Piece(first_seq + offset, rows.num_rows, rows.nbytes), rows


def due(pieces: list[Piece]) -> int | None:
    """Return the index from which on the last chunks should be merged now; None when not yet. Drops what is sealed.

    A chunk grows by at least :data:`FACTOR` + 1 when it is the first of a merge, which bounds how often a row is rewritten.
    """
    while pieces and pieces[0].sealed:
        del pieces[0]
    sealed = next((i for i in range(len(pieces) - 1, -1, -1) if pieces[i].sealed), None)
    if sealed is not None:
        # Small chunks before a large one: too few to matter, and merging them would rewrite the large one.
        del pieces[: sealed + 1]
    rows = sum(piece.rows for piece in pieces)
    if len(pieces) > 1 and (rows >= MAX_ROWS or sum(piece.nbytes for piece in pieces) >= MAX_BYTES):
        return 0
    behind = rows
    for i, piece in enumerate(pieces):
        behind -= piece.rows
        if behind >= FACTOR * piece.rows:
            return i
    return None
