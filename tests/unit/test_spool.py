"""A spool's files: what a full disk, another version and another process at the same moment do to them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from live_telemetry_widget.worker import spool
from live_telemetry_widget.worker.spool import Spool, estates

if TYPE_CHECKING:
    import pathlib

    import pytest

HEADER = {"run_id": "r"}


def left(directory: pathlib.Path) -> list[bytes]:
    """Return what a dead process left in a directory."""
    (estate,) = estates(directory)
    found = [estate.read(record) for record in estate.records]
    estate.release()
    return found


def test_a_disk_that_is_full_at_the_first_byte_costs_nothing_that_comes_later(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = os.write, []

    def full_at_first(descriptor: int, data: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            return write(descriptor, bytes(data)[:10])
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    held = Spool(tmp_path, HEADER)
    monkeypatch.setattr(os, "write", full_at_first)
    first = held.append("steps", 0, 1, b"one")
    assert "No space" in held.failure
    held.append("steps", 1, 1, b"two")
    assert held.read(first) == b"one"
    held.remove()
    held.append("steps", 2, 1, b"three")
    assert held.failure == ""  # all that is kept is in files again
    held.forget()
    assert left(tmp_path) == [b"two", b"three"]


def test_what_another_version_wrote_is_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(spool, "_VERSION", 99)
        held = Spool(tmp_path, HEADER)
        held.append("steps", 0, 1, b"one")
        held.forget()
    assert estates(tmp_path) == []
    (kept,) = tmp_path.iterdir()
    assert kept.suffix == ".unread"
    assert b"one" in kept.read_bytes()


def test_a_file_that_was_only_begun_is_deleted(tmp_path: pathlib.Path) -> None:
    held = Spool(tmp_path, HEADER)
    held.append("steps", 0, 1, b"one")
    held.forget()
    (path,) = tmp_path.glob("*.spool")
    path.write_bytes(path.read_bytes()[:10])
    assert estates(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_new_lock_that_another_takes_for_an_old_one_is_made_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = spool.lock, []

    def late(descriptor: int) -> None:
        calls.append(1)
        if len(calls) == 1:
            assert estates(tmp_path) == []  # the other one, between our making the file and our locking it
        lock(descriptor)

    monkeypatch.setattr(spool, "lock", late)
    held = Spool(tmp_path, HEADER)
    held.append("steps", 0, 1, b"one")
    assert estates(tmp_path) == []  # it is ours
    held.forget()
    assert left(tmp_path) == [b"one"]
