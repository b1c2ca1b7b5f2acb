"""Batches of steps that the benchmarks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from live_telemetry_widget import normalize
from live_telemetry_widget.schema import TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH: Final = 1_000
_START: Final = 1_700_000_000_000_000_000


def scalar_steps(length: int, streams: int = 1) -> Callable[[int], pa.RecordBatch]:
    """Return what makes the :data:`BATCH` steps from a number on: scalars only, of episodes of some length, of one or more interleaved agents."""
    events = [
        {
            "episode": 0,
            "step_index": i,
            "agent_id": "a",
            "worker_id": "w",
            "action": i % 2,
            "reward": 1.0,
            "epsilon": 0.1,
            "learning_rate": 1e-3,
            "loss": 0.5,
            "value": 0.5,
            "ts_unix_ns": 1,
        }
        for i in range(BATCH)
    ]
    plain = normalize.steps_from_events(events, run_id="r").batch
    random = np.random.default_rng(0)

    def make(first: int) -> pa.RecordBatch:
        numbers = np.arange(first, first + BATCH)
        index, stream = numbers // streams, (numbers % streams).tolist()
        columns = {
            "episode": pa.array(index // length),
            "step_index": pa.array(index % length),
            "timestamp": pa.array(_START + numbers * 100_000 + random.integers(0, 90_000, BATCH)).cast(TIMESTAMP),
            "terminated": pa.array(index % length == length - 1),
            "seq_id": pa.array((numbers + 1).astype(np.uint64)),
            "loss": pa.array(random.random(BATCH)),
            "value": pa.array(random.random(BATCH)),
        }
        if streams > 1:
            labels = plain.schema.field("agent_id").type
            columns["agent_id"] = pa.array([f"a{s % 8}" for s in stream], labels)
            columns["worker_id"] = pa.array([f"w{s // 8}" for s in stream], labels)
        batch = plain
        for name, column in columns.items():
            at = batch.schema.get_field_index(name)
            batch = batch.set_column(at, batch.schema.field(at), column)
        return batch

    return make
