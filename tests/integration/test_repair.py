"""Steps that a daemon dropped and could still replay are asked for, wherever in an episode they are missing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from live_telemetry_widget.client import Backoff
from live_telemetry_widget.hub import TelemetryAsyncHub
from live_telemetry_widget.proto import trainer_pb2 as wire
from tests.support.unruly import Subscriber, Traits, UnrulyDaemon, UnrulyRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

    from live_telemetry_widget.feed import RunFeed

LENGTH = 8


async def _until(condition: Callable[[], object], limit: float = 60) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.01)


def _publish(run: UnrulyRun, episode: int) -> None:
    for index in range(LENGTH):
        run.publish(wire.RunStep(run_id=run.run_id, agent_id="a", episode_index=episode, step_index=index))
    run.publish_record(wire.RunEpisode(run_id=run.run_id, agent_id="a", episode_index=episode, steps=LENGTH))


@contextlib.asynccontextmanager
async def _followed(**traits: int) -> AsyncIterator[tuple[UnrulyDaemon, UnrulyRun, RunFeed]]:
    """Yield a daemon, a run of its that goes on, and what is here of it; its streams are open."""
    async with UnrulyDaemon() as daemon:
        run = daemon.add_run("r", Traits(generation=2, **traits))
        hub = TelemetryAsyncHub(daemon.address, backoff=Backoff(first=0.01, most=0.05))
        try:
            feed = hub.subscribe_run("r")
            run.set_status("running")
            await _until(lambda: run.subscribers and run.record_subscribers)
            yield daemon, run, feed
        finally:
            await asyncio.to_thread(hub.stop)


async def test_the_end_of_the_newest_episode_is_asked_for_when_it_does_not_come_by_itself() -> None:
    async with _followed() as (_, run, feed):
        _publish(run, 0)
        (stream,) = run.subscribers
        for _ in range(3):
            stream.queue.pop()  # as when the queue is full: nothing that comes later shows that they are missing
        await _until(lambda: feed.frames.step_count == LENGTH - 3)
        await _until(lambda: feed.frames.step_count == LENGTH)
        assert not feed.state.ended
        assert feed.frames.gaps() == feed.frames.open_ends() == []


async def test_a_replay_that_stops_before_it_has_come_to_the_newest_step_is_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Subscriber] = []
    subscribe = UnrulyRun.subscribe

    def busy(self: UnrulyRun, since: int) -> Subscriber:
        """Answer half at first, as a daemon does that is busy with something else."""
        stream = subscribe(self, since)
        answers.append(stream)
        if len(answers) == 1:
            stream.replay = type(stream.replay)(list(stream.replay)[:2])
        return stream

    async with _followed() as (_, run, feed):
        _publish(run, 0)
        (stream,) = run.subscribers
        del stream.queue[4]
        monkeypatch.setattr(UnrulyRun, "subscribe", busy)
        run.set_status("completed")  # the end: one whole answer will do
        await _until(lambda: feed.finished)
        assert len(answers) == 2
        assert feed.frames.step_count == LENGTH
        assert not feed.frames.problems()


async def test_what_the_daemon_cannot_replay_is_named_and_not_asked_for_again_and_again() -> None:
    async with _followed(memory=2) as (daemon, run, feed):
        _publish(run, 0)
        (stream,) = run.subscribers
        del stream.queue[4]
        await _until(lambda: feed.frames.step_count == LENGTH - 1)
        before = daemon.subscriptions
        run.set_status("completed")
        await _until(lambda: feed.finished)
        assert 1 <= daemon.subscriptions - before <= 2  # one before the end, where the end comes late
        assert [(problem.kind, problem.count) for problem in feed.frames.problems()] == [("gap", 1)]
