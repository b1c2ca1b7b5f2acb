"""What an emitter's training thread hands over, as it was said: nothing is counted, copied twice or encoded before another thread does it."""

from __future__ import annotations

import abc
import copy
import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

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
#: Of these, a value can be handed to another process as cheaply as there is a way.
PLAIN: Final[set[type]] = {type(None), bool, int, float, str}

#: Kinds of NumPy's types of which an array is its bytes.
NUMBERS: Final = "biuf"

#: What the training thread appends to its list: so many values a row, one after the other, because a list without tuples in it is
#: cheaper to fill, to cut and to hand over. A step that says nothing unusual is (ts_unix_ns, action, reward, observation, terminated,
#: truncated, manner). All else is a record in the first place (a Step, an Episode, a Block, a :class:`Manner`), and Nones. A row without a
#: time begins an episode of its manner: its action is what the steps' further fields are from now on, its observation is the first.
WIDTH: Final = 7
NOTHING: Final = (None,) * (WIDTH - 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Manner:
    """How rows that name its number are to be read.

    Attributes
    ----------
    number
        Counted by the emitter, from 0.
    agent_id
        Whose steps they are.
    array
        Type and shape, when observations are the bytes of arrays.
    leads
        Whether an observation is where the step has led; then that of the row before is the one that its action answered.
    painter, every
        What draws a state, of every so-manieth step.
    """

    number: int
    agent_id: str | None = None
    array: tuple[str, tuple[int, ...]] | None = None
    leads: bool = False
    painter: Painter | None = None
    every: int = 1


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


class Remembering(Painter):
    """One that has few payloads to make, and remembers them."""

    @abc.abstractmethod
    def remembered(
        self, subjects: Sequence[Any], actions: Sequence[Any], terminated: Sequence[Any], truncated: Sequence[Any]
    ) -> list[str | None]:
        """Return the payloads; Nones when one cannot be made."""


class Unread:
    """Stands for a value that could not be copied: what is told of it is this text, and it is counted as not_json."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def snapshot(value: Any) -> Any:  # noqa: ANN401 - whatever a step is told with
    """Return what `value` is now, whatever its owner does to it later. Nothing raises: what cannot be copied is an :class:`Unread`.

    >>> position = [0, 1]
    >>> seen = snapshot({"position": position}); position[0] = 5; seen
    {'position': [0, 1]}
    """
    kind = type(value)
    if kind in FIXED or _is_scalar(kind):
        return value
    try:
        return _copied(value)
    except Exception as error:  # noqa: BLE001 - the training goes on; what comes of it is counted where it is encoded
        return Unread(f"a {kind.__name__} that cannot be copied: {type(error).__name__}")


def _copied(value: Any) -> Any:  # noqa: ANN401 - as snapshot
    kind = type(value)
    if kind in FIXED or _is_scalar(kind):
        return value
    if kind is dict or isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return _array_of(value.detach().cpu()) if hasattr(value, "detach") else _object_of(value)


def _array_of(tensor: Any) -> Any:  # noqa: ANN401 - a tensor, on a GPU before
    try:
        return tensor.numpy().copy()
    except TypeError:  # a type that NumPy has not
        return tensor.float().numpy().copy()


def _object_of(value: Any) -> Any:  # noqa: ANN401 - as snapshot
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return value.copy()
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - it is told as text, whatever it is, and counted where it is handed over
        return value


def plain(value: Any) -> Any:  # noqa: ANN401 - as snapshot
    """Return the same, NumPy's integers and truth values as Python's own: these are handed over twenty times as fast.

    >>> import numpy as np
    >>> plain(np.int64(3)), plain(np.True_), plain([1])
    (3, True, [1])
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind in _WHOLE or (_is_scalar(kind) and kind.__name__.startswith(("int", "uint", "bool"))):
        _WHOLE.add(kind)
        return value.item()
    return snapshot(value)


#: NumPy's integers and truth values, as they are met.
_WHOLE: Final[set[type]] = set()


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


def with_outcome(further: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of an episode with its outcome in a word, where a `success` that is true or false says it, and no `outcome` does.

    >>> with_outcome({"success": False, "loss": 0.5})
    {'success': False, 'loss': 0.5, 'outcome': 'Failed'}
    >>> with_outcome({"success": 0.5})
    {'success': 0.5}
    """
    success = further.get("success")
    if "outcome" in further or type(success).__name__ not in {"bool", "bool_"}:  # NumPy's bool too, without NumPy
        return further
    return {**further, "outcome": "Success" if success else "Failed"}


def success_in(info: Mapping[str, Any] | None, index: int | None = None) -> dict[str, Any]:
    """Return what an environment's `info` says of the success of an episode that has ended: its ``is_success``, or a ``success`` that is true or false.

    Parameters
    ----------
    info
        Of the step that ended it.
    index
        Of the sub-environment, where `info` has arrays for several.

    Examples
    --------
    >>> success_in({"is_success": 1.0})
    {'success': True, 'outcome': 'Success'}
    >>> success_in({"is_success": [True, False], "_is_success": [True, True]}, 1)
    {'success': False, 'outcome': 'Failed'}
    >>> success_in({"lives": 3}), success_in({"success": 0.25}, 1), success_in(None)
    ({}, {}, {})
    """
    if info.__class__ is dict and "is_success" not in info and "success" not in info:
        return {}  # most environments, after each episode
    for name in ("is_success", "success"):
        value = _said_in(info, name, index)
        if isinstance(value, bool) or (name == "is_success" and isinstance(value, int | float) and value in {0, 1}):
            return with_outcome({"success": bool(value)})
    return {}


def _said_in(info: Any, name: str, index: int | None) -> Any:  # noqa: ANN401 - whatever an environment says
    """Return one value of an environment's `info`, as Python's own where it is a scalar; None where there is none, or nothing that can be read."""
    try:
        value = info[name]
        if index is not None:
            told = info.get(f"_{name}")
            value = value[index] if told is None or told[index] else None
        return value.item() if getattr(value, "ndim", None) == 0 else value
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        # What an environment's info holds is its own affair: whoever only reads along must not end the loop for it.
        return None
