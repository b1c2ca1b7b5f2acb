"""What the grid view is drawn from, in all its forms, and anything else that claims to be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_telemetry_widget.grids import MAX_SIDE, Grid, action_name, grid_from

LAKE = ["SFFF", "FHFH", "FFFH", "HFFG"]
TAXI_MAP = ["+---------+", "|R: | : :G|", "| : | : : |", "| : : : : |", "| | : | : |", "|Y| : |B: |", "+---------+"]


def draw(payload: Any = None, observation: Any = None, **options: Any) -> Grid | None:
    texts = [None if value is None else json.dumps(value) for value in (payload, observation)]
    return grid_from(*texts, **{"episode": 3, "step_index": 5, **options})


def drawn(payload: Any = None, observation: Any = None, **options: Any) -> Grid:
    grid = draw(payload, observation, **options)
    assert grid is not None
    return grid


@pytest.mark.parametrize("rows", [LAKE, [list(row) for row in LAKE]], ids=["strings", "letters"])
def test_a_payload_of_letters(rows: list[Any]) -> None:
    payload = {"mode": "grid", "grid": rows, "agent_position": [2, 1], "game_id": "FrozenLake-v1"}
    assert drawn(payload, action="1") == {
        "game": "FrozenLake",
        "tiles": LAKE,
        "agent": [2, 1],
        "marks": [],
        "walls": [],
        "action": "down",
        "caption": "episode 3, step 5",
    }


def test_the_ice_cracks_where_the_agent_fell_in() -> None:
    grid = drawn({"mode": "grid", "grid": LAKE, "agent_position": [1, 3]})
    assert grid["marks"] == [{"kind": "cracked", "row": 1, "col": 3}]


@pytest.mark.parametrize("size", [4, {"height": 4, "width": 4}])
def test_frozen_lake_from_its_observation(size: Any) -> None:
    holes = [{"row": 1, "col": 1}, {"row": 1, "col": 3}, {"row": 2, "col": 3}, {"row": 3, "col": 0}]
    seen = {
        "state": 9,
        "position": {"row": 2, "col": 1},
        "goal": {"row": 3, "col": 3},
        "grid_size": size,
        "holes": holes,
    }
    grid = drawn(None, seen)
    assert (grid["game"], grid["tiles"], grid["agent"]) == ("FrozenLake", LAKE, [2, 1])


def test_the_sample_run_is_drawn_at_every_step(sample_events: list[dict[str, Any]]) -> None:
    for event in sample_events:
        if event["type"] == "step":
            grid = drawn(None, event["observation"], action=json.dumps(event["action"]))
            assert grid["tiles"] == LAKE
            assert grid["agent"] == list(divmod(event["state"], 4))
            assert grid["action"] == ("left", "down", "right", "up")[event["action"]]


def test_cliff_walking_from_its_observation() -> None:
    seen = {
        "state": 36,
        "position": {"row": 3, "col": 0},
        "goal": {"row": 3, "col": 11},
        "start": {"row": 3, "col": 0},
        "is_cliff": False,
        "grid_size": {"height": 4, "width": 12},
    }
    grid = drawn(None, seen, action="0")
    assert grid["tiles"] == ["oooooooooooo"] * 3 + ["oCCCCCCCCCCT"]
    assert (grid["agent"], grid["action"]) == ([3, 0], "up")
    assert grid["marks"] == [{"kind": "start", "row": 3, "col": 0}]


def test_taxi_from_its_payload_its_number_and_its_map_is_the_same_board() -> None:
    state = {"taxi_position": [3, 1], "passenger_index": 2, "destination_index": 0, "last_action": 4}
    number = ((3 * 5 + 1) * 5 + 2) * 4 + 0
    payload = {"mode": "grid", "grid": TAXI_MAP, "taxi_state": state, "game_id": "Taxi-v3", "agent_position": [3, 1]}
    by_payload = drawn(payload, action="4")
    by_number = drawn(None, number, game="Taxi-v3", action="4")
    by_object = drawn(None, {"state": number}, game="Taxi-v3", action="4")
    assert by_payload == by_number == by_object
    assert by_payload["tiles"] == ["R   G", "     ", "     ", "     ", "Y  B "]
    assert by_payload["walls"] == [[0, 1], [1, 1], [3, 0], [3, 2], [4, 0], [4, 2]]
    assert by_payload["agent"] == [3, 1]
    assert by_payload["marks"] == [
        {"kind": "destination", "row": 0, "col": 0, "label": "R"},
        {"kind": "passenger", "row": 4, "col": 0, "label": "Y"},
    ]
    assert by_payload["action"] == "pick up"


def test_a_passenger_in_the_taxi_is_where_the_taxi_is() -> None:
    state = {"taxi_position": [2, 2], "passenger_index": 4, "destination_index": 3}
    grid = drawn({"mode": "grid", "taxi_state": state})
    assert {"kind": "passenger", "row": 2, "col": 2, "label": "in the taxi"} in grid["marks"]


def test_a_taxi_map_alone_gives_the_board() -> None:
    grid = drawn({"mode": "grid", "grid": TAXI_MAP, "agent_position": [0, 4]})
    assert (grid["game"], grid["tiles"][0], grid["agent"], grid["marks"]) == ("Taxi", "R   G", [0, 4], [])


def test_one_board_drawn_does_not_change_the_next() -> None:
    first = drawn(None, 0, game="Taxi-v3")
    first["tiles"][0], first["walls"][0][0] = "?", 99
    second = drawn(None, 0, game="Taxi-v3")
    assert (second["tiles"][0], second["walls"][0]) == ("R   G", [0, 1])


@pytest.mark.parametrize(
    "payload",
    [
        {"mode": "rgb_array", "rgb": [[[0, 0, 0]]]},
        {"mode": []},
        {"mode": {"grid": 1}},
        {"mode": "grid"},
        {"mode": "grid", "grid": []},
        {"mode": "grid", "grid": [""]},
        {"mode": "grid", "grid": [["SF"]]},
        {"mode": "grid", "grid": [1, 2]},
        {"mode": "grid", "grid": ["F" * (MAX_SIDE + 1)]},
        {"mode": "grid", "grid": ["F"] * (MAX_SIDE + 1)},
        [],
        7,
    ],
)
def test_what_is_no_grid_is_none(payload: Any) -> None:
    assert draw(payload) is None


@pytest.mark.parametrize("size", [0, -1, MAX_SIDE + 1, 10**30, 2.5, True, "4", {"height": 4}, None])
def test_a_board_of_an_impossible_size_is_none(size: Any) -> None:
    assert draw(None, {"position": {"row": 0, "col": 0}, "holes": [], "grid_size": size}) is None


@pytest.mark.parametrize("at", [[-1, 0], [0, 4], [4, 0], [0.5, 0], [True, 0], [0], "00", None, {"row": 0}])
def test_an_agent_that_is_nowhere_on_the_grid_is_not_drawn(at: Any) -> None:
    assert drawn({"mode": "grid", "grid": LAKE, "agent_position": at})["agent"] is None


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"mode": "grid", "grid": [NaN]}', "\ud800"])
def test_broken_json_is_none(text: str) -> None:
    assert grid_from(text, text, episode=0, step_index=0) is None


def test_an_unknown_action_is_shown_as_it_is() -> None:
    assert action_name("FrozenLake", "4") == "4"
    assert action_name("FrozenLake", "true") == "true"
    assert action_name("", "[0.5, 1]") == "[0.5, 1]"
    assert action_name("FrozenLake", "not json") == "not json"
    assert len(action_name("", "1" * 1000)) == 80


_NAMES = [
    "mode",
    "grid",
    "game_id",
    "agent_position",
    "taxi_state",
    "taxi_position",
    "taxi_row",
    "taxi_col",
    "passenger_index",
    "destination_index",
    "state",
    "position",
    "row",
    "col",
    "goal",
    "start",
    "holes",
    "grid_size",
    "height",
    "width",
    "is_cliff",
]
_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 600)
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["grid", "Taxi-v3", "FrozenLake-v1", "CliffWalking-v0", *TAXI_MAP, *LAKE])
)
_JSON = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=3), inner),
    max_leaves=20,
)


@given(
    _JSON | st.fixed_dictionaries({"mode": st.just("grid")}, optional=dict.fromkeys(_NAMES[1:11], _JSON)),
    _JSON | st.fixed_dictionaries({"position": _JSON, "grid_size": _JSON, "holes": _JSON}),
    _JSON,
    st.sampled_from(["", "Taxi-v3", "FrozenLake-v1", "CliffWalking-v0", "?"]),
)
def test_any_json_is_drawn_within_bounds_or_not_at_all(payload: Any, seen: Any, action: Any, game: str) -> None:
    grid = draw(payload, seen, action=json.dumps(action), game=game)
    if grid is None:
        return
    assert 0 < len(grid["tiles"]) <= MAX_SIDE
    width = len(grid["tiles"][0])
    assert 0 < width <= MAX_SIDE
    assert {len(row) for row in grid["tiles"]} == {width}
    for row, col in [grid["agent"] or [0, 0], *([mark["row"], mark["col"]] for mark in grid["marks"]), *grid["walls"]]:
        assert 0 <= row < len(grid["tiles"])
        assert 0 <= col < width
    json.dumps(grid, allow_nan=False)


@given(st.text() | st.none(), st.text() | st.none(), st.text() | st.none())
def test_any_text_is_no_error(payload: str | None, seen: str | None, action: str | None) -> None:
    grid_from(payload, seen, action=action, episode=0, step_index=0)
