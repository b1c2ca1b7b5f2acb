"""What docs/operations.md promises to whoever runs a daemon."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.proto import trainer_pb2 as wire
from tests.integration.test_daemon import LIMIT, DaemonProcess, step, until
from tests.integration.test_dispatch import config, ended, start, state, submit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["start"]  # a fixture

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_every_line_of_a_json_log_is_an_object(start: Callable[..., DaemonProcess]) -> None:
    daemon = start("--log-format", "json", "--log-level", "debug")
    run_id = submit(daemon, config("step(0)"))
    ended(daemon, run_id)
    assert daemon.end() == 0
    lines = [json.loads(line) for line in daemon.errors.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    said = [line["message"] for line in lines]
    assert any(message.startswith("serving on 127.0.0.1:") for message in said)
    for change in ("INIT -> HSHK", "HSHK -> RDY", "RDY -> EXEC", "EXEC -> TERM"):
        assert f"run {run_id}: {change}" in said
    assert said[-1] == "stopped; everything that was received is committed"


def test_a_copy_made_while_it_runs_is_a_recording(start: Callable[..., DaemonProcess], tmp_path: pathlib.Path) -> None:
    daemon = start()
    daemon.open_run()
    daemon.publish(step(i) for i in range(1_000))
    (command,) = re.findall(
        r'^sqlite3 DATA_DIR/telemetry.sqlite3 "(VACUUM INTO .*)"$', (DOCS / "operations.md").read_text(), re.MULTILINE
    )
    copy = tmp_path / "copy.sqlite3"
    database = sqlite3.connect(daemon.errors.parent / "telemetry.sqlite3")
    database.execute(command.replace("/backup/telemetry.sqlite3", str(copy)))
    database.close()
    daemon.publish([step(1_000)])
    with ltw.open(copy) as recording:
        assert len(recording.run("r").steps) == 1_000
    # And a daemon goes on with it.
    (tmp_path / "restored").mkdir()
    copy.rename(tmp_path / "restored" / "telemetry.sqlite3")
    restored = start(data_dir=tmp_path / "restored")
    assert restored.publish([step(1_000)]).accepted == 1
    assert restored.describe().last_step_seq == 1_001


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_well(start: Callable[..., DaemonProcess], number: signal.Signals) -> None:
    daemon = start()
    run_id = submit(daemon, config("step(0); for_ever()"))
    until(lambda: state(daemon, run_id) == "EXEC")
    assert daemon.end(number) == 0
    assert ended(start(), run_id) == ("TERM", "cancelled: the daemon was stopped")


def test_nothing_is_started_by_a_daemon_that_ends(start: Callable[..., DaemonProcess]) -> None:
    daemon = start()
    run_id = submit(daemon, config("signal.signal(signal.SIGTERM, signal.SIG_IGN); step(0); for_ever()"))
    until(lambda: state(daemon, run_id) == "EXEC")
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: not daemon.trainer.GetHealth(wire.HealthCheckRequest(), timeout=LIMIT).healthy)
    other: Any = config("step(0)", run_name="too late")
    with pytest.raises(Exception, match="shutting down"):
        submit(daemon, other)
    assert daemon.process.wait(LIMIT) == 0


def test_the_unit_starts_a_command_that_there_is(tmp_path: pathlib.Path) -> None:
    unit = (DOCS / "live-telemetry.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    program, *arguments = shlex.split(command)
    assert pathlib.PurePosixPath(program).name == "live-telemetry"
    whole = [sys.executable, "-m", "live_telemetry_widget", *arguments, "--listen", "127.0.0.1:0", "--exit-with-stdin"]
    whole += ["--data-dir", str(tmp_path)]
    done = subprocess.run(whole, input=b"", capture_output=True, check=True, timeout=LIMIT)
    assert json.loads(done.stdout)["pid"]


def test_what_the_page_says_of_the_command_is_so() -> None:
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    said = ""
    for command in ("serve", "prune", "export"):
        whole = [sys.executable, "-m", "live_telemetry_widget", command, "--help"]
        said += subprocess.run(whole, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"`(--[a-z-]+)", page)) - {"--user"}
    assert named
    assert [option for option in named if option not in said] == []
