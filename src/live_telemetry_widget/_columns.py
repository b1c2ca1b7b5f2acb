"""Arrow tables as DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _json, _straight
from live_telemetry_widget._straight import Labels, Plain
from live_telemetry_widget.schema import LABEL, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def moment(nanoseconds: int | None) -> pd.Timestamp | None:
    """Return a time since 1970 as pandas has it."""
    return None if nanoseconds is None else pd.Timestamp(nanoseconds, unit="ns", tz="UTC")


_Frame = TypeVar("_Frame", bound=pd.DataFrame)


@overload
def to_frame(table: pa.Table, decode: Sequence[str] = ()) -> pd.DataFrame: ...
@overload
def to_frame(
    table: pa.Table | Iterable[tuple[pa.Field, pa.ChunkedArray | Plain | Labels]],
    decode: Sequence[str],
    kind: type[_Frame],
) -> _Frame: ...
def to_frame(
    table: pa.Table | Iterable[tuple[pa.Field, pa.ChunkedArray | Plain | Labels]],
    decode: Sequence[str] = (),
    kind: type[pd.DataFrame] = pd.DataFrame,
) -> pd.DataFrame:
    """Return a DataFrame: plain NumPy numbers where nothing is null, pandas' nullable ones elsewhere, categoricals for labels.

    Parameters
    ----------
    table
        Columns of the kinds that :mod:`~live_telemetry_widget.schema` knows; also one by one.
    decode
        Label columns of JSON texts to turn into numbers (or plain strings) where all their values allow it.
    kind
        The class to make it of.
    """
    columns: dict[str, Any] = {}
    for field, column in zip(table.schema, table.columns, strict=True) if isinstance(table, pa.Table) else table:
        if isinstance(column, Plain):
            columns[field.name] = _of_numbers(field.type, column)
        elif isinstance(column, Labels):
            columns[field.name] = (_of_labels if field.name in decode else _categories)(column)
        elif field.name in decode:
            columns[field.name] = decoded(column)
        else:
            columns[field.name] = _series(column)
    return kind(columns, copy=False)


def _of_numbers(kind: pa.DataType, column: Plain) -> Any:  # noqa: ANN401 - whatever pandas takes as a column
    numbers, missing = column.numbers, column.missing
    if pa.types.is_timestamp(kind):
        if missing is not None:
            numbers[missing] = pd.NaT.value
        # Whole numbers are taken to be of UTC, and are not copied.
        times = pd.array(numbers, dtype=pd.DatetimeTZDtype(kind.unit, "UTC"), copy=False)
        return pd.Series(times if kind.tz == "UTC" else times.tz_convert(kind.tz), copy=False)
    if missing is None:
        return pd.Series(numbers, copy=False)
    if pa.types.is_floating(kind):
        numbers[missing] = np.nan
        return pd.Series(numbers, copy=False)
    kept = pd.arrays.BooleanArray if pa.types.is_boolean(kind) else pd.arrays.IntegerArray
    return pd.Series(kept(numbers, missing), copy=False)


def _series(column: pa.ChunkedArray) -> Any:  # noqa: ANN401 - whatever pandas takes as a column
    kind = column.type
    if column.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        mask = column.is_null().to_numpy()
        values = pc.fill_null(column, False if pa.types.is_boolean(kind) else 0).to_numpy()
        kept = pd.arrays.BooleanArray if pa.types.is_boolean(kind) else pd.arrays.IntegerArray
        # Arrow's memory is not to be written to; pandas' own is.
        return pd.Series(kept(values.copy() if not values.flags.writeable else values, mask.copy()))
    if pa.types.is_null(kind):
        return pd.Series([None] * len(column), dtype=object)
    if kind == TEXT and column.null_count == len(column):
        return _straight.no_texts(len(column)).to_pandas()
    if kind == LABEL:
        return _categories(_straight.labels(column.chunks, len(column)))
    if pa.types.is_dictionary(kind):
        return column.unify_dictionaries().combine_chunks().to_pandas() if len(column) else pd.Categorical([])
    series = column.to_pandas()
    # Of one chunk it is Arrow's memory, and pandas' error for whoever writes to it speaks of types.
    return series.copy() if column.num_chunks == 1 and pa.types.is_primitive(kind) else series


def decoded(column: pa.ChunkedArray) -> Any:  # noqa: ANN401
    """Return a label column of JSON texts as numbers or strings if its distinct values are such, else as it is."""
    texts = [text for text in column.unique().to_pylist() if text is not None]
    held = _meanings(texts)
    if held is None:
        return _series(column)
    known = pa.array(texts, TEXT)
    # By the few labels of each chunk, not row by row.
    taken = [held.take(pc.index_in(c.dictionary, value_set=known)).take(c.indices) for c in column.chunks]
    return _series(pa.chunked_array(taken))


def _meanings(texts: list[str]) -> pa.Array | None:
    """Return what JSON texts say where all are numbers, all truths or all strings; None otherwise."""
    try:
        values = [_json.parse(text) for text in texts]
    except _json.UNREADABLE:
        return None
    kinds = {type(value) for value in values}
    if not kinds or not (kinds <= {int, float} or kinds in ({str}, {bool})):
        return None
    target = (
        {str: TEXT, bool: pa.bool_(), int: pa.int64()}.get(kinds.pop(), pa.float64())
        if len(kinds) == 1
        else pa.float64()
    )
    try:
        return pa.array(values, target)
    except (OverflowError, pa.ArrowInvalid):
        return None


def _categories(column: Labels) -> Any:  # noqa: ANN401
    return pd.Categorical.from_codes(column.codes, pd.Index(column.words.to_pandas()), validate=False)


def _of_labels(column: Labels) -> Any:  # noqa: ANN401
    """Return labels that are JSON texts as :func:`decoded` does."""
    codes, words = column
    # Of what rows were cut from there may be words that none of them has.
    used = np.flatnonzero(np.bincount(codes + np.int32(1), minlength=len(words) + 1)[1:])
    held = _meanings(words.take(pa.array(used)).to_pylist())
    if held is None:
        return _categories(column)
    places = np.zeros(len(words), np.int64)
    places[used] = np.arange(len(used))
    missing = codes < 0
    any_missing = bool(missing.any())
    if held.type == TEXT:
        return held.take(pa.array(places[codes], mask=missing if any_missing else None)).to_pandas()
    meant = held.to_numpy(zero_copy_only=False)[places]
    numbers = meant.take(codes, out=_straight.room(len(codes), meant.dtype), mode="wrap")  # -1 is the last
    if any_missing:
        numbers[missing] = 0
    return _of_numbers(held.type, Plain(numbers, missing if any_missing else None))
