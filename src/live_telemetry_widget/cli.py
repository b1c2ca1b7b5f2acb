"""The command ``live-telemetry``: arguments to calls."""

# ruff: noqa: T201 - a command prints
# ruff: noqa: PLC0415 - what is heavy is imported by the subcommand that needs it, so that --help is quick

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import pathlib
import sys
import threading
from typing import TYPE_CHECKING, Final

from live_telemetry_widget._version import __version__
from live_telemetry_widget.errors import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.daemon.server import Daemon

_ADDRESS: Final = "127.0.0.1:50055"


def default_data_dir() -> pathlib.Path:
    """Return where a daemon keeps runs unless it is told otherwise."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or pathlib.Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = pathlib.Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local" / "share"
    return pathlib.Path(base) / "live-telemetry"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.call(arguments)
    except TelemetryError as error:
        print(f"live-telemetry: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="live-telemetry", description="Watch reinforcement-learning runs live, and keep every step of them."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_run(commands)
    _add_list(commands)
    _add_demo(commands)
    return parser


_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


def _add_serve(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "serve",
        help="run a trainer daemon",
        description="Run a trainer daemon: it takes telemetry from workers, keeps it, and streams it to notebooks. "
        "Stop it with Ctrl-C or SIGTERM; it commits what it has received first.",
    )
    parser.add_argument(
        "--listen", default=_ADDRESS, metavar="HOST:PORT", help="default: %(default)s; port 0: a free one"
    )
    parser.add_argument(
        "--data-dir",
        type=pathlib.Path,
        default=default_data_dir(),
        metavar="DIR",
        help="where runs are kept; default: %(default)s",
    )
    parser.add_argument("--strict", action="store_true", help="take telemetry only from registered workers")
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"], help="default: %(default)s"
    )
    parser.add_argument(
        "--exit-with-stdin",
        action="store_true",
        help="for a parent process: print one line of JSON (address, pid) when ready, and stop when standard input closes",
    )
    parser.set_defaults(call=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget.daemon import server

    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )

    def ready(daemon: Daemon) -> None:
        print(f"serving on {daemon.address}, data in {arguments.data_dir}", file=sys.stderr, flush=True)
        if arguments.exit_with_stdin:
            print(json.dumps({"address": daemon.address, "pid": os.getpid()}), flush=True)

    async def serve() -> None:
        stop = asyncio.Event()
        if arguments.exit_with_stdin:
            _when_stdin_closes(stop)
        await server.run(arguments.data_dir, arguments.listen, strict=arguments.strict, ready=ready, stop=stop)

    asyncio.run(serve())
    return 0


def _when_stdin_closes(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def wait() -> None:
        # Not sys.stdin: its lock, held by a thread that reads, would trouble the end of the interpreter.
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        # The loop may have ended by itself.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True, name="waits for the parent").start()


def _add_run(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "run",
        help="run a worker and publish its telemetry",
        usage="live-telemetry run [options] -- COMMAND [ARGUMENT ...]",
        description="Start a worker command, publish the events that it prints (one JSON object a line), pass everything "
        "else through, and return its exit code.",
    )
    parser.add_argument("--daemon", "--target", default=_ADDRESS, metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--run-id", default="", metavar="ID", help="default: the daemon chooses one")
    parser.add_argument("--agent-id", default="", metavar="ID", help="for events that name no agent")
    parser.add_argument("--worker-id", default="", metavar="ID", help="for events that name no worker")
    parser.add_argument("--name", default="", help="what people call the run")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="the worker and its arguments, after --")
    parser.set_defaults(call=_run)


def _run(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget.worker import proxy

    return proxy.run(
        arguments.command,
        daemon=arguments.daemon,
        run_id=arguments.run_id,
        agent_id=arguments.agent_id,
        worker_id=arguments.worker_id,
        name=arguments.name,
    )


def _add_list(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "list", help="list runs", description="List the runs of a daemon or of a data directory."
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--daemon", default=_ADDRESS, metavar="HOST:PORT", help="default: %(default)s")
    where.add_argument("--data-dir", type=pathlib.Path, metavar="DIR", help="read the files, with or without a daemon")
    parser.set_defaults(call=_list)


def _list(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget import listing

    rows = listing.of_directory(arguments.data_dir) if arguments.data_dir else listing.of_daemon(arguments.daemon)
    print(listing.table(rows))
    return 0


def _add_demo(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="a daemon and a real worker, to look at",
        description="Start a daemon and a worker that learns FrozenLake, and say what to type in a notebook.",
    )
    parser.add_argument("--env", default="FrozenLake-v1", help="default: %(default)s")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="default: a free port")
    parser.add_argument(
        "--data-dir", type=pathlib.Path, metavar="DIR", help="default: a temporary one, deleted at the end"
    )
    parser.add_argument("--exit", action="store_true", help="end when the worker does, not at Ctrl-C")
    parser.set_defaults(call=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget.daemon.config import new_ulid
    from live_telemetry_widget.embedded import serve
    from live_telemetry_widget.worker import proxy

    run_id = new_ulid()
    command = [sys.executable, "-m", "live_telemetry_widget.worker.demo", "--env", arguments.env]
    with serve(arguments.data_dir, arguments.listen) as server:
        print(f'ltw.connect("{server.address}").run("{run_id}")', flush=True)
        code = proxy.run(
            command, daemon=server.address, run_id=run_id, agent_id="", worker_id="", name=f"demo {arguments.env}"
        )
        if not arguments.exit:
            print(f"the worker has ended with exit code {code}; Ctrl-C ends the daemon", flush=True)
            threading.Event().wait()
    return code
