"""What the frames know of one episode: which rows hold its steps, what is missing, what its record said.

Used by :mod:`~live_telemetry_widget.frames` only.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np


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


@dataclasses.dataclass(slots=True)
class Episode:
    """One episode of one agent of one worker.

    Attributes
    ----------
    ordinal
        Its place among the run's episodes, in order of first sight.
    revision
        The frames' revision at which it last changed.
    segments
        Where its steps are, in order of arrival.
    """

    ordinal: int
    worker_id: str
    agent_id: str
    number: int
    revision: int = 0
    segments: list[Segment] = dataclasses.field(default_factory=list)
    count: int = 0
    next_step: int = 0
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    last_time: int | None = None
    seed: int | None = None
    record: Record | None = None

    def unseen(self, first: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
        """Return which of the steps `first` to `first + count` are not held yet; None when none of them is held."""
        if first >= self.next_step:
            return None
        mask = np.ones(count, bool)
        for segment in self.segments:
            low, high = max(first, segment.first), min(first + count, segment.first + segment.length)
            if low < high:
                mask[low - first : high - first] = False
        return None if mask.all() else mask

    def add(self, first: int, count: int, row: int) -> None:
        """Note that `count` steps from `first` are in consecutive rows from `row`."""
        last = self.segments[-1] if self.segments else None
        if last and last.first + last.length == first and last.row + last.length == row:
            self.segments[-1] = Segment(last.first, last.length + count, last.row)
        else:
            self.segments.append(Segment(first, count, row))
        self.count += count
        self.next_step = max(self.next_step, first + count)

    def row_of(self, step: int) -> int:
        """Return the row that holds a step that is held."""
        for segment in self.segments:
            if segment.first <= step < segment.first + segment.length:
                return segment.row + step - segment.first
        msg = f"step {step} of episode {self.number} is not held"
        raise LookupError(msg)

    def sorted_segments(self) -> list[Segment]:
        """Return the segments by step."""
        return self.segments if len(self.segments) == 1 else sorted(self.segments)

    @property
    def length(self) -> int:
        """How many steps the episode has, as far as is known."""
        return max(self.next_step, self.record.steps if self.record else 0)

    def gaps(self) -> list[tuple[int, int]]:
        """Return what is missing: (first step, number of steps), in order."""
        missing: list[tuple[int, int]] = []
        at = 0
        for segment in self.sorted_segments():
            if segment.first > at:
                missing.append((at, segment.first - at))
            at = segment.first + segment.length
        if self.length > at:
            missing.append((at, self.length - at))
        return missing

    @property
    def complete(self) -> bool:
        """Whether every step up to its length is here."""
        return self.count == self.length
