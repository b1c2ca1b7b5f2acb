"""Training programs that nobody answers: they say so, and what they told is delivered later by a command."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import live_telemetry_widget as ltw

if TYPE_CHECKING:
    import pathlib

LIMIT = 120

PROGRAM = """
import os, sys, time
import live_telemetry_widget as ltw

address, spool, cut = sys.argv[1:]
emitter = ltw.Emitter(address, "cut" if cut else "whole", spool_dir=spool)
for t in range(3):
    emitter.step(t, 1.0, t)
if cut:
    while emitter.stats.steps < 3:
        time.sleep(0.01)
    os._exit(1)
emitter.close(timeout=0.1)
"""


def train(address: str, spool: pathlib.Path, cut: str = "") -> str:
    """Return what a training program says on standard error."""
    command = [sys.executable, "-c", PROGRAM, address, str(spool), cut]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False).stderr


def deliver(spool: pathlib.Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "live_telemetry_widget", "deliver", "--spool-dir", str(spool), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_a_wrong_address_is_told_at_once_and_what_waits_is_delivered_by_a_command(
    tmp_path: pathlib.Path, daemon: ltw.Server
) -> None:
    spool = tmp_path / "spool"
    with socket.socket() as probe:  # bound, not listening: nobody answers there as long as it is open
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        said = train(address, spool).splitlines()
        train(address, spool, "cut")
    assert len(said) == 2
    assert f"no trainer daemon has answered at {address}; steps of run whole are kept in the spool {spool}" in said[0]
    assert "3 rows (steps and episodes) of run whole are not confirmed" in said[1]
    assert said[1].endswith(f"live-telemetry deliver --daemon {address} --spool-dir {spool}")

    listed = deliver(spool, "--list").stdout
    assert f"run whole (python), for {address}: 3 steps, 0 episodes; completed" in listed
    assert f"run cut (python), for {address}: 3 steps, 0 episodes; it did not say how it ended" in listed

    done = deliver(spool, "--daemon", daemon.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"run whole: 3 steps and 0 episodes delivered to {daemon.address}; it is completed" in done.stdout
    with ltw.connect(daemon.address) as client:
        for run_id, status in (("whole", "completed"), ("cut", "failed")):
            run = client.run(run_id)
            run.wait(60)
            assert run.steps["observation"].astype(int).tolist() == [0, 1, 2]
            assert run.status == status
    assert list(spool.iterdir()) == []
    assert "nothing waits" in deliver(spool).stderr
