"""
The connection of policies to an orchestrator: submissions, starts, progress, commands.

They judge submissions outside the lock, and starts under it, at the moment of the
start: all events before count, in the same step, too. A denied task is on hold, and is
judged again when policies, waivers or the past have changed.

Decision: policies-as-data.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import attrs

from taskorch.core.engine._context import current_budget
from taskorch.core.engine._work import Work, question_in, row_of, task_of
from taskorch.core.kernel import Ruling, TaskRow, rules_ask
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    PolicyDeniedError,
)
from taskorch.events import (
    Event,
    ExtensionKept,
    PolicyViolated,
    TaskRejected,
    TaskSubmitted,
)
from taskorch.ext.governance._policies import Operation, Verdict, Violation
from taskorch.ext.governance._runtime import ConstitutionalRuntime
from taskorch.kit.fence import log_of
from taskorch.kit.limits import NS
from taskorch.kit.people import caller
from taskorch.kit.visible import visible
from taskorch.kit.words import some
from taskorch.model import TERMINAL, Task, TaskState, call_type

if TYPE_CHECKING:
    from taskorch.core.engine._runtime import Runtime
    from taskorch.ext.governance._history import Memory
    from taskorch.protocols import DurableJournal

_LOG: Final = log_of("taskorch.governance")
#: The number of violations that are kept, so that each is reported once.
_MOST: Final = 10_000
_ALLOWED: Final = Ruling()
#: The number of sentences in a forecast, and of tasks in one.
_FORESEEN: Final = {
    "allow": "Policies find a violation, and let pass",
    "ask": "Policies would have people asked about",
    "deny": "Policies would deny",
}
_SHOWN: Final = 20
#: The verb that no policy judges.
_UNJUDGED: Final = "request_waiver"
#: The fields of an operation that a verb takes from its task.
_OF_VERBS: Final = (
    *("type", "id", "payload", "resources", "metadata", "owner", "priority"),
    *("deadline", "writes", "budget"),
)
#: The least time in ns between two looks at held tasks.
_PAUSE: Final = NS // 10
#: The key in a snapshot for the data of history rules.
_HISTORY: Final = "history"
#: The number of events of a journal that are taken in together.
_MANY: Final = 5_000
_MICROSECOND: Final = 1_000


class Accepted(Protocol):
    """A task that was accepted; see `Entry`."""

    @property
    def verdict(self) -> Any:
        """The verdict on it, if it has anything to report."""
        ...

    @property
    def is_new(self) -> bool:
        """True if the task did not exist before."""
        ...

    @property
    def has_changed(self) -> bool:
        """True if it takes the place of a task with other content."""
        ...

    @property
    def work(self) -> Work:
        """The handle of the task."""
        ...


class PolicyGovernor:
    """
    The policies of one orchestrator, as its runtime asks them: see `_governs`.

    Args:
        rt: The runtime.
        constitution: The policies, ready to judge.
    """

    def __init__(self, rt: Runtime, constitution: ConstitutionalRuntime) -> None:
        self._rt = rt
        self.constitution: ConstitutionalRuntime = constitution
        #: The number of events of the sink that were taken in.
        self._heard = 0
        #: The time of the next look at held tasks; 0: there is none.
        self._due_ns = 0
        #: The time of the last look, and whether the next one is at all tasks.
        self._looked_ns = 0
        self._at_all = False
        #: Whether it needs events, because there are history rules.
        self._hears: bool = bool(constitution.memory)
        #: While other policies read the journal: its last event, and the events since.
        self._later: tuple[int, list[tuple[Any, Any]]] | None = None
        #: Tasks that only history rules hold, by these rules and the values of `same`.
        self._groups: dict[tuple[tuple[str, str, str], ...], dict[TaskRow, None]] = {}
        #: The number of open violations of each policy in this incarnation, by its
        #: severity and its id.
        self.violated: Counter[tuple[str, str]] = Counter()
        #: The violations of tasks that were reported.
        self._told: dict[tuple[str, ...], None] = {}

    def begin(self) -> None:
        """Let the kernel ask before starts."""
        rt = self._rt
        # A journal brings another clock, which goes on from its events.
        self.constitution.join(
            lambda: rt.now(),  # noqa: PLW0108
            self._changed,
            self._replace,
        )
        rt.governor = rt.deciders.governor = self
        rt.kernel.judge_starts(judged=True)
        rt.receivers_changed()

    @property
    def wants(self) -> frozenset[type[Event]]:
        """The classes of events that it needs."""
        heard = (
            self.constitution.memory.heard if self._hears else frozenset[type[Event]]()
        )
        return heard | {ExtensionKept, PolicyViolated}

    # -- whether policies are asked ----------------------------------------------------

    def _operation(self, task: Task, **fields: Any) -> Operation:
        return Operation.of_task(task, **fields)

    def _operation_of(
        self, row: TaskRow, work: Work | None = None, **fields: Any
    ) -> Operation:
        """Return the operation for *row*, with its present options."""
        operation = self._operation(
            task_of(row, work),
            task_id=row.id,
            run=row.run or "",
            submitted=row.submitted_ns / NS,
            **fields,
        )
        spec = row.bucket.spec
        priority = 0 if row.extra is None else row.extra.priority
        return attrs.evolve(
            operation, priority=priority, owner=spec.owner, budget=spec.budget or None
        )

    def _asking(self) -> dict[str, Any]:
        who = caller()
        return {} if who is None else {"who": who.name, "roles": sorted(who.roles)}

    # -- submissions -------------------------------------------------------------------

    def is_asked(self, moment: Any, name: str) -> bool:
        """Return whether a policy judges a type, or a verb, at *moment*."""
        # Tasks that only hold others together are ours: no user could make them keep
        # rules.
        return name not in self._rt.glue and self.constitution.is_asked(moment, name)

    def is_asked_of(self, fn: object) -> bool:
        """Return whether a policy judges submitted calls of *fn*."""
        return callable(fn) and self.is_asked("submit", call_type(fn))

    def admit(self, task: Task) -> tuple[Task, Verdict | None]:
        """
        Judge *task*, which is submitted.

        A task that is denied is refused by `confirm`, or by `refuse`.

        Returns:
            The task as policies change it; and the verdict, None if it has nothing to
            report.
        """
        if self.constitution.is_request(task.payload):
            # Requests for waivers always pass; otherwise bad policies could never be
            # waived.
            return task, None
        verdict = self.constitution.judge(self._submitted(task), self._rt.now())
        if not (verdict.violations or verdict.changes):
            return task, None
        return _as_changed(task, verdict), verdict

    def _submitted(self, task: Task) -> Operation:
        """Return the operation for the submission of *task*."""
        operation = self._operation(
            task, submitted=self._rt.now() / NS, **self._asking()
        )
        if operation.budget is None and (name := current_budget()):
            operation = attrs.evolve(operation, budget=name)
        return operation

    def changed(self, task: Task) -> Task:
        """Return *task* as policies would change it if there were no waivers."""
        if not self.constitution.is_asked("submit", task.type):
            return task
        verdict = self.constitution.judge(
            self._submitted(task), self._rt.now(), covers=_covers_nothing
        )
        return _as_changed(task, verdict)

    def refuse(self, verdict: Verdict) -> NoReturn:
        """
        Report and refuse a denied submission.

        Raises:
            PolicyDeniedError: Always.
        """
        task_id, kind = verdict.operation.id, verdict.operation.type
        findings = _findings(verdict)

        def note(now: int) -> None:
            fields, kernel = _told(verdict), self._rt.kernel
            kernel.note(PolicyViolated, now, task_id, *fields, type=kind)
            kernel.note(TaskRejected, now, task_id, kind, findings)

        self._rt.step(note)
        raise _refused(verdict)

    def confirm(self, entries: Iterable[Accepted], now: int) -> None:
        """
        Refuse a new task that is denied, or no longer waived, under the lock.

        Raises:
            PolicyDeniedError: A task is denied; `refuse` reports it.
        """
        for entry in entries:
            verdict = entry.verdict
            if verdict is None or not entry.is_new:
                continue
            if len(verdict.open_violations) != len(verdict.violations):
                # A waiver may have expired, or was revoked, since.
                verdict = self.constitution.judge(verdict.operation, now)
            if verdict.decision == "deny":
                raise _refused(verdict)

    def admitted(self, entries: Iterable[Accepted], now: int) -> None:
        """Report the verdicts on accepted tasks, under the lock."""
        for entry in entries:
            verdict = entry.verdict
            if verdict is None or not entry.is_new:
                continue
            work = entry.work
            task_id = row_of(work).id
            if entry.has_changed:
                self.constitution.end_for_content(task_id, now)
            self._rt.kernel.note(
                PolicyViolated, now, task_id, *_told(verdict), cargo=work
            )

    def foreseen(self, tasks: Iterable[Task]) -> list[str]:
        """Return sentences on the present verdicts on *tasks*, for a forecast."""
        sentences: list[str] = []
        for task in tasks:
            if task.type in self._rt.glue:
                continue
            verdict = self.constitution.before_start(task)
            if verdict is not None:
                verb, name = _FORESEEN[verdict.decision], verdict.operation.name
                sentences.append(f"{verb} {name}: {verdict.text}.")
        if len(sentences) > _SHOWN:
            many = len(sentences) - _SHOWN
            sentences[_SHOWN:] = [f"Policies have findings in {many:,} more tasks."]
        if sentences:
            sentences.append("The forecast takes all tasks to pass the policies.")
        return sentences

    # -- starts ------------------------------------------------------------------------

    def rule(self, row: TaskRow, now: int) -> Ruling:
        """Judge a start of *row*, under the lock."""
        if not self.is_asked("start", row.bucket.spec.type):
            return _ALLOWED
        verdict = self._of_start(row, now)
        ruling = _ruling(row, verdict)
        if ruling.denied and not ruling.asks:
            self._file(row, verdict)
        return ruling

    def _of_start(self, row: TaskRow, now: int) -> Verdict:
        self.hear()
        operation = self._operation_of(row, moment="start", attempt=row.attempt + 1)
        return self.constitution.judge(operation, now)

    def _file(self, row: TaskRow, verdict: Verdict) -> None:
        """Note a denied *row*, which history rules alone may allow later."""
        names = [
            (one.policy_id, one.rule_id)
            for one in verdict.open_violations
            if one.decision == "deny"
        ]
        memory = self.constitution.memory
        if not all(name in memory.rules for name in names):
            return
        self._groups.setdefault(memory.group(names, verdict.operation), {})[row] = None
        if verdict.opens_at is not None:
            # A float of seconds is exact to microseconds only.
            self._look_by(int(verdict.opens_at * NS) + _MICROSECOND)

    # -- events ------------------------------------------------------------------------

    def hear(self) -> None:
        """Take in the new events of this step, under the lock."""
        sink = self._rt.kernel.sink
        if sink is None:
            return
        new = sink[self._heard :] if self._heard else sink
        self._heard = len(sink)
        if self._later is not None:
            self._later[1].extend(new)
        for event, _ in new:
            if type(event) is PolicyViolated:
                self._tell(event)
        memory = self.constitution.memory
        was_looked_for = memory.hear(new, _type_of, self._of_cargo) if new else False
        if self.constitution.hear_waivers(new):
            self._at_all = was_looked_for = True
        kernel = self._rt.kernel
        if was_looked_for and (kernel.denied or (self._at_all and kernel.asked)):
            self._look_by(max(self._rt.now(), self._looked_ns + _PAUSE))

    def handed_over(self) -> None:
        """Note, under the lock, that the events of the sink were taken."""
        self._heard = 0

    def _of_cargo(self, _: Any, work: Work | None) -> Operation | None:
        if work is None:  # pragma: no cover - each of these events comes with its work
            return None
        return self._operation_of(row_of(work), work)

    def recall(self, last: int) -> None:
        """Take in the journal up to the event *last*, under the lock."""
        self.constitution.restore_waivers()
        self._read(self.constitution.memory, last)

    def save_history(self, state: dict[str, Any]) -> None:
        """Put the data of history rules into a snapshot, under the lock."""
        self.hear()
        state[_HISTORY] = self.constitution.memory.state()

    def _read(self, memory: Memory, last: int) -> None:
        """Let new rules read events up to *last*, under the lock."""
        committer = self._rt.committer
        if committer is None or not memory.new:
            return
        journal = committer.journal
        new = memory.new
        seq, state = journal.snapshot() or (0, {})
        # A snapshot has the counts of rules for events that have left the journal.
        states = state.get(_HISTORY, ()) if seq <= last else ()
        memory.new = restored = memory.restore(states)
        self._read_from(journal, memory, seq, last)
        memory.new = [name for name in new if name not in restored]
        within = memory.within_ns
        since = 0
        if within is not None:
            since = _first_after(journal, last, self._rt.now() - within)
        self._read_from(journal, memory, since, last)
        memory.new = []

    def _read_from(
        self, journal: DurableJournal, memory: Memory, since: int, last: int
    ) -> None:
        """Let new rules read events after *since*, under the lock."""
        if not memory.new:
            return
        tasks: dict[str, Task] = {}
        group: list[tuple[Any, Any]] = []
        number = since
        for event, document in journal.read(since):
            if event.seq > last:
                break
            number += 1
            if event.seq != number:
                number = event.seq
                memory.missed(event.at_ns)
            if type(event) is TaskSubmitted and isinstance(document, Task):
                tasks[event.task_id] = document
            if type(event) in memory.heard:
                group.append((event, None))
            if len(group) >= _MANY:
                self._take_in(memory, group, tasks, last)
                group, tasks = [], {}
        if number < last:
            memory.missed(self._rt.now())
        self._take_in(memory, group, tasks, last)

    def _take_in(
        self,
        memory: Memory,
        group: list[tuple[Any, Any]],
        tasks: dict[str, Task],
        last: int,
    ) -> None:
        committer = self._rt.committer
        assert committer is not None  # noqa: S101 - `_read` looked
        unknown = {event.task_id for event, _ in group} - tasks.keys()
        for event, document in committer.journal.select(unknown, last):
            if type(event) is TaskSubmitted and isinstance(document, Task):
                tasks[event.task_id] = document

        def find(event: Any, _: Any) -> Operation | None:
            task = tasks.get(event.task_id)
            if task is None:
                return None
            return self._operation(task, task_id=event.task_id)

        def type_of(event: Any, _: Any) -> str:
            task = tasks.get(event.task_id)
            return "" if task is None else task.type

        memory.hear(group, type_of, find, only_new=True)

    # -- held tasks --------------------------------------------------------------------

    def _look_by(self, when: int) -> None:
        """Plan a look at held tasks at *when*, or before, under the lock."""
        if not self._due_ns or when < self._due_ns:
            self._due_ns = when
            self._rt.timer.wake_by(when)

    @property
    def due_ns(self) -> int:
        """See `Governs`."""
        return self._due_ns

    def look_if_due(self, now: int) -> None:
        """Look at held tasks, if it is time, under the lock."""
        if self._due_ns and now >= self._due_ns:
            self.look(now, at_all=self._at_all)

    def look(self, now: int, *, at_all: bool = True) -> None:
        """
        Let held tasks try again if policies would allow them, under the lock.

        Args:
            now: The time in ns.
            at_all: Whether to look at all tasks, and at ones that people are asked
                about; else at one of each group that waits for the same events, and at
                more while these may start.
        """
        self._due_ns, self._looked_ns, self._at_all = 0, now, False
        groups, self._groups = self._groups, {}
        rooms: dict[tuple[str, str, str], int] = {}
        if at_all:
            kernel = self._rt.kernel
            for row in [*kernel.denied, *kernel.asked]:
                self._let_go(row, rooms, now)
            return
        for group, rows in groups.items():
            for number, row in enumerate(rows):
                if not self._let_go(row, rooms, now) and row in self._groups.get(
                    group, ()
                ):
                    # The other tasks wait for the same events.
                    others = list(rows)[number + 1 :]
                    self._groups[group] |= dict.fromkeys(others)
                    break

    def _let_go(
        self, row: TaskRow, rooms: dict[tuple[str, str, str], int], now: int
    ) -> bool:
        """
        Return whether *row*, which may be on hold, may try again.

        *rooms* has how many may do so at once, where rules count starts.
        """
        kernel = self._rt.kernel
        is_asked = rules_ask(row)
        if row.state is not TaskState.BLOCKED or not (is_asked or row in kernel.denied):
            return False
        verdict = self._of_start(row, now)
        ruling = _ruling(row, verdict)
        if ruling.denied and (is_asked or not ruling.asks):
            if not is_asked:
                self._file(row, verdict)
            return False
        names = [
            (one.policy_id, one.rule_id)
            for one in verdict.evaluations
            if one.outcome == "held"
        ]
        memory, operation = self.constitution.memory, verdict.operation
        for key, room in memory.room(names, operation, now).items():
            if rooms.setdefault(key, room) <= 0:
                counting = [name for name in names if (*name, key[2]) == key]
                group = memory.group(counting, operation)
                self._groups.setdefault(group, {})[row] = None
                self._look_by(now + NS)
                return False
        for key in memory.room(names, operation, now):
            rooms[key] -= 1
        waivers = dict.fromkeys(
            one.waived_by for one in verdict.violations if one.waived_by is not None
        )
        why = f"waived by {some([*waivers])}" if waivers else ""
        kernel.release_denied(row, now, why)
        return True

    def _changed(self) -> None:
        """Judge all held tasks again, because waivers have changed."""
        if self._rt.opened and not self._rt.closed:
            self._rt.step(self.look)

    def _replace(self, memory: Memory, install: Callable[[], object]) -> None:
        """
        Let other policies judge from now on.

        Args:
            memory: The memory of their history rules; new rules read the journal first.
            install: Puts them in force.
        """
        rt, committer = self._rt, self._rt.committer
        if rt.closed or not rt.opened:
            install()
            return
        self._hears = self._hears or bool(memory)
        rt.receivers_changed()
        if committer is not None and memory.new:
            committer.wait_kept(rt.step(self._listen))

        def change(now: int) -> None:
            self.hear()
            later, self._later = self._later, None
            if later is not None:
                last, items = later
                self._read(memory, last)
                memory.hear(items, _type_of, self._of_cargo, only_new=True)
            memory.new.clear()
            install()
            rt.kernel.judge_starts(judged=True)
            self.look(now)

        rt.step(change)

    def _listen(self, _: int) -> int:
        """Collect events from now on, under the lock; return the last one before."""
        assert self._rt.committer is not None  # noqa: S101 - the caller looked
        self._rt.publish()
        last = self._rt.committer.last
        self._later = last, []
        return last

    # -- running tasks -----------------------------------------------------------------

    def progressed(self, work: Work, attempt: int, value: Any) -> None:
        """Judge the progress of an attempt, and cancel a denied one."""
        row = row_of(work)
        if not self.is_asked("progress", row.bucket.spec.type):
            return
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        verdict = self._judge(
            work,
            moment="progress",
            attempt=attempt,
            progress=value if is_number else None,
            result=None if is_number else value,
        )
        if verdict is None or verdict.decision == "allow":
            return
        reason = f"policies deny it to go on: {verdict.reason}"

        def change(now: int) -> None:
            if row.attempt == attempt and row.state not in TERMINAL:
                self._rt.kernel.cancel(row, now, reason)

        try:
            self._rt.step(change)
        except InvalidTransitionError as error:
            _LOG.error("%s", visible(f"{error}"))

    def result_error(self, work: Work, attempt: int, value: Any) -> Exception | None:
        """Return why an attempt fails that returned *value*, if it does."""
        if not self.is_asked("result", row_of(work).bucket.spec.type):
            return None
        verdict = self._judge(work, moment="result", attempt=attempt, result=value)
        if verdict is None or verdict.decision == "allow":
            return None
        task_id = row_of(work).id
        msg = f"policies deny the result of task {task_id}: {verdict.reason}"
        return _denied(verdict, msg, task_id)

    def _judge(self, work: Work, **fields: Any) -> Verdict | None:
        """Return the verdict on a running task; None: nothing is violated."""
        row = row_of(work)
        worker = "" if row.worker is None else row.worker.name
        operation = self._operation_of(row, work, worker=worker, **fields)
        verdict = self.constitution.judge(operation, self._rt.now())
        if not verdict.violations:
            return None
        event = _told(verdict)
        self._rt.step(
            lambda now: self._rt.kernel.note(
                PolicyViolated, now, row.id, *event, cargo=work
            )
        )
        return verdict

    # -- commands ----------------------------------------------------------------------

    def refuse_verb(self, verb: str, arguments: Mapping[str, Any]) -> None:
        """
        Judge a command of a user.

        Raises:
            PolicyDeniedError: It is denied.
        """
        # Commands on waivers always pass; otherwise bad policies could never be waived.
        if verb == _UNJUDGED or not self.constitution.is_asked("verb", verb):
            return
        task_id = str(arguments.get("task_id") or "")
        fields: dict[str, Any] = {"id": task_id}
        row = self._rt.kernel.tasks.get(self._rt.directory.reruns.latest(task_id))
        if row is not None:
            judged = self._operation_of(row)
            fields = {name: getattr(judged, name) for name in _OF_VERBS}
        operation = Operation(
            moment="verb",
            verb=verb,
            arguments=dict(arguments),
            **self._asking(),
            **fields,
        )
        verdict = self.constitution.judge(operation, self._rt.now())
        if not verdict.violations:
            return
        event = _told(verdict, verb)
        self._rt.note(PolicyViolated, operation.id, *event)
        if verdict.decision != "allow":
            msg = f"{operation.name} was refused: {verdict.reason}"
            raise _denied(verdict, msg, operation.id)

    # -- reports -----------------------------------------------------------------------

    def _tell(self, event: PolicyViolated) -> None:
        """
        Count and report violations, under the lock.

        A violation of a task is reported once, however often the task is judged.
        """
        fresh = []
        for one in event.violations:
            policy, rule, severity, message, waiver, evidence, follows = one
            if event.task_id and not event.verb:
                name = event.task_id, policy, rule, message, evidence, follows, waiver
                if name in self._told:
                    continue
                self._told[name] = None
                if len(self._told) > _MOST:
                    del self._told[next(iter(self._told))]
            if not waiver and follows != "change":
                self.violated[severity, policy] += 1
            fresh.append(one)
        teller = self._rt.notices.teller
        if teller is not None and fresh:
            teller.violated(event, fresh)

    def waivers_asked_for(self, row: TaskRow) -> list[str]:
        """Return the open requests of waivers for *row*, under the lock."""
        kernel, policies = self._rt.kernel, dict[str, list[str]]()
        if row.state is TaskState.BLOCKED and not (
            row in kernel.denied or rules_ask(row)
        ):
            return []
        for asked in kernel.asked:
            request: Any = question_in(asked.cargo)
            if self.constitution.is_request(request) and request.matches(
                row.id, row.bucket.spec.type
            ):
                policies.setdefault(request.policy_id, []).append(asked.id)
        violated = self.violations(row) if policies else ()
        return [name for one in violated for name in policies.pop(one.policy_id, ())]

    def violations(self, row: TaskRow) -> tuple[Violation, ...]:
        """Return the violations that keep *row* from starting, under the lock."""
        verdict = self._of_start(row, self._rt.now())
        return () if verdict.decision == "allow" else verdict.open_violations


def _covers_nothing(policy_id: str, operation: Operation, at: float) -> None:  # noqa: ARG001 - as `Covers`
    return None


def _as_changed(task: Task, verdict: Verdict) -> Task:
    """Return *task* with the changes of policies."""
    if not verdict.changes:
        return task
    judged = verdict.operation
    metadata = judged.metadata or task.metadata
    return attrs.evolve(task, payload=judged.payload, metadata=metadata)


def _ruling(row: TaskRow, verdict: Verdict) -> Ruling:
    """Return the decision about a start of *row* by *verdict*."""
    fields = _told(verdict) if verdict.violations else ()
    if verdict.decision == "allow":
        return Ruling(_permit(verdict), violated=fields)
    policies = f"[policies {verdict.policies_hash.partition(':')[2][:12]}]"
    reason = f"{verdict.reason} {policies}"
    asks = verdict.decision == "ask"
    if asks and row.extra is not None and row.extra.permitted == reason:
        # People have let exactly these violations pass.
        return Ruling(_permit(verdict, people=True), violated=fields)
    return Ruling((), reason, asks, fields, f"{_shown(row.id, verdict)} {policies}")


def _shown(task_id: str, verdict: Verdict) -> str:
    """
    Return the violations of a task, with the evidence, for people.

    It names the task if the evidence is not whole: then no other task is surely alike.
    """
    violations = verdict.open_violations
    text = "; ".join(
        f"policy {one.policy_id} ({one.rule_id}): {one.text}; severity {one.severity}"
        for one in sorted(violations, key=lambda one: -one.severity.rank)
    )
    is_whole = all(one.is_whole for one in violations)
    return text if is_whole else f"{text}, of task {task_id}"


def _told(verdict: Verdict, verb: str = "") -> tuple[Any, ...]:
    """Return the fields of `PolicyViolated` after the task."""
    changing = {one.policy_id for one in verdict.changes}
    violations = tuple(
        (
            one.policy_id,
            one.rule_id,
            str(one.severity),
            one.message,
            one.waived_by or "",
            one.evidence,
            "change" if one.policy_id in changing else one.decision,
        )
        for one in verdict.violations
    )
    changes = tuple(one.path for one in verdict.changes)
    fields = (
        verdict.operation.moment,
        verdict.decision,
        verdict.policies_hash,
        violations,
        changes,
        verb,
    )
    return fields if verb else fields[:-1]


def _permit(verdict: Verdict, *, people: bool = False) -> tuple[str, ...]:
    """Return the rules that allowed a start: see `TaskStarted`."""
    waived = {
        (one.policy_id, one.rule_id): one.waived_by or "people"
        for one in verdict.violations
        if one.waived_by is not None or people
    }
    rules: list[str] = []
    for one in verdict.evaluations:
        name = f"{one.policy_id}/{one.rule_id}"
        if (one.policy_id, one.rule_id) in waived:
            name += f"~{waived[one.policy_id, one.rule_id]}"
        elif one.event is not None:
            name += f"@{one.event}"
        rules.append(name)
    return (verdict.policies_hash, *rules) if rules else ()


def _findings(verdict: Verdict) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"policy {one.policy_id}/{one.rule_id}", one.message)
        for one in verdict.open_violations
    )


def _denied(verdict: Verdict, msg: str, task_id: str | None) -> PolicyDeniedError:
    return PolicyDeniedError(
        msg, findings=_findings(verdict), verdict=verdict, task_id=task_id or None
    )


def _refused(verdict: Verdict) -> PolicyDeniedError:
    """Return the error for a submission that is denied."""
    task_id, kind = verdict.operation.id, verdict.operation.type
    name = f"task {task_id!r}" if task_id else f"a task of type {kind!r}"
    return _denied(verdict, f"{name} was refused: {verdict.reason}", task_id)


def _type_of(_: Any, work: Work | None) -> str:
    """Return the type of the task of *work*; "": unknown."""
    return "" if work is None else row_of(work).bucket.spec.type


def _first_after(journal: DurableJournal, last: int, at_ns: int) -> int:
    """Return the number of an event after all events older than *at_ns*."""
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        entry = next(iter(journal.read(middle)), None)
        if entry is None or entry[0].at_ns >= at_ns:
            high = middle
        else:
            low = middle + 1
    return max(0, low - 1)


def govern(rt: Runtime, orch: Any, governance: Any) -> None:
    """Let an orchestrator ask the policies *governance*, or those of a file."""
    if isinstance(governance, str | os.PathLike):
        governance = ConstitutionalRuntime.from_yaml(governance)
    PolicyGovernor(rt, governance).begin()
    governance.serve(orch)


def constitution_of(rt: Runtime) -> ConstitutionalRuntime:
    """
    Return the constitutional runtime of an orchestrator.

    Raises:
        InvalidTaskError: It has none.
    """
    if rt.governor is None:
        msg = "this orchestrator has no policies"
        raise InvalidTaskError(msg, hint="TaskOrchestrator(governance=…)")
    constitution: ConstitutionalRuntime = rt.governor.constitution
    return constitution
