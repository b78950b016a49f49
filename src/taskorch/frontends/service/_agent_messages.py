"""What agents say, as it is read: what makes no sense is refused, by its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taskorch.frontends.service._bodies import refuse
from taskorch.frontends.service._sessions import Result
from taskorch.model import Agent, Resources, check_capabilities

#: Seconds of a lease: what is usual, and its bounds.
_LEASE: Final = 15.0
_LEASES: Final = (0.5, 3_600.0)
#: Of an agent: attempts at once, capabilities, characters of a name.
MOST: Final = 10_000
_MAX_NAMES: Final = 1_000
_MAX_TEXT: Final = 1_000
_SECRETS: Final = (16, 200)


def info_of(name: str, said: Mapping[str, Any]) -> Agent:
    capabilities = said.get("capabilities", [])
    if not isinstance(capabilities, list) or len(capabilities) > _MAX_NAMES:
        refuse("capabilities", "a list of names is needed")
    for i, each in enumerate(capabilities):
        if not isinstance(each, str) or not 0 < len(each) <= _MAX_TEXT:
            refuse(f"capabilities[{i}]", "a name is needed")
    least, most = _LEASES
    lease = said.get("lease", _LEASE)
    if type(lease) not in (int, float) or not least <= lease <= most:
        refuse("lease", f"seconds are needed, from {least:g} to {most:g}")
    at_once = said.get("max_concurrency", 1)
    if type(at_once) is not int or not 0 < at_once <= MOST:
        text = f"a whole number from 1 to {MOST:,} is needed"
        refuse("max_concurrency", text)
    capacity = said.get("capacity")
    has = None
    if capacity is not None:
        if not isinstance(capacity, dict):
            refuse("capacity", "names and amounts are needed")
        has = Resources.of(capacity, "capacity")
    names = check_capabilities(capabilities)
    return Agent(name, names, at_once, has, lease=float(lease))


def secret_of(value: object) -> str:
    least, most = _SECRETS
    if (
        not isinstance(value, str)
        or not least <= len(value) <= most
        or not all("!" <= letter <= "~" for letter in value)
    ):
        text = f"{least} to {most} characters of ASCII are needed, which nobody guesses"
        refuse("session", text)
    return value


def names(said: Mapping[str, Any], member: str) -> list[str]:
    value = said.get(member, [])
    if not isinstance(value, list) or len(value) > MOST:
        refuse(member, f"a list of at most {MOST:,} is needed")
    for i, each in enumerate(value):
        if not isinstance(each, str) or len(each) > _MAX_TEXT:
            refuse(f"{member}[{i}]", "the name of an attempt is needed")
    return list(dict.fromkeys(value))


def count(said: Mapping[str, Any], member: str, otherwise: int) -> int:
    value = said.get(member, otherwise)
    if type(value) is not int or not 0 <= value <= MOST:
        refuse(member, f"a whole number from 0 to {MOST:,} is needed")
    return value


def seconds(said: Mapping[str, Any], member: str) -> float:
    value = said.get(member, 0.0)
    if type(value) not in (int, float) or not 0 <= value <= _LEASES[1]:
        refuse(member, f"seconds are needed, from 0 to {_LEASES[1]:g}")
    return float(value)


def text(said: Mapping[str, Any], member: str) -> str:
    value = said[member]
    if not isinstance(value, str):
        refuse(member, "a text is needed")
    return value


#: How a program has ended: each part, and what it must be; the first must be there.
_PROGRAM_END: Final[Mapping[str, tuple[type, ...]]] = {
    "exit_code": (int,),
    "stdout_tail": (str,),
    "stderr_tail": (str,),
    "duration": (int, float),
    "oom_killed": (bool,),
}
_USUAL_END: Final = {"stdout_tail": "", "stderr_tail": "", "duration": 0.0}


def result(path: str, said: object) -> Result:
    if not isinstance(said, dict):
        refuse(path, "an object is needed")
    for name in said:
        if name not in ("attempt", "outcome", "result", "error", "program"):
            refuse(f"{path}.{name}", "it is not known here")
    attempt, outcome = said.get("attempt"), said.get("outcome")
    if not isinstance(attempt, str) or len(attempt) > _MAX_TEXT:
        refuse(f"{path}.attempt", "the name of an attempt is needed")
    if outcome not in ("completed", "failed", "stopped"):
        text = "completed, failed or stopped is needed"
        refuse(f"{path}.outcome", text)
    error = said.get("error", {"type": "Error"})
    if (
        not isinstance(error, dict)
        or not isinstance(error.get("type"), str)
        or not isinstance(error.get("message", ""), str)
    ):
        refuse(f"{path}.error", "a type and a message are needed")
    return Result(
        attempt,
        outcome,
        said.get("result"),
        (error["type"], error.get("message", "")),
        _program_end(f"{path}.program", said.get("program")),
    )


def _program_end(path: str, said: object) -> Mapping[str, Any] | None:
    if said is None:
        return None
    if not isinstance(said, dict) or "exit_code" not in said:
        refuse(path, "exit_code is missing")
    for name, value in said.items():
        if type(value) not in _PROGRAM_END.get(name, ()):
            refuse(f"{path}.{name}", "it is not known here, or no such value")
    return {**_USUAL_END, **said}
