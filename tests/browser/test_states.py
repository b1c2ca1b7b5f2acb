"""Every state that a view can be in, reached with real parts, as a person is told of it: docs/states.md.

``LTW_STATES=docs/images/states`` puts the pictures of that page there, light and dark.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from PIL import Image

import live_telemetry_widget as ltw
from tests.conftest import SAMPLE, proxy_command, replay_command
from tests.support.unruly import Traits, UnrulyDaemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Locator, WebSocketRoute

    from tests.browser.conftest import NotebookPage

#: Where the pictures of the documentation go; without it there are none.
PICTURES = os.environ.get("LTW_STATES", "")
MOST_BYTES = 40_000

CONNECT = "import live_telemetry_widget as ltw\nclient = ltw.connect({address!r})\nrun = client.run('seen')"
#: Prints a run slowly until a file is there, and then all of it.
SLOW = """
import gzip, pathlib, sys, time
gate = pathlib.Path(sys.argv[2])
for number, line in enumerate(gzip.open(sys.argv[1]).read().splitlines(True)):
    while number > 500 and not gate.exists():
        time.sleep(0.02)
    if number > 80 and not gate.exists():
        time.sleep(0.05)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
"""
#: Prints the beginning of a run, and fails.
FAILING = """
import gzip, sys
sys.stdout.buffer.writelines(gzip.open(sys.argv[1]).read().splitlines(True)[:60])
sys.exit(3)
"""


class View:
    """The view in the second cell of a notebook, whatever run it shows."""

    def __init__(self, notebook: NotebookPage) -> None:
        self.notebook = notebook
        self.page = notebook.page

    def part(self, name: str) -> Locator:
        """Return an element of the view."""
        return self.page.get_by_test_id(f"ltw-{name}").first

    def text(self, name: str) -> str:
        """Return what is read in an element; nothing while it is not there."""
        part = self.part(name)
        return part.inner_text() if part.count() else ""

    def reaches(self, state: str, what: str = "", timeout: float = 60) -> None:
        """Wait until the view says that it is in a state."""
        self.notebook.wait(lambda: self.text("state") == state, what or f"the state {state!r}", timeout)

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of the step table that are seen, when all of them are there."""
        found: list[dict[str, str]] = []

        def whole() -> bool:
            found[:] = self.notebook.table("ltw-steps-table")
            return bool(found) and all(row.get("Episode", "").replace(",", "").isdigit() for row in found)

        self.notebook.wait(whole, "whole rows")
        return found

    def show(self, code: str) -> None:
        """Have another run in the view."""
        self.execute(code)
        self.run_cell(1)
        self.notebook.wait(lambda: self.text("state") != "", "the view")

    def execute(self, code: str) -> None:
        """Execute code in the kernel, in no cell."""
        status = self.page.evaluate(
            "async (code) => (await jupyterapp.shell.currentWidget.sessionContext.session.kernel"
            ".requestExecute({ code }).done).content.status",
            code,
        )
        assert status == "ok", code

    def run_cell(self, number: int) -> None:
        """Execute a cell."""
        self.page.evaluate("(n) => { jupyterapp.shell.currentWidget.content.activeCellIndex = n; }", number)
        self.notebook.command("notebook:run-cell")
        self.notebook.wait(lambda: not self.notebook.is_busy(number), f"cell {number} to end", 60)

    def picture(self, state: str) -> None:
        """Take the pictures of the documentation."""
        if not PICTURES:
            return
        pathlib.Path(PICTURES).mkdir(parents=True, exist_ok=True)
        for name in ("light", "dark"):
            self.notebook.theme(f"JupyterLab {name.title()}")
            self.page.wait_for_timeout(500)  # the curve is drawn anew a little after a change of theme
            taken = Image.open(io.BytesIO(self.part("root").screenshot(animations="disabled")))
            path = pathlib.Path(PICTURES) / f"{state}-{name}.png"
            taken.convert("RGB").quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)
            assert path.stat().st_size <= MOST_BYTES, path
        self.notebook.theme("JupyterLab Light")


@contextlib.contextmanager
def forgetful() -> Iterator[UnrulyDaemon]:
    """Run a daemon that remembers the last forty steps only; Playwright's loop is in this thread, so in another."""
    daemon, up = UnrulyDaemon(), threading.Event()
    ends: list[Callable[[], None]] = []

    async def main() -> None:
        loop, down = asyncio.get_running_loop(), asyncio.Event()
        ends.append(lambda: loop.call_soon_threadsafe(down.set))
        async with daemon:
            run = daemon.add_run("forgotten", Traits(memory=40, episode_memory=12))
            run.set_status("running")
            up.set()
            await down.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="forgetful daemon")
    thread.start()
    try:
        assert up.wait(30), "the daemon did not start"
        yield daemon
    finally:
        for end in ends:
            end()
        thread.join()


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_every_state_of_a_run_is_reached_and_told(  # noqa: PLR0915 - one story, from the first state to the last
    tmp_path: pathlib.Path,
    open_notebook: Callable[..., NotebookPage],
    processes: Callable[..., subprocess.Popen[bytes]],
) -> None:
    gate = tmp_path / "gate"
    with ltw.serve(tmp_path / "data") as first:
        address = first.address
        notebook = open_notebook(CONNECT.format(address=address), "run")
        view = View(notebook)
        notebook.run_all()

        # Waiting: every part says for what.
        view.reaches("Waiting for the first step")
        notebook.wait(lambda: view.text("connection") == "live", "the link")
        assert view.part("state").get_attribute("role") == "status"
        whole = view.text("root")
        for words in ("Waiting for the first step…", "Waiting for the first picture…"):
            assert words in whole
        assert not view.part("progress").is_visible(), "a total that nobody said"
        # A name that is misspelt looks like this, too.
        notebook.wait(lambda: "knows no run" in view.text("notice"), "that the daemon does not know it")
        view.picture("waiting")

        # Live, and how far it is: the worker says how many episodes there will be.
        proxy = processes(proxy_command(address, *python(SLOW, SAMPLE, gate), run_id="seen", name="FrozenLake"))
        view.reaches("Running")
        bar = view.part("progress")
        notebook.wait(bar.is_visible, "the bar")
        assert bar.get_attribute("role") == "progressbar"
        assert bar.get_attribute("aria-valuemax") == "150"
        notebook.wait(lambda: int(bar.get_attribute("aria-valuenow") or 0) > 2, "episodes to end")
        assert view.text("episodes-count").endswith(" of 150")
        view.picture("live")

        view.part("pause").click()
        view.reaches("Paused")
        assert view.part("resume").is_visible()
        view.picture("paused")
        view.part("resume").click()
        view.reaches("Running")

        # The daemon is killed: the page counts down to the next attempt, and says why.
        os.kill(first.pid, signal.SIGKILL)
        view.reaches("Reconnecting")
        count = re.compile(r"attempt \d+, next in \d+ s")
        notebook.wait(lambda: count.fullmatch(view.text("connection")), "the countdown")
        assert address in view.text("why")
        assert not view.part("rate").is_visible(), "nobody knows how fast it is now"
        steps = notebook.number("ltw-steps-count")
        view.picture("reconnecting")
    with ltw.serve(tmp_path / "data", address):
        view.reaches("Running", "the link to be back")
        gate.touch()
        view.reaches("Completed")
        notebook.wait(lambda: notebook.number("ltw-steps-count") == 750 > steps, "all steps")
        assert proxy.wait(30) == 0
        notebook.wait(lambda: bar.get_attribute("aria-valuenow") == "150", "the last episode")
        notebook.wait(lambda: view.text("connection") == "connected", "an ended run not to be live")
        assert (view.text("missing"), view.text("problems")) == ("", "no problems")
        view.picture("finished")

        # A worker that fails, and one that does nothing.
        assert (
            subprocess.run(proxy_command(address, *python(FAILING, SAMPLE), run_id="bad"), check=False).returncode == 3
        )
        view.show("run = client.run('bad')")
        view.reaches("Failed")
        assert view.text("notice") == "Failed: the worker exited with code 3"
        assert view.part("notice").get_attribute("role") == "status"
        view.picture("failed")
        subprocess.run(proxy_command(address, *python("pass"), run_id="none"), check=True)
        view.show("run = client.run('none')")
        view.reaches("Completed")
        notebook.wait(lambda: "without a step" in view.text("notice"), "the words")
        assert "The run completed without a step." in view.text("root")
        assert "The run completed without a picture." in view.text("root")
        assert "No episode ended in this run." in view.text("root")
        view.picture("empty")
    assert not notebook.ours, notebook.ours


def test_what_is_missing_is_told_and_a_page_without_a_kernel_is_static_until_there_is_one(  # noqa: PLR0915 - one story
    tmp_path: pathlib.Path,
    open_notebook: Callable[..., NotebookPage],
) -> None:
    cut = threading.Event()
    sockets: list[WebSocketRoute] = []

    def connect(socket: WebSocketRoute) -> None:
        if cut.is_set():
            socket.close()
        else:
            socket.connect_to_server()
            sockets.append(socket)

    with forgetful() as daemon:
        # Steps that came before anybody listened are gone; the records of their episodes are not.
        command = proxy_command(daemon.address, *replay_command(SAMPLE), run_id="forgotten")
        subprocess.run(command, check=True, capture_output=True)
        cells = CONNECT.format(address=daemon.address).replace("seen", "forgotten")
        notebook = open_notebook(
            cells, "run", prepare=lambda page: page.route_web_socket(re.compile("/api/kernels/"), connect)
        )
        view = View(notebook)
        page = notebook.page
        notebook.run_all()
        view.reaches("Running")
        notebook.wait(lambda: re.fullmatch(r"\d+ steps missing", view.text("missing")), "what is missing")
        page.get_by_role("tab", name="Episodes").first.click()
        notebook.wait(
            lambda: any("incomplete" in row.get("Outcome", "") for row in notebook.table("ltw-episodes-table")),
            "an episode that is marked",
        )
        view.part("problems").click()
        notebook.wait(lambda: "gap" in page.locator(".ltw-problem-list").first.inner_text(), "the list")
        page.keyboard.press("Escape")
        page.get_by_role("tab", name="Steps").first.click()
        view.picture("incomplete")

        # The connection to the kernel goes, and comes back.
        cut.set()
        for socket in sockets:
            socket.close()
        view.reaches("Disconnected")
        notebook.wait(lambda: view.text("connection") == "kernel out of reach", "the reason")
        view.picture("unreachable")
        cut.clear()
        view.reaches("Running", "the connection to be back")
        notebook.wait(lambda: not view.part("notice").is_visible(), "the notice to go")

        # The kernel dies, and Jupyter starts another. What the page holds stays, and it says so.
        rows = view.rows()
        view.execute(f"import os, pathlib; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))")
        pid = int((tmp_path / "pid").read_text())
        if PICTURES:  # half a minute of silence is shown, and tested in js/tests/kernel-watch.test.ts
            os.kill(pid, signal.SIGSTOP)
            view.reaches("No word")
            view.picture("silent")
            os.kill(pid, signal.SIGCONT)
            view.reaches("Running")
        os.kill(pid, signal.SIGKILL)
        view.reaches("Disconnected")
        page.get_by_role("button", name="Ok", exact=True).click(timeout=60_000)  # JupyterLab's own dialog
        notebook.wait(lambda: view.text("connection") == "kernel restarted", "the reason")
        notebook.wait(lambda: "run its cell again" in view.text("notice"), "what to do")
        assert re.search(r"all \d+ steps and all \d+ episodes are on this page", view.text("notice"))
        assert not view.part("rate").is_visible()
        assert page.get_by_test_id("ltw-filter").first.is_disabled(), "a filter that nobody would apply"
        notebook.wait(lambda: view.rows() == rows, "the rows to stay")
        table = page.get_by_test_id("ltw-steps-table").first.locator("regular-table")
        table.evaluate("(e) => { e.scrollTop = 0; }")
        notebook.wait(lambda: view.rows()[0] != rows[0], "older rows")
        view.picture("disconnected")

        # Its cell is run again: a live view.
        for cell in (0, 1):
            view.run_cell(cell)
        view.reaches("Running")
        notebook.wait(lambda: view.text("connection") == "live", "the link")
        assert not page.get_by_test_id("ltw-filter").first.is_disabled()
        view.execute("client.close()")
    # JupyterLab throws over what was cut off with the connection.
    assert not notebook.ours, notebook.ours
