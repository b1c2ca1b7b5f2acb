"""The generated wire code is that of the .proto files, and the check that says so can fail."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = pathlib.Path(__file__).parents[2]
PROTO = pathlib.Path("src/live_telemetry_widget/proto")


def check(root: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run the check of a tree."""
    command = [sys.executable, str(root / "scripts" / "gen_proto.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_regenerating_changes_nothing() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["trainer.proto", "telemetry.proto"])
def test_a_changed_proto_is_noticed(tmp_path: pathlib.Path, name: str) -> None:
    shutil.copytree(ROOT / PROTO, tmp_path / PROTO)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "gen_proto.py", tmp_path / "scripts")
    assert check(tmp_path).returncode == 0
    with (tmp_path / PROTO / name).open("a", encoding="utf-8") as file:
        file.write("\nmessage AddedByTheTest { string name = 1; }\n")
    done = check(tmp_path)
    assert done.returncode == 1
    assert f"{pathlib.Path(name).stem}_pb2.py" in done.stderr


def test_pyproject_asks_for_what_the_generated_code_demands_at_import() -> None:
    demanded: dict[str, set[Version]] = {"grpcio": set(), "protobuf": set()}
    for path in (ROOT / PROTO).glob("*_pb2*.py"):
        text = path.read_text(encoding="utf-8")
        if found := re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", text):
            demanded["grpcio"].add(Version(found[1]))
        if found := re.search(r"Domain\.PUBLIC,\s*(\d+),\s*(\d+),\s*(\d+)", text):
            demanded["protobuf"].add(Version(".".join(found.groups())))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {wanted.name: wanted for wanted in map(Requirement, project["dependencies"])}
    for name, versions in demanded.items():
        (version,) = versions
        lowest = {Version(part.version) for part in asked[name].specifier if part.operator == ">="}
        assert lowest == {version}, f"{name}: the generated code was made with {version}"
