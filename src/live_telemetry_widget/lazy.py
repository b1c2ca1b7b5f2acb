"""The steps of a run as a stream of record batches, for runs that are larger than memory.

One batch at a time is in memory. A :class:`LazySteps` speaks the Arrow PyCapsule interface, so DuckDB reads it by its name, and whoever takes a
stream of Arrow's takes it; polars scans it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

import pyarrow as pa

from live_telemetry_widget import _arrow, query
from live_telemetry_widget.errors import MissingPackageError, RecordingError
from live_telemetry_widget.exports import steps_schema
from live_telemetry_widget.schema import LABEL, TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import polars as pl

    from live_telemetry_widget.exports import Source
    from live_telemetry_widget.frames import RunFrames

#: Rows of a batch out of memory.
_ROWS: Final = 65_536


class LazySteps:
    """Steps, read anew each time somebody asks.

    Of a recording: as they were stored, in order of ``seq_id``; where somebody's daemon stored a step twice, it is here twice (``run.steps`` merges
    them). Of a run that is followed: what is here when the reading begins, in order of arrival. Values as in ``run.steps_arrow``.

    Parameters
    ----------
    run_id
        Of the run.
    begin
        Returns the columns, and the batches; these may lack further columns, or have narrower types.
    """

    def __init__(self, run_id: str, begin: Callable[[], tuple[pa.Schema, Iterator[pa.RecordBatch]]]) -> None:
        self.run_id = run_id
        self._begin = begin

    @property
    def schema(self) -> pa.Schema:
        """The columns, as they are now."""
        return self._begin()[0]

    def reader(self, columns: Sequence[str] | None = None, *, where: str | None = None) -> pa.RecordBatchReader:
        """Return a reader of the steps that are here now.

        Parameters
        ----------
        columns
            Only these, in this order.
        where
            Only steps that an expression selects, like ``"reward > 0"`` (:mod:`~live_telemetry_widget.query`).

        Raises
        ------
        QueryError
            `where` is no expression, or does not fit the columns.
        KeyError
            There is no such column.
        RecordingError
            While it is read: a column has numbers that fit neither of its types.
        """
        schema, batches = self._begin()
        missing = [name for name in columns or () if name not in schema.names]
        if missing:
            msg = f"there is no column {missing[0]!r}; there are {', '.join(schema.names)}"
            raise KeyError(msg)
        chosen = query.compile(where, schema) if where is not None else None
        names = list(schema.names if columns is None else columns)
        needed = {*names, *(chosen.columns if chosen else ())}
        read = pa.schema([field for field in schema if field.name in needed])
        shown = pa.schema([schema.field(name) for name in names])

        def produce() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                fitted = _fitted(batch, read)
                if chosen is not None:
                    fitted = fitted.filter(chosen.mask(pa.Table.from_batches([fitted])))
                if fitted.num_rows:
                    yield fitted.select(names)

        return pa.RecordBatchReader.from_batches(shown, produce())

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self.reader())

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:  # noqa: ANN401 - a capsule
        """Return the stream as a capsule, as the Arrow PyCapsule interface has it."""
        return self.reader().__arrow_c_stream__(requested_schema)

    def to_polars(self) -> pl.LazyFrame:
        """Return a LazyFrame; what it selects of columns and rows is selected while it is read.

        Raises
        ------
        MissingPackageError
            polars is not installed.
        """
        try:
            import polars  # noqa: ICN001, PLC0415 - optional; the short name is for its types
            from polars.io.plugins import register_io_source  # noqa: PLC0415 - as above
        except ImportError as error:
            msg = "to_polars() needs polars: pip install polars; reader() gives the same to whoever reads Arrow"
            raise MissingPackageError(msg) from error

        def read(
            columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _: int | None
        ) -> Iterator[pl.DataFrame]:
            needed = None
            if columns is not None:
                needed = list(
                    dict.fromkeys([*columns, *(predicate.meta.root_names() if predicate is not None else ())])
                )
            left = most
            for batch in self.reader(needed):
                frame = polars.DataFrame(polars.from_arrow(pa.table(batch)))
                if predicate is not None:
                    frame = frame.filter(predicate)
                if left is not None:
                    frame = frame.head(left)
                    left -= len(frame)
                yield frame if columns is None else frame.select(columns)
                if left is not None and left <= 0:
                    return

        empty = polars.DataFrame(polars.from_arrow(self.schema.empty_table()))
        return register_io_source(read, schema=empty.schema)

    def __repr__(self) -> str:
        return f"<LazySteps of run {self.run_id!r}: {len(self.schema)} columns; reader(), to_polars(), or any reader of Arrow streams>"


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    try:
        for field in schema:
            at = batch.schema.get_field_index(field.name)
            if at >= 0 and batch.schema.field(at).type == TEXT and field.type not in {TEXT, LABEL}:
                # Numbers that became text because they are unlike: as one type they would not be what was sent.
                _refuse(field.name)
        return _arrow.conform(batch, schema)
    except pa.ArrowInvalid as error:
        msg = f"a column has numbers that fit neither of its types ({error}); leave it out with columns=, or read run.steps, which has it as text"
        raise RecordingError(msg) from error


def _refuse(name: str) -> NoReturn:
    msg = f"{name} is text here and a number there"
    raise pa.ArrowInvalid(msg)


def of_source(source: Source, run_id: str) -> LazySteps:
    """Return the steps of a recorded run."""
    return LazySteps(run_id, lambda: (steps_schema(source, run_id), iter(source.read(run_id, "steps"))))


def of_frames(frames: RunFrames) -> LazySteps:
    """Return the steps of a run that is followed."""

    def begin() -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        total = frames.step_count
        return frames.steps_schema(), _batches(frames, total)

    return LazySteps(frames.run_id, begin)


def _batches(frames: RunFrames, total: int) -> Iterator[pa.RecordBatch]:
    for first in range(0, total, _ROWS):
        yield from frames.rows(first, min(_ROWS, total - first)).to_batches()
