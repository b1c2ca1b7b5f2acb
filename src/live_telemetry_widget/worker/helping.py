"""An emitter's helper: ``python -m live_telemetry_widget.worker.helping``, started by :mod:`~live_telemetry_widget.worker.helper`.

Its standard input brings what the training process says; its end is that process's end. Then what is here is spooled, and delivered if
the daemon is there. It answers on its standard output.
"""

from __future__ import annotations

import collections
import importlib.abc
import logging
import os
import pathlib
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget.worker.parcels import Unframed, dumps, frame, loads, read_some, write_all
from live_telemetry_widget.worker.portions import MAX_ROWS, PORTION
from live_telemetry_widget.worker.records import WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from live_telemetry_widget.worker.courier import Courier
    from live_telemetry_widget.worker.emitter import Options
    from live_telemetry_widget.worker.will import Will

#: Seconds between two reports that nobody has asked for.
_PACE: Final = 0.1
#: Seconds between two looks whether the training process lives, should somebody else hold its end of the pipe.
_LOOK: Final = 1.0
#: With more bytes of rows here nothing more is read, for so many seconds at a time.
_MOST: Final = 8 * 1024 * 1024
_LULL: Final = 0.005
#: Seconds in which what a dead process has left is delivered, when the daemon is there.
_GRACE: Final = 5.0
_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


class _Voice:
    """Says things to the training process, whole and one after the other."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self.mute = False

    def say(self, *message: Any) -> None:  # noqa: ANN401 - whatever a message holds
        """Say it; nothing when nobody is there any more."""
        data = frame(dumps(message))
        with self._lock:
            if not self.mute:
                try:
                    write_all(self._descriptor, data)
                except OSError:
                    self.mute = True


class _Log(logging.Handler):
    """Hands what is logged to the training process, whose log it is."""

    def __init__(self, voice: _Voice) -> None:
        super().__init__(logging.INFO)
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        self._voice.say("log", record.name, record.levelno, self.format(record))


class _Gate:
    """Stands for the training process's gate."""

    def __init__(self, voice: _Voice) -> None:
        self.off = ""
        self.turned_away = 0
        self.full = False
        self._voice = voice

    def order(self, event: Mapping[str, Any]) -> None:
        self._voice.say("order", dict(event))

    def cancel(self) -> None:
        self._voice.say("cancel")

    def fill(self, *, full: bool) -> None:
        if full != self.full:
            self.full = full
            self._voice.say("fill", full)

    def close(self, why: str) -> None:
        self.off = self.off or why
        self._voice.say("close", why)


class _Parcels:
    """What has come and is not taken yet; tells when it is kept."""

    def __init__(self, voice: _Voice, number: int) -> None:
        self._voice = voice
        self._waiting: collections.deque[tuple[list[Any], int]] = collections.deque()
        #: Of what waits, pickled.
        self.size = 0
        self._lock = threading.Lock()
        self._number = number
        self._taken = 0
        self._reported = 0.0
        self._said: Any = None
        self._answered = False

    @property
    def crowded(self) -> bool:
        """The training process sees to that: the pipe is full then."""
        return False

    def add(self, rows: list[Any], size: int) -> None:
        with self._lock:
            self._waiting.append((rows, size))
            self.size += size

    def portions(self) -> Iterator[tuple[list[Any], bool]]:
        """Yield the rows of the parcels that are here now: of several at a time, as long as they are small."""
        with self._lock:
            left = len(self._waiting)
        while True:
            parcels = self._next(left)
            self._taken = len(parcels)
            left -= len(parcels)
            yield parcels[0] if len(parcels) == 1 else [value for rows in parcels for value in rows], not left
            if not left:
                return

    def _next(self, most: int) -> list[list[Any]]:
        parcels: list[list[Any]] = []
        values = weight = 0
        with self._lock:
            while len(parcels) < most:
                rows, size = self._waiting[0]
                if parcels and (values + len(rows) > MAX_ROWS * WIDTH or weight + size > PORTION):
                    break
                self._waiting.popleft()
                parcels.append(rows)
                values += len(rows)
                weight += size
            self.size -= weight
        return parcels

    def kept(self, make: Callable[[], tuple[Will, bool]]) -> None:
        """Say that what was taken is spooled. Before any of it is sent: what is not said to be kept is handed over again."""
        self._number += self._taken
        self._taken = 0
        will, whole = make()
        will.parcel = self._number
        self._voice.say("kept", self._number, whole, dumps(will))

    def report(self, courier: Courier, *, now: bool = False) -> None:
        """Say what is new of the rest, if there is something and it is time for it."""
        if not self._answered and courier.answered.is_set():
            self._answered = True
            self._voice.say("answered", courier.run_id, str(courier.refusal or ""))
            now = True
        if now or time.monotonic() - self._reported > _PACE:
            stats = courier.stats()
            if stats != self._said:
                self._said = stats
                self._voice.say("stats", stats)
                self._reported = time.monotonic()


class _Flush:
    """Told that all is confirmed; stands for the event that a thread would wait for."""

    def __init__(self, voice: _Voice, parcels: _Parcels, courier: Courier, number: int) -> None:
        self._what = voice, parcels, courier, number
        self._done = False

    def is_set(self) -> bool:
        return self._done

    def set(self) -> None:
        voice, parcels, courier, number = self._what
        if not self._done:
            self._done = True
            parcels.report(courier, now=True)
            voice.say("flushed", number)


class _Without(importlib.abc.MetaPathFinder):
    """Says of a package that it is not installed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002 - as the import system calls it
        if fullname == self._name:
            msg = f"{fullname} is not loaded in an emitter's helper"
            raise ModuleNotFoundError(msg, name=fullname)


def _messages(descriptor: int, cutter: Unframed, parent: int) -> Iterator[tuple[int, Any]]:
    """Yield what the training process says, with its size, until it has closed the pipe or is dead and the pipe is empty."""
    os.set_blocking(descriptor, False)
    dead = False
    while True:
        ready, _, _ = select.select([descriptor], [], [], 0 if dead else _LOOK)
        if not ready:
            if dead:
                return
            dead = os.getppid() != parent
            continue
        data = read_some(descriptor)
        if data == b"":
            return
        for part in cutter.feed(data or b""):
            yield len(part), loads(part)


def main() -> None:
    """Serve one training process."""
    for name in _SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    voice = _Voice(os.dup(1))
    # What a library prints is no message.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    # Arrow would load it with its first array, which costs more than all else here.
    sys.meta_path.insert(0, _Without("pandas"))
    messages = _messages(0, Unframed(), os.getppid())
    _, (options, config, parent, will) = next(messages)
    code = 1
    logging.getLogger(__package__.partition(".")[0]).addHandler(_Log(voice))
    try:
        _serve(messages, voice, options, config, will)
        code = 0
    except BaseException:
        logging.getLogger(__name__).exception("the helper of process %d has failed", parent)
        raise
    finally:
        # gRPC's threads need no farewell, and the training process may be waiting for our end.
        os._exit(code)


def _serve(
    messages: Iterator[tuple[int, Any]], voice: _Voice, options: Options, config: dict[str, Any], will: Will
) -> None:
    from live_telemetry_widget.worker.courier import Courier  # noqa: PLC0415 - behind what keeps pandas out

    gate, parcels = _Gate(voice), _Parcels(voice, will.parcel)
    options.described = config
    options.spool_dir = None if options.spool_dir is None else pathlib.Path(options.spool_dir)
    courier = Courier(options, parcels, gate, will=will)
    courier.start()
    voice.say("born")
    ending = False
    for size, message in messages:
        if isinstance(message, list):
            parcels.add(message, size)
            courier.wake()
            # What is not read stays in the pipe, and the training thread waits. Behind a full spool it waits already.
            while parcels.size > _MOST and not gate.full and courier.alive:
                time.sleep(_LULL)
        elif message[0] == "flush":
            courier.ask(_Flush(voice, parcels, courier, message[1]))
        else:
            _, outcome, reason, timeout, gate.turned_away, off = message
            gate.off = gate.off or off
            courier.end(outcome, reason, timeout)
            ending = True
            break
    if not ending:
        # The training process is dead. How its run ended is for the daemon to find out, as for any other.
        options.owner = False
        there = courier.connected or options.spool_dir is None
        courier.end("", "", _GRACE if there else 0.0)
    while courier.alive:
        courier.join(_LOOK)
    parcels.report(courier, now=True)
    voice.say("ended", courier.delivered)


if __name__ == "__main__":
    main()
