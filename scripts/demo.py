"""The main job: a daemon, a worker that learns, and JupyterLab on the quickstart with the live view.

``--check`` does it without a person: executes the notebook against the live run, writes it as HTML, says what it saw.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import live_telemetry_widget as ltw

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
OUT = ROOT / "demo-out"
RUN_ID = f"demo-{time.strftime('%Y%m%d-%H%M%S')}"


@contextlib.contextmanager
def running(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command for as long as the block lasts."""
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]  # noqa: S603 - our own commands
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def worker(address: str, episodes: int, delay: float) -> list[str]:
    """Return the command of a worker within its proxy."""
    python = [sys.executable, "-m"]
    proxy = [
        *python,
        "live_telemetry_widget",
        "run",
        "--daemon",
        address,
        "--run-id",
        RUN_ID,
        "--name",
        "FrozenLake demo",
    ]
    demo = [*python, "live_telemetry_widget.worker.demo", "--env", "FrozenLake-v1", "--episodes", str(episodes)]
    return [*proxy, "--", *demo, "--delay", str(delay)]


def check(server: ltw.Server) -> int:
    """Execute the notebook while the worker runs; check and say what came of it."""
    import nbformat  # noqa: PLC0415 - only here
    from nbclient import NotebookClient  # noqa: PLC0415
    from nbconvert import HTMLExporter  # noqa: PLC0415

    OUT.mkdir(exist_ok=True)
    with running(worker(server.address, episodes=120, delay=0.002)) as process:
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        client = NotebookClient(
            notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(OUT)}}
        )
        client.execute()
        code = process.wait(30)
    html, _ = HTMLExporter().from_notebook_node(notebook)
    report = OUT / "quickstart.html"
    report.write_text(html, encoding="utf-8")
    with ltw.connect(server.address) as daemon, ltw.open(server.data_dir) as recording:
        live, recorded = daemon.run(RUN_ID), recording.run(RUN_ID)
        live.wait(timeout=30)
        steps, episodes = live.steps, live.episodes
        sums = steps.groupby("episode")["reward"].agg(["sum", "size"])
        totals = episodes.set_index("episode")
        facts = {
            "the worker ended well": code == 0,
            "the run is completed": live.status == "completed",
            "every episode is here": len(episodes) == 120,  # noqa: PLR2004 - as ordered above
            "rewards of steps add up to the totals": bool((sums["sum"] == totals["total_reward"]).all()),
            "steps count up to the lengths": bool((sums["size"] == totals["steps"]).all()),
            "no problems": live.problems.empty,
            "the recording holds the same": len(recorded.steps) == len(steps),
            "the notebook shows the view": "widget-view" in str(notebook.cells),
        }
        print(f"run {RUN_ID} at {server.address}: {live}")
    for fact, holds in facts.items():
        print(f"  {'yes' if holds else 'NO '}  {fact}")
    print(f"  the executed notebook is in {report.relative_to(ROOT)} ({report.stat().st_size / 1024:.0f} kB)")
    return 0 if all(facts.values()) else 1


def lab(server: ltw.Server) -> int:
    """Open JupyterLab on the quickstart, until Ctrl-C."""
    token = secrets.token_urlsafe(16)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--IdentityProvider.token={token}",
    ]
    command += ["--ServerApp.allow_root=True", f"--ServerApp.root_dir={NOTEBOOK.parent}", "--ServerApp.log_level=WARN"]
    command += ["--LabApp.news_url=None", "--ServerApp.port=8888"]
    with running(worker(server.address, episodes=3_000, delay=0.02)), running(command) as jupyter:
        print(f"daemon at {server.address}, run {RUN_ID}")
        print(f"open  http://127.0.0.1:8888/lab/tree/{NOTEBOOK.name}?token={token}")
        print("(or the next free port, if 8888 is taken); Ctrl-C ends everything", flush=True)
        return jupyter.wait()


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="without a person: execute, verify, exit")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ltw.serve() as server:
        os.environ.update(LTW_ADDRESS=server.address, LTW_RUN_ID=RUN_ID)
        try:
            return check(server) if arguments.check else lab(server)
        except KeyboardInterrupt:
            return 130


if __name__ == "__main__":
    raise SystemExit(main())
