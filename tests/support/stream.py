"""A run that is made in this process at any rate, put straight into the frames: for what is behind them."""

from __future__ import annotations

import threading
import time

import numpy as np
import pyarrow as pa

from live_telemetry_widget import normalize
from live_telemetry_widget.client import RunInfo
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.schema import RunState

LENGTH = 50
_TEMPLATE = 1_000


class Stream:
    """One agent, whose episodes have 50 steps; step `n` has reward ``n % 7 - 3`` and was made when it says."""

    def __init__(self, run_id: str = "stream") -> None:
        self.feed = RunFeed(run_id, Link("live"))
        self.feed.info = RunInfo(run_id, RunState.RUNNING, "")
        self.rows = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        events = [
            {
                "episode": 0,
                "step_index": i,
                "agent_id": "agent",
                "action": i % 4,
                "reward": 0.0,
                "observation": {"state": i % 16, "position": {"row": i % 4, "col": i // 4 % 4}},
                "epsilon": 0.1,
                "ts_unix_ns": 1,
            }
            for i in range(_TEMPLATE)
        ]
        self._steps = normalize.steps_from_events(events, run_id=run_id).batch

    def add(self, rows: int) -> None:
        """Append some steps, and the record of every episode that they end."""
        end = self.rows + rows
        first_episode = self.rows // LENGTH
        while self.rows < end:
            count = min(_TEMPLATE, end - self.rows)
            number = np.arange(self.rows, self.rows + count)
            batch = self._steps.slice(0, count)
            new = {
                "episode": number // LENGTH,
                "step_index": number % LENGTH,
                "reward": (number % 7 - 3).astype(float),
                "terminated": number % LENGTH == LENGTH - 1,
                "timestamp": pa.array(np.full(count, time.time_ns()), pa.timestamp("ns", "UTC")),
            }
            for name, values in new.items():
                at = batch.schema.get_field_index(name)
                column = values if isinstance(values, pa.Array) else pa.array(values)
                batch = batch.set_column(at, batch.schema.field(at), column)
            self.rows += count
            self.feed.frames.append_steps(batch)
        episodes = [
            {
                "episode": e,
                "agent_id": "agent",
                "reward": int((np.arange(e * LENGTH, (e + 1) * LENGTH) % 7 - 3).sum()),
                "steps": LENGTH,
                "terminated": True,
                "ts_unix_ns": time.time_ns(),
            }
            for e in range(first_episode, end // LENGTH)
        ]
        if episodes:
            self.feed.frames.append_episodes(normalize.episodes_from_events(episodes, run_id=self.feed.run_id).batch)

    def start(self, rate: float, tick: float = 0.01) -> None:
        """Go on at so many steps a second, in a thread."""

        def run() -> None:
            begun, before = time.monotonic(), self.rows
            while not self._ended.wait(tick):
                due = int((time.monotonic() - begun) * rate) - (self.rows - before)
                if due > 0:
                    # What could not be made in time is not made up for in one go.
                    self.add(min(due, int(rate)))

        self._ended.clear()
        self._thread = threading.Thread(target=run, name="stream", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread:
            self._thread.join()
