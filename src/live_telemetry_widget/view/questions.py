"""Who answers which question of the page.

A feature adds its kind to :data:`HANDLERS`, and its handler in a module of its own beside this one. A handler gets the view and the
question (:class:`~live_telemetry_widget.view.ask.Ask`) and returns the answer's further fields and its buffers; it may be called on any
thread. What it cannot answer it says with a :class:`~live_telemetry_widget.view.ask.BadQuestionError`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget.errors import TelemetryError
from live_telemetry_widget.view import (
    cell_question,
    control_question,
    curve_question,
    episode_question,
    find_question,
    layers_question,
    messages,
    rows_question,
)
from live_telemetry_widget.view.ask import Ask, BadQuestionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.view.ask import Handler, View

_LOG: Final = logging.getLogger(__name__)

#: The kind of a question, and what answers it.
HANDLERS: Final[dict[str, Handler]] = {
    "ask_rows": rows_question.answer,
    "ask_find": find_question.answer,
    "ask_cell": cell_question.answer,
    "ask_episode": episode_question.answer_episode,
    "ask_difference": episode_question.answer_difference,
    "ask_layers": layers_question.answer_layers,
    "ask_curve": curve_question.answer,
    "ask_control": control_question.answer,
}


def answer(view: View, content: dict[str, Any]) -> tuple[messages.Answer | messages.Refused, Sequence[bytes]]:
    """Return what a question is answered with: an answer with its buffers, or a refusal that says why."""
    ask = Ask(content)
    handler = HANDLERS.get(ask.kind)
    if handler is None or ask.id < 0:
        return _refusal(ask, f"not a question this version understands: {str(content)[:200]}"), ()
    try:
        fields, buffers = handler(view, ask)
    except (BadQuestionError, TelemetryError) as error:
        return _refusal(ask, str(error)), ()
    except Exception as error:  # noqa: BLE001 - see below
        # A fault of ours must not leave the page waiting, nor end the thread that answers; the log has where it was.
        _LOG.exception("a question of the page of run %s failed: %.200r", view.feed.run_id, content)
        return _refusal(ask, f"the kernel could not answer: {type(error).__name__}: {error}"), ()
    reply: Any = {"spans": [], **fields, "kind": "answer", "version": messages.VERSION, "id": ask.id}
    return reply, buffers


def _refusal(ask: Ask, why: str) -> messages.Refused:
    return messages.Refused(kind="refused", version=messages.VERSION, id=ask.id, message=why[:2_000])
