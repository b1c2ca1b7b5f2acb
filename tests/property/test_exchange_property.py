"""What goes out of a run into files comes back as the same values."""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pyarrow as pa
import pyarrow.csv
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import live_telemetry_widget as ltw
from live_telemetry_widget import exchange, normalize
from live_telemetry_widget.frames import RunFrames
from live_telemetry_widget.store import RunRow

LIMITS = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Not so large that an episode's sum could overflow.
floats = st.floats(-1e300, 1e300)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
step = st.fixed_dictionaries(
    {"reward": floats, "action": anything, "observation": anything},
    optional={
        "epsilon": floats | st.integers(-(2**62), 2**62),
        "note": texts,
        "q": st.lists(floats, max_size=3),
        "flag": st.booleans(),
        "mixed": anything,
    },
)
runs = st.lists(st.lists(step, min_size=1, max_size=4), min_size=1, max_size=4)


def events_of(episodes: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    events = []
    for number, steps in enumerate(episodes):
        seed = {"episode_seed": 2**64 - 1 - number} if number % 2 else {}
        for at, held in enumerate(steps):
            events.append(
                {
                    "type": "step",
                    "episode": number,
                    "step_index": at,
                    "terminated": at == len(steps) - 1,
                    **seed,
                    **held,
                }
            )
    return events


def frames_of(events: list[dict[str, Any]], at_once: int = 3) -> RunFrames:
    frames = RunFrames("r")
    for first in range(0, len(events), at_once):
        frames.append_steps(normalize.steps_from_events(events[first : first + at_once], run_id="r").batch)
    episodes: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        episodes.setdefault(event["episode"], []).append(event)
    records = [
        {"type": "episode", "episode": n, "total_reward": math.fsum(e["reward"] for e in held), "steps": len(held)}
        for n, held in episodes.items()
    ]
    frames.append_episodes(normalize.episodes_from_events(records, run_id="r").batch)
    return frames


def plain(table: pa.Table) -> dict[str, list[Any]]:
    """Return the columns that hold anything, labels as texts."""
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.cast(pa.string()).to_pylist() if pa.types.is_dictionary(column.type) else column.to_pylist()
        if any(value is not None for value in values):
            found[name] = values
    return found


@LIMITS
@given(runs, st.sampled_from(["parquet", "arrow"]))
def test_lines_to_frames_to_a_table_to_frames(episodes: list[list[dict[str, Any]]], form: str) -> None:
    lines = [json.dumps(event) for event in events_of(episodes)]
    frames = frames_of([json.loads(line) for line in lines])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"run.{form}")
        written = exchange.export(frames, RunRow("r", 7), path)
        assert (written.steps, written.episodes) == (len(lines), len(episodes))
        with ltw.open(path) as recording:
            again = recording.run("r")
            assert plain(again.steps_arrow) == plain(frames.steps_table())
            assert plain(again.episodes_arrow) == plain(frames.episodes_table())


@LIMITS
@given(runs)
def test_lines_to_frames_to_lines(episodes: list[list[dict[str, Any]]]) -> None:
    frames = frames_of(events_of(episodes))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.jsonl")
        exchange.export(frames, RunRow("r", 7), path)
        told = [json.loads(line) for line in path.read_bytes().splitlines()]
    again = frames_of([event for event in told if event["type"] == "step"])
    assert plain(again.steps_table()) == plain(frames.steps_table())


@LIMITS
@given(runs)
def test_a_csv_has_every_value(episodes: list[list[dict[str, Any]]]) -> None:
    frames = frames_of(events_of(episodes))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.csv")
        exchange.export(frames, RunRow("r", 7), path)
        held = frames.rows(0, frames.step_count)
        convert = pyarrow.csv.ConvertOptions(
            column_types={
                "observation": pa.string(),
                "action": pa.string(),
                "reward": pa.float64(),
                "note": pa.string(),
            },
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        read = pyarrow.csv.read_csv(path, convert_options=convert, parse_options=options)
    assert read.column_names == held.column_names
    for name in ("episode", "step_index", "reward", "action", "observation", "terminated"):
        assert read.column(name).to_pylist() == held.column(name).to_pylist(), name


seen = st.one_of(
    st.tuples(st.just(st.integers(-(2**62), 2**62)), st.just(st.integers(0, 5))),
    st.tuples(st.just(floats), st.just(st.lists(floats, min_size=2, max_size=2))),
    st.tuples(st.just(st.lists(floats, min_size=3, max_size=3)), st.just(st.integers(0, 5))),
    st.tuples(
        st.just(st.lists(st.lists(st.integers(0, 255), min_size=2, max_size=2), min_size=2, max_size=2)),
        st.just(st.integers(0, 5)),
    ),
    st.tuples(st.just(anything), st.just(anything)),
)


@st.composite
def offline_runs(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Draw a run whose observations and actions are of one kind each, as an environment's are."""
    observation, action = draw(seen)
    one = st.fixed_dictionaries(
        {"reward": floats, "observation": observation, "action": action, "next_observation": observation}
    )
    return draw(st.lists(st.lists(one, min_size=1, max_size=4), min_size=1, max_size=3))


@LIMITS
@given(offline_runs())
@example([[{"reward": 0.0, "observation": [], "action": [], "next_observation": []}]])
def test_frames_to_minari_to_frames(episodes: list[list[dict[str, Any]]]) -> None:
    frames = frames_of(events_of(episodes))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "test", "lake-v0")
        written = exchange.export(frames, RunRow("r", 7), path, "minari")
        assert (written.steps, written.episodes, written.left_out) == (sum(map(len, episodes)), len(episodes), 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Minari's own, about itself
            dataset = minari.MinariDataset(path / "data")
            assert dataset.total_steps == written.steps
            again = list(dataset.iterate_episodes())
    events = []
    for number, (episode, steps) in enumerate(zip(again, episodes, strict=True)):
        observations, actions = (_values(part) for part in (episode.observations, episode.actions))
        assert len(observations) == len(steps) + 1
        last = steps[-1]["next_observation"]
        assert last is None or observations[-1] == last
        for at, (seen_, action, reward, terminated) in enumerate(
            zip(observations[:-1], actions, episode.rewards, episode.terminations, strict=True)
        ):
            event = {"type": "step", "episode": number, "step_index": at, "reward": float(reward)}
            events.append({**event, "observation": seen_, "action": action, "terminated": bool(terminated)})
    back, held = frames_of(events).steps_table(), frames.steps_table()
    for name in ("episode", "step_index", "reward", "terminated"):
        assert back.column(name).to_pylist() == held.column(name).to_pylist()
    for name in ("observation", "action"):
        # A whole number may come back as the float that it was put beside: 1 and 1.0 are one value.
        assert list(map(_read, back.column(name).to_pylist())) == list(map(_read, held.column(name).to_pylist()))


def _read(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _values(part: Any) -> list[Any]:
    return part.tolist() if isinstance(part, np.ndarray) else [json.loads(text) for text in part]
