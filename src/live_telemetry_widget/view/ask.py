"""A question of the page, field by field: what comes over a comm is checked where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from typing_extensions import TypeIs

    from live_telemetry_widget.controls import Controls
    from live_telemetry_widget.feed import RunFeed
    from live_telemetry_widget.lens import Frames
    from live_telemetry_widget.view.artist import Artist
    from live_telemetry_widget.view.curve_question import ViewCurves
    from live_telemetry_widget.view.layers_question import Layers
    from live_telemetry_widget.view.rows_question import Arrangements


class View(Protocol):
    """What a question is asked of: the run, and what of it the view shows."""

    feed: RunFeed
    frames: Frames
    artist: Artist
    layers: Layers
    curves: ViewCurves
    controls: Controls | None
    arrangements: Arrangements


class BadQuestionError(Exception):
    """A question that is not understood, or that cannot be answered: told to the page, never raised out of the view."""


class Ask:
    """The fields of one question.

    Raises
    ------
    BadQuestionError
        By each method, when the field is absent or something else; the message names it.

    Examples
    --------
    >>> ask = Ask({"kind": "ask_rows", "id": 1, "table": "steps", "first": 3})
    >>> ask.choice("table", ("steps", "episodes")), ask.whole("first"), ask.text("where", default="")
    ('steps', 3, '')
    >>> ask.whole("count")
    Traceback (most recent call last):
    ...
    live_telemetry_widget.view.ask.BadQuestionError: not a question this version understands: ask_rows.count should be a whole number, not None
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content
        self.kind = str(content.get("kind"))[:100]
        number: object = content.get("id")
        #: What the answer is sent under; -1 when the question has no number.
        self.id: int = number if _is_whole(number) else -1

    def whole(self, name: str) -> int:
        """Return a whole number."""
        value: object = self._content.get(name)
        if not _is_whole(value):
            raise self.bad(name, "a whole number")
        return value

    def text(self, name: str, default: str | None = None, longest: int = 10_000) -> str:
        """Return a text of at most `longest` characters."""
        value = self._content.get(name, default)
        if not isinstance(value, str) or len(value) > longest:
            raise self.bad(name, f"a text of at most {longest} characters")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return true or false."""
        value = self._content.get(name, default)
        if not isinstance(value, bool):
            raise self.bad(name, "true or false")
        return value

    def choice(self, name: str, among: Collection[str]) -> str:
        """Return one of some texts."""
        value = self._content.get(name)
        if not isinstance(value, str) or value not in among:
            raise self.bad(name, "one of " + ", ".join(among))
        return value

    def raw(self, name: str) -> object:
        """Return a field as it came; None when it is absent."""
        return self._content.get(name)

    def bad(self, name: str, expected: str) -> BadQuestionError:
        """Return the error that says what a field should be."""
        value = repr(self._content.get(name))[:200]
        text = f"not a question this version understands: {self.kind}.{name} should be {expected}, not {value}"
        return BadQuestionError(text)


def _is_whole(value: object) -> TypeIs[int]:
    return isinstance(value, int) and not isinstance(value, bool)


#: Answers one kind of question: what stands in the answer (JSON), and its buffers. May be called on any thread, and by several at once.
if TYPE_CHECKING:
    Handler = Callable[[View, Ask], tuple[dict[str, Any], Sequence[bytes]]]
