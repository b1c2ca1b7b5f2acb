"""End to end and durable: emitter, daemon with its log, hub, frames; beside a bare Arrow-over-gRPC loop, and one message a step.

    python benchmarks/batched.py [--steps 400000]

Ours: a process emits as fast as it can, a daemon commits, a hub here takes in, until the last step can be asked for; counted from the first step that
arrives. The peer: a process that sends the same columns as Arrow IPC batches of 1,024 rows over one gRPC stream, and a client that only reads them (no
log, no merging, no index). The per-step wire is that of per_step.py, into the frames.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Final

import grpc
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


def emit(address: str, run_id: str, steps: int) -> None:
    """Emit steps as fast as it goes."""
    with ltw.Emitter(address, run_id, spool_dir=False) as emitter:
        for n in range(steps):
            emitter.step(action=n & 1, reward=1.0, terminated=n % LENGTH == LENGTH - 1, loss=n * 0.37, value=n * 0.11)
        emitter.flush()


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


async def bare(address: str, steps: int) -> float:
    """Return the steps a second of the bare loop."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        await channel.channel_ready()
        began, rows = time.perf_counter(), 0
        async for raw in channel.unary_stream("/bench.Bare/Stream")(b""):
            rows += pa.ipc.open_stream(raw).read_next_batch().num_rows
        spent = time.perf_counter() - began
    if rows != steps:
        fail(f"{rows} of {steps} steps came over the bare loop")
    return rows / spent


@contextlib.contextmanager
def child(*arguments: str) -> Iterator[str]:
    """Run this file as a server; yield its address."""
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this file
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def ours(address: str, hub: TelemetryAsyncHub, run_id: str, steps: int) -> float:
    """Return the steps a second of the whole way."""
    feed = hub.subscribe_run(run_id)
    command = [sys.executable, __file__, "--emit", address, run_id, str(steps)]
    with subprocess.Popen(command) as process:  # noqa: S603 - this file
        if not feed.wait_until(lambda: feed.frames.step_count > 0, WAIT):
            process.terminate()
            fail("nothing came")
        began, first = time.perf_counter(), feed.frames.step_count
        if not feed.wait_until(lambda: feed.frames.step_count == steps, WAIT):
            process.terminate()
            fail(f"{feed.frames.step_count} of {steps} steps came")
        spent = time.perf_counter() - began
    table = feed.frames.rows(steps - 1, 1)
    if table.column("loss").to_pylist() != [(steps - 1) * 0.37] or feed.frames.problems():
        fail(f"the last step is {table.to_pylist()}; {feed.frames.problems()}")
    hub.unsubscribe_run(run_id)
    return (steps - first) / spent


def main() -> None:
    """Print the table."""
    parser = parse(__doc__)
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--emit", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(bare_server(options.serve))
        return
    if options.emit:
        emit(options.emit[0], options.emit[1], int(options.emit[2]))
        return
    steps, rounds = (20_000, 1) if options.quick else (options.steps, options.rounds)
    one_by_one = min(steps, 10_000)
    loops, ways, singles = [], [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        ltw.serve(folder) as server,
        TelemetryAsyncHub(server.address) as hub,
        child("--serve", str(steps)) as loop,
        per_step.stand_in(one_by_one) as stand_in,
    ):
        for number in range(rounds):
            loops.append(asyncio.run(bare(loop, steps)))
            ways.append(ours(server.address, hub, f"batched-{number}", steps))
            singles.append(per_step.follow(stand_in, one_by_one))
    table = Table(f"{steps:,} steps end to end", "steps/s")
    table.row("a bare Arrow-over-gRPC loop", statistics.median(loops))
    table.row("emitter, durable daemon, hub, frames", statistics.median(ways))
    table.row("one message a step, into the frames", statistics.median(singles))
    ratios = [way / loop for way, loop in zip(ways, loops, strict=True)]
    table.ratio("ours to the bare loop", statistics.median(ratios), at_least=BARE)
    ratios = [way / single for way, single in zip(ways, singles, strict=True)]
    table.ratio("ours to one message a step", statistics.median(ratios), at_least=PER_STEP)
    table.print()


if __name__ == "__main__":
    main()
