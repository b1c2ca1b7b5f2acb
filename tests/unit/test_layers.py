"""Rooms import in one direction (docs/decisions/0001-shape.md), and each foreign library is known to few of them."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = "live_telemetry_widget"
SOURCES = ROOT / "src" / PACKAGE
DECISION = ROOT / "docs" / "decisions" / "0001-shape.md"

#: What stands further down may import what stands further up, never the other way. A room (a module, or a package with
#: all its modules) imports from its own level only itself and what NEIGHBOURS allows.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors", "schema", "_version", "_names", "_plain", "_flock", "_ulid", "_json", "_turns"),
    (
        "proto",
        "bus",
        "grids",
        "_further",
        "_arrow",
        "_columns",
        "_expression",
        "_chunks",
        "_database",
        "_episode",
        "_gaps",
        "_spill",
        "_packed",
        "_unpacked",
        "_straight",
        "_rows",
        "_summaries",
        "_stretches",
        "_credit",
        "_messages",
        "_lock",
    ),
    ("normalize", "batches", "store", "client", "query", "decode", "gridpaint", "curves"),
    ("frames", "worker", "daemon", "exports"),
    (
        "feed",
        "lens",
        "slices",
        "lazy",
        "roster",
        "minari_files",
        "_follow",
        "hub",
        "recorder",
        "controls",
        "gymnasium",
        "pettingzoo",
        "sb3",
    ),
    ("about", "progress", "stats", "exchange", "bridge", "report", "view"),
    ("live", "run"),
    (
        "session",
        "watch",
        "embedded",
        "listing",
        "commands",
        "report_command",
        "deliver_command",
        "cli",
        "__main__",
        "__init__",
    ),
)
#: (importer, imported) on one level.
NEIGHBOURS = {
    ("_rows", "_arrow"),
    ("_rows", "_packed"),
    ("_rows", "_straight"),
    ("_columns", "_straight"),
    ("_summaries", "_arrow"),
    ("_rows", "_spill"),
    ("_gaps", "_episode"),
    ("_chunks", "_arrow"),
    ("client", "batches"),
    ("hub", "feed"),
    ("hub", "_follow"),
    ("_follow", "feed"),
    ("_follow", "roster"),
    ("roster", "feed"),
    ("recorder", "feed"),
    ("controls", "feed"),
    ("controls", "hub"),
    ("run", "live"),
    ("report", "view"),
    ("session", "watch"),
    ("cli", "embedded"),
    ("cli", "commands"),
    ("cli", "report_command"),
    ("cli", "deliver_command"),
    ("deliver_command", "commands"),
    ("report_command", "session"),
    ("commands", "listing"),
    ("__main__", "cli"),
    ("__init__", "_version"),
}

#: Who may import a library that shapes what is written around it. Types alone (TYPE_CHECKING) are free.
ONLY = {
    "anywidget": {"view"},
    "gymnasium": {"gymnasium", "minari_files", "worker"},
    "grpc": {"_messages", "client", "daemon", "proto", "worker"},
    "pettingzoo": {"pettingzoo"},
    "stable_baselines3": {"sb3"},
    "pandas": {"_columns", "about", "decode", "report", "run", "session", "slices"},
    "PIL": {"gridpaint", "report", "worker"},
    "minari": {"minari_files"},
    "plotly": {"report", "session"},
    "sqlite3": {"_database", "daemon"},
    "traitlets": {"view"},
}


class Import(NamedTuple):
    """One import statement of one name."""

    room: str
    module: str
    place: str


def imports_of(tree: ast.AST) -> list[tuple[str, int]]:
    """Return (dotted name, line) of all that is imported at run time, within functions too."""
    found: list[tuple[str, int]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for other in node.orelse:
                found += imports_of(ast.Module([other], []))
        elif isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the room"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        else:
            found += imports_of(node)
    return found


def room_of(path: pathlib.Path) -> str:
    """Return the name of the room that a file is in."""
    return path.relative_to(SOURCES).parts[0].removesuffix(".py")


def all_imports() -> list[Import]:
    """Return every import of the package, generated code apart."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        if "_pb2" in path.name:
            continue
        for module, line in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
            found.append(Import(room_of(path), module, f"{path.relative_to(ROOT)}:{line}"))
    return found


IMPORTS = all_imports()
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}


def test_every_room_has_a_level() -> None:
    rooms = {room_of(path) for path in SOURCES.rglob("*.py")}
    assert rooms <= set(LEVEL), f"give {sorted(rooms - set(LEVEL))} a level here and in {DECISION.name}"


def test_imports_go_one_way() -> None:
    wrong = []
    for room, module, place in IMPORTS:
        package, _, rest = module.partition(".")
        if package != PACKAGE:
            continue
        imported = rest.split(".")[0]
        if imported not in LEVEL:
            imported = "__init__"
        below = LEVEL[imported] < LEVEL[room]
        if not (below or imported == room or (room, imported) in NEIGHBOURS):
            wrong.append(f"{place}: {room} (level {LEVEL[room]}) imports {imported} (level {LEVEL[imported]})")
    assert not wrong, "\n".join(wrong)


def test_libraries_are_known_to_few_rooms() -> None:
    wrong = [
        f"{place}: {room} imports {module}; only {sorted(ONLY[library])} may import {library}"
        for room, module, place in IMPORTS
        if room not in ONLY.get(library := module.split(".")[0], {room})
    ]
    assert not wrong, "\n".join(wrong)


def test_the_decision_tells_the_levels_that_are_held() -> None:
    told = {}
    for line in DECISION.read_text(encoding="utf-8").splitlines():
        if row := re.match(r"\|\s*(\d+)\s*\|([^|]*)\|", line):
            for name in re.findall(r"`([\w/]+)`", row[2]):
                told[name.strip("/")] = int(row[1])
    assert len(told) > len(LEVELS), "the table of rooms was not found"
    differ = {name: (level, LEVEL[name]) for name, level in told.items() if LEVEL.get(name, level) != level}
    assert not differ, f"room: (level in {DECISION.name}, level held here): {differ}"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        # A worker is somebody's training process: it must not pay for a viewer.
        ("worker.demo", {"pyarrow", "pandas", "grpc", "anywidget", "plotly"}),
        ("worker.emitter", {"numpy", "pyarrow", "pandas", "grpc", "anywidget", "plotly"}),
        ("worker.proxy", {"pandas", "anywidget", "plotly", "IPython"}),
        ("daemon.server", {"pandas", "anywidget", "plotly", "IPython"}),
        ("cli", {"pyarrow", "pandas", "grpc", "anywidget", "plotly"}),
    ],
)
def test_what_does_not_show_anything_does_not_load_what_shows(module: str, heavy: set[str]) -> None:
    code = f"import sys, {PACKAGE}.{module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
