"""Whether a DurableJournal keeps its laws."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random
from typing import Any, Final

from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalTakenError,
    JournalUnavailableError,
)
from taskorch.events import (
    CLS,
    SEQ,
    TASK_ID,
    Event,
    OrchestratorStarted,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.model import Call, Task, TaskFilter
from taskorch.protocols import DurableJournal, Entry
from taskorch.testing.laws._case import Case, brief, cases, factory
from taskorch.testing.laws._journal import check_journal, difference
from taskorch.testing.laws._worlds import some_data

#: Seconds after which a thread that reads, or a close, has surely hung.
_PATIENCE: Final = 60.0
_HALF: Final = 0.5
#: Groups that are appended while others read.
_GROUPS: Final = 10


def check_durable_journal(
    make: Callable[[], DurableJournal],
    *,
    reopen: Callable[[], DurableJournal],
    seed: int = 0,
    examples: int = 20,
) -> None:
    """
    Check the laws of DurableJournal, and before them those of Journal.

    How the laws are seen:

    - 1: after each group by a second object, while the owner lives; at last by one
      that is opened once it has closed. A kill or a loss of power cannot be seen from
      here: kill a process that writes, and compare what it said with what is there.
    - 2: a second object claims it while the first lives, and once it has closed.
      Processes that die or fork cannot be seen from here.
    - 3: a thread reads what other threads append.
    - 4: a lock and a function without a name are handed over, in a task or a result.
    - 5: each question is put to the journal, and to its definition in DurableJournal.
    - 8: calls with arguments of all kinds; the values change after they were handed
      over.
    - 10: of two journals, if *make* makes a new one each time.

    Args:
        make: Opens a journal, for each case a new one.
        reopen: Opens the one that *make* opened last, by another object.
        seed: The seed of the entries.
        examples: How many journals to open, with some dozen entries each.

    Raises:
        LawViolation: A law is broken; `protocol` says of which of the two.
        TypeError: *make* cannot be called, or makes no durable journal.
    """
    opened, again = factory(make, DurableJournal), factory(reopen, DurableJournal)
    check_journal(opened, reopen=again, seed=seed, examples=examples)
    identities: list[str] = []
    for case in cases(DurableJournal, "check_durable_journal", seed, examples):
        with case.noted():
            run = _DurableJournalRun(case, opened(), again)
            try:
                run.check()
                run.check_identity(identities)
                run.check_end()
            finally:
                run.close()


class _DurableJournalRun:
    """One journal, with its expected contents."""

    def __init__(
        self, case: Case, journal: DurableJournal, reopen: Callable[[], DurableJournal]
    ) -> None:
        self._case = case
        self._journal = journal
        self._reopen = reopen
        self._opened = [journal]
        self._kept: list[Entry] = []
        #: The last numbers of the groups.
        self._ends = [0]
        self._epoch = 0
        #: The losses that it has reported.
        self._lost: list[JournalError] = []
        #: The state that was saved last, and its number.
        self._saved: tuple[int, dict[str, Any]] | None = None

    def check(self) -> None:
        """Check an open journal, the plainest laws first."""
        self._check_unclaimed()
        self._journal.wait_for_turn(lambda: False)
        self._check_unclaimed()
        self._epoch = self._journal.claim()
        self._journal.when_lost(self._lost.append)
        for _ in range(self._case.random.randint(1, 3)):
            self._append(self._some_history())
        self._check_other(1, "It was read by another object. ")
        self._check_answers(self._journal)
        self._check_groups()
        self._check_refused()
        self._check_snapshot()
        self._check_upkeep()
        self._check_readers()
        self._check_forgotten()
        self._check_owner()

    def close(self) -> None:
        """Close all objects."""
        for journal in self._opened:
            journal.close()

    def _other(self) -> DurableJournal:
        journal = self._reopen()
        self._opened.append(journal)
        return journal

    # ---------------------------------------------------------------- actions

    def _append(self, group: list[Entry]) -> None:
        self._journal.append(self._epoch, group)
        self._note(group)

    def _note(self, group: list[Entry]) -> None:
        self._kept += group
        self._ends.append(group[-1][0][SEQ])

    @property
    def _last(self) -> int:
        return self._ends[-1]

    def _some_history(self) -> list[Entry]:
        """Return random events of a task or two."""
        dice, number = self._case.random, self._last
        group: list[Entry] = []
        for _ in range(dice.randint(1, 2)):
            number += dice.choice((1, 1, 2))
            name = f"{dice.choice(('run/', 'né/', ''))}t{number}"
            key = dice.choice((None, f"key {number}", "the same"))
            task = Task("build", some_data(dice, 1), id=name, idempotency_key=key)
            event: Any = TaskSubmitted(number, number, name, "build", 0)
            group.append((event, task))
            number += 1
            event = TaskStarted(number, number, name, 1, "ann", (), "the only one")
            group.append((event, None))
            number += 1
            group += _some_end(dice, number, name)
        return group

    # ------------------------------------------------------------- checks

    def _check_read(self, journal: DurableJournal, law: int, did: str) -> None:
        read = list(journal.read())
        if read != self._kept:
            self._case.fail(law, did + difference(read, self._kept))

    def _check_other(self, law: int, did: str) -> None:
        other = self._other()
        self._check_read(other, law, did)
        other.close()
        self._check_read(self._journal, law, "Another object was closed. ")

    def _check_unclaimed(self) -> None:
        """Check that a journal without an owner is empty."""
        for answer in (list(self._journal.read()), self._journal.ends(["t"])):
            self._case.expect(not answer, 3, f"Unclaimed, it gave {brief(answer)}.")
        snapshot = self._journal.snapshot()
        self._case.expect(snapshot is None, 6, f"Unclaimed, it gave {brief(snapshot)}.")

    def _check_answers(self, journal: DurableJournal) -> None:
        dice = self._case.random
        events = [event for event, _ in self._kept]
        names = sorted({f[TASK_ID] for f in events if issubclass(f[CLS], TaskEvent)})
        some = [*dice.sample(names, dice.randint(0, len(names))), "nobody"]
        keys = {value.idempotency_key for _, value in self._kept if _is_task(value)}
        questions: list[tuple[str, tuple[Any, ...]]] = [
            ("ends", (some,)),
            *[("ids", (prefix,)) for prefix in ("run/", "né/", "t", "nobody")],
            *[("select", (some, until)) for until in self._ends],
            *[("about", (some, until)) for until in self._ends],
            *[("id_of_key", (key,)) for key in (*filter(None, keys), "no key")],
        ]
        for _ in range(3):
            after, until = sorted(dice.choices(range(self._last + 2), k=2))
            questions.append(("submitted", (after, until, dice.randint(1, 4))))
            self._check_candidates(journal, after, until)
        for name, question in questions:
            answer = _plain(getattr(journal, name)(*question))
            right = _plain(getattr(DurableJournal, name)(journal, *question))
            if answer != right:
                did = f"{name}{brief(question)} gave {brief(answer)}, not"
                self._case.fail(5, f"{did} {brief(right)}.")

    def _check_candidates(
        self, journal: DurableJournal, after: int, until: int
    ) -> None:
        """Check law 5: pages with a filter leave nothing out."""
        dice, most = self._case.random, self._case.random.randint(1, 4)
        tasks = [(event, value) for event, value in self._kept if _is_task(value)]
        event: Any
        event, task = dice.choice(tasks) if tasks else (None, Task("nothing"))
        metadata = dict(task.metadata or {"nothing": dice.randint(0, 9)})
        name = task.type if event is None else event.task_id
        asked = {
            "type": task.type,
            "owner": task.owner,
            "id": dice.choice((f"{name[:2]}*", f"*{name[-2:]}", f"*{name[1:3]}?*")),
            "agent": dice.choice(sorted(self._workers()) or ["nobody"]),
            "metadata": metadata,
        }
        fields: Any = dict(dice.sample([*asked.items()], dice.randint(0, 2)))
        which, newest = TaskFilter(**fields), dice.random() < _HALF
        right = DurableJournal.candidates(journal, which, after, until, self._last)
        submissions: list[tuple[int, str]] = []
        first, last = after, until
        while page := journal.candidates(which, first, last, most, newest=newest):
            submissions += page
            numbers = [number for number, _ in page]
            is_in_order = sorted(numbers, reverse=newest) == numbers
            if not is_in_order or not first < numbers[0] <= last:
                break
            first, last = (first, numbers[-1] - 1) if newest else (numbers[-1], last)
        if missing := [each for each in right if each not in submissions]:
            did = f"candidates({which!r}, {after}, {until}) left out"
            self._case.fail(5, f"{did} {brief(missing)}.")

    def _workers(self) -> set[str]:
        starts: list[Any] = [f for f, _ in self._kept if f[CLS] is TaskStarted]
        return {start.agent_id for start in starts}

    def _check_groups(self) -> None:
        """Check law 8: the quick way and the plain one give the same."""
        journal, dice, number = self._journal, self._case.random, self._last
        group = journal.new_group()
        self._case.expect(len(group) == 0, 8, "A new group has events.")
        kept: list[Entry] = []
        text_of = journal.call_texts("call", len)
        arguments = [(), (number,), (some_data(dice, 2),), ("é", [1], {"a": (2,)})]
        for args in arguments:
            number += 1
            name = f"call/{number}"
            task = Task("call", Call(len, args))
            text = text_of(args) if dice.random() < _HALF else journal.text(task)
            event: Any = TaskSubmitted(number, number, name, "call", 0)
            kept.append((event, task))
            group.keep(kept[-1][0], text)
        value = [number]
        for way in (journal.text, journal.document):
            number += 1
            event = TaskCompleted(number, number, "call", 1, "ann", 5)
            kept.append((event, [*value]))
            group.keep(kept[-1][0], way(value))
            value.append(0)
        number += 1
        kept.append((OrchestratorStarted(number, number), None))
        group.keep(kept[-1][0], None)
        self._case.expect(group.last == number, 8, f"Its last is {group.last}.")
        self._case.expect(len(group) == len(kept), 8, f"Its length is {len(group)}.")
        # `append` must take the groups that `new_group` makes.
        entries: Any = group
        journal.append(self._epoch, entries)
        self._note(kept)
        self._check_read(journal, 8, "A group of its own was appended. ")
        self._check_other(8, "A group of its own was appended. ")

    def _check_refused(self) -> None:
        number = self._last + 1
        good: Entry = OrchestratorStarted(number, 0), None
        bad: list[Any] = [
            Task("build", {"items": [threading.Lock()]}),
            Task("build", Call(lambda: None)),
            {"lock": threading.Lock()},
        ]
        for value in bad:
            event: Any = TaskSubmitted(number + 1, 0, "bad", "build", 0)
            if not _is_task(value):
                event = TaskCompleted(number + 1, 0, "bad", 1, "ann", 5)
            did = f"It was given {brief(value)}, "
            try:
                self._journal.document(value)
            except InvalidTaskError:
                pass
            else:
                self._case.fail(4, f"{did}and document took it.")
            try:
                self._journal.append(self._epoch, [good, (event, value)])
            except InvalidTaskError:
                self._check_read(self._journal, 4, did)
            else:
                self._case.fail(4, f"{did}and append took it.")
        self._append([good])
        self._check_other(4, "What came after a refused group: ")

    def _check_snapshot(self) -> None:
        journal, dice = self._journal, self._case.random
        for seq in (0, self._last + 1):
            try:
                journal.save(self._epoch, seq, {})
            except ValueError:
                snapshot = journal.snapshot()
                self._case.expect(
                    snapshot is None,
                    7,
                    f"Refused, it gave {brief(snapshot)} all the same.",
                )
            else:
                did = f"A snapshot at {seq} was not refused."
                self._case.fail(7, f"{did} The last event is {self._last}.")
        for _ in range(3):
            data = some_data(dice, 2)
            state: dict[str, Any] = {
                "rows": [[1, None, "é"], data],
                "tables": {"a": []},
            }
            rows: list[Any] = [1]
            journal.save(self._epoch, self._last, {**state, "more": rows})
            state["more"] = [1]
            rows.append("added afterwards")
            self._saved = self._last, state
            self._check_saved(journal, "It was saved. ")
            self._append(self._some_history())
            self._check_saved(journal, "Events were appended. ")
        other = self._other()
        self._check_saved(other, "Another object was asked. ")
        other.close()
        self._check_read(journal, 7, "Snapshots were saved. ")

    def _check_saved(self, journal: DurableJournal, did: str) -> None:
        snapshot = journal.snapshot()
        snapshot = snapshot and (snapshot[0], snapshot[1])
        if snapshot != self._saved:
            sentence = f"It gave {brief(snapshot)}, and {brief(self._saved)} was saved."
            self._case.fail(6, did + sentence)

    def _check_upkeep(self) -> None:
        journal = self._journal
        for _ in range(2):
            journal.needs_upkeep()
            journal.upkeep(self._epoch)
            self._check_read(journal, 7, "After upkeep: ")
            self._check_saved(journal, "After upkeep: ")
            self._check_answers(journal)
        for words in (*journal.troubles(), journal.description()):
            if not isinstance(words, str):
                self._case.fail(0, f"It said {brief(words)}.", says="words are text.")

    def _check_readers(self) -> None:
        """Check law 3: a thread reads with this object and another during writes."""
        readings: list[tuple[int, list[Entry]]] = []
        errors: list[Exception] = []
        journals = self._journal, self._other()
        is_over = threading.Event()

        def read_on() -> None:
            try:
                while not is_over.is_set():
                    for journal in journals:
                        # Earlier entries must be there, and more may be.
                        before = len(self._kept)
                        readings.append((before, list(journal.read())))
                    journals[0].ends(["nobody"])
            except Exception as error:  # noqa: BLE001 - it is told by the caller
                errors.append(error)

        reader = threading.Thread(target=read_on, daemon=True)
        reader.start()
        try:
            for _ in range(_GROUPS):
                self._append(self._some_history())
        finally:
            is_over.set()
            reader.join(_PATIENCE)
        for error in errors:
            did = f"It was read while it was written, and raised {error!r}."
            self._case.fail(3, did, cause=error)
        whole = {0, *self._ends}
        for before, entries in readings:
            is_whole = not entries or entries[-1][0][SEQ] in whole
            if not is_whole or entries != self._kept[: len(entries)]:
                did = f"While it was written, it gave {len(entries)} entries, to"
                last = brief(entries[-1]) if entries else "none"
                self._case.fail(3, f"{did} {last}, which is no whole group.")
            if len(entries) < before:
                did = f"{before} entries were kept, and it gave {len(entries)}."
                self._case.fail(1, did)

    def _check_forgotten(self) -> None:
        """Check law 11: some tasks leave no trace, and nothing else changes."""
        journal, dice = self._journal, self._case.random
        for share in (0.3, 1.0):
            names = {event[TASK_ID] for event, _ in self._kept if _is_about_task(event)}
            some = {name for name in sorted(names) if dice.random() < share}
            if journal.forget(self._epoch, sorted(some)):
                self._kept = [
                    (event, value)
                    for event, value in self._kept
                    if not _is_about_task(event) or event[TASK_ID] not in some
                ]
            did = f"Of {len(names)} tasks, {len(some)} were to be forgotten. "
            self._check_other(11, did)
            if journal.snapshot() is None:
                self._saved = None
            self._check_saved(journal, did)
            self._check_answers(journal)
            self._append(self._some_history())
            self._check_other(11, f"{did}More was appended. ")

    def _check_owner(self) -> None:
        """Check law 2: of two objects, only one writes."""
        first, other = self._journal, self._other()
        epoch = self._epoch
        did = f"It told {brief(self._lost)}, and nobody else had claimed it."
        self._case.expect(not self._lost, 2, did)
        if not isinstance(first.is_owned(), bool):
            self._case.fail(0, "is_owned", says="it answers True or False.")
        try:
            new_epoch = other.claim()
        except JournalTakenError:
            self._append(self._some_history())
            self._check_other(2, "Another object could not claim it. ")
            return
        self._case.expect(new_epoch > epoch, 2, f"It gave {new_epoch} after {epoch}.")
        for name, question in (
            ("append", (self._some_history(),)),
            ("save", (self._last, {})),
            ("upkeep", ()),
        ):
            try:
                getattr(first, name)(epoch, *question)
            except JournalTakenError:
                self._check_read(other, 2, f"{name} of the earlier owner raised. ")
            else:
                self._case.fail(2, f"{name} of the earlier owner raised nothing.")
        self._journal, self._epoch = other, new_epoch
        self._append(self._some_history())

    def check_identity(self, identities: list[str]) -> None:
        """Check law 10; the other journals had those *identities*."""
        identity = self._journal.identity()
        if not isinstance(identity, str):
            self._case.fail(10, f"It is {brief(identity)}.")
        if identity:
            new = identity not in identities
            self._case.expect(new, 10, f"{identity} is that of another journal.")
            plain = identity.replace("-", "")
            fits = plain.isascii() and plain.isalnum()
            self._case.expect(fits, 10, f"{identity} has other characters.")
        identities.append(identity)

    def check_end(self) -> None:
        """Check law 9, and all other laws of the reopened journal."""
        journal, epoch = self._journal, self._epoch
        identity = journal.identity()
        self.close()
        questions: list[tuple[str, Callable[[], object]]] = [
            ("claim", journal.claim),
            ("append", lambda: journal.append(epoch, self._some_history())),
        ]
        for name, ask in questions:
            try:
                ask()
            except (JournalTakenError, JournalUnavailableError):
                continue
            self._case.fail(9, f"{name} of what was closed raised nothing.")
        last = self._other()
        self._check_read(last, 1, "It was closed and opened again. ")
        self._check_saved(last, "It was closed and opened again. ")
        self._check_answers(last)
        try:
            new_epoch = last.claim()
        except JournalTakenError as error:
            did = "Its owner had closed it, and another object could not claim it."
            self._case.fail(9, did, cause=error)
        self._case.expect(new_epoch > epoch, 2, f"It gave {new_epoch} after {epoch}.")
        same = last.identity() == identity
        self._case.expect(same, 10, f"It was {identity}, and is {last.identity()}.")
        self._journal, self._epoch = last, new_epoch
        self._append(self._some_history())
        self._check_other(1, "Its next owner has appended. ")


def _some_end(dice: Random, number: int, name: str) -> list[Entry]:
    """Return an end of the task *name*, or no event."""
    event: Any
    if (kind := dice.randrange(4)) == 0:
        return []
    if kind == 1:
        event = TaskCompleted(number, number, name, 1, "ann", 10**9)
        return [(event, some_data(dice, 2))]
    if kind == 2:  # noqa: PLR2004 - one kind after the other
        event = TaskFailed(number, number, name, 1, "ann", "E", "no", "error")
    else:
        event = TaskCancelled(number, number, name, "no longer needed, said Zoë")
    return [(event, None)]


def _is_about_task(event: Event) -> bool:
    return issubclass(event[CLS], TaskEvent)


def _is_task(value: object) -> bool:
    return isinstance(value, Task)


def _plain(answer: Any) -> Any:
    return answer if answer is None or isinstance(answer, str | dict) else list(answer)
