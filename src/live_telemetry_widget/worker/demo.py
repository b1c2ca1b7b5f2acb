"""The demo worker: tabular Q-learning on a real Gymnasium environment, telling what it does on standard output.

``python -m live_telemetry_widget.worker.demo --env FrozenLake-v1 --episodes 150`` prints the JSON events of docs/wire.md, one a line,
as any worker may. It knows nothing of gRPC or of this package: put the proxy (``live-telemetry run``) around it. With ``--daemon ADDRESS`` it
prints nothing and tells a daemon itself, as a training program with an :class:`~live_telemetry_widget.Emitter` does.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

from live_telemetry_widget._names import RUN_ID
from live_telemetry_widget.errors import RunCancelledError, WorkerError
from live_telemetry_widget.worker.control import Listener
from live_telemetry_widget.worker.emitter import Emitter
from live_telemetry_widget.worker.payloads import Board

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Names people use, and the ids that Gymnasium may have for them, newest first.
ENVIRONMENTS: Final = {
    "FrozenLake": ("FrozenLake-v1",),
    "CliffWalking": ("CliffWalking-v1", "CliffWalking-v0"),
    "Taxi": ("Taxi-v4", "Taxi-v3"),
}
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


class _StoppedError(Exception):
    """The worker was told to stop."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="live_telemetry_widget.worker.demo", description=__doc__)
    parser.add_argument(
        "--env", default="FrozenLake-v1", help=f"one of {', '.join(ENVIRONMENTS)}, with or without a version"
    )
    parser.add_argument("--episodes", type=int, default=150, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the run; episode N is reset with seed + N")
    parser.add_argument("--max-steps", type=int, default=100, help="cut an episode after so many; default: %(default)s")
    parser.add_argument("--map", default="4x4", choices=["4x4", "8x8"], help="FrozenLake's; default: %(default)s")
    parser.add_argument("--slippery", action=argparse.BooleanOptionalAction, default=True, help="FrozenLake's ice")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="wait after each step, to watch")
    parser.add_argument("--agent-id", default="q_agent")
    parser.add_argument("--run-id", default="", help="default: $LTW_RUN_ID, else demo, or with --daemon a new one")
    parser.add_argument("--daemon", default="", metavar="ADDRESS", help="tell this daemon, and print nothing")
    parser.add_argument(
        "--policy-path", default="", metavar="FILE", help="write the learnt values there, as JSON, at the end"
    )
    parser.add_argument("--learning-rate", type=float, default=0.2)
    parser.add_argument("--discount", type=float, default=0.97)
    parser.add_argument("--epsilon-decay", type=float, default=0.97, help="of exploration, per episode")
    return parser


class QLearning:
    """Tabular Q-learning with epsilon-greedy exploration.

    Attributes
    ----------
    epsilon : float
        How often, of 1, it tries a random action; falls with every episode to `least_epsilon`.
    """

    def __init__(  # noqa: PLR0913 - the method's parameters, by name
        self, states: int, actions: int, *, learning_rate: float, discount: float, decay: float, seed: int
    ) -> None:
        self._table = [[0.0] * actions for _ in range(states)]
        self._rate = learning_rate
        self._discount = discount
        self._decay = decay
        self._random = random.Random(seed)  # noqa: S311 - exploration, not a secret
        self.epsilon = 1.0
        self.least_epsilon = 0.05

    def act(self, state: int) -> int:
        """Choose an action."""
        values = self._table[state]
        if self._random.random() < self.epsilon:
            return self._random.randrange(len(values))
        best = max(values)
        return self._random.choice([action for action, value in enumerate(values) if value == best])

    def learn(self, state: int, action: int, reward: float, following: int, *, terminated: bool) -> tuple[float, float]:
        """Learn from a transition; return the action's value before and after."""
        before = self._table[state][action]
        target = reward if terminated else reward + self._discount * max(self._table[following])
        after = self._table[state][action] = before + self._rate * (target - before)
        return before, after

    def end_episode(self) -> None:
        """Explore a little less."""
        self.epsilon = max(self.least_epsilon, self.epsilon * self._decay)

    def values(self) -> list[list[float]]:
        """Return the value of each action (columns) in each state (rows)."""
        return self._table


class Game:
    """A toy-text environment, and how its states are told: as the workers in use tell them.

    Parameters
    ----------
    name
        As in :data:`ENVIRONMENTS`, with or without a version.

    Raises
    ------
    WorkerError
        Gymnasium is not installed, or has no such environment that a table can learn.
    """

    def __init__(self, name: str, *, size: str = "4x4", slippery: bool = True) -> None:
        try:
            import gymnasium  # noqa: PLC0415 - optional
        except ImportError as error:
            msg = "the demo worker needs Gymnasium: pip install 'live_telemetry_widget[gymnasium]'"
            raise WorkerError(msg) from error
        self.family = next((family for family in ENVIRONMENTS if name.startswith(family)), "")
        if not self.family:
            msg = f"--env is {name!r}; the demo worker plays {', '.join(ENVIRONMENTS)}"
            raise WorkerError(msg)
        known = gymnasium.envs.registry
        wanted = [name] if name in known else [i for i in ENVIRONMENTS[self.family] if i in known]
        if not wanted:
            msg = f"Gymnasium {gymnasium.__version__} has no environment {name!r}"
            raise WorkerError(msg)
        self.game_id = wanted[0]
        options: dict[str, Any] = {}
        if self.family == "FrozenLake":
            options = {"map_name": size, "is_slippery": slippery}
        self.env: Any = gymnasium.make(self.game_id, **options)
        spaces: tuple[Any, Any] = (self.env.observation_space, self.env.action_space)
        self.states, self.actions = (int(space.n) for space in spaces)
        board = Board.of(self.env)
        if board is None:
            msg = f"{self.game_id} is played on no board that the demo worker knows"
            raise WorkerError(msg)
        self._board = board
        self.rows = board.rows
        self._fixed = self._fixed_parts()

    def _fixed_parts(self) -> dict[str, Any]:
        if self.family == "Taxi":
            return {}
        cells = {
            letter: [
                {"row": r, "col": c} for r, row in enumerate(self.rows) for c, cell in enumerate(row) if cell == letter
            ]
            for letter in "HGTx"
        }
        height, width = len(self.rows), len(self.rows[0])
        if self.family == "CliffWalking":
            return {"goal": cells["T"][0], "start": cells["x"][0], "grid_size": {"height": height, "width": width}}
        size: Any = height if height == width else {"height": height, "width": width}
        return {"goal": cells["G"][0], "grid_size": size, "holes": cells["H"]}

    def observe(self, state: int, info: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON of the game's own form
        """Return the observation of a state as workers in use tell it."""
        if self.family == "Taxi":
            return state
        row, col = divmod(state, len(self.rows[0]))
        seen: dict[str, Any] = {"state": state, "position": {"row": row, "col": col}, **self._fixed}
        if self.family == "CliffWalking":
            seen["is_cliff"] = self.rows[row][col] == "C"
        if "prob" in info:
            seen["prob"] = float(info["prob"])
        return seen

    def payload(self, state: int, action: int, *, terminated: bool, truncated: bool) -> dict[str, Any]:
        """Return what a grid view draws of a state."""
        return self._board.payload(state, action, terminated=terminated, truncated=truncated)


class _Teller(Protocol):
    """Whom the training tells what happens in it."""

    #: Whether it holds and ends the training when people want that.
    listens: bool

    def before_step(self) -> None:
        """Wait while the run is paused."""

    def tell(self, event_type: str, /, **fields: Any) -> None:  # noqa: ANN401 - JSON
        """Tell an event."""


class _Emitting:
    """Tells a daemon by way of an emitter, which holds the training in a step that is told."""

    listens = True

    def __init__(self, address: str, run_id: str) -> None:
        self._address = address
        self._run_id = run_id
        self._emitter: Emitter | None = None

    def before_step(self) -> None:
        """Do nothing: the step waits."""

    def tell(self, event_type: str, /, **fields: Any) -> None:  # noqa: ANN401 - JSON
        """Tell an event; one that is no step and no episode is the run's beginning or end, or is not told."""
        if event_type == "run_started":
            config = fields["config"]
            name = f"{config['game_id']}, seed {config['seed']}"
            self._emitter = Emitter(self._address, self._run_id, name=name, config=config)
        elif self._emitter is None:
            return  # it failed before it began
        elif event_type == "step":
            try:
                self._emitter.step(**fields)
            except RunCancelledError as error:
                raise _StoppedError from error
        elif event_type == "episode":
            self._emitter.episode(fields.pop("reward"), **fields)
        elif event_type == "run_completed":
            self._emitter.close(fields["status"], fields.get("error", ""))


class _Printing:
    """Prints events, and hears what is wanted of the worker."""

    def __init__(self, run_id: str, out: TextIO) -> None:
        self._run_id = run_id
        self._out = out
        self._listener = Listener.from_environment()
        self.listens = self._listener.listens
        self.before_step = self._listener.before_step

    def tell(self, event_type: str, /, **fields: Any) -> None:  # noqa: ANN401 - JSON
        event = {"type": event_type, "ts_unix_ns": time.time_ns(), "run_id": self._run_id, **fields}
        self._out.write(json.dumps(event, separators=(",", ":")) + "\n")
        self._out.flush()


def train(options: argparse.Namespace, out: TextIO) -> None:
    """Train, printing every step and episode to `out`, or telling a daemon.

    Raises
    ------
    WorkerError
        As :class:`Game`; like any other error, after the event that says so.
    """
    given = options.run_id or os.environ.get(RUN_ID, "")
    options.run_id = given or "demo"
    teller: _Teller = _Emitting(options.daemon, given) if options.daemon else _Printing(options.run_id, out)
    try:
        _train(options, teller)
    except _StoppedError:
        teller.tell("run_completed", status="cancelled")
    except BrokenPipeError:  # nobody listens any more
        raise
    except Exception as error:
        teller.tell("run_completed", status="failed", error=_reason(error))
        raise
    else:
        teller.tell("run_completed", status="completed")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, WorkerError) else f"{type(error).__name__}: {error}"


def _train(options: argparse.Namespace, teller: _Teller) -> None:
    game = Game(options.env, size=options.map, slippery=options.slippery)
    config = {
        "game_id": game.game_id,
        "seed": options.seed,
        "max_episodes": options.episodes,
        "max_steps_per_episode": options.max_steps,
        "policy_strategy": "train",
        "policy_path": options.policy_path or None,
        "agent_id": options.agent_id,
    }
    teller.tell("run_started", config=config, **({"control": True} if teller.listens else {}))
    agent = QLearning(
        game.states,
        game.actions,
        learning_rate=options.learning_rate,
        discount=options.discount,
        decay=options.epsilon_decay,
        seed=options.seed,
    )
    try:
        for index in range(options.episodes):
            _play(game, agent, teller, options, index)
            agent.end_episode()
    finally:
        game.env.close()
    if options.policy_path:
        path = pathlib.Path(options.policy_path)
        path.write_text(json.dumps({"game_id": game.game_id, "q_table": agent.values()}), encoding="utf-8")
        teller.tell("artifact", kind="policy", path=str(path))


def _play(game: Game, agent: QLearning, teller: _Teller, options: argparse.Namespace, index: int) -> None:
    number = options.seed + index
    state, info = game.env.reset(seed=number)
    state, total, steps = int(state), 0.0, 0
    terminated = truncated = False
    while not (terminated or truncated):
        teller.before_step()
        action = agent.act(state)
        observation = game.observe(state, info)
        following, reward, terminated, truncated, info = game.env.step(action)
        following, reward = int(following), float(reward)
        truncated = bool(truncated) or (steps + 1 >= options.max_steps and not terminated)
        before, after = agent.learn(state, action, reward, following, terminated=bool(terminated))
        teller.tell(
            "step",
            episode=number,
            step_index=steps,
            agent_id=options.agent_id,
            action=action,
            reward=reward,
            terminated=bool(terminated),
            truncated=truncated,
            state=state,
            next_state=following,
            observation=observation,
            next_observation=game.observe(following, info),
            q_before=before,
            q_after=after,
            epsilon=agent.epsilon,
            render_payload=game.payload(following, action, terminated=bool(terminated), truncated=truncated),
            episode_seed=number,
        )
        state, total, steps = following, total + reward, steps + 1
        if options.delay:
            time.sleep(options.delay)
    success = bool(terminated) and (total > 0 or game.family == "CliffWalking")
    metadata = {
        "control_mode": "agent_only",
        "run_id": options.run_id,
        "agent_id": options.agent_id,
        "game_id": game.game_id,
        "seed": options.seed,
        "episode_index": index,
        "episode": number,
        "policy_strategy": "train",
        "success": success,
    }
    teller.tell(
        "episode",
        episode=number,
        agent_id=options.agent_id,
        reward=total,
        steps=steps,
        success=success,
        terminated=bool(terminated),
        truncated=truncated,
        metadata=metadata,
    )


def _stop(number: int, _: object) -> None:
    # Once is enough: a second one must not interrupt the telling of the end.
    for each in _STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise _StoppedError(signal.Signals(number).name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo worker; return its exit code."""
    options = _parser().parse_args(arguments)
    for number in _STOPPING:
        signal.signal(number, _stop)
    try:
        train(options, sys.stdout)
    except WorkerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:
        # Python flushes standard output at exit, which would fail again, loudly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except _StoppedError:  # before it began
        return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
