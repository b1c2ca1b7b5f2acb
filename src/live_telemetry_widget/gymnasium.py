"""Gymnasium environments that tell a daemon what happens in them: :class:`RecordTelemetry`, :class:`RecordVectorTelemetry`.

Needs ``pip install 'live_telemetry_widget[gymnasium]'``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, Literal, SupportsFloat, TypeVar

from live_telemetry_widget.errors import MissingPackageError

try:
    import gymnasium
    from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
    from gymnasium.vector.utils import iterate
except ImportError as missing:
    message = "live_telemetry_widget.gymnasium needs Gymnasium: pip install 'live_telemetry_widget[gymnasium]'"
    raise MissingPackageError(message) from missing

import numpy as np

from live_telemetry_widget.worker.emitter import Emitter, emitter_for, now, outcome_of
from live_telemetry_widget.worker.payloads import Board, Frames, MiniGrid
from live_telemetry_widget.worker.records import NUMBERS, PLAIN, Block, Episode, plain, snapshot, success_in

if TYPE_CHECKING:
    from live_telemetry_widget.worker.payloads import Format
    from live_telemetry_widget.worker.records import Painter

Render = Literal["auto", "frames", "none"]
_ObsType = TypeVar("_ObsType")
_ActType = TypeVar("_ActType")
#: The end of an episode that was under way when its environment was reset.
_CUT: Final = True
_ARRAY: Final = np.ndarray
_RENDERS: Final = ("auto", "frames", "none")


class _Nothing:
    """The class of no observation."""


class RecordTelemetry(gymnasium.Wrapper[_ObsType, _ActType, _ObsType, _ActType], gymnasium.utils.RecordConstructorArgs):
    """An environment whose every step is told to a daemon.

    A step's row has the observation that its action answered (as trainer workers tell it), and a payload or frame of where it led. The last
    observation of an episode is in the episode's row, ``final_observation``. What is recorded is what this wrapper sees: put it outside
    of wrappers that change rewards or observations to record what the agent gets, inside to record the game.

    Parameters
    ----------
    env
        The environment.
    emitter
        An :class:`~live_telemetry_widget.Emitter`, which stays open when the environment is closed; or a daemon's address, for an
        emitter of its own, which is closed with the environment.
    agent_id
        Whose steps these are; the emitter's by default.
    render
        ``"auto"``: a payload that the view draws, of FrozenLake, CliffWalking, Taxi, Blackjack and MiniGrid. ``"frames"``: what ``env.render()``
        returns (``render_mode="rgb_array"``). ``"none"``.
    render_every
        Of every so-manieth step only.
    frame_format
        ``"png"``, or ``"webp"`` with Pillow.
    **options
        The emitter's own, where it is made here: ``run_id``, ``name``, ``config``, ``observations`` ...

    Raises
    ------
    ValueError
        Frames of an environment without ``render_mode="rgb_array"``, or a parameter that is none.

    Examples
    --------
    >>> import gymnasium, live_telemetry_widget as ltw
    >>> with ltw.serve() as server:
    ...     with RecordTelemetry(gymnasium.make("FrozenLake-v1"), server.address, name="a walk") as env:
    ...         state, info = env.reset(seed=1)
    ...         done = False
    ...         while not done:
    ...             state, reward, terminated, truncated, info = env.step(env.action_space.sample())
    ...             done = terminated or truncated
    ...     env.emitter.stats.confirmed_episodes
    1
    """

    def __new__(cls, env: Any = None, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - of either class
        """Make a :class:`RecordVectorTelemetry` of a vector environment: people expect one name."""
        if isinstance(env, VectorEnv):
            return RecordVectorTelemetry(env, *arguments, **options)
        return super().__new__(cls)

    def __init__(  # noqa: PLR0913 - keywords with defaults
        self,
        env: gymnasium.Env[_ObsType, _ActType],
        emitter: Emitter | str | None = None,
        *,
        agent_id: str | None = None,
        render: Render = "auto",
        render_every: int = 1,
        frame_format: Format = "png",
        **options: Any,  # noqa: ANN401 - the emitter's
    ) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(
            self,
            emitter=emitter,
            agent_id=agent_id,
            render=render,
            render_every=render_every,
            frame_format=frame_format,
            **options,
        )
        super().__init__(env)
        self._painter = painter = _painter(env, render, render_every, frame_format)
        self._render_every = render_every
        self._agent_id = agent_id
        self.emitter, self._owns = emitter_for(emitter, env.spec.id if env.spec else "", dict(options))
        #: Whether an observation is all that a picture needs.
        self._simple = painter is None or (isinstance(painter, Board) and painter.family != "Blackjack")
        self._steps = 0
        self._running = False
        self._seen: Any = None
        self._last: tuple[Any, ...] | None = None
        self._forget()

    def _forget(self) -> None:
        """Know nothing of how steps are told: rows of another emitter's list are read in another manner."""
        self._manner: int | None = None
        self._manners: dict[Any, int] = {}
        self._kind: type = _Nothing
        self._dtype: Any = None
        self._shape: tuple[int, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is so in this process only."""
        gone = ("_manner", "_manners", "_kind", "_dtype", "_shape")
        return {name: value for name, value in self.__dict__.items() if name not in gone}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Undo that."""
        self.__dict__.update(state)
        self._forget()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[_ObsType, dict[str, Any]]:
        """Reset the environment; an episode that was under way is told as truncated."""
        observation, info = self.env.reset(seed=seed, options=options)
        emitter, further = self.emitter, None if seed is None else {"episode_seed": seed}
        self._look_back()
        if self._running:
            self._running = False
            seen = self._whole(self._seen)
            final = {} if seen is None else {"final_observation": seen}
            emitter.record(Episode(now(), None, None, None, _CUT, None, self._agent_id, final))
        self._begin(observation, further)
        return observation, info

    def step(self, action: _ActType) -> tuple[_ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """Make a step and tell of it; waits while the run is paused.

        Raises
        ------
        RunCancelledError
            Somebody has cancelled the run.
        """
        result = self.env.step(action)
        observation, reward, terminated, truncated, info = result
        emitter = self.emitter
        if emitter.gate.shut and not emitter.admits():
            return result
        if observation.__class__ is self._kind:
            kept: Any = observation
        elif observation.__class__ is _ARRAY and observation.dtype is self._dtype and observation.shape == self._shape:  # type: ignore[attr-defined]  # an array's
            kept = observation.tobytes()  # type: ignore[attr-defined]  # as above
        else:
            self._tell(action, result)
            return result
        if action.__class__ not in PLAIN:
            action = plain(action)
        self._last = row = (now(), action, reward, kept, terminated, truncated, self._manner)
        emitter.put(row)
        if terminated or truncated:
            self._say_success(info)
        return result

    def _say_success(self, info: dict[str, Any]) -> None:
        """Tell whether the episode that has just ended was one, where the environment says it."""
        if said := success_in(info):
            self.emitter.record(Episode(now(), None, None, None, None, None, self._agent_id, said))

    def _look_back(self) -> None:
        """Take from the last row what is seldom wanted to be known: each step would be dearer for it."""
        if (last := self._last) is not None:
            self._seen, self._running, self._last = last[3], not (last[4] or last[5]), None

    def _begin(self, observation: Any, further: dict[str, Any] | None, *, loose: bool = False) -> None:  # noqa: ANN401 - the environment's own
        """Begin an episode, choosing how its steps are told; loosely: in a manner that takes any observation."""
        array = None
        self._kind, self._dtype, self._shape = _Nothing, None, ()
        self._further = further
        if not self._simple or self.emitter.choosy:
            self._seen = self.emitter.keep(observation)
            return
        if not loose and observation.__class__ is _ARRAY and observation.dtype.kind in NUMBERS:
            self._dtype, self._shape = observation.dtype, observation.shape
            array = (observation.dtype.str, observation.shape)
            self._seen = observation.tobytes()
        else:
            if not loose and observation.__class__ in PLAIN:
                self._kind = observation.__class__
            self._seen = plain(observation)
        number = self._manners.get(array)
        if number is None:
            how = {"painter": self._painter, "every": self._render_every}
            number = self.emitter.manner(agent_id=self._agent_id, array=array, leads=True, **how)
            self._manners[array] = number
        self._manner = number
        if not self.emitter.gate.off:
            self.emitter.put((None, further, 0.0, self._seen, False, False, number))

    def _whole(self, seen: Any) -> Any:  # noqa: ANN401 - an observation
        """Return an observation that was kept, as it was."""
        return seen if self._dtype is None or seen is None else np.frombuffer(seen, self._dtype).reshape(self._shape)

    def _tell(self, action: Any, result: tuple[Any, ...]) -> None:  # noqa: ANN401 - the environment's own
        """Tell of a step whose observation is no plain value, nor an array like the one before."""
        self._look_back()
        observation, reward, terminated, truncated, info = result
        action = plain(action)
        over = terminated or truncated
        if self._simple and not self.emitter.choosy:
            if self._manner is None or self._dtype is not None or self._kind is not _Nothing:
                self._begin(self._whole(self._seen), self._further, loose=True)
            kept = plain(observation)
            self.emitter.put((now(), action, reward, kept, terminated, truncated, self._manner))
        else:
            kept, drawing = self.emitter.keep(observation), None
            if self._painter is not None and not self._steps % self._render_every:
                drawing = (self._painter, self._subject(observation))
            step = (now(), action, reward, self._seen, terminated, truncated, None, None, self._agent_id)
            self.emitter.record((*step, self._further, drawing, kept if over else None))
        self._seen = kept
        if over:
            self._say_success(info)
        self._steps += 1
        self._running = not over

    def _subject(self, observation: Any) -> Any:  # noqa: ANN401 - the environment's own
        """Return what the painter needs of the state now."""
        if isinstance(self._painter, Board):
            return tuple(observation)  # Blackjack's; the others' are numbers
        if isinstance(self._painter, MiniGrid):
            return self._painter.subject(self.env)
        return snapshot(self.env.render())

    def close(self) -> None:
        """Close the environment, and the emitter if it is the wrapper's own; its run ends as the program does."""
        try:
            super().close()
        finally:
            if self._owns:
                error = sys.exc_info()[1]
                self.emitter.close(*outcome_of(error))


def _painter(env: gymnasium.Env[Any, Any], render: str, every: int, frame_format: Format) -> Painter | None:
    if render not in _RENDERS or every < 1:
        msg = (
            f"render is {render!r}, render_every {every!r}; give one of {', '.join(map(repr, _RENDERS))}, and 1 or more"
        )
        raise ValueError(msg)
    if render == "none":
        return None
    if render == "auto":
        return Board.of(env) or MiniGrid.of(env)
    if env.render_mode != "rgb_array":
        msg = f"frames need an environment made with render_mode='rgb_array'; this one has {env.render_mode!r}"
        raise ValueError(msg)
    return Frames(frame_format, env.spec.id if env.spec is not None else "")


class RecordVectorTelemetry(VectorWrapper, gymnasium.utils.RecordConstructorArgs):
    """A vector of environments whose every step is told to a daemon; each sub-environment is an agent.

    The calls that only reset a sub-environment (``AutoresetMode.NEXT_STEP``) are no steps and are not told. With ``SAME_STEP`` the last
    observation is the environment's ``final_obs``, not the first of the next episode.

    Parameters
    ----------
    env
        The vector environment.
    emitter
        As of :class:`RecordTelemetry`.
    agent_id
        The sub-environments are ``AGENT_ID-0``, ``AGENT_ID-1`` ...
    **options
        The emitter's own, where it is made here.

    Examples
    --------
    >>> import gymnasium, live_telemetry_widget as ltw
    >>> with ltw.serve() as server:
    ...     envs = RecordVectorTelemetry(gymnasium.make_vec("CartPole-v1", num_envs=2), server.address)
    ...     states, infos = envs.reset(seed=1)
    ...     for _ in range(5):
    ...         states, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
    ...     envs.close()
    ...     envs.emitter.stats.confirmed_steps
    10
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        emitter: Emitter | str | None = None,
        *,
        agent_id: str = "env",
        **options: Any,  # noqa: ANN401 - the emitter's
    ) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, emitter=emitter, agent_id=agent_id, **options)
        super().__init__(env)
        self._mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.emitter, self._owns = emitter_for(emitter, env.spec.id if env.spec else "", dict(options))
        number = self.num_envs
        self._names = [f"{agent_id}-{index}" for index in range(number)]
        self._every_agent = np.arange(number, dtype=np.int32)
        self._episodes = np.full(number, self.emitter.first_episode, np.int64)
        self._steps = np.zeros(number, np.int64)
        self._totals = np.zeros(number, np.float64)
        #: Sub-environments whose next step only resets them.
        self._over = np.zeros(number, np.bool_)
        self._seeds: list[int | None] = [None] * number
        self._seen: Any = None
        self._told = 0

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments, or those of ``options["reset_mask"]``; episodes that were under way are told as truncated."""
        mask = (
            np.array(options["reset_mask"]) if options and "reset_mask" in options else np.ones(self.num_envs, np.bool_)
        )
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]  # vectors take a list, whatever their types say
        for index in np.flatnonzero(mask & (self._steps > 0)):
            self._end(int(index), self._part(self._seen, int(index)), truncated=True)
        seeds = [seed + index for index in range(self.num_envs)] if isinstance(seed, int) else seed
        for index in np.flatnonzero(mask):
            self._seeds[index] = seeds[index] if seeds is not None else None
        self._over &= ~mask
        self._seen = self._observed(observations)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:  # noqa: ANN401 - as the environment has them
        """Make a step in each and tell of them; waits while the run is paused.

        Raises
        ------
        RunCancelledError
            Somebody has cancelled the run.
        """
        said = _copied(self.action_space, actions)
        result = self.env.step(actions)
        observations, rewards, terminated, truncated, infos = result
        rewards = np.array(rewards, np.float64)
        terminated, truncated = np.array(terminated, np.bool_), np.array(truncated, np.bool_)
        before, self._seen = self._seen, self._observed(observations)
        live = ~self._over
        self._steps += live
        self._totals += np.where(live, rewards, 0.0)
        every = bool(live.all())
        # What stands in a block is nobody else's: a choice by mask copies, and so does arithmetic.
        columns = {
            "agent": self._every_agent if every else self._every_agent[live],
            "episode": self._episodes[live],
            "step_index": self._steps[live] - 1,
            "action": said if every else said[live],
            "reward": rewards if every else rewards[live],
            "terminated": terminated if every else terminated[live],
            "truncated": truncated if every else truncated[live],
            "observation": before if every or before is None else before[live],
        }
        further: dict[str, Any] = {}
        if any(seed is not None for seed in self._seeds):
            further["episode_seed"] = [seed for seed, told in zip(self._seeds, live, strict=True) if told]
        if len(columns["agent"]):
            self.emitter.record(Block(now(), self._names, columns, further), len(columns["agent"]))
        over = (terminated | truncated) & live
        for index in np.flatnonzero(over):
            final = self._final(int(index), infos)
            told = self._success(int(index), infos)
            self._end(int(index), final, told, terminated=bool(terminated[index]), truncated=bool(truncated[index]))
        self._over = over if self._mode == AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, np.bool_)
        return result

    def _observed(self, observations: Any) -> Any:  # noqa: ANN401 - as the environment has them
        """Return a copy, a row a sub-environment; None when it is not to be kept."""
        self._told += 1
        if not self.emitter.keeps(self._told - 1):
            return None
        return _copied(self.observation_space, observations)

    def _final(self, index: int, infos: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
        """Return the last observation of an episode that has just ended."""
        if self._mode != AutoresetMode.SAME_STEP:
            return self._part(self._seen, index)
        final = infos.get("final_obs")
        if self._seen is None or final is None:
            return None
        return snapshot(final[index])

    @staticmethod
    def _part(observations: Any, index: int) -> Any:  # noqa: ANN401 - as above
        return None if observations is None else observations[index]

    def _success(self, index: int, infos: dict[str, Any]) -> dict[str, Any]:
        """Return what is said of the success of an episode that has just ended."""
        if self._mode != AutoresetMode.SAME_STEP:
            return success_in(infos, index)
        # What is outside is of the episode that has begun in the same step.
        last = infos.get("final_info")
        return success_in(last, index) if isinstance(last, dict) else {}

    def _end(
        self,
        index: int,
        final: Any,  # noqa: ANN401 - as above
        told: dict[str, Any] | None = None,
        *,
        truncated: bool,
        terminated: bool = False,
    ) -> None:
        further = {**({} if final is None else {"final_observation": final}), **(told or {})}
        episode = Episode(
            now(),
            float(self._totals[index]),
            int(self._steps[index]),
            terminated,
            truncated,
            int(self._episodes[index]),
            self._names[index],
            further,
        )
        self._episodes[index] += 1
        self._steps[index], self._totals[index] = 0, 0.0
        self._seeds[index] = None
        self.emitter.record(episode)

    def close(self, **kwargs: Any) -> None:  # noqa: ANN401 - as VectorEnv has it
        """Close the environments, and the emitter if it is the wrapper's own; its run ends as the program does."""
        try:
            super().close(**kwargs)
        finally:
            if self._owns:
                error = sys.exc_info()[1]
                self.emitter.close(*outcome_of(error))


def _copied(space: gymnasium.Space[Any], values: Any) -> Any:  # noqa: ANN401 - a batched space's value
    """Return a batch as an array of its own: of numbers where it is one, else of objects."""
    if isinstance(values, np.ndarray):
        return values.copy()
    parts = [snapshot(part) for part in iterate(space, values)]
    array = np.empty(len(parts), object)
    for index, part in enumerate(parts):  # not at once: NumPy would make one array of equal lists
        array[index] = part
    return array


__all__ = ["RecordTelemetry", "RecordVectorTelemetry"]
