"""Figures of a run, each with the plain numbers that it draws.

Examples
--------
>>> import live_telemetry_widget as ltw
>>> from live_telemetry_widget.hub import TelemetryAsyncHub
>>> with TelemetryAsyncHub() as hub:
...     run = ltw.Run(hub.subscribe_run("mine"))
...     for n in range(3):
...         hub.submit_step({"run_id": "mine", "episode": n, "step_index": 0, "reward": n, "terminated": True})
...     hub.complete_run("mine")
...     run.wait(timeout=5)
>>> run.plot.returns_data()[["episode", "total_reward", "mean"]].to_dict("list")
{'episode': [0, 1, 2], 'total_reward': [0.0, 1.0, 2.0], 'mean': [0.0, 0.5, 1.0]}
>>> run.plot.returns().layout.yaxis.title.text
'Return'
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from live_telemetry_widget._plain import plain
from live_telemetry_widget.errors import NoDataError
from live_telemetry_widget.report import places

if TYPE_CHECKING:
    from collections.abc import Callable

    import plotly.graph_objects as go

    from live_telemetry_widget.feed import RunFeed

#: As the view colours them.
_OUTCOMES: Final = {
    "Success": "#2a9d5c",
    "Completed": "#3f87d9",
    "Timeout": "#d99a2b",
    "Failed": "#d2493f",
    "Unfinished": "#9aa4ad",
    "Running": "#c6ccd2",
}
_COLOURS: Final = ("#3f87d9", "#e8730c", "#2a9d5c", "#7a46c9", "#d2493f", "#0f8b8d", "#c08a00", "#6b747d")
#: More episodes of one agent than this are drawn as ranges of neighbours, so that the figure stays small.
_MOST_POINTS: Final = 2_000
_RANGES: Final = 500
_Q_COLUMNS: Final = ("q_values", "q_after", "q_before", "q_value", "q")


class Plots:
    """The figures of one run: ``run.plot.returns()`` is a plotly figure, ``run.plot.returns_data()`` the DataFrame beneath it.

    Parameters
    ----------
    feed
        The run.
    episodes
        Its episodes as a DataFrame, when asked.
    """

    def __init__(self, feed: RunFeed, episodes: Callable[[], pd.DataFrame]) -> None:
        self._feed = feed
        self._episodes = episodes

    # -- per episode -------------------------------------------------------------------------------------------------

    def returns(self, window: int | None = None) -> go.Figure:
        """Return the total reward of each episode and its trailing mean, a line an agent.

        Parameters
        ----------
        window
            Episodes that the mean goes over; None: a twentieth of them, 5 to 100.

        Raises
        ------
        NoDataError
            No episode has ended yet.
        ValueError
            `window` is below 1.
        """
        return self._per_episode("total_reward", "Return", self.returns_data(window))

    def returns_data(self, window: int | None = None) -> pd.DataFrame:
        """Return what :meth:`returns` draws: ``worker_id, agent_id, episode, total_reward, outcome, mean``, a row an episode that has ended."""
        return self._with_mean("total_reward", window)

    def lengths(self, window: int | None = None) -> go.Figure:
        """Return the steps of each episode and their trailing mean, a line an agent; as :meth:`returns`."""
        return self._per_episode("steps", "Steps", self.lengths_data(window))

    def lengths_data(self, window: int | None = None) -> pd.DataFrame:
        """Return what :meth:`lengths` draws: ``worker_id, agent_id, episode, steps, outcome, mean``."""
        return self._with_mean("steps", window)

    def _with_mean(self, name: str, window: int | None) -> pd.DataFrame:
        _check_window(window)
        episodes = self._episodes()
        ended = episodes[episodes["outcome"].astype(str) != "Running"]
        if ended.empty:
            raise NoDataError(self._nothing("no episode has ended yet"))
        data = ended[["worker_id", "agent_id", "episode", name, "outcome"]].reset_index(drop=True)
        streams = data.groupby(["worker_id", "agent_id"], observed=True, sort=False)[name]
        means = [_trailing_mean(values, window) for _, values in streams]
        return data.assign(mean=pd.concat(means))

    def _per_episode(self, name: str, label: str, data: pd.DataFrame) -> go.Figure:
        import plotly.graph_objects as go  # noqa: PLC0415 - heavy, and only for figures

        figure = go.Figure()
        streams = data.groupby(["worker_id", "agent_id"], observed=True, sort=False)
        many = len(streams) > 1
        for i, ((worker, agent), rows) in enumerate(streams):
            colour = _COLOURS[i % len(_COLOURS)]
            who = _text(" ".join(part for part in (str(worker), str(agent)) if part)) or "agent"
            for trace in _points(rows, name, colour):
                figure.add_trace(trace.update(legendgroup=who, showlegend=False))
            line = _thinned(rows)
            figure.add_trace(
                go.Scatter(
                    x=line["episode"],
                    y=line["mean"],
                    mode="lines",
                    name=who,
                    legendgroup=who,
                    showlegend=many,
                    line={"color": colour, "width": 2.5},
                    hovertemplate="episode %{x}<br>mean %{y:.4g}<extra></extra>",
                )
            )
        return self._laid_out(figure, label, "Episode", label)

    def outcomes(self, bins: int = 40) -> go.Figure:
        """Return how episodes ended over the run, as shares of so many stretches of it.

        Parameters
        ----------
        bins
            How many stretches at most.

        Raises
        ------
        NoDataError
            There are no episodes yet.
        ValueError
            `bins` is below 1.
        """
        import plotly.graph_objects as go  # noqa: PLC0415 - heavy, and only for figures

        data = self.outcomes_data(bins)
        shares = data.pivot_table(index="first", columns="outcome", values="count", aggfunc="sum", fill_value=0)
        totals = shares.sum(axis=1)
        figure = go.Figure()
        for outcome in [name for name in _OUTCOMES if name in shares.columns]:
            figure.add_trace(
                go.Bar(
                    x=shares.index,
                    y=shares[outcome] / totals,
                    name=outcome,
                    marker={"color": _OUTCOMES[outcome], "line": {"width": 0}},
                    customdata=shares[outcome],
                    hovertemplate="%{customdata} episodes, %{y:.0%}<extra>" + outcome + "</extra>",
                )
            )
        figure.update_layout(barmode="stack", bargap=0, showlegend=True)
        figure.update_yaxes(tickformat=".0%", range=[0, 1])
        return self._laid_out(figure, "Outcomes", "Episodes, in the order of the tables", "Share")

    def outcomes_data(self, bins: int = 40) -> pd.DataFrame:
        """Return what :meth:`outcomes` draws: ``first, last`` (places in the episodes' table), ``outcome, count``."""
        if bins < 1:
            msg = f"bins is {bins!r}; give a number from 1"
            raise ValueError(msg)
        outcomes = self._episodes()["outcome"].astype(str)
        if outcomes.empty:
            raise NoDataError(self._nothing("it has no episodes yet"))
        size = -(-len(outcomes) // bins)
        first = np.arange(len(outcomes)) // size * size
        counted = outcomes.groupby([pd.Series(first, outcomes.index, name="first"), outcomes]).size()
        data = counted.rename_axis(["first", "outcome"]).reset_index(name="count")
        data.insert(1, "last", np.minimum(data["first"] + size, len(outcomes)) - 1)
        return data

    # -- on the grid -------------------------------------------------------------------------------------------------

    def visits(self) -> go.Figure:
        """Return a map of where the steps led, for runs whose steps show the agent on a grid; of several maps, the one most stepped on.

        Raises
        ------
        NoDataError
            No step of the run shows the agent on a grid.
        """
        data = self.visits_data()
        most = data.groupby("map")["visits"].sum().idxmax()
        shown, others = data[data["map"] == most], data[data["map"] != most]["visits"].sum()
        note = f" ({others:,} steps are on {data['map'].nunique() - 1} other maps)" if others else ""
        return self._map(shown, "visits", f"Visits{note}", "Blues", [f"{v:,}" for v in shown["visits"]])

    def visits_data(self) -> pd.DataFrame:
        """Return what :meth:`visits` draws: ``map`` (a number), ``row, col, tile`` (its letter), ``visits``, a row a cell."""
        found = places.visits(self._feed)
        if not found:
            raise NoDataError(self._nothing("no step shows the agent on a grid"))
        rows = [
            (number, r, c, tile, counts.get((r, c), 0))
            for number, (tiles, counts) in enumerate(found)
            for r, line in enumerate(tiles)
            for c, tile in enumerate(line)
        ]
        return pd.DataFrame(rows, columns=["map", "row", "col", "tile", "visits"])

    def q_values(self, column: str | None = None) -> go.Figure:
        """Return the newest action values that the worker told: on the grid, the best of each cell with its action; else their mean an episode.

        Parameters
        ----------
        column
            The steps' column that holds them, a number of the action that was taken or a list by action; None: the first of ``q_values, q_after,
            q_before, q_value, q`` that there is.

        Raises
        ------
        NoDataError
            The steps have no such column.
        """
        import plotly.graph_objects as go  # noqa: PLC0415 - heavy, and only for figures

        data = self.q_values_data(column)
        name = str(data.attrs["column"])
        if "row" not in data:
            means = data.groupby("episode", sort=False)["q"].mean()
            figure = go.Figure(go.Scatter(x=means.index, y=means, mode="lines", line={"color": _COLOURS[0]}))
            return self._laid_out(figure, f"Mean {name}", "Episode", name)
        best = data.loc[data.groupby(["row", "col"])["q"].idxmax()]
        words = [f"{_arrow(action)}<br>{q:.3g}" for action, q in zip(best["action"], best["q"], strict=True)]
        return self._map(best, "q", f"Best {name} of each cell, as last told", "Viridis", words)

    def q_values_data(self, column: str | None = None) -> pd.DataFrame:
        """Return what :meth:`q_values` draws: ``row, col, action, q`` (the newest of each), or ``episode, q`` where there is no grid."""
        names = self._feed.frames.steps_table().column_names
        name = column or next((held for held in _Q_COLUMNS if held in names), None)
        if name is None or name not in names:
            known = ", ".join(name for name in names if name.startswith("q")) or "none begins with q"
            msg = f"its steps have no column {column or ' or '.join(_Q_COLUMNS)} ({known})"
            raise NoDataError(self._nothing(msg))
        on_grid = places.newest(self._feed, name)
        if on_grid:
            rows = [(r, c, action, q) for (r, c, action), q in sorted(on_grid.items())]
            data = pd.DataFrame(rows, columns=["row", "col", "action", "q"])
        else:
            table = self._feed.frames.steps_table()
            data = table.select(["episode"]).to_pandas()
            data["q"] = places.numbers(table.column(name))
            data = data.dropna()
        if data.empty:
            raise NoDataError(self._nothing(f"column {name!r} holds no numbers"))
        data.attrs["column"] = name
        return data

    def _map(self, cells: pd.DataFrame, value: str, title: str, colours: str, words: list[str]) -> go.Figure:
        import plotly.graph_objects as go  # noqa: PLC0415 - heavy, and only for figures

        height, width = int(cells["row"].max()) + 1, int(cells["col"].max()) + 1
        values = np.full((height, width), np.nan)
        texts = np.full((height, width), "", dtype=object)
        values[cells["row"], cells["col"]] = cells[value]
        texts[cells["row"], cells["col"]] = words
        if "tile" in cells:
            tiles = [f"{tile}<br>{text}" for tile, text in zip(cells["tile"].map(_letter), words, strict=True)]
            texts[cells["row"], cells["col"]] = tiles
        figure = go.Figure(
            go.Heatmap(
                z=values,
                text=texts,
                texttemplate="%{text}" if height * width <= 400 else None,  # noqa: PLR2004 - texts that can be read
                colorscale=colours,
                xgap=1,
                ygap=1,
                hovertemplate="row %{y}, column %{x}<br>%{z}<extra></extra>",
            )
        )
        self._laid_out(figure, title, "", "")
        figure.update_xaxes(visible=False, constrain="domain")
        figure.update_yaxes(visible=False, autorange="reversed", scaleanchor="x")
        return figure

    def _laid_out(self, figure: go.Figure, title: str, x: str, y: str) -> go.Figure:
        name = str(self._feed.config.get("run_name") or self._feed.run_id)
        return _with_axes(figure, _text(f"{title}: {name}"), _text(x), _text(y))

    def _nothing(self, why: str) -> str:
        return f"run {self._feed.run_id!r} has nothing to draw: {why}"


def overlaid(episodes: pd.DataFrame, window: int | None) -> go.Figure:
    """Return the trailing mean of the returns of several runs in one figure, a line for each agent of a worker of each.

    Parameters
    ----------
    episodes
        As :meth:`Client.compare` returns them.
    window
        Episodes that the mean goes over; None: a twentieth of them, 5 to 100.

    Raises
    ------
    NoDataError
        No episode has ended yet.
    ValueError
        `window` is below 1.
    """
    import plotly.graph_objects as go  # noqa: PLC0415 - heavy, and only for figures

    _check_window(window)
    ended = episodes[episodes["outcome"].astype(str) != "Running"]
    if ended.empty:
        msg = f"runs {', '.join(map(repr, episodes['run'].cat.categories))} have nothing to draw: no episode has ended yet"
        raise NoDataError(msg)
    figure = go.Figure()
    colours = dict(zip(ended["run"].unique(), itertools.cycle(_COLOURS), strict=False))
    agents = ended.drop_duplicates(["run", "worker_id", "agent_id"])["run"].tolist()
    for (run, worker, agent), rows in ended.groupby(["run", "worker_id", "agent_id"], observed=True, sort=False):
        who = " ".join(part for part in (str(worker), str(agent)) if part)
        name = _text(f"{run} {who}" if agents.count(run) > 1 and who else str(run))
        line = _thinned(rows.assign(mean=_trailing_mean(rows["total_reward"], window)))
        figure.add_trace(
            go.Scatter(
                x=line["nth"],
                y=line["mean"],
                mode="lines",
                name=name,
                legendgroup=_text(str(run)),
                showlegend=True,
                line={"color": colours[run], "width": 2.5},
                hovertemplate=f"{name}<br>its episode %{{x}}<br>mean %{{y:.4g}}<extra></extra>",
            )
        )
    return _with_axes(figure, f"Return of {len(colours)} runs", "Episodes of each, from 0", "Return")


def _check_window(window: int | None) -> None:
    if window is not None and window < 1:
        msg = f"window is {window!r}; give a number of episodes from 1"
        raise ValueError(msg)


def _trailing_mean(values: pd.Series, window: int | None) -> pd.Series:
    """Return the mean up to each value. Infinite ones are data; their mean is nothing that could be drawn."""
    finite = values.astype(float).replace([np.inf, -np.inf], np.nan)
    return finite.rolling(window or int(np.clip(len(values) // 20, 5, 100)), min_periods=1).mean()


def _with_axes(figure: go.Figure, title: str, x: str, y: str) -> go.Figure:
    return figure.update_layout(
        template="plotly_white",
        title={"text": title, "x": 0.02},
        xaxis_title=x,
        yaxis_title=y,
        height=380,
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        colorway=list(_COLOURS),
    )


def _points(rows: pd.DataFrame, name: str, colour: str) -> list[go.Scatter]:
    """Return the episodes as points, or where there are too many of them as the range of so many neighbours each."""
    import plotly.graph_objects as go  # noqa: PLC0415 - heavy, and only for figures

    if len(rows) <= _MOST_POINTS:
        style = {"color": colour, "size": 4, "opacity": 0.4}
        said = "episode %{x}<br>%{y:.6g} (%{customdata})<extra></extra>"
        shown = {"customdata": rows["outcome"].astype(str), "hovertemplate": said}
        return [go.Scatter(x=rows["episode"], y=rows[name], mode="markers", marker=style, **shown)]
    part = np.arange(len(rows)) * _RANGES // len(rows)
    ranges = rows.groupby(part).agg(x=("episode", "first"), low=(name, "min"), high=(name, "max"))
    outline = {"mode": "lines", "line": {"width": 0, "color": colour}, "hoverinfo": "skip"}
    fill = {"fill": "tonexty", "opacity": 0.3}
    return [
        go.Scatter(x=ranges["x"], y=ranges["low"], **outline),
        go.Scatter(x=ranges["x"], y=ranges["high"], **outline, **fill),
    ]


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """Return at most :data:`_MOST_POINTS` of the rows, the last among them: the mean changes little between neighbours."""
    every = -(-len(rows) // _MOST_POINTS) or 1
    return rows.iloc[(len(rows) - 1) % every :: every]


def _letter(tile: str) -> str:
    return "" if tile in " .Fo" else _text(tile)


def _text(text: str) -> str:
    """Return a text in which plotly finds no markup, and MathJax, where a page has it, no formula."""
    return plain(text[:200]).replace("&", "&amp;").replace("<", "&lt;").replace("$", "&#36;")


def _arrow(action: str) -> str:
    known = {"left": "←", "right": "→", "up": "↑", "down": "↓", "west": "←", "east": "→", "north": "↑", "south": "↓"}
    return known.get(action, _text(action))
