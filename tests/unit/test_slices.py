"""Parts of a run, and what is said of a run beside its rows, on the sample of a real worker."""

from __future__ import annotations

import ast
import datetime as dt
import json
import threading
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pandas as pd
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget import normalize
from live_telemetry_widget.client import RunDetails
from live_telemetry_widget.decode import StepFrame, as_array
from live_telemetry_widget.errors import NoDataError, QueryError, RunNotFoundError
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.store import RunRow, Store
from tests.support.runs import played, run_of

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def sample(sample_events: list[dict[str, Any]]) -> Iterator[ltw.Run]:
    with run_of(sample_events) as run:
        yield run


@pytest.fixture(scope="module")
def lake() -> Iterator[ltw.Run]:
    with run_of(played("--env", "FrozenLake-v1", "--no-slippery", "--episodes", "40")) as run:
        yield run


# -- parts -------------------------------------------------------------------------------------------------------------


def test_types_and_order_of_columns(sample: ltw.Run) -> None:
    steps, episodes = sample.steps, sample.episodes
    assert {name: str(kind) for name, kind in steps.dtypes.items() if name in STEP_TYPES} == STEP_TYPES
    assert list(steps.columns[:6]) == ["run_id", "worker_id", "agent_id", "episode", "step_index", "timestamp"]
    assert {name: str(kind) for name, kind in episodes.dtypes.items() if name in EPISODE_TYPES} == EPISODE_TYPES


STEP_TYPES = {
    "run_id": "category",
    "agent_id": "category",
    "episode": "int64",
    "step_index": "int64",
    "timestamp": "datetime64[ns, UTC]",
    "action": "int64",
    "reward": "float64",
    "terminated": "bool",
    "truncated": "bool",
    "seq_id": "uint64",
    "state": "int64",
    "q_after": "float64",
}
EPISODE_TYPES = {
    "agent_id": "category",
    "episode": "int64",
    "timestamp": "datetime64[ns, UTC]",
    "total_reward": "float64",
    "steps": "int64",
    "terminated": "bool",
    "outcome": "category",
    "complete": "bool",
}


def test_frames_are_the_same_object_until_rows_come_and_say_when_they_were_taken(tmp_path: pathlib.Path) -> None:
    before = dt.datetime.now(dt.UTC)
    with ltw.TelemetryAsyncHub() as hub:
        run = ltw.Run(hub.subscribe_run("r"))
        hub.submit_step({"run_id": "r", "episode": 0, "step_index": 0, "reward": 1.0})
        assert run._feed.wait_until(lambda: run._feed.frames.step_count == 1, 10)
        first = run.steps
        assert run.steps is first
        assert run.episodes is run.episodes
        hub.submit_step({"run_id": "r", "episode": 0, "step_index": 1, "reward": 1.0})
        assert run._feed.wait_until(lambda: run._feed.frames.step_count == 2, 10)
        second = run.steps
    assert (len(first), len(second)) == (1, 2)
    assert first.attrs["run_id"] == "r"
    assert first.attrs["revision"] < second.attrs["revision"]
    taken = dt.datetime.fromisoformat(first.attrs["taken_at"])
    # attrs has milliseconds.
    assert before - dt.timedelta(milliseconds=1) <= taken <= dt.datetime.now(dt.UTC)
    second.to_parquet(tmp_path / "steps.parquet")  # pandas writes attrs too, and takes only what JSON has words for
    assert pd.read_parquet(tmp_path / "steps.parquet").attrs == second.attrs


def test_episode_of_an_agent_and_a_worker() -> None:
    events = [
        {"type": "step", "episode": 1, "step_index": 0, "agent_id": agent, "worker_id": worker, "reward": 1.0}
        for agent in ("left", "right")
        for worker in ("w1", "w2")
    ]
    with run_of(events) as run:
        assert len(run.episode(1)) == 4
        assert len(run.episode(1, agent="left")) == 2
        assert len(run.episode(np.int64(1), agent="left", worker="w2")) == 1
        with pytest.raises(RunNotFoundError, match=r"agent 'lft'.*did you mean agent='left'\?"):
            run.episode(1, agent="lft")
        with pytest.raises(RunNotFoundError, match=r"did you mean worker='w1'\?"):
            run.episode(1, worker="w11")
        with pytest.raises(ValueError, match="episode 1 is of 4 agents: agent='left' of worker='w1'"):
            run.seed_for(1)
        with pytest.raises(ValueError, match="say which, with agent= and worker="):
            run.reproduce(1)


def test_what_is_not_there_names_the_nearest(sample: ltw.Run) -> None:
    with pytest.raises(RunNotFoundError, match=r"no episode 153; it has 150, from 3 to 152; nearest: 150, 151, 152"):
        sample.episode(153)
    with pytest.raises(TypeError, match="give a whole number"):
        sample.episode(1.5)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="did you mean 'steps'"):
        sample.episodes_where("step < 10")
    with pytest.raises(ValueError, match="the number of steps is -1"):
        sample.tail(-1)


def test_episodes_where_is_what_pandas_finds(lake: ltw.Run) -> None:
    found = lake.episodes_where("outcome == 'Completed' and steps < 5")
    episodes = lake.episodes
    want = episodes[(episodes["outcome"] == "Completed") & (episodes["steps"] < 5)]
    assert 0 < len(want) < len(episodes)
    pd.testing.assert_frame_equal(found.reset_index(drop=True), want.reset_index(drop=True))


def test_what_was_taken_can_be_written_to_and_what_is_held_stays(sample: ltw.Run) -> None:
    for take in (lambda: sample.episode(3), lambda: sample.tail(2), sample.steps.copy):
        frame = take()
        before = frame["reward"].tolist()
        frame.loc[:, "reward"] = 7.0
        frame.loc[:, "step_index"] = 1
        frame.loc[:, "timestamp"] = pd.Timestamp(0, tz="UTC")
        assert set(frame["reward"]) == {7.0}
        assert take()["reward"].tolist() == before


def test_tail_and_sample(sample: ltw.Run) -> None:
    steps = pd.DataFrame(sample.steps)
    assert list(sample.tail(0).columns) == list(steps.columns)
    assert len(sample.tail(0)) == 0
    for count, want in ((7, 7), (10_000, 750)):
        last = sample.tail(count)
        pd.testing.assert_frame_equal(pd.DataFrame(last), steps.tail(want).reset_index(drop=True))
    drawn = sample.sample(50, seed=1)
    pd.testing.assert_frame_equal(drawn, sample.sample(50, seed=1))
    assert len(drawn.drop_duplicates(["episode", "step_index"])) == 50
    assert drawn["episode"].is_monotonic_increasing
    assert set(map(tuple, drawn[["episode", "step_index"]].to_numpy())) != set(
        map(tuple, sample.sample(50, seed=2)[["episode", "step_index"]].to_numpy())
    )
    assert len(sample.sample(10_000)) == 750


def test_compare_finds_the_first_difference(lake: ltw.Run) -> None:
    actions = {number: lake.episode(number)["action"].tolist() for number in range(40)}
    number = next(n for n, held in actions.items() if held[:1] == actions[3][:1] and held[:4] != actions[3][:4])
    found = lake.compare(3, number)
    one, other = lake.episode(3), lake.episode(number)
    length = max(len(one), len(other))
    assert list(found.steps.index) == list(range(length))
    want = next(
        at
        for at in range(length)
        if at >= min(len(one), len(other))
        or any(one[name][at] != other[name][at] for name in ("observation", "action", "reward", "terminated"))
    )
    assert found.first_difference == want
    assert found.steps["action", 3].dropna().tolist() == one["action"].tolist()
    assert str(found.steps["action", 3].dtype) == "Int64"
    assert found.steps["total", number].dropna().iloc[-1] == other["reward"].sum()


def test_compare_of_twins_and_of_one_that_goes_on() -> None:
    def step(episode: int, index: int, reward: float = 0.0) -> dict[str, Any]:
        return {"type": "step", "episode": episode, "step_index": index, "action": 1, "reward": reward}

    events = [step(e, i) for e in (0, 1) for i in range(3)] + [step(2, i) for i in range(5)] + [step(3, 0, 1.0)]
    with run_of(events) as run:
        assert run.compare(0, 1).first_difference is None
        assert "the same in all of their 3 steps" in str(run.compare(0, 1))
        longer = run.compare(0, 2)
        assert (longer.first_difference, longer.different) == (3, ("steps",))
        reward = run.compare(0, 3)
        assert (reward.first_difference, reward.different) == (0, ("reward",))
        assert "reward 0.0 and 1.0" in str(reward)
        with pytest.raises(ValueError, match="two different numbers"):
            run.compare(1, 1)
        with pytest.raises(RunNotFoundError, match="no episode 9"):
            run.compare(1, 9)


# -- decoded -----------------------------------------------------------------------------------------------------------


def test_objects_become_columns_when_asked(sample: ltw.Run) -> None:
    episode = sample.episode(3)
    texts = episode.obs
    assert isinstance(texts, pd.Series)  # objects are no array
    assert texts.tolist() == episode["observation"].tolist()
    fields = sample.episode(3, decode="columns")
    assert fields["observation.state"].tolist() == episode["state"].tolist()
    assert fields["observation.position.row"].tolist() == [state // 4 for state in episode["state"]]
    assert "observation" not in fields.columns
    assert list(fields.columns[:7]) == [*episode.columns[:7]]
    assert fields.attrs == episode.attrs | {"taken_at": fields.attrs["taken_at"]}
    objects = episode.observations("objects")
    assert objects.iloc[0]["holes"][0] == {"row": 1, "col": 1}
    assert type(episode[episode["reward"] >= 0]) is StepFrame
    with pytest.raises(ValueError, match="decode is 'column'; give one of 'auto', 'columns', 'objects'"):
        sample.episode(3, decode="column")  # type: ignore[arg-type]


def test_game_and_names_of_actions(sample: ltw.Run) -> None:
    events = played("--env", "Taxi", "--episodes", "1", "--max-steps", "30")
    with run_of(events) as run:
        episode = run.episode(0)
        assert episode.attrs["game"] == "Taxi"
        states = episode.obs
        assert isinstance(states, np.ndarray)
        assert states.dtype == np.int64
        fields = episode.observations("columns")
        assert isinstance(fields, pd.DataFrame)
        back = ((fields["taxi_row"] * 5 + fields["taxi_col"]) * 5 + fields["passenger_index"]) * 4
        assert (back + fields["destination_index"]).tolist() == states.tolist()
        names = gymnasium_action_names()
        assert episode.action_names.tolist() == [names[action] for action in episode["action"]]
    # The sample tells its game only in its episodes.
    assert set(sample.episode(3).action_names) <= {"left", "down", "right", "up"}


def gymnasium_action_names() -> list[str]:
    """Return Taxi's, as its documentation in Gymnasium lists them."""
    return ["south", "north", "east", "west", "pick up", "drop off"]


@pytest.mark.parametrize(
    ("observations", "shape", "kind"),
    [
        ([1, 2, 3], (3,), "i"),
        ([0.5, 2, 3], (3,), "f"),
        ([True, False], (2,), "b"),
        ([[1, 2], [3, 4]], (2, 2), "i"),
        ([[[1.5], [2]], [[3], [4]]], (2, 2, 1), "f"),
    ],
)
def test_numbers_of_one_shape_are_an_array(observations: list[Any], shape: tuple[int, ...], kind: str) -> None:
    events = [
        {"type": "step", "episode": 0, "step_index": i, "reward": 0.0, "observation": seen, "action": [i, i]}
        for i, seen in enumerate(observations)
    ]
    with run_of(events) as run:
        found = run.episode(0).obs
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.dtype.kind) == (shape, kind)
        assert found.tolist() == np.asarray(observations).tolist()
        assert np.asarray(run.episode(0).actions).tolist() == [[i, i] for i in range(len(observations))]
        flat = run.episode(0, decode="columns").filter(like="observation.")
        assert flat.to_numpy().tolist() == np.asarray(observations).reshape(len(observations), -1).tolist()


@pytest.mark.parametrize(
    "observations", [[[1], [1, 2]], [1, "a"], [1, None], ["a", "b"], [{"a": 1}, 2], [10**30, 1], [[[1], 2], [[1], 2]]]
)
def test_anything_else_is_text_as_sent(observations: list[Any]) -> None:
    events = [
        {"type": "step", "episode": 0, "step_index": i, "reward": 0.0, "observation": seen}
        for i, seen in enumerate(observations)
    ]
    with run_of(events) as run:
        found = run.episode(0).obs
        assert isinstance(found, pd.Series)
        assert [None if pd.isna(text) else json.loads(text) for text in found] == observations
        assert run.episode(0).observations("objects").tolist() == observations


# -- beside the rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "rounds"),
    [
        ([2**53 + 1, 0.5], True),
        ([[2**53 + 1, 1], [0.5, 2]], True),
        ([[[2**63 + 1]], [[-1]]], True),
        ([2**53, 0.5], False),
        ([2**60, 0.5], False),
        ([1e300, 3], False),
        ([2**53 + 1, 1], False),
    ],
)
def test_an_array_rounds_no_integer(values: list[Any], rounds: bool) -> None:  # noqa: FBT001 - a parameter of the cases
    found = as_array(values)
    assert (found is None) is rounds
    if found is not None:
        assert found.tolist() == values
    texts = [json.dumps(value) for value in values]
    seen = StepFrame({"observation": texts}).obs
    assert list(seen) == texts if rounds else isinstance(seen, np.ndarray)


def test_info(sample: ltw.Run) -> None:
    info = sample.info
    assert (info.run_id, info.game, info.seed, info.policy) == ("r", "FrozenLake-v1", 3, "train")
    assert (info.steps, info.episodes, info.agents, info.status) == (750, 150, ["q_agent"], "completed")
    assert info.first_step == sample.steps["timestamp"].min()
    assert info.last_step == sample.steps["timestamp"].max()
    assert json.loads(json.dumps(info.as_dict()))["game"] == "FrozenLake-v1"


def test_every_episode_of_the_real_worker_is_played_again(sample: ltw.Run) -> None:
    for number in range(3, 153, 7):
        steps = sample.episode(number)
        assert play(sample.reproduce(number)) == steps["next_state"].tolist(), number
        assert sample.seed_for(number) == 3  # it resets every episode with the run's seed, as its trace shows


@pytest.mark.parametrize(
    "arguments",
    [
        ("--env", "FrozenLake-v1", "--map", "8x8"),
        ("--env", "FrozenLake-v1", "--no-slippery"),
        ("--env", "Taxi"),
        ("--env", "CliffWalking", "--max-steps", "40"),
    ],
    ids=" ".join,
)
def test_an_episode_of_the_demo_worker_is_played_again(arguments: tuple[str, ...]) -> None:
    with run_of(played(*arguments, "--episodes", "4", "--seed", "5")) as run:
        for number in (5, 8):
            assert run.seed_for(number) == number
            assert play(run.reproduce(number)) == run.episode(number)["next_state"].tolist()


def play(snippet: str) -> list[int]:
    """Run a snippet and return the states that its environment was in, which the snippet's own checks do not look at."""
    seen: list[int] = []
    make = gymnasium.make

    class Watched(gymnasium.Wrapper):  # type: ignore[type-arg, misc]
        def step(self, action: Any) -> Any:
            result = self.env.step(action)
            seen.append(int(result[0]))
            return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gymnasium, "make", lambda *args, **options: Watched(make(*args, **options)))
        exec(compile(snippet, "snippet", "exec"), {})  # noqa: S102 - what a user does with it
    return seen


def test_what_cannot_be_played_again_says_why() -> None:
    step = {"type": "step", "episode": 0, "reward": 0.0, "action": 0}
    with run_of([{**step, "step_index": 0}]) as run:
        with pytest.raises(NoDataError, match="nothing tells the environment"):
            run.reproduce(0)
        with pytest.raises(NoDataError, match="nothing tells the seed of episode 0"):
            run.seed_for(0)
    payload = {"render_payload": {"game_id": "Taxi-v4"}, "episode_seed": 1}
    with (
        run_of([{**step, **payload, "step_index": 1}]) as run,
        pytest.raises(NoDataError, match="1 of its 2 steps are here"),
    ):
        run.reproduce(0)
    both = [{**step, **payload, "step_index": i, "episode_seed": i} for i in (0, 1)]
    with run_of(both) as run, pytest.raises(NoDataError, match=r"several seeds: \[0, 1\]"):
        run.seed_for(0)


def of_config(config: dict[str, Any], **more: Any) -> ltw.Run:
    """Return a run of one episode of one step that was submitted with a config."""
    feed = RunFeed("r", Link("live"))
    step = {"type": "step", "episode": 0, "step_index": 0, "reward": 1.0, "action": 0, "episode_seed": 1}
    feed.frames.append_steps(normalize.steps_from_events([{**step, **more}], run_id="r").batch)
    feed.details = RunDetails(json.dumps(config), 1, 0, ended=True)
    feed.finished = True
    return ltw.Run(feed)


@pytest.mark.parametrize("variables", [{}, {"WANDB_API_KEY": "secret"}])
def test_environment_variables_are_not_taken_for_the_game(variables: dict[str, str]) -> None:
    submitted = {"environment": variables, "arguments": ["--env", "CartPole-v1"]}
    run = of_config(submitted)
    assert run.info.game == "CartPole-v1"
    assert "gymnasium.make('CartPole-v1')" in run.reproduce(0)
    told = {"environment": variables, "metadata": {"worker": {"config": {"environment": "Acrobot-v1", "seed": "²"}}}}
    assert (of_config(told).info.game, of_config(told).info.seed) == ("Acrobot-v1", None)
    assert of_config({"environment": "Acrobot-v1"}).info.game == "Acrobot-v1"


def test_text_from_the_wire_is_never_code_of_the_snippet() -> None:
    code = "render_mode=[print('run')][0], sutton_barto_reward"
    options = {code: False, "class": 1, "gravity": float("inf"), "render_mode": "'), print('run'), ('"}
    run = of_config({"metadata": {"worker": {"config": {"game_id": "CartPole-v1", "env_kwargs": options}}}})
    tree = ast.parse(run.reproduce(0))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert calls == {"gymnasium.make", "env.reset", "env.step", "float", "env.close", "abs", "bool"}
    make = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "gymnasium.make")
    named = {argument.arg: ast.unparse(argument.value) for argument in make.keywords}
    assert set(named) == {"gravity", "render_mode", None}
    assert (named["gravity"], ast.literal_eval(named[None])) == ("inf", {code: False, "class": 1})
    assert "from math import inf, nan" in ast.unparse(tree)
    raw = of_config({"metadata": {"game_id": "CartPole-v1"}}, action=None)
    with pytest.raises(NoDataError, match="1 of its 1 actions are not told"):
        raw.reproduce(0)
    assert "actions = ['left']" in of_config({"metadata": {"game_id": "CartPole-v1"}}, action="left").reproduce(0)


def test_who_listens_to_a_recording_may_ask_for_its_data(tmp_path: pathlib.Path) -> None:
    events = [{"type": "step", "episode": 0, "step_index": i, "reward": 1.0, "agent_id": "a"} for i in range(3)]
    with Store.open(tmp_path) as store:
        store.commit([], [RunRow("r", 7, created_at=1)])
        store.append("r", "steps", [normalize.steps_from_events(events, run_id="r").batch])
    with ltw.open(tmp_path) as recording:
        run = recording.run("r")
        asked: list[list[str]] = []
        run.listen(lambda: asked.append(run.agents))
        found: list[int] = []
        # In a thread that would not keep the tests from going on, if it waited for itself.
        reading = threading.Thread(target=lambda: found.append(len(run.steps)), daemon=True)
        reading.start()
        reading.join(timeout=60)
        assert found == [3]
        assert asked
        assert asked[-1] == ["a"]


# -- several runs ------------------------------------------------------------------------------------------------------


def test_runs_are_compared_in_one_tidy_frame(tmp_path: pathlib.Path) -> None:
    def steps(run_id: str, first: int, **further: Any) -> Any:
        events = [
            {"type": "step", "episode": first + i, "step_index": 0, "reward": float(i), "agent_id": f"{run_id}{i % 2}"}
            for i in range(4)
        ]
        records = [
            {**event, "type": "episode", "steps": 1, "total_reward": event["reward"], **further} for event in events
        ]
        return (
            normalize.steps_from_events(events, run_id=run_id).batch,
            normalize.episodes_from_events(records, run_id=run_id).batch,
        )

    with Store.open(tmp_path) as store:
        for run_id, first, further in (("a", 0, {"lr": 1}), ("b", 7, {"lr": 0.5, "note": "x"})):
            store.commit([], [RunRow(run_id, 7, created_at=1)])
            for kind, batch in zip(("steps", "episodes"), steps(run_id, first, **further), strict=True):
                store.append(run_id, kind, [batch])  # type: ignore[arg-type]
    with ltw.open(tmp_path) as recording:
        frame = recording.compare(["a", "b"])
        assert list(frame.columns[:4]) == ["run", "nth", "run_id", "worker_id"]
        assert str(frame["run"].dtype) == str(frame["agent_id"].dtype) == "category"
        assert frame.groupby("run", observed=True)["total_reward"].sum().to_dict() == {"a": 6.0, "b": 6.0}
        assert frame["nth"].tolist() == [0, 0, 1, 1] * 2
        assert frame["lr"].tolist() == [1.0] * 4 + [0.5] * 4
        assert frame["note"].isna().tolist() == [True] * 4 + [False] * 4
        assert recording.compare({"before": "a"})["run"].unique().tolist() == ["before"]
        with pytest.raises(RunNotFoundError, match="no run 'bb' among its 2; nearest: b"):
            recording.compare(["a", "bb"])
        figure = recording.plot({"before": "a", "after": "b"}, window=1)
        drawn = {line.name: (line.legendgroup, list(line.x), list(line.y)) for line in figure.data}
        assert drawn == {
            f"{label} {run}{i}": (label, [0, 1], [float(i), float(i + 2)])
            for label, run in (("before", "a"), ("after", "b"))
            for i in range(2)
        }
        assert {line.line.color for line in figure.data if line.legendgroup == "after"} == {"#e8730c"}
        with pytest.raises(ValueError, match="window is 0; give a number of episodes from 1"):
            recording.plot(["a"], window=0)
        for none in ([], "ab"):
            with pytest.raises(ValueError, match="give the ids of some runs"):
                recording.compare(none)
