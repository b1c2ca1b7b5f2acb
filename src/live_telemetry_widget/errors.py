"""Every exception this package raises on purpose.

::

    TelemetryError
    ├── ConnectError          no daemon at the address, or it went away while a call was under way
    ├── DaemonError           the daemon answered, with an error
    │   └── RunNotFoundError  ... that it knows no such run (also: no such recording, no such episode)
    ├── WaitTimeoutError      run.wait() and friends ran out of time (also a TimeoutError)
    ├── RecordingError        a file that is not a recording, is locked, or is from a newer version
    ├── WorkerError           the worker command could not be started
    ├── RunCancelledError     somebody cancelled the run; raised in the training loop by its next step
    ├── MissingPackageError   what was asked for needs an optional package (also an ImportError)
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


class WaitTimeoutError(TelemetryError, TimeoutError):
    """What was waited for did not happen in time."""


class RecordingError(TelemetryError):
    """The file or directory is not a recording that this version can read or write."""


class WorkerError(TelemetryError):
    """The worker command could not be started."""


class RunCancelledError(TelemetryError):
    """Somebody cancelled the run of an emitter."""


class MissingPackageError(TelemetryError, ImportError):
    """What was asked for needs an optional package that is not installed."""


class ClosedError(TelemetryError):
    """The object was closed before."""
