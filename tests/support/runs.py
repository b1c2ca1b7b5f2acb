"""Runs made of events in memory, without a daemon."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import live_telemetry_widget as ltw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def run_of(events: Iterable[dict[str, Any]], run_id: str = "r") -> Iterator[ltw.Run]:
    """Lend a run that has ended and holds all of the events."""
    with ltw.TelemetryAsyncHub() as hub:
        feed = hub.subscribe_run(run_id)
        feed.grace = 0.02  # nothing else is to come
        run = ltw.Run(feed)
        for event in events:
            if event["type"] == "step":
                hub.submit_step({**event, "run_id": run_id})
            elif event["type"] == "episode":
                hub.submit_episode({**event, "run_id": run_id})
        hub.complete_run(run_id)
        run.wait(timeout=20)
    # The data stays; the hub's thread does not.
    yield run
    run.close()
