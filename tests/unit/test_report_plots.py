"""Figures and moving pictures of a run, and the numbers beneath them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import live_telemetry_widget as ltw
from live_telemetry_widget.hub import TelemetryAsyncHub
from tests.support.runs import run_of

if TYPE_CHECKING:
    import pathlib

LAKE = ["SF", "HG"]
#: Of each step of an episode: where it began, what was done, where it led.
WAY = (((0, 0), 2, (0, 1)), ((0, 1), 0, (0, 0)), ((0, 0), 2, (0, 1)), ((0, 1), 1, (1, 1)))


def seen(place: tuple[int, int]) -> dict[str, Any]:
    at = {"row": place[0], "col": place[1]}
    return {"position": at, "goal": {"row": 1, "col": 1}, "grid_size": 2, "holes": [{"row": 1, "col": 0}]}


@pytest.fixture(scope="module")
def lake() -> ltw.Run:
    """Return a run of 60 episodes that walk the same way, the later half with a reward at the end."""
    with TelemetryAsyncHub() as hub:
        run = ltw.Run(hub.subscribe_run("lake"))
        for episode in range(60):
            for index, (place, action, led_to) in enumerate(WAY):
                last = index == len(WAY) - 1
                hub.submit_step(
                    {
                        "run_id": "lake",
                        "episode": episode,
                        "step_index": index,
                        "action": action,
                        "reward": float(last and episode >= 30),
                        "terminated": last,
                        "observation": seen(place),
                        "next_observation": seen(led_to),
                        "q_after": episode + index / 10,
                    }
                )
        hub.complete_run("lake")
        run.wait(timeout=10)
    return run


@pytest.fixture(scope="module")
def plain() -> ltw.Run:
    """Return a run of 2,500 episodes of two agents without any picture, one of them with strange rewards."""
    with TelemetryAsyncHub() as hub:
        run = ltw.Run(hub.subscribe_run("plain"))
        for episode in range(2_500):
            for agent in ("<b>left</b>", "right"):
                reward = float("inf") if agent == "right" and episode == 7 else float(episode % 5)
                hub.submit_step(
                    {
                        "run_id": "plain",
                        "agent_id": agent,
                        "episode": episode,
                        "step_index": 0,
                        "reward": reward,
                        "truncated": True,
                    }
                )
        hub.complete_run("plain")
        run.wait(timeout=20)
    return run


def test_returns_draw_the_numbers_of_the_episodes(lake: ltw.Run) -> None:
    data = lake.plot.returns_data(window=10)
    assert data["total_reward"].tolist() == lake.episodes["total_reward"].tolist()
    assert data["mean"].tolist() == pytest.approx(
        [data["total_reward"][max(0, i - 9) : i + 1].mean() for i in range(60)]
    )
    points, line = lake.plot.returns(window=10).data
    assert list(points.y) == data["total_reward"].tolist()
    assert list(line.y) == pytest.approx(data["mean"].tolist())


def test_lengths_and_outcomes_add_up(lake: ltw.Run) -> None:
    assert set(lake.plot.lengths_data()["steps"]) == {4}
    assert "Steps" in lake.plot.lengths().layout.title.text
    data = lake.plot.outcomes_data(bins=7)
    assert data["count"].sum() == 60
    assert data["last"].max() == 59
    assert data.groupby("outcome")["count"].sum().to_dict() == {"Completed": 30, "Success": 30}
    shares = np.sum([np.nan_to_num(trace.y) for trace in lake.plot.outcomes(bins=7).data], axis=0)
    assert shares == pytest.approx(np.ones(len(shares)))


def test_visits_count_where_the_steps_led(lake: ltw.Run) -> None:
    data = lake.plot.visits_data()
    counted = {(row.row, row.col, row.tile): row.visits for row in data.itertuples()}
    assert counted == {(0, 0, "S"): 60, (0, 1, "F"): 120, (1, 0, "H"): 0, (1, 1, "G"): 60}
    (heat,) = lake.plot.visits().data
    assert heat.z.tolist() == [[60, 120], [0, 60]]


@pytest.mark.parametrize("as_text", [False, True])
def test_q_values_may_be_lists_by_action(*, as_text: bool) -> None:
    worth = [[[0.0, 1.0, 2.5, 0.0], [0.5, 3.0, 0.0, 0.0]][place[1]] for place, _, _ in WAY]
    events = [
        {
            "type": "step", "episode": episode, "step_index": index, "action": action, "observation": seen(place),
            "q_values": "[broken" if as_text and not episode else [episode + value for value in worth[index]],
        }
        for episode in range(2)
        for index, (place, action, _) in enumerate(WAY)
    ]  # fmt: skip
    with run_of(events) as run:
        data = run.plot.q_values_data()
        assert data.attrs["column"] == "q_values"
        assert {(r.row, r.col, r.action): r.q for r in data.itertuples()} == {
            (0, 0, "left"): 1, (0, 0, "down"): 2, (0, 0, "right"): 3.5, (0, 0, "up"): 1,
            (0, 1, "left"): 1.5, (0, 1, "down"): 4, (0, 1, "right"): 1, (0, 1, "up"): 1,
        }  # fmt: skip
        assert run.plot.q_values().data[0].z.tolist()[0] == [3.5, 4.0]
    with run_of([{**event, "observation": [0.5]} for event in events]) as run:
        data = run.plot.q_values_data()
        assert data.groupby("episode")["q"].max().to_dict() == ({1: 4.0} if as_text else {0: 3.0, 1: 4.0})


@pytest.mark.parametrize("first", ["n/a", None, [7.0, 1.0], "[broken"])
@pytest.mark.parametrize("on_grid", [False, True])
def test_a_column_of_numbers_that_became_text_is_drawn(first: object, *, on_grid: bool) -> None:
    events = [
        {
            "type": "step", "episode": episode, "step_index": index, "action": action,
            "observation": seen(place) if on_grid else [0.5],
            "q_value": episode + index / 2 if episode else first if not index else "text" if first is None else first,
        }
        for episode in range(3)
        for index, (place, action, _) in enumerate(WAY)
    ]  # fmt: skip
    with run_of(events) as run:
        data = run.plot.q_values_data()
        if on_grid and isinstance(first, list):  # lists say what is where
            assert {(r.row, r.col, r.action): r.q for r in data.itertuples()} == {
                (0, 0, "left"): 7, (0, 0, "down"): 1, (0, 1, "left"): 7, (0, 1, "down"): 1,
            }  # fmt: skip
            return
        lists = {0: [7.0] * 4} if isinstance(first, list) else {}
        assert data.groupby("episode")["q"].apply(list).to_dict() == {
            **lists,
            1: [1.0, 1.5, 2.0, 2.5],
            2: [2.0, 2.5, 3.0, 3.5],
        }
        assert run.plot.q_values().layout.yaxis.title.text == "q_value"


def test_q_values_are_the_newest_of_each_cell_and_action(lake: ltw.Run) -> None:
    data = lake.plot.q_values_data()
    newest = {(row.row, row.col, row.action): row.q for row in data.itertuples()}
    assert newest == pytest.approx({(0, 0, "right"): 59.2, (0, 1, "left"): 59.1, (0, 1, "down"): 59.3})
    (heat,) = lake.plot.q_values().data
    assert heat.z[0].tolist() == pytest.approx([59.2, 59.3])
    assert "↓" in heat.text[0][1]
    with pytest.raises(ltw.NoDataError, match=r"no column q_none \(q_after\)"):
        lake.plot.q_values("q_none")


def test_two_agents_are_two_lines_and_many_episodes_are_ranges(plain: ltw.Run) -> None:
    figure = plain.plot.returns()
    assert [trace.name for trace in figure.data if trace.showlegend] == ["&lt;b>left&lt;/b>", "right"]
    assert max(len(trace.y) for trace in figure.data) <= 2_000
    assert len(figure.to_json()) < 400_000
    line = next(trace for trace in figure.data if trace.name == "right")
    assert np.isfinite(np.array(line.y, float)).all()


def test_what_there_is_nothing_of_says_so(plain: ltw.Run, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ltw.NoDataError, match="no step shows the agent on a grid"):
        plain.plot.visits()
    with pytest.raises(ltw.NoDataError, match="no column q_values or q_after or"):
        plain.plot.q_values()
    with pytest.raises(ltw.NoDataError, match="cannot be drawn"):
        plain.to_gif(tmp_path / "x.gif", 3, agent="right")
    with pytest.raises(ValueError, match="2 have an episode 3; say which: agent='<b>left</b>'"):
        plain.to_gif(tmp_path / "x.gif", 3)
    with pytest.raises(ValueError, match="window is 0"):
        plain.plot.returns(0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "kind"), [("a.gif", "GIF"), ("a.png", "PNG"), ("a.apng", "PNG"), ("a.webp", "WEBP")])
def test_an_episode_becomes_a_moving_picture(lake: ltw.Run, tmp_path: pathlib.Path, name: str, kind: str) -> None:
    path = lake.to_gif(tmp_path / name, episode=3, fps=10, cell=40)
    with Image.open(path) as image:
        assert image.format == kind
        assert image.n_frames == len(WAY)  # type: ignore[attr-defined]  # it moves
        assert image.size == (80, 102)
        image.seek(1)
        second = image.convert("RGB").tobytes()
        image.seek(3)
        assert image.convert("RGB").tobytes() != second


def test_a_picture_of_another_kind_or_episode_is_refused(lake: ltw.Run, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"'a\.mp4' ends with '\.mp4'; an animation can be \.gif"):
        lake.to_gif(tmp_path / "a.mp4", episode=3)
    with pytest.raises(ltw.RunNotFoundError, match="no episode 99"):
        lake.to_gif(tmp_path / "a.gif", episode=99)
    with pytest.raises(ValueError, match="fps is 0"):
        lake.to_gif(tmp_path / "a.gif", episode=3, fps=0)
