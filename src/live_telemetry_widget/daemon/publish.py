"""Telemetry on its way in: one publisher's messages, gathered into batches, committed in order, counted."""

from __future__ import annotations

import asyncio
import collections
import functools
import logging
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc

from live_telemetry_widget import _names, batches, normalize
from live_telemetry_widget.daemon.log import Chain
from live_telemetry_widget.daemon.refusal import RefusalError, invalid, precondition
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.schema import Problem
from live_telemetry_widget.store import Mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import pyarrow as pa

    from live_telemetry_widget.daemon.log import DurableLog
    from live_telemetry_widget.daemon.runs import Registry
    from live_telemetry_widget.store import Kind

_LOG: Final = logging.getLogger(__name__)

Message = trainer_pb2.RunStep | trainer_pb2.RunEpisode

#: Messages become a batch this long (seconds) after the first of them came, or when there are so many.
_GATHER: Final = 0.02
_GATHER_AT: Final = 1_024


class Numbering(NamedTuple):
    """What a publisher says of its messages, so that it may send them again.

    Attributes
    ----------
    producer
        Its name, unlike any other's.
    first
        The number of the stream's first message; those behind it count on by one.
    """

    producer: str
    first: int


class Intake:
    """The way in, for all publishers of a daemon.

    Parameters
    ----------
    strict
        Refuse publishers that carry no session token.
    """

    def __init__(self, log: DurableLog, runs: Registry, *, strict: bool) -> None:
        self.log = log
        self.runs = runs
        self._strict = strict
        #: What was wrong with data, by run and kind of problem.
        self.problems: dict[str, collections.Counter[str]] = {}
        #: Publishers that number their messages, as long as one of their streams is open or being committed.
        self._producers: weakref.WeakValueDictionary[tuple[str, Kind, str], _Producer] = weakref.WeakValueDictionary()

    async def publish(
        self, kind: Kind, messages: AsyncIterator[Message], token: str = "", numbering: Numbering | None = None
    ) -> trainer_pb2.PublishTelemetryResponse:
        """Commit a stream of messages; the answer counts what is committed.

        What was received is committed too when the stream breaks off, or is refused half-way. A publisher that carries a session
        token is held to the run that it was issued for. Of one that numbers its messages, each is committed once, however often it
        sends it; what it sends again counts as accepted.
        """
        stream: _Stream | None = None
        try:
            async for message in messages:
                if stream is None:
                    stream = self._begin(kind, message.run_id, token, numbering)
                elif message.run_id != stream.run_id:
                    msg = f"a stream is of one run: this one began with {stream.run_id!r}, then came {message.run_id!r}"
                    raise invalid(msg)
                stream.take(message)
                await self.log.room()
        finally:
            # Queues and does not wait, so that it also happens when this task is cancelled.
            if stream is not None:
                stream.end()
        if stream is not None:
            await stream.committed()
            return trainer_pb2.PublishTelemetryResponse(accepted=stream.kept, dropped=stream.received - stream.kept)
        return trainer_pb2.PublishTelemetryResponse()

    def _begin(self, kind: Kind, run_id: str, token: str, numbering: Numbering | None) -> _Stream:
        self._check(run_id, token)
        if numbering is None:
            return _Stream(self, kind, run_id)
        return _NumberedStream(self, kind, run_id, self._producer(kind, run_id, numbering.producer), numbering.first)

    def _check(self, run_id: str, token: str) -> None:
        """Raise unless the caller may publish to that run."""
        if not run_id:
            msg = "run_id is empty; say in every message to which run it belongs"
            raise invalid(msg)
        self.runs.find(run_id)
        if token and not self.runs.tokens.valid(token, run_id):
            msg = f"the session token is not one of run {run_id!r}; RegisterWorker gives one for each run"
            raise RefusalError(grpc.StatusCode.PERMISSION_DENIED, msg)
        if self._strict and not token:
            msg = (
                f"this daemon is strict: telemetry of run {run_id!r} needs the session token that RegisterWorker answers, "
                f"as metadata {_names.SESSION_TOKEN!r}"
            )
            raise precondition(msg)

    def begin_batches(self, kind: Kind, run_id: str, token: str, producer: str) -> BatchStream:
        """Return a stream for the rows of a publisher that sends them in batches."""
        self._check(run_id, token)
        if not producer:
            msg = "producer is empty; a publisher of batches says its name, unlike any other's"
            raise invalid(msg)
        return BatchStream(self, kind, run_id, self._producer(kind, run_id, producer))

    def _producer(self, kind: Kind, run_id: str, name: str) -> _Producer:
        key = (run_id, kind, name)
        producer = self._producers.get(key)
        if producer is None:
            producer = self._producers[key] = _Producer(name, self.log.store.produced(*key))
        return producer

    def count(self, run_id: str, kind: Kind, problems: Sequence[Problem]) -> None:
        """Count what was wrong; say each kind once per run."""
        counted = self.problems.setdefault(run_id, collections.Counter())
        for problem in problems:
            if problem.kind not in counted:
                _LOG.warning("run %s, %s: %s: %s", run_id, kind, problem.kind, problem.detail)
            counted[problem.kind] += problem.count


class _Producer:
    """How far a publisher has come that numbers its messages.

    Attributes
    ----------
    stored
        So many of its messages are committed.
    taken
        So many are, or wait for it.
    last
        The last commit that was queued.
    stream
        The only one of its streams that may add to them.
    """

    def __init__(self, name: str, stored: int) -> None:
        self.name = name
        self.stored = self.taken = stored
        self.last: asyncio.Future[None] | None = None
        self.stream: _NumberedStream | None = None

    def settled(self, upto: int, commit: asyncio.Future[None]) -> None:
        """Note a commit."""
        if commit.exception() is None:
            self.stored = max(self.stored, upto)


class _Stream:
    """One publisher's messages."""

    def __init__(self, intake: Intake, kind: Kind, run_id: str) -> None:
        self._intake = intake
        self._kind: Kind = kind
        self.run_id = run_id
        self.received = 0
        self.kept = 0
        self._waiting: list[Message] = []
        self._timer: asyncio.TimerHandle | None = None
        self._last_commit: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._chain = Chain()

    def take(self, message: Message) -> None:
        """Take a message; raises what an earlier commit of this stream failed with."""
        if self._error is not None:
            raise self._error
        self.received += 1
        self._keep(message)

    def _keep(self, message: Message) -> None:
        self._waiting.append(message)
        if len(self._waiting) >= _GATHER_AT:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER, self.flush)

    def flush(self) -> None:
        """Queue what waits to be committed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        messages, self._waiting = self._waiting, []
        if not messages:
            return
        to_batch = normalize.steps_from_messages if self._kind == "steps" else normalize.episodes_from_messages
        batch, problems = to_batch(messages)
        if problems:
            self._intake.count(self.run_id, self._kind, problems)
        self._queue(batch, self._mark(len(messages)))

    def _mark(self, _: int) -> Mark | None:
        """Return which messages those are that wait, so many; None where they have no numbers."""
        return None

    def _queue(self, batch: pa.RecordBatch, mark: Mark | None, data: bytes | None = None) -> None:
        if not batch.num_rows and mark is None:
            return
        if self._kind == "steps":
            self._intake.runs.stepping(self.run_id)
        else:
            self._intake.runs.alive(self.run_id)
        self.kept += batch.num_rows
        self._last_commit = self._intake.log.append(self.run_id, self._kind, batch, self._chain, mark, data=data)
        self._last_commit.add_done_callback(self._note)

    def _note(self, commit: asyncio.Future[None]) -> None:
        error = commit.exception()
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Take no more; what waits is dropped, because it would be out of order without what came before it."""
        self._error = self._error or error
        self._waiting = []
        self.flush()

    def end(self) -> None:
        """Queue what waits."""
        self.flush()

    async def committed(self) -> None:
        """Wait until all of it is; commits are in order, so the last is enough."""
        if self._last_commit is not None:
            # Whoever ends this call does not end the commit, for which another stream may wait too.
            await asyncio.shield(self._last_commit)
        if self._error is not None:
            raise self._error


class _NumberedStream(_Stream):
    """The messages of a publisher that numbers them: those that it sends again are left out."""

    def __init__(self, intake: Intake, kind: Kind, run_id: str, producer: _Producer, first: int) -> None:
        super().__init__(intake, kind, run_id)
        self._producer = producer
        self._next = first
        self._first_waiting = first
        self._jump = False
        self._begun = False
        if producer.stream is not None:
            producer.stream.retire()
        last = self._last_commit = producer.last
        if last is not None and not last.done():
            # What it carries is left out of this stream, and must be committed before this one is confirmed.
            last.add_done_callback(self._note)
        else:
            producer.taken = producer.stored
        producer.stream = self

    def retire(self) -> None:
        """Let another stream of the same publisher take over: the connection of this one was lost."""
        self.end()
        msg = "the publisher has opened another stream, which goes on in place of this one"
        self._fail(RefusalError(grpc.StatusCode.ABORTED, msg))

    def _keep(self, message: Message) -> None:
        number, taken = self._next, self._producer.taken
        self._next += 1
        if number < taken:
            self.kept += 1
            return
        if number > taken:
            if self._begun:
                # An earlier commit has failed, and its error is on its way here.
                msg = f"message {number} came where message {taken} is the next one; send again from there"
                raise RefusalError(grpc.StatusCode.ABORTED, msg)
            # Given up by the publisher, or lost by us (an older copy of the directory was put back): they will not come.
            self._jump = True
        self._begun = True
        self._producer.taken = number + 1
        if not self._waiting:
            self._first_waiting = number
        super()._keep(message)

    def _mark(self, count: int) -> Mark:
        jump, self._jump = self._jump, False
        return Mark(self._producer.name, self._first_waiting, self._first_waiting + count, jump)

    def _queue(self, batch: pa.RecordBatch, mark: Mark | None, data: bytes | None = None) -> None:
        super()._queue(batch, mark, data)
        last = self._producer.last = self._last_commit
        if last is not None and mark is not None:
            last.add_done_callback(functools.partial(self._producer.settled, mark.upto))

    def _note(self, commit: asyncio.Future[None]) -> None:
        super()._note(commit)
        if self._error is not None and self._producer.stream is self:
            self._producer.taken = self._producer.stored

    def end(self) -> None:
        """Queue what waits."""
        super().end()
        if self._producer.stream is self:
            self._producer.stream = None


class BatchStream(_NumberedStream):
    """The rows of a publisher that sends them in batches; their numbers are those of rows.

    Attributes
    ----------
    dropped : int
        Rows that could not be kept.
    """

    def __init__(self, intake: Intake, kind: Kind, run_id: str, producer: _Producer) -> None:
        super().__init__(intake, kind, run_id, producer, 0)
        self.dropped = 0

    def take_rows(self, first: int, data: bytes) -> tuple[int, asyncio.Future[None] | None]:
        """Take a batch whose first row has that number.

        Returns
        -------
        tuple
            Up to where the publisher's rows are taken now, and the commit that they wait for.
        """
        if self._error is not None:
            raise self._error
        taken = self._producer.taken
        try:
            batch, problems, received, packed = batches.decode(
                data, self._kind, self.run_id, skip=max(0, taken - first)
            )
        except batches.BadBatchError as error:
            self._intake.count(self.run_id, self._kind, [Problem("bad_batch", str(error))])
            raise invalid(str(error)) from None
        # What cannot be kept has a number all the same.
        upto = first + received
        if upto <= taken:
            return taken, self._producer.last
        if first > taken:
            if self._begun:
                msg = f"row {first} came where row {taken} is the next one; send again from there"
                raise RefusalError(grpc.StatusCode.ABORTED, msg)
            self._jump = True
        self._begun = True
        if problems:
            self._intake.count(self.run_id, self._kind, problems)
        self.dropped += upto - max(first, taken) - batch.num_rows
        self._first_waiting = max(first, taken)
        self._producer.taken = upto
        self._queue(batch, self._mark(upto - self._first_waiting), packed)
        return upto, self._last_commit
