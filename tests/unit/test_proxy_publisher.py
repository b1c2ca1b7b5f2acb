"""The publisher against a real gRPC server in the same loop, which fails as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from live_telemetry_widget.client import Backoff
from live_telemetry_widget.proto import trainer_pb2, trainer_pb2_grpc
from live_telemetry_widget.worker import publisher as module
from live_telemetry_widget.worker.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

Code = grpc.StatusCode
LIMIT = 20


class Recorder(trainer_pb2_grpc.TrainerServiceServicer):
    """Keeps what is confirmed; `fault(stream, message)` may name a status to abort with, at each message."""

    def __init__(self, fault: Callable[[int, Any], Code | None] = lambda _stream, _message: None) -> None:
        self.kept: list[int] = []
        self.streams = 0
        self.fault = fault
        self.opened = True

    async def PublishRunSteps(self, messages: AsyncIterator[Any], context: Any) -> Any:  # noqa: N802
        """Take a stream, confirm it at its end."""
        self.streams += 1
        stream, taken = self.streams, []
        if not self.opened:
            await context.abort(Code.NOT_FOUND, "no such run")
        async for message in messages:
            code = self.fault(stream, message)
            if code is not None:
                await context.abort(code, "as told")
            taken.append(message.step_index)
        self.kept += taken
        return trainer_pb2.PublishTelemetryResponse(accepted=len(taken))

    async def reopen(self) -> None:
        """Know the run again."""
        self.opened = True


@contextlib.asynccontextmanager
async def serving(recorder: Recorder) -> AsyncIterator[Publisher]:
    server = grpc.aio.server()
    trainer_pb2_grpc.add_TrainerServiceServicer_to_server(recorder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        backoff = Backoff(first=0.001, most=0.002)

        def call(messages: Any, numbers: Any) -> Any:
            return stub.PublishRunSteps(messages, metadata=numbers)

        publisher = Publisher("steps", call, recorder.reopen, backoff=backoff)
        yield publisher
        publisher.abandon()
    await server.stop(0)


def step(index: int) -> trainer_pb2.RunStep:
    return trainer_pb2.RunStep(run_id="r", step_index=index)


async def finish(publisher: Publisher) -> tuple[int, int]:
    async with asyncio.timeout(LIMIT):
        await publisher.close()
    return publisher.confirmed, publisher.lost


async def test_all_is_confirmed_once_in_order_over_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROTATE_MESSAGES", 100)
    recorder = Recorder()
    async with serving(recorder) as publisher:
        for start in range(0, 1000, 7):
            await publisher.put([step(i) for i in range(start, min(start + 7, 1000))])
        assert await finish(publisher) == (1000, 0)
    assert recorder.kept == list(range(1000))
    assert recorder.streams >= 10


async def test_an_iterator_that_outlives_its_failed_call_does_not_eat_a_message() -> None:
    # When a call fails, gRPC goes on to wait for the next message from its iterator. So the next one is put only when a new
    # call has taken what the failed one had: now both iterators wait for it.
    taken = asyncio.Event()
    failed: set[int] = set()

    def fault(_: int, message: Any) -> Code | None:
        if message.step_index % 5 == 4 and message.step_index not in failed:
            failed.add(message.step_index)
            return Code.UNAVAILABLE
        if message.step_index == newest:
            taken.set()
        return None

    recorder = Recorder(fault)
    async with serving(recorder) as publisher:
        for newest in range(50):
            taken.clear()
            await publisher.put([step(newest)])
            async with asyncio.timeout(LIMIT):
                await taken.wait()
        assert await finish(publisher) == (50, 0)
    assert recorder.kept == list(range(50))


async def test_one_message_that_is_refused_costs_no_other() -> None:
    recorder = Recorder(lambda _, message: Code.INVALID_ARGUMENT if message.step_index in {37, 38, 500} else None)
    async with serving(recorder) as publisher:
        await publisher.put([step(i) for i in range(600)])
        assert await finish(publisher) == (597, 3)
        assert publisher.failure.startswith("INVALID_ARGUMENT")
    assert recorder.kept == [i for i in range(600) if i not in {37, 38, 500}]


async def test_a_daemon_that_refuses_everything_does_not_hold_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW", 10)
    recorder = Recorder(lambda _stream, _message: Code.UNKNOWN)
    async with serving(recorder) as publisher, asyncio.timeout(LIMIT):
        for index in range(100):
            await publisher.put([step(index)])
        assert await finish(publisher) == (0, 100)
    assert recorder.streams < 10


async def test_a_daemon_without_room_is_waited_for() -> None:
    recorder = Recorder(lambda stream, _: Code.RESOURCE_EXHAUSTED if stream < 12 else None)
    async with serving(recorder) as publisher:
        await publisher.put([step(i) for i in range(50)])
        assert await finish(publisher) == (50, 0)


async def test_a_daemon_that_forgot_the_run_is_told_of_it_again() -> None:
    recorder = Recorder()
    recorder.opened = False
    async with serving(recorder) as publisher:
        await publisher.put([step(i) for i in range(50)])
        assert await finish(publisher) == (50, 0)
    assert recorder.kept == list(range(50))


async def test_a_message_over_the_wires_limit_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MESSAGE", 1000)
    recorder = Recorder()
    async with serving(recorder) as publisher:
        large = trainer_pb2.RunStep(run_id="r", step_index=1, observation_json="x" * 1000)
        await publisher.put([step(0), large, step(2)])
        assert await finish(publisher) == (2, 1)
        assert "over the wire's limit" in publisher.failure
    assert recorder.kept == [0, 2]


async def _never(messages: AsyncIterator[Any], _: Any) -> Any:
    async for _ in messages:
        await asyncio.Event().wait()


async def _nothing() -> None:
    pass


async def _turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_is_unconfirmed_is_bounded_in_number_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW", 100)
    monkeypatch.setattr(module, "_WINDOW_BYTES", 5000)
    for message, fit in ((step(1), 100), (trainer_pb2.RunStep(run_id="r", observation_json="x" * 494), 10)):
        publisher = Publisher("steps", _never, _nothing)
        for _ in range(fit):
            async with asyncio.timeout(LIMIT):
                await publisher.put([message])
        waiting = asyncio.create_task(publisher.put([message]))
        await _turns()
        assert not waiting.done(), "there was room for more"
        publisher.abandon()
        async with asyncio.timeout(LIMIT):
            await waiting
        assert await finish(publisher) == (0, fit + 1)


async def test_an_episode_waits_until_the_steps_before_it_are_sent() -> None:
    order: list[str] = []
    gate = asyncio.Event()

    async def take_steps(messages: AsyncIterator[Any], _: Any) -> Any:
        await gate.wait()
        order.extend([f"step {message.step_index}" async for message in messages])
        return trainer_pb2.PublishTelemetryResponse()

    async def take_episodes(messages: AsyncIterator[Any], _: Any) -> Any:
        order.extend([f"episode {message.episode_index}" async for message in messages])
        return trainer_pb2.PublishTelemetryResponse()

    steps = Publisher("steps", take_steps, _nothing)
    episodes = Publisher("episodes", take_episodes, _nothing, leader=steps)
    await steps.put([step(0), step(1)])
    await episodes.put([trainer_pb2.RunEpisode(episode_index=0)])
    await steps.put([step(2)])
    await _turns()
    assert order == []
    gate.set()
    assert (await finish(steps), await finish(episodes)) == ((3, 0), (1, 0))
    assert order.index("episode 0") > order.index("step 1")


async def test_episodes_do_not_wait_for_steps_that_were_given_up() -> None:
    steps = Publisher("steps", _never, _nothing)
    recorded: list[int] = []

    async def take(messages: AsyncIterator[Any], _: Any) -> Any:
        recorded.extend([message.episode_index async for message in messages])
        return trainer_pb2.PublishTelemetryResponse()

    episodes = Publisher("episodes", take, _nothing, leader=steps)
    await steps.put([step(0), step(1)])
    await episodes.put([trainer_pb2.RunEpisode(episode_index=7)])
    steps.abandon()
    assert await finish(episodes) == (1, 0)
    assert recorded == [7]


async def test_a_fault_in_the_publisher_does_not_hold_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: AsyncIterator[Any], __: Any) -> Any:
        msg = "a fault"
        raise ZeroDivisionError(msg)

    publisher = Publisher("steps", broken, _nothing)
    await publisher.put([step(0)])
    assert await finish(publisher) == (0, 1)
    assert "a fault" in publisher.failure
    assert "publishing steps" in caplog.text
