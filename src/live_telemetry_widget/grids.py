"""A step's payload or observation as a small grid that the page paints.

Pure functions over JSON texts of anybody's making: what is no grid is None, never an error.

Examples
--------
>>> payload = '{"mode": "grid", "grid": ["SF", "HG"], "agent_position": [0, 1], "game_id": "FrozenLake-v1"}'
>>> grid = grid_from(payload, None, action="2", episode=3, step_index=1)
>>> grid["game"], grid["tiles"], grid["agent"], grid["action"]
('FrozenLake', ['SF', 'HG'], [0, 1], 'right')
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict

if TYPE_CHECKING:
    from typing_extensions import TypeIs

#: A grid beyond this many rows or columns is not drawn.
MAX_SIDE: Final = 256

#: What the actions of a game are called, by number.
ACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "FrozenLake": ("left", "down", "right", "up"),
    "CliffWalking": ("up", "right", "down", "left"),
    "Taxi": ("south", "north", "east", "west", "pick up", "drop off"),
    "Blackjack": ("stick", "hit"),
    "MiniGrid": ("left", "right", "forward", "pick up", "drop", "toggle", "done"),
}

_TAXI_PLACES: Final = (("R", 0, 0), ("G", 0, 4), ("Y", 4, 0), ("B", 4, 3))
_TAXI_STATES: Final = 500
_IN_TAXI: Final = 4
#: Its rows, and the cells with a wall on their east side.
_Board = tuple[list[str], list[list[int]]]
_TAXI_BOARD: Final[_Board] = (
    ["R   G", "     ", "     ", "     ", "Y  B "],
    [[0, 1], [1, 1], [3, 0], [3, 2], [4, 0], [4, 2]],
)
_LEAST_MAP: Final = 3


class Mark(TypedDict):
    """A thing on the grid that is not the agent: ``kind`` is ``"passenger"``, ``"destination"``, ``"cracked"``, ``"start"``."""

    kind: str
    row: int
    col: int
    label: NotRequired[str]


class Grid(TypedDict):
    """What the grid view paints."""

    game: str  # "FrozenLake", "CliffWalking", "Taxi", ... or "" when only the letters are known
    tiles: list[str]  # one string a row, one character a cell
    agent: list[int] | None  # [row, col]
    marks: list[Mark]
    walls: list[list[int]]  # [row, col] pairs: a wall on the east side of that cell
    action: str  # "down", "2", ... ; "" when unknown
    caption: str  # "episode 3, step 5"


def grid_from(  # noqa: PLR0913 - a step's fields, by name
    render_payload: str | None,
    observation: str | None,
    *,
    action: str | None = None,
    episode: int = 0,
    step_index: int = 0,
    game: str = "",
) -> Grid | None:
    """Return the grid of a step, from its payload or else from its observation; None when neither holds one.

    Parameters
    ----------
    render_payload, observation, action
        JSON texts as the step carries them.
    game
        The environment's id where it is known otherwise; a payload's own ``game_id`` wins.
    """
    payload, seen = _parse(render_payload), _parse(observation)
    grid = _from_payload(payload, game) or _from_observation(seen, game)
    if grid is None:
        return None
    grid["action"] = action_name(grid["game"], action)
    grid["caption"] = f"episode {episode}, step {step_index}"
    if _cell(grid, grid["agent"]) == "H":
        row, col = grid["agent"] or (0, 0)
        grid["marks"].append(Mark(kind="cracked", row=row, col=col))
    return grid


def action_name(game: str, action: str | None) -> str:
    """Return what a game calls an action; the action's own text when that is not known.

    >>> action_name("Taxi", "4"), action_name("", "4"), action_name("Taxi", None)
    ('pick up', '4', '')
    """
    value = _parse(action)
    names = ACTIONS.get(game, ())
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return (action or "")[:80]


def family(game_id: object) -> str:
    """Return the family of a Gymnasium id.

    >>> family("FrozenLake8x8-v1"), family("MiniGrid-Empty-5x5-v0"), family("CartPole-v1")
    ('FrozenLake', 'MiniGrid', '')
    """
    text = game_id if isinstance(game_id, str) else ""
    return next((name for name in ACTIONS if text.startswith(name)), "")


def _parse(text: str | None) -> Any:  # noqa: ANN401 - JSON
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _new(game: str, tiles: list[str], agent: list[int] | None) -> Grid:
    return Grid(game=game, tiles=tiles, agent=agent, marks=[], walls=[], action="", caption="")


def _position(value: object, tiles: list[str]) -> list[int] | None:
    """Return [row, col] from a pair or from {row, col}, when it is on the grid."""
    if isinstance(value, dict):
        value = [value.get("row"), value.get("col")]
    if not (isinstance(value, list) and len(value) == 2):  # noqa: PLR2004 - a pair
        return None
    row, col = value
    if not (_is_index(row) and _is_index(col)):
        return None
    return [row, col] if row < len(tiles) and col < len(tiles[row]) else None


def _is_index(value: object) -> TypeIs[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _cell(grid: Grid, at: list[int] | None) -> str:
    return grid["tiles"][at[0]][at[1]] if at else ""


def _from_payload(payload: object, game: str) -> Grid | None:
    if not isinstance(payload, dict) or payload.get("mode") not in ("grid", None):
        return None
    game = family(payload.get("game_id")) or family(game)
    taxi = payload.get("taxi_state")
    tiles = _tiles(payload.get("grid"))
    board = _taxi_board(tiles)
    if isinstance(taxi, dict):
        place = taxi.get("taxi_position", payload.get("agent_position"))
        return _taxi(place, taxi.get("passenger_index"), taxi.get("destination_index"), board)
    if board is not None:
        return _taxi(payload.get("agent_position"), None, None, board)
    if tiles is None:
        return None
    return _new(game, tiles, _position(payload.get("agent_position"), tiles))


def _tiles(rows: object) -> list[str] | None:
    """Return the rows as strings of one length, when they are a grid of letters."""
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_SIDE:
        return None
    tiles: list[str] = []
    for row in rows:
        if isinstance(row, list) and all(isinstance(cell, str) and len(cell) == 1 for cell in row):
            tiles.append("".join(row))
        elif isinstance(row, str):
            tiles.append(row)
        else:
            return None
    width = max(map(len, tiles))
    return [row.ljust(width) for row in tiles] if 0 < width <= MAX_SIDE else None


def _from_observation(seen: object, game: str) -> Grid | None:  # noqa: PLR0911 - one return a form
    game = family(game)
    if isinstance(seen, int) and not isinstance(seen, bool):
        return _taxi_state(seen) if game == "Taxi" else None
    if not isinstance(seen, dict):
        return None
    if game == "Taxi" or "taxi_row" in seen or "taxi_position" in seen:
        return _taxi_observation(seen)
    size = _size(seen.get("grid_size"))
    if size is None or "position" not in seen:
        return None
    blank = [["F"] * size[1] for _ in range(size[0])]
    if "is_cliff" in seen or game == "CliffWalking":
        return _cliff(seen, size)
    if "holes" not in seen:
        return None
    blank[0][0] = "S"
    tiles = ["".join(row) for row in blank]
    for letter, place in (*(("H", hole) for hole in _list(seen.get("holes"))), ("G", seen.get("goal"))):
        at = _position(place, tiles)
        if at:
            tiles[at[0]] = _put(tiles[at[0]], at[1], letter)
    return _new("FrozenLake", tiles, _position(seen.get("position"), tiles))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _put(row: str, col: int, letter: str) -> str:
    return row[:col] + letter + row[col + 1 :]


def _size(value: object) -> tuple[int, int] | None:
    """Return (height, width) from a number or from {height, width}."""
    height, width = (value.get("height"), value.get("width")) if isinstance(value, dict) else (value, value)
    if _is_index(height) and _is_index(width) and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE:
        return height, width
    return None


def _cliff(seen: dict[str, Any], size: tuple[int, int]) -> Grid:
    height, width = size
    tiles = ["o" * width for _ in range(height)]
    if width > 2:  # noqa: PLR2004 - the cliff lies between start and goal
        tiles[-1] = "o" + "C" * (width - 2) + "o"
    goal = _position(seen.get("goal"), tiles)
    if goal:
        tiles[goal[0]] = _put(tiles[goal[0]], goal[1], "T")
    grid = _new("CliffWalking", tiles, _position(seen.get("position"), tiles))
    start = _position(seen.get("start"), tiles)
    if start:
        grid["marks"].append(Mark(kind="start", row=start[0], col=start[1]))
    return grid


def _taxi_state(state: int) -> Grid | None:
    """Return Taxi's board from its number: ((row * 5 + col) * 5 + passenger) * 4 + destination."""
    if not 0 <= state < _TAXI_STATES:
        return None
    state, destination = divmod(state, 4)
    state, passenger = divmod(state, 5)
    return _taxi(list(divmod(state, 5)), passenger, destination)


def _taxi_observation(seen: dict[str, Any]) -> Grid | None:
    if "taxi_row" in seen:
        seen = {**seen, "taxi_position": [seen.get("taxi_row"), seen.get("taxi_col")]}
    if "taxi_position" in seen:
        passenger = seen.get("passenger_index", seen.get("passenger_location"))
        return _taxi(seen["taxi_position"], passenger, seen.get("destination_index", seen.get("destination")))
    state = seen.get("state")
    return _taxi_state(state) if isinstance(state, int) and not isinstance(state, bool) else None


def _taxi_board(rows: list[str] | None) -> _Board | None:
    """Return what Taxi's map of letters is: every other column stands between two cells, and ``|`` there is a wall.

    >>> _taxi_board(["+---+", "|R:G|", "| |B|", "+---+"])
    (['RG', ' B'], [[1, 0]])
    """
    if rows is None or len(rows) < _LEAST_MAP or len(rows[0]) < _LEAST_MAP:
        return None
    inner = rows[1:-1]
    if not all(row[:1] == row[-1:] == "+" for row in (rows[0], rows[-1])):
        return None
    if not all(row[0] == row[-1] == "|" and set(row[2:-1:2]) <= {"|", ":"} for row in inner):
        return None
    walls = [[r, c] for r, row in enumerate(inner) for c, between in enumerate(row[2:-1:2]) if between == "|"]
    return [row[1:-1:2] for row in inner], walls


def _taxi(position: object, passenger: object, destination: object, board: _Board | None = None) -> Grid:
    tiles, walls = board or _TAXI_BOARD
    grid = _new("Taxi", list(tiles), _position(position, list(tiles)))
    grid["walls"] = [list(wall) for wall in walls]
    for kind, index in (("destination", destination), ("passenger", passenger)):
        if not isinstance(index, int) or isinstance(index, bool):
            continue
        if 0 <= index < len(_TAXI_PLACES):
            letter, row, col = _TAXI_PLACES[index]
            grid["marks"].append(Mark(kind=kind, row=row, col=col, label=letter))
        elif kind == "passenger" and index == _IN_TAXI and grid["agent"]:
            row, col = grid["agent"]
            grid["marks"].append(Mark(kind=kind, row=row, col=col, label="in the taxi"))
    return grid
