"""A Stable-Baselines3 callback that tells a daemon what an agent does while it learns: :class:`TelemetryCallback`.

Needs ``pip install stable-baselines3``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from live_telemetry_widget._names import DEFAULT_ADDRESS
from live_telemetry_widget.errors import MissingPackageError, RunCancelledError

try:
    from stable_baselines3.common.callbacks import BaseCallback
except ImportError as missing:
    message = "live_telemetry_widget.sb3 needs Stable-Baselines3: pip install stable-baselines3"
    raise MissingPackageError(message) from missing

import numpy as np

from live_telemetry_widget.worker.config import as_json
from live_telemetry_widget.worker.emitter import Emitter, now, outcome_of
from live_telemetry_widget.worker.records import Block, Episode, snapshot, success_in

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Of what the algorithm logs, what its steps carry too: it changes with every update.
LOGGED = ("train/loss", "train/value_loss", "train/entropy_loss", "train/approx_kl", "rollout/exploration_rate")


class TelemetryCallback(BaseCallback):
    """Tells every step of every sub-environment, and what the algorithm logs.

    Parameters
    ----------
    emitter
        An :class:`~live_telemetry_widget.Emitter`, which stays open after ``learn()``; or a daemon's address, for an emitter of its own,
        which is closed at the end of training.
    agent_id
        The sub-environments are ``AGENT_ID-0``, ``AGENT_ID-1`` ...; the only one of a vector of one is ``AGENT_ID``.
    logged
        Names of the algorithm's logger whose newest value goes with each step, as a column: ``train/loss`` as ``train_loss``.
    verbose
        As of every callback.
    **options
        The emitter's own, where it is made here.

    Notes
    -----
    Rewards are those that the algorithm gets: wrappers such as ``VecNormalize`` have changed them. ``terminated`` and ``truncated`` are told
    apart by ``TimeLimit.truncated``, as Stable-Baselines3 does. When the run is cancelled, training stops as if it were complete.

    Examples
    --------
    >>> from stable_baselines3 import PPO                                       # doctest: +SKIP
    >>> PPO("MlpPolicy", "CartPole-v1").learn(10_000, callback=TelemetryCallback("127.0.0.1:50055"))  # doctest: +SKIP
    """

    def __init__(
        self,
        emitter: Emitter | str | None = None,
        *,
        agent_id: str = "agent",
        logged: Sequence[str] = LOGGED,
        verbose: int = 0,
        **options: Any,  # noqa: ANN401 - the emitter's
    ) -> None:
        super().__init__(verbose)
        if isinstance(emitter, Emitter) and options:
            msg = f"{', '.join(options)}: give these to the Emitter, which was made before the callback"
            raise TypeError(msg)
        self._to = emitter
        self._agent_id = agent_id
        self._logged = tuple(logged)
        self._options = options
        self.emitter: Emitter | None = emitter if isinstance(emitter, Emitter) else None

    def _on_training_start(self) -> None:
        env = self.training_env
        if self.emitter is None:
            spec = env.get_attr("spec")[0]
            config = {"algorithm": type(self.model).__name__, **({"game_id": spec.id} if spec is not None else {})}
            config |= as_json(self._options.pop("config", None) or {})
            to = self._to if isinstance(self._to, str) else DEFAULT_ADDRESS
            self.emitter = Emitter(to, config=config, **self._options)
        number = env.num_envs
        self._names = [self._agent_id] if number == 1 else [f"{self._agent_id}-{i}" for i in range(number)]
        self._agents = np.arange(number, dtype=np.int32)
        self._episodes = np.full(number, self.emitter.first_episode, np.int64)
        self._steps = np.zeros(number, np.int64)
        self._totals = np.zeros(number, np.float64)
        self._told = 0
        #: What the algorithm logged last, by name; it logs seldom.
        self._newest: dict[str, float] = {}

    def _on_step(self) -> bool:
        emitter = self.emitter
        if emitter is None:
            return True
        try:
            self._tell(emitter, self.locals)
        except RunCancelledError:
            return False
        return True

    def _tell(self, emitter: Emitter, said: dict[str, Any]) -> None:
        rewards = np.array(said["rewards"], np.float64)
        done = np.array(said["dones"], np.bool_)
        cut = np.array([bool(info.get("TimeLimit.truncated")) for info in said["infos"]], np.bool_) & done
        kept = emitter.keeps(self._told)
        self._told += 1
        columns = {
            "agent": self._agents,
            "episode": self._episodes.copy(),
            "step_index": self._steps.copy(),
            "action": _rows(said.get("clipped_actions", said["actions"])),
            "reward": rewards,
            "terminated": done & ~cut,
            "truncated": cut,
            "observation": _rows(self._seen()) if kept else None,
        }
        logged = self.logger.name_to_value
        self._newest.update({name: float(logged[name]) for name in self._logged if name in logged})
        further = {name.replace("/", "_"): [value] * len(done) for name, value in self._newest.items()}
        emitter.record(Block(now(), self._names, columns, further), len(done))
        self._steps += 1
        self._totals += rewards
        for index in np.flatnonzero(done):
            self._end(emitter, int(index), said["infos"][index], cut=bool(cut[index]))

    def _seen(self) -> Any:  # noqa: ANN401 - an array, or a dict of arrays
        """Return the observations that the actions answer: the model keeps them until it takes the next."""
        return self.model._last_obs  # noqa: SLF001 - on-policy algorithms hand them over nowhere else

    def _end(self, emitter: Emitter, index: int, info: dict[str, Any], *, cut: bool) -> None:
        final = info.get("terminal_observation")
        further = {} if final is None or emitter.choosy else {"final_observation": snapshot(final)}
        further |= success_in(info)
        total, steps = float(self._totals[index]), int(self._steps[index])
        number, name = int(self._episodes[index]), self._names[index]
        emitter.record(Episode(now(), total, steps, not cut, cut, number, name, further))
        self._episodes[index] += 1
        self._steps[index], self._totals[index] = 0, 0.0

    def _on_training_end(self) -> None:
        if self.emitter is None:
            return
        self.emitter.flush()
        if not isinstance(self._to, Emitter):
            error = sys.exc_info()[1]
            outcome = outcome_of(error)
            self.emitter.close(*(("cancelled", "cancelled") if self.emitter.cancelled else outcome))


def _rows(values: Any) -> Any:  # noqa: ANN401 - an array, or a dict of arrays
    """Return a copy with a row a sub-environment."""
    if isinstance(values, dict):
        number = len(next(iter(values.values())))
        rows = np.empty(number, object)
        for index in range(number):
            rows[index] = {name: np.array(array[index]) for name, array in values.items()}
        return rows
    return np.array(values)


__all__ = ["LOGGED", "TelemetryCallback"]
