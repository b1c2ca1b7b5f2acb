"""What has become of the rows that an emitter took: how many of each kind, and what was wrong with them."""

from __future__ import annotations

import collections
import logging
from typing import TYPE_CHECKING, Final

from live_telemetry_widget.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from live_telemetry_widget.worker.heirs import HandedOver
    from live_telemetry_widget.worker.spool import Estate
    from live_telemetry_widget.worker.will import Will

_LOG: Final = logging.getLogger(__name__)


class Tallies:
    """Counts, for one run.

    Attributes
    ----------
    taken, confirmed, recovered : collections.Counter
        By kind: what the training thread has said; of it, what the daemon has; what of an earlier process was delivered.
    dropped, refused : int
        Rows of both kinds.
    problems : collections.Counter
        By kind of problem.
    samples : dict
        The first of each kind.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.taken = collections.Counter[str]()
        self.confirmed = collections.Counter[str]()
        self.recovered = collections.Counter[str]()
        self.dropped = 0
        self.refused = 0
        self.problems = collections.Counter[str]()
        self.samples: dict[str, str] = {}
        #: What a link has lost, as far as it is counted.
        self._losses = collections.Counter[str]()

    def waiting(self) -> int:
        """Return how many rows are not confirmed."""
        return sum(self.taken.values()) - sum(self.confirmed.values()) - self.dropped - self.refused

    def count(self, problems: Iterable[Problem]) -> None:
        """Count what is wrong with values; the first of each kind is told in words."""
        for problem in problems:
            self.problems[problem.kind] += problem.count
            if problem.kind not in self.samples:
                self.samples[problem.kind] = problem.detail
                _LOG.warning("run %s: %s: %s", self.run_id, problem.kind, problem.detail)

    def drop(self, rows: int) -> None:
        """Count rows that were given up for want of room."""
        if not self.dropped:
            _LOG.warning("run %s: the spool is full; the oldest rows are dropped", self.run_id)
        self.dropped += rows

    def lose(self, losses: collections.Counter[str], why: str) -> None:
        """Count, by kind, what a link has lost in all."""
        if losses != self._losses:
            # Lost rows were counted as settled, and so as confirmed.
            new = losses - self._losses
            self._losses = losses
            self.confirmed.subtract(new)
            self.refused += new.total()
            self.count([Problem("rows_refused", f"the daemon refuses rows: {why}", count=new.total())])

    def inherit(self, will: Will) -> None:
        """Go on counting where one that died was when it was heard last."""
        self.taken.update(will.taken)
        if (stats := will.stats) is not None:
            self.recovered["steps"] = stats.recovered
            self.dropped, self.refused = stats.dropped, stats.refused
            self.problems.update(stats.problems)
            self.confirmed.update(steps=stats.confirmed_steps, episodes=stats.confirmed_episodes)

    def inherit_estates(self, will: Will, left: Sequence[Estate], *, spooled: bool) -> None:
        """Cut what the dead did not finish from what they left, and count what they had done: they were heard only so often."""
        waiting = collections.Counter[str]()
        for estate in left:
            if (upto := will.producers.get(estate.producer)) is not None:
                estate.records = [r for r in estate.records if r.first + r.rows <= upto.get(r.kind, 0)]
                for record in estate.records:
                    waiting[record.kind] += record.rows
        spooled = spooled and not (will.stats and "memory only" in will.stats.why)
        gone = sum(will.taken.values()) - self.dropped - self.refused - waiting.total()
        lost = 0 if spooled else max(0, gone - self.confirmed.total())
        if lost:
            self.dropped += lost
            self.count([Problem("helper_lost", "a helper has died, and what was in its memory with it", count=lost)])
        # What is no longer in the files was confirmed, dropped or refused.
        episodes = will.taken.get("episodes", 0) - waiting["episodes"]
        self.confirmed.clear()
        self.confirmed.update(steps=gone - lost - episodes, episodes=episodes)

    def bequeathed(self, estate: Estate, handed: HandedOver, delivered: Mapping[str, int], will: Will | None) -> None:
        """Count what became of what a dead process left."""
        why, lost, whole = handed
        if will is None or estate.producer not in will.producers:
            self.recovered.update(delivered)
        elif whole:
            self.refused += lost
            self.confirmed.update(delivered)
            self.confirmed["steps"] -= lost
        if estate.torn:
            self.count([Problem("torn_spool", "a file of an earlier process ends within a record", count=estate.torn)])
        if why:
            self.count([Problem("spool_refused", f"rows of an earlier process cannot be delivered: {why}")])
