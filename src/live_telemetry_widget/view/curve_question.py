"""The curves of a view: what of them every page has at once, and what it asks for when someone looks closer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from live_telemetry_widget.curves import MEASURES
from live_telemetry_widget.view import encode
from live_telemetry_widget.view.ask import BadQuestionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from live_telemetry_widget.curves import Curves, Measure
    from live_telemetry_widget.feed import RunFeed
    from live_telemetry_widget.view.ask import Ask, View
    from live_telemetry_widget.view.messages import CurveSeries

#: A curve is pushed no more often than this (seconds).
_EVERY: Final = 0.4
#: So many points are in a push, for both measures of all series together ...
_PUSHED: Final = 512
#: ... but of each series not fewer than this, so there are at most so many series. The page has as many colours.
_FEWEST: Final = 32
_MOST_SERIES: Final = 8
#: At most so many are in an answer.
MAX_POINTS: Final = 4_096
_MOST: Final = 2**53


class _One(NamedTuple):
    feed: RunFeed
    agent: str | None


class ViewCurves:
    """Which curves a view shows: those of its run, of each of its agents, and of the runs that it is compared with.

    Parameters
    ----------
    feed
        The view's run.
    agent
        Whom the view is of; None: all.
    """

    def __init__(self, feed: RunFeed, agent: str | None) -> None:
        self._feed = feed
        self._agent = agent
        self._seen: object = None
        self._looked_at = 0.0
        self._told: object = None
        #: The runs beside it, in the order of the legend.
        self.others: tuple[RunFeed, ...] = ()

    @property
    def _feeds(self) -> tuple[RunFeed, ...]:
        return (self._feed, *self.others)

    @property
    def due(self) -> float | None:
        """When what changed may be pushed (monotonic seconds); None: nothing has."""
        seen = tuple(feed.frames.revision for feed in self._feeds)
        return None if seen == self._seen else self._looked_at + _EVERY

    def shown(self) -> tuple[list[_One], int]:
        """Return what is shown, the whole of the run first, then its agents and the other runs; and how many more there would be."""
        others = [_One(feed, self._agent) for feed in self.others]
        names = self._feed.curves.agents if self._agent is None else []
        agents = [_One(self._feed, agent) for agent in names] if len(names) > 1 else []
        # The runs were asked for by name.
        room = _MOST_SERIES - 1
        runs = others[:room]
        mine = agents[: room - len(runs)]
        return [_One(self._feed, self._agent), *mine, *runs], len(agents) + len(others) - len(mine) - len(runs)

    def push(self, *, keyframe: bool) -> tuple[list[CurveSeries], int, bytes] | None:
        """Return what a push tells of the curves, of how many more it does not, and the points; None when nothing changed or it is not yet time."""
        now = time.monotonic()
        if not keyframe and (self.due is None or now < self._looked_at + _EVERY):
            return None
        # What changes while this is read is later than what was seen.
        seen = tuple(feed.frames.revision for feed in self._feeds)
        versions = tuple((feed.run_id, feed.curves.version) for feed in self._feeds)
        self._seen, self._looked_at = seen, now
        if not keyframe and versions == self._told:
            return None
        shown, more = self.shown()
        points = max(_FEWEST, _PUSHED // len(MEASURES) // len(shown))
        parts = []
        series: list[CurveSeries] = []
        for at, one in enumerate(shown):
            curves = one.feed.curves
            for number, measure in enumerate(MEASURES):
                table = self._rows(one, curves.curve(one.agent, measure, points=points))
                marks = (pa.array(np.full(table.num_rows, value, np.int8)) for value in (at, number))
                for name, mark in zip(("series", "measure"), marks, strict=True):
                    table = table.append_column(name, mark)
                parts.append(table)
            series.append(
                {
                    "run": one.feed.run_id,
                    "name": str(one.feed.config.get("run_name") or "") or one.feed.run_id,
                    "agent": one.agent,
                    "numbered": curves.numbered(one.agent),
                }
            )
        self._told = versions
        return series, more, encode.to_page(pa.concat_tables(parts))

    def ask(self, run_id: str, agent: str | None, measure: Measure, where: tuple[int, int, int]) -> pa.Table:
        """Return a stretch of a curve: at most so many points, from a place to another."""
        feed = next((feed for feed in self._feeds if feed.run_id == run_id), None)
        if feed is None:
            msg = f"run {run_id!r} is not shown here"
            raise BadQuestionError(msg)
        one = _One(feed, agent if self._agent is None else self._agent)
        points, first, end = where
        curves: Curves = feed.curves
        return self._rows(one, curves.curve(one.agent, measure, points=points, first=first, end=end))

    def _rows(self, one: _One, table: pa.Table) -> pa.Table:
        """Return the table with rows as this view counts them; -1 for those of another run."""
        at = table.schema.get_field_index("row")
        if one.feed is not self._feed:
            return table.set_column(at, "row", pa.array(np.full(table.num_rows, -1)))
        return table if self._agent is None else table.set_column(at, "row", table.column("place"))


def answer(view: View, ask: Ask) -> tuple[dict[str, Any], Sequence[bytes]]:
    """Answer ``ask_curve``: the stretch `first` to `end` (places) of a curve, in at most `points` buckets.

    It is named by `run`, `agent` (null: all together) and `y` (``"total_reward"`` or ``"steps"``).

    Returns
    -------
    tuple
        Field ``y``; and the curve (``curves.CURVE``) as an Arrow stream.
    """
    measure: Measure = "steps" if ask.choice("y", MEASURES) == "steps" else "total_reward"
    agent = None if ask.raw("agent") is None else ask.text("agent")
    points, first, end = (ask.whole(name) for name in ("points", "first", "end"))
    for name, value, low, high in (
        ("points", points, 1, MAX_POINTS),
        ("first", first, 0, _MOST),
        ("end", end, first, _MOST),
    ):
        if not low <= value <= high:
            raise ask.bad(name, f"a whole number from {low} to {high}")
    table = view.curves.ask(ask.text("run", view.feed.run_id), agent, measure, (points, first, end))
    return {"y": measure}, [encode.to_page(table)]
