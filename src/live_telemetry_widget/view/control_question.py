"""What a person asks of the run's worker, by the buttons of the view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from live_telemetry_widget.controls import ACTIONS
from live_telemetry_widget.view.ask import BadQuestionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.view.ask import Ask, View


def answer(view: View, ask: Ask) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Have an action asked for; what becomes of it is told in the state."""
    action = ask.choice("action", ACTIONS)
    if view.controls is None:
        msg = "this run is not followed at a daemon: there is no worker to reach"
        raise BadQuestionError(msg)
    view.controls.ask(action)
    return {}, ()
