"""The tables in JupyterLab: filtered, sorted, jumped in, copied from; and the selection that Python shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.test_channel import STREAM
from tests.browser.test_life import output, run_cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.conftest import NotebookPage

HEARD = """
heard = []
view.widget.observe(lambda change: heard.append(change["new"]), "selection")
import ipywidgets as W
field = W.Text(description="filter")
link = W.jslink((field, "value"), (view.widget, "filter"))
W.VBox([field, view.widget])
"""
SAY = "s = view.widget.selection\nprint(s['episode'], s['step'], s['filter'], len(heard) > 0)"
SET = "view.widget.selection = {'episode': {'row': 4, 'agent': 'agent', 'worker': '', 'episode': 4}, 'step': 30}"
#: With a busy cell, the change of a trait that the page made is heard afterwards.
ROWS = 220_000


def test_a_filter_a_jump_and_a_selection_from_both_sides(  # noqa: PLR0915 - one story
    open_notebook: Callable[..., NotebookPage],
) -> None:
    notebook = open_notebook(STREAM.format(rows=ROWS), HEARD, SAY, SET)
    page = notebook.page
    for cell in (0, 1):
        run_cell(notebook, cell)
    notebook.wait(lambda: notebook.table("ltw-steps-table"), "rows")
    steps = page.get_by_test_id("ltw-steps-table")

    # A filter is answered by the kernel over everything; where it cannot be, the place is said.
    expression = page.get_by_test_id("ltw-filter")
    note = page.get_by_test_id("ltw-filter-note")
    expression.fill("rewad > 2")
    expression.press("Enter")
    notebook.wait(lambda: "did you mean 'reward'" in note.inner_text(), "the fault in words")
    assert expression.get_attribute("aria-invalid") == "true"
    notebook.shot("tables-fault-light")
    expression.fill("reward > 2 and step_index == 10")
    expression.press("Enter")
    # Step 10 of episode e is row 50 e + 10; its reward is 3 when that is 6 modulo 7.
    matches = sum((50 * e + 10) % 7 == 6 for e in range(ROWS // 50))
    notebook.wait(lambda: note.inner_text().startswith(f"{matches} steps"), "the number of matches")
    notebook.wait(lambda: {row["Step"] for row in notebook.table("ltw-steps-table")} == {"10"}, "only such rows")
    steps.locator("th", has_text="Episode").first.click()
    notebook.wait(
        lambda: (
            steps.locator("th[aria-sort=ascending]").count()
            and notebook.table("ltw-steps-table")[0]["Episode"]
            == str(min(e for e in range(7) if (50 * e + 10) % 7 == 6))
        ),
        "ascending order",
    )
    steps.locator("th", has_text="Episode").first.click()
    highest = max(e for e in range(ROWS // 50) if (50 * e + 10) % 7 == 6)
    notebook.wait(lambda: notebook.table("ltw-steps-table")[0]["Episode"] == str(highest), "descending order")
    notebook.shot("tables-filtered-light")
    steps.locator("th", has_text="Episode").first.click()
    expression.fill("")
    expression.press("Enter")
    notebook.wait(lambda: note.inner_text() == "", "no filter")

    # To an episode and a step; its rows are marked, and Python knows.
    page.get_by_test_id("ltw-go").fill("1234:7")
    page.get_by_test_id("ltw-go").press("Enter")
    notebook.wait(lambda: steps.locator("tr.ltw-at").count() == 1, "the step on screen")
    at = steps.locator("tr.ltw-at td").all_inner_texts()
    assert {"1234", "7"} <= set(at)
    run_cell(notebook, 2)
    assert "{'row': 1234, 'worker': '', 'agent': 'agent', 'episode': 1234} 7  True" in output(notebook, 2)

    # A click chooses another step; the value of a cell opens as a tree; marked rows are copied.
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    steps.locator("tr", has=page.locator("td", has_text="1234")).nth(1).locator("td").nth(1).click()
    page.keyboard.press("Shift+ArrowDown")
    notebook.wait(lambda: steps.locator("tr.ltw-marked").count() == 2, "two marked rows")
    page.keyboard.press("Control+c")
    notebook.wait(lambda: "2 rows copied" in steps.locator("[role=status]").inner_text(), "the copy")
    copied = page.evaluate("() => navigator.clipboard.readText()").split("\n")
    assert len(copied) == 3
    assert copied[0].split("\t")[:3] == ["Timestamp", "Agent", "Episode"]
    assert copied[1].split("\t")[2] == "1234"
    steps.locator("td.ltw-opens").nth(1).click()
    tree = page.get_by_test_id("ltw-cell-steps")
    notebook.wait(lambda: "position" in tree.inner_text(), "the tree")
    notebook.shot("tables-tree-light")
    page.keyboard.press("Escape")
    assert tree.is_hidden()

    # Python moves the page, and so does another widget in the page.
    run_cell(notebook, 3)
    notebook.wait(lambda: "30" in steps.locator("tr.ltw-at td").all_inner_texts(), "the step that Python set")
    assert "4" in steps.locator("tr.ltw-at td").all_inner_texts()
    page.get_by_label("filter", exact=True).fill("terminated")
    notebook.wait(lambda: f"{ROWS // 50:,} steps" in note.inner_text(), "the filter of the field")
    assert expression.input_value() == "terminated"
    page.get_by_test_id("ltw-columns").click()
    page.get_by_test_id("ltw-columns").locator("xpath=..").get_by_label("Agent").first.uncheck()
    notebook.wait(lambda: "Agent" not in notebook.table("ltw-steps-table")[0], "the column to go")
    notebook.theme("JupyterLab Dark")
    notebook.shot("tables-columns-dark")
    assert not [line for line in notebook.console if "pageerror" in line], notebook.console
