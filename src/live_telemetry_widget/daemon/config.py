"""The config of a submitted run, as clients in use send it: checked, digested, and the run id that it may name."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from live_telemetry_widget._ulid import new_ulid
from live_telemetry_widget.daemon.refusal import invalid

_REQUIRED: Final = {
    "run_name": str,
    "entry_point": str,
    "arguments": list,
    "environment": dict,
    "resources": dict,
    "artifacts": dict,
}
_OPTIONAL: Final = {"metadata": dict, "schedule": dict}
_WORDS: Final = {str: "a string", list: "a list", dict: "an object", bool: "true or false"}
_LONGEST_NAME: Final = 120
_LONGEST_ID: Final = 200
_LEAST_MEMORY: Final = 256
_MOST_GPUS: Final = 8
_WORKERS_OWN: Final = ("metadata", "worker", "config")
_ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)


def check_run_id(run_id: str) -> str:
    """Return a run id that a client chose, if it is one to print and to type."""
    if not run_id or len(run_id) > _LONGEST_ID or not run_id.isprintable():
        msg = f"run_id {run_id[:50]!r} will not do; give 1 to {_LONGEST_ID} printable characters"
        raise invalid(msg)
    return run_id


def choose_run_id(run_id: str, config: dict[str, Any]) -> str:
    """Return the id of a new run: the one asked for, else the config's ULID, else a fresh one."""
    return check_run_id(run_id) if run_id else ulid_in(config) or new_ulid()


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object that a config is; an empty text is an empty one."""
    try:
        parsed = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        msg = f"config_json is not JSON: {error}"
        raise invalid(msg) from error
    if not isinstance(parsed, dict):
        msg = f"config_json is a JSON {type(parsed).__name__}, not an object"
        raise invalid(msg)
    return parsed


def parse_config(text: str) -> dict[str, Any]:
    """Return a submitted config.

    Raises
    ------
    RefusalError
        It lacks a field, has one of the wrong kind or one that is not known; the message says which and what it should be.
    """
    config = parse_object(text)
    missing = [name for name in _REQUIRED if name not in config]
    if missing:
        msg = f"config_json lacks {', '.join(missing)}; required are {', '.join(_REQUIRED)}"
        raise invalid(msg)
    unknown = sorted(config.keys() - _REQUIRED.keys() - _OPTIONAL.keys())
    if unknown:
        known = ", ".join([*_REQUIRED, *_OPTIONAL])
        msg = f"config_json has unknown keys {', '.join(unknown)}; known are {known}"
        raise invalid(msg)
    for name, kind in (_REQUIRED | _OPTIONAL).items():
        # A client that has no metadata may send null.
        if name in config and not (config[name] is None and name in _OPTIONAL):
            _need(isinstance(config[name], kind), name, _WORDS[kind], config[name])
    _check_values(config)
    return config


def _need(fine: bool, name: str, should: str, value: object) -> None:  # noqa: FBT001 - reads as a sentence where it is called
    if not fine:
        msg = f"config_json.{name} should be {should}, not {value!r:.100}"
        raise invalid(msg)


def _check_values(config: dict[str, Any]) -> None:
    name, arguments, environment = config["run_name"], config["arguments"], config["environment"]
    _need(1 <= len(name) <= _LONGEST_NAME, "run_name", f"1 to {_LONGEST_NAME} characters long", name)
    _need(bool(config["entry_point"]), "entry_point", "a command", config["entry_point"])
    _need(all(isinstance(item, str) for item in arguments), "arguments", "a list of strings", arguments)
    strings = all(isinstance(value, str) for value in environment.values())
    _need(strings, "environment", "an object of strings", environment)
    resources = config["resources"]
    cpus, memory, gpus = resources.get("cpus"), resources.get("memory_mb"), resources.get("gpus") or {}
    _need(_number(cpus) and cpus >= 1, "resources.cpus", "a number from 1", cpus)
    _need(_number(memory) and memory >= _LEAST_MEMORY, "resources.memory_mb", f"a number from {_LEAST_MEMORY}", memory)
    _need(isinstance(gpus, dict), "resources.gpus", "an object", gpus)
    requested, mandatory = gpus.get("requested", 0), gpus.get("mandatory", False)
    fine = type(requested) is int and 0 <= requested <= _MOST_GPUS
    _need(fine, "resources.gpus.requested", f"an integer from 0 to {_MOST_GPUS}", requested)
    _need(isinstance(mandatory, bool), "resources.gpus.mandatory", _WORDS[bool], mandatory)
    schedule = config.get("schedule") or {}
    for name in ("max_duration_seconds", "max_steps"):
        limit = schedule.get(name)
        _need(limit is None or (_number(limit) and limit > 0), f"schedule.{name}", "a number above 0", limit)
    # A command with a zero byte in it cannot be started, nor can a variable with "=" in its name be set.
    texts = [config["entry_point"], *arguments, *environment.values()]
    _need(not any("\0" in text for text in texts), "entry_point, arguments or environment", "free of zero bytes", texts)
    fine = all(name and not set(name) & {"=", "\0"} for name in environment)
    _need(fine, "environment", "an object of variables, none with '=' in its name", list(environment))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def digest_of(config: dict[str, Any]) -> str:
    """Return SHA-256 over the canonical JSON: keys sorted, no spaces.

    >>> digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})
    True
    """
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def worker_of(config: dict[str, Any], name: str) -> str:
    """Return a text of ``metadata.worker``, such as ``agent_id``, or an empty one."""
    worker = (config.get("metadata") or {}).get("worker")
    value = worker.get(name) if isinstance(worker, dict) else None
    return value if isinstance(value, str) else ""


def ulid_in(config: dict[str, Any]) -> str:
    """Return the ULID in ``metadata.worker.config.run_id``, or an empty string."""
    at: Any = config
    for name in ("metadata", "worker", "config", "run_id"):
        at = at.get(name) if isinstance(at, dict) else None
    return at if isinstance(at, str) and _ULID.fullmatch(at) else ""


def completed(config_json: str, given_json: str) -> str:
    """Return a run's config with what ``metadata.worker.config`` of another one adds to its own; the run's own words stand.

    >>> completed('{"metadata": {"worker": {"config": {"seed": 3}}}}', '{"metadata": {"worker": {"config": {"seed": 4, "episodes": 9}}}}')
    '{"metadata": {"worker": {"config": {"seed": 3, "episodes": 9}}}}'
    >>> completed("{}", '{"run_name": "other"}')
    '{}'
    """
    given: Any = parse_object(given_json)
    for name in _WORKERS_OWN:
        given = given.get(name) if isinstance(given, dict) else None
    config = parse_object(config_json)
    held: Any = config
    for name in _WORKERS_OWN:
        # A client that has no metadata may have sent null.
        if held.get(name) is None:
            held[name] = {}
        held = held[name]
        if not isinstance(held, dict):
            return config_json
    added = {name: value for name, value in given.items() if name not in held} if isinstance(given, dict) else {}
    held |= added
    return json.dumps(config) if added else config_json
