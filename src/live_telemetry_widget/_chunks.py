"""Chunks of rows: Arrow batches as bytes, joined without loss, and when to join them. Used by :mod:`~.store` only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa

from live_telemetry_widget.schema import JSON_KIND, TEXT, further, unify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: A chunk is sealed, never to be rewritten, when it has so many rows or so many bytes before compression.
MAX_ROWS: Final = 16_384
MAX_BYTES: Final = 16 * 1024 * 1024
#: A chunk is merged with those behind it once they hold so many times its rows: eight of a size make one of the next.
FACTOR: Final = 7

_WRITE: Final = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))


class Piece(NamedTuple):
    """What there is to know of a chunk to decide on merging."""

    first_seq: int
    rows: int
    nbytes: int

    @property
    def sealed(self) -> bool:
        """Whether it is large enough to be left alone for ever."""
        return self.rows >= MAX_ROWS or self.nbytes >= MAX_BYTES


def encode(batch: pa.RecordBatch) -> memoryview:
    """Return the batch as a compressed IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_WRITE) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def decode(data: bytes) -> pa.RecordBatch:
    """Undo :func:`encode`."""
    return pa.ipc.open_stream(data).read_next_batch()


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


def combine(core: pa.Schema, batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the batches as one, over all their further columns, without losing a value.

    Where two types of a further column have only a lossy one in common (a 64-bit integer and a float), it becomes JSON text.
    """
    if not batches:
        return pa.RecordBatch.from_pylist([], schema=core)
    if len(batches) == 1:
        return batches[0]
    schema = unify(core, [batch.schema for batch in batches])
    try:
        held = [conform(batch, schema) for batch in batches]
    except pa.ArrowInvalid:
        schema = _widest(core, schema, batches)
        held = [conform(batch, schema) for batch in batches]
    table = pa.Table.from_batches(held, schema).unify_dictionaries().combine_chunks()
    found = table.to_batches()
    # A table of no rows has no batches.
    return found[0] if found else held[0]


def _widest(core: pa.Schema, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> pa.Schema:
    """Return `schema` with JSON text for each further column whose type is not the same in all batches."""
    fields = list(core)
    for field in further(schema, core):
        types = {b.schema.field(field.name).type for b in batches if field.name in b.schema.names} - {pa.null()}
        fields.append(field if len(types) == 1 else pa.field(field.name, TEXT, metadata=JSON_KIND))
    return pa.schema(fields)


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return `batch` with the columns of `schema`.

    Raises
    ------
    pyarrow.ArrowInvalid
        A value does not fit without loss.
    """
    # Metadata counts: it is what tells a JSON text from a plain one.
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    arrays = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        if at < 0:
            arrays.append(pa.nulls(batch.num_rows, field.type))
            continue
        column, held = batch.column(at), batch.schema.field(at)
        to_json = field.metadata == JSON_KIND and held.metadata != JSON_KIND
        if field.type == TEXT and (to_json or held.type != TEXT):
            column = _json_texts(column)
        elif held.type != field.type:
            column = column.cast(field.type)
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _json_texts(column: pa.Array) -> pa.Array:
    values = column.to_pylist()
    return pa.array([None if v is None else json.dumps(v, ensure_ascii=False) for v in values], TEXT)
