"""The table of the episodes, made from what is known of each; those that did not change since it was last made are not looked at.

Used by :mod:`~live_telemetry_widget.frames` only.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _arrow, _json
from live_telemetry_widget.schema import EPISODES, JSON_KIND, LABEL, TEXT, TIMESTAMP, further

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from live_telemetry_widget._episode import Episode
    from live_telemetry_widget._rows import Rows

#: Columns of the episodes that are ours: a further field of such a name is ``extra_NAME``.
_DERIVED: Final = frozenset({"outcome", "episode_seed", "source", "complete", "row"})
_OUTCOME: Final = "outcome"
#: The words of our own column that are of an end; what is under way we see ourselves, and whoever sends a record has ended.
_ENDS: Final = ("Success", "Failed", "Completed", "Timeout")
#: So many episodes are made anew together when one of them has changed.
_BLOCK: Final = 1_024
#: What further fields say of the outcome, the one that counts most last: of what types, and what is meant by which values.
_SAID: Final[tuple[tuple[str, type | tuple[type, ...], dict[Any, str | bool]], ...]] = (
    ("success", bool, {True: True}),
    ("is_success", (bool, int, float), {True: "Success", False: "Failed"}),  # also 1.0 and 0.0
    (_OUTCOME, str, {word: word for word in _ENDS}),
)
_ROW: Final = pa.field("row", pa.int64())
_TABLE: Final = pa.schema(
    [
        pa.field("run_id", LABEL),
        pa.field("worker_id", LABEL),
        pa.field("agent_id", LABEL),
        pa.field("episode", pa.int64()),
        pa.field("timestamp", TIMESTAMP),
        pa.field("total_reward", pa.float64()),
        pa.field("steps", pa.int64()),
        pa.field("terminated", pa.bool_()),
        pa.field("truncated", pa.bool_()),
        pa.field("outcome", LABEL),
        pa.field("episode_seed", pa.uint64()),
        pa.field("source", LABEL),
        pa.field("complete", pa.bool_()),
        pa.field("metadata", TEXT, metadata=JSON_KIND),
        pa.field("seq_id", pa.uint64()),
    ]
)


class Summaries:
    """Episodes as rows of a table.

    Parameters
    ----------
    run_id
        Of the run.
    episodes
        All that are known, in order of first sight; read, never written.
    records
        Their records; read, never written.

    Attributes
    ----------
    revision : int
        The frames' revision at which the whole table was last made.
    """

    def __init__(self, run_id: str, episodes: list[Episode], records: Rows) -> None:
        self.revision = 0
        self._run_id = run_id
        self._episodes = episodes
        self._records = records
        self._settled = False
        self._blocks: dict[int, pa.RecordBatch] = {}
        self._names: dict[str, str] = {}
        # Whether what records say in a field `outcome` is more than the words of our own column, and needs one beside it.
        self._keeps_outcomes = False

    def hear(self, batch: pa.RecordBatch) -> None:
        """Note what records that come in say of outcomes; from the first that says more than our words on, all say it in a column."""
        if not self._keeps_outcomes and _says_more(batch):
            self._keeps_outcomes = True
            self._blocks.clear()

    def forget(self, episode: Episode) -> None:
        """Note that the record of an episode may say more."""
        self._blocks.pop(episode.ordinal // _BLOCK, None)

    def begin(self, changed: Iterable[int], revision: int, *, settled: bool) -> Callable[[], pa.Table]:
        """Return what makes the table of all episodes, in order of first sight, as they are now.

        `changed` are the ordinals of those that did since :attr:`revision`; `revision` is that of now.
        """
        self._name()
        if settled != self._settled:
            self._settled = settled
            self._blocks.clear()
        for block in {ordinal // _BLOCK for ordinal in changed}:
            self._blocks.pop(block, None)
        self.revision = revision
        for block in range(-(-len(self._episodes) // _BLOCK)):
            if block not in self._blocks:
                self._blocks[block] = self._batch(self._episodes[block * _BLOCK : (block + 1) * _BLOCK])
        batches = [self._blocks[block] for block in sorted(self._blocks)]
        return lambda: _arrow.merge(_TABLE, batches or [_arrow.empty(_TABLE)])

    def rows(self, episodes: Sequence[Episode], *, settled: bool) -> pa.Table:
        """Return some episodes, with their ordinal in column ``row``."""
        self._name()
        self._settled, held = settled, self._settled
        table = pa.Table.from_batches([self._batch(episodes)])
        self._settled = held
        return table.append_column(_ROW, pa.array([e.ordinal for e in episodes], pa.int64()))

    def _name(self) -> None:
        """Give a column to each further field of the records that has none yet."""
        schemas = [chunk.schema for chunk in self._records.chunks]
        names: dict[str, str] = {}
        taken = {*_TABLE.names, _ROW.name}
        fields = dict.fromkeys(field.name for schema in schemas for field in further(schema, EPISODES))
        taken |= {name for name in fields if name not in _DERIVED}
        if not self._keeps_outcomes:
            fields.pop(_OUTCOME, None)
        for name in fields:
            column = name
            while column in _DERIVED or (column != name and column in taken):
                column = f"extra_{column}"
            taken.add(column)
            names[name] = column
        if any(names.get(name) != column for name, column in self._names.items()):
            self._blocks.clear()
        self._names = names

    def _batch(self, episodes: Sequence[Episode]) -> pa.RecordBatch:
        records = [e.record for e in episodes]
        stored = self._records.take(np.array([r.row for r in records if r], np.int64))
        place = itertools.count()
        index = pa.array([next(place) if r else None for r in records], pa.int64())
        totals = [r.total_reward if r else e.reward for e, r in zip(episodes, records, strict=True)]
        terminated = [e.terminated or bool(r and r.terminated) for e, r in zip(episodes, records, strict=True)]
        truncated = [e.truncated or bool(r and r.truncated) for e, r in zip(episodes, records, strict=True)]
        told = _told(stored)
        said = [None if at is None else told[at] for at in index.to_pylist()]
        outcomes = [
            _outcome(
                term or (r is not None and not trunc),
                trunc,
                total,
                word,
                "Unfinished" if self._settled else "Running",
            )
            for r, term, trunc, total, word in zip(records, terminated, truncated, totals, said, strict=True)
        ]
        seq = pc.fill_null(stored.column("seq_id").take(index), 0)
        values: list[Any] = [
            [self._run_id] * len(episodes),
            [e.worker_id for e in episodes],
            [e.agent_id for e in episodes],
            [e.number for e in episodes],
            [r.timestamp if r else e.last_time for e, r in zip(episodes, records, strict=True)],
            totals,
            [r.steps if r else e.length for e, r in zip(episodes, records, strict=True)],
            terminated,
            truncated,
            outcomes,
            [e.seed for e in episodes],
            ["record" if r else "steps" for r in records],
            [e.complete for e in episodes],
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(values, _TABLE, strict=False)]
        arrays += [stored.column("metadata").take(index).combine_chunks(), seq.combine_chunks()]
        fields = list(_TABLE)
        for field in further(stored.schema, EPISODES):
            if field.name not in self._names:
                continue  # it is in the outcome
            fields.append(field.with_name(self._names[field.name]))
            arrays.append(stored.column(field.name).take(index).combine_chunks())
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _says_more(batch: pa.RecordBatch) -> bool:
    """Whether records have a field `outcome` with anything else than a word for an end that the column of that name has."""
    at = batch.schema.get_field_index(_OUTCOME)
    if at < 0:
        return False
    column = batch.column(at)
    if not _is_text(column.type):
        return bool(column.null_count < len(column))
    # Of JSON texts, a word's is that word, as it is where others of the run are no JSON.
    words = _values(pc.unique(column), batch.schema.field(at))
    return any(word is not None and word not in _ENDS for word in words)


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column of a type holds texts, as such or as labels."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _values(column: pa.Array | pa.ChunkedArray, field: pa.Field) -> list[Any]:
    """Return the values of a column of truths, numbers or texts, those of JSON texts read; of any other as many nulls."""
    kind = column.type
    if not (_is_text(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return [None] * len(column)
    values: list[Any] = column.to_pylist()
    if not (_is_text(kind) and field.metadata == JSON_KIND):
        return values
    read = {text: _json.read(text) for text in set(values) if text is not None}
    return [read.get(text) for text in values]


def _told(stored: pa.Table) -> list[str | bool | None]:
    """Return what records themselves say of the outcome of their episodes: a word; or True, where they say that it was a success."""
    told: list[str | bool | None] = [None] * stored.num_rows
    for name, kinds, meant in _SAID:
        at = stored.schema.get_field_index(name)
        if at < 0:
            continue
        for row, value in enumerate(_values(stored.column(at), stored.schema.field(at))):
            if isinstance(value, kinds) and value in meant:
                told[row] = meant[value]
    return told


def _outcome(ended: bool, truncated: bool, total: float, told: str | bool | None, under_way: str) -> str:  # noqa: FBT001 - facts, one table
    """Return the outcome as the desktop view names it; a word that the worker has said itself stands, whatever the total."""
    if isinstance(told, str) and (ended or truncated):
        return told
    if not ended:
        return "Timeout" if truncated else under_way
    return "Success" if total > 0 or told is True else "Failed" if total < 0 else "Completed"
