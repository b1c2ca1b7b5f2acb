"""What a proxy does with its worker's output: events go to the daemon, every other line to our own standard output."""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from live_telemetry_widget import normalize
from live_telemetry_widget._further import cut
from live_telemetry_widget.schema import Problem
from live_telemetry_widget.worker.batches import BatchPublisher
from live_telemetry_widget.worker.brake import Brake
from live_telemetry_widget.worker.lines import LineCutter
from live_telemetry_widget.worker.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from live_telemetry_widget.worker.lines import Line
    from live_telemetry_widget.worker.registration import Registration

_LOG: Final = logging.getLogger(__name__)

_READ: Final = 256 * 1024
#: A batch of one event costs as much as one of fifty, so little output is left to gather so long (seconds).
_LITTLE: Final = 32 * 1024
_GATHER: Final = 0.015
#: Of what a worker says of itself (characters): readers ask for it with every description of the run.
_MOST_CONFIG: Final = 100_000


class Outlet:
    """Sorts a worker's lines: events to the publishers, the rest to our standard output.

    Attributes
    ----------
    problems : collections.Counter
        By kind.
    completed : dict
        The worker's run_completed event; empty before it.
    abandoned : asyncio.Event
    brake : Brake
        Holds the steps, and so the worker.
    listens : bool
        Whether the worker has said that it reads control lines.
    """

    def __init__(self, registration: Registration, agent_id: str, worker_id: str, stdout: BinaryIO) -> None:
        self._names = {"run_id": registration.run_id, "agent_id": agent_id, "worker_id": worker_id}
        self._stdout: Output | None = Output(stdout)
        self._cutter = LineCutter()
        self.delivery = BatchPublisher(registration)
        self.problems: collections.Counter[str] = collections.Counter()
        self.samples: dict[str, str] = {}
        self.completed: dict[str, Any] = {}
        self.abandoned = asyncio.Event()
        self.brake = Brake()
        self.listens = False
        #: Called when the worker says that it listens.
        self.on_listening: Callable[[], None] = lambda: None
        #: What the worker has said of itself; and called when it does.
        self.config: dict[str, Any] = {}
        self.on_config: Callable[[dict[str, Any]], None] = lambda _: None

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Take a worker's output to its end."""
        while data := await stream.read(_READ):
            await self._take(self._cutter.feed(data))
            if len(data) < _LITTLE:
                await asyncio.sleep(_GATHER)
        rest = self._cutter.rest()
        if rest.data:
            # An event if it is whole, cut by a crash otherwise.
            await self._take([rest], otherwise="torn_line")
        if self._cutter.too_long:
            self.problems["line_too_long"] += self._cutter.too_long

    async def close(self) -> None:
        """Wait until all is delivered or abandoned."""
        await self.delivery.close()

    def abandon(self) -> None:
        """Give up what is not delivered."""
        self.delivery.abandon()
        self.brake.lift()
        self.abandoned.set()

    async def _take(self, lines: Iterable[Line], otherwise: str = "not_an_event") -> None:
        events: list[dict[str, Any]] = []
        others: list[bytes] = []
        for line in lines:
            event = normalize.parse_line(line.data) if line.whole else None
            if event is None:
                others.append(line.data)
                if line.whole and line.data.lstrip().startswith(b"{"):
                    detail = f"a line that begins as an event does and is none: {cut(line.data)!r}"
                    self._count([Problem(otherwise, detail)])
            elif event["type"] in {"step", "episode"}:
                events.append(event)
            else:
                _LOG.info("%s: %s", event["type"], line.data.decode(errors="replace").strip())
                self._note(event)
        if others:
            await self._pass_on(others)
        while events:
            count = len(events) if self.brake.open else await self._released(events)
            await self._publish(events[:count])
            events = events[count:]

    def _note(self, event: dict[str, Any]) -> None:
        if event["type"] == "run_completed":
            self.completed = event
        elif event["type"] == "run_started":
            config = event.get("config")
            if isinstance(config, dict) and config and not self.config:
                self._learn(config)
            if event.get("control") is True:
                self.listens = True
                self.on_listening()

    def _learn(self, config: dict[str, Any]) -> None:
        try:
            size = len(json.dumps(config))
        except RecursionError:
            size = sys.maxsize
        if size > _MOST_CONFIG:
            detail = f"the config in run_started is longer than {_MOST_CONFIG} characters, or nested too deeply: it is not kept"
            self._count([Problem("config_too_long", detail)])
        else:
            self.config = config
            self.on_config(config)

    async def _released(self, events: list[dict[str, Any]]) -> int:
        """Wait for the brake; return how many events may go: as many steps as it lets pass, and what stands between them."""
        at = [index for index, event in enumerate(events) if event["type"] == "step"]
        if not at or at[0]:
            return at[0] if at else len(events)
        may = await self.brake.take(len(at))
        return at[may] if may < len(at) else len(events)

    async def _publish(self, events: Iterable[dict[str, Any]]) -> None:
        steps: list[dict[str, Any]] = []
        episodes: list[dict[str, Any]] = []
        now = time.time_ns()
        for event in events:
            # What a worker does not date is of the moment at which it was read.
            event.setdefault("ts_unix_ns", now)
            (steps if event["type"] == "step" else episodes).append(event)
        if steps:
            batch, problems = normalize.steps_from_events(steps, **self._names)
            self._count(problems)
            await self.delivery.put("steps", batch)
        if episodes:
            batch, problems = normalize.episodes_from_events(episodes, **self._names)
            self._count(problems)
            await self.delivery.put("episodes", batch)

    async def _pass_on(self, lines: list[bytes]) -> None:
        """Write what is no event to our own output; while nobody reads that, the worker waits, and nothing else does."""
        if self._stdout is None:
            return
        try:
            await self._stdout.write(lines)
        except (OSError, ValueError) as error:
            # Whoever read our output has gone (`| head`). That must not cost the run its telemetry.
            _LOG.info("standard output is closed: %s", error)
            self.problems["output_closed"] += 1
            self._stdout = None

    def _count(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.problems[problem.kind] += problem.count
            self.samples.setdefault(problem.kind, problem.detail)
            _LOG.debug("%s: %s", problem.kind, problem.detail)
