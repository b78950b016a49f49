"""Faults of a task, all at once."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Final, TypeAlias, cast

from taskorch.errors import InvalidTaskError, ValidationFailedError
from taskorch.kit.checks import check_seconds
from taskorch.kit.described import Form
from taskorch.kit.fence import is_values
from taskorch.kit.limits import MAX_ID_LENGTH, MAX_PRIORITY, MAX_UNITS
from taskorch.kit.members import has
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import meant
from taskorch.model import (
    JOINS,
    ON_PARENT_FAILURE,
    OPTIONS,
    AtLeast,
    Cache,
    Call,
    Program,
    Resources,
    RetryPolicy,
    Task,
    Wait,
    is_plain,
)
from taskorch.model.ids import has_number, id_problem
from taskorch.model.scopes import above_of, prefix_of, scope_problem
from taskorch.protocols import Context, Finding, Validator, Verdict
from taskorch.protocols._optional import check_policy
from taskorch.protocols._policies import trusted

#: The longest type or capability, in characters: more than any qualified name.
_MAX_NAME: Final = 500
#: The longest idempotency key: it stays in memory after its task has left.
_MAX_KEY: Final = MAX_ID_LENGTH
#: The most characters of a value that a message shows.
_MAX_SHOWN: Final = 80
#: The end of the id of a re-run.
_RERUN: Final = r"~[1-9][0-9]*\Z"

Moment: TypeAlias = float | datetime

_ACCEPTED: Final = Verdict()


class StructuralValidator:
    """
    Validator that checks the form of a task: types, ranges and contradictions.

    Every fault is a finding, and all are found at once. Other questions are left to the
    orchestrator: whether a dependency exists, whether a worker can do it, whether a
    payload can be stored, whether a date has passed.

    The verdict holds for all tasks of a kind if the task was accepted and has no option
    of its own, such as an `id` or a `deadline`. The payload of a later one is then not
    checked: a `Program` has checked itself, and a `Call` with a fault fails when it is
    run.

    The rules, beside those of the options in `Task`:

    - `type` and the members of `requires` are printable, not longer than 500
      characters, and have no space at either end;
    - `id` is a safe path without "~", which only re-runs have;
    - `after` and `requires` are lists, or anything else that can be read twice; an id
      in `after` may be that of a re-run;
    - `writes` is such a list of paths below the folder of the project, in which no
      folder before the first wildcard is a link: name where the link leads;
    - `requires`, `writes` and `resources` have at most 1,000 members each;
    - `join` is one of its words, an `AtLeast` or a plain function;
      `on_parent_failure` is one of its words;
    - `priority` is between -1,000,000 and 1,000,000;
    - durations are more than 0 seconds (`not_before`: 0 or more) and no longer than a
      hundred years; dates have a time zone; `deadline` is later than `not_before`,
      where both are numbers or both are dates;
    - `idempotency_key` is printable and not longer than 200 characters;
    - a `Call` can be called, with a tuple of arguments and a mapping of names to
      others.
    """

    def validate(self, task: Task, context: Context) -> Verdict:
        """Return the faults in the form of *task*, if there are any."""
        findings = findings_of(task)
        if findings:
            return Verdict(tuple(findings))
        return _ALL_ACCEPTED if is_plain(task) else _ACCEPTED

    def check(self, task: Task) -> None:
        """
        Check the form of *task*, without a validator of the user.

        Raises:
            ValidationFailedError: It is not well formed.
        """
        findings = tuple((f.path, f.message) for f in findings_of(task))
        if findings:
            lines = "; ".join(f"{path}: {message}" for path, message in findings)
            name = f"task {task.id!r}" if task.id else f"a task of type {task.type!r}"
            msg = f"{name} is not well formed: {lines}"
            raise ValidationFailedError(msg, findings=findings, task_id=task.id)

    def __repr__(self) -> str:
        return "StructuralValidator()"


_ALL_ACCEPTED: Final = Verdict(reusable=StructuralValidator)


class ValidatorChain:
    """
    Validator that asks several others, and returns all their findings, in order.

    Each is asked regardless of the others' findings, so none can rely on those before
    it. The verdict holds for all like tasks if each one's does; an empty chain accepts
    all.

    Args:
        validators: The validators to ask.

    Raises:
        InvalidTaskError: One of *validators* has no method `validate`, or one with
            other arguments.
    """

    def __init__(self, *validators: Validator) -> None:
        for validator in validators:
            _check_validator(validator)
        self.validators = validators
        #: See `AsksOthers`.
        self.asks: tuple[Validator, ...] = validators

    def validate(self, task: Task, context: Context) -> Verdict:
        """Return the faults of *task* that any of the validators finds."""
        verdicts = [each.validate(task, context) for each in self.validators]
        hold = all(
            verdict.reusable in trusted(each, "validate")
            for each, verdict in zip(self.validators, verdicts, strict=True)
        )
        return Verdict(
            tuple(finding for verdict in verdicts for finding in verdict.findings),
            reusable=hold and ValidatorChain,
        )

    def __repr__(self) -> str:
        return f"ValidatorChain({', '.join(map(repr, self.validators))})"


def _check_validator(value: object) -> None:
    if isinstance(value, type) or not has(value, Validator):
        msg = f"a validator is an object with a method `validate`, not {_show(value)}"
        raise InvalidTaskError(msg)
    check_policy("validators", value, Validator)


def findings_of(task: object) -> list[Finding]:
    """Return all faults in the form of *task*."""
    if not isinstance(task, Task):
        remedy = "wrap it: Task(type, payload), or Task.call(function, …)"
        return [Finding("", f"a Task is needed, not {_kind(task)}; {remedy}")]
    findings: list[Finding] = []
    for name, usual, check in _CHECKS:
        value = getattr(task, name)
        if value is not usual:
            findings += _found(check, name, value)
    call = task.payload
    findings += _found(_payload_findings, "payload", call)
    if task.cache is not None and issubclass(type(call), Program | Wait):
        remedy = "a function that runs the program has a result to remember"
        findings.append(Finding("cache", f"it is for calls and for workers; {remedy}"))
    if task.deadline is not None and task.not_before is not None:
        findings += _order_findings(task.deadline, task.not_before)
    if task.writes is not None and not findings:
        findings += _link_findings(task.payload, [*task.writes])
    return findings


def is_own_well_formed(task: Task) -> bool:
    """
    Return whether the options that *task* has for itself alone have no fault.

    Its parents are not checked: the caller that looks them up knows better. The rest is
    the same for all tasks of its kind.
    """
    try:
        for name, usual, problem in _OWN_CHECKS:
            value = getattr(task, name)
            if value is not usual and problem(value) is not None:
                return False
    except BaseException as error:
        if not is_values(error):
            raise
        return False
    has_dates = task.deadline is not None and task.not_before is not None
    return not ((has_dates or task.cache is not None) and findings_of(task))


def _found(
    check: Callable[[str, object], list[Finding]], path: str, value: object
) -> list[Finding]:
    """Return the faults of a value, which may raise when it is read."""
    try:
        return check(path, value)
    except BaseException as error:
        if not is_values(error):
            raise
        why = f"{_show(value)} cannot be read ({type(error).__name__})"
        return [Finding(path, why)]


# --------------------------------------------------------------------- one field


def _text_problem(value: object, limit: int) -> str | None:
    if type(value) is not str and not is_text(value):
        more = "; give its value, or make it a StrEnum" * isinstance(value, Enum)
        return f"a str is needed, not {_show(value)}{more}"
    if not value or value[0].isspace() or value[-1].isspace():
        return f"{_show(value)} is empty, or has a space at one end"
    if len(value) > limit:
        return f"at most {limit} characters are allowed, this has {len(value)}"
    if not value.isprintable():
        return f"{_show(value)} has characters that cannot be printed"
    return None


def _name_problem(value: object) -> str | None:
    return _text_problem(value, _MAX_NAME)


def _type_problem(value: object) -> str | None:
    problem = _name_problem(value)
    if problem is not None and callable(value):
        return f"{problem}; a function is run by Task.call(function, …)"
    return problem


def _id_problem(value: object) -> str | None:
    problem = id_problem(value)
    if problem is not None and is_text(value) and has_number(value):
        return f"{_show(value)}: '~' is for re-runs, which the orchestrator names"
    return problem


def _priority_problem(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"a whole number is needed, not {_show(value)}"
    if not -MAX_PRIORITY <= value <= MAX_PRIORITY:
        return f"it is not between {-MAX_PRIORITY:,} and {MAX_PRIORITY:,}"
    return None


def _resources_problem(value: object) -> str | None:
    if isinstance(value, Resources):
        named = len(value.units)
        most = f"{named:,} resources, and {MAX_UNITS:,} are the most"
        return most if named > MAX_UNITS else None
    return f"Resources are needed, as in Resources(cpu=1), not {_show(value)}"


def _retry_problem(value: object) -> str | None:
    if isinstance(value, RetryPolicy):
        return None
    example = "RetryPolicy(max_attempts=3)"
    return f"a RetryPolicy is needed, as in {example}, not {_show(value)}"


def _cache_problem(value: object) -> str | None:
    if value is None or isinstance(value, Cache):
        return None
    return f"a Cache is needed, as in Cache(expires=3600), not {_show(value)}"


def _join_problem(value: object) -> str | None:
    if isinstance(value, AtLeast) or (is_text(value) and value in JOINS):
        return None
    if callable(value) and not isinstance(value, type):
        if inspect.iscoroutinefunction(value):
            return f"{_show(value)} is an async def, which nobody would await"
        return None
    words = ", ".join(map(repr, JOINS))
    text = f"{words}, AtLeast(…) or a function is needed, not {_show(value)}"
    return _with_meant(text, value, JOINS)


def _failure_problem(value: object) -> str | None:
    if is_text(value) and value in ON_PARENT_FAILURE:
        return None
    words = ", ".join(map(repr, ON_PARENT_FAILURE))
    text = f"one of {words} is needed, not {_show(value)}"
    return _with_meant(text, value, ON_PARENT_FAILURE)


def _with_meant(text: str, value: object, words: Iterable[str]) -> str:
    near = meant(value, words)
    return f"{text}: {near}" if near else text


def _flag_problem(value: object) -> str | None:
    return None if isinstance(value, bool) else f"True or False, not {_show(value)}"


def _values_problem(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return f"a mapping is needed, or None, not {_kind(value)}"
    if type(value) is not dict:
        # The mapping is copied when the task is accepted.
        dict(cast("Mapping[object, object]", value))
    return None


def _seconds_problem(value: object, *, zero: bool) -> str | None:
    try:
        check_seconds("it", value, zero=zero, none=True)
    except InvalidTaskError as error:
        return str(error).removeprefix("it: ")
    return None


def _moment_problem(value: object, *, zero: bool) -> str | None:
    if not isinstance(value, datetime):
        return _seconds_problem(value, zero=zero)
    if value.utcoffset() is None:
        return (
            f"{value} has no time zone, so nobody knows when that is; give it one, as "
            "in datetime.now(UTC) or value.astimezone()"
        )
    return None


def _show(value: object) -> str:
    return show(value, _MAX_SHOWN)


def _kind(value: object) -> str:
    # Arguments and metadata may be secret, or very long.
    return type(value).__name__


# -------------------------------------------------------------- several together


def _list_findings(
    noun: str,
    check: Callable[[object], str | None],
    path: str,
    value: object,
    most: float = math.inf,
) -> list[Finding]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return [Finding(path, f"a list of {noun} is needed, not {_show(value)}")]
    if isinstance(value, Iterator):
        return [Finding(path, f"a list of {noun} is needed: this can be read once")]
    problems = [check(item) for item in cast("Iterable[object]", value)]
    if len(problems) > most:
        return [Finding(path, f"{len(problems):,} {noun}, and {most:,} are the most")]
    if isinstance(value, Sequence):
        return [Finding(f"{path}[{i}]", p) for i, p in enumerate(problems) if p]
    # The order of a set differs from run to run.
    return [Finding(path, p) for p in sorted(filter(None, problems))]


def _dependency_problem(value: object) -> str | None:
    if is_text(value):
        return id_problem(re.sub(_RERUN, "", value))
    if isinstance(value, str):
        return id_problem(value)
    if value is None or isinstance(value, bytes | int | float):
        return f"an id, a handle or a task is needed, not {_show(value)}"
    # The orchestrator checks its own handles, and reports unknown ones.
    return None


#: The functions that find the faults of a value, by form; those with at most one fault
#: return it.
_ONE: Final[dict[Form, Callable[[object], str | None]]] = {
    "type": _type_problem,
    "id": _id_problem,
    "key": partial(_text_problem, limit=_MAX_KEY),
    "name": _name_problem,
    "join": _join_problem,
    "on_parent_failure": _failure_problem,
    "priority": _priority_problem,
    "resources": _resources_problem,
    "retry": _retry_problem,
    "duration": partial(_seconds_problem, zero=False),
    "duration_or_zero": partial(_seconds_problem, zero=True),
    "moment": partial(_moment_problem, zero=False),
    "moment_or_zero": partial(_moment_problem, zero=True),
    "flag": _flag_problem,
    "values": _values_problem,
    "cache": _cache_problem,
}


def _one_finding(
    check: Callable[[object], str | None], path: str, value: object
) -> list[Finding]:
    problem = check(value)
    return [] if problem is None else [Finding(path, problem)]


_FINDINGS: Final[dict[Form, Callable[[str, object], list[Finding]]]] = {
    **{form: partial(_one_finding, check) for form, check in _ONE.items()},
    "ids": partial(_list_findings, "ids, handles or tasks", _dependency_problem),
    "names": partial(_list_findings, "capabilities", _name_problem, most=MAX_UNITS),
    "paths": partial(_list_findings, "paths", scope_problem, most=MAX_UNITS),
}
#: For each option, its name, the value that needs no check, and the check.
_CHECKS: Final = tuple(
    (each.name, each.default, _FINDINGS[each.form]) for each in OPTIONS.values()
)
#: The same for the options that a task has for itself alone, none of which is a list.
_OWN_CHECKS: Final = tuple(
    (each.name, each.default, _ONE[each.form])
    for each in OPTIONS.values()
    if not each.kind and each.name != "after"
)


def _payload_findings(path: str, payload: object) -> list[Finding]:
    if not isinstance(payload, Call):
        return []
    fields = payload.fn, payload.args, payload.kwargs, payload.executor
    return [*_call_findings(path, *fields)]


def _call_findings(
    path: str, fn: object, args: object, kwargs: object, executor: object
) -> Iterator[Finding]:
    if not callable(fn):
        yield Finding(f"{path}.fn", f"{_show(fn)} cannot be called")
    if not isinstance(args, tuple):
        yield Finding(f"{path}.args", f"a tuple is needed, not {_kind(args)}")
    if not isinstance(kwargs, Mapping):
        yield Finding(f"{path}.kwargs", f"a mapping is needed, not {_kind(kwargs)}")
    else:
        for name in cast("Mapping[object, object]", kwargs):
            if not isinstance(name, str):
                message = f"{_show(name)} is no name of an argument"
                yield Finding(f"{path}.kwargs", message)
    if executor is not None and (problem := _name_problem(executor)) is not None:
        yield Finding(f"{path}.executor", problem)


def _link_findings(payload: object, writes: Sequence[str]) -> Iterator[Finding]:
    """
    Find paths of *writes* that lead through a link: two names would be one file.

    A folder that does not exist yet is no link; a link that is made later is not found.
    """
    from pathlib import Path  # noqa: PLC0415 - few tasks say what they write

    folder = payload.cwd if isinstance(payload, Program) else None
    for place, scope in enumerate(writes):
        for path in reversed([prefix_of(scope), *above_of(prefix_of(scope))]):
            link = Path(folder or "", path)
            if path and link.is_symlink():
                message = f"{path!r} is a link to {link.readlink()}: name that folder"
                yield Finding(f"writes[{place}]", message)
                break


def _order_findings(deadline: Moment, not_before: Moment) -> Iterator[Finding]:
    problem = _moment_problem(deadline, zero=False)
    if problem is None and _moment_problem(not_before, zero=True) is None:
        # A date cannot be compared with seconds from submission without a clock.
        if isinstance(deadline, datetime):
            late = isinstance(not_before, datetime) and deadline <= not_before
        else:
            late = not isinstance(not_before, datetime) and deadline <= not_before
        if late:
            message = f"{deadline} is not later than not_before, {not_before}"
            yield Finding("deadline", message)
