"""Texts for people that hold what tasks or users have supplied."""

from __future__ import annotations

import re
from typing import Final

#: What a terminal or a page obeys instead of showing it: control characters but for
#: the end of a line and the tabulator, marks of direction, other ends of lines, and
#: halves of characters.
_OBEYED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufeff]"
)
#: Who somebody is to a server, and by which password or token.
_USERINFO: Final = re.compile(r"""://[^\s/?#"'<>]*@""")


def visible(text: str) -> str:
    r"""*text*, `masked`, with what would be obeyed as Python writes it: `\x1b`."""
    return _OBEYED.sub(_written, masked(text))


def masked(text: str) -> str:
    """*text* without what stands before the host in a URL, which may be a password."""
    return _USERINFO.sub("://…@", text) if "://" in text else text


def _written(found: re.Match[str]) -> str:
    return ascii(found.group())[1:-1]
