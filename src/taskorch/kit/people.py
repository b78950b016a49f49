"""
Callers: people or programs with a proved name, and their rights.

The service names the caller for the time of one request: `asking(caller)`. Code that
runs then reads it with `caller()`. In a program that calls an orchestrator itself there
is no caller: None.

Decision: tokens-and-roles.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import attrs

#: The beginning of a token that proves a name; secret scanners find it so.
NAMED_TOKEN: Final = "tko"  # noqa: S105 - of no token
#: The beginning of the name of a role among those of people: `role:approver`.
ROLE: Final = "role:"
#: The grant that lets its holder act under another name.
SPEAK_FOR: Final = "speak_for"


@attrs.frozen
class Caller:
    """
    A caller.

    Attributes:
        name: The proved name; "" for the holder of the plain token, which has no name.
        roles: The names of the roles, as they were given.
        tenants: The tenants that the caller may see; None is all.
        kind: `person` or `program`.
        grants: The rights of the roles: names of verbs in the service, such as
            `cancel_task`, and the four roles that stand for many; None is everything.
    """

    name: str
    roles: frozenset[str] = frozenset()
    tenants: frozenset[str] | None = None
    kind: str = "person"
    grants: frozenset[str] | None = None

    def may(self, *grants: str) -> bool:
        """Return whether the caller has one of these *grants*."""
        return self.grants is None or not self.grants.isdisjoint(grants)

    def sees(self, tenant: str | None) -> bool:
        """Return whether the caller may see the work of *tenant*."""
        return self.tenants is None or tenant in self.tenants


#: The caller is in a list that is emptied with the request: code that keeps the
#: context, such as a thread, acts for nobody afterwards.
CALLING: Final[ContextVar[list[Caller]]] = ContextVar("taskorch-caller")


def caller() -> Caller | None:
    """Return the caller of the present work, or None if none had to be named."""
    holder = CALLING.get(None)
    return holder[0] if holder else None


def caller_name() -> str:
    """Return the proved name of the caller, or ""."""
    holder = CALLING.get(None)
    return holder[0].name if holder else ""


@contextmanager
def asking(who: Caller) -> Iterator[None]:
    """Make *who* the caller of all work in the block."""
    holder = [who]
    before = CALLING.set(holder)
    try:
        yield
    finally:
        holder.clear()
        CALLING.reset(before)


def act_alone() -> None:
    """Drop the caller in this context: from here on a task acts for itself."""
    if CALLING.get(None):
        CALLING.set([])


def person(name: str) -> str:
    """
    Return a key that is equal for one person, however the name was typed.

    Case, white space, and letters that Unicode treats as equal make no difference.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def role_in(name: str) -> str:
    """Return the role that a name in a list of answerers means; "" for a person."""
    return name.removeprefix(ROLE) if name.startswith(ROLE) else ""


def is_among(by: str, names: Iterable[str]) -> bool:
    """
    Return whether *by* is one of *names*, or has a role that is among them.

    Only a token proves a role, and only that of its holder.
    """
    who, key = caller(), person(by)
    has = frozenset[str]()
    if who is not None and who.name and person(who.name) == key:
        has = who.roles | (who.grants or frozenset())
    return any(
        role_in(each) in has if role_in(each) else person(each) == key for each in names
    )


def may_speak_as(name: object) -> bool:
    """Return whether the caller may act under a name; without a caller, all may."""
    who = caller()
    if who is None or not who.name or who.may(SPEAK_FOR):
        return True
    return isinstance(name, str) and person(name) == person(who.name)
