"""The runs that a daemon knows, the only ways in which one goes from state to state, and who watches."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import secrets
import time
from typing import TYPE_CHECKING, Final

import grpc

from live_telemetry_widget._ulid import new_ulid
from live_telemetry_widget.daemon import config as run_config
from live_telemetry_widget.daemon.refusal import RefusalError, precondition
from live_telemetry_widget.daemon.silence import Pulse
from live_telemetry_widget.daemon.tokens import Tokens
from live_telemetry_widget.errors import ClosedError
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.store import RunRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from live_telemetry_widget.daemon.log import DurableLog

_LOG: Final = logging.getLogger(__name__)

INIT: Final = int(trainer_pb2.RUN_STATUS_INIT)
HSHK: Final = int(trainer_pb2.RUN_STATUS_HSHK)
RDY: Final = int(trainer_pb2.RUN_STATUS_RDY)
EXEC: Final = int(trainer_pb2.RUN_STATUS_EXEC)
PAUSE: Final = int(trainer_pb2.RUN_STATUS_PAUSE)
FAULT: Final = int(trainer_pb2.RUN_STATUS_FAULT)
TERM: Final = int(trainer_pb2.RUN_STATUS_TERM)
NAMES: Final = {INIT: "INIT", HSHK: "HSHK", RDY: "RDY", EXEC: "EXEC", PAUSE: "PAUSE", FAULT: "FAULT", TERM: "TERM"}
ENDED: Final = frozenset({FAULT, TERM})

#: What may follow a state; docs/decisions/0004-run-management.md says what each is. Steps may come without a handshake:
#: proxies of generation 1 do not know it.
MAY_FOLLOW: Final = {
    INIT: frozenset({HSHK, EXEC, FAULT, TERM}),
    HSHK: frozenset({RDY, EXEC, FAULT, TERM}),
    RDY: frozenset({EXEC, PAUSE, FAULT, TERM}),
    EXEC: frozenset({PAUSE, FAULT, TERM}),
    PAUSE: frozenset({EXEC, FAULT, TERM}),
    FAULT: frozenset({TERM}),
    TERM: frozenset(),
}
#: Changes kept one by one; a watcher that asks for older ones is given the present record of each run that changed since.
_CHANGES_KEPT: Final = 4_096


class Registry:
    """The runs, in memory and in the log. Lives on the daemon's event loop.

    A change is seen here at once, by watchers once it is committed, and by whoever made it when the call returns.

    Attributes
    ----------
    pulse : Pulse
        When each run showed life.
    tokens : Tokens
        What registered workers are given.
    """

    def __init__(
        self,
        log: DurableLog,
        rows: Collection[RunRow],
        *,
        tokens: Tokens | None = None,
        changes_kept: int = _CHANGES_KEPT,
    ) -> None:
        self.pulse = Pulse()
        self.tokens = tokens or Tokens(secrets.token_bytes())
        self._log = log
        self._runs = {row.run_id: row for row in rows}
        self._by_digest = {row.digest: row.run_id for row in rows if row.digest}
        #: Runs of which a worker has registered with this daemon, and whether one of them takes control events.
        self._workers: dict[str, bool] = {}
        self._active = {row.run_id for row in rows if row.status not in ENDED}
        #: Runs that are to end, and what to say of their end.
        self._wishes: dict[str, str] = {}
        self._seq = max((row.record_seq for row in rows), default=0)
        self._changes: collections.deque[RunRow] = collections.deque()
        self._changes_kept = changes_kept
        #: Changes up to this number are not known one by one, those after it are.
        self._floor = self._seq
        self._published = self._seq
        self._changed = asyncio.Event()
        self._ending = False

    def known(self, run_id: str) -> bool:
        """Whether there is such a run."""
        return run_id in self._runs

    def find(self, run_id: str) -> RunRow:
        """Return a run; refuse with NOT_FOUND."""
        run = self._runs.get(run_id)
        if run is None:
            msg = f"no run {run_id!r} here; make it with SubmitRun or OpenRun first"
            raise RefusalError(grpc.StatusCode.NOT_FOUND, msg)
        return run

    def list(self, statuses: Collection[int] = ()) -> list[RunRow]:
        """Return the runs in one of `statuses` (in any, when there are none), oldest first."""
        return [run for run in self._runs.values() if not statuses or run.status in statuses]

    def active(self) -> tuple[RunRow, ...]:
        """Return the runs that have not ended."""
        return tuple(self._runs[run_id] for run_id in self._active)

    def alive(self, run_id: str) -> None:
        """Note that a run shows life."""
        if run_id in self._active:
            self.pulse.beat(run_id)

    # -- making ------------------------------------------------------------------------------------------------------

    async def submit(self, run_id: str, config_json: str) -> RunRow:
        """Make a run of a client's config, or return the one that the same config made before."""
        config = run_config.parse_config(config_json)
        digest = run_config.digest_of(config)
        held = self.of_digest(digest)
        if held is not None:
            return held
        chosen = run_config.choose_run_id(run_id, config)
        if chosen in self._runs:
            msg = f"run {chosen!r} exists, with another config; choose another run_id"
            raise RefusalError(grpc.StatusCode.ALREADY_EXISTS, msg)
        self._by_digest[digest] = chosen
        try:
            return await self._make(chosen, digest, config_json)
        except Exception:
            # Not committed (the disk is full): when it is submitted again, it must not be taken for one that is.
            del self._by_digest[digest]
            raise

    def of_digest(self, digest: str) -> RunRow | None:
        """Return the run that was made of a config with that digest."""
        held = self._by_digest.get(digest)
        return None if held is None else self._runs[held]

    async def open(self, run_id: str, config_json: str) -> tuple[RunRow, bool]:
        """Make a run for a worker that runs by itself, or take in what the worker of one that is there says of itself; return it and whether it is new."""
        run_config.parse_object(config_json)
        held = self._runs.get(run_id)
        if held is None:
            chosen = run_config.check_run_id(run_id) if run_id else new_ulid()
            return await self._make(chosen, "", config_json or "{}"), True
        if held.status in ENDED:
            msg = f"run {run_id!r} has ended and is not opened again; choose another run id, or none"
            raise precondition(msg)
        completed = run_config.completed(held.config_json, config_json)
        if completed != held.config_json:
            held = await self._save(dataclasses.replace(held, config_json=completed), time.time_ns())
        return held, False

    async def _make(self, run_id: str, digest: str, config_json: str) -> RunRow:
        now = time.time_ns()
        run = RunRow(run_id, INIT, digest, config_json, created_at=now)
        _LOG.info("run %s made", run_id)
        return await self._save(run, now)

    # -- changing ----------------------------------------------------------------------------------------------------

    def _save(self, run: RunRow, now: int) -> asyncio.Future[RunRow]:
        """Give the change a number and queue it; done when it is committed."""
        self._seq += 1
        run = dataclasses.replace(run, updated_at=now, record_seq=self._seq)
        before = self._runs.get(run.run_id)
        self._hold(run)
        saved: asyncio.Future[RunRow] = asyncio.get_running_loop().create_future()

        def publish(committed: asyncio.Future[None]) -> None:
            error = committed.exception()
            if error is not None and self._runs.get(run.run_id) is run:
                # What is not on disk did not happen, and may be tried again.
                self._unhold(run.run_id, before)
            if saved.done():
                pass
            elif error is not None:
                saved.set_exception(error)
            else:
                saved.set_result(run)
            if error is None:
                self._publish(run)

        self._log.put_run(run).add_done_callback(publish)
        return saved

    def _hold(self, run: RunRow) -> None:
        self._runs[run.run_id] = run
        (self._active.discard if run.status in ENDED else self._active.add)(run.run_id)

    def _unhold(self, run_id: str, before: RunRow | None) -> None:
        if before is None:
            del self._runs[run_id]
            self._active.discard(run_id)
        else:
            self._hold(before)

    def _publish(self, run: RunRow) -> None:
        self._published = run.record_seq
        self._changes.append(run)
        if len(self._changes) > self._changes_kept:
            self._floor = self._changes.popleft().record_seq
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _move(self, run: RunRow, status: int, reason: str | None = None) -> asyncio.Future[RunRow]:
        if status not in MAY_FOLLOW[run.status]:
            msg = f"run {run.run_id!r} is {NAMES[run.status]} and cannot become {NAMES[status]}"
            raise precondition(msg)
        _LOG.info("run %s: %s -> %s%s", run.run_id, NAMES[run.status], NAMES[status], f" ({reason})" if reason else "")
        return self._save(dataclasses.replace(run, status=status, failure_reason=reason), time.time_ns())

    async def dispatched(self, run_id: str) -> None:
        """Note that a run's worker was started and its handshake is awaited."""
        self.alive(run_id)
        if self._runs[run_id].status == INIT:
            await self._move(self._runs[run_id], HSHK)

    async def register(self, run_id: str, worker_id: str, *, takes_control: bool = False) -> str:
        """Take a worker's handshake; return its session token."""
        run = self.find(run_id)
        if run.status in ENDED:
            msg = f"run {run_id!r} has ended; a worker cannot join it"
            raise precondition(msg)
        _LOG.info("run %s: worker %r registers", run_id, worker_id)
        self.alive(run_id)
        self._workers[run_id] = takes_control or self._workers.get(run_id, False)
        if run.status == INIT:
            await self._move(run, HSHK)
        # Somebody else may have moved it on meanwhile.
        if self._runs[run_id].status == HSHK:
            await self._move(self._runs[run_id], RDY)
        return self.tokens.issue(run_id)

    def registered(self, run_id: str) -> bool:
        """Whether a worker of the run has shaken hands with this daemon."""
        return run_id in self._workers

    def takes_control(self, run_id: str) -> bool:
        """Whether a worker of the run has said that it takes control events."""
        return self._workers.get(run_id, False)

    def stepping(self, run_id: str) -> None:
        """Note that steps come: the run executes. Committed before steps that are queued after this call."""
        run = self._runs[run_id]
        self.alive(run_id)
        if run.status in {INIT, HSHK, RDY}:
            # Nobody waits for it, so nobody would fetch its error; the steps behind it meet the same one.
            self._move(run, EXEC).add_done_callback(lambda saved: saved.exception())

    async def heartbeat(self, run_id: str) -> None:
        """Note a sign of life. It is no change that watchers are told of."""
        run = dataclasses.replace(self.find(run_id), last_heartbeat=time.time_ns())
        self.alive(run_id)
        self._runs[run_id] = run
        await self._log.put_run(run)

    async def pause(self, run_id: str) -> None:
        """Note that the worker was told to make no more steps."""
        run = self.find(run_id)
        if PAUSE in MAY_FOLLOW[run.status]:
            await self._move(run, PAUSE)

    async def resume(self, run_id: str) -> None:
        """Note that it was told to go on."""
        run = self.find(run_id)
        if run.status == PAUSE:
            await self._move(run, EXEC)

    def wish_end(self, run_id: str, reason: str) -> None:
        """Let the run's end, when its worker tells of it, have this reason; unless the worker says that it completed."""
        self._wishes.setdefault(run_id, reason)

    def wished(self, run_id: str) -> str:
        """Return why the run is to end; empty when nobody wants it to."""
        return self._wishes.get(run_id, "")

    async def end(self, run_id: str, reason: str | None) -> None:
        """End a run: well without a reason; cancelled with one that begins with 'cancelled'; else failed. The first end stands."""
        run = self.find(run_id)
        if run.status not in ENDED:
            await self._move(run, TERM, reason and (self.wished(run_id) or reason))
        self._forget(run_id)

    async def fault(self, run_id: str, reason: str) -> None:
        """End a run of which we have lost hold."""
        run = self.find(run_id)
        if run.status not in ENDED:
            _LOG.warning("run %s is lost: %s", run_id, reason)
            await self._move(run, FAULT, reason)
        self._forget(run_id)

    def _forget(self, run_id: str) -> None:
        self._workers.pop(run_id, None)
        self._wishes.pop(run_id, None)
        self.pulse.forget(run_id)

    # -- watching ----------------------------------------------------------------------------------------------------

    async def watch(self, since_seq: int) -> AsyncIterator[tuple[RunRow, int]]:
        """Yield runs as they change after `since_seq`, each with its number; from 0 on, first all as they are, with number 0.

        Raises
        ------
        ClosedError
            The daemon is shutting down.
        """
        # A number from another life of the directory must not make the watcher deaf.
        at = min(since_seq, self._published)
        if since_seq == 0:
            at = self._published
            for run in list(self._runs.values()):
                yield run, 0
        while not self._ending:
            if at < self._floor:
                later = sorted(
                    (run for run in self._runs.values() if run.record_seq > at), key=lambda run: run.record_seq
                )
            else:
                later = [run for run in self._changes if run.record_seq > at]
            if not later:
                await self._changed.wait()
            for run in later:
                at = run.record_seq
                yield run, at
        msg = "the registry is closed"
        raise ClosedError(msg)

    def close(self) -> None:
        """End the watchers."""
        self._ending = True
        self._wake()
