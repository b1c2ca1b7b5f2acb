"""The proxy as a process, around real workers, publishing to real gRPC servers of each kind."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import gymnasium
import pytest

from live_telemetry_widget.daemon.config import parse_config
from live_telemetry_widget.proto import telemetry_pb2, telemetry_pb2_grpc, trainer_pb2, trainer_pb2_grpc
from tests.conftest import SAMPLE, beside_the_end, demo_command, proxy_command, replay_command, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Start = "Callable[..., subprocess.Popen[bytes]]"
Code = grpc.StatusCode
GIVEN_ID = "01J0000000000000000000000A"


class FakeDaemon(trainer_pb2_grpc.TrainerServiceServicer):
    """A server that keeps what it gets, as one of generation 1, one of generation 2, or one of ours would.

    It is no more than the calls that a proxy makes; `refuse` maps a call's name to what it is answered with.
    """

    def __init__(self, kind: str = "ours") -> None:
        self.kind = kind
        self.runs: set[str] = set()
        self.calls: list[str] = []
        self.configs: list[dict[str, Any]] = []
        self.workers: list[Any] = []
        self.steps: list[Any] = []
        self.episodes: list[Any] = []
        self.finished: list[tuple[str, int, str]] = []
        self.refuse: dict[str, Code] = {}
        self.address = "127.0.0.1:0"
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Serve, at the same address as before."""
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(self, self._server)
        if self.kind == "ours":
            telemetry_pb2_grpc.add_TelemetryServiceServicer_to_server(_Telemetry(self), self._server)
        host, _, _ = self.address.rpartition(":")
        self.address = f"{host}:{self._server.add_insecure_port(self.address)}"
        self._server.start()

    def stop(self) -> None:
        """Cut every connection."""
        if self._server is not None:
            self._server.stop(0).wait(10)
            self._server = None

    def note(self, call: str, context: Any) -> None:
        """Note a call, or refuse it."""
        self.calls.append(call)
        if call in self.refuse:
            context.abort(self.refuse[call], "as told")

    def SubmitRun(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        self.note("SubmitRun", context)
        config = parse_config(request.config_json)
        self.configs.append(config)
        run_id = config["metadata"]["worker"]["config"].get("run_id") or GIVEN_ID
        self.runs.add(run_id)
        return trainer_pb2.SubmitRunResponse(run_id=run_id)

    def ListRuns(self, _: Any, context: Any) -> Any:  # noqa: N802, D102
        self.note("ListRuns", context)
        return trainer_pb2.ListRunsResponse(runs=[trainer_pb2.RunRecord(run_id=run) for run in self.runs])

    def RegisterWorker(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        self.note("RegisterWorker", context)
        if self.kind == "generation 1":
            context.abort(Code.UNIMPLEMENTED, "Method not found!")
        self.workers.append(request)
        return trainer_pb2.RegisterWorkerResponse(accepted_version=request.proto_version, session_token="t")  # noqa: S106 - no secret

    def Heartbeat(self, _: Any, __: Any) -> Any:  # noqa: N802, D102
        return trainer_pb2.HeartbeatResponse()

    def ControlStream(self, _: Any, context: Any) -> Any:  # noqa: N802, D102
        context.abort(Code.UNIMPLEMENTED, "as generation 2 answers today")

    def PublishRunSteps(self, messages: Iterator[Any], context: Any) -> Any:  # noqa: N802, D102
        self.note("PublishRunSteps", context)
        return self._keep(messages, self.steps, context)

    def PublishRunEpisodes(self, messages: Iterator[Any], context: Any) -> Any:  # noqa: N802, D102
        self.note("PublishRunEpisodes", context)
        return self._keep(messages, self.episodes, context)

    def _keep(self, messages: Iterator[Any], kept: list[Any], context: Any) -> Any:
        count = 0
        with contextlib.suppress(grpc.RpcError):  # a stream that is cut
            for message in messages:
                if message.run_id not in self.runs:
                    context.abort(Code.NOT_FOUND, f"no run {message.run_id}")
                kept.append(message)
                count += 1
        return trainer_pb2.PublishTelemetryResponse(accepted=count)


class _Telemetry(telemetry_pb2_grpc.TelemetryServiceServicer):
    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon

    def OpenRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._daemon.note("OpenRun", context)
        self._daemon.configs.append(json.loads(request.config_json))
        run_id = request.run_id or GIVEN_ID
        self._daemon.runs.add(run_id)
        return telemetry_pb2.OpenRunResponse(run_id=run_id, created=True)

    def FinishRun(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._daemon.note("FinishRun", context)
        self._daemon.finished.append((request.run_id, request.outcome, request.reason))
        return telemetry_pb2.FinishRunResponse()


@pytest.fixture
def fake() -> Iterator[Callable[..., FakeDaemon]]:
    """Return a function that starts a :class:`FakeDaemon`, which ends with the test."""
    started: list[FakeDaemon] = []

    def start(kind: str = "ours", **refuse: Code) -> FakeDaemon:
        daemon = FakeDaemon(kind)
        daemon.refuse = refuse
        daemon.start()
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        daemon.stop()


def python(code: str, *arguments: str) -> list[str]:
    """Return the command line of a worker that is some lines of Python; `step` prints a step event."""
    head = """
        import json, os, signal, subprocess, sys, time
        def say(**event): print(json.dumps(event), flush=True)
        def step(i, episode=0, **more): say(type="step", episode=episode, step_index=i, reward=1.0, **more)
    """
    return [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code), *arguments]


def impatient(address: str, worker: list[str], **options: Any) -> list[str]:
    """Return the command line of a proxy with other waiting times than the command has."""
    code = "import sys; from live_telemetry_widget.worker import proxy; sys.exit(proxy.run({}, daemon={!r}, **{!r}))"
    return [sys.executable, "-c", code.format(worker, address, {"run_id": "r", **options})]


def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


def said(process: subprocess.Popen[bytes]) -> bytes:
    """Wait for a proxy's end; return its standard error, without what gRPC's core itself notes of a cut connection."""
    _, errors = process.communicate(timeout=60)
    return b"".join(
        line for line in errors.splitlines(keepends=True) if not re.match(rb"[IWE]\d{4} .*chttp2_transport", line)
    )


def indices(messages: list[Any]) -> list[tuple[int, int]]:
    return [(message.episode_index, message.step_index) for message in messages]


@pytest.mark.parametrize("kind", ["ours", "generation 2", "generation 1"])
def test_a_real_workers_run_arrives_once_in_order_and_whole(
    fake: Callable[..., FakeDaemon], kind: str, sample_events: list[dict[str, Any]]
) -> None:
    daemon = fake(kind)
    done = run(proxy_command(daemon.address, *replay_command(SAMPLE), worker_id="w", name="lake"))
    assert (done.returncode, done.stdout, beside_the_end(done.stderr)) == (0, b"", b"")
    sent = [event for event in sample_events if event["type"] == "step"]
    assert indices(daemon.steps) == [(event["episode"], event["step_index"]) for event in sent]
    for message, event in zip(daemon.steps, sent, strict=True):
        assert (message.run_id, message.worker_id, message.agent_id) == (GIVEN_ID, "w", "q_agent")
        assert json.loads(message.observation_json) == event["observation"]
        assert message.timestamp.ToNanoseconds() == event["ts_unix_ns"]
        names = ("state", "next_state", "next_observation", "q_before", "q_after", "epsilon")
        assert json.loads(message.extras_json) == {name: event[name] for name in names}
    records = [event for event in sample_events if event["type"] == "episode"]
    assert [message.episode_index for message in daemon.episodes] == [event["episode"] for event in records]
    for message, event in zip(daemon.episodes, records, strict=True):
        assert (message.total_reward, message.steps) == (event["reward"], event["steps"])
        assert json.loads(message.metadata_json) == event["metadata"]
        assert json.loads(message.extras_json) == {"success": event["success"]}
    finished = [(GIVEN_ID, telemetry_pb2.OUTCOME_COMPLETED, "")] if kind == "ours" else []
    assert daemon.finished == finished
    assert daemon.configs[0]["run_name"] == "lake"
    if kind == "ours":  # others' take only what a submitted config may hold
        assert daemon.configs[0]["metadata"]["versions"]["gymnasium"] == gymnasium.__version__
    registered = [(worker.run_id, worker.worker_id, worker.proto_version) for worker in daemon.workers]
    assert registered == ([] if kind == "generation 1" else [(GIVEN_ID, "w", "MOSAIC/1.0")])


def test_a_run_that_another_daemon_has_is_joined_and_one_that_it_has_not_is_submitted(
    fake: Callable[..., FakeDaemon],
) -> None:
    daemon = fake("generation 2")
    for _ in range(2):
        assert run(proxy_command(daemon.address, *python("step(0)"), run_id="named")).returncode == 0
    assert daemon.calls.count("SubmitRun") == 1
    assert {message.run_id for message in daemon.steps} == {"named"}
    # What is submitted is started by such a daemon, so it must be harmless.
    config = daemon.configs[0]
    assert run([config["entry_point"], *config["arguments"]]).stdout == b""


def test_two_runs_without_a_name_are_two_runs_at_anothers_daemon(fake: Callable[..., FakeDaemon]) -> None:
    daemon = fake("generation 1")
    for _ in range(2):
        run(proxy_command(daemon.address, *python("step(0)")))
    assert daemon.configs[0] != daemon.configs[1], "the same config answers the first run's id"


def test_the_worker_learns_the_id_that_the_daemon_gave(fake: Callable[..., FakeDaemon]) -> None:
    done = run(proxy_command(fake().address, *python("print(os.environ['LTW_RUN_ID'])")))
    assert done.stdout.decode().strip() == GIVEN_ID


def test_what_a_worker_says_of_itself_is_told_to_the_daemon_once(fake: Callable[..., FakeDaemon]) -> None:
    daemon = fake()
    code = """
        say(type="run_started", config={"max_episodes": 7, "odd": "\\ud800"})
        say(type="run_started", config={"max_episodes": 8})
        step(0)
    """
    done = run(proxy_command(daemon.address, *python(code), run_id="r", name="n"))
    assert beside_the_end(done.stderr) == b""
    opened, told = daemon.configs
    assert "worker" not in opened["metadata"]
    assert told["metadata"].pop("worker") == {"config": {"max_episodes": 7, "odd": "\ud800"}}
    assert told == opened
    # One that cannot be kept is counted, and the run goes on without it.
    code = """
        say(type="run_started", config={"notes": "x" * 200_000})
        step(0)
    """
    daemon = fake()
    done = run(proxy_command(daemon.address, *python(code)))
    assert b"config_too_long 1" in done.stderr
    assert (len(daemon.configs), len(daemon.steps)) == (1, 1)


def test_what_is_no_event_passes_through_unchanged(fake: Callable[..., FakeDaemon]) -> None:
    daemon = fake()
    junk = [b"hello\r\n", b"\n", b"\xff\xfe not utf-8 \x00\n", b'{"type": "other"}\n', b'{"type": "step", \n', b"[1]\n"]
    code = f"""
        step(0); say(type="run_started", config={{}})
        for line in {junk!r}: sys.stdout.buffer.write(line); sys.stdout.buffer.flush(); step(1)
        sys.stderr.buffer.write(b"to \\xff stderr\\n")
        say(type="artifact", kind="policy", path="p")
        say(type="run_completed", status="completed")
        sys.stdout.write("the end, no newline")
    """
    done = run(proxy_command(daemon.address, *python(code)))
    assert done.stdout == b"".join(junk) + b"the end, no newline"
    said = beside_the_end(done.stderr).removeprefix(b"to \xff stderr\n").decode()
    assert "not_an_event 2" in said, "what begins as an event does and is none is counted"
    assert '{"type": "other"}' in said
    assert len(daemon.steps) == 1 + len(junk)


def test_a_line_torn_by_a_crash_passes_through_and_is_counted(fake: Callable[..., FakeDaemon]) -> None:
    daemon = fake()
    code = """sys.stdout.write('{"type": "step", "episode": 0, "ste'); sys.stdout.flush(); os.kill(os.getpid(), 9)"""
    done = run(proxy_command(daemon.address, *python("step(0)\n" + code)))
    assert done.returncode == 128 + signal.SIGKILL
    assert done.stdout == b'{"type": "step", "episode": 0, "ste'
    assert b"problems in the worker's output: torn_line 1" in done.stderr
    assert indices(daemon.steps) == [(0, 0)]
    assert daemon.finished == [(GIVEN_ID, telemetry_pb2.OUTCOME_FAILED, "the worker was killed by SIGKILL")]


def test_a_last_event_without_a_newline_is_an_event(fake: Callable[..., FakeDaemon]) -> None:
    daemon = fake()
    code = """sys.stdout.write('{"type": "step", "episode": 0, "step_index": 4, "reward": 1}')"""
    done = run(proxy_command(daemon.address, *python(code)))
    assert (done.returncode, done.stdout, beside_the_end(done.stderr)) == (0, b"", b"")
    assert indices(daemon.steps) == [(0, 4)]


def test_what_is_wrong_with_events_is_said_once_in_sum(fake: Callable[..., FakeDaemon]) -> None:
    daemon = fake()
    code = "step(-1)\nstep(0)\nstep('x')\nsay(type='step', episode=0, step_index=1, reward='much')"
    done = run(proxy_command(daemon.address, *python(code)))
    counts, *samples = beside_the_end(done.stderr).decode().splitlines()
    assert counts == "live-telemetry: problems in the worker's output: bad_index 2, bad_number 1"
    assert [sample.split(": ")[1].strip() for sample in samples] == ["the first bad_index", "the first bad_number"]
    assert indices(daemon.steps) == [(0, 0), (0, 1)]


COMPLETED, FAILED, CANCELLED = (
    telemetry_pb2.OUTCOME_COMPLETED,
    telemetry_pb2.OUTCOME_FAILED,
    telemetry_pb2.OUTCOME_CANCELLED,
)


@pytest.mark.parametrize(
    ("code", "exit_code", "outcome", "reason"),
    [
        ("", 0, COMPLETED, ""),
        ("say(type='run_completed', status='completed')", 0, COMPLETED, ""),
        ("say(type='run_completed', status='skipped', reason='done before')", 0, COMPLETED, ""),
        ("sys.exit(7)", 7, FAILED, "the worker exited with code 7"),
        ("say(type='run_completed', status='failed', error='no GPU'); sys.exit(1)", 1, FAILED, "no GPU"),
        ("say(type='run_completed', status='failed')", 0, FAILED, "the worker said that it failed"),
        ("say(type='run_completed', status='cancelled')", 0, CANCELLED, "the worker was interrupted"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, FAILED, "the worker was killed by SIGTERM"),
        ("os.kill(os.getpid(), 40)", 168, FAILED, "the worker was killed by signal 40"),
    ],
)
def test_how_the_run_ended(
    fake: Callable[..., FakeDaemon], code: str, exit_code: int, outcome: int, reason: str
) -> None:
    daemon = fake()
    done = run(proxy_command(daemon.address, *python(code), run_id="r"))
    assert (done.returncode, beside_the_end(done.stderr)) == (exit_code, b"")
    assert daemon.finished == [("r", outcome, reason)]


def test_a_command_that_is_not_there(fake: Callable[..., FakeDaemon]) -> None:
    daemon = fake()
    done = run(proxy_command(daemon.address, "/no/such/worker", run_id="r"))
    assert done.returncode == 127
    assert done.stderr.decode() == "live-telemetry: cannot start '/no/such/worker': No such file or directory\n"
    assert [(outcome, reason.partition(":")[0]) for _, outcome, reason in daemon.finished] == [
        (FAILED, "cannot start '/no/such/worker'")
    ]


def test_a_refused_run_does_not_start_the_worker(fake: Callable[..., FakeDaemon]) -> None:
    daemon = fake(OpenRun=Code.FAILED_PRECONDITION)
    done = run(proxy_command(daemon.address, *python("print('started')")))
    assert (done.returncode, done.stdout) == (69, b"")
    assert b"refuses the run: FAILED_PRECONDITION: as told" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_goes_to_the_workers_group(
    fake: Callable[..., FakeDaemon],
    processes: Callable[..., subprocess.Popen[bytes]],
    tmp_path: pathlib.Path,
    number: signal.Signals,
) -> None:
    daemon = fake()
    code = """
        child = subprocess.Popen([sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"],
                                 stdout=subprocess.PIPE)
        child.stdout.readline()
        def stop(number, _): print("got", number, flush=True); child.wait(); print("child", child.returncode); sys.exit(3)
        signal.signal(int(sys.argv[1]), stop)
        step(0)
        while True: signal.pause()
    """
    output = tmp_path / "out"
    with output.open("wb") as stdout:
        command = proxy_command(daemon.address, *python(code, str(int(number))))
        proxy = processes(command, stdout=stdout, stderr=subprocess.PIPE)
    wait_for(lambda: daemon.steps, "the first step")
    proxy.send_signal(number)
    assert proxy.wait(20) == 3
    lines = output.read_text().splitlines()
    # A child interrupted by SIGINT may get as far as Python's own way to die of it.
    assert lines[0] == f"got {int(number)}"
    assert re.fullmatch(rf"child (-{int(number)}|1)", lines[1])
    assert daemon.finished == [(GIVEN_ID, CANCELLED, "the worker was interrupted")]


def test_the_demo_worker_is_cancelled_by_ctrl_c(
    fake: Callable[..., FakeDaemon], processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    daemon = fake()
    worker = demo_command("--episodes", "1000000", "--delay", "0.001")
    proxy = processes(proxy_command(daemon.address, *worker), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: len(daemon.steps) > 50, "steps")
    proxy.send_signal(signal.SIGINT)
    stdout, stderr = proxy.communicate(timeout=20)
    assert (stdout, beside_the_end(stderr), proxy.returncode) == (b"", b"", 0)
    assert daemon.finished == [(GIVEN_ID, CANCELLED, "the worker was interrupted")]


def test_nothing_is_lost_when_the_daemon_goes_away_again_and_again(
    fake: Callable[..., FakeDaemon], processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    daemon = fake()
    code = """
        for i in range(3000):
            step(i % 10, episode=i // 10)
            if i % 10 == 9: say(type="episode", episode=i // 10, reward=10.0, steps=10)
            time.sleep(0.0005)
    """
    proxy = processes(proxy_command(daemon.address, *python(code)), stderr=subprocess.PIPE)
    for _ in range(3):
        seen = len(daemon.steps)
        wait_for(lambda seen=seen: len(daemon.steps) > seen + 50 or proxy.poll() is not None, "steps")
        daemon.stop()
        daemon.start()
    assert (beside_the_end(said(proxy)), proxy.returncode) == (b"", 0)
    first_seen = list(dict.fromkeys(indices(daemon.steps)))
    assert first_seen == [(i // 10, i % 10) for i in range(3000)]
    assert list(dict.fromkeys(message.episode_index for message in daemon.episodes)) == list(range(300))


def test_a_daemon_that_comes_back_without_the_run_is_told_of_it(
    fake: Callable[..., FakeDaemon], processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    daemon = fake("generation 2")
    code = "for i in range(2000): step(i); time.sleep(0.0005)"
    proxy = processes(proxy_command(daemon.address, *python(code)), stderr=subprocess.PIPE)
    wait_for(lambda: len(daemon.steps) > 20, "steps")
    daemon.stop()
    daemon.runs.clear()
    daemon.start()
    assert (beside_the_end(said(proxy)), proxy.returncode) == (b"", 0)
    assert list(dict.fromkeys(indices(daemon.steps))) == [(0, i) for i in range(2000)]
    assert daemon.runs == {GIVEN_ID}


def test_a_daemon_that_fails_on_episodes_gets_every_step(fake: Callable[..., FakeDaemon]) -> None:
    daemon = fake("generation 1", PublishRunEpisodes=Code.UNKNOWN)
    done = run(proxy_command(daemon.address, *replay_command(SAMPLE)))
    assert done.returncode == 0
    assert len(daemon.steps) == 750
    expected = (
        f"live-telemetry: 0 steps and 150 episodes could not be delivered to {daemon.address}: UNKNOWN: as told\n"
    )
    assert beside_the_end(done.stderr).decode() == expected


def test_a_daemon_that_stays_away_costs_the_worker_nothing_but_time_and_is_reported(
    fake: Callable[..., FakeDaemon],
    processes: Callable[..., subprocess.Popen[bytes]],
    tmp_path: pathlib.Path,
) -> None:
    daemon = fake()
    go = tmp_path / "go"
    # More than the proxy holds, so that the worker must wait for it at first: 30,000 steps.
    code = f"""
        step(0)
        while not os.path.exists({str(go)!r}): time.sleep(0.01)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        print("away", flush=True)
        for i in range(1, 30_000): step(i)
    """
    proxy = processes(
        impatient(daemon.address, python(code), drain_timeout=0.3), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for(lambda: daemon.steps, "the first step")
    daemon.stop()
    go.touch()
    assert proxy.stdout is not None
    assert proxy.stdout.readline() == b"away\n"
    # It waits now, or soon, on a pipe that nobody reads; telling it to end must end the proxy too, after its drain_timeout.
    proxy.send_signal(signal.SIGTERM)
    _, errors = proxy.communicate(timeout=30)
    assert proxy.returncode == 5
    lost = re.search(
        r"(\d+) steps and 0 episodes could not be delivered to 127.0.0.1:\d+: UNAVAILABLE", errors.decode()
    )
    assert lost is not None, errors
    assert 0 <= int(lost[1]) < 30_000
    assert b"the end of run r could not be told" in errors


def test_a_second_ctrl_c_stops_the_waiting_for_the_daemon(
    fake: Callable[..., FakeDaemon],
    processes: Callable[..., subprocess.Popen[bytes]],
    tmp_path: pathlib.Path,
) -> None:
    daemon = fake()
    go = tmp_path / "go"
    code = f"""
        step(0); print(os.getpid(), flush=True)
        while not os.path.exists({str(go)!r}): time.sleep(0.01)
        step(1)
    """
    proxy = processes(
        impatient(daemon.address, python(code), drain_timeout=300.0), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert proxy.stdout is not None
    worker = int(proxy.stdout.readline())
    wait_for(lambda: daemon.steps, "the first step")
    daemon.stop()
    go.touch()
    wait_for(lambda: not pathlib.Path(f"/proc/{worker}").exists(), "the worker's end")

    def interrupted() -> bool:
        # The proxy learns of the worker's end a moment after it, and until then a signal is the worker's: so more than one.
        proxy.send_signal(signal.SIGINT)
        return proxy.poll() is not None

    wait_for(interrupted, "the proxy's end", timeout=60)
    _, errors = proxy.communicate(timeout=10)
    # The first step may have been taken, yet not confirmed.
    assert re.search(rb"[12] steps and 0 episodes could not be delivered", errors), errors
    assert b"the end of run r could not be told" in errors


def test_a_grandchild_that_holds_the_pipe_does_not_hold_the_proxy(
    fake: Callable[..., FakeDaemon], tmp_path: pathlib.Path
) -> None:
    daemon = fake()
    pid_file = tmp_path / "pid"
    code = f"""
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], stderr=subprocess.DEVNULL)
        open({str(pid_file)!r}, "w").write(str(child.pid))
        step(0)
    """
    try:
        done = run(impatient(daemon.address, python(code), drain_timeout=2.0))
        assert done.returncode == 0
        assert indices(daemon.steps) == [(0, 0)]
        assert daemon.finished == [("r", COMPLETED, "")]
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_a_reader_that_goes_away_does_not_cost_the_run_its_telemetry(
    fake: Callable[..., FakeDaemon], processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    daemon = fake()
    code = """
        print("first", flush=True); sys.stdin.readline()
        for i in range(100): print("more", flush=True); step(i)
    """
    proxy = processes(
        proxy_command(daemon.address, *python(code)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert proxy.stdout is not None
    assert proxy.stdin is not None
    assert proxy.stderr is not None
    assert proxy.stdout.readline() == b"first\n"
    proxy.stdout.close()
    proxy.stdin.write(b"go\n")
    proxy.stdin.flush()
    assert proxy.wait(20) == 0
    assert b"output_closed 1" in proxy.stderr.read()
    assert len(daemon.steps) == 100


def test_a_proxy_that_is_killed_leaves_no_worker(
    fake: Callable[..., FakeDaemon], processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    daemon = fake()
    worker = demo_command("--episodes", "1000000", "--delay", "0.001")
    code = "print(os.getpid(), flush=True); os.execv(sys.argv[1], sys.argv[1:])"
    proxy = processes(proxy_command(daemon.address, *python(code, *worker)), stdout=subprocess.PIPE)
    assert proxy.stdout is not None
    pid = int(proxy.stdout.readline())
    wait_for(lambda: daemon.steps, "steps")
    proxy.kill()
    wait_for(lambda: not _runs(pid), "the worker's end")


def _runs(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_events_keep_their_order_across_what_is_between_them(fake: Callable[..., FakeDaemon]) -> None:
    daemon = fake()
    code = """
        for i in range(5000):
            step(i, pad="x" * (i % 700), epsilon=i / 2)
            if i % 100 == 0: print("junk", i)
    """
    done = run(proxy_command(daemon.address, *python(code)))
    assert done.stdout.decode().split("\n") == [f"junk {i}" for i in range(0, 5000, 100)] + [""]
    assert indices(daemon.steps) == [(0, i) for i in range(5000)]
    assert [json.loads(message.extras_json)["epsilon"] for message in daemon.steps] == [i / 2 for i in range(5000)]
    counts = collections.Counter(daemon.calls)
    assert counts["OpenRun"] == counts["FinishRun"] == 1
