"""``live-telemetry list | show | export | delete | prune``: what there is of runs, and where it goes. Used by :mod:`~.cli` only."""

# ruff: noqa: T201 - a command prints
# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, so that --help is quick

from __future__ import annotations

import argparse
import contextlib
import pathlib
import re
import sys
import time
from typing import TYPE_CHECKING, Final, TypeVar

from live_telemetry_widget._plain import plain
from live_telemetry_widget.errors import ConnectError, RecordingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from live_telemetry_widget import exports
    from live_telemetry_widget.roster import Told
    from live_telemetry_widget.store import RunRow, Store

_T = TypeVar("_T")
_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_NANOS: Final = 1_000_000_000

_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it
_Parser = argparse.ArgumentParser


def add(commands: _Commands[_Parser], address: str, data_dir: pathlib.Path) -> None:
    """Add the commands, with the address and the data directory that are meant when none is said."""
    parser = commands.add_parser(
        "list", help="list runs", description="List the runs of a daemon or of a data directory, newest first."
    )
    _add_where(parser, address)
    parser.set_defaults(call=_list, usual=(address, data_dir))

    parser = commands.add_parser(
        "show", help="show one run", description="Show what a daemon or a data directory has of a run, with its config."
    )
    parser.add_argument("run", metavar="RUN", help="its id")
    _add_where(parser, address)
    parser.set_defaults(call=_show, usual=(address, data_dir))

    _add_export(commands, data_dir)
    _add_delete(commands, data_dir)
    _add_prune(commands, data_dir)


def daemon_address(text: str) -> str:
    """Return the address of a daemon that was given on a command line."""
    from live_telemetry_widget._names import check_address

    try:
        return check_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_where(parser: _Parser, address: str) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--daemon",
        type=daemon_address,
        metavar="HOST:PORT",
        help=f"default: {address}, or where none answers there, the usual data directory",
    )
    where.add_argument("--data-dir", type=pathlib.Path, metavar="DIR", help="read the files, with or without a daemon")


def _add_data_dir(parser: _Parser, data_dir: pathlib.Path) -> None:
    parser.add_argument("--data-dir", type=pathlib.Path, default=data_dir, metavar="DIR", help="default: %(default)s")


def _list(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget import listing

    runs = _from_where(arguments, listing.of_directory, listing.of_daemon)
    print(listing.table(listing.rows(runs)))
    return 0


def _from_where(
    arguments: argparse.Namespace, directory: Callable[[pathlib.Path], _T], daemon: Callable[[str], _T]
) -> _T:
    """Return what the directory that was named says, or the daemon; where none was named and none answers, the usual directory."""
    from live_telemetry_widget.store import FILE_NAME

    address, usual = arguments.usual
    if arguments.data_dir:
        return directory(arguments.data_dir)
    try:
        return daemon(arguments.daemon or address)
    except ConnectError as error:
        if arguments.daemon or not (usual / FILE_NAME).is_file():
            msg = f"{error}. Its files can be read without it: --data-dir DIR"
            raise ConnectError(msg) from None
        _say(f"no daemon answers at {address}; this is what its files in {usual} say")
        return directory(usual)


def _show(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget import listing
    from live_telemetry_widget.store import Store

    def from_directory(data_dir: pathlib.Path) -> Told:
        with Store.open(data_dir, read_only=True) as store:
            return listing.of_store(store, _find(store, arguments.run))

    print(
        listing.card(
            _from_where(arguments, from_directory, lambda address: listing.one_of_daemon(address, arguments.run))
        )
    )
    return 0


def _find(store: Store, run_id: str) -> RunRow:
    from live_telemetry_widget.store import not_found

    run = store.run(run_id)
    if run is None:
        raise not_found(run_id, str(store.path), store.runs())
    return run


# -- export ------------------------------------------------------------------------------------------------------------


def _add_export(commands: _Commands[_Parser], data_dir: pathlib.Path) -> None:
    parser = commands.add_parser(
        "export",
        help="write a run to files that other programs read",
        description="Write a run to files that pandas, polars, DuckDB and ltw.open() read as they are. A table of the steps "
        "goes to FILE; that of the episodes to NAME.episodes.parquet (or .arrow) beside it. jsonl is one file of events as a worker "
        "prints them. huggingface and minari are directories: Parquet files with a dataset's card, and a Minari dataset (which needs Minari). "
        "A daemon may be writing the run meanwhile.",
    )
    parser.add_argument("run", metavar="RUN", help="its id")
    parser.add_argument(
        "--format",
        choices=["parquet", "jsonl", "arrow", "csv", "huggingface", "minari"],
        help="default: as FILE ends, or parquet",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="default: RUN.FORMAT here; a directory takes that name; -: standard output (jsonl)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    _add_data_dir(parser, data_dir)
    parser.set_defaults(call=_export)


def _export(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget import exports
    from live_telemetry_widget.store import Store

    with Store.open(arguments.data_dir, read_only=True) as store:
        run = _find(store, arguments.run)
        total = store.last_seq(run.run_id, "steps") + store.last_seq(run.run_id, "episodes")
        if arguments.output == "-":
            if arguments.format not in {None, "jsonl"}:
                msg = f"--format {arguments.format} cannot go to standard output; give -o FILE, or --format jsonl"
                raise RecordingError(msg)
            with _bar(total, run.run_id) as progress:
                exports.write_lines(store, run, sys.stdout, progress)
                sys.stdout.flush()
            return 0
        target, form = _target(arguments.output, arguments.format, run.run_id)
        if form in {"huggingface", "minari"}:
            return _export_directory(store, run, target, form)
        there = [str(path) for path in exports.files_of(target, form) if path.exists()]
        if there and not arguments.force:
            msg = f"{' and '.join(there)} exists; give another -o FILE, or --force to overwrite it"
            raise RecordingError(msg)
        try:
            with _bar(total, run.run_id) as progress:
                written = exports.export_run(store, run, target, form, progress)
        except OSError as error:
            msg = f"{target} cannot be written: {error.strerror or error}"
            raise RecordingError(msg) from error
    files = " and ".join(f"{path} ({path.stat().st_size:,} bytes)" for path in written.paths)
    _say(f"{written.steps:,} steps and {written.episodes:,} episodes of run {run.run_id} are in {files}")
    return 0


def _export_directory(store: Store, run: RunRow, target: pathlib.Path, form: str) -> int:
    from live_telemetry_widget import exchange
    from live_telemetry_widget.feed import info_of
    from live_telemetry_widget.frames import RunFrames

    with _bar(0, run.run_id) as progress:
        if form == "huggingface":  # of any length
            written = exchange.write_dataset(store, run, target, {}, progress)
        else:
            frames = RunFrames(run.run_id)
            for batch in store.read(run.run_id, "steps"):
                frames.append_steps(batch)
                progress(batch.num_rows)
            for batch in store.read(run.run_id, "episodes"):
                frames.append_episodes(batch)
            if info_of(run).state.ended:
                frames.settle()
            written = exchange.export(frames, run, target, form)
    left = f"; {written.left_out:,} episodes that lack steps were left out" if written.left_out else ""
    _say(f"{written.steps:,} steps and {written.episodes:,} episodes of run {run.run_id} are in {target}{left}")
    return 0


def _target(output: str | None, form: str | None, run_id: str) -> tuple[pathlib.Path, exports.Format]:
    """Return where to write what.

    >>> _target("a/b.arrow", None, "r")[1], str(_target(None, "jsonl", "x/y")[0]), str(_target(None, "minari", "x/y")[0])
    ('arrow', 'x_y.jsonl', 'x_y-v0')
    """
    from live_telemetry_widget.exports import FORMATS

    path = pathlib.Path(output) if output else pathlib.Path()
    endings: dict[str, exports.Format] = {f".{known}": known for known in FORMATS}
    chosen = endings[f".{form}"] if form else endings.get(path.suffix, "parquet")
    if chosen in {"huggingface", "minari"}:
        # An id is any text; a directory's name is not.
        name = re.sub(r"[^-0-9A-Za-z_]", "_", run_id) + ("-v0" if chosen == "minari" else "")
        return path if output else path / name, chosen
    if path.is_dir() or (output and output.endswith(("/", "\\"))):
        # An id is any text; a file's name is not.
        return path / f"{re.sub(r'[^-.0-9A-Za-z_]', '_', run_id)}.{chosen}", chosen
    if path.suffix != f".{chosen}":
        msg = f"-o {output!r} does not end in .{chosen}, by which readers know the format; give {path.stem}.{chosen}, or another --format"
        raise RecordingError(msg)
    return path, chosen


@contextlib.contextmanager
def _bar(total: int, title: str) -> Iterator[Callable[[int], object]]:
    from tqdm import tqdm

    # It would start a thread to look after bars that hang.
    tqdm.monitor_interval = 0
    # disable=None: none where nobody watches.
    with tqdm(total=total, desc=plain(title), unit=" rows", unit_scale=True, disable=None, file=sys.stderr) as bar:
        yield bar.update


# -- delete, prune -----------------------------------------------------------------------------------------------------


def _add_delete(commands: _Commands[_Parser], data_dir: pathlib.Path) -> None:
    parser = commands.add_parser(
        "delete",
        help="delete runs",
        description="Delete runs and all their steps from a data directory that no daemon uses at the time.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="its id")
    _add_data_dir(parser, data_dir)
    parser.set_defaults(call=_delete)


def _add_prune(commands: _Commands[_Parser], data_dir: pathlib.Path) -> None:
    parser = commands.add_parser(
        "prune",
        help="delete runs that ended long ago",
        description="Delete the runs that ended longer ago than a time, from a data directory that no daemon uses meanwhile.",
    )
    parser.add_argument(
        "--older-than", type=_age, required=True, metavar="TIME", help="like 30d, 12h or 2w; m: minutes, h, d, w: weeks"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say which")
    _add_data_dir(parser, data_dir)
    parser.set_defaults(call=_prune)


def _age(text: str) -> int:
    """Return seconds.

    >>> _age("30d"), _age("12h")
    (2592000, 43200)
    """
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if found is None:
        msg = f"{text!r} is no time; give a number and m, h, d or w, like 30d"
        raise argparse.ArgumentTypeError(msg)
    return int(found[1]) * _SECONDS[found[2]]


def _delete(arguments: argparse.Namespace) -> int:
    with _held(arguments.data_dir) as store:
        _remove(store, arguments.data_dir, [_find(store, run_id).run_id for run_id in arguments.runs])
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    from live_telemetry_widget import listing
    from live_telemetry_widget.store import Store

    before = time.time_ns() - arguments.older_than * _NANOS
    # Who only looks disturbs no daemon.
    look = arguments.dry_run
    with Store.open(arguments.data_dir, read_only=True) if look else _held(arguments.data_dir) as store:
        old = [run for run in store.runs() if max(run.updated_at, run.last_heartbeat or 0) < before]
        told = [(run.run_id, listing.of_store(store, run)) for run in old]
        ended = [(run_id, known) for run_id, known in told if known.info.state.ended]
        if left := len(told) - len(ended):
            _say(
                f"{left} old runs have not ended, as far as is known, and stay; live-telemetry delete RUN deletes them"
            )
        if arguments.dry_run:
            print(listing.table(listing.rows([known for _, known in ended])))
        else:
            _remove(store, arguments.data_dir, [run_id for run_id, _ in ended])
    return 0


@contextlib.contextmanager
def _held(data_dir: pathlib.Path) -> Iterator[Store]:
    """Open a data directory for changes; refuse one that a daemon uses, or that is none."""
    from live_telemetry_widget._lock import DirectoryLock
    from live_telemetry_widget.store import Store

    # First only look: a lock must not be the first file in a directory that is something else.
    Store.open(data_dir, read_only=True).close()
    if not data_dir.is_dir():
        msg = f"{data_dir} is a file; give the data directory that it is in"
        raise RecordingError(msg)
    with (
        DirectoryLock(data_dir, "runs are deleted when no daemon uses them: stop it first"),
        Store.open(data_dir) as store,
    ):
        yield store


def _remove(store: Store, data_dir: pathlib.Path, run_ids: list[str]) -> None:
    from live_telemetry_widget.daemon.family import log_path

    if not run_ids:
        _say("no runs to delete")
        return
    store.delete(run_ids)
    for run_id in run_ids:
        log_path(data_dir, run_id).unlink(missing_ok=True)
    _say(f"deleted {', '.join(run_ids)}")
    try:
        _say(f"{store.shrink():,} bytes were given back to the disk")
    except RecordingError as error:
        _say(f"later runs will use their place in the file; it could not be given back to the disk: {error}")


def _say(text: str) -> None:
    print(f"live-telemetry: {plain(text)}", file=sys.stderr)
