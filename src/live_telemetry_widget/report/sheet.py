"""A page without any script: for mail, archives and browsers that run none."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from live_telemetry_widget.report import curve, fallback

if TYPE_CHECKING:
    import pyarrow as pa

    from live_telemetry_widget.report.facts import Facts

_STYLE: Final = (
    ":root{color-scheme:light dark}body{margin:0 auto;padding:16px;max-width:1000px;font:14px/1.45 system-ui,sans-serif;"
    "color:light-dark(#1f2328,#e6e8ea);background:light-dark(#fff,#141618)}h1{font-size:20px;margin:0 0 4px;overflow-wrap:anywhere}"
    "h2{font-size:16px;margin:18px 0 4px}footer{margin-top:16px;font-size:12px;opacity:.75}"
)
_COLUMNS: Final = (
    "worker_id",
    "agent_id",
    "episode",
    "total_reward",
    "steps",
    "outcome",
    "episode_seed",
    "source",
    "complete",
)


def page(taken: Facts, episodes: pa.Table, notes: list[str], limit: int) -> tuple[str, int, int]:
    """Return the page, and how many episodes and steps are in it; says in `notes` what the limit left out.

    Raises
    ------
    ValueError
        Not even the totals fit into `limit` bytes.
    """
    count = most = episodes.num_rows
    while True:
        shown = episodes.slice(count - most)
        said = list(notes)
        if most < count:
            said.append(
                f"To keep the file under {limit / 1e6:g} MB the newest {most:,} of {count:,} episodes are in the table below."
            )
        html = _html(taken, shown, said)
        size = len(html.encode())
        if size <= limit:
            break
        if not most:
            msg = f"limit is {limit:,} bytes, and the totals alone take {size:,}; give a higher limit"
            raise ValueError(msg)
        most = min(most - 1, int(most * limit / size * 0.95))
    notes[:] = said
    return html, most, taken.first_steps.num_rows + taken.last_steps.num_rows


def _html(taken: Facts, episodes: pa.Table, notes: list[str]) -> str:
    lengths = curve.svg(taken.lengths, "Steps per episode")
    parts = [
        f"<h1>{fallback.escaped(taken.title, 200)}</h1>",
        *(f"<p>{fallback.escaped(note, 600)}</p>" for note in notes),
        fallback.html_of(taken),
        f"<h2>Steps per episode</h2>{lengths}" if lengths else "",
        "<h2>Episodes</h2>",
        fallback.table("Episodes", episodes, episodes.slice(0, 0), episodes.num_rows, _COLUMNS),
    ]
    return document(f"Report of run {taken.title}", policy(_STYLE), _STYLE, "<main>" + "\n".join(parts) + "</main>")


def policy(style: str, script: str = "") -> str:
    """Return what a page of ours may do: use this style sheet and run this script, by their digests, and nothing else.

    The summary has its styles in place, for hosts that take style sheets away; they are ours, nothing of a run is ever a style.
    """
    scripts = f"script-src '{_digest(script)}'; " if script else ""
    styles = f"style-src '{_digest(style)}'; style-src-attr 'unsafe-inline'"
    return f"default-src 'none'; {scripts}{styles}; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def document(title: str, policy: str, style: str, body: str) -> str:
    """Return a whole HTML document; `title` is escaped here, `body` is HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="referrer" content="no-referrer">\n'
        f"<title>{fallback.escaped(title, 200)}</title>\n<style>{style}</style></head>\n<body>\n{body}\n"
        "<footer>Made by live_telemetry_widget. This file loads nothing from anywhere.</footer>\n</body></html>\n"
    )
