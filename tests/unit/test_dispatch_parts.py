"""What dispatching is made of: the config and its schema, tokens, who calls, which process is which, who is silent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pathlib
import secrets
import signal
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from live_telemetry_widget import _names
from live_telemetry_widget.daemon import callers, processes, silence
from live_telemetry_widget.daemon import config as run_config
from live_telemetry_widget.daemon.family import Family, log_path
from live_telemetry_widget.daemon.log import DurableLog
from live_telemetry_widget.daemon.logs import JsonFormatter
from live_telemetry_widget.daemon.refusal import RefusalError
from live_telemetry_widget.daemon.runs import EXEC, FAULT, HSHK, INIT, PAUSE, RDY, TERM, Registry
from live_telemetry_widget.daemon.settings import DISPATCH, Settings
from live_telemetry_widget.daemon.silence import Pulse
from live_telemetry_widget.daemon.tokens import FILE_NAME, Tokens
from live_telemetry_widget.store import RunRow, Store
from tests.conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ROOT = pathlib.Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "run-config.schema.json").read_text(encoding="utf-8"))
CONFIG: dict[str, Any] = {
    "run_name": "frozen lake",
    "entry_point": "python",
    "arguments": ["-m", "worker"],
    "environment": {"A": "b"},
    "resources": {"cpus": 1, "memory_mb": 256, "gpus": {"requested": 0, "mandatory": False}},
    "artifacts": {"output_prefix": "runs/x", "persist_logs": True, "keep_checkpoints": False},
}


def with_gpus(**gpus: Any) -> dict[str, Any]:
    return {"resources": {"cpus": 1, "memory_mb": 256, "gpus": gpus}}


FINE: list[dict[str, Any]] = [
    {},
    {"metadata": None, "schedule": None},
    {"metadata": {"worker": {"agent_id": "a", "config": {"run_id": "x"}}}},
    {"schedule": {"max_duration_seconds": 0.5, "max_steps": None}},
    {"resources": {"cpus": 1.5, "memory_mb": 256}},
    {"resources": {"cpus": 64, "memory_mb": 1e6, "gpus": None}},
    with_gpus(requested=8, mandatory=True),
    {"run_name": "ü" * 120},
    {"environment": {"A": "", "b c": "="}},
]
WRONG: list[dict[str, Any]] = [
    *({name: None} for name in CONFIG),
    {"more": 1},
    {"run_name": ""},
    {"run_name": "x" * 121},
    {"entry_point": ""},
    {"entry_point": "a\0b"},
    {"arguments": ["a\0b"]},
    {"arguments": [1]},
    {"environment": {"A": 1}},
    {"environment": {"A=B": "1"}},
    {"environment": {"": "1"}},
    {"environment": {"A": "\0"}},
    {"resources": {"cpus": 0, "memory_mb": 256}},
    {"resources": {"cpus": True, "memory_mb": 256}},
    {"resources": {"cpus": 1}},
    with_gpus(requested=9),
    with_gpus(requested=-1),
    with_gpus(mandatory=1),
    {"metadata": []},
    {"schedule": 5},
    {"schedule": {"max_duration_seconds": 0}},
    {"schedule": {"max_duration_seconds": "1"}},
    {"schedule": {"max_steps": -1}},
]


@pytest.mark.parametrize(("changes", "fine"), [*((case, True) for case in FINE), *((case, False) for case in WRONG)])
def test_the_schema_in_the_documents_says_what_the_daemon_takes(changes: dict[str, Any], *, fine: bool) -> None:
    config = CONFIG | changes
    with contextlib.nullcontext() if fine else pytest.raises(RefusalError):
        run_config.parse_config(json.dumps(config))
    with contextlib.nullcontext() if fine else pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(config)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_what_a_worker_is_called_is_found_or_nothing() -> None:
    for metadata in (None, {}, {"worker": None}, {"worker": []}, {"worker": {"agent_id": 5}}):
        assert run_config.worker_of({"metadata": metadata}, "agent_id") == ""
    assert run_config.worker_of({"metadata": {"worker": {"agent_id": "a"}}}, "agent_id") == "a"


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_the_key_of_a_directory_stays_and_is_its_owners_alone(tmp_path: pathlib.Path) -> None:
    token = Tokens.of_directory(tmp_path).issue("r")
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    again = Tokens.of_directory(tmp_path)
    assert again.valid(token, "r")
    assert again.issue("r") != token
    (tmp_path / FILE_NAME).write_bytes(b"half")
    assert not Tokens.of_directory(tmp_path).valid(token, "r")


@pytest.mark.parametrize("token", ["", ".", "x", "a.b", "\u00fc.\u00fc", "." * 1_000])
def test_what_is_no_token_is_none(token: str) -> None:
    assert not Tokens(b"key").valid(token, "r")


# -- processes ---------------------------------------------------------------------------------------------------------


SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_process_is_one_and_the_same_only_while_it_lives(
    processes: Callable[..., subprocess.Popen[bytes]],
) -> None:
    popen = processes(SLEEP)
    process = find(popen.pid)
    assert process is not None
    assert process.alive
    # The same number, started at another time: somebody else's.
    other = process._replace(started=process.started + "0")
    assert not other.alive
    assert not send(other, signal.SIGKILL)
    assert popen.poll() is None
    assert send(process, signal.SIGTERM)
    # It is a zombie now, until its parent asks for it.
    wait_for(lambda: not process.alive, "its end")
    assert not send(process, signal.SIGTERM)
    assert popen.wait(10) == -signal.SIGTERM
    assert find(popen.pid) is None


find, send = processes.find, processes.send


def test_a_family_is_found_by_its_mark_however_far_it_went(processes: Callable[..., subprocess.Popen[bytes]]) -> None:
    code = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:], start_new_session=True); print(p.pid, flush=True); p.wait()"
    mark = secrets.token_hex()  # others may run this test at the same time
    environment = {**os.environ, _names.MARK: mark}
    parent = processes([sys.executable, "-c", code, *SLEEP], env=environment, stdout=subprocess.PIPE)
    stranger = processes(SLEEP, env={**os.environ, _names.MARK: mark + "0"})
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    # In the midst of its exec a process shows no environment.
    wait_for(lambda: {process.pid for process in family(mark)} == {parent.pid, child}, "both")
    parent.kill()
    parent.wait(10)
    wait_for(lambda: [process.pid for process in family(mark)] == [child], "the child alone")
    (left,) = family(mark)
    assert send(left, signal.SIGKILL)
    wait_for(lambda: not family(mark), "its end")
    assert stranger.poll() is None


family = processes.family


async def test_a_record_is_read_again_as_it_was_written(tmp_path: pathlib.Path) -> None:
    written = Family.new("a/b", tmp_path, "127.0.0.1:1")
    written.gpus = [0, 2]
    written.process = processes.Process(5, "then")
    written.write()
    (read,) = Family.left_in(tmp_path)
    same = ("run_id", "mark", "address", "record", "log", "process", "gpus")
    assert [getattr(read, name) for name in same] == [getattr(written, name) for name in same]
    assert read.code is None
    read.forget(keep_log=True)
    assert Family.left_in(tmp_path) == []


@pytest.mark.parametrize("run_id", ["r", "../../etc/passwd", ".", "..", "ü" * 200, "a b", "\\", "%"])
def test_a_log_stays_in_its_folder_whatever_a_run_is_called(tmp_path: pathlib.Path, run_id: str) -> None:
    path = log_path(tmp_path, run_id)
    assert path.resolve().parent == (tmp_path / "logs").resolve()
    assert len(path.name) <= 120


# -- callers -----------------------------------------------------------------------------------------------------------


def encoded(host: str, port: int) -> str:
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_of_ours_is_known_for_that(host: str) -> None:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(kind) as server, socket.socket(kind) as client:
        try:
            server.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        server.listen()
        port = server.getsockname()[1]
        client.connect((host, port))
        peer = encoded(host, client.getsockname()[1])
        assert callers.why_not_same_user(peer, port) == ""
        if not pathlib.Path("/proc/net/tcp").exists():
            return
        assert "cannot be found out" in callers.why_not_same_user(peer, port + 1)
        accepted = server.accept()[0]
        accepted.close()
    # A connection that is over is shown as root's, and is nobody's.
    assert "cannot be found out" in callers.why_not_same_user(peer, port)


@pytest.mark.parametrize(
    ("peer", "why"),
    [
        ("unix:", ""),
        ("unix:/run/daemon.sock", ""),
        ("ipv4:192.0.2.7:5000", "comes from 192.0.2.7"),
        ("ipv6:%5B2001:db8::1%5D:5000", "comes from 2001:db8::1"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:5000", "comes from 192.0.2.7"),
        ("", "not clear"),
        ("ipv4:localhost:5000", "not clear"),
        ("ipv4:127.0.0.1:x", "not clear"),
    ],
)
def test_who_is_not_on_this_machine_is_not_our_user(peer: str, why: str) -> None:
    found = callers.why_not_same_user(peer, 1)
    assert (why in found) if why else found == ""


# -- silence -----------------------------------------------------------------------------------------------------------


def test_a_daemon_that_was_stopped_does_not_blame_its_runs() -> None:
    pulse = Pulse()
    pulse.beat("r")
    for elapsed in (silence.TICK, 3_600.0, silence.TICK):
        pulse.tick(elapsed)
    assert pulse.silent("r") == 4 * silence.TICK
    pulse.beat("r")
    assert pulse.silent("r") == 0
    pulse.forget("r")
    assert pulse.silent("r") == 0


@pytest.mark.parametrize(
    ("run", "state", "limit"),
    [
        (RunRow("r", EXEC, last_heartbeat=1), {"dispatched": False, "begun": True}, 60),
        (RunRow("r", EXEC), {"dispatched": False, "begun": True}, 3_600),
        (RunRow("r", HSHK), {"dispatched": True, "begun": True}, 60),
        (RunRow("r", INIT), {"dispatched": False, "begun": False}, 0),
        (RunRow("r", INIT, "digest"), {"dispatched": False, "begun": False}, 3_600),
    ],
)
def test_how_long_a_run_may_be_silent(run: RunRow, state: dict[str, bool], limit: float) -> None:
    assert silence.patience(run, Settings(), **state) == limit


@pytest.mark.parametrize(("timeout", "limit"), [(0.0, 0.0), (1.0, 60.0), (300.0, 300.0)])
def test_a_worker_has_time_to_begin(timeout: float, limit: float) -> None:
    settings = Settings(heartbeat_timeout=timeout)
    assert silence.patience(RunRow("r", HSHK), settings, dispatched=True, begun=True) == limit


def test_a_daemon_that_starts_nothing_waits_for_workers_for_ever() -> None:
    run = RunRow("r", INIT, "digest")
    assert silence.patience(run, Settings(dispatch="never"), dispatched=False, begun=False) == 0


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def runs(tmp_path: pathlib.Path) -> AsyncIterator[Registry]:
    log = DurableLog(Store.open(tmp_path))
    yield Registry(log, [])
    await log.close()


async def test_a_pause_is_noted_where_there_is_something_to_pause(runs: Registry) -> None:
    for number, status in enumerate((INIT, HSHK, RDY, EXEC, PAUSE, FAULT, TERM)):
        run_id = f"r{number}"
        await runs.open(run_id, "")
        for after in {HSHK: [HSHK], RDY: [HSHK, RDY], EXEC: [EXEC], PAUSE: [EXEC, PAUSE]}.get(status, []):
            await runs._move(runs.find(run_id), after)
        if status == FAULT:
            await runs.fault(run_id, "lost")
        if status == TERM:
            await runs.end(run_id, None)
        await runs.pause(run_id)
        assert runs.find(run_id).status == (PAUSE if status in {RDY, EXEC, PAUSE} else status)
        await runs.resume(run_id)
        assert runs.find(run_id).status == (EXEC if status in {RDY, EXEC, PAUSE} else status)


@pytest.mark.parametrize(
    ("wish", "told", "kept"),
    [
        ("", "exit code 3", "exit code 3"),
        ("cancelled by request", "exit code 3", "cancelled by request"),
        ("cancelled by request", "cancelled: the worker was interrupted", "cancelled by request"),
        ("cancelled by request", None, None),
    ],
)
async def test_who_wanted_a_run_to_end_is_its_reason_unless_it_completed(
    runs: Registry, wish: str, told: str | None, kept: str | None
) -> None:
    await runs.open("r", "")
    if wish:
        runs.wish_end("r", wish)
        runs.wish_end("r", "cancelled: a second time")
    await runs.end("r", told)
    assert (runs.find("r").status, runs.find("r").failure_reason) == (TERM, kept)
    await runs.fault("r", "too late")
    assert runs.find("r").status == TERM


async def test_a_submission_that_was_not_committed_can_be_made_again(
    runs: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = runs._log.put_run

    def full(_: RunRow) -> asyncio.Future[None]:
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failed.set_exception(OSError("disk full"))
        return failed

    monkeypatch.setattr(runs._log, "put_run", full)
    with pytest.raises(OSError, match="full"):
        await runs.submit("", json.dumps(CONFIG))
    monkeypatch.setattr(runs._log, "put_run", put)
    assert runs.list() == []
    run = await runs.submit("", json.dumps(CONFIG))
    assert run.status == INIT
    # An end that was not committed has not happened either.
    monkeypatch.setattr(runs._log, "put_run", full)
    with pytest.raises(OSError, match="full"):
        await runs.end(run.run_id, None)
    assert runs.find(run.run_id) == run
    assert runs.active() == (run,)
    monkeypatch.setattr(runs._log, "put_run", put)
    await runs.end(run.run_id, None)
    assert runs.active() == ()


# -- what it says ------------------------------------------------------------------------------------------------------


def test_a_line_of_the_log_is_an_object() -> None:
    error = (ZeroDivisionError, ZeroDivisionError(), None)
    name = "live_telemetry_widget.daemon.runs"
    record = logging.LogRecord(name, logging.WARNING, "file", 1, "run %s\n%s", ("r", '"'), error)
    line = JsonFormatter().format(record)
    said = json.loads(line)
    assert "\n" not in line
    assert (said["level"], said["logger"], said["message"]) == ("warning", "daemon.runs", 'run r\n"')
    assert said["time"].endswith("+00:00")
    assert said["error"].endswith("ZeroDivisionError")


def test_the_command_offers_the_settings_there_are() -> None:
    command = [sys.executable, "-m", "live_telemetry_widget", "serve", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "{" + ",".join(DISPATCH) + "}" in said
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in said
