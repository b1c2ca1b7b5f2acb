"""An emitter's records as Arrow batches, column by column, on the emitter's own thread.

What steps usually hold (numbers, arrays of one shape) becomes a column at once. Anything else goes, value by value, through
:mod:`~live_telemetry_widget.normalize`, as a worker's printed events do; nothing that a training loop may hand over raises.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _arrow, _further, normalize
from live_telemetry_widget._further import cut, to_json
from live_telemetry_widget.schema import EPISODES, LABEL, STEPS, STOPPED, TIMESTAMP, Problem
from live_telemetry_widget.worker import bulk
from live_telemetry_widget.worker.bulk import Bulk
from live_telemetry_widget.worker.ledger import HOLD, Account
from live_telemetry_widget.worker.manners import Arrays, Columns, Manners
from live_telemetry_widget.worker.portions import MAX_ROWS
from live_telemetry_widget.worker.records import NOTHING, PLAIN, Block, Episode, Remembering, Unread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from live_telemetry_widget.worker.will import Will

_LOG: Final = logging.getLogger(__name__)

#: Texts of one row beyond so many bytes are left out: a message of the wire must hold the row.
MAX_TEXT: Final = 16 * 1024 * 1024
#: The texts of one row together, likewise: then each beyond the second number is left out.
_MAX_ROW: Final = 48 * 1024 * 1024
_LONG_TEXT: Final = 1024 * 1024
#: A step behind the last that can be numbered could not be.
_MOST_INDEX: Final = 2**63 - 2**32
_TEXTS: Final = ("policy_label", "backend", "frame_ref")
_JSON: Final = ("render_hint",)
_COUNTS: Final = ("episode_seed", "payload_version")
_OWN: Final = frozenset({*_TEXTS, *_JSON, *_COUNTS, "render_payload", "worker_id"})
_NOTHING: Final[dict[str, Any]] = {}
#: Places in a step.
_OBSERVATION, _EPISODE, _INDEX, _AGENT, _FURTHER, _DRAWING, _FINAL = 3, 6, 7, 8, 9, 10, 11
_CORE: Final = 6
#: Of so many agents a will says all each time.
_FEW: Final = 4
#: What a record of an episode says in columns of the schema, and what stands in its place in the event of one.
_SAID: Final = ("worker_id", "agent_id", "episode", "ts_unix_ns", "total_reward", "steps", "terminated", "truncated")
_SAID_TYPES: Final = (str, str, int, int, float, int, bool, bool)
_ELSEWHERE: Final = frozenset({"type", "run_id", "seq_id", "reward", "metadata", "episode_index"})
#: What Arrow raises for values that are not all of a column's type.
_NOT_OF_A_KIND: Final = (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError, UnicodeEncodeError)


class Encoded(NamedTuple):
    """A batch of ``"steps"`` or ``"episodes"``."""

    kind: str
    batch: pa.RecordBatch


class _Steps(NamedTuple):
    """Steps that were counted, column by column; a worker or agent that is the same for all is named once."""

    columns: Columns
    workers: list[str] | str
    agents: list[str] | str
    episodes: Sequence[int] | np.ndarray[Any, Any]
    indices: Sequence[int] | np.ndarray[Any, Any]


class Encoder:
    """Turns records into batches. Keeps count of each agent's episodes.

    Parameters
    ----------
    run_id, worker_id, agent_id
        For records that name none.
    first_episode
        The number of each agent's first episode.
    summary
        Tell of an observation only its shape, type, least, greatest and mean value.
    count
        Given what was wrong with values.
    """

    def __init__(  # noqa: PLR0913 - what an emitter was told, by name
        self,
        run_id: str,
        worker_id: str,
        agent_id: str,
        *,
        first_episode: int = 0,
        summary: bool = False,
        count: Callable[[Iterable[Problem]], None],
    ) -> None:
        self.run_id = run_id
        self._worker_id = worker_id
        self._agent_id = agent_id
        self._first_episode = first_episode
        self._summary = summary
        self._count = count
        self._accounts: dict[tuple[str, str], Account] = {}
        self._touched: set[tuple[str, str]] = set()
        self._manners = Manners()

    def encode(self, rows: list[Any], *, last: bool = False) -> list[Encoded]:
        """Return the batches of some rows, steps before the episodes that they end.

        Parameters
        ----------
        rows
            As a training thread puts them down: :data:`~live_telemetry_widget.worker.records.WIDTH` values each.
        last
            Let no episode's record wait for more.
        """
        found: list[Encoded] = []
        ended: list[dict[str, Any]] = []
        blocks: list[Block] = []
        for part in self._manners.read(rows):
            try:
                self._add_part(found, part, ended, blocks)
            except Exception as error:  # noqa: BLE001 - as in _add
                count = len(part.core[0]) if isinstance(part, Columns) else len(part)
                _LOG.exception("counting steps")
                self._count(
                    [Problem("internal_error", f"steps cannot be counted and are lost: {error!r}", count=count)]
                )
        now = time.monotonic()
        for key, account in self._accounts.items():
            if account.waiting is not None and (last or now - account.since > HOLD):
                ended.append(account.waiting)
                account.waiting = None
                self._touched.add(key)
        for group in _alike(blocks):
            self._add(found, "steps", self._blocks, group, sum(len(block.columns["agent"]) for block in group))
        for at in range(0, len(ended), MAX_ROWS):
            told = ended[at : at + MAX_ROWS]
            self._add(found, "episodes", self._episodes, told, len(told))
        return [Encoded(kind, batch) for kind, batch in found if batch.num_rows]

    def stop(self, why: str) -> list[Encoded]:
        """Return what says that nothing more is recorded: in the record of the episode that is cut by it."""
        accounts = self._accounts.values()
        cut_off = next((account for account in accounts if account.step), None) or next(iter(accounts), None)
        whose = {} if cut_off is None else {"worker_id": cut_off.worker_id}
        agent = None if cut_off is None else cut_off.agent_id
        said = Episode(time.time_ns(), None, None, None, None, None, agent, {STOPPED: why, **whose})
        return self.encode([said, *NOTHING], last=True)

    def bequeath(self, will: Will) -> bool:
        """Write into a will where things stand: all, which is True, or what has changed since the last time."""
        whole = len(self._accounts) <= _FEW
        names = self._accounts if whole else self._touched
        will.accounts = {name: self._accounts[name] for name in names}
        self._touched.clear()
        return self._manners.bequeath(will, most=_FEW) and whole

    def inherit(self, will: Will) -> None:
        """Go on from there."""
        self._accounts = dict(will.accounts)
        self._manners.inherit(will)

    def _add(
        self, found: list[Encoded], kind: str, make: Callable[[Any], pa.RecordBatch], what: object, rows: int
    ) -> None:
        """Make a batch; should it fail, which is a fault of ours, its rows are counted, and the rest goes on."""
        try:
            found.append(Encoded(kind, self._bounded(make(what))))
        except Exception as error:  # noqa: BLE001 - the training goes on, and what is lost is counted
            _LOG.exception("encoding %s", kind)
            self._count([Problem("internal_error", f"{kind} cannot be encoded and are lost: {error!r}", count=rows)])

    def _add_part(
        self, found: list[Encoded], part: Columns | list[Any], ended: list[dict[str, Any]], blocks: list[Block]
    ) -> None:
        steps = self._count_at_once(part, ended)
        if steps is not None:
            self._add_steps(found, steps)
            return
        records = _records(part) if isinstance(part, Columns) else part
        for many, alike in itertools.groupby(records, lambda record: record.__class__ is Bulk):
            add = self._add_bulks if many else self._add_each
            add(found, list(alike), ended, blocks)

    def _add_each(
        self, found: list[Encoded], records: Sequence[Any], ended: list[dict[str, Any]], blocks: list[Block]
    ) -> None:
        self._add_steps(found, self._count_each(records, ended, blocks))

    def _add_steps(self, found: list[Encoded], steps: _Steps) -> None:
        if len(steps.episodes):
            self._add(found, "steps", self._steps, steps, len(steps.episodes))

    def _add_bulks(
        self, found: list[Encoded], bulks: Sequence[Bulk], ended: list[dict[str, Any]], blocks: list[Block]
    ) -> None:
        def account_of(agent_id: str | None) -> Account:
            return self._account(None, agent_id)

        def flush(account: Account) -> None:
            self._flush(account, ended)

        for part in bulk.cut(bulks, MAX_ROWS):
            counted = bulk.count(part, account_of, flush)
            if counted is None:
                self._add_each(found, list(part.records()), ended, blocks)
            else:
                self._add(found, "steps", self._bulk, counted, part.rows)

    # -- counting ----------------------------------------------------------------------------------------------------

    def _account(self, worker_id: str | None, agent_id: str | None) -> Account:
        worker = self._worker_id if worker_id is None else _text(worker_id)
        agent = self._agent_id if agent_id is None else _text(agent_id)
        account = self._accounts.get((worker, agent))
        self._touched.add((worker, agent))
        if account is None:
            account = self._accounts[worker, agent] = Account(worker, agent, self._first_episode)
        return account

    def _count_at_once(self, part: Columns | list[Any], ended: list[dict[str, Any]]) -> _Steps | None:
        """Count steps of one agent that give no numbers themselves; None when there are others among them."""
        columns = part if isinstance(part, Columns) else _columns(part)
        if columns is None:
            return None
        times, _, rewards, _, terminated, truncated = columns.core
        number, final = len(times), columns.finals
        account = self._account(None, columns.agent_id)
        episodes = np.empty(number, np.int64)
        indices = np.arange(number, dtype=np.int64)
        begin = 0
        try:
            over, stopped = np.array(terminated, np.bool_), np.array(truncated, np.bool_)
            if over.ndim != 1 or stopped.ndim != 1:
                return None  # a flag that is none is counted where they are looked at one by one
            ends = np.flatnonzero(over | stopped).tolist()
            numbers = rewards if set(map(type, rewards)) == {float} else list(map(float, rewards))
        except (TypeError, ValueError):
            return None
        self._flush(account, ended)
        for end in ends:
            indices[begin : end + 1] += account.step - begin
            episodes[begin : end + 1] = account.episode
            account.step += end + 1 - begin
            account.total = sum(numbers[begin : end + 1], account.total)
            self._flush(account, ended)
            last = None if final is None else final[end]
            account.end(times[end], terminated=bool(over[end]), truncated=bool(stopped[end]), final=last)
            begin = end + 1
        if begin < number:
            self._flush(account, ended)
            indices[begin:] += account.step - begin
            episodes[begin:] = account.episode
            account.step += number - begin
            account.total = sum(numbers[begin:], account.total)
        return _Steps(columns, account.worker_id, account.agent_id, episodes, indices)

    def _count_each(self, records: Sequence[Any], ended: list[dict[str, Any]], blocks: list[Block]) -> _Steps:
        rows: list[Any] = []
        accounts: list[Account] = []
        episodes: list[int] = []
        indices: list[int] = []
        usual = self._account(None, None)
        for record in records:
            if record.__class__ is not tuple:
                if isinstance(record, Block):
                    blocks.append(record)
                else:
                    self._release(self._account(record.further.pop("worker_id", None), record.agent_id), ended, record)
                continue
            _, _, reward, _, terminated, truncated, episode, index, agent_id, further, _, final = record
            account = usual
            if agent_id is not None or (further is not None and "worker_id" in further):
                account = self._account(further.get("worker_id") if further else None, agent_id)
            self._flush(account, ended)
            if (episode is not None or index is not None) and not self._place(account, episode, index):
                continue
            rows.append(record)
            accounts.append(account)
            episodes.append(account.episode)
            indices.append(account.step)
            account.step += 1
            try:
                account.total += float(reward)
            except (TypeError, ValueError):  # counted where the column is made
                account.total = math.nan
            over, stopped = _is_set(terminated), _is_set(truncated)
            if over or stopped:
                account.end(record[0], terminated=over, truncated=stopped, final=final)
        workers, agents = [account.worker_id for account in accounts], [account.agent_id for account in accounts]
        return _Steps(_transposed(rows), workers, agents, episodes, indices)

    @staticmethod
    def _flush(account: Account, ended: list[dict[str, Any]]) -> None:
        """Let the record of an episode go that has waited: another step has come."""
        if account.waiting is not None:
            ended.append(account.waiting)
            account.waiting = None

    def _release(self, account: Account, ended: list[dict[str, Any]], said: Episode) -> None:
        waiting = account.waiting
        told = account.tell(said)
        if waiting is not None and told["episode"] != waiting["episode"]:
            ended.append(waiting)
        ended.append(told)

    def _place(self, account: Account, episode: object, index: object) -> bool:
        """Take the numbers that the training code gives a step; whether they are such."""
        number = account.episode if episode is None else normalize.index_of(episode)
        step = None if index is None else normalize.index_of(index)
        if number is None or (step is None and index is not None) or max(number, step or 0) > _MOST_INDEX:
            detail = f"episode {cut(episode)}, step_index {cut(index)}: not counting numbers; the step is left out"
            self._count([Problem("bad_index", detail)])
            return False
        if number != account.episode:
            account.episode, account.step, account.total = number, 0, 0.0
        if step is not None:
            account.step = step
        return True

    # -- steps -------------------------------------------------------------------------------------------------------

    def _steps(self, steps: _Steps) -> pa.RecordBatch:
        columns = steps.columns
        extras = None if columns.further is None else [fields or _NOTHING for fields in columns.further]
        if self._summary:
            columns.core[_OBSERVATION] = [_summary(value) for value in columns.core[_OBSERVATION]]
        payloads = self._painted(steps, extras)
        try:
            return self._at_once(steps, extras, payloads)
        except _NOT_OF_A_KIND:
            return self._one_by_one(steps, extras, payloads)

    def _painted(self, steps: _Steps, extras: Sequence[dict[str, Any]] | None) -> Sequence[Any] | None:
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
                return _Texts(made)
        found: list[Any] = []
        for drawing, action, ends, cut_off in zip(drawings, actions, terminated, truncated, strict=True):
            if drawing is None:
                found.append(None)
                continue
            painter, subject = drawing
            try:
                found.append(painter.paint(subject, action, ends, cut_off))
            except Exception as error:  # noqa: BLE001 - a painter reads an environment of anybody's making
                self._count([Problem("bad_payload", f"a render payload cannot be made: {error!r}")])
                found.append(None)
        return _Texts(found)

    def _at_once(
        self, steps: _Steps, extras: list[dict[str, Any]] | None, payloads: Sequence[Any] | None
    ) -> pa.RecordBatch:
        times, actions, rewards, observations, terminated, truncated = steps.columns.core
        number = len(times)
        names = set().union(*extras) if extras else set()
        get = _getter(extras, names)
        reward = pa.array(rewards, pa.float64(), from_pandas=False)
        if reward.null_count:
            raise ValueError  # None is no reward: one by one, they are counted
        core = [
            _arrow.constant(self.run_id, number),
            _labels(steps.workers, number),
            _labels(steps.agents, number),
            pa.array(steps.episodes, pa.int64()),
            pa.array(steps.indices, pa.int64()),
            pa.array(times, TIMESTAMP),
            _action_labels(actions),
            self._documents(observations),
            reward,
            self._flags(terminated),
            self._flags(truncated),
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
        self._count(problems)
        return pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*STEPS, *fields]))

    def _flags(self, values: Sequence[Any]) -> pa.Array:
        """Return truth values, of any type, as an array; what is none is False, and counted."""
        if set(map(type, values)) <= {bool, np.bool_}:
            return pa.array(values, pa.bool_())
        return pa.array([self._flag(value) for value in values], pa.bool_())

    def _flag(self, value: object) -> bool:
        try:
            return bool(value)
        except (TypeError, ValueError):
            detail = f"terminated or truncated is {cut(value)!r}, which is neither true nor false; taken as false"
            self._count([Problem("bad_flag", detail)])
            return False

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
            column("render_hint", self._documents),
            column("frame_ref", lambda values: pa.array(values, pa.string())),
            column("payload_version", lambda values: pa.array(values, pa.uint32())),
            pa.nulls(number, pa.string()) if payloads is None else self._documents(payloads),
            pa.array(np.zeros(number, np.uint64)),
        ]

    def _one_by_one(
        self, steps: _Steps, extras: list[dict[str, Any]] | None, payloads: Sequence[Any] | None
    ) -> pa.RecordBatch:
        """Return the same by way of events, as :mod:`~live_telemetry_widget.normalize` takes them from printed lines."""
        names = ("ts_unix_ns", "action", "reward", "observation", "terminated", "truncated")
        events: list[dict[str, Any]] = []
        for i, values in enumerate(zip(*steps.columns.core, strict=True)):
            fields = {name: value for name, value in extras[i].items() if name != "render_payload"} if extras else {}
            event = {name: self._plain(value) for name, value in fields.items()}
            event |= {name: self._plain(value) for name, value in zip(names, values, strict=True)}
            event |= {name: self._flag(event[name]) for name in ("terminated", "truncated")}
            event["worker_id"] = steps.workers if isinstance(steps.workers, str) else steps.workers[i]
            event["agent_id"] = steps.agents if isinstance(steps.agents, str) else steps.agents[i]
            event |= {"episode": int(steps.episodes[i]), "step_index": int(steps.indices[i])}
            events.append(event)
        batch, problems = normalize.steps_from_events(events, run_id=self.run_id)
        self._count(problems)
        if payloads is None:
            return batch
        at = batch.schema.get_field_index("render_payload")
        return batch.set_column(at, batch.schema.field(at), self._documents(payloads))

    def _documents(self, values: Sequence[Any]) -> pa.Array:
        """Return values as JSON texts: those of one kind at once."""
        if values.__class__ is _Texts:
            return _texts(values)
        if isinstance(values, Arrays):
            stacked = values.stacked()
            texts = None if stacked is None else _lists(stacked)
            return self._documents(list(values)) if texts is None else texts
        kinds = set(map(type, values))
        kinds.discard(type(None))
        if not kinds:
            return pa.nulls(len(values), pa.string())
        if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
            return pa.array(values, pa.int64()).cast(pa.string())
        if kinds == {np.ndarray} and (texts := _array_texts(values)) is not None:
            return texts
        return _texts([None if value is None else self._document(value) for value in values])

    def _document(self, value: Any) -> str:  # noqa: ANN401 - whatever a step is told with
        return to_json(self._plain(value))

    def _plain(self, value: Any) -> Any:  # noqa: ANN401 - as above
        """Return `value` if it can be told as JSON, else its text."""
        if isinstance(value, Unread):
            self._count([Problem("not_json", f"{value}; told as text")])
            return value.text
        try:
            to_json(value)
        except (TypeError, ValueError, RecursionError) as error:
            self._count([Problem("not_json", f"{type(value).__name__} cannot be told as JSON ({error}); told as text")])
            return cut(value)
        return value

    # -- many at once ------------------------------------------------------------------------------------------------

    def _bulk(self, steps: bulk.Counted) -> pa.RecordBatch:
        try:
            return self._bulk_at_once(steps)
        except _NOT_OF_A_KIND:
            names = steps.agents
            agents = names[0] if steps.agent is None else [names[at] for at in steps.agent]
            columns = _transposed(list(steps.bulk.records()))
            return self._steps(_Steps(columns, steps.worker, agents, steps.episodes, steps.indices))

    def _bulk_at_once(self, steps: bulk.Counted) -> pa.RecordBatch:
        told, number = steps.bulk, steps.bulk.rows
        action, observation = told.columns["action"], told.columns["observation"]
        if observation is not None and self._summary:
            observation = [_summary(value) for value in observation]
        further = {name: column for name, column in told.further.items() if name not in _OWN}
        own = {name: list(column) for name, column in told.further.items() if name in _OWN}
        if len(further) > _further.MAX_COLUMNS:
            raise ValueError  # what is beyond is told row by row
        problems = _not_finite(steps.rewards)
        core = [
            _arrow.constant(self.run_id, number),
            _arrow.constant(steps.worker, number),
            _arrow.constant(steps.agents[0], number)
            if steps.agent is None
            else pa.DictionaryArray.from_arrays(
                pa.array(steps.agent.astype(np.int32)), pa.array(steps.agents, pa.string())
            ),
            pa.array(steps.episodes),
            pa.array(steps.indices),
            pa.array(told.moments()).cast(TIMESTAMP),
            pa.nulls(number, LABEL) if action is None else _labels_of(action),
            pa.nulls(number, pa.string()) if observation is None else self._documents_of(observation),
            pa.array(steps.rewards),
            pa.array(steps.terminated),
            pa.array(steps.truncated),
            *self._rest(own.get, number, own.get("render_payload")),
        ]
        fields, arrays = _further.of_columns(further, STEPS.names, problems)
        batch = pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*STEPS, *fields]))
        self._count(problems)
        return batch

    def _documents_of(self, column: Any) -> pa.Array:  # noqa: ANN401 - an array or a list
        texts = _as_texts(column)
        return self._documents(list(column)) if texts is None else texts

    # -- blocks ------------------------------------------------------------------------------------------------------

    def _blocks(self, blocks: Sequence[Block]) -> pa.RecordBatch:
        """Return blocks of the same columns and agents as one batch."""
        first = blocks[0]
        joined = {
            name: None if value is None else np.concatenate([block.columns[name] for block in blocks])
            for name, value in first.columns.items()
        }
        sizes = [len(block.columns["agent"]) for block in blocks]
        number = sum(sizes)
        times = np.repeat(np.array([block.ts_unix_ns for block in blocks], np.int64), sizes)
        names = pa.array([_text(name) for name in first.agents], pa.string())
        observation = joined["observation"]
        if observation is not None and self._summary:
            seen = self._documents([_summary(value) for value in observation])
        else:
            seen = pa.nulls(number, pa.string()) if observation is None else self._documents(list(observation))
        action = joined["action"]
        further = {name: [item for block in blocks for item in block.further[name]] for name in first.further}
        problems = _not_finite(np.asarray(joined["reward"]))
        fields: list[pa.Field] = []
        arrays: list[pa.Array] = []
        if told := [name for name in further if name not in _OWN]:
            columns = (further[name] for name in told)
            rows = [dict(zip(told, values, strict=True)) for values in zip(*columns, strict=True)]
            fields, arrays = _further.columns(rows, STEPS.names, problems)
        self._count(problems)
        core = [
            _arrow.constant(self.run_id, number),
            _arrow.constant(self._worker_id, number),
            pa.DictionaryArray.from_arrays(pa.array(joined["agent"], pa.int32()), names),
            pa.array(joined["episode"], pa.int64()),
            pa.array(joined["step_index"], pa.int64()),
            pa.array(times).cast(TIMESTAMP),
            pa.nulls(number, LABEL) if action is None else self._documents(list(action)).dictionary_encode(),
            seen,
            pa.array(joined["reward"], pa.float64()),
            pa.array(joined["terminated"], pa.bool_()),
            pa.array(joined["truncated"], pa.bool_()),
            *self._rest(further.get, number, further.get("render_payload")),
        ]
        return pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*STEPS, *fields]))

    # -- episodes ----------------------------------------------------------------------------------------------------

    def _episodes(self, events: Sequence[dict[str, Any]]) -> pa.RecordBatch:
        try:
            batch = self._episodes_at_once(events)
        except _NOT_OF_A_KIND:
            batch = None
        if batch is not None:
            return batch
        plain = [{name: self._plain(value) for name, value in event.items()} for event in events]
        batch, problems = normalize.episodes_from_events(plain, run_id=self.run_id)
        self._count(problems)
        return batch

    def _episodes_at_once(self, events: Sequence[dict[str, Any]]) -> pa.RecordBatch | None:
        """Return records of which each says all that one usually does; None when there are others among them."""
        number = len(events)
        columns: dict[str, list[Any]] = {}
        for name, kind in zip(_SAID, _SAID_TYPES, strict=True):
            columns[name] = [event.get(name) for event in events]
            if set(map(type, columns[name])) != {kind}:
                return None
        counts = pa.array(columns["steps"], pa.int64())
        numbers = pa.array(columns["episode"], pa.int64())
        totals = np.array(columns["total_reward"], np.float64)
        if min(columns["steps"]) < 0 or min(columns["episode"]) < 0 or not np.isfinite(totals).all():
            return None
        core = [
            _arrow.constant(self.run_id, number),
            _labels(columns["worker_id"], number),
            _labels(columns["agent_id"], number),
            numbers,
            pa.array(columns["ts_unix_ns"], TIMESTAMP),
            pa.array(totals),
            counts,
            pa.array(columns["terminated"], pa.bool_()),
            pa.array(columns["truncated"], pa.bool_()),
            pa.nulls(number, pa.string()),
            pa.array(np.zeros(number, np.uint64)),
        ]
        fields: list[pa.Field] = []
        arrays: list[pa.Array] = []
        if any(len(event) > len(_SAID) for event in events):
            extras = [{name: value for name, value in event.items() if name not in _SAID} for event in events]
            if not _ELSEWHERE.isdisjoint(set().union(*extras)):
                return None
            for row in extras:
                for name, value in row.items():
                    if value.__class__ not in PLAIN:
                        row[name] = self._plain(value)
            problems: list[Problem] = []
            fields, arrays = _further.columns(extras, EPISODES.names, problems)
            self._count(problems)
        return pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*EPISODES, *fields]))

    def _bounded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch without texts that no message of the wire could hold."""
        if batch.nbytes < MAX_TEXT:
            return batch
        lengths = {
            at: pc.fill_null(pc.binary_length(batch.column(at)), 0).to_numpy().astype(np.int64)
            for at, field in enumerate(batch.schema)
            if field.type == pa.string()
        }
        row = sum(lengths.values(), np.zeros(batch.num_rows, np.int64))
        for at, length in lengths.items():
            large = (length > MAX_TEXT) | ((row > _MAX_ROW) & (length > _LONG_TEXT))
            if count := int(large.sum()):
                field = batch.schema.field(at)
                detail = f"{field.name} is over {MAX_TEXT:,} bytes, or its row over {_MAX_ROW:,}"
                self._count([Problem("text_too_long", detail, count=count)])
                kept = pc.if_else(pa.array(large), pa.scalar(None, pa.string()), batch.column(at))
                batch = batch.set_column(at, field, kept)
        return batch


class _Texts(list[Any]):
    """JSON texts, as against texts to be told as JSON."""


def _columns(records: Sequence[Any]) -> Columns | None:
    """Return records as columns, when all are steps of the emitter's own agent that give no numbers themselves."""
    if set(map(type, records)) != {tuple}:
        return None
    columns = list(zip(*records, strict=True))
    number = len(records)
    if any(columns[at].count(None) != number for at in (_EPISODE, _INDEX, _AGENT)):
        return None
    further = columns[_FURTHER]
    if further.count(None) != number and any(fields and "worker_id" in fields for fields in further):
        return None
    return _chosen(columns)


def _transposed(records: Sequence[Any]) -> Columns:
    return _chosen(list(zip(*records, strict=True))) if records else Columns([()] * _CORE)


def _chosen(columns: list[Any]) -> Columns:
    further, drawings = columns[_FURTHER], columns[_DRAWING]
    return Columns(
        columns[:_CORE],
        further if any(further) else None,
        None if drawings.count(None) == len(drawings) else drawings,
        columns[_FINAL],
    )


def _records(columns: Columns) -> list[Any]:
    """Undo :func:`_columns`."""
    number = len(columns.core[0])
    nothing = [None] * number
    rest = (
        nothing,
        nothing,
        [columns.agent_id] * number,
        columns.further or nothing,
        columns.drawings or nothing,
        columns.finals or nothing,
    )
    return list(zip(*columns.core, *rest, strict=True))


def _getter(extras: list[dict[str, Any]] | None, names: set[str]) -> Callable[[str], Sequence[Any] | None]:
    def get(name: str) -> Sequence[Any] | None:
        return [row.get(name) for row in extras] if extras and name in names else None

    return get


def _text(value: object) -> str:
    return _further.clean(value if isinstance(value, str) else str(value))


def _texts(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([None if value is None else _further.clean(value) for value in values], pa.string())


def _labels(values: list[str] | str, number: int) -> pa.Array:
    if isinstance(values, str):
        return _arrow.constant(values, number)
    if values.count(values[0]) == number:
        return _arrow.constant(values[0], number)
    return pa.array(values, pa.string()).dictionary_encode()


def _not_finite(rewards: np.ndarray[Any, Any]) -> list[Problem]:
    wrong = len(rewards) - int(np.isfinite(rewards).sum())
    return [Problem("not_finite", "a reward is not a finite number", count=wrong)] if wrong else []


def _is_set(value: object) -> bool:
    """Whether a flag is; one that is no truth value is none, and counted where its column is made."""
    try:
        return bool(value)
    except (TypeError, ValueError):
        return False


def _action_labels(values: Sequence[Any]) -> pa.Array:
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values), LABEL)
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        found = pa.array(values, pa.int64()).dictionary_encode()
        return pa.DictionaryArray.from_arrays(found.indices, found.dictionary.cast(pa.string()))
    if kinds == {np.ndarray} and (texts := _array_texts(values)) is not None:
        return texts.dictionary_encode()
    return pa.array([None if value is None else to_json(value) for value in values], pa.string()).dictionary_encode()


def _labels_of(column: Any) -> pa.Array:  # noqa: ANN401 - an array or a list
    """Return a column of actions."""
    if isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "iu":
        found = pa.array(column).dictionary_encode()
        return pa.DictionaryArray.from_arrays(found.indices, found.dictionary.cast(pa.string()))
    texts = _as_texts(column)
    return _action_labels(list(column)) if texts is None else texts.dictionary_encode()


def _as_texts(column: Any) -> pa.Array | None:  # noqa: ANN401 - as above
    """Return JSON texts of a column that is an array of integers, or of lists of numbers; None of another."""
    plain = isinstance(column, np.ndarray) and (column.ndim > 1 or column.dtype.kind in "iu")
    return _lists(column) if plain else None


def _array_texts(values: Sequence[Any]) -> pa.Array | None:
    """Return arrays of numbers of one shape, of at most one dimension, as JSON lists; None when they are something else."""
    kept = [value for value in values if value is not None]
    shape, dtype = kept[0].shape, kept[0].dtype
    if len(kept) != len(values) or any(value.shape != shape or value.dtype != dtype for value in kept):
        return None
    return _lists(np.stack(kept)) if len(shape) <= 1 else None


def _lists(stacked: np.ndarray[Any, Any]) -> pa.Array | None:
    """Return an array's rows, numbers or lists of them, as JSON; None when they are something else.

    Floats are as short as their own type allows: 0.1 of 32 bits is 0.1.
    """
    shape, dtype = stacked.shape[1:], stacked.dtype
    if len(shape) > 1 or dtype.kind not in "iuf":
        return None
    if dtype.kind == "f" and not np.isfinite(stacked).all():
        return None  # JSON has no word for them; Python's has, and it is not Arrow's
    if dtype == np.float16:
        stacked = stacked.astype(np.float32)
    numbers = np.ascontiguousarray(stacked).reshape(-1)
    flat = pa.array(numbers).cast(pa.string())
    if dtype.kind == "f" and (whole := numbers == np.trunc(numbers)).any():
        # Arrow says 1 where Python says 1.0, which is read back as the float that it is.
        said = flat.filter(pa.array(whole))
        bare = pc.invert(pc.match_substring_regex(said, "[.e]"))
        said = pc.if_else(bare, pc.binary_join_element_wise(said, ".0", ""), said)
        flat = pc.replace_with_mask(flat, pa.array(whole), said)
    if not shape:
        return flat
    offsets = pa.array(np.arange(len(stacked) + 1, dtype=np.int32) * shape[0])
    lists = pa.ListArray.from_arrays(offsets, flat)
    return pc.binary_join_element_wise("[", pc.binary_join(lists, ","), "]", "")


def _summary(value: Any) -> Any:  # noqa: ANN401 - an observation
    """Return what an array is like; of anything else, its parts' likes, or itself when it has none."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iufb" and value.size:
        least, most, mean = value.min(), value.max(), value.mean(dtype=np.float64)
        like = {"shape": list(value.shape), "dtype": str(value.dtype), "min": least, "max": most, "mean": mean}
        return {name: item.item() if isinstance(item, np.generic) else item for name, item in like.items()}
    if isinstance(value, dict):
        return {name: _summary(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_summary(item) for item in value]
    return value


def _alike(blocks: Sequence[Block]) -> list[list[Block]]:
    """Return the blocks in groups that become one batch each."""
    groups: list[list[Block]] = []
    rows = 0
    for block in blocks:
        before = groups[-1][-1] if groups else None
        if before is not None and rows < MAX_ROWS and _shape(before) == _shape(block):
            groups[-1].append(block)
        else:
            groups.append([block])
            rows = 0
        rows += len(block.columns["agent"])
    return groups


def _shape(block: Block) -> tuple[Any, ...]:
    columns = tuple((name, None if value is None else value.shape[1:]) for name, value in block.columns.items())
    return (tuple(block.agents), columns, tuple(block.further))


#: On the caller's thread: to wake others costs more than they save.
_PACKED: Final = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_LITTLE: Final = 64


def pack(batch: pa.RecordBatch) -> bytes:
    """Return a batch as an Arrow IPC stream, compressed lightly."""
    data: bytes = _arrow.to_stream(batch, _PACKED if batch.num_rows > _LITTLE else None).to_pybytes()
    return data
