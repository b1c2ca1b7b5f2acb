"""The main job: a daemon, a worker that learns, and JupyterLab on the quickstart with the live view.

``--check`` does it without a person: executes the notebook against the live run, writes it as HTML, says what it saw.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import live_telemetry_widget as ltw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
OUT = ROOT / "demo-out"
RUN_ID = f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
EPISODES = 200
PORT = 8888


@contextlib.contextmanager
def running(command: list[str], env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command for as long as the block lasts.

    In a session of its own, so that Ctrl-C reaches it only from here: JupyterLab would ask whether it is meant.
    """
    process = subprocess.Popen(command, env=env, start_new_session=True)  # noqa: S603 - our own commands
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def worker(address: str, episodes: int, delay: float) -> list[str]:
    """Return the command of a worker within its proxy."""
    proxy = [sys.executable, "-m", "live_telemetry_widget", "run"]
    proxy += ["--daemon", address, "--run-id", RUN_ID, "--name", "FrozenLake demo"]
    demo = [sys.executable, "-m", "live_telemetry_widget.worker.demo", "--env", "FrozenLake-v1", "--no-slippery"]
    demo += ["--episodes", str(episodes), "--delay", str(delay)]
    return [*proxy, "--", *demo]


def check(server: ltw.Server) -> int:
    """Execute the notebook while the worker runs; check and say what came of it."""
    import nbformat  # noqa: PLC0415 - only here
    from nbclient import NotebookClient  # noqa: PLC0415
    from nbconvert import HTMLExporter  # noqa: PLC0415

    # Figures also as HTML, with what draws them: the file must show them without a network.
    env = {**os.environ, "LTW_ADDRESS": server.address, "PLOTLY_RENDERER": "plotly_mimetype+notebook"}
    OUT.mkdir(exist_ok=True)
    with running(worker(server.address, episodes=EPISODES, delay=0.002)) as process:
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        quiet = ["--log-level=ERROR"]  # ipykernel warns of its own sockets on this machine
        NotebookClient(
            notebook, timeout=240, extra_arguments=quiet, resources={"metadata": {"path": str(OUT)}}
        ).execute(env=env)
        code = process.wait(30)
    html, _ = HTMLExporter().from_notebook_node(notebook)
    report = OUT / "quickstart.html"
    report.write_text(html, encoding="utf-8")
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    with ltw.connect(server.address) as daemon, ltw.open(server.data_dir) as recording:
        live, recorded = daemon.run(RUN_ID), recording.run(RUN_ID)
        live.wait(timeout=30)
        steps, episodes = live.steps, live.episodes
        sums = steps.groupby("episode")["reward"].agg(["sum", "size"])
        totals = episodes.set_index("episode")
        facts = {
            "the worker ended well": code == 0,
            "the run is completed": live.status == "completed",
            "every episode is here": len(episodes) == EPISODES,
            "rewards of steps add up to the totals": bool((sums["sum"] == totals["total_reward"]).all()),
            "steps count up to the lengths": bool((sums["size"] == totals["steps"]).all()),
            "no problems": live.problems.empty,
            "the recording holds the same": recorded.steps.equals(steps) and recorded.episodes.equals(episodes),
            "the notebook shows the view": any("application/vnd.jupyter.widget-view+json" in data for data in shown),
        }
        print(f"run {RUN_ID} at {server.address}: {live.status}, {len(steps)} steps, {len(episodes)} episodes")
    for fact, holds in facts.items():
        print(f"  {'yes' if holds else 'NO '}  {fact}")
    print(f"  the executed notebook is in {report.relative_to(ROOT)} ({report.stat().st_size / 1e6:.1f} MB)")
    print(f"demo: {sum(facts.values())} of {len(facts)} checks hold")
    return 0 if all(facts.values()) else 1


def lab_url(process: subprocess.Popen[bytes], timeout: float = 60) -> str | None:
    """Return where JupyterLab listens, once it does; None when it ended instead."""
    from jupyter_core.paths import jupyter_runtime_dir  # noqa: PLC0415 - only here

    told = Path(jupyter_runtime_dir()) / f"jpserver-{process.pid}.json"
    end = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):  # not there yet, or half written
            return str(json.loads(told.read_text(encoding="utf-8"))["url"])
        time.sleep(0.05)
    return None


def copy_of(notebook: Path) -> Path:
    """Return a copy to open, so that what is run in it does not change what git has; one that is there stays as long as it is the newer."""
    copy = OUT / "notebooks" / notebook.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists() or copy.stat().st_mtime < notebook.stat().st_mtime:
        shutil.copyfile(notebook, copy)
    return copy


def lab(server: ltw.Server, port: int) -> int:
    """Open JupyterLab on the quickstart, until Ctrl-C."""
    token = secrets.token_urlsafe(16)
    notebook = copy_of(NOTEBOOK)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--ServerApp.port={port}"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebook.parent}"]
    command += ["--ServerApp.allow_root=True", "--ServerApp.log_level=ERROR"]
    command += ["--LabApp.news_url=None", "--LabApp.extension_manager=readonly"]  # ask nobody on the network
    env = {**os.environ, "LTW_ADDRESS": server.address}
    # Some two minutes: it is still learning when one has opened the page, and ends while one reads on.
    with running(worker(server.address, episodes=1_000, delay=0.02)), running(command, env) as jupyter:
        url = lab_url(jupyter)
        if url is None:
            print("JupyterLab did not start", file=sys.stderr)
            return 1
        print(f"daemon at {server.address}, run {RUN_ID}")
        print(f"open  {url}lab/tree/{notebook.name}?token={token}")
        print("Ctrl-C ends everything", flush=True)
        return jupyter.wait()


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="without a person: execute, verify, exit")
    parser.add_argument("--port", type=int, default=PORT, help="of JupyterLab; the next free one if it is taken")
    arguments = parser.parse_args()
    for name in ("SIGTERM", "SIGHUP"):  # end as with Ctrl-C, so that no child stays; Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        with ltw.serve() as server:
            return check(server) if arguments.check else lab(server, arguments.port)
    except KeyboardInterrupt:
        print("\nended")
        return 130 if arguments.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
