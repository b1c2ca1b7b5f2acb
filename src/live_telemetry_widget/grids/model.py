"""The grid model: what a picture of a step consists of, small and typed, before anybody paints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired, TypedDict

if TYPE_CHECKING:
    from typing_extensions import TypeIs

#: A grid beyond this many rows or columns is not drawn.
MAX_SIDE: Final = 256

Facing = Literal["up", "right", "down", "left"]

#: What the actions of a game are called, by number.
ACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "FrozenLake": ("left", "down", "right", "up"),
    "CliffWalking": ("up", "right", "down", "left"),
    "Taxi": ("south", "north", "east", "west", "pick up", "drop off"),
    "Blackjack": ("stick", "hit"),
    "MiniGrid": ("left", "right", "forward", "pick up", "drop", "toggle", "done"),
}


class Mark(TypedDict):
    """A thing on the grid that is not the agent.

    ``kind`` is ``"passenger"``, ``"destination"``, ``"cracked"`` or ``"start"``, and in MiniGrid ``"door"``, ``"key"``, ``"ball"`` or ``"box"``.
    """

    kind: str
    row: int
    col: int
    label: NotRequired[str]
    colour: NotRequired[str]  # MiniGrid's: "red", "green", "blue", "purple", "yellow", "grey"
    state: NotRequired[str]  # of a door: "open", "closed", "locked"


class Cards(TypedDict):
    """A hand of Blackjack, as far as the player's observation tells it."""

    player: int  # the sum of the player's cards
    dealer: int  # the dealer's open card, 1 for an ace
    usable_ace: bool


class Image(TypedDict):
    """A frame as a picture file."""

    format: Literal["png", "webp"]
    data: str  # base64
    width: int  # pixels, as the file's own header says
    height: int


class Grid(TypedDict):
    """What the grid view paints. A hand of cards or a frame has no tiles."""

    game: str  # "FrozenLake", "CliffWalking", "Taxi", ... or "" when only the letters are known
    tiles: list[str]  # one string a row, one character a cell
    agent: list[int] | None  # [row, col]
    marks: list[Mark]
    walls: list[list[int]]  # [row, col] pairs: a wall on the east side of that cell
    action: str  # "down", "2", ... ; "" when unknown
    caption: str  # "episode 3, step 5"
    facing: NotRequired[Facing]  # where the agent looks, where that is known
    partial: NotRequired[bool]  # only what the agent sees: a cell is no place on the map
    cards: NotRequired[Cards]
    image: NotRequired[Image]
    path: NotRequired[list[list[int]]]  # [row, col] of the agent in the steps up to this one, newest last


class GridError(ValueError):
    """A payload that says what it is and is not that; the text goes into ``run.problems``. Never leaves :mod:`~live_telemetry_widget.grids`."""


def family(game_id: object) -> str:
    """Return the family of a Gymnasium id.

    >>> family("FrozenLake8x8-v1"), family("MiniGrid-Empty-5x5-v0"), family("CartPole-v1")
    ('FrozenLake', 'MiniGrid', '')
    """
    text = game_id if isinstance(game_id, str) else ""
    return next((name for name in ACTIONS if text.startswith(name)), "")


def new(game: str, tiles: list[str], agent: list[int] | None = None) -> Grid:
    """Return a grid with nothing on it but the agent."""
    return Grid(game=game, tiles=tiles, agent=agent, marks=[], walls=[], action="", caption="")


def position(value: object, tiles: list[str]) -> list[int] | None:
    """Return [row, col] from a pair or from {row, col}, when it is on the grid."""
    if isinstance(value, dict):
        value = [value.get("row"), value.get("col")]
    if not (isinstance(value, list) and len(value) == 2):  # noqa: PLR2004 - a pair
        return None
    row, col = value
    if not (is_index(row) and is_index(col)):
        return None
    return [row, col] if row < len(tiles) and col < len(tiles[row]) else None


def is_index(value: object) -> TypeIs[int]:
    """Whether a value is a whole number from 0, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def listed(value: object) -> list[Any]:
    """Return a list as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def shown(value: object) -> str:
    """Return a value as a short text, for a person who looks for what is wrong."""
    text = repr(value) if not isinstance(value, str | list | dict) or len(value) < 30 else f"{str(value)[:80]}..."  # noqa: PLR2004 - short enough
    return text[:100]
