"""Further columns: a worker's own fields as Arrow columns, each of a type of its own, and back to JSON.

Used by :mod:`~live_telemetry_widget.normalize` only. Nothing here knows messages or events.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from live_telemetry_widget import _json
from live_telemetry_widget.schema import EVENT_NAMES, JSON_KIND, RAW_LIMIT, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

#: So many further columns a batch may have; what is beyond travels as JSON in one column of its own.
MAX_COLUMNS: Final = 256
OVERFLOW_COLUMN: Final = "extra_fields"
_OF_JSON: Final = frozenset({type(None), bool, int, float, str, list, dict})
#: Bytes of the largest number that a column holds.
_WORD: Final = 8
_INT64_MAX: Final = 2**63 - 1
_INT64_MIN: Final = -(2**63)


def plain(value: object) -> object:
    """Return a NumPy scalar or array as Python's own number or list; of anything else that JSON has no word for, its text."""
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else str(value)


_compact: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=plain).encode


def to_json(value: object) -> str:
    """Return compact JSON text; NumPy's values are numbers and lists, what JSON has no word for (a path) becomes its ``str``."""
    return _compact(value)


def cut(text: object) -> str:
    """Return the text of `text`, short enough to keep with a problem."""
    return str(text)[:RAW_LIMIT]


def parse_objects(texts: Sequence[str], problems: list[Problem], what: str) -> list[dict[str, Any]]:
    """Parse one JSON object a row; ``""`` is an empty object, anything else that is no object is counted.

    All rows are parsed in one go, because a call for each costs more than the parsing.
    """
    if not any(texts):
        return [{} for _ in texts]
    parsed = _json.parse_all([text or "{}" for text in texts])
    if parsed is not None and all(type(item) is dict for item in parsed):
        return parsed
    return [_parse_object(text, problems, what) for text in texts]


def _parse_object(text: str, problems: list[Problem], what: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        parsed = _json.parse(text)
    except _json.UNREADABLE as error:
        problems.append(Problem("bad_json", f"{what} is not JSON ({error}); the step is kept without it", cut(text)))
        return {}
    if not isinstance(parsed, dict):
        kind = type(parsed).__name__
        problems.append(Problem("bad_json", f"{what} is a {kind}, not an object; kept without it", cut(text)))
        return {}
    return parsed


def columns(
    rows: Sequence[Mapping[str, Any]], taken: Collection[str], problems: list[Problem]
) -> tuple[list[pa.Field], list[pa.Array]]:
    """Turn one mapping a row into typed columns, in the order in which the names first appear.

    Parameters
    ----------
    rows
        The further fields of each row; a name that a row lacks, and ``None``, are null.
    taken
        Names of core columns: a further field of the same name, and of one of :data:`~.schema.EVENT_NAMES`, becomes ``extra_NAME``.
    problems
        Appended to.
    """
    # Most rows have the same fields in the same order.
    shapes = dict.fromkeys(map(tuple, rows))
    names = dict.fromkeys(name for shape in shapes for name in shape)
    values = list(zip(*(row.values() for row in rows), strict=True)) if len(shapes) == 1 else None
    kept = list(names)
    spill: list[str] = []
    if len(kept) > MAX_COLUMNS:
        spill = kept[MAX_COLUMNS:]
        kept = kept[:MAX_COLUMNS]
        detail = f"{len(names)} further fields; those after the first {MAX_COLUMNS} are in column {OVERFLOW_COLUMN!r}"
        problems.append(Problem("too_many_fields", detail, cut(", ".join(spill))))
    told = {name: values[at] if values else [row.get(name) for row in rows] for at, name in enumerate(kept)}
    fields, arrays = of_columns(told, taken, problems)
    if spill:
        texts = [to_json({k: row[k] for k in spill if k in row}) if row else None for row in rows]
        # An aligned episode may have one of its own fields already, and this is of its metadata.
        column = OVERFLOW_COLUMN if OVERFLOW_COLUMN not in taken else f"metadata_{OVERFLOW_COLUMN}"
        fields.append(pa.field(column, pa.string(), metadata=JSON_KIND))
        arrays.append(_text_array(texts, problems))
    return fields, arrays


def of_columns(
    told: Mapping[str, Sequence[Any]], taken: Collection[str], problems: list[Problem]
) -> tuple[list[pa.Field], list[pa.Array]]:
    """Do what :func:`columns` does for what is in columns already, arrays or lists; there are :data:`MAX_COLUMNS` at most."""
    reserved = {*taken, OVERFLOW_COLUMN, *EVENT_NAMES}
    used: set[str] = set()
    fields: list[pa.Field] = []
    arrays: list[pa.Array] = []
    for name, values in told.items():
        numbers = _of_numbers(values) if isinstance(values, np.ndarray) else None
        array, is_json = typed(list(values), name, problems) if numbers is None else (numbers, False)
        column = _column_name(name, reserved, used, problems)
        fields.append(pa.field(column, array.type, metadata=JSON_KIND if is_json else None))
        arrays.append(array)
    return fields, arrays


def _column_name(name: str, reserved: set[str], used: set[str], problems: list[Problem]) -> str:
    """Return the column's name for a further field: its own, as far as that is text and free."""
    column = clean(name)
    if column != name:
        problems.append(
            Problem("bad_text", "a field's name is not valid Unicode; what is invalid was replaced", column)
        )
    if _is_taken(column, reserved):
        column = f"extra_{column}"
    unique, number = column, 2
    while unique in used:  # two names that differed in what was invalid
        unique, number = f"{column}_{number}", number + 1
    used.add(unique)
    return unique


def _is_taken(name: str, reserved: AbstractSet[str]) -> bool:
    """Whether a further field of this name gets ``extra_`` before it; ``extra_NAME`` of a taken name is taken too, so that none meet."""
    while name not in reserved:
        if not name.startswith("extra_"):
            return False
        name = name.removeprefix("extra_")
    return True


def typed(values: Sequence[Any], name: str, problems: list[Problem]) -> tuple[pa.Array, bool]:
    """Return the values as an array of the narrowest type that holds them all, and whether it holds JSON texts."""
    kinds = set(map(type, values))
    kinds.discard(type(None))
    if not kinds <= _OF_JSON:  # fed by hand
        values = [value if type(value) in _OF_JSON else plain(value) for value in values]
        kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pa.nulls(len(values)), False
    if kinds == {bool}:
        return pa.array(values, pa.bool_()), False
    if kinds == {str}:
        return _text_array(values, problems), False
    if kinds <= {int, float}:
        return _numbers(values, name, kinds, problems)
    if kinds == {list}:
        inner = {type(item) for value in values if value is not None for item in value}
        if inner and inner <= {int, float}:
            item_type = pa.int64() if inner == {int} else pa.float64()
            try:
                return pa.array(values, pa.list_(item_type)), False
            except (OverflowError, pa.ArrowInvalid):
                problems.append(_too_large(name, values))
    return _text_array([None if value is None else to_json(value) for value in values], problems), True


def _of_numbers(values: np.ndarray[Any, Any]) -> pa.Array | None:
    """Return an array of numbers, or of rows of them, as a column; None when they are something else."""
    kind, flat = values.dtype.kind, values.reshape(-1)
    if values.ndim == 1 and kind == "b":
        return pa.array(values)
    if kind not in "iuf" or values.itemsize > _WORD or values.ndim > 2 or not len(flat):  # noqa: PLR2004 - a row of rows
        return None
    if kind == "u" and int(flat.max()) > _INT64_MAX:
        return None
    numbers = pa.array(flat.astype(np.float64 if kind == "f" else np.int64))
    if values.ndim == 1:
        return numbers
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), numbers)


def _numbers(values: Sequence[Any], name: str, kinds: set[type], problems: list[Problem]) -> tuple[pa.Array, bool]:
    if kinds == {int}:
        try:
            return pa.array(values, pa.int64()), False
        except OverflowError:
            problems.append(_too_large(name, values))
            return pa.array([None if value is None else to_json(value) for value in values], pa.string()), True
    # A float64 column that would round one of its integers is no home for it.
    if int in kinds and any(type(value) is int and not -(2**53) <= value <= 2**53 for value in values):
        return pa.array([None if value is None else to_json(value) for value in values], pa.string()), True
    return pa.array(values, pa.float64()), False


def _too_large(name: str, values: Sequence[Any]) -> Problem:
    raw = next((v for v in values if isinstance(v, int) and not _INT64_MIN <= v <= _INT64_MAX), values[0])
    return Problem("integer_too_large", f"{name!r} has an integer beyond 64 bits; the column is kept as text", cut(raw))


def _text_array(values: Sequence[str | None], problems: list[Problem]) -> pa.Array:
    """Return a string array; lone surrogates (JSON may say them, UTF-8 may not) are replaced and counted."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        problems.append(Problem("bad_text", "text that is not valid Unicode; what is invalid was replaced"))
        return pa.array([None if v is None else clean(v) for v in values], pa.string())


def clean(text: str) -> str:
    """Return `text` with lone surrogates replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _encoder(field: pa.Field) -> Callable[[Any], str]:
    if field.metadata == JSON_KIND:
        return str
    if field.type == pa.bool_():
        return lambda value: "true" if value else "false"
    if field.type == pa.int64():
        return str
    return to_json


def to_texts(fields: Sequence[pa.Field], arrays: Sequence[pa.Array], taken: Iterable[str], rows: int) -> list[str]:
    """Return each row's further fields as one JSON object; ``""`` where a row has none. Undoes :func:`columns`."""
    core = {*taken, OVERFLOW_COLUMN, *EVENT_NAMES}
    parts: list[list[str]] = [[] for _ in range(rows)]
    for field, array in zip(fields, arrays, strict=True):
        encode = _encoder(field)
        name = field.name
        if name == OVERFLOW_COLUMN:
            for part, value in zip(parts, array.to_pylist(), strict=True):
                if value is not None and value != "{}":
                    part.append(value[1:-1])
            continue
        if name.startswith("extra_") and _is_taken(name.removeprefix("extra_"), core):
            name = name.removeprefix("extra_")
        key = f"{to_json(name)}:"
        for part, value in zip(parts, array.to_pylist(), strict=True):
            if value is not None:
                part.append(key + encode(value))
    return [f"{{{','.join(part)}}}" if part else "" for part in parts]
