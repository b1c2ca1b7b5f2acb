"""Your own code, called for each step, episode and end of a run.

A callback has a bounded queue and a thread of its own (or is called on the loop it was given), so it cannot slow the stream, the view
or another callback. One that does not keep up loses its own oldest events, and is told how many.

Examples
--------
>>> import threading
>>> from live_telemetry_widget import TelemetryAsyncHub, TelemetryBridge
>>> done, rewards = threading.Event(), []
>>> with TelemetryAsyncHub() as hub, TelemetryBridge(hub) as bridge:
...     _ = bridge.step_received.connect(lambda run_id, step: rewards.append(step["reward"]))
...     _ = bridge.run_completed.connect(lambda run_id, state, reason: done.set())
...     _ = hub.subscribe_run("mine")
...     hub.submit_step({"run_id": "mine", "episode": 0, "step_index": 0, "reward": 1.5})
...     hub.complete_run("mine")
...     done.wait(5)
True
>>> rewards
[1.5]
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from live_telemetry_widget import _json
from live_telemetry_widget.bus import RunBus
from live_telemetry_widget.errors import ClosedError
from live_telemetry_widget.hub import Arrival, Ended

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from live_telemetry_widget.bus import Subscription
    from live_telemetry_widget.hub import TelemetryAsyncHub

_LOG: Final = logging.getLogger(__name__)

#: A batch waits in a callback's queue as one item; so many batches may wait.
CAPACITY: Final = 1_024
#: A loop is lent for so many events at a time, so that what else it has to do comes between.
_ON_LOOP: Final = 64


class _Overflow(NamedTuple):
    signal: str
    dropped: int


class Signal:
    """Something that happens; callbacks are connected to it.

    Attributes
    ----------
    errors : int
        How many times a callback raised; each is logged, and the callback is called again for the next event.
    """

    def __init__(self, bridge: TelemetryBridge, name: str) -> None:
        self.name = name
        self.errors = 0
        self._bridge = bridge
        self._deliveries: list[_Delivery] = []

    @property
    def dropped(self) -> int:
        """How many batches of events callbacks lost because they did not keep up."""
        return sum(delivery.dropped for delivery in self._deliveries)

    def connect(self, callback: Callable[..., object]) -> Callable[[], None]:
        """Have `callback` called with each event from now on; return what ends that.

        Raises
        ------
        ClosedError
            The bridge was closed.
        TypeError
            `callback` cannot be called.
        """
        if not callable(callback):
            msg = f"the callback of {self.name} is {callback!r}; give a function"
            raise TypeError(msg)
        return self._bridge._connect(self, callback)  # noqa: SLF001 - the two classes are one thing

    def _call(self, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        try:
            callback(*arguments)
        except Exception:  # noqa: BLE001 - logged and counted; anything may come from there
            self.errors += 1
            _LOG.exception("a callback of %s raised", self.name)


class TelemetryBridge:
    """Calls your functions for what a hub brings.

    Parameters
    ----------
    hub
        Whose runs.
    loop
        An asyncio loop to call the callbacks on, like the kernel's (``asyncio.get_running_loop()`` in a cell): for code that is not to be
        called from another thread. None: each callback has a background thread.
    capacity
        How many batches of events may wait for one callback before its oldest are dropped.

    Attributes
    ----------
    step_received : Signal
        ``(run_id: str, step: dict)`` for each step that was not here before, in the order of arrival; the names of ``run.steps``.
    episode_received : Signal
        ``(run_id: str, episode: dict)`` for each episode's record.
    queue_overflow : Signal
        ``(signal: str, dropped: int)`` when a callback of that signal lost so many batches more.
    run_completed : Signal
        ``(run_id: str, state: RunState, reason: str)`` once a run has ended and all of it is here.
    """

    def __init__(
        self, hub: TelemetryAsyncHub, *, loop: asyncio.AbstractEventLoop | None = None, capacity: int = CAPACITY
    ) -> None:
        self._hub = hub
        self._loop = loop
        self._capacity = capacity
        self._closed = False
        self._overflows: RunBus[_Overflow] = RunBus()
        self.step_received = Signal(self, "step_received")
        self.episode_received = Signal(self, "episode_received")
        self.queue_overflow = Signal(self, "queue_overflow")
        self.run_completed = Signal(self, "run_completed")

    @property
    def signals(self) -> tuple[Signal, ...]:
        """All of them."""
        return (self.step_received, self.episode_received, self.queue_overflow, self.run_completed)

    def _connect(self, signal: Signal, callback: Callable[..., object]) -> Callable[[], None]:
        if self._closed:
            msg = "the bridge was closed; make another with TelemetryBridge(hub)"
            raise ClosedError(msg)
        bus: RunBus[Any] = self._overflows if signal is self.queue_overflow else self._hub.bus
        delivery = _Delivery(signal, callback, bus.subscribe(self._capacity), self._loop, self._overflows)
        signal._deliveries.append(delivery)  # noqa: SLF001

        def disconnect() -> None:
            if delivery in signal._deliveries:  # noqa: SLF001
                signal._deliveries.remove(delivery)  # noqa: SLF001
            delivery.close()

        return disconnect

    def close(self) -> None:
        """Call nobody any more; ends the threads. May be called twice."""
        self._closed = True
        for signal in self.signals:
            for delivery in signal._deliveries:  # noqa: SLF001
                delivery.close()
            signal._deliveries.clear()  # noqa: SLF001

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Delivery:
    """Brings the events of one signal to one callback."""

    def __init__(
        self,
        signal: Signal,
        callback: Callable[..., object],
        subscription: Subscription[Any],
        loop: asyncio.AbstractEventLoop | None,
        overflows: RunBus[_Overflow],
    ) -> None:
        self._signal = signal
        self._callback = callback
        self._subscription = subscription
        self._loop = loop
        self._overflows = overflows
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._main, name=f"live-telemetry-bridge {signal.name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._subscription.dropped

    def close(self) -> None:
        """End the thread; does not wait for a callback that is under way, which may be the caller."""
        self._closed.set()
        self._subscription.unsubscribe()

    def _main(self) -> None:
        told = 0
        while not self._closed.is_set():
            try:
                item = self._subscription.next()
            except ClosedError:
                return
            if self._subscription.dropped > told and self._signal.name != "queue_overflow":
                self._overflows.publish(_Overflow(self._signal.name, self._subscription.dropped - told))
                told = self._subscription.dropped
            events = list(_events(self._signal.name, item))
            if self._loop is None:
                for event in events:
                    if self._closed.is_set():
                        return
                    self._signal._call(self._callback, event)  # noqa: SLF001
            elif not self._on_loop(self._loop, events):
                return

    def _on_loop(self, loop: asyncio.AbstractEventLoop, events: list[tuple[Any, ...]]) -> bool:
        """Call on the loop, some at a time, and wait for each; False when there is no loop any more."""

        def call(some: list[tuple[Any, ...]], done: threading.Event) -> None:
            try:
                for event in some:
                    if not self._closed.is_set():
                        self._signal._call(self._callback, event)  # noqa: SLF001
            finally:
                done.set()

        for at in range(0, len(events), _ON_LOOP):
            done = threading.Event()
            try:
                loop.call_soon_threadsafe(call, events[at : at + _ON_LOOP], done)
            except RuntimeError:
                _LOG.info("the loop that %s was to be delivered on is closed", self._signal.name)
                self.close()
                return False
            # A loop that has stopped for good answers never; a busy cell answers when it has ended.
            while not done.wait(1.0):
                if self._closed.is_set() or loop.is_closed():
                    return False
        return True


def _events(signal: str, item: object) -> Iterator[tuple[Any, ...]]:
    """Yield the arguments of each call that an item of the bus means for a signal."""
    if isinstance(item, Arrival):
        if signal == {"steps": "step_received", "episodes": "episode_received"}[item.kind]:
            for row in item.new.to_pylist():
                if "action" in row:
                    row["action"] = row["action"] and _json.read(row["action"])
                yield item.run_id, row
    elif isinstance(item, Ended):
        if signal == "run_completed":
            yield item.run_id, item.state, item.reason
    elif isinstance(item, _Overflow):
        yield tuple(item)
