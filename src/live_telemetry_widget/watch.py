"""A view per run and agent, as they appear: what ``client.watch()`` shows.

Runs are heard of from the daemon, agents from the steps; whatever came before a view existed is in it, because a view reads the
frames and the frames have everything.
"""

from __future__ import annotations

import fnmatch
import logging
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Self

import ipywidgets

from live_telemetry_widget.errors import TelemetryError
from live_telemetry_widget.schema import RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from live_telemetry_widget.client import RunInfo
    from live_telemetry_widget.live import LiveView
    from live_telemetry_widget.run import Run
    from live_telemetry_widget.session import Client
    from live_telemetry_widget.view.widget import LiveTelemetryWidget

_LOG: Final = logging.getLogger(__name__)

#: Runs are looked at so often (seconds) for what nobody announces; what is announced is looked at once.
_LOOK_EVERY: Final = 1.0
_TITLE: Final = 60


def _states(status: object) -> frozenset[str]:
    """Return states as they were asked for; raises ValueError with those that there are."""
    asked = (status,) if isinstance(status, str) or not isinstance(status, Iterable) else tuple(status)
    known = [state.value for state in RunState]
    wrong = [state for state in asked if state not in known]
    if wrong or not asked:
        msg = f"status is {status!r}; give one or some of {', '.join(map(repr, known))}"
        raise ValueError(msg)
    return frozenset(asked)


class LiveTelemetryController:
    """Shows a tab per run and agent; made by ``client.watch()``.

    Parameters
    ----------
    client
        Whose runs.
    status, name, close_done, most
        As in ``client.watch()``.
    """

    def __init__(
        self, client: Client, *, status: str | Iterable[str] | None, name: str | None, close_done: bool, most: int
    ) -> None:
        if most < 1:
            msg = f"most is {most}; give the number of views to show at a time, from 1"
            raise ValueError(msg)
        self._client = client
        self._states = None if status is None else _states(status)
        if name is not None and not isinstance(name, str):
            msg = f"name is {name!r}; give a text, like 'lake-*'"
            raise TypeError(msg)
        self._name = name
        self._close_done = close_done
        self._most = most
        self._lock = threading.RLock()
        self._infos: dict[str, RunInfo] = {}
        self._names: dict[str, str] = {}
        self._runs: dict[str, Run] = {}
        self._stops: dict[str, Callable[[], None]] = {}
        self._shown: dict[tuple[str, str], LiveView] = {}
        self._dismissed: set[tuple[str, str]] = set()
        self._left_out = 0
        self._closed = False
        self._wake = threading.Event()
        self.tabs = ipywidgets.Tab()
        self.note = ipywidgets.Label()
        self.widget = ipywidgets.VBox([self.note, self.tabs])
        self._tell()
        # The thread and the hub hold this object weakly, so that it can be garbage.
        me = weakref.ref(self)
        self._stop_listening = client.hub.listen_runs(lambda info: _heard(me, info))
        self._thread = threading.Thread(target=_main, args=(me, self._wake), name="live-telemetry-watch", daemon=True)
        self._thread.start()

    # -- what is shown -----------------------------------------------------------------------------------------------

    @property
    def runs(self) -> list[str]:
        """The ids of the runs that are shown or waited for."""
        with self._lock:
            return list(self._runs)

    @property
    def views(self) -> dict[tuple[str, str], LiveTelemetryWidget]:
        """The views by (run id, agent id), in order of appearance."""
        with self._lock:
            return {key: view.widget for key, view in self._shown.items()}

    def close_done(self) -> None:
        """Close the views of the runs that have ended and are all here."""
        with self._lock:
            for run_id, run in list(self._runs.items()):
                if run.finished:
                    self._drop(run_id)
            self._arrange()

    def close(self) -> None:
        """Close every view and follow nothing any more. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._stop_listening()
            for run_id in list(self._runs):
                self._drop(run_id)
            self._arrange()
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(2.0)
        for widget in (self.widget, self.tabs, self.note):
            widget.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repr_mimebundle_(self, **arguments: Any) -> Any:  # noqa: ANN401 - whatever the widget returns
        return self.widget._repr_mimebundle_(**arguments)

    def __repr__(self) -> str:
        return (
            f"<LiveTelemetryController of {self._client.address}: {len(self._shown)} views of {len(self._runs)} runs>"
        )

    # -- what comes --------------------------------------------------------------------------------------------------

    def hear(self, info: RunInfo) -> None:
        """Note what the daemon says of a run; called on the hub's thread."""
        self._infos[info.run_id] = info
        self._wake.set()

    def look(self) -> None:
        """Follow the runs that are wanted, and show their agents."""
        # Outside the lock, because the daemon may have to be asked for a name.
        wanted = [
            info.run_id for info in list(self._infos.values()) if info.run_id not in self._runs and self._wants(info)
        ]
        with self._lock:
            if self._closed:
                return
            for run_id in wanted:
                self._take(run_id)
            changed = False
            for run_id, run in list(self._runs.items()):
                if self._close_done and run.finished:
                    self._drop(run_id)
                    del self._infos[run_id]
                    changed = True
                    continue
                for agent in run.agents:
                    changed |= self._show(run, agent)
            if changed:
                self._arrange()

    def _wants(self, info: RunInfo) -> bool:
        if self._states is None:
            return not info.state.ended and self._named(info.run_id)
        return info.state.value in self._states and self._named(info.run_id)

    def _named(self, run_id: str) -> bool:
        if self._name is None or fnmatch.fnmatchcase(run_id, self._name):
            return True
        if run_id not in self._names:
            try:
                self._names[run_id] = self._client.name_of(run_id)
            except TelemetryError as error:
                _LOG.info("the name of run %s is not known: %s; asking again", run_id, error)
                return False
        return fnmatch.fnmatchcase(self._names[run_id], self._name)

    def _take(self, run_id: str) -> None:
        run = self._runs[run_id] = self._client.run(run_id)
        wake = self._wake
        seen = [0]

        def on_change() -> None:
            # A new agent or the end is news here; rows are the views' business.
            count = len(run_ref.agents) if (run_ref := me()) is not None else 0
            if count != seen[0] or (run_ref is not None and run_ref.finished):
                seen[0] = count
                wake.set()

        me = weakref.ref(run)
        self._stops[run_id] = run.listen(on_change)

    def _show(self, run: Run, agent: str) -> bool:
        key = (run.run_id, agent)
        if key in self._shown or key in self._dismissed:
            return False
        if len(self._shown) >= self._most:
            self._left_out += 1
            self._dismissed.add(key)
        else:
            self._shown[key] = run.open_view(agent)
        return True

    def _drop(self, run_id: str) -> None:
        self._stops.pop(run_id)()
        del self._runs[run_id]
        for key in [key for key in self._shown if key[0] == run_id]:
            self._shown.pop(key).close()

    def _arrange(self) -> None:
        """Bring the page to what is shown, keeping the tab that a person looks at."""
        children = [view.widget for view in self._shown.values()]
        index = self.tabs.selected_index
        looked_at = self.tabs.children[index] if index is not None and index < len(self.tabs.children) else None
        self.tabs.children = children
        self.tabs.titles = [self._title(*key) for key in self._shown]
        if children:
            self.tabs.selected_index = children.index(looked_at) if looked_at in children else 0
        self._tell()

    def _title(self, run_id: str, agent: str) -> str:
        run = self._runs[run_id]
        title = f"{run.name or run_id} · {agent}" if agent else run.name or run_id
        return title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"

    def _tell(self) -> None:
        shown = f"{len(self._shown)} views of {len(self._runs)} runs at {self._client.address}"
        if not self._shown:
            shown = f"waiting for the first step of a run at {self._client.address}"
        self.note.value = shown + (f"; {self._left_out} more agents are not shown" if self._left_out else "")


def _heard(me: weakref.ref[LiveTelemetryController], info: RunInfo) -> None:
    held = me()
    if held is not None:
        held.hear(info)


def _main(me: weakref.ref[LiveTelemetryController], wake: threading.Event) -> None:
    while True:
        wake.wait(_LOOK_EVERY)
        wake.clear()
        held = me()
        if held is None or held._closed:  # noqa: SLF001 - its own thread
            return
        try:
            held.look()
        except Exception:  # noqa: BLE001 - logged; the next look tries again
            _LOG.exception("looking for runs to show failed")
        del held
