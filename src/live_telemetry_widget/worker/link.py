"""Publishes numbered batches of one run over whatever wire its daemon has, and tells how far the daemon has confirmed them."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from live_telemetry_widget.schema import KINDS
from live_telemetry_widget.worker.batches import BatchPublisher

if TYPE_CHECKING:
    from live_telemetry_widget.worker.registration import Registration


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
        self._session: BatchPublisher | None = None
        self._settled: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._lost = collections.Counter[str]()
        self._given_up = False
        self._failure = ""

    async def put(self, kind: str, first: int, rows: int, data: bytes) -> None:
        """Hand over an IPC stream of so many rows, the first of which has that number; waits while too much is unconfirmed."""
        session = self._session
        if session is None or session.expected[kind] != first:
            # Rows in between were given up: those of before are confirmed first, so that none of them is left out for it.
            numbers = dict(self._settled if session is None else session.expected)
            await self.close()
            session = self._session = BatchPublisher(
                self._registration, producer=self._producer, first={**numbers, kind: first}
            )
        await session.put_packed(kind, rows, data)

    def settled(self, kind: str) -> int:
        """Return up to which number rows are confirmed, or refused for good."""
        return self._session.settled(kind) if self._session else self._settled[kind]

    @property
    def lost(self) -> int:
        """Rows refused for good."""
        return self.losses().total()

    def losses(self) -> collections.Counter[str]:
        """Return, by kind, the rows refused for good."""
        lost = self._lost.copy()
        if self._session is not None:
            lost.update(self._losses(self._session))
        return lost

    @property
    def given_up(self) -> bool:
        """Whether the daemon has refused so many rows, one batch after the other, that it is asked no more."""
        return self._given_up or (self._session is not None and self._session.given_up)

    @staticmethod
    def _losses(session: BatchPublisher) -> dict[str, int]:
        return {kind: session.tally(kind).lost for kind in KINDS}

    @property
    def failure(self) -> str:
        """Why they were."""
        session = self._session
        return (session.trouble if session and session.lost else "") or self._failure

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

    def _note(self, session: BatchPublisher) -> None:
        self._settled = {kind: session.settled(kind) for kind in KINDS}
        self._lost.update(self._losses(session))
        self._given_up = self._given_up or session.given_up
        self._failure = (session.trouble if session.lost else "") or self._failure
        self._session = None
