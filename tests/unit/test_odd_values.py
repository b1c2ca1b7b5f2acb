"""Whatever a training loop hands over: it is told, or counted; nothing raises and nothing else is lost for it."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from live_telemetry_widget.worker import encode, values
from live_telemetry_widget.worker.encode import Encoder
from live_telemetry_widget.worker.records import NOTHING, Block, snapshot

if TYPE_CHECKING:
    import pytest

    from live_telemetry_widget.schema import Problem


class Told:
    """An encoder, and what it counted."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._encoder = Encoder("r", "w", "a", count=self.problems.extend)

    def rows(self, *rows: tuple[Any, ...]) -> dict[str, list[dict[str, Any]]]:
        """Return the rows that come of some steps (or other records), by kind."""
        found: dict[str, list[dict[str, Any]]] = {"steps": [], "episodes": []}
        flat = [value for row in rows for value in (row, *NOTHING)]
        for kind, batch in self._encoder.encode(flat, last=True):
            found[kind] += batch.to_pylist()
        return found

    def counts(self) -> dict[str, int]:
        """Return how many problems there were of each kind."""
        counts = collections.Counter[str]()
        for problem in self.problems:
            counts[problem.kind] += problem.count
        return dict(counts)


def step(*, terminated: object = False, step_index: object = None, observation: object = 0) -> tuple[Any, ...]:
    """Return a step's record."""
    return (1, 0, 1.0, observation, terminated, False, None, step_index, None, None, None, None)


def test_a_flag_that_is_none_costs_no_row() -> None:
    told = Told()
    rows = told.rows(step(), step(terminated=np.array([True, False])), step(terminated=True))
    assert [row["step_index"] for row in rows["steps"]] == [0, 1, 2]
    assert [row["terminated"] for row in rows["steps"]] == [False, False, True]
    assert rows["episodes"][0]["steps"] == 3
    assert told.counts() == {"bad_flag": 1}


def test_a_number_behind_which_nothing_can_be_counted_is_none() -> None:
    told = Told()
    rows = told.rows(step(), step(step_index=2**63 - 1))
    rows["steps"] += told.rows(step(), step())["steps"]
    assert [row["step_index"] for row in rows["steps"]] == [0, 1, 2]
    assert told.counts() == {"bad_index": 1}


def test_a_fault_of_ours_is_counted_and_the_next_rows_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "_count_at_once", lambda *_: 1 / 0)
        assert told.rows(step(), step())["steps"] == []
    assert len(told.rows(step())["steps"]) == 1
    assert told.counts() == {"internal_error": 2}


def test_what_changes_later_was_copied() -> None:
    @dataclasses.dataclass
    class Place:
        at: list[int]

    array, place = np.zeros(2), Place([0])
    seen = [snapshot(collections.OrderedDict(at=array)), snapshot(place), snapshot((array,))]
    array += 1
    place.at[0] = 1
    assert seen[0]["at"].tolist() == [0, 0]
    assert seen[1].at == [0]
    assert seen[2][0].tolist() == [0, 0]


def test_what_cannot_be_copied_is_told_as_text_and_counted() -> None:
    endless: list[Any] = []
    endless.append(endless)
    told = Told()
    (row,) = told.rows(step(observation=snapshot(endless)))["steps"]
    assert "a list that cannot be copied" in row["observation"]
    assert told.counts() == {"not_json": 1}


def test_floats_stay_floats_in_batches_of_any_kind() -> None:
    assert values.lists(np.array([[1.0, 2.5], [1e20, -0.0]])).to_pylist() == ["[1.0,2.5]", "[1e+20,-0.0]"]
    assert values.lists(np.array([3.0, 0.1], np.float32)).to_pylist() == ["3.0", "0.1"]
    assert values.lists(np.array([[1, 2]])).to_pylist() == ["[1,2]"]
    told = Told()
    alike = told.rows(step(observation=np.array([1.0, 2.0])), step(observation=np.array([1.0, 2.0])))
    mixed = told.rows(step(observation=np.array([1.0, 2.0])), step(observation="x"))
    assert alike["steps"][0]["observation"] == mixed["steps"][0]["observation"] == "[1.0,2.0]"


def test_a_row_of_many_long_texts_is_cut_to_what_a_message_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MAX_TEXT", 1_000), ("_MAX_ROW", 2_000), ("_LONG_TEXT", 100)):
        monkeypatch.setattr(encode, name, value)
    told = Told()
    further = {f"text{i}": "x" * 900 for i in range(5)} | {"short": "y"}
    rows = told.rows((*step()[:9], further, None, None), (*step()[:9], {"text0": "x" * 900}, None, None))["steps"]
    assert [row["text0"] for row in rows] == [None, "x" * 900]
    assert rows[0]["short"] == "y"
    assert told.counts() == {"text_too_long": 5}


def test_rewards_of_many_agents_that_are_no_numbers_are_counted() -> None:
    told = Told()
    columns = {
        "agent": np.array([0, 1], np.int32),
        "episode": np.array([0, 0]),
        "step_index": np.array([0, 0]),
        "reward": np.array([1.0, np.nan]),
        "terminated": np.array([False, False]),
        "truncated": np.array([False, False]),
        "action": None,
        "observation": None,
    }
    told.rows(Block(1, ["a", "b"], columns, {}))  # type: ignore[arg-type]
    assert told.counts() == {"not_finite": 1}
