"""Batches of episodes' records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from live_telemetry_widget import _arrow, _further, normalize
from live_telemetry_widget.schema import EPISODES, TIMESTAMP, Problem
from live_telemetry_widget.worker.records import PLAIN
from live_telemetry_widget.worker.values import NOT_OF_A_KIND, Values, labels

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a record of an episode says in columns of the schema, and what stands in its place in the event of one.
_SAID: Final = ("worker_id", "agent_id", "episode", "ts_unix_ns", "total_reward", "steps", "terminated", "truncated")
_SAID_TYPES: Final = (str, str, int, int, float, int, bool, bool)
_ELSEWHERE: Final = frozenset({"type", "run_id", "seq_id", "reward", "metadata", "episode_index"})


class EpisodeBatches:
    """Makes batches of records of episodes.

    Parameters
    ----------
    run_id
        Of all of them.
    values
        Makes the columns, and counts what is wrong.
    """

    def __init__(self, run_id: str, values: Values) -> None:
        self._run_id = run_id
        self._values = values

    def episodes(self, events: Sequence[dict[str, Any]]) -> pa.RecordBatch:
        """Return records as a batch."""
        try:
            batch = self._at_once(events)
        except NOT_OF_A_KIND:
            batch = None
        if batch is not None:
            return batch
        plain = [{name: self._values.plain(value) for name, value in event.items()} for event in events]
        batch, problems = normalize.episodes_from_events(plain, run_id=self._run_id)
        self._values.count(problems)
        return batch

    def _at_once(self, events: Sequence[dict[str, Any]]) -> pa.RecordBatch | None:
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
            _arrow.constant(self._run_id, number),
            labels(columns["worker_id"], number),
            labels(columns["agent_id"], number),
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
                        row[name] = self._values.plain(value)
            problems: list[Problem] = []
            fields, arrays = _further.columns(extras, EPISODES.names, problems)
            self._values.count(problems)
        return pa.RecordBatch.from_arrays([*core, *arrays], schema=pa.schema([*EPISODES, *fields]))
