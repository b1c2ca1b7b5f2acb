"""A table as somebody wants to see it: only the rows for which an expression holds, in the order of a column.

What is kept is row numbers, not rows. New rows are looked at when somebody asks again, and only they are; a long table is looked through
in slices, so that no question takes long, and the answer says how far it got.

Examples
--------
>>> from live_telemetry_widget import frames, normalize
>>> from live_telemetry_widget.view.arranged import Arranged, Wish
>>> run = frames.RunFrames("r")
>>> events = [{"episode": 0, "step_index": i, "reward": i % 3} for i in range(6)]
>>> _ = run.append_steps(normalize.steps_from_events(events).batch)
>>> best = Arranged(run, Wish("steps", "reward > 0", "reward", descending=True))
>>> best.follow()
>>> best.numbers(0, 10).tolist()
[2, 5, 1, 4]
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import query
from live_telemetry_widget.errors import QueryError
from live_telemetry_widget.frames import Cursor
from live_telemetry_widget.schema import TEXT

if TYPE_CHECKING:
    from live_telemetry_widget.lens import Frames
    from live_telemetry_widget.view import messages

    Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
    Keys: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]

#: A question looks at rows for so many seconds, then answers with what it has.
BUDGET: Final = 0.15
_STEPS_AT_ONCE: Final = 32_768
_EPISODES_AT_ONCE: Final = 1_000
#: So many changed episodes are looked at anew; when more changed, all are.
_MOST_CHANGED: Final = 10_000
#: Texts to sort by are kept, each once; a column with more of them is no order anybody reads.
_MOST_TEXTS: Final = 500_000


class Wish(NamedTuple):
    """Which rows of which table, in which order; what is "" is not wished for."""

    table: messages.Table
    where: str = ""
    sort: str = ""
    descending: bool = False


class _Texts:
    """Sort keys of texts: each text's number, and where it stands among all."""

    def __init__(self) -> None:
        self._codes: dict[str | None, int] = {}

    def codes(self, column: pa.ChunkedArray, name: str) -> Keys:
        coded = column.cast(TEXT).combine_chunks().dictionary_encode()
        known = self._codes
        of = np.array([known.setdefault(text, len(known)) for text in coded.dictionary.to_pylist()], np.float64)
        if len(known) > _MOST_TEXTS:
            message = f"{name} has more than {_MOST_TEXTS:,} different texts: too many to sort by"
            raise QueryError(message, "", 0)
        index = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return np.where(index < 0, np.nan, of[index]) if len(of) else np.full(len(index), np.nan)

    def __len__(self) -> int:
        return len(self._codes)

    def ranked(self, codes: Keys) -> Keys:
        """Return codes as places in alphabetical order."""
        rank = np.empty(len(self._codes) + 1)
        rank[np.argsort(np.array([*self._codes], object), kind="stable")] = np.arange(len(self._codes))
        rank[-1] = np.nan
        return rank[np.where(np.isnan(codes), -1, codes).astype(np.int64)]


class Arranged:
    """The rows of a table that are wished for, followed as they come.

    Parameters
    ----------
    frames
        Where they are.
    wish
        Which ones.

    Raises
    ------
    QueryError
        The expression is none, or names a column that is not there.
    """

    def __init__(self, frames: Frames, wish: Wish) -> None:
        self.wish = wish
        #: How many rows were looked at, and how many there are.
        self.scanned = 0
        self.of = 0
        self._frames = frames
        self._lock = threading.Lock()
        schema = frames.columns(wish.table)
        self._query = query.compile(wish.where, schema) if wish.where.strip() else None
        if wish.sort and wish.sort not in schema.names:
            message = f"there is no column {wish.sort!r} to sort by"
            raise QueryError(message, "", 0)
        wanted = [*(self._query.columns if self._query else ()), *([wish.sort] if wish.sort else [])]
        self._fields = [schema.field(name) for name in dict.fromkeys(wanted)]
        kind = schema.field(wish.sort).type if wish.sort else None
        self._texts = _Texts() if kind is not None and not _is_number(kind) else None
        self._ranked = 0
        # Of the rows that match, in order of arrival; then in the order wished for.
        self._rows: Numbers = np.zeros(0, np.int64)
        self._keys: Keys = np.zeros(0)
        self._order: Numbers = np.zeros(0, np.int64)
        self._parts: list[tuple[Numbers, Keys]] = []
        # Episodes change after they came.
        self._revision = 0

    @property
    def total(self) -> int:
        """How many rows match, of those that were looked at."""
        return len(self._rows)

    def follow(self, budget: float = BUDGET) -> None:
        """Look at what came since the last time, for about so many seconds."""
        end = time.monotonic() + budget
        with self._lock:
            if self.wish.table == "steps":
                self._follow_steps(end)
            else:
                self._follow_episodes(end)
            self._settle()

    def numbers(self, first: int, count: int) -> Numbers:
        """Return the row numbers at some places of the arrangement."""
        with self._lock:
            first = max(first, 0)
            found = self._order[first : first + count] if self.wish.sort else slice(first, first + count)
            rows: Numbers = self._rows[found]
            return rows

    def place(self, rows: Numbers) -> int | None:
        """Return where the first of some rows that is in the arrangement stands in it; None when none of them is.

        Parameters
        ----------
        rows
            Row numbers (int64), the one that is wanted most first.
        """
        with self._lock:
            found = np.searchsorted(self._rows, rows)
            inside = found < len(self._rows)
            found, rows = found[inside], rows[inside]
            found = found[self._rows[found] == rows]
            if not len(found):
                return None
            return int(np.flatnonzero(self._order == found[0])[0]) if self.wish.sort else int(found[0])

    def _follow_steps(self, end: float) -> None:
        names = [field.name for field in self._fields]
        self.of = self._frames.step_count
        while self.scanned < self.of:
            table = self._frames.scan(self.scanned, _STEPS_AT_ONCE, names)
            self._take(table, np.arange(self.scanned, self.scanned + table.num_rows))
            self.scanned += table.num_rows
            if time.monotonic() > end or not table.num_rows:
                return

    def _follow_episodes(self, end: float) -> None:
        frames = self._frames
        if self.scanned == 0:
            self._revision = frames.revision
        elif self.scanned >= self.of:
            self._follow_changes()
        self.of = frames.episode_count
        while self.scanned < self.of:
            table = frames.episode_rows(self.scanned, _EPISODES_AT_ONCE)
            self._take(table, table.column("row").to_numpy())
            self.scanned += table.num_rows
            if time.monotonic() > end or not table.num_rows:
                return

    def _follow_changes(self) -> None:
        if self._frames.revision == self._revision:
            return
        delta = self._frames.since(Cursor(self._frames.step_count, self._revision), 0, _MOST_CHANGED)
        changed = delta.episodes
        self._revision = delta.cursor.revision
        if changed.num_rows >= _MOST_CHANGED:
            self._rows, self._keys, self._order = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64)
            self.scanned = 0
            return
        numbers = changed.column("row").to_numpy()
        kept = ~np.isin(self._rows, numbers)
        if not kept.all():
            self._rows = self._rows[kept]
            self._keys = self._keys[kept] if self.wish.sort else self._keys
            self._order = np.zeros(0, np.int64)
        # Those that were not looked at yet are looked at in their turn.
        old = numbers < self.scanned
        self._take(changed.filter(pa.array(old)), numbers[old])

    def _take(self, table: pa.Table, numbers: Numbers) -> None:
        """Keep those rows of a table that match."""
        for field in self._fields:
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        if self._query is not None and table.num_rows:
            mask = self._query.mask(table)
            table, numbers = table.filter(mask), numbers[np.asarray(mask)]
        keys = np.zeros(0)
        if self.wish.sort:
            column = table.column(self.wish.sort)
            keys = self._texts.codes(column, self.wish.sort) if self._texts is not None else _numbers(column)
        if len(numbers):
            self._parts.append((np.asarray(numbers, np.int64), keys))

    def _settle(self) -> None:
        """Put what was found in its place."""
        if not self._parts and (not self.wish.sort or len(self._order) == len(self._rows)):
            return
        rows = np.concatenate([self._rows, *(part[0] for part in self._parts)])
        keys = np.concatenate([self._keys, *(part[1] for part in self._parts)])
        before = len(self._rows)
        self._parts = []
        if self.wish.table == "episodes" and before and before < len(rows) and (np.diff(rows[before - 1 :]) <= 0).any():
            by_number = np.argsort(rows, kind="stable")
            rows, keys = rows[by_number], keys[by_number] if self.wish.sort else keys
            before = 0
        self._rows, self._keys = rows, keys
        if not self.wish.sort:
            return
        if self._texts is not None:
            if len(self._texts) != self._ranked:
                before, self._ranked = 0, len(self._texts)
            keys = self._texts.ranked(keys)
        if self.wish.descending:
            keys = -keys
        if before == 0 or len(self._order) != before:
            self._order = np.argsort(keys, kind="stable")
            return
        new = np.argsort(keys[before:], kind="stable") + before
        places = np.searchsorted(keys[self._order], keys[new], side="right")
        self._order = np.insert(self._order, places, new)


def _is_number(kind: pa.DataType) -> bool:
    return any(
        test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_timestamp)
    )


def _numbers(column: pa.ChunkedArray) -> Keys:
    """Return a column as numbers to sort by; what is missing comes last, in either direction."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    keys: Any = pc.cast(column, pa.float64(), safe=False).to_numpy()
    return np.asarray(keys, np.float64)
