"""Request channels: a page gets one for the view it names, and what is closed leaves nothing behind."""

from __future__ import annotations

from typing import Any

import comm
import pytest

from live_telemetry_widget.view import messages
from live_telemetry_widget.view.channel import TARGET, Channels
from live_telemetry_widget.view.pace import BLIND, FASTEST, HIDDEN, Pace


class FakeComm:
    """The kernel's end of a comm."""

    def __init__(self, name: str) -> None:
        self.comm_id = name
        self.sent: list[tuple[Any, list[bytes]]] = []
        self.closed = 0
        self.handle_msg: Any = None
        self._on_close: Any = None

    def send(self, data: object = None, metadata: object = None, buffers: Any = None) -> None:
        """Keep what is sent."""
        del metadata
        self.sent.append((data, buffers))

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    def on_close(self, callback: Any) -> None:
        """Keep what a page's closing calls."""
        self._on_close = callback

    def page_closes(self) -> None:
        """Close as the page does."""
        if self._on_close:
            self._on_close({})

    def hear(self, content: object) -> None:
        """Take a message of the page."""
        self.handle_msg({"content": {"data": content}})


def opened(name: str, view_id: object) -> FakeComm:
    made = FakeComm(name)
    comm.get_comm_manager().targets[TARGET](made, {"content": {"data": {"view_id": view_id}}})  # type: ignore[arg-type]
    return made


def test_a_page_is_greeted_heard_and_answered_on_its_own_comm() -> None:
    heard: list[tuple[str, dict[str, Any]]] = []

    def take(page: str, content: dict[str, Any]) -> tuple[object, list[bytes]] | None:
        heard.append((page, content))
        return ({"kind": "answer", "id": content["id"]}, [b"rows"]) if "id" in content else None

    channels = Channels("view-1", take)
    one, two = opened("c1", "view-1"), opened("c2", "view-1")
    assert one.sent == [({"kind": "hello", "version": messages.VERSION}, [])]
    two.hear({"kind": "ask_rows", "id": 7})
    two.hear({"kind": "seen"})
    two.hear(["nonsense"])
    assert two.sent[1:] == [({"kind": "answer", "id": 7}, [b"rows"])]
    assert len(one.sent) == 1
    assert [(page, content["kind"]) for page, content in heard] == [
        ("c1", "ready"),
        ("c2", "ready"),
        ("c2", "ask_rows"),
        ("c2", "seen"),
    ]
    one.page_closes()
    assert len(channels) == 1
    channels.close()
    assert (two.closed, len(channels)) == (1, 0)
    two.hear({"kind": "ask_rows", "id": 8})
    assert len(two.sent) == 2, "nothing is sent after the end"


def test_a_view_that_is_not_there_and_pages_beyond_number_are_let_go() -> None:
    assert opened("lost", "no such view").closed == 1 if TARGET in comm.get_comm_manager().targets else True
    channels = Channels("view-2", lambda _, __: None)
    pages = [opened(f"p{i}", "view-2") for i in range(20)]
    assert opened("none", None).closed == 1
    assert [page.closed for page in pages] == [1] * 4 + [0] * 16
    channels.close()
    assert all(page.closed == 1 for page in pages)
    assert opened("late", "view-2").closed == 1


@pytest.mark.parametrize(
    ("others", "pace"),
    [([(0.001, False)], FASTEST), ([(0.001, False), (0.05, False)], 0.1), ([(0.3, True)], HIDDEN), ([], BLIND)],
)
def test_the_slowest_page_that_is_looked_at_gives_the_pace(others: list[tuple[float, bool]], pace: float) -> None:
    held = Pace()
    for number, (cost, hidden) in enumerate(others):
        held.seen(str(number), cost=cost, hidden=hidden, now=1.0)
    held.sent(1.1)
    assert held.interval(1.2) == pytest.approx(pace)
    assert held.interval(1.1 + 11.0) == BLIND, "a page that is silent for long is as one that cannot speak"


def test_a_page_that_went_does_not_slow_the_one_that_stayed() -> None:
    held = Pace()
    held.seen("slow", cost=0.2, hidden=False, now=0.0)
    for second in range(13):
        held.sent(second)
        held.seen("quick", cost=0.002, hidden=False, now=second + 0.5)
    assert held.interval(13.0) == pytest.approx(FASTEST)
