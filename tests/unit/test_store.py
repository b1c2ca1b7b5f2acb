"""The store: what is committed is read back, whatever was merged, killed or refused meanwhile."""

from __future__ import annotations

import os
import pathlib
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_telemetry_widget import _arrow, _chunks, normalize
from live_telemetry_widget._database import FILE_NAME, FORMAT
from live_telemetry_widget.errors import ClosedError, RecordingError
from live_telemetry_widget.schema import STEPS
from live_telemetry_widget.store import Mark, OutOfOrderError, Pending, RunRow, Store


def steps(rewards: Any, **extras: Any) -> Any:
    events = [{"type": "step", "episode": 0, "step_index": i, "action": 1, "reward": r} for i, r in enumerate(rewards)]
    return normalize.steps_from_events([event | extras for event in events], run_id="r").batch


STEP = [{"type": "step", "episode": 0, "step_index": 0, "reward": 1.0}]


def rewards(batches: Any) -> Any:
    return [value for batch in batches for value in batch.column("reward").to_pylist()]


def numbers(batches: Any) -> Any:
    return [value for batch in batches for value in batch.column("seq_id").to_pylist()]


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Any:
    with Store.open(tmp_path) as opened:
        yield opened


def test_numbers_are_contiguous_per_run_and_kind(store: Store) -> None:
    assert store.append("a", "steps", [steps([1.0, 2.0])]) == (1, 2)
    assert store.append("b", "steps", [steps([3.0])]) == (1, 1)
    assert store.append("a", "steps", [steps([4.0]), steps([5.0])]) == (3, 4)
    assert store.append("a", "steps", []) == (5, 4)
    assert rewards(store.read("a", "steps")) == [1.0, 2.0, 4.0, 5.0]
    assert numbers(store.read("a", "steps")) == [1, 2, 3, 4]
    assert store.last_seqs() == {("a", "steps"): 4, ("b", "steps"): 1}
    assert store.last_seq("a", "episodes") == 0


@pytest.mark.parametrize("since", range(8))
def test_reading_begins_exactly_after_since_seq(store: Store, since: int) -> None:
    store.append("r", "steps", [steps([1.0, 2.0, 3.0])])
    store.append("r", "steps", [steps([4.0, 5.0])])
    assert numbers(store.read("r", "steps", since)) == list(range(since + 1, 6))
    assert numbers(store.read("r", "steps", since, limit=2)) == list(range(since + 1, 6))[:2]


def test_a_failed_transaction_leaves_nothing_and_the_next_one_works(store: Store) -> None:
    store.append("r", "steps", [steps([1.0])])
    broken = pa.RecordBatch.from_pydict({"seq_id": pa.array([0], pa.uint64())})
    with pytest.raises(KeyError):
        store.commit([Pending("r", "steps", [steps([2.0])]), Pending("r", "episodes", [broken])])
    assert store.append("r", "steps", [steps([3.0])]) == (2, 2)
    assert rewards(store.read("r", "steps")) == [1.0, 3.0]


def test_runs_are_kept_as_they_were_written(store: Store, tmp_path: pathlib.Path) -> None:
    first = RunRow("a", 1, "d", '{"x": 1}', 10, 11, None, None, 1)
    store.commit([], [first, RunRow("b", 7, created_at=5, last_heartbeat=3, failure_reason="why", record_seq=2)])
    with Store.open(tmp_path, read_only=True) as other:
        assert [run.run_id for run in other.runs()] == ["b", "a"]
        assert other.run("a") == first
        assert other.run("c") is None


def test_what_came_packed_is_stored_as_it_came_and_read_under_its_own_name_and_numbers(store: Store) -> None:
    theirs = steps([float(n) for n in range(100)])
    data = _chunks.encode(theirs.set_column(0, STEPS.field("run_id"), _arrow.constant("another", 100)), merged=False)
    for _ in range(9):
        store.commit([Pending("r", "steps", [theirs], data=data)])
    chunk = store.find_chunk("r", "steps", 100)
    assert chunk is not None
    assert (chunk.first_seq, chunk.rows, chunk.data) == (101, 100, data)
    for merges in (1, 0):
        for read in (list(store.read("r", "steps")), store.read_episode("r", 0)):
            assert numbers(read) == list(range(1, 901))
            assert {row for batch in read for row in batch.column("run_id").to_pylist()} == {"r"}
        assert numbers(store.read("r", "steps", 199, 2)) == [200, 201]
        assert store.compact() == merges


# -- merging -----------------------------------------------------------------------------------------------------------


def test_a_slow_run_does_not_leave_many_chunks_nor_rewrite_them_often(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewritten = 0
    encode = _chunks.encode

    def counting(batch: Any, *, merged: bool) -> Any:
        nonlocal rewritten
        rewritten += batch.num_rows
        return encode(batch, merged=merged)

    monkeypatch.setattr(_chunks, "encode", counting)
    rows = 2_000
    for i in range(rows):
        store.append("r", "steps", [steps([float(i)])])
    with sqlite3.connect(store.path) as connection:
        (chunks,) = connection.execute("SELECT count(*) FROM chunks").fetchone()
    connection.close()
    assert rewards(store.read("r", "steps")) == [float(i) for i in range(rows)]
    # Eight of each tier at most, and each row written once a tier: log8(2000) < 4.
    assert chunks <= 8 * 4
    assert rewritten <= rows * 5


def test_large_chunks_are_sealed_and_left_alone(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr(_chunks, "MAX_ROWS", 8)
    store.append("r", "steps", [steps([float(i) for i in range(20)])])
    with sqlite3.connect(store.path) as connection:
        sizes = [rows for (rows,) in connection.execute("SELECT rows FROM chunks ORDER BY first_seq")]
    connection.close()
    assert sizes == [8, 8, 4]
    assert numbers(store.read("r", "steps", since_seq=7)) == list(range(8, 21))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (1, 0.5, [1.0, 0.5]),
        (2**60 + 1, 0.5, [str(2**60 + 1), "0.5"]),  # a float would round it
        (True, 1, ["true", "1"]),
        ("plain", {"a": 1}, ['"plain"', '{"a":1}']),
        ("plain", "text", ["plain", "text"]),
        ([1, 2], [0.5], [[1.0, 2.0], [0.5]]),
        ([2**60 + 1], [0.5], [f"[{2**60 + 1}]", "[0.5]"]),
        (None, 3, [None, 3]),
    ],
)
def test_merging_loses_no_value_of_a_further_column(left: Any, right: Any, expected: Any) -> None:
    merged = _arrow.combine(STEPS, [steps([0.0], x=left), steps([0.0], x=right)])
    assert merged.column("x").to_pylist() == expected
    assert merged.schema.names[: len(STEPS)] == STEPS.names


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.integers(0, 9), max_size=3),
)
_BATCHES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.lists(st.tuples(st.floats(-1e9, 1e9), _VALUES), min_size=1, max_size=5),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(_BATCHES, st.integers(2, 20), st.data())
def test_a_store_equals_the_list_of_its_rows(batches: Any, max_rows: int, data: Any) -> None:
    """Whatever is appended, merged, closed and opened again: reads give the rows after since_seq, numbered from 1."""
    model = {"a": [], "b": []}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(_chunks, "MAX_ROWS", max_rows)
        patch.setattr(_chunks, "FACTOR", 2)
        store = Store.open(folder)
        try:
            for run_id, rows, reopen in batches:
                events = [
                    {"type": "step", "episode": 0, "step_index": i, "action": 1, "reward": reward, "x": value}
                    for i, (reward, value) in enumerate(rows)
                ]
                batch = normalize.steps_from_events(events, run_id=run_id).batch
                held = len(model[run_id])
                assert store.append(run_id, "steps", [batch]) == (held + 1, held + len(rows))
                model[run_id] += rows
                if reopen:
                    store.close()
                    store = Store.open(folder)
            for run_id, rows in model.items():
                since = data.draw(st.integers(0, len(rows) + 1))
                found = list(store.read(run_id, "steps", since))
                assert rewards(found) == [reward for reward, _ in rows[since:]]
                assert numbers(found) == list(range(since + 1, len(rows) + 1))
                for batch in found:
                    column = batch.column("x").to_pylist() if "x" in batch.schema.names else [None] * batch.num_rows
                    wanted = [value for _, value in rows]
                    for number, value in zip(batch.column("seq_id").to_pylist(), column, strict=True):
                        assert (value is None) == (wanted[number - 1] is None)
                        if isinstance(wanted[number - 1], float) and isinstance(value, float):
                            assert value == wanted[number - 1]
        finally:
            store.close()


# -- other readers, other files ------------------------------------------------------------------------------------------

_READER = """
    import sys
    from live_telemetry_widget.store import Store
    seen = 0
    with Store.open(sys.argv[1], read_only=True) as store:
        print("open", flush=True)
        while seen < int(sys.argv[2]):
            for batch in store.read("r", "steps", seen):
                numbers = batch.column("seq_id").to_pylist()
                assert numbers == list(range(seen + 1, seen + 1 + len(numbers))), (seen, numbers)
                assert batch.column("reward").to_pylist() == [float(n) for n in numbers]
                seen += len(numbers)
    print(seen)
"""


def test_two_processes_read_while_one_writes(store: Store, tmp_path: pathlib.Path) -> None:
    total = 1_000
    command = [sys.executable, "-c", textwrap.dedent(_READER), str(tmp_path), str(total)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "open\n"
        for first in range(1, total + 1, 5):
            store.append("r", "steps", [steps([float(n) for n in range(first, first + 5)])])
        for reader in readers:
            said, _ = reader.communicate(timeout=60)
            assert (reader.returncode, said) == (0, f"{total}\n")
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()


def test_threads_share_a_store(store: Store) -> None:
    done = threading.Event()
    failures = []

    def read() -> Any:
        while not done.is_set():
            try:
                found = numbers(store.read("r", "steps"))
                assert found == list(range(1, len(found) + 1))
            except Exception as error:  # noqa: BLE001 - shown by the assertion below
                failures.append(error)
                return

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(200):
        store.append("r", "steps", [steps([float(i)])])
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_run_whose_chunks_cannot_be_merged_keeps_no_other_from_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    combine = _arrow.combine

    def failing(core: pa.Schema, batches: Any) -> pa.RecordBatch:
        if len(batches) > 1 and batches[0].column("run_id")[0].as_py() == "a":
            msg = "unlike"
            raise pa.ArrowInvalid(msg)
        return combine(core, batches)

    monkeypatch.setattr(_arrow, "combine", failing)
    for _ in range(40):
        made = [steps([1.0, 2.0]), normalize.steps_from_events(STEP, run_id="b").batch]
        made[0] = made[0].set_column(
            0, made[0].schema.field(0), pa.array(["a", "a"]).cast(made[0].schema.field(0).type)
        )
        store.commit([Pending("a", "steps", made[:1]), Pending("b", "steps", made[1:])])
        store.compact()
    assert [len(list(store.read(run_id, "steps"))) for run_id in "ab"] == [40, 5]
    assert [len(rewards(store.read(run_id, "steps"))) for run_id in "ab"] == [80, 40]
    assert [record.getMessage() for record in caplog.records] == [
        "chunks of steps of run 'a' cannot be merged, and stay as they are"
    ]
    monkeypatch.undo()
    store.replace("a", {"steps": [steps([1.0])] * 40})
    store.compact()
    assert len(list(store.read("a", "steps"))) < 10


@pytest.mark.skipif(os.name != "posix", reason="permissions are of POSIX")
def test_what_a_store_makes_is_its_users_alone_and_what_was_there_is_left_as_it_is(tmp_path: pathlib.Path) -> None:
    there = tmp_path / "there"
    there.mkdir(mode=0o755)
    for folder, mode in ((tmp_path / "new", 0o700), (there, 0o755)):
        with Store.open(folder) as held:
            held.append("r", "steps", [steps([1.0])])
            assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == mode
    (there / FILE_NAME).chmod(0o644)
    Store.open(there).close()
    assert stat.S_IMODE((there / FILE_NAME).stat().st_mode) == 0o644


def test_a_closed_recording_is_one_plain_file_and_opening_it_creates_nothing(tmp_path: pathlib.Path) -> None:
    with Store.open(tmp_path) as store:
        store.append("r", "steps", [steps([1.0])])
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    for path in (tmp_path, tmp_path / FILE_NAME):
        with Store.open(path, read_only=True) as store:
            assert rewards(store.read("r", "steps")) == [1.0]
            with pytest.raises(RecordingError, match="reading only"):
                store.append("r", "steps", [steps([2.0])])
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_recording_whose_writer_was_killed_is_read_and_goes_on(tmp_path: pathlib.Path) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    with Store.open(live) as store:
        store.append("r", "steps", [steps([1.0, 2.0])])
        # What a killed process leaves: the file and its log, without the end of a connection.
        copy.mkdir()
        for name in (FILE_NAME, f"{FILE_NAME}-wal"):
            shutil.copy(live / name, copy / name)
    with Store.open(copy, read_only=True) as store:
        assert rewards(store.read("r", "steps")) == [1.0, 2.0]
    with Store.open(copy) as store:
        assert store.append("r", "steps", [steps([3.0])]) == (3, 3)
        assert rewards(store.read("r", "steps")) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("content", [None, b"", b"not a database at all, but long enough to be taken for one" * 10])
def test_what_is_no_recording_is_refused_and_left_alone(tmp_path: pathlib.Path, content: bytes | None) -> None:
    path = tmp_path / "x.sqlite3"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError):
        Store.open(path, read_only=True)
    assert (path.read_bytes() if path.exists() else None) == content


def test_a_directory_without_a_recording_is_refused_and_stays_empty(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RecordingError, match=FILE_NAME):
        Store.open(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read_only", [True, False])
def test_another_programs_database_is_refused(tmp_path: pathlib.Path, *, read_only: bool) -> None:
    path = tmp_path / FILE_NAME
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE meta (key, value)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RecordingError, match="something else"):
        Store.open(tmp_path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [True, False])
def test_a_newer_format_is_refused_unchanged(tmp_path: pathlib.Path, *, read_only: bool) -> None:
    Store.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(FORMAT + 1),))
    connection.commit()
    connection.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(RecordingError, match=rf"format {FORMAT + 1}.*newer version"):
        Store.open(tmp_path, read_only=read_only)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_an_older_format_is_read_as_it_is_and_migrated_by_a_writer(tmp_path: pathlib.Path) -> None:
    with Store.open(tmp_path) as store:
        store.append("r", "steps", [steps([1.0])])
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.executescript("DROP TABLE producers; UPDATE meta SET value = '1' WHERE key = 'format'")
    connection.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    with Store.open(tmp_path, read_only=True) as store:
        assert rewards(store.read("r", "steps")) == [1.0]
    assert (tmp_path / FILE_NAME).read_bytes() == before
    for _ in range(2):
        with Store.open(tmp_path) as store:
            assert store.produced("r", "steps", "p") == 0
            assert rewards(store.read("r", "steps")) == [1.0]


def test_a_publisher_that_numbers_its_messages_has_each_stored_once_and_none_out_of_order(store: Store) -> None:
    def commit(reward: float, *marks: Mark) -> Any:
        return store.commit([Pending("r", "steps", [steps([reward])], marks)])

    commit(1.0, Mark("p", 0, 10, jump=False))
    for mark in (Mark("p", 0, 10, jump=False), Mark("p", 11, 12, jump=False), Mark("p", 9, 12, jump=True)):
        with pytest.raises(OutOfOrderError, match="message 10 is the next"):
            commit(9.0, mark)
    commit(2.0, Mark("p", 10, 11, jump=False), Mark("p", 11, 12, jump=False), Mark("q", 7, 8, jump=True))
    commit(3.0, Mark("p", 20, 21, jump=True))
    assert (store.produced("r", "steps", "p"), store.produced("r", "steps", "q")) == (21, 8)
    assert rewards(store.read("r", "steps")) == [1.0, 2.0, 3.0]
    store.delete(["r"])
    assert store.produced("r", "steps", "p") == 0


def test_a_torn_last_write_is_left_out_and_told_of(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    live = tmp_path / "live"
    with Store.open(live) as store:
        for reward in (1.0, 2.0, 3.0):
            store.append("r", "steps", [steps([reward])])
        files = {name: (live / name).read_bytes() for name in (FILE_NAME, f"{FILE_NAME}-wal")}
    assert not caplog.text
    log = f"{FILE_NAME}-wal"
    # Cut at any place, what is left of the log is some whole commits: the oldest ones.
    for number, end in enumerate((0, 100, len(files[log]) // 2, len(files[log]) - 10, len(files[log]))):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content[:end] if name == log else content)
        caplog.clear()
        if end < len(files[log]) // 4:
            # Not even the layout was committed.
            Store.open(folder).close()
            continue
        with Store.open(folder) as store:
            found = rewards(store.read("r", "steps"))
            assert found == [1.0, 2.0, 3.0][: len(found)]
            assert len(found) == 3 or end < len(files[log])
            assert store.append("r", "steps", [steps([4.0])]) == (len(found) + 1, len(found) + 1)
        assert "was not closed by its last writer" in caplog.text


def test_use_after_close_is_a_closed_error(tmp_path: pathlib.Path) -> None:
    store = Store.open(tmp_path)
    store.close()
    store.close()
    with pytest.raises(ClosedError):
        store.append("r", "steps", [steps([1.0])])
    with pytest.raises(ClosedError):
        store.runs()
    assert isinstance(store.path, pathlib.Path)
