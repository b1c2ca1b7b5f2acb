"""The per-step wire: how fast one message a step becomes rows that can be asked for, against a client that only counts.

    python benchmarks/per_step.py [--steps 10000] [--rounds 15]

A stand-in for another's daemon, in a process of its own, streams RunStep messages that it serialized before, as fast as they are read. The
peer is ``grpc.aio`` with nothing behind it: no parsing, a counter. Ours is the hub, until the last step is in the frames. Both in turn, in short
rounds, and the ratio is of neighbours: the machine may be another's. Both are at most as fast as the stand-in sends; what each costs its
own process, all threads, is told beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc
from tables import Table, fail, parse

from live_telemetry_widget.client import CHANNEL_OPTIONS
from live_telemetry_widget.hub import TelemetryAsyncHub
from live_telemetry_widget.proto import trainer_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LIMIT: Final = 0.9
WAIT: Final = 120.0
LENGTH: Final = 20
EXTRAS: Final = '{"state":4,"next_state":8,"q_before":0.25,"q_after":0.255,"epsilon":0.1}'
OBSERVATION: Final = '{"state":4,"position":{"row":1,"col":0},"grid_size":4}'


def message(number: int) -> bytes:
    """Return a FrozenLake step as its worker sends it, serialized."""
    step = trainer_pb2.RunStep(
        run_id="bench",
        agent_id="q_agent",
        worker_id="w",
        episode_index=number // LENGTH,
        step_index=number % LENGTH,
        action_json=str(number % 4),
        observation_json=OBSERVATION,
        reward=float(number % LENGTH == LENGTH - 1),
        terminated=number % LENGTH == LENGTH - 1,
        seq_id=number + 1,
        extras_json=EXTRAS,
    )
    step.timestamp.FromNanoseconds(1_700_000_000_000_000_000 + number * 100_000)
    return step.SerializeToString()


class Daemon:
    """Answers StreamRunSteps alone; the rest of a daemon of generation 1 is silent."""

    def __init__(self, steps: int) -> None:
        self._messages = [message(number) for number in range(steps)]

    async def steps(self, _: bytes, __: object) -> AsyncIterator[bytes]:
        """Stream the steps, then stay open as daemons do."""
        for raw in self._messages:
            yield raw
        await asyncio.Event().wait()

    async def silent(self, _: bytes, __: object) -> AsyncIterator[bytes]:
        """Stream nothing."""
        await asyncio.Event().wait()
        yield b""


async def serve(steps: int) -> None:
    """Serve until standard input ends; print the port."""
    daemon = Daemon(steps)
    server = grpc.aio.server(options=CHANNEL_OPTIONS)
    streams = {"StreamRunSteps": daemon.steps, "StreamRunEpisodes": daemon.silent, "WatchRuns": daemon.silent}
    handlers = {name: grpc.unary_stream_rpc_method_handler(call) for name, call in streams.items()}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("gymgui.trainer.TrainerService", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


@contextlib.contextmanager
def stand_in(steps: int) -> Iterator[str]:
    """Run the stand-in; yield its address."""
    command = [sys.executable, __file__, "--serve", str(steps)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this file
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


class Speed(NamedTuple):
    """Steps a second, and microseconds of this process's processor time for each."""

    rate: float
    processor: float


class Watch:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._began, self._processor = time.perf_counter(), time.process_time()

    def speed(self, steps: int) -> Speed:
        """Return how quick so many steps were."""
        spent, processor = time.perf_counter() - self._began, time.process_time() - self._processor
        return Speed(steps / spent, processor / steps * 1e6)


async def count(address: str, steps: int) -> Speed:
    """Return how quickly a client can count."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stream = channel.unary_stream(
            "/gymgui.trainer.TrainerService/StreamRunSteps",
            request_serializer=trainer_pb2.StreamStepsRequest.SerializeToString,
        )
        call = stream(trainer_pb2.StreamStepsRequest(run_id="bench"))
        await call.read()
        watch = Watch()
        for _ in range(steps - 1):
            await call.read()
        speed = watch.speed(steps - 1)
        call.cancel()
    return speed


def follow(address: str, steps: int) -> float:
    """Return the steps a second that reach the frames."""
    return follow_and_cost(address, steps).rate


def follow_and_cost(address: str, steps: int) -> Speed:
    """Return how quickly steps reach the frames."""
    with TelemetryAsyncHub(address) as hub:
        feed = hub.subscribe_run("bench")
        if not feed.wait_until(lambda: feed.frames.step_count > 0, WAIT):
            fail("nothing came")
        watch, first = Watch(), feed.frames.step_count
        if not feed.wait_until(lambda: feed.frames.step_count == steps, WAIT):
            fail(f"{feed.frames.step_count} of {steps} steps came")
        speed = watch.speed(steps - first)
        if feed.frames.rows(steps - 1, 1).column("step_index").to_pylist() != [(steps - 1) % LENGTH]:
            fail("the last step is not the last")
    return speed


def main() -> None:
    """Print the table."""
    parser = parse(__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    steps, rounds = (5_000, 3) if options.quick else (options.steps, options.rounds)
    with stand_in(steps) as address:
        pairs = [(asyncio.run(count(address, steps)), follow_and_cost(address, steps)) for _ in range(rounds)]
    table = Table("one message a step", "steps/s")
    table.row("counted by a bare grpc.aio client", statistics.median(bare.rate for bare, _ in pairs))
    table.row("in the frames of a hub", statistics.median(ours.rate for _, ours in pairs))
    table.ratio(
        "ours to the bare client", statistics.median(ours.rate / bare.rate for bare, ours in pairs), at_least=LIMIT
    )
    table.row("us of processor a step: the bare client", statistics.median(bare.processor for bare, _ in pairs))
    table.row("us of processor a step: ours", statistics.median(ours.processor for _, ours in pairs))
    table.print()


if __name__ == "__main__":
    main()
