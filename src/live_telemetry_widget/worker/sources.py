"""Where a courier gets its rows from, and whom it tells what is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from live_telemetry_widget.worker.portions import Scale, weigh
from live_telemetry_widget.worker.records import WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from live_telemetry_widget.worker.courier import Courier
    from live_telemetry_widget.worker.will import Will


class Done(Protocol):
    """What is told that something is done: an event."""

    def is_set(self) -> bool:
        """Whether it was told."""

    def set(self) -> None:
        """Tell it."""


class Source(Protocol):
    """Where rows come from."""

    @property
    def crowded(self) -> bool:
        """Whether there are so many that no more should come."""

    def portions(self) -> Iterator[tuple[list[Any], bool]]:
        """Yield the rows that are there now, and forget them: a portion at a time, and whether it is the last. There is at least one."""

    def kept(self, make: Callable[[], tuple[Will, bool]]) -> None:
        """Note that what was taken is spooled, and nothing of it was sent yet; `make` makes a will, and says whether it is whole."""

    def report(self, courier: Courier) -> None:
        """Say what is new to whoever is to know; it is called every few milliseconds."""


class RowList:
    """Rows in a list to which a training thread of this process adds meanwhile: whole rows, each in one operation on the list."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows
        self._scale = Scale()

    @property
    def crowded(self) -> bool:
        """Whether there are so many that no more should come."""
        return self._scale.crowded(self._rows)

    def portions(self) -> Iterator[tuple[list[Any], bool]]:
        """Yield the rows that are there now, and take them from the list."""
        rows = self._rows
        left = len(rows)
        while True:
            number = min(left, self._scale.portion(rows))
            taken = rows[:number]
            del rows[:number]
            self._scale.learn(number // WIDTH, weigh(taken))
            left -= number
            yield taken, not left
            if not left:
                return

    def kept(self, make: Callable[[], tuple[Will, bool]]) -> None:
        """Do nothing: who might inherit ends with us."""

    def report(self, courier: Courier) -> None:
        """Do nothing: who wants to know can ask."""
