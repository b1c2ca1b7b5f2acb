"""How much is taken, handed over and encoded at a time: bounded in rows and in bytes, which are guessed from some of the rows.

Standard library only: a training process uses it, on the thread that hands rows over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget.worker.records import PLAIN, WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A portion has at most so many rows: those of one batch, so that reading one of many is cheap.
MAX_ROWS: Final = 32_768
#: And so many bytes, or one row: what encodes them does nothing else meanwhile.
PORTION: Final = 4 * 1024 * 1024
#: With more rows or bytes in the list the training thread waits.
MOST_ROWS: Final = 65_536
MOST_BYTES: Final = 64 * 1024 * 1024
#: So many rows are looked at, and so many values of a list or a mapping, that deep.
_LOOKS: Final = 16
_DEPTH: Final = 4
_SMALL: Final = 8


def size_of(value: Any, depth: int = _DEPTH) -> int:  # noqa: ANN401 - whatever a step is told with
    """Return about how many bytes a value has.

    >>> size_of(b"0" * 1000), size_of(1.5), size_of({"pixels": [b"0" * 1000] * 200})
    (1000, 8, 200000)
    """
    kind = value.__class__
    if kind is str or kind is bytes:
        return len(value)
    if kind in PLAIN or not depth:
        return _SMALL
    try:
        return _of_parts(value, depth - 1)
    except Exception:  # noqa: BLE001 - an object of anybody's making; what is wrong with it is counted where it is encoded
        return _SMALL


def _of_parts(value: Any, depth: int) -> int:  # noqa: ANN401 - as above
    size = getattr(value, "nbytes", None)
    if size.__class__ is int:
        return int(size)
    if isinstance(value, dict):
        return _of_all(list(value.values()), depth)
    if isinstance(value, list | tuple):
        return _of_all(value, depth)
    parts = (getattr(value, name, None) for name in ("columns", "further"))  # of a Block, a Bulk, an Episode
    return sum(size_of(part, depth) for part in parts if part is not None) or _SMALL


def _of_all(values: Sequence[Any], depth: int) -> int:
    number = len(values)
    some = values if number <= _LOOKS else values[:: number // _LOOKS]
    return sum(size_of(value, depth) for value in some) * number // len(some) if number else _SMALL


def weigh(rows: list[Any]) -> int:
    """Return about how many bytes rows have; all of their records and observations are looked at."""
    size = len(rows) * _SMALL
    for column in (rows[::WIDTH], rows[3::WIDTH]):  # records and observations: all that is large
        if not set(map(type, column)) <= _FLAT:
            size += sum([size_of(value) for value in column if value.__class__ not in _FLAT])
    return size


_FLAT: Final = PLAIN - {str}


class Scale:
    """Guesses what the rows of a list weigh: from some of them, and from those before them.

    >>> scale = Scale()
    >>> scale.portion([0] * WIDTH * 100) // WIDTH, scale.portion([b"0" * PORTION, *[0] * (WIDTH - 1)] * 100) // WIDTH
    (100, 1)
    >>> scale.learn(100, 10 * PORTION)
    >>> scale.portion([0] * WIDTH * 100) // WIDTH
    10
    """

    def __init__(self) -> None:
        self._learnt = 0.0

    def learn(self, rows: int, size: int) -> None:
        """Note what some rows have weighed. Large ones among many small ones are remembered for a while."""
        if rows:
            each = size / rows
            self._learnt = max(each, (self._learnt + each) / 2)

    def portion(self, rows: list[Any]) -> int:
        """Return how many values from the start of a list are a portion."""
        number = len(rows) // WIDTH
        return WIDTH * min(number, MAX_ROWS, max(1, int(PORTION / self._each(rows, number)))) if number else 0

    def crowded(self, rows: list[Any]) -> bool:
        """Whether so many rows, or bytes, are in a list that no more should come."""
        number = len(rows) // WIDTH
        return number > MOST_ROWS or (number > 1 and number * self._each(rows, number) > MOST_BYTES)

    def _each(self, rows: list[Any], number: int) -> float:
        some = range(0, number, number // _LOOKS or 1)
        values = (value for at in some for value in rows[at * WIDTH : (at + 1) * WIDTH])
        size = sum([size_of(value) for value in values if value.__class__ not in _FLAT])
        return max(self._learnt, size / len(some) + _SMALL * WIDTH)
