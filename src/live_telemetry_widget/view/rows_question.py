"""``ask_rows``: rows of a table by number, or by place in an arrangement (:class:`~live_telemetry_widget.view.messages.AskRows`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from live_telemetry_widget.errors import QueryError
from live_telemetry_widget.view import encode, messages
from live_telemetry_widget.view.arranged import Arranged, Wish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.view.ask import Ask, View

#: In another order, rows come from all over the table.
_MOST_SORTED: Final = 120
#: So many arrangements are kept for a view: of each table one, and those that were looked at before.
_MOST_KEPT: Final = 3


class Arrangements:
    """The arrangements of one view, those that were asked for last."""

    def __init__(self) -> None:
        self._kept: dict[Wish, Arranged] = {}

    def of(self, view: View, wish: Wish) -> Arranged:
        """Return an arrangement, made when it is not kept; raises QueryError."""
        held = self._kept.pop(wish, None) or Arranged(view.frames, wish)
        self._kept[wish] = held
        for oldest in [*self._kept][:-_MOST_KEPT]:
            self._kept.pop(oldest, None)
        return held


def answer(view: View, ask: Ask) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Return as many of the rows as one answer holds; their span says which."""
    frames = view.frames
    first, count = max(ask.whole("first"), 0), ask.whole("count")
    wish = wish_of(ask)
    if wish.where.strip() or wish.sort:
        return _arranged(view, wish, first, count)
    if wish.table == "steps":
        rows = frames.rows(first, min(count, messages.MAX_ROWS))
        span = messages.Span(table="steps", first=first, count=rows.num_rows, total=frames.step_count)
    else:
        rows = frames.episode_rows(first, min(count, messages.MAX_EPISODES))
        span = messages.Span(table="episodes", first=first, count=rows.num_rows, total=frames.episode_count)
    return {"spans": [span]}, [encode.to_page(rows)]


def wish_of(ask: Ask) -> Wish:
    """Return which rows of which table a question is about, in which order."""
    table: messages.Table = "steps" if ask.choice("table", ("steps", "episodes")) == "steps" else "episodes"
    return Wish(table, ask.text("where", ""), ask.text("sort", ""), ask.flag("descending"))


def _arranged(view: View, wish: Wish, first: int, count: int) -> tuple[dict[str, Any], Sequence[bytes]]:
    try:
        held = view.arrangements.of(view, wish)
        held.follow()
    except QueryError as error:
        # An answer, not a refusal: the page marks the place in the expression.
        fault = {"reason": error.reason, "position": error.position, "near": [*error.near]}
        return {"fault": fault}, ()
    numbers = held.numbers(first, min(count, _MOST_SORTED if wish.sort else messages.MAX_ROWS))
    if wish.table == "steps":
        rows = view.frames.take(numbers)
        rows = rows.append_column("row", pa.array(numbers))
    else:
        rows = view.frames.take_episodes(numbers.tolist())
    span = messages.Span(table=wish.table, first=first, count=rows.num_rows, total=held.total)
    return {"spans": [span], "scanned": held.scanned, "of": held.of}, [encode.to_page(rows)]
