"""Messages, JSON events and Arrow batches, turned into one another, column by column.

Every function is pure. Nothing that a worker or daemon can send makes one raise: a row that cannot be kept is left out and
counted, a value that cannot be kept is null and counted; either way with the raw text in a
:class:`~live_telemetry_widget.schema.Problem`.

Examples
--------
>>> from live_telemetry_widget import normalize
>>> event = {"type": "step", "episode": 3, "step_index": 0, "action": 1, "reward": 0.5, "epsilon": 0.9}
>>> batch, problems = normalize.steps_from_events([event], run_id="r")
>>> batch.column("epsilon").to_pylist(), problems
([0.9], [])
"""

from __future__ import annotations

import json
import math
import operator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from live_telemetry_widget import _further
from live_telemetry_widget._further import cut, to_json
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.schema import EPISODES, LABEL, STEPS, TEXT, TIMESTAMP, Problem, further

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: What a worker's line may be an event of; any other line is not for us.
EVENT_TYPES: Final = frozenset({"run_started", "step", "episode", "artifact", "run_completed"})

_INT64_MAX: Final = 2**63 - 1
_UINT64_MAX: Final = 2**64 - 1
_UINT32_MAX: Final = 2**32 - 1
_NANOS: Final = 1_000_000_000
_MAX_SECONDS: Final = _INT64_MAX // _NANOS - 1
_NAMES_OF_BOTH: Final = frozenset({"type", "ts_unix_ns", "run_id", "episode", "agent_id", "worker_id", "seq_id"})
#: What a step event says in core columns; every other name is a further field.
_STEP_NAMES: Final = _NAMES_OF_BOTH | {
    "step_index",
    "action",
    "observation",
    "reward",
    "terminated",
    "truncated",
    "episode_seed",
    "policy_label",
    "backend",
    "render_hint",
    "frame_ref",
    "payload_version",
    "render_payload",
}
_EPISODE_NAMES: Final = _NAMES_OF_BOTH | {"reward", "total_reward", "steps", "terminated", "truncated", "metadata"}


class Batch(NamedTuple):
    """What came of some messages or events: the rows kept, in order, and what was wrong with the others."""

    batch: pa.RecordBatch
    problems: list[Problem]


class Parsed(NamedTuple):
    """Messages that came of some bytes, and what was wrong with the others."""

    messages: list[Any]
    problems: list[Problem]


def parse_line(line: bytes | str) -> dict[str, Any] | None:
    """Return the event that a line of a worker's output is, or None when it is not one.

    >>> parse_line(b'{"type": "artifact", "path": "p"}')
    {'type': 'artifact', 'path': 'p'}
    >>> parse_line(b"Episode 3 finished!") is None
    True
    """
    text = line.strip()
    if text[:1] not in {b"{", "{"}:
        return None
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    kind = event.get("type")
    return event if isinstance(kind, str) and kind in EVENT_TYPES else None


# -- bytes to messages -------------------------------------------------------------------------------------------------


def parse_messages(kind: type[trainer_pb2.RunStep | trainer_pb2.RunEpisode], raws: Iterable[bytes]) -> Parsed:
    """Return the messages that can be parsed; what cannot (text that is not UTF-8, cut bytes) is counted and kept raw."""
    messages: list[Any] = []
    problems: list[Problem] = []
    for raw in raws:
        try:
            messages.append(kind.FromString(raw))
        except DecodeError as error:
            problems.append(
                Problem("bad_message", f"a {kind.DESCRIPTOR.name} that cannot be parsed: {error}", cut(raw))
            )
    return Parsed(messages, problems)


# -- messages to batches -----------------------------------------------------------------------------------------------


#: What is read of each message, in one call: the way from a message to its values is what a step costs most.
_STEP_FIELDS: Final = (
    "run_id",
    "worker_id",
    "agent_id",
    "episode_index",
    "step_index",
    "timestamp",
    "action_json",
    "observation_json",
    "reward",
    "terminated",
    "truncated",
    "episode_seed",
    "policy_label",
    "backend",
    "render_hint_json",
    "frame_ref",
    "payload_version",
    "render_payload_json",
    "seq_id",
    "extras_json",
)
_EPISODE_FIELDS: Final = (
    "run_id",
    "worker_id",
    "agent_id",
    "episode_index",
    "timestamp",
    "total_reward",
    "steps",
    "terminated",
    "truncated",
    "metadata_json",
    "seq_id",
    "extras_json",
)
_of_step: Final = operator.attrgetter(*_STEP_FIELDS)
_of_episode: Final = operator.attrgetter(*_EPISODE_FIELDS)


def steps_from_messages(messages: Sequence[trainer_pb2.RunStep]) -> Batch:
    """Return RunStep messages as a batch of :data:`~live_telemetry_widget.schema.STEPS` and further columns."""
    problems: list[Problem] = []
    values = _columns(messages, _of_step, _STEP_FIELDS)
    if any(max(values[name], default=0) > _INT64_MAX for name in ("episode_index", "step_index")):
        kept = [m for m in messages if m.episode_index <= _INT64_MAX and m.step_index <= _INT64_MAX]
        problems += [
            Problem("index_out_of_range", f"episode {m.episode_index}, step {m.step_index}: beyond 2^63", cut(m))
            for m in messages
            if m.episode_index > _INT64_MAX or m.step_index > _INT64_MAX
        ]
        messages, values = kept, _columns(kept, _of_step, _STEP_FIELDS)
    seeds = values["episode_seed"]
    if not any(seeds) and not any(m.HasField("episode_seed") for m in messages):
        seed = pa.nulls(len(seeds), pa.uint64())
    else:
        told = [v if v or m.HasField("episode_seed") else None for v, m in zip(seeds, messages, strict=True)]
        seed = pa.array(told, pa.uint64())
    core = [
        _labels(values["run_id"]),
        _labels(values["worker_id"]),
        _labels(values["agent_id"]),
        pa.array(values["episode_index"], pa.int64()),
        pa.array(values["step_index"], pa.int64()),
        _timestamps(messages, values["timestamp"], problems),
        _told(values["action_json"], LABEL),
        _told(values["observation_json"], TEXT),
        _rewards(values["reward"], problems),
        pa.array(values["terminated"], pa.bool_()),
        pa.array(values["truncated"], pa.bool_()),
        seed,
        _told(values["policy_label"], LABEL),
        _told(values["backend"], LABEL),
        _told(values["render_hint_json"], TEXT),
        _told(values["frame_ref"], TEXT),
        _told(values["payload_version"], pa.uint32()),
        _told(values["render_payload_json"], TEXT),
        pa.array(values["seq_id"], pa.uint64()),
    ]
    extras = _further.parse_objects(values["extras_json"], problems, "extras_json")
    return _assemble(STEPS, core, extras, problems)


def episodes_from_messages(messages: Sequence[trainer_pb2.RunEpisode]) -> Batch:
    """Return RunEpisode messages as a batch of :data:`~live_telemetry_widget.schema.EPISODES` and further columns."""
    problems: list[Problem] = []
    kept = [m for m in messages if m.episode_index <= _INT64_MAX and m.steps <= _INT64_MAX]
    if len(kept) != len(messages):
        problems += [
            Problem("index_out_of_range", f"episode {m.episode_index}, {m.steps} steps: beyond 2^63", cut(m))
            for m in messages
            if m.episode_index > _INT64_MAX or m.steps > _INT64_MAX
        ]
    values = _columns(kept, _of_episode, _EPISODE_FIELDS)
    core = [
        _labels(values["run_id"]),
        _labels(values["worker_id"]),
        _labels(values["agent_id"]),
        pa.array(values["episode_index"], pa.int64()),
        _timestamps(kept, values["timestamp"], problems),
        _rewards(values["total_reward"], problems),
        pa.array(values["steps"], pa.int64()),
        pa.array(values["terminated"], pa.bool_()),
        pa.array(values["truncated"], pa.bool_()),
        _told(values["metadata_json"], TEXT),
        pa.array(values["seq_id"], pa.uint64()),
    ]
    extras = _further.parse_objects(values["extras_json"], problems, "extras_json")
    return _assemble(EPISODES, core, extras, problems)


def _columns(
    messages: Sequence[Any], of: Callable[[Any], tuple[Any, ...]], names: Sequence[str]
) -> dict[str, tuple[Any, ...]]:
    """Return what the messages say, by field."""
    if not messages:
        return dict.fromkeys(names, ())
    return dict(zip(names, zip(*map(of, messages), strict=True), strict=True))


def _told(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    """Return values that are null where nothing was said: "" and 0."""
    if not any(values):
        return pa.nulls(len(values), kind)
    return pa.array(values if all(values) else [value or None for value in values], kind)


def _rewards(values: tuple[float, ...], problems: list[Problem]) -> pa.Array:
    rewards = np.array(values, np.float64)
    finite = np.isfinite(rewards)
    if not finite.all():
        wrong = rewards[~finite].tolist()
        problems.append(Problem("not_finite", f"reward is {wrong[-1]}", count=len(wrong)))
    return pa.array(rewards)


def _timestamps(messages: Sequence[Any], stamps: tuple[Any, ...], problems: list[Problem]) -> pa.Array:
    """Return the messages' timestamps in nanoseconds since 1970; null where absent or beyond 64 bits."""
    seconds = np.array([stamp.seconds for stamp in stamps], np.int64)
    nanos = np.array([stamp.nanos for stamp in stamps], np.int64)
    null = (seconds < -_MAX_SECONDS) | (seconds > _MAX_SECONDS)
    if null.any():
        problems += [
            Problem("bad_timestamp", f"{wrong} s since 1970 is beyond the years 1678 to 2262")
            for wrong in seconds[null].tolist()
        ]
        seconds = np.where(null, 0, seconds)
    # One that is absent reads as 1970.
    for at in np.flatnonzero((seconds == 0) & (nanos == 0)).tolist():
        null[at] |= not messages[at].HasField("timestamp")
    return pa.array(seconds * _NANOS + nanos, mask=null).view(TIMESTAMP)


# -- events to batches -------------------------------------------------------------------------------------------------


def steps_from_events(
    events: Sequence[Mapping[str, Any]], *, run_id: str = "", agent_id: str = "", worker_id: str = ""
) -> Batch:
    """Return step events (parsed JSON lines, or dicts of the same names) as a batch of steps.

    Parameters
    ----------
    events
        Mappings with the names of the workers' step events; ``episode_index`` stands in where ``episode`` is absent.
    run_id
        Used for all rows when given, since a proxy knows better than its worker; else each event's own.
    agent_id, worker_id
        Used where an event names none.
    """
    problems: list[Problem] = []
    rows: list[tuple[Any, ...]] = []
    extras: list[Mapping[str, Any]] = []
    for event in events:
        episode = index_of(event.get("episode", event.get("episode_index")))
        step_index = index_of(event.get("step_index"))
        if episode is None or step_index is None:
            where = f"episode {event.get('episode')!r}, step_index {event.get('step_index')!r}"
            problems.append(Problem("bad_index", f"{where}: not counting numbers; the step is left out", _raw(event)))
            continue
        rows.append(
            (
                run_id or _text(event.get("run_id")),
                _text(event.get("worker_id")) or worker_id,
                _text(event.get("agent_id")) or agent_id,
                episode,
                step_index,
                _event_time(event, problems),
                _json_or_none(event.get("action")),
                _json_or_none(event.get("observation")),
                _number(event.get("reward"), "reward", event, problems),
                bool(event.get("terminated")),
                bool(event.get("truncated")),
                _bounded(event.get("episode_seed"), _UINT64_MAX, "episode_seed", event, problems),
                _text(event.get("policy_label")) or None,
                _text(event.get("backend")) or None,
                _json_or_none(event.get("render_hint")),
                _text(event.get("frame_ref")) or None,
                _bounded(event.get("payload_version"), _UINT32_MAX, "payload_version", event, problems) or None,
                _json_or_none(event.get("render_payload")),
                _bounded(event.get("seq_id"), _UINT64_MAX, "seq_id", event, problems) or 0,
            )
        )
        extras.append({k: v for k, v in event.items() if k not in _STEP_NAMES})
    return _assemble(STEPS, _transpose(STEPS, rows, problems), extras, problems)


def episodes_from_events(
    events: Sequence[Mapping[str, Any]], *, run_id: str = "", agent_id: str = "", worker_id: str = ""
) -> Batch:
    """Return episode events as a batch of episodes; parameters as in :func:`steps_from_events`.

    The event's ``episode`` (the number its steps carry) is the batch's, whatever ``metadata.episode_index`` counts.
    """
    problems: list[Problem] = []
    rows: list[tuple[Any, ...]] = []
    extras: list[Mapping[str, Any]] = []
    for event in events:
        episode = index_of(event.get("episode", event.get("episode_index")))
        steps = index_of(event.get("steps", 0))
        if episode is None or steps is None:
            where = f"episode {event.get('episode')!r}, steps {event.get('steps')!r}"
            detail = f"{where}: not counting numbers; the episode is left out"
            problems.append(Problem("bad_index", detail, _raw(event)))
            continue
        total = event.get("total_reward", event.get("reward"))
        rows.append(
            (
                run_id or _text(event.get("run_id")),
                _text(event.get("worker_id")) or worker_id,
                _text(event.get("agent_id")) or agent_id,
                episode,
                _event_time(event, problems),
                _number(total, "total_reward", event, problems),
                steps,
                bool(event.get("terminated")),
                bool(event.get("truncated")),
                _json_or_none(event.get("metadata")),
                _bounded(event.get("seq_id"), _UINT64_MAX, "seq_id", event, problems) or 0,
            )
        )
        extras.append({k: v for k, v in event.items() if k not in _EPISODE_NAMES})
    return _assemble(EPISODES, _transpose(EPISODES, rows, problems), extras, problems)


def index_of(value: object) -> int | None:
    """Return a counting number below 2^63, or None."""
    value = _whole(value)
    return value if value is not None and 0 <= value <= _INT64_MAX else None


def _whole(value: object) -> int | None:
    """Return a whole number, Python's or NumPy's, as an int; None for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _bounded(value: object, top: int, name: str, event: Mapping[str, Any], problems: list[Problem]) -> int | None:
    if value is None:
        return None
    number = None if isinstance(value, float) else _whole(value)
    if number is not None and 0 <= number <= top:
        return number
    problems.append(Problem("out_of_range", f"{name} {cut(value)!r} is not within 0 to {top}; left null", _raw(event)))
    return None


def _number(value: object, name: str, event: Mapping[str, Any], problems: list[Problem]) -> float:
    """Return a float; NaN, and a count, for what is no number."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        problems.append(Problem("bad_number", f"{name} is {cut(value)!r}, no number; shown as NaN", _raw(event)))
        return math.nan
    if isinstance(value, str):
        problems.append(Problem("bad_number", f"{name} is the text {cut(value)!r}; read as a number", _raw(event)))
    if not math.isfinite(number):
        problems.append(Problem("not_finite", f"{name} is {number}", _raw(event)))
    return number


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else to_json(value)


def _json_or_none(value: object) -> str | None:
    return None if value is None else to_json(value)


def _raw(event: Mapping[str, Any]) -> str:
    return cut(to_json(dict(event)))


def _event_time(event: Mapping[str, Any], problems: list[Problem]) -> int | None:
    value = event.get("ts_unix_ns")
    if value is None:
        return None
    number = None if isinstance(value, float) else _whole(value)
    if number is not None and -_INT64_MAX <= number <= _INT64_MAX:
        return number
    problems.append(Problem("bad_timestamp", f"ts_unix_ns is {cut(value)!r}, not nanoseconds since 1970", _raw(event)))
    return None


def _transpose(schema: pa.Schema, rows: list[tuple[Any, ...]], problems: list[Problem]) -> list[pa.Array]:
    values: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [() for _ in schema]
    arrays: list[pa.Array] = []
    for field, column in zip(schema, values, strict=True):
        try:
            arrays.append(pa.array(column, field.type))
        except UnicodeEncodeError:
            problems.append(Problem("bad_text", f"{field.name} is not valid Unicode; what is invalid was replaced"))
            arrays.append(pa.array([v if v is None else _further.clean(v) for v in column], field.type))
    return arrays


# -- both ------------------------------------------------------------------------------------------------------------


def _labels(values: tuple[str, ...]) -> pa.Array:
    if values and values.count(values[0]) == len(values):
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(values), np.int32)), pa.array(values[:1], TEXT))
    return pa.array(values, LABEL)


def _assemble(
    core_schema: pa.Schema, core: list[pa.Array], extras: Sequence[Mapping[str, Any]], problems: list[Problem]
) -> Batch:
    fields, arrays = _further.columns(extras, core_schema.names, problems)
    return Batch(pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*core_schema, *fields])), problems)


# -- batches to messages -----------------------------------------------------------------------------------------------


def step_messages(batch: pa.RecordBatch) -> list[trainer_pb2.RunStep]:
    """Return the rows as RunStep messages; undoes :func:`steps_from_messages` byte for byte in the fields of the wire."""
    column = {name: batch.column(name).to_pylist() for name in STEPS.names if name != "timestamp"}
    stamps = batch.column("timestamp").cast(pa.int64()).to_pylist()
    extras = _extras(batch, STEPS)
    messages: list[trainer_pb2.RunStep] = []
    for i in range(batch.num_rows):
        message = trainer_pb2.RunStep(
            run_id=column["run_id"][i],
            worker_id=column["worker_id"][i],
            agent_id=column["agent_id"][i],
            episode_index=column["episode"][i],
            step_index=column["step_index"][i],
            action_json=column["action"][i],
            observation_json=column["observation"][i],
            reward=column["reward"][i],
            terminated=column["terminated"][i],
            truncated=column["truncated"][i],
            episode_seed=column["episode_seed"][i],
            policy_label=column["policy_label"][i],
            backend=column["backend"][i],
            render_hint_json=column["render_hint"][i],
            frame_ref=column["frame_ref"][i],
            payload_version=column["payload_version"][i],
            render_payload_json=column["render_payload"][i],
            seq_id=column["seq_id"][i],
            extras_json=extras[i],
        )
        _stamp(message, stamps[i])
        messages.append(message)
    return messages


def episode_messages(batch: pa.RecordBatch) -> list[trainer_pb2.RunEpisode]:
    """Return the rows as RunEpisode messages; undoes :func:`episodes_from_messages`."""
    column = {name: batch.column(name).to_pylist() for name in EPISODES.names if name != "timestamp"}
    stamps = batch.column("timestamp").cast(pa.int64()).to_pylist()
    extras = _extras(batch, EPISODES)
    messages: list[trainer_pb2.RunEpisode] = []
    for i in range(batch.num_rows):
        message = trainer_pb2.RunEpisode(
            run_id=column["run_id"][i],
            worker_id=column["worker_id"][i],
            agent_id=column["agent_id"][i],
            episode_index=column["episode"][i],
            total_reward=column["total_reward"][i],
            steps=column["steps"][i],
            terminated=column["terminated"][i],
            truncated=column["truncated"][i],
            metadata_json=column["metadata"][i],
            seq_id=column["seq_id"][i],
            extras_json=extras[i],
        )
        _stamp(message, stamps[i])
        messages.append(message)
    return messages


def _stamp(message: Any, nanoseconds: int | None) -> None:  # noqa: ANN401 - either message
    if nanoseconds is not None:
        stamp = message.timestamp
        stamp.seconds, stamp.nanos = divmod(nanoseconds, _NANOS)
        stamp.SetInParent()


def _extras(batch: pa.RecordBatch, core: pa.Schema) -> list[str]:
    fields = further(batch.schema, core)
    arrays = [batch.column(field.name) for field in fields]
    return _further.to_texts(fields, arrays, core.names, batch.num_rows)


# -- episodes and their metadata ---------------------------------------------------------------------------------------


def align_episodes(batch: pa.RecordBatch) -> Batch:
    """Return a batch of episodes with their metadata as further columns, numbered as their steps are.

    Workers name a step's episode by a display number (seed + index), while an episode record may count from 0
    (``metadata.episode_index``) and say the display number as ``metadata.episode``. Where it does, that number wins, so that
    steps and episodes join on ``episode``. The metadata text itself is kept.
    """
    metadata = batch.column("metadata")
    if metadata.null_count == len(metadata):
        return Batch(batch, [])
    problems: list[Problem] = []
    texts = [text or "" for text in metadata.to_pylist()]
    rows = _further.parse_objects(texts, problems, "metadata_json")
    numbers = batch.column("episode").to_pylist()
    for i, row in enumerate(rows):
        named = index_of(row.get("episode"))
        if named is not None:
            numbers[i] = named
    held = set(batch.schema.names)
    # What the record says itself (agent_id, run_id) needs no second column, nor does what the event's own fields say.
    extras = [{k: v for k, v in row.items() if k not in held} for row in rows]
    fields, arrays = _further.columns(extras, held, problems)
    at = batch.schema.get_field_index("episode")
    aligned = batch.set_column(at, batch.schema.field(at), pa.array(numbers, pa.int64()))
    schema = pa.schema([*aligned.schema, *fields])
    return Batch(pa.RecordBatch.from_arrays([*aligned.columns, *arrays], schema=schema), problems)
