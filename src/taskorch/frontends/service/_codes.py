"""
Codes, by which a browser gets in without a token that it would keep.

What stands in an address is kept by a browser: in its history, among the sites that it
shows first, in the files of its sessions. So a link to the page has a code there, which
works once. For it the page gets a key, which is as good as the token for some days, and
for a next life of the service that has the same token, too.

Decision: 0132.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from typing import Final

#: Codes that were not used that there are at the most: the oldest go first.
_MOST: Final = 1_000
#: Seconds for which a key is one.
_VALID: Final = 7 * 86_400


class Codes:
    """The codes of one service, and its keys, which nobody makes without *token*."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._lock = threading.Lock()
        self._codes: dict[str, None] = {}

    def new(self) -> str:
        """A code that works once."""
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._codes[code] = None
            while len(self._codes) > _MOST:
                del self._codes[next(iter(self._codes))]
        return code

    def key_for(self, code: str) -> str | None:
        """A key for a code, which is none from now on; None: it is none."""
        with self._lock:
            if code not in self._codes:
                return None
            del self._codes[code]
        begun = f"{_now():x}.{secrets.token_urlsafe(16)}"
        return f"{begun}.{self._mark(begun)}"

    def is_key(self, text: str) -> bool:
        """Whether *text* is a key that is valid."""
        begun, _, mark = text.rpartition(".")
        if not begun or not hmac.compare_digest(
            mark.encode("utf-8", "replace"), self._mark(begun).encode()
        ):
            return False
        # It is one of ours, so it has a time.
        return _now() - int(begun.partition(".")[0], 16) <= _VALID

    def _mark(self, begun: str) -> str:
        text = f"key of the page {begun}".encode("utf-8", "replace")
        return hmac.new(self._token, text, hashlib.sha256).hexdigest()


def _now() -> int:
    return int(time.time())  # noqa: TID251 - of several lives, and nothing waits for it
