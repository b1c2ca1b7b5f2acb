"""Batches of steps: those of one agent or of many, told one by one, many at once, or by a vector environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from live_telemetry_widget import _arrow, _further, normalize
from live_telemetry_widget.schema import LABEL, STEPS, TIMESTAMP, Problem
from live_telemetry_widget.worker.manners import Columns
from live_telemetry_widget.worker.records import Block, Remembering
from live_telemetry_widget.worker.values import (
    NOT_OF_A_KIND,
    Texts,
    Values,
    action_labels,
    column_labels,
    labels,
    summary,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from live_telemetry_widget.worker import bulk

_TEXTS: Final = ("policy_label", "backend", "frame_ref")
_JSON: Final = ("render_hint",)
_COUNTS: Final = ("episode_seed", "payload_version")
_OWN: Final = frozenset({*_TEXTS, *_JSON, *_COUNTS, "render_payload", "worker_id"})
_NOTHING: Final[dict[str, Any]] = {}
#: Places in a step.
_OBSERVATION, _FURTHER, _DRAWING, _FINAL = 3, 9, 10, 11
_CORE: Final = 6


class StepRows(NamedTuple):
    """Steps that were counted, column by column; a worker or agent that is the same for all is named once."""

    columns: Columns
    workers: list[str] | str
    agents: list[str] | str
    episodes: Sequence[int] | np.ndarray[Any, Any]
    indices: Sequence[int] | np.ndarray[Any, Any]


class StepBatches:
    """Makes batches of steps that were counted.

    Parameters
    ----------
    run_id, worker_id
        Of all of them; blocks name no worker.
    summary
        Tell of an observation only its shape, type, least, greatest and mean value.
    values
        Makes the columns, and counts what is wrong.
    """

    def __init__(self, run_id: str, worker_id: str, *, summary: bool, values: Values) -> None:
        self._run_id = run_id
        self._worker_id = worker_id
        self._summary = summary
        self._values = values

    def steps(self, steps: StepRows) -> pa.RecordBatch:
        """Return steps that were told one by one as a batch."""
        columns = steps.columns
        extras = None if columns.further is None else [fields or _NOTHING for fields in columns.further]
        if self._summary:
            columns.core[_OBSERVATION] = [summary(value) for value in columns.core[_OBSERVATION]]
        payloads = self._painted(steps, extras)
        try:
            return self._at_once(steps, extras, payloads)
        except NOT_OF_A_KIND:
            return self._one_by_one(steps, extras, payloads)

    def _painted(self, steps: StepRows, extras: Sequence[dict[str, Any]] | None) -> Sequence[Any] | None:
        """Return the render payloads, made where that was left to us; None when there are none."""
        drawings = steps.columns.drawings
        if drawings is None:
            return None if extras is None else [fields.get("render_payload") for fields in extras]
        actions, terminated, truncated = (steps.columns.core[at] for at in (1, 4, 5))
        painters = {None if drawing is None else drawing[0] for drawing in drawings}
        if len(painters) == 1 and isinstance(painter := painters.pop(), Remembering):
            subjects = [drawing[1] for drawing in drawings]
            made = painter.remembered(subjects, actions, terminated, truncated)
            if None not in made:
                return Texts(made)
        found: list[Any] = []
        for drawing, action, ends, cut_off in zip(drawings, actions, terminated, truncated, strict=True):
            if drawing is None:
                found.append(None)
                continue
            painter, subject = drawing
            try:
                found.append(painter.paint(subject, action, ends, cut_off))
            except Exception as error:  # noqa: BLE001 - a painter reads an environment of anybody's making
                self._values.count([Problem("bad_payload", f"a render payload cannot be made: {error!r}")])
                found.append(None)
        return Texts(found)

    def _at_once(
        self, steps: StepRows, extras: list[dict[str, Any]] | None, payloads: Sequence[Any] | None
    ) -> pa.RecordBatch:
        times, actions, rewards, observations, terminated, truncated = steps.columns.core
        number = len(times)
        names = set().union(*extras) if extras else set()
        get = _getter(extras, names)
        reward = pa.array(rewards, pa.float64(), from_pandas=False)
        if reward.null_count:
            raise ValueError  # None is no reward: one by one, they are counted
        core = [
            _arrow.constant(self._run_id, number),
            labels(steps.workers, number),
            labels(steps.agents, number),
            pa.array(steps.episodes, pa.int64()),
            pa.array(steps.indices, pa.int64()),
            pa.array(times, TIMESTAMP),
            action_labels(actions),
            self._values.documents(observations),
            reward,
            self._values.flags(terminated),
            self._values.flags(truncated),
            *self._rest(get, number, payloads),
        ]
        problems = _not_finite(reward.to_numpy())
        fields: list[pa.Field] = []
        arrays: list[pa.Array] = []
        if names - _OWN:
            rest = extras or ()
            if names & _OWN:
                rest = [{k: v for k, v in row.items() if k not in _OWN} for row in rest]
            fields, arrays = _further.columns(rest, STEPS.names, problems)
        self._values.count(problems)
        return pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*STEPS, *fields]))

    def _rest(
        self, get: Callable[[str], Sequence[Any] | None], number: int, payloads: Sequence[Any] | None
    ) -> list[pa.Array]:
        """Return the core columns behind ``truncated``, which are seldom told."""

        def column(name: str, make: Callable[[Sequence[Any]], pa.Array]) -> pa.Array:
            values = get(name)
            return pa.nulls(number, STEPS.field(name).type) if values is None else make(values)

        return [
            column("episode_seed", lambda values: pa.array(values, pa.uint64())),
            column("policy_label", lambda values: pa.array(values, pa.string()).dictionary_encode()),
            column("backend", lambda values: pa.array(values, pa.string()).dictionary_encode()),
            column("render_hint", self._values.documents),
            column("frame_ref", lambda values: pa.array(values, pa.string())),
            column("payload_version", lambda values: pa.array(values, pa.uint32())),
            pa.nulls(number, pa.string()) if payloads is None else self._values.documents(payloads),
            pa.array(np.zeros(number, np.uint64)),
        ]

    def _one_by_one(
        self, steps: StepRows, extras: list[dict[str, Any]] | None, payloads: Sequence[Any] | None
    ) -> pa.RecordBatch:
        """Return the same by way of events, as :mod:`~live_telemetry_widget.normalize` takes them from printed lines."""
        names = ("ts_unix_ns", "action", "reward", "observation", "terminated", "truncated")
        events: list[dict[str, Any]] = []
        for i, values in enumerate(zip(*steps.columns.core, strict=True)):
            fields = {name: value for name, value in extras[i].items() if name != "render_payload"} if extras else {}
            event = {name: self._values.plain(value) for name, value in fields.items()}
            event |= {name: self._values.plain(value) for name, value in zip(names, values, strict=True)}
            event |= {name: self._values.flag(event[name]) for name in ("terminated", "truncated")}
            event["worker_id"] = steps.workers if isinstance(steps.workers, str) else steps.workers[i]
            event["agent_id"] = steps.agents if isinstance(steps.agents, str) else steps.agents[i]
            event |= {"episode": int(steps.episodes[i]), "step_index": int(steps.indices[i])}
            events.append(event)
        batch, problems = normalize.steps_from_events(events, run_id=self._run_id)
        self._values.count(problems)
        if payloads is None:
            return batch
        at = batch.schema.get_field_index("render_payload")
        return batch.set_column(at, batch.schema.field(at), self._values.documents(payloads))

    def many(self, steps: bulk.Counted) -> pa.RecordBatch:
        """Return steps that were told many at once as a batch."""
        try:
            return self._bulk_at_once(steps)
        except NOT_OF_A_KIND:
            names = steps.agents
            agents = names[0] if steps.agent is None else [names[at] for at in steps.agent]
            columns = transposed(list(steps.bulk.records()))
            return self.steps(StepRows(columns, steps.worker, agents, steps.episodes, steps.indices))

    def _bulk_at_once(self, steps: bulk.Counted) -> pa.RecordBatch:
        told, number = steps.bulk, steps.bulk.rows
        action, observation = told.columns["action"], told.columns["observation"]
        if observation is not None and self._summary:
            observation = [summary(value) for value in observation]
        further = {name: column for name, column in told.further.items() if name not in _OWN}
        own = {name: list(column) for name, column in told.further.items() if name in _OWN}
        if len(further) > _further.MAX_COLUMNS:
            raise ValueError  # what is beyond is told row by row
        problems = _not_finite(steps.rewards)
        core = [
            _arrow.constant(self._run_id, number),
            _arrow.constant(steps.worker, number),
            _arrow.constant(steps.agents[0], number)
            if steps.agent is None
            else pa.DictionaryArray.from_arrays(
                pa.array(steps.agent.astype(np.int32)), pa.array(steps.agents, pa.string())
            ),
            pa.array(steps.episodes),
            pa.array(steps.indices),
            pa.array(told.moments()).cast(TIMESTAMP),
            pa.nulls(number, LABEL) if action is None else column_labels(action),
            pa.nulls(number, pa.string()) if observation is None else self._values.documents_of(observation),
            pa.array(steps.rewards),
            pa.array(steps.terminated),
            pa.array(steps.truncated),
            *self._rest(own.get, number, own.get("render_payload")),
        ]
        fields, arrays = _further.of_columns(further, STEPS.names, problems)
        batch = pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*STEPS, *fields]))
        self._values.count(problems)
        return batch

    def blocks(self, blocks: Sequence[Block]) -> pa.RecordBatch:
        """Return blocks of the same columns and agents as one batch."""
        first = blocks[0]
        joined = {
            name: None if value is None else np.concatenate([block.columns[name] for block in blocks])
            for name, value in first.columns.items()
        }
        sizes = [len(block.columns["agent"]) for block in blocks]
        number = sum(sizes)
        times = np.repeat(np.array([block.ts_unix_ns for block in blocks], np.int64), sizes)
        names = pa.array([text_of(name) for name in first.agents], pa.string())
        observation = joined["observation"]
        if observation is not None and self._summary:
            seen = self._values.documents([summary(value) for value in observation])
        else:
            seen = pa.nulls(number, pa.string()) if observation is None else self._values.documents(list(observation))
        action = joined["action"]
        further = {name: [item for block in blocks for item in block.further[name]] for name in first.further}
        problems = _not_finite(np.asarray(joined["reward"]))
        fields: list[pa.Field] = []
        arrays: list[pa.Array] = []
        if told := [name for name in further if name not in _OWN]:
            columns = (further[name] for name in told)
            rows = [dict(zip(told, values, strict=True)) for values in zip(*columns, strict=True)]
            fields, arrays = _further.columns(rows, STEPS.names, problems)
        self._values.count(problems)
        core = [
            _arrow.constant(self._run_id, number),
            _arrow.constant(self._worker_id, number),
            pa.DictionaryArray.from_arrays(pa.array(joined["agent"], pa.int32()), names),
            pa.array(joined["episode"], pa.int64()),
            pa.array(joined["step_index"], pa.int64()),
            pa.array(times).cast(TIMESTAMP),
            pa.nulls(number, LABEL) if action is None else self._values.documents(list(action)).dictionary_encode(),
            seen,
            pa.array(joined["reward"], pa.float64()),
            pa.array(joined["terminated"], pa.bool_()),
            pa.array(joined["truncated"], pa.bool_()),
            *self._rest(further.get, number, further.get("render_payload")),
        ]
        return pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*STEPS, *fields]))


def transposed(records: Sequence[Any]) -> Columns:
    """Return records of steps as columns."""
    return chosen(list(zip(*records, strict=True))) if records else Columns([()] * _CORE)


def chosen(columns: list[Any]) -> Columns:
    """Return those columns of records of steps that are more than their numbers."""
    further, drawings = columns[_FURTHER], columns[_DRAWING]
    return Columns(
        columns[:_CORE],
        further if any(further) else None,
        None if drawings.count(None) == len(drawings) else drawings,
        columns[_FINAL],
    )


def _getter(extras: list[dict[str, Any]] | None, names: set[str]) -> Callable[[str], Sequence[Any] | None]:
    def get(name: str) -> Sequence[Any] | None:
        return [row.get(name) for row in extras] if extras and name in names else None

    return get


def _not_finite(rewards: np.ndarray[Any, Any]) -> list[Problem]:
    wrong = len(rewards) - int(np.isfinite(rewards).sum())
    return [Problem("not_finite", "a reward is not a finite number", count=wrong)] if wrong else []
