"""``Emitter.steps``: many steps at once, column by column. One call of Python for each ends at a million a second, whatever is behind it.

Standard library only, as :mod:`~live_telemetry_widget.worker.emitter`.
"""

from __future__ import annotations

import abc
from typing import Any

from live_telemetry_widget.worker.portions import PORTION, size_of


class ManySteps(abc.ABC):
    """What tells of many steps at once; :class:`~live_telemetry_widget.Emitter` is one.

    Attributes
    ----------
    choosy : bool
        Whether not every observation is kept.
    """

    choosy: bool
    _seen: int

    @abc.abstractmethod
    def record(self, row: Any, rows: int = 1) -> None:  # noqa: ANN401 - any of the records
        """Take a record as it is, of so many rows."""

    @abc.abstractmethod
    def keeps(self, number: int) -> bool:
        """Whether the observation of the step of that number, from 0, is to be kept."""

    def steps(  # noqa: PLR0913 - a step's fields, by name
        self,
        action: Any = None,  # noqa: ANN401 - an array, or a list of anything
        reward: Any = 0.0,  # noqa: ANN401 - an array, a list, or a number
        observation: Any = None,  # noqa: ANN401 - as `action`
        terminated: Any = False,  # noqa: ANN401, FBT002 - as `reward`; in Gymnasium's order
        truncated: Any = False,  # noqa: ANN401, FBT002 - as above
        *,
        episode: Any = None,  # noqa: ANN401 - as above
        step_index: Any = None,  # noqa: ANN401 - as above
        agent_id: Any = None,  # noqa: ANN401 - a list of names, or one
        **further: Any,  # noqa: ANN401 - as above
    ) -> None:
        """Tell of many steps at once, column by column: what a step each would tell, at a fraction of its cost.

        The rows are the steps in the order in which they were made, of one agent or of several in any order. All have the time of this call.
        Everything is copied.

        Parameters
        ----------
        action, observation
            A column of ``n`` of what :meth:`step` takes: an array whose first dimension is ``n``, or a list. None: not told.
        reward, terminated, truncated
            Columns of ``n`` numbers and truth values; or one that stands for all.
        episode, step_index
            Columns of ``n`` counting numbers, where you count yourself; or one for all.
        agent_id
            A list of ``n`` names; or one for all.
        further
            Columns of their own, as for :meth:`step`: lists and arrays of ``n``; anything else stands for all.

        Raises
        ------
        ValueError
            The columns are of different lengths, or there is none.
        RunCancelledError
            Somebody has cancelled the run.
        ClosedError
            The emitter was closed.

        Examples
        --------
        Two environments, three steps each, a row of rewards a step:

        >>> import numpy as np, live_telemetry_widget as ltw
        >>> rewards = np.array([[1.0, 0.5], [1.0, 0.5], [1.0, 0.5]])
        >>> done = np.array([[False, False], [False, True], [True, False]])
        >>> with ltw.serve() as server, ltw.Emitter(server.address) as emitter:
        ...     emitter.steps(reward=rewards.ravel(), terminated=done.ravel(), agent_id=["env-0", "env-1"] * 3, epsilon=0.1)
        ...     emitter.flush(), emitter.stats.steps
        (True, 6)
        """
        from live_telemetry_widget.worker.bulk import Bulk  # noqa: PLC0415 - loads NumPy, as making an emitter does

        many = Bulk.of(
            {
                "action": action,
                "reward": reward,
                "observation": observation,
                "terminated": terminated,
                "truncated": truncated,
                "episode": episode,
                "step_index": step_index,
                "agent_id": agent_id,
            },
            further,
        )
        seen = many.columns["observation"]
        if self.choosy and seen is not None:
            first = self._seen
            self._seen += many.rows
            kept = [value if self.keeps(first + at) else None for at, value in enumerate(seen)]
            many.columns["observation"] = kept if any(value is not None for value in kept) else None
        most = max(1, PORTION * many.rows // max(1, size_of(many))) if many.rows else 1
        for first in range(0, many.rows, most):
            part = many.slice(first, most)
            self.record(part, part.rows)
