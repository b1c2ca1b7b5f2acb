"""What a proxy sends again because an answer was lost is in the log once, in order; at our daemon, with our proxy."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.client import Backoff
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.store import Store
from live_telemetry_widget.worker import publisher as module
from live_telemetry_widget.worker.publisher import Publisher
from live_telemetry_widget.worker.registration import Registration
from tests.support.cutter import Cutter

if TYPE_CHECKING:
    import pathlib
    from collections.abc import AsyncIterator

LIMIT = 60


def step(number: int) -> Any:
    fields = {"episode_index": number // 100, "step_index": number % 100, "reward": float(number)}
    return trainer_pb2.RunStep(run_id="r", action_json="1", **fields)


def stored(data_dir: pathlib.Path) -> list[float]:
    """Return the rewards in the log, in its order."""
    with Store.open(data_dir, read_only=True) as store:
        return [reward for batch in store.read("r", "steps") for reward in batch.column("reward").to_pylist()]


@contextlib.asynccontextmanager
async def registered(address: str) -> AsyncIterator[Registration]:
    registration = Registration(address, "r", "w", {"run_name": "x"})
    try:
        await registration.open()
        yield registration
    finally:
        await registration.close()


def lost() -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="the answer was lost"
    )


async def test_a_lost_answer_stores_nothing_twice(daemon: ltw.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROTATE_MESSAGES", 100)
    calls = 0

    async def every_second_answer(messages: Any, numbers: Any) -> Any:
        nonlocal calls
        calls += 1
        lose = calls % 2
        answer = await registration.publish_steps(messages, numbers)
        if lose:
            raise lost()
        return answer

    async with registered(daemon.address) as registration, asyncio.timeout(LIMIT):
        publisher = Publisher("steps", every_second_answer, registration.open, backoff=Backoff(first=0.001, most=0.002))
        for number in range(1_000):
            await publisher.put([step(number)])
        await publisher.close()
        assert (publisher.confirmed, publisher.lost) == (1_000, 0)
        # Another's proxy says nothing of numbers, and may well send the same step twice.
        for _ in range(2):
            answer = await registration.publish_steps(_all([step(1_000)]))
            assert answer.accepted == 1
    assert calls >= 20
    assert stored(daemon.data_dir) == [float(n) for n in [*range(1_000), 1_000, 1_000]]


async def _all(messages: Any) -> Any:
    for message in messages:
        yield message


async def test_connections_that_are_cut_while_publishing_cost_and_double_nothing(daemon: ltw.Server) -> None:
    total = 20_000
    with Cutter(daemon.address) as cutter:
        async with registered(cutter.address) as registration, asyncio.timeout(LIMIT):
            publisher = Publisher(
                "steps", registration.publish_steps, registration.open, backoff=Backoff(first=0.001, most=0.01)
            )
            for first in range(0, total, 100):
                await publisher.put([step(number) for number in range(first, first + 100)])
                if first % 1_000 == 500:
                    accepted = cutter.accepted
                    cutter.cut(reset=first % 2_000 == 500)
                    # Each cut is of a connection that carries steps. (One whose answer was under way already needs no other.)
                    while cutter.accepted == accepted and publisher.confirmed < first + 100:  # noqa: ASYNC110 - the cutter knows no events
                        await asyncio.sleep(0.001)
            await publisher.close()
        assert (publisher.confirmed, publisher.lost) == (total, 0)
        assert cutter.cuts >= 10
    assert stored(daemon.data_dir) == [float(n) for n in range(total)]


async def test_a_stream_that_hangs_is_taken_over_by_the_next(daemon: ltw.Server) -> None:
    """The daemon has not heard of the end of the first stream when the second comes with the same steps."""
    numbers = (("x-ltw-producer", "p"), ("x-ltw-first", "0"))
    hold = asyncio.Event()

    async def some() -> Any:
        for number in range(10):
            yield step(number)
        await hold.wait()
        yield step(10)

    async with registered(daemon.address) as first, registered(daemon.address) as second, asyncio.timeout(LIMIT):
        hanging = asyncio.ensure_future(first.publish_steps(some(), numbers))
        while not stored(daemon.data_dir):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
        answer = await second.publish_steps(_all([step(number) for number in range(15)]), numbers)
        assert (answer.accepted, answer.dropped) == (15, 0)
        hold.set()
        with pytest.raises(grpc.aio.AioRpcError, match="another stream"):
            await hanging
        with pytest.raises(grpc.aio.AioRpcError, match="counted from 0"):
            await second.publish_steps(_all([step(0)]), (("x-ltw-producer", "p"), ("x-ltw-first", "-1")))
    assert stored(daemon.data_dir) == [float(n) for n in range(15)]


async def test_a_daemon_that_was_restarted_knows_what_it_has(tmp_path: pathlib.Path) -> None:
    with ltw.serve(tmp_path) as server:
        address = server.address
        async with registered(address) as registration:
            answer = await registration.publish_steps(
                _all([step(number) for number in range(10)]), (("x-ltw-producer", "p"), ("x-ltw-first", "0"))
            )
            assert answer.accepted == 10
    with ltw.serve(tmp_path, listen=address):
        async with registered(address) as registration:
            for first in (5, 12):  # sent again; then after two that were given up
                answer = await registration.publish_steps(
                    _all([step(number) for number in range(first, 15)]),
                    (("x-ltw-producer", "p"), ("x-ltw-first", str(first))),
                )
                assert answer.accepted == 15 - first
    assert stored(tmp_path) == [float(n) for n in range(15)]
