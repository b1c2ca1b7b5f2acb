"""A finished run of an agent that learnt, as README shows it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

import live_telemetry_widget as ltw
from tests.browser.conftest import NotebookPage
from tests.conftest import demo_command, proxy_command

if TYPE_CHECKING:
    from collections.abc import Callable

SHOW = """
import live_telemetry_widget as ltw
run = ltw.connect({address!r}).run("lake")
run
"""


def test_a_finished_run_that_is_opened_later_is_shown_whole_in_both_themes(
    daemon: ltw.Server, open_notebook: Callable[..., NotebookPage]
) -> None:
    worker = demo_command("--episodes", "220", "--no-slippery", "--seed", "0")
    subprocess.run(proxy_command(daemon.address, *worker, run_id="lake", name="FrozenLake 4x4"), check=True)
    notebook = open_notebook(SHOW.format(address=daemon.address))
    notebook.run_all()
    page = notebook.page
    notebook.wait(lambda: page.get_by_test_id("ltw-root").count(), "the view")
    notebook.wait(lambda: notebook.number("ltw-episodes-count") == 220, "all episodes to be counted")
    notebook.wait(lambda: page.get_by_test_id("ltw-state").first.inner_text().lower() == "completed", "the end")
    notebook.wait(
        lambda: [row["Episode"] for row in notebook.table("ltw-steps-table")[-1:]] == ["219"], "the last step"
    )
    assert notebook.table("ltw-steps-table")[-1]["Terminated"] == "true"
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        notebook.theme(theme)
        notebook.settle()
        notebook.shot(f"learnt-{name}")
    page.get_by_role("tab", name="Episodes").first.click()
    notebook.wait(lambda: notebook.table("ltw-episodes-table"), "rows of episodes")
    notebook.settle()
    notebook.shot("episodes-light")
    # How an episode ended is seen without scrolling, and nothing is called live any more.
    head = page.get_by_test_id("ltw-episodes-table").first.locator("th", has_text="Outcome")
    table = page.get_by_test_id("ltw-episodes-table").first.bounding_box()
    box = head.bounding_box()
    assert box
    assert table
    assert box["x"] + box["width"] < table["x"] + table["width"]
    assert page.get_by_test_id("ltw-follow-episodes").first.inner_text() == "At the end"
    assert page.get_by_test_id("ltw-rate").first.is_hidden()
    assert {row["Outcome"] for row in notebook.table("ltw-episodes-table")} <= {"Success", "Completed", "Timeout"}
    assert not [line for line in notebook.console if "error" in line.lower()], notebook.console


COLOURS = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Map();
    for (let i = 0; i < data.length; i += 4) {
        const colour = `${data[i] >> 5},${data[i + 1] >> 5},${data[i + 2] >> 5},${data[i + 3] >> 7}`;
        seen.set(colour, (seen.get(colour) ?? 0) + 4 / data.length);
    }
    return [...seen.values()].filter((share) => share > 0.004).length;
}"""


@pytest.mark.parametrize("game", ["Taxi", "CliffWalking"])
def test_a_view_that_is_shown_when_its_run_has_ended_is_painted_in_its_colours(
    daemon: ltw.Server, open_notebook: Callable[..., NotebookPage], game: str
) -> None:
    worker = demo_command("--episodes", "2", "--env", game, "--max-steps", "40")
    subprocess.run(proxy_command(daemon.address, *worker, run_id="lake", name=game), check=True)
    notebook = open_notebook(SHOW.format(address=daemon.address), "run")
    notebook.run_all()
    canvas = notebook.page.get_by_test_id("ltw-grid").first
    notebook.wait(lambda: game in ((canvas.count() and canvas.get_attribute("aria-label")) or ""), "the grid")
    notebook.settle()
    notebook.shot(game.lower())
    assert canvas.evaluate(COLOURS) >= 4, "a board of one colour: the style sheet was not asked again"


def test_a_view_is_whole_again_after_the_page_was_reloaded(
    daemon: ltw.Server, open_notebook: Callable[..., NotebookPage]
) -> None:
    subprocess.run(proxy_command(daemon.address, *demo_command("--episodes", "30"), run_id="lake"), check=True)
    notebook = open_notebook(SHOW.format(address=daemon.address))
    notebook.run_all()
    page = notebook.page
    notebook.wait(lambda: page.get_by_test_id("ltw-root").count(), "the view")
    with ltw.connect(daemon.address) as client:
        run = client.run("lake")
        run.wait(timeout=60)
        steps = len(run.steps)
    # Episodes have a stream of their own: that all are here says nothing of the steps.
    notebook.wait(lambda: notebook.number("ltw-steps-count") == steps, "all steps to be counted")
    notebook.wait(lambda: notebook.number("ltw-episodes-count") == 30, "all episodes to be counted")
    notebook.command("docmanager:save")
    notebook.wait(
        lambda: page.evaluate("() => !jupyterapp.shell.currentWidget.context.model.dirty"), "the notebook to be saved"
    )
    page.reload()
    notebook.wait(lambda: page.get_by_test_id("ltw-root").count(), "the view after the reload", 60)
    notebook.wait(lambda: notebook.number("ltw-steps-count") == steps, "the same steps")
    notebook.wait(lambda: [row["Episode"] for row in notebook.table("ltw-steps-table")[-1:]] == ["29"], "the last step")
    # Another browser on the same kernel is as right, and what is chosen in one is chosen in both.
    second = page.context.new_page()
    second.goto(page.url)
    other = NotebookPage(second)
    other.wait(lambda: second.get_by_test_id("ltw-root").count(), "the view of the second browser", 60)
    other.wait(lambda: other.number("ltw-steps-count") == steps, "the same steps there")
    second.get_by_test_id("ltw-filter").fill("reward > 5")
    notebook.wait(lambda: page.get_by_test_id("ltw-filter").input_value() == "reward > 5", "the filter in the first")
    for shown in (notebook, other):
        note = shown.page.get_by_test_id("ltw-filter-note")
        shown.wait(lambda note=note: note.inner_text().startswith("0 steps"), "what it finds, in each")
