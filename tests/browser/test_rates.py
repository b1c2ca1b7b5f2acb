"""A fast run in JupyterLab: what the page's main thread, its memory and its newest row do. ``scripts/measure-page`` runs it at length."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.test_channel import BUSY, JUMP, STREAM
from tests.browser.test_life import run_cell

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from tests.browser.conftest import NotebookPage

SECONDS = float(os.environ.get("LTW_RATE_SECONDS", "2"))
RATES = [int(rate) for rate in os.environ.get("LTW_RATES", "10000").split(",")]
ROWS = int(os.environ.get("LTW_RATE_ROWS", "220000"))
#: At each frame: how old the newest row on screen is. Tasks over 50 ms are told of by the browser.
WATCH = """async (seconds) => {
    const tasks = [];
    const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((e) => e.duration)));
    observer.observe({ entryTypes: ["longtask"] });
    const grid = document.querySelector('[data-testid="ltw-steps-table"] regular-table');
    const ages = [];
    let [frames, shown, rows] = [0, '', 0];
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
        await new Promise(requestAnimationFrame);
        frames++;
        const newest = [...grid.querySelectorAll('tbody tr:not(.ltw-stale)')].at(-1)?.cells[0]?.textContent ?? '';
        if (newest !== shown) rows++;
        shown = newest;
        const [h, m, s] = newest.split(':').map(Number);
        if (Number.isFinite(s)) ages.push(Date.now() - new Date().setHours(h, m, 0, 0) - s * 1000);
    }
    observer.disconnect();
    ages.sort((a, b) => a - b);
    const at = (part) => Math.round(ages[Math.floor(ages.length * part)] ?? -1);
    return { frames_per_s: Math.round(frames / seconds), rows_per_s: Math.round(rows / seconds),
             age_median: at(0.5), age_p99: at(0.99), long_tasks: tasks.map(Math.round) };
}"""


#: Count frames, tasks over 50 ms, and frames in which a row on screen was still on its way, until `ltwWatched` is called.
SCROLLED = """() => {
    const tasks = [];
    const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((e) => e.duration)));
    observer.observe({ entryTypes: ["longtask"] });
    const table = document.querySelector('[data-testid="ltw-steps-table"]');
    const begun = performance.now();
    let [frames, late, going, longest, last] = [0, 0, true, 0, begun];
    const frame = (now) => {
        frames++;
        longest = Math.max(longest, now - last);
        last = now;
        late += table.querySelector('tbody tr:not(.ltw-stale) td.ltw-absent') ? 1 : 0;
        if (going) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    window.ltwWatched = () => {
        going = false;
        observer.disconnect();
        const seconds = (performance.now() - begun) / 1000;
        return { frames_per_s: Math.round(frames / seconds), longest_frame: Math.round(longest),
                 late: Math.round((100 * late) / frames), long_tasks: tasks.map(Math.round) };
    };
}"""
FIRST_ROW = """() => {
    const rows = [...document.querySelectorAll('[data-testid="ltw-steps-table"] tbody tr:not(.ltw-stale)')];
    return rows.every((tr) => !tr.querySelector('.ltw-absent')) && rows[0] ? Number(rows[0].getAttribute('aria-rowindex')) : 0;
}"""


def wheeled(notebook: NotebookPage, seconds: float) -> dict[str, Any]:
    """Turn the wheel over the step table, up from its end, and return what the page did meanwhile."""
    page = notebook.page
    table = page.get_by_test_id("ltw-steps-table").locator("regular-table")
    box = table.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -100)
    firsts: list[int] = []

    def standing(below: float, what: str) -> int:
        """Return the first row on screen when all are there, and the same twice."""
        firsts.clear()

        def same() -> bool:
            firsts.append(page.evaluate(FIRST_ROW))
            return len(firsts) > 1 and 0 < firsts[-1] == firsts[-2] < below

        notebook.wait(same, what)
        return firsts[-1]

    before, held = standing(float("inf"), "rows before the wheel"), heap(notebook)
    page.evaluate(SCROLLED)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        page.mouse.wheel(0, -1_200)
        page.wait_for_timeout(16)
    seen: dict[str, Any] = page.evaluate("() => window.ltwWatched()")
    after = standing(before, "the rows that were scrolled to")
    return {**seen, "rows": before - after, "heap_grown_mb": round(heap(notebook) - held, 1)}


class Tasks:
    """What the tasks of the page's main thread take, by the processor: on a busy machine the clock tells of waiting for one, too."""

    def __init__(self, notebook: NotebookPage) -> None:
        self._notebook = notebook
        self._session = notebook.page.context.new_cdp_session(notebook.page)
        self._events: list[dict[str, Any]] = []
        self._whole: list[bool] = []
        self._session.on("Tracing.dataCollected", lambda part: self._events.extend(part["value"]))
        self._session.on("Tracing.tracingComplete", lambda _: self._whole.append(True))
        config = {"includedCategories": ["toplevel"], "excludedCategories": ["*"]}
        self._session.send("Tracing.start", {"traceConfig": config, "transferMode": "ReportEvents"})

    def longest(self) -> tuple[int, int]:
        """End, and return the milliseconds of the longest task, by the processor and by the clock."""
        self._session.send("Tracing.end")
        self._notebook.wait(lambda: self._whole, "what was traced", 60)
        self._session.detach()
        mains = {
            (event["pid"], event["tid"])
            for event in self._events
            if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
        }
        tasks = [e for e in self._events if e.get("ph") == "X" and (e["pid"], e["tid"]) in mains and "tdur" in e]
        assert tasks, "nothing was traced"
        return round(max(e["tdur"] for e in tasks) / 1_000), round(max(e["dur"] for e in tasks) / 1_000)


def heap(notebook: NotebookPage) -> float:
    """Return the megabytes that the page's JavaScript holds, after collecting garbage."""
    session = notebook.page.context.new_cdp_session(notebook.page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    session.detach()
    return float(used)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.timeout(600)
def test_the_page_keeps_up_and_a_jump_in_a_long_table_is_answered_while_a_cell_is_busy(
    open_notebook: Callable[..., NotebookPage], tmp_path: pathlib.Path, rate: int
) -> None:
    stop = tmp_path / "stop"
    busy = BUSY.format(stop=str(stop)).replace("+ 60", "+ 400")
    notebook = open_notebook(STREAM.format(rows=ROWS), "view.widget", f"stream.start({rate})", busy, "stream.stop()")
    page = notebook.page
    notebook.command("notebook:run-cell")
    prompt = page.locator(".jp-CodeCell").first.locator(".jp-InputPrompt")
    notebook.wait(lambda: "[1]" in prompt.inner_text(), "the rows to be made", 400)
    run_cell(notebook, 1)
    notebook.wait(lambda: notebook.table("ltw-steps-table"), "rows")
    run_cell(notebook, 2)
    notebook.wait(lambda: notebook.number("ltw-steps-count") > ROWS, "new steps")
    page.wait_for_timeout(min(10, SECONDS) * 1_000)
    before = heap(notebook)
    tasks = Tasks(notebook)
    idle = page.evaluate(WATCH, SECONDS)
    longest = {"idle": tasks.longest()}
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 3; }")
    notebook.command("notebook:run-cell")
    notebook.wait(lambda: notebook.is_busy(3), "the busy cell")
    count = notebook.number("ltw-steps-count")
    tasks = Tasks(notebook)
    while_busy = page.evaluate(WATCH, SECONDS)
    longest["busy"] = tasks.longest()
    grown = heap(notebook) - before
    assert notebook.number("ltw-steps-count") > count
    jumps = []
    for part in (0.5, 0.31, 0.73):
        row, took = page.evaluate(JUMP, [part, 30_000])
        assert row, "rows were not answered while the cell was busy"
        jumps.append(round(took))
    assert notebook.is_busy(3), "the cell was no longer busy, so this showed nothing"
    stop.touch()
    run_cell(notebook, 4)
    scrolled = wheeled(notebook, SECONDS)
    found = {
        "rate": rate,
        "rows": ROWS,
        "idle": idle,
        "busy": while_busy,
        "heap_grown_mb": round(grown, 1),
        "jumps_ms": jumps,
        "scrolled": scrolled,
        "longest_task_ms_of_processor_and_clock": longest,
    }
    print("\n" + json.dumps(found))  # noqa: T201 - for scripts/measure-page
    for seen in (idle, while_busy):
        assert seen["rows_per_s"] > 0, "nothing new was shown"
    # Not how fast this machine is: that nothing piles up, in the page or on the way to it.
    assert grown < 40, found
    assert scrolled["heap_grown_mb"] < 40, found
    assert scrolled["rows"] > 0, found
