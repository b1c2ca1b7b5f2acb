"""The examples of docs/reports.md run, one after the other, as somebody who reads it would run them."""

from __future__ import annotations

import pathlib
import re
from typing import TYPE_CHECKING, Any

from tests.support.runs import played, run_of

if TYPE_CHECKING:
    import pytest

DOC = pathlib.Path(__file__).parents[2] / "docs" / "reports.md"


def test_examples_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    monkeypatch.chdir(tmp_path)
    events = played("--env", "FrozenLake-v1", "--episodes", "8")
    # One that has failed, in few steps.
    lost = {"type": "step", "episode": 99, "step_index": 0, "reward": -1.0, "terminated": True}
    with run_of([*events, {**lost, "agent_id": events[1]["agent_id"]}]) as run:
        names: dict[str, Any] = {"run": run}
        for block in blocks:
            exec(compile(block, str(DOC), "exec"), names)  # noqa: S102 - our own documentation
    want = {"report.html", "failures.html", "small.html", "mail.html", "episode.gif"}
    assert {path.name for path in tmp_path.iterdir()} >= want
