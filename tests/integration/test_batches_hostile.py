"""Publishers of batches that mean no good, or do not listen: the daemon refuses them or holds them, and serves the next one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
import pyarrow as pa
import pytest

from live_telemetry_widget import batches
from live_telemetry_widget.daemon import streams
from live_telemetry_widget.daemon.log import DurableLog
from live_telemetry_widget.daemon.publish import Intake
from live_telemetry_widget.daemon.refusal import RefusalError
from live_telemetry_widget.daemon.runs import Registry
from live_telemetry_widget.daemon.tokens import Tokens
from live_telemetry_widget.proto import telemetry_pb2 as ours
from live_telemetry_widget.store import Store
from tests.integration.test_daemon import DaemonProcess

if TYPE_CHECKING:
    import pathlib
    from collections.abc import AsyncIterator

STEPS = ours.ROW_KIND_STEPS
LIMIT = 60


def message(first: int, count: int) -> bytes:
    """Return some steps, with labels of which each batch has a dictionary."""
    numbers = list(range(first, first + count))
    labels = pa.array([f"agent {n % 3}" for n in numbers]).dictionary_encode()
    return batches.encode(pa.RecordBatch.from_pydict({"episode": numbers, "step_index": numbers, "agent_id": labels}))


def lie(data: bytes, at: int) -> bytes:
    """Return a message with a number that is far too large at a place; where it is a dictionary's length, asking for its size was a segmentation fault."""
    return data[:at] + (2**56 + 1).to_bytes(8, "little") + data[at + 8 :]


def refused(data: bytes) -> bool:
    try:
        batches.decode(data, "steps", "r")
    except batches.BadBatchError:
        return True
    return False


def test_bytes_that_lie_are_refused_with_a_reason_and_the_next_publisher_is_served(tmp_path: pathlib.Path) -> None:
    sound = message(0, 20)
    lies = [data for at in range(0, len(sound) - 8, 8) if refused(data := lie(sound, at))]
    assert len(lies) > 20
    process = DaemonProcess(tmp_path / "data")
    try:
        process.open_run()
        for number, data in enumerate([b"", b"no arrow", sound[:200], *lies]):
            request = ours.PublishBatch(run_id="r", producer=f"stranger {number}", kind=STEPS, data=data)
            with pytest.raises(grpc.RpcError) as caught:
                list(process.telemetry.PublishBatches(iter([request]), timeout=LIMIT))
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, caught.value
            assert caught.value.details()
        good = ours.PublishBatch(run_id="r", producer="p", kind=STEPS, data=sound)
        *_, answer = process.telemetry.PublishBatches(iter([good]), timeout=LIMIT)
        assert (answer.committed, answer.dropped) == (20, 0)
        assert process.process.poll() is None
        assert process.describe().total_steps == 20
    finally:
        process.end()


async def test_who_does_not_read_the_answers_is_not_read_either(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_MOST_UNANSWERED", 8)
    log = DurableLog(Store.open(tmp_path))
    try:
        runs = Registry(log, [], tokens=Tokens.of_directory(tmp_path))
        await runs.open("r", "")
        asked = 0
        held = asyncio.Event()

        async def requests() -> AsyncIterator[ours.PublishBatch]:
            nonlocal asked
            for asked in range(100):
                if asked == 8:  # to be taken when there is room
                    held.set()
                yield ours.PublishBatch(run_id="r", producer="p", kind=STEPS, first=asked, data=message(asked, 1))

        async with contextlib.aclosing(streams.publish(Intake(log, runs, strict=False), requests(), "")) as answers:
            assert (await anext(answers)).granted_rows == streams.GRANT
            first = asyncio.ensure_future(anext(answers))
            await asyncio.wait_for(held.wait(), LIMIT)
            assert (await first).committed == 1
            # Everything that was taken is committed, and a loop that had nothing else to do has taken no more.
            while log.last_seq("r", "steps") < 8:  # noqa: ASYNC110 - the log tells its readers, not us
                await asyncio.sleep(0.002)
            for _ in range(1_000):
                await asyncio.sleep(0)
            assert (asked, log.last_seq("r", "steps")) == (8, 8)
            rest = [answer.committed async for answer in answers]
            assert rest == list(range(2, 101))
    finally:
        await log.close()


async def test_what_is_refused_is_counted(tmp_path: pathlib.Path) -> None:
    log = DurableLog(Store.open(tmp_path))
    try:
        runs = Registry(log, [], tokens=Tokens.of_directory(tmp_path))
        await runs.open("r", "")
        intake = Intake(log, runs, strict=False)
        for number in range(3):
            stream = intake.begin_batches("steps", "r", "", f"stranger {number}")
            with pytest.raises(RefusalError, match="not an Arrow stream"):
                stream.take_rows(0, b"no arrow")
            stream.end()
        assert intake.problems == {"r": {"bad_batch": 3}}
    finally:
        await log.close()
