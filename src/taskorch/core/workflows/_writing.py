"""Writing of tasks as documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final

import attrs

from taskorch.core.workflows._documents import (
    MAX_SHOWN,
    RESULT,
    CacheEntry,
    Functions,
    RetryEntry,
    plain,
)
from taskorch.core.workflows._phases import Approval, PhaseRules, approval_of, gate_of
from taskorch.core.workflows._steps import gathered, mapped, reduced
from taskorch.errors import InvalidTaskError
from taskorch.kit.described import Form, declared
from taskorch.kit.forms import keys_of
from taskorch.kit.visible import show
from taskorch.model import (
    DEFAULT_ENV,
    NO_RETRY,
    OPTIONS,
    RAISE,
    AtLeast,
    Cache,
    Call,
    Elastic,
    Join,
    Program,
    Question,
    Reference,
    Resources,
    RetryPolicy,
    Task,
    Wait,
    call_type,
    to_question,
)


def write(
    name: str,
    phases: Mapping[str, PhaseRules],
    tasks: Mapping[str, Task],
    dependencies: Mapping[str, Sequence[str]],
    functions: Functions,
) -> dict[str, Any]:
    """
    Return the document of a workflow.

    Raises:
        InvalidTaskError: A document cannot represent a part of a task, or of a phase.
    """
    phase_of = {task_id: phase for phase in phases.values() for task_id in phase.tasks}
    ends = {end for phase in phases for end in (gate_of(phase), approval_of(phase))}
    documents: dict[str, Any] = {}
    for task_id, each in tasks.items():
        if task_id in ends:
            continue
        task, after = each, list(dependencies[task_id])
        phase = phase_of.get(task_id)
        if phase is not None:
            # Leave out the consequences of the phase: the document has these once,
            # there.
            after, task = _within(phase, after, task)
        with _refusing(f"task {task_id!r} cannot be written down", task_id):
            task_document = _written(task, after, functions)
        documents[task_id] = (
            task_document if phase is None else {"phase": phase.name, **task_document}
        )
    document: dict[str, Any] = {"workflow": name}
    if phases:
        document["phases"] = {
            phase.name: _written_phase(phase, functions) for phase in phases.values()
        }
    return {**document, "tasks": documents}


def write_task(
    task: Task, after: Iterable[str], functions: Functions
) -> dict[str, Any]:
    """
    Return the document of a task by itself.

    Raises:
        InvalidTaskError: A document cannot represent it.
    """
    with _refusing("the task cannot be written down", task.id):
        document = _written(attrs.evolve(task, after=()), after, functions)
    own = {"id": task.id, "idempotency_key": task.idempotency_key}
    return {
        **document,
        **{name: text for name, text in own.items() if text is not None},
    }


def _within(phase: PhaseRules, after: list[str], task: Task) -> tuple[list[str], Task]:
    before = phase.before
    if before is not None and before.end_id in after:
        after.remove(before.end_id)
        if phase.can_be_skipped and task.on_parent_failure == "skip":
            task = attrs.evolve(task, on_parent_failure="block")
    return after, task


def _written_phase(phase: PhaseRules, functions: Functions) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if phase.max_parallel is not None:
        document["max_parallel"] = phase.max_parallel
    checks: list[dict[str, Any]] = []
    for check in phase.checks:
        if isinstance(check, Approval):
            checks.append({"approval": _written_approval(check)})
        elif callable(check):
            with _refusing(f"phase {phase.name!r} cannot be written down"):
                checks.append({"call": _name_of(check, functions)})
        else:
            checks.append({"file": str(check)})
    if checks:
        document["gate"] = checks
    if phase.gate_timeout is not None:
        document["gate_timeout"] = phase.gate_timeout
    if phase.on_failure != "stop":
        document["on_failure"] = phase.on_failure
    return document


def _written_approval(check: Approval) -> Any:
    if not check.has_rules:
        return check.timeout
    asked = check.question("it")
    rules = {
        "timeout": check.timeout,
        "who": None if asked.who is None else list(asked.who),
        "quorum": check.quorum,
        "not_by": list(asked.not_by),
        "remind": check.remind,
    }
    usual = {"quorum": 1, "not_by": []}
    return {name: each for name, each in rules.items() if each != usual.get(name)}


def write_work(task: Task) -> dict[str, Any]:
    """
    Return the work of *task*, which calls nothing: its type and its payload or program.

    Raises:
        InvalidTaskError: JSON cannot represent it.
    """
    with _refusing(f"task {task.id} cannot be sent", task.id):
        if isinstance(task.payload, Program):
            # The worker can enforce `writes` only if the document contains it.
            writes = task.payload.writes
            work = _written_program(attrs.evolve(task.payload, writes=None))
            if writes is not None:
                work["writes"] = _value("writes", list(writes))
        else:
            work = {"payload": _value("payload", task.payload)}
    return {"type": task.type, **work}


class _UnsayableError(Exception):
    """A value that a document cannot represent."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


@contextmanager
def _refusing(subject: str, task_id: str | None = None) -> Iterator[None]:
    """
    Refuse *subject* if the block raises, for its reason.

    Raises:
        InvalidTaskError: A document cannot represent it.
    """
    try:
        yield
    except _UnsayableError as error:
        msg = f"{subject}: {error.args[0]}"
        raise InvalidTaskError(msg, hint=error.hint, task_id=task_id) from None


def _written(task: Task, after: Iterable[str], functions: Functions) -> dict[str, Any]:
    if task.after != ():
        msg = "it waits for tasks outside of the workflow"
        raise _UnsayableError(msg)
    payload = task.payload
    implied: set[str] = set()
    document: dict[str, Any]
    if isinstance(payload, Call):
        document, usual = _written_call(payload, functions, implied)
    elif isinstance(payload, Program):
        document = _written_program(payload)
        usual = "program"
    elif isinstance(payload, Question):
        document = _written_question(payload, task.owner)
        usual = "question"
    elif isinstance(payload, Wait):
        document = _written_wait(payload)
        usual = "wait"
    else:
        document = {"type": task.type}
        usual = task.type
        if payload is not None:
            document["payload"] = _value("payload", payload)
    noted = _declared_of(payload)
    if task.type != noted.get("type", usual):
        document["type"] = task.type
    others = [parent for parent in after if parent not in implied]
    if others:
        document["after"] = others
    return document | _usual_despite(task, noted) | _written_options(task)


def _written_wait(payload: Wait) -> dict[str, Any]:
    document: dict[str, Any] = {"wait_for": payload.event}
    if payload.timeout is not None:
        document["timeout"] = payload.timeout
    if payload.default is not RAISE:
        document["default"] = _value("default", payload.default)
    return document


def _written_question(asked: Question, tenant: str | None) -> dict[str, Any]:
    usual = to_question(asked.text, options=asked.options)
    document: dict[str, Any] = {"question": asked.text}
    if asked.options != to_question(asked.text).options:
        document["options"] = list(asked.options)
    for name in ("no", "who", "quorum", "not_by", "remind", "details"):
        value = getattr(asked, name)
        if value != getattr(usual, name):
            value = list(value) if isinstance(value, tuple) else value
            document[name] = _value(name, value)
    if asked.asked_by not in (None, tenant):
        document["asked_by"] = asked.asked_by
    if asked.timeout is not None:
        document["due"] = asked.timeout
    if asked.default is not RAISE:
        document["default"] = asked.default.choice
    return document


def _declared_of(payload: object) -> Mapping[str, Any]:
    """Return the options that a task takes from its function when it is read."""
    if not isinstance(payload, Call):
        return {}
    fn = payload.args[0].fn if payload.fn is reduced else payload.fn
    noted = declared(fn)
    return {} if noted is None else noted.options


def _usual_despite(task: Task, noted: Iterable[str]) -> dict[str, Any]:
    """
    Return usual values of *task* that differ from those *noted* by `@taskorch.task`.

    Raises:
        _UnsayableError: A document cannot represent one.
    """
    options: dict[str, Any] = {}
    for name in noted:
        usual = OPTIONS[name].default
        if name == "type" or getattr(task, name) != usual:
            continue
        if usual is None:
            text = f"it has no {name}, which @task gives to its function"
            raise _UnsayableError(text, "a function without @task can be called so")
        options[name] = _WRITTEN[name](usual)
    return options


def _written_join(join: Join) -> Any:
    if isinstance(join, AtLeast):
        return {"at_least": join.count}
    if not isinstance(join, str):
        msg = "its join is a function"
        raise _UnsayableError(msg)
    return join


def _written_resources(resources: Resources) -> dict[str, Any]:
    amounts = dict(resources)
    if not isinstance(resources, Elastic):
        return amounts
    document: dict[str, Any] = {"elastic": amounts}
    if resources.min:
        document["min"] = dict(resources.min)
    if resources.weight != 1:
        document["weight"] = resources.weight
    if resources.fallback != "best_effort":
        document["fallback"] = resources.fallback
    return document


def _written_options(task: Task) -> dict[str, Any]:
    values = {name: getattr(task, name) for name in _WRITTEN}
    return {
        name: _WRITTEN[name](value)
        for name, value in values.items()
        if value != OPTIONS[name].default
    }


def _as_it_is(value: Any) -> Any:
    return value


def _written_moment(value: float | datetime) -> float | str:
    return value.isoformat() if isinstance(value, datetime) else value


def _unusual(value: object, usual: object, cls: type) -> dict[str, Any]:
    """Return the values of *value* that differ from *usual*, by keys of *cls*."""
    values = {
        name: (getattr(value, each.field), getattr(usual, each.field))
        for name, each in keys_of(cls).items()
    }
    return {name: mine for name, (mine, its) in values.items() if mine != its}


def _written_cache(cache: Cache) -> dict[str, Any] | bool:
    document = _unusual(cache, Cache(), CacheEntry)
    if cache.ignore:
        document["ignore"] = sorted(cache.ignore)
    return document or True


def _written_retry(policy: RetryPolicy) -> dict[str, Any]:
    if not isinstance(policy.wait, str):
        msg = "retry.wait is a strategy of its own"
        raise _UnsayableError(msg)
    if policy.retry_on is not NO_RETRY.retry_on:
        msg = "retry.retry_on is not the usual one"
        raise _UnsayableError(msg)
    if policy.retry_if_result is not None:
        msg = "retry.retry_if_result is a function"
        raise _UnsayableError(msg)
    document = _unusual(policy, NO_RETRY, RetryEntry)
    if policy.delays is not None:
        document["delays"] = list(policy.delays)
    return document


def _name_of(fn: object, functions: Functions) -> str:
    name = next((name for name, function in functions.items() if function == fn), None)
    if name is None:
        text = f"{show(fn, MAX_SHOWN)} has no name"
        raise _UnsayableError(text, "give it a name: functions={'name': function}")
    return name


def _written_call(
    call: Call, functions: Functions, implied: set[str]
) -> tuple[dict[str, Any], str]:
    """Return the document of a call, and its type by default."""
    args = call.args
    if call.fn is gathered:
        parts = [part.task_id for part in args[0]]
        implied.update(parts)
        return {"gather": parts}, "gather"
    document: dict[str, Any]
    if call.fn is reduced:
        document = {"reduce": _name_of(args[0].fn, functions)}
        document["over"] = _argument("over", args[1], implied)
        if args[2:]:
            document["start"] = _argument("start", args[2], implied)
        return document, "reduce"
    if call.fn is mapped:
        return _written_map(call, functions, implied), "map"
    document = {"call": _name_of(call.fn, functions)}
    if args:
        document["args"] = [
            _argument(f"args[{i}]", arg, implied) for i, arg in enumerate(args)
        ]
    if call.kwargs:
        document["kwargs"] = {
            key: _argument(f"kwargs.{key}", arg, implied)
            for key, arg in call.kwargs.items()
        }
    if call.executor is not None:
        document["executor"] = call.executor
    return document, call_type(call.fn)


def _written_map(call: Call, functions: Functions, implied: set[str]) -> dict[str, Any]:
    each, over, options, max_parallel, *allowed = call.args
    document = {
        "map": _name_of(each.fn, functions),
        "over": _argument("over", over, implied),
    }
    if max_parallel is not None:
        document["max_parallel"] = max_parallel
    if allowed:
        document["allow_failures"] = allowed[0]
    if "type" in options:
        document["type"] = options["type"]
    task = Task(**{"type": "", **options})
    back = _usual_despite(task, set(_declared_of(each)).intersection(options))
    return document | back | _written_options(task)


def _argument(where: str, arg: Any, implied: set[str]) -> Any:
    """Return the document of an argument; add the tasks in it to *implied*."""
    if type(arg) is list:
        return [_single(f"{where}[{i}]", item, implied) for i, item in enumerate(arg)]
    return _single(where, arg, implied)


def _single(where: str, arg: Any, implied: set[str]) -> Any:
    if type(arg) is Reference:
        implied.add(arg.task_id)
        return {RESULT: arg.task_id}
    if type(arg) is dict and RESULT in arg:
        text = f"{where} has the name {RESULT!r}, which means another task"
        raise _UnsayableError(text)
    return _value(where, arg, 1)


def _written_program(program: Program) -> dict[str, Any]:
    args: list[Any] = list(program.args)
    document: dict[str, Any] = {"program": _value("program", args)}
    if program.env:
        document["env"] = dict(program.env)
    if program.inherit_env is True:
        document["inherit_env"] = True
    elif names := sorted(frozenset(program.inherit_env) - DEFAULT_ENV):
        document["inherit_env"] = names
    if program.limits:
        document["limits"] = dict(program.limits)
    reads = None if program.reads is None else list(program.reads)
    values = {"reads": reads, **{name: getattr(program, name) for name in _SAID}}
    for name, value in values.items():
        if value is not None:
            document[name] = _value(name, value)
    if not program.check:
        document["check"] = False
    for name, text in _UNSAID.items():
        if getattr(program, name):
            raise _UnsayableError(text)
    return document


#: Attributes of a program that a document copies, unless they are None.
_SAID: Final = ("cwd", "log", "pid_file", "stdin", "network", "enforce")
#: Attributes that it cannot represent.
_UNSAID: Final = {
    "pass_fds": "a program gets open files (pass_fds), which a document cannot say",
    "writes": "a program says what it writes, which in a document its task says",
}


def _value(where: str, value: object, depth: int = 0) -> Any:
    findings: list[tuple[str, str]] = []
    copy = plain(where, value, findings, depth, exact=True)
    if findings:
        raise _UnsayableError(": ".join(findings[0]))
    return copy


#: Functions that write a value of each form.
_WRITE: Final[dict[Form, Callable[[Any], Any]]] = {
    **dict.fromkeys(("name", "on_parent_failure", "priority", "flag"), _as_it_is),
    **dict.fromkeys(("duration", "duration_or_zero"), _as_it_is),
    **dict.fromkeys(("moment", "moment_or_zero"), _written_moment),
    "join": _written_join,
    "names": sorted,
    "paths": list,
    "resources": _written_resources,
    "retry": _written_retry,
    "cache": _written_cache,
}
#: The options of all tasks, with their types.
_WRITTEN: Final = {
    name: partial(_value, name) if each.form == "values" else _WRITE[each.form]
    for name, each in OPTIONS.items()
    if each.place == "function" and name != "type"
}
