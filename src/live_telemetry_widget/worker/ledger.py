"""Counts an emitter's steps into episodes, on the emitter's own thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from live_telemetry_widget.worker.records import Episode

#: The record of an episode that its last step has ended waits so long (seconds) for the training code to say more of it.
HOLD: Final = 1.0
_OWN: Final = frozenset({"episode", "worker_id", "agent_id", "ts_unix_ns"})


class Account:
    """Where one agent is.

    Attributes
    ----------
    episode, step
        The number of the running episode, and of its next step.
    total
        Its rewards so far, added in the order of the steps.
    waiting
        The record of an episode that has ended, as long as more may be said of it.
    since
        When it began to wait.
    """

    __slots__ = ("_last", "_told", "agent_id", "episode", "since", "step", "total", "waiting", "worker_id")

    def __init__(self, worker_id: str, agent_id: str, first_episode: int) -> None:
        self.worker_id = worker_id
        self.agent_id = agent_id
        self.episode = first_episode
        self.step = 0
        self.total = 0.0
        self.waiting: dict[str, Any] | None = None
        self.since = 0.0
        self._last: dict[str, Any] | None = None
        self._told = True

    def end(self, ts_unix_ns: int, *, terminated: bool, truncated: bool, final: object = None) -> None:
        """End the running episode; its record, which has the final observation when it is told, waits."""
        record = {
            "episode": self.episode,
            "worker_id": self.worker_id,
            "agent_id": self.agent_id,
            "total_reward": self.total,
            "steps": self.step,
            "terminated": terminated,
            "truncated": truncated,
            "ts_unix_ns": ts_unix_ns,
        }
        if final is not None:
            record["final_observation"] = final
        self.waiting = self._last = record
        self.since = time.monotonic()
        self._told = False
        self.episode += 1
        self.step = 0
        self.total = 0.0

    def tell(self, said: Episode) -> dict[str, Any]:
        """Return the record of an episode that the training code tells of.

        Without a number it is the running one when that has steps, else the one that its last step has ended, unless that was told
        of before; else one of which no step was told. The record of one that is on its way is repeated, with what is new: frames join
        the two.
        """
        number = said.episode
        last = self._last
        if number is None:
            ends = self.step > 0 or self._told
        elif self.step == 0 and (last is None or number != last["episode"]):
            self.episode, ends = number, True
        else:
            ends = self.step > 0 and number == self.episode
        if ends:
            self.end(said.ts_unix_ns, terminated=bool(said.terminated), truncated=bool(said.truncated))
            last = self._last
        elif last is None or number not in (None, last["episode"]):
            # Neither the running one nor the last: its steps, if there were any, are not counted any more.
            names = {"episode": number, "worker_id": self.worker_id, "agent_id": self.agent_id}
            return _said(names | {"ts_unix_ns": said.ts_unix_ns}, said)
        self._told = True
        self.waiting = None
        return _said(last or {}, said)


def _said(record: dict[str, Any], said: Episode) -> dict[str, Any]:
    core = ("total_reward", "steps", "terminated", "truncated")
    values = {name: value for name in core if (value := getattr(said, name)) is not None}
    further = {name: value for name, value in said.further.items() if name not in _OWN}
    return {**further, **record, **values}
