"""What an emitter's helper leaves to the next one, so that nothing is told twice and numbers go on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from live_telemetry_widget.worker.ledger import Account
    from live_telemetry_widget.worker.options import EmitterStats
    from live_telemetry_widget.worker.records import Manner


@dataclasses.dataclass(slots=True)
class Will:
    """Where things stood when the last parcel had been spooled whole.

    Attributes
    ----------
    parcel
        Its number.
    producers
        The names of the spools of all helpers so far, and how many rows of each kind of theirs count. What stands behind
        these in a dead helper's files is of a parcel that it did not finish, and was never sent.
    taken
        Rows of all helpers, by kind.
    accounts
        Where each agent is, by worker and agent.
    courses
        Where each manner is: the last observation, the further fields, the steps told.
    manners
        What the manners are. Filled in by the training process, as is
    stats
        what was known of the rest when the helper died.
    """

    parcel: int = 0
    producers: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    taken: dict[str, int] = dataclasses.field(default_factory=dict)
    accounts: dict[tuple[str, str], Account] = dataclasses.field(default_factory=dict)
    courses: dict[int, tuple[Any, dict[str, Any] | None, int]] = dataclasses.field(default_factory=dict)
    manners: list[Manner] = dataclasses.field(default_factory=list)
    stats: EmitterStats | None = None

    def add(self, newer: Will) -> None:
        """Take what has changed since.

        >>> will = Will(1, {"p": {"steps": 5}}, {"steps": 5})
        >>> will.add(Will(2, {"p": {"steps": 9}}, {"steps": 9}))
        >>> will.parcel, will.producers, will.taken
        (2, {'p': {'steps': 9}}, {'steps': 9})
        """
        self.parcel = newer.parcel
        self.producers.update(newer.producers)
        self.taken = newer.taken
        self.accounts.update(newer.accounts)
        self.courses.update(newer.courses)
