"""Telemetry on its way in: one publisher's messages, gathered into batches, committed in order, counted."""

from __future__ import annotations

import asyncio
import collections
import logging
from typing import TYPE_CHECKING, Final

import grpc

from live_telemetry_widget import _names, normalize
from live_telemetry_widget.daemon.refusal import RefusalError, invalid, precondition
from live_telemetry_widget.proto import trainer_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from live_telemetry_widget.daemon.log import DurableLog
    from live_telemetry_widget.daemon.runs import Registry
    from live_telemetry_widget.schema import Problem
    from live_telemetry_widget.store import Kind

_LOG: Final = logging.getLogger(__name__)

Message = trainer_pb2.RunStep | trainer_pb2.RunEpisode

#: Messages become a batch this long (seconds) after the first of them came, or when there are so many.
_GATHER: Final = 0.02
_GATHER_AT: Final = 1_024


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

    async def publish(
        self, kind: Kind, messages: AsyncIterator[Message], token: str = ""
    ) -> trainer_pb2.PublishTelemetryResponse:
        """Commit a stream of messages; the answer counts what is committed.

        What was received is committed too when the stream breaks off, or is refused half-way. A publisher that carries a session
        token is held to the run that it was issued for.
        """
        stream: _Stream | None = None
        try:
            async for message in messages:
                if stream is None:
                    stream = self._begin(kind, message.run_id, token)
                elif message.run_id != stream.run_id:
                    msg = f"a stream is of one run: this one began with {stream.run_id!r}, then came {message.run_id!r}"
                    raise invalid(msg)
                stream.take(message)
                await self.log.room()
        finally:
            # Queues and does not wait, so that it also happens when this task is cancelled.
            if stream is not None:
                stream.flush()
        if stream is not None:
            await stream.committed()
            return trainer_pb2.PublishTelemetryResponse(accepted=stream.kept, dropped=stream.received - stream.kept)
        return trainer_pb2.PublishTelemetryResponse()

    def _begin(self, kind: Kind, run_id: str, token: str) -> _Stream:
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
        return _Stream(self, kind, run_id)

    def count(self, run_id: str, kind: Kind, problems: Sequence[Problem]) -> None:
        """Count what was wrong; say each kind once per run."""
        counted = self.problems.setdefault(run_id, collections.Counter())
        for problem in problems:
            if problem.kind not in counted:
                _LOG.warning("run %s, %s: %s: %s", run_id, kind, problem.kind, problem.detail)
            counted[problem.kind] += problem.count


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

    def take(self, message: Message) -> None:
        """Take a message; raises what an earlier commit of this stream failed with."""
        if self._error is not None:
            raise self._error
        self.received += 1
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
        if not batch.num_rows:
            return
        if self._kind == "steps":
            self._intake.runs.stepping(self.run_id)
        else:
            self._intake.runs.alive(self.run_id)
        # A publisher that sends again what was committed belongs here: see issue 4. Readers merge copies by identity.
        self.kept += batch.num_rows
        self._last_commit = self._intake.log.append(self.run_id, self._kind, batch)
        self._last_commit.add_done_callback(self._note)

    def _note(self, commit: asyncio.Future[None]) -> None:
        self._error = self._error or commit.exception()

    async def committed(self) -> None:
        """Wait until all of it is; commits are in order, so the last is enough."""
        if self._last_commit is not None:
            await self._last_commit
        if self._error is not None:
            raise self._error
