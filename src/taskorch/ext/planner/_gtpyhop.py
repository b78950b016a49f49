"""
Domains of GTPyhop, with the interface of `Domain`.

Decision: plan-search.
"""

from __future__ import annotations

import importlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from copy import deepcopy
from math import inf
from operator import ne
from time import monotonic
from typing import Any, Final

import attrs

from taskorch.errors import PlanningError
from taskorch.ext.planner._domain import (
    MAX_SECONDS,
    MAX_STEPS,
    Decomposition,
    Domain,
    Operator,
    PlannedStep,
    asked,
    key_of,
    said,
    version_of,
)
from taskorch.ext.planner._values import Choice
from taskorch.kit.visible import show
from taskorch.model.ids import check_name

_SHOWN: Final = 8
#: The name for all that an action reads and writes if it could not be watched.
_STATE: Final = "the state"
#: Tasks by which GTPyhop checks whether a method has reached its goal.
_CHECKS: Final = frozenset({"_verify_g", "_verify_mg"})


def _hop() -> Any:
    """
    The library, which prints when it is imported.

    Raises:
        PlanningError: It is not installed.
    """
    try:
        with redirect_stdout(io.StringIO()):
            return importlib.import_module("gtpyhop")
    except ImportError as error:
        msg = "a domain of GTPyhop needs gtpyhop-core, which is not installed"
        hint = "pip install 'taskorch[planner]'"
        raise PlanningError(msg, hint=hint) from error


class GtpyhopDomain:
    """
    A domain of GTPyhop, for `orch.planner.domain(…)`.

    Its plans are those of GTPyhop's strategy `iterative_dfs_backtracking`. Its actions
    become tasks, which wait for each other where one reads what another writes. States
    are copied whole: nothing that was given is changed.

    Variables that cannot be copied, methods that change the state, and actions with
    other inputs are refused by name. An action with unclear inputs waits for all
    actions before it.

    Args:
        domain: The `gtpyhop.Domain`.
        actions: By the name of an action, how its task is run: the arguments of
            `Domain.operator`, such as `run`, `duration`, `cost` and `resources`.

    Raises:
        PlanningError: `gtpyhop-core` is not installed, or there is no such action.
        InvalidTaskError: A number is out of its range.
    """

    def __init__(
        self, domain: Any, actions: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._hop = _hop()
        self._domain = domain
        self._options: dict[str, dict[str, Any]] = {
            name: dict(options) for name, options in (actions or {}).items()
        }
        unknown = self._options.keys() - domain._action_dict.keys()
        if unknown:
            msg = f"the domain has no action {', '.join(map(repr, sorted(unknown)))}"
            raise PlanningError(msg)
        self.name: str = check_name(
            "the name of a domain", domain.__name__.replace(".", "-")
        )
        checked = Domain(self.name)
        for name, options in self._options.items():
            arguments: Any = {**options, "name": name}
            checked.operator(domain._action_dict[name], **arguments)
        self._operators = checked.operators

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of all that it can do."""
        names = (*self._domain._action_dict, *self._domain._task_method_dict)
        return tuple(name for name in names if name not in _CHECKS)

    def functions(self, task: str) -> list[Callable[..., Any]]:
        """The functions that are called with a state and the arguments of *task*."""
        action = self._domain._action_dict.get(task)
        methods = self._domain._task_method_dict.get(task, ())
        return [*methods] if action is None else [action]

    @property
    def version(self) -> str:
        """
        A text that changes when the code of an action or of a method changes.

        Raises:
            InvalidTaskError: A function closes over a value that cannot be compared.
        """
        domain = self._domain
        tables = domain._task_method_dict, domain._unigoal_method_dict
        return version_of(
            self.name,
            [
                {**domain._action_dict},
                {name: {**options} for name, options in self._options.items()},
                *(
                    {name: [*methods] for name, methods in each.items()}
                    for each in tables
                ),
                [*domain._multigoal_method_list],
            ],
        )

    def decompositions(
        self,
        task: tuple[Any, ...],
        state: Any = None,
        *,
        max_steps: int = MAX_STEPS,
        max_seconds: float = MAX_SECONDS,
        prefer: Callable[[str, Sequence[str]], str | None] | None = None,
        without: Sequence[tuple[Any, ...]] = (),
    ) -> Iterator[Decomposition]:
        """
        The ways in which *task* can be done: first the one that GTPyhop finds.

        Args:
            task: The name and the arguments.
            state: The state before: a table for each variable, or a `gtpyhop.State`.
            max_steps: Steps of the search before it is given up.
            max_seconds: Seconds before it is given up.
            prefer: Not asked: GTPyhop tries methods as they were declared.
            without: Actions that are taken for such as cannot be done.

        Raises:
            PlanningError: There is none: `trace` has the attempts.
        """
        del prefer
        return self._ways([task], state, max_steps, max_seconds, without)

    def solve(
        self,
        todo: Sequence[Any],
        state: Any = None,
        *,
        max_steps: int = MAX_STEPS,
        max_seconds: float = MAX_SECONDS,
    ) -> Decomposition:
        """
        Steps by which tasks and goals of GTPyhop, one after another, are done.

        Raises:
            PlanningError: There are none.
        """
        return next(self._ways(todo, state, max_steps, max_seconds))

    def after(
        self, state: Any, steps: Iterable[Sequence[Any]]
    ) -> tuple[Any, tuple[PlannedStep, ...]]:
        """
        The state to which actions lead, and what each of them reads and writes.

        Raises:
            PlanningError: One cannot be done.
        """
        begin, items = self._copied(state, [*steps])
        search = _HopSearch(self._hop, self._domain, MAX_STEPS, inf)
        actions: list[tuple[Any, Any]] = []
        for item in items:
            now = actions[-1][1] if actions else begin
            after = search.applied(item, now) if search.is_action(item) else None
            if after is None:
                msg = f"{said(tuple(item))} cannot be done"
                raise PlanningError(msg)
            actions.append((item, after))
        return (actions[-1][1] if actions else begin), self._steps(begin, actions)

    def _ways(
        self,
        todo: Sequence[Any],
        state: Any,
        max_steps: int,
        max_seconds: float,
        without: Sequence[tuple[Any, ...]] = (),
    ) -> Iterator[Decomposition]:
        begin, items = self._copied(state, todo)
        end = monotonic() + max_seconds
        search = _HopSearch(self._hop, self._domain, max_steps, end, without)
        is_done = False
        # Methods must not change the state, and some do, so that they get a copy.
        for path in search.run(begin.copy(), items):
            is_done = True
            actions: list[tuple[Any, Any]] = []
            choices: list[Choice] = []
            while path is not None:
                entry, path = path  # noqa: PLW2901 - the rest of the chain
                if isinstance(entry, Choice):
                    choices.append(entry)
                else:
                    actions.append(entry)
            steps = self._steps(begin, actions[::-1])
            yield Decomposition(steps, tuple(reversed(choices)))
        if not is_done:
            msg = f"{show(list(todo))} cannot be done: {search.last}"
            hint = "see error.trace: what was tried"
            raise PlanningError(msg, trace=search.trace(), hint=hint)

    def _copied(self, state: Any, todo: Sequence[Any]) -> tuple[Any, list[Any]]:
        """
        Return a copy of a state and of its goals, which shares nothing with the caller.

        Raises:
            PlanningError: A variable cannot be copied, or the state is none.
        """
        if not isinstance(state, self._hop.State | Mapping | None):
            msg = f"a state is a gtpyhop.State or a mapping, not {show(state)}"
            raise PlanningError(msg)
        if not isinstance(state, self._hop.State):
            values = {str(name): value for name, value in (state or {}).items()}
            state = self._hop.State("begin")
            vars(state).update(values)
        try:
            copied: tuple[Any, list[Any]] = deepcopy((state, list(todo)))
        except Exception as error:
            for name, value in vars(state).items():
                try:
                    deepcopy(value)
                except Exception as fault:
                    msg = f"the state variable {name!r} cannot be copied: {fault}"
                    hint = "keep in a state what can be copied, and the rest outside"
                    raise PlanningError(msg, hint=hint) from fault
            msg = f"{show(list(todo))} cannot be copied: {error}"
            raise PlanningError(msg) from error
        return copied

    # -- what a step reads and writes ------------------------------------------------

    def _steps(
        self, begin: Any, actions: Sequence[tuple[Any, Any]]
    ) -> tuple[PlannedStep, ...]:
        """
        The actions of a plan, with what each reads and writes.

        Args:
            begin: The state before.
            actions: Each action, and the state after it.

        Raises:
            PlanningError: An action does something else than it did in the search.
        """
        traces: list[_Reading] = []
        before = begin
        for item, after in actions:
            fn = self._domain._action_dict[item[0]]
            traces.append(self._traced(fn, item, before, after))
            before = after
        written: dict[Any, set[Any]] = {}
        for each in traces:
            for name in each.writes:
                if isinstance(name, tuple):
                    written.setdefault(name[0], set()).add(name)
        steps: list[PlannedStep] = []
        for (item, _), each in zip(actions, traces, strict=True):
            # A step that lists the keys of a table reads each that is added or removed.
            for variable in each.whole:
                each.reads |= written.get(variable, set())
            name, *args = item
            operator = self._operators.get(name)
            operator = operator or Operator(name, self._domain._action_dict[name])
            reads, writes = frozenset(each.reads), frozenset(each.writes)
            steps.append(PlannedStep(operator, tuple(args), reads, writes))
        return tuple(steps)

    def _traced(self, fn: Any, item: Any, before: Any, after: Any) -> _Reading:
        reading = _Reading()
        # An action may fail because it gets a watched state.
        with suppress(Exception):
            watched = before.copy()
            for name, value in [*vars(watched).items()]:
                if type(value) is dict:
                    vars(watched)[name] = _WatchedTable(name, value, reading)
            result = fn(watched, *item[1:])
            # From here on we read the tables ourselves, so that a copy of the reading
            # is used.
            seen = attrs.evolve(
                reading, reads=set(reading.reads), whole=set(reading.whole)
            )
            if isinstance(result, self._hop.State) and _is_like(result, after):
                seen.compare(before, result, after)
                return seen
        result = asked(f"action {item[0]!r}", fn, before.copy(), item[1:])
        if not isinstance(result, self._hop.State) or not _is_like(result, after):
            msg = f"{said(tuple(item))} does something else when it is done again"
            hint = "a method must not change the state that it is given, and an action "
            hint += "must go by its state and its arguments alone"
            raise PlanningError(msg, hint=hint)
        return _Reading(reads={_STATE}, writes={_STATE})


class _HopSearch:
    """GTPyhop's search with an explicit stack: depth first, methods as declared."""

    def __init__(
        self,
        hop: Any,
        domain: Any,
        most: int,
        end: float,
        without: Sequence[tuple[Any, ...]] = (),
    ) -> None:
        self._hop, self._domain = hop, domain
        self._without = [key_of(step) for step in without]
        self._most, self._end = most, end
        self._tried: deque[tuple[Any, str]] = deque(maxlen=_SHOWN)

    @property
    def last(self) -> str:
        """The latest dead end, in words."""
        item, why = self._tried[-1] if self._tried else ((), "nothing was tried")
        return f"{said(item)} {why}" if item else why

    def trace(self) -> tuple[str, ...]:
        """Return the latest attempts, each with its result."""
        return tuple(f"{said(item)}: {why}" for item, why in self._tried)

    def run(self, begin: Any, todo: Sequence[Any]) -> Iterator[Any]:
        """
        Chains of the actions and choices of each plan, the latest first.

        Raises:
            PlanningError: It is given up; or the domain is not well formed.
        """
        remaining: Any = None
        for item in reversed(todo):
            remaining = item, remaining
        stack: list[Any] = [(begin, remaining, None, 0)]
        steps = 0
        while stack:
            state, remaining, path, depth = stack.pop()
            steps += 1
            if steps > self._most or monotonic() > self._end:
                ahead = said(remaining[0]) if remaining else "the end"
                msg = f"the search was given up after {steps:,} steps, at {ahead}"
                hint = "allow more: max_steps=, max_seconds="
                raise PlanningError(msg, trace=self.trace(), hint=hint)
            if remaining is None:
                yield path
                continue
            item, rest = remaining
            if self.is_action(item):
                after = self.applied(item, state)
                if after is not None:
                    # An action that changes nothing is no part of the plan.
                    if asked("a comparison of states", ne, after, (state,)):
                        path = (item, after), path
                    stack.append((after, rest, path, depth + 1))
                continue
            ways = self._refined(item, state, depth)
            for choice, tasks in reversed(ways):
                remaining = rest
                for task in reversed(tasks):
                    remaining = task, remaining
                extended = path if choice is None else (choice, path)
                stack.append((state, remaining, extended, depth + 1))

    def is_action(self, item: Any) -> bool:
        """
        Whether it is an action, and not a task or a goal.

        Raises:
            PlanningError: It is none of these.
        """
        if type(item).__name__ == "Multigoal":
            return False
        domain = self._domain
        tables = domain._task_method_dict, domain._unigoal_method_dict
        if isinstance(item, list | tuple) and item and isinstance(item[0], str):
            if item[0] in domain._action_dict:
                return True
            if any(item[0] in each for each in tables):
                return False
        msg = f"domain {domain.__name__!r} has no action, task or goal {show(item)}"
        raise PlanningError(
            msg, trace=self.trace(), hint="declare it, or mend its name"
        )

    def applied(self, item: Any, state: Any) -> Any:
        """Return the state after an action; None: it cannot be done."""
        if self._without and key_of(item) in self._without:
            self._tried.append((tuple(item), "is not to be done again"))
            return None
        who = f"action {item[0]!r}"
        fn = self._domain._action_dict[item[0]]
        copied = asked("the copy of a state", lambda s: s.copy(), state, ())
        after = asked(who, fn, copied, item[1:])
        if isinstance(after, self._hop.State):
            return after
        is_no = after is None or after is False
        why = "cannot be done where it was tried" if is_no else f"gave {show(after)}"
        self._tried.append((tuple(item), why))
        return None

    def _refined(
        self, item: Any, state: Any, depth: int
    ) -> list[tuple[Choice | None, list[Any]]]:
        """Return the parts of a task or goal, by each of its methods that fit."""
        domain = self._domain
        is_check = False
        args: Sequence[Any]
        if type(item).__name__ == "Multigoal":
            methods, args = domain._multigoal_method_list, (item,)
            check: tuple[Any, ...] = ("_verify_mg", item)
        elif item[0] in domain._task_method_dict:
            methods, args = domain._task_method_dict[item[0]], item[1:]
            check, is_check = (), item[0] in _CHECKS
        else:
            if self._holds(item, state):
                return [(None, [])]
            methods, args = domain._unigoal_method_dict[item[0]], item[1:]
            check = ("_verify_g", *item)
        ways: list[tuple[Choice | None, list[Any]]] = []
        rejected: list[tuple[str, str]] = []
        for method in methods:
            name = str(getattr(method, "__name__", method))
            tasks = asked(f"method {name!r}", method, state, args)
            if tasks is None or tasks is False:
                rejected.append((name, "it does not fit what holds there"))
                continue
            if not isinstance(tasks, list):
                msg = f"method {name!r} gave {show(tasks)}: a list of tasks is needed"
                raise PlanningError(
                    msg, hint="return [(name, argument, …), …], or None"
                )
            choice = Choice(said(item), name, tuple(rejected))
            checks = []
            if check and self._hop.get_verify_goals():
                checks = [(check[0], name, *check[1:], depth)]
            ways.append((None if is_check else choice, [*tasks, *checks]))
            rejected.append((name, "what came after it could not be done"))
        if not ways:
            self._tried.append((item, "is done by no method where it was tried"))
        return ways

    def _holds(self, goal: Any, state: Any) -> bool:
        """
        Whether a goal is reached already.

        Raises:
            PlanningError: The state has no such variable, or the goal is none.
        """
        name, *args = goal
        table = vars(state).get(name)
        if len(args) != 2 or not hasattr(table, "get"):  # noqa: PLR2004 - key and value
            msg = f"goal {said(tuple(goal))} is no (variable, key, value) of a table "
            msg += "in the state"
            raise PlanningError(msg, hint=f"let the state have a table {name!r}")
        return bool(asked(f"goal {name!r}", lambda t, k, v: t.get(k) == v, table, args))


# -- watching ------------------------------------------------------------------------


@attrs.define(eq=False)
class _Reading:
    """
    The reads and writes of a step.

    Attributes:
        reads: Variables, and keys of variables that are tables.
        writes: The same.
        whole: Tables whose keys it has listed.
    """

    reads: set[Any] = attrs.field(factory=lambda: {_STATE})
    writes: set[Any] = attrs.field(factory=set)
    whole: set[str] = attrs.field(factory=set)

    def compare(self, before: Any, result: Any, after: Any) -> None:
        """Take in all changes, and the values that cannot be watched."""
        if vars(before).keys() != vars(after).keys():
            # A variable was added or removed, and nobody knows who lists the variables.
            self.writes.add(_STATE)
        for name, value in vars(after).items():
            if name == "__name__":
                continue
            old = vars(before).get(name)
            if type(value) is not dict or type(old) is not dict:
                self.reads.add(name)
                if not _equal(old, value):
                    self.writes.add(name)
                    if isinstance(old, dict) or isinstance(value, dict):
                        self.writes.add(_STATE)
                continue
            if not isinstance(vars(result)[name], _WatchedTable):
                # The action has replaced the table, so that all its keys may differ.
                self.whole.add(name)
            for key in {**old, **value}:
                is_there = key in old and key in value
                if not is_there or not _equal(old[key], value[key]):
                    self.writes.add((name, key))


class _WatchedTable(dict[Any, Any]):
    """A table of a state, which notes in a reading which of its keys are read."""

    def __init__(self, name: str, values: dict[Any, Any], reading: _Reading) -> None:
        super().__init__(values)
        self._name, self._reading = name, reading

    def _key(self, key: Any) -> None:
        self._reading.reads.add((self._name, key))

    def _all(self) -> None:
        self._reading.whole.add(self._name)
        for key in dict.keys(self):
            self._key(key)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (self.copy(),)

    def __deepcopy__(self, memo: Any) -> dict[Any, Any]:
        return deepcopy(self.copy(), memo)


def _noting(name: str, note: Callable[..., None]) -> Any:
    """A method of a dictionary that first notes its reads."""
    plain = getattr(dict, name)

    def noted(self: _WatchedTable, *args: Any, **named: Any) -> Any:
        note(self, *args)
        return plain(self, *args, **named)

    return noted


for _name in ("__getitem__", "__contains__", "__delitem__", "get", "pop", "setdefault"):
    setattr(_WatchedTable, _name, _noting(_name, lambda self, key, *_: self._key(key)))
for _name in (
    *("__iter__", "__len__", "__eq__", "__ne__", "__or__", "__ror__", "__reversed__"),
    *("__repr__", "keys", "values", "items", "copy", "popitem", "clear"),
):
    setattr(_WatchedTable, _name, _noting(_name, lambda self, *_: self._all()))


def _equal(first: Any, then: Any) -> bool:
    """Return whether two values are surely equal."""
    try:
        return bool(first == then)
    except Exception:  # noqa: BLE001 - arrays, for one, cannot say it
        return False


def _is_like(result: Any, after: Any) -> bool:
    """Return whether two states are equal, where their values can be compared."""
    if vars(result).keys() != vars(after).keys():
        return False
    return all(
        _equal(value, vars(after)[name])
        or not _equal(vars(after)[name], deepcopy(vars(after)[name]))
        for name, value in vars(result).items()
        if name != "__name__"
    )
