"""Without a mouse, for screen readers, with few colours: every part of the view is reached, seen to be reached, and works."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.test_curves import PAINTED
from tests.support.runs import played

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.browser.conftest import NotebookPage

AXE = pathlib.Path(__file__).parents[2] / "js" / "node_modules" / "axe-core" / "axe.min.js"
#: A run in memory, whose last episode's record is wrong: so there is a problem to look at.
SHOW = """
import json, pathlib
import live_telemetry_widget as ltw
hub = ltw.TelemetryAsyncHub()
run = ltw.Run(hub.subscribe_run("lake"))
for event in json.loads(pathlib.Path({path!r}).read_text()):
    (hub.submit_step if event["type"] == "step" else hub.submit_episode)({{**event, "run_id": "lake"}})
hub.complete_run("lake")
run
"""
VIOLATIONS = """
async () => (await axe.run(document.querySelector("[data-testid=ltw-root]"), { resultTypes: ["violations"] })).violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)} ${nodes[0].failureSummary}`)
"""
#: Where the keyboard is: what it is called, and whether that is seen.
FOCUS = """
() => {
    const e = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(e);
    const inside = e.closest("[data-testid=ltw-root]") !== null;
    return [inside, e.dataset.testid ?? e.className ?? e.tagName, outlineStyle !== "none" && parseFloat(outlineWidth) >= 1];
}
"""


def events() -> list[dict[str, Any]]:
    told = [
        event
        for event in played("--episodes", "40", "--no-slippery", "--seed", "0")
        if event["type"] in {"step", "episode"}
    ]
    next(event for event in reversed(told) if event["type"] == "episode")["reward"] = 7.0
    return told


def sound(page: Page, state: str) -> None:
    """Let axe look; nothing serious may be found."""
    found = page.evaluate(VIOLATIONS)
    assert found == [], f"{state}: {found}"


def walk(page: Page, *, most: int = 80) -> list[tuple[str, bool]]:
    """Press Tab from the beginning of the view to its end, and return where that led."""
    seen: list[tuple[str, bool]] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        inside, name, visible = page.evaluate(FOCUS)
        if not inside:
            break
        seen.append((name, visible))
    return seen


@pytest.mark.timeout(300)
def test_everything_is_done_with_keys_and_nothing_serious_is_found(  # noqa: PLR0915 - one story; a notebook takes long to open
    open_notebook: Callable[..., NotebookPage], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "events.json").write_text(json.dumps(events()))
    notebook = open_notebook(SHOW.format(path=str(tmp_path / "events.json")))
    page = notebook.page
    notebook.run_all()
    notebook.wait(lambda: len(notebook.table("ltw-steps-table")) > 3, "rows", 60)
    notebook.wait(lambda: page.get_by_test_id("ltw-problems").is_enabled(), "the problem")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    sound(page, "live, light")
    at = page.get_by_test_id
    # -- every part is reached by Tab, and seen to be
    at("ltw-root").evaluate("(e) => { e.tabIndex = -1; e.focus(); }")
    reached = walk(page)
    assert not [name for name, visible in reached if not visible], "focus is not seen"
    names = " ".join(name for name, _ in reached)
    for part in ("ltw-problems", "ltw-grid", "ltw-before", "ltw-play", "ltw-speed", "ltw-live", "ltw-layers"):
        assert part in names, part
    for part in ("ltw-curve", "ltw-filter", "ltw-go", "ltw-columns", "ltw-tab", "ltw-follow"):
        assert part in names, part
    # -- what opens is closed by Escape, which gives the keyboard back
    for button in ("ltw-problems", "ltw-columns", "ltw-layers", "ltw-keys"):
        held = at(button)
        held.focus()
        page.keyboard.press("Enter")
        notebook.wait(lambda held=held: held.get_attribute("aria-expanded") == "true", button)
        sound(page, button)
        page.keyboard.press("Escape")
        assert held.get_attribute("aria-expanded") == "false"
        assert page.evaluate(FOCUS)[1] == button
    # -- a filter, a row, a cell, an episode
    at("ltw-filter").focus()
    page.keyboard.type("reward >")
    notebook.wait(lambda: at("ltw-filter").get_attribute("aria-invalid") == "true", "the fault")
    sound(page, "a fault")
    page.keyboard.press("Escape")
    steps = at("ltw-steps-table").locator("regular-table")
    steps.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("o")
    notebook.wait(at("ltw-cell-steps").is_visible, "a value as a tree")
    sound(page, "a tree")
    page.keyboard.press("Escape")
    notebook.wait(lambda: not at("ltw-cell-steps").is_visible(), "the tree to close")
    page.keyboard.press("Enter")
    where = at("ltw-where")
    notebook.wait(lambda: ", step " in where.inner_text() and " of " in where.inner_text(), "the replay")
    # -- the replay
    figure = page.locator(".ltw-grid")
    figure.focus()
    page.keyboard.press("Home")
    notebook.wait(lambda: "step 0 of" in where.inner_text(), "the first step")
    page.keyboard.press("ArrowRight")
    notebook.wait(lambda: "step 1 of" in where.inner_text(), "the next step")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    notebook.wait(lambda: "step 0 of" not in where.inner_text(), "it to play")
    page.keyboard.press("Space")
    before = where.inner_text().split(",")[0]
    page.keyboard.press("[")
    notebook.wait(lambda: where.inner_text().split(",")[0] != before, "the episode before")
    sound(page, "the replay")
    page.keyboard.press("l")
    notebook.wait(lambda: at("ltw-live").get_attribute("aria-pressed") == "true", "live again")
    # -- the curve opens an episode
    at("ltw-curve").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    notebook.wait(lambda: " of " in where.inner_text(), "the episode under the cursor")
    # -- the tabs
    at("ltw-tab-steps").focus()
    page.keyboard.press("ArrowRight")
    notebook.wait(lambda: at("ltw-tab-episodes").get_attribute("aria-selected") == "true", "the other tab")
    assert page.locator(".jp-mod-editMode").count() == 0, "JupyterLab took a key for its own"
    # -- other colours
    for theme in ("JupyterLab Dark", "JupyterLab Dark High Contrast", "JupyterLab Light"):
        notebook.theme(theme)
        notebook.settle()
        sound(page, theme)
        notebook.shot(f"hands-{theme.removeprefix('JupyterLab ').lower().replace(' ', '-')}")
    page.emulate_media(forced_colors="active", reduced_motion="reduce")
    notebook.settle()
    notebook.shot("hands-forced-colors")
    # What is painted has the system's colours too: holes and the edges of tiles one, what is written on them another.
    for colour in ("GrayText", "CanvasText"):
        forced = page.evaluate(
            """(colour) => {
                const probe = Object.assign(document.createElement("i"), { style: `color: ${colour}` });
                document.body.append(probe);
                const { color } = getComputedStyle(probe);
                probe.remove();
                return color;
            }""",
            colour,
        )
        assert at("ltw-grid").evaluate(PAINTED, forced) > 30, f"nothing in {colour}"
    moving = "() => [...document.querySelectorAll('.ltw, .ltw *')].flatMap((e) => e.getAnimations()).length"
    assert page.evaluate(moving) == 0
    at("ltw-filter").focus()
    assert page.evaluate(FOCUS)[2]
    assert not [line for line in notebook.console if "pageerror" in line], notebook.console
