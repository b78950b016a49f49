"""What is made again and again: `orch.schedules`, and that of a simulation."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from taskorch._frozen import frozen
from taskorch._limits import NS
from taskorch._vocabulary import meant
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    UnknownTaskError,
    UsageError,
)
from taskorch.model import TERMINAL, Task, check_count
from taskorch.model._show import show
from taskorch.runtime._clock import wall
from taskorch.runtime._interrupts import defers_interrupts
from taskorch.schedules import (
    Definition,
    Importable,
    Times,
    define,
    moment_ns,
    of_workflow,
    read_definition,
    slot_name,
)
from taskorch.workflows import Workflow

if TYPE_CHECKING:
    from taskorch.kernel import Kernel
    from taskorch.protocols import DriverView
    from taskorch.runtime._runtime import Runtime

#: The driver of schedules, among others.
DRIVER: Final = "schedules"
#: With `catch_up="none"`, how late a slot may be, in ns.
_LATE: Final = 60 * NS
#: How far the system's clock must go back to be thought to have been set, in ns.
_BACK: Final = 3 * 3_600 * NS
#: Slots that are counted, or caught up with, at one time.
_MOST: Final = 10_000
#: How often is looked whether a run has ended for which another waits, in ns.
_LOOK: Final = NS // 2
#: Seconds until a slot that was refused is tried again.
_AGAIN: Final = 30
#: What a document says of what is made.
_MADE: Final = ("task", "workflow")
#: How long the name of a slot may be.
_LENGTHS: Final = (16, 18, 25)
#: Slots in one backfill.
_BACKFILL: Final = 100_000


@frozen
class ScheduleStatus:
    """
    How a schedule stands.

    Attributes:
        name: Its name.
        when: Its times.
        zone: The zone of its times.
        makes: What it makes: the type of a task, or the name of a workflow.
        catch_up: What becomes of slots that were missed.
        overlap: What becomes of a slot while the one before has not ended.
        jitter: Seconds within which slots are put off.
        next: Its next slot; None: there is none.
        done: Up to when its slots are done.
        running: The ids of what it made and has not ended.
        paused: Why it is paused, or "".
        trouble: Why the next slot will not come, or is late, or "".
        document: What it is, as in a document.
    """

    name: str
    when: str
    zone: str
    makes: str
    catch_up: str
    overlap: str
    jitter: float
    next: datetime | None
    done: datetime
    running: tuple[str, ...]
    paused: str
    trouble: str
    document: Mapping[str, Any]

    def __str__(self) -> str:
        made = f"{self.name} makes {self.makes} at {self.when!r} ({self.zone})."
        if self.paused:
            come = f"It is paused: {self.paused}."
        elif self.next is None:
            come = "It has no slot any more."
        else:
            come = f"Its next slot is {self.next.isoformat()}."
        said = [made, come]
        if self.running:
            what = {
                "skip": "a slot that comes before it has ended is skipped",
                "queue": "the next waits for it",
                "cancel": "the next cancels it",
            }[self.overlap]
            said.append(f"{', '.join(self.running)} has not ended: {what}.")
        if self.trouble:
            said.append(self.trouble)
        return " ".join(said)

    def to_dict(self) -> dict[str, Any]:
        """How the schedule stands, as JSON has it."""
        coming = self.next
        return {
            "name": self.name,
            "makes": self.makes,
            "next": None if coming is None else coming.isoformat(),
            "done": self.done.isoformat(),
            "running": list(self.running),
            "paused": self.paused,
            "trouble": self.trouble,
            "definition": dict(self.document),
            "text": str(self),
        }


class Host(ABC):
    """What schedules ask of an orchestrator, or of a simulation."""

    orch: Any

    @abstractmethod
    def schedules(self) -> dict[str, tuple[str, int]]:
        """The schedules that are known after a restart."""
        ...

    @abstractmethod
    def wall(self) -> int:
        """The time in ns that the system's clock shows."""
        ...

    @abstractmethod
    def step(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change* in one step."""
        ...

    @abstractmethod
    def start(self, workflow: Workflow, run_id: str) -> None:
        """Run a workflow."""
        ...

    @abstractmethod
    def unfinished(self) -> list[str]:
        """The ids of all tasks that have not ended."""
        ...

    @abstractmethod
    def _is_task_over(self, task_id: str) -> bool: ...

    def is_over(self, made_id: str, *, is_run: bool) -> bool:
        """Whether a task, or a run, has ended, or is not known."""
        try:
            if is_run:
                state: str = self.orch.workflows.status(made_id).state
                return state in ("completed", "failed", "cancelled")
            return self._is_task_over(made_id)
        except UnknownTaskError:
            return True

    def fault(self, error: Exception) -> None:
        """Say that a slot was refused."""
        self.orch.drivers.say(DRIVER, error)


@attrs.define(eq=False)
class _Entry:
    """A schedule of this life."""

    definition: Definition
    #: None: nobody has said yet what it makes, or it cannot be read.
    work: Task | Workflow | None
    times: Times
    done_ns: int
    #: The slot that comes next, and when it is due; None: none comes.
    slot_ns: int | None = None
    due_ns: int = 0
    #: What it made that may not have ended.
    made: list[str] = attrs.field(factory=list[str])
    #: Slots that have come, whose runs wait for the one before to end.
    waiting: list[int] = attrs.field(factory=list[int])
    #: When one that was refused is tried again, in ns.
    again_ns: int = 0
    #: Why the slot that is due does not come.
    trouble: str = ""

    @property
    def is_run(self) -> bool:
        return isinstance(self.work, Workflow)


_Told: TypeAlias = list[tuple[_Entry, int, str, str]]
_Entries: TypeAlias = list[_Entry]
_Statuses: TypeAlias = list[ScheduleStatus]
_Ids: TypeAlias = list[str]
_Slots: TypeAlias = list[int]
_Moments: TypeAlias = list[datetime]
_Heap: TypeAlias = list[tuple[int, int, str]]


class ScheduleManager:
    """
    `orch.schedules`: what is made again and again, at times of cron or at distances.

    A slot has a task of the id `name/2026-11-25T0300Z`, its time in UTC; a workflow
    has a run `name-2026-11-25T0300Z`. So it is made once, in any number of lives. With
    a journal, schedules are kept: the next life goes on with them, and catches up. What
    only code can say (a lambda) is kept by its name, and must be added again.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._entries: dict[str, _Entry] | None = None
        #: Of this life's code: what each makes.
        self._works: dict[str, Task | Workflow] = {}
        self._heap: _Heap = []
        self._number = 0
        self._lock = threading.RLock()

    # -- saying what there is ------------------------------------------------------

    def add(
        self,
        name: str,
        when: str | float | timedelta | None,
        what: Task | Workflow | Callable[..., Any],
        *,
        zone: str = "UTC",
        catch_up: str = "last",
        overlap: str = "skip",
        jitter: float | timedelta = 0.0,
        start: datetime | str | float | None = None,
        end: datetime | str | float | None = None,
    ) -> ScheduleStatus:
        """
        Add a schedule, or change the one of this name.

        What is added again as it is goes on as it was. If its times are others, those
        of the old ones that have not come are skipped, which an event says.

        Args:
            name: Its name, one word.
            when: `"0 3 * * *"`, in the five fields of cron or in six with seconds;
                `"@daily"`; `"every 15m"`; or seconds, or a timedelta.
            what: A task without an id, a workflow, or a function without arguments.
                Of a workflow that says a schedule in its document, *when* may be None.
            zone: The name of a zone: there, cron's fields are read. Distances count
                from *start*, or from the beginning of 1970.
            catch_up: What becomes of slots that were missed, as nobody was here:
                `"last"` makes one, for the last; `"all"` makes all, one after the
                other; `"none"` none that is later than a minute.
            overlap: What becomes of a slot while what was made for the one before has
                not ended: `"skip"` makes nothing, `"queue"` lets it wait, `"cancel"`
                cancels the one before.
            jitter: Seconds, within which each slot is put off: by chance, but always
                the same.
            start: No slot is before.
            end: No slot is after.

        Returns:
            How it stands.

        Raises:
            InvalidTaskError: An argument cannot be, or the times never come.
            ImportError: Times of cron need cronsim: `pip install 'taskorch[cron]'`.
        """
        if when is None:
            options = zone, catch_up, overlap, jitter, start, end
            return self._put(*of_workflow(name, what, options))
        definition, work = define(
            name,
            when,
            what,
            zone=zone,
            catch_up=catch_up,
            overlap=overlap,
            jitter=jitter,
            start=start,
            end=end,
        )
        return self._put(definition, work)

    def add_document(
        self,
        name: str,
        document: Mapping[str, Any],
        functions: Mapping[str, Callable[..., Any]] | None = None,
        *,
        programs: bool = True,
    ) -> ScheduleStatus:
        """
        Add a schedule that is said as a document: see `ScheduleStatus.document`.

        Args:
            name: Its name.
            document: `when`, the options of `add`, and a `task` or a `workflow`.
            functions: What its calls may name.
            programs: Whether programs may be run.

        Raises:
            InvalidTaskError: It is not well formed.
        """
        definition, work = read_definition(name, document, functions, programs=programs)
        if work is None:
            msg = f"schedule {name!r} does not say what it makes"
            raise InvalidTaskError(msg, hint="task: {program: [echo, hello]}")
        return self._put(definition, work)

    def _put(self, definition: Definition, work: Task | Workflow) -> ScheduleStatus:
        host, name, now = self._host, definition.name, self._host.wall()
        with self._lock:
            entries = self._known()
            self._works[name] = work
            entry = entries.get(name)
            if entry is None:
                entry = _Entry(definition, work, definition.times(), now)
                entries[name] = entry
                self._keep(entry)
            else:
                old = entry.definition
                if not definition.paused:
                    definition = attrs.evolve(definition, paused=old.paused)
                if definition.timing() != old.timing():
                    self._pass_over(entry, now, "its times were changed before")
                    entry.done_ns = max(entry.done_ns, now)
                entry.definition, entry.work = definition, work
                entry.times, entry.trouble = definition.times(), ""
                if definition != old:
                    self._keep(entry)
            self._plan(entry)
        host.orch.drivers.wake(DRIVER)
        return self.status(name)

    def remove(self, name: str) -> bool:
        """
        Remove a schedule: what it has made goes on; False if there is none.

        Raises:
            JournalError: It cannot be kept.
        """
        with self._lock:
            entry = self._known().pop(name, None)
            if entry is None:
                return False
            if entry.waiting:
                why, count = "the schedule was removed", len(entry.waiting)
                self._skip(entry, entry.waiting[-1], count, why)
            self._works.pop(name, None)
            self._host.step(
                lambda kernel, now: kernel.change_schedule(name, "", 0, now), keep=True
            )
        return True

    def pause(self, name: str, reason: str = "paused by the user") -> bool:
        """
        Make nothing for the slots that come, until `resume`; False if it is paused.

        Args:
            name: The schedule.
            reason: Why.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        if not (reason and isinstance(reason, str)):
            msg = f"a reason is a text, not {show(reason)}"
            raise InvalidTaskError(msg)
        with self._lock:
            entry = self._entry(name)
            if entry.definition.paused:
                return False
            entry.definition = attrs.evolve(entry.definition, paused=reason)
            self._keep(entry)
        return True

    def resume(self, name: str) -> bool:
        """
        Go on; the slots that came meanwhile are skipped. False if it is not paused.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        with self._lock:
            entry = self._entry(name)
            reason = entry.definition.paused
            if not reason:
                return False
            now = self._host.wall()
            self._pass_over(entry, now, f"it was paused: {reason}")
            entry.definition = attrs.evolve(entry.definition, paused="")
            self._keep(entry)
            self._plan(entry)
        self._host.orch.drivers.wake(DRIVER)
        return True

    def trigger(self, name: str) -> str:
        """
        Make now what it makes, besides its slots, whatever else of it goes on.

        Returns:
            The id of the task, or of the run.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: Nobody has said in this life what it makes.
        """
        with self._lock:
            entry = self._entry(name)
            now = self._host.wall() // 1_000 * 1_000
            while entry.definition.slot_id(now) in entry.made:
                now += 1_000
            made_id = entry.definition.slot_id(now)
            self._make(entry, now, ())
            self._tell([(entry, now, made_id, "trigger")])
        return made_id

    def backfill(
        self,
        name: str,
        since: datetime | str | float,
        until: datetime | str | float,
    ) -> _Ids:
        """
        Make what would have been made from *since* to *until*, one after the other.

        A slot that has its task already keeps it: nothing is made twice.

        Args:
            name: The schedule.
            since: The first moment: a datetime, an ISO text, or seconds; without a zone
                it is in that of the schedule.
            until: The last moment, which is not later than now.

        Returns:
            The ids of the tasks, or of the runs.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: They are no moments, or there are too many slots.
        """
        with self._lock:
            entry = self._entry(name)
            first = moment_ns("since", since, entry.times.zone)
            last = moment_ns("until", until, entry.times.zone)
            if first is None or last is None or last < first:
                msg = "backfill goes from a moment to a later one"
                raise InvalidTaskError(msg)
            last = min(last, self._host.wall())
            slots = []
            for slot in _slots(entry, first - 1, last):
                slots.append(slot)
                if len(slots) > _BACKFILL:
                    msg = f"more than {_BACKFILL:,} slots are between the two"
                    raise InvalidTaskError(msg, hint="backfill in parts")
            made: _Ids = []
            for slot in slots:
                self._make(entry, slot, made[-1:])
                made.append(entry.definition.slot_id(slot))
            self._tell(
                [
                    (entry, slot, made_id, "backfill")
                    for slot, made_id in zip(slots, made, strict=True)
                ]
            )
        return made

    # -- asking --------------------------------------------------------------------

    def next(self, name: str, count: int = 1) -> _Moments:
        """
        Return the next slots, in the zone of the schedule, jitter left out.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: *count* is no number.
        """
        check_count("count", count, least=1)
        with self._lock:
            entry = self._entry(name)
            since = max(self._host.wall(), entry.done_ns)
            found: _Moments = []
            for slot in _slots(entry, since, None):
                found.append(_moment(slot, entry))
                if len(found) == count:
                    break
        return found

    def status(self, name: str) -> ScheduleStatus:
        """
        How a schedule stands: `str()` of it says when next, and why not now.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        with self._lock:
            entry = self._entry(name)
            said = entry.definition
            work = entry.work
            makes = next(iter(said.work.values()), "?") if work is None else ""
            if isinstance(work, Workflow):
                makes = work.name
            elif work is not None:
                makes = work.type
            trouble = entry.trouble or ("" if work is not None else _nobody_said(said))
            first = next(_slots(entry, max(entry.done_ns, 0), None), None)
            self._forget_ended(entry)
            return ScheduleStatus(
                name=name,
                when=said.when,
                zone=said.zone,
                makes=str(makes),
                catch_up=said.catch_up,
                overlap=said.overlap,
                jitter=said.jitter,
                next=None if first is None else _moment(first, entry),
                done=_moment(entry.done_ns, entry),
                running=tuple(entry.made),
                paused=said.paused,
                trouble=trouble,
                document=said.document(),
            )

    def list(self) -> _Statuses:
        """Return all schedules, in the order of their names."""
        with self._lock:
            return [self.status(name) for name in sorted(self._known())]

    def restore(self, documents: Mapping[str, Any]) -> None:
        """
        Go on with what earlier lives have left, and add those that a file says.

        Raises:
            InvalidTaskError: One of *documents* is not well formed.
        """
        self.list()
        for name, said in documents.items():
            self.add_document(name, said, Importable())

    def explain(self, name: str) -> str:
        """
        When its next slot comes, and why none comes now.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        return str(self.status(name))

    # -- inside --------------------------------------------------------------------

    def _known(self) -> dict[str, _Entry]:
        """Under the lock: the schedules, as the journal has them at first."""
        if self._entries is None:
            self._entries = {}
            self._heap.clear()
            told = self._host.schedules()
            for name, (text, done_ns) in told.items():
                self._entries[name] = self._read(name, json.loads(text), done_ns)
            if told:
                self._find_unfinished()
            for entry in self._entries.values():
                self._plan(entry)
        return self._entries

    def _read(self, name: str, said: dict[str, Any], done_ns: int) -> _Entry:
        work: Task | Workflow | None = None
        try:
            definition, work = read_definition(name, said, Importable())
        except (UsageError, ValueError):
            # What it calls is not here. It is known all the same.
            called = {"code": str(next(iter(said.get("task", said).values()), "?"))}
            plain = {k: v for k, v in said.items() if k not in ("task", "workflow")}
            definition, _ = read_definition(name, {**plain, **called})
            made: dict[str, Any] = {k: said[k] for k in _MADE if k in said}
            definition = attrs.evolve(definition, work=made)
        work = self._works.get(name, work)
        return _Entry(definition, work, definition.times(), done_ns)

    def _find_unfinished(self) -> None:
        """What earlier lives have made, and has not ended."""
        assert self._entries is not None  # noqa: S101 - it was just made
        for task_id in self._host.unfinished():
            stem = task_id.partition("~")[0]
            name, _, rest = stem.partition("/")
            entry = self._entries.get(name)
            if entry is not None and rest:
                entry.made.append(stem)
                continue
            # A run of a workflow: its id is the name, a dash and the slot.
            for length in _LENGTHS:
                found = self._entries.get(name[: -length - 1])
                if found is not None and name not in found.made:
                    found.made.append(name)

    def _entry(self, name: str) -> _Entry:
        entry = self._known().get(name)
        if entry is None:
            msg = f"there is no schedule {show(name)}"
            known = sorted(self._known())
            hint = meant(name, known, f"there are {', '.join(known) or 'none at all'}")
            raise UnknownTaskError(msg, hint=hint, task_id=str(name))
        return entry

    def _keep(self, entry: _Entry) -> None:
        said = entry.definition
        text, done_ns = said.text(), entry.done_ns
        if entry.waiting:
            # They are not done: the next life comes back to them.
            done_ns = min(done_ns, entry.waiting[0] - 1)
        self._host.step(
            lambda kernel, now: kernel.change_schedule(said.name, text, done_ns, now),
            keep=True,
        )

    def _plan(self, entry: _Entry, not_before: int = 0) -> None:
        """Under the lock: note when the next slot is due."""
        slot = next(_slots(entry, entry.done_ns, None), None)
        entry.slot_ns = slot
        if slot is None:
            return
        due = max(slot + entry.definition.put_off_ns(slot), not_before)
        entry.due_ns = due
        self._number += 1
        heappush(self._heap, (due, self._number, entry.definition.name))

    def _pass_over(self, entry: _Entry, now: int, why: str) -> None:
        """Under the lock: the slots up to *now* that have not come are skipped."""
        slots, last = _missed(entry, now)
        if slots:
            self._skip(entry, last, len(slots), why)

    def _skip(self, entry: _Entry, slot: int, count: int, why: str) -> None:
        name = entry.definition.name
        self._host.step(
            lambda kernel, now: kernel.skip_schedule(name, slot, count, why, now),
            keep=False,
        )
        entry.done_ns = max(entry.done_ns, slot)

    def _forget_ended(self, entry: _Entry) -> None:
        entry.made = [
            made_id
            for made_id in entry.made
            if not self._host.is_over(made_id, is_run=entry.is_run)
        ]

    def due(self, now: int) -> tuple[_Entries, int | None]:
        """What is due by *now*, of the system's clock; and when something is next."""
        with self._lock:
            entries = self._known()
            heap, found = self._heap, dict[str, _Entry]()
            while heap and heap[0][0] <= now:
                due, _, name = heappop(heap)
                entry = entries.get(name)
                # It may have been changed since.
                if entry is not None and entry.due_ns == due and entry.slot_ns:
                    found[name] = entry
            coming = heap[0][0] if heap else None
            for name, entry in entries.items():
                if entry.waiting and not entry.definition.paused:
                    self._forget_ended(entry)
                    if not entry.made and now >= entry.again_ns:
                        found[name] = entry
                        continue
                    look = max(now + _LOOK, entry.again_ns)
                    coming = look if coming is None else min(coming, look)
            return [*found.values()], coming

    def carry_out(self, entries: _Entries, now: int) -> None:
        """Make what is due of *entries*, or say why not, and plan what is next."""
        with self._lock:
            known = self._known()
            together: _Told = []
            for entry in entries:
                if known.get(entry.definition.name) is entry:
                    try:
                        together += self._due_of(entry, now)
                    except UsageError as error:
                        self._refused(entry, error, now)
            self._submit(together, now)

    def _due_of(self, entry: _Entry, now: int) -> _Told:
        """What is to be submitted with others; all else of *entry* is done here."""
        said = entry.definition
        if said.paused:
            # They are skipped once it goes on: one event says how many.
            return []
        if entry.work is None:
            entry.trouble = _nobody_said(said)
            return []
        slots = self._caught_up(entry, now)
        self._forget_ended(entry)
        if slots and entry.made and said.overlap == "skip" and len(slots) == 1:
            self._skip(entry, slots[0], 1, f"{entry.made[-1]} has not ended")
            slots = []
        if slots and entry.made and said.overlap == "cancel":
            self._cancel(entry)
        if entry.is_run and said.overlap == "queue":
            slots = self._first_of(entry, slots)
        if len(slots) == 1 and not entry.made and not entry.is_run:
            return [(entry, slots[0], said.slot_id(slots[0]), "clock")]
        told: _Told = []
        for slot in slots:
            self._make(entry, slot, entry.made[-1:])
            told.append((entry, slot, said.slot_id(slot), "clock"))
        if entry.waiting and told:
            del entry.waiting[0]
        if told:
            self._tell(told)
        self._plan(entry)
        return []

    def _first_of(self, entry: _Entry, slots: _Slots) -> _Slots:
        """The slot whose run may begin now: one at a time, the others wait."""
        entry.waiting += slots
        if slots:
            entry.done_ns = max(entry.done_ns, slots[-1])
        return [] if entry.made else entry.waiting[:1]

    def _caught_up(self, entry: _Entry, now: int) -> _Slots:
        """The slots that are due and are to be made; the others are skipped."""
        said = entry.definition
        slots, last = _missed(entry, now)
        if not slots or said.catch_up == "all":
            return slots
        latest = last + _LATE + int(said.jitter * NS)
        kept = [last] if said.catch_up == "last" or now <= latest else []
        count = len(slots) - len(kept)
        if count:
            before = slots[count - 1] if kept else last
            self._skip(entry, before, count, "nobody was here when they came")
        return kept

    def _cancel(self, entry: _Entry) -> None:
        why = f"the next slot of {entry.definition.name} has come"
        for made_id in entry.made:
            if entry.is_run:
                self._host.orch.workflows.cancel(made_id, reason=why)
            else:
                self._host.orch.cancel_task(made_id, reason=why)

    def _make(self, entry: _Entry, slot: int, after: Any) -> None:
        """Make what a slot is for; *after* names what must have ended before."""
        said, work = entry.definition, entry.work
        if work is None:
            raise InvalidTaskError(_nobody_said(said))
        made_id = said.slot_id(slot)
        # It is there already, if it was made in an earlier life, and edited since.
        with suppress(DuplicateTaskError):
            if isinstance(work, Workflow):
                self._host.start(work, made_id)
            else:
                self._host.orch.submit_task(_task_of(work, made_id, tuple(after)))
        entry.made.append(made_id)

    def _tell(self, told: _Told) -> None:
        """Note which slots have their tasks."""

        def change(kernel: Kernel, now: int) -> None:
            for entry, slot, made_id, by in told:
                kernel.fire_schedule(entry.definition.name, slot, made_id, by, now)

        self._host.step(change, keep=False)
        for entry, slot, _, by in told:
            if by == "clock":
                entry.done_ns = max(entry.done_ns, slot)
                entry.trouble = ""

    def _submit(self, together: _Told, now: int) -> None:
        """Submit what is due of many, at once if it can be."""
        tasks = [
            _task_of(entry.work, made_id, ())
            for entry, _, made_id, _ in together
            if isinstance(entry.work, Task)
        ]
        try:
            self._host.orch.submit_tasks(tasks)
        except UsageError as refused:
            if len(together) == 1 and not isinstance(refused, DuplicateTaskError):
                self._refused(together[0][0], refused, now)
                return
            if len(together) > 1:
                for each in together:
                    self._submit([each], now)
                return
        for entry, _, made_id, _ in together:
            entry.made.append(made_id)
        if together:
            self._tell(together)
        for entry, _, _, _ in together:
            self._plan(entry)

    def _refused(self, entry: _Entry, error: UsageError, now: int) -> None:
        """What is due was refused: it is tried again, and everybody hears why."""
        entry.trouble = f"It was refused, and is tried again: {error}."
        self._host.fault(error)
        entry.again_ns = now + _AGAIN * NS
        self._plan(entry, entry.again_ns)

    def set_back(self, now: int) -> None:
        """The system's clock was set back: what is due by it now, comes now."""
        with self._lock:
            for entry in self._known().values():
                if entry.done_ns > now + _BACK:
                    entry.done_ns = now
                    self._keep(entry)
                self._plan(entry)

    def reset(self) -> None:
        """A new life begins."""
        with self._lock:
            self._entries = None


@frozen
class _CarryOut:
    """The command of the driver: make what is due."""

    schedules: ScheduleManager
    entries: list[_Entry]
    wall_ns: int

    def apply(self, _orchestrator: Any, /) -> None:
        """Do it."""
        self.schedules.carry_out(self.entries, self.wall_ns)


class ScheduleDriver:
    """Looks what is due: see `taskorch.protocols.Driver`."""

    name: str = DRIVER
    watches: tuple[Any, ...] = ()

    def __init__(self, schedules: ScheduleManager) -> None:
        self._schedules = schedules
        #: The latest that the system's clock has shown.
        self._latest = 0

    def __deepcopy__(self, _memo: object) -> ScheduleDriver:
        self._schedules.reset()
        return ScheduleDriver(self._schedules)

    def tick(
        self, view: DriverView, now: float
    ) -> tuple[list[_CarryOut], float | None]:
        """Look what is due by the system's clock."""
        wall_ns = round(view.wall * 1_000_000) * 1_000
        if not self._latest or wall_ns < self._latest - _BACK:
            self._schedules.set_back(wall_ns)
        self._latest = wall_ns
        entries, coming = self._schedules.due(wall_ns)
        when = None if coming is None else now + (coming - wall_ns) / NS
        if not entries:
            return [], when
        # What is planned by the command is asked for after it.
        return [_CarryOut(self._schedules, entries, wall_ns)], now + 0.001


def _slots(entry: _Entry, after_ns: int, until_ns: int | None) -> Iterator[int]:
    """The slots after a time, up to another."""
    said = entry.definition
    if said.start_ns is not None:
        after_ns = max(after_ns, said.start_ns - 1)
    slot = entry.times.after(after_ns)
    while slot is not None:
        if until_ns is not None and slot > until_ns:
            return
        if said.end_ns is not None and slot > said.end_ns:
            return
        yield slot
        slot = entry.times.after(slot)


def _missed(entry: _Entry, now: int) -> tuple[list[int], int]:
    """The slots that are due and not done, as far as they are counted; and the last."""
    found: list[int] = []
    for slot in _slots(entry, entry.done_ns, now):
        if slot + entry.definition.put_off_ns(slot) > now:
            break
        found.append(slot)
        if len(found) == _MOST:
            end_ns = entry.definition.end_ns
            last = entry.times.until(now if end_ns is None else min(now, end_ns))
            return found, found[-1] if last is None else max(last, found[-1])
    return found, found[-1] if found else 0


def _task_of(work: Task, made_id: str, after: tuple[str, ...]) -> Task:
    if not after:
        return attrs.evolve(work, id=made_id)
    parents = (*work.after, *after)
    return attrs.evolve(
        work, id=made_id, after=parents, join="finished", on_parent_failure="run"
    )


def _moment(ns: int, entry: _Entry) -> datetime:
    return datetime.fromtimestamp(ns / NS, UTC).astimezone(entry.times.zone)


def _nobody_said(said: Definition) -> str:
    what = next(iter(said.work.values()), "?")
    return (
        f"Nobody has said in this life what {said.name} makes ({show(what)}): "
        f"orch.schedules.add({said.name!r}, …) does."
    )


class RuntimeHost(Host):
    """An orchestrator, as schedules ask it."""

    def __init__(self, runtime: Any, orch: Any) -> None:
        self._rt: Runtime = runtime
        self.orch = orch

    def schedules(self) -> dict[str, tuple[str, int]]:
        """The schedules that are known after a restart."""
        self._rt.look_up()
        with self._rt.lock:
            return dict(self._rt.kernel.schedules)

    def wall(self) -> int:
        """The time in ns that the system's clock shows."""
        return int(wall() * 1_000_000) * 1_000

    def step(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change* in one step."""
        rt = self._rt
        rt.step(lambda now: change(rt.kernel, now), keep=keep)

    def start(self, workflow: Workflow, run_id: str) -> None:
        """Run a workflow."""
        self.orch.workflows.start(workflow, id=run_id)

    @defers_interrupts
    def unfinished(self) -> list[str]:
        """The ids of all tasks that have not ended."""
        with self._rt.lock:
            rows = list(self._rt.kernel.tasks.values())
        return [row.id for row in rows if row.state not in TERMINAL]

    def _is_task_over(self, task_id: str) -> bool:
        return self.orch.get_task_status(task_id).state in TERMINAL


class SimulationHost(Host):
    """A simulation, as schedules ask it."""

    def __init__(self, simulation: Any) -> None:
        self.orch = simulation

    def _life(self) -> Any:
        return self.orch.world.living()

    def schedules(self) -> dict[str, tuple[str, int]]:
        """The schedules that are known after a restart."""
        return dict(self._life().kernel.schedules)

    def wall(self) -> int:
        """The time in ns that the system's clock shows."""
        now: int = self._life().now()
        return now

    def step(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change* in one step."""
        del keep
        life = self._life()
        self.orch.world.do(lambda: change(life.kernel, life.now()))

    def start(self, workflow: Workflow, run_id: str) -> None:
        """Run a workflow."""
        self.orch.world.do(lambda: self.orch.workflows.start(workflow, id=run_id))

    def unfinished(self) -> list[str]:
        """The ids of all tasks that have not ended."""
        rows = self._life().kernel.tasks.values()
        return [row.id for row in rows if row.state not in TERMINAL]

    def _is_task_over(self, task_id: str) -> bool:
        return self._life().state_of(task_id) in (None, *TERMINAL)


def schedules_of(host: Host) -> ScheduleManager:
    """The schedules of an orchestrator or of a simulation, and their driver."""
    manager = ScheduleManager(host)
    host.orch.drivers.add(ScheduleDriver(manager))
    return manager


__all__ = ("ScheduleManager", "ScheduleStatus", "slot_name")
