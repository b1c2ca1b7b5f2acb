"""Where runs come from: a daemon (:func:`connect`) or a recording (:func:`open_recording`)."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Final, Self

import pandas as pd

from live_telemetry_widget.client import DEFAULT_ADDRESS, RunInfo, run_state
from live_telemetry_widget.errors import RunNotFoundError
from live_telemetry_widget.hub import TelemetryAsyncHub
from live_telemetry_widget.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterable

_COLUMNS: Final = ("run_id", "status", "reason", "created_at", "updated_at", "last_heartbeat")


def connect(address: str = DEFAULT_ADDRESS) -> Client:
    """Return a client of the trainer daemon at ``"host:port"``; it connects when it is first used.

    Raises
    ------
    ValueError
        `address` is not ``"host:port"``.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit()):
        msg = f"address is {address!r}; give it as 'host:port', like {DEFAULT_ADDRESS!r}"
        raise ValueError(msg)
    return Client(address)


class Client:
    """A trainer daemon as seen from a notebook; make it with :func:`connect`.

    Everything it follows is followed on one background thread, which ends with :meth:`close`, when the client is
    garbage, or with the process.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.hub = TelemetryAsyncHub(address)
        self._runs: dict[str, Run] = {}
        self._finalizer = weakref.finalize(self, self.hub.stop)

    def runs(self) -> pd.DataFrame:
        """Return the daemon's runs, newest first.

        Returns
        -------
        pandas.DataFrame
            ``run_id``, ``status``, ``reason``, and ``created_at, updated_at, last_heartbeat`` (datetime64[ns, UTC]).

        Raises
        ------
        ConnectError
            No daemon answers at the address.
        """
        return _runs_frame(self._infos())

    def _infos(self) -> list[RunInfo]:
        infos: list[RunInfo] = self.hub.ask(lambda client: client.list_runs())
        return infos

    def run(self, run_id: str) -> Run:
        """Return a run and begin to follow it, from its first step on; the same object for the same id."""
        held = self._runs.get(run_id)
        if held is None:
            held = self._runs[run_id] = Run(self.hub.subscribe_run(run_id))
        return held

    def latest(self) -> Run:
        """Return the run that was made last.

        Raises
        ------
        RunNotFoundError
            The daemon has none.
        ConnectError
            No daemon answers at the address.
        """
        return self.run(_latest(self._infos(), f"the daemon at {self.address}"))

    def close(self) -> None:
        """Close the views and stop following; the data of the runs stays."""
        for run in self._runs.values():
            run.close()
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.address}, following {len(self._runs)} runs>"


def _runs_frame(infos: Iterable[RunInfo]) -> pd.DataFrame:
    ordered = sorted(infos, key=lambda info: info.created_at or 0, reverse=True)
    rows = [
        (i.run_id, i.state.value, i.reason, *(_moment(t) for t in (i.created_at, i.updated_at, i.last_heartbeat)))
        for i in ordered
    ]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    times = {name: "datetime64[ns, UTC]" for name in _COLUMNS[3:]}
    return frame.astype(times)


def _moment(nanoseconds: int | None) -> pd.Timestamp | None:
    return None if nanoseconds is None else pd.Timestamp(nanoseconds, unit="ns", tz="UTC")


def _latest(infos: list[RunInfo], where: str) -> str:
    if not infos:
        msg = f"{where} has no runs yet; start one with: live-telemetry run --daemon ADDRESS -- COMMAND"
        raise RunNotFoundError(msg)
    return max(infos, key=lambda info: info.created_at or 0).run_id


__all__ = ["Client", "connect"]
_ = (contextlib, run_state)
