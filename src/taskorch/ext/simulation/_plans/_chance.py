"""The durations of attempts in a simulation, and their failures."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import attrs

from taskorch.core.worlds import SimulatedPlan, takes_no_time
from taskorch.errors import InvalidTaskError
from taskorch.events import TaskCompleted, TaskSubmitted
from taskorch.kit.checks import check_seconds
from taskorch.kit.limits import NS, SAMPLE_SIZE
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant
from taskorch.kit.words import some
from taskorch.model import Task, Wait

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.protocols import Journal

#: Seconds, or a function of the task, or of the task and a random source.
Seconds: TypeAlias = float | Callable[..., float | None]
#: Values of `durations=`: see `TaskOrchestrator.simulate`.
Durations: TypeAlias = (
    float
    | Mapping[str, Seconds]
    | Callable[..., float | None]
    | Literal["history"]
    | None
)
Failing: TypeAlias = float | BaseException
#: Values of `failures=`.
Failures: TypeAlias = (
    float | Mapping[str, float] | Callable[[Task, int], Failing] | None
)

#: The durations of attempts, by type: ns, sorted.
History: TypeAlias = Mapping[str, Sequence[int]]
#: The duration of attempts of a task: ns, or a draw from a random source.
Length: TypeAlias = int | Callable[[Random], int]

#: The number of draws that describe a distribution.
_DRAWS: Final = 5


def nanoseconds(name: str, seconds: object) -> int:
    """
    Return *seconds* in ns, rounded to the nearest: nine decimals are exact.

    Raises:
        InvalidTaskError: It is no duration.
    """
    return round(check_seconds(name, seconds) * NS)


# -- measured durations ------------------------------------------------------------


def history_of(runtime: Runtime) -> History:
    """
    Return the durations of completed attempts, by type: the latest 1,024 of each.

    A durable orchestrator that has not begun reads its journal without a change.
    """
    with runtime.lock:
        by_type: dict[str, Sequence[int]] = {
            name: [ended - started for _, _, started, ended in row.samples]
            for name, row in runtime.kernel.types.items()
        }
    if not runtime.opened and runtime.committer is not None:
        by_type = _read(runtime.committer.journal)
    return {name: sorted(lengths) for name, lengths in by_type.items() if lengths}


def _read(journal: Journal) -> dict[str, Sequence[int]]:
    types: dict[str, str] = {}
    by_type: dict[str, deque[int]] = {}
    for kept, _ in journal.read():
        if type(kept) is TaskSubmitted:
            types[kept.task_id] = kept.type
        elif type(kept) is TaskCompleted:
            kind = types.pop(kept.task_id, None)
            # A task that a wait or a decision has completed had no attempt, and no
            # duration.
            event: TaskCompleted = kept
            if kind is not None and event.attempt:
                latest = by_type.setdefault(kind, deque(maxlen=SAMPLE_SIZE))
                latest.append(event.latency_ns)
    return dict(by_type)


# -- durations ---------------------------------------------------------------------


@attrs.frozen(eq=False)
class Odds:
    """The durations and failure rates of all tasks of a plan, before any draw."""

    lengths: Sequence[Length]
    #: The expected duration of each task in ns, before it is done.
    expected: Sequence[int]
    failures: Sequence[Callable[[int], Failing] | None] | None


def odds_of(
    plan: SimulatedPlan,
    durations: Durations,
    failures: Failures,
    history: Callable[[], History],
    *,
    spread: bool,
) -> Odds:
    """
    Return the durations and failure rates of all tasks of *plan*.

    If needed, the measured *history* gives the durations: random ones with *spread*, or
    else the median.

    Raises:
        InvalidTaskError: An argument is malformed, or nothing is known of a type.
    """
    lengths = _Lengths(durations, history, spread=spread).of(plan)
    return Odds(
        lengths,
        _expected(plan, lengths),
        None if failures is None else _failures(plan, failures),
    )


class _Lengths:
    """The search for the duration of each task."""

    def __init__(
        self,
        durations: Durations,
        history: Callable[[], History],
        *,
        spread: bool,
    ) -> None:
        if isinstance(durations, str) and durations != "history":
            msg = f"durations: {durations!r} is not 'history'"
            raise InvalidTaskError(msg, hint="seconds, a mapping, or a function")
        self._given: Any = None if isinstance(durations, str) else durations
        self._ask = history
        self._history: History | None = None
        self._spread = spread
        self._measured: dict[str, Length | None] = {}
        #: The number of arguments of functions.
        self._arity: dict[Any, int] = {}

    def of(self, plan: SimulatedPlan) -> list[Length]:
        durations = self._given
        if isinstance(durations, Mapping):
            lengths = [self._in(durations, plan, number) for number in range(len(plan))]
        elif callable(durations):
            lengths = [
                self._called(durations, plan.task(number))
                for number in range(len(plan))
            ]
        elif durations is None:
            lengths = [self._unsaid(task) for task in plan.tasks]
        else:
            lengths = [nanoseconds("durations", durations)] * len(plan)
        missing: dict[str, None] = {}
        waits: list[str] = []
        for number, length in enumerate(lengths):
            if length is None:
                task = plan.tasks[number]
                if takes_no_time(task):
                    lengths[number] = 0
                    if not (isinstance(task.payload, Wait) and not task.payload.event):
                        # The time of a timer is known.
                        waits.append(plan.ids[number])
                else:
                    missing[task.type] = None
        if missing:
            raise self._unknown(list(missing))
        if waits:
            plan.assumed.append(
                f"What only looks or waits, {some(waits)}, is taken to be over at "
                "once, unless durations= says otherwise."
            )
        return cast("list[Length]", lengths)

    def _in(
        self, durations: Mapping[str, Any], plan: SimulatedPlan, number: int
    ) -> Length | None:
        name = plan.ids[number]
        length = durations.get(name)
        if length is None:
            name = plan.tasks[number].type
            length = durations.get(name)
        if length is None:
            return self._unsaid(plan.tasks[number])
        if callable(length):
            return self._called(length, plan.task(number))
        return nanoseconds(f"durations[{name!r}]", length)

    def _called(self, fn: Callable[..., Any], task: Task) -> Length | None:
        arity = self._arity.get(fn)
        if arity is None:
            arity = self._arity[fn] = _arity(fn)
        subject = f"durations of {task.id}"
        if arity > 1:
            return lambda random: nanoseconds(subject, fn(task, random))
        seconds = fn(task)
        if seconds is None:
            return self._unsaid(task)
        return nanoseconds(subject, seconds)

    def _unsaid(self, task: Task) -> Length | None:
        if task.expected is not None:
            return nanoseconds("expected", task.expected)
        return self._by_type(task.type)

    def _by_type(self, kind: str) -> Length | None:
        if kind not in self._measured:
            if self._history is None:
                self._history = self._ask()
            self._measured[kind] = _measured(self._history.get(kind), self._spread)
        return self._measured[kind]

    def _unknown(self, missing: list[str]) -> InvalidTaskError:
        types = some(list(map(repr, missing)))
        phrase = f"a task of type {types} takes"
        if len(missing) > 1:
            phrase = f"tasks of the types {types} take"
        msg = f"nothing is known of how long {phrase}: none has completed here"
        if isinstance(self._given, Mapping):
            names = [str(name) for name in self._given]
            near = meant(missing[0], names)
            msg += ", and durations= does not name it"
            msg += f" ({near})" if near else ""
        hint = f"durations={{{missing[0]!r}: seconds}}, or a number for all"
        hint += f"; of the command line, --duration {missing[0]}=90s, or 90s for all"
        return InvalidTaskError(msg, hint=hint)


def _arity(fn: Callable[..., Any]) -> int:
    """Return 1 if *fn* takes a task alone, 2 if also a random source."""
    try:
        inspect.signature(fn).bind(None, None)
    except (TypeError, ValueError):
        return 1
    return 2


def _measured(lengths: Sequence[int] | None, spread: bool) -> Length | None:
    if not lengths:
        return None
    last = len(lengths) - 1
    if spread:
        return lambda random: lengths[random.randrange(last + 1)]
    return lengths[round(last * 0.5)]


def _expected(plan: SimulatedPlan, lengths: Sequence[Length]) -> list[int]:
    """
    Return the expected duration of each task, as the orchestrator has it.

    A timer has a known one, and nobody expects an event at any time. For a random
    duration it is the median of a few separate draws; they are the same for equal
    distributions, so that chance prefers none of these.
    """
    random = Random()  # noqa: S311 - for chance, not for secrets
    expected: list[int] = []
    for number, length in enumerate(lengths):
        wait = plan.tasks[number].payload
        if isinstance(wait, Wait):
            timeout = wait.timeout if wait.event is None else None
            expected.append(nanoseconds("timeout", timeout or 0))
            continue
        if isinstance(length, int):
            expected.append(length)
            continue
        random.seed("expected")
        expected.append(sorted(length(random) for _ in range(_DRAWS))[_DRAWS // 2])
    return expected


# -- failures ----------------------------------------------------------------------


def _failures(
    plan: SimulatedPlan, failures: Any
) -> list[Callable[[int], Failing] | None]:
    if isinstance(failures, int | float):
        return [_odds("failures", failures)] * len(plan)
    if isinstance(failures, Mapping):
        odds = {
            name: _odds(f"failures[{name!r}]", value)
            for name, value in failures.items()
        }
        return [
            odds.get(name) or odds.get(task.type)
            for name, task in zip(plan.ids, plan.tasks, strict=True)
        ]
    if not callable(failures):
        msg = (
            "failures is a probability, a mapping of ids or types to probabilities, or "
            f"a function of a task and the number of an attempt; not {show(failures)}"
        )
        raise InvalidTaskError(msg, hint="failures={'build': 0.1}")

    ask = cast("Callable[[Task, int], Failing]", failures)

    def asked(task: Task) -> Callable[[int], Failing]:
        return lambda attempt: ask(task, attempt)

    return [asked(plan.task(number)) for number in range(len(plan))]


def _odds(name: str, value: object) -> Callable[[int], float]:
    share = _probability(name, value)
    return lambda _attempt: share


def _probability(name: str, value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        msg = f"{name}: a probability is a number from 0 to 1, not {show(value)}"
        raise InvalidTaskError(msg)
    return value


def error_of(task: Task) -> Exception:
    """Return an error that the task's own policy would retry, if there is one."""
    message = "a failure of the simulation's"
    kinds: Any = task.retry.retry_on
    kind = kinds[0] if isinstance(kinds, tuple) and kinds else kinds
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message)
        except Exception:  # noqa: BLE001 - it wants other arguments
            return RuntimeError(message)
    return RuntimeError(message)


# -- one draw ----------------------------------------------------------------------


class Chance:
    """
    The random durations and failures of one draw.

    They depend on the seed, the task and the attempt only: two plans that differ in one
    thing get the same draws everywhere else.
    """

    def __init__(self, plan: SimulatedPlan, odds: Odds, seed: str) -> None:
        self._plan = plan
        self._odds = odds
        #: A random source for the policies.
        self.seed = seed
        self._random = Random(0)  # noqa: S311 - for chance, not for secrets
        #: The duration of the first attempt of each task, in ns.
        self.first: list[int] = [
            length if isinstance(length, int) else self._draw(length, number, 1)
            for number, length in enumerate(odds.lengths)
        ]
        self.expected: Sequence[int] = odds.expected
        self.may_fail: bool = odds.failures is not None

    def again(self, number: int, attempt: int) -> int:
        """Return the duration of a later attempt of a task, in ns."""
        length = self._odds.lengths[number]
        if isinstance(length, int):
            return length
        return self._draw(length, number, attempt)

    def _draw(self, length: Callable[[Random], int], number: int, attempt: int) -> int:
        self._random.seed(f"{self.seed}/{self._plan.ids[number]}/{attempt}")
        return length(self._random)

    def error(self, number: int, attempt: int) -> BaseException | None:
        """
        Return the error of a failing attempt; None if the attempt succeeds.

        Raises:
            InvalidTaskError: `failures` returned neither a probability nor an error.
        """
        assert self._odds.failures is not None  # noqa: S101 - asked if they may fail
        odds = self._odds.failures[number]
        if odds is None:
            return None
        task = self._plan.task(number)
        share = odds(attempt)
        if isinstance(share, BaseException):
            return share
        share = _probability(f"failures of {task.id}", share)
        if not 0 < share < 1:
            return error_of(task) if share else None
        self._random.seed(f"{self.seed}/{task.id}/{attempt}/fails")
        return error_of(task) if self._random.random() < share else None
