"""``live-telemetry report``: a run as one HTML file. Used by :mod:`~.cli` only."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command is used, so that --help is quick

from __future__ import annotations

import argparse
import pathlib
import re
import sys
from typing import Final

from live_telemetry_widget._plain import plain
from live_telemetry_widget.errors import TelemetryError

_MEGABYTE: Final = 1_000_000

_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it
_Parser = argparse.ArgumentParser


def add(commands: _Commands[_Parser], data_dir: pathlib.Path) -> None:
    """Add the command, with the data directory that is meant when none is said."""
    parser = commands.add_parser(
        "report",
        help="write a run as one HTML file",
        description="Write a run as one HTML file that needs no network: the view, with tables, replay, curve and filters, over the "
        "file's own data. A daemon may be writing the run meanwhile.",
    )
    parser.add_argument("run", metavar="RUN", help="its id")
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE", help="default: RUN.html here")
    parser.add_argument(
        "--where", metavar="EXPRESSION", help="only these episodes: \"outcome == 'Failed' and steps < 10\""
    )
    parser.add_argument("--newest", type=_count, metavar="N", help="only so many of the newest episodes")
    parser.add_argument("--agent", help="only this agent's episodes")
    parser.add_argument(
        "--limit",
        type=_size,
        default=5 * _MEGABYTE,
        metavar="MB",
        help="largest size of the file in megabytes, default: 5; what does not fit is left out, and the page says what",
    )
    parser.add_argument(
        "--static", action="store_true", help="a page without any script: totals, curves, the table of episodes"
    )
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    parser.add_argument(
        "--data-dir",
        type=pathlib.Path,
        default=data_dir,
        metavar="DIR",
        help="a data directory, or what export has written; default: %(default)s",
    )
    parser.set_defaults(call=_report)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        msg = f"{text!r} is no number from 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _size(text: str) -> int:
    """Return bytes.

    >>> _size("0.5")
    500000
    """
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text) or float(text) == 0:
        msg = f"{text!r} is no size; give megabytes, like 5 or 0.5"
        raise argparse.ArgumentTypeError(msg)
    return round(float(text) * _MEGABYTE)


def _report(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget.session import open_recording

    # An id is any text; a file's name is not.
    path: pathlib.Path = arguments.output or pathlib.Path(re.sub(r"[^-.0-9A-Za-z_]", "_", arguments.run) + ".html")
    if path.exists() and not arguments.force:
        msg = f"{path} exists; give another -o FILE, or --force to overwrite it"
        raise TelemetryError(msg)
    with open_recording(arguments.data_dir) as recording:
        run = recording.run(arguments.run)
        try:
            report = run.to_html(
                path,
                episodes=arguments.newest,
                where=arguments.where,
                agent=arguments.agent,
                limit=arguments.limit,
                static=arguments.static,
            )
        except (OSError, ValueError) as error:
            msg = f"{path} cannot be written: {error}"
            raise TelemetryError(msg) from error
    print(f"live-telemetry: {plain(report)}", file=sys.stderr)  # noqa: T201 - a command prints
    return 0
