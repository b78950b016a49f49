"""
Escalations: failures about which a person is asked, once for each cause.

The tasks themselves are held, and what waits for them waits on: an escalation is all
those that are held for one cause. So it needs no memory of its own, and a restart knows
what the tasks know.

Decision: 0079.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch._vocabulary import meant
from taskorch.errors import AnswerRefusedError, InvalidTaskError, UnknownTaskError
from taskorch.kernel import ASKED, Again, Spec, TaskRow, moves_of
from taskorch.model import TERMINAL, Resources, Task, TaskState
from taskorch.model._checks import check_word
from taskorch.model._plain import plain, stamp
from taskorch.protocols import Recommends, RetryDecision
from taskorch.protocols._members import has
from taskorch.runtime._deciders import changed_by
from taskorch.runtime._questions import ESCALATION, OpenQuestion, check, keep_value
from taskorch.runtime._work import task_of

if TYPE_CHECKING:
    from taskorch.runtime._runtime import Runtime

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
_NS: Final = 1_000_000_000
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
    name = task_id.rpartition("/")[2]
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


def answer(
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
