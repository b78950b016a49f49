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


def info_of(name: str, said: Mapping[str, Any]) -> Agent:
    capacity = said.get("capacity")
    return Agent(
        name,
        check_capabilities(said.get("capabilities", [])),
        said.get("max_concurrency", 1),
        None if capacity is None else Resources.of(capacity, "capacity"),
        lease=float(said["lease"]),
    )


def secret_of(value: str) -> str:
    if not all("!" <= letter <= "~" for letter in value):
        refuse("session", "characters of ASCII are needed, which nobody guesses")
    return value


def names(said: Mapping[str, Any], member: str) -> list[str]:
    return list(dict.fromkeys(said.get(member, ())))


def result(said: Mapping[str, Any]) -> Result:
    error, end = said.get("error", {"type": "Error"}), said.get("program")
    return Result(
        said["attempt"],
        said["outcome"],
        said.get("result"),
        (error["type"], error.get("message", "")),
        None if end is None else {**_USUAL_END, **end},
    )
