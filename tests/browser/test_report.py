"""A report in a fresh browser that may reach nothing but the file itself."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

import live_telemetry_widget as ltw
from tests.browser.conftest import SHOTS, NotebookPage
from tests.conftest import demo_command, proxy_command

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Route


@pytest.fixture
def open_file(browser: Browser) -> Iterator[Callable[..., tuple[NotebookPage, list[str]]]]:
    """Return a function that opens a file in a browser which refuses every request for anything else, and tells of them."""
    contexts = []

    def open_(path: pathlib.Path, **options: object) -> tuple[NotebookPage, list[str]]:
        context = browser.new_context(viewport={"width": 1280, "height": 1000}, offline=True, **options)  # type: ignore[arg-type]
        contexts.append(context)
        refused: list[str] = []

        def look(route: Route) -> None:
            if route.request.url == path.as_uri():
                route.continue_()
            else:
                refused.append(route.request.url)
                route.abort()

        context.route("**/*", look)
        page = context.new_page()
        shown = NotebookPage(page)
        page.goto(path.as_uri())
        return shown, refused

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def lake(daemon: ltw.Server) -> ltw.Run:
    """Return a run of FrozenLake that has ended, read from its recording."""
    worker = demo_command("--episodes", "220", "--no-slippery", "--seed", "0")
    subprocess.run(proxy_command(daemon.address, *worker, run_id="lake", name="FrozenLake 4x4"), check=True)
    with ltw.open(daemon.data_dir) as recording:
        run = recording.run("lake")
        assert len(run.episodes) == 220
    return run


def test_a_report_is_the_view_over_its_own_file_without_any_network(
    lake: ltw.Run, tmp_path: pathlib.Path, open_file: Callable[..., tuple[NotebookPage, list[str]]]
) -> None:
    steps = lake.steps
    report = lake.to_html(tmp_path / "report.html")
    for scheme in ("dark", "light"):
        shown, refused = open_file(report.path, color_scheme=scheme)
        page = shown.page
        shown.wait(lambda shown=shown: shown.number("ltw-steps-count") == len(steps), "all steps to be counted")
        shown.wait(lambda shown=shown: shown.number("ltw-episodes-count") == 220, "all episodes to be counted")
        shown.wait(lambda shown=shown: shown.table("ltw-steps-table"), "rows of steps")
        assert [row["Episode"] for row in shown.table("ltw-steps-table")[-1:]] == [str(steps["episode"].iloc[-1])]
        assert page.locator("#ltw-static").is_hidden()
        assert page.locator("h1").inner_text() == "FrozenLake 4x4"
        shown.settle()
        page.screenshot(path=SHOTS / f"report-{scheme}.png")
    # Rows that were never pushed come from the file.
    page.get_by_test_id("ltw-steps-table").locator("regular-table").evaluate("(e) => { e.scrollTop = 0; }")
    shown.wait(lambda: [row["Episode"] for row in shown.table("ltw-steps-table")[:1]] == ["0"], "the first step")
    assert refused == []
    assert shown.console == []


def test_an_episode_of_a_report_is_replayed(
    lake: ltw.Run, tmp_path: pathlib.Path, open_file: Callable[..., tuple[NotebookPage, list[str]]]
) -> None:
    shown, refused = open_file(lake.to_html(tmp_path / "report.html").path)
    page = shown.page
    where = page.get_by_test_id("ltw-where")
    last = len(lake.episode(218)) - 1
    shown.wait(lambda: shown.number("ltw-steps-count"), "the view")
    # Stand still, go to the episode before, to its first step, and play from there to its end.
    page.get_by_test_id("ltw-play").click()
    shown.wait(lambda: "episode 219" in where.inner_text(), "the newest episode")
    page.get_by_test_id("ltw-before").click()
    shown.wait(lambda: "episode 218, step 0" in where.inner_text(), "the first step of the episode before")
    page.get_by_test_id("ltw-speed").select_option("8")
    page.get_by_test_id("ltw-play").click()
    shown.wait(lambda: f"episode 218, step {last}" in where.inner_text(), "its last step")
    # What the run's steps say of the map was counted when the report was written.
    page.get_by_test_id("ltw-layers").click()
    for layer in ("heat", "policy"):
        page.get_by_test_id(f"ltw-layer-{layer}").check()
    page.keyboard.press("Escape")
    # ... and what they say of this episode alone is counted in the page, from what is in the file.
    page.get_by_test_id("ltw-layers").click()
    for layer, on in (("heat", False), ("policy", False), ("values", False)):
        page.get_by_test_id(f"ltw-layer-{layer}").set_checked(on)
    bare = _picture(shown)
    for layer in ("policy", "values"):
        page.get_by_test_id(f"ltw-layer-{layer}").check()
    shown.wait(lambda: _picture(shown) != bare, "what actions are worth, of the run")
    whole = _picture(shown)
    page.get_by_label("Count this episode only").check()
    shown.wait(lambda: _picture(shown) not in {bare, whole}, "what actions are worth, of this episode")
    page.get_by_test_id("ltw-layer-heat").check()
    page.keyboard.press("Escape")
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        shown.settle()
        page.screenshot(path=SHOTS / f"report-layers-{scheme}.png")
    page.get_by_test_id("ltw-compare").click()
    page.get_by_test_id("ltw-compare-episode").fill("0")
    page.get_by_test_id("ltw-compare-show").click()
    shown.wait(page.get_by_test_id("ltw-grid-other").is_visible, "the other episode")
    shown.settle()
    page.screenshot(path=SHOTS / "report-replay.png")
    assert (refused, shown.console) == ([], [])


def _picture(shown: NotebookPage) -> str:
    shown.settle()
    return str(shown.page.get_by_test_id("ltw-grid").evaluate("(e) => e.toDataURL()"))


def test_a_report_says_what_can_be_said_when_scripts_are_off_or_its_data_is_broken(
    lake: ltw.Run, tmp_path: pathlib.Path, open_file: Callable[..., tuple[NotebookPage, list[str]]]
) -> None:
    report = lake.to_html(tmp_path / "report.html")
    shown, _ = open_file(report.path, java_script_enabled=False)
    # Nothing can be asked of a page without scripts but how it looks.
    text = shown.page.locator("#ltw-static").inner_text()
    assert f"{len(lake.steps):,}" in text
    assert "220" in text
    whole = report.path.read_text(encoding="utf-8")
    cut = tmp_path / "cut.html"
    cut.write_text(whole.replace('id="ltw-episodes"', 'id="elsewhere"'), encoding="utf-8")
    shown, _ = open_file(cut)
    alert = shown.page.get_by_role("alert")
    shown.wait(alert.count, "the page to say what is wrong")
    assert "the file has no block episodes: it is not whole" in alert.inner_text()
    assert shown.page.locator("#ltw-static").is_visible()


def test_a_report_without_script_is_a_page(
    lake: ltw.Run, tmp_path: pathlib.Path, open_file: Callable[..., tuple[NotebookPage, list[str]]]
) -> None:
    report = lake.to_html(tmp_path / "static.html", static=True)
    shown, refused = open_file(report.path)
    shown.page.screenshot(path=SHOTS / "report-static.png")
    assert f"{len(lake.steps):,}" in shown.page.locator("body").inner_text()
    assert shown.page.locator("svg").count() == 2
    assert (refused, shown.console) == ([], [])
