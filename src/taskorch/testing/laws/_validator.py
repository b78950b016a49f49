"""Whether a Validator keeps its laws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import combinations, product
from typing import Any, Final, TypeAlias

import attrs

from taskorch.kit.described import Form
from taskorch.model import OPTIONS, Cache, Resources, RetryPolicy, Task
from taskorch.protocols import Finding, Validator, Verdict
from taskorch.testing.laws._case import (
    Case,
    LawViolation,
    brief,
    cases,
    maker,
)
from taskorch.testing.laws._worlds import (
    QuestionWorld,
    Tasks,
    some_world,
    task_source,
    worker_source,
)

#: A place where a task can be changed: a field, or a key of its payload or metadata.
_Place: TypeAlias = tuple[str, ...]
_Change: TypeAlias = tuple[_Place, Any]

_ABSENT: Final = object()
#: The value that is put under a key, to see whether the validator objects.
_STRANGE: Final[tuple[Any, ...]] = (
    _ABSENT,
    None,
    "",
    "x",
    "../x",
    -1,
    0,
    7,
    10**13,
    [],
    ["x"],
    {},
)
#: Values for an option of each form, some of them well formed.
_OF_FORM: Final[dict[Form, tuple[Any, ...]]] = {
    "type": ("", " x", "work", "other"),
    "priority": ("high", 10**9, 0, 3, -3),
    "names": ("gpu", ("",), None, (), ("gpu",)),
    "paths": ("src", ("../x",), None, (), ("src/**",)),
    "resources": ({"cpu": 1}, Resources(), Resources(cpu=1), Resources(cpu=1e9)),
    "duration": (-1, "soon", None, 5.0, 1e6),
    "duration_or_zero": (-1, "soon", None, 0, 5.0),
    "moment": (-1, datetime(2100, 1, 1), None, 100.0, 1e6),  # noqa: DTZ001 - a fault
    "moment_or_zero": (-1, "now", None, 0, 10.0),
    "retry": ("3", RetryPolicy(), RetryPolicy(2), RetryPolicy(1_000)),
    "key": ("", 5, None, "key-1"),
    "flag": ("yes", True, False),
    "name": ("", 5, None, "ann", "bob"),
    "cache": ("yes", None, Cache(), Cache(expires=5)),
    "values": (5, None, {}, {"a": 1}),
}
#: Values for each field.
_FIELDS: Final[dict[str, tuple[Any, ...]]] = {
    "payload": (None, "", "x", 7, [], {}),
    **{n: _OF_FORM[each.form] for n, each in OPTIONS.items() if each.form in _OF_FORM},
}
#: For one task: the number of changed fields, beside all keys of payload and metadata;
#: of values at each place; and of pairs of places that are combined.
_MOST_FIELDS: Final = 4
_MOST_VALUES: Final = 8
_MOST_PAIRS: Final = 4
#: An accepted task is shown again so often before law 1 counts as broken.
_TIMES: Final = 30


def check_validator(
    validator: Validator | Callable[[], Validator],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
) -> None:
    """
    Check the laws of Validator.

    How the laws are seen:

    - 1: in a task that is accepted, fields and keys of payload and metadata are
      replaced one at a time by values that other tasks have there, and by strange ones.
      Refused values of two independent places are combined: each is refused with the
      same findings whatever accepted value the other place has. If of all such values
      of two places none are both named, the law is broken. So it takes tasks that are
      accepted and in which several values would
      be: where the validator knows only tasks of yours, give some as *tasks*. An error
      over a replaced value is ignored; such a task might never reach it.
    - 2: a task is shown again at once, and once more later, when all else has changed.

    Args:
        validator: The validator, or what makes one.
        seed: The seed of the questions.
        examples: How many tasks, each with dozens of replacements.
        tasks: Tasks to ask about, or what makes one of a `random.Random`.

    Raises:
        LawViolation: A law is broken.
        ValueError: It accepted none of the tasks, so laws 1 and 2 cannot be seen.
    """
    make, draw = maker(validator, Validator), task_source(tasks)
    draw_workers = worker_source(None)
    accepted = 0
    for case in cases(Validator, "check_validator", seed, examples, 3):
        asked = make()
        world = some_world(case.random, draw, draw_workers)
        with case.chance(1):
            verdict = _ask(case, asked, world)
        if not verdict.accepted:
            continue
        accepted += 1
        later = some_world(case.random, draw, draw_workers)
        for then in (world, attrs.evolve(later, task=world.task)):
            with case.chance(2):
                again = _ask(case, asked, then)
            did = f"It accepted {brief(world.task)}, and then answered {brief(again)}."
            case.expect(again.accepted, 2, did)
        with case.chance(3):
            _FaultSearch(
                case, asked, world, [draw(case.random) for _ in range(3)]
            ).check()
    if not accepted:
        msg = f"none of {examples:,} tasks was accepted: give some that are, as tasks="
        raise ValueError(msg)


def _ask(case: Case, validator: Validator, world: QuestionWorld) -> Verdict:
    verdict = case.ask(
        validator.validate, Verdict, task=world.task, context=world.context()
    )
    case.form(verdict, findings=tuple | list, reusable=bool | type)
    for finding in verdict.findings:
        if not isinstance(finding, Finding):
            case.malformed(Verdict, verdict)
        case.form(finding, path=str, message=str)
    return verdict


@attrs.frozen
class _Fault:
    """A change with which a task is refused, and the findings."""

    change: _Change
    found: frozenset[Finding]

    def __str__(self) -> str:
        place, value = self.change
        shown = "absent" if value is _ABSENT else brief(value)
        return f"{'.'.join(map(str, place))} {shown}"


class _FaultSearch:
    """A search for two faults of which only one is named."""

    def __init__(
        self, case: Case, validator: Validator, world: QuestionWorld, others: list[Task]
    ) -> None:
        self._case = case
        self._validator = validator
        self._world = world
        self._others = others
        #: The accepted values, and the refused ones, by place.
        self._fine: dict[_Place, list[Any]] = {}
        self._refused: dict[_Place, list[_Fault]] = {}

    def check(self) -> None:
        """Combine the faults of some places, two at a time."""
        for place in self._places():
            self._try(place)
        pairs = [
            (one, other)
            for one, other in combinations(self._refused, 2)
            # A field and a key of it are not independent.
            if one[0] != other[0] or len(one) == len(other)
        ]
        self._case.random.shuffle(pairs)
        for one, other in pairs[:_MOST_PAIRS]:
            self._combine(one, other)

    def _places(self) -> list[_Place]:
        task, random = self._world.task, self._case.random
        fields = random.sample(sorted(_FIELDS), _MOST_FIELDS)
        keys = [
            (field, key)
            for field in ("payload", "metadata")
            for key in _mapping(getattr(task, field))
        ]
        return [*((field,) for field in fields), *keys]

    def _try(self, place: _Place) -> None:
        values = list(self._values(place))
        count = min(len(values), _MOST_VALUES)
        for value in self._case.random.sample(values, count):
            findings = self._found((place, value))
            if findings:
                fault = _Fault((place, value), findings)
                self._refused.setdefault(place, []).append(fault)
            elif findings is not None:
                self._fine.setdefault(place, []).append(value)

    def _values(self, place: _Place) -> Iterator[Any]:
        if len(place) == 1:
            yield from _FIELDS[place[0]]
        else:
            yield from _STRANGE
        for task in self._others:
            value = getattr(task, place[0])
            if len(place) == 1:
                yield value
            elif place[1] in _mapping(value):
                yield value[place[1]]

    def _combine(self, one: _Place, other: _Place) -> None:
        """Combine the faults of two places until both are named."""
        unnamed = ""
        for a, b in product(self._standing(one, other), self._standing(other, one)):
            both = self._found(a.change, b.change)
            if both is None:
                continue
            if _names(both, a, b) and _names(both, b, a):
                return
            unnamed = (
                f"Of {a} it says {brief([*a.found])}, of {b} {brief([*b.found])}, and "
                f"of a task with both {brief([*both])}."
            )
        if unnamed:
            self._check_steady()
            self._case.fail(1, unnamed)

    def _check_steady(self) -> None:
        """Check law 2 first: a random validator may seem to break law 1."""
        for _ in range(_TIMES):
            if self._found():
                did = f"It accepted {brief(self._world.task)}, and later did not."
                self._case.fail(2, did)

    def _standing(self, place: _Place, other: _Place) -> list[_Fault]:
        """Faults that are there whatever accepted value the *other* place has."""
        fine = self._fine.get(other, [])
        return [
            fault
            for fault in self._refused[place]
            if fine
            and all(
                self._found(fault.change, (other, value)) == fault.found
                for value in fine
            )
        ]

    def _found(self, *changes: _Change) -> frozenset[Finding] | None:
        """Return the findings after *changes*; None if the validator raised."""
        task = self._world.task
        for place, value in changes:
            task = _replaced(task, place, value)
        try:
            verdict = _ask(
                self._case, self._validator, attrs.evolve(self._world, task=task)
            )
        except LawViolation:
            raise
        except Exception:  # noqa: BLE001 - see the law: it might never be asked
            return None
        return frozenset(verdict.findings)


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _replaced(task: Task, place: _Place, value: Any) -> Task:
    field, *keys = place
    if keys:
        (key,) = keys
        rest = {**getattr(task, field), key: value}
        if value is _ABSENT:
            del rest[key]
        value = rest
    return attrs.evolve(task, **{field: value})


def _names(both: frozenset[Finding], fault: _Fault, beside: _Fault) -> bool:
    """Return whether *both* contains the findings of *fault* beside another."""
    paths = {finding.path for finding in both}
    if any(finding.path not in paths for finding in fault.found):
        return False
    return both != beside.found or fault.found <= beside.found
