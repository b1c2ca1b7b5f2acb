"""A finished run of an agent that learnt, as README shows it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.conftest import demo_command, proxy_command

if TYPE_CHECKING:
    from collections.abc import Callable

    import live_telemetry_widget as ltw
    from tests.browser.conftest import NotebookPage

SHOW = """
import live_telemetry_widget as ltw
run = ltw.connect({address!r}).run("lake")
run
"""


def test_a_finished_run_that_is_opened_later_is_shown_whole_in_both_themes(
    daemon: ltw.Server, open_notebook: Callable[..., NotebookPage]
) -> None:
    worker = demo_command("--episodes", "220", "--no-slippery", "--seed", "3")
    subprocess.run(proxy_command(daemon.address, *worker, run_id="lake", name="FrozenLake 4x4"), check=True)
    notebook = open_notebook(SHOW.format(address=daemon.address))
    notebook.run_all()
    page = notebook.page
    notebook.wait(lambda: page.get_by_test_id("ltw-root").count(), "the view")
    notebook.wait(lambda: notebook.number("ltw-episodes-count") == 220, "all episodes to be counted")
    notebook.wait(lambda: page.get_by_test_id("ltw-state").first.inner_text().lower() == "completed", "the end")
    notebook.wait(lambda: len(notebook.table("ltw-steps-table")) > 5, "rows of steps")
    last = notebook.table("ltw-steps-table")[-1]
    assert (last["Episode"], last["Terminated"]) == ("222", "true")
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        notebook.theme(theme)
        notebook.shot(f"learnt-{name}")
    page.get_by_role("tab", name="Episodes").first.click()
    notebook.wait(lambda: notebook.table("ltw-episodes-table"), "rows of episodes")
    assert notebook.table("ltw-episodes-table")[-1]["Outcome"] == "Success"
    notebook.shot("episodes-light")
    assert not [line for line in notebook.console if "error" in line.lower()], notebook.console
