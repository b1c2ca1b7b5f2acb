"""What a saved notebook keeps of a view, beside the view: chosen by ``run.view(embed=...)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

from live_telemetry_widget.report import facts, fallback

if TYPE_CHECKING:
    from live_telemetry_widget.feed import RunFeed
    from live_telemetry_widget.lens import Frames

Embed = Literal["summary", "none"]
EMBEDS: Final[tuple[str, ...]] = get_args(Embed)

#: Seconds that a view waits, when it is shown, for what the daemon had: the numbers kept are those of that moment.
_WAIT: Final = 1.0


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
    return {"text/plain": fallback.text(taken), "text/html": fallback.html_of(taken)}
