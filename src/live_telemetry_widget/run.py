"""What a user holds: a run, live or recorded.

Examples
--------
>>> import live_telemetry_widget as ltw
>>> from live_telemetry_widget.hub import TelemetryAsyncHub
>>> with TelemetryAsyncHub() as hub:
...     run = ltw.Run(hub.subscribe_run("mine"))
...     hub.submit_step({"run_id": "mine", "episode": 0, "step_index": 0, "reward": 1.0, "terminated": True})
...     hub.complete_run("mine")
...     run.wait(timeout=5)
>>> run.episodes[["episode", "total_reward", "outcome", "source"]].to_dict("records")
[{'episode': 0, 'total_reward': 1.0, 'outcome': 'Success', 'source': 'steps'}]
"""

from __future__ import annotations

import operator
import pathlib
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from live_telemetry_widget import about, exchange, exports, lazy, slices
from live_telemetry_widget._plain import plain
from live_telemetry_widget.decode import check_decode, with_columns
from live_telemetry_widget.errors import ClosedError, ConnectError, RecordingError, WaitTimeoutError
from live_telemetry_widget.feed import row_of
from live_telemetry_widget.lens import AgentFrames
from live_telemetry_widget.report import kept
from live_telemetry_widget.stats import RunStats, stats_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine, Iterable

    import pyarrow as pa

    from live_telemetry_widget.about import RunInfo
    from live_telemetry_widget.client import TrainerClient
    from live_telemetry_widget.decode import Decode, StepFrame
    from live_telemetry_widget.exports import Format, Written
    from live_telemetry_widget.feed import RunFeed
    from live_telemetry_widget.frames import RunFrames
    from live_telemetry_widget.lazy import LazySteps
    from live_telemetry_widget.live import LiveView
    from live_telemetry_widget.recorder import Recorded, Tape
    from live_telemetry_widget.report.kept import Embed, Summary
    from live_telemetry_widget.report.page import Report
    from live_telemetry_widget.report.plots import Plots
    from live_telemetry_widget.schema import RunState
    from live_telemetry_widget.slices import Comparison
    from live_telemetry_widget.view.widget import LiveTelemetryWidget


#: Seconds that the first question for data waits for what the daemon had.
_LOAD_FOR: Final = 10.0
#: So many names are told of those that there are.
_FEW: Final = 10


def episode_number(number: object) -> int:
    """Return an episode's number as an int, NumPy's too; raises TypeError with what to give instead."""
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        msg = f"the episode's number is {number!r}; give a whole number, as in the column `episode`"
        raise TypeError(msg) from None


class Run:
    """One run: its data as DataFrames, its state, and its view.

    Made by ``client.run(...)``, ``client.latest()`` and ``ltw.open(path).run(...)``. As the last line of a notebook cell it shows
    the live view.

    Parameters
    ----------
    feed
        What the hub, or a recording, puts into it.
    owner
        Whose end would end the run's stream: kept for as long as the run, or its view, is.
    """

    def __init__(self, feed: RunFeed, owner: object = None) -> None:
        self._feed = feed
        self._owner = owner
        self._views: dict[str | None, LiveView] = {}
        self._lock = threading.Lock()
        self._told_loading = self._told_unknown = False
        self._game = ""
        self._tape: Tape | None = None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._feed.run_id

    @property
    def name(self) -> str:
        """The run's name for people; empty when it has none."""
        return str(self._feed.config.get("run_name") or "")

    @property
    def config(self) -> dict[str, Any]:
        """What the run was submitted with; empty when the daemon does not tell (only ours does)."""
        return self._feed.config

    @property
    def status(self) -> RunState:
        """Where the run is, as a word: ``"pending"``, ``"starting"``, ``"ready"``, ``"running"``, ``"paused"``, ``"completed"``, ``"failed"``, ``"cancelled"``, or ``"unknown"`` when no daemon has told."""
        return self._feed.state

    def _loaded(self) -> RunFrames:
        """Return the frames, waiting at the first question for what the daemon had when it was asked."""
        feed = self._feed
        if not self._told_loading and not feed.loaded:
            # A link that is down brings nothing to wait for.
            feed.wait_until(lambda: feed.loaded or feed.link.state in {"reconnecting", "closed"}, _LOAD_FOR)
            self._told_loading = True
            if not feed.loaded:
                warnings.warn(
                    f"run {self.run_id!r} is not all here yet: {self._progress()}; run.wait() waits for its end",
                    stacklevel=3,
                )
        if feed.unknown and not self._told_unknown and not feed.frames.step_count:
            self._told_unknown = True
            warnings.warn(feed.unknown, stacklevel=3)
        return feed.frames

    def _progress(self) -> str:
        """Say how much is here, and of how much."""
        feed = self._feed
        backlog = feed.backlog
        of = f" of {backlog[0]}" if backlog and not feed.loaded else ""
        link = feed.link
        why = f" ({link.state}: {link.message})" if link.message else ""
        return f"{feed.frames.step_count}{of} steps, {feed.frames.episode_count} episodes{why}"

    @property
    def steps(self) -> StepFrame:
        """Every step here now, once: episodes in order of first sight but ascending for each agent of a worker, steps ascending in each.

        The first question waits (10 s at most) until what the daemon had at that time is here; later ones do not wait.

        Returns
        -------
        pandas.DataFrame
            A row a step. ``run_id, worker_id, agent_id`` (category), ``episode, step_index`` (int64), ``timestamp``
            (datetime64[ns, UTC]), ``action`` (int64 or float64 where all are numbers, else text as sent),
            ``observation`` (JSON text), ``reward`` (float64), ``terminated, truncated`` (bool), ``episode_seed`` (UInt64), ``policy_label,
            backend, render_hint, frame_ref, payload_version, render_payload, seq_id``, then the worker's further fields, each of its own type.
            The same object until new rows come: do not change it in place. ``.obs``, ``.actions``, ``.action_names`` decode
            (:class:`~live_telemetry_widget.decode.StepFrame`); ``.attrs`` has ``run_id, game, taken_at, revision``.
        """
        return self._of_game(self._loaded().steps())

    @property
    def episodes(self) -> pd.DataFrame:
        """Every episode known now, the running one included.

        Returns
        -------
        pandas.DataFrame
            A row an episode: ``run_id, worker_id, agent_id, episode, timestamp, total_reward, steps, terminated, truncated,
            outcome, episode_seed`` (``outcome``: ``"Success"`` or ``"Failed"`` when its worker said so, else ``"Success"`` when it ended with a positive total, ``"Failed"`` when
            negative, ``"Completed"`` at zero, ``"Timeout"`` when truncated, ``"Running"``, or ``"Unfinished"`` when the run has ended), ``source`` (``"record"``: the worker said so; ``"steps"``: derived from its steps), ``complete`` (all its
            steps are here), ``metadata`` (JSON text), ``seq_id``, then what the metadata says, each field of its own type. Joins with :attr:`steps` on
            ``worker_id, agent_id, episode``.
        """
        return self._loaded().episodes()

    @property
    def steps_arrow(self) -> pa.Table:
        """:attr:`steps` as an Arrow table, values as they were sent."""
        return self._loaded().steps_table()

    @property
    def episodes_arrow(self) -> pa.Table:
        """:attr:`episodes` as an Arrow table."""
        return self._loaded().episodes_table()

    def lazy_steps(self) -> LazySteps:
        """Return the steps as a stream of record batches, for a run larger than memory; nothing is read yet.

        Returns
        -------
        LazySteps
            DuckDB reads it by its name; ``.reader(columns, where=...)`` is a ``pyarrow.RecordBatchReader``, ``.to_polars()`` a LazyFrame.
        """
        return lazy.of_frames(self._loaded())

    def export(
        self,
        path: str | os.PathLike[str],
        format: Format | None = None,  # noqa: A002 - what everybody calls it
        *,
        overwrite: bool = False,
    ) -> Written:
        """Write the run as it stands to files that other programs read.

        Parameters
        ----------
        path
            ``NAME.parquet``, ``NAME.arrow`` or ``NAME.csv``: the steps; the episodes' records go to ``NAME.episodes.parquet`` beside it.
            ``NAME.jsonl``: the events, as a worker prints them. A directory for ``"huggingface"`` and ``"minari"`` (``.../lake-v0``).
        format
            ``"parquet"``, ``"arrow"``, ``"csv"``, ``"jsonl"``, ``"huggingface"`` or ``"minari"``; by the end of `path` when not given.
        overwrite
            Replace files that are there, as ``live-telemetry export --force`` does; directories of datasets are never replaced.

        Returns
        -------
        Written
            ``paths``, how many ``steps`` and ``episodes``, and how many episodes were ``left_out``: Minari takes whole ones only.

        Raises
        ------
        RecordingError
            It cannot be written there, or files of that name are there and `overwrite` is not said.
        MissingPackageError
            Minari is not installed.
        NoDataError
            No episode is whole enough for Minari.
        """
        target = pathlib.Path(path)
        form = exchange.format_of(target, format)
        there = [str(file) for file in exports.files_of(target, form) if file.exists()]
        if there and not overwrite:
            msg = f"{' and '.join(there)} exists; give another path, or overwrite=True"
            raise RecordingError(msg)
        return exchange.export(self._loaded(), row_of(self._feed), target, form, lambda: about.card(self._feed))

    def episode(
        self, number: int, *, agent: str | None = None, worker: str | None = None, decode: Decode = "auto"
    ) -> StepFrame:
        """Return the steps of one episode, ascending; columns as in :attr:`steps`.

        Parameters
        ----------
        number
            As in the ``episode`` column.
        agent, worker
            Only of this agent or worker; all of them otherwise.
        decode
            ``"auto"``: the observation is JSON text, which ``.obs`` decodes. ``"columns"``: its fields are columns ``observation.FIELD``.
            ``"objects"``: it is what the JSON says.

        Raises
        ------
        RunNotFoundError
            There is no such episode; the message names the nearest.
        TypeError
            `number` is no whole number.
        ValueError
            `decode` is none of these, or the observations have no fields.
        """
        check_decode(decode)
        number = episode_number(number)
        found = slices.episode(self._frames_with(number), number, agent, worker)
        if found is None:  # what is not there is best said by who has seen everything
            found = slices.episode(self._loaded(), number, agent, worker)
        if found is None:
            raise slices.no_episode(self._loaded(), number, agent, worker, self.status)
        return with_columns(self._of_game(found), decode)

    def episodes_where(self, text: str) -> pd.DataFrame:
        """Return the episodes that an expression selects, like ``"outcome == 'Failed' and steps < 10"``; columns as in :attr:`episodes`.

        The language is that of the view's filter: see :mod:`live_telemetry_widget.query`.

        Raises
        ------
        QueryError
            `text` is no expression, or does not fit the columns; the message says where, and what may have been meant.
        TypeError
            `text` is no text.
        """
        return slices.where(self._loaded(), text)

    def compare(self, first: int, second: int, *, agent: str | None = None, worker: str | None = None) -> Comparison:
        """Return two episodes aligned by step, with the first step at which they differ.

        Raises
        ------
        RunNotFoundError
            One of them is not there.
        ValueError
            They are of several agents or workers, of which none is named; or they are the same.
        """
        left, right = (self.episode(number, agent=agent, worker=worker) for number in (first, second))
        return slices.compare(left, right, episode_number(first), episode_number(second))

    def tail(self, count: int = 5) -> StepFrame:
        """Return the steps that came last, in order of arrival; quick however long the run is."""
        return self._of_game(slices.tail(self._loaded(), count))

    def sample(self, count: int = 5, *, seed: int | None = None) -> StepFrame:
        """Return steps drawn at random, each at most once, in order of arrival; the same for the same `seed` and steps."""
        return self._of_game(slices.sample(self._loaded(), count, seed))

    def _frames_with(self, number: int) -> RunFrames:  # noqa: ARG002 - recordings read only that episode
        """Return frames that hold all steps of the episodes of a number."""
        return self._loaded()

    def _of_game(self, steps: StepFrame) -> StepFrame:
        self._game = self._game or about.game_in(self.config, steps, self._a_record())
        steps.attrs["game"] = self._game
        return steps

    def _a_record(self) -> pa.Table:
        """Return the row of one episode, if there is any."""
        return self._feed.frames.episode_rows(0, 1)

    @property
    def info(self) -> RunInfo:
        """What is known of the run now: config, game, seed, policy, versions, command line, times."""
        self._loaded()
        return about.info(self._feed)

    def seed_for(self, episode: int, *, agent: str | None = None, worker: str | None = None) -> int:
        """Return what the environment was reset with for an episode.

        Raises
        ------
        NoDataError
            Nothing tells it.
        RunNotFoundError
            There is no such episode.
        ValueError
            It is of several agents or workers, of which none is named.
        """
        return about.seed_for(self.run_id, *self._alone(episode, agent, worker))

    def reproduce(self, episode: int, *, agent: str | None = None, worker: str | None = None) -> str:
        """Return a snippet of Python that plays an episode again with Gymnasium, and fails when it ends otherwise.

        Raises
        ------
        NoDataError
            Its environment, its seed or some of its steps are not known; the message says which.
        RunNotFoundError
            There is no such episode.
        ValueError
            It is of several agents or workers, of which none is named.
        """
        return about.reproduce(self._feed, *self._alone(episode, agent, worker))

    def _alone(self, number: int, agent: str | None, worker: str | None) -> tuple[StepFrame, dict[str, Any]]:
        """Return the steps of an episode of one agent, and its row among the episodes."""
        steps = self.episode(number, agent=agent, worker=worker)
        return steps, slices.record_of(self._loaded(), episode_number(number), agent, worker)

    @property
    def problems(self) -> pd.DataFrame:
        """What was wrong with the data, a row a kind.

        Returns
        -------
        pandas.DataFrame
            ``kind``, ``count``, ``detail`` (of the last case), ``raw`` (its text, cut). Empty when all is well.
        """
        rows = [(p.kind, p.count, p.detail, p.raw) for p in self._loaded().problems()]
        return pd.DataFrame(rows, columns=["kind", "count", "detail", "raw"])

    @property
    def finished(self) -> bool:
        """Whether the run has ended and its last step is here."""
        return self._feed.finished

    @property
    def agents(self) -> list[str]:
        """The agents seen so far, in order of first sight; ``""`` where the worker named none."""
        return self._feed.frames.agents

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called on every change, on a background thread: quick, and without raising. Return what ends that."""
        return self._feed.listen(listener)

    @property
    def gaps(self) -> pd.DataFrame:
        """What is known to be missing, a row a gap; empty when nothing is.

        Returns
        -------
        pandas.DataFrame
            ``worker_id, agent_id, episode, last_episode, first_step, steps``: so many steps from `first_step` of `episode` on; where `steps`
            is 0, nothing has come of `episode` to `last_episode`. A gap that is filled is gone. At most 10,000.
        """
        rows = self._loaded().gaps()
        return pd.DataFrame(rows, columns=["worker_id", "agent_id", "episode", "last_episode", "first_step", "steps"])

    @property
    def reason(self) -> str:
        """Why the run failed or was cancelled; empty otherwise."""
        return self._feed.reason

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run has ended and its last step is here.

        Parameters
        ----------
        timeout
            Seconds; None waits for ever. A cell that waits can be interrupted.

        Raises
        ------
        WaitTimeoutError
            It had not ended by then; what has come stays and goes on coming.
        ConnectError
            The link was given up (``max_attempts`` of :func:`~live_telemetry_widget.connect`) or closed.
        """
        feed = self._feed
        feed.wait_until(lambda: feed.finished or feed.link.state == "closed", timeout)
        if feed.finished:
            return
        link = feed.link
        if link.state == "closed":
            why = link.message or "it is not followed any more"
            msg = f"run {self.run_id!r} cannot be waited for: {why}; {self._progress()} are here"
            raise ConnectError(msg)
        if timeout is None:
            return
        why = f"; the link is {link.state}: {link.message}" if link.message else ""
        known = "" if feed.info else "; the daemon knows no run of this id yet"
        msg = (
            f"run {self.run_id!r} is {self.status.value} after {timeout:g} s, with {feed.frames.step_count} steps of "
            f"{feed.frames.episode_count} episodes here{known}{why}"
        )
        raise WaitTimeoutError(msg)

    def pause(self) -> None:
        """Have the worker make no more steps until :meth:`resume`; returns when its proxy has heeded it.

        A worker that reads control lines stops at its next step; any other is held by its pipe, and may first compute some hundred
        steps that are shown after :meth:`resume`.

        Raises
        ------
        DaemonError
            The run has ended, or nobody listens for it: its proxy cannot, or another's daemon relays nothing. The message says which.
        ConnectError
            No daemon answers.
        ClosedError
            This is a recording: there is nothing to pause.
        """
        self._control(pause=True)

    def resume(self) -> None:
        """Have the worker go on; raises as :meth:`pause`."""
        self._control(resume=True)

    def set_rate(self, hz: int | None) -> None:
        """Have the worker make so many steps a second at most; raises as :meth:`pause`.

        Parameters
        ----------
        hz
            From 1; None: as many as it can.

        Raises
        ------
        ValueError
            `hz` is no such number.
        """
        if hz is not None and (isinstance(hz, bool) or not isinstance(hz, int) or not 1 <= hz < 2**32):
            msg = f"hz is {hz!r}; give a whole number from 1, or None for no limit"
            raise ValueError(msg)
        self._control(max_rate_hz=hz or 0)

    def cancel(self) -> None:
        """Have the worker ended. Returns when that is under way; :meth:`wait` waits for the end. One that has ended stays as it is.

        Raises
        ------
        ConnectError
            No daemon answers.
        DaemonError
            The daemon knows no such run.
        ClosedError
            This is a recording: there is nothing to end.
        """
        self._ask(lambda client: client.cancel_run(self.run_id))

    def _control(self, **event: int) -> None:
        self._ask(lambda client: client.control(self.run_id, **event))

    def _ask(self, call: Callable[[TrainerClient], Coroutine[Any, Any, None]]) -> None:
        hub = getattr(self._owner, "hub", None)
        if hub is None:
            msg = f"run {self.run_id!r} is not followed at a daemon, so there is no worker to reach; ltw.connect(...).run(...) has one"
            raise ClosedError(msg)
        hub.ask(call)

    @property
    def owner(self) -> object:
        """Who follows it: the client it is from; None for a recording."""
        return self._owner

    @property
    def feed(self) -> RunFeed:
        """What the hub, or a recording, puts the run into."""
        return self._feed

    @property
    def stats(self) -> RunStats:
        """How the run comes and what it costs, at this moment: wire, credit, what waits, what was merged."""
        state = self.recorded
        return stats_of(self._feed, state.waiting if state else 0)

    @property
    def recorded(self) -> Recorded | None:
        """How far the copy of ``client.run(..., record=...)`` has come; None when none is kept."""
        return self._tape.state if self._tape else None

    def is_recorded_in(self, path: str | os.PathLike[str]) -> bool:
        """Whether a copy of the run is kept in that directory now."""
        state = self.recorded
        return (
            state is not None
            and not state.closed
            and pathlib.Path(path).expanduser().resolve() == pathlib.Path(state.path)
        )

    def keep(self, tape: Tape) -> None:
        """Have `tape` record for as long as the run is held; one that did before is ended."""
        if self._tape is not None and self._tape is not tape:
            self._tape.close()
        self._tape = tape
        weakref.finalize(self, tape.release)

    def end_recording(self) -> None:
        """Commit what is here to the copy of ``record=``, and keep it no further; does nothing when there is none."""
        if self._tape is not None:
            self._tape.close()

    def view(
        self, agent: str | None = None, *, embed: Embed | None = None, compare: Iterable[Run] | None = None
    ) -> LiveTelemetryWidget:
        """Return the live view, an ipywidget like any other; the same one until it is closed.

        Parameters
        ----------
        agent
            Show only this agent; all of them otherwise.
        embed
            What a saved notebook keeps for those who open it without a kernel, as of when the view is shown: ``"summary"`` (at first),
            the totals, the return curve and some rows; ``"full"``, the interactive report of :meth:`to_html` too, in less than a megabyte;
            ``"none"``, only that there was a view. None: as it was chosen last.
        compare
            Other runs, whose curves are drawn over this one's, live or ended; ``()``: none any more. None: as it was chosen last.

        Raises
        ------
        ValueError
            `embed` is nothing of that.
        TypeError
            `agent` is no text.
        """
        if embed is not None:
            embed = kept.check(embed)
        if agent is not None and not isinstance(agent, str):
            msg = f"agent is {agent!r}; give an agent's name, as in run.agents, or None for all"
            raise TypeError(msg)
        known = self.agents
        if agent is not None and known and agent not in known:
            more = f" and {len(known) - _FEW} more" if len(known) > _FEW else ""
            warnings.warn(
                f"run {self.run_id!r} has no agent {agent!r} (yet); it has {', '.join(map(repr, known[:_FEW]))}{more}",
                stacklevel=2,
            )
        with self._lock:
            view = self._views.get(agent)
            if view is None or view.closed:
                view = self._views[agent] = self.open_view(agent)
            view.embed = embed or view.embed
            if compare is not None:
                runs = list(compare)
                view.compare([run.feed for run in runs], runs)
            return view.widget

    def summary(self, agent: str | None = None) -> Summary:
        """Return the totals, the return curve and some rows as of now; as the last line of a cell they are shown without any widget.

        So they are in the saved notebook for whoever opens it, also where a view needs a kernel.

        Parameters
        ----------
        agent
            Only this agent's; all of them otherwise.
        """
        frames = self._loaded()
        return kept.Summary(self._feed, frames if agent is None else AgentFrames(frames, agent), agent)

    @property
    def plot(self) -> Plots:
        """Figures of the run: ``run.plot.returns()``, ``lengths``, ``outcomes``, ``visits``, ``q_values``; the numbers of each, ``returns_data()`` and so on."""
        from live_telemetry_widget.report.plots import Plots  # noqa: PLC0415 - data alone needs no figures

        return Plots(self._feed, lambda: self._loaded().episodes())

    def to_gif(
        self,
        path: str | os.PathLike[str],
        episode: int,
        *,
        agent: str | None = None,
        worker: str | None = None,
        **options: Any,  # noqa: ANN401 - of animate
    ) -> pathlib.Path:
        """Write an episode as a moving picture and return where; needs Pillow (``live_telemetry_widget[gif]``).

        Parameters
        ----------
        path
            ``.gif``, ``.png`` or ``.apng`` (animated PNG), or ``.webp``.
        episode
            As in the ``episode`` column.
        agent, worker
            Whose, where several have an episode of that number.
        **options
            ``fps=4``, ``cell=48`` (pixels a tile), ``dark=False``, ``captions=True``.

        Raises
        ------
        RunNotFoundError
            There is no such episode.
        NoDataError
            None of its steps can be drawn.
        MissingPackageError
            Pillow is not installed.
        ValueError
            Several agents have such an episode, or `path` ends otherwise.
        """
        from live_telemetry_widget.report.animation import animate  # noqa: PLC0415 - few need it

        number = episode_number(episode)
        found = self._loaded().find(number, agent, worker)
        if not found:
            raise slices.no_episode(self._loaded(), number, agent, worker, self.status)
        if len(found) > 1:
            who = ", ".join(f"agent={held.agent_id!r}, worker={held.worker_id!r}" for held in found[:5])
            msg = f"{len(found)} have an episode {number}; say which: {who}"
            raise ValueError(msg)
        return animate(self._feed, self._feed.frames.episode_table(found), path, **options)

    def to_html(  # noqa: PLR0913 - what a report can be, by name
        self,
        path: str | os.PathLike[str],
        *,
        episodes: int | Iterable[int] | None = None,
        where: str | None = None,
        agent: str | None = None,
        limit: int = 5_000_000,
        static: bool = False,
    ) -> Report:
        """Write the run as one HTML file that needs no network: the view, with its tables, replay, curve and filters, over the file's own data.

        Parameters
        ----------
        path
            Of the file; one that is there is replaced, and is whole at any time.
        episodes
            Only these, by their numbers; a single number: so many of the newest.
        where
            Only those for which this expression holds, over the columns of :attr:`episodes`: ``"outcome == 'Failed' and steps < 10"``.
        agent
            Only this agent's.
        limit
            Largest size in bytes. What does not fit is left out, and the page says what: first the steps of older episodes, of which those
            with the lowest return stay longest.
        static
            Write a page without any script: totals, curves and the table of episodes.

        Returns
        -------
        Report
            ``path, size, episodes, steps, notes``; it can be used as a path.

        Raises
        ------
        QueryError
            `where` is no expression over these columns.
        NoDataError
            None of the run's episodes is chosen.
        ValueError
            Not even the totals fit into `limit`, or `path` does not end in ``.html``.
        FileNotFoundError
            There is no such directory.
        """
        from live_telemetry_widget.report.page import write  # noqa: PLC0415 - data alone needs no pages

        self._loaded()
        return write(self._feed, path, episodes=episodes, where=where, agent=agent, limit=limit, static=static)

    def open_view(self, agent: str | None = None) -> LiveView:
        """Return a view of its own beside the one of :meth:`view`; whoever opens it closes it."""
        from live_telemetry_widget.live import LiveView  # noqa: PLC0415 - data alone needs no widgets

        return LiveView(self._feed, agent, owner=self)

    def close(self) -> None:
        """Take its views off the page; the data stays."""
        with self._lock:
            views = list(self._views.values())
            self._views.clear()
        for view in views:
            view.close()

    def __repr__(self) -> str:
        problems = sum(p.count for p in self._feed.frames.problems())
        reason = f" ({plain(self.reason)})" if self.reason else ""
        known = "" if self._feed.info or not self._feed.loaded else ", not known to the daemon"
        return f"<Run {self.run_id!r} {self.status.value}{reason}{known}: {self._progress()}, {problems} problems>"

    def _repr_mimebundle_(self, **_: object) -> Any:  # noqa: ANN401 - whatever the widget returns
        bundle = self.view()._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        said = f"{self!r}\n{data['text/plain']}" if "text/html" in data else repr(self)
        return {**data, "text/plain": said}, metadata
