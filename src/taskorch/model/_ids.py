"""What an id may look like: it becomes part of file names, so it is a safe path."""

from __future__ import annotations

import re
from typing import Final

from taskorch._limits import MAX_ID_LENGTH
from taskorch.errors import InvalidTaskError

# One segment: no leading dot or dash (hidden files, options), no trailing dot.
_SEGMENT: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._\-]*[A-Za-z0-9_\-])?"
_ID: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")

#: The name of a pool that limits a phase of a run, with how many run at once.
PHASE_LIMIT: Final = re.compile(r"[^/:]+/(?P<phase>[^:]+):[1-9][0-9]*")


def id_problem(value: object) -> str | None:
    """What is wrong with *value* as an id, or None."""
    if not isinstance(value, str):
        return f"an id is a str, not {type(value).__name__}"
    if len(value) > MAX_ID_LENGTH:
        return f"an id has at most {MAX_ID_LENGTH} characters, this has {len(value)}"
    if _ID.fullmatch(value) is None:
        return (
            f"{value!r} is no safe id: use segments of letters, digits, '.', '_' and "
            "'-', joined by '/', none beginning with '.' or '-' or ending with '.'"
        )
    return None


def run_of(task_id: str) -> str:
    """The id of the run that a task is of; "" if it is on its own."""
    run_id, slash, _ = task_id.partition("/")
    return run_id if slash else ""


def check_id(value: str) -> str:
    """
    Return *value* if it is a safe id.

    Raises:
        InvalidTaskError: It is not; the message says what an id may look like.
    """
    problem = id_problem(value)
    if problem is not None:
        raise InvalidTaskError(problem)
    return value
