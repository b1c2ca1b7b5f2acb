"""Clients and proxies that others wrote, as tables of what they send and what must be answered, against a real daemon.

In a table, ``"*"`` stands for whatever is there, ``"$name"`` for the same value wherever it stands, ``"@config"`` for a run's config. What is
expected is the whole message, proto3's defaults left out; ``within`` names fields of what must be answered sooner or later.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import json_format

from live_telemetry_widget.proto import trainer_pb2 as wire
from live_telemetry_widget.proto import trainer_pb2_grpc
from tests.conftest import wait_for

if TYPE_CHECKING:
    import live_telemetry_widget as ltw

HERE = pathlib.Path(__file__).parent
LIMIT = 30
#: So long (seconds) a stream must say nothing to be called silent.
SILENCE = 0.3
TABLES = ("generation-1", "generation-2")
METHODS = wire.DESCRIPTOR.services_by_name["TrainerService"].methods_by_name

# A worker that says nothing: it is the table that speaks for its proxy.
CONFIG = {
    "run_name": "in use",
    "entry_point": sys.executable,
    "arguments": ["-c", "import time; time.sleep(600)"],
    "environment": {},
    "resources": {"cpus": 1, "memory_mb": 256, "gpus": {"requested": 0, "mandatory": False}},
    "artifacts": {"output_prefix": "runs/x", "persist_logs": True, "keep_checkpoints": False},
    "metadata": {"worker": {"module": "worker", "use_grpc": True, "grpc_target": "127.0.0.1:50055", "agent_id": "a"}},
    "schedule": {"max_duration_seconds": 600, "max_steps": 100},
}
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


class Conversation:
    """The client of a table."""

    def __init__(self, address: str, channel: grpc.Channel, config: dict[str, Any]) -> None:
        self._stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        self._config = config
        self._known: dict[str, Any] = {"$address": address}

    def say(self, row: dict[str, Any]) -> None:
        """Make one call and check what is answered."""
        if "error" in row:
            with pytest.raises(grpc.RpcError) as caught:
                self._take(row, 1)
            assert caught.value.code().name == row["error"], caught.value.details()
        elif row.get("silent"):
            with pytest.raises(grpc.RpcError) as caught:
                self._take(row, 1, timeout=SILENCE)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        elif "within" in row:
            wait_for(
                lambda: self._holds(row["within"], self._take(row, 1)[0]), f"{row}; answered: {self._take(row, 1)}"
            )
        else:
            expected = row.get("stream", [row.get("expect")])
            found = self._take(row, len(expected))
            assert [self._filled(want, got) for want, got in zip(expected, found, strict=True)] == found

    def _take(self, row: dict[str, Any], count: int, timeout: float = LIMIT) -> list[Any]:
        method = METHODS[row["call"]]
        kind = getattr(wire, method.input_type.name)
        many = isinstance(row["send"], list)
        messages = [self._message(kind, fields) for fields in (row["send"] if many else [row["send"]])]
        answer = getattr(self._stub, row["call"])(iter(messages) if many else messages[0], timeout=timeout)
        if not method.server_streaming:
            return [json_format.MessageToDict(answer)]
        found = []
        for message in answer:
            found.append(json_format.MessageToDict(message))
            if len(found) == count:
                break
        answer.cancel()
        return found

    def _message(self, kind: Any, fields: dict[str, Any]) -> Any:
        sent = {
            name: self._known.get(value, value) if isinstance(value, str) else value for name, value in fields.items()
        }
        if "configJson" in sent:
            config = self._config if sent["configJson"] == "@config" else sent["configJson"]
            sent["configJson"] = json.dumps(config)
        return json_format.ParseDict(sent, kind())

    def _filled(self, want: Any, got: Any) -> Any:
        """Return what is expected, with what stands for anything replaced by what is there."""
        if isinstance(want, dict):
            return {name: self._filled(value, got.get(name)) for name, value in want.items()}
        if want == "*":
            assert got
            return got
        if isinstance(want, str) and want.startswith("$"):
            return self._known.setdefault(want, got)
        return want

    def _holds(self, want: Any, got: Any) -> bool:
        if isinstance(want, dict):
            return isinstance(got, dict) and all(self._holds(value, got.get(name)) for name, value in want.items())
        if isinstance(want, list):
            return isinstance(got, list) and len(want) == len(got) and all(map(self._holds, want, got))
        return bool(self._filled(want, got) == got) if want != "*" else bool(got)


@pytest.mark.parametrize("name", TABLES)
def test_a_client_in_use_is_answered_as_it_expects(daemon: ltw.Server, name: str) -> None:
    table = json.loads((HERE / "conversations" / f"{name}.json").read_text(encoding="utf-8"))
    config = json.loads(json.dumps(CONFIG))
    if name.endswith("2"):
        config["metadata"]["worker"]["config"] = {"run_id": ULID}
    with grpc.insecure_channel(daemon.address) as channel:
        conversation = Conversation(daemon.address, channel, config)
        for number, row in enumerate(table["calls"]):
            try:
                conversation.say(row)
            except BaseException as error:
                error.add_note(f"call {number} of {name}: {row}")
                raise
