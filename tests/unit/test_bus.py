"""The bus: bounded queues, drop-oldest, counts."""

from __future__ import annotations

import threading

import pytest

from live_telemetry_widget.bus import RunBus
from live_telemetry_widget.errors import ClosedError, WaitTimeoutError


def test_a_full_queue_drops_the_oldest_and_counts_it_for_that_subscriber_only() -> None:
    bus = RunBus[int]()
    small, large = bus.subscribe(capacity=3), bus.subscribe(capacity=100)
    for number in range(10):
        bus.publish(number)
    assert (small.pending, small.dropped, small.drain()) == (3, 7, [7, 8, 9])
    assert (large.dropped, large.drain()) == (0, list(range(10)))


def test_next_waits_for_a_publish_from_another_thread() -> None:
    bus = RunBus[str]()
    subscription = bus.subscribe()
    threading.Timer(0.01, bus.publish, ("late",)).start()
    assert subscription.next(timeout=5) == "late"


def test_next_says_when_nothing_comes() -> None:
    with pytest.raises(WaitTimeoutError, match=r"within 0\.01 s"):
        RunBus[str]().subscribe().next(timeout=0.01)


def test_after_unsubscribe_what_waits_can_be_taken_and_nothing_more_comes() -> None:
    bus = RunBus[str]()
    with bus.subscribe() as subscription:
        bus.publish("kept")
    bus.publish("too late")
    assert subscription.next(timeout=0) == "kept"
    with pytest.raises(ClosedError):
        subscription.next(timeout=0)


def test_unsubscribe_wakes_who_waits() -> None:
    subscription = RunBus[str]().subscribe()
    threading.Timer(0.01, subscription.unsubscribe).start()
    with pytest.raises(ClosedError):
        subscription.next(timeout=5)


def test_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        RunBus[str]().subscribe(capacity=0)


def test_a_queue_is_bounded_in_bytes_too_and_keeps_the_newest_whatever_it_weighs() -> None:
    bus = RunBus[bytes](len)
    light, heavy = bus.subscribe(), bus.subscribe(most_bytes=100)
    for size in (40, 50, 20, 30):
        bus.publish(bytes(size))
    assert ([len(item) for item in heavy.drain()], heavy.dropped) == ([50, 20, 30], 1)
    bus.publish(bytes(10))
    bus.publish(bytes(1_000))
    assert (heavy.pending, len(heavy.next(timeout=0)), heavy.dropped) == (1, 1_000, 2)
    bus.publish(bytes(100))  # what was taken weighs nothing any more
    assert (heavy.pending, heavy.dropped) == (1, 2)
    assert (light.pending, light.dropped) == (7, 0)


def test_bytes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="most_bytes is 0"):
        RunBus[str]().subscribe(most_bytes=0)
