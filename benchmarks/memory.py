"""Bytes of memory a step: a run of CartPole's scalar telemetry in the frames, in a process of its own.

    python benchmarks/memory.py [--steps 2000000]

A step is run, worker, agent, episode, step, time, action, reward, flags, sequence number, and four numbers of the worker's own (two of them
random, which nothing packs). Measured is what the process has more (RssAnon), from 100,000 steps on, the index of the episodes included; and
what is more with ``memory_limit``, where older rows are in files.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
from typing import Final

import numpy as np
import pyarrow as pa
from steps import BATCH, scalar_steps
from tables import Table, fail, parse, resident

from live_telemetry_widget.frames import RunFrames

AT_MOST: Final = 100.0
WARM: Final = 100_000
LIMIT: Final = 16 * 1024 * 1024
#: Beyond the limit: rows that came last and are not packed yet, and what the allocators keep.
ROOM: Final = 64 * 1024 * 1024


def grow(steps: int, length: int, limit: int | None) -> tuple[int, int]:
    """Return by how many bytes a process grows with so many steps, and by how many of them Arrow's."""
    frames = RunFrames("r", memory_limit=limit)
    make = scalar_steps(length)
    for first in range(0, WARM, BATCH):
        frames.append_steps(make(first))
    gc.collect()
    before, arrow = resident(), pa.total_allocated_bytes()
    for first in range(WARM, WARM + steps, BATCH):
        frames.append_steps(make(first))
    gc.collect()
    if frames.step_count != WARM + steps or frames.problems():
        fail(f"{frames.step_count} steps are held: {frames.problems()}")
    for row in np.linspace(0, frames.step_count - 1, 20).astype(int).tolist():
        found = frames.rows(row, 1).column("step_index")[0].as_py()
        if found != row % length:
            fail(f"row {row} is step {found}")
    return resident() - before, pa.total_allocated_bytes() - arrow


def in_a_child(steps: int, length: int, limit: int = 0) -> tuple[int, int]:
    """Return what :func:`grow` says in a process of its own."""
    command = [sys.executable, __file__, "--child", str(steps), str(length), str(limit)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603 - this file
    return int(said[0]), int(said[1])


def main() -> None:
    """Print the table."""
    parser = parse(__doc__)
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--child", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        steps, length, limit = options.child
        print(*grow(steps, length, limit or None))
        return
    steps = 300_000 if options.quick else options.steps
    plain = scalar_steps(200)(0).nbytes / BATCH
    table = Table("memory", "bytes a step")
    table.row("plain Arrow, as it came in", plain)
    for length in (200, 20):
        grown, arrow = in_a_child(steps, length)
        table.row(f"episodes of {length} steps: columns alone", arrow / steps)
        table.ratio(f"episodes of {length} steps: the process", grown / steps, at_most=AT_MOST)
    grown, _ = in_a_child(2 * steps, 200, LIMIT)
    table.row(f"MB that {2 * steps:,} steps take with memory_limit={LIMIT >> 20} MiB", grown / 1e6)
    table.ratio("  of the limit with 64 MiB more", grown / (LIMIT + ROOM), at_most=1.0)
    table.print()


if __name__ == "__main__":
    main()
