"""Wherever people are: Notebook 7 beside JupyterLab on one kernel, marimo, and pages whose policy forbids whatever is not needed."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import live_telemetry_widget as ltw
from tests.browser.conftest import SHOTS, NotebookPage
from tests.conftest import demo_command, proxy_command, wait_for

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

SHOW = "import live_telemetry_widget as ltw\nclient = ltw.connect({address!r})\nrun = client.run('lake')\nrun"
SETTLED = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestKernelInfo()"
#: Errors of Notebook 7 about itself.
THEIRS = {
    "pageerror: Cannot read properties of undefined (reading 'schema')",
    "pageerror: Command 'filebrowser:open-path' not registered.",
}
MARIMO = """
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import live_telemetry_widget as ltw
    run = ltw.connect({address!r}).run("lake")
    view = mo.ui.anywidget(run.view())
    view
    return mo, run, view


@app.cell
def _(run):
    run


@app.cell
def _(mo, view):
    mo.md(f"chosen: {{(view.value['selection']['episode'] or {{}}).get('episode')}}")
"""


def live(daemon: ltw.Server) -> list[str]:
    return proxy_command(
        daemon.address, *demo_command("--episodes", "5000", "--delay", "0.01"), run_id="lake", name="FrozenLake"
    )


def count(page: Page, view: int = 0) -> int:
    """Return how many steps a view counts."""
    shown = page.get_by_test_id("ltw-steps-count")
    if shown.count() <= view:
        return 0
    return int("".join(c for c in shown.nth(view).inner_text() if c.isdigit()) or 0)


def grows(notebook: NotebookPage, view: int = 0) -> None:
    """Wait until a view counts more steps than now."""
    before = count(notebook.page, view)
    notebook.wait(lambda: count(notebook.page, view) > before, "more steps")


@pytest.mark.timeout(300)
def test_notebook_and_lab_on_one_kernel_are_each_right(
    daemon: ltw.Server,
    open_notebook: Callable[..., NotebookPage],
    processes: Callable[..., subprocess.Popen[bytes]],
) -> None:
    processes(live(daemon))
    lab = open_notebook(SHOW.format(address=daemon.address), name="shared.ipynb")
    lab.run_all()
    lab.wait(lambda: len(lab.table("ltw-steps-table")) > 3, "rows in JupyterLab", 60)
    lab.command("docmanager:save")
    lab.wait(lambda: lab.page.locator(".jp-mod-dirty").count() == 0, "the notebook to be saved")
    notebook = open_notebook(name="shared.ipynb", front="notebooks")
    page = notebook.page
    notebook.wait(lambda: len(notebook.table("ltw-steps-table")) > 3, "rows in Notebook 7", 60)
    for shown in (lab, notebook):
        grows(shown)
    # One scrolls up, the other goes on; what one chooses is chosen, as a trait of Python's, in both.
    page.get_by_test_id("ltw-steps-table").locator("regular-table").evaluate("(e) => { e.scrollTop = 0; }")
    notebook.wait(lambda: page.get_by_test_id("ltw-follow-steps").inner_text() == "Jump to newest", "it to stand")
    assert lab.page.get_by_test_id("ltw-follow-steps").inner_text() == "Following newest"
    page.get_by_test_id("ltw-go").fill("3")
    page.get_by_test_id("ltw-go").press("Enter")
    for shown in (notebook, lab):
        where = shown.page.get_by_test_id("ltw-where")
        shown.wait(lambda where=where: where.inner_text().startswith("episode 3, step 0"), "the replay")
    for shown in (notebook, lab):
        # Each has told the kernel where it stands now. What is told later wins, and the next is to be told later.
        shown.page.evaluate(SETTLED)
    page.get_by_test_id("ltw-live").click()
    lab.wait(lambda: lab.page.get_by_test_id("ltw-live").get_attribute("aria-pressed") == "true", "both to be live")
    notebook.theme("JupyterLab Dark")
    notebook.shot("notebook7-dark", page.locator(".jp-CodeCell").first)
    # One goes away; the other is reloaded, and whole again.
    lab.page.goto("about:blank")
    page.reload()
    notebook.wait(lambda: len(notebook.table("ltw-steps-table")) > 3, "rows after the reload", 60)
    grows(notebook)
    assert page.get_by_test_id("ltw-root").count() == 1
    for shown in (lab, notebook):
        assert not {line for line in shown.console if "pageerror" in line} - THEIRS, shown.console


@pytest.mark.timeout(300)
def test_marimo_shows_a_run_and_hears_what_is_chosen(
    daemon: ltw.Server,
    processes: Callable[..., subprocess.Popen[bytes]],
    browser: Browser,
    tmp_path: pathlib.Path,
) -> None:
    processes(live(daemon))
    (tmp_path / "app.py").write_text(MARIMO.format(address=daemon.address))
    # It knows no port 0, and takes the next one that is free.
    command = [sys.executable, "-m", "marimo", "run", "app.py", "--headless", "--no-token", "--host", "127.0.0.1"]
    places = {name: str(tmp_path / "home") for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
    with (tmp_path / "log").open("wb") as log:
        processes(command, cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, **places})
    said = functools.partial((tmp_path / "log").read_text, errors="replace")
    wait_for(lambda: re.search(r"URL: \S+:\d+\s", said()), "the address of marimo", 60)
    port = re.findall(r"URL: \S+:([0-9]+)", said())[0]
    address = f"http://127.0.0.1:{port}"
    context = browser.new_context(viewport={"width": 1280, "height": 1400})
    try:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        shown = NotebookPage(page)
        page.goto(address)
        shown.wait(lambda: page.get_by_test_id("ltw-root").count() == 2, "the run, as a widget and by itself", 60)
        for view in (0, 1):
            grows(shown, view)
        shown.wait(lambda: len(shown.table("ltw-steps-table")) > 3, "rows")
        # What is chosen is Python's too.
        page.get_by_test_id("ltw-go").first.fill("2")
        page.get_by_test_id("ltw-go").first.press("Enter")
        shown.wait(lambda: "chosen: 2" in page.locator("body").inner_text(), "marimo to hear of it")
        shown.wait(
            lambda: page.get_by_test_id("ltw-where").first.inner_text().startswith("episode 2, step 0"), "replay"
        )
        page.get_by_test_id("ltw-live").first.click()
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / "marimo.png")
        page.reload()
        shown.wait(lambda: page.get_by_test_id("ltw-root").count() == 2, "both after the reload", 60)
        grows(shown)
        assert not [line for line in shown.console if "error" in line.split(":")[0]], shown.console
        assert not [url for url in asked if url.startswith("http") and "127.0.0.1" not in url]
    finally:
        context.close()


# -- policies ----------------------------------------------------------------------------------------------------------


class Strict(http.server.SimpleHTTPRequestHandler):
    """Serves files with a policy that is given with their folder."""

    policy = ""

    def end_headers(self) -> None:
        """Send the policy with every file."""
        self.send_header("Content-Security-Policy", self.policy)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> Iterator[Callable[[str], str]]:
    """Return a function that serves the test's folder under a policy, at an address of its own."""
    servers: list[tuple[http.server.ThreadingHTTPServer, threading.Thread]] = []

    def start(policy: str) -> str:
        handler = type("Handler", (Strict,), {"policy": policy})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(tmp_path)))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


STRICT = "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
GLOBALS = "() => Object.keys(globalThis).filter((name) => !(name in globalThis.before))"


def test_nothing_inline_no_eval_and_no_global_is_needed(
    daemon: ltw.Server, browser: Browser, tmp_path: pathlib.Path, serve: Callable[[str], str]
) -> None:
    worker = demo_command("--episodes", "120", "--no-slippery", "--seed", "0")
    subprocess.run(proxy_command(daemon.address, *worker, run_id="lake", name="FrozenLake"), check=True)
    with ltw.open(daemon.data_dir) as recording:
        whole = recording.run("lake").to_html(tmp_path / "report.html").path.read_text(encoding="utf-8")
        static = recording.run("lake").to_html(tmp_path / "static.html", static=True).path.read_text(encoding="utf-8")
    # The same with its script and style sheet beside it, and without what is for those who run no script, which has its styles in place.
    script = re.findall(r'<script type="module">(.*?)</script>', whole, re.DOTALL)[-1]
    style = re.findall(r"<style>(.*?)</style>", whole, re.DOTALL)[0]
    (tmp_path / "report.js").write_text(script, encoding="utf-8")
    (tmp_path / "report.css").write_text(style, encoding="utf-8")
    (tmp_path / "before.js").write_text(
        "globalThis.before = Object.fromEntries(Object.keys(globalThis).map((n) => [n, 1]));"
    )
    page_text = whole.replace(
        f'<script type="module">{script}</script>', '<script type="module" src="report.js"></script>'
    )
    page_text = page_text.replace(
        f"<style>{style}</style>", '<script src="before.js"></script><link rel="stylesheet" href="report.css">'
    )
    page_text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_text)
    page_text = re.sub(
        r'(<div id="ltw-static">).*?</div></main>\n<script', r"\1</div></main>\n<script", page_text, flags=re.DOTALL
    )
    (tmp_path / "strict.html").write_text(page_text, encoding="utf-8")
    # A file that is all in one has a policy of its own, which a server may say once more.
    own, bare = (
        re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[0] for text in (whole, static)
    )
    assert "unsafe-inline" not in (own + bare).replace("style-src-attr 'unsafe-inline'", "")
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    try:
        for policy, name in ((STRICT, "strict.html"), (own, "report.html"), (bare, "static.html")):
            page = context.new_page()
            shown = NotebookPage(page)
            page.goto(f"{serve(policy)}/{name}")
            if name != "static.html":
                shown.wait(lambda shown=shown: shown.table("ltw-steps-table"), f"rows in {name}")
                # Where it stands and how wide a column is are set by script, which no policy on styles forbids.
                page.get_by_test_id("ltw-before").click()
                shown.wait(lambda page=page: "step" in page.get_by_test_id("ltw-where").inner_text(), "the replay")
                page.get_by_test_id("ltw-filter").fill("reward > 0")
                note = page.get_by_test_id("ltw-filter-note")
                shown.wait(lambda note=note: "steps" in note.inner_text(), "the filter")
            if name == "strict.html":
                assert page.evaluate(GLOBALS) == ["before"]
            assert page.locator("#ltw-static, .ltw-fallback").count()
            errors = [line for line in shown.console if "favicon" not in line]
            assert errors == [], f"{name}: {errors}"
    finally:
        context.close()
