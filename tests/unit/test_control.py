"""What a worker is allowed to do: the count that the worker and the proxy's brake share, and both of them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from typing import Any

import pytest

from live_telemetry_widget.worker.brake import Brake
from live_telemetry_widget.worker.control import Allowance, Listener
from tests.conftest import wait_for


def allowed(*orders: dict[str, Any]) -> Allowance:
    allowance = Allowance()
    for order in orders:
        allowance.order(order)
    return allowance


@pytest.mark.parametrize(
    ("orders", "left"),
    [
        ([], None),
        ([{"pause": True}], 0),
        ([{"pause": True}, {"grant_steps": 3}, {"grant_steps": 2}], 5),
        ([{"grant_steps": 3}], 3),
        ([{"grant_steps": 3}, {"pause": True}], 0),
        ([{"pause": True}, {"grant_steps": 3}, {"resume": True}], None),
        ([{"pause": True}, {"pause": False}, {"resume": False}], 0),
        ([{"grant_steps": -1}], None),
        ([{"grant_steps": "3"}], None),
        ([{"grant_steps": True}], None),
        ([{"something": "else"}], None),
    ],
)
def test_orders_come_down_to_a_number_of_steps(orders: list[dict[str, Any]], left: int | None) -> None:
    assert allowed(*orders).left == left


def test_no_more_is_taken_than_is_left() -> None:
    allowance = allowed({"grant_steps": 5})
    assert [allowance.take(3, 0.0), allowance.take(3, 0.0), allowance.take(3, 0.0)] == [3, 2, 0]
    assert allowance.wait(0.0) is None
    assert Allowance().take(1_000_000, 0.0) == 1_000_000


@pytest.mark.parametrize("late", [0.0, 0.001, 0.005])
@pytest.mark.parametrize("rate", [1, 7, 50, 1_000, 100_000])
def test_a_rate_is_kept_though_nobody_wakes_up_on_time(rate: int, late: float) -> None:
    allowance = allowed({"max_rate_hz": rate})
    now, taken = 1_000.0, 0
    while now < 1_010.0:
        taken += allowance.take(1_000_000, now)
        now += (allowance.wait(now) or 0.0) + late
    assert 9.5 * rate <= taken <= 10.5 * rate + 1


def test_what_was_not_used_in_a_pause_is_not_made_up_for() -> None:
    allowance = allowed({"max_rate_hz": 100})
    allowance.take(1, 0.0)
    assert allowance.take(1_000, 500.0) <= 5
    assert allowed({"max_rate_hz": 100}, {"max_rate_hz": 0}).unlimited


# -- the worker that listens -------------------------------------------------------------------------------------------


class Worker:
    """A loop that asks before each step, on a thread, and a pipe to tell it things."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self._source = open(read, "rb")  # noqa: SIM115, PTH123 - of a descriptor, closed below
        self._pipe = open(write, "wb", buffering=0)  # noqa: SIM115, PTH123 - as above
        self.steps = 0
        self._listener = Listener(self._source)
        assert self._listener.listens
        self._ending = False
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._ending:
            self._listener.before_step()
            self.steps += 1

    def say(self, text: str) -> None:
        """Write a line to it."""
        self._pipe.write(text.encode() + b"\n")

    def tell(self, **event: Any) -> None:
        """Write it an order."""
        self.say(json.dumps({"type": "control", **event}))

    def held_at(self) -> int:
        """Wait until it makes no more steps; return how many it has made."""
        seen = [-1, -2]

        def same() -> bool:
            seen[:] = [self.steps, seen[0]]
            return seen[0] == seen[1]

        wait_for(same, "the worker is held")
        return self.steps

    def end(self) -> None:
        """End the thread and what it reads."""
        self._ending = True
        self._pipe.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        wait_for(lambda: not [t for t in threading.enumerate() if t.name == "reads control lines"], "its reader")
        self._source.close()


@pytest.fixture
def worker() -> Any:
    made = Worker()
    yield made
    made.end()


def test_a_worker_that_listens_pauses_steps_and_goes_on(worker: Worker) -> None:
    wait_for(lambda: worker.steps > 10, "steps")
    worker.tell(pause=True)
    at = worker.held_at()
    worker.tell(grant_steps=7)
    wait_for(lambda: worker.steps == at + 7, "seven steps")
    assert worker.held_at() == at + 7
    worker.tell(resume=True)
    wait_for(lambda: worker.steps > at + 100, "steps again")


def test_what_is_no_order_changes_nothing(worker: Worker) -> None:
    for line in ("nonsense", "[1]", '{"pause": true}', "\xff", ""):
        worker.say(line)
    worker.tell(max_rate_hz="fast")
    before = worker.steps
    wait_for(lambda: worker.steps > before + 1_000, "steps")


def test_a_paused_worker_goes_on_when_nobody_can_tell_it_to(worker: Worker) -> None:
    worker.tell(pause=True)
    at = worker.held_at()
    worker._pipe.close()
    wait_for(lambda: worker.steps > at, "steps")


def test_without_a_proxy_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LTW_CONTROL", raising=False)
    listener = Listener.from_environment()
    assert not listener.listens
    listener.before_step()
    assert not Listener(None).listens
    assert Listener(io.BytesIO()).listens


# -- the brake for one that does not -----------------------------------------------------------------------------------


async def test_the_brake_lets_pass_what_is_allowed() -> None:
    brake = Brake()
    assert brake.open
    assert await brake.take(1_000) == 1_000
    brake.order({"grant_steps": 3})
    assert [await brake.take(2), await brake.take(2)] == [2, 1]
    waiting = asyncio.ensure_future(brake.take(5))
    await asyncio.sleep(0)
    assert not waiting.done()
    brake.order({"grant_steps": 4})
    assert await waiting == 4
    waiting = asyncio.ensure_future(brake.take(5))
    await asyncio.sleep(0)
    brake.order({"resume": True})
    assert await waiting == 5


async def test_a_brake_that_is_lifted_stays_so() -> None:
    brake = Brake()
    brake.order({"pause": True})
    waiting = asyncio.ensure_future(brake.take(5))
    await asyncio.sleep(0)
    brake.lift()
    brake.order({"pause": True})
    assert await waiting == 5
    assert brake.open


async def test_a_worker_that_begins_to_listen_is_told_where_the_brake_stands() -> None:
    brake = Brake()
    assert brake.orders() == []
    for order in ({"pause": True}, {"grant_steps": 9}, {"max_rate_hz": 30}):
        brake.order(order)
    await brake.take(1)
    told = allowed(*brake.orders())
    assert (told.left, told.rate) == (8, 30)
    brake.clear()
    assert brake.open
    brake.order({"pause": True})
    assert not brake.open
