"""Runs as lines of text, for ``live-telemetry list``."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

from live_telemetry_widget.client import Generation, TrainerClient, run_state
from live_telemetry_widget.store import Store

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

Row = tuple[str, str, str, str, str]


def of_daemon(address: str) -> list[Row]:
    """Return the runs of a daemon; what they hold only where the daemon can say it."""

    async def ask() -> list[Row]:
        async with TrainerClient(address) as client:
            rows = []
            for info in sorted(await client.list_runs(), key=lambda info: info.created_at or 0, reverse=True):
                details = await client.describe(info.run_id)
                count = (str(details.last_step_seq), str(details.last_episode_seq)) if details else ("", "")
                rows.append((info.run_id, _words(info.state.value, info.reason), *count, _moment(info.created_at)))
            return rows

    return asyncio.run(ask())


def of_directory(data_dir: pathlib.Path) -> list[Row]:
    """Return the runs in a data directory, which a daemon may be writing."""
    with Store.open(data_dir, read_only=True) as store:
        rows = []
        for run in reversed(store.runs()):
            count = (str(store.last_seq(run.run_id, "steps")), str(store.last_seq(run.run_id, "episodes")))
            reason = run.failure_reason or ""
            state = run_state(run.status, reason, Generation.TWO).value
            rows.append((run.run_id, _words(state, reason), *count, _moment(run.created_at)))
        return rows


def _words(state: str, reason: str) -> str:
    return f"{state} ({reason})" if reason else state


def _moment(nanoseconds: int | None) -> str:
    if nanoseconds is None:
        return ""
    return dt.datetime.fromtimestamp(nanoseconds / 1e9).astimezone().isoformat(" ", "seconds")


def table(rows: Sequence[Row]) -> str:
    """Return rows under their headings, in columns.

    >>> print(table([("r", "running", "12", "1", "today")]))
    RUN  STATUS   STEPS  EPISODES  MADE
    r    running     12         1  today
    """
    if not rows:
        return "no runs"
    lines = [("RUN", "STATUS", "STEPS", "EPISODES", "MADE"), *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    numbers = {2, 3}

    def cell(line: Row, i: int) -> str:
        return line[i].rjust(widths[i]) if i in numbers else line[i].ljust(widths[i])

    return "\n".join("  ".join(cell(line, i) for i in range(5)).rstrip() for line in lines)
