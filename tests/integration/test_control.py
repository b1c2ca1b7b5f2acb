"""Pause, resume, rate and steps: from a notebook, through daemon and proxy, to workers that listen and workers that do not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.proto import trainer_pb2 as wire
from tests.conftest import demo_command, proxy_command, wait_for
from tests.integration.test_daemon import CONFIG, LIMIT, Code, DaemonProcess, refused, until
from tests.integration.test_dispatch import config, ended, start, state, submit
from tests.integration.test_proxy import FakeDaemon, fake

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

__all__ = ["fake", "start"]  # fixtures

DEMO = {**CONFIG, "entry_point": sys.executable, "arguments": demo_command("--episodes", "1000000")[1:]}
#: It prints more than any buffer on the way holds, and never looks at its standard input.
DEAF = config("for i in range(100_000_000): step(i, pad='x' * 2_000)")


@pytest.fixture
def client(start: Callable[..., DaemonProcess]) -> Iterator[ltw.Client]:
    daemon = start()
    with ltw.connect(daemon.address) as made:
        made.daemon = daemon  # type: ignore[attr-defined]  # for the test
        yield made


def count(daemon: DaemonProcess, run_id: str) -> int:
    return int(daemon.describe(run_id).last_step_seq)


def still(daemon: DaemonProcess, run_id: str) -> int:
    """Wait until no more steps come; return how many have."""
    seen = (count(daemon, run_id), time.monotonic())
    while time.monotonic() < seen[1] + 1.0:
        now = count(daemon, run_id)
        if now != seen[0]:
            seen = (now, time.monotonic())
        time.sleep(0.05)
    return seen[0]


@pytest.mark.parametrize("what", [DEMO, DEAF], ids=["listens", "deaf"])
def test_a_run_is_paused_and_goes_on_from_a_notebook(client: Any, what: dict[str, Any]) -> None:
    daemon = client.daemon
    run = client.run(submit(daemon, what))
    wait_for(lambda: len(run.steps) > 100, "steps")
    run.pause()
    assert state(daemon, run.run_id) == "PAUSE"
    wait_for(lambda: run.status == "paused", "the notebook knows")
    at = still(daemon, run.run_id)
    run.resume()
    assert state(daemon, run.run_id) == "EXEC"
    until(lambda: count(daemon, run.run_id) > at + 100)
    run.cancel()
    run.wait(LIMIT)
    assert run.status == "cancelled"
    with pytest.raises(ltw.DaemonError, match="has ended"):
        run.pause()
    run.cancel()


@pytest.mark.parametrize("what", [DEMO, DEAF], ids=["listens", "deaf"])
def test_so_many_steps_as_are_granted_are_made(client: Any, what: dict[str, Any]) -> None:
    daemon = client.daemon
    run = client.run(submit(daemon, what))
    until(lambda: count(daemon, run.run_id) > 0)  # a worker that has not begun is still, too
    run.pause()
    at = still(daemon, run.run_id)
    for granted in (1, 10):
        client.hub.ask(lambda c, n=granted: c.control(run.run_id, grant_steps=n))
        at += granted
        until(lambda at=at: count(daemon, run.run_id) == at)
    assert still(daemon, run.run_id) == at


@pytest.mark.parametrize("what", [DEMO, DEAF], ids=["listens", "deaf"])
def test_a_rate_is_kept(client: Any, what: dict[str, Any]) -> None:
    daemon = client.daemon
    run = client.run(submit(daemon, what))
    until(lambda: count(daemon, run.run_id) > 100)
    run.set_rate(50)
    # What was on its way before comes first.
    rate = 1e9
    while rate > 60:
        began, at = time.monotonic(), count(daemon, run.run_id)
        until(lambda at=at: count(daemon, run.run_id) >= at + 50)
        rate = (count(daemon, run.run_id) - at) / (time.monotonic() - began)
    assert rate > 25
    run.set_rate(None)
    at = count(daemon, run.run_id)
    until(lambda: count(daemon, run.run_id) > at + 500)


def test_a_paused_deaf_worker_does_no_more_than_its_pipe_holds(client: Any, tmp_path: pathlib.Path) -> None:
    daemon = client.daemon
    told = tmp_path / "told"
    run = client.run(
        submit(
            daemon,
            config(
                f"f = open({str(told)!r}, 'w')\nfor i in range(100_000_000): step(i, pad='x' * 2_000); f.write('.'); f.flush()"
            ),
        )
    )
    wait_for(lambda: len(run.steps) > 10, "steps")
    run.pause()
    held = still(daemon, run.run_id)
    seen = [0, 1]

    def stands() -> bool:
        seen[:] = [told.stat().st_size, seen[0]]
        time.sleep(0.2)
        return seen[0] == seen[1]

    wait_for(stands, "the worker stands still")
    # Two half megabytes here, a pipe, and what was being read: at 2 kB a step.
    assert seen[0] - held < 1_000


def test_a_paused_worker_can_be_cancelled(client: Any) -> None:
    for what in (DEMO, DEAF):
        run = client.run(submit(client.daemon, what))
        run.pause()
        run.cancel()
        assert ended(client.daemon, run.run_id) == ("TERM", "cancelled by request")


def test_control_comes_back_with_the_daemon(start: Callable[..., DaemonProcess]) -> None:
    daemon = start()
    run_id = submit(daemon, DEMO)
    with ltw.connect(daemon.address) as client:
        client.run(run_id).pause()
        at = still(daemon, run_id)
        daemon.end(signal.SIGKILL)
        daemon = start("--listen", daemon.address)
        assert state(daemon, run_id) == "PAUSE"
        until(lambda: "listens for control" in daemon.errors.read_text().rpartition("serving on")[2])
        assert count(daemon, run_id) == at
        client.run(run_id).resume()
        until(lambda: count(daemon, run_id) > at + 10)


def test_a_worker_whose_proxy_a_person_started_is_controlled_too(
    client: Any, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    # Its standard input is the person's, so it cannot listen.
    command = proxy_command(client.address, *demo_command("--episodes", "1000000"), run_id="r")
    processes(command, stdin=subprocess.DEVNULL)
    run = client.run("r")
    wait_for(lambda: len(run.steps) > 10, "steps")
    run.pause()
    at = still(client.daemon, "r")
    run.resume()
    until(lambda: count(client.daemon, "r") > at)


def test_what_nobody_can_heed_is_an_error_that_says_why(client: Any, fake: Callable[..., FakeDaemon]) -> None:
    client.daemon.open_run("nobody")
    with pytest.raises(ltw.DaemonError, match="no proxy of it listens"):
        client.run("nobody").pause()
    with pytest.raises(ltw.RunNotFoundError, match="'unknown'"):
        client.run("unknown").resume()
    for wrong in (0, -1, 1.5, True, 2**32):
        with pytest.raises(ValueError, match="from 1, or None"):
            client.run("nobody").set_rate(wrong)
    for kind in ("generation 1", "generation 2"):
        with ltw.connect(fake(kind).address) as other, pytest.raises(ltw.DaemonError, match="does not relay pause"):
            other.run("r").pause()


def test_a_run_that_becomes_garbage_while_another_is_subscribed_does_not_stop_the_notebook() -> None:
    hub = ltw.TelemetryAsyncHub()

    def collect() -> None:
        with hub._lock:  # where subscribe_run is when the collector comes
            hub.unsubscribe_run("garbage")

    # A thread, so that the test fails rather than stops.
    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_a_recording_has_nobody_to_ask(client: Any) -> None:
    daemon = client.daemon
    daemon.open_run("r")
    daemon.publish([wire.RunStep(run_id="r")])
    with ltw.open(daemon.errors.parent) as recording:
        for act in (recording.run("r").pause, recording.run("r").cancel):
            with pytest.raises(ltw.ClosedError, match="no worker to reach"):
                act()


def test_only_a_proxy_with_a_token_of_the_run_takes_its_seat(client: Any) -> None:
    daemon = client.daemon
    daemon.open_run("mine")
    daemon.open_run("yours")
    token = daemon.trainer.RegisterWorker(wire.RegisterWorkerRequest(run_id="mine"), timeout=LIMIT).session_token

    def sit(run_id: str) -> Any:
        metadata = [("session-token", token)]
        return daemon.trainer.ControlStream(iter([wire.ControlEvent(run_id=run_id)]), timeout=LIMIT, metadata=metadata)

    assert refused(lambda: next(sit("yours"))) == Code.PERMISSION_DENIED
    # A proxy that goes away at once is no proxy.
    assert list(sit("mine")) == []


def test_a_proxy_that_does_not_answer_is_said_to_be_one(client: Any) -> None:
    daemon = client.daemon
    run_id = submit(daemon, DEMO)
    run = client.run(run_id)
    wait_for(lambda: len(run.steps) > 10, "steps")
    (record,) = (daemon.errors.parent / "workers").glob("*.json")
    proxy = json.loads(record.read_text())["pid"]
    os.kill(proxy, signal.SIGSTOP)
    with pytest.raises(ltw.DaemonError, match="did not answer within"):
        run.pause()
    assert state(daemon, run_id) == "EXEC"
    os.kill(proxy, signal.SIGCONT)
    until(lambda: state(daemon, run_id) == "PAUSE")


def test_the_wire_answers_each_event_in_turn(client: Any) -> None:
    daemon = client.daemon
    run_id = submit(daemon, DEMO)
    until(lambda: state(daemon, run_id) == "EXEC")
    events = [
        wire.ControlEvent(run_id=run_id, max_rate_hz=100),
        wire.ControlEvent(run_id=run_id, pause=True),
        wire.ControlEvent(run_id=run_id, grant_steps=3),
        wire.ControlEvent(run_id=run_id, resume=True),
    ]
    assert list(daemon.trainer.ControlStream(iter(events), timeout=LIMIT)) == events
    assert isinstance(daemon.trainer.ControlStream(iter([]), timeout=LIMIT), grpc.Call)
