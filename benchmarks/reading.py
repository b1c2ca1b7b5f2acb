"""What it takes to read one episode of a long recorded run, and how much longer all of it takes.

    python benchmarks/reading.py [--steps 5000000]

One episode is ``ltw.open(path).run(id).episode(n)``, the opening included: a DataFrame, its copies merged. A full scan decodes every
chunk of the run, and makes nothing of it. The peer is plain pyarrow over the same rows in one Parquet file: the row groups whose statistics say that the episode
may be in them, as a DataFrame.
"""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tables import Table, fail, parse

import live_telemetry_widget as ltw
from live_telemetry_widget import normalize
from live_telemetry_widget.schema import TIMESTAMP
from live_telemetry_widget.store import RunRow, Store

STEPS = 5_000_000
LENGTH = 50
BATCH = 16_000
ROUNDS = 20
#: Milliseconds; and how many times as long everything takes.
AT_MOST_MS = 50.0
AT_LEAST = 20.0


def template() -> pa.RecordBatch:
    """Return a batch of real-shaped steps, whose places are put in later."""
    events = [
        {
            "episode": 0,
            "step_index": i,
            "agent_id": "q_agent",
            "action": i % 4,
            "reward": 0.0,
            "observation": {"state": i % 16, "position": {"row": i % 4, "col": i // 4 % 4}, "grid_size": 4},
            "epsilon": 0.1,
            "q_before": (i * 7919 % 1000) / 1000,
            "ts_unix_ns": 1,
        }
        for i in range(BATCH)
    ]
    return normalize.steps_from_events(events, run_id="r").batch


def write(folder: pathlib.Path, steps: int) -> None:
    """Record a run of so many steps."""
    plain = template()
    with Store.open(folder) as store:
        store.commit([], [RunRow("r", 7, created_at=1)])
        for first in range(0, steps, BATCH):
            numbers = np.arange(first, min(first + BATCH, steps))
            batch = plain.slice(0, len(numbers))
            columns = {
                "episode": pa.array(numbers // LENGTH),
                "step_index": pa.array(numbers % LENGTH),
                "reward": pa.array(numbers.astype(np.float64)),
                "timestamp": pa.array(1_700_000_000_000_000_000 + numbers * 1_000_000).cast(TIMESTAMP),
            }
            for name, column in columns.items():
                at = batch.schema.get_field_index(name)
                batch = batch.set_column(at, batch.schema.field(at), column)
            store.append("r", "steps", [batch])


def one_episode(folder: pathlib.Path, number: int) -> float:
    """Return the seconds that reading an episode takes; check that it is the one."""
    began = time.perf_counter()
    with ltw.open(folder) as recording:
        frame = recording.run("r").episode(number)
    spent = time.perf_counter() - began
    if len(frame) != LENGTH or frame["reward"].iloc[0] != float(number * LENGTH):
        fail(f"episode {number} was read wrong: {len(frame)} steps from {frame['reward'].iloc[0]}")
    return spent


def full_scan(folder: pathlib.Path, steps: int) -> float:
    """Return the seconds that decoding the whole run takes."""
    began = time.perf_counter()
    with Store.open(folder, read_only=True) as store:
        rows = sum(batch.num_rows for batch in store.read("r", "steps"))
    spent = time.perf_counter() - began
    if rows != steps:
        fail(f"{rows} steps were read, {steps} were written")
    return spent


def as_parquet(folder: pathlib.Path) -> pathlib.Path:
    """Write the run as one Parquet file, a row group for each chunk of the store."""
    path = folder / "peer.parquet"
    with Store.open(folder, read_only=True) as store:
        batches = store.read("r", "steps")
        first = next(batches)
        with pq.ParquetWriter(path, first.schema) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
    return path


def from_parquet(path: pathlib.Path, number: int) -> float:
    """Return the seconds that plain pyarrow takes for an episode."""
    began = time.perf_counter()
    frame = pq.read_table(path, filters=[("episode", "==", number)]).to_pandas()
    spent = time.perf_counter() - began
    if len(frame) != LENGTH:
        fail(f"pyarrow reads {len(frame)} steps of episode {number}")
    return spent


def main() -> None:
    """Print the table."""
    parser = parse(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="of the run; default: %(default)s")
    options = parser.parse_args()
    steps = max((options.steps // 10 if options.quick else options.steps) // LENGTH, 1) * LENGTH
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        began = time.perf_counter()
        write(folder, steps)
        wrote = time.perf_counter() - began
        size = sum(path.stat().st_size for path in folder.iterdir())
        episodes = np.linspace(0, steps // LENGTH - 1, ROUNDS).astype(int).tolist()
        one_episode(folder, 0)  # imports
        times = [one_episode(folder, number) * 1e3 for number in episodes]
        scan = full_scan(folder, steps) * 1e3
        peer = as_parquet(folder)
        peers = [from_parquet(peer, number) * 1e3 for number in episodes]
    median, plain = statistics.median(times), statistics.median(peers)
    table = Table(f"an episode of {LENGTH} steps out of a file of {steps:,}", "ms")
    table.note(f"{size / 2**20:,.0f} MiB, {size / steps:.1f} bytes a step, written in {wrote:.0f} s")
    table.ratio("ltw.open(path).run(id).episode(n)", median, at_most=AT_MOST_MS)
    table.row(f"  the slowest of {ROUNDS}", max(times))
    table.row("  plain pyarrow: the same rows of a Parquet file", plain)
    table.row("  ours to plain pyarrow", median / plain)
    table.row("a full scan", scan)
    if options.quick:  # a short file is soon read
        table.row("  times as long as an episode", scan / median)
    else:
        table.ratio("  times as long as an episode", scan / median, at_least=AT_LEAST)
    table.print()


if __name__ == "__main__":
    main()
