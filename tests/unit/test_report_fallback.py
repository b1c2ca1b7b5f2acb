"""What a saved notebook keeps of a run for those who open it without a kernel."""

from __future__ import annotations

import html.parser
import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.hub import TelemetryAsyncHub
from live_telemetry_widget.report import curve
from live_telemetry_widget.view.widget import LiveTelemetryWidget

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDGET = "application/vnd.jupyter.widget-view+json"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202e"


class Seen(html.parser.HTMLParser):
    """The text, the elements and the attributes of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, "elements that are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that opens."""
        self.tags.append(tag)
        self.attributes += attrs
        if not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]  # there is one: we are called for it
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note that it closes."""
        if not self.open or self.open[-1] != tag:
            return
        self.open.pop()

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All of the text."""
        return "\n".join(self.texts)


@pytest.fixture
def hub() -> Iterator[TelemetryAsyncHub]:
    with TelemetryAsyncHub() as hub:
        yield hub


def fill(hub: TelemetryAsyncHub, run_id: str, episodes: int, steps: int = 3, **fields: Any) -> ltw.Run:
    run = ltw.Run(hub.subscribe_run(run_id))
    for episode in range(episodes):
        for step in range(steps):
            last = step == steps - 1
            hub.submit_step(
                {
                    "run_id": run_id,
                    "episode": episode,
                    "step_index": step,
                    "reward": float(last),
                    "terminated": last,
                    **fields,
                }
            )
    return run


def test_the_bundle_of_a_run_has_its_totals_for_those_without_a_kernel(hub: TelemetryAsyncHub) -> None:
    run = fill(hub, "mine", 1_200)
    hub.complete_run("mine")
    run.wait(timeout=10)
    data, _ = run._repr_mimebundle_()
    run.close()
    assert WIDGET in data
    seen = Seen(data["text/html"])
    assert "1,200" in seen.texts
    assert "3,600" in seen.texts
    assert "Success 1,200" in seen.texts
    assert "All of the run" in seen.text
    assert "1,190 more" in seen.texts
    assert not {"script", "style", "iframe", "link", "img"} & set(seen.tags)
    assert "svg" in seen.tags
    assert repr(run) in data["text/plain"]
    assert "Episodes: 1,200" in data["text/plain"]
    assert len(json.dumps(data)) < 60_000


def test_a_run_under_way_says_that_more_may_come(hub: TelemetryAsyncHub) -> None:
    run = fill(hub, "mine", 2)
    data, _ = run._repr_mimebundle_()
    run.close()
    assert "what came later is not in these numbers" in Seen(data["text/html"]).text


def test_a_run_of_nothing_can_be_shown(hub: TelemetryAsyncHub) -> None:
    run = ltw.Run(hub.subscribe_run("nothing"))
    data, _ = run._repr_mimebundle_()
    run.close()
    seen = Seen(data["text/html"])
    assert "svg" not in seen.tags
    assert "table" not in seen.tags
    assert "Steps: 0" in data["text/plain"]


def test_text_from_the_wire_stays_text(hub: TelemetryAsyncHub) -> None:
    run = fill(hub, EVIL, 7, agent_id=EVIL, action=EVIL)
    hub.complete_run(EVIL)
    run.wait(timeout=10)
    data, _ = run._repr_mimebundle_()
    run.close()
    seen = Seen(data["text/html"])
    assert not {"script", "img"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert "\u202e" not in data["text/html"]
    assert "<script>alert(1)</script>" in seen.text, "it is shown, as text"


def test_one_agents_view_keeps_that_agents_numbers(hub: TelemetryAsyncHub) -> None:
    run = fill(hub, "two", 4, agent_id="left")
    fill(hub, "two", 3, agent_id="right", steps=5)
    hub.complete_run("two")
    run.wait(timeout=10)
    bundle = run.view(agent="right")._repr_mimebundle_()
    run.close()
    assert bundle
    assert "Episodes: 3\nSteps: 15" in bundle[0]["text/plain"]


def test_what_is_kept_can_be_chosen(hub: TelemetryAsyncHub) -> None:
    run = fill(hub, "mine", 2)
    hub.complete_run("mine")
    run.wait(timeout=10)
    assert set(run.view(embed="none")._repr_mimebundle_()[0]) == {WIDGET, "text/plain"}  # type: ignore[index]
    assert "text/html" not in run._repr_mimebundle_()[0], "the last choice stands"
    assert "text/html" in run.view(embed="summary")._repr_mimebundle_()[0]  # type: ignore[index]
    full = run.view(embed="full")._repr_mimebundle_()[0]["text/html"]  # type: ignore[index]
    assert '<iframe sandbox="allow-scripts"' in full
    assert "<script" not in full, "the page in the frame is escaped"
    assert len(json.dumps(full)) < 1_000_000
    with pytest.raises(ValueError, match="embed is 'all'; give one of 'summary'"):
        run.view(embed="all")  # type: ignore[arg-type]
    run.close()


def test_a_summary_is_shown_without_a_widget(hub: TelemetryAsyncHub) -> None:
    run = fill(hub, "mine", 7)
    hub.complete_run("mine")
    run.wait(timeout=10)
    summary = run.summary()
    assert "Episodes: 7" in repr(summary)
    assert "7" in Seen(summary._repr_html_()).texts


def test_a_widgets_state_and_bundle_stay_far_under_a_megabyte(hub: TelemetryAsyncHub) -> None:
    run = fill(hub, "mine", 3_000, steps=2, observation={"text": "x" * 2_000})
    hub.complete_run("mine")
    run.wait(timeout=20)
    widget = run.view()
    assert isinstance(widget, LiveTelemetryWidget)
    kept = len(json.dumps(widget.get_state(), default=str)) + len(json.dumps(run._repr_mimebundle_()[0]))
    run.close()
    assert kept < 600_000


def test_a_curve_is_sound_xml_and_bounded_whatever_the_values() -> None:
    for values in ([], [1.0], [0.0, 0.0], [np.nan, np.inf, 1.0, 2.0], np.arange(200_000) % 7.0, [-1e308, 1e308]):
        drawn = curve.svg(np.array(values, np.float64), "a &amp; b")
        if drawn:
            root = ET.fromstring(drawn)  # noqa: S314 - our own
            numbers = [float(n) for shape in root for p in shape.get("points", "").split() for n in p.split(",")]
            assert all(0 <= n <= 640 for n in numbers)
            assert len(drawn) < 40_000
        else:
            assert len(values) < 2
