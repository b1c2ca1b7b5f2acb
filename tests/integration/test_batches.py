"""The batched wire: real daemons, both ends of it, mixed with the per-step wire, killed, cut off, and fed with what is none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pyarrow as pa
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget import batches, normalize
from live_telemetry_widget.client import Backoff, Traffic, TrainerClient
from live_telemetry_widget.proto import telemetry_pb2, trainer_pb2
from live_telemetry_widget.store import Store
from live_telemetry_widget.worker.batches import BatchPublisher
from live_telemetry_widget.worker.registration import Registration
from tests.conftest import wait_for
from tests.support.cutter import Cutter
from tests.support.unruly import UnrulyDaemon

if TYPE_CHECKING:
    import pathlib
    from collections.abc import AsyncIterator

LIMIT = 90
Code = grpc.StatusCode


def rows(first: int, count: int, **more: Any) -> pa.RecordBatch:
    events = [
        {
            "episode": n // 50,
            "step_index": n % 50,
            "agent_id": "a",
            "action": n % 4,
            "reward": float(n),
            "epsilon": 1 / (n + 1),
            **more,
        }
        for n in range(first, first + count)
    ]
    return normalize.steps_from_events(events, run_id="r").batch


def episodes(first: int, count: int) -> pa.RecordBatch:
    events = [
        {"episode": n, "agent_id": "a", "reward": float(sum(range(n * 50, n * 50 + 50))), "steps": 50}
        for n in range(first, first + count)
    ]
    return normalize.episodes_from_events(events, run_id="r").batch


def stored(data_dir: pathlib.Path) -> list[float]:
    with Store.open(data_dir, read_only=True) as store:
        return [reward for batch in store.read("r", "steps") for reward in batch.column("reward").to_pylist()]


@contextlib.asynccontextmanager
async def registered(address: str, run_id: str = "r") -> AsyncIterator[Registration]:
    registration = Registration(address, run_id, "", {"run_name": "x"})
    try:
        await registration.open()
        yield registration
    finally:
        await registration.close()


async def test_rows_in_batches_are_read_as_steps_and_the_other_way_round(daemon: ltw.Server) -> None:
    async with registered(daemon.address) as registration, asyncio.timeout(LIMIT):
        publisher = BatchPublisher(registration)
        for first in range(0, 1_000, 100):
            await publisher.put("steps", rows(first, 100))
            await publisher.put("episodes", episodes(first // 50, 2))
        await publisher.close()
        assert (publisher.wire, publisher.tally("steps").confirmed, publisher.tally("episodes").confirmed) == (
            "batches",
            1_000,
            20,
        )
        assert publisher.granted > 0
        # The same run, by another's publisher.
        await registration.publish_steps(_each(normalize.step_messages(rows(1_000, 200))))
        messages = registration.trainer.StreamRunSteps(trainer_pb2.StreamStepsRequest(run_id="r"))
        singles = [message.reward async for message in _most(messages, 1_200)]
        messages.cancel()
        assert singles == [float(n) for n in range(1_200)]
        await registration.finish(telemetry_pb2.OUTCOME_COMPLETED, "")
    with ltw.connect(daemon.address) as client:
        run = client.run("r")
        await asyncio.to_thread(run.wait, 60)
        assert run.feed.traffic["steps"].wire == "batches"
        assert run.steps["reward"].tolist() == [float(n) for n in range(1_200)]
        assert run.steps["epsilon"].dtype == np.float64
        assert run.steps["seq_id"].tolist() == list(range(1, 1_201))
        assert run.episodes["complete"].all()
        assert run.problems.empty


async def _each(messages: list[Any]) -> Any:
    for message in messages:
        yield message


async def _most(stream: Any, count: int) -> Any:
    async for message in stream:
        yield message
        count -= 1
        if not count:
            return


async def test_a_reader_is_sent_what_it_granted_and_not_a_row_more(daemon: ltw.Server) -> None:
    async with registered(daemon.address) as registration, asyncio.timeout(LIMIT):
        publisher = BatchPublisher(registration)
        await publisher.put("steps", rows(0, 500))
        await publisher.close()
        call = registration._telemetry.StreamBatches()
        begin = {"run_id": "r", "kind": telemetry_pb2.ROW_KIND_STEPS, "since_seq": 100}
        await call.write(telemetry_pb2.BatchCredit(rows=30, **begin))
        reading = asyncio.create_task(call.read())
        got = await reading
        assert (got.first_seq, got.last_seq) == (101, 130)
        more = asyncio.create_task(call.read())
        # Nothing comes: another call on the same connection goes there and back meanwhile.
        for _ in range(20):
            await registration.trainer.GetHealth(trainer_pb2.HealthCheckRequest())
        assert not more.done()
        await call.write(telemetry_pb2.BatchCredit(rows=7))
        got = await more
        assert (got.first_seq, got.last_seq) == (131, 137)
        assert batches.decode(got.data, "steps", "r").batch.column("reward").to_pylist() == [
            float(n) for n in range(130, 137)
        ]
        call.cancel()


@pytest.mark.timeout(180)
async def test_a_packed_batch_is_sent_on_as_it_came_and_numbered_for_all_who_read(daemon: ltw.Server) -> None:
    packed = batches.encode(rows(0, 5_000), "lz4")
    async with registered(daemon.address, "other") as registration, asyncio.timeout(LIMIT):
        publisher = BatchPublisher(registration)
        await publisher.put("steps", rows(0, 10))
        await publisher.put_packed("steps", 5_000, packed)
        await publisher.close()
        call = registration._telemetry.StreamBatches()
        lz4 = telemetry_pb2.COMPRESSION_LZ4
        begin = {"run_id": "other", "kind": telemetry_pb2.ROW_KIND_STEPS, "since_seq": 10, "compression": lz4}
        await call.write(telemetry_pb2.BatchCredit(rows=6_000, **begin))
        got = await call.read()
        assert (got.first_seq, got.last_seq, got.data) == (11, 5_010, packed)
        call.cancel()
        # One who reads from the middle, and one who reads one by one.
        call = registration._telemetry.StreamBatches()
        await call.write(telemetry_pb2.BatchCredit(rows=6_000, **begin | {"since_seq": 5_000}))
        got = await call.read()
        part = batches.decode(got.data, "steps", "other").batch
        assert (got.first_seq, got.last_seq) == (5_001, 5_010)
        assert part.column("reward").to_pylist() == [float(n) for n in range(4_990, 5_000)]
        call.cancel()
        request = trainer_pb2.StreamStepsRequest(run_id="other", since_seq=9)
        messages = registration.trainer.StreamRunSteps(request)
        singles = [(message.run_id, message.seq_id) async for message in _most(messages, 5_001)]
        messages.cancel()
        assert singles == [("other", n) for n in range(10, 5_011)]
    with ltw.connect(daemon.address) as client:
        run = client.run("other")
        # The ten were sent twice, under other numbers of their publisher: copies.
        await asyncio.to_thread(run.feed.wait_until, lambda: run.feed.step_seq == 5_010, LIMIT)
        assert run.feed.frames.step_count == 5_000
        assert run.feed.frames.duplicates == 10


async def test_every_acknowledged_row_survives_killed_daemons_once_and_in_order(tmp_path: pathlib.Path) -> None:
    total = 60_000
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ltw.serve(tmp_path / "data"))
        async with registered(server.address) as registration, asyncio.timeout(150):
            publisher = BatchPublisher(registration, backoff=Backoff(first=0.02, most=0.2))
            blows = [10_000, 25_000, 40_000, 52_000]
            for first in range(0, total, 250):
                await publisher.put("steps", rows(first, 250))
                await asyncio.sleep(0)
                if first not in blows:
                    continue
                while publisher.settled("steps") < first - 2_000:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.001)
                acknowledged = publisher.settled("steps")
                os.kill(server.pid, signal.SIGKILL)
                await asyncio.to_thread(wait_for, lambda server=server: not server.running, "the daemon to be dead")
                assert stored(tmp_path / "data")[:acknowledged] == [float(n) for n in range(acknowledged)]
                server = stack.enter_context(ltw.serve(tmp_path / "data", listen=server.address))
            await publisher.close()
            assert (publisher.tally("steps").confirmed, publisher.lost) == (total, 0)
        assert stored(tmp_path / "data") == [float(n) for n in range(total)]


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_daemon_without_batches_gets_steps_one_by_one(generation: int) -> None:
    async with UnrulyDaemon(generation) as others, asyncio.timeout(LIMIT):
        its = others.add_run("r")
        async with registered(others.address) as registration:
            publisher = BatchPublisher(registration, producer="p")
            for first in range(0, 3_000, 100):
                await publisher.put("steps", rows(first, 100))
                await publisher.put("episodes", episodes(first // 50, 2))
            await publisher.close()
            assert publisher.wire == "messages"
            assert (publisher.tally("steps").confirmed, publisher.lost) == (3_000, 0)
        assert [step.reward for step in its.steps] == [float(n) for n in range(3_000)]
        assert len(its.records) == 60


async def test_an_older_daemon_of_ours_gets_steps_one_by_one_with_the_same_numbers(daemon: ltw.Server) -> None:
    """It has the service and not the call; what was put before that was found out comes first, and once."""
    async with registered(daemon.address) as registration, asyncio.timeout(LIMIT):
        first = BatchPublisher(registration, producer="p")
        await first.put("steps", rows(0, 100))
        await first.close()
        registration.publish_batches = registration._channel.stream_stream(  # type: ignore[method-assign]
            "/live_telemetry.v1.TelemetryService/NoSuchCall",
            request_serializer=telemetry_pb2.PublishBatch.SerializeToString,
            response_deserializer=telemetry_pb2.PublishAck.FromString,
        )
        again = BatchPublisher(registration, producer="p", first={"steps": 50})
        for begin in range(50, 1_050, 100):
            await again.put("steps", rows(begin, 100))
        await again.close()
        assert (again.wire, again.tally("steps").confirmed) == ("messages", 1_000)
    assert stored(daemon.data_dir) == [float(n) for n in range(1_050)]


async def test_what_is_no_batch_is_refused_in_words_and_costs_nothing_else(daemon: ltw.Server) -> None:
    async with registered(daemon.address) as registration, asyncio.timeout(LIMIT):
        publisher = BatchPublisher(registration, backoff=Backoff(first=0.001, most=0.01))
        await publisher.put("steps", rows(0, 10))
        nonsense = pa.RecordBatch.from_pydict({"episode": ["no number"], "step_index": [0]})
        for bad in (nonsense, pa.RecordBatch.from_pydict({"x": [1, 2]})):
            await publisher.put("steps", bad)
        await publisher.put("steps", rows(10, 10))
        await publisher.close()
        assert publisher.tally("steps").confirmed == 20
        assert publisher.lost == 3
        assert "need a column" in publisher.failure
        call = registration.publish_batches()
        head = {"run_id": "r", "producer": "p", "kind": telemetry_pb2.ROW_KIND_STEPS}
        await call.write(telemetry_pb2.PublishBatch(data=b"\xff" * 100, **head))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in call:
                pass
        assert refused.value.code() == Code.INVALID_ARGUMENT
        assert "not an Arrow stream of steps" in (refused.value.details() or "")
        for wrong, code in (
            ({"run_id": "none"}, Code.NOT_FOUND),
            ({"producer": ""}, Code.INVALID_ARGUMENT),
            ({"kind": 0}, Code.INVALID_ARGUMENT),
        ):
            call = registration.publish_batches()
            await call.write(telemetry_pb2.PublishBatch(**{**head, **wrong, "data": batches.encode(rows(0, 1))}))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in call:
                    pass
            assert refused.value.code() == code
    assert stored(daemon.data_dir) == [float(n) for n in range(20)]


def settled(publisher: BatchPublisher) -> int:
    """Return how far a publisher says that its steps are settled, which must not be further than what became of them."""
    tally = publisher.tally("steps")
    assert publisher.settled("steps") == tally.confirmed + tally.lost
    return publisher.settled("steps")


async def test_what_is_refused_or_times_out_on_its_way_costs_none_of_what_is_behind_it(daemon: ltw.Server) -> None:
    """Several batches are on their way: one is none, the connection falls silent with answers in it, and is cut."""
    with contextlib.closing(Cutter(daemon.address)) as cutter:
        async with registered(cutter.address) as registration, asyncio.timeout(LIMIT):
            publisher = BatchPublisher(registration, backoff=Backoff(first=0.02, most=0.1))
            for turn in range(4):
                begin = turn * 1_010
                await publisher.put("steps", rows(begin, 250))
                await publisher.put("steps", rows(begin + 250, 250))
                await publisher.put_packed("steps", 10, _nonsense())
                await publisher.put("steps", rows(begin + 510, 500))
                await publisher.put("episodes", episodes(turn * 10, 10))
                if turn == 1:
                    cutter.blackhole()
                    await asyncio.sleep(0.05)  # what is written meanwhile, or not, is all the same
                    cutter.cut()
                    cutter.restore()
            await publisher.close()
            assert settled(publisher) == 4_040
            assert (publisher.tally("steps").confirmed, publisher.tally("steps").lost) == (4_000, 40)
            assert (publisher.tally("episodes").confirmed, publisher.tally("episodes").lost) == (40, 0)
            assert "need a column" in publisher.failure
    kept = [float(n) for n in range(4_040) if not 500 <= n % 1_010 < 510]
    assert stored(daemon.data_dir) == kept
    with ltw.connect(daemon.address) as client:
        run = client.run("r")
        await asyncio.to_thread(wait_for, lambda: len(run.steps) == 4_000, "all that is none")
        assert run.steps["reward"].tolist() == kept
        # They have numbers all the same, so who reads the run sees how many are missing.
        wait = "the gaps are counted"
        await asyncio.to_thread(
            wait_for, lambda: run.problems.groupby("kind")["count"].sum().to_dict() == {"gap": 40}, wait
        )


def _nonsense() -> bytes:
    return batches.encode(pa.RecordBatch.from_pydict({"x": list(range(10))}))


async def test_what_no_message_can_hold_is_not_settled_before_what_came_before_it(
    daemon: ltw.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who keeps rows until they are settled would forget those before it, which nobody has yet."""
    monkeypatch.setattr("live_telemetry_widget.worker.batches.MAX_MESSAGE", 100_000)
    noise = os.urandom(150_000).hex()
    async with registered(daemon.address) as registration, asyncio.timeout(LIMIT):
        publisher = BatchPublisher(registration)
        await publisher.put("steps", rows(0, 1, note=noise))
        await publisher.put("steps", rows(1, 100))
        await publisher.put("steps", rows(101, 1, note=noise))
        await publisher.put("steps", rows(102, 1, note=noise))
        await publisher.put("steps", rows(103, 100))
        await publisher.put("steps", rows(203, 1, note=noise))
        # Nothing was sent yet.
        assert settled(publisher) == 0
        seen = {settled(publisher)}
        closing = asyncio.create_task(publisher.close())
        while not closing.done():
            seen.add(settled(publisher))
            await asyncio.sleep(0)
        seen.add(settled(publisher))
        assert seen <= {0, 1, 101, 103, 203, 204}
        assert (publisher.tally("steps").confirmed, publisher.tally("steps").lost) == (200, 4)
        assert "over the wire's limit" in publisher.failure
    assert stored(daemon.data_dir) == [float(n) for n in range(203) if n not in {0, 101, 102}]


async def test_rows_without_a_place_are_left_out_and_counted(daemon: ltw.Server) -> None:
    good = rows(0, 5)
    at = good.schema.get_field_index("step_index")
    bad = good.set_column(at, pa.field("step_index", pa.int64()), pa.array([0, -1, 2, None, 4], pa.int64()))
    async with registered(daemon.address) as registration, asyncio.timeout(LIMIT):
        publisher = BatchPublisher(registration)
        await publisher.put("steps", bad)
        await publisher.put("steps", rows(5, 5))
        await publisher.close()
        tally = publisher.tally("steps")
        assert (tally.confirmed, tally.dropped, tally.lost) == (10, 2, 0)
    assert stored(daemon.data_dir) == [0.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]


async def test_a_stream_of_batches_ends_with_the_daemon_and_goes_on_with_the_next(tmp_path: pathlib.Path) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ltw.serve(tmp_path / "data"))
        hub = stack.enter_context(ltw.TelemetryAsyncHub(server.address, backoff=Backoff(first=0.05, most=0.2)))
        feed = hub.subscribe_run("r")
        async with registered(server.address) as registration, asyncio.timeout(LIMIT):
            publisher = BatchPublisher(registration, backoff=Backoff(first=0.02, most=0.2))
            await publisher.put("steps", rows(0, 1_000))
            await asyncio.to_thread(wait_for, lambda: feed.frames.step_count == 1_000, "the first thousand")
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.to_thread(wait_for, lambda: not server.running, "the daemon to be dead")
            server = stack.enter_context(ltw.serve(tmp_path / "data", listen=server.address))
            await publisher.put("steps", rows(1_000, 1_000))
            await publisher.close()
        await asyncio.to_thread(wait_for, lambda: feed.frames.step_count == 2_000, "the second thousand")
        stats = ltw.Run(feed).stats
        assert stats.duplicates == 0
        assert stats.reconnects >= 1
        assert stats.wire == "batches"
        assert stats.granted >= stats.credit > 0


async def test_a_client_asks_again_without_batches_when_there_are_none(
    daemon: ltw.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with registered(daemon.address) as registration, asyncio.timeout(LIMIT):
        await registration.publish_steps(_each(normalize.step_messages(rows(0, 20))))
        async with TrainerClient(daemon.address) as client:
            monkeypatch.setattr(
                client._telemetry,
                "StreamBatches",
                registration._channel.stream_stream(
                    "/live_telemetry.v1.TelemetryService/NoSuchCall",
                    request_serializer=telemetry_pb2.BatchCredit.SerializeToString,
                    response_deserializer=telemetry_pb2.TelemetryBatch.FromString,
                ),
            )
            traffic = Traffic()
            found: list[float] = []
            async with contextlib.aclosing(client.stream_rows("steps", "r", 5, traffic)) as lists:
                async for raws in lists:
                    found += [trainer_pb2.RunStep.FromString(raw).reward for raw in raws if isinstance(raw, bytes)]
                    if len(found) >= 15:
                        break
        assert traffic.wire == "messages"
        assert found == [float(n) for n in range(5, 20)]
