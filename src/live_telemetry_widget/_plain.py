r"""Text from the wire as a person sees it: what has no shape of its own, or acts on the terminal or on its neighbours, is written out.

As JSON writes it: ``\u001b``, ``\n``, ``\u202e``. Its twin is ``js/src/plain.ts``; ``tests/data/hostile.json`` has what both show.
"""

from __future__ import annotations

import re
from typing import Final

#: Joiners and variation selectors stay: emoji and scripts are made with them.
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHORT: Final = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def plain(value: object, *, lines: bool = False) -> str:
    r"""Return a value as a text in which nothing is hidden.

    Parameters
    ----------
    value
        Anything; most often a text.
    lines
        Whether line breaks and tabs stay what they are.

    >>> print(plain("\x1b[31mred\x1b[0m"), plain("a\nb"), plain("txt.\u202egpj"))
    \u001b[31mred\u001b[0m a\nb txt.\u202egpj
    """

    def written(found: re.Match[str]) -> str:
        character = found[0]
        if lines and character in "\n\t":
            return character
        code = f"{ord(character):04x}"
        return _SHORT.get(character) or (rf"\u{code}" if len(code) == 4 else rf"\u{{{code}}}")  # noqa: PLR2004 - as JSON has them

    return _UNSEEN.sub(written, str(value))
