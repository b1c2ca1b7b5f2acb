"""The return curve as SVG: shapes only, so that a host that drops them leaves no stray text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from live_telemetry_widget.report.facts import finite

if TYPE_CHECKING:
    from live_telemetry_widget.report.facts import Numbers

_WIDTH: Final = 640
_HEIGHT: Final = 150
_PAD: Final = 6
#: More episodes than this are drawn as the range and the mean of so many neighbours each.
_MOST: Final = 320
_HUGE: Final = 1e100
#: Readable on white and on near black.
_BLUE: Final = "#3f87d9"


def smooth(values: Numbers) -> tuple[Numbers, int]:
    """Return the trailing mean of the finite values and over how many episodes it goes: a twentieth of them, 5 to 100.

    >>> import numpy as np
    >>> smooth(np.array([0.0, 0.0, 1.0, 1.0]))[0].round(2).tolist()
    [0.0, 0.0, 0.33, 0.5]
    """
    held = finite(values)
    window = int(np.clip(len(held) // 20, 5, 100))
    sums = np.concatenate(([0.0], np.cumsum(held)))
    ends = np.arange(1, len(held) + 1)
    starts = np.maximum(0, ends - window)
    means: Numbers = (sums[ends] - sums[starts]) / (ends - starts)
    return means, window


def svg(values: Numbers, label: str) -> str:
    """Return the curve of some returns as an SVG element; empty when there are fewer than two to draw.

    Parameters
    ----------
    values
        One an episode; those that are not finite are left out.
    label
        For screen readers, already escaped.
    """
    held = finite(values)
    if len(held) < 2:  # noqa: PLR2004 - a line has two ends
        return ""
    furthest = float(np.abs(held).max())
    held = held / furthest if furthest > _HUGE else held  # differences of such would be infinite
    low, high = float(held.min()), float(held.max())
    if low == high:
        low, high = low - 1.0, high + 1.0
    span = high - low
    inner = (_WIDTH - 2 * _PAD, _HEIGHT - 2 * _PAD)

    def points(at: Numbers, of: Numbers) -> str:
        x = _PAD + at / max(len(held) - 1, 1) * inner[0]
        y = _PAD + (high - of) / span * inner[1]
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))

    edges = np.linspace(0, len(held), min(len(held), _MOST) + 1).astype(np.int64)[:-1]
    counts = np.diff(np.append(edges, len(held)))
    middle = edges + (counts - 1) / 2
    least, most = np.minimum.reduceat(held, edges), np.maximum.reduceat(held, edges)
    means, _ = smooth(held)
    line = points(middle, np.add.reduceat(means, edges) / counts)
    band = points(np.concatenate((middle, middle[::-1])), np.concatenate((most, least[::-1])))
    shape = (
        f'<polygon points="{band}" fill="{_BLUE}" fill-opacity="0.18" stroke="none"/>'
        if len(held) > _MOST
        else f'<polyline points="{points(middle, held)}" fill="none" stroke="{_BLUE}" stroke-opacity="0.35" stroke-width="1"/>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" style="max-width:100%;height:auto;display:block">'
        f'<rect x="0.5" y="0.5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="4" fill="none" stroke="currentColor" stroke-opacity="0.25"/>'
        f'{shape}<polyline points="{line}" fill="none" stroke="{_BLUE}" stroke-width="2" stroke-linejoin="round"/></svg>'
    )
