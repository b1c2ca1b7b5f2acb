"""The request channel: a comm for each page, which the page opens and on which the kernel only ever replies.

The widget's own comm is pushed to from our thread, and ipykernel hands what comes in on a comm to the subshell that last sent on it:
the main one, which a busy cell keeps. This comm is never sent to except from within the handler of a question, so it stays with the
subshell that the front end made for it (JupyterLab 4.4 and later with ipykernel 7), and questions are answered while a cell is busy.
Where there are no subshells they wait for the cell; where a front end cannot open such a comm, the page asks over the widget's.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

import comm

from live_telemetry_widget.view import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Heard = Callable[[str, dict[str, Any]], tuple[object, Sequence[bytes]] | None]

_LOG: Final = logging.getLogger(__name__)

#: What a page opens; the front end makes one subshell for all comms of a target.
TARGET: Final = "live_telemetry_widget.questions"
#: More pages than that never look at one view; what is left of pages that went without a word is closed, oldest first.
_MOST_PAGES: Final = 16


class _Comm(Protocol):
    comm_id: str
    handle_msg: Callable[[dict[str, Any]], None]

    def send(self, data: object = None, metadata: object = None, buffers: object = None) -> None: ...
    def close(self) -> None: ...
    def on_close(self, callback: Callable[[object], None] | None) -> None: ...


class _Switchboard:
    """Connects what pages open with the channels of the view they name; it is known to the comm manager alone."""

    def __init__(self) -> None:
        self.channels: weakref.WeakValueDictionary[str, Channels] = weakref.WeakValueDictionary()

    def __call__(self, opened: _Comm, message: dict[str, Any]) -> None:
        data = message["content"].get("data")
        view_id = data.get("view_id") if isinstance(data, dict) else None
        channels = self.channels.get(view_id) if isinstance(view_id, str) else None
        if channels is None:
            _LOG.debug("a page asked for a view that is not there: %.100r", view_id)
            opened.close()
        else:
            channels.add(opened)


class Channels:
    """The request channels of one view.

    Parameters
    ----------
    view_id
        What the page names the view by.
    heard
        Called with the page's name and each message of a page, on the thread of its subshell; what it returns is sent back.
    """

    def __init__(self, view_id: str, heard: Heard) -> None:
        self._view_id = view_id
        self._heard = heard
        self._comms: dict[str, tuple[float, _Comm]] = {}
        self._lock = threading.Lock()
        self._closed = False
        manager: Any = comm.get_comm_manager()
        board = manager.targets.get(TARGET)
        if board is None:
            manager.register_target(TARGET, board := _Switchboard())
        self._board = board
        board.channels[view_id] = self

    def __len__(self) -> int:
        return len(self._comms)

    def add(self, opened: _Comm) -> None:
        """Take in the comm of a page, and say hello to it."""
        name = opened.comm_id
        with self._lock:
            closed = self._closed
            if not closed:
                self._comms[name] = (time.monotonic(), opened)
            oldest = sorted(self._comms.items(), key=lambda item: item[1][0])[: max(0, len(self._comms) - _MOST_PAGES)]
            for key, _ in oldest:
                del self._comms[key]
        for _, (_, silent) in oldest:
            _shut(silent)
        if closed:
            _shut(opened)
            return
        # Not on_msg, whose messages count as executions: IPython's hooks would show the half-made figure of the cell that is running.
        opened.handle_msg = lambda message: self._take(opened, message)
        opened.on_close(lambda _: self._forget(name))
        self._reply(opened, {"kind": "hello", "version": messages.VERSION})
        self._heard(name, {"kind": "ready"})

    def close(self) -> None:
        """Close every comm; pages that are still there go on over the widget's, if that is."""
        with self._lock:
            self._closed = True
            held, self._comms = [opened for _, opened in self._comms.values()], {}
        self._board.channels.pop(self._view_id, None)
        for opened in held:
            _shut(opened)

    def _take(self, opened: _Comm, message: dict[str, Any]) -> None:
        content = message["content"].get("data")
        with self._lock:
            if opened.comm_id in self._comms:
                self._comms[opened.comm_id] = (time.monotonic(), opened)
        if not (isinstance(content, dict) and isinstance(content.get("kind"), str)):
            _LOG.warning("ignored a message from the page that has no kind: %.200r", content)
            return
        answer = self._heard(opened.comm_id, content)
        if answer is not None:
            self._reply(opened, *answer)

    def _reply(self, opened: _Comm, content: object, buffers: Sequence[bytes] = ()) -> None:
        if not self._closed:
            opened.send(content, buffers=list(buffers))

    def _forget(self, name: str) -> None:
        with self._lock:
            self._comms.pop(name, None)


def _shut(opened: _Comm) -> None:
    opened.on_close(None)
    opened.close()
