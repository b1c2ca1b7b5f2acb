"""Steps as a DataFrame that decodes what its JSON columns hold, when asked.

A :class:`StepFrame` is a DataFrame in every respect, and what is cut out of it is one too; ``.obs``, ``.actions`` and so on read the JSON only
then. ``frame.attrs`` says where it comes from: ``run_id``, ``game``, ``taken_at`` (ISO 8601, UTC) and ``revision``, which grows with what the run has.

Examples
--------
>>> steps = StepFrame({"observation": ["[0.5, 1]", "[2, 3]"], "action": [0, 2]})
>>> steps.obs
array([[0.5, 1. ],
       [2. , 3. ]])
>>> steps.attrs["game"] = "FrozenLake"
>>> list(steps[1:].action_names)
['right']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from live_telemetry_widget import _json
from live_telemetry_widget.grids import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

Decode = Literal["auto", "columns", "objects"]
DECODES: Final[tuple[Decode, ...]] = get_args(Decode)
Array: TypeAlias = "np.ndarray[Any, Any]"

#: An array observation longer than this is no table's business (columns).
_WIDEST: Final = 256
_TAXI: Final = (("taxi_row", 100, 5), ("taxi_col", 20, 5), ("passenger_index", 4, 5), ("destination_index", 1, 4))
_TAXI_STATES: Final = 500
#: Beyond this, a float64 is not every integer.
_EXACT: Final = 2.0**53
#: No game has actions whose numbers are longer.
_DIGITS: Final = 10


class StepFrame(pd.DataFrame):
    """Steps, a row each, with columns as :attr:`Run.steps <live_telemetry_widget.run.Run.steps>` has them."""

    @property
    def _constructor(self) -> type[StepFrame]:
        return StepFrame

    @property
    def obs(self) -> Array | pd.Series[Any]:
        """The observations.

        Returns
        -------
        numpy.ndarray or pandas.Series
            Where all are numbers, or arrays of numbers of one shape: an array of shape ``(steps, *shape)`` of int64, float64 or bool. The JSON
            texts as they were sent otherwise, also where an array would round an integer; :meth:`observations` decodes those too.
        """
        return self._numeric("observation")

    @property
    def next_obs(self) -> Array | pd.Series[Any]:
        """The observations that the steps led to, as :attr:`obs`; raises KeyError where the worker does not tell them."""
        return self._numeric("next_observation")

    @property
    def actions(self) -> Array | pd.Series[Any]:
        """The actions, decoded as :attr:`obs`."""
        column = self["action"]
        # Words that were all that it held are decoded already, and "2" is one.
        return (
            self._numeric("action")
            if isinstance(column.dtype, pd.CategoricalDtype) or _plain(column) is not None
            else column
        )

    @property
    def action_names(self) -> pd.Series[Any]:
        """What the game calls the actions (category), like ``"left"``; the action's own text where the game, or its action, is not known."""
        column = self["action"]
        names = ACTIONS.get(str(self.attrs.get("game") or ""), ())
        values = [_action_name(value, names) for value in column.unique()]
        found = pd.Series(pd.Categorical(column.map(dict(zip(column.unique(), values, strict=True)))), index=self.index)
        return found.rename("action")

    def observations(
        self, decode: Decode = "auto", column: str = "observation"
    ) -> Array | pd.Series[Any] | pd.DataFrame:
        """Return the observations, or what another JSON column holds.

        Parameters
        ----------
        decode
            ``"auto"``: as :attr:`obs`. ``"columns"``: a DataFrame; a field of the objects a column, those of inner objects named
            ``outer.inner``; the numbers of an array ``0, 1, ...``; Taxi's state as ``taxi_row, taxi_col, passenger_index, destination_index``.
            ``"objects"``: a Series of what the JSON says, as Python's dicts, lists, numbers.
        column
            ``"observation"``, ``"next_observation"``, ``"render_payload"``, ...

        Raises
        ------
        KeyError
            There is no such column.
        ValueError
            `decode` is none of these, or the values have no fields that could be columns.
        """
        check_decode(decode)
        if decode == "auto":
            return self._numeric(column)
        values = read(self[column])
        if decode == "objects":
            return pd.Series(values, index=self.index, name=column, dtype=object)
        return as_columns(values, self.index, str(self.attrs.get("game") or ""))

    def _numeric(self, name: str) -> Array | pd.Series[Any]:
        column = self[name]
        found = None if isinstance(column.dtype, pd.CategoricalDtype) else _plain(column)
        if found is None:
            found = as_array(read(column))
        return column if found is None else found


def check_decode(decode: str) -> None:
    """Raise ValueError for what is no way to decode."""
    if decode not in DECODES:
        msg = f"decode is {decode!r}; give one of {', '.join(map(repr, DECODES))}"
        raise ValueError(msg)


def with_columns(frame: StepFrame, decode: Decode) -> StepFrame:
    """Return the frame with its observations decoded: as columns ``observation.FIELD`` in their place, or as objects."""
    check_decode(decode)
    if decode == "auto":
        return frame
    found = frame.observations(decode)
    if isinstance(found, pd.Series):
        return frame.assign(observation=found)
    assert isinstance(found, pd.DataFrame)  # noqa: S101 - for mypy: that is what "columns" gives
    at = list(frame.columns).index("observation")
    named = found.add_prefix("observation.")
    parts = [frame.iloc[:, :at], named, frame.iloc[:, at + 1 :]]
    joined = StepFrame(pd.concat(parts, axis=1))
    joined.attrs = frame.attrs.copy()
    return joined


def _plain(column: pd.Series[Any]) -> Array | None:
    """Return a column of numbers as they are."""
    if column.dtype.kind in "biuf" and isinstance(column.dtype, np.dtype):
        return column.to_numpy()
    return None


def read(column: pd.Series[Any]) -> list[Any]:
    """Return what the JSON texts of a column say; None where one is missing, the text itself where it is no JSON."""
    texts: Sequence[Any] = column.astype(object).tolist()
    if all(isinstance(text, str) for text in texts):
        found = _json.parse_all(texts)
        if found is not None:
            return found
    return [_read_one(text) for text in texts]


def _read_one(text: object) -> Any:  # noqa: ANN401 - JSON
    if isinstance(text, np.ndarray):  # a column of lists
        return [_read_one(inner) for inner in text]
    if not isinstance(text, str):
        missing = text is None or text is pd.NA or text != text  # noqa: PLR0124 - NaN
        return None if missing else text.item() if isinstance(text, np.generic) else text
    return _json.read(text)


def as_array(values: Sequence[Any]) -> Array | None:
    """Return values as one array of numbers when they have one shape; None otherwise.

    >>> as_array([[1, 2], [3]]), as_array([{"state": 1}])
    (None, None)
    >>> as_array([3, 4]).dtype
    dtype('int64')
    """
    if not values:
        return np.zeros(0)
    if not isinstance(values[0], int | float | list) or any(type(v) is not type(values[0]) for v in values):
        mixed = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if not mixed:
            return None
    try:
        found = np.asarray(values)
    except (ValueError, OverflowError):
        return None
    if found.dtype.kind == "f" and _rounds(found, values):
        return None
    return found if found.dtype.kind in "bif" else None


def _rounds(found: Array, values: Sequence[Any]) -> bool:
    """Whether integers among the values are others as the floats that they were made."""
    # Up to there a float is the integer; only where some are beyond are they looked at one by one.
    if not found.size or not (np.abs(found) >= _EXACT).any():
        return False
    whole = np.asarray(values, object).ravel()
    return any(isinstance(v, int) and int(f) != v for v, f in zip(whole, found.ravel().tolist(), strict=True))


def as_columns(values: Sequence[Any], index: pd.Index[Any], game: str = "") -> pd.DataFrame:
    """Return a DataFrame of the fields that values have; raises ValueError where they have none."""
    if any(isinstance(value, dict) for value in values) and all(isinstance(v, dict | None) for v in values):
        return pd.DataFrame([_flat(value or {}) for value in values], index=index)
    array = as_array(values)
    if array is not None and array.ndim == 1 and game == "Taxi" and array.dtype.kind == "i":
        return taxi_fields(array, index)
    if array is not None and array.ndim == 1:
        return pd.DataFrame({"value": array}, index=index)
    if array is not None and array[0].size <= _WIDEST:
        flat = array.reshape(len(array), -1)
        return pd.DataFrame({str(at): flat[:, at] for at in range(flat.shape[1])}, index=index)
    what = f"arrays of shape {array.shape[1:]}" if array is not None else "of several kinds or shapes"
    msg = f"the values are {what}, which make no columns; .obs gives arrays, decode='objects' whatever there is"
    raise ValueError(msg)


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            found.update(_flat(inner, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = inner
    return found


def taxi_fields(states: Array, index: pd.Index[Any] | None = None) -> pd.DataFrame:
    """Return what Taxi's states say: ((row * 5 + col) * 5 + passenger) * 4 + destination.

    >>> taxi_fields(np.array([328])).to_dict("records")
    [{'taxi_row': 3, 'taxi_col': 1, 'passenger_index': 2, 'destination_index': 0}]

    Raises
    ------
    ValueError
        A state is none of Taxi's 500.
    """
    wrong = states[(states < 0) | (states >= _TAXI_STATES)]
    if len(wrong):
        msg = f"{wrong[0]} is no state of Taxi; they are from 0 to {_TAXI_STATES - 1}"
        raise ValueError(msg)
    return pd.DataFrame({name: states // step % count for name, step, count in _TAXI}, index=index)


def _action_name(value: object, names: Sequence[str]) -> str | None:
    if value is None or value is pd.NA or value != value:  # noqa: PLR0124 - NaN
        return None
    text = str(value)
    # A text from the wire may hold digits that no number is made of, or thousands of them.
    place = int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else len(names)
    return names[place] if place < len(names) else text
