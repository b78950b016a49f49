"""Questions to people: which are open, and what an answer to one does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch._vocabulary import meant
from taskorch.errors import AnswerRefusedError, InvalidTaskError, UnknownTaskError
from taskorch.kernel import TaskRow, awaits, moves_of
from taskorch.model import TERMINAL, Answer, Question, TaskState, question_of
from taskorch.model._explanation import some
from taskorch.model._plain import plain
from taskorch.model._question import check_answerer, person
from taskorch.model._show import show
from taskorch.model._wait import asked_of
from taskorch.runtime._reruns import number_of, stem_of

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime
    from taskorch.runtime._work import Work

_NS: Final = 1_000_000_000
#: Letters of a note, and of one that a refusal repeats.
_MOST_NOTE: Final = 10_000
_MOST_REPEATED: Final = 200


@attrs.frozen
class OpenQuestion:
    """
    A question that waits for an answer now: see `TaskOrchestrator.questions`.

    Attributes:
        id: The id of its task.
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
        asked = f"{stem_of(self.id)}~{number_of(self.id)}"
        return self._answer(asked, choice, by=by, note=note, changes=changes)

    def to_dict(self) -> dict[str, Any]:
        """It as JSON has it."""
        said = attrs.asdict(self, filter=lambda field, _: field.name != "_answer")
        found: dict[str, Any] = plain(said)
        return found


def open_questions(rt: Runtime, reply: Callable[..., bool]) -> list[OpenQuestion]:
    """
    The questions that wait for an answer, those that wait longest first.

    Each is answered by *reply*, which takes its id first.
    """

    def look(_: int) -> list[OpenQuestion]:
        rows = [row for rows in rt.kernel.awaited.values() for row in rows]
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
    if not isinstance(choice, str):
        msg = f"an answer is one of the choices, a text, not {show(choice)}"
        raise InvalidTaskError(msg)
    rt.recall((task_id,))

    def change(now: int) -> bool | AnswerRefusedError:
        row = rt.kernel.tasks.get(rt.directory.reruns.latest(task_id))
        if row is None and task_id not in rt.kernel.evicted:
            msg = f"no task has the id {task_id!r}"
            raise UnknownTaskError(msg, task_id=str(task_id))
        if row is None:
            msg = f"{task_id} was decided long ago: it has left memory"
            return AnswerRefusedError(msg, task_id=task_id)
        question = _question(row)
        if question is None:
            msg = f"task {task_id} is no question"
            hint = "orch.questions() lists those that wait for an answer"
            raise InvalidTaskError(msg, hint=hint, task_id=task_id)
        return vote(rt, row, question, choice, by, note, changes, now)

    done: bool | AnswerRefusedError = rt.step(change, keep=True)
    if isinstance(done, AnswerRefusedError):
        raise done
    return done


def approval_of(rt: Runtime, task_id: str) -> tuple[str, str] | None:
    """The run and the phase whose approval the task is; None: it is none."""
    row = rt.kernel.tasks.get(rt.directory.reruns.latest(task_id))
    question = None if row is None else _question(row)
    event = None if question is None else question.event
    return None if event is None else asked_of(event)


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
        msg = f"the answer of {by} to {row.id} does not count: {why}"
        return AnswerRefusedError(msg, task_id=row.id)
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
        return f"it comes too late: {_end_of(row)}"
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


def refuse_bypass(row: TaskRow, verdict: str) -> None:
    """
    Refuse to decide *row* by `decide` if it is a question with rules of its own.

    Raises:
        InvalidTaskError: It is.
    """
    question = _question(row)
    if question is None or not awaits(row):
        return
    if question.who is not None or question.quorum > 1 or question.not_by:
        msg = f"{row.id} is a question, and not everybody may {verdict} it alone"
        hint = f"orch.answer({row.id!r}, CHOICE, by=…); or cancel it"
        raise InvalidTaskError(msg, hint=hint, task_id=row.id)
