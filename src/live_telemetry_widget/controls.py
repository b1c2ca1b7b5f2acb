"""What a person may ask of a run's worker from its view: to pause, to go on, to end.

A question of the page must not wait for a daemon that may be away, so what is asked here is under way when the call returns; how it went is
in :attr:`Controls.state`, and the run's feed says when that changes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

from live_telemetry_widget.errors import ClosedError, TelemetryError
from live_telemetry_widget.schema import RunState

if TYPE_CHECKING:
    import concurrent.futures

    from live_telemetry_widget.client import TrainerClient
    from live_telemetry_widget.feed import RunFeed
    from live_telemetry_widget.hub import TelemetryAsyncHub

_LOG: Final = logging.getLogger(__name__)

Action = Literal["pause", "resume", "cancel"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)


class ControlState(NamedTuple):
    """What can be asked, and what became of what was.

    Attributes
    ----------
    offered
        Actions that make sense now.
    asked
        The action whose answer is awaited; empty when none is.
    trouble
        Why the last one failed; empty when it did not.
    """

    offered: tuple[Action, ...]
    asked: str
    trouble: str


class Controls:
    """The controls of one run.

    Parameters
    ----------
    hub
        Of the daemon that the run is at.
    feed
        The run.
    """

    def __init__(self, hub: TelemetryAsyncHub, feed: RunFeed) -> None:
        self._hub = hub
        self._feed = feed
        self._asked = ""
        self._trouble = ""

    @property
    def state(self) -> ControlState:
        """What can be asked now."""
        return ControlState(self._offered(), self._asked, self._trouble)

    def _offered(self) -> tuple[Action, ...]:
        feed = self._feed
        if feed.link.state != "live" or feed.info is None or feed.state.ended:
            return ()
        # Another's daemon ends runs, and relays nothing else to their workers.
        if feed.details is None:
            return ("cancel",)
        return ("resume" if feed.state is RunState.PAUSED else "pause", "cancel")

    def ask(self, action: str) -> None:
        """Ask for an action; it is under way when this returns.

        Raises
        ------
        ClosedError
            It cannot be asked for now; the message says why.
        """
        state = self.state
        if action not in state.offered or state.asked:
            why = f"{state.asked} is under way" if state.asked else f"it is {self._feed.state.value}"
            msg = f"run {self._feed.run_id!r} cannot be asked to {action} now: {why}"
            raise ClosedError(msg)
        self._asked, self._trouble = action, ""
        self._feed.touch()
        self._hub.ask_soon(lambda client: self._send(client, action)).add_done_callback(self._answered)

    async def _send(self, client: TrainerClient, action: str) -> None:
        if action == "cancel":
            await client.cancel_run(self._feed.run_id)
        else:
            await client.control(self._feed.run_id, **{action: True})

    def _answered(self, future: concurrent.futures.Future[Any]) -> None:
        action, self._asked = self._asked, ""
        if not future.cancelled() and (error := future.exception()) is not None:
            self._trouble = str(error)
            if not isinstance(error, TelemetryError):
                _LOG.error("run %s: %s failed", self._feed.run_id, action, exc_info=error)
        self._feed.touch()
