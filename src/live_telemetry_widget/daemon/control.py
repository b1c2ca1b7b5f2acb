"""ControlStream: what a person wants of a running worker, on its way to the worker's proxy, and the answer back.

Both ends use the same call. A proxy opens it with its session token and a first event that holds only the run's id; then
events come to it, and it sends each one back once it has taken it. Anybody else sends events and is answered with
each one that the proxy has taken.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Final

import grpc

from live_telemetry_widget.daemon.refusal import RefusalError, invalid, precondition
from live_telemetry_widget.daemon.runs import ENDED, HSHK, INIT, NAMES
from live_telemetry_widget.errors import ClosedError
from live_telemetry_widget.proto import trainer_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from live_telemetry_widget.daemon.runs import Registry

_LOG: Final = logging.getLogger(__name__)

#: Seconds that a proxy has for an answer, and that one which is just starting has to open its stream.
_ANSWER: Final = 5.0
_COMING: Final = 4.0

Event = trainer_pb2.ControlEvent


class _Seat:
    """A proxy's end: events to it, and who waits for their return. They return in the order in which they went."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        self.waiting: collections.deque[tuple[Event, asyncio.Future[None]]] = collections.deque()

    def put(self, event: Event) -> asyncio.Future[None]:
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((event, taken))
        self.events.put_nowait(event)
        return taken

    def close(self) -> None:
        self.events.put_nowait(None)
        for _, taken in self.waiting:
            if not taken.done():
                taken.set_exception(precondition("the worker's proxy went away before it answered; try again"))
                # Who waited may have given up.
                taken.exception()


class Relay:
    """The proxies that listen, by run."""

    def __init__(self, runs: Registry) -> None:
        self._runs = runs
        self._seats: dict[str, _Seat] = {}
        self._seated = asyncio.Event()
        self._closed = False

    def seated(self, run_id: str) -> bool:
        """Whether a proxy of the run listens."""
        return run_id in self._seats

    def cancel(self, run_id: str) -> None:
        """Tell a run's proxy to end its worker; the run's end is the answer."""
        self._seats[run_id].put(Event(run_id=run_id, cancel=True)).add_done_callback(lambda taken: taken.exception())

    async def serve(self, events: AsyncIterator[Event], token: str) -> AsyncIterator[Event]:
        """Serve one stream, of a proxy or of anybody else."""
        first = await anext(aiter(events), None)
        if first is None:
            return
        if token:
            if first.run_id and not self._runs.tokens.valid(token, first.run_id):
                msg = f"the session token is not one of run {first.run_id!r}; register the worker for one"
                raise RefusalError(grpc.StatusCode.PERMISSION_DENIED, msg)
            async for event in self._serve_proxy(first.run_id, events):
                yield event
            return
        yield await self._send(first)
        async for event in events:
            yield await self._send(event)

    async def _serve_proxy(self, run_id: str, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        self._runs.find(run_id)
        before = self._seats.pop(run_id, None)
        if before is not None:
            before.close()
        seat = self._seats[run_id] = _Seat()
        _LOG.info("run %s: its proxy listens for control events", run_id)
        self._seated.set()
        self._seated = asyncio.Event()
        answers = asyncio.create_task(self._answers(run_id, seat, events), name=f"control answers of {run_id}")
        try:
            while (event := await seat.events.get()) is not None:
                yield event
        finally:
            answers.cancel()
            seat.close()
            if self._seats.get(run_id) is seat:
                del self._seats[run_id]
        if self._closed:
            msg = "the relay is closed"
            raise ClosedError(msg)

    async def _answers(self, run_id: str, seat: _Seat, events: AsyncIterator[Event]) -> None:
        try:
            # The stream breaks off when the proxy does.
            with contextlib.suppress(grpc.RpcError):
                async for _ in events:
                    self._runs.alive(run_id)
                    if seat.waiting:
                        event, taken = seat.waiting.popleft()
                        await self._heeded(event, taken)
        finally:
            seat.close()

    async def _heeded(self, event: Event, taken: asyncio.Future[None]) -> None:
        """Let the run's state say what its proxy has taken, whether or not somebody still waits for that."""
        try:
            if event.pause:
                await self._runs.pause(event.run_id)
            elif event.resume:
                await self._runs.resume(event.run_id)
        except (RefusalError, sqlite3.Error) as error:
            if not taken.done():
                taken.set_exception(error)
                taken.exception()
        else:
            if not taken.done():
                taken.set_result(None)

    async def _send(self, event: Event) -> Event:
        """Relay an event; return it when the proxy has taken it and the run's state says so."""
        kind = event.WhichOneof("event")
        if kind is None:
            msg = "the event is empty; set one of grant_steps, pause, resume, max_rate_hz"
            raise invalid(msg)
        if kind in {"pause", "resume"} and not getattr(event, kind):
            msg = f"{kind} is false; leave it out, or send {'resume' if kind == 'pause' else 'pause'}: true"
            raise invalid(msg)
        seat = await self._seat(event.run_id)
        relayed = Event()
        relayed.CopyFrom(event)
        relayed.cancel = False
        try:
            async with asyncio.timeout(_ANSWER):
                await seat.put(relayed)
        except TimeoutError:
            msg = f"the proxy of run {event.run_id!r} did not answer within {_ANSWER:g} s; is it stopped? It heeds {kind} when it goes on"
            raise RefusalError(grpc.StatusCode.ABORTED, msg) from None
        _LOG.info("run %s: %s %s", event.run_id, kind, getattr(event, kind))
        return relayed

    async def _seat(self, run_id: str) -> _Seat:
        if not run_id:
            msg = "run_id is empty; name the run to control"
            raise invalid(msg)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_COMING):
                while not self.seated(run_id) and self._expected(run_id):
                    await self._seated.wait()
        run = self._runs.find(run_id)
        if run.status in ENDED:
            msg = f"run {run_id!r} has ended ({NAMES[run.status]}); there is no worker to control"
            raise precondition(msg)
        seat = self._seats.get(run_id)
        if seat is None:
            msg = (
                f"run {run_id!r} is {NAMES[run.status]} and no proxy of it listens for control events: it is one that cannot, "
                "it has not begun, or it is away; a worker under `live-telemetry run` can be controlled"
            )
            raise precondition(msg)
        return seat

    def _expected(self, run_id: str) -> bool:
        run = self._runs.find(run_id)
        starting = run.status == HSHK or (run.status == INIT and bool(run.digest))
        return run.status not in ENDED and (starting or self._runs.takes_control(run_id))

    def close(self) -> None:
        """End the proxies' streams; they come back to the next daemon."""
        self._closed = True
        for seat in self._seats.values():
            seat.close()
