"""Which runs a daemon has, with what people call them, and which of them somebody may have meant."""

from __future__ import annotations

import asyncio
import difflib
from typing import TYPE_CHECKING, Final, NamedTuple

from live_telemetry_widget.errors import RunNotFoundError
from live_telemetry_widget.feed import run_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from live_telemetry_widget.client import RunDetails, RunInfo, TrainerClient

_AT_ONCE: Final = 64


class Told(NamedTuple):
    """What is known of a run; `details` only where somebody can tell."""

    info: RunInfo
    details: RunDetails | None

    @property
    def name(self) -> str:
        """What people call it; empty when it has no name, or nobody can tell."""
        return run_name(self.details)


async def told_by(client: TrainerClient) -> list[Told]:
    """Return the runs of a daemon, newest first; what they hold only where the daemon can say it."""
    infos = sorted(await client.list_runs(), key=lambda info: info.created_at or 0, reverse=True)
    found: list[Told] = []
    for at in range(0, len(infos), _AT_ONCE):
        some = infos[at : at + _AT_ONCE]
        found += map(Told, some, await asyncio.gather(*(_described(client, info.run_id) for info in some)))
    return found


async def _described(client: TrainerClient, run_id: str) -> RunDetails | None:
    try:
        return await client.describe(run_id)
    except RunNotFoundError:  # deleted meanwhile
        return None


def newest_named(name: str, told: Sequence[Told], where: str) -> str:
    """Return the id of the newest run of a name.

    Raises
    ------
    RunNotFoundError
        There is none; the message names those that are near.
    """
    found = [one for one in told if one.name == name]
    if not found:
        msg = f"{where} has no run named {name!r} among its {len(told)}{_near(name, told)}"
        raise RunNotFoundError(msg)
    return max(found, key=lambda one: one.info.created_at or 0).info.run_id


def unknown(run_id: str, told: Sequence[Told], where: str) -> str:
    """Return what to say of an id that nobody knows; empty when it is known."""
    if any(one.info.run_id == run_id for one in told):
        return ""
    same = [one.info.run_id for one in told if one.name == run_id]
    meant = f"; a run named {run_id!r} has the id {same[0]}" if same else _near(run_id, told)
    return f"{where} knows no run {run_id!r} (yet; it is waited for){meant}"


def _near(text: str, told: Iterable[Told]) -> str:
    known = {one.info.run_id: one.info.run_id for one in told}
    known |= {one.name: f"{one.info.run_id} (named {one.name!r})" for one in reversed([*told]) if one.name}
    near = [known[word] for word in difflib.get_close_matches(text, known, 3)]
    return f"; nearest: {', '.join(near)}" if near else ""
