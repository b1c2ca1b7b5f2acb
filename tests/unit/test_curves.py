"""Curves of any history are those that one would make from all of its episodes."""

from __future__ import annotations

import itertools
import math
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import live_telemetry_widget as ltw
from live_telemetry_widget import normalize
from live_telemetry_widget.curves import CURVE, Curves
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.frames import RunFrames
from live_telemetry_widget.view.ask import Ask, BadQuestionError
from live_telemetry_widget.view.curve_question import ViewCurves, answer
from tests.conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable


def record(number: int, reward: float, steps: int = 1, agent: str = "a") -> dict[str, Any]:
    return {"episode": number, "agent_id": agent, "reward": reward, "steps": steps}


def ends(frames: RunFrames, records: Iterable[dict[str, Any]]) -> None:
    frames.append_episodes(normalize.episodes_from_events(list(records)).batch)


def expected(values: list[float], size: int) -> list[tuple[int, int, int, float | None, float | None]]:
    found = []
    for place in range(0, len(values), size):
        part = values[place : place + size]
        finite = [value for value in part if math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (None, None)
        found.append((place, len(finite), len(part) - len(finite), low, high))
    return found


def rows(table: Any, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


REWARD = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(st.lists(st.tuples(REWARD, st.sampled_from("ab")), max_size=90), max_size=5),
    points=st.integers(1, 40),
    data=st.data(),
)
def test_a_curve_that_grew_is_the_one_made_from_all_episodes(
    parts: list[list[tuple[float, str]]], points: int, data: st.DataObject
) -> None:
    frames, numbers = RunFrames("r"), itertools.count()
    curves = Curves(frames)
    held: list[list[Any]] = []
    for part in parts:
        new = [[next(numbers), reward, agent] for reward, agent in part]
        ends(frames, (record(number, reward, agent=agent) for number, reward, agent in new))
        held += new
        if held:
            # A record that comes later replaces the first.
            again = data.draw(st.sampled_from(held))
            again[1] = data.draw(REWARD)
            ends(frames, [record(again[0], again[1], agent=again[2])])
        curves.curve(None, "total_reward", points=points)
    # Which of several records counts is the table's business.
    totals = frames.episodes_table().column("total_reward").to_pylist()
    held = [[h[0], total, h[2]] for h, total in zip(held, totals, strict=True)]
    for agent in (None, "a", "b"):
        mine = [h for h in held if agent in (None, h[2])]
        curve = curves.curve(agent, "total_reward", points=points)
        assert curve.schema == CURVE
        assert curve.num_rows <= points
        size = 1
        while -(-len(mine) // size) > points:
            size *= 2
        assert rows(curve, "place", "count", "odd", "min", "max") == expected([h[1] for h in mine], size)
        for _, count, mean, low, high, first, last in rows(curve, "place", "count", "mean", "min", "max", "from", "to"):
            assert (mean is None) == (count == 0)
            assert mean is None or low - 1e-6 <= mean <= high + 1e-6
            assert first <= last
        assert [r for (r,) in rows(curve, "row")] == [h[0] for h in mine][::size]


def test_running_episodes_are_left_out_until_they_end() -> None:
    frames = RunFrames("r")
    curves = Curves(frames)
    steps = [{"episode": 0, "step_index": i, "reward": 1.0, "agent_id": "a"} for i in range(3)]
    frames.append_steps(normalize.steps_from_events(steps).batch)
    assert curves.curve(None, "total_reward").num_rows == 0
    last = {"episode": 0, "step_index": 3, "reward": 1.0, "agent_id": "a", "terminated": True}
    frames.append_steps(normalize.steps_from_events([last]).batch)
    assert rows(curves.curve("a", "total_reward"), "from", "mean") == [(0, 4.0)]
    assert rows(curves.curve("a", "steps"), "from", "mean") == [(0, 4.0)]


def test_the_end_of_an_episode_is_not_missed_among_many_new_ones() -> None:
    frames = RunFrames("r")
    curves = Curves(frames)
    step = {"episode": 0, "step_index": 0, "reward": 1.0, "agent_id": "a"}
    frames.append_steps(normalize.steps_from_events([step]).batch)
    assert curves.curve(None, "steps").num_rows == 0
    frames.append_steps(normalize.steps_from_events([{**step, "step_index": 1, "terminated": True}]).batch)
    ends(frames, (record(i, 1.0) for i in range(1, 100)))
    assert rows(curves.curve(None, "steps", points=1), "count") == [(100,)]


def test_a_look_at_a_stretch_shows_each_of_its_episodes() -> None:
    frames = RunFrames("r")
    ends(frames, (record(2 * i, float(i % 7)) for i in range(5_000)))
    curves = Curves(frames)
    coarse = curves.curve("a", "total_reward", points=100)
    assert set(coarse.column("places").to_pylist()) <= {64, 5_000 % 64}
    close = curves.curve("a", "total_reward", points=64, first=1_000, end=1_050)
    assert rows(close, "place", "from", "mean") == [(i, 2 * i, float(i % 7)) for i in range(1_000, 1_050)]
    assert curves.numbered("a")
    ends(frames, [record(1, 0.0)])
    curves.curve("a", "steps")
    assert not curves.numbered("a"), "an episode that is late has a number that is no place on the axis"


def test_sums_that_no_number_holds_have_a_mean_within_their_range() -> None:
    frames = RunFrames("r")
    ends(frames, (record(i, 1.7e308) for i in range(64)))
    (_, low, high, mean), *_ = rows(Curves(frames).curve(None, "total_reward", points=1), "place", "min", "max", "mean")
    assert low == mean == high == 1.7e308


class _View:
    def __init__(self, feed: RunFeed, curves: ViewCurves) -> None:
        self.feed, self.curves = feed, curves


def feed_of(run_id: str, agents: str) -> RunFeed:
    feed = RunFeed(run_id, Link("recording"))
    ends(feed.frames, (record(i, float(i), agent=agent) for i in range(300) for agent in agents))
    return feed


def test_a_view_pushes_curves_of_its_run_its_agents_and_the_runs_beside_it() -> None:
    feed, other = feed_of("one", "ab"), feed_of("two", "a")
    shown = ViewCurves(feed, None)
    shown.others = (other,)
    pushed = shown.push(keyframe=False)
    assert pushed is not None
    assert [(s["run"], s["agent"], s["numbered"]) for s in pushed[0]] == [
        ("one", None, False),
        ("one", "a", True),
        ("one", "b", True),
        ("two", None, True),
    ]
    assert pushed[1] == 0
    assert shown.due is None
    assert shown.push(keyframe=False) is None, "nothing changed"
    ends(other.frames, [record(300, 1.0)])
    assert shown.due is not None
    assert time.monotonic() < shown.due <= time.monotonic() + 1
    view: Any = _View(feed, shown)
    ask = {"kind": "ask_curve", "id": 1, "run": "two", "agent": None, "y": "steps", "points": 8, "first": 0, "end": 301}
    fields, buffers = answer(view, Ask(ask))
    assert fields == {"y": "steps"}
    assert len(buffers) == 1
    for wrong in (
        {"run": "three"},
        {"y": "reward"},
        {"points": 0},
        {"first": -1},
        {"first": 5, "end": 4},
        {"agent": 3},
    ):
        with pytest.raises(BadQuestionError):
            answer(view, Ask({**ask, **wrong}))


def test_steps_of_an_episode_that_has_not_ended_send_no_curve() -> None:
    feed = feed_of("one", "a")
    shown = ViewCurves(feed, None)
    shown.push(keyframe=True)
    version = feed.curves.version
    step = {"episode": 900, "step_index": 0, "reward": 1.0, "agent_id": "a"}
    feed.frames.append_steps(normalize.steps_from_events([step]).batch)
    assert shown.due is not None, "something came, and may have ended an episode"
    wait_for(lambda: time.monotonic() > (shown.due or 0), "the time of a push")
    assert shown.push(keyframe=False) is None
    assert (feed.curves.version, shown.due) == (version, None)
    feed.frames.append_steps(normalize.steps_from_events([{**step, "step_index": 1, "terminated": True}]).batch)
    wait_for(lambda: time.monotonic() > (shown.due or 0), "the time of a push")
    assert shown.push(keyframe=False) is not None


def test_curves_that_are_too_many_are_counted() -> None:
    feed = feed_of("one", "abcdefghij")
    shown = ViewCurves(feed, None)
    shown.others = tuple(feed_of(f"beside {i}", "a") for i in range(2))
    series, more, _ = shown.push(keyframe=True) or ([], 0, b"")
    assert [one["agent"] for one in series] == [None, "a", "b", "c", "d", "e", None, None]
    assert more == 5
    shown.others = tuple(feed_of(f"beside {i}", "a") for i in range(9))
    series, more, _ = shown.push(keyframe=True) or ([], 0, b"")
    assert [one["run"] for one in series] == ["one", *(f"beside {i}" for i in range(7))]
    assert more == 10 + 2


def test_the_rows_of_an_agents_view_are_those_of_its_own_table() -> None:
    feed = feed_of("one", "ab")
    table = ViewCurves(feed, "b").ask("one", None, "steps", (8, 10, 12))
    assert rows(table, "place", "row") == [(10, 10), (11, 11)]
    whole = ViewCurves(feed, None).ask("one", "b", "steps", (8, 10, 12))
    assert rows(whole, "place", "row") == [(10, 21), (11, 23)]


def test_an_overlay_of_nothing_is_explained() -> None:
    with ltw.serve() as server, ltw.connect(server.address) as client:
        for nothing in ([], "ab"):
            with pytest.raises(ValueError, match="list of run ids"):
                client.overlay(nothing)
