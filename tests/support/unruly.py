"""A trainer daemon that misbehaves in every way in which daemons in use do (the wire contract lists them), as it is told to.

It is written from the wire contract alone, so that our own daemon's opinion of the wire is not in it. It runs on the caller's
asyncio loop, so that a test can look at what it did. What it does by itself (replaying, renumbering, dropping for a slow reader,
forgetting) follows from the :class:`Traits` of the daemon and of each run; what happens when (a step, a broken stream, a restart)
is the test's to say, by :class:`UnrulyRun` and :meth:`UnrulyDaemon.restart`.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import grpc
import grpc.aio

from live_telemetry_widget.proto import trainer_pb2 as wire

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable, Iterable

SERVICE: Final = "gymgui.trainer.TrainerService"
_MAX_MESSAGE: Final = 64 * 1024 * 1024

Replay = Literal["memory", "database", "both"]
Break = Literal["end", "UNAVAILABLE", "INTERNAL", "RESET"]

#: How a stream that breaks looks to its reader. A reset stream is an INTERNAL of gRPC's own making there.
_BREAKS: Final[dict[str, tuple[grpc.StatusCode, str]]] = {
    "UNAVAILABLE": (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    "INTERNAL": (grpc.StatusCode.INTERNAL, "a hiccup"),
    "RESET": (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
}

#: The same word means another number in each generation.
STATUS: Final[dict[int, dict[str, int]]] = {
    1: {"pending": 1, "starting": 2, "running": 3, "completed": 4, "failed": 5, "cancelled": 6},
    2: {
        "pending": 1,
        "starting": 2,
        "running": 4,
        "paused": 5,
        "failed": 7,
        "completed": 7,
        "cancelled": 7,
        "fault": 6,
    },
}


@dataclasses.dataclass(frozen=True)
class Traits:
    """In what ways a daemon is bad to one run. Everything is off by default.

    Those that belong to the daemon (`generation`, `restarts`, `keeps_database`) must be the same for all its runs.

    Attributes
    ----------
    generation
        1: no RegisterWorker, ControlStream fails, no generation 2 fields, `since_seq` is honoured for what is in memory.
        2: `since_seq` is ignored.
    replay
        What a new subscriber gets first: the steps in memory under their numbers; those of the database, renumbered from 1 and
        poorer; or both, one after the other, which sends most steps twice.
    memory, episode_memory
        So many are held in memory and replayed, of the database too (4,096 and 1,024 in daemons in use).
    queue
        So many wait for one subscriber (2,048 in daemons in use); more drop the oldest without a word.
    restarts
        The daemon is restarted at times: its numbers begin at 1 again, what is in memory is gone, and so are its runs.
    keeps_database
        A restart does not lose the database.
    breaks
        How streams end while they should not.
    overflows
        Bursts that are larger than a subscriber's queue.
    no_episodes
        Streaming episodes fails altogether (generation 1).
    lost_records
        Some episodes never get a record.
    strangers
        Messages of other runs in the stream.
    broken
        Messages that cannot be parsed.
    odd_status
        RunStatus numbers that nobody knows.
    late
        Steps after the end of the run.
    not_finite
        Rewards that are NaN or infinite.
    huge
        Observations of a megabyte.
    several_workers
        More than one, with agents of their own.
    anonymous
        Several workers, or one, whose worker_id the database forgets (in generation 2; generation 1 has none to forget).
    shared_agents
        Workers have agents of the same names. With `anonymous` replays, two steps cannot be told apart then.
    recreated
        After a restart the run begins anew under its old id, and other steps get the identities of the old ones.
    """

    generation: int = 2
    replay: Replay = "memory"
    memory: int = 4_096
    episode_memory: int = 1_024
    queue: int = 2_048
    restarts: bool = False
    keeps_database: bool = True
    breaks: tuple[Break, ...] = ()
    overflows: bool = False
    no_episodes: bool = False
    lost_records: bool = False
    strangers: bool = False
    broken: bool = False
    odd_status: bool = False
    late: bool = False
    not_finite: bool = False
    huge: bool = False
    several_workers: bool = False
    anonymous: bool = False
    shared_agents: bool = False
    recreated: bool = False

    @classmethod
    def draw(cls, daemon: random.Random, run: random.Random, without: Iterable[str] = ()) -> Self:
        """Return random traits: the daemon's own from one source, the run's from another.

        Parameters
        ----------
        daemon, run
            As many numbers are drawn whatever `without` is, so that a trait can be switched off and the rest stays.
        without
            Names of traits that are not wanted; others are ignored.
        """
        generation = daemon.choice([1, 2])
        drawn: dict[str, Any] = {
            "generation": generation,
            "restarts": daemon.random() < 0.4,
            "keeps_database": daemon.random() < 0.6,
            "replay": run.choice(["memory", "database", "both"]),
            "memory": run.choice([8, 20, 50, 4_096]),
            "episode_memory": run.choice([2, 6, 1_024]),
            "queue": run.choice([4, 12, 40, 2_048]),
            "breaks": tuple(run.sample(["end", "INTERNAL", "RESET"], run.randint(0, 3))),
            "overflows": run.random() < 0.3,
            "no_episodes": run.random() < 0.25 and generation == 1,
            "lost_records": run.random() < 0.2,
            "strangers": run.random() < 0.2,
            "broken": run.random() < 0.2,
            "odd_status": run.random() < 0.2,
            "late": run.random() < 0.3,
            "not_finite": run.random() < 0.1,
            "huge": run.random() < 0.04,
            "several_workers": run.random() < 0.5,
            "anonymous": run.random() < 0.6,
            "shared_agents": run.random() < 0.3,
            "recreated": run.random() < 0.1,
        }
        # Lost by all runs of the hub when one has it, so it is rare.
        if run.random() < 0.15:
            drawn["breaks"] += ("UNAVAILABLE",)
        plain = cls()
        drawn |= {name: getattr(plain, name) for name in without if name in drawn}
        return cls(**drawn)._consistent()

    def having(self, trait: str) -> Self:
        """Return these traits and one more, with what it needs to show."""
        changes: dict[str, Any] = {trait: True}
        if trait in {"anonymous", "shared_agents"}:
            changes |= {"generation": 2, "replay": "both", "anonymous": True, "several_workers": True}
        if trait == "overflows":
            changes |= {"queue": 4}
        if trait == "recreated":
            changes |= {"restarts": True}
        return dataclasses.replace(self, **changes)._consistent()

    def _consistent(self) -> Self:
        changes: dict[str, Any] = {}
        if self.generation == 1:
            # Workers have no names on this wire: two with the same agents would be one to everybody.
            changes |= {"anonymous": False, "shared_agents": False}
        elif not self.anonymous and self.replay != "memory":
            changes |= {"replay": "memory"}  # every database of this generation forgets worker_id
        if not self.several_workers:
            changes |= {"shared_agents": False}
        if not self.restarts:
            changes |= {"recreated": False}
        return dataclasses.replace(self, **changes)

    @property
    def uses_database(self) -> bool:
        """Whether subscribers are given what is in the database."""
        return self.replay != "memory"

    @property
    def ambiguous(self) -> bool:
        """Whether copies are sent that can be of either of two steps: of two workers', or of two lives of a run."""
        return self.anonymous and self.uses_database and (self.shared_agents or self.recreated)


def numbered(message: bytes, field: int, number: int) -> bytes:
    """Return a serialised message with a uint64 field below 16 set: the last one wins, so it is put at the end."""
    out = bytearray(message)
    out.append(field << 3)
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Item:
    """A message on its way to a subscriber, and what it is of: a place in what was published, or a word for what was not."""

    __slots__ = ("data", "index", "odd", "rich")

    def __init__(self, data: bytes, index: int = -1, *, rich: bool = True, odd: str = "") -> None:
        self.data = data
        self.index = index
        self.rich = rich
        self.odd = odd


class Subscriber:
    """One open stream.

    Attributes
    ----------
    offered : dict
        The numbers (places in ``run.steps`` or ``run.records``) of what a subscriber that asks for everything gets at this time
        by a replay, whatever this one asked for; with True for those of which a copy with all its fields is among them.
    sent : dict
        Likewise, what this one has been sent.
    odd : collections.Counter
        How many messages it has been sent that nobody published, by kind.
    dropped : int
        How many it was not sent, because its queue was full.
    """

    def __init__(self, replay: list[_Item], queue: int) -> None:
        self.replay = collections.deque(replay)
        self.queue: collections.deque[_Item] = collections.deque()
        self.offered: dict[int, bool] = {}
        self.sent: dict[int, bool] = {}
        self.odd: collections.Counter[str] = collections.Counter()
        self.dropped = 0
        self.ending: Break | None = None
        self.break_after: int | None = None
        self._most = queue
        self._news = asyncio.Event()

    @property
    def drained(self) -> bool:
        """Whether everything has been handed to gRPC, and the stream is to stay open."""
        return not self.replay and not self.queue and self.ending is None and self.break_after is None

    def put(self, item: _Item) -> None:
        """Queue a live message, at the cost of the oldest."""
        if len(self.queue) >= self._most:
            self.queue.popleft()
            self.dropped += 1
        self.queue.append(item)
        self._news.set()

    def end(self, how: Break) -> None:
        """Break the stream before its next message."""
        self.ending = how
        self._news.set()

    async def messages(self) -> AsyncIterator[_Item]:
        """Yield what is to be sent, until the stream is to end."""
        while True:
            if self.ending is not None:
                return
            if self.break_after == 0:
                self.ending = self.ending or "INTERNAL"
                return
            line = self.replay or self.queue
            if not line:
                self._news.clear()
                await self._news.wait()
                continue
            if self.break_after is not None:
                self.break_after -= 1
            yield line.popleft()


def _note(held: dict[int, bool], item: _Item) -> None:
    if item.index >= 0:
        held[item.index] = held.get(item.index, False) or item.rich


class UnrulyRun:
    """One run at the daemon: what was published, what is still held of it, who listens.

    Attributes
    ----------
    steps, records
        Everything ever published, as the worker gave it, in that order.
    known
        Whether the daemon knows of it now (a restart forgets it until it is submitted again).
    breaking
        Set by the test: the source from which new streams draw whether, where and how they break; None: they do not.
    """

    def __init__(self, daemon: UnrulyDaemon, run_id: str, traits: Traits) -> None:
        self._daemon = daemon
        self.run_id = run_id
        self.traits = traits
        self.steps: list[wire.RunStep] = []
        self.records: list[wire.RunEpisode] = []
        self.known = True
        self.registered = False
        self.status = STATUS[traits.generation]["pending"]
        self.reason = ""
        self.created = time.time_ns()
        self.breaking: random.Random | None = None
        self.subscribers: set[Subscriber] = set()
        self.record_subscribers: set[Subscriber] = set()
        self._memory: collections.deque[tuple[int, _Item]] = collections.deque(maxlen=traits.memory)
        self._database: list[_Item] = []
        self._record_memory: collections.deque[tuple[int, _Item]] = collections.deque(maxlen=traits.episode_memory)

    # -- what comes in -----------------------------------------------------------------------------------------------

    def publish(self, step: wire.RunStep) -> int:
        """Take a step in and give it to the subscribers of the moment; return how many of those dropped one for it."""
        index = len(self.steps)
        self.steps.append(step)
        bare = wire.RunStep()
        bare.CopyFrom(step)
        bare.ClearField("seq_id")
        if self.traits.generation == 1:
            for name in ("render_payload_json", "episode_seed", "worker_id"):
                bare.ClearField(name)
        live = bare.SerializeToString()
        for name in ("render_payload_json", "episode_seed", "worker_id", "extras_json"):
            bare.ClearField(name)
        self._database.append(_Item(bare.SerializeToString(), index, rich=False))
        number = self._daemon.next_number("steps")
        item = _Item(numbered(live, 12, number), index)
        self._memory.append((number, item))
        return self._give(self.subscribers, item)

    def publish_record(self, record: wire.RunEpisode) -> int:
        """Take an episode's record in likewise."""
        index = len(self.records)
        self.records.append(record)
        bare = wire.RunEpisode()
        bare.CopyFrom(record)
        bare.ClearField("seq_id")
        if self.traits.generation == 1:
            bare.ClearField("worker_id")
        number = self._daemon.next_number("episodes")
        item = _Item(numbered(bare.SerializeToString(), 9, number), index)
        self._record_memory.append((number, item))
        return self._give(self.record_subscribers, item)

    def inject(self, odd: str, data: bytes, *, episodes: bool = False) -> None:
        """Give the subscribers of the moment something that nobody published; `odd` says of what kind it is."""
        self._give(self.record_subscribers if episodes else self.subscribers, _Item(data, odd=odd))

    @staticmethod
    def _give(subscribers: Iterable[Subscriber], item: _Item) -> int:
        before = sum(s.dropped for s in subscribers)
        for subscriber in subscribers:
            subscriber.put(item)
        return sum(s.dropped for s in subscribers) - before

    def set_status(self, word: str | int, reason: str = "") -> None:
        """Change the run's status (a word of `STATUS`, or any number) and tell who watches."""
        self.status = word if isinstance(word, int) else STATUS[self.traits.generation][word]
        self.reason = reason
        self._daemon.tell(self)

    def submit(self) -> None:
        """Make the run known again, as a publisher does that was answered NOT_FOUND."""
        if not self.known:
            self.known = True
            self.created = time.time_ns()
            self.set_status("running")

    # -- what goes out -----------------------------------------------------------------------------------------------

    def replayable(self) -> dict[int, bool]:
        """Return what a subscriber that asks for everything would get now; True for steps with all their fields."""
        held: dict[int, bool] = {}
        for item in self._replay(0):
            _note(held, item)
        return held

    def _replay(self, since: int) -> list[_Item]:
        stored: list[_Item] = []
        if self.traits.uses_database and since == 0:
            rows = self._database[-self.traits.memory :]
            stored = [_Item(numbered(row.data, 12, i + 1), row.index, rich=False) for i, row in enumerate(rows)]
            if self.traits.replay == "database":
                return stored
        floor = since if self.traits.generation == 1 else 0
        return stored + [item for number, item in self._memory if number > floor]

    def subscribe(self, since: int) -> Subscriber:
        """Open a stream of steps."""
        subscriber = Subscriber(self._replay(since), self.traits.queue)
        subscriber.offered = self.replayable()
        self._arm(subscriber)
        self.subscribers.add(subscriber)
        return subscriber

    def subscribe_records(self, since: int) -> Subscriber:
        """Open a stream of episodes."""
        floor = since if self.traits.generation == 1 else 0
        subscriber = Subscriber([item for number, item in self._record_memory if number > floor], self.traits.queue)
        for _, item in self._record_memory:
            _note(subscriber.offered, item)
        self._arm(subscriber)
        self.record_subscribers.add(subscriber)
        return subscriber

    def _arm(self, subscriber: Subscriber) -> None:
        if self.breaking is not None and self.traits.breaks and self.breaking.random() < 0.3:
            subscriber.break_after = self.breaking.randint(0, 40)

    def break_streams(self, how: Break) -> None:
        """Break all streams of this run now."""
        for subscriber in (*self.subscribers, *self.record_subscribers):
            subscriber.end(how)

    def calm(self) -> None:
        """Break no stream any more, neither new ones nor those that were about to be."""
        self.breaking = None
        for subscriber in (*self.subscribers, *self.record_subscribers):
            subscriber.break_after = None

    def forget(self) -> None:
        """Do what a restart does to this run; its streams end with the daemon."""
        self._memory.clear()
        self._record_memory.clear()
        if not self.traits.keeps_database:
            self._database.clear()
        self.known = self.registered = False

    def record(self, number: int) -> wire.RunRecord:
        """Return the run as WatchRuns tells it."""
        record = wire.RunRecord(run_id=self.run_id, digest=hashlib.sha256(self.run_id.encode()).hexdigest())
        record.status = self.status  # type: ignore[assignment]
        record.created_at.FromNanoseconds(self.created)
        record.updated_at.FromNanoseconds(time.time_ns())
        if self.reason:
            record.failure_reason = self.reason
        record.seq_id = number
        return record


class UnrulyDaemon:
    """A daemon with any number of runs, on the running asyncio loop, at a port that stays the same over its restarts.

    Parameters
    ----------
    generation
        1 or 2.

    Attributes
    ----------
    runs : dict
        By id; add some with :meth:`add_run`.
    up : bool
        Whether it takes calls; a publisher must wait while it does not.
    restarts, subscriptions : int
        How many there were.
    """

    def __init__(self, generation: int = 2) -> None:
        self.generation = generation
        self.runs: dict[str, UnrulyRun] = {}
        self.up = False
        self.restarts = 0
        self.subscriptions = 0
        self.address = ""
        self._server: grpc.aio.Server | None = None
        self._port = 0
        self._numbers = {"steps": 0, "episodes": 0, "runs": 0}
        self._watchers: set[asyncio.Queue[wire.RunRecord]] = set()
        self._started = time.time_ns()

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    def add_run(self, run_id: str, traits: Traits | None = None) -> UnrulyRun:
        """Make a run."""
        run = UnrulyRun(self, run_id, traits or Traits(generation=self.generation))
        self.runs[run_id] = run
        self.tell(run)
        return run

    def next_number(self, kind: Literal["steps", "episodes", "runs"]) -> int:
        """Return the next sequence number: they count over all runs."""
        self._numbers[kind] += 1
        return self._numbers[kind]

    def tell(self, run: UnrulyRun) -> None:
        """Tell who watches how a run is."""
        number = self.next_number("runs")
        if run.known:
            for queue in self._watchers:
                queue.put_nowait(run.record(number))

    async def restart(self) -> None:
        """End the daemon, all its streams with it, and start it again with no memory, numbering from 1."""
        await self._stop()
        self._numbers = dict.fromkeys(self._numbers, 0)
        for run in self.runs.values():
            run.forget()
        self.restarts += 1
        await self._start()

    async def _start(self) -> None:
        options = [
            ("grpc.max_send_message_length", _MAX_MESSAGE),
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            # The port is to be had again at once, yet not to be shared with another test's daemon.
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, self._methods())])
        end = time.monotonic() + 10
        while True:
            try:
                self._port = server.add_insecure_port(f"127.0.0.1:{self._port}")
                break
            except RuntimeError:  # the server before has not let go of it yet
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.01)
        self.address = f"127.0.0.1:{self._port}"
        await server.start()
        self._server = server
        self.up = True

    async def _stop(self) -> None:
        self.up = False
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        for run in self.runs.values():
            run.subscribers.clear()
            run.record_subscribers.clear()
        self._watchers.clear()

    def _methods(self) -> dict[str, Any]:
        def unary(call: Callable[..., Any], request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(call, request.FromString, lambda m: m.SerializeToString())

        def stream(call: Callable[..., Any], request: Any) -> Any:
            # No serialiser: what is sent is bytes, because some of them must be broken.
            return grpc.unary_stream_rpc_method_handler(call, request.FromString)

        def publish(call: Callable[..., Any], message: Any) -> Any:
            return grpc.stream_unary_rpc_method_handler(call, message.FromString, lambda m: m.SerializeToString())

        methods = {
            "SubmitRun": unary(self._submit, wire.SubmitRunRequest),
            "CancelRun": unary(self._cancel, wire.CancelRunRequest),
            "ListRuns": unary(self._list, wire.ListRunsRequest),
            "Heartbeat": unary(self._heartbeat, wire.HeartbeatRequest),
            "GetHealth": unary(self._health, wire.HealthCheckRequest),
            "WatchRuns": stream(self._watch, wire.WatchRunsRequest),
            "StreamRunSteps": stream(self._stream_steps, wire.StreamStepsRequest),
            "StreamRunEpisodes": stream(self._stream_episodes, wire.StreamEpisodesRequest),
            "PublishRunSteps": publish(self._publish_steps, wire.RunStep),
            "PublishRunEpisodes": publish(self._publish_episodes, wire.RunEpisode),
        }
        control = self._control_1 if self.generation == 1 else self._control_2
        methods["ControlStream"] = grpc.stream_stream_rpc_method_handler(control, wire.ControlEvent.FromString)
        if self.generation == 2:
            methods["RegisterWorker"] = unary(self._register, wire.RegisterWorkerRequest)
        return methods

    # -- unary calls -------------------------------------------------------------------------------------------------

    async def _submit(self, request: wire.SubmitRunRequest, context: Any) -> wire.SubmitRunResponse:
        try:
            config = json.loads(request.config_json or "{}")
        except ValueError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "config_json is not JSON")
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        named = config.get("metadata", {}).get("worker", {}).get("config", {}).get("run_id", "")
        run_id = named or f"run-{digest[:12]}"
        if run_id in self.runs:
            self.runs[run_id].submit()
        else:
            self.add_run(run_id)
        return wire.SubmitRunResponse(run_id=run_id, digest=digest)

    async def _cancel(self, request: wire.CancelRunRequest, context: Any) -> wire.CancelRunResponse:
        run = await self._find(request.run_id, context)
        run.set_status("cancelled", "cancelled by the user")  # and its streams stay open, silent
        return wire.CancelRunResponse()

    async def _list(self, _: wire.ListRunsRequest, __: Any) -> wire.ListRunsResponse:
        return wire.ListRunsResponse(runs=[run.record(0) for run in self.runs.values() if run.known])

    async def _heartbeat(self, request: wire.HeartbeatRequest, context: Any) -> wire.HeartbeatResponse:
        await self._find(request.run_id, context)
        return wire.HeartbeatResponse()

    async def _health(self, _: wire.HealthCheckRequest, __: Any) -> wire.HealthCheckResponse:
        answer = wire.HealthCheckResponse(listen_address=self.address, healthy=True)
        answer.started_at.FromNanoseconds(self._started)
        return answer

    async def _register(self, request: wire.RegisterWorkerRequest, context: Any) -> wire.RegisterWorkerResponse:
        if not request.run_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "run_id is required")
        run = await self._find(request.run_id, context)
        run.registered = True
        return wire.RegisterWorkerResponse(accepted_version=request.proto_version, session_token="t")  # noqa: S106 - no secret

    async def _find(self, run_id: str, context: Any) -> UnrulyRun:
        run = self.runs.get(run_id)
        if run is None or not run.known:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown run {run_id}")
            raise AssertionError  # abort() has raised
        return run

    # -- publishing --------------------------------------------------------------------------------------------------

    async def _publish_steps(self, messages: AsyncIterator[wire.RunStep], context: Any) -> Any:
        return await self._publish(messages, context, UnrulyRun.publish)

    async def _publish_episodes(self, messages: AsyncIterator[wire.RunEpisode], context: Any) -> Any:
        return await self._publish(messages, context, UnrulyRun.publish_record)

    async def _publish(
        self, messages: AsyncIterator[Any], context: Any, take: Callable[[UnrulyRun, Any], int]
    ) -> wire.PublishTelemetryResponse:
        run: UnrulyRun | None = None
        answer = wire.PublishTelemetryResponse()
        async for message in messages:
            if run is None:
                run = await self._find(message.run_id, context)
                if run.traits.no_episodes and isinstance(message, wire.RunEpisode):
                    await context.abort(grpc.StatusCode.UNKNOWN, "episodes fail")
                if self.generation == 2 and not run.registered:
                    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "RegisterWorker first")
            elif message.run_id != run.run_id:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "one run_id a stream")
            answer.accepted += 1
            answer.dropped += take(run, message)
        return answer

    # -- streams -----------------------------------------------------------------------------------------------------

    async def _control_1(self, _: AsyncIterator[Any], context: Any) -> AsyncIterator[bytes]:
        await context.abort(grpc.StatusCode.INTERNAL, "no such method")
        yield b""

    async def _control_2(self, _: AsyncIterator[Any], context: Any) -> AsyncIterator[bytes]:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not yet")
        yield b""

    async def _watch(self, _: wire.WatchRunsRequest, __: Any) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[wire.RunRecord] = asyncio.Queue()
        for run in self.runs.values():
            if run.known:
                queue.put_nowait(run.record(0))
        self._watchers.add(queue)
        try:
            while True:
                record = await queue.get()
                yield record.SerializeToString()
        finally:
            self._watchers.discard(queue)

    async def _stream_steps(self, request: wire.StreamStepsRequest, context: Any) -> None:
        run = await self._listened(request.run_id, context)
        if run is not None:
            subscriber = run.subscribe(request.since_seq)
            await self._send(subscriber, run.subscribers, context)

    async def _stream_episodes(self, request: wire.StreamEpisodesRequest, context: Any) -> None:
        run = await self._listened(request.run_id, context)
        if run is not None:
            if run.traits.no_episodes:
                await context.abort(grpc.StatusCode.UNKNOWN, "episodes fail")
            subscriber = run.subscribe_records(request.since_seq)
            await self._send(subscriber, run.record_subscribers, context)

    async def _listened(self, run_id: str, context: Any) -> UnrulyRun | None:
        """Return the run of a new subscriber; one that there is not gets a stream that says nothing, and never ends."""
        self.subscriptions += 1
        if not run_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "run_id is required")
        run = self.runs.get(run_id)
        if run is None:
            await asyncio.Event().wait()
        return run

    async def _send(self, subscriber: Subscriber, among: set[Subscriber], context: Any) -> None:
        how: Break | None = None
        try:
            async for item in subscriber.messages():
                await context.write(item.data)
                _note(subscriber.sent, item)
                if item.odd:
                    subscriber.odd[item.odd] += 1
        finally:
            how = subscriber.ending
            among.discard(subscriber)
        if how is not None and how != "end":
            await context.abort(*_BREAKS[how])
