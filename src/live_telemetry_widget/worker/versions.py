"""What a run is made with, for those who want to make it again."""

from __future__ import annotations

import contextlib
import importlib.metadata
import pathlib
import platform
import shutil
import sys
from typing import Final

from live_telemetry_widget._version import __version__

#: Packages that change what is played.
_TOLD: Final = ("gymnasium", "minigrid", "numpy", "pettingzoo", "stable-baselines3", "torch")


def versions_of(program: str) -> dict[str, str]:
    """Return versions by name: ours, and of Python and what plays with it only where a worker's program is this very Python.

    >>> sorted(versions_of("no-such-program"))
    ['live_telemetry_widget']
    >>> "python" in versions_of(sys.executable)
    True
    """
    found = {"live_telemetry_widget": __version__}
    place = shutil.which(program)
    if place and pathlib.Path(place).absolute() == pathlib.Path(sys.executable).absolute():
        found["python"] = platform.python_version()
        for name in _TOLD:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
    return found
