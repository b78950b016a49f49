"""Addresses of servers, where a path may stand, too."""

from __future__ import annotations

import re
from typing import Final

#: How an address of a server begins.
SCHEMES: Final = ("postgresql:", "postgres:")
#: What stands before a password in an address, and after it.
_PASSWORD: Final = re.compile(
    r"(?P<user>postgres(?:ql)?://[^/?#@:]*):[^/?#@]*(?=@)|(?P<name>[?&]password=)[^&#]*"
)


def is_address(path: object) -> bool:
    """Whether *path* is the address of a server, and no file."""
    return isinstance(path, str) and path.startswith(
        tuple(f"{scheme}//" for scheme in SCHEMES)
    )


def without_password(text: str) -> str:
    """*text* without the passwords of addresses in it."""

    def hidden(found: re.Match[str]) -> str:
        return found["user"] or f"{found['name']}…"

    return _PASSWORD.sub(hidden, text)
