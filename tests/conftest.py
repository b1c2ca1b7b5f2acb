"""What all tests share: the sample run, real daemons, and the proof that nothing is left behind."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

import live_telemetry_widget as ltw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A build must not depend on the luck of its draw; a developer's runs go on searching.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

# Under nohup a hang-up is ignored, by all that a test starts too; here it means what it means to a person.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

DATA = pathlib.Path(__file__).parent / "data"
SAMPLE = DATA / "worker-frozenlake-4x4.jsonl.gz"


@pytest.fixture(scope="session")
def sample_lines() -> list[bytes]:
    """Return the lines that a real worker printed: 150 episodes of FrozenLake, 750 steps, seed 3."""
    return gzip.decompress(SAMPLE.read_bytes()).splitlines(keepends=True)


@pytest.fixture(scope="session")
def sample_events(sample_lines: list[bytes]) -> list[dict[str, Any]]:
    """Return the sample's events."""
    return [json.loads(line) for line in sample_lines]


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[ltw.Server]:
    """Return a daemon process of this test alone."""
    with ltw.serve(tmp_path / "data") as server:
        yield server


@pytest.fixture
def spool(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return where an emitter of this test keeps what is not confirmed."""
    return tmp_path / "spool"


@pytest.fixture
def emitter(daemon: ltw.Server, spool: pathlib.Path) -> Iterator[ltw.Emitter]:
    """Return an emitter that tells the test's daemon."""
    made = ltw.Emitter(daemon.address, spool_dir=spool)
    yield made
    made.close(timeout=0)


def proxy_command(address: str, *worker: str, **options: str) -> list[str]:
    """Return the command line of a proxy around a worker; keyword ``run_id`` becomes ``--run-id``."""
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    return [sys.executable, "-m", "live_telemetry_widget", "run", "--daemon", address, *flags, "--", *worker]


def beside_the_end(stderr: bytes) -> bytes:
    """Return what a proxy said on standard error, without its closing line, which must be there."""
    said, count = re.subn(rb"live-telemetry: run \S+: \d+ steps and \d+ episodes published to [\w.:]+\n", b"", stderr)
    assert count == 1, stderr
    return said


def demo_command(*arguments: str) -> list[str]:
    """Return the command line of the demo worker."""
    return [sys.executable, "-m", "live_telemetry_widget.worker.demo", *arguments]


def replay_command(path: pathlib.Path) -> list[str]:
    """Return the command line of a worker that prints what is in a file."""
    code = "import sys, gzip; op = gzip.open if sys.argv[1].endswith('gz') else open; sys.stdout.buffer.write(op(sys.argv[1], 'rb').read())"
    return [sys.executable, "-c", code, str(path)]


def wait_for(condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
    """Wait until a condition holds; fail with `what` when it does not in time."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {timeout:g} s: {what}")
        time.sleep(0.01)


@pytest.fixture
def processes() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return a function that starts a process, which is ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for stream in (process.stdout, process.stderr, process.stdin):
            if stream is not None:
                stream.close()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Fail a test that leaves one of our threads behind."""
    yield

    def ours() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("live-telemetry")]

    end = time.monotonic() + 5
    while ours() and time.monotonic() < end:
        time.sleep(0.01)
    assert not ours(), "threads left behind"


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Fail the session if a process that a test started lives on."""
    yield

    def children() -> list[str]:
        found = []
        for task in pathlib.Path("/proc/self/task").glob("*/children"):
            for pid in task.read_text().split():
                try:
                    command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if "live_telemetry_widget" in command:
                    found.append(f"{pid}: {command}")
        return found

    if pathlib.Path("/proc/self/task").exists():
        end = time.monotonic() + 10
        while children() and time.monotonic() < end:
            time.sleep(0.05)
        assert not children(), "processes left behind"
