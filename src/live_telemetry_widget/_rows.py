"""Record batches by global row number, as the frames keep them: append, slice, take, fill.

Used by :mod:`~live_telemetry_widget.frames` only.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _arrow, _straight
from live_telemetry_widget._packed import Packed
from live_telemetry_widget._spill import Spill
from live_telemetry_widget.schema import LABEL, TEXT, unify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from live_telemetry_widget._straight import Labels, Plain

Numbers: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"

#: A chunk of so many rows grows no more, and is packed.
_CHUNK_ROWS: Final = 32_768
#: ... or of so many bytes: a column of texts ends at 2 GiB, and a chunk is rewritten when a row of it is filled.
_CHUNK_BYTES: Final = 64 * 1024 * 1024
#: So many small chunks of a size become one of the next, so that a slow run is not a million of them.
_FACTOR: Final = 8
#: So many packed chunks at a time are kept unpacked, because rows of theirs are being filled.
_OPEN: Final = 4
#: So many bytes are brought into another order at a time.
_TAKE_BYTES: Final = 256 * 1024 * 1024
#: So many are brought into another order at once, beside the result.
_ARRANGE_BYTES: Final = 1024 * 1024 * 1024
#: A label that is never null: "" is its null.
_WORKER: Final = "worker_id"


class Rows:
    """Record batches by global row number: append, slice, take, fill.

    Small neighbours are merged. What will not grow any more is packed, and goes to files when there is too much of it.

    Parameters
    ----------
    core
        The columns that every row has.
    spill
        Keeps packed chunks within a limit.
    """

    def __init__(self, core: pa.Schema, spill: Spill | None = None) -> None:
        self.core = core
        self.chunks: list[pa.RecordBatch | Packed] = []
        self.starts: list[int] = []
        self.total = 0
        self._spill = spill or Spill()
        # How many chunks, from the first on, grow no more; and how many bytes the others have.
        self._sealed = 0
        self._growing = 0
        # Sealed chunks that are unpacked, the one that was filled last at the end.
        self._open: dict[int, None] = {}
        #: Which rows were filled, where somebody wants to know.
        self.filled: list[Numbers] | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        for part, nbytes in _cut(batch):
            if self._growing and self._growing + nbytes > _CHUNK_BYTES:
                self._seal()
            self.chunks.append(part)
            self.starts.append(self.total)
            self.total += part.num_rows
            self._growing += nbytes
            if self.total - self.starts[self._sealed] >= _CHUNK_ROWS:
                self._seal()
            else:
                self._join()

    def _join(self) -> None:
        """Join the last chunks once there are enough of about their size: every row is copied a few times altogether."""
        size = 1
        at = len(self.chunks)
        while size < _CHUNK_ROWS:
            size *= _FACTOR
            while at > self._sealed and self.chunks[at - 1].num_rows < size:
                at -= 1
            if len(self.chunks) - at >= _FACTOR:
                self._combine(at)
                return

    def _combine(self, at: int) -> None:
        """Make one chunk of those from `at` on, which are not sealed."""
        # Joined or not they have as many bytes, give or take labels.
        joined = _arrow.combine(self.core, self.chunks[at:])
        self.chunks[at:] = [joined]
        del self.starts[at + 1 :]

    def _seal(self) -> None:
        """Pack what has grown until now."""
        self._combine(self._sealed)
        self._pack(self._sealed)
        self._sealed += 1
        self._growing = 0

    def _pack(self, at: int) -> None:
        packed = self.chunks[at] = Packed.of(self.chunks[at])
        self._spill.hold(packed)

    def copy(self) -> Rows:
        """Return what is held now, for reading: chunks never change, they are replaced."""
        held = Rows(self.core)
        held.chunks, held.starts, held.total = self.chunks.copy(), self.starts.copy(), self.total
        return held

    def slice(self, first: int, count: int, names: Sequence[str] | None = None) -> pa.Table:
        """Return `count` rows from `first`, or what there is of them; of `names` only those columns, of which one is of the core schema."""
        end = min(first + count, self.total)
        parts: list[pa.RecordBatch] = []
        at = max(0, bisect.bisect_right(self.starts, first) - 1)
        while first < end:
            part = _slice(self.chunks[at], first - self.starts[at], end - first, names)
            parts.append(part)
            first += part.num_rows
            at += 1
        core = self._core_of(names)
        return _arrow.merge(core, parts or [_arrow.empty(core)])

    def _core_of(self, names: Sequence[str] | None) -> pa.Schema:
        return self.core if names is None else pa.schema([field for field in self.core if field.name in names])

    def take(self, rows: Numbers, names: Sequence[str] | None = None) -> pa.Table:
        """Return some rows, in the order asked for; of `names` only those columns, of which one is of the core schema."""
        parts: list[pa.RecordBatch] = []
        order: list[Numbers] = []
        for at, picks in self._by_chunk(rows):
            parts.append(_take(self.chunks[at], rows[picks] - self.starts[at], names))
            order.append(picks)
        core = self._core_of(names)
        table = _arrow.merge(core, parts or [_arrow.empty(core)])
        places = np.concatenate(order) if order else np.zeros(0, np.int64)
        if (np.diff(places) > 0).all():
            return table
        return table.take(pa.array(np.argsort(places, kind="stable")))

    def arranged(self, rows: Numbers) -> pa.Table:
        """Return all rows in another order: `rows` has each of them once.

        Unpacking everything and then moving one column after the other costs a third of taking the rows chunk by chunk.
        """
        if sum(_flat(chunk) for chunk in self.chunks) > _ARRANGE_BYTES:
            return self.take_many(rows)
        table, at = self.slice(0, self.total), pa.array(rows)
        return pa.Table.from_arrays([_moved(column, at) for column in table.columns], schema=table.schema)

    def columns(self, rows: Numbers | None = None) -> Iterator[tuple[pa.Field, pa.ChunkedArray | Plain | Labels]]:
        """Yield all rows a column at a time, so that no more than one is unpacked; in another order when `rows` has each of them once.

        Raises
        ------
        pyarrow.ArrowInvalid
            A further column has values that no type holds without loss; :meth:`slice` makes it text.
        """
        places = None
        if rows is not None:
            places = _straight.room(len(rows), np.int64)
            places[rows] = np.arange(len(rows))
        at = None if rows is None else pa.array(rows)
        chunks = self.chunks or [_arrow.empty(self.core)]
        for field in unify(self.core, [chunk.schema for chunk in chunks]):
            parts = (_column(chunk, field) for chunk in chunks)
            if _straight.is_plain(field.type):
                yield field, _straight.plain(parts, field.type, self.total, places)
            elif field.type == LABEL:
                yield field, _straight.labels(parts, self.total, places)
            else:
                column = pa.chunked_array(list(parts), field.type)
                yield field, column if at is None else _moved(column, at)

    def take_many(self, rows: Numbers) -> pa.Table:
        """Return some rows as :meth:`take` does, however many and large they are."""
        weight = max(1, sum(_flat(chunk) for chunk in self.chunks) // max(1, self.total))
        at_once = max(1, _TAKE_BYTES // weight)
        parts = [self.take(rows[at : at + at_once]) for at in range(0, len(rows), at_once)]
        return (
            parts[0] if len(parts) == 1 else _arrow.merge(self.core, [b for part in parts for b in part.to_batches()])
        )

    def _by_chunk(self, rows: Numbers) -> Iterator[tuple[int, Numbers]]:
        """Yield each chunk that holds some of `rows`, with the places in `rows` of those it holds."""
        chunks = np.searchsorted(np.array(self.starts, np.int64), rows, side="right") - 1
        for at in np.unique(chunks).tolist():
            yield at, np.flatnonzero(chunks == at)

    def fill(self, rows: Numbers, richer: pa.RecordBatch) -> None:
        """Put the values of `richer` (a row for each of `rows`) where those rows have nulls; a worker's name, where they have none."""
        for at, picks in self._by_chunk(rows):
            chunk = self.chunks[at]
            given = richer if len(picks) == richer.num_rows else richer.take(pa.array(picks))
            offsets = rows[picks] - self.starts[at]
            names = [
                field.name
                for field in given.schema
                if _brings(given, field.name)
                and (field.name not in chunk.schema.names or _lacks(chunk, field.name, offsets))
            ]
            if names:
                self._replace(at, self._filled(_unpacked(chunk), given.select(names), offsets))
                if self.filled is not None:
                    self.filled.append(rows[picks])

    def _replace(self, at: int, filled: pa.RecordBatch) -> None:
        chunk, self.chunks[at] = self.chunks[at], filled
        if at >= self._sealed:
            self._growing += filled.nbytes - chunk.nbytes
            return
        # The next rows to be filled are most likely near.
        self._open.pop(at, None)
        self._open[at] = None
        if len(self._open) > _OPEN:
            oldest = next(iter(self._open))
            del self._open[oldest]
            self._pack(oldest)

    def _filled(self, chunk: pa.RecordBatch, given: pa.RecordBatch, offsets: Numbers) -> pa.RecordBatch:
        scatter = np.full(chunk.num_rows, -1, np.int64)
        scatter[offsets] = np.arange(len(offsets))
        index = pa.array(scatter, mask=scatter < 0)
        schema, (held, new) = _arrow.unified(self.core, [chunk, given])
        arrays = list(held.columns)
        for name in given.schema.names:
            at = schema.get_field_index(name)
            old, fresh = held.column(at), new.column(name).take(index)
            if name == _WORKER:
                texts = old.cast(TEXT)
                arrays[at] = pc.coalesce(pc.if_else(pc.equal(texts, ""), fresh.cast(TEXT), texts), texts).cast(LABEL)
            elif pa.types.is_dictionary(old.type):
                arrays[at] = pc.coalesce(old.cast(TEXT), fresh.cast(TEXT)).cast(LABEL)
            else:
                arrays[at] = pc.coalesce(old, fresh)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _brings(given: pa.RecordBatch, name: str) -> bool:
    column = given.column(name)
    if name == _WORKER:
        return bool(pc.any(pc.not_equal(column.cast(TEXT), "")).as_py())
    return bool(column.null_count < len(column))


def _column(chunk: pa.RecordBatch | Packed, field: pa.Field) -> pa.Array:
    """Return a column of a chunk in the type that it has in the whole."""
    at = chunk.schema.get_field_index(field.name)
    if at < 0:
        return pa.nulls(chunk.num_rows, field.type)
    column, held = chunk.column(field.name), chunk.schema.field(at)
    if held.equals(field, check_metadata=True):
        return column
    return _arrow.conform(pa.RecordBatch.from_arrays([column], schema=pa.schema([held])), pa.schema([field])).column(0)


def _moved(column: pa.ChunkedArray, at: pa.Array) -> pa.ChunkedArray:
    """Return a column in another order; one that says the same in every row needs none."""
    if column.null_count == len(column):
        return column
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
        if not column.null_count and len(column.chunk(0).dictionary) == 1:
            return column
    elif not column.null_count and _is_one_number(column):
        return column
    return pa.chunked_array([column.combine_chunks().take(at)], column.type)


def _is_one_number(column: pa.ChunkedArray) -> bool:
    """Whether a column without nulls is of numbers that are all the same, bit for bit."""
    kind = column.type
    if kind == pa.float64():
        column = pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks])  # -0.0 is not 0.0
    elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_timestamp(kind)):
        return False
    bounds = pc.min_max(column)
    return bool(bounds["min"].equals(bounds["max"]))


def _cut(batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield a batch in pieces no larger than a chunk is, and the bytes of each."""
    nbytes = batch.nbytes
    if batch.num_rows <= _CHUNK_ROWS and nbytes <= _CHUNK_BYTES:
        yield batch, nbytes
        return
    step = max(1, min(_CHUNK_ROWS, batch.num_rows * _CHUNK_BYTES // max(nbytes, 1)))
    for first in range(0, batch.num_rows, step):
        part = batch.slice(first, step)
        yield part, part.nbytes


def _unpacked(chunk: pa.RecordBatch | Packed) -> pa.RecordBatch:
    return chunk.batch() if isinstance(chunk, Packed) else chunk


def _flat(chunk: pa.RecordBatch | Packed) -> int:
    return chunk.flat if isinstance(chunk, Packed) else chunk.nbytes


def _slice(
    chunk: pa.RecordBatch | Packed, first: int, count: int, names: Sequence[str] | None = None
) -> pa.RecordBatch:
    names = _those_of(chunk, names)
    if isinstance(chunk, Packed):
        return chunk.slice(first, count, names)
    part = chunk.slice(first, count)
    return part if names is None else part.select(names)


def _those_of(chunk: pa.RecordBatch | Packed, names: Sequence[str] | None) -> Sequence[str] | None:
    """Return those of the names that the chunk has: further columns come with later chunks."""
    return None if names is None else [name for name in names if chunk.schema.get_field_index(name) >= 0]


def _take(chunk: pa.RecordBatch | Packed, numbers: Numbers, names: Sequence[str] | None = None) -> pa.RecordBatch:
    names = _those_of(chunk, names)
    if isinstance(chunk, Packed):
        return chunk.take(numbers, names)
    return (chunk if names is None else chunk.select(names)).take(pa.array(numbers))


def _lacks(chunk: pa.RecordBatch | Packed, name: str, offsets: Numbers) -> bool:
    column = _take(chunk, offsets, [name]).column(0) if isinstance(chunk, Packed) else chunk.column(name)
    if name == _WORKER:
        unnamed = column.dictionary.index("").as_py()
        if isinstance(chunk, pa.RecordBatch) and unnamed >= 0:
            column = column.take(pa.array(offsets))
        return unnamed >= 0 and bool(pc.equal(column.indices, unnamed).true_count)
    if isinstance(chunk, pa.RecordBatch) and column.null_count:
        column = column.take(pa.array(offsets))
    return bool(column.null_count)
