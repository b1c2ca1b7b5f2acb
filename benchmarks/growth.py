"""What a step costs, the more there are.

    python benchmarks/growth.py [--most 10000000]

Microseconds of processor time a step (all threads) of ``RunFrames.append_steps``, in batches of 1,000, at so many steps held. Each size is
a process of its own, and they are measured by turns: a machine that others use is a slower one from one minute to the next. Python's garbage
collector goes through all objects of a process now and then, which a run of many episodes makes many of: the longest of these passes is told
by itself, and the ratio of the means has them in it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import subprocess
import sys
import time
from typing import Any, Final

from steps import BATCH, scalar_steps
from tables import Table, fail, parse

from live_telemetry_widget.frames import RunFrames

SIZES: Final = (10_000, 100_000, 1_000_000, 10_000_000)
FROM: Final = 100_000
AT_MOST: Final = 1.1
#: So many batches are timed in a row: as many as make a few packed chunks, or the share of one would decide.
ROUND: Final = 100
ROUNDS: Final = 9
SHAPES: Final = {"one agent": (200, 1), "episodes of 8 steps": (8, 1), "8 agents x 4 workers": (50, 32)}


def hold(length: int, streams: int, size: int) -> None:
    """Hold so many steps; then measure a round for each line of standard input, and print what it cost."""
    make, frames, held = scalar_steps(length, streams), RunFrames("r"), 0
    while held < size:
        frames.append_steps(make(held))
        held += BATCH
    began, passes = 0, [0]

    def note(phase: str, info: dict[str, Any]) -> None:
        nonlocal began
        if info["generation"] == 2:  # noqa: PLR2004 - a pass through everything
            if phase == "start":
                began = time.process_time_ns()
            else:
                passes.append(time.process_time_ns() - began)

    gc.callbacks.append(note)
    print(frames.step_count, flush=True)
    for _ in sys.stdin:
        batches = [make(held + number * BATCH) for number in range(ROUND)]
        passes[1:] = []
        start = time.process_time_ns()
        for batch in batches:
            frames.append_steps(batch)
        spent = time.process_time_ns() - start
        held += ROUND * BATCH
        if frames.step_count != held or frames.problems():
            fail(f"{frames.step_count} of {held} steps are held: {frames.problems()}")
        print(spent / 1e3 / ROUND / BATCH, sum(passes) / 1e3 / ROUND / BATCH, max(passes) / 1e6, flush=True)


class Holder:
    """A process that holds a run, and is asked to take in a round of it."""

    def __init__(self, stack: contextlib.ExitStack, shape: str, size: int) -> None:
        command = [sys.executable, __file__, "--hold", *map(str, (*SHAPES[shape], size))]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this file
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101
        self._stdin, self._stdout = process.stdin, process.stdout
        stack.enter_context(process)
        stack.callback(process.stdin.close)
        if self._stdout.readline().strip() != str(size):
            fail(f"{shape}: {size:,} steps are not held")
        self.whole: list[float] = []
        self.collector: list[float] = []
        self.longest = 0.0

    def round(self) -> None:
        """Measure one round."""
        print(file=self._stdin, flush=True)
        whole, collector, longest = map(float, self._stdout.readline().split())
        self.whole.append(whole)
        self.collector.append(collector)
        self.longest = max(self.longest, longest)

    @property
    def cost(self) -> float:
        """The microseconds of a step at the median, without passes through everything."""
        return statistics.median(self.plain)

    @property
    def plain(self) -> list[float]:
        """The microseconds of a step in each round, without passes through everything."""
        return [whole - passes for whole, passes in zip(self.whole, self.collector, strict=True)]


def grow(shape: str, sizes: tuple[int, ...], table: Table) -> None:
    """Measure one shape of run."""
    with contextlib.ExitStack() as stack:
        holders = {size: Holder(stack, shape, size) for size in sizes}
        for _ in range(ROUNDS):
            for holder in holders.values():
                holder.round()
    for size, holder in holders.items():
        passes = f"garbage collector's passes {statistics.mean(holder.collector):.2f}, longest {holder.longest:.0f} ms"
        table.row(f"{shape}, {size:,} steps held", holder.cost, passes if holder.longest else "")
    few, many = holders[FROM], holders[sizes[-1]]
    ratio = statistics.median(many / few for many, few in zip(many.plain, few.plain, strict=True))
    table.ratio(f"{shape}, {sizes[-1]:,} to {FROM:,}", ratio, at_most=AT_MOST)
    table.row(
        "  the means, with the garbage collector's passes", statistics.mean(many.whole) / statistics.mean(few.whole)
    )


def main() -> None:
    """Print the table."""
    parser = parse(__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1])
    parser.add_argument("--hold", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold:
        hold(*options.hold)
        return
    most = 200_000 if options.quick else options.most
    table = Table("appending, as a run grows", "us of processor a step")
    for shape in SHAPES:
        grow(shape, (*(size for size in SIZES if size < most), most), table)
    table.print()


if __name__ == "__main__":
    main()
