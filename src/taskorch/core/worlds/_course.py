"""
One run of a plan: its tasks in a kernel in virtual time, with durations alone.

Decision: simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final, Protocol, TypeAlias

import attrs

from taskorch.core.engine import PolicyDeciders
from taskorch.core.kernel import (
    Again,
    AttemptOutcome,
    Bucket,
    Effect,
    Kernel,
    PolicyFault,
    Record,
    Spec,
    StopAttempt,
    TaskRow,
    Terms,
    describe,
    explain,
)
from taskorch.core.worlds._clockwork import Agenda, Clockwork
from taskorch.core.worlds._plan import Means, SimulatedPlan
from taskorch.errors import ComponentError, InvalidTaskError, UsageError
from taskorch.model import TERMINAL, Task, TaskState, Units

_RUNNING: Final = TaskState.RUNNING
#: A task with more attempts than this is retried for ever.
_MOST_ATTEMPTS: Final = 10_000

#: The outcome of an attempt that was asked to stop.
_STOPPED: Final[AttemptOutcome] = "stopped"

#: The outcome of a wait, which is no attempt: its number is 0, and it has no worker.
_WAITED: Final = "waited"

#: `(row, attempt, end)`: an attempt under way; its end is an error, a request to stop,
#: or nothing: it completes.
Ending: TypeAlias = tuple[TaskRow, int, BaseException | AttemptOutcome | None]

#: `(place in the plan, start, end, agent, attempt, outcome, resources)`: ns since the
#: beginning, and the resources in millionths.
Span = tuple[int, int, int, str, int, str, Units]


@attrs.define(eq=False)
class Course:
    """The course of a plan in one run."""

    spans: list[Span] = attrs.field(factory=list[Span])
    #: The time from the beginning to the end of the last attempt, in ns.
    makespan: int = 0
    #: The largest use at once: slots, resources in millionths, slots of workers.
    peak_slots: int = 0
    peak_pools: dict[str, int] = attrs.field(factory=dict[str, int])
    peak_workers: dict[str, int] = attrs.field(factory=dict[str, int])
    #: The tasks that ran and failed for good, and those that never began, each with
    #: why.
    failed: dict[str, str] = attrs.field(factory=dict[str, str])
    never: dict[str, str] = attrs.field(factory=dict[str, str])
    #: The workers for tasks with like requirements.
    able: dict[Spec, tuple[str, ...]] = attrs.field(factory=dict[Spec, tuple[str, ...]])


class PlanChance(Protocol):
    """
    The durations and failures of one draw.

    Attributes:
        seed: A random source for the policies.
        first: The duration of the first attempt of each task, in ns.
        expected: The expected duration of each task, in ns.
        may_fail: Whether an attempt may fail.
    """

    seed: str
    first: list[int]
    expected: Sequence[int]
    may_fail: bool

    def again(self, number: int, attempt: int) -> int:
        """Return the duration of a later attempt of a task, in ns."""
        ...

    def error(self, number: int, attempt: int) -> BaseException | None:
        """Return the error of a failing attempt; None if the attempt succeeds."""
        ...


class PlanDeciders(PolicyDeciders):
    """Deciders of a runtime, which know the simulated durations of tasks."""

    def __init__(
        self, means: Means, plan: SimulatedPlan, expected: Sequence[int]
    ) -> None:
        #: Tasks whose options have changed since a failed attempt.
        self._changed: dict[int, Task] = {}
        super().__init__(
            means.fresh_parts(),
            lambda row: self._changed.get(row.cargo) or plan.task(row.cargo),
        )
        self._expected = expected

    def expected(self, row: TaskRow) -> int | None:
        """See `Deciders.expected`."""
        place: int = row.cargo
        return self._expected[place]

    def changed(self, row: TaskRow, answer: Again) -> None:
        """See `Deciders.changed`."""
        if answer.cargo is not None:
            self._changed[row.cargo] = answer.cargo


class PlanRun(Clockwork):
    """
    One run of a plan; a subclass may begin in the middle of one.

    It may replace what is done when the run begins (`deciders`, `submit_plain`), when
    an attempt is tried again or ends (`again`, `end`, `note_end`), and at the end
    (`finish`).
    """

    def __init__(self, means: Means, plan: SimulatedPlan, chance: PlanChance) -> None:
        self.plan = plan
        self.chance = chance
        self.begins: int = means.begins_ns
        self.timeline: Agenda = Agenda(self.begins)
        deciders = self.deciders(means)
        config = attrs.evolve(means.config, keep_finished=len(plan))
        random = Random(chance.seed)  # noqa: S311 - for decisions, not for secrets
        self.kernel: Kernel = Kernel(config, deciders, random, means.pools, means.named)
        deciders.bind(self.kernel)
        self.is_standard: bool = deciders.is_standard
        self.kernel.change_quotas(means.quotas, self.begins)
        for info in means.workers:
            worker = self.kernel.add_worker(info, self.begins)
            for kind, numbers in means.records.get(info.name, {}).items():
                record = worker.records[kind] = Record()
                record.completed, record.failed, record.latency_ns = numbers
        self.course: Course = Course()
        #: Since when tasks wait for something outside; None: they have ended.
        self.waits: dict[TaskRow, int | None] = {}

    def deciders(self, means: Means) -> PlanDeciders:
        """Return the deciders of the run."""
        return PlanDeciders(means, self.plan, self.chance.expected)

    def go(self) -> Course:
        """
        Run the plan to its end, in no time.

        Raises:
            ComponentError: A policy failed when it was asked about a submission.
            InvalidTaskError: A task is tried for ever, or chance is malformed.
        """
        if not self.submit_plain():
            self._submit()
        self.kernel.unpause()
        self.settle()
        timeline = self.timeline
        while (when := self.next_due()) is not None:
            timeline.now = when
            self.begin()
            timeline.carry_out()
            self.settle()
        self.finish(timeline.now)
        return self.course

    # -- submitting ----------------------------------------------------------------

    def _submit(self) -> None:
        """Submit all tasks: each is considered, then all are accepted."""
        kernel, now, plan = self.kernel, self.begins, self.plan
        buckets: dict[Spec, Bucket] = {}
        rows: list[TaskRow] = []
        for number, (name, spec) in enumerate(zip(plan.ids, plan.specs, strict=True)):
            bucket = buckets.get(spec)
            if bucket is None:
                bucket = buckets[spec] = kernel.bucket(spec)
            rows.append(TaskRow(name, number, bucket, number, now))
        admitted: list[Any] = []
        refused = self.course.never
        for place, (row, task) in enumerate(zip(rows, plan.tasks, strict=True)):
            not_before_ns, deadline_ns = plan.times(place, now)
            try:
                admitted.append(
                    self.considered(
                        row,
                        priority=task.priority,
                        parents=self._parents(rows, place),
                        not_before_ns=not_before_ns,
                        deadline_ns=deadline_ns,
                        terms=plan.terms.get(place),
                        beside=len(admitted),
                    )
                )
            except UsageError as error:
                refused[row.id] = error.message
        if refused:
            admitted = self._without_refused(admitted)
        expected = [self.chance.expected[consent.row.cargo] for consent in admitted]
        for consent in kernel.in_order(admitted, expected):
            kernel.accept(consent, now)

    def considered(self, row: TaskRow, *, terms: Terms | None, **asked: Any) -> Any:
        """
        Return the consent to a submission, which `kernel.accept` takes.

        Raises:
            ComponentError: A policy failed when it was asked about it.
            UsageError: It is refused.
        """
        # The kernel writes in the terms, and there may be other runs, so that it gets
        # a copy.
        terms = None if terms is None else attrs.evolve(terms)
        try:
            return self.kernel.consider(row, self.begins, terms=terms, **asked)
        except PolicyFault as fault:
            raise ComponentError(
                _words(fault), component=fault.component, task_id=row.id
            ) from fault.error

    def submit_plain(self) -> bool:
        """
        Submit tasks that need no decision of a policy; False if some need one.

        `tests/ext/simulation/plans/test_laws.py` holds the two equal.
        """
        kernel, now, plan = self.kernel, self.begins, self.plan
        if not plan.is_plain or not self.is_standard:
            return False
        buckets: dict[Spec, Bucket] = {}
        try:
            for spec, place in plan.firsts.items():
                bucket = buckets[spec] = kernel.bucket(spec)
                kernel.consider(TaskRow(plan.ids[place], 0, bucket, place, now), now)
        except (UsageError, PolicyFault):
            # The slower way asks policies about all tasks, and leaves out the refused
            # ones.
            return False
        version = kernel.workers_version
        if not kernel.plain or any(b.checked != version for b in buckets.values()):
            return False
        order: Sequence[int] = range(len(plan))
        if kernel.deciders.aging_ns:
            order = plan.latest_finish_first(self.chance.expected)
        ids, specs, parents, tasks = plan.ids, plan.specs, plan.parents, plan.tasks
        submit = kernel.submit
        rows: dict[int, TaskRow] = {}
        spec = specs[0]
        bucket = buckets[spec]
        for place in order:
            if specs[place] is not spec:
                spec = specs[place]
                bucket = buckets[spec]
            above = parents[place]
            rows[place] = submit(
                ids[place],
                bucket,
                place,
                now,
                tasks[place].priority,
                tuple([rows[parent] for parent in above]) if above else (),
            )
        return True

    def _parents(self, rows: list[TaskRow], place: int) -> list[TaskRow]:
        parents = [rows[above] for above in self.plan.parents[place]]
        if not self.plan.outside:
            return parents
        for name in self.plan.outside.get(place, ()):
            # This row is no task of the kernel: it stands for a completed parent.
            parent = TaskRow(name, 0, rows[place].bucket, None, self.begins)
            parent.state = TaskState.COMPLETED
            parents.append(parent)
        return parents

    def _without_refused(self, admitted: list[Any]) -> list[Any]:
        """Return the tasks of *admitted* that depend on no refused task."""
        plan, never = self.plan, self.course.never
        children: dict[int, list[int]] = {}
        for number, above in enumerate(plan.parents):
            for parent in above:
                children.setdefault(parent, []).append(number)
        todo = [n for n, name in enumerate(plan.ids) if name in never]
        for parent in todo:
            for child in children.get(parent, ()):
                name = plan.ids[child]
                if name not in never:
                    never[name] = f"It needs {plan.ids[parent]}, which can never run."
                    todo.append(child)
        return [consent for consent in admitted if consent.row.id not in never]

    # -- attempts ------------------------------------------------------------------

    def launch(self, starts: list[TaskRow]) -> None:
        """Find out when the started attempts end."""
        kernel, chance, course = self.kernel, self.chance, self.course
        first, may_fail = chance.first, chance.may_fail
        peaks, end = course.peak_workers, self.end
        now, at = self.timeline.now, self.timeline.at
        for row in starts:
            attempt = row.attempt
            place = row.cargo
            lasts = first[place] if attempt == 1 else self.again(row)
            error = chance.error(place, attempt) if may_fail else None
            at(now + lasts, end, (row, attempt, error))
            worker = row.worker
            assert worker is not None  # noqa: S101 - it has just started
            if worker.running > peaks.get(worker.name, 0):
                peaks[worker.name] = worker.running
        course.peak_slots = max(course.peak_slots, kernel.running)
        for pool in kernel.pools.values():
            if pool.used > course.peak_pools.get(pool.name, 0) and not pool.is_quota:
                course.peak_pools[pool.name] = pool.used

    def again(self, row: TaskRow) -> int:
        """
        Return the duration of a later attempt, in ns.

        Raises:
            InvalidTaskError: The task is tried for ever.
        """
        if row.attempt > _MOST_ATTEMPTS:
            msg = f"task {row.id} is tried for ever: its retry handler never gives up"
            raise InvalidTaskError(msg, task_id=row.id)
        return self.chance.again(row.cargo, row.attempt)

    def see_to(self, effect: Effect) -> None:
        """End an attempt that is asked to stop, after those that end now already."""
        if isinstance(effect, StopAttempt):
            end = (effect.row, effect.attempt, _STOPPED)
            self.timeline.at(self.timeline.now, self.end, end)

    def end(self, ending: Ending) -> None:
        """End an attempt, unless it has ended already."""
        row, attempt, end = ending
        if row.attempt != attempt or row.state is not _RUNNING:
            return
        kernel, now = self.kernel, self.timeline.now
        if end is None:
            self.note_end(row, "completed", now)
            kernel.complete(row, attempt, now)
        elif isinstance(end, str):
            self.note_end(row, end, now)
            kernel.end_attempt(row, attempt, end, now)
        else:
            self.note_end(row, "failed", now)
            described = (type(end).__name__, str(end))
            kernel.end_attempt(row, attempt, "failed", now, end, described)

    def note_end(self, row: TaskRow, outcome: str, now: int) -> None:
        """Note that the attempt of *row* ends."""
        worker, begins = row.worker, self.begins
        assert worker is not None  # noqa: S101 - it runs
        start, end = row.started_ns - begins, now - begins
        span = (row.cargo, start, end, worker.name, row.attempt, outcome, row.alloc)
        self.course.spans.append(span)

    def tidy(self) -> None:
        """Note tasks that began to wait for something from outside, or have ended."""
        timeline, begins = self.timeline, self.begins
        touched, self.kernel.touched = self.kernel.touched, []
        for row, _ in touched:
            terms = None if row.links is None else row.links.terms
            if terms is None or terms.wait is None:
                continue
            if row.state in TERMINAL:
                # It may have begun in this step, too.
                completed = row.state is TaskState.COMPLETED
                began = self.waits.get(row, timeline.now if completed else None)
                if began is not None:
                    self.waits[row] = None
                    start, end = began - begins, timeline.now - begins
                    span = (row.cargo, start, end, "", 0, _WAITED, ())
                    self.course.spans.append(span)
            elif terms.awaits and row not in self.waits:
                self.waits[row] = timeline.now
                if terms.wait[0] is not None:
                    comes = timeline.now + self.chance.first[row.cargo]
                    timeline.at(comes, self._arrive, row)

    def _arrive(self, row: TaskRow) -> None:
        """Let the event come for which *row* waits, unless it waits no more."""
        terms = None if row.links is None else row.links.terms
        if terms is not None and terms.awaits and terms.wait is not None:
            self.kernel.emit(terms.wait[0] or "", None, 0, self.timeline.now)

    # -- the end -------------------------------------------------------------------

    def finish(self, now: int) -> None:
        """Note the results of the run, which is over at *now*."""
        kernel, course = self.kernel, self.course
        course.makespan = max((span[2] for span in course.spans), default=0)
        for bucket in kernel.buckets.values():
            names = tuple(worker.name for worker in bucket.workers)
            course.able[bucket.spec] = names
        if kernel.completed == len(self.plan):
            return
        waited = {span[0]: None for span in course.spans if span[5] == _WAITED}
        reasons: dict[Bucket, str] = {}
        for row in kernel.tasks.values():
            if row.state is TaskState.COMPLETED:
                continue
            if row.attempt or row.cargo in waited:
                course.failed[row.id] = _end_of(row)
            elif row.state in TERMINAL:
                course.never[row.id] = _end_of(row)
            elif row.state is TaskState.QUEUED:
                # Tasks of one bucket wait for the same, and an explanation takes a
                # while.
                if row.bucket not in reasons:
                    reasons[row.bucket] = self._why(row, now)
                course.never[row.id] = reasons[row.bucket]
            else:
                course.never[row.id] = _needs(row) or self._why(row, now)

    def _why(self, row: TaskRow, now: int) -> str:
        try:
            explanation = explain(self.kernel, row, now)
        except PolicyFault as fault:
            return _words(fault)
        return " ".join(blocker.detail for blocker in explanation.blockers)


def _words(fault: PolicyFault) -> str:
    return f"the {fault.component} failed: {describe(fault.error)}"


def _end_of(row: TaskRow) -> str:
    """Return why *row* has not completed."""
    extra = row.extra
    if row.state is TaskState.FAILED and extra is not None and extra.error is not None:
        kind, message, _ = extra.error
        return f"{kind}: {message}"
    reason = "" if extra is None else extra.stop_reason
    return reason or f"it is {row.state.value}"


def _needs(row: TaskRow) -> str:
    """Return the unfinished task for which *row* waits; empty if there is none."""
    extra, links = row.extra, row.links
    by: TaskRow | None = None
    root = ""
    if extra is not None and extra.blocked_by:
        by = next(iter(extra.blocked_by.values()))
        root = next(iter(extra.first_roots), "")
    elif links is not None:
        waits = (
            parent
            for parent in links.parents
            if parent.state is not TaskState.COMPLETED
            and not (
                parent.state is TaskState.FAILED and parent.bucket.spec.allow_failure
            )
        )
        by = next(waits, None)
    if by is None:
        return ""
    because = f" because of {root}" if root not in ("", by.id) else ""
    return f"It needs {by.id}, which would not complete{because}."
