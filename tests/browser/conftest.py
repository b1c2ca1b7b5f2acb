"""A real JupyterLab under a real Chromium, with a notebook of the test's making."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Without the flags on networking, Chromium asks for hosts that are none of its business here.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Screenshots are put here, to be looked at.
SHOTS = pathlib.Path(os.environ.get("LTW_SHOTS", pathlib.Path(__file__).parents[2] / "demo-out" / "shots"))


# Playwright keeps an event loop in this thread, in which no other test can have one: so for this package only.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Return Debian's Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    assert path, "no Chromium; scripts/need-chromium installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


class Lab:
    """A JupyterLab server."""

    def __init__(self, url: str, token: str, root: pathlib.Path) -> None:
        self.url = url
        self.token = token
        self.root = root


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start a JupyterLab that knows nothing of this machine's settings, on a free port."""
    home = tmp_path_factory.mktemp("lab")
    root = home / "work"
    root.mkdir()
    places = {
        name: str(home / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")
    }
    places |= {name: str(home / name.lower()) for name in ("JUPYTERLAB_WORKSPACES_DIR", "JUPYTERLAB_SETTINGS_DIR")}
    places |= {"IPYTHONDIR": str(home / "ipython")}
    settings = home / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    # Voilà, which has a test of its own, puts a button into JupyterLab and a server beside it.
    pages = pathlib.Path(places["JUPYTER_CONFIG_DIR"]) / "labconfig"
    pages.mkdir(parents=True)
    (pages / "page_config.json").write_text('{"disabledExtensions": {"@voila-dashboards/jupyterlab-preview": true}}')
    token = "of-this-test"  # noqa: S105 - a server of this test alone
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--ServerApp.port=0"]
    command += [f"--IdentityProvider.token={token}", "--ServerApp.allow_root=True", f"--ServerApp.root_dir={root}"]
    # Notebook 7 is an extension of the same server; Voila is not to be one here.
    command += ["--ServerApp.jpserver_extensions={'voila.server_extension': False}"]
    command += ["--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
    command += ["--LabApp.extension_manager=readonly"]
    log = (home / "lab.log").open("wb")
    process = subprocess.Popen(command, env={**os.environ, **places}, stdout=log, stderr=log, start_new_session=True)
    try:
        yield Lab(_address(pathlib.Path(places["JUPYTER_RUNTIME_DIR"]), process, home / "lab.log"), token, root)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _address(runtime: pathlib.Path, process: subprocess.Popen[bytes], log: pathlib.Path) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3_000:]
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError):  # half written
                return str(json.loads(path.read_text())["url"])
        time.sleep(0.05)
    pytest.fail(f"JupyterLab did not start: {log.read_text()[-3_000:]}")


class NotebookPage:
    """One notebook in one tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.console: list[str] = []
        #: What our own bundle threw; front ends throw things, too.
        self.ours: list[str] = []
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", self._threw)

    def _threw(self, error: Error) -> None:
        self.console.append(f"pageerror: {error}")
        # The front end loads our bundle from a blob.
        if "blob:" in (error.stack or ""):
            self.ours.append(error.stack or "")

    def command(self, name: str, **arguments: Any) -> None:
        """Execute a command of JupyterLab."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args); }", [name, arguments])

    def run_all(self) -> None:
        """Run every cell."""
        self.command("notebook:run-all-cells")

    def is_busy(self, cell: int) -> bool:
        """Whether a cell is being executed, or waits for it."""
        prompt = self.page.locator(".jp-CodeCell").nth(cell).locator(".jp-InputPrompt")
        return "*" in prompt.inner_text()

    def theme(self, name: str) -> None:
        """Change the theme, and wait until the page has it."""
        self.command("apputils:change-theme", theme=name)
        light = "false" if "Dark" in name else "true"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")
        # JupyterLab takes its splash screen away twice, which is an error in its console, when the next change comes too soon.
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")

    def number(self, testid: str) -> int:
        """Return the number that stands in an element."""
        text = self.page.get_by_test_id(testid).first.inner_text()
        digits = "".join(c for c in text.split("/")[0].split("of")[0] if c.isdigit())
        return int(digits or 0)

    def table(self, testid: str) -> list[dict[str, str]]:
        """Return the rows that a person sees in a table, by column label."""
        return self.page.get_by_test_id(testid).first.evaluate(
            """(root) => {
                const table = root.querySelector("table");
                if (!table) return [];
                const heads = [...table.querySelectorAll("thead tr:last-child th")].map((th) => th.innerText.trim());
                const box = root.getBoundingClientRect();
                return [...table.querySelectorAll("tbody tr:not(.ltw-stale)")]
                    .filter((tr) => tr.getBoundingClientRect().top < box.bottom)
                    .map((tr) => Object.fromEntries([...tr.children].map((td, i) => [heads[i], td.innerText.trim()])));
            }"""
        )

    def wait(self, condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                self.shot("failed")
                pytest.fail(f"not within {timeout:g} s: {what}\n" + "\n".join(self.console[-20:]))
            self.page.wait_for_timeout(20)

    def settle(self) -> None:
        """Wait until the view of a run that has ended looks the same twice, some frames apart."""
        root = self.page.get_by_test_id("ltw-root").first
        seen = [b""]

        def same() -> bool:
            self.page.wait_for_timeout(400)  # longer than the page takes to follow a change of theme
            seen.append(root.screenshot())
            return seen[-1] == seen[-2]

        self.wait(same, "the view to stand still")

    def shot(self, name: str, of: Locator | None = None) -> pathlib.Path:
        """Take a screenshot of the view, or of the page when there is none."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}.png"
        root = self.page.get_by_test_id("ltw-root")
        (of or (root.first if root.count() else self.page)).screenshot(path=str(path))
        return path


@pytest.fixture
def open_notebook(browser: Browser, lab: Lab) -> Iterator[Callable[..., NotebookPage]]:
    """Return a function that opens a notebook of some cells in JupyterLab; without cells one that is there, or elsewhere."""
    contexts = []
    numbers = iter(range(1_000))

    def open_(
        *cells: str,
        name: str = "",
        front: str = "lab/tree",
        prepare: Callable[[Page], object] = lambda _: None,
        **options: Any,
    ) -> NotebookPage:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        notebook.metadata["language_info"] = {"name": "python"}
        name = name or f"test-{os.getpid()}-{id(notebook)}-{next(numbers)}.ipynb"
        if cells:
            nbformat.write(notebook, lab.root / name)
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 1000}, "color_scheme": "light", **options}
        )
        contexts.append(context)
        page = context.new_page()
        prepare(page)
        shown = NotebookPage(page)
        page.goto(f"{lab.url}{front}/{name}?token={lab.token}&reset")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        # The indicator says "idle" before the notebook has its kernel, and running a cell then opens a dialog.
        page.evaluate(
            """async () => {
                const context = window.jupyterapp.shell.currentWidget.sessionContext;
                await context.ready;
                await context.session.kernel.info;
            }"""
        )
        return shown

    yield open_
    for context in contexts:
        for page in context.pages:
            with contextlib.suppress(Exception):
                page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
        context.close()
