"""A grid as a picture without a page: every game, its colours those of the page's style sheet."""

from __future__ import annotations

import pathlib
import re
import sys
from typing import TYPE_CHECKING

import pytest

from live_telemetry_widget import errors, gridpaint
from tests.support.pictures import pictures

if TYPE_CHECKING:
    from PIL import Image

STYLE = pathlib.Path(__file__).parents[2] / "js" / "src" / "style.css"


def colour_of(name: str, *, dark: bool = False) -> tuple[int, ...]:
    text = gridpaint.COLOURS[name][dark]
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def share_of(image: Image.Image, name: str, *, dark: bool = False) -> float:
    """Return which part of a picture is of a colour, or nearly."""
    wanted, data = colour_of(name, dark=dark), image.tobytes()
    near = sum(all(abs(data[i + k] - wanted[k]) <= 6 for k in range(3)) for i in range(0, len(data), 3))
    return near / (image.width * image.height)


def test_the_colours_are_those_of_the_style_sheet() -> None:
    found = re.findall(r"--ltw-([\w-]+): (?:var\([^;]*)?(light-dark\([^)]*\))", STYLE.read_text(encoding="utf-8"))
    told = dict(reversed(found))  # the first of a name: a theme of high contrast has others further down
    here = {name: f"light-dark({light}, {dark})" for name, (light, dark) in gridpaint.COLOURS.items()}
    assert here == {name: told.get(name) for name in here}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", sorted(pictures()))
def test_every_game_is_painted_with_what_is_in_it(name: str, dark: bool) -> None:  # noqa: FBT001 - a parameter
    grid = pictures()[name]
    image = gridpaint.paint(grid, cell=40, dark=dark)
    assert image.mode == "RGB"
    if "image" in grid:
        assert (image.size, image.getpixel((5, 7))) == ((80, 60), (15, 21, 200))
        return
    if "cards" in grid:
        assert image.size == (280, 184)
        parts = ["card", "card-back", "felt"]
    else:
        assert image.size == (40 * len(grid["tiles"][0]), 40 * len(grid["tiles"]))
        parts = ["danger" if name == "cracked" else "agent"]
        parts += {"minigrid": ["lava", "thing-yellow", "thing-blue", "brick", "unseen"], "cliffwalking": ["cliff"]}.get(
            name, []
        )
    for part in parts:
        assert share_of(image, part, dark=dark) > 0.001, f"nothing of --ltw-{part} in {name}"


def test_a_path_is_drawn_unless_it_is_not_wanted() -> None:
    grid = pictures()["frozenlake"]
    with_path, without = gridpaint.paint(grid), gridpaint.paint(grid, path=False)
    middle = (2 * 48, 24)  # between the second and the third cell, where nothing else is
    assert with_path.getpixel(middle) != without.getpixel(middle)
    assert without.tobytes() == gridpaint.paint({k: v for k, v in grid.items() if k != "path"}).tobytes()  # type: ignore[typeddict-item]


def test_a_grid_with_nothing_in_it_and_a_size_of_none_are_told_of() -> None:
    grid = pictures()["letters"]
    with pytest.raises(ValueError, match="nothing to paint"):
        gridpaint.paint({**grid, "tiles": []})
    with pytest.raises(ValueError, match="cell is 0"):
        gridpaint.paint(grid, cell=0)


def test_without_pillow_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(errors.MissingPackageError, match=r"live_telemetry_widget\[gif\]"):
        gridpaint.paint(pictures()["letters"])
