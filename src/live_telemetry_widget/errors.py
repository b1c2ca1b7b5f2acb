"""Every exception this package raises on purpose.

::

    TelemetryError
    ├── ConnectError          no daemon at the address, or it went away while a call was under way
    ├── DaemonError           the daemon answered, with an error
    │   ├── RunNotFoundError  ... that it knows no such run (also: no such recording, no such episode)
    │   └── UnknownCallError  ... that it does not know such a call: a daemon of others, or an older one
    ├── ConfigError           an emitter's config holds something for which JSON has no word (also a TypeError)
    ├── WaitTimeoutError      run.wait() and friends ran out of time (also a TimeoutError)
    ├── RecordingError        a file that is not a recording, is locked, or is from a newer version
    ├── WorkerError           the worker command could not be started
    ├── RunCancelledError     somebody cancelled the run; raised in the training loop by its next step
    ├── QueryError            an expression that selects rows cannot be read, or does not fit the columns (also a ValueError)
    ├── MissingPackageError   what was asked for needs an optional package (also an ImportError)
    ├── NoDataError           the run holds nothing of what a figure or a picture is made from (also a LookupError)
    └── ClosedError           use of a client, hub, server or emitter after it was closed

What comes in from the wire never raises one of these into a stream: it is counted in ``run.problems`` instead.
"""

from __future__ import annotations


class TelemetryError(Exception):
    """Base of all errors of this package; its message says what was wrong, with what value, and what to do."""


class ConnectError(TelemetryError):
    """No daemon answers at the address."""


class DaemonError(TelemetryError):
    """The daemon answered a call with an error."""


class RunNotFoundError(DaemonError, LookupError):
    """The daemon or recording holds no such run or episode."""


class UnknownCallError(DaemonError):
    """The daemon does not know the call."""


class ConfigError(TelemetryError, TypeError):
    """A config holds something for which JSON has no word."""


class WaitTimeoutError(TelemetryError, TimeoutError):
    """What was waited for did not happen in time."""


class RecordingError(TelemetryError):
    """The file or directory is not a recording that this version can read or write."""


class WorkerError(TelemetryError):
    """The worker command could not be started."""


class RunCancelledError(TelemetryError):
    """Somebody cancelled the run of an emitter."""


class QueryError(TelemetryError, ValueError):
    """An expression that selects rows cannot be read, or does not fit the columns.

    Attributes
    ----------
    reason
        What is wrong, in one line.
    expression
        What was given.
    position
        Of the place in `expression`, in characters from 0.
    near
        Names that may have been meant, nearest first.
    """

    def __init__(self, reason: str, expression: str, position: int, near: tuple[str, ...] = ()) -> None:
        self.reason, self.expression, self.position, self.near = reason, expression, position, near
        line = "".join(" " if letter.isspace() else letter for letter in expression)
        super().__init__(f"{reason}\n  {line}\n  {' ' * position}^" if expression else reason)

    def __reduce__(self) -> tuple[type[QueryError], tuple[str, str, int, tuple[str, ...]]]:
        """Let it be sent to another process, as pickle makes an exception of its message alone."""
        return QueryError, (self.reason, self.expression, self.position, self.near)


class MissingPackageError(TelemetryError, ImportError):
    """What was asked for needs an optional package that is not installed."""


class NoDataError(TelemetryError, LookupError):
    """The run holds nothing of what was to be drawn."""


class ClosedError(TelemetryError):
    """The object was closed before."""
