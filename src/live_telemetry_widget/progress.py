"""How many episodes a run will have, where somebody said so.

Clients in use write what the worker is told into ``metadata.worker.config`` of the run's config; an emitter and our proxy put there what the
worker says of itself. Nobody's number is made up: two names that contradict each other are no number, nor is a time or a count of steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What workers call it.
NAMES: Final = ("max_episodes", "total_episodes", "num_episodes", "n_episodes", "episodes")
#: What a page, whose numbers are float64, can hold exactly.
_MOST: Final = 2**53 - 1


def announced_episodes(config: Mapping[str, Any]) -> int | None:
    """Return how many episodes a run's config announces; None when it does not say, or says two things.

    Parameters
    ----------
    config
        What the run was submitted or opened with.

    Examples
    --------
    >>> announced_episodes({"metadata": {"worker": {"config": {"max_episodes": 200, "seed": 3}}}})
    200
    >>> announced_episodes({"metadata": {"worker": {"config": {"total_timesteps": 10_000}}}})
    >>> announced_episodes({"metadata": {"worker": {"config": {"episodes": 10, "num_episodes": 20}}}})
    """
    at: Any = config
    for name in ("metadata", "worker", "config"):
        at = at.get(name) if isinstance(at, dict) else None
    said = {_whole(at[name]) for name in NAMES if name in at} - {None} if isinstance(at, dict) else set()
    return said.pop() if len(said) == 1 else None


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MOST or value != int(value):
        return None
    return int(value)
