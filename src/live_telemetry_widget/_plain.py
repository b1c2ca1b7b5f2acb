"""Text from the wire as a person sees it: what has no shape of its own, or acts on the terminal or on its neighbours, is given one.

As editors do it: ``␀`` to ``␟`` and ``␡`` stand for control characters, ``[U+202E]`` for what is invisible or turns the direction of
writing. Its twin is ``js/src/plain.ts``; ``tests/data/hostile.json`` has what both show.
"""

from __future__ import annotations

import re
from typing import Final

#: Joiners and variation selectors stay: emoji and scripts are made with them.
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_DELETE: Final = 0x7F
_PICTURES: Final = 0x2400


def plain(value: object, *, lines: bool = False) -> str:
    r"""Return a value as a text in which nothing is hidden.

    Parameters
    ----------
    value
        Anything; most often a text.
    lines
        Whether line breaks and tabs stay what they are.

    >>> plain("\x1b[31mred\x1b[0m"), plain("a\nb"), plain("txt.\u202egpj")
    ('␛[31mred␛[0m', 'a␊b', 'txt.[U+202E]gpj')
    """

    def shape(found: re.Match[str]) -> str:
        code = ord(found[0])
        if lines and found[0] in "\n\t":
            return found[0]
        if code < 0x20:  # noqa: PLR2004 - where spaces begin
            return chr(_PICTURES + code)
        return "␡" if code == _DELETE else f"[U+{code:04X}]"

    return _UNSEEN.sub(shape, str(value))
