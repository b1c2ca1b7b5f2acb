"""What the picture's layers ask: how often each cell was visited, and what the agent thinks of it.

Sums over a run are kept and go on from where they were; an answer takes in only so much more at a time and says how far it is, so that no
question takes long. Texts that repeat, as states of a grid world do, are read once a block.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _json, grids
from live_telemetry_widget.schema import TEXT
from live_telemetry_widget.view.episode_question import optional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.lens import Frames
    from live_telemetry_widget.view.ask import Ask, View

Codes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"

#: Seconds that an answer spends on rows that were not counted yet.
_AT_ONCE: Final = 0.06
_FIRST_BLOCK: Final = 1_024
_LARGEST_BLOCK: Final = 65_536
#: So many cells (of a map, with who is where) are counted; a world with more is no grid world.
_MOST_CELLS: Final = 20_000
_MOST_SENT: Final = 4_096
_MOST_TEXTS: Final = 20_000
#: A longer text is a frame: nobody is anywhere in it.
_LONGEST: Final = 20_000
_MOST_ACTIONS: Final = 64
#: Columns that say what actions are worth, the best first.
_VALUES: Final = ("q_values", "q_after", "q_before")
#: Ranges of episodes that are kept, with their sums.
_MOST_SUMS: Final = 8


class Spot(NamedTuple):
    """A cell, and what else a value there may depend on."""

    context: str
    row: int
    col: int


def context_of(grid: grids.Grid) -> str:
    """Return what else than its cell a value may depend on: who is where in Taxi, where the agent looks. ``contextOf`` in layout.ts is its twin.

    >>> context_of(grids.grid_from(None, "0", game="Taxi"))
    'R|R|'
    """

    def named(kind: str) -> str:
        return next((mark.get("label", "") for mark in grid["marks"] if mark["kind"] == kind), "")

    return "|".join((named("passenger"), named("destination"), grid.get("facing", "")))


class Sums:
    """Visits and values by cell, of an agent or all, over the steps that were taken in."""

    def __init__(self, game: str, agent: str | None) -> None:
        self.game = game
        self.agent = agent
        self.rows = 0
        self.visits: dict[tuple[int, int], int] = {}
        self.values: dict[Spot, dict[int, float]] = {}
        self.full = False
        self._block = _FIRST_BLOCK
        self._texts: dict[tuple[int, str], Spot | None] = {}

    def take_in(self, frames: Frames, rows: Codes | None, until: float) -> None:
        """Take in what was not counted yet, of `rows` or of everything, until it is late (monotonic seconds); one block at least."""
        total = frames.step_count if rows is None else len(rows)
        while self.rows < total and not self.full:
            began = time.monotonic()
            end = min(total, self.rows + self._block)
            part = frames.rows(self.rows, end - self.rows) if rows is None else frames.take(rows[self.rows : end])
            self.add(part)
            self.rows += part.num_rows
            now = time.monotonic()
            if not part.num_rows or now >= until:
                return
            quick = now - began < _AT_ONCE / 4
            self._block = min(_LARGEST_BLOCK, self._block * 2) if quick else max(_FIRST_BLOCK, self._block // 2)

    def add(self, table: pa.Table) -> None:
        """Count some steps."""
        if self.agent is not None:
            table = table.filter(pc.equal(table.column("agent_id").cast(TEXT), self.agent))
        if not table.num_rows:
            return
        self._add_visits(table)
        self._add_values(table)
        self.full = len(self.visits) + len(self.values) > _MOST_CELLS

    def begins(self, table: pa.Table) -> tuple[Codes, list[Spot | None]] | None:
        """Return where each step began, by number (-1: nobody knows), and those places; None where no step says what its actions are worth."""
        told = [
            name for name in _VALUES if name in table.column_names and table.column(name).null_count < table.num_rows
        ]
        return self._spots(table.column("observation"), 2) if told else None

    def _add_visits(self, table: pa.Table) -> None:
        # What a step led to is drawn from the first of these that can be.
        left = np.arange(table.num_rows)
        for form, name in enumerate(("render_payload", "next_observation", "observation")):
            if name not in table.column_names or not pa.types.is_string(table.schema.field(name).type):
                continue
            codes, spots = self._spots(table.column(name).take(pa.array(left)), form)
            counts = np.bincount(codes[codes >= 0], minlength=len(spots))
            drawn = np.array([spot is not None for spot in spots], bool)
            for spot, count in zip(spots, counts.tolist(), strict=True):
                if spot is not None and count:
                    at = (spot.row, spot.col)
                    self.visits[at] = self.visits.get(at, 0) + count
            here = (codes >= 0) & np.append(drawn, False)[codes]
            left = left[~here]

    def _add_values(self, table: pa.Table) -> None:
        names = [name for name in _VALUES[1:] if name in table.column_names]
        if "q_values" in table.column_names:
            self._add_lists(table)
        elif names:
            numbers = [pc.cast(table.column(n), pa.float64(), safe=False) for n in names if _is_number(table, n)]
            if numbers:
                self._add_numbers(table, pc.coalesce(*numbers))

    def _add_numbers(self, table: pa.Table, values: pa.ChunkedArray) -> None:
        """Note the latest value of each action in each cell that a step began in."""
        codes, spots = self._spots(table.column("observation"), 2)
        actions, texts = _encoded(table.column("action").cast(TEXT))
        numbers = [_action(text) for text in texts]
        numpy = values.to_numpy()
        use = np.flatnonzero((codes >= 0) & (actions >= 0) & np.isfinite(numpy))
        pairs = codes[use] * max(1, len(texts)) + actions[use]
        latest, at = np.unique(pairs[::-1], return_index=True)
        for pair, place in zip(latest.tolist(), (use[::-1][at]).tolist(), strict=True):
            spot, action = spots[pair // max(1, len(texts))], numbers[pair % max(1, len(texts))]
            if spot is not None and action is not None:
                self.values.setdefault(spot, {})[action] = float(numpy[place])

    def _add_lists(self, table: pa.Table) -> None:
        """Note the latest values of all actions in each cell that a step began in."""
        codes, spots = self._spots(table.column("observation"), 2)
        column = table.column("q_values")
        use = np.flatnonzero((codes >= 0) & pc.is_valid(column).to_numpy())
        latest, at = np.unique(codes[use][::-1], return_index=True)
        for code, place in zip(latest.tolist(), use[::-1][at].tolist(), strict=True):
            spot, values = spots[code], by_action(column[place].as_py())
            if spot is not None and values:
                self.values[spot] = values

    def _spots(self, column: pa.ChunkedArray, form: int) -> tuple[Codes, list[Spot | None]]:
        """Return for each row the number of its text (-1: none), and where the agent is in each text."""
        codes, texts = _encoded(column)
        if len(self._texts) > _MOST_TEXTS:
            self._texts.clear()
        return codes, [self._spot(text, form) for text in texts]

    def _spot(self, text: str, form: int) -> Spot | None:
        key = (form, text)
        if key not in self._texts:
            spot = None
            if len(text) <= _LONGEST:
                payload, following, seen = (text if form == place else None for place in range(3))
                grid, _ = grids.read_step(payload, seen, next_observation=following, game=self.game)
                if grid is not None and grid["agent"] and not grid.get("partial"):
                    spot = Spot(context_of(grid), *grid["agent"])
            self._texts[key] = spot
        return self._texts[key]


class Layers:
    """The sums of a view: over all of its episodes, and over the last few ranges that were asked for. May be asked by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str | None, int | None, int | None], Sums] = {}

    def of(self, view: View, agent: str | None, first: int | None, last: int | None) -> tuple[Sums, int]:
        """Return the sums of an agent over the episodes in rows `first` to `last`, or all, gone on with for a moment; and how many steps there are."""
        frames, game = view.frames, view.artist.game
        rows = None
        if first is not None and last is not None:
            parts = [frames.episode_steps(row)[1] for row in range(first, min(last + 1, frames.episode_count))]
            rows = np.concatenate([np.zeros(0, np.int64), *parts])
        with self._lock:
            key = (game, agent, first, last)
            # The least lately asked for is at the start.
            sums = self._sums.pop(key, None) or Sums(game, agent)
            self._sums[key] = sums
            for oldest in list(self._sums)[:-_MOST_SUMS]:
                del self._sums[oldest]
            sums.take_in(frames, rows, time.monotonic() + _AT_ONCE)
            return sums, frames.step_count if rows is None else len(rows)


def answer_layers(view: View, ask: Ask) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Answer ``ask_layers``: visits by cell, and by action the latest value in each cell in a `context`.

    Of one `agent` (a text; all without), of the episodes in rows `first` to `last` (all without).

    Returns
    -------
    tuple
        Fields ``rows`` (steps counted) of ``total``: ask again while there are more; ``full`` (there are too many cells, so it was given up),
        ``actions`` (what they are called), ``visits`` ([row, col, count], the most visited first) and ``values`` ([row, col, [value or null by
        action]]).
    """
    agent = None if ask.raw("agent") is None else ask.text("agent")
    context = ask.text("context", "||")
    sums, total = view.layers.of(view, agent, optional(ask, "first"), optional(ask, "last"))
    visits = sorted(sums.visits.items(), key=lambda item: -item[1])[:_MOST_SENT]
    values = [(spot, known) for spot, known in sums.values.items() if spot.context == context][:_MOST_SENT]
    names = grids.ACTIONS.get(sums.game) or grids.ACTIONS.get(ask.text("game", ""), ())
    most = max((max(known) + 1 for _, known in values), default=0)
    fields = {
        "rows": sums.rows,
        "total": total,
        "full": sums.full,
        "actions": [names[i] if i < len(names) else str(i) for i in range(max(most, len(names)))],
        "visits": [[row, col, count] for (row, col), count in visits],
        "values": [
            [spot.row, spot.col, [known.get(i) for i in range(max(most, len(names)))]] for spot, known in values
        ],
    }
    return fields, []


def _encoded(column: pa.ChunkedArray) -> tuple[Codes, list[str]]:
    """Return the number of each row's text (-1: null), and the texts."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy()
    texts: list[str] = encoded.dictionary.to_pylist()
    return codes, texts


def _is_number(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _action(text: str) -> int | None:
    """Return an action's number, where it is one that a table has."""
    return int(text) if text.isdecimal() and len(text) < 3 and int(text) < _MOST_ACTIONS else None  # noqa: PLR2004 - digits


def by_action(values: object) -> dict[int, float]:
    """Return values by action, of a list or a JSON text of one."""
    if isinstance(values, str):
        try:
            values = _json.parse(values)
        except _json.UNREADABLE:
            return {}
    if not isinstance(values, list) or len(values) > _MOST_ACTIONS:
        return {}
    return {
        i: float(v)
        for i, v in enumerate(values)
        # Not math.isfinite(), which raises for an integer beyond all floats.
        if isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= sys.float_info.max
    }
