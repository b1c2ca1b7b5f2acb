"""Arrow tables as DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _json
from live_telemetry_widget.schema import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def moment(nanoseconds: int | None) -> pd.Timestamp | None:
    """Return a time since 1970 as pandas has it."""
    return None if nanoseconds is None else pd.Timestamp(nanoseconds, unit="ns", tz="UTC")


_Frame = TypeVar("_Frame", bound=pd.DataFrame)


class Plain(Protocol):
    """A column in memory of NumPy's own: numbers (of times, nanoseconds), and which of them are missing, if any is."""

    @property
    def numbers(self) -> np.ndarray[Any, Any]:
        """The numbers."""

    @property
    def missing(self) -> np.ndarray[Any, Any] | None:
        """True where there is none."""


@overload
def to_frame(table: pa.Table, decode: Sequence[str] = ()) -> pd.DataFrame: ...
@overload
def to_frame(
    table: pa.Table | Iterable[tuple[pa.Field, pa.ChunkedArray | Plain]], decode: Sequence[str], kind: type[_Frame]
) -> _Frame: ...
def to_frame(
    table: pa.Table | Iterable[tuple[pa.Field, pa.ChunkedArray | Plain]],
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
        if not isinstance(column, pa.ChunkedArray):
            columns[field.name] = _of_numbers(field.type, column)
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
        times = pd.DatetimeIndex(numbers.view(f"M8[{kind.unit}]"), copy=False)
        return pd.Series(times.tz_localize(kind.tz), copy=False)
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
    if pa.types.is_dictionary(kind):
        return column.unify_dictionaries().combine_chunks().to_pandas() if len(column) else pd.Categorical([])
    series = column.to_pandas()
    # Of one chunk it is Arrow's memory, and pandas' error for whoever writes to it speaks of types.
    return series.copy() if column.num_chunks == 1 and pa.types.is_primitive(kind) else series


def decoded(column: pa.ChunkedArray) -> Any:  # noqa: ANN401
    """Return a label column of JSON texts as numbers or strings if its distinct values are such, else as it is."""
    texts = [text for text in column.unique().to_pylist() if text is not None]
    try:
        values = [_json.parse(text) for text in texts]
    except _json.UNREADABLE:
        return _series(column)
    kinds = {type(value) for value in values}
    if kinds and (kinds <= {int, float} or kinds in ({str}, {bool})):
        target = pa.bool_() if kinds == {bool} else pa.string() if kinds == {str} else None
        if target is None:
            target = pa.int64() if kinds == {int} else pa.float64()
        try:
            held = pa.array(values, target)
        except (OverflowError, pa.ArrowInvalid):
            return _series(column)
        known = pa.array(texts, TEXT)
        # By the few labels of each chunk, not row by row.
        taken = [held.take(pc.index_in(c.dictionary, value_set=known)).take(c.indices) for c in column.chunks]
        return _series(pa.chunked_array(taken))
    return _series(column)
