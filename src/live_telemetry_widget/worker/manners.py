"""Reads the rows that a training thread has put down (:mod:`~live_telemetry_widget.worker.records`): column by column where it can."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from live_telemetry_widget.worker.portions import MAX_ROWS
from live_telemetry_widget.worker.records import WIDTH, Manner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from live_telemetry_widget.worker.will import Will

_TIMES: Final = {int, type(None)}
_STEP: Final = {int}
_USUAL: Final = Manner(-1)


@dataclasses.dataclass(slots=True)
class Arrays:
    """A column of arrays of one type and shape, as their bytes; None where there is none."""

    parts: Sequence[bytes | None]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def stacked(self) -> np.ndarray[Any, Any] | None:
        """Return all in one array, a row each; None when some are missing."""
        if None in self.parts:
            return None
        return np.frombuffer(b"".join(self.parts), self.dtype).reshape(len(self.parts), *self.shape)  # type: ignore[arg-type]  # none is None

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> np.ndarray[Any, Any] | None:
        part = self.parts[index]
        return None if part is None else np.frombuffer(part, self.dtype).reshape(self.shape)


@dataclasses.dataclass(slots=True)
class Columns:
    """Steps of one agent that give no numbers themselves.

    Attributes
    ----------
    core
        Times, actions, rewards, observations, terminated, truncated.
    further
        Fields of each row; None when none has any.
    drawings
        What each row is drawn from: a painter and its subject, or None; None when nothing is drawn.
    finals
        The last observation, in rows that end an episode; anything in others. None when it is not told.
    agent_id
        Whose; None: the emitter's own.
    """

    core: list[Any]
    further: Sequence[dict[str, Any] | None] | None = None
    drawings: Sequence[Any] | None = None
    finals: Any = None
    agent_id: str | None = None


@dataclasses.dataclass(slots=True)
class _Course:
    """Where the steps of a manner are."""

    manner: Manner
    last: Any = None
    further: dict[str, Any] | None = None
    told: int = 0


class Manners:
    """What is known of the manners of rows; remembers where each is."""

    def __init__(self) -> None:
        self._courses: dict[int | None, _Course] = {None: _Course(_USUAL)}
        self._touched: set[int | None] = set()

    def bequeath(self, will: Will, most: int) -> bool:
        """Write into a will where each course is; whether these are all: else those of the rows since the last time."""
        whole = len(self._courses) <= most + 1
        numbers = self._courses if whole else self._touched
        courses = ((number, self._courses[number]) for number in numbers if number is not None)
        will.courses = {number: (course.last, course.further, course.told) for number, course in courses}
        self._touched.clear()
        return whole

    def inherit(self, will: Will) -> None:
        """Go on from there."""
        for manner in will.manners:
            self._courses[manner.number] = _Course(manner, *will.courses.get(manner.number, (None, None, 0)))

    def read(self, rows: list[Any]) -> Iterator[Columns | list[Any]]:
        """Yield parts of some rows, in order: columns, or records where these are mixed."""
        for at in range(0, len(rows), MAX_ROWS * WIDTH):
            part = rows[at : at + MAX_ROWS * WIDTH] if len(rows) > MAX_ROWS * WIDTH else rows
            kinds = set(map(type, part[::WIDTH]))
            if Manner in kinds:
                part = self._learn(part)
                kinds = set(map(type, part[::WIDTH]))
            manners = set(part[WIDTH - 1 :: WIDTH])
            self._touched |= manners
            if not kinds <= _TIMES or len(manners) > 1:
                yield self._records(part)
            elif kinds:
                yield self._columns(part, self._courses[manners.pop()], begins=kinds != _STEP)

    def _learn(self, rows: list[Any]) -> list[Any]:
        """Take the manners out of some rows; return the others."""
        rest: list[Any] = []
        for at in range(0, len(rows), WIDTH):
            manner = rows[at]
            if isinstance(manner, Manner):
                self._courses[manner.number] = _Course(manner)
            else:
                rest += rows[at : at + WIDTH]
        return rest

    def _columns(self, rows: list[Any], course: _Course, *, begins: bool) -> Columns:
        manner = course.manner
        core: list[Any] = [rows[at::WIDTH] for at in range(WIDTH - 1)]
        times, actions, seen = core[0], core[1], core[3]
        further: list[dict[str, Any] | None] | None = None
        led: list[Any] | None = None
        if manner.leads:
            led = seen
            core[3] = [course.last, *led[:-1]]
            course.last = led[-1]
        if begins:
            fields = []
            for time, action in zip(times, actions, strict=True):
                if time is None:
                    course.further = action
                fields.append(course.further)
            steps = [time is not None for time in times]
            core = [list(itertools.compress(column, steps)) for column in core]
            led = None if led is None else list(itertools.compress(led, steps))
            further = list(itertools.compress(fields, steps))
        elif course.further:
            further = [course.further] * len(times)
        if further is not None and not any(further):
            further = None
        drawings: list[Any] | None = None
        if manner.painter is not None and led is not None:
            drawings = list(zip(itertools.repeat(manner.painter), led))
            if manner.every > 1:
                first = -course.told % manner.every
                drawings = [d if (i - first) % manner.every == 0 else None for i, d in enumerate(drawings)]
        course.told += len(core[0])
        finals: Any = led
        if manner.array is not None:
            dtype, shape = np.dtype(manner.array[0]), manner.array[1]
            core[3] = Arrays(core[3], dtype, shape)
            finals = None if led is None else Arrays(led, dtype, shape)
        return Columns(core, further, drawings, finals, manner.agent_id)

    def _records(self, rows: list[Any]) -> list[Any]:
        """Return the rows as Steps, Episodes and Blocks."""
        found: list[Any] = []
        for at in range(0, len(rows), WIDTH):
            time, action, reward, seen, terminated, truncated, number = rows[at : at + WIDTH]
            if time.__class__ is not int and time is not None:
                found.append(time)
                continue
            course = self._courses[number]
            manner = course.manner
            observation, led = seen, None
            if manner.leads:
                observation, course.last = course.last, seen
            if manner.array is not None:
                dtype, shape = manner.array
                observation = None if observation is None else np.frombuffer(observation, dtype).reshape(shape)
            if time is None:
                course.further = action
                continue
            drawing = None
            if manner.leads:
                led = seen if manner.array is None or seen is None else np.frombuffer(seen, dtype).reshape(shape)
                if manner.painter is not None and course.told % manner.every == 0:
                    drawing = (manner.painter, led)
            course.told += 1
            final = led if terminated or truncated else None
            step = (time, action, reward, observation, terminated, truncated)
            found.append((*step, None, None, manner.agent_id, course.further, drawing, final))
        return found
