"""
Reading of documents as tasks: all faults of a document are found at once.

Decision: workflows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from inspect import Parameter
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias, cast

from taskorch.core.workflows._documents import (
    FORMS,
    KINDS,
    MAX_SHOWN,
    RESULT,
    CallEntry,
    Functions,
    MapEntry,
    ParameterEntry,
    ProgramEntry,
    QuestionEntry,
    Timing,
    WaitEntry,
    WorkflowEntry,
    plain,
)
from taskorch.core.workflows._parameters import (
    TYPES,
    Parameters,
    in_words,
    parameter_of,
    values_of,
)
from taskorch.core.workflows._phases import (
    Approval,
    PhaseEntry,
    checks_of,
)
from taskorch.core.workflows._steps import gathered, mapped, reduced
from taskorch.errors import InvalidTaskError, TaskorchError, ValidationFailedError
from taskorch.kit.allowance import Allowance
from taskorch.kit.described import Declared, Form, declared, texts_of
from taskorch.kit.forms import (
    WRONG,
    AnyNames,
    DocumentOf,
    FaultList,
    ReadMapping,
    ValueForm,
    keys_of,
)
from taskorch.kit.located import NOWHERE, FilePlace, located, with_place
from taskorch.kit.people import caller_name, may_speak_as
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess, remedy_of_key
from taskorch.model import (
    OPTIONS,
    RAISE,
    Call,
    Program,
    Reference,
    Task,
    Wait,
    call_type,
    to_question,
)
from taskorch.model.ids import check_name, id_problem

#: The most faults of a document that are named; others are counted.
_MOST_NAMED: Final = 100
#: The name of a document that is in no file.
_NOWHERE: Final[Mapping[str, FilePlace]] = {}
#: The options of a phase, by its name.
Phases: TypeAlias = dict[str, dict[str, Any]]
#: Tasks, and the phases that they belong to.
Tasks: TypeAlias = list[tuple[Task, str | None]]


def read(
    document: object,
    functions: Functions,
    *,
    programs: bool,
    places: Mapping[str, FilePlace] = _NOWHERE,
) -> tuple[str, Phases, Tasks, tuple[Mapping[str, Any] | None, Parameters | None]]:
    """
    Return the name, phases, tasks, schedule and parameters of a document.

    Args:
        document: Plain lists and dicts.
        functions: The functions of tasks, by their names in the document.
        programs: Whether it may start programs.
        places: The places of the document's parts in a file, by their paths.

    Raises:
        InvalidTaskError: *functions* is no mapping of names to functions.
        ValidationFailedError: The document is not well formed; all faults are named.
    """
    unchecked: object = functions
    if not isinstance(unchecked, Mapping) or not all(map(callable, functions.values())):
        msg = f"functions is a mapping of names to functions, not {show(unchecked)}"
        raise InvalidTaskError(msg)
    reader = DocumentReader(functions, programs=programs)
    name, phases, tasks = reader.workflow(document)
    reader.refuse("the document of the workflow", places)
    return name, phases, tasks, (reader.schedule, reader.parameters)


class DocumentReader:
    """A reader that turns a document into tasks, and notes all faults."""

    #: Keys of a task that are read elsewhere; spellings of them are suggested as well.
    _beside: ClassVar[tuple[str, ...]] = ()

    def __init__(self, functions: Functions, *, programs: bool) -> None:
        self.findings: list[tuple[str, str]] = []
        #: Number of faults that are counted, and not named.
        self._more = 0
        self._functions = functions
        self._programs = programs
        self._names: Mapping[str, Any] = {}
        self._phases: Phases = {}
        #: Its schedule, if it has one.
        self.schedule: Mapping[str, Any] | None = None
        #: Its declared parameters, if any.
        self.parameters: Parameters | None = None

    def _fault(self, path: str, text: str) -> None:
        if self._is_full:
            self._more += 1
        else:
            self.findings.append((path, text))

    @property
    def _count(self) -> int:
        """The number of faults so far."""
        return len(self.findings) + self._more

    @property
    def _is_full(self) -> bool:
        """Whether further faults are only counted, as many are named."""
        return len(self.findings) >= _MOST_NAMED

    def refuse(self, subject: str, places: Mapping[str, FilePlace] = _NOWHERE) -> None:
        """
        Refuse *subject*, if anything is wrong with it; *places* are those of its parts.

        Raises:
            ValidationFailedError: All faults are named, or the first of very many.
        """
        if self.findings:
            lines = "; ".join(
                with_place(path, text, places) for path, text in self.findings
            )
            more = f"; and {self._more:,} more" if self._more else ""
            msg = f"{subject} was refused: {lines}{more}"
            hint = "document_schema() in taskorch.api.workflows says what it may have"
            raise ValidationFailedError(msg, findings=tuple(self.findings), hint=hint)

    # -- the whole -----------------------------------------------------------------

    def workflow(self, document: object) -> tuple[str, Phases, Tasks]:
        members = self._mapping("", document)
        self._refuse_others("", members, [*keys_of(WorkflowEntry)])
        if "schedule" in members:
            self.schedule = self._schedule(members["schedule"])
        if "parameters" in members:
            form = AnyNames(DocumentOf(ParameterEntry))
            entries = self._said("parameters", form, members["parameters"])
            self.parameters = {
                name: self._parameter(f"parameters.{name}", name, entry)
                for name, entry in ({} if entries is None else entries.values).items()
            }
        name = members.get("workflow", "workflow")
        try:
            check_name("the name of a workflow", name)
        except InvalidTaskError as error:
            self._fault("workflow", error.message)
        if isinstance(document, Mapping) and "tasks" not in members:
            self._fault("tasks", "it is missing")
        for phase, rules in self._mapping("phases", members.get("phases", {})).items():
            self._phases[phase] = self._phase(phase, rules)
        self._names = self._mapping("tasks", members.get("tasks", {}))
        tasks: Tasks = []
        for task_id, task_document in self._names.items():
            path = f"tasks[{show(task_id, MAX_SHOWN)}]"
            problem = id_problem(task_id)
            if problem is not None:
                self._fault(path, problem)
                continue
            path = f"tasks.{task_id}"
            before = self._count
            options = dict(self._mapping(path, task_document))
            of = self._phase_of(path, options.pop("phase", None))
            fields = self._task(path, options) if self._count == before else {}
            if self._count == before:
                try:
                    tasks.append((Task(id=task_id, **fields), of))
                except (TypeError, ValueError) as error:
                    self._fault(path, str(error))
        return str(name), self._phases, tasks

    def _parameter(self, path: str, name: str, entry: ReadMapping) -> Parameter:
        """Return a declared parameter: its type, and a default of that type."""
        if not name.isidentifier():
            self._fault(path, "the name of a parameter is one word, without signs")
            return parameter_of("_")
        kind: Any = TYPES.get(entry.get("type"), Parameter.empty)
        if "choices" in entry.values:
            if "type" in entry.values:
                self._fault(path, "it has a type or choices, one of the two")
            kind = Literal[tuple(entry.get("choices"))]
        parameter = parameter_of(name, kind)
        if "default" in entry.values:
            default = entry.get("default")
            try:
                values = values_of("it", {name: parameter}, {name: default})
            except InvalidTaskError:
                text = f"{in_words(kind)} is needed, not {show(default, MAX_SHOWN)}"
                self._fault(f"{path}.default", text)
            else:
                parameter = parameter.replace(default=values[name])
        return parameter

    def _schedule(self, document: object) -> Mapping[str, Any]:
        """Return the schedule, which is checked further when it is added."""
        return self._entry("schedule", DocumentOf(Timing), document).values

    def _entry(self, path: str, form: DocumentOf, document: object) -> ReadMapping:
        """Return *document* as *form* describes it."""
        entry = self._said(path, form, document)
        if entry is not None and document is None:
            self._fault(path, f"{form.needs} is needed, not nothing")
        return ReadMapping({}, {}, NOWHERE) if entry is None else entry

    def _said(self, path: str, form: ValueForm, value: object) -> Any:
        """Return *value* as *form* describes it; None: it is wrong."""
        faults = FaultList()
        parsed = form.read(located(value), path, faults)
        for where, text in faults.findings if faults else ():
            self._fault(where, text)
        return None if parsed is WRONG else parsed

    def _phase_of(self, path: str, name: object) -> str | None:
        if name is None or (isinstance(name, str) and name in self._phases):
            return name
        near = guess(name, self._phases) if isinstance(name, str) else ""
        self._fault(f"{path}.phase", f"there is no phase {show(name, MAX_SHOWN)}{near}")
        return None

    def _phase(self, name: str, document: object) -> dict[str, Any]:
        path = f"phases.{name}"
        before = self._count
        options = dict(self._entry(path, DocumentOf(PhaseEntry), document).values)
        if "gate" in options:
            options["gate"] = [
                self._check(f"{path}.gate[{i}].call", check.values)
                for i, check in enumerate(options["gate"])
            ]
        try:
            check_name("the name of a phase", name)
            if self._count == before:
                checks_of(options.get("gate"))
        except InvalidTaskError as error:
            self._fault(path, error.message)
        return options

    def _check(self, path: str, check: Mapping[str, Any]) -> Any:
        if "file" in check:
            return Path(check["file"])
        if "call" in check:
            return self._function(path, check["call"])
        approval = check.get("approval")
        return approval if isinstance(approval, Approval) else Approval(approval)

    def _task(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        kind = next((kind for kind in KINDS if kind in document), "type")
        names = keys_of(KINDS[kind])
        allowed = dict.fromkeys((*names, "type", *_OPTIONS))
        if kind not in document:
            # The key of the kind may be misspelt, and the other keys are right then.
            allowed |= dict.fromkeys(
                name for one in KINDS.values() for name in keys_of(one)
            )
        self._refuse_others(path, document, [*allowed, *self._beside])
        fields = _WORK[kind](self, path, document)
        if kind == "map":
            return fields
        # A kind may use the name of an option for a key of its own.
        options = [name for name in _OPTIONS if name not in names]
        return {**fields, **self._options(path, document, options)}

    def _options(
        self, path: str, document: Mapping[str, Any], names: Iterable[str]
    ) -> dict[str, Any]:
        """Return the type, if it is given, and the given options among *names*."""
        options: dict[str, Any] = {}
        if "type" in document:
            options["type"] = self._option("type", f"{path}.type", document["type"])
        for name in names:
            if name in document:
                options[name] = self._option(name, f"{path}.{name}", document[name])
        return options

    def _worker(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        if "type" not in document:
            self._fault(path, "it has no type, no call and no program")
        return {"payload": self._plain(f"{path}.payload", document.get("payload"))}

    def _key(self, cls: type, path: str, name: str, document: Mapping[str, Any]) -> Any:
        """Return the value of the key *name* of *document*, as *cls* describes it."""
        if name not in document:
            return None
        return self._said(f"{path}.{name}", keys_of(cls)[name].form, document[name])

    def _option(self, name: str, path: str, value: object) -> Any:
        form = OPTIONS[name].form
        if form in _READ:
            return _READ[form](self, path, value)
        return self._said(path, FORMS[form], value)

    # -- what is done --------------------------------------------------------------

    def _function(self, path: str, name: object) -> Callable[..., Any]:
        """Return the function of this name; any function, if there is none."""
        fn = self._functions.get(name) if isinstance(name, str) else None
        if fn is not None:
            return fn
        text = f"there is no function {show(name, MAX_SHOWN)}"
        if isinstance(name, str):
            text += guess(name, self._functions)
        names = ", ".join(self._functions) or "none"
        self._fault(path, f"{text}; functions= has {names}")
        return read

    def _gather(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        parts = self._list(f"{path}.gather", document["gather"])
        names = [self._other(f"{path}.gather[{i}]", p) for i, p in enumerate(parts)]
        references = [Reference(name) for name in names]
        return {"payload": Call(gathered, (references,)), "type": "gather"}

    def _map(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a map: `after` and joins are for it, the rest for its calls."""
        fn = self._function(f"{path}.map", document["map"])
        over = self._over(path, document)
        most = self._key(MapEntry, path, "max_parallel", document)
        options = self._options(path, document, _OPTIONS)
        # The options that decide when a task goes on.
        joining = ("after", "join", "on_parent_failure")
        names = [name for name in joining if name in options]
        own: dict[str, Any] = {name: options.pop(name) for name in names}
        args: tuple[Any, ...] = (Call(fn), over, options, most)
        allowed = document.get("allow_failures")
        if allowed is not None:
            try:
                Allowance(allowed)
            except InvalidTaskError as error:
                self._fault(f"{path}.allow_failures", error.message)
            args = (*args, allowed)
        call = Call(mapped, args)
        return {"type": "map", "payload": call, **own}

    def _reduce(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        fn = self._function(f"{path}.reduce", document["reduce"])
        over = self._over(path, document)
        start: tuple[Any, ...] = ()
        if "start" in document:
            start = (self._argument(f"{path}.start", document["start"]),)
        noted = declared(fn) or Declared({})
        args = (Call(fn), over, *start)
        call = Call(reduced, args, executor=noted.executor)
        return {"type": "reduce", **noted.options, "payload": call}

    def _wait(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a wait; its timeout is that of the wait, and not of an attempt."""
        waits = {
            name: document[name] for name in ("wait_for", "timeout") if name in document
        }
        entry = self._entry(path, DocumentOf(WaitEntry), waits).values
        default: Any = RAISE
        if "default" in document:
            default = self._plain(f"{path}.default", document["default"])
        make = partial(Wait, entry.get("wait_for"), entry.get("timeout"), default)
        return {"type": "wait", "payload": self._made(f"{path}.wait_for", make, {})}

    def _question(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a question to people; its timeout is `due`."""
        if "timeout" in document:
            self._fault(f"{path}.timeout", "a question has due: seconds to answer it")
        before = self._count
        asks = {
            name: document[name]
            for name in keys_of(QuestionEntry)
            if name in document and name != "details"
        }
        asked = dict(self._entry(path, DocumentOf(QuestionEntry), asks).values)
        if "details" in document:
            asked["details"] = self._plain(f"{path}.details", document["details"])
        if asked.get("asked_by") is None:
            # A caller with a proved name asks under that name.
            asked["asked_by"] = caller_name() or document.get("owner")
        elif not may_speak_as(asked["asked_by"]):
            self._fault(f"{path}.asked_by", "it is the name of another")
        question = None
        if self._count == before:
            make = partial(to_question, asked.pop("question"))
            question = self._made(f"{path}.question", make, asked)
        return {"type": "question", "payload": question}

    def _over(self, path: str, document: Mapping[str, Any]) -> Any:
        if "over" not in document:
            self._fault(path, "over is missing: what it goes over")
        return self._argument(f"{path}.over", document.get("over", []))

    def _call(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        fn = self._function(f"{path}.call", document["call"])
        args = self._list(f"{path}.args", document.get("args", []))
        kwargs = self._mapping(f"{path}.kwargs", document.get("kwargs", {}))
        executor = self._key(CallEntry, path, "executor", document)
        noted = declared(fn) or Declared({})
        call = Call(
            fn,
            tuple(self._argument(f"{path}.args[{i}]", a) for i, a in enumerate(args)),
            {k: self._argument(f"{path}.kwargs.{k}", a) for k, a in kwargs.items()},
            noted.executor if executor is None else executor,
        )
        return {"type": call_type(call.fn), **noted.options, "payload": call}

    def _argument(self, path: str, value: object) -> Any:
        if isinstance(value, list):
            return [self._result(f"{path}[{i}]", item) for i, item in enumerate(value)]
        return self._result(path, value)

    def _result(self, path: str, value: object) -> Any:
        if not (isinstance(value, Mapping) and RESULT in value):
            return self._plain(path, value, 1)
        name = cast("Mapping[str, object]", value)[RESULT]
        if len(value) > 1:
            self._fault(path, f"beside {RESULT} there is nothing else")
        return self._result_of(self._other(f"{path}.{RESULT}", name))

    def _result_of(self, name: str) -> Any:
        """Return the placeholder for the result of a task."""
        return Reference(name)

    def _program(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        if not self._programs:
            text = "programs are not allowed here; programs=True allows them"
            self._fault(f"{path}.program", text)
        names = keys_of(ProgramEntry)
        order = {name: document[name] for name in names if name in document}
        before = self._count
        entry = self._entry(path, DocumentOf(ProgramEntry), order).values
        if self._count > before:
            return {}
        options = {names[name].field: value for name, value in entry.items()}
        make = partial(Program, **options)
        return {"type": "program", "payload": self._made(f"{path}.program", make, {})}

    # -- options -------------------------------------------------------------------

    def after(self, path: str, value: object) -> list[str]:
        names = self._list(path, value)
        return [self._other(f"{path}[{i}]", name) for i, name in enumerate(names)]

    def values(self, path: str, value: object) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", self._plain(path, self._mapping(path, value)))

    # -- values --------------------------------------------------------------------

    def _made(
        self, path: str, make: Callable[..., Any], options: Mapping[str, Any]
    ) -> Any:
        try:
            return make(**options)
        except (TypeError, ValueError) as error:
            self._fault(path, _message(error))
            return None

    def _other(self, path: str, name: object) -> str:
        """Return the name of another task."""
        if not isinstance(name, str) or name not in self._names:
            near = guess(name, self._names) if isinstance(name, str) else ""
            shown = show(name, MAX_SHOWN)
            self._fault(path, f"there is no task {shown}{near}")
        return str(name)

    def _plain(self, path: str, value: object, depth: int = 0) -> Any:
        return plain(path, value, self.findings, depth, exact=False)

    def _mapping(self, path: str, value: object) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            text = f"names and values are needed, not {show(value, MAX_SHOWN)}"
            self._fault(path, text)
            return {}
        for name in value:
            if not isinstance(name, str):
                self._fault(path, f"a name is text, not {show(name, MAX_SHOWN)}")
        return {name: item for name, item in value.items() if isinstance(name, str)}

    def _list(self, path: str, value: object) -> list[Any]:
        if isinstance(value, list):
            return value
        self._fault(path, f"a list is needed, not {show(value, MAX_SHOWN)}")
        return []

    def _text(self, path: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            self._fault(path, f"a text is needed, not {show(value, MAX_SHOWN)}")
        return str(value)

    def _refuse_others(
        self, path: str, names: Iterable[str], allowed: Sequence[str]
    ) -> None:
        for name in names:
            if name in allowed:
                continue
            near = ""
            if not self._is_full:
                # A message takes long, and nobody reads one about a fault that is only
                # counted.
                near = f"; {remedy_of_key(name, allowed)}"
            self._fault(path, f"there is no {show(name, MAX_SHOWN)} here{near}")


#: Values that are read where the other tasks are known, or are passed on as they are.
_READ: Final[dict[Form, Callable[[DocumentReader, str, object], Any]]] = {
    "ids": DocumentReader.after,
    "values": DocumentReader.values,
}
#: The functions that read the kinds of tasks.
_WORK: Final[Mapping[str, Callable[..., dict[str, Any]]]] = {
    "map": DocumentReader._map,  # noqa: SLF001 - its own, like the next
    "wait_for": DocumentReader._wait,  # noqa: SLF001
    "question": DocumentReader._question,  # noqa: SLF001
    "call": DocumentReader._call,  # noqa: SLF001
    "program": DocumentReader._program,  # noqa: SLF001
    "gather": DocumentReader._gather,  # noqa: SLF001
    "reduce": DocumentReader._reduce,  # noqa: SLF001
    "type": DocumentReader._worker,  # noqa: SLF001
}
#: The options that a task of a workflow may have, beside its type.
_OPTIONS: Final = [
    name
    for name, each in OPTIONS.items()
    if each.place != "submission" and name != "type"
]


def _message(error: Exception) -> str:
    return error.message if isinstance(error, TaskorchError) else str(error)


def document_schema() -> dict[str, Any]:
    """Return the JSON Schema of a workflow as a document."""
    text = files("taskorch.core.workflows").joinpath("schema-parts.json").read_text()
    schema: dict[str, Any] = json.loads(text)
    texts, forms = texts_of(Task), schema.pop("forms")
    for form, may_be in FORMS.items():
        forms[form] = may_be.schema()
        if "anyOf" in forms[form]:
            # A long schema is written once, and referred to.
            schema["$defs"][form] = forms[form]
            forms[form] = {"$ref": f"#/$defs/{form}"}
    schema["$defs"]["options"]["properties"] |= {
        name: {"description": texts.get(name, ""), **forms[each.form]}
        for name, each in OPTIONS.items()
        if each.place != "submission"
    }
    schema["$defs"]["phase"] = DocumentOf(PhaseEntry).schema()
    schema["$defs"]["task"] |= _kinds_schema([*KINDS])
    return {**schema, **DocumentOf(WorkflowEntry).schema()}


def _kinds_schema(kinds: Sequence[str]) -> dict[str, Any]:
    """Return the schema of one of these *kinds*; the last is the default."""
    kind, *others = kinds
    entry = DocumentOf(KINDS[kind]).schema()
    needed = [name for name in entry["required"] if name != kind or not others]
    work = {
        "description": (KINDS[kind].__doc__ or "").strip().partition("\n")[0],
        "properties": entry["properties"],
        **({"required": needed} if needed else {}),
    }
    if not others:
        return work
    return {"if": {"required": [kind]}, "then": work, "else": _kinds_schema(others)}
