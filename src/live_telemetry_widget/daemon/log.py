"""The durable log: commit first, then acknowledge and fan out.

Publishers hand batches in and are told of their commit; one thread commits all that waits, every few milliseconds. A subscriber
is no more than a number: it asks for what comes after it, and is given it from memory when it is recent, from the file
otherwise. However slow it is, nothing is dropped for it, and it costs no more than the chunk in its hands.
"""

from __future__ import annotations

import asyncio
import bisect
import collections
import concurrent.futures
import dataclasses
import itertools
import logging
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from live_telemetry_widget import _arrow, _chunks
from live_telemetry_widget.errors import ClosedError
from live_telemetry_widget.schema import CORE
from live_telemetry_widget.store import Chunk, Committed, Kind, Mark, OutOfOrderError, Pending, RunRow, Store

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOG: Final = logging.getLogger(__name__)

#: Seconds for which work gathers before a commit.
_LINGER: Final = 0.002
#: Publishers are held back while more than so many bytes wait for their commit.
_MAX_PENDING: Final = 64 * 1024 * 1024
#: So many bytes of what was committed last stay in memory, for the subscribers that keep up.
_MAX_RECENT: Final = 64 * 1024 * 1024
_READERS: Final = 4
#: A reader that is behind by so many commits is given them joined: a message costs it some hundred times what a row does.
_BEHIND: Final = 8
#: So many are joined at most, while they have fewer rows than this.
_JOIN: Final = 256
_JOIN_ROWS: Final = 4_096
#: Batches of fewer rows are joined when they are committed together.
_LARGE: Final = 4_096

_Key = tuple[str, Kind]


@dataclasses.dataclass(slots=True, eq=False)
class Chain:
    """Rows of which none is to be committed when one before it was not, or what is sent again would be out of order."""

    error: Exception | None = None


@dataclasses.dataclass(slots=True, eq=False)
class _Work:
    """Something to be committed, and who waits for it."""

    done: asyncio.Future[None]
    chain: Chain = dataclasses.field(default_factory=Chain)
    rows: Pending | None = None
    run: RunRow | None = None
    nbytes: int = 0


class _Recent:
    """The batches that were committed last, over all runs, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[_Key, list[Committed]] = {}
        self._order: collections.deque[_Key] = collections.deque()
        self.nbytes = 0

    def add(self, committed: Committed) -> None:
        key = (committed.run_id, committed.kind)
        self._held.setdefault(key, []).append(committed)
        self._order.append(key)
        self.nbytes += _weight(committed)
        while self.nbytes > self._limit:
            oldest = self._order.popleft()
            # A run has a few thousand of these at most, so taking from the front is cheap.
            self.nbytes -= _weight(self._held[oldest].pop(0))
            if not self._held[oldest]:
                del self._held[oldest]

    def after(self, key: _Key, since_seq: int) -> list[Committed]:
        """Return what was committed with the next row after `since_seq` and behind it, :data:`_JOIN` at most; nothing when it is not here."""
        held = self._held.get(key)
        if not held or held[0].first_seq > since_seq + 1:
            return []
        at = bisect.bisect_right(held, since_seq, key=lambda committed: committed.last_seq)
        return held[at : at + _JOIN]


def _many(found: Sequence[Committed]) -> list[pa.RecordBatch]:
    """Return the first batches while they are small, when there are many; otherwise none."""
    sizes = itertools.accumulate(committed.batch.num_rows for committed in found)
    small = [committed.batch for committed, rows in zip(found, sizes, strict=True) if rows <= _JOIN_ROWS]
    return small if len(small) > _BEHIND else []


def _joined(key: _Key, first_seq: int, found: list[pa.RecordBatch]) -> Chunk:
    batch = _arrow.combine(CORE[key[1]], found)
    return Chunk(key[0], first_seq, batch.num_rows, _chunks.encode(batch, merged=False))


def _weight(committed: Committed) -> int:
    return _arrow.weight(committed.batch) + sum(len(chunk.data) for chunk in committed.chunks)


def _gathered(pending: Sequence[Pending]) -> list[Pending]:
    """Return small batches of a run and kind as one, in order; large ones are left alone, because joining them is copying."""
    found: list[Pending] = []
    last: dict[_Key, tuple[list[pa.RecordBatch], list[Mark]]] = {}
    for item in pending:
        key = (item.run_id, item.kind)
        held = last.get(key)
        rows = sum(batch.num_rows for batch in item.batches)
        if rows >= _LARGE:
            found.append(item)
            last.pop(key, None)
            continue
        if held is None or sum(batch.num_rows for batch in held[0]) >= _LARGE:
            held = last[key] = ([], [])
            found.append(Pending(*key, *held))
        held[0].extend(item.batches)
        held[1].extend(item.marks)
    return found


class DurableLog:
    """A store with one writing thread, a few reading ones, and subscribers. Lives on one event loop.

    Parameters
    ----------
    store
        Open for writing; closed by :meth:`close`.
    max_pending, max_recent
        Bounds in bytes on what waits for a commit and on what is held for subscribers.
    """

    def __init__(self, store: Store, *, max_pending: int = _MAX_PENDING, max_recent: int = _MAX_RECENT) -> None:
        self.store = store
        self._loop = asyncio.get_running_loop()
        self._last = store.last_seqs()
        self._recent = _Recent(max_recent)
        self._max_pending = max_pending
        self._pending_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._ending = False
        #: Set when rows of that run come; held only by those that wait for it.
        self._grown: weakref.WeakValueDictionary[_Key, asyncio.Event] = weakref.WeakValueDictionary()
        self._readers = concurrent.futures.ThreadPoolExecutor(_READERS, "log-reader")
        self._queue: list[_Work] = []
        self._work = threading.Condition()
        self._closing = False
        self._failing = ""
        self._writer = threading.Thread(target=self._write, name="log-writer")
        self._writer.start()

    @property
    def trouble(self) -> str:
        """Why the last commit failed; empty when it did not."""
        return self._failing if self._writer.is_alive() else "the thread that commits has ended"

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(  # noqa: PLR0913 - rows, and what goes with them
        self,
        run_id: str,
        kind: Kind,
        batch: pa.RecordBatch,
        chain: Chain | None = None,
        mark: Mark | None = None,
        *,
        data: bytes | None = None,
    ) -> asyncio.Future[None]:
        """Queue rows, behind everything queued before; the future is done once they are committed.

        Parameters
        ----------
        run_id, kind, batch
            The rows.
        chain
            What they belong to: when one batch of it cannot be committed, those behind it are not either.
        mark
            Which of its messages their publisher will then have in the log.
        data
            The rows as bytes, to be stored as they are: see :class:`~live_telemetry_widget.store.Pending`.
        """
        rows = Pending(run_id, kind, [batch], [mark] if mark else [], data)
        work = _Work(self._loop.create_future(), chain or Chain(), rows, nbytes=_arrow.weight(batch))
        self._pending_bytes += work.nbytes
        if self._pending_bytes > self._max_pending:
            self._room.clear()
        return self._put(work)

    def put_run(self, run: RunRow) -> asyncio.Future[None]:
        """Queue a run's record likewise."""
        return self._put(_Work(self._loop.create_future(), run=run))

    def _put(self, work: _Work) -> asyncio.Future[None]:
        with self._work:
            if self._closing:
                work.done.set_exception(ClosedError("the log is closed"))
                return work.done
            self._queue.append(work)
            self._work.notify()
        return work.done

    async def room(self) -> None:
        """Wait until the queue is not too long; a publisher does so before it reads more."""
        if not self._room.is_set():
            await self._room.wait()

    def _write(self) -> None:
        """Commit, again and again; what the writing thread does."""
        while True:
            with self._work:
                while not self._queue and not self._closing:
                    self._work.wait()
                if not self._queue:
                    return
            if not self._closing:
                time.sleep(_LINGER)
            with self._work:
                taken, self._queue = self._queue, []
            self._commit(taken)
            try:
                # After the fan-out, and only until there is other work: a merge delays the next commit, never this one.
                while self.store.compact(limit=1) and not self._queue:
                    pass
            except (sqlite3.Error, pa.ArrowException) as error:
                _LOG.warning("chunks could not be merged, which can wait: %s", error)

    def _commit(self, taken: Sequence[_Work]) -> None:
        try:
            for work in taken:
                if work.chain.error is not None:
                    raise work.chain.error  # noqa: TRY301 - it fails as the one before it did
            pending = _gathered([work.rows for work in taken if work.rows is not None])
            committed = self.store.commit(pending, [work.run for work in taken if work.run is not None])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            if len(taken) > 1:
                # One publisher's trouble is not the others'.
                for work in taken:
                    self._commit([work])
                return
            taken[0].chain.error = error
            self._note(error)
            self._loop.call_soon_threadsafe(self._settle, taken, (), error)
        else:
            self._note(None)
            self._loop.call_soon_threadsafe(self._settle, taken, committed, None)

    def _note(self, error: Exception | None) -> None:
        """Say once that commits fail, and once that they do not any more."""
        if isinstance(error, OutOfOrderError):
            _LOG.info("a publisher is to send again: %s", error)
            return
        if error is not None and not self._failing:
            _LOG.error("commits fail, publishers are refused until they work again: %s", error)
        elif error is None and self._failing:
            _LOG.warning("commits work again")
        self._failing = str(error) if error is not None else ""

    def _settle(self, taken: Sequence[_Work], committed: Sequence[Committed], error: Exception | None) -> None:
        """Tell the publishers, then the subscribers; on the loop."""
        for work in taken:
            self._pending_bytes -= work.nbytes
            if work.done.done():
                continue
            if error is None:
                work.done.set_result(None)
            else:
                work.done.set_exception(error)
        if self._pending_bytes <= self._max_pending:
            self._room.set()
        for item in committed:
            key = (item.run_id, item.kind)
            self._last[key] = item.last_seq
            if not item.batch.num_rows:
                continue
            self._recent.add(item)
            event = self._grown.pop(key, None)
            if event is not None:
                event.set()

    # -- reading -----------------------------------------------------------------------------------------------------

    def last_seq(self, run_id: str, kind: Kind) -> int:
        """Return the number of the last committed row; 0 when there is none."""
        return self._last.get((run_id, kind), 0)

    async def after(self, run_id: str, kind: Kind, since_seq: int) -> pa.RecordBatch:
        """Return the next rows after `since_seq`, at least one; wait until there are some.

        Raises
        ------
        ClosedError
            The daemon is shutting down.
        """
        found = await self._next((run_id, kind), since_seq)
        if isinstance(found, Chunk):
            return await self._loop.run_in_executor(self._readers, found.after, since_seq)
        return found[0].batch.slice(max(0, since_seq + 1 - found[0].first_seq))

    async def chunk_after(self, run_id: str, kind: Kind, since_seq: int) -> Chunk:
        """Return a chunk that holds the next row after `since_seq`; wait until there is one.

        As it is stored; small ones that were committed lately come joined to a reader that is behind.

        Raises
        ------
        ClosedError
            The daemon is shutting down.
        """
        key = (run_id, kind)
        found = await self._next(key, since_seq)
        if isinstance(found, Chunk):
            return found
        many = _many(found)
        if many:
            return await self._loop.run_in_executor(self._readers, _joined, key, found[0].first_seq, many)
        chunks = found[0].chunks
        return chunks[bisect.bisect_right(chunks, since_seq + 1, key=lambda chunk: chunk.first_seq) - 1]

    async def _next(self, key: _Key, since_seq: int) -> list[Committed] | Chunk:
        """Wait for the next row after `since_seq`; return the latest commits from it on, or the stored chunk that has it."""
        while True:
            await self._reach(key, since_seq)
            recent = self._recent.after(key, since_seq)
            if recent:
                return recent
            chunk = await self._loop.run_in_executor(self._readers, self.store.find_chunk, *key, since_seq)
            if chunk is not None:
                return chunk

    async def _reach(self, key: _Key, since_seq: int) -> None:
        """Wait until there are rows after a number."""
        while not self._ending:
            if self._last.get(key, 0) > since_seq:
                return
            event = self._grown.get(key)
            if event is None:
                event = self._grown[key] = asyncio.Event()
            await event.wait()
        msg = "the log is closed"
        raise ClosedError(msg)

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """End the subscribers; publishers may go on."""
        self._ending = True
        for event in list(self._grown.values()):
            event.set()

    async def close(self) -> None:
        """Commit what waits, then close the store."""
        self.end()
        with self._work:
            self._closing = True
            self._work.notify()
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.store.close)
