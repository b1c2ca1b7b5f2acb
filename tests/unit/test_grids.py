"""What the grid view is drawn from, in all its forms, and anything else that claims to be."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_telemetry_widget.grids import MAX_SIDE, Grid, Image, action_name, grid_from, images, read_step

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
        {"mode": "ansi", "ansi": "..."},
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


# -- MiniGrid --------------------------------------------------------------------------------------------------------

UNSEEN, EMPTY, WALL, DOOR, KEY, BALL, BOX, GOAL, LAVA, AGENT = 0, 1, 2, 4, 5, 6, 7, 8, 9, 10
#: Rows first: 4 columns, 3 rows.
ROOM = [
    [[WALL, 5, 0], [WALL, 5, 0], [DOOR, 4, 2], [WALL, 5, 0]],
    [[EMPTY, 0, 0], [KEY, 4, 0], [BALL, 2, 0], [LAVA, 0, 0]],
    [[AGENT, 0, 1], [BOX, 3, 0], [UNSEEN, 0, 0], [GOAL, 1, 0]],
]
COLUMNS = [[ROOM[row][col] for row in range(3)] for col in range(4)]


def test_minigrid_is_read_columns_first_from_an_observation_and_rows_first_from_a_payload() -> None:
    seen = drawn(None, {"image": COLUMNS, "direction": 0, "mission": "use the key"}, action="2")
    sent = drawn({"mode": "grid", "game_id": "MiniGrid-DoorKey-5x5-v0", "grid": ROOM}, action="2")
    image = drawn({"mode": "minigrid", "image": COLUMNS}, action="2")
    bare = drawn(None, COLUMNS, game="MiniGrid-DoorKey-5x5-v0", action="2")
    assert seen == sent == image == bare
    assert seen["tiles"] == ["##.#", "...~", "..?G"]
    assert (seen["agent"], seen["facing"], seen["action"]) == ([2, 0], "down", "forward")
    assert seen["marks"] == [
        {"kind": "door", "row": 0, "col": 2, "colour": "yellow", "state": "locked"},
        {"kind": "key", "row": 1, "col": 1, "colour": "yellow"},
        {"kind": "ball", "row": 1, "col": 2, "colour": "blue"},
        {"kind": "box", "row": 2, "col": 1, "colour": "purple"},
    ]


def test_what_a_minigrid_agent_sees_has_it_at_the_bottom_looking_up() -> None:
    image = [[[EMPTY, 0, 0]] * 7] * 7
    grid = drawn(None, {"image": image, "direction": 2, "mission": ""})
    assert (grid["agent"], grid["facing"], grid.get("partial")) == ([6, 3], "up", True)


def test_a_minigrid_payload_tells_where_the_agent_is_and_looks() -> None:
    rows = [[[EMPTY, 0, 0]] * 4] * 3
    grid = drawn(
        {"mode": "grid", "game_id": "MiniGrid-Empty-v0", "grid": rows, "agent_position": [1, 3], "agent_direction": 3}
    )
    assert (grid["agent"], grid["facing"], "partial" in grid) == ([1, 3], "up", False)


# -- Blackjack, frames -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "game"),
    [([14, 1, 1], "Blackjack-v1"), ({"player_sum": 14, "dealer_card": 1, "usable_ace": True}, "")],
)
def test_blackjack_from_its_observation(seen: Any, game: str) -> None:
    grid = drawn(None, seen, game=game, action="1")
    assert grid["cards"] == {"player": 14, "dealer": 1, "usable_ace": True}
    assert (grid["game"], grid["tiles"], grid["action"]) == ("Blackjack", [], "hit")


@pytest.mark.parametrize(
    "seen", [[14, 1], [0, 1, 0], [14, 11, 0], [14, 1, 2], [32, 1, 0], [True, 1, 0], [14, 1.0, 0], ["14", 1, 0]]
)
def test_what_is_no_hand_is_none(seen: Any) -> None:
    assert draw(None, seen, game="Blackjack-v1") is None


def pixels_of(image: Image) -> list[list[list[int]]]:
    """Read a PNG of ours back."""
    data = base64.b64decode(image["data"])
    at, body = 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name, part = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + part)
        body += part if name == b"IDAT" else b""
        at += 12 + length
    lines, width = zlib.decompress(body), image["width"]
    rows = [lines[r * (1 + 3 * width) :][1 : 1 + 3 * width] for r in range(image["height"])]
    return [[list(row[3 * c : 3 * c + 3]) for c in range(width)] for row in rows]


def test_a_frame_of_numbers_becomes_a_picture_of_the_same_pixels() -> None:
    rgb = [[[255, 0, 7], [1, 2, 3]], [[9, 9, 9], [0, 0, 0]], [[4, 5, 6], [7, 8, 9]]]
    grid = drawn({"mode": "rgb_array", "rgb": rgb, "game_id": "CartPole-v1"})
    image = grid.get("image")
    assert image is not None
    assert (image["format"], image["width"], image["height"], grid["tiles"]) == ("png", 2, 3, [])
    assert pixels_of(image) == rgb


def test_a_large_frame_is_thinned_out() -> None:
    rgb = [[[row % 256, 0, 0]] * 4 for row in range(images.MAX_FRAME + 1)]
    image = drawn({"mode": "rgb_array", "rgb": rgb}).get("image")
    assert image is not None
    assert (image["width"], image["height"]) == (2, images.MAX_FRAME // 2 + 1)
    assert [row[0][0] for row in pixels_of(image)] == [row % 256 for row in range(0, images.MAX_FRAME + 1, 2)]


WEBP = b"RIFF\x00\x00\x00\x00WEBP"


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 30, 20), (30, 20)),
        (WEBP + b"VP8 " + bytes(10) + struct.pack("<HH", 30, 20), (30, 20)),
        (WEBP + b"VP8L" + bytes(4) + b"\x2f" + ((19 << 14) | 29).to_bytes(4, "little") + bytes(5), (30, 20)),
        (WEBP + b"VP8X" + bytes(8) + (29).to_bytes(3, "little") + (19).to_bytes(3, "little"), (30, 20)),
    ],
    ids=["png", "lossy", "lossless", "extended"],
)
def test_a_file_is_as_large_as_its_header_says_whatever_the_payload_claims(head: bytes, size: tuple[int, int]) -> None:
    data = base64.b64encode(head + bytes(40)).decode()
    image = drawn({"mode": "image", "format": "png", "data": data, "width": 1, "height": 1}).get("image")
    assert image is not None
    assert (image["width"], image["height"]) == size
    assert image["format"] == ("png" if head[1:4] == b"PNG" else "webp")


BOMB = base64.b64encode(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 60_000, 60_000)).decode()


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({"mode": "grid", "grid": [1, 2]}, "grid should be"),
        ({"mode": "grid", "grid": []}, "grid should be"),
        ({"mode": "grid", "game_id": "MiniGrid-v0", "grid": [[[11, 0, 0]]]}, "MiniGrid's encoding"),
        ({"mode": "grid", "game_id": "MiniGrid-v0", "grid": [[[1, 0]]]}, "MiniGrid's encoding"),
        ({"mode": "grid", "game_id": "MiniGrid-v0", "grid": [[[1, 0, 0]], [[1, 0, 0]] * 2]}, "MiniGrid's encoding"),
        ({"mode": "minigrid", "image": "no"}, "MiniGrid's encoding"),
        ({"mode": "rgb_array"}, "rgb should be"),
        ({"mode": "rgb_array", "rgb": [[1, 2, 3]]}, "rgb should be"),
        ({"mode": "rgb_array", "rgb": [[[1, 2, 3]], [[1, 2]]]}, "rgb should be"),
        ({"mode": "rgb_array", "rgb": [[[1, 2, 256]]]}, "0 to 255"),
        ({"mode": "rgb_array", "rgb": [[[1, 2, -1]]]}, "0 to 255"),
        ({"mode": "rgb_array", "rgb": [[["1", "2", "3"]]]}, "0 to 255"),
        ({"mode": "image", "data": "?"}, "not base64"),
        ({"mode": "image", "data": 7}, "not 7"),
        ({"mode": "image", "data": "AAAA" * 30}, "neither a PNG nor a WebP"),
        ({"mode": "image", "data": "A" * (images.MAX_BASE64 + 1)}, "at most"),
        ({"mode": "image", "data": BOMB}, "60000 x 60000"),
        ([], "JSON object"),
        (7, "JSON object"),
    ],
)
def test_a_payload_that_is_not_what_it_says_is_told_of(payload: Any, told: str) -> None:
    grid, fault = read_step(json.dumps(payload), None)
    assert grid is None
    assert told in fault
    assert len(fault) < 300


def test_an_observation_is_drawn_where_the_payload_is_broken() -> None:
    grid, fault = read_step('{"mode": "grid", "grid": 5}', "0", game="Taxi-v3")
    assert grid is not None
    assert "not 5" in fault


@pytest.mark.parametrize("payload", [None, "", "null", "{}", '{"mode": "ansi", "ansi": "x"}', '{"mode": "human"}'])
def test_a_payload_that_claims_no_picture_is_no_fault(payload: str | None) -> None:
    assert read_step(payload, None) == (None, "")


def test_what_a_step_led_to_is_drawn_rather_than_what_it_began_with() -> None:
    hole = {"position": {"row": 1, "col": 1}, "holes": [{"row": 1, "col": 1}], "grid_size": 4}
    before = json.dumps({**hole, "position": {"row": 0, "col": 1}})
    grid = grid_from(None, before, next_observation=json.dumps(hole), action="1", episode=3, step_index=5)
    assert grid is not None
    assert (grid["agent"], grid["marks"]) == ([1, 1], [{"kind": "cracked", "row": 1, "col": 1}])


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
    "rgb",
    "image",
    "data",
    "direction",
    "agent_direction",
    "player_sum",
    "dealer_card",
    "usable_ace",
]
_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 600)
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["grid", "rgb_array", "image", "minigrid", "Taxi-v3", "MiniGrid-v0", "Blackjack-v1", *TAXI_MAP, *LAKE, BOMB]
    )
)
_JSON = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=3), inner),
    max_leaves=20,
)

_CELLS = st.lists(st.lists(st.lists(st.integers(-1, 256), min_size=2, max_size=3), max_size=3), max_size=3)


@given(
    _JSON
    | st.fixed_dictionaries(
        {"mode": st.sampled_from(["grid", "rgb_array", "image", "minigrid"])},
        optional=dict.fromkeys([*_NAMES[1:11], *_NAMES[-8:]], _JSON | _CELLS),
    ),
    _JSON | _CELLS | st.fixed_dictionaries({"position": _JSON, "grid_size": _JSON, "holes": _JSON}),
    _JSON,
    st.sampled_from(["", "Taxi-v3", "FrozenLake-v1", "CliffWalking-v0", "MiniGrid-v0", "Blackjack-v1", "?"]),
)
def test_any_json_is_drawn_within_bounds_or_not_at_all(payload: Any, seen: Any, action: Any, game: str) -> None:
    grid = draw(payload, seen, action=json.dumps(action), game=game)
    if grid is None:
        return
    json.dumps(grid, allow_nan=False)
    image = grid.get("image")
    if image is not None:
        assert len(image["data"]) <= images.MAX_BASE64
        assert 0 < max(image["width"], image["height"]) <= images.MAX_FILE_SIDE
    if image is not None or "cards" in grid:
        assert (grid["tiles"], grid["agent"], grid["marks"]) == ([], None, [])
        return
    assert 0 < len(grid["tiles"]) <= MAX_SIDE
    width = len(grid["tiles"][0])
    assert 0 < width <= MAX_SIDE
    assert {len(row) for row in grid["tiles"]} == {width}
    for row, col in [grid["agent"] or [0, 0], *([mark["row"], mark["col"]] for mark in grid["marks"]), *grid["walls"]]:
        assert 0 <= row < len(grid["tiles"])
        assert 0 <= col < width


@given(st.text() | st.none(), st.text() | st.none(), st.text() | st.none())
def test_any_text_is_no_error(payload: str | None, seen: str | None, action: str | None) -> None:
    grid_from(payload, seen, action=action, episode=0, step_index=0)
