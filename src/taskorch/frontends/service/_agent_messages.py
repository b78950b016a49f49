"""What agents say, once it was checked by its description: what that means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taskorch.frontends.service._bodies import refuse
from taskorch.frontends.service._sessions import Result
from taskorch.model import Agent, Resources, check_capabilities

#: Seconds of a lease, where none is said.
LEASE: Final = 15.0
_USUAL_END: Final = {"stdout_tail": "", "stderr_tail": "", "duration": 0.0}


def info_of(name: str, message: Mapping[str, Any]) -> Agent:
    capacity = message.get("capacity")
    return Agent(
        name,
        check_capabilities(message.get("capabilities", [])),
        message.get("max_concurrency", 1),
        None if capacity is None else Resources.of(capacity, "capacity"),
        lease=float(message["lease"]),
    )


def secret_of(value: str) -> str:
    if not all("!" <= letter <= "~" for letter in value):
        refuse("session", "characters of ASCII are needed, which nobody guesses")
    return value


def names(message: Mapping[str, Any], member: str) -> list[str]:
    return list(dict.fromkeys(message.get(member, ())))


def result(message: Mapping[str, Any]) -> Result:
    error, end = message.get("error", {"type": "Error"}), message.get("program")
    return Result(
        message["attempt"],
        message["outcome"],
        message.get("result"),
        (error["type"], error.get("message", "")),
        None if end is None else {**_USUAL_END, **end},
    )
