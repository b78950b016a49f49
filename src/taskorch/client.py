"""
Asks an orchestrator that is a service, by the names that it has for those beside it.

    client = Client("http://127.0.0.1:8080", token=token)
    handle = client.submit_task(Task("code-review", {"path": "a.py"}))
    print(handle.result())

It needs nothing but taskorch: the standard library speaks HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from time import monotonic
from typing import Any, Final, Literal, Unpack
from urllib.parse import quote, urlencode, urlsplit

import attrs

from taskorch import errors
from taskorch._base._connections import HttpConnections
from taskorch.errors import InvalidTaskError, TaskFailedError, TaskorchError
from taskorch.model import (
    Call,
    FilterFields,
    Reference,
    Task,
    TaskFilter,
    TaskState,
    check_seconds,
    to_seconds,
)
from taskorch.model._show import show
from taskorch.schedules import Backfilled
from taskorch.workflows._writing import write_task

__all__ = ("Client", "RemoteHandle", "ServiceError")

#: Seconds that the service may take to answer, beside those that it is to wait.
_PATIENCE: Final = 30.0
#: Seconds for which the service is asked to wait for a result, at a time.
_WAIT: Final = 20.0
_PAGE: Final = 500
_OK: Final = range(200, 300)


def _all_errors(cls: type[TaskorchError]) -> Iterator[type[TaskorchError]]:
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from _all_errors(below)


#: Classes of errors by their codes; a group needs what did not come over the wire.
_ERRORS: Final[Mapping[str, type[TaskorchError]]] = {
    cls.code: cls
    for cls in _all_errors(TaskorchError)
    if not issubclass(cls, BaseExceptionGroup)
}


class ServiceError(TaskorchError):
    """
    The service has refused a request, for a reason that only a service has.

    Attributes:
        status: Of HTTP.
        problem: What the service has said of it.
    """

    code = "service"

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        problem: Mapping[str, Any] | None = None,
        hint: str | None = None,
        task_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, task_id=task_id)
        self.status = status
        self.problem: Mapping[str, Any] = {} if problem is None else problem


@attrs.frozen
class RemoteHandle:
    """
    A task of a service: wait for it, cancel it, depend on it.

    Attributes:
        task_id: The id of the task.
    """

    task_id: str
    _client: Client = attrs.field(repr=False, eq=False)

    def done(self) -> bool:
        """Whether the task has ended."""
        return TaskState(self.status()["state"]).is_terminal

    def status(self) -> dict[str, Any]:
        """See `Client.get_task_status`."""
        return self._client.get_task_status(self.task_id)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """See `Client.result`."""
        return self._client.result(self.task_id, timeout)

    def cancel(self) -> bool:
        """See `TaskOrchestrator.cancel_task`."""
        return self._client.cancel_task(self.task_id)


class Client:
    """
    The methods of a `TaskOrchestrator` that is served elsewhere.

    What they raise is what these raise, as far as it can be told over the wire; besides
    `ServiceError`, and OSError if the service cannot be reached. It may be used from
    any thread.

    Args:
        url: Where the service is, such as `http://127.0.0.1:8080`.
        token: The token that it asks for.
        functions: What tasks call, by the names that the service has for it.

    Raises:
        InvalidTaskError: *url* is no address of a service.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            msg = f"{show(url)} is no address of a service"
            raise InvalidTaskError(msg, hint="Client('http://127.0.0.1:8080')")
        self._connections = HttpConnections(parts.scheme, parts.hostname, parts.port)
        self._place = parts.netloc.rpartition("@")[2]
        self._path = parts.path.rstrip("/")
        self._token = token
        self._functions = functions or {}

    def __repr__(self) -> str:
        return f"<Client of {self._place}>"

    # -- submitting ----------------------------------------------------------------

    def submit_task(self, task: Task[Any]) -> RemoteHandle:
        """
        Submit one task: see `TaskOrchestrator.submit_task`.

        Handles and ids are dependencies; among the arguments of a call, a handle is
        replaced by its result.

        Raises:
            InvalidTaskError: It has what cannot be said in JSON.
            UsageError: It was refused.
        """
        answer = self._ask("POST", "/tasks", self._document(task))
        return RemoteHandle(answer["task_id"], self)

    def submit_tasks(self, tasks: Iterable[Task[Any]]) -> list[RemoteHandle]:
        """
        Submit tasks, all or none: see `TaskOrchestrator.submit_tasks`.

        Raises:
            InvalidTaskError: One has what cannot be said in JSON.
            UsageError: One was refused.
        """
        documents = [self._document(task) for task in tasks]
        answer = self._ask("POST", "/tasks/batch", {"tasks": documents})
        return [RemoteHandle(task_id, self) for task_id in answer["task_ids"]]

    def submit_documents(
        self, documents: Iterable[Mapping[str, Any]], *, key: str | None = None
    ) -> list[str]:
        """
        Submit tasks as JSON has them, all or none; their ids.

        Args:
            documents: Of the tasks, in the words of workflows as documents.
            key: Under which the same tasks are meant if they come again.

        Raises:
            InvalidTaskError: One has what cannot be said in JSON.
            UsageError: One was refused.
        """
        body = {"tasks": [*documents]}
        answer = self._ask("POST", "/tasks/batch", body, key=key)
        task_ids: list[str] = answer["task_ids"]
        return task_ids

    def start_workflow(
        self,
        document: Mapping[str, Any],
        run_id: str | None = None,
        *,
        key: str | None = None,
    ) -> str:
        """See `orch.workflows.start`, of a document; the id of the run."""
        body = {"workflow": document} | ({} if run_id is None else {"id": run_id})
        return str(self._ask("POST", "/workflows", body, key=key)["workflow_id"])

    def _document(self, task: Task[Any]) -> dict[str, Any]:
        if not isinstance(task, Task):
            msg = f"a Task is submitted, not {show(task)}"
            raise InvalidTaskError(msg)
        payload = task.payload
        if isinstance(payload, Call):
            args = tuple(_argument(arg) for arg in payload.args)
            kwargs = {name: _argument(arg) for name, arg in payload.kwargs.items()}
            payload = Call(payload.fn, args, kwargs, payload.executor)
            task = attrs.evolve(task, payload=payload)
        return write_task(task, map(_id_of, task.after), self._functions)

    # -- asking --------------------------------------------------------------------

    def handle(self, task_id: str) -> RemoteHandle:
        """
        The handle of a task.

        Raises:
            UnknownTaskError: No task has this id.
        """
        return RemoteHandle(self.get_task_status(task_id)["task_id"], self)

    def result(self, task_id: str, timeout: float | timedelta | None = None) -> Any:
        """
        Wait for a task and return its result, as JSON has it.

        Args:
            task_id: Its id.
            timeout: Seconds, or a timedelta, to wait; None is for ever.

        Raises:
            TimeoutError: It has not ended in that time.
            TaskFailure: It has failed or was cancelled. What the task has raised is
                told by a TaskFailedError.
            UnknownTaskError: No task has this id.
        """
        patience = to_seconds(timeout)
        end = None if patience is None else monotonic() + patience
        while True:
            wait = _WAIT if end is None else max(0.0, min(_WAIT, end - monotonic()))
            query = {"wait": f"{wait:.3f}"}
            answer = self._ask("GET", _path(task_id, "/result"), query=query, wait=wait)
            if TaskState(answer["state"]).is_terminal:
                if answer["error"] is not None:
                    raise _failure(answer["error"], task_id)
                return answer["result"]
            if end is not None and monotonic() >= end:
                msg = f"task {task_id} has not ended in {patience:g} s"
                raise TimeoutError(msg)

    def get_task_status(self, task_id: str) -> dict[str, Any]:
        """
        The state of a task, with its history, as `TaskStatus.to_dict` has it.

        Raises:
            UnknownTaskError: No task has this id.
        """
        return self._of_task("GET", task_id)

    def tasks(
        self,
        state: TaskFilter | TaskState | str | None = None,
        **fields: Unpack[FilterFields],
    ) -> Iterator[dict[str, Any]]:
        """
        Go through all tasks of which all that is said holds, a page at a time.

        See `TaskOrchestrator.tasks`. A task that was submitted meanwhile may come too.

        Raises:
            InvalidTaskError: An argument is not well formed, or there is no such state.
        """
        asked = TaskFilter.of(state, fields).to_query()
        return self._pages({**asked, "limit": str(_PAGE)})

    def _pages(self, wanted: dict[str, str]) -> Iterator[dict[str, Any]]:
        while True:
            page = self._ask("GET", "/tasks", query=wanted)
            yield from page["tasks"]
            if page["next"] is None:
                return
            wanted["cursor"] = page["next"]

    def explain(
        self, task_id: str, *, remedies: Literal["requests", "calls"] = "requests"
    ) -> dict[str, Any]:
        """
        Why a task does not run, with `text` in words: see `TaskOrchestrator.explain`.

        Args:
            task_id: Its id.
            remedies: What is to be done is told as requests of HTTP, or as calls.

        Raises:
            UnknownTaskError: No task has this id.
        """
        query = {"remedies": remedies}
        return self._ask("GET", _path(task_id, "/explanation"), query=query)

    def stuck(
        self, *, remedies: Literal["requests", "calls"] = "requests"
    ) -> list[dict[str, Any]]:
        """See `TaskOrchestrator.stuck`; *remedies* as for `explain`."""
        return self._listed("/stuck", "stuck", {"remedies": remedies})

    def events(self, after: str = "0", *, task: str | None = None) -> dict[str, Any]:
        """
        A page of `events`, oldest first, and the cursor of the `next` one.

        Args:
            after: A cursor; "0" is the beginning of what there is.
            task: A pattern of ids; None: those about no task, too.
        """
        query = {"after": after} | ({} if task is None else {"task": task})
        return self._ask("GET", "/events", query=query)

    def get_stats(self) -> dict[str, Any]:
        """See `TaskOrchestrator.get_stats`."""
        return self._ask("GET", "/statistics")

    def health(self) -> dict[str, Any]:
        """See `TaskOrchestrator.health`."""
        return self._ask("GET", "/health")

    # -- control -------------------------------------------------------------------

    def cancel_task(self, task_id: str) -> bool:
        """See `TaskOrchestrator.cancel_task`."""
        return self._change(task_id, "/cancel")

    def suspend_task(self, task_id: str) -> bool:
        """See `TaskOrchestrator.suspend_task`."""
        return self._change(task_id, "/suspend")

    def resume_task(self, task_id: str) -> bool:
        """See `TaskOrchestrator.resume_task`."""
        return self._change(task_id, "/resume")

    def set_priority(self, task_id: str, priority: int) -> bool:
        """See `TaskOrchestrator.set_priority`."""
        return self._change(task_id, "/priority", {"priority": priority})

    def decide(
        self, task_id: str, verdict: str, result: Any = None, reason: str = ""
    ) -> bool:
        """See `TaskOrchestrator.decide`."""
        decision = {"verdict": verdict, "result": result, "reason": reason}
        return self._change(task_id, "/decision", decision)

    def questions(self) -> list[dict[str, Any]]:
        """The questions that wait: see `TaskOrchestrator.questions`."""
        return self._listed("/questions", "questions")

    def failures(self) -> list[dict[str, Any]]:
        """What failed, by cause: see `TaskOrchestrator.failures`."""
        return self._listed("/failures", "failures")

    def escalations(self) -> list[dict[str, Any]]:
        """The escalations: see `TaskOrchestrator.escalations`."""
        return self._listed("/escalations", "escalations")

    def answer(
        self,
        task_id: str,
        choice: str,
        *,
        by: str,
        note: str = "",
        changes: dict[str, Any] | None = None,
    ) -> bool:
        """See `TaskOrchestrator.answer`."""
        reply = {"choice": choice, "by": by, "note": note}
        if changes is not None:
            reply["changes"] = changes  # type: ignore[assignment]
        return bool(self._of_task("POST", task_id, "/answer", reply)["decided"])

    def rerun_task(
        self, task_id: str, *, downstream: bool | None = None
    ) -> RemoteHandle:
        """See `TaskOrchestrator.rerun_task`."""
        asked = None if downstream is None else {"downstream": downstream}
        answer = self._of_task("POST", task_id, "/rerun", asked)
        return RemoteHandle(answer["task_id"], self)

    def restart(self, run_id: str) -> str:
        """See `orch.workflows.restart`; the id of the run."""
        answer = self._ask("POST", f"/workflows/{quote(run_id, safe='')}/restart")
        return str(answer["workflow_id"])

    def approve(self, run_id: str, gate: str, *, by: str, note: str = "") -> bool:
        """See `orch.workflows.approve`."""
        approval = {"gate": gate, "by": by, "note": note}
        path = f"/workflows/{quote(run_id, safe='')}/approve"
        return bool(self._ask("POST", path, approval)["changed"])

    def emit(
        self, name: str, payload: Any = None, *, keep: float | timedelta | None = None
    ) -> int:
        """See `TaskOrchestrator.emit`."""
        event = {"name": name, "payload": payload}
        if keep is not None:
            event["keep"] = check_seconds("keep", keep)
        return int(self._ask("POST", "/events", event)["released"])

    # -- what is made again and again ----------------------------------------------

    def schedules(self) -> list[dict[str, Any]]:
        """All schedules."""
        return self._listed("/schedules", "schedules")

    def schedule(self, name: str, count: int = 5) -> dict[str, Any]:
        """A schedule, with its next slots in `coming`."""
        path = f"/schedules/{quote(name, safe='')}"
        return self._ask("GET", path, query={"count": str(count)})

    def change_schedule(self, name: str, verb: str, said: object = None) -> bool:
        """Pause, resume or remove a schedule; whether that has changed anything."""
        path = f"/schedules/{quote(name, safe='')}/{verb}"
        return bool(self._ask("POST", path, said)["changed"])

    def trigger_schedule(
        self, name: str, parameters: Mapping[str, Any] | None = None
    ) -> list[str]:
        """See `orch.schedules.trigger`: the id, in a list."""
        path = f"/schedules/{quote(name, safe='')}/trigger"
        body = None if parameters is None else {"parameters": dict(parameters)}
        task_ids: list[str] = self._ask("POST", path, body)["ids"]
        return task_ids

    def backfill_schedule(
        self, name: str, since: str, until: str, *, again: bool = False
    ) -> Backfilled:
        """See `orch.schedules.backfill`."""
        path = f"/schedules/{quote(name, safe='')}/backfill"
        period: dict[str, Any] = {"since": since, "until": until}
        if again:
            period["again"] = True
        answer = self._ask("POST", path, period)
        return Backfilled(answer["ids"], answer["already"])

    # -- agents --------------------------------------------------------------------

    def agents(self) -> list[dict[str, Any]]:
        """See `orch.agents.list`."""
        return self._listed("/agents", "agents")

    def agent_instances(self) -> list[dict[str, Any]]:
        """All agents as documents: see `AgentInstance.to_dict`."""
        return self._listed("/agent-instances", "agents")

    def agent(self, agent_id: str) -> dict[str, Any]:
        """
        An agent, with its `health`: see `orch.agents.get`.

        Raises:
            UnknownAgentError: There is none of this id.
        """
        return self._ask("GET", _path_of_agent(agent_id))

    def spawn_agent(
        self,
        type: str,  # noqa: A002 - as there
        config: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """See `orch.agents.spawn`: templates are the service's own."""
        return self._ask("POST", "/agents", {"type": type, "config": config or {}})

    def drain_agent(
        self, agent_id: str, reason: str = "it is drained", *, on: bool = True
    ) -> bool:
        """See `orch.agents.drain`."""
        change = {"reason": reason, "on": on}
        return bool(
            self._ask("POST", _path_of_agent(agent_id, "/drain"), change)["changed"]
        )

    def terminate_agent(self, agent_id: str, grace: float = 30.0) -> None:
        """See `orch.agents.terminate`."""
        self._ask("POST", _path_of_agent(agent_id, "/terminate"), {"grace": grace})

    def match_agents(
        self,
        requirements: Iterable[str],
        *,
        type: str | None = None,  # noqa: A002 - as there
    ) -> list[dict[str, Any]]:
        """See `orch.agents.match`."""
        wanted: dict[str, Any] = {"requirements": [*requirements]}
        if type is not None:
            wanted["type"] = type
        matches: list[dict[str, Any]] = self._ask("POST", "/agent-matches", wanted)[
            "matches"
        ]
        return matches

    def explain_scaling(
        self,
        type: str | None = None,  # noqa: A002 - as there
    ) -> list[dict[str, Any]]:
        """See `orch.agents.explain_scaling`."""
        query = {} if type is None else {"type": type}
        return self._listed("/scaling", "decisions", query)

    def alerts(self) -> list[dict[str, Any]]:
        """How each alert stands: see `orch.alerts.list`."""
        return self._listed("/alerts", "alerts")

    def hold_starts(self, reason: str, *, by: str = "user", most: int = 0) -> None:
        """See `TaskOrchestrator.hold_starts`."""
        hold = {"reason": reason, "by": by, "most": most}
        self._ask("POST", "/starts/hold", hold)

    def release_starts(self, by: str = "user") -> bool:
        """See `TaskOrchestrator.release_starts`."""
        return bool(self._ask("POST", "/starts/release", {"by": by})["changed"])

    # -- adaptive jobs -------------------------------------------------------------

    def command(
        self, action: str, *, endpoint: str = "/commands", **fields: Any
    ) -> dict[str, Any]:
        """
        Send a command of adaptive jobs: `client.command("assign_job", job_id=…, …)`.

        Args:
            action: `assign_job`, `job_status`, `job_result`, `list_jobs`, `cancel_job`,
                `reward_job` or `learned`.
            endpoint: The path that the configuration of the jobs names.
            fields: What belongs to it.
        """
        message = {"action": action, "payload": fields}
        return self._ask("POST", endpoint, message, base="")

    def _change(self, task_id: str, path: str, document: object = None) -> bool:
        return bool(self._of_task("POST", task_id, path, document)["changed"])

    # -- the wire ------------------------------------------------------------------

    def _listed(
        self, path: str, member: str, query: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = self._ask("GET", path, query=query)[member]
        return documents

    def _of_task(
        self, method: str, task_id: str, path: str = "", document: object = None
    ) -> dict[str, Any]:
        return self._ask(method, _path(task_id, path), document)

    def _ask(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        query: Mapping[str, str] | None = None,
        wait: float = 0.0,
        base: str = "/api/v1",
        key: str | None = None,
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        body = None
        if document is not None:
            headers["Content-Type"] = "application/json"
            try:
                body = json.dumps(document, allow_nan=False).encode()
            except (TypeError, ValueError) as error:
                msg = f"it cannot be said in JSON: {error}"
                raise InvalidTaskError(msg) from None
        target = f"{self._path}{base}{path}"
        if query:
            target += f"?{urlencode(query)}"
        try:
            status, text = self._connections.ask(
                method, target, body, headers, _PATIENCE + wait
            )
        except OSError as error:
            error.add_note(f"the service was to be at {self._place}")
            raise
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            msg = f"what answers there is no service of taskorch: {show(text)}"
            raise ServiceError(msg, status=status)
        if status not in _OK:
            raise _refusal(status, answer)
        return answer


def _path_of_agent(agent_id: str, rest: str = "") -> str:
    return f"/agents/{quote(agent_id, safe='')}{rest}"


def _path(task_id: str, below: str) -> str:
    """Path of a task, and of what is *below* it; the id is one part of the path."""
    return f"/tasks/{quote(task_id, safe='')}{below}"


def _argument(arg: Any) -> Any:
    """An argument, with references in the place of handles."""
    if isinstance(arg, RemoteHandle):
        return Reference(arg.task_id)
    if type(arg) is list:
        return [
            Reference(item.task_id) if isinstance(item, RemoteHandle) else item
            for item in arg
        ]
    return arg


def _id_of(parent: Any) -> str:
    """The id of what a task waits for."""
    task_id = parent if isinstance(parent, str) else getattr(parent, "task_id", None)
    if task_id is None and isinstance(parent, Task):
        task_id = parent.id
    if task_id is None:
        msg = f"after= names tasks by their ids or handles, not {show(parent)}"
        raise InvalidTaskError(msg, hint="give the task an id")
    return str(task_id)


def _refusal(status: int, problem: Mapping[str, Any]) -> TaskorchError:
    """The error that an answer tells of."""
    message, hint = str(problem.get("detail", status)), problem.get("hint", "")
    cls = _ERRORS.get(problem.get("code", ""))
    if cls is None:
        return ServiceError(message, status=status, problem=problem, hint=hint)
    error = cls(message, hint=hint, task_id=problem.get("task_id"))
    if isinstance(error, errors.ValidationFailedError):
        error.findings = tuple(
            (finding["path"], finding["message"]) for finding in problem["findings"]
        )
    if isinstance(error, errors.DuplicateTaskError):
        error.differences = tuple(
            (each["task_id"], each["field"], each["was"], each["is"])
            for each in problem["differences"]
        )
    return error


def _failure(error: Mapping[str, Any], task_id: str) -> TaskorchError:
    """The error that a task has come to."""
    cls = _ERRORS.get(error.get("code", ""))
    if cls is None or issubclass(cls, TaskFailedError):
        return TaskFailedError(
            f"{error['type']}: {error['message']}", type=error["type"], task_id=task_id
        )
    return cls(error["message"], hint=error.get("hint"), task_id=task_id)
