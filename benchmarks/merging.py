"""What merging costs: microseconds a step of ``RunFrames.append_steps``, as a run grows.

    python benchmarks/merging.py [--most 2000000]

Each row fills the frames up to so many steps and then measures batches of 1,000 on top: of new steps, and of the same ones sent again, which are
compared with what is held, value by value. Microseconds of processor time (all threads). The peer of each is itself in a run that is short.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from tables import Table, fail, parse

from live_telemetry_widget import normalize
from live_telemetry_widget.frames import RunFrames

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (10_000, 100_000, 1_000_000, 2_000_000)
BATCH = 1_000
LENGTH = 50
AGENTS, WORKERS = 8, 4
ROUNDS = 100
#: Merging looks a row up among more, further away; it does not look at more of them.
AT_MOST = 1.25


def template() -> pa.RecordBatch:
    """Return a batch of real-shaped steps, whose places are put in by the makers."""
    events = [
        {
            "episode": 0,
            "step_index": i,
            "agent_id": "a",
            "action": i % 4,
            "reward": 0.0,
            "observation": {"state": i % 16, "position": {"row": i % 4, "col": i // 4 % 4}},
            "epsilon": 0.1,
            "ts_unix_ns": 1_700_000_000_000_000_000 + i,
        }
        for i in range(BATCH)
    ]
    return normalize.steps_from_events(events, run_id="r").batch


def placed(batch: pa.RecordBatch, episodes: np.ndarray, steps: np.ndarray, **labels: list[str]) -> pa.RecordBatch:
    """Return the batch with other places."""
    columns: dict[str, pa.Array] = {"episode": pa.array(episodes), "step_index": pa.array(steps)}
    columns |= {name: pa.array(values, batch.schema.field(name).type) for name, values in labels.items()}
    for name, column in columns.items():
        at = batch.schema.get_field_index(name)
        batch = batch.set_column(at, batch.schema.field(at), column)
    return batch


def one_agent(plain: pa.RecordBatch) -> Callable[[int], pa.RecordBatch]:
    """Return what makes the steps from a number on, of one agent."""

    def make(first: int) -> pa.RecordBatch:
        numbers = np.arange(first, first + BATCH)
        return placed(plain, numbers // LENGTH, numbers % LENGTH)

    return make


def many_agents(plain: pa.RecordBatch) -> Callable[[int], pa.RecordBatch]:
    """Return what makes the steps from a number on, of interleaved agents and workers."""
    streams = AGENTS * WORKERS

    def make(first: int) -> pa.RecordBatch:
        numbers = np.arange(first, first + BATCH)
        stream, index = numbers % streams, numbers // streams
        agents = [f"a{i}" for i in (stream % AGENTS).tolist()]
        workers = [f"w{i}" for i in (stream // AGENTS).tolist()]
        return placed(plain, index // LENGTH, index % LENGTH, agent_id=agents, worker_id=workers)

    return make


def microseconds(frames: RunFrames, batches: list[pa.RecordBatch]) -> float:
    """Return what a step cost on average, the merging of small chunks included."""
    began = time.process_time()
    for batch in batches:
        frames.append_steps(batch)
    return (time.process_time() - began) / len(batches) / BATCH * 1e6


def main() -> None:
    """Print the table."""
    parser = parse(__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="leave out larger runs")
    options = parser.parse_args()
    most = SIZES[1] if options.quick else options.most
    plain = template()
    table = Table("merging, as a run grows", "us of processor a step")
    for title, make in (("one agent", one_agent(plain)), (f"{AGENTS} agents x {WORKERS} workers", many_agents(plain))):
        frames, held = RunFrames("r"), 0
        costs: dict[str, list[float]] = {"new": [], "sent again": []}
        sizes = [size for size in SIZES if size <= most]
        for size in sizes:
            while held < size:
                frames.append_steps(make(held))
                held += BATCH
            costs["new"].append(microseconds(frames, [make(held + i * BATCH) for i in range(ROUNDS)]))
            held += ROUNDS * BATCH
            again = microseconds(frames, [make(held - (i + 1) * BATCH) for i in range(ROUNDS)])
            costs["sent again"].append(again)
        for what, spent in costs.items():
            for size, cost in zip(sizes, spent, strict=True):
                table.row(f"{title}, {what}, {size:,} steps held", cost)
            table.ratio(f"{title}, {what}, {sizes[-1]:,} to {sizes[0]:,}", spent[-1] / spent[0], at_most=AT_MOST)
        if frames.step_count != held:
            fail(f"{frames.step_count} steps are held, {held} were given")
    table.print()


if __name__ == "__main__":
    main()
