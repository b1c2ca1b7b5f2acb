"""Fan-out with one bounded queue for each subscriber: so many items, and so many bytes where the bus knows what an item weighs.

Publishing never blocks and never fails: a subscriber that does not keep up loses its own oldest items, and can see how many.
Whoever must lose nothing reads the frames (or, with the daemon, the log) by cursor instead.

Examples
--------
>>> bus = RunBus[str]()
>>> with bus.subscribe(capacity=2) as subscription:
...     for word in ("one", "two", "three"):
...         bus.publish(word)
...     subscription.drain(), subscription.dropped
(['two', 'three'], 1)
"""

from __future__ import annotations

import collections
import logging
import threading
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from live_telemetry_widget.errors import ClosedError, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

_LOG: Final = logging.getLogger(__name__)

T = TypeVar("T")

#: A batch may be of one step or of 65,536: their number alone does not bound what a slow subscriber holds.
_MOST_BYTES: Final = 256 * 1024 * 1024


def call_each(listeners: Iterable[Callable[..., object]], *args: object) -> None:
    """Call every listener; one that raises harms neither the others nor the caller, and is logged."""
    for listener in listeners:
        try:
            listener(*args)
        except Exception:  # noqa: BLE001 - another's code; the log has it
            _LOG.exception("a listener raised: %r", listener)


class Subscription(Generic[T]):
    """One subscriber's bounded queue; made by :meth:`RunBus.subscribe`.

    Attributes
    ----------
    dropped : int
        How many items this subscriber lost because it did not keep up.
    """

    def __init__(self, bus: RunBus[T], capacity: int, most_bytes: int) -> None:
        self._bus = bus
        #: With the bytes of each.
        self._items: collections.deque[tuple[T, int]] = collections.deque()
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._nbytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def _put(self, item: T, nbytes: int) -> None:
        with self._changed:
            # The newest is kept, whatever it weighs.
            while self._items and (len(self._items) >= self._capacity or self._nbytes + nbytes > self._most_bytes):
                self._take()
                self.dropped += 1
            self._items.append((item, nbytes))
            self._nbytes += nbytes
            self._changed.notify()

    def _take(self) -> T:
        item, nbytes = self._items.popleft()
        self._nbytes -= nbytes
        return item

    @property
    def pending(self) -> int:
        """How many items wait to be taken."""
        return len(self._items)

    def next(self, timeout: float | None = None) -> T:
        """Take the oldest item, waiting for one.

        Raises
        ------
        WaitTimeoutError
            None came within `timeout` seconds.
        ClosedError
            The subscription was ended and everything in it was taken.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._closed, timeout):
                msg = f"nothing was published within {timeout} s"
                raise WaitTimeoutError(msg)
            if not self._items:
                msg = "the subscription was ended; subscribe again"
                raise ClosedError(msg)
            return self._take()

    def drain(self) -> list[T]:
        """Take everything that waits, without waiting."""
        with self._changed:
            items = [item for item, _ in self._items]
            self._items.clear()
            self._nbytes = 0
            return items

    def unsubscribe(self) -> None:
        """Stop receiving; what waits can still be taken. May be called twice."""
        self._bus._remove(self)  # noqa: SLF001 - the two classes are one thing
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unsubscribe()


class RunBus(Generic[T]):
    """Hands each published item to every subscriber of the moment.

    Parameters
    ----------
    weigh
        Returns an item's size in bytes; without it only the number of items bounds a queue.
    """

    def __init__(self, weigh: Callable[[T], int] | None = None) -> None:
        self._weigh = weigh
        self._subscriptions: tuple[Subscription[T], ...] = ()
        self._lock = threading.Lock()

    def publish(self, item: T) -> None:
        """Give `item` to every subscriber; never blocks, whatever they do."""
        subscriptions = self._subscriptions
        nbytes = self._weigh(item) if self._weigh and subscriptions else 0
        for subscription in subscriptions:
            subscription._put(item, nbytes)  # noqa: SLF001

    def subscribe(self, capacity: int = 1_024, most_bytes: int = _MOST_BYTES) -> Subscription[T]:
        """Return a new subscription that holds at most `capacity` items and, one item apart, `most_bytes` bytes of them."""
        if capacity < 1:
            msg = f"capacity is {capacity}; a queue must hold at least 1 item"
            raise ValueError(msg)
        if most_bytes < 1:
            msg = f"most_bytes is {most_bytes}; a queue must hold at least 1 byte"
            raise ValueError(msg)
        subscription = Subscription(self, capacity, most_bytes)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def close(self) -> None:
        """End every subscription of the moment; what waits in them can still be taken. The bus can go on being used."""
        for subscription in self._subscriptions:
            subscription.unsubscribe()

    def _remove(self, subscription: Subscription[T]) -> None:
        with self._lock:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)
