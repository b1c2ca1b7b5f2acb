"""Columns of packed chunks put straight into NumPy's memory, as pandas holds them: nothing is touched twice.

Used by :mod:`~live_telemetry_widget._rows` and :mod:`~live_telemetry_widget._columns` only. A process that touches memory for the first time waits
for the kernel to find it, which can take longer than everything else that is done with a column: what need not be touched is not.

Examples
--------
>>> import pyarrow as pa
>>> from live_telemetry_widget import _straight
>>> labels = [pa.array(["left", None]).dictionary_encode(), pa.array(["right"]).dictionary_encode()]
>>> found = _straight.labels(labels, 3)
>>> found.codes.tolist(), found.words.to_pylist()
([0, -1, 1], ['left', 'right'])
"""

from __future__ import annotations

import mmap
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget.schema import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

_Array: TypeAlias = "np.ndarray[Any, Any]"
Places: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"

#: So many bytes are asked of the kernel, by us; NumPy would ask for large pages from here on.
_MUCH: Final = 4 * 1024 * 1024


class Plain(NamedTuple):
    """Numbers (of times, nanoseconds), and which of them are missing, if any is."""

    numbers: _Array
    missing: _Array | None


class Labels(NamedTuple):
    """Texts that repeat: which of the words each is (-1: none), as narrow as pandas has it, and the words, each once."""

    codes: _Array
    words: pa.Array


def is_plain(kind: pa.DataType) -> bool:
    """Whether :func:`plain` takes such columns."""
    return bool(pa.types.is_primitive(kind)) and kind.bit_width != 16  # noqa: PLR2004 - NumPy's half floats are not Arrow's


def plain(parts: Iterable[pa.Array], kind: pa.DataType, total: int, places: Places | None = None) -> Plain:
    """Return numbers put where they belong, piece by piece.

    Parameters
    ----------
    parts
        The column, in order.
    kind
        Its type.
    total
        How many rows there are.
    places
        Where each row goes; None: where it is.
    """
    timed = pa.types.is_timestamp(kind)
    # What is missing is zero, and a column that is missing altogether is never touched.
    values = room(total, np.int64 if timed else kind.to_pandas_dtype())
    masks: list[tuple[slice | Places, _Array | bool]] = []
    end = unknown = 0
    for part in parts:
        start, end = end, end + len(part)
        at = slice(start, end) if places is None else places[start:end]
        unknown += part.null_count
        if part.null_count:
            masks.append((at, part.null_count == len(part) or part.is_null().to_numpy(zero_copy_only=False)))
        if part.null_count < len(part):
            known = part.view(pa.int64()) if timed else part
            known = pc.fill_null(known, 0 if kind != pa.bool_() else False) if part.null_count else known
            values[at] = known.to_numpy(zero_copy_only=False)
    if not unknown:
        return Plain(values, None)
    missing = np.full(total, unknown == total)
    for at, mask in masks if unknown < total else ():
        missing[at] = mask
    return Plain(values, missing)


def labels(parts: Iterable[pa.DictionaryArray], total: int, places: Places | None = None) -> Labels:
    """Return labels put where they belong; parameters as of :func:`plain`."""
    held = list(parts)
    words = pa.chunked_array([part.dictionary for part in held], TEXT).unique().drop_null()
    codes = room(total, _narrow(len(words)))
    if not len(words):
        codes.fill(-1)
        return Labels(codes, words)
    end = 0
    for part in held:
        start, end = end, end + len(part)
        at = slice(start, end) if places is None else places[start:end]
        numbers = pc.index_in(part.dictionary, value_set=words)
        code = pc.fill_null(numbers, -1).to_numpy().astype(codes.dtype)
        if part.null_count:
            # The last is what nulls point to.
            found = pc.fill_null(part.indices, len(code)).to_numpy()
            codes[at] = np.append(code, codes.dtype.type(-1))[found]
        elif len(code) != 1:
            codes[at] = code[part.indices.to_numpy()]
        elif code[0]:
            codes[at] = code[0]
    return Labels(codes, words)


def no_texts(total: int) -> pa.Array:
    """Return a column of texts all of which are missing: of zeros that nobody touches.

    >>> no_texts(2).to_pylist()
    [None, None]
    """
    nulls, ends = (pa.py_buffer(zeros) for zeros in (np.zeros(total // 8 + 1, np.uint8), np.zeros(total + 1, np.int64)))
    return pa.Array.from_buffers(pa.large_string(), total, [nulls, ends, pa.py_buffer(b"")], null_count=total)


def _narrow(count: int) -> npt.DTypeLike:
    """Return in what pandas holds the codes of so many words."""
    return next(kind for kind in (np.int8, np.int16, np.int32) if count < np.iinfo(kind).max)


def room(count: int, dtype: npt.DTypeLike) -> _Array:
    """Return zeros; memory for many is new, and in small pages.

    NumPy asks for large ones. Those are found sooner where a machine has its memory for itself; a virtual one gives large free blocks back to its host
    and waits for each of them.

    >>> room(1_000_000, "f8").sum()
    np.float64(0.0)
    """
    size = count * np.dtype(dtype).itemsize
    if size < _MUCH or sys.platform == "win32":
        return np.zeros(count, dtype)
    # Private: what a forked child writes is its own.
    return np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype)
