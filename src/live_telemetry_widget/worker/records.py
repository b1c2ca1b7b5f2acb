"""What an emitter's training thread hands over, as it was said: nothing is counted, copied twice or encoded before another thread does it."""

from __future__ import annotations

import abc
import dataclasses
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: A step: (ts_unix_ns, action, reward, observation, terminated, truncated, episode, step_index, agent_id, further fields, drawing, final
#: observation). A drawing is a :class:`Painter` and what it paints. A plain tuple, because making anything else costs the training thread more.
Step = tuple[
    int,
    Any,
    Any,
    Any,
    Any,
    Any,
    "int | None",
    "int | None",
    "str | None",
    "dict[str, Any] | None",
    "tuple[Painter, Any] | None",
    Any,
]

#: Of these, nobody can change a value behind our back. Types that prove to be such are added as they are met.
FIXED: Final[set[type]] = {type(None), bool, int, float, str, bytes, complex}


@dataclasses.dataclass(slots=True)
class Episode:
    """The end of an episode, as the training code tells it; None where it leaves that to the steps."""

    ts_unix_ns: int
    total_reward: float | None
    steps: int | None
    terminated: bool | None
    truncated: bool | None
    episode: int | None
    agent_id: str | None
    further: dict[str, Any]


@dataclasses.dataclass(slots=True)
class Block:
    """Steps of several agents at one moment, column by column; numbered by whoever made it.

    Attributes
    ----------
    agents
        Names; ``agent`` has each row's index into them.
    columns
        NumPy arrays of one length, which nobody changes any more: ``agent`` (int32), ``episode`` and ``step_index`` (int64),
        ``reward`` (float64), ``terminated`` and ``truncated`` (bool), ``action``, ``observation``; or None for the last two.
    further
        Arrays or lists of the same length, by name.
    """

    ts_unix_ns: int
    agents: Sequence[str]
    columns: dict[str, Any]
    further: dict[str, Any]


class Painter(abc.ABC):
    """Makes a render payload of what was kept of a state, on the emitter's own thread."""

    @abc.abstractmethod
    def paint(self, subject: Any, action: Any, terminated: bool, truncated: bool) -> str:  # noqa: ANN401, FBT001 - the painter's own; by position, for speed
        """Return the payload as JSON text."""


def snapshot(value: Any) -> Any:  # noqa: ANN401 - whatever a step is told with
    """Return what `value` is now, whatever its owner does to it later.

    >>> position = [0, 1]
    >>> seen = snapshot({"position": position}); position[0] = 5; seen
    {'position': [0, 1]}
    """
    kind = type(value)
    if kind in FIXED or _is_scalar(kind):
        return value
    if kind is dict:
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [snapshot(item) for item in value]
    if hasattr(value, "detach"):  # a tensor; on a GPU, too
        return value.detach().cpu().numpy().copy()
    copy = getattr(value, "copy", None)
    return copy() if callable(copy) else value


def _is_scalar(kind: type) -> bool:
    """Whether a type is one of NumPy's scalars; if so, it is known from now on."""
    numpy = sys.modules.get("numpy")
    found = numpy is not None and issubclass(kind, numpy.generic)
    if found:
        FIXED.add(kind)
    return found


def snapshots(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same of a mapping's values."""
    return {key: value if type(value) in FIXED else snapshot(value) for key, value in values.items()}
