"""The quickstart, executed cell by cell in a real kernel, and the demo around it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

import live_telemetry_widget as ltw
from tests.conftest import demo_command, proxy_command, wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[2]
QUICKSTART = ROOT / "notebooks" / "quickstart.ipynb"
VIEW = "application/vnd.jupyter.widget-view+json"
PLOT = "application/vnd.plotly.v1+json"


def execute(folder: pathlib.Path, path: pathlib.Path = QUICKSTART, **env: str) -> dict[str, list[dict[str, Any]]]:
    """Execute a notebook in a folder; return the outputs of each cell by the cell's id."""
    notebook = nbformat.read(path, as_version=4)
    # ipykernel warns of its own sockets on this machine.
    client = NotebookClient(
        notebook, timeout=90, extra_arguments=["--log-level=ERROR"], resources={"metadata": {"path": str(folder)}}
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LTW_")}
    client.execute(env=clean | env)
    return {cell["id"]: cell["outputs"] for cell in notebook.cells if cell["cell_type"] == "code"}


def shown(outputs: list[dict[str, Any]], mime: str = "text/plain") -> Any:
    """Return what one cell shows in one form; fail when it says anything on standard error."""
    assert not [output for output in outputs if output.get("name") == "stderr"], outputs
    (data,) = (output["data"] for output in outputs if "data" in output)
    return data[mime]


def test_the_quickstart_shows_a_live_run_whole(
    daemon: ltw.Server, tmp_path: pathlib.Path, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    worker = demo_command("--no-slippery", "--episodes", "200", "--delay", "0.004")
    proxy = processes(proxy_command(daemon.address, *worker, run_id="lake"))
    with ltw.connect(daemon.address) as client:
        wait_for(lambda: client.runs()["status"].tolist() == ["running"], "the run to begin")
    cells = execute(tmp_path, LTW_ADDRESS=daemon.address)
    assert proxy.wait(10) == 0

    assert "lake" in shown(cells["connect"])
    assert "running" in shown(cells["connect"]), "the run was over before the notebook saw it, so this showed nothing"
    assert VIEW in cells["view"][0]["data"]
    with ltw.open(daemon.data_dir) as recording:
        run = recording.run("lake")
        (said,) = (output["text"] for output in cells["wait"] if output.get("name") == "stdout")
        assert f"completed: {len(run.steps)} steps, 200 episodes, 0 problems" in said
        assert "Empty DataFrame" in shown(cells["wait"])
        assert shown(cells["sums"]) == f"({len(run.steps)}, 200)"
        last = run.episodes.iloc[-1]
        row = shown(cells["episodes"]).splitlines()[-1].split()
        assert [int(row[1]), int(row[2]), float(row[3])] == [last["episode"], last["steps"], last["total_reward"]]
        assert re.search(r"step_index\s+state\s+action\s+reward\s+epsilon\s+q_after", shown(cells["steps"]))
        (line,) = shown(cells["curve"], PLOT)["data"]
        assert line["name"] == ""
        average = run.episodes["total_reward"].rolling(25, min_periods=1).mean()
        assert plotted(line["x"]) == run.episodes["episode"].tolist()
        assert plotted(line["y"]) == pytest.approx(average.tolist())
        assert average.iloc[-1] > average.iloc[49], (
            "the agent has learnt nothing, and the curve is to show that it does"
        )
        assert shown(cells["episode"]).splitlines()[-1].endswith("True")


def plotted(values: list[float] | dict[str, str]) -> list[float]:
    """Return the numbers of an axis as plotly writes them: plain, or base64 of their bytes."""
    if isinstance(values, list):
        return values
    import base64  # noqa: PLC0415 - only here

    import numpy as np  # noqa: PLC0415

    numbers: list[float] = np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"]).tolist()
    return numbers


def test_the_quickstart_opened_by_hand_starts_what_it_needs_and_ends_it(tmp_path: pathlib.Path) -> None:
    cells = execute(tmp_path, TMPDIR=str(tmp_path))
    assert shown(cells["sums"]).endswith(", 300)")
    assert VIEW in cells["view"][0]["data"]

    def left() -> list[str]:
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has just ended
                found.append(path.read_bytes().decode(errors="replace"))
        return [command for command in found if str(tmp_path) in command]

    if pathlib.Path("/proc/self").exists():
        wait_for(lambda: not left(), "the daemon to end with its kernel")


def test_the_investigation_finds_why_episodes_fail(tmp_path: pathlib.Path) -> None:
    cells = execute(tmp_path, ROOT / "notebooks" / "episodes.ipynb")
    assert VIEW in cells["replay"][0]["data"]
    assert "text/html" in cells["run"][0]["data"]
    assert shown(cells["picture"], "image/png")
    (said,) = (output["text"] for output in cells["because"] if output.get("name") == "stdout")
    found = re.match(
        r"(\d+) late failures, each after a move that it knew to be worse; epsilon was 0\.0\d at most", said
    )
    assert found, said
    assert int(found[1]) == len(shown(cells["failures"]).splitlines()) - 1 > 0
    (parted,) = (output["text"] for output in cells["compare"] if output.get("name") == "stdout")
    assert re.match(r"episodes \d+ and \d+ part at step \d", parted)


def test_the_report_notebook_leaves_files_for_those_without_a_kernel(tmp_path: pathlib.Path) -> None:
    cells = execute(tmp_path, ROOT / "notebooks" / "report.ipynb")
    assert "300" in shown(cells["summary"], "text/html")
    (said,) = (output["text"] for output in cells["report"] if output.get("name") == "stdout")
    assert "300 episodes" in said
    for name in ("report.html", "failures.html", "static.html"):
        assert (tmp_path / name).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sum(int(line.split()[-1]) for line in shown(cells["numbers"]).splitlines()[1:]) == 300
    assert shown(cells["visits"], PLOT)["data"][0]["type"] == "heatmap"


@pytest.fixture
def jupyter_places(tmp_path: pathlib.Path) -> dict[str, str]:
    """Return an environment in which Jupyter keeps everything in a folder of this test."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTERLAB_SETTINGS_DIR")
    return {**os.environ, **{name: str(tmp_path / name.lower()) for name in names}, "TMPDIR": str(tmp_path)}


def test_the_demo_opens_the_quickstart_and_ends_everything_with_ctrl_c(
    jupyter_places: dict[str, str], tmp_path: pathlib.Path, processes: Callable[..., subprocess.Popen[bytes]]
) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), "--port", "0"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        demo = processes(command, env=jupyter_places, stdout=file, stderr=file, start_new_session=True)
    wait_for(lambda: "Ctrl-C ends" in log.read_text() or demo.poll() is not None, "JupyterLab to start")
    said = log.read_text()
    found = re.search(
        r"daemon at (\S+), run (\S+)\nopen {2}(http://127\.0\.0\.1:\d+/)lab/tree/(\S+)\?token=(\S+)", said
    )
    assert found, said
    address, run_id, url, name, token = found.groups()
    # What a browser would be given: the notebook, and a kernel that knows of the daemon.
    with urllib.request.urlopen(f"{url}api/contents/{name}?token={token}") as answer:  # noqa: S310
        assert json.load(answer)["content"]["cells"]
    with ltw.connect(address) as client:
        run = client.run(run_id)
        wait_for(lambda: len(run.steps) > 5, "the worker's first steps")
    children = [int(pid) for pid in pathlib.Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()]
    assert len(children) == 3, "daemon, worker, JupyterLab"

    demo.send_signal(signal.SIGINT)
    assert demo.wait(30) == 0, log.read_text()
    assert not [pid for pid in children if pathlib.Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in log.read_text()
    assert log.read_text().endswith("ended\n")
