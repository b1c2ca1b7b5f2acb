"""Reports from the command line, and of runs in recordings."""

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
from live_telemetry_widget.cli import main
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


def test_a_report_is_written_from_the_command_line(data_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lake.html"
    command = [
        sys.executable,
        "-m",
        "live_telemetry_widget",
        "report",
        "lake",
        "-o",
        str(path),
        "--data-dir",
        str(data_dir),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "150 episodes, 750 steps" in done.stderr
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_what_a_report_cannot_be_is_said_in_a_line(
    data_dir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lake.html"
    path.write_text("mine")

    def said(*options: str, code: int = 1) -> str:
        assert main(["report", "lake", "-o", str(path), "--data-dir", str(data_dir), *options]) == code
        return capsys.readouterr().err

    assert "exists; give another -o FILE, or --force" in said()
    assert path.read_text() == "mine"
    assert "Chosen: where steps < 0" in said("--force", "--where", "steps < 0")
    assert "did you mean 'steps'" in said("--force", "--where", "step < 3")
    assert "limit is 1,000 bytes" in said("--force", "--limit", "0.001")
    assert path.read_text() == "mine", "what cannot be written leaves the old one"
    assert "3 of 150 episodes" in said("--force", "--newest", "3", "--static", code=0)
    assert "<script" not in path.read_text(encoding="utf-8")
