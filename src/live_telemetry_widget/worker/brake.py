"""Holds a worker that does not listen: what it prints is not taken, so that its pipe fills and it waits in its next print."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from live_telemetry_widget.worker.control import Allowance

if TYPE_CHECKING:
    from collections.abc import Mapping


class Brake:
    """Lets steps pass as far as they are allowed to. Lives on an event loop."""

    def __init__(self) -> None:
        self._allowance = Allowance()
        self._news = asyncio.Event()
        self._lifted = False

    @property
    def open(self) -> bool:
        """Whether all may pass."""
        return self._lifted or self._allowance.unlimited

    def order(self, event: Mapping[str, Any]) -> None:
        """Take an order."""
        self._allowance.order(event)
        self._news.set()

    def lift(self) -> None:
        """Let all pass from now on, whatever is ordered: the worker has ended, or is about to."""
        self._lifted = True
        self._news.set()

    def clear(self) -> None:
        """Let all pass until something else is ordered: the worker heeds orders itself."""
        self._allowance = Allowance()
        self._news.set()

    async def take(self, wanted: int) -> int:
        """Wait until steps may pass; return how many of those `wanted`, at least one."""
        loop = asyncio.get_running_loop()
        while not self.open:
            may = self._allowance.take(wanted, loop.time())
            if may:
                return may
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._allowance.wait(loop.time())):
                    await self._news.wait()
        return wanted

    def orders(self) -> list[dict[str, Any]]:
        """Return what brings another to the same state: a worker that has just said that it listens."""
        orders: list[dict[str, Any]] = []
        if self._allowance.left is not None:
            orders.append({"pause": True})
            if self._allowance.left:
                orders.append({"grant_steps": self._allowance.left})
        if self._allowance.rate:
            orders.append({"max_rate_hz": self._allowance.rate})
        return orders
