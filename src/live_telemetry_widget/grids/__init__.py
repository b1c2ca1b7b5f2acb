"""A step's payload or observation as a small grid that the page paints.

Pure functions over JSON texts of anybody's making: what is no grid is None, never an error. A payload that says what it is and is not that
is told of, so that it can be counted.

Examples
--------
>>> payload = '{"mode": "grid", "grid": ["SF", "HG"], "agent_position": [0, 1], "game_id": "FrozenLake-v1"}'
>>> grid = grid_from(payload, None, action="2", episode=3, step_index=1)
>>> grid["game"], grid["tiles"], grid["agent"], grid["action"]
('FrozenLake', ['SF', 'HG'], [0, 1], 'right')
>>> read_step('{"mode": "grid", "grid": [1, 2]}', None)
(None, 'grid should be 1 to 256 rows of as many letters, not [1, 2]')
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget.grids import blackjack, boards, images, minigrid
from live_telemetry_widget.grids.model import (
    ACTIONS,
    MAX_SIDE,
    Cards,
    Facing,
    Grid,
    GridError,
    Image,
    Mark,
    family,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ACTIONS",
    "MAX_SIDE",
    "Cards",
    "Facing",
    "Grid",
    "Image",
    "Mark",
    "action_name",
    "family",
    "game_of",
    "grid_from",
    "read_step",
]

#: A longer payload is not parsed for a picture (characters): a frame of 512 x 512 as numbers is 3 million.
MAX_PAYLOAD: Final = 8_000_000


def grid_from(  # noqa: PLR0913 - a step's fields, by name
    render_payload: str | None,
    observation: str | None,
    *,
    next_observation: str | None = None,
    action: str | None = None,
    episode: int = 0,
    step_index: int = 0,
    game: str = "",
) -> Grid | None:
    """Return the grid of a step, from its payload or else from its observation; None when neither holds one.

    Parameters
    ----------
    render_payload, observation, next_observation, action
        JSON texts as the step carries them. A payload shows what the step led to, and so does `next_observation`; `observation`, what it
        began with, is drawn where there is nothing else.
    game
        The environment's id where it is known otherwise; a payload's own ``game_id`` wins.
    """
    grid, _ = read_step(render_payload, observation, next_observation=next_observation, game=game)
    if grid is not None:
        grid["action"] = action_name(grid["game"], action)
        grid["caption"] = f"episode {episode}, step {step_index}"
    return grid


def read_step(
    render_payload: str | None, observation: str | None, *, next_observation: str | None = None, game: str = ""
) -> tuple[Grid | None, str]:
    """Return the grid of a step without its action and caption, and what is wrong with its payload; ``""`` when nothing is."""
    grid, fault = None, ""
    try:
        grid = _from_payload(render_payload, family(game))
    except GridError as error:
        fault = str(error)
    for text in (next_observation, observation):
        grid = grid or _from_observation(_parse(text), family(game))
    if grid is not None and grid["agent"] and grid["tiles"][grid["agent"][0]][grid["agent"][1]] == "H":
        row, col = grid["agent"]
        grid["marks"].append(Mark(kind="cracked", row=row, col=col))
    return grid, fault


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


def game_of(config: Mapping[str, Any]) -> str:
    """Return the game that a run's config tells of; ``""`` when it names none that is known.

    >>> game_of({"run_name": "my run", "metadata": {"worker": {"config": {"game_id": "Taxi-v3"}}}})
    'Taxi'
    """
    at: Any = config
    for name in ("metadata", "worker", "config"):
        at = at.get(name) if isinstance(at, dict) else None
    said = [at.get("game_id"), at.get("env_id")] if isinstance(at, dict) else []
    arguments = config.get("arguments")
    said += [config.get("run_name"), *(arguments if isinstance(arguments, list) else [])]
    return next((found for text in said if (found := family(text))), "")


def _parse(text: str | None) -> Any:  # noqa: ANN401 - JSON
    if not text or len(text) > MAX_PAYLOAD:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _from_payload(text: str | None, game: str) -> Grid | None:
    if not text or text == "null":
        return None
    if len(text) > MAX_PAYLOAD:
        msg = f"a payload of {len(text)} characters is not drawn; the most is {MAX_PAYLOAD}"
        raise GridError(msg)
    payload = _parse(text)
    if not isinstance(payload, dict):
        msg = f"a payload should be a JSON object, not {shown(text)}"
        raise GridError(msg)
    mode = payload.get("mode")
    game = family(payload.get("game_id")) or game
    if mode in ("rgb_array", "image"):
        return images.from_payload(payload, game)
    if mode not in ("grid", "minigrid", None):
        return None  # of a kind that is no picture
    if game == "MiniGrid" or mode == "minigrid":
        return minigrid.from_payload(payload)
    grid = boards.from_payload(payload, game)
    return grid or blackjack.from_observation(payload, game)


def _from_observation(seen: object, game: str) -> Grid | None:
    if seen is None:
        return None
    return (
        blackjack.from_observation(seen, game)
        or minigrid.from_observation(seen, game)
        or boards.from_observation(seen, game)
    )
