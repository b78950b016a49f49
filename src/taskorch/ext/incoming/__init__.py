"""
Reading of work that comes over HTTP or from a language model, as documents.

Of tasks and workflows, a key stands for the whole of what came in: under it, the same
is meant when it comes again. What is refused here is refused in the words of the front
end.

- `_whose`: what a caller who is bound to tenants may say of whom.
"""

from __future__ import annotations

import hashlib
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, Final, NoReturn, TypeAlias

import attrs

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.handles.handles import TaskHandle
from taskorch.core.inside import Inside
from taskorch.core.runs import WorkflowRun
from taskorch.core.workflows import Workflow
from taskorch.core.workflows._task_documents import tasks_of
from taskorch.errors import DuplicateTaskError, UnknownTaskError
from taskorch.ext.incoming._whose import (
    TASK,
    WORKFLOW,
    Bound,
    Keys,
    faults_of_arguments,
)
from taskorch.kit.people import Caller, caller
from taskorch.kit.plain import SCHEDULES
from taskorch.kit.visible import show
from taskorch.model import MadeFor, Task
from taskorch.model.ids import asked_form, has_segments, in_run, makers_of, run_of

__all__ = ("Incoming", "faults_of_arguments", "refuse_files", "refuse_our_run")

#: Refuses what stands at a path, by saying what is wrong with it.
Refuse: TypeAlias = Callable[[str, str], NoReturn]


def _never(_who: Caller, _id: str) -> bool:
    return False


def _bound_caller() -> Caller | None:
    """Return the caller, if the caller is bound to tenants."""
    who = caller()
    return None if who is None or who.tenants is None else who


def _is_run(orch: TaskOrchestrator, run_id: str) -> bool:
    try:
        orch.workflows.get(run_id)
    except UnknownTaskError:
        return False
    return True


#: The keys that schedules add to the metadata of tasks and runs.
_NOTED: Final = (MadeFor.SCHEDULE, MadeFor.TICK, MadeFor.PARAMETERS)


def refuse_ours(
    orch: TaskOrchestrator, name: str, path: str, refuse: Refuse, run_id: str = ""
) -> None:
    """
    Refuse the id of a task that only the orchestrator gives: see `taskorch.model.ids`.

    Args:
        orch: The orchestrator.
        name: The id.
        path: Where it stands.
        refuse: How it is refused.
        run_id: The run that comes in with it; "": none.

    Raises:
        UsageError: It is such an id.
    """
    of = asked_form(name)
    makers = [schedule for schedule, _, _ in makers_of(name)]
    if not of and makers:
        names = orch.kept(SCHEDULES)
        of = next((f"ticks of {s}" for s in makers if s in names), "")
    if not of and Inside(orch).makes(name):
        of = "tasks without an id"
    if not of and not run_id and has_segments(name) and _is_run(orch, run_of(name)):
        of = f"the tasks of the run {run_of(name)}"
    if of:
        text = f"ids such as {show(name)} are those of {of}: take another one"
        refuse(path, text)


def refuse_our_run(
    orch: TaskOrchestrator, run_id: str, names: Iterable[str], refuse: Refuse
) -> None:
    """
    Refuse the id of a run whose tasks would have ids that only the orchestrator gives.

    Raises:
        UsageError: They would.
    """
    # For a run that exists, this check was made when it began.
    if not _is_run(orch, run_id):
        for name in names:
            refuse_ours(orch, in_run(run_id, name), "id", refuse, run_id)


def _key_of(tenant: str | None, key: str) -> str:
    """A key as that of one tenant; no two of them can say the same."""
    return f"{(tenant or '').replace('%', '%25').replace(':', '%3A')}:{key}"


@attrs.frozen
class Incoming:
    """
    A reader of documents of work that also starts the work.

    Attributes:
        orch: The orchestrator that gets the work.
        functions: The functions that tasks may call, by name.
        refuse: How something is refused.
        programs: Whether tasks may start programs, and gates may look for files.
        has_task: Whether a task is that of a caller who is bound to tenants.
        has_run: Whether a run is.
    """

    orch: TaskOrchestrator
    functions: Mapping[str, Callable[..., Any]]
    refuse: Refuse
    programs: bool = False
    has_task: Callable[[Caller, str], bool] = _never
    has_run: Callable[[Caller, str], bool] = _never

    def tasks(self, documents: Sequence[object]) -> list[Task[Any]]:
        """
        The tasks that *documents* describe.

        Raises:
            UsageError: One is not well formed, or not allowed.
        """
        return tasks_of(
            documents,
            self.functions,
            programs=self.programs,
            handle=self._handle,
        )

    def _handle(self, task_id: str) -> TaskHandle[Any]:
        """
        Return the handle that stands for the result of another task.

        Raises:
            UnknownTaskError: It is not there, or not for who asks.
        """
        self._refuse_others(task_id)
        return self.orch.handle(task_id)

    def _refuse_others(self, task_id: str) -> None:
        """
        Refuse the id of a task of another tenant, for who is bound to tenants.

        Raises:
            UnknownTaskError: It is that of another.
        """
        who = _bound_caller()
        if who is None or self.has_task(who, task_id):
            return
        msg = f"no task has the id {task_id!r}"
        raise UnknownTaskError(msg, task_id=task_id)

    def _owned(self, path: str, tenant: str | None) -> str | None:
        """The tenant of a task that comes in: that of who is bound to one."""
        who = _bound_caller()
        assert who is not None  # noqa: S101 - only those who are bound are asked for
        assert who.tenants is not None  # noqa: S101 - see above
        if tenant is None and len(who.tenants) == 1:
            return next(iter(who.tenants))
        if tenant is None or tenant not in who.tenants:
            allowed = ", ".join(sorted(who.tenants))
            self.refuse(f"{path}owner", f"you submit for {allowed or 'nobody'}")
        return tenant

    def _checked(self, path: str, task: Task[Any], ids: Collection[str]) -> Task[Any]:
        """A task that comes in, as who is bound to tenants may submit it."""
        tenant = self._owned(path, task.owner)
        for above in task.after:
            name = above if isinstance(above, str) else getattr(above, "task_id", "")
            if name and name not in ids:
                self._refuse_others(name)
        key = task.idempotency_key
        # A key of another tenant means another task.
        key = None if key is None else _key_of(tenant, key)
        return attrs.evolve(task, owner=tenant, idempotency_key=key)

    def _refuse_unknown(self, who: Caller, keys: Keys, document: Any, at: str) -> None:
        """Refuse what a caller who is bound to tenants may not say in a document."""
        for path, text in keys.faults(Bound(who, self.orch), document, at):
            self.refuse(path, text)

    def _refuse_names(self, path: str, task: Task[Any], who: Caller | None) -> None:
        """
        Refuse the names of others, of ours and of other tenants, in a task.

        Raises:
            UsageError: It has one.
        """
        noted = task.metadata or {}
        for name in _NOTED:
            if name in noted:
                self.refuse(f"{path}metadata.{name}", "a schedule alone notes that")
        if task.id is None:
            return
        refuse_ours(self.orch, task.id, f"{path}id", self.refuse)
        if who is not None and self._is_of_others(who, task.id):
            self.refuse(f"{path}id", "it is taken")

    def _is_of_others(self, who: Caller, task_id: str) -> bool:
        try:
            self.orch.get_task_status(task_id)
        except UnknownTaskError:
            return False
        return not self.has_task(who, task_id)

    def _bind(self, who: Caller, workflow: Workflow, run_id: Any) -> None:
        """
        Let a workflow that comes in be done for the tenant of who asks.

        Raises:
            UsageError: It names what is not theirs.
        """
        is_run = isinstance(run_id, str) and _is_run(self.orch, run_id)
        own = workflow._tasks  # noqa: SLF001 - nobody else has it yet
        if is_run and not self.has_run(who, run_id):
            self.refuse("id", "it is taken")
        for name in () if is_run or not isinstance(run_id, str) else own:
            if self._is_of_others(who, in_run(run_id, name)):
                self.refuse("id", "it is taken")
        for name, task in list(own.items()):
            own[name] = self._checked(f"workflow.tasks.{name}.", task, own)

    def submit(
        self,
        documents: Sequence[object],
        key: str | None = None,
        *,
        is_batch: bool = True,
    ) -> list[str]:
        """
        Submit tasks, all or none; their ids.

        Args:
            documents: The documents of the tasks.
            key: The key of the request; None: it has none.
            is_batch: Whether the key is that of several: each has it with its place.

        Raises:
            UsageError: One was refused.
        """
        tasks = self.tasks(documents)
        if key is not None:
            for place, task in enumerate(tasks):
                own = f"{key}/{place}" if is_batch else key
                if task.idempotency_key not in (None, own):
                    path = f"tasks[{place}].idempotency_key"
                    self.refuse(path, "the key of the whole call is another")
                tasks[place] = attrs.evolve(task, idempotency_key=own)
        who = _bound_caller()
        for place, (task, document) in enumerate(zip(tasks, documents, strict=True)):
            if who is not None:
                self._refuse_unknown(who, TASK, document, f"tasks[{place}]")
            self._refuse_names(f"tasks[{place}].", task, who)
        if who is not None:
            ids = {task.id for task in tasks if task.id is not None}
            tasks = [
                self._checked(f"tasks[{place}].", task, ids)
                for place, task in enumerate(tasks)
            ]
        return [handle.task_id for handle in self.orch.submit_tasks(tasks)]

    def workflow(self, document: Any) -> Workflow:
        """
        The workflow that *document* describes.

        Raises:
            UsageError: It is not well formed, or not allowed.
        """
        if not self.programs:
            refuse_files(document, self.refuse)
        return Workflow.from_dict(document, self.functions, programs=self.programs)

    def start(
        self,
        document: Any,
        run_id: Any,
        key: str | None,
        parameters: Mapping[str, Any] | None = None,
    ) -> WorkflowRun:
        """
        Start a workflow.

        Args:
            document: The document of the run.
            run_id: The id of the run; None: it follows from the key, or is new.
            key: The key of the whole request.
            parameters: The parameters of the run.

        Raises:
            UsageError: It was refused.
        """
        if isinstance(document, dict) and "schedule" in document:
            text = "a run that is asked for begins at once, and once: leave it out"
            self.refuse("workflow.schedule", text)
        workflow = self.workflow(document)
        who = _bound_caller()
        if run_id is None and key is not None:
            # A key of another tenant means another run.
            own = (
                "" if who is None or who.tenants is None else repr(sorted(who.tenants))
            )
            digest = hashlib.sha256(f"{own}{key}".encode()).hexdigest()[:24]
            run_id = f"{workflow.name}-{digest}"
        if who is not None:
            self._refuse_unknown(who, WORKFLOW, document, "workflow")
            self._bind(who, workflow, run_id)
        if isinstance(run_id, str):
            refuse_our_run(self.orch, run_id, workflow, self.refuse)
        for name, task in workflow._tasks.items():  # noqa: SLF001 - nobody else has it
            noted = {*_NOTED}.intersection(task.metadata or {})
            for each in sorted(noted):
                path = f"workflow.tasks.{name}.metadata.{each}"
                self.refuse(path, "a schedule alone notes that")
        try:
            return self.orch.workflows.start(workflow, run_id, parameters=parameters)
        except DuplicateTaskError:
            if who is not None and not self.has_run(who, str(run_id)):
                # The caller must not learn from the error about tasks of others.
                self.refuse("id", "it is taken")
            raise


def refuse_files(document: Any, refuse: Refuse) -> None:
    """Refuse gates that look for files: they would tell which files exist here."""
    phases = document.get("phases") if isinstance(document, dict) else None
    for name, phase in phases.items() if isinstance(phases, dict) else ():
        gate = phase.get("gate") if isinstance(phase, dict) else None
        for check in gate if isinstance(gate, list) else ():
            if isinstance(check, dict) and "file" in check:
                text = "gates that look for files are not allowed here"
                refuse(f"workflow.phases.{name}.gate", text)
