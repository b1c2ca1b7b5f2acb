"""Rows as a training thread puts them down, read column by column and one by one: the same batches, however they are cut."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from live_telemetry_widget.worker.encode import Encoder
from live_telemetry_widget.worker.episode_batches import EpisodeBatches
from live_telemetry_widget.worker.payloads import Board
from live_telemetry_widget.worker.records import NOTHING, WIDTH, Manner

if TYPE_CHECKING:
    from live_telemetry_widget.schema import Problem

BOARD = Board("FrozenLake-v1", "FrozenLake", ["SFFF", "FHFH", "FFFH", "HFFG"])
SHAPE = (3,)
NAMES = ("a", "b", "c")


def manners() -> list[Manner]:
    return [
        Manner(0, "a", leads=True, painter=BOARD, every=3),
        Manner(1, "b", array=("<f4", SHAPE), leads=True),
        Manner(2, "c", array=("<f8", SHAPE)),
    ]


def walk(rng: random.Random, number: int, steps: int) -> list[list[Any]]:
    """Return rows of an agent; its manner is the one of that number."""
    rows: list[list[Any]] = []

    def seen() -> Any:
        if number == 0:
            return rng.randrange(16)
        return np.array([rng.choice([0.5, -2.25, 3.5]) for _ in range(3)], "<f4" if number == 1 else "<f8").tobytes()

    begin = True
    for t in range(steps):
        if begin and number != 2:
            rows.append([None, {"episode_seed": t} if rng.random() < 0.5 else None, 0.0, seen(), False, False, number])
        begin = rng.random() < 0.2
        cut = not begin and rng.random() < 0.1
        rows.append([1_000 + t, rng.randrange(4), rng.choice([0.0, 0.5]), seen(), begin, cut, number])
        begin = begin or cut
    return rows


def flat(rows: list[list[Any]]) -> list[Any]:
    return [value for row in rows for value in row]


def told(parts: list[list[Any]], problems: list[Problem]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return what an encoder makes of rows that come in so many parts: by kind and agent."""
    encoder = Encoder("r", "w", "", count=problems.extend)
    encoder.encode([value for manner in manners() for value in (manner, *NOTHING)])
    found: dict[str, dict[str, list[dict[str, Any]]]] = {"steps": {}, "episodes": {}}
    for at, part in enumerate(parts):
        for kind, batch in encoder.encode(part, last=at == len(parts) - 1):
            for row in batch.to_pylist():
                plain = {name: value for name, value in row.items() if value is not None}
                # Numbers and lists in one batch have a column of texts.
                if isinstance(final := plain.get("final_observation"), str):
                    plain["final_observation"] = json.loads(final)
                found[kind].setdefault(row["agent_id"], []).append(plain)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_agents_together_are_told_as_each_alone(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - no secret
    walks = [walk(rng, number, 200) for number in range(len(NAMES))]
    problems: list[Problem] = []
    alone = [told([flat(rows)], problems) for rows in walks]
    mixed: list[list[Any]] = []
    waiting = [list(rows) for rows in walks]
    while any(waiting):
        source = rng.choice([rows for rows in waiting if rows])
        number = rng.randint(1, 20)
        mixed += source[:number]
        del source[:number]
    cuts = sorted(rng.sample(range(1, len(mixed)), 9))
    parts = [flat(mixed[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(mixed)], strict=True)]
    together = told(parts, problems)
    for number, name in enumerate(NAMES):
        for kind in ("steps", "episodes"):
            assert together[kind][name] == alone[number][kind][name]
    assert not problems


def test_an_observation_that_leads_is_told_with_the_step_that_it_answers() -> None:
    rows = flat(walk(random.Random(1), 0, 40))  # noqa: S311 - no secret
    steps = told([rows], [])["steps"]["a"]
    states = [rows[at + 3] for at in range(0, len(rows), WIDTH)]
    begins = [rows[at] is None for at in range(0, len(rows), WIDTH)]
    answered = [str(states[i]) for i in range(len(states) - 1) if not begins[i + 1]]
    led = [states[i] for i in range(len(states)) if not begins[i]]
    assert [step["observation"] for step in steps] == answered
    drawn = {i: json.loads(step["render_payload"]) for i, step in enumerate(steps) if "render_payload" in step}
    assert list(drawn) == list(range(0, len(steps), 3))
    assert all(payload["agent_position"] == list(divmod(led[i], 4)) for i, payload in drawn.items())


def test_an_array_is_told_as_short_as_its_type_allows_and_one_that_is_not_finite_too() -> None:
    values = [[0.1, 2.0, -3.5], [0.1, float("nan"), 1.0]]
    rows = flat([[1, 0, 0.0, np.array(value, "<f4").tobytes(), False, False, 1] for value in [*values, values[0]]])
    encoder = Encoder("r", "w", "", count=lambda _: None)
    encoder.encode([Manner(1, array=("<f4", SHAPE)), *NOTHING])
    ((_, batch),) = encoder.encode(rows[:WIDTH] + rows[2 * WIDTH :])
    assert batch.column("observation").to_pylist() == ["[0.1,2.0,-3.5]"] * 2
    ((_, batch),) = encoder.encode(rows)
    texts = batch.column("observation").to_pylist()
    assert "NaN" in texts[1]
    assert json.loads(texts[0]) == pytest.approx(values[0])


def test_records_of_episodes_are_the_same_at_once_and_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = flat(walk(random.Random(3), 0, 300))  # noqa: S311 - no secret
    at_once = told([rows], [])["episodes"]
    monkeypatch.setattr(EpisodeBatches, "_at_once", lambda *_: None)
    assert told([rows], [])["episodes"] == at_once
    assert len(at_once["a"]) > 20
    assert pa.types.is_integer(pa.array([row["final_observation"] for row in at_once["a"]]).type)
