"""Where on the grid the steps of a run are: each distinct payload or observation is read once, whatever the number of steps."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from live_telemetry_widget import grids
from live_telemetry_widget.schema import TEXT
from live_telemetry_widget.view import layers_question
from live_telemetry_widget.view.artist import Artist

if TYPE_CHECKING:
    from live_telemetry_widget.feed import RunFeed

_SEEN: Final = ("render_payload", "next_observation", "observation")
#: Rows that are looked at together; more of them would make dictionaries of long texts too large.
_ROWS: Final = 200_000

Cell = tuple[int, int]


def _texts(table: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """Return these columns, those that are no text left out."""
    held = [name for name in names if name in table.column_names]
    return table.select([name for name in held if pa.types.is_string(table.schema.field(name).type)])


def visits(feed: RunFeed) -> list[tuple[tuple[str, ...], dict[Cell, int]]]:
    """Return for each map that the run was on, most visited first, its tiles and how many steps led to each cell."""
    game = Artist(feed).game
    maps: dict[tuple[str, ...], collections.Counter[Cell]] = {}
    steps = _texts(feed.frames.steps_table(), _SEEN)
    read: dict[tuple[str | None, ...], tuple[tuple[str, ...], Cell] | None] = {}
    for first in range(0, steps.num_rows if steps.num_columns else 0, _ROWS):
        counted = steps.slice(first, _ROWS).group_by(steps.column_names).aggregate([([], "count_all")])
        for row in counted.to_pylist():
            key = tuple(row.get(name) for name in _SEEN)
            if key not in read:
                grid, _ = grids.read_step(key[0], key[2], next_observation=key[1], game=game)
                known = grid is not None and grid["agent"] and grid["tiles"] and not grid.get("partial")
                read[key] = (
                    (tuple(grid["tiles"]), (grid["agent"][0], grid["agent"][1]))
                    if known and grid and grid["agent"]
                    else None
                )
            place = read[key]
            if place is not None:
                maps.setdefault(place[0], collections.Counter())[place[1]] += row["count_all"]
    return [(tiles, dict(counts)) for tiles, counts in sorted(maps.items(), key=lambda item: -item[1].total())]


def newest(feed: RunFeed, column: str) -> dict[tuple[int, int, str], float]:
    """Return by row, col and action the newest number of a column, at the place where the action was taken; empty where no observation shows it.

    A column may also have a list of numbers in each row, one an action, as such or as a text; other texts are nothing here.
    """
    game = Artist(feed).game
    steps = feed.frames.steps_table()
    kind = steps.schema.field(column).type
    if pa.types.is_list(kind) or pa.types.is_string(kind):
        return _newest_lists(steps, column, game)
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)) or steps.num_rows == 0:
        return {}
    keys = pa.table(
        {
            "observation": steps.column("observation"),
            "action": steps.column("action").cast(TEXT),
            "at": pa.array(range(steps.num_rows), pa.int64()),
        }
    ).filter(pc.is_valid(steps.column(column)))
    last = keys.group_by(["observation", "action"]).aggregate([("at", "max")])
    order = last.sort_by("at_max")
    values = steps.column(column).take(order.column("at_max")).to_pylist()
    found: dict[tuple[int, int, str], float] = {}
    for row, value in zip(order.to_pylist(), values, strict=True):
        grid, _ = grids.read_step(None, row["observation"], game=game)
        if grid is None or not grid["agent"] or grid.get("partial"):
            return {}
        found[grid["agent"][0], grid["agent"][1], grids.action_name(grid["game"], row["action"])] = float(value)
    return found


def _newest_lists(steps: pa.Table, column: str, game: str) -> dict[tuple[int, int, str], float]:
    keys = pa.table(
        {"observation": steps.column("observation"), "at": pa.array(range(steps.num_rows), pa.int64())}
    ).filter(_are_lists(steps.column(column)))
    order = keys.group_by(["observation"]).aggregate([("at", "max")]).sort_by("at_max")
    values = steps.column(column).take(order.column("at_max")).to_pylist()
    found: dict[tuple[int, int, str], float] = {}
    for row, value in zip(order.to_pylist(), values, strict=True):
        grid, _ = grids.read_step(None, row["observation"], game=game)
        if grid is None or not grid["agent"] or grid.get("partial"):
            return {}
        for action, worth in layers_question.by_action(value).items():
            found[grid["agent"][0], grid["agent"][1], grids.action_name(grid["game"], str(action))] = worth
    return found


def _are_lists(values: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return which rows hold a list: of texts, those that are one of numbers."""
    if not pa.types.is_string(values.type):
        return pc.is_valid(values)
    # Only these are parsed: most texts are numbers.
    may_be = pc.fill_null(pc.starts_with(pc.utf8_ltrim_whitespace(values), "["), fill_value=False)
    told = zip(values.to_pylist(), may_be.to_pylist(), strict=True)
    return pa.array([may and bool(layers_question.by_action(text)) for text, may in told], pa.bool_())


def numbers(values: pa.ChunkedArray) -> pd.Series:
    """Return the number of each row, of its list the largest; NaN for what is neither.

    >>> numbers(pa.chunked_array([["0.5", "[1, 3]", '"n/a"', "n/a", None]])).tolist()
    [0.5, 3.0, nan, nan, nan]
    """
    told = values.to_pandas()
    found: pd.Series
    if not (pa.types.is_list(values.type) or pa.types.is_string(values.type)):
        found = pd.to_numeric(told, errors="coerce")
        return found
    lists = _are_lists(values).to_numpy(zero_copy_only=False)
    largest = [
        max(layers_question.by_action(value).values(), default=None)
        for value in values.filter(pa.array(lists)).to_pylist()
    ]
    found = pd.to_numeric(told.mask(lists), errors="coerce").astype("float64")
    found[lists] = pd.array(largest, "float64")
    return found
