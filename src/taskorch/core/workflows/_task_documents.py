"""Tasks as documents of their own, with the keys of tasks in workflows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from taskorch.core.workflows._documents import Functions
from taskorch.core.workflows._reading import DocumentReader
from taskorch.errors import UnknownTaskError
from taskorch.model import Task
from taskorch.model.ids import id_problem

#: Options that make sense in a run of a workflow only.
OF_RUNS: Final = ("map", "gather", "reduce", "phase")


def tasks_of(
    documents: Iterable[object],
    functions: Functions,
    *,
    programs: bool,
    handle: Callable[[str], Any],
) -> list[Task]:
    """
    Return the tasks of documents, as in a workflow, with `id` and `idempotency_key`.

    `after` may name any task, and `{"$result": id}` one that comes earlier, or is known
    already: then *handle* returns its handle.

    Raises:
        ValidationFailedError: One is not well formed; all faults of all are named.
    """
    reader = _TaskReader(functions, handle, programs=programs)
    tasks = [
        reader.task(f"tasks[{i}]", document) for i, document in enumerate(documents)
    ]
    reader.refuse("what was to be submitted")
    return [task for task in tasks if task is not None]


class _TaskReader(DocumentReader):
    _beside = ("id", "idempotency_key")

    def __init__(
        self, functions: Functions, handle: Callable[[str], Any], *, programs: bool
    ) -> None:
        super().__init__(functions, programs=programs)
        self._handle = handle
        self._made_by_id: dict[str, Task] = {}

    def task(self, path: str, document: object) -> Task | None:
        """Return one task, or None if the document is not well formed."""
        before = len(self.findings)
        members = dict(self._mapping(path, document))
        own = self._own(path, members)
        for name in OF_RUNS:
            if name in members:
                self._fault(f"{path}.{name}", "it belongs into a workflow")
        fields = self._task(path, members) if len(self.findings) == before else {}
        if len(self.findings) > before:
            return None
        try:
            task = Task(**fields, **own)
        except (TypeError, ValueError) as error:
            self._fault(path, str(error))
            return None
        if task.id is not None:
            self._made_by_id[task.id] = task
        return task

    def _own(self, path: str, members: dict[str, Any]) -> Mapping[str, Any]:
        """Return the keys that tasks of workflows do not have, out of *members*."""
        own: dict[str, Any] = {}
        if (task_id := members.pop("id", None)) is not None:
            own["id"] = self._other(f"{path}.id", task_id)
        if (key := members.pop("idempotency_key", None)) is not None:
            own["idempotency_key"] = self._text(f"{path}.idempotency_key", key)
        return own

    def _other(self, path: str, name: object) -> str:
        problem = id_problem(name)
        if problem is not None:
            self._fault(path, problem)
        return str(name)

    def _result_of(self, name: str) -> Any:
        earlier = self._made_by_id.get(name)
        if earlier is not None or self.findings:
            return earlier
        try:
            return self._handle(name)
        except UnknownTaskError as error:
            self._fault("$result", error.message)
            return None
