"""How soon a view may be pushed to again: as fast as its page proves it can take, blindly where it cannot answer.

A page says now and then which push it has shown, and how long one takes it (``seen``). That is credit for some seconds more. When it does
not come, the page sleeps, or its computer does: the view then gets the newest snapshot now and then, and nothing waits for it. After
a while without a word it is as a page that cannot answer.

Examples
--------
>>> pace = Pace()
>>> pace.interval(now=0.0)
0.05
>>> pace.seen("page", cost=0.004, hidden=False, now=0.0)
>>> round(pace.interval(now=0.1), 3)
0.033
>>> pace.seen("page", cost=0.1, hidden=False, now=0.2)
>>> pace.sent(now=0.3)
>>> pace.interval(now=0.5), pace.interval(now=4.0), pace.interval(now=40.0)
(0.2, 0.5, 0.05)
"""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

#: Seconds between pushes to a page that says nothing.
BLIND: Final = 0.05
#: Not faster than that, however quick the page: the kernel has other work.
FASTEST: Final = 1 / 30
SLOWEST: Final = 0.5
#: Nobody looks; what is shown when somebody does is asked for by the page at once.
HIDDEN: Final = 1.0
#: A push that was not seen for so long is late.
_CREDIT: Final = 2.5
_LATE: Final = 0.5
_FORGOTTEN: Final = 10.0


class _Page(NamedTuple):
    at: float
    cost: float
    hidden: bool


class Pace:
    """The pace of one view, which several pages may show. Thread-safe; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._pages: dict[str, _Page] = {}
        self._lock = threading.Lock()
        #: When the first push was made that no page has seen yet; None: all were seen.
        self._waiting: float | None = None

    def sent(self, now: float) -> None:
        """Count a push."""
        with self._lock:
            if self._waiting is None:
                self._waiting = now

    def seen(self, page: str, *, cost: float, hidden: bool, now: float) -> None:
        """Take a page's word that it showed what was pushed, which takes it `cost` seconds a push."""
        with self._lock:
            self._pages[page] = _Page(now, cost, hidden)
            self._waiting = None

    def interval(self, now: float) -> float:
        """Return how many seconds after a push the next may be made."""
        with self._lock:
            late = 0.0 if self._waiting is None else now - self._waiting
            if late > _FORGOTTEN:
                self._pages.clear()
            if not self._pages:
                return BLIND
            if late > _CREDIT:
                return _LATE
            newest = max(page.at for page in self._pages.values())
            self._pages = {name: page for name, page in self._pages.items() if newest - page.at <= _FORGOTTEN}
            costs = [page.cost for page in self._pages.values() if not page.hidden]
            return min(SLOWEST, max(FASTEST, 2 * max(costs))) if costs else HIDDEN
