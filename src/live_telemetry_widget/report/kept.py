"""What a saved notebook keeps of a view, beside the view: chosen by ``run.view(embed=...)``."""

from __future__ import annotations

import html
import warnings
from typing import TYPE_CHECKING, Final, Literal, get_args

from live_telemetry_widget.report import facts, fallback

if TYPE_CHECKING:
    from live_telemetry_widget.feed import RunFeed
    from live_telemetry_widget.lens import Frames

Embed = Literal["summary", "full", "none"]
EMBEDS: Final[tuple[str, ...]] = get_args(Embed)

#: Seconds that a view waits, when it is shown, for what the daemon had: the numbers kept are those of that moment.
_WAIT: Final = 1.0
#: Bytes of a report in a notebook's output, before it is escaped: with all else a notebook grows by less than a megabyte.
_FULL: Final = 700_000
_TALL: Final = 760


def check(embed: str) -> Embed:
    """Return `embed`; raise ValueError with what may be given when it is nothing known."""
    if embed not in EMBEDS:
        msg = f"embed is {embed!r}; give one of {', '.join(map(repr, EMBEDS))}"
        raise ValueError(msg)
    return embed  # type: ignore[return-value]  # just checked


def bundle(feed: RunFeed, frames: Frames, agent: str | None, embed: Embed) -> dict[str, str]:
    """Return what is put into the output beside the view, by MIME type, as of now."""
    if embed == "none":
        return {}
    feed.wait_until(lambda: feed.loaded or feed.link.state in {"reconnecting", "closed"}, _WAIT)
    taken = facts.take(feed, frames, agent)
    said = {"text/plain": fallback.text(taken), "text/html": fallback.html_of(taken)}
    if embed == "full":
        said["text/html"] = _framed(feed, agent, taken) or said["text/html"]
    return said


def _framed(feed: RunFeed, agent: str | None, taken: facts.Facts) -> str:
    """Return the interactive report in a frame, with the summary for hosts that take frames away; empty when it is too large."""
    from live_telemetry_widget.report import page  # noqa: PLC0415 - few need it

    try:
        report, _ = page.make(feed, agent=agent, limit=_FULL)
    except ValueError as error:
        warnings.warn(
            f"embed='full' is too large for a notebook, which keeps the summary instead: {error}", stacklevel=2
        )
        return ""
    # Scripts of the frame may not reach the notebook: it is a page of no origin.
    return (
        f'<iframe sandbox="allow-scripts" title="Report of run {fallback.escaped(taken.title, 200)}" '
        f'style="width:100%;height:{_TALL}px;border:0" srcdoc="{html.escape(report)}"></iframe>'
        f"<details><summary>Summary</summary>{fallback.html_of(taken)}</details>"
    )


class Summary:
    """A run at one moment, as text and HTML without script; made by ``run.summary()``.

    Attributes
    ----------
    text, html
        What it shows.
    """

    def __init__(self, feed: RunFeed, frames: Frames, agent: str | None = None) -> None:
        taken = facts.take(feed, frames, agent)
        self.text = fallback.text(taken)
        self.html = fallback.html_of(taken)

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text
