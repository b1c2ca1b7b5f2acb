"""Threads take short turns while there is a view, and nobody's own choice is touched."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from live_telemetry_widget import live
from live_telemetry_widget._turns import DEFAULT, SHORT, Turns
from live_telemetry_widget.live import LiveView
from tests.support.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = sys.getswitchinterval()
    # Whatever views other tests have left are not of this one.
    monkeypatch.setattr(live, "_PACER", live._Pacer())
    sys.setswitchinterval(DEFAULT)
    yield
    sys.setswitchinterval(before)


def until(interval: float) -> bool:
    """Wait until turns are so long; the thread of the views ends a little after the last of them."""
    end = time.monotonic() + 20
    while sys.getswitchinterval() != pytest.approx(interval) and time.monotonic() < end:
        time.sleep(0.005)
    return sys.getswitchinterval() == pytest.approx(interval)


def test_turns_are_short_from_the_first_view_to_the_last() -> None:
    first, second = LiveView(Stream().feed), LiveView(Stream().feed)
    assert sys.getswitchinterval() == pytest.approx(SHORT)
    first.close()
    assert sys.getswitchinterval() == pytest.approx(SHORT)
    second.close()
    assert until(DEFAULT)
    again = LiveView(Stream().feed)
    assert sys.getswitchinterval() == pytest.approx(SHORT)
    again.close()
    assert until(DEFAULT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_turns_as_they_were() -> None:
    turns = Turns()
    turns.shorten()
    pid = os.fork()
    if not pid:
        os._exit(round(sys.getswitchinterval() * 1e4))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == round(DEFAULT * 1e4)
    assert sys.getswitchinterval() == pytest.approx(SHORT)
    turns.restore()


def test_what_somebody_chose_stays() -> None:
    sys.setswitchinterval(0.02)
    turns = Turns()
    turns.shorten()
    assert sys.getswitchinterval() == pytest.approx(0.02)
    turns.restore()
    assert sys.getswitchinterval() == pytest.approx(0.02)


def test_what_somebody_chose_meanwhile_stays() -> None:
    turns = Turns()
    turns.shorten()
    sys.setswitchinterval(0.001)
    turns.restore()
    assert sys.getswitchinterval() == pytest.approx(0.001)
