"""Paints a grid model as the page does, without a page: for animations and static reports. Needs Pillow.

The colours are those of ``js/src/style.css`` and the shapes those of ``js/src/paint.ts``; a test holds the colours together.

Examples
--------
>>> from live_telemetry_widget import grids
>>> grid = grids.grid_from('{"mode": "grid", "grid": ["SF", "HG"], "agent_position": [0, 1], "game_id": "FrozenLake-v1"}', None)
>>> paint(grid, cell=20).size
(40, 40)
"""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING, Final, Literal

from live_telemetry_widget.errors import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image, ImageDraw, ImageFont

    from live_telemetry_widget.grids import Cards, Grid, Mark

#: Light and dark, by the names of js/src/style.css.
COLOURS: Final[dict[str, tuple[str, str]]] = {
    "bg": ("#ffffff", "#141618"),
    "tile": ("#e8ebee", "#2d3338"),
    "tile-text": ("#4d565f", "#b8c0c8"),
    "ice": ("#dbeefa", "#24435a"),
    "ice-line": ("#b3d8ef", "#3a6280"),
    "start": ("#c9dff0", "#2e536e"),
    "hole": ("#1f3f5b", "#0a1620"),
    "goal": ("#d3f0dc", "#1d4a31"),
    "goal-line": ("#12703f", "#6ed39a"),
    "cliff": ("#6b5848", "#54463b"),
    "cliff-line": ("#a08a76", "#8a7564"),
    "wall": ("#3c444c", "#d0d6dc"),
    "agent": ("#e8730c", "#ff9d45"),
    "agent-line": ("#5b2b00", "#3a1b00"),
    "passenger": ("#6a3fb5", "#c5a8f8"),
    "danger": ("#c4281f", "#ff7b70"),
    "way": ("#5b2b00", "#ffcf9f"),
    "on-danger": ("#ffffff", "#3a1b00"),
    "brick": ("#8b949d", "#59626b"),
    "unseen": ("#c6ccd2", "#14171a"),
    "lava": ("#f08a3c", "#b4511a"),
    "lava-line": ("#a33a06", "#ffb37a"),
    "thing-red": ("#cf2f24", "#ff7468"),
    "thing-green": ("#1c8a4a", "#5fd190"),
    "thing-blue": ("#1f6fd6", "#74b4ff"),
    "thing-purple": ("#7a46c9", "#c5a0ff"),
    "thing-yellow": ("#c08a00", "#f2c94c"),
    "thing-grey": ("#6b747d", "#aab2ba"),
    "felt": ("#d6eadd", "#183527"),
    "felt-text": ("#2f5a41", "#b5dcc5"),
    "card": ("#ffffff", "#e9ecef"),
    "card-text": ("#1f2328", "#1f2328"),
    "card-line": ("#9aa4ad", "#7f8991"),
    "card-back": ("#7f9cc0", "#3f5c80"),
    "trail": ("#0b57b0", "#9ed0ff"),
    "halo": ("#ffffff", "#10161c"),
}
_DEPOTS: Final = {"R": "thing-red", "G": "thing-green", "Y": "thing-yellow", "B": "thing-blue"}
_THINGS: Final = ("red", "green", "blue", "purple", "yellow", "grey")
_ANGLES: Final = {"right": 0.0, "down": math.pi / 2, "left": math.pi, "up": -math.pi / 2}
_WORDS: Final = {"north": "up", "south": "down", "east": "right", "west": "left"}
#: It is painted so many times as large, then made smaller, which smooths it.
_OVER: Final = 3
_CARDS: Final = (7.0, 4.6)
_TWENTY_ONE: Final = 21
_LEAST_TEXT: Final = 12


def paint(grid: Grid, *, cell: int = 48, dark: bool = False, path: bool = True) -> Image.Image:
    """Return the picture of a grid.

    Parameters
    ----------
    cell
        The side of a tile in pixels; a table of cards is 7 by 4.6 of them. A frame keeps its own size.
    dark
        On a dark ground.
    path
        Draw where the agent came from, when the grid knows.

    Returns
    -------
    PIL.Image.Image
        Mode RGB.

    Raises
    ------
    MissingPackageError
        Pillow is not installed.
    ValueError
        The grid has nothing to paint, or `cell` is below 1.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - optional
    except ImportError as error:
        msg = "painting pictures needs Pillow: pip install 'live_telemetry_widget[gif]'"
        raise MissingPackageError(msg) from error
    if cell < 1:
        msg = f"cell is {cell!r}; give a number of pixels from 1"
        raise ValueError(msg)
    image = grid.get("image")
    if image is not None:
        return Image.open(io.BytesIO(base64.b64decode(image["data"]))).convert("RGB")
    cards = grid.get("cards")
    columns, rows = _CARDS if cards else (max(map(len, grid["tiles"]), default=0), len(grid["tiles"]))
    if not columns:
        msg = "the grid has neither tiles, nor cards, nor a frame: there is nothing to paint"
        raise ValueError(msg)
    size = round(columns * cell), round(rows * cell)
    painter = _Painter((size[0] * _OVER, size[1] * _OVER), cell * _OVER, dark=dark)
    if cards:
        painter.cards(cards)
    else:
        painter.ground(grid)
        if path:
            painter.trail(grid.get("path", []))
        painter.things(grid)
    return painter.image.resize(size, Image.Resampling.LANCZOS)


def heading(action: str) -> str | None:
    """Return where an action goes, as far as its name says so.

    >>> heading("south"), heading("left"), heading("pick up")
    ('down', 'left', None)
    """
    return action if action in _ANGLES else _WORDS.get(action)


class _Painter:
    """The twin of the Painter of js/src/paint.ts; what a shape's numbers are is said there."""

    def __init__(self, size: tuple[int, int], cell: int, *, dark: bool) -> None:
        from PIL import Image, ImageDraw  # noqa: PLC0415 - optional

        self.cell = cell
        self._side = 1 if dark else 0
        self.image = Image.new("RGB", size, COLOURS["bg"][self._side])
        self._pen: ImageDraw.ImageDraw = ImageDraw.Draw(self.image, "RGBA")

    # -- strokes

    def _colour(self, name: str, alpha: float = 1.0) -> str:
        return f"{COLOURS[name][self._side]}{round(255 * alpha):02x}"

    def _box(self, x: float, y: float, w: float, h: float, r: float, colour: str, alpha: float = 1.0) -> None:  # noqa: PLR0913, PLR0917 - as on a canvas
        self._pen.rounded_rectangle((x, y, x + w - 1, y + h - 1), r, self._colour(colour, alpha))

    def _frame(self, x: float, y: float, w: float, h: float, colour: str, width: float, r: float = 0) -> None:  # noqa: PLR0913, PLR0917 - as on a canvas
        half = width / 2
        self._pen.rounded_rectangle(
            (x - half, y - half, x + w + half, y + h + half),
            r,
            outline=self._colour(colour),
            width=max(1, round(width)),
        )

    def _disc(self, x: float, y: float, r: float, colour: str) -> None:
        self._pen.ellipse((x - r, y - r, x + r, y + r), self._colour(colour))

    def _ring(self, x: float, y: float, r: float, colour: str, width: float) -> None:
        r += width / 2
        self._pen.ellipse((x - r, y - r, x + r, y + r), outline=self._colour(colour), width=max(1, round(width)))

    def _line(self, points: Sequence[float], colour: str, width: float, alpha: float = 1.0) -> None:
        self._pen.line(points, self._colour(colour, alpha), max(1, round(width)), joint="curve")

    def _path(self, x: float, y: float, points: Sequence[float], colour: str, width: float) -> None:
        cell = self.cell
        self._line([(x, y)[i % 2] + at * cell for i, at in enumerate(points)], colour, width)

    def _text(  # noqa: PLR0913, PLR0917 - as on a canvas
        self, text: str, x: float, y: float, size: float, colour: str, anchor: Literal["mm", "lm"] = "mm"
    ) -> None:
        self._pen.text((x, y), text, self._colour(colour), font=_font(size), anchor=anchor)

    def _letter(self, text: str, row: int, col: int) -> None:
        if self.cell >= _LEAST_TEXT * _OVER:
            self._text(text, (col + 0.5) * self.cell, (row + 0.53) * self.cell, self.cell * 0.34, "tile-text")

    def _width(self, share: float, least: float) -> float:
        return max(least * _OVER, self.cell * share)

    def _chevron(self, x: float, y: float, angle: float, far: float, colour: str) -> None:
        size, cos, sin = self.cell * 0.13, math.cos(angle), math.sin(angle)
        tip = (x + cos * (far + size), y + sin * (far + size))
        left = (x + cos * far - sin * size, y + sin * far + cos * size)
        right = (x + cos * far + sin * size, y + sin * far - cos * size)
        self._pen.polygon([tip, left, right], self._colour(colour))

    # -- tiles

    def _tile(self, row: int, col: int, colour: str, gap: float = 1) -> None:
        cell, gap = self.cell, gap * _OVER
        radius = min(4 * _OVER, cell * 0.12) if gap else 0
        self._box(col * cell + gap, row * cell + gap, cell - 2 * gap, cell - 2 * gap, radius, colour)

    def ground(self, grid: Grid) -> None:
        game, cell = grid["game"], self.cell
        for row, line in enumerate(grid["tiles"]):
            for col, letter in enumerate(line):
                if game == "MiniGrid":
                    self._room_tile(letter, row, col)
                elif game == "CliffWalking":
                    self._cliff_tile(letter, row, col)
                elif game in {"FrozenLake", ""} and letter in "SFHG":
                    self._ice_tile(letter, row, col)
                else:
                    self._tile(row, col, "tile")
                    if game == "Taxi" and letter in _DEPOTS:
                        x, y = (col + 0.08) * cell, (row + 0.08) * cell
                        self._box(x, y, cell * 0.84, cell * 0.84, cell * 0.1, _DEPOTS[letter], 0.22)
                    if letter.strip():
                        self._letter(letter, row, col)
        for row, col in grid["walls"]:
            x = (col + 1) * cell
            self._line((x, row * cell, x, (row + 1) * cell), "wall", self._width(0.08, 2))

    def _ice_tile(self, letter: str, row: int, col: int) -> None:
        cell = self.cell
        x, y = col * cell, row * cell
        if letter == "G":
            self._tile(row, col, "goal")
            self._flag(x, y)
            return
        self._tile(row, col, "start" if letter == "S" else "ice")
        if letter == "H":
            self._disc(x + cell / 2, y + cell / 2, cell * 0.36, "hole")
        elif letter == "S":
            self._letter("S", row, col)
        else:
            for streak in ((0.22, 0.42, 0.42, 0.22), (0.62, 0.8, 0.8, 0.62)):
                self._path(x, y, streak, "ice-line", self._width(0.03, 1))

    def _cliff_tile(self, letter: str, row: int, col: int) -> None:
        x, y = col * self.cell, row * self.cell
        if letter == "C":
            self._tile(row, col, "cliff")
            self._cracks(x, y, "cliff-line")
        elif letter == "T":
            self._tile(row, col, "goal")
            self._flag(x, y)
        else:
            self._tile(row, col, "start" if letter in "xS" else "tile")
            if letter == "S":
                self._letter(letter, row, col)

    def _room_tile(self, letter: str, row: int, col: int) -> None:
        x, y = col * self.cell, row * self.cell
        if letter in "#?":
            self._tile(row, col, "brick" if letter == "#" else "unseen", 0)
        elif letter == "G":
            self._tile(row, col, "goal", 0.5)
            self._flag(x, y)
        elif letter == "~":
            self._tile(row, col, "lava", 0.5)
            for at in (0.3, 0.55, 0.8):
                wave = (0.12, at, 0.3, at - 0.1, 0.5, at, 0.7, at - 0.1, 0.88, at)
                self._path(x, y, wave, "lava-line", self._width(0.06, 1.5))
        else:
            self._tile(row, col, "tile", 0.5)

    def _flag(self, x: float, y: float) -> None:
        cell = self.cell
        self._path(x, y, (0.36, 0.22, 0.36, 0.8), "goal-line", self._width(0.05, 1.5))
        points = [(x + a * cell, y + b * cell) for a, b in ((0.36, 0.22), (0.72, 0.36), (0.36, 0.5))]
        self._pen.polygon(points, self._colour("goal-line"))

    def _cracks(self, x: float, y: float, colour: str) -> None:
        cracks = ((0.1, 0.3, 0.3, 0.42, 0.45, 0.3, 0.62, 0.55, 0.78, 0.48, 0.9, 0.7), (0.45, 0.3, 0.4, 0.12))
        for points in (*cracks, (0.3, 0.42, 0.26, 0.7, 0.36, 0.9), (0.62, 0.55, 0.6, 0.86)):
            self._path(x, y, points, colour, self._width(0.04, 1.5))

    # -- things

    def trail(self, path: Sequence[Sequence[int]]) -> None:
        width = self._width(0.07, 2)
        # The whole rim first: it must not cut the way where it turns.
        for colour, wide in (("halo", width + self._width(0.06, 2)), ("trail", width)):
            for i in range(1, len(path)):
                (r0, c0), (r1, c1) = path[i - 1], path[i]
                points = [(at + 0.5) * self.cell for at in (c0, r0, c1, r1)]
                if (r0, c0) != (r1, c1):
                    self._line(points, colour, wide, 0.25 + 0.75 * i / (len(path) - 1))

    def things(self, grid: Grid) -> None:
        aboard = False
        for mark in grid["marks"]:
            if mark["kind"] == "passenger" and mark.get("label") == "in the taxi":
                aboard = True
            else:
                self._mark(mark)
        if grid["agent"] is None:
            return
        row, col = grid["agent"]
        looks = grid.get("facing") or (None if grid["game"] == "MiniGrid" else heading(grid["action"]))
        angle = _ANGLES[looks] if looks else None
        if grid["game"] == "Taxi":
            self._taxi(row, col, angle, aboard=aboard)
        elif grid["game"] == "MiniGrid" and angle is not None:
            self._arrowhead(row, col, angle)
        else:
            self._agent(row, col, angle, fallen=any(mark["kind"] == "cracked" for mark in grid["marks"]))

    def _mark(self, mark: Mark) -> None:
        cell = self.cell
        x, y = mark["col"] * cell, mark["row"] * cell
        colour = mark.get("colour", "grey")
        colour = f"thing-{colour if colour in _THINGS else 'grey'}"
        width = self._width(0.09, 2)
        match mark["kind"]:
            case "cracked":
                self._cracks(x, y, "danger")
            case "destination":
                self._frame(x + cell * 0.1, y + cell * 0.1, cell * 0.8, cell * 0.8, "goal-line", self._width(0.08, 2))
            case "start":
                self._frame(
                    x + cell * 0.12, y + cell * 0.12, cell * 0.76, cell * 0.76, "tile-text", self._width(0.05, 1.5)
                )
            case "passenger":
                self._person(x + cell * 0.76, y + cell * 0.3, cell * 0.15)
            case "door":
                self._door(x, y, colour, mark.get("state", ""))
            case "key":
                self._ring(x + cell * 0.5, y + cell * 0.28, cell * 0.13, colour, width)
                for bar in ((0.5, 0.41, 0.5, 0.82), (0.5, 0.66, 0.66, 0.66), (0.5, 0.8, 0.66, 0.8)):
                    self._path(x, y, bar, colour, width)
            case "ball":
                self._disc(x + cell / 2, y + cell / 2, cell * 0.28, colour)
            case "box":
                self._frame(x + cell * 0.2, y + cell * 0.24, cell * 0.6, cell * 0.54, colour, width)
                self._path(x, y, (0.2, 0.46, 0.8, 0.46), colour, width)
            case kind:
                self._letter(mark.get("label") or kind[:1], mark["row"], mark["col"])

    def _door(self, x: float, y: float, colour: str, state: str) -> None:
        cell = self.cell
        if state == "open":
            self._box(x + cell * 0.06, y + cell * 0.06, cell * 0.16, cell * 0.88, 0, colour)
            return
        self._box(x + cell * 0.06, y + cell * 0.06, cell * 0.88, cell * 0.88, 0, colour, 0.35)
        self._frame(x + cell * 0.1, y + cell * 0.1, cell * 0.8, cell * 0.8, colour, self._width(0.1, 2))
        if state == "locked":
            self._disc(x + cell * 0.5, y + cell * 0.42, cell * 0.12, "wall")
            self._box(x + cell * 0.46, y + cell * 0.44, cell * 0.08, cell * 0.26, 0, "wall")
        else:
            self._disc(x + cell * 0.74, y + cell * 0.52, cell * 0.07, "wall")

    def _person(self, x: float, y: float, r: float) -> None:
        self._disc(x, y - r * 0.5, r * 0.62, "passenger")
        top = y + r * 1.2
        self._pen.pieslice((x - r, top - r, x + r, top + r), 180, 360, self._colour("passenger"))

    def _agent(self, row: int, col: int, angle: float | None, *, fallen: bool) -> None:
        x, y, r = (col + 0.5) * self.cell, (row + 0.5) * self.cell, self.cell * 0.26
        dx, dy = 0.0, -r * 0.15
        if angle is not None:
            self._chevron(x, y, angle, r * 1.32, "way")
            dx, dy = math.cos(angle) * r * 0.28, math.sin(angle) * r * 0.28
        self._disc(x, y, r, "danger" if fallen else "agent")
        width = self._width(0.045, 1.5)
        self._ring(x, y, r - width / 2, "agent-line", width)
        for side in (-1, 1):
            self._disc(x + dx + side * r * 0.36, y + dy, r * 0.15, "agent-line")

    def _taxi(self, row: int, col: int, angle: float | None, *, aboard: bool) -> None:
        cell = self.cell
        x, y = col * cell, row * cell
        if angle is not None:
            self._chevron(x + cell / 2, y + cell * 0.56, angle, cell * 0.42, "way")
        for wheel in (0.3, 0.7):
            self._disc(x + cell * wheel, y + cell * 0.72, cell * 0.09, "wall")
        self._box(x + cell * 0.29, y + cell * 0.32, cell * 0.42, cell * 0.24, cell * 0.07, "agent")
        self._box(x + cell * 0.16, y + cell * 0.46, cell * 0.68, cell * 0.25, cell * 0.07, "agent")
        for pane in (0.34, 0.53):
            self._box(x + cell * pane, y + cell * 0.36, cell * 0.14, cell * 0.11, cell * 0.02, "agent-line")
        if aboard:
            self._person(x + cell * 0.5, y + cell * 0.25, cell * 0.13)

    def _arrowhead(self, row: int, col: int, angle: float) -> None:
        cell, cos, sin = self.cell, math.cos(angle), math.sin(angle)
        x, y = (col + 0.5) * cell, (row + 0.5) * cell
        corners = [(0.36, 0.0), (-0.3, -0.3), (-0.3, 0.3)]
        points = [(x + cell * (a * cos - b * sin), y + cell * (a * sin + b * cos)) for a, b in corners]
        self._pen.polygon(points, self._colour("agent"))
        self._line([at for point in (*points, points[0]) for at in point], "agent-line", self._width(0.05, 1.5))

    # -- cards

    def cards(self, cards: Cards) -> None:
        u, player = self.cell, cards["player"]
        self._box(0, 0, self.image.width, self.image.height, u * 0.25, "felt")
        self._text("dealer", u * 0.35, u * 1.2, u * 0.42, "felt-text", "lm")
        self._card(u * 2.3, u * 0.25, "A" if cards["dealer"] == 1 else str(cards["dealer"]))
        self._card(u * 3.75, u * 0.25, "")
        self._text("player", u * 0.35, u * 3.4, u * 0.42, "felt-text", "lm")
        if cards["usable_ace"]:
            self._card(u * 2.3, u * 2.4, "A")
            self._card(u * 3.75, u * 2.4, str(player - 11))
        else:
            for x in (2.3, 3.75):
                self._card(u * x, u * 2.4, " ")
        over = player > _TWENTY_ONE
        self._box(u * 5.35, u * 2.95, u * 1.4, u * 0.9, u * 0.45, "danger" if over else "agent")
        self._text(str(player), u * 6.05, u * 3.4, u * 0.6, "on-danger" if over else "agent-line")

    def _card(self, x: float, y: float, face: str) -> None:
        u = self.cell
        w, h, width = u * 1.3, u * 1.9, self._width(0.04, 1)
        self._box(x, y, w, h, u * 0.14, "card" if face else "card-back")
        self._frame(x, y, w, h, "card-line", width, u * 0.14)
        if face:
            self._text(face, x + w / 2, y + h / 2, u * 0.8, "card-text")
        else:
            self._frame(x + u * 0.16, y + u * 0.16, w - u * 0.32, h - u * 0.32, "card-line", width, u * 0.08)


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont  # noqa: PLC0415 - optional

    return ImageFont.load_default(max(1.0, size))
