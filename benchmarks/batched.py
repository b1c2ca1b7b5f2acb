"""End to end and durable: emitter, daemon with its log, hub, frames; beside a bare Arrow-over-gRPC loop, and one message a step.

    python benchmarks/batched.py [--steps 2000000]

Ours: a process emits as fast as it can, a daemon commits, a hub here takes in, until the last step can be asked for; counted from the first step that
arrives. Once with ``Emitter.steps``, a thousand in a call as a vector environment would have them, once with ``Emitter.step`` for each. The peer: a
process that sends the same columns as Arrow IPC batches of as many rows over one gRPC stream, and a client that only reads them (no log, no merging, no
index). The per-step wire is that of per_step.py, into the frames.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc
import numpy as np
import per_step
import pyarrow as pa
from steps import BATCH, scalar_steps
from tables import Table, fail, parse

import live_telemetry_widget as ltw
from live_telemetry_widget.client import CHANNEL_OPTIONS
from live_telemetry_widget.hub import TelemetryAsyncHub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

BARE: Final = 0.4
PER_STEP: Final = 50.0
WAIT: Final = 180.0
LENGTH: Final = 50


def helped() -> float:
    """Return the seconds of processors that the processes have taken that this one has started (Linux)."""
    lists = pathlib.Path("/proc/self/task").glob("*/children")
    return sum(spent(int(pid)) for path in lists for pid in path.read_text(encoding="ascii").split())


def emit(address: str, run_id: str, steps: int, *, columns: bool) -> None:
    """Emit steps as fast as it goes; print the seconds of processors that it took, and its helper."""
    with ltw.Emitter(address, run_id, spool_dir=tempfile.mkdtemp(prefix="spool-", dir=sys.argv[-1])) as emitter:
        began, helping = time.process_time(), helped()
        if columns:
            for first in range(0, steps, BATCH):
                n = np.arange(first, first + BATCH)
                emitter.steps(
                    action=n & 1, reward=1.0, terminated=n % LENGTH == LENGTH - 1, loss=n * 0.37, value=n * 0.11
                )
        else:
            for n in range(steps):
                emitter.step(
                    action=n & 1, reward=1.0, terminated=n % LENGTH == LENGTH - 1, loss=n * 0.37, value=n * 0.11
                )
        emitter.flush()
        print(time.process_time() - began, helped() - helping, flush=True)


async def bare_server(steps: int) -> None:
    """Serve batches that are encoded as they are asked for; print the port."""
    make = scalar_steps(LENGTH)
    batches = [make(first) for first in range(0, steps, BATCH)]

    async def stream(_: bytes, __: object) -> AsyncIterator[bytes]:
        for batch in batches:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            yield sink.getvalue().to_pybytes()

    server = grpc.aio.server(options=CHANNEL_OPTIONS)
    handler = grpc.unary_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Bare", {"Stream": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


class Way(NamedTuple):
    """What was measured: steps a second, and the microseconds of a processor that each process took for a step."""

    rate: float
    costs: dict[str, float]
    #: Most steps had come when the clock began, so it says nothing.
    too_few: bool = False


def spent(pid: int) -> float:
    """Return the seconds of processors that a process has taken (Linux)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def bare(address: str, pid: int, steps: int) -> Way:
    """Return what the bare loop does."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        await channel.channel_ready()
        began, rows = time.perf_counter(), 0
        costs = {"sender": -spent(pid), "reader": -time.process_time()}
        async for raw in channel.unary_stream("/bench.Bare/Stream")(b""):
            rows += pa.ipc.open_stream(raw).read_next_batch().num_rows
        took = time.perf_counter() - began
        costs["reader"] += time.process_time()
        costs["sender"] += spent(pid)
    if rows != steps:
        fail(f"{rows} of {steps} steps came over the bare loop")
    return Way(rows / took, {name: cost / steps * 1e6 for name, cost in costs.items()})


@contextlib.contextmanager
def child(*arguments: str) -> Iterator[tuple[str, int]]:
    """Run this file as a server; yield its address and process id."""
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this file
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101
        yield f"127.0.0.1:{process.stdout.readline().strip()}", process.pid
        process.stdin.close()


def ours(server: ltw.Server, hub: TelemetryAsyncHub, run_id: str, steps: int, how: str) -> Way:
    """Return what the whole way does."""
    feed = hub.subscribe_run(run_id)
    command = [sys.executable, __file__, "--emit", server.address, run_id, str(steps), how, str(server.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this file
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        if not feed.wait_until(lambda: feed.frames.step_count > 0, WAIT):
            process.terminate()
            fail("nothing came")
        began, first = time.perf_counter(), feed.frames.step_count
        costs = {"daemon": -spent(server.pid), "hub and frames": -time.process_time()}
        if not feed.wait_until(lambda: feed.frames.step_count == steps, WAIT):
            process.terminate()
            fail(f"{feed.frames.step_count} of {steps} steps came")
        took = time.perf_counter() - began
        costs["daemon"] += spent(server.pid)
        costs["hub and frames"] += time.process_time()
        emitting, helping = map(float, process.stdout.readline().split())
    table = feed.frames.rows(steps - 1, 1)
    if table.column("loss").to_pylist() != [(steps - 1) * 0.37] or feed.frames.problems():
        fail(f"the last step is {table.to_pylist()}; {feed.frames.problems()}")
    hub.unsubscribe_run(run_id)
    held = max(steps - first, 1)
    each = {name: cost / held * 1e6 for name, cost in costs.items()}
    each |= {"emitter": emitting / steps * 1e6, "its helper": helping / steps * 1e6}
    return Way(held / took, each, too_few=held < steps / 2)


def report(table: Table, name: str, ways: list[Way]) -> None:
    """Add what was measured of a way."""
    table.row(name, statistics.median(way.rate for way in ways))
    costs = {part: statistics.median(way.costs[part] for way in ways) for part in ways[0].costs}
    parts = ", ".join(f"{part} {cost:.2f}" for part, cost in costs.items())
    table.note(f"  us of a processor for a step: {parts}")
    if any(way.too_few for way in ways):
        table.note("  NOT MEASURED: most had come before the clock began; this takes more steps")


def main() -> None:
    """Print the table."""
    parser = parse(__doc__)
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--emit", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(bare_server(options.serve))
        return
    if options.emit:
        address, run_id, number, how, _ = options.emit
        emit(address, run_id, int(number), columns=how == "columns")
        return
    steps, rounds = (400_000, 1) if options.quick else (options.steps, options.rounds)
    one_by_one, singly = min(steps, 10_000), min(steps, 200_000)
    loops: list[Way] = []
    ways: dict[str, list[Way]] = {"columns": [], "steps": []}
    singles: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ltw.serve(folder) as server,
        TelemetryAsyncHub(server.address) as hub,
        child("--serve", str(steps)) as loop,
        per_step.stand_in(one_by_one) as stand_in,
    ):
        for number in range(rounds):
            loops.append(asyncio.run(bare(*loop, steps)))
            ways["columns"].append(ours(server, hub, f"columns-{number}", steps, "columns"))
            ways["steps"].append(ours(server, hub, f"steps-{number}", singly, "steps"))
            singles.append(per_step.follow(stand_in, one_by_one))
    table = Table(f"{steps:,} steps end to end", "steps/s")
    report(table, "a bare Arrow-over-gRPC loop", loops)
    report(table, "Emitter.steps, durable daemon, hub, frames", ways["columns"])
    report(table, f"Emitter.step, likewise ({singly:,} steps)", ways["steps"])
    table.row("one message a step, into the frames", statistics.median(singles))
    for how, name in (("columns", "steps()"), ("steps", "step()")):
        ratios = [way.rate / loop.rate for way, loop in zip(ways[how], loops, strict=True)]
        table.ratio(f"{name} to the bare loop", statistics.median(ratios), at_least=BARE)
        ratios = [way.rate / single for way, single in zip(ways[how], singles, strict=True)]
        table.ratio(f"{name} to one message a step", statistics.median(ratios), at_least=PER_STEP)
    table.print()


if __name__ == "__main__":
    main()
