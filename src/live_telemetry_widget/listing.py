"""Runs as text, for ``live-telemetry list`` and ``show``; of a daemon and of a data directory alike."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import TYPE_CHECKING

from live_telemetry_widget import _json
from live_telemetry_widget._plain import plain
from live_telemetry_widget.client import Generation, RunDetails, RunInfo, TrainerClient, run_state
from live_telemetry_widget.errors import RunNotFoundError
from live_telemetry_widget.feed import run_name
from live_telemetry_widget.roster import Told, told_by
from live_telemetry_widget.store import Store

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

    from live_telemetry_widget.store import RunRow

_HEADINGS = ("RUN", "NAME", "STATUS", "STEPS", "EPISODES", "MADE")
_NUMBERS = {3, 4}
#: How a reason begins that says once more what the state says.
_SAID_TWICE = ("cancelled: ", "cancelled ", "failed: ")


def of_daemon(address: str) -> list[Told]:
    """Return the runs of a daemon, newest first; what they hold only where the daemon can say it."""

    async def ask() -> list[Told]:
        async with TrainerClient(address) as client:
            return await told_by(client)

    return asyncio.run(ask())


def of_directory(data_dir: pathlib.Path) -> list[Told]:
    """Return the runs in a data directory, which a daemon may be writing, newest first."""
    with Store.open(data_dir, read_only=True) as store:
        return [of_store(store, run) for run in reversed(store.runs())]


def of_store(store: Store, run: RunRow) -> Told:
    """Return what a store has of a run."""
    reason = run.failure_reason or ""
    state = run_state(run.status, reason, Generation.TWO)
    times = (run.created_at, run.updated_at, run.last_heartbeat)
    info = RunInfo(run.run_id, state, reason, run.digest, *times, seq_id=run.record_seq)
    last = (store.last_seq(run.run_id, "steps"), store.last_seq(run.run_id, "episodes"))
    return Told(info, RunDetails(run.config_json, *last, ended=state.ended))


def one_of_daemon(address: str, run_id: str) -> Told:
    """Return a run of a daemon; raises :exc:`RunNotFoundError`."""

    async def ask() -> Told:
        async with TrainerClient(address) as client:
            for info in await client.list_runs():
                if info.run_id == run_id:
                    return Told(info, await client.describe(run_id))
        msg = f"the daemon at {address} has no run {run_id!r}; live-telemetry list names those that it has"
        raise RunNotFoundError(msg)

    return asyncio.run(ask())


def status_words(info: RunInfo) -> str:
    """Return a run's state, and why when there is more to say than the state."""
    state, reason = info.state.value, info.reason
    for beginning in _SAID_TWICE:
        if reason.startswith(beginning) and state == beginning.strip(": "):
            reason = reason.removeprefix(beginning)
    return f"{state} ({reason})" if reason and reason != state else state


def _moment(nanoseconds: int | None) -> str:
    if nanoseconds is None:
        return ""
    return dt.datetime.fromtimestamp(nanoseconds / 1e9).astimezone().isoformat(" ", "seconds")


def rows(runs: Sequence[Told]) -> list[tuple[str, ...]]:
    """Return runs as the cells of a table."""
    return [
        (
            info.run_id,
            run_name(details),
            status_words(info),
            *((str(details.last_step_seq), str(details.last_episode_seq)) if details else ("", "")),
            _moment(info.created_at),
        )
        for info, details in runs
    ]


def table(cells: Sequence[Sequence[str]]) -> str:
    """Return rows under their headings, in columns.

    >>> print(table([("r", "lake", "running", "12", "1", "today")]))
    RUN  NAME  STATUS   STEPS  EPISODES  MADE
    r    lake  running     12         1  today
    """
    if not cells:
        return "no runs"
    lines = [_HEADINGS, *([plain(cell) for cell in line] for line in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADINGS))]

    def cell(line: Sequence[str], i: int) -> str:
        return line[i].rjust(widths[i]) if i in _NUMBERS else line[i].ljust(widths[i])

    return "\n".join("  ".join(cell(line, i) for i in range(len(_HEADINGS))).rstrip() for line in lines)


def card(told: Told) -> str:
    """Return all that is known of a run, a line each, and its config."""
    info, details = told
    lines = [
        ("run", info.run_id),
        ("name", run_name(details)),
        ("status", status_words(info)),
        ("steps", f"{details.last_step_seq:,}" if details else "(this daemon does not tell)"),
        ("episodes", f"{details.last_episode_seq:,}" if details else "(this daemon does not tell)"),
        ("made", _moment(info.created_at)),
        ("changed", _moment(info.updated_at)),
        ("last heartbeat", _moment(info.last_heartbeat)),
        ("digest", info.digest),
    ]
    text = "\n".join(f"{name:<14}  {plain(value)}" for name, value in lines if value)
    return f"{text}\nconfig\n{_config_text(details)}" if details else text


def _config_text(details: RunDetails) -> str:
    try:
        return plain(json.dumps(_json.parse(details.config_json), indent=2, ensure_ascii=False), lines=True)
    except _json.UNREADABLE:
        return plain(details.config_json, lines=True)
