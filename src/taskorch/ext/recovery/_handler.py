"""
RetryHandler that looks up the response to a failure in a matrix.

Decision: failures-and-recovery.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.recovery._classes import Rule, classify, of_rules
from taskorch.ext.recovery._matrix import (
    MATRIX,
    Avoid,
    Grow,
    Matrix,
    Reset,
    Row,
    grown,
    matrix_with,
    rows_of,
)
from taskorch.ext.recovery._repairs import REPAIRS
from taskorch.kit.backoff import Backoff
from taskorch.kit.checks import check_seconds
from taskorch.kit.forms import (
    DocumentOf,
    Each,
    FaultList,
    Flag,
    Number,
    ReadMapping,
    Text,
    may_be,
)
from taskorch.kit.limits import MAX_ATTEMPTS, MAX_SECONDS
from taskorch.kit.located import Located, with_names_once
from taskorch.kit.visible import show
from taskorch.model import LOCAL, RetryPolicy, Task, is_able
from taskorch.policies import BackoffRetryHandler
from taskorch.policies._retry import is_permanent
from taskorch.protocols import AgentView, Context, Failure, RetryDecision

#: The policy of a task that sets none.
_NO_RETRY: Final = RetryPolicy()
#: The most failures that are remembered.
_MOST: Final = 10_000
#: So many tasks that fail in the same class within so many seconds are widespread.
_WIDESPREAD: Final = 3
_WINDOW: Final = 300.0
#: The longest delay of a backoff, in seconds.
_LONGEST: Final = 3_600.0


@attrs.frozen
class FailureHandling:
    """
    Section on what happens after a failure; durations are seconds.

    Attributes:
        max_retries: Attempts after the first.
        retry_delay_seconds: Seconds before each.
        escalation_threshold: Failures until a person is asked.
        timeout_grace_period: Seconds that an attempt has to end after its timeout.
        rerun_failed_tests: Whether a failed test of a suite is run once more, alone,
            before it counts.
    """

    max_retries: int = attrs.field(
        default=None, metadata=may_be(Number(most=MAX_ATTEMPTS - 1, is_whole=True))
    )
    retry_delay_seconds: float = attrs.field(
        default=None, metadata=may_be(Number(most=MAX_SECONDS), "retry_delay")
    )
    escalation_threshold: int = attrs.field(
        default=None, metadata=may_be(Number(least=1, is_whole=True))
    )
    timeout_grace_period: float = attrs.field(
        default=None, metadata=may_be(Number(most=MAX_SECONDS))
    )
    rerun_failed_tests: bool = attrs.field(default=None, metadata=may_be(Flag()))


@attrs.frozen
class RecoverySection(FailureHandling):
    """
    Section on what happens after a failure, by its class.

    Attributes:
        human_notification_webhook: The webhook for failures that are final.
        webhook_secret_env: The variable with its secret, which signs messages.
        webhook_may_be_private: Whether it may be private.
        matrix: Rows that differ from the usual, by class of failure.
        classes: Rules for the class of a failure, before ours.
        repairs: By class of failure, a program and its arguments that mend what a task
            runs in, inside the failed attempt.
    """

    human_notification_webhook: str = attrs.field(default=None, metadata=may_be(Text()))
    webhook_secret_env: str = attrs.field(default=None, metadata=may_be(Text()))
    webhook_may_be_private: bool = attrs.field(default=False, metadata=may_be(Flag()))
    matrix: Mapping[str, Row] = attrs.field(default=None, metadata=may_be(MATRIX))
    classes: Iterable[Rule] = attrs.field(
        default=(),
        metadata=may_be(Each(DocumentOf(Rule, make=Rule), needs="a list of rules")),
    )
    repairs: Mapping[str, list[str]] = attrs.field(
        default=None, metadata=may_be(REPAIRS)
    )


#: The sections that are read here.
_SECTIONS: Final = {
    "failure_handling": DocumentOf(FailureHandling),
    "recovery": DocumentOf(RecoverySection),
}
#: Settings in them for notifiers, suites and repairs.
_OTHERS: Final = (
    *("webhook_secret_env", "webhook_may_be_private"),
    *("rerun_failed_tests", "repairs"),
)


class RecoveryHandler:
    """
    RetryHandler that decides by the class of the failure.

    `orch.recover` adds what workers try themselves, inside an attempt; this says what
    follows once an attempt has failed all the same: another attempt that asks for
    more, or on another worker, or a question to a person. A task that asks for no
    resources or has no timeout does not get more of them. One with a `RetryPolicy` of
    its own has the attempts and the delays of that. `Permanent` ends a task at once.

    The severity of a question is `high` for `calculation_error`, `logic_error` and
    `system_error`, `critical` if ten tasks cannot go on, else `medium`.

    Args:
        max_retries: The retries of a task that has no `RetryPolicy`.
        retry_delay_seconds: Before each of these attempts.
        escalation_threshold: After how many failed attempts a person is asked, where
            the matrix says `persistent`, `twice` or `widespread`.
        timeout_grace_period: Seconds that an attempt which is out of time has to end,
            if the orchestrator is given no `grace`.
        webhook: Where people are told, by whoever notifies them; kept here only.
        matrix: What differs from the usual matrix, by class: a `Row` each.
        classes: Rules of yours for what kind of failure it is; they come first.
        escalate: Whether people are asked; if not, the task fails instead.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """

    def __init__(
        self,
        *,
        max_retries: int = 2,
        retry_delay_seconds: float = 30.0,
        escalation_threshold: int = 3,
        timeout_grace_period: float | None = None,
        webhook: str | None = None,
        matrix: Mapping[str, Row] | None = None,
        classes: Iterable[Rule] = (),
        escalate: bool = True,
    ) -> None:
        _check_count("max_retries", max_retries, least=0)
        _check_count("escalation_threshold", escalation_threshold, least=1)
        self.max_retries = max_retries
        self.retry_delay_seconds: float = check_seconds(
            "retry_delay_seconds", retry_delay_seconds
        )
        self.escalation_threshold = escalation_threshold
        self.timeout_grace_period = timeout_grace_period
        if timeout_grace_period is not None:
            check_seconds("timeout_grace_period", timeout_grace_period)
        self.webhook = webhook
        self.escalate = escalate
        #: The recovery matrix, by class of failures; it may be changed at any time.
        self.matrix: Matrix = matrix_with(matrix or {})
        self.classes: Collection[Rule] = tuple(classes)
        #: Sections of a configuration that other parts read.
        self.not_read: tuple[str, ...] = ()
        self._own = BackoffRetryHandler()
        #: `(time, class, task)` of the latest failures.
        self._latest: deque[tuple[float, str, str]] = deque(maxlen=_MOST)

    @classmethod
    def from_yaml(
        cls, *paths: str | os.PathLike[str], **changes: Any
    ) -> RecoveryHandler:
        """
        Make a handler from `failure_handling` and `recovery` of a configuration.

        Settings that stand in both must agree. `recovery` may also have `matrix`, with
        rows by class, and `classes`, a list of rules. The names of all other sections
        are in `not_read`.

        Args:
            paths: The files.
            changes: Arguments that override the files.

        Raises:
            OSError: A file cannot be read.
            ImportError: PyYAML is not installed.
            InvalidTaskError: Something in it is wrong; the message says where.
        """
        if not paths:
            msg = "no file of a configuration is named"
            hint = "RecoveryHandler.from_yaml('orchestrator_config.yaml')"
            raise InvalidTaskError(msg, hint=hint)
        faults = FaultList()
        others: dict[str, None] = {}
        entries = _said_in(paths, others, faults)
        if faults:
            raise InvalidTaskError("; ".join(faults.lines))
        arguments: dict[str, Any] = {
            name: value for name, (value, _) in entries.items()
        }
        if "matrix" in arguments:
            arguments["matrix"] = rows_of(arguments["matrix"])
        if "human_notification_webhook" in arguments:
            arguments["webhook"] = arguments.pop("human_notification_webhook")
        try:
            handler = cls(**{**arguments, **changes})
        except InvalidTaskError as error:
            where = ", ".join(map(str, paths))
            msg = f"{where}: {error.message}"
            raise InvalidTaskError(msg, hint=error.hint) from error
        handler.not_read = tuple(others)
        return handler

    def classify(self, failure: Failure) -> str:
        """Return the class of *failure*: by a rule of yours, or as `classify` says."""
        if not failure.kind:
            return classify(failure.error, rules=self.classes).name
        if failure.rules is self.classes:
            return failure.kind
        return of_rules(failure.error, self.classes) or failure.kind

    def decide(self, failure: Failure, context: Context) -> RetryDecision:
        """Decide about a *failure*: retry, ask a person, or give up."""
        kind = self.classify(failure)
        row = self.matrix[kind]
        attempts, task = failure.attempts, failure.task
        self._latest.append((context.now, kind, task.id or ""))
        is_final = is_permanent(failure.error)
        own = None
        if is_final or task.retry != _NO_RETRY:
            own = self._own.decide(failure, context)
        most = self.max_retries
        if row.most_retries is not None:
            most = min(most, row.most_retries)
        is_used_up = attempts > most if own is None else not own.retry
        is_cut = own is None and most < self.max_retries and is_used_up
        why = self._why_ask(row, failure, kind, context.now, is_used_up=is_used_up)
        if is_cut and not why and row.human == "persistent":
            why = f"{_count(attempts)}, and nothing says that another would help"
        if why and self.escalate and not is_final:
            actions = "; ".join(row.actions)
            ask = f"{kind}: {why}" + (f". Recommended: {actions}" if actions else "")
            return RetryDecision(retry=False, reason=why, ask=ask, kind=kind)
        if row.orchestrator is None and own is not None and not self.escalate:
            # Without people to ask, the task's own policy decides.
            return attrs.evolve(own, kind=kind)
        if is_used_up or row.orchestrator is None:
            reason = f"attempt {attempts:,} of {most + 1:,} was the last"
            reason = own.reason if own is not None and is_used_up else reason
            if not is_used_up:
                reason = "the matrix has no other attempt for it"
            return RetryDecision(retry=False, reason=f"{kind}: {reason}", kind=kind)
        delay = self.retry_delay_seconds if own is None else own.delay
        return self._again(failure, context, kind, row.orchestrator, delay)

    def _why_ask(
        self, row: Row, failure: Failure, kind: str, now: float, *, is_used_up: bool
    ) -> str:
        """Return why a person is asked now, or "" if nobody is."""
        attempts = failure.attempts
        enough = attempts >= self.escalation_threshold
        if row.human == "always":
            return "a person always decides about it"
        if row.human == "persistent" and enough:
            return _count(attempts)
        if row.human == "twice":
            first, now_has = failure.first_timeout, failure.task.timeout
            if first is not None and now_has is not None and now_has >= 2 * first:
                return f"it has exceeded {now_has:g} s, twice its timeout of {first:g}"
            if enough and is_used_up:
                return _count(attempts)
        if row.human == "widespread" and is_used_up:
            tasks = {
                name
                for at, other_kind, name in self._latest
                if other_kind == kind and at > now - _WINDOW
            }
            if len(tasks) >= _WIDESPREAD:
                return f"{len(tasks):,} tasks have failed so within {_WINDOW:g} s"
        return ""

    def _again(
        self,
        failure: Failure,
        context: Context,
        kind: str,
        action: Grow | Avoid | Reset,
        delay: float,
    ) -> RetryDecision:
        task, attempts = failure.task, failure.attempts
        avoid: tuple[str, ...] = (failure.agent,) if failure.agent else ()
        resources = timeout = None
        if isinstance(action, Grow):
            longest = None
            if task.timeout is not None and self.matrix[kind].human == "twice":
                longest = 2 * (failure.first_timeout or task.timeout)
            resources, timeout, words = grown(
                action, task.resources, task.timeout, _bounds(failure, context), longest
            )
            if resources is not None or timeout is not None:
                # Only one worker may be large enough for it, even the one that failed.
                avoid = ()
            change = ", ".join(words) or "there is nothing to give it more of"
        elif isinstance(action, Reset):
            change = "its environment is reset first, or it goes to another worker"
        else:
            delay = Backoff(delay, _LONGEST, action.backoff).after(attempts - 1)
            change = f"not on {failure.agent} if there is another worker"
        return RetryDecision(
            retry=True,
            delay=delay,
            reason=f"{kind}: {change}; attempt {attempts + 1:,} in {delay:g} s",
            resources=resources,
            timeout=timeout,
            avoid=avoid,
            kind=kind,
        )

    def __repr__(self) -> str:
        return (
            f"RecoveryHandler(max_retries={self.max_retries}, "
            f"retry_delay_seconds={self.retry_delay_seconds:g}, "
            f"escalation_threshold={self.escalation_threshold})"
        )


def _count(attempts: int) -> str:
    if attempts == 1:
        return "the attempt has failed"
    return f"{attempts:,} attempts have failed"


def _bounds(
    failure: Failure, context: Context
) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Yield each worker that can do the task, and its most of each resource."""
    pools = {name: pool.total for name, pool in context.view.pools().items()}
    task = failure.task
    for worker in context.view.agents():
        if worker.is_lost or not (
            worker.name == failure.agent or _can_do(task, worker)
        ):
            continue
        has: dict[str, float] = dict(pools)
        for name, amount in (worker.capacity or {}).items():
            has[name] = min(amount, has.get(name, math.inf))
        yield worker.name, has


def _can_do(task: Task, worker: AgentView) -> bool:
    if task.requires is None and isinstance(task.payload, LOCAL):
        return False
    return is_able(task, worker.capabilities, worker.labels)


# -- reading ------------------------------------------------------------------------


def _check_count(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{name} is a whole number from {least}, not {value!r}"
        raise InvalidTaskError(msg)


def _documents(path: Path, faults: FaultList) -> list[Located]:
    from taskorch.kit.yaml_text import read  # noqa: PLC0415 - it needs an extra

    nodes, wrong = read(path.read_bytes(), str(path))
    documents = [with_names_once(node, wrong) for node in nodes]
    for place, text in wrong:
        faults.add(place, text)
    return documents


def _said_in(
    paths: Iterable[str | os.PathLike[str]], others: dict[str, None], faults: FaultList
) -> dict[str, tuple[Any, Located]]:
    """
    Return the settings of the failure sections in all files, each with its place.

    The names of other sections and settings go to *others*.
    """
    entries: dict[str, tuple[Any, Located]] = {}
    for document in [each for path in paths for each in _documents(Path(path), faults)]:
        if not isinstance(document.value, dict):
            faults.wrong(document, "", "a mapping")
            continue
        for name, (_, node) in document.value.items():
            if name not in _SECTIONS:
                others[name] = None
                continue
            section = _SECTIONS[name].read(node, name, faults)
            values = section.values if isinstance(section, ReadMapping) else {}
            for word, value in values.items():
                if word in _OTHERS:
                    others[f"{name}.{word}"] = None
                    continue
                before, place = entries.setdefault(word, (value, section.node(word)))
                if before != value:
                    faults.disagree(word, place, section.node(word))
    return entries


def handler_of(rt: Any) -> RecoveryHandler:
    """
    Return the recovery handler of the runtime *rt*.

    Raises:
        InvalidTaskError: Its retry handler is another one.
    """
    handler = rt.deciders.parts.retry_handler
    if not isinstance(handler, RecoveryHandler):
        msg = f"its retry handler is {show(handler)}, which has no matrix"
        hint = "TaskOrchestrator(retry_handler=RecoveryHandler())"
        raise InvalidTaskError(msg, hint=hint)
    return handler
