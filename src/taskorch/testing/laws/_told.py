"""Laws for parts that are called after a fault: alerts, receivers, recoveries."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import wait
from functools import partial
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from taskorch.api._contexts import current_context
from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.kit.checks import built_in
from taskorch.model import Task
from taskorch.protocols import AlertAction, AlertCondition, Failure, Receiver, Recovery
from taskorch.testing._builders import make_failure
from taskorch.testing._simulation import Simulation
from taskorch.testing.laws._case import Case, brief, cases, maker, snapshot
from taskorch.testing.laws._home import elsewhere
from taskorch.testing.laws._worlds import Tasks, task_source

if TYPE_CHECKING:
    from taskorch.ext.recovery import AlertRule
    from taskorch.ext.recovery._metrics import Condition

_CHECK: Final = "check_alert_rule"
_TYPE: Final = "work"
#: Measured values: amounts, shares, numbers of things; and None.
_VALUES: Final = (None, 0, 0.0, 1e-9, 0.05, 0.25, 0.5, 0.85, 0.95, 1.0, 3, 40, 1e4, 1e9)


def check_alert_rule(
    rule: AlertRule,
    *,
    patience: float = 1.0,
    action_patience: float = 5.0,
    seed: int = 0,
    examples: int = 50,
) -> None:
    """
    Check the laws of AlertCondition and AlertAction, of all that a rule has.

    How the laws are seen:

    - Conditions are asked about values of all sorts, and about none.
    - An action is called in a simulation in which tasks wait, run and fail: the alert
      is raised, and is over; and in every second one the orchestrator dies between, so
      that it is called twice before it is undone. Holds, sizes of pools, and workers
      without work are the same afterwards as before.

    Args:
        rule: The rule; its conditions and its action may be text, or functions.
        patience: Seconds in which a condition answers.
        action_patience: Seconds in which an action returns.
        seed: The seed of the questions.
        examples: How many of them.

    Raises:
        LawViolation: A law is broken.
        Exception: The error of a function of the rule, with a note.
    """
    for case in cases(AlertCondition, _CHECK, seed, examples, 3):
        measured = _some_values(case.random, rule)
        begins = _asked(case, rule.when, measured, patience)
        ends = None
        if rule.until is not None:
            ends = _asked(case, rule.until, measured, patience)
        did = f"Both hold where {brief(measured)}."
        case.expect(not (begins and ends), 5, did)
    if rule.action is not None:
        for case in cases(AlertAction, _CHECK, seed, max(2, examples // 10)):
            _check_action(case, rule, action_patience)


def _some_values(dice: Random, rule: AlertRule) -> dict[str, Any]:
    names = built_in("recovery._alerts", _CHECK).NAMES[rule.per]
    if dice.random() < 0.1:  # noqa: PLR2004 - of a new orchestrator
        return dict.fromkeys(names)
    values = {name: dice.choice(_VALUES) for name in names}
    # The lower bound of a rate is never above the rate.
    rate, least = (values.get(name) for name in ("failure_rate", "sure_failure_rate"))
    if rate is None or least is None:
        least = None
    elif least > rate:
        least = rate
    return {**values, "sure_failure_rate": least} if rule.per != "agent" else values


def _asked(
    case: Case, condition: Condition, measured: Mapping[str, Any], patience: float
) -> bool | None:
    """Return the answer of a condition, which must be the same twice."""
    before = snapshot(measured)
    answers: list[bool | None] = []
    for _ in range(2):
        asked = elsewhere(partial(condition.holds, measured))
        wait([asked], patience)
        did = f"{condition.text} did not answer within {patience:g} s."
        case.expect(asked.done(), 4, did)
        with case.noted(measured=measured):
            answers.append(asked.result())
    did = f"{condition.text} changed what was measured, which is {brief(measured)}."
    case.expect(snapshot(measured) == before, 3, did)
    first, second = answers
    did = f"{condition.text} answered {first}, then {second}, to {brief(measured)}."
    case.expect(first == second, 2, did)
    return first


@attrs.define(eq=False)
class _WatchedAction:
    """The action of a rule, with the results of its calls."""

    action: Callable[[Any, Any], Any]
    longest: float = 0.0
    answers: list[object] = attrs.Factory(list)
    errors: list[Exception] = attrs.Factory(list)

    def __call__(self, orchestrator: Any, alert: Any) -> Any:
        undo = self._timed(self.action, orchestrator, alert)
        self.answers.append(undo)
        return partial(self._timed, undo) if callable(undo) else undo

    def _timed(self, act: Callable[..., Any], *arguments: Any) -> Any:
        began = monotonic()
        try:
            return act(*arguments)
        except Exception as error:
            self.errors.append(error)
            raise
        finally:
            self.longest = max(self.longest, monotonic() - began)


def _check_action(case: Case, rule: AlertRule, patience: float) -> None:
    """Have the alert raised and over, with or without a death between."""
    sim = _some_simulation(case.random)
    dies = case.number % 2 == 0
    fires = [False]
    alerts = built_in("recovery._alerts", _CHECK)
    names = alerts.NAMES[rule.per]
    when = alerts.Condition.of(lambda _: fires[0], names, "when")
    watched = _WatchedAction(rule.action) if callable(rule.action) else None
    action = rule.action if watched is None else watched
    changed = attrs.evolve(rule, when=when, until=None, action=action)
    sim.drivers.add(alerts.Alerts(interval=1.0, rules=[changed]))
    _go_on(sim, 2.0)
    before = _effects(sim)
    fires[0] = True
    _go_on(sim, rule.wait + 3.0)
    if dies:
        sim.crash(downtime=1.0)
        _go_on(sim, rule.wait + 4.0)
    fires[0] = False
    _go_on(sim, rule.hold + 3.0)
    if watched is not None:
        with case.noted(action=rule.action):
            for error in watched.errors:
                raise error
        for answer in watched.answers:
            is_right = answer is None or callable(answer)
            case.expect(is_right, 1, f"It returned {brief(answer)}.")
        did = f"A call took {watched.longest:.1f} s."
        case.expect(watched.longest <= patience, 4, did)
    after = _effects(sim)
    # An action without a way to undo it is meant to last, as a message to somebody
    # does.
    did = f"Before it was {brief(before)}, and afterwards {brief(after)}."
    case.expect(after == before, 3 if dies else 2, did)


def _some_simulation(dice: Random) -> Simulation:
    """Return a simulation in which tasks wait, run and fail."""
    sim = Simulation(seed=dice.getrandbits(32), resources={"cpu": 8, "memory_mb": 64})
    for name in ("one", "two"):
        sim.agent(name, capabilities=[_TYPE], max_concurrency=2, lease=30.0)
    sim.work(_TYPE, lambda _task, _attempt, random: random.uniform(1, 60))
    for number in range(dice.randint(0, 12)):
        sim.submit_task(Task(_TYPE, id=f"some/{number}"))
    return sim


def _go_on(sim: Simulation, seconds: float) -> None:
    sim.run(until=sim.now + seconds)


def _effects(sim: Simulation) -> dict[str, object]:
    """Return the state that an action may change, and has to restore."""
    stats, kernel = sim.get_stats(), sim.world.living().kernel
    return {
        "holds": sorted(kernel.holds),
        "pools": {name: pool.total for name, pool in stats.resources.items()},
        "drained": sorted(name for name, row in kernel.workers.items() if row.draining),
    }


_GOOD: Final = range(200, 300)
_BAD: Final = range(400, 500)
#: Statuses after which a message is sent again.
_AGAIN: Final = (408, 425, 429)
_TIME: Final = "2026-01-01T03:00:00.000000Z"
#: Questions to people, in messages of questions and of escalations.
_ASKED: Final[Mapping[str, Any]] = {
    "id": "approval",
    "text": "deploy to production?",
    "options": ["approve", "reject"],
    "who": ["ada", "bob"],
    "quorum": 2,
    "not_by": [],
    "asked_at": 1_767_236_400.0,
    "due": None,
    "votes": [["ada", "approve"]],
    "details": {"version": "1.2"},
    "kind": "question",
    "tasks": ["approval"],
    "blocking_tasks": ["deploy"],
    "whom": "ada and bob may answer; 2 must agree",
    "answer_to": "approval~1",
}
#: The fields of a failure.
_FAILURE: Final[Mapping[str, Any]] = {
    "issue_type": "import_error",
    "severity": "high",
    "context": {"error_type": "ModuleNotFoundError", "attempts": 3},
    "system_state": {"queued_tasks": 1, "running_tasks": 0},
    "recommended_actions": ["Abort it"],
}
#: The fields of each kind of message, beside its kind, number and time.
_FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "question": _ASKED,
    "escalation": {
        **_ASKED,
        **_FAILURE,
        "id": "escalation/load",
        "escalation_id": "escalation/load",
        "answer_to": "escalation/load@1",
        "kind": "escalation",
        "text": "import_error: 3 attempts have failed.",
        "question": "import_error: 3 attempts have failed.",
        "task_id": "load",
        "tasks": ["load"],
        "options": ["retry", "skip", "abort", "complete"],
        "who": None,
        "quorum": 1,
        "votes": [],
        "whom": "anybody may answer",
        "details": _FAILURE,
    },
    "failure": {
        "id": "nightly/2026-01-01T0300Z",
        "text": "task nightly/2026-01-01T0300Z failed: OSError: no disk",
        "task_id": "nightly/2026-01-01T0300Z",
        "schedule": "nightly",
        "run": "",
    },
    "recovered": {
        "id": "nightly/2026-01-02T0300Z",
        "text": "schedule nightly is well again after 1 failure",
        "task_id": "nightly/2026-01-01T0300Z",
        "schedule": "nightly",
    },
    "blocked": {
        "id": "load",
        "text": "task load is blocked, and a person must decide",
        "task_id": "load",
        "schedule": None,
        "run": "",
    },
    "skipped": {
        "id": "nightly/2026-01-01T0300Z",
        "text": "schedule nightly: the slot did not happen",
        "schedule": "nightly",
        "slots": 2,
        "reason": "the one before has not ended",
    },
    "alert": {
        "id": "high_failure_rate/raised",
        "text": "alert high_failure_rate: failure_rate is 0.5; no new task starts",
        "name": "high_failure_rate",
        "severity": "critical",
        "action": "pause_new_tasks",
        "state": "raised",
    },
}


def check_receiver(
    receiver: Receiver | str,
    *,
    secret: str | bytes | None = None,
    timeout: float = 10.0,
    seed: int = 0,
    examples: int = 30,
) -> None:
    """
    Check the laws of Receiver.

    It gets messages of all kinds, some of them twice, some with fields and kinds that
    there are not yet; and with a *secret*, such as somebody else might send. So it is
    to be one that does no harm with them: that of a test.

    Args:
        receiver: Answers a request, given its headers and its body; or the URL of a
            server that runs.
        secret: The `secret` of `orch.notify`.
        timeout: Seconds in which an answer comes.
        seed: The seed of the messages.
        examples: How many.

    Raises:
        LawViolation: A law is broken.
        Exception: What it raised, with a note.
    """
    answer = (
        partial(_post, receiver, timeout) if isinstance(receiver, str) else receiver
    )
    key = secret.encode() if isinstance(secret, str) else secret
    kinds = built_in("notices.notifying", "check_receiver").KINDS
    for case in cases(Receiver, "check_receiver", seed, examples):
        kind = kinds[case.number % len(kinds)]
        message = _some_message(case.random, kind)
        ask = partial(_answer, case, answer, timeout)
        _expect_taken(case, ask(message, key), message, 1)
        if case.number % 2:
            _expect_taken(case, ask(message, key), message, 2)
        newer = {**message, "message_id": f"{case.number:032x}", "colour": {"a": [1]}}
        if case.random.random() < 0.5:  # noqa: PLR2004 - a half
            newer["message_type"] = "greeting"
        _expect_taken(case, ask(newer, key), newer, 3)
        if key is not None:
            _check_signed(case, ask, message, key)


def _some_message(dice: Random, kind: str) -> dict[str, Any]:
    fields = _FIELDS["question" if kind == "reminder" else kind]
    number = f"{dice.getrandbits(128):032x}"
    start = {"message_id": number, "message_type": kind, "timestamp": _TIME}
    return {**start, **fields}


def _expect_taken(case: Case, status: int, message: object, law: int) -> None:
    case.expect(status in _GOOD, law, f"It answered {status} to {brief(message)}.")


def _check_signed(
    case: Case, ask: Callable[..., int], message: dict[str, Any], key: bytes
) -> None:
    """Check that messages without a right signature are refused for good."""
    forged = {
        "without a signature": ask(message, None),
        "signed with another secret": ask(message, key + b"?"),
        "with another body": ask(message, key, body=b" "),
        "with another time": ask(message, key, at=1.0),
        "with an empty signature": ask(message, None, signature=""),
    }
    for how, status in forged.items():
        is_right = status in _BAD and status not in _AGAIN
        case.expect(is_right, 4, f"It answered {status} to a message {how}.")


def _answer(
    case: Case,
    answer: Receiver,
    timeout: float,
    message: dict[str, Any],
    key: bytes | None,
    *,
    body: bytes = b"",
    at: float | None = None,
    signature: str | None = None,
) -> int:
    """The status of the answer to *message*, which is forged if the others say so."""
    whole = json.dumps(message).encode()
    notifying = built_in("notices.notifying", "check_receiver")
    headers = notifying.headers_of(whole, message["message_id"], 1_767_236_400.0, key)
    if at is not None:
        headers["X-Taskorch-Timestamp"] = str(int(at))
    if signature is not None:
        headers["X-Taskorch-Signature"] = signature
    asked = elsewhere(partial(answer, headers, whole + body))
    wait([asked], timeout)
    case.expect(asked.done(), 1, f"It did not answer within {timeout:g} s.")
    with case.noted(message=message):
        status: object = asked.result()
    if not isinstance(status, int):
        says = "it answers with the status of an answer of HTTP."
        case.fail(0, f"It answered {brief(status)}.", says=says)
    return status


def _post(url: str, timeout: float, headers: Mapping[str, str], body: bytes) -> int:
    parts = urlsplit(url)
    is_safe = parts.scheme == "https"
    kind = http.client.HTTPSConnection if is_safe else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=timeout)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()


#: The number of calls at once.
_AT_ONCE: Final = 4
_ANSWERS: Final = ("retry", "escalate", True, False, None)
#: One failure of each class.
_ERRORS: Final[tuple[Callable[[], Exception], ...]] = (
    lambda: ModuleNotFoundError("No module named 'cashcow'", name="cashcow"),
    lambda: PermissionError(13, "Permission denied", "/etc/shadow"),
    lambda: MemoryError("the table is too large"),
    lambda: TimeoutError("it took too long"),
    lambda: ZeroDivisionError("division by zero"),
    lambda: AssertionError("1 is not 2"),
    lambda: FileNotFoundError(2, "No such file or directory", "table"),
    lambda: ConnectionRefusedError(111, "Connection refused"),
    lambda: RuntimeError("it failed"),
)


def check_recovery(
    recovery: Recovery | Callable[[], Recovery],
    *,
    errors: Iterable[Callable[[], Exception]] = _ERRORS,
    level: int = 1,
    patience: float = 10.0,
    seed: int = 0,
    examples: int = 20,
    tasks: Tasks | None = None,
) -> None:
    """
    Check the laws of Recovery.

    How the laws are seen:

    - 1: it is called inside of attempts, and waited for so long as *patience* says.
    - 3: its arguments are the same after the call as before it.
    - 4: four attempts call it at once, each twice about the same failure.

    Args:
        recovery: The function.
        errors: Functions that make errors of the classes that it is for. Each call has
            a new error.
        level: 1 is inside a failed attempt; 2 is before the next one.
        patience: Seconds that one call may take.
        seed: The seed of the questions.
        examples: How many failures.
        tasks: Tasks to ask about, or what makes one of a `random.Random`.

    Raises:
        LawViolation: A law is broken.
        Exception: The error of the function, with a note on the failure.
    """
    draw, make_errors = task_source(tasks), tuple(errors)
    make = maker(recovery, Recovery) if isinstance(recovery, type) else lambda: recovery
    with TaskOrchestrator(concurrency=_AT_ONCE) as orch:
        waiting: list[tuple[Case, Any]] = []
        for case in cases(Recovery, "check_recovery", seed, examples, 3):
            failure = _some_failure(case.random, draw, make_errors)
            called = _Called(case, make(), failure, level)
            waiting.append((case, called))
            if len(waiting) == _AT_ONCE:
                _expect_ends(orch, waiting, patience)
        _expect_ends(orch, waiting, patience)


def _some_failure(
    dice: Random,
    draw: Callable[[Random], Any],
    errors: tuple[Callable[[], Exception], ...],
) -> Failure:
    error = dice.choice(errors)()
    attempts = dice.choice((1, 1, 2, 5))
    failure = make_failure(error, attempts, task=draw(dice), elapsed=dice.random())
    return attrs.evolve(
        failure, kind=built_in("recovery", "check_recovery").classify(error).name
    )


@attrs.frozen(eq=False)
class _Called:
    """The work of an attempt, which calls the function twice."""

    case: Case
    recovery: Any
    failure: Failure
    level: int

    def __call__(self) -> None:
        """
        Call it.

        Raises:
            LawViolation: A law is broken.
        """
        failure, context = self.failure, current_context()
        for _ in range(2):
            before = snapshot((failure.task, failure))
            with self.case.noted(task=failure.task, failure=failure):
                answer: object = self.recovery(failure.task, failure, context)
            is_same = snapshot((failure.task, failure)) == before
            self.case.expect(is_same, 3, "It changed the task, or the failure.")
            is_answer = any(answer is each or answer == each for each in _ANSWERS)
            if self.level == 1:
                self.case.expect(is_answer, 2, f"It answered {brief(answer)}.")


def _expect_ends(
    orch: TaskOrchestrator, waiting: list[tuple[Case, Any]], patience: float
) -> None:
    """Let attempts call the function, wait for them, and raise their errors."""
    handles = [(case, orch.submit(called)) for case, called in waiting]
    waiting.clear()
    for case, handle in handles:
        end = elsewhere(partial(handle.exception, None))
        # There are two calls, each within its time.
        wait([end], 2 * patience)
        if not end.done():
            orch.stop(drain=False, timeout=0)
            case.fail(1, f"It did not return within {patience:g} s.")
        error = end.result()
        if error is not None:
            raise error
