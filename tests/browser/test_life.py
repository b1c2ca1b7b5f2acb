"""Life in a notebook: two views, a kernel that is restarted or interrupted, a view per agent, code that is reloaded."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.conftest import demo_command, proxy_command, replay_command
from tests.integration.test_watch import written

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    import live_telemetry_widget as ltw
    from tests.browser.conftest import NotebookPage

CONNECT = """
import live_telemetry_widget as ltw
client = ltw.connect({address!r})
run = client.run("lake")
"""
THREADS = """
import gc, threading, time
{before}
end = time.monotonic() + 10
while True:
    gc.collect()
    left = [t.name for t in threading.enumerate() if t.name.startswith("live-telemetry")]
    if not left or time.monotonic() > end:
        break
    time.sleep(0.05)
print("left:", left)
"""


def live(daemon: ltw.Server) -> list[str]:
    return proxy_command(daemon.address, *demo_command("--episodes", "2000", "--delay", "0.004"), run_id="lake")


def output(notebook: NotebookPage, cell: int) -> str:
    return notebook.page.locator(".jp-CodeCell").nth(cell).locator(".jp-OutputArea").inner_text()


def counts(notebook: NotebookPage, view: int) -> int:
    text = notebook.page.get_by_test_id("ltw-steps-count").nth(view).inner_text()
    return int("".join(c for c in text if c.isdigit()) or 0)


def test_two_views_live_through_interrupt_and_restart_and_nothing_is_left_behind(
    daemon: ltw.Server,
    open_notebook: Callable[..., NotebookPage],
    processes: Callable[..., subprocess.Popen[bytes]],
) -> None:
    processes(live(daemon))
    notebook = open_notebook(
        CONNECT.format(address=daemon.address),
        "run",
        "run",
        "run.wait()",
        THREADS.format(before="run.close(); del run; client.close()"),
    )
    page = notebook.page
    notebook.run_all()
    notebook.wait(lambda: page.get_by_test_id("ltw-root").count() == 2, "both views")
    notebook.wait(lambda: min(counts(notebook, 0), counts(notebook, 1)) > 10, "both to be live")
    notebook.wait(lambda: notebook.is_busy(3), "the cell that waits")
    # An interrupt ends the cell, and nothing else.
    notebook.command("notebook:interrupt-kernel")
    notebook.wait(lambda: "KeyboardInterrupt" in output(notebook, 3), "the interrupt")
    before = counts(notebook, 1)
    notebook.wait(lambda: counts(notebook, 1) > before, "the views to go on")
    # A kernel that is restarted begins anew, and the page with it.
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    states = page.get_by_test_id("ltw-state")
    notebook.wait(lambda: states.all_inner_texts() == ["Disconnected"] * 2, "both views to know that they are old", 60)
    # Up to the cell that would wait, then the one that looks for what is left.
    for cell in (0, 1, 2):
        run_cell(notebook, cell)
    notebook.wait(lambda: page.get_by_test_id("ltw-root").count() == 2, "both views again")
    notebook.wait(lambda: min(counts(notebook, 0), counts(notebook, 1)) > before, "both to be live again")
    run_cell(notebook, 4)
    notebook.wait(lambda: "left:" in output(notebook, 4), "the count of threads", 30)
    assert "left: []" in output(notebook, 4)
    printed = "".join(output(notebook, cell) for cell in range(5))
    assert "Exception in thread" not in printed, printed
    assert not notebook.ours, notebook.ours


def run_cell(notebook: NotebookPage, cell: int) -> None:
    notebook.page.evaluate("(n) => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = n; }", cell)
    notebook.command("notebook:run-cell")
    notebook.wait(lambda: not notebook.is_busy(cell), f"cell {cell} to end", 60)


def test_a_tab_per_run_and_agent_appears_with_what_came_before_it(
    daemon: ltw.Server, open_notebook: Callable[..., NotebookPage], tmp_path: pathlib.Path
) -> None:
    cells = [f"import live_telemetry_widget as ltw\nclient = ltw.connect({daemon.address!r})", "client.watch()"]
    notebook = open_notebook(*cells)
    page = notebook.page
    notebook.run_all()
    notebook.wait(lambda: "waiting for the first step" in output(notebook, 1), "the note")
    path = written(tmp_path / "run.jsonl", agents=3, workers=2)
    subprocess.run(proxy_command(daemon.address, *replay_command(path), run_id="many", name="Trio"), check=True)
    tabs = page.locator(".jp-OutputArea .lm-TabBar-tabLabel")
    notebook.wait(lambda: tabs.all_inner_texts() == ["Trio · a0", "Trio · a1", "Trio · a2"], "a tab per agent")
    tabs.nth(2).click()
    root = page.get_by_test_id("ltw-root").locator("visible=true")
    notebook.wait(root.count, "the view of the tab")
    steps = root.get_by_test_id("ltw-steps-count")
    notebook.wait(lambda: steps.inner_text().startswith("60"), "its own steps: 2 workers, 3 episodes of 10")
    notebook.wait(lambda: "a2" in root.first.inner_text(), "its agent's name")
    whole = page.locator(".jp-CodeCell").nth(1)
    notebook.shot("watch-light", whole)
    notebook.theme("JupyterLab Dark")
    notebook.shot("watch-dark", whole)
    notebook.theme("JupyterLab Light")
    assert not notebook.ours, notebook.ours


def test_reloading_the_packages_code_leaves_a_live_run_alone(
    daemon: ltw.Server,
    open_notebook: Callable[..., NotebookPage],
    processes: Callable[..., subprocess.Popen[bytes]],
) -> None:
    processes(live(daemon))
    touch = "import pathlib, live_telemetry_widget.frames as f, live_telemetry_widget.run as r\n"
    touch += "[pathlib.Path(m.__file__).touch() for m in (f, r)]"
    notebook = open_notebook(
        "%load_ext autoreload\n%autoreload 2" + CONNECT.format(address=daemon.address),
        "run",
        touch,
        "before = len(run.steps)",
        "import time\nend = time.monotonic() + 20\nwhile len(run.steps) <= before and time.monotonic() < end: time.sleep(0.05)\n"
        "print(len(run.steps) > before, run.status)",
    )
    notebook.run_all()
    notebook.wait(lambda: "running" in output(notebook, 4), "the last cell", 60)
    assert "True running" in output(notebook, 4)
    before = counts(notebook, 0)
    notebook.wait(lambda: counts(notebook, 0) > before, "the view to go on")
