"""Curves in JupyterLab: of each agent, with a live run over them; one looks closer, and a click opens the episode, for Python too."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import live_telemetry_widget as ltw
from tests.conftest import demo_command, proxy_command, replay_command, wait_for

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from tests.browser.conftest import NotebookPage

SHOW = """
import json
import live_telemetry_widget as ltw
client = ltw.connect({address!r})
view = client.overlay(["pair", "live"])
view
"""
SELECTED = 'print("selected", json.dumps(view.selection["episode"]))'
EPISODES = 300
#: How many points of a canvas have a colour.
PAINTED = """(canvas, colour) => {
    const [r, g, b] = colour.match(/\\d+/g).map(Number);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let i = 0; i < data.length; i += 4) {
        found += data[i] === r && data[i + 1] === g && data[i + 2] === b && data[i + 3] > 200;
    }
    return found;
}"""


def selected(notebook: NotebookPage) -> Any:
    notebook.page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1; }")
    cell = notebook.page.locator(".jp-CodeCell").nth(1)
    prompt, output = cell.locator(".jp-InputPrompt"), cell.locator(".jp-OutputArea")
    # What it printed before stands until it runs again.
    before = prompt.inner_text()
    notebook.command("notebook:run-cell")
    notebook.wait(lambda: prompt.inner_text() != before and not notebook.is_busy(1), "the cell to have run again")
    notebook.wait(lambda: "selected" in output.inner_text(), "what is selected")
    return json.loads(output.inner_text().split("selected", 1)[1])


def two_learners(path: pathlib.Path) -> pathlib.Path:
    """Write what a worker of two agents says: two real learners, in turns an episode."""
    told: list[tuple[int, str]] = []
    for seed, (name, rate) in enumerate((("swift", 0.8), ("careful", 0.1))):
        said = ["--episodes", str(EPISODES), "--no-slippery", "--agent-id", name, "--learning-rate", str(rate)]
        said += ["--seed", str(seed)]
        out = subprocess.run(demo_command(*said), check=True, stdout=subprocess.PIPE, text=True).stdout
        events = [json.loads(line) for line in out.splitlines()]
        told += [(event["episode"], json.dumps(event)) for event in events if event["type"] in {"step", "episode"}]
    path.write_text("".join(f"{line}\n" for _, line in sorted(told, key=lambda one: one[0])))
    return path


def test_curves_of_agents_and_of_a_live_run_are_read_looked_at_closer_and_opened(  # noqa: PLR0915 - one story, told once
    daemon: ltw.Server,
    open_notebook: Callable[..., NotebookPage],
    processes: Callable[..., subprocess.Popen[bytes]],
    tmp_path: pathlib.Path,
) -> None:
    path = two_learners(tmp_path / "pair.jsonl")
    subprocess.run(proxy_command(daemon.address, *replay_command(path), run_id="pair", name="Two learners"), check=True)
    with ltw.open(daemon.data_dir) as recording:
        swift = recording.run("pair").episodes.query("agent_id == 'swift'").set_index("episode")["total_reward"]
    assert len(swift) == EPISODES
    notebook = open_notebook(SHOW.format(address=daemon.address), SELECTED)
    # It goes on until its curve was seen to grow, however long a busy machine takes to show it.
    worker = demo_command("--episodes", "100000", "--delay", "0.005", "--seed", "0")
    live = processes(proxy_command(daemon.address, *worker, run_id="live", name="FrozenLake"))
    with ltw.connect(daemon.address) as client:
        wait_for(lambda: "live" in set(client.runs()["run_id"]), "the live run")
    notebook.run_all()
    page = notebook.page
    curve, readout = page.get_by_test_id("ltw-curve"), page.get_by_test_id("ltw-readout")
    names = page.get_by_test_id("ltw-legend").locator("button span")
    notebook.wait(lambda: names.all_inner_texts() == ["Two learners", "FrozenLake"], "both runs by name")

    def ended() -> int:
        found = re.search(r"FrozenLake: (\d+) episodes", curve.get_attribute("aria-label") or "")
        return int(found[1]) if found else 0

    for _ in range(2):
        before = ended()
        notebook.wait(lambda before=before: ended() > before, "the live run's curve to grow", 60)
    page.get_by_test_id("ltw-curve-agents").select_option("each")
    notebook.wait(
        lambda: names.all_inner_texts() == ["Two learners · swift", "Two learners · careful", "FrozenLake"],
        "a curve per agent",
    )
    live.terminate()
    live.wait(30)
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        notebook.theme(theme)
        notebook.settle()
        notebook.shot(f"curves-{name}", page.get_by_test_id("ltw-chart"))

    # One agent by itself, closer: the kernel is asked for what is seen, episode by episode.
    page.get_by_test_id("ltw-curve-agents").select_option("=swift")
    names.nth(1).click()
    notebook.wait(lambda: f"swift: {EPISODES} episodes" in (curve.get_attribute("aria-label") or ""), "one curve")
    assert readout.inner_text().startswith("episodes "), "too many episodes for each to be a point"
    box = curve.bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2

    def move(part: float) -> None:
        page.mouse.move(box["x"] + 44 + part * (box["width"] - 60), middle, steps=3)

    move(0.5)
    page.mouse.down()
    move(0.6)
    page.mouse.up()
    notebook.wait(lambda: curve.get_attribute("data-zoomed") == "true", "a closer look")
    move(0.4)
    notebook.wait(lambda: readout.inner_text().startswith("episode "), "the closer look to come from the kernel")
    notebook.shot("curves-closer")
    found = re.match(r"episode (\d+): ([-.\d]+)", readout.inner_text())
    assert found
    number = int(found[1])
    assert 150 <= number <= 180
    assert float(found[2]) == swift[number]

    # A click opens the very episode: in the replay, and for Python.
    page.mouse.down()
    page.mouse.up()
    where = page.get_by_test_id("ltw-where")
    notebook.wait(lambda: where.inner_text().startswith(f"episode {number}, step "), "the episode in the replay")
    chosen = selected(notebook)
    assert (chosen["agent"], chosen["episode"]) == ("swift", number)
    curve.focus()
    page.keyboard.press("Escape")
    notebook.wait(lambda: curve.get_attribute("data-zoomed") == "false", "everything again")
    page.keyboard.press("Home")
    notebook.wait(lambda: readout.inner_text().startswith("episodes 0\u2013"), "the first ones under the cursor")
    # Where colours are forced, the curve has one of those.
    page.emulate_media(forced_colors="active")
    forced = page.evaluate("""() => {
        document.body.append(Object.assign(document.createElement("i"), { id: "probe", style: "color: LinkText" }));
        return getComputedStyle(document.querySelector("#probe")).color;
    }""")
    notebook.wait(lambda: curve.locator("canvas").first.evaluate(PAINTED, forced) > 100, "a curve in a forced colour")
    notebook.shot("curves-forced")
    assert not [line for line in notebook.console if "pageerror" in line], notebook.console
