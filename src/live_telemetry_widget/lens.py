"""One agent of a run, asked the same questions as the whole: what a view reads.

Examples
--------
>>> from live_telemetry_widget import frames, lens, normalize
>>> run = frames.RunFrames("r")
>>> events = [{"episode": 0, "step_index": i, "agent_id": a} for i in range(3) for a in ("left", "right")]
>>> _ = run.append_steps(normalize.steps_from_events(events).batch)
>>> right = lens.AgentFrames(run, "right")
>>> right.step_count, right.rows(1, 2).column("step_index").to_pylist()
(3, [1, 2])
"""

from __future__ import annotations

import bisect
import dataclasses
import threading
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from live_telemetry_widget.frames import Cursor, Delta

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from live_telemetry_widget._episode import Episode
    from live_telemetry_widget._rows import Numbers
    from live_telemetry_widget.frames import RunFrames
    from live_telemetry_widget.schema import Problem


class Frames(Protocol):
    """What a view asks of the frames, of a whole run or through a lens."""

    @property
    def revision(self) -> int:
        """Grows with every change."""

    @property
    def step_count(self) -> int:
        """How many steps there are."""

    @property
    def episode_count(self) -> int:
        """How many episodes there are."""

    def ended_episodes(self) -> list[int]:
        """Return how many episodes have ended, of each agent of each worker."""

    @property
    def agents(self) -> list[str]:
        """The agents, in order of first sight."""

    def problems(self) -> list[Problem]:
        """Return what was wrong with the data."""

    def rows(self, first: int, count: int) -> pa.Table:
        """Return steps by row number."""

    def scan(self, first: int, count: int, names: Sequence[str]) -> pa.Table:
        """Return some columns of steps by row number; a column that none of these rows has is not there."""

    def columns(self, table: str) -> pa.Schema:
        """Return the columns of ``"steps"`` or ``"episodes"``."""

    def seek(self, number: int, step: int | None = None) -> list[tuple[Episode, int | None]]:
        """Return the episodes of a number, with their ordinal here and the row of a step."""

    def episode_rows(self, first: int, count: int) -> pa.Table:
        """Return episodes by ordinal, with their ordinal in column ``row``."""

    def take_episodes(self, ordinals: Iterable[int]) -> pa.Table:
        """Return some episodes by ordinal, in the order asked for."""

    def since(self, cursor: Cursor, max_steps: int, max_episodes: int) -> Delta:
        """Return what came after a cursor."""

    def take(self, rows: Numbers) -> pa.Table:
        """Return some steps by row number, in the order asked for."""

    def episode_steps(self, row: int) -> tuple[Numbers, Numbers]:
        """Return the step indices of an episode, ascending, and the rows that hold these steps."""

    def locate(self, number: int, agent_id: str, worker_id: str) -> int | None:
        """Return the ordinal of an episode of one agent of a worker."""


class AgentFrames:
    """The rows of one agent, numbered from 0.

    What came since the last question is looked through at the next, once.
    """

    def __init__(self, frames: RunFrames, agent_id: str) -> None:
        self.agent_id = agent_id
        self._frames = frames
        self._lock = threading.Lock()
        self._rows: Numbers = np.zeros(1_024, np.int64)
        self._count = 0
        self._ordinals: list[int] = []
        self._seen = (0, 0)

    def _follow(self) -> None:
        rows, ordinals, *seen = self._frames.of_agent(self.agent_id, *self._seen)
        self._seen = (seen[0], seen[1])
        self._ordinals += ordinals
        end = self._count + len(rows)
        if end > len(self._rows):
            self._rows = np.resize(self._rows, max(end, 2 * len(self._rows)))
        self._rows[self._count : end] = rows
        self._count = end

    @property
    def revision(self) -> int:
        """Grows with every change of the run."""
        return self._frames.revision

    @property
    def step_count(self) -> int:
        """How many steps the agent has."""
        with self._lock:
            self._follow()
            return self._count

    @property
    def episode_count(self) -> int:
        """How many episodes the agent has."""
        with self._lock:
            self._follow()
            return len(self._ordinals)

    def ended_episodes(self) -> list[int]:
        """Return how many episodes of the agent have ended, of each worker."""
        return self._frames.ended_episodes(self.agent_id)

    @property
    def agents(self) -> list[str]:
        """The agent."""
        return [self.agent_id]

    def problems(self) -> list[Problem]:
        """Return what was wrong with the data of the run."""
        return self._frames.problems()

    def rows(self, first: int, count: int) -> pa.Table:
        """Return the agent's steps by row number (order of arrival)."""
        with self._lock:
            self._follow()
            first = max(first, 0)
            return self._frames.take(self._rows[first : min(first + count, self._count)])

    def scan(self, first: int, count: int, names: Sequence[str]) -> pa.Table:
        """Return some columns of the agent's steps by row number."""
        with self._lock:
            self._follow()
            first = max(first, 0)
            rows = self._rows[first : min(first + count, self._count)]
            return self._frames.take(rows, [*names, *(["episode"] if "episode" not in names else [])])

    def columns(self, table: str) -> pa.Schema:
        """Return the columns of the run's steps or episodes."""
        return self._frames.columns(table)

    def seek(self, number: int, step: int | None = None) -> list[tuple[Episode, int | None]]:
        """Return the agent's episodes of a number, with the row of a step among its own."""
        found: list[tuple[Episode, int | None]] = []
        with self._lock:
            self._follow()
            for episode, row in self._frames.seek(number, step):
                if episode.agent_id == self.agent_id:
                    at = int(np.searchsorted(self._ordinals, episode.ordinal))
                    mine = None if row is None else int(np.searchsorted(self._rows[: self._count], row))
                    found.append((dataclasses.replace(episode, ordinal=at), mine))
        return found

    def take_episodes(self, ordinals: Iterable[int]) -> pa.Table:
        """Return some of the agent's episodes by ordinal, in the order asked for."""
        with self._lock:
            return self._episodes([*ordinals])

    def take(self, rows: Numbers) -> pa.Table:
        """Return some of the agent's steps by row number, in the order asked for."""
        with self._lock:
            return self._frames.take(self._rows[: self._count][rows])

    def episode_steps(self, row: int) -> tuple[Numbers, Numbers]:
        """Return the step indices of an episode, ascending, and the rows of the agent that hold these steps."""
        with self._lock:
            self._follow()
            known = 0 <= row < len(self._ordinals)
            steps, rows = self._frames.episode_steps(self._ordinals[row] if known else -1)
            # Steps that came in since are of the next question.
            here = rows <= self._rows[self._count - 1] if self._count else np.zeros(len(rows), bool)
            return steps[here], np.searchsorted(self._rows[: self._count], rows[here])

    def locate(self, number: int, agent_id: str, worker_id: str) -> int | None:
        """Return the place of an episode of a worker of this agent; None when it is not known, or another agent's."""
        ordinal = self._frames.locate(number, self.agent_id, worker_id) if agent_id == self.agent_id else None
        with self._lock:
            self._follow()
            at = bisect.bisect_left(self._ordinals, ordinal) if ordinal is not None else len(self._ordinals)
            return at if at < len(self._ordinals) else None

    def episode_rows(self, first: int, count: int) -> pa.Table:
        """Return the agent's episodes by ordinal, with their ordinal in column ``row``."""
        with self._lock:
            self._follow()
            first = max(first, 0)
            return self._episodes(list(range(first, min(first + count, len(self._ordinals)))))

    def since(self, cursor: Cursor, max_steps: int, max_episodes: int) -> Delta:
        """Return what came after `cursor`: the newest `max_steps` rows of it, and the `max_episodes` last changed episodes."""
        with self._lock:
            revision = self._frames.revision
            self._follow()
            first = max(cursor.rows, self._count - max_steps)
            changed = self._frames.changed(cursor.revision, max_episodes, self.agent_id)
            places = np.searchsorted(np.array(self._ordinals, np.int64), np.array(changed, np.int64))
            # Those that came since are of the next delta: the revision that it begins at is older than they are.
            known = [at for at in places.tolist() if at < len(self._ordinals)]
            steps = self._frames.take(self._rows[first : self._count])
            return Delta(first, steps, self._episodes(known), Cursor(self._count, revision))

    def _episodes(self, places: list[int]) -> pa.Table:
        table = self._frames.take_episodes(self._ordinals[at] for at in places)
        return table.set_column(table.schema.get_field_index("row"), "row", pa.array(places, pa.int64()))
