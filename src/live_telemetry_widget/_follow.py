"""One run as the hub follows it: its two streams, what becomes of their messages, the repair of gaps, the run's end.

Used by :mod:`~live_telemetry_widget.hub` only, on the hub's loop.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from live_telemetry_widget import _arrow, normalize, roster
from live_telemetry_widget._further import cut
from live_telemetry_widget.batches import BadBatchError, decode
from live_telemetry_widget.client import Received
from live_telemetry_widget.errors import ConnectError, DaemonError, RunNotFoundError
from live_telemetry_widget.proto import trainer_pb2
from live_telemetry_widget.schema import CORE, KINDS, Kind, Problem, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from live_telemetry_widget._gaps import Gap
    from live_telemetry_widget.client import Backoff, RunInfo, TrainerClient
    from live_telemetry_widget.feed import RunFeed

_LOG: Final = logging.getLogger(__name__)

#: Messages are turned into batches this often (seconds), or when so many wait.
_FLUSH_EVERY: Final = 0.02
_FLUSH_AT: Final = 1_024
_FLUSH_BYTES: Final = 32 * 1024 * 1024
_FLUSH_ROWS: Final = 65_536
#: Batches of fewer rows are joined before they are taken in.
_ENOUGH: Final = 8_192
#: How often (seconds) gaps and the end are looked at, while there is something to look at.
_TEND_EVERY: Final = 0.2
#: A gap is asked for so many times, at growing distances: what a daemon replays may overflow too.
_ASKS: Final = 8
#: Seconds between two repairs: at first, and at most when they do not help.
_REPAIR_FIRST: Final = 1.0
_REPAIR_MOST: Final = 30.0
#: Seconds of silence after which what was asked for again is taken to be all; twice as many where it cannot have been all.
_REPAIR_PAUSE: Final = 1.0
#: What an answer counts that was cut short: half an answer is no answer, but nobody is asked for ever.
_HALF: Final = 1 / 3
#: So many of the last messages are kept, to see whether a replay has come to where the stream is; some may be no steps of the run.
_NEWEST: Final = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """A batch that came in, before copies are merged; `new` are its steps or episodes that were not here before."""

    run_id: str
    kind: Kind
    batch: pa.RecordBatch
    new: pa.Table


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A run has ended and everything of it is here."""

    run_id: str
    state: RunState
    reason: str


class _Inbox:
    """Messages of one kind that wait to become a batch."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.nbytes = 0
        self.rows = 0
        self.flushed_at = 0.0
        self.scheduled: asyncio.TimerHandle | None = None


class Following:
    """Follows one run while there is a link.

    Parameters
    ----------
    feed
        Where everything is put.
    publish
        Is given each :class:`Arrival`, and :class:`Ended`.
    spoke
        Called with each message of the daemon.
    lose
        Called when a stream finds the link lost.
    backoff
        What a stream that broke by itself waits by; copied for each.
    """

    def __init__(
        self,
        feed: RunFeed,
        *,
        publish: Callable[[Arrival | Ended], None],
        spoke: Callable[[], None],
        lose: Callable[[ConnectError], None],
        backoff: Backoff,
    ) -> None:
        self.feed = feed
        self._publish = publish
        self._spoke = spoke
        self._lose = lose
        self._backoff = backoff
        self._client: TrainerClient | None = None
        self._inboxes: dict[Kind, _Inbox] = {kind: _Inbox() for kind in KINDS}
        self._streams: dict[Kind, asyncio.Task[None]] = {}
        self._describing: asyncio.Task[None] | None = None
        self._undescribed = False  # the daemon answered with an error: ask again
        self._tending: asyncio.TimerHandle | None = None
        self._repair: asyncio.Task[None] | None = None
        self._repair_at = 0.0
        self._repair_wait = _REPAIR_FIRST
        self._asked: dict[Gap, float] = {}
        # Ends of episodes of which the records know and the steps may be under way; since when.
        self._ends: dict[Gap, float] = {}
        self._newest: collections.deque[object] = collections.deque(maxlen=_NEWEST)
        # Streams that were read to an end since the run ended, and brought nothing new.
        self._vain: set[Kind] = set()

    # -- the link comes and goes -----------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether its streams are open."""
        return bool(self._streams)

    def follow(self, client: TrainerClient) -> None:
        """Open the streams."""
        self._client = client
        self.feed.up_since = time.monotonic()
        loop = asyncio.get_running_loop()
        for kind in KINDS:
            self._streams[kind] = loop.create_task(self._stream(client, kind), name=f"{kind} of {self.feed.run_id}")
        self.describe()
        self._tend_soon()

    def unfollow(self) -> None:
        """Close the streams; what they brought is taken in."""
        for task in (*self._streams.values(), self._repair, self._describing):
            if task is not None:
                task.cancel()
        self._streams.clear()
        self._repair = self._describing = self._client = None
        self.feed.up_since = None
        if self._tending is not None:
            self._tending.cancel()
            self._tending = None
        self.flush()

    # -- what the daemon says of the run ---------------------------------------------------------------------------

    def take_info(self, info: RunInfo) -> None:
        """Take in what the daemon says of the run."""
        feed, held = self.feed, self.feed.info
        if held == info:
            return
        feed.info, feed.unknown = info, ""
        if info.state is RunState.UNKNOWN and info.status:
            self._count("unknown_status", f"the daemon says status {info.status}, which is none of its generation's")
        # Another's daemon may make its records anew when it starts, and is never resumed by number anyway.
        ours = feed.details is not None or feed.resumed
        if ours and held is not None and held.created_at != info.created_at:
            self._replaced("the daemon has made a new run of this id")
        if not info.state.ended:
            feed.finished = False
        elif held is None or not held.state.ended:
            # What could not be had while the queues were full is asked for once more, soon.
            self._asked.clear()
            self._repair_at, self._repair_wait = 0.0, _REPAIR_FIRST
        feed.touch()
        # With what is said of a run its config may have changed: what its worker says of itself comes when it runs.
        self.describe()
        self._tend_soon()

    def forgotten(self, address: str) -> None:
        """Note that the daemon, which knew the run, does not know it any more."""
        if self.feed.info is not None and not self.feed.state.ended:
            self._count(
                "run_forgotten", f"the daemon at {address} knew this run and does not any more; what has come stays"
            )

    def _replaced(self, why: str) -> None:
        """Begin again at the start: the numbers to resume from are those of something that is gone."""
        feed = self.feed
        if not (feed.step_seq or feed.episode_seq):
            return
        self._count("run_replaced", f"{why}; its steps are taken in beside what was here")
        feed.step_seq = feed.episode_seq = 0
        feed.details = None
        if self._client is not None and self._streams:
            client = self._client
            self.unfollow()
            self.follow(client)

    def describe(self) -> None:
        """Ask our own daemon how much there is of the run, unless that is being done."""
        if self._client is not None and (self._describing is None or self._describing.done()):
            self._describing = asyncio.get_running_loop().create_task(self._describe(self._client))

    async def _describe(self, client: TrainerClient) -> None:
        feed = self.feed
        try:
            feed.details = await client.describe(feed.run_id)
            if feed.details is None and feed.info is None:  # another's daemon says nothing of one run
                await self._look_for_it(client)
        except RunNotFoundError:
            await self._look_for_it(client)
            return  # the watch says when it is made
        except ConnectError as error:
            self._lose(error)
            return
        except DaemonError as error:
            _LOG.info("describing run %s: %s", feed.run_id, error)
            self._undescribed = True
            self._tend_soon()
            return
        self._undescribed = False
        if feed.details is not None:
            if feed.details.last_step_seq < feed.step_seq or feed.details.last_episode_seq < feed.episode_seq:
                self._replaced("the daemon has less of this run than had come: its data was replaced")
            if feed.backlog is None:
                feed.backlog = (feed.details.last_step_seq, feed.details.last_episode_seq)
        feed.touch()
        self._tend_soon()

    async def _look_for_it(self, client: TrainerClient) -> None:
        """Find out what may have been meant by an id that the daemon does not know."""
        feed = self.feed
        try:
            unknown = roster.unknown(feed.run_id, await roster.told_by(client), f"the daemon at {client.address}")
        except ConnectError as error:
            self._lose(error)
            return
        except DaemonError as error:
            _LOG.info("listing the runs beside %s: %s", feed.run_id, error)
            return
        if feed.info is None and unknown:
            feed.unknown = unknown
            feed.touch()

    # -- streams ---------------------------------------------------------------------------------------------------

    async def _stream(self, client: TrainerClient, kind: Kind) -> None:
        """Read one stream, again and again; a daemon may end it, or fail on it, without the link being lost."""
        backoff = dataclasses.replace(self._backoff, attempt=0)
        self._vain.discard(kind)
        while True:
            news, ended = self.feed.frames.news, self.feed.state.ended
            try:
                at = self.feed.step_seq if kind == "steps" else self.feed.episode_seq
                rows = client.stream_rows(kind, self.feed.run_id, at, self.feed.traffic[kind])
                async for messages in rows:
                    backoff.reset()
                    self._spoke()
                    self.take_all(kind, messages)
                    if kind == "steps":
                        self._newest.extend(messages[-_NEWEST:])
                    if kind not in self._vain:
                        self.feed.heard()
            except ConnectError as error:
                self._lose(error)
                return
            except DaemonError as error:
                self._count("stream_error", f"{kind}: {error}")
            except Exception as error:  # noqa: BLE001 - logged, counted, tried again
                # A fault of our own must not end the stream for good.
                _LOG.exception("the stream of %s of run %s failed", kind, self.feed.run_id)
                self._count("stream_error", f"{kind}: {type(error).__name__}: {error}")
            self._flush(kind)
            # A daemon that sends an ended run again and again, because its stream breaks, is not on the way to its end.
            if ended and self.feed.frames.news == news:
                self._vain.add(kind)
            else:
                self._vain.discard(kind)
            await asyncio.sleep(backoff.next())

    def take(self, kind: Kind, message: object) -> None:
        """Take a message in: raw or a batch from a stream, or parsed or a dict when fed by hand."""
        self.take_all(kind, [message])

    def take_all(self, kind: Kind, messages: Sequence[object]) -> None:
        """Take messages in, each as in :meth:`take`; those of a list are of one sort."""
        inbox = self._inboxes[kind]
        inbox.messages += messages
        wait = _FLUSH_EVERY
        if isinstance(messages[0], Received):
            self.feed.frames.names_are_exact = True
            batches = [message for message in messages if isinstance(message, Received)]
            inbox.nbytes += sum(len(batch.data) for batch in batches)
            inbox.rows += sum(batch.last_seq - batch.first_seq + 1 for batch in batches)
            # What comes in batches was gathered where it was made: only what comes too often waits.
            wait = max(0.0, inbox.flushed_at + _FLUSH_EVERY - time.monotonic())
        elif isinstance(messages[0], bytes):
            inbox.nbytes += sum(len(message) for message in messages if isinstance(message, bytes))
        if len(inbox.messages) >= _FLUSH_AT or inbox.nbytes >= _FLUSH_BYTES or inbox.rows >= _FLUSH_ROWS:
            self._flush(kind)
        elif inbox.scheduled is None:
            inbox.scheduled = asyncio.get_running_loop().call_later(wait, self._flush, kind)
            self._note_waiting()

    # -- gaps and the end ------------------------------------------------------------------------------------------

    def _tend_soon(self) -> None:
        if self._tending is None:
            self._tending = asyncio.get_running_loop().call_later(_TEND_EVERY, self._tend)

    def _tend(self) -> None:
        """Look at what is missing, and at whether the run is at its end; come again while there is something to look at."""
        self._tending = None
        wanted = self._wanted()
        if wanted and self._repair is None and time.monotonic() >= self._repair_at:
            self._repair = asyncio.get_running_loop().create_task(self._mend(wanted), name="repair")
        # What was asked before the run ended, or answered with an error, is asked again.
        details = self.feed.details
        if self._undescribed or (self.feed.state.ended and details is not None and not details.ended):
            self.describe()
        self._end_if_all_is_here()
        if wanted or self._ends or self._undescribed or (self.feed.state.ended and not self.feed.finished):
            self._tend_soon()

    def _wanted(self) -> list[Gap]:
        """Return the gaps that may still be asked for."""
        if self.feed.details is not None or not self._streams:
            self._ends = {}
            return []  # our own daemon has no more than its log, which was read in order
        now = time.monotonic()
        gaps, ends = self.feed.frames.gaps(), self.feed.frames.open_ends()
        self._asked = {gap: self._asked[gap] for gap in (*gaps, *ends) if gap in self._asked}
        self._ends = {gap: self._ends.get(gap, now) for gap in ends if self._asked.get(gap, 0) < _ASKS}
        # An end that does not come by itself is asked for like a gap, though nothing has overtaken it.
        gaps += [gap for gap, since in self._ends.items() if now - since >= self.feed.grace]
        # After the end nothing is on its way any more: one whole answer tells.
        most = 1 if self.feed.state.ended else _ASKS
        return [gap for gap in gaps if self._asked.get(gap, 0) < most]

    async def _mend(self, wanted: list[Gap]) -> None:
        """Read the steps once more from the start, beside the stream that is open and goes on."""
        client, broken = self._client, True
        if client is None:
            return
        _LOG.info("run %s: asking again for %d gaps", self.feed.run_id, len(wanted))
        # A stream of a run that goes on has no end: its replay is over when it pauses, or after so long. A daemon that is busy
        # pauses too; so what counts as an answer has come to where the stream is.
        until = time.monotonic() + _REPAIR_MOST
        newest = next(filter(None, map(self._place, reversed(self._newest))), None)
        whole = newest is None
        pause = _REPAIR_PAUSE * (1 if all(self._asked.get(gap, 0.0) < _HALF for gap in wanted) else 2)
        try:
            async with contextlib.aclosing(client.stream_steps(self.feed.run_id, 0)) as stream:
                while time.monotonic() < until:
                    message = await asyncio.wait_for(anext(stream), pause)
                    self.take("steps", message)
                    whole = whole or self._place(message) == newest
        except TimeoutError:
            broken = False
        except StopAsyncIteration:
            pass  # the daemon ended it, perhaps half-way
        except ConnectError as error:
            self._lose(error)
        except DaemonError as error:
            self._count("stream_error", f"steps, asked for again: {error}")
        self._flush("steps")
        for gap in wanted:
            self._asked[gap] = self._asked.get(gap, 0.0) + (_HALF if broken or not whole else 1.0)
        helped = set(wanted) - set(self._wanted()) != set()
        self._repair_wait = _REPAIR_FIRST if helped else min(2 * self._repair_wait, _REPAIR_MOST)
        self._repair_at = time.monotonic() + self._repair_wait
        self._repair = None
        self._tend_soon()

    def _place(self, message: object) -> tuple[str, int, int] | None:
        """Return which step of its run a message is, as the daemon names it; None when it is none."""
        if not isinstance(message, bytes):
            return None
        parsed = normalize.parse_messages(trainer_pb2.RunStep, [message]).messages
        if not parsed or parsed[0].run_id not in {"", self.feed.run_id}:
            return None
        return parsed[0].agent_id, parsed[0].episode_index, parsed[0].step_index

    def _end_if_all_is_here(self) -> None:
        feed = self.feed
        if feed.finished or not feed.state.ended:
            return
        details = feed.details
        if details is not None:
            if not (
                details.ended
                and feed.step_seq >= details.last_step_seq
                and feed.episode_seq >= details.last_episode_seq
            ):
                return
        else:
            if feed.link.state != "live" or feed.quiet_for() < feed.grace:
                return
            feed.frames.settle()
            if self._repair is not None or self._wanted():
                self._tend_soon()
                return
        feed.finish()
        _LOG.info("run %s has ended: %s", feed.run_id, feed.state.value)
        self._publish(Ended(feed.run_id, feed.state, feed.reason))

    # -- messages to rows ------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Take in what waits."""
        for kind in KINDS:
            self._flush(kind)

    def _flush(self, kind: Kind) -> None:
        """Turn what waits into a batch, and that into rows."""
        inbox = self._inboxes[kind]
        if inbox.scheduled is not None:
            inbox.scheduled.cancel()
            inbox.scheduled = None
        messages, inbox.messages = inbox.messages, []
        inbox.nbytes = inbox.rows = 0
        inbox.flushed_at = time.monotonic()
        self._note_waiting()
        if not messages:
            return
        self._take_in(kind, messages)
        self.feed.touch()
        if self.feed.details is not None:
            self._end_if_all_is_here()
        self._tend_soon()

    def _take_in(self, kind: Kind, messages: list[Any]) -> None:
        """Turn messages into rows; one that cannot be taken in, for a fault of ours, takes no other with it."""
        feed, frames = self.feed, self.feed.frames
        try:
            batches, last = _batches(kind, messages, feed.run_id)
        except Exception as error:  # noqa: BLE001 - logged and counted
            if len(messages) > 1:
                half = len(messages) // 2
                self._take_in(kind, messages[:half])
                self._take_in(kind, messages[half:])
                return
            self._failed(kind, error, messages[0], 1)
            return
        for batch, problems in batches:
            # Rewards that are not finite are counted where it is known which rows are copies.
            frames.count(problem for problem in problems if problem.kind != "not_finite")
            if not batch.num_rows:
                continue
            try:
                new = frames.append_steps(batch) if kind == "steps" else frames.append_episodes(batch)
            except Exception as error:  # noqa: BLE001 - logged and counted
                self._failed(kind, error, batch.slice(0, 1).to_pylist()[0], batch.num_rows)
            else:
                self._publish(Arrival(feed.run_id, kind, batch, new))
        if last and kind == "steps":
            feed.step_seq = last
        elif last:
            feed.episode_seq = last

    def _note_waiting(self) -> None:
        inboxes = self._inboxes.values()
        self.feed.waiting = (sum(len(inbox.messages) for inbox in inboxes), sum(inbox.nbytes for inbox in inboxes))

    def _failed(self, kind: Kind, error: Exception, first: object, count: int) -> None:
        _LOG.error("%d %s of run %s could not be taken in", count, kind, self.feed.run_id, exc_info=error)
        detail = f"{kind} could not be taken in, {type(error).__name__}: {error}"
        self.feed.frames.count([Problem("internal_error", detail, cut(repr(first)), count)])

    def _count(self, kind: str, detail: str) -> None:
        self.feed.frames.count([Problem(kind, detail)])


def _batches(kind: Kind, items: list[Any], run_id: str) -> tuple[list[normalize.Batch], int]:
    """Return the batches of some messages (raw, or parsed and fed by hand) and dicts, and the last sequence number; 0: none."""
    steps = kind == "steps"
    raws = [item for item in items if type(item) is bytes]
    others = [item for item in items if type(item) is not bytes] if len(raws) < len(items) else []
    wire: list[Any] = [item for item in others if not isinstance(item, collections.abc.Mapping | Received)]
    fed = [item for item in others if isinstance(item, collections.abc.Mapping)]
    parsed = normalize.parse_messages(trainer_pb2.RunStep if steps else trainer_pb2.RunEpisode, raws)
    problems = parsed.problems
    if {message.run_id for message in parsed.messages} <= {run_id}:
        wire += parsed.messages
    else:
        problems += _strangers(parsed.messages, run_id)
        wire += [message for message in parsed.messages if message.run_id == run_id]
    found = [item for item in others if isinstance(item, Received)]
    batches = list(_decoded(kind, found, run_id))
    if wire or problems:
        batch, more = (normalize.steps_from_messages if steps else normalize.episodes_from_messages)(wire)
        batches.append(normalize.Batch(batch, problems + more))
    if fed:
        batches.append((normalize.steps_from_events if steps else normalize.episodes_from_events)(fed))
    last = found[-1].last_seq if found else 0
    return batches, parsed.messages[-1].seq_id if parsed.messages else last


def _decoded(kind: Kind, found: list[Received], run_id: str) -> Iterator[normalize.Batch]:
    """Yield the rows of some batches, small ones joined: what a batch costs is more than what a few rows do."""
    core = CORE[kind]
    held: list[pa.RecordBatch] = []
    problems: list[Problem] = []
    for received in found:
        try:
            rows = decode(received.data, kind, run_id)
        except BadBatchError as error:
            count = received.last_seq - received.first_seq + 1
            problems.append(Problem("bad_batch", str(error), cut(received.data[:100]), count))
            continue
        numbers = np.arange(received.first_seq, received.first_seq + rows.batch.num_rows, dtype=np.uint64)
        at = rows.batch.schema.get_field_index("seq_id")
        held.append(rows.batch.set_column(at, core.field("seq_id"), pa.array(numbers)))
        problems += rows.problems
        if sum(batch.num_rows for batch in held) >= _ENOUGH:
            yield normalize.Batch(_arrow.combine(core, held), problems)
            held, problems = [], []
    if held or problems:
        yield normalize.Batch(_arrow.combine(core, held) if held else _arrow.empty(core), problems)


def _strangers(messages: list[Any], run_id: str) -> list[Problem]:
    """Return what there is to say of messages that name another run; one that names none is taken to be of the run it was asked for."""
    problems = []
    for message in messages:
        if message.run_id == run_id:
            continue
        if message.run_id:
            detail = f"a message of run {message.run_id!r} came in the stream of {run_id!r}; it was left out"
            problems.append(Problem("wrong_run", detail, cut(message)))
        else:
            message.run_id = run_id
            problems.append(Problem("empty_run_id", f"a message names no run; taken to be of {run_id!r}"))
    return problems
