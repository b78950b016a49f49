"""
Scopes: the paths that tasks may write, below one folder, and their overlap.

A scope is a path with wildcards. Its literal prefix counts, the folders before the
first wildcard: two scopes overlap if one prefix is the other, or above it. No function
here reads the file system.

Paths of programs are below their `cwd`; one outside of the project, such as a git
worktree, stands for the project. A file or folder excludes what is below it, and case
does not count. A folder that is a link is refused when a task starts, and a link that
is made later is not seen. A retry takes the scope anew. A blocked or suspended task
holds nothing; a program that is stopped where it stands keeps its scope, and so does a
task that waits inside for another one. After a restart the same holds.

Decision: scopes-and-sandboxes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any, Final

from taskorch.kit.limits import MAX_SCOPE
from taskorch.kit.visible import is_text

__all__ = (
    "above_of",
    "lock_of",
    "prefix_of",
    "prefixes_of",
    "scope_problem",
    "scopes_overlap",
)

#: The characters that make a part of a path a pattern.
_WILD: Final = frozenset("*?[]{}")
#: The scope that covers everything.
EVERYTHING: Final = "**"


def to_writes(value: Any) -> Any:
    """Return a list of scopes as a tuple; leave other values to the validator."""
    return tuple(value) if type(value) is list else value


def scope_problem(value: object) -> str | None:
    """Return why *value* is no valid scope, as a sentence, or None."""
    if type(value) is not str and not is_text(value):
        return f"a path is needed, as in 'src/a/**', not a {type(value).__name__}"
    if not value.strip("/. ") and ".." not in value:
        return f"{value!r} is no path; {EVERYTHING!r} is everything"
    if value != value.strip() or not value.isprintable():
        return f"{value!r} has a space at one end, or what cannot be printed"
    if len(value) > MAX_SCOPE:
        return f"at most {MAX_SCOPE} characters are allowed, this has {len(value)}"
    if value[0] in "/~!" or value[1:2] == ":":
        return f"{value!r} is no path below the folder of the project"
    if "\\" in value:
        return f"{value!r} has a backslash: '/' stands between folders"
    if ".." in value.split("/"):
        return f"{value!r} has '..': name the folder itself"
    return None


def prefix_of(scope: str) -> str:
    """Return the literal prefix of a valid *scope*; "" is everything."""
    parts: list[str] = []
    for part in scope.split("/"):
        if not _WILD.isdisjoint(part):
            break
        if part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def prefixes_of(scopes: Iterable[str], folder: str = "") -> tuple[str, ...]:
    """
    Return the literal prefixes of *scopes* below *folder*, without nested ones.

    They are sorted. *folder* is a path below the project; "" is the project itself.
    """
    above = prefix_of(folder)
    prefixes = {
        "/".join(filter(None, (above, prefix_of(scope)))): None for scope in scopes
    }
    by_lock = {lock_of(prefix): prefix for prefix in prefixes}
    return tuple(
        sorted(
            prefix
            for lock, prefix in by_lock.items()
            if not any(upper in by_lock for upper in above_of(lock))
        )
    )


def lock_of(prefix: str) -> str:
    """Return *prefix* in the form for comparison, with case folded where it must be."""
    if prefix.isascii():
        return prefix.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", prefix).casefold())


def above_of(path: str) -> list[str]:
    """Return the folders above *path*, nearest first, "" last; none above ""."""
    folders: list[str] = []
    while path:
        path = path.rpartition("/")[0]
        folders.append(path)
    return folders


def scopes_overlap(one: Iterable[str], other: Iterable[str]) -> bool:
    """Return whether tasks with these literal prefixes may write the same file."""
    mine, theirs = [*map(lock_of, one)], [*map(lock_of, other)]
    return any(
        a == b or a in above_of(b) or b in above_of(a) for a in mine for b in theirs
    )
