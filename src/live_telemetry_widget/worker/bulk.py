"""Steps that were told many at once: their columns, and how they are counted into episodes, on the emitter's own thread.

What cannot be told from columns alone (a reward that is none, numbers that do not count) is told row by row, as single steps are: so that
both ways in give the same rows.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from live_telemetry_widget.worker.records import FIXED, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from live_telemetry_widget.worker.ledger import Account
    from live_telemetry_widget.worker.records import Step

_Array = np.ndarray[Any, Any]

_INT64: Final = 2**63
#: Of these, one value stands for a column of arrays' own types.
_NUMBERS: Final = (bool, int, float)
_SCALARS: Final = (bool, int, float, np.bool_, np.integer, np.floating)


@dataclasses.dataclass(slots=True)
class Bulk:
    """Steps, column by column.

    Attributes
    ----------
    rows
        How many.
    times
        When, in nanoseconds since 1970: of all, or of each.
    columns
        ``action``, ``reward`` and so on, in the order of a step's record: arrays or lists of `rows` values, or None; ``agent_id`` may be one name.
    further
        Likewise; none of them is None.
    """

    rows: int
    times: int | _Array
    columns: dict[str, Any]
    further: dict[str, Any]

    @classmethod
    def of(cls, core: dict[str, Any], further: dict[str, Any]) -> Bulk:
        """Return copies of some columns, made now.

        Raises
        ------
        ValueError
            The columns are of different lengths, or there is none.
        """
        told = {**core, **further}
        held = {name: _column(value) for name, value in told.items()}
        lengths = {name: len(column) for name, column in held.items() if column is not None}
        if len(set(lengths.values())) != 1:
            said = ", ".join(f"{name} {length}" for name, length in lengths.items())
            msg = (
                f"columns of different lengths: {said}; give each a value for each step"
                if lengths
                else "no column among what was told; give lists or arrays of a value for each step, or use step()"
            )
            raise ValueError(msg)
        rows = next(iter(lengths.values()))
        for name in ("action", "observation"):
            if told[name] is not None and held[name] is None:
                msg = f"{name} is a {type(told[name]).__name__}; give a list or an array of one for each of the {rows} steps"
                raise ValueError(msg)
        filled = {name: _all(told[name], rows) if column is None else column for name, column in held.items()}
        if held["agent_id"] is None:
            filled["agent_id"] = core["agent_id"]
        return cls(
            rows,
            time.time_ns(),
            {name: filled[name] for name in core},
            {name: [None] * rows if told[name] is None else filled[name] for name in further},
        )

    @property
    def shape(self) -> tuple[Any, ...]:
        """What two must have in common to become one."""
        return tuple((name, *_kind(column)) for name, column in (*self.columns.items(), *self.further.items()))

    @classmethod
    def joined(cls, parts: Sequence[Bulk]) -> Bulk:
        """Return several of one shape as one."""
        first = parts[0]
        if len(parts) == 1:
            return first
        columns = {name: _joined([part.columns[name] for part in parts]) for name in first.columns}
        further = {name: _joined([part.further[name] for part in parts]) for name in first.further}
        return cls(
            sum(part.rows for part in parts), np.concatenate([part.moments() for part in parts]), columns, further
        )

    def slice(self, first: int, count: int) -> Bulk:
        """Return some of the rows."""
        if first == 0 and count >= self.rows:
            return self
        chosen = slice(first, first + count)
        columns, further = (
            {
                name: column if column is None or isinstance(column, str) else column[chosen]
                for name, column in held.items()
            }
            for held in (self.columns, self.further)
        )
        times = self.times[chosen] if isinstance(self.times, np.ndarray) else self.times
        return Bulk(min(count, self.rows - first), times, columns, further)

    def moments(self) -> _Array:
        """Return the time of each row."""
        return self.times if isinstance(self.times, np.ndarray) else np.full(self.rows, self.times, np.int64)

    def records(self) -> Iterator[Step]:
        """Yield each row as the record that a single step would have made."""
        rows = zip(*(_each(column, self.rows) for column in self.columns.values()), strict=True)
        values = [_each(column, self.rows) for column in self.further.values()]
        names = tuple(self.further)
        told = (dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)) if names else None
        for at, row in zip(self.moments().tolist(), rows, strict=True):
            yield (at, *row, next(told) if told else None, None, None)


def cut(bulks: Sequence[Bulk], most: int) -> Iterator[Bulk]:
    """Yield neighbours of one shape as one, in pieces of at most `most` rows."""
    for _, alike in itertools.groupby(bulks, lambda bulk: bulk.shape):
        joined = Bulk.joined(list(alike))
        for first in range(0, joined.rows, most):
            yield joined.slice(first, most)


def _column(value: Any) -> Any:  # noqa: ANN401 - whatever was told
    """Return a copy of a column, an array or a list; None of what stands for all."""
    if isinstance(value, np.ndarray):
        return value.copy() if value.ndim else None
    if isinstance(value, list | tuple):
        return list(value) if set(map(type, value)) <= FIXED else [snapshot(item) for item in value]
    if hasattr(value, "detach"):  # a tensor
        return _column(snapshot(value))
    to_numpy = getattr(value, "to_numpy", None)  # a column of a table
    return np.array(to_numpy()) if callable(to_numpy) else None


def _all(value: Any, rows: int) -> Any:  # noqa: ANN401 - whatever was told
    """Return a column of one value; None for none."""
    if value is None:
        return None
    if isinstance(value, np.ndarray | np.generic):
        return np.full(rows, value)
    if type(value) in _NUMBERS and (type(value) is not int or -_INT64 <= value < _INT64):
        return np.full(rows, value)
    return [snapshot(value)] * rows


def _kind(column: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a column
    if isinstance(column, np.ndarray):
        return ("array", column.dtype, column.shape[1:])
    return ("list",) if isinstance(column, list) else ("all", column)


def _joined(columns: list[Any]) -> Any:  # noqa: ANN401 - columns
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    return [item for column in columns for item in column] if isinstance(columns[0], list) else columns[0]


def _each(column: Any, rows: int) -> Any:  # noqa: ANN401 - a column
    return column if isinstance(column, np.ndarray | list) else [column] * rows


class Counted(NamedTuple):
    """Steps that were counted.

    Attributes
    ----------
    agents
        The names of their agents; and of each row, which one: None where there is only one.
    """

    bulk: Bulk
    worker: str
    agents: list[str]
    agent: _Array | None
    episodes: _Array
    indices: _Array
    rewards: _Array
    terminated: _Array
    truncated: _Array


def count(
    bulk: Bulk,
    account_of: Callable[[str | None], Account],
    flush: Callable[[Account], None],
) -> Counted | None:
    """Count steps into the episodes of their agents; None, and nothing is counted, where that takes a look at each of them.

    Parameters
    ----------
    bulk
        The steps.
    account_of
        Returns the account of an agent, None for the usual one.
    flush
        Lets the record of an episode go that has waited for more to be said.
    """
    rewards, terminated, truncated = (_numbers(bulk.columns[name]) for name in ("reward", "terminated", "truncated"))
    given = [_counting(bulk.columns[name]) for name in ("episode", "step_index")]
    agents = bulk.columns["agent_id"]
    known = agents is None or isinstance(agents, str)
    if rewards is None or terminated is None or truncated is None or any(numbers is False for numbers in given):
        return None
    if "worker_id" in bulk.further or not (known or set(map(type, agents)) <= {str, np.str_}):
        return None
    numbers, steps = given
    rewards = rewards.astype(np.float64)
    terminated, truncated = terminated.astype(np.bool_), truncated.astype(np.bool_)
    episodes, indices = np.empty(bulk.rows, np.int64), np.empty(bulk.rows, np.int64)
    if known:
        names, agent = [agents], None
        places: list[Any] = [slice(0, bulk.rows)]
    else:
        unique, agent = np.unique(np.asarray(agents), return_inverse=True)
        order = np.argsort(agent, kind="stable")
        places = np.split(order, np.cumsum(np.bincount(agent))[:-1])
        names = [str(name) for name in unique]
    accounts = [account_of(name) for name in names]
    times = bulk.moments()
    for account, at in zip(accounts, places, strict=True):
        episodes[at], indices[at] = _count_one(
            account,
            flush,
            times[at],
            rewards[at],
            (terminated[at], truncated[at]),
            None if numbers is None else numbers[at],
            None if steps is None else steps[at],
        )
    return Counted(
        bulk,
        accounts[0].worker_id,
        [account.agent_id for account in accounts],
        agent,
        episodes,
        indices,
        rewards,
        terminated,
        truncated,
    )


def _count_one(  # noqa: PLR0913, PLR0917 - columns
    account: Account,
    flush: Callable[[Account], None],
    times: _Array,
    rewards: _Array,
    flags: tuple[_Array, _Array],
    numbers: _Array | None,
    steps: _Array | None,
) -> tuple[_Array, _Array]:
    """Count the steps of one agent; return the numbers of their episodes, and their own."""
    rows = len(rewards)
    ends = flags[0] | flags[1]
    cut = ends[:-1].copy()
    if numbers is not None:
        cut |= numbers[1:] != numbers[:-1]
    begins = [0, *(np.flatnonzero(cut) + 1).tolist(), rows]
    totals = rewards.tolist()
    found: list[int] = []
    firsts: list[int] = []
    for begin, end in itertools.pairwise(begins):
        flush(account)
        if numbers is not None and (number := int(numbers[begin])) != account.episode:
            account.episode, account.step, account.total = number, 0, 0.0
        found.append(account.episode)
        firsts.append(account.step)
        account.step = account.step + end - begin if steps is None else int(steps[end - 1]) + 1
        account.total = sum(totals[begin:end], account.total)
        if ends[end - 1]:
            account.end(int(times[end - 1]), terminated=bool(flags[0][end - 1]), truncated=bool(flags[1][end - 1]))
    lengths = np.diff(begins)
    if steps is None:
        steps = np.arange(rows) - np.repeat(np.array(begins[:-1]) - np.array(firsts), lengths)
    return np.repeat(np.array(found, np.int64), lengths), steps


def _numbers(column: Any) -> _Array | None:  # noqa: ANN401 - a column
    """Return numbers or truth values, one a row, as an array; None when they are something else."""
    if not isinstance(column, np.ndarray):
        if not all(issubclass(kind, _SCALARS) for kind in set(map(type, column))):
            return None
        column = np.array(column)
    return column if column.ndim == 1 and column.dtype.kind in "biuf" else None


def _counting(column: Any) -> Any:  # noqa: ANN401 - a column
    """Return counting numbers as an array, None where there is no column; False when they are something else."""
    if column is None:
        return None
    if not isinstance(column, np.ndarray):
        if not all(issubclass(kind, int | np.integer) and kind is not bool for kind in set(map(type, column))):
            return False
        column = np.array(column)
    good = column.ndim == 1 and column.dtype.kind in "iu" and column.min() >= 0 and column.max() < _INT64
    return column.astype(np.int64) if good else False
