"""
The tables of a journal, as a connection to a database sees them.

Decision: 0194.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, ClassVar, Final, Literal, TypeAlias

from taskorch.errors import JournalError

#: `"power"`: what was kept survives a loss of power; `"process"`: a kill of ours.
Durability: TypeAlias = Literal["power", "process"]

#: What to do about damage.
RESTORE: Final = "restore the journal from a copy"
#: The facts of which there are few have an index by their class.
IS_RARE: Final = (
    "kind <> 'TaskSubmitted' AND kind <> 'TaskStarted' AND kind <> 'TaskCompleted'"
)
#: Where there is no task, or no document, there is no text either.
_MISFIT: Final = """
    SELECT min(seq) FROM {facts} WHERE {mine}(task_id = '' OR doc = '')
"""


def damage(name: str, why: str) -> JournalError:
    """The error that says why the journal *name* is damaged, and what to do."""
    return JournalError(f"{name} is damaged: {why}", hint=RESTORE)


class Session(ABC):
    """
    A connection to the tables of one journal, used by one thread at a time.

    A statement is written once for all databases. Its values are `:name`, those of a
    list too, and these words of it stand for what each database says in its own way:

        {facts} {groups} {snapshots}   the tables
        {mine}             which rows of a table are this journal's: "" or "… AND "
        {column} {value}   what a new row has besides, for that: "" or "…, "
        {chain}            where the chain begins: which log, and after which fact
        {numbers}          a list of numbers as rows, whose column is `value`
        {names}            a list of ids as rows, whose column is `value`
        {named}            the facts about the ids of the list `names`, by their index
        {ranged}           the facts above each of `lows`, to the one of `highs` beside
        {kept}             the number of the last fact, if it is kept beside the groups

    Args:
        name: The journal, for people.
    """

    #: What those words are here.
    WORDS: ClassVar[Mapping[str, str]]

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    @cache
    def text(cls, statement: str) -> str:
        """*statement* as this database has it, but for its values."""
        return statement.format_map(cls.WORDS)

    @abstractmethod
    def ask(self, statement: str, **values: Any) -> list[Any]:
        """The rows that answer *statement*."""

    @abstractmethod
    def change(self, statement: str, **values: Any) -> int:
        """Carry out *statement*; the number of rows that it changed."""

    @abstractmethod
    def at_once(self) -> AbstractContextManager[None]:
        """What is asked within it, is asked of one moment, or of a transaction."""

    @abstractmethod
    def id_of_key(self, key: str) -> str | None:
        """The id of the task that was submitted last with the idempotency key *key*."""

    @abstractmethod
    def keys(self) -> dict[str, str]:
        """The ids of tasks by their idempotency keys."""

    @abstractmethod
    def leave_out(self, names: list[str]) -> None:
        """Delete the facts about the tasks of *names*, and their keys."""

    @abstractmethod
    def close(self) -> None:
        """Use the connection no more."""

    def misfit(self) -> int | None:
        """The number of the first fact that was changed where no sum tells."""
        ((number,),) = self.ask(_MISFIT)
        return None if number is None else int(number)

    @property
    def has_stretches(self) -> bool:
        """Whether it has the table `stretches`, which few databases have."""
        return False

    def unnoted(self, until: int) -> Sequence[tuple[int, int]]:
        """Some stretches to the event *until* that are to be noted: first and last."""
        del until
        return ()

    def note(self, stretches: Sequence[tuple[int, int]]) -> None:  # noqa: B027 - see above
        """Note what *stretches* have, within a transaction of the caller's."""

    def put_into_life(  # noqa: B027 - most say that of groups alone
        self, after: int, last: int, epoch: int
    ) -> None:
        """Where facts say in which life they are, those of a rest are in its own."""

    def check_pages(self) -> str:
        """What is damaged of what no statement reads; "" if nothing is."""
        return ""

    def is_damage(self, error: Exception) -> bool:
        """Whether *error*, raised by `ask`, says that a row cannot be read."""
        return isinstance(error, ValueError)
