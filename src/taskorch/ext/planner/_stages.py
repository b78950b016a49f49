"""
The five stages of planning, each a protocol of one method with a default.

A request is parsed, decomposed into tasks, given dependencies, put in order, and
validated.
"""

from __future__ import annotations

import inspect
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import attrs

from taskorch.core.workflows import Workflow
from taskorch.core.workflows._names import unused
from taskorch.errors import InvalidTaskError, PlanningError
from taskorch.ext.planner import _solver
from taskorch.ext.planner._domain import (
    MAX_SECONDS,
    MAX_STEPS,
    Decomposition,
    Domain,
    interference,
    step_cost,
    step_seconds,
)
from taskorch.ext.planner._job_shop import best_order
from taskorch.ext.planner._scheduling import (
    Problem,
    Schedule,
    improve_workers,
)
from taskorch.ext.planner._texts import limits_in
from taskorch.ext.planner._values import (
    Choice,
    ExecutionPlan,
    TaskRequest,
    ValidationResult,
)
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess
from taskorch.model import Task

#: A request, a document of one, or a text.
Given: TypeAlias = TaskRequest | Mapping[str, Any] | str


@attrs.frozen(eq=False)
class Draft:
    """
    A workflow, and the reasons for its parts.

    Attributes:
        workflow: The tasks.
        reasons: Why a task waits for another, by both of their ids.
        costs: The costs of tasks, by their ids.
        choices: The choices behind it.
        whole: If a run does a part of it, all of it.
        earlier: The handles of the tasks that runs do, by their ids in *whole*.
    """

    workflow: Workflow
    reasons: Mapping[tuple[str, str], str] = attrs.field(factory=dict)
    costs: Mapping[str, float] = attrs.field(factory=dict)
    choices: tuple[Choice, ...] = ()
    whole: Workflow | None = None
    earlier: Mapping[str, Any] = attrs.field(factory=dict)


@runtime_checkable
class RequestParser(Protocol):
    """The stage that makes a request of a text, a document or a request."""

    def parse(self, given: Given, known: Sequence[str]) -> TaskRequest:
        """
        The request in *given*; *known* are the types that can be planned.

        Raises:
            UsageError: There is none.
        """
        ...


@runtime_checkable
class TaskDecomposer(Protocol):
    """The stage that finds the tasks by which a request is done."""

    def decompose(
        self, request: TaskRequest
    ) -> Iterable[Decomposition | Workflow | Draft]:
        """
        The ways in which it can be done, the best first.

        Raises:
            PlanningError: There is none.
        """
        ...


@runtime_checkable
class DependencyResolver(Protocol):
    """The stage that finds which task waits for which."""

    def resolve(self, found: Any, request: TaskRequest) -> Draft:
        """Return the tasks of *found*, with the tasks that they wait for."""
        ...


@runtime_checkable
class PlanOptimizer(Protocol):
    """The stage that puts tasks in order."""

    def optimize(
        self, problem: Problem, seconds: float, seed: int
    ) -> tuple[Schedule, int]:
        """Return a schedule, and a bound that no schedule beats."""
        ...


@runtime_checkable
class PlanValidator(Protocol):
    """The stage that tests whether a plan can be carried out."""

    def validate(self, plan: ExecutionPlan) -> ValidationResult:
        """Return the faults of a plan."""
        ...


# -- parsing -----------------------------------------------------------------------

_MAX_TEXT: Final = 10_000


class RuleParser:
    """
    The RequestParser that works by fixed rules.

    Limits are times (`within 1h30m`, `10 s max`, `deadline=10`), moments (`by 17:00`,
    `by tomorrow noon`, `by 17:00 Europe/Berlin`; without a zone, that of the machine),
    costs (`at most 20 eur`, `max cost 20`), peaks (`at most 2 cpu`, `max 4 GB of
    memory`) and priorities (`priority 7`, `asap`, `no hurry`). An ambiguous one
    (`ideally within 2 hours`) is refused. A value of `name=value` is a word, a number,
    words with commas, or JSON.

    From a text it takes the one type that is named in it, limits ("within 2 hours", "by
    17:00", "at most 20 eur", "at most 2 cpu", "priority 7", "urgently"), and
    `name=value` for the context. Words that may be a limit and are not understood
    refuse the text. All else is description: nothing in a text is carried out, imported
    or looked up, whatever it says.

    Args:
        now: Returns the current time, for times of day.
    """

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        # A parser of its own has no orchestrator with a clock.
        self._now = now or (lambda: datetime.now(UTC))  # noqa: TID251 - as said

    def parse(self, given: Given, known: Sequence[str]) -> TaskRequest:
        """
        The request in *given*.

        Raises:
            UsageError: A document is not well formed, or a text names no type that is
                known, or several.
        """
        if isinstance(given, TaskRequest):
            return given
        if isinstance(given, Mapping):
            return TaskRequest.from_dict(given)
        if not isinstance(given, str):
            msg = f"a TaskRequest, a mapping or a text is planned, not {show(given)}"
            raise InvalidTaskError(msg)
        if len(given) > _MAX_TEXT:
            msg = f"a text of a request has at most {_MAX_TEXT:,} characters"
            raise InvalidTaskError(msg)
        return self._of_text(given, known)

    def _of_text(self, text: str, types: Sequence[str]) -> TaskRequest:
        low = text.lower()
        plain = {name: _plain(name) for name in types}
        named = {n: word for n, word in plain.items() if _has(_plain(low), word)}
        # If one name is a part of another, the longer one is meant.
        matches = [
            name
            for name, word in named.items()
            if not any(word != other and _has(other, word) for other in named.values())
        ]
        if len(matches) != 1:
            msg = "the text names none of the types that can be planned"
            if matches:
                msg = f"the text names several: {', '.join(matches)}"
            hint = f"known are {', '.join(types) or 'none'}"
            raise PlanningError(msg, hint=hint)
        context, rest = _named_in(text)
        words = r"[\s_-]+".join(map(re.escape, plain[matches[0]].split()))
        name = re.compile(rf"(?<![\w-]){words}(?![\w-])", re.IGNORECASE)
        limits = limits_in(name.sub(lambda found: _blank(found[0]), rest), self._now)
        return TaskRequest(
            id=re.sub(r"[^A-Za-z0-9_-]+", "-", matches[0]).strip("-") or "request",
            type=matches[0],
            description=text,
            constraints=limits.constraints,
            priority=limits.priority or 0,
            deadline=limits.deadline,
            context=context,
        )


#: The name of an argument; `priority=`, `prio=` and `deadline=` belong to the request.
_NAME: Final = re.compile(
    r"(?<![\w.])(?!(?:priority|prio|deadline)=)([A-Za-z_]\w*)=(?!=)"
)
_JSON: Final = json.JSONDecoder()
#: Words after a value and a comma that do not belong to the value.
_NEXT: Final = re.compile(
    r"\s*(?:$|[A-Za-z_]\w*=|(?:within|in|at|by|before|until|due|under|less than|max"
    r"|maximum|for|up to|with|using|urgent|urgently|asap|as soon|high|low|deadline"
    r"|prio|priority|no|not|and|but|then|please|thanks)\b)",
    re.IGNORECASE,
)


def _blank(words: str) -> str:
    return "\0" * len(words)


def _named_in(text: str) -> tuple[dict[str, Any], str]:
    """
    Return the arguments in *text*: `name=` and JSON, a word, or words with commas.

    The second value is *text* with blanks in their place.

    Raises:
        PlanningError: It is not clear where a value ends.
    """
    named: dict[str, Any] = {}
    rest_of_text, end = text, 0
    for match in _NAME.finditer(text):
        if match.start() < end:
            # This `name=` is part of a value.
            continue
        rest = text[match.end() :]
        if match[1] in named:
            msg = f"the text says {match[0]} twice"
            raise PlanningError(msg, hint="say each argument once")
        if rest[:1] in ("[", "{", '"'):
            try:
                named[match[1]], length = _JSON.raw_decode(rest)
                end = match.end() + length
                rest_of_text = _without(rest_of_text, match.start(), end)
                continue
            except ValueError:
                pass
        word = re.match(r"[^\s;]*", rest)
        written = "" if word is None else word[0]
        comma = re.match(r"\s*,", rest[len(written.rstrip(",")) :])
        if comma and not _NEXT.match(rest, len(written.rstrip(",")) + comma.end()):
            msg = (
                f"is what follows {match[0]}{written.rstrip(',')} and its comma a part "
            )
            msg += "of it?"
            hint = f"write {match[0]}a,b without blanks, or {match[0]}[…] as JSON"
            raise PlanningError(msg, hint=hint)
        value = written.rstrip(".,:!?)")
        end = match.end() + len(value)
        rest_of_text = _without(rest_of_text, match.start(), end)
        if "," in value:
            named[match[1]] = [_number_or_text(each) for each in value.split(",")]
        elif value:
            named[match[1]] = _number_or_text(value)
    return named, rest_of_text


def _without(text: str, start: int, end: int) -> str:
    return text[:start] + _blank(text[start:end]) + text[end:]


def _number_or_text(word: str) -> Any:
    """Return a number only if it is written as one: `007` and `1.10` are texts."""
    for kind in (int, float):
        try:
            number = kind(word)
        except ValueError:
            continue
        if str(number) == word and number - number == 0:
            return number
    return {"true": True, "false": False}.get(word, word)


def _has(text: str, words: str) -> bool:
    """Return whether *words* stand in *text*, not in the middle of a word."""
    return re.search(rf"(?<![\w-]){re.escape(words)}(?![\w-])", text) is not None


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.lower())


# -- decomposing -------------------------------------------------------------------


class LibraryDecomposer:
    """
    The TaskDecomposer that looks in domains, then in templates, then at workers.

    Args:
        library: An object with `domains`, `templates`, `agent_types()` and `prefer`.
    """

    def __init__(self, library: Any) -> None:
        self._library = library

    def decompose(
        self,
        request: TaskRequest,
        *,
        max_steps: int = MAX_STEPS,
        max_seconds: float = MAX_SECONDS,
        without: Sequence[tuple[Any, ...]] = (),
        bounds: Any = None,
    ) -> Iterator[Decomposition | Workflow | Draft]:
        """
        Return the ways to do a request of this type.

        Args:
            request: The request.
            max_steps: The steps after which a search is given up.
            max_seconds: The seconds after which it is given up.
            without: Steps of a domain that the search must not take.
            bounds: The `PathBounds` beyond which no way is tried.

        Raises:
            PlanningError: Nobody knows how to do it.
        """
        library = self._library
        domain = self.domain_of(request)
        if domain is not None:
            yield from domain.decompositions(
                *task_of(domain, request),
                max_steps=max_steps,
                max_seconds=max_seconds,
                prefer=library.prefer,
                without=without,
                bounds=bounds,
            )
            return
        template = library.templates.get(request.type)
        if template is not None:
            yield template.make(request)
            return
        types = library.types()
        if request.type in types:
            workflow = Workflow(_word(request.id))
            args = request.context.get("args")
            payload = dict(request.context) if args is None else args
            workflow.add(Task(request.type, payload, id=_word(request.type)))
            yield workflow
            return
        msg = f"nobody knows how to do {request.type!r}{guess(request.type, types)}"
        hint = f"known are {', '.join(types) or 'none'}: make a domain, or a template"
        raise PlanningError(msg, hint=hint)

    def domain_of(self, request: TaskRequest) -> Domain | None:
        """Return the domain that has the task of a request; None: there is none."""
        domains = self._library.domains.values()
        return next((each for each in domains if request.type in each.tasks), None)


def task_of(
    domain: Domain, request: TaskRequest
) -> tuple[tuple[Any, ...], Mapping[Any, Any]]:
    """
    Return the task of a domain that a request asks for, and the state before it.

    Raises:
        InvalidTaskError: Its context has something else.
        PlanningError: Nothing takes its arguments.
    """
    context = request.context
    named = {n: v for n, v in context.items() if n not in {"args", "state"}}
    args = context.get("args", ())
    if "args" not in context:
        args = _args_of(domain.functions(request.type), request.type, named)
        named = {}
    if named:
        msg = "the context of a task of a domain has args and state, not "
        raise InvalidTaskError(msg + ", ".join(sorted(map(repr, named))))
    if isinstance(args, str) or not isinstance(args, Sequence):
        msg = f"context['args'] is a list of arguments, not {show(args)}"
        raise InvalidTaskError(msg)
    state = context.get("state", {})
    if not isinstance(state, Mapping):
        msg = f"context['state'] is a mapping, not {show(state)}"
        raise InvalidTaskError(msg)
    task = (request.type, *map(_frozen, args))
    return task, {_frozen(name): value for name, value in state.items()}


def _args_of(
    functions: Iterable[Callable[..., Any]], name: str, named: Mapping[str, Any]
) -> list[Any]:
    """
    Return the arguments of a task, by their names in its operator or a method.

    Raises:
        PlanningError: None of these takes them.
    """
    takes: list[str] = []
    for fn in functions:
        signature = inspect.signature(fn)
        names = [*signature.parameters]
        try:
            bound = signature.bind(None, **named)
        except TypeError:
            takes.append(", ".join(names[1:]) or "nothing")
            continue
        # Only defaults before the last given argument are passed; the function knows
        # the rest.
        last = max((names.index(each) for each in bound.arguments), default=0)
        bound.apply_defaults()
        if not bound.kwargs:
            return list(bound.args[1 : last + 1])
    msg = f"{name!r} takes {' or '.join(dict.fromkeys(takes))}, "
    msg += f"not {', '.join(named) or 'nothing'}"
    hint = "say each as name=value in a text, or context={'args': […]} in their order"
    raise PlanningError(msg, hint=hint)


def _frozen(value: Any) -> Any:
    """Return lists as tuples, so that arguments can be compared and hashed."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    """Return tuples as lists, so that a task can be written as JSON."""
    return [*map(_thawed, value)] if isinstance(value, tuple) else value


def _word(name: str) -> str:
    word = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    return word or "plan"


# -- resolving ---------------------------------------------------------------------


class InterferenceResolver:
    """The DependencyResolver by which readers of a variable wait for its writers."""

    def resolve(self, found: Any, request: TaskRequest) -> Draft:
        """
        The tasks of *found*, a decomposition, a workflow or a draft.

        Raises:
            PlanningError: It is none of these.
        """
        if isinstance(found, Draft):
            return found
        if isinstance(found, Workflow):
            return Draft(found)
        if not isinstance(found, Decomposition):
            msg = f"a decomposer gave {show(found)}: no decomposition and no workflow"
            raise PlanningError(msg)
        workflow = Workflow(_word(request.id))
        ids: list[str] = []
        reasons: dict[tuple[str, str], str] = {}
        costs: dict[str, float] = {}
        counts: dict[str, int] = {}
        for step, needs in zip(found.steps, interference(found.steps), strict=True):
            operator = step.operator
            stem = _word("-".join([operator.name, *_words(step.args)]))[:60]
            name = unused(stem, workflow, counts)
            options: dict[str, Any] = {
                "id": name,
                "type": operator.name,
                "after": [ids[other] for other in needs],
                "resources": operator.resources,
                "requires": operator.requires,
                "expected": step_seconds(operator, step.args),
            }
            if operator.run is None:
                workflow.add(Task(payload=_thawed(step.args), **options))
            else:
                del options["requires"]
                workflow.add(Task.call(operator.run, *_thawed(step.args), **options))
            reasons |= {(name, ids[other]): why for other, why in needs.items()}
            costs[name] = step_cost(operator, step.args)
            ids.append(name)
        return Draft(workflow, reasons, costs, found.choices)


def _words(args: Iterable[Any]) -> list[str]:
    return [str(a) for a in args if isinstance(a, str | int) and str(a)]


# -- putting in order --------------------------------------------------------------


class SearchOptimizer:
    """
    The PlanOptimizer that searches by itself, and asks CP-SAT if that is installed.

    Args:
        solver: Whether CP-SAT is asked; None: if `ortools` is installed.

    Raises:
        PlanningError: *solver* is True, and it is not installed.
    """

    #: The share of the time that it searches by itself before it asks CP-SAT.
    _OWN = 0.3

    def __init__(self, *, solver: bool | None = None) -> None:
        if solver and not _solver.is_there():
            msg = "CP-SAT needs ortools, which is not installed"
            hint = "pip install 'taskorch[planner]'; there is none for Python 3.15 yet"
            raise PlanningError(msg, hint=hint)
        self.solver = solver

    def optimize(
        self,
        problem: Problem,
        seconds: float,
        seed: int,
        rules: Sequence[str] | None = None,
    ) -> tuple[Schedule, int]:
        """Return the best schedule found in *seconds*, and a bound that none beats."""
        if problem.lengths is not None:
            return improve_workers(problem, seconds, seed)
        asks = _solver.is_there() if self.solver is None else self.solver
        asks = asks and seconds * (1 - self._OWN) >= _solver.LEAST_SECONDS
        own = seconds * self._OWN if asks else seconds
        best, bound = best_order(problem, own, seed, rules=rules)
        if not asks or best.makespan <= bound:
            return best, bound
        # The solver runs in a thread beside this search, on another core if there is
        # one.
        solved: list[Schedule] = []
        done = threading.Event()

        def solve() -> None:
            try:
                answer = _solver.solve(problem, seconds - own, best, seed)
                solved.extend([] if answer is None else [answer[0]])
                if answer is not None and answer[1]:
                    done.set()
            finally:
                ended.set()

        ended = threading.Event()
        threading.Thread(target=solve, name="taskorch-solver", daemon=True).start()
        ours, _ = best_order(
            problem, seconds - own, seed + 1, begin=best, stop=done.is_set
        )
        ended.wait(seconds + 1)
        return min([ours, *solved], key=lambda each: each.makespan), bound


# -- validating --------------------------------------------------------------------


class SimulatedValidator:
    """
    The PlanValidator that carries a plan out in virtual time.

    Args:
        planner: The planner of the orchestrator, which runs the simulation.
    """

    def __init__(self, planner: Any) -> None:
        self._planner = planner

    def validate(self, plan: ExecutionPlan) -> ValidationResult:
        """Return the faults of a plan here and now, with the cause of each."""
        findings, makespan = self._planner.look(plan)
        ok = not any(each.is_fatal for each in findings)
        return ValidationResult(ok, tuple(findings), makespan)
