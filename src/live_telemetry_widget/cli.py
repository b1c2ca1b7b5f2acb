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

from live_telemetry_widget import commands as run_commands
from live_telemetry_widget import deliver_command, report_command
from live_telemetry_widget._names import DEFAULT_ADDRESS
from live_telemetry_widget._plain import plain
from live_telemetry_widget._version import __version__
from live_telemetry_widget.errors import RecordingError, TelemetryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.daemon.server import Daemon

_LOG: Final = logging.getLogger(__name__)


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
        sys.stdout.flush()
    except TelemetryError as error:
        print(f"live-telemetry: {plain(error, lines=True)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except (
        BrokenPipeError
    ):  # nobody reads on, as behind `| head`; what Python would still write at its end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="live-telemetry", description="Watch reinforcement-learning runs live, and keep every step of them."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_run(commands)
    run_commands.add(commands, DEFAULT_ADDRESS, default_data_dir())
    report_command.add(commands, default_data_dir())
    deliver_command.add(commands)
    _add_demo(commands)
    return parser


_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


def _add_serve(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "serve",
        help="run a trainer daemon",
        usage="live-telemetry serve [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run a trainer daemon. It takes telemetry from workers, keeps all of it, streams it to notebooks, and starts\n"
        "the workers of runs that are submitted to it. Ctrl-C or SIGTERM stops it: it ends its workers, takes their\n"
        "last words, and commits all that it has received.",
        epilog="docs/operations.md has a systemd unit, sizes, back-up and what to do when something is wrong.",
    )
    parser.add_argument(
        "--listen", default=DEFAULT_ADDRESS, metavar="HOST:PORT", help="default: %(default)s; port 0: a free one"
    )
    parser.add_argument(
        "--data-dir",
        type=pathlib.Path,
        default=default_data_dir(),
        metavar="DIR",
        help="where runs are kept; default: %(default)s",
    )
    workers = parser.add_argument_group("workers that it starts")
    workers.add_argument(
        "--dispatch",
        default="same-user",
        choices=["same-user", "anyone", "never"],
        help="whose submitted commands are run: those of this user on this machine (the default); of anyone who reaches "
        "the address, which is as good as a shell for them; nobody's, runs are only registered",
    )
    workers.add_argument(
        "--grace",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="between SIGTERM and SIGKILL for a worker that is to end; default: %(default)g",
    )
    workers.add_argument(
        "--keep-workers",
        action="store_true",
        help="leave workers running at the end; the next daemon on the same directory and address goes on with them",
    )
    workers.add_argument(
        "--gpus", type=_count, default=0, metavar="N", help="give out GPUs 0 to N-1 to runs that ask; default: none"
    )
    runs = parser.add_argument_group("runs, whoever started their workers")
    runs.add_argument(
        "--heartbeat-timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="a run whose worker sends heartbeats has failed when it is silent for so long; 0: never; default: %(default)g",
    )
    runs.add_argument(
        "--silence-timeout",
        type=_seconds,
        default=3_600.0,
        metavar="SECONDS",
        help="the same for a worker that never sent one; default: %(default)g",
    )
    runs.add_argument("--strict", action="store_true", help="take telemetry only with the session token of its run")
    logs = parser.add_argument_group("what it says of itself, on standard error")
    logs.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"], help="default: %(default)s"
    )
    logs.add_argument(
        "--log-format", default="text", choices=["text", "json"], help="json: one object a line; default: %(default)s"
    )
    parser.add_argument(
        "--exit-with-stdin",
        action="store_true",
        help="for a parent process: print one line of JSON (address, pid) when ready, and stop when standard input closes",
    )
    parser.set_defaults(call=_serve)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        msg = f"{text!r} is no number of seconds from 0"
        raise argparse.ArgumentTypeError(msg)
    return seconds


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        msg = f"{text!r} is below 0"
        raise argparse.ArgumentTypeError(msg)
    return count


def _serve(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget.daemon import logs, server
    from live_telemetry_widget.daemon.listen import check_listen
    from live_telemetry_widget.daemon.settings import Settings

    check_listen(arguments.listen)
    _check_folder(arguments.data_dir)
    logs.configure(arguments.log_level, arguments.log_format)
    settings = Settings(
        strict=arguments.strict,
        dispatch=arguments.dispatch,
        grace=arguments.grace,
        heartbeat_timeout=arguments.heartbeat_timeout,
        silence_timeout=arguments.silence_timeout,
        keep_workers=arguments.keep_workers,
        gpus=arguments.gpus,
    )

    def ready(daemon: Daemon) -> None:
        _LOG.info("serving on %s, data in %s", daemon.address, arguments.data_dir)
        if arguments.exit_with_stdin:
            print(json.dumps({"address": daemon.address, "pid": os.getpid()}), flush=True)

    async def serve() -> None:
        stop = asyncio.Event()
        if arguments.exit_with_stdin:
            _when_stdin_closes(stop)
        await server.run(arguments.data_dir, arguments.listen, settings, ready=ready, stop=stop)

    asyncio.run(serve())
    return 0


def _check_folder(data_dir: pathlib.Path) -> None:
    """Make the data directory, or say why it cannot be one."""
    why = ""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        why = "it is a file"
    except OSError as error:
        why = f"it cannot be made: {error.strerror}"
    else:
        if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
            why = "it cannot be written"
    if why:
        msg = f"{data_dir} cannot be the data directory: {why}; give another --data-dir"
        raise RecordingError(msg)


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
    parser.add_argument(
        "--daemon",
        "--target",
        type=run_commands.daemon_address,
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help="default: %(default)s",
    )
    parser.add_argument("--run-id", default="", metavar="ID", help="default: the daemon chooses one")
    parser.add_argument("--agent-id", default="", metavar="ID", help="for events that name no agent")
    parser.add_argument("--worker-id", default="", metavar="ID", help="for events that name no worker")
    parser.add_argument("--name", default="", help="what people call the run")
    parser.add_argument(
        "--control-stdin",
        action="store_true",
        help="the worker's standard input is not ours but for control lines (docs/wire.md), if it says that it listens",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="between SIGTERM and SIGKILL when the daemon cancels the run; default: %(default)g",
    )
    parser.add_argument(
        "--heartbeat", type=_seconds, default=5.0, metavar="SECONDS", help="between heartbeats; default: %(default)g"
    )
    parser.add_argument(
        "--drain-timeout",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="for the daemon to confirm what is left when the worker has ended; default: %(default)g",
    )
    parser.add_argument(
        "--away-timeout",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="end the worker when no daemon answers for so long, and wait so long for one at first; default: it must be "
        "there at first, and may stay away for ever then",
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="the worker and its arguments, after --")
    parser.set_defaults(call=_run)


def _leave_the_word_to_the_proxy() -> None:
    """Say no warning of the package by itself: the proxy says in lines of its own what could not be delivered."""
    logging.getLogger(__package__).addHandler(logging.NullHandler())


def _run(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget.worker import proxy

    _leave_the_word_to_the_proxy()
    return proxy.run(
        arguments.command,
        daemon=arguments.daemon,
        run_id=arguments.run_id,
        agent_id=arguments.agent_id,
        worker_id=arguments.worker_id,
        name=arguments.name,
        control_stdin=arguments.control_stdin,
        grace=arguments.grace,
        heartbeat=arguments.heartbeat,
        drain_timeout=arguments.drain_timeout,
        away_timeout=arguments.away_timeout,
    )


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
    from live_telemetry_widget._ulid import new_ulid
    from live_telemetry_widget.embedded import serve
    from live_telemetry_widget.worker import proxy

    _leave_the_word_to_the_proxy()
    run_id = new_ulid()
    command = [sys.executable, "-m", "live_telemetry_widget.worker.demo", "--env", arguments.env]
    with serve(arguments.data_dir, arguments.listen) as server:
        print(f'ltw.connect("{server.address}").run("{run_id}")', flush=True)
        code = proxy.run(
            command, daemon=server.address, run_id=run_id, name=f"demo {arguments.env}", control_stdin=True
        )
        if not arguments.exit:
            print(f"the worker has ended with exit code {code}; Ctrl-C ends the daemon", flush=True)
            threading.Event().wait()
    return code
