"""Filtered and sorted views, followed as rows come: what a filter and a stable sort of everything give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_telemetry_widget import normalize
from live_telemetry_widget.errors import QueryError
from live_telemetry_widget.frames import RunFrames
from live_telemetry_widget.lens import AgentFrames
from live_telemetry_widget.view.arranged import Arranged, Wish

STEP = st.fixed_dictionaries(
    {"reward": st.sampled_from([-1.5, 0.0, 0.0, 2.0, 7.0]), "agent_id": st.sampled_from(["a", "b"])},
    optional={"mood": st.sampled_from(["zeal", "anger", "Äther", None]), "epsilon": st.sampled_from([0.1, 0.5, None])},
)
BATCHES = st.lists(st.lists(STEP, min_size=1, max_size=12), min_size=1, max_size=5)


def key(value: Any, *, descending: bool) -> tuple[bool, Any]:
    if isinstance(value, str):
        return (False, (*(-ord(c) for c in value), 1) if descending else value)
    return (True, 0) if value is None else (False, -value if descending else value)


@settings(max_examples=60, deadline=None)
@given(
    batches=BATCHES,
    where=st.sampled_from(["", "reward > -1"]),
    sort=st.sampled_from(["", "reward", "epsilon", "mood"]),
    descending=st.booleans(),
    one_agent=st.booleans(),
)
def test_steps_are_as_if_everything_were_sorted_at_once(
    *, batches: list[list[dict[str, Any]]], where: str, sort: str, descending: bool, one_agent: bool
) -> None:
    frames = RunFrames("r")
    first = {"episode": 0, "step_index": 0, "agent_id": "a", "reward": 0.0, "mood": "m", "epsilon": 0.3}
    frames.append_steps(normalize.steps_from_events([first]).batch)
    held, arranged = [first], None
    view = AgentFrames(frames, "a") if one_agent else frames
    for batch in batches:
        events = [{**step, "episode": 0, "step_index": len(held) + i} for i, step in enumerate(batch)]
        frames.append_steps(normalize.steps_from_events(events).batch)
        held += events
        arranged = arranged or Arranged(view, Wish("steps", where, sort, descending=descending))
        arranged.follow(10.0)
        mine = [e for e in held if not one_agent or e["agent_id"] == "a"]
        # The store brings interleaved agents of a batch together: numbers are those of the store.
        order = {
            (a, s): n
            for n, (a, s) in enumerate(
                zip(*(view.rows(0, 10_000).column(c).to_pylist() for c in ("agent_id", "step_index")), strict=True)
            )
        }
        mine.sort(key=lambda e: order[e["agent_id"], e["step_index"]])
        kept = [(n, e) for n, e in enumerate(mine) if not where or e["reward"] > -1]
        if sort:
            kept.sort(key=lambda pair: key(pair[1].get(sort), descending=descending))
        assert arranged.numbers(0, 10_000).tolist() == [n for n, _ in kept]
        assert arranged.total == len(kept)
        assert (arranged.scanned, arranged.of) == (len(mine), len(mine))
        for at, (number, _) in enumerate(kept):
            assert arranged.place(np.array([number])) == at


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 15), st.integers(-3, 3)), min_size=1, max_size=6), min_size=1, max_size=6
    ),
    st.sampled_from(["", "total_reward > 0", "outcome == 'Failed'"]),
    st.sampled_from(["", "total_reward", "outcome", "episode"]),
)
def test_episodes_move_when_they_change(rounds: list[list[tuple[int, int]]], where: str, sort: str) -> None:
    frames = RunFrames("r")
    arranged = None
    for number, changes in enumerate(rounds):
        for episode, reward in changes:
            event = {"episode": episode, "agent_id": "a", "reward": reward, "steps": number + 1, "terminated": True}
            frames.append_episodes(normalize.episodes_from_events([event]).batch)
        arranged = arranged or Arranged(frames, Wish("episodes", where, sort))
        arranged.follow(10.0)
        rows = frames.episode_rows(0, 100).to_pylist()
        if where:
            rows = [r for r in rows if (r["total_reward"] > 0 if "total" in where else r["outcome"] == "Failed")]
        if sort:
            rows.sort(key=lambda r: r[sort])
        assert arranged.numbers(0, 100).tolist() == [r["row"] for r in rows]


def test_what_cannot_be_asked_is_said_with_its_place() -> None:
    frames = RunFrames("r")
    frames.append_steps(normalize.steps_from_events([{"episode": 0, "step_index": 0, "reward": 1.0}]).batch)
    with pytest.raises(QueryError, match="did you mean 'reward'") as caught:
        Arranged(frames, Wish("steps", "1 < rewrd"))
    assert caught.value.position == 4
    with pytest.raises(QueryError, match="no column 'mood' to sort by"):
        Arranged(frames, Wish("steps", "", "mood"))


def test_a_question_looks_at_a_slice_and_says_how_far_it_got() -> None:
    frames = RunFrames("r")
    events = [{"episode": 0, "step_index": i, "reward": float(i % 2)} for i in range(70_000)]
    frames.append_steps(normalize.steps_from_events(events).batch)
    arranged = Arranged(frames, Wish("steps", "reward > 0"))
    seen = []
    while arranged.scanned < 70_000:
        arranged.follow(0.0)
        seen.append((arranged.scanned, arranged.total, arranged.of))
    assert len(seen) > 1
    assert seen[0] == (32_768, 16_384, 70_000)
    assert seen[-1] == (70_000, 35_000, 70_000)
