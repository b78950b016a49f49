"""
Policies, operations and verdicts, as values.

Decision: policies-as-data.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal, NoReturn, TypeAlias, cast, get_args

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.governance._cel import (
    NoConditionError,
    condition_of,
    paths_in,
    seen_of,
)
from taskorch.ext.governance._operators import UnfitError, test_of
from taskorch.kit.checks import check_seconds, to_seconds
from taskorch.kit.forms import (
    AnyNames,
    Anything,
    DocumentOf,
    Each,
    Flag,
    Maybe,
    Number,
    OneOf,
    Text,
    may_be,
    one_of,
)
from taskorch.kit.frozen import document_of, frozen
from taskorch.kit.plain import plain, read_plain, taken_apart
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import meant
from taskorch.model import Call, Task, call_type

#: The decision about an operation.
Decision: TypeAlias = Literal["allow", "deny", "ask"]
#: When an operation is judged.
Moment: TypeAlias = Literal["submit", "start", "progress", "result", "verb"]
#: The result where the path of a rule leads to nothing.
Missing: TypeAlias = Literal["violates", "passes", "error"]
#: The result of one rule.
Outcome: TypeAlias = Literal["held", "violated", "error"]

#: The decisions.
DECISIONS: Final[tuple[Decision, ...]] = get_args(Decision)
#: The operators of rules.
OPERATORS: Final = (
    "equals",
    "not_equals",
    "contains",
    "not_contains",
    "greater_than",
    "less_than",
    "greater_than_or_equal",
    "less_than_or_equal",
    "exists",
    "not_exists",
    "in",
    "not_in",
    "regex_match",
)
#: The operators that test whether there is a value.
_OF_PRESENCE: Final = ("exists", "not_exists")
_MOMENTS: Final[tuple[Moment, ...]] = get_args(Moment)
#: The forms of history rules.
_FORMS: Final = ("formerly", "count", "since", "never_after")
#: The events of a task that a history rule may look for.
EVENTS: Final = ("submitted", "started", "completed", "failed", "cancelled")
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
#: The text in evidence for a secret value.
SECRET: Final = "•••"  # noqa: S105 - it hides one


class Severity(StrEnum):
    """
    The severity of a violation, which decides what follows.

    `low` is logged; `medium` is an alert, too; `high` asks people; `critical` is
    denied.
    """

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the least, 3 for the worst."""
        return list(Severity).index(self)

    @property
    def decision(self) -> Decision:
        """The decision after a violation, unless its policy has another."""
        return _DECISIONS[self.rank]

    @property
    def fails_closed(self) -> bool:
        """True if a rule that cannot be evaluated counts as violated."""
        return self.rank >= Severity.HIGH.rank


_DECISIONS: Final[tuple[Decision, ...]] = ("allow", "allow", "ask", "deny")


def _refuse(text: str, hint: str = "") -> NoReturn:
    raise InvalidTaskError(text, hint=hint or None)


def _word(subject: str, value: object, words: Iterable[str]) -> None:
    words = tuple(words)
    if value not in words:
        text = f"{subject}: one of {', '.join(words)} is needed, not {show(value)}"
        _refuse(text, meant(str(value), words))


def _moments(values: Iterable[str] | str) -> tuple[Moment, ...]:
    # Other fields are refused by their names.
    return cast("tuple[Moment, ...]", _texts(values))


def _severity(value: object) -> Severity:
    _word("severity", value, Severity)
    return Severity(str(value))


def _texts(values: Iterable[str] | str) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


def _check_texts(subject: str, values: object) -> None:
    if not isinstance(values, tuple) or not all(
        isinstance(one, str) and one for one in values
    ):
        _refuse(f"{subject}: a list of texts is needed, not {show(values)}")


def steps_of(path: str) -> tuple[str | int, ...]:
    """
    The steps of a dotted path: `task.payload.args[0]` is `("payload", "args", 0)`.

    It begins with `operation.` or `task.`, which mean the same, or with a field of an
    `Operation`; a number in brackets is the place in a list.

    Raises:
        InvalidTaskError: It is no such path, or an operation has no such field.
    """
    unchecked: object = path
    if not is_text(unchecked) or not path.strip():
        _refuse(f"condition: a dotted path is needed, not {show(path)}")
    steps: list[str | int] = []
    for part in path.split("."):
        name, *places = part.split("[")
        steps.append(name)
        for place in places:
            if not place.endswith("]") or not place[:-1].isdecimal():
                _refuse(f"condition: {show(path)} is no dotted path")
            steps.append(int(place[:-1]))
        if not name:
            _refuse(f"condition: {show(path)} is no dotted path")
    if steps[0] in ("operation", "task"):
        steps = steps[1:]
    fields = [field.name for field in attrs.fields(Operation)]
    if not steps or steps[0] not in fields:
        first = str(steps[0]) if steps else ""
        text = f"condition: an operation has no {show(first)}, in {show(path)}"
        _refuse(text, meant(first, fields, f"it has {', '.join(fields)}"))
    return tuple(steps)


def _checked_path(path: str) -> str:
    steps_of(path)
    return path


def _checked_condition(text: str) -> str:
    """
    Check that *text* is a condition about an operation, and return it.

    Raises:
        InvalidTaskError: It is none.
    """
    holds = condition_of(text)
    for path in paths_in(text):
        steps_of(path)
    sample = Operation(
        owner="",
        budget="",
        payload=True,
        result=True,
        timeout=0.0,
        deadline=0.0,
        progress=0.0,
    )
    try:
        holds(seen_of(sample.to_dict))
    except UnfitError as error:
        # Other operations may have what this one lacks.
        if isinstance(error, NoConditionError):
            _refuse(f"when: {show(text)}: {error}", "operation.type == 'deploy'")
    return text


@frozen
class Rule:
    """
    A demand on an operation: the value at *condition* must satisfy the *operator*.

    Attributes:
        id: Its name within the policy.
        condition: The dotted path of the value, such as `task.payload.args[0]`.
        operator: `equals`, `not_equals`; `in`, `not_in`, with a list; `contains`,
            `not_contains`: an item of a list, a part of a text, a name in a mapping;
            `greater_than`, `less_than`, `greater_than_or_equal`,
            `less_than_or_equal`: numbers; `regex_match`, which searches 10,000 letters
            at most, and never takes for ever; `exists`, `not_exists`: a value that is
            not null.
        value: The value to compare with.
        message: The message for people where it does not hold.
        missing: The result if there is no such value: `violates`, `passes` or `error`.
            `exists` and `not_exists` ignore it.
        secret: Whether evidence must not show the value; None: it must not where the
            path names a password, a token, a key or the like, unless it is a number.

    Raises:
        InvalidTaskError: A field is not well formed.
    """

    id: str = attrs.field(metadata=may_be(Text()))
    condition: str = attrs.field(metadata=may_be(Text(check=_checked_path)))
    operator: str = attrs.field(metadata=may_be(one_of(*OPERATORS)))
    value: Any = attrs.field(default=None, hash=False, metadata=may_be(Anything()))
    message: str = attrs.field(default="", metadata=may_be(Text(is_any=True)))
    missing: Missing = attrs.field(
        default="violates", metadata=may_be(one_of(*get_args(Missing)))
    )
    secret: bool | None = attrs.field(default=None, metadata=may_be(Flag()))

    def __attrs_post_init__(self) -> None:
        _check_texts("id", (self.id,))
        steps_of(self.condition)
        _word("operator", self.operator, OPERATORS)
        _word("missing", self.missing, get_args(Missing))
        if self.operator in _OF_PRESENCE and self.value is not None:
            text = f"value: {self.operator} compares with nothing"
            _refuse(text, "leave `value` out")
        test_of(self.operator, self.value)


@frozen
class Past:
    """
    The event of a task that a history rule looks for.

    Attributes:
        event: `submitted`, `started`, `completed`, `failed` or `cancelled`.
        type: A pattern of the type of the task, as in file names.
        id: A pattern of its id.

    Raises:
        InvalidTaskError: A field is not well formed.
    """

    event: str = attrs.field(metadata=may_be(one_of(*EVENTS)))
    type: str = attrs.field(default="*", metadata=may_be(Text()))
    id: str = attrs.field(default="*", metadata=may_be(Text()))

    def __attrs_post_init__(self) -> None:
        _word("event", self.event, EVENTS)
        _check_texts("type, id", (self.type, self.id))


_PAST: Final = DocumentOf(Past, make=Past)


@frozen
class HistoryRule:
    """
    A demand on the events before an operation; exactly one form of the four.

    Attributes:
        id: Its name within the policy.
        formerly: Such an event has happened.
        count: No more than `at_most` such events have happened; the operation counts if
            it would be one, and running tasks count for starts.
        since: Such an event has happened, and none of `no` after it.
        never_after: No such event has happened.
        at_most: See `count`.
        no: See `since`.
        within: Seconds; older events do not count. None: all count.
        same: Dotted paths: only events of tasks with the same values there count.
        message: The message for people where it does not hold.

    Raises:
        InvalidTaskError: A field is not well formed.
    """

    id: str = attrs.field(metadata=may_be(Text()))
    formerly: Past | None = attrs.field(default=None, metadata=may_be(_PAST))
    count: Past | None = attrs.field(default=None, metadata=may_be(_PAST))
    since: Past | None = attrs.field(default=None, metadata=may_be(_PAST))
    never_after: Past | None = attrs.field(default=None, metadata=may_be(_PAST))
    at_most: int | None = attrs.field(
        default=None, metadata=may_be(Number(is_whole=True))
    )
    no: Past | None = attrs.field(default=None, metadata=may_be(_PAST))
    within: float | None = attrs.field(
        default=None,
        converter=to_seconds,
        metadata=may_be(Maybe(Number(is_above=True))),
    )
    same: tuple[str, ...] = attrs.field(
        default=(),
        converter=_texts,
        metadata=may_be(Each(Text(check=_checked_path), or_one=True)),
    )
    message: str = attrs.field(default="", metadata=may_be(Text(is_any=True)))

    def __attrs_post_init__(self) -> None:
        _check_texts("id", (self.id,))
        forms = [name for name in _FORMS if getattr(self, name) is not None]
        if len(forms) != 1:
            text = f"history {self.id}: exactly one of {', '.join(_FORMS)} is needed"
            _refuse(text)
        for name, form in (("at_most", "count"), ("no", "since")):
            if (getattr(self, name) is not None) != (forms[0] == form):
                text = f"history {self.id}: {name} and {form} go together"
                _refuse(text)
        if self.at_most is not None and (
            type(self.at_most) is not int or self.at_most < 0
        ):
            text = f"at_most: a number from 0 is needed, not {show(self.at_most)}"
            _refuse(text)
        if self.within is not None:
            check_seconds("within", self.within, zero=False, none=True)
        _check_texts("same", self.same)
        for path in self.same:
            steps_of(path)

    @property
    def form(self) -> str:
        """`formerly`, `count`, `since` or `never_after`."""
        return next(name for name in _FORMS if getattr(self, name) is not None)

    @property
    def past(self) -> Past:
        """The event that it looks for."""
        past: Past = getattr(self, self.form)
        return past


_RULE: Final = DocumentOf(Rule, make=Rule)
_HISTORY: Final = DocumentOf(HistoryRule, make=HistoryRule)
_PATTERNS: Final = Each(Text(), least=1, or_one=True, needs="a list of patterns")


@frozen
class Policy:
    """
    A policy: its scope, its demands, and the effect of a violation.

    A policy applies to the operations that its patterns match and for which `when` is
    true. It is violated where one of its rules does not hold. One with `when` and
    without rules and history is violated wherever it applies.

    Attributes:
        id: Its name; no two of a set have the same.
        principle: Its purpose: safety, privacy, fairness, ….
        severity: The severity of a violation: see `Severity`.
        rules: Its demands on the operation.
        when: A condition in CEL; `operation` and `task` are the operation.
        history: Its demands on the events before.
        types: Patterns of types of tasks, as in file names.
        ids: Patterns of ids of tasks.
        verbs: Patterns of commands, such as `cancel_*`; for `at: verb`.
        at: When it is asked: `submit`, `start`, `progress`, `result`, `verb`.
        then: The decision after a violation: `allow` (it is reported), `ask` or `deny`;
            None: by the severity.
        change: New values by dotted paths. They repair a violation at the submission,
            and then nothing else follows.
        revoked: The effect on a running attempt if its waiver is revoked: `finish` or
            `stop`.
        enabled: Whether it is asked at all.
        description: For people.

    Raises:
        InvalidTaskError: A field is not well formed.
    """

    id: str = attrs.field(metadata=may_be(Text()))
    principle: str = attrs.field(metadata=may_be(Text()))
    severity: Severity = attrs.field(
        converter=_severity,
        metadata=may_be(OneOf({str(one): one for one in Severity})),
    )
    rules: tuple[Rule, ...] = attrs.field(
        default=(), converter=tuple, metadata=may_be(Each(_RULE))
    )
    when: str | None = attrs.field(
        default=None, metadata=may_be(Maybe(Text(check=_checked_condition)))
    )
    history: tuple[HistoryRule, ...] = attrs.field(
        default=(), converter=tuple, metadata=may_be(Each(_HISTORY))
    )
    types: tuple[str, ...] = attrs.field(
        default=("*",), converter=_texts, metadata=may_be(_PATTERNS)
    )
    ids: tuple[str, ...] = attrs.field(
        default=("*",), converter=_texts, metadata=may_be(_PATTERNS)
    )
    verbs: tuple[str, ...] = attrs.field(
        default=("*",), converter=_texts, metadata=may_be(_PATTERNS)
    )
    at: tuple[Moment, ...] = attrs.field(
        default=("submit", "start"),
        converter=_moments,
        metadata=may_be(Each(one_of(*_MOMENTS), least=1, or_one=True)),
    )
    then: Decision | None = attrs.field(
        default=None, metadata=may_be(one_of(*DECISIONS))
    )
    change: Mapping[str, Any] = attrs.field(
        default=_NOTHING,
        hash=False,
        metadata=may_be(AnyNames(Anything(), check=_checked_path, plain=True)),
    )
    revoked: Literal["finish", "stop"] = attrs.field(
        default="finish", metadata=may_be(one_of("finish", "stop"))
    )
    enabled: bool = attrs.field(default=True, metadata=may_be(Flag()))
    description: str = attrs.field(default="", metadata=may_be(Text(is_any=True)))

    def __attrs_post_init__(self) -> None:
        _check_texts("id, principle", (self.id, self.principle))
        for name in ("types", "ids", "verbs", "at"):
            _check_texts(name, getattr(self, name))
        for moment in self.at:
            _word("at", moment, _MOMENTS)
        if self.then is not None:
            _word("then", self.then, DECISIONS)
        _word("revoked", self.revoked, ("finish", "stop"))
        if self.when is not None:
            _checked_condition(self.when)
        self._check_demands()
        self._check_change()
        if self.decision == "ask" and "submit" in self.at and "start" not in self.at:
            _refuse(
                f"policy {self.id}: people are asked before a start",
                "at: [submit, start]; or then: deny",
            )

    def _check_demands(self) -> None:
        names: set[str] = set()
        demands: tuple[Any, ...] = (*self.rules, *self.history)
        for one in demands:
            if not isinstance(one, Rule | HistoryRule):
                _refuse(f"policy {self.id}: a Rule or a HistoryRule, not {show(one)}")
            if one.id in names:
                _refuse(f"policy {self.id}: two rules have the id {one.id!r}")
            names.add(one.id)
        if not names and self.when is None:
            _refuse(
                f"policy {self.id}: it demands nothing",
                "give it `rules`, `history` or `when`",
            )

    def _check_change(self) -> None:
        if self.then is not None and self.change:
            _refuse(f"policy {self.id}: `change` and `then` exclude each other")
        for path in self.change:
            if steps_of(path)[0] not in ("payload", "metadata"):
                text = f"policy {self.id}: {path} cannot be changed"
                _refuse(text, "what is in `payload` and `metadata` can")
        if self.change and "submit" not in self.at:
            _refuse(f"policy {self.id}: a change is made at the submission alone")

    @property
    def decision(self) -> Decision:
        """The decision after a violation without a waiver and a change."""
        return self.severity.decision if self.then is None else self.then

    def to_dict(self) -> dict[str, Any]:
        """Return it as a document, without defaults."""
        document: dict[str, Any] = plain(taken_apart(self, whole=False))
        return document


@frozen
class Operation:
    """
    An operation to judge: a task at one of its moments, or a command of a user.

    Dotted paths and CEL see its fields by their names.

    Attributes:
        type: The type of the task; for a command, that of its task, or "".
        id: The id of the task; "" if it has none yet.
        moment: When it is judged: `submit`, `start`, `progress`, `result`, `verb`.
        verb: The command, such as `cancel_task`; else "".
        who: Who asks for it, if that is known; else "".
        roles: The roles of whoever asks.
        payload: The payload of the task. Of a call, `function`, `args` and `kwargs`;
            of a program, `args`, `env`, ….
        resources: Amounts of resources that the task asks for.
        metadata: The metadata of the task.
        requires: Capabilities that it needs.
        priority: Its priority.
        owner: Its tenant.
        timeout: Seconds that an attempt may take; None: no limit.
        deadline: Seconds from its submission in which it must have ended; None: none.
        writes: The paths that it may write: see `Task`; empty if it states none.
        budget: The budget that it draws on; None: none.
        attempt: The number of the attempt; 0 before the first.
        worker: The worker that runs it.
        run: The id of the run that it belongs to; "" if to none.
        arguments: The arguments of a command, by their names.
        progress: How much is done, from 0 to 1, if the progress is judged.
        result: The result, if it is judged.
    """

    type: str = ""
    id: str = ""
    moment: Moment = "submit"
    verb: str = ""
    who: str = ""
    roles: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    payload: Any = attrs.field(default=None, repr=False, hash=False)
    resources: Mapping[str, float] = attrs.field(default=_NOTHING, hash=False)
    metadata: Mapping[str, Any] = attrs.field(default=_NOTHING, repr=show, hash=False)
    requires: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    priority: int = 0
    owner: str | None = None
    timeout: float | None = None
    deadline: float | None = None
    writes: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    budget: str | None = None
    attempt: int = 0
    worker: str = ""
    run: str = ""
    arguments: Mapping[str, Any] = attrs.field(default=_NOTHING, repr=False, hash=False)
    progress: float | None = None
    result: Any = attrs.field(default=None, repr=False, hash=False)

    @classmethod
    def of_task(
        cls,
        task: Task[Any],
        *,
        moment: Moment = "submit",
        task_id: str = "",
        submitted: float | None = None,
        **fields: Any,
    ) -> Operation:
        """
        Return the operation for *task*.

        Args:
            task: The task.
            moment: When it is judged.
            task_id: The id of the task, where it has been given one since.
            submitted: When it was submitted, in seconds since the epoch; None: now.
            fields: More fields.
        """
        requires = (task.type,) if task.requires is None else tuple(task.requires)
        return cls(
            type=task.type,
            id=task_id or task.id or "",
            moment=moment,
            payload=task.payload,
            resources=_amounts(task),
            metadata=_NOTHING if task.metadata is None else task.metadata,
            requires=requires,
            priority=task.priority,
            owner=task.owner,
            timeout=task.timeout,
            deadline=_seconds_to(task.deadline, submitted),
            writes=() if task.writes is None else tuple(task.writes),
            budget=task.budget,
            **fields,
        )

    @property
    def name(self) -> str:
        """The name for messages: `cancel_task of load`, `deploy (d-1)`."""
        if self.verb:
            return f"{self.verb} of {self.id}" if self.id else self.verb
        return f"{self.type} ({self.id})" if self.id else self.type

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON and CEL have them."""
        document: dict[str, Any] = {
            field.name: read_plain(getattr(self, field.name))
            for field in attrs.fields(Operation)
            if field.name != "payload"
        }
        document["payload"] = read_plain(parts_of(self.payload))
        return document


def _seconds_to(
    deadline: float | datetime | None, submitted: float | None
) -> float | None:
    if not isinstance(deadline, datetime):
        return deadline
    if submitted is None:
        # Without an orchestrator, there is no other clock.
        submitted = time.time()  # noqa: TID251
    return deadline.timestamp() - submitted


def _amounts(task: Task[Any]) -> Mapping[str, float]:
    units = task.resources.units
    return {name: amount / 1e6 for name, amount in units} if units else _NOTHING


def parts_of(payload: Any) -> Any:
    """Return *payload* as paths see it, with calls and our values as mappings."""
    if isinstance(payload, Call):
        return {
            "function": call_type(payload.fn),
            "args": payload.args,
            "kwargs": payload.kwargs,
        }
    if attrs.has(type(payload)):
        return {
            field.name: getattr(payload, field.name)
            for field in attrs.fields(type(payload))
            if not field.name.startswith("_")
        }
    return payload


_FIELDS: Final = tuple(one.name for one in attrs.fields(Operation))


def operation_of(document: Mapping[str, Any]) -> Operation:
    """
    Read an operation from *document*, its fields by their names.

    Raises:
        InvalidTaskError: There is no such field.
    """
    for name in document:
        if name not in _FIELDS:
            msg = f"an operation has no {show(name)}"
            raise InvalidTaskError(msg, hint=f"it has {', '.join(_FIELDS)}")
    operation: Operation = Operation(**document)
    return operation


@frozen
class Violation:
    """
    A demand of a policy that an operation does not satisfy.

    Attributes:
        policy_id: The id of the policy.
        rule_id: The id of the rule; `when` if the policy has none.
        principle: The purpose of the policy.
        severity: Its severity.
        message: What is wrong, for people.
        operator: The operator, or the form of the history rule, or `when`.
        expected: The value that the rule demands.
        actual: The value of the operation, shortened; hidden where it is secret.
        waived_by: The id of the waiver that covers it; None: none does.
        decision: The decision: see `Policy.then`; `allow` where it is waived, or
            repaired by a change.
        evidence: The values behind it, in words: `payload.args[1] is 100`. Secret
            values, and values that a policy changes, are hidden.
        is_whole: Whether the evidence shows all values that the rule tests.
    """

    policy_id: str
    rule_id: str
    principle: str
    severity: Severity
    message: str
    operator: str = ""
    expected: Any = attrs.field(default=None, hash=False)
    actual: Any = attrs.field(default=None, hash=False)
    waived_by: str | None = None
    decision: Decision = "allow"
    evidence: str = ""
    is_whole: bool = True

    @property
    def text(self) -> str:
        """The message and the evidence: `message; evidence`."""
        return "; ".join(filter(None, (self.message, self.evidence)))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        document: dict[str, Any] = plain(attrs.asdict(self, recurse=False))
        return document


@frozen
class Evaluation:
    """
    The result of one rule.

    Attributes:
        policy_id: The id of the policy.
        rule_id: The id of the rule; `when` for the condition of the policy.
        outcome: `held`, `violated` or `error`.
        detail: The cause of an error.
        event: Of a history rule, the number of the event that decided it; None: none.
    """

    policy_id: str
    rule_id: str
    outcome: Outcome
    detail: str = ""
    event: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        document: dict[str, Any] = plain(attrs.asdict(self))
        return document


@frozen
class ChangedValue:
    """
    A value that a policy changes in a task.

    Attributes:
        policy_id: The id of the policy.
        path: The dotted path of the value.
        value: The new value.
    """

    policy_id: str
    path: str
    value: Any = attrs.field(default=None, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        document: dict[str, Any] = plain(attrs.asdict(self, recurse=False))
        return document


@frozen
class Verdict:
    """
    The verdict of policies on an operation.

    Attributes:
        decision: `allow`, `deny`, or `ask`: people decide.
        compliant: Whether there is no violation without a waiver.
        reason: Why, in words.
        violations: All violations, waived ones, too.
        evaluations: The result of each rule that was asked.
        changes: The changes before the task is kept.
        policies_hash: The hash of this set of policies.
        operation: The judged operation.
        at: The time of the verdict, in seconds since the epoch.
        opens_at: The time, in seconds since the epoch, at which the verdict may change
            without new events; None: never.
    """

    decision: Decision
    compliant: bool
    reason: str = ""
    violations: tuple[Violation, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    changes: tuple[ChangedValue, ...] = ()
    policies_hash: str = ""
    operation: Operation = attrs.field(factory=Operation)
    at: float = 0.0
    opens_at: float | None = None

    @property
    def allowed(self) -> bool:
        """True if the decision is to allow it."""
        return self.decision == "allow"

    @property
    def text(self) -> str:
        """The violations and the evidence, for people."""
        return "; ".join(
            f"policy {one.policy_id} ({one.rule_id}): {one.text}"
            for one in self.violations
        )

    @property
    def open_violations(self) -> tuple[Violation, ...]:
        """The violations that no waiver covers."""
        return tuple(one for one in self.violations if one.waived_by is None)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, without the payload of the operation."""
        names = ("decision", "compliant", "reason", "violations", "evaluations")
        document = document_of(self, *names, "changes", "policies_hash")
        of_operation = ("type", "id", "moment", "verb", "who")
        document["operation"] = document_of(self.operation, *of_operation)
        return {**document, "at": self.at}
