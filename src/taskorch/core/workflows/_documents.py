"""
Workflows as documents: plain lists and dicts, which JSON and YAML can represent.

A document is data. It names functions, and its reader decides which functions these
are; it can start programs only where that was allowed.

Decision: workflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from taskorch.core.workflows._parameters import TYPES
from taskorch.kit.checks import is_number
from taskorch.kit.described import Form
from taskorch.kit.forms import (
    AnyNames,
    Anything,
    DocumentOf,
    Each,
    Either,
    FaultList,
    Flag,
    Made,
    Maybe,
    Moment,
    Number,
    Text,
    ValueForm,
    field,
    keys_of,
    one_of,
)
from taskorch.kit.limits import (
    MAX_ATTEMPTS,
    MAX_PRIORITY,
    MAX_SECONDS,
    MAX_WEIGHT,
)
from taskorch.kit.located import Located
from taskorch.kit.visible import show
from taskorch.model import (
    FALLBACKS,
    JOINS,
    ON_PARENT_FAILURE,
    AtLeast,
    Cache,
    Elastic,
    Resources,
    RetryPolicy,
)

#: The key of a placeholder for the result of another task.
RESULT: Final = "$result"
#: The rule for missed times, and for a time while the last run goes on.
CATCH_UP: Final = ("last", "all", "none")
OVERLAP: Final = ("skip", "queue", "cancel")
#: The most characters of a value that a message shows.
MAX_SHOWN: Final = 80
#: How deep a value may be nested.
_MAX_DEPTH: Final = 50

_COUNT: Final = Number(least=1, is_whole=True)
_SECONDS: Final = Maybe(Number(most=MAX_SECONDS, is_above=True))
_NAMES: Final = Each(Text(), needs="a list of texts", or_one=True)
_MOMENT: Final = Anything(
    "a date, or seconds since 1970", {"type": ["string", "number"]}
)

Functions: TypeAlias = Mapping[str, Callable[..., Any]]


@attrs.frozen
class Timing:
    """
    When something is made again and again.

    Attributes:
        when: Cron fields, @daily and the like, every 15m, or seconds.
        zone: Time zone of the cron fields.
        catch_up: Missed times to run.
        overlap: The rule while the last run goes on.
        jitter: Seconds of random delay, at most.
        start: First possible time, in whole ms.
        end: Last possible time, in whole ms.
        keep_for: How long its runs are kept after their end, in seconds.
        keep_latest: How many of its ended runs are kept.
    """

    when: Any = field(
        Anything("a text, or seconds", {"type": ["string", "number"]}), is_needed=True
    )
    zone: str = field(Text(), default="UTC")
    catch_up: str = field(one_of(*CATCH_UP), default="last")
    overlap: str = field(one_of(*OVERLAP), default="skip")
    jitter: Any = field(
        Anything("seconds", {"type": "number", "minimum": 0}), default=0.0
    )
    start: Any = field(_MOMENT)
    end: Any = field(_MOMENT)
    keep_for: float | None = field(Maybe(Number(most=MAX_SECONDS)))
    keep_latest: int | None = field(Maybe(Number(least=0, is_whole=True)))


@attrs.frozen
class WaitEntry:
    """
    A wait for an event.

    Attributes:
        wait_for: The event; null waits for the time only.
        timeout: Seconds, at most.
        default: Its result after the timeout; without one it fails.
    """

    wait_for: str | None = field(Maybe(Text()), is_needed=True)
    timeout: float | None = field(_SECONDS)
    default: Any = field(Anything())


@attrs.frozen
class QuestionEntry:
    """
    A question to people.

    Attributes:
        question: The question, in a line.
        options: The choices.
        no: Choices by which the task fails.
        who: People who may answer; null is anybody.
        quorum: Equal answers that it needs.
        not_by: People who may not.
        asked_by: The person who asks.
        due: Seconds to answer it.
        default: The choice at the end of that time.
        remind: Seconds between two reminders.
        details: Help for the decision.
    """

    question: str = field(Text(), is_needed=True)
    options: list[str] = field(_NAMES, default=("approve", "reject"))
    no: list[str] | None = field(Maybe(_NAMES))
    who: list[str] | None = field(Maybe(_NAMES))
    quorum: int = field(_COUNT, default=1)
    not_by: list[str] = field(_NAMES, default=())
    asked_by: str | None = field(Maybe(Text()))
    due: float | None = field(_SECONDS)
    default: str | None = field(Maybe(Text()))
    remind: float | None = field(_SECONDS)
    details: Any = field(Anything())


#: A text of a task, which may consist of spaces.
_WORD: Final = Text(is_blank=True)
_PATH: Final = Maybe(_WORD)
_LIMIT: Final = Number(most=MAX_SECONDS, is_above=True)
_DURATION: Final = Number(most=MAX_SECONDS)
_ATTEMPTS: Final = Number(1, MAX_ATTEMPTS, is_whole=True)
_AMOUNTS: Final = AnyNames(Number(), plain=True)


@attrs.frozen
class _Jitter:
    """A fraction, or `full`."""

    needs: str = "a number from 0 to 1, or full,"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        if node.value == "full":
            return "full"
        if is_number(node.value, 0, 1):
            return node.value
        return faults.wrong(node, path, self.needs)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [Number(0, 1).schema(), {"const": "full"}]}


#: A value that the reader of the other tasks and functions converts.
_FUNCTION: Final = Anything("the name of a function", {"type": "string"})
_ARGUMENT: Final = Anything(
    "any value, or the result of a task", {"$ref": "#/$defs/argument"}
)


@attrs.frozen
class MapEntry:
    """
    A call of a function with each item, as tasks of their own.

    Attributes:
        map: The function.
        over: The items.
        max_parallel: Calls at once.
        allow_failures: Calls that may fail: a number, or a share such as "5%".
    """

    map: Any = field(_FUNCTION, is_needed=True)
    over: Any = field(_ARGUMENT, is_needed=True)
    max_parallel: Any = field(Maybe(_COUNT))
    allow_failures: Any = field(
        Anything(
            'a number of calls, or a share such as "5%"',
            {
                "anyOf": [
                    {"type": "integer", "minimum": 0},
                    {"type": "string", "pattern": r"^\d{1,3}(\.\d{1,9})? ?%$"},
                    {"type": "null"},
                ]
            },
        )
    )


@attrs.frozen
class CallEntry:
    """
    A call of a function that the reader has given this name.

    Attributes:
        call: The function.
        args: Its arguments.
        kwargs: Arguments by name.
        executor: Its executor; null is that of its function.
    """

    call: Any = field(_FUNCTION, is_needed=True)
    args: Any = field(
        Anything("a list", {"type": "array", "items": {"$ref": "#/$defs/argument"}})
    )
    kwargs: Any = field(
        Anything(
            "a mapping",
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/argument"}},
        )
    )
    executor: Any = field(Maybe(_WORD))


@attrs.frozen
class _Command:
    """A program and its arguments."""

    needs: str = "a list of a program and its arguments"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        return Each(Text(is_any=True), 1, self.needs).read(node, path, faults)

    def schema(self) -> dict[str, Any]:
        schema = Each(Text(is_any=True), 1).schema()
        return {**schema, "prefixItems": [_WORD.schema()]}


@attrs.frozen
class _Inherited:
    """True, or a list of names."""

    needs: str = "true, or a list of names,"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        if node.value is True:
            return True
        return Each(_WORD, needs=self.needs).read(node, path, faults)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"const": True}, Each(_WORD).schema()]}


@attrs.frozen
class ProgramEntry:
    """
    A program.

    Attributes:
        args: The program and its arguments.
        env: Variables to set.
        inherit_env: More of our variables; true is all.
        cwd: Its folder.
        stdin: Its input.
        check: Whether an exit code other than 0 is a failure.
        log: The file for its output.
        pid_file: The file for its process id.
        limits: The most that it may use, by name.
        reads: The folders and files that it may read.
        network: False is none.
        enforce: Whether it is held to all of that, or only if possible.
    """

    args: Any = field(_Command(), name="program", is_needed=True)
    env: Any = field(AnyNames(Text(is_any=True, is_secret=True), plain=True))
    inherit_env: Any = field(_Inherited())
    cwd: Any = field(_PATH)
    stdin: Any = field(Maybe(Text(is_any=True, is_secret=True)))
    check: Any = field(Flag(), default=True)
    log: Any = field(_PATH)
    pid_file: Any = field(_PATH)
    limits: Any = field(AnyNames(Number(is_above=True), plain=True), default={})
    reads: Any = field(Maybe(Each(Text())))
    network: Any = field(Maybe(Flag()))
    enforce: Any = field(Maybe(Flag("if possible")))


@attrs.frozen
class GatherEntry:
    """
    Complete when its parts are; their results in a list.

    Attributes:
        gather: The parts, by their ids.
    """

    gather: Any = field(
        Anything("a list of ids", {"type": "array", "items": {"$ref": "#/$defs/id"}}),
        is_needed=True,
    )


@attrs.frozen
class ReduceEntry:
    """
    The items of a result put together, two by two.

    Attributes:
        reduce: The function of two.
        over: The items.
        start: The start value.
    """

    reduce: Any = field(_FUNCTION, is_needed=True)
    over: Any = field(_ARGUMENT, is_needed=True)
    start: Any = field(_ARGUMENT)


@attrs.frozen
class WorkerEntry:
    """
    A task for a worker that can do this type.

    Attributes:
        type: Its type.
        payload: Its input.
    """

    type: Any = field(_WORD, is_needed=True)
    payload: Any = field(Anything())


#: The kinds of tasks, by the key that tells them; of two keys the earlier counts.
KINDS: Final[Mapping[str, type]] = {
    "map": MapEntry,
    "wait_for": WaitEntry,
    "question": QuestionEntry,
    "call": CallEntry,
    "program": ProgramEntry,
    "gather": GatherEntry,
    "reduce": ReduceEntry,
    "type": WorkerEntry,
}


@attrs.frozen
class ParameterEntry:
    """
    A parameter of a workflow.

    Attributes:
        type: The type of its values.
        choices: Or the values that it may have.
        default: Its value where none is given.
    """

    type: Any = field(one_of(*TYPES))
    choices: Any = field(Each(Text(is_any=True), 1, "a list of texts"))
    default: Any = field(Anything("a value"))


@attrs.frozen
class WorkflowEntry:
    """
    A workflow.

    Attributes:
        workflow: One word; ids of runs begin with it.
        parameters: The parameters of its runs, by name.
        schedule: When it is to run.
        phases: Groups of tasks, in this order.
        tasks: The tasks by id.
    """

    workflow: Any = field(
        Anything("a name", {"$ref": "#/$defs/name"}), default="workflow"
    )
    parameters: Any = field(AnyNames(DocumentOf(ParameterEntry)))
    schedule: Any = field(DocumentOf(Timing))
    phases: Any = field(
        Anything(
            "a mapping",
            {
                "type": "object",
                "propertyNames": {"$ref": "#/$defs/name"},
                "additionalProperties": {"$ref": "#/$defs/phase"},
            },
        )
    )
    tasks: Any = field(
        Anything(
            "a mapping",
            {
                "type": "object",
                "propertyNames": {"$ref": "#/$defs/id"},
                "additionalProperties": {"$ref": "#/$defs/task"},
            },
        ),
        is_needed=True,
    )


@attrs.frozen
class ElasticEntry:
    """
    A request that may be granted in part.

    Attributes:
        resources: All that it could use.
        min: The least that is of use.
        weight: How much it counts against others.
        fallback: The rule if its whole share is not free.
    """

    resources: Any = field(_AMOUNTS, name="elastic", is_needed=True)
    min: Any = field(_AMOUNTS)
    weight: Any = field(Number(1e-6, MAX_WEIGHT), default=1)
    fallback: Any = field(one_of(*FALLBACKS), default=FALLBACKS[0])


@attrs.frozen
class RetryEntry:
    """
    How often an attempt may fail, and how long to wait in between.

    Attributes:
        max_attempts: Attempts in all, the first try included.
        wait: How the delay grows.
        base: Seconds before the second attempt.
        max_delay: The longest delay in seconds.
        jitter: The fraction of spread; `full` draws between 0 and the delay.
        stop_after: Seconds after the first attempt; then no retry begins.
        delays: Seconds before the second attempt, the third, and so on.
    """

    max_attempts: Any = field(_ATTEMPTS, default=1)
    wait: Any = field(one_of("exponential", "linear", "fixed"), default="exponential")
    base: Any = field(_DURATION, default=1.0)
    max_delay: Any = field(_DURATION, default=60.0)
    jitter: Any = field(_Jitter(), default=0.5)
    stop_after: Any = field(Maybe(_DURATION))
    delays: Any = field(Each(_DURATION, 1, "a list of seconds"))


@attrs.frozen
class CacheEntry:
    """
    The caching of a result, for like tasks.

    Attributes:
        expires: Seconds until it expires; null is never.
        version: The function's version, which counts instead of its code.
        ignore: Arguments that make no difference.
        key: A text that stands for all arguments.
    """

    expires: Any = field(Maybe(_LIMIT))
    version: Any = field(Text(is_any=True), default="")
    ignore: Any = field(Each(Text(is_any=True), needs="a list of names of arguments"))
    key: Any = field(Text(is_any=True), default="")


@attrs.frozen
class JoinEntry:
    """
    When a task goes on.

    Attributes:
        count: So many of its parents have completed.
    """

    count: Any = field(_COUNT, name="at_least", is_needed=True)


#: A request of resources; what may be granted in part stands in `elastic`.
_ELASTIC: Final = DocumentOf(ElasticEntry, make=Elastic)
_RIGID: Final = Made(_AMOUNTS, Resources.of)


@attrs.frozen
class _Requested:
    """Amounts of resources, or those of a request that may be granted in part."""

    needs: str = "a mapping of names to amounts"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        members = node.value
        if not isinstance(members, dict):
            return faults.wrong(node, path, self.needs)
        # A resource may have this name, too; but its amount is a number.
        is_elastic = any(
            isinstance(members[name][1].value, dict)
            for name in keys_of(ElasticEntry)
            if name in members
        )
        return (_ELASTIC if is_elastic else _RIGID).read(node, path, faults)

    def schema(self) -> dict[str, Any]:
        elastic = _ELASTIC.schema()
        elastic["properties"]["elastic"]["minProperties"] = 1
        return {"anyOf": [_RIGID.schema(), elastic]}


#: The forms of a task's options in a document; ids and values are read where the other
#: tasks are known.
FORMS: Final[Mapping[Form, ValueForm]] = {
    "type": _WORD,
    "name": _WORD,
    "names": Each(_WORD),
    "paths": Each(Text()),
    "join": Either(one_of(*JOINS), DocumentOf(JoinEntry, make=AtLeast)),
    "on_parent_failure": one_of(*ON_PARENT_FAILURE),
    "priority": Number(-MAX_PRIORITY, MAX_PRIORITY, is_whole=True),
    "resources": _Requested(),
    "retry": Either(
        Made(_ATTEMPTS, RetryPolicy), DocumentOf(RetryEntry, make=RetryPolicy)
    ),
    "duration": _LIMIT,
    "duration_or_zero": _DURATION,
    "moment": Moment(zero=False),
    "moment_or_zero": Moment(),
    "flag": Flag(),
    "cache": Either(
        Made(Flag(), lambda is_cached: Cache() if is_cached else None),
        DocumentOf(CacheEntry, make=Cache),
    ),
}


def plain(
    path: str,
    value: Any,
    findings: list[tuple[str, str]],
    depth: int,
    *,
    exact: bool,
) -> Any:
    """
    Return a copy of *value* as JSON has it.

    Values that are not JSON are added to *findings*, with their places; if *exact*,
    also those that would come back changed.
    """
    kind = type(value)
    if value is None or kind in (str, bool, int):
        return value
    if kind is float:
        if not math.isfinite(value):
            findings.append((path, f"a finite number is needed, not {value}"))
        return value
    if depth >= _MAX_DEPTH:
        findings.append((path, f"it is nested more than {_MAX_DEPTH} levels deep"))
        return None
    if kind is dict or (isinstance(value, Mapping) and not exact):
        copy: dict[str, Any] = {}
        for name, item in value.items():
            if type(name) is str:
                copy[name] = plain(
                    f"{path}.{name}", item, findings, depth + 1, exact=exact
                )
            else:
                text = f"a name is text, not {show(name, MAX_SHOWN)}"
                findings.append((path, text))
        return copy
    if kind is list or (isinstance(value, list) and not exact):
        return [
            plain(f"{path}[{i}]", item, findings, depth + 1, exact=exact)
            for i, item in enumerate(value)
        ]
    findings.append((path, f"what JSON can say is needed, not {kind.__name__}"))
    return None
