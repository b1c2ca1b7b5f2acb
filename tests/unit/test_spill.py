"""Runs larger than their memory limit: older rows in files, read and filled as if they were not."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from live_telemetry_widget import _rows, _spill, normalize
from live_telemetry_widget.errors import RecordingError
from live_telemetry_widget.frames import RunFrames

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    import pyarrow as pa

LENGTH = 50


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """Return where temporary directories are made; chunks are small, so that little data makes many."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(_rows, "_CHUNK_ROWS", 512)
    return tmp_path


def files(place: pathlib.Path) -> list[pathlib.Path]:
    return sorted(place.glob("*/*.arrow"))


def steps(first: int, count: int, *lacks: str, **more: Any) -> pa.RecordBatch:
    events = [
        {
            "episode": n // LENGTH,
            "step_index": n % LENGTH,
            "reward": float(n),
            "agent_id": "a",
            "q": n * 0.37,
            "epsilon": n / 7,
            "observation": {"n": n},
            **more,
        }
        for n in range(first, first + count)
    ]
    return normalize.steps_from_events([{k: v for k, v in e.items() if k not in lacks} for e in events]).batch


def pair(count: int, *lacks: str) -> tuple[RunFrames, RunFrames]:
    """Return the same steps without a limit, and with one that keeps next to nothing in memory."""
    both = RunFrames("r"), RunFrames("r", memory_limit=1)
    for frames in both:
        for first in range(0, count, 100):
            frames.append_steps(steps(first, 100, *lacks))
    return both


def same(plain: RunFrames, spilled: RunFrames) -> None:
    assert spilled.steps_table().to_pylist() == plain.steps_table().to_pylist()
    assert spilled.episodes_table().to_pylist() == plain.episodes_table().to_pylist()
    assert spilled.rows(500, 700).to_pylist() == plain.rows(500, 700).to_pylist()
    rows = np.array([1_900, 3, 3, 700, 1_200])
    assert spilled.take(rows).to_pylist() == plain.take(rows).to_pylist()
    for number in (0, 11, 30):
        left, right = (f.episode_table(f.find(number)).to_pylist() for f in (plain, spilled))
        assert left == right
        assert len(left) == LENGTH


def test_a_run_beyond_its_limit_reads_as_one_in_memory(place: pathlib.Path) -> None:
    plain, spilled = pair(2_000)
    same(plain, spilled)
    assert len(files(place)) == 3
    (folder,) = place.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    del spilled
    assert not list(place.iterdir())


def test_copies_fill_rows_that_are_in_files(place: pathlib.Path) -> None:
    plain, spilled = pair(2_000, "epsilon", "observation")
    for frames in (plain, spilled):
        for first in (0, 1_000, 300, 600):
            frames.append_steps(steps(first, 200))
        # An unnamed worker's steps turn out to be somebody's: rows in files get a name.
        frames.append_steps(steps(1_950, 100, worker_id="w"))
    same(plain, spilled)
    assert spilled.steps_table().column("epsilon").null_count == 2_050 - 900
    # Every chunk is in one file: those of rows before they were filled are gone.
    assert len(files(place)) <= 4


def test_what_is_being_read_stays_whatever_is_filled_meanwhile(place: pathlib.Path) -> None:
    spilled = pair(2_000, "epsilon")[1]
    before = spilled._ordered_steps()
    for first in range(0, 2_000, 100):
        spilled.append_steps(steps(first, 100))
    table = before()
    assert table.num_rows == 2_000
    assert "epsilon" not in table.schema.names, "those rows are as they were when the reading began"
    assert spilled.steps_table().column("epsilon").null_count == 0
    assert files(place)


def test_a_full_disk_loses_nothing_and_is_counted(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, full = _spill._write, True

    def maybe(path: pathlib.Path, batch: pa.RecordBatch) -> None:
        if full:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, batch)

    monkeypatch.setattr(_spill, "_write", maybe)
    frames = RunFrames("r", memory_limit=1)
    for first in range(0, 2_000, 100):
        frames.append_steps(steps(first, 100))
    assert frames.steps_table().column("reward").to_pylist() == [float(n) for n in range(2_000)]
    (problem,) = frames.problems()
    assert (problem.kind, problem.count) == ("spill_failed", 3)
    assert "the disk is full" in problem.detail
    assert not files(place)
    full = False
    for first in range(2_000, 3_000, 100):
        frames.append_steps(steps(first, 100))
    assert len(files(place)) == 5, "what waited goes too, once there is room"
    assert frames.steps_table().column("reward").to_pylist() == [float(n) for n in range(3_000)]


def test_a_table_of_everything_is_kept_only_while_somebody_does(place: pathlib.Path) -> None:
    plain, spilled = pair(2_000)
    for frames, kept in ((plain, True), (spilled, False)):
        for ask in (frames.steps_table, frames.steps):
            made = ask()
            assert ask() is made
            gone = weakref.ref(made)
            del made
            gc.collect()
            assert (gone() is not None) is kept
    assert files(place)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no forks")
def test_what_a_fork_forgets_is_its_parents_still(place: pathlib.Path) -> None:
    """In a process of its own, which alone may be forked: this one has threads."""
    script = textwrap.dedent("""
        import gc, os
        import pyarrow as pa
        from live_telemetry_widget._spill import Folder
        spilled = Folder().write(pa.record_batch({"a": [1, 2]}))
        pid = os.fork()
        if not pid:
            del spilled
            gc.collect()
            os._exit(0)
        os.waitpid(pid, 0)
        print(spilled.read().num_rows)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2\n", "")
    assert files(place) == []


def test_a_file_that_somebody_removed_is_an_error_that_says_so(place: pathlib.Path) -> None:
    spilled = pair(2_000)[1]
    files(place)[0].unlink()
    with pytest.raises(RecordingError, match="something removed or changed the file"):
        spilled.steps_table()
    assert spilled.rows(600, 10).num_rows == 10


def test_the_folder_ends_with_the_process_and_after_a_kill_with_the_next(place: pathlib.Path) -> None:
    program = (
        "import sys, numpy, pyarrow as pa\n"
        "from live_telemetry_widget._packed import Packed\n"
        "from live_telemetry_widget._spill import Spill\n"
        "spill = Spill(1)\n"
        "held = Packed.of(pa.record_batch({'x': numpy.random.rand(500)}))\n"
        "spill.hold(held)\n"
        "print('made', flush=True)\n"
        "sys.stdin.read()\n"
    )
    for kill in (False, True):
        with subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "TMPDIR": str(place)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"made\n"
            (folder,) = place.iterdir()
            os.utime(folder, (1, 1))
            _spill._sweep()
            assert folder.exists(), "it is in use"
            if kill:
                process.send_signal(signal.SIGKILL)
        assert folder.exists() is kill
    fresh = place / f"{_spill._PREFIX}fresh"
    fresh.mkdir()
    os.utime(folder, (1, 1))
    _spill._sweep()
    assert list(place.iterdir()) == [fresh], "what was made this instant may not be locked yet"


@pytest.mark.parametrize("limit", [0, -1, "much", "2 TB", True, ""])
def test_a_limit_that_is_none_is_refused(limit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"memory_limit.*'2GB'"):
        _spill.parse_limit(limit)
    monkeypatch.setenv(_spill.ENVIRONMENT, "3 MiB")
    assert _spill.parse_limit(None) == 3 * 2**20
    monkeypatch.setenv(_spill.ENVIRONMENT, "")
    assert _spill.parse_limit(None) is None
