from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RowKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_KIND_UNSPECIFIED: _ClassVar[RowKind]
    ROW_KIND_STEPS: _ClassVar[RowKind]
    ROW_KIND_EPISODES: _ClassVar[RowKind]

class Compression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPRESSION_NONE: _ClassVar[Compression]
    COMPRESSION_ZSTD: _ClassVar[Compression]
    COMPRESSION_LZ4: _ClassVar[Compression]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_COMPLETED: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]
    OUTCOME_CANCELLED: _ClassVar[Outcome]
ROW_KIND_UNSPECIFIED: RowKind
ROW_KIND_STEPS: RowKind
ROW_KIND_EPISODES: RowKind
COMPRESSION_NONE: Compression
COMPRESSION_ZSTD: Compression
COMPRESSION_LZ4: Compression
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_COMPLETED: Outcome
OUTCOME_FAILED: Outcome
OUTCOME_CANCELLED: Outcome

class PublishBatch(_message.Message):
    __slots__ = ("run_id", "producer", "kind", "first", "data")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    producer: str
    kind: RowKind
    first: int
    data: bytes
    def __init__(self, run_id: _Optional[str] = ..., producer: _Optional[str] = ..., kind: _Optional[_Union[RowKind, str]] = ..., first: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PublishAck(_message.Message):
    __slots__ = ("kind", "committed", "dropped", "granted_rows")
    KIND_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    GRANTED_ROWS_FIELD_NUMBER: _ClassVar[int]
    kind: RowKind
    committed: int
    dropped: int
    granted_rows: int
    def __init__(self, kind: _Optional[_Union[RowKind, str]] = ..., committed: _Optional[int] = ..., dropped: _Optional[int] = ..., granted_rows: _Optional[int] = ...) -> None: ...

class BatchCredit(_message.Message):
    __slots__ = ("run_id", "kind", "since_seq", "compression", "rows")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SINCE_SEQ_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    kind: RowKind
    since_seq: int
    compression: Compression
    rows: int
    def __init__(self, run_id: _Optional[str] = ..., kind: _Optional[_Union[RowKind, str]] = ..., since_seq: _Optional[int] = ..., compression: _Optional[_Union[Compression, str]] = ..., rows: _Optional[int] = ...) -> None: ...

class TelemetryBatch(_message.Message):
    __slots__ = ("first_seq", "last_seq", "data")
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    first_seq: int
    last_seq: int
    data: bytes
    def __init__(self, first_seq: _Optional[int] = ..., last_seq: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class OpenRunRequest(_message.Message):
    __slots__ = ("run_id", "config_json")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    config_json: str
    def __init__(self, run_id: _Optional[str] = ..., config_json: _Optional[str] = ...) -> None: ...

class OpenRunResponse(_message.Message):
    __slots__ = ("run_id", "created")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    created: bool
    def __init__(self, run_id: _Optional[str] = ..., created: _Optional[bool] = ...) -> None: ...

class FinishRunRequest(_message.Message):
    __slots__ = ("run_id", "outcome", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    outcome: Outcome
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class FinishRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class DescribeRunResponse(_message.Message):
    __slots__ = ("run_id", "config_json", "last_step_seq", "last_episode_seq", "total_steps", "total_episodes", "ended")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    LAST_STEP_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_EPISODE_SEQ_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_EPISODES_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    config_json: str
    last_step_seq: int
    last_episode_seq: int
    total_steps: int
    total_episodes: int
    ended: bool
    def __init__(self, run_id: _Optional[str] = ..., config_json: _Optional[str] = ..., last_step_seq: _Optional[int] = ..., last_episode_seq: _Optional[int] = ..., total_steps: _Optional[int] = ..., total_episodes: _Optional[int] = ..., ended: _Optional[bool] = ...) -> None: ...
