"""What a question costs of a long run in memory, beside plain pyarrow doing the same.

    python benchmarks/questions.py [--steps 2000000]

``run.steps`` of a million rows, for runs of three shapes: the first time, when the run has just come, and later, after every thousand rows more.
The peer has the same rows as one Arrow table in the order in which they came; it sorts them, where interleaved agents need it, and calls ``to_pandas()``. Ours and
the peer are processes of their own, by turns (the medians of three rounds), because the first time is mostly memory that a process has not touched yet. Judged is processor time
(all threads): others may use the machine. Then ``run.episodes`` and ``run.episode(i)`` of a run that goes on.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from steps import BATCH, scalar_steps
from tables import Table, fail, parse

from live_telemetry_widget import slices
from live_telemetry_widget.frames import RunFrames

if TYPE_CHECKING:
    from collections.abc import Callable

EPISODES_MS: Final = 50.0
EPISODE_MS: Final = 10.0
STEPS_MS: Final = 200.0
A_MILLION: Final = 1_000_000
LONG: Final = 2_000_000
LENGTH: Final = 50
LATER: Final = 7
ROUNDS: Final = 3
PEERS: Final = ("ours", "plain")
KEY: Final = ("worker_id", "agent_id", "episode", "step_index")

SHAPES: Final = {"one agent": (LENGTH, 1), "episodes of 8 steps": (8, 1), "8 agents x 4 workers": (LENGTH, 32)}


class Spent(NamedTuple):
    """Milliseconds that a call took: of processor, of that the kernel's, and by the clock; and how many pages of memory the kernel had to find."""

    processor: float
    kernel: float
    clock: float
    faults: float


def timed(call: Callable[[], object]) -> Spent:
    """Return what a call takes."""
    began, before, faults = time.perf_counter(), os.times(), _faults()
    processor = time.process_time()
    call()
    processor = (time.process_time() - processor) * 1e3
    kernel, clock = (os.times().system - before.system) * 1e3, (time.perf_counter() - began) * 1e3
    return Spent(processor, kernel, clock, _faults() - faults)


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def ours(length: int, streams: int, steps: int) -> list[Spent]:
    """Return what ``run.steps`` takes: the first time, and later."""
    make, frames, held = scalar_steps(length, streams), RunFrames("r"), 0
    while held < steps:
        frames.append_steps(make(held))
        held += BATCH
    spent = [timed(frames.steps)]
    found = frames.steps()
    if len(found) != held or found["step_index"].tolist() != list(range(length)) * (held // length):
        fail(f"{len(found)} of {held} steps, or in another order")
    for _ in range(LATER):
        frames.append_steps(make(held))
        held += BATCH
        spent.append(timed(frames.steps))
    return spent


def plain(length: int, streams: int, steps: int) -> list[Spent]:
    """Return what plain pyarrow takes."""
    make = scalar_steps(length, streams)
    table = pa.Table.from_batches([make(first) for first in range(0, steps, BATCH)])
    if streams == 1:
        return [timed(table.to_pandas) for _ in range(1 + LATER)]
    table = table.unify_dictionaries()
    # Arrow does not sort by labels, but by their numbers.
    numbers = [
        pa.chunked_array([chunk.indices for chunk in column.chunks]) if pa.types.is_dictionary(column.type) else column
        for column in (table.column(name) for name in KEY)
    ]
    keys = pa.table(numbers, names=list(KEY))
    by = [(name, "ascending") for name in KEY]
    return [timed(lambda: table.take(pc.sort_indices(keys, by)).to_pandas()) for _ in range(1 + LATER)]


def in_a_child(what: str, shape: str, steps: int) -> tuple[Spent, float]:
    """Return what a process of its own says: of the first time, and the processor time of later ones."""
    command = [sys.executable, __file__, "--child", what, *map(str, (*SHAPES[shape], steps))]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - this file
    first, *later = (Spent(*map(float, line.split())) for line in said.splitlines())
    return first, statistics.median(spent.processor for spent in later)


def by_turns(shape: str, steps: int, rounds: int) -> list[tuple[Spent, float]]:
    """Return what :func:`in_a_child` says of ours and of the peer: the medians of as many rounds, each of both."""
    rows: list[list[tuple[Spent, float]]] = [[in_a_child(what, shape, steps) for what in PEERS] for _ in range(rounds)]
    return [
        (
            Spent(*(statistics.median(values) for values in zip(*(first for first, _ in told), strict=True))),
            statistics.median(later for _, later in told),
        )
        for told in zip(*rows, strict=True)
    ]


def frames_of_steps(steps: int, rounds: int) -> None:
    """Print what ``run.steps`` costs."""
    table = Table(f"run.steps of {steps:,} rows", "ms of processor")
    for shape in SHAPES:
        (first, later), (peer, peer_later) = by_turns(shape, steps, rounds)
        table.ratio(f"{shape}, the first time", first.processor, at_most=STEPS_MS)
        for name, spent in (("", first), ("plain pyarrow, ", peer)):
            if name:
                table.row("  plain pyarrow, the first time", spent.processor)
            note = f"by the clock {spent.clock:.0f} ms, {spent.faults:,.0f} faults"
            table.row(f"  {name}of that the kernel's, mostly to find new memory", spent.kernel, note)
        table.row("  ours to plain pyarrow", first.processor / peer.processor)
        table.ratio(f"{shape}, later", later, at_most=STEPS_MS)
        table.row("  plain pyarrow, later", peer_later)
        table.row("  ours to plain pyarrow", later / peer_later)
    table.print()


def of_a_run_that_goes_on(steps: int) -> None:
    """Print what the episodes cost, and one of them."""
    make, frames, held = scalar_steps(LENGTH), RunFrames("r"), 0

    def more() -> None:
        nonlocal held
        frames.append_steps(make(held))
        held += BATCH

    def after_more(call: Callable[[], object], times: int) -> float:
        spent = []
        for _ in range(times):
            more()
            spent.append(timed(call).processor)
        return statistics.median(spent)

    while held < steps:
        more()
    frames.episodes()
    table = Table(f"questions of a run of {steps:,} steps that goes on", "ms of processor")
    table.ratio("run.episodes, after the first", after_more(frames.episodes, 9), at_most=EPISODES_MS)
    summary = frames.episodes_table()
    table.row(
        "  plain pyarrow: to_pandas() of the same table",
        statistics.median(timed(summary.to_pandas).processor for _ in range(9)),
    )
    middle = steps // LENGTH // 2
    found = slices.episode(frames, middle, None, None)
    if found is None or found["step_index"].tolist() != list(range(LENGTH)):
        fail(f"episode {middle} is not whole")
    one = after_more(lambda: slices.episode(frames, middle, None, None), 21)
    table.ratio("run.episode(i)", one, at_most=EPISODE_MS)
    everything = frames.steps_table()
    sliced = statistics.median(
        timed(lambda: everything.slice(middle * LENGTH, LENGTH).to_pandas()).processor for _ in range(21)
    )
    table.row("  plain pyarrow: slice of the table, to_pandas()", sliced)
    table.print()


def main() -> None:
    """Print the tables."""
    parser = parse(__doc__)
    parser.add_argument("--steps", type=int, default=LONG)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, *numbers = options.child
        for spent in (ours if what == "ours" else plain)(*map(int, numbers)):
            print(*spent)
        return
    rounds = 1 if options.quick else ROUNDS
    frames_of_steps(160_000 if options.quick else A_MILLION, rounds)  # whole episodes of each of 32 streams
    of_a_run_that_goes_on(200_000 if options.quick else options.steps)


if __name__ == "__main__":
    main()
