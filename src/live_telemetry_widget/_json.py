"""Reading JSON texts that came over the wire: they may be anything, nested deeper than a parser goes, or half of what the next text ends."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a parser raises for a text that is no JSON, a number of thousands of digits, or one nested too deep.
UNREADABLE: Final = (ValueError, RecursionError)

_loads: Final = json.JSONDecoder().decode
#: Stands between texts that are parsed in one go. Nobody who sends texts can know it, so none can end one and begin another.
_BETWEEN: Final = secrets.token_hex(8)
_JOINT: Final = f',"{_BETWEEN}",'


def parse(text: str) -> Any:  # noqa: ANN401 - whatever JSON says
    """Return what a JSON text says; raises one of :data:`UNREADABLE` for what is none."""
    return _loads(text)


def read(text: str) -> Any:  # noqa: ANN401 - whatever JSON says
    """Return what a JSON text says; the text itself where it is none, as others' workers may send.

    >>> read("[1, 2]"), read("left"), read("[" * 99_999)[:3]
    ([1, 2], 'left', '[[[')
    """
    try:
        return _loads(text)
    except UNREADABLE:
        return text


def parse_all(texts: Sequence[str]) -> list[Any] | None:
    """Return what each of some JSON texts says, parsed in one go, which is several times as quick; None unless each is one by itself.

    >>> parse_all(["1", "[2]"]), parse_all(["1, 2", "[3", "4]"])
    ([1, [2]], None)
    """
    if not texts:
        return []
    try:
        found: list[Any] = _loads(f"[{_JOINT.join(texts)}]")
    except UNREADABLE:
        return None
    between = len(texts) - 1
    # All that were put between are where they were put: so each text is one value, and none has taken a neighbour in.
    whole = len(found) == len(texts) + between and found[1::2].count(_BETWEEN) == between
    return found[::2] if whole else None
