"""Lines cut from bytes, whatever the pieces in which they come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from live_telemetry_widget.worker.lines import LineCutter

_PIECES = st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"\n\n", b"\r\n", b"\xff\n"]), max_size=30)


@given(_PIECES)
def test_lines_are_those_of_the_whole_however_it_was_cut(pieces: list[bytes]) -> None:
    cutter = LineCutter()
    lines = [line for piece in pieces for line in cutter.feed(piece)]
    rest = cutter.rest()
    whole = b"".join(pieces)
    *ended, tail = whole.split(b"\n")
    assert [line.data for line in lines] == [line + b"\n" for line in ended]
    assert rest.data == tail
    assert all(line.whole for line in [*lines, rest])
    assert cutter.too_long == 0


@given(_PIECES, st.integers(0, 20))
def test_with_a_limit_no_byte_is_lost_and_no_piece_is_taken_for_a_line(pieces: list[bytes], limit: int) -> None:
    cutter = LineCutter(limit)
    lines = []
    for piece in pieces:
        lines += cutter.feed(piece)
        assert cutter._size <= limit
    lines.append(cutter.rest())
    assert b"".join(line.data for line in lines) == b"".join(pieces)
    sizes = [len(line) for line in b"".join(pieces).splitlines(keepends=True)] if b"\r" not in b"".join(pieces) else []
    for line in lines:
        if line.whole:
            assert len(line.data) <= limit
    if sizes and b"\x0b" not in b"".join(pieces):
        ended = b"".join(pieces).split(b"\n")
        expected = sum(len(line) + 1 > limit for line in ended[:-1]) + (len(ended[-1]) > limit)
        assert cutter.too_long == expected


def test_the_tail_of_a_line_that_is_too_long_is_no_event() -> None:
    cutter = LineCutter(10)
    lines = cutter.feed(b"x" * 11) + cutter.feed(b'{"type": "step"}\nok\n')
    assert [(line.data, line.whole) for line in lines] == [
        (b"x" * 11, False),
        (b'{"type": "step"}\n', False),
        (b"ok\n", True),
    ]
    assert cutter.too_long == 1
