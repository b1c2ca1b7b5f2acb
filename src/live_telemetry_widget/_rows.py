"""Record batches by global row number, as the frames keep them: append, slice, take, fill.

Used by :mod:`~live_telemetry_widget.frames` only.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import _arrow
from live_telemetry_widget.schema import LABEL, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Numbers: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"

#: Chunks below this many rows are merged with their neighbours, so that a slow run is not a million of them.
_CHUNK_ROWS: Final = 65_536
#: ... unless the two hold more bytes than this: a column of texts ends at 2 GiB, and a chunk is rewritten when a row of it is filled.
_CHUNK_BYTES: Final = 64 * 1024 * 1024
#: So many bytes are brought into another order at a time.
_TAKE_BYTES: Final = 256 * 1024 * 1024
#: A label that is never null: "" is its null.
_WORKER: Final = "worker_id"


class Rows:
    """Record batches by global row number: append, slice, take, fill; small neighbours are merged."""

    def __init__(self, core: pa.Schema) -> None:
        self.core = core
        self.chunks: list[pa.RecordBatch] = []
        self.starts: list[int] = []
        self.total = 0
        #: Which rows were filled, where somebody wants to know.
        self.filled: list[Numbers] | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        self.chunks.append(batch)
        self.starts.append(self.total)
        self.total += batch.num_rows
        # As in a binary counter, every row is copied at most log2(_CHUNK_ROWS) times.
        while len(self.chunks) > 1:
            left, right = self.chunks[-2].num_rows, self.chunks[-1].num_rows
            if left > 2 * right or left + right > _CHUNK_ROWS:
                break
            if self.chunks[-2].nbytes + self.chunks[-1].nbytes > _CHUNK_BYTES:
                break
            joined = _arrow.combine(self.core, self.chunks[-2:])
            self.chunks[-2:] = [joined]
            self.starts.pop()

    def copy(self) -> Rows:
        """Return what is held now, for reading: chunks never change, they are replaced."""
        held = Rows(self.core)
        held.chunks, held.starts, held.total = self.chunks.copy(), self.starts.copy(), self.total
        return held

    def slice(self, first: int, count: int, names: Sequence[str] | None = None) -> pa.Table:
        """Return `count` rows from `first`, or what there is of them; of `names` only those columns (of the core schema)."""
        end = min(first + count, self.total)
        parts: list[pa.RecordBatch] = []
        at = max(0, bisect.bisect_right(self.starts, first) - 1)
        while first < end:
            offset = first - self.starts[at]
            part = self.chunks[at].slice(offset, end - first)
            parts.append(part if names is None else part.select(names))
            first += part.num_rows
            at += 1
        core = self._core_of(names)
        return _arrow.merge(core, parts or [_arrow.empty(core)])

    def _core_of(self, names: Sequence[str] | None) -> pa.Schema:
        return self.core if names is None else pa.schema([self.core.field(name) for name in names])

    def take(self, rows: Numbers, names: Sequence[str] | None = None) -> pa.Table:
        """Return some rows, in the order asked for; of `names` only those columns (of the core schema)."""
        parts: list[pa.RecordBatch] = []
        order: list[Numbers] = []
        for at, picks in self._by_chunk(rows):
            chunk = self.chunks[at] if names is None else self.chunks[at].select(names)
            parts.append(chunk.take(pa.array(rows[picks] - self.starts[at])))
            order.append(picks)
        core = self._core_of(names)
        table = _arrow.merge(core, parts or [_arrow.empty(core)])
        places = np.concatenate(order) if order else np.zeros(0, np.int64)
        if (np.diff(places) > 0).all():
            return table
        return table.take(pa.array(np.argsort(places, kind="stable")))

    def take_many(self, rows: Numbers) -> pa.Table:
        """Return some rows as :meth:`take` does, however many and large they are."""
        weight = max(1, sum(chunk.nbytes for chunk in self.chunks) // max(1, self.total))
        at_once = max(1, _TAKE_BYTES // weight)
        parts = [self.take(rows[at : at + at_once]) for at in range(0, len(rows), at_once)]
        return (
            parts[0] if len(parts) == 1 else _arrow.merge(self.core, [b for part in parts for b in part.to_batches()])
        )

    def _by_chunk(self, rows: Numbers) -> Iterator[tuple[int, Numbers]]:
        """Yield each chunk that holds some of `rows`, with the places in `rows` of those it holds."""
        chunks = np.searchsorted(np.array(self.starts, np.int64), rows, side="right") - 1
        for at in np.unique(chunks).tolist():
            yield at, np.flatnonzero(chunks == at)

    def fill(self, rows: Numbers, richer: pa.RecordBatch) -> None:
        """Put the values of `richer` (a row for each of `rows`) where those rows have nulls; a worker's name, where they have none."""
        for at, picks in self._by_chunk(rows):
            chunk = self.chunks[at]
            given = richer if len(picks) == richer.num_rows else richer.take(pa.array(picks))
            offsets = rows[picks] - self.starts[at]
            names = [
                field.name
                for field in given.schema
                if _brings(given, field.name)
                and (field.name not in chunk.schema.names or self._lacks(chunk, field.name, offsets))
            ]
            if names:
                self.chunks[at] = self._filled(chunk, given.select(names), offsets)
                if self.filled is not None:
                    self.filled.append(rows[picks])

    @staticmethod
    def _lacks(chunk: pa.RecordBatch, name: str, offsets: Numbers) -> bool:
        column = chunk.column(name)
        if name == _WORKER:
            unnamed = column.dictionary.index("").as_py()
            return unnamed >= 0 and bool(pc.equal(column.indices.take(pa.array(offsets)), unnamed).true_count)
        return bool(column.null_count) and bool(column.take(pa.array(offsets)).null_count)

    def _filled(self, chunk: pa.RecordBatch, given: pa.RecordBatch, offsets: Numbers) -> pa.RecordBatch:
        scatter = np.full(chunk.num_rows, -1, np.int64)
        scatter[offsets] = np.arange(len(offsets))
        index = pa.array(scatter, mask=scatter < 0)
        schema, (held, new) = _arrow.unified(self.core, [chunk, given])
        arrays = list(held.columns)
        for name in given.schema.names:
            at = schema.get_field_index(name)
            old, fresh = held.column(at), new.column(name).take(index)
            if name == _WORKER:
                texts = old.cast(TEXT)
                arrays[at] = pc.coalesce(pc.if_else(pc.equal(texts, ""), fresh.cast(TEXT), texts), texts).cast(LABEL)
            elif pa.types.is_dictionary(old.type):
                arrays[at] = pc.coalesce(old.cast(TEXT), fresh.cast(TEXT)).cast(LABEL)
            else:
                arrays[at] = pc.coalesce(old, fresh)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _brings(given: pa.RecordBatch, name: str) -> bool:
    column = given.column(name)
    if name == _WORKER:
        return bool(pc.any(pc.not_equal(column.cast(TEXT), "")).as_py())
    return bool(column.null_count < len(column))
