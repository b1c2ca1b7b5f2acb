"""PettingZoo environments that tell a daemon what happens in them: :class:`RecordAECTelemetry`, :class:`RecordParallelTelemetry`.

Needs ``pip install pettingzoo``. Each agent of the environment is an agent of the run, with episodes of its own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

from live_telemetry_widget.errors import MissingPackageError

try:
    from pettingzoo import AECEnv
    from pettingzoo.utils.wrappers import BaseParallelWrapper, BaseWrapper
except ImportError as missing:
    message = "live_telemetry_widget.pettingzoo needs PettingZoo: pip install pettingzoo"
    raise MissingPackageError(message) from missing

from live_telemetry_widget.worker.emitter import Emitter, emitter_for, now, outcome_of
from live_telemetry_widget.worker.records import Episode, snapshot

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv


class _Teller:
    """What both wrappers do: hold an emitter, and remember what each agent has seen."""

    def __init__(self, to: Emitter | str | None, env: Any, options: dict[str, Any]) -> None:  # noqa: ANN401 - either kind
        name = str((getattr(env, "metadata", None) or {}).get("name", ""))
        self.emitter, self._owns = emitter_for(to, name, options)
        self.seen: dict[str, Any] = {}
        self.running: set[str] = set()
        self._further: dict[str, Any] | None = None

    def reset(self, seed: int | None) -> None:
        """Forget; episodes that were under way are told as truncated."""
        for agent in sorted(self.running):
            self.end(agent, None, terminated=False, truncated=True)
        self.seen = {}
        self._further = None if seed is None else {"episode_seed": seed}

    def step(  # noqa: PLR0913 - a step's fields, by name
        self,
        agent: str,
        action: Any,  # noqa: ANN401 - as the environment has it
        reward: float,
        seen: Any,  # noqa: ANN401 - as above
        *,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Tell of an agent's step; `seen` is a copy already."""
        self.running.add(agent)
        self.emitter.record(
            (now(), snapshot(action), reward, seen, terminated, truncated, None, None, agent, self._further, None, None)
        )

    def end(self, agent: str, final: Any, *, terminated: bool, truncated: bool) -> None:  # noqa: ANN401 - an observation
        """Tell the end of an agent's episode."""
        self.running.discard(agent)
        further = {} if final is None else {"final_observation": final}
        self.emitter.record(Episode(now(), None, None, terminated, truncated, None, agent, further))

    def close(self) -> None:
        """Close the emitter if it is the wrapper's own; its run ends as the program does."""
        if self._owns:
            error = sys.exc_info()[1]
            self.emitter.close(*outcome_of(error))


class _Closing:
    """In a ``with`` block: closed at its end, and the run ends as the block does. PettingZoo's own classes are no context managers."""

    if TYPE_CHECKING:

        def close(self) -> None:
            """Close it, as both wrappers do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RecordParallelTelemetry(BaseParallelWrapper, _Closing):
    """A parallel environment whose every step is told to a daemon.

    Parameters
    ----------
    env
        The environment.
    emitter
        An :class:`~live_telemetry_widget.Emitter`, which stays open when the environment is closed; or a daemon's address, for an
        emitter of its own, which is closed with the environment.
    **options
        The emitter's own, where it is made here.
    """

    def __init__(
        self,
        env: ParallelEnv[Any, Any, Any],
        emitter: Emitter | str | None = None,
        **options: Any,  # noqa: ANN401 - the emitter's
    ) -> None:
        super().__init__(env)
        self._teller = _Teller(emitter, env, dict(options))
        self.emitter = self._teller.emitter

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reset the environment; episodes that were under way are told as truncated."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self._teller.reset(seed)
        self._teller.seen = {agent: self.emitter.keep(seen) for agent, seen in observations.items()}
        return observations, infos

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Make a step of all agents and tell of each; waits while the run is paused."""
        result: tuple[dict[str, Any], ...] = self.env.step(actions)
        observations, rewards, terminated, truncated, _ = result
        teller = self._teller
        for agent, action in actions.items():
            if agent not in rewards:  # of an agent that is not there any more
                continue
            ends, cut = bool(terminated.get(agent)), bool(truncated.get(agent))
            seen = teller.seen.get(agent)
            teller.step(agent, action, rewards[agent], seen, terminated=ends, truncated=cut)
            teller.seen[agent] = self.emitter.keep(observations[agent]) if agent in observations else None
            if ends or cut:
                teller.end(agent, teller.seen[agent], terminated=ends, truncated=cut)
        return result

    def close(self) -> None:
        """Close the environment, and the emitter if it is the wrapper's own."""
        try:
            super().close()
        finally:
            self._teller.close()


class RecordAECTelemetry(BaseWrapper, _Closing):
    """An agent-environment-cycle environment whose every step is told to a daemon.

    An agent's step has the reward that it gets from its action until it is its turn again, as ``env.last()`` gives it: so it is told at the
    agent's next turn, when that is known, and an agent's last step when the environment says that the agent is over.

    Parameters
    ----------
    env, emitter, **options
        As of :class:`RecordParallelTelemetry`.
    """

    def __init__(
        self,
        env: AECEnv[Any, Any, Any],
        emitter: Emitter | str | None = None,
        **options: Any,  # noqa: ANN401 - the emitter's
    ) -> None:
        super().__init__(env)
        self._teller = _Teller(emitter, env, dict(options))
        self.emitter = self._teller.emitter
        #: An agent's last action, what it saw before, and the rewards since.
        self._acted: dict[str, list[Any]] = {}

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Reset the environment; episodes that were under way are told as truncated."""
        for agent in list(self._acted):
            self._tell(agent)
        super().reset(seed=seed, options=options)
        self._teller.reset(seed)

    def step(self, action: Any) -> None:  # noqa: ANN401 - as the environment has it
        """Make a step of the agent whose turn it is; waits while the run is paused."""
        env, agent = self.env, self.env.agent_selection
        over = env.terminations[agent] or env.truncations[agent]
        if over:
            # Told when it became so; this call only takes the agent away.
            super().step(action)
            return
        self._tell(agent)
        self._acted[agent] = [snapshot(action), self.emitter.keep(env.observe(agent)), 0.0]
        super().step(action)
        for other, reward in env.rewards.items():
            if other in self._acted:
                self._acted[other][2] += reward
        for other in [name for name in self._acted if env.terminations.get(name) or env.truncations.get(name)]:
            self._tell(other, terminated=bool(env.terminations[other]), truncated=bool(env.truncations[other]))

    def _tell(self, agent: str, *, terminated: bool = False, truncated: bool = False) -> None:
        held = self._acted.pop(agent, None)
        if held is None:
            return
        action, seen, reward = held
        self._teller.step(agent, action, reward, seen, terminated=terminated, truncated=truncated)
        if terminated or truncated:
            final = self.emitter.keep(self.env.observe(agent))
            self._teller.end(agent, final, terminated=terminated, truncated=truncated)

    def close(self) -> None:
        """Close the environment, and the emitter if it is the wrapper's own."""
        try:
            super().close()
        finally:
            for agent in list(self._acted):
                self._tell(agent)
            self._teller.close()


def RecordTelemetry(env: Any, emitter: Emitter | str | None = None, **options: Any) -> Any:  # noqa: ANN401, N802 - a class's name, for either kind
    """Return `env` with its steps told, whichever of the two kinds it is.

    >>> RecordTelemetry(object())
    Traceback (most recent call last):
    TypeError: object is no PettingZoo environment: neither an AECEnv nor a ParallelEnv
    """
    from pettingzoo import ParallelEnv  # noqa: PLC0415 - a name for types above

    if isinstance(env, AECEnv):
        return RecordAECTelemetry(env, emitter, **options)
    if isinstance(env, ParallelEnv):
        return RecordParallelTelemetry(env, emitter, **options)
    msg = f"{type(env).__name__} is no PettingZoo environment: neither an AECEnv nor a ParallelEnv"
    raise TypeError(msg)


__all__ = ["RecordAECTelemetry", "RecordParallelTelemetry", "RecordTelemetry"]
