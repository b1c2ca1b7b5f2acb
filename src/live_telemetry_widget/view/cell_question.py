"""``ask_cell``: one cell in full; tables have the beginning of long texts only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from live_telemetry_widget.view.ask import BadQuestionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.view.ask import Ask, View

#: Longest text that is sent, in characters.
_MOST: Final = 200_000


def answer(view: View, ask: Ask) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Return the ``text`` of a column in a row of the whole table, and whether it was cut even so (``cut``)."""
    row, column = ask.whole("row"), ask.text("column")
    steps = ask.choice("table", ("steps", "episodes")) == "steps"
    total = view.frames.step_count if steps else view.frames.episode_count
    if not 0 <= row < total:
        known = f"a row from 0 to {total - 1}"
        raise ask.bad("row", known)  # noqa: EM101 - a field's name
    found = view.frames.take(np.array([row])) if steps else view.frames.take_episodes([row])
    if column not in found.column_names:
        message = f"there is no column {column!r}"
        raise BadQuestionError(message)
    value = found.column(column)[0].as_py()
    text = "" if value is None else str(value)
    return {"text": text[:_MOST], "cut": len(text) > _MOST}, ()
