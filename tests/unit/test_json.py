"""JSON from the wire, which may be anything: no text moves into another's row, and none stops what reads a run."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from live_telemetry_widget import _json, decode, exchange, listing, normalize, query
from live_telemetry_widget.client import RunDetails
from live_telemetry_widget.exports import write_lines
from live_telemetry_widget.feed import Link, RunFeed
from live_telemetry_widget.frames import RunFrames
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.store import RunRow
from live_telemetry_widget.view import layers_question

if TYPE_CHECKING:
    import pathlib

DEEP = "[" * 60_000
#: As deep as a parser may just go, or just not.
NESTED = ["[" * n + "]" * n for n in (100, 400, 700, 900, 950, 980)]


def steps(**columns: list[str]) -> normalize.Batch:
    count = len(next(iter(columns.values())))
    messages = [
        trainer_pb2.RunStep(run_id="r", step_index=i, **{name: texts[i] for name, texts in columns.items()})
        for i in range(count)
    ]
    return normalize.steps_from_messages(messages)


def frames_of(batch: normalize.Batch) -> RunFrames:
    made = RunFrames("r")
    made.append_steps(batch.batch)
    return made


@pytest.mark.parametrize(
    "texts",
    [
        ['{"loss":1},{"loss":99}', '{"loss":[{}', "{}]}", '{"loss":4}'],
        ['{"loss":[{}', "{}]}", '{"loss":1},{"loss":99}', '{"loss":4}'],
        ['{"a":"', '"}', '{"loss":1},{"loss":2}', '{"loss":4}'],
        ["{}],[{}", "{}", "{}", '{"loss":4}'],
    ],
)
def test_no_text_of_one_row_ends_in_another(texts: list[str]) -> None:
    found = steps(extras_json=texts)
    assert found.batch.column("loss").to_pylist() == [None, None, None, 4]
    assert {p.kind for p in found.problems} == {"bad_json"}
    frame = decode.StepFrame({"observation": texts})
    assert frame.observations("objects").tolist() == [_json.read(text) for text in texts]


def test_texts_that_are_json_are_read_in_one_go() -> None:
    texts = ['{"a": 1}', "[]", " 2 ", '"x"', "null", "1e3"]
    assert _json.parse_all(texts) == [json.loads(text) for text in texts]
    assert _json.parse_all(["1"]) == [1]
    assert _json.parse_all(["1", ""]) is None


@pytest.mark.parametrize("text", [DEEP, *NESTED, "9" * 5_000, '{"a":' * 60_000])
def test_what_no_parser_reads_stays_text_and_stops_nobody(text: str, tmp_path: pathlib.Path) -> None:
    found = steps(action_json=[text, "2"], observation_json=[text, "1"], render_payload_json=[text, "null"])
    run = frames_of(found)
    assert run.steps()["action"].tolist() == [text, "2"]
    assert list(run.steps().action_names) == [text, "2"]
    assert len(run.steps().obs) == len(run.steps().observations("objects")) == 2
    table = run.steps_table()
    assert query.compile("action == 2", table.schema).filter(table)["step_index"].to_pylist() == [1]
    written = exchange.export(run, RunRow("r", 7, config_json=text), tmp_path / "r.jsonl")
    lines = [json.loads(line) for line in written.paths[0].read_text(encoding="utf-8").splitlines()]
    assert [line["type"] for line in lines] == ["run_started", "step", "step"]
    assert lines[1]["action"] in (text, _json.read(text))
    feed = RunFeed("r", Link("live"))
    feed.details = RunDetails(text, 0, 0, ended=True)
    assert feed.config == {}
    assert listing._config_text(feed.details)
    assert layers_question.by_action(text) == {}


@pytest.mark.parametrize("text", NESTED)
def test_infinite_numbers_beside_deep_texts_are_written(text: str) -> None:
    found = steps(extras_json=['{"loss": Infinity}'], observation_json=[text])
    out = io.StringIO()
    write_lines(exchange.InMemory(frames_of(found)), RunRow("r", 7), out)
    assert json.loads(out.getvalue().splitlines()[1])["observation"] in (text, _json.read(text))


@pytest.mark.parametrize("text", ["²", "٣", "9" * 5_000])
def test_digits_that_are_no_number_are_no_action(text: str) -> None:
    frame = decode.StepFrame({"action": [text, "1"]})
    frame.attrs["game"] = "FrozenLake"
    assert frame.action_names.tolist() == [text, "down"]


def test_integers_beyond_all_floats_are_no_value_of_an_action() -> None:
    assert layers_question.by_action(f"[{'9' * 400}, 0.5, NaN, Infinity]") == {1: 0.5}
