"""What a training loop says of itself, as JSON: checked where it is said, not where it arrives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from live_telemetry_widget.errors import ConfigError

#: So deep may lists and objects be in one another; who needs more has one that holds itself.
_DEEPEST: Final = 100


def as_json(config: object) -> dict[str, Any]:
    """Return a config with nothing in it but what JSON has: NumPy's numbers and arrays as numbers and lists.

    Infinite numbers and NaN, for which JSON has no word, become a text, as in the files of a run.

    Raises
    ------
    ConfigError
        It is no mapping, or holds something else; the message says at which key, and what to do.

    Examples
    --------
    >>> import numpy as np
    >>> as_json({"gamma": np.float32(0.5), "layers": (np.int64(64), 64), "clip": float("inf")})
    {'gamma': 0.5, 'layers': [64, 64], 'clip': 'Infinity'}
    >>> as_json({"model": {"activation": max}})
    Traceback (most recent call last):
    ...
    live_telemetry_widget.errors.ConfigError: config['model']['activation'] is <built-in function max>, a builtin_function_or_method, for which JSON has no word; give a text of it, a number, a list or a dict
    """
    if not isinstance(config, Mapping):
        msg = f"config is {config!r:.100}, a {type(config).__name__}; give a dict, like {{'gamma': 0.99}}"
        raise ConfigError(msg)
    found: dict[str, Any] = _value(config, "config", 0)
    return found


def _value(value: Any, where: str, depth: int) -> Any:  # noqa: ANN401 - whatever a config holds
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, int)):
        # Of a class of its own (an enumeration's) it is what it is worth.
        return str.__str__(value) if isinstance(value, str) else int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _word(value)
    if depth > _DEEPEST:
        msg = f"{where[:200]} ... is nested deeper than {_DEEPEST} levels, or holds itself; give less of it"
        raise ConfigError(msg)
    if isinstance(value, Mapping):
        found = {_key(key, where): _value(held, f"{where}[{key!r}]", depth + 1) for key, held in value.items()}
        if len(found) < len(value):
            msg = f"{where} has keys that are one text in JSON, like 1 and '1', among {list(value)!r:.100}; rename them"
            raise ConfigError(msg)
        return found
    if isinstance(value, (list, tuple)):
        return [_value(held, f"{where}[{place}]", depth + 1) for place, held in enumerate(value)]
    plain = _from_array(value)
    if plain is not value:
        return _value(plain, where, depth + 1)
    kind = type(value).__name__
    msg = f"{where} is {value!r:.100}, a {kind}, for which JSON has no word; give a text of it, a number, a list or a dict"
    raise ConfigError(msg)


def _from_array(value: Any) -> Any:  # noqa: ANN401 - as above
    """Return a NumPy scalar or array, or a tensor of anybody's, as Python's own; anything else as it is."""
    tolist = getattr(value, "tolist", None)
    # A time would be a bare number, in whatever unit.
    if not callable(tolist) or isinstance(value, type) or getattr(getattr(value, "dtype", None), "kind", "-") in "mM":
        return value
    try:
        return tolist()
    except Exception:  # noqa: BLE001 - a tensor that is on no machine, for one: it is refused by its name
        return value


def _key(key: object, where: str) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    plain = _from_array(key)
    if plain is None or isinstance(plain, (bool, int, float)):
        return str(plain)
    msg = f"{where} has the key {key!r:.100}, a {type(key).__name__}; JSON's keys are texts: give str(...) of it"
    raise ConfigError(msg)


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
