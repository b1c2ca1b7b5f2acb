"""Steps of a run as pictures: which game, where the agent came from, and what could not be drawn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from live_telemetry_widget import normalize
from live_telemetry_widget.client import RunDetails
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.view.artist import Artist

ROWS = ["SFFF", "FHFH", "FFFH", "HFFG"]


def payload(row: int, col: int) -> dict[str, Any]:
    return {"mode": "grid", "game_id": "FrozenLake-v1", "grid": ROWS, "agent_position": [row, col]}


def feed_of(*events: dict[str, Any], config: dict[str, Any] | None = None) -> RunFeed:
    feed = RunFeed("r", Link("live"))
    if config is not None:
        feed.details = RunDetails(json.dumps(config), 0, 0, ended=False)
    if events:
        feed.frames.append_steps(normalize.steps_from_events(events).batch)
    return feed


def steps(*places: tuple[int, int], episode: int = 3, agent: str = "a") -> list[dict[str, Any]]:
    return [
        {"episode": episode, "step_index": i, "agent_id": agent, "action": 1, "render_payload": payload(*at)}
        for i, at in enumerate(places)
    ]


def newest(feed: RunFeed) -> Any:
    return Artist(feed).newest(feed.frames, feed.frames.step_count)


def test_the_newest_step_is_drawn_with_the_way_that_led_there() -> None:
    grid = newest(feed_of(*steps((0, 0), (1, 0), (1, 0), (2, 0))))
    assert (grid["agent"], grid["action"], grid["caption"]) == ([2, 0], "down", "episode 3, step 3")
    assert grid["path"] == [[0, 0], [1, 0], [1, 0], [2, 0]]


def test_a_way_is_of_one_episode_of_one_agent_and_ends_at_a_gap() -> None:
    other = steps((3, 3), (3, 2), agent="b")
    before = steps((2, 2), episode=2)
    mine = steps((0, 0), (0, 1), (0, 2), (1, 2))
    del mine[1]
    assert newest(feed_of(*before, *other, *mine))["path"] == [[0, 2], [1, 2]]


def test_a_step_that_cannot_be_drawn_leaves_the_last_picture() -> None:
    feed = feed_of(*steps((0, 0), (0, 1)), {"episode": 3, "step_index": 2, "agent_id": "a"})
    assert newest(feed)["caption"] == "episode 3, step 1"
    assert newest(feed_of({"episode": 3, "step_index": 2})) is None
    assert newest(feed_of()) is None


def test_a_broken_payload_is_counted_once_however_often_it_is_looked_at() -> None:
    broken = [
        {"episode": 0, "step_index": i, "reward": 0.0, "render_payload": {"mode": "grid", "grid": [i]}}
        for i in range(3)
    ]
    feed = feed_of(*broken)
    for _ in range(3):
        assert newest(feed) is None
    (problem,) = feed.frames.problems()
    assert (problem.kind, problem.count) == ("bad_render_payload", 3)
    assert "of episode 0: grid should be" in problem.detail
    assert problem.raw.startswith('{"mode"')


@pytest.mark.parametrize(
    "config",
    [
        {"metadata": {"worker": {"config": {"game_id": "Taxi-v3"}}}},
        {"metadata": {"worker": {"config": {"env_id": "Taxi-v3"}}}},
        {"arguments": ["--env", "Taxi"]},
        {"run_name": "Taxi, slowly"},
    ],
)
def test_a_number_is_drawn_as_the_game_that_the_config_names(config: dict[str, Any]) -> None:
    grid = newest(feed_of({"episode": 0, "step_index": 0, "observation": 0}, config=config))
    assert (grid["game"], grid["agent"]) == ("Taxi", [0, 0])


def test_a_number_is_drawn_as_the_game_that_an_episode_names() -> None:
    feed = feed_of({"episode": 0, "step_index": 0, "observation": 0})
    artist = Artist(feed)
    assert artist.newest(feed.frames, 1) is None
    record = {"episode": 0, "reward": 0.0, "steps": 1, "metadata": {"game_id": "Taxi-v3"}}
    feed.frames.append_episodes(normalize.episodes_from_events([record]).batch)
    feed.frames.append_steps(normalize.steps_from_events([{"episode": 1, "step_index": 0, "observation": 4}]).batch)
    grid = artist.newest(feed.frames, 2)
    assert grid is not None
    assert grid["game"] == "Taxi"
