"""The page asks while a cell is busy, over a comm of its own, and nothing of it stays when the view is closed."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from tests.browser.test_life import output, run_cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.conftest import NotebookPage

ROOT = pathlib.Path(__file__).parents[2]
STREAM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.stream import Stream
from live_telemetry_widget.live import LiveView
stream = Stream()
stream.add({{rows}})
view = LiveView(stream.feed)
"""
BUSY = """
import os, time
end = time.monotonic() + 60
# Pure Python, which never lets go of the interpreter by itself but some times a second.
while not os.path.exists({stop!r}) and time.monotonic() < end:
    for _ in range(20_000):
        sum(range(1000))
"""
LEFT = """
view.close()
import comm, threading, time
from live_telemetry_widget.view.channel import TARGET
def left():
    comms = [c.comm_id for c in comm.get_comm_manager().comms.values() if c.target_name == TARGET]
    return comms, [t.name for t in threading.enumerate() if t.name.startswith(("subshell", "live-telemetry"))]
end = time.monotonic() + 10
while time.monotonic() < end and left()[0]:
    time.sleep(0.05)
print("left:", left()[0], "channels:", list(view._channels._board.channels))
"""
#: Scroll to a part of the table, and return what the first row says when all of the screen is there, and how long that took.
JUMP = """async ([part, limit]) => {
    const grid = document.querySelector('[data-testid="ltw-steps-table"] regular-table');
    const begun = performance.now();
    grid.scrollTop = grid.scrollHeight * part;
    await new Promise(requestAnimationFrame);
    for (;;) {
        await new Promise(requestAnimationFrame);
        const row = [...grid.querySelectorAll('tbody tr:not(.ltw-stale)')].map((tr) => tr.innerText);
        if (row.length && !row.some((text) => text.includes('…'))) return [row[0], performance.now() - begun];
        if (performance.now() - begun > limit) return ['', -1];
    }
}"""


def test_rows_are_answered_while_a_cell_is_busy_and_no_comm_is_left(
    open_notebook: Callable[..., NotebookPage], tmp_path: pathlib.Path
) -> None:
    stop = tmp_path / "stop"
    notebook = open_notebook(STREAM.format(rows=150_000), "view.widget", BUSY.format(stop=str(stop)), LEFT)
    page = notebook.page
    # All at once: the page opens its channel while the kernel is busy already.
    for cell in (0, 1):
        run_cell(notebook, cell)
    notebook.wait(lambda: notebook.table("ltw-steps-table"), "rows")
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2; }")
    notebook.command("notebook:run-cell")
    notebook.wait(lambda: notebook.is_busy(2), "the busy cell")
    for part in (0.5, 0.1):
        text, took = page.evaluate(JUMP, [part, 20_000])
        assert took > 0, "rows were not answered while the cell was busy"
        assert text
        assert notebook.is_busy(2), "the cell was no longer busy, so this showed nothing"
    stop.touch()
    notebook.wait(lambda: not notebook.is_busy(2), "the cell to end")
    run_cell(notebook, 3)
    assert "left: [] channels: []" in output(notebook, 3)
    assert not [line for line in notebook.console if "pageerror" in line], notebook.console
