"""Boards of letters: FrozenLake, CliffWalking, Taxi, and any other grid of letters."""

from __future__ import annotations

from typing import Any, Final

from live_telemetry_widget.grids.model import MAX_SIDE, Grid, GridError, Mark, is_index, listed, new, position, shown

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


def from_payload(payload: dict[str, Any], game: str) -> Grid | None:
    """Return the board of a payload of mode ``"grid"``; None when it holds none.

    Raises
    ------
    GridError
        It has a ``grid`` that is none.
    """
    rows = payload.get("grid")
    taxi = payload.get("taxi_state")
    tiles = _tiles(rows)
    if rows is not None and tiles is None and not isinstance(taxi, dict):
        msg = f"grid should be 1 to {MAX_SIDE} rows of as many letters, not {shown(rows)}"
        raise GridError(msg)
    board = _taxi_board(tiles)
    if isinstance(taxi, dict):
        place = taxi.get("taxi_position", payload.get("agent_position"))
        return _taxi(place, taxi.get("passenger_index"), taxi.get("destination_index"), board)
    if board is not None:
        return _taxi(payload.get("agent_position"), None, None, board)
    if tiles is None:
        return None
    return new(game, tiles, position(payload.get("agent_position"), tiles))


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


def from_observation(seen: object, game: str) -> Grid | None:  # noqa: PLR0911 - one return a form
    """Return the board that an observation describes; None when it describes none."""
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
    for letter, place in (*(("H", hole) for hole in listed(seen.get("holes"))), ("G", seen.get("goal"))):
        at = position(place, tiles)
        if at:
            tiles[at[0]] = _put(tiles[at[0]], at[1], letter)
    return new("FrozenLake", tiles, position(seen.get("position"), tiles))


def _put(row: str, col: int, letter: str) -> str:
    return row[:col] + letter + row[col + 1 :]


def _size(value: object) -> tuple[int, int] | None:
    """Return (height, width) from a number or from {height, width}."""
    height, width = (value.get("height"), value.get("width")) if isinstance(value, dict) else (value, value)
    if is_index(height) and is_index(width) and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE:
        return height, width
    return None


def _cliff(seen: dict[str, Any], size: tuple[int, int]) -> Grid:
    height, width = size
    tiles = ["o" * width for _ in range(height)]
    if width > 2:  # noqa: PLR2004 - the cliff lies between start and goal
        tiles[-1] = "o" + "C" * (width - 2) + "o"
    goal = position(seen.get("goal"), tiles)
    if goal:
        tiles[goal[0]] = _put(tiles[goal[0]], goal[1], "T")
    grid = new("CliffWalking", tiles, position(seen.get("position"), tiles))
    start = position(seen.get("start"), tiles)
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


def _taxi(place: object, passenger: object, destination: object, board: _Board | None = None) -> Grid:
    tiles, walls = board or _TAXI_BOARD
    grid = new("Taxi", list(tiles), position(place, list(tiles)))
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
