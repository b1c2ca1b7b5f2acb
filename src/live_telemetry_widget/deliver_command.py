"""``live-telemetry deliver``: what training programs left in their spool when no daemon answered them. Used by :mod:`~.cli` only."""

# ruff: noqa: T201 - a command prints
# ruff: noqa: PLC0415 - what is heavy is imported when the command is used, so that --help is quick

from __future__ import annotations

import argparse
import asyncio
import pathlib
import sys
from typing import TYPE_CHECKING

from live_telemetry_widget.commands import daemon_address
from live_telemetry_widget.worker.spool import default_directory

if TYPE_CHECKING:
    from live_telemetry_widget.worker.spool import Estate

_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


def add(commands: _Commands[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "deliver",
        help="deliver what training programs could not",
        description="Deliver the steps and episodes that training programs (Emitter, RecordTelemetry) left in their spool because no "
        "daemon answered, or because they were killed; each row once. What belongs to a program that still runs is left alone.",
    )
    parser.add_argument(
        "--daemon", type=daemon_address, metavar="HOST:PORT", help="default: the one that each was meant for"
    )
    parser.add_argument(
        "--spool-dir", type=pathlib.Path, default=default_directory(), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--list", action="store_true", help="only say what waits there")
    parser.set_defaults(call=_deliver)


def _deliver(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget.worker import heirs
    from live_telemetry_widget.worker.spool import estates

    left = estates(arguments.spool_dir) if arguments.spool_dir.is_dir() else []
    if not left:
        print(f"live-telemetry: nothing waits in {arguments.spool_dir}", file=sys.stderr)
        return 0
    if arguments.list:
        for estate in left:
            print(_card(estate))
            estate.release()
        return 0
    trouble = 0
    for handed in asyncio.run(heirs.deliver(left, arguments.daemon or "")):
        end = f"; it is {handed.end}" if handed.end else ""
        torn = f"; {handed.torn} files end within a record" if handed.torn else ""
        print(
            f"run {handed.run_id}: {handed.steps} steps and {handed.episodes} episodes delivered to {handed.address}{end}{torn}"
        )
        if handed.why:
            trouble = 1
            print(f"live-telemetry: run {handed.run_id}: some stay in the spool: {handed.why}", file=sys.stderr)
    return trouble


def _card(estate: Estate) -> str:
    header, end = estate.header, estate.end or {"outcome": "it did not say how it ended"}
    config = header.get("config")
    name = config.get("run_name", "") if isinstance(config, dict) else ""
    rows = {
        kind: sum(record.rows for record in estate.records if record.kind == kind) for kind in ("steps", "episodes")
    }
    return (
        f"run {header.get('run_id')} ({name}), for {header.get('address')}: "
        f"{rows['steps']} steps, {rows['episodes']} episodes; {end['outcome']}"
    )
