"""
Who asks: a person or a program whose name was proved, and what they may do.

Whoever lets somebody in, as the service does, names the caller for the time of one
request: `asking(caller)`. What is done then knows whom it is done for: `caller()`.
In a program that calls an orchestrator itself there is no caller: None.

Decisions: 0221, 0281.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import attrs

#: How a token begins that proves a name; programs that look for secrets find it so.
NAMED_TOKEN: Final = "tko"  # noqa: S105 - of no token
#: How the name of a role begins that stands among those of people: `role:approver`.
ROLE: Final = "role:"
#: What lets its holder act under another name.
SPEAK_FOR: Final = "speak_for"


@attrs.frozen
class Caller:
    """
    Who asks.

    Attributes:
        name: The proved name; "": whoever has the one plain token, who has no name.
        roles: The names of the roles, as they were given.
        tenants: The tenants that the caller is bound to; None: it is bound to none, and
            sees all.
        kind: `person` or `program`.
        grants: What the roles come to: names of verbs as the service has them, such as
            `cancel_task`, and the four roles that stand for many; None: everything.
    """

    name: str
    roles: frozenset[str] = frozenset()
    tenants: frozenset[str] | None = None
    kind: str = "person"
    grants: frozenset[str] | None = None

    def may(self, *grants: str) -> bool:
        """Whether the caller has one of these *grants*."""
        return self.grants is None or not self.grants.isdisjoint(grants)

    def sees(self, tenant: str | None) -> bool:
        """Whether what is done for *tenant* is the caller's to see."""
        return self.tenants is None or tenant in self.tenants


#: In a list that is emptied with the request: whoever keeps the variables of that
#: moment, as a thread does, acts for nobody afterwards.
CALLING: Final[ContextVar[list[Caller]]] = ContextVar("taskorch-caller")


def caller() -> Caller | None:
    """Who asks for what is done here; None: nobody who had to say so."""
    holder = CALLING.get(None)
    return holder[0] if holder else None


def caller_name() -> str:
    """The name of who asks; "": nobody whose name was proved."""
    holder = CALLING.get(None)
    return holder[0].name if holder else ""


@contextmanager
def asking(who: Caller) -> Iterator[None]:
    """In the block, *who* asks for what is done."""
    holder = [who]
    before = CALLING.set(holder)
    try:
        yield
    finally:
        holder.clear()
        CALLING.reset(before)


def act_alone() -> None:
    """From here on, in these variables, nobody asks: a task acts for itself."""
    if CALLING.get(None):
        CALLING.set([])


def person(name: str) -> str:
    """
    What is equal for one person, however the name was typed.

    Upper and lower case, white space, and letters that Unicode holds for the same ones
    make no difference.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def role_in(name: str) -> str:
    """The role that a name among those who may answer stands for; "": a person."""
    return name.removeprefix(ROLE) if name.startswith(ROLE) else ""


def is_among(by: str, names: Iterable[str]) -> bool:
    """
    Whether *by* is one of *names*, or has a role that stands among them.

    Only a token proves a role, and only of its holder.
    """
    who, key = caller(), person(by)
    has = frozenset[str]()
    if who is not None and who.name and person(who.name) == key:
        has = who.roles | (who.grants or frozenset())
    return any(
        role_in(each) in has if role_in(each) else person(each) == key for each in names
    )


def may_speak_as(name: object) -> bool:
    """Whether who asks may do something under a name; where nobody asks, all may."""
    who = caller()
    if who is None or not who.name or who.may(SPEAK_FOR):
        return True
    return isinstance(name, str) and person(name) == person(who.name)
