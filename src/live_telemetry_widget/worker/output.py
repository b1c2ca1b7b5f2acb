"""Writes to a stream that may block for ever (a pager left open), from a thread of its own."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Sequence


class Output:
    """A stream and the thread that writes to it; the thread is a daemon, so a write that never ends does not keep the process.

    Parameters
    ----------
    stream
        Where it all goes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._jobs: queue.SimpleQueue[tuple[Sequence[bytes], asyncio.Future[None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def write(self, lines: Sequence[bytes]) -> None:
        """Write some lines and wait until the stream has them; the loop goes on meanwhile.

        Raises
        ------
        OSError, ValueError
            As the stream does: nobody reads it any more, or it is closed.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="standard output", daemon=True)
            self._thread.start()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((lines, done))
        await done

    def _run(self) -> None:
        while True:
            lines, done = self._jobs.get()
            error: Exception | None = None
            try:
                self._stream.writelines(lines)
                self._stream.flush()
            except Exception as caught:  # noqa: BLE001 - handed to whoever waits
                error = caught
            try:
                done.get_loop().call_soon_threadsafe(_settle, done, error)
            except RuntimeError:
                return  # the loop has ended: nobody waits any more


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return  # whoever waited was cancelled
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
