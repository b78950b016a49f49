"""
A set of policies, ready to judge: closures, and an index by kinds of operations.

Only the policies for its type, or its verb, and its moment judge an operation.
Conditions in CEL are tested together first, and one by one only if one of them may be
true.

Decision: policies-as-data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple, TypeAlias, cast

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.governance._cel import Condition, Seen, any_of, condition_of, seen_of
from taskorch.ext.governance._evidence import Steps, evidence_of, hides, shown
from taskorch.ext.governance._history import Memory, words_of
from taskorch.ext.governance._operators import (
    NOWHERE,
    Getter,
    Test,
    UnfitError,
    are_equal,
    fenced,
    fields_of,
    getter,
    test_of,
)
from taskorch.ext.governance._policies import (
    SECRET,
    ChangedValue,
    Decision,
    Evaluation,
    HistoryRule,
    Moment,
    Operation,
    Outcome,
    Policy,
    Rule,
    Verdict,
    Violation,
    steps_of,
)
from taskorch.kit.fence import is_values
from taskorch.kit.plain import plain
from taskorch.kit.visible import show

#: Returns the id of the waiver of a policy for an operation, at a time in seconds.
Covers: TypeAlias = Callable[[str, Operation, float], str | None]

_NS: Final = 1_000_000_000
#: The id of the rule in a policy that has a condition only.
WHEN: Final = "when"
#: The number of kinds of operations whose policies are cached.
_MANY: Final = 4_096
_RANK: Final[Mapping[Decision, int]] = {"allow": 0, "ask": 1, "deny": 2}
_PRESENCE: Final = ("exists", "not_exists")
#: Operators that compare null like any value; for the others it is a missing value.
_OF_NULL: Final = (*_PRESENCE, "equals", "not_equals", "in", "not_in")


class _Demand(NamedTuple):
    """
    One rule, made ready.

    Attributes:
        rule: The rule.
        get: Reads the value.
        test: Tests the value.
        looks_at_nothing: Whether it tests missing values, too.
        held: The evaluation where it holds.
    """

    rule: Rule
    get: Getter
    test: Test
    looks_at_nothing: bool
    held: Evaluation


class _Unmet(NamedTuple):
    """
    A demand that is not satisfied.

    Attributes:
        rule: The rule; None: the policy is violated by its condition.
        actual: The actual value.
        problem: Why there is no answer; "": it is not satisfied.
    """

    rule: Rule | HistoryRule | None
    actual: Any = None
    problem: str = ""


class _Ready:
    """A policy, made ready."""

    __slots__ = (
        "change",
        "condition",
        "demands",
        "held",
        "histories",
        "ids",
        "policy",
        "tests",
    )

    def __init__(self, policy: Policy) -> None:
        self.policy: Policy = policy
        self.ids: tuple[str, ...] = () if "*" in policy.ids else policy.ids
        self.condition: Condition | None = (
            None if policy.when is None else condition_of(policy.when)
        )
        self.demands: tuple[_Demand, ...] = tuple(
            _Demand(
                rule,
                getter(steps_of(rule.condition)),
                test_of(rule.operator, rule.value),
                rule.operator in _PRESENCE,
                Evaluation(policy.id, rule.id, "held"),
            )
            for rule in policy.rules
        )
        self.histories: tuple[HistoryRule, ...] = policy.history
        #: For a policy that has rules only: their tests, and the evaluations if all
        #: hold.
        self.tests: tuple[tuple[Getter, Test], ...] = ()
        if not (self.ids or self.condition or self.histories):
            self.tests = tuple((one.get, one.test) for one in self.demands)
        self.held: tuple[Evaluation, ...] = tuple(one.held for one in self.demands)
        self.change: tuple[tuple[Getter, Any], ...] = tuple(
            (getter(steps_of(path)), value) for path, value in policy.change.items()
        )


class _AskedPolicies:
    """The policies that judge operations of one kind."""

    __slots__ = ("has_history", "joined", "policies")

    def __init__(self, policies: tuple[_Ready, ...]) -> None:
        self.policies = policies
        conditions = [one.policy.when for one in policies if one.policy.when]
        #: A test whether one of their conditions may be true; None: there are few.
        self.joined: Condition | None = (
            any_of(conditions) if len(conditions) > 1 else None
        )
        self.has_history = any(one.histories for one in policies)


class PolicySet:
    """
    Policies, ready to judge.

    Args:
        policies: The policies.

    Raises:
        InvalidTaskError: Two have the same id, or one is no policy.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.policies: tuple[Policy, ...] = tuple(policies)
        ids: set[str] = set()
        for policy in self.policies:
            unchecked: object = policy
            if not isinstance(unchecked, Policy):
                msg = f"a Policy is needed, not {show(policy)}"
                raise InvalidTaskError(msg)
            if policy.id in ids:
                msg = f"two policies have the id {policy.id!r}"
                raise InvalidTaskError(msg, hint="give one of them another")
            ids.add(policy.id)
        self.hash: str = _hash_of(self.policies)
        self._ready = tuple(
            _Ready(policy) for policy in self.policies if policy.enabled
        )
        self._asked: dict[tuple[str, str], _AskedPolicies] = {}
        #: The paths of values that evidence hides, because policies change them.
        self._masked: tuple[Steps, ...] = tuple(
            steps_of(path) for one in self._ready for path in one.policy.change
        )

    @property
    def histories(self) -> dict[tuple[str, str], HistoryRule]:
        """The history rules, by the ids of their policies and their own."""
        return {
            (one.policy.id, rule.id): rule
            for one in self._ready
            for rule in one.histories
        }

    def is_asked(self, moment: Moment, name: str) -> bool:
        """Return whether a policy judges the type or verb *name* at *moment*."""
        asked = self._asked.get((moment, name))
        return bool((asked or self._find(moment, name)).policies)

    def _find(self, moment: Moment, name: str) -> _AskedPolicies:
        if len(self._asked) >= _MANY:
            self._asked = {}
        asked = _AskedPolicies(
            tuple(
                one
                for one in self._ready
                if moment in one.policy.at
                and _matches(name, _patterns(one.policy, moment))
            )
        )
        self._asked[moment, name] = asked
        return asked

    def judge(
        self, operation: Operation, now_ns: int, covers: Covers, memory: Memory
    ) -> Verdict:
        """
        Return the verdict on *operation*.

        Args:
            operation: The operation.
            now_ns: The time in ns since the epoch.
            covers: Returns the waiver for a violated policy.
            memory: The past for history rules.
        """
        name = operation.verb if operation.moment == "verb" else operation.type
        asked = self._asked.get((operation.moment, name))
        if asked is None:
            asked = self._find(operation.moment, name)
        judgement = _Judgement(operation, now_ns, covers, memory, self._masked)
        if asked.joined is not None:
            judgement.join(asked.joined)
        is_task = operation.moment != "verb"
        for ready in asked.policies:
            tests = ready.tests if is_task else ()
            try:
                # Nearly all policies have rules only, and the rules hold.
                for get, test in tests:
                    if not test(get(operation)):
                        break
                else:
                    if tests:
                        judgement.evaluations += ready.held
                        continue
            except BaseException as error:
                # `ask` reports the fault.
                if not is_values(error):
                    raise
            judgement.ask(ready)
        return judgement.verdict(self.hash)


def _patterns(policy: Policy, moment: Moment) -> tuple[str, ...]:
    return policy.verbs if moment == "verb" else policy.types


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(one == "*" or fnmatchcase(name, one) for one in patterns)


def _hash_of(policies: Iterable[Policy]) -> str:
    """Return a hash of a set of policies, whatever their order."""
    documents = sorted((one.to_dict() for one in policies), key=lambda one: one["id"])
    text = json.dumps(documents, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class _Judgement:
    """A verdict while it is made."""

    __slots__ = (
        "_changes",
        "_covers",
        "_decision",
        "_is_open",
        "_masked",
        "_memory",
        "_now",
        "_opens",
        "_operation",
        "_seen",
        "_violations",
        "evaluations",
        "may_hold",
    )

    def __init__(
        self,
        operation: Operation,
        now_ns: int,
        covers: Covers,
        memory: Memory,
        masked: tuple[Steps, ...],
    ) -> None:
        self._masked = masked
        self._operation = operation
        self._now = now_ns
        self._covers = covers
        self._memory = memory
        self._decision: Decision = "allow"
        #: Whether there is a violation without a waiver and a change.
        self._is_open = False
        #: The result of each rule.
        self.evaluations: list[Evaluation] = []
        self._violations: list[Violation] = []
        self._changes: list[ChangedValue] = []
        #: The time at which a rule that is violated now holds by itself, in ns; None:
        #: never.
        self._opens: int | None = None
        self._seen: Seen | None = None
        #: Whether a condition may be true.
        self.may_hold = True

    @property
    def seen(self) -> Seen:
        """The operation as conditions see it."""
        if self._seen is None:
            self._seen = seen_of(self._operation.to_dict)
        return self._seen

    def join(self, joined: Condition) -> None:
        """Test whether one of several conditions may be true."""
        try:
            self.may_hold = joined(self.seen)
        except UnfitError:
            # Each condition then reports its own fault.
            self.may_hold = True

    def verdict(self, policies_hash: str) -> Verdict:
        """Return the verdict."""
        violations = tuple(self._violations)
        return Verdict(
            self._decision,
            not self._is_open,
            _reason(violations),
            violations,
            tuple(self.evaluations),
            tuple(self._changes),
            policies_hash,
            self._operation,
            self._now / _NS,
            None if self._opens is None else self._opens / _NS,
        )

    def ask(self, ready: _Ready) -> None:
        """Let one policy judge."""
        policy, operation = ready.policy, self._operation
        if ready.ids and not _matches(operation.id, ready.ids):
            return
        # The index has tested the verb only.
        if operation.moment == "verb" and not _matches(operation.type, policy.types):
            return
        faults: list[_Unmet] = []
        if ready.condition is not None and not self._applies(ready, faults):
            return
        if not faults:
            self._demand(ready, faults)
        if faults and not self._is_changed(ready):
            self._violated(ready, faults)

    def _applies(self, ready: _Ready, faults: list[_Unmet]) -> bool:
        assert ready.condition is not None  # noqa: S101 - the caller looked
        policy_id = ready.policy.id
        if not self.may_hold:
            return False
        try:
            applies = ready.condition(self.seen)
        except UnfitError as error:
            faults.append(_Unmet(None, problem=str(error)))
            self.evaluations.append(Evaluation(policy_id, WHEN, "error", str(error)))
            return True
        if applies and not (ready.demands or ready.histories):
            faults.append(_Unmet(None))
            self.evaluations.append(Evaluation(policy_id, WHEN, "violated"))
        return applies

    def _value(self, rule: Rule, get: Getter) -> Any:
        """Return the value that *rule* looks at; `NOWHERE`: it is missing."""
        value = fenced(get, self._operation)
        return NOWHERE if value is None and rule.operator not in _OF_NULL else value

    def _demand(self, ready: _Ready, faults: list[_Unmet]) -> None:
        policy_id, evaluations = ready.policy.id, self.evaluations
        for rule, get, test, looks_at_nothing, held in ready.demands:
            actual: Any = NOWHERE
            problem = ""
            try:
                actual = self._value(rule, get)
                if actual is not NOWHERE or looks_at_nothing:
                    holds = fenced(test, actual)
                else:
                    holds = rule.missing == "passes"
                    if rule.missing == "error":
                        problem = "there is no such value"
            except UnfitError as error:
                holds, problem = False, str(error)
            if holds:
                evaluations.append(held)
                continue
            outcome = Evaluation(
                policy_id, rule.id, "error" if problem else "violated", problem
            )
            evaluations.append(outcome)
            faults.append(_Unmet(rule, actual, problem))
        for past in ready.histories:
            name = policy_id, past.id
            try:
                answer = self._memory.ask(name, self._operation, self._now)
            except UnfitError as error:
                faults.append(_Unmet(past, problem=str(error)))
                evaluations.append(Evaluation(*name, "error", str(error)))
                continue
            came: Outcome = "held" if answer.holds else "violated"
            detail = answer.problem or answer.detail
            evaluations.append(
                Evaluation(
                    policy_id,
                    past.id,
                    "error" if answer.problem else came,
                    detail,
                    answer.event,
                )
            )
            if not answer.holds:
                faults.append(_Unmet(past, answer.detail, answer.problem))
                if answer.opens_ns is not None:
                    self._opens = min(self._opens or answer.opens_ns, answer.opens_ns)

    def _is_changed(self, ready: _Ready) -> bool:
        """Return whether the operation has all new values of the policy."""
        if not ready.change:
            return False
        try:
            return all(
                fenced(are_equal, fenced(get, self._operation), value)
                for get, value in ready.change
            )
        except UnfitError:
            return False

    def _violated(self, ready: _Ready, faults: list[_Unmet]) -> None:
        policy = ready.policy
        is_mended = bool(ready.change) and self._operation.moment == "submit"
        # This is the one place that asks for a waiver.
        waiver = self._covers(policy.id, self._operation, self._now / _NS)
        if is_mended and waiver is None:
            self._changes += [
                ChangedValue(policy.id, path, value)
                for path, value in policy.change.items()
            ]
        for fault in faults:
            decision = policy.decision
            if fault.problem and not policy.severity.fails_closed:
                decision = "allow"
            if waiver is not None or is_mended:
                decision = "allow"
            else:
                self._is_open = True
            if _RANK[decision] > _RANK[self._decision]:
                self._decision = decision
            self._violations.append(
                _violation(
                    policy, fault, waiver, decision, self._operation, self._masked
                )
            )


def _violation(
    policy: Policy,
    fault: _Unmet,
    waiver: str | None,
    decision: Decision,
    operation: Operation,
    masked: tuple[Steps, ...],
) -> Violation:
    rule = fault.rule
    if isinstance(rule, Rule):
        operator, expected, message = rule.operator, rule.value, rule.message
        usual = f"{rule.condition} {operator.replace('_', ' ')} {show(expected, 80)}"
        actual = shown(fault.actual)
        steps = steps_of(rule.condition)
        judged = rule.value if fault.actual is NOWHERE else fault.actual
        if hides(steps, masked, judged, rule.secret) and fault.actual is not NOWHERE:
            actual = SECRET
        if hides(steps, (), judged, rule.secret):
            expected, usual = SECRET, f"{rule.condition} {operator.replace('_', ' ')}"
            actual = SECRET if fault.actual is not NOWHERE else None
        elif rule.operator in _PRESENCE:
            usual = f"{rule.condition} {operator.replace('_', ' ')}"
    elif rule is not None:
        operator, message, actual = rule.form, rule.message, fault.actual
        expected = plain(attrs.asdict(rule.past))
        usual = _usual(rule)
    else:
        operator, expected, message = WHEN, policy.when, policy.description
        actual, usual = None, f"when {policy.when}"
    text = message or usual
    if fault.problem:
        text = f"{text}; it cannot be evaluated: {fault.problem}"
    evidence, is_whole = evidence_of(
        rule or policy.when or "", fault.actual, operation, masked
    )
    return Violation(
        policy.id,
        WHEN if rule is None else rule.id,
        policy.principle,
        policy.severity,
        text,
        operator,
        expected,
        actual,
        waiver,
        decision,
        evidence,
        is_whole,
    )


def _usual(rule: HistoryRule) -> str:
    """Return the message of a violated *rule* that has none of its own."""
    past = words_of(rule.past)
    within = "" if rule.within is None else f" within {rule.within:g} s"
    if rule.count is not None:
        return f"no more than {rule.at_most} {past} are allowed{within}"
    if rule.never_after is not None:
        return f"it may not follow {past}{within}"
    if rule.since is not None and rule.no is not None:
        return f"{past} is needed{within}, and no {words_of(rule.no)} since"
    return f"{past} is needed{within}"


def _reason(violations: Iterable[Violation]) -> str:
    """Return the violations in words: the worst first, waived ones last."""
    ordered = sorted(
        violations, key=lambda one: (one.waived_by is not None, -one.severity.rank)
    )
    parts = [
        f"policy {one.policy_id} ({one.rule_id}): {one.message}"
        + ("" if one.waived_by is None else f", waived by {one.waived_by}")
        for one in ordered
    ]
    return "; ".join(parts)


# -- changes ---------------------------------------------------------------------------


def changed(operation: Operation, changes: Iterable[ChangedValue]) -> Operation:
    """
    Return *operation* with *changes*; the original is not changed.

    Raises:
        UnfitError: There is nothing at a path that could be changed.
    """
    fields: dict[str, Any] = {}
    for one in changes:
        first, *rest = steps_of(one.path)
        name = str(first)
        value = fields.get(name, getattr(operation, name))
        fields[name] = _with(value, rest, one.value)
    return attrs.evolve(operation, **fields)


def _with(value: Any, steps: list[str | int], new: Any) -> Any:
    if not steps:
        return new
    step, rest = steps[0], steps[1:]
    if isinstance(value, Mapping):
        members: dict[Any, Any] = dict(value)
        if rest and step not in members:
            msg = f"there is no {step}"
            raise UnfitError(msg)
        members[step] = _with(members.get(step), rest, new)
        return members
    if isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
        items = list(cast("list[Any]", value))
        items[step] = _with(items[step], rest, new)
        return items if isinstance(value, list) else tuple(items)
    if isinstance(step, str) and step in fields_of(type(value)):
        field = {step: _with(getattr(value, step), rest, new)}
        thing: Any = value
        is_attrs = attrs.has(type(thing))
        return attrs.evolve(thing, **field) if is_attrs else replace(thing, **field)
    msg = f"there is no {step}"
    raise UnfitError(msg)
