"""The registry of runs: states, configs, watchers; and the log's promises under it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from live_telemetry_widget import normalize
from live_telemetry_widget._lock import DirectoryLock
from live_telemetry_widget._ulid import new_ulid
from live_telemetry_widget.daemon import config
from live_telemetry_widget.daemon.log import DurableLog
from live_telemetry_widget.daemon.refusal import RefusalError
from live_telemetry_widget.daemon.runs import ENDED, EXEC, FAULT, HSHK, INIT, MAY_FOLLOW, PAUSE, RDY, TERM, Registry
from live_telemetry_widget.errors import ClosedError, RecordingError
from live_telemetry_widget.store import Store

if TYPE_CHECKING:
    import pathlib

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def submitted(**changes: dict[str, Any]) -> Any:
    whole = {
        "run_name": "frozen lake",
        "entry_point": "python",
        "arguments": ["-m", "worker"],
        "environment": {"A": "b"},
        "resources": {"cpus": 1, "memory_mb": 256, "gpus": {"requested": 0, "mandatory": False}},
        "artifacts": {"output_prefix": "runs/x", "persist_logs": True, "keep_checkpoints": False},
    }
    return {name: value for name, value in (whole | changes).items() if value is not ...}


def steps(count: int) -> Any:
    events = [{"type": "step", "episode": 0, "step_index": i, "action": 1, "reward": float(i)} for i in range(count)]
    return normalize.steps_from_events(events, run_id="r").batch


@pytest.fixture
async def log(tmp_path: pathlib.Path) -> Any:
    opened = DurableLog(Store.open(tmp_path))
    yield opened
    await opened.close()


@pytest.fixture
async def runs(log: DurableLog) -> Any:
    return Registry(log, log.store.runs())


async def take(iterator: Any, count: int) -> Any:
    async with asyncio.timeout(10):
        return [await anext(iterator) for _ in range(count)]


# -- configs -----------------------------------------------------------------------------------------------------------


def test_a_config_as_clients_send_it_is_taken() -> None:
    extra = {"metadata": {"worker": {"config": {"run_id": ULID}}}, "schedule": {"max_steps": 5}}
    assert config.parse_config(json.dumps(submitted(**extra)))["schedule"] == {"max_steps": 5}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        *(({name: ...}, name) for name in submitted()),
        *(({name: 5}, name) for name in submitted()),
        ({"more": 1}, "more"),
        ({"run_name": ""}, "run_name"),
        ({"run_name": "x" * 121}, "run_name"),
        ({"entry_point": ""}, "entry_point"),
        ({"arguments": [1]}, "arguments"),
        ({"environment": {"A": 1}}, "environment"),
        ({"resources": {"cpus": 0, "memory_mb": 256}}, "resources.cpus"),
        ({"resources": {"cpus": True, "memory_mb": 256}}, "resources.cpus"),
        ({"resources": {"cpus": 1, "memory_mb": 255}}, "resources.memory_mb"),
        ({"resources": {"cpus": 1, "memory_mb": 256, "gpus": {"requested": 9}}}, "gpus.requested"),
        ({"resources": {"cpus": 1, "memory_mb": 256, "gpus": {"mandatory": 1}}}, "gpus.mandatory"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_a_config_that_will_not_do_is_refused_by_the_name_of_what_is_wrong(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(RefusalError, match=re.escape(named)) as caught:
        config.parse_config(json.dumps(submitted(**changes)))
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "[" * 100_000])
def test_a_config_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(RefusalError):
        config.parse_config(text)


def test_ulids_are_ulids_and_sort_by_time() -> None:
    made = [new_ulid() for _ in range(100)]
    assert len(set(made)) == 100
    assert all(re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", one) for one in made)
    assert [one[:10] for one in made] == sorted(one[:10] for one in made)


# -- making ------------------------------------------------------------------------------------------------------------


async def test_the_same_config_is_the_same_run_whatever_the_order_of_its_keys(runs: Registry) -> None:
    first = await runs.submit("", json.dumps(submitted()))
    again = await runs.submit("another", json.dumps(dict(reversed(submitted().items())), indent=2))
    other = await runs.submit("", json.dumps(submitted(run_name="other")))
    assert first.digest == again.digest != other.digest
    assert first.run_id == again.run_id != other.run_id


async def test_a_run_id_is_the_requests_else_the_configs_ulid_else_a_new_one(runs: Registry) -> None:
    named = submitted(metadata={"worker": {"config": {"run_id": ULID}}})
    assert (await runs.submit("mine", json.dumps(named | {"run_name": "1"}))).run_id == "mine"
    assert (await runs.submit("", json.dumps(named))).run_id == ULID
    not_a_ulid = submitted(metadata={"worker": {"config": {"run_id": "short"}}})
    assert len((await runs.submit("", json.dumps(not_a_ulid))).run_id) == 26


async def test_a_taken_run_id_with_another_config_is_refused(runs: Registry) -> None:
    await runs.submit("mine", json.dumps(submitted()))
    with pytest.raises(RefusalError) as caught:
        await runs.submit("mine", json.dumps(submitted(run_name="other")))
    assert caught.value.code == grpc.StatusCode.ALREADY_EXISTS


async def test_runs_are_there_after_a_restart(tmp_path: pathlib.Path) -> None:
    log = DurableLog(Store.open(tmp_path))
    runs = Registry(log, [])
    made = await runs.submit("a", json.dumps(submitted()))
    await runs.open("b", "")
    await runs.end("b", "cancelled: enough")
    await log.close()
    log = DurableLog(Store.open(tmp_path))
    again = Registry(log, log.store.runs())
    assert again.find("a") == made
    assert (again.find("b").status, again.find("b").failure_reason) == (TERM, "cancelled: enough")
    assert (await again.submit("", json.dumps(submitted()))).run_id == "a"
    assert (await again.open("c", ""))[0].record_seq > again.find("b").record_seq
    await log.close()


# -- states ------------------------------------------------------------------------------------------------------------


def test_every_state_can_end_and_an_end_is_final() -> None:
    assert all(TERM in following for state, following in MAY_FOLLOW.items() if state != TERM)
    assert not MAY_FOLLOW[TERM]
    assert {FAULT, TERM} == ENDED


async def test_only_listed_transitions_happen(runs: Registry) -> None:
    for number, (before, after) in enumerate(itertools.product(MAY_FOLLOW, MAY_FOLLOW)):
        run, _ = await runs.open(f"r{number}", "")
        path = {
            INIT: [],
            HSHK: [HSHK],
            RDY: [HSHK, RDY],
            EXEC: [EXEC],
            PAUSE: [EXEC, PAUSE],
            FAULT: [FAULT],
            TERM: [TERM],
        }
        for state in path[before]:
            run = await runs._move(run, state)
        if after in MAY_FOLLOW[before]:
            assert (await runs._move(run, after)).status == after
        else:
            with pytest.raises(RefusalError):
                runs._move(run, after)


async def test_a_worker_shakes_hands_then_steps_then_the_run_ends_once(runs: Registry, log: DurableLog) -> None:
    await runs.open("r", "")
    token = await runs.register("r", "w")
    assert len(token) > 20
    assert runs.registered("r")
    assert runs.find("r").status == RDY
    runs.stepping("r")
    await log.append("r", "steps", steps(1))
    assert runs.find("r").status == EXEC
    assert log.store.run("r").status == EXEC
    await runs.register("r", "w2")
    assert runs.find("r").status == EXEC
    await runs.end("r", None)
    await runs.end("r", "cancelled by request")
    assert runs.find("r").failure_reason is None
    with pytest.raises(RefusalError) as caught:
        await runs.register("r", "late")
    assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION


# -- watching ----------------------------------------------------------------------------------------------------------


async def test_a_watcher_sees_a_snapshot_then_every_change(runs: Registry) -> None:
    await runs.open("a", "")
    await runs.open("b", "")
    watcher = runs.watch(0)
    assert [(run.run_id, seq) for run, seq in await take(watcher, 2)] == [("a", 0), ("b", 0)]
    await runs.register("a", "w")
    await runs.end("b", None)
    assert [(r.run_id, r.status, seq) for r, seq in await take(watcher, 3)] == [
        ("a", HSHK, 3),
        ("a", RDY, 4),
        ("b", TERM, 5),
    ]


async def test_a_watcher_goes_on_after_its_number(runs: Registry) -> None:
    for name in "abc":
        await runs.open(name, "")
    assert [seq for _, seq in await take(runs.watch(1), 2)] == [2, 3]
    beyond = runs.watch(1_000)
    waiting = asyncio.ensure_future(anext(beyond))
    await runs.open("d", "")
    assert (await waiting)[0].run_id == "d"


async def test_a_watcher_that_is_far_behind_gets_each_changed_run_as_it_is(log: DurableLog) -> None:
    runs = Registry(log, [], changes_kept=2)
    await runs.open("a", "")
    await runs.register("a", "w")
    await runs.open("b", "")
    await runs.end("b", None)
    assert [(run.run_id, run.status) for run, _ in await take(runs.watch(1), 2)] == [("a", RDY), ("b", TERM)]


async def test_watchers_end_with_the_registry(runs: Registry) -> None:
    waiting = asyncio.ensure_future(anext(runs.watch(0)))
    await asyncio.sleep(0)
    runs.close()
    with pytest.raises(ClosedError):
        await waiting


# -- the log -----------------------------------------------------------------------------------------------------------


async def test_what_is_appended_is_committed_before_it_is_acknowledged(log: DurableLog) -> None:
    await log.append("r", "steps", steps(3))
    with sqlite3.connect(log.store.path) as other:
        assert other.execute("SELECT sum(rows) FROM chunks").fetchone() == (3,)
    other.close()


async def test_subscribers_read_from_memory_and_from_the_file_alike(tmp_path: pathlib.Path) -> None:
    log = DurableLog(Store.open(tmp_path), max_recent=500_000)
    for _ in range(50):
        await log.append("r", "steps", steps(10))
    # A batch of few rows weighs more than its values: its columns are objects.
    assert 10 <= len(log._recent._order) <= 20
    assert log._recent.nbytes <= 500_000
    for since in (0, 7, 250, 488, 499):
        at = since
        while at < 500:
            batch = await log.after("r", "steps", at)
            assert batch.column("seq_id").to_pylist() == list(range(at + 1, at + 1 + batch.num_rows))
            at += batch.num_rows
    await log.close()


async def test_a_reader_that_is_behind_is_given_many_small_commits_as_one_chunk(log: DurableLog) -> None:
    for number in range(50):
        await log.append("r", "steps", steps(10 if number % 2 else 1))
    chunk = await log.chunk_after("r", "steps", 0)
    assert (chunk.first_seq, chunk.rows) == (1, 275)
    part = await log.chunk_after("r", "steps", 5)  # in the middle of a commit
    assert part.after(5).column("seq_id").to_pylist() == list(range(6, 276))
    assert part.after(5).equals(chunk.after(0).slice(5))
    stored = [log.store.find_chunk("r", "steps", at) for at in range(275)]
    assert all(chunk.after(at).slice(0, 1).equals(held.after(at).slice(0, 1)) for at, held in enumerate(stored) if held)
    newest = await log.chunk_after("r", "steps", 265)
    assert (newest.first_seq, newest.rows) == (266, 10)


async def test_publishers_are_held_back_while_too_much_waits(tmp_path: pathlib.Path) -> None:
    log = DurableLog(Store.open(tmp_path), max_pending=1_000)
    commit = log.append("r", "steps", steps(100))
    held = asyncio.ensure_future(log.room())
    await asyncio.sleep(0)
    assert not held.done()
    await commit
    async with asyncio.timeout(10):
        await held
    await log.close()


async def test_a_failing_commit_is_told_to_its_publisher_and_no_other(
    log: DurableLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = log.store.commit

    def full(pending: Any, runs: Any = ()) -> Any:
        if any(item.run_id == "bad" for item in pending):
            message = "database or disk is full"
            raise sqlite3.OperationalError(message)
        return commit(pending, runs)

    monkeypatch.setattr(log.store, "commit", full)
    bad, good = log.append("bad", "steps", steps(1)), log.append("good", "steps", steps(2))
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await bad
    await good
    assert (log.last_seq("bad", "steps"), log.last_seq("good", "steps")) == (0, 2)


async def test_closing_commits_what_waits_and_ends_subscribers(tmp_path: pathlib.Path) -> None:
    log = DurableLog(Store.open(tmp_path))
    waiting = asyncio.ensure_future(log.after("other", "steps", 0))
    commits = [log.append("r", "steps", steps(5)) for _ in range(20)]
    await log.close()
    assert all(commit.done() and commit.exception() is None for commit in commits)
    with pytest.raises(ClosedError):
        await waiting
    with Store.open(tmp_path, read_only=True) as store:
        assert store.last_seq("r", "steps") == 100


def test_a_second_daemon_is_kept_out_by_name(tmp_path: pathlib.Path) -> None:
    with DirectoryLock(tmp_path), pytest.raises(RecordingError, match=f"process {os.getpid()}"):
        DirectoryLock(tmp_path)
    DirectoryLock(tmp_path).release()
