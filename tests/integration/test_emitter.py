"""The emitter in real training processes, at real daemons that come and go."""

from __future__ import annotations

import collections
import json
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.worker.emitter import Emitter
from tests.conftest import wait_for

if TYPE_CHECKING:
    import pathlib

Start = "Callable[..., subprocess.Popen[bytes]]"


def free_address() -> str:
    """Return an address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def recorded(address: str, run_id: str) -> ltw.Run:
    """Return a run whose end has been seen, everything here."""
    client = ltw.connect(address)
    run = client.run(run_id)
    run.wait(60)
    client.close()
    return run


def left_in(spool: pathlib.Path) -> list[str]:
    return sorted(path.name for path in spool.iterdir()) if spool.exists() else []


def script(body: str, *arguments: str) -> list[str]:
    """Return the command of a training program that has `ltw`, `sys` and its arguments as `args`."""
    code = "import os, signal, sys, time, live_telemetry_widget as ltw\nargs = sys.argv[1:]\n" + textwrap.dedent(body)
    return [sys.executable, "-c", code, *arguments]


# -- what is told ------------------------------------------------------------------------------------------------------


def test_steps_and_episodes_arrive_as_they_were_told(daemon: ltw.Server, emitter: Emitter) -> None:
    for episode in range(3):
        for t in range(4):
            last = t == 3
            emitter.step(t, 0.5 * t, [episode, t], last, epsilon=0.1 * episode, note="é")
        emitter.episode(success=episode == 2)
    assert emitter.flush()
    assert emitter.close()
    run = recorded(daemon.address, emitter.run_id)
    steps, episodes = run.steps, run.episodes
    assert steps["episode"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert steps["step_index"].tolist() == [0, 1, 2, 3] * 3
    assert steps["observation"].tolist()[5] == "[1,1]"
    assert steps["epsilon"].tolist()[-1] == pytest.approx(0.2)
    assert set(steps["note"]) == {"é"}
    assert steps["timestamp"].is_monotonic_increasing
    assert episodes["total_reward"].tolist() == [3.0, 3.0, 3.0]
    assert episodes["steps"].tolist() == [4, 4, 4]
    assert episodes["success"].tolist() == [False, False, True]
    assert run.status == "completed"
    assert run.problems.empty


def test_an_array_is_told_as_it_was_at_its_step(daemon: ltw.Server, emitter: Emitter) -> None:
    position = np.zeros(2, np.float32)
    nested = {"at": [0]}
    for t in range(3):
        position[0], nested["at"][0] = t, t
        emitter.step(np.int64(t), np.float32(0.5), position, observed=nested, norm=np.float64(t))
    position[:] = -1
    emitter.close()
    steps = recorded(daemon.address, emitter.run_id).steps
    assert [json.loads(text) for text in steps["observation"]] == [[0, 0], [1, 0], [2, 0]]
    assert [json.loads(text) for text in steps["observed"]] == [{"at": [0]}, {"at": [1]}, {"at": [2]}]
    assert steps["norm"].tolist() == [0.0, 1.0, 2.0]
    assert steps["action"].astype(int).tolist() == [0, 1, 2]


def test_agents_are_counted_apart_and_may_count_themselves(daemon: ltw.Server, emitter: Emitter) -> None:
    emitter.step(0, 1.0, agent_id="a")
    emitter.step(0, 2.0, agent_id="b", terminated=True)
    emitter.step(0, 3.0, agent_id="a", truncated=True)
    emitter.step(0, 4.0, agent_id="b", episode=40, step_index=7)
    emitter.episode(agent_id="b", terminated=True)
    emitter.episode(10.0, 5, agent_id="c")
    emitter.episode(11.0, 6, agent_id="c")
    emitter.close()
    run = recorded(daemon.address, emitter.run_id)
    seen = run.steps[["agent_id", "episode", "step_index"]].astype({"agent_id": str}).values.tolist()
    assert sorted(seen) == [["a", 0, 0], ["a", 0, 1], ["b", 0, 0], ["b", 40, 7]]
    told = run.episodes.set_index(["agent_id", "episode"])["total_reward"].to_dict()
    assert told == {("a", 0): 4.0, ("b", 0): 2.0, ("b", 40): 4.0, ("c", 0): 10.0, ("c", 1): 11.0}


def test_what_cannot_be_told_is_counted_and_the_rest_arrives(daemon: ltw.Server, emitter: Emitter) -> None:
    circle: list[Any] = []
    circle.append(circle)
    odd: list[dict[str, Any]] = [
        {"reward": "no number"},
        {"reward": None},
        {"observation": {(1, 2): 3}},
        {"observation": "\ud800"},
        {"episode": -1},
        {"big": 2**70},
        {"observation": object()},
        {"render_payload": {"mode": "grid"}, "observation": float("nan")},
    ]
    for fields in odd:
        emitter.step(**fields)
    emitter.step(observation=1)
    emitter.close()
    run = recorded(daemon.address, emitter.run_id)
    assert len(run.steps) == len(odd)  # all but the one with a number that is none
    kinds = set(emitter.stats.problems)
    assert {"bad_number", "not_json", "bad_text", "bad_index", "integer_too_large"} <= kinds
    assert run.steps["render_payload"].tolist()[-2] == '{"mode":"grid"}'
    assert emitter.stats.steps == len(odd)
    # The two rewards that are none, on the wire of batches, on which nobody looks at single rows.
    assert run.problems.set_index("kind")["count"]["not_finite"] == 2


# -- daemons that come and go ------------------------------------------------------------------------------------------


def test_a_daemon_that_is_killed_and_comes_back_has_every_step_once(
    tmp_path: pathlib.Path, spool: pathlib.Path
) -> None:
    """The training loop goes on meanwhile; in the end the daemon's log has what was told, in order, without doubles."""
    address, length = free_address(), 200
    server = ltw.serve(tmp_path / "data", address)
    emitter = Emitter(address, spool_dir=spool, worker_id="w")
    told = 0

    def tell(number: int) -> None:
        nonlocal told
        for _ in range(number):
            emitter.step(told % 4, 1.0, told, told % length == length - 1)
            told += 1

    try:
        for kill in range(3):
            tell(10 * length)
            wait_for(lambda: emitter.stats.confirmed_steps > kill * 20 * length, "some steps confirmed")  # noqa: B023 - called at once
            os.kill(server.pid, signal.SIGKILL)
            tell(10 * length)
            server.stop()
            server = ltw.serve(tmp_path / "data", address)
        tell(10 * length)
        assert emitter.flush(60)
        assert emitter.stats.confirmed_steps == told
        assert emitter.close(timeout=30)
        run = recorded(address, emitter.run_id)
        assert run.steps["observation"].astype(int).tolist() == list(range(told))
        assert run.steps["seq_id"].tolist() == list(range(1, told + 1))
        assert len(run.episodes) == told // length
        assert set(run.episodes["steps"]) == {length}
        assert run.problems.empty
        assert left_in(spool) == []
    finally:
        emitter.close(timeout=0)
        server.stop()


def test_what_a_killed_training_process_left_is_delivered_by_the_next(
    tmp_path: pathlib.Path, spool: pathlib.Path, processes: Start
) -> None:
    address = free_address()
    body = """
        emitter = ltw.Emitter(args[0], args[1], spool_dir=args[2], worker_id="first")
        for t in range(5_000):
            emitter.step(t % 4, 1.0, t, t % 10 == 9)
        while emitter.stats.steps < 5_000:
            time.sleep(0.01)
        print("told", flush=True)
        signal.pause()
    """
    worker = processes(script(body, address, "crashed", str(spool)), stdout=subprocess.PIPE)
    assert worker.stdout.readline() == b"told\n"
    worker.kill()
    worker.wait()
    assert left_in(spool)
    with ltw.serve(tmp_path / "data", address):
        with Emitter(address, "crashed", spool_dir=spool, worker_id="second") as emitter:
            emitter.step(0, 1.0, -1, True)  # noqa: FBT003 - as Gymnasium's
            wait_for(lambda: emitter.stats.recovered >= 5_000, "the old process's rows")
        assert emitter.stats.recovered >= 5_400  # the last episode's record may have waited for more to be said
        run = recorded(address, "crashed")
        old = run.steps[run.steps["worker_id"] == "first"]
        assert old["observation"].astype(int).tolist() == list(range(5_000))
        assert len(run.steps) == 5_001
        assert run.problems.empty
        assert left_in(spool) == []


def test_what_was_delivered_before_the_crash_is_not_delivered_twice(
    tmp_path: pathlib.Path, spool: pathlib.Path, processes: Start
) -> None:
    """The daemon has committed some rows whose confirmation the dead process never saw."""
    address = free_address()
    body = """
        emitter = ltw.Emitter(args[0], args[1], spool_dir=args[2])
        t = 0
        while True:
            emitter.step(t % 4, 1.0, t, t % 50 == 49)
            t += 1
            if t % 20 == 0:
                time.sleep(0.001)
            if t == 4_000:
                print("told", flush=True)
    """
    with ltw.serve(tmp_path / "data", address):
        worker = processes(script(body, address, "crashed", str(spool)), stdout=subprocess.PIPE)
        assert worker.stdout.readline() == b"told\n"
        worker.kill()
        worker.wait()
        with Emitter(address, "crashed", spool_dir=spool, worker_id="second") as emitter:
            emitter.step(0)
            emitter.flush()
        run = recorded(address, "crashed")
        old = run.steps[run.steps["worker_id"] == ""]
        assert old["observation"].astype(int).tolist() == list(range(len(old)))
        assert len(old) >= 3_000  # no more than the last moments are lost
        assert run.steps["seq_id"].tolist() == list(range(1, len(run.steps) + 1))
        assert run.problems.empty


# -- limits ------------------------------------------------------------------------------------------------------------


def noise(generator: np.random.Generator) -> Any:
    return generator.random(64)


def fill(emitter: Emitter, number: int, begin: int = 0) -> None:
    generator = np.random.default_rng(begin)
    for t in range(begin, begin + number):
        emitter.step(t, 1.0, noise(generator))


@pytest.mark.parametrize("directory", [True, False])
def test_block_waits_for_the_daemon_and_loses_nothing(
    tmp_path: pathlib.Path, spool: pathlib.Path, *, directory: bool
) -> None:
    address = free_address()
    emitter = Emitter(address, spool_dir=spool if directory else False, spool_limit=200_000)
    told = 0
    try:
        while not emitter.gate.full:
            fill(emitter, 100, told)
            told += 100
            wait_for(lambda: emitter.gate.full or emitter.stats.steps == told, "the steps are taken")  # noqa: B023 - called at once
        training = threading.Thread(target=fill, args=(emitter, 100, told))
        training.start()
        training.join(0.1)
        assert training.is_alive()
        with ltw.serve(tmp_path / "data", address):
            training.join(60)
            assert not training.is_alive()
            assert emitter.close(timeout=30)
            run = recorded(address, emitter.run_id)
            assert run.steps["action"].astype(int).tolist() == list(range(told + 100))
    finally:
        emitter.close(timeout=0)


def test_drop_oldest_drops_the_oldest_and_says_how_many(tmp_path: pathlib.Path, spool: pathlib.Path) -> None:
    address = free_address()
    emitter = Emitter(address, spool_dir=spool, spool_limit=200_000, on_full="drop_oldest")
    try:
        for begin in range(0, 2_000, 100):
            fill(emitter, 100, begin)
            wait_for(lambda: emitter.stats.steps == begin + 100, "the steps are taken")  # noqa: B023 - called at once
        wait_for(lambda: emitter.stats.spooled_bytes <= 200_000, "the oldest are dropped")
        dropped = emitter.stats.dropped
        assert 0 < dropped < 2_000
        with ltw.serve(tmp_path / "data", address):
            # What is left is delivered and the end told; but not every row, and that is what is asked for.
            assert not emitter.flush(30)
            assert not emitter.close(timeout=30)
            assert (emitter.stats.waiting, emitter.stats.complete) == (0, False)
            run = recorded(address, emitter.run_id)
            assert run.steps["action"].astype(int).tolist() == list(range(dropped, 2_000))
            assert run.problems.set_index("kind")["count"].to_dict() == {"gap": dropped}
    finally:
        emitter.close(timeout=0)


def test_stop_ends_the_recording_and_not_the_training(tmp_path: pathlib.Path, spool: pathlib.Path) -> None:
    address = free_address()
    emitter = Emitter(address, spool_dir=spool, spool_limit=100_000, on_full="stop")
    try:
        told = 0
        while not emitter.stats.not_recorded and told < 20_000:
            fill(emitter, 50, told)
            told += 50
            wait_for(lambda: emitter.stats.steps + emitter.stats.not_recorded == told, "the steps are taken")  # noqa: B023
        stats = emitter.stats
        assert stats.not_recorded
        assert "limit" in stats.why
        with ltw.serve(tmp_path / "data", address):
            assert not emitter.close(timeout=30)
            assert (emitter.stats.waiting, emitter.stats.complete) == (0, False)
            run = recorded(address, emitter.run_id)
            assert run.steps["action"].astype(int).tolist() == list(range(stats.steps))
            assert run.problems.set_index("kind")["count"].to_dict() == {"recording_stopped": 1}
            assert "limit of 100,000 bytes" in run.problems["detail"].tolist()[0]
    finally:
        emitter.close(timeout=0)


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("emitter.step(0)", "completed", ""),
        ("emitter.step(0); 1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("emitter.step(0); raise KeyboardInterrupt", "cancelled", "interrupted"),
        ("emitter.step(0); sys.exit(3)", "failed", "exit code 3"),
        ("emitter.step(0); sys.exit()", "completed", ""),
        ("with emitter: emitter.step(0); raise ValueError('too many')", "failed", "ValueError: too many"),
    ],
)
def test_the_run_ends_as_its_program_does(
    daemon: ltw.Server, spool: pathlib.Path, body: str, status: str, reason: str
) -> None:
    program = f"emitter = ltw.Emitter(args[0], args[1], spool_dir=args[2])\n{body}"
    subprocess.run(script(program, daemon.address, "a run", str(spool)), check=False, stderr=subprocess.DEVNULL)
    run = recorded(daemon.address, "a run")
    assert len(run.steps) == 1
    assert run.status == status
    with ltw.connect(daemon.address) as client:
        told = client.runs().set_index("run_id")
    assert reason in str(told.loc["a run"].to_dict())


def test_a_run_whose_emitter_was_lost_and_not_closed_has_failed(daemon: ltw.Server, spool: pathlib.Path) -> None:
    emitter = Emitter(daemon.address, spool_dir=spool)
    run_id = emitter.run_id
    emitter.step(0)
    del emitter
    run = recorded(daemon.address, run_id)
    assert (len(run.steps), run.status, run.reason) == (1, "failed", "the emitter was not closed")


def test_a_run_that_has_ended_is_refused_at_once(daemon: ltw.Server, spool: pathlib.Path) -> None:
    with Emitter(daemon.address, "over", spool_dir=spool) as emitter:
        emitter.step(0)
    with pytest.raises(ltw.DaemonError, match="has ended"):
        Emitter(daemon.address, "over", spool_dir=spool)
    with pytest.raises(ltw.ClosedError, match="was closed"):
        emitter.step(0)
    assert left_in(spool) == []


# -- other processes ---------------------------------------------------------------------------------------------------


def test_a_forked_child_records_nothing_and_says_so(daemon: ltw.Server, spool: pathlib.Path) -> None:
    body = """
        emitter = ltw.Emitter(args[0], args[1], spool_dir=args[2])
        emitter.step(0)
        pid = os.fork()
        emitter.step(1)
        if not pid:
            assert emitter.stats.not_recorded == 1, emitter.stats
            assert "forked" in emitter.stats.why
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        emitter.step(2)
    """
    subprocess.run(script(body, daemon.address, "forked", str(spool)), check=True)
    run = recorded(daemon.address, "forked")
    assert run.steps["action"].astype(int).tolist() == [0, 1, 2]
    assert run.status == "completed"
    assert left_in(spool) == []


def emit_three(emitter: Emitter) -> None:
    for t in range(3):
        emitter.step(t, 1.0, terminated=t == 2)


def test_a_spawned_process_publishes_to_the_same_run(daemon: ltw.Server, emitter: Emitter) -> None:
    emitter.step(9)
    spawn = multiprocessing.get_context("spawn")
    children = [spawn.Process(target=emit_three, args=(emitter,), name=f"child-{i}") for i in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    emitter.close()
    run = recorded(daemon.address, emitter.run_id)
    told = collections.Counter(run.steps["worker_id"].astype(str))
    assert told == {"": 1, "child-0": 3, "child-1": 3}
    assert run.status == "completed"
    assert run.problems.empty


def test_a_copy_that_says_nothing_is_nobody(emitter: Emitter) -> None:
    twin = pickle.loads(pickle.dumps(emitter))  # noqa: S301 - our own
    assert twin.run_id == emitter.run_id
    assert twin.stats.steps == 0
    assert twin.close()


# -- people ------------------------------------------------------------------------------------------------------------


def test_a_paused_run_waits_in_its_next_step(daemon: ltw.Server, emitter: Emitter) -> None:
    emitter.step(0)
    assert emitter.flush()
    with ltw.connect(daemon.address) as client:
        run = client.run(emitter.run_id)
        wait_for(lambda: _paused(run, emitter), "the pause has come")
        training = threading.Thread(target=emit_three, args=(emitter,))
        training.start()
        assert emitter.flush()
        assert (emitter.stats.steps, training.is_alive()) == (1, True)
        run.resume()
        training.join(30)
        assert not training.is_alive()
        assert emitter.flush()
        assert emitter.stats.confirmed_steps == 4
        run.cancel()
        wait_for(lambda: emitter.cancelled, "the cancellation has come")
        with pytest.raises(ltw.RunCancelledError), emitter:
            emitter.step(5)
    assert recorded(daemon.address, emitter.run_id).status == "cancelled"


def _paused(run: ltw.Run, emitter: Emitter) -> bool:
    if not emitter.paused:
        run.pause()
    return emitter.paused
