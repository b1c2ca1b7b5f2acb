"""Normalisation takes anything: nothing raises, and every row is either kept or counted."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live_telemetry_widget import normalize
from live_telemetry_widget.proto import trainer_pb2

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(st.characters(exclude_categories=()), max_size=12)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        "episode", "step_index", "agent_id", "worker_id", "reward", "total_reward", "steps", "terminated", "truncated",
        "observation", "action", "render_payload", "episode_seed", "payload_version", "metadata", "ts_unix_ns", "run_id",
        "epsilon", "state", "frame_ref", "seq_id", "x", "",
    ]
)  # fmt: skip
EVENTS = st.lists(
    st.dictionaries(NAMES, JSON, max_size=10).map(lambda more: {"episode": 1, "step_index": 2, "reward": 0.0, **more}),
    max_size=5,
)
COUNTED = {"bad_index"}


@settings(max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS)
def test_events_of_any_kind_are_kept_or_counted_and_survive_the_wire(events: list[dict[str, object]]) -> None:
    batch, problems = normalize.steps_from_events(events, run_id="r")
    left_out = sum(p.count for p in problems if p.kind in COUNTED)
    assert batch.num_rows + left_out == len(events)
    again, more = normalize.steps_from_messages(normalize.step_messages(batch))
    assert {p.kind for p in more} <= {"not_finite", "integer_too_large", "bad_timestamp"}
    core = [name for name in batch.schema.names if name in again.schema.names]
    assert repr(again.select(core).to_pylist()) == repr(batch.select(core).to_pylist())

    episodes, problems = normalize.episodes_from_events(events, run_id="r")
    left_out = sum(p.count for p in problems if p.kind in COUNTED)
    assert episodes.num_rows + left_out == len(events)
    aligned, _ = normalize.align_episodes(episodes)
    assert aligned.num_rows == episodes.num_rows
    normalize.episode_messages(episodes)


@settings(max_examples=1_000, deadline=None)
@given(
    st.lists(
        st.builds(
            trainer_pb2.RunStep,
            run_id=st.text(max_size=4),
            episode_index=st.integers(0, 2**64 - 1),
            step_index=st.integers(0, 2**64 - 1),
            reward=st.floats(),
            action_json=st.text(max_size=8),
            extras_json=st.text(max_size=8) | JSON.map(json.dumps),
            episode_seed=st.integers(0, 2**64 - 1),
            payload_version=st.integers(0, 2**32 - 1),
        ),
        max_size=4,
    )
)
def test_messages_of_any_kind_are_kept_or_counted(messages: list[trainer_pb2.RunStep]) -> None:
    batch, problems = normalize.steps_from_messages(messages)
    left_out = sum(p.count for p in problems if p.kind == "index_out_of_range")
    assert batch.num_rows + left_out == len(messages)
    kept = [m for m in messages if m.episode_index < 2**63 and m.step_index < 2**63]
    for message, again in zip(kept, normalize.step_messages(batch), strict=True):
        message.ClearField("extras_json")
        again.ClearField("extras_json")
        assert message.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)


@settings(max_examples=1_000, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | JSON.map(lambda v: json.dumps(v).encode()))
def test_lines_of_any_kind_are_events_or_none(line: bytes) -> None:
    event = normalize.parse_line(line)
    assert event is None or event["type"] in normalize.EVENT_TYPES
