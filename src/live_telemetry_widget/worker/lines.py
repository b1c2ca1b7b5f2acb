"""Cuts a byte stream into lines, in bounded memory."""

from __future__ import annotations

from typing import Final

#: A longer line is no event: it is handed on in pieces as it comes.
MAX_LINE: Final = 64 * 1024 * 1024


class LineCutter:
    r"""Takes bytes as they come, gives whole lines with their ends.

    Attributes
    ----------
    too_long : int
        How many lines were longer than the limit.

    Examples
    --------
    >>> cutter = LineCutter()
    >>> cutter.feed(b"one\ntw"), cutter.feed(b"o\n\nrest"), cutter.rest()
    ([b'one\n'], [b'two\n', b'\n'], b'rest')
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._within_long = False
        self.too_long = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes; of a line over the limit, the pieces that will not be held."""
        lines = data.split(b"\n")
        out: list[bytes] = []
        for piece in lines[:-1]:
            self._parts.append(piece + b"\n")
            out.append(b"".join(self._parts))
            self._parts, self._size, self._within_long = [], 0, False
        if lines[-1]:
            self._parts.append(lines[-1])
            self._size += len(lines[-1])
        if self._size > self._limit:
            if not self._within_long:
                self.too_long += 1
                self._within_long = True
            out.append(b"".join(self._parts))
            self._parts, self._size = [], 0
        return out

    def rest(self) -> bytes:
        """Return what stands after the last line's end."""
        rest = b"".join(self._parts)
        self._parts, self._size = [], 0
        return rest
