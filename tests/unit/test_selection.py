"""The selection as traits of the widget: parts and whole agree, whoever sets which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import traitlets

from live_telemetry_widget.view.widget import LiveTelemetryWidget

if TYPE_CHECKING:
    from collections.abc import Iterator

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
