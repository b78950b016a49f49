"""
Questions to people: which are open, and what an answer to one does.

Decisions: 0078, 0146.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch._vocabulary import meant
from taskorch.errors import AnswerRefusedError, InvalidTaskError, UnknownTaskError
from taskorch.kernel import TaskRow, awaits, moves_of, past_of
from taskorch.model import TERMINAL, Answer, Question, TaskState, question_of
from taskorch.model._explanation import some
from taskorch.model._ids import (
    has_number,
    is_escalation,
    number_of,
    numbered,
    stem_of,
    tail_of,
)
from taskorch.model._plain import plain
from taskorch.model._question import MAX_NAME, check_answerer, person
from taskorch.model._show import show
from taskorch.model._wait import asked_of

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime
    from taskorch.runtime._work import Work

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
