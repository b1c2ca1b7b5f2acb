"""How many rows a reader grants a daemon: enough that neither waits for the other, no more than the reader can hold.

>>> credit = Credit()
>>> credit.first(), credit.arrived(16_384, 1_600_000), credit.arrived(16_384, 1_600_000)
(32768, 49152, 0)
"""

from __future__ import annotations

from typing import Final

#: A chunk of the daemon's; twice as many soon, so that more is granted as soon as less than one is left, and none need be cut.
_FIRST: Final = 32_768
_MOST: Final = 1_048_576
#: What is under way weighs no more than this, as far as the rows so far tell (bytes).
_MOST_BYTES: Final = 32 * 1024 * 1024


class Credit:
    """The credit of one stream.

    More is granted when half of what may be under way has come (as desktop clients do), and each time that may be twice as much, as long as its bytes allow.

    Attributes
    ----------
    window : int
        How many rows may be under way.
    left : int
        How many of them have not come.
    """

    def __init__(self) -> None:
        self.window = _FIRST
        self.left = 0
        self._rows = 0
        self._bytes = 0

    def first(self) -> int:
        """Return what is granted at the start."""
        self.left = self.window
        return self.window

    def arrived(self, rows: int, nbytes: int) -> int:
        """Note what came; return how many more rows are granted, 0 when it is too early."""
        self.left -= rows
        self._rows += rows
        self._bytes += nbytes
        if self.left > self.window // 2:
            return 0
        weight = max(1, self._bytes // max(1, self._rows))
        self.window = max(1, min(2 * self.window, _MOST, _MOST_BYTES // weight))
        more = max(0, self.window - self.left)
        self.left += more
        return more
