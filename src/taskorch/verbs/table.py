"""
All that can be done with an orchestrator: the verbs of it and of its managers.

They are described at the methods: see `taskorch.kit.verbs`.
"""

from __future__ import annotations

from inspect import signature
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from taskorch._handles import TaskHandle
from taskorch._orchestrator import TaskOrchestrator
from taskorch.kit.plain import plain, taken_apart
from taskorch.kit.verbs import Verb, verbs_of
from taskorch.model import AgentInstance, AgentMatch, Health, Stats
from taskorch.runs import WorkflowRun, _foreseen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from taskorch.kit.verbs import Argument
    from taskorch.runs._foreseen import Foreseen

#: What a front end takes.
__all__ = ("VERBS", "acts_of", "as_json", "bound", "commands", "foreseen", "previewed")

#: Their documents are their fields.
_FIELDS: Final = (Health, Stats)
#: The classes whose methods are verbs, by where an orchestrator has them.
ROOMS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "": TaskOrchestrator,
        "agents": TaskOrchestrator.agents.room(),
        "governance": TaskOrchestrator.governance.room(),
        "memo": TaskOrchestrator.memo.room(),
        "resources": TaskOrchestrator.resources.room(),
        "schedules": TaskOrchestrator.schedules.room(),
        "steps": TaskOrchestrator.steps.room(),
        "workflows": TaskOrchestrator.workflows.room(),
    }
)
#: The verbs, by how a program calls them: `cancel_task`, `workflows.cancel`.
VERBS: Final[Mapping[str, Verb]] = MappingProxyType(
    {
        f"{room}.{name}".lstrip("."): verb
        for room, cls in ROOMS.items()
        for name, verb in verbs_of(cls).items()
    }
)


def bound(orch: Any, call: str) -> Callable[..., Any]:
    """
    The method of *orch* that a program calls by *call*, for somebody who asks for it.

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
    """The verbs that are commands, and how a program calls them, by their names."""
    return {
        verb.command_name: (call, verb)
        for call, verb in VERBS.items()
        if verb.command and not verb.command_act
    }


def acts_of(command: str) -> dict[str, str]:
    """How a program calls the verbs that are acts of a command, by the acts."""
    return {
        verb.command_act: call
        for call, verb in VERBS.items()
        if verb.command_name == command
    }


def previewed(call: str) -> list[Argument]:
    """
    What the preview of a verb is told: those of the verb's arguments that it takes.

    The first is what the verb is about. Without a preview there are none.
    """
    name = VERBS[call].preview
    arguments = {each.name: each for each in VERBS[call].arguments}
    names = [*signature(getattr(_foreseen, name)).parameters][1:] if name else []
    return [arguments[each] for each in names]


def foreseen(orch: Any, call: str, arguments: Mapping[str, Any]) -> Foreseen:
    """What a verb would touch now, told what the verb itself is told."""
    preview: Callable[..., Foreseen] = getattr(_foreseen, VERBS[call].preview)
    names = {each.name for each in previewed(call)} & arguments.keys()
    return preview(orch, **{name: arguments[name] for name in names})


def as_json(value: Any) -> Any:
    """
    What a verb returned, as JSON can say it: a handle is its id.

    A worker is its fields, and, as `instance`, the document that it is elsewhere.
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
