"""Writes the generated pages of the reference; a test holds them up to date."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path
from textwrap import fill

import attrs

from taskorch import TaskOrchestrator, errors
from taskorch.api._settings.configuration import SETTINGS as WRITTEN, as_variable
from taskorch.api._settings.fields import SETTINGS, SIMULATED
from taskorch.api.verbs.table import VERBS
from taskorch.core.kernel import TRANSITIONS
from taskorch.core.kernel._table import MOVES, After
from taskorch.core.workflows._documents import (
    KINDS,
    CacheEntry,
    ElasticEntry,
    JoinEntry,
    RetryEntry,
    WorkflowEntry,
)
from taskorch.core.workflows._phases import PhaseEntry
from taskorch.errors import TaskFailure, TaskorchError, UsageError
from taskorch.events import CATALOGUE, VIEWS, signal_name
from taskorch.ext.jobs._config import CONFIGURATION as ADAPTIVE_JOBS
from taskorch.ext.jobs._contract import JobEntry
from taskorch.ext.planner._values import PlanEntry, TaskRequest
from taskorch.ext.pools import PoolsEntry
from taskorch.ext.schedules._definition import ScheduleEntry
from taskorch.ext.suites._keys import CONFIGURATION
from taskorch.ext.task_files._config import WorkspaceEntry
from taskorch.ext.task_files._task_file import TaskFile
from taskorch.kit.described import texts_of
from taskorch.kit.forms import (
    AnyNames,
    DocumentOf,
    Each,
    Either,
    Maybe,
    Tagged,
    keys_of,
)
from taskorch.kit.members import arguments_of, members_of, methods_of
from taskorch.model import OPTIONS, Task, TaskFilter, TaskState
from taskorch.model._states import TERMINAL
from taskorch.policies._kinds import POLICIES
from taskorch.protocols import MAY_HAVE

DOCS = Path(__file__).parents[3] / "docs"


def events_page() -> str:
    lines = [
        "# Events",
        "",
        "Every event has `seq`, `at_ns`, `at` (seconds since 1970) and `timestamp` (UTC).",
        "Events of a task have `task_id`; those with a star `caller`, who caused them by hand.",
        "Other fields stand in brackets. The signal of `TaskStarted` is",
        "`orch.signals.task_started`, and so on.",
        "",
    ]
    inside = {
        view: event
        for event, views in VIEWS.items()
        for view in views
        if view is not event
    }
    for cls in CATALOGUE:
        names = [
            f.name
            for f in attrs.fields(cls)
            if f.name not in ("seq", "at_ns", "task_id") and not f.name.startswith("_")
        ]
        star = ""
        if "caller" in names:
            names.remove("caller")
            star = "*"
        summary = inspect.getdoc(cls).splitlines()[0]
        if cls in inside and "view" not in summary:
            summary += f" A view of `{inside[cls].__name__}`."
        fields = f" ({', '.join(f'`{name}`' for name in names)})" if names else ""
        assert signal_name(cls) == re.sub(r"(?!^)(?=[A-Z])", "_", cls.__name__).lower()
        lines.append(f"- `{cls.__name__}`{star}{fields}: {summary}")
    return "\n".join(lines) + "\n"


def options_page() -> str:
    fixed = [each.name for each in OPTIONS.values() if each.identity]
    lines = [_OPTIONS.format(fixed=_in_code(fixed), places=" ".join(_places()))]
    texts = texts_of(Task)
    for each in OPTIONS.values():
        usual = "" if each.default is attrs.NOTHING else f" (`{each.default!r}`)"
        lines.append(f"- `{each.name}`, {_FORMS[each.form]}{usual}: {texts[each.name]}")
    lines += ["", _FILTERS_HEAD]
    for each in TaskFilter.FIELDS.values():
        text = f": {each.text}" * (each.text != texts.get(each.name))
        lines.append(f"- `{each.name}`{_HOWS[each.how]}{text}")
    return "\n".join(lines) + "\n"


def _in_code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _places() -> list[str]:
    """The options that do not stand everywhere, by the place where they do."""
    found: dict[str, list[str]] = {}
    for each in OPTIONS.values():
        found.setdefault(each.place, []).append(each.name)
    return [f"{text}: {_in_code(found[place])}." for place, text in _PLACES.items()]


_OPTIONS = """\
# Options of a task, and filters

`Task(type, payload, …)` takes these by name, and so do `Task.call`, `Task.program`, `@task`, the
builders of workflows, the documents of workflows and the bodies of `POST /api/v1/tasks`. Brackets have the default. A duration
is in seconds, or a timedelta; a moment is a duration, or an aware datetime.

A second submission under an id may change an option until the task has ended. These stay: {fixed}.

{places}
"""

_FORMS = {
    "type": "text ≤500",
    "id": "safe path",
    "key": "text ≤200",
    "name": "text ≤500",
    "names": "texts",
    "ids": "ids, handles or tasks",
    "paths": "paths",
    "join": "word, `AtLeast(k)` or function",
    "on_parent_failure": "word",
    "priority": "whole number within ±1,000,000",
    "resources": "`Resources`, `Elastic` or mapping",
    "retry": "`RetryPolicy`",
    "duration": "duration above 0",
    "duration_or_zero": "duration",
    "moment": "moment above 0",
    "moment_or_zero": "moment",
    "cache": "`Cache` or `True`",
    "flag": "flag",
    "values": "mapping",
}
_PLACES = {
    "workflow": "With a task, and not with its function",
    "submission": "With a task outside workflows",
}
_FILTERS_HEAD = """\
## Filters

`TaskFilter` takes these, and so do `orch.tasks`, `orch.aio.tasks`, `JournalReader.tasks`,
`Client.tasks` and `Simulation.tasks`, the query of `GET /api/v1/tasks`, and, as flags, `taskorch inspect`. All must hold. One
without a text is about the option of its name.
"""
_HOWS = {
    "state": "",
    "equal": "",
    "pattern": ", a pattern such as `nightly/*`",
    "contains": ", names and values that they have; over HTTP a JSON object",
    "since": ", a date or seconds ago",
    "longer": ", seconds that are exceeded",
    "whether": ", `True` or `False`",
}


def settings_page() -> str:
    variable = as_variable("resources", WRITTEN["resources"][1])
    lines = [_SETTINGS.format(variable=variable)]
    texts = texts_of(TaskOrchestrator, "Args")
    for name, (setting, written) in WRITTEN.items():
        usual = json.dumps(setting.default).replace("null", '"none"')
        needs = _shorter(written.needs) + (', or `"none"`' if setting.none else "")
        example = f"; `{name} = {written.example}`" * ("{" in written.example)
        lines.append(f"- `{name}`, {needs} (`{usual}`){example}: {texts[name]}")
    lines += ["", _PARTS]
    lines += [
        f"- `{name}`: {texts[name]}"
        for name in SETTINGS
        if name not in WRITTEN and name not in POLICIES
    ]
    simulated = _in_code(name for name in SIMULATED if name not in POLICIES)
    lines += ["", fill(f"A `Simulation` takes the policies, and {simulated}.", 100)]
    return "\n".join(lines) + "\n"


_SETTINGS = """\
# Settings of an orchestrator

`TaskOrchestrator` and `TaskExecutor` take these by name. `TaskOrchestrator.from_config` reads those with plain values
[from a file and the environment](../howto/configuration.md); `"none"` is `None` there. The variable of `resources` is
`{variable}`, and so on. Brackets have the default.
"""
_PARTS = """\
## What is code

- the [policies](policies.md), by their names"""


def policies_page() -> str:
    lines = [_POLICIES]
    texts = texts_of(TaskOrchestrator, "Args")
    for name, protocol in POLICIES.items():
        methods = ", ".join(
            f"`{_call(protocol, method)}` → `{_answer(protocol, method)}`"
            for method in methods_of(protocol)
        )
        lines.append(f"- `{name}`, `{protocol.__name__}`: {methods}. {texts[name]}")
    lines += ["", _MAY_HAVE]
    names = {protocol: name for name, protocol in POLICIES.items()}
    for optional, kinds in MAY_HAVE.items():
        what = inspect.getdoc(optional).partition("\n\n")[0]
        members = ", ".join(
            f"`{_member(optional, one)}`" for one in members_of(optional)
        )
        asked = ", ".join(f"`{names[kind]}`" for kind in kinds)
        lines.append(f"- `{optional.__name__}` ({asked}): {what} {members}")
    return "\n".join(lines) + "\n"


def _member(protocol: type, name: str) -> str:
    return _call(protocol, name) if name in methods_of(protocol) else name


def _call(protocol: type, method: str) -> str:
    return f"{method}({', '.join(arguments_of(protocol, method))})"


def _answer(protocol: type, method: str) -> str:
    return inspect.signature(getattr(protocol, method)).return_annotation


_POLICIES = """\
# Policies

Seven policies decide everything. Each is an argument of `TaskOrchestrator`, `TaskExecutor` and `Simulation`.
[Several come with the library](../howto/policies.md), and [any object with the methods](../howto/own-parts.md) will do. The
orchestrator refuses one that lacks a method or takes other arguments, by name. Here stand argument, protocol of
`taskorch.protocols`, method → answer, and in brackets the default.
"""

_MAY_HAVE = """\
## What a policy may have besides

A policy may also have the methods or attributes of these protocols of `taskorch.protocols`; it need not inherit. Brackets say
which policies. `None` counts as absent. The orchestrator or the simulation refuses a member of another form, by name. `help(…)`
of the protocol says when each is asked, and what follows if it raises.
"""


def states_page() -> str:
    return f"""# States

{_STATES}
A state may become:

{_transitions()}

This is `taskorch.core.kernel.TRANSITIONS`; `diagram()` draws it. Your StateMachine can forbid and rename, not add.

## What each event does

Only events of the kernel change a state. `core/kernel/_table.py` has their functions, and [another
page](commands.md) the commands that make them. A task that is QUEUED again at once was RETRYING for no time.

{_moves()}
"""


def _transitions() -> str:
    return "\n".join(
        f"- {before.name if before else 'new'} → {_named(afters)}"
        for before, afters in TRANSITIONS.items()
        if before not in TERMINAL
    )


def _named(states: Iterable[TaskState]) -> str:
    chosen = {*states}
    return ", ".join(state.name for state in TaskState if state in chosen)


def _moves() -> str:
    """The events of each change, once."""
    events: dict[str, list[str]] = {}
    for each in MOVES:
        name = f"`{each.event.__name__}`" + " of a parent" * each.of_dependent
        events.setdefault("; ".join(_changes(each.after)), []).append(name)
    return "\n".join(
        f"- {', '.join(names)}: {after}" for after, names in events.items()
    )


def _changes(after: After) -> list[str]:
    """The same changes once, for all the states before."""
    alike: dict[str, list[TaskState | None]] = {}
    for before, afters in after.items():
        names = ["same" if one is before else one.name for one in afters]
        alike.setdefault(", ".join(names), []).append(before)
    return [f"{_all(befores)} → {follow}" for follow, befores in alike.items()]


def _all(befores: Iterable[TaskState | None]) -> str:
    """The names of states, in a word if they are most."""
    states = {*befores}
    others = {*TaskState} - states
    if others in (set(), TERMINAL):
        return "not ended" if others else "any"
    if len(others) == 1:
        return f"not {_named(others)}"
    return "new" if states == {None} else _named(state for state in states if state)


_STATES = """\
PENDING waits for dependencies or `not_before`, QUEUED for a slot, a worker (class `Agent`) and resources, RETRYING for its delay,
SUSPENDED for `resume_task`. BLOCKED waits for a person, an event from outside, a failed dependency, or a function or
worker that is gone. COMPLETED, FAILED and CANCELLED are terminal: a task reaches one of them, once. A re-run is a new
task, `id~2`.
"""


def errors_page() -> str:
    lines = [_ERRORS]
    for title, root in _ROOTS.items():
        lines += [f"## {title}", ""]
        for cls in _classes_of(root):
            what = inspect.getdoc(cls).splitlines()[0]
            remedy = cls.default_hint or _REMEDIES[cls.__name__]
            remedy = re.sub("^[a-z](?=[a-z]+ )", lambda first: first[0].upper(), remedy)
            entry = f"- `{cls.__name__}`, `{cls.code}`: {what}"
            lines.append(entry + f" *{remedy}.*" * bool(remedy))
        lines.append("")
    return "\n".join([*lines, _NO_ERRORS])


def _classes_of(root: type) -> list[type]:
    """All that is below *root* on the page: what has no heading of its own."""
    found = []
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, TaskorchError):
            nearest = next(base for base in cls.__mro__ if base in _ROOTS.values())
            if nearest is root and cls not in found:
                found.append(cls)
    return found


_ROOTS = {
    "Impossible calls": UsageError,
    "Failures of tasks": TaskFailure,
    "The journal, and the rest": TaskorchError,
}

_ERRORS = """\
# Errors

All are in `taskorch.errors`, and subclasses of `TaskorchError`. Each has a stable `.code` for programs, a `.message` that says
what happened and where, a `.hint` that says what to do, and the `.task_id`, if there is one. Below stand code, meaning and, in
italics, the general hint.

```python
from taskorch import TaskOrchestrator
from taskorch.errors import TaskorchError

with TaskOrchestrator() as orch:
    try:
        orch.get_task_status("nobody")
    except TaskorchError as error:
        print(error.code)  # unknown_task
        print(error.hint)  # orch.tasks() lists the tasks that are known
```

`handle.result()` raises the exception of your own function unchanged. A failure that nobody asks for is in the log, and
[an event](../howto/follow.md). The [command line](command-line.md) has exit codes of its own.
"""

_NO_ERRORS = """\
## Raised by you

A task raises `Permanent` if another attempt is of no use. A checkpoint raises `AttemptInterrupted` in a task whose attempt is to
stop. Neither is an error of ours.
"""

_REMEDIES = {
    # Their message says it, and of the root of others there is nothing to say.
    **dict.fromkeys(("AnswerRefusedError", "InvalidTaskError", "JournalError"), ""),
    **dict.fromkeys(("StepError", "TaskFailure", "TaskorchError", "UsageError"), ""),
    "AgentProgramError": "read the message; see `start` of its template",
    "AllocationError": "`orch.resources.allocations()` lists the present ones",
    "AttemptLostError": "give the task a `RetryPolicy`; the message says how the worker ended",
    "ComponentError": "mend the policy that `.component` names; its cause is chained",
    "InvalidTransitionError": "look at the task's state first",
    "NotRunningError": "use the orchestrator in a `with` block, or call `start()`",
    "OutcomeUnknownError": "look at the effect, then `orch.decide(id, …)`",
    "ProgramFailedError": "`.result` has its exit code, what it printed, and its log",
    "TaskCancelledError": "`.reason` says who cancelled it",
    "TaskExpiredError": "raise the `max_age` of the queue, or the concurrency",
    "TaskFailedError": "the message has what it raised; `orch.rerun_task(id)` runs it again",
    "TaskTimeoutError": "raise `timeout` or `deadline`, or let the task ask `context.cancelled`",
    "UnkeptResultError": "return what [can be kept](../howto/durable.md#values-that-a-journal-keeps)",
    "UnknownAgentError": "register one of this name: `orch.agent(name, …)`",
    "UnknownCapabilityError": "register a worker that has it",
    "UnsatisfiableError": "ask for less, or make the pool larger",
    "UnwantedResultError": "raise `max_attempts`, or look at what it returns",
}

_VERBS = """\
# Verbs

All acts of an orchestrator, with request and command. `orch.aio` has each method as an awaitable. `Client` and `Client.aio`
have those with a request, under the same name unless brackets have another, and return its JSON. A request is below `/api/v1`,
and takes the arguments of the method; `GET /openapi.json` has the schemas. A command follows `taskorch`, and takes a journal that
nobody uses, or the URL of a service. *Program*: neither HTTP nor a command has it. `*` cannot be undone.
"""


#: Methods that are no verbs, and why; those of a line have the same reason.
BY_HAND = {
    "submit submit_task submit_tasks map options": "functions, documents and `taskorch run` have forms of their own",
    "tasks events show_progress": "endless: pages, streams and lines",
    "gather as_completed task agent recover note_event watch_alerts schedule start stop serve stop_on budget kept "
    "agents.template agents.coding agents.pool agents.provision_new_agent": "of a program alone",
    "agents.health": "`agents.get` has it",
    "agents.join agents.beat agents.leave agents.is_lost agents.keep agents.bring_late agents.awaits_end "
    "agents.check_made agents.program_of": "messages of remote workers",
    "schedules.add schedules.add_document": "`taskorch schedules JOURNAL add`; a service takes no new ones",
    "schedules.next schedules.explain": "`schedule_status` has it",
    "schedules.next_work": "`when` of a schedule says when it ends",
    "schedules.check schedules.restore": "the work of schedules",
    "governance.approve_waiver governance.reject_waiver": "`answer` does it: a waiver is a question",
    "governance.waiver": "`governance.waivers` has it",
    "governance.replay": "`taskorch policy replay` reads a journal",
    "governance.serve governance.hear_waivers governance.restore_waivers governance.covers governance.end_for_content": "the work of policies",
    "steps.split steps.forkable": "`taskorch fork --dry-run` and `taskorch fork-many --dry-run` say them",
    "steps.told_by": "`taskorch inspect` has it, of a journal that somebody else may have open",
}

#: Reasons of methods that no program calls.
_OF_OTHER_PARTS = {
    "messages of remote workers",
    "the work of schedules",
    "the work of policies",
}


def verbs_page() -> str:
    lines = [_VERBS]
    for call, verb in VERBS.items():
        faces = []
        if verb.request:
            client = f" (`{verb.operation}`)" * (verb.operation != call)
            faces.append(f"`{verb.request}`{client}")
        if verb.command:
            act = filter(None, [verb.command_act])
            words = " ".join([verb.command_name, *act, *verb.command_words])
            faces.append(f"`{words.replace('+', '/')}`")
        lacks: dict[str, list[str]] = {}
        for face, why in verb.lacks.items():
            other = re.fullmatch(r"`(\w+)` (has|shows) (it|them)", why)
            if other and face == "command":
                faces.append(f"`{other[1]}`")
            elif "the program" in why:
                faces = ["*program*"]
            else:
                lacks.setdefault(why, []).append(face.replace("http", "HTTP"))
        faces += [f"{', '.join(each)}: {why}" for why, each in lacks.items()]
        star = "*" * verb.is_final
        lines.append(f"- `{call}`{star}: {verb.text} {'; '.join(faces)}".rstrip())
    lines += [
        "",
        "## By hand",
        "",
        "These methods are no verbs, nor are those that front ends and workers call:",
        "",
    ]
    for names, why in BY_HAND.items():
        if why not in _OF_OTHER_PARTS:
            lines.append(f"- {_in_code(names.split())}: {why}")
    return "\n".join(lines) + "\n"


def documents_page():
    lines = [_DOCUMENTS]
    #: Where the keys of a class of entries stand: each once.
    places = {
        form.cls: f"[{title}](#{_anchor(title)})"
        for title, form in DOCUMENTS.items()
        if isinstance(form, DocumentOf)
    }
    for title, form in DOCUMENTS.items():
        lines += [f"## {title}", "", *_keys(form, "", places), ""]
    return "\n".join(lines)


def _anchor(title):
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _keys(form, path, places):
    """A line for each key of a document, and for those within it."""
    if isinstance(form, Maybe | Each):
        mark = "[]" if isinstance(form, Each) else ""
        yield from _keys(form.form, path and f"{path}{mark}", places)
    elif isinstance(form, AnyNames):
        yield from _keys(form.form, f"{path}.NAME".removeprefix("."), places)
    elif isinstance(form, Either):
        yield from _keys(form.first, path, places)
        yield from _keys(form.second, path, places)
    elif isinstance(form, Tagged):
        yield f"- `{path}.{form.tag}`: one of {', '.join(form.kinds)}, needed."
        for kind, cls in form.kinds.items():
            yield from _keys(DocumentOf(cls), f"{path}.{form.tag}={kind}", places)
    elif isinstance(form, DocumentOf):
        for name, each in keys_of(form.cls).items():
            yield from _key(f"{path}.{name}".removeprefix("."), each, places)


def _key(whole, key, places):
    words = "".join(f", `{word}`" for word in key.words)
    text = " ".join(key.text.split()).replace("None", "null")
    entry = _entry(key.form)
    alike = next((cls for cls in places if entry and _has_all_keys(cls, entry)), None)
    if alike:
        names = [f"`{name}`" for name in keys_of(entry)]
        some = f"{', '.join(names)} of " if len(names) < len(keys_of(alike)) else ""
        text += f" Keys: {some or 'those of '}{places[alike]}."
    part = None if alike or not entry else _part_of(entry, places)
    if part:
        text += f" Keys: those of {places[part]}, and:"
    value = _value(key, entry, text)
    if value.startswith("number ") and re.match(
        "Seconds (for|to|before|between|of) ", text
    ):
        value = value.replace("number", "seconds", 1)
        text = text[len("Seconds ")].upper() + text[len("Seconds ") + 1 :]
    if value and _says_no_more(text, f"{whole.rpartition('.')[2]} {value}"):
        text = ""
    parts = [value, text]
    yield f"- `{whole}`{words}: " + " ".join(filter(None, parts))
    if entry is not None:
        places.setdefault(entry, f"`{_within(key.form, whole)}`")
    if not alike:
        inside = _within(key.form, whole)
        known = [f"- `{inside}.{name}`" for name in keys_of(part)] if part else []
        for line in _keys(key.form, whole, places):
            if not line.startswith(tuple(known)):
                yield line


def _says_no_more(text, known):
    """Whether a text has no other words than *known*, the key and its value."""
    words = set(re.findall(r"\w+", text.lower())) - {"a", "the", "its", "of", "at"}
    return words <= set(re.split(r"[\W_]+", known.lower()))


def _part_of(entry, places):
    """The largest class of entries that has a place, and whose keys *entry* has too."""
    parts = [
        cls for cls in places if len(keys_of(cls)) > 2 and _has_all_keys(entry, cls)
    ]
    return max(parts, key=lambda cls: len(keys_of(cls)), default=None)


def _within(form, path):
    """The path of the class of entries that *form* has within it."""
    while isinstance(form, Maybe | Each | AnyNames | Either):
        path += {Each: "[]", AnyNames: ".NAME"}.get(type(form), "")
        form = form.second if isinstance(form, Either) else form.form
    return path


def _has_all_keys(cls, entry):
    """Whether a class of entries has each key of another, and means the same."""
    others = keys_of(cls)
    return all(
        name in others
        and (others[name].form.needs, others[name].text) == (key.form.needs, key.text)
        for name, key in keys_of(entry).items()
    )


def _entry(form):
    """The class of what stands under a key, if it is one."""
    while isinstance(form, Maybe | Each | AnyNames | Either):
        form = form.second if isinstance(form, Either) else form.form
    return form.cls if isinstance(form, DocumentOf) else None


def _value(key, entry, text):
    """What a key may have, unless its text says so, and what it has by default."""
    needs = re.sub("^an? ", "", key.form.needs.rstrip(","))
    needs = re.sub("list of (texts|ids|files)", r"\1", needs)
    needs = re.sub("^hours, or .* a year$", "duration", needs)
    choices = needs.removeprefix("one of ").split(", ")
    is_in_text = len(choices) > 1 and all(f"`{choice}`" in text for choice in choices)
    if needs.startswith("one of ") and all(map(str.isidentifier, choices)):
        needs = f"`{'|'.join(choices)}`"
    needs = _shorter(needs)
    if needs == "text" and not key.is_needed and key.default in (None, ""):
        needs = ""
    if is_in_text or (entry is not None and needs == "mapping"):
        needs = ""
    usual = key.default
    if key.is_needed:
        needs = f"{needs}, needed".removeprefix(", ")
    elif isinstance(usual, str | int | float) and usual != "":
        usual = f"`{json.dumps(usual)}`"
        needs = f"{needs} ({usual})" if needs else f"By default {usual}"
    return f"{needs}." if needs else ""


def _shorter(needs):
    """What a value may be, in fewer words."""
    for words, sign in _SHORTER.items():
        needs = re.sub(words, sign, needs)
    return needs


_SHORTER = {
    "^an? ": "",
    "^the name of a function": "function",
    "^any value, or the result of a task": "value or result",
    r" of (\S+) or more": r" ≥\1",
    r", (\S+) or more\b": r" ≥\1",
    "whole number": "integer",
    r"number of seconds\b": "seconds",
    r" from (\S+) to ": r" \1…",
    " from ": " ≥",
    " above ": " >",
    " within ±": " ±",
    "true or false": "boolean",
}

DOCUMENTS = {
    "A workflow": DocumentOf(WorkflowEntry),
    "A phase of a workflow": DocumentOf(PhaseEntry),
    **{f"A task with `{kind}`": DocumentOf(cls) for kind, cls in KINDS.items()},
    "`retry` of a task": DocumentOf(RetryEntry),
    "`cache` of a task": DocumentOf(CacheEntry),
    "`resources` of a task, if they may be granted in part": DocumentOf(ElasticEntry),
    "`join` of a task, if it is no word": DocumentOf(JoinEntry),
    "A schedule": DocumentOf(ScheduleEntry),
    "A suite": CONFIGURATION,
    "Adaptive jobs": ADAPTIVE_JOBS,
    "An adaptive job": DocumentOf(JobEntry),
    "The block `resource_pools`, besides each `NAME_total`": DocumentOf(PoolsEntry),
    "A workspace": DocumentOf(WorkspaceEntry),
    "A task file": DocumentOf(TaskFile),
    "A request": DocumentOf(TaskRequest),
    "A plan": DocumentOf(PlanEntry),
}
_DOCUMENTS = """\
# Keys of documents

The keys of each kind of file, with the default in brackets. `NAME` is any name, `[]` each item of a list. Other names of a
key follow it. `a|b` is one of these words, a function its name, a result that of a task. A key with keys below it takes a
mapping, another one without a form a text. A duration is hours, or text such as `90s`, `30m` or `2h`, up to a year. An error
lists all faults, with places and the nearest keys.
"""


PAGES = {
    DOCS / "reference" / "documents.md": documents_page,
    DOCS / "reference" / "errors.md": errors_page,
    DOCS / "reference" / "events.md": events_page,
    DOCS / "reference" / "options.md": options_page,
    DOCS / "reference" / "policies.md": policies_page,
    DOCS / "reference" / "settings.md": settings_page,
    DOCS / "reference" / "verbs.md": verbs_page,
    DOCS / "explanation" / "states.md": states_page,
}

if __name__ == "__main__":
    for path, page in PAGES.items():
        path.write_text(page())
