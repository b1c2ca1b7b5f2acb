"""``ask_find``: where an episode and a step of it stand in the tables; how the page jumps there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from live_telemetry_widget.view.rows_question import wish_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget._rows import Numbers
    from live_telemetry_widget.lens import Frames
    from live_telemetry_widget.view.ask import Ask, View

_MOST: Final = 100


def answer(view: View, ask: Ask) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Return the episodes of a number (``found``), each as a selection names it, with the row of the step in the step table.

    `step` may be absent: then the row is that of the first step. `agent` and `worker` narrow it down. The row is null where that step
    is not there.

    With `where` or `sort`, as in ``ask_rows``, the row is the place in the arrangement of `table`: in that of the steps, of the step, or
    else of the episode's nearest step that is in it, the later ones first. ``more`` says that not every row was looked at yet.
    """
    step, agent, worker = (ask.raw(name) for name in ("step", "agent", "worker"))
    step = None if step is None else ask.whole("step")
    found = view.frames.seek(ask.whole("episode"), step)
    found = [(e, row) for e, row in found if agent in {None, e.agent_id} and worker in {None, e.worker_id}][:_MOST]
    wish = wish_of(ask) if ask.raw("table") else None
    more = False
    if wish and (wish.where.strip() or wish.sort):
        held = view.arrangements.of(view, wish)
        held.follow()
        steps = wish.table == "steps"
        found = [
            (e, held.place(_nearest(view.frames, e.ordinal, step) if steps else np.array([e.ordinal])))
            for e, _ in found
        ]
        more = held.scanned < held.of
    places = [
        {
            "episode": {"row": e.ordinal, "worker": e.worker_id, "agent": e.agent_id, "episode": e.number},
            "row": row,
        }
        for e, row in found
    ]
    return {"found": places, "more": more}, ()


def _nearest(frames: Frames, row: int, step: int | None) -> Numbers:
    """Return the rows of an episode's steps: those from a step on, then those before it, backwards."""
    indices, rows = frames.episode_steps(row)
    at = 0 if step is None else int(np.searchsorted(indices, step))
    return np.concatenate([rows[at:], rows[:at][::-1]])
