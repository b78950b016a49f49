"""
The tables of a journal, over a connection to a database.

Decision: journal-in-postgresql.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, ClassVar, Final, Literal, TypeAlias

from taskorch.errors import JournalError

#: `"power"`: events survive a loss of power; `"process"`: a kill of the process.
Durability: TypeAlias = Literal["power", "process"]

#: The hint for damage.
RESTORE: Final = "restore the journal from a copy"
#: Classes of which there are few events have an index.
IS_RARE: Final = (
    "kind <> 'TaskSubmitted' AND kind <> 'TaskStarted' AND kind <> 'TaskCompleted'"
)
#: Empty text is stored as NULL, so an empty text shows a change.
_MISFIT: Final = """
    SELECT min(seq) FROM {facts} WHERE {mine}(task_id = '' OR doc = '')
"""


def damage(name: str, why: str) -> JournalError:
    """Return the error that says why the journal *name* is damaged, with a hint."""
    return JournalError(f"{name} is damaged: {why}", hint=RESTORE)


class Session(ABC):
    """
    A connection to the tables of one journal, used by one thread at a time.

    A statement is written once for all databases. Its values are `:name`, those of a
    list too, and these words of it stand for what each database says in its own way:

        {facts} {groups} {snapshots}   the tables
        {mine}             which rows of a table are this journal's: "" or "… AND "
        {column} {value}   what a new row has besides, for that: "" or "…, "
        {chain}            where the chain begins: which log, and after which event
        {numbers}          a list of numbers as rows, whose column is `value`
        {names}            a list of ids as rows, whose column is `value`
        {named}            the events about the ids of the list `names`, by their index
        {ranged}           the events above each of `lows`, to the one of `highs` beside
        {kept}             the number of the last event, if it is kept beside the groups

    Args:
        name: The journal, for people.
    """

    #: The values of these words.
    WORDS: ClassVar[Mapping[str, str]]

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    @cache
    def text(cls, statement: str) -> str:
        """Return *statement* in the dialect of this database, without its values."""
        return statement.format_map(cls.WORDS)

    @abstractmethod
    def ask(self, statement: str, **values: Any) -> list[Any]:
        """Return the rows that answer *statement*."""

    @abstractmethod
    def change(self, statement: str, **values: Any) -> int:
        """Carry out *statement*; return the number of rows that it changed."""

    @abstractmethod
    def at_once(self) -> AbstractContextManager[None]:
        """Read as of one moment in the block, or in a transaction."""

    @abstractmethod
    def id_of_key(self, key: str) -> str | None:
        """Return the id of the task submitted last with the idempotency key *key*."""

    @abstractmethod
    def keys(self) -> dict[str, str]:
        """Return the ids of tasks by their idempotency keys."""

    @abstractmethod
    def leave_out(self, names: list[str]) -> None:
        """Delete the events about the tasks of *names*, and their keys."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def misfit(self) -> int | None:
        """Return the number of the first event changed where no checksum shows it."""
        ((number,),) = self.ask(_MISFIT)
        return None if number is None else int(number)

    @property
    def has_stretches(self) -> bool:
        """Whether it has the table `stretches`, which few databases have."""
        return False

    def unnoted(self, until: int) -> Sequence[tuple[int, int]]:
        """Return some stretches to note up to event *until*: first and last."""
        del until
        return ()

    def note(self, stretches: Sequence[tuple[int, int]]) -> None:  # noqa: B027 - see above
        """Note what *stretches* contain, within a transaction of the caller's."""

    @property
    def has_lines(self) -> bool:
        """Whether it has the tables of `_lines`, which few databases have."""
        return False

    def runs_to_note(self, until: int) -> Sequence[tuple[int, int]]:
        """Return what to note of runs up to *until*: above a number, to another."""
        del until
        return ()

    def note_runs(self, after: int, until: int) -> None:  # noqa: B027 - see above
        """Note the outcomes of runs, within a transaction of the caller's."""

    def put_into_incarnation(  # noqa: B027 - most do that by groups
        self, after: int, last: int, epoch: int
    ) -> None:
        """Set the incarnation of a rest's events, where each event has it."""

    def check_pages(self) -> str:
        """Return damage that no statement would read; "" if there is none."""
        return ""

    def is_damage(self, error: Exception) -> bool:
        """Return whether *error*, raised by `ask`, says that a row is unreadable."""
        return isinstance(error, ValueError)
