"""How long attempts take in a simulation, and which of them fail."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.events import TASK_ID, TaskCompleted, TaskSubmitted
from taskorch.kit.checks import check_seconds
from taskorch.kit.limits import NS, SAMPLE_SIZE
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant
from taskorch.kit.words import some
from taskorch.model import Call, Task, Wait
from taskorch.simulation._plans._plan import SimulatedPlan
from taskorch.workflows import _steps

if TYPE_CHECKING:
    from taskorch.protocols import Journal
    from taskorch.runtime import Runtime

#: Seconds, or a function of the task, or of the task and a random source.
Seconds: TypeAlias = float | Callable[..., float | None]
#: What `durations=` may be: see `TaskOrchestrator.simulate`.
Durations: TypeAlias = (
    float
    | Mapping[str, Seconds]
    | Callable[..., float | None]
    | Literal["history"]
    | None
)
Failing: TypeAlias = float | BaseException
#: What `failures=` may be.
Failures: TypeAlias = (
    float | Mapping[str, float] | Callable[[Task, int], Failing] | None
)

#: Of each type, how long its attempts took: ns, sorted.
History: TypeAlias = Mapping[str, Sequence[int]]
#: How long attempts of one task take: ns, or a draw from a random source.
Length: TypeAlias = int | Callable[[Random], int]

#: What the tasks call that a workflow adds by itself, and that do no work.
_IDLE: Final = (_steps.gate, _steps.gathered)
#: Draws by which a distribution is known.
_DRAWS: Final = 5


def nanoseconds(name: str, seconds: object) -> int:
    """
    *seconds* in ns, rounded to the nearest: what has nine decimals is exact.

    Raises:
        InvalidTaskError: It is no duration.
    """
    return round(check_seconds(name, seconds) * NS)


# -- what has been measured --------------------------------------------------------


def history_of(runtime: Runtime) -> History:
    """
    How long completed attempts took, by type: the latest 1,024 of each.

    A durable orchestrator that has not begun reads its journal, and changes nothing.
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
    for fact, _ in journal.read():
        if type(fact) is TaskSubmitted:
            types[fact[TASK_ID]] = fact.type
        elif type(fact) is TaskCompleted:
            kind = types.pop(fact[TASK_ID], None)
            # What a wait or a decision completes has no attempt, and so no length.
            event: TaskCompleted = fact
            if kind is not None and event.attempt:
                latest = by_type.setdefault(kind, deque(maxlen=SAMPLE_SIZE))
                latest.append(event.latency_ns)
    return dict(by_type)


# -- how long ----------------------------------------------------------------------


@attrs.frozen(eq=False)
class Odds:
    """What is known of every task of a plan, before anything is drawn."""

    lengths: Sequence[Length]
    #: How long each is expected to take, in ns: what is known before it is done.
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
    What is known of every task of *plan*.

    The *history* of what has been measured is asked if it is needed: it is drawn from
    if *spread*, or its median is taken.

    Raises:
        InvalidTaskError: Something in it is malformed, or nothing is known of a type.
    """
    lengths = _Lengths(durations, history, spread=spread).of(plan)
    return Odds(
        lengths,
        _expected(lengths),
        None if failures is None else _failures(plan, failures),
    )


class _Lengths:
    """Finds out how long each task takes."""

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
        #: Of functions, how many arguments they take.
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


def takes_no_time(task: Task) -> bool:
    """Whether *task* does no work: it waits, or a workflow has added it by itself."""
    payload = task.payload
    return isinstance(payload, Wait) or (
        isinstance(payload, Call) and payload.fn in _IDLE
    )


def _arity(fn: Callable[..., Any]) -> int:
    """Whether *fn* takes a task alone, 1, or a random source too, 2."""
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


def _expected(lengths: Sequence[Length]) -> list[int]:
    """
    How long each is expected to take.

    Of what is drawn it is the median of a few draws that no attempt makes; they are the
    same for like distributions, so chance puts none of these before another.
    """
    random = Random()  # noqa: S311 - for chance, not for secrets
    expected: list[int] = []
    for length in lengths:
        if isinstance(length, int):
            expected.append(length)
            continue
        random.seed("expected")
        expected.append(sorted(length(random) for _ in range(_DRAWS))[_DRAWS // 2])
    return expected


# -- which fail --------------------------------------------------------------------


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


def _error_of(task: Task) -> Exception:
    """A failure of the kind that the task's own policy would retry, if any is."""
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
    What chance brings in one draw.

    It hangs on the seed, the task and the attempt, and on nothing else: two plans that
    differ in one thing see the same chance everywhere else.
    """

    def __init__(self, plan: SimulatedPlan, odds: Odds, seed: str) -> None:
        self._plan = plan
        self._odds = odds
        #: For the policies: what they draw.
        self.seed = seed
        self._random = Random(0)  # noqa: S311 - for chance, not for secrets
        #: Of each task, how long its first attempt takes, in ns.
        self.first: list[int] = [
            length if isinstance(length, int) else self._draw(length, number, 1)
            for number, length in enumerate(odds.lengths)
        ]
        self.expected: Sequence[int] = odds.expected
        self.may_fail: bool = odds.failures is not None

    def again(self, number: int, attempt: int) -> int:
        """How long a later attempt of a task takes, in ns."""
        length = self._odds.lengths[number]
        if isinstance(length, int):
            return length
        return self._draw(length, number, attempt)

    def _draw(self, length: Callable[[Random], int], number: int, attempt: int) -> int:
        self._random.seed(f"{self.seed}/{self._plan.ids[number]}/{attempt}")
        return length(self._random)

    def error(self, number: int, attempt: int) -> BaseException | None:
        """
        The error of a failing attempt; None if the attempt succeeds.

        Raises:
            InvalidTaskError: `failures` answers neither a probability nor an error.
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
            return _error_of(task) if share else None
        self._random.seed(f"{self.seed}/{task.id}/{attempt}/fails")
        return _error_of(task) if self._random.random() < share else None
