"""The runs that a daemon knows, and the only ways in which one may go from state to state."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import hashlib
import json
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget.errors import DaemonError, RunNotFoundError
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.store import RunRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container

    from live_telemetry_widget.daemon.log import Log

_LOG: Final = logging.getLogger(__name__)

INIT: Final = trainer_pb2.RUN_STATUS_INIT
HSHK: Final = trainer_pb2.RUN_STATUS_HSHK
RDY: Final = trainer_pb2.RUN_STATUS_RDY
EXEC: Final = trainer_pb2.RUN_STATUS_EXEC
PAUSE: Final = trainer_pb2.RUN_STATUS_PAUSE
FAULT: Final = trainer_pb2.RUN_STATUS_FAULT
TERM: Final = trainer_pb2.RUN_STATUS_TERM

#: From each state, the states that may follow. A worker may send without a handshake (generation-1 proxies do).
_MAY_FOLLOW: Final = {
    INIT: {HSHK, EXEC, FAULT, TERM},
    HSHK: {RDY, EXEC, FAULT, TERM},
    RDY: {HSHK, EXEC, PAUSE, FAULT, TERM},
    EXEC: {HSHK, PAUSE, FAULT, TERM},
    PAUSE: {HSHK, EXEC, FAULT, TERM},
    FAULT: {HSHK, EXEC, TERM},
    TERM: set(),
}

#: Changes that a watcher may ask for again; one that asks for older ones gets each run's present state instead.
_CHANGES_KEPT: Final = 4_096
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)
_REQUIRED: Final = {
    "run_name": str,
    "entry_point": str,
    "arguments": list,
    "environment": dict,
    "resources": dict,
    "artifacts": dict,
}
_OPTIONAL: Final = {"metadata": dict, "schedule": dict}
_LONGEST_NAME: Final = 120
_LONGEST_ID: Final = 200
_LEAST_MEMORY: Final = 256
_MOST_GPUS: Final = 8


class ConfigError(DaemonError):
    """A config that is not as clients in use send it; the message names the field."""


class StateError(DaemonError):
    """What was asked of a run cannot be done in the state in which it is."""


def new_ulid() -> str:
    """Return a fresh ULID: 48 bits of milliseconds, 80 random bits, in Crockford's base 32."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def parse_config(text: str) -> dict[str, Any]:
    """Return a submitted config, checked.

    Raises
    ------
    ConfigError
        It lacks a field, or has one of the wrong kind, or one that is not known.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"config_json is not JSON: {error}"
        raise ConfigError(msg) from error
    if not isinstance(config, dict):
        msg = f"config_json is a {type(config).__name__}, not an object"
        raise ConfigError(msg)
    for name, kind in _REQUIRED.items():
        if name not in config:
            msg = f"config_json lacks {name!r}; required are {', '.join(_REQUIRED)}"
            raise ConfigError(msg)
        _expect(config, name, kind)
    for name, kind in _OPTIONAL.items():
        if name in config:
            _expect(config, name, kind)
    unknown = config.keys() - _REQUIRED.keys() - _OPTIONAL.keys()
    if unknown:
        msg = f"config_json has unknown keys {sorted(unknown)}"
        raise ConfigError(msg)
    _check_values(config)
    return config


def _expect(config: dict[str, Any], name: str, kind: type) -> None:
    if not isinstance(config[name], kind):
        msg = f"config_json.{name} is a {type(config[name]).__name__}, not a {kind.__name__}"
        raise ConfigError(msg)


def _check_values(config: dict[str, Any]) -> None:
    resources = config["resources"]
    gpus = resources.get("gpus") or {}
    checks = (
        (1 <= len(config["run_name"]) <= _LONGEST_NAME, f"run_name must have 1 to {_LONGEST_NAME} characters"),
        (all(isinstance(a, str) for a in config["arguments"]), "arguments must be strings"),
        (all(isinstance(v, str) for v in config["environment"].values()), "environment must map to strings"),
        (_at_least(resources.get("cpus"), 1), "resources.cpus must be 1 or more"),
        (_at_least(resources.get("memory_mb"), _LEAST_MEMORY), f"resources.memory_mb must be {_LEAST_MEMORY} or more"),
        (isinstance(gpus, dict) and _within(gpus.get("requested", 0)), f"resources.gpus.requested: 0 to {_MOST_GPUS}"),
    )
    for fine, complaint in checks:
        if not fine:
            msg = f"config_json: {complaint}"
            raise ConfigError(msg)


def _at_least(value: object, least: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least


def _within(value: object) -> bool:
    return _at_least(value, 0) and value <= _MOST_GPUS  # type: ignore[operator]


def digest_of(config: dict[str, Any]) -> str:
    """Return SHA-256 over the canonical JSON of a config."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _ulid_in(config: dict[str, Any]) -> str:
    at: Any = config
    for name in ("metadata", "worker", "config", "run_id"):
        at = at.get(name) if isinstance(at, dict) else None
    return at if isinstance(at, str) and _ULID.fullmatch(at) else ""


class Registry:
    """The runs, in memory and in the log, and their watchers. Lives on the daemon's event loop."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._runs: dict[str, RunRow] = {}
        self._by_digest: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._seq = 0
        self._changes: collections.deque[RunRow] = collections.deque(maxlen=_CHANGES_KEPT)
        self._changed = asyncio.Event()
        self._submitting = asyncio.Lock()

    async def load(self) -> None:
        """Take the runs of earlier lives out of the log."""
        for run in await self._log.runs():
            self._runs[run.run_id] = run
            if run.digest:
                self._by_digest[run.digest] = run.run_id
            self._seq = max(self._seq, run.record_seq)

    def get(self, run_id: str) -> RunRow:
        """Return a run.

        Raises
        ------
        RunNotFoundError
            There is none of that id.
        """
        run = self._runs.get(run_id)
        if run is None:
            msg = f"no run {run_id!r} here ({len(self._runs)} others); submit it first"
            raise RunNotFoundError(msg)
        return run

    def list(self, statuses: Container[int] = ()) -> list[RunRow]:
        """Return the runs in one of `statuses` (all when that is empty), oldest first."""
        return [run for run in self._runs.values() if not statuses or run.status in statuses]

    async def submit(self, run_id: str, config_json: str) -> RunRow:
        """Make a run of a client's config, or return the one that the same config made before."""
        config = parse_config(config_json)
        digest = digest_of(config)
        async with self._submitting:
            held = self._by_digest.get(digest)
            if held is not None:
                return self._runs[held]
            run_id = run_id or _ulid_in(config) or new_ulid()
            if run_id in self._runs:
                msg = f"run {run_id!r} exists, with another config; leave run_id empty, or cancel that run"
                raise StateError(msg)
            return await self._make(run_id, digest, config_json)

    async def open(self, run_id: str, config_json: str) -> tuple[RunRow, bool]:
        """Make a run for a worker that someone else starts; return it, and whether it is new."""
        async with self._submitting:
            held = self._runs.get(run_id) if run_id else None
            if held is None:
                return await self._make(run_id or new_ulid(), "", config_json), True
        if held.status == TERM:
            msg = f"run {run_id!r} has ended; give the new one another id, or none"
            raise StateError(msg)
        return held, False

    async def _make(self, run_id: str, digest: str, config_json: str) -> RunRow:
        if len(run_id) > _LONGEST_ID:
            msg = f"run_id has {len(run_id)} characters; at most {_LONGEST_ID} make a name"
            raise ConfigError(msg)
        now = time.time_ns()
        run = RunRow(run_id, INIT, now, now, digest, config_json)
        if digest:
            self._by_digest[digest] = run_id
        return await self._put(run)

    async def register(self, run_id: str, worker_id: str) -> str:
        """Take a worker's handshake; return its session token."""
        run = self.get(run_id)
        if run.status == TERM:
            msg = f"run {run_id!r} has ended; a worker cannot join it"
            raise StateError(msg)
        if run.status in {INIT, HSHK, RDY, FAULT}:
            await self._go(run_id, HSHK)
            await self._go(run_id, RDY)
        _LOG.info("worker %r joined run %s", worker_id, run_id)
        token = self._tokens[run_id] = secrets.token_urlsafe(24)
        return token

    def registered(self, run_id: str) -> bool:
        """Whether a worker has shaken hands for the run in this life of the daemon."""
        return run_id in self._tokens

    async def started(self, run_id: str) -> None:
        """Note that steps come in."""
        if self.get(run_id).status in {INIT, HSHK, RDY, FAULT}:
            await self._go(run_id, EXEC)

    async def heartbeat(self, run_id: str) -> None:
        """Note a sign of life."""
        await self._put(dataclasses.replace(self.get(run_id), last_heartbeat=time.time_ns()), quiet=True)

    async def end(self, run_id: str, reason: str = "") -> None:
        """End a run; the first end stands."""
        if self.get(run_id).status != TERM:
            await self._go(run_id, TERM, reason)

    async def _go(self, run_id: str, status: int, reason: str = "") -> None:
        run = self.get(run_id)
        if run.status == status:
            return
        if status not in _MAY_FOLLOW[run.status]:
            name = trainer_pb2.RunStatus.Name
            msg = f"run {run_id!r} cannot go from {name(run.status)} to {name(status)}"
            raise StateError(msg)
        await self._put(dataclasses.replace(run, status=status, failure_reason=reason, updated_at=time.time_ns()))

    async def _put(self, run: RunRow, *, quiet: bool = False) -> RunRow:
        """Keep a run's new row; `quiet` ones are no change that watchers hear of."""
        if not quiet:
            self._seq += 1
            run = dataclasses.replace(run, record_seq=self._seq)
        # Memory first, so that two changes of one run in one moment see each other; watchers hear after the commit.
        self._runs[run.run_id] = run
        await self._log.put_run(run)
        if not quiet:
            self._changes.append(run)
            self._changed.set()
            self._changed = asyncio.Event()
            _LOG.info("run %s is %s %s", run.run_id, trainer_pb2.RunStatus.Name(run.status), run.failure_reason)
        return run

    async def watch(self, since_seq: int) -> AsyncIterator[tuple[RunRow, int]]:
        """Yield runs with their sequence number: all as they are (numbered 0) or the changes after `since_seq`; never ends."""
        at = since_seq
        if since_seq == 0:
            at = self._seq
            for run in list(self._runs.values()):
                yield run, 0
        while True:
            changed = self._changed
            if self._changes and self._changes[0].record_seq <= at + 1:
                later = [run for run in self._changes if run.record_seq > at]
            else:
                later = sorted((r for r in self._runs.values() if r.record_seq > at), key=lambda r: r.record_seq)
            for run in later:
                at = max(at, run.record_seq)
                yield run, run.record_seq
            if not later:
                await changed.wait()
