"""
Where the facts are kept; what is asked of a journal that outlives the process.

Decision: 0037.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from taskorch.errors import JournalError
from taskorch.events import (
    CLS,
    SEQ,
    TASK_ID,
    Fact,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskOptionsChanged,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.model import Call, Retention, Task

if TYPE_CHECKING:
    from taskorch.model import TaskFilter

#: A fact, and what the orchestrator keeps beside it: the task of a submission, the
#: result of a completion; None for most.
Entry: TypeAlias = tuple[Fact, Any]


@runtime_checkable
class Journal(Protocol):
    """
    Protocol: keeps the facts, in groups.

    One orchestrator at a time owns a journal. It is called from one thread at a time,
    but for `document`.

    One that can also be asked what it keeps is a `DurableJournal`. Any other is asked
    no more than this: then tasks that have left memory are forgotten.

    Laws:
        1. What `append` has returned from is read back: equal, whole and in order,
           by whoever opens the journal next.
        2. A group is kept whole or not at all.
        3. After `append` has raised `JournalUnavailableError`, the same group may be
           appended again, and is then kept once, whatever had become of it before.
        4. `claim` gives numbers that rise. An `append` of an earlier leader raises
           `JournalTakenError`, and keeps nothing.
        5. The numbers of the facts rise. A group that begins at or below the last
           number kept is refused with a ValueError, and nothing of it is kept; only
           the latest group itself may come again (law 3).
        6. `read` gives the entries above a number, in order, and changes nothing.
        7. What `document` accepted, `append` keeps, and `read` gives back equal to what
           the value was when `document` was called. Only a journal in memory may give
           back the value itself, whatever has become of it.
    """

    @abstractmethod
    def claim(self) -> int:
        """
        Own the journal from now on.

        Returns:
            The number of this life of the orchestrator, from 1: its *epoch*.

        Raises:
            JournalUnavailableError: It cannot be written.
        """
        ...

    @abstractmethod
    def document(self, value: object) -> object:
        """
        What `append` is given beside a fact in the place of *value*.

        It is a snapshot of it, taken now. It may be asked for from any thread, also
        while `append` runs. None gives None.

        Raises:
            InvalidTaskError: *value* cannot be kept; the message says what in it, as
                in `payload.items[2].when`.
        """
        ...

    @abstractmethod
    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        """
        Keep *group*, all of it or nothing; it is safe when this returns.

        Args:
            epoch: What `claim` gave to the caller.
            group: Entries in the order of their numbers; an empty one does nothing.
                Beside a fact stands a value, or what `document` made of it.

        Raises:
            InvalidTaskError: A value cannot be kept; nothing of the group was.
            JournalUnavailableError: It cannot be written now; whether the group was
                kept is not known.
            JournalTakenError: Somebody else has claimed it since.
            ValueError: The numbers do not follow those that are kept.
        """
        ...

    @abstractmethod
    def read(self, after: int = 0) -> Iterator[Entry]:
        """The entries whose facts have a number above *after*, in order."""
        ...

    @abstractmethod
    def close(self) -> None:
        """Release it; what was kept stays kept. Closing twice does no harm."""
        ...


class Group(Protocol):
    """A group that is filled fact by fact, and then appended."""

    def keep(self, fact: Fact, text: Any, /) -> None:
        """Add *fact*, and what `DurableJournal.text` or `document` made, or None."""
        ...

    @property
    def last(self) -> int:
        """The number of the latest fact in it; there is one."""
        ...

    def __len__(self) -> int:
        """Number of facts in the group."""
        ...


@runtime_checkable
class DurableJournal(Journal, Protocol):
    """
    Protocol: a journal that outlives the process, and can be asked what it keeps.

    Inherit from it and write seven methods: those of `Journal`, `save` and `snapshot`.
    All others have a definition here, which says what they mean, and may be left as
    it is: those that ask read the whole journal each time, so whoever has an index
    replaces them. A class that has all methods need not inherit.

    Its methods that answer may be called from any thread, and before `claim`; the
    others as those of Journal. All raise `JournalUnavailableError` if the journal
    cannot be used now, and `JournalError` if it is damaged.

    Laws:
        1. What `append` has returned from is read by every other object that opens the
           same journal, while the leader lives and after its end, orderly or not. Of a
           group that was never returned from, it reads all or nothing.
        2. One leader writes. While it has not closed it, `claim` by another object
           raises `JournalTakenError`, or takes the journal from it: then its `append`,
           `save` and `upkeep` raise `JournalTakenError`, and keep nothing. The numbers
           that `claim` gives rise, whichever object gives them. The death of the
           leader's process ends its claim; a child that was forked has no part in it.
           `wait_for_turn` ends nobody's claim, and changes nothing of what is read.
           `when_lost` tells nothing while nobody else has claimed it.
        3. It may be read from any thread, before it is claimed, and while `append`
           runs: what is read is whole groups, from the first on.
        4. `document` and `append` refuse, by an `InvalidTaskError`, what would not be
           read back equal. Of a group with such a value nothing is kept, and what is
           appended after it is.
        5. `select`, `about`, `ends`, `began`, `ended_by`, `ids`, `submitted`,
           `last_until` and `id_of_key` answer as their definitions here would from what
           `read` gives; `candidates` leaves out nothing of what its definition gives.
        6. `snapshot` gives a state that `save` has returned from, equal, with its
           number, or None. That number is one of a fact that is kept: so a snapshot,
           and the facts after it, say all.
        7. `save` and `upkeep` change nothing of what is read. A `save` at a number that
           was not kept raises a ValueError, and keeps nothing.
        8. A group of `new_group`, filled with what `text`, `document` or `call_texts`
           made of values, is kept as a list of the facts and these values is. What is
           made so is made then: what becomes of a value later changes nothing.
        9. After `close`, `claim` and `append` raise `JournalUnavailableError` or
           `JournalTakenError`, and another object may claim it.
        10. `identity` is the same for whoever opens the journal, and not that of any
            other journal; or always empty.
        11. After `forget` of tasks, `read` gives what it gave before, but for their
            entries, and with the same numbers; or it returned 0, and all is as it was.
            A death in the middle leaves all of them or none. `snapshot` gives a state
            that was saved, or None.
    """

    # -- snapshots -----------------------------------------------------------------

    @abstractmethod
    def save(self, epoch: int, seq: int, state: dict[str, Any]) -> None:
        """
        Keep *state* as a snapshot; only the latest is needed.

        Args:
            epoch: What `claim` gave to the caller.
            seq: The number of the last fact that led to it; it must be kept.
            state: What JSON has: lists, numbers, text, None, dicts by name.

        Raises:
            JournalTakenError: Somebody else has claimed it since.
            ValueError: *seq* was not kept.
        """
        ...

    @abstractmethod
    def snapshot(self) -> tuple[int, dict[str, Any]] | None:
        """The latest snapshot that is whole, as `(seq, state)`; None if none is."""
        ...

    # -- what it keeps -------------------------------------------------------------

    def facts(self, after: int = 0) -> Iterator[Fact]:
        """The facts above a number, in order, without what was kept of them."""
        return (fact for fact, _ in self.read(after))

    def select(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """
        The entries about any task of *ids*, in order.

        Args:
            ids: The ids of tasks.
            until: The last number of a group: those above it are left out.
        """
        wanted = frozenset(ids)
        for fact, value in self.read():
            if fact[SEQ] > until:
                return
            if issubclass(fact[CLS], TaskEvent) and fact[TASK_ID] in wanted:
                yield fact, value

    def ends(self, ids: Collection[str]) -> dict[str, str]:
        """
        The class of the ending fact of each of *ids* that has ended.

        Returns:
            The name of the class of the fact that says so, by id: `TaskCompleted`,
            `TaskFailed` or `TaskCancelled`.
        """
        wanted = frozenset(ids)
        return {
            fact[TASK_ID]: fact[CLS].__name__
            for fact, _ in self.read()
            if fact[CLS] in _ENDS and fact[TASK_ID] in wanted
        }

    def began(self, ids: Collection[str]) -> dict[str, int]:
        """The number of the first fact about each of *ids* of which there is one."""
        wanted, numbers = frozenset(ids), dict[str, int]()
        for fact, _ in self.read():
            if issubclass(fact[CLS], TaskEvent) and fact[TASK_ID] in wanted:
                numbers.setdefault(fact[TASK_ID], fact[SEQ])
        return numbers

    def ended_by(self, kind: str, until: int) -> Iterator[Fact]:
        """
        The facts of one class that ended tasks, in order, without what is beside them.

        Args:
            kind: `TaskFailed` or `TaskCancelled`: of these there are few.
            until: The last number: those above it are left out.
        """
        ends = (fact for fact in self.facts() if fact[CLS].__name__ == kind)
        return takewhile(lambda fact: fact[SEQ] <= until, ends)

    def ids(self, prefix: str) -> Sequence[str]:
        """The ids of tasks that begin with *prefix*, in the order of their facts."""
        ids = {
            fact[TASK_ID]: None
            for fact, _ in self.read()
            if issubclass(fact[CLS], TaskEvent) and fact[TASK_ID].startswith(prefix)
        }
        return list(ids)

    def submitted(self, after: int, until: int, most: int) -> Sequence[tuple[int, str]]:
        """
        The next tasks in the order of their submission.

        Args:
            after: Only those whose fact has a number above this.
            until: And to this.
            most: At most so many.

        Returns:
            The numbers of the facts, and the ids.
        """
        submissions: list[tuple[int, str]] = []
        for fact, _ in self.read(after):
            if fact[SEQ] > until or len(submissions) == most:
                break
            if fact[CLS] is TaskSubmitted:
                submissions.append((fact[SEQ], fact[TASK_ID]))
        return submissions

    def candidates(
        self,
        which: TaskFilter,
        after: int,
        until: int,
        most: int,
        *,
        newest: bool = False,
        among: Collection[str] | None = None,
    ) -> Sequence[tuple[int, str]]:
        """
        As `submitted`, some of those that may pass a filter; none is the end of them.

        What the filter says of `id`, `type`, `owner`, `metadata` and `agent` counts.
        Others may be among them, and fewer than there are: whoever asks goes on from
        the last one, and looks at each.

        Args:
            which: What is looked for.
            after: Only those whose fact has a number above this.
            until: And to this.
            most: At most so many.
            newest: The latest first, down to *after*.
            among: Only tasks of these ids; None: of any.
        """
        fields, ran = which.fields, set[str]()
        wanted = fields.get("metadata", {}).items()
        # What a task was submitted with, or has since another submission of it.
        owned, described = set[str](), set[str]()
        submissions: list[tuple[int, str]] = []
        fact: Any
        for fact, task in self.read():
            if fact[CLS] is TaskStarted and fact.agent_id == fields.get("agent"):
                ran.add(fact.task_id)
            if fact[CLS] in {TaskSubmitted, TaskOptionsChanged}:
                if fact.owner == fields.get("owner", fact.owner):
                    owned.add(fact.task_id)
                if isinstance(task, Task) and wanted <= (task.metadata or {}).items():
                    described.add(fact.task_id)
            if (
                fact[CLS] is TaskSubmitted
                and after < fact.seq <= until
                and fact.type == fields.get("type", fact.type)
                and fnmatchcase(fact.task_id, fields.get("id", "*"))
            ):
                submissions.append((fact.seq, fact.task_id))
        passing = owned & described
        if "agent" in fields:
            passing &= ran
        if among is not None:
            passing &= {*among}
        submissions = [each for each in submissions if each[1] in passing]
        return submissions[: -most - 1 : -1] if newest else submissions[:most]

    def about(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """As `select`; what is damaged may be given as it is: many are looked at."""
        return self.select(ids, until)

    def last_until(self, at_ns: int) -> int:
        """The number of the last fact up to a time in ns since 1970, or 0."""
        last = 0
        for fact in self.facts():
            if fact.at_ns > at_ns:
                break
            last = fact[SEQ]
        return last

    def id_of_key(self, key: str) -> str | None:
        """The id of the latest task that was submitted with an idempotency key."""
        task_id = None
        for fact, task in self.read():
            if fact[CLS] is TaskSubmitted and task.idempotency_key == key:
                task_id = fact[TASK_ID]
        return task_id

    # -- what it keeps no longer ---------------------------------------------------

    def retention(self) -> Retention:
        """How long to keep what has ended: asked whenever it has been claimed."""
        return Retention()

    def forget(self, epoch: int, ids: Collection[str]) -> int:
        """
        Remove everything about the tasks of *ids*, for good.

        They have ended, and nothing that stays needs them. A snapshot may go with them.

        Args:
            epoch: What `claim` gave to the caller.
            ids: The ids of tasks.

        Returns:
            How many facts are gone; 0 also means that it can leave out none.

        Raises:
            JournalTakenError: Somebody else has claimed it since.
        """
        del epoch, ids
        return 0

    def prepare_to_forget(self, epoch: int) -> None:
        """
        Have each `forget` that follows soon take little time for few tasks.

        It may take long itself, and others append meanwhile. What is read stays.

        Args:
            epoch: What `claim` gave to the caller.

        Raises:
            JournalTakenError: Somebody else has claimed it since.
        """
        del epoch

    def forget_facts(self, epoch: int, numbers: Collection[int]) -> int:
        """
        Remove single facts that are about no task, for good.

        What is read without them leads to the same.

        Args:
            epoch: What `claim` gave to the caller.
            numbers: Their numbers.

        Returns:
            How many are gone; 0 also means that it can leave out none.

        Raises:
            JournalTakenError: Somebody else has claimed it since.
        """
        del epoch, numbers
        return 0

    def make_room(self, epoch: int) -> None:
        """
        Give back the room of what was removed, while nobody works with the journal.

        Args:
            epoch: What `claim` gave to the caller.

        Raises:
            JournalTakenError: Somebody else has claimed it since.
        """
        del epoch

    # -- whose turn it is ----------------------------------------------------------

    def wait_for_turn(self, is_over: Callable[[], bool]) -> None:
        """
        Wait until it may be claimed, if another owns it and is to be waited for.

        It is called before `claim`, from any thread and without a lock, and may take
        for ever; then `claim` need not wait.

        Args:
            is_over: Whether nobody wants to claim it any more: asked often.

        Raises:
            JournalTakenError: It is not to be waited for.
            JournalUnavailableError: It cannot be used now.
        """
        del is_over

    def is_owned(self) -> bool:
        """
        Whether nobody else can own it now, as far as that is known without asking.

        It is asked at each attempt that begins, so it must be quick. If it is false,
        attempts begin only once their start is kept.
        """
        return True

    def when_lost(self, tell: Callable[[JournalError], object]) -> None:
        """
        Have *tell* called if it is found to be another's, or damaged, between appends.

        Args:
            tell: Called from any thread, with what the next `append` would raise; the
                orchestrator stops.
        """
        del tell

    # -- what makes it quick -------------------------------------------------------

    def new_group(self) -> Group:
        """A group to fill, for `append`: it may encode what it is given at once."""
        return _Entries()

    def text(self, value: object) -> Any:
        """The document of *value*, for `Group.keep`, which expects one."""
        return self.document(value)

    def call_texts(
        self, task_type: str, fn: Callable[..., Any]
    ) -> Callable[[tuple[Any, ...]], Any]:
        """What makes `text` of tasks that call *fn*, of the positional arguments."""
        text = self.text
        return lambda args: text(Task(task_type, Call(fn, args)))

    # -- keeping it in order -------------------------------------------------------

    def needs_upkeep(self) -> bool:
        """Whether there is something to do for `upkeep`; asked often."""
        return False

    def upkeep(self, epoch: int) -> None:
        """
        Put the journal in order, at a time without commits.

        It is called by the thread that appends, when nothing has come for a while and
        `needs_upkeep` says so.

        Args:
            epoch: What `claim` gave to the caller.

        Raises:
            JournalTakenError: Somebody else has claimed it since.
        """
        del epoch

    def troubles(self) -> Sequence[str]:
        """
        What is wrong with it, and what to do about that; it is in health.

        It may be called from any thread. It is logged if `needs_upkeep`.
        """
        return ()

    # -- what it is ----------------------------------------------------------------

    def description(self) -> str:
        """For people, where it is, and what is to be known of it while all is well."""
        return type(self).__name__

    def identity(self) -> str:
        """
        Letters, digits and "-" that no other journal has, nor a copy of this one.

        The programs that a life has left are found by it and ended; they are let be if
        it is empty. It is asked after `claim`.
        """
        return ""

    def logs_folder(self) -> str | None:
        """
        The folder for what tasks log and print, on this machine.

        What is forgotten leaves it, too. None: programs have a temporary one, and of
        functions nothing is kept.
        """
        return None


_ENDS = frozenset({TaskCompleted, TaskFailed, TaskCancelled})


class _Entries(list[Entry]):
    """A group as a list of entries."""

    __slots__ = ()

    def keep(self, fact: Fact, text: Any, /) -> None:
        self.append((fact, text))

    @property
    def last(self) -> int:
        number: int = self[-1][0][SEQ]
        return number
