"""The hub against daemons that are not ours, and fed by hand."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget import hub as hub_module
from live_telemetry_widget.hub import Arrival, Ended
from live_telemetry_widget.proto import trainer_pb2 as wire
from live_telemetry_widget.proto import trainer_pb2_grpc
from tests.conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD_TEXT = b"\x0a\x01r\x10\x00\x18\x07\x22\x02\xff\xfe"  # run r, episode 0, step 7, an action that is not UTF-8


class Forgetful(trainer_pb2_grpc.TrainerServiceServicer):
    """A daemon of generation 1: no RegisterWorker, no service of ours, and its own numbering of everything."""

    def __init__(self) -> None:
        self.steps: list[bytes] = []
        self.episodes: list[wire.RunEpisode] = []
        self.status = 3  # RUNNING there
        self.ended = threading.Event()
        self.subscriptions = 0

    def ListRuns(self, _: object, __: object) -> wire.ListRunsResponse:  # noqa: N802, D102
        return wire.ListRunsResponse(runs=[self.record()])

    def record(self) -> wire.RunRecord:
        """Return the run as it is."""
        record = wire.RunRecord(run_id="r")
        record.status = self.status  # type: ignore[assignment]
        return record

    def WatchRuns(self, _: object, context: Any) -> Iterator[wire.RunRecord]:  # noqa: N802, D102
        told = 0
        while context.is_active():
            if self.status != told:
                told = self.status
                yield self.record()
            self.ended.wait(0.05)

    def stream(self, _: object, context: Any) -> Iterator[bytes]:
        """Send everything, then cut the stream off, then send everything again."""
        self.subscriptions += 1
        yield from self.steps
        if self.subscriptions == 1:
            context.abort(grpc.StatusCode.INTERNAL, "a hiccup")
        while context.is_active() and not self.ended.wait(0.05):
            pass

    def StreamRunEpisodes(self, _: object, context: Any) -> Iterator[wire.RunEpisode]:  # noqa: N802, D102
        context.abort(grpc.StatusCode.UNKNOWN, "this generation fails on episodes")
        yield from self.episodes


@pytest.fixture
def forgetful() -> Iterator[tuple[Forgetful, str]]:
    """Return such a daemon and its address."""
    service = Forgetful()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    methods = {
        "ListRuns": grpc.unary_unary_rpc_method_handler(
            service.ListRuns, wire.ListRunsRequest.FromString, wire.ListRunsResponse.SerializeToString
        ),
        "WatchRuns": grpc.unary_stream_rpc_method_handler(
            service.WatchRuns, wire.WatchRunsRequest.FromString, wire.RunRecord.SerializeToString
        ),
        "StreamRunSteps": grpc.unary_stream_rpc_method_handler(service.stream, wire.StreamStepsRequest.FromString),
        "StreamRunEpisodes": grpc.unary_stream_rpc_method_handler(
            service.StreamRunEpisodes, wire.StreamEpisodesRequest.FromString, wire.RunEpisode.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("gymgui.trainer.TrainerService", methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    service.ended.set()
    server.stop(None).wait()


def test_a_generation_1_daemon_that_resends_fails_on_episodes_and_sends_broken_text(
    forgetful: tuple[Forgetful, str],
) -> None:
    service, address = forgetful
    steps = [wire.RunStep(run_id="r", step_index=i, reward=1.0, seq_id=100 - i, terminated=i == 6) for i in range(7)]
    service.steps = [step.SerializeToString() for step in steps]
    service.steps.insert(3, BAD_TEXT)
    with ltw.connect(address) as client:
        run = client.run("r")
        wait_for(lambda: run._feed.frames.duplicates >= 7, "everything to be sent again")
        assert run.status == "running"
        assert run.steps["step_index"].tolist() == list(range(7))
        (episode,) = run.episodes.to_dict("records")
        assert (episode["source"], episode["total_reward"], episode["steps"], episode["outcome"]) == (
            "steps",
            7.0,
            7,
            "Success",
        )
        counts = run.problems.set_index("kind")["count"]
        assert counts["bad_message"] == service.subscriptions
        assert counts["stream_error"] >= 2
        service.status = 4  # COMPLETED there, EXEC in generation 2
        run.wait(timeout=10)
        assert run.status == "completed"
        assert client.runs()["status"].tolist() == ["completed"]


def test_a_hub_fed_by_hand_needs_no_daemon_and_tells_subscribers() -> None:
    with (
        ltw.TelemetryAsyncHub() as hub,
        hub.bus.subscribe() as arrivals,
        hub.bus.subscribe(most_bytes=1) as narrow,
    ):
        run = ltw.Run(hub.subscribe_run("mine"))
        for i in range(100):
            hub.submit_step({"run_id": "mine", "episode": 0, "step_index": i, "reward": 0.5, "note": "x"})
        hub.submit_step(wire.RunStep(run_id="mine", step_index=100, reward=0.5, terminated=True))
        hub.submit_episode({"run_id": "mine", "episode": 0, "reward": 50.5, "steps": 101})
        hub.complete_run("mine")
        run.wait(timeout=10)
        assert run.episodes[["total_reward", "steps", "outcome", "complete"]].values.tolist() == [
            [50.5, 101, "Success", True]
        ]
        assert run.steps["note"].isna().tolist() == [False] * 100 + [True]
        got = arrivals.drain()
        steps = [item for item in got if isinstance(item, Arrival) and item.kind == "steps"]
        assert sum(item.batch.num_rows for item in steps) == sum(item.new.num_rows for item in steps) == 101
        assert got[-1] == Ended("mine", ltw.RunState.COMPLETED, "")
        assert narrow.dropped == len(got) - 1
        assert narrow.drain() == got[-1:]
        with pytest.raises(ValueError, match="not subscribed"):
            hub.submit_step({"run_id": "other", "episode": 0, "step_index": 0})
        hub.unsubscribe_run("mine")
        with pytest.raises(ValueError, match="not subscribed"):
            hub.submit_step({"run_id": "mine", "episode": 0, "step_index": 0})


def test_what_is_fed_before_stop_is_not_lost() -> None:
    hub = ltw.TelemetryAsyncHub().start()
    feed = hub.subscribe_run("mine")
    for i in range(5_000):
        hub.submit_step({"run_id": "mine", "episode": 0, "step_index": i, "reward": 0.0})
    hub.stop()
    hub.stop()
    assert feed.frames.step_count == 5_000
    assert feed.link.state == "closed"
    with pytest.raises(ltw.ClosedError, match="start"):
        hub.submit_step({"run_id": "mine", "episode": 0, "step_index": 0})


def test_who_feeds_faster_than_the_hub_takes_waits_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_MAX_FED", 50)
    held, free = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        held.set()
        assert free.wait(30)

    with ltw.TelemetryAsyncHub() as hub, concurrent.futures.ThreadPoolExecutor(2) as threads:
        feed = hub.subscribe_run("mine")
        hub.listen_runs(hold)
        hub.complete_run("another")  # whose news hold the hub's thread
        try:
            assert held.wait(30)

            def submit(agent: str) -> None:
                for i in range(300):
                    hub.submit_step({"run_id": "mine", "agent_id": agent, "episode": 0, "step_index": i})

            feeding = [threads.submit(submit, agent) for agent in ("left", "right")]
            wait_for(lambda: len(hub._fed) == 50, "a full queue")
            assert not concurrent.futures.wait(feeding, timeout=0.05).done
            assert len(hub._fed) == 50
        finally:
            free.set()
        for done in feeding:
            done.result(30)
        assert feed.wait_until(lambda: feed.frames.step_count == 600, 30)


def test_who_waits_for_room_is_told_when_the_hub_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_MAX_FED", 5)
    held, free = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        held.set()
        assert free.wait(30)

    hub = ltw.TelemetryAsyncHub().start()
    feed = hub.subscribe_run("mine")
    hub.listen_runs(hold)
    hub.complete_run("another")
    taken = 0

    def submit() -> None:
        nonlocal taken
        for i in range(10):
            hub.submit_step({"run_id": "mine", "episode": 0, "step_index": i})
            taken += 1

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        try:
            assert held.wait(30)
            feeding = threads.submit(submit)
            wait_for(lambda: len(hub._fed) == 5, "a full queue")
            stopping = threads.submit(hub.stop, 30)
            wait_for(lambda: hub._loop is None, "the hub to be told to stop")
        finally:
            free.set()
        stopping.result(30)
        with pytest.raises(ltw.ClosedError, match="start"):
            feeding.result(30)
    assert feed.frames.step_count == taken == 5
