"""Packed chunks give back what was put in, bit for bit, and what says nothing costs nothing."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from live_telemetry_widget import normalize
from live_telemetry_widget._packed import Packed
from live_telemetry_widget.schema import LABEL, TIMESTAMP

N = 1_000
NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_0123))[0]


def array(values: Any, kind: pa.DataType) -> pa.Array:
    return pa.array(values, pa.int64()).view(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)


COLUMNS = {
    "nothing": array([None] * N, pa.string()),
    "no label": array([None] * N, LABEL),
    "one text": array(["x"] * N, pa.string()),
    "one label": array(["x"] * N, LABEL),
    "labels": array([f"l{i % 300}" if i % 7 else None for i in range(N)], LABEL),
    "flags": array([i % 3 == 0 for i in range(N)], pa.bool_()),
    "one flag": array([True] * N, pa.bool_()),
    "flags and nulls": array([True, None] * (N // 2), pa.bool_()),
    "line": array(range(5, 5 + 3 * N, 3), pa.int64()),
    "falling line": array(range(0, -2 * N, -2), pa.int64()),
    "almost a line": array([*range(N - 1), N], pa.int64()),
    "line beyond 2^63": array(range(2**64 - N, 2**64), pa.uint64()),
    "near": array([i * 7919 % 251 for i in range(N)], pa.int64()),
    "near beyond 2^63": array([2**64 - 1 - i * 7919 % 251 for i in range(N)], pa.uint64()),
    "near the bottom": array([-(2**63) + i % 70_000 * 97 % 65_001 for i in range(N)], pa.int64()),
    "near and nulls": array([None if i % 5 else i * i % 77 for i in range(N)], pa.uint64()),
    "one number and nulls": array([None if i % 5 else 7 for i in range(N)], pa.int64()),
    "far": array([(-1) ** i * (2**62 - i) for i in range(N)], pa.int64()),
    "extremes": array([-(2**63), 2**63 - 1] * (N // 2), pa.int64()),
    "small": array([2**32 - 1 - i * i % 99 for i in range(N)], pa.uint32()),
    "small and far": array([(i * 2654435761) % 2**32 for i in range(N)], pa.uint32()),
    "times": array([1_700_000_000_000_000_000 + i * i for i in range(N)], TIMESTAMP),
    "one time": array([1] * N, TIMESTAMP),
    "times and nulls": array([None if i % 2 else i for i in range(N)], TIMESTAMP),
    "few floats": array([(-0.0, 0.0, math.inf, NAN)[i % 4] for i in range(N)], pa.float64()),
    "few floats and nulls": array([(None, 0.0, 1.5)[i % 3] for i in range(N)], pa.float64()),
    "floats": array(np.random.default_rng(1).random(N), pa.float64()),
    "one NaN": array([NAN] * N, pa.float64()),
    "few texts": array([f'{{"state":{i % 16}}}' for i in range(N)], pa.string()),
    "texts": array([f"{i * 7919}é" for i in range(N)], pa.string()),
    "few texts at first": array(["a" * 20] * 300 + [str(i) for i in range(N - 300)], pa.string()),
    "lists": array([[i, 0.5] if i % 2 else None for i in range(N)], pa.list_(pa.float64())),
    "null type": pa.nulls(N),
}


def same(left: pa.Array, right: pa.Array) -> None:
    assert left.type == right.type
    if left.type == pa.float64():
        left, right = left.view(pa.int64()), right.view(pa.int64())
    assert left.equals(right) or left.to_pylist() == right.to_pylist()


@pytest.mark.parametrize("name", COLUMNS)
def test_what_is_read_is_what_was_packed(name: str) -> None:
    column = COLUMNS[name]
    batch = pa.record_batch([column, pa.array(range(N))], names=["it", "n"])
    packed = Packed.of(batch)
    assert packed.schema == batch.schema
    same(packed.batch().column("it"), column)
    packed.batch().validate(full=True)
    for first, count in ((0, 1), (N - 1, 1), (17, 400), (N - 3, 9), (5, 0)):
        part = packed.slice(first, count, ["it"])
        assert part.schema.names == ["it"]
        same(part.column(0), column.slice(first, count))
    numbers = np.array([3, 999, 0, 0, 512, 17])
    same(packed.take(numbers, ["it"]).column(0), column.take(pa.array(numbers)))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_part_of_a_larger_batch_is_packed_without_the_rest(name: str) -> None:
    batch = pa.record_batch([COLUMNS[name]], names=["it"]).slice(300, 7)
    packed = Packed.of(batch)
    same(packed.batch().column(0), batch.column(0))
    assert packed.nbytes < 1_000


def test_a_step_of_a_few_numbers_is_a_few_bytes() -> None:
    events = [
        {"episode": n // 20, "step_index": n % 20, "reward": 1.0, "action": n % 2, "ts_unix_ns": n * n, "loss": n**0.5}
        for n in range(20_000)
    ]
    batch = normalize.steps_from_events(events, run_id="r").batch
    assert Packed.of(batch).nbytes < 20_000 * 26
    assert batch.nbytes > 20_000 * 100
