"""What replay and the layers ask of the kernel."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from live_telemetry_widget import normalize
from live_telemetry_widget.client import RunDetails
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.lens import AgentFrames
from live_telemetry_widget.view import episode_question, questions
from live_telemetry_widget.view.artist import Artist
from live_telemetry_widget.view.layers_question import Layers

if TYPE_CHECKING:
    from live_telemetry_widget.lens import Frames

ROWS = ["SFFF", "FHFH", "FFFH", "HFFG"]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no answer cut short because the machine is busy; one test does so on purpose."""
    monkeypatch.setattr("live_telemetry_widget.view.episode_question._MAX_SECONDS", 60.0)
    monkeypatch.setattr("live_telemetry_widget.view.layers_question._AT_ONCE", 60.0)


class View:
    """What a question is asked of."""

    def __init__(
        self, events: list[dict[str, Any]], agent: str | None = None, config: dict[str, Any] | None = None
    ) -> None:
        self.feed = RunFeed("r", Link("live"))
        if config is not None:
            self.feed.details = RunDetails(json.dumps(config), 0, 0, ended=False)
        self.add(events)
        self.frames: Frames = self.feed.frames if agent is None else AgentFrames(self.feed.frames, agent)
        self.artist = Artist(self.feed)
        self.layers = Layers()

    def add(self, events: list[dict[str, Any]]) -> None:
        """Have steps come in."""
        steps = [e for e in events if e.get("type", "step") == "step"]
        self.feed.frames.append_steps(normalize.steps_from_events(steps).batch)

    def ask(self, kind: str, **fields: Any) -> tuple[Any, list[pa.Table]]:
        """Return what a question is answered with."""
        message, buffers = questions.answer(self, {"kind": kind, "version": 2, "id": 7, **fields})  # type: ignore[arg-type]
        return json.loads(json.dumps(message)), [pa.ipc.open_stream(io.BytesIO(b)).read_all() for b in buffers]


def walk(episode: int, *places: tuple[int, int], agent: str = "a", **more: Any) -> list[dict[str, Any]]:
    """Return the steps that go from one place to the next."""
    events = []
    for i in range(len(places) - 1):
        (r0, c0), (r1, c1) = places[i], places[i + 1]
        action = {(0, -1): 0, (1, 0): 1, (0, 1): 2, (-1, 0): 3}.get((r1 - r0, c1 - c0), 0)
        payload = {"mode": "grid", "game_id": "FrozenLake-v1", "grid": ROWS, "agent_position": [r1, c1]}
        seen = {"position": {"row": r0, "col": c0}, "grid_size": 4, "holes": []}
        events.append(
            {"episode": episode, "step_index": i, "agent_id": agent, "action": action, "reward": 0.0, "state": 4 * r0 + c0,
             "observation": seen, "render_payload": payload, **more}
        )  # fmt: skip
    return events


PLACES = [(0, 0), (0, 1), (0, 0), (0, 1), (0, 2)]


def test_an_episode_is_answered_with_each_picture_once() -> None:
    view = View([*walk(3, (0, 0), (1, 0)), *walk(4, *PLACES)])
    answer, (steps,) = view.ask("ask_episode", row=1)
    assert {name: answer[name] for name in ("row", "worker", "agent", "episode", "total", "first", "count")} == {
        "row": 1, "worker": "", "agent": "a", "episode": 4, "total": 4, "first": 0, "count": 4,
    }  # fmt: skip
    assert answer["spans"] == []
    assert [answer["grids"][number]["agent"] for number in answer["drawn"]] == [[0, 1], [0, 0], [0, 1], [0, 2]]
    assert answer["drawn"] == [0, 1, 0, 2]
    assert answer["actions"] == ["right", "left", "right", "right"]
    assert {(g["action"], g["caption"]) for g in answer["grids"]} == {("", "")}
    assert steps.column("step_index").to_pylist() == [0, 1, 2, 3]
    assert steps.column("row").to_pylist() == [1, 2, 3, 4], "where the step table has them"
    assert "render_payload" not in steps.column_names


def test_a_long_episode_is_answered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a machine that is busy, time would end a part sooner.
    monkeypatch.setattr(episode_question, "_MAX_SECONDS", 60.0)
    view = View([{"episode": 0, "step_index": i, "observation": 0} for i in range(1_000)])
    answer, (steps,) = view.ask("ask_episode", row=0, first=900, count=10_000)
    assert (answer["total"], answer["first"], answer["count"]) == (1_000, 900, 100)
    assert set(answer["drawn"]) == {-1}
    answer, (steps,) = view.ask("ask_episode", row=0)
    assert (answer["count"], steps.num_rows) == (256, 256)
    answer, (steps,) = view.ask("ask_episode", row=0, step=700, count=100)
    assert (answer["first"], steps.column("step_index").to_pylist()[0]) == (700, 700)
    answer, _ = view.ask("ask_episode", row=0, step=2**52)
    assert answer["first"] == 768
    answer, (steps,) = view.ask("ask_episode", row=0, first=5_000)
    assert (answer["count"], steps.num_rows) == (0, 0)


def test_a_part_of_large_pictures_is_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("live_telemetry_widget.view.episode_question._MAX_CHARACTERS", 1_000)
    frames = [{"mode": "rgb_array", "rgb": [[[i, j, k] for j in range(20)] for k in range(20)]} for i in range(8)]
    view = View([{"episode": 0, "step_index": i, "render_payload": frame} for i, frame in enumerate(frames)])
    seen = 0
    while seen < 8:
        answer, (steps,) = view.ask("ask_episode", row=0, first=seen)
        assert 0 < answer["count"] < 8
        assert len(answer["drawn"]) == steps.num_rows == answer["count"]
        seen += answer["count"]
    assert seen == answer["total"] == 8


def test_an_episode_is_found_by_its_number() -> None:
    view = View([*walk(3, (0, 0), (1, 0)), *walk(3, (0, 0), (0, 1), agent="b"), *walk(4, (0, 0), (1, 0))])
    answer, _ = view.ask("ask_episode", episode=3, agent="b", worker="", count=1)
    assert (answer["row"], answer["agent"]) == (1, "b")
    refused, _ = view.ask("ask_episode", episode=9, agent="b")
    assert (refused["kind"], refused["message"]) == ("refused", "there is no episode 9 of agent 'b'")


def test_through_a_lens_rows_are_the_agents() -> None:
    both = [
        *walk(0, (0, 0), (0, 1), agent="x"),
        *walk(0, *PLACES, agent="b"),
        *walk(1, (0, 0), (1, 0), (2, 0), agent="b"),
    ]
    view = View(both, agent="b")
    answer, (steps,) = view.ask("ask_episode", row=1)
    assert (answer["episode"], answer["total"], steps.column("row").to_pylist()) == (1, 2, [4, 5])
    assert view.ask("ask_episode", episode=0, agent="x")[0]["kind"] == "refused"
    assert view.ask("ask_episode", episode=1, agent="b")[0]["row"] == 1


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"row": 1},
        {"row": -1},
        {"row": "0"},
        {"row": True},
        {"row": 2**60},
        {"row": 0, "first": -1},
        {"row": 0, "step": 0.5},
        {"episode": 0, "agent": 7},
    ],
)
def test_a_question_about_no_episode_is_refused(fields: dict[str, Any]) -> None:
    answer, _ = View(walk(0, (0, 0), (0, 1))).ask("ask_episode", **fields)
    assert answer["kind"] == "refused"
    assert "could not answer" not in answer["message"], "a fault of ours"


# -- where two differ ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "step", "what"),
    [
        (PLACES, PLACES, None, ""),
        (PLACES, [*PLACES[:2], (1, 1), (1, 2)], 1, "action"),
        (PLACES, PLACES[:3], 2, "length"),
        ([(0, 0), (0, 1), (0, 2)], [(0, 0), (0, 0), (0, 1)], 0, "action"),
    ],
)
def test_two_episodes_differ_first_where_their_action_or_state_does(
    left: Any, right: Any, step: Any, what: str
) -> None:
    view = View([*walk(0, *left), *walk(1, *right)])
    answer, _ = view.ask("ask_difference", row=0, other=1)
    assert (answer["step"], answer["what"]) == (step, what)
    back, _ = view.ask("ask_difference", row=1, other=0)
    assert (back["step"], back["what"]) == (step, what)


def test_states_are_compared_and_without_them_observations() -> None:
    same = walk(0, *PLACES)
    other = [{**event, "episode": 1} for event in same]
    other[2] = {**other[2], "observation": {"more": 1}}
    assert View([*same, *other]).ask("ask_difference", row=0, other=1)[0]["step"] is None
    stateless = [{k: v for k, v in event.items() if k != "state"} for event in (*same, *other)]
    answer, _ = View(stateless).ask("ask_difference", row=0, other=1)
    assert (answer["step"], answer["what"]) == (2, "observation")
    other[1] = {**other[1], "state": 9}
    answer, _ = View([*same, *other]).ask("ask_difference", row=0, other=1)
    assert (answer["step"], answer["what"]) == (1, "state")


@pytest.mark.parametrize(
    ("left", "right", "step"),
    [
        ([[0, 0], [0, 1]], [[0, 0], [1, 1]], 1),
        ([[0, 0], [0, 1]], [[0.0, 0.0], [0.0, 1.0]], None),
        ([[0, 0], [0, 1]], [[0.0, 0.0], [0.0, 1.5]], 1),
        ([[0, 0], [0, 1]], [{"x": 0}, {"x": 1}], 0),
        ([0, 1], [0.0, 1.0], None),
        ([[[0], [1]], [[2]]], [[[0], [1]], [[3]]], 1),
    ],
)
def test_states_may_be_lists(left: list[Any], right: list[Any], step: int | None) -> None:
    def of(episode: int, states: list[Any]) -> list[dict[str, Any]]:
        return [{"episode": episode, "step_index": i, "action": 0, "state": s} for i, s in enumerate(states)]

    answer, _ = View([*of(0, left), *of(1, right)]).ask("ask_difference", row=0, other=1)
    assert (answer["kind"], answer["step"]) == ("answer", step)


def test_the_difference_of_long_episodes_is_found_behind_the_first_block_and_a_gap_is_none() -> None:
    events = [{"episode": e, "step_index": i, "action": 0} for e in (0, 1) for i in range(9_000) if (e, i) != (1, 50)]
    view = View(events)
    assert view.ask("ask_difference", row=0, other=1)[0]["step"] is None
    events[-1] = {**events[-1], "action": 1}
    answer, _ = View(events).ask("ask_difference", row=0, other=1)
    assert (answer["step"], answer["what"]) == (8_999, "action")


# -- layers ----------------------------------------------------------------------------------------------------------


def visits(answer: dict[str, Any]) -> dict[tuple[int, int], int]:
    return {(row, col): count for row, col, count in answer["visits"]}


def whole(view: View, **fields: Any) -> dict[str, Any]:
    """Ask until everything is counted."""
    for _ in range(200):
        answer, _ = view.ask("ask_layers", **fields)
        if answer["rows"] == answer["total"]:
            return answer
    pytest.fail("never whole")


def test_visits_are_counted_by_cell_and_go_on() -> None:
    view = View(walk(0, *PLACES))
    answer = whole(view)
    assert visits(answer) == {(0, 1): 2, (0, 0): 1, (0, 2): 1}
    assert (answer["rows"], answer["full"]) == (4, False)
    view.add(walk(1, (0, 0), (0, 1)))
    assert visits(whole(view)) == {(0, 1): 3, (0, 0): 1, (0, 2): 1}


def test_visits_are_of_an_agent_and_of_a_range() -> None:
    view = View([*walk(0, *PLACES), *walk(0, (0, 0), (1, 0), agent="b"), *walk(1, (0, 0), (0, 1))])
    assert visits(whole(view, agent="b")) == {(1, 0): 1}
    assert visits(whole(view, first=1, last=2)) == {(1, 0): 1, (0, 1): 1}
    assert visits(whole(view, agent="a", first=1, last=9)) == {(0, 1): 1}
    assert visits(whole(view, first=5, last=3)) == {}


def test_the_latest_value_of_each_action_is_known_where_the_step_began() -> None:
    first = walk(0, (0, 0), (0, 1), q_before=0.0, q_after=0.5)
    later = walk(1, (0, 0), (0, 1), q_before=0.5, q_after=0.75)
    down = walk(2, (0, 0), (1, 0), q_before=0.25)
    answer = whole(View([*first, *later, *down]), game="FrozenLake")
    assert answer["actions"] == ["left", "down", "right", "up"]
    assert answer["values"] == [[0, 0, [None, 0.25, 0.75, None]]]


def test_values_of_all_actions_are_taken_as_they_are() -> None:
    lists = [*walk(0, (0, 0), (0, 1), q_values=[1, 2, 3, 4]), *walk(1, (0, 0), (0, 1), q_values=[4.5, 3, 2, 1])]
    assert whole(View(lists))["values"] == [[0, 0, [4.5, 3, 2, 1]]]
    broken = walk(0, (0, 0), (0, 1), q_values={"left": 1})
    assert whole(View(broken))["values"] == []


def test_in_taxi_values_are_of_who_is_where() -> None:
    number = ((3 * 5 + 1) * 5 + 2) * 4
    events = [
        {"episode": 0, "step_index": i, "action": 1, "q_after": float(i), "observation": number + i} for i in range(2)
    ]
    view = View(events, config={"run_name": "Taxi"})
    values = {context: whole(view, context=context)["values"] for context in ("Y|R|", "Y|G|", "R|G|")}
    assert values["Y|R|"] == [[3, 1, [None, 0.0, None, None, None, None]]]
    assert values["Y|G|"] == [[3, 1, [None, 1.0, None, None, None, None]]]
    assert values["R|G|"] == []


def test_a_long_run_is_counted_over_several_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("live_telemetry_widget.view.layers_question._AT_ONCE", 0.0)
    view = View([event for episode in range(2_000) for event in walk(episode, *PLACES)])
    rows = [view.ask("ask_layers")[0]["rows"] for _ in range(3)]
    assert rows[0] < rows[1] < rows[2] < 8_000
    assert sum(visits(whole(view)).values()) == 8_000


def test_a_world_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("live_telemetry_widget.view.layers_question._MOST_CELLS", 2)
    answer, _ = View(walk(0, *PLACES)).ask("ask_layers")
    assert answer["full"] is True


def test_the_sample_run_has_values_where_it_was(sample_events: list[dict[str, Any]]) -> None:
    steps = [event for event in sample_events if event["type"] == "step"]
    answer = whole(View(steps), game="FrozenLake")
    last = {(event["state"], event["action"]): event["q_after"] for event in steps}
    told = {
        (4 * row + col, action): value
        for row, col, values in answer["values"]
        for action, value in enumerate(values)
        if value is not None
    }
    assert told == last
    counts: dict[int, int] = {}
    for event in steps:
        counts[event["next_state"]] = counts.get(event["next_state"], 0) + 1
    assert {4 * row + col: count for (row, col), count in visits(answer).items()} == counts
