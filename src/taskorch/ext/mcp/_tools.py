"""
The table of tools, with their arguments, answers, errors and effects.

All that is said of a tool stands in its row: the list that a client sees, the check of
what comes in, what a server that changes nothing leaves out, and the documentation are
taken from it. A tool is few verbs: what these take and change is as the table of verbs
has it. A place has a tool if it has the verbs that the tool needs.

Decisions: language-models, verbs-and-front-ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from functools import partial
from typing import Any, Final, TypeAlias

import attrs

from taskorch.api.verbs.table import VERBS
from taskorch.errors import (
    AnswerRefusedError,
    DuplicateTaskError,
    InvalidTaskError,
    InvalidTransitionError,
    PlanningError,
    TaskorchError,
    UnknownTaskError,
    UsageError,
)
from taskorch.ext.mcp import _calls
from taskorch.ext.mcp._calls import Form, ToolUser
from taskorch.kit.findings import findings_of
from taskorch.kit.limits import MAX_ID_LENGTH
from taskorch.kit.verbs import Verb
from taskorch.kit.visible import visible
from taskorch.kit.vocabulary import meant
from taskorch.model import TaskFilter, TaskState

Schema: TypeAlias = Mapping[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_OBJECT: Final[Schema] = {"type": "object"}
_WHETHER: Final[Schema] = {"type": "boolean"}
_NUMBER: Final[Schema] = {"type": "number"}
_LIST: Final[Schema] = {"type": "array"}
_TEXTS: Final[Schema] = {"type": "array", "items": _TEXT}
_SECONDS: Final[Schema] = {"type": "number", "minimum": 0}
_ID: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH + 20}
_NAME: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 200}
_FOR_TYPES: Final[Mapping[str, Schema]] = {
    "state": {"type": "string", "enum": [state.value for state in TaskState]},
    "contains": _OBJECT,
    "since": _SECONDS,
    "longer": _SECONDS,
    "whether": _WHETHER,
}


#: The places that have more tools.
_ELSEWHERE: Final = "name the service, or the file that makes the orchestrator"


#: The verbs, by their names at a service and its client.
_BY_NAME: Final = {verb.operation: verb for verb in VERBS.values()}


class Effect(Enum):
    """The effect of a tool: none, one that can be undone, or a final one."""

    NONE = "none"
    UNDONE = "can be undone"
    FINAL = "for good"


@attrs.frozen
class ToolArgument:
    """
    One argument of a tool.

    Attributes:
        name: Its name.
        schema: Its JSON Schema.
        text: Its description, for the user of the tool.
        is_needed: Whether it must be there.
    """

    name: str
    schema: Schema
    text: str
    is_needed: bool = False


@attrs.frozen
class Tool:
    """
    A tool, which a language model uses by one call.

    Attributes:
        name: Its name.
        text: Its effect, for its user.
        arguments: Its arguments.
        answers: The JSON Schemas of the members of its answer, by name.
        call: Does it: of the place, the arguments, and who asks.
        needs: The verbs that a place must have for it.
        raises: Its errors, beside those of any call.
        is_work: Whether it brings work, which no verb of the table does.
        is_idempotent: Whether a second call with the same arguments changes nothing
            more.
        quotes: Whether its answer has texts of tasks and of their users.
        form: Makes the form for the person at the client, if there is one.
        is_long: Whether it may be answered by a task of the protocol.
        verb: The verb of an extension that it is, if it is one.
    """

    name: str
    text: str
    arguments: tuple[ToolArgument, ...]
    answers: Mapping[str, Schema]
    call: Callable[[Any, Mapping[str, Any], ToolUser], dict[str, Any]] = attrs.field(
        repr=False
    )
    needs: tuple[str, ...]
    raises: tuple[type[TaskorchError], ...] = ()
    is_work: bool = False
    is_idempotent: bool = False
    quotes: bool = True
    form: Callable[[Any, Mapping[str, Any], ToolUser], Form | None] | None = (
        attrs.field(default=None, repr=False)
    )
    is_long: bool = False
    verb: Verb | None = None

    @property
    def effect(self) -> Effect:
        """The largest effect of its verbs."""
        verbs = [_BY_NAME[name] for name in self.needs if name in _BY_NAME]
        verbs += [] if self.verb is None else [self.verb]
        if any(verb.is_final for verb in verbs):
            return Effect.FINAL
        if self.is_work or any(verb.changes for verb in verbs):
            return Effect.UNDONE
        return Effect.NONE

    @property
    def input_schema(self) -> dict[str, Any]:
        """The schema of its arguments; there are no others."""
        return {
            "type": "object",
            "properties": {
                each.name: {**each.schema, "description": each.text}
                for each in self.arguments
            },
            "required": [each.name for each in self.arguments if each.is_needed],
            "additionalProperties": False,
        }

    @property
    def output_schema(self) -> dict[str, Any]:
        """The schema of its answer without an error."""
        properties = {name: dict(schema) for name, schema in self.answers.items()}
        return {"type": "object", "properties": properties, "required": [*self.answers]}

    def check(self, values: Mapping[str, Any]) -> None:
        """
        Refuse arguments that it does not take.

        Raises:
            InvalidTaskError: All that is wrong with them.
        """
        findings = findings_of(self.input_schema, dict(values), {})
        faults = [f"{path}: {text}" for path, text in findings]
        if faults:
            msg = f"{self.name}: {'; '.join(faults)}"
            raise InvalidTaskError(msg, hint=f"it takes {self._signature}")

    def use(
        self, place: Any, values: Mapping[str, Any], caller: ToolUser
    ) -> dict[str, Any]:
        """
        Use the tool, and return its answer as JSON has it.

        Args:
            place: The place.
            values: Its arguments, by name.
            caller: The user of the tool.

        Raises:
            InvalidTaskError: See `check`.
            TaskorchError: See `raises`.
        """
        self.check(values)
        return self.call(place, values, caller)

    @property
    def _signature(self) -> str:
        names = [
            each.name if each.is_needed else f"[{each.name}]" for each in self.arguments
        ]
        return ", ".join(names) or "nothing"


def tools_of(place: Any, allow: Collection[str] = ()) -> list[Tool]:
    """
    The tools that a place has: those that change nothing, and those allowed by name.

    Args:
        place: The place.
        allow: Names of tools that may change something.

    Raises:
        InvalidTaskError: There is no such tool, it changes nothing, or this place has
            not the verbs for it.
    """
    every_tool = [*TOOLS, *_of_extensions(place)]
    changing = {t.name: t for t in every_tool if t.effect is not Effect.NONE}
    for name in allow:
        if name not in changing:
            msg = f"{name!r} is no tool that changes something"
            every = f"there are {', '.join(changing)}"
            raise InvalidTaskError(msg, hint=meant(name, changing, every))
        if not _has(place, changing[name]):
            msg = f"{name} cannot be allowed here: {place} cannot be changed by that"
            raise InvalidTaskError(msg, hint=_ELSEWHERE)
    return [
        tool
        for tool in every_tool
        if (tool.effect is Effect.NONE or tool.name in allow) and _has(place, tool)
    ]


def why_absent(place: Any, name: str, tools: Collection[str]) -> str:
    """Return why a place has no tool *name*, and the remedy."""
    every_tool = (*TOOLS, *_of_extensions(place))
    tool = next((each for each in every_tool if each.name == name), None)
    if tool is None:
        every = f"there are {', '.join(tools)}"
        shown = visible(name[:MAX_ID_LENGTH])
        return f"there is no tool {shown!r} here: {meant(name, tools, every)}"
    if not _has(place, tool):
        return f"there is no tool {name!r} for {place}: {_ELSEWHERE}"
    return (
        f"there is no tool {name!r} here: it was not allowed. Its owner allows it, by "
        f"--allow {name}"
    )


def _of_extensions(place: Any) -> list[Tool]:
    """The tools that are verbs of extensions: `licences_take` of `licences.take`."""
    verbs: Mapping[str, Verb] = getattr(place, "verbs_of_extensions", {})
    return [
        Tool(
            call.replace(".", "_"),
            verb.text,
            tuple(
                ToolArgument(each.name, each.form, each.text, each.is_needed)
                for each in verb.arguments
            ),
            {verb.gives: {}},
            partial(_calls.of_extension, call, verb),
            (),
            (TaskorchError,),
            verb=verb,
        )
        for call, verb in verbs.items()
        if verb.request
    ]


def _has(place: Any, tool: Tool) -> bool:
    return all(hasattr(place, verb) for verb in tool.needs)


def _of_verb(call: str, name: str, **more: Any) -> ToolArgument:
    """An argument of a tool that is one of a verb."""
    argument = next(each for each in VERBS[call].arguments if each.name == name)
    text = argument.text.partition(". ")[0].removesuffix(".") + "."
    return ToolArgument(name, {**argument.form, **more}, text, argument.is_needed)


_TASK: Final = ToolArgument("task", _ID, "Its id; `x~1` is the first run of x.", True)  # noqa: FBT003
_MAYBE_TASK: Final = attrs.evolve(_TASK, is_needed=False)
_BY: Final = ToolArgument(
    "by", _NAME, "Whose hold it is; by default, that of this server."
)

TOOLS: Final[tuple[Tool, ...]] = (
    Tool(
        "find",
        "Lists tasks, the first submitted first. Without arguments: the first of all.",
        (
            *(
                ToolArgument(each.name, _FOR_TYPES.get(each.how, _TEXT), each.text)
                for each in TaskFilter.FIELDS.values()
            ),
            ToolArgument(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": _calls.MOST_ROWS},
                f"How many at the most; {_calls.ROWS} by default.",
            ),
        ),
        {"tasks": _LIST, "more": _WHETHER},
        _calls.find,
        ("tasks",),
        (InvalidTaskError,),
    ),
    Tool(
        "status",
        "The state of one task: its history, errors, result and who runs it.",
        (_TASK,),
        {"task_id": _TEXT, "state": _TEXT},
        _calls.status,
        ("get_task_status",),
        (UnknownTaskError,),
    ),
    Tool(
        "why",
        "Says why a task, a run or a schedule does not go on, or what became of it, "
        "with the remedies. Without one: what holds the whole, what can never proceed "
        "as things stand, and what failed, by cause.",
        (
            ToolArgument(
                "task", _ID, "Id of a task or of a run, or the name of a schedule."
            ),
        ),
        {"text": _TEXT},
        _calls.why,
        ("explain", "stuck", "tasks", "failures"),
        (UnknownTaskError,),
    ),
    Tool(
        "when",
        "Says when a task or a run ends: as likely as not, and in nine of ten cases. "
        "With `changes`: the smallest changes after which it ends by its deadline, and "
        "what they do to others; none is made.",
        (
            ToolArgument("task", _ID, "Id of a task or of a run.", is_needed=True),
            _of_verb("when", "deadline"),
            ToolArgument(
                "changes", _WHETHER, "Whether to say what would have to change."
            ),
        ),
        {"text": _TEXT},
        _calls.when,
        ("when", "in_time"),
        (UnknownTaskError, InvalidTaskError),
    ),
    Tool(
        "what_if",
        "Says what changes would do to the end of every run and task that is open, as "
        "a table; none is made.",
        tuple(_of_verb("what_if", name) for name in ("priority", "pools", "pause")),
        {"text": _TEXT},
        _calls.what_if,
        ("what_if",),
        (UnknownTaskError, InvalidTaskError),
    ),
    Tool(
        "wait",
        "Waits until a task has ended, so many seconds at the most. If it has not, "
        "`text` says why, and it can be called again: nothing is lost.",
        (
            _TASK,
            ToolArgument(
                "seconds",
                {**_SECONDS, "maximum": _calls.MOST_SECONDS},
                f"How long; {_calls.SECONDS:g} by default.",
            ),
        ),
        {"ended": _WHETHER, "task_id": _TEXT, "state": _TEXT, "text": _TEXT},
        _calls.wait,
        ("get_task_status", "explain"),
        (UnknownTaskError,),
        is_long=True,
    ),
    Tool(
        "questions",
        "The questions and escalations that wait for a person's answer.",
        (),
        {"questions": _LIST},
        _calls.questions,
        ("questions",),
    ),
    Tool(
        "schedules",
        "The schedules; of one, its next times, too.",
        (ToolArgument("name", _NAME, "Of one of them."),),
        {"schedules": _LIST},
        _calls.schedules,
        ("schedules", "schedule"),
        (UsageError,),
    ),
    Tool(
        "plan",
        "Plans what a request asks for; nothing is started. `submit` starts the "
        "`workflow` in it.",
        (
            ToolArgument(
                "request",
                {"anyOf": [_TEXT, _OBJECT]},
                "In words, or as an object.",
                is_needed=True,
            ),
        ),
        {"plan": _OBJECT},
        _calls.plan,
        ("plan",),
        (InvalidTaskError, PlanningError),
    ),
    Tool(
        "doctor",
        "The state of the whole: health, counts, times, resources, holds of starts.",
        (),
        {"statistics": _OBJECT},
        _calls.doctor,
        ("get_stats",),
    ),
    Tool(
        "submit",
        "Submits tasks, or starts a workflow: all of it, or nothing. With `dry_run` "
        "nothing is started: it says how long it would take, and what would hold it "
        "up.",
        (
            ToolArgument(
                "tasks",
                {"type": "array", "items": _OBJECT, "minItems": 1},
                'Tasks as JSON: {"type": …, "payload": …, "id": …, "after": […]}.',
            ),
            ToolArgument(
                "workflow",
                _OBJECT,
                'In their place: {"workflow": NAME, "tasks": {ID: {"type": …, '
                '"payload": …, "after": [ID]}}}; its schema is at taskorch://schema.',
            ),
            ToolArgument("id", _ID, "The id of the run of a workflow."),
            ToolArgument(
                "parameters", _OBJECT, "Values for those that the workflow declares."
            ),
            ToolArgument(
                "key",
                _NAME,
                "The same call with the same key again means what is there already.",
            ),
            ToolArgument("dry_run", _WHETHER, "Whether to simulate it only."),
            ToolArgument(
                "durations",
                {"type": "object", "additionalProperties": _SECONDS},
                "Of a dry run: seconds by id or type; otherwise as was measured.",
            ),
        ),
        {"ids": _TEXTS, "run": {"type": ["string", "null"]}, "text": _TEXT},
        _calls.submit,
        ("submit_documents", "start_workflow"),
        (InvalidTaskError, DuplicateTaskError, UsageError),
        is_work=True,
        quotes=False,
    ),
    Tool(
        "answer",
        "Answers a question that names this server among those who may answer. Those "
        "of people are for people: without a choice, the person at the client is "
        "asked, if it can ask.",
        (
            ToolArgument("question", _ID, "Its id, as `questions` has it.", True),  # noqa: FBT003
            ToolArgument("choice", _NAME, "One of its options."),
            _of_verb("answer", "note", maxLength=2_000),
            _of_verb("answer", "changes"),
        ),
        {"decided": _WHETHER},
        _calls.answer,
        ("questions", "answer"),
        (AnswerRefusedError, UnknownTaskError),
        quotes=False,
        form=_calls.form,
    ),
    Tool(
        "cancel",
        "Calls a task off. One that runs is asked to stop.",
        (_TASK,),
        {"changed": _WHETHER, "state": _TEXT},
        _calls.cancel,
        ("cancel_task",),
        (UnknownTaskError, InvalidTransitionError),
        is_idempotent=True,
        quotes=False,
    ),
    Tool(
        "rerun",
        "Runs a task again that has ended: a new run, whose id it answers. `at` forks "
        "it: what was kept before that step stays. `dry_run` only says what it does.",
        (
            _TASK,
            attrs.evolve(_of_verb("steps.fork", "at"), is_needed=False),
            _of_verb("rerun_task", "downstream"),
            _of_verb("rerun_task", "definition"),
            ToolArgument("dry_run", _WHETHER, "Whether nothing is to be run."),
        ),
        {"task_id": {"type": ["string", "null"]}, "text": _TEXT},
        _calls.rerun,
        ("rerun_task", "fork"),
        (UnknownTaskError, InvalidTransitionError, UsageError),
        quotes=False,
    ),
    Tool(
        "hold",
        "Puts a task aside; without one, lets nothing new start. `release` undoes it.",
        (
            _MAYBE_TASK,
            attrs.evolve(_of_verb("hold_starts", "reason"), is_needed=False),
            _of_verb("hold_starts", "most"),
        ),
        {"changed": _WHETHER},
        _calls.hold,
        ("suspend_task", "hold_starts"),
        (UnknownTaskError, InvalidTransitionError),
        is_idempotent=True,
        quotes=False,
    ),
    Tool(
        "release",
        "Lets a task go on that was put aside; without one, lets tasks start again.",
        (_MAYBE_TASK, _BY),
        {"changed": _WHETHER},
        _calls.release,
        ("resume_task", "release_starts"),
        (UnknownTaskError,),
        is_idempotent=True,
        quotes=False,
    ),
    Tool(
        "reprioritise",
        "Moves a task in the queue: the highest priority is first.",
        (
            _TASK,
            _of_verb("set_priority", "priority"),
        ),
        {"changed": _WHETHER},
        _calls.reprioritise,
        ("set_priority",),
        (UnknownTaskError, InvalidTaskError),
        is_idempotent=True,
        quotes=False,
    ),
)
