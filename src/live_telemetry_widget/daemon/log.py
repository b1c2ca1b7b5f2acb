"""The durable log: commit first, then acknowledge and fan out.

Publishers hand batches in and wait for their commit; a commit every few milliseconds takes all that wait. A subscriber is a
cursor: it is given what is committed after its number, from memory when that is recent, from the file otherwise. However slow
it is, nothing is dropped for it, and it costs no more than the batch in its hands.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import logging
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget.store import Appended, Kind, RunRow, Store, after, numbered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pyarrow as pa

_LOG: Final = logging.getLogger(__name__)

#: Seconds for which batches gather before a commit.
_GATHER: Final = 0.005
#: Publishers are held back while more than so many rows wait for their commit.
_MOST_PENDING: Final = 32_768
#: Rows of each stream that stay in memory for subscribers that keep up, and for how many streams.
_RECENT_ROWS: Final = 8_192
_RECENT_STREAMS: Final = 64
#: Rows that a subscriber is given at a time.
_READ_ROWS: Final = 1_024

_Stream = tuple[str, Kind]


class _Recent:
    """The newest committed batches of one stream."""

    def __init__(self) -> None:
        self.batches: collections.deque[tuple[int, int, pa.RecordBatch]] = collections.deque()
        self.rows = 0

    def add(self, first: int, last: int, batch: pa.RecordBatch) -> None:
        self.batches.append((first, last, batch))
        self.rows += batch.num_rows
        while self.rows > _RECENT_ROWS and len(self.batches) > 1:
            self.rows -= self.batches.popleft()[2].num_rows

    def next_after(self, since: int) -> pa.RecordBatch | None:
        """Return the batch that holds row `since` + 1, cut to what is after `since`; None when it is not in memory."""
        if not self.batches or since + 1 < self.batches[0][0]:
            return None
        for _, last, batch in self.batches:
            if last > since:
                return after(batch, since)
        return None


class Log:
    """A store with one writer thread, one reader thread, group commit and subscribers. Lives on one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reader = store.reader()
        self._writing = concurrent.futures.ThreadPoolExecutor(1, "log-writer")
        self._reading = concurrent.futures.ThreadPoolExecutor(1, "log-reader")
        self._pending: list[tuple[str, Kind, pa.RecordBatch, asyncio.Future[Appended]]] = []
        self._pending_rows = 0
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._committing: asyncio.Task[None] | None = None
        self._recent: collections.OrderedDict[_Stream, _Recent] = collections.OrderedDict()
        self._last: dict[_Stream, int] = {}
        self._grown: dict[_Stream, asyncio.Event] = {}
        self.commits = 0

    # -- writing -----------------------------------------------------------------------------------------------------

    async def append(self, run_id: str, kind: Kind, batch: pa.RecordBatch) -> Appended:
        """Commit a batch; return the numbers it got. Cancelling the wait does not undo it."""
        await self._has_room.wait()
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._pending.append((run_id, kind, batch, future))
        self._pending_rows += batch.num_rows
        if self._pending_rows > _MOST_PENDING:
            self._has_room.clear()
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all(), name="commit")
        return await asyncio.shield(future)

    async def _commit_all(self) -> None:
        """Commit until nothing waits."""
        try:
            await asyncio.sleep(_GATHER)
            while self._pending:
                taken, self._pending = self._pending, []
                self._pending_rows = 0
                self._has_room.set()
                await self._commit(taken)
        finally:
            self._committing = None

    async def _commit(self, taken: list[tuple[str, Kind, pa.RecordBatch, asyncio.Future[Appended]]]) -> None:
        try:
            appended = await self._write(lambda: self._store.append([(r, k, b) for r, k, b, _ in taken]))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the publishers' to hear
            for _, _, _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        self.commits += 1
        last = {(a.run_id, a.kind): a.first_seq for a in appended}
        for run_id, kind, batch, future in taken:
            stream = (run_id, kind)
            first = last[stream]
            end = first + batch.num_rows - 1
            last[stream] = end + 1
            self._last[stream] = end
            recent = self._recent.setdefault(stream, _Recent())
            self._recent.move_to_end(stream)
            recent.add(first, end, numbered(batch, first))
            if not future.done():
                future.set_result(Appended(run_id, kind, first, end))
        while len(self._recent) > _RECENT_STREAMS:
            self._recent.popitem(last=False)
        for stream in last:
            event = self._grown.pop(stream, None)
            if event is not None:
                event.set()

    async def _write(self, function: Callable[[], Any]) -> Any:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(self._writing, function)

    async def put_run(self, run: RunRow) -> None:
        """Write a run's row."""
        await self._write(lambda: self._store.put_run(run))

    async def runs(self) -> list[RunRow]:
        """Return every run's row."""
        return await self._write(self._store.runs)  # type: ignore[no-any-return]

    # -- reading -----------------------------------------------------------------------------------------------------

    async def last_seq(self, run_id: str, kind: Kind) -> int:
        """Return the last committed number of a run; 0 when it has none."""
        stream = (run_id, kind)
        if stream not in self._last:
            found = await self._read(lambda: self._reader.last_seq(run_id, kind))
            self._last.setdefault(stream, found)
        return self._last[stream]

    async def _read(self, function: Callable[[], Any]) -> Any:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(self._reading, function)

    async def follow(self, run_id: str, kind: Kind, since_seq: int) -> AsyncIterator[pa.RecordBatch]:
        """Yield everything after `since_seq`, in order, without a seam between what was and what comes; never ends."""
        at, stream = since_seq, (run_id, kind)
        await self.last_seq(run_id, kind)
        while True:
            if self._last[stream] <= at:
                await self._grown.setdefault(stream, asyncio.Event()).wait()
                continue
            recent = self._recent.get(stream)
            batch = recent.next_after(at) if recent else None
            if batch is not None:
                found = [batch]
            else:
                since = at
                found = await self._read(lambda: self._reader.read(run_id, kind, since, _READ_ROWS))
            for part in found:
                for start in range(0, part.num_rows, _READ_ROWS):
                    yield part.slice(start, _READ_ROWS)
                at = int(part.column("seq_id")[-1].as_py())

    async def close(self) -> None:
        """Commit what waits, then close the file."""
        while self._committing is not None:
            await asyncio.wait([self._committing])
        self._writing.shutdown()
        self._reading.shutdown()
        self._reader.close()
        self._store.close()
