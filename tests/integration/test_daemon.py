"""The daemon as a process of its own, spoken to over real gRPC."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from live_telemetry_widget.proto import telemetry_pb2 as ours
from live_telemetry_widget.proto import telemetry_pb2_grpc, trainer_pb2_grpc
from live_telemetry_widget.proto import trainer_pb2 as wire

LIMIT = 30
Start = Callable[..., "DaemonProcess"]
CONFIG = {
    "run_name": "frozen lake",
    "entry_point": "python",
    "arguments": [],
    "environment": {},
    "resources": {"cpus": 1, "memory_mb": 256, "gpus": {"requested": 0, "mandatory": False}},
    "artifacts": {"output_prefix": "x", "persist_logs": True, "keep_checkpoints": False},
}
Code = grpc.StatusCode


class DaemonProcess:
    """``live-telemetry serve`` on a free port, with stubs of both services."""

    def __init__(self, data_dir: pathlib.Path, *options: str, listen: str = "127.0.0.1:0") -> None:
        command = [sys.executable, "-m", "live_telemetry_widget", "serve", "--listen", listen]
        command += ["--data-dir", str(data_dir), "--exit-with-stdin", *options]
        self.errors = pathlib.Path(data_dir) / "stderr.txt"
        self.errors.parent.mkdir(exist_ok=True, parents=True)
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        self.address = json.loads(line)["address"]
        # Without a pool of its own, a channel to a port that an earlier daemon had may be the old one.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 * 2**20)]
        options += [("grpc.max_send_message_length", 64 * 2**20)]
        self.channel = grpc.insecure_channel(self.address, options)
        self.trainer = trainer_pb2_grpc.TrainerServiceStub(self.channel)
        self.telemetry = telemetry_pb2_grpc.TelemetryServiceStub(self.channel)

    def end(self, number: int = signal.SIGTERM) -> Any:
        """End the process; return its exit code."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(LIMIT)
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
        return code

    def open_run(self, run_id: str = "r") -> Any:
        """Make a run."""
        return self.telemetry.OpenRun(ours.OpenRunRequest(run_id=run_id), timeout=LIMIT)

    def describe(self, run_id: str = "r") -> Any:
        """Ask what there is of a run."""
        return self.telemetry.DescribeRun(ours.DescribeRunRequest(run_id=run_id), timeout=LIMIT)

    def publish(self, steps: Any, token: str = "") -> Any:
        """Publish steps and wait for the answer."""
        metadata = [("session-token", token)] if token else []
        return self.trainer.PublishRunSteps(iter(steps), timeout=2 * LIMIT, metadata=metadata)

    def steps(self, since: int = 0, run_id: str = "r") -> Any:
        """Stream steps."""
        return self.trainer.StreamRunSteps(wire.StreamStepsRequest(run_id=run_id, since_seq=since), timeout=2 * LIMIT)

    def record(self, run_id: str = "r") -> Any:
        """Return a run out of ListRuns."""
        answer = self.trainer.ListRuns(wire.ListRunsRequest(), timeout=LIMIT)
        return next(run for run in answer.runs if run.run_id == run_id)


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Any:
    started = []

    def begin(*options: str, data_dir: pathlib.Path = tmp_path) -> Any:
        started.append(DaemonProcess(data_dir, *options))
        return started[-1]

    yield begin
    for daemon in started:
        daemon.end(signal.SIGKILL)


@pytest.fixture
def daemon(start: Start) -> Any:
    return start()


def step(number: int, run_id: str = "r", **fields: Any) -> Any:
    fields = {"episode_index": number // 100, "step_index": number % 100, "reward": float(number)} | fields
    return wire.RunStep(run_id=run_id, action_json="1", observation_json=f'{{"state":{number}}}', **fields)


def take(stream: Any, count: int) -> Any:
    found = []
    for message in stream:
        found.append(message)
        if len(found) == count:
            break
    stream.cancel()
    return found


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + LIMIT
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
    return value


def refused(call: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.details()
    return caught.value.code()


# -- answers, call by call ---------------------------------------------------------------------------------------------


def request(name: str, message: Any) -> Any:
    return lambda daemon: getattr(daemon.trainer, name)(message, timeout=LIMIT)


def streamed(name: str, message: Any) -> Any:
    return lambda daemon: next(getattr(daemon.trainer, name)(message, timeout=LIMIT))


def telemetry(name: str, message: Any) -> Any:
    return lambda daemon: getattr(daemon.telemetry, name)(message, timeout=LIMIT)


def published(*steps: Any) -> Any:
    return lambda daemon: daemon.publish(steps)


def published_episodes(*episodes: Any) -> Any:
    return lambda daemon: daemon.trainer.PublishRunEpisodes(iter(episodes), timeout=LIMIT)


def ending(outcome: int, run_id: str = "r") -> Any:
    return telemetry("FinishRun", ours.FinishRunRequest(run_id=run_id, outcome=outcome))


def control(**event: Any) -> Any:
    return lambda daemon: next(daemon.trainer.ControlStream(iter([wire.ControlEvent(**event)]), timeout=LIMIT))


# Run "r" is open, run "over" has ended.
REFUSALS = {
    "submit what is no JSON": (request("SubmitRun", wire.SubmitRunRequest(config_json="x")), Code.INVALID_ARGUMENT),
    "submit nothing": (request("SubmitRun", wire.SubmitRunRequest()), Code.INVALID_ARGUMENT),
    "submit under a taken id": (
        request("SubmitRun", wire.SubmitRunRequest(run_id="r", config_json=json.dumps(CONFIG))),
        Code.ALREADY_EXISTS,
    ),
    "cancel an unknown run": (request("CancelRun", wire.CancelRunRequest(run_id="none")), Code.NOT_FOUND),
    "heartbeat of an unknown run": (request("Heartbeat", wire.HeartbeatRequest(run_id="none")), Code.NOT_FOUND),
    "register without a run": (request("RegisterWorker", wire.RegisterWorkerRequest()), Code.INVALID_ARGUMENT),
    "register for an unknown run": (
        request("RegisterWorker", wire.RegisterWorkerRequest(run_id="none")),
        Code.NOT_FOUND,
    ),
    "register for a run that ended": (
        request("RegisterWorker", wire.RegisterWorkerRequest(run_id="over")),
        Code.FAILED_PRECONDITION,
    ),
    "steps of no run": (streamed("StreamRunSteps", wire.StreamStepsRequest()), Code.INVALID_ARGUMENT),
    "episodes of no run": (streamed("StreamRunEpisodes", wire.StreamEpisodesRequest()), Code.INVALID_ARGUMENT),
    "publish to no run": (published(step(0, "")), Code.INVALID_ARGUMENT),
    "publish to an unknown run": (published(step(0, "none")), Code.NOT_FOUND),
    "publish to two runs": (published(step(0), step(1, "over")), Code.INVALID_ARGUMENT),
    "publish episodes to an unknown run": (published_episodes(wire.RunEpisode(run_id="none")), Code.NOT_FOUND),
    "control with nothing": (control(run_id="r"), Code.INVALID_ARGUMENT),
    "control of no run": (control(pause=True), Code.INVALID_ARGUMENT),
    "control of an unknown run": (control(run_id="none", pause=True), Code.NOT_FOUND),
    "control of a run that ended": (control(run_id="over", pause=True), Code.FAILED_PRECONDITION),
    "control of a run without a worker that takes it": (control(run_id="r", resume=True), Code.FAILED_PRECONDITION),
    "a pause that is none": (control(run_id="r", pause=False), Code.INVALID_ARGUMENT),
    "open a run that ended": (telemetry("OpenRun", ours.OpenRunRequest(run_id="over")), Code.FAILED_PRECONDITION),
    "open with a broken config": (
        telemetry("OpenRun", ours.OpenRunRequest(run_id="new", config_json="[]")),
        Code.INVALID_ARGUMENT,
    ),
    "open under an id of control characters": (
        telemetry("OpenRun", ours.OpenRunRequest(run_id="\n")),
        Code.INVALID_ARGUMENT,
    ),
    "finish an unknown run": (ending(ours.OUTCOME_COMPLETED, "none"), Code.NOT_FOUND),
    "finish without an outcome": (ending(ours.OUTCOME_UNSPECIFIED), Code.INVALID_ARGUMENT),
    "describe an unknown run": (telemetry("DescribeRun", ours.DescribeRunRequest(run_id="none")), Code.NOT_FOUND),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    daemon = DaemonProcess(tmp_path_factory.mktemp("shared"))
    daemon.open_run("r")
    daemon.open_run("over")
    ending(ours.OUTCOME_COMPLETED, "over")(daemon)
    yield daemon
    daemon.end(signal.SIGKILL)


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_have_the_code_of_the_wire_contract_and_say_why(shared: DaemonProcess, name: str) -> None:
    call, code = REFUSALS[name]
    assert refused(lambda: call(shared)) == code


def test_health_tells_the_truth(daemon: DaemonProcess) -> None:
    health = daemon.trainer.GetHealth(wire.HealthCheckRequest(), timeout=LIMIT)
    assert (health.pid, health.listen_address, health.healthy) == (daemon.process.pid, daemon.address, True)
    assert abs(health.started_at.ToNanoseconds() / 1e9 - time.time()) < LIMIT


def test_a_submitted_run_is_listed_and_the_same_config_is_the_same_run(start: Start) -> None:
    daemon = start("--dispatch", "never")
    text = json.dumps(CONFIG)
    first = daemon.trainer.SubmitRun(wire.SubmitRunRequest(config_json=text), timeout=LIMIT)
    assert daemon.trainer.SubmitRun(wire.SubmitRunRequest(config_json=text), timeout=LIMIT) == first
    record = daemon.record(first.run_id)
    assert (record.status, record.digest, len(record.digest)) == (wire.RUN_STATUS_INIT, first.digest, 64)
    assert json.loads(daemon.describe(first.run_id).config_json) == CONFIG
    for status, count in ((wire.RUN_STATUS_INIT, 1), (wire.RUN_STATUS_TERM, 0)):
        answer = daemon.trainer.ListRuns(wire.ListRunsRequest(status_filter=[status]), timeout=LIMIT)
        assert len(answer.runs) == count


def test_the_conversation_of_a_generation_2_worker_that_the_daemon_did_not_start(start: Start) -> None:
    daemon = start("--dispatch", "never")
    watch = daemon.trainer.WatchRuns(wire.WatchRunsRequest(), timeout=LIMIT)
    run_id = daemon.trainer.SubmitRun(wire.SubmitRunRequest(config_json=json.dumps(CONFIG)), timeout=LIMIT).run_id
    token = daemon.trainer.RegisterWorker(
        wire.RegisterWorkerRequest(run_id=run_id, worker_id="w", proto_version="MOSAIC/1.0"), timeout=LIMIT
    )
    assert token.accepted_version == "MOSAIC/1.0"
    assert token.session_token
    answer = daemon.publish(step(i, run_id) for i in range(10))
    assert (answer.accepted, answer.dropped) == (10, 0)
    daemon.trainer.Heartbeat(wire.HeartbeatRequest(run_id=run_id), timeout=LIMIT)
    daemon.trainer.CancelRun(wire.CancelRunRequest(run_id=run_id), timeout=LIMIT)
    daemon.trainer.CancelRun(wire.CancelRunRequest(run_id=run_id), timeout=LIMIT)
    seen = []
    for record in watch:
        seen.append(record)
        if record.status == wire.RUN_STATUS_TERM:
            break
    live = [record for record in seen if record.seq_id]
    assert [record.seq_id for record in live] == list(range(live[0].seq_id, live[0].seq_id + len(live)))
    assert [record.status for record in live][-4:] == [
        wire.RUN_STATUS_HSHK,
        wire.RUN_STATUS_RDY,
        wire.RUN_STATUS_EXEC,
        wire.RUN_STATUS_TERM,
    ]
    assert seen[-1].failure_reason == "cancelled by request"
    assert daemon.record(run_id).HasField("last_heartbeat")
    # Steps may still come after the end.
    assert daemon.publish([step(10, run_id)]).accepted == 1
    assert daemon.describe(run_id).last_step_seq == 11


def test_a_generation_1_proxy_that_never_registers_is_taken_unless_the_daemon_is_strict(
    start: Start, tmp_path: pathlib.Path
) -> None:
    lenient, strict = start(), start("--strict", data_dir=tmp_path / "strict")
    for daemon in (lenient, strict):
        daemon.open_run()
    assert lenient.publish([step(0)]).accepted == 1
    assert refused(lambda: strict.publish([step(0)])) == Code.FAILED_PRECONDITION
    answer = strict.trainer.RegisterWorker(wire.RegisterWorkerRequest(run_id="r"), timeout=LIMIT)
    assert refused(lambda: strict.publish([step(0)])) == Code.FAILED_PRECONDITION
    assert strict.publish([step(0)], answer.session_token).accepted == 1


def test_a_publisher_that_carries_a_token_is_held_to_its_run_also_after_a_restart(start: Start) -> None:
    daemon = start()
    daemon.open_run("mine")
    daemon.open_run("yours")
    token = daemon.trainer.RegisterWorker(wire.RegisterWorkerRequest(run_id="mine"), timeout=LIMIT).session_token
    for _ in range(2):
        assert daemon.publish([step(0, "mine")], token).accepted == 1
        assert refused(lambda daemon=daemon: daemon.publish([step(0, "yours")], token)) == Code.PERMISSION_DENIED
        assert refused(lambda daemon=daemon: daemon.publish([step(0, "mine")], token + "0")) == Code.PERMISSION_DENIED
        assert daemon.publish([step(0, "yours")]).accepted == 1
        daemon.end()
        daemon = start()


@pytest.mark.parametrize(
    ("outcome", "said", "kept"),
    [
        (ours.OUTCOME_COMPLETED, "", None),
        (ours.OUTCOME_FAILED, "exit code 3", "exit code 3"),
        (ours.OUTCOME_FAILED, "", "failed, for no reason given"),
        (ours.OUTCOME_FAILED, "cancelled context", "failed: cancelled context"),
        (ours.OUTCOME_CANCELLED, "Ctrl-C", "cancelled: Ctrl-C"),
    ],
)
def test_an_outcome_is_kept_as_the_reason_and_the_first_one_stands(
    shared: DaemonProcess, outcome: int, said: str, kept: str | None
) -> None:
    run_id = f"finished {outcome} {said}"
    shared.open_run(run_id)
    for result, reason in ((outcome, said), (ours.OUTCOME_FAILED, "second")):
        finish = ours.FinishRunRequest(run_id=run_id, outcome=result, reason=reason)
        shared.telemetry.FinishRun(finish, timeout=LIMIT)
    record = shared.record(run_id)
    assert record.status == wire.RUN_STATUS_TERM
    assert (record.failure_reason if record.HasField("failure_reason") else None) == kept
    assert shared.describe(run_id).ended


def test_opening_a_run_twice_answers_the_first(daemon: DaemonProcess) -> None:
    first = daemon.telemetry.OpenRun(ours.OpenRunRequest(config_json='{"name": "x"}'), timeout=LIMIT)
    again = daemon.telemetry.OpenRun(
        ours.OpenRunRequest(run_id=first.run_id, config_json='{"name": "y"}'), timeout=LIMIT
    )
    assert (first.created, again.created, again.run_id) == (True, False, first.run_id)
    assert json.loads(daemon.describe(first.run_id).config_json) == {"name": "x"}


def test_a_worker_adds_to_the_config_of_its_run_and_changes_nothing_in_it(daemon: DaemonProcess) -> None:
    def opened(config: dict[str, Any]) -> dict[str, Any]:
        daemon.telemetry.OpenRun(ours.OpenRunRequest(run_id="r", config_json=json.dumps(config)), timeout=LIMIT)
        held: dict[str, Any] = json.loads(daemon.describe("r").config_json)
        return held

    assert opened({"run_name": "x", "metadata": None}) == {"run_name": "x", "metadata": None}
    before = daemon.record("r")
    told = opened({"run_name": "y", "metadata": {"agent_id": "a", "worker": {"config": {"max_episodes": 9}}}})
    assert told == {"run_name": "x", "metadata": {"worker": {"config": {"max_episodes": 9}}}}
    assert daemon.record("r").seq_id > before.seq_id, "who follows the run is not told of it"
    # Text that no UTF-8 can say is kept as it was written.
    again = opened({"metadata": {"worker": {"config": {"max_episodes": 10, "odd": "\ud800"}}}})
    assert again["metadata"] == {"worker": {"config": {"max_episodes": 9, "odd": "\ud800"}}}


def test_watching_goes_on_after_a_number(daemon: DaemonProcess) -> None:
    for name in "abc":
        daemon.open_run(name)
    stream = daemon.trainer.WatchRuns(wire.WatchRunsRequest(since_seq=1), timeout=LIMIT)
    assert [(record.run_id, record.seq_id) for record in take(stream, 2)] == [("b", 2), ("c", 3)]


# -- telemetry ---------------------------------------------------------------------------------------------------------


def test_everything_in_a_step_and_an_episode_comes_back(daemon: DaemonProcess) -> None:
    daemon.open_run()
    sent = step(
        3, agent_id="a", worker_id="w", episode_seed=0, policy_label="p", backend="b", payload_version=2, frame_ref="f"
    )
    sent.render_hint_json, sent.render_payload_json, sent.truncated = '{"h":1}', '{"mode":"grid"}', True
    sent.extras_json = '{"q_before":0.5,"state":4}'
    sent.timestamp.FromNanoseconds(1_700_000_000_123_456_789)
    episode = wire.RunEpisode(
        run_id="r",
        episode_index=3,
        total_reward=1.5,
        steps=7,
        terminated=True,
        metadata_json='{"seed":3}',
        agent_id="a",
    )
    daemon.publish([sent])
    assert daemon.trainer.PublishRunEpisodes(iter([episode]), timeout=LIMIT).accepted == 1
    sent.seq_id = episode.seq_id = 1
    assert take(daemon.steps(), 1) == [sent]
    stream = daemon.trainer.StreamRunEpisodes(wire.StreamEpisodesRequest(run_id="r"), timeout=LIMIT)
    assert take(stream, 1) == [episode]


def test_a_row_that_cannot_be_kept_is_counted_as_dropped(daemon: DaemonProcess) -> None:
    daemon.open_run()
    answer = daemon.publish([step(0), step(1, episode_index=2**63), step(2)])
    assert (answer.accepted, answer.dropped) == (2, 1)
    assert "index_out_of_range" in daemon.errors.read_text()


def test_a_message_of_many_megabytes_passes(daemon: DaemonProcess) -> None:
    daemon.open_run()
    sent = step(0, render_payload_json=json.dumps("x" * (40 * 2**20)))
    assert daemon.publish([sent]).accepted == 1
    assert len(take(daemon.steps(), 1)[0].render_payload_json) == len(sent.render_payload_json)


def test_since_seq_is_honoured_exactly_from_memory_and_from_the_file(start: Start) -> None:
    daemon = start()
    daemon.open_run()
    daemon.publish(step(i) for i in range(3_000))
    for _ in range(2):
        for since in (0, 1, 999, 1_024, 2_998, 2_999):
            found = take(daemon.steps(since), min(5, 3_000 - since))
            assert [s.seq_id for s in found] == list(range(since + 1, since + 1 + len(found)))
            assert [s.reward for s in found] == [float(s.seq_id - 1) for s in found]
        # The second time around, nothing is in memory.
        daemon.end()
        daemon = start()


def test_twenty_thousand_steps_are_replayed_then_live_ones_without_a_seam(start: Start) -> None:
    daemon = start()
    daemon.open_run()
    daemon.publish(step(i) for i in range(20_000))
    daemon.end()
    daemon = start()
    more = threading.Thread(target=daemon.publish, args=([step(i) for i in range(20_000, 22_000)],))
    stream = daemon.steps()
    found = []
    for message in stream:
        found.append((message.seq_id, message.reward))
        if len(found) == 10_000:
            more.start()
        if len(found) == 22_000:
            break
    stream.cancel()
    more.join()
    assert found == [(n + 1, float(n)) for n in range(22_000)]


def test_a_stream_of_an_unknown_run_is_silent_then_delivers_when_the_run_appears(daemon: DaemonProcess) -> None:
    received = queue.Queue()

    def read() -> Any:
        with contextlib.suppress(grpc.RpcError):
            for message in daemon.steps(run_id="later"):
                received.put(message.seq_id)

    reader = threading.Thread(target=read)
    reader.start()
    daemon.open_run("later")
    daemon.publish([step(0, "later")])
    assert received.get(timeout=LIMIT) == 1
    # A stream does not end when its run does.
    ending(ours.OUTCOME_COMPLETED, "later")(daemon)
    daemon.publish([step(1, "later")])
    assert received.get(timeout=LIMIT) == 2
    assert daemon.end() == 0
    reader.join(LIMIT)
    assert not reader.is_alive()


def test_a_slow_subscriber_is_not_dropped_and_does_not_hold_up_publishers(daemon: DaemonProcess) -> None:
    daemon.open_run()
    slow = daemon.steps()
    daemon.publish([step(0)])
    assert next(slow).seq_id == 1
    payload = json.dumps("x" * 5_000)
    for first in range(1, 8_001, 2_000):
        assert (
            daemon.publish(step(i, render_payload_json=payload) for i in range(first, first + 2_000)).accepted == 2_000
        )
    assert [message.seq_id for message in take(slow, 8_000)] == list(range(2, 8_002))


def test_publishers_of_one_run_at_once_get_numbers_without_gaps(daemon: DaemonProcess) -> None:
    daemon.open_run()
    threads = [
        threading.Thread(target=daemon.publish, args=([step(i, worker_id=str(worker)) for i in range(500)],))
        for worker in range(4)
    ]
    for thread in threads:
        thread.start()
    found = take(daemon.steps(), 2_000)
    for thread in threads:
        thread.join()
    assert [message.seq_id for message in found] == list(range(1, 2_001))
    for worker in range(4):
        assert [m.reward for m in found if m.worker_id == str(worker)] == [float(i) for i in range(500)]


def test_what_was_received_of_a_stream_that_broke_off_is_committed(daemon: DaemonProcess) -> None:
    daemon.open_run()
    hold = threading.Event()

    def some() -> Any:
        yield from (step(i) for i in range(10))
        hold.wait(LIMIT)

    call = daemon.trainer.PublishRunSteps.future(some())
    until(lambda: daemon.describe().last_step_seq == 10)
    call.cancel()
    hold.set()
    assert refused(lambda: daemon.publish([step(10), step(11), step(0, "other")])) == Code.INVALID_ARGUMENT
    assert [m.reward for m in take(daemon.steps(), 12)] == [float(i) for i in range(12)]


# -- life and death ----------------------------------------------------------------------------------------------------


def test_a_restart_keeps_runs_and_steps(start: Start) -> None:
    daemon = start()
    daemon.open_run("going")
    daemon.open_run("over")
    daemon.publish([step(0, "going")])
    ending(ours.OUTCOME_FAILED, "over")(daemon)
    before = {name: daemon.record(name) for name in ("going", "over")}
    assert daemon.end() == 0
    daemon = start()
    assert {name: daemon.record(name) for name in ("going", "over")} == before
    assert daemon.publish([step(1, "going")]).accepted == 1
    assert [m.seq_id for m in take(daemon.steps(run_id="going"), 2)] == [1, 2]


def test_every_acknowledged_step_survives_sigkill_in_order_and_once(start: Start) -> None:
    daemon = start()
    daemon.open_run()
    sent, acknowledged = 0, set()
    for after in (0.3, 0.5, 0.7):
        killer = threading.Timer(after, daemon.process.kill)
        # Short streams, so that the last acknowledgement is of shortly before the kill.
        with contextlib.suppress(grpc.RpcError):
            while True:
                batch = range(sent, sent + 20)
                sent += 20
                assert daemon.publish(step(i) for i in batch).accepted == 20
                acknowledged.update(float(i) for i in batch)
                if killer.ident is None:  # the clock runs from the first, however busy the machine is
                    killer.start()
        killer.join()
        daemon.end(signal.SIGKILL)
        daemon = start()
        found = take(daemon.steps(), daemon.describe().last_step_seq)
        kept = [message.reward for message in found]
        assert [message.seq_id for message in found] == list(range(1, len(found) + 1))
        assert kept == sorted(set(kept))
        assert acknowledged <= set(kept)
    assert acknowledged


def test_sigterm_commits_what_an_open_publisher_has_sent(start: Start) -> None:
    daemon = start()
    daemon.open_run()
    hold = threading.Event()

    def some() -> Any:
        yield from (step(i) for i in range(100))
        hold.wait(LIMIT)

    call = daemon.trainer.PublishRunSteps.future(some())
    until(lambda: daemon.describe().last_step_seq == 100)
    assert daemon.end() == 0
    hold.set()
    call.cancel()
    daemon = start()
    assert daemon.describe().last_step_seq == 100


def test_streams_are_told_of_the_end(daemon: DaemonProcess) -> None:
    stream = daemon.steps(run_id="none")
    watch = daemon.trainer.WatchRuns(wire.WatchRunsRequest(), timeout=LIMIT)
    daemon.open_run()
    assert next(watch).run_id == "r"
    daemon.process.send_signal(signal.SIGTERM)
    # What was under way comes first: the run may be in the snapshot, and then again as a change.
    assert refused(lambda: list(watch)) == Code.UNAVAILABLE
    assert refused(lambda: next(stream)) == Code.UNAVAILABLE


def _start_and_fail(*options: str) -> Any:
    command = [sys.executable, "-m", "live_telemetry_widget", "serve", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_one_daemon_per_directory(daemon: DaemonProcess, tmp_path: pathlib.Path) -> None:
    said = _start_and_fail("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path))
    assert str(daemon.process.pid) in said


def test_a_directory_of_a_newer_version_is_refused_and_left_as_it_is(start: Start, tmp_path: pathlib.Path) -> None:
    start().end()
    connection = sqlite3.connect(tmp_path / "telemetry.sqlite3")
    connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    connection.commit()
    connection.close()
    before = (tmp_path / "telemetry.sqlite3").read_bytes()
    said = _start_and_fail("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path))
    assert "format 99" in said
    assert "Install the newer version" in said
    assert (tmp_path / "telemetry.sqlite3").read_bytes() == before


def test_one_daemon_per_port(daemon: DaemonProcess, tmp_path: pathlib.Path) -> None:
    said = _start_and_fail("--listen", daemon.address, "--data-dir", str(tmp_path / "other"))
    assert daemon.address in said


def test_the_daemon_ends_when_its_parent_closes_its_stdin(daemon: DaemonProcess) -> None:
    daemon.process.stdin.close()
    assert daemon.process.wait(LIMIT) == 0


def test_an_address_that_others_reach_is_warned_of(start: Start, tmp_path: pathlib.Path) -> None:
    daemon = start()
    daemon.end()
    command = [sys.executable, "-m", "live_telemetry_widget", "serve", "--exit-with-stdin"]
    command += ["--listen", "0.0.0.0:0", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=LIMIT, check=False)
    assert "other machines" in done.stderr
    assert json.loads(done.stdout)["pid"] != os.getpid()


def test_list_reads_a_daemon_and_a_directory_alike(daemon: DaemonProcess, tmp_path: pathlib.Path) -> None:
    daemon.open_run()
    daemon.publish([step(0), step(1)])

    def listed(*options: str) -> Any:
        command = [sys.executable, "-m", "live_telemetry_widget", "list", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True).stdout

    said = listed("--daemon", daemon.address)
    assert said == listed("--data-dir", str(tmp_path))
    assert said.splitlines()[1].split()[:4] == ["r", "running", "2", "0"]
