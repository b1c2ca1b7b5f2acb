"""A person looks back: an episode is replayed, scrubbed, compared with another, with the kernel busy too; and then live again."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import live_telemetry_widget as ltw
from tests.browser.test_channel import BUSY
from tests.conftest import demo_command, proxy_command

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from playwright.sync_api import Locator

    from tests.browser.conftest import NotebookPage

SHOW = """
import live_telemetry_widget as ltw
run = ltw.connect({address!r}).run("lake")
view = run.view()
view
"""
TELL = """
import json
print("selected", json.dumps(view.selection))
"""


def told(notebook: NotebookPage) -> dict[str, Any]:
    """Return what the notebook printed of the selection."""
    text = notebook.page.locator(".jp-OutputArea-output pre", has_text="selected").last.inner_text()
    found: dict[str, Any] = json.loads(text.split("selected ", 1)[1])
    return found


def cells(row: Locator) -> str:
    """Return the texts of a row, between tabs."""
    return "\t".join(row.locator("td").all_inner_texts())


def run_cell(notebook: NotebookPage, number: int) -> None:
    """Run one cell."""
    notebook.page.locator(".jp-CodeCell").nth(number).locator(".jp-InputPrompt").click()
    notebook.command("notebook:run-cell")


def test_an_episode_is_replayed_compared_and_left(  # noqa: PLR0915 - one story, told once: a notebook takes long to open
    daemon: ltw.Server, open_notebook: Callable[..., NotebookPage], tmp_path: pathlib.Path
) -> None:
    stop = tmp_path / "stop"
    worker = demo_command("--episodes", "60", "--no-slippery", "--seed", "3")
    subprocess.run(proxy_command(daemon.address, *worker, run_id="lake", name="FrozenLake"), check=True)
    notebook = open_notebook(SHOW.format(address=daemon.address), TELL, BUSY.format(stop=str(stop)))
    page = notebook.page
    run_cell(notebook, 0)
    notebook.wait(lambda: page.get_by_test_id("ltw-root").count(), "the view")
    notebook.wait(lambda: notebook.number("ltw-episodes-count") == 60, "all episodes to be counted")
    notebook.wait(
        lambda: page.get_by_test_id("ltw-state").first.inner_text().lower().startswith("completed"), "the end"
    )
    with ltw.open(daemon.data_dir) as recording:
        steps = recording.run("lake").steps
    episodes = {number: part.reset_index(drop=True) for number, part in steps.groupby("episode")}
    where = page.get_by_test_id("ltw-where")
    figure = page.locator(".ltw-grid").first

    def stands(number: int, step: int) -> bool:
        return where.inner_text() == f"episode {number}, step {step} of {len(episodes[number])}"

    def agrees(number: int, step: int, testid: str = "ltw-grid") -> bool:
        row, col = divmod(int(episodes[number]["next_state"][step]), 4)
        words = page.get_by_test_id(testid).get_attribute("aria-label") or ""
        return f"episode {number}, step {step}, agent at row {row}, column {col}" in words

    def go(key: str, number: int, step: int) -> None:
        figure.press(key)
        notebook.wait(lambda: stands(number, step), f"step {step} of episode {number} after {key!r}")
        notebook.wait(lambda: agrees(number, step), "the picture of that step")

    # From live to the newest step, and back through episodes and steps.
    last = max(episodes)
    go("Space", last, len(episodes[last]) - 1)
    go("[", last - 1, 0)
    go("[", last - 2, 0)
    go("]", last - 1, 0)
    go("ArrowRight", last - 1, 1)
    go("End", last - 1, len(episodes[last - 1]) - 1)
    go("ArrowLeft", last - 1, len(episodes[last - 1]) - 2)
    go("Home", last - 1, 0)

    # An episode that is clicked in its table is replayed, and the step table goes along.
    page.get_by_role("tab", name="Episodes").first.click()
    notebook.wait(lambda: notebook.table("ltw-episodes-table"), "rows of episodes")
    chosen = int(notebook.table("ltw-episodes-table")[2]["Episode"])
    page.get_by_test_id("ltw-episodes-table").first.locator("tbody tr:not(.ltw-stale)").nth(2).locator("td").nth(
        2
    ).click()
    notebook.wait(lambda: stands(chosen, 0), "the episode that was clicked")
    page.get_by_role("tab", name="Steps").first.click()
    page.get_by_test_id("ltw-on").click()
    notebook.wait(lambda: agrees(chosen, 1), "its second step")
    at = page.get_by_test_id("ltw-steps-table").first.locator("tbody tr.ltw-at:not(.ltw-stale)")
    notebook.wait(
        lambda: at.count() == 1 and f"\t{chosen}\t1\t" in f"\t{cells(at)}", "the step table to be at that step"
    )

    # A long one, scrubbed and played.
    longest = max(episodes, key=lambda number: len(episodes[number]))
    page.evaluate("() => { document.activeElement.blur(); }")
    while not stands(longest, 0):
        figure.press("[" if longest < int(where.inner_text().split()[1].rstrip(",")) else "]")
        number = int(where.inner_text().split()[1].rstrip(","))
        notebook.wait(lambda number=number: number != longest or stands(longest, 0), "the longest episode")
    page.get_by_test_id("ltw-slider").fill(str(len(episodes[longest]) // 2))
    notebook.wait(lambda: agrees(longest, len(episodes[longest]) // 2), "the step that was scrubbed to")
    page.get_by_test_id("ltw-speed").select_option("64")
    page.get_by_test_id("ltw-play").click()
    notebook.wait(lambda: agrees(longest, len(episodes[longest]) - 1), "the end of the episode")
    notebook.wait(lambda: page.get_by_test_id("ltw-play").get_attribute("data-playing") == "false", "it to stand still")

    # Python knows.
    run_cell(notebook, 1)
    notebook.wait(lambda: page.locator(".jp-OutputArea-output pre", has_text="selected").count(), "what is selected")
    selected = told(notebook)
    assert (selected["episode"]["episode"], selected["step"]) == (longest, len(episodes[longest]) - 1)

    # Beside another one: where the first of them differs is where their actions or states do.
    other = next(number for number in episodes if number != longest)
    pair = [episodes[number][["action", "state"]] for number in (longest, other)]
    common = min(map(len, pair))
    differ = [i for i in range(common) if not pair[0].iloc[i].equals(pair[1].iloc[i])]
    first = differ[0] if differ else common
    page.get_by_test_id("ltw-compare").click()
    page.get_by_test_id("ltw-compare-episode").fill(str(other))
    page.keyboard.press("Enter")
    notebook.wait(lambda: page.get_by_test_id("ltw-grid-other").is_visible(), "the other episode, after Enter")
    notebook.wait(
        lambda: f"step {first}" in figure.locator(".ltw-shot-title").nth(1).inner_text(),
        f"the first difference, at step {first}",
    )
    page.get_by_test_id("ltw-compare").click()
    page.get_by_test_id("ltw-first-difference").click()
    notebook.wait(lambda: stands(longest, first), "the first step that differs")
    assert agrees(other, min(first, len(episodes[other]) - 1), "ltw-grid-other")
    assert page.locator(".ltw-shot[data-differs]").count() == 2
    page.get_by_test_id("ltw-layers").click()
    for layer in ("heat", "policy", "values"):
        page.get_by_test_id(f"ltw-layer-{layer}").locator("input").check()
    page.keyboard.press("Escape")
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        notebook.theme(theme)
        notebook.settle()
        notebook.shot(f"compared-{name}")
    # The shorter one ends, and says so; the longer goes on, whichever of them is on the left.
    titles = figure.locator(".ltw-shot-title")
    figure.press("End")
    notebook.wait(lambda: agrees(longest, len(episodes[longest]) - 1), "the end of the longer one")
    assert titles.nth(1).inner_text().endswith("ended")
    page.get_by_test_id("ltw-go").fill(str(other))
    page.get_by_test_id("ltw-go").press("Enter")
    notebook.wait(lambda: stands(other, 0), "the shorter one on the left")
    page.get_by_test_id("ltw-compare").click()
    page.get_by_test_id("ltw-compare-episode").fill(str(longest))
    page.keyboard.press("Enter")
    notebook.wait(lambda: agrees(longest, 0, "ltw-grid-other"), "the longer one on the right")
    page.get_by_test_id("ltw-speed").select_option("64")
    page.get_by_test_id("ltw-play").click()
    notebook.wait(lambda: agrees(longest, len(episodes[longest]) - 1, "ltw-grid-other"), "the longer one's end")
    assert agrees(other, len(episodes[other]) - 1)
    assert titles.nth(0).inner_text() == f"episode {other} \u00b7 ended"
    page.get_by_test_id("ltw-compare").click()
    page.get_by_test_id("ltw-compare-stop").click()

    # A filter for episodes alone leaves the steps as they are: they go along all the same.
    page.get_by_test_id("ltw-filter").fill("Outcome == 'Completed'")
    page.get_by_test_id("ltw-filter").press("Enter")
    note = page.get_by_test_id("ltw-filter-note")
    notebook.wait(lambda: "all steps, which have no outcome" in note.inner_text(), "what the filter is for")
    assert page.get_by_test_id("ltw-filter").input_value() == "outcome == 'Completed'"
    page.get_by_role("tab", name="Episodes").first.click()
    notebook.wait(
        lambda: {row["Outcome"] for row in notebook.table("ltw-episodes-table")} == {"Completed"},
        "those episodes alone",
    )
    shown = [int(row["Episode"]) for row in notebook.table("ltw-episodes-table")]
    place = next(i for i, number in enumerate(shown) if number not in {longest, other})
    failed = shown[place]
    rows = page.get_by_test_id("ltw-episodes-table").first.locator("tbody tr:not(.ltw-stale)")
    rows.nth(place).locator("td").nth(2).click()
    notebook.wait(lambda: stands(failed, 0), "one that did not succeed")
    page.get_by_role("tab", name="Steps").first.click()
    notebook.wait(
        lambda: at.count() == 1 and f"\t{failed}\t0\t" in f"\t{cells(at)}", "its first step in the step table"
    )
    page.get_by_test_id("ltw-filter").fill("")
    page.get_by_test_id("ltw-filter").press("Enter")

    # A busy kernel answers all the same, and live brings one back.
    run_cell(notebook, 2)
    notebook.wait(lambda: notebook.is_busy(2), "the busy cell to run")
    unseen = next(number for number in episodes if number not in {longest, other, failed})
    page.get_by_test_id("ltw-compare").click()
    page.get_by_test_id("ltw-compare-episode").fill(str(unseen))
    page.get_by_test_id("ltw-compare-show").click()
    notebook.wait(
        lambda: f"episode {unseen}, step" in (page.get_by_test_id("ltw-grid-other").get_attribute("aria-label") or ""),
        "an episode while the kernel is busy",
    )
    assert notebook.is_busy(2), "the cell was no longer busy, so this showed nothing"
    stop.touch()
    page.get_by_test_id("ltw-live").click()
    notebook.wait(lambda: page.get_by_test_id("ltw-live").get_attribute("aria-pressed") == "true", "live")
    assert agrees(last, len(episodes[last]) - 1)
    assert not [line for line in notebook.console if "error" in line.lower()], notebook.console
