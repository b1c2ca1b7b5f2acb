"""What is built for others: a bundle that is never stale, and a wheel that needs no Node."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
STATIC = pathlib.PurePosixPath("live_telemetry_widget/view/static")
BUNDLE = ("widget.js", "widget.css", "report.js", "report.css")
STALE = "// from last year"

pytestmark = pytest.mark.timeout(300)  # installs npm packages


def build(root: pathlib.Path, target: str, *, node: bool) -> subprocess.CompletedProcess[str]:
    """Build an sdist or a wheel into ``root/dist``, with or without Node on the path."""
    (root / "nothing").mkdir(exist_ok=True)
    env = os.environ if node else {**os.environ, "PATH": str(root / "nothing")}
    command = [sys.executable, "-m", "hatchling", "build", "--target", target]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a copy of the checkout with a bundle that is not of these sources."""
    copy = tmp_path_factory.mktemp("checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    static = copy / "src" / STATIC
    static.mkdir(parents=True, exist_ok=True)
    for name in BUNDLE:
        (static / name).write_text(STALE, encoding="utf-8")
    return copy


def test_nothing_is_shipped_from_a_checkout_without_node(checkout: pathlib.Path) -> None:
    for target in ("wheel", "sdist"):
        done = build(checkout, target, node=False)
        assert done.returncode != 0
        assert "needs Node 20 with npm" in done.stderr + done.stdout


def test_an_sdist_becomes_a_wheel_without_node_and_the_wheel_works(
    checkout: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    done = build(checkout, "sdist", node=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = (checkout / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert (unpacked / "js" / "src" / "widget.ts").is_file()
    assert not (unpacked / "js" / "node_modules").exists()

    done = build(unpacked, "wheel", node=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (unpacked / "dist").glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        packed.extractall(site)  # noqa: S202 - our own archive
    assert {"live_telemetry_widget/py.typed", "live_telemetry_widget/proto/trainer_pb2.pyi"} <= names
    assert {str(STATIC / name) for name in BUNDLE} == {name for name in names if str(STATIC) in name}
    assert all(name.startswith("live_telemetry_widget") for name in names)

    code = f"""
import sys; sys.path.insert(0, {str(site)!r})
from live_telemetry_widget.view import widget
assert widget.__file__.startswith({str(site)!r}), widget.__file__
made = widget.LiveTelemetryWidget(print)
print(len(made._esm) > 10_000 and "export" in made._esm and len(made._css) > 1_000 and {STALE!r} not in made._esm)
"""
    env = {**os.environ, "PATH": str(tmp_path / "none")}
    shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert shown.stdout.strip() == "True", shown.stdout + shown.stderr
