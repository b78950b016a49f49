"""The definition of a schedule, as a value and as a document."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, Final, TypeAlias

import attrs

from taskorch.core.workflows import Workflow, WorkflowFunction
from taskorch.core.workflows._documents import CATCH_UP, OVERLAP, Timing
from taskorch.core.workflows._functions import checked
from taskorch.core.workflows._parameters import as_json, by_names, kept
from taskorch.core.workflows._task_documents import tasks_of
from taskorch.core.workflows._writing import write_task
from taskorch.errors import InvalidTaskError, UsageError, ValidationFailedError
from taskorch.ext.schedules._times import TickTimes, moment_ns, text_of, tick_name
from taskorch.kit.checks import (
    built_in,
    check_count,
    check_seconds,
    check_word,
    zone_of,
)
from taskorch.kit.forms import (
    AnyNames,
    Anything,
    DocumentOf,
    FaultList,
    Text,
    field,
    keys_of,
)
from taskorch.kit.limits import NS
from taskorch.kit.located import located
from taskorch.kit.ticks import moment
from taskorch.kit.visible import show
from taskorch.model import Call, Task
from taskorch.model.ids import has_segments, id_problem, made_id

#: The keys for the work of a schedule.
Work: TypeAlias = Task | Workflow | WorkflowFunction[...]
#: The keys that only the journal has, such as the origin of a schedule.
_ORIGIN: Final[Mapping[str, tuple[str, type]]] = {
    "run": ("is_run", bool),
    "source": ("source", str),
    "undeclared": ("undeclared_ns", int),
    "before": ("before_ns", int),
}
ORIGIN: Final = (*_ORIGIN,)


@attrs.frozen
class ScheduleEntry(Timing):
    """
    A schedule as a document: its times, and its work.

    Attributes:
        parameters: The parameters of its work, by name.
        paused: The reason of a pause; "": none.
        task: A task.
        workflow: A workflow, instead of a task.
        code: The name of a function, instead of both.
    """

    parameters: Any = field(AnyNames(Anything(), plain=True))
    paused: str = field(Text(is_any=True, needs="a text that says why"), default="")
    task: Any = field(Anything("a task"))
    workflow: Any = field(Anything("a workflow"))
    code: Any = field(Anything("a name"))


@attrs.frozen
class Definition:
    """A schedule: its times, and the work of each tick."""

    name: str
    #: The text of its times.
    when: str
    zone: str = "UTC"
    catch_up: str = "last"
    overlap: str = "skip"
    #: The seconds within which each tick is delayed by chance, the same each time.
    jitter: float = 0.0
    #: The time in ns before which no tick is.
    start_ns: int | None = None
    #: The time in ns after which no tick is.
    end_ns: int | None = None
    #: The reason of a pause; "": none.
    paused: str = ""
    #: The work: the document of a task or a workflow, or its name in the code that adds
    #: it.
    work: Mapping[str, Any] = attrs.Factory(dict)
    #: Whether the work is a workflow that only code can declare.
    is_run: bool = False
    #: The origin: `code`, `file` or `command`.
    source: str = ""
    #: Since when, in ns, no program declares it any more; 0: one does.
    undeclared_ns: int = 0
    #: Ticks up to this one may have been made before the system's clock was set back,
    #: in ns; 0: none.
    before_ns: int = 0
    #: The parameters of the work, as JSON has them.
    parameters: Mapping[str, Any] = attrs.Factory(dict)
    #: How long its runs are kept, in s, and how many; None: the journal's rule.
    keep_for: float | None = None
    keep_latest: int | None = None

    def times(self) -> TickTimes:
        """Return its ticks."""
        return TickTimes(self.when, self.zone, self.start_ns or 0)

    def put_off_ns(self, slot_ns: int) -> int:
        """Return by how many ns jitter delays a tick."""
        if not self.jitter:
            return 0
        drawn = zlib.crc32(f"{self.name}/{slot_ns}".encode()) / 2**32
        return int(drawn * self.jitter * NS)

    def tick_id(self, slot_ns: int, apart: str = "") -> str:
        """Return the id for a tick; with *apart*, an id beside the ticks."""
        is_run = self.is_run or "workflow" in self.work
        return made_id(self.name, tick_name(slot_ns) + apart, is_run=is_run)

    def timing(self) -> tuple[str, str, int | None, int | None]:
        """Return all fields that determine its ticks."""
        return self.when, self.zone, self.start_ns, self.end_ns

    def document(self) -> dict[str, Any]:
        """Return it as a document in JSON."""
        document: dict[str, Any] = {"when": self.when, "zone": self.zone}
        document["catch_up"], document["overlap"] = self.catch_up, self.overlap
        if self.jitter:
            document["jitter"] = self.jitter
        if self.start_ns is not None:
            document["start"] = self.start_ns / NS
        if self.end_ns is not None:
            document["end"] = self.end_ns / NS
        if self.keep_for is not None:
            document["keep_for"] = self.keep_for
        if self.keep_latest is not None:
            document["keep_latest"] = self.keep_latest
        if self.parameters:
            document["parameters"] = dict(self.parameters)
        if self.paused:
            document["paused"] = self.paused
        return {**document, **self.work}

    def text(self) -> str:
        """Return it as JSON, with its origin."""
        document = {**self.document(), "source": self.source}
        if self.is_run:
            document["run"] = True
        if self.undeclared_ns:
            document["undeclared"] = self.undeclared_ns
        if self.before_ns:
            document["before"] = self.before_ns
        return json.dumps(document, ensure_ascii=False, sort_keys=True)

    def with_origin(self, document: Mapping[str, Any]) -> Definition:
        """
        Return it with the origin that *document* names.

        Raises:
            TypeError: A value has another type.
            ValueError: A time is out of range.
        """
        origin: dict[str, Any] = {}
        for key, (name, kind) in _ORIGIN.items():
            value = document.get(key, kind())
            if type(value) is not kind:
                msg = f"{key} is {show(value)}, and no {kind.__name__}"
                raise TypeError(msg)
            origin[name] = moment(value) if kind is int else value
        return attrs.evolve(self, **origin)


def define(
    name: str,
    when: object,
    work: object,
    *,
    zone: str = "UTC",
    catch_up: str = "last",
    overlap: str = "skip",
    jitter: float | timedelta = 0.0,
    start: object = None,
    end: object = None,
    parameters: object = None,
    keep_for: float | timedelta | None = None,
    keep_latest: int | None = None,
) -> tuple[Definition, Work]:
    """
    Define a schedule and its work.

    Raises:
        InvalidTaskError: An argument has an invalid value.
        ImportError: cronsim is not installed.
    """
    problem = id_problem(name)
    if problem is None and has_segments(name):
        problem = f"{show(name)} has a slash"
    if problem is not None:
        msg = f"the name of a schedule: {problem}"
        raise InvalidTaskError(msg, hint="one word: ticks are called name/time")
    check_word("catch_up", catch_up, CATCH_UP)
    check_word("overlap", overlap, OVERLAP)
    work = _work_of(name, work)
    place = zone_of(zone)
    start_ns, end_ns = moment_ns("start", start, place), moment_ns("end", end, place)
    if start_ns is not None and end_ns is not None and end_ns < start_ns:
        msg = f"schedule {name!r} ends before it starts"
        raise InvalidTaskError(msg)
    if keep_for is not None or keep_latest is not None:
        built_in("retention", "keep_for= or keep_latest=")
    if keep_for is not None:
        keep_for = check_seconds("keep_for", keep_for)
    if keep_latest is not None:
        check_count("keep_latest", keep_latest, least=0)
    definition = Definition(
        name,
        text_of(when),
        zone,
        catch_up,
        overlap,
        check_seconds("jitter", jitter),
        start_ns,
        end_ns,
        work=_written(work),
        parameters=_parameters_of(name, work, parameters),
        keep_for=keep_for,
        keep_latest=keep_latest,
    )
    is_run = not isinstance(work, Task) and "code" in definition.work
    definition = attrs.evolve(definition, is_run=is_run)
    times = definition.times()
    if start_ns is None and times.after(0) is None:
        msg = f"{show(definition.when)} never comes"
        raise InvalidTaskError(msg, hint="calendars end with the year 9999")
    return definition, work


def of_workflow(
    name: str, work: object, options: tuple[object, ...], parameters: object = None
) -> tuple[Definition, Work]:
    """
    Return the schedule in the document of a workflow, if *options* are the defaults.

    Raises:
        InvalidTaskError: It has none or an invalid one, or options are given besides.
        ImportError: cronsim is not installed.
    """
    schedule = work.schedule if isinstance(work, Workflow) else None
    if schedule is None:
        msg = f"schedule {name!r} does not say when"
        raise InvalidTaskError(msg, hint="when: '0 3 * * *', or 'every 15m'")
    if options != ("UTC", "last", "skip", 0.0, None, None, None, None):
        msg = f"schedule {name!r}: its workflow says when, and how"
        raise InvalidTaskError(msg, hint="say all of it there, or all of it here")
    others: dict[str, Any] = {**schedule}
    return define(name, others.pop("when"), work, **others, parameters=parameters)


def read_definition(
    name: str,
    document: object,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    *,
    programs: bool = True,
) -> tuple[Definition, Work | None]:
    """
    Read a schedule and its work from a document; None: only code can declare the work.

    Raises:
        InvalidTaskError: It is not well formed.
        UsageError: Its work is not well formed.
    """
    faults = FaultList()
    if isinstance(document, Mapping):
        document = _with_workflow(document)
    entry = DocumentOf(ScheduleEntry).read(located(document), "", faults)
    if faults or not isinstance(document, Mapping):
        msg = f"schedule {show(name)}: {'; '.join(faults.lines)}"
        raise InvalidTaskError(msg, hint="when: '0 3 * * *', and a task")
    makes = [key for key in ("task", "workflow", "code") if key in document]
    if len(makes) != 1:
        msg = f"schedule {name!r} makes a task or a workflow: one of the two"
        raise InvalidTaskError(msg, hint="task: {call: 'module:function'}")
    work: Work | None = None
    names = {} if functions is None else functions
    if makes == ["task"]:
        try:
            (work,) = tasks_of(
                [document["task"]], names, programs=programs, handle=_nobody
            )
        except ValidationFailedError as error:
            msg = f"schedule {name!r}: {error}"
            raise InvalidTaskError(msg) from None
    elif makes == ["workflow"]:
        work = Workflow.from_dict(document["workflow"], functions, programs=programs)
    else:
        called = names.get(document["code"])
        work = called if isinstance(called, WorkflowFunction) else None
    options = {key: document[key] for key in keys_of(Timing) if key in document}
    when = options.pop("when")
    parameters = entry.get("parameters")
    definition, _ = define(
        name, when, work or Task("code"), **options, parameters=parameters
    )
    paused = entry.get("paused", "")
    written = {makes[0]: _without_schedule(document[makes[0]])}
    is_run = isinstance(work, WorkflowFunction)
    return attrs.evolve(definition, paused=paused, work=written, is_run=is_run), work


def _with_workflow(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the `schedule` of its workflow to a document, which goes first."""
    inside = document.get("workflow")
    own = inside.get("schedule") if isinstance(inside, Mapping) else None
    return {**own, **document} if isinstance(own, Mapping) else document


def _without_schedule(document: Any) -> Any:
    """Return the document of the work without its `schedule`."""
    if not isinstance(document, Mapping):
        return document
    return {key: value for key, value in document.items() if key != "schedule"}


def _nobody(task_id: str) -> Any:
    msg = f"there is no task {task_id!r} whose result could be had"
    raise InvalidTaskError(msg)


def _parameters_of(name: str, work: Work, parameters: object) -> dict[str, Any]:
    """
    Return the parameters of a schedule, as JSON has them.

    Raises:
        InvalidTaskError: Its work does not take them.
    """
    values = by_names(parameters)
    if not isinstance(work, Task):
        # Each tick has another value of the tick's own parameter.
        checked_values = checked(work, values, datetime.fromtimestamp(0, UTC))
        values = {key: checked_values[key] for key in values}
    document = as_json(kept(values))
    try:
        json.dumps(document, allow_nan=False)
        is_plain = document.keys() == values.keys()
    except (TypeError, ValueError):
        is_plain = False
    if not is_plain:
        msg = f"the parameters of schedule {name!r} are texts, numbers, flags and times"
        raise InvalidTaskError(msg)
    return document


def _work_of(name: str, work: object) -> Work:
    if isinstance(work, Workflow | WorkflowFunction):
        return work
    if isinstance(work, Task):
        for option in ("id", "idempotency_key", "not_before", "deadline"):
            if getattr(work, option) is not None:
                msg = f"schedule {name!r}: its task has no {option} (each tick has one)"
                raise InvalidTaskError(msg)
        return work
    if callable(work):
        return Task.call(work)
    msg = f"a schedule makes a Task, a Workflow or a call, not {show(work)}"
    raise InvalidTaskError(msg)


class Importable(Mapping[str, Callable[..., Any]]):
    """
    Functions by their import paths, `module:name`.

    It leaves out functions of a script: another script may have others of that name.
    """

    def __getitem__(self, name: str) -> Callable[..., Any]:
        module, _, path = name.partition(":")
        if module == "__main__":
            raise KeyError(name)
        try:
            member: Any = import_module(module)
            for part in path.split("."):
                member = getattr(member, part)
        except (ImportError, AttributeError, ValueError):
            raise KeyError(name) from None
        if not path or not callable(member):
            raise KeyError(name)
        return member  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _named(work: Task | Workflow) -> dict[str, Callable[..., Any]]:
    """Return the functions that are called, by their import paths."""
    tasks = [work] if isinstance(work, Task) else work.tasks("run")
    named: dict[str, Callable[..., Any]] = {}
    for task in tasks:
        if isinstance(task.payload, Call):
            called = [task.payload.fn, *task.payload.args]
            functions: list[Any] = [getattr(each, "fn", each) for each in called]
            for fn in functions:
                module = getattr(fn, "__module__", None)
                path = getattr(fn, "__qualname__", None)
                # A function that is just being decorated is not in its module yet.
                if callable(fn) and path and module in sys.modules and "<" not in path:
                    named[f"{module}:{path}"] = fn
    return named


def _written(work: Work) -> dict[str, Any]:
    """Return the document of the work, or else its name in the code."""
    if isinstance(work, WorkflowFunction):
        module, path = work.fn.__module__, work.fn.__qualname__
        is_importable = module != "__main__" and "<" not in path
        return {"code": f"{module}:{path}" if is_importable else work.name}
    try:
        if isinstance(work, Workflow):
            document = _without_schedule(work.to_dict(_named(work)))
            written: dict[str, Any] = {"workflow": document}
        else:
            written = {"task": write_task(work, work.after, _named(work))}
        json.dumps(written)
    except (UsageError, TypeError, ValueError):
        name = work.name if isinstance(work, Workflow) else work.type
        return {"code": str(name)}
    return written
