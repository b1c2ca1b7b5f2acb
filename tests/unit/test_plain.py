"""What a person is shown of a text: nothing in it is hidden, nothing of it acts."""

from __future__ import annotations

import io
import logging
import unicodedata

import pytest

from live_telemetry_widget._plain import plain
from live_telemetry_widget.daemon import logs
from live_telemetry_widget.report import fallback, plots
from tests.support.hostile import Text, texts

JOINERS = "\u200c\u200d"


@pytest.mark.parametrize("held", texts(), ids=lambda held: held.name)
def test_each_of_the_corpus_is_shown_as_its_file_says(held: Text) -> None:
    assert plain(held.text) == held.shown
    assert plain(held.shown) == held.shown


def test_no_character_that_acts_or_is_unseen_comes_through() -> None:
    # Cc: controls; Cs: halves of surrogate pairs; Zl, Zp: ends of lines. Cf: unseen, but for what joins letters and signs of scripts.
    for code in range(0x11_0000):
        kind = unicodedata.category(chr(code))
        bidi = unicodedata.bidirectional(chr(code))
        acts = kind in {"Cc", "Cs", "Zl", "Zp"} or bidi in {
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }
        if acts:
            assert plain(chr(code)) != chr(code), hex(code)
    assert plain("\n\t\r", lines=True) == "\n\t\\r"
    assert plain(JOINERS) == JOINERS


def test_what_the_daemon_logs_is_one_line_and_no_command_to_the_terminal() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.TextFormatter())
    record = logging.LogRecord("x", logging.INFO, "", 0, "run %s", ("\x1b[2J\n2026 ERROR forged",), None)
    handler.emit(record)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("INFO x: run \\u001b[2J\\n2026 ERROR forged\n")
    assert record.args, "other handlers of the record have it as it was"


def test_html_and_figures_take_no_text_for_markup() -> None:
    for held in texts():
        escaped = fallback.escaped(held.text, 10_000)
        assert not {"<", ">", '"', "'"} & set(escaped)
        words = plots._text(held.text)
        assert not {"<", "$"} & set(words), "plotly reads tags, and MathJax formulas"
