"""A run as one HTML file: the view of the notebook over the file's own data, without any network; or a page without any script.

What is interactive is ``js/src/report.ts``, which answers the view's questions from the blocks that are written here. Each block is
gzipped and in base64, so nothing that came over the wire can end the element that it is in.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import gzip
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any, Final, TypedDict

import numpy as np

from live_telemetry_widget import _expression, grids
from live_telemetry_widget.errors import TelemetryError
from live_telemetry_widget.lens import AgentFrames
from live_telemetry_widget.report import choice, facts, fallback, sheet
from live_telemetry_widget.view import encode, layers_question, messages
from live_telemetry_widget.view.artist import Artist, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from live_telemetry_widget.feed import RunFeed

#: Raised when the blocks change their meaning; the page's twin is REPORT_VERSION in js/src/report-data.ts.
VERSION: Final = 1
#: Largest file, in bytes, when nothing else is said.
LIMIT: Final = 5_000_000
#: Steps in a block, which is unpacked as a whole when one of them is looked at.
_BLOCK: Final = 4_096
#: Steps that are packed to guess how much all of them take.
_SAMPLE: Final = 1_500
_ATTEMPTS: Final = 6
_REMEMBERED: Final = 5_000
#: Layers are counted for so many agents apart, and over so many steps at a time.
_MOST_AGENTS: Final = 16
_COUNTED: Final = 65_536
_STATIC: Final = pathlib.Path(encode.__file__).parent / "static"


class Meta(TypedDict):
    """What the page knows before it has looked at anything; ``js/src/report-data.ts`` has its twin."""

    version: int
    title: str
    notes: list[str]  # what is in the file and what is not, a sentence each
    state: messages.State
    counts: list[int]  # of each row of the episodes: how many steps are here; -1 where they were left out
    blocks: list[int]  # steps in each block
    json: dict[str, list[str]]  # of each table the columns that hold JSON documents
    nulls: dict[str, list[str]]  # of each table the columns without any value, which the blocks leave out


@dataclasses.dataclass(frozen=True, slots=True)
class Report(os.PathLike[str]):
    """A report that was written.

    Attributes
    ----------
    path
        Where.
    size
        Bytes of the file.
    episodes, steps
        How many are in it.
    notes
        What is in it and what was left out, a sentence each; the page says the same.
    """

    path: pathlib.Path
    size: int
    episodes: int
    steps: int
    notes: tuple[str, ...]

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return f"{self.path}: {self.size / 1e6:.2f} MB, {self.episodes:,} episodes, {self.steps:,} steps. {' '.join(self.notes)}"


def write(  # noqa: PLR0913 - what a report can be, by name
    feed: RunFeed,
    path: str | os.PathLike[str],
    *,
    episodes: int | Iterable[int] | None = None,
    where: str | None = None,
    agent: str | None = None,
    limit: int = LIMIT,
    static: bool = False,
) -> Report:
    """Write a report of a run; see :meth:`Run.to_html <live_telemetry_widget.run.Run.to_html>`, which this is."""
    path = pathlib.Path(path)
    if path.suffix.lower() not in {".html", ".htm"}:
        msg = f"{path} does not end in .html, by which a browser knows the report; give {path.with_suffix('.html').name!r}"
        raise ValueError(msg)
    if not path.parent.is_dir():
        msg = f"{path} cannot be written: there is no directory {path.parent}"
        raise FileNotFoundError(msg)
    html, held = make(feed, episodes=episodes, where=where, agent=agent, limit=limit, static=static)
    data = html.encode()
    _put(path, data)
    return Report(path, len(data), *held)


def make(  # noqa: PLR0913 - as above
    feed: RunFeed,
    *,
    episodes: int | Iterable[int] | None = None,
    where: str | None = None,
    agent: str | None = None,
    limit: int = LIMIT,
    static: bool = False,
) -> tuple[str, tuple[int, int, tuple[str, ...]]]:
    """Return the page, and what is in it: episodes, steps, notes."""
    chosen = choice.choose(feed.frames, episodes=episodes, where=where, agent=agent)
    taken = facts.take(feed, feed.frames if agent is None else AgentFrames(feed.frames, agent), agent)
    notes = [_about(taken), *chosen.said]
    if static:
        html, held, steps = sheet.page(taken, chosen.episodes, notes, limit)
    else:
        html, held, steps = _Page(feed, chosen, taken, notes).within(limit)
    return html, (held, steps, tuple(notes))


def _about(taken: facts.Facts) -> str:
    moment = f"{dt.datetime.fromtimestamp(taken.taken, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    how = "which had ended" if taken.ended else f"before all of it was here ({taken.link})"
    return f"Run {taken.run_id}, {how}: {taken.episodes:,} episodes, {taken.steps:,} steps. Taken {moment}."


def _put(path: pathlib.Path, data: bytes) -> None:
    """Write a file so that it is there as a whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


class _Page:
    """Builds the interactive page; how many steps it holds follows from the limit."""

    def __init__(self, feed: RunFeed, chosen: choice.Chosen, taken: facts.Facts, notes: list[str]) -> None:
        self._feed, self._chosen, self._taken, self._notes = feed, chosen, taken, notes
        self._artist = Artist(feed)
        self._places = layers_question.Sums(self._artist.game, None)
        self._drawn: dict[tuple[str | None, ...], tuple[str, str]] = {}
        self._episodes = packed(encode.to_page(chosen.episodes))
        self._layers = packed(json.dumps(self._sums()).encode())
        self._parts = {name: _bundle(name) for name in ("report.js", "report.css")}

    def _sums(self) -> dict[str, Any]:
        """Return what the picture's layers show, of all episodes that were chosen: counted here, for a page may hold only some of the steps."""
        steps = self._chosen.take(np.ones(self._chosen.episodes.num_rows, bool))
        agents = self._taken.agents
        of: list[dict[str, Any]] = []
        for agent in [None, *(agents[:_MOST_AGENTS] if len(agents) > 1 else [])]:
            sums = layers_question.Sums(self._artist.game, agent)
            for first in range(0, steps.num_rows, _COUNTED):
                sums.add(steps.slice(first, _COUNTED))
                if sums.full:
                    break
            visits = sorted(sums.visits.items(), key=lambda item: -item[1])
            values = [[spot.context, spot.row, spot.col, list(known.items())] for spot, known in sums.values.items()]
            of.append(
                {"agent": agent, "full": sums.full, "visits": [[*at, count] for at, count in visits], "values": values}
            )
        return {"game": self._artist.game, "names": grids.ACTIONS, "of": of}

    def within(self, limit: int) -> tuple[str, int, int]:
        """Return the page, and how many episodes and steps are in it."""
        chosen = self._chosen
        count, steps = chosen.episodes.num_rows, int(chosen.counts.sum())
        base = len(self._html([], np.zeros(count, bool)).encode()) + 4_096
        room = limit - base
        if room < 0:
            msg = (
                f"limit is {limit:,} bytes, and the page with the table of its {count:,} episodes alone takes {base:,}; "
                "give a higher limit, or choose fewer episodes"
            )
            raise ValueError(msg)
        order = chosen.by_worth()
        sums = np.cumsum(chosen.counts[order])
        most = self._guess(order, sums, room)
        for _ in range(_ATTEMPTS):
            keep = np.zeros(count, bool)
            keep[order[sums <= most]] = True
            blocks = self._blocks(chosen.take(keep))
            size = sum(len(text) for _, texts in blocks for text in texts.values())
            if size <= room:
                break
            most = int(most * room / size * 0.97)
        else:
            keep, blocks = np.zeros(count, bool), []
        held = int(chosen.counts[keep].sum())
        left_out = int((~keep & (chosen.counts > 0)).sum())
        if left_out:
            self._notes.append(
                f"To keep the file under {limit / 1e6:g} MB the steps of {left_out:,} of {count:,} episodes ({steps - held:,} steps) are left out; "
                "those of the newest episodes and of the ones with the lowest return stay. Every episode is in the table and in the curve."
            )
        return self._html(blocks, keep), count, held

    def _guess(self, order: Any, sums: Any, room: int) -> int:  # noqa: ANN401 - arrays of NumPy's
        """Return how many steps fit in, judged by some."""
        total = int(sums[-1]) if len(sums) else 0
        if total <= _SAMPLE:
            return total
        some = np.zeros(len(order), bool)
        spread = order[:: max(1, len(order) // 40)]
        some[spread[np.cumsum(self._chosen.counts[spread]) <= max(_SAMPLE, int(self._chosen.counts[spread[0]]))]] = True
        sample = self._chosen.take(some)
        if not sample.num_rows:
            return total
        taken = sum(len(text) for _, texts in self._blocks(sample) for text in texts.values())
        return min(total, int(room / (taken / sample.num_rows)))

    def _blocks(self, steps: pa.Table) -> list[tuple[int, dict[str, str]]]:
        """Return the steps in blocks: how many are in each, and its parts, ready to be put into the file."""
        blocks = []
        for first in range(0, steps.num_rows, _BLOCK):
            part = steps.slice(first, _BLOCK)
            texts = {"steps": packed(encode.to_page(part))}
            pictures = self._pictures(part)
            if pictures["grids"]:
                texts["pictures"] = packed(json.dumps(pictures, separators=(",", ":")).encode())
            blocks.append((part.num_rows, texts))
        return blocks

    def _pictures(self, steps: pa.Table) -> dict[str, list[Any]]:
        numbers: dict[str, int] = {}
        drawn: list[int] = []
        actions: list[str] = []
        for step in steps_of(steps):
            text, game = self._draw(step)
            drawn.append(numbers.setdefault(text, len(numbers)) if text else -1)
            actions.append(grids.action_name(game, step.get("action")) if text else "")
        return {
            "grids": [json.loads(text) for text in numbers],
            "drawn": drawn,
            "actions": actions,
            **self._begins(steps),
        }

    def _begins(self, steps: pa.Table) -> dict[str, list[Any]]:
        """Return where each step began (-1: nobody knows) by the number of its spot: the page puts together from it what actions are worth within an episode."""
        found = self._places.begins(steps)
        if found is None:
            return {}
        codes, spots = found
        known = np.append(np.array([spot is not None for spot in spots], bool), False)
        return {"begins": np.where(known[codes], codes, -1).tolist(), "spots": [list(spot or ()) for spot in spots]}

    def _draw(self, step: dict[str, Any]) -> tuple[str, str]:
        """Return the picture of a step as JSON without its action, and its game; each distinct payload is read once."""
        key = (step.get("render_payload"), step.get("next_observation"), step.get("observation"))
        held = self._drawn.get(key)
        if held is None:
            grid = self._artist.draw(step)
            if grid is not None:
                grid["action"] = grid["caption"] = ""
            held = (json.dumps(grid), grid["game"]) if grid is not None else ("", "")
            if len(self._drawn) >= _REMEMBERED:
                self._drawn.clear()
            self._drawn[key] = held
        return held

    def _html(self, blocks: list[tuple[int, dict[str, str]]], keep: Any) -> str:  # noqa: ANN401 - an array of NumPy's
        chosen, taken = self._chosen, self._taken
        counts = np.where(keep, chosen.counts, np.where(chosen.counts > 0, -1, 0)).tolist()
        held = int(chosen.counts[keep].sum())
        meta = Meta(
            version=VERSION,
            title=f"Report of run {taken.title}",
            notes=self._notes,
            state=self._state(held, keep),
            counts=counts,
            blocks=[rows for rows, _ in blocks],
            json={"steps": _json_columns(chosen.steps), "episodes": _json_columns(chosen.episodes)},
            nulls={"steps": _null_columns(chosen.steps), "episodes": _null_columns(chosen.episodes)},
        )
        texts = {"meta": packed(json.dumps(meta).encode()), "episodes": self._episodes, "layers": self._layers}
        texts |= {f"{name}-{i}": text for i, (_, parts) in enumerate(blocks) for name, text in parts.items()}
        data = "\n".join(f'<script type="text/plain" id="ltw-{name}">{text}</script>' for name, text in texts.items())
        script = self._parts["report.js"]
        policy = sheet.policy(self._parts["report.css"], script)
        body = (
            f'<header><h1>{fallback.escaped(taken.title, 200)}</h1><div id="ltw-notes"><p>{fallback.escaped(self._notes[0], 400)}</p></div></header>'
            f'<main><div id="ltw-view"></div><div id="ltw-static">{fallback.html_of(taken)}</div></main>'
        )
        return sheet.document(
            f"Report of run {taken.title}",
            policy,
            self._parts["report.css"],
            f'{body}\n{data}\n<script type="module">{script}</script>',
        )

    def _state(self, steps: int, keep: Any) -> messages.State:  # noqa: ANN401 - an array of NumPy's
        taken = self._taken
        last = self._chosen.take(np.arange(len(keep)) == np.flatnonzero(keep)[-1]) if keep.any() else None
        grid = self._artist.draw(steps_of(last.slice(last.num_rows - 1))[0]) if last is not None else None
        outcomes = self._chosen.episodes.column("outcome").to_pylist()
        return messages.State(
            run_id=taken.run_id,
            name=taken.name,
            status=taken.status,
            reason=taken.reason,
            connection=messages.Connection(state="recording", attempt=0, retry_at=0.0, message=""),
            agents=taken.agents[:100],
            steps=steps,
            episodes=self._chosen.episodes.num_rows,
            ended_episodes=sum(outcome not in {"Running", "Unfinished"} for outcome in outcomes),
            expected_episodes=None,
            steps_per_s=0.0,
            problems=[messages.ProblemCount(kind=p.kind, count=p.count, detail=p.detail[:500]) for p in taken.problems],
            controls=None,
            grid=grid,
        )


def packed(data: bytes) -> str:
    """Return bytes gzipped, as base64; the same bytes give the same text.

    >>> gzip.decompress(base64.b64decode(packed(b"data")))
    b'data'
    """
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _json_columns(table: pa.Table) -> list[str]:
    return [field.name for field in table.schema if _expression.is_json(field)]


def _null_columns(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if table.column(name).null_count == table.num_rows]


def _bundle(name: str) -> str:
    path = _STATIC / name
    if not path.exists():
        msg = f"the bundle {name} is missing, so a report cannot be interactive; in a checkout, run: make setup (or give static=True)"
        raise TelemetryError(msg)
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    end = "</style" if name.endswith(".css") else "</script"
    if end in text or "<!--" in text:
        msg = f"the bundle {name} holds {end} or <!-- and cannot be put into a page; this is a fault of its build"
        raise TelemetryError(msg)
    return text
