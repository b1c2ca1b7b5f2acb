"""What comes from outside to a worker that a proxy runs: signals, people's orders, its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Any

from live_telemetry_widget import _names

if TYPE_CHECKING:
    from live_telemetry_widget.worker.outlet import Outlet
    from live_telemetry_widget.worker.process import WorkerProcess


class Steering:
    """What comes from outside to a running worker: signals, orders, its end."""

    def __init__(self, worker: WorkerProcess, outlet: Outlet, grace: float) -> None:
        self.interrupted = False
        self._worker = worker
        self._outlet = outlet
        self._grace = grace
        self._ending: asyncio.Task[None] | None = None
        outlet.on_listening = self._hand_over

    def signal(self, number: int) -> None:
        """Hand a signal on to the worker, or, when it has ended, stop waiting for the daemon."""
        if number == signal.SIGTERM and _names.MARK in os.environ:
            # A daemon has started us, and this is how it says that the run is over. It waits for what is left.
            self.cancel()
            return
        if self._worker.exited.is_set():
            self._outlet.abandon()
            return
        self._let_end()
        self._worker.send(number)

    def cancel(self) -> None:
        """End the worker, by force if it must be."""
        if self._ending is None and not self._worker.exited.is_set():
            self._let_end()
            self._ending = asyncio.create_task(self._worker.end_group(self._grace), name="end the worker")

    def _let_end(self) -> None:
        self.interrupted = True
        # A worker that is held cannot say its last words.
        self._outlet.brake.lift()

    async def ended(self) -> None:
        """Wait until all of a cancelled worker's processes are gone."""
        if self._ending is not None:
            await self._ending

    def order(self, event: dict[str, Any]) -> None:
        """Hand an order to the worker if it listens; else brake its output."""
        if not (self._outlet.listens and self._tell(event)):
            self._outlet.brake.order(event)

    def _tell(self, event: dict[str, Any]) -> bool:
        line = json.dumps({"type": "control", **event}, separators=(",", ":"))
        return self._worker.say(f"{line}\n".encode())

    def _hand_over(self) -> None:
        """Let the worker, which has just said that it listens, heed what the brake has heeded for it."""
        if all(self._tell(event) for event in self._outlet.brake.orders()):
            self._outlet.brake.clear()
