"""One run as files that other programs read: Parquet, Arrow, JSON lines; and those files as a recording again.

``run.parquet`` holds the steps, ``run.episodes.parquet`` beside it the episodes: each is one plain table. The run's record (name,
config, how it ended) is in the schema's metadata of both, which readers that do not know it pass over. JSON lines are the events as a
worker prints them, so ``live-telemetry run -- cat run.jsonl`` publishes the run once more.

What is exported is what is stored, row for row in the order of ``seq_id``, and no more than one chunk at a time is in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from typing import IO, TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, get_args

import pyarrow as pa

from live_telemetry_widget import _arrow, _json
from live_telemetry_widget.errors import RecordingError
from live_telemetry_widget.schema import EVENT_NAMES, JSON_KIND, KINDS, LABEL, STEPS, TEXT, TIMESTAMP, unify
from live_telemetry_widget.store import CORE, Kind, RunRow, Store

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator, Mapping, Sequence

#: The last two are directories, that :mod:`~live_telemetry_widget.exchange` writes; the others are files.
Format = Literal["parquet", "jsonl", "arrow", "csv", "huggingface", "minari"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
#: Formats that are tables, which ``ltw.open`` reads again.
TABLES: Final[tuple[Format, ...]] = ("parquet", "arrow")

_RUN: Final = b"live_telemetry_widget.run"
_KIND: Final = b"live_telemetry_widget.kind"
#: Rows are gathered into row groups of so many, or of so many bytes.
_GROUP_ROWS: Final = 65_536
#: Rows of one file of several.
_SHARD_ROWS: Final = 1_000_000
#: Numbers of which no row is without one; where JSON has no word for it, it is said in a text, which is read as the number again.
_REWARDS: Final = frozenset({"reward", "total_reward"})
_WORDS: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}
_GROUP_BYTES: Final = 64 * 1024 * 1024


class Written(NamedTuple):
    """What an export has written."""

    paths: list[pathlib.Path]
    steps: int
    episodes: int
    #: Episodes that the format has no place for, because steps of them are missing.
    left_out: int = 0


class Rows(Protocol):
    """Where an export's rows come from: a :class:`~live_telemetry_widget.store.Store`, or a run in memory."""

    def last_seq(self, run_id: str, kind: Kind) -> int:
        """Return the last number given to a row of that run and kind; 0 when there is none."""

    def schemas(self, run_id: str, kind: Kind, last_seq: int) -> list[pa.Schema]:
        """Return the different schemas of the rows up to a number."""

    def read(self, run_id: str, kind: Kind, since_seq: int = 0, limit: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows numbered after `since_seq`, in order, at most `limit` of them."""


def export_run(
    store: Rows, run: RunRow, target: pathlib.Path, form: Format, progress: Callable[[int], object] = lambda _: None
) -> Written:
    """Write a run as it stands to files; each appears under its name when it is complete.

    Parameters
    ----------
    target
        ``.../NAME.FORMAT``. A table's episodes go to ``.../NAME.episodes.FORMAT``.
    progress
        Called with the number of rows that were written since the last call.
    """
    # Rows that are committed from here on are of a later export: steps and episodes are to be of one moment.
    last: dict[Kind, int] = {kind: store.last_seq(run.run_id, kind) for kind in KINDS}
    paths = [target] if form == "jsonl" else [target, episodes_path(target)]
    if form in TABLES:
        _check_places(dict(zip(KINDS, paths, strict=True)))
    with contextlib.ExitStack() as stack:
        parts = [stack.enter_context(_complete_or_gone(path)) for path in paths]
        if form == "jsonl":
            with parts[0].open("w", encoding="utf-8", newline="\n") as file:
                write_lines(store, run, file, progress, last)
        else:
            for part, kind in zip(parts, KINDS, strict=True):
                _Table(store, run, kind, last[kind]).write(part, form, progress)
    return Written(paths, last["steps"], last["episodes"])


def export_shards(
    store: Rows, run: RunRow, folder: pathlib.Path, progress: Callable[[int], object] = lambda _: None
) -> Written:
    """Write a run as Parquet files of many rows each, under ``steps/`` and ``episodes/``."""
    last: dict[Kind, int] = {kind: store.last_seq(run.run_id, kind) for kind in KINDS}
    paths: list[pathlib.Path] = []
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        paths += _Table(store, run, kind, last[kind]).write_shards(folder / kind, progress)
    return Written(paths, last["steps"], last["episodes"])


def files_of(path: pathlib.Path, form: Format) -> list[pathlib.Path]:
    """Return the files that an export writes; none for datasets, which are directories."""
    if form in {"huggingface", "minari"}:
        return []
    return [path] if form == "jsonl" else [path, episodes_path(path)]


def _for_others_to_read(config_json: str) -> str:
    """Return a run's config without the environment variables that it was submitted with: they are where people keep secrets."""
    config = _json.read(config_json)
    if not isinstance(config, dict) or not isinstance(config.get("environment"), dict):
        return config_json
    return json.dumps({name: value for name, value in config.items() if name != "environment"}, ensure_ascii=False)


def episodes_path(steps: pathlib.Path) -> pathlib.Path:
    """Return where the episodes are whose steps are there.

    >>> import pathlib
    >>> episodes_path(pathlib.Path("a/run.parquet")).name
    'run.episodes.parquet'
    """
    return steps.with_name(f"{steps.stem}.episodes{steps.suffix}")


def _check_places(paths: Mapping[Kind, pathlib.Path]) -> None:
    """Refuse to write steps where the episodes of another export are, as of a run ``a.episodes`` beside a run ``a``, or the other way round."""
    for kind, path in paths.items():
        held = _kind_in(path) if path.exists() else kind
        if held not in {kind, ""}:
            msg = f"{path} holds the {held} of an exported run, where {kind} are to be written; give another path"
            raise RecordingError(msg)


def _kind_in(path: pathlib.Path) -> str:
    """Return which rows of a run a file holds; an empty text where it is no export."""
    try:
        found: str = (_schema_of(path).metadata or {}).get(_KIND, b"").decode(errors="replace")
    except RecordingError:
        return ""
    return found


@contextlib.contextmanager
def _complete_or_gone(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Lend a path to write to; it gets its name when all went well, and is deleted otherwise."""
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# -- tables ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Table:
    """Rows of one kind, to be written as a table."""

    store: Rows
    run: RunRow
    kind: Kind
    last: int

    def write(self, path: pathlib.Path, form: Format, progress: Callable[[int], object]) -> None:
        """Write them into one file."""

        def write_as(schema: pa.Schema) -> None:
            with _writer(path, self._shown(schema, form), form) as write:
                for table in self._tables(schema, form):
                    write(table)
                    progress(table.num_rows)

        self._in_a_schema(write_as)

    def write_shards(self, folder: pathlib.Path, progress: Callable[[int], object]) -> list[pathlib.Path]:
        """Write them into Parquet files of many rows each; return those."""
        paths: list[pathlib.Path] = []

        def write_as(schema: pa.Schema) -> None:
            shown = self._shown(schema, "huggingface")
            paths.clear()
            tables = self._tables(schema, "huggingface")
            table = next(tables, shown.empty_table())
            while table is not None:
                paths.append(folder / f"train-{len(paths):05}.parquet")
                rows = 0
                with _writer(paths[-1], shown, "parquet") as write:
                    while table is not None and rows < _SHARD_ROWS:
                        write(table)
                        progress(table.num_rows)
                        rows += table.num_rows
                        table = next(tables, None)

        self._in_a_schema(write_as)
        return paths

    def _in_a_schema(self, write_as: Callable[[pa.Schema], None]) -> None:
        core = CORE[self.kind]
        schemas = self.store.schemas(self.run.run_id, self.kind, self.last)
        try:
            write_as(unify(core, schemas))
        except pa.ArrowInvalid:
            # A number that fits neither of the types that its column had (or that came by a merge meanwhile): then such a column
            # is JSON text, as in the frames. Rows that were written are written, and counted, again.
            schemas += self.store.schemas(self.run.run_id, self.kind, self.last)
            write_as(_arrow.widest(core, schemas))

    def _shown(self, schema: pa.Schema, form: Format) -> pa.Schema:
        run = dataclasses.replace(self.run, config_json=_for_others_to_read(self.run.config_json))
        about = {_RUN: json.dumps(dataclasses.asdict(run)).encode(), _KIND: self.kind.encode()}
        return _for_others(schema, form).with_metadata(about)

    def _tables(self, schema: pa.Schema, form: Format) -> Iterator[pa.Table]:
        shown = self._shown(schema, form)
        held = _without_lists(schema) if form == "csv" else schema
        for batches in _groups(self.store.read(self.run.run_id, self.kind, limit=self.last)):
            table = pa.Table.from_batches([_arrow.conform(batch, held) for batch in batches], held)
            yield table.unify_dictionaries().combine_chunks().cast(shown)


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(b.num_rows for b in held) >= _GROUP_ROWS or sum(b.nbytes for b in held) >= _GROUP_BYTES:
            yield held
            held = []
    if held:
        yield held


def _without_lists(schema: pa.Schema) -> pa.Schema:
    """Return the schema with JSON texts for lists."""
    return pa.schema([pa.field(f.name, TEXT, metadata=JSON_KIND) if pa.types.is_list(f.type) else f for f in schema])


def _for_others(schema: pa.Schema, form: Format) -> pa.Schema:
    """Return a schema that every reader of the format understands."""
    fields = []
    for field in _without_lists(schema) if form == "csv" else schema:
        kind = field.type
        if pa.types.is_null(kind):
            kind = TEXT
        elif form in {"arrow", "csv", "huggingface"} and kind == LABEL:
            # An Arrow file has one dictionary a column, known before its first row is written; ours grow.
            kind = TEXT
        fields.append(field.with_type(kind))
    return pa.schema(fields)


@contextlib.contextmanager
def _writer(path: pathlib.Path, schema: pa.Schema, form: Format) -> Iterator[Callable[[pa.Table], None]]:
    if form == "parquet":
        import pyarrow.parquet as pq  # noqa: PLC0415 - heavy, and few need it

        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            yield writer.write_table
    elif form == "csv":
        import pyarrow.csv  # noqa: PLC0415 - few need it

        # An empty text is in quotes, what is missing is not.
        with pyarrow.csv.CSVWriter(path, schema) as writer:
            yield writer.write_table
    else:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema, options=options) as writer:
            yield writer.write_table


# -- lines -------------------------------------------------------------------------------------------------------------


def write_lines(
    store: Rows,
    run: RunRow,
    file: IO[str],
    progress: Callable[[int], object] = lambda _: None,
    last: dict[Kind, int] | None = None,
) -> Written:
    """Write a run as the events of a worker, one JSON object a line: its start, steps, episodes."""
    last = last or {kind: store.last_seq(run.run_id, kind) for kind in KINDS}
    config = _json.read(_for_others_to_read(run.config_json))
    file.write(_line({"type": "run_started", "run_id": run.run_id, "ts_unix_ns": run.created_at, "config": config}))
    for kind in KINDS:
        for batch in store.read(run.run_id, kind, limit=last[kind]):
            file.writelines(_lines(batch, "step" if kind == "steps" else "episode"))
            progress(batch.num_rows)
    return Written([], last["steps"], last["episodes"])


def _lines(batch: pa.RecordBatch, kind: str) -> Iterator[str]:
    names = _names_in_events(batch.schema)
    columns: list[list[Any]] = []
    decoded: list[list[Any]] = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        values = column.cast(pa.int64()).to_pylist() if field.type == TIMESTAMP else column.to_pylist()
        if field.name in _REWARDS:
            values = [value if math.isfinite(value) else _WORDS.get(value, "NaN") for value in values]
        columns.append(values)
        decoded.append([v and _json.read(v) for v in values] if field.metadata == JSON_KIND else values)
    for row, plain in zip(zip(*decoded, strict=True), zip(*columns, strict=True), strict=True):
        try:
            yield _line(_event(kind, names, row))
        except RecursionError:  # nested as deep as can just be read: then as the text that came
            yield _line(_event(kind, names, plain))


def _event(kind: str, names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    return {"type": kind} | {name: value for name, value in zip(names, row, strict=True) if value is not None}


def _names_in_events(schema: pa.Schema) -> list[str]:
    """Return what an event calls its columns; a further one named as what makes a line an event is set apart, as those of others are."""
    names: list[str] = []
    for name in schema.names:
        named = "ts_unix_ns" if name == "timestamp" else name
        while name != "timestamp" and (named in EVENT_NAMES or (named != name and named in schema.names)):
            named = f"extra_{named}"
        names.append(named)
    return names


def _line(event: dict[str, Any]) -> str:
    try:
        return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(_finite(event), ensure_ascii=False, separators=(",", ":")) + "\n"


def _finite(value: Any) -> Any:  # noqa: ANN401 - whatever JSON says
    """Return the value with null for numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_finite(held) for held in value]
    return value


# -- reading -----------------------------------------------------------------------------------------------------------


class Source(Protocol):
    """Where recorded runs are read from: a :class:`~live_telemetry_widget.store.Store`, or exported files."""

    def runs(self) -> list[RunRow]:
        """Return the runs in the order in which they were made."""

    def run(self, run_id: str) -> RunRow | None:
        """Return one run, or None."""

    def read(self, run_id: str, kind: Kind) -> Iterator[pa.RecordBatch]:
        """Yield the rows, in order."""

    def read_episode(self, run_id: str, episode: int) -> Sequence[pa.RecordBatch]:
        """Return the steps of the episodes of that number."""

    def close(self) -> None:
        """Close the files."""


class Exported:
    """Runs in exported files.

    Parameters
    ----------
    path
        The steps' file of one run, or a directory of such files.

    Raises
    ------
    RecordingError
        There is no such file, or it is not an export.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        files = [file for file in _tables_in(path) if not _is_beside(file)] if path.is_dir() else [path]
        if not files:
            msg = f"{path} holds neither a recording nor exported runs ({', '.join(f'.{form}' for form in TABLES)})"
            raise RecordingError(msg)
        self._runs: dict[str, tuple[RunRow, pathlib.Path]] = {}
        for file in files:
            run = _run_in(file)
            held = self._runs.setdefault(run.run_id, (run, file))
            if held[1] != file:
                msg = f"{held[1]} and {file} are exports of the same run {run.run_id!r}; open one of them"
                raise RecordingError(msg)

    def runs(self) -> list[RunRow]:
        """Return the runs in the order in which they were made."""
        return sorted((run for run, _ in self._runs.values()), key=lambda run: (run.created_at, run.run_id))

    def run(self, run_id: str) -> RunRow | None:
        """Return one run, or None."""
        held = self._runs.get(run_id)
        return held and held[0]

    def read(self, run_id: str, kind: Kind) -> Iterator[pa.RecordBatch]:
        """Yield the rows, in order."""
        path = self._runs[run_id][1]
        if kind == "episodes":
            path = episodes_path(path)
            if (
                not path.exists() or _kind_in(path) == "steps"
            ):  # somebody was given the steps alone; that is another run's
                return
        for batch in _batches(path):
            schema = unify(CORE[kind], [_ours(batch.schema, CORE[kind])])
            yield _arrow.conform(
                pa.RecordBatch.from_arrays(batch.columns, schema=_ours(batch.schema, CORE[kind])), schema
            )

    def read_episode(self, run_id: str, episode: int) -> Sequence[pa.RecordBatch]:
        """Return the steps of the episodes of that number."""
        return [found for batch in self.read(run_id, "steps") if (found := _arrow.of_episode(batch, episode)).num_rows]

    def close(self) -> None:
        """Do nothing: files are open only while they are read."""


def steps_schema(source: Source, run_id: str) -> pa.Schema:
    """Return the columns that the steps of a run have together, without reading them."""
    if isinstance(source, Store):
        return unify(STEPS, source.schemas(run_id, "steps", source.last_seq(run_id, "steps")))
    first = next(iter(source.read(run_id, "steps")), None)  # the batches of a file are of one schema
    return STEPS if first is None else first.schema


def is_export(path: pathlib.Path) -> bool:
    """Whether the path is that of exported files, as far as names tell."""
    return bool(_tables_in(path)) if path.is_dir() else path.suffix in {f".{form}" for form in TABLES}


def _tables_in(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(file for form in TABLES for file in folder.glob(f"*.{form}"))


def _is_beside(path: pathlib.Path) -> bool:
    """Whether a file of this name is not the one of a run's steps: a run's id may end in ``.episodes`` too."""
    return path.stem.endswith(".episodes") and _kind_in(path) != "steps"


def _schema_of(path: pathlib.Path) -> pa.Schema:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq  # noqa: PLC0415 - heavy, and few need it

            return pq.read_schema(path)
        with pa.ipc.open_file(str(path)) as file:
            return file.schema
    except (OSError, pa.ArrowException) as error:
        msg = f"{path} cannot be read as an exported run: {error}"
        raise RecordingError(msg) from error


def _run_in(path: pathlib.Path) -> RunRow:
    metadata = _schema_of(path).metadata or {}
    if _RUN not in metadata:
        msg = f"{path} is a table, but not a run that `live-telemetry export` has written"
        raise RecordingError(msg)
    if metadata[_KIND] != b"steps":
        msg = f"{path} holds the episodes of a run; open the file of its steps, which lies beside it"
        raise RecordingError(msg)
    try:
        held = _json.parse(metadata[_RUN].decode())
        # What a newer version tells beside them is nothing that this one could use.
        known = {field.name: held[field.name] for field in dataclasses.fields(RunRow) if field.name in held}
        row = RunRow(**known)
    except (*_json.UNREADABLE, TypeError) as error:
        msg = f"{path} tells its run in a way that this version cannot read: {error}"
        raise RecordingError(msg) from error
    if not isinstance(row.run_id, str) or not isinstance(row.status, int) or not isinstance(row.config_json, str):
        msg = f"{path} tells its run in a way that this version cannot read: {metadata[_RUN][:200]!r}"
        raise RecordingError(msg)
    return row


def _batches(path: pathlib.Path) -> Iterator[pa.RecordBatch]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq  # noqa: PLC0415 - heavy, and few need it

        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(_GROUP_ROWS)
    else:
        with pa.ipc.open_file(str(path)) as file:
            for i in range(file.num_record_batches):
                yield file.get_batch(i)


def _ours(schema: pa.Schema, core: pa.Schema) -> pa.Schema:
    """Return the schema of a file without what Parquet notes in it of its own."""
    names = set(core.names)
    fields = []
    for field in schema:
        is_json = (field.metadata or {}).get(b"kind") == b"json"
        plain = pa.field(field.name, field.type, field.nullable, JSON_KIND if is_json else None)
        fields.append(core.field(field.name).with_type(field.type) if field.name in names else plain)
    return pa.schema(fields)
