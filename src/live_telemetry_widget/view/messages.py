"""Every message between the kernel and the page; ``js/src/messages.ts`` is its twin.

The kernel pushes, the page asks. All messages are JSON objects with a ``kind``; tables travel beside them as Arrow IPC
streams in the binary buffers, in the order in which the message names them in ``buffers``. Text from the wire is data:
the page shows it with ``textContent`` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NotRequired, TypedDict

if TYPE_CHECKING:
    from live_telemetry_widget.controls import Action
    from live_telemetry_widget.grids import Grid

#: Raised when a field changes its meaning; a page that meets another number says so instead of guessing.
VERSION: Final = 2

#: At most so many steps in one push or one answer; what is between is asked for when it is looked at.
MAX_ROWS: Final = 500
#: At most so many episodes in one push or one answer.
MAX_EPISODES: Final = 2_000
#: Longest text of a cell in characters; the rest is cut and an ellipsis put there.
MAX_TEXT: Final = 500

Table = Literal["steps", "episodes"]


class Span(TypedDict):
    """Which rows of a table a buffer holds, and how many the table has in all.

    ``first`` counts from 0 over the whole run, in the order of arrival (steps) or of first sight (episodes). Rows of steps are
    contiguous from ``first``. A buffer of episodes has an int column ``row`` instead, because old episodes change
    (running, then finished); ``first`` is then the lowest of them.
    """

    table: Table
    first: int
    count: int
    total: int


class Connection(TypedDict):
    """How the hub stands with the daemon."""

    state: Literal["connecting", "live", "reconnecting", "closed", "recording"]
    attempt: int  # of the reconnect under way, from 1; 0 otherwise
    retry_at: float  # seconds since 1970 when it is tried again; 0 when it is not waiting
    message: str  # why, when not live


class ProblemCount(TypedDict):
    """How often one kind of problem came up, with the last case."""

    kind: str
    count: int
    detail: str


class ControlState(TypedDict):
    """What the run's worker can be asked for."""

    offered: list[Action]  # what makes sense now
    asked: str  # whose answer is awaited; "" when none is
    trouble: str  # why the last one failed; ""


class State(TypedDict):
    """The status line and what is drawn besides the tables."""

    run_id: str
    name: str  # the run's name for people; "" when it has none
    status: str  # a schema.RunState
    reason: str  # why it failed or was cancelled; ""
    connection: Connection
    agents: list[str]
    steps: int  # in the frame
    episodes: int  # in the frame, the running one included
    ended_episodes: int  # of those
    expected_episodes: int | None  # as the run's config announces it (progress.py); None where nobody says
    steps_per_s: float
    problems: list[ProblemCount]
    controls: ControlState | None  # None where there is no worker to reach: a recording, a run that is fed by hand
    grid: Grid | None  # of the newest step that has one


class CurveSeries(TypedDict):
    """One curve of return and length by episode."""

    run: str
    name: str  # of the run, for people
    agent: str | None  # None: all together
    numbered: bool  # whether the episode numbers ascend, so that they can be an axis


class Push(TypedDict):
    """Kernel to page, never answered. A keyframe stands on its own; others follow on what was pushed before."""

    kind: Literal["push"]
    version: int
    number: int  # counts the view's pushes, from 1
    keyframe: bool
    state: State
    spans: list[Span]  # one for each buffer but the curves'
    #: When they changed and in keyframes: the curves, whose points are in the buffer behind those of `spans` (``curves.CURVE``, with
    #: `series` and `measure`, 0 for return and 1 for length, beside them). The first is what the view is of.
    curves: NotRequired[list[CurveSeries]]
    curves_more: NotRequired[int]  # agents and runs that have no curve there, since they are too many


class Answer(TypedDict):
    """Kernel to page: the answer to the question of that number.

    Whatever else a kind of question is answered with stands beside these fields; its own module says what. Answers are made by
    :func:`live_telemetry_widget.view.questions.answer`.
    """

    kind: Literal["answer"]
    version: int
    id: int
    spans: list[Span]  # of the first buffers; [] when what the buffers hold is said by other fields


class Refused(TypedDict):
    """Kernel to page: why a question was not answered."""

    kind: Literal["refused"]
    version: int
    id: int
    message: str


class Ready(TypedDict):
    """Page to kernel: a page has loaded; answered by a keyframe push."""

    kind: Literal["ready"]
    version: int


class Hello(TypedDict):
    """Kernel to page, over the request channel: it is open, and questions may come over it."""

    kind: Literal["hello"]
    version: int


class Seen(TypedDict):
    """Page to kernel, over the request channel, never answered: what was pushed is shown. At most once a second."""

    kind: Literal["seen"]
    version: int
    number: int  # of the newest push that is shown
    cost: float  # milliseconds of the page's time that a push takes
    hidden: bool  # nobody looks: the tab is in the background


class AskRows(TypedDict):
    """Page to kernel: send these rows of a table. Every question has `kind`, `version` and `id` and is answered under its `id`."""

    kind: Literal["ask_rows"]
    version: int
    id: int
    table: Table
    first: int
    count: int
