"""What the curves of a long run cost: the kernel's time for each question, beside NumPy over all episodes, and the bytes that go to the page.

    python benchmarks/curves.py [--episodes 1000000]

Judged is processor time; a push is what every page gets, at most each 0.4 s, after an episode ended.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from tables import Table, fail, parse

from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.schema import EPISODES
from live_telemetry_widget.view import encode
from live_telemetry_widget.view.curve_question import ViewCurves

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH: Final = 1_000
POINTS: Final = 512
TIMES: Final = 21


def records(first: int) -> pa.RecordBatch:
    """Return the records of some episodes of two agents, in turns."""
    numbers = np.arange(first, first + BATCH)
    columns: dict[str, Any] = {
        "worker_id": [""] * BATCH,
        "agent_id": [("left", "right")[number % 2] for number in numbers],
        "episode": numbers // 2,
        "steps": numbers % 97 + 1,
        "total_reward": np.sin(numbers / 50_000) + numbers % 7 / 7,
        "terminated": np.ones(BATCH, bool),
    }
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(BATCH, field.type)
        for field in EPISODES
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=EPISODES)


def spent(call: Callable[[], object], times: int = TIMES) -> float:
    """Return the processor time (ms) of a call: the middle of some."""
    found = []
    for _ in range(times):
        before = time.process_time()
        call()
        found.append(1_000 * (time.process_time() - before))
    return statistics.median(found)


def main() -> None:
    """Measure."""
    parser = parse(__doc__)
    parser.add_argument("--episodes", type=int, default=1_000_000)
    options = parser.parse_args()
    total = 50_000 if options.quick else options.episodes
    feed = RunFeed("r", Link("recording"))
    for first in range(0, total, BATCH):
        feed.frames.append_episodes(records(first))
    view = ViewCurves(feed, None)
    table = Table(f"curves of {total:,} episodes", "ms of processor")
    table.row("all of them taken in, once", spent(lambda: feed.curves.version, 1))

    returns = np.sin(np.arange(total) / 50_000) + np.arange(total) % 7 / 7
    size = -(-total // POINTS)
    edges = np.arange(0, total, size)

    def plain() -> object:
        return [how.reduceat(returns, edges) for how in (np.minimum, np.maximum, np.add)]

    whole = spent(lambda: feed.curves.curve(None, "total_reward", points=POINTS))
    table.row(f"the whole in {POINTS} points", whole)
    table.row("  NumPy over all returns, for the same numbers", spent(plain))
    middle = total // 2
    stretch = {"points": POINTS, "first": middle, "end": middle + 10_000}
    table.row("10,000 episodes in the middle", spent(lambda: feed.curves.curve("left", "total_reward", **stretch)))
    answer = encode.to_page(feed.curves.curve(None, "total_reward", **stretch))

    held = total

    def more() -> object:
        nonlocal held
        feed.frames.append_episodes(records(held))
        held += BATCH
        before = time.process_time()
        version = feed.curves.version
        after.append(1_000 * (time.process_time() - before))
        return version

    after: list[float] = []
    for _ in range(TIMES):
        more()
    table.row("a thousand more taken in", statistics.median(after))
    pushed: list[bytes] = []

    def push() -> None:
        found = view.push(keyframe=True)
        if found is None:
            fail("a keyframe without curves")
        pushed.append(found[2])

    table.row("a push: both measures, of all and of each agent", spent(push))
    table.print()
    sizes = Table("bytes to the page", "kB")
    sizes.row("a push", len(pushed[-1]) / 1_000)
    sizes.row("a closer look at 10,000 episodes", len(answer) / 1_000)
    sizes.print()
    count = int(np.sum(feed.curves.curve(None, "steps", points=POINTS).column("count").to_numpy()))
    if count != held:
        fail(f"{count} of {held} episodes are in the curve")


if __name__ == "__main__":
    main()
