"""How long a busy thread of this process may keep the others waiting, while somebody looks at a view.

Python lets a thread that computes go on for 5 ms before another gets its turn, and a push to a page needs some fifty turns: each call into
Arrow gives the interpreter away and has to wait to get it back. Beside a cell that is busy in a Python loop a push of 3 ms so took 600 to 800 ms
(docs/decisions/0016). With turns of 0.2 ms the loop loses what the pushes cost, and no more.

The setting is the whole process's, so it is touched as little as possible: while there is a view, only if nobody chose another one
(``sys.setswitchinterval``), and it is put back after the last view unless somebody has set it meanwhile.

Examples
--------
>>> import sys
>>> turns = Turns()
>>> before = sys.getswitchinterval()
>>> turns.shorten()
>>> round(sys.getswitchinterval(), 6)
0.0002
>>> turns.restore()
>>> sys.getswitchinterval() == before
True
"""

from __future__ import annotations

import os
import sys
from typing import Final

#: Seconds; CPython's own (``sys.getswitchinterval``), which means that nobody chose one.
DEFAULT: Final = 0.005
SHORT: Final = 0.0002
#: CPython keeps whole microseconds.
_SAME: Final = 1e-6


class Turns:
    """Shortens the turns of this process's threads, and puts them back. Not thread-safe."""

    def __init__(self) -> None:
        self._short = False
        if hasattr(os, "register_at_fork"):
            # A child has no views: they are threads, which do not survive a fork.
            os.register_at_fork(after_in_child=self.restore)

    def shorten(self) -> None:
        """Have threads take short turns, unless somebody chose how long they are."""
        if abs(sys.getswitchinterval() - DEFAULT) <= _SAME:
            sys.setswitchinterval(SHORT)
            self._short = True

    def restore(self) -> None:
        """Have turns as they were, unless somebody else has set them meanwhile."""
        if self._short and abs(sys.getswitchinterval() - SHORT) <= _SAME:
            sys.setswitchinterval(DEFAULT)
        self._short = False
