"""``ask_rows``: rows of a table by number (:class:`~live_telemetry_widget.view.messages.AskRows`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from live_telemetry_widget.view import encode, messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.view.ask import Ask, View


def answer(view: View, ask: Ask) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Return as many of the rows as one answer holds; their span says which."""
    frames = view.frames
    table, first, count = ask.choice("table", ("steps", "episodes")), ask.whole("first"), ask.whole("count")
    first = max(first, 0)
    if table == "steps":
        rows = frames.rows(first, min(count, messages.MAX_ROWS))
        span = messages.Span(table="steps", first=first, count=rows.num_rows, total=frames.step_count)
    else:
        rows = frames.episode_rows(first, min(count, messages.MAX_EPISODES))
        span = messages.Span(table="episodes", first=first, count=rows.num_rows, total=frames.episode_count)
    return {"spans": [span]}, [encode.to_page(rows)]
