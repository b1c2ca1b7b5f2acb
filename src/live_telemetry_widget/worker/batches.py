"""Publishes the rows of one producer in Arrow batches, and sends again what the daemon did not acknowledge.

One stream carries both kinds in the order in which they were put, so an episode's record comes behind its steps. With a daemon
that has no such call, the same rows go on the per-step wire, under the same numbers.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import uuid
from typing import TYPE_CHECKING, Final

import grpc

from live_telemetry_widget import batches
from live_telemetry_widget.client import MAX_MESSAGE, Backoff
from live_telemetry_widget.proto import telemetry_pb2
from live_telemetry_widget.schema import KINDS
from live_telemetry_widget.worker import publisher
from live_telemetry_widget.worker.publisher import Delivery, Tally
from live_telemetry_widget.worker.singles import SinglesPublisher

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from live_telemetry_widget.worker.registration import Registration

_LOG: Final = logging.getLogger(__name__)

#: So many rows or bytes may be unacknowledged; then whoever makes them waits.
_WINDOW: Final = 262_144
_WINDOW_BYTES: Final = 64 * 1024 * 1024
_REFUSALS: Final = 4
#: What a message holds beside its rows.
_ENVELOPE: Final = 4_096


@dataclasses.dataclass(slots=True)
class _Part:
    """Rows that wait for their acknowledgement; or, lost for good for a reason, until those before them have theirs."""

    kind: str
    first: int
    rows: int
    data: bytes
    lost: str = ""


class BatchPublisher(Delivery):
    """Rows of one run. Make it within a running event loop, and close it.

    Parameters
    ----------
    registration
        The run, opened.
    producer
        The name under which rows are numbered; empty: a new one.
    first
        By kind the number of the first row: of one that goes on with what another left.
    backoff
        How long to wait before each new attempt.

    Attributes
    ----------
    granted : int
        How many rows the daemon lets be unacknowledged.
    """

    def __init__(
        self,
        registration: Registration,
        *,
        producer: str = "",
        first: Mapping[str, int] | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__("batches", backoff)
        self.granted = 0
        self._registration = registration
        self._producer = producer or uuid.uuid4().hex
        self._first: dict[str, int] = {kind: (first or {}).get(kind, 0) for kind in KINDS}
        self._next = dict(self._first)
        self._tallies: dict[str, Tally] = {kind: Tally() for kind in KINDS}
        self._window: collections.deque[_Part] = collections.deque()
        self._rows = 0
        self._bytes = 0
        #: How many parts of the window, and rows in them, are on their way.
        self._sent = 0
        self._sent_rows = 0
        #: One part at a time, after a refusal: which of them is it?
        self._singly = False
        self._stream_dropped: dict[str, int] = dict.fromkeys(KINDS, 0)
        #: One party at a time adds to the end: rows must stay in order when the wire is changed.
        self._order = asyncio.Lock()
        self._falling_back = False
        self._singles: SinglesPublisher | None = None

    @property
    def expected(self) -> dict[str, int]:
        """By kind, the number of the row that is put next."""
        return dict(self._next)

    @property
    def wire(self) -> str:
        """``"batches"``, or ``"messages"`` at a daemon that knows no other."""
        return "messages" if self._singles else "batches"

    @property
    def waiting(self) -> int:
        """How many rows are not acknowledged."""
        return self._rows + (self._singles.waiting if self._singles else 0)

    def tally(self, kind: str) -> Tally:
        """Return what became of the rows of one kind."""
        own = self._tallies[kind]
        if self._singles is None:
            return dataclasses.replace(own)
        other = self._singles.tally(kind)
        return Tally(own.confirmed + other.confirmed, own.lost + other.lost, own.dropped + other.dropped)

    @property
    def given_up(self) -> bool:
        """Whether nothing is sent any more, on whichever wire."""
        return self._given_up or (self._singles is not None and self._singles.given_up)

    @property
    def lost(self) -> int:
        """How many rows were refused or given up."""
        return sum(self.tally(kind).lost for kind in KINDS)

    @property
    def trouble(self) -> str:
        """What went wrong last, on whichever wire."""
        return (self._singles.failure if self._singles else "") or self.failure

    def settled(self, kind: str) -> int:
        """Return up to which number rows are acknowledged, or lost for good."""
        tally = self.tally(kind)
        return self._first[kind] + tally.confirmed + tally.lost

    async def put(self, kind: str, batch: pa.RecordBatch) -> None:
        """Hand rows over; waits while too much is unacknowledged."""
        async with self._order:
            for part in batches.parts(batch):
                await self._room.wait()
                self._next[kind] += part.num_rows
                if self._singles is None:
                    self._keep(kind, part)
                else:
                    await self._singles.put(kind, part)

    async def put_packed(self, kind: str, rows: int, data: bytes) -> None:
        """Hand over an IPC stream of so many rows, which goes out as it is where a message may hold it; waits likewise.

        Raises
        ------
        pyarrow.ArrowInvalid
            It is no IPC stream.
        """
        async with self._order:
            await self._room.wait()
            if self._singles is None and batches.fits(data, rows):
                self._next[kind] += rows
                self._hold(kind, rows, data)
                return
        await self.put(kind, batches.unpack(data))

    def _keep(self, kind: str, batch: pa.RecordBatch) -> None:
        self._hold(
            kind, batch.num_rows, b"" if self._given_up else batches.encode(batch, self._registration.compression)
        )

    def _hold(self, kind: str, rows: int, data: bytes) -> None:
        if self._given_up:
            self._tallies[kind].lost += rows
            return
        lost = ""
        if len(data) > MAX_MESSAGE - _ENVELOPE:
            lost = f"{rows} rows of {len(data):,} bytes are over the wire's limit of {MAX_MESSAGE:,}"
            data = b""
        # What is lost waits for its turn as well: all up to a number is settled, or it is not.
        self._window.append(_Part(kind, self._next[kind] - rows, rows, data, lost))
        self._rows += rows
        self._bytes += len(data)
        self._make_room()
        self._news.set()

    async def close(self) -> None:
        """Wait until all is acknowledged or given up; :meth:`abandon` cuts that short."""
        await super().close()
        if self._singles is not None:
            await self._singles.close()

    def abandon(self) -> None:
        """Stop: what is not acknowledged, and what is put from now on, counts as lost."""
        super().abandon()
        if self._singles is not None:
            self._singles.abandon()

    # -- the stream --------------------------------------------------------------------------------------------------

    async def _publish(self) -> None:
        refusals = 0
        if not self._registration.ours:
            await self._fall_back()
            return
        while self._window or not self._closing:
            if not self._window:
                self._news.clear()
                await self._news.wait()
                continue
            before = self._rows_settled()
            try:
                await self._stream()
                if self._window and self._rows_settled() == before:
                    await asyncio.sleep(self._backoff.next())  # a daemon that ends every stream
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                    await self._fall_back()
                    return
                self.failure = f"{error.code().name}: {error.details()}"
                if self._rows_settled() > before:
                    refusals = 0
                refusals = refusals + 1 if publisher.is_refusal(error) else 0
                if refusals >= _REFUSALS:
                    _LOG.warning("the daemon refuses the run's telemetry: %s", self.failure)
                    self._give_up()
                    return
                await self._recover(error)
            finally:
                self._sent = self._sent_rows = 0
                self._stream_dropped = dict.fromkeys(KINDS, 0)

    def _rows_settled(self) -> int:
        return sum(tally.confirmed + tally.lost for tally in self._tallies.values())

    async def _stream(self) -> None:
        """Send the window from its start and what comes meanwhile, until all is acknowledged and nothing more will come."""
        call = self._registration.publish_batches()
        hearing = asyncio.create_task(self._hear(call), name="acknowledgements")
        try:
            named = False
            expected: dict[str, int] = {}
            while not hearing.done():
                part = self._due()
                if part is not None and part.first != expected.get(part.kind, part.first):
                    # Rows in between are lost, and those before are confirmed. A stream's numbers jump at its beginning only.
                    await call.done_writing()
                    break
                if part is not None:
                    expected[part.kind] = part.first + part.rows
                    head = {} if named else {"run_id": self._registration.run_id, "producer": self._producer}
                    named = True
                    self._sent += 1
                    self._sent_rows += part.rows
                    message = telemetry_pb2.PublishBatch(
                        kind=batches.KIND_NUMBERS[part.kind], first=part.first, data=part.data, **head
                    )
                    # The call's own error says more than that it cannot be written to any more.
                    with contextlib.suppress(asyncio.InvalidStateError):
                        await call.write(message)
                    continue
                if self._closing and not self._window:
                    await call.done_writing()
                    break
                self._news.clear()
                wake = asyncio.create_task(self._news.wait())
                await asyncio.wait({wake, hearing}, return_when=asyncio.FIRST_COMPLETED)
                wake.cancel()
            await hearing
        finally:
            hearing.cancel()
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await hearing

    def _due(self) -> _Part | None:
        """Return the part to be sent now, if there is one and the daemon grants it."""
        while not self._sent and self._window and self._window[0].lost:
            self._lose_first()
        if self._sent >= len(self._window) or self._window[self._sent].lost or (self._singly and self._sent):
            return None
        part = self._window[self._sent]
        return part if not self._sent or self._sent_rows + part.rows <= self.granted else None

    async def _hear(
        self, call: grpc.aio.StreamStreamCall[telemetry_pb2.PublishBatch, telemetry_pb2.PublishAck]
    ) -> None:
        async for ack in call:
            self.granted = ack.granted_rows
            kind = batches.KIND_NAMES.get(ack.kind)
            if kind is not None:
                self._acknowledged(kind, ack)
            self._news.set()

    def _acknowledged(self, kind: str, ack: telemetry_pb2.PublishAck) -> None:
        tally = self._tallies[kind]
        tally.dropped += max(0, ack.dropped - self._stream_dropped[kind])
        self._stream_dropped[kind] = ack.dropped
        # Answers come in the order of what was sent, both kinds together.
        while self._window and self._sent:
            part = self._window[0]
            if part.kind != kind or part.first + part.rows > ack.committed:
                break
            tally.confirmed += part.rows
            self._remove_first()
            self._sent -= 1
            self._sent_rows -= part.rows
            self._singly = False
            self._backoff.reset()

    async def _recover(self, error: grpc.aio.AioRpcError) -> None:
        """Do what may make the next attempt work."""
        forgotten = error.code() in publisher.FORGOTTEN
        if publisher.is_refusal(error) and not forgotten:
            # One part can be what is refused. Sent one by one, the others get through.
            if self._singly and self._window:
                self._lose_first()
            self._singly = True
        wait = self._backoff.next()
        _LOG.info("publishing failed (%s); again in %.1f s", self.failure, wait)
        await asyncio.sleep(wait)
        if forgotten:
            with contextlib.suppress(grpc.aio.AioRpcError):  # the next attempt says what is wrong
                await self._registration.open()

    async def _fall_back(self) -> None:
        """Go on with the per-step wire: this is another's daemon."""
        _LOG.info("%s takes no batches; steps go one by one", self._registration.address)
        self._falling_back = True
        self._room.set()
        async with self._order:
            first: dict[str, int] = {kind: self.settled(kind) for kind in KINDS}
            self._singles = singles = SinglesPublisher(self._registration, self._producer, first)
            waiting, self._window = self._window, collections.deque()
            self._rows = self._bytes = 0
            for part in waiting:
                if part.lost:
                    self.failure = part.lost
                    self._tallies[part.kind].lost += part.rows
                else:
                    await singles.put(part.kind, batches.unpack(part.data))

    # -- the window --------------------------------------------------------------------------------------------------

    def _lose_first(self) -> None:
        part = self._window[0]
        self.failure = part.lost or self.failure
        self._tallies[part.kind].lost += part.rows
        self._remove_first()

    def _remove_first(self) -> None:
        part = self._window.popleft()
        self._rows -= part.rows
        self._bytes -= len(part.data)
        self._make_room()

    def _make_room(self) -> None:
        if self._falling_back or (self._rows < _WINDOW and self._bytes < _WINDOW_BYTES):
            self._room.set()
        else:
            self._room.clear()

    def _give_up(self) -> None:
        self._given_up = True
        for part in self._window:
            self._tallies[part.kind].lost += part.rows
        self._window.clear()
        self._rows = self._bytes = 0
        self._make_room()
