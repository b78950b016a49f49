"""
The place for tools, where the orchestrator is in this process.

A place has verbs by the names of the facade, which take and give what JSON can say
where a model says it or reads it. A `JournalReader` is one as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.api.verbs.table import VERBS, foreseen
from taskorch.core.handles.handles import TaskHandle
from taskorch.errors import ValidationFailedError
from taskorch.events import Event, without_result
from taskorch.ext.incoming import Incoming
from taskorch.ext.notices.following import FOLLOWED
from taskorch.kit.verbs import Verb
from taskorch.model import TaskFilter, TaskStatus

#: The verbs of the orchestrator itself.
_VERBS: Final = frozenset(name for name, verb in VERBS.items() if verb.name == name)
#: The number of events that are kept.
_EVENTS: Final = 200


class OrchestratorPlace:
    """
    An orchestrator, for tools.

    Args:
        orch: The orchestrator; its owner starts and stops it.
        functions: The functions that submitted tasks may call, by name.
    """

    def __init__(
        self,
        orch: TaskOrchestrator,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self._orch = orch
        self._functions = functions or {}
        self._incoming = Incoming(orch, self._functions, _refuse)
        self._latest: deque[Event] = deque(maxlen=_EVENTS)
        for name in FOLLOWED:
            getattr(orch.signals, name).connect(self._hear)

    def __getattr__(self, name: str) -> Any:
        if name in _VERBS:
            return getattr(self._orch, name)
        msg = f"{self} has no {name}"
        raise AttributeError(msg, name=name)

    def __repr__(self) -> str:
        return "the orchestrator"

    @property
    def uid(self) -> str:
        """Id of the journal, which only its readers know; "": there is none."""
        return getattr(self._orch.journal, "uid", "")

    @property
    def verbs_of_extensions(self) -> Mapping[str, Verb]:
        """The verbs of its extensions, by how a program calls them."""
        return self._orch.extensions.verbs

    def call(self, call: str, arguments: Mapping[str, Any]) -> Any:
        """Call a verb of an extension; return its result as JSON."""
        return self._orch.extensions.method(call)(**arguments)

    def picture(self, run_id: str) -> str:
        """The graph of a run, with the states of its tasks, as SVG."""
        return self._orch.workflows.get(run_id).picture()

    def latest_events(self, most: int) -> list[Event]:
        """Return the latest events since this place exists, up to *most*."""
        return [*self._latest][-most:]

    def _hear(self, event: Event) -> None:
        self._latest.append(without_result(event))

    def tasks(self, which: TaskFilter) -> Iterator[TaskStatus]:
        """See `TaskOrchestrator.tasks`."""
        return self._orch.tasks(which)

    def _some_tasks(self, which: TaskFilter, most: int) -> Iterator[TaskStatus]:
        """The same, at most so many."""
        return self._orch._some_tasks(which, most)  # noqa: SLF001 - as a service does

    def foresee(self, call: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a verb would touch now, as a service does."""
        return foreseen(self._orch, call, arguments).to_dict()

    # -- changes -------------------------------------------------------------------

    def submit_documents(
        self, documents: Sequence[object], *, key: str | None = None
    ) -> list[str]:
        """See `Client.submit_documents`."""
        return self._incoming.submit(documents, key)

    def start_workflow(
        self,
        document: object,
        run_id: str | None = None,
        *,
        key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> str:
        """See `Client.start_workflow`."""
        return self._incoming.start(document, run_id, key, parameters).workflow_id

    def fork(self, task_id: str, **options: Any) -> TaskHandle[Any]:
        """See `orch.steps.fork`."""
        return self._orch.steps.fork(task_id, **options)

    def simulate(
        self, work: Any, durations: Mapping[str, float] | None = None
    ) -> dict[str, Any]:
        """See `Client.simulate`, of documents."""
        subject: Any = (
            self._incoming.workflow(work)
            if isinstance(work, Mapping)
            else self._incoming.tasks(work)
        )
        report = self._orch.simulate(subject, durations)
        return {**report.to_dict(), "text": str(report)}

    def plan(self, request: Any) -> dict[str, Any]:
        """The plan of a request, as JSON has it: see `orch.planner.plan`."""
        return self._orch.planner.plan(request).to_dict(self._functions)

    # -- schedules -----------------------------------------------------------------

    def schedules(self) -> list[dict[str, Any]]:
        """See `Client.schedules`."""
        return [each.to_dict() for each in self._orch.schedules.list()]

    def schedule(self, name: str) -> dict[str, Any]:
        """See `Client.schedule`."""
        coming = self._orch.schedules.next(name, 5)
        moments = [moment.isoformat() for moment in coming]
        return {**self._orch.schedules.status(name).to_dict(), "coming": moments}


def _refuse(path: str, text: str) -> NoReturn:
    msg = f"{path}: {text}"
    raise ValidationFailedError(msg, findings=((path, text),))
