"""Cuts a byte stream into lines, in bounded memory."""

from __future__ import annotations

from typing import Final, NamedTuple

#: A longer line is no event: it is handed on in pieces as it comes.
MAX_LINE: Final = 64 * 1024 * 1024


class Line(NamedTuple):
    """Bytes as they came, the line's end included.

    Attributes
    ----------
    data : bytes
    whole : bool
        False for a piece of a line over the limit, which must not be taken for an event whatever it looks like.
    """

    data: bytes
    whole: bool = True


class LineCutter:
    r"""Takes bytes as they come, gives lines with their ends; joined again they are the bytes that were taken.

    Parameters
    ----------
    limit
        So many bytes of a line that has no end yet are held; the pieces of a longer one are given as they come.

    Attributes
    ----------
    too_long : int
        How many lines were longer than the limit.

    Examples
    --------
    >>> cutter = LineCutter()
    >>> [line.data for line in cutter.feed(b"one\ntw") + cutter.feed(b"o\n\nrest")], cutter.rest().data
    ([b'one\n', b'two\n', b'\n'], b'rest')
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._within_long = False
        self.too_long = 0

    def feed(self, data: bytes) -> list[Line]:
        """Return the lines that `data` completes, and the pieces of a line that is too long to be held."""
        *ended, open_end = data.split(b"\n")
        lines: list[Line] = []
        for piece in ended:
            self._add(piece + b"\n")
            lines.append(self._take())
            self._within_long = False
        self._add(open_end)
        if self._size > self._limit:
            lines.append(self._take())
        return lines

    def rest(self) -> Line:
        """Return what stands after the last line's end."""
        return self._take()

    def _add(self, piece: bytes) -> None:
        if piece:
            self._parts.append(piece)
            self._size += len(piece)

    def _take(self) -> Line:
        if self._size > self._limit and not self._within_long:
            self._within_long = True
            self.too_long += 1
        line = Line(b"".join(self._parts), whole=not self._within_long)
        self._parts, self._size = [], 0
        return line
