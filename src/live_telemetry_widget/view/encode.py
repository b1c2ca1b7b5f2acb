"""Tables as the page gets them: Arrow IPC streams of what it shows, with long texts cut."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget.view.messages import MAX_TEXT

#: Never shown as cells: the same in every row, internal, or drawn instead.
_NOT_SENT: Final = frozenset({"run_id", "seq_id", "render_payload", "render_hint", "metadata"})


def to_page(table: pa.Table) -> bytes:
    """Return a table as one IPC stream of one batch.

    Columns that are null throughout are left out; the page takes an absent column for that.
    """
    names, columns = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in _NOT_SENT or (column.null_count == len(column) and len(column)):
            continue
        names.append(name)
        columns.append(_cut(column))
    batch = pa.Table.from_arrays(columns, names=names).unify_dictionaries().combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_table(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _cut(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_list(column.type):
        column = pa.chunked_array([pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())])
    if not pa.types.is_string(column.type):
        return column
    long = pc.greater(pc.utf8_length(column), MAX_TEXT)
    if not pc.any(long).as_py():
        return column
    cut = pc.binary_join_element_wise(pc.utf8_slice_codeunits(column, 0, MAX_TEXT), "…", "")
    return pc.if_else(long, cut, column)
