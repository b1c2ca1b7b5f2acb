"""Runs made of events in memory, without a daemon."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING, Any

import live_telemetry_widget as ltw
from live_telemetry_widget.worker import demo

if TYPE_CHECKING:
    import argparse
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


def played(*arguments: str) -> list[dict[str, Any]]:
    """Return the events that the demo worker tells, played in this process."""
    out = io.StringIO()
    options: argparse.Namespace = demo._parser().parse_args(arguments)
    demo.train(options, out)
    return [json.loads(line) for line in out.getvalue().splitlines()]
