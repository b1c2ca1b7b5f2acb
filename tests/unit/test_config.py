"""What a training loop says of itself is JSON, or refused where it is said."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

import gymnasium
import numpy as np
import pytest

import live_telemetry_widget as ltw
from live_telemetry_widget.gymnasium import RecordTelemetry
from live_telemetry_widget.schema import RunState
from live_telemetry_widget.worker.config import as_json

LOOP: dict[str, Any] = {}
LOOP["again"] = [LOOP]

GOOD = [
    ({"lr": np.float32(0.5), "n": np.int64(3), "on": np.True_}, {"lr": 0.5, "n": 3, "on": True}),
    ({"sizes": np.array([[64, 32]]), "pair": (1, None)}, {"sizes": [[64, 32]], "pair": [1, None]}),
    ({"state": RunState.FAILED, 3: {np.int64(4): "x"}}, {"state": "failed", "3": {"4": "x"}}),
    ({"clip": [math.inf, -math.inf, math.nan]}, {"clip": ["Infinity", "-Infinity", "NaN"]}),
    ({"low": np.array([-np.inf, 1.0])}, {"low": ["-Infinity", 1.0]}),
    ({}, {}),
]
BAD = [
    ({"out": pathlib.PurePosixPath("x")}, r"config['out'] is PurePosixPath('x'), a PurePosixPath, for which JSON has no word; give a text of it"),
    ({"net": {"layers": [1, object]}}, "config['net']['layers'][1] is <class 'object'>, a type"),
    ({"when": np.datetime64("2026-01-01")}, ", a datetime64, for which JSON has no word"),
    ({"when": np.datetime64("2026-01-01", "ns")}, ", a datetime64, for which"),
    ({"a": {1: "x", "1": "y"}}, "config['a'] has keys that are one text in JSON, like 1 and '1', among [1, '1']; rename them"),
    ({"z": np.complex64(1j)}, "config['z'] is 1j, a complex"),
    ({"tags": {"a"}}, "config['tags'] is {'a'}, a set"),
    ({(1, 2): 3}, "config has the key (1, 2), a tuple; JSON's keys are texts"),
    (LOOP, "nested deeper than 100 levels, or holds itself"),
    ([1], "config is [1], a list; give a dict"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "want"), GOOD)
def test_numpys_values_are_plain_json(given: dict[Any, Any], want: dict[str, Any]) -> None:
    found = as_json(given)
    assert found == want
    assert json.loads(json.dumps(found, allow_nan=False)) == want


@pytest.mark.parametrize(("given", "why"), BAD)
def test_what_json_has_no_word_for_is_refused_by_its_name(given: Any, why: str) -> None:
    with pytest.raises(ltw.ConfigError) as raised:
        as_json(given)
    assert why in str(raised.value)


def test_an_emitter_refuses_it_before_anything_is_sent(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ltw.ConfigError, match=r"config\['model'\] is <object"):
        ltw.Emitter("127.0.0.1:1", config={"model": object()}, spool_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_so_do_the_wrappers(tmp_path: pathlib.Path) -> None:
    env = gymnasium.make("FrozenLake-v1")
    with pytest.raises(ltw.ConfigError, match="config is 3, a int; give a dict"):
        RecordTelemetry(env, "127.0.0.1:1", config=3, spool_dir=tmp_path)
    env.close()
