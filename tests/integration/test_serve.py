"""``ltw.serve``: a daemon in a child process that never outlives its parent."""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import grpc
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.proto import trainer_pb2, trainer_pb2_grpc

LIMIT = 30


def alive(pid: int) -> Any:
    try:
        os.kill(pid, 0)
        # A zombie of another parent (in a container without an init that reaps) is dead too.
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def until(condition: Any) -> Any:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def health(address: str) -> Any:
    with grpc.insecure_channel(address) as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        return stub.GetHealth(trainer_pb2.HealthCheckRequest(), timeout=LIMIT)


def test_it_answers_in_the_block_and_is_gone_after_it(capfd: pytest.CaptureFixture[str]) -> None:
    with ltw.serve() as server:
        assert health(server.address).pid == server.pid
        assert server.data_dir.is_dir()
        assert "daemon.log" in {path.name for path in server.data_dir.iterdir()}
        assert server.address in repr(server)
    assert not alive(server.pid)
    assert not server.data_dir.exists()
    assert "stopped" in repr(server)
    server.stop()
    assert capfd.readouterr() == ("", "")


def test_a_directory_of_ones_own_is_kept_and_can_be_served_again(tmp_path: pathlib.Path) -> None:
    for _ in range(2):
        with ltw.serve(data_dir=tmp_path / "new" / "data", listen="127.0.0.1:0") as server:
            assert server.data_dir == tmp_path / "new" / "data"
    assert (tmp_path / "new" / "data" / "telemetry.sqlite3").is_file()


def test_an_error_in_the_block_stops_it_too() -> None:
    with pytest.raises(ZeroDivisionError), ltw.serve() as server:
        raise ZeroDivisionError
    assert not alive(server.pid)


def test_a_server_that_is_garbage_is_stopped() -> None:
    server = ltw.serve()
    pid, folder = server.pid, server.data_dir
    del server
    gc.collect()
    assert not alive(pid)
    assert not folder.exists()


def test_why_it_did_not_start_is_in_the_error(tmp_path: pathlib.Path) -> None:
    with ltw.serve(tmp_path) as server:
        with pytest.raises(ltw.ConnectError, match=f"process {server.pid}"):
            ltw.serve(tmp_path)
        with pytest.raises(ltw.ConnectError, match="cannot listen"):
            ltw.serve(listen=server.address)


_PARENT = """
    import sys, live_telemetry_widget as ltw
    server = ltw.serve(sys.argv[1])
    print(server.pid, flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.read()
"""


@contextlib.contextmanager
def parent(folder: pathlib.Path, what: str) -> Any:
    command = [sys.executable, "-c", textwrap.dedent(_PARENT), str(folder), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_it_ends_when_its_parent_is_killed(tmp_path: pathlib.Path) -> None:
    with parent(tmp_path, "wait") as (process, pid):
        assert alive(pid)
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT)
        until(lambda: not alive(pid))


def test_it_ends_with_a_parent_that_never_stopped_it(tmp_path: pathlib.Path) -> None:
    with parent(tmp_path, "leave") as (process, pid):
        assert process.wait(LIMIT) == 0
        assert not alive(pid)


def test_an_interrupt_of_the_parents_group_does_not_reach_it() -> None:
    with ltw.serve() as server:
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getsid(server.pid) == server.pid
