"""The whole way of a step: worker process, proxy process, daemon process, hub, frames."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.progress import announced_episodes
from tests.conftest import SAMPLE, beside_the_end, demo_command, proxy_command, replay_command, wait_for

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable


def check_sound(run: ltw.Run) -> None:
    """Check what holds on every sound run: each episode's step rewards and steps add up to its record."""
    sums = run.steps.groupby("episode")["reward"].agg(["sum", "size"])
    totals = run.episodes.set_index("episode")
    assert list(sums.index) == list(totals.index)
    assert (sums["sum"] == totals["total_reward"]).all()
    assert (sums["size"] == totals["steps"]).all()
    assert totals["complete"].all()
    assert run.problems.empty
    for number in totals.index:
        assert run.episode(number)["step_index"].tolist() == list(range(totals["steps"][number]))


def test_the_sample_run_comes_through_whole_typed_and_joined(
    daemon: ltw.Server, sample_events: list[dict[str, Any]]
) -> None:
    done = subprocess.run(
        proxy_command(daemon.address, *replay_command(SAMPLE), run_id="sample"), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, beside_the_end(done.stderr)) == (0, b"", b"")
    with ltw.connect(daemon.address) as client, ltw.open(daemon.data_dir) as recording:
        run = client.run("sample")
        run.wait(timeout=30)
        for held in (run, recording.run("sample")):
            check_sound(held)
            # What the worker said of itself when it began.
            assert announced_episodes(held.feed.config) == 150
            assert held.status == "completed"
            assert set(held.episodes["source"]) == {"record"}
            sent = [e for e in sample_events if e["type"] == "step"]
            frame = held.steps
            for name in ("episode", "step_index", "action", "reward", "terminated", "state", "q_before", "epsilon"):
                assert frame[name].tolist() == [e[name] for e in sent], name
            assert frame["timestamp"].astype("int64").tolist() == [e["ts_unix_ns"] for e in sent]
            types = {name: str(frame[name].dtype) for name in ("state", "next_state", "q_before", "q_after", "epsilon")}
            assert types == {"state": "int64", "next_state": "int64"} | dict.fromkeys(
                ("q_before", "q_after", "epsilon"), "float64"
            )
            records = [e for e in sample_events if e["type"] == "episode"]
            assert held.episodes["episode"].tolist() == [e["episode"] for e in records]
            assert held.episodes["episode_index"].tolist() == list(range(150))
            assert held.episodes["success"].tolist() == [e["success"] for e in records]
        assert recording.latest().run_id == client.latest().run_id == "sample"
        assert client.runs()["status"].tolist() == recording.runs()["status"].tolist() == ["completed"]


def test_a_learning_worker_is_seen_while_it_learns(
    daemon: ltw.Server, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    worker = demo_command("--episodes", "40", "--delay", "0.002")
    proxy = processes(proxy_command(daemon.address, *worker, run_id="demo", name="a demo"))
    with ltw.connect(daemon.address) as client:
        run = client.run("demo")
        wait_for(lambda: len(run.steps) > 5, "the first steps")
        assert proxy.poll() is None, "the worker had ended before its steps were seen"
        wait_for(lambda: run.status == "running", "the state")
        run.wait(timeout=60)
        assert (run.status, run.name) == ("completed", "a demo")
        assert len(run.episodes) == 40
        check_sound(run)
    assert proxy.wait(10) == 0


def test_nothing_is_lost_or_doubled_when_the_daemon_is_killed_and_comes_back(
    tmp_path: pathlib.Path, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    with ltw.serve(tmp_path) as first:
        address = first.address
        proxy = processes(
            proxy_command(address, *demo_command("--episodes", "60", "--delay", "0.003"), run_id="r"),
            stderr=subprocess.PIPE,
        )
        client = ltw.connect(address)
        run = client.run("r")
        wait_for(lambda: len(run.steps) > 20, "the first steps")
        wait_for(
            lambda: announced_episodes(run.feed.config) == 60, "what the worker says to come to who follows already"
        )
        os.kill(first.pid, signal.SIGKILL)
        wait_for(lambda: run._feed.link.state == "reconnecting", "the loss to be noticed")
    with ltw.serve(tmp_path, address) as second, client:
        assert second.address == address
        run.wait(timeout=60)
        assert run.status == "completed"
        assert len(run.episodes) == 60
        check_sound(run)
        assert proxy.wait(10) == 0


def test_a_failing_worker_makes_a_failed_run_with_its_reason(daemon: ltw.Server) -> None:
    command = proxy_command(
        daemon.address, sys.executable, "-c", "import sys; print('hello'); sys.exit(7)", run_id="bad"
    )
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (7, b"hello\n")
    with ltw.connect(daemon.address) as client:
        run = client.run("bad")
        run.wait(timeout=10)
        assert run.status == "failed"
        assert client.runs()["reason"].tolist() == ["the worker exited with code 7"]


def test_without_a_daemon_errors_say_what_to_do() -> None:
    with ltw.connect("127.0.0.1:1") as client:
        with pytest.raises(ltw.ConnectError, match=r"live-telemetry serve --listen 127\.0\.0\.1:1"):
            client.runs()
        with pytest.raises(ltw.WaitTimeoutError, match=r"is unknown after 0\.2 s, with 0 steps"):
            client.run("r").wait(timeout=0.2)
    with pytest.raises(ValueError, match="host:port"):
        ltw.connect("localhost")


def test_a_run_can_be_asked_for_before_it_exists(daemon: ltw.Server) -> None:
    with ltw.connect(daemon.address) as client:
        with pytest.raises(ltw.RunNotFoundError, match="no runs yet"):
            client.latest()
        run = client.run("later")
        assert (run.status, len(run.steps)) == ("unknown", 0)
        with pytest.raises(ltw.RunNotFoundError, match="nothing has come yet"):
            run.episode(0)
        subprocess.run(proxy_command(daemon.address, *demo_command("--episodes", "3"), run_id="later"), check=True)
        run.wait(timeout=20)
        check_sound(run)
        with pytest.raises(ltw.RunNotFoundError, match="nearest: 0, 1, 2"):
            run.episode(17)


def test_a_closed_client_leaves_its_data_and_no_thread(daemon: ltw.Server) -> None:
    subprocess.run(proxy_command(daemon.address, *demo_command("--episodes", "3"), run_id="r"), check=True)
    client = ltw.connect(daemon.address)
    run = client.run("r")
    run.wait(timeout=20)
    run.view()
    assert any(t.name.startswith("live-telemetry") for t in threading.enumerate())
    client.close()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("live-telemetry")], "threads to end")
    assert len(run.episodes) == 3


def test_a_recording_can_be_read_while_the_daemon_writes_it(
    daemon: ltw.Server, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    processes(proxy_command(daemon.address, *demo_command("--episodes", "500", "--delay", "0.002"), run_id="r"))
    with ltw.connect(daemon.address) as client:
        wait_for(lambda: len(client.run("r").steps) > 50, "steps")
        with ltw.open(daemon.data_dir) as recording:
            run = recording.run("r")
            assert len(run.steps) >= 50
            assert run.status == "running"
            with pytest.raises(ltw.RunNotFoundError, match="nearest: r"):
                recording.run("rr")


def test_what_is_no_recording_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ltw.RecordingError, match=str(tmp_path)):
        ltw.open(tmp_path)


def test_a_run_keeps_its_client_and_both_end_when_nobody_holds_the_run(daemon: ltw.Server) -> None:
    subprocess.run(proxy_command(daemon.address, *demo_command("--episodes", "3"), run_id="r"), check=True)
    run = ltw.connect(daemon.address).run("r")
    gc.collect()
    run.wait(timeout=20)
    assert len(run.episodes) == 3
    feed = weakref.ref(run._feed)
    del run
    gc.collect()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("live-telemetry")], "threads to end")
    wait_for(lambda: gc.collect() >= 0 and feed() is None, "everything to be freed")
