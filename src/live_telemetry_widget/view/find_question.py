"""``ask_find``: where an episode and a step of it stand in the tables; how the page jumps there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.view.ask import Ask, View

_MOST: Final = 100


def answer(view: View, ask: Ask) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Return the episodes of a number (``found``), each as a selection names it, with the row of the step in the step table.

    `step` may be absent: then the row is that of the first step. `agent` and `worker` narrow it down. The row is null where that step
    is not there.
    """
    step, agent, worker = (ask.raw(name) for name in ("step", "agent", "worker"))
    found = view.frames.seek(ask.whole("episode"), None if step is None else ask.whole("step"))
    places = [
        {
            "episode": {"row": e.ordinal, "worker": e.worker_id, "agent": e.agent_id, "episode": e.number},
            "row": row,
        }
        for e, row in found
        if agent in {None, e.agent_id} and worker in {None, e.worker_id}
    ]
    return {"found": places[:_MOST]}, ()
