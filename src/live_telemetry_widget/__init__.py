"""See a live training run in a notebook, trust every number in it, and keep it.

>>> import live_telemetry_widget as ltw
>>> client = ltw.connect("127.0.0.1:50055")  # connects when it is first used
>>> client
<Client of 127.0.0.1:50055, following 0 runs>

Names are loaded when they are first used, so that a worker that imports a part of this package does not pay for pandas.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Final

from live_telemetry_widget._version import __version__

if TYPE_CHECKING:
    from live_telemetry_widget.bridge import TelemetryBridge
    from live_telemetry_widget.embedded import Server, serve
    from live_telemetry_widget.errors import (
        ClosedError,
        ConfigError,
        ConnectError,
        DaemonError,
        NoDataError,
        RecordingError,
        RunCancelledError,
        RunNotFoundError,
        TelemetryError,
        WaitTimeoutError,
        WorkerError,
    )
    from live_telemetry_widget.hub import TelemetryAsyncHub
    from live_telemetry_widget.run import Run
    from live_telemetry_widget.schema import Problem, RunKey, RunState
    from live_telemetry_widget.session import Client, Recording, connect
    from live_telemetry_widget.session import open_recording as open  # noqa: A004 - ltw.open, as in wave.open
    from live_telemetry_widget.watch import LiveTelemetryController
    from live_telemetry_widget.worker.emitter import Emitter, EmitterStats

# gRPC writes of its own to standard error, into whatever cell is there; what goes wrong reaches us as status codes.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# What gRPC does for processes that fork makes the children of one with an asyncio channel crash, some of them, at any moment (seen with
# Gymnasium's AsyncVectorEnv, grpcio 1.85). Left alone they do not; nothing of this package speaks in a forked child.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_HOME: Final = {
    "Client": "session",
    "ClosedError": "errors",
    "ConfigError": "errors",
    "ConnectError": "errors",
    "DaemonError": "errors",
    "NoDataError": "errors",
    "Problem": "schema",
    "Recording": "session",
    "RecordingError": "errors",
    "Run": "run",
    "RunKey": "schema",
    "RunNotFoundError": "errors",
    "RunState": "schema",
    "Server": "embedded",
    "LiveTelemetryController": "watch",
    "Emitter": "worker.emitter",
    "EmitterStats": "worker.emitter",
    "RunCancelledError": "errors",
    "TelemetryAsyncHub": "hub",
    "TelemetryBridge": "bridge",
    "TelemetryError": "errors",
    "WaitTimeoutError": "errors",
    "WorkerError": "errors",
    "connect": "session",
    "open": "session",
    "serve": "embedded",
}


#: Modules of their own, because they need what not everybody has.
_MODULES: Final = frozenset({"gymnasium", "pettingzoo", "sb3"})


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOME.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module = importlib.import_module(f"{__name__}.{home}")
    value: object = getattr(module, "open_recording" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__doc__", "__file__", "__name__"})


__all__ = [  # noqa: RUF022 - the order in which one meets them
    "connect",
    "open",
    "serve",
    "Client",
    "Recording",
    "Run",
    "RunState",
    "RunKey",
    "Problem",
    "Server",
    "TelemetryAsyncHub",
    "TelemetryBridge",
    "LiveTelemetryController",
    "Emitter",
    "EmitterStats",
    "TelemetryError",
    "ConnectError",
    "DaemonError",
    "RunNotFoundError",
    "WaitTimeoutError",
    "RecordingError",
    "WorkerError",
    "RunCancelledError",
    "NoDataError",
    "ClosedError",
    "ConfigError",
    "__version__",
]
