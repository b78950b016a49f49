"""
The table of verbs of an orchestrator and its managers.

They are described at the methods: see `taskorch.kit.verbs`.
"""

from __future__ import annotations

from inspect import signature
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.handles.handles import TaskHandle
from taskorch.core.runs import WorkflowRun, _foreseen
from taskorch.kit.plain import plain, taken_apart
from taskorch.kit.verbs import Verb, verbs_of
from taskorch.model import AgentInstance, AgentMatch, Health, Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from taskorch.core.runs._foreseen import Foreseen
    from taskorch.kit.verbs import Argument

#: The names for front ends.
__all__ = ("VERBS", "acts_of", "as_json", "bound", "commands", "foreseen", "previewed")

#: Classes whose documents are their fields.
_FIELDS: Final = (Health, Stats)
#: The attributes of an orchestrator whose methods are verbs, too.
_PARTS: Final = [
    "agents",
    "governance",
    "memo",
    "resources",
    "schedules",
    "steps",
    "workflows",
]
#: The classes with verbs as methods, by their attribute of an orchestrator.
ROOMS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "": TaskOrchestrator,
        **{name: getattr(TaskOrchestrator, name).room() for name in _PARTS},
    }
)
#: The verbs by their Python call: `cancel_task`, `workflows.cancel`.
VERBS: Final[Mapping[str, Verb]] = MappingProxyType(
    {
        f"{room}.{name}".lstrip("."): verb
        for room, cls in ROOMS.items()
        for name, verb in verbs_of(cls).items()
    }
)


def bound(orch: Any, call: str) -> Callable[..., Any]:
    """
    Return the method of *orch* for *call*, on behalf of the present caller.

    It raises a PolicyDeniedError if policies deny it.
    """
    room, _, name = call.rpartition(".")
    if call not in VERBS:
        of_extension: Callable[..., Any] = orch.extensions.method(call)
        return of_extension
    method: Callable[..., Any] = getattr(getattr(orch, room) if room else orch, name)
    rt = getattr(orch, "_rt", None)
    if rt is None or rt.governor is None:
        return method

    def judged(*args: Any, **fields: Any) -> Any:
        named = signature(method).bind(*args, **fields).arguments
        rt.governor.refuse_verb(VERBS[call].operation, named)
        return method(*args, **fields)

    return judged


def commands() -> dict[str, tuple[str, Verb]]:
    """Return the verbs that are commands, each with its Python call, by name."""
    return {
        verb.command_name: (call, verb)
        for call, verb in VERBS.items()
        if verb.command and not verb.command_act
    }


def acts_of(command: str) -> dict[str, str]:
    """Return the Python call of each act of a command."""
    return {
        verb.command_act: call
        for call, verb in VERBS.items()
        if verb.command_name == command
    }


def previewed(call: str) -> list[Argument]:
    """
    Return the arguments of a verb that its preview takes, too.

    The first is the subject of the verb. Without a preview there are none.
    """
    name = VERBS[call].preview
    arguments = {each.name: each for each in VERBS[call].arguments}
    names = [*signature(getattr(_foreseen, name)).parameters][1:] if name else []
    return [arguments[each] for each in names]


def foreseen(orch: Any, call: str, arguments: Mapping[str, Any]) -> Foreseen:
    """Return the preview of a verb for the arguments of that verb."""
    preview: Callable[..., Foreseen] = getattr(_foreseen, VERBS[call].preview)
    names = {each.name for each in previewed(call)} & arguments.keys()
    return preview(orch, **{name: arguments[name] for name in names})


def as_json(value: Any) -> Any:
    """
    Return the result of a verb as JSON; a handle becomes its id.

    A worker becomes its fields, and, as `instance`, its usual document.
    """
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, AgentInstance):
        fields = taken_apart(value)
        return plain({**fields, "instance": value.to_dict()})
    if isinstance(value, AgentMatch):
        return {**plain(taken_apart(value)), "agent": as_json(value.agent)}
    if isinstance(value, WorkflowRun):
        return value.workflow_id
    if isinstance(value, TaskHandle):
        return value.task_id
    if hasattr(value, "to_dict") and not isinstance(value, _FIELDS):
        return plain(value.to_dict())
    return plain(taken_apart(value))
