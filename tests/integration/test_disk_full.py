"""A full disk: publishers are told, readers are served, and it goes on by itself when there is room."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import subprocess
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.client import Backoff
from live_telemetry_widget.daemon.server import Daemon
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.store import Store
from live_telemetry_widget.worker.publisher import Publisher
from live_telemetry_widget.worker.registration import Registration

if TYPE_CHECKING:
    import pathlib
    from collections.abc import AsyncIterator, Iterator

LIMIT = 60
Code = grpc.StatusCode


def step(number: int) -> Any:
    noise = random.Random(number).randbytes(500).hex()  # noqa: S311 - what does not compress
    return trainer_pb2.RunStep(run_id="r", step_index=number, reward=float(number), frame_ref=noise)


async def _all(messages: Any) -> Any:
    for message in messages:
        yield message


@contextlib.asynccontextmanager
async def registered(address: str) -> AsyncIterator[Registration]:
    registration = Registration(address, "r", "w", {"run_name": "x"})
    try:
        await registration.open()
        yield registration
    finally:
        await registration.close()


async def publish_until_full(registration: Registration) -> tuple[int, Any]:
    """Publish in short streams until one is refused; return how many steps were acknowledged, and the refusal."""
    sent = 0
    while True:
        try:
            answer = await registration.publish_steps(_all([step(n) for n in range(sent, sent + 100)]))
        except grpc.aio.AioRpcError as error:
            return sent, error
        assert answer.accepted == 100
        sent += 100
        assert sent < 1_000_000, "the disk is never full"


async def read(registration: Registration, since: int, count: int) -> list[float]:
    stream = registration.trainer.StreamRunSteps(trainer_pb2.StreamStepsRequest(run_id="r", since_seq=since))
    found = []
    async for message in stream:
        found.append(message.reward)
        if len(found) == count:
            break
    stream.cancel()
    return found


async def healthy(registration: Registration) -> bool:
    health = await registration.trainer.GetHealth(trainer_pb2.HealthCheckRequest())
    return bool(health.healthy)


async def check(address: str, data_dir: pathlib.Path, make_room: Any) -> None:
    """Fill it, read it, make room, and go on."""
    async with registered(address) as registration, asyncio.timeout(LIMIT):
        publisher = Publisher(
            "steps", registration.publish_steps, registration.open, backoff=Backoff(first=0.01, most=0.05)
        )
        sent, refusal = await publish_until_full(registration)
        assert refusal.code() == Code.RESOURCE_EXHAUSTED
        assert "could not be committed" in refusal.details()
        assert not await healthy(registration)
        # All that was acknowledged is there, in memory and in the file, and perhaps some that was not.
        assert await read(registration, 0, sent) == [float(n) for n in range(sent)]
        # Our own publisher waits.
        more = [step(n) for n in range(1_000_000, 1_000_500)]
        await publisher.put(more)
        while "RESOURCE_EXHAUSTED" not in publisher.failure:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        assert publisher.confirmed < len(more)
        make_room()
        await publisher.close()
        assert (publisher.confirmed, publisher.lost) == (500, 0)
        assert await healthy(registration)
    with Store.open(data_dir, read_only=True) as store:
        kept = [reward for batch in store.read("r", "steps") for reward in batch.column("reward").to_pylist()]
    assert kept[:sent] == [float(n) for n in range(sent)]
    assert kept[-500:] == [message.reward for message in more]
    # Between them at most the refused stream, which was never acknowledged, as far as it got.
    between = kept[sent:-500]
    assert between == [float(n) for n in range(sent, sent + len(between))]


async def test_a_limit_on_pages(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """What SQLite says at a full disk, without one."""
    caplog.set_level(logging.INFO)
    daemon = await Daemon.start(tmp_path, "127.0.0.1:0")
    try:
        writer = daemon._parts.log.store._database._writer
        assert writer is not None
        writer.execute("PRAGMA max_page_count = 400")
        await check(daemon.address, tmp_path, lambda: writer.execute("PRAGMA max_page_count = 1000000"))
    finally:
        await daemon.stop()
    said = [record.message for record in caplog.records if record.name.endswith("daemon.log")]
    # Each once, however many publishers tried.
    assert [text.split(",")[0] for text in said if "merged" not in text] == ["commits fail", "commits work again"]


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Return a file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - as mount


async def test_a_file_system_that_is_full(small_disk: pathlib.Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4 * 2**20))
    with ltw.serve(small_disk / "data") as server:
        await check(server.address, server.data_dir, ballast.unlink)
    # What is left is a sound recording.
    with ltw.open(small_disk / "data") as recording:
        assert recording.run("r").steps["reward"].iloc[0] == 0.0
