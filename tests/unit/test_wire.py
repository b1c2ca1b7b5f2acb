"""Our extension of the wire is invisible to who does not know it."""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

from live_telemetry_widget import normalize
from live_telemetry_widget.proto import trainer_pb2

OURS = {"extras_json"}
GENERATION_2 = {"render_payload_json", "episode_seed", "worker_id"}


def as_others_have_it(without: set[str]) -> type:
    """Return the RunStep class of a daemon whose .proto lacks some fields."""
    file = descriptor_pb2.FileDescriptorProto()
    trainer_pb2.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        kept = [field for field in message.field if field.name not in without]
        if message.name == "RunStep" and "episode_seed" in without:
            del message.oneof_decl[:]
        del message.field[:]
        message.field.extend(kept)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gymgui.trainer.RunStep"))


def test_further_fields_pass_through_daemons_that_do_not_know_them() -> None:
    event = {
        "episode": 1,
        "step_index": 2,
        "reward": 0.5,
        "q_before": 0.25,
        "epsilon": 0.9,
        "episode_seed": 7,
        "worker_id": "w",
    }
    (message,) = normalize.step_messages(normalize.steps_from_events([event], run_id="r").batch)
    for without in (OURS, OURS | GENERATION_2):
        theirs = as_others_have_it(without)()
        theirs.ParseFromString(message.SerializeToString())
        assert theirs.reward == 0.5
        theirs.seq_id = 99  # a relaying daemon numbers the message
        again = trainer_pb2.RunStep.FromString(theirs.SerializeToString())
        assert again.seq_id == 99
        batch, problems = normalize.steps_from_messages([again])
        assert not problems
        assert (batch["q_before"].to_pylist(), batch["epsilon"].to_pylist()) == ([0.25], [0.9])


def test_bytes_of_the_known_fields_are_those_of_a_proto_without_ours() -> None:
    theirs = as_others_have_it(OURS)(
        run_id="r", episode_index=3, step_index=4, action_json="1", reward=1.0, episode_seed=5, worker_id="w", seq_id=6
    )
    ours = trainer_pb2.RunStep(
        run_id="r", episode_index=3, step_index=4, action_json="1", reward=1.0, episode_seed=5, worker_id="w", seq_id=6
    )
    assert theirs.SerializeToString(deterministic=True) == ours.SerializeToString(deterministic=True)
