"""Real Gymnasium and PettingZoo environments, wrapped, at a real daemon; what was recorded is what a plain loop sees."""

from __future__ import annotations

import collections
import json
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import live_telemetry_widget as ltw
from live_telemetry_widget.grids import grid_from
from live_telemetry_widget.gymnasium import RecordTelemetry, RecordVectorTelemetry

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    import pandas as pd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ltw.Server]:
    with ltw.serve(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def options(tmp_path: pathlib.Path) -> dict[str, Any]:
    return {"spool_dir": tmp_path / "spool"}


def recorded(server: ltw.Server, emitter: ltw.Emitter) -> ltw.Run:
    client = ltw.connect(server.address)
    run = client.run(emitter.run_id)
    run.wait(60)
    client.close()
    assert run.status == "completed"
    assert run.problems.empty
    return run


def walk(env: Any, episodes: int, seed: int = 3) -> list[list[tuple[Any, ...]]]:
    """Play with the actions that `seed` draws; return what a plain loop sees: (observation, action, reward, terminated, truncated, next)."""
    env.action_space.seed(seed)
    seen: list[list[tuple[Any, ...]]] = []
    for index in range(episodes):
        observation, _ = env.reset(seed=seed + index)
        steps, over = [], False
        while not over:
            action = env.action_space.sample()
            following, reward, terminated, truncated, _ = env.step(action)
            kept = [
                np.array(value).tolist() for value in (observation, action, reward, terminated, truncated, following)
            ]
            steps.append(tuple(kept))
            observation, over = following, terminated or truncated
        seen.append(steps)
    return seen


def told(run: ltw.Run) -> list[list[tuple[Any, ...]]]:
    """Return the recorded steps in the form of :func:`walk`, without what they led to."""
    episodes: dict[Any, list[tuple[Any, ...]]] = collections.defaultdict(list)
    for row in run.steps.sort_values(["agent_id", "episode", "step_index"]).itertuples():
        assert row.step_index == len(episodes[row.agent_id, row.episode])
        observation = None if row.observation is None else json.loads(row.observation)
        values = (observation, json.loads(str(row.action)), row.reward, row.terminated, row.truncated)
        episodes[row.agent_id, row.episode].append(values)
    return list(episodes.values())


@pytest.mark.parametrize("game", ["FrozenLake-v1", "CartPole-v1", "Blackjack-v1"])
def test_what_is_recorded_is_what_the_agent_saw(server: ltw.Server, options: dict[str, Any], game: str) -> None:
    plain = walk(gymnasium.make(game), 6)
    with RecordTelemetry(gymnasium.make(game), server.address, **options) as env:
        assert walk(env, 6) == plain
    run = recorded(server, env.emitter)
    steps = told(run)
    assert len(steps) == len(plain)
    for seen, recorded_ones in zip(plain, steps, strict=True):
        for step, row in zip(seen, recorded_ones, strict=True):
            assert np.allclose(np.array(row[0], np.float64), np.array(step[0], np.float64))
            assert row[1:] == step[1:5]
    assert run.steps["episode_seed"].unique().tolist() == [3, 4, 5, 6, 7, 8]
    episodes = run.episodes
    assert episodes["steps"].tolist() == [len(seen) for seen in plain]
    assert episodes["total_reward"].tolist() == [sum(step[2] for step in seen) for seen in plain]
    final = [json.loads(text) if isinstance(text, str) else text for text in episodes["final_observation"]]
    assert np.allclose(np.array(final, np.float64), np.array([seen[-1][5] for seen in plain], np.float64))


@pytest.mark.parametrize(
    ("game", "at"),
    [
        ("FrozenLake-v1", lambda grid, state: grid["agent"] == list(divmod(state, 4))),
        ("CliffWalking-v1", lambda grid, state: grid["agent"] == list(divmod(state, 12))),
        ("Taxi-v3", lambda grid, state: grid["agent"] == list(divmod(state // 20, 5))),
        ("Blackjack-v1", lambda grid, state: grid["cards"]["player"] == state[0]),
        ("MiniGrid-Empty-5x5-v0", lambda grid, _: grid["game"] == "MiniGrid" and grid["agent"] is not None),
    ],
)
def test_the_view_can_draw_what_a_step_led_to(server: ltw.Server, options: dict[str, Any], game: str, at: Any) -> None:
    if game.startswith("MiniGrid"):
        pytest.importorskip("minigrid", reason="MiniGrid is not installed")
    game = {"Taxi-v3": "Taxi-v4"}.get(game, game) if "Taxi-v4" in gymnasium.registry else game
    env = RecordTelemetry(gymnasium.make(game, max_episode_steps=8), server.address, **options)
    seen = walk(env, 1)[0]
    env.close()
    for step, payload in zip(seen, recorded(server, env.emitter).steps["render_payload"], strict=True):
        grid = grid_from(payload, None)
        assert grid is not None
        assert at(grid, step[5])


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_frames_are_pictures_of_every_nth_step(server: ltw.Server, options: dict[str, Any], kind: Any) -> None:
    game = gymnasium.make("FrozenLake-v1", render_mode="rgb_array", is_slippery=False)
    env = RecordTelemetry(game, server.address, render="frames", render_every=3, frame_format=kind, **options)
    env.reset(seed=0)
    for _ in range(7):
        env.step(0)
    env.close()
    payloads = recorded(server, env.emitter).steps["render_payload"]
    assert [isinstance(payload, str) for payload in payloads] == [True, False, False, True, False, False, True]
    grid = grid_from(payloads[0], None)
    assert grid is not None
    assert (grid["image"]["format"], grid["image"]["width"]) == (kind, 256)


def test_policies_choose_what_is_kept_of_an_observation(server: ltw.Server, tmp_path: pathlib.Path) -> None:
    def observations(**options: Any) -> list[Any]:
        env = RecordTelemetry(gymnasium.make("CartPole-v1"), server.address, spool_dir=tmp_path, **options)
        env.reset(seed=0)
        for t in range(6):
            env.step(t % 2)
        env.close()
        texts = recorded(server, env.emitter).steps["observation"]
        return [json.loads(text) if isinstance(text, str) else None for text in texts]

    assert observations(observations="none") == [None] * 6
    assert [seen is None for seen in observations(observations_every=4)] == [False, True, True, True, False, True]
    summaries = observations(observations="summary")
    assert {tuple(seen) for seen in summaries} == {("shape", "dtype", "min", "max", "mean")}
    assert summaries[0]["shape"] == [4]


def test_an_episode_that_is_cut_by_a_reset_is_truncated(server: ltw.Server, options: dict[str, Any]) -> None:
    env = RecordTelemetry(gymnasium.make("CartPole-v1"), server.address, **options)
    env.reset(seed=0)
    env.step(0)
    env.reset()
    env.step(1)
    env.close()
    run = recorded(server, env.emitter)
    assert run.steps["episode"].tolist() == [0, 1]
    first = run.episodes.iloc[0]
    assert (bool(first["truncated"]), int(first["steps"])) == (True, 1)


def test_the_wrapper_follows_gymnasiums_conventions(server: ltw.Server, options: dict[str, Any]) -> None:
    with ltw.Emitter(server.address, **options) as emitter:
        env = RecordTelemetry(gymnasium.make("CartPole-v1"), emitter, agent_id="a")
        assert env.spec is not None
        named = env.spec.additional_wrappers[-1]
        assert (named.name, named.kwargs["agent_id"], named.kwargs["emitter"]) == ("RecordTelemetry", "a", emitter)
        env.reset(seed=0)
        env.step(0)
        env.close()
        assert not emitter.closed
        with pytest.raises(TypeError, match="name: give these to the Emitter"):
            RecordTelemetry(env, emitter, name="x")
        with pytest.raises(ValueError, match="render_mode='rgb_array'"):
            RecordTelemetry(env, emitter, render="frames")
    assert recorded(server, emitter).steps["agent_id"].tolist() == ["a"]


# -- vectors -----------------------------------------------------------------------------------------------------------


class Counter(gymnasium.Env[Any, int]):
    """Counts to a length that depends on which one it is."""

    def __init__(self, length: int) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 100, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(5)
        self._length = length
        self._seen = np.zeros(2, np.float32)
        self._episode = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:  # noqa: ARG002, D102
        self._seen[:] = (0, self._episode)
        self._episode += 1
        return self._seen.copy(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: D102
        self._seen[0] += 1
        over = self._seen[0] >= self._length
        even = self._episode % 2 == 0
        return self._seen.copy(), float(action), bool(over and even), bool(over and not even), {}


LENGTHS = (1, 2, 3, 5)


def expected(actions: list[Any]) -> dict[str, list[Any]]:
    """Return what each sub-environment saw, by a plain loop over the actions that were steps of it."""
    told: dict[str, list[Any]] = {}
    for index, length in enumerate(LENGTHS):
        env = Counter(length)
        seen, _ = env.reset()
        rows, episode, step = [], 0, 0
        for action in actions[index]:
            before = seen.tolist()
            seen, reward, terminated, truncated, _ = env.step(int(action))
            rows.append([episode, step, before, int(action), reward, terminated, truncated])
            step += 1
            if terminated or truncated:
                seen, _ = env.reset()
                episode, step = episode + 1, 0
        told[f"env-{index}"] = rows
    return told


def rows_of(frame: pd.DataFrame) -> dict[str, list[Any]]:
    told: dict[str, list[Any]] = collections.defaultdict(list)
    for row in frame.sort_values(["agent_id", "episode", "step_index"]).itertuples():
        seen = [row.episode, row.step_index, json.loads(row.observation), json.loads(str(row.action)), row.reward]
        told[str(row.agent_id)].append([*seen, row.terminated, row.truncated])
    return dict(told)


@pytest.mark.parametrize("vector", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_each_way_to_reset_a_sub_environment_is_told_without_phantom_steps(
    server: ltw.Server, options: dict[str, Any], mode: AutoresetMode, vector: Any
) -> None:
    if vector is AsyncVectorEnv and mode is AutoresetMode.DISABLED:
        pytest.skip("one kind of vector is enough for what the wrapper does itself")
    envs = vector([lambda length=length: Counter(length) for length in LENGTHS], autoreset_mode=mode)
    wrapped = RecordTelemetry(envs, server.address, **options)
    assert isinstance(wrapped, RecordVectorTelemetry)
    wrapped.reset(seed=0)
    generator = np.random.default_rng(1)
    made: list[list[int]] = [[] for _ in LENGTHS]
    over = np.zeros(len(LENGTHS), np.bool_)
    for _ in range(12):
        if mode is AutoresetMode.DISABLED and over.any():
            wrapped.reset(options={"reset_mask": over.copy()})
        actions = generator.integers(0, 5, len(LENGTHS))
        for index, action in enumerate(actions):
            if not (mode is AutoresetMode.NEXT_STEP and over[index]):
                made[index].append(int(action))
        _, _, terminated, truncated, _ = wrapped.step(actions)
        over = terminated | truncated
    wrapped.close()
    run = recorded(server, wrapped.emitter)
    plain = expected(made)
    assert rows_of(run.steps) == plain
    complete = run.episodes[run.episodes["source"] == "record"]
    for row in complete.itertuples():
        steps = [step for step in plain[str(row.agent_id)] if step[0] == row.episode]
        assert (row.steps, row.total_reward) == (len(steps), sum(step[4] for step in steps))
        assert (row.terminated, row.truncated) == tuple(steps[-1][5:])
        length = LENGTHS[int(str(row.agent_id)[-1])]
        assert list(row.final_observation) == [length, row.episode]
    over_in_plain = sum(step[5] or step[6] for steps in plain.values() for step in steps)
    assert len(complete) == over_in_plain


def test_a_vector_of_dictionaries_is_told_too(server: ltw.Server, options: dict[str, Any]) -> None:
    class Pair(Counter):
        def __init__(self) -> None:
            super().__init__(4)
            self.observation_space = gymnasium.spaces.Dict(
                {"at": gymnasium.spaces.Discrete(9), "to": gymnasium.spaces.Box(0, 9, (1,), np.float32)}
            )

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return {"at": 1, "to": np.ones(1, np.float32)}, {}

        def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return {"at": action, "to": np.ones(1, np.float32)}, 1.0, False, False, {}

    envs = RecordVectorTelemetry(SyncVectorEnv([Pair, Pair]), server.address, agent_id="twin", **options)
    envs.reset()
    for t in range(3):
        envs.step(np.array([t, t + 1]))
    envs.close()
    steps = recorded(server, envs.emitter).steps
    assert sorted(steps["agent_id"].unique()) == ["twin-0", "twin-1"]
    last = steps[(steps["agent_id"] == "twin-1") & (steps["step_index"] == 2)]
    assert json.loads(last["observation"].iloc[0]) == {"at": 2, "to": [1.0]}


# -- several agents ----------------------------------------------------------------------------------------------------


def test_a_parallel_environment_tells_each_agent(server: ltw.Server, options: dict[str, Any]) -> None:
    pettingzoo = pytest.importorskip("pettingzoo", reason="PettingZoo is not installed")

    class Race(pettingzoo.ParallelEnv):
        metadata = {"name": "race_v0"}  # noqa: RUF012 - as PettingZoo has it
        possible_agents = ["slow", "fast"]  # noqa: RUF012 - as above

        def reset(self, seed: Any = None, options: Any = None) -> Any:  # noqa: ARG002
            self.agents, self.at = list(self.possible_agents), dict.fromkeys(self.possible_agents, 0)
            return dict(self.at), {agent: {} for agent in self.agents}

        def step(self, actions: dict[str, int]) -> Any:
            for agent, action in actions.items():
                self.at[agent] += action
            there = {agent: self.at[agent] >= 6 for agent in actions}
            self.agents = [agent for agent in self.agents if not there[agent]]
            rewards = {agent: float(action) for agent, action in actions.items()}
            return (
                {a: self.at[a] for a in actions},
                rewards,
                there,
                dict.fromkeys(actions, False),
                {a: {} for a in actions},
            )

    with ltw.pettingzoo.RecordTelemetry(Race(), server.address, **options) as env:
        for _ in range(2):
            env.reset(seed=5)
            while env.agents:
                env.step({agent: 1 + (agent == "fast") for agent in env.agents})
    run = recorded(server, env.emitter)
    seen = run.episodes.set_index(["agent_id", "episode"])[["steps", "total_reward"]].astype(float).T.to_dict("list")
    assert seen == {("slow", 0): [6, 6], ("slow", 1): [6, 6], ("fast", 0): [3, 6], ("fast", 1): [3, 6]}
    fast = run.steps[(run.steps["agent_id"] == "fast") & (run.steps["episode"] == 0)]
    assert fast["observation"].astype(int).tolist() == [0, 2, 4]
    assert fast["terminated"].tolist() == [False, False, True]


def test_a_game_of_turns_gives_each_agent_what_it_gets_until_its_next_turn(
    server: ltw.Server, options: dict[str, Any]
) -> None:
    pytest.importorskip("pettingzoo", reason="PettingZoo is not installed")
    tictactoe = pytest.importorskip(
        "pettingzoo.classic.tictactoe_v3", reason="PettingZoo's classic games are not installed"
    )
    plain: dict[str, list[float]] = collections.defaultdict(list)
    with ltw.pettingzoo.RecordTelemetry(tictactoe.env(), server.address, **options) as env:
        env.reset(seed=1)
        moves = iter([0, 3, 1, 4, 2])  # the first player wins with the third
        for agent in env.agent_iter():
            _, reward, terminated, truncated, _ = env.last()
            plain[agent].append(reward)
            env.step(None if terminated or truncated else next(moves))
    run = recorded(server, env.emitter)
    for agent, rewards in plain.items():
        mine = run.steps[run.steps["agent_id"] == agent]
        assert mine["reward"].tolist() == rewards[1:]
        assert mine["terminated"].tolist() == [False] * (len(mine) - 1) + [True]
    assert run.episodes.set_index("agent_id")["total_reward"].to_dict() == {"player_1": 1.0, "player_2": -1.0}


class Reach(gymnasium.Env[int, int]):
    """Ends after two steps, by a time limit; every other time where it should."""

    observation_space = gymnasium.spaces.Discrete(3)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, names: tuple[str, ...] = ("is_success",)) -> None:
        self.names, self.episodes, self.at = names, -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin the next."""
        super().reset(seed=seed, options=options)
        self.episodes += 1
        self.at = 0
        return 0, {}

    def step(self, _: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Go on, whatever is done."""
        self.at += 1
        over = self.at == 2
        return self.at, -1.0, False, over, dict.fromkeys(self.names, bool(self.episodes % 2)) if over else {}


@pytest.mark.parametrize("kind", ["is_success", "success", *AutoresetMode])
def test_the_success_that_an_environment_says_is_the_outcome(
    server: ltw.Server, options: dict[str, Any], kind: str | AutoresetMode
) -> None:
    if isinstance(kind, AutoresetMode):
        envs: Any = RecordTelemetry(SyncVectorEnv([Reach, Reach], autoreset_mode=kind), server.address, **options)
        envs.reset()
        for step in range(12):
            if kind is AutoresetMode.DISABLED and step and step % 2 == 0:
                envs.reset()
            envs.step(np.zeros(2, np.int64))
        wrapped = envs
    else:
        # Every other way to tell a step: that of plain observations, and that of chosen ones.
        chosen = {"observations_every": 2} if kind == "success" else {}
        wrapped = RecordTelemetry(Reach((kind,)), server.address, **chosen, **options)
        walk(wrapped, 4)
    wrapped.close()
    frame = recorded(server, wrapped.emitter).episodes
    whole = frame[frame["steps"] == 2]
    assert len(whole) >= 4
    want = ["Success" if number % 2 else "Failed" for number in whole["episode"]]
    assert whole["outcome"].tolist() == want
    assert whole["success"].tolist() == [word == "Success" for word in want]
    assert "extra_outcome" not in frame


def test_a_success_that_a_loop_says_is_the_outcome(server: ltw.Server, options: dict[str, Any]) -> None:
    emitter = ltw.Emitter(server.address, config={"lr": np.float32(0.5), "layers": np.array([64, 64])}, **options)
    for said in ({"success": False}, {"success": np.True_}, {"success": True, "outcome": "Failed"}, {}):
        emitter.step(action=0, reward=0.0, terminated=True)
        emitter.episode(**said)
    emitter.close()
    run = recorded(server, emitter)
    assert run.episodes["outcome"].tolist() == ["Failed", "Success", "Failed", "Completed"]
    # NumPy's values of a config are as plain ones.
    assert run.config["metadata"]["worker"]["config"] == {"lr": 0.5, "layers": [64, 64]}
