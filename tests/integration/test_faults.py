"""The hub among faults: calls answered late or with errors, streams that break for ever, listeners that raise, stopping and starting."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.client import Backoff
from live_telemetry_widget.proto import telemetry_pb2, telemetry_pb2_grpc, trainer_pb2_grpc
from live_telemetry_widget.proto import trainer_pb2 as wire
from tests.conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPLETED = {1: 4, 2: 7}
RUNNING = {1: 3, 2: 4}


class Daemon(trainer_pb2_grpc.TrainerServiceServicer):
    """A daemon with one run ``r`` of ten steps, of which a test says when it ends and what breaks."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.over = threading.Event()  # the daemon's end
        self.ended = threading.Event()  # the run's
        self.episodes_break = False
        self.subscriptions = 0
        self.step_at = 0.0

    def RegisterWorker(self, _: object, context: Any) -> None:  # noqa: N802, D102
        known = self.generation == 2
        context.abort(grpc.StatusCode.INVALID_ARGUMENT if known else grpc.StatusCode.UNIMPLEMENTED, "no")

    def record(self) -> wire.RunRecord:
        """Return the run as it is."""
        record = wire.RunRecord(run_id="r", seq_id=1)
        status = (COMPLETED if self.ended.is_set() else RUNNING)[self.generation]
        record.status = status  # type: ignore[assignment]
        return record

    def ListRuns(self, _: object, __: object) -> wire.ListRunsResponse:  # noqa: N802, D102
        return wire.ListRunsResponse(runs=[self.record()])

    def WatchRuns(self, _: object, context: Any) -> Iterator[wire.RunRecord]:  # noqa: N802, D102
        yield self.record()
        while context.is_active() and not self.over.is_set():
            if self.ended.wait(0.05):
                yield self.record()
                break
        self.hold(context)

    def hold(self, context: Any) -> None:
        """Keep a stream open."""
        while context.is_active() and not self.over.wait(0.05):
            pass

    def StreamRunSteps(self, _: object, context: Any) -> Iterator[wire.RunStep]:  # noqa: N802, D102
        self.subscriptions += 1
        for i in range(10):
            yield wire.RunStep(run_id="r", step_index=i, reward=1.0, seq_id=i + 1)
        self.hold(context)

    def StreamRunEpisodes(self, _: object, context: Any) -> Iterator[wire.RunEpisode]:  # noqa: N802, D102
        if self.episodes_break:
            yield wire.RunEpisode(run_id="r", episode_index=0, steps=10, total_reward=10.0, seq_id=1)
            context.abort(grpc.StatusCode.UNKNOWN, "this generation fails on episodes")
        self.hold(context)


class Describes(telemetry_pb2_grpc.TelemetryServiceServicer):
    """What makes the daemon one of ours; the run ends while its first answer is under way, and the next one fails."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.calls = 0
        self.seen_ended = threading.Event()

    def DescribeRun(self, request: telemetry_pb2.DescribeRunRequest, context: Any) -> telemetry_pb2.DescribeRunResponse:  # noqa: N802, D102
        if not request.run_id:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such run")
        self.calls += 1
        ended = self.daemon.ended.is_set()
        if self.calls == 1:
            self.daemon.ended.set()
            self.seen_ended.wait(10)
        if self.calls == 2:
            context.abort(grpc.StatusCode.INTERNAL, "busy")
        return telemetry_pb2.DescribeRunResponse(run_id="r", config_json="{}", last_step_seq=10, ended=ended)


class Served:
    """Daemons as servers; ended with the test."""

    def __init__(self) -> None:
        self._ends: list[tuple[Daemon, grpc.Server]] = []

    def __call__(self, daemon: Daemon, describes: Describes | None = None) -> str:
        """Serve a daemon; return its address."""
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(daemon, server)
        if describes is not None:
            telemetry_pb2_grpc.add_TelemetryServiceServicer_to_server(describes, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._ends.append((daemon, server))
        return f"127.0.0.1:{port}"

    def end(self) -> None:
        """End them all."""
        for daemon, server in self._ends:
            daemon.over.set()
            server.stop(None).wait()


@pytest.fixture
def served() -> Iterator[Served]:
    """Return what serves a daemon and returns its address."""
    found = Served()
    yield found
    found.end()


def test_a_run_that_ends_while_it_is_being_described_is_finished(served: Served) -> None:
    daemon = Daemon(2)
    describes = Describes(daemon)
    with ltw.connect(served(daemon, describes)) as client:
        run = client.run("r")
        wait_for(lambda: run._feed.state.ended, "the watch to say that it ended")
        describes.seen_ended.set()  # and only now comes the answer from before
        run.wait(timeout=20)
        assert len(run.steps) == 10
        assert describes.calls >= 3, "the answer from before the end, the error, and the one that counts"


def test_an_ended_run_is_finished_though_one_of_its_streams_breaks_for_ever(served: Served) -> None:
    daemon = Daemon(1)
    daemon.episodes_break = True
    daemon.ended.set()
    with ltw.connect(served(daemon)) as client:
        run = client.run("r")
        run.wait(timeout=25)
        assert run.episodes[["source", "complete"]].values.tolist() == [["record", True]]
        counts = run.problems.set_index("kind")["count"]
        assert counts["stream_error"] >= 1


def test_a_listener_that_raises_ends_no_stream(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    daemon = Daemon(1)
    with ltw.TelemetryAsyncHub(served(daemon)) as hub:
        feed = hub.subscribe_run("r")
        raised = []

        def bad() -> None:
            raised.append(1)
            message = "a user's mistake"
            raise RuntimeError(message)

        feed.listen(bad)
        run = ltw.Run(feed)
        wait_for(lambda: feed.frames.step_count == 10, "the steps to come all the same")
        daemon.ended.set()
        run.wait(timeout=20)
        assert raised
        assert run.problems.empty
    assert "a user's mistake" in caplog.text


def test_a_hub_that_was_stopped_and_started_goes_on(served: Served) -> None:
    daemon = Daemon(1)
    hub = ltw.TelemetryAsyncHub("127.0.0.1:1", backoff=Backoff(first=0.05, most=0.05))
    feed = hub.subscribe_run("r")
    wait_for(lambda: feed.link.attempt >= 2, "attempts to connect")
    hub.stop()
    assert feed.link.state == "closed"
    hub.start()
    wait_for(lambda: feed.link.attempt >= 2, "attempts to connect again")
    hub.stop()
    hub.address = served(daemon)
    with hub:
        wait_for(lambda: feed.frames.step_count == 10, "the steps")
        hub.stop()
        hub.start()
        wait_for(lambda: daemon.subscriptions == 2, "the run to be followed again")
        assert feed.link.state == "live"


def test_a_run_asked_for_by_two_threads_at_once_is_one_run(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(1)
    with ltw.connect(served(daemon)) as client:
        both = threading.Barrier(2)
        subscribe = client.hub.subscribe_run

        def slowly(run_id: str, prepare: Any) -> Any:
            feed = subscribe(run_id, prepare)
            with pytest.raises(threading.BrokenBarrierError):
                both.wait(0.3)  # the other one must not be here
            return feed

        monkeypatch.setattr(client.hub, "subscribe_run", slowly)
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            first, second = threads.map(client.run, ["r", "r"])
        assert first is second
        del second
        gc.collect()
        wait_for(lambda: first._feed.frames.step_count == 10, "the steps")
        assert first._feed.link.state == "live"
