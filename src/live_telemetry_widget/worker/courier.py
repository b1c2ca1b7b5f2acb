"""An emitter's own thread: takes what the training thread said, keeps it until the daemon confirms it, and hears what people want.

``rows ─▶ encode ─▶ spool ─▶ link ─▶ daemon``, every few milliseconds. What is in the spool outlives this process.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc

from live_telemetry_widget.batches import unpack
from live_telemetry_widget.client import Backoff
from live_telemetry_widget.errors import DaemonError
from live_telemetry_widget.schema import Problem
from live_telemetry_widget.worker import remote
from live_telemetry_widget.worker.emitter import EmitterStats
from live_telemetry_widget.worker.encode import Encoded, Encoder, pack
from live_telemetry_widget.worker.heirs import FINAL, OUTCOMES, hand_over
from live_telemetry_widget.worker.link import Link
from live_telemetry_widget.worker.portions import Scale, weigh
from live_telemetry_widget.worker.records import NOTHING, WIDTH
from live_telemetry_widget.worker.registration import Registration
from live_telemetry_widget.worker.spool import Spool, estates
from live_telemetry_widget.worker.will import Will

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from live_telemetry_widget.worker.emitter import Options
    from live_telemetry_widget.worker.gate import Door
    from live_telemetry_widget.worker.spool import Estate

_LOG: Final = logging.getLogger(__name__)

_LONGEST_REASON: Final = 2_000
#: Seconds.
_SETTLE: Final = 0.05


@dataclasses.dataclass(slots=True)
class _End:
    """How a run is to end."""

    outcome: str
    reason: str
    deadline: float


class _Mark(threading.Event):
    """Somebody waits until all that was told by then is confirmed; `whole` says that it is."""

    whole = False


class Done(Protocol):
    """What is told that something is done: an event."""

    def is_set(self) -> bool:
        """Whether it was told."""

    def set(self) -> None:
        """Tell it."""


class Source(Protocol):
    """Where rows come from."""

    @property
    def crowded(self) -> bool:
        """Whether there are so many that no more should come."""

    def portions(self) -> Iterator[tuple[list[Any], bool]]:
        """Yield the rows that are there now, and forget them: a portion at a time, and whether it is the last. There is at least one."""

    def kept(self, make: Callable[[], tuple[Will, bool]]) -> None:
        """Note that what was taken is spooled, and nothing of it was sent yet; `make` makes a will, and says whether it is whole."""

    def report(self, courier: Courier) -> None:
        """Say what is new to whoever is to know; it is called every few milliseconds."""


class RowList:
    """Rows in a list to which a training thread of this process adds meanwhile: whole rows, each in one operation on the list."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows
        self._scale = Scale()

    @property
    def crowded(self) -> bool:
        """Whether there are so many that no more should come."""
        return self._scale.crowded(self._rows)

    def portions(self) -> Iterator[tuple[list[Any], bool]]:
        """Yield the rows that are there now, and take them from the list."""
        rows = self._rows
        left = len(rows)
        while True:
            number = min(left, self._scale.portion(rows))
            taken = rows[:number]
            del rows[:number]
            self._scale.learn(number // WIDTH, weigh(taken))
            left -= number
            yield taken, not left
            if not left:
                return

    def kept(self, make: Callable[[], tuple[Will, bool]]) -> None:
        """Do nothing: who might inherit ends with us."""

    def report(self, courier: Courier) -> None:
        """Do nothing: who wants to know can ask."""


class Courier:
    """The thread, and what it knows.

    Parameters
    ----------
    options
        What the emitter was told.
    source
        Where the rows are that the training thread puts down.
    gate
        What holds it.
    on_end
        Called, on the thread, when it ends.
    will
        Of one that died, and that this one goes on for.

    Attributes
    ----------
    run_id : str
        As the daemon has it, once it has answered.
    """

    def __init__(
        self,
        options: Options,
        source: Source,
        gate: Door,
        on_end: Callable[[Courier], object] = lambda _: None,
        will: Will | None = None,
    ) -> None:
        self.run_id = options.run_id
        self.taken = collections.Counter[str]()
        self.confirmed = collections.Counter[str]()
        self.recovered = collections.Counter[str]()
        self.dropped = 0
        self.refused = 0
        self.problems = collections.Counter[str]()
        self.samples: dict[str, str] = {}
        self.connected = False
        self.delivered = False
        self.failure = ""
        #: Set when the daemon has answered, with yes or no.
        self.answered = threading.Event()
        self.refusal: DaemonError | None = None
        self.options = options
        self._source = source
        self._gate = gate
        self._on_end = on_end
        self._will = will
        if will is not None:
            self._inherit_counts(will)
        self._ready = threading.Event()
        self._broken: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = False
        self._stopped = False
        self._ending: _End | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"live-telemetry emitter {options.run_id}")

    # -- from other threads ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, and return when it lives."""
        self._thread.start()
        self._ready.wait()
        if self._broken is not None:
            raise self._broken

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Have it look now; to be called as often as one likes."""
        if not self._woken:
            self._woken = True
            self._call(self._news.set)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was told is confirmed; whether it was in time."""
        if self._loop is None or not self.alive:
            return self.delivered
        done = _Mark()
        self.ask(done)
        # Not longer than the thread lives, which sets what waits when it ends. Others may tell more meanwhile.
        return done.wait(timeout) and (done.whole or (not self.waiting() and self.stats().complete))

    def ask(self, done: Done) -> None:
        """Have `done` set when all that was told is confirmed, or cannot be."""
        self._call(self._add_flush, done)
        self.wake()

    def end(self, outcome: str, reason: str, timeout: float) -> None:
        """Have it finish what is here within so many seconds, tell the daemon how the run ended, and end."""
        loop = self._loop
        if loop is not None and self.alive:
            self._call(self._set_end, _End(outcome, reason[:_LONGEST_REASON], timeout))

    def join(self, timeout: float) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout)

    def waiting(self) -> int:
        """Return how many rows are not confirmed."""
        return sum(self.taken.values()) - sum(self.confirmed.values()) - self.dropped - self.refused

    def stats(self) -> EmitterStats:
        """Return what has become of what was told."""
        return EmitterStats(
            steps=self.taken["steps"],
            episodes=self.taken["episodes"],
            confirmed_steps=self.confirmed["steps"],
            confirmed_episodes=self.confirmed["episodes"],
            recovered=self.recovered.total(),
            waiting=max(0, self.waiting()),
            spooled_bytes=self._spool.size,
            dropped=self.dropped,
            not_recorded=self._gate.turned_away,
            refused=self.refused,
            connected=self.connected,
            why=self._gate.off or self.failure or self._spool.failure,
            problems=dict(self.problems),
        )

    def forget(self) -> None:
        """Leave everything as it is: this is a process that was forked from ours."""
        self._spool.forget()

    def _call(self, function: Any, *arguments: Any) -> None:  # noqa: ANN401 - as call_soon_threadsafe
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(function, *arguments)

    def _add_flush(self, done: Done) -> None:
        # Not to the list of the time when this was asked for: the thread may have taken that one.
        self._flushing.append(done)

    def _set_end(self, end: _End) -> None:
        self._ending = self._ending or end
        self._news.set()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the training thread must not wait for this one
            _LOG.exception("the emitter of run %s has failed", self.run_id)
            self._broken = error
            self._gate.close(f"the emitter has failed: {error!r}")
        finally:
            self._ready.set()
            self.answered.set()
            self._on_end(self)

    async def _main(self) -> None:
        options = self.options
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_note_trouble)
        self._news = asyncio.Event()
        self._queued = asyncio.Event()
        self._flushing: list[Done] = []
        self._sent = 0
        self._next = collections.Counter[str]()
        self._registration = Registration(
            options.address,
            options.run_id,
            options.worker_id,
            options.run_config(),
            worker_kind="emitter",
            supports_pause=options.control,
        )
        self._encoder = Encoder(
            options.run_id,
            options.worker_id,
            options.agent_id,
            first_episode=options.first_episode,
            summary=options.summary,
            count=self._count,
        )
        header = {"run_id": options.run_id, "address": options.address, "config": options.run_config()}
        if self._will is not None:
            self._encoder.inherit(self._will)
        self._spool = Spool(options.spool_dir, header)
        self._link = Link(self._registration, self._spool.producer)
        _warm_up()
        self._ready.set()
        sending = asyncio.create_task(self._send())
        hearing: list[asyncio.Task[None]] = []
        sending.add_done_callback(self._sending_ended)
        try:
            await self._pump(hearing)
        finally:
            self._link.abandon()
            for task in (sending, *hearing):
                task.cancel()
            await asyncio.gather(sending, *hearing, return_exceptions=True)
            self._spool.close()
            await self._registration.close()
            # gRPC hands the end of each cancelled call to this loop a moment later, and trips over a loop that is closed.
            await asyncio.sleep(_SETTLE)
            for done in self._flushing:
                done.set()

    async def _pump(self, hearing: list[asyncio.Task[None]]) -> None:
        end: _End | None = None
        flushing: list[tuple[int, Done]] = []
        told = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.options.interval):
                    await self._news.wait()
            self._news.clear()
            self._woken = False
            if self._ending is not None and end is None:
                end = self._ending
                end.deadline += asyncio.get_running_loop().time()
            waiters, self._flushing = self._flushing, []
            await self._drain(force=bool(waiters or flushing or end), last=bool(waiters or end))
            told = sum(self.taken.values())
            flushing += [(told, done) for done in waiters]
            self._settle()
            settled = told - self.waiting()
            for mark, done in flushing:
                if isinstance(done, _Mark):
                    done.whole = settled >= mark and self.stats().complete
                if settled >= mark or self.refusal is not None or self.refused:
                    done.set()
            flushing = [(mark, done) for mark, done in flushing if not done.is_set()]
            if self.connected and not hearing:
                hearing += self._hear()
            self._source.report(self)
            if end is not None and (await self._finished(end)):
                return

    def _hear(self) -> list[asyncio.Task[None]]:
        registration, gate = self._registration, self._gate
        tasks = [remote.listen(registration, gate.order, gate.cancel)] if self.options.control else []
        tasks.append(remote.beat(registration, self.options.heartbeat, 0, gate.cancel))
        return [asyncio.create_task(task) for task in tasks]

    async def _finished(self, end: _End) -> bool:
        """Whether nothing is left to do, or no time to do it in."""
        loop = asyncio.get_running_loop()
        left = end.deadline - loop.time()
        if self.waiting() == 0 and self.connected:
            told = not self.options.owner or await self._tell(end, max(left, 1.0))
            self.delivered = told and self.stats().complete
            return True
        if left > 0 and self.refusal is None:
            return False
        if self.options.owner:
            self._spool.end(end.outcome, end.reason)
        return True

    async def _tell(self, end: _End, timeout: float) -> bool:  # noqa: ASYNC109 - gRPC's own
        loop = asyncio.get_running_loop()
        reason, deadline, backoff = self._with_losses(end.reason), loop.time() + timeout, Backoff(first=0.2, most=2.0)
        while True:
            try:
                left = max(0.1, deadline - loop.time())
                await self._registration.finish(OUTCOMES[end.outcome], reason, timeout=left)
            except grpc.aio.AioRpcError as error:
                self.failure = f"{error.code().name}: {error.details()}"
                if error.code() != grpc.StatusCode.UNAVAILABLE or loop.time() > deadline:
                    _LOG.warning("the end of run %s could not be told: %s", self.run_id, self.failure)
                    return False
                await asyncio.sleep(backoff.next())
            else:
                return True

    def _with_losses(self, reason: str) -> str:
        """Return why the run ended, and what is not in its record; a person reads it beside the run."""
        parts = [reason] if reason else []
        if self.dropped:
            parts.append(f"{self.dropped} of the oldest rows were dropped, because the spool was full")
        if self._gate.turned_away:
            parts.append(f"{self._gate.turned_away} steps were not recorded: {self._gate.off}")
        return "; ".join(parts)

    # -- in ----------------------------------------------------------------------------------------------------------

    async def _drain(self, *, force: bool, last: bool) -> None:
        """Take what the training thread has said, as far as there is room for it; what else is to be done here is done between portions."""
        limit, policy = self.options.spool_limit, self.options.on_full
        if policy == "block" and self._spool.size >= limit and not force:
            self._gate.fill(full=True)
            return
        if self._source.crowded:  # more than the training thread makes while these are encoded
            self._gate.fill(full=True)
        for rows, end in self._source.portions():
            self._take(rows, last=last and end)
            full = policy == "block" and self._spool.size >= limit and not force
            self._gate.fill(full=full or (not end and self._source.crowded))
            if full:
                return
            if not end:
                await asyncio.sleep(0)
                self._settle()

    def _take(self, rows: list[Any], *, last: bool) -> None:
        """Encode a portion, keep it, and say that it is kept."""
        limit, policy = self.options.spool_limit, self.options.on_full
        new = collections.Counter[str]()
        self._keep(self._encoder.encode(rows, last=last), new)
        full = self._spool.size >= limit
        if policy == "drop_oldest":
            while self._spool.size > limit and self._sent < len(self._spool):
                self._drop(self._spool.remove(self._sent).rows)
        elif policy == "stop" and full and not self._stopped:
            self._stopped = True
            why = f"the spool's limit of {limit:,} bytes was reached while the daemon was away"
            self._gate.close(why)
            _LOG.warning("run %s: recording has stopped: %s", self.run_id, why)
            # Who looks at the run is to see it, too; this little more is worth its room.
            self._keep(self._encoder.stop(why), new)
        # Last, so that whoever sees them taken sees what has become of them.
        self.taken.update(new)
        if new or rows:
            self._source.kept(self._make_will)

    def _keep(self, encoded: list[Encoded], new: collections.Counter[str]) -> None:
        """Put batches into the spool, and their rows into a count."""
        for kind, batch in encoded:
            first = self._next[kind]
            self._next[kind] += batch.num_rows
            new[kind] += batch.num_rows
            self._spool.append(kind, first, batch.num_rows, pack(batch))
            self._queued.set()

    def _make_will(self) -> tuple[Will, bool]:
        will = Will(producers={self._spool.producer: dict(self._next)}, taken=dict(self.taken))
        return will, self._encoder.bequeath(will)

    def _drop(self, rows: int) -> None:
        if not self.dropped:
            _LOG.warning("run %s: the spool is full; the oldest rows are dropped", self.run_id)
        self.dropped += rows

    def _count(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.problems[problem.kind] += problem.count
            if problem.kind not in self.samples:
                self.samples[problem.kind] = problem.detail
                _LOG.warning("run %s: %s: %s", self.run_id, problem.kind, problem.detail)

    # -- out ---------------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        try:
            await self._connect()
            self.run_id = self._registration.run_id
        except DaemonError as refusal:
            self.refusal = refusal
            self._gate.close(str(refusal))
            self.answered.set()
            return
        self.connected = True
        self.answered.set()
        self._news.set()
        while True:
            while self._sent >= len(self._spool):
                self._queued.clear()
                await self._queued.wait()
            record = self._spool[self._sent]
            data = self._spool.read(record)
            self._sent += 1
            await self._link.put(record.kind, record.first, record.rows, data)

    def _sending_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("publishing run %s has failed", self.run_id, exc_info=error)
            self.failure = repr(error)
            self.refusal = DaemonError(f"publishing run {self.run_id} has failed: {error!r}")
            self._gate.close(self.failure)
            self.answered.set()

    async def _connect(self) -> None:
        """Have the run at the daemon, and deliver what an earlier process left of it."""
        left = self._inherit()
        if self._will is not None:
            self._count_inheritance(self._will, left)
        backoff = Backoff(first=0.2, most=2.0)
        refusal: DaemonError | None = None
        try:
            while True:
                try:
                    await self._registration.open()
                    break
                except grpc.aio.AioRpcError as error:
                    said = self._registration.translated(error)
                    self.failure = str(said)
                    if error.code() in FINAL and isinstance(said, DaemonError):
                        refusal = said
                        break
                    _LOG.info("run %s: %s", self.run_id, said)
                    await asyncio.sleep(backoff.next())
            self.failure = ""
            while left:
                # A run that has ended takes no new worker, but what is left of an old one.
                await self._bequeath(left[0])
                left.pop(0)
        finally:
            for estate in left:
                estate.release()
        if refusal is not None:
            raise refusal

    def _inherit(self) -> list[Estate]:
        directory = self.options.spool_dir
        if directory is None or not directory.is_dir():
            return []
        return estates(directory, self.options.run_id)

    def _inherit_counts(self, will: Will) -> None:
        """Go on counting where one that died was when it was heard last."""
        self.taken.update(will.taken)
        if (stats := will.stats) is not None:
            self.recovered["steps"] = stats.recovered
            self.dropped, self.refused = stats.dropped, stats.refused
            self.problems.update(stats.problems)
            self.confirmed.update(steps=stats.confirmed_steps, episodes=stats.confirmed_episodes)

    def _count_inheritance(self, will: Will, left: list[Estate]) -> None:
        """Cut what the dead did not finish from what they left, and count what they had done: they were heard only so often."""
        waiting = collections.Counter[str]()
        for estate in left:
            if (upto := will.producers.get(estate.producer)) is not None:
                estate.records = [r for r in estate.records if r.first + r.rows <= upto.get(r.kind, 0)]
                for record in estate.records:
                    waiting[record.kind] += record.rows
        spooled = self.options.spool_dir is not None and not (will.stats and "memory only" in will.stats.why)
        gone = sum(will.taken.values()) - self.dropped - self.refused - waiting.total()
        lost = 0 if spooled else max(0, gone - self.confirmed.total())
        if lost:
            self.dropped += lost
            self._count([Problem("helper_lost", "a helper has died, and what was in its memory with it", count=lost)])
        # What is no longer in the files was confirmed, dropped or refused.
        episodes = will.taken.get("episodes", 0) - waiting["episodes"]
        self.confirmed.clear()
        self.confirmed.update(steps=gone - lost - episodes, episodes=episodes)

    async def _bequeath(self, estate: Estate) -> None:
        delivered = collections.Counter[str]()
        why, lost, whole = await hand_over(estate, self._registration, delivered)
        if self._will is None or estate.producer not in self._will.producers:
            self.recovered.update(delivered)
        elif whole:
            self.refused += lost
            self.confirmed.update(delivered)
            self.confirmed["steps"] -= lost
        if estate.torn:
            self._count([Problem("torn_spool", "a file of an earlier process ends within a record", count=estate.torn)])
        if why:
            self._count([Problem("spool_refused", f"rows of an earlier process cannot be delivered: {why}")])

    def _settle(self) -> None:
        """Forget what is confirmed."""
        link = self._link
        while len(self._spool) and self._sent:
            record = self._spool[0]
            if link.settled(record.kind) < record.first + record.rows:
                break
            self._spool.remove()
            self._sent -= 1
            self.confirmed[record.kind] += record.rows
        if link.lost > self.refused:
            # Lost rows were counted as settled, and so as confirmed.
            self.confirmed["steps"] -= link.lost - self.refused
            self.refused = link.lost
            self.failure = link.failure
            self._gate.close(f"the daemon refuses this run's telemetry: {link.failure}")


def _warm_up() -> None:
    """Have everything loaded: pyarrow imports pandas with its first array, and a program that ends can import nothing any more."""
    encoder = Encoder("", "", "", count=lambda _: None)
    for _, batch in encoder.encode(
        [(0, 0, 0.0, 0, True, False, None, None, None, {"of": 1}, None, None), *NOTHING], last=True
    ):
        unpack(pack(batch))


def _note_trouble(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio would write to standard error, among the training program's own output."""
    error = context.get("exception")
    # gRPC wakes all loops of a process for what only one of them finds.
    level = logging.DEBUG if isinstance(error, BlockingIOError) else logging.ERROR
    _LOG.log(level, "in an emitter's thread: %s", context.get("message"), exc_info=error)
