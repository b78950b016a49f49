"""
Schedules of tasks and workflows: `orch.schedules`, also of a simulation.

Decisions: extensions, schedules, workflows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from taskorch.core.runs import restarts_of
from taskorch.core.runs._versions import check_which
from taskorch.core.workflows import Workflow, WorkflowFunction
from taskorch.core.workflows._functions import declared_by
from taskorch.core.workflows._parameters import by_names, fields
from taskorch.errors import InvalidTaskError
from taskorch.events import ScheduleChanged, ScheduleSkipped
from taskorch.ext.schedules._backfill import (
    ORDERS,
    Backfilled,
    BackfillStatus,
    check_options,
)
from taskorch.ext.schedules._backfills import BackfillRuns
from taskorch.ext.schedules._book import ScheduleBook, keep_text
from taskorch.ext.schedules._controller import ScheduleController
from taskorch.ext.schedules._definition import (
    Definition,
    Importable,
    Work,
    define,
    of_workflow,
    read_definition,
)
from taskorch.ext.schedules._entry import LiveSchedule, TickOrder
from taskorch.ext.schedules._host import CONTROLLER, RuntimeHost, ScheduleHost
from taskorch.ext.schedules._standing import (
    ScheduleStatus,
    status_of,
    status_of_new,
    troubles_of,
)
from taskorch.ext.schedules._ticks import Ticks
from taskorch.kit.checks import called_as, check_count, check_exact, check_text
from taskorch.kit.fence import log_of
from taskorch.kit.limits import NS
from taskorch.kit.plain import BACKFILLS, SCHEDULES
from taskorch.kit.ticks import ticks_of
from taskorch.kit.verbs import TEXT, lacks, verb
from taskorch.kit.visible import as_text
from taskorch.kit.vocabulary import other_attribute
from taskorch.kit.words import some
from taskorch.model import HealthCheck, Task

if TYPE_CHECKING:
    from taskorch.core.kernel import Kernel

#: The first tick of a new schedule is made so late, in ns: a function that is being
#: decorated is not in its module yet.
_DECORATING: Final = NS // 20
#: The reason of a pause of a schedule that has left its file.
_NOT_IN_FILE: Final = "the configuration does not say it any more"
#: The seconds between two looks at the progress of a backfill.
_BETWEEN_LOOKS: Final = 0.25
#: The number of schedules with troubles that the health names.
_SHOWN: Final = 5
_LOG: Final = log_of(__name__)


_Statuses: TypeAlias = list[ScheduleStatus]
_Moments: TypeAlias = list[datetime]
_Backfills: TypeAlias = list[BackfillStatus]


class ScheduleManager:
    """
    `orch.schedules`: tasks and workflows at times of cron, or at equal distances.

    A tick has a task of the id `name/2026-11-25T0300Z`, its time in UTC; a workflow has
    a run `name-2026-11-25T0300Z`. So it is made once, in any number of incarnations.
    With a journal, schedules are kept: the next incarnation goes on with them, and
    catches up. Work that only code can declare (a lambda) is kept by its name, and must
    be added again.
    """

    def __init__(self, host: ScheduleHost) -> None:
        #: Whether this program makes no ticks and no runs of backfills: declarations
        #: are kept, and `trigger` works. The next incarnation catches up, as if nobody
        #: had been there.
        self.rests: bool = False
        self._host = host
        self._book = ScheduleBook(host)
        self._ticks = Ticks(host, self._book)
        self._backfills = BackfillRuns(host, self._book, self._ticks)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

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

        A schedule that is added again without a change goes on. If its times have
        changed, the old ticks that have not come are skipped, with an event.

        Args:
            name: Its name, one word.
            when: `"0 3 * * *"`, in the five fields of cron or in six with seconds;
                `"@daily"`; `"every 15m"`; or seconds, or a timedelta.
            what: A task without an id, a workflow, or a function without arguments; or
                a function that `@workflow` has decorated, which is called for each
                tick. If the document of a workflow has a schedule, *when* may be None.
            zone: The name of the zone in which cron's fields are read. Distances count
                from *start*, or from the beginning of 1970.
            catch_up: The rule for ticks that were missed while no orchestrator ran:
                `"last"` makes the last one; `"all"` makes all, one after the other;
                `"none"` makes none that is more than a minute late.
            overlap: The rule for a tick while the run of the one before has not ended:
                `"skip"` makes nothing, `"queue"` lets it wait, `"cancel"` cancels the
                run before.
            jitter: The seconds within which each tick is delayed: by chance, but always
                the same.
            start: First possible time, in whole ms.
            end: Last possible time, in whole ms.
            parameters: The parameters of the workflow, by name; for other work, the
                values in `current_context().parameters`.
            keep_for: How long its runs are kept after their end, in seconds or as a
                timedelta; with *keep_latest* it replaces the rule of the journal.
            keep_latest: How many of its ended runs are kept, the latest.

        Returns:
            Its status.

        Raises:
            InvalidTaskError: An argument has an invalid value, or the times never come.
            ImportError: Times of cron need cronsim: `pip install 'taskorch[cron]'`.
        """
        if when is None:
            options = zone, catch_up, overlap, jitter, start, end, keep_for, keep_latest
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
        """Warn, at the end of the block, of schedules that had no time to run."""
        if self.rests:
            return
        with self._book.lock:
            self._backfills.say_unended()
            entries = self._book.schedules()
            works = () if self._ticks.has_tried else sorted(self._book.works)
            names = [one for one in works if one in entries and entries[one].slot_ns]
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
        Add a schedule from a document: see `ScheduleStatus.document`.

        Args:
            name: Its name.
            document: `when`, the options of `add`, and a `task` or a `workflow`.
            functions: The functions that its calls may name.
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
        status = self._host.declare(partial(self._put_now, definition, work))
        return status or status_of_new(definition, work, self._host.wall())

    def _put_now(self, definition: Definition, work: Work) -> ScheduleStatus:
        host, name, now = self._host, definition.name, self._host.wall()
        with self._book.making:
            entry = self._book.schedules().get(name)
            source = "file" if name in self._book.of_file else "code"
            source = source if host.declares() else "command"
            definition = attrs.evolve(definition, source=source)
            old = None if entry is None else entry.definition
            if entry is None:
                entry = LiveSchedule.new(definition, work, now)
                entry.older_ns = host.now()
            else:
                definition = self._changed(entry, definition, now)
            with self._book.lock:
                self._book.schedules()[name] = entry
                self._book.works[name] = work
                entry.redefine(definition, work)
                if definition != old:
                    self._book.keep(entry)
                self._book.plan(entry, now + _DECORATING)
                self._book.declared(definition)
        host.orch.drivers.wake(CONTROLLER)
        return self.status(name)

    def _changed(self, entry: LiveSchedule, new: Definition, now: int) -> Definition:
        """Return the new definition of *entry*; skip the old ticks, with an event."""
        old = entry.definition
        if new.timing() != old.timing():
            why = "its times were changed before"
            self._ticks.pass_over(entry, now, why, put_off=False)
            # The progress is kept together with the new definition.
            entry.progress.decided(now)
        paused = new.paused or old.paused
        return attrs.evolve(new, paused=paused, before_ns=old.before_ns)

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
        Remove a schedule; its unfinished runs go on. Return False if there is none.

        Raises:
            JournalError: It cannot be kept.
        """
        with self._book.making:
            entry = self._book.schedules().get(as_text(name))
            if entry is None:
                return False
            count, last = self._ticks.passed(entry, self._host.wall(), put_off=False)
            count, last = count + len(entry.waiting), max(last, *entry.waiting, 0)
            why = "the schedule was removed"
            backfills = [
                self._backfills.called_off(each, why)
                for each in self._book.all_backfills()
                if each.schedule == name and not each.is_over
            ]

            def change(kernel: Kernel, now: int) -> None:
                if count:
                    kernel.note(ScheduleSkipped, now, name, last, count, why)
                for each in backfills:
                    kernel.keep_document(BACKFILLS, each.backfill_id, each.text(), now)
                kernel.note(ScheduleChanged, now, name, "", 0)
                for key in (name, ticks_of(name)):
                    keep_text(kernel, SCHEDULES, key, "", now)

            with self._book.lock:
                self._host.step(change, keep=True)
                del self._book.schedules()[name]
                self._book.works.pop(name, None)
                for each in backfills:
                    self._book.backfills()[each.backfill_id] = each
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
        Skip the ticks that come, until `resume`; return False if it is paused already.

        Args:
            name: The schedule.
            reason: Why.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        reason = _reason_of(reason)
        with self._book.making, self._book.lock:
            entry = self._book.entry(name)
            if entry.definition.paused:
                return False
            entry.definition = attrs.evolve(entry.definition, paused=reason)
            self._book.keep(entry)
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
        Go on, and skip the ticks that came meanwhile; return False if it is not paused.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        with self._book.making:
            entry = self._book.entry(name)
            if not (reason := entry.definition.paused):
                return False
            self._ticks.pass_over(entry, self._host.wall(), f"it was paused: {reason}")
            with self._book.lock:
                entry.definition = attrs.evolve(entry.definition, paused="")
                self._book.keep(entry)
                self._book.plan(entry)
        self._host.orch.drivers.wake(CONTROLLER)
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
        Run its work now, besides its ticks, even if another run goes on.

        Args:
            name: The schedule.
            parameters: Parameters of the workflow, which replace those of the schedule;
                for other work, further values in `current_context().parameters`.

        Returns:
            The id of the task, or of the run.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: This incarnation has not declared its work; or a
                parameter is of another type, missing or unknown.
        """
        by_names(parameters)
        with self._book.making:
            entry = self._book.entry(name, makes=True)
            now = self._host.wall() // 1_000 * 1_000
            made_id = entry.definition.tick_id(now)
            while self._ticks.is_taken(entry, now, made_id):
                now += 1_000
                made_id = entry.definition.tick_id(now)
            order = TickOrder(entry, now, made_id, "trigger", (), parameters)
            self._ticks.make([order])
            self._ticks.tell([order])
        return made_id

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
        Run the ticks from *since* to *until* that have no run, a few at a time.

        The first ones begin at once; the others while the orchestrator runs, and in the
        next one with this journal. A tick that has its task already keeps it: nothing
        is made twice.

        Args:
            name: The schedule.
            since: The first moment: a datetime, an ISO text, or seconds; without a zone
                it is in that of the schedule.
            until: The last moment, which is not later than now.
            again: Repeat the runs that exist already and have ended.
            parameters: As for `trigger`. If they differ from those of the schedule, the
                run of a tick is an additional one, with an id of its own.
            limit: How many of its runs go on at a time: 1 to 1,000.
            order: Which ticks come first: `oldest` or `newest`.
            stop_on_failure: Pause it once a run of it has failed, or waits for a
                person; else it goes on.
            by: Who begins it: `backfills()` says so.
            definition: The definition of repeated runs: `"as_deployed"`, for whole
                workflows, too: new tasks are added, removed ones are left out; or
                `"as_it_was"`, with the old graph, arguments and options. None: as
                deployed.

        Returns:
            The ids of the tasks, or of the runs, of all ticks; in its attribute
            `already`, the ids for which nothing is done; in `backfill_id`, the id of
            the backfill.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: They are no moments, or there are too many ticks; or a
                parameter is of another type, missing or unknown.
        """
        check_which(definition)
        by_names(parameters)
        options: dict[str, Any] = check_options(limit, order, by)
        return self._backfills.begin(
            *(name, since, until, parameters),
            again=again,
            stop_on_failure=stop_on_failure,
            which=definition or "",
            **options,
        )

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
        Return the status of backfills, the latest first; of ended ones, the latest 50.

        Args:
            name: The schedule whose backfills are wanted; "": all.

        Raises:
            InvalidTaskError: The name is a pattern.
        """
        wanted = as_text(name)
        check_exact("backfills", wanted, "name one schedule, or none for all")
        rows = sorted(self._book.all_backfills(), key=lambda each: -each.number)
        return [each.status() for each in rows if wanted in ("", each.schedule)]

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
        Return the status of a backfill, which counts its runs; `str()` is a sentence.

        Raises:
            UnknownTaskError: There is no such backfill.
        """
        return self._book.backfill(backfill_id).status()

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
        Cancel the rest of a backfill; return False if it is over.

        Args:
            backfill_id: The backfill.
            running: Cancel its unfinished runs, too.
            reason: Why.

        Raises:
            UnknownTaskError: There is no such backfill.
        """
        return self._backfills.call_off(
            backfill_id, _reason_of(reason), running=running
        )

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
        Pause a backfill until `resume_backfill`; return False if there is no need.

        Args:
            backfill_id: The backfill.
            reason: Why.

        Raises:
            UnknownTaskError: There is no such backfill.
        """
        return self._backfills.pause(backfill_id, _reason_of(reason))

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
        Resume a backfill, after a failure too; return False if it is not paused.

        Raises:
            UnknownTaskError: There is no such backfill.
        """
        return self._backfills.resume(backfill_id)

    def _foreseen(
        self, name: str, since: datetime | str | float, until: datetime | str | float
    ) -> tuple[list[str], set[str]]:
        """Return the ids of all ticks of a backfill, and the ids that exist."""
        return self._backfills.foreseen(name, since, until)

    def _parameters(self, name: str) -> list[dict[str, Any]]:
        """
        Return the parameters that a form asks for before the schedule runs by hand.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: This incarnation has not declared its work.
        """
        entry = self._book.entry(name, makes=True)
        work, values = entry.work, entry.definition.parameters
        assert work is not None  # noqa: S101 - it was ensured
        return fields({} if isinstance(work, Task) else declared_by(work), values)

    def _edit(self, name: str, **changes: str) -> ScheduleStatus:
        """
        Change the times or the rules of a schedule, as `add` would.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: A change is invalid.
        """
        with self._book.making:
            entry = self._book.entry(name, makes=True)
            definition, work = entry.definition, entry.work
            assert work is not None  # noqa: S101 - it was ensured
            options = entry.options()
            when = changes.pop("when", definition.when)
            return self.add(name, when, work, **{**options, **changes})

    def next(self, name: str, count: int = 1) -> _Moments:
        """
        Return the next ticks, in the zone of the schedule, jitter left out.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: *count* is no number.
        """
        check_count("count", count, least=1)
        with self._book.lock:
            entry = self._book.entry(name)
            since = max(self._host.wall(), entry.done_ns)
            moments: _Moments = []
            for tick in entry.slots(since, None):
                moments.append(entry.moment(tick))
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
        Return the status of a schedule; `str()` says when it runs, and why not now.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        with self._book.lock:
            entry = self._book.entry(name)
            self._book.forget_ended(entry)
            failing = self._host.failing(name)
            return status_of(entry, self._host.wall(), failing)

    def next_work(
        self, name: str, after: datetime | None = None
    ) -> tuple[str, datetime, Task | Workflow]:
        """
        Return the work of its next tick, or of the next *after* one; make nothing.

        The health and the log name a workflow's function that raises an error.

        Returns:
            The id that it will have, its time, and the task or the workflow.

        Raises:
            UnknownTaskError: There is no such schedule.
            InvalidTaskError: Nobody has declared its work, or it has no tick any more.
        """
        with self._book.lock:
            return self._ticks.next_work(self._book.entry(name, makes=True), after)

    def _standing(self) -> _Statuses:
        """
        Return the status of all schedules, cheaply.

        The states of their runs are not asked: `running` may have runs that have ended
        since, and `failing` is empty.
        """
        with self._book.lock:
            entries = self._book.schedules()
            wall = self._host.wall()
            return [status_of(entries[name], wall, "") for name in sorted(entries)]

    def check(self) -> HealthCheck:
        """Check whether each schedule makes its runs."""
        with self._book.lock:
            troubles = {
                name: " ".join(troubles_of(entry, self._host.wall()))
                for name, entry in sorted(self._book.schedules().items())
                if not entry.definition.paused
            }
            makers = {
                made_id: name
                for name, entry in self._book.schedules().items()
                for made_id in entry.made
            }
        for made_id in sorted(self._host.held() & makers.keys()):
            name = makers[made_id]
            held = f"{made_id} is blocked until somebody decides, and later ticks wait."
            troubles[name] = f"{troubles.get(name, '')} {held}".strip()
        with self._book.lock:
            for each in self._book.all_backfills():
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
        with self._book.lock:
            return [self.status(name) for name in sorted(self._book.schedules())]

    def restore(self, documents: Mapping[str, Any] | None) -> None:
        """
        Go on with the schedules of earlier incarnations, and add those of a file.

        Schedules that have left the file are paused. None: there is no file.

        Raises:
            InvalidTaskError: One of *documents* is not well formed.
        """
        self._book.schedules()
        if documents is None:
            return
        self._book.of_file = {*documents}
        for name, document in documents.items():
            self.add_document(name, document, Importable())
            was_gone = self._book.entry(name).definition.paused == _NOT_IN_FILE
            if was_gone:
                self.resume(name)
        with self._book.lock:
            gone = [
                name
                for name, entry in self._book.schedules().items()
                if entry.definition.source == "file" and name not in documents
            ]
        for name in gone:
            if self.pause(name, _NOT_IN_FILE):
                _LOG.warning("schedule %s is paused: %s", name, _NOT_IN_FILE)

    def explain(self, name: str) -> str:
        """
        Explain when its next tick comes, and why none comes now.

        Raises:
            UnknownTaskError: There is no such schedule.
        """
        return str(self.status(name))


def schedules_of(host: ScheduleHost) -> ScheduleManager:
    """Return the schedules of an orchestrator or simulation, and their controller."""
    manager = ScheduleManager(host)
    if isinstance(host, RuntimeHost):
        host.add_check(manager.check)
        restarts_of(host.orch.workflows).deployed.append(manager._ticks.deployed)
    controller = ScheduleController(
        lambda: manager.rests,
        *(host, manager._book, manager._ticks, manager._backfills),
    )
    host.orch.drivers.add(controller)
    return manager


def schedules_of_orch(rt: Any, orch: Any) -> ScheduleManager:
    """Return the schedules of an orchestrator, which warn people of missed ticks."""
    if (teller := orch._teller()) is not None:
        teller.hear_schedules()
    return schedules_of(RuntimeHost(rt, orch))


def wait_for_backfills(
    rt: Any, schedules: ScheduleManager, patience: float | None
) -> bool:
    """
    Wait until all is quiet and no backfill goes on.

    Args:
        rt: The runtime.
        schedules: Its schedules.
        patience: Seconds to wait; None is for ever.

    Returns:
        Whether that came about in time.
    """
    end = None if patience is None else monotonic() + patience
    while rt.begins and rt.started and not (rt.draining or rt.closed):
        pause = (
            _BETWEEN_LOOKS
            if end is None
            else min(max(end - monotonic(), 0.0), _BETWEEN_LOOKS)
        )
        if not schedules._backfills.wait(pause):
            return True
        rest = None if end is None else max(end - monotonic(), 0.0)
        if not rt.waiting.until_quiet(rest) or rest == 0.0:
            return False
    return True


def _reason_of(reason: object) -> str:
    """
    A reason.

    Raises:
        InvalidTaskError: It is no text, or empty.
    """
    text = check_text("a reason", reason)
    if not text:
        msg = "a reason is a text, and not empty"
        raise InvalidTaskError(msg)
    return text
