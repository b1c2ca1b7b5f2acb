"""Columns put straight into memory of NumPy's: the values are Arrow's own, nothing is copied on the way to pandas, and what is missing is not touched."""

from __future__ import annotations

import subprocess
import sys
import weakref
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from live_telemetry_widget import _straight, normalize
from live_telemetry_widget.frames import RunFrames
from live_telemetry_widget.schema import LABEL, TIMESTAMP

NUMBERS = [
    (pa.int64(), [[1, None], [None, None], [-5]]),
    (pa.uint32(), [[7], [8, 9], [10, 11]]),
    (pa.float64(), [[None, None], [0.5, -0.0], [None]]),
    (pa.bool_(), [[True, False], [None], [True, True]]),
    (TIMESTAMP, [[1, 2], [None, 4], [5]]),
    (pa.uint64(), [[None], [None, None], [None, None]]),
]


@pytest.mark.parametrize("places", [None, np.array([4, 2, 0, 1, 3])])
@pytest.mark.parametrize(("kind", "parts"), NUMBERS)
def test_numbers_are_where_they_belong(kind: pa.DataType, parts: list[list[Any]], places: Any) -> None:
    arrays = [pa.array(part, pa.int64()).cast(kind) if kind == TIMESTAMP else pa.array(part, kind) for part in parts]
    found = _straight.plain(iter(arrays), kind, 5, places)
    given = [value for part in parts for value in part]
    want = given if places is None else [given[list(places).index(at)] for at in range(5)]
    missing = found.missing if found.missing is not None else np.zeros(5, bool)
    assert [None if gone else value for value, gone in zip(found.numbers.tolist(), missing, strict=True)] == want
    assert not found.numbers[missing].any()
    assert (found.missing is None) == (None not in given)


@pytest.mark.parametrize("places", [None, np.array([3, 0, 2, 1, 4, 5])])
def test_labels_are_where_they_belong(places: Any) -> None:
    parts = [["b", None], ["a", "a"], [None], ["b"]]
    found = _straight.labels((pa.array(part, pa.string()).cast(LABEL) for part in parts), 6, places)
    given = [value for part in parts for value in part]
    want = given if places is None else [given[list(places).index(at)] for at in range(6)]
    words = found.words.to_pylist()
    assert [None if code < 0 else words[code] for code in found.codes.tolist()] == want
    assert found.codes.dtype == np.int8


def test_codes_are_as_wide_as_there_are_words() -> None:
    for count, dtype in ((126, np.int8), (127, np.int16), (40_000, np.int32)):
        given = [f"w{number}" for number in range(count)]
        found = _straight.labels([pa.array(given).cast(LABEL)], count)
        assert found.codes.dtype == dtype
        assert [found.words[code].as_py() for code in found.codes[-3:].tolist()] == given[-3:]


def test_labels_of_none_and_of_nothing() -> None:
    assert _straight.labels([], 0).codes.tolist() == []
    assert _straight.labels([pa.nulls(2, LABEL)], 2).codes.tolist() == [-1, -1]


def _shares(column: Any, rooms: list[np.ndarray[Any, Any]]) -> bool:
    held = column.array
    numbers = held.codes if hasattr(held, "codes") else held.asi8 if hasattr(held, "asi8") else column.to_numpy()
    return any(np.shares_memory(numbers, room) for room in rooms)


def test_a_dataframe_is_made_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy is memory that the kernel has to find: of a million rows' times it took as long as four columns."""
    rooms: list[np.ndarray[Any, Any]] = []
    real = _straight.room

    def room(count: int, dtype: Any) -> np.ndarray[Any, Any]:
        rooms.append(real(count, dtype))
        return rooms[-1]

    monkeypatch.setattr(_straight, "room", room)
    frames = RunFrames("r")
    events = [
        {"episode": i // 5, "step_index": i % 5, "action": i % 3, "reward": i / 2, "ts_unix_ns": i} for i in range(40)
    ]
    frames.append_steps(normalize.steps_from_events(events).batch)
    steps = frames.steps()
    for name in (
        "run_id",
        "agent_id",
        "policy_label",
        "episode",
        "step_index",
        "timestamp",
        "action",
        "reward",
        "terminated",
    ):
        assert _shares(steps[name], rooms), name
    assert steps["action"].tolist() == [i % 3 for i in range(40)]
    assert steps["timestamp"].astype("int64").tolist() == list(range(40))
    # Texts that are all missing are of zeros that nobody has touched, and can be set all the same.
    assert steps["render_payload"].isna().all()
    steps = steps.copy()
    steps.loc[1, "render_payload"] = "{}"
    assert steps["render_payload"].tolist()[1] == "{}"


def test_what_a_forked_child_writes_is_its_own() -> None:
    code = (
        "import os, numpy as np; from live_telemetry_widget import _straight; found = _straight.room(1_000_000, np.int64)\n"
        "child = os.fork()\n"
        "if not child: found[0] = 7; os._exit(0)\n"
        "os.waitpid(child, 0); print(found[0])"
    )
    # In a process of its own: this one may have threads, with which it is not to be forked.
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "0"


def test_a_frame_of_before_is_let_go_before_the_next_is_made() -> None:
    frames = RunFrames("r")

    def more(episode: int) -> None:
        event = {"episode": episode, "step_index": 0, "reward": 0.0}
        frames.append_steps(normalize.steps_from_events([event]).batch)

    more(0)

    held = weakref.ref(frames.steps())
    assert held() is not None
    gone: list[bool] = []
    real = frames._steps.copy

    def copy() -> Any:
        gone.append(held() is None)
        return real()

    frames._steps.copy = copy  # type: ignore[method-assign]
    more(1)
    assert len(frames.steps()) == 2
    assert gone == [True]
