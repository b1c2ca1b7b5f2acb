"""Steps told many at once are the rows that single steps are: whatever columns hold, however they are cut."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from live_telemetry_widget import _arrow
from live_telemetry_widget.schema import EPISODES, STEPS, Problem
from live_telemetry_widget.worker.bulk import Bulk
from live_telemetry_widget.worker.encode import Encoder
from live_telemetry_widget.worker.many import ManySteps
from live_telemetry_widget.worker.records import NOTHING, Episode, snapshot, snapshots

CORE = ("action", "reward", "observation", "terminated", "truncated", "episode", "step_index", "agent_id")


class Told(ManySteps):
    """Keeps what an emitter would hand to its encoder, either way."""

    def __init__(self, every: int = 1) -> None:
        self.choosy = every > 1
        self.records: list[Any] = []
        self._every = every
        self._seen = 0

    def record(self, row: Any, rows: int = 1) -> None:  # noqa: D102 - as ManySteps has it
        assert rows == row.rows
        self.records.append(row)

    def keeps(self, number: int) -> bool:  # noqa: D102 - as above
        return number % self._every == 0

    def step(self, values: dict[str, Any], further: dict[str, Any]) -> None:
        """Tell of one step, as Emitter.step does."""
        seen = values["observation"]
        if self.choosy:
            self._seen += 1
            seen = seen if self.keeps(self._seen - 1) else None
        values = {**values, "observation": snapshot(seen), "action": snapshot(values["action"])}
        self.records.append((1, *(values[name] for name in CORE), snapshots(further) if further else None, None, None))


def flat(records: list[Any]) -> list[Any]:
    """Return records as a training thread puts them down."""
    return [value for record in records for value in (record, *NOTHING)]


def encoded(records: list[Any], **options: Any) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    """Return the rows of some records, by kind, without their times, and what was counted."""
    counted: dict[str, int] = {}

    def count(problems: Any) -> None:
        for problem in problems:
            assert isinstance(problem, Problem)
            counted[problem.kind] = counted.get(problem.kind, 0) + problem.count

    found = Encoder("r", "w", "a", count=count, **options).encode(flat(records), last=True)
    rows = {}
    for kind, core in (("steps", STEPS), ("episodes", EPISODES)):
        batches = [told.batch for told in found if told.kind == kind]
        table = _arrow.merge(core, batches or [_arrow.empty(core)]).drop_columns(["timestamp"])
        rows[kind] = table.to_pylist()
        for row in rows[kind]:
            for name, value in row.items():
                # Arrow's 0 is Python's 0.0, and which of them writes depends on what else is in a batch. NaN is not NaN.
                is_json = name in {"action", "observation", "render_payload"} and value is not None
                row[name] = json.loads(value) if is_json else repr(value)
    # Records of several agents may go in another order.
    rows["episodes"].sort(key=lambda row: (row["agent_id"], row["episode"]))
    return rows, counted


def same(
    columns: dict[str, Any], further: dict[str, Any], rows: int, cuts: list[int], every: int = 1, **how: Any
) -> None:
    """Check that columns, told in pieces, are the rows that single steps make."""
    singly, many = Told(every), Told(every)

    def part(column: Any, which: Any) -> Any:
        return column[which] if isinstance(column, list | np.ndarray) else column

    for at in range(rows):
        singly.step(
            {name: part(column, at) for name, column in columns.items()}, {n: part(c, at) for n, c in further.items()}
        )
    for begin, end in zip([0, *cuts], [*cuts, rows], strict=True):
        if begin < end:
            piece = slice(begin, end)
            many.steps(
                **{name: part(column, piece) for name, column in columns.items()},
                **{name: part(column, piece) for name, column in further.items()},
            )
    (rows_of_many, counted), (rows_singly, expected) = encoded(many.records, **how), encoded(singly.records, **how)
    assert rows_of_many == rows_singly
    # Some are counted once a batch, and cuts make more of these.
    assert set(counted) == set(expected)


FLOATS = st.floats(-1e6, 1e6, width=32)
TEXTS = st.sampled_from(["", "a", "é", "x\ud800"])
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**70), FLOATS, TEXTS, st.lists(st.integers(0, 3), max_size=2)
)


@st.composite
def column(draw: st.DrawFn, rows: int) -> Any:
    """Draw an array of one or two dimensions, or a list of anything."""
    if draw(st.booleans()):
        return draw(
            st.lists(draw(st.sampled_from([ANYTHING, st.integers(0, 9), FLOATS])), min_size=rows, max_size=rows)
        )
    dtype = draw(st.sampled_from(["bool", "int8", "int64", "uint64", "float32", "float64", "<U2"]))
    shape = draw(st.sampled_from([(rows,), (rows, 2), (rows, 0), (rows, 2, 2)]))
    elements = {"<U2": st.sampled_from(["a", "é"]), "float32": FLOATS, "float64": FLOATS}.get(dtype)
    return draw(arrays.arrays(dtype, shape, elements=elements))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_columns_of_anything_are_the_rows_that_single_steps_are(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 8))

    def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(strategy, min_size=rows, max_size=rows)

    flags = st.one_of(
        st.booleans(), some(st.booleans()), arrays.arrays(bool, rows), some(st.sampled_from([0, 1, None, np.True_]))
    )
    numbers = st.one_of(
        st.none(), some(st.integers(0, 3)), arrays.arrays("int32", rows, elements=st.integers(-1, 3)), st.integers(0, 2)
    )
    columns = {
        "action": data.draw(st.one_of(st.none(), column(rows))),
        "reward": data.draw(
            st.one_of(FLOATS, some(FLOATS), some(ANYTHING), arrays.arrays("float32", rows, elements=FLOATS))
        ),
        "observation": data.draw(st.one_of(st.none(), column(rows))),
        "terminated": data.draw(flags),
        "truncated": data.draw(flags),
        "episode": data.draw(numbers),
        "step_index": data.draw(numbers),
        "agent_id": data.draw(st.one_of(st.none(), st.just("b"), some(st.sampled_from(["b", "c", "é"])))),
    }
    further: dict[str, Any] = {
        name: data.draw(st.one_of(column(rows), FLOATS, st.just("text"), st.none()))
        for name in data.draw(
            st.lists(st.sampled_from(["loss", "q", "policy_label", "worker_id", "reward_"]), max_size=2, unique=True)
        )
    }
    columns["action"] = (
        [0] * rows
        if all(not isinstance(c, list | np.ndarray) for c in (*columns.values(), *further.values()))
        else columns["action"]
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=2)))
    # How short a float's text is depends on whether all of a batch have one.
    every = 1 if cuts else data.draw(st.sampled_from([1, 3]))
    same(columns, further, rows, cuts, every, summary=data.draw(st.booleans()))


def test_many_calls_are_few_batches_and_a_large_one_is_cut() -> None:
    told = Told()
    for at in range(0, 80_000, 16):
        told.steps(
            np.arange(at, at + 16) % 4, np.ones(16), terminated=np.arange(at, at + 16) % 50 == 49, loss=np.full(16, 0.5)
        )
    counted: list[Problem] = []
    for records in (told.records, [Bulk.joined(told.records)]):
        found = Encoder("r", "", "", count=counted.extend).encode(flat(records), last=True)
        steps = [part.batch for part in found if part.kind == "steps"]
        assert len(steps) == 3
        table = _arrow.merge(STEPS, steps)
        assert table.column("episode").to_pylist() == [at // 50 for at in range(80_000)]
        assert table.column("step_index").to_pylist() == [at % 50 for at in range(80_000)]
        assert table.column("timestamp").null_count == 0
        episodes = next(part.batch for part in found if part.kind == "episodes")
        assert episodes.column("total_reward").to_pylist() == [50.0] * 1_600
    assert counted == []


def test_single_steps_and_many_count_on_from_one_another() -> None:
    told = Told()
    usual = dict.fromkeys(CORE) | {"reward": 1.0, "terminated": False, "truncated": False}
    told.step(usual, {})
    told.steps([1, 2, 3], 1.0, terminated=[False, False, True])
    told.step(usual, {})
    told.records.append(Episode(1, None, None, None, None, None, None, {"success": True}))
    told.steps([1, 2], 1.0, truncated=[False, True])
    rows, counted = encoded(told.records)
    assert [(row["episode"], row["step_index"]) for row in rows["steps"]] == [
        ("0", "0"), ("0", "1"), ("0", "2"), ("0", "3"), ("1", "0"), ("2", "0"), ("2", "1"),
    ]  # fmt: skip
    assert [(row["steps"], row["total_reward"]) for row in rows["episodes"]] == [
        ("4", "4.0"),
        ("1", "1.0"),
        ("2", "2.0"),
    ]
    assert counted == {}


def test_what_is_told_is_a_copy() -> None:
    told, rewards, positions = Told(), np.zeros(2), [[0, 0], [1, 1]]
    told.steps([0, 1], rewards, positions)
    rewards[:] = 9.0
    positions[1][0] = 9
    rows, _ = encoded(told.records)
    assert [(row["reward"], row["observation"]) for row in rows["steps"]] == [("0.0", [0, 0]), ("0.0", [1, 1])]


def test_more_columns_than_a_batch_has_are_told_all_the_same() -> None:
    further: dict[str, Any] = {f"x{n}": [n, n] for n in range(300)}
    same({**dict.fromkeys(CORE), "reward": 0.0, "terminated": False, "truncated": False}, further, 2, [])


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"action": [1, 2], "reward": [1.0]}, "different lengths: action 2, reward 1"),
        ({"reward": 1.0, "epsilon": 0.1}, "no column"),
        (
            {"action": 3, "reward": [1.0, 2.0]},
            "action is a int; give a list or an array of one for each of the 2 steps",
        ),
        ({"observation": {"x": [1, 2]}, "reward": [1.0, 2.0]}, "observation is a dict"),
    ],
)
def test_columns_that_do_not_fit_are_refused(told: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Told().steps(**told)


def test_no_step_is_nothing() -> None:
    told = Told()
    told.steps(np.zeros(0, np.int64), np.zeros(0))
    assert told.records == []


def test_tensors_and_columns_of_tables_are_columns() -> None:
    import pandas as pd  # noqa: PLC0415 - of one test

    told = Told()
    told.steps(pd.Series([1, 2]), pd.Series([0.5, 1.5]), loss=pa.array([0.25, 0.5]))
    rows, _ = encoded(told.records)
    assert [(row["action"], row["reward"], row["loss"]) for row in rows["steps"]] == [
        (1, "0.5", "0.25"),
        (2, "1.5", "0.5"),
    ]
