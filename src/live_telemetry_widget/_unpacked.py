"""How much Arrow bytes become, known before they do: a few kilobytes may unpack to gigabytes.

Used by :mod:`~live_telemetry_widget.batches` only.

Examples
--------
>>> import pyarrow as pa
>>> batch = pa.RecordBatch.from_pydict({"x": [0] * 100_000})
>>> sink = pa.BufferOutputStream()
>>> with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
...     writer.write_batch(batch)
>>> data = sink.getvalue().to_pybytes()
>>> len(data) < 1_000, size(data) >= 800_000
(True, True)
"""

from __future__ import annotations

import struct
from typing import Final

import pyarrow as pa

# Of Message.fbs and Schema.fbs of Arrow's format: places of fields in their tables, and kinds of header.
_HEADER_KIND: Final = 1
_HEADER: Final = 2
_DICTIONARY_DATA: Final = 1
_BUFFERS: Final = 2
_COMPRESSION: Final = 3
_DICTIONARY_BATCH: Final = 2
_RECORD_BATCH: Final = 3

_OFFSET: Final = struct.Struct("<I")
_BACK: Final = struct.Struct("<i")
_PLACE: Final = struct.Struct("<H")
_BUFFER: Final = struct.Struct("<qq")
_SIZE: Final = struct.Struct("<q")


def size(data: bytes) -> int:
    """Return how many bytes the buffers of an IPC stream have once they are unpacked, as their headers say.

    An unpacker that finds more than the header says fails, so this is an upper bound.

    Raises
    ------
    pyarrow.ArrowInvalid
        It is no IPC stream.
    """
    total = 0
    # pyarrow has verified that what is in the metadata points to within it.
    for message in pa.ipc.MessageReader.open_stream(data):
        body = message.body
        if body is not None:
            total += _of_body(message.metadata.to_pybytes(), memoryview(body))
    return total


def _of_body(metadata: bytes, body: memoryview) -> int:
    message = _follow(metadata, 0)
    kind, header = _field(metadata, message, _HEADER_KIND), _field(metadata, message, _HEADER)
    batch = _follow(metadata, header) if header else 0
    if batch and kind and metadata[kind] == _DICTIONARY_BATCH:
        inner = _field(metadata, batch, _DICTIONARY_DATA)
        batch = _follow(metadata, inner) if inner else 0
    elif not kind or metadata[kind] != _RECORD_BATCH:
        batch = 0
    buffers = _field(metadata, batch, _BUFFERS) if batch else 0
    if not buffers or not _field(metadata, batch, _COMPRESSION):
        return len(body)
    first = _follow(metadata, buffers)
    total = 0
    for number in range(_OFFSET.unpack_from(metadata, first)[0]):
        at, length = _BUFFER.unpack_from(metadata, first + _OFFSET.size + _BUFFER.size * number)
        if length < _SIZE.size or not 0 <= at <= len(body) - _SIZE.size:
            continue  # empty, or refused when it is read
        unpacked = _SIZE.unpack_from(body, at)[0]
        # A negative size says that this one was not worth packing.
        total += unpacked if unpacked >= 0 else length
    return total


def _follow(metadata: bytes, at: int) -> int:
    """Return where the thing is that stands at an offset."""
    return at + int(_OFFSET.unpack_from(metadata, at)[0])


def _field(metadata: bytes, table: int, number: int) -> int:
    """Return where a field of a table is; 0 when it is absent."""
    places = table - int(_BACK.unpack_from(metadata, table)[0])
    entry = 2 * _PLACE.size + _PLACE.size * number
    if entry >= _PLACE.unpack_from(metadata, places)[0]:
        return 0
    offset = int(_PLACE.unpack_from(metadata, places + entry)[0])
    return table + offset if offset else 0
