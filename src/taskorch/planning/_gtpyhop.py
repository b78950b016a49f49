"""Domains of GTPyhop, behind the face of ours."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, Final

from taskorch.errors import PlanningError
from taskorch.planning._domain import (
    MAX_SECONDS,
    Decomposition,
    Operator,
    PlannedStep,
    version_of,
)
from taskorch.planning._values import Choice
from taskorch.workflows._names import check_name

_SHOWN: Final = 8


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


class _Noted(dict[Any, Any]):
    """A state variable that notes in *reads* which of its keys are read."""

    def __init__(self, name: str, values: Mapping[Any, Any], reads: set[Any]) -> None:
        super().__init__(values)
        self._name, self._reads = name, reads

    def _read(self, key: Any) -> None:
        self._reads.add((self._name, key))

    def __getitem__(self, key: Any) -> Any:
        self._read(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self._read(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._read(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[Any]:
        for key in super().__iter__():
            self._read(key)
            yield key

    def keys(self) -> Any:
        list(self)
        return super().keys()

    def items(self) -> Any:
        self.keys()
        return super().items()

    def values(self) -> Any:
        self.keys()
        return super().values()


def _state_class(hop: Any) -> Any:
    class OneLevel(hop.State):  # type: ignore[misc]
        """A state of which a copy shares all but the tables of its variables."""

        def copy(self, new_name: str | None = None) -> Any:
            made: Any = type(self).__new__(type(self))
            for name, value in vars(self).items():
                # Tables, and what else can be changed in place, one level deep.
                copied = isinstance(value, dict | list | set)
                setattr(made, name, value.copy() if copied else value)
            made.__name__ = new_name or self.__name__
            return made

    return OneLevel


class GtpyhopDomain:
    """
    A domain of GTPyhop, for `orch.planner.domain(…)`.

    Its actions become tasks, which wait for each other where one reads what another
    writes. A state is copied one level deep for each variable: an action that changes
    what is nested deeper must make it anew.

    Args:
        domain: The `gtpyhop.Domain`.
        actions: By the name of an action, how its task is run: the arguments of
            `Domain.operator`, such as `run`, `duration`, `cost` and `resources`.

    Raises:
        PlanningError: `gtpyhop-core` is not installed.
    """

    def __init__(
        self, domain: Any, actions: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._hop = _hop()
        self._domain = domain
        self._state = _state_class(self._hop)
        self._options = {name: dict(said) for name, said in (actions or {}).items()}
        unknown = self._options.keys() - domain._action_dict.keys()
        if unknown:
            msg = f"the domain has no action {', '.join(map(repr, sorted(unknown)))}"
            raise PlanningError(msg)
        self.name: str = check_name(
            "the name of a domain", domain.__name__.replace(".", "-")
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of all that it can do."""
        return (*self._domain._action_dict, *self._domain._task_method_dict)

    @property
    def version(self) -> str:
        """
        What changes when the code of an action or of a method changes.

        Raises:
            InvalidTaskError: One closes over what has no description.
        """
        domain = self._domain
        known = domain._task_method_dict, domain._unigoal_method_dict
        return version_of(
            self.name,
            [
                {**domain._action_dict},
                {name: {**options} for name, options in self._options.items()},
                *(
                    {name: [*methods] for name, methods in each.items()}
                    for each in known
                ),
                [*domain._multigoal_method_list],
            ],
        )

    def decompositions(
        self,
        task: tuple[Any, ...],
        state: Any = None,
        *,
        max_seconds: float = MAX_SECONDS,
        prefer: Callable[[str, Sequence[str]], str | None] | None = None,
    ) -> Iterator[Decomposition]:
        """
        The way in which *task* can be done that GTPyhop finds.

        Args:
            task: The name and the arguments.
            state: What holds before: a table for each variable, or a `gtpyhop.State`.
            max_seconds: Seconds before it is given up.
            prefer: Not asked: GTPyhop tries methods as they were declared.

        Raises:
            PlanningError: There is none: `trace` says what was tried.
        """
        del prefer
        yield self.solve([task], state, max_seconds=max_seconds)

    def solve(
        self,
        todo: Sequence[Any],
        state: Any = None,
        *,
        max_seconds: float = MAX_SECONDS,
    ) -> Decomposition:
        """
        Steps by which tasks and goals of GTPyhop, one after another, are done.

        Raises:
            PlanningError: There are none.
        """
        begin = self._begin(state)
        session = self._hop.PlannerSession(
            domain=self._domain,
            strategy="iterative_dfs_backtracking",
            structured_logging=False,
        )
        said = io.StringIO()
        with redirect_stdout(said):
            try:
                result = session.find_plan(
                    begin,
                    list(todo),
                    timeout_ms=round(max_seconds * 1000),
                    trace=True,
                )
            except Exception as error:
                msg = f"GTPyhop failed for {todo!r}: {type(error).__name__}: {error}"
                raise PlanningError(msg, hint="mend the domain") from error
        events = list(getattr(result.trace, "events", ()) or ())
        if not result.success:
            last = result.trace.dead_end if result.trace is not None else None
            why = result.error or (f"{last.item}: {last.status}" if last else "no way")
            msg = f"{list(todo)!r} cannot be done: {why}"
            trace = tuple(f"{e.item}: {e.status}" for e in events[-_SHOWN:])
            raise PlanningError(msg, trace=trace)
        rejected = tuple(
            (str(each.item), str(each.status))
            for each in events
            if "applied" not in str(each.status) and "refined" not in str(each.status)
        )
        choice = Choice(str(list(todo)), "as GTPyhop found", rejected[:_SHOWN])
        return Decomposition(self._steps(begin, result.plan), (choice,))

    def _begin(self, state: Any) -> Any:
        made = self._state(getattr(state, "__name__", "begin"))
        values = vars(state) if isinstance(state, self._hop.State) else state or {}
        for name, value in values.items():
            if name != "__name__":
                vars(made)[str(name)] = value
        return made

    def _steps(self, state: Any, plan: Sequence[Any]) -> tuple[PlannedStep, ...]:
        """The actions of a plan, with what each reads and writes."""
        made: list[PlannedStep] = []
        for name, *args in plan:
            fn = self._domain._action_dict[name]
            reads, writes = set[Any](), set[Any]()
            before = state.copy()
            tried = state.copy()
            for variable, value in list(vars(tried).items()):
                if isinstance(value, dict):
                    vars(tried)[variable] = _Noted(variable, value, reads)
            after = fn(tried, *args)
            for variable, value in list(vars(after).items()):
                if isinstance(value, dict):
                    plain = dict(dict.items(value))
                    old = vars(before).get(variable, {})
                    for key in {**old, **plain}:
                        if plain.get(key, made) != old.get(key, made):
                            writes.add((variable, key))
                    vars(after)[variable] = plain
                elif variable != "__name__":
                    # It is no table: nobody sees who reads it.
                    reads.add(variable)
                    if value != vars(before).get(variable):
                        writes.add(variable)
            state = after
            operator = Operator(name, fn, **self._options.get(name, {}))
            step = PlannedStep(
                operator, tuple(args), frozenset(reads), frozenset(writes)
            )
            made.append(step)
        return tuple(made)
