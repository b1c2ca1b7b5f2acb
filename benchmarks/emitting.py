"""What a step costs the training thread: an emitter, and others' loggers with the same values.

    python benchmarks/emitting.py [--steps 50000]

Nanoseconds of a call at the median, on the calling thread: three scalars, with a daemon that takes them (ours), or a file in a temporary directory (theirs).
A peer that is not installed is said to be missing; ``make bench`` tries to install them into ``.venv-bench``. Then loops of Gymnasium with and
without an emitter, in turn.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final

import gymnasium
from tables import Table, parse

import live_telemetry_widget as ltw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT_MOST_US: Final = 2.0
CHEAPER: Final = 5.0
SHARE: Final = 0.1
ROUND: Final = 1_000


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


def loop(env: gymnasium.Env[Any, Any], steps: int, emitter: ltw.Emitter | None) -> tuple[float, float]:
    """Return the seconds that so many random steps take: of this thread's processor, and of the clock."""
    env.reset(seed=7)
    env.action_space.seed(7)
    sample = env.action_space.sample
    began, clock = time.thread_time(), time.perf_counter()
    for _ in range(steps):
        action = sample()
        observation, reward, terminated, truncated, _ = env.step(action)
        if emitter is not None:
            emitter.step(action, reward, observation, terminated, truncated)
        if terminated or truncated:
            env.reset()
    return time.thread_time() - began, time.perf_counter() - clock


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
        for game in ("FrozenLake-v1", "CartPole-v1"):
            env = gymnasium.make(game)
            shares, longer = [], []
            for number in range(rounds):
                plain = loop(env, steps, None)
                with ltw.Emitter(server.address, f"{game}-{number}", spool_dir=f"{folder}/spool") as emitter:
                    told = loop(env, steps, emitter)
                shares.append(told[0] / plain[0] - 1)
                longer.append(told[1] / plain[1] - 1)
            env.close()
            share = statistics.median(shares)
            table.ratio(f"{game}: share that it adds to the thread", share, at_most=SHARE)
            table.row("  to the clock, at full speed", statistics.median(longer))
    table.note(
        "the clock: with its own thread, which shares the interpreter, and the daemon, which shares the processors"
    )
    table.print()


if __name__ == "__main__":
    main()
