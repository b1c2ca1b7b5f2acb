"""Golden messages: what the kernel says to the page, as it says it. ``js/tests/messages.test.ts`` reads the same files.

``LTW_WRITE_GOLDEN=1 pytest tests/contract`` writes them anew.
"""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from live_telemetry_widget import live, normalize
from live_telemetry_widget.client import RunDetails, RunInfo
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.live import LiveView
from live_telemetry_widget.schema import Problem, RunState
from live_telemetry_widget.view.pace import FASTEST
from live_telemetry_widget.view.widget import LiveTelemetryWidget
from tests.conftest import wait_for
from tests.support.pictures import pictures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = pathlib.Path(__file__).parent


class Page:
    """Stands where the page does: takes what is pushed, says what a page says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[tuple[dict[str, Any], list[bytes]]] = []
        monkeypatch.setattr(LiveTelemetryWidget, "push", self._push)

    def _push(self, message: dict[str, Any], buffers: tuple[bytes, ...] = ()) -> bool:
        self.messages.append((json.loads(json.dumps(message)), list(buffers)))
        return True

    def last(self, kind: str, **more: object) -> tuple[dict[str, Any], list[bytes]] | None:
        """Return the last message of a kind, with what stands in it."""
        wanted = {"kind": kind, **more}
        found = [m for m in self.messages if all(m[0].get(k) == v for k, v in wanted.items())]
        return found[-1] if found else None


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page(monkeypatch)


@pytest.fixture
def view(page: Page, sample_events: list[dict[str, Any]]) -> Iterator[LiveView]:
    """Return a view of the sample run, failed at its end."""
    assert page.messages == []
    feed = RunFeed("golden", Link("reconnecting", 3, 1_800_000_000.0, "no trainer daemon answers"))
    feed.frames.append_steps(normalize.steps_from_events([e for e in sample_events if e["type"] == "step"]).batch)
    feed.frames.append_episodes(
        normalize.episodes_from_events([e for e in sample_events if e["type"] == "episode"]).batch
    )
    feed.frames.count([Problem("bad_json", "extras_json is not JSON <script>alert(1)</script>", "{oops", 2)])
    feed.info = RunInfo("golden", RunState.FAILED, "the worker exited with code 1")
    config = {"run_name": "Golden run", "metadata": {"worker": {"config": {"max_episodes": 150}}}}
    feed.details = RunDetails(json.dumps(config), 750, 150, ended=True)
    view = LiveView(feed)
    yield view
    view.close()


def golden(name: str, message: Mapping[str, Any]) -> None:
    path = HERE / f"{name}.json"
    text = json.dumps(message, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("LTW_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def read(buffer: bytes) -> pa.Table:
    return pa.ipc.open_stream(buffer).read_all()


def test_a_keyframe_stands_on_its_own(view: LiveView, page: Page) -> None:
    view._on_page({"kind": "ready", "version": 2})
    wait_for(lambda: page.last("push", keyframe=True), "a keyframe")
    message, buffers = page.last("push", keyframe=True) or ({}, [])
    golden("push-keyframe", {**message, "number": 1})
    steps, episodes, curves = map(read, buffers)
    assert set(curves.column("series").to_pylist()) == set(range(len(message["curves"])))
    assert [span["table"] for span in message["spans"]] == ["steps", "episodes"]
    assert message["spans"][0] == {"table": "steps", "first": 250, "count": 500, "total": 750}
    assert (steps.num_rows, episodes.num_rows) == (500, 150)
    assert episodes.column("row").to_pylist() == list(range(150))
    assert {"episode", "step_index", "action", "reward", "q_before", "epsilon"} <= set(steps.column_names)
    assert not {"run_id", "seq_id", "render_payload"} & set(steps.column_names)


def test_a_page_hears_of_a_run_that_goes_on_although_nothing_happens(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_LOOK_EVERY", 0.02)
    feed = RunFeed("quiet", Link("live"))
    feed.info = RunInfo("quiet", RunState.RUNNING, "")
    view = LiveView(feed)
    try:
        view._on_page({"kind": "ready", "version": 2})
        still = {"keyframe": False, "spans": []}
        wait_for(lambda: len([m for m, _ in page.messages if m == {**m, **still}]) > 3, "pushes of nothing new")
        # Of a run that has ended nothing is expected (js/src/kernel-watch.ts), so nothing is said.
        feed.info = RunInfo("quiet", RunState.COMPLETED, "")
        feed.touch()
        wait_for(lambda: page.messages[-1][0]["state"]["status"] == "completed", "the end")
        with view.running:
            said = len(page.messages)
            for _ in range(3):
                view._told_at = 0.0
                view._push(keyframe=False)
            assert len(page.messages) == said
    finally:
        view.close()


def test_rows_that_are_asked_for_are_answered_with_the_askers_number(view: LiveView, page: Page) -> None:
    ask = {"kind": "ask_rows", "version": 2, "id": 2**50, "table": "steps", "first": 10, "count": 5}
    golden("ask_rows", ask)
    view._on_page(ask)
    wait_for(lambda: page.last("answer"), "an answer")
    message, buffers = page.last("answer") or ({}, [])
    golden("answer", message)
    wanted = view.feed.frames.rows(10, 5)
    assert read(buffers[0]).column("step_index").to_pylist() == wanted.column("step_index").to_pylist()


@pytest.mark.parametrize(
    "ask",
    [
        {"kind": "ask_rows", "id": 1, "table": "secrets", "first": 0, "count": 1},
        {"kind": "ask_rows", "id": 1, "table": "steps", "first": "0", "count": 1},
        {"kind": "drop_table", "id": 1},
    ],
)
def test_what_is_not_understood_is_refused_in_words(view: LiveView, page: Page, ask: dict[str, Any]) -> None:
    view._on_page(ask)
    wait_for(lambda: page.last("refused"), "a refusal")
    message, _ = page.last("refused") or ({}, [])
    assert message["id"] == 1
    assert "not a question" in message["message"]
    if ask["kind"] == "drop_table":
        golden("refused", message)


def test_rows_beyond_the_ends_are_answered_with_what_there_is(view: LiveView, page: Page) -> None:
    for number, (first, count, rows) in enumerate([(745, 100, 5), (10_000, 5, 0), (0, 10**9, 500)]):
        ask = {"kind": "ask_rows", "version": 2, "id": number, "table": "steps", "first": first, "count": count}
        view._on_page(ask)
        wait_for(lambda number=number: page.last("answer", id=number), "an answer")
        message, buffers = page.last("answer", id=number) or ({}, [])
        assert message["spans"][0]["count"] == rows == read(buffers[0]).num_rows


@pytest.mark.usefixtures("view")
def test_a_page_that_has_not_answered_gets_keyframes_and_nothing_without_news(page: Page) -> None:
    def keyframes() -> list[int]:
        return [i for i, (message, _) in enumerate(page.messages) if message["keyframe"]]

    wait_for(lambda: len(keyframes()) >= 3, "three keyframes")
    last: object = None
    for message, _ in page.messages:
        assert message["keyframe"] or message["spans"] or message["state"] != last
        last = message["state"]


def test_changes_are_coalesced_and_only_what_is_new_is_sent(view: LiveView, page: Page) -> None:
    view._on_page({"kind": "ready", "version": 2})
    wait_for(lambda: page.last("push", keyframe=True), "a keyframe")
    page.messages.clear()
    began = time.monotonic()
    for step in range(2_000):
        event = {"episode": 999, "step_index": step, "reward": 0.0, "agent_id": "q_agent"}
        view.feed.frames.append_steps(normalize.steps_from_events([event]).batch)
    wait_for(lambda: page.messages and page.messages[-1][0]["state"]["steps"] == 2_750, "the last step")
    pushes = [message for message, _ in page.messages]
    # As often as a page may be pushed to, however long a busy machine takes for two thousand changes.
    assert len(pushes) <= 2 + (time.monotonic() - began) / FASTEST, (
        "two thousand changes must not make two thousand messages"
    )
    held = 750
    for message, buffers in page.messages:
        tables = buffers[: len(message["spans"])]
        assert len(buffers) - len(tables) == ("curves" in message)
        for span, buffer in zip(message["spans"], tables, strict=True):
            if span["table"] == "steps":
                assert message["keyframe"] or span["first"] >= held, "a row was sent twice"
                held = span["first"] + span["count"]
                assert read(buffer).num_rows == span["count"] <= 500
    assert held == 2_750


def test_a_picture_of_each_game() -> None:
    """``js/tests/layout.test.ts`` holds these to be grids, and the demo page shows them."""
    golden("../data/pictures", pictures())
