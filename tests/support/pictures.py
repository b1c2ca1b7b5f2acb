"""A grid of each game, as their steps carry them, for tests that paint."""

from __future__ import annotations

import base64
import json
import pathlib
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget.grids import grid_from

if TYPE_CHECKING:
    from live_telemetry_widget.grids import Grid

_LAKE = ["SFFF", "FHFH", "FFFH", "HFFG"]
_W, _E = [2, 5, 0], [1, 0, 0]
_ROOM = [
    [_W] * 8,
    [_W, _E, [5, 4, 0], _W, [7, 3, 0], [6, 2, 0], _E, _W],
    [_W, _E, _E, [4, 4, 2], _E, _E, [9, 0, 0], _W],
    [_W, [10, 0, 1], _E, _W, [4, 0, 1], [6, 1, 0], [9, 0, 0], _W],
    [_W, _E, _E, [4, 2, 0], _E, [5, 0, 0], _E, _W],
    [_W, [0, 0, 0], [0, 0, 0], _W, [7, 5, 0], _E, [8, 1, 0], _W],
    [_W] * 8,
]
_TAXI = {"taxi_position": [3, 1], "passenger_index": 2, "destination_index": 1}
_CLIFF = ["o" * 12] * 3 + ["x" + "C" * 10 + "T"]
#: 80 x 60 pixels, written once: what zlib makes of an array is the business of its version.
_FRAME = base64.b64encode((pathlib.Path(__file__).parents[1] / "data" / "frame.png").read_bytes()).decode()

#: (payload, observation, action) of a step of each game.
STEPS: Final[dict[str, tuple[Any, Any, int]]] = {
    "frozenlake": ({"mode": "grid", "game_id": "FrozenLake-v1", "grid": _LAKE, "agent_position": [2, 1]}, None, 2),
    "cracked": ({"mode": "grid", "game_id": "FrozenLake-v1", "grid": _LAKE, "agent_position": [1, 1]}, None, 1),
    "cliffwalking": ({"mode": "grid", "game_id": "CliffWalking-v1", "grid": _CLIFF, "agent_position": [2, 3]}, None, 1),
    "taxi": ({"mode": "grid", "game_id": "Taxi-v3", "taxi_state": _TAXI}, None, 0),
    "taxi-aboard": ({"mode": "grid", "game_id": "Taxi-v3", "taxi_state": {**_TAXI, "passenger_index": 4}}, None, 3),
    "minigrid": ({"mode": "grid", "game_id": "MiniGrid-DoorKey-8x8-v0", "grid": _ROOM}, None, 2),
    "blackjack": (None, {"player_sum": 17, "dealer_card": 1, "usable_ace": True}, 1),
    "blackjack-over": (None, {"player_sum": 24, "dealer_card": 10, "usable_ace": False}, 1),
    "letters": ({"mode": "grid", "grid": ["AB.C", "..#.", "Zx.."], "agent_position": [1, 1]}, None, 7),
    "frame": ({"mode": "image", "format": "png", "data": _FRAME, "game_id": "CartPole-v1"}, None, 1),
}


def pictures() -> dict[str, Grid]:
    """Return a grid of each game, by name."""
    found = {}
    for name, (payload, seen, action) in STEPS.items():
        texts = [None if value is None else json.dumps(value) for value in (payload, seen)]
        grid = grid_from(*texts, action=json.dumps(action), episode=3, step_index=5)
        assert grid is not None
        found[name] = grid
    found["frozenlake"]["path"] = [[0, 0], [0, 1], [0, 2], [1, 2], [2, 2], [2, 1]]
    return found
