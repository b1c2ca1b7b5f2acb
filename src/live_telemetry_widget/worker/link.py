"""Publishes numbered batches of one run over whatever wire its daemon has, and tells how far the daemon has confirmed them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from live_telemetry_widget import normalize
from live_telemetry_widget.worker.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from live_telemetry_widget.worker.registration import Registration

KINDS: Final = ("steps", "episodes")


class _Session:
    """Rows of one producer that follow one another. Made on an event loop."""

    def __init__(self, registration: Registration, producer: str, first: dict[str, int]) -> None:
        reopen = registration.open
        steps = Publisher("steps", registration.publish_steps, reopen, producer=producer, first=first["steps"])
        # An episode's record is of use when its steps are there.
        episodes = Publisher(
            "episodes",
            registration.publish_episodes,
            reopen,
            leader=steps,
            producer=producer,
            first=first["episodes"],
        )
        self._first = dict(first)
        self.expected = dict(first)
        self._publishers = {"steps": steps, "episodes": episodes}
        self._messages: dict[str, Callable[[pa.RecordBatch], list[Any]]] = {
            "steps": normalize.step_messages,
            "episodes": normalize.episode_messages,
        }

    async def put(self, kind: str, batch: pa.RecordBatch) -> None:
        self.expected[kind] += batch.num_rows
        await self._publishers[kind].put(self._messages[kind](batch))

    def settled(self, kind: str) -> int:
        publisher = self._publishers[kind]
        return self._first[kind] + publisher.confirmed + publisher.lost

    @property
    def lost(self) -> int:
        return sum(publisher.lost for publisher in self._publishers.values())

    @property
    def failure(self) -> str:
        return next((publisher.failure for publisher in self._publishers.values() if publisher.lost), "")

    async def close(self) -> None:
        for publisher in self._publishers.values():
            await publisher.close()

    def abandon(self) -> None:
        for publisher in self._publishers.values():
            publisher.abandon()


class Link:
    """The way of one producer's rows to the daemon.

    Parameters
    ----------
    registration
        The run, opened.
    producer
        The name under which rows are numbered.

    Attributes
    ----------
    lost : int
        Rows that the daemon has refused for good.
    failure : str
        Why.
    """

    def __init__(self, registration: Registration, producer: str) -> None:
        self._registration = registration
        self._producer = producer
        self._session: _Session | None = None
        self._settled = dict.fromkeys(KINDS, 0)
        self._lost = 0
        self._failure = ""

    async def put(self, kind: str, first: int, batch: pa.RecordBatch) -> None:
        """Hand rows over, the first of which has that number; waits while too much is unconfirmed."""
        session = self._session
        if session is None or session.expected[kind] != first:
            # Rows in between were given up: those of before are confirmed first, so that none of them is left out for it.
            numbers = dict(self._settled if session is None else session.expected)
            await self.close()
            session = self._session = _Session(self._registration, self._producer, {**numbers, kind: first})
        await session.put(kind, _of_run(batch, self._registration.run_id))

    def settled(self, kind: str) -> int:
        """Return up to which number rows are confirmed, or refused for good."""
        return self._session.settled(kind) if self._session else self._settled[kind]

    @property
    def lost(self) -> int:
        """Rows refused for good."""
        return self._lost + (self._session.lost if self._session else 0)

    @property
    def failure(self) -> str:
        """Why they were."""
        return (self._session.failure if self._session else "") or self._failure

    async def close(self) -> None:
        """Wait until all is settled."""
        if self._session is not None:
            await self._session.close()
            self._note(self._session)

    def abandon(self) -> None:
        """Stop; what is not confirmed is not settled either."""
        if self._session is not None:
            self._settled = {kind: self._session.settled(kind) for kind in KINDS}
            self._session.abandon()
            self._session = None

    def _note(self, session: _Session) -> None:
        self._settled = {kind: session.settled(kind) for kind in KINDS}
        self._lost += session.lost
        self._failure = session.failure or self._failure
        self._session = None


def _of_run(batch: pa.RecordBatch, run_id: str) -> pa.RecordBatch:
    """Return the batch under the id that the daemon has given the run: others' choose one themselves."""
    column = batch.column(0)
    if column.dictionary.to_pylist() == [run_id]:
        return batch
    name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(batch.num_rows, np.int32)), pa.array([run_id], pa.string()))
    return batch.set_column(0, batch.schema.field(0), name)
