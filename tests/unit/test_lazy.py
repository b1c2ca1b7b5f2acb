"""Frames and streams in the hands of polars and DuckDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget import normalize
from live_telemetry_widget.errors import QueryError, RecordingError
from live_telemetry_widget.store import RunRow, Store
from tests.support.runs import run_of

if TYPE_CHECKING:
    import pathlib


def steps_of(first: int, count: int, **further: Any) -> pa.RecordBatch:
    events = [
        {
            "type": "step",
            "episode": i // 10,
            "step_index": i % 10,
            "reward": float(i),
            "agent_id": f"a{i % 2}",
            **further,
        }
        for i in range(first, first + count)
    ]
    return normalize.steps_from_events(events, run_id="r").batch


@pytest.fixture
def recording(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a recording of 100 steps in chunks that differ in their further columns, of a run that has ended."""
    with Store.open(tmp_path) as store:
        store.commit([], [RunRow("r", 7, created_at=1)])
        store.append("r", "steps", [steps_of(0, 40, epsilon=1)])
        store.append("r", "steps", [steps_of(40, 40, epsilon=0.5, note="x")])
        store.append("r", "steps", [steps_of(80, 20)])
    return tmp_path


def test_tables_are_read_by_polars_and_by_duckdb_by_name(sample_events: list[dict[str, Any]]) -> None:
    with run_of(sample_events) as run:
        steps, episodes = run.steps_arrow, run.episodes_arrow
        frames = run.steps, run.episodes
    polars = pl.DataFrame(pl.from_arrow(steps))
    assert polars["reward"].to_list() == steps["reward"].to_pylist()
    assert polars.schema["timestamp"] == pl.Datetime("ns", "UTC")
    joined = duckdb.sql(
        "SELECT e.episode, any_value(e.steps), count(*) FROM steps s JOIN episodes e USING (worker_id, agent_id, episode) GROUP BY ALL"
    ).fetchall()
    assert len(joined) == 150
    assert all(said == counted for _, said, counted in joined)
    for frame, table in zip(frames, (steps, episodes), strict=True):  # DataFrames are streams of Arrow's as well
        read = pl.DataFrame(frame)
        assert read.shape == (table.num_rows, table.num_columns)


def test_a_recording_is_read_without_loading_it(recording: pathlib.Path) -> None:
    with ltw.open(recording) as opened:
        run = opened.run("r")
        lazy = run.lazy_steps()
        assert duckdb.sql("SELECT count(*), sum(reward), sum(epsilon) FROM lazy").fetchall() == [(100, 4950.0, 60.0)]
        assert duckdb.sql("SELECT count(note) FROM lazy").fetchall() == [(40,)]  # once more: it begins anew
        frame = lazy.to_polars()
        got = frame.filter((pl.col("episode") == 4) & (pl.col("agent_id") == "a1")).select("reward").collect()
        assert got["reward"].to_list() == [41.0, 43.0, 45.0, 47.0, 49.0]
        assert frame.head(3).collect()["reward"].to_list() == [0.0, 1.0, 2.0]
        assert frame.select(pl.len()).collect().item() == 100
        assert not run._recorded.read_all  # type: ignore[attr-defined]
        table = pa.table(lazy)
        assert table.column("epsilon").to_pylist() == [1.0] * 40 + [0.5] * 40 + [None] * 20
        # The same rows and values as by the way through memory.
        names = ["episode", "step_index", "reward", "epsilon", "note"]
        held = run.steps_arrow.sort_by([("episode", "ascending"), ("step_index", "ascending")])
        assert table.select(names) == held.select(names)


def test_columns_and_rows_are_chosen_while_reading(recording: pathlib.Path) -> None:
    with ltw.open(recording) as opened:
        lazy = opened.run("r").lazy_steps()
        found = lazy.reader(["reward", "episode"], where="epsilon < 1 and agent_id == 'a0' and reward > 70").read_all()
        assert found.to_pydict() == {"reward": [72.0, 74.0, 76.0, 78.0], "episode": [7, 7, 7, 7]}
        with pytest.raises(KeyError, match="there is no column 'rewards'"):
            lazy.reader(["rewards"])
        with pytest.raises(QueryError, match="did you mean 'reward'"):
            lazy.reader(where="rewards > 1")


def test_a_run_that_is_followed_is_read_as_it_stands(sample_events: list[dict[str, Any]]) -> None:
    with run_of(sample_events) as run:
        lazy = run.lazy_steps()
        assert pa.table(lazy).select(["episode", "state"]) == run.steps_arrow.select(["episode", "state"])
        assert "LazySteps of run 'r'" in repr(lazy)


def test_numbers_that_fit_no_type_are_told_of(tmp_path: pathlib.Path) -> None:
    with Store.open(tmp_path) as store:
        store.commit([], [RunRow("r", 7, created_at=1)])
        store.append("r", "steps", [steps_of(0, 1, big=2**60 + 1)])
        store.append("r", "steps", [steps_of(1, 1, big=0.5)])
    with ltw.open(tmp_path) as opened:
        lazy = opened.run("r").lazy_steps()
        with pytest.raises(RecordingError, match="leave it out with columns="):
            lazy.reader().read_all()
        assert lazy.reader(["reward"]).read_all().num_rows == 2
