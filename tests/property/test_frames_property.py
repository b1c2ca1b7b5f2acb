"""Whatever the order, the overlap and the poverty of the copies, the frames hold what was published."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_telemetry_widget import _columns, _rows, normalize
from live_telemetry_widget.decode import StepFrame
from live_telemetry_widget.frames import Cursor, RunFrames

OPTIONAL = ("observation", "epsilon", "q", "episode_seed", "policy_label", "render_payload")


def published(streams: int, episodes: int, length: int) -> list[dict[str, Any]]:
    """Return a sound run: interleaved agents and workers, every optional field filled."""
    return [
        {
            "worker_id": f"w{stream % 2}",
            "agent_id": f"a{stream // 2}",
            "episode": episode,
            "step_index": step,
            "reward": float(step),
            "terminated": step == length - 1,
            "action": step % 4,
            "observation": {"at": step},
            "epsilon": step / 8,
            "q": [step, 0.5],
            "episode_seed": episode,
            "policy_label": "greedy",
            "render_payload": {"mode": "grid", "n": step},
        }
        for episode in range(episodes)
        for step in range(length)
        for stream in range(streams)
    ]


def key(event: dict[str, Any]) -> tuple[str, str, int, int]:
    return event["worker_id"], event["agent_id"], event["episode"], event["step_index"]


def ended(frames: RunFrames) -> list[int]:
    """Return how many episodes of each agent of each worker have ended, as the table says."""
    rows = frames.episodes_table().to_pylist()
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        counts.setdefault((row["worker_id"], row["agent_id"]), 0)
        counts[row["worker_id"], row["agent_id"]] += row["outcome"] != "Running"
    return sorted(counts.values())


@settings(max_examples=150, deadline=None)
@given(data=st.data(), streams=st.integers(1, 4), episodes=st.integers(1, 4), length=st.integers(1, 12))
def test_any_history_of_copies_gives_the_published_run(
    data: st.DataObject, streams: int, episodes: int, length: int
) -> None:
    events = published(streams, episodes, length)
    indices = st.integers(0, len(events) - 1)
    frames = RunFrames("r")
    # Poor copies, in any order, with holes and repeats; deltas are read on the way as a page would.
    cursor, seen = Cursor(), 0
    for _ in range(data.draw(st.integers(0, 8))):
        start = data.draw(indices)
        part = events[start : start + data.draw(st.integers(1, 30))]
        lacks = data.draw(st.sets(st.sampled_from(OPTIONAL)))
        poor = [{name: value for name, value in event.items() if name not in lacks} for event in part]
        frames.append_steps(normalize.steps_from_events(poor).batch)
        assert sorted(frames.ended_episodes()) == ended(frames)
        delta = frames.since(cursor, 10_000, 10_000)
        seen += delta.steps.num_rows
        cursor = delta.cursor
    # In the end everything has come once, whole, in some order.
    for event in data.draw(st.permutations(events)) if len(events) <= 24 else reversed(events):
        frames.append_steps(normalize.steps_from_events([event]).batch)
    seen += frames.since(cursor, 10_000, 10_000).steps.num_rows

    rows = frames.steps_table().to_pylist()
    assert seen == len(rows) == len(events) == frames.step_count
    wanted = normalize.steps_from_events(events).batch.to_pylist()
    by_key = {(w["worker_id"], w["agent_id"], w["episode"], w["step_index"]): w for w in wanted}
    assert {(r["worker_id"], r["agent_id"], r["episode"], r["step_index"]): r for r in rows} == by_key
    for episode in frames.episodes().to_dict("records"):
        assert episode["steps"] == length
        assert episode["total_reward"] == sum(range(length))
        assert episode["complete"]
        found = frames.find(episode["episode"], episode["agent_id"], episode["worker_id"])
        assert frames.episode_table(found).column("step_index").to_pylist() == list(range(length))
    assert not frames.problems()


VALUES = {
    "a whole number": st.integers(-(2**63), 2**63 - 1) | st.none(),
    "a number": st.sampled_from([-0.0, 0.0, 0.1, float("inf")]) | st.none(),
    "either": st.sampled_from([0.5, 2**60 + 1, 3]) | st.none(),
    "a flag": st.booleans() | st.none(),
    "a word": st.sampled_from(["", "left", "right"]) | st.none(),
    "anything": st.sampled_from([1, "1", None, [1], {"a": None}]),
}
ACTIONS = st.sampled_from([[0, 1], [0, 0.5], ["up", "down"], [[1], None], [None]])


@settings(max_examples=25, deadline=None)
@given(data=st.data(), streams=st.integers(1, 3), lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_the_steps_as_a_frame_are_those_of_the_table_in_the_order_of_the_episodes(
    data: st.DataObject, streams: int, lengths: list[int]
) -> None:
    actions = data.draw(ACTIONS)
    names = data.draw(st.lists(st.sampled_from([*VALUES]), max_size=3, unique=True))
    events = [
        {
            "agent_id": f"a{stream}",
            "episode": episode,
            "step_index": step,
            "reward": data.draw(st.sampled_from([0.0, -0.0, 1.0])),
            "action": data.draw(st.sampled_from(actions)),
            "ts_unix_ns": data.draw(st.integers(1, 2**62)),
            **{name: value for name in names if (value := data.draw(VALUES[name])) is not None},
        }
        for episode, length in enumerate(lengths)
        for step in range(length)
        for stream in range(streams)
    ]
    if data.draw(st.booleans()):
        events = data.draw(st.permutations(events))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rows, "_CHUNK_ROWS", 16)  # some are packed, some not
        frames = RunFrames("r")
        at = 0
        while at < len(events):
            count = data.draw(st.integers(1, 20))
            frames.append_steps(normalize.steps_from_events(events[at : at + count]).batch)
            at += count
    table = frames.steps_table()
    by_table = _columns.to_frame(table, ("action",), StepFrame)
    pd.testing.assert_frame_equal(frames.steps(), by_table, check_exact=True)
    # Zeros compare equal whatever their sign.
    assert frames.steps()["reward"].to_numpy().tobytes() == by_table["reward"].to_numpy().tobytes()
    ordered = sorted(frames.episodes_table().to_pylist(), key=lambda row: (row["agent_id"], row["episode"]))
    for agent in {row["agent_id"] for row in ordered}:
        rows = [row for row in table.to_pylist() if row["agent_id"] == agent]
        assert [(row["episode"], row["step_index"]) for row in rows] == sorted(
            (event["episode"], event["step_index"]) for event in events if event["agent_id"] == agent
        )
    # Of whole columns: a further one may have another type in each part.
    names = ["agent_id", "episode", "step_index", "reward"]
    parts = [frames.episode_table([episode]).select(names).to_pylist() for episode in frames._by_number()]
    assert [row for part in parts for row in part] == table.select(names).to_pylist()
    frames.steps().loc[:, "reward"] = 7.0  # memory of its own
    assert frames.rows(0, 1).column("reward")[0].as_py() != 7.0
