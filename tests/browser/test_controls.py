"""The buttons that reach the worker: what a person clicks is what the worker does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.conftest import demo_command, proxy_command

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    import live_telemetry_widget as ltw
    from tests.browser.conftest import NotebookPage

SHOW = "import live_telemetry_widget as ltw\nltw.connect({address!r}).run('held')"


def test_a_worker_is_paused_resumed_and_stopped_from_the_view(
    daemon: ltw.Server,
    open_notebook: Callable[..., NotebookPage],
    processes: Callable[..., subprocess.Popen[bytes]],
) -> None:
    notebook = open_notebook(SHOW.format(address=daemon.address))
    worker = demo_command("--episodes", "100000", "--delay", "0.01")
    proxy = processes(proxy_command(daemon.address, *worker, run_id="held"))
    notebook.run_all()
    page = notebook.page

    def button(name: str) -> bool:
        return page.get_by_role("button", name=name, exact=True).first.is_visible()

    def state() -> str:
        return page.get_by_test_id("ltw-state").first.inner_text().lower()

    notebook.wait(lambda: button("Pause") and notebook.number("ltw-steps-count") > 0, "a run that can be paused", 60)
    notebook.shot("controls-light")
    page.get_by_test_id("ltw-pause").click()
    notebook.wait(lambda: state().startswith("paused") and button("Resume"), "the run to be paused")
    notebook.shot("controls-paused-light")
    notebook.theme("JupyterLab Dark")
    notebook.shot("controls-paused-dark")
    notebook.theme("JupyterLab Light")
    held = notebook.number("ltw-steps-count")
    page.get_by_test_id("ltw-resume").click()
    notebook.wait(lambda: notebook.number("ltw-steps-count") > held, "more steps")
    notebook.wait(lambda: button("Pause"), "a run that can be paused again")

    # Nobody stops a run by one click, and looking elsewhere is an answer.
    stop = page.get_by_test_id("ltw-cancel")
    stop.click()
    notebook.wait(lambda: stop.inner_text() == "Stop for good?", "the question")
    notebook.shot("controls-sure-light")
    page.keyboard.press("Escape")
    notebook.wait(lambda: stop.inner_text() == "Stop", "the question to be gone")
    stop.click()
    stop.click()
    notebook.wait(lambda: state().startswith("cancelled"), "the run to be cancelled", 60)
    proxy.wait(30)
    notebook.wait(lambda: not stop.is_visible(), "no controls for a run that has ended")
    assert re.search("cancel", page.get_by_test_id("ltw-root").first.inner_text(), re.IGNORECASE)
    assert not [line for line in notebook.console if "pageerror" in line], notebook.console
