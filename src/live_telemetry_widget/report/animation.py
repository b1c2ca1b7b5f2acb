"""An episode as a moving picture: GIF, animated PNG or WebP. Needs Pillow."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget import gridpaint
from live_telemetry_widget.errors import MissingPackageError, NoDataError
from live_telemetry_widget.report.fallback import cut
from live_telemetry_widget.view.artist import Artist, steps_of

if TYPE_CHECKING:
    import os

    import pyarrow as pa
    from PIL import Image

    from live_telemetry_widget.feed import RunFeed

#: The formats by the ending of a file's name.
FORMATS: Final = {".gif": "GIF", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP"}
#: Longer episodes are shown every so many steps.
MOST_FRAMES: Final = 1_000
#: The last picture stays so many times as long.
_LAST: Final = 4
_BAR: Final = 22


def animate(  # noqa: PLR0913 - what a picture can be, by name
    feed: RunFeed,
    steps: pa.Table,
    path: str | os.PathLike[str],
    *,
    fps: float = 4.0,
    cell: int = 48,
    dark: bool = False,
    captions: bool = True,
) -> pathlib.Path:
    """Write the steps of one episode as a moving picture and return where.

    Parameters
    ----------
    feed
        The run that they are of.
    steps
        Ascending.
    path
        Its ending says what is written: ``.gif``, ``.png`` or ``.apng`` (animated PNG), ``.webp``.
    fps
        Pictures a second, 0.1 to 50.
    cell
        The side of a tile in pixels.
    dark
        On a dark ground.
    captions
        With a line beneath that says the episode, the step, the action and the return so far.

    Raises
    ------
    MissingPackageError
        Pillow is not installed.
    NoDataError
        None of the steps can be drawn.
    ValueError
        `path` ends otherwise, or `fps` is out of range.
    """
    path = pathlib.Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        msg = f"{path.name!r} ends with {path.suffix!r}; an animation can be {', '.join(FORMATS)}"
        raise ValueError(msg)
    if not 0.1 <= fps <= 50:  # noqa: PLR2004 - what the formats hold
        msg = f"fps is {fps!r}; give 0.1 to 50"
        raise ValueError(msg)
    pictures = _pictures(feed, steps, cell=cell, dark=dark, captions=captions)
    if not pictures:
        first = steps.slice(0, 1).to_pylist()
        which = f"episode {first[0]['episode']}" if first else "the episode"
        msg = f"{which} of run {feed.run_id!r} cannot be drawn: none of its {steps.num_rows} steps shows a grid, cards or a frame"
        raise NoDataError(msg)
    each = round(1_000 / fps)
    times = [each] * (len(pictures) - 1) + [each * _LAST]
    options: dict[str, Any] = {"save_all": True, "append_images": pictures[1:], "duration": times, "loop": 0}
    if kind == "WEBP":
        options["lossless"] = True
    pictures[0].save(path, kind, **options)
    return path


def _pictures(feed: RunFeed, steps: pa.Table, *, cell: int, dark: bool, captions: bool) -> list[Image.Image]:
    try:
        from PIL import Image  # noqa: PLC0415 - optional
    except ImportError as error:
        msg = "animations need Pillow: pip install 'live_telemetry_widget[gif]'"
        raise MissingPackageError(msg) from error
    artist = Artist(feed)
    every = -(-steps.num_rows // MOST_FRAMES) or 1
    rewards = steps.column("reward").to_pylist()
    found: list[tuple[Image.Image, str]] = []
    path: list[list[int]] = []
    total = 0.0
    for at, step in enumerate(steps_of(steps)):
        total += rewards[at]
        place = artist.place(step)
        if place is not None:
            path.append(list(place))
        if at % every and at != steps.num_rows - 1:
            continue
        grid = artist.draw(step)
        if grid is None:
            continue
        if place is not None:
            grid["path"] = path[-64:]
        said = " · ".join(part for part in (grid["caption"], cut(grid["action"], 20), f"return {total:.4g}") if part)
        found.append((gridpaint.paint(grid, cell=cell, dark=dark), said))
    if not found:
        return []
    size = max(image.width for image, _ in found), max(image.height for image, _ in found)
    ground, ink = ("#141618", "#e6e8ea") if dark else ("#ffffff", "#1f2328")
    pictures = []
    for image, said in found:
        sheet = Image.new("RGB", (size[0], size[1] + (_BAR if captions else 0)), ground)
        sheet.paste(image, (0, 0))
        if captions:
            _write(sheet, said, ink, size[1])
        pictures.append(sheet)
    return pictures


def _write(sheet: Image.Image, text: str, ink: str, top: int) -> None:
    from PIL import ImageDraw, ImageFont  # noqa: PLC0415 - optional

    pen = ImageDraw.Draw(sheet)
    font = next(
        (
            held
            for size in (13, 11, 9, 8)
            if (held := ImageFont.load_default(size)) and pen.textlength(text, held) <= sheet.width - 8
        ),
        ImageFont.load_default(8),
    )
    pen.text((4, top + _BAR / 2), text, ink, font, anchor="lm")
