"""An emitter's records as Arrow batches, column by column, on the emitter's own thread.

What steps usually hold (numbers, arrays of one shape) becomes a column at once. Anything else goes, value by value, through
:mod:`~live_telemetry_widget.normalize`, as a worker's printed events do; nothing that a training loop may hand over raises.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _further, normalize
from live_telemetry_widget._further import cut, to_json
from live_telemetry_widget.schema import LABEL, STEPS, TIMESTAMP, Problem
from live_telemetry_widget.worker.ledger import HOLD, Account
from live_telemetry_widget.worker.records import Block, Drawing, Episode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: Texts of one row beyond so many bytes are left out: a message of the wire must hold the row.
MAX_TEXT: Final = 16 * 1024 * 1024
#: A batch has at most so many rows, so that reading one of many is cheap.
MAX_ROWS: Final = 8_192
_INT64_MAX: Final = 2**63 - 1
_TEXTS: Final = ("policy_label", "backend", "frame_ref")
_JSON: Final = ("render_hint",)
_COUNTS: Final = ("episode_seed", "payload_version")
_OWN: Final = frozenset({*_TEXTS, *_JSON, *_COUNTS, "render_payload", "worker_id"})
#: What Arrow raises for values that are not all of a column's type.
_NOT_OF_A_KIND: Final = (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError, UnicodeEncodeError)


class Encoded(NamedTuple):
    """A batch of ``"steps"`` or ``"episodes"``."""

    kind: str
    batch: pa.RecordBatch


class _Steps(NamedTuple):
    """Steps that were counted: the rows, and beside them each one's worker, agent, episode and index in it."""

    rows: list[Any]
    accounts: list[Account]
    episodes: list[int]
    indices: list[int]

    def part(self, begin: int, end: int) -> _Steps:
        """Return some of them."""
        rows, accounts, episodes, indices = self
        return _Steps(rows[begin:end], accounts[begin:end], episodes[begin:end], indices[begin:end])


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

    def encode(self, records: Sequence[Any], *, last: bool = False) -> list[Encoded]:
        """Return the batches of some records, steps before the episodes that they end.

        Parameters
        ----------
        records
            :data:`~live_telemetry_widget.worker.records.Step` tuples, Episodes and Blocks, in order.
        last
            Let no episode's record wait for more.
        """
        steps = _Steps([], [], [], [])
        ended: list[dict[str, Any]] = []
        blocks: list[Block] = []
        self._sort(records, steps, ended, blocks)
        now = time.monotonic()
        for account in self._accounts.values():
            if account.waiting is not None and (last or now - account.since > HOLD):
                ended.append(account.waiting)
                account.waiting = None
        found = []
        for at in range(0, len(steps.rows), MAX_ROWS):
            part = steps.part(at, at + MAX_ROWS)
            found.append(Encoded("steps", self._steps(part)))
        found += [Encoded("steps", self._blocks(group)) for group in _alike(blocks)]
        for at in range(0, len(ended), MAX_ROWS):
            found.append(Encoded("episodes", self._episodes(ended[at : at + MAX_ROWS])))
        return [Encoded(kind, self._bounded(batch)) for kind, batch in found if batch.num_rows]

    # -- counting ----------------------------------------------------------------------------------------------------

    def _account(self, worker_id: str | None, agent_id: str | None) -> Account:
        worker = self._worker_id if worker_id is None else _text(worker_id)
        agent = self._agent_id if agent_id is None else _text(agent_id)
        account = self._accounts.get((worker, agent))
        if account is None:
            account = self._accounts[worker, agent] = Account(worker, agent, self._first_episode)
        return account

    def _sort(self, records: Sequence[Any], steps: _Steps, ended: list[dict[str, Any]], blocks: list[Block]) -> None:
        rows, accounts, episodes, indices = steps
        usual = self._account(None, None)
        for record in records:
            if record.__class__ is not tuple:
                if isinstance(record, Block):
                    blocks.append(record)
                else:
                    account = self._account(record.further.pop("worker_id", None), record.agent_id)
                    self._release(account, ended, record)
                continue
            _, _, reward, _, terminated, truncated, episode, index, agent_id, further = record
            account = usual
            if agent_id is not None or (further is not None and "worker_id" in further):
                account = self._account(further.get("worker_id") if further else None, agent_id)
            if account.waiting is not None:
                ended.append(account.waiting)
                account.waiting = None
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
            if terminated or truncated:
                account.end(record[0], terminated=bool(terminated), truncated=bool(truncated))

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
        if number is None or (step is None and index is not None):
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
        times, actions, rewards, seen, terminated, truncated, _, _, _, further = zip(*steps.rows, strict=True)
        observations = [_summary(value) for value in seen] if self._summary else list(seen)
        extras = self._extras(steps, further, actions)
        try:
            return self._at_once(steps, extras, (times, actions, rewards, observations, terminated, truncated))
        except _NOT_OF_A_KIND:
            return self._one_by_one(steps, extras, (times, actions, rewards, observations, terminated, truncated))

    def _extras(
        self, steps: _Steps, further: Sequence[dict[str, Any] | None], actions: Sequence[Any]
    ) -> list[dict[str, Any]] | None:
        """Return the further fields, payloads painted; None when there are none."""
        if not any(further):
            return None
        found = []
        for fields, action, row in zip(further, actions, steps.rows, strict=True):
            drawing = fields.get("render_payload") if fields else None
            if fields and isinstance(drawing, Drawing):
                try:
                    painted = drawing.painter(drawing.subject, action, terminated=bool(row[4]), truncated=bool(row[5]))
                except Exception as error:  # noqa: BLE001 - a painter reads an environment of anybody's making
                    self._count([Problem("bad_payload", f"a render payload cannot be made: {error!r}")])
                    painted = None
                found.append({**fields, "render_payload": _Ready(painted) if painted else None})
            else:
                found.append(fields or {})
        return found

    def _at_once(
        self, steps: _Steps, extras: list[dict[str, Any]] | None, columns: tuple[Sequence[Any], ...]
    ) -> pa.RecordBatch:
        times, actions, rewards, observations, terminated, truncated = columns
        number = len(times)
        names = set().union(*extras) if extras else set()
        get = _getter(extras, names, number)
        reward = pa.array(rewards, pa.float64(), from_pandas=False)
        if reward.null_count:
            raise ValueError  # None is no reward: one by one, they are counted
        core = [
            _constant(self.run_id, number),
            _labels([account.worker_id for account in steps.accounts]),
            _labels([account.agent_id for account in steps.accounts]),
            pa.array(steps.episodes, pa.int64()),
            pa.array(steps.indices, pa.int64()),
            pa.array(times, TIMESTAMP),
            _action_labels(actions),
            self._documents(observations),
            reward,
            _flags(terminated),
            _flags(truncated),
            pa.array(get("episode_seed"), pa.uint64()),
            pa.array(get("policy_label"), pa.string()).dictionary_encode(),
            pa.array(get("backend"), pa.string()).dictionary_encode(),
            self._documents(get("render_hint")),
            pa.array(get("frame_ref"), pa.string()),
            pa.array(get("payload_version"), pa.uint32()),
            self._documents(get("render_payload")),
            pa.array(np.zeros(number, np.uint64)),
        ]
        problems: list[Problem] = []
        if not pc.all(pc.is_finite(reward)).as_py():
            wrong = pc.sum(pc.invert(pc.is_finite(reward))).as_py()
            problems.append(Problem("not_finite", "a reward is not a finite number", count=wrong))
        fields: list[pa.Field] = []
        arrays: list[pa.Array] = []
        if names - _OWN:
            rest = [{k: v for k, v in row.items() if k not in _OWN} for row in extras or ()]
            fields, arrays = _further.columns(rest, STEPS.names, problems)
        self._count(problems)
        return pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*STEPS, *fields]))

    def _one_by_one(
        self, steps: _Steps, extras: list[dict[str, Any]] | None, columns: tuple[Sequence[Any], ...]
    ) -> pa.RecordBatch:
        """Return the same by way of events, as :mod:`~live_telemetry_widget.normalize` takes them from printed lines."""
        names = ("ts_unix_ns", "action", "reward", "observation", "terminated", "truncated")
        events: list[dict[str, Any]] = []
        payloads: list[str | None] = []
        for i, values in enumerate(zip(*columns, strict=True)):
            account = steps.accounts[i]
            fields = dict(extras[i]) if extras else {}
            payload = fields.pop("render_payload", None)
            payloads.append(None if payload is None else self._document(payload))
            event = {name: self._plain(value) for name, value in fields.items()}
            event |= {name: self._plain(value) for name, value in zip(names, values, strict=True)}
            event |= {"worker_id": account.worker_id, "agent_id": account.agent_id}
            event |= {"episode": steps.episodes[i], "step_index": steps.indices[i]}
            events.append(event)
        batch, problems = normalize.steps_from_events(events, run_id=self.run_id)
        self._count(problems)
        at = batch.schema.get_field_index("render_payload")
        return batch.set_column(at, batch.schema.field(at), _texts(payloads))

    def _documents(self, values: Sequence[Any]) -> pa.Array:
        """Return values as JSON texts: those of one kind at once."""
        kinds = set(map(type, values))
        kinds.discard(type(None))
        if not kinds:
            return pa.nulls(len(values), pa.string())
        if kinds == {_Ready}:
            return _texts([None if value is None else value.text for value in values])
        if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
            return pa.array(values, pa.int64()).cast(pa.string())
        if kinds == {np.ndarray} and (texts := _array_texts(values)) is not None:
            return texts
        return _texts([None if value is None else self._document(value) for value in values])

    def _document(self, value: Any) -> str:  # noqa: ANN401 - whatever a step is told with
        if isinstance(value, _Ready):
            return value.text
        return to_json(self._plain(value))

    def _plain(self, value: Any) -> Any:  # noqa: ANN401 - as above
        """Return `value` if it can be told as JSON, else its text."""
        try:
            to_json(value)
        except (TypeError, ValueError, RecursionError) as error:
            self._count([Problem("not_json", f"{type(value).__name__} cannot be told as JSON ({error}); told as text")])
            return cut(value)
        return value

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
        rows = [dict(zip(further, values, strict=True)) for values in zip(*further.values(), strict=True)]
        problems: list[Problem] = []
        own = {name: further.get(name, [None] * number) for name in _OWN}
        fields, arrays = (
            _further.columns([{k: v for k, v in row.items() if k not in _OWN} for row in rows], STEPS.names, problems)
            if set(further) - _OWN
            else ([], [])
        )
        self._count(problems)
        core = [
            _constant(self.run_id, number),
            _constant(self._worker_id, number),
            pa.DictionaryArray.from_arrays(pa.array(joined["agent"], pa.int32()), names),
            pa.array(joined["episode"], pa.int64()),
            pa.array(joined["step_index"], pa.int64()),
            pa.array(times).cast(TIMESTAMP),
            pa.nulls(number, LABEL) if action is None else self._documents(list(action)).dictionary_encode(),
            seen,
            pa.array(joined["reward"], pa.float64()),
            pa.array(joined["terminated"], pa.bool_()),
            pa.array(joined["truncated"], pa.bool_()),
            pa.array(own["episode_seed"], pa.uint64()),
            _texts(own["policy_label"]).dictionary_encode(),
            _texts(own["backend"]).dictionary_encode(),
            self._documents(own["render_hint"]),
            _texts(own["frame_ref"]),
            pa.array(own["payload_version"], pa.uint32()),
            self._documents(own["render_payload"]),
            pa.array(np.zeros(number, np.uint64)),
        ]
        return pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*STEPS, *fields]))

    # -- episodes ----------------------------------------------------------------------------------------------------

    def _episodes(self, events: Sequence[dict[str, Any]]) -> pa.RecordBatch:
        plain = [{name: self._plain(value) for name, value in event.items()} for event in events]
        batch, problems = normalize.episodes_from_events(plain, run_id=self.run_id)
        self._count(problems)
        return batch

    def _bounded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch without texts that no message of the wire could hold."""
        if batch.nbytes < MAX_TEXT:
            return batch
        for at, field in enumerate(batch.schema):
            if field.type != pa.string():
                continue
            column = batch.column(at)
            large = pc.fill_null(pc.greater(pc.binary_length(column), MAX_TEXT), False)  # noqa: FBT003 - the value to fill with
            if count := pc.sum(large).as_py():
                self._count([Problem("text_too_long", f"{field.name} is over {MAX_TEXT:,} bytes", count=count)])
                nothing = pa.scalar(None, pa.string())
                batch = batch.set_column(at, field, pc.if_else(large, nothing, column))
        return batch


class _Ready(NamedTuple):
    """A JSON text, as against a text to be told as JSON."""

    text: str


def _getter(extras: list[dict[str, Any]] | None, names: set[str], number: int) -> Callable[[str], list[Any]]:
    nothing = [None] * number

    def get(name: str) -> list[Any]:
        return [row.get(name) for row in extras] if extras and name in names else nothing

    return get


def _text(value: object) -> str:
    return _further.clean(value if isinstance(value, str) else str(value))


def _texts(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([None if value is None else _further.clean(value) for value in values], pa.string())


def _constant(value: str, number: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, np.int32)), pa.array([value], pa.string()))


def _labels(values: list[str]) -> pa.Array:
    if values.count(values[0]) == len(values):
        return _constant(values[0], len(values))
    return pa.array(values, pa.string()).dictionary_encode()


def _flags(values: Sequence[Any]) -> pa.Array:
    """Return truth values, of any type, as an array."""
    if set(map(type, values)) <= {bool, np.bool_}:
        return pa.array(values, pa.bool_())
    return pa.array([bool(value) for value in values], pa.bool_())


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


def _array_texts(values: Sequence[Any]) -> pa.Array | None:
    """Return arrays of numbers of one shape, of at most one dimension, as JSON lists; None when they are something else.

    Floats are as short as their own type allows: 0.1 of 32 bits is 0.1.
    """
    kept = [value for value in values if value is not None]
    shape, dtype = kept[0].shape, kept[0].dtype
    if len(kept) != len(values) or len(shape) > 1 or dtype.kind not in "iuf":
        return None
    if any(value.shape != shape or value.dtype != dtype for value in kept):
        return None
    stacked = np.stack(kept)
    if dtype.kind == "f" and not np.isfinite(stacked).all():
        return None  # JSON has no word for them; Python's has, and it is not Arrow's
    if dtype == np.float16:
        stacked = stacked.astype(np.float32)
    flat = pa.array(np.ascontiguousarray(stacked).reshape(-1)).cast(pa.string())
    if not shape:
        return flat
    offsets = pa.array(np.arange(len(kept) + 1, dtype=np.int32) * shape[0])
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
