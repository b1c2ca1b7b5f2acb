"""What is committed works on anybody's machine: no hosts, no paths of ours, and commands that exist."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[2]
BINARY = {".png", ".gz", ".arrow", ".ico", ".woff2"}
#: Hosts that may be named. A registry is none of them: whoever installs has their own.
HOSTS = {
    "127.0.0.1",
    "localhost",
    "example.com",
    "canary.invalid",  # in texts of tests that nobody may follow
    "github.com",
    "opencollective.com",  # package-lock.json tells who takes donations
    "tidelift.com",  # as above
    "www.w3.org",  # SVG's name space
    "keepachangelog.com",
    "semver.org",
    "anywidget.dev",
    "json-schema.org",
    "gymnasium.farama.org",
}
#: Where a machine of ours keeps things. (Cut in two, so that this file is not found by its own test.)
OURS = [f"/{name}/" for name in ("wo" + "rk", "ro" + "ot", "ho" + "me")]


def tracked() -> list[pathlib.Path]:
    """Return what is committed or is about to be."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in tracked()
    if path.suffix not in BINARY
}
MANUALS = [name for name in ("README.md", "CONTRIBUTING.md") if name in TEXTS]


def test_the_repository_was_read() -> None:
    assert {"pyproject.toml", "js/package-lock.json", "Makefile", ".ci/run", "tests/unit/test_repo.py"} <= set(TEXTS)


def test_no_file_names_a_registry_or_another_host() -> None:
    named = [
        f"{name}: {host}"
        for name, text in TEXTS.items()
        for host in re.findall(r"(?:https?|wss?|git\+ssh|git)://(?:[^/\s@\"'<>]*@)?([\w.-]*\w)", text.replace("\\", ""))
        if host not in HOSTS
    ]
    assert not named, "\n".join(named)


def test_no_file_names_a_path_of_one_machine() -> None:
    named = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in TEXTS.items()
        for number, line in enumerate(text.splitlines(), 1)
        if any(re.search(rf"(?<![\w.}}*-]){re.escape(path)}", line) for path in OURS)
    ]
    assert not named, "\n".join(named)


def test_the_lock_file_holds_versions_and_hashes_but_no_addresses() -> None:
    lock = json.loads(TEXTS["js/package-lock.json"])
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert len(packages) > 10
    assert not [name for name, entry in packages.items() if "resolved" in entry]
    assert not [name for name, entry in packages.items() if not entry.get("integrity")]
    wanted = json.loads(TEXTS["js/package.json"])
    for name, version in (wanted["dependencies"] | wanted["devDependencies"]).items():
        assert packages[f"node_modules/{name}"]["version"] == version, f"{name} is not pinned as locked"


def test_every_dependency_is_pinned_once() -> None:
    lines = TEXTS["constraints.txt"].splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.!+]+", line) for line in lines)
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    project = tomllib.loads(TEXTS["pyproject.toml"])["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    for wanted in map(Requirement, asked):
        name = canonicalize_name(wanted.name)
        assert name in pins, f"{name} is not in constraints.txt"
        assert wanted.specifier.contains(pins[name]), f"constraints.txt has {name}=={pins[name]}, but: {wanted}"


def test_make_help_lists_every_target() -> None:
    text = TEXTS["Makefile"]
    phony = {name for line in re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE) for name in line.split()}
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line.split()[0] for line in done.stdout.splitlines()} == phony


@pytest.mark.parametrize("name", MANUALS)
def test_commands_in_the_manuals_exist(name: str) -> None:
    text = TEXTS[name]
    code = "\n".join(re.findall(r"```.*?\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text))
    targets = set(re.findall(r"^([a-z0-9-]+):", TEXTS["Makefile"], re.MULTILINE))
    scripts = json.loads(TEXTS["js/package.json"])["scripts"]
    assert set(re.findall(r"\bmake ([a-z0-9-]+)", code)) <= targets
    assert set(re.findall(r"\bnpm run ([a-z:-]+)", code)) <= set(scripts)
    paths = re.findall(r"(?<![\w./-])((?:scripts|tests|docs|js|src|notebooks|benchmarks)/[\w./-]+)", code)
    missing = [path for path in paths if not (ROOT / path.rstrip("/.")).exists()]
    assert not missing, f"{name} names what does not exist"


def test_pictures_of_states_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images" / "states").glob("*.png")}
    assert len(sizes) >= 20
    assert not {name: size for name, size in sizes.items() if size > 40_000}


@pytest.mark.parametrize("name", sorted(name for name in TEXTS if name.endswith(".md")))
def test_links_between_documents_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", TEXTS[name])
    missing = [link for link in links if "://" not in link and not ((ROOT / name).parent / link).exists()]
    assert not missing


def test_what_is_started_can_be_executed() -> None:
    for name, text in TEXTS.items():
        if text.startswith("#!"):
            assert os.access(ROOT / name, os.X_OK), f"{name} has a #! line and is not executable"
    assert TEXTS[".ci/run"].splitlines()[-1] == "exec make test"


@pytest.mark.parametrize("name", sorted(name for name in TEXTS if name.endswith(".ipynb")))
def test_notebooks_are_short_and_committed_without_outputs(name: str) -> None:
    notebook = json.loads(TEXTS[name])
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) <= 10
    assert not [cell["id"] for cell in cells if cell["outputs"] or cell["execution_count"] is not None]


def test_text_files_end_with_one_newline_and_have_no_carriage_returns() -> None:
    generated = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
    assert not [name for name, text in TEXTS.items() if "\r" in text]
    wrong = [
        name
        for name, text in TEXTS.items()
        if text and not name.endswith((*generated, ".ipynb")) and (not text.endswith("\n") or text.endswith("\n\n"))
    ]
    assert not wrong


def test_every_kind_of_problem_is_explained() -> None:
    made = re.compile(r'(?:Problem|_count)\(\s*"([a-z_]+)"|problems\["([a-z_]+)"\]|otherwise(?:: str)? ?= ?"([a-z_]+)"')
    kinds = {
        next(filter(None, found)) for path in (ROOT / "src").rglob("*.py") for found in made.findall(path.read_text())
    }
    told = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "problems.md").read_text()))
    assert len(kinds) > 20
    assert kinds <= told, f"docs/problems.md does not say what {sorted(kinds - told)} mean"
