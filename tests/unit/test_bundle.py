"""What hosts ask of an anywidget's script: a default export, and no hold on the page beyond the element that it is given."""

from __future__ import annotations

import pathlib
import re

import pytest

from live_telemetry_widget.view import widget

STATIC = pathlib.Path(widget.__file__).parent / "static"
#: Nothing of this needs a policy's leave, reaches the network, or is seen by another script of the page.
FORBIDDEN = {
    "eval": r"\beval\s*\(|\bnew Function\b|\bFunction\s*\(\s*[\"'`]|set(?:Timeout|Interval)\s*\(\s*[\"'`]",
    "network": r"(?<![.\w])(?<!async )fetch\s*\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts|\bimport\s*\(|new Image\b|new Worker\b",
    "storage": r"localStorage|sessionStorage|indexedDB|document\.cookie",
    "globals": r"\b(?:window|globalThis|self|top|parent)(?:\.\w+|\[[^\]]+\])\s*=(?!=)",
    "writing": r"document\.write|insertAdjacentHTML|outerHTML|createContextualFragment|srcdoc|DOMParser",
    "styles": r"createElement\([\"'`]style|setAttribute\([\"'`](?:style|on)",
}


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_the_script_does_nothing_that_a_strict_host_forbids(kind: str) -> None:
    script = (STATIC / "widget.js").read_text(encoding="utf-8")
    assert re.findall(f".{{0,40}}(?:{FORBIDDEN[kind]}).{{0,40}}", script) == []


def test_html_is_parsed_only_where_the_table_makes_itself() -> None:
    script = (STATIC / "widget.js").read_text(encoding="utf-8")
    made = re.findall(r"innerHTML\s*=\s*(.{12})", script)
    # regular-table's empty table, and its frame, a constant.
    assert len(made) == 2
    assert sum("<table" in text for text in made) == 1


def test_no_address_is_named_but_that_of_svg() -> None:
    for name in ("widget.js", "widget.css"):
        text = (STATIC / name).read_text(encoding="utf-8")
        assert set(re.findall(r"(?:https?|wss?|ftp):?//[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"@import|url\((?!\"?data:)", text) or name == "widget.js"


def test_what_a_host_calls_is_exported() -> None:
    script = (STATIC / "widget.js").read_text(encoding="utf-8")
    assert re.search(r"export\s*\{[^}]*\bas default\b", script)
    assert re.search(r"\binitialize\s*\(\s*\{\s*model\b", script)
    assert re.search(r"\brender\s*\(\s*\{\s*model\b[^}]*\bel\b", script)
    # One file: a host may load it from a blob, which has no neighbours.
    assert not re.search(r"\bimport\s*[\"'`{*]|\bfrom\s*[\"'`]\.", script)
