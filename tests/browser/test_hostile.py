"""Texts that would be code if anybody let them: shown as texts, everywhere, by a real browser."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbconvert import HTMLExporter

import live_telemetry_widget as ltw
from live_telemetry_widget import cli
from live_telemetry_widget._plain import plain
from tests.browser.conftest import SHOTS, NotebookPage
from tests.conftest import proxy_command, replay_command
from tests.support.hostile import CANARY, NAME, REASON, RUN_ID, Text, events, texts

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Locator, Page

SHOW = """
import live_telemetry_widget as ltw
from live_telemetry_widget import cli
client = ltw.connect({address!r})
run = client.run({run_id!r})
run.wait(60)
#
run
#
watch = client.watch(status="failed", most=2); watch
#
run.summary()
"""
#: What the view is made of. Whatever else stands there was made of a text.
ELEMENTS = {"SECTION", "DIV", "SPAN", "HEADER", "BUTTON", "P", "FIGURE", "FIGCAPTION", "CANVAS", "SVG", "PATH", "INPUT"}
ELEMENTS |= {"SELECT", "OPTION", "LABEL", "FORM", "FIELDSET", "LEGEND", "DETAILS", "SUMMARY", "PRE", "DL", "DT", "DD"}
ELEMENTS |= {"REGULAR-TABLE", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD"}
KNOWN = {
    "steps": ("Agent", "Worker", "Action", "Observation", "note"),
    "episodes": ("Agent", "Worker", "Mode", "Game", "note"),
}
#: Take every column off but those of these names; the list is made anew with each.
HIDE = """
(list, names) => {
    for (let n = 0; n < 500; n++) {
        const next = [...list.querySelectorAll("label")]
            .find((label) => label.querySelector("input").checked && !names.includes(label.innerText.trim()));
        if (!next) return;
        next.querySelector("input").click();
    }
}
"""
#: What HTML without script has besides.
STATIC = ELEMENTS | {"STRONG", "CAPTION", "RECT", "POLYLINE", "POLYGON", "UL", "LI", "MAIN", "H1", "H2"}
LOOK = """
(root) => {
    const all = [root, ...root.querySelectorAll("*")];
    // A value in the legend is the one thing that we make bold.
    const names = new Set(all.filter((e) => !e.matches(".ltw-legend-item > b")).map((e) => e.tagName.toUpperCase()));
    const bad = all.flatMap((e) => [...e.attributes])
        .filter(({ name, value }) => /^(on|href|src|xlink|formaction|action|data$|autofocus)/i.test(name) || /javascript:/i.test(value) && name === "style");
    return [[...names], bad.map(({ name, value }) => `${name}=${value}`)];
}
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ltw.Server]:
    """Return a daemon with a run that has such texts wherever it can have any."""
    folder = tmp_path_factory.mktemp("hostile")
    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events()))
    with ltw.serve(folder / "data") as server:
        command = proxy_command(server.address, *replay_command(path), run_id=RUN_ID, name=NAME)
        subprocess.run(command, check=True, capture_output=True)
        yield server


class Watched:
    """What a page asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        page.context.on("request", lambda request: self.asked.append(request.url))

    def check(self) -> None:
        """Nothing ran, and nothing was asked for."""
        assert all(frame.evaluate("() => window.canary") is None for frame in self.page.frames)
        assert not [url for url in self.asked if CANARY in url]


def made_of(root: Locator, elements: set[str] = ELEMENTS) -> None:
    """Nothing was made of a text but text."""
    names, attributes = root.evaluate(LOOK)
    assert set(names) <= elements
    assert attributes == []


def shown_in(text: str) -> set[str]:
    """Return the names of those of the corpus that stand in a text, their beginning at least."""
    return {held.name for held in texts() if held.shown[:40] in text}


ALL = {held.name for held in texts()}
#: Text that is not Unicode cannot travel: it is replaced, and counted as a problem (docs/problems.md).
BUT = {"surrogate"}


@pytest.mark.timeout(300)
def test_the_view_shows_every_text_as_it_is(  # noqa: PLR0915 - one story; a notebook takes long to open
    hostile: ltw.Server, open_notebook: Callable[..., NotebookPage]
) -> None:
    cells = [cell.strip() for cell in SHOW.format(address=hostile.address, run_id=RUN_ID).split("#\n")]
    notebook = open_notebook(*cells)
    page = notebook.page
    watched = Watched(page)
    notebook.run_all()
    root = page.get_by_test_id("ltw-root").first
    notebook.wait(lambda: len(notebook.table("ltw-steps-table")) > 3, "rows", 60)
    text = root.inner_text()
    assert plain(NAME) in text
    # Where there is little room, a run that has a name is called by it alone.
    assert root.locator(".ltw-id").text_content() == plain(RUN_ID)
    assert plain(REASON) in text
    # A column each is named by a text; they would be too many to read the others beside them.
    page.get_by_test_id("ltw-columns").first.click()
    names = page.locator(".ltw-column-list").first
    assert ALL - shown_in(names.inner_text()) <= BUT
    made_of(root)
    names.evaluate(HIDE, [*KNOWN["steps"], *KNOWN["episodes"], texts()[0].shown])
    page.keyboard.press("Escape")
    steps = page.get_by_test_id("ltw-steps-table").first.locator("regular-table")

    def seen_at_the_end() -> bool:
        # Each time: a table is not as wide as it will be before it has drawn its columns.
        steps.evaluate("(e) => { e.scrollLeft = e.scrollWidth; }")
        return texts()[0].shown in steps.locator("thead").inner_text()

    notebook.wait(seen_at_the_end, "a text as a header")
    steps.evaluate("(e) => { e.scrollLeft = 0; }")
    for table, columns in KNOWN.items():
        page.get_by_test_id(f"ltw-tab-{table}").first.click()
        cells = all_cells(notebook, table)
        for column in columns:
            there = "\n".join(cells[column])
            absent = {held.name for held in texts() if in_column(column, held)[:40] not in there}
            assert absent <= BUT, f"{table}: {column}"
        made_of(root)
    notebook.shot("hostile-light")
    # What opens: problems, a cell as a tree.
    page.get_by_test_id("ltw-problems").first.click()
    problems = page.locator(".ltw-problem-list").first
    assert "onerror=window.canary=1" in problems.inner_text()
    made_of(root)
    page.keyboard.press("Escape")
    page.get_by_test_id("ltw-tab-steps").first.click()
    page.get_by_test_id("ltw-filter").first.fill("episode == 23")
    notebook.wait(lambda: len(notebook.table("ltw-steps-table")) == 2, "the rows of one episode")
    steps.focus()
    for key in ("ArrowDown", "o"):
        steps.press(key)
    tree = page.get_by_test_id("ltw-cell-steps").first
    assert as_json(texts()[23].text) in tree.inner_text()
    made_of(root)
    notebook.shot("hostile-tree")
    page.keyboard.press("Escape")
    # A filter that is wrong is quoted by what is wrong with it.
    page.get_by_test_id("ltw-filter").first.fill("<img src=x onerror=window.canary=1>")
    note = page.get_by_test_id("ltw-filter-note").first
    notebook.wait(lambda: "at character" in note.inner_text(), "the fault")
    page.get_by_test_id("ltw-filter").first.fill("agnt == '<b>\u202e'")
    notebook.wait(lambda: "agnt" in note.inner_text(), "another")
    page.get_by_test_id("ltw-filter").first.fill("")
    # A replay says which action it was, and draws the letters.
    page.get_by_test_id("ltw-steps-table").first.locator("tbody td").first.click()
    notebook.wait(lambda: "step" in page.get_by_test_id("ltw-where").first.inner_text(), "the replay")
    made_of(root)
    # The others: a view per agent, and HTML in an output, which JupyterLab would typeset.
    assert page.locator(".lm-TabBar-tabLabel", has_text="<img src=http").count() == 2
    made_of(page.get_by_test_id("ltw-root").last)
    summary = page.locator(".ltw-fallback").last
    assert plain(NAME)[:60] in summary.inner_text()
    assert "$\\alpha$" in summary.inner_text()
    made_of(summary, STATIC)
    assert page.locator("mjx-container").count() == 0
    watched.check()
    assert not [line for line in notebook.console if "pageerror" in line], notebook.console


def all_cells(notebook: NotebookPage, table: str) -> dict[str, set[str]]:
    """Return the texts that a person finds in each column of a table who scrolls through all of it."""
    held = notebook.page.get_by_test_id(f"ltw-{table}-table").first.locator("regular-table")
    notebook.wait(lambda: notebook.table(f"ltw-{table}-table"), "rows")
    found: dict[str, set[str]] = {}
    high, tall = held.evaluate("(e) => [e.clientHeight, e.scrollHeight]")
    for top in range(0, tall, max(1, high - 60)):
        held.evaluate("async (e, y) => { e.scrollTop = y; await e.draw(); }", top)
        seen: list[dict[str, str]] = []

        def here(seen: list[dict[str, str]] = seen) -> bool:
            seen[:] = notebook.table(f"ltw-{table}-table")
            return bool(seen) and "…" not in {text for row in seen for text in row.values()}

        notebook.wait(here, "rows without gaps")
        for row in seen:
            for column, text in row.items():
                found.setdefault(column, set()).add(text)
    return found


def in_column(column: str, held: Text) -> str:
    """Return what a column shows of a text: in an observation it stands within JSON."""
    return as_json(held.text) if column == "Observation" else held.shown


def as_json(text: str) -> str:
    """Return a text as it is shown where JSON is."""
    return plain(json.dumps(text, ensure_ascii=False))


def test_a_report_and_what_is_left_without_scripts_are_texts(  # noqa: PLR0915 - as above
    hostile: ltw.Server, tmp_path: pathlib.Path, browser: Browser
) -> None:
    with ltw.open(hostile.data_dir) as recording:
        run = recording.run(RUN_ID)
        interactive = run.to_html(tmp_path / "report.html").path
        static = run.to_html(tmp_path / "static.html", static=True).path
        output = nbformat.v4.new_output("display_data", data={"text/html": run.summary()._repr_html_()})
        figures = [run.plot.returns(), run.plot.visits(), run.plot.q_values(), run.plot.outcomes()]
    cell = nbformat.v4.new_code_cell("run", outputs=[output])
    exported, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    (tmp_path / "notebook.html").write_text(exported, encoding="utf-8")
    parts = [figure.to_html(full_html=False, include_plotlyjs=i == 0) for i, figure in enumerate(figures)]
    (tmp_path / "figures.html").write_text("<!doctype html><meta charset=utf-8>" + "".join(parts), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, offline=True)
    try:
        page = context.new_page()
        watched = Watched(page)
        shown = NotebookPage(page)
        page.goto(interactive.as_uri())
        shown.wait(lambda: shown.table("ltw-steps-table"), "rows")
        assert plain(NAME) == page.locator("h1").inner_text()
        assert page.title() == plain(f"Report of run {NAME}")
        root = page.get_by_test_id("ltw-root")
        assert plain(REASON) in root.inner_text()
        made_of(root)
        made_of(page.locator("#ltw-notes"), STATIC)
        page.get_by_test_id("ltw-columns").click()
        assert ALL - shown_in(page.locator(".ltw-column-list").inner_text()) <= BUT
        page.keyboard.press("Escape")
        assert shown_in(page.get_by_test_id("ltw-steps-table").inner_text())
        page.screenshot(path=SHOTS / "hostile-report.png")
        watched.check()
        page.goto(static.as_uri())
        made_of(page.locator("body"), STATIC | {"BODY", "FOOTER"})
        # The table of episodes has the agents; a cell has so many characters.
        assert {held.name for held in texts() if held.shown[:20] not in page.locator("body").inner_text()} <= BUT
        watched.check()
        page.goto((tmp_path / "notebook.html").as_uri(), wait_until="commit")
        fallback = page.locator(".ltw-fallback")
        fallback.wait_for()
        made_of(fallback, STATIC)
        assert "$\\alpha$" in fallback.inner_text()
        watched.check()
        page.goto((tmp_path / "figures.html").as_uri())
        titles = page.locator(".gtitle")
        shown.wait(lambda: titles.count() == len(figures), "the figures")
        for title in titles.all_text_contents():
            assert plain(NAME)[:60] in title.replace("\xa0", " ")
        assert page.locator(".plotly svg a, .plotly svg [onload], .plotly svg [onerror]").count() == 0
        watched.check()
        # Not even what the page may not ask for is tried without scripts.
        bare = browser.new_context(java_script_enabled=False, offline=True).new_page()
        asked = Watched(bare).asked
        bare.goto(interactive.as_uri())
        assert plain(NAME)[:60] in bare.locator("#ltw-static").inner_text()
        assert bare.locator("#ltw-static :is(a, img, script, iframe, style, math, image)").count() == 0
        assert not [url for url in asked if CANARY in url]
        bare.context.close()
    finally:
        context.close()


def test_the_terminal_is_told_nothing_but_lines(
    hostile: ltw.Server, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = ["--data-dir", str(hostile.data_dir)]
    with ltw.open(hostile.data_dir) as recording:
        print(recording.run(RUN_ID), recording, recording.run(RUN_ID).summary())  # noqa: T201 - as a person would
    assert cli.main(["list", *folder]) == 0
    assert cli.main(["show", RUN_ID, *folder]) == 0
    assert cli.main(["report", RUN_ID, *folder]) == 0
    assert cli.main(["export", RUN_ID, "--format", "jsonl", *folder]) == 0
    assert cli.main(["show", f"{NAME}\n{NAME}", *folder]) == 1
    said = "".join(capfd.readouterr())
    assert not [line for line in said.splitlines() if "\x1b" in line]
    assert not [c for c in said if c != "\n" and not c.isprintable()]
    for text in (NAME, REASON):
        assert plain(text) in said
