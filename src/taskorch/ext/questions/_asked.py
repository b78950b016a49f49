"""
Questions to people, and the effects of their answers; the common parts of failures.

People are asked by a question, by the approval of a phase, or about a failure: that is
an escalation, of all tasks that are on hold for one cause. The tasks alone say what is
open, so a restart knows it, too.

Decision: questions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from taskorch.core.engine._deciders import changed_by
from taskorch.core.engine._work import question_in, task_of
from taskorch.core.kernel import (
    DENIED,
    Again,
    Spec,
    TaskRow,
    asked_by_rules,
    awaits,
    escalation_of,
    moves_of,
    past_of,
    rules_ask,
    times_asked,
)
from taskorch.errors import (
    AnswerRefusedError,
    InvalidTaskError,
    UnknownTaskError,
)
from taskorch.kit.checks import built_in, check_answerer
from taskorch.kit.limits import MAX_NAME
from taskorch.kit.members import has
from taskorch.kit.people import person
from taskorch.kit.plain import plain
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import meant
from taskorch.kit.words import some, stamp
from taskorch.model import (
    ANSWER_TO,
    SEVERITIES,
    TERMINAL,
    Answer,
    Escalation,
    FailureCause,
    OpenQuestion,
    Question,
    Resources,
    Task,
    TaskState,
    asked_of,
)
from taskorch.model.ids import (
    escalation_id,
    has_number,
    number_of,
    numbered,
    stem_of,
    tail_of,
    task_of_escalation,
)
from taskorch.protocols import Recommends, RetryDecision

if TYPE_CHECKING:
    from taskorch.core.engine._runtime import Runtime


# -- what is open ----------------------------------------------------------------------


_NS: Final = 1_000_000_000
#: The most characters of a note, of changes as JSON, and of a note in a refusal.
_MOST_NOTE: Final = 10_000
_MOST_REPEATED: Final = 200
_LISTED: Final = "orch.questions() lists those that wait for an answer"
_VERDICTS: Final = {
    "retry": "retry",
    "skip": "complete",
    "abort": "fail",
    "complete": "complete",
}
#: The question about a failure, without its words, which differ.
_ABOUT_FAILURE: Final = Question(
    f"{ANSWER_TO}a failure", text="what now?", options=tuple(_VERDICTS), no=()
)
#: The most characters of a text about a failure, and ids that are listed.
_MOST_TEXT: Final = 2_000
_MOST_IDS: Final = 1_000
#: The number of tasks that cannot go on which makes a failure critical.
_MANY: Final = 10
_SERIOUS: Final = ("calculation_error", "logic_error", "system_error")
_NO_ERROR: Final = ("", "", "")
#: Recommended actions about a start that policies prevent.
_ABOUT_POLICY: Final = (
    "Look at what the rule has found",
    "Cover it by a waiver, or change the policy",
)
_ALWAYS: Final = ("Skip it, so that what waits for it goes on", "Abort it")

#: Function that carries out an answer to an approval: from those who made the choice,
#: it gives the verdict, the result and the words.
Outcome: TypeAlias = Callable[[tuple[str, ...]], tuple[str, Any, str]]


def open_questions(rt: Runtime, reply: Callable[..., bool]) -> list[OpenQuestion]:
    """
    Return the questions that wait for an answer, the oldest first.

    Each is answered by *reply*, which takes its id first.
    """
    questions: list[OpenQuestion] = rt.step(lambda _: opened_questions(rt, reply))
    return questions


def opened_questions(rt: Runtime, reply: Callable[..., bool]) -> list[OpenQuestion]:
    """Return the open questions: see `open_questions`; hold the lock."""
    return [_opened(rt, rows, reply) for rows in _open(rt)]


def _open(rt: Runtime) -> list[list[TaskRow]]:
    """Return the tasks about which people are asked, by question; hold the lock."""
    # A suspended task counts no answers.
    rows = [row for row in rt.kernel.asked if row.state is TaskState.BLOCKED]
    groups: dict[Any, list[TaskRow]] = {}
    for row in sorted(rows, key=_since):
        groups.setdefault(row if awaits(row) else _cause(row), []).append(row)
    return [*groups.values()]


def _since(row: TaskRow) -> int:
    """Return since when people are asked about *row*, in ns, whatever suspensions."""
    moves = moves_of(row)
    aside = [TaskState.SUSPENDED, TaskState.BLOCKED]
    while [state for state, _, _ in moves[-2:]] == aside:
        del moves[-2:]
    return moves[-1][1]


def _question(row: TaskRow) -> Question | None:
    """Return the question of *row*; None if it is none."""
    return question_in(row.cargo)


def _opened(
    rt: Runtime, rows: list[TaskRow], reply: Callable[..., bool]
) -> OpenQuestion:
    first, below = rows[0], _below(rows)
    question = _question(first) or _ABOUT_FAILURE
    times = [
        ns / _NS
        for row in rows
        if (extra := row.extra) is not None
        for ns in (extra.due_ns, extra.deadline_ns)
        if ns
    ]
    values: dict[str, Any] = {
        "options": question.options,
        "who": question.who,
        "quorum": question.quorum,
        "not_by": question.not_by,
        "asked_at": _since(first) / _NS,
        "due": min(times, default=None),
        "votes": _votes(first),
        "tasks": tuple(row.id for row in rows[:_MOST_IDS]),
        "blocking_tasks": below,
        "whom": question.whom,
        "answer": reply,
    }
    if awaits(first):
        return OpenQuestion(
            id=first.id,
            text=question.text,
            details=question.details,
            kind="question",
            answer_to=numbered(stem_of(first.id), number_of(first.id)),
            **values,
        )
    failure = _failure(rt, first, len(rows) + len(below))
    return Escalation(
        id=escalation_of(rt.kernel, first),
        text=_asked_text(first),
        details=failure,
        kind="escalation",
        answer_to=escalation_id(first.id, times_asked(first)),
        **failure,
        **values,
    )


def _asked_text(row: TaskRow) -> str:
    """Return the text of the question about *row*."""
    question = _question(row)
    if question is not None:
        return question.text
    return _clean(asked_by_rules(row) or moves_of(row)[-1][2])


def _failure(rt: Runtime, row: TaskRow, many: int) -> dict[str, Any]:
    """Return the data about the failure of *row*, which blocks *many* tasks."""
    extra = row.extra
    kind, message, cause = ("", "", "") if extra is None else extra.error or _NO_ERROR
    issue = (extra.failure_class if extra is not None else "") or "unknown"
    severity = "high" if issue in _SERIOUS else "medium"
    severity = "critical" if many >= _MANY else severity
    actions = _calls_about(rt, issue)
    violations: dict[str, Any] = {}
    if cause == DENIED or rules_ask(row):
        violated = () if rt.governor is None else rt.governor.violations(row)
        issue, actions = "policy", _ABOUT_POLICY
        severities = [str(one.severity) for one in violated]
        severity = max(severities, key=SEVERITIES.index, default="high")
        violations["violations"] = [one.to_dict() for one in violated]
    kernel = rt.kernel
    return {
        "issue_type": issue,
        "severity": severity,
        "context": {
            **violations,
            "error_type": kind,
            "error_message": _clean(message),
            "attempts": row.attempt,
            "agent_id": None if row.worker is None else row.worker.name,
            "history": [
                {"state": state.value, "at": ns / _NS, "detail": _clean(detail)}
                for state, ns, detail in moves_of(row)[-2 * _MANY :]
            ],
        },
        "system_state": {
            "queued_tasks": kernel.queued,
            "running_tasks": kernel.active,
            "blocked_tasks": kernel.blocked,
            "failed_tasks": kernel.failed,
            "completed_tasks": kernel.completed,
            "active_agents": sum(not a.lost for a in kernel.workers.values()),
        },
        "recommended_actions": (*actions, *_ALWAYS),
    }


def failure_of(rt: Runtime, task_id: str) -> dict[str, Any] | None:
    """Return the content of an escalation of a failed task; None if not in memory."""
    # What it takes is loaded before the lock is held.
    _calls_about(rt, "")

    def look(_: int) -> dict[str, Any] | None:
        row = rt.kernel.tasks.get(task_id)
        if row is None:
            return None
        below = _below([row])
        failure = _failure(rt, row, 1 + len(below))
        # There is nothing to answer.
        actions = [a for a in failure["recommended_actions"] if a not in _ALWAYS]
        return {
            "escalation_id": escalation_of(rt.kernel, row),
            "timestamp": stamp(_since(row) / _NS, "microseconds"),
            "task_id": row.id,
            **failure,
            "recommended_actions": actions,
            "blocking_tasks": [*below],
        }

    document: dict[str, Any] | None = rt.step(look)
    return document


def _clean(text: str) -> str:
    """Return *text* without control characters, and not too long."""
    line = "".join(c if c.isprintable() else " " for c in text[:_MOST_TEXT])
    return line if len(text) <= _MOST_TEXT else f"{line}…"


def _calls_about(rt: Runtime, issue: str) -> tuple[str, ...]:
    """Return the matrix's recommendations for failures of the class *issue*."""
    handler = rt.deciders.parts.retry_handler
    matrix: Any = handler.matrix if has(handler, Recommends) else None
    if not matrix and (recovery := built_in("recovery._matrix")):
        matrix = recovery.default_matrix()
    try:
        actions: tuple[str, ...] = matrix[issue].actions if matrix else ()
    except (InvalidTaskError, LookupError):
        # A handler of the user's has classes of its own.
        actions = ()
    return actions or ("Read the log of the task",)


def _below(rows: list[TaskRow]) -> tuple[str, ...]:
    """Return ids of tasks that wait for *rows*, the first thousand."""
    below: dict[str, None] = {}
    todo = list(rows)
    while todo and len(below) < _MOST_IDS:
        links = todo.pop().links
        for child in () if links is None else links.dependents:
            if child.state not in TERMINAL and child.id not in below:
                below[child.id] = None
                todo.append(child)
    return tuple(islice(below, _MOST_IDS))


# -- answers ---------------------------------------------------------------------------


#: The beginning of an entry of the history that a person is asked.
_WAITS: Final = "it waits for "


@attrs.frozen
class _Named:
    """
    The meaning of the id in an answer.

    Attributes:
        task_id: The task that it is about: the question, or the failed task.
        question: The question.
        row: The row of the task; None: it has left memory.
        why_not: Why no answer to this id counts; empty if one may.
    """

    task_id: str
    question: Question
    row: TaskRow | None
    why_not: str = ""


def answer(
    rt: Runtime,
    name: str,
    choice: str,
    by: str,
    note: str = "",
    changes: Any = None,
) -> bool:
    """
    Answer the question with the id *name*; return whether that decided it.

    Raises:
        AnswerRefusedError: It does not count: its history says so, too.
        UnknownTaskError: There is no such task, or nobody was asked about it.
        InvalidTaskError: An argument is not well formed, or the task is no question.
    """
    check(by, note, changes)
    check_choice(choice)
    rt.recall((task_of_escalation(str(name))[0] or name,))

    def change(now: int) -> bool | AnswerRefusedError:
        return vote(rt, name, choice, by, note, changes, now)

    decided: bool | AnswerRefusedError = rt.step(change, keep=True)
    if isinstance(decided, AnswerRefusedError):
        raise decided
    return decided


def vote(
    rt: Runtime,
    name: str,
    choice: str,
    by: str,
    note: str,
    changes: Any,
    now: int,
    *,
    outcome: Outcome | None = None,
) -> bool | AnswerRefusedError:
    """
    Count an answer to the question with the id *name*; hold the lock.

    Args:
        rt: The runtime.
        name: The id.
        choice: The choice.
        by: The person.
        note: Their note.
        changes: The changes that they want.
        now: The time in ns.
        outcome: Function for the effects of the choice, if not the usual one.

    Returns:
        Whether that decided it; or why it was refused.

    Raises:
        UnknownTaskError: There is no such task, or nobody was asked about it.
        InvalidTaskError: The task is no question; or the changes do nothing.
        InvalidTransitionError: The state machine forbids what follows; then nothing
            has changed.
    """
    # Timers that are due by now happen first, however late they are.
    rt.kernel.tick(now)
    named = _named(rt, name)
    row, question = named.row, named.question
    why = named.why_not or _why_refused(rt, named, choice, by)
    if why or row is None:
        if row is not None:
            rt.kernel.refuse_answer(row, by, choice, why, now)
        return _refused(rt, named, name, by, why)
    if question is _ABOUT_FAILURE:
        rows = next(rows for rows in _open(rt) if row in rows)
        _check_changes(choice, changes)
    else:
        rows = [row]
    votes = (*_votes(row), (by, choice))
    chosen = question.outcome(votes)
    sentence, verdict, result = "", "", None
    if chosen is not None:
        verdict, result, sentence = _outcome(question, chosen, votes, note, changes)
        if outcome is not None:
            names = [name for name, each in votes if each == chosen]
            verdict, result, sentence = outcome(tuple(names))
    others = {}
    if verdict == "retry" and changes:
        others = _others(rt, rows, changes, sentence)
    answered = by, choice, note, changes
    rt.kernel.answer(rows, answered, verdict, now, sentence, others)
    if verdict == "complete":
        for each in rows:
            rt.keep_value(each.cargo, result)
        kept = question.keeps(row.id, result, now)
        if kept is not None:
            _keep(rt, *kept, now)
    return bool(verdict)


def _keep(rt: Runtime, extension: str, key: str, document: Any, now: int) -> None:
    from taskorch.kit.kept import kept_by  # noqa: PLC0415 - few questions keep one

    kept_by(rt, extension).note(key, document, now)


def _named(rt: Runtime, name: str) -> _Named:
    """
    Return the meaning of the id *name*; hold the lock.

    The id of a question needs no number as long as it was asked once. Later nobody
    knows which of its runs the person had seen. Without a number, the id of an
    escalation means the first one.

    Raises:
        UnknownTaskError: There is no such task, or nobody was asked about it.
        InvalidTaskError: The task is no question.
    """
    tasks, evicted = rt.kernel.tasks, rt.kernel.evicted
    task_id = rt.directory.reruns.latest(name)
    of_failure, number = task_of_escalation(str(name))
    is_failure = bool(of_failure) and task_id not in tasks and task_id not in evicted
    if is_failure:
        task_id = of_failure
    row = tasks.get(task_id)
    if row is None and task_id not in evicted:
        msg = f"no task has the id {task_id if is_failure else name!r}"
        raise UnknownTaskError(msg, task_id=str(task_id))
    why = "" if is_failure else why_unsure(rt, name)
    if row is None:
        why = why or "it was decided long ago, and has left memory"
        return _Named(task_id, _ABOUT_FAILURE, None, why)
    if is_failure:
        times = times_asked(row)
        if not 0 < number <= times:
            msg = f"nobody was asked about a failure of {task_id}"
            msg += " so often" if times else ""
            raise UnknownTaskError(msg, hint=_open_now(rt, task_id), task_id=task_id)
        if number < times:
            why = f"{task_id} was run again since, and has failed once more"
        return _Named(task_id, _ABOUT_FAILURE, row, why)
    question = _question(row)
    if question is None:
        msg = f"task {name} is no question"
        raise InvalidTaskError(msg, hint=_open_now(rt, task_id), task_id=name)
    return _Named(task_id, question, row, why)


def why_unsure(rt: Runtime, task_id: str) -> str:
    """Return why *task_id* may mean several questions; empty if it does not."""
    if has_number(task_id):
        return ""
    reruns, tasks = rt.directory.reruns, rt.kernel.tasks
    runs = [tasks.get(run) for run in (task_id, *reruns.later_than(task_id))]
    # It is unknown for runs that have left memory, so these count.
    times = sum(row is None or _was_asked(row) for row in runs)
    if times <= 1:
        return ""
    return f"{task_id} was asked {times} times, and the id does not say which is meant"


def _was_asked(row: TaskRow) -> bool:
    return any(
        state is TaskState.BLOCKED and detail.startswith(_WAITS)
        for state, _, detail in past_of(row)
    )


def _refused(
    rt: Runtime, named: _Named, name: str, by: str, why: str
) -> AnswerRefusedError:
    """Return the error that an answer to *name* does not count, with what is open."""
    latest = rt.directory.reruns.latest(stem_of(named.task_id))
    is_old = bool(named.why_not) or latest != named.task_id
    hint = _open_now(rt, latest) if is_old else None
    msg = f"the answer of {by} to {name} does not count: {why}"
    return AnswerRefusedError(msg, hint=hint, task_id=named.task_id)


def _open_now(rt: Runtime, task_id: str) -> str:
    """Return the question about *task_id* and how to answer it, if it is open."""
    row = rt.kernel.tasks.get(task_id)
    if row is None or row not in rt.kernel.asked or row.state is not TaskState.BLOCKED:
        return _LISTED
    question = _question(row)
    name = escalation_of(rt.kernel, row) if question is None else task_id
    details = None if question is None else question.details
    more = "" if details is None else f" ({show(details)})"
    text, call = _asked_text(row), f"orch.answer({name!r}, CHOICE, by=…)"
    return f"open now is {name}: {text}{more}; look at it, and {call}"


def approval_of(rt: Runtime, task_id: str) -> tuple[str, str] | None:
    """
    Return the run and the phase whose approval the task is; None if it is none.

    The phase has the number of the run of the task, if *task_id* has it.
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
    Refuse a malformed name, note or changes.

    Raises:
        InvalidTaskError: One is not well formed.
    """
    if not is_text(note) or not note.isprintable():
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


def check_choice(choice: object) -> None:
    """
    Refuse a value that cannot be a choice of any question.

    Raises:
        InvalidTaskError: It is none.
    """
    if not is_text(choice) or len(choice) > MAX_NAME:
        msg = f"an answer is one of the choices, a short text, not {show(choice)}"
        raise InvalidTaskError(msg)


def _check_changes(choice: str, changes: Mapping[str, Any] | None) -> None:
    """
    Refuse changes that would have no effect on the failed tasks.

    Raises:
        InvalidTaskError: They are such.
    """
    if changes and choice not in ("retry", "complete"):
        msg = f"changes: they do nothing with {choice!r}"
        raise InvalidTaskError(msg, hint="'retry' takes them; 'complete' its result")
    if choice == "complete" and set(changes or {}) != {"result"}:
        msg = "'complete' takes a result by hand"
        raise InvalidTaskError(msg, hint="changes={'result': …}")


def _why_refused(rt: Runtime, named: _Named, choice: str, by: str) -> str:
    """Return why an answer does not count; empty if it does."""
    row, question = named.row, named.question
    assert row is not None  # noqa: S101 - or it was refused by its name
    why = question.why_not(by)
    if why:
        return why
    if choice not in question.options:
        near = meant(choice, question.options)
        return f"{show(choice)} is none of {some(question.options)}" + (
            f": {near}" if near else ""
        )
    is_failure = question is _ABOUT_FAILURE
    is_over = row.state in TERMINAL or rt.is_left(row)
    if is_over or (is_failure and row not in rt.kernel.asked):
        latest = rt.directory.reruns.latest(stem_of(row.id))
        again = "" if latest == row.id else f", and was run again since, as {latest}"
        return f"it comes too late: {_end_of(row)}{again}"
    if row not in rt.kernel.asked or row.state is not TaskState.BLOCKED:
        return f"nobody is asked for it yet: it is {row.state}"
    before = [each for name, each in _votes(row) if person(name) == person(by)]
    if before:
        return f"{by} has answered before: {before[0]!r}"
    who, terms = rt.kernel.caller, row.links and row.links.terms
    if who and terms and person(who) in map(person, terms.proved):
        return f"the token of {who} has answered before, and counts once"
    return ""


def _end_of(row: TaskRow) -> str:
    """Return the outcome of *row*, about which people were asked."""
    extra = row.extra
    has_failed = row.state is TaskState.FAILED
    if has_failed and extra is not None and extra.error is not None:
        return _short(extra.error[1])
    moves = moves_of(row)
    # If it ran again, the answer is in the entry where it went on.
    went_on = [
        detail
        for (before, _, _), (_, _, detail) in pairwise(moves)
        if before is TaskState.BLOCKED
    ]
    detail = _short((went_on or [moves[-1][2]])[-1])
    return f"it is {row.state}{f' ({detail})' if detail else ''}"


def _short(text: str) -> str:
    """Return *text*, cut to the length that a refusal repeats."""
    return text if len(text) <= _MOST_REPEATED else f"{text[:_MOST_REPEATED]}…"


def _outcome(
    question: Question,
    chosen: str,
    votes: Iterable[tuple[str, str]],
    note: str,
    changes: Any,
) -> tuple[str, Any, str]:
    """Return the verdict, the result and the words for what was *chosen*."""
    if not chosen:
        split = ", ".join(f"{choice!r} by {by}" for by, choice in votes)
        return "fail", None, f"no choice can have {question.quorum} any more: {split}"
    by = tuple(name for name, choice in votes if choice == chosen)
    sentence = f"{chosen!r} by {' and '.join(by)}{f': {note}' if note else ''}"
    if question is _ABOUT_FAILURE:
        return _VERDICTS[chosen], (changes or {}).get("result"), sentence
    if chosen in question.no:
        return "fail", None, sentence
    return "complete", Answer(chosen, by, note, changes), sentence


def _votes(row: TaskRow) -> tuple[tuple[str, str], ...]:
    terms = None if row.links is None else row.links.terms
    return () if terms is None else terms.votes


def refuse_bypass(rt: Runtime, task_id: str, row: TaskRow, verdict: str) -> None:
    """
    Refuse to decide *row* by `decide` if it is a question with rules of its own.

    Raises:
        InvalidTaskError: It is.
        AnswerRefusedError: It was asked more than once, and *task_id* has no number.
    """
    question = _question(row)
    if question is None or not awaits(row):
        return
    if question.who is not None or question.quorum > 1 or question.not_by:
        msg = f"{row.id} is a question, and not everybody may {verdict} it alone"
        hint = f"orch.answer({row.id!r}, CHOICE, by=…); or cancel it"
        raise InvalidTaskError(msg, hint=hint, task_id=row.id)
    why = why_unsure(rt, task_id)
    if why:
        raise AnswerRefusedError(why, hint=_open_now(rt, row.id), task_id=row.id)


def _others(
    rt: Runtime, rows: list[TaskRow], changes: Mapping[str, Any], reason: str
) -> dict[TaskRow, tuple[Again, Spec]]:
    """
    Return, for *rows* that change, the retry with other resources and timeout.

    Raises:
        InvalidTaskError: The *changes* are none of these, or too much for any worker.
    """
    amounts = dict(changes)
    timeout = amounts.pop("timeout", None)
    resources = amounts.pop("resources", {})
    if not isinstance(resources, Mapping):
        msg = f"changes: resources are names and amounts, not {show(resources)}"
        raise InvalidTaskError(msg, hint="changes={'memory_mb': 2048}")
    amounts |= resources
    others: dict[TaskRow, tuple[Again, Spec]] = {}
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
        if spec is None:
            continue
        refusal = rt.kernel.too_much(row, spec)
        if refusal:
            msg = f"changes: {refusal.rpartition('since ')[2]}"
            raise InvalidTaskError(msg, task_id=row.id)
        again = Again(retry=True, reason=reason, spec=spec, cargo=other)
        others[row] = again, spec
    return others


def _cause(row: TaskRow) -> tuple[str, str]:
    extra = row.extra
    kind, message, _ = ("", "", "") if extra is None else extra.error or _NO_ERROR
    if rules_ask(row):
        # Values that rules look at matter: each is a question of its own.
        return kind, asked_by_rules(row)
    return FailureCause.common(row.id, kind, message)
