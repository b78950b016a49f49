"""
Waits for something outside: for an event, or for answers of people.

Decision: questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import (
    check_answerer,
    check_exact,
    check_seconds,
    is_name,
    to_seconds,
)
from taskorch.kit.frozen import frozen, shown
from taskorch.kit.limits import MAX_NAME
from taskorch.kit.people import is_among, person, role_in
from taskorch.kit.plain import fields_of, plain
from taskorch.kit.visible import as_text, is_text, show
from taskorch.kit.vocabulary import meant
from taskorch.kit.words import some, stamp
from taskorch.model.ids import split_first

#: The longest name of an event, in characters.
_MAX_NAME: Final = 500


class _Raise(Enum):
    RAISE = "raise"


#: The mark of no default: a wait that takes too long fails.
RAISE: Final = _Raise.RAISE


def check_event(name: object) -> str:
    """
    Refuse an invalid name of an event.

    Raises:
        InvalidTaskError: It is no name of an event.
    """
    if not is_name(name) or len(name) > _MAX_NAME:
        msg = (
            f"an event has a name that can be printed, of at most {_MAX_NAME} "
            f"characters and without a space at either end, not {show(name)}"
        )
        raise InvalidTaskError(msg)
    return name


#: The beginning of events that stand for answers to questions.
ANSWER_TO: Final = "answer to "
#: The beginning of events that stand for approvals, before the run and the phase.
APPROVAL_OF: Final = "approval of "


def asked_of(event: str) -> tuple[str, str] | None:
    """Return the run and phase whose approval *event* stands for, or None."""
    run_id, phase = split_first(event.removeprefix(APPROVAL_OF))
    return (run_id, phase) if event.startswith(APPROVAL_OF) and phase else None


def is_for_people(event: str) -> bool:
    """Return whether *event* stands for an answer of people."""
    return event.startswith(ANSWER_TO) or asked_of(event) is not None


def check_emitted(name: object) -> str:
    """
    Refuse a name of an event that may not be emitted.

    Raises:
        InvalidTaskError: It is no name of an event, is a pattern, or stands for an
            answer of people.
    """
    checked = check_event(name)
    if is_for_people(checked):
        msg = f"{show(name)} is no event: people answer a question"
        raise InvalidTaskError(msg, hint="orch.answer(id, choice, by=…)")
    check_exact("an event", checked, "name one event")
    return checked


@frozen
class Wait:
    """
    A wait for an event from outside, as the payload of a task: see `Task.wait_for`.

    Attributes:
        event: The name of the event; None waits for the time only.
        timeout: Seconds from the beginning of the wait; None is for ever.
        default: Its result when the time is over; with `RAISE` it fails.

    Raises:
        InvalidTaskError: *event* is no name, *timeout* is no number of seconds, or they
            make no sense together.
    """

    event: str | None
    timeout: float | None = attrs.field(default=None, converter=to_seconds)
    default: Any = RAISE

    __repr__ = shown

    def __attrs_post_init__(self) -> None:
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        if self.event is not None:
            check_event(self.event)
            if not is_for_people(self.event):
                check_exact("an event", self.event, "name one event")
        elif self.timeout is None or self.default is RAISE:
            msg = "a wait for no event needs a timeout and a default, as a timer does"
            raise InvalidTaskError(msg)
        if self.timeout is None and self.default is not RAISE:
            msg = "a default is for when the time is over: give it a timeout"
            raise InvalidTaskError(msg)


#: The longest text of a question, and the longest choice and name, in characters.
_MAX_TEXT: Final = 400
#: Choices that mean no, unless a question names its own.
_NO: Final = ("reject", "no")
#: The word in `not_by` for the person who asks, or for whom it is asked.
REQUESTER: Final = "requester"


@frozen
class Answer:
    """
    Answer to a question: the result of its task.

    Attributes:
        choice: The choice.
        by: The people who chose it, in the order of their answers; empty if its time
            was over.
        note: The note of the last of them.
        changes: The changes that the last of them asked for.
        timed_out: True if it is the default, since nobody decided in time.
    """

    choice: str
    by: tuple[str, ...] = ()
    note: str = ""
    changes: Mapping[str, Any] | None = None
    timed_out: bool = False


def _check_line(text: object) -> None:
    """
    Refuse the text of a question that is no line.

    Raises:
        InvalidTaskError: It is none; the message says why.
    """
    if not is_text(text) or not text.strip():
        msg = f"a question is a text, not {show(text)}"
        raise InvalidTaskError(msg)
    if not "".join(text.splitlines()).isprintable():
        msg = f"a question has characters that cannot be printed: {show(text)}"
        raise InvalidTaskError(msg)
    if len(text) > _MAX_TEXT or not is_name(text):
        msg = f"a question is one line of at most {_MAX_TEXT} characters"
        msg += ", without a space at either end"
        raise InvalidTaskError(msg, hint="what is longer goes into details=")


@frozen
class Question(Wait):
    """
    A question to people, as the payload of a task: see `Task.question`.

    Attributes:
        text: The question.
        options: The choices.
        no: Choices that fail the task.
        who: The people who may answer, by name or as `role:approver`; None is anybody.
        quorum: How many equal answers it needs.
        not_by: The people who may not answer.
        asked_by: The person who asks.
        remind: Seconds between two reminders, or None.
        details: Details that help to decide, as JSON has them.
    """

    text: str = ""
    options: tuple[str, ...] = ("approve", "reject")
    no: tuple[str, ...] = ("reject",)
    who: tuple[str, ...] | None = None
    quorum: int = 1
    not_by: tuple[str, ...] = ()
    asked_by: str | None = None
    remind: float | None = attrs.field(default=None, converter=to_seconds)
    details: Any = None

    def __repr__(self) -> str:
        return shown(self)

    def __attrs_post_init__(self) -> None:
        _check_line(self.text)
        Wait.__attrs_post_init__(self)
        if not self.options:
            msg = "options: a question needs at least one choice"
            raise InvalidTaskError(msg)
        for choice in self.no:
            if choice not in self.options:
                msg = f"no: {show(choice)} is none of {', '.join(self.options)}"
                raise InvalidTaskError(msg, hint=meant(choice, self.options) or None)
        quorum: object = self.quorum
        if type(quorum) is not int or quorum < 1:
            msg = f"quorum: a number of people from 1 is needed, not {show(quorum)}"
            raise InvalidTaskError(msg)
        for name in filter(role_in, self.not_by):
            msg = f"not_by: {show(name)} is a role, and people are named there"
            raise InvalidTaskError(msg, hint="who= takes roles")
        is_few = not self._has_roles and len(self.may_answer) < self.quorum
        if self.who is not None and is_few:
            may = ", ".join(self.may_answer) or "nobody"
            msg = f"quorum: {self.quorum} must agree, and {may} may answer"
            raise InvalidTaskError(msg, hint="name more of them in who=")
        if self.remind is not None:
            check_seconds("remind", self.remind, zero=False, none=True)

    @property
    def may_answer(self) -> tuple[str, ...]:
        """Names in `who` that may answer; empty if anybody may."""
        # Two names of one person count once.
        people: dict[str, str] = {}
        for name in self.who or ():
            people.setdefault(person(name), name)
        for name in self.not_by:
            people.pop(person(name), None)
        return tuple(people.values())

    @property
    def _has_roles(self) -> bool:
        """True if `who` names a role, so that the number of people is unknown."""
        return any(map(role_in, self.who or ()))

    def why_not(self, by: str) -> str:
        """Return why *by* may not answer, or "" if they may."""
        who = person(by)
        if who in map(person, self.not_by):
            is_asking = self.asked_by is not None and who == person(self.asked_by)
            return f"{by}{' asks, and' * is_asking} may not answer it"
        if self.who is not None and not is_among(by, self.who):
            why = f"{by} is none of those who may: {', '.join(self._answerers)}"
            proof = "; a named token of the service proves a role"
            return f"{why}{proof * self._has_roles}"
        return ""

    def keeps(self, task_id: str, result: Any, now: int) -> tuple[str, str, Any] | None:
        """
        Return the document to keep when its task completes with *result*.

        Returns:
            The name of its extension, its key, and the document; or None.
        """
        del task_id, result, now
        return None

    @property
    def _answerers(self) -> list[str]:
        """Names and roles in `who` that may answer, in words."""
        return [
            f"anybody with the role {role}" if (role := role_in(name)) else name
            for name in self.may_answer
        ]

    @property
    def whom(self) -> str:
        """Text that says who may answer, and how many must agree."""
        but = f" but {some(self.not_by)}" if self.not_by else ""
        whom = f"anybody{but}" if self.who is None else some(self._answerers)
        agree = f"; {self.quorum} must agree" if self.quorum > 1 else ""
        return f"{whom} may answer{agree}"

    def outcome(self, votes: Iterable[tuple[str, str]]) -> str | None:
        """
        Return the choice that is decided by *votes*, each `(by, choice)`.

        A no decides at once, any other choice once `quorum` people have made it.

        Returns:
            None if it is open; an empty text if no choice can win any more.
        """
        counts = dict.fromkeys(self.options, 0)
        voters = set()
        for by, choice in votes:
            counts[choice] = counts.get(choice, 0) + 1
            voters.add(person(by))
            if choice in self.no or counts[choice] >= self.quorum:
                return choice
        if self.who is None or self._has_roles:
            return None
        outstanding = sum(person(name) not in voters for name in self.may_answer)
        can = any(choice in self.no for choice in self.options) and outstanding
        return None if can or max(counts.values()) + outstanding >= self.quorum else ""


@frozen
class OpenQuestion:
    """
    A question that waits for an answer now: see `TaskOrchestrator.questions`.

    It is a question, the approval of a phase, or an escalation about a failure.

    Attributes:
        id: Its id, for `orch.answer`. A question has the id of its task, with the
            number of the run if it was run again: first `sign-off`, then `sign-off~2`.
            An escalation has `escalation/load`, and `escalation/load@2` when people are
            asked about that task again.
        text: The question.
        options: The choices.
        who: The people who may answer, by name or as `role:approver`; None is anybody.
        quorum: How many equal answers it needs.
        not_by: The people who may not answer.
        asked_at: The time since which it waits, in seconds since the epoch.
        due: The time at which its own time, or that of the first of its tasks, is over,
            in seconds since the epoch; None is never.
        votes: The answers so far, each `(by, choice)`.
        details: Details that help to decide; for an escalation, those of the failure.
        kind: `question` or `escalation`.
        tasks: The tasks that the answer decides: its own; for an escalation, all that
            failed for one cause, at most a thousand.
        blocking_tasks: The tasks that wait for these, however indirectly, at most a
            thousand.
        whom: Text that says who may answer, and how many must agree.
        answer_to: The id of this very question, even if the task asks again later.
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
    details: Any = attrs.field(repr=show)
    kind: str
    tasks: tuple[str, ...]
    blocking_tasks: tuple[str, ...]
    whom: str
    answer_to: str
    _answer: Callable[..., bool] = attrs.field(repr=False, eq=False)

    def answer(
        self, choice: str, *, by: str, note: str = "", changes: Any = None
    ) -> bool:
        """
        Answer the question: see `TaskOrchestrator.answer`.

        The answer is for this question. If it was asked again since, the answer is
        refused.
        """
        return self._answer(self.answer_to, choice, by=by, note=note, changes=changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the question as JSON has it."""
        document: dict[str, Any] = plain(fields_of(self))
        return document


@frozen
class Escalation(OpenQuestion):
    """
    A question about a failure: see `TaskOrchestrator.escalations`.

    Attributes:
        issue_type: The class of the failure, such as `import_error`.
        severity: `medium`, `high` or `critical`.
        context: The details of the failure.
        system_state: The numbers of waiting and running tasks.
        recommended_actions: Recommended actions, in words.
    """

    issue_type: str
    severity: str
    context: dict[str, Any]
    system_state: dict[str, int]
    recommended_actions: tuple[str, ...]

    @property
    def escalation_id(self) -> str:
        """Id of the escalation: its `id`."""
        return self.id

    @property
    def timestamp(self) -> str:
        """Time since which people are asked, in ISO 8601, UTC (`Z`)."""
        return stamp(self.asked_at, "microseconds")

    @property
    def task_id(self) -> str:
        """Id of its first task."""
        return self.tasks[0]

    @property
    def question(self) -> str:
        """Text of the escalation: its `text`."""
        return self.text

    def as_question(self) -> OpenQuestion:
        """Return the escalation, which is an open question itself."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the escalation as JSON has it."""
        names = ("escalation_id", "timestamp", "task_id", "question")
        fields = {name: getattr(self, name) for name in names}
        return {**OpenQuestion.to_dict(self), **fields}


def question_of(payload: object) -> Question | None:
    """Return the question, or the approval of a phase, in *payload*, or None."""
    if isinstance(payload, Question):
        return payload
    if not isinstance(payload, Wait) or payload.event is None:
        return None
    asked = asked_of(payload.event)
    if asked is None:
        return None
    text = f"approve {asked[1]} of {asked[0]}?"[:_MAX_TEXT].rstrip()
    return Question(payload.event, payload.timeout, payload.default, text)


def to_question(
    text: str,
    *,
    options: Iterable[str] = ("approve", "reject"),
    no: Iterable[str] | None = None,
    who: Iterable[str] | None = None,
    quorum: int = 1,
    not_by: Iterable[str] = (),
    asked_by: str | None = None,
    due: float | timedelta | None = None,
    default: str | None = None,
    remind: float | timedelta | None = None,
    details: Any = None,
    event: str | None = None,
) -> Question:
    """
    Return the question with these arguments of `Task.question`.

    Raises:
        InvalidTaskError: One is invalid, or they contradict each other.
    """
    choices = _names("options", options)
    noes = tuple(c for c in choices if c in _NO) if no is None else _names("no", no)
    if asked_by is not None:
        check_answerer("asked_by", asked_by)
    excluded = _names("not_by", not_by)
    if REQUESTER in excluded:
        if asked_by is None:
            msg = f"not_by: nobody is named as the {REQUESTER}"
            raise InvalidTaskError(msg, hint="say who asks: asked_by=, or owner=")
        excluded = tuple(asked_by if n == REQUESTER else n for n in excluded)
    otherwise: Any = RAISE
    if default is not None:
        if due is None:
            msg = "default: it is for when nobody decides in time, and there is no due"
            raise InvalidTaskError(msg, hint="due=3600")
        if as_text(default) not in choices:
            msg = f"default: {show(default)} is none of {', '.join(choices)}"
            raise InvalidTaskError(msg, hint=meant(default, choices) or None)
        if default in noes:
            msg = f"default: by {default!r} the task fails, as it does without"
            hint = "leave default= out: a failure then says that the time was over"
            raise InvalidTaskError(msg, hint=hint)
        otherwise = Answer(default, note="nobody decided in time", timed_out=True)
    if due is not None and not isinstance(due, int | float | timedelta):
        msg = f"due: seconds from when it is asked, or a timedelta, not {show(due)}"
        raise InvalidTaskError(msg, hint="deadline= takes a datetime")
    return Question(
        f"{ANSWER_TO}{as_text(text)}" if event is None else event,
        due,
        otherwise,
        text,
        choices,
        noes,
        None if who is None else _names("who", who),
        quorum,
        excluded,
        asked_by,
        remind,
        details,
    )


def _names(field: str, texts: object) -> tuple[str, ...]:
    """Return *texts* as names, each once; a single text is one name."""
    if isinstance(texts, str):
        texts = (texts,)
    if not isinstance(texts, Iterable):
        msg = f"{field}: names are needed, not {show(texts)}"
        raise InvalidTaskError(msg)
    names = tuple(texts)
    for name in names:
        if not is_name(name) or len(name) > MAX_NAME:
            msg = f"{field}: a text that can be printed is needed, not {show(name)}"
            raise InvalidTaskError(msg)
        if field in ("who", "not_by"):
            check_exact(field, name, "name each person, or a role: 'role:approver'")
        role = role_in(name)
        if ":" in role or role != role.strip() or (":" in name and not role):
            msg = f"{field}: {show(name)} names neither a person nor a role"
            hint = "say a name without a colon, or a role as in 'role:approver'"
            raise InvalidTaskError(msg, hint=hint)
    return tuple(dict.fromkeys(names))
