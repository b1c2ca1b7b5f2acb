"""Batches of one run that differ in their further columns, brought together without losing a value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget.schema import JSON_KIND, TEXT, further, unify

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a batch costs beside its rows, in bytes: each of its 25 columns is several objects. Measured: some 23 kB for a row.
_BATCH_COST: Final = 24 * 1024
#: On the caller's thread: to wake others, buffer by buffer, costs more than they save.
_HERE: Final = pa.ipc.IpcReadOptions(use_threads=False)


def weight(rows: pa.RecordBatch | pa.Table) -> int:
    """Return about how many bytes of memory some rows hold; of few rows it is more than their values."""
    return int(rows.nbytes) + _BATCH_COST


def constant(value: str, count: int) -> pa.DictionaryArray:
    """Return a column of labels that are all the same."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value], TEXT))


def numbered(batch: pa.RecordBatch, first_seq: int) -> pa.RecordBatch:
    """Return rows with their numbers, which count on from the first."""
    at = batch.schema.get_field_index("seq_id")
    numbers = pa.array(np.arange(first_seq, first_seq + batch.num_rows, dtype=np.uint64))
    return batch.set_column(at, batch.schema.field(at), numbers)


def unified(core: pa.Schema, batches: Sequence[pa.RecordBatch]) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Return the schema that holds all of `batches` (core columns and every further one), and the batches in it.

    Where two types of a further column have only a lossy one in common (a large 64-bit integer and a float), it becomes JSON text.
    """
    schema = unify(core, [batch.schema for batch in batches])
    try:
        return schema, [conform(batch, schema) for batch in batches]
    except pa.ArrowInvalid:
        schema = widest(core, [batch.schema for batch in batches])
        return schema, [conform(batch, schema) for batch in batches]


def merge(core: pa.Schema, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Return the batches as one table."""
    schema, held = unified(core, batches)
    return pa.Table.from_batches(held, schema)


def combine(core: pa.Schema, batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the batches as one batch.

    Raises
    ------
    ValueError
        A column of texts would pass 2 GiB, where its 32-bit offsets end.
    """
    if len(batches) == 1:
        return batches[0]
    found = merge(core, batches).unify_dictionaries().combine_chunks().to_batches()
    if len(found) > 1:
        msg = f"{sum(batch.nbytes for batch in batches)} bytes do not fit into one batch; combine fewer"
        raise ValueError(msg)
    # A table of no rows has no batches.
    return found[0] if found else empty(core)


def to_stream(batch: pa.RecordBatch, options: pa.ipc.IpcWriteOptions | None = None) -> pa.Buffer:
    """Return the batch as an IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def from_stream(data: bytes | memoryview | pa.Buffer) -> pa.RecordBatch:
    """Return the batch of an IPC stream.

    Raises
    ------
    StopIteration
        It has none.
    pyarrow.ArrowInvalid
        It is no IPC stream.
    """
    with pa.ipc.open_stream(data, options=_HERE) as reader:
        return reader.read_next_batch()


def empty(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch of no rows."""
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def widest(core: pa.Schema, schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return what :func:`unify` does, with JSON text for each further column whose type is not the same in all schemas."""
    fields = list(core)
    for field in further(unify(core, schemas), core):
        types = {s.field(field.name).type for s in schemas if field.name in s.names} - {pa.null()}
        fields.append(field if len(types) <= 1 else pa.field(field.name, TEXT, metadata=JSON_KIND))
    return pa.schema(fields)


def of_episode(batch: pa.RecordBatch, episode: int) -> pa.RecordBatch:
    """Return the rows of the episodes of that number."""
    return batch.filter(pc.equal(batch.column("episode"), episode))


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
