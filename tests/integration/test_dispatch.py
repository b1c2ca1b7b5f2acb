"""Runs whose workers the daemon starts: submitted, seen through their states, cancelled, timed out, found again after a crash."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from live_telemetry_widget.daemon import processes
from live_telemetry_widget.proto import trainer_pb2 as wire
from tests.conftest import wait_for
from tests.integration.test_daemon import CONFIG, LIMIT, Code, DaemonProcess, refused, take, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Start = "Callable[..., DaemonProcess]"
STATES = {getattr(wire, name): name.removeprefix("RUN_STATUS_") for name in wire.RunStatus.keys()}  # noqa: SIM118 - no dict

HEAD = """
    import json, os, pathlib, signal, subprocess, sys, time
    def say(**event): print(json.dumps(event), flush=True)
    def step(i, episode=0, **more): say(type="step", episode=episode, step_index=i, reward=1.0, **more)
    def for_ever():
        while True: time.sleep(60)
"""


def config(code: str, *arguments: str, **changes: Any) -> dict[str, Any]:
    """Return the config of a worker that is some lines of Python."""
    command = ["-c", textwrap.dedent(HEAD) + textwrap.dedent(code), *arguments]
    return {**CONFIG, "entry_point": sys.executable, "arguments": command, **changes}


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Callable[..., DaemonProcess]]:
    """Return a function that starts a daemon on the test's data directory; all that it leaves is ended with the test."""
    started: list[DaemonProcess] = []

    def begin(*options: str, data_dir: pathlib.Path = tmp_path / "data") -> DaemonProcess:
        started.append(DaemonProcess(data_dir, "--grace", "2", *options))
        return started[-1]

    yield begin
    for daemon in started:
        daemon.end(signal.SIGKILL)
    # Named after the mark.
    marks = [path.stem for path in tmp_path.glob("*/workers/*.json")]
    for mark in marks:
        for process in processes.family(mark):
            processes.send(process, signal.SIGKILL)


@pytest.fixture
def daemon(start: Start) -> DaemonProcess:
    return start()


def submit(daemon: DaemonProcess, what: dict[str, Any], run_id: str = "") -> str:
    request = wire.SubmitRunRequest(run_id=run_id, config_json=json.dumps(what))
    answer = daemon.trainer.SubmitRun(request, timeout=LIMIT)
    assert len(answer.digest) == 64
    return str(answer.run_id)


def cancel(daemon: DaemonProcess, run_id: str) -> None:
    daemon.trainer.CancelRun(wire.CancelRunRequest(run_id=run_id), timeout=LIMIT)


def state(daemon: DaemonProcess, run_id: str) -> str:
    return STATES[daemon.record(run_id).status]


def ended(daemon: DaemonProcess, run_id: str) -> tuple[str, str]:
    """Wait for a run's end; return its state and reason."""
    until(lambda: state(daemon, run_id) in {"FAULT", "TERM"})
    record = daemon.record(run_id)
    return STATES[record.status], record.failure_reason


def number_in(path: pathlib.Path) -> int:
    """Wait for a file that holds a process id; return it."""
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def gone(pid: int) -> bool:
    return processes.find(pid) is None


def log_of(tmp_path: pathlib.Path, run_id: str) -> str:
    return (tmp_path / "data" / "logs" / f"{run_id}.log").read_text()


def records(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    return list((tmp_path / "data" / "workers").glob("*.json"))


# -- what a worker gets, and what becomes of what it says --------------------------------------------------------------


def test_a_submitted_worker_runs_to_its_end_through_every_state(daemon: DaemonProcess, tmp_path: pathlib.Path) -> None:
    watch = daemon.trainer.WatchRuns(wire.WatchRunsRequest(), timeout=2 * LIMIT)
    code = """
        print("hello", sys.argv[1:], os.environ["A"], os.environ["LTW_RUN_ID"], os.environ["OMP_NUM_THREADS"])
        for i in range(50): step(i)
        say(type="episode", episode=0, reward=50.0, steps=50)
        print("to standard error", file=sys.stderr)
    """
    worker = {"agent_id": "a", "worker_id": "w", "config": {}}
    what = config(code, "one", "two words", environment={"A": "b"}, metadata={"worker": worker})
    what["resources"] = {"cpus": 3, "memory_mb": 256}
    run_id = submit(daemon, what)
    seen = [STATES[record.status] for record in take_until_end(watch, run_id)]
    assert list(dict.fromkeys(seen)) == ["INIT", "HSHK", "RDY", "EXEC", "TERM"]
    assert ended(daemon, run_id) == ("TERM", "")
    steps = take(daemon.steps(run_id=run_id), 50)
    assert [(s.step_index, s.agent_id, s.worker_id) for s in steps] == [(i, "a", "w") for i in range(50)]
    assert daemon.describe(run_id).last_episode_seq == 1
    log = log_of(tmp_path, run_id)
    assert f"hello ['one', 'two words'] b {run_id} 3\n" in log
    assert "to standard error\n" in log
    until(lambda: not records(tmp_path))
    # The same config is the same run, which is over and does not begin again.
    assert submit(daemon, what) == run_id
    assert not records(tmp_path)


def take_until_end(watch: Any, run_id: str) -> list[Any]:
    found = []
    for record in watch:
        if record.run_id == run_id:
            found.append(record)
            if record.status in {wire.RUN_STATUS_FAULT, wire.RUN_STATUS_TERM}:
                break
    watch.cancel()
    return found


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("sys.exit(3)", ("TERM", "the worker exited with code 3")),
        ("say(type='run_completed', status='failed', error='no luck')", ("TERM", "no luck")),
        ("os.kill(os.getpid(), 9)", ("TERM", "the worker was killed by SIGKILL")),
    ],
)
def test_how_a_worker_ends_is_how_its_run_ends(daemon: DaemonProcess, code: str, end: tuple[str, str]) -> None:
    assert ended(daemon, submit(daemon, config(code))) == end


def test_a_command_that_is_not_there_is_a_failed_run_that_says_so(daemon: DaemonProcess) -> None:
    _, reason = ended(daemon, submit(daemon, {**CONFIG, "entry_point": "/no/such/program"}))
    assert reason == "cannot start '/no/such/program': No such file or directory"


def test_the_same_config_submitted_at_once_by_many_is_one_worker(daemon: DaemonProcess, tmp_path: pathlib.Path) -> None:
    code = f"open({str(tmp_path / 'started')!r}, 'a').write('x'); step(0)"
    request = wire.SubmitRunRequest(config_json=json.dumps(config(code)))
    calls = [daemon.trainer.SubmitRun.future(request, timeout=LIMIT) for _ in range(8)]
    assert len({call.result().run_id for call in calls}) == 1
    ended(daemon, calls[0].result().run_id)
    assert (tmp_path / "started").read_text() == "x"


def test_the_environment_is_the_workers_and_not_the_proxys(daemon: DaemonProcess, tmp_path: pathlib.Path) -> None:
    (tmp_path / "grpc.py").write_text("raise SystemExit('not the real one')")
    run_id = submit(
        daemon, config("step(0); print(os.environ['PYTHONPATH'])", environment={"PYTHONPATH": str(tmp_path)})
    )
    assert ended(daemon, run_id) == ("TERM", "")
    assert str(tmp_path) in log_of(tmp_path, run_id)


def test_python_is_found_on_a_machine_that_has_none_on_its_path(daemon: DaemonProcess) -> None:
    what = config("step(0)", "-x", "--", run_name="--name", entry_point=pathlib.Path(sys.executable).name)
    assert ended(daemon, submit(daemon, what)) == ("TERM", "")


def test_output_that_nobody_wants_is_kept_when_the_run_fails(daemon: DaemonProcess, tmp_path: pathlib.Path) -> None:
    artifacts = {"output_prefix": "x", "persist_logs": False, "keep_checkpoints": False}
    well = submit(daemon, config("print('well')", artifacts=artifacts))
    ill = submit(daemon, config("print('ill'); sys.exit(1)", artifacts=artifacts))
    for run_id in (well, ill):
        ended(daemon, run_id)
    until(lambda: not records(tmp_path))
    assert [path.stem for path in (tmp_path / "data" / "logs").iterdir()] == [ill]


def test_gpus_are_given_out_and_come_back(start: Start) -> None:
    daemon = start("--gpus", "2")
    hold = "step(0, gpus=os.environ['CUDA_VISIBLE_DEVICES']); for_ever()"

    def asking(count: int, name: str, *, mandatory: bool) -> dict[str, Any]:
        gpus = {"requested": count, "mandatory": mandatory}
        return config(hold, run_name=name, resources={"cpus": 1, "memory_mb": 256, "gpus": gpus})

    first = submit(daemon, asking(2, "first", mandatory=True))
    assert list(daemon.record(first).gpu_slots) == [0, 1]
    assert json.loads(take(daemon.steps(run_id=first), 1)[0].extras_json) == {"gpus": "0,1"}
    assert refused(lambda: submit(daemon, asking(1, "second", mandatory=True))) == Code.RESOURCE_EXHAUSTED
    assert refused(lambda: submit(daemon, asking(3, "too many", mandatory=True))) == Code.FAILED_PRECONDITION
    third = submit(daemon, asking(1, "third", mandatory=False))
    assert json.loads(take(daemon.steps(run_id=third), 1)[0].extras_json) == {"gpus": ""}
    cancel(daemon, first)
    ended(daemon, first)
    until(lambda: not daemon.record(first).gpu_slots)
    assert list(daemon.record(submit(daemon, asking(1, "second", mandatory=True))).gpu_slots) == [0]


# -- cancelling --------------------------------------------------------------------------------------------------------


def test_a_cancelled_worker_ends_with_its_children_and_its_last_words_are_kept(
    daemon: DaemonProcess, tmp_path: pathlib.Path
) -> None:
    code = f"""
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pathlib.Path({str(tmp_path / "child")!r}).write_text(f"{{child.pid}}\\n")
        def stop(*_): step(1); sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        step(0); for_ever()
    """
    run_id = submit(daemon, config(code))
    child = number_in(tmp_path / "child")
    until(lambda: state(daemon, run_id) == "EXEC")
    cancel(daemon, run_id)
    cancel(daemon, run_id)
    assert ended(daemon, run_id) == ("TERM", "cancelled by request")
    assert daemon.describe(run_id).last_step_seq == 2
    assert gone(child)
    cancel(daemon, run_id)


def test_a_worker_that_does_not_heed_sigterm_is_killed_with_its_children(
    daemon: DaemonProcess, tmp_path: pathlib.Path
) -> None:
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    code = f"""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", {ignore!r}], stdout=subprocess.PIPE, start_new_session=True)
        child.stdout.readline()
        pathlib.Path({str(tmp_path / "child")!r}).write_text(f"{{child.pid}}\\n")
        pathlib.Path({str(tmp_path / "worker")!r}).write_text(f"{{os.getpid()}}\\n")
        step(0); for_ever()
    """
    run_id = submit(daemon, config(code))
    pids = [number_in(tmp_path / name) for name in ("worker", "child")]
    cancel(daemon, run_id)
    assert ended(daemon, run_id) == ("TERM", "cancelled by request")
    # The child has left the worker's group, so only the mark in its environment tells whose it is.
    until(lambda: all(gone(pid) for pid in pids))


def test_a_proxy_that_hangs_does_not_save_its_worker(daemon: DaemonProcess, tmp_path: pathlib.Path) -> None:
    code = f"pathlib.Path({str(tmp_path / 'worker')!r}).write_text(f'{{os.getpid()}}\\n'); step(0); for_ever()"
    run_id = submit(daemon, config(code))
    worker = number_in(tmp_path / "worker")
    until(lambda: state(daemon, run_id) == "EXEC")
    proxy = json.loads(records(tmp_path)[0].read_text())["pid"]
    os.kill(proxy, signal.SIGSTOP)
    cancel(daemon, run_id)
    assert ended(daemon, run_id) == ("TERM", "cancelled by request")
    assert gone(worker)
    assert gone(proxy)


def test_a_run_is_cancelled_before_it_has_begun(daemon: DaemonProcess) -> None:
    run_id = submit(daemon, config("step(0); for_ever()"))
    cancel(daemon, run_id)
    assert ended(daemon, run_id) == ("TERM", "cancelled by request")


def test_a_run_ends_when_its_time_is_over(daemon: DaemonProcess) -> None:
    run_id = submit(daemon, config("step(0); for_ever()", schedule={"max_duration_seconds": 1.5}))
    assert ended(daemon, run_id) == ("TERM", "cancelled: its max_duration_seconds of 1.5 are over")


def test_a_worker_under_a_proxy_that_a_person_started_is_cancelled_too(
    daemon: DaemonProcess, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    command = [sys.executable, "-m", "live_telemetry_widget", "run", "--daemon", daemon.address, "--run-id", "r"]
    code = config("signal.signal(signal.SIGTERM, signal.SIG_IGN); step(0); for_ever()")["arguments"]
    proxy = processes([*command, "--grace", "0.5", "--", sys.executable, *code])
    until(lambda: daemon.trainer.ListRuns(wire.ListRunsRequest(), timeout=LIMIT).runs)
    until(lambda: state(daemon, "r") == "EXEC")
    until(lambda: "listens for control" in daemon.errors.read_text())
    cancel(daemon, "r")
    assert proxy.wait(LIMIT) == 128 + signal.SIGKILL
    assert ended(daemon, "r") == ("TERM", "cancelled by request")


def test_what_is_left_to_deliver_is_delivered_though_the_run_is_cancelled_meanwhile(
    start: Start, tmp_path: pathlib.Path
) -> None:
    daemon = start("--keep-workers")
    pid = tmp_path / "worker"
    code = f"""
        step(0)
        pathlib.Path({str(pid)!r}).write_text(f"{{os.getpid()}}\\n")
        while not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.01)
        for i in range(1, 2000): step(i)
    """
    run_id = submit(daemon, config(code))
    worker = number_in(pid)
    until(lambda: state(daemon, run_id) == "EXEC")
    daemon.end(signal.SIGKILL)
    (tmp_path / "go").touch()
    until(lambda: gone(worker))
    daemon = start("--listen", daemon.address)
    cancel(daemon, run_id)
    ended(daemon, run_id)
    numbers = {s.step_index for s in take(daemon.steps(run_id=run_id), daemon.describe(run_id).last_step_seq)}
    assert numbers == set(range(2000))


def test_a_proxy_waits_for_a_daemon_that_died_while_it_started(
    start: Start, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    daemon = start()
    daemon.end(signal.SIGKILL)
    command = [sys.executable, "-m", "live_telemetry_widget", "run", "--daemon", daemon.address, "--run-id=r"]
    proxy = processes([*command, "--away-timeout=60", "--", sys.executable, *config("step(0)")["arguments"]])
    # It asks for the first time some tenths of a second after this.
    daemon = start("--listen", daemon.address)
    assert proxy.wait(LIMIT) == 0
    assert ended(daemon, "r") == ("TERM", "")


def test_a_worker_whose_daemon_stays_away_is_not_left_for_ever(
    daemon: DaemonProcess, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    command = [sys.executable, "-m", "live_telemetry_widget", "run", "--daemon", daemon.address, "--heartbeat", "0.1"]
    command += ["--away-timeout", "0.5", "--drain-timeout", "0.5", "--", sys.executable]
    proxy = processes([*command, *config("step(0); for_ever()")["arguments"]], stderr=subprocess.DEVNULL)
    until(lambda: daemon.trainer.ListRuns(wire.ListRunsRequest(status_filter=[4]), timeout=LIMIT).runs)
    daemon.end(signal.SIGKILL)
    assert proxy.wait(LIMIT) == 128 + signal.SIGTERM


def test_a_proxy_whose_output_nobody_reads_lives_and_delivers_when_somebody_does(
    daemon: DaemonProcess, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    command = [sys.executable, "-m", "live_telemetry_widget", "run", "--daemon", daemon.address, "--heartbeat", "0.1"]
    # More than a pipe holds, as in `live-telemetry run ... | less`.
    code = "step(0)\nfor _ in range(100): print('x' * 9_999, flush=True)\nstep(1)"
    proxy = processes(
        [*command, "--run-id", "r", "--", sys.executable, *config(code)["arguments"]],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    beats: set[int] = set()

    def beaten() -> bool:
        if daemon.trainer.ListRuns(wire.ListRunsRequest(), timeout=LIMIT).runs:
            beats.add(daemon.record("r").last_heartbeat.ToNanoseconds())
        return len(beats) > 5

    until(beaten)
    assert proxy.poll() is None
    out, _ = proxy.communicate(timeout=LIMIT)
    assert len(out) == 1_000_000
    assert proxy.returncode == 0
    assert ended(daemon, "r") == ("TERM", "")


# -- silence -----------------------------------------------------------------------------------------------------------


def test_a_dispatched_run_whose_proxy_is_silent_is_a_fault_and_is_ended(start: Start, tmp_path: pathlib.Path) -> None:
    daemon = start("--heartbeat-timeout", "2")
    code = f"pathlib.Path({str(tmp_path / 'worker')!r}).write_text(f'{{os.getpid()}}\\n'); step(0); for_ever()"
    run_id = submit(daemon, config(code))
    worker = number_in(tmp_path / "worker")
    until(lambda: daemon.record(run_id).HasField("last_heartbeat"))
    os.kill(json.loads(records(tmp_path)[0].read_text())["pid"], signal.SIGSTOP)
    status, reason = ended(daemon, run_id)
    assert status == "FAULT"
    assert "no sign of life" in reason
    until(lambda: gone(worker) and not records(tmp_path))


def test_heartbeats_keep_a_run_that_makes_no_steps(start: Start) -> None:
    daemon = start("--heartbeat-timeout", "4")
    slow = submit(daemon, config("step(0); time.sleep(8); step(1)"))
    assert ended(daemon, slow) == ("TERM", "")


def test_a_proxy_that_never_beats_has_more_time(start: Start) -> None:
    daemon = start("--heartbeat-timeout", "1", "--silence-timeout", "4")
    for name in ("beats", "never beats", "never begins"):
        daemon.open_run(name)
    for name in ("beats", "never beats"):
        daemon.publish([wire.RunStep(run_id=name)])
    daemon.trainer.Heartbeat(wire.HeartbeatRequest(run_id="beats"), timeout=LIMIT)
    assert ended(daemon, "beats")[0] == "FAULT"
    assert state(daemon, "never beats") == "EXEC"
    assert ended(daemon, "never beats")[0] == "FAULT"
    assert state(daemon, "never begins") == "INIT"


# -- a daemon's end, and the next one ----------------------------------------------------------------------------------


def test_a_killed_proxy_leaves_no_worker_and_a_fault(daemon: DaemonProcess, tmp_path: pathlib.Path) -> None:
    # It prints nothing, so that no broken pipe ends it.
    code = f"pathlib.Path({str(tmp_path / 'worker')!r}).write_text(f'{{os.getpid()}}\\n'); for_ever()"
    run_id = submit(daemon, config(code))
    worker = number_in(tmp_path / "worker")
    os.kill(json.loads(records(tmp_path)[0].read_text())["pid"], signal.SIGKILL)
    assert ended(daemon, run_id) == ("FAULT", "its proxy was killed by signal 9")
    assert gone(worker)


def port_of(daemon: DaemonProcess) -> str:
    return daemon.address.rpartition(":")[2]


STEPPING = "for i in range(1_000_000): step(i); time.sleep(0.002)"


def test_a_worker_goes_on_under_the_next_daemon(start: Start, tmp_path: pathlib.Path) -> None:
    daemon = start()
    code = f"""
        for i in range(3000):
            step(i); time.sleep(0.002)
            if i > 50 and os.path.exists({str(tmp_path / "enough")!r}): break
        sys.exit(4)
    """
    run_id = submit(daemon, config(code))
    until(lambda: daemon.describe(run_id).last_step_seq > 20)
    daemon.end(signal.SIGKILL)
    daemon = start("--listen", daemon.address)
    before = daemon.describe(run_id).last_step_seq
    until(lambda: daemon.describe(run_id).last_step_seq > before + 50)
    (tmp_path / "enough").touch()
    assert ended(daemon, run_id) == ("TERM", "the worker exited with code 4")
    numbers = [s.step_index for s in take(daemon.steps(run_id=run_id), daemon.describe(run_id).last_step_seq)]
    # What was on its way when the daemon died comes twice; nothing is missing.
    assert list(dict.fromkeys(numbers)) == list(range(max(numbers) + 1))
    until(lambda: not records(tmp_path))


def test_a_run_whose_worker_ended_while_no_daemon_was_there_is_settled(start: Start, tmp_path: pathlib.Path) -> None:
    daemon = start()
    code = f"pathlib.Path({str(tmp_path / 'worker')!r}).write_text(f'{{os.getpid()}}\\n'); step(0); for_ever()"
    run_id = submit(daemon, config(code))
    worker = number_in(tmp_path / "worker")
    until(lambda: state(daemon, run_id) == "EXEC")
    daemon.end(signal.SIGKILL)
    proxy = json.loads(records(tmp_path)[0].read_text())["pid"]
    os.kill(proxy, signal.SIGKILL)
    until(lambda: gone(proxy))
    daemon = start()
    assert ended(daemon, run_id) == ("FAULT", "its worker ended while no daemon was there to be told how")
    until(lambda: gone(worker) and not records(tmp_path))


def test_a_worker_that_publishes_to_an_address_of_old_is_ended(start: Start, tmp_path: pathlib.Path) -> None:
    daemon = start()
    run_id = submit(daemon, config(STEPPING))
    until(lambda: state(daemon, run_id) == "EXEC")
    daemon.end(signal.SIGKILL)
    proxy = json.loads(records(tmp_path)[0].read_text())["pid"]
    holder = start(data_dir=tmp_path / "other")
    daemon = start()
    assert daemon.address != holder.address
    status, reason = ended(daemon, run_id)
    assert status == "FAULT"
    assert "where this daemon does not listen" in reason
    assert gone(proxy)


def test_a_process_that_has_got_the_number_of_a_worker_is_left_alone(
    start: Start, tmp_path: pathlib.Path, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    daemon = start()
    run_id = submit(daemon, config(STEPPING))
    until(lambda: state(daemon, run_id) == "EXEC")
    daemon.end(signal.SIGKILL)
    (path,) = records(tmp_path)
    record = json.loads(path.read_text())
    stranger = processes([sys.executable, "-c", "import time; time.sleep(600)"])
    # The record as it would read if the proxy had ended, and the system had given its number to a stranger.
    path.write_text(json.dumps({**record, "pid": stranger.pid}))
    os.kill(record["pid"], signal.SIGKILL)
    daemon = start()
    assert ended(daemon, run_id)[0] == "FAULT"
    until(lambda: not records(tmp_path))
    assert stranger.poll() is None


def test_a_record_that_cannot_be_read_keeps_no_daemon_from_starting(start: Start, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "data" / "workers"
    folder.mkdir(parents=True)
    (folder / "broken.json").write_text("{")
    (folder / "old.json").write_text('{"run_id": "gone", "mark": "none", "address": "", "gpus": [], "pid": 0}')
    daemon = start()
    until(lambda: [path.name for path in records(tmp_path)] == ["broken.json"])
    assert "broken.json is no record" in daemon.errors.read_text()


def test_a_run_of_which_a_crash_left_only_the_intention_is_settled(start: Start, tmp_path: pathlib.Path) -> None:
    daemon = start("--dispatch", "never")
    run_id = submit(daemon, config("step(0)"))
    daemon.end(signal.SIGKILL)
    record = {"run_id": run_id, "mark": "m", "address": "", "gpus": [], "pid": 0, "started": ""}
    folder = tmp_path / "data" / "workers"
    folder.mkdir()
    (folder / "m.json").write_text(json.dumps(record))
    assert ended(start(), run_id) == ("FAULT", "the daemon ended while it was starting the worker")
    until(lambda: not records(tmp_path))


def test_a_taken_run_id_is_refused_and_harms_nobody(daemon: DaemonProcess, tmp_path: pathlib.Path) -> None:
    submit(daemon, config(STEPPING), "mine")
    until(lambda: state(daemon, "mine") == "EXEC")
    assert refused(lambda: submit(daemon, config("step(0)"), "mine")) == Code.ALREADY_EXISTS
    assert len(records(tmp_path)) == 1
    cancel(daemon, "mine")
    assert ended(daemon, "mine") == ("TERM", "cancelled by request")


def test_workers_end_with_a_daemon_whose_parent_is_gone(start: Start) -> None:
    daemon = start()
    run_id = submit(daemon, config(STEPPING))
    until(lambda: state(daemon, run_id) == "EXEC")
    daemon.process.stdin.close()
    assert daemon.process.wait(LIMIT) == 0
    assert ended(start(), run_id) == ("TERM", "cancelled: the daemon was stopped")


@pytest.mark.parametrize("listens", [True, False])
def test_sigterm_ends_the_workers_and_keeps_what_they_said(start: Start, *, listens: bool) -> None:
    daemon = start()
    heed = "def stop(*_): step(999); sys.exit(0)\nsignal.signal(signal.SIGTERM, stop)\n"
    code = (heed if listens else "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n") + "step(0); for_ever()"
    run_id = submit(daemon, config(code))
    until(lambda: state(daemon, run_id) == "EXEC")
    assert daemon.end() == 0
    daemon = start()
    assert ended(daemon, run_id) == ("TERM", "cancelled: the daemon was stopped")
    assert daemon.describe(run_id).last_step_seq == (2 if listens else 1)


def test_workers_that_are_kept_go_on_under_the_next_daemon(start: Start) -> None:
    daemon = start("--keep-workers")
    run_id = submit(daemon, config(STEPPING))
    until(lambda: daemon.describe(run_id).last_step_seq > 20)
    assert daemon.end() == 0
    daemon = start("--listen", daemon.address)
    before = daemon.describe(run_id).last_step_seq
    until(lambda: daemon.describe(run_id).last_step_seq > before + 50)
    assert state(daemon, run_id) == "EXEC"
    cancel(daemon, run_id)
    assert ended(daemon, run_id) == ("TERM", "cancelled by request")


# -- who may -----------------------------------------------------------------------------------------------------------


def test_a_call_that_does_not_come_from_this_machine_may_not_start_commands(
    start: Start, tmp_path: pathlib.Path
) -> None:
    address = other_address()
    strict = start("--listen", "0.0.0.0:0")
    open_ = start("--listen", "0.0.0.0:0", "--dispatch", "anyone", data_dir=tmp_path / "open")
    for daemon, allowed in ((strict, False), (open_, True)):
        local = config("step(0)", run_name="local")
        with grpc.insecure_channel(f"127.0.0.1:{port_of(daemon)}") as channel:
            daemon.trainer = type(daemon.trainer)(channel)
            assert ended(daemon, submit(daemon, local)) == ("TERM", "")
        with grpc.insecure_channel(f"{address}:{port_of(daemon)}") as channel:
            daemon.trainer = type(daemon.trainer)(channel)
            if allowed:
                assert ended(daemon, submit(daemon, config("step(0)", run_name="remote"))) == ("TERM", "")
            else:
                remote = config("step(0)", run_name="remote")
                assert refused(functools.partial(submit, daemon, remote)) == Code.PERMISSION_DENIED
                # What is there already is answered to anybody.
                submit(daemon, local)
    assert "run any command" in open_.errors.read_text()


def other_address() -> str:
    """Return an address of this machine that is not a loopback one."""
    import socket  # noqa: PLC0415 - for this alone

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
    pytest.skip("this machine has no address but loopback")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can be two users")
def test_another_user_of_this_machine_may_not_start_commands(daemon: DaemonProcess) -> None:
    code = """
        import os, sys, grpc
        from live_telemetry_widget.proto import trainer_pb2 as wire, trainer_pb2_grpc
        os.setuid(65534)
        stub = trainer_pb2_grpc.TrainerServiceStub(grpc.insecure_channel(sys.argv[1]))
        try: stub.SubmitRun(wire.SubmitRunRequest(config_json=sys.argv[2]), timeout=30)
        except grpc.RpcError as error: print(error.code().name, error.details())
    """
    command = [sys.executable, "-c", textwrap.dedent(code), daemon.address, json.dumps(config("step(0)"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
    assert done.stdout.startswith("PERMISSION_DENIED")
    assert "the caller is user 65534 of this machine, the daemon's is 0" in done.stdout
    wait_for(lambda: not daemon.trainer.ListRuns(wire.ListRunsRequest(), timeout=LIMIT).runs, "no run")
