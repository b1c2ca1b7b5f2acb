"""Recordings kept by a client: of a run that its daemon forgets, over killed kernels, beside a run that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget import normalize, recorder
from live_telemetry_widget.client import RunInfo
from live_telemetry_widget.errors import RecordingError
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.schema import RunState
from live_telemetry_widget.store import Store
from tests.conftest import SAMPLE, proxy_command, replay_command, wait_for
from tests.support.unruly import Traits, UnrulyDaemon

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

LENGTH = 20
EPISODES = 300
PART = 60

#: A worker that goes on, a part at a time, once its reader was killed: so it is never done before.
WORKER = f"""
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
for episode in range({EPISODES}):
    while episode % {PART} == 0 and not (folder / str(episode // {PART})).exists():
        time.sleep(0.01)
    for step in range({LENGTH}):
        print(json.dumps({{"type": "step", "episode": episode, "step_index": step, "agent_id": "a", "action": step % 4,
                          "reward": float(step), "terminated": step == {LENGTH - 1}, "epsilon": 1 / (1 + episode)}}))
    print(json.dumps({{"type": "episode", "episode": episode, "agent_id": "a", "reward": {float(sum(range(LENGTH)))}, "steps": {LENGTH}}}))
    sys.stdout.flush()
    time.sleep(0.01)
"""

#: A kernel that records, and says how far it has come.
KERNEL = """
import sys, time
import live_telemetry_widget as ltw
run = ltw.connect(sys.argv[1]).run("long", record=sys.argv[2])
print("resumed", run.feed.step_seq, run.recorded.steps, flush=True)
told = 0
while not run.finished:
    steps = run.recorded.steps
    if steps > told:
        told = steps
        print("recorded", steps, flush=True)
    time.sleep(0.01)
run.end_recording()
print("ended", run.recorded.steps, len(run.steps), flush=True)
"""


def step(episode: int, index: int, **more: Any) -> dict[str, Any]:
    return {"type": "step", "episode": episode, "step_index": index, "agent_id": "a", "reward": float(index), **more}


def batch(*events: dict[str, Any]) -> Any:
    return normalize.steps_from_events(list(events), run_id="r").batch


@pytest.fixture
def feed() -> RunFeed:
    return RunFeed("r", Link("live"))


@pytest.mark.timeout(240)
def test_killed_kernels_go_on_with_their_recording_without_gaps_or_doubles(
    tmp_path: pathlib.Path, daemon: ltw.Server, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    go_on, copy = tmp_path / "go-on", tmp_path / "copy"
    go_on.mkdir()
    (go_on / "0").touch()
    proxy = processes(proxy_command(daemon.address, sys.executable, "-c", WORKER, str(go_on), run_id="long"))
    resumed = []
    for part in range(4):
        kernel = processes(
            [sys.executable, "-c", KERNEL, daemon.address, str(copy)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert kernel.stdout is not None
        resumed.append([int(word) for word in kernel.stdout.readline().split()[1:]])
        recorded = 0
        while recorded <= part * PART * LENGTH:  # something of this part
            recorded = int(kernel.stdout.readline().split()[1])
        os.kill(kernel.pid, signal.SIGKILL)
        kernel.wait()
        # Also while nobody records it, and after a kill, the copy is sound.
        with ltw.open(copy) as recording:
            assert recording.run("long").problems.empty
        (go_on / str(part + 1)).touch()
    kernel = processes([sys.executable, "-c", KERNEL, daemon.address, str(copy)], stdout=subprocess.PIPE, text=True)
    said, _ = kernel.communicate(timeout=100)
    assert kernel.returncode == 0
    assert said.splitlines()[-1] == f"ended {EPISODES * LENGTH} {EPISODES * LENGTH}"
    assert proxy.wait(60) == 0
    # Each went on where the one before it was killed, not at the start.
    numbers = [seq for seq, _ in resumed]
    assert numbers[0] == 0
    assert numbers == sorted(numbers)
    assert numbers[-1] > 0
    assert all(rows >= seq for seq, rows in resumed)
    with Store.open(copy, read_only=True) as store:
        stored = [b.to_pydict() for b in store.read("long", "steps")]
    at = np.concatenate([np.array(b["episode"]) * LENGTH + np.array(b["step_index"]) for b in stored])
    assert (np.sort(at) == np.arange(EPISODES * LENGTH)).all()
    with ltw.open(copy) as recording, ltw.connect(daemon.address) as client:
        copied, held = recording.run("long"), client.run("long")
        held.wait(60)
        assert copied.status == held.status == "completed"
        assert copied.config == held.config
        same = [name for name in held.steps.columns if name != "seq_id"]
        assert copied.steps[same].equals(held.steps[same])
        same = [name for name in held.episodes.columns if name != "seq_id"]
        assert copied.episodes[same].equals(held.episodes[same])


async def test_a_run_that_its_daemon_forgets_is_kept_and_a_richer_copy_counts(tmp_path: pathlib.Path) -> None:
    async with UnrulyDaemon(1) as bad:
        its = bad.add_run("r", Traits())
        its.submit()
        its.set_status("running")
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(ltw.connect(bad.address))
            run = await asyncio.to_thread(client.run, "r", record=tmp_path / "copy")
            poor = [trainer_pb2.RunStep(run_id="r", agent_id="a", step_index=i, reward=float(i)) for i in range(50)]
            for message in poor:
                its.publish(message)
            await asyncio.to_thread(wait_for, lambda: run.recorded is not None and run.recorded.steps == 50, "50 steps")
            rich = [
                trainer_pb2.RunStep(
                    run_id="r",
                    agent_id="a",
                    step_index=i,
                    reward=float(i),
                    worker_id="w",
                    render_payload_json='{"mode": "x"}',
                )
                for i in range(50)
            ]
            for message in rich:
                its.publish(message)
            await asyncio.to_thread(wait_for, lambda: run.recorded.steps == 100, "their richer copies")
        its.forget()
    # The daemon is gone, and so is what it had; the copy has every step once, with all that was said of it.
    with ltw.open(tmp_path / "copy") as recording:
        steps = recording.run("r").steps
    assert steps["step_index"].tolist() == list(range(50))
    assert set(steps["worker_id"]) == {"w"}
    assert steps["render_payload"].notna().all()


def test_the_copies_are_gone_when_the_run_has_ended(tmp_path: pathlib.Path, feed: RunFeed) -> None:
    tape = recorder.record(feed, tmp_path)
    feed.frames.append_steps(batch(step(0, 0), step(0, 1)))
    wait_for(lambda: tape.state.steps == 2, "two steps")
    feed.frames.append_steps(batch(step(0, 0, epsilon=0.5), step(0, 2)))
    wait_for(lambda: tape.state.steps == 4, "a step and a copy")
    feed.info = RunInfo("r", RunState.COMPLETED)
    feed.finish()
    wait_for(lambda: tape.state.steps == 3, "each step once")
    tape.close()
    assert (tape.state.waiting, tape.state.closed) == (0, True)
    with Store.open(tmp_path, read_only=True) as store:
        rows = [row for b in store.read("r", "steps") for row in b.to_pylist()]
    assert [(row["step_index"], row["epsilon"]) for row in rows] == [(0, 0.5), (1, None), (2, None)]
    with ltw.open(tmp_path) as recording:
        assert recording.run("r").status == "completed"


def test_recording_can_begin_late_and_goes_on_with_what_is_there(tmp_path: pathlib.Path, feed: RunFeed) -> None:
    first = recorder.record(feed, tmp_path)
    feed.frames.append_steps(batch(*(step(0, i) for i in range(10))))
    first.close()
    later = RunFeed("r", Link("live"))
    later.frames.append_steps(batch(*(step(0, i) for i in range(5, 20))))
    tape = recorder.record(later, tmp_path)
    assert later.frames.step_count == 20
    later.frames.append_steps(batch(step(1, 0)))
    tape.close()
    with Store.open(tmp_path, read_only=True) as store:
        assert store.last_seq("r", "steps") == 21
    with ltw.open(tmp_path) as recording:
        assert len(recording.run("r").steps) == 21


def test_two_runs_share_a_directory_and_two_processes_do_not(tmp_path: pathlib.Path, feed: RunFeed) -> None:
    other = RunFeed("other", Link("live"))
    tapes = [recorder.record(feed, tmp_path), recorder.record(other, tmp_path)]
    assert sum(thread.name == "live-telemetry-recorder" for thread in threading.enumerate()) == 1
    code = "import sys; from live_telemetry_widget import recorder, feed; recorder.record(feed.RunFeed('x', feed.Link('live')), sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert f"(process {os.getpid()}) writes to" in done.stderr
    for tape in tapes:
        tape.close()
    with pytest.raises(RecordingError, match="is a file; give a directory"):
        recorder.record(feed, tmp_path / "telemetry.sqlite3")


def test_the_same_run_recorded_twice_is_recorded_once(tmp_path: pathlib.Path, feed: RunFeed) -> None:
    """A cell that is run again makes another client, while the old one is still about."""
    old = recorder.record(feed, tmp_path)
    feed.frames.append_steps(batch(step(0, 0)))
    again = RunFeed("r", Link("live"))
    new = recorder.record(again, tmp_path)
    assert old.state.closed
    assert again.frames.step_count == 1
    feed.frames.append_steps(batch(step(0, 1)))
    again.frames.append_steps(batch(step(0, 1), step(0, 2)))
    new.close()
    with Store.open(tmp_path, read_only=True) as store:
        assert store.last_seq("r", "steps") == 3


def test_a_disk_that_is_full_for_a_while_delays_the_copy(tmp_path: pathlib.Path, feed: RunFeed) -> None:
    tape = recorder.record(feed, tmp_path)
    writer = tape.recorder._store._database._writer
    assert isinstance(writer, sqlite3.Connection)
    feed.frames.append_steps(batch(step(0, 0)))
    wait_for(lambda: tape.state.steps == 1, "the first step")
    # Asked for by another thread, which may: the recorder's is idle.
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    noise = [step(0, i, frame_ref=os.urandom(2000).hex()) for i in range(1, 40)]
    feed.frames.append_steps(batch(*noise))
    wait_for(lambda: tape.state.trouble, "the disk to be full")
    assert tape.state.waiting == 39
    assert [p.kind for p in feed.frames.problems()] == ["recording_failed"]
    writer.execute("PRAGMA max_page_count = 1000000")
    wait_for(lambda: tape.state.steps == 40 and not tape.state.trouble, "what waited")
    assert tape.state.waiting == 0
    tape.close()


def test_numbers_of_a_run_that_was_made_anew_are_not_resumed_from(tmp_path: pathlib.Path) -> None:
    """A daemon that has lost its directory, and has a run of the same id again."""
    for folder, rewards in (("one", 10.0), ("two", 20.0)):
        with ltw.serve(tmp_path / folder) as server, ltw.connect(server.address) as client:
            code = (
                "import json\nfor i in range(5):\n print(json.dumps({'type': 'step', 'episode': "
                f"{0 if folder == 'one' else 1}, 'step_index': i, 'agent_id': 'a', 'reward': {rewards}}}))"
            )
            done = subprocess.run(
                proxy_command(server.address, sys.executable, "-c", code, run_id="r"), capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr
            run = client.run("r", record=tmp_path / "copy")
            wait_for(
                lambda run=run, want=rewards: (
                    (run.feed.frames.rows(0, 100).column("reward").to_pylist() or [0])[-1] == want
                ),
                "its steps",
            )  # type: ignore[misc]
            wait_for(lambda run=run: run.finished and run.recorded.waiting == 0, "the copy")  # type: ignore[misc]
    with ltw.open(tmp_path / "copy") as recording:
        assert recording.run("r").steps["reward"].tolist() == [10.0] * 5 + [20.0] * 5


def test_the_sample_run_is_copied_whole(
    tmp_path: pathlib.Path, daemon: ltw.Server, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    with ltw.connect(daemon.address) as client:
        run = client.run("sample", record=tmp_path / "copy")
        assert processes(proxy_command(daemon.address, *replay_command(SAMPLE), run_id="sample")).wait(60) == 0
        run.wait(60)
        steps, episodes = run.steps, run.episodes
    assert run.recorded is not None
    assert run.recorded.closed
    with ltw.open(tmp_path / "copy") as recording:
        copied = recording.latest()
        same = [name for name in steps.columns if name != "seq_id"]
        assert copied.steps[same].equals(steps[same])
        same = [name for name in episodes.columns if name != "seq_id"]
        assert copied.episodes[same].equals(episodes[same])
        assert len(copied.episode(3)) == len(run.episode(3))
