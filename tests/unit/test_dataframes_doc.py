"""The examples of docs/dataframes.md run, one after the other, as somebody who reads it would run them."""

from __future__ import annotations

import pathlib
import re
from typing import TYPE_CHECKING, Any

import live_telemetry_widget as ltw
from tests.support.runs import played, run_of

if TYPE_CHECKING:
    import pytest

DOC = pathlib.Path(__file__).parents[2] / "docs" / "dataframes.md"


def test_examples_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 7
    monkeypatch.chdir(tmp_path)
    events = played("--env", "Taxi", "--episodes", "6", "--max-steps", "30")
    for run_id in ("a", "b"):
        with run_of(events, run_id) as run:
            run.export(f"{run_id}.parquet")
    with run_of(events) as run, ltw.open(tmp_path) as client:
        names: dict[str, Any] = {"run": run, "client": client}
        for block in blocks:
            exec(compile(block, str(DOC), "exec"), names)  # noqa: S102 - our own documentation
    assert {path.name for path in tmp_path.iterdir()} >= {"taxi.parquet", "taxi.episodes.parquet", "taxi", "taxi-v0"}
