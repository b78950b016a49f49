"""
Questions to people, escalations of failures, and what causes they share.

Decisions: 0078, 0079, 0146.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch._base._visible import said
from taskorch._base._vocabulary import meant
from taskorch.errors import (
    AnswerRefusedError,
    InvalidTaskError,
    TaskFailedError,
    UnknownTaskError,
)
from taskorch.kernel import ASKED, Again, Spec, TaskRow, awaits, moves_of, past_of
from taskorch.model import (
    TERMINAL,
    Answer,
    FailureCause,
    Question,
    Resources,
    Task,
    TaskState,
    TaskStatus,
    question_of,
)
from taskorch.model._checks import check_word
from taskorch.model._explanation import some
from taskorch.model._ids import (
    ESCALATION,
    has_number,
    is_escalation,
    last_of,
    number_of,
    numbered,
    stem_of,
    tail_of,
)
from taskorch.model._plain import plain, stamp
from taskorch.model._question import MAX_NAME, asked_of, check_answerer, person
from taskorch.model._show import show
from taskorch.protocols import Recommends, RetryDecision
from taskorch.protocols._members import has
from taskorch.runtime._deciders import changed_by
from taskorch.runtime._work import task_of

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime
    from taskorch.runtime._work import Work


# -- questions to people: which are open, and what an answer to one does ---------------


_NS: Final = 1_000_000_000
#: Letters of a note, of changes as JSON, and of a note that a refusal repeats.
_MOST_NOTE: Final = 10_000
_MOST_REPEATED: Final = 200
#: How the history begins to say that somebody is asked.
_WAITS: Final = "it waits for "
_LISTED: Final = "orch.questions() lists those that wait for an answer"


@attrs.frozen
class OpenQuestion:
    """
    A question that waits for an answer now: see `TaskOrchestrator.questions`.

    Attributes:
        id: The id of its task, with the number of the run if it was run again: what
            was asked first is `sign-off`, what was asked then `sign-off~2`.
        text: What is asked.
        options: The choices.
        who: Who may answer; None is anybody.
        quorum: How many must choose the same.
        not_by: Who may not.
        asked_at: Since when it waits: seconds since the epoch.
        due: When its time is over: seconds since the epoch; None is never.
        votes: The answers so far, each `(by, choice)`.
        details: What helps to decide.
    """

    id: str
    text: str
    options: tuple[str, ...]
    who: tuple[str, ...] | None
    quorum: int
    not_by: tuple[str, ...]
    asked_at: float
    due: float | None
    votes: tuple[tuple[str, str], ...]
    details: Any
    _answer: Callable[..., bool] = attrs.field(repr=False, eq=False)

    def answer(
        self, choice: str, *, by: str, note: str = "", changes: Any = None
    ) -> bool:
        """
        Answer it: see `TaskOrchestrator.answer`.

        The answer is for what is asked here. If that was asked again, it is refused.
        """
        return self._answer(
            of_one_run(self.id), choice, by=by, note=note, changes=changes
        )

    def to_dict(self) -> dict[str, Any]:
        """It as JSON has it."""
        said = attrs.asdict(self, filter=lambda field, _: field.name != "_answer")
        found: dict[str, Any] = plain(said)
        return found


def of_one_run(task_id: str) -> str:
    """The id that means this run of a task, whatever was run again since."""
    if is_escalation(task_id):
        return task_id
    return numbered(stem_of(task_id), number_of(task_id))


def open_questions(rt: Runtime, reply: Callable[..., bool]) -> list[OpenQuestion]:
    """
    The questions that wait for an answer, those that wait longest first.

    Each is answered by *reply*, which takes its id first.
    """

    def look(_: int) -> list[OpenQuestion]:
        rows = [row for rows in rt.kernel.awaited.values() for row in rows]
        # An answer to what is put aside does not count.
        rows = [row for row in rows if row.state is TaskState.BLOCKED]
        found = [(row, _question(row)) for row in rows]
        return [_opened(row, question, reply) for row, question in found if question]

    found: list[OpenQuestion] = rt.step(look)
    return sorted(found, key=lambda question: question.asked_at)


def _question(row: TaskRow) -> Question | None:
    task = None if row.cargo is None else row.cargo._task
    return None if task is None else question_of(task.payload)


def _opened(
    row: TaskRow, question: Question, reply: Callable[..., bool]
) -> OpenQuestion:
    extra, terms = row.extra, None if row.links is None else row.links.terms
    return OpenQuestion(
        row.id,
        question.text,
        question.options,
        question.who,
        question.quorum,
        question.not_by,
        moves_of(row)[-1][1] / _NS,
        extra.due_ns / _NS if extra is not None and extra.due_ns else None,
        () if terms is None else terms.votes,
        question.details,
        reply,
    )


def answer(
    rt: Runtime,
    task_id: str,
    choice: str,
    by: str,
    note: str = "",
    changes: Any = None,
) -> bool:
    """
    Answer a question; whether that decided it.

    Raises:
        AnswerRefusedError: It does not count: its history says so, too.
        UnknownTaskError: No task has this id.
        InvalidTaskError: An argument is not well formed, or the task is no question.
    """
    check(by, note, changes)
    chosen: object = choice
    if not isinstance(chosen, str) or len(chosen) > MAX_NAME:
        msg = f"an answer is one of the choices, a short text, not {show(choice)}"
        raise InvalidTaskError(msg)
    rt.recall((task_id,))

    def change(now: int) -> bool | AnswerRefusedError:
        row = row_named(rt, task_id, by, choice, now)
        if isinstance(row, AnswerRefusedError):
            return row
        question = _question(row)
        if question is None:
            msg = f"task {task_id} is no question"
            raise InvalidTaskError(msg, hint=_LISTED, task_id=task_id)
        return vote(rt, row, question, choice, by, note, changes, now)

    done: bool | AnswerRefusedError = rt.step(change, keep=True)
    if isinstance(done, AnswerRefusedError):
        raise done
    return done


def row_named(
    rt: Runtime, task_id: str, by: str, choice: str, now: int
) -> TaskRow | AnswerRefusedError:
    """
    Under the lock: the question that an answer to *task_id* is for; or why it is none.

    An id without a number is enough while it was asked once. Later nobody knows which
    of what was asked had been shown to who answers.

    Raises:
        UnknownTaskError: No task has this id.
    """
    latest = rt.directory.reruns.latest(task_id)
    row = rt.kernel.tasks.get(latest)
    if row is None and latest not in rt.kernel.evicted:
        msg = f"no task has the id {task_id!r}"
        raise UnknownTaskError(msg, task_id=str(task_id))
    why = _why_unsure(rt, task_id)
    if why:
        if row is not None:
            rt.kernel.refuse_answer(row, by, choice, why, now)
        return _refused(rt, task_id, by, why)
    if row is None:
        why = "it was decided long ago, and has left memory"
        return _refused(rt, latest, by, why)
    return row


def _why_unsure(rt: Runtime, task_id: str) -> str:
    """Why *task_id* does not say which question is meant; empty if it does."""
    if has_number(task_id):
        return ""
    reruns, tasks = rt.directory.reruns, rt.kernel.tasks
    runs = [tasks.get(run) for run in (task_id, *reruns.later_than(task_id))]
    # Of what has left memory it is not known.
    times = sum(row is None or _was_asked(row) for row in runs)
    if times <= 1:
        return ""
    return f"{task_id} was asked {times} times, and the id does not say which is meant"


def _was_asked(row: TaskRow) -> bool:
    return any(
        state is TaskState.BLOCKED and detail.startswith(_WAITS)
        for state, _, detail in past_of(row)
    )


def _refused(rt: Runtime, task_id: str, by: str, why: str) -> AnswerRefusedError:
    """The error that an answer to *task_id* does not count, and what is asked now."""
    latest = rt.directory.reruns.latest(stem_of(task_id))
    msg = f"the answer of {by} to {task_id} does not count: {why}"
    hint = None if latest == task_id else _open_now(rt, latest)
    return AnswerRefusedError(msg, hint=hint, task_id=task_id)


def _open_now(rt: Runtime, task_id: str) -> str:
    """What is asked by the run *task_id*, and how it is answered, if it waits."""
    row = rt.kernel.tasks.get(task_id)
    question = None if row is None else _question(row)
    is_open = row is not None and row.state is TaskState.BLOCKED and awaits(row)
    if question is None or not is_open:
        return _LISTED
    details = "" if question.details is None else f" ({show(question.details)})"
    call = f"orch.answer({task_id!r}, CHOICE, by=…)"
    return f"open now is {task_id}: {question.text}{details}; look at it, and {call}"


def approval_of(rt: Runtime, task_id: str) -> tuple[str, str] | None:
    """
    The run and the phase whose approval the task is; None: it is none.

    With the phase comes the number of the run of the task, if *task_id* has it.
    """
    row = rt.kernel.tasks.get(rt.directory.reruns.latest(task_id))
    question = None if row is None else _question(row)
    event = None if question is None else question.event
    asked = None if event is None else asked_of(event)
    if asked is None:
        return None
    return asked[0], f"{asked[1]}{tail_of(task_id)}"


def check(by: object, note: object, changes: object = None) -> None:
    """
    Refuse what is no name, no note, or are no changes.

    Raises:
        InvalidTaskError: One is not well formed.
    """
    if not isinstance(note, str) or not note.isprintable():
        msg = f"note: a text that can be printed is needed, not {show(note)}"
        raise InvalidTaskError(msg)
    if len(note) > _MOST_NOTE:
        msg = f"note: it has {len(note):,} letters, and {_MOST_NOTE:,} are the most"
        raise InvalidTaskError(msg, hint="say where the rest is to be read")
    check_answerer("by", by)
    if changes is None:
        return
    if not isinstance(changes, dict) or plain(changes) != changes:
        msg = f"changes: a dict of names and values of JSON, not {show(changes)}"
        raise InvalidTaskError(msg, hint="changes={'memory_mb': 2048}")
    length = len(json.dumps(changes, ensure_ascii=False))
    if length > _MOST_NOTE:
        msg = f"changes: {length:,} letters as JSON, and {_MOST_NOTE:,} are the most"
        hint = "orch.decide(id, 'complete', RESULT) takes a large result by hand"
        raise InvalidTaskError(msg, hint=hint)


def vote(
    rt: Runtime,
    row: TaskRow,
    question: Question,
    choice: str,
    by: str,
    note: str,
    changes: Any,
    now: int,
    *,
    outcome: Callable[[tuple[str, ...]], tuple[str, Any, str]] | None = None,
) -> bool | AnswerRefusedError:
    """
    Under the lock: count an answer to *question*, which *row* is.

    Args:
        rt: The runtime.
        row: Its row.
        question: The question.
        choice: What was chosen.
        by: By whom.
        note: What they wrote.
        changes: What they want changed.
        now: The time in ns.
        outcome: What follows from the choice, given who made it, instead of what
            usually does: the verdict, the result, and the words for it.

    Returns:
        Whether that decided it; or why it was refused.
    """
    why = _why_refused(rt, row, question, choice, by)
    if why:
        rt.kernel.refuse_answer(row, by, choice, why, now)
        return _refused(rt, row.id, by, why)
    votes = (*_votes(row), (by, choice))
    chosen = question.outcome(votes)
    said, verdict, result = "", "", None
    if chosen is not None:
        verdict, result, said = _outcome(question, chosen, votes, note, changes)
        if outcome is not None:
            names = [name for name, made in votes if made == chosen]
            verdict, result, said = outcome(tuple(names))
    if verdict == "complete":
        keep_value(rt, row.cargo, result)
    rt.kernel.answer(row, (by, choice, note, changes), verdict, now, said)
    return bool(verdict)


def keep_value(rt: Runtime, work: Work, value: Any) -> None:
    """Under the lock: *work* is about to complete with *value*."""
    work._value, work._error = value, None
    if rt.committer is not None:
        rt.committer.documents[work] = rt.committer.journal.document(value)


def _votes(row: TaskRow) -> tuple[tuple[str, str], ...]:
    terms = None if row.links is None else row.links.terms
    return () if terms is None else terms.votes


def _why_refused(
    rt: Runtime, row: TaskRow, question: Question, choice: str, by: str
) -> str:
    """Why an answer does not count; empty if it does."""
    why = question.why_not(by)
    if why:
        return why
    if choice not in question.options:
        near = meant(choice, question.options)
        return f"{show(choice)} is none of {some(question.options)}" + (
            f": {near}" if near else ""
        )
    if row.state in TERMINAL or rt.is_left(row):
        latest = rt.directory.reruns.latest(stem_of(row.id))
        again = "" if latest == row.id else f", and was run again since, as {latest}"
        return f"it comes too late: {_end_of(row)}{again}"
    if not awaits(row) or row.state is not TaskState.BLOCKED:
        return f"nobody is asked for it yet: it is {row.state}"
    before = [chosen for n, chosen in _votes(row) if person(n) == person(by)]
    return f"{by} has answered before: {before[0]!r}" if before else ""


def _end_of(row: TaskRow) -> str:
    extra = row.extra
    if extra is not None and extra.error is not None:
        return _short(extra.error[1])
    detail = _short(moves_of(row)[-1][2])
    return f"it is {row.state}{f' ({detail})' if detail else ''}"


def _short(text: str) -> str:
    """*text*, of which a refusal repeats no more than it needs to be known."""
    return text if len(text) <= _MOST_REPEATED else f"{text[:_MOST_REPEATED]}…"


def _outcome(
    question: Question,
    chosen: str,
    votes: Iterable[tuple[str, str]],
    note: str,
    changes: Any,
) -> tuple[str, Any, str]:
    """The verdict, the result and the words for what was *chosen*."""
    if not chosen:
        split = ", ".join(f"{choice!r} by {by}" for by, choice in votes)
        return "fail", None, f"no choice can have {question.quorum} any more: {split}"
    by = tuple(name for name, choice in votes if choice == chosen)
    said = f"{chosen!r} by {' and '.join(by)}{f': {note}' if note else ''}"
    if chosen in question.no:
        return "fail", None, said
    return "complete", Answer(chosen, by, note, changes), said


def refuse_bypass(rt: Runtime, task_id: str, row: TaskRow, verdict: str) -> None:
    """
    Refuse to decide *row* by `decide` if it is a question with rules of its own.

    Raises:
        InvalidTaskError: It is.
        AnswerRefusedError: It was asked more than once, and *task_id* is that of all.
    """
    question = _question(row)
    if question is None or not awaits(row):
        return
    if question.who is not None or question.quorum > 1 or question.not_by:
        msg = f"{row.id} is a question, and not everybody may {verdict} it alone"
        hint = f"orch.answer({row.id!r}, CHOICE, by=…); or cancel it"
        raise InvalidTaskError(msg, hint=hint, task_id=row.id)
    why = _why_unsure(rt, task_id)
    if why:
        raise AnswerRefusedError(why, hint=_open_now(rt, row.id), task_id=row.id)


# -- escalations: failures about which a person is asked, once for each cause ----------

# The tasks themselves are held, and what waits for them waits on: an escalation is
# all those that are held for one cause. So it needs no memory of its own, and a
# restart knows what the tasks know.


CHOICES: Final = ("retry", "skip", "abort", "complete")
#: What a choice does with each task.
_VERDICTS: Final = {
    "retry": "retry",
    "skip": "complete",
    "abort": "fail",
    "complete": "complete",
}
_MAX_TEXT: Final = 2_000
_MAX_IDS: Final = 1_000
#: As many tasks that cannot go on make it critical.
_MANY: Final = 10
_SERIOUS: Final = ("calculation_error", "logic_error", "system_error")
_ALWAYS: Final = ("Skip it, so that what waits for it goes on", "Abort it")
_WORD: Final = re.compile(r"\w+")
_VARYING: Final = re.compile(r"0x[0-9a-f]+|\d+", re.IGNORECASE)
#: What the history of a task says when its attempt has failed and a person is asked.
_HELD: Final = (TaskState.RETRYING, TaskState.QUEUED, TaskState.BLOCKED)


@attrs.frozen
class Escalation:
    """
    A failure about which a person is asked, of all tasks that failed for one cause.

    Attributes:
        escalation_id: Its id, for `orch.answer`: `escalation/load`, and
            `escalation/load@2` when a person is asked about that task again.
        timestamp: Since when somebody is asked, in ISO 8601; it ends in Z, for UTC.
        task_id: The first of its tasks.
        issue_type: The class of the failure, such as `import_error`.
        severity: `medium`, `high` or `critical`.
        context: What is known of the failure.
        system_state: How much waits and runs.
        recommended_actions: What may be done.
        blocking_tasks: The tasks that wait for these, however indirectly.
        tasks: Its tasks.
        question: What is asked.
    """

    escalation_id: str
    timestamp: str
    task_id: str
    issue_type: str
    severity: str
    context: dict[str, Any]
    system_state: dict[str, int]
    recommended_actions: tuple[str, ...]
    blocking_tasks: tuple[str, ...]
    tasks: tuple[str, ...]
    question: str
    _answer: Callable[..., bool] = attrs.field(repr=False, eq=False)

    @property
    def id(self) -> str:
        """Its id."""
        return self.escalation_id

    def answer(
        self, choice: str, *, by: str, note: str = "", changes: Any = None
    ) -> bool:
        """Answer it: see `TaskOrchestrator.escalations`."""
        return self._answer(self.id, choice, by=by, note=note, changes=changes)

    def to_dict(self) -> dict[str, Any]:
        """It as JSON has it."""
        said = attrs.asdict(self, filter=lambda field, _: field.name != "_answer")
        found: dict[str, Any] = plain(said)
        return found

    def as_question(self) -> OpenQuestion:
        """It as one of the questions."""
        asked_at = datetime.fromisoformat(self.timestamp).timestamp()
        return OpenQuestion(
            self.id,
            self.question,
            CHOICES,
            None,
            1,
            (),
            asked_at,
            None,
            (),
            self.to_dict(),
            self._answer,
        )


def cause_of(task_id: str, kind: str, message: str) -> tuple[str, str]:
    """What tasks have in common that failed for one cause, to be compared."""
    said = message.replace(task_id, "TASK")
    # In a workflow, messages mostly have the id that it has there.
    name = last_of(task_id)
    if _WORD.fullmatch(name) is None:
        said = said.replace(name, "TASK")
    else:
        said = _WORD.sub(lambda word: "TASK" if word[0] == name else word[0], said)
    return kind, _VARYING.sub("#", said)


def escalations(rt: Runtime, reply: Callable[..., bool]) -> list[Escalation]:
    """The escalations that wait for an answer, those that wait longest first."""

    def look(_: int) -> list[Escalation]:
        return [_made(rt, rows, reply) for rows in _causes(rt).values()]

    found: list[Escalation] = rt.step(look)
    return sorted(found, key=lambda each: each.timestamp)


def failure_of(rt: Runtime, task_id: str) -> dict[str, Any] | None:
    """What an escalation says, of a task that has failed; None: it has left memory."""

    def refuse(*_: object, **__: object) -> bool:
        return False

    def look(_: int) -> Escalation | None:
        row = rt.kernel.tasks.get(task_id)
        return None if row is None else _made(rt, [row], refuse)

    found: Escalation | None = rt.step(look)
    if found is None:
        return None
    said = found.to_dict()
    # There is nothing to answer.
    del said["question"], said["tasks"]
    actions = [each for each in found.recommended_actions if each not in _ALWAYS]
    return {**said, "recommended_actions": actions}


def _is_asked(row: TaskRow) -> bool:
    extra = row.extra
    return (
        row.state is TaskState.BLOCKED
        and extra is not None
        and extra.decision
        and extra.error is not None
        and extra.error[2] == ASKED
    )


def _id_of(row: TaskRow) -> str:
    """The id of the escalation whose first task is *row*: of each asking another."""
    moves = [state for state, _, _ in moves_of(row)]
    times = sum(
        some == _HELD for some in zip(moves, moves[1:], moves[2:], strict=False)
    )
    return f"{ESCALATION}{row.id}{f'@{times}' if times > 1 else ''}"


def _cause(row: TaskRow) -> tuple[str, str]:
    extra = row.extra
    kind, message, _ = ("", "", "") if extra is None else extra.error or ("", "", "")
    return cause_of(row.id, kind, message)


def _causes(rt: Runtime) -> dict[tuple[str, str], list[TaskRow]]:
    """The tasks that are held, by their causes."""
    found: dict[tuple[str, str], list[TaskRow]] = {}
    if rt.kernel.blocked:
        for row in rt.kernel.tasks.values():
            if _is_asked(row):
                found.setdefault(_cause(row), []).append(row)
    return found


def _clean(text: str) -> str:
    """*text* without control characters, and not too long."""
    said = "".join(c if c.isprintable() else " " for c in text[:_MAX_TEXT])
    return said if len(text) <= _MAX_TEXT else f"{said}…"


def _made(rt: Runtime, rows: list[TaskRow], reply: Callable[..., bool]) -> Escalation:
    first = rows[0]
    extra = first.extra
    kind, message, _ = ("", "", "") if extra is None else extra.error or ("", "", "")
    issue = (extra.failure_class if extra is not None else "") or "unknown"
    moves = moves_of(first)
    below = _below(rows)
    severity = "high" if issue in _SERIOUS else "medium"
    if len(rows) + len(below) >= _MANY:
        severity = "critical"
    kernel = rt.kernel
    return Escalation(
        _id_of(first),
        stamp(moves[-1][1] / _NS, "microseconds"),
        first.id,
        issue,
        severity,
        {
            "error_type": kind,
            "error_message": _clean(message),
            "attempts": first.attempt,
            "agent_id": None if first.agent is None else first.agent.name,
            "history": [
                {"state": state.value, "at": ns / _NS, "detail": _clean(detail)}
                for state, ns, detail in moves[-2 * _MANY :]
            ],
        },
        {
            "queued_tasks": kernel.queued,
            "running_tasks": kernel.active,
            "blocked_tasks": kernel.blocked,
            "failed_tasks": kernel.failed,
            "completed_tasks": kernel.completed,
            "active_agents": sum(not a.lost for a in kernel.agents.values()),
        },
        (*_actions(rt, issue), *_ALWAYS),
        below,
        tuple(row.id for row in rows[:_MAX_IDS]),
        _clean(moves[-1][2]),
        reply,
    )


def _actions(rt: Runtime, issue: str) -> tuple[str, ...]:
    """What the matrix recommends about failures of the class *issue*."""
    from taskorch.recovery._matrix import default_matrix  # noqa: PLC0415 - seldom needed

    handler = rt.deciders.parts.retry_handler
    own: Any = handler.matrix if has(handler, Recommends) else None
    matrix = own or default_matrix()
    try:
        actions: tuple[str, ...] = matrix[issue].actions
    except (InvalidTaskError, LookupError):
        # A handler of the user's has classes of its own.
        actions = ()
    return actions or ("Read the log of the task",)


def _below(rows: list[TaskRow]) -> tuple[str, ...]:
    """Ids of those that wait for *rows*, the first thousand."""
    found: dict[str, None] = {}
    todo = list(rows)
    while todo and len(found) < _MAX_IDS:
        links = todo.pop().links
        for child in () if links is None else links.dependents:
            if child.state not in TERMINAL and child.id not in found:
                found[child.id] = None
                todo.append(child)
    return tuple(found)


def _check_choice(choice: object, changes: Mapping[str, Any] | None) -> None:
    check_word("the answer to an escalation", choice, CHOICES)
    if changes and choice not in ("retry", "complete"):
        msg = f"changes: they do nothing with {choice!r}"
        raise InvalidTaskError(msg, hint="'retry' takes them; 'complete' its result")
    if choice == "complete" and set(changes or {}) != {"result"}:
        msg = "'complete' takes a result by hand"
        raise InvalidTaskError(msg, hint="changes={'result': …}")


def answer_escalation(
    rt: Runtime, escalation_id: str, choice: str, by: str, note: str, changes: Any
) -> bool:
    """
    Answer an escalation, for all its tasks.

    Raises:
        AnswerRefusedError: It had been answered, or nobody is asked.
        UnknownTaskError: There is no such task.
        InvalidTaskError: An argument is not well formed, or does nothing.
    """
    check(by, note, changes)
    _check_choice(choice, changes)
    task_id, _, _ = escalation_id.removeprefix(ESCALATION).partition("@")
    rt.recall((task_id,))

    def change(now: int) -> AnswerRefusedError | None:
        first = rt.kernel.tasks.get(task_id)
        if first is None:
            msg = f"no task in memory has the id {task_id!r}"
            raise UnknownTaskError(msg, task_id=task_id)
        asked = _id_of(first)
        why = hint = None
        if not _is_asked(first):
            why = f"it comes too late: it is {first.state}"
        elif escalation_id != asked:
            why = f"{task_id} was run again since, and has failed once more"
            said = moves_of(first)[-1][2]
            hint = f"open now is {asked}: {_clean(said)}; look at it, and "
            hint += f"orch.answer({asked!r}, CHOICE, by=…)"
        if why is not None:
            rt.kernel.refuse_answer(first, by, choice, why, now)
            msg = f"the answer of {by} to {escalation_id} does not count: {why}"
            return AnswerRefusedError(msg, hint=hint, task_id=task_id)
        rows = _causes(rt)[_cause(first)]
        others = _others(rt, rows, changes) if choice == "retry" and changes else {}
        said = f"{choice} by {by}{f': {note}' if note else ''}"
        for row in rows:
            spec, task = others.get(row.id, (None, None))
            if spec is not None:
                again = Again(retry=True, reason=said, spec=spec, cargo=task)
                rt.kernel.change_held(row, again, spec, now)
            if _VERDICTS[choice] == "complete":
                keep_value(rt, row.cargo, (changes or {}).get("result"))
            vote = by, choice, note, changes
            rt.kernel.answer(row, vote, _VERDICTS[choice], now, said)
        return None

    refused: AnswerRefusedError | None = rt.step(change, keep=True)
    if refused is not None:
        raise refused
    return True


def _others(
    rt: Runtime, rows: list[TaskRow], changes: Mapping[str, Any]
) -> dict[str, tuple[Spec | None, Any]]:
    """
    What each of *rows* is like with other resources and another timeout.

    Raises:
        InvalidTaskError: The *changes* are none of these, or too much for any agent.
    """
    amounts = dict(changes)
    timeout = amounts.pop("timeout", None)
    amounts |= amounts.pop("resources", {})
    found: dict[str, tuple[Spec | None, Any]] = {}
    for row in rows:
        task: Task = task_of(row)
        unknown = [n for n in amounts if n not in {*task.resources, *rt.kernel.pools}]
        if unknown:
            msg = f"changes: {unknown[0]!r} is no resource, nor timeout"
            hint = meant(unknown[0], ["timeout", *rt.kernel.pools]) or None
            raise InvalidTaskError(msg, hint=hint, task_id=row.id)
        wanted = Resources.of({**task.resources, **amounts}) if amounts else None
        decision = RetryDecision(retry=True, resources=wanted, timeout=timeout)
        spec, other = changed_by(decision, task, row.bucket.spec)
        refusal = "" if spec is None else rt.kernel.too_much(row, spec)
        if refusal:
            msg = f"changes: {refusal.rpartition('since ')[2]}"
            raise InvalidTaskError(msg, task_id=row.id)
        found[row.id] = spec, other
    return found


# -- failures by their causes: what many tasks have in common that failed --------------


#: Ids that are named of each cause.
_NAMED: Final = 100


def by_cause(statuses: Iterable[TaskStatus]) -> tuple[FailureCause, ...]:
    """The causes of the failures that *statuses* tell of; the commonest first."""
    messages: dict[tuple[str, str], str] = {}
    ids: dict[tuple[str, str], list[str]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for status in statuses:
        if status.error is None:
            continue
        kind, message = _class_and_message(status.error)
        cause = cause_of(status.task_id, kind, message)
        counts[cause] += 1
        messages.setdefault(cause, message)
        named = ids.setdefault(cause, [])
        if len(named) < _NAMED:
            named.append(status.run_id)
    return tuple(
        FailureCause(*cause, messages[cause], count, tuple(ids[cause]))
        for cause, count in counts.most_common()
    )


def _class_and_message(error: BaseException) -> tuple[str, str]:
    """The class and the message of *error*; of one that stands for another, its."""
    kind, message = said(error)
    if not isinstance(error, TaskFailedError) or not error.type:
        return kind, message
    rest = message.partition(f"raised {error.type}")[2]
    return error.type, rest.removeprefix(": ") or message
