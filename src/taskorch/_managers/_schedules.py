"""
What is made again and again: `orch.schedules`, and that of a simulation.

Decisions: 0085, 0096, 0126, 0127, 0143, 0217, 0219, 0255.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import islice, takewhile
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from taskorch._managers._versions import (
    AS_IT_WAS,
    Deployed,
    Move,
    check_which,
)
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    NotRunningError,
    UnknownTaskError,
    UsageError,
)
from taskorch.events import (
    ScheduleChanged,
    ScheduleFired,
    ScheduleQueued,
    ScheduleSkipped,
)
from taskorch.kit.checks import called_as, check_count, check_word
from taskorch.kit.clock import wall
from taskorch.kit.fence import log_of
from taskorch.kit.frozen import frozen
from taskorch.kit.interrupts import defers_interrupts
from taskorch.kit.limits import NS
from taskorch.kit.plain import BACKFILLS, SCHEDULES, VERSIONS
from taskorch.kit.ticks import TickProgress, read_progress, ticks_of
from taskorch.kit.verbs import TEXT, lacks, verb
from taskorch.kit.visible import said, show
from taskorch.kit.vocabulary import meant, other_attribute
from taskorch.kit.words import some
from taskorch.model import TERMINAL, HealthCheck, MadeFor, Task, TaskState
from taskorch.model.ids import (
    first_of,
    has_segments,
    in_run,
    run_of,
    stem_of,
)
from taskorch.schedules import (
    MOST_AT_ONCE,
    ORDERS,
    ORIGIN,
    Backfill,
    Backfilled,
    BackfillStatus,
    Definition,
    Importable,
    SlotTimes,
    TickRun,
    Work,
    define,
    moment_ns,
    of_workflow,
    read_backfill,
    read_definition,
    slot_name,
)
from taskorch.workflows import Workflow, WorkflowFunction
from taskorch.workflows._functions import checked, declared_by, written
from taskorch.workflows._parameters import (
    DIGESTS,
    SLOT,
    as_json,
    as_text,
    by_names,
    digest_of,
    fields,
    kept,
)

if TYPE_CHECKING:
    from taskorch.kernel import Kernel
    from taskorch.protocols import DriverView
    from taskorch.runtime import Runtime

#: The driver of schedules, among others.
DRIVER: Final = "schedules"
#: With `catch_up="none"`, how late a slot may be, in ns.
_LATE: Final = 60 * NS
#: How far the system's clock must go back to be thought to have been set, in ns.
_BACK: Final = 3 * 3_600 * NS
#: How far ahead of the clock what is done must be, or what the clock has shown, for the
#: clock to be set back, in ns.
_AHEAD: Final = NS
#: Slots of cron that are counted at one time.
_MOST: Final = 10_000
#: Slots that are made at one time: what others ask is answered in between.
_BATCH: Final = 200
#: How often is looked whether a run has ended for which another waits, in ns: more
#: often while the run is young.
_LOOK: Final = (NS // 50, NS // 2)
#: Seconds until a slot that was refused is tried again.
_AGAIN: Final = 30
#: How long after it was added a schedule makes its first, in ns: a function that is
#: being decorated is not in its module yet.
_DECORATING: Final = NS // 20
#: How long a life has to say its schedules, before those that it has not are told, in
#: ns.
_TO_DECLARE: Final = 2 * NS
#: Why a schedule is paused that came from a file.
_NOT_IN_FILE: Final = "the configuration does not say it any more"
#: What a document says of what is made.
_MADE: Final = ("task", "workflow")
#: Seconds between two looks whether a backfill came further.
_BETWEEN_LOOKS: Final = 0.25
#: Slots in one backfill.
_BACKFILL: Final = 100_000
#: Backfills that are kept, if more have not ended: the latest of those that have.
_KEPT: Final = 50
#: The longest time until it is looked whether a run of a backfill has ended, in ns.
_SELDOM: Final = NS
#: Seconds for which a schedule says that the id of a slot was another's.
_TAKEN: Final = 3_600
#: Schedules with troubles that the health names.
_SHOWN: Final = 5
_NO_SUCH_VALUES: Final = (
    "the parameters of a backfill are texts, numbers, flags and times"
)
_TWO: Final = "a schedule has two documents, the objects NAME and NAME/ticks"
#: What reading a document raises that somebody else has written.
_NONE_OF_OURS: Final = (
    *(AttributeError, LookupError, TypeError, ValueError, ArithmeticError),
    UsageError,
)
_LOG: Final = log_of(__name__)


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
        summary = f"{self.name} makes {self.makes} at {self.when!r} ({self.zone})."
        if self.paused:
            come = f"It is paused: {self.paused}."
        elif self.next is None:
            come = "It has no slot any more."
        else:
            come = f"Its next slot is {self.next.isoformat()}."
        sentences = [summary, come]
        if self.running:
            rule = {
                "skip": "a slot that comes before is skipped",
                "queue": "the next one waits",
                "cancel": "the next one cancels what runs",
            }[self.overlap]
            have = "has" if len(self.running) == 1 else "have"
            sentences.append(f"{some(self.running)} {have} not ended: {rule}.")
        if self.trouble:
            sentences.append(self.trouble)
        return " ".join(sentences)

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


class ScheduleHost(ABC):
    """What schedules ask of an orchestrator, or of a simulation."""

    orch: Any

    @abstractmethod
    def kernel(self) -> AbstractContextManager[Kernel]:
        """The kernel, which nobody changes meanwhile."""
        ...

    @abstractmethod
    def wall(self) -> int:
        """The time in ns that the system's clock shows."""
        ...

    @abstractmethod
    def now(self) -> int:
        """The time in ns of what happens: it never goes back."""
        ...

    @abstractmethod
    def step(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change* in one step."""
        ...

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> None:
        """Submit tasks: all, or none."""
        ...

    @abstractmethod
    def start(
        self,
        workflow: Workflow,
        run_id: str,
        note: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        """Run a workflow, with *note* among the metadata of its tasks."""
        ...

    @abstractmethod
    def unfinished(self) -> list[tuple[str, Mapping[str, Any] | None]]:
        """The ids of all tasks that have not ended, and their metadata."""
        ...

    @abstractmethod
    def states(self, task_ids: Sequence[str]) -> dict[str, TaskState]:
        """The states of the latest runs of tasks, as far as they are known."""
        ...

    @abstractmethod
    def again(self, task_id: str, *, downstream: bool) -> str:
        """Run a task again that has ended: the id of the new run."""
        ...

    def held(self) -> set[str]:
        """The tasks, and the runs of those, that are held until somebody decides."""
        return set()

    def declares(self) -> bool:
        """Whether the program says which schedules there are; a command does not."""
        return True

    def known(self, made_ids: Sequence[str]) -> set[str]:
        """Which tasks and runs there are, of any life."""
        return {*self.states_of_all(made_ids)}

    def ended(self, made_ids: Sequence[str]) -> set[str]:
        """Which tasks and runs have ended, or are not known."""
        states = self.states_of_all(made_ids)
        return {
            made_id
            for made_id in made_ids
            if states.get(made_id, TaskState.COMPLETED) in TERMINAL
        }

    def parameters_of(self, made_id: str) -> Mapping[str, Any]:
        """
        The parameters that are noted with a task, or with a run.

        Raises:
            UnknownTaskError: There is none.
        """
        if is_run(made_id):
            noted: Mapping[str, Any] = self.orch.workflows.status(made_id).parameters
            return noted
        return MadeFor(self.orch.get_task_status(made_id).metadata).parameters

    def is_made_by(self, made_id: str, schedule: str) -> bool:
        """Whether a schedule has made a task or a run, which may be another's."""
        try:
            names = self.orch.workflows.status(made_id).tasks if is_run(made_id) else ()
            task_id = next((in_run(made_id, each) for each in names), made_id)
            status = self.orch.get_task_status(task_id)
        except UnknownTaskError:
            return False
        return MadeFor(status.metadata).schedule == schedule

    def had_ended(self, made_id: str, at_ns: int) -> bool:
        """Whether a task, or a run, that has ended had done so by a time, in ns."""
        ids = [made_id]
        if is_run(made_id):
            names = self.orch.workflows.status(made_id).tasks
            ids = [in_run(made_id, name) for name in names]
        at = _as_status_says(at_ns)
        ends = [self.orch.get_task_status(each).ended for each in ids]
        return all(ended is None or ended <= at for ended in ends)

    def latest(self, made_id: str) -> str:
        """The id of the latest run of a task; of a run of a workflow, its id."""
        if is_run(made_id):
            return made_id
        latest: str = self.orch.get_task_status(made_id).task_id
        return latest

    def states_of_all(self, made_ids: Sequence[str]) -> dict[str, TaskState]:
        """The states of tasks and of runs, as far as they are known."""
        states = self.states([each for each in made_ids if not is_run(each)])
        for run_id in filter(is_run, made_ids):
            with suppress(UnknownTaskError):
                states[run_id] = self.orch.workflows.status(run_id).state
        return states

    def made_for(self, made_id: str) -> MadeFor:
        """Which slot of which schedule a task, or a run, was made for."""
        names = self.orch.workflows.status(made_id).tasks if is_run(made_id) else ()
        task_id = next((in_run(made_id, each) for each in names), made_id)
        return MadeFor(self.orch.get_task_status(task_id).metadata)

    def given_to(self, made_id: str) -> Mapping[str, Any] | None:
        """What it was given besides the schedule's parameters; None: nobody knows."""
        with self.kernel() as kernel:
            text = kernel.kept.get(VERSIONS, {}).get(made_id)
        values: Mapping[str, Any] | None = None
        if text is not None:
            values = json.loads(text).get("given", {})
        return values

    def go_over(self, made_id: str, deployed: Deployed, since_ns: int) -> bool:
        """
        Run all of it again as it is deployed, but for what was since a time, in ns.

        Returns:
            Whether it was another definition; else nothing is done.
        """
        move = Move(self.orch.workflows, made_id, deployed)
        if move:
            move.carry_out(move.due(lambda work: work._row.submitted_ns < since_ns))
        return bool(move)

    def run_again(self, run_id: str, since_ns: int) -> None:
        """Run all tasks of a run again, but for those that were since a time, in ns."""
        run = self.orch.workflows.get(run_id)
        handles = run.handles
        since = _as_status_says(since_ns)
        for name in handles:
            if any(each in handles for each in run._needs(name)):
                continue
            status = self.orch.get_task_status(in_run(run_id, name))
            submitted = status.submitted
            if submitted is None or submitted < since:
                self.again(in_run(run_id, name), downstream=True)

    def fault(self, name: str, error: Exception) -> None:  # noqa: ARG002 - for people
        """Say that a slot of a schedule, or of a backfill, was refused."""
        self.orch.drivers.say(DRIVER, error)


@attrs.define(eq=False)
class _Entry:
    """A schedule of this incarnation."""

    definition: Definition
    #: None: nobody has said yet what it makes, or it cannot be read.
    work: Work | None
    times: SlotTimes
    #: How far its ticks came. It is replaced, once that is kept.
    progress: TickProgress
    #: The slot that comes next, and when it is due; None: none comes.
    slot_ns: int | None = None
    due_ns: int = 0
    #: What it made that may not have ended, the latest last.
    made: dict[str, None] = attrs.field(factory=dict[str, None])
    #: Slots that are not decided about, and are a backfill's to make.
    claimed: frozenset[int] = frozenset()
    #: When it made something last, in ns.
    made_ns: int = 0
    #: An earlier life may have made slots, and died before it noted that.
    is_unsure: bool = False
    #: Slots up to this one may have been made by a schedule of its name that was
    #: removed, before the system's clock was set back.
    older_ns: int = 0
    #: When one that was refused is tried again, in ns.
    again_ns: int = 0
    #: Why the slot that is due does not come.
    trouble: str = ""
    #: Which slot could not be made, as its id was another's, and when that was.
    taken: str = ""
    taken_ns: int = 0
    #: The schedule that makes the same and was said in this life, as this one was not:
    #: it has another name now, and makes nothing under the old one.
    renamed: str = ""

    @property
    def is_run(self) -> bool:
        return isinstance(self.work, Workflow | WorkflowFunction)

    @property
    def before_ns(self) -> int:
        """Up to when slots may have been made before the clock was set back."""
        return max(self.definition.before_ns, self.older_ns)

    @property
    def done_ns(self) -> int:
        """Up to when each of its slots is made, skipped or waits."""
        return self.progress.done_ns

    @property
    def waiting(self) -> dict[int, None]:
        """Slots that have come, and wait for the run before to end, in their order."""
        return self.progress.waiting


@attrs.frozen(eq=False)
class _SlotOrder:
    """What is to be made for a slot."""

    entry: _Entry
    slot_ns: int
    made_id: str
    #: `clock`, `trigger` or `backfill`.
    by: str
    #: What must have ended before.
    after: tuple[str, ...] = ()
    #: Those that are given besides the schedule's own.
    parameters: Mapping[str, Any] | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that are given for it."""
        return {**self.entry.definition.parameters, **(self.parameters or {})}

    @property
    def slot(self) -> datetime:
        return _moment(self.slot_ns, self.entry)

    def note(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What is noted with what is made with these values."""
        return MadeFor.note(self.entry.definition.name, self.slot, values)


_Orders: TypeAlias = list[_SlotOrder]
_Entries: TypeAlias = list[_Entry]
_Statuses: TypeAlias = list[ScheduleStatus]
_Ids: TypeAlias = list[str]
_Slots: TypeAlias = list[int]
_Moments: TypeAlias = list[datetime]
_Backfills: TypeAlias = list[BackfillStatus]
_Values: TypeAlias = list[dict[str, Any]]
_Heap: TypeAlias = list[tuple[int, int, str]]


class ScheduleManager:
    """
    `orch.schedules`: what is made again and again, at times of cron or at distances.

    A slot has a task of the id `name/2026-11-25T0300Z`, its time in UTC; a workflow
    has a run `name-2026-11-25T0300Z`. So it is made once, in any number of lives. With
    a journal, schedules are kept: the next incarnation goes on with them, and catches
    up. What only code can say (a lambda) is kept by its name, and must be added again.
    """

    def __init__(self, host: ScheduleHost) -> None:
        #: Whether this program makes nothing for ticks, and nothing of backfills: what
        #: is said here is kept, and `trigger` works. What comes meanwhile is caught up
        #: with by the next life, as if nobody had been there.
        self.rests: bool = False
        self._host = host
        self._entries: dict[str, _Entry] | None = None
        #: Of this life's code: what each makes.
        self._works: dict[str, Work] = {}
        #: Those of them that a file says.
        self._of_file: set[str] = set()
        self._heap: _Heap = []
        self._number = 0
        #: Until when this life has time to say its schedules, in ns; 0: not begun.
        self._declared_by = 0
        #: Whether this life has made anything.
        self._has_made = False
        #: Who makes something, or changes a schedule, has it: one at a time.
        self._making = threading.RLock()
        #: Guards what is known; nothing is made under it.
        self._lock = threading.RLock()
        #: Under the lock: a backfill has come further.
        self._came_further = threading.Condition(self._lock)
        self._backfills: dict[str, Backfill] | None = None
        #: Their ticks, which are reckoned once.
        self._backfill_slots: dict[str, _Slots] = {}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

    # -- saying what there is ------------------------------------------------------

    @called_as("orch.schedules.add('nightly', '0 3 * * *', f, zone='UTC')")
    def add(
        self,
        name: str,
        when: str | float | timedelta | None,
        what: Task | Workflow | WorkflowFunction[...] | Callable[..., Any],
        *,
        zone: str = "UTC",
        catch_up: str = "last",
        overlap: str = "skip",
        jitter: float | timedelta = 0.0,
        start: datetime | str | float | None = None,
        end: datetime | str | float | None = None,
        parameters: Mapping[str, Any] | None = None,
        keep_for: float | timedelta | None = None,
        keep_latest: int | None = None,
    ) -> ScheduleStatus:
        """
        Add a schedule, or change the one of this name.

        What is added again as it is goes on as it was. If its times are others, those
        of the old ones that have not come are skipped, which an event says.

        Args:
            name: Its name, one word.
            when: `"0 3 * * *"`, in the five fields of cron or in six with seconds;
                `"@daily"`; `"every 15m"`; or seconds, or a timedelta.
            what: A task without an id, a workflow, or a function without arguments; or
                a function that `@workflow` has decorated, which is called for each
                slot.
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
            start: First possible time.
            end: Last possible time.
            parameters: Those of the workflow, by name; of other work, what
                `current_context().parameters` has.
            keep_for: How long its runs are kept after their end, in seconds or as a
                timedelta; with *keep_latest* in the place of what the journal says.
            keep_latest: How many of its ended runs are kept, the latest.

        Returns:
            How it stands.

        Raises:
            InvalidTaskError: An argument cannot be, or the times never come.
            ImportError: Times of cron need cronsim: `pip install 'taskorch[cron]'`.
        """
        if when is None:
            kept = keep_for, keep_latest
            options = zone, catch_up, overlap, jitter, start, end, *kept
            return self._put(*of_workflow(name, what, options, parameters))
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
            parameters=parameters,
            keep_for=keep_for,
            keep_latest=keep_latest,
        )
        return self._put(definition, work)

    def _say_unused(self) -> None:
        """The block ends: say so of what has made nothing, and would have."""
        if self.rests:
            return
        with self._lock:
            for each in (self._backfills or {}).values():
                if each.goes_on and not each.is_over:
                    _LOG.warning(
                        "the block ends before a backfill does: orch.wait() waits for "
                        "it; with a journal, the next program goes on with it. %s",
                        each.status(),
                    )
            names = sorted(self._works) if not self._has_made else []
            entries = self._entries or {}
            names = [
                name for name in names if name in entries and entries[name].slot_ns
            ]
        if names:
            _LOG.warning(
                "schedules have made nothing (%s), and end with the block: let it wait "
                "for their times, by threading.Event().wait() at its end",
                some(names),
            )

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

    def _put(self, definition: Definition, work: Work) -> ScheduleStatus:
        host, name, now = self._host, definition.name, self._host.wall()
        with self._making:
            with self._lock:
                entry = self._known().get(name)
                source = "file" if name in self._of_file else "code"
            definition = attrs.evolve(
                definition, source=source if host.declares() else "command"
            )
            old = None if entry is None else entry.definition
            if entry is None:
                entry = _Entry(definition, work, definition.times(), TickProgress(now))
                entry.older_ns = host.now()
            else:
                definition = self._changed(entry, definition, now)
            with self._lock:
                self._known()[name] = entry
                self._works[name] = work
                entry.definition, entry.work = definition, work
                entry.times, entry.trouble = definition.times(), ""
                entry.renamed, entry.again_ns = "", 0
                if definition != old:
                    self._keep(entry)
                self._plan(entry, now + _DECORATING)
                self._find_old_name(definition)
        host.orch.drivers.wake(DRIVER)
        return self.status(name)

    def _changed(self, entry: _Entry, new: Definition, now: int) -> Definition:
        """What *entry* is from now on; what its times of before leave out is told."""
        old = entry.definition
        if new.timing() != old.timing():
            why = "its times were changed before"
            self._pass_over(entry, now, why, put_off=False)
            with self._lock:
                # Kept with what it is from now on.
                entry.progress.decided(now)
        paused = new.paused or old.paused
        return attrs.evolve(new, paused=paused, before_ns=old.before_ns)

    def _find_old_name(self, new: Definition) -> None:
        """
        Under the lock: a schedule that nobody says may be *new* by an old name.

        While the program may still say it, it only waits: then its slots are its own.
        """
        for name, entry in self._known().items():
            old = entry.definition
            if name in self._works or old.source != "code":
                continue
            is_same = old.work == new.work and old.parameters == new.parameters
            if is_same and old.timing() == new.timing():
                entry.renamed = new.name

    @verb(
        "Remove a schedule.",
        "thread",
        "POST /schedules/{name}/remove",
        operation="remove_schedule",
        gives="changed",
        refuses=(404,),
        command="schedules remove SCHEDULE: let nothing come of it any more",
        is_final=True,
        preview="removal_of_schedule",
    )
    def remove(self, name: str) -> bool:
        """
        Remove a schedule: what it has made goes on; False if there is none.

        Raises:
            JournalError: It cannot be kept.
        """
        with self._making:
            with self._lock:
                entry = self._known().get(name)
            if entry is None:
                return False
            count, last = self._passed(entry, self._host.wall(), put_off=False)
            count, last = count + len(entry.waiting), max(last, *entry.waiting, 0)
            why = "the schedule was removed"
            with self._lock:
                backfills = [
                    self._called_off(each, why)
                    for each in self._backfills_now().values()
                    if each.schedule == name and not each.is_over
                ]

            def change(kernel: Kernel, now: int) -> None:
                if count:
                    kernel.note(ScheduleSkipped, now, name, last, count, why)
                for each in backfills:
                    kernel.keep_document(BACKFILLS, each.backfill_id, each.text(), now)
                kernel.note(ScheduleChanged, now, name, "", 0)
                for key in (name, ticks_of(name)):
                    _keep_text(kernel, SCHEDULES, key, "", now)

            with self._lock:
                self._host.step(change, keep=True)
                del self._known()[name]
                self._works.pop(name, None)
                for each in backfills:
                    self._backfills_now()[each.backfill_id] = each
        return True

    @verb(
        "Pause a schedule: its ticks make no tasks.",
        "thread",
        "POST /schedules/{name}/pause",
        operation="pause_schedule",
        gives="changed",
        refuses=(404, 422),
        forms={"reason": {"type": "string", "minLength": 1}},
        remote={"reason": "paused over HTTP"},
        command="schedules pause SCHEDULE: make nothing for its ticks until `resume`",
    )
    def pause(self, name: str, reason: str = "paused by the user") -> bool:
        """
        Make nothing for the slots that come, until `resume`; False if it is paused.

        Args:
            name: The schedule.
            reason: Why.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        reason = _reason_of(reason)
        with self._making, self._lock:
            entry = self._entry(name)
            if entry.definition.paused:
                return False
            entry.definition = attrs.evolve(entry.definition, paused=reason)
            self._keep(entry)
        return True

    @verb(
        "Let a schedule go on.",
        "thread",
        "POST /schedules/{name}/resume",
        operation="resume_schedule",
        gives="changed",
        refuses=(404,),
        command="schedules resume SCHEDULE: let it go on",
    )
    def resume(self, name: str) -> bool:
        """
        Go on; the slots that came meanwhile are skipped. False if it is not paused.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        with self._making:
            with self._lock:
                entry = self._entry(name)
            reason = entry.definition.paused
            if not reason:
                return False
            self._pass_over(entry, self._host.wall(), f"it was paused: {reason}")
            with self._lock:
                entry.definition = attrs.evolve(entry.definition, paused="")
                self._keep(entry)
                self._plan(entry)
        self._host.orch.drivers.wake(DRIVER)
        return True

    @verb(
        "Run a schedule now.",
        "thread",
        "POST /schedules/{name}/trigger",
        operation="trigger_schedule",
        gives="ids",
        status=202,
        refuses=(404, 422),
        command="schedules trigger SCHEDULE: run it once, now",
        preview="trigger_of_schedule",
    )
    def trigger(self, name: str, parameters: Mapping[str, Any] | None = None) -> str:
        """
        Make now what it makes, besides its slots, whatever else of it goes on.

        Args:
            name: The schedule.
            parameters: Those of the workflow, which go before those of the schedule;
                of other work, what `current_context().parameters` has besides.

        Returns:
            The id of the task, or of the run.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: Nobody has said in this incarnation what it makes; or a
                parameter is of another type, missing or unknown.
        """
        by_names(parameters)
        with self._making:
            with self._lock:
                entry = self._entry(name)
                self._ensure_work(entry)
                now = self._host.wall() // 1_000 * 1_000
            made_id = entry.definition.slot_id(now)
            while self._is_taken(entry, now, made_id):
                now += 1_000
                made_id = entry.definition.slot_id(now)
            order = _SlotOrder(entry, now, made_id, "trigger", (), parameters)
            self._make([order])
            self._tell([order])
        return made_id

    def _is_taken(self, entry: _Entry, now: int, made_id: str) -> bool:
        """Whether the id of what is made at *now* is that of a slot, or is known."""
        is_slot = now > entry.done_ns and entry.times.after(now - 1) == now
        return is_slot or bool(self._host.known([made_id]))

    @verb(
        "Run a schedule's past ticks.",
        "thread",
        "POST /schedules/{name}/backfill",
        operation="backfill_schedule",
        gives="ids",
        status=202,
        refuses=(404, 422),
        forms={"since": TEXT, "until": TEXT, "order": {"enum": [*ORDERS]}},
        command="schedules backfill SCHEDULE: run it for ticks of the past",
        preview="backfill_of_schedule",
    )
    def backfill(
        self,
        name: str,
        since: datetime | str | float,
        until: datetime | str | float,
        *,
        again: bool = False,
        parameters: Mapping[str, Any] | None = None,
        limit: int = 1,
        order: str = "oldest",
        stop_on_failure: bool = False,
        by: str = "",
        definition: Literal["as_deployed", "as_it_was"] | None = None,
    ) -> Backfilled:
        """
        Make what would have been made from *since* to *until*, a few at a time.

        The first ones begin at once; the others while the orchestrator runs, and in the
        next one with this journal. A slot that has its task already keeps it: nothing
        is made twice, and nothing is done for it.

        Args:
            name: The schedule.
            since: The first moment: a datetime, an ISO text, or seconds; without a zone
                it is in that of the schedule.
            until: The last moment, which is not later than now.
            again: Run what has been made already, and has ended, again.
            parameters: As for `trigger`. With others than those of the schedule, what
                is made for a slot is made besides, under an id of its own.
            limit: How many of its runs go on at a time: 1 to 1,000.
            order: Which slots come first: `oldest` or `newest`.
            stop_on_failure: Pause it once a run of it has failed, or waits for a
                person; else it goes on.
            by: Who begins it: `backfills()` says so.
            definition: What is run *again*: `"as_deployed"`, whole workflows included:
                what is new is added, what is gone is left out; or `"as_it_was"`, with
                its own graph, arguments and options. None: as deployed.

        Returns:
            The ids of the tasks, or of the runs, of all slots; in its attribute
            `already`, those for which nothing is done; in `backfill_id`, the id of the
            backfill.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: They are no moments, or there are too many slots; or a
                parameter is of another type, missing or unknown.
        """
        check_count("limit", limit, least=1)
        if limit > MOST_AT_ONCE:
            msg = f"limit is at most {MOST_AT_ONCE:,}, not {limit:,}"
            raise InvalidTaskError(msg)
        check_word("order", order, ORDERS)
        check_which(definition)
        if not isinstance(by, str):
            msg = f"by is the name of somebody, not {show(by)}"
            raise InvalidTaskError(msg)
        by_names(parameters)
        slots = self._slots_between(name, since, until)
        ids: _Ids = []
        already: _Ids = []
        with self._making:
            with self._lock:
                entry = self._entry(name)
                self._ensure_work(entry)
            values = _plain_parameters(entry, parameters, slots)
            for place in range(0, len(slots), _BATCH):
                part = self._ids_with(entry, slots[place : place + _BATCH], values)
                existing = self._host.known(part)
                open_ids = (
                    existing - self._host.ended([*existing]) if again else existing
                )
                ids += part
                already += [made_id for made_id in part if made_id in open_ids]
            if len(already) == len(ids):
                return Backfilled(ids, already)
            now = self._host.wall()
            backfill = Backfill(
                f"{name}-backfill-{self._next_number()}",
                name,
                entry.definition.timing(),
                moment_ns("since", since, entry.times.zone) or 0,
                min(moment_ns("until", until, entry.times.zone) or 0, now),
                limit,
                order,
                values,
                again,
                stop_on_failure,
                by,
                now,
                self._host.now(),
                len(slots),
                which=definition or "",
            )
            self._add_backfill(backfill)
            with self._lock:
                self._claim(entry)
            try:
                self._work_off(backfill.backfill_id, now)
            except NotRunningError:
                raise
            except UsageError as error:
                with self._lock:
                    runs = self._backfills_now()[backfill.backfill_id].runs
                is_begun = any(run.is_begun for run in runs.values())
                if isinstance(error, InvalidTaskError) and not is_begun:
                    # It would never come further.
                    self._drop_backfills([backfill.backfill_id])
                    raise
                self._is_refused(backfill.backfill_id, error, now)
        self._host.orch.drivers.wake(DRIVER)
        return Backfilled(ids, already, backfill.backfill_id)

    @verb(
        "All backfills, the latest first.",
        "thread",
        "GET /backfills",
        operation="find_backfills",
        gives="backfills",
        command="schedules backfills SCHEDULE: show backfills",
    )
    def backfills(self, name: str = "") -> _Backfills:
        """
        Return how backfills stand, the latest first; of ended ones, the latest 50.

        Args:
            name: Those of this schedule alone; "": all.
        """
        with self._lock:
            backfills = [*self._backfills_now().values()]
        backfills.sort(key=lambda each: -each.number)
        return [each.status() for each in backfills if name in ("", each.schedule)]

    @verb(
        "A backfill, and how far it came.",
        "thread",
        "GET /backfills/{backfill_id}",
        operation="backfill_status",
        refuses=(404,),
        lacks=lacks(command="`schedules` shows it"),
    )
    def backfill_status(self, backfill_id: str) -> BackfillStatus:
        """
        How a backfill stands: `str()` of it says how many are done, failed, to come.

        Raises:
            UnknownTaskError: There is no such backfill.
        """
        with self._lock:
            return self._backfill(backfill_id).status()

    @verb(
        "Let nothing begin any more that a backfill has not begun.",
        "thread",
        "POST /backfills/{backfill_id}/cancel",
        operation="cancel_backfill",
        gives="changed",
        refuses=(404,),
        remote={"reason": "cancelled over HTTP"},
        command="schedules cancel-backfill BACKFILL: let the rest of it never run",
        is_final=True,
        preview="cancel_of_backfill",
    )
    def cancel_backfill(
        self,
        backfill_id: str,
        *,
        running: bool = False,
        reason: str = "cancelled by the user",
    ) -> bool:
        """
        What a backfill has not begun never begins; False if it is over.

        Args:
            backfill_id: The backfill.
            running: Cancel what it has begun, too.
            reason: Why.

        Raises:
            UnknownTaskError: There is no such backfill.
        """
        reason = _reason_of(reason)
        with self._making:
            with self._lock:
                backfill = self._backfill(backfill_id)
            if backfill.is_over and not (running and backfill.runs):
                return False
            changed = self._called_off(backfill, reason)
            self._keep_backfill(changed)
            with self._lock:
                entry = self._known().get(changed.schedule)
                if entry is not None:
                    self._claim(entry)
                    self._plan(entry)
            if running:
                self._cancel([*changed.runs], reason)
        self._host.orch.drivers.wake(DRIVER)
        return True

    @verb(
        "Pause a backfill: it begins no runs.",
        "thread",
        "POST /backfills/{backfill_id}/pause",
        operation="pause_backfill",
        gives="changed",
        refuses=(404, 422),
        forms={"reason": {"type": "string", "minLength": 1}},
        remote={"reason": "paused over HTTP"},
        command="schedules pause-backfill BACKFILL: begin nothing more of it",
    )
    def pause_backfill(
        self, backfill_id: str, reason: str = "paused by the user"
    ) -> bool:
        """
        Begin nothing of a backfill until `resume_backfill`; False if there is no need.

        Args:
            backfill_id: The backfill.
            reason: Why.

        Raises:
            UnknownTaskError: There is no such backfill.
        """
        reason = _reason_of(reason)
        with self._making:
            with self._lock:
                backfill = self._backfill(backfill_id)
            if backfill.is_over or backfill.paused:
                return False
            self._keep_backfill(attrs.evolve(backfill, paused=reason))
        return True

    @verb(
        "Let a backfill go on.",
        "thread",
        "POST /backfills/{backfill_id}/resume",
        operation="resume_backfill",
        gives="changed",
        refuses=(404,),
        command="schedules resume-backfill BACKFILL: let it go on",
    )
    def resume_backfill(self, backfill_id: str) -> bool:
        """
        Let a backfill go on, after a failure too; False if it is not paused.

        Raises:
            UnknownTaskError: There is no such backfill.
        """
        with self._making:
            with self._lock:
                backfill = self._backfill(backfill_id)
            if not backfill.paused:
                return False
            self._keep_backfill(
                attrs.evolve(backfill, paused="", trouble="", look_ns=0)
            )
        self._host.orch.drivers.wake(DRIVER)
        return True

    def _slots_between(
        self, name: str, since: datetime | str | float, until: datetime | str | float
    ) -> _Slots:
        """The slots of a backfill."""
        with self._lock:
            entry = self._entry(name)
            definition = entry.definition
        first = moment_ns("since", since, entry.times.zone)
        last = moment_ns("until", until, entry.times.zone)
        if first is None or last is None or last < first:
            msg = "backfill goes from a moment to a later one"
            raise InvalidTaskError(msg)
        # With times of its own: those of the schedule are asked meanwhile.
        bare = _Entry(definition, None, definition.times(), TickProgress(first - 1))
        coming = _slots(bare, first - 1, min(last, self._host.wall()))
        slots = [*islice(coming, _BACKFILL + 1)]
        if len(slots) > _BACKFILL:
            msg = f"more than {_BACKFILL:,} slots are between the two"
            raise InvalidTaskError(msg, hint="backfill in parts")
        return slots

    def _foreseen(
        self, name: str, since: datetime | str | float, until: datetime | str | float
    ) -> tuple[_Ids, set[str]]:
        """What a backfill is for: the ids of all slots, and those that are made."""
        slots = self._slots_between(name, since, until)
        with self._lock:
            definition = self._entry(name).definition
        names = [definition.slot_id(slot) for slot in slots]
        return names, self._host.known(names)

    def _parameters(self, name: str) -> list[dict[str, Any]]:
        """
        What a form asks for before the schedule runs by hand.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: Nobody has said in this incarnation what it makes.
        """
        with self._lock:
            entry = self._entry(name)
            self._ensure_work(entry)
            work, values = entry.work, entry.definition.parameters
        assert work is not None  # noqa: S101 - it was ensured
        return fields({} if isinstance(work, Task) else declared_by(work), values)

    def _edit(self, name: str, **changes: str) -> ScheduleStatus:
        """
        Change the times of a schedule, or what becomes of ticks, as `add` would.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: A change cannot be.
        """
        with self._making:
            with self._lock:
                entry = self._entry(name)
                self._ensure_work(entry)
                definition, work = entry.definition, entry.work
            assert work is not None  # noqa: S101 - it was ensured
            options: dict[str, Any] = {
                "zone": definition.zone,
                "catch_up": definition.catch_up,
                "overlap": definition.overlap,
                "jitter": definition.jitter,
                "start": _moment_or_none(definition.start_ns, entry),
                "end": _moment_or_none(definition.end_ns, entry),
                "parameters": definition.parameters or None,
                "keep_for": definition.keep_for,
                "keep_latest": definition.keep_latest,
            }
            when = changes.pop("when", definition.when)
            return self.add(name, when, work, **{**options, **changes})

    # -- backfills -----------------------------------------------------------------

    # What a backfill makes is decided first, and kept: which ticks, and what of each
    # was there before. Then it is made, and that is kept with the tick's own event. So
    # after a kill, what was decided is made if it is not there; and nothing else is.

    def _backfills_now(self) -> dict[str, Backfill]:
        """Under the lock: the backfills, as the journal has them at first."""
        self._known()
        assert self._backfills is not None  # noqa: S101 - they were just read
        return self._backfills

    def _backfill(self, backfill_id: str) -> Backfill:
        """Under the lock."""
        backfills = self._backfills_now()
        backfill = backfills.get(backfill_id)
        if backfill is None:
            msg = f"there is no backfill {show(backfill_id)}"
            hint = meant(backfill_id, [*backfills], "see orch.schedules.backfills()")
            raise UnknownTaskError(msg, hint=hint, task_id=str(backfill_id))
        return backfill

    def _next_number(self) -> int:
        with self._lock:
            backfills = self._backfills_now().values()
            return max((each.number for each in backfills), default=0) + 1

    def _add_backfill(self, backfill: Backfill) -> None:
        """Keep a new one, and none that ended long ago."""
        with self._lock:
            over = [
                each.backfill_id
                for each in self._backfills_now().values()
                if each.is_over and not each.runs
            ]
        if len(over) >= _KEPT:
            self._drop_backfills(over[: len(over) - _KEPT + 1])
        self._keep_backfill(backfill)

    def _keep_backfill(self, backfill: Backfill, *, keep: bool = True) -> None:
        """Replace what is known of a backfill."""
        backfill_id, text = backfill.backfill_id, backfill.text()
        self._host.step(
            lambda kernel, now: kernel.keep_document(BACKFILLS, backfill_id, text, now),
            keep=keep,
        )
        with self._lock:
            self._backfills_now()[backfill_id] = backfill
            self._came_further.notify_all()

    def _drop_backfills(self, ids: _Ids) -> None:
        def change(kernel: Kernel, now: int) -> None:
            for backfill_id in ids:
                kernel.keep_document(BACKFILLS, backfill_id, "", now)

        self._host.step(change, keep=False)
        with self._lock:
            for backfill_id in ids:
                self._backfills_now().pop(backfill_id, None)
            self._came_further.notify_all()

    def _ids_with(
        self, entry: _Entry, slots: _Slots, parameters: Mapping[str, Any]
    ) -> _Ids:
        """
        The ids of what is made for slots with these parameters besides the own ones.

        Raises:
            InvalidTaskError: They are not those of what is made, or no id can say them.
        """
        values = [_values_of(entry, slot, parameters) for slot in slots]
        ids = [_id_with(entry, *each) for each in zip(slots, values, strict=True)]
        taken = self._host.known(ids) if any(values) else set[str]()
        for number, made_id in enumerate(ids):
            if values[number] and made_id in taken:
                ids[number] = self._id_that_is_for(entry, slots[number], values[number])
        return ids

    def _id_that_is_for(
        self, entry: _Entry, slot: int, values: Mapping[str, Any]
    ) -> str:
        """
        The id that is free, or has these parameters: of others, the word may be alike.

        Raises:
            DuplicateTaskError: There is none.
        """
        made_id = ""
        for length in DIGESTS:
            made_id = _id_with(entry, slot, values, length)
            try:
                noted = self._host.parameters_of(made_id)
            except UnknownTaskError:
                return made_id
            if as_text(_plain(noted, has_slot=SLOT in values)) == as_text(values):
                return made_id
        msg = f"{made_id} has other parameters"
        raise DuplicateTaskError(msg, task_id=made_id)

    def _work_off(self, backfill_id: str, now: int) -> None:
        """
        Note which runs of a backfill have ended, and begin those that may begin.

        Raises:
            UsageError: One was refused.
        """
        with self._lock:
            backfill = self._backfills_now().get(backfill_id)
        if backfill is None:
            return
        changed = attrs.evolve(self._with_ends(backfill), trouble="")
        entry: _Entry | None = None
        refusal: UsageError | None = None
        if changed.may_begin:
            try:
                with self._lock:
                    entry = self._entry(backfill.schedule)
                    self._ensure_work(entry)
                changed = self._with_next(entry, changed)
            except NotRunningError:
                raise
            except UsageError as error:
                refusal = error
        if not changed.ended_ns and changed.state == "done":
            changed.ended_ns = now
            log = _LOG.warning if changed.failed else _LOG.info
            log("%s", changed.status())
        if changed.text() != backfill.text():
            changed.moved_ns = now
            self._keep_backfill(changed, keep=False)
        else:
            with self._lock:
                self._backfills_now()[backfill_id] = changed
        if refusal is not None:
            raise refusal
        if entry is not None:
            self._begin(entry, changed)
            if changed.may_begin:
                # So many had their run already that others are asked in between.
                changed.look_ns = now
                return
        young = _LOOK[0]
        changed.look_ns = now + min(max((now - changed.moved_ns) // 10, young), _SELDOM)

    def _with_ends(self, backfill: Backfill) -> Backfill:
        """A backfill without the runs that have ended, which are counted."""
        begun = [made_id for made_id, run in backfill.runs.items() if run.is_begun]
        states = self._host.states_of_all(begun)
        runs = dict(backfill.runs)
        done, failures, blocked = backfill.done, list[str](), list[str]()
        for made_id in begun:
            state = states.get(made_id, TaskState.COMPLETED)
            if state is TaskState.BLOCKED:
                blocked.append(made_id)
            elif state in TERMINAL:
                del runs[made_id]
                if state is TaskState.COMPLETED:
                    done += 1
                else:
                    failures.append(made_id)
        paused = backfill.paused
        stops = backfill.stop_on_failure and not (paused or backfill.is_over)
        fresh = [each for each in blocked if each not in backfill.blocked]
        if stops and (failures or fresh):
            why = "failed" if failures else "waits for a person or an event"
            paused = f"{(failures or fresh)[0]} {why}"
            _LOG.warning("backfill %s is paused: %s", backfill.backfill_id, paused)
        return attrs.evolve(
            backfill,
            runs=runs,
            done=done,
            failed=backfill.failed + len(failures),
            failures=backfill.named_failures(failures),
            blocked=tuple(blocked),
            paused=paused,
        )

    def _with_next(self, entry: _Entry, backfill: Backfill) -> Backfill:
        """A backfill with the ticks that come next, as far as they may begin."""
        slots = self._slots_of(backfill)
        place, already = backfill.place, backfill.already
        runs, free, looked = dict(backfill.runs), backfill.free, 0
        now = self._host.now()
        while free > 0 and place < len(slots) and looked < _BATCH:
            # Mostly none has its run already, or all have.
            part = slots[place : place + (_BATCH if looked else free)]
            names = self._ids_with(entry, part, backfill.parameters)
            existing = self._host.known(names)
            ended = self._host.ended([*existing]) if backfill.again else set[str]()
            for slot, made_id in zip(part, names, strict=True):
                if free == 0:
                    break
                place, looked = place + 1, looked + 1
                is_over = made_id in ended and self._host.had_ended(
                    made_id, backfill.asked_ns
                )
                if made_id in runs or (made_id in existing and not is_over):
                    already += 1
                    continue
                before = self._host.latest(made_id) if made_id in existing else ""
                runs[made_id] = TickRun(slot, before, now)
                free -= 1
        return attrs.evolve(backfill, runs=runs, place=place, already=already)

    def _called_off(self, backfill: Backfill, why: str) -> Backfill:
        """A backfill of which nothing begins any more."""
        existing = self._host.known([*backfill.runs])
        # A life that was killed may have made what it has not noted.
        runs = {
            made_id: attrs.evolve(run, is_begun=True)
            for made_id, run in backfill.runs.items()
            if run.is_begun
            or (made_id in existing and run.before in ("", made_id))
            or (run.before and self._host.latest(made_id) != run.before)
        }
        return attrs.evolve(
            backfill,
            runs=runs,
            cancelled=backfill.cancelled or why,
            paused="",
            trouble="",
            look_ns=0,
            ended_ns=backfill.ended_ns or self._host.wall(),
        )

    def _claim(self, entry: _Entry) -> None:
        """Under the lock: note which slots that come are a backfill's to make."""
        claimed: set[int] = set()
        for backfill in self._backfills_now().values():
            is_own = backfill.schedule == entry.definition.name
            if not is_own or backfill.cancelled or backfill.until_ns <= entry.done_ns:
                continue
            slots = self._slots_of(backfill)
            if backfill.parameters and _values_of(entry, slots[0], backfill.parameters):
                # It makes others besides.
                continue
            claimed.update(slots[backfill.place :])
            claimed.update(
                run.slot_ns for run in backfill.runs.values() if not run.is_begun
            )
        entry.claimed = frozenset(slot for slot in claimed if slot > entry.done_ns)

    def _slots_of(self, backfill: Backfill) -> _Slots:
        """All ticks of a backfill, in its order."""
        with self._lock:
            slots = self._backfill_slots.get(backfill.backfill_id)
        if slots is None:
            definition = backfill.definition()
            first = backfill.since_ns - 1
            bare = _Entry(definition, None, definition.times(), TickProgress(first))
            slots = [*islice(_slots(bare, first, backfill.until_ns), backfill.ticks)]
            if backfill.order == "newest":
                slots.reverse()
            with self._lock:
                self._backfill_slots[backfill.backfill_id] = slots
        return slots

    def _begin(self, entry: _Entry, backfill: Backfill) -> None:
        """
        Make what is decided and not made yet; it is noted as far as it was made.

        Raises:
            UsageError: One was refused.
        """
        begun: _Orders = []
        try:
            for made_id, run in backfill.runs.items():
                if not run.is_begun:
                    begun.append(self._begin_one(entry, backfill, made_id, run))
        finally:
            if begun:
                for order in begun:
                    made_id = stem_of(order.made_id)
                    run = attrs.evolve(backfill.runs[made_id], is_begun=True)
                    backfill.runs[made_id] = run
                self._tell(begun, backfill)

    def _begin_one(
        self, entry: _Entry, backfill: Backfill, made_id: str, run: TickRun
    ) -> _SlotOrder:
        """Make what is for one tick, unless a life that was killed has made it."""
        # With other parameters, the slot itself is not done.
        is_own = made_id == entry.definition.slot_id(run.slot_ns)
        by = "backfill" if is_own else "trigger"
        order = _SlotOrder(entry, run.slot_ns, made_id, by, (), backfill.parameters)
        if run.before:
            deployed: Deployed | None = None
            if backfill.which != AS_IT_WAS:
                deployed = self._deployed_for(
                    entry, run.slot_ns, made_id, backfill.parameters
                )
            if is_run(made_id):
                if deployed is None or not self._host.go_over(
                    made_id, deployed, run.asked_ns
                ):
                    self._host.run_again(made_id, run.asked_ns)
                return order
            latest = self._host.latest(made_id)
            if latest == run.before:
                if deployed is not None and self._host.go_over(
                    made_id, deployed, run.asked_ns
                ):
                    latest = self._host.latest(made_id)
                else:
                    latest = self._host.again(made_id, downstream=False)
            return attrs.evolve(order, made_id=latest)
        if not self._host.known([made_id]):
            self._make([order])
        return order

    def _wait_for_backfills(self, timeout: float) -> bool:
        """
        Wait until a backfill has come further, if one goes on by itself.

        Returns:
            Whether one did.
        """
        with self._lock:
            backfills = [e for e in (self._backfills or {}).values() if e.goes_on]
            for each in backfills:
                each.look_ns = 0
        if not backfills:
            return False
        self._host.orch.drivers.wake(DRIVER)
        with self._lock:
            if any(each.look_ns == 0 for each in backfills):
                self._came_further.wait(timeout)
        return True

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
            moments: _Moments = []
            for slot in _slots(entry, since, None):
                moments.append(_moment(slot, entry))
                if len(moments) == count:
                    break
        return moments

    @verb(
        "A schedule and its next tick.",
        "thread",
        "GET /schedules/{name}",
        operation="schedule_status",
        refuses=(404,),
        command="schedules show SCHEDULE: show one, with its next ticks",
    )
    def status(self, name: str) -> ScheduleStatus:
        """
        How a schedule stands: `str()` of it says when next, and why not now.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        with self._lock:
            entry = self._entry(name)
            self._forget_ended(entry)
            return self._status_of(entry)

    def _standing(self) -> _Statuses:
        """
        How all schedules stand, for who looks often.

        What they have made is not asked: `running` may have what has ended since.
        """
        with self._lock:
            entries = self._known()
            return [self._status_of(entries[name]) for name in sorted(entries)]

    def _status_of(self, entry: _Entry) -> ScheduleStatus:
        """Under the lock: how *entry* stands."""
        definition = entry.definition
        work = entry.work
        makes = next(iter(definition.work.values()), "?") if work is None else ""
        if isinstance(work, Workflow | WorkflowFunction):
            makes = work.name
        elif work is not None:
            makes = work.type
        first = next(_slots(entry, max(entry.done_ns, 0), None), None)
        return ScheduleStatus(
            name=definition.name,
            when=definition.when,
            zone=definition.zone,
            makes=str(makes),
            catch_up=definition.catch_up,
            overlap=definition.overlap,
            jitter=definition.jitter,
            next=None if first is None else _moment(first, entry),
            done=_moment(entry.done_ns, entry),
            running=tuple(entry.made),
            paused=definition.paused,
            trouble=" ".join(self._troubles(entry)),
            document=definition.document(),
        )

    def _troubles(self, entry: _Entry) -> _Ids:
        """Under the lock: why the next slot does not come, or not as it should."""
        definition = entry.definition
        troubles: _Ids = []
        if entry.trouble:
            troubles.append(entry.trouble)
        if entry.taken and self._host.wall() < entry.taken_ns + _TAKEN * NS:
            troubles.append(entry.taken)
        elif entry.work is None:
            troubles.append(_nobody_said(definition))
        if entry.renamed:
            troubles.append(
                f"Nobody has said it in this life, and {entry.renamed} makes the same: "
                f"it makes nothing. orch.schedules.remove({definition.name!r}) ends it."
            )
        elif definition.undeclared_ns:
            since = _moment(definition.undeclared_ns, entry).isoformat(
                timespec="seconds"
            )
            troubles.append(
                f"It is no longer declared: since {since}. Nobody has said it in this "
                "life, and it goes on: "
                f"orch.schedules.remove({definition.name!r}) ends it."
            )
        made_up_to = max(entry.done_ns, definition.before_ns)
        if made_up_to > self._host.wall() + _AHEAD:
            until = _moment(made_up_to, entry).isoformat(timespec="seconds")
            troubles.append(
                f"The system's clock was set back: slots up to {until} were made "
                "before that, and are not made twice."
            )
        return troubles

    def check(self) -> HealthCheck:
        """Whether each schedule makes what it is to make."""
        with self._lock:
            troubles = {
                name: " ".join(self._troubles(entry))
                for name, entry in sorted((self._entries or {}).items())
                if not entry.definition.paused
            }
            makers = {
                made_id: name
                for name, entry in (self._entries or {}).items()
                for made_id in entry.made
            }
        for made_id in sorted(self._host.held() & makers.keys()):
            name = makers[made_id]
            held = f"{made_id} is blocked until somebody decides, and later slots wait."
            troubles[name] = f"{troubles.get(name, '')} {held}".strip()
        with self._lock:
            for each in (self._backfills or {}).values():
                stopped = each.paused if each.stop_on_failure else ""
                if why := each.trouble or (stopped and f"It is paused: {stopped}."):
                    troubles[each.backfill_id] = why
        bad = [f"{name}: {why}" for name, why in troubles.items() if why]
        return HealthCheck(
            "schedules", "degraded" if bad else "ok", " ".join(bad[:_SHOWN])
        )

    @verb(
        "All schedules.",
        "thread",
        "GET /schedules",
        operation="find_schedules",
        gives="schedules",
        command="schedules list: show all",
    )
    def list(self) -> _Statuses:
        """Return all schedules, in the order of their names."""
        with self._lock:
            return [self.status(name) for name in sorted(self._known())]

    def restore(self, documents: Mapping[str, Any] | None) -> None:
        """
        Go on with what earlier incarnations have left, and add those that a file says.

        Those that came from a file which does not say them any more are paused. None:
        there is no file.

        Raises:
            InvalidTaskError: One of *documents* is not well formed.
        """
        self.list()
        if documents is None:
            return
        self._of_file = {*documents}
        for name, document in documents.items():
            self.add_document(name, document, Importable())
            with self._lock:
                was_gone = self._entry(name).definition.paused == _NOT_IN_FILE
            if was_gone:
                self.resume(name)
        with self._lock:
            gone = [
                name
                for name, entry in self._known().items()
                if entry.definition.source == "file" and name not in documents
            ]
        for name in gone:
            if self.pause(name, _NOT_IN_FILE):
                _LOG.warning("schedule %s is paused: %s", name, _NOT_IN_FILE)

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
            self._backfill_slots.clear()
            with self._host.kernel() as kernel:
                schedules = dict(kernel.kept.get(SCHEDULES, {}))
                texts = dict(kernel.kept.get(BACKFILLS, {}))
            backfills = sorted(_readable(texts), key=lambda each: each.number)
            self._backfills = {each.backfill_id: each for each in backfills}
            for key in schedules:
                name = first_of(key)
                if name not in schedules or key != ticks_of(name):
                    self._read_kept(self._entries, key, schedules)
            if self._entries:
                self._find_unfinished()
            for entry in self._entries.values():
                entry.is_unsure = True
                self._claim(entry)
                self._plan(entry)
        return self._entries

    def _read_kept(
        self, entries: dict[str, _Entry], name: str, texts: Mapping[str, str]
    ) -> None:
        """Add a schedule, unless its two documents are none of ours."""
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
    ) -> _Entry:
        work: Work | None = None
        origin = {key: document.pop(key) for key in ORIGIN if key in document}
        try:
            definition, work = read_definition(name, document, Importable())
        except (UsageError, ValueError):
            if document.keys().isdisjoint((*_MADE, "code")):
                raise
            # What it calls is not here. It is known all the same.
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
            work = self._works.get(name)
        return _Entry(definition, work, definition.times(), progress)

    def _ensure_work(self, entry: _Entry) -> None:
        """
        Under the lock: know what *entry* makes; its function may have come by now.

        Raises:
            InvalidTaskError: Nobody has said it in this incarnation.
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
            raise InvalidTaskError(_nobody_said(entry.definition))

    def _find_unfinished(self) -> None:
        """What earlier incarnations have made, and has not ended."""
        assert self._entries is not None  # noqa: S101 - it was just made
        assert self._backfills is not None  # noqa: S101 - likewise
        apart = {name for each in self._backfills.values() for name in each.runs}
        for task_id, metadata in self._host.unfinished():
            name, made_id = MadeFor(metadata).schedule, stem_of(task_id)
            if run_of(made_id) != name:
                made_id = first_of(made_id)
            entry = self._entries.get(name or "")
            if entry is not None and made_id not in apart:
                entry.made[made_id] = None

    def _entry(self, name: str) -> _Entry:
        entry = self._known().get(name)
        if entry is None:
            msg = f"there is no schedule {show(name)}"
            names = sorted(self._known())
            hint = meant(name, names, f"there are {', '.join(names) or 'none at all'}")
            raise UnknownTaskError(msg, hint=hint, task_id=str(name))
        return entry

    def _keep(self, *entries: _Entry) -> None:
        """Keep what schedules are, and how far they came."""
        states = [(e.definition, e.definition.text(), e.progress) for e in entries]

        def change(kernel: Kernel, now: int) -> None:
            for definition, text, progress in states:
                name = definition.name
                kernel.note(ScheduleChanged, now, name, text, progress.done_ns)
                _keep_text(kernel, SCHEDULES, name, text, now)
                _keep_text(kernel, SCHEDULES, ticks_of(name), progress.text(), now)

        if states:
            self._host.step(change, keep=True)

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

    def _passed(self, entry: _Entry, now: int, *, put_off: bool) -> tuple[int, int]:
        """
        How many slots are due and not made, and the last of them, or 0.

        Without *put_off*, those are among them that jitter has put off.
        """
        if entry.is_unsure:
            self._note_made(entry, now)
        count, before, last = _missed(entry, now, put_off=put_off)
        return count + len(last), last[-1] if last else before

    def _pass_over(
        self, entry: _Entry, now: int, why: str, *, put_off: bool = True
    ) -> None:
        """The slots up to *now* that have not come are skipped."""
        count, last = self._passed(entry, now, put_off=put_off)
        if count:
            self._skip(entry, last, count, why)

    def _skip(self, entry: _Entry, slot: int, count: int, why: str) -> None:
        progress = entry.progress.copy()
        progress.decided(slot)
        event = ScheduleSkipped, entry.definition.name, slot, count, why
        self._advance([event], [(entry, progress)])

    def _advance(
        self,
        events: Iterable[tuple[Any, ...]],
        moved: Iterable[tuple[_Entry, TickProgress]],
        backfill: Backfill | None = None,
    ) -> None:
        """
        Keep how far schedules came, and a backfill, and tell why, in one step.

        Args:
            events: The class and the fields of each event.
            moved: The schedules, and how far each is now.
            backfill: It as it is now.
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
                _keep_text(kernel, *text, now)

        self._host.step(change, keep=False)
        with self._lock:
            for entry, progress in moved:
                entry.progress = progress

    def _forget_ended(self, entry: _Entry) -> None:
        """Under the lock: note which of what it made have ended."""
        if entry.made:
            for made_id in self._host.ended([*entry.made]):
                entry.made.pop(made_id, None)

    def due(self, now: int) -> tuple[_Entries, _Ids, int | None]:
        """
        What is due by *now*, of the system's clock; and when something is next.

        Returns:
            The schedules, the ids of backfills, and a time in ns, or None.
        """
        with self._lock:
            entries = self._known()
            heap, by_name = self._heap, dict[str, _Entry]()
            while heap and heap[0][0] <= now:
                due, _, name = heappop(heap)
                entry = entries.get(name)
                # It may have been changed since.
                if entry is not None and entry.due_ns == due and entry.slot_ns:
                    by_name[name] = entry
            coming = heap[0][0] if heap else None
            for name, entry in entries.items():
                if entry.waiting and not (entry.definition.paused or entry.renamed):
                    self._forget_ended(entry)
                    if not entry.made and now >= entry.again_ns:
                        by_name[name] = entry
                        continue
                    young, old = _LOOK
                    pause = min(max((now - entry.made_ns) // 10, young), old)
                    look = max(now + pause, entry.again_ns)
                    coming = look if coming is None else min(coming, look)
            backfills: _Ids = []
            for backfill in self._backfills_now().values():
                begins = not (backfill.is_over or backfill.paused)
                if not (begins or backfill.runs):
                    continue
                if backfill.look_ns <= now:
                    backfills.append(backfill.backfill_id)
                else:
                    look = backfill.look_ns
                    coming = look if coming is None else min(coming, look)
            return [*by_name.values()], backfills, coming

    def _work_off_each(self, backfill_ids: _Ids, now: int) -> None:
        """Let each of some backfills come further; what is refused is told."""
        with self._making:
            for backfill_id in backfill_ids:
                try:
                    self._work_off(backfill_id, now)
                except NotRunningError:
                    raise
                except UsageError as error:
                    self._is_refused(backfill_id, error, now)

    def _is_refused(self, backfill_id: str, error: UsageError, now: int) -> None:
        """What a backfill begins was refused: it is tried again, and that is told."""
        with self._lock:
            backfill = self._backfill(backfill_id)
            backfill.trouble = f"A run was refused, and is tried again: {error}."
            backfill.look_ns = now + _AGAIN * NS
            self._came_further.notify_all()
        self._host.fault(backfill_id, error)

    def carry_out(self, entries: _Entries, backfill_ids: _Ids, now: int) -> None:
        """Make what is due, or say why not, plan what is next; go on with backfills."""
        if entries:
            self._make_due(entries, now)
        self._work_off_each(backfill_ids, now)

    def _make_due(self, entries: _Entries, now: int) -> None:
        with self._making:
            orders: _Orders = []
            with self._lock:
                current = self._known()
                ours = [e for e in entries if current.get(e.definition.name) is e]
            try:
                for entry in ours:
                    try:
                        orders += self._due_of(entry, now)
                    except NotRunningError:
                        raise
                    except UsageError as error:
                        self._refused(entry, error, now)
                self._submit(orders, now)
            except BaseException:
                # Whatever it was, it does not end a schedule.
                with self._lock:
                    for entry in ours:
                        self._plan(entry, now + NS)
                raise

    def _due_of(self, entry: _Entry, now: int) -> _Orders:
        """What is to be made for *entry* now; what is skipped is told here."""
        definition = entry.definition
        if definition.paused or entry.renamed:
            # They are skipped once it goes on: one event says how many.
            return []
        with self._lock:
            try:
                self._ensure_work(entry)
            except InvalidTaskError as error:
                entry.trouble = error.message
                entry.again_ns = now + _AGAIN * NS
                self._plan(entry, entry.again_ns)
                return []
        if entry.is_unsure or entry.done_ns < entry.before_ns:
            self._note_made(entry, now)
        slots = self._caught_up(entry, now)
        with self._lock:
            self._forget_ended(entry)
            running, waiting = (*entry.made,), [*entry.waiting]
        if len(slots) == 1 and definition.overlap == "skip" and (running or waiting):
            holder = running[-1] if running else definition.slot_id(waiting[0])
            self._skip(entry, slots[0], 1, f"{holder} has not ended")
            slots = []
        queues = definition.overlap == "queue" and running
        # No task can wait for a run, which may have been made before a change.
        before = () if any(map(is_run, running[-1:])) else running[-1:]
        if (entry.is_run or before != running[-1:]) and (
            queues or waiting or slots[1:]
        ):
            self._queue(entry, slots)
            slots = [] if running else [*waiting, *slots][:1]
        else:
            if slots and definition.overlap == "cancel":
                self._cancel(running, f"the next slot of {definition.name} has come")
            # It may have been a run until now: of a task, none waits.
            slots = [*waiting, *slots]
        orders: _Orders = []
        for slot in slots:
            made_id = definition.slot_id(slot)
            orders.append(_SlotOrder(entry, slot, made_id, "clock", before))
            before = (made_id,)
        if not orders:
            with self._lock:
                self._plan(entry)
        return orders

    def _note_made(self, entry: _Entry, now: int) -> None:
        """Note what was made already, of what waits and of what is due."""
        definition = entry.definition

        def is_made(slot: int) -> bool:
            made_id = definition.slot_id(slot)
            return bool(self._host.known([made_id])) and self._host.is_made_by(
                made_id, definition.name
            )

        # Mostly the first has nothing yet: the others are not looked for.
        slots = [*takewhile(is_made, [*entry.waiting])]
        self._tell(
            [
                _SlotOrder(entry, slot, definition.slot_id(slot), "clock")
                for slot in slots
            ]
        )
        while slots := [*takewhile(is_made, islice(_due(entry, now), _BATCH))]:
            before = [slot for slot in slots if slot <= entry.before_ns]
            if before:
                why = "it was made before the system's clock was set back"
                self._skip(entry, before[-1], len(before), why)
            ours = slots[len(before) :]
            self._tell(
                [
                    _SlotOrder(entry, slot, definition.slot_id(slot), "clock")
                    for slot in ours
                ]
            )
        entry.is_unsure = False

    def _queue(self, entry: _Entry, slots: _Slots) -> None:
        """Let *slots* wait, as runs begin one at a time."""
        if not slots:
            return
        progress = entry.progress.copy()
        for slot in slots:
            progress.queued(slot)
        name = entry.definition.name
        events = [(ScheduleQueued, name, slot) for slot in slots]
        self._advance(events, [(entry, progress)])

    def _caught_up(self, entry: _Entry, now: int) -> _Slots:
        """The slots that are due and are to be made; the others are skipped."""
        definition = entry.definition
        if definition.catch_up == "all":
            slots = [*islice(_due(entry, now), _BATCH)]
            if entry.done_ns < entry.before_ns:
                # What was made before the clock was set back is noted in its turn.
                existing = self._host.known(
                    [definition.slot_id(slot) for slot in slots]
                )
                slots = [
                    *takewhile(
                        lambda slot: definition.slot_id(slot) not in existing, slots
                    )
                ]
            return slots
        count, before, kept = _missed(entry, now)
        latest = _LATE + int(definition.jitter * NS)
        if kept and definition.catch_up == "none" and now > kept[-1] + latest:
            count, before, kept = count + len(kept), kept[-1], []
        if count:
            self._skip(entry, before, count, "nobody was here when they came")
        return kept

    def _cancel(self, running: Iterable[str], why: str) -> None:
        for made_id in running:
            if is_run(made_id):
                self._host.orch.workflows.cancel(made_id, reason=why)
            else:
                self._host.orch.cancel_task(made_id, reason=why)

    def _make(self, orders: _Orders) -> _Orders:
        """
        Make what *orders* say, which are of one schedule.

        Returns:
            Those whose ids were not another's.

        Raises:
            UsageError: One was refused.
        """
        tasks = dict[int, Task]()
        lost = set[int]()
        for order in orders:
            work = order.entry.work
            if isinstance(work, Workflow | WorkflowFunction):
                workflow, values = _workflow_for(work, order)
                # It is there already, if it was made in an earlier life, and edited.
                try:
                    note, own = order.note(values), order.parameters or {}
                    self._host.start(workflow, order.made_id, note, own)
                except DuplicateTaskError:
                    self._refuse_taken(order, lost)
            elif work is not None:
                tasks[id(order)] = _task_of(work, order)
                if order.parameters:
                    self._keep_given(order)
        if tasks:
            try:
                self._host.submit([*tasks.values()])
            except DuplicateTaskError:
                # As above: which of them it is, is not said.
                for order in orders:
                    try:
                        self._host.submit([tasks[id(order)]])
                    except DuplicateTaskError:
                        self._refuse_taken(order, lost)
        return [order for order in orders if id(order) not in lost]

    def _keep_given(self, order: _SlotOrder) -> None:
        """Keep what a task was given besides the parameters of its schedule."""
        values = as_json(kept(order.parameters or {}))
        text, made_id = json.dumps({"given": values}), order.made_id

        def change(kernel: Kernel, now: int) -> None:
            kernel.keep_document(VERSIONS, made_id, text, now)

        self._host.step(change, keep=False)

    def _deployed(self, made_id: str) -> Deployed | None:
        """
        What a task, or a run, is today, if a schedule that there is has made it.

        Raises:
            InvalidTaskError: The schedule makes something else today, or its parameters
                are not those of what it makes.
        """
        source = self._host.made_for(made_id)
        if source.schedule is None or source.slot is None:
            return None
        with self._lock:
            entry = self._known().get(source.schedule)
            if entry is None:
                return None
            with suppress(InvalidTaskError):
                self._ensure_work(entry)
        if entry.work is None:
            return None
        slot = moment_ns("slot", source.slot, entry.times.zone) or 0
        values = self._host.given_to(made_id)
        if values is None:
            is_own = made_id == entry.definition.slot_id(slot)
            values = {} if is_own else source.parameters
        return self._deployed_for(entry, slot, made_id, values)

    def _deployed_for(
        self, entry: _Entry, slot: int, made_id: str, values: Mapping[str, Any]
    ) -> Deployed:
        work, name = entry.work, entry.definition.name
        if entry.is_run != is_run(made_id):
            kinds = (
                ("a workflow", "a task") if entry.is_run else ("a task", "a workflow")
            )
            msg = f"the schedule {name} makes {kinds[0]} today, and {made_id} is of "
            msg += f"{kinds[1]}"
            hint = "definition='as_it_was' runs it again; or remove it, and backfill"
            raise InvalidTaskError(msg, hint=hint)
        if not isinstance(work, Task) and work is not None and declared_by(work):
            values = {key: values[key] for key in values if key in declared_by(work)}
        order = _SlotOrder(entry, slot, made_id, "backfill", (), values)
        said_by = f"schedule {name}"
        if isinstance(work, Workflow | WorkflowFunction):
            workflow, values = _workflow_for(work, order)
            return Deployed(said_by, None, workflow, order.note(values))
        assert work is not None  # noqa: S101 - its caller has it
        return Deployed(said_by, _task_of(work, order))

    def _refuse_taken(self, order: _SlotOrder, lost: set[int]) -> None:
        """
        In an `except`: say that the id of a slot is another's, if it is, and go on.

        Raises:
            DuplicateTaskError: It is, and somebody asked for the slot, and hears it.
        """
        name = order.entry.definition.name
        if self._host.is_made_by(order.made_id, name):
            return
        if order.by != "clock":
            raise  # noqa: PLE0704 - see above
        lost.add(id(order))
        self._skip(order.entry, order.slot_ns, 1, f"{order.made_id} is another task's")
        with self._lock:
            order.entry.taken = (
                f"The slot {order.slot.isoformat()} was not made: its id, "
                f"{order.made_id}, is that of another task."
            )
            order.entry.taken_ns = self._host.wall()
        _LOG.warning("schedule %s: %s", name, order.entry.taken)

    def _tell(self, orders: _Orders, backfill: Backfill | None = None) -> None:
        """Note which slots have what they are for, and how far a backfill came so."""
        if not orders:
            return
        self._has_made = True
        moved = dict[int, tuple[_Entry, TickProgress]]()
        events: list[tuple[Any, ...]] = []
        for order in orders:
            entry, slot = order.entry, order.slot_ns
            name, made_id, by = entry.definition.name, order.made_id, order.by
            events.append((ScheduleFired, name, slot, made_id, by))
            if by != "trigger":
                _, progress = moved.setdefault(
                    id(entry), (entry, entry.progress.copy())
                )
                progress.fired(slot, by)
        self._advance(events, moved.values(), backfill)
        now = self._host.wall()
        with self._lock:
            for order in orders:
                entry = order.entry
                stem = stem_of(order.made_id)
                entry.made.pop(stem, None)
                if backfill is None:
                    # Those of a backfill are in no slot's way.
                    entry.made[stem] = None
                if order.by == "clock":
                    entry.made_ns, entry.trouble = now, ""

    def _submit(self, orders: _Orders, now: int) -> None:
        """Submit what is due of many schedules, at once as far as it can be."""
        refused: set[int] = set()
        for place in range(0, len(orders), _BATCH):
            batch = orders[place : place + _BATCH]
            accepted = [order for order in batch if id(order.entry) not in refused]
            try:
                accepted = self._make(accepted)
            except NotRunningError:
                raise
            except UsageError:
                accepted = self._one_by_one(accepted, refused, now)
            self._tell(accepted)
        with self._lock:
            entries = {id(order.entry): order.entry for order in orders}
            for key, entry in entries.items():
                if key not in refused:
                    self._plan(entry)

    def _one_by_one(self, orders: _Orders, refused: set[int], now: int) -> _Orders:
        """Make what can be made: of a schedule, nothing after what was *refused*."""
        accepted: _Orders = []
        for order in orders:
            if id(order.entry) in refused:
                continue
            try:
                accepted += self._make([order])
            except NotRunningError:
                raise
            except UsageError as error:
                refused.add(id(order.entry))
                self._refused(order.entry, error, now)
        return accepted

    def _refused(self, entry: _Entry, error: UsageError, now: int) -> None:
        """What is due was refused: it is tried again, and everybody hears why."""
        with self._lock:
            entry.trouble = f"It was refused, and is tried again: {error}."
            entry.again_ns = now + _AGAIN * NS
            self._plan(entry, entry.again_ns)
        self._host.fault(entry.definition.name, error)

    def set_back(self, now: int) -> None:
        """The system's clock was set back: what is due by it now, comes now."""
        with self._making, self._lock:
            ahead = [e for e in self._known().values() if e.done_ns > now + _BACK]
            for entry in ahead:
                before_ns = max(entry.definition.before_ns, entry.done_ns)
                entry.definition = attrs.evolve(entry.definition, before_ns=before_ns)
                entry.progress.done_ns = now
            self._keep(*ahead)
            for entry in self._known().values():
                self._plan(entry)
            for backfill in self._backfills_now().values():
                backfill.look_ns = backfill.moved_ns = 0

    def say_what_is_gone(self, now: int) -> int | None:
        """
        Say which schedules this incarnation does not declare, once it has had time to.

        Returns:
            When to ask again, of the system's clock; None: never.
        """
        if not self._declared_by:
            self._declared_by = now + _TO_DECLARE
        if now < self._declared_by:
            return self._declared_by
        if self._declared_by < 0:
            return None
        self._declared_by = -1
        with self._making, self._lock:
            gone: _Entries = []
            for name, entry in self._known().items():
                definition = entry.definition
                if entry.work is None:
                    _LOG.warning("schedule %s: %s", name, _nobody_said(definition))
                if name in self._works or definition.source != "code":
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
            self._keep(*gone)
        return None

    def reset(self) -> None:
        """A new incarnation begins."""
        with self._lock:
            self._entries = self._backfills = None
            self._declared_by = 0


@frozen
class _CarryOut:
    """The command of the driver: make what is due."""

    schedules: ScheduleManager
    entries: list[_Entry]
    backfills: list[str]
    wall_ns: int

    def apply(self, _orchestrator: Any, /) -> None:
        """Do it."""
        self.schedules.carry_out(self.entries, self.backfills, self.wall_ns)


class ScheduleDriver:
    """Looks what is due: see `taskorch.protocols.Driver`."""

    name: str = DRIVER
    watches: tuple[Any, ...] = ()

    def __init__(self, schedules: ScheduleManager) -> None:
        self._schedules = schedules
        #: The latest that the system's clock has shown, since it was set back.
        self._latest = 0

    def __deepcopy__(self, _memo: object) -> ScheduleDriver:
        self._schedules.reset()
        return ScheduleDriver(self._schedules)

    def tick(
        self, view: DriverView, now: float
    ) -> tuple[list[_CarryOut], float | None]:
        """Look what is due by the system's clock."""
        if self._schedules.rests:
            return [], None
        wall_ns = round(view.wall * 1_000_000) * 1_000
        if not self._latest or wall_ns < self._latest - _AHEAD:
            self._schedules.set_back(wall_ns)
            self._latest = 0
        self._latest = max(self._latest, wall_ns)
        gone = self._schedules.say_what_is_gone(wall_ns)
        entries, backfills, coming = self._schedules.due(wall_ns)
        if gone is not None:
            coming = gone if coming is None else min(coming, gone)
        when = None if coming is None else now + (coming - wall_ns) / NS
        if not (entries or backfills):
            return [], when
        # What is planned by the command is asked for after it.
        return [_CarryOut(self._schedules, entries, backfills, wall_ns)], now + 0.001


def _slots(entry: _Entry, after_ns: int, until_ns: int | None) -> Iterator[int]:
    """The slots after a time, up to another, that are not decided about."""
    definition, claimed = entry.definition, entry.claimed
    filled, waiting = entry.progress.filled, entry.waiting
    if definition.start_ns is not None:
        after_ns = max(after_ns, definition.start_ns - 1)
    slot = entry.times.after(after_ns)
    while slot is not None:
        if until_ns is not None and slot > until_ns:
            return
        if definition.end_ns is not None and slot > definition.end_ns:
            return
        if slot not in filled and slot not in waiting and slot not in claimed:
            yield slot
        slot = entry.times.after(slot)


def _due(entry: _Entry, now: int) -> Iterator[int]:
    """The slots that are due and not done."""
    put_off = entry.definition.put_off_ns
    return takewhile(
        lambda slot: slot + put_off(slot) <= now, _slots(entry, entry.done_ns, now)
    )


def _missed(
    entry: _Entry, now: int, *, put_off: bool = True
) -> tuple[int, int, list[int]]:
    """
    The slots that are due and not done; without *put_off*, jitter is none.

    Returns:
        How many there are before those that came last; the last one of these, or 0; and
        those that came last: several, if one was put off until others came. Of cron,
        they are counted up to a number.
    """
    definition, came = entry.definition, 0
    since = max(entry.done_ns, (definition.start_ns or 0) - 1)
    until = now if definition.end_ns is None else min(now, definition.end_ns)
    first, (count, since) = since, entry.times.pass_over(since, until, _MOST)
    before, last, limit = since, list[int](), count + _MOST
    if count:
        decided = {*entry.progress.filled, *entry.waiting, *entry.claimed}
        count -= sum(first < slot <= since for slot in decided)
    for slot in _slots(entry, since, now):
        moment = slot + definition.put_off_ns(slot) if put_off else slot
        if moment > now:
            break
        if moment > came:
            if last:
                before = last[-1]
                count += len(last)
            came, last = moment, []
        last.append(slot)
        if count >= limit:
            latest = entry.times.until(until)
            return count, before, last if latest is None else [latest]
    return count, before if count else 0, last


def _moment_or_none(ns: int | None, entry: _Entry) -> datetime | None:
    return None if ns is None else _moment(ns, entry)


def _task_of(work: Task, order: _SlotOrder) -> Task:
    metadata = {**(work.metadata or {}), **order.note(order.values)}
    if not order.after:
        return attrs.evolve(work, id=order.made_id, metadata=metadata)
    return attrs.evolve(
        work,
        id=order.made_id,
        metadata=metadata,
        after=(*work.after, *order.after),
        join="finished",
        on_parent_failure="run",
    )


def _workflow_for(
    work: Workflow | WorkflowFunction[...], order: _SlotOrder
) -> tuple[Workflow, dict[str, Any]]:
    """
    The workflow of a slot, and the parameters that are kept with its run.

    Raises:
        InvalidTaskError: The parameters are not those of the workflow, or the function
            that writes it down has raised.
    """
    try:
        return written(work, order.values, order.slot)
    except UsageError:
        raise
    except Exception as error:
        msg = f"{work.name} raises {': '.join(said(error))}"
        raise InvalidTaskError(msg) from error


def _plain_parameters(
    entry: _Entry, parameters: Mapping[str, Any] | None, slots: _Slots
) -> dict[str, Any]:
    """
    Parameters of a backfill as JSON has them.

    Raises:
        InvalidTaskError: They are not those of what is made, or JSON has none such.
    """
    if not parameters:
        return {}
    for slot in slots[:1]:
        _values_of(entry, slot, parameters)
    plain_values = as_json(kept(parameters))
    as_text(plain_values)
    if plain_values.keys() != parameters.keys():
        raise InvalidTaskError(_NO_SUCH_VALUES)
    return plain_values


def _values_of(
    entry: _Entry, slot_ns: int, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """
    All parameters of what is made for a slot, if they are not the schedule's own.

    Args:
        entry: The schedule.
        slot_ns: The slot.
        parameters: Those besides the own ones.

    Returns:
        The parameters as JSON has them, without the slot if each has its own; none, if
        they are the schedule's own.

    Raises:
        InvalidTaskError: They are not those of what is made, or no id can say them.
    """
    work = entry.work
    if not parameters or work is None:
        return {}
    own = _SlotOrder(entry, slot_ns, "", "backfill")
    every: _Values = []
    for order in (own, attrs.evolve(own, parameters=parameters)):
        values = order.values
        if not isinstance(work, Task):
            values = checked(work, values, order.slot)
        every.append(_plain(values, has_slot=SLOT in order.values))
    if not parameters.keys() <= every[1].keys():
        raise InvalidTaskError(_NO_SUCH_VALUES)
    return {} if as_text(every[0]) == as_text(every[1]) else every[1]


def _plain(values: Mapping[str, Any], *, has_slot: bool) -> dict[str, Any]:
    """Values as JSON has them; without the slot, if each slot has its own."""
    plain_values = as_json(kept(values))
    if not has_slot:
        plain_values.pop(SLOT, None)
    return plain_values


def _id_with(
    entry: _Entry, slot_ns: int, values: Mapping[str, Any], length: int = DIGESTS[0]
) -> str:
    """The id of what is made for a slot with *values*; none: with the own ones."""
    word = f"-{digest_of(values, length)}" if values else ""
    return entry.definition.slot_id(slot_ns, word)


def _reason_of(reason: object) -> str:
    """
    A reason.

    Raises:
        InvalidTaskError: It is no text, or empty.
    """
    if not (reason and isinstance(reason, str)):
        msg = f"a reason is a text, not {show(reason)}"
        raise InvalidTaskError(msg)
    return reason


def is_run(made_id: str) -> bool:
    """Whether an id of what a schedule has made is that of a run of a workflow."""
    return not has_segments(made_id)


def _as_status_says(ns: int) -> datetime:
    """A time of an event as a status of a task has it: in whole microseconds."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=ns // 1_000)


def _moment(ns: int, entry: _Entry) -> datetime:
    return datetime.fromtimestamp(ns / NS, UTC).astimezone(entry.times.zone)


def _nobody_said(definition: Definition) -> str:
    work = next(iter(definition.work.values()), "?")
    return (
        f"Nobody has said in this life what {definition.name} makes ({show(work)}): "
        f"orch.schedules.add({definition.name!r}, …) does."
    )


class RuntimeHost(ScheduleHost):
    """An orchestrator, as schedules ask it."""

    def __init__(self, runtime: Any, orch: Any) -> None:
        self._rt: Runtime = runtime
        self.orch = orch

    def fault(self, name: str, error: Exception) -> None:
        """Say it to people, too: a simulation has none."""
        super().fault(name, error)
        teller = self.orch._rt.notices.teller
        if teller is not None:
            teller.refused(name, error)

    @contextmanager
    def kernel(self) -> Iterator[Kernel]:
        """The kernel, which nobody changes meanwhile."""
        self._rt.look_up()
        with self._rt.lock:
            yield self._rt.kernel

    def wall(self) -> int:
        """The time in ns that the system's clock shows."""
        return int(wall() * 1_000_000) * 1_000

    def now(self) -> int:
        """The time in ns of what happens: it never goes back."""
        return self._rt.now()

    def step(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change* in one step."""
        rt = self._rt
        rt.step(lambda now: change(rt.kernel, now), keep=keep)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Submit tasks: all, or none."""
        self.orch.submit_tasks(tasks)

    def start(
        self,
        workflow: Workflow,
        run_id: str,
        note: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        """Run a workflow, with *note* among the metadata of its tasks."""
        self.orch.workflows._start_noted(workflow, run_id, note, given)

    @defers_interrupts
    def unfinished(self) -> list[tuple[str, Mapping[str, Any] | None]]:
        """The ids of all tasks that have not ended, and their metadata."""
        with self._rt.lock:
            rows = list(self._rt.kernel.tasks.values())
        return _unfinished(rows)

    @defers_interrupts
    def states(self, task_ids: Sequence[str]) -> dict[str, TaskState]:
        """The states of the latest runs of tasks, as far as they are known."""
        rt = self._rt
        directory, states = rt.directory, dict[str, TaskState]()
        with rt.lock:
            rows = rt.kernel.tasks
            for task_id in task_ids:
                row = rows.get(directory.reruns.latest(task_id))
                if row is not None:
                    states[task_id] = row.state
        others = [task_id for task_id in task_ids if task_id not in states]
        if others:
            rt.recall(others)
            with rt.lock:
                for task_id in others:
                    latest = directory.reruns.latest(task_id)
                    if directory.is_known(latest):
                        states[task_id] = directory.known(latest)._row.state
        return states

    def again(self, task_id: str, *, downstream: bool) -> str:
        """Run a task again that has ended: the id of the new run."""
        # What is deployed otherwise goes over to that: see `go_over`.
        rerun_id: str = self.orch.rerun_task(
            task_id, downstream=downstream, definition=AS_IT_WAS
        ).task_id
        return rerun_id

    def declares(self) -> bool:
        """Whether the program says which schedules there are; a command does not."""
        return self._rt.takes_up

    @defers_interrupts
    def held(self) -> set[str]:
        """The tasks, and the runs of those, that are held until somebody decides."""
        kernel = self._rt.kernel
        if not kernel.blocked:
            return set()
        with self._rt.lock:
            rows = list(kernel.tasks.values())
        stems = {
            stem_of(row.id)
            for row in rows
            if row.state is TaskState.BLOCKED and row.extra and row.extra.decision
        }
        return stems | {first_of(stem) for stem in stems}

    def add_check(self, check: Callable[[], HealthCheck]) -> None:
        """Let the health of the orchestrator say what *check* does."""
        self._rt.health_checks.append(check)


class SimulationHost(ScheduleHost):
    """A simulation, as schedules ask it."""

    def __init__(self, simulation: Any) -> None:
        self.orch = simulation

    def _life(self) -> Any:
        return self.orch.world.living()

    @contextmanager
    def kernel(self) -> Iterator[Kernel]:
        """The kernel, which nobody changes meanwhile."""
        yield self._life().kernel

    def wall(self) -> int:
        """The time in ns that the system's clock shows."""
        wall_ns: int = self._life().wall()
        return wall_ns

    def now(self) -> int:
        """The time in ns of what happens: it never goes back."""
        now: int = self._life().now()
        return now

    def step(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change* in one step."""
        del keep
        life = self._life()
        self.orch.world.do_apart(lambda: change(life.kernel, life.now()))

    def submit(self, tasks: Sequence[Task]) -> None:
        """Submit tasks: all, or none."""
        # Not as a user's, who would submit them again after a crash.
        self.orch.world.do_apart(lambda: self._life().submit(tasks))

    def start(
        self,
        workflow: Workflow,
        run_id: str,
        note: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        """Run a workflow, with *note* among the metadata of its tasks."""
        start = self.orch.workflows._start_noted
        self.orch.world.do_apart(lambda: start(workflow, run_id, note, given))

    def unfinished(self) -> list[tuple[str, Mapping[str, Any] | None]]:
        """The ids of all tasks that have not ended, and their metadata."""
        return _unfinished(self._life().kernel.tasks.values())

    def states(self, task_ids: Sequence[str]) -> dict[str, TaskState]:
        """The states of the latest runs of tasks, as far as they are known."""
        life = self._life()
        latest = life.directory.reruns.latest
        states = {each: life.state_of(latest(each)) for each in task_ids}
        return {each: state for each, state in states.items() if state is not None}

    def again(self, task_id: str, *, downstream: bool) -> str:
        """Run a task again that has ended: the id of the new run."""
        del downstream
        # Not as a user's: see `submit`.
        rerun_id: str = self.orch.world.do_apart(lambda: self._life().rerun(task_id))
        return rerun_id


def _unfinished(rows: Any) -> list[tuple[str, Mapping[str, Any] | None]]:
    """The ids of rows that have not ended, and the metadata of their tasks."""
    return [
        (row.id, None if row.cargo._task is None else row.cargo._task.metadata)
        for row in rows
        if row.state not in TERMINAL
    ]


def schedules_of(host: ScheduleHost) -> ScheduleManager:
    """The schedules of an orchestrator or of a simulation, and their driver."""
    manager = ScheduleManager(host)
    if isinstance(host, RuntimeHost):
        host.add_check(manager.check)
        host.orch.workflows._deployed.append(manager._deployed)
    host.orch.drivers.add(ScheduleDriver(manager))
    return manager


def schedules_of_orch(rt: Any, orch: Any) -> ScheduleManager:
    """The schedules of an orchestrator: what they miss is told to people."""
    orch._teller()
    return schedules_of(RuntimeHost(rt, orch))


def wait_for_backfills(
    rt: Any, schedules: ScheduleManager, patience: float | None
) -> bool:
    """
    Wait, where all is quiet, until that is so with no backfill that goes on.

    Args:
        rt: The runtime.
        schedules: Its schedules.
        patience: Seconds to wait; None is for ever.

    Returns:
        Whether it came to that in time.
    """
    end = None if patience is None else monotonic() + patience
    while rt.begins and rt.started and not (rt.draining or rt.closed):
        pause = (
            _BETWEEN_LOOKS
            if end is None
            else min(max(end - monotonic(), 0.0), _BETWEEN_LOOKS)
        )
        if not schedules._wait_for_backfills(pause):
            return True
        rest = None if end is None else max(end - monotonic(), 0.0)
        if not rt.waiting.until_quiet(rest) or rest == 0.0:
            return False
    return True


__all__ = ("ScheduleManager", "ScheduleStatus", "slot_name")


def _readable(documents: Mapping[str, str]) -> Iterator[Backfill]:
    """The backfills that *documents* say; one that says none is left out."""
    for key, text in documents.items():
        try:
            yield read_backfill(text)
        except _NONE_OF_OURS as error:
            _LOG.warning("the document %s of backfills is left out: %r", key, error)


def _keep_text(kernel: Kernel, extension: str, key: str, text: str, now: int) -> None:
    """In a step, keep a document, or drop it if it is empty, if that is new."""
    if kernel.kept.get(extension, {}).get(key, "") != text:
        kernel.keep_document(extension, key, text, now)
