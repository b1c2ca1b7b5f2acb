"""Reports from the command line, and notebooks with a run as nbconvert writes them."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget import normalize
from live_telemetry_widget.store import Pending, RunRow, Store

if TYPE_CHECKING:
    import pathlib

TERM = 7


@pytest.fixture
def data_dir(tmp_path: pathlib.Path, sample_events: list[dict[str, Any]]) -> pathlib.Path:
    """Return a data directory with the sample run."""
    folder = tmp_path / "data"
    now = time.time_ns()
    steps, episodes = ([e for e in sample_events if e["type"] == kind] for kind in ("step", "episode"))
    with Store.open(folder) as store:
        run = RunRow("lake", TERM, "", json.dumps({"run_name": "frozen lake"}), now, now, record_seq=1)
        store.commit([Pending("lake", "steps", [normalize.steps_from_events(steps, run_id="lake").batch])], [run])
        store.append("lake", "episodes", [normalize.episodes_from_events(episodes, run_id="lake").batch])
    return folder


def test_a_run_keeps_the_recording_open_that_it_is_from(data_dir: pathlib.Path) -> None:
    run = ltw.open(data_dir).latest()
    gc.collect()
    assert len(run.episodes) == 150


def report(*arguments: object, code: int = 0) -> str:
    """Run ``live-telemetry report`` and return what it said."""
    command = [sys.executable, "-m", "live_telemetry_widget", "report", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_report_is_written_from_the_command_line(data_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lake.html"
    said = report("lake", "-o", path, "--data-dir", data_dir)
    assert "150 episodes, 750 steps" in said
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "exists; give another -o FILE, or --force" in report("lake", "-o", path, "--data-dir", data_dir, code=1)
    options = ("-o", path, "--data-dir", data_dir, "--force")
    assert "Chosen: where steps < 0" in report("lake", *options, "--where", "steps < 0", code=1)
    assert "did you mean 'steps'" in report("lake", *options, "--where", "step < 3", code=1)
    assert "limit is 1,000 bytes" in report("lake", *options, "--limit", "0.001", code=1)
    assert "3 of 150 episodes" in report("lake", *options, "--newest", 3, "--static")
    assert "<script" not in path.read_text(encoding="utf-8")
