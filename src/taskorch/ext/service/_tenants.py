"""
The rights of a caller who is bound to tenants.

Work of another tenant does not exist for such a caller: the answer is that to an id
that nobody has. What tells of all tenants at once is refused, and so is a route that
says nothing here.

A task without a tenant, in a run, belongs to those of the run.

Decision: tokens-and-roles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
from starlette.concurrency import run_in_threadpool

from taskorch.api.verbs.table import foreseen
from taskorch.errors import TaskorchError, UnknownTaskError
from taskorch.ext.service._bodies import HttpProblem
from taskorch.ext.service._operations import Current, Operation, named
from taskorch.kit.visible import show
from taskorch.model.ids import run_by, stem_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from taskorch.kit.people import Caller

#: Operations that test their answers themselves, or concern no tenant.
_OWN: Final = frozenset(
    {
        *("tasks", "questions", "escalations", "find_workflows", "runs", "board"),
        *("events", "follow_events", "preview", "me", "login", "logout", "verbs"),
        *("submit_task", "submit_tasks", "start_workflow"),
    }
)
#: Operations whose answers name work of others, whatever they are asked.
_OF_ALL: Final = frozenset({"compare", "explain", "earlier_runs"})


#: Operations that run a task again with the tasks below it.
_RUN_AGAIN: Final = ("rerun_task", "fork")
_PARTS: Final = frozenset({"task_id", "workflow_id", "run_id"})


def is_for_bound(operation: Operation) -> bool:
    """Return whether callers bound to tenants may use an operation."""
    parts = _PARTS.intersection(re.findall(r"{(\w+)}", operation.path))
    # Nobody knows the tenant of the subject of an extension's verb.
    is_house = not operation.role and operation.name not in _OF_ALL
    return operation.name in _OWN or bool(is_house and parts)


class Tenancy:
    """
    The tenants of tasks and runs.

    Args:
        orch: Returns the orchestrator.
    """

    def __init__(self, orch: Current) -> None:
        self._orch = orch

    async def check(self, who: Caller, operation: Operation, request: Request) -> None:
        """
        Refuse what is not for *who*.

        Raises:
            HttpProblem: It is not theirs, or tells of others.
        """
        if who.tenants is None or operation.name in _OWN:
            return
        if not is_for_bound(operation):
            raise HttpProblem(
                *(403, "not_for_tenants", "that tells of all tenants at once"),
                hint="ask with a token that is bound to none",
            )
        await run_in_threadpool(self._check, who, operation.name, request)

    def _check(self, who: Caller, operation: str, request: Request) -> None:
        part = "task_id" if "task_id" in request.path_params else "workflow_id"
        part = part if part in request.path_params else "run_id"
        self.check_subject(who, operation, named(request, part), part == "task_id")

    def check_subject(
        self,
        who: Caller,
        operation: str,
        subject: str,
        is_task: bool,
    ) -> None:
        """
        Refuse an *operation* on a task or a run that is not theirs.

        Raises:
            HttpProblem: It is not.
        """
        if who.tenants is None:
            return
        orch = self._orch()
        if not is_task:
            # A single task that a schedule has made is a run, too.
            is_single = operation == "run" and self.has_task(who, subject)
            is_theirs = is_single or self.has_run(who, subject)
        elif operation == "answer" and self._is_asked(who, subject):
            is_theirs = True
        else:
            is_theirs = self.has_task(who, subject)
        if not is_theirs:
            raise unknown(subject, is_task=is_task)
        # A restart runs tasks of its run only, and all of these are theirs.
        again = _run_again(orch, subject) if operation in _RUN_AGAIN else ()
        if not all(self.has_task(who, each) for each in again):
            raise HttpProblem(
                *(403, "not_for_tenants", "that would run tasks of others again")
            )

    # -- tenants of tasks and runs -------------------------------------------------

    def has_task(self, who: Caller, task_id: str) -> bool:
        """Return whether a task exists, and is theirs."""
        tenant = self._tenant_of(task_id)
        if tenant is None or tenant:
            return tenant is not None and who.sees(tenant)
        tenants = self._tenants_in(run_by(task_id, None), stem_of(task_id))
        return bool(tenants) and all(map(who.sees, tenants))

    def has_run(self, who: Caller, run_id: str) -> bool:
        """Return whether a run exists, and all of its tasks are theirs."""
        tenants = self._tenants_in(run_id)
        return bool(tenants) and all(map(who.sees, tenants))

    def _tenants_in(self, run_id: str, member: str = "") -> frozenset[str]:
        """Return the tenants in a run that has *member*; empty if there is none."""
        try:
            handles = self._orch().workflows.get(run_id).handles
        except (TaskorchError, AttributeError):
            # A reader of a journal has no runs.
            return frozenset()
        ids = {stem_of(each.task_id) for each in handles.values()}
        if member and member not in ids:
            return frozenset()
        tenants = {self._tenant_of(each.task_id) for each in handles.values()}
        return frozenset(tenant for tenant in tenants if tenant)

    def _tenant_of(self, task_id: str) -> str | None:
        """The tenant of a task; "": it has none; None: there is no such task."""
        try:
            return self._orch().get_task_status(task_id).owner or ""
        except TaskorchError:
            return None

    def _is_asked(self, who: Caller, name: str) -> bool:
        """Return whether *name* means a question that they may see."""
        return any(
            name in (each.id, each.answer_to, stem_of(each.id))
            for each in self.questions(who, self._orch().questions())
        )

    # -- filtered lists ------------------------------------------------------------

    def tasks(self, who: Caller, statuses: Iterable[Any]) -> Iterable[Any]:
        """Return the *statuses* of their tasks."""
        if who.tenants is None:
            return statuses
        return (
            each
            for each in statuses
            if (
                who.sees(each.owner) if each.owner else self.has_task(who, each.task_id)
            )
        )

    def has_event(self, who: Caller, event: Any) -> bool:
        """Return whether an event is about a task of theirs."""
        if who.tenants is None:
            return True
        task_id = getattr(event, "task_id", None)
        return task_id is not None and self.has_task(who, task_id)

    def questions(self, who: Caller, questions: Iterable[Any]) -> list[Any]:
        """Return their *questions*, without details of others."""
        if who.tenants is None:
            return [*questions]
        return [
            self._shortened(who, each)
            for each in questions
            if all(self.has_task(who, task_id) for task_id in each.tasks or (each.id,))
        ]

    def _shortened(self, who: Caller, question: Any) -> Any:
        below = [i for i in question.blocking_tasks if self.has_task(who, i)]
        changes: dict[str, Any] = {"blocking_tasks": tuple(below)}
        if question.kind == "escalation":
            changes["system_state"] = {}
            changes["details"] = {**question.details, "system_state": {}}
            changes["details"]["blocking_tasks"] = below
        return attrs.evolve(question, **changes)

    def runs(self, who: Caller, runs: Iterable[Any]) -> list[Any]:
        """Return the *runs* that are theirs."""
        if who.tenants is None:
            return [*runs]
        return [each for each in runs if self.has_run(who, each.workflow_id)]


#: Filters of the results of verbs, for callers bound to tenants.
LEFT: Final[Mapping[str, Callable[[Tenancy, Caller, Any], Any]]] = {
    "questions": Tenancy.questions,
    "escalations": Tenancy.questions,
    "find_workflows": Tenancy.runs,
}


def unknown(subject: str, *, is_task: bool) -> HttpProblem:
    """Return the error for a task or run that is missing, or not theirs."""
    error = UnknownTaskError(
        f"no task has the id {show(subject)}"
        if is_task
        else f"there is no run {show(subject)}"
    )
    return HttpProblem(404, error.code, error.message)


def _run_again(orch: Any, task_id: str) -> tuple[str, ...]:
    """Return the tasks that a new run of an ended task would run again."""
    return foreseen(orch, "rerun_task", {"task_id": task_id}).task_ids
