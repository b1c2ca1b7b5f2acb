"""The anywidget: a bundle, a comm, and nothing else. What is sent when is :mod:`~live_telemetry_widget.live`'s business."""

from __future__ import annotations

import logging
import pathlib
import uuid
from typing import TYPE_CHECKING, Any, Final

import anywidget
import traitlets

from live_telemetry_widget.errors import NoDataError
from live_telemetry_widget.view import selection as selections

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from live_telemetry_widget.view import messages

_LOG: Final = logging.getLogger(__name__)
_STATIC: Final = pathlib.Path(__file__).parent / "static"


def _bundle(name: str) -> pathlib.Path | str:
    """Return the path of a bundled file; in a checkout where it was not built, a page that says so."""
    path = _STATIC / name
    if path.exists():
        return path
    text = "live_telemetry_widget: the JavaScript bundle is missing. In a checkout, run: make setup"
    return "" if name.endswith(".css") else f"export default {{ render({{ el }}) {{ el.textContent = {text!r}; }} }};"


class LiveTelemetryWidget(anywidget.AnyWidget):
    """The live view of one run. Made by ``run.view()``, not by hand.

    Traits
    ------
    title : str, owned by the kernel
        What screen readers call the view.
    view_id : str, owned by the kernel, constant
        Tells the models of one page apart: a front end hands the bundle a new proxy of the model with each call.
    selection : dict, owned by both sides
        What is selected (:class:`~live_telemetry_widget.view.selection.Selection`): observe it to hear what a person chose, set it to
        move the page. The later one wins. What is set is the whole of it, but its filter and agent stay when it names none.
    filter : str, owned by both sides
        ``selection["filter"]`` by itself, for ``jslink`` with a text field.
    step : int or None, owned by both sides
        ``selection["step"]`` by itself, for ``jslink`` with a slider.
    """

    _esm = _bundle("widget.js")
    _css = _bundle("widget.css")

    title = traitlets.Unicode("", help="What screen readers call the view; owned by the kernel.").tag(sync=True)
    view_id = traitlets.Unicode(help="Tells models apart; owned by the kernel, constant.").tag(sync=True)

    selection = traitlets.Dict(help="What is selected; owned by both sides.").tag(sync=True)
    filter = traitlets.Unicode("", help='selection["filter"]; owned by both sides.').tag(sync=True)
    step = traitlets.Int(None, allow_none=True, help='selection["step"]; owned by both sides.').tag(sync=True)

    @traitlets.default("selection")
    def _new_selection(self) -> selections.Selection:
        return selections.nothing()

    @traitlets.validate("selection")
    def _check_selection(self, proposal: dict[str, object]) -> selections.Selection:
        # traitlets checks the first value before there is one.
        before = self._trait_values.get("selection")
        return selections.checked(proposal["value"], before)

    @traitlets.observe("selection")
    def _part_selection(self, change: dict[str, Any]) -> None:
        self.filter, self.step = change["new"]["filter"], change["new"]["step"]

    @traitlets.observe("filter", "step")
    def _join_selection(self, change: dict[str, Any]) -> None:
        name, value = change["name"], change["new"]
        if self.selection[name] != value and not (name == "step" and self.selection["live"]):
            self.selection = {**self.selection, name: value}

    @traitlets.default("view_id")
    def _new_view_id(self) -> str:
        return uuid.uuid4().hex

    def __init__(self, handler: Callable[[dict[str, Any]], None], **traits: object) -> None:
        super().__init__(**traits)
        self._handler = handler
        #: What goes into an output beside the view when it is shown, by MIME type: for those who have no kernel.
        self.beside: Callable[[], dict[str, str]] = dict
        #: What finds an episode by its number, a step, agent and worker.
        self.find: Callable[[int, int | None, str | None, str | None], selections.EpisodeRef] = _nothing_to_find
        self.on_msg(self._on_page_message)

    def show(
        self, episode: int, step: int | None = None, *, agent: str | None = None, worker: str | None = None
    ) -> None:
        """Have the page show an episode, by its number; it stands still there. ``view.selection = {}`` follows the newest again.

        Parameters
        ----------
        episode
            As in the column ``episode`` of the run's frames.
        step
            As in ``step_index``; None: its first.
        agent, worker
            Whose, where several have an episode of that number.

        Raises
        ------
        RunNotFoundError
            There is no such episode or step (yet); the message names the nearest.
        ValueError
            Several have an episode of that number; the message names them. Or a number is below 0.
        TypeError
            A number is no whole number.
        """
        found = self.find(episode, step, agent, worker)
        # Where only another agent was looked at, all are.
        only = self.selection["agent"] if self.selection["agent"] == found["agent"] else None
        place = None if step is None else int(step)  # NumPy's is none for a trait
        self.selection = {"episode": found, "step": place, "agent": only, "filter": self.selection["filter"]}

    def push(self, message: messages.Push | messages.Answer | messages.Refused, buffers: Sequence[bytes] = ()) -> bool:
        """Send a message to every page that shows this view, from any thread; return False when nobody can get it any more."""
        if self.comm is None:
            return False
        self.send(message, list(buffers))
        return True

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:  # noqa: ANN401 - IPython's
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, **self.beside()}, metadata

    def _on_page_message(self, _: object, content: object, __: object) -> None:
        if isinstance(content, dict) and isinstance(content.get("kind"), str):
            self._handler(content)
        else:
            _LOG.warning("ignored a message from the page that has no kind: %.200r", content)


def _nothing_to_find(*_: object) -> selections.EpisodeRef:
    msg = "this widget shows no run; run.view() makes one that does"
    raise NoDataError(msg)
