"""What is said of a run wherever it is shown without a kernel: taken once, at a moment that is told with it."""

from __future__ import annotations

import collections
import dataclasses
import time
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget.feed import run_name
from live_telemetry_widget.schema import TEXT

if TYPE_CHECKING:
    from live_telemetry_widget.feed import RunFeed
    from live_telemetry_widget.lens import Frames
    from live_telemetry_widget.schema import Problem

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]

#: First and last rows that are kept of each table.
ENDS: Final = 5
#: The mean over so many last episodes is told.
LAST: Final = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """A run at one moment.

    Attributes
    ----------
    taken
        When: seconds since 1970.
    ended
        Whether the run had ended and its last step was here; otherwise the numbers are of a part of it.
    returns, lengths
        Of each episode that is not running, in the tables' order: total reward (may be NaN or infinite), steps.
    outcomes
        How many episodes had each outcome, the most frequent first.
    first_steps, last_steps, first_episodes, last_episodes
        At most :data:`ENDS` rows each; the last ones do not repeat the first.
    began, latest
        Times of the first and the last step in nanoseconds since 1970; None where the worker told none.
    """

    run_id: str
    name: str
    agent: str | None
    status: str
    reason: str
    link: str
    taken: float
    ended: bool
    steps: int
    episodes: int
    agents: list[str]
    returns: Numbers
    lengths: Numbers
    outcomes: dict[str, int]
    problems: list[Problem]
    first_steps: pa.Table
    last_steps: pa.Table
    first_episodes: pa.Table
    last_episodes: pa.Table
    began: int | None
    latest: int | None

    @property
    def title(self) -> str:
        """The run's name, or its id where it has none, and the agent when it is one agent's."""
        return (self.name or self.run_id) + (f", agent {self.agent}" if self.agent else "")

    @property
    def problem_count(self) -> int:
        """How often anything was wrong with the data."""
        return sum(problem.count for problem in self.problems)


def take(feed: RunFeed, frames: Frames, agent: str | None = None) -> Facts:
    """Return what is known of a run now.

    Parameters
    ----------
    feed
        The run.
    frames
        All of it, or one agent of it through a lens.
    agent
        That agent.
    """
    status, ended = feed.state.value, feed.finished
    episodes = feed.frames.episodes_table()
    if agent is not None:
        episodes = episodes.filter(pc.equal(episodes.column("agent_id").cast(TEXT), agent))
    steps = frames.step_count
    first, last = frames.rows(0, min(ENDS, steps)), frames.rows(max(ENDS, steps - ENDS), ENDS)
    link = feed.link
    outcomes = collections.Counter(episodes.column("outcome").cast(TEXT).to_pylist())
    # The one that runs has no return yet, and would end every curve in a dip.
    done = episodes.filter(pc.not_equal(episodes.column("outcome").cast(TEXT), "Running"))
    return Facts(
        run_id=feed.run_id,
        name=run_name(feed.details),
        agent=agent,
        status=status,
        reason=feed.reason,
        link=f"{link.state}: {link.message}" if link.message else link.state,
        taken=time.time(),
        ended=ended,
        steps=steps,
        episodes=episodes.num_rows,
        agents=frames.agents,
        returns=done.column("total_reward").to_numpy(),
        lengths=done.column("steps").to_numpy().astype(np.float64),
        outcomes=dict(outcomes.most_common()),
        problems=frames.problems(),
        first_steps=first,
        last_steps=last,
        first_episodes=episodes.slice(0, ENDS),
        last_episodes=episodes.slice(max(ENDS, episodes.num_rows - ENDS)),
        began=_moment(first, 0),
        latest=_moment(last if last.num_rows else first, -1),
    )


def _moment(steps: pa.Table, at: int) -> int | None:
    if not steps.num_rows:
        return None
    moment: int | None = steps.column("timestamp").cast(pa.int64())[at].as_py()
    return moment


def finite(values: Numbers) -> Numbers:
    """Return the values that can be drawn and averaged."""
    return values[np.isfinite(values)]


def mean_of_last(values: Numbers) -> float | None:
    """Return the mean of the last :data:`LAST` finite values; None when there is none."""
    held = finite(values)[-LAST:]
    with np.errstate(over="ignore"):  # of numbers that large it is infinite, and says so
        return float(held.mean()) if len(held) else None
