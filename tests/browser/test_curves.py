"""Curves in JupyterLab: of two runs and of each agent; one looks closer, and a click or Enter selects the episode for Python too."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from tests.conftest import demo_command, proxy_command, replay_command
from tests.integration.test_watch import written

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    import live_telemetry_widget as ltw
    from tests.browser.conftest import NotebookPage

SHOW = """
import json
import live_telemetry_widget as ltw
client = ltw.connect({address!r})
view = client.overlay(["trio", "lake"])
view
"""
SELECTED = 'print("selected", json.dumps(view.selection["episode"]))'


def selected(notebook: NotebookPage) -> Any:
    notebook.page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1; }")
    notebook.command("notebook:run-cell")
    output = notebook.page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea")
    notebook.wait(lambda: not notebook.is_busy(1) and "selected" in output.inner_text(), "what is selected")
    return json.loads(output.inner_text().split("selected", 1)[1])


def test_two_runs_are_overlaid_and_an_episode_is_chosen_in_the_curve(
    daemon: ltw.Server, open_notebook: Callable[..., NotebookPage], tmp_path: pathlib.Path
) -> None:
    path = written(tmp_path / "run.jsonl", agents=3, workers=1)
    subprocess.run(proxy_command(daemon.address, *replay_command(path), run_id="trio", name="Trio"), check=True)
    worker = demo_command("--episodes", "40", "--no-slippery", "--seed", "0")
    subprocess.run(proxy_command(daemon.address, *worker, run_id="lake", name="<b>Lake</b>"), check=True)
    notebook = open_notebook(SHOW.format(address=daemon.address), SELECTED)
    notebook.run_all()
    page = notebook.page
    legend = page.get_by_test_id("ltw-legend").locator("button")
    notebook.wait(lambda: legend.all_inner_texts() == ["Trio", "<b>Lake</b>"], "both runs by name, as text")
    page.get_by_test_id("ltw-curve-agents").select_option("each")
    notebook.wait(
        lambda: legend.all_inner_texts() == ["Trio · a0", "Trio · a1", "Trio · a2", "<b>Lake</b>"], "a curve per agent"
    )
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        notebook.theme(theme)
        notebook.settle()
        notebook.shot(f"overlay-{name}")
    page.get_by_test_id("ltw-curve-agents").select_option("=a1")
    legend.nth(1).click()  # the other run's curve goes
    curve = page.get_by_test_id("ltw-curve")
    notebook.wait(lambda: "a1: 3 episodes" in (curve.get_attribute("aria-label") or ""), "one curve")
    readout = page.get_by_test_id("ltw-readout")
    curve.focus()
    page.keyboard.press("Home")
    notebook.wait(lambda: readout.inner_text().startswith("episode 0:"), "the first episode under the cursor")
    page.keyboard.press("ArrowRight")
    notebook.wait(lambda: readout.inner_text().startswith("episode 1:"), "the next one")
    page.keyboard.press("Enter")
    notebook.wait(lambda: (selected(notebook) or {}).get("episode") == 1, "Enter to select it")
    assert selected(notebook)["agent"] == "a1"
    plot = curve.locator(".u-over")
    box = plot.bounding_box()
    assert box
    plot.click(position={"x": box["width"] - 2, "y": box["height"] / 2})
    notebook.wait(lambda: selected(notebook)["episode"] == 2, "a click to select the last")
    assert not [line for line in notebook.console if "pageerror" in line], notebook.console
