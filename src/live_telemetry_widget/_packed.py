"""A chunk of rows that grows no more, every column as small as it goes: what says nothing costs nothing.

Used by :mod:`~live_telemetry_widget._rows` only. A column that is all null, one value, or numbers at equal distances is kept as that
fact; numbers near one another by their distance from the least; what repeats by a code of one or two bytes. Everything is undone when
it is read, bit for bit, and only for the rows and columns that are asked for.

Examples
--------
>>> import pyarrow as pa
>>> from live_telemetry_widget._packed import Packed
>>> plain = pa.record_batch({"i": range(1_000), "why": pa.nulls(1_000, pa.string()), "x": [0.5, -1.0] * 500})
>>> packed = Packed.of(plain)
>>> plain.nbytes > 20_000 and packed.nbytes < 2_000
True
>>> packed.batch().equals(plain)
True
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from live_telemetry_widget._spill import Folder, Spilled

_Array = np.ndarray[Any, Any]

#: Codes are tried when so many values from the start of a column have at most so many distinct ones among them.
_SAMPLE: Final = 256
_SAMPLE_DISTINCT: Final = 128
_NARROW: Final = (np.uint8, np.uint16, np.uint32)
_MOST_CODES: Final = 2**16
_WORD: Final = 2**64


class _Read(NamedTuple):
    """Which rows are wanted of a column: what is stored of them, their numbers in the chunk, and the column's type."""

    stored: pa.Array
    numbers: Callable[[], _Array]
    rows: int
    kind: pa.DataType


class _Column(Protocol):
    """How to get a column's values back."""

    def __call__(self, read: _Read) -> pa.Array:
        """Return the values of some rows."""


def _nothing(read: _Read) -> pa.Array:
    return _nulls(read.kind, read.rows)


def _as_it_is(read: _Read) -> pa.Array:
    return read.stored


def _labels(read: _Read) -> pa.Array:
    stored: pa.DictionaryArray = read.stored
    return pa.DictionaryArray.from_arrays(stored.indices.cast(read.kind.index_type), stored.dictionary)


def _codes(read: _Read) -> pa.Array:
    stored: pa.DictionaryArray = read.stored
    return stored.dictionary.take(stored.indices).view(read.kind)


class _Same(NamedTuple):
    """One value in every row."""

    value: pa.Array

    def __call__(self, read: _Read) -> pa.Array:
        if pa.types.is_dictionary(read.kind):
            return pa.DictionaryArray.from_arrays(_zeros(read.rows), self.value.dictionary)
        return pa.repeat(self.value[0], read.rows)


class _Line(NamedTuple):
    """Numbers at equal distances."""

    first: int
    step: int

    def __call__(self, read: _Read) -> pa.Array:
        # Modulo 2^64, as both signed and unsigned numbers are stored.
        numbers = read.numbers().astype(np.uint64)
        return pa.array(numbers * np.uint64(self.step % _WORD) + np.uint64(self.first % _WORD)).view(read.kind)


class _Near(NamedTuple):
    """Numbers by their distance from the least."""

    least: int

    def __call__(self, read: _Read) -> pa.Array:
        stored = read.stored
        mask = stored.is_null().to_numpy(zero_copy_only=False) if stored.null_count else None
        values = (pc.fill_null(stored, 0) if stored.null_count else stored).to_numpy()
        if read.kind == pa.uint32():
            return pa.array(values.astype(np.uint32) + np.uint32(self.least), mask=mask)
        return pa.array(values.astype(np.uint64) + np.uint64(self.least % _WORD), mask=mask).view(read.kind)


@functools.lru_cache(maxsize=64)
def _many_nulls(kind: pa.DataType, count: int) -> pa.Array:
    return pa.nulls(count, kind)


def _nulls(kind: pa.DataType, count: int) -> pa.Array:
    """Return so many nulls; short columns of them share their memory."""
    if count > _MOST_CODES:
        return pa.nulls(count, kind)
    return _many_nulls(kind, _MOST_CODES).slice(0, count)


@functools.lru_cache(maxsize=1)
def _many_zeros() -> pa.Array:
    return pa.array(np.zeros(_MOST_CODES, np.int32))


def _zeros(count: int) -> pa.Array:
    return _many_zeros().slice(0, count) if count <= _MOST_CODES else pa.array(np.zeros(count, np.int32))


# -- packing -----------------------------------------------------------------------------------------------------------


def _pack(column: pa.Array) -> tuple[_Column, pa.Array | None]:
    """Return how a column is to be read, and what must be stored for that."""
    kind, count = column.type, len(column)
    if column.null_count == count:
        return _nothing, None
    if pa.types.is_dictionary(kind):
        return _pack_labels(column)
    if pa.types.is_boolean(kind):
        once = not column.null_count and column.true_count in {0, count}
        return (_Same(_first(column)), None) if once else (_as_it_is, column)
    if kind in {pa.int64(), pa.uint64(), pa.uint32()} or pa.types.is_timestamp(kind):
        return _pack_numbers(column)
    if kind == pa.float64() or kind == pa.string():
        return _pack_repeats(column)
    return _as_it_is, column


def _pack_labels(column: pa.DictionaryArray) -> tuple[_Column, pa.Array | None]:
    indices = column.indices
    given = (pc.drop_null(indices) if column.null_count else indices).to_numpy()
    used = np.flatnonzero(np.bincount(given, minlength=len(column.dictionary)))
    dictionary = column.dictionary.take(pa.array(used))
    if len(used) == 1 and not column.null_count:
        once = pa.DictionaryArray.from_arrays(pa.array([0], column.type.index_type), dictionary)
        return _Same(once), None
    code = np.zeros(len(column.dictionary), _narrowest(len(used) - 1))
    code[used] = np.arange(len(used))
    return _labels, pa.DictionaryArray.from_arrays(pa.array(code).take(indices), dictionary)


def _pack_numbers(column: pa.Array) -> tuple[_Column, pa.Array | None]:
    kind, missing = column.type, column.null_count
    plain = column.view(pa.int64()) if pa.types.is_timestamp(kind) else column
    bounds = pc.min_max(plain).as_py()
    least, span = bounds["min"], bounds["max"] - bounds["min"]
    if not span and not missing:
        return _Same(_first(column)), None
    mask = column.is_null().to_numpy(zero_copy_only=False) if missing else None
    values: _Array = (pc.fill_null(plain, least) if missing else plain).to_numpy()
    step = (int(values[-1]) - int(values[0])) // (len(values) - 1) if len(values) > 1 else 0
    # Distances modulo 2^64 are those of the numbers, since they are that far apart altogether.
    if step and not missing and abs(step) * (len(values) - 1) == span and _even(values, step):
        return _Line(int(values[0]), step), None
    if span >= 2**32 or (kind == pa.uint32() and span >= _MOST_CODES):
        return _as_it_is, column
    narrow = (values - values.dtype.type(least)).astype(_narrowest(span))
    return _Near(least), pa.array(narrow, mask=mask)


def _even(values: _Array, step: int) -> bool:
    return bool((np.diff(values.astype(np.uint64)) == np.uint64(step % _WORD)).all())


def _pack_repeats(column: pa.Array) -> tuple[_Column, pa.Array | None]:
    # Numbers by their bits: -0.0 is not 0.0, and a NaN keeps what it carries.
    held = column.view(pa.int64()) if column.type == pa.float64() else column
    if len(held.slice(0, _SAMPLE).unique()) > _SAMPLE_DISTINCT:
        return _as_it_is, column
    coded = held.dictionary_encode()
    if len(coded.dictionary) == 1 and not column.null_count:
        return _Same(_first(column)), None
    if len(coded.dictionary) > _MOST_CODES:
        return _as_it_is, column
    small = pa.DictionaryArray.from_arrays(
        coded.indices.cast(pa.from_numpy_dtype(_narrowest(len(coded.dictionary) - 1))), coded.dictionary
    )
    # Half is worth it: codes cost time to read.
    return (_codes, small) if small.nbytes + coded.dictionary.nbytes < column.nbytes // 2 else (_as_it_is, column)


def _first(column: pa.Array) -> pa.Array:
    """Return the first value, in memory of its own."""
    return column.take(pa.array([0]))


def _narrowest(most: int) -> type[np.unsignedinteger[Any]]:
    return next(kind for kind in _NARROW if most <= np.iinfo(kind).max)


class Packed:
    """A chunk of rows, packed; made by :meth:`of`.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the rows.
    num_rows : int
        How many there are.
    flat : int
        How many bytes they took before.
    """

    __slots__ = ("__weakref__", "_columns", "_places", "_stored", "flat", "nbytes", "num_rows", "schema")

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.schema: pa.Schema = batch.schema
        self.num_rows: int = batch.num_rows
        self.flat: int = batch.nbytes
        self._columns: list[_Column] = []
        # For each column, which one of what is stored it needs; -1 for none.
        self._places: list[int] = []
        stored: list[pa.Array] = []
        for column in batch.columns:
            how, kept = _pack(column)
            self._columns.append(how)
            self._places.append(-1 if kept is None else len(stored))
            if kept is not None:
                stored.append(kept)
        self._stored: pa.RecordBatch | Spilled | None = _in_one_piece(stored) if stored else None
        #: How many bytes of memory it takes.
        self.nbytes: int = self._stored.nbytes if self._stored is not None else 0

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Packed:
        """Return the rows of a batch, packed; nothing of the batch is kept."""
        return cls(batch)

    def spill(self, folder: Folder) -> None:
        """Move what is stored to a file, from where it is read from now on.

        Raises
        ------
        OSError
            It cannot be written; nothing has changed.
        """
        if isinstance(self._stored, pa.RecordBatch):
            self._stored = folder.write(self._stored)
            self.nbytes = 0

    def batch(self) -> pa.RecordBatch:
        """Return all rows."""
        return self.slice(0, self.num_rows)

    def column(self, name: str) -> pa.Array:
        """Return all rows of one column."""
        return self._read([name], self.num_rows, lambda stored: stored, lambda: np.arange(self.num_rows)).column(0)

    def slice(self, first: int, count: int, names: Sequence[str] | None = None) -> pa.RecordBatch:
        """Return rows, as ``RecordBatch.slice`` does; of `names` only those columns."""
        count = min(count, self.num_rows - first)
        return self._read(
            names, count, lambda stored: stored.slice(first, count), lambda: np.arange(first, first + count)
        )

    def take(self, numbers: _Array, names: Sequence[str] | None = None) -> pa.RecordBatch:
        """Return some rows, in the order asked for; of `names` only those columns."""
        at = pa.array(numbers)
        return self._read(names, len(numbers), lambda stored: stored.take(at), lambda: numbers)

    def _read(
        self,
        names: Sequence[str] | None,
        count: int,
        part: Callable[[pa.Array], pa.Array],
        numbers: Callable[[], _Array],
    ) -> pa.RecordBatch:
        schema, stored = self.schema, self._stored
        if stored is not None and not isinstance(stored, pa.RecordBatch):
            stored = stored.read()
        chosen = range(len(schema)) if names is None else [schema.get_field_index(name) for name in names]
        arrays = []
        for at in chosen:
            place = self._places[at]
            held = None if stored is None or place < 0 else part(stored.column(place))
            arrays.append(self._columns[at](_Read(held, numbers, count, schema.field(at).type)))
        fields = schema if names is None else pa.schema([schema.field(at) for at in chosen])
        return pa.RecordBatch.from_arrays(arrays, schema=fields)


def _in_one_piece(columns: list[pa.Array]) -> pa.RecordBatch:
    """Return a copy of the columns, side by side in one allocation of just their size."""
    batch = pa.RecordBatch.from_arrays(columns, names=[str(at) for at in range(len(columns))])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_file(sink.getvalue()).get_batch(0)
