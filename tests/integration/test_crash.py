"""A daemon that is killed while steps come, and readers that come late or are slow.

``LTW_FULL=1`` makes it a million steps and 50 kills rather than a hundred thousand and ten.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import random
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget import normalize
from live_telemetry_widget.client import MAX_MESSAGE, Backoff
from live_telemetry_widget.proto import trainer_pb2, trainer_pb2_grpc
from live_telemetry_widget.store import Store
from live_telemetry_widget.worker.publisher import Publisher
from live_telemetry_widget.worker.registration import Registration
from tests.integration.test_daemon import DaemonProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FULL = os.environ.get("LTW_FULL") == "1"
TOTAL = 1_000_000 if FULL else 100_000
KILLS = 50 if FULL else 10
LATE = 500_000 if FULL else 100_000
LIMIT = 3_000 if FULL else 110
PUT = 250
WARM = 60_000


@pytest.fixture(scope="module")
def make(request: pytest.FixtureRequest) -> Callable[[int], Any]:
    """Return what makes the n-th step: the sample's, told from one another by their place and reward."""
    events = request.getfixturevalue("sample_events")
    batch = normalize.steps_from_events([event for event in events if event["type"] == "step"], run_id="r").batch
    samples = list(normalize.step_messages(batch))

    def made(number: int) -> Any:
        message = trainer_pb2.RunStep()
        message.CopyFrom(samples[number % len(samples)])
        message.episode_index, message.step_index, message.reward = number // 100, number % 100, float(number)
        return message

    return made


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


class Follower:
    """A subscriber in a thread, which goes on where it was whenever the daemon comes back."""

    def __init__(self, address: str) -> None:
        self.seen: list[tuple[int, float]] = []
        self._address = address
        self._over = threading.Event()
        self._call: Any = None
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        while not self._over.is_set():
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", MAX_MESSAGE)]
            with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(self._address, options) as channel:
                since = self.seen[-1][0] if self.seen else 0
                request = trainer_pb2.StreamStepsRequest(run_id="r", since_seq=since)
                self._call = trainer_pb2_grpc.TrainerServiceStub(channel).StreamRunSteps(request)
                for message in self._call:
                    self.seen.append((message.seq_id, message.reward))
            self._over.wait(0.02)

    def close(self) -> None:
        """End it."""
        self._over.set()
        if self._call is not None:
            self._call.cancel()
        self._thread.join()


def stored(data_dir: pathlib.Path) -> Iterator[tuple[int, float]]:
    with Store.open(data_dir, read_only=True) as store:
        for batch in store.read("r", "steps"):
            yield from zip(batch.column("seq_id").to_pylist(), batch.column("reward").to_pylist(), strict=True)


@pytest.mark.timeout(LIMIT + 10)
async def test_a_daemon_killed_at_random_moments_has_every_acknowledged_step_once_in_order(
    tmp_path: pathlib.Path, make: Callable[[int], Any]
) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - moments, not secrets
    print(f"seed {seed}")  # noqa: T201 - for who looks into a failure
    chance = random.Random(seed)  # noqa: S311 - as above
    daemon = DaemonProcess(tmp_path)
    address = daemon.address
    registration = Registration(address, "r", "w", {"run_name": "x"})
    follower = None
    acknowledged = 0
    try:
        await registration.open()
        follower = Follower(address)
        publisher = Publisher(
            "steps", registration.publish_steps, registration.open, backoff=Backoff(first=0.01, most=0.1)
        )

        async def feed() -> None:
            for first in range(0, TOTAL, PUT):
                await publisher.put([make(number) for number in range(first, first + PUT)])
            await publisher.close()

        feeding = asyncio.create_task(feed())
        for kill in range(KILLS):
            # Spread over the run; at a moment that nothing is in step with.
            goal = TOTAL * kill // (KILLS + 1)
            while publisher.confirmed < goal and not feeding.done():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)
            await asyncio.sleep(chance.random() * 0.3)
            daemon.process.kill()
            daemon.process.wait()
            acknowledged = publisher.confirmed
            await asyncio.to_thread(daemon.end)
            daemon = await asyncio.to_thread(DaemonProcess, tmp_path, listen=address)
            assert daemon.describe().last_step_seq >= acknowledged
        await feeding
        assert (publisher.confirmed, publisher.lost) == (TOTAL, 0)
        seen = follower.seen
        await asyncio.to_thread(wait_until, lambda: len(seen) >= TOTAL)
    finally:
        if follower is not None:
            follower.close()
        await registration.close()
        daemon.end()
    expected = [(number + 1, float(number)) for number in range(TOTAL)]
    assert list(stored(tmp_path)) == expected
    # Nothing was streamed that is not in the log, whatever the daemon knew when it died; and nothing twice.
    assert follower.seen == expected
    assert "was not closed by its last writer" in daemon.errors.read_text()


def fill(data_dir: pathlib.Path, make: Callable[[int], Any], count: int) -> None:
    """Write steps into a directory that no daemon uses yet."""
    with ltw.serve(data_dir) as server, grpc.insecure_channel(server.address) as channel:
        open_run(channel)
        publish(channel, make, 0, count)


def open_run(channel: grpc.Channel) -> None:
    from live_telemetry_widget.proto import telemetry_pb2, telemetry_pb2_grpc  # noqa: PLC0415 - here alone

    telemetry_pb2_grpc.TelemetryServiceStub(channel).OpenRun(telemetry_pb2.OpenRunRequest(run_id="r"))


def publish(channel: grpc.Channel, make: Callable[[int], Any], first: int, count: int) -> None:
    stub = trainer_pb2_grpc.TrainerServiceStub(channel)
    answer = stub.PublishRunSteps((make(number) for number in range(first, first + count)), timeout=LIMIT)
    assert answer.accepted == count


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    fields = pathlib.Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_one_who_comes_late_gets_all_and_one_who_is_slow_costs_no_memory(
    tmp_path: pathlib.Path, make: Callable[[int], Any]
) -> None:
    fill(tmp_path, make, LATE)
    with ltw.serve(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        request = trainer_pb2.StreamStepsRequest(run_id="r")

        def read(count: int, pause: float = 0.0) -> list[int]:
            stream, found = stub.StreamRunSteps(request, timeout=LIMIT), []
            for message in stream:
                found.append(message.seq_id)
                if len(found) == count:
                    break
                if pause:
                    time.sleep(pause)
            stream.cancel()
            return found

        assert read(LATE) == list(range(1, LATE + 1))
        # Publishing alone fills what the daemon may hold anyway: the recent rows, the pools of its allocators.
        at = LATE
        while at < LATE + WARM:
            publish(channel, make, at, 2_000)
            at += 2_000
        before = resident(server.pid)
        most = before
        slow = threading.Thread(target=read, args=(400, 0.01))
        slow.start()
        while slow.is_alive():
            # Nothing else happens meanwhile: what grows is what the slow one costs.
            most = max(most, resident(server.pid))
            slow.join(0.02)
    grown = most - before
    print(f"{grown / 2**20:.1f} MiB grown from {before / 2**20:.0f} MiB, {at} steps behind")  # noqa: T201
    # A chunk in its hands, and noise; its backlog is many times that.
    assert grown < 64 * 2**20


_READER = """
    import sys
    import live_telemetry_widget as ltw
    total, seen = int(sys.argv[2]), -1
    while seen < total:
        with ltw.open(sys.argv[1]) as recording:
            run = recording.run("r")
            steps = run.steps
            assert len(steps) >= max(seen, 0), (len(steps), seen)
            assert steps["reward"].tolist() == [float(n) for n in range(len(steps))]
            assert run.problems.empty, run.problems
            if seen < 0:
                print("open", flush=True)
            seen = len(steps)
    print(seen)
"""


def test_two_processes_open_the_recording_while_a_daemon_writes_it(
    tmp_path: pathlib.Path, make: Callable[[int], Any]
) -> None:
    total = 10_000
    with ltw.serve(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        open_run(channel)
        command = [sys.executable, "-c", textwrap.dedent(_READER), str(tmp_path), str(total)]
        readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        try:
            for reader in readers:
                assert reader.stdout is not None
                assert reader.stdout.readline() == "open\n"
            for first in range(0, total, 100):
                publish(channel, make, first, 100)
            for reader in readers:
                said, _ = reader.communicate(timeout=LIMIT)
                assert (reader.returncode, said) == (0, f"{total}\n")
        finally:
            for reader in readers:
                reader.kill()
                reader.communicate()
