"""What a person sees in JupyterLab: rows that keep coming, in order, also while a cell is busy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.test_channel import BUSY
from tests.conftest import demo_command, proxy_command

if TYPE_CHECKING:
    import pathlib
    import subprocess
    from collections.abc import Callable

    import live_telemetry_widget as ltw
    from tests.browser.conftest import NotebookPage

SHOW = """
import live_telemetry_widget as ltw
client = ltw.connect({address!r})
run = client.run("seen")
run
"""


def position(row: dict[str, str]) -> tuple[int, int]:
    return int(row["Episode"].replace(",", "")), int(row["Step"].replace(",", ""))


def test_rows_keep_coming_in_order_while_a_cell_is_busy(
    daemon: ltw.Server,
    open_notebook: Callable[..., NotebookPage],
    processes: Callable[..., subprocess.Popen[bytes]],
    tmp_path: pathlib.Path,
) -> None:
    stop = tmp_path / "stop"
    notebook = open_notebook(SHOW.format(address=daemon.address), BUSY.format(stop=str(stop)))
    worker = demo_command("--episodes", "400", "--delay", "0.004")
    proxy = processes(proxy_command(daemon.address, *worker, run_id="seen", name="FrozenLake"))
    notebook.run_all()
    page = notebook.page
    notebook.wait(lambda: page.get_by_test_id("ltw-root").count(), "the view")
    notebook.wait(lambda: len(notebook.table("ltw-steps-table")) > 3, "rows of steps")

    # While the second cell computes, the table goes on and follows the newest row.
    notebook.wait(lambda: notebook.is_busy(1), "the busy cell to run")
    newest = (-1, -1)
    for _ in range(3):
        seen: list[tuple[int, int]] = []

        def moved(newest: tuple[int, int] = newest, seen: list[tuple[int, int]] = seen) -> bool:
            rows = notebook.table("ltw-steps-table")
            seen[:] = [position(row) for row in rows if row.get("Step", "…") not in {"", "…"}]
            assert seen == sorted(seen)
            return bool(seen) and seen[-1] > newest

        notebook.wait(moved, "a newer row")
        newest = seen[-1]
        assert notebook.is_busy(1), "the cell was no longer busy, so this showed nothing"
    stop.touch()
    notebook.shot("live-light")
    notebook.theme("JupyterLab Dark")
    notebook.shot("live-dark")
    notebook.theme("JupyterLab Light")

    # At the end, what stands there is what was published.
    notebook.wait(
        lambda: page.get_by_test_id("ltw-state").first.inner_text().lower().startswith("completed"), "the end", 60
    )
    assert proxy.wait(10) == 0
    import live_telemetry_widget as ltw  # noqa: PLC0415

    with ltw.open(daemon.data_dir) as recording:
        run = recording.run("seen")
        notebook.wait(lambda: notebook.number("ltw-steps-count") == len(run.steps), "all steps to be counted")
        assert notebook.number("ltw-episodes-count") == len(run.episodes) == 400
        last = run.steps.iloc[-1]
        notebook.wait(
            lambda: position(notebook.table("ltw-steps-table")[-1]) == (last["episode"], last["step_index"]),
            "the last step",
        )
        row = notebook.table("ltw-steps-table")[-1]
        assert float(row["Step Reward"]) == last["reward"]
        page.get_by_role("tab", name="Episodes").first.click()
        notebook.wait(lambda: notebook.table("ltw-episodes-table"), "rows of episodes")
        episode = notebook.table("ltw-episodes-table")[-1]
        assert int(episode["Episode"]) == run.episodes["episode"].iloc[-1]
        assert int(episode["Steps"]) == run.episodes["steps"].iloc[-1]
    assert "agent at" in (page.get_by_test_id("ltw-grid").first.get_attribute("aria-label") or "")
    notebook.shot("completed-light")
    notebook.theme("JupyterLab Dark")
    notebook.shot("completed-dark")
    assert not [line for line in notebook.console if "pageerror" in line], notebook.console
