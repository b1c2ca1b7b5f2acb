"""A notebook with the view as an application: a real Voilà server, a real browser."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import nbformat
import psutil
import pytest

import live_telemetry_widget as ltw
from tests.browser.conftest import NotebookPage
from tests.conftest import demo_command, proxy_command

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from playwright.sync_api import Browser

CELL = """
import live_telemetry_widget as ltw
run = ltw.connect({address!r}).run("lake")
view = run.view()
view
"""


def started(process: subprocess.Popen[bytes], log: pathlib.Path) -> int:
    """Return the port that a server has found for itself."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3_000:]
        for connection in psutil.Process(process.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
        time.sleep(0.05)
    pytest.fail(f"Voilà did not start: {log.read_text()[-3_000:]}")


@pytest.fixture
def application(tmp_path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Serve a notebook with the view of a run; yield its address, and the daemon that has the run."""
    with ltw.serve(tmp_path / "data") as server:
        worker = demo_command("--episodes", "40", "--no-slippery")
        subprocess.run(proxy_command(server.address, *worker, run_id="lake", name="FrozenLake"), check=True)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.format(address=server.address))])
        notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        nbformat.write(notebook, tmp_path / "n.ipynb")
        places = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "RUNTIME", "DATA")}
        places |= {"IPYTHONDIR": str(tmp_path / "ipython")}
        command = [sys.executable, "-m", "voila", str(tmp_path / "n.ipynb"), "--no-browser", "--port=0"]
        log = tmp_path / "voila.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--Voila.ip=127.0.0.1"], env={**os.environ, **places}, stdout=out, stderr=out
            )
        try:
            yield f"http://127.0.0.1:{started(process, log)}/", server.address
        finally:
            process.terminate()  # its kernels end with it
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_the_view_is_an_application_in_voila(application: tuple[str, str], browser: Browser) -> None:
    address, daemon = application
    with ltw.connect(daemon) as client:
        episodes = client.run("lake").episodes
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    page = context.new_page()
    # What Voilà itself would load from elsewhere is not there, for anybody.
    page.route(lambda url: not url.startswith(address), lambda route: route.abort())
    shown = NotebookPage(page)
    page.goto(address, timeout=90_000)
    page.get_by_test_id("ltw-root").first.wait_for(timeout=90_000)
    shown.wait(lambda: shown.number("ltw-episodes-count") == len(episodes) == 40, "all episodes", 60)
    # The kernel is asked, and answers, here as elsewhere.
    page.get_by_role("tab", name="Episodes").first.click()
    shown.wait(lambda: shown.table("ltw-episodes-table"), "rows of episodes")
    chosen = int(shown.table("ltw-episodes-table")[2]["Episode"])
    rows = page.get_by_test_id("ltw-episodes-table").first.locator("tbody tr:not(.ltw-stale)")
    rows.nth(2).locator("td").nth(2).click()
    steps = int(episodes.loc[episodes["episode"] == chosen, "steps"].iloc[0])
    where = page.get_by_test_id("ltw-where")
    shown.wait(lambda: where.inner_text().startswith(f"episode {chosen}, step 0 of {steps}"), "the episode")
    errors = [
        line
        for line in shown.console
        # Voilà tells of what it could not load, and of front ends' extensions that do not fit it.
        if line.startswith(("error", "pageerror")) and "Failed to load" not in line and "/voila/static/" not in line
    ]
    assert not errors, errors
    shown.shot("voila")
    context.close()
