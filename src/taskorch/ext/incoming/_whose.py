"""
Whose a value is: what a caller who is bound to tenants may say.

Each key of a document and each argument of a verb stands here, with whose it is. A key
without a line is refused, so that a new one reaches nobody else's before somebody has
thought about it.

A name is a tenant's if it is the tenant, or begins with it and a slash: that of an
event, and that of what a task may write. A budget is a tenant's if it, or one above it,
has the tenant's name.

Decision: documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.kit.people import Caller
from taskorch.model.ids import PHASE_LIMIT, segments_of
from taskorch.model.scopes import prefix_of, scope_problem

#: Says what is wrong with a value for a caller who is bound to tenants; "": nothing.
Rule: TypeAlias = "Callable[[Bound, Any], str]"
#: Where a fault is, and what it is.
_Fault: TypeAlias = tuple[str, str]


@attrs.frozen
class Bound:
    """A caller who is bound to tenants, and the orchestrator that is asked."""

    who: Caller
    orch: TaskOrchestrator

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants."""
        return self.who.tenants or frozenset()

    @property
    def one(self) -> str:
        """A tenant as an example, for a message."""
        return min(self.tenants, default="TENANT")


def _own(_bound: Bound, _value: Any) -> str:
    """Accept any value: it concerns only the task, or the request."""
    return ""


def _shared(_bound: Bound, _value: Any) -> str:
    """Accept any value: it asks for a share of the machine, and quotas bound it."""
    return ""


def _checked(_bound: Bound, _value: Any) -> str:
    """Accept names of tasks, runs or tenants: their reader checks whose they are."""
    return ""


def _refused(_bound: Bound, _value: Any) -> str:
    return "a token that is bound to tenants may not say it"


def _event(bound: Bound, name: Any) -> str:
    if name is None or segments_of(str(name))[0] in bound.tenants:
        return ""
    return f"an event of yours begins with {bound.one}/, as in {bound.one}/arrived"


def _scopes(bound: Bound, scopes: Any) -> str:
    for each in [scopes] if isinstance(scopes, str) else scopes or ():
        is_scope = scope_problem(each) is None
        if not is_scope or segments_of(prefix_of(each))[0] not in bound.tenants:
            return f"you may write below {bound.one}/, as in {bound.one}/**"
    return ""


def _budget(bound: Bound, name: Any) -> str:
    above = {each.name: each.parent for each in bound.orch.resources.budgets()}
    while name is not None:
        if name in bound.tenants:
            return ""
        name = above.get(name)
    return f"a budget of yours is {bound.one}, or a part of it"


def _priority(_bound: Bound, value: Any) -> str:
    # Above that it would run before what others have.
    is_high = isinstance(value, int) and value > 0
    return "0 is the most for a token that is bound to tenants" if is_high else ""


def _amounts(_bound: Bound, value: Any) -> str:
    names = value if isinstance(value, Mapping) else ()
    if any(PHASE_LIMIT.fullmatch(str(name)) for name in names):
        return "the places of a phase are for the tasks of its run"
    return ""


def _changes(bound: Bound, value: Any) -> str:
    more = value.get("resources") if isinstance(value, Mapping) else None
    return _amounts(bound, value) or _amounts(bound, more)


@attrs.frozen
class Keys:
    """
    The keys of a mapping in a document, each with whose it is.

    Attributes:
        rules: By key.
        each: The mapping's keys are names: this is said of each value.
        is_list: Such mappings stand in a list.
    """

    rules: Mapping[str, Rule | Keys] = attrs.field(factory=dict)
    each: Keys | None = None
    is_list: bool = False

    def faults(self, bound: Bound, value: Any, path: str) -> Iterator[_Fault]:
        """Yield each value at *path* that the caller *bound* may not give, and why."""
        if self.is_list and isinstance(value, list):
            for place, one in enumerate(value):
                yield from attrs.evolve(self, is_list=False).faults(
                    bound, one, f"{path}[{place}]"
                )
        if not isinstance(value, dict):
            # Another form of the same, such as a number of attempts, has no keys.
            return
        for key, one in value.items():
            at = f"{path}.{key}".removeprefix(".")
            rule = self.rules.get(key, _refused) if self.each is None else self.each
            if isinstance(rule, Keys):
                yield from rule.faults(bound, one, at)
            elif fault := rule(bound, one):
                yield at, fault


def _keys(rule: Rule, names: str) -> dict[str, Rule | Keys]:
    return dict.fromkeys(names.split(), rule)


_ELASTIC: Final = Keys(
    {**_keys(_amounts, "elastic min"), **_keys(_own, "weight fallback")}
)
_CACHE: Final = Keys(
    {
        **_keys(_own, "expires version ignore"),
        # The result is remembered for the tenant alone.
        **_keys(_checked, "key"),
    }
)
_RETRY: Final = Keys(
    _keys(_own, "max_attempts wait base max_delay jitter stop_after delays")
)
_JOIN: Final = Keys(_keys(_own, "at_least"))


def _resources(bound: Bound, value: Any) -> str:
    is_elastic = isinstance(value, dict) and isinstance(value.get("elastic"), dict)
    if is_elastic:
        return next((text for _, text in _ELASTIC.faults(bound, value, "")), "")
    return _amounts(bound, value)


#: The keys of a task in a document.
TASK: Final = Keys(
    {
        # Names: what others have is refused, or is another thing for each tenant.
        **_keys(_checked, "id idempotency_key after owner args kwargs over start"),
        **_keys(_checked, "gather reduce map call question asked_by"),
        # These keys are about the task alone.
        **_keys(_own, "type payload join on_parent_failure timeout expected deadline"),
        **_keys(_own, "not_before idempotent metadata phase max_parallel default"),
        **_keys(_own, "options no who quorum not_by due remind details"),
        **_keys(_own, "allow_failure allow_failures"),
        # Workers, executors and resource pools.
        **_keys(_shared, "requires executor"),
        "resources": _resources,
        "priority": _priority,
        "wait_for": _event,
        "budget": _budget,
        "writes": _scopes,
        "cache": _CACHE,
        "retry": _RETRY,
        "join": _JOIN,
        # A program reads what the service can read, the journal of others too.
        **_keys(_refused, "program env inherit_env cwd stdin check log pid_file"),
        **_keys(_refused, "limits reads network enforce"),
    }
)
_APPROVAL: Final = Keys(_keys(_own, "timeout who quorum not_by remind"))
_GATE: Final = Keys(
    {"approval": _APPROVAL, **_keys(_checked, "call"), **_keys(_refused, "file")},
    is_list=True,
)
_PHASE: Final = Keys(
    {"gate": _GATE, **_keys(_own, "max_parallel gate_timeout on_failure")}
)
_PARAMETER: Final = Keys(_keys(_own, "type choices default"))
#: The keys of a workflow in a document.
WORKFLOW: Final = Keys(
    {
        **_keys(_own, "workflow"),
        "parameters": Keys(each=_PARAMETER),
        "phases": Keys(each=_PHASE),
        "tasks": Keys(each=TASK),
        # It would run for ever, and belong to nobody.
        "schedule": _refused,
    }
)
#: The arguments of the verbs that a bound token may ask.
ARGUMENTS: Final = Keys(
    {
        **_keys(_checked, "task_id workflow_id id by source downstream"),
        **_keys(_own, "reason verdict result choice note value attempt after gate"),
        **_keys(_own, "definition at"),
        "priority": _priority,
        "changes": _changes,
    }
)


def faults_of_arguments(
    who: Caller, orch: TaskOrchestrator, arguments: Mapping[str, Any]
) -> Iterator[_Fault]:
    """
    Yield the arguments of a verb that a caller may not give, each with the reason.

    Args:
        who: The caller, who is bound to tenants.
        orch: The orchestrator that is asked.
        arguments: By name.
    """
    return ARGUMENTS.faults(Bound(who, orch), arguments, "")
