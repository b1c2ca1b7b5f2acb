"""Frames: an array of RGB values, or a picture file that a worker's emitter made."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from typing import Any, Final, Literal

import numpy as np

from live_telemetry_widget.grids.model import Grid, GridError, Image, new, shown

#: The longest side in pixels that goes to a page as it is; a larger array is thinned out, a larger file is refused.
MAX_FRAME: Final = 512
MAX_FILE_SIDE: Final = 4_096
#: The longest base64 text of a file.
MAX_BASE64: Final = 1_400_000
_COLOURS: Final = 3
_BYTE: Final = 255
_PNG: Final = b"\x89PNG\r\n\x1a\n"


def from_payload(payload: dict[str, Any], game: str) -> Grid:
    """Return the frame of a payload of mode ``"rgb_array"`` or ``"image"``.

    Raises
    ------
    GridError
        It holds no frame, or one that is too large.
    """
    grid = new(game, [])
    grid["image"] = _from_array(payload.get("rgb")) if payload.get("mode") == "rgb_array" else _from_file(payload)
    return grid


def _from_array(rgb: object) -> Image:
    pixels = None
    if isinstance(rgb, list):
        try:
            pixels = np.asarray(rgb)
        except (ValueError, OverflowError, TypeError):  # ragged
            pixels = None
    if pixels is None or pixels.ndim != _COLOURS or pixels.shape[2] != _COLOURS or not pixels.size:
        msg = f"rgb should be height x width x 3 numbers, not {shown(rgb)}"
        raise GridError(msg)
    if pixels.dtype.kind not in "iuf" or not (pixels.min() >= 0 and pixels.max() <= _BYTE):
        msg = f"rgb should hold numbers from 0 to {_BYTE}; it is of {pixels.shape} values that are not"
        raise GridError(msg)
    every = -(-max(pixels.shape[:2]) // MAX_FRAME)
    return png(pixels[::every, ::every].astype(np.uint8))


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Image:
    """Return an array (height, width, 3) of uint8 as a PNG file.

    >>> png(np.zeros((2, 5, 3), np.uint8))["width"]
    5
    """
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + width * _COLOURS), np.uint8)  # each begins with its filter, 0: none
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 3)), (b"IEND", b""))
    data = _PNG + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return Image(format="png", data=base64.b64encode(data).decode("ascii"), width=width, height=height)


def _from_file(payload: dict[str, Any]) -> Image:
    data = payload.get("data")
    if not isinstance(data, str) or len(data) > MAX_BASE64:
        what = f"of {len(data)} characters" if isinstance(data, str) else shown(data)
        msg = f"data should be base64 of at most {MAX_BASE64} characters, not {what}"
        raise GridError(msg)
    try:
        head = base64.b64decode(data[:64], validate=True)
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"data is not base64: {error}"
        raise GridError(msg) from None
    # What the file says of itself counts, not the payload: the page makes room for it.
    found = _header(head)
    if found is None:
        msg = f"data is neither a PNG nor a WebP file; it begins with {head[:12]!r}"
        raise GridError(msg)
    kind, width, height = found
    if not (0 < width <= MAX_FILE_SIDE and 0 < height <= MAX_FILE_SIDE):
        msg = f"the picture is {width} x {height} pixels; at most {MAX_FILE_SIDE} a side are shown"
        raise GridError(msg)
    return Image(format=kind, data=data, width=width, height=height)


def _header(head: bytes) -> tuple[Literal["png", "webp"], int, int] | None:
    """Return what a file is and how wide and high, from its first bytes."""
    if head.startswith(_PNG) and head[12:16] == b"IHDR" and len(head) >= 24:  # noqa: PLR2004 - up to the height
        width, height = struct.unpack(">II", head[16:24])
        return "png", width, height
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":  # noqa: PLR2004 - up to the height
        return None
    chunk = head[12:16]
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return "webp", width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return "webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8X":
        return "webp", int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return None
