"""MiniGrid's encoding: an array of (object, colour, state), columns first, as ``Grid.encode()`` of MiniGrid makes it.

An observation's ``image`` is that; a payload's ``grid`` has rows first, as every payload's grid has. In what an agent sees (7 x 7, the agent
at the middle of the bottom row, looking up) the agent is not encoded; in what ``FullyObsWrapper`` gives it is.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from live_telemetry_widget.grids.model import MAX_SIDE, Facing, Grid, GridError, Mark, new, position, shown

#: The character of a tile, by the number of the object: unseen, empty, wall, floor, then things that lie on a tile, goal, lava, agent.
_TILES: Final = "?.#,.....~."
_GOAL: Final = 8
_AGENT: Final = 10
_THINGS: Final = {4: "door", 5: "key", 6: "ball", 7: "box"}
_COLOURS: Final = ("red", "green", "blue", "purple", "yellow", "grey")
_DOORS: Final = ("open", "closed", "locked")
_FACING: Final[tuple[Facing, ...]] = ("right", "down", "left", "up")
_VALUES: Final = 3


def from_payload(payload: dict[str, Any]) -> Grid | None:
    """Return the grid of a payload whose ``grid`` (rows first) or ``image`` (columns first) is MiniGrid's encoding; None when it has neither.

    Raises
    ------
    GridError
        It has one that is no such encoding.
    """
    rows, image = payload.get("grid"), payload.get("image")
    if rows is None and image is None:
        return None
    cells = _cells(rows) if rows is not None else _transposed(_cells(image))
    if cells is None:
        msg = f"MiniGrid's encoding should be a list of lists of [object, colour, state], not {shown(rows if rows is not None else image)}"
        raise GridError(msg)
    return _grid(
        cells, payload.get("agent_position"), payload.get("agent_direction", payload.get("direction")), seen=False
    )


def from_observation(seen: object, game: str) -> Grid | None:
    """Return the grid that an observation encodes; None when it encodes none."""
    known = game == "MiniGrid"
    image: object = seen
    direction: object = None
    if isinstance(seen, dict):
        image, direction = seen.get("image"), seen.get("direction")
        known = known or ("direction" in seen and "image" in seen)
    cells = _transposed(_cells(image)) if known else None
    return None if cells is None else _grid(cells, None, direction, seen=True)


def _cells(value: object) -> np.ndarray[Any, Any] | None:
    """Return an array (first, second, 3) of whole numbers, if that is what the lists hold."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_SIDE:
        return None
    try:
        cells = np.asarray(value)
    except (ValueError, OverflowError, TypeError):  # ragged, or too large
        return None
    if cells.ndim != _VALUES or cells.shape[2] != _VALUES or cells.dtype.kind not in "iu" or not cells.size:
        return None
    fits = cells.shape[1] <= MAX_SIDE and cells.min() >= 0 and cells[:, :, 0].max() < len(_TILES)
    return cells if fits else None


def _transposed(cells: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any] | None:
    return None if cells is None else cells.transpose(1, 0, 2)


def _grid(cells: np.ndarray[Any, Any], at: object, direction: object, *, seen: bool) -> Grid:
    rows: list[list[list[int]]] = cells.tolist()
    tiles = ["".join("G" if kind == _GOAL else _TILES[kind] for kind, _, _ in row) for row in rows]
    grid = new("MiniGrid", tiles, position(at, tiles))
    for r, row in enumerate(rows):
        for c, (kind, colour, state) in enumerate(row):
            if kind in _THINGS:
                mark = Mark(kind=_THINGS[kind], row=r, col=c)
                if colour < len(_COLOURS):
                    mark["colour"] = _COLOURS[colour]
                if kind == 4 and state < len(_DOORS):  # noqa: PLR2004 - a door
                    mark["state"] = _DOORS[state]
                grid["marks"].append(mark)
            elif kind == _AGENT:
                grid["agent"], direction = [r, c], state
    if grid["agent"] is None and seen:
        # What the agent itself sees: it stands at the middle of the bottom row and looks up, wherever that is.
        grid["agent"], grid["facing"], grid["partial"] = [len(tiles) - 1, len(tiles[0]) // 2], "up", True
    elif isinstance(direction, int) and not isinstance(direction, bool) and 0 <= direction < len(_FACING):
        grid["facing"] = _FACING[direction]
    return grid
