"""Does a step cost more the more there are? And what a question costs of a long run.

    python benchmarks/growth.py [--most 10000000]

Microseconds of processor time a step (all threads) of ``RunFrames.append_steps``, in batches of 1,000, at so many steps held. Processor time,
because others may use the machine. Then, of the longest of these runs, what ``run.episodes``, ``run.episode(i)`` and ``run.steps`` take, beside
plain pyarrow with the same rows.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

from steps import BATCH, scalar_steps
from tables import Table, fail, parse

from live_telemetry_widget import _columns
from live_telemetry_widget.frames import RunFrames

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES: Final = (10_000, 100_000, 1_000_000, 10_000_000)
FROM: Final = 100_000
AT_MOST: Final = 1.1
#: So many batches are timed in a row: as many as make a few packed chunks, or the share of one would decide.
ROUND: Final = 100
ROUNDS: Final = 5
EPISODES_MS: Final = 50.0
EPISODE_MS: Final = 10.0
STEPS_MS: Final = 200.0
A_MILLION: Final = 1_000_000
LONG: Final = 2_000_000

SHAPES: Final = {"one agent": (200, 1), "episodes of 8 steps": (8, 1), "8 agents x 4 workers": (50, 32)}


def cost(frames: RunFrames, make: Callable[[int], object], held: int) -> tuple[float, int]:
    """Return the microseconds of processor time that a step costs now, and how many steps are held then."""
    spent = []
    for _ in range(ROUNDS):
        batches = [make(held + i * BATCH) for i in range(ROUND)]
        began = time.process_time()
        for batch in batches:
            frames.append_steps(batch)
        spent.append((time.process_time() - began) / ROUND / BATCH)
        held += ROUND * BATCH
    return statistics.median(spent) * 1e6, held


def grow(shape: str, sizes: tuple[int, ...], table: Table) -> None:
    """Measure one shape of run."""
    length, streams = SHAPES[shape]
    make, frames, held = scalar_steps(length, streams), RunFrames("r"), 0
    costs: dict[int, float] = {}
    for size in sizes:
        while held < size:
            frames.append_steps(make(held))
            held += BATCH
        costs[size], held = cost(frames, make, held)
        table.row(f"{shape}, {size:,} steps held", costs[size])
    if frames.step_count != held or frames.problems():
        fail(f"{frames.step_count} of {held} steps are held: {frames.problems()}")
    table.ratio(f"{shape}, {sizes[-1]:,} to {FROM:,}", costs[sizes[-1]] / costs[FROM], at_most=AT_MOST)


def milliseconds(call: Callable[[], object], before: Callable[[], object] = lambda: None, times: int = 7) -> float:
    """Return what a call takes, at the median; `before` it something happens that is not timed."""
    spent = []
    for _ in range(times):
        before()
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent) * 1e3


def questions(steps: int, millions: int) -> None:
    """Print what questions cost."""
    make = scalar_steps(50)
    frames, held = RunFrames("r"), 0

    def more() -> None:
        nonlocal held
        frames.append_steps(make(held))
        held += BATCH

    while held < millions:
        more()
    table = Table(f"questions of a run of {steps:,} steps that goes on", "ms")
    whole = milliseconds(frames.steps, more)
    plain = frames.steps_table()
    peer = milliseconds(plain.to_pandas)
    table.ratio(f"run.steps of {millions:,} rows", whole, at_most=STEPS_MS)
    table.row("  pyarrow: Table.to_pandas() of the same table", peer)
    table.row("  ratio", whole / peer)
    while held < steps:
        more()
    frames.episodes()
    table.ratio("run.episodes, after the first", milliseconds(frames.episodes, more), at_most=EPISODES_MS)
    summary = frames.episodes_table()
    table.row("  pyarrow: Table.to_pandas() of the same table", milliseconds(summary.to_pandas))
    middle = steps // 50 // 2
    one = milliseconds(
        lambda: _columns.to_frame(frames.episode_table(frames.find(middle)), decode=("action",)), more, 21
    )
    table.ratio("run.episode(i)", one, at_most=EPISODE_MS)
    everything = frames.steps_table()
    sliced = milliseconds(lambda: everything.slice(middle * 50, 50).to_pandas())
    table.row("  pyarrow: slice of a table, to_pandas()", sliced)
    table.print()


def main() -> None:
    """Print the tables."""
    parser = parse(__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1])
    options = parser.parse_args()
    most = 200_000 if options.quick else options.most
    sizes = (*(size for size in SIZES if size < most), most)
    table = Table("appending, as a run grows", "us of processor a step")
    for shape in SHAPES:
        grow(shape, sizes, table)
    table.print()
    questions(200_000 if options.quick else LONG, 100_000 if options.quick else A_MILLION)


if __name__ == "__main__":
    main()
