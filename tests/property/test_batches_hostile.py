"""What a stranger sends as a batch is rows, or refused with a reason: it never ends the process, nor fills its memory."""

from __future__ import annotations

import functools
import struct
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_telemetry_widget import _arrow, _chunks, batches, normalize
from live_telemetry_widget.batches import BadBatchError

ROWS = 60_000
LARGE = "x" * 100_000


@functools.cache
def sound(compression: batches.Compression = "none") -> bytes:
    """Return a sound message of 20 steps with further columns of several types."""
    events = [
        {"episode": 3, "step_index": i, "agent_id": "a", "action": i % 4, "reward": 0.5, "eps": 0.1, "q": [1, 2.5]}
        for i in range(20)
    ]
    return batches.encode(normalize.steps_from_events(events, run_id="theirs").batch, compression)


def taken(data: bytes) -> bool:
    """Take a message; return whether it was rows, which are then whole and ours."""
    try:
        batch, problems, received, packed = batches.decode(data, "steps", "ours")
    except BadBatchError:
        return False
    batch.validate(full=True)
    rows = batch.to_pylist()
    assert {row["run_id"] for row in rows} <= {"ours"}
    assert len(rows) + sum(p.count for p in problems if p.kind == "index_out_of_range") == received
    if packed is not None:  # what is stored of it says the same
        stored = _chunks.Chunk("ours", 1, received, packed).batch()
        stored.validate(full=True)
        assert stored.equals(_arrow.numbered(batch, 1), check_metadata=True)
    return True


@pytest.mark.parametrize("compression", ["none", "zstd", "lz4"])
@pytest.mark.parametrize("lie", [2**56 + 1, -1, 2**31])
def test_a_number_anywhere_in_a_message_may_lie(compression: batches.Compression, lie: int) -> None:
    # Of the lengths of dictionaries, some made their mere size a segmentation fault.
    data = sound(compression)
    assert taken(data)
    found = [taken(data[:at] + struct.pack("<q", lie) + data[at + 8 :]) for at in range(0, len(data) - 8, 4)]
    assert not all(found)


@settings(max_examples=2_000, deadline=None)
@given(
    st.sampled_from(["none", "zstd", "lz4"]),
    st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=8)), min_size=1, max_size=12),
    st.none() | st.integers(0, 2**16),
)
def test_bytes_of_any_kind_are_rows_or_refused(
    compression: batches.Compression, changes: list[tuple[int, bytes]], end: int | None
) -> None:
    data = bytearray(sound(compression))
    for at, piece in changes:
        at %= len(data)  # noqa: PLW2901 - within the message
        data[at : at + len(piece)] = piece
    taken(bytes(data[: None if end is None else end % len(data)]))


@functools.cache
def packed() -> bytes:
    """Return a message of ours that is stored as it comes."""
    events = [{"episode": i // 50, "step_index": i % 50, "action": i % 4, "reward": 0.5} for i in range(1_000)]
    return batches.encode(normalize.steps_from_events(events, run_id="theirs").batch, "lz4")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**14), st.binary(min_size=1, max_size=8)), max_size=2))
def test_what_is_stored_as_it_came_says_what_was_taken(changes: list[tuple[int, bytes]]) -> None:
    assert batches.decode(packed(), "steps", "ours").data == packed()
    data = bytearray(packed())
    for at, piece in changes:
        at %= len(data)  # noqa: PLW2901 - within the message
        data[at : at + len(piece)] = piece
    taken(bytes(data))


def shared(kind: str) -> pa.Array:
    """Return a column that says one large text in every row."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int32)), pa.array([LARGE]))
    if kind == "struct":
        return pa.StructArray.from_arrays([column], ["inner"])
    if kind == "run_end":
        return pa.RunEndEncodedArray.from_arrays(pa.array([ROWS], pa.int32()), pa.array([LARGE]))
    return column


@pytest.mark.parametrize(
    ("column", "kind"),
    [("observation", "dictionary"), ("reward", "dictionary"), ("further", "dictionary"), ("observation", "run_end")],
)
def test_a_text_that_all_rows_share_is_refused_before_it_is_copied(column: str, kind: str) -> None:
    data = of_steps(ROWS, {column: shared(kind)})
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(BadBatchError, match=r"over the limit|plain values"):
        batches.decode(data, "steps", "ours")
    assert pa.default_memory_pool().max_memory() - before < 64 * 2**20


@pytest.mark.parametrize("kind", ["struct", "run_end"])
def test_what_becomes_json_is_bounded_as_it_is_made(kind: str) -> None:
    data = of_steps(ROWS, {"further": shared(kind)})
    tracemalloc.start()
    try:
        with pytest.raises(BadBatchError, match="over the limit"):
            batches.decode(data, "steps", "ours")
        assert tracemalloc.get_traced_memory()[1] < 2 * batches.MAX_DECODED
    finally:
        tracemalloc.stop()


def test_few_bytes_that_unpack_to_many_are_refused_before_they_are_unpacked() -> None:
    data = of_steps(20_000_000, {}, "zstd")
    assert len(data) < 2**20
    with pytest.raises(BadBatchError, match="320,000,000 bytes is over the limit"):
        batches.decode(data, "steps", "ours")
    # In a process of its own, since this one has made them.
    code = (
        "import sys, pyarrow as pa; from live_telemetry_widget import batches\n"
        "try: batches.decode(sys.stdin.buffer.read(), 'steps', 'ours')\n"
        "except batches.BadBatchError: print(pa.default_memory_pool().max_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert int(done.stdout) < 16 * 2**20


def test_more_rows_than_a_message_may_have_are_refused() -> None:
    assert batches.decode(of_steps(batches.MAX_ROWS, {}), "steps", "ours").received == batches.MAX_ROWS
    with pytest.raises(BadBatchError, match="65,537 rows; send at most 65,536"):
        batches.decode(of_steps(batches.MAX_ROWS + 1, {}), "steps", "ours")


def test_a_place_beyond_63_bits_costs_its_row_and_no_other() -> None:
    columns: dict[str, Any] = {
        "episode": pa.array([2**64 - 1, 1, None], pa.uint64()),
        "step_index": pa.array([0, 7, 8]),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    kept, problems, received, _ = batches.decode(batches.encode(batch), "steps", "ours")
    assert kept.select(["episode", "step_index"]).to_pylist() == [{"episode": 1, "step_index": 7}]
    assert (received, [(p.kind, p.count) for p in problems]) == (3, [("index_out_of_range", 2)])


def of_steps(rows: int, columns: dict[str, pa.Array], compression: batches.Compression = "none") -> bytes:
    """Return a message of steps of episode 0, with more columns."""
    zeros = pa.array(np.zeros(rows, np.int64))
    return batches.encode(pa.RecordBatch.from_pydict({"episode": zeros, "step_index": zeros, **columns}), compression)
