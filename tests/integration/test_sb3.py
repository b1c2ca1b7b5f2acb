"""Stable-Baselines3's own algorithms with the callback; `make test-sb3` runs this in an environment that has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import live_telemetry_widget as ltw

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

stable_baselines3 = pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: make test-sb3")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ltw.Server]:
    with ltw.serve(tmp_path_factory.mktemp("data")) as running:
        yield running


class Witness(stable_baselines3.common.callbacks.BaseCallback):
    """Notes what the algorithm gets, in its own way: with the Monitor that it puts around each environment."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[tuple[float, int]] = []
        self.observations: list[Any] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.episodes.append((info["episode"]["r"], info["episode"]["l"]))
        self.observations.append(self.locals["obs_tensor"].numpy().tolist() if "obs_tensor" in self.locals else None)
        return True


@pytest.mark.parametrize(("algorithm", "number"), [("PPO", 3), ("DQN", 1)])
def test_what_an_algorithm_learns_from_is_recorded(
    server: ltw.Server, tmp_path: pathlib.Path, algorithm: str, number: int
) -> None:
    options: dict[str, Any] = {"PPO": {"n_steps": 64}, "DQN": {"learning_starts": 50}}[algorithm]
    env = stable_baselines3.common.env_util.make_vec_env("CartPole-v1", n_envs=number, seed=1)
    model = getattr(stable_baselines3, algorithm)("MlpPolicy", env, seed=1, device="cpu", **options)
    witness, callback = Witness(), ltw.sb3.TelemetryCallback(server.address, spool_dir=tmp_path)
    model.learn(600, callback=[witness, callback])
    emitter = callback.emitter
    assert emitter is not None
    assert emitter.closed
    with ltw.connect(server.address) as client:
        run = client.run(emitter.run_id)
        run.wait(60)
        assert run.status == "completed"
        assert run.problems.empty
        assert len(run.steps) == model.num_timesteps
        assert run.steps["agent_id"].nunique() == number
        ended = run.episodes[run.episodes["source"] == "record"]
        told = sorted(zip(ended["total_reward"], ended["steps"], strict=True))
        assert told == sorted(witness.episodes)
        assert {len(json.loads(text)) for text in run.steps["observation"]} == {4}
        if algorithm == "PPO":
            first = run.steps[run.steps["agent_id"] == "agent-0"].sort_values("seq_id")["observation"]
            seen = [row[0] for row in witness.observations]
            assert [json.loads(text) for text in first[:5]] == [pytest.approx(row, rel=1e-5) for row in seen[:5]]
            assert "train_loss" in run.steps


def test_a_cancelled_run_stops_the_training(server: ltw.Server, tmp_path: pathlib.Path) -> None:
    model = stable_baselines3.A2C("MlpPolicy", "CartPole-v1", seed=1, device="cpu")
    with ltw.Emitter(server.address, spool_dir=tmp_path) as emitter, ltw.connect(server.address) as client:
        run = client.run(emitter.run_id)

        class Cancel(stable_baselines3.common.callbacks.BaseCallback):
            def _on_step(self) -> bool:
                if self.n_calls == 20:
                    run.cancel()
                return True

        model.learn(5_000_000, callback=[Cancel(), ltw.sb3.TelemetryCallback(emitter)])
        assert emitter.cancelled
