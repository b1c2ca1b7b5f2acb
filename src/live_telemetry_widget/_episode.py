"""What the frames know of one episode: which rows hold its steps, what is missing, what its record said.

Used by :mod:`~live_telemetry_widget.frames` only.
"""

from __future__ import annotations

import array
import bisect
import dataclasses
import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from live_telemetry_widget._rows import Numbers


class Segment(NamedTuple):
    """Consecutive steps in consecutive rows of the store."""

    first: int  # step_index of the first
    length: int
    row: int  # row of the first


@dataclasses.dataclass(slots=True)
class Record:
    """What an episode's own record said; `row` is where its further columns are."""

    row: int
    steps: int
    total_reward: float
    terminated: bool
    truncated: bool
    timestamp: int | None

    def says_the_same(self, other: Record) -> bool:
        """Whether the other is a copy of it."""
        mine, theirs = (
            (r.steps, r.terminated, r.truncated, None if math.isnan(r.total_reward) else r.total_reward)
            for r in (self, other)
        )
        return mine == theirs


@dataclasses.dataclass(slots=True)
class Episode:
    """One episode of one agent of one worker. A run has many: what most of them lack costs them nothing.

    Attributes
    ----------
    ordinal
        Its place among the run's episodes, in order of first sight.
    revision
        The frames' revision at which it last changed.
    replaced
        Records that said something else than `record`, and were there before it.
    """

    ordinal: int
    worker_id: str
    agent_id: str
    number: int
    revision: int = 0
    count: int = 0
    next_step: int = 0
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    last_time: int | None = None
    seed: int | None = None
    record: Record | None = None
    replaced: tuple[Record, ...] = ()
    # Where its steps are, by step: the first stretch is `count` long unless there are others, all of which are then in `_stretches`,
    # three numbers each as in Segment.
    _first: int = 0
    _row: int = 0
    _stretches: array.array[int] | None = None

    @property
    def segments(self) -> list[Segment]:
        """Where its steps are, by step."""
        held = self._stretches
        if held is None:
            return [Segment(self._first, self.count, self._row)] if self.count else []
        return [Segment(*held[at : at + 3]) for at in range(0, len(held), 3)]

    def put_places(self, into: array.array[int]) -> None:
        """Append :attr:`segments` as plain numbers, three each: of a run's many episodes this makes no objects."""
        if self._stretches is not None:
            into.extend(self._stretches)
        elif self.count:
            into.extend((self._first, self.count, self._row))

    def rows_at(self, first: int, count: int) -> Numbers | None:
        """Return the rows that hold the steps `first` to `first + count`, -1 for those not held; None when none of them is."""
        if first >= self.next_step:
            return None
        end, rows = first + count, None
        held = self._stretches
        if held is None:
            held = array.array("q", (self._first, self.count, self._row))
        at = max(0, _after(held, first) - 1)
        while 3 * at < len(held) and held[3 * at] < end:
            start, length, row = held[3 * at : 3 * at + 3]
            low, high = max(first, start), min(end, start + length)
            if low < high:
                rows = np.full(count, -1, np.int64) if rows is None else rows
                row += low - start
                rows[low - first : high - first] = np.arange(row, row + high - low)
            at += 1
        return rows

    def add(self, first: int, count: int, row: int) -> None:
        """Note that `count` steps from `first`, none of them held so far, are in consecutive rows from `row`."""
        held = self._stretches
        if not self.count:
            self._first, self._row = first, row
        elif held is None:
            # Most often they go on where the others end, and nothing else is to be noted.
            if self._first + self.count != first or self._row + self.count != row:
                held = self._stretches = array.array("q", (self._first, self.count, self._row))
                _insert(held, first, count, row)
        else:
            _insert(held, first, count, row)
        self.count += count
        self.next_step = max(self.next_step, first + count)

    def rows(self) -> Numbers:
        """Return the rows that hold its steps, by step."""
        parts = [np.arange(s.row, s.row + s.length) for s in self.segments]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    @property
    def length(self) -> int:
        """How many steps the episode has, as far as is known."""
        return max(self.next_step, self.record.steps if self.record else 0)

    def gaps(self, end: int, most: int) -> list[tuple[int, int]]:
        """Return what is missing before step `end`: (first step, number of steps), in order; the `most` first of it."""
        missing: list[tuple[int, int]] = []
        at = 0
        for segment in self.segments:
            if segment.first > at:
                missing.append((at, segment.first - at))
                if len(missing) >= most:
                    return missing
            at = segment.first + segment.length
        if end > at:
            missing.append((at, end - at))
        return missing

    def last_gap(self, end: int) -> tuple[int, int]:
        """Return the last of what is missing before step `end`; there must be some."""
        for segment in reversed(self.segments):
            after = segment.first + segment.length
            if after < end:
                return after, end - after
            end = segment.first
        return 0, end

    @property
    def complete(self) -> bool:
        """Whether every step up to its length is here."""
        return self.count == self.length

    @property
    def sound(self) -> bool:
        """Whether its record and its steps, if both are here and whole, say the same: as many steps, adding up to the same total."""
        record = self.record
        if record is None or not self.count:
            return True
        if self.count != record.steps:
            return self.count < record.steps  # fewer: incomplete, which is another matter
        if math.isnan(record.total_reward) or math.isnan(self.reward):
            return math.isnan(record.total_reward) == math.isnan(self.reward)
        return math.isclose(record.total_reward, self.reward, rel_tol=1e-6, abs_tol=1e-6)


def _after(held: array.array[int], first: int) -> int:
    """Return the place behind the last stretch that begins at `first` or before."""
    return bisect.bisect_right(range(len(held) // 3), first, key=lambda at: held[3 * at])


def _insert(held: array.array[int], first: int, count: int, row: int) -> None:
    at = len(held)
    if held[at - 3] > first:  # late
        at = 3 * _after(held, first)
    if at and held[at - 3] + held[at - 2] == first and held[at - 1] + held[at - 2] == row:
        held[at - 2] += count
    else:
        held[at:at] = array.array("q", (first, count, row))


class EpisodeNumbers:
    """Which episode numbers one agent has shown, and which were jumped over.

    >>> numbers = EpisodeNumbers()
    >>> for number in (3, 4, 5, 9, 7):
    ...     numbers.add(number)
    >>> numbers.holes
    [(6, 6), (8, 8)]
    """

    def __init__(self) -> None:
        self._low = self._high = -1
        self._ones = self._jumps = self._missing = 0
        self._holes: list[tuple[int, int]] = []

    def add(self, number: int) -> None:
        """Note a number that was not seen before."""
        if self._high < 0:
            self._low = self._high = number
        elif number > self._high:
            self._skip(self._high + 1, number - 1, len(self._holes))
            self._high = number
        elif number < self._low:
            self._skip(number + 1, self._low - 1, 0)
            self._low = number
        else:
            self._close(number)

    def _skip(self, first: int, last: int, at: int) -> None:
        if first > last:
            self._ones += 1
            return
        self._jumps += 1
        if self._counts_by_one or self._jumps <= _JUMPS_UNTIL_SURE:
            self._holes.insert(at, (first, last))
            self._missing += last - first + 1

    def _close(self, number: int) -> None:
        at = bisect.bisect_right(self._holes, (number, _NO_END)) - 1
        if at < 0 or self._holes[at][1] < number:
            return
        first, last = self._holes[at]
        self._holes[at : at + 1] = [h for h in ((first, number - 1), (number + 1, last)) if h[0] <= h[1]]
        self._missing -= 1

    @property
    def _counts_by_one(self) -> bool:
        return self._ones >= self._jumps

    @property
    def holes(self) -> list[tuple[int, int]]:
        """The stretches of numbers (first, last) that are missing, if the agent counts by one; many share numbers out among workers."""
        return self._holes if self._counts_by_one else []

    @property
    def missing(self) -> int:
        """How many numbers are in :attr:`holes`."""
        return self._missing if self._counts_by_one else 0


#: A numbering by strides is not remembered hole by hole.
_JUMPS_UNTIL_SURE: Final = 64
_NO_END: Final = 2**63
