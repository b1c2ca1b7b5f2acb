"""What a training loop calls: :class:`Emitter`.

``step`` appends a tuple to a list and returns; a thread of its own does everything else (:mod:`~live_telemetry_widget.worker.courier`).
This module needs the standard library only; pyarrow and gRPC are loaded when an emitter is made.
"""

from __future__ import annotations

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
from live_telemetry_widget.worker.ends import LIVE, end_forgotten, ended, outcome_of
from live_telemetry_widget.worker.options import EmitterStats, Observations, OnFull, Options, Outcome, check
from live_telemetry_widget.worker.records import WIDTH
from live_telemetry_widget.worker.spool import default_directory
from live_telemetry_widget.worker.telling import WAKE_AT, Telling, now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from live_telemetry_widget.worker.courier import Courier
    from live_telemetry_widget.worker.helper import Helper

_LOG: Final = logging.getLogger(__name__)


#: With so many times more rows of blocks in the list than wake its thread the training thread waits for it.
_WAIT_AT: Final = 4
#: Seconds that making an emitter waits for the daemon's answer, which may be no.
_PATIENCE: Final = 1.0
_MEBIBYTE: Final = 1024 * 1024
#: Windows cannot wait for a pipe as others can.
_PROCESSES: Final = sys.platform != "win32"


class Emitter(Telling):
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
        check(options)
        self._set_up(options)
        courier = self._start()
        if not courier.answered.wait(_PATIENCE):
            notices.away(options, courier.run_id)
        if courier.refusal is not None:
            self.close(timeout=0)
            raise courier.refusal

    def _set_up(self, options: Options) -> None:
        self._listen(options)
        self._courier: Courier | Helper | None = None
        self._starting = threading.Lock()
        self._closed = False
        self._forget: weakref.finalize[..., Any] | None = None

    def _start(self) -> Courier | Helper:
        """Start what does the rest; a copy in another process does so with its first step."""
        with self._starting:
            if self._courier is None:
                courier = (self._helped() if self._options.process else None) or self._alone()
                exits.watch()
                self._courier = courier
                LIVE[courier] = self.gate
                # An emitter that nobody has any more says no more.
                self._forget = weakref.finalize(self, end_forgotten, courier)
                self._forget.atexit = False  # _finish_all does that, and waits
            return self._courier

    def _helped(self) -> Helper | None:
        """Start a process; None where there can be none."""
        from live_telemetry_widget.worker.helper import Helper  # noqa: PLC0415 - not for those who do it alone

        helper = Helper(self._options, self._rows, self._manners, self.gate, ended)
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
        from live_telemetry_widget.worker.courier import Courier  # noqa: PLC0415 - loads pyarrow and gRPC
        from live_telemetry_widget.worker.sources import RowList  # noqa: PLC0415 - as above

        courier = Courier(self._options, RowList(self._rows), self.gate, ended)
        courier.start()
        return courier

    # -- the training thread -----------------------------------------------------------------------------------------

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
        while len(self._rows) * each >= WAKE_AT * _WAIT_AT * WIDTH and courier.alive and not self.gate.off:
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
                LIVE.pop(courier, None)
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


__all__ = ["Emitter", "EmitterStats", "Options", "now", "outcome_of"]
