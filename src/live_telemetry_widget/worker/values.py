"""Values of steps and episodes as Arrow's: JSON texts, labels, truth values; of one kind all at once, of others one by one.

Nothing that a training loop may hand over raises: what cannot be told is told as text, and counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _arrow, _further
from live_telemetry_widget._further import cut, to_json
from live_telemetry_widget.schema import LABEL, Problem
from live_telemetry_widget.worker.manners import Arrays
from live_telemetry_widget.worker.records import Unread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: What Arrow raises for values that are not all of a column's type.
NOT_OF_A_KIND: Final = (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError, UnicodeEncodeError)


class Values:
    """Turns values into arrays; counts what is wrong with them.

    Parameters
    ----------
    count
        Given what was wrong.
    """

    def __init__(self, count: Callable[[Iterable[Problem]], None]) -> None:
        self.count = count

    def flags(self, values: Sequence[Any]) -> pa.Array:
        """Return truth values, of any type, as an array; what is none is False, and counted."""
        if set(map(type, values)) <= {bool, np.bool_}:
            return pa.array(values, pa.bool_())
        return pa.array([self.flag(value) for value in values], pa.bool_())

    def flag(self, value: object) -> bool:
        """Return a truth value; False, and counted, for what is none."""
        try:
            return bool(value)
        except (TypeError, ValueError):
            detail = f"terminated or truncated is {cut(value)!r}, which is neither true nor false; taken as false"
            self.count([Problem("bad_flag", detail)])
            return False

    def documents(self, values: Sequence[Any]) -> pa.Array:
        """Return values as JSON texts: those of one kind at once."""
        if values.__class__ is Texts:
            return texts_of(values)
        if isinstance(values, Arrays):
            stacked = values.stacked()
            texts = None if stacked is None else lists(stacked)
            return self.documents(list(values)) if texts is None else texts
        kinds = set(map(type, values))
        kinds.discard(type(None))
        if not kinds:
            return pa.nulls(len(values), pa.string())
        if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
            return pa.array(values, pa.int64()).cast(pa.string())
        if kinds == {np.ndarray} and (texts := _array_texts(values)) is not None:
            return texts
        return texts_of([None if value is None else self._document(value) for value in values])

    def documents_of(self, column: Any) -> pa.Array:  # noqa: ANN401 - an array or a list
        """Return a column that was told at once as JSON texts."""
        texts = _column_texts(column)
        return self.documents(list(column)) if texts is None else texts

    def _document(self, value: Any) -> str:  # noqa: ANN401 - whatever a step is told with
        return to_json(self.plain(value))

    def plain(self, value: Any) -> Any:  # noqa: ANN401 - as above
        """Return `value` if it can be told as JSON, else its text."""
        if isinstance(value, Unread):
            self.count([Problem("not_json", f"{value}; told as text")])
            return value.text
        try:
            to_json(value)
        except (TypeError, ValueError, RecursionError) as error:
            self.count([Problem("not_json", f"{type(value).__name__} cannot be told as JSON ({error}); told as text")])
            return cut(value)
        return value


class Texts(list[Any]):
    """JSON texts, as against texts to be told as JSON."""


def text_of(value: object) -> str:
    """Return a name as text."""
    return _further.clean(value if isinstance(value, str) else str(value))


def texts_of(values: Sequence[Any]) -> pa.Array:
    """Return texts, and Nones, as an array."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([None if value is None else _further.clean(value) for value in values], pa.string())


def labels(values: list[str] | str, number: int) -> pa.Array:
    """Return names, or one that is the same for all rows, as an array."""
    if isinstance(values, str):
        return _arrow.constant(values, number)
    if values.count(values[0]) == number:
        return _arrow.constant(values[0], number)
    return pa.array(values, pa.string()).dictionary_encode()


def is_set(value: object) -> bool:
    """Whether a flag is; one that is no truth value is none, and counted where its column is made."""
    try:
        return bool(value)
    except (TypeError, ValueError):
        return False


def action_labels(values: Sequence[Any]) -> pa.Array:
    """Return actions as an array."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values), LABEL)
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        found = pa.array(values, pa.int64()).dictionary_encode()
        return pa.DictionaryArray.from_arrays(found.indices, found.dictionary.cast(pa.string()))
    if kinds == {np.ndarray} and (texts := _array_texts(values)) is not None:
        return texts.dictionary_encode()
    return pa.array([None if value is None else to_json(value) for value in values], pa.string()).dictionary_encode()


def column_labels(column: Any) -> pa.Array:  # noqa: ANN401 - an array or a list
    """Return a column of actions."""
    if isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "iu":
        found = pa.array(column).dictionary_encode()
        return pa.DictionaryArray.from_arrays(found.indices, found.dictionary.cast(pa.string()))
    texts = _column_texts(column)
    return action_labels(list(column)) if texts is None else texts.dictionary_encode()


def _column_texts(column: Any) -> pa.Array | None:  # noqa: ANN401 - as above
    """Return JSON texts of a column that is an array of integers, or of lists of numbers; None of another."""
    plain = isinstance(column, np.ndarray) and (column.ndim > 1 or column.dtype.kind in "iu")
    return lists(column) if plain else None


def _array_texts(values: Sequence[Any]) -> pa.Array | None:
    """Return arrays of numbers of one shape, of at most one dimension, as JSON lists; None when they are something else."""
    kept = [value for value in values if value is not None]
    shape, dtype = kept[0].shape, kept[0].dtype
    if len(kept) != len(values) or any(value.shape != shape or value.dtype != dtype for value in kept):
        return None
    return lists(np.stack(kept)) if len(shape) <= 1 else None


def lists(stacked: np.ndarray[Any, Any]) -> pa.Array | None:
    """Return an array's rows, numbers or lists of them, as JSON; None when they are something else.

    Floats are as short as their own type allows: 0.1 of 32 bits is 0.1.
    """
    shape, dtype = stacked.shape[1:], stacked.dtype
    if len(shape) > 1 or dtype.kind not in "iuf":
        return None
    if dtype.kind == "f" and not np.isfinite(stacked).all():
        return None  # JSON has no word for them; Python's has, and it is not Arrow's
    if dtype == np.float16:
        stacked = stacked.astype(np.float32)
    numbers = np.ascontiguousarray(stacked).reshape(-1)
    flat = pa.array(numbers).cast(pa.string())
    if dtype.kind == "f" and (whole := numbers == np.trunc(numbers)).any():
        # Arrow says 1 where Python says 1.0, which is read back as the float that it is.
        said = flat.filter(pa.array(whole))
        bare = pc.invert(pc.match_substring_regex(said, "[.e]"))
        said = pc.if_else(bare, pc.binary_join_element_wise(said, ".0", ""), said)
        flat = pc.replace_with_mask(flat, pa.array(whole), said)
    if not shape:
        return flat
    offsets = pa.array(np.arange(len(stacked) + 1, dtype=np.int32) * shape[0])
    lists = pa.ListArray.from_arrays(offsets, flat)
    return pc.binary_join_element_wise("[", pc.binary_join(lists, ","), "]", "")


def summary(value: Any) -> Any:  # noqa: ANN401 - an observation
    """Return what an array is like; of anything else, its parts' likes, or itself when it has none."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iufb" and value.size:
        least, most, mean = value.min(), value.max(), value.mean(dtype=np.float64)
        like = {"shape": list(value.shape), "dtype": str(value.dtype), "min": least, "max": most, "mean": mean}
        return {name: item.item() if isinstance(item, np.generic) else item for name, item in like.items()}
    if isinstance(value, dict):
        return {name: summary(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [summary(item) for item in value]
    return value
