"""
Hierarchical task networks: a search for the steps of a task.

Operators are steps; methods split a task into other tasks. The search tries methods in
the order of their costs and turns back where a step cannot be done; it does not
recurse. After D. Nau and others, *SHOP2: an HTN planning system*, Journal of Artificial
Intelligence Research 20, 2003; steps keep only the order that they need by what they
read and write.

Decision: plan-search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import inf
from time import monotonic
from typing import Any, Final, TypeAlias, TypedDict, TypeVar, Unpack, overload

import attrs

from taskorch.errors import InvalidTaskError, PlanningError
from taskorch.ext.planner._state import EVERY, State, Watched
from taskorch.ext.planner._values import Choice
from taskorch.kit.checks import check_seconds, is_number
from taskorch.kit.digests import UndescribedError, digest_of
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess
from taskorch.model import NO_RESOURCES, Resources
from taskorch.model.ids import check_name

F = TypeVar("F", bound=Callable[..., Any])
#: A task of a domain: its name and its arguments.
Step: TypeAlias = tuple[Any, ...]

#: A task that reaches values of variables: `("achieve", {name: value})`.
ACHIEVE: Final = "achieve"
#: A search is given up after so many steps, or seconds.
MAX_STEPS: Final = 200_000
MAX_SECONDS: Final = 30.0
#: A search goes so many methods deep without a step that changes the state.
_LEVELS: Final = 10_000
#: The search for a task that is part of itself looks at so many levels.
_NEAR: Final = 200
#: The largest cost that a step may have.
_DEAREST: Final = 1e12
#: The number of lines in a trace.
_SHOWN: Final = 8


@attrs.frozen(eq=False)
class Operator:
    """
    A kind of step in a domain.

    Attributes:
        name: Its name, and the type of its tasks.
        apply: `apply(state, *args)` gives the state after it, or None if it cannot be.
        run: The function that its task calls with the arguments; None: a worker does
            it.
        duration: Seconds, or a function of the arguments; None: an estimate.
        cost: A number, or a function of the arguments.
        resources: The resources that its task takes.
        requires: Capabilities of its worker; None: its name.
    """

    name: str
    apply: Callable[..., Any]
    run: Callable[..., Any] | None = None
    duration: Any = None
    cost: Any = 0.0
    resources: Resources = NO_RESOURCES
    requires: tuple[str, ...] | None = None


@attrs.frozen(eq=False)
class Method:
    """
    One way in which a task can be done.

    Attributes:
        name: Its name.
        task: The name of the task that the method does.
        decompose: `decompose(state, *args)` gives the tasks, in order; None if it does
            not fit.
        cost: Its cost; cheaper methods are tried first.
    """

    name: str
    task: str
    decompose: Callable[..., Any]
    cost: float = 0.0


@attrs.frozen(eq=False)
class PlannedStep:
    """A step that was chosen, and what it reads and writes."""

    operator: Operator
    args: tuple[Any, ...]
    reads: frozenset[Any]
    writes: frozenset[Any]


@attrs.frozen(eq=False)
class Decomposition:
    """
    Steps in an order in which they can be done, and why these.

    Attributes:
        steps: The steps.
        choices: The chosen methods, and the rejected ones.
    """

    steps: tuple[PlannedStep, ...]
    choices: tuple[Choice, ...]


@attrs.define(eq=False)
class _Try:
    """A method that is tried for a task, and why it has failed, if it has."""

    task: Step
    name: str
    #: All methods that were tried for the same task at the same place, in order.
    others: list[_Try]
    #: The method that asked for this task, and the mark of the state.
    above: _Try | None
    mark: int
    #: The number of methods in a row that have changed nothing, up to this one.
    levels: int = 1
    failure: str | None = None


class _Options(TypedDict, total=False):
    """The options of `Domain.operator`."""

    name: str | None
    run: Callable[..., Any] | None
    duration: Any
    cost: Any
    resources: Resources | Mapping[str, float] | None
    requires: Iterable[str] | None


class Domain:
    """
    A domain: operators and methods by their names.

    Args:
        name: Its name.

    Raises:
        InvalidTaskError: *name* is no safe word.
    """

    def __init__(self, name: str) -> None:
        self.name: str = check_name("the name of a domain", name)
        self.operators: dict[str, Operator] = {}
        self.methods: dict[str, list[Method]] = {}
        #: The number of times that each method was chosen, by its name.
        self.used: dict[str, int] = Counter()

    # -- building ------------------------------------------------------------------

    @overload
    def operator(self, fn: F, **options: Unpack[_Options]) -> F: ...

    @overload
    def operator(self, **options: Unpack[_Options]) -> Callable[[F], F]: ...

    def operator(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        run: Callable[..., Any] | None = None,
        duration: Any = None,
        cost: Any = 0.0,
        resources: Resources | Mapping[str, float] | None = None,
        requires: Iterable[str] | None = None,
    ) -> Any:
        """
        Decorate `fn(state, *args)`, which returns the state after the step, or None.

        Args:
            fn: The function.
            name: The name of the step; None is that of the function.
            run: The function that its task calls with the arguments of the step; None:
                its task is of the type *name*, with the list of arguments for its
                payload, and a worker does it.
            duration: Seconds, or a function of the arguments; None: an estimate.
            cost: Its cost, or a function of the arguments.
            resources: The resources that its task takes.
            requires: Capabilities of the worker.

        Raises:
            InvalidTaskError: The name is taken, or a number is out of its range.
        """

        def add(function: F) -> F:
            step_name = name or function.__name__
            self._refuse_taken(step_name, is_method=False)
            if run is not None and not callable(run):
                msg = f"operator {step_name!r}: run= is a function, not {show(run)}"
                raise InvalidTaskError(msg)
            if not callable(duration):
                duration_of(step_name, duration)
            if not callable(cost):
                cost_of(step_name, cost)
            has = Resources() if resources is None else Resources.of(resources)
            needs = None if requires is None else tuple(requires)
            self.operators[step_name] = Operator(
                step_name, function, run, duration, cost, has, needs
            )
            return function

        return add if fn is None else add(fn)

    def method(
        self, task: str, *, name: str | None = None, cost: float = 0.0
    ) -> Callable[[F], F]:
        """
        Decorate `fn(state, *args)`, which gives the tasks by which *task* is done.

        A task is a tuple of a name and its arguments. None means that the method does
        not fit; an empty list, that there is nothing to do. A generator yields several
        such lists, each of which is a way of its own.

        Args:
            task: What it does. `"achieve"` and the name of a variable, as in
                `d.method("achieve built")`, is how that variable gets a value.
            name: Its name; None is that of the function.
            cost: Its cost; cheaper methods are tried first.

        Raises:
            InvalidTaskError: An operator has this name.
        """
        self._refuse_taken(task, is_method=True)

        def add(function: F) -> F:
            methods = self.methods.setdefault(task, [])
            methods.append(Method(name or function.__name__, task, function, cost))
            methods.sort(key=lambda each: each.cost)
            return function

        return add

    def _refuse_taken(self, name: str, *, is_method: bool) -> None:
        if name in self.operators or (not is_method and name in self.methods):
            msg = f"domain {self.name!r} has a task {name!r} already"
            raise InvalidTaskError(msg, hint="choose another name")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of all its tasks."""
        return (*self.operators, *self.methods)

    def functions(self, task: str) -> list[Callable[..., Any]]:
        """The functions that are called with a state and the arguments of *task*."""
        operator = self.operators.get(task)
        methods = self.methods.get(task, ())
        return [m.decompose for m in methods] if operator is None else [operator.apply]

    @property
    def unused(self) -> tuple[str, ...]:
        """Methods that were in no plan yet, so that nobody has seen them work."""
        every = [each.name for methods in self.methods.values() for each in methods]
        return tuple(name for name in every if name not in self.used)

    @property
    def version(self) -> str:
        """
        A text that changes when the code of an operator or of a method changes.

        Raises:
            InvalidTaskError: A function closes over a value that cannot be compared.
        """
        ways: list[Operator | Method] = [*self.operators.values()]
        ways += chain.from_iterable(self.methods.values())
        parts = [attrs.astuple(each, recurse=False) for each in ways]
        return version_of(self.name, parts)

    # -- planning ------------------------------------------------------------------

    def decompositions(
        self,
        task: Step,
        state: Mapping[Any, Any] | None = None,
        *,
        max_steps: int = MAX_STEPS,
        max_seconds: float = MAX_SECONDS,
        prefer: Callable[[str, Sequence[str]], str | None] | None = None,
        without: Sequence[Step] = (),
        bounds: Any = None,
    ) -> Iterator[Decomposition]:
        """
        The ways in which *task* can be done, by the order of the methods.

        Args:
            task: The name and the arguments.
            state: The state before.
            max_steps: The steps after which the search is given up.
            max_seconds: The seconds after which it is given up.
            prefer: Says which of the methods of a task is tried first.
            without: Steps that the search must not take.
            bounds: An object whose `after(spent, step)` returns the sums of the steps
                so far, or None if they break a bound: then no way that begins so is
                tried.

        Raises:
            PlanningError: There is none, or the search has been given up: `trace` says
                where.
        """
        search = _DomainSearch(
            self, prefer, max_steps, monotonic() + max_seconds, without, bounds
        )
        is_done = False
        for each in search.run(task, State(state)):
            is_done = True
            for choice in each.choices:
                self.used[choice.chosen] += 1
            yield each
        if not is_done and (bounds is None or not bounds.has_cut):
            msg = f"{said(task)} cannot be done: {search.last or 'nothing was tried'}"
            raise PlanningError(
                msg, trace=search.trace(), hint="see error.trace: what was tried"
            )

    def after(
        self, state: Mapping[Any, Any] | None, steps: Iterable[Step]
    ) -> tuple[State, tuple[PlannedStep, ...]]:
        """
        Return the state after *steps*, and what each of them reads and writes.

        Raises:
            PlanningError: One is no step, or cannot be done.
        """
        search = _DomainSearch(self, None, MAX_STEPS, inf)
        marked = State(state), 0
        planned: list[PlannedStep] = []
        for task in steps:
            operator = search.operator(task)
            applied = None if operator is None else search.apply(operator, task, marked)
            if applied is None:
                raise PlanningError(search.last or f"{said(task)} is no step")
            marked, step = applied
            planned.append(step)
        return marked[0], tuple(planned)

    def __repr__(self) -> str:
        return (
            f"<Domain {self.name!r}: {len(self.operators)} operators, "
            f"{sum(map(len, self.methods.values()))} methods>"
        )


class _DomainSearch:
    """One search: a stack of the work left, and of the alternatives."""

    def __init__(
        self,
        domain: Domain,
        prefer: Callable[[str, Sequence[str]], str | None] | None,
        most: int,
        end: float,
        without: Sequence[Step] = (),
        bounds: Any = None,
    ) -> None:
        self._bounds = bounds
        self._domain = domain
        self._without = [key_of(step) for step in without]
        self._prefer = prefer
        self._most, self._end = most, end
        #: The latest dead end, in words.
        self.last: str | None = None
        self._tried: list[_Try] = []

    def run(self, task: Step, state: State) -> Iterator[Decomposition]:
        """
        All decompositions.

        Raises:
            PlanningError: It has been given up; or a function misbehaves.
        """
        # The work left and the path so far are chains of pairs: each entry of the
        # search shares all but its last link with the one before. A state has a mark, a
        # number that is the same for equal states.
        todo: Any = (task, None, None)
        stack: list[Any] = [((state, 0), todo, None, None)]
        steps = 0
        while stack:
            steps += 1
            if steps > self._most or monotonic() > self._end:
                raise self._given_up(steps, stack[-1][1])
            marked, todo, path, options = stack.pop()
            if todo is None:
                yield _decomposition(path)
                self.last = "its constraints do not hold of what was found"
                continue
            task, rest, above = todo
            if options is None:
                operator = self.operator(task)
                if operator is not None:
                    step = self.apply(operator, task, marked)
                    link = None if step is None else self._link(step[1], path)
                    if step is not None and link is not None:
                        stack.append((step[0], rest, link, None))
                    continue
                if self._comes_back(todo, marked[1]):
                    self.last = f"{said(task)} comes to itself, and nothing has changed"
                    continue
                if _levels(above, marked[1]) > _LEVELS:
                    self.last = f"{said(task)} is {_LEVELS:,} levels deep, and no step "
                    self.last += "has changed anything"
                    continue
                options = iter(self._methods(task, marked[0])), []
            self._next_method(stack, marked, todo, path, options)

    def operator(self, task: Any) -> Operator | None:
        """
        The operator of a task; None: methods do it.

        Raises:
            PlanningError: It is no task of the domain.
        """
        if not isinstance(task, tuple) or not task or not isinstance(task[0], str):
            msg = f"{show(task)} is no task: a tuple of a name and its arguments"
            raise PlanningError(msg, hint='return [("build", part), …]')
        name = task[0]
        domain = self._domain
        if name in domain.operators:
            return domain.operators[name]
        if name not in domain.methods and name != ACHIEVE:
            msg = f"domain {domain.name!r} has no task {name!r}"
            msg += guess(name, domain.tasks)
            raise PlanningError(msg, hint="add an operator or a method of that name")
        return None

    def _comes_back(self, todo: Any, mark: int) -> bool:
        """Return whether a task is part of itself, in an equal state."""
        task, _rest, above = todo
        for _ in range(_NEAR):
            if above is None:
                break
            if above.mark == mark and above.task == task:
                return True
            above = above.above
        return False

    def _mark(self, state: State, mark: int, writes: Mapping[Any, Any]) -> int:
        """Return the mark of the state after *writes*."""
        for name, value in writes.items():
            for each in (state.get(name, _achieved), value):
                if each is not _achieved:
                    mark ^= hash((name, repr(each)))
        return mark

    def apply(
        self, operator: Operator, task: Step, marked: tuple[State, int]
    ) -> tuple[tuple[State, int], PlannedStep] | None:
        """
        The state after a step, with its mark, and the step; None: it cannot be done.

        Raises:
            PlanningError: Its function misbehaves.
        """
        state, mark = marked
        if self._without and key_of(task) in self._without:
            self.last = f"{said(task)} is not to be done again"
            return None
        watched = Watched(state)
        who = f"operator {operator.name!r}"
        after = asked(who, operator.apply, watched, task[1:])
        watched.check(who)
        if after is None or after is False:
            self.last = f"{said(task)} cannot be done where it was tried"
            for each in self._tried[-1:]:
                each.failure = each.failure or self.last
            return None
        if not isinstance(after, Watched):
            msg = f"{who} gave {show(after)}: a state is needed, or None"
            raise PlanningError(msg, hint="return state.set(name, value)")
        step = PlannedStep(
            operator,
            tuple(task[1:]),
            frozenset(watched.reads),
            frozenset(after.writes),
        )
        mark = self._mark(state, mark, after.writes)
        return (state.changed(after.writes), mark), step

    def _methods(self, task: Step, state: State) -> Sequence[Method]:
        if task[0] == ACHIEVE:
            return self._achieving(task, state)
        methods = self._domain.methods[task[0]]
        if self._prefer is None or len(methods) < 2:  # noqa: PLR2004 - nothing to prefer
            return methods
        first = self._prefer(task[0], [each.name for each in methods])
        return sorted(methods, key=lambda each: each.name != first)

    def _achieving(self, task: Step, state: State) -> Sequence[Method]:
        """Yield ways to reach the goals one after another, each by its methods."""
        goals = task[1] if len(task) == 2 else None  # noqa: PLR2004 - name and goals
        if not isinstance(goals, Mapping):
            msg = f"{said(task)}: goals are a mapping of variables to values"
            raise PlanningError(msg, hint='("achieve", {("built", "a"): True})')
        unmet = {n: v for n, v in goals.items() if state.get(n, _achieved) != v}
        if not unmet:
            return [Method("holds already", ACHIEVE, lambda _state, _goals: [])]
        methods: list[Method] = []
        for name, value in unmet.items():
            kind = name[0] if isinstance(name, tuple) and name else name
            for each in self._domain.methods.get(f"{ACHIEVE} {kind}", ()):

                def by(
                    state: State,
                    goals: Any,
                    each: Method = each,
                    name: Any = name,
                    value: Any = value,
                ) -> Any:
                    tasks = each.decompose(state, name, value)
                    return None if tasks is None else [*tasks, (ACHIEVE, goals)]

                methods.append(Method(each.name, ACHIEVE, by, each.cost))
        if not methods:
            missing = ", ".join(repr(name) for name in unmet)
            self.last = f"no method reaches {missing}"
        return methods

    def _next_method(
        self,
        stack: list[Any],
        marked: tuple[State, int],
        todo: Any,
        path: Any,
        options: Any,
    ) -> None:
        """Try the next method of a task, and keep the others for later."""
        task, rest, above = todo
        state, mark = marked
        methods, tries = options
        if tries and tries[-1].failure is None:
            tries[-1].failure = self.last or "what came after it could not be done"
        method = next(methods, None)
        if method is None:
            if not tries:
                self.last = self.last or f"nothing does {said(task)}"
            return
        stack.append((marked, todo, path, options))
        tried = _Try(task, method.name, tries, above, mark, _levels(above, mark))
        tries.append(tried)
        self._tried.append(tried)
        tasks = asked(f"method {method.name!r}", method.decompose, state, task[1:])
        if isinstance(tasks, Iterator):
            # One method may yield several ways, such as one for each value of a
            # variable.
            tries.pop()
            self._tried.pop()
            every = (_known(method, n, way) for n, way in enumerate(tasks, 1))
            stack[-1] = marked, todo, path, (chain(every, methods), tries)
            return
        if tasks is None or tasks is False:
            tried.failure = "it does not fit what holds there"
            self.last = f"no method fits {said(task)}"
            return
        if not isinstance(tasks, list | tuple):
            msg = (
                f"method {method.name!r} gave {show(tasks)}: a list of tasks is needed"
            )
            raise PlanningError(msg, hint="return [(name, argument, …), …], or None")
        for each in reversed(tasks):
            rest = (each, rest, tried)
        stack.append((marked, rest, (tried, path, path and path[2]), None))

    def _link(self, step: PlannedStep, path: Any) -> Any:
        """Return the path with one more step, and its sums; None: a bound is broken."""
        if self._bounds is None:
            return step, path, None
        spent = self._bounds.after(path and path[2], step)
        if spent is None:
            self.last = f"its constraints do not hold with {step.operator.name}"
            return None
        return step, path, spent

    def _given_up(self, steps: int, todo: Any) -> PlanningError:
        ahead = said(todo[0]) if todo is not None else "the end"
        msg = f"the search was given up after {steps:,} steps, at {ahead}"
        often = Counter(each.name for each in self._tried[-1_000:])
        for name, count in often.most_common(1):
            msg += f"; of the latest {often.total()} methods, {count} were {name}"
        return PlanningError(
            msg,
            trace=self.trace(),
            hint="a method that comes to itself must change something first; "
            "or allow more: max_steps=, max_seconds=",
        )

    def trace(self) -> tuple[str, ...]:
        """The latest methods that were tried, and where each ended."""
        return tuple(
            f"{said(each.task)} by {each.name}: {each.failure or 'went on'}"
            for each in self._tried[-_SHOWN:]
        )


def _levels(above: _Try | None, mark: int) -> int:
    """Return how many methods in a row have changed nothing, with the next one."""
    return above.levels + 1 if above is not None and above.mark == mark else 1


def _known(method: Method, number: int, tasks: Any) -> Method:
    """Return one of the ways that a method yields, as a method."""
    name = f"{method.name}#{number}"
    return Method(name, method.task, lambda *_: tasks, method.cost)


def _achieved() -> None:
    """A mark for a variable that has no value."""


def key_of(task: Iterable[Any]) -> tuple[Any, ...]:
    """Return a task in a form that compares equal after a round trip through JSON."""
    return tuple(key_of(a) if isinstance(a, list | tuple) else a for a in task)


def said(task: Any) -> str:
    """Return a task as people write it: `build('a')`."""
    if not isinstance(task, tuple) or not task:
        return show(task)
    return f"{task[0]}({', '.join(show(each) for each in task[1:])})"


def asked(who: str, fn: Callable[..., Any], state: Any, args: Any) -> Any:
    """
    Call a function of the user and return its result.

    Raises:
        PlanningError: It raised.
    """
    try:
        return fn(state, *args)
    except PlanningError:
        raise
    except Exception as error:
        msg = f"{who} failed for {', '.join(map(show, args)) or 'no arguments'}: "
        msg += f"{type(error).__name__}: {error}"
        raise PlanningError(msg, hint="mend the function") from error


def _decomposition(path: Any) -> Decomposition:
    steps: list[PlannedStep] = []
    choices: list[Choice] = []
    while path is not None:
        entry, path, _spent = path
        if isinstance(entry, PlannedStep):
            steps.append(entry)
            continue
        place = entry.others.index(entry)
        rejected = tuple(
            (other.name, other.failure or "another was found first")
            for other in entry.others[:place]
        )
        choices.append(Choice(said(entry.task), entry.name, rejected))
    return Decomposition(tuple(reversed(steps)), tuple(reversed(choices)))


def interference(steps: Sequence[PlannedStep]) -> list[dict[int, str]]:
    """
    Return for each step the earlier ones that it must wait for, and why.

    A step waits for the steps that wrote a variable which it reads or writes, and,
    before it writes, for those that read it. Waits that follow from others are left
    out.
    """
    wrote: dict[Any, int] = {}
    read: dict[Any, list[int]] = {}
    waits: list[dict[int, str]] = []
    above: list[set[int]] = []
    every = frozenset(chain.from_iterable(step.writes for step in steps))
    for number, step in enumerate(steps):
        needs: dict[int, str] = {}
        # A step that lists the variables reads each one that is added.
        reads = step.reads - {EVERY} | every if EVERY in step.reads else step.reads
        for name in sorted(reads | step.writes, key=repr):
            if name in wrote:
                verb = "reads" if name in reads else "writes"
                needs.setdefault(wrote[name], f"{verb} {show(name)}")
        for name in sorted(step.writes, key=repr):
            for other in read.get(name, ()):
                if other != number:
                    needs.setdefault(other, f"writes {show(name)}, which it reads")
        for name in step.writes:
            wrote[name] = number
            read[name] = []
        for name in reads:
            read.setdefault(name, []).append(number)
        implied = {up for other in needs for up in above[other]}
        kept = {other: why for other, why in needs.items() if other not in implied}
        waits.append(kept)
        above.append(implied | set(kept))
    return waits


def version_of(domain: str, parts: Sequence[Any]) -> str:
    """
    Return a text that changes with the code, or the numbers, of a domain.

    Raises:
        InvalidTaskError: A function in it closes over a value that cannot be compared.
    """
    try:
        return digest_of(list(parts))
    except (UndescribedError, RecursionError) as error:
        msg = f"domain {domain!r} has a function without a description: {error}"
        raise InvalidTaskError(msg) from None


def duration_of(operator: str, value: Any) -> float | None:
    """
    Return *duration* as the seconds of a step, if it has one.

    Raises:
        InvalidTaskError: It is no duration.
    """
    if value is None:
        return None
    return check_seconds(f"operator {operator!r}: the duration", value)


def cost_of(operator: str, value: Any) -> float:
    """
    Return *cost* as the cost of a step.

    Raises:
        InvalidTaskError: It is no number from 0 on.
    """
    if not is_number(value, 0, _DEAREST):
        msg = f"operator {operator!r}: a cost is a number from 0 to {_DEAREST:g}, "
        msg += f"not {show(value)}"
        raise InvalidTaskError(msg)
    return float(value)


def step_seconds(operator: Operator, args: tuple[Any, ...]) -> float | None:
    """Return the seconds of a step with these arguments, if its operator has them."""
    return duration_of(operator.name, _amount(operator.duration, args, operator.name))


def step_cost(operator: Operator, args: tuple[Any, ...]) -> float:
    """Return the cost of a step with these arguments."""
    cost = _amount(operator.cost, args, operator.name)
    return 0.0 if cost is None else cost_of(operator.name, cost)


def _amount(amount: Any, args: tuple[Any, ...], who: str) -> Any:
    """
    Return *amount*, or the result of the user's function for these arguments.

    Raises:
        PlanningError: It raised.
    """
    try:
        return amount(*args) if callable(amount) else amount
    except Exception as error:
        msg = f"operator {who!r}: its duration or cost failed: {error}"
        raise PlanningError(msg, hint="mend the function") from error
