"""Addresses of servers, in arguments that may also be paths."""

from __future__ import annotations

import re
from typing import Final

# Patterns are texts, compiled on first use: few programs have addresses.

#: The schemes of addresses of servers, each with the class of its journals.
KINDS: Final = {
    "postgresql": "taskorch.ext.postgres._journal:PostgresJournal",
    "postgres": "taskorch.ext.postgres._journal:PostgresJournal",
}
_SCHEME: Final = r"\s*([A-Za-z][A-Za-z0-9+.-]+):"
#: Names with which a text of `name=value` begins, as the client library has it.
_NAMED: Final = (
    r"\s*(host|hostaddr|port|dbname|user|password|passfile|service|sslmode|options"
    r"|connect_timeout|application_name|target_session_attrs)\s*="
)
#: The form of a valid address: characters with another meaning in a part of it are
#: escaped.
_WELL_FORMED: Final = (
    r"postgres(?:ql)?://(?:[^/?#@\s]*@)?"
    r"(?P<hosts>(?:(?:\[[^\]/?#@\s]*\]|[^:,/?#@\s\[\]]*)(?::[0-9]*)?,?)*)"
    r"(?:/[^/?#@\s]*)?(?:\?(?P<query>[^#\s]*))?"
)
_BAD_ESCAPE: Final = r"%(?![0-9A-Fa-f]{2})|%00"
#: The text before and after a password. In a URL, a password reaches to the last @,
#: since an unescaped one may have any letter; in a text of `name=value`, to the next
#: name.
_BEFORE_HOST: Final = (
    r"(?i)(?P<user>postgres(?:ql)?:/*(?!/)[^\s:/?#@]*)[:/?#][^\s\"'<>]*(?=@)"
)
_PARAMETER: Final = r"(?P<name>[?&](?:ssl)?pass(?:word|wd)?=)[^&#\s\"'<>]*"
_VALUE: Final = (
    r"(?s)(?P<name>(?:^|(?<=\s))(?:ssl)?password\s*=\s*)"
    r"(?:'(?:[^'\\]|\\.)*'|.*?)(?=\s+[a-z_]+\s*=|\s*$)"
)


def kind_of(path: object) -> str | None:
    """Return the kind (`KINDS`) of server that *path* is an address of, or None."""
    if not isinstance(path, str):
        return None
    scheme = re.match(_SCHEME, path)
    if scheme is not None and scheme[1].lower() in KINDS:
        return scheme[1].lower()
    return "postgresql" if re.match(_NAMED, path) else None


def is_address(path: object) -> bool:
    """Return whether *path* is an address of a server, valid or not."""
    return kind_of(path) is not None


def is_url(address: str) -> bool:
    """Return whether an address is a URL, not a list of `name=value`."""
    return is_address(address) and not re.match(_NAMED, address)


def normal(address: str) -> str:
    """Return an address with a lower-case scheme and no space around it."""
    address = address.strip()
    return re.sub(_SCHEME, lambda scheme: f"{scheme[1].lower()}:", address, count=1)


def fault_of(address: str) -> str:
    """
    Return the fault of a URL, in words that show nothing of it; "" if there is none.

    It is stricter than the client library, which takes the part of a password after a
    slash for the name of the database.
    """
    if re.search(_BAD_ESCAPE, address):
        return "a % in it is not followed by two hexadecimal digits"
    parts = re.fullmatch(_WELL_FORMED, address)
    if parts is None or ("@" in (parts["query"] or "").partition("=")[0]):
        return (
            "a character in it has to be escaped, such as / ? # @ : of a password, or "
            "a port is no number"
        )
    return ""


def without_password(text: str) -> str:
    """Return *text* without the passwords of addresses in it."""
    text = re.sub(_BEFORE_HOST, lambda match: match["user"], text)
    text = re.sub(_PARAMETER, lambda match: f"{match['name']}…", text)
    return re.sub(_VALUE, lambda match: f"{match['name']}…", text)
