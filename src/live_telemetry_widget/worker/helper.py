"""An emitter's helper, as its training process sees it: another process encodes, keeps and publishes what is handed to it.

Encoding and publishing within the training process share its interpreter lock; here a thread of it cuts the list every few milliseconds,
pickles the part (0.05 us a row) and writes it into a pipe, and that is all. What the helper has not said to be kept is held until it has,
and goes to the next helper when this one dies; after some deaths, to a courier in this process.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget.errors import DaemonError
from live_telemetry_widget.worker.child import HelperProcess
from live_telemetry_widget.worker.options import EmitterStats
from live_telemetry_widget.worker.parcels import dump_rows, dumps, loads, read_some
from live_telemetry_widget.worker.portions import Scale
from live_telemetry_widget.worker.records import WIDTH
from live_telemetry_widget.worker.will import Will

if TYPE_CHECKING:
    from collections.abc import Callable

    from live_telemetry_widget.worker.courier import Courier
    from live_telemetry_widget.worker.gate import Gate
    from live_telemetry_widget.worker.options import Options
    from live_telemetry_widget.worker.records import Manner

_LOG: Final = logging.getLogger(__name__)

#: A helper that dies is replaced so many times; then its work is done in this process.
_LIVES: Final = 5
#: Seconds that a helper may take, beside what it was given, to say that it has ended.
_GRACE: Final = 10.0
#: Seconds within which a helper must say that it lives: it loads pyarrow and gRPC on a machine that may be busy.
_BIRTH: Final = 30.0
_REAP: Final = 5.0
#: Seconds between two looks whether a courier in this process lives.
_LOOK: Final = 0.5
#: Seconds between two times that we hear what it says, when nobody waits for it.
_DEAF: Final = 0.08
#: With more additions to a will than so many it is read.
_CODICILS: Final = 256


class Helper:
    """The thread that hands rows to a helper, in place of a :class:`~live_telemetry_widget.worker.courier.Courier`.

    Parameters
    ----------
    options
        What the emitter was told.
    rows
        The training thread's list.
    manners
        Its manners, which a second helper has to be told again.
    gate
        What holds the training thread.
    on_end
        Called, on the thread, when it ends.
    """

    def __init__(
        self,
        options: Options,
        rows: list[Any],
        manners: list[Manner],
        gate: Gate,
        on_end: Callable[[Helper], object] = lambda _: None,
    ) -> None:
        self.run_id = options.run_id
        self.delivered = False
        self.failure = ""
        self.answered = threading.Event()
        self.refusal: DaemonError | None = None
        #: How many helpers have died.
        self.deaths = 0
        self.options = options
        self._rows = rows
        self._manners = manners
        self._gate = gate
        self._on_end = on_end
        self._stats = EmitterStats()
        self._problems = collections.Counter[str]()
        self._process: HelperProcess | None = None
        #: What does it in this process, when too many helpers have died.
        self._stand_in: Courier | None = None
        self._will = Will()
        #: What the helper has added to it since, as it came: read when it has died.
        self._codicils: list[bytes] = []
        #: Parcels that the helper has not said to be kept: number, rows, bytes.
        self._parcels: collections.deque[tuple[int, int, bytes]] = collections.deque()
        self._number = 0
        self._scale = Scale()
        # Of a kind that its holder may take again: an emitter that is garbage ends us from any thread, this one included.
        self._lock = threading.RLock()
        self._flushing: dict[int, threading.Event] = {}
        self._unasked: list[int] = []
        self._flushed = 0
        self._ending: tuple[str, str, float] | None = None
        self._told_end = False
        self._over = False
        self._heard = 0.0
        self._born = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"live-telemetry emitter {options.run_id}")

    # -- from other threads ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the helper; it answers when it has."""
        self._process = self._begin()
        self._thread.start()

    @property
    def pid(self) -> int:
        """The helper's; 0 when there is none."""
        return self._process.pid if self._process is not None and self._stand_in is None else 0

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def born(self) -> bool:
        """Wait until the helper runs; whether it does. One that does not is nobody's loss: no rows were there yet."""
        if not self._born.wait(_BIRTH):
            self._over = True
            self.wake()
            self.join(_REAP)
            return False
        return not (self._over and self.deaths)

    def wake(self) -> None:
        """Have the thread look now."""
        with self._lock, contextlib.suppress(OSError):  # it is awake, or has ended
            os.write(self._wake_write, b"\0")
        if self._stand_in is not None:
            self._stand_in.wake()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was told is confirmed; whether it was in time."""
        if not self.alive:
            return self.delivered
        if self._stand_in is not None:
            return self._stand_in.flush(timeout)
        done = threading.Event()
        with self._lock:
            self._flushed += 1
            number = self._flushed
            self._flushing[number] = done
            self._unasked.append(number)
            if self._stand_in is not None:  # since we looked
                self._stand_in.ask(done)
        self.wake()
        # Not longer than the thread lives, which sets what waits when it ends.
        done.wait(timeout)
        with self._lock:
            late = self._flushing.pop(number, None) is not None and not done.is_set()
        return not late and not self.waiting() and self.stats().complete

    def end(self, outcome: str, reason: str, timeout: float) -> None:
        """Have the helper finish within so many seconds, tell the daemon how the run ended, and end."""
        with self._lock:
            self._ending = self._ending or (outcome, reason, time.monotonic() + timeout)
            if self._stand_in is not None:
                self._stand_in.end(outcome, reason, timeout)
        self.wake()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended."""
        self._thread.join(timeout)

    def waiting(self) -> int:
        """Return how many rows are not confirmed."""
        return self._stats.waiting if self._stand_in is None else self._stand_in.waiting()

    def stats(self) -> EmitterStats:
        """Return what has become of what was told, as the helper said last."""
        stats = self._stats if self._stand_in is None else self._stand_in.stats()
        return dataclasses.replace(
            stats,
            not_recorded=self._gate.turned_away,
            why=self._gate.off or self.failure or stats.why,
            # A copy in one go: our thread counts meanwhile.
            problems=dict(collections.Counter(dict(self._problems)) + collections.Counter(stats.problems)),
        )

    def forget(self) -> None:
        """Leave the helper to the process that we were forked from."""
        self._lock = threading.RLock()  # whoever held it is not here
        if self._process is not None:
            self._process.leave()
        if self._stand_in is not None:
            self._stand_in.forget()
        self._close()

    def _close(self) -> None:
        for descriptor in (self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._wake_read = self._wake_write = -1

    # -- the thread --------------------------------------------------------------------------------------------------

    def _begin(self) -> HelperProcess:
        """Start a helper that goes on where the last one was when it died."""
        options = dataclasses.replace(self.options, run_id=self.run_id)
        return HelperProcess(dumps((options, options.run_config(), os.getpid(), self._will)))

    def _run(self) -> None:
        try:
            while not self._over:
                self._turn()
            if self._stand_in is not None:
                self._accompany(self._stand_in)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the training thread must not wait for this one
            _LOG.exception("the emitter of run %s has failed", self.run_id)
            self._give_up(f"the emitter has failed: {error!r}")
        finally:
            process = self._process
            if process is not None:
                process.leave()
                process.reap(_REAP)
            self._born.set()
            self.answered.set()
            self._on_end(self)
            with self._lock:
                self._close()
                for done in self._flushing.values():
                    done.set()

    def _turn(self) -> None:
        process = self._process
        assert process is not None  # noqa: S101 - start() has made it
        urgent = bool(self._flushing or self._told_end or not self.answered.is_set())
        # Every call of the system lets go of the interpreter lock and has to get it back: there are no more than must be.
        if process.wait(self._wake_read, self.options.interval, hearing=urgent):
            read_some(self._wake_read)
            urgent = True
        with self._lock:
            ending = self._ending
        if not process.idle:
            process.write()
        if process.idle:
            self._say(process, ending)
        if self._scale.crowded(self._rows):
            self._gate.crowd(crowded=True)
        elif not self._rows:
            self._gate.crowd(crowded=False)
        now = time.monotonic()
        if urgent or ending is not None or now - self._heard > _DEAF:
            self._heard = now
            self._hear(process)
        if ending is not None and now - ending[2] > _GRACE:
            self._give_up(f"the emitter's helper {process.pid} does not end; it is left to itself")
        if process.ended and not self._over:
            self._died(process)

    def _say(self, process: HelperProcess, ending: tuple[str, str, float] | None) -> None:
        """Hand over what is there: rows first, then what is asked about them."""
        with self._lock:
            unasked, self._unasked = self._unasked, []
        values = len(self._rows)
        while values and process.idle:
            values -= self._hand_over(process, values)
            process.write()
        if values:  # the pipe is full; what is asked is about these, too
            with self._lock:
                self._unasked[:0] = unasked
            return
        for number in unasked:
            process.send(dumps(("flush", number)))
        if ending is not None and not self._told_end:
            outcome, reason, deadline = ending
            left = max(0.0, deadline - time.monotonic())
            self._told_end = True
            process.send(dumps(("end", outcome, reason, left, self._gate.turned_away, self._gate.off)))
        process.write()

    def _hand_over(self, process: HelperProcess, most: int) -> int:
        """Hand over a portion of so many values at most; return how many it has."""
        rows = self._rows
        number = min(most, self._scale.portion(rows))
        taken = rows[:number]
        del rows[:number]
        data, spoilt = dump_rows(taken)
        if spoilt:
            self._problems["not_json"] += spoilt
        self._number += 1
        self._parcels.append((self._number, number // WIDTH, data))
        self._scale.learn(number // WIDTH, len(data))
        process.send(data)
        return number

    def _hear(self, process: HelperProcess) -> None:
        for said in process.hear():
            getattr(self, f"_on_{said[0]}")(*said[1:])

    # -- what the helper says ----------------------------------------------------------------------------------------

    def _on_born(self) -> None:
        self._born.set()

    def _on_kept(self, number: int, whole: bool, will: bytes) -> None:  # noqa: FBT001 - a message's field
        while self._parcels and self._parcels[0][0] <= number:
            self._parcels.popleft()
        if whole:
            self._codicils.clear()
        self._codicils.append(will)
        if len(self._codicils) > _CODICILS:
            self._read_will()

    def _read_will(self) -> None:
        for data in self._codicils:
            self._will.add(loads(data))
        self._codicils.clear()

    def _on_stats(self, stats: EmitterStats) -> None:
        self._stats = stats

    def _on_answered(self, run_id: str, refusal: str) -> None:
        self.run_id = run_id
        if refusal:
            self.refusal = DaemonError(refusal)
        self.answered.set()

    def _on_order(self, event: dict[str, Any]) -> None:
        self._gate.order(event)

    def _on_cancel(self) -> None:
        self._gate.cancel()

    def _on_fill(self, full: bool) -> None:  # noqa: FBT001 - a message's field
        self._gate.fill(full=full)

    def _on_close(self, why: str) -> None:
        self._gate.close(why)

    def _on_flushed(self, number: int) -> None:
        with self._lock:
            done = self._flushing.get(number)
        if done is not None:
            done.set()

    def _on_log(self, name: str, level: int, text: str) -> None:
        logging.getLogger(name).log(level, "%s", text)

    def _on_ended(self, delivered: bool) -> None:  # noqa: FBT001 - a message's field
        self.delivered = delivered
        self._over = True

    # -- when it dies ------------------------------------------------------------------------------------------------

    def _died(self, process: HelperProcess) -> None:
        """Go on with another, which gets what the dead one did not keep, and delivers what it left."""
        process.leave()
        process.reap(_REAP)  # its lock on the spool goes with it
        self.deaths += 1
        self._problems["helper_died"] += 1
        self._read_will()
        self._will.stats, self._will.manners = self._stats, list(self._manners)
        if not self._born.is_set():
            self._over = True  # the emitter does it in this process
            return
        if self.deaths > _LIVES:
            self._go_on_here(f"{self.deaths} helpers have died, one after the other")
            return
        _LOG.warning("the helper %d of run %s has died; another goes on", process.pid, self.run_id)
        try:
            successor = self._process = self._begin()
        except (OSError, RuntimeError) as error:  # no memory; or the interpreter is ending
            self._go_on_here(f"a helper has died, and there can be no other ({error})")
            return
        self._gate.fill(full=False)
        for _, _, data in self._parcels:
            successor.send(data)
        with self._lock:
            self._unasked = list(self._flushing)
        self._told_end = False

    def _go_on_here(self, why: str) -> None:
        """Do in this process what no helper lives to do; recording ends only where that cannot be either."""
        _LOG.warning("run %s: %s; their work is done in this process from now on", self.run_id, why)
        self._problems["helper_given_up"] += 1
        # Loading what it takes may last a second, in which nobody takes rows.
        self._gate.crowd(crowded=True)
        self._gate.fill(full=False)
        try:
            from live_telemetry_widget.worker.courier import Courier  # noqa: PLC0415 - loads pyarrow and gRPC
            from live_telemetry_widget.worker.sources import RowList  # noqa: PLC0415 - as above

            options = dataclasses.replace(self.options, run_id=self.run_id)
            courier = Courier(options, RowList(self._rows), self._gate, will=self._will)
            # In front of what the training thread has put down since, in one operation.
            self._rows[:0] = [value for _, _, data in self._parcels for value in loads(data)]
            self._parcels.clear()
            courier.start()
        except Exception as error:  # noqa: BLE001 - the interpreter ends, memory does, a package was removed
            self._give_up(f"{why}, and this process cannot do their work: {error!r}")
            return
        with self._lock:
            self._stand_in = courier
            for done in self._flushing.values():
                courier.ask(done)
            if self._ending is not None:
                outcome, reason, deadline = self._ending
                courier.end(outcome, reason, max(0.0, deadline - time.monotonic()))
        self._over = True
        self._gate.crowd(crowded=False)

    def _accompany(self, courier: Courier) -> None:
        """Live as long as what does the work in this process, and have its word be ours."""
        courier.answered.wait()
        self.run_id, self.refusal = courier.run_id, courier.refusal
        self.answered.set()
        while courier.alive:
            courier.join(_LOOK)
        self.delivered = courier.delivered
        self.failure = self.failure or courier.failure

    def _give_up(self, why: str) -> None:
        self._over = True
        self.failure = why
        self._gate.close(why)
        lost = len(self._rows) // WIDTH + sum(rows for _, rows, _ in self._parcels)
        if lost:
            self._problems["helper_lost"] += lost
        _LOG.error("run %s: %s; %d rows were not handed over", self.run_id, why, lost)


__all__ = ["Helper"]
