"""An emitter's helper process: it outlives what it must outlive, no more, and what it leaves is told once."""

from __future__ import annotations

import os
import pathlib
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.worker import child, courier, helper
from live_telemetry_widget.worker.emitter import Emitter
from live_telemetry_widget.worker.helper import Helper
from tests.conftest import demo_command, proxy_command, wait_for
from tests.integration.test_emitter import Start, free_address, left_in, recorded, script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no helper there")


def helper_of(emitter: Emitter) -> Helper:
    assert isinstance(emitter._courier, Helper)
    return emitter._courier


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one whose parent is dead may be waiting for whoever adopted it to notice."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def tell(emitter: Emitter, first: int, number: int) -> None:
    for t in range(first, first + number):
        emitter.step(t % 4, 1.0, t, t % 10 == 9)


@pytest.mark.parametrize("spooled", [True, False])
def test_a_killed_helper_is_replaced_and_everything_is_told_once(
    tmp_path: pathlib.Path, spool: pathlib.Path, *, spooled: bool
) -> None:
    """Killed at any moment, with the daemon there and away; what was only in a dead helper's memory is counted."""
    address = free_address()
    emitter = Emitter(address, "restarted", spool_dir=spool if spooled else False, worker_id="w")
    own = helper_of(emitter)
    told = 0
    server = None
    try:
        for number in range(4):
            if number == 2:
                server = ltw.serve(tmp_path / "data", address)
            tell(emitter, told, 1_000)
            told += 1_000
            if number % 2:
                wait_for(lambda: emitter.stats.steps >= told, "the steps are taken")  # noqa: B023 - called at once
                tell(emitter, told, 5)
                told += 5
            os.kill(own.pid, signal.SIGKILL)
            wait_for(lambda: own.deaths == number + 1, "the helper's death was noticed")  # noqa: B023 - called at once
        tell(emitter, told, 5)
        told += 5
        assert emitter.flush(60) == spooled
        stats = emitter.stats
        assert stats.problems["helper_died"] == 4
        assert stats.confirmed_steps + stats.dropped >= told
        pid = own.pid
        assert emitter.close(timeout=30) == spooled
        wait_for(lambda: is_gone(pid), "the helper has ended")
        run = recorded(address, "restarted")
        seen = run.steps["observation"].astype(int).tolist()
        assert len(set(seen)) == len(seen)
        assert seen == sorted(seen)
        lost = stats.problems.get("helper_lost", 0)
        if spooled:
            assert seen == list(range(told))
            assert run.steps["episode"].tolist() == [t // 10 for t in range(told)]
            assert set(run.episodes["steps"][:-1]) == {10}
            assert run.problems.empty
            assert lost == 0
            assert left_in(spool) == []
        else:
            assert lost > 0
            assert len(seen) + len(run.episodes) >= emitter.stats.steps + emitter.stats.episodes - lost
    finally:
        emitter.close(timeout=0)
        if server is not None:
            server.stop()


def kill_helper(own: Helper) -> None:
    pid = own.pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: own.pid != pid, "the helper's death was noticed")


@pytest.mark.parametrize("served", [True, False])
def test_when_helpers_keep_dying_the_training_process_does_their_work(
    tmp_path: pathlib.Path, spool: pathlib.Path, monkeypatch: pytest.MonkeyPatch, *, served: bool
) -> None:
    """With what they had not kept and what they left, daemon or not, and somebody who waits for it meanwhile."""
    monkeypatch.setattr(helper, "_LIVES", 1)
    address = free_address()
    server = ltw.serve(tmp_path / "data", address) if served else None
    emitter = Emitter(address, "carried on", spool_dir=spool, worker_id="w")
    own = helper_of(emitter)
    flushed: list[bool] = []
    waiter = threading.Thread(target=lambda: flushed.append(emitter.flush(60)))
    try:
        tell(emitter, 0, 1_000)
        wait_for(lambda: emitter.stats.steps == 1_000, "the first helper has them")
        tell(emitter, 1_000, 1_005)
        kill_helper(own)
        # What is in the pipe of one that does not read must not be lost with it.
        os.kill(own.pid, signal.SIGSTOP)
        tell(emitter, 2_005, 2_000)
        waiter.start()
        kill_helper(own)
        assert own.pid == 0
        if server is None:
            server = ltw.serve(tmp_path / "data", address)
        waiter.join(60)
        assert flushed == [True]
        tell(emitter, 4_005, 5)
        assert emitter.flush(60)
        stats = emitter.stats
        assert (stats.problems["helper_died"], stats.problems["helper_given_up"]) == (2, 1)
        assert (stats.steps, stats.confirmed_steps, stats.not_recorded, stats.why) == (4_010, 4_010, 0, "")
        assert emitter.close(timeout=30)
        run = recorded(address, "carried on")
        assert run.steps["observation"].astype(int).tolist() == list(range(4_010))
        assert run.steps["episode"].tolist() == [t // 10 for t in range(4_010)]
        assert run.problems.empty
        assert left_in(spool) == []
    finally:
        emitter.close(timeout=0)
        if server is not None:
            server.stop()


def test_a_run_is_ended_by_the_training_process_when_its_last_helper_dies_at_the_end(
    daemon: ltw.Server, spool: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "_LIVES", 0)
    emitter = Emitter(daemon.address, spool_dir=spool)
    own = helper_of(emitter)
    os.kill(own.pid, signal.SIGSTOP)
    tell(emitter, 0, 100)
    killer = threading.Timer(0.2, os.kill, (own.pid, signal.SIGKILL))
    killer.start()
    assert emitter.close(timeout=60)
    killer.join()
    run = recorded(daemon.address, emitter.run_id)
    assert (run.status, len(run.steps)) == ("completed", 100)


def test_recording_ends_in_words_when_nobody_can_do_the_helpers_work(
    daemon: ltw.Server, spool: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        msg = "no thread can be started"
        raise RuntimeError(msg)

    monkeypatch.setattr(helper, "_LIVES", 0)
    monkeypatch.setattr(courier.Courier, "start", refuse)
    emitter = Emitter(daemon.address, spool_dir=spool)
    own = helper_of(emitter)
    os.kill(own.pid, signal.SIGSTOP)
    tell(emitter, 0, 100)
    os.kill(own.pid, signal.SIGKILL)
    wait_for(lambda: emitter.gate.off, "the end of the recording")
    emitter.step(0, 1.0, 100)
    stats = emitter.stats
    assert "no thread can be started" in stats.why
    assert (stats.problems["helper_lost"], stats.not_recorded) == (100, 1)
    assert not emitter.close(timeout=5)


def test_a_helper_ends_when_its_training_process_was_killed_and_delivers_what_it_has(
    daemon: ltw.Server, spool: pathlib.Path, processes: Start
) -> None:
    """Even when a forked child of the dead process still holds its pipes."""
    body = """
        emitter = ltw.Emitter(args[0], args[1], spool_dir=args[2])
        if not os.fork():
            signal.pause()
        for t in range(1_000):
            emitter.step(t % 4, 1.0, t, t % 10 == 9)
        while emitter.stats.steps < 1_000:
            time.sleep(0.01)
        print(emitter._courier.pid, flush=True)
        signal.pause()
    """
    worker = processes(
        script(body, daemon.address, "killed", str(spool)), stdout=subprocess.PIPE, start_new_session=True
    )
    pid = int(worker.stdout.readline())
    assert not is_gone(pid)
    worker.kill()
    worker.wait()
    try:
        wait_for(lambda: is_gone(pid), "the helper has ended")
    finally:
        os.killpg(worker.pid, signal.SIGKILL)  # the forked child
    assert left_in(spool) == []
    with ltw.connect(daemon.address) as client:
        run = client.run("killed")
        wait_for(lambda: len(run.steps) == 1_000, "what it had told")
        assert run.steps["observation"].astype(int).tolist() == list(range(1_000))


def test_ctrl_c_in_a_terminal_loses_nothing_and_the_terminal_is_free(daemon: ltw.Server, spool: pathlib.Path) -> None:
    """The terminal sends SIGINT to all that run in it; the program ends by it, with the last rows told."""
    body = """
        emitter = ltw.Emitter(args[0], args[1], spool_dir=args[2])
        t = 0
        while True:
            emitter.step(t % 4, 1.0, t)
            t += 1
            if t == 500:
                print("told", flush=True)
            if t > 500:
                time.sleep(0.002)
    """
    master, slave = pty.openpty()
    worker = subprocess.Popen(
        script(body, daemon.address, "interrupted", str(spool)),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=_takes_terminal,  # noqa: PLW1509 - no threads are started in between
    )
    os.close(slave)
    try:
        said = b""
        while b"told" not in said:
            said += os.read(master, 1000)
        os.write(master, b"\x03")
        # Until nobody has the terminal any more, which is an error on Linux.
        ended = threading.Event()

        def drain() -> None:
            try:
                while os.read(master, 1000):
                    pass
            except OSError:
                pass
            ended.set()

        reader = threading.Thread(target=drain, daemon=True)
        reader.start()
        assert worker.wait(60) != 0
        assert ended.wait(60)
        reader.join()
    finally:
        worker.kill()
        worker.wait()
        os.close(master)
    run = recorded(daemon.address, "interrupted")
    assert run.status == "cancelled"
    assert run.steps["observation"].astype(int).tolist() == list(range(len(run.steps)))
    assert len(run.steps) >= 500
    assert left_in(spool) == []


def _takes_terminal() -> None:
    import fcntl  # noqa: PLC0415 - not everywhere
    import termios  # noqa: PLC0415 - not everywhere

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_who_reads_a_programs_output_does_not_wait_for_its_helper(tmp_path: pathlib.Path, spool: pathlib.Path) -> None:
    """A program that leaves at once leaves its rows in the spool; nothing holds its pipes open."""
    body = """
        emitter = ltw.Emitter(args[0], args[1], spool_dir=args[2])
        emitter.step(0, 1.0, 0)
        emitter.close(timeout=0)
        print("done")
    """
    address = free_address()
    said = subprocess.run(
        script(body, address, "quick", str(spool)), check=True, capture_output=True, text=True, timeout=60
    )
    assert said.stdout == "done\n"
    wait_for(lambda: any(name.endswith(".spool") for name in left_in(spool)), "the row is in the spool")
    with ltw.serve(tmp_path / "data", address), Emitter(address, "quick", spool_dir=spool) as emitter:
        wait_for(lambda: emitter.stats.recovered == 1, "the row")


def test_one_that_cannot_start_is_done_without(
    daemon: ltw.Server, spool: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "COMMAND", ("-c", "import sys; sys.exit(1)"))
    with Emitter(daemon.address, spool_dir=spool) as emitter:
        assert not isinstance(emitter._courier, Helper)
        tell(emitter, 0, 10)
    run = recorded(daemon.address, emitter.run_id)
    assert run.steps["observation"].astype(int).tolist() == list(range(10))


def test_in_this_process_on_request(daemon: ltw.Server, spool: pathlib.Path) -> None:
    with Emitter(daemon.address, spool_dir=spool, process=False) as emitter:
        tell(emitter, 0, 10)
        assert emitter.flush()
        assert emitter.stats.confirmed_episodes == 1
        assert not isinstance(emitter._courier, Helper)
    assert recorded(daemon.address, emitter.run_id).status == "completed"


def test_objects_of_the_programs_own_are_told_as_text(emitter: Emitter, daemon: ltw.Server) -> None:
    """The helper knows nothing of the classes of the training program, nor of what cannot be pickled at all."""

    class Place:
        def __str__(self) -> str:
            return "a place"

    class Bad:
        def __reduce__(self) -> str:
            raise RuntimeError

        def __str__(self) -> str:
            raise RuntimeError

    emitter.step(0, 1.0, Place(), lock=threading.Lock(), at=time.gmtime(0), of=Place)
    emitter.step(1, 2.0, Bad())
    emitter.step(2, 3.0, {"bad": Bad(), "good": 1})
    assert emitter.close()
    run = recorded(daemon.address, emitter.run_id)
    assert run.steps["reward"].tolist() == [1.0, 2.0, 3.0]
    assert run.steps["observation"].tolist()[0] == '"a place"'
    assert "Bad" in run.steps["observation"].tolist()[1]
    assert run.steps["observation"].tolist()[2] == '{"bad":"<Bad>","good":1}'
    assert emitter.stats.problems["not_json"] == 2


def test_the_demo_worker_tells_a_daemon_itself(daemon: ltw.Server, tmp_path: pathlib.Path) -> None:
    """The same steps and records as by the proxy, from its own emitter."""
    arguments = ("--episodes", "5", "--seed", "3")
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    said = subprocess.run(
        demo_command(*arguments, "--daemon", daemon.address, "--run-id", "told"),
        check=True,
        capture_output=True,
        env=environment,
    )
    subprocess.run(proxy_command(daemon.address, *demo_command(*arguments), run_id="printed"), check=True)
    told, printed = recorded(daemon.address, "told"), recorded(daemon.address, "printed")
    assert said.stdout == b""
    names = ["episode", "step_index", "action", "reward", "observation", "render_payload", "q_after", "epsilon"]
    assert told.steps[names].astype(str).equals(printed.steps[names].astype(str))
    records = ["episode", "total_reward", "steps", "success", "game_id"]
    assert told.episodes[records].astype(str).equals(printed.episodes[records].astype(str))
    assert (told.status, printed.status) == ("completed", "completed")
    assert told.problems.empty
