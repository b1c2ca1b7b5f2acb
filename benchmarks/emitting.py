"""What a step costs the training thread: an emitter, and others' loggers with the same values.

    python benchmarks/emitting.py [--steps 50000]

Nanoseconds of a call at the median, on the calling thread: three scalars, with a daemon that takes them (ours), or a file in a temporary directory (theirs).
A peer that is not installed is said to be missing; ``make bench`` tries to install them into ``.venv-bench``. Then what telling adds to loops of
Gymnasium, everything on, as a share of the bare loop.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import gymnasium
import numpy as np
from tables import Table, parse

import live_telemetry_widget as ltw
from live_telemetry_widget.gymnasium import RecordTelemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT_MOST_US: Final = 2.0
CHEAPER: Final = 5.0
SHARE: Final = 0.1
ROUND: Final = 1_000
EXPLORING: Final = 0.3


def median_us(log: Callable[[int, float, float, float], object], steps: int) -> float:
    """Return the microseconds of a call at the median; a pause between rounds lets other threads do what they put off."""
    spent: list[int] = []
    for first in range(0, steps, ROUND):
        for number in range(first, first + ROUND):
            began = time.perf_counter_ns()
            log(number, 1.0, number * 0.37, number * 0.11)
            spent.append(time.perf_counter_ns() - began)
        time.sleep(0.005)
    return statistics.median(spent) / 1e3


@contextlib.contextmanager
def tensorboard(folder: str) -> Iterator[Callable[[int, float, float, float], object]]:
    """TensorBoard's SummaryWriter, as tensorboardX has it (torch's is the same, and needs torch)."""
    writer = importlib.import_module("tensorboardX").SummaryWriter(folder)

    def log(number: int, reward: float, loss: float, value: float) -> None:
        writer.add_scalar("reward", reward, number)
        writer.add_scalar("loss", loss, number)
        writer.add_scalar("value", value, number)

    yield log
    writer.close()


@contextlib.contextmanager
def trackio(folder: str) -> Iterator[Callable[[int, float, float, float], object]]:
    """trackio.log, one call with all values."""
    os.environ |= {"TRACKIO_DIR": folder, "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    module = importlib.import_module("trackio")
    with open(os.devnull, "w", encoding="utf-8") as quiet, contextlib.redirect_stdout(quiet):  # noqa: PTH123 - a device
        module.init(project="bench", embed=False)

    def log(number: int, reward: float, loss: float, value: float) -> None:
        module.log({"reward": reward, "loss": loss, "value": value}, step=number)

    yield log
    with open(os.devnull, "w", encoding="utf-8") as quiet, contextlib.redirect_stdout(quiet):  # noqa: PTH123 - a device
        module.finish()


@contextlib.contextmanager
def rerun(folder: str) -> Iterator[Callable[[int, float, float, float], object]]:
    """rerun.log of three scalars at a step, into a file."""
    module = importlib.import_module("rerun")
    module.init("bench")
    module.save(f"{folder}/bench.rrd")

    def log(number: int, reward: float, loss: float, value: float) -> None:
        module.set_time("step", sequence=number)
        module.log("reward", module.Scalars(reward))
        module.log("loss", module.Scalars(loss))
        module.log("value", module.Scalars(value))

    yield log
    module.disconnect()


PEERS: Final = {"TensorBoard SummaryWriter": tensorboard, "trackio": trackio, "rerun-sdk": rerun}


class Spent(NamedTuple):
    """Seconds of a block: of the training thread, of all other threads of the process, of the clock."""

    thread: float
    others: float
    clock: float


@contextlib.contextmanager
def spending(found: list[Spent]) -> Iterator[None]:
    """Measure a block."""
    began, process, clock = time.thread_time(), time.process_time(), time.perf_counter()
    yield
    thread = time.thread_time() - began
    found.append(Spent(thread, time.process_time() - process - thread, time.perf_counter() - clock))


def frozen_lake(env: gymnasium.Env[Any, Any], steps: int, tell: Callable[..., object] | None) -> Spent:
    """Learn FrozenLake with a table."""
    table = [[0.0] * 4 for _ in range(16)]
    generator = np.random.default_rng(7)
    luck, guesses = generator.random(steps).tolist(), generator.integers(0, 4, steps).tolist()
    state, _ = env.reset()
    found: list[Spent] = []
    with spending(found):
        for number in range(steps):
            values = table[state]
            action = guesses[number] if luck[number] < EXPLORING else values.index(max(values))
            following, reward, terminated, truncated, _ = env.step(action)
            values[action] += 0.1 * (reward + 0.99 * max(table[following]) * (not terminated) - values[action])
            if tell is not None:
                tell(action, reward, state, terminated, truncated)
            state = following
            if terminated or truncated:
                state, _ = env.reset()
    return found[0]


def cart_pole(env: gymnasium.Env[Any, Any], steps: int, tell: Callable[..., object] | None) -> Spent:
    """Push CartPole at random."""
    pushes = np.random.default_rng(7).integers(0, 2, steps).tolist()
    state, _ = env.reset()
    found: list[Spent] = []
    with spending(found):
        for action in pushes:
            following, reward, terminated, truncated, _ = env.step(action)
            if tell is not None:
                tell(action, reward, state, terminated, truncated)
            state = following
            if terminated or truncated:
                state, _ = env.reset()
    return found[0]


GAMES: Final = {"FrozenLake-v1": frozen_lake, "CartPole-v1": cart_pole}


def shares(server: ltw.Server, game: str, how: str, steps: int, pairs: int) -> tuple[float, float]:
    """Return what telling adds to a loop: by the processor's time of the whole process, and by the clock.

    Blocks without and with it take turns, so that what else the machine does meets both alike. All of it is on meanwhile: the helper, the daemon
    with its log, and for a wrapper the pictures.
    """
    loop = GAMES[game]
    by_processor: list[float] = []
    by_clock: list[float] = []
    with ltw.Emitter(
        server.address, f"{game} {how}", spool_dir=server.data_dir / "spool", process=how != "in a thread"
    ) as emitter:
        bare = gymnasium.make(game)
        told = gymnasium.make(game) if how == "step()" else RecordTelemetry(gymnasium.make(game), emitter)
        tell = emitter.step if how == "step()" else None
        loop(bare, steps // 4, None), loop(told, steps // 4, tell)
        for _ in range(pairs):
            emitter.flush()
            without, within = loop(bare, steps, None), loop(told, steps, tell)
            # All threads of the process want the one interpreter lock.
            by_processor.append((within.thread + within.others) / (without.thread + without.others) - 1)
            by_clock.append(within.clock / without.clock - 1)
        bare.close()
        told.close()
    return statistics.median(by_processor), statistics.median(by_clock)


def main() -> None:
    """Print the table."""
    parser = parse(__doc__)
    parser.add_argument("--steps", type=int, default=50_000)
    options = parser.parse_args()
    steps, peer_steps, rounds = (5_000, 2_000, 3) if options.quick else (options.steps, 10_000, 7)
    table = Table("a step on the training thread, at the median", "us")
    with tempfile.TemporaryDirectory() as folder, ltw.serve(f"{folder}/data") as server:
        with ltw.Emitter(server.address, "emitting", spool_dir=f"{folder}/spool") as emitter:
            ours = median_us(lambda n, r, l, v: emitter.step(n & 1, r, loss=l, value=v), steps)  # noqa: E741 - loss
        table.ratio("Emitter.step", ours, at_most=AT_MOST_US)
        for name, peer in PEERS.items():
            try:
                with tempfile.TemporaryDirectory() as place, peer(place) as log:
                    theirs = median_us(log, peer_steps)
            except ImportError as error:
                table.note(f"{name}: cannot be measured here: {error}")
                continue
            table.row(name, theirs)
            table.ratio("  times as much as ours", theirs / ours, at_least=CHEAPER)
        for game in GAMES:
            for how in ("RecordTelemetry", "step()", "in a thread"):
                processor, clock = shares(server, game, how, steps, rounds)
                name = f"{game}, {how}: share of the bare loop"
                if how == "in a thread":
                    table.row(f"{name}, by the processor", processor, "process=False")
                else:
                    table.ratio(f"{name}, by the processor", processor, at_most=SHARE)
                table.row("  by the clock", clock)
    table.note("by the processor: all threads of the training process, of which one can run at a time")
    table.note("by the clock: with the helper and the daemon, and whoever else wants the processors")
    table.print()


if __name__ == "__main__":
    main()
