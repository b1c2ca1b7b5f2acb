"""What a daemon can be told, in one place; ``live-telemetry serve --help`` explains it to people."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

Dispatch = Literal["same-user", "anyone", "never"]
DISPATCH: tuple[str, ...] = get_args(Dispatch)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a daemon behaves.

    Attributes
    ----------
    strict
        Take telemetry only from publishers that carry the session token of their run.
    dispatch
        Whose submitted commands are run: those of callers who are the daemon's own user on this machine, anyone's, nobody's.
    grace
        Seconds between SIGTERM and SIGKILL for a worker that is to end.
    heartbeat_timeout
        A run that has sent heartbeats is a fault when it shows no life for so many seconds; 0: never.
    silence_timeout
        The same for a run that never sent one.
    keep_workers
        Leave dispatched workers running at the end, for the next daemon on the directory.
    gpus
        How many there are to give to runs, numbered from 0.
    """

    strict: bool = False
    dispatch: Dispatch = "same-user"
    grace: float = 5.0
    heartbeat_timeout: float = 60.0
    silence_timeout: float = 3_600.0
    keep_workers: bool = False
    gpus: int = 0
