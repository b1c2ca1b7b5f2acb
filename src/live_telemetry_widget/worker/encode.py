"""An emitter's records, counted into episodes and made Arrow batches, on the emitter's own thread.

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

from live_telemetry_widget import _arrow, normalize
from live_telemetry_widget._further import cut
from live_telemetry_widget.schema import STOPPED, Problem
from live_telemetry_widget.worker import bulk
from live_telemetry_widget.worker.bulk import Bulk
from live_telemetry_widget.worker.episode_batches import EpisodeBatches
from live_telemetry_widget.worker.ledger import HOLD, Account
from live_telemetry_widget.worker.manners import Columns, Manners
from live_telemetry_widget.worker.portions import MAX_ROWS
from live_telemetry_widget.worker.records import NOTHING, Block, Episode
from live_telemetry_widget.worker.step_batches import StepBatches, StepRows, chosen, transposed
from live_telemetry_widget.worker.values import Values, is_set, text_of

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
#: Places in a step.
_EPISODE, _INDEX, _AGENT, _FURTHER = 6, 7, 8, 9
#: Of so many agents a will says all each time.
_FEW: Final = 4


class Encoded(NamedTuple):
    """A batch of ``"steps"`` or ``"episodes"``."""

    kind: str
    batch: pa.RecordBatch


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
        self._count = count
        self._accounts: dict[tuple[str, str], Account] = {}
        self._touched: set[tuple[str, str]] = set()
        self._manners = Manners()
        values = Values(count)
        self._steps = StepBatches(run_id, worker_id, summary=summary, values=values)
        self._episodes = EpisodeBatches(run_id, values)

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
            self._add(found, "steps", self._steps.blocks, group, sum(len(block.columns["agent"]) for block in group))
        for at in range(0, len(ended), MAX_ROWS):
            told = ended[at : at + MAX_ROWS]
            self._add(found, "episodes", self._episodes.episodes, told, len(told))
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

    def _add_steps(self, found: list[Encoded], steps: StepRows) -> None:
        if len(steps.episodes):
            self._add(found, "steps", self._steps.steps, steps, len(steps.episodes))

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
                self._add(found, "steps", self._steps.many, counted, part.rows)

    # -- counting ----------------------------------------------------------------------------------------------------

    def _account(self, worker_id: str | None, agent_id: str | None) -> Account:
        worker = self._worker_id if worker_id is None else text_of(worker_id)
        agent = self._agent_id if agent_id is None else text_of(agent_id)
        account = self._accounts.get((worker, agent))
        self._touched.add((worker, agent))
        if account is None:
            account = self._accounts[worker, agent] = Account(worker, agent, self._first_episode)
        return account

    def _count_at_once(self, part: Columns | list[Any], ended: list[dict[str, Any]]) -> StepRows | None:
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
        return StepRows(columns, account.worker_id, account.agent_id, episodes, indices)

    def _count_each(self, records: Sequence[Any], ended: list[dict[str, Any]], blocks: list[Block]) -> StepRows:
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
            over, stopped = is_set(terminated), is_set(truncated)
            if over or stopped:
                account.end(record[0], terminated=over, truncated=stopped, final=final)
        workers, agents = [account.worker_id for account in accounts], [account.agent_id for account in accounts]
        return StepRows(transposed(rows), workers, agents, episodes, indices)

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
    return chosen(columns)


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
