"""The controller: a view per run and agent, as they appear, in a process without a front end."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import live_telemetry_widget as ltw
from tests.conftest import demo_command, proxy_command, replay_command, wait_for

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def client(daemon: ltw.Server) -> Iterator[ltw.Client]:
    """Return a client of a daemon of this test alone."""
    with ltw.connect(daemon.address) as client:
        yield client


def written(path: pathlib.Path, agents: int, workers: int, episodes: int = 3, length: int = 10) -> pathlib.Path:
    """Write the interleaved events of many agents and workers."""
    lines = []
    for episode in range(episodes):
        for step in range(length):
            for worker in range(workers):
                for agent in range(agents):
                    names = {"agent_id": f"a{agent}", "worker_id": f"w{worker}", "episode": episode}
                    last = step == length - 1
                    lines.append({"type": "step", **names, "step_index": step, "reward": 1.0, "terminated": last})
                    if last:
                        lines.append({"type": "episode", **names, "reward": float(length), "steps": length})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_eight_agents_of_four_workers_have_a_view_each_and_come_out_right(
    client: ltw.Client, tmp_path: pathlib.Path
) -> None:
    path = written(tmp_path / "run.jsonl", agents=8, workers=4)
    with client.watch() as watch:
        subprocess.run(proxy_command(client.address, *replay_command(path), run_id="many"), check=True)
        wait_for(lambda: len(watch.views) == 8, "a view per agent")
        run = client.run("many")
        run.wait(30)
        assert list(watch.views) == [("many", f"a{i}") for i in range(8)]
        frame = run.steps
        assert len(frame) == 8 * 4 * 3 * 10
        grouped = frame.groupby(["worker_id", "agent_id", "episode"], observed=True)["step_index"].apply(list)
        assert len(grouped) == 96
        assert all(numbers == list(range(10)) for numbers in grouped)
        assert run.problems.empty
        view = watch._shown["many", "a3"]
        assert view.frames.step_count == 4 * 3 * 10
        assert view.frames.episode_count == 4 * 3
        assert set(view.frames.rows(0, 1_000).column("agent_id").to_pylist()) == {"a3"}
        assert view.frames.episode_rows(0, 100).column("row").to_pylist() == list(range(12))


def test_what_came_before_the_view_is_in_it(client: ltw.Client) -> None:
    subprocess.run(proxy_command(client.address, *demo_command("--episodes", "5"), run_id="old"), check=True)
    with client.watch(status="completed") as watch:
        wait_for(lambda: watch.views, "the view")
        run = client.run("old")
        run.wait(30)
        (view,) = watch._shown.values()
        wait_for(lambda: view.frames.step_count == len(run.steps), "the steps from before")
        assert watch.tabs.titles == (f"{run.name} · {run.agents[0]}",)


def test_runs_are_chosen_by_state_and_name_and_closed_when_done(client: ltw.Client) -> None:
    for run_id in ("lake-1", "lake-2", "taxi-1"):
        name = "Pond" if run_id == "lake-2" else run_id
        subprocess.run(
            proxy_command(client.address, *demo_command("--episodes", "2"), run_id=run_id, name=name), check=True
        )
    with client.watch() as none, client.watch(status="completed", name="lake-*") as lakes:
        with client.watch(status=["completed", "failed"], name="Pond") as pond:
            wait_for(lambda: len(lakes.views) == 2, "both lakes")
            wait_for(lambda: len(pond.views) == 1, "the one of that name")
            assert {run for run, _ in lakes.views} == {"lake-1", "lake-2"}
            assert {run for run, _ in pond.views} == {"lake-2"}
        assert all(view.comm is not None for view in lakes.views.values()), "one watch closes another's views"
        assert not none.runs, "runs that have ended are shown when asked for only"
        wait_for(lambda: all(client.run(run_id).finished for run_id in lakes.runs), "everything to be here")
        lakes.close_done()
        assert not lakes.views


def test_views_close_by_themselves_when_asked_to(client: ltw.Client) -> None:
    with client.watch(close_done=True) as watch:
        command = proxy_command(client.address, *demo_command("--episodes", "30", "--delay", "0.005"), run_id="brief")
        worker = subprocess.Popen(command)
        try:
            wait_for(lambda: watch.views, "the view")
        finally:
            worker.wait(60)
        wait_for(lambda: not watch.views, "the view to be closed")
        assert "waiting" in watch.note.value


def test_more_agents_than_are_shown_are_counted(client: ltw.Client, tmp_path: pathlib.Path) -> None:
    path = written(tmp_path / "run.jsonl", agents=5, workers=1, episodes=1, length=2)
    with client.watch(most=3) as watch:
        subprocess.run(proxy_command(client.address, *replay_command(path), run_id="many"), check=True)
        wait_for(lambda: "2 more" in watch.note.value, "the others to be counted")
        assert len(watch.views) == 3


def test_a_watch_that_is_forgotten_ends_and_a_wrong_number_says_so(client: ltw.Client) -> None:
    watch = client.watch()
    ref = weakref.ref(watch)
    del watch
    wait_for(lambda: gc.collect() is not None and ref() is None, "the controller to be let go")
    with pytest.raises(ValueError, match="from 1"):
        client.watch(most=0)


def test_a_process_with_views_and_watches_ends_at_once_and_says_nothing(daemon: ltw.Server) -> None:
    command = proxy_command(daemon.address, *demo_command("--episodes", "200", "--delay", "0.002"), run_id="lake")
    worker = subprocess.Popen(command)
    code = f"""
import live_telemetry_widget as ltw
client = ltw.connect({daemon.address!r})
run = client.run("lake")
views = [run.view(), client.watch(), client.bridge()]
views[2].step_received.connect(lambda *_: None)
import time
end = time.monotonic() + 30
while len(run.steps) < 50 and time.monotonic() < end:
    time.sleep(0.01)
print(len(run.steps) >= 50)
"""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    finally:
        worker.terminate()
        worker.wait(30)
    assert (done.stdout.strip(), done.stderr) == ("True", "")


def test_a_client_that_gives_up_says_so_and_can_be_told_to_try_again(tmp_path: pathlib.Path) -> None:
    with ltw.serve(tmp_path) as server:
        address = server.address
    with ltw.connect(address, max_attempts=1) as client:
        run = client.run("r")
        with pytest.raises(ltw.ConnectError, match="given up after 1 attempts"):
            run.wait(30)
        with ltw.serve(tmp_path, listen=address):
            client.reconnect()
            wait_for(lambda: run._feed.link.state == "live", "the link")
    closed: Any = client
    with pytest.raises(ltw.ClosedError, match="makes another"):
        closed.runs()
