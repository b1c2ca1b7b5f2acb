"""Session tokens: what a registered worker carries so that it can publish to its own run and to no other."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import pathlib

FILE_NAME: Final = "session.key"
_KEY_BYTES: Final = 32


class Tokens:
    """Issues tokens and knows its own again, also those of an earlier daemon with the same key; it keeps none.

    >>> tokens = Tokens(b"a key")
    >>> token = tokens.issue("mine")
    >>> tokens.valid(token, "mine"), tokens.valid(token, "yours"), tokens.valid("made up", "mine")
    (True, False, False)

    Parameters
    ----------
    key
        Secret.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of_directory(cls, data_dir: pathlib.Path) -> Self:
        """Use the key in a data directory; make one that only its owner can read when there is none."""
        path = data_dir / FILE_NAME
        key = path.read_bytes() if path.exists() else b""
        if len(key) < _KEY_BYTES:
            key = secrets.token_bytes(_KEY_BYTES)
            # Whole or not at all: half a key would be another one after the next start.
            fresh = path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
                file.write(key)
            fresh.replace(path)
        return cls(key)

    def issue(self, run_id: str) -> str:
        """Return a new token for a worker of a run."""
        nonce = secrets.token_hex(8)
        return f"{nonce}.{self._sign(nonce, run_id)}"

    def valid(self, token: str, run_id: str) -> bool:
        """Whether a token was issued for that run."""
        nonce, _, signature = token.partition(".")
        return hmac.compare_digest(self._sign(nonce, run_id).encode(), signature.encode())

    def _sign(self, nonce: str, run_id: str) -> str:
        return hmac.new(self._key, f"{nonce}.{run_id}".encode(), hashlib.sha256).hexdigest()
