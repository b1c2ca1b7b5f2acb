"""What a training loop calls: :class:`Emitter`.

``step`` appends a tuple to a list and returns; a thread of its own does everything else (:mod:`~live_telemetry_widget.worker.courier`).
This module needs the standard library only; pyarrow and gRPC are loaded when an emitter is made.
"""

from __future__ import annotations

import atexit
import copy
import dataclasses
import logging
import multiprocessing
import os
import pathlib
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from live_telemetry_widget import _names
from live_telemetry_widget._names import DEFAULT_ADDRESS
from live_telemetry_widget._ulid import new_ulid
from live_telemetry_widget.errors import ClosedError
from live_telemetry_widget.worker import exits, notices
from live_telemetry_widget.worker.config import as_json
from live_telemetry_widget.worker.gate import Gate
from live_telemetry_widget.worker.many import ManySteps
from live_telemetry_widget.worker.records import (
    FIXED,
    NOTHING,
    NUMBERS,
    PLAIN,
    WIDTH,
    Block,
    Episode,
    Manner,
    plain,
    snapshot,
    snapshots,
    with_outcome,
)
from live_telemetry_widget.worker.spool import default_directory
from live_telemetry_widget.worker.versions import versions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from live_telemetry_widget.worker.bulk import Bulk
    from live_telemetry_widget.worker.courier import Courier
    from live_telemetry_widget.worker.helper import Helper
    from live_telemetry_widget.worker.records import Step

_LOG: Final = logging.getLogger(__name__)

Outcome = Literal["completed", "failed", "cancelled"]
OnFull = Literal["block", "drop_oldest", "stop"]
Observations = Literal["full", "summary", "none"]

#: With so many rows of blocks in the list its thread is woken; with so many times more the training thread waits for it.
_WAKE_AT: Final = 8_192
_WAIT_AT: Final = 4
#: So many types and shapes of arrays are kept as their bytes; a loop with more has them at random.
_MOST_SHAPES: Final = 100
#: Seconds that making an emitter waits for the daemon's answer, which may be no.
_PATIENCE: Final = 1.0
_MEBIBYTE: Final = 1024 * 1024
#: Of a command line: a program may stand in it as text.
_LONGEST_WORD: Final = 1_000
#: Kinds of problems that each cost a row.
_ROWS_LOST: Final = frozenset({"bad_index", "internal_error", "helper_lost"})
#: Windows cannot wait for a pipe as others can.
_PROCESSES: Final = sys.platform != "win32"


@dataclasses.dataclass(slots=True)
class Options:
    """What an :class:`Emitter` was told; see there."""

    address: str
    run_id: str
    name: str
    config: dict[str, Any]
    agent_id: str
    worker_id: str
    spool_dir: pathlib.Path | None
    spool_limit: int
    on_full: OnFull
    observations: Observations
    observations_every: int
    first_episode: int
    control: bool
    interval: float
    heartbeat: float
    #: Whether this emitter says how the run ended; a copy in another process does not.
    owner: bool = True
    #: Whether encoding and publishing have a process of their own.
    process: bool = True
    #: What the training process has said of the run, for a process that is not it.
    described: dict[str, Any] | None = None

    @property
    def summary(self) -> bool:
        """Whether of an observation only its like is told."""
        return self.observations == "summary"

    def run_config(self) -> dict[str, Any]:
        """Return what the daemon is told of the run."""
        if self.described is not None:
            return self.described
        # Where the configs of submitted runs have it, and readers look for it.
        worker = {"config": self.config} if self.config else {}
        metadata = {
            "agent_id": self.agent_id,
            "worker_id": self.worker_id,
            "versions": versions_of(sys.executable),
            **({"worker": worker} if worker else {}),
        }
        command = [word[:_LONGEST_WORD] for word in sys.orig_argv]
        program = pathlib.PurePath(sys.argv[0]).name if sys.argv and sys.argv[0] not in {"", "-c"} else "python"
        return {
            "run_name": self.name or program,
            "entry_point": command[0] if command else program,
            "arguments": command[1:],
            "metadata": metadata,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class EmitterStats:
    """What has become of what an emitter was told. Rows are steps and episodes.

    Attributes
    ----------
    steps, episodes : int
        Taken from the training thread; what it said within the last moments is not counted yet.
    confirmed_steps, confirmed_episodes : int
        Of these, how many the daemon has committed.
    recovered : int
        Rows of an earlier process with the same run and spool that were delivered in its place.
    waiting : int
        Rows in the spool.
    spooled_bytes : int
    dropped : int
        Rows that ``on_full="drop_oldest"`` has given up.
    not_recorded : int
        Steps that were not taken, because recording has ended (``why``).
    refused : int
        Rows that the daemon refuses.
    connected : bool
        Whether the daemon has opened the run.
    why : str
        Why nothing is recorded any more, or what went wrong last; empty while all is well.
    problems : dict
        What was wrong with values, by kind (docs/problems.md).
    """

    steps: int = 0
    episodes: int = 0
    confirmed_steps: int = 0
    confirmed_episodes: int = 0
    recovered: int = 0
    waiting: int = 0
    spooled_bytes: int = 0
    dropped: int = 0
    not_recorded: int = 0
    refused: int = 0
    connected: bool = False
    why: str = ""
    problems: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing of what was told is lost for good: what the daemon has not confirmed yet is still on its way.

        >>> EmitterStats(steps=5, waiting=2).complete, EmitterStats(steps=5, dropped=1).complete
        (True, False)
        """
        return not (self.dropped or self.not_recorded or self.refused or not _ROWS_LOST.isdisjoint(self.problems))


class Emitter(ManySteps):
    """Tells a daemon what a training loop does, without holding it up.

    Parameters
    ----------
    address
        ``"host:port"`` of the daemon. It may be away: what is told meanwhile waits in the spool.
    run_id
        A run to make or to join; empty: the one of ``live-telemetry run`` or of the daemon that started this process, else a new one.
    name
        The run's name for people.
    config
        Kept with the run: hyperparameters and the like. What JSON has, and NumPy's numbers and arrays.
    agent_id, worker_id
        Of steps that name no agent. Two processes of one run need two worker ids.
    spool_dir
        A directory for what is not confirmed yet; it outlives a crash, and the next emitter of the same run and directory
        delivers it. None: with the user's other state (``~/.local/state/live-telemetry/spool``). False: memory only.
    spool_limit
        In bytes, compressed.
    on_full
        At that limit: ``"block"`` (the next step waits), ``"drop_oldest"`` (counted, and a gap in the run), ``"stop"`` (no more is recorded).
    observations
        ``"full"``; ``"summary"`` (shape, type, least, greatest, mean); ``"none"``.
    observations_every
        Keep that of every so-manieth step only.
    first_episode
        The number of each agent's first episode, where steps give none: of a run that is gone on with.
    control
        Obey people: a paused run waits in its next step, a cancelled one gets
        :class:`~live_telemetry_widget.errors.RunCancelledError` there.
    interval
        Seconds between two batches; what the training thread said since is what a crash of the process can lose.
    heartbeat
        Seconds between signs of life.
    process
        Encode and publish in a process of their own, so that the training process's interpreter does not share its time with that. False: in
        a thread. (On Windows, always.)

    Raises
    ------
    ConfigError
        `config` holds something for which JSON has no word.
    DaemonError
        The daemon answers, and refuses the run: it has ended, for one.
    ValueError
        A parameter is none.

    Examples
    --------
    >>> import live_telemetry_widget as ltw
    >>> with ltw.serve() as server, Emitter(server.address, name="by hand") as emitter:
    ...     for t in range(3):
    ...         emitter.step(action=t, reward=1.0, observation=[t, t], terminated=t == 2, epsilon=0.1)
    ...     emitter.flush()
    True
    """

    def __init__(  # noqa: PLR0913 - keywords with defaults
        self,
        address: str = DEFAULT_ADDRESS,
        run_id: str = "",
        *,
        name: str = "",
        config: Mapping[str, Any] | None = None,
        agent_id: str = "",
        worker_id: str = "",
        spool_dir: str | os.PathLike[str] | Literal[False] | None = None,
        spool_limit: int = 256 * _MEBIBYTE,
        on_full: OnFull = "block",
        observations: Observations = "full",
        observations_every: int = 1,
        first_episode: int = 0,
        control: bool = True,
        interval: float = 0.02,
        heartbeat: float = 5.0,
        process: bool = _PROCESSES,
    ) -> None:
        directory = (
            default_directory() if spool_dir is None else None if spool_dir is False else pathlib.Path(spool_dir)
        )
        directory = None if directory is None else directory.absolute()
        given = os.environ.get(_names.RUN_ID, "")
        options = Options(
            address=address,
            run_id=run_id or given or new_ulid(),
            name=name,
            config=as_json({} if config is None else config),
            agent_id=agent_id,
            worker_id=worker_id,
            spool_dir=directory,
            spool_limit=spool_limit,
            on_full=on_full,
            observations=observations,
            observations_every=observations_every,
            first_episode=first_episode,
            control=control,
            interval=interval,
            heartbeat=heartbeat,
            process=process,
            # Who has started this process, and given it a run, says how that ends.
            owner=bool(run_id) or not given,
        )
        _check(options)
        self._set_up(options)
        courier = self._start()
        if not courier.answered.wait(_PATIENCE):
            notices.away(options, courier.run_id)
        if courier.refusal is not None:
            self.close(timeout=0)
            raise courier.refusal

    def _set_up(self, options: Options) -> None:
        self._options = options
        self._rows: list[Any] = []
        #: Puts down a row (records.py), once :meth:`admits` has said yes or the gate is not shut.
        self.put: Callable[[tuple[Any, ...]], None] = self._rows.extend
        self.gate = Gate(obeys=options.control)
        self._manners: list[Manner] = []
        #: Those of arrays that ``step`` was given, by type and shape.
        self._arrays: dict[tuple[Any, ...], int] = {}
        self._courier: Courier | Helper | None = None
        self._starting = threading.Lock()
        self._closed = False
        #: The class, type and shape of the last of them, and its manner: most are like the one before.
        self._array: Any = None
        self._dtype: Any = None
        self._shape: Any = None
        self._same: int | None = None
        self._seen = 0
        #: Whether an observation needs more than a look at its type.
        self.choosy = options.observations == "none" or options.observations_every > 1
        self._forget: weakref.finalize[..., Any] | None = None

    def _start(self) -> Courier | Helper:
        """Start what does the rest; a copy in another process does so with its first step."""
        with self._starting:
            if self._courier is None:
                courier = (self._helped() if self._options.process else None) or self._alone()
                exits.watch()
                self._courier = courier
                _LIVE[courier] = self.gate
                # An emitter that nobody has any more says no more.
                self._forget = weakref.finalize(self, _end_forgotten, courier)
                self._forget.atexit = False  # _finish_all does that, and waits
            return self._courier

    def _helped(self) -> Helper | None:
        """Start a process; None where there can be none."""
        from live_telemetry_widget.worker.helper import Helper  # noqa: PLC0415 - not for those who do it alone

        helper = Helper(self._options, self._rows, self._manners, self.gate, _ended)
        try:
            helper.start()
        except (OSError, RuntimeError) as error:  # a sandbox without processes; the interpreter is ending
            _LOG.warning("run %s: no helper process (%s); its work is done in this one", self.run_id, error)
            return None
        if helper.born():
            return helper
        _LOG.warning("run %s: the helper process does not start; its work is done in this one", self.run_id)
        return None

    def _alone(self) -> Courier:
        """Start a thread of this process."""
        from live_telemetry_widget.worker.courier import Courier, RowList  # noqa: PLC0415 - loads pyarrow and gRPC

        courier = Courier(self._options, RowList(self._rows), self.gate, _ended)
        courier.start()
        return courier

    # -- the training thread -----------------------------------------------------------------------------------------

    def step(  # noqa: PLR0913 - a step's fields, by name
        self,
        action: Any = None,  # noqa: ANN401 - as the environment has it
        reward: float = 0.0,
        observation: Any = None,  # noqa: ANN401 - as above
        terminated: bool = False,  # noqa: FBT001, FBT002 - in Gymnasium's order
        truncated: bool = False,  # noqa: FBT001, FBT002 - as above
        *,
        episode: int | None = None,
        step_index: int | None = None,
        agent_id: str | None = None,
        **further: Any,  # noqa: ANN401 - whatever a column may hold
    ) -> None:
        """Tell of a step. Returns at once, unless the run is paused or its spool full.

        Parameters
        ----------
        action, observation
            Numbers, arrays, or whatever can be told as JSON. Arrays are copied.
        reward, terminated, truncated
            As Gymnasium's ``step`` returns them.
        episode, step_index
            Counted by the emitter, from ``first_episode`` and 0, where they are not given.
        agent_id
            Whose step it is; each agent's episodes are counted apart.
        further
            Columns of their own: ``epsilon=0.1``, ``loss=...``. Those of the schema (``episode_seed``, ``policy_label``,
            ``render_payload`` ...) have their own place.

        Raises
        ------
        RunCancelledError
            Somebody has cancelled the run.
        ClosedError
            The emitter was closed.
        """
        if self.gate.shut and not self.admits():
            return
        manner = None
        if observation.__class__ not in PLAIN or self.choosy:
            if (
                observation.__class__ is self._array
                and observation.dtype is self._dtype
                and observation.shape == self._shape
            ):
                manner = self._same
            else:
                manner = self._manner_of(observation)
            observation = self.keep(observation) if manner is None else observation.tobytes()
        if action.__class__ not in PLAIN:
            action = plain(action)
        if further or agent_id is not None or episode is not None or step_index is not None:
            self._put_unusual(
                (now(), action, reward, observation, terminated, truncated, episode, step_index, agent_id),
                further,
                manner,
            )
        else:
            self.put((now(), action, reward, observation, terminated, truncated, manner))

    def _put_unusual(self, told: tuple[Any, ...], further: dict[str, Any], manner: int | None) -> None:
        """Put down a step that says more than most, as a record."""
        if manner is not None:
            dtype, shape = self._manners[manner].array or ("", ())
            numpy = sys.modules["numpy"]
            told = (*told[:3], numpy.frombuffer(told[3], dtype).reshape(shape), *told[4:])
        self.put(((*told, snapshots(further) if further else None, None, None), *NOTHING))

    def _manner_of(self, observation: Any) -> int | None:  # noqa: ANN401 - as the environment has it
        """Return the manner of steps with such an observation, if it is an array of numbers."""
        numpy = sys.modules.get("numpy")
        if self.choosy or numpy is None or observation.__class__ is not numpy.ndarray:
            return None
        key = (observation.dtype, observation.shape)
        number = self._arrays.get(key)
        if number is None and key[0].kind in NUMBERS and len(self._arrays) < _MOST_SHAPES:
            number = self._arrays[key] = self.manner(array=(key[0].str, key[1]))
        if number is not None:
            self._array, (self._dtype, self._shape), self._same = numpy.ndarray, key, number
        return number

    def manner(self, **how: Any) -> int:  # noqa: ANN401 - as Manner has it
        """Make a :class:`~live_telemetry_widget.worker.records.Manner` known; return its number."""
        made = Manner(len(self._manners), **how)
        self._manners.append(made)
        self.put((made, *NOTHING))
        return made.number

    def episode(  # noqa: PLR0913 - an episode's fields, by name
        self,
        total_reward: float | None = None,
        steps: int | None = None,
        *,
        terminated: bool | None = None,
        truncated: bool | None = None,
        episode: int | None = None,
        agent_id: str | None = None,
        **further: Any,  # noqa: ANN401 - whatever a column may hold
    ) -> None:
        """End an episode, or say more of the one that its last step has ended.

        A step that is terminated or truncated ends its episode by itself. What is not given here is taken from the steps.

        Parameters
        ----------
        total_reward, steps, terminated, truncated
            Of the episode.
        episode
            Its number; the running one's, or the last one's when it has just ended.
        agent_id
            Whose it is.
        further
            Columns of their own: ``loss=...``. ``success=True`` or ``False`` is the episode's ``outcome`` too, ``"Success"`` or ``"Failed"``, unless
            `outcome` is said in one of the words of :attr:`Run.episodes <live_telemetry_widget.run.Run.episodes>`.
        """
        if self.gate.shut and not self.admits():
            return
        said = Episode(
            now(), total_reward, steps, terminated, truncated, episode, agent_id, snapshots(with_outcome(further))
        )
        self.put((said, *NOTHING))

    def record(self, row: Step | Episode | Block | Bulk, rows: int = 1) -> None:
        """Take a record as it is: for wrappers, which have copied what they must."""
        if self.gate.shut and not self.admits():
            return
        self.put((row, *NOTHING))
        if rows > 1 and len(self._rows) * rows >= _WAKE_AT * WIDTH:
            self._press(rows)

    def keep(self, observation: Any) -> Any:  # noqa: ANN401 - as the environment has it
        """Return a copy of an observation that is to be kept, None for others."""
        if self.choosy:
            self._seen += 1
            if not self.keeps(self._seen - 1):
                return None
        return observation if observation.__class__ in FIXED else snapshot(observation)

    def keeps(self, number: int) -> bool:
        """Whether that of the step of that number, from 0, is to be kept."""
        return self._options.observations != "none" and number % self._options.observations_every == 0

    def admits(self) -> bool:
        """Wait as long as the gate is shut; whether a row may be put down."""
        if self._closed:
            msg = f"the emitter of run {self.run_id} was closed; make another"
            raise ClosedError(msg)
        if self._courier is None and not self.gate.off:
            self._start()  # a copy's first step
            self.gate.release()
        return not self.gate.shut or self.gate.admit()

    def _press(self, each: int) -> None:
        """Have the thread look at blocks of so many rows; wait for it when they become too many."""
        courier = self._courier
        if courier is None:
            return
        courier.wake()
        while len(self._rows) * each >= _WAKE_AT * _WAIT_AT * WIDTH and courier.alive and not self.gate.off:
            time.sleep(self._options.interval / 4)

    # -- around it ---------------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The run's id, for ``client.run(...)``."""
        return self._courier.run_id if self._courier else self._options.run_id

    @property
    def first_episode(self) -> int:
        """The number of each agent's first episode."""
        return self._options.first_episode

    @property
    def address(self) -> str:
        """The daemon's."""
        return self._options.address

    @property
    def paused(self) -> bool:
        """Whether somebody has paused the run, so that the next step waits."""
        return self.gate.paused

    @property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled the run."""
        return self.gate.cancelled

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def stats(self) -> EmitterStats:
        """What has become of what was told."""
        courier, gate = self._courier, self.gate
        if courier is None:
            return EmitterStats(not_recorded=gate.turned_away, why=gate.off)
        return courier.stats()

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until the daemon has committed all that was told so far; whether it has, within so many seconds.

        False, too, when something of it never will be committed (``stats.complete`` is False): dropped, refused, not recorded.
        """
        courier = self._courier
        return courier.flush(timeout) if courier is not None else not self._rows

    def close(self, outcome: Outcome = "completed", reason: str = "", *, timeout: float = 10.0) -> bool:
        """Deliver what is left, tell the daemon how the run ended, and end.

        Parameters
        ----------
        outcome
            ``"completed"``, ``"failed"`` or ``"cancelled"``.
        reason
            Why, for people.
        timeout
            Seconds. What the daemon has not confirmed then stays in the spool: the next emitter of the same run and ``spool_dir`` delivers it.

        Returns
        -------
        bool
            Whether the daemon has committed every row that was told, and heard of the end. False when something is left in the spool,
            and when rows were given up: by ``on_full="drop_oldest"`` or ``"stop"``, because the daemon refused them, or because they could not
            be encoded; :attr:`stats` says how many of which. For a second call, what the first has returned.
        """
        courier = self._courier
        if not self._closed:
            self._closed = True
            self.gate.close("the emitter was closed")
            if courier is not None:
                if self._forget is not None:
                    self._forget.detach()
                courier.end(outcome, reason, timeout)
                # It keeps to the time itself, but may be in the middle of a large batch.
                courier.join(timeout + 10.0)
                _LIVE.pop(courier, None)
                notices.what_is_left(courier)
        return courier is None or courier.delivered

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        outcome, reason = outcome_of(error)
        self.close(outcome, reason)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "paused" if self.paused else self.gate.off or "open"
        return f"<Emitter of run {self.run_id} to {self.address}, {state}>"

    # -- other processes ---------------------------------------------------------------------------------------------

    def __deepcopy__(self, _: object) -> Self:
        """Return the emitter itself: there is one way to the daemon."""
        return self

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Become, in another process, a publisher of its own of the same run, with a worker id of its own."""
        return _copy_of, (dataclasses.replace(self._options, run_id=self.run_id, owner=False), os.getpid())


def _copy_of(options: Options, pid: int) -> Emitter:
    options = copy.copy(options)
    if pid != os.getpid():
        process = multiprocessing.current_process().name
        options.worker_id = f"{options.worker_id}/{process}" if options.worker_id else process
    else:
        options.worker_id = f"{options.worker_id}/copy-{new_ulid()[-6:]}".lstrip("/")
    emitter = Emitter.__new__(Emitter)
    emitter._set_up(options)  # noqa: SLF001 - in place of __init__, which would wait for the daemon
    emitter.gate.hold()  # until its first step
    return emitter


def emitter_for(to: Emitter | str | None, game_id: str, options: dict[str, Any]) -> tuple[Emitter, bool]:
    """Return the emitter that a wrapper is to use, and whether it is the wrapper's own, to be closed with it.

    Parameters
    ----------
    to
        An emitter; or a daemon's address, None for the usual one, to make an emitter for.
    game_id
        Of the environment, for the config of an emitter that is made; empty when it has none.
    options
        Of an emitter that is made.

    Raises
    ------
    TypeError
        Options were given with an emitter, which has its own.
    """
    if isinstance(to, Emitter):
        if options:
            msg = f"{', '.join(options)}: give these to the Emitter, which was made before the wrapper"
            raise TypeError(msg)
        return to, False
    given = options.pop("config", None)
    config = {**({"game_id": game_id} if game_id else {}), **as_json({} if given is None else given)}
    return Emitter(to or DEFAULT_ADDRESS, config=config, **options), True


def outcome_of(error: BaseException | None) -> tuple[Outcome, str]:
    """Return how a training loop ended that was left by an exception, or by none.

    >>> outcome_of(None)
    ('completed', '')
    >>> outcome_of(ZeroDivisionError("division by zero"))
    ('failed', 'ZeroDivisionError: division by zero')
    >>> outcome_of(KeyboardInterrupt())
    ('cancelled', 'interrupted')
    """
    from live_telemetry_widget.errors import RunCancelledError  # noqa: PLC0415 - beside what it decides

    if error is None:
        return "completed", ""
    if isinstance(error, KeyboardInterrupt | RunCancelledError):
        return "cancelled", "interrupted" if isinstance(error, KeyboardInterrupt) else "cancelled"
    if isinstance(error, SystemExit):
        return ("failed", f"exit code {error.code}") if error.code else ("completed", "")
    return "failed", f"{type(error).__name__}: {error}"


def _check(options: Options) -> None:
    _names.check_address(options.address)
    for name, value, allowed in (
        ("on_full", options.on_full, ("block", "drop_oldest", "stop")),
        ("observations", options.observations, ("full", "summary", "none")),
    ):
        if value not in allowed:
            msg = f"{name} is {value!r}; give one of {', '.join(map(repr, allowed))}"
            raise ValueError(msg)
    for name, number, least in (
        ("spool_limit", options.spool_limit, 1),
        ("observations_every", options.observations_every, 1),
        ("first_episode", options.first_episode, 0),
    ):
        if number < least:
            msg = f"{name} is {number!r}; give {least} or more"
            raise ValueError(msg)
    for name, seconds in (("interval", options.interval), ("heartbeat", options.heartbeat)):
        if not seconds > 0:
            msg = f"{name} is {seconds!r}; give seconds, more than 0"
            raise ValueError(msg)


def _ended(courier: Courier | Helper) -> None:
    _LIVE.pop(courier, None)


now = time.time_ns

#: The emitters' threads that run, and what holds their training threads. Of the process, as what needs it is: its end, and its forks.
_LIVE: Final[dict[Courier | Helper, Gate]] = {}


def _end_forgotten(courier: Courier | Helper) -> None:
    """End the run of an emitter that is garbage: a thread or a function was left, by its end or by an exception, without closing it."""
    outcome, reason = outcome_of(exits.left_by())
    if outcome == "completed":
        outcome, reason = "failed", "the emitter was not closed"
    courier.end(outcome, reason, 30.0)


def _finish_all() -> None:
    """At the end of the process: deliver what is left, and say how it ended."""
    # The first is set when an exception ended the program; of SystemExit Python tells nobody.
    outcome, reason = outcome_of(getattr(sys, "last_value", None) or exits.left_by())
    live = list(_LIVE.items())  # one that has ended is not in it any more
    for courier, gate in live:
        gate.close("the process ends")
        courier.end(outcome, reason, 10.0)
    for courier, _ in live:
        courier.join(20.0)
        notices.what_is_left(courier)
    _LIVE.clear()


def _after_fork() -> None:
    """In a forked process: its parent's emitters record nothing there. gRPC and threads do not survive a fork."""
    for courier, gate in _LIVE.items():
        gate.reset("this process was forked from the emitter's; make one here, or use the spawn method")
        courier.forget()
    _LIVE.clear()


atexit.register(_finish_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

__all__ = ["Emitter", "EmitterStats", "Options", "now", "outcome_of"]
