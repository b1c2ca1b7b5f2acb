"""Return and length by episode, kept at every resolution at once, so that a million episodes are drawn from a few hundred numbers.

Of each agent, and of all together, the values stand in a pyramid: above them the lowest, the highest and the sum of each eight, above these
of each eight of those, and so on. An episode that ends changes one entry of each floor; whatever is asked for is then put together from
at most as many entries as there will be points, however many episodes there are.

Examples
--------
>>> from live_telemetry_widget import curves, frames, normalize
>>> run = frames.RunFrames("r")
>>> ends = [{"episode": i, "agent_id": "a", "reward": float(i % 10), "steps": i} for i in range(1000)]
>>> _ = run.append_episodes(normalize.episodes_from_events(ends).batch)
>>> curve = curves.Curves(run).curve("a", "total_reward", points=4)
>>> curve.column("place").to_pylist(), curve.column("min").to_pylist(), curve.column("mean").to_pylist()[0]
([0, 256, 512, 768], [0.0, 0.0, 0.0, 0.0], 4.453125)
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.frames import RunFrames

Measure = Literal["total_reward", "steps"]
MEASURES: Final[tuple[Measure, ...]] = ("total_reward", "steps")
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Wholes = np.ndarray[Any, np.dtype[np.int64]]

_BASE: Final = 8
#: So many episodes are read under the frames' lock at a time.
_AT_ONCE: Final = 20_000
#: Lowest, highest, sum, how many are finite, how many are not.
_EMPTY: Final = np.array([np.inf, -np.inf, 0.0, 0.0, 0.0])[:, None]

#: A curve: for each bucket of episodes where it begins and how many places it has, the first and last episode number, the row of the
#: first in the frames, how many of them ended with a finite value and how many with another, and of the finite ones the rest.
CURVE: Final = pa.schema(
    [
        ("place", pa.int64()),
        ("places", pa.int64()),
        ("from", pa.int64()),
        ("to", pa.int64()),
        ("row", pa.int64()),
        ("count", pa.int64()),
        ("odd", pa.int64()),
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("mean", pa.float64()),
    ]
)


class Ended(NamedTuple):
    """Some episodes, column by column: their ordinals, agents, numbers, totals, lengths, and whether they ended."""

    ordinals: Sequence[int]
    agents: Sequence[str]
    numbers: Sequence[int]
    totals: Sequence[float]
    steps: Sequence[int]
    ended: Sequence[bool]


class _Pyramid:
    """One value of each place, NaN where there is none (yet), and above it the floors."""

    def __init__(self) -> None:
        self._values: _Floats = np.zeros(0)
        self._odd: np.ndarray[Any, np.dtype[np.bool_]] = np.zeros(0, np.bool_)
        self._floors: list[_Floats] = []

    def put(self, places: _Wholes, values: _Floats, ended: np.ndarray[Any, np.dtype[np.bool_]], total: int) -> bool:
        """Set the values of some places, of `total` in all; return whether that changed anything."""
        self._grow(total)
        finite = np.isfinite(values) & ended
        values, odd = np.where(finite, values, np.nan), ended & ~finite
        old = self._values[places]
        new = ((values != old) & (finite | np.isfinite(old))) | (odd != self._odd[places])
        if not new.any():
            return False
        places = places[new]
        self._values[places], self._odd[places] = values[new], odd[new]
        above = np.unique(places // _BASE)
        for level in range(len(self._floors)):
            parts = (above[:, None] * _BASE + np.arange(_BASE)).ravel()
            # Beyond the end of a floor there is nothing.
            held = self._entries(level, parts).reshape(5, len(above), _BASE)
            self._floors[level][:, above] = _merged(held, axis=2)
            above = np.unique(above // _BASE)
        return True

    def _grow(self, total: int) -> None:
        if total > len(self._values):
            room = max(64, 2 * len(self._values), -(-total // _BASE) * _BASE)
            self._values = np.concatenate([self._values, np.full(room - len(self._values), np.nan)])
            self._odd = np.concatenate([self._odd, np.zeros(room - len(self._odd), np.bool_)])
        size, level = -(-len(self._values) // _BASE), 0
        while size > 1 or level == 0:
            if level == len(self._floors):
                self._floors.append(np.repeat(_EMPTY, size, axis=1))
                # A floor that is new is of what was there before it, too.
                if level:
                    parts = np.arange(size * _BASE)
                    self._floors[level][:] = _merged(self._entries(level, parts).reshape(5, size, _BASE), axis=2)
            elif size > self._floors[level].shape[1]:
                more = np.repeat(_EMPTY, size - self._floors[level].shape[1], axis=1)
                self._floors[level] = np.concatenate([self._floors[level], more], axis=1)
            size, level = -(-size // _BASE), level + 1

    def _entries(self, level: int, at: _Wholes) -> _Floats:
        """Return entries of a floor (0: the values themselves) by number; what is beyond its end is empty."""
        size = len(self._values) if level == 0 else self._floors[level - 1].shape[1]
        inside = at < size
        found = np.repeat(_EMPTY, len(at), axis=1)
        known = at[inside]
        if level:
            found[:, inside] = self._floors[level - 1][:, known]
            return found
        values = self._values[known]
        there = np.isfinite(values)
        found[0, inside] = np.where(there, values, np.inf)
        found[1, inside] = np.where(there, values, -np.inf)
        found[2, inside] = np.where(there, values, 0.0)
        found[3, inside] = there
        found[4, inside] = self._odd[known]
        return found

    def buckets(self, first: int, size: int, count: int) -> _Floats:
        """Return `count` buckets of `size` (a power of two) places from `first`, a multiple of it; five rows."""
        level, unit = 0, 1
        while unit * _BASE <= size and level < len(self._floors):
            level, unit = level + 1, unit * _BASE
        together = size // unit
        start = first // unit
        entries = self._entries(level, np.arange(start, start + count * together))
        return _merged(entries.reshape(5, count, together), axis=2)


def _merged(entries: _Floats, axis: int) -> _Floats:
    low, high = entries[0].min(axis=axis - 1), entries[1].max(axis=axis - 1)
    with np.errstate(over="ignore", invalid="ignore"):  # sums of very large values may be infinite
        sums = entries[2:].sum(axis=axis)
    return np.concatenate([low[None], high[None], sums])


class _Series:
    """The episodes of one agent, or of all, by their place in order of first sight."""

    def __init__(self) -> None:
        self.total = 0
        #: Whether the numbers ascend, so that they can be an axis.
        self.numbered = True
        self._numbers: _Wholes = np.zeros(64, np.int64)
        self._ordinals: _Wholes = np.zeros(64, np.int64)
        self._pyramids = {measure: _Pyramid() for measure in MEASURES}

    def extend(self, numbers: _Wholes, ordinals: _Wholes) -> _Wholes:
        """Add episodes; return their places."""
        end = self.total + len(numbers)
        if end > len(self._numbers):
            room = max(end, 2 * len(self._numbers)) - len(self._numbers)
            self._numbers = np.concatenate([self._numbers, np.zeros(room, np.int64)])
            self._ordinals = np.concatenate([self._ordinals, np.zeros(room, np.int64)])
        self._numbers[self.total : end] = numbers
        self._ordinals[self.total : end] = ordinals
        begun = max(0, self.total - 1)
        self.numbered = self.numbered and bool((np.diff(self._numbers[begun:end]) > 0).all())
        places = np.arange(self.total, end)
        self.total = end
        return places

    def places(self, ordinals: _Wholes) -> _Wholes:
        return np.searchsorted(self._ordinals[: self.total], ordinals)

    def put(self, places: _Wholes, columns: dict[Measure, _Floats], ended: np.ndarray[Any, Any]) -> bool:
        """Set the values of some places; return whether that changed anything."""
        changed = [
            self._pyramids[measure].put(places, values, ended, self.total) for measure, values in columns.items()
        ]
        return any(changed)

    def curve(self, measure: Measure, points: int, first: int, end: int | None) -> pa.Table:
        last = self.total if end is None else min(end, self.total)
        first = min(max(0, first), last)
        size = 1
        while -(-last // size) - first // size > points:
            size *= 2
        begin = first - first % size
        count = -(-(last - begin) // size)
        low, high, sums, finite, odd = self._pyramids[measure].buckets(begin, size, count)
        starts = begin + size * np.arange(count)
        ends = np.minimum(starts + size, self.total)
        some = finite > 0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            mean = sums / finite
            # A sum beyond what a number can hold still has its mean somewhere between; and a rounded one is not outside.
            mean = np.clip(np.where(np.isfinite(mean), mean, low / 2 + high / 2), low, high)
        columns = [
            starts,
            ends - starts,
            self._numbers[starts],
            self._numbers[ends - 1],
            self._ordinals[starts],
            finite.astype(np.int64),
            odd.astype(np.int64),
            *(pa.array(np.where(some, values, 0.0), mask=~some) for values in (low, high, mean)),
        ]
        table = pa.table([pa.array(column) for column in columns], schema=CURVE)
        return table.filter(pa.array(some | (odd > 0)))

    def ordinal(self, place: int) -> int | None:
        return int(self._ordinals[place]) if 0 <= place < self.total else None


class Curves:
    """The curves of one run; what changed is taken in when one asks.

    Parameters
    ----------
    frames
        Of the run.
    """

    def __init__(self, frames: RunFrames) -> None:
        self._frames = frames
        self._lock = threading.Lock()
        self._revision = 0
        self._version = 0
        self._known = 0
        self._all = _Series()
        self._agents: dict[str, _Series] = {}

    def curve(
        self, agent: str | None, measure: Measure, *, points: int = 512, first: int = 0, end: int | None = None
    ) -> pa.Table:
        """Return a curve of at most `points` buckets (schema ``CURVE``), those without an ended episode left out.

        Parameters
        ----------
        agent
            Whose; None: of all. Of one who is not known it is empty.
        measure
            ``"total_reward"`` or ``"steps"``.
        points
            At most so many; buckets are powers of two long and begin at multiples of it, so that they stay where they are as more come.
        first, end
            Only of these places (order of first sight), as far as buckets allow; `end` None: to the end.
        """
        with self._lock:
            self._follow()
            return self._series(agent).curve(measure, max(1, points), first, end)

    def numbered(self, agent: str | None) -> bool:
        """Whether the episode numbers ascend from place to place, so that they can be an axis."""
        with self._lock:
            return self._series(agent).numbered

    def row(self, agent: str | None, place: int) -> int | None:
        """Return the row (ordinal) of the episode in a place; None where there is none."""
        with self._lock:
            self._follow()
            return self._series(agent).ordinal(place)

    @property
    def version(self) -> int:
        """Grows with every change of a curve; steps of episodes that have not ended are none."""
        with self._lock:
            self._follow()
            return self._version

    @property
    def agents(self) -> list[str]:
        """Whose episodes there are, in order of first sight."""
        with self._lock:
            self._follow()
            return list(self._agents)

    def _series(self, agent: str | None) -> _Series:
        return self._all if agent is None else self._agents.get(agent) or _Series()

    def _follow(self) -> None:
        frames = self._frames
        revision = frames.revision
        if revision == self._revision:
            return
        # What changes while this is read has a later revision, and is read again.
        # All of them: the newest are those that are new here, and an old one may have ended before they began.
        changed = frames.changed(self._revision, sys.maxsize) if self._known else []
        old = [ordinal for ordinal in changed if ordinal < self._known]
        for at in range(0, len(old), _AT_ONCE):
            self._take(frames.ends(old[at : at + _AT_ONCE]), new=False)
        while self._known < (count := frames.episode_count):
            upto = min(count, self._known + _AT_ONCE)
            self._take(frames.ends(range(self._known, upto)), new=True)
            self._known = upto
        self._revision = revision

    def _take(self, found: Ended, *, new: bool) -> None:
        ordinals = np.array(found.ordinals, np.int64)
        numbers = np.array(found.numbers, np.int64)
        ended = np.array(found.ended, np.bool_)
        columns: dict[Measure, _Floats] = {
            "total_reward": np.array(found.totals, np.float64),
            "steps": np.array(found.steps, np.float64),
        }
        names = np.array(found.agents, object)
        groups: list[tuple[_Series, slice | np.ndarray[Any, Any]]] = [(self._all, slice(None))]
        groups += [(self._agents.setdefault(agent, _Series()), names == agent) for agent in dict.fromkeys(found.agents)]
        for series, mine in groups:
            places = series.extend(numbers[mine], ordinals[mine]) if new else series.places(ordinals[mine])
            if series.put(places, {name: values[mine] for name, values in columns.items()}, ended[mine]):
                self._version += 1
