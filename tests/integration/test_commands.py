"""The command line over recordings: list, show, export, delete, prune, and addresses and directories that cannot be."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import socket
import subprocess
import sys
import termios
import time
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget import _chunks, normalize
from live_telemetry_widget.store import Pending, RunRow, Store
from tests.conftest import proxy_command

LIMIT = 60
NOW = time.time_ns()
DAY = 86_400 * 10**9
TERM = 7


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "live_telemetry_widget", *map(str, arguments)]


def run(*arguments: object, code: int = 0) -> Any:
    """Run a command; return what it printed, or what it complained of when it is to fail."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


def steps(events: Any, run_id: str = "lake") -> Any:
    return normalize.steps_from_events(events, run_id=run_id).batch


@pytest.fixture
def data_dir(tmp_path: pathlib.Path, sample_events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a directory with the sample run in many chunks, and one that was cancelled."""
    monkeypatch.setattr(_chunks, "MAX_ROWS", 100)
    folder = tmp_path / "data"
    config = json.dumps({"run_name": "frozen lake", "entry_point": "python"})
    with Store.open(folder) as store:
        rows = [
            RunRow("lake", TERM, "d1", config, NOW - 40 * DAY, NOW - 31 * DAY, record_seq=1),
            RunRow("gone", TERM, "", "{}", NOW, NOW, failure_reason="cancelled: Ctrl-C", record_seq=2),
        ]
        sample = [event for event in sample_events if event["type"] == "step"]
        episodes = [event for event in sample_events if event["type"] == "episode"]
        store.commit([Pending("lake", "steps", [steps(sample)])], rows)
        # A further column whose type changes: the whole number is beyond what a float holds.
        other = [
            {
                "episode": 10_000,
                "step_index": i,
                "reward": 0.0,
                "q_before": 2**60 + 1,
                "new": None,
                "ts_unix_ns": NOW + i,
            }
            for i in range(3)
        ]
        store.append("lake", "steps", [steps(other)])
        store.append("lake", "episodes", [normalize.episodes_from_events(episodes, run_id="lake").batch])
        store.append("gone", "steps", [steps(sample[:5], "gone")])
    return folder


def test_list_and_show_tell_names_and_reasons_once(data_dir: pathlib.Path) -> None:
    lines = run("list", "--data-dir", data_dir).splitlines()
    assert lines[0].split() == ["RUN", "NAME", "STATUS", "STEPS", "EPISODES", "MADE"]
    assert lines[1].split()[:5] == ["gone", "cancelled", "(Ctrl-C)", "5", "0"]
    assert lines[2].split()[:6] == ["lake", "frozen", "lake", "completed", "753", "150"]
    shown = run("show", "lake", "--data-dir", data_dir)
    assert "frozen lake" in shown
    assert "753" in shown
    assert '"entry_point": "python"' in shown
    assert "nearest: lake" in run("show", "leke", "--data-dir", data_dir, code=1)


def test_show_reads_a_daemon_too(daemon: ltw.Server) -> None:
    subprocess.run(proxy_command(daemon.address, "true", run_id="r", name="nothing"), check=True, capture_output=True)
    shown = run("show", "r", "--daemon", daemon.address)
    assert shown == run("show", "r", "--data-dir", daemon.data_dir)
    assert "nothing" in shown
    assert "no run 'q'" in run("show", "q", "--daemon", daemon.address, code=1)


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_an_exported_table_opens_everywhere_as_it_is(data_dir: pathlib.Path, tmp_path: pathlib.Path, form: str) -> None:
    path, episodes = tmp_path / f"out.{form}", tmp_path / f"out.episodes.{form}"
    run("export", "lake", "-o", path, "--data-dir", data_dir)
    with ltw.open(data_dir) as recording:
        held = recording.run("lake").steps_arrow.to_pylist()
    assert held[-1]["q_before"] == str(2**60 + 1)
    frames = [pd.read_parquet(path)] if form == "parquet" else [pd.read_feather(path)]
    frames.append((pl.read_parquet(path) if form == "parquet" else pl.read_ipc(path)).to_pandas())
    if form == "parquet":
        frames.append(duckdb.sql(f"SELECT * FROM '{path}' ORDER BY seq_id").df())  # noqa: S608 - a path of ours
    for frame in frames:
        assert len(frame) == 753
        assert frame["reward"].tolist() == [row["reward"] for row in held]
        assert frame["action"].astype(object).where(frame["action"].notna(), None).tolist() == [
            row["action"] for row in held
        ]
        assert frame["seq_id"].tolist() == list(range(1, 754))
        assert frame["q_before"].tolist() == [row["q_before"] for row in held]
    assert len(pd.read_parquet(episodes) if form == "parquet" else pd.read_feather(episodes)) == 150
    assert {held.name for held in tmp_path.iterdir()} == {"data", episodes.name, path.name}
    for where in (path, tmp_path):
        with ltw.open(where) as opened:
            again = opened.latest()
            assert (again.run_id, again.name, again.status, again.finished) == (
                "lake",
                "frozen lake",
                "completed",
                True,
            )
            assert again.steps_arrow.to_pylist() == held
            assert len(again.episodes) == 151  # 150 that the worker told of, and one derived
            assert len(again.episode(10_000)) == 3
            assert again.problems.empty


def test_formats_of_others_are_exported(data_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run("export", "lake", "-o", tmp_path / "out.csv", "--data-dir", data_dir)
    assert len(pd.read_csv(tmp_path / "out.csv")) == 753
    assert len(pd.read_csv(tmp_path / "out.episodes.csv")) == 150
    run("export", "lake", "--format", "huggingface", "-o", tmp_path / "hf", "--data-dir", data_dir)
    assert len(pl.read_parquet(str(tmp_path / "hf" / "steps" / "*.parquet"))) == 753
    assert "data_files: steps/*.parquet" in (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    run("export", "lake", "--format", "minari", "-o", tmp_path / "lake-v0", "--data-dir", data_dir)
    assert json.loads((tmp_path / "lake-v0" / "data" / "metadata.json").read_text())["total_steps"] == 753
    assert "no name of a Minari dataset" in run(
        "export", "lake", "--format", "minari", "-o", tmp_path / "lake", "--data-dir", data_dir, code=1
    )


def test_exported_lines_can_be_published_again(
    data_dir: pathlib.Path, tmp_path: pathlib.Path, daemon: ltw.Server
) -> None:
    path = tmp_path / "out.jsonl"
    run("export", "lake", "-o", path, "--data-dir", data_dir)
    assert run("export", "lake", "-o", "-", "--data-dir", data_dir) == path.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0]["config"]["run_name"] == "frozen lake"
    assert isinstance(lines[1]["observation"], dict)
    done = subprocess.run(
        proxy_command(daemon.address, "cat", str(path), run_id="again"), check=True, capture_output=True
    )
    assert b"run again: 753 steps and 150 episodes published" in done.stderr
    with ltw.open(data_dir) as first, ltw.open(daemon.data_dir) as second:
        columns = [
            "agent_id",
            "episode",
            "step_index",
            "timestamp",
            "action",
            "observation",
            "reward",
            "epsilon",
            "seq_id",
        ]
        frames = [recording.run(name).steps[columns] for recording, name in ((first, "lake"), (second, "again"))]
        pd.testing.assert_frame_equal(*frames, check_categorical=False)


def test_an_export_says_where_it_is_and_overwrites_nothing(data_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    run("export", "lake", "-o", folder, "--data-dir", data_dir)
    assert sorted(path.name for path in folder.iterdir()) == ["lake.episodes.parquet", "lake.parquet"]
    assert "--force" in run("export", "lake", "-o", folder, "--data-dir", data_dir, code=1)
    run("export", "lake", "-o", folder, "--force", "--data-dir", data_dir)
    assert ".jsonl" in run("export", "lake", "-o", "x.csv", "--format", "jsonl", "--data-dir", data_dir, code=1)
    assert "cannot be written" in run("export", "lake", "-o", folder / "no" / "x.arrow", "--data-dir", data_dir, code=1)
    assert "standard output" in run("export", "lake", "-o", "-", "--format", "arrow", "--data-dir", data_dir, code=1)
    with pytest.raises(ltw.RecordingError, match="episodes of a run"):
        ltw.open(folder / "lake.episodes.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(folder / "other.parquet")
    with pytest.raises(ltw.RecordingError, match="not a run"):
        ltw.open(folder)


def test_a_progress_bar_is_shown_to_a_terminal_alone(data_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ours, theirs = pty.openpty()
    try:
        termios.tcsetwinsize(theirs, (24, 80))
        words = command("export", "lake", "-o", tmp_path / "a.arrow", "--data-dir", data_dir)
        subprocess.run(words, stderr=theirs, timeout=LIMIT, check=True)
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "100%" in shown
    done = subprocess.run(
        command("export", "lake", "-o", tmp_path / "b.arrow", "--data-dir", data_dir),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.startswith("live-telemetry: 753 steps and 150 episodes of run lake are in ")


def test_what_a_daemon_holds_is_not_deleted(daemon: ltw.Server) -> None:
    subprocess.run(proxy_command(daemon.address, "true", run_id="r"), check=True, capture_output=True)
    for words in (("delete", "r"), ("prune", "--older-than", "1m")):
        assert f"process {daemon.pid}" in run(*words, "--data-dir", daemon.data_dir, code=1)
    assert "r " in run("list", "--data-dir", daemon.data_dir)


def test_a_deleted_run_is_gone_with_its_log_and_its_place(data_dir: pathlib.Path) -> None:
    log = data_dir / "logs" / "lake.log"
    log.parent.mkdir()
    log.write_text("said")
    before = (data_dir / "telemetry.sqlite3").stat().st_size
    assert "nearest: lake" in run("delete", "gone", "leke", "--data-dir", data_dir, code=1)
    run("delete", "lake", "--data-dir", data_dir)
    assert not log.exists()
    assert (data_dir / "telemetry.sqlite3").stat().st_size < before
    with ltw.open(data_dir) as recording:
        assert recording.runs()["run_id"].tolist() == ["gone"]
        assert len(recording.run("gone").steps) == 5
    with Store.open(data_dir) as store:
        assert store.last_seqs() == {("gone", "steps"): 5}
        assert store.append("lake", "steps", [steps([{"episode": 0, "step_index": 0, "reward": 1.0}])]) == (1, 1)


def test_prune_takes_what_ended_long_ago(data_dir: pathlib.Path) -> None:
    with Store.open(data_dir) as store:
        store.commit([], [RunRow("open", 4, updated_at=NOW - 90 * DAY, record_seq=3)])
    assert run("prune", "--older-than", "32d", "--data-dir", data_dir) == ""
    assert "lake" in run("prune", "--older-than", "30d", "--dry-run", "--data-dir", data_dir)
    with ltw.open(data_dir) as recording:
        assert sorted(recording.runs()["run_id"]) == ["gone", "lake", "open"]
    run("prune", "--older-than", "30d", "--data-dir", data_dir)
    with ltw.open(data_dir) as recording:
        assert sorted(recording.runs()["run_id"]) == ["gone", "open"]
    assert "like 30d" in run("prune", "--older-than", "30", "--data-dir", data_dir, code=2)


def test_a_directory_that_is_no_recording_is_left_alone(tmp_path: pathlib.Path) -> None:
    for words in (("delete", "r"), ("prune", "--older-than", "1d"), ("export", "r"), ("show", "r"), ("list",)):
        assert "telemetry.sqlite3" in run(*words, "--data-dir", tmp_path, code=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("127.0.0.1:99999", "0 to 65535"),
        ("127.0.0.1:-1", "not HOST:PORT"),
        ("foo", "not HOST:PORT"),
        (":50055", "not HOST:PORT"),
        ("::1:0", "not HOST:PORT"),
        ("no.such.host.invalid:0", "no host that is known"),
        ("192.0.2.1:0", "no such address"),
    ],
)
def test_an_address_that_cannot_be_is_explained(tmp_path: pathlib.Path, listen: str, words: str) -> None:
    said = run("serve", "--listen", listen, "--data-dir", tmp_path, code=1)
    assert words in said
    assert len(said.splitlines()) == 1
    assert "another daemon" not in said


def test_a_port_that_is_taken_is_explained(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = run("serve", "--listen", f"127.0.0.1:{taken.getsockname()[1]}", "--data-dir", tmp_path, code=1)
    assert "another program" in said


def test_a_data_directory_that_cannot_be_is_explained(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below", pathlib.Path("/proc/none")):
        said = run("serve", "--listen", "127.0.0.1:0", "--data-dir", path, code=1)
        assert said.startswith(f"live-telemetry: {path} cannot be the data directory")
        assert len(said.splitlines()) == 1
