"""Publishes numbered batches of one run row by row, as daemons that others run have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from live_telemetry_widget import normalize
from live_telemetry_widget.worker.publisher import Publisher, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from live_telemetry_widget.worker.registration import Registration

_MESSAGES: Final[dict[str, Callable[[pa.RecordBatch], list[Any]]]] = {
    "steps": normalize.step_messages,
    "episodes": normalize.episode_messages,
}


class SinglesPublisher:
    """Rows of one producer that follow one another. Made on an event loop.

    Parameters
    ----------
    registration
        The run, opened.
    producer
        The name under which rows are numbered.
    first
        By kind the number of the first row.
    """

    def __init__(self, registration: Registration, producer: str, first: Mapping[str, int]) -> None:
        self._registration = registration
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
        self._publishers: dict[str, Publisher] = {"steps": steps, "episodes": episodes}

    async def put(self, kind: str, batch: pa.RecordBatch) -> None:
        """Hand rows over; waits while too much is unconfirmed."""
        # Others' daemons choose the run's id themselves.
        batch = of_run(batch, self._registration.run_id)
        await self._publishers[kind].put(_MESSAGES[kind](batch))

    def tally(self, kind: str) -> Tally:
        """Return what became of the rows of one kind."""
        publisher = self._publishers[kind]
        return Tally(publisher.confirmed, publisher.lost, publisher.dropped)

    @property
    def waiting(self) -> int:
        """How many rows are not confirmed."""
        return sum(publisher.waiting for publisher in self._publishers.values())

    @property
    def failure(self) -> str:
        """What went wrong last."""
        return next((publisher.failure for publisher in self._publishers.values() if publisher.failure), "")

    @property
    def given_up(self) -> bool:
        """Whether nothing of some kind is sent any more."""
        return any(publisher.given_up for publisher in self._publishers.values())

    async def close(self) -> None:
        """Wait until all is confirmed or given up."""
        for publisher in self._publishers.values():
            await publisher.close()

    def abandon(self) -> None:
        """Stop; what is not confirmed counts as lost."""
        for publisher in self._publishers.values():
            publisher.abandon()


def of_run(batch: pa.RecordBatch, run_id: str) -> pa.RecordBatch:
    """Return the batch under the id of a run."""
    column = batch.column(0)
    if column.dictionary.to_pylist() == [run_id]:
        return batch
    name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(batch.num_rows, np.int32)), pa.array([run_id], pa.string()))
    return batch.set_column(0, batch.schema.field(0), name)
