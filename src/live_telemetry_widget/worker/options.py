"""What an emitter is told, and what it tells of itself. Standard library only: its helper reads this first."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import Any, Final, Literal

from live_telemetry_widget import _names
from live_telemetry_widget.worker.versions import versions_of

Outcome = Literal["completed", "failed", "cancelled"]
OnFull = Literal["block", "drop_oldest", "stop"]
Observations = Literal["full", "summary", "none"]
#: Of a command line: a program may stand in it as text.
_LONGEST_WORD: Final = 1_000
#: Kinds of problems that each cost a row.
_ROWS_LOST: Final = frozenset({"bad_index", "internal_error", "helper_lost"})


@dataclasses.dataclass(slots=True)
class Options:
    """What an :class:`~live_telemetry_widget.Emitter` was told; see there."""

    address: str
    run_id: str
    name: str
    config: dict[str, Any]
    agent_id: str
    worker_id: str
    spool_dir: pathlib.Path | None
    spool_limit: int
    on_full: OnFull
    observations: Observations
    observations_every: int
    first_episode: int
    control: bool
    interval: float
    heartbeat: float
    #: Whether this emitter says how the run ended; a copy in another process does not.
    owner: bool = True
    #: Whether encoding and publishing have a process of their own.
    process: bool = True
    #: What the training process has said of the run, for a process that is not it.
    described: dict[str, Any] | None = None

    @property
    def summary(self) -> bool:
        """Whether of an observation only its like is told."""
        return self.observations == "summary"

    def run_config(self) -> dict[str, Any]:
        """Return what the daemon is told of the run."""
        if self.described is not None:
            return self.described
        # Where the configs of submitted runs have it, and readers look for it.
        worker = {"config": self.config} if self.config else {}
        metadata = {
            "agent_id": self.agent_id,
            "worker_id": self.worker_id,
            "versions": versions_of(sys.executable),
            **({"worker": worker} if worker else {}),
        }
        command = [word[:_LONGEST_WORD] for word in sys.orig_argv]
        program = pathlib.PurePath(sys.argv[0]).name if sys.argv and sys.argv[0] not in {"", "-c"} else "python"
        return {
            "run_name": self.name or program,
            "entry_point": command[0] if command else program,
            "arguments": command[1:],
            "metadata": metadata,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class EmitterStats:
    """What has become of what an emitter was told. Rows are steps and episodes.

    Attributes
    ----------
    steps, episodes : int
        Taken from the training thread; what it said within the last moments is not counted yet.
    confirmed_steps, confirmed_episodes : int
        Of these, how many the daemon has committed.
    recovered : int
        Rows of an earlier process with the same run and spool that were delivered in its place.
    waiting : int
        Rows in the spool.
    spooled_bytes : int
    dropped : int
        Rows that ``on_full="drop_oldest"`` has given up.
    not_recorded : int
        Steps that were not taken, because recording has ended (``why``).
    refused : int
        Rows that the daemon refuses.
    connected : bool
        Whether the daemon has opened the run.
    why : str
        Why nothing is recorded any more, or what went wrong last; empty while all is well.
    problems : dict
        What was wrong with values, by kind (docs/problems.md).
    """

    steps: int = 0
    episodes: int = 0
    confirmed_steps: int = 0
    confirmed_episodes: int = 0
    recovered: int = 0
    waiting: int = 0
    spooled_bytes: int = 0
    dropped: int = 0
    not_recorded: int = 0
    refused: int = 0
    connected: bool = False
    why: str = ""
    problems: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing of what was told is lost for good: what the daemon has not confirmed yet is still on its way.

        >>> EmitterStats(steps=5, waiting=2).complete, EmitterStats(steps=5, dropped=1).complete
        (True, False)
        """
        return not (self.dropped or self.not_recorded or self.refused or not _ROWS_LOST.isdisjoint(self.problems))


def check(options: Options) -> None:
    """Raise ValueError, in words, for what no emitter can be told."""
    _names.check_address(options.address)
    for name, value, allowed in (
        ("on_full", options.on_full, ("block", "drop_oldest", "stop")),
        ("observations", options.observations, ("full", "summary", "none")),
    ):
        if value not in allowed:
            msg = f"{name} is {value!r}; give one of {', '.join(map(repr, allowed))}"
            raise ValueError(msg)
    for name, number, least in (
        ("spool_limit", options.spool_limit, 1),
        ("observations_every", options.observations_every, 1),
        ("first_episode", options.first_episode, 0),
    ):
        if number < least:
            msg = f"{name} is {number!r}; give {least} or more"
            raise ValueError(msg)
    for name, seconds in (("interval", options.interval), ("heartbeat", options.heartbeat)):
        if not seconds > 0:
            msg = f"{name} is {seconds!r}; give seconds, more than 0"
            raise ValueError(msg)
