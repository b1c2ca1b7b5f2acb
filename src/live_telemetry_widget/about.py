"""What is known of a run beside its rows, and how to play one of its episodes again.

Facts come from what the run was submitted with, what its episodes' records say, and what its steps carry; nothing is guessed that none
of these tells. What a worker calls its own is read where workers in use put it: ``metadata.worker.config`` of the run's config, and the
metadata of its episodes.
"""

from __future__ import annotations

import dataclasses
import keyword
import math
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow.compute as pc

from live_telemetry_widget import _columns, _json
from live_telemetry_widget.decode import StepFrame
from live_telemetry_widget.errors import NoDataError
from live_telemetry_widget.grids import family, game_of, grid_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from live_telemetry_widget.feed import RunFeed

#: A Gymnasium id, as it stands in a command line.
_ENV_ID: Final = re.compile(r"(?:[\w.-]+/)?[A-Z][\w.]*(?:-[\w.]+)*-v\d+")
_GAMES: Final = ("game_id", "env_id", "environment", "env")
_KWARGS: Final = ("env_kwargs", "environment_kwargs")
#: What Python writes for numbers that it has no literal for.
_NOT_FINITE: Final = re.compile(r"\b(nan|inf)\b")
_SEED: Final = re.compile(r"-?[0-9]{1,20}(\.0)?")


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """A run at one moment, as far as it is told; empty or None where nothing tells.

    Attributes
    ----------
    game
        The environment's Gymnasium id, like ``"FrozenLake-v1"``.
    seed
        The run's own; an episode's is that of ``run.seed_for(episode)``.
    policy
        What it was played by: a label of its steps, or the strategy that its worker tells.
    command
        The worker's command line, quoted for a shell.
    config
        What it was submitted with, whole.
    versions
        Of packages, by name, as the config tells them.
    created_at, updated_at, last_heartbeat
        The daemon's times of the run.
    first_step, last_step
        The workers' times of the earliest and the latest step.
    """

    run_id: str
    name: str
    status: str
    reason: str
    game: str
    seed: int | None
    policy: str
    command: str
    agents: list[str]
    workers: list[str]
    steps: int
    episodes: int
    created_at: pd.Timestamp | None
    updated_at: pd.Timestamp | None
    last_heartbeat: pd.Timestamp | None
    first_step: pd.Timestamp | None
    last_step: pd.Timestamp | None
    versions: dict[str, str]
    config: dict[str, Any] = dataclasses.field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON has words for; times as ISO 8601 in UTC."""
        found = dataclasses.asdict(self)
        return {name: v.isoformat() if isinstance(v, pd.Timestamp) else v for name, v in found.items()}


def info(feed: RunFeed) -> RunInfo:
    """Return what is known of a run now."""
    frames, config = feed.frames, feed.config
    episodes = frames.episodes()
    steps = frames.steps_table()
    told = feed.info
    times = [getattr(told, name, None) for name in ("created_at", "updated_at", "last_heartbeat")]
    span = pc.min_max(steps.column("timestamp"))
    labels = [text for text in steps.column("policy_label").unique().to_pylist() if text]
    command = [str(config.get("entry_point") or ""), *map(str, _list(config.get("arguments")))]
    return RunInfo(
        run_id=feed.run_id,
        name=str(config.get("run_name") or ""),
        status=feed.state.value,
        reason=feed.reason,
        game=environment(config, episodes, frames.rows(0, 1).to_pylist()),
        seed=_seed(config, episodes),
        policy=", ".join(labels) or str(_first(config, episodes, ("policy_strategy", "policy", "algorithm")) or ""),
        command=shlex.join(part for part in command if part),
        agents=frames.agents,
        workers=list(dict.fromkeys(episodes["worker_id"].astype(str))),
        steps=frames.step_count,
        episodes=frames.episode_count,
        created_at=_columns.moment(times[0]),
        updated_at=_columns.moment(times[1]),
        last_heartbeat=_columns.moment(times[2]),
        first_step=_columns.moment(span["min"].value),
        last_step=_columns.moment(span["max"].value),
        versions={
            str(k): str(v) for held in _told(config, "versions") if isinstance(held, dict) for k, v in held.items()
        },
        config=config,
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _told(config: Mapping[str, Any], *names: str) -> Iterator[Any]:
    """Yield what a config says under these names, at the top and where workers in use put it."""
    metadata = config.get("metadata")
    worker = metadata.get("worker") if isinstance(metadata, dict) else None
    inner = worker.get("config") if isinstance(worker, dict) else None
    for place in (inner, worker, metadata, config):
        if isinstance(place, dict):
            yield from (place[name] for name in names if place.get(name) not in (None, ""))


def _first(
    config: Mapping[str, Any],
    episodes: pd.DataFrame,
    names: tuple[str, ...],
    fits: Callable[[Any], bool] = lambda _: True,
) -> Any:  # noqa: ANN401 - JSON
    """Return the first value of these names that the config tells, or else a record of an episode; of those that fit."""
    found = next(filter(fits, _told(config, *names)), None)
    for name in names:
        if found is None and name in episodes.columns:
            found = next((v for v in episodes[name] if not _is_missing(v) and fits(v)), None)
    return found


def _is_missing(value: object) -> bool:
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or value == ""
        or (isinstance(value, float) and math.isnan(value))
    )


def _is_name(value: object) -> bool:
    # "environment" at the top of a submitted config holds the variables of the worker's process, which may be secrets.
    return isinstance(value, str) and not value.lstrip().startswith(("{", "["))


def _seed(config: Mapping[str, Any], episodes: pd.DataFrame) -> int | None:
    found = str(_first(config, episodes, ("seed",)))
    return int(found.removesuffix(".0")) if _SEED.fullmatch(found) else None


def environment(config: Mapping[str, Any], episodes: pd.DataFrame, some_steps: Sequence[Mapping[Any, Any]]) -> str:
    """Return the environment's id; empty when nothing tells it."""
    found = _first(config, episodes, _GAMES, _is_name)
    for step in some_steps:
        if found is None:
            payload = _said(step.get("render_payload"))
            said = payload.get("game_id") if isinstance(payload, dict) else None
            found = said if _is_name(said) else None
    if found is None:
        found = next((text for text in map(str, _list(config.get("arguments"))) if _ENV_ID.fullmatch(text)), None)
    return str(found or "")


def card(feed: RunFeed) -> dict[str, object]:
    """Return what a dataset of the run says of it; nothing of the machine that it ran on."""
    known = info(feed)
    found: dict[str, object] = {
        "game": known.game,
        "seed": known.seed,
        "policy": known.policy,
        "versions": known.versions,
    }
    first = StepFrame(_columns.to_frame(feed.frames.rows(0, 50), ("action",)))
    if len(first):
        found["kwargs"] = _options(known.game, feed.config, feed.frames.episodes(), first)
    return found


def game_in(config: Mapping[str, Any], steps: StepFrame, record: pa.Table) -> str:
    """Return the family of the game, as :func:`~live_telemetry_widget.grids.family` names it, from the config, a step or an episode's record."""
    found = game_of(config)
    if not found and len(steps) and "render_payload" in steps:
        payload = _said(steps["render_payload"].iloc[0])
        found = family(payload.get("game_id")) if isinstance(payload, dict) else ""
    for name in _GAMES:
        if not found and record.num_rows and name in record.schema.names:
            found = family(record.column(name)[0].as_py())
    return found


def _said(text: object) -> Any:  # noqa: ANN401 - JSON
    try:
        return _json.parse(text) if isinstance(text, str) else None
    except _json.UNREADABLE:
        return None


# -- again -------------------------------------------------------------------------------------------------------------


def seed_for(run_id: str, steps: StepFrame, record: Mapping[str, Any]) -> int:
    """Return what the environment was reset with for an episode.

    Parameters
    ----------
    steps
        Of the episode.
    record
        Its row among the episodes.

    Raises
    ------
    NoDataError
        Neither a step nor the record tells it.
    """
    seeds = [int(seed) for seed in steps["episode_seed"].dropna().unique()]
    if len(seeds) == 1:
        return seeds[0]
    if len(seeds) > 1:
        msg = f"the steps of episode {record['episode']} tell several seeds: {seeds[:5]}"
        raise NoDataError(msg)
    # Workers in use that tell no seed with their steps reset every episode with the one that its metadata tells.
    for name in ("episode_seed", "seed"):
        found = _whole(record.get(name))
        if found is not None:
            return found
    msg = (
        f"nothing tells the seed of episode {record['episode']} of run {run_id!r}: a worker can say it with each step, as "
        "episode_seed, or in the episode's metadata, as seed. With RecordTelemetry it is told when the loop gives one at each reset: "
        "env.reset(seed=...)"
    )
    raise NoDataError(msg)


def _whole(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def reproduce(feed: RunFeed, steps: StepFrame, record: Mapping[str, Any]) -> str:
    """Return Python that plays an episode again with Gymnasium, and fails when it ends otherwise than recorded.

    Raises
    ------
    NoDataError
        Its environment, its seed or some of its steps are not known.
    """
    episodes = pd.DataFrame([dict(record)])
    config = feed.config
    first = steps.head(1).to_dict("records")
    game = environment(config, episodes, first)
    if not game:
        msg = f"nothing tells the environment of run {feed.run_id!r}: a worker can say it in an episode's metadata, as game_id"
        raise NoDataError(msg)
    number = record["episode"]
    if not len(steps) or list(steps["step_index"]) != list(range(int(record["steps"]))):
        msg = f"episode {number} cannot be played again: {len(steps)} of its {record['steps']} steps are here"
        raise NoDataError(msg)
    seed = seed_for(feed.run_id, steps, record)
    options = _arguments(_options(game, config, episodes, steps))
    actions = [_action(value) for value in steps["action"].tolist()]
    if missing := sum(action is None for action in actions):
        msg = f"episode {number} cannot be played again: {missing} of its {len(actions)} actions are not told"
        raise NoDataError(msg)
    total = float(steps["reward"].sum())
    box = any(isinstance(action, list) for action in actions)
    act = "np.asarray(action, env.action_space.dtype)" if box else "action"
    lines = [
        f"# Episode {number} of run {feed.run_id!r}: {len(steps)} steps, total reward {total:g}.",
        "import gymnasium",
        *(["import numpy as np"] if box else []),
        *(["from math import inf, nan"] if _NOT_FINITE.search(f"{actions!r} {options} {total!r}") else []),
        "",
        f"env = gymnasium.make({game!r}{options})",
        f"observation, info = env.reset(seed={seed})",
        f"actions = {actions!r}",
        "total = 0.0",
        "for action in actions:",
        f"    observation, reward, terminated, truncated, info = env.step({act})",
        "    total += float(reward)",
        "env.close()",
        f"assert abs(total - {total!r}) < 1e-6, total  # as recorded"
        if math.isfinite(total)
        else f"assert repr(total) == {str(total)!r}, total  # as recorded",
        f"assert bool(terminated) is {bool(steps['terminated'].iloc[-1])}",
    ]
    return "\n".join(lines) + "\n"


def _action(value: object) -> Any:  # noqa: ANN401 - JSON
    """Return what a step did: what its JSON says, or the text that it is."""
    if _is_missing(value):
        return None
    found = _said(value)
    return value if found is None and value != "null" else found


def _arguments(options: Mapping[str, Any]) -> str:
    """Return arguments of a call behind its first. Names come from the wire: what is no name of Python's must not stand as one."""
    plain = {
        name: v
        for name, v in options.items()
        if name.isidentifier() and not keyword.iskeyword(name) and name != "__debug__"
    }
    odd = {name: value for name, value in options.items() if name not in plain}
    return "".join(f", {name}={value!r}" for name, value in plain.items()) + (f", **{odd!r}" if odd else "")


def _options(game: str, config: Mapping[str, Any], episodes: pd.DataFrame, steps: StepFrame) -> dict[str, Any]:
    """Return what the environment was made with: as told, or else what a FrozenLake's steps show of it."""
    told = _first(config, episodes, _KWARGS)
    told = _said(told) if isinstance(told, str) else told
    if isinstance(told, dict):
        return {str(name): value for name, value in told.items()}
    if family(game) != "FrozenLake":
        return {}
    found: dict[str, Any] = {}
    step = steps.iloc[0]
    payload = step.get("render_payload")
    grid = grid_from(payload if isinstance(payload, str) else None, step["observation"])
    if grid is not None:
        found["desc"] = grid["tiles"]
    name = "next_observation" if "next_observation" in steps else "observation"
    chances = [
        seen["prob"] for seen in steps.observations("objects", name) if isinstance(seen, dict) and "prob" in seen
    ]
    if chances:
        found["is_slippery"] = any(chance < 1 for chance in chances)
    return found
