"""What comes as a batch is rows or is refused: bytes of any kind, columns of any type, sound ones with bytes changed."""

from __future__ import annotations

import contextlib
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from live_telemetry_widget import batches, normalize
from live_telemetry_widget.schema import EPISODES, STEPS

EVENTS = [
    {
        "episode": n // 5,
        "step_index": n % 5,
        "agent_id": f"a{n % 2}",
        "action": n,
        "reward": n / 3,
        "note": "é" * n,
        "q": [0.5, n],
    }
    for n in range(20)
]
SOUND = normalize.steps_from_events(EVENTS, run_id="r").batch

COLUMNS = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-3, 2**63 - 1)), min_size=4, max_size=4),
    st.lists(st.one_of(st.none(), st.floats()), min_size=4, max_size=4),
    st.lists(st.one_of(st.none(), st.text(max_size=4)), min_size=4, max_size=4),
    st.lists(st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=3)), min_size=4, max_size=4),
    st.lists(
        st.one_of(st.none(), st.fixed_dictionaries({"x": st.floats(), "y": st.text(max_size=2)})),
        min_size=4,
        max_size=4,
    ),
)
NAMES = st.sampled_from([*STEPS.names, *EPISODES.names, "further", "other", "q.x", ""])


def check(rows: batches.Rows, kind: batches.Kind) -> None:
    core = batches.CORE[kind]
    assert rows.batch.schema.names[: len(core)] == core.names
    assert [field.type for field in rows.batch.schema][: len(core)] == core.types
    assert all(not rows.batch.column(field.name).null_count for field in core if not field.nullable)
    assert rows.batch.column("run_id").dictionary.to_pylist() == ["mine"]
    lost = sum(problem.count for problem in rows.problems if problem.kind == "index_out_of_range")
    assert rows.batch.num_rows + lost == rows.received


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_are_rows_or_are_refused(data: st.DataObject) -> None:
    sound = bytearray(batches.encode(SOUND, data.draw(st.sampled_from(["none", "zstd", "lz4"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(sound)))
    for text in (bytes(sound), bytes(sound[:cut])):
        with contextlib.suppress(batches.BadBatchError):
            check(batches.decode(text, "steps", "mine"), "steps")


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, COLUMNS, max_size=6), st.sampled_from(["steps", "episodes"]))
def test_columns_of_any_type_are_rows_or_are_refused(columns: dict[str, list[Any]], kind: batches.Kind) -> None:
    places = {"episode": [0, 1, 2, 3], "step_index": [0, 0, 0, 0], "steps": [1, 1, 1, 1]}
    try:
        batch = pa.RecordBatch.from_pydict({**places, **columns})
    except (pa.ArrowException, OverflowError):
        return
    with contextlib.suppress(batches.BadBatchError):
        check(batches.decode(batches.encode(batch), kind, "mine"), kind)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_refused(data: bytes) -> None:
    with contextlib.suppress(batches.BadBatchError):
        check(batches.decode(data, "steps", "mine"), "steps")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 25), st.sampled_from(["none", "zstd", "lz4"]))
def test_what_is_sound_comes_as_it_went(skip: int, compression: batches.Compression) -> None:
    rows = batches.decode(batches.encode(SOUND, compression), "steps", "r", skip)
    assert rows.problems == []
    assert rows.received == 20
    assert rows.batch.to_pylist() == SOUND.slice(skip).to_pylist()
    assert rows.batch.schema.equals(SOUND.schema, check_metadata=True)
