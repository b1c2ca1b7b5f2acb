"""Normalisation: what comes in becomes typed columns, and what is wrong with it is counted, never raised."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from live_telemetry_widget import normalize
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.schema import EPISODES, JSON_KIND, STEPS

if TYPE_CHECKING:
    import pyarrow as pa


def step(**more: Any) -> dict[str, Any]:
    return {"type": "step", "episode": 3, "step_index": 0, "agent_id": "a", "reward": 0.5, **more}


def kinds(batch: normalize.Batch) -> list[str]:
    return [problem.kind for problem in batch.problems]


def further(batch: pa.RecordBatch) -> dict[str, str]:
    return {field.name: str(field.type) for field in batch.schema if field.name not in STEPS.names}


def test_further_fields_become_columns_of_their_own_type() -> None:
    event = step(q_before=0.25, state=7, ok=True, note="hi", values=[1, 2.5], nested={"a": 1})
    batch, problems = normalize.steps_from_events([event, step(step_index=1)])
    assert not problems
    assert further(batch) == {
        "q_before": "double",
        "state": "int64",
        "ok": "bool",
        "note": "string",
        "values": "list<item: double>",
        "nested": "string",
    }
    assert batch.schema.field("nested").metadata == JSON_KIND
    assert batch.column("nested").to_pylist() == ['{"a":1}', None]


def test_a_further_field_named_like_a_core_column_is_set_apart() -> None:
    message = trainer_pb2.RunStep(run_id="r", extras_json='{"reward": "huge", "seq_id": 3}')
    batch, _ = normalize.steps_from_messages([message])
    assert further(batch) == {"extra_reward": "string", "extra_seq_id": "int64"}
    again = normalize.step_messages(batch)[0]
    assert json.loads(again.extras_json) == {"reward": "huge", "seq_id": 3}


def test_a_column_whose_values_share_no_type_keeps_each_value_as_json() -> None:
    batch, _ = normalize.steps_from_events([step(x=1), step(step_index=1, x="one"), step(step_index=2, x=None)])
    assert batch.column("x").to_pylist() == ["1", '"one"', None]
    extras = [message.extras_json for message in normalize.step_messages(batch)]
    assert extras == ['{"x":1}', '{"x":"one"}', ""]


def test_an_integer_that_a_double_would_round_is_not_put_into_one() -> None:
    batch, _ = normalize.steps_from_events([step(x=2**60 + 1), step(step_index=1, x=0.5)])
    assert batch.column("x").to_pylist() == [str(2**60 + 1), "0.5"]


def test_ten_thousand_fields_are_kept_and_counted() -> None:
    event = step(**{f"f{i}": i for i in range(10_000)})
    batch, problems = normalize.steps_from_events([event])
    assert [p.kind for p in problems] == ["too_many_fields"]
    assert batch.num_columns < 400
    assert json.loads(normalize.step_messages(batch)[0].extras_json) == {f"f{i}": i for i in range(10_000)}


@pytest.mark.parametrize("index", [-1, None, 1.5, "3", True, 2**63])
def test_a_step_without_a_counting_number_is_left_out_and_counted_with_its_text(index: object) -> None:
    bad = step()
    bad["step_index"] = index
    batch = normalize.steps_from_events([step(), bad])
    assert batch.batch.num_rows == 1
    assert kinds(batch) == ["bad_index"]
    assert '"reward":0.5' in batch.problems[0].raw


def test_indices_beyond_63_bits_on_the_wire_are_left_out_and_counted() -> None:
    messages = [trainer_pb2.RunStep(run_id="r", step_index=2**63), trainer_pb2.RunStep(run_id="r", step_index=5)]
    batch = normalize.steps_from_messages(messages)
    assert batch.batch.column("step_index").to_pylist() == [5]
    assert kinds(batch) == ["index_out_of_range"]


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite_are_kept_and_counted(reward: float) -> None:
    batch = normalize.steps_from_messages([trainer_pb2.RunStep(run_id="r", reward=reward)])
    assert str(batch.batch.column("reward").to_pylist()[0]) == str(reward)
    assert kinds(batch) == ["not_finite"]


@pytest.mark.parametrize("reward", ["lots", None, [1], {}, 10**400])
def test_a_reward_that_is_no_number_is_nan_and_counted(reward: object) -> None:
    batch = normalize.steps_from_events([step(reward=reward)])
    assert math.isnan(batch.batch.column("reward").to_pylist()[0])
    assert kinds(batch) == ["bad_number"]


@pytest.mark.parametrize("text", ["{", "[1]", "17", '"x"', "{}{}", "{},{}", "[" * 100_000])
def test_broken_extras_leave_the_step_standing(text: str) -> None:
    messages = [
        trainer_pb2.RunStep(run_id="r", reward=1.0, extras_json=text),
        trainer_pb2.RunStep(run_id="r", step_index=1, extras_json='{"x": 1}'),
    ]
    batch = normalize.steps_from_messages(messages)
    assert batch.batch.column("reward").to_pylist() == [1.0, 0.0]
    assert batch.batch.column("x").to_pylist() == [None, 1]
    assert kinds(batch) == ["bad_json"]
    assert len(batch.problems[0].raw) <= 500


def test_lone_surrogates_are_replaced_and_counted() -> None:
    event = json.loads(
        '{"type": "step", "episode": 0, "step_index": 0, "reward": 0, "note": "\\ud800", "frame_ref": "\\udfff"}'
    )
    batch = normalize.steps_from_events([event])
    assert batch.batch.column("note").to_pylist() == ["?"]
    assert batch.batch.column("frame_ref").to_pylist() == ["?"]
    assert set(kinds(batch)) == {"bad_text"}


def test_seed_zero_is_told_from_no_seed() -> None:
    messages = [trainer_pb2.RunStep(run_id="r", episode_seed=0), trainer_pb2.RunStep(run_id="r", step_index=1)]
    assert normalize.steps_from_messages(messages).batch.column("episode_seed").to_pylist() == [0, None]


def test_wire_messages_come_back_byte_for_byte() -> None:
    message = trainer_pb2.RunStep(
        run_id="r",
        episode_index=2**62,
        step_index=7,
        action_json="[0.10, 2]",
        observation_json=' {"spaced" : 1}',
        reward=-0.1,
        terminated=True,
        policy_label="p",
        backend="b",
        seq_id=2**64 - 1,
        agent_id="ä",
        render_hint_json="{}",
        frame_ref="f",
        payload_version=3,
        render_payload_json="not json at all",
        episode_seed=2**64 - 1,
        worker_id="w",
    )
    message.timestamp.FromNanoseconds(1_795_457_970_231_010_970)
    bare = trainer_pb2.RunStep(run_id="r", step_index=8)
    batch, problems = normalize.steps_from_messages([message, bare])
    assert not problems
    again = normalize.step_messages(batch)
    assert [m.SerializeToString(deterministic=True) for m in again] == [
        m.SerializeToString(deterministic=True) for m in (message, bare)
    ]


def test_an_episode_event_may_say_reward_for_total_reward() -> None:
    event = {"type": "episode", "episode": 4, "agent_id": "a", "reward": 2.5, "steps": 9, "success": True}
    batch, _ = normalize.episodes_from_events([event], run_id="mine")
    assert batch.select(["run_id", "episode", "total_reward", "steps", "success"]).to_pylist() == [
        {"run_id": "mine", "episode": 4, "total_reward": 2.5, "steps": 9, "success": True}
    ]


@pytest.mark.parametrize("index_on_the_wire", [0, 3])
def test_episodes_are_numbered_as_their_steps_are_whichever_number_the_proxy_sent(index_on_the_wire: int) -> None:
    metadata = json.dumps({"seed": 3, "episode_index": 0, "episode": 3, "game_id": "FrozenLake-v1"})
    message = trainer_pb2.RunEpisode(run_id="r", episode_index=index_on_the_wire, metadata_json=metadata)
    aligned, problems = normalize.align_episodes(normalize.episodes_from_messages([message]).batch)
    assert not problems
    row = aligned.select(["episode", "episode_index", "game_id", "seed"]).to_pylist()[0]
    assert row == {"episode": 3, "episode_index": 0, "game_id": "FrozenLake-v1", "seed": 3}


def test_without_metadata_an_episode_keeps_its_number() -> None:
    message = trainer_pb2.RunEpisode(run_id="r", episode_index=5)
    aligned, _ = normalize.align_episodes(normalize.episodes_from_messages([message]).batch)
    assert aligned.column("episode").to_pylist() == [5]


def test_broken_metadata_is_counted_and_kept_raw() -> None:
    message = trainer_pb2.RunEpisode(run_id="r", metadata_json="{oops")
    aligned, problems = normalize.align_episodes(normalize.episodes_from_messages([message]).batch)
    assert [p.kind for p in problems] == ["bad_json"]
    assert aligned.column("metadata").to_pylist() == ["{oops"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"{",
        b"[]",
        b"{}",
        b'{"type": 3}',
        b'{"type": "metric"}',
        b'{"type": []}',
        b"\xff\xfe{",
        b"{" * 9_999,
    ],
)
def test_lines_that_are_no_events_are_told_apart(line: bytes) -> None:
    assert normalize.parse_line(line) is None


def test_no_rows_make_an_empty_batch_of_the_core_columns() -> None:
    assert normalize.steps_from_messages([]).batch.schema.equals(STEPS)
    assert normalize.episodes_from_events([]).batch.schema.equals(EPISODES)
    assert normalize.step_messages(normalize.steps_from_messages([]).batch) == []


def test_a_payload_version_of_zero_is_none_as_on_the_wire() -> None:
    batch, _ = normalize.steps_from_events([step(payload_version=0)])
    assert batch.column("payload_version").to_pylist() == [None]


def test_a_field_whose_name_is_no_text_takes_no_row_with_it() -> None:
    message = trainer_pb2.RunStep(run_id="r", extras_json='{"\\ud800": 1, "\\udc00": 2, "?": 3}')
    batch, problems = normalize.steps_from_messages([message, trainer_pb2.RunStep(run_id="r", step_index=1)])
    assert batch.num_rows == 2
    assert {name: batch.column(name)[0].as_py() for name in ("?", "?_2", "?_3")} == {"?": 1, "?_2": 2, "?_3": 3}
    assert [p.kind for p in problems] == ["bad_text", "bad_text"]
    many = {f"\ud800{i}": i for i in range(300)}
    batch, problems = normalize.steps_from_events([{"episode": 0, "step_index": 0, "reward": 0.0, **many}])
    assert batch.num_rows == 1
    assert {p.kind for p in problems} == {"bad_text", "too_many_fields"}


def test_no_two_further_fields_share_a_column() -> None:
    fields = {"timestamp": 1, "extra_timestamp": 2, "extra_extra_timestamp": 3, "extra_fields": 4, "extra_other": 5}
    batch, problems = normalize.steps_from_events([{"episode": 0, "step_index": 0, "reward": 0.0, **fields}])
    assert not problems
    assert len(set(batch.schema.names)) == len(batch.schema.names)
    (message,) = normalize.step_messages(batch)
    assert json.loads(message.extras_json) == fields
    again = normalize.steps_from_messages([message]).batch
    assert again.schema.names == batch.schema.names


def test_numpy_values_are_numbers() -> None:
    event = {"episode": np.int64(3), "step_index": np.int32(1), "reward": np.float32(0.5), "episode_seed": np.uint64(9)}
    more = {
        "action": np.int64(2),
        "observation": np.array([1.5, 2.5]),
        "epsilon": np.float64(0.25),
        "mask": np.array([1, 0]),
    }
    batch, problems = normalize.steps_from_events([{**event, **more}])
    assert not problems
    (row,) = batch.to_pylist()
    assert (row["episode"], row["step_index"], row["reward"], row["episode_seed"]) == (3, 1, 0.5, 9)
    assert (row["action"], row["observation"], row["epsilon"], row["mask"]) == ("2", "[1.5,2.5]", 0.25, [1, 0])
