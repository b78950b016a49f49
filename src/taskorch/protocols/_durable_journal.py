"""
Protocols of journals, in memory and durable.

Decision: durable-commits.
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
    Event,
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
    from taskorch.kit.noted import NotedRuns
    from taskorch.model import TaskFilter

#: An event, and its document: the task of a submission, the result of a completion;
#: None for most.
Entry: TypeAlias = tuple[Event, Any]


@runtime_checkable
class Journal(Protocol):
    """
    Protocol: keeps the events, in groups.

    One orchestrator at a time owns a journal. It is called from one thread at a time,
    except for `document`.

    A journal that also answers questions is a `DurableJournal`. With any other, tasks
    that have left memory are forgotten.

    Laws:
        1. A group whose `append` has returned is read back by the next user of the
           journal: equal, whole and in order.
        2. A group is kept whole, or not at all.
        3. After `append` has raised `JournalUnavailableError`, the same group may be
           appended again, and is then kept once, even if the first call kept it.
        4. `claim` gives numbers that rise. An `append` of an earlier leader raises
           `JournalTakenError`, and keeps nothing.
        5. The numbers of the events rise. A group that begins at or below the last
           number kept is refused with a ValueError, and nothing of it is kept; only
           the latest group itself may come again (law 3).
        6. `read` gives the entries above a number, in order, and changes nothing.
        7. A document that `document` made, `append` keeps, and `read` returns it equal
           to the value at the call of `document`. Only a journal in memory may return
           the value itself, with later changes.
    """

    @abstractmethod
    def claim(self) -> int:
        """
        Own the journal from now on.

        Returns:
            The number of this incarnation of the orchestrator, from 1: its *epoch*.

        Raises:
            JournalUnavailableError: It cannot be written.
        """
        ...

    @abstractmethod
    def document(self, value: object) -> object:
        """
        Return the document of *value* for `append`.

        It is a snapshot of the value now. It may be called from any thread, also while
        `append` runs. None gives None.

        Raises:
            InvalidTaskError: *value* cannot be kept; the message names the part, such
                as `payload.items[2].when`.
        """
        ...

    @abstractmethod
    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        """
        Keep *group*, all of it or nothing; it is safe when this returns.

        Args:
            epoch: The number that `claim` returned.
            group: Entries in the order of their numbers; an empty one does nothing.
                Each entry is an event, and its value or the document of it.

        Raises:
            InvalidTaskError: A value cannot be kept; nothing of the group was kept.
            JournalUnavailableError: It cannot be written now; the group may have been
                kept or not.
            JournalTakenError: Another object has claimed it since.
            ValueError: The numbers do not follow those that are kept.
        """
        ...

    @abstractmethod
    def read(self, after: int = 0) -> Iterator[Entry]:
        """Return the entries whose events have a number above *after*, in order."""
        ...

    @abstractmethod
    def close(self) -> None:
        """Release the journal; its content stays. Closing twice does no harm."""
        ...


class Group(Protocol):
    """A group that is filled event by event, and then appended."""

    def keep(self, fact: Event, text: Any, /) -> None:
        """Add *fact* with None or a document of `DurableJournal.text` or `document`."""
        ...

    @property
    def last(self) -> int:
        """Number of its latest event; it has at least one."""
        ...

    def __len__(self) -> int:
        """Return the number of events in the group."""
        ...


@runtime_checkable
class DurableJournal(Journal, Protocol):
    """
    Protocol: a journal that outlives the process, and answers questions.

    Inherit from it and write seven methods: those of `Journal`, `save` and `snapshot`.
    All others have a definition here, which may be left as it is. The questions read
    the whole journal each time, so a journal with an index replaces them. A class that
    has all methods need not inherit.

    Its questions may be called from any thread, and before `claim`; the other methods
    as those of Journal. All raise `JournalUnavailableError` if the journal cannot be
    used now, and `JournalError` if it is damaged.

    Laws:
        1. A group whose `append` has returned is read by every other object that opens
           the same journal, during the life of the leader and after its end, orderly or
           not. Of any other group, it reads all or nothing.
        2. One leader writes. While it has not closed it, `claim` by another object
           raises `JournalTakenError`, or takes the journal from it: then its `append`,
           `save` and `upkeep` raise `JournalTakenError`, and keep nothing. The numbers
           that `claim` gives rise, whichever object gives them. The death of the
           leader's process ends its claim; a child that was forked has no part in it.
           `wait_for_turn` ends nobody's claim, and changes nothing of what is read.
           `when_lost` calls nothing while no other object has claimed it.
        3. It may be read from any thread, before it is claimed, and while `append`
           runs: readers see whole groups, from the first on.
        4. `document` and `append` refuse, by an `InvalidTaskError`, a value that would
           not be read back equal. Of a group with such a value nothing is kept; later
           groups are.
        5. `select`, `about`, `ends`, `began`, `ended_by`, `ids`, `submitted`,
           `last_until` and `id_of_key` answer as their definitions here would from the
           entries of `read`; `candidates` leaves out nothing that its definition
           returns.
        6. `snapshot` returns a state that was saved, equal, with its number, or None.
           An event with that number is kept: so a snapshot, and the events after it,
           are complete.
        7. `save` and `upkeep` change nothing that is read. A `save` at a number that
           was not kept raises a ValueError, and keeps nothing.
        8. A group of `new_group`, filled with documents of `text`, `document` or
           `call_texts`, is kept like a list of the events and their values. A document
           is made at the call: later changes of a value do not matter.
        9. After `close`, `claim` and `append` raise `JournalUnavailableError` or
           `JournalTakenError`, and another object may claim it.
        10. `identity` is the same in every object for this journal, and differs from
            that of any other journal; or it is always empty.
        11. After `forget` of tasks, `read` returns the same entries as before, without
            theirs, and with the same numbers; or `forget` returned 0 and changed
            nothing. A death in the middle leaves all of them or none. `snapshot`
            returns a state that was saved, or None.
    """

    # -- snapshots -----------------------------------------------------------------

    @abstractmethod
    def save(self, epoch: int, seq: int, state: dict[str, Any]) -> None:
        """
        Keep *state* as a snapshot; only the latest is needed.

        Args:
            epoch: The number that `claim` returned.
            seq: The number of the last event in the state; that event must be kept.
            state: A JSON value: lists, numbers, text, None, dicts by name.

        Raises:
            JournalTakenError: Another object has claimed it since.
            ValueError: *seq* was not kept.
        """
        ...

    @abstractmethod
    def snapshot(self) -> tuple[int, dict[str, Any]] | None:
        """Return the latest intact snapshot as `(seq, state)`, or None."""
        ...

    # -- questions -----------------------------------------------------------------

    def facts(self, after: int = 0) -> Iterator[Event]:
        """Return the events above a number, in order, without their documents."""
        return (event for event, _ in self.read(after))

    def select(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """
        Return the entries about any task of *ids*, in order.

        Args:
            ids: The ids of tasks.
            until: The last number of a group: entries above it are left out.
        """
        wanted = frozenset(ids)
        for event, value in self.read():
            if event[SEQ] > until:
                return
            if issubclass(event[CLS], TaskEvent) and event[TASK_ID] in wanted:
                yield event, value

    def ends(self, ids: Collection[str]) -> dict[str, str]:
        """
        Return the class of the event that ended each of *ids*, if it has ended.

        Returns:
            The name of the class, by id: `TaskCompleted`, `TaskFailed` or
            `TaskCancelled`.
        """
        wanted = frozenset(ids)
        return {
            event[TASK_ID]: event[CLS].__name__
            for event, _ in self.read()
            if event[CLS] in _ENDS and event[TASK_ID] in wanted
        }

    def began(self, ids: Collection[str]) -> dict[str, int]:
        """Return the number of the first event about each of *ids* that has one."""
        wanted, numbers = frozenset(ids), dict[str, int]()
        for event, _ in self.read():
            if issubclass(event[CLS], TaskEvent) and event[TASK_ID] in wanted:
                numbers.setdefault(event[TASK_ID], event[SEQ])
        return numbers

    def ended_by(self, kind: str, until: int) -> Iterator[Event]:
        """
        Return the events of one class that ended tasks, in order, without documents.

        Args:
            kind: `TaskFailed` or `TaskCancelled`, which are few.
            until: The last number: events above it are left out.
        """
        ends = (event for event in self.facts() if event[CLS].__name__ == kind)
        return takewhile(lambda event: event[SEQ] <= until, ends)

    def noted_runs(self, most: int) -> NotedRuns | None:  # noqa: ARG002 - nothing is noted
        """
        Return what is noted of runs, so that not all events of theirs are read.

        Args:
            most: The most runs of which notes are returned, the latest.

        Returns:
            The notes; None: there are none, which every journal may say.
        """
        return None

    def ids(self, prefix: str) -> Sequence[str]:
        """Return the ids of tasks with *prefix*, in the order of their events."""
        ids = {
            event[TASK_ID]: None
            for event, _ in self.read()
            if issubclass(event[CLS], TaskEvent) and event[TASK_ID].startswith(prefix)
        }
        return list(ids)

    def submitted(self, after: int, until: int, most: int) -> Sequence[tuple[int, str]]:
        """
        Return the next tasks in the order of their submission.

        Args:
            after: The number above which the events begin.
            until: The last number.
            most: The most tasks to return.

        Returns:
            The numbers of the events, and the ids.
        """
        submissions: list[tuple[int, str]] = []
        for event, _ in self.read(after):
            if event[SEQ] > until or len(submissions) == most:
                break
            if event[CLS] is TaskSubmitted:
                submissions.append((event[SEQ], event[TASK_ID]))
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
        Return some of the next tasks that may pass a filter; an empty list is the end.

        Only `id`, `type`, `owner`, `metadata` and `agent` of the filter count. The
        answer may contain other tasks, and be incomplete: the caller goes on from the
        last one, and tests each.

        Args:
            which: The filter.
            after: The number above which the events begin.
            until: The last number.
            most: The most tasks to return.
            newest: True for the latest first, down to *after*.
            among: The ids to choose from; None is all.
        """
        fields, ran = which.fields, set[str]()
        wanted = fields.get("metadata", {}).items()
        # The fields of the submission, or of a later submission of the same task.
        owned, described = set[str](), set[str]()
        submissions: list[tuple[int, str]] = []
        event: Any
        for event, task in self.read():
            if event[CLS] is TaskStarted and event.agent_id == fields.get("agent"):
                ran.add(event.task_id)
            if event[CLS] in {TaskSubmitted, TaskOptionsChanged}:
                if event.owner == fields.get("owner", event.owner):
                    owned.add(event.task_id)
                if isinstance(task, Task) and wanted <= (task.metadata or {}).items():
                    described.add(event.task_id)
            if (
                event[CLS] is TaskSubmitted
                and after < event.seq <= until
                and event.type == fields.get("type", event.type)
                and fnmatchcase(event.task_id, fields.get("id", "*"))
            ):
                submissions.append((event.seq, event.task_id))
        passing = owned & described
        if "agent" in fields:
            passing &= ran
        if among is not None:
            passing &= {*among}
        submissions = [each for each in submissions if each[1] in passing]
        return submissions[: -most - 1 : -1] if newest else submissions[:most]

    def about(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """Return the entries of `select`; damaged ones may be unchecked, for speed."""
        return self.select(ids, until)

    def last_until(self, at_ns: int) -> int:
        """Return the number of the last event up to a time in ns since 1970, or 0."""
        last = 0
        for event in self.facts():
            if event.at_ns > at_ns:
                break
            last = event[SEQ]
        return last

    def id_of_key(self, key: str) -> str | None:
        """Return the id of the latest task with an idempotency key, or None."""
        task_id = None
        for event, task in self.read():
            if event[CLS] is TaskSubmitted and task.idempotency_key == key:
                task_id = event[TASK_ID]
        return task_id

    # -- removal -------------------------------------------------------------------

    def retention(self) -> Retention:
        """Return how long to keep ended tasks; asked whenever it has been claimed."""
        return Retention()

    def forget(self, epoch: int, ids: Collection[str]) -> int:
        """
        Remove everything about the tasks of *ids*, for good.

        They have ended, and no other task needs them. A snapshot may go with them.

        Args:
            epoch: The number that `claim` returned.
            ids: The ids of tasks.

        Returns:
            How many events were removed; 0 also means that it cannot remove any.

        Raises:
            JournalTakenError: Another object has claimed it since.
        """
        del epoch, ids
        return 0

    def prepare_to_forget(self, epoch: int) -> None:
        """
        Prepare, so that each `forget` of a few tasks soon after takes little time.

        It may take long itself, while others append. It changes nothing that is read.

        Args:
            epoch: The number that `claim` returned.

        Raises:
            JournalTakenError: Another object has claimed it since.
        """
        del epoch

    def forget_events(self, epoch: int, numbers: Collection[int]) -> int:
        """
        Remove single events that are about no task, for good.

        The events without them lead to the same state.

        Args:
            epoch: The number that `claim` returned.
            numbers: The numbers of the events.

        Returns:
            How many events were removed; 0 also means that it cannot remove any.

        Raises:
            JournalTakenError: Another object has claimed it since.
        """
        del epoch, numbers
        return 0

    def make_room(self, epoch: int) -> None:
        """
        Give back the space of removed entries, while nobody uses the journal.

        Args:
            epoch: The number that `claim` returned.

        Raises:
            JournalTakenError: Another object has claimed it since.
        """
        del epoch

    # -- ownership -----------------------------------------------------------------

    def wait_for_turn(self, is_over: Callable[[], bool]) -> None:
        """
        Wait until it may be claimed, if another object owns it and waiting is allowed.

        It is called before `claim`, from any thread and without a lock, and may take
        for ever; then `claim` need not wait.

        Args:
            is_over: Returns True if the caller no longer wants to claim it: called
                often.

        Raises:
            JournalTakenError: Waiting is not allowed.
            JournalUnavailableError: It cannot be used now.
        """
        del is_over

    def is_owned(self) -> bool:
        """
        Return whether no other object can own it now, as far as known without I/O.

        It is called at each start of an attempt, so it must be quick. If it is False,
        attempts begin only once their start is kept.
        """
        return True

    def when_lost(self, tell: Callable[[JournalError], object]) -> None:
        """
        Call *tell* if the journal is found lost or damaged between appends.

        Args:
            tell: Called from any thread, with the error that the next `append` would
                raise; the orchestrator stops.
        """
        del tell

    # -- speed ---------------------------------------------------------------------

    def new_group(self) -> Group:
        """Return a group to fill, for `append`; it may encode its events at once."""
        return _Entries()

    def text(self, value: object) -> Any:
        """Return the document of *value*, for `Group.keep`."""
        return self.document(value)

    def call_texts(
        self, task_type: str, fn: Callable[..., Any]
    ) -> Callable[[tuple[Any, ...]], Any]:
        """Return a function that makes `text` of calls of *fn* from arguments."""
        text = self.text
        return lambda args: text(Task(task_type, Call(fn, args)))

    # -- upkeep --------------------------------------------------------------------

    def needs_upkeep(self) -> bool:
        """Return whether `upkeep` has work; asked often."""
        return False

    def upkeep(self, epoch: int) -> None:
        """
        Put the journal in order, at a time without commits.

        The thread that appends calls it after a while without work, if `needs_upkeep`
        is True.

        Args:
            epoch: The number that `claim` returned.

        Raises:
            JournalTakenError: Another object has claimed it since.
        """
        del epoch

    def troubles(self) -> Sequence[str]:
        """
        Return its faults, and what to do about them, for the health.

        It may be called from any thread. It is logged if `needs_upkeep`.
        """
        return ()

    # -- description ---------------------------------------------------------------

    def description(self) -> str:
        """Return a text for people: the place of the journal, and notes on it."""
        return type(self).__name__

    def identity(self) -> str:
        """
        Return an id of letters, digits and "-" that no other journal or copy has.

        It finds the programs that an incarnation has left, to end them; if it is empty,
        they are left alone. It is asked for after `claim`.
        """
        return ""

    def logs_folder(self) -> str | None:
        """
        Return the folder for the logs and output of tasks, on this machine.

        The files of forgotten tasks are removed from it, too. If it is None, programs
        have a temporary folder, and the output of functions is not kept.
        """
        return None


_ENDS = frozenset({TaskCompleted, TaskFailed, TaskCancelled})


class _Entries(list[Entry]):
    """A group as a list of entries."""

    __slots__ = ()

    def keep(self, event: Event, text: Any, /) -> None:
        self.append((event, text))

    @property
    def last(self) -> int:
        number: int = self[-1][0][SEQ]
        return number
