"""An asynchronous client of a trainer daemon of either generation, ours or not.

One :class:`TrainerClient` is one channel. Streams here end when the connection does; to come back, and to sort out what is
sent twice, is the hub's work.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import logging
import random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import grpc

from live_telemetry_widget import _messages
from live_telemetry_widget._credit import Credit
from live_telemetry_widget.batches import COMPRESSION_NUMBERS, KIND_NUMBERS, weight
from live_telemetry_widget.errors import ConnectError, DaemonError, RunNotFoundError, UnknownCallError
from live_telemetry_widget.proto import telemetry_pb2, telemetry_pb2_grpc, trainer_pb2, trainer_pb2_grpc
from live_telemetry_widget.schema import Kind, RunState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

_LOG: Final = logging.getLogger(__name__)


MAX_MESSAGE: Final = 64 * 1024 * 1024
_SERVICE: Final = "/gymgui.trainer.TrainerService"
_REQUESTS: Final[dict[Kind, Any]] = {
    "steps": trainer_pb2.StreamStepsRequest,
    "episodes": trainer_pb2.StreamEpisodesRequest,
}
_CALL_TIMEOUT: Final = 10.0

#: Keepalive finds a connection that is only half there within 20 s: a ping after 10 s without traffic, 5 s for its answer.
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without it, the answer to a ping is waited for 60 s, whatever the line above says (measured: 68 s instead of 15).
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Each attempt is a new channel; with the process's shared pool it would inherit the waiting time of those that failed.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A proxy server from the environment has no business between a notebook and a trainer on the same machine.
    ("grpc.enable_http_proxy", 0),
)


#: Answers to the probe that do not tell the generation: they are those of a connection that breaks, or a daemon that stops.
_SAY_NOTHING: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


class Generation(enum.IntEnum):
    """Which generation of daemon answers; it decides what a RunStatus number means."""

    ONE = 1
    TWO = 2


_STATES: Final = {
    Generation.ONE: {
        1: RunState.PENDING,
        2: RunState.STARTING,
        3: RunState.RUNNING,
        4: RunState.COMPLETED,
        5: RunState.FAILED,
        6: RunState.CANCELLED,
    },
    Generation.TWO: {
        1: RunState.PENDING,
        2: RunState.STARTING,
        3: RunState.READY,
        4: RunState.RUNNING,
        5: RunState.PAUSED,
        6: RunState.FAILED,
        7: RunState.COMPLETED,
    },
}


@dataclasses.dataclass(frozen=True, slots=True)
class RunInfo:
    """What a daemon says of a run; times in nanoseconds since 1970, None where it says none."""

    run_id: str
    state: RunState
    reason: str = ""
    digest: str = ""
    created_at: int | None = None
    updated_at: int | None = None
    last_heartbeat: int | None = None
    seq_id: int = 0
    #: The number that `state` was made from; 0 where there was none.
    status: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class RunDetails:
    """What only our own daemon can say of a run (:meth:`TrainerClient.describe`)."""

    config_json: str
    last_step_seq: int
    last_episode_seq: int
    ended: bool


class Received(NamedTuple):
    """A batch as it came: an Arrow IPC stream of the rows `first_seq` to `last_seq`."""

    first_seq: int
    last_seq: int
    data: bytes


@dataclasses.dataclass(slots=True)
class Traffic:
    """What came over the streams of one kind of rows.

    Attributes
    ----------
    wire
        ``"batches"``, ``"messages"``, or empty before the first stream.
    messages, nbytes
        Received, over all streams.
    credit
        What is granted to the daemon; None where the wire knows no credit.
    """

    wire: str = ""
    messages: int = 0
    nbytes: int = 0
    credit: Credit | None = None


@dataclasses.dataclass(slots=True)
class Backoff:
    """How long to wait before each new attempt: doubling from `first` to `most`, each with a jitter.

    >>> wait = Backoff(jitter=lambda: 1.0)
    >>> [wait.next() for _ in range(7)]
    [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    >>> wait.reset(); wait.next()
    1.0
    """

    first: float = 1.0
    most: float = 30.0
    #: A factor for each wait, so that many clients do not come back at the same moment.
    jitter: Callable[[], float] = dataclasses.field(default=lambda: random.uniform(0.8, 1.0))  # noqa: S311 - no secret
    attempt: int = 0

    def next(self) -> float:
        """Count an attempt; return how many seconds to wait before it."""
        wait = min(self.most, self.first * 2.0 ** min(self.attempt, 30))
        self.attempt += 1
        return wait * self.jitter()

    def reset(self) -> None:
        """Begin again: something came through."""
        self.attempt = 0


def run_state(status: int, reason: str, generation: Generation) -> RunState:
    """Return our word for a RunStatus number of that generation.

    >>> run_state(4, "", Generation.ONE), run_state(4, "", Generation.TWO)
    ('completed', 'running')
    """
    state = _STATES[generation].get(status, RunState.UNKNOWN)
    if generation is Generation.TWO and state is RunState.COMPLETED and reason:
        # Generation 2 has one number for every end; only the reason tells them apart.
        return RunState.CANCELLED if reason.lower().startswith("cancel") else RunState.FAILED
    return state


def run_status(state: RunState, reason: str) -> tuple[int, str | None]:
    """Return the RunStatus number of generation 2 and the reason that :func:`run_state` reads as `state`.

    >>> run_status(RunState.CANCELLED, "")
    (7, 'cancelled')
    """
    if state is RunState.COMPLETED:
        return trainer_pb2.RUN_STATUS_TERM, None
    if state is RunState.FAILED:
        return trainer_pb2.RUN_STATUS_FAULT, reason or None
    if state is RunState.CANCELLED:
        said = reason if reason.lower().startswith("cancel") else f"cancelled: {reason}" if reason else "cancelled"
        return trainer_pb2.RUN_STATUS_TERM, said
    numbers = {word: number for number, word in _STATES[Generation.TWO].items()}
    return numbers.get(state, 0), reason or None


class TrainerClient:
    """A channel to one daemon. Use it on one event loop only; connects when it is first used.

    Parameters
    ----------
    address
        ``"host:port"``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._trainer = trainer_pb2_grpc.TrainerServiceStub(self._channel)
        self._telemetry = telemetry_pb2_grpc.TelemetryServiceStub(self._channel)
        self._steps = self._channel.unary_stream(
            f"{_SERVICE}/StreamRunSteps", request_serializer=trainer_pb2.StreamStepsRequest.SerializeToString
        )
        self._generation: Generation | None = None
        self._ours: bool | None = None
        #: Whether the daemon streams batches, as far as is known.
        self._batches = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel and end its streams; those of messages end with whoever reads them."""
        await self._channel.close()

    async def generation(self) -> Generation:
        """Return the daemon's generation, asked once: RegisterWorker without a run changes nothing and tells."""
        if self._generation is None:
            try:
                await self._trainer.RegisterWorker(trainer_pb2.RegisterWorkerRequest(), timeout=_CALL_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                    self._generation = Generation.ONE
                elif error.code() in _SAY_NOTHING:
                    raise self._error(error) from None
                else:
                    self._generation = Generation.TWO
            else:
                self._generation = Generation.TWO
            _LOG.info("%s is a daemon of generation %d", self.address, self._generation)
        return self._generation

    async def list_runs(self) -> list[RunInfo]:
        """Return the runs that the daemon knows."""
        generation = await self.generation()
        with self._translated():
            answer = await self._trainer.ListRuns(trainer_pb2.ListRunsRequest(), timeout=_CALL_TIMEOUT)
        return [_info(record, generation) for record in answer.runs]

    async def watch_runs(self) -> AsyncIterator[RunInfo]:
        """Yield every run as it is now, then each change."""
        generation = await self.generation()
        with self._translated():
            async for record in self._trainer.WatchRuns(trainer_pb2.WatchRunsRequest()):
                yield _info(record, generation)

    def stream_steps(self, run_id: str, since_seq: int) -> AsyncGenerator[bytes]:
        """Yield a run's steps after `since_seq` as far as the daemon honours it, then live ones: RunStep messages, unparsed.

        Parsing is the reader's, because gRPC would end the stream over one message that cannot be parsed.
        """
        return self._raw(self._steps(trainer_pb2.StreamStepsRequest(run_id=run_id, since_seq=since_seq)))

    async def _raw(self, call: Any) -> AsyncGenerator[bytes]:  # noqa: ANN401 - gRPC's calls have no types
        """Yield the messages of a call, and end it."""
        try:
            with self._translated():
                # Without the generator that the call would iterate through.
                while (raw := await call.read()) is not grpc.aio.EOF:
                    yield raw
        finally:
            call.cancel()

    async def stream_rows(
        self, kind: Kind, run_id: str, since_seq: int, traffic: Traffic
    ) -> AsyncGenerator[list[bytes] | list[Received]]:
        """Yield a run's rows: a batch at a time where the daemon has them and keeps its numbers, else messages as :meth:`stream_steps` does, all that have come.

        Only our own daemon keeps its numbers over a restart; in another's a number that was seen may name a new row, so its rows are read from the
        start.
        """
        if await self.is_ours():
            if self._batches:
                try:
                    async with contextlib.aclosing(self._stream_batches(kind, run_id, since_seq, traffic)) as stream:
                        async for received in stream:
                            yield [received]
                except UnknownCallError:
                    self._batches = False
                else:
                    return
        else:
            since_seq = 0
        traffic.wire = "messages"
        request = _REQUESTS[kind](run_id=run_id, since_seq=since_seq)
        method = f"{_SERVICE}/{'StreamRunSteps' if kind == 'steps' else 'StreamRunEpisodes'}"
        lists = _messages.read(self.address, CHANNEL_OPTIONS, method, request.SerializeToString())
        async with contextlib.aclosing(lists):
            with self._translated():
                async for found in lists:
                    traffic.messages += len(found)
                    traffic.nbytes += sum(map(len, found))
                    yield found

    async def _stream_batches(
        self, kind: Kind, run_id: str, since_seq: int, traffic: Traffic
    ) -> AsyncGenerator[Received]:
        credit = traffic.credit = Credit()
        traffic.wire = "batches"
        call = self._telemetry.StreamBatches()
        try:
            with self._translated():
                try:
                    await call.write(
                        telemetry_pb2.BatchCredit(
                            run_id=run_id,
                            kind=KIND_NUMBERS[kind],
                            since_seq=since_seq,
                            compression=COMPRESSION_NUMBERS["lz4"],  # as it is committed
                            rows=credit.first(),
                        )
                    )
                except grpc.aio.AioRpcError as error:
                    # A call that is refused before it is written to ends so, and gRPC does not keep why.
                    if error.code() == grpc.StatusCode.INTERNAL and await self._knows_no_batches():
                        raise UnknownCallError(str(error.details())) from None
                    raise
                async for message in call:
                    traffic.messages += 1
                    traffic.nbytes += len(message.data)
                    yield Received(message.first_seq, message.last_seq, message.data)
                    # Only now: what is granted is what the reader has room for.
                    more = credit.arrived(message.last_seq - message.first_seq + 1, weight(message.data))
                    if more:
                        await call.write(telemetry_pb2.BatchCredit(rows=more))
        finally:
            call.cancel()

    async def _knows_no_batches(self) -> bool:
        """Whether the daemon refuses the call itself: one that knows it waits to be told of which run."""
        call = self._telemetry.StreamBatches()
        try:
            async with asyncio.timeout(_CALL_TIMEOUT):
                return bool(await call.code() == grpc.StatusCode.UNIMPLEMENTED)
        except TimeoutError:
            return False
        finally:
            call.cancel()

    async def is_ours(self) -> bool:
        """Whether the daemon is one of this package, which keeps its sequence numbers for good; asked once."""
        if self._ours is None:
            with contextlib.suppress(RunNotFoundError):
                await self.describe("")
        return self._ours is not False

    async def describe(self, run_id: str) -> RunDetails | None:
        """Return what our own daemon says of a run; None when the daemon is another's.

        Raises
        ------
        RunNotFoundError
            It is ours, and knows no such run (yet).
        """
        if self._ours is False:
            return None
        request = telemetry_pb2.DescribeRunRequest(run_id=run_id)
        try:
            answer = await self._telemetry.DescribeRun(request, timeout=_CALL_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                self._ours = False
                return None
            if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}:
                self._ours = True
                msg = f"the daemon at {self.address} knows no run {run_id!r}"
                raise RunNotFoundError(msg) from None
            raise self._error(error) from None
        self._ours = True
        return RunDetails(answer.config_json, answer.last_step_seq, answer.last_episode_seq, answer.ended)

    async def cancel_run(self, run_id: str) -> None:
        """Ask the daemon to end a run; it ends when its worker has."""
        with self._translated():
            await self._trainer.CancelRun(trainer_pb2.CancelRunRequest(run_id=run_id), timeout=_CALL_TIMEOUT)

    async def control(self, run_id: str, **event: int) -> None:
        """Send a run's worker ``pause=True``, ``resume=True``, ``max_rate_hz=N`` or ``grant_steps=N``; return when its proxy has taken it.

        Raises
        ------
        DaemonError
            The daemon relays no such thing, or has nobody to relay it to; the message says why.
        """
        request = trainer_pb2.ControlEvent(run_id=run_id, **event)  # type: ignore[arg-type]  # the wire checks better
        try:
            stream = self._trainer.ControlStream(iter([request]), timeout=_CALL_TIMEOUT)
            answer = await stream.read()
        except grpc.aio.AioRpcError as error:
            # The latter is what generation 1, which does not know the call, has for it.
            if error.code() in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL}:
                msg = (
                    f"the daemon at {self.address} does not relay {', '.join(event)} to workers "
                    f"({error.code().name}: {error.details()}); one started with `live-telemetry serve` does"
                )
                raise DaemonError(msg) from None
            raise self._error(error) from None
        if answer is grpc.aio.EOF:
            msg = f"the daemon at {self.address} took {', '.join(event)} for run {run_id!r} and did not say that it was heeded"
            raise DaemonError(msg)

    @contextlib.contextmanager
    def _translated(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a context manager for this class alone
        try:
            yield
        except grpc.RpcError as error:  # of either kind of channel
            raise self._error(error) from None

    def _error(self, error: grpc.RpcError) -> ConnectError | DaemonError:
        code, details = error.code(), error.details() or "no details"
        if code == grpc.StatusCode.UNAVAILABLE:
            return ConnectError(
                f"no trainer daemon answers at {self.address} ({details}); is it running, is the address right? "
                f"Start one with: live-telemetry serve --listen {self.address}"
            )
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ConnectError(
                f"{self.address} took the connection but did not answer within {_CALL_TIMEOUT:g} s; "
                "is that a trainer daemon, and is it busy or stopped?"
            )
        if code == grpc.StatusCode.CANCELLED:
            return ConnectError(f"the call to {self.address} was cut off ({details})")
        if code == grpc.StatusCode.NOT_FOUND:
            return RunNotFoundError(f"the daemon at {self.address} knows no such run: {details}")
        kind = UnknownCallError if code == grpc.StatusCode.UNIMPLEMENTED else DaemonError
        return kind(f"the daemon at {self.address} answered {code.name}: {details}")


def _info(record: trainer_pb2.RunRecord, generation: Generation) -> RunInfo:
    def nanoseconds(name: str) -> int | None:
        return getattr(record, name).ToNanoseconds() if record.HasField(name) else None

    return RunInfo(
        run_id=record.run_id,
        state=run_state(record.status, record.failure_reason, generation),
        reason=record.failure_reason,
        digest=record.digest,
        created_at=nanoseconds("created_at"),
        updated_at=nanoseconds("updated_at"),
        last_heartbeat=nanoseconds("last_heartbeat"),
        seq_id=record.seq_id,
        status=record.status,
    )


async def sleep_or(event: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until `event` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
