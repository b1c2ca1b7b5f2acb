"""The batched wire: publishers' batches in, acknowledged as they are committed; batches out, as many rows as were granted."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from live_telemetry_widget import batches
from live_telemetry_widget.daemon.refusal import invalid
from live_telemetry_widget.proto import telemetry_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from live_telemetry_widget.daemon.log import DurableLog
    from live_telemetry_widget.daemon.publish import BatchStream, Intake
    from live_telemetry_widget.store import Kind

#: Rows of one publisher that may be unanswered. What they weigh is bounded by what may wait for a commit.
GRANT: Final = 262_144
#: A publisher is not read while so many of its batches are not answered, whether they wait for a commit or it does not read the answers.
_MOST_UNANSWERED: Final = 1_024
#: A reader that grants more as it reads has done so after this (seconds).
_MOMENT: Final = 0.05


class _Acks:
    """What was taken of one publisher, in order, and is to be acknowledged when it is committed."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Kind, int, int, asyncio.Future[None] | None] | BaseException | None] = (
            asyncio.Queue()
        )
        self._room = asyncio.Semaphore(_MOST_UNANSWERED)

    async def room(self) -> None:
        """Wait until one more may be put."""
        await self._room.acquire()

    def put(self, kind: Kind, upto: int, dropped: int, commit: asyncio.Future[None] | None) -> None:
        self._queue.put_nowait((kind, upto, dropped, commit))

    def end(self, error: BaseException | None) -> None:
        self._queue.put_nowait(error)

    async def __aiter__(self) -> AsyncIterator[telemetry_pb2.PublishAck]:
        while True:
            item = await self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            kind, upto, dropped, commit = item
            if commit is not None:
                # Whoever ends this call does not end the commit.
                await asyncio.shield(commit)
            yield telemetry_pb2.PublishAck(
                kind=batches.KIND_NUMBERS[kind], committed=upto, dropped=dropped, granted_rows=GRANT
            )
            self._room.release()


async def publish(
    intake: Intake, requests: AsyncIterator[telemetry_pb2.PublishBatch], token: str
) -> AsyncIterator[telemetry_pb2.PublishAck]:
    """Commit a publisher's batches; yield how far they are."""
    yield telemetry_pb2.PublishAck(granted_rows=GRANT)
    acks = _Acks()
    reading = asyncio.create_task(_read(intake, requests, token, acks))
    try:
        async for ack in acks:
            yield ack
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


async def _read(intake: Intake, requests: AsyncIterator[telemetry_pb2.PublishBatch], token: str, acks: _Acks) -> None:
    streams: dict[Kind, BatchStream] = {}
    run_id = producer = ""
    error: BaseException | None = None
    try:
        async for request in requests:
            kind = _kind(request.kind)
            run_id, producer = run_id or request.run_id, producer or request.producer
            if request.run_id not in {"", run_id} or request.producer not in {"", producer}:
                msg = f"a stream is of one run and one producer: this one began with {run_id!r} and {producer!r}"
                raise invalid(msg)  # noqa: TRY301 - told to the one who answers
            stream = streams.get(kind)
            if stream is None:
                stream = streams[kind] = intake.begin_batches(kind, run_id, token, producer)
            await acks.room()
            upto, commit = stream.take_rows(request.first, request.data)
            acks.put(kind, upto, stream.dropped, commit)
            await intake.log.room()
    except Exception as reason:  # noqa: BLE001 - told to the one who answers
        error = reason
    finally:
        for stream in streams.values():
            stream.end()
        acks.end(error)


async def stream(
    log: DurableLog, requests: AsyncIterator[telemetry_pb2.BatchCredit]
) -> AsyncIterator[telemetry_pb2.TelemetryBatch]:
    """Yield rows after a number, no more than were granted, then live ones."""
    first = await anext(aiter(requests), None)
    if first is None or not first.run_id:
        msg = "run_id is empty; name the run to stream in the first message"
        raise invalid(msg)
    kind, compression = _kind(first.kind), batches.COMPRESSION_NAMES.get(first.compression)
    if compression is None:
        msg = f"compression is {first.compression}; give one of {', '.join(telemetry_pb2.Compression.keys())}"
        raise invalid(msg)
    credit = _Credit(first.rows)
    granting = asyncio.create_task(credit.take(requests))
    try:
        at = first.since_seq
        while True:
            chunk = await log.chunk_after(first.run_id, kind, at)
            whole = compression != "none" and chunk.first_seq == at + 1
            if whole and await credit.enough(chunk.rows):
                # As it was committed: nobody packs it once more, however many read.
                credit.spend(chunk.rows)
                at += chunk.rows
                yield telemetry_pb2.TelemetryBatch(first_seq=chunk.first_seq, last_seq=at, data=chunk.data)
                continue
            batch = chunk.after(at)
            while batch.num_rows:
                room = await credit.some()
                part = next(batches.parts(batch.slice(0, room)))
                count = part.num_rows
                credit.spend(count)
                data = batches.encode(part, compression)
                yield telemetry_pb2.TelemetryBatch(first_seq=at + 1, last_seq=at + count, data=data)
                at += count
                batch = batch.slice(count)
    finally:
        granting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await granting


class _Credit:
    """Rows that a reader has granted and not been sent."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._more = asyncio.Event()

    async def take(self, requests: AsyncIterator[telemetry_pb2.BatchCredit]) -> None:
        async for request in requests:
            self._rows += request.rows
            self._more.set()

    async def some(self) -> int:
        """Wait for credit; return how much there is."""
        while self._rows <= 0:
            self._more.clear()
            await self._more.wait()
        return self._rows

    async def enough(self, rows: int) -> bool:
        """Wait for credit, and a moment longer for so much; return whether there is."""
        await self.some()
        if self._rows < rows:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MOMENT):
                    while self._rows < rows:
                        self._more.clear()
                        await self._more.wait()
        return self._rows >= rows

    def spend(self, rows: int) -> None:
        self._rows -= rows


def _kind(number: telemetry_pb2.RowKind) -> Kind:
    kind = batches.KIND_NAMES.get(number)
    if kind is None:
        msg = f"kind is {number}; give ROW_KIND_STEPS or ROW_KIND_EPISODES"
        raise invalid(msg)
    return kind
