"""The selection as traits of the widget: parts and whole agree, whoever sets which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import traitlets

import live_telemetry_widget as ltw
from live_telemetry_widget.view.widget import LiveTelemetryWidget
from tests.support.runs import run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EPISODE = {"row": 3, "worker": "", "agent": "a", "episode": 7}


@pytest.fixture
def widget() -> Iterator[LiveTelemetryWidget]:
    held = LiveTelemetryWidget(lambda _: None)
    yield held
    held.close()


def test_a_new_view_is_live_and_has_nothing_selected(widget: LiveTelemetryWidget) -> None:
    assert widget.selection["live"]
    assert (widget.filter, widget.step) == ("", None)


def test_parts_and_whole_agree_whoever_sets_which(widget: LiveTelemetryWidget) -> None:
    heard: list[dict[str, Any]] = []
    widget.observe(lambda change: heard.append(change["new"]), "selection")
    widget.selection = {"episode": EPISODE, "step": 2, "filter": "reward > 0"}
    assert (widget.filter, widget.step) == ("reward > 0", 2)
    widget.step = 4
    widget.filter = ""
    assert widget.selection["step"] == 4
    assert widget.selection["filter"] == ""
    assert [(s["episode"]["row"], s["step"], s["filter"]) for s in heard] == [
        (3, 2, "reward > 0"),
        (3, 4, "reward > 0"),
        (3, 4, ""),
    ]
    widget.selection = {}
    assert widget.selection["live"]
    assert widget.step is None


def test_a_selection_that_names_no_filter_and_no_agent_keeps_them(widget: LiveTelemetryWidget) -> None:
    widget.filter = "reward > 0"
    widget.selection = {**widget.selection, "agent": "a"}
    widget.selection = {"episode": EPISODE, "step": 2}
    assert (widget.filter, widget.selection["filter"], widget.selection["agent"]) == ("reward > 0", "reward > 0", "a")
    widget.selection = {}
    assert widget.selection["live"]
    assert (widget.selection["filter"], widget.selection["agent"]) == ("reward > 0", "a")
    widget.selection = {"episode": {**EPISODE, "agent": "b"}}
    assert widget.selection["agent"] is None, "what is selected would not be on screen"
    widget.selection = {"episode": EPISODE, "filter": "", "agent": "b"}
    assert (widget.filter, widget.selection["agent"]) == ("", "b")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"episodes": 3}, "no episodes"),
        ({"episode": 3}, "row, worker"),
        ({"episode": {"row": 1}}, "row and episode"),
        ({"steps": [1]}, "first and last"),
        ({"filter": 3}, "a text"),
        ({"agent": 3}, "text or None"),
    ],
)
def test_what_is_no_selection_is_refused_and_changes_nothing(
    widget: LiveTelemetryWidget, value: dict[str, Any], why: str
) -> None:
    before = widget.selection
    with pytest.raises(traitlets.TraitError, match=why):
        widget.selection = value
    assert widget.selection == before


@pytest.fixture
def two_agents() -> Iterator[ltw.Run]:
    events = [
        {"type": "step", "agent_id": agent, "episode": episode, "step_index": step, "reward": 0.0}
        for agent, episodes in (("left", (10, 11, 12)), ("right", (12, 40)))
        for episode in episodes
        for step in range(6)
    ]
    with run_of(events) as run:
        yield run


def test_an_episode_is_shown_by_its_number(two_agents: ltw.Run) -> None:
    view = two_agents.view()
    view.filter = "reward == 0"
    view.show(11, step=5)
    want = {"row": 1, "worker": "", "agent": "left", "episode": 11}
    assert view.selection == {
        "episode": want, "other": None, "step": 5, "steps": None, "agent": None, "filter": "reward == 0", "live": False
    }  # fmt: skip
    view.selection = {**view.selection, "agent": "left"}
    view.show(np.int64(12), np.int64(3), agent="right")
    assert view.selection["step"] == 3
    view.show(np.int64(12), agent="right")
    assert (view.selection["episode"]["agent"], view.selection["episode"]["row"]) == ("right", 3)
    assert (view.selection["agent"], view.step) == (None, None)
    # In a view of one agent the rows are its own.
    right = two_agents.view("right")
    right.show(12, 0)
    assert right.selection["episode"] == {"row": 0, "worker": "", "agent": "right", "episode": 12}


@pytest.mark.parametrize(
    ("asked", "error", "why"),
    [
        (lambda view: view.show(13), ltw.RunNotFoundError, "has no episode 13; it has 4, from 10 to 40; nearest: 10, 11, 12"),
        (lambda view: view.show(11, 9), ltw.RunNotFoundError, "episode 11 has no step 9; it has 6, from 0 to 5; nearest: 3, 4, 5"),
        (lambda view: view.show(12), ValueError, "agent='left' of worker='', agent='right' of worker=''; say which"),
        (lambda view: view.show(12, agent="rigth"), ltw.RunNotFoundError, "did you mean agent='right'"),
        (lambda view: view.show("12"), TypeError, "the episode's number is '12'; give a whole number"),
        (lambda view: view.show(11, step=1.5), TypeError, "the step is 1.5"),
        (lambda view: view.show(11, step=-1), ValueError, "from 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_said_and_changes_nothing(
    two_agents: ltw.Run, asked: Callable[[LiveTelemetryWidget], None], error: type[Exception], why: str
) -> None:
    view = two_agents.view()
    before = view.selection
    with pytest.raises(error) as raised:
        asked(view)
    assert why in str(raised.value)
    assert view.selection == before


def test_a_widget_of_no_run_has_nothing_to_show(widget: LiveTelemetryWidget) -> None:
    with pytest.raises(ltw.NoDataError, match=r"run\.view\(\) makes one"):
        widget.show(1)
