"""Whether a Journal keeps its laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, overload

from taskorch.errors import JournalTakenError, JournalUnavailableError
from taskorch.events import (
    SEQ,
    Event,
    OrchestratorStarted,
    TaskCancelled,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.model import Resources, RetryPolicy, Task
from taskorch.protocols import Entry, Journal
from taskorch.testing.laws._case import Case, brief, cases, factory
from taskorch.testing.laws._worlds import some_data

#: The number of kinds of entries that are tried.
_KINDS: Final = 5


def check_journal(
    make: Callable[[], Journal],
    *,
    reopen: Callable[[], Journal] | None = None,
    seed: int = 0,
    examples: int = 200,
) -> None:
    """
    Check the laws of Journal.

    How the laws are seen:

    - 1: after each group, and at last by whoever opens it next, which *reopen* does;
      without it the same object is read again. Whether kept entries survive a crash or
      a loss of power cannot be seen from here.
    - 2: a group raises a JournalUnavailableError while it is read to be kept; before,
      or then, or after, nothing of it may be there, or all. A death in the middle
      cannot be seen from here.
    - 3: that group comes again, whole; and so does one that was kept in spite of what
      the caller was told.
    - 4: the same object is claimed twice, and claimed again when it was reopened.
    - 7: a task and a result change after they were handed over. That `document` may be
      called from another thread cannot be seen from here.

    Args:
        make: Opens a journal: for each case a new one, or always the same. Its earlier
            contents are left alone.
        reopen: Opens, after it was closed, the one that *make* opened last.
        seed: The seed of the entries.
        examples: How many journals to open, with some dozen entries each.

    Raises:
        LawViolation: A law is broken.
        TypeError: *make* cannot be called, or makes no journal.
    """
    opened = factory(make, Journal)
    again = None if reopen is None else factory(reopen, Journal)
    last = 0
    for case in cases(Journal, "check_journal", seed, examples):
        with case.noted():
            run = _JournalRun(case, opened(), last)
            if case.number == 1:
                run.find_last()
            run.check(again)
            last = run.last


class _Broken(Sequence[Entry]):
    """A group that cannot be read to its end."""

    def __init__(self, entries: Sequence[Entry], whole: int) -> None:
        self._entries = entries
        self._whole = whole

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        places = range(len(self._entries))[index]
        wanted = (places,) if isinstance(places, int) else places
        if any(place >= self._whole for place in wanted):
            msg = "it cannot be read any further"
            raise JournalUnavailableError(msg)
        return self._entries[index]


class _JournalRun:
    """One journal, with its expected contents."""

    def __init__(self, case: Case, journal: Journal, last: int) -> None:
        self._case = case
        self._journal = journal
        #: The last number of earlier entries.
        self._start = last
        #: The last number that is kept.
        self.last = last
        self._kept: list[Entry] = []
        self._latest: list[Entry] = []
        self._epoch = 0

    def find_last(self) -> None:
        """Find the last number of its present contents."""
        for event, _ in self._journal.read():
            self._start = self.last = max(self.last, event[SEQ])

    def check(self, reopen: Callable[[], Journal] | None) -> None:
        """Check everything, in an order in which the plainest fault shows first."""
        dice = self._case.random
        self._claim()
        self._append(self._one_of_each())
        for _ in range(dice.randint(0, 3)):
            self._append(self._some_group())
        self._check_numbers()
        self._check_read()
        self._check_documents()
        self._check_broken()
        self._check_again()
        self._journal.append(self._epoch, [])
        self._check_kept(1)
        self._check_takeover()
        if reopen is not None:
            self._close()
            self._journal = reopen()
        self._check_kept(1)
        if reopen is not None:
            self._check_takeover()
        self._close()

    # ---------------------------------------------------------------- what is done

    def _claim(self) -> None:
        epoch: object = self._journal.claim()
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 1:
            did = f"It answered {brief(epoch)}."
            self._case.fail(0, did, says="claim answers with a number, from 1.")
        did = f"It gave {epoch} after {self._epoch}."
        self._case.expect(epoch > self._epoch, 4, did)
        self._epoch = epoch

    def _append(self, group: list[Entry]) -> None:
        handed = list(group)
        self._journal.append(self._epoch, handed)
        # The list belongs to the caller, who may use it for something else.
        handed.clear()
        self._note(group)
        self._check_kept(1)

    def _note(self, group: list[Entry]) -> None:
        self._kept += group
        self._latest = group
        self.last = group[-1][0][SEQ]

    def _close(self) -> None:
        self._journal.close()
        self._journal.close()

    # ------------------------------------------------------------- what must be so

    def _read(self, after: int) -> list[Entry]:
        entries: list[Any] = list(self._journal.read(after))
        for entry in entries:
            if not isinstance(entry, tuple) or len(entry) != 2:  # noqa: PLR2004 - pairs
                did = f"It gave {brief(entry)}."
                self._case.fail(
                    0, did, says="read gives pairs of an event and a value."
                )
        return entries

    def _check_kept(self, law: int, did: str = "") -> None:
        # Another law says whether `read` leaves out the right entries.
        read = [
            entry for entry in self._read(self._start) if entry[0][SEQ] > self._start
        ]
        if read != self._kept:
            self._case.fail(law, did + difference(read, self._kept))

    def _check_read(self) -> None:
        numbers = [event[SEQ] for event, _ in self._kept]
        for after in (self._start, *numbers, self.last + 1):
            expected = [entry for entry in self._kept if entry[0][SEQ] > after]
            # A reader may stop early, and changes nothing by it.
            next(iter(self._journal.read(after)), None)
            for _ in range(2):
                read = self._read(after)
                if read != expected:
                    did = f"It read after {after}: {difference(read, expected)}"
                    self._case.fail(6, did)
        self._check_kept(6)

    def _check_numbers(self) -> None:
        longer = [*self._latest, *self._some_group()]
        # The entries have another time, so that the group differs in spite of its
        # numbers.
        other = [
            *self._latest[:-1],
            (OrchestratorStarted(self.last, 1), None),
        ]
        refused = [[self._some_entry(self.last), self._some_entry(self.last + 1)]]
        refused += [longer, other]
        if len(self._latest) > 1:
            refused += [self._latest[:-1], self._latest[1:]]
        if len(self._kept) > len(self._latest):
            refused.append(self._kept[: -len(self._latest)])
        for group in refused:
            did = f"After {brief(_numbers(self._latest))}, {brief(_numbers(group))}"
            try:
                self._journal.append(self._epoch, group)
            except ValueError:
                self._check_kept(5, f"{did} was refused. ")
            else:
                self._case.fail(5, f"{did} was not refused.")

    def _check_documents(self) -> None:
        """Check law 7 with a task, a result, and None."""
        dice = self._case.random
        at, task_id = dice.getrandbits(60), f"t/{dice.getrandbits(16)}"
        number, rest = self.last, some_data(dice, 2)
        lists: list[list[Any]] = [[rest], [rest]]
        values = [Task("build", {"items": lists[0]}, id=task_id), lists[1], None]
        expected = [Task("build", {"items": [rest]}, id=task_id), [rest], None]
        events = [
            TaskSubmitted(number + 1, at, task_id, "build", 0),
            TaskCompleted(number + 2, at, task_id, 1, "ann", 5),
            TaskCancelled(number + 3, at, task_id, ""),
        ]
        documents = [self._journal.document(value) for value in values]
        if documents[2] is not None:
            self._case.fail(7, f"It made {brief(documents[2])} of None.")
        for items in lists:
            items.append("added afterwards")
        self._journal.append(self._epoch, list(zip(events, documents, strict=True)))
        # In memory, the document may be the value itself.
        read = [value for _, value in self._read(number)]
        for place, value in enumerate(values):
            if any(value is other for other in read):
                expected[place] = value
        self._note(list(zip(events, expected, strict=True)))
        self._check_kept(7, "The values were changed after document had taken them. ")

    def _check_broken(self) -> None:
        """Check laws 2 and 3 with a group that breaks off while it is read."""
        group = [*self._some_group(), *self._some_group(after=5)]
        broken = _Broken(group, self._case.random.randrange(1, len(group)))
        try:
            self._journal.append(self._epoch, broken)
        except JournalUnavailableError:
            pass
        else:
            self._case.fail(2, "It kept a group that it could not read to its end.")
        self._check_kept(2, "A group could not be read to its end. ")
        self._again(group)

    def _check_again(self) -> None:
        """Check law 3 with a group that was kept already."""
        self._again(self._latest)

    def _again(self, group: list[Entry]) -> None:
        did = f"The group {brief(_numbers(group))} came again"
        try:
            self._journal.append(self._epoch, group)
        except ValueError as error:
            self._case.fail(3, f"{did}, and it raised {error!r}.", cause=error)
        if group is not self._latest:
            self._note(group)
        self._check_kept(3, f"{did}. ")

    def _check_takeover(self) -> None:
        before = self._epoch
        self._claim()
        for group in (self._some_group(), self._latest):
            did = f"The owner {before} appended after {self._epoch} had claimed it"
            try:
                self._journal.append(before, group)
            except JournalTakenError:
                self._check_kept(4, f"{did}. ")
            else:
                self._case.fail(4, f"{did}, and it raised nothing.")
        self._append(self._some_group())

    # --------------------------------------------------------------------- entries

    def _one_of_each(self) -> list[Entry]:
        """A first group, in which most mistakes show."""
        kinds = self._case.random.sample(range(_KINDS), _KINDS)
        return [
            self._some_entry(number, kind)
            for number, kind in enumerate(kinds, self.last + 1)
        ]

    def _some_group(self, after: int = 0) -> list[Entry]:
        """Return entries that may follow the kept ones."""
        dice, number, group = self._case.random, self.last + after * 10, []
        for _ in range(dice.randint(1, 4)):
            number += dice.choice((1, 1, 2))
            group.append(self._some_entry(number))
        return group

    def _some_entry(self, number: int, kind: int | None = None) -> Entry:
        dice = self._case.random
        kind = dice.randrange(_KINDS) if kind is None else kind
        event, value = _some_event(dice, number, kind)
        return event, value


def _some_event(dice: Random, number: int, kind: int) -> tuple[Event, Any]:
    at, task_id = dice.getrandbits(60), f"t/{dice.getrandbits(16)}"
    if kind == 0:
        requires = dice.choice((None, ("gpu", "linux")))
        task = _some_task(dice, task_id, requires)
        event = TaskSubmitted(
            number,
            at,
            task_id,
            task.type,
            task.priority,
            requires=requires,
            resources=task.resources.units,
        )
        return event, task
    if kind == 1:
        return TaskStarted(number, at, task_id, 1, "ann", (), "the only one"), None
    if kind == 2:  # noqa: PLR2004 - one kind after the other
        return TaskCompleted(number, at, task_id, 2, "ann", 10**9), some_data(dice, 2)
    if kind == 3:  # noqa: PLR2004
        return TaskCancelled(number, at, task_id, "no longer needed, said Zoë"), None
    return OrchestratorStarted(number, at), None


def _some_task(dice: Random, task_id: str, requires: tuple[str, ...] | None) -> Task:
    """A task that any journal can keep: its payload is plain data."""
    return Task(
        dice.choice(("build", "review")),
        some_data(dice, 2),
        id=task_id,
        priority=dice.choice((0, 5, -5)),
        requires=requires,
        resources=dice.choice((Resources(), Resources(cpu=0.5, memory_mb=512))),
        timeout=dice.choice((None, 30.5)),
        retry=dice.choice((RetryPolicy(), RetryPolicy(3, wait="linear", jitter=0.25))),
        metadata=dice.choice((None, {"tenant": "red"})),
    )


def _numbers(entries: Sequence[Entry]) -> list[int]:
    return [event[SEQ] for event, _ in entries]


def difference(read: Sequence[Entry], expected: Sequence[Entry]) -> str:
    """Return a sentence on the difference between *read* and *expected*."""
    if _numbers(read) != _numbers(expected):
        have, want = brief(_numbers(read)), brief(_numbers(expected))
        return f"It gave the entries {have}, and {want} were kept."
    pairs = zip(read, expected, strict=True)
    got, kept = next(pair for pair in pairs if pair[0] != pair[1])
    return f"It gave {brief(got)} for {brief(kept)}."
