"""What a view draws of a step: the boards of the toy-text games, MiniGrid's encoding, frames. Made on an emitter's own thread.

Only :class:`Frames` needs more than the standard library.
"""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from live_telemetry_widget.errors import MissingPackageError
from live_telemetry_widget.worker.records import Painter, Remembering

if TYPE_CHECKING:
    from collections.abc import Sequence

Format = Literal["png", "webp"]

_TAXI_PLACES: Final = 5
_CLIFF_WIDTH: Final = 12
_CLIFF_HEIGHT: Final = 4
#: So many payloads are remembered: more than FrozenLake's, CliffWalking's and Taxi's states times their actions.
_REMEMBERED: Final = 20_000
_RGB: Final = 3


class Board(Remembering):
    """A toy-text game: FrozenLake, CliffWalking, Taxi or Blackjack.

    Parameters
    ----------
    game_id
        Its Gymnasium id.
    family
        One of those names.
    rows
        The board, a string a row; none for Blackjack.

    Examples
    --------
    >>> board = Board("FrozenLake-v1", "FrozenLake", ["SF", "HG"])
    >>> board.payload(1, 2, terminated=False, truncated=False)["agent_position"]
    [0, 1]
    """

    def __init__(self, game_id: str, family: str, rows: list[str]) -> None:
        self.game_id = game_id
        self.family = family
        self.rows = rows
        self._made: dict[tuple[Any, ...], str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Become, in another process, one that remembers what it has made itself."""
        return Board, (self.game_id, self.family, self.rows)

    @classmethod
    def of(cls, env: Any) -> Self | None:  # noqa: ANN401 - an environment of anybody's making
        """Return the board of a Gymnasium environment; None when it is none of these games."""
        bare = env.unwrapped
        family = type(bare).__name__.removesuffix("Env")
        game_id = env.spec.id if env.spec is not None else family
        if family == "Blackjack":
            return cls(game_id, family, [])
        if family == "CliffWalking":
            height, width = (int(side) for side in getattr(bare, "shape", (_CLIFF_HEIGHT, _CLIFF_WIDTH)))
            return cls(game_id, family, ["o" * width] * (height - 1) + ["x" + "C" * (width - 2) + "T"])
        if family in {"FrozenLake", "Taxi"}:
            return cls(game_id, family, [b"".join(row.tolist()).decode() for row in bare.desc])
        return None

    def payload(self, state: Any, action: Any, *, terminated: bool, truncated: bool) -> dict[str, Any]:  # noqa: ANN401 - the game's own
        """Return what is drawn of a state."""
        payload: dict[str, Any] = {"mode": "grid", "game_id": self.game_id}
        if self.family == "Blackjack":
            player, dealer, ace = (int(value) for value in state)
            return {**payload, "player_sum": player, "dealer_card": dealer, "usable_ace": bool(ace)}
        payload["grid"] = self.rows
        state = int(state)
        if self.family == "Taxi":
            rest, destination = divmod(state, _TAXI_PLACES - 1)
            place, passenger = divmod(rest, _TAXI_PLACES)
            position = list(divmod(place, _TAXI_PLACES))
            payload["taxi_state"] = {
                "taxi_position": position,
                "passenger_index": passenger,
                "destination_index": destination,
                "last_action": action,
            }
        else:
            position = list(divmod(state, len(self.rows[0])))
        flags = {"agent_position": position, "terminated": terminated, "truncated": truncated, "last_action": action}
        return {**payload, **flags}

    def paint(self, subject: Any, action: Any, terminated: bool, truncated: bool) -> str:  # noqa: ANN401, FBT001 - a painter's
        """Return the payload as JSON."""
        key = (subject, action, terminated, truncated)
        made = self._made.get(key)
        if made is None:
            plain = action if action is None or isinstance(action, int) else int(action)
            payload = self.payload(subject, plain, terminated=bool(terminated), truncated=bool(truncated))
            made = json.dumps(payload, separators=(",", ":"))
            if len(self._made) < _REMEMBERED:
                self._made[key] = made
        return made

    def remembered(
        self, subjects: Sequence[Any], actions: Sequence[Any], terminated: Sequence[Any], truncated: Sequence[Any]
    ) -> list[str | None]:
        """Return the payloads as JSON, most of them without a call each; Nones when one cannot be made."""
        keys = list(zip(subjects, actions, terminated, truncated, strict=True))
        try:
            found: list[str | None] = list(map(self._made.get, keys))
            return [text or self.paint(*key) for text, key in zip(found, keys, strict=True)] if None in found else found
        except (TypeError, ValueError, IndexError):  # said where each is made by itself
            return [None] * len(keys)


class MiniGrid(Painter):
    """MiniGrid's whole grid, as it encodes it itself; a subject is ``(encoding, position, direction)``."""

    def __init__(self, game_id: str) -> None:
        self._game_id = game_id

    @classmethod
    def of(cls, env: Any) -> Self | None:  # noqa: ANN401 - an environment of anybody's making
        """Return the painter of a MiniGrid environment; None for others."""
        bare = env.unwrapped
        if not all(hasattr(bare, name) for name in ("grid", "agent_pos", "agent_dir")):
            return None
        if not hasattr(bare.grid, "encode") and bare.grid is not None:
            return None
        return cls(env.spec.id if env.spec is not None else "MiniGrid")

    @staticmethod
    def subject(env: Any) -> tuple[Any, ...]:  # noqa: ANN401 - as above
        """Return what has to be kept of the environment's state now."""
        bare = env.unwrapped
        return bare.grid.encode(), tuple(bare.agent_pos), bare.agent_dir

    def paint(self, subject: Any, action: Any, terminated: bool, truncated: bool) -> str:  # noqa: ANN401, ARG002, FBT001 - a painter's
        """Return the payload as JSON."""
        encoded, (column, row), direction = subject
        payload = {"mode": "minigrid", "game_id": self._game_id, "image": encoded.tolist()}
        at = {"agent_position": [int(row), int(column)], "agent_direction": int(direction)}
        flags = {"terminated": terminated, "truncated": truncated}
        return json.dumps({**payload, **at, **flags}, separators=(",", ":"))


class Frames(Painter):
    """Frames (height, width, 3) of uint8, as picture files.

    Parameters
    ----------
    kind
        ``"png"``, or ``"webp"``, which is smaller and needs Pillow.
    game_id
        Of the environment.

    Raises
    ------
    MissingPackageError
        WebP without Pillow.
    """

    def __init__(self, kind: Format, game_id: str) -> None:
        if kind == "webp":
            try:
                import PIL.Image  # noqa: PLC0415 - optional
            except ImportError as error:
                msg = 'WebP frames need Pillow: pip install pillow, or take frame_format="png"'
                raise MissingPackageError(msg) from error
            self._open = PIL.Image.fromarray
        self._kind = kind
        self._game_id = game_id

    def __reduce__(self) -> tuple[Any, ...]:
        """Become the same in another process."""
        return Frames, (self._kind, self._game_id)

    def paint(self, subject: Any, action: Any, terminated: bool, truncated: bool) -> str:  # noqa: ANN401, ARG002, FBT001 - a painter's
        """Return the payload as JSON.

        Raises
        ------
        ValueError
            It is no frame.
        """
        if subject.ndim != _RGB or subject.shape[2] != _RGB or str(subject.dtype) != "uint8":
            msg = f"a frame is height x width x 3 of uint8, not {subject.shape} of {subject.dtype}"
            raise ValueError(msg)
        payload = {"mode": "image", "game_id": self._game_id, **self._file(subject)}
        return json.dumps(payload, separators=(",", ":"))

    def _file(self, pixels: Any) -> dict[str, Any]:  # noqa: ANN401 - an array
        if self._kind == "png":
            from live_telemetry_widget.grids.images import png  # noqa: PLC0415 - loads NumPy

            return dict(png(pixels))
        sink = io.BytesIO()
        self._open(pixels).save(sink, "WEBP", quality=80)
        height, width = pixels.shape[:2]
        data = base64.b64encode(sink.getvalue()).decode("ascii")
        return {"format": "webp", "data": data, "width": width, "height": height}
