"""What a user may get wrong, and what is said of it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget import commands, listing, query
from live_telemetry_widget.client import RunInfo
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.schema import EPISODES, RunState
from live_telemetry_widget.worker.emitter import Options

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def hub() -> Iterator[ltw.TelemetryAsyncHub]:
    with ltw.TelemetryAsyncHub() as made:
        yield made


@pytest.fixture
def run(hub: ltw.TelemetryAsyncHub) -> ltw.Run:
    """Return a run that lost two episodes."""
    made = ltw.Run(hub.subscribe_run("r"))
    for episode in range(2):
        step = {"episode": episode, "step_index": 0, "agent_id": "a", "reward": -1.0, "terminated": True}
        hub.submit_step({"run_id": "r", **step})
    hub.complete_run("r")
    made.wait(30)
    return made


def test_an_export_replaces_no_file_unless_it_is_said(run: ltw.Run, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "r.parquet"
    run.export(path)
    with pytest.raises(
        ltw.RecordingError, match=r"r\.parquet and .*r\.episodes\.parquet exists; give another path, or over"
    ):
        run.export(path)
    assert run.export(path, overwrite=True).steps == 2


def test_what_is_written_for_others_is_named_when_it_is_opened(run: ltw.Run, tmp_path: pathlib.Path) -> None:
    run.export(tmp_path / "x.csv")
    run.export(tmp_path / "hub", format="huggingface")
    with pytest.raises(ltw.RecordingError, match=r"x\.csv is a CSV file, .* ltw\.open reads a daemon's data directory"):
        ltw.open(tmp_path / "x.csv")
    with pytest.raises(ltw.RecordingError, match=r"a Hugging Face dataset: datasets\.load_dataset"):
        ltw.open(tmp_path / "hub")
    with pytest.raises(TypeError, match="path is 3"):
        ltw.open(3)  # type: ignore[arg-type]  # what is tested


def test_a_report_goes_to_an_html_file_in_a_directory_that_is_there(run: ltw.Run, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"r\.txt does not end in \.html"):
        run.to_html(tmp_path / "r.txt")
    with pytest.raises(FileNotFoundError, match=r"r\.html cannot be written: there is no directory"):
        run.to_html(tmp_path / "none" / "r.html")


def test_an_expression_is_a_text_and_outcomes_are_written_as_they_are(run: ltw.Run) -> None:
    with pytest.raises(TypeError, match="the expression is None"):
        run.episodes_where(None)  # type: ignore[arg-type]  # what is tested
    with pytest.warns(UserWarning, match="no outcome is 'failed', case counts; did you mean 'Failed'"):
        assert run.episodes_where("steps == 1 and outcome in ['failed']").empty
    with pytest.raises(ltw.TelemetryError, match="there is no column 'Failed'; for the text write 'Failed'"):
        run.episodes_where("outcome == Failed")
    assert len(run.episodes_where("outcome == 'Failed'")) == 2


def test_of_many_columns_the_runs_own_are_named_first_and_how_many_more_there_are() -> None:
    own = [pa.field(f"own_{n}", pa.float64()) for n in range(15)]
    schema = pa.schema([*EPISODES, *own])
    with pytest.raises(ltw.TelemetryError) as caught:
        query.compile("zzz == 1", schema)
    said = str(caught.value).splitlines()[0]
    assert "there are own_0, own_1" in said
    assert said.endswith(f"and {len(schema) - 20} more")


def test_arguments_are_checked_where_they_are_given(hub: ltw.TelemetryAsyncHub, run: ltw.Run) -> None:
    with ltw.connect("127.0.0.1:1") as client:
        wrong: list[dict[str, Any]] = [{"status": "foo"}, {"status": 3}, {"status": []}]
        for options in wrong:
            with pytest.raises(ValueError, match="give one or some of 'pending'"):
                client.watch(**options)
        with pytest.raises(TypeError, match="name is 3"):
            client.watch(name=3)  # type: ignore[arg-type]  # what is tested
    with ltw.TelemetryBridge(hub) as bridge, pytest.raises(TypeError, match="callback of step_received is 3"):
        bridge.step_received.connect(3)  # type: ignore[arg-type]  # what is tested
    with pytest.warns(UserWarning, match="run 'r' has no agent 'zzz' .yet.; it has 'a'"):
        run.view(agent="zzz")
    with pytest.raises(TypeError, match="agent is 3"):
        run.view(agent=3)  # type: ignore[arg-type]  # what is tested
    run.close()


def test_a_reason_says_once_that_a_run_was_cancelled() -> None:
    feed = RunFeed("r", Link("recording"))
    feed.info = RunInfo("r", RunState.CANCELLED, "cancelled: the worker was interrupted")
    assert feed.reason == "the worker was interrupted"


def test_a_run_of_an_emitter_tells_with_what_it_was_made() -> None:
    options = dict.fromkeys(Options.__dataclass_fields__, "")
    told = Options(**{**options, "config": {}, "described": None}).run_config()  # type: ignore[arg-type]  # none of them matters here
    assert {"python", "numpy", "live_telemetry_widget"} <= told["metadata"]["versions"].keys()
    assert [told["entry_point"], *told["arguments"]] == [word[:1_000] for word in sys.orig_argv]
    json.dumps(told)


def test_files_are_looked_at_while_a_daemon_runs_and_when_none_does(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"

    command = [sys.executable, "-m", "live_telemetry_widget"]

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], capture_output=True, text=True, timeout=120, check=False)

    with ltw.serve(data) as server:
        with ltw.Emitter(server.address, "lake", spool_dir=False) as emitter:
            emitter.step(0, 1.0, terminated=True)
        for words in (["prune", "--older-than", "1w", "--dry-run"], ["show", "lake"]):
            done = call(*words, "--data-dir", str(data))
            assert (done.returncode, done.stderr) == (0, ""), words
        reader, writer = os.pipe()
        os.close(reader)  # nobody reads on, as behind `| head`
        left = subprocess.run(
            [*command, "list", "--data-dir", str(data)], stdout=writer, stderr=subprocess.PIPE, timeout=120, check=False
        )
        os.close(writer)
        assert (left.stderr, left.returncode) == (b"", 141)
        assert "another daemon" in call("prune", "--older-than", "1w", "--data-dir", str(data)).stderr
        address = server.address
    # Where no daemon answers, the files of the usual directory do, unless a daemon was named.
    where = argparse.Namespace(data_dir=None, daemon=None, usual=(address, data))
    assert [told.info.run_id for told in commands._from_where(where, listing.of_directory, listing.of_daemon)] == [
        "lake"
    ]
    assert f"no daemon answers at {address}; this is what its files in {data} say" in capsys.readouterr().err
    where.daemon = address
    with pytest.raises(ltw.ConnectError, match="can be read without it: --data-dir DIR"):
        commands._from_where(where, listing.of_directory, listing.of_daemon)
