"""The processes of one dispatched run, and the record of them on disk, by which the next daemon finds them."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import logging
import secrets
import urllib.parse
from typing import TYPE_CHECKING, Final, Self

from live_telemetry_widget.daemon import processes

if TYPE_CHECKING:
    import pathlib
    import subprocess

_LOG: Final = logging.getLogger(__name__)

RECORDS: Final = "workers"
LOGS: Final = "logs"
_LONGEST_FILE_NAME: Final = 100


def log_path(data_dir: pathlib.Path, run_id: str) -> pathlib.Path:
    """Return the file that a run's worker writes its other output to.

    >>> from pathlib import Path
    >>> log_path(Path("data"), "a/b").as_posix()
    'data/logs/a%2Fb.log'
    """
    name = urllib.parse.quote(run_id, safe="")
    if len(name) > _LONGEST_FILE_NAME or name.startswith("."):
        name = hashlib.sha256(run_id.encode()).hexdigest()
    return data_dir / LOGS / f"{name}.log"


@dataclasses.dataclass(slots=True, eq=False)
class Family:
    """A run's proxy, and all that came of it.

    Attributes
    ----------
    mark
        What all of them have in their environment.
    address
        Where the proxy publishes to.
    process
        The proxy; None until it is started.
    popen
        The same when it is our child, not an earlier daemon's.
    gpus
        Numbers of the graphics cards that it was given.
    end
        Set when it is to end.
    lost
        Why it could not be started, or not be gone on with.
    """

    run_id: str
    mark: str
    address: str
    record: pathlib.Path
    log: pathlib.Path
    process: processes.Process | None = None
    popen: subprocess.Popen[bytes] | None = None
    gpus: list[int] = dataclasses.field(default_factory=list)
    end: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    lost: str = ""

    @classmethod
    def new(cls, run_id: str, data_dir: pathlib.Path, address: str) -> Self:
        """Return one that is about to be started."""
        mark = secrets.token_hex(16)
        return cls(run_id, mark, address, data_dir / RECORDS / f"{mark}.json", log_path(data_dir, run_id))

    @classmethod
    def left_in(cls, data_dir: pathlib.Path) -> list[Self]:
        """Return those of which records are left."""
        found = []
        for path in sorted((data_dir / RECORDS).glob("*.json")):
            try:
                held = json.loads(path.read_text(encoding="utf-8"))
                family = cls(held["run_id"], held["mark"], held["address"], path, log_path(data_dir, held["run_id"]))
                family.gpus = [int(gpu) for gpu in held["gpus"]]
                if held["pid"]:
                    family.process = processes.Process(int(held["pid"]), str(held["started"]))
                found.append(family)
            except (OSError, ValueError, TypeError, KeyError) as error:
                _LOG.warning("%s is no record of a worker and is left alone: %r", path, error)
        return found

    @property
    def alive(self) -> bool:
        """Whether the proxy runs."""
        if self.popen is not None:
            return self.popen.poll() is None
        return self.process is not None and self.process.alive

    @property
    def code(self) -> int | None:
        """The proxy's exit code; None when it is not known."""
        return self.popen.returncode if self.popen is not None else None

    def send(self, number: int) -> None:
        """Send the proxy a signal."""
        if self.popen is not None:
            self.popen.send_signal(number)
        elif self.process is not None:
            processes.send(self.process, number)

    def write(self) -> None:
        """Write the record, whole or not at all."""
        held = {
            "run_id": self.run_id,
            "mark": self.mark,
            "address": self.address,
            "gpus": self.gpus,
            "pid": self.process.pid if self.process else 0,
            "started": self.process.started if self.process else "",
        }
        self.record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.record.with_suffix(".new")
        fresh.write_text(json.dumps(held), encoding="utf-8")
        fresh.replace(self.record)

    def forget(self, *, keep_log: bool) -> None:
        """Delete the record: the run is settled."""
        self.record.unlink(missing_ok=True)
        if not keep_log:
            self.log.unlink(missing_ok=True)
