"""What the daemon says of itself, for people or, a JSON object a line, for programs."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import Any, Final

from live_telemetry_widget._plain import plain

#: For people.
TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_PACKAGE: Final = "live_telemetry_widget."


class TextFormatter(logging.Formatter):
    """Lines as :data:`TEXT` has them; a message, which may quote what came over the wire, is one line and says nothing to the terminal."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without its traceback."""
        record.message = plain(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - logging's
        """Return the traceback."""
        return plain(super().formatException(ei), lines=True)


class JsonFormatter(logging.Formatter):
    """One JSON object a record: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, ``error`` (a traceback)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        said = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix(_PACKAGE),
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said)


def configure(level: str, form: str) -> None:
    """Say what is at least of that level on standard error, as ``"text"`` or ``"json"``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
