"""What is selected in a view, as the traits ``selection``, ``filter`` and ``step``; ``js/src/selection.ts`` is its twin."""

from __future__ import annotations

from typing import Any, Final, TypedDict

import traitlets

_LONGEST: Final = 10_000


class EpisodeRef(TypedDict):
    """Names one episode; `row` is its number in the view's episode table."""

    row: int
    worker: str
    agent: str
    episode: int


class Selection(TypedDict):
    """The value of the trait ``selection``, JSON-able; a new one is set, it is never changed in place."""

    episode: EpisodeRef | None
    """The episode that is looked at."""
    other: EpisodeRef | None
    """A second one that it is compared with."""
    step: int | None
    """The step (`step_index`) of the episode."""
    steps: list[int] | None
    """A range of steps of the episode: first and last, both in it."""
    agent: str | None
    """Only this agent; None: all."""
    filter: str
    """Only rows for which this expression holds; "": all."""
    live: bool
    """Whether the newest is followed; then no episode is selected."""


def nothing() -> Selection:
    """Return the selection of a new view: nothing, live."""
    return Selection(episode=None, other=None, step=None, steps=None, agent=None, filter="", live=True)


def checked(value: object, before: Selection | None = None) -> Selection:
    """Return a whole selection; what is not given is as if nothing were selected.

    But what narrows the tables stays as it was when it is not given: the filter, and the agent, unless an episode of another one is
    selected.

    Parameters
    ----------
    value
        What somebody wants to be selected.
    before
        What is selected; None: nothing.

    Raises
    ------
    traitlets.TraitError
        When a field is something else, or has a name that none has.

    Examples
    --------
    >>> checked({"filter": "reward > 0"})["live"]
    True
    >>> checked({"episode": {"row": 3, "episode": 4}, "step": 2})["live"]
    False
    >>> checked({"episode": {"row": 3, "episode": 4}}, before=checked({"filter": "reward > 0"}))["filter"]
    'reward > 0'
    >>> checked({"step": "2"})
    Traceback (most recent call last):
    ...
    traitlets.traitlets.TraitError: selection['step'] should be a whole number or None, not '2'
    """
    if not isinstance(value, dict):
        message = f"a selection should be a dict, not {value!r:.100}"
        raise traitlets.TraitError(message)
    held = nothing()
    if unknown := sorted(map(str, value.keys() - held.keys())):
        message = f"a selection has no {', '.join(unknown)}; it has {', '.join(held)}"
        raise traitlets.TraitError(message)
    held["episode"] = _episode("episode", value.get("episode"))
    held["other"] = _episode("other", value.get("other"))
    held["step"] = _whole("step", value.get("step"))
    held["steps"] = _range("steps", value.get("steps"))
    kept = before or held
    agent, text = value.get("agent", kept["agent"]), value.get("filter", kept["filter"])
    if "agent" not in value and held["episode"] and held["episode"]["agent"] not in {"", agent}:
        agent = None
    for name, given, kind, expected in (
        ("agent", agent, (str, type(None)), "a text or None"),
        ("filter", text, str, "a text"),
    ):
        if not isinstance(given, kind) or len(given or "") > _LONGEST:
            raise _bad(name, f"{expected} of at most {_LONGEST:,} characters", given)
    held["agent"], held["filter"] = agent, text
    held["live"] = held["episode"] is None and value.get("live") is not False
    if held["live"]:
        held["other"] = held["step"] = held["steps"] = None
    return held


def _episode(name: str, value: object) -> EpisodeRef | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _bad(name, "a dict of row, worker, agent and episode, or None", value)
    row, number = _whole(f"{name}.row", value.get("row")), _whole(f"{name}.episode", value.get("episode"))
    if row is None or number is None:
        raise _bad(name, "a dict with row and episode", value)
    return EpisodeRef(
        row=row, worker=str(value.get("worker") or ""), agent=str(value.get("agent") or ""), episode=number
    )


def _range(name: str, value: object) -> list[int] | None:
    if value is None:
        return None
    pair = [*value] if isinstance(value, (list, tuple)) else []
    if len(pair) != 2 or any(_whole(name, end) is None for end in pair):  # noqa: PLR2004 - first and last
        raise _bad(name, "two whole numbers, first and last, or None", value)
    return pair


def _whole(name: str, value: Any) -> int | None:  # noqa: ANN401 - whatever was given
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _bad(name, "a whole number or None", value)
    return value


def _bad(name: str, expected: str, value: object) -> traitlets.TraitError:
    return traitlets.TraitError(f"selection[{name!r}] should be {expected}, not {value!r:.100}")
