"""Draws the steps of one run: grids with their action and caption, where the agent came from, and what could not be drawn counted once.

Examples
--------
>>> from live_telemetry_widget import feed, normalize
>>> run = feed.RunFeed("r", feed.Link("live"))
>>> payload = {"mode": "grid", "grid": ["SF"], "agent_position": [0, 1], "game_id": "FrozenLake-v1"}
>>> event = {"episode": 3, "step_index": 0, "action": 2, "render_payload": payload}
>>> _ = run.frames.append_steps(normalize.steps_from_events([event]).batch)
>>> Artist(run).newest(run.frames, 1)["caption"]
'episode 3, step 0'
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from live_telemetry_widget import grids
from live_telemetry_widget.schema import Problem

if TYPE_CHECKING:
    from live_telemetry_widget.feed import RunFeed
    from live_telemetry_widget.lens import Frames

#: What a picture is made from; a table may lack the last, which is a further column.
_COLUMNS: Final = (
    "worker_id",
    "agent_id",
    "episode",
    "step_index",
    "action",
    "observation",
    "render_payload",
    "next_observation",
)
#: So many of the newest steps are looked at for one that can be drawn.
_LOOK_BACK: Final = 50
#: So many of the agent's last places are on a live grid.
_PATH: Final = 64
#: A picture is made again only after so many times what the last one took, so that large frames leave the kernel to its cells.
_REST: Final = 4.0
_REMEMBERED: Final = 2_000

_Step = dict[str, Any]


def steps_of(table: pa.Table) -> list[_Step]:
    """Return what a picture of each step is made from."""
    names = [name for name in _COLUMNS if name in table.column_names]
    if "next_observation" in names and not pa.types.is_string(table.schema.field("next_observation").type):
        names.remove("next_observation")
    rows: list[_Step] = table.select(names).to_pylist()
    return rows


class Artist:
    """Draws the steps of a run.

    Parameters
    ----------
    feed
        Whose frames count what could not be drawn (``bad_render_payload``), and whose config may name the game.

    Attributes
    ----------
    due : float
        When :meth:`newest` may draw again (monotonic seconds).
    """

    def __init__(self, feed: RunFeed) -> None:
        self._feed = feed
        self._game = ""
        self._game_looked = -1
        self._grid: grids.Grid | None = None
        self.due = 0.0
        self._places: dict[tuple[str | None, ...], tuple[int, int] | None] = {}

    @property
    def game(self) -> str:
        """The run's game as far as its config, its name or an episode's record says; ``""`` when they do not."""
        frames = self._feed.frames
        if not self._game and self._game_looked != frames.episode_count:
            self._game_looked = frames.episode_count
            self._game = grids.game_of(self._feed.config)
            if not self._game and frames.episode_count:
                # The newest episode has not ended, so it has no record yet.
                known = frames.episode_rows(max(0, frames.episode_count - 2), 2)
                said = known.column("game_id").to_pylist() if "game_id" in known.column_names else []
                self._game = next((found for text in said if (found := grids.family(text))), "")
        return self._game

    def draw(self, step: _Step) -> grids.Grid | None:
        """Return the picture of a step; a payload that is not what it says is counted, once a step."""
        grid, fault = grids.read_step(
            step.get("render_payload"),
            step.get("observation"),
            next_observation=step.get("next_observation"),
            game=self.game,
        )
        if fault:
            key = tuple(step.get(name) for name in _COLUMNS[:4])
            detail = f"step {step.get('step_index')} of episode {step.get('episode')}: {fault}"
            problem = Problem("bad_render_payload", detail, (step.get("render_payload") or "")[:500])
            self._feed.frames.count_once(("render_payload", key), problem)
        if grid is not None:
            grid["action"] = grids.action_name(grid["game"], step.get("action"))
            grid["caption"] = f"episode {step.get('episode')}, step {step.get('step_index')}"
        return grid

    def place(self, step: _Step) -> tuple[int, int] | None:
        """Return (row, col) of the agent after a step; None where that is not on a map."""
        key = (step.get("render_payload"), step.get("next_observation"), step.get("observation"))
        places = self._places
        if key not in places:
            if len(places) >= _REMEMBERED:
                # Another thread may look into the old one at this moment.
                places = self._places = {}
            grid, _ = grids.read_step(key[0], key[2], next_observation=key[1], game=self.game)
            at = grid["agent"] if grid and not grid.get("partial") else None
            places[key] = (at[0], at[1]) if at else None
        return places[key]

    def newest(self, frames: Frames, rows: int) -> grids.Grid | None:
        """Return the picture of the newest of so many steps that has one, with the agent's last places; else the last picture.

        It is not asked again before :attr:`due`.
        """
        began = time.monotonic()
        for first, count in ((rows - 1, 1), (max(0, rows - _LOOK_BACK), min(rows, _LOOK_BACK) - 1)):
            # Most often the very newest has one, and a frame may be large: the others are read only when they are needed.
            steps = steps_of(frames.rows(first, count)) if count > 0 else []
            for at in range(len(steps) - 1, -1, -1):
                grid = self.draw(steps[at])
                if grid is not None:
                    if grid["agent"] and not grid.get("partial"):
                        last = first + at + 1
                        grid["path"] = self._path(frames.rows(max(0, last - _PATH), min(last, _PATH)))
                    self._grid = grid
                    self.due = began + _REST * (time.monotonic() - began)
                    return grid
        self.due = began + _REST * (time.monotonic() - began)
        return self._grid

    def _path(self, table: pa.Table) -> list[list[int]]:
        steps = steps_of(table)
        last = steps[-1]
        same = [s for s in steps if all(s[name] == last[name] for name in _COLUMNS[:3])]
        path: list[list[int]] = []
        expected = last["step_index"]
        for step in reversed(same):
            place = self.place(step) if step["step_index"] == expected else None
            if place is None:
                break
            path.append(list(place))
            expected -= 1
        return path[::-1]
