"""A hand of Blackjack: Gymnasium tells the player's sum, the dealer's open card, and whether an ace counts 11."""

from __future__ import annotations

from typing import Final

from live_telemetry_widget.grids.model import Cards, Grid, is_index, new

_FIELDS: Final = ("player_sum", "dealer_card", "usable_ace")
#: The greatest sum that a hand can have (20, and a ten), and the greatest card.
_MOST: Final = 31
_TEN: Final = 10


def from_observation(seen: object, game: str) -> Grid | None:
    """Return the hand that an observation tells: [sum, card, ace] where the game is known, or an object of these names.

    >>> from_observation([14, 1, 0], "Blackjack")["cards"]
    {'player': 14, 'dealer': 1, 'usable_ace': False}
    """
    if isinstance(seen, dict):
        values = [seen.get(name) for name in _FIELDS]
    elif isinstance(seen, list) and game == "Blackjack":
        values = seen
    else:
        return None
    if len(values) != len(_FIELDS):
        return None
    player, dealer, ace = values
    if not (is_index(player) and is_index(dealer) and 0 < player <= _MOST and 0 < dealer <= _TEN):
        return None
    if not isinstance(ace, bool | int) or ace not in (0, 1):
        return None
    grid = new("Blackjack", [])
    grid["cards"] = Cards(player=player, dealer=dealer, usable_ace=bool(ace))
    return grid
