"""What a training thread says to an emitter: each call appends a row to a list, and does as little else as there is a way to.

Standard library only, as :mod:`~live_telemetry_widget.worker.emitter`.
"""

from __future__ import annotations

import abc
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from live_telemetry_widget.worker.gate import Gate
from live_telemetry_widget.worker.many import ManySteps
from live_telemetry_widget.worker.records import (
    FIXED,
    NOTHING,
    NUMBERS,
    PLAIN,
    WIDTH,
    Block,
    Episode,
    Manner,
    plain,
    snapshot,
    snapshots,
    with_outcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from live_telemetry_widget.worker.bulk import Bulk
    from live_telemetry_widget.worker.options import Options
    from live_telemetry_widget.worker.records import Step

#: With so many rows of blocks in the list its thread is woken.
WAKE_AT: Final = 8_192
#: So many types and shapes of arrays are kept as their bytes; a loop with more has them at random.
_MOST_SHAPES: Final = 100

now = time.time_ns


class Telling(ManySteps):
    """The part of an :class:`~live_telemetry_widget.Emitter` that runs on the training thread.

    Attributes
    ----------
    gate : Gate
        What holds the training thread.
    """

    def _listen(self, options: Options) -> None:
        """Have a list to put rows down in; in place of an ``__init__``, because copies in other processes have none."""
        self._options = options
        self._rows: list[Any] = []
        #: Puts down a row (records.py), once :meth:`admits` has said yes or the gate is not shut.
        self.put: Callable[[tuple[Any, ...]], None] = self._rows.extend
        self.gate = Gate(obeys=options.control)
        self._manners: list[Manner] = []
        #: Those of arrays that ``step`` was given, by type and shape.
        self._arrays: dict[tuple[Any, ...], int] = {}
        #: The class, type and shape of the last of them, and its manner: most are like the one before.
        self._array: Any = None
        self._dtype: Any = None
        self._shape: Any = None
        self._same: int | None = None
        self._seen = 0
        #: Whether an observation needs more than a look at its type.
        self.choosy = options.observations == "none" or options.observations_every > 1

    def step(  # noqa: PLR0913 - a step's fields, by name
        self,
        action: Any = None,  # noqa: ANN401 - as the environment has it
        reward: float = 0.0,
        observation: Any = None,  # noqa: ANN401 - as above
        terminated: bool = False,  # noqa: FBT001, FBT002 - in Gymnasium's order
        truncated: bool = False,  # noqa: FBT001, FBT002 - as above
        *,
        episode: int | None = None,
        step_index: int | None = None,
        agent_id: str | None = None,
        **further: Any,  # noqa: ANN401 - whatever a column may hold
    ) -> None:
        """Tell of a step. Returns at once, unless the run is paused or its spool full.

        Parameters
        ----------
        action, observation
            Numbers, arrays, or whatever can be told as JSON. Arrays are copied.
        reward, terminated, truncated
            As Gymnasium's ``step`` returns them.
        episode, step_index
            Counted by the emitter, from ``first_episode`` and 0, where they are not given.
        agent_id
            Whose step it is; each agent's episodes are counted apart.
        further
            Columns of their own: ``epsilon=0.1``, ``loss=...``. Those of the schema (``episode_seed``, ``policy_label``,
            ``render_payload`` ...) have their own place.

        Raises
        ------
        RunCancelledError
            Somebody has cancelled the run.
        ClosedError
            The emitter was closed.
        """
        if self.gate.shut and not self.admits():
            return
        manner = None
        if observation.__class__ not in PLAIN or self.choosy:
            if (
                observation.__class__ is self._array
                and observation.dtype is self._dtype
                and observation.shape == self._shape
            ):
                manner = self._same
            else:
                manner = self._manner_of(observation)
            observation = self.keep(observation) if manner is None else observation.tobytes()
        if action.__class__ not in PLAIN:
            action = plain(action)
        if further or agent_id is not None or episode is not None or step_index is not None:
            self._put_unusual(
                (now(), action, reward, observation, terminated, truncated, episode, step_index, agent_id),
                further,
                manner,
            )
        else:
            self.put((now(), action, reward, observation, terminated, truncated, manner))

    def _put_unusual(self, told: tuple[Any, ...], further: dict[str, Any], manner: int | None) -> None:
        """Put down a step that says more than most, as a record."""
        if manner is not None:
            dtype, shape = self._manners[manner].array or ("", ())
            numpy = sys.modules["numpy"]
            told = (*told[:3], numpy.frombuffer(told[3], dtype).reshape(shape), *told[4:])
        self.put(((*told, snapshots(further) if further else None, None, None), *NOTHING))

    def _manner_of(self, observation: Any) -> int | None:  # noqa: ANN401 - as the environment has it
        """Return the manner of steps with such an observation, if it is an array of numbers."""
        numpy = sys.modules.get("numpy")
        if self.choosy or numpy is None or observation.__class__ is not numpy.ndarray:
            return None
        key = (observation.dtype, observation.shape)
        number = self._arrays.get(key)
        if number is None and key[0].kind in NUMBERS and len(self._arrays) < _MOST_SHAPES:
            number = self._arrays[key] = self.manner(array=(key[0].str, key[1]))
        if number is not None:
            self._array, (self._dtype, self._shape), self._same = numpy.ndarray, key, number
        return number

    def manner(self, **how: Any) -> int:  # noqa: ANN401 - as Manner has it
        """Make a :class:`~live_telemetry_widget.worker.records.Manner` known; return its number."""
        made = Manner(len(self._manners), **how)
        self._manners.append(made)
        self.put((made, *NOTHING))
        return made.number

    def episode(  # noqa: PLR0913 - an episode's fields, by name
        self,
        total_reward: float | None = None,
        steps: int | None = None,
        *,
        terminated: bool | None = None,
        truncated: bool | None = None,
        episode: int | None = None,
        agent_id: str | None = None,
        **further: Any,  # noqa: ANN401 - whatever a column may hold
    ) -> None:
        """End an episode, or say more of the one that its last step has ended.

        A step that is terminated or truncated ends its episode by itself. What is not given here is taken from the steps.

        Parameters
        ----------
        total_reward, steps, terminated, truncated
            Of the episode.
        episode
            Its number; the running one's, or the last one's when it has just ended.
        agent_id
            Whose it is.
        further
            Columns of their own: ``loss=...``. ``success=True`` or ``False`` is the episode's ``outcome`` too, ``"Success"`` or ``"Failed"``, unless
            `outcome` is said in one of the words of :attr:`Run.episodes <live_telemetry_widget.run.Run.episodes>`.
        """
        if self.gate.shut and not self.admits():
            return
        said = Episode(
            now(), total_reward, steps, terminated, truncated, episode, agent_id, snapshots(with_outcome(further))
        )
        self.put((said, *NOTHING))

    def record(self, row: Step | Episode | Block | Bulk, rows: int = 1) -> None:
        """Take a record as it is: for wrappers, which have copied what they must."""
        if self.gate.shut and not self.admits():
            return
        self.put((row, *NOTHING))
        if rows > 1 and len(self._rows) * rows >= WAKE_AT * WIDTH:
            self._press(rows)

    def keep(self, observation: Any) -> Any:  # noqa: ANN401 - as the environment has it
        """Return a copy of an observation that is to be kept, None for others."""
        if self.choosy:
            self._seen += 1
            if not self.keeps(self._seen - 1):
                return None
        return observation if observation.__class__ in FIXED else snapshot(observation)

    def keeps(self, number: int) -> bool:
        """Whether that of the step of that number, from 0, is to be kept."""
        return self._options.observations != "none" and number % self._options.observations_every == 0

    @abc.abstractmethod
    def admits(self) -> bool:
        """Wait as long as the gate is shut; whether a row may be put down."""

    @abc.abstractmethod
    def _press(self, each: int) -> None:
        """Have the thread look at blocks of so many rows; wait for it when they become too many."""
