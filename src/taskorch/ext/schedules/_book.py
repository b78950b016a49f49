"""
The schedules and backfills of this incarnation, as the journal keeps them.

Decisions: extensions, schedules, workflows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from heapq import heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.errors import InvalidTaskError, UnknownTaskError, UsageError
from taskorch.events import ScheduleChanged
from taskorch.ext.schedules._backfill import Backfill, read_backfill
from taskorch.ext.schedules._definition import (
    ORIGIN,
    Definition,
    Importable,
    Work,
    read_definition,
)
from taskorch.ext.schedules._entry import (
    LiveSchedule,
    nobody_said,
    ticks_between,
    values_of,
)
from taskorch.ext.schedules._host import ScheduleHost
from taskorch.kit.fence import log_of
from taskorch.kit.limits import NS
from taskorch.kit.plain import BACKFILLS, SCHEDULES
from taskorch.kit.ticks import TickProgress, read_progress, ticks_of
from taskorch.kit.visible import as_text, said, show
from taskorch.kit.vocabulary import meant
from taskorch.model import MadeFor
from taskorch.model.ids import first_of, run_of, stem_of

if TYPE_CHECKING:
    from taskorch.core.kernel import Kernel

#: The system's clock counts as set back if it goes back so far, in ns.
_BACK: Final = 3 * 3_600 * NS
#: An incarnation has so long, in ns, to declare its schedules, before the missing ones
#: are reported.
_TO_DECLARE: Final = 2 * NS
#: Keys of a document for the work of a schedule.
_MADE: Final = ("task", "workflow")
#: Of ended backfills, so many are kept, the latest.
_KEPT: Final = 50
_TWO: Final = "a schedule has two documents, the objects NAME and NAME/ticks"
#: Errors from reading a document that somebody else has written.
_NONE_OF_OURS: Final = (
    *(AttributeError, LookupError, TypeError, ValueError, ArithmeticError),
    UsageError,
)
_LOG: Final = log_of(__name__)


class ScheduleBook:
    """
    The schedules and backfills of this incarnation, with their progress.

    They are read when somebody first asks, and each change is kept in one step.
    """

    def __init__(self, host: ScheduleHost) -> None:
        self._host = host
        #: Held while something is made, or a schedule is changed: one at a time.
        self.making = threading.RLock()
        #: Guards the state; nothing is made under it.
        self.lock = threading.RLock()
        #: Notified, under the lock, when a backfill has made progress.
        self.came_further = threading.Condition(self.lock)
        #: The work of each schedule that this incarnation has declared.
        self.works: dict[str, Work] = {}
        #: The names among them that a file declares.
        self.of_file: set[str] = set()
        self._entries: dict[str, LiveSchedule] | None = None
        self._backfills: dict[str, Backfill] = {}
        #: The ticks of backfills, each computed once.
        self._backfill_ticks: dict[str, list[int]] = {}
        #: The times at which schedules are due.
        self._heap: list[tuple[int, int, str]] = []
        self._number = 0
        #: The time, in ns, of the first question which ticks are due; 0: not asked.
        self.since_ns = 0
        #: Whether the schedules that are not declared were reported.
        self._has_said = False

    def schedules(self) -> dict[str, LiveSchedule]:
        """Return the schedules; at first, read them from the journal."""
        with self.lock:
            return self._read_all() if self._entries is None else self._entries

    def _read_all(self) -> dict[str, LiveSchedule]:
        """Read what earlier incarnations have left, under the lock."""
        entries = self._entries = dict[str, LiveSchedule]()
        self._heap.clear()
        self._backfill_ticks.clear()
        with self._host.kernel() as kernel:
            schedules = dict(kernel.kept.get(SCHEDULES, {}))
            texts = dict(kernel.kept.get(BACKFILLS, {}))
        backfills = sorted(_readable(texts), key=lambda each: each.number)
        self._backfills = {each.backfill_id: each for each in backfills}
        for key in schedules:
            name = first_of(key)
            if name not in schedules or key != ticks_of(name):
                self._read_kept(entries, key, schedules)
        if entries:
            self._find_unfinished(entries)
        for entry in entries.values():
            entry.is_unsure = True
            self.claim(entry)
            self.plan(entry)
        return entries

    def _read_kept(
        self, entries: dict[str, LiveSchedule], name: str, texts: Mapping[str, str]
    ) -> None:
        """Add a schedule, unless its two documents cannot be read."""
        try:
            document, ticks = json.loads(texts[name]), texts.get(ticks_of(name))
            if type(document) is not dict or ticks is None:
                raise ValueError(_TWO)
            entries[name] = self._read(name, document, read_progress(ticks))
        except _NONE_OF_OURS as error:
            _LOG.warning(
                "the document %s of schedules is left out: %s. "
                "del orch.kept('schedules')[%r] drops it",
                *(name, ": ".join(said(error)), name),
            )

    def _read(
        self, name: str, document: dict[str, Any], progress: TickProgress
    ) -> LiveSchedule:
        work: Work | None = None
        origin = {key: document.pop(key) for key in ORIGIN if key in document}
        try:
            definition, work = read_definition(name, document, Importable())
        except (UsageError, ValueError):
            if document.keys().isdisjoint((*_MADE, "code")):
                raise
            # Its function cannot be imported here. The schedule is kept all the same.
            called = {
                "code": str(next(iter(document.get("task", document).values()), "?"))
            }
            plain = {k: v for k, v in document.items() if k not in ("task", "workflow")}
            definition, _ = read_definition(name, {**plain, **called})
            work_document: dict[str, Any] = {
                k: document[k] for k in _MADE if k in document
            }
            definition = attrs.evolve(definition, work=work_document)
        definition = definition.with_origin(origin)
        if work is None:
            work = self.works.get(name)
        return LiveSchedule(definition, work, definition.times(), progress)

    def _find_unfinished(self, entries: Mapping[str, LiveSchedule]) -> None:
        """Note the unfinished work of earlier incarnations."""
        apart = {name for each in self._backfills.values() for name in each.runs}
        for task_id, metadata in self._host.unfinished():
            name, made_id = MadeFor(metadata).schedule, stem_of(task_id)
            if run_of(made_id) != name:
                made_id = first_of(made_id)
            entry = entries.get(name or "")
            if entry is not None and made_id not in apart:
                entry.made[made_id] = None

    def ensure_work(self, entry: LiveSchedule) -> None:
        """
        Find the work of *entry*, whose function may be declared by now.

        Raises:
            InvalidTaskError: This incarnation has not declared it.
        """
        if entry.work is None:
            definition = entry.definition
            document = {
                "when": definition.when,
                "zone": definition.zone,
                **definition.work,
            }
            with suppress(UsageError, ValueError):
                _, entry.work = read_definition(definition.name, document, Importable())
        if entry.work is None:
            raise InvalidTaskError(nobody_said(entry.definition))

    def entry(self, name: str, *, makes: bool = False) -> LiveSchedule:
        """
        Return the schedule of a name; if it *makes* now, with its work.

        Raises:
            UnknownTaskError: There is none.
            InvalidTaskError: This incarnation has not declared its work.
        """
        entry = self.schedules().get(as_text(name))
        if entry is None:
            msg = f"there is no schedule {show(name)}"
            names = sorted(self.schedules())
            hint = meant(name, names, f"there are {', '.join(names) or 'none at all'}")
            raise UnknownTaskError(msg, hint=hint, task_id=as_text(name))
        if makes:
            self.ensure_work(entry)
        return entry

    def backfills(self) -> dict[str, Backfill]:
        """Return the backfills; at first, read them from the journal."""
        self.schedules()
        return self._backfills

    def all_backfills(self) -> list[Backfill]:
        """Return the backfills of this moment."""
        with self.lock:
            return [*self.backfills().values()]

    def backfill(self, backfill_id: str) -> Backfill:
        """
        Return the backfill of an id.

        Raises:
            UnknownTaskError: There is none.
        """
        backfills = self.backfills()
        backfill = backfills.get(as_text(backfill_id))
        if backfill is None:
            msg = f"there is no backfill {show(backfill_id)}"
            hint = meant(backfill_id, [*backfills], "see orch.schedules.backfills()")
            raise UnknownTaskError(msg, hint=hint, task_id=as_text(backfill_id))
        return backfill

    def next_number(self) -> int:
        """Return the number of the backfill that is added next."""
        return max((each.number for each in self.all_backfills()), default=0) + 1

    def add_backfill(self, backfill: Backfill) -> None:
        """Keep a new backfill, and drop ones that ended long ago."""
        over = [
            each.backfill_id
            for each in self.all_backfills()
            if each.is_over and not each.runs
        ]
        if len(over) >= _KEPT:
            self.drop_backfills(over[: len(over) - _KEPT + 1])
        self.keep_backfill(backfill)

    def keep(self, *entries: LiveSchedule) -> None:
        """Keep definitions of schedules, and their progress."""
        states = [(e.definition, e.definition.text(), e.progress) for e in entries]

        def change(kernel: Kernel, now: int) -> None:
            for definition, text, progress in states:
                name = definition.name
                kernel.note(ScheduleChanged, now, name, text, progress.done_ns)
                keep_text(kernel, SCHEDULES, name, text, now)
                keep_text(kernel, SCHEDULES, ticks_of(name), progress.text(), now)

        if states:
            self._host.step(change, keep=True)

    def keep_backfill(self, backfill: Backfill, *, keep: bool = True) -> None:
        """Replace a backfill by its new state."""
        backfill_id, text = backfill.backfill_id, backfill.text()
        self._host.step(
            lambda kernel, now: kernel.keep_document(BACKFILLS, backfill_id, text, now),
            keep=keep,
        )
        with self.lock:
            self.backfills()[backfill_id] = backfill
            self.came_further.notify_all()

    def drop_backfills(self, ids: list[str]) -> None:
        """Drop some backfills."""

        def change(kernel: Kernel, now: int) -> None:
            for backfill_id in ids:
                kernel.keep_document(BACKFILLS, backfill_id, "", now)

        self._host.step(change, keep=False)
        with self.lock:
            for backfill_id in ids:
                self.backfills().pop(backfill_id, None)
            self.came_further.notify_all()

    def advance(
        self,
        events: Iterable[tuple[Any, ...]],
        moved: Iterable[tuple[LiveSchedule, TickProgress]],
        backfill: Backfill | None = None,
    ) -> None:
        """
        Keep the progress of schedules, and a backfill, with its events, in one step.

        Args:
            events: The class and the fields of each event.
            moved: The schedules, each with its new progress.
            backfill: The new state of a backfill.
        """
        texts = [
            (SCHEDULES, ticks_of(entry.definition.name), progress.text())
            for entry, progress in moved
        ]
        if backfill is not None:
            texts.append((BACKFILLS, backfill.backfill_id, backfill.text()))

        def change(kernel: Kernel, now: int) -> None:
            for cls, *values in events:
                kernel.note(cls, now, *values)
            for text in texts:
                keep_text(kernel, *text, now)

        self._host.step(change, keep=False)
        with self.lock:
            for entry, progress in moved:
                entry.progress = progress

    def plan(self, entry: LiveSchedule, not_before: int = 0) -> None:
        """Note when the next tick is due."""
        with self.lock:
            entry.slot_ns = tick = next(entry.slots(entry.done_ns, None), None)
            if tick is not None:
                due = max(tick + entry.definition.put_off_ns(tick), not_before)
                entry.due_ns = due
                self._number += 1
                heappush(self._heap, (due, self._number, entry.definition.name))

    def come_due(self, now: int) -> dict[str, LiveSchedule]:
        """Take the schedules that are due by *now*, under the lock; return them."""
        due = dict[str, LiveSchedule]()
        while self._heap and self._heap[0][0] <= now:
            due_ns, _, name = heappop(self._heap)
            entry = self.schedules().get(name)
            # The backfill may have been changed since.
            if entry is not None and entry.due_ns == due_ns and entry.slot_ns:
                due[name] = entry
        return due

    def next_due(self) -> list[int]:
        """Return when the next schedule is due, if one is, under the lock."""
        return [self._heap[0][0]] if self._heap else []

    def forget_ended(self, entry: LiveSchedule) -> None:
        """Drop the work that has ended from `made`, under the lock."""
        if entry.made:
            for made_id in self._host.ended([*entry.made]):
                entry.made.pop(made_id, None)

    def ticks_of_backfill(self, backfill: Backfill) -> list[int]:
        """Return all ticks of a backfill, in its order."""
        with self.lock:
            ticks = self._backfill_ticks.get(backfill.backfill_id)
        if ticks is None:
            coming = ticks_between(
                backfill.definition(), backfill.since_ns, backfill.until_ns
            )
            ticks = [*islice(coming, backfill.ticks)]
            if backfill.order == "newest":
                ticks.reverse()
            with self.lock:
                self._backfill_ticks[backfill.backfill_id] = ticks
        return ticks

    def claim(self, entry: LiveSchedule) -> None:
        """Note which coming ticks belong to a backfill."""
        claimed: set[int] = set()
        for backfill in self.all_backfills():
            is_own = backfill.schedule == entry.definition.name
            if not is_own or backfill.cancelled or backfill.until_ns <= entry.done_ns:
                continue
            ticks = self.ticks_of_backfill(backfill)
            if backfill.parameters and values_of(entry, ticks[0], backfill.parameters):
                # This backfill has parameters of its own, so that the ticks stay
                # undecided.
                continue
            claimed.update(ticks[backfill.place :])
            claimed.update(
                run.slot_ns for run in backfill.runs.values() if not run.is_begun
            )
        entry.claimed = frozenset(tick for tick in claimed if tick > entry.done_ns)

    def declared(self, new: Definition) -> None:
        """
        Note that the program declares a schedule, under the lock.

        Its backfills may go on. Another schedule may be this one under an old name:
        while the program may still declare it, it only waits, and keeps its ticks.
        """
        for backfill in self._backfills.values():
            if backfill.schedule == new.name:
                backfill.trouble, backfill.look_ns = "", 0
        for name, entry in self.schedules().items():
            old = entry.definition
            if name in self.works or old.source != "code":
                continue
            is_same = old.work == new.work and old.parameters == new.parameters
            if is_same and old.timing() == new.timing():
                entry.renamed = new.name

    def say_what_is_gone(self, now: int) -> int | None:
        """
        Report schedules that this incarnation does not declare, once it had time to.

        Returns:
            The next time to ask, by the system's clock; None: never.
        """
        self.since_ns = self.since_ns or now
        if now < self.declared_by:
            return self.declared_by
        if self._has_said:
            return None
        self._has_said = True
        with self.making, self.lock:
            gone: list[LiveSchedule] = []
            for name, entry in self.schedules().items():
                definition = entry.definition
                if entry.work is None:
                    _LOG.warning("schedule %s: %s", name, nobody_said(definition))
                if name in self.works or definition.source != "code":
                    continue
                if not definition.undeclared_ns:
                    entry.definition = attrs.evolve(definition, undeclared_ns=now)
                    gone.append(entry)
                if entry.renamed:
                    _LOG.warning(
                        "schedule %s makes nothing: the program says %s instead, which "
                        "makes the same",
                        *(name, entry.renamed),
                    )
                elif entry.work is not None and not definition.paused:
                    _LOG.warning(
                        "schedule %s is no longer declared by the program, and goes "
                        "on: orch.schedules.remove(%r) ends it",
                        *(name, name),
                    )
            self.keep(*gone)
        return None

    @property
    def declared_by(self) -> int:
        """The time, in ns, until which the program may still declare its schedules."""
        return self.since_ns + _TO_DECLARE

    def set_back(self, now: int) -> None:
        """Plan all schedules anew, as the system's clock was set back."""
        with self.making, self.lock:
            ahead = [e for e in self.schedules().values() if e.done_ns > now + _BACK]
            for entry in ahead:
                before_ns = max(entry.definition.before_ns, entry.done_ns)
                entry.definition = attrs.evolve(entry.definition, before_ns=before_ns)
                entry.progress.done_ns = now
            self.keep(*ahead)
            for entry in self.schedules().values():
                self.plan(entry)
            for backfill in self.backfills().values():
                backfill.look_ns = 0

    def reset(self) -> None:
        """Forget everything at the start of a new incarnation."""
        with self.lock:
            self._entries = None
            self.since_ns, self._has_said = 0, False


def _readable(documents: Mapping[str, str]) -> Iterator[Backfill]:
    """Read the backfills in *documents*; leave out the unreadable ones."""
    for key, text in documents.items():
        try:
            yield read_backfill(text)
        except _NONE_OF_OURS as error:
            _LOG.warning("the document %s of backfills is left out: %r", key, error)


def keep_text(kernel: Kernel, extension: str, key: str, text: str, now: int) -> None:
    """Keep a changed document in a step; drop it if it is empty."""
    if kernel.kept.get(extension, {}).get(key, "") != text:
        kernel.keep_document(extension, key, text, now)
