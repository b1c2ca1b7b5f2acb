"""A run whose daemon is killed and whose connections are cut, again and again: nothing lost, nothing twice, ascending.

``LTW_FULL=1`` makes it 200,000 steps, 30 kills and 30 cuts; without it a fifth of that, for every day.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.client import Backoff
from tests.conftest import proxy_command, wait_for
from tests.support.cutter import Cutter

if TYPE_CHECKING:
    import pathlib
    import subprocess
    from collections.abc import Callable

FULL = bool(os.environ.get("LTW_FULL"))
STEPS, TIMES = (200_000, 30) if FULL else (40_000, 8)
LENGTH = 50

#: Prints episodes as fast as the pipe takes them, but not all of them before the last blow has fallen.
WORKER = f"""
import json, pathlib, sys, time
go_on = pathlib.Path(sys.argv[1])
for episode in range({STEPS // LENGTH}):
    while episode >= {STEPS // LENGTH - 20} and not go_on.exists():
        time.sleep(0.01)
    for step in range({LENGTH}):
        print(json.dumps({{"type": "step", "episode": episode, "step_index": step, "agent_id": "a", "action": step % 4,
                          "reward": float(step), "terminated": step == {LENGTH - 1}, "epsilon": 1 / (1 + episode)}}))
    print(json.dumps({{"type": "episode", "episode": episode, "agent_id": "a", "reward": {float(sum(range(LENGTH)))}, "steps": {LENGTH}}}))
    sys.stdout.flush()
    time.sleep({0.004 if FULL else 0.012})
"""


@pytest.mark.timeout(900 if FULL else 240)
def test_a_run_survives_killed_daemons_and_cut_connections_whole(
    tmp_path: pathlib.Path, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    dice = random.Random(7)  # noqa: S311 - no secret
    go_on = tmp_path / "go-on"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ltw.serve(tmp_path / "data"))
        cutter = stack.enter_context(Cutter(server.address))
        hub = stack.enter_context(ltw.TelemetryAsyncHub(cutter.address, backoff=Backoff(first=0.05, most=0.5)))
        run = ltw.Run(hub.subscribe_run("long"))
        frames = run._feed.frames
        proxy = processes(proxy_command(cutter.address, sys.executable, "-c", WORKER, str(go_on), run_id="long"))
        wait_for(lambda: frames.step_count > 0, "the first steps", 30)
        blows = ["kill", "cut"] * TIMES
        dice.shuffle(blows)
        for i, blow in enumerate(blows):
            assert proxy.poll() is None, "the worker has ended, and the rest of the blows would show nothing"
            if blow == "kill":
                os.kill(server.pid, signal.SIGKILL)
                wait_for(lambda server=server: not server.running, "the daemon to be dead")  # type: ignore[misc]
                server = stack.enter_context(ltw.serve(tmp_path / "data", listen=server.address))
            else:
                wait_for(lambda: cutter.connections, "connections to cut")
                cutter.cut(reset=bool(i % 2))
            # The next blow falls when steps have come again, at a moment of its own.
            before = frames.step_count
            wait_for(lambda before=before: frames.step_count > before, f"steps after blow {i}", 30)  # type: ignore[misc]
            time.sleep(dice.random() * 0.1)
        go_on.touch()
        run.wait(timeout=200)
        assert proxy.wait(60) == 0
        assert run.status == "completed"
        frame = run.steps
        assert len(frame) == STEPS
        at = frame["episode"].to_numpy() * LENGTH + frame["step_index"].to_numpy()
        assert (at == np.arange(STEPS)).all(), "lost, twice, or out of order"
        episodes = run.episodes
        assert len(episodes) == STEPS // LENGTH
        assert episodes["complete"].all()
        assert (episodes["source"] == "record").all()
        assert run.problems.empty, run.problems.to_string()
        print(f"{cutter.cuts} cuts, {TIMES} kills, {frames.duplicates} copies merged")  # noqa: T201 - for those who run the full one
