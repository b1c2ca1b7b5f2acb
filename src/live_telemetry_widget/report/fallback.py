"""A run where there is no script and no style sheet of ours: text and HTML for saved notebooks, GitHub, nbconvert, e-mail.

Everything is styled in place and takes the host's colours. Everything that came over the wire is escaped and cut.
"""

from __future__ import annotations

import datetime as dt
import html
import math
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget._plain import plain
from live_telemetry_widget.report import curve
from live_telemetry_widget.report.facts import LAST, finite, mean_of_last

if TYPE_CHECKING:
    import pyarrow as pa

    from live_telemetry_widget.report.facts import Facts

#: Longest text of a cell in characters.
_CELL: Final = 48
#: Longest text elsewhere.
_LINE: Final = 300

_STEP_COLUMNS: Final = ("agent_id", "episode", "step_index", "action", "reward", "terminated", "truncated")
_EPISODE_COLUMNS: Final = ("agent_id", "episode", "total_reward", "steps", "outcome", "episode_seed")
_CELL_STYLE: Final = "padding:2px 10px;text-align:right;white-space:nowrap"


def text(facts: Facts) -> str:
    """Return the totals in a few lines of plain text."""
    lines = [
        f"Run {cut(facts.title, _LINE)}: {cut(_state(facts), _LINE)}",
        *(f"{name}: {cut(value, _LINE)}" for name, value in _totals(facts)),
    ]
    return "\n".join([*lines, plain(taken(facts))])


def html_of(facts: Facts) -> str:
    """Return a piece of HTML: the totals, the return curve, the first and last rows of both tables, and when it was taken."""
    cells = "".join(
        f'<div style="min-width:7em"><div style="font-size:85%;opacity:0.75">{escaped(name)}</div>'
        f'<div style="font-size:115%;font-weight:600">{escaped(value)}</div></div>'
        for name, value in _totals(facts)
    )
    parts = [
        (
            f'<div style="margin-bottom:6px"><strong>{escaped(facts.title, _LINE)}</strong> '
            f'<span style="opacity:0.75">{escaped(_state(facts), _LINE)}</span></div>'
        ),
        f'<div style="display:flex;flex-wrap:wrap;gap:8px 24px;margin-bottom:10px">{cells}</div>',
        curve_of(facts),
        table("Episodes", facts.first_episodes, facts.last_episodes, facts.episodes, _EPISODE_COLUMNS),
        table("Steps, as they came", facts.first_steps, facts.last_steps, facts.steps, _STEP_COLUMNS),
        problems(facts),
        f'<div style="font-size:85%;opacity:0.75;margin-top:8px">{escaped(taken(facts), _LINE)}</div>',
    ]
    # Notebooks would typeset what is between dollar signs.
    return f'<div class="ltw-fallback mathjax_ignore tex2jax_ignore" style="font-family:system-ui,sans-serif;max-width:720px">{"".join(parts)}</div>'


def curve_of(facts: Facts) -> str:
    """Return the return curve with a line of text that says the same without it."""
    held = finite(facts.returns)
    if not len(held):
        return ""
    _, window = curve.smooth(facts.returns)
    strange = len(facts.returns) - len(held)
    said = (
        f"Return of {_count(len(held), 'episode')}, from {_number(float(held.min()))} to {_number(float(held.max()))}; "
        f"the strong line is the mean of {window}"
    )
    said += f"; {strange} that are not finite are left out" if strange else ""
    return f'{curve.svg(facts.returns, escaped(said, _LINE))}<div style="font-size:85%;opacity:0.75">{escaped(said, _LINE)}</div>'


def table(title: str, first: pa.Table, last: pa.Table, total: int, names: tuple[str, ...]) -> str:
    """Return the first and last rows of a table, with how many are between."""
    if not total:
        return ""
    shown = [name for name in names if name in first.column_names and _says_something(first, last, name)]
    between = total - first.num_rows - last.num_rows
    head = "".join(f'<th scope="col" style="{_CELL_STYLE}">{escaped(name)}</th>' for name in shown)
    body = _rows(first, shown)
    if between > 0:
        body += f'<tr><td colspan="{len(shown)}" style="text-align:center;opacity:0.75">{between:,} more</td></tr>'
    body += _rows(last, shown)
    return (
        f'<div style="overflow-x:auto"><table style="border-collapse:collapse;margin:10px 0;font-size:90%">'
        f'<caption style="text-align:left;font-weight:600;white-space:nowrap">{escaped(title)} ({total:,})</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def problems(facts: Facts) -> str:
    """Return what was wrong with the data, a line a kind; empty when nothing was."""
    lines = "".join(
        f"<li>{escaped(p.kind)}, {_count(p.count, 'time')}: {escaped(p.detail, _LINE)}</li>" for p in facts.problems
    )
    return (
        f'<div style="margin-top:8px">Problems with the data:<ul style="margin:4px 0">{lines}</ul></div>'
        if lines
        else ""
    )


def escaped(value: object, most: int = _CELL) -> str:
    r"""Return a value as text within HTML, cut, without characters that HTML cannot hold.

    >>> print(escaped("<script>" + chr(0)))
    &lt;script&gt;\u0000
    """
    return html.escape(cut(value, most))


def cut(value: object, most: int) -> str:
    """Return a value as text of at most so many characters, in which nothing is hidden."""
    whole = str(value)
    shown = whole if len(whole) <= most else whole[: most - 1] + "…"
    return plain(shown)


def _says_something(first: pa.Table, last: pa.Table, name: str) -> bool:
    """Whether any of the rows has a value of this name, other than the text of nothing."""
    values = first.column(name).to_pylist() + (last.column(name).to_pylist() if name in last.column_names else [])
    return any(value not in (None, "") for value in values)


def _rows(rows: pa.Table, names: list[str]) -> str:
    columns = [rows.column(name).to_pylist() if name in rows.column_names else [None] * rows.num_rows for name in names]
    return "".join(
        "<tr>" + "".join(f'<td style="{_CELL_STYLE}">{escaped(_value(v))}</td>' for v in row) + "</tr>"
        for row in zip(*columns, strict=True)
    )


def _value(value: Any) -> str:  # noqa: ANN401 - of a column of any type
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"  # noqa: PLR2004 - all digits


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}" if number == 1 else f"{number:,} {of}s"


def _totals(facts: Facts) -> list[tuple[str, str]]:
    totals = [("Episodes", f"{facts.episodes:,}"), ("Steps", f"{facts.steps:,}")]
    mean, returns, lengths = mean_of_last(facts.returns), finite(facts.returns), finite(facts.lengths)
    if mean is not None:
        last = min(LAST, len(returns))
        totals += [(f"Mean return, last {last}", _number(mean)), ("Best return", _number(float(returns.max())))]
        totals.append(("Mean length", _number(float(lengths.mean()))))
    if facts.outcomes:
        totals.append(("Outcomes", ", ".join(f"{name} {count:,}" for name, count in facts.outcomes.items())))
    if len(facts.agents) > 1:
        totals.append(("Agents", f"{len(facts.agents):,}"))
    if facts.began and facts.latest and facts.latest > facts.began:
        seconds = (facts.latest - facts.began) // 1_000_000_000
        totals.append(("Time", str(dt.timedelta(seconds=seconds))))
    totals.append(("Problems", f"{facts.problem_count:,}"))
    return totals


def _state(facts: Facts) -> str:
    name = f", id {facts.run_id}" if facts.name else ""
    return f"{facts.status}{f' ({facts.reason})' if facts.reason else ''}{name}"


def taken(facts: Facts) -> str:
    """Return when the numbers were taken, and of how much of the run they are, as a sentence."""
    moment = f"{dt.datetime.fromtimestamp(facts.taken, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    if facts.ended:
        return f"All of the run, taken {moment}."
    return f"Taken {moment}, before all of the run was here ({facts.link}): what came later is not in these numbers."
