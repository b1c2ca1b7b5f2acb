"""What a run costs and how it comes: the numbers behind ``run.stats``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from live_telemetry_widget.feed import RunFeed


@dataclasses.dataclass(frozen=True, slots=True)
class RunStats:
    """One look at a run's stream, for people who want to know why it is slow, or that nothing was lost.

    Attributes
    ----------
    steps, episodes
        Rows that are here.
    duplicates
        Copies that came beside them and were merged.
    wire
        ``"batches"`` from our own daemon, ``"messages"`` from another's, empty when the run does not come from a daemon.
    messages, received_bytes
        What came over the streams, since this process follows the run.
    waiting_rows, waiting_bytes
        Messages that came and are not in the frames yet.
    granted, credit
        Rows that the daemon may have under way, and how many of them have not come. 0 where the wire knows no credit.
    reconnects
        How often the link was lost.
    problems
        How many things were wrong with the data; ``run.problems`` says which.
    recording_behind
        Rows that are here and not in the copy of ``record=`` yet; 0 when none is kept.
    """

    steps: int
    episodes: int
    duplicates: int
    wire: str
    messages: int
    received_bytes: int
    waiting_rows: int
    waiting_bytes: int
    granted: int
    credit: int
    reconnects: int
    problems: int
    recording_behind: int


def stats_of(feed: RunFeed, recording_behind: int = 0) -> RunStats:
    """Return the numbers of a run at this moment."""
    frames, traffic = feed.frames, feed.traffic
    grants = [held.credit for held in traffic.values() if held.credit is not None]
    return RunStats(
        steps=frames.step_count,
        episodes=frames.episode_count,
        duplicates=frames.duplicates,
        wire=traffic["steps"].wire or traffic["episodes"].wire,
        messages=sum(held.messages for held in traffic.values()),
        received_bytes=sum(held.nbytes for held in traffic.values()),
        waiting_rows=feed.waiting[0],
        waiting_bytes=feed.waiting[1],
        granted=sum(credit.window for credit in grants),
        credit=sum(credit.left for credit in grants),
        reconnects=feed.reconnects,
        problems=sum(problem.count for problem in frames.problems()),
        recording_behind=recording_behind,
    )
