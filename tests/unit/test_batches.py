"""What of a stranger's batch may enter a run."""

from __future__ import annotations

import pyarrow as pa
import pytest

from live_telemetry_widget import batches, normalize
from live_telemetry_widget.frames import RunFrames

BASE = normalize.steps_from_events(
    [{"type": "step", "episode": 0, "step_index": i, "reward": 1.0} for i in range(3)], run_id="theirs"
).batch


def received(name: str, column: pa.Array) -> pa.RecordBatch:
    """Return the steps as they come out of a batch in which one column is another."""
    at = BASE.schema.get_field_index(name)
    field = pa.field(name, column.type)
    sent = BASE.append_column(field, column) if at < 0 else BASE.set_column(at, field, column)
    return batches.decode(batches.encode(sent), "steps", "r").batch


@pytest.mark.parametrize(
    ("name", "missing"), [("worker_id", ""), ("agent_id", ""), ("action", None), ("policy_label", None)]
)
@pytest.mark.parametrize("kind", [pa.int32(), pa.int8()])
def test_a_label_that_is_missing_in_its_dictionary_is_missing_in_its_rows(
    name: str, missing: str | None, kind: pa.DataType
) -> None:
    indices = pa.array([0, 1, 0], kind)
    batch = received(name, pa.DictionaryArray.from_arrays(indices, pa.array([None, "1"])))
    assert batch.column(name).dictionary.null_count == 0
    assert batch.column(name).to_pylist() == [missing, "1", missing]
    run = RunFrames("r")
    run.append_steps(batch)
    run.append_steps(BASE)
    assert len(run.steps()) == len(run.steps_table()) >= 3
