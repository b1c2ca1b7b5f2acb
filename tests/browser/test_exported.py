"""A notebook with a run as others see it: nbconvert's HTML with and without widget state, and PDF."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import playwright
import pypdf
import pytest
from nbconvert import HTMLExporter

import live_telemetry_widget as ltw
from tests.browser.conftest import SHOTS
from tests.conftest import demo_command, proxy_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

VIEW = "application/vnd.jupyter.widget-view+json"
CELLS = """
import live_telemetry_widget as ltw
run = ltw.open({folder!r}).run("lake")
run
#
run.view(agent="q_agent", embed="full")
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, ltw.Run]:
    """Return a notebook that was executed over a run of 400 episodes, and the run."""
    folder = tmp_path_factory.mktemp("exported")
    with ltw.serve(folder / "data") as server:
        worker = demo_command("--episodes", "400", "--no-slippery")
        subprocess.run(proxy_command(server.address, *worker, run_id="lake", name="FrozenLake"), check=True)
    cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS.format(folder=str(folder / "data")).split("#\n")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(notebook, folder / "n.ipynb")
    convert(folder / "n.ipynb", "notebook", "--execute", "--inplace")
    return folder / "n.ipynb", ltw.open(folder / "data").run("lake")


def convert(path: pathlib.Path, to: str, *options: str, **env: str) -> None:
    """Run nbconvert."""
    command = [sys.executable, "-m", "nbconvert", str(path), "--to", to, "--log-level=ERROR", *options]
    subprocess.run(command, check=True, env={**os.environ, **env})


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a page without network."""
    context = browser.new_context(viewport={"width": 1100, "height": 1500}, offline=True)
    yield context.new_page()
    context.close()


def without_state(path: pathlib.Path) -> Any:
    """Return the notebook as front ends save it that keep no state of widgets."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets")
    return notebook


def test_a_notebook_grows_by_less_than_a_megabyte(exported: tuple[pathlib.Path, ltw.Run]) -> None:
    notebook = nbformat.read(exported[0], as_version=4)
    widgets = notebook.metadata["widgets"]
    assert set(widgets) == {"application/vnd.jupyter.widget-state+json"}
    plain, full = (len(json.dumps(cell["outputs"])) for cell in notebook.cells)
    assert all(VIEW in cell["outputs"][0]["data"] for cell in notebook.cells)
    # Each view has a model, with a copy of the script.
    state = len(json.dumps(widgets)) / 2
    assert plain + state < 500_000
    assert full + state < 1_000_000


def test_html_without_state_shows_the_totals_and_the_report(
    exported: tuple[pathlib.Path, ltw.Run], tmp_path: pathlib.Path, page: Page
) -> None:
    path, run = exported
    html, _ = HTMLExporter().from_notebook_node(without_state(path))
    (tmp_path / "n.html").write_text(html, encoding="utf-8")
    page.goto((tmp_path / "n.html").as_uri())
    first = page.locator(".ltw-fallback").first
    assert first.is_visible()
    for total in (len(run.episodes), len(run.steps)):
        assert f"{total:,}" in first.inner_text()
    assert first.locator("svg polygon").count() == 1
    # The second cell kept the interactive report, in a frame from which nothing reaches the notebook.
    count = page.frame_locator("iframe").get_by_test_id("ltw-episodes-count")
    count.wait_for(timeout=30_000)
    assert count.inner_text() == f"{len(run.episodes):,}"
    page.frame_locator("iframe").get_by_test_id("ltw-steps-table").locator("tbody tr").first.wait_for()
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "nbconvert.png", full_page=True)


def test_html_with_state_holds_the_view(exported: tuple[pathlib.Path, ltw.Run]) -> None:
    notebook = nbformat.read(exported[0], as_version=4)
    html, _ = HTMLExporter().from_notebook_node(notebook)
    views = [cell["outputs"][0]["data"][VIEW]["model_id"] for cell in notebook.cells]
    kept = set(notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"])
    assert len(set(views) & kept) == 2
    assert all(html.count(view) >= 2 for view in views), "the view, and the model's state"


def test_pdf_has_the_totals(exported: tuple[pathlib.Path, ltw.Run], tmp_path: pathlib.Path) -> None:
    path, run = exported
    nbformat.write(without_state(path), tmp_path / "n.ipynb")
    # nbconvert takes the browser that Playwright has loaded; here it is the system's.
    listed = json.loads((pathlib.Path(playwright.__file__).parent / "driver" / "package" / "browsers.json").read_text())
    revision = next(b["revision"] for b in listed["browsers"] if b["name"] == "chromium-headless-shell")
    place = tmp_path / f"chromium_headless_shell-{revision}" / "chrome-headless-shell-linux64" / "chrome-headless-shell"
    chromium = next(
        found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))
    )
    place.parent.mkdir(parents=True)
    place.symlink_to(chromium)
    convert(tmp_path / "n.ipynb", "webpdf", "--disable-chromium-sandbox", PLAYWRIGHT_BROWSERS_PATH=str(tmp_path))
    text = "".join(sheet.extract_text() for sheet in pypdf.PdfReader(tmp_path / "n.pdf").pages)
    for total in (len(run.episodes), len(run.steps)):
        assert f"{total:,}" in text


@pytest.mark.skipif(
    not (shutil.which("xelatex") and shutil.which("pandoc")), reason="LaTeX is large: `make test-latex` installs it"
)
def test_pdf_by_way_of_latex_has_the_totals(exported: tuple[pathlib.Path, ltw.Run], tmp_path: pathlib.Path) -> None:
    path, run = exported
    notebook = without_state(path)
    del notebook.cells[1:]
    nbformat.write(notebook, tmp_path / "n.ipynb")
    convert(tmp_path / "n.ipynb", "pdf")
    text = "".join(sheet.extract_text() for sheet in pypdf.PdfReader(tmp_path / "n.pdf").pages)
    for name, total in (("Episodes", len(run.episodes)), ("Steps", len(run.steps))):
        assert f"{name}: {total:,}" in text
