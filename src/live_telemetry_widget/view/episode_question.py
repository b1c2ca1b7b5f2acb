"""What replay asks: the steps of an episode with their pictures, part by part, and where two episodes first differ."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget.schema import TEXT, common_type
from live_telemetry_widget.view import encode
from live_telemetry_widget.view.artist import steps_of
from live_telemetry_widget.view.ask import BadQuestionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.grids import Grid
    from live_telemetry_widget.lens import Frames
    from live_telemetry_widget.view.artist import Artist
    from live_telemetry_widget.view.ask import Ask, View

#: At most so many steps are in one answer ...
MAX_STEPS: Final = 256
#: ... and no more pictures than take so many characters, or so many seconds to draw; but one.
_MAX_CHARACTERS: Final = 2_000_000
_MAX_SECONDS: Final = 0.15
#: So many steps of two episodes are compared at a time.
_BLOCK: Final = 4_096
_MOST: Final = 2**53


def answer_episode(view: View, ask: Ask) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Answer ``ask_episode``: a part of an episode, `count` steps from place `first`, or around the step with index `step`.

    The episode is named by `row`, or by `episode`, `agent` and `worker`.

    Returns
    -------
    tuple
        Fields ``row, worker, agent, episode, total`` (steps that are here), ``first, count`` (of this part; fewer than asked for where
        pictures are large), ``grids`` (each picture once), ``drawn`` (for each step the number of its picture, or -1), ``actions`` (for each
        step what its action is called); and the steps as an Arrow stream with a column ``row``.
    """
    frames = view.frames
    row = _row_of(frames, ask, "row")
    known = frames.episode_rows(row, 1).to_pylist()[0]
    indices, rows = frames.episode_steps(row)
    count = min(max(1, optional(ask, "count") or MAX_STEPS), MAX_STEPS)
    first = optional(ask, "first") or 0
    step = optional(ask, "step")
    if step is not None:
        place = min(int(np.searchsorted(indices, step)), max(0, len(indices) - 1))
        first = place - place % count
    rows = rows[first : first + count]
    table = frames.take(rows)
    grids, drawn, actions = _draw(view.artist, table)
    table = table.slice(0, len(drawn)).append_column("row", pa.array(rows[: len(drawn)], pa.int64()))
    fields = {
        "row": row,
        "worker": known["worker_id"],
        "agent": known["agent_id"],
        "episode": known["episode"],
        "total": len(indices),
        "first": first,
        "count": len(drawn),
        "grids": grids,
        "drawn": drawn,
        "actions": actions,
    }
    return fields, [encode.to_page(table)]


def optional(ask: Ask, name: str) -> int | None:
    """Return a counting number of a question; None where it has none."""
    if ask.raw(name) is None:
        return None
    value = ask.whole(name)
    if not 0 <= value < _MOST:
        raise ask.bad(name, "a whole number from 0")
    return value


def _row_of(frames: Frames, ask: Ask, name: str) -> int:
    row = optional(ask, name)
    if row is None and name == "row":
        number, agent, worker = ask.whole("episode"), ask.text("agent", ""), ask.text("worker", "")
        row = frames.locate(number, agent, worker)
        if row is None:
            who = f" of agent {agent!r}" if agent else ""
            msg = f"there is no episode {number}{who}"
            raise BadQuestionError(msg)
    if row is None or row >= frames.episode_count:
        msg = f"there is no episode in row {row}; there are {frames.episode_count} episodes"
        raise BadQuestionError(msg)
    return row


def _draw(artist: Artist, table: pa.Table) -> tuple[list[Grid], list[int], list[str]]:
    """Return the different pictures of some steps, the number of each step's, and each step's action; of as many steps as fit."""
    grids: list[Grid] = []
    drawn: list[int] = []
    actions: list[str] = []
    by_text: dict[str, int] = {}
    until, room = time.monotonic() + _MAX_SECONDS, _MAX_CHARACTERS
    for at in range(table.num_rows):
        # One by one: a frame's payload is large, and the last that fits may be the first.
        grid = artist.draw(steps_of(table.slice(at, 1))[0])
        number = -1
        action = ""
        if grid is not None:
            action, grid["action"], grid["caption"] = grid["action"], "", ""
            text = json.dumps(grid)
            number = by_text.setdefault(text, len(grids))
            if number == len(grids):
                grids.append(grid)
                room -= len(text)
        drawn.append(number)
        actions.append(action)
        if room < 0 or time.monotonic() > until:
            break
    return grids, drawn, actions


def answer_difference(view: View, ask: Ask) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Answer ``ask_difference``: the first step at which episodes `row` and `other` differ: in its action, else in its state, else in its observation.

    Where both tell a ``state``, observations are not compared: they may hold more than what the agent knows. A step that only one of
    them has is no difference unless it is after the end of the other (``what`` is ``"length"``).

    Returns
    -------
    tuple
        Fields ``row, other, step`` (its index; None: none) and ``what``.
    """
    frames = view.frames
    pair = _row_of(frames, ask, "row"), _row_of(frames, ask, "other")
    (steps_a, rows_a), (steps_b, rows_b) = (frames.episode_steps(row) for row in pair)
    common, at_a, at_b = np.intersect1d(steps_a, steps_b, assume_unique=True, return_indices=True)
    found: dict[str, Any] = {"row": pair[0], "other": pair[1], "step": None, "what": ""}
    for start in range(0, len(common), _BLOCK):
        part = slice(start, start + _BLOCK)
        place, what = _first_difference(frames.take(rows_a[at_a[part]]), frames.take(rows_b[at_b[part]]))
        if what:
            return {**found, "step": int(common[start + place]), "what": what}, []
    ends = [int(steps[-1]) + 1 if len(steps) else 0 for steps in (steps_a, steps_b)]
    if ends[0] != ends[1]:
        found |= {"step": min(ends), "what": "length"}
    return found, []


def _comparable(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column as values of a kind that Arrow compares; lists, which it does not, as their JSON."""
    if column.type != kind and not (pa.types.is_list(column.type) and kind == TEXT):
        column = column.cast(kind)
    if not pa.types.is_list(column.type):
        return column
    return pa.chunked_array([pa.array([v if v is None else json.dumps(v) for v in column.to_pylist()], TEXT)])


def _first_difference(left: pa.Table, right: pa.Table) -> tuple[int, str]:
    names = ["action"]
    told = [name in t.column_names and t.column(name).null_count == 0 for name in ("state",) for t in (left, right)]
    names.append("state" if all(told) else "observation")
    best = (left.num_rows, "")
    for name in names:
        a, b = (table.column(name).cast(TEXT) if name != "state" else table.column(name) for table in (left, right))
        kind = common_type(a.type, b.type)
        a, b = (_comparable(column, kind) for column in (a, b))
        same = pc.fill_null(pc.equal(a, b), fill_value=False)
        same = pc.or_(same, pc.and_(pc.is_null(a), pc.is_null(b)))
        place = pc.index(same, value=False).as_py()
        if 0 <= place < best[0]:
            best = (place, name)
    return best
