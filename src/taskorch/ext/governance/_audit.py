"""
Verdicts of policies on the past: replays of a journal, and audits of one task.

A replay reads a journal once and judges each submission and each start by the state of
that moment: the waivers that counted then, the events before, the clock of the events.
So the same journal and the same policies give the same verdicts, anywhere.

Decision: waivers-and-audits.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from taskorch.core.journal import SqlJournal, open_journal
from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.events import (
    Event,
    PolicyViolated,
    QuestionAnswered,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskOptionsChanged,
    TaskReprioritised,
    TaskStarted,
    TaskSubmitted,
    TaskUnblocked,
)
from taskorch.ext.governance._history import Memory
from taskorch.ext.governance._policies import (
    Decision,
    Moment,
    Operation,
    Policy,
    Severity,
    Verdict,
    Violation,
    parts_of,
)
from taskorch.ext.governance._reading import read_policies
from taskorch.ext.governance._receipts import TEST_RESULT, statement_of
from taskorch.ext.governance._set import PolicySet
from taskorch.ext.governance._waivers import Waiver, WaiverBook, WaiverRequest, Waivers
from taskorch.kit.canonical import canonical
from taskorch.kit.frozen import document_of, frozen
from taskorch.kit.limits import NS
from taskorch.kit.plain import plain
from taskorch.kit.verbs import verb
from taskorch.kit.visible import as_text, counted, show
from taskorch.kit.vocabulary import meant
from taskorch.kit.words import some, stamp
from taskorch.model import Resources, Task, TaskState
from taskorch.model.ids import has_number, run_id_of, run_of, stem_of

if TYPE_CHECKING:
    import os

    from taskorch.protocols import Entry

#: The points of an open violation, by its severity; a waived one takes a fifth of them.
POINTS: Final[Mapping[Severity, int]] = {
    Severity.LOW: 5,
    Severity.MEDIUM: 10,
    Severity.HIGH: 25,
    Severity.CRITICAL: 50,
}
_WAIVED: Final = 5
#: The error class of a task that policies keep from starting.
_DENIED: Final = "PolicyDeniedError"
_ASKED: Final = "PolicyAskedError"
#: The text in a permit between a rule and its waiver; and the end of a rule that people
#: have let pass.
_WAIVED_BY: Final = "~"
_BY_PEOPLE: Final = f"{_WAIVED_BY}people"
#: The events in a receipt.
_IN_RECEIPTS: Final = (
    *(TaskSubmitted, TaskStarted),
    *(TaskBlocked, QuestionAnswered, TaskUnblocked),
)
_ENDS: Final = (TaskCompleted, TaskFailed, TaskCancelled)
#: The format of a receipt.
_SPEC: Final = "taskorch.receipt/1"

#: A source for a replay: a path, a reader of a journal, or a journal.
Source: TypeAlias = Any


@frozen
class Replayed:
    """
    One moment of the past, with its verdicts then and now.

    Attributes:
        seq: The number of the event.
        at: The time of the event, in seconds since the epoch.
        task_id: The id of the task.
        moment: `submit` or `start`.
        verdict: The verdict of the policies now.
        then: The decision then: `allow`, `deny` or `ask`.
        permit: The rules that allowed it then: see `TaskStarted.permit`.
    """

    seq: int
    at: float
    task_id: str
    moment: Moment
    verdict: Verdict
    then: Decision
    permit: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """True if the decision is another one now, and people had not allowed it."""
        now = self.verdict.decision
        by_people = any(rule.endswith(_BY_PEOPLE) for rule in self.permit)
        return now != self.then and not (now == "ask" and by_people)

    def __str__(self) -> str:
        done = f"{self.then}, and now {self.verdict.decision}"
        why = f": {self.verdict.reason}" if self.verdict.reason else ""
        return (
            f"{self.seq} {stamp(self.at)} {self.moment} of {self.task_id}: {done}{why}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        names = ("seq", "at", "task_id", "moment", "then", "permit", "differs")
        return document_of(self, *names, "verdict")


@frozen
class Replay:
    """
    The verdicts of policies on the past of a journal.

    Refused submissions and commands are not in it, because a journal has no such
    operations.

    Attributes:
        policies_hash: The hash of the set of policies.
        moments: All judged moments, in order.
        skipped: Ids of runs whose submission was not judged, although policies judge
            such ones: reruns, and tasks that replace another. A journal does not
            distinguish the two. Their starts were judged.
    """

    policies_hash: str
    moments: tuple[Replayed, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def differences(self) -> tuple[Replayed, ...]:
        """The moments with another decision now."""
        return tuple(one for one in self.moments if one.differs)

    def to_dict(self) -> dict[str, Any]:
        """Return its sums and its differences, as JSON has them."""
        return {
            "policies_hash": self.policies_hash,
            "judged": len(self.moments),
            "skipped": list(self.skipped),
            "differences": [one.to_dict() for one in self.differences],
        }

    def __str__(self) -> str:
        different = self.differences
        head = (
            f"{counted(len(self.moments), 'verdict')}, {len(different)} of them other"
        )
        lines = [f"{head} than then", *map(str, different)]
        if self.skipped:
            lines.append(
                f"Not judged: {counted(len(self.skipped), 'submission')} of reruns, or "
                "in the place of other tasks. Their starts were."
            )
        return "\n".join(lines)


@frozen
class Audit:
    """
    A score of how well a task has kept the policies.

    Attributes:
        task_id: The id of the run of the task.
        score: 100 less the points of each violation: `low` 5, `medium` 10, `high` 25,
            `critical` 50; a waived one a fifth of that. It is never below 0, and a rule
            counts once however often the task was judged.
        violations: Its violations, waived or not, the worst first.
        recommendations: Remedies, in sentences.
        moments: All verdicts on it, in order.
    """

    task_id: str
    score: int
    violations: tuple[Violation, ...] = ()
    recommendations: tuple[str, ...] = ()
    moments: tuple[Replayed, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**document_of(self), "text": str(self)}

    def __str__(self) -> str:
        lines = [f"{self.task_id}: {self.score} of 100"]
        for one in self.violations:
            waived = f" (waived by {one.waived_by})" if one.waived_by else ""
            rule = f"{one.policy_id}, {one.rule_id}"
            lines.append(f"  {one.severity} {rule}{waived}: {one.message}")
        return "\n".join([*lines, *(f"- {each}" for each in self.recommendations)])


class _TaskThen:
    """The state of a task at a moment of the past."""

    __slots__ = ("attempt", "changes", "place", "run", "submitted", "task")

    def __init__(self, task: Task[Any], run: str, event: TaskSubmitted) -> None:
        self.task = attrs.evolve(task, budget=event.budget or task.budget)
        self.run = run
        #: The time of its submission, in seconds since the epoch.
        self.submitted = event.at_ns / NS
        #: The number of its latest attempt.
        self.attempt = 0
        #: Its options that were changed since.
        self.changes: dict[str, Any] = {}
        #: The place of its submission among the judged moments; None: it has none.
        self.place: int | None = None

    def note(self, event: Event) -> None:
        """Take in another attempt, or other options."""
        if isinstance(event, TaskStarted):
            self.attempt = event.attempt
        elif isinstance(event, TaskReprioritised):
            self.changes["priority"] = event.priority
        elif isinstance(event, TaskOptionsChanged):
            due_ns = event.deadline_ns
            self.changes |= {
                "deadline": None
                if due_ns is None
                else datetime.fromtimestamp(due_ns / NS, UTC),
                "priority": event.priority,
                "resources": Resources.from_units(event.resources),
                "timeout": None if event.timeout_ns is None else event.timeout_ns / NS,
                "owner": event.owner,
            }

    def operation(self, task_id: str, **fields: Any) -> Operation:
        """Return the operation that stands for the task."""
        task = attrs.evolve(self.task, **self.changes) if self.changes else self.task
        return Operation.of_task(
            task, task_id=task_id, run=self.run, submitted=self.submitted, **fields
        )


def entries_of(source: Source) -> Iterator[Entry]:
    """
    Return the events of a journal, with the data that it keeps beside them.

    Raises:
        InvalidTaskError: *source* is no journal, no reader of one, and no path.
        JournalError: It cannot be read.
    """
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        path: str | os.PathLike[str] = source
        source = open_journal(path)
        if isinstance(source, SqlJournal):
            source.check_readable()
    read = getattr(source, "entries", None) or getattr(source, "read", None)
    if read is None:
        msg = f"{show(source)} is no journal, no reader of one, and no path"
        raise InvalidTaskError(msg, hint="JournalReader('runs.db')")
    entries: Iterator[Entry] = read()
    return entries


def read_waivers(journal: Source, at: float | None = None) -> list[Waiver]:
    """
    All waivers of a journal, in the order of their requests.

    Args:
        journal: Its path, a `JournalReader`, or a journal.
        at: The moment in seconds since the epoch; None: that of the last event.

    Raises:
        InvalidTaskError: *journal* is none.
        JournalError: It cannot be read.
    """
    book, now_ns = WaiverBook(), 0
    for event, value in entries_of(journal):
        book.note(event, value)
        now_ns = event.at_ns
    return book.all(now_ns if at is None else max(now_ns, int(at * NS)))


def replayed(
    entries: Iterable[Entry], ready: PolicySet, skipped: list[str] | None = None
) -> list[Replayed]:
    """
    Yield each submission and start of *entries*, judged by the policies *ready*.

    It adds ids of runs whose submission is not judged to *skipped*.
    """
    book, memory = WaiverBook(), Memory(ready.histories)
    tasks: dict[str, _TaskThen] = {}
    moments: list[Replayed] = []

    def find(event: Any, _: Any) -> Operation | None:
        past = tasks.get(event.task_id)
        return None if past is None else past.operation(event.task_id)

    def type_of(event: Any, _: Any) -> str:
        past = tasks.get(event.task_id)
        return "" if past is None else past.task.type

    for event, value in entries:
        if isinstance(event, TaskSubmitted) and isinstance(value, Task):
            run = run_of(event.task_id) if event.run is None else event.run
            tasks[event.task_id] = _TaskThen(value, run, event)
            is_again = event.rerun_of is not None and ready.is_asked(
                "submit", event.type
            )
            if skipped is not None and is_again:
                skipped.append(event.task_id)
        past = tasks.get(event.task_id) if isinstance(event, TaskEvent) else None
        if past is not None and not isinstance(past.task.payload, WaiverRequest):
            judged = _judged(event, past, ready, book, memory)
            if judged is not None:
                past.place = len(moments)
                moments.append(judged)
            elif (
                isinstance(event, PolicyViolated)
                and event.moment == "submit"
                # The refused task is another one, which wanted the same id.
                and not event.type
                and past.place is not None
            ):
                # The event with the decision about the submission comes after it.
                then: Any = event.decision
                moments[past.place] = attrs.evolve(moments[past.place], then=then)
            past.note(event)
        book.note(event, value)
        memory.hear([(event, None)], type_of, find)
        if isinstance(event, _ENDS):
            tasks.pop(event.task_id, None)
    return moments


def _judged(
    event: Event, past: _TaskThen, ready: PolicySet, book: WaiverBook, memory: Memory
) -> Replayed | None:
    """Return the verdict on *event*, if policies are asked at such an event."""
    then: Decision = "allow"
    permit: tuple[str, ...] = ()
    if isinstance(event, TaskSubmitted) and event.rerun_of is not None:
        # A rerun is judged as a command, and at its start: it is no submission.
        return None
    if isinstance(event, TaskSubmitted):
        moment: Moment = "submit"
        operation = past.operation(past.task.id or "", moment=moment, who=event.caller)
    elif isinstance(event, TaskStarted):
        moment, permit = "start", event.permit
        operation = past.operation(event.task_id, moment=moment, attempt=event.attempt)
    elif isinstance(event, TaskBlocked) and event.error_type in (_DENIED, _ASKED):
        moment = "start"
        then = "deny" if event.error_type == _DENIED else "ask"
        attempt = past.attempt + 1
        operation = past.operation(event.task_id, moment=moment, attempt=attempt)
    else:
        return None
    if not ready.is_asked(moment, operation.type):
        return None
    verdict = ready.judge(operation, event.at_ns, book.covers, memory)
    return Replayed(event.seq, event.at, event.task_id, moment, verdict, then, permit)


def audit(task_id: str, entries: Iterable[Entry], ready: PolicySet) -> Audit:
    """
    Return how well a task has kept the policies *ready*.

    Raises:
        UnknownTaskError: There is no such task.
    """
    runs: dict[str, list[Replayed]] = {}
    submitted = []

    def seen() -> Iterator[Entry]:
        for entry in entries:
            if isinstance(entry[0], TaskSubmitted):
                submitted.append(entry[0].task_id)
            yield entry

    for moment in replayed(seen(), ready):
        runs.setdefault(moment.task_id, []).append(moment)
    named = [name for name in submitted if _is_run_of(name, task_id)]
    if not named:
        msg = f"no task has the id {show(task_id)}"
        raise UnknownTaskError(msg, task_id=task_id)
    moments = tuple(runs.get(named[-1], ()))
    violations = _distinct(moments)
    points = sum(
        POINTS[one.severity] // (1 if one.waived_by is None else _WAIVED)
        for one in violations
    )
    return Audit(
        named[-1],
        max(0, 100 - points),
        violations,
        tuple(_recommended(moments, violations, ready.hash)),
        moments,
    )


def _is_run_of(run_id: str, task_id: str) -> bool:
    """Return whether *task_id* stands for this run, or for all runs of its task."""
    if has_number(task_id):
        return run_id == run_id_of(task_id)
    return stem_of(run_id) == task_id


def _distinct(moments: Iterable[Replayed]) -> tuple[Violation, ...]:
    """Return each violated rule once, by its worst violation."""
    worst: dict[tuple[str, str], Violation] = {}
    for moment in moments:
        for one in moment.verdict.violations:
            name = one.policy_id, one.rule_id
            before = worst.get(name)
            if before is None or (before.waived_by and one.waived_by is None):
                worst[name] = one
    return tuple(
        sorted(
            worst.values(),
            key=lambda one: (-one.severity.rank, one.waived_by is not None),
        )
    )


def _recommended(
    moments: tuple[Replayed, ...], violations: Iterable[Violation], hash_now: str
) -> Iterator[str]:
    if not moments:
        yield "No policy judges this task: write one, or let it be."
    for one in violations:
        rule = f"rule {one.rule_id} of policy {one.policy_id}"
        if one.waived_by is None:
            yield f"Mend what {rule} names: {one.message}."
        else:
            yield (
                f"Mend what {rule} names before waiver {one.waived_by} ends: "
                f"{one.message}."
            )
    faults = {
        (one.policy_id, one.rule_id): one.detail
        for moment in moments
        for one in moment.verdict.evaluations
        if one.outcome == "error"
    }
    for (policy_id, rule_id), detail in faults.items():
        yield (
            f"Mend rule {rule_id} of policy {policy_id}, which cannot be evaluated: "
            f"{detail}."
        )
    if any(m.then == "allow" and m.verdict.decision == "deny" for m in moments):
        yield "It ran, and today's policies deny it: look at what it did."
    if any(m.permit and m.permit[0] != hash_now for m in moments):
        yield "Other policies allowed it then: a replay tells what has changed."


# -- receipts: the rules that allowed one start ----------------------------------------


def receipts(
    task_id: str, entries: Iterable[Entry], policies: Iterable[Policy] = ()
) -> list[dict[str, Any]]:
    """
    One receipt for each start of a run of a task: see `ConstitutionalRuntime.receipts`.

    Raises:
        UnknownTaskError: There is no such task.
    """
    severities = {policy.id: policy.severity for policy in policies}
    book = WaiverBook()
    task: Task[Any] | None = None
    run_id, submitted_by = "", ""
    people: dict[str, Any] = {}
    documents: list[dict[str, Any]] = []
    for event, value in entries:
        book.note(event, value)
        if not isinstance(event, _IN_RECEIPTS):
            continue
        if not _is_run_of(event.task_id, task_id):
            continue
        people = _people(event, people)
        if isinstance(event, TaskSubmitted) and isinstance(value, Task):
            # An id without a number stands for the latest run.
            task, run_id, documents = value, event.task_id, []
            submitted_by = event.caller
        elif isinstance(event, TaskStarted) and task and event.task_id == run_id:
            document = _receipt(event, task, submitted_by, book, severities)
            rules = [rule for rule in event.permit if rule.endswith(_BY_PEOPLE)]
            passed = [{"rules": rules, **people}] if rules else []
            document["governance"]["people"] = passed
            documents.append(document)
    if task is None:
        msg = f"no task has the id {show(task_id)}"
        raise UnknownTaskError(msg, task_id=task_id)
    return documents


def _people(event: TaskEvent, people: dict[str, Any]) -> dict[str, Any]:
    """Return the question on a start and its approval, after the event *event*."""
    if isinstance(event, TaskBlocked) and event.error_type == _ASKED:
        return {"question": event.reason, "approval": {"by": [], "at": None}}
    is_open = bool(people) and people["approval"]["at"] is None
    if is_open and isinstance(event, QuestionAnswered | TaskUnblocked):
        by = event.by if isinstance(event, QuestionAnswered) else event.caller
        approval = {"by": [by] if by else [], "at": stamp(event.at, "milliseconds")}
        if isinstance(event, QuestionAnswered) and event.note:
            approval["note"] = event.note
        return {**people, "approval": approval}
    return people


def _receipt(
    event: TaskStarted,
    task: Task[Any],
    submitted_by: str,
    book: WaiverBook,
    severities: Mapping[str, Severity],
) -> dict[str, Any]:
    policies_hash, *rules = event.permit or ("",)
    names = (rule.partition(_WAIVED_BY)[2] for rule in rules)
    waivers = dict.fromkeys(name for name in names if name in book)
    asked = [
        severity
        for policy_id, severity in severities.items()
        if any(rule.startswith(f"{policy_id}/") for rule in rules)
    ]
    document: dict[str, Any] = {
        "spec": _SPEC,
        "id": f"{event.task_id}#{event.attempt}",
        "ts": stamp(event.at, "milliseconds"),
        "scope": {"tenant": task.owner},
        "agent": {"id": event.agent_id, "principal": submitted_by or None},
        "action": {
            "id": event.task_id,
            "canonical": task.type,
            "paramsHash": _parameters(task),
            "attempt": event.attempt,
            "riskClass": str(max(asked, key=lambda one: one.rank)).upper()
            if asked
            else None,
        },
        "governance": {
            "mode": "on" if event.permit else "off",
            "verdict": "ALLOWED",
            "rules": rules,
            "compliance": {"policyHash": policies_hash or None, "verdict": "ALLOW"},
            "waivers": [_in_receipt(name, book, event.at_ns) for name in waivers],
        },
        "chain": {"seq": event.seq},
    }
    return document


def _in_receipt(waiver_id: str, book: WaiverBook, now_ns: int) -> dict[str, Any]:
    waiver = book.at(waiver_id, now_ns)
    return {
        "id": waiver.id,
        "policy": waiver.policy_id,
        "pattern": waiver.pattern,
        "reason": waiver.reason,
        "requestedBy": waiver.requested_by,
        "approval": {
            "by": list(waiver.approved_by),
            "at": None if waiver.since is None else stamp(waiver.since, "milliseconds"),
        },
        "expires": stamp(waiver.expires, "milliseconds"),
    }


def run_statement(run_id: str, journal: Source) -> dict[str, Any]:
    """
    The in-toto statement on a run of a workflow, as of a schedule, that has ended.

    Its subject is the tasks of the run: their types and the hashes of their payloads.
    Its predicate is a test result, in which each task counts as a test. `sealed` makes
    a file of it.

    Args:
        run_id: The id of the run.
        journal: The path of its journal, a `JournalReader`, or a journal.

    Raises:
        UnknownTaskError: The journal has no tasks of such a run.
        InvalidTaskError: The run has not ended; or *journal* is none.
        JournalError: The journal cannot be read.
    """
    tasks: dict[str, dict[str, str | None]] = {}
    ends: dict[str, bool] = {}
    for event, value in entries_of(journal):
        if not isinstance(event, TaskEvent):
            continue
        # If a task was run again, the latest run counts.
        name = stem_of(event.task_id)
        if isinstance(event, TaskSubmitted):
            run = run_of(event.task_id) if event.run is None else event.run
            if run == run_id and isinstance(value, Task):
                tasks[name] = {"type": value.type, "paramsHash": _parameters(value)}
                ends.pop(name, None)
        elif isinstance(event, _ENDS) and name in tasks:
            ends[name] = isinstance(event, TaskCompleted)
    if not tasks:
        msg = f"no run has the id {show(run_id)}"
        raise UnknownTaskError(msg, task_id=run_id)
    if ends.keys() != tasks.keys():
        msg = f"run {run_id} has not ended: {some(sorted(tasks.keys() - ends.keys()))}"
        raise InvalidTaskError(msg)
    content = canonical(tasks)
    digest = {"sha256": sha256(content).hexdigest()}
    predicate = {
        "result": "PASSED" if all(ends.values()) else "FAILED",
        "configuration": [
            {
                "name": "tasks",
                "digest": digest,
                "content": b64encode(content).decode(),
                "mediaType": "application/json",
            }
        ],
        "passedTests": sorted(name for name, is_good in ends.items() if is_good),
        "warnedTests": [],
        "failedTests": sorted(name for name, is_good in ends.items() if not is_good),
    }
    return statement_of([{"name": run_id, "digest": digest}], TEST_RESULT, predicate)


def _parameters(task: Task[Any]) -> str | None:
    """Return the hash of the arguments of *task*; None: no canonical form."""
    try:
        content = canonical(plain(parts_of(task.payload)))
    except ValueError:
        return None
    return f"sha256:{sha256(content).hexdigest()}"


class Audits(Waivers):
    """The methods of a `ConstitutionalRuntime` about the past."""

    _set: PolicySet

    def replay(
        self,
        journal: Source = None,
        policies: Iterable[Policy] | str | os.PathLike[str] | None = None,
    ) -> Replay:
        """
        Judge the past of a journal by policies.

        Each submission and each start is judged as of its moment. The verdicts have no
        effect.

        The same journal and the same policies give the same verdicts. A rerun, and a
        task in the place of another (`replace=True`), are judged as they start only.

        Rules about roles see none, and rules about the past count what the journal
        still has.

        Args:
            journal: The path of a journal, a `JournalReader`, or a journal; None: that
                of the orchestrator.
            policies: Policies, or the path of a file with some; None: these.

        Raises:
            InvalidTaskError: There is no such journal, or a value is no policy.
            ValidationFailedError: The file of policies is not well formed.
            JournalError: The journal cannot be read.
        """
        ready = self._set
        if policies is not None:
            is_path = isinstance(policies, str) or hasattr(policies, "__fspath__")
            other: Any = read_policies((policies,)) if is_path else policies  # type: ignore[arg-type]
            ready = PolicySet(other)
        skipped: list[str] = []
        moments = replayed(self._entries(journal), ready, skipped)
        return Replay(ready.hash, tuple(moments), tuple(skipped))

    @verb(
        "The compliance of a task with policies.",
        "thread",
        "GET /tasks/{task_id}/audit",
        operation="audit",
        refuses=(404, 422),
        apart=("journal",),
        command="audit TASK: say how well a task has kept to policies",
    )
    def audit_operation(self, task_id: str, journal: Source = None) -> Audit:
        """
        Return how well a task has kept these policies: a score from 0 to 100, and why.

        It takes as long as `replay`.

        Args:
            task_id: Its id; `x` is the latest run of a task, and `x~1` the first.
            journal: As of `replay`.

        Raises:
            UnknownTaskError: No task of the journal has this id.
            InvalidTaskError: There is no such journal.
            JournalError: The journal cannot be read.
        """
        return audit(task_id, self._entries(journal), self._set)

    @verb(
        "The decisions that allowed each start of a task.",
        "thread",
        "GET /tasks/{task_id}/receipts",
        gives="receipts",
        refuses=(404, 422),
        apart=("journal",),
        command="receipt TASK: say what allowed each start of a task",
    )
    def receipts(self, task_id: str, journal: Source = None) -> list[dict[str, Any]]:
        """
        Return a receipt for each start of a task, with the rules that allowed it.

        `taskorch.ext.governance.canonical` writes a receipt as bytes for hashes and
        signatures.

        The names are those of `draft-noa-scitt-ai-agent-receipt`, where the value is
        known; the format is `taskorch.receipt/1`. `paramsHash` is null for a payload
        without a canonical form (half a character, NaN, 2**53 and more).

        Args:
            task_id: Its id; `x` is the latest run of a task, and `x~1` the first.
            journal: As of `replay`.

        Raises:
            UnknownTaskError: No task of the journal has this id.
            InvalidTaskError: There is no such journal.
            JournalError: The journal cannot be read.
        """
        return receipts(task_id, self._entries(journal), self._set.policies)

    def _check_policy(self, policy_id: str) -> None:
        ids = [policy.id for policy in self._set.policies]
        if as_text(policy_id) not in ids:
            msg = f"there is no policy {show(policy_id)}"
            hint = meant(policy_id, ids) or f"there are {some(ids) or 'none'}"
            raise InvalidTaskError(msg, hint=hint)

    def _stop_covered(self, waiver: Waiver) -> None:
        stops = any(
            policy.id == waiver.policy_id and policy.revoked == "stop"
            for policy in self._set.policies
        )
        if not stops:
            return
        rt, reason = self._rt, f"waiver {waiver.id} is revoked: {waiver.ended_for}"

        def change(now: int) -> None:
            for row in list(rt.kernel.tasks.values()):
                if (
                    row.state is TaskState.RUNNING
                    and waiver.matches(row.id, row.bucket.spec.type)
                    and rt.governor.rule(row, now).denied
                ):
                    rt.kernel.cancel(row, now, reason)

        rt.step(change, keep=True)

    def _entries(self, journal: Source) -> Iterator[Entry]:
        if journal is None:
            committer = None if self._rt is None else self._rt.committer
            if committer is None:
                msg = "the past is in a journal, and there is none"
                hint = "TaskOrchestrator(journal='runs.db', governance=rt)"
                raise InvalidTaskError(msg, hint=hint)
            journal = committer.journal
        return entries_of(journal)
