"""Arrow batches brought to one schema, and to pandas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget.schema import JSON_KIND, TEXT, unify

if TYPE_CHECKING:
    from collections.abc import Sequence


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return `batch` with the columns of `schema`, which its own must fit (see :func:`~.schema.unify`)."""
    if batch.schema.equals(schema):
        return batch
    arrays = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        if at < 0:
            arrays.append(pa.nulls(batch.num_rows, field.type))
            continue
        column, held = batch.column(at), batch.schema.field(at)
        if held.type != field.type:
            column = json_texts(column) if field.type == TEXT else column.cast(field.type)
        elif field.metadata == JSON_KIND and held.metadata != JSON_KIND and held.type == TEXT:
            column = json_texts(column)
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def json_texts(column: pa.Array) -> pa.Array:
    """Return a column's values as JSON texts (text columns of JSON kind are such already)."""
    values = column.to_pylist()
    return pa.array([None if v is None else json.dumps(v, ensure_ascii=False) for v in values], TEXT)


def merge(batches: Sequence[pa.RecordBatch], core: pa.Schema) -> pa.Table:
    """Return the batches as one table over the columns that they have in common with `core`, or add to it."""
    schema = unify(core, dict.fromkeys(batch.schema for batch in batches))
    return pa.Table.from_batches([conform(batch, schema) for batch in batches], schema)


def to_frame(table: pa.Table, decode: Sequence[str] = ()) -> pd.DataFrame:
    """Return a DataFrame: plain NumPy numbers where nothing is null, pandas' nullable ones elsewhere, categoricals for labels.

    Parameters
    ----------
    table
        Columns of the kinds that :mod:`~live_telemetry_widget.schema` knows.
    decode
        Label columns of JSON texts to turn into numbers (or plain strings) where all their values allow it.
    """
    columns: dict[str, Any] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        if field.name in decode:
            columns[field.name] = decoded(column)
        else:
            columns[field.name] = _series(column)
    return pd.DataFrame(columns, copy=False)


def _series(column: pa.ChunkedArray) -> Any:  # noqa: ANN401 - whatever pandas takes as a column
    kind = column.type
    if column.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        name = "boolean" if pa.types.is_boolean(kind) else str(kind).replace("int", "Int").replace("uI", "UI")
        return pd.Series(pd.array(column.to_pylist(), dtype=cast("Any", name)))
    if pa.types.is_null(kind):
        return pd.Series([None] * len(column), dtype=object)
    if pa.types.is_dictionary(kind):
        return column.unify_dictionaries().combine_chunks().to_pandas() if len(column) else pd.Categorical([])
    return column.to_pandas()


def decoded(column: pa.ChunkedArray) -> Any:  # noqa: ANN401
    """Return a label column of JSON texts as numbers or strings if its distinct values are such, else as it is."""
    texts = [text for text in column.unique().to_pylist() if text is not None]
    try:
        values = [json.loads(text) for text in texts]
    except ValueError:
        return _series(column)
    kinds = {type(value) for value in values}
    if kinds and (kinds <= {int, float} or kinds == {str} or kinds == {bool}):
        target = pa.bool_() if kinds == {bool} else pa.string() if kinds == {str} else None
        if target is None:
            target = pa.int64() if kinds == {int} else pa.float64()
        try:
            held = pa.array(values, target)
        except (OverflowError, pa.ArrowInvalid):
            return _series(column)
        at = pc.index_in(column.cast(TEXT), value_set=pa.array(texts, TEXT))
        taken = held.take(at.combine_chunks())
        return _series(pa.chunked_array([taken]))
    return _series(column)


def empty(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch of no rows."""
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def unify_two(core: pa.Schema, left: pa.Schema, right: pa.Schema) -> pa.Schema:
    """Return `left`, widened so that it holds `right` too."""
    return unify(core, (left, right))


def pick(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Return the fields of `schema` that are named, in the order of the names."""
    return pa.schema([schema.field(name) for name in names])
