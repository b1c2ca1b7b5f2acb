"""Where the page is told that an episode and a step of it stand, in tables that are arranged too."""

from __future__ import annotations

import types
from typing import Any

import pytest

from live_telemetry_widget import frames, lens, normalize
from live_telemetry_widget.view import questions
from live_telemetry_widget.view.rows_question import Arrangements


@pytest.fixture(params=["whole", "lens"])
def view(request: pytest.FixtureRequest) -> types.SimpleNamespace:
    """Return a view of five episodes of ten steps of each of two agents; or of the second agent alone."""
    held = frames.RunFrames("r")
    events = [
        {"episode": e, "step_index": i, "agent_id": agent, "reward": float(i % 5), "terminated": i == 9}
        for e in range(5)
        for i in range(10)
        for agent in ("a", "b")
    ]
    held.append_steps(normalize.steps_from_events(events).batch)
    whole = request.param == "whole"
    return types.SimpleNamespace(
        frames=held if whole else lens.AgentFrames(held, "b"), arrangements=Arrangements(), whole=whole
    )


def find(view: Any, **fields: Any) -> list[int | None]:
    """Return the row of each episode that is found."""
    message, _ = questions.answer(view, {"kind": "ask_find", "version": 2, "id": 1, "agent": "b", **fields})
    assert message["kind"] == "answer", message
    assert not message["more"]  # type: ignore[typeddict-item]
    return [one["row"] for one in message["found"]]  # type: ignore[typeddict-item]


def test_a_step_stands_where_it_came(view: types.SimpleNamespace) -> None:
    # Those of the first agent come before, for they are of one batch.
    assert find(view, episode=2, step=4) == [2 * 10 + 4 + (50 if view.whole else 0)]
    assert find(view, episode=2, step=99) == [None]
    assert find(view, episode=99) == []


def test_in_an_arrangement_it_stands_among_what_is_there(view: types.SimpleNamespace) -> None:
    arranged = {"table": "steps", "where": "agent_id == 'b' and reward == 3"}
    # Of each episode steps 3 and 8.
    assert find(view, episode=2, step=8, **arranged) == [5]
    assert find(view, episode=2, step=4, **arranged) == [5], "the next one that is there"
    assert find(view, episode=2, step=9, **arranged) == [5], "or else the one before"
    assert find(view, episode=2, **arranged) == [4]
    assert find(view, episode=2, table="steps", where="episode == 1") == [None]
    assert find(view, episode=2, step=8, **arranged, sort="episode", descending=True) == [5]
    assert find(view, episode=0, step=8, **arranged, sort="episode", descending=True) == [9]


def test_an_episode_stands_in_the_arrangement_of_episodes(view: types.SimpleNamespace) -> None:
    arranged = {"table": "episodes", "where": "agent_id == 'b' and episode != 1"}
    assert find(view, episode=3, **arranged) == [2]
    assert find(view, episode=1, **arranged) == [None]
    assert find(view, episode=3, **arranged, sort="episode", descending=True) == [1]
