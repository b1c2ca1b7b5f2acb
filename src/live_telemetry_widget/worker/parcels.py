"""What a training process and its emitter's helper hand one another: pickles, each with its length before it.

Rows are a flat list of plain values almost always, which ``pickle`` writes faster than anything else in the standard library
(0.05 us a row; ``marshal`` 0.15). What another process may not know (objects of the program's own classes) goes as the text or list that it
would be told as in the end.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import types
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget.worker.records import PLAIN, WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = struct.Struct("<Q")
_PROTOCOL: Final = 5
_OURS: Final = __name__.partition(".")[0]
_KNOWN: Final = frozenset({_OURS, "numpy", "builtins", "collections", "copyreg", "_codecs"})
_CODE: Final = (type, types.FunctionType, types.BuiltinFunctionType)
_READ: Final = 1 << 20


def same(value: Any) -> Any:  # noqa: ANN401 - whatever
    """Return `value`: what stands for an object in a pickle."""
    return value


class _Pickler(pickle.Pickler):
    """Writes what the helper can read. Only objects that are none of Python's plain ones cost a call."""

    def reducer_override(self, obj: Any) -> Any:  # noqa: ANN401, PLR0911 - whatever a step is told with, case by case
        """Return how an object is made again."""
        kind = type(obj)
        root = kind.__module__.partition(".")[0]
        if issubclass(kind, _CODE):
            known = str(getattr(obj, "__module__", "")).partition(".")[0] in _KNOWN
            return NotImplemented if known else (same, (str(obj),))
        if root == "numpy":
            name = kind.__name__
            if name.startswith("bool"):
                return bool, (bool(obj),)
            if name.startswith(("int", "uint")):
                return int, (int(obj),)
            return (float, (float(obj),)) if name == "float64" else NotImplemented
        if root in _KNOWN:
            return NotImplemented
        for plain, make in ((str, str.__str__), (int, int), (float, float), (dict, dict), (list, list), (tuple, tuple)):
            if issubclass(kind, plain):
                return same, (make(obj),)
        tolist = getattr(obj, "tolist", None)
        return same, (tolist() if callable(tolist) else str(obj),)


def dumps(value: object) -> bytes:
    """Return a value as bytes for :func:`loads` in another process.

    >>> import pathlib
    >>> loads(dumps([1, 0.5, pathlib.PurePosixPath("a/b")]))
    [1, 0.5, 'a/b']
    """
    sink = io.BytesIO()
    _Pickler(sink, _PROTOCOL).dump(value)
    return sink.getvalue()


def loads(data: bytes | memoryview) -> Any:  # noqa: ANN401 - whatever it was
    """Undo :func:`dumps`."""
    return pickle.loads(data)  # noqa: S301 - of our own other half


def dump_rows(rows: list[Any]) -> tuple[bytes, int]:
    """Return rows as bytes, and of how many values only the type's name can be told, because nothing else could be."""
    try:
        return dumps(rows), 0
    except Exception:  # noqa: BLE001 - an object of anybody's making may raise anything
        spoilt = 0
        for at, value in enumerate(rows):
            if value.__class__ not in PLAIN:
                rows[at], count = _safe(value, at % WIDTH == 0)
                spoilt += count
        return dumps(rows), spoilt


def _safe(value: Any, record: bool) -> tuple[Any, int]:  # noqa: ANN401, FBT001 - as above
    """Return a value that can be handed over, and how many parts of it had to be replaced."""
    try:
        dumps(value)
    except Exception:  # noqa: BLE001 - as above
        if record and isinstance(value, tuple):
            parts = [_safe(part, record=False) for part in value]
            return tuple(part for part, _ in parts), sum(count for _, count in parts)
        if isinstance(value, dict):
            fields = {str(name): _safe(part, record=False) for name, part in value.items()}
            return {name: part for name, (part, _) in fields.items()}, sum(count for _, count in fields.values())
        return f"<{type(value).__name__}>", 1
    return value, 0


def frame(data: bytes) -> bytes:
    """Return bytes with their length before them."""
    return _HEAD.pack(len(data)) + data


class Unframed:
    """Cuts what comes through a pipe into what was put in.

    >>> cutter = Unframed()
    >>> sent = frame(b"one") + frame(b"two")
    >>> [list(cutter.feed(part)) for part in (sent[:9], sent[9:])]
    [[], [b'one', b'two']]
    """

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; yield what is whole."""
        held = self._held
        held += data
        at = 0
        while len(held) - at >= _HEAD.size:
            (length,) = _HEAD.unpack_from(held, at)
            if len(held) - at - _HEAD.size < length:
                break
            yield bytes(held[at + _HEAD.size : at + _HEAD.size + length])
            at += _HEAD.size + length
        del held[:at]


def read_some(descriptor: int) -> bytes | None:
    """Return what is in a pipe that does not block: ``b""`` at its end, None when there is nothing now."""
    try:
        return os.read(descriptor, _READ)
    except BlockingIOError:
        return None


def write_all(descriptor: int, data: bytes) -> None:
    """Write into a pipe that blocks."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
