"""The one place where a column is declared: what a step and an episode are, everywhere.

A batch of steps has :data:`STEPS` columns in that order, then *further columns*: whatever else the worker said of a step
(``q_before``, ``epsilon``, ``state``), each with a type of its own, chosen by :mod:`~live_telemetry_widget.normalize`.
Batches of one run may differ in further columns and their types; :func:`unify` says what they have in common.

Examples
--------
>>> from live_telemetry_widget import schema
>>> schema.STEPS.field("reward").type
DataType(double)
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Final, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT: Final = pa.string()
#: Strings that repeat. int32 indices, because a dictionary of a run's labels is small.
LABEL: Final = pa.dictionary(pa.int32(), pa.string())
TIMESTAMP: Final = pa.timestamp("ns", tz="UTC")

#: Marks a text column that holds JSON documents (a further column whose values are objects, or do not share a type).
JSON_KIND: Final = {b"kind": b"json"}

#: What makes an event of a worker's line, so that no further field can have these names: it gets ``extra_`` before it.
EVENT_NAMES: Final = frozenset({"type", "ts_unix_ns"})

#: A step as sent. Identity is (run_id, worker_id, agent_id, episode, step_index); ``seq_id`` only serves to resume.
STEPS: Final = pa.schema(
    [
        pa.field("run_id", LABEL, nullable=False),
        pa.field("worker_id", LABEL, nullable=False),  # "" where the worker named none
        pa.field("agent_id", LABEL, nullable=False),  # "" where the worker named none
        pa.field("episode", pa.int64(), nullable=False),  # the number the worker gave it: seed + index in many workers
        pa.field("step_index", pa.int64(), nullable=False),  # from 0 in each episode
        pa.field("timestamp", TIMESTAMP),
        pa.field("action", LABEL, metadata=JSON_KIND),  # JSON text as sent; decoded when asked for
        pa.field("observation", TEXT, metadata=JSON_KIND),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("terminated", pa.bool_(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("episode_seed", pa.uint64()),
        pa.field("policy_label", LABEL),
        pa.field("backend", LABEL),
        pa.field("render_hint", TEXT, metadata=JSON_KIND),
        pa.field("frame_ref", TEXT),
        pa.field("payload_version", pa.uint32()),
        pa.field("render_payload", TEXT, metadata=JSON_KIND),
        pa.field("seq_id", pa.uint64(), nullable=False),  # 0: not numbered by a daemon
    ]
)

#: An episode as sent. ``episode`` joins with the steps' (see :func:`~live_telemetry_widget.normalize.align_episodes`).
EPISODES: Final = pa.schema(
    [
        pa.field("run_id", LABEL, nullable=False),
        pa.field("worker_id", LABEL, nullable=False),
        pa.field("agent_id", LABEL, nullable=False),
        pa.field("episode", pa.int64(), nullable=False),
        pa.field("timestamp", TIMESTAMP),
        pa.field("total_reward", pa.float64(), nullable=False),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("terminated", pa.bool_(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("metadata", TEXT, metadata=JSON_KIND),
        pa.field("seq_id", pa.uint64(), nullable=False),
    ]
)


#: The two kinds of rows, steps first: an episode's record is of use when its steps are there.
Kind = Literal["steps", "episodes"]
KINDS: Final[tuple[Kind, Kind]] = ("steps", "episodes")
#: What the column ``outcome`` says.
OUTCOMES: Final = ("Success", "Failed", "Completed", "Timeout", "Running", "Unfinished")
CORE: Final[dict[Kind, pa.Schema]] = {"steps": STEPS, "episodes": EPISODES}


@dataclasses.dataclass(frozen=True, slots=True)
class RunKey:
    """Names one stream of experience: an agent of a worker of a run."""

    run_id: str
    worker_id: str = ""
    agent_id: str = ""


class RunState(enum.StrEnum):
    """Where a run is, in one vocabulary for both generations of daemon."""

    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        """Return the word as a string would: it is one, and notebooks show it."""
        return repr(self.value)

    @property
    def ended(self) -> bool:
        """Whether a run in this state sends nothing more, save what is still under way."""
        return self in {RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED}


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One kind of thing that went wrong with data, as counted by whoever saw it.

    Attributes
    ----------
    kind
        A stable name: ``"bad_json"``, ``"index_out_of_range"``, ``"not_an_event"``, ``"gap"`` ...
    detail
        What a person reads, with the value.
    raw
        The offending text, cut to :data:`RAW_LIMIT` characters; ``""`` where there is none.
    count
        How many times; counters add these up by kind.
    """

    kind: str
    detail: str
    raw: str = ""
    count: int = 1


RAW_LIMIT: Final = 500
#: A further field of an episode's record, a text: why its emitter records nothing more. Also the kind of problem that it is.
STOPPED: Final = "recording_stopped"


def further(schema: pa.Schema, core: pa.Schema) -> list[pa.Field]:
    """Return the fields of `schema` that are not in `core`, in order."""
    names = set(core.names)
    return [field for field in schema if field.name not in names]


def common_type(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """Return the narrowest type that holds the values of both; text (JSON) when nothing narrower does.

    >>> common_type(pa.int64(), pa.float64())
    DataType(double)
    >>> common_type(pa.bool_(), pa.int64())
    DataType(string)
    """
    if left == right or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    numbers = {pa.int64(), pa.float64()}
    if left in numbers and right in numbers:
        return pa.float64()
    if pa.types.is_list(left) and pa.types.is_list(right):
        inner = common_type(left.value_type, right.value_type)
        return TEXT if inner == TEXT else pa.list_(inner)
    return TEXT


def unify(core: pa.Schema, schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Return `core` plus every further field of `schemas`, each with its :func:`common_type`."""
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in further(schema, core):
            held = fields.get(field.name)
            if held is None or pa.types.is_null(held.type):
                fields[field.name] = field
            elif pa.types.is_null(field.type):
                pass  # nulls are of any type, and say nothing of what a text is
            elif (held.type, held.metadata) != (field.type, field.metadata):
                kind = common_type(held.type, field.type)
                # Texts and anything else have only JSON in common, and so have plain texts and JSON texts.
                fields[field.name] = pa.field(field.name, kind, metadata=JSON_KIND if kind == TEXT else None)
    return pa.schema([*core, *fields.values()])
