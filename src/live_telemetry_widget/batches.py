"""Rows on the batched wire: Arrow IPC bytes, and what of a stranger's bytes may enter a run.

Whoever reads a batch has not made it. So what comes is validated, brought to the columns of :mod:`~live_telemetry_widget.schema`, and what cannot be
is counted or refused; nothing in it can raise anything but :class:`BadBatchError`.

Examples
--------
>>> from live_telemetry_widget import normalize
>>> event = {"type": "step", "episode": 0, "step_index": 0, "reward": 1.0, "epsilon": 0.5}
>>> data = encode(normalize.steps_from_events([event], run_id="theirs").batch)
>>> rows = decode(data, "steps", "ours")
>>> rows.batch.select(["run_id", "reward", "epsilon"]).to_pylist(), rows.problems
([{'run_id': 'ours', 'reward': 1.0, 'epsilon': 0.5}], [])
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _arrow, _unpacked
from live_telemetry_widget._further import MAX_COLUMNS, plain
from live_telemetry_widget.proto import telemetry_pb2
from live_telemetry_widget.schema import CORE, EVENT_NAMES, JSON_KIND, KINDS, LABEL, TEXT, Kind, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

Compression = Literal["none", "zstd", "lz4"]
#: The wire's numbers for the kinds of rows, and for what packs them.
KIND_NUMBERS: Final[dict[str, telemetry_pb2.RowKind]] = {
    "steps": telemetry_pb2.ROW_KIND_STEPS,
    "episodes": telemetry_pb2.ROW_KIND_EPISODES,
}
KIND_NAMES: Final[dict[telemetry_pb2.RowKind, Kind]] = {KIND_NUMBERS[kind]: kind for kind in KINDS}
COMPRESSION_NUMBERS: Final[dict[Compression, telemetry_pb2.Compression]] = {
    "none": telemetry_pb2.COMPRESSION_NONE,
    "zstd": telemetry_pb2.COMPRESSION_ZSTD,
    "lz4": telemetry_pb2.COMPRESSION_LZ4,
}
COMPRESSION_NAMES: Final = {number: name for name, number in COMPRESSION_NUMBERS.items()}
#: A message holds at most so many rows, or bytes before compression.
MAX_ROWS: Final = 65_536
MAX_BYTES: Final = 16 * 1024 * 1024
#: What unpacks to more than this is refused, whatever its size on the wire.
MAX_DECODED: Final = 256 * 1024 * 1024

_OPTIONS: Final = {
    "none": pa.ipc.IpcWriteOptions(),
    "zstd": pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False),
    "lz4": pa.ipc.IpcWriteOptions(compression=pa.Codec("lz4"), use_threads=False),
}
#: A message is kept as it is when it is so many times smaller than what it says: then it was packed, and there is nothing behind its rows.
_PACKED: Final = 2
#: Counting numbers: a row without them is no row.
_INDICES: Final = {"steps": ("episode", "step_index"), "episodes": ("episode", "steps")}
_ABSENT: Final = {pa.bool_(): False, pa.float64(): float("nan"), pa.uint64(): 0}


class BadBatchError(ValueError):
    """Bytes that are no batch of rows; the message says why."""


class Rows(NamedTuple):
    """A batch in the columns of its kind, what was wrong with what it was made of, and how many rows that had.

    Attributes
    ----------
    data
        The message that it was, when that says the same, packed, save for the run's name and the rows' numbers.
    """

    batch: pa.RecordBatch
    problems: list[Problem]
    received: int
    data: bytes | None = None


def encode(batch: pa.RecordBatch, compression: Compression = "none") -> bytes:
    """Return a batch as an IPC stream."""
    data: bytes = _arrow.to_stream(batch, _OPTIONS[compression]).to_pybytes()
    return data


def compression_for(address: str) -> Compression:
    """Return how batches to or from ``"host:port"`` are packed: not at all on one machine, where bytes cost less than packing them.

    >>> compression_for("127.0.0.1:50055"), compression_for("[::1]:50055"), compression_for("trainer:50055")
    ('none', 'none', 'zstd')
    """
    host = address.rpartition(":")[0].strip("[]")
    return "none" if host in {"localhost", "::1"} or host.startswith("127.") else "zstd"


def parts(batch: pa.RecordBatch, most: int = MAX_ROWS) -> Iterator[pa.RecordBatch]:
    """Cut a batch that one message cannot hold."""
    rows = max(1, min(most, MAX_BYTES * batch.num_rows // max(batch.nbytes, 1)))
    if rows >= batch.num_rows:
        yield batch
        return
    for offset in range(0, batch.num_rows, rows):
        yield batch.slice(offset, rows)


def unpack(data: bytes) -> pa.RecordBatch:
    """Return the batch of an IPC stream of our own, as it is; a stranger's goes through :func:`decode`."""
    return _arrow.from_stream(data)


def weight(data: bytes) -> int:
    """Return how many bytes an IPC stream is once it is unpacked; as it is when it is none."""
    try:
        return _unpacked.size(data)
    except pa.ArrowException:
        return len(data)


def fits(data: bytes, rows: int) -> bool:
    """Whether one message may hold an IPC stream of so many rows.

    Raises
    ------
    pyarrow.ArrowInvalid
        It is none.
    """
    return rows <= MAX_ROWS and _unpacked.size(data) <= MAX_BYTES


def decode(data: bytes, kind: Kind, run_id: str, skip: int = 0) -> Rows:
    """Return the rows of a message without the first `skip`, as rows of `run_id`.

    Raises
    ------
    BadBatchError
        They are none.
    """
    try:
        size = _unpacked.size(data)
        _check_size(size)
        batch = _arrow.from_stream(data)
        # Offsets that point outside, indices beyond their dictionary, texts that are none. Before anything else is asked
        # of the batch: its size alone, asked of offsets that lie, is a segmentation fault.
        batch.validate(full=True)
        if batch.num_rows > MAX_ROWS:
            msg = f"a batch of {batch.num_rows:,} rows; send at most {MAX_ROWS:,} at once"
            raise BadBatchError(msg)
        schema = _schema_of_ours(batch, kind)
        if schema is not None:
            columns = batch.columns
            columns[0] = _arrow.constant(run_id, batch.num_rows)
            ours = pa.RecordBatch.from_arrays(columns, schema=schema)
            same = batch.schema.equals(schema, check_metadata=True)
            packed = data if same and not skip and len(data) * _PACKED <= size else None
            return Rows(ours.slice(skip), [], batch.num_rows, packed)
        held, problems = _conform(batch.slice(skip), kind, run_id)
        return Rows(held, problems, batch.num_rows)
    except StopIteration:
        msg = "an Arrow stream without a batch"
        raise BadBatchError(msg) from None
    except (pa.ArrowException, MemoryError, OSError, UnicodeDecodeError, OverflowError) as error:
        msg = f"not an Arrow stream of {kind}: {type(error).__name__}: {error}"
        raise BadBatchError(msg[:500]) from None


def _check_size(nbytes: int) -> None:
    if nbytes > MAX_DECODED:
        msg = f"a batch of {nbytes:,} bytes is over the limit of {MAX_DECODED:,}"
        raise BadBatchError(msg)


def _conform(batch: pa.RecordBatch, kind: Kind, run_id: str) -> tuple[pa.RecordBatch, list[Problem]]:
    core = CORE[kind]
    problems: list[Problem] = []
    names = batch.schema.names
    if len(set(names)) != len(names):
        msg = "a batch with two columns of one name"
        raise BadBatchError(msg)
    batch = _with_indices(batch, kind, problems)
    count = batch.num_rows
    run = _arrow.constant(run_id, count)
    arrays: list[pa.Array] = []
    for field in core:
        at = batch.schema.get_field_index(field.name)
        if field.name == "run_id":
            arrays.append(run)
        elif field.name == "seq_id":
            arrays.append(
                batch.column(at)
                if at >= 0 and batch.column(at).type == field.type and not batch.column(at).null_count
                else pa.array(np.zeros(count, np.uint64))
            )
        else:
            arrays.append(_core_column(batch.column(at) if at >= 0 else pa.nulls(count, field.type), field))
    fields: list[pa.Field] = list(core)
    held = set(core.names)
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if field.name in held:
            continue
        if len(fields) - len(core) >= MAX_COLUMNS:
            problems.append(
                Problem("too_many_fields", f"more than {MAX_COLUMNS} further columns; {field.name!r} was left out")
            )
            continue
        made, array = _further_column(field, column)
        if made.name in EVENT_NAMES:
            made = made.with_name(_apart(made.name, names))
        fields.append(made)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)), problems


def _apart(name: str, names: list[str]) -> str:
    """Return the name under which a further column is taken in that has one of an event's own."""
    while name in names or name in EVENT_NAMES:
        name = f"extra_{name}"
    return name


def _schema_of_ours(batch: pa.RecordBatch, kind: Kind) -> pa.Schema | None:
    """Return the schema of a batch in which nothing is to be changed but the name of its run; None of another.

    What our own publishers and daemons send is such, and the look at each column is most of what a small batch costs.
    """
    core, held = CORE[kind], batch.schema
    number = len(core)
    usual = (
        held.names[:number] == core.names
        and held.types[:number] == core.types
        and len(held) - number <= MAX_COLUMNS
        and len(set(held.names)) == len(held)
        and EVENT_NAMES.isdisjoint(held.names)
        and all(field.metadata in (None, JSON_KIND) for field in held if field.type == TEXT)
        and all(kind == TEXT or _is_usual(kind) for kind in held.types[number:])
    )
    if not usual or any(_lacks_some(batch.column(at), field) for at, field in enumerate(core)):
        return None
    if batch.num_rows and any(pc.min(batch.column(name)).as_py() < 0 for name in _INDICES[kind]):
        return None
    # What a column of ours is called and is; a stranger may have said more of it.
    further = [
        pa.field(field.name, field.type, metadata=field.metadata if field.type == TEXT else None)
        for field in list(held)[number:]
    ]
    return pa.schema([*core, *further])


def _lacks_some(column: pa.Array, field: pa.Field) -> bool:
    return bool((column.null_count and not field.nullable) or (field.type == LABEL and column.dictionary.null_count))


def _with_indices(batch: pa.RecordBatch, kind: Kind, problems: list[Problem]) -> pa.RecordBatch:
    """Return the rows that have counting numbers for their place."""
    for name in _INDICES[kind]:
        at = batch.schema.get_field_index(name)
        if at < 0 or not pa.types.is_integer(batch.schema.field(at).type):
            msg = f"{kind} need a column {name!r} of integers; these have {'none' if at < 0 else batch.schema.field(at).type}"
            raise BadBatchError(msg)
        column = batch.column(at)
        # Compared as what it is: a large uint64 is no int64, and an error for it would refuse the rows beside it.
        good = (
            pc.less_equal(column, pa.scalar(2**63 - 1, pa.uint64()))
            if column.type == pa.uint64()
            else pc.greater_equal(column, 0)
        )
        good = pc.fill_null(good, fill_value=False)
        wrong = len(column) - (pc.sum(good).as_py() or 0)
        if wrong:
            problems.append(
                Problem(
                    "index_out_of_range", f"{name} is absent or no counting number; the row is left out", count=wrong
                )
            )
            batch = batch.filter(good)
    return batch


def _core_column(column: pa.Array, field: pa.Field) -> pa.Array:
    if column.type != field.type:
        _check_flat(column)
        column = _labels(column) if field.type == LABEL else column.cast(field.type)
    elif field.type == LABEL and column.dictionary.null_count:
        # A label that is missing stands in the dictionary, where nothing that reads labels looks for it.
        _check_flat(column)
        column = _labels(column)
    if field.nullable or not column.null_count:
        return column
    if field.type == LABEL:
        return pc.fill_null(column.cast(TEXT), "").cast(LABEL)
    return pc.fill_null(column, _ABSENT[field.type])


def _labels(column: pa.Array) -> pa.Array:
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), LABEL)
    return column.cast(TEXT).cast(LABEL)


def _further_column(field: pa.Field, column: pa.Array) -> tuple[pa.Field, pa.Array]:
    """Return a further column in one of the types that they have here; anything else as JSON texts."""
    kind = field.type
    metadata = None
    if kind == TEXT:
        metadata = JSON_KIND if field.metadata and field.metadata.get(b"kind") == b"json" else None
    elif not _is_usual(kind):
        wider = _wider(kind)
        if wider is None:
            kind, metadata, column = TEXT, JSON_KIND, _json_texts(column)
        else:
            _check_flat(column)
            kind, column = wider, column.cast(wider)
    return pa.field(field.name, kind, metadata=metadata), column


def _json_texts(column: pa.Array) -> pa.Array:
    """Return each value as JSON; one by one, because a type may say the same large value many times."""
    texts: list[str | None] = []
    total = 0
    for value in column:
        held = value.as_py()
        text = None if held is None else json.dumps(held, ensure_ascii=False, default=plain)
        total += len(text or "")
        _check_size(total)
        texts.append(text)
    return pa.array(texts, TEXT)


def _check_flat(column: pa.Array) -> None:
    """Refuse what would become too large as plain values: a large text that many rows share."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type):
            sizes = pc.binary_length(column.dictionary).cast(pa.int64())
            _check_size(pc.sum(sizes.take(column.indices)).as_py() or 0)
            return
        kind = kind.value_type
    if pa.types.is_nested(kind) or pa.types.is_run_end_encoded(kind) or "view" in str(kind):
        msg = f"a column of type {column.type} stands where plain values are wanted"
        raise BadBatchError(msg)


def _is_usual(kind: pa.DataType) -> bool:
    """Whether further columns have this type: truth values, numbers, and lists of them."""
    if pa.types.is_list(kind):
        return _is_usual(kind.value_type)
    return kind in {pa.bool_(), pa.int64(), pa.float64(), pa.null()}


def _wider(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of further columns that holds all values of another; None where none does."""
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_large_string(kind) or (pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)):
        return TEXT
    return None
