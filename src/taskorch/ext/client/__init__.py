"""
A client of an orchestrator that is a service, with the names that it has in Python.

    client = Client("http://127.0.0.1:8080", token=token)
    handle = client.submit_task(Task("code-review", {"path": "a.py"}))
    print(handle.result())

It needs nothing but taskorch: the standard library speaks HTTP. A service may be away
for a while, as at each deployment: every request that is safe to repeat is asked again.

Decision: connections-to-peers.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from functools import partial, wraps
from inspect import Parameter, Signature, isfunction, signature
from itertools import islice
from random import Random
from time import monotonic, sleep
from typing import (
    Any,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    TypeVar,
    Unpack,
)
from urllib.parse import quote, urlencode, urlsplit

import attrs

from taskorch import errors
from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.api.verbs.remedies import REMEDIES_HEADER
from taskorch.api.verbs.table import VERBS
from taskorch.core.resources import ResourceManager
from taskorch.core.runs import WorkflowManager
from taskorch.core.workers._manager import WorkerManager
from taskorch.core.workflows import Workflow
from taskorch.core.workflows._parameters import as_json
from taskorch.core.workflows._writing import write_task
from taskorch.errors import (
    InvalidTaskError,
    JournalUnavailableError,
    NotRunningError,
    TaskFailedError,
    TaskorchError,
)
from taskorch.ext.governance._audit import Audits
from taskorch.ext.memo import MemoManager
from taskorch.ext.schedules import Backfilled, ScheduleManager
from taskorch.ext.steps import Steps
from taskorch.kit.backoff import Backoff
from taskorch.kit.checks import check_seconds, to_seconds
from taskorch.kit.connections import HttpConnections, TooLongError
from taskorch.kit.verbs import SECONDS, Argument, Verb
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant
from taskorch.model import (
    Call,
    FilterFields,
    Quota,
    Reference,
    Task,
    TaskFilter,
    TaskState,
)

P = ParamSpec("P")
T = TypeVar("T")

__all__ = (
    "AsyncClient",
    "AsyncRemoteHandle",
    "Client",
    "RemoteHandle",
    "ServiceError",
)

#: The seconds that the service may take to answer, beside those that it is asked to
#: wait, and for which it may be away.
_PATIENCE: Final = 20.0
#: The seconds that the last answer may take, after the caller's own time is over.
_LAST: Final = 5.0
#: The pauses between two tries, random so that many clients do not return at once.
_PAUSES: Final = Backoff(0.1, 2.0, jitter=0.5)
#: Statuses of a proxy whose service is away.
_AWAY: Final = (502, 503, 504)
#: Errors of a service that does not know now how a task has ended.
_NOT_NOW: Final = (OSError, JournalUnavailableError, NotRunningError)
#: Verbs that only ask, although their arguments are in a body.
_ASKING: Final = frozenset({"match_agents"})
#: The seconds for which one request waits for a result.
_WAIT: Final = 20.0
_PAGE: Final = 500
_OK: Final = range(200, 300)


def _all_errors(cls: type[TaskorchError]) -> Iterator[type[TaskorchError]]:
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from _all_errors(below)


#: Classes of errors by their codes; a group needs its members, which HTTP does not
#: carry.
_ERRORS: Final[Mapping[str, type[TaskorchError]]] = {
    cls.code: cls
    for cls in _all_errors(TaskorchError)
    if not issubclass(cls, BaseExceptionGroup)
}


class ServiceError(TaskorchError):
    """
    The service has refused a request, for a reason that only a service has.

    Attributes:
        status: The status of HTTP.
        problem: The problem document of the service.
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
        """Return whether the task has ended."""
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


@attrs.frozen
class AsyncRemoteHandle:
    """
    The same for coroutines: `result = await handle`.

    Attributes:
        task_id: The id of the task.
    """

    task_id: str
    _client: AsyncClient = attrs.field(repr=False, eq=False)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    async def done(self) -> bool:
        """Return whether the task has ended."""
        return TaskState((await self.status())["state"]).is_terminal

    async def status(self) -> dict[str, Any]:
        """See `Client.get_task_status`."""
        return await self._client.get_task_status(self.task_id)

    async def result(
        self,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - as there
    ) -> Any:
        """See `Client.result`."""
        return await self._client.result(self.task_id, timeout)

    async def cancel(self) -> bool:
        """See `TaskOrchestrator.cancel_task`."""
        return await self._client.cancel_task(self.task_id)


def document(value: Any) -> dict[str, Any]:
    """*value*, which is a document."""
    fields: dict[str, Any] = value
    return fields


def documents(value: Any) -> list[dict[str, Any]]:
    """*value*, which is a list of documents."""
    items: list[dict[str, Any]] = value
    return items


def texts(value: Any) -> list[str]:
    """*value*, which is a list of texts."""
    items: list[str] = value
    return items


def nothing(_: Any) -> None:
    """Whatever was answered, the method returns nothing."""


#: Converters of results by annotation, for methods without a line here.
_KINDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "None": nothing,
    "bool": bool,
    "int": int,
    "str": str,
}


def asking(
    method: Callable[Concatenate[Any, P], Any], kind: Callable[[Any], T]
) -> Callable[Concatenate[Client, P], T]:
    """Make a method like the verb *method* of a service, with a result of *kind*."""
    verb: Verb = method.verb  # type: ignore[attr-defined]  # checkers see no marks
    called = _signature_of(verb)

    def ask(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        values = called.bind(*args, **kwargs).arguments
        for name in verb.apart:
            usual = verb.signature.parameters[name].default
            if values.get(name, usual) != usual:
                msg = f"{verb.operation}: {name} is not for a service, only beside one"
                raise InvalidTaskError(msg, hint="leave it out, and ask again later")
        path, fields = verb.path, {}
        for each in verb.arguments:
            value: Any = values.get(each.name, () if each.is_many else None)
            if each.in_path:
                if not isinstance(value, str):
                    msg = f"{verb.operation}: {each.name} is a text, not {show(value)}"
                    raise InvalidTaskError(msg, hint="a service knows it by its id")
                path = path.replace(f"{{{each.key}}}", quote(value, safe=""))
            elif value is not None:
                fields[each.key] = _plain_value(each, value)
        if verb.method == "GET":
            query = {
                key: each if isinstance(each, str) else json.dumps(each)
                for key, each in fields.items()
            }
            answer = client._ask(verb.method, path, query=query)  # noqa: SLF001 - it is its part
        else:
            repeatable = verb.operation in _ASKING
            answer = client._ask(  # noqa: SLF001 - as above
                verb.method, path, fields or None, repeatable=repeatable
            )
        return kind(answer[verb.gives] if verb.gives else answer)

    first = Parameter("self", Parameter.POSITIONAL_ONLY)
    parameters = [first, *called.parameters.values()]
    method_of_client: Any = ask
    method_of_client.__name__ = verb.operation
    method_of_client.__qualname__ = f"Client.{verb.operation}"
    method_of_client.__doc__ = f"{verb.text} See `{verb.function.__qualname__}`."
    method_of_client.__signature__ = called.replace(
        parameters=parameters,
        return_annotation=signature(kind).return_annotation
        if isfunction(kind)
        else kind,
    )
    return ask


def _signature_of(verb: Verb) -> Signature:
    """Return the signature of a verb at a service, where a token may give the name."""
    unsaid = {a.name for a in verb.arguments if a.says_who and a.is_needed}
    return verb.signature.replace(
        parameters=[
            each.replace(default=None, annotation="str | None")
            if each.name in unsaid
            else each
            for each in verb.signature.parameters.values()
        ]
    )


def signed(method: Callable[..., Any], kind: Callable[[Any], T]) -> Callable[..., T]:
    """Make a method like `asking`, whose caller a token or `by=` names."""
    return asking(method, kind)


def _plain_value(argument: Argument, value: Any) -> Any:
    """Return *value* in the form that JSON has for *argument*."""
    if argument.form == SECONDS:
        return check_seconds(argument.name, value)
    if isinstance(value, Mapping):
        return dict(value)
    if argument.form.get("type") == "array":
        return [each.to_dict() if isinstance(each, Quota) else each for each in value]
    return value


class Client:
    """
    The methods of a `TaskOrchestrator` that is served elsewhere.

    What they raise is what these raise, as far as it can be told over the wire; besides
    `ServiceError`, and OSError if the service cannot be reached. It may be used from
    any thread.

    A service that has answered once may be away for *patience* seconds: what only asks
    is asked again meanwhile, and so is what submits under an id or a key, and what the
    service cannot have heard. All else raises ConnectionError if its answer is lost.

    Args:
        url: Where the service is, such as `http://127.0.0.1:8080`.
        token: The token that it asks for.
        functions: The functions that tasks call, by their names at the service.
        remedies: What is to be done about an error is told as requests of HTTP, or as
            calls.
        patience: Seconds, or a timedelta, that an answer may take, beside those that
            the service is to wait, and for which the service may be away.

    Raises:
        InvalidTaskError: *url* is no address of a service, or *patience* no time.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        remedies: Literal["requests", "calls"] = "requests",
        patience: float | timedelta = _PATIENCE,
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
        self._remedies = remedies
        self._patience = check_seconds("patience", patience)
        #: Whether the service has ever answered: if not, the address may be wrong.
        self._has_answered = False

    def __repr__(self) -> str:
        return f"<Client of {self._place}>"

    @property
    def aio(self) -> AsyncClient:
        """The same for coroutines."""
        return AsyncClient(self)

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
        document = self._document(task)
        repeatable = _is_repeatable(document)
        answer = self._ask("POST", "/tasks", document, repeatable=repeatable)
        return RemoteHandle(answer["task_id"], self)

    def submit_tasks(self, tasks: Iterable[Task[Any]]) -> list[RemoteHandle]:
        """
        Submit tasks, all or none: see `TaskOrchestrator.submit_tasks`.

        Raises:
            InvalidTaskError: One has what cannot be said in JSON.
            UsageError: One was refused.
        """
        documents = [self._document(task) for task in tasks]
        answer = self._ask(
            *("POST", "/tasks/batch", {"tasks": documents}),
            repeatable=all(map(_is_repeatable, documents)),
        )
        return [RemoteHandle(task_id, self) for task_id in answer["task_ids"]]

    def submit_documents(
        self, documents: Iterable[Mapping[str, Any]], *, key: str | None = None
    ) -> list[str]:
        """
        Submit tasks as JSON has them, all or none; their ids.

        Args:
            documents: The documents of the tasks, as in documents of workflows.
            key: Under which the same tasks are meant if they come again.

        Raises:
            InvalidTaskError: One has what cannot be said in JSON.
            UsageError: One was refused.
        """
        body = {"tasks": [*documents]}
        repeatable = all(map(_is_repeatable, body["tasks"]))
        answer = self._ask("POST", "/tasks/batch", body, key=key, repeatable=repeatable)
        task_ids: list[str] = answer["task_ids"]
        return task_ids

    def start_workflow(
        self,
        document: Mapping[str, Any],
        run_id: str | None = None,
        *,
        key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a workflow from a document, and return the id of the run."""
        body: dict[str, Any] = {"workflow": document}
        body |= {} if run_id is None else {"id": run_id}
        body |= {} if parameters is None else {"parameters": as_json(parameters)}
        repeatable = run_id is not None
        answer = self._ask("POST", "/workflows", body, key=key, repeatable=repeatable)
        return str(answer["workflow_id"])

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

    def simulate(
        self,
        work: Iterable[Task[Any] | Mapping[str, Any]] | Workflow | Mapping[str, Any],
        durations: float | Mapping[str, float] | None = None,
        *,
        failures: float | Mapping[str, float] | None = None,
        draws: int = 1,
        seed: int = 0,
    ) -> dict[str, Any]:
        """
        Forecast *work* at the service: see `TaskOrchestrator.simulate`.

        Args:
            work: Tasks, or their documents; or a workflow, or its document.
            durations: Seconds that tasks take, or by ids or types.
            failures: How likely attempts fail, or by ids or types.
            draws: How often chance is asked.
            seed: The seed of random draws.

        Returns:
            The numbers of `SimulationReport.to_dict`, and its `text`.

        Raises:
            InvalidTaskError: It has what cannot be said in JSON.
            UsageError: It was refused.
        """
        body: dict[str, Any] = {"draws": draws, "seed": seed}
        if isinstance(work, Workflow):
            body["workflow"] = work.to_dict(self._functions)
        elif isinstance(work, Mapping):
            body["workflow"] = dict(work)
        else:
            body["tasks"] = [
                dict(task) if isinstance(task, Mapping) else self._document(task)
                for task in work
            ]
        for name, each in (("durations", durations), ("failures", failures)):
            if each is not None:
                body[name] = dict(each) if isinstance(each, Mapping) else each
        return self._ask("POST", "/simulations", body, repeatable=True)

    # -- questions -----------------------------------------------------------------

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

        If the service goes away, it is asked again until the timeout; without one, for
        the patience of the client. Where none has answered yet, a connection that is
        refused is an error at once.

        Args:
            task_id: Its id.
            timeout: Seconds, or a timedelta, to wait; None is for ever.

        Raises:
            TimeoutError: It has not ended in that time.
            TaskFailure: It has failed or was cancelled. An error of the task comes as a
                TaskFailedError.
            UnknownTaskError: No task has this id.
            OSError: No service is there.
        """
        patience = to_seconds(timeout)
        end = None if patience is None else monotonic() + patience
        path = _path(task_id, "/result")

        def ask() -> dict[str, Any]:
            wait = min(_WAIT, self._patience)
            most = wait + self._patience
            if end is not None:
                seconds = max(0.0, end - monotonic())
                last = min(_LAST, self._patience)
                wait, most = min(wait, seconds), min(most, seconds + last)
            return self._exchange("GET", path, {"wait": f"{wait:.3f}"}, None, most)

        while True:
            try:
                answer = self._again(ask, end, passing=_NOT_NOW)
            except OSError as error:
                if end is None or monotonic() < end:
                    raise
                msg = (
                    f"nobody knows whether task {task_id} has ended in {patience:g} s: "
                    f"the service at {self._place} does not answer: {error}"
                )
                raise TimeoutError(msg) from error
            if TaskState(answer["state"]).is_terminal:
                if answer["error"] is not None:
                    raise _failure(answer["error"], task_id)
                return answer["result"]
            if end is not None and monotonic() >= end:
                msg = f"task {task_id} has not ended in {patience:g} s"
                raise TimeoutError(msg)

    def tasks(
        self,
        state: TaskFilter | TaskState | str | None = None,
        **fields: Unpack[FilterFields],
    ) -> Iterator[dict[str, Any]]:
        """
        Go through all tasks that match all arguments, a page at a time.

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
            remedies: Whether remedies are HTTP requests, or calls.

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

    # -- control -------------------------------------------------------------------

    def rerun_task(
        self,
        task_id: str,
        *,
        downstream: bool | None = None,
        definition: Literal["as_deployed", "as_it_was"] | None = None,
    ) -> RemoteHandle:
        """See `TaskOrchestrator.rerun_task`."""
        asked: dict[str, Any] = {"downstream": downstream, "definition": definition}
        asked = {name: value for name, value in asked.items() if value is not None}
        answer = self._of_task("POST", task_id, "/rerun", asked or None)
        return RemoteHandle(answer["task_id"], self)

    # -- schedules -----------------------------------------------------------------

    def schedule(self, name: str, count: int = 5) -> dict[str, Any]:
        """A schedule, with its next ticks in `coming`."""
        path = f"/schedules/{quote(name, safe='')}"
        return self._ask("GET", path, query={"count": str(count)})

    def change_schedule(self, name: str, verb: str, said: object = None) -> bool:
        """Pause, resume or remove a schedule; return whether that changed it."""
        path = f"/schedules/{quote(name, safe='')}/{verb}"
        return bool(self._ask("POST", path, said)["changed"])

    def backfill_schedule(
        self,
        name: str,
        since: str,
        until: str,
        *,
        again: bool = False,
        parameters: Mapping[str, Any] | None = None,
        limit: int = 1,
        order: str = "oldest",
        stop_on_failure: bool = False,
        by: str = "",
        definition: Literal["as_deployed", "as_it_was"] | None = None,
    ) -> Backfilled:
        """See `orch.schedules.backfill`."""
        path = f"/schedules/{quote(name, safe='')}/backfill"
        period: dict[str, Any] = {"since": since, "until": until}
        if parameters is not None:
            period["parameters"] = as_json(parameters)
        # An earlier service need not know an argument that has its default.
        if again:
            period["again"] = True
        if limit != 1:
            period["limit"] = limit
        if order != "oldest":
            period["order"] = order
        if stop_on_failure:
            period["stop_on_failure"] = True
        if by:
            period["by"] = by
        if definition is not None:
            period["definition"] = definition
        answer = self._ask("POST", path, period)
        backfill_id = answer.get("backfill_id", "")
        return Backfilled(answer["ids"], answer["already"], backfill_id)

    # -- workers --------------------------------------------------------------------

    def agent_instances(self) -> list[dict[str, Any]]:
        """All workers as documents: see `AgentInstance.to_dict`."""
        return self._listed("/agent-instances", "agents")

    def alerts(self) -> list[dict[str, Any]]:
        """Return the status of each alert: see `orch.alerts.list`."""
        return self._listed("/alerts", "alerts")

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
            fields: The fields of the command.
        """
        message = {"action": action, "payload": fields}
        return self._ask("POST", endpoint, message, base="")

    # -- extensions ----------------------------------------------------------------

    def call(self, verb: str, /, **arguments: Any) -> Any:
        """
        Call a verb of an extension: `client.call("licences.take", seat="ada")`.

        The service is asked which verbs it has, so this serves for all others, too, by
        the names that `GET /api/v1/verbs` lists. It has no types for a checker.

        Args:
            verb: Its name.
            arguments: The arguments by name, as JSON has them.

        Returns:
            The result of the method, as JSON has it.

        Raises:
            InvalidTaskError: The service has no such verb, or an argument of its path
                is missing.
        """
        verbs = self._ask("GET", "/verbs")["verbs"]
        listed = {each["operation"]: each for each in verbs}
        if verb not in listed:
            msg = f"the service at {self._place} has no verb {show(verb)}"
            hint = meant(verb, listed, "its program names extensions=[…]")
            raise InvalidTaskError(msg, hint=hint)
        method, gives = listed[verb]["method"], listed[verb]["gives"]
        path, fields = listed[verb]["path"], dict(arguments)
        for name in re.findall(r"{(\w+)}", path):
            if not isinstance(fields.get(name), str):
                msg = f"{verb}: {name} is a text, not {show(fields.get(name))}"
                raise InvalidTaskError(msg, hint=f"client.call({verb!r}, {name}=…)")
            path = path.replace(f"{{{name}}}", quote(fields.pop(name), safe=""))
        query = {
            key: each if isinstance(each, str) else json.dumps(each)
            for key, each in fields.items()
        }
        answer = (
            self._ask(method, path, query=query, base="")
            if method == "GET"
            else self._ask(method, path, fields or None, base="")
        )
        return answer[gives] if gives else answer

    # -- the same as beside the orchestrator: a line for type checkers --------------

    get_task_status: Final = asking(TaskOrchestrator.get_task_status, document)
    compare: Final = asking(TaskOrchestrator.compare, document)
    when: Final = asking(TaskOrchestrator.when, document)
    at_risk: Final = asking(TaskOrchestrator.at_risk, documents)
    in_time: Final = asking(TaskOrchestrator.in_time, document)
    what_if: Final = asking(TaskOrchestrator.what_if, document)
    log: Final = asking(TaskOrchestrator.log, document)
    get_stats: Final = asking(TaskOrchestrator.get_stats, document)
    health: Final = asking(TaskOrchestrator.health, document)
    doctor: Final = asking(TaskOrchestrator.doctor, documents)
    measured: Final = asking(TaskOrchestrator.metrics, document)
    prune: Final = asking(TaskOrchestrator.prune, document)
    cancel_task: Final = asking(TaskOrchestrator.cancel_task, bool)
    suspend_task: Final = asking(TaskOrchestrator.suspend_task, bool)
    resume_task: Final = asking(TaskOrchestrator.resume_task, bool)
    set_priority: Final = asking(TaskOrchestrator.set_priority, bool)
    decide: Final = asking(TaskOrchestrator.decide, bool)
    questions: Final = asking(TaskOrchestrator.questions, documents)
    failures: Final = asking(TaskOrchestrator.failures, documents)
    escalations: Final = asking(TaskOrchestrator.escalations, documents)
    answer: Final = signed(TaskOrchestrator.answer, bool)
    reward_task: Final = asking(TaskOrchestrator.reward_task, bool)
    change_tasks: Final = asking(TaskOrchestrator.change_tasks, texts)
    expire_tasks: Final = asking(TaskOrchestrator.expire_tasks, texts)
    emit: Final = asking(TaskOrchestrator.emit, int)
    hold_starts: Final = asking(TaskOrchestrator.hold_starts, nothing)
    release_starts: Final = asking(TaskOrchestrator.release_starts, bool)
    find_workflows: Final = asking(WorkflowManager.find, texts)
    workflow_status: Final = asking(WorkflowManager.status, document)
    workflow_versions: Final = asking(WorkflowManager.versions, documents)
    cancel_workflow: Final = asking(WorkflowManager.cancel, bool)
    pause_workflow: Final = asking(WorkflowManager.pause, bool)
    resume_workflow: Final = asking(WorkflowManager.resume, bool)
    restart_workflow: Final = asking(WorkflowManager.restart, str)
    approve_workflow: Final = signed(WorkflowManager.approve, bool)
    reject_workflow: Final = signed(WorkflowManager.reject, bool)
    schedule_status: Final = asking(ScheduleManager.status, document)
    find_schedules: Final = asking(ScheduleManager.list, documents)
    pause_schedule: Final = asking(ScheduleManager.pause, bool)
    resume_schedule: Final = asking(ScheduleManager.resume, bool)
    remove_schedule: Final = asking(ScheduleManager.remove, bool)
    trigger_schedule: Final = asking(ScheduleManager.trigger, texts)
    find_backfills: Final = asking(ScheduleManager.backfills, documents)
    backfill_status: Final = asking(ScheduleManager.backfill_status, document)
    cancel_backfill: Final = asking(ScheduleManager.cancel_backfill, bool)
    pause_backfill: Final = asking(ScheduleManager.pause_backfill, bool)
    resume_backfill: Final = asking(ScheduleManager.resume_backfill, bool)
    agents: Final = asking(WorkerManager.list, documents)
    agent: Final = asking(WorkerManager.get, document)
    spawn_agent: Final = asking(WorkerManager.spawn, document)
    drain_agent: Final = asking(WorkerManager.drain, bool)
    terminate_agent: Final = asking(WorkerManager.terminate, nothing)
    match_agents: Final = asking(WorkerManager.match, documents)
    explain_scaling: Final = asking(WorkerManager.explain_scaling, documents)
    clear_memo: Final = asking(MemoManager.clear, int)
    waivers: Final = asking(Audits.waivers, documents)
    request_waiver: Final = signed(Audits.request_waiver, document)
    revoke_waiver: Final = signed(Audits.revoke_waiver, document)
    audit: Final = asking(Audits.audit_operation, document)
    receipts: Final = asking(Audits.receipts, documents)
    steps: Final = asking(Steps.of, documents)
    forget_steps: Final = asking(Steps.forget, texts)
    fork: Final = asking(Steps.fork, str)
    fork_many: Final = asking(Steps.fork_many, texts)
    resize_resources: Final = asking(ResourceManager.resize, nothing)
    budgets: Final = asking(ResourceManager.budgets, documents)
    raise_budget: Final = asking(ResourceManager.raise_budget, document)
    set_quotas: Final = asking(ResourceManager.set_quotas, nothing)
    allocate_resources: Final = asking(ResourceManager.allocate, document)
    release_resources: Final = asking(ResourceManager.release, nothing)
    allocations: Final = asking(ResourceManager.allocations, documents)
    # These names are older ones of some methods.
    approve: Final = signed(WorkflowManager.approve, bool)
    restart: Final = asking(WorkflowManager.restart, str)
    schedules: Final = asking(ScheduleManager.list, documents)

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
        base: str = "/api/v1",
        key: str | None = None,
        repeatable: bool = False,
    ) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            return self._exchange(
                method, path, query, document, self._patience, base=base, key=key
            )

        return self._again(
            ask, repeatable=repeatable or method == "GET" or key is not None
        )

    def _again(
        self,
        ask: Callable[[], dict[str, Any]],
        end: float | None = None,
        *,
        repeatable: bool = True,
        passing: tuple[type[Exception], ...] = (OSError,),
    ) -> dict[str, Any]:
        """
        Return the answer of the service, which may be away for a while.

        Args:
            ask: Asks it once.
            end: When there is no more time; None: that is for the client to say.
            repeatable: Whether to ask twice is as to ask once.
            passing: Errors of a service that is away.

        Raises:
            OSError: The service was away for that long; or nobody knows what became of
                a request that is not *repeatable*.
        """
        began = monotonic()
        if end is None:
            end = began + (self._patience if self._has_answered else 0)
        for pause in _PAUSES.pauses(Random()):  # noqa: S311 - nobody guards a pause
            try:
                return ask()
            except passing as error:
                # A service that refuses the connection has not got the request.
                is_refused = isinstance(error, ConnectionRefusedError)
                is_safe = repeatable or is_refused
                # If no service was there before, none is being restarted.
                is_nowhere = is_refused and not self._has_answered
                seconds = end - monotonic()
                if not is_safe or is_nowhere or seconds <= 0:
                    self._say_where(error, monotonic() - began, is_safe=is_safe)
                    raise
            sleep(min(pause, seconds))
        raise AssertionError

    def _say_where(self, error: Exception, seconds: float, *, is_safe: bool) -> None:
        note = f"the service was to be at {self._place}"
        if not is_safe:
            note += "; it may have done what it was asked: look before you ask again"
        elif self._has_answered:
            note += f"; it was asked for {seconds:.0f} s, and can be asked again"
        else:
            note += "; none has answered there yet: check the address, or start it"
        error.add_note(note)

    def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        document: object,
        seconds: float,
        *,
        base: str = "/api/v1",
        key: str | None = None,
    ) -> dict[str, Any]:
        """
        Send one request, and return the answer, within so many seconds.

        Raises:
            OSError: The service cannot be reached, or does not say all in that time.
            TaskorchError: It has refused.
        """
        headers = {"Accept": "application/json", REMEDIES_HEADER: self._remedies}
        if key is not None:
            headers["Idempotency-Key"] = key
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        body = _body(document)
        if body is not None:
            headers["Content-Type"] = "application/json"
        target = f"{self._path}{base}{path}"
        if query:
            target += f"?{urlencode(query)}"
        try:
            status, text = self._connections.ask(method, target, body, headers, seconds)
        except TooLongError as error:
            msg = f"the service at {self._place}: {error}"
            raise ServiceError(msg, hint="ask for less of it") from None
        answer = _answer(text)
        if answer is None:
            if status in _AWAY:
                msg = f"what stands before the service says that it is away ({status})"
                raise ConnectionError(msg)
            msg = (
                f"what answers at {self._place} is no service of taskorch: {show(text)}"
            )
            raise ServiceError(msg, status=status, hint="check the address")
        self._has_answered = True
        if status not in _OK:
            raise _refusal(status, answer)
        return answer


async def _apart(call: Callable[[], T]) -> T:
    """
    Run *call* on a thread of its own, and return its result.

    Those of the loop are few: whoever waits for a result would keep others from asking.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(setter: Callable[[Any], None], value: object) -> None:
        if not answer.done():
            setter(value)

    def run() -> None:
        setter: Callable[[Any], None] = answer.set_result
        value: object
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - it is told who asked
            setter, value = answer.set_exception, error
        # Once the loop has ended, nobody waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, setter, value)

    context = copy_context()
    threading.Thread(
        target=context.run, args=[run], name="taskorch-client", daemon=True
    ).start()
    return await answer


def on_thread(
    method: Callable[Concatenate[Client, P], T],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """Return *method* of a client as a coroutine function that calls it on a thread."""

    @wraps(method)
    async def call(face: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        client = face._client  # noqa: SLF001 - it is its part
        return await _apart(partial(method, client, *args, **kwargs))

    return call


class AsyncClient:
    """
    `client.aio`: the methods of a `Client` for coroutines; each waits on a thread.

        handle = await client.aio.submit_task(task)
        result = await handle
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def tasks(
        self,
        state: TaskFilter | TaskState | str | None = None,
        **fields: Unpack[FilterFields],
    ) -> AsyncIterator[dict[str, Any]]:
        """See `Client.tasks`: `async for task in client.aio.tasks(…)`."""
        tasks = self._client.tasks(state, **fields)
        while page := await _apart(lambda: list(islice(tasks, _PAGE))):
            for task in page:
                yield task

    async def submit_task(self, task: Task[Any]) -> AsyncRemoteHandle:
        """See `Client.submit_task`."""
        return self._handle(await _apart(partial(self._client.submit_task, task)))

    async def submit_tasks(self, tasks: Iterable[Task[Any]]) -> list[AsyncRemoteHandle]:
        """See `Client.submit_tasks`."""
        handles = await _apart(partial(self._client.submit_tasks, tasks))
        return [*map(self._handle, handles)]

    async def handle(self, task_id: str) -> AsyncRemoteHandle:
        """See `Client.handle`."""
        return self._handle(await _apart(partial(self._client.handle, task_id)))

    async def rerun_task(
        self,
        task_id: str,
        *,
        downstream: bool | None = None,
        definition: Literal["as_deployed", "as_it_was"] | None = None,
    ) -> AsyncRemoteHandle:
        """See `Client.rerun_task`."""
        rerun = partial(
            self._client.rerun_task,
            task_id,
            downstream=downstream,
            definition=definition,
        )
        return self._handle(await _apart(rerun))

    def _handle(self, handle: RemoteHandle) -> AsyncRemoteHandle:
        return AsyncRemoteHandle(handle.task_id, self)

    async def command(
        self, action: str, *, endpoint: str = "/commands", **fields: Any
    ) -> dict[str, Any]:
        """See `Client.command`."""
        command = partial(self._client.command, action, endpoint=endpoint, **fields)
        return await _apart(command)

    # -- a line for type checkers
    # ----------------------------------------------------------

    call: Final = on_thread(Client.call)
    submit_documents: Final = on_thread(Client.submit_documents)
    start_workflow: Final = on_thread(Client.start_workflow)
    simulate: Final = on_thread(Client.simulate)
    result: Final = on_thread(Client.result)
    explain: Final = on_thread(Client.explain)
    stuck: Final = on_thread(Client.stuck)
    compare: Final = on_thread(Client.compare)
    when: Final = on_thread(Client.when)
    at_risk: Final = on_thread(Client.at_risk)
    in_time: Final = on_thread(Client.in_time)
    what_if: Final = on_thread(Client.what_if)
    events: Final = on_thread(Client.events)
    schedule: Final = on_thread(Client.schedule)
    change_schedule: Final = on_thread(Client.change_schedule)
    backfill_schedule: Final = on_thread(Client.backfill_schedule)
    agent_instances: Final = on_thread(Client.agent_instances)
    alerts: Final = on_thread(Client.alerts)
    get_task_status: Final = on_thread(Client.get_task_status)
    log: Final = on_thread(Client.log)
    get_stats: Final = on_thread(Client.get_stats)
    health: Final = on_thread(Client.health)
    doctor: Final = on_thread(Client.doctor)
    measured: Final = on_thread(Client.measured)
    prune: Final = on_thread(Client.prune)
    cancel_task: Final = on_thread(Client.cancel_task)
    suspend_task: Final = on_thread(Client.suspend_task)
    resume_task: Final = on_thread(Client.resume_task)
    set_priority: Final = on_thread(Client.set_priority)
    decide: Final = on_thread(Client.decide)
    questions: Final = on_thread(Client.questions)
    failures: Final = on_thread(Client.failures)
    escalations: Final = on_thread(Client.escalations)
    answer: Final = on_thread(Client.answer)
    reward_task: Final = on_thread(Client.reward_task)
    change_tasks: Final = on_thread(Client.change_tasks)
    expire_tasks: Final = on_thread(Client.expire_tasks)
    emit: Final = on_thread(Client.emit)
    hold_starts: Final = on_thread(Client.hold_starts)
    release_starts: Final = on_thread(Client.release_starts)
    find_workflows: Final = on_thread(Client.find_workflows)
    workflow_status: Final = on_thread(Client.workflow_status)
    workflow_versions: Final = on_thread(Client.workflow_versions)
    cancel_workflow: Final = on_thread(Client.cancel_workflow)
    pause_workflow: Final = on_thread(Client.pause_workflow)
    resume_workflow: Final = on_thread(Client.resume_workflow)
    restart_workflow: Final = on_thread(Client.restart_workflow)
    approve_workflow: Final = on_thread(Client.approve_workflow)
    reject_workflow: Final = on_thread(Client.reject_workflow)
    schedule_status: Final = on_thread(Client.schedule_status)
    find_schedules: Final = on_thread(Client.find_schedules)
    pause_schedule: Final = on_thread(Client.pause_schedule)
    resume_schedule: Final = on_thread(Client.resume_schedule)
    remove_schedule: Final = on_thread(Client.remove_schedule)
    trigger_schedule: Final = on_thread(Client.trigger_schedule)
    find_backfills: Final = on_thread(Client.find_backfills)
    backfill_status: Final = on_thread(Client.backfill_status)
    cancel_backfill: Final = on_thread(Client.cancel_backfill)
    pause_backfill: Final = on_thread(Client.pause_backfill)
    resume_backfill: Final = on_thread(Client.resume_backfill)
    agents: Final = on_thread(Client.agents)
    agent: Final = on_thread(Client.agent)
    spawn_agent: Final = on_thread(Client.spawn_agent)
    drain_agent: Final = on_thread(Client.drain_agent)
    terminate_agent: Final = on_thread(Client.terminate_agent)
    match_agents: Final = on_thread(Client.match_agents)
    explain_scaling: Final = on_thread(Client.explain_scaling)
    clear_memo: Final = on_thread(Client.clear_memo)
    waivers: Final = on_thread(Client.waivers)
    request_waiver: Final = on_thread(Client.request_waiver)
    revoke_waiver: Final = on_thread(Client.revoke_waiver)
    audit: Final = on_thread(Client.audit)
    receipts: Final = on_thread(Client.receipts)
    steps: Final = on_thread(Client.steps)
    forget_steps: Final = on_thread(Client.forget_steps)
    fork: Final = on_thread(Client.fork)
    fork_many: Final = on_thread(Client.fork_many)
    resize_resources: Final = on_thread(Client.resize_resources)
    budgets: Final = on_thread(Client.budgets)
    raise_budget: Final = on_thread(Client.raise_budget)
    set_quotas: Final = on_thread(Client.set_quotas)
    allocate_resources: Final = on_thread(Client.allocate_resources)
    release_resources: Final = on_thread(Client.release_resources)
    allocations: Final = on_thread(Client.allocations)
    approve: Final = on_thread(Client.approve)
    restart: Final = on_thread(Client.restart)
    schedules: Final = on_thread(Client.schedules)


for _verb in VERBS.values():
    # The lines are for type checkers: a verb without one works all the same.
    if _verb.request and not hasattr(Client, _verb.operation):
        _kind = _KINDS.get(str(_verb.signature.return_annotation), lambda value: value)
        setattr(Client, _verb.operation, asking(_verb.function, _kind))
    if _verb.request and not hasattr(AsyncClient, _verb.operation):
        _method = getattr(Client, _verb.operation)
        setattr(AsyncClient, _verb.operation, on_thread(_method))


def _body(document: object) -> bytes | None:
    """Return the bytes of a request; None: it has none."""
    if document is None:
        return None
    try:
        return json.dumps(document, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        msg = f"it cannot be said in JSON: {error}"
        raise InvalidTaskError(msg) from None


def _answer(text: bytes) -> dict[str, Any] | None:
    """Return an answer; None: it does not come from taskorch."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _path(task_id: str, below: str) -> str:
    """Return the path of a task and of a part *below* it, with the id escaped."""
    return f"/tasks/{quote(task_id, safe='')}{below}"


def _argument(arg: Any) -> Any:
    """An argument, with references in the place of handles."""
    if type(arg) is list:
        return [_reference(item) for item in arg]
    return _reference(arg)


def _reference(arg: Any) -> Any:
    is_handle = isinstance(arg, RemoteHandle | AsyncRemoteHandle)
    return Reference(arg.task_id) if is_handle else arg


def _is_repeatable(document: Mapping[str, Any]) -> bool:
    """Return whether a task that is submitted twice counts once."""
    return bool(document.get("id") or document.get("idempotency_key"))


def _id_of(parent: Any) -> str:
    """Return the id of a parent of a task."""
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
    if isinstance(error, errors.ResourcesTakenError):
        for name in ("resource", "need", "free"):
            setattr(error, name, problem.get(name, getattr(error, name)))
        error.holders = tuple(problem.get("holders", ()))
    return error


def _failure(error: Mapping[str, Any], task_id: str) -> TaskorchError:
    """Return the error of a failed task."""
    cls = _ERRORS.get(error.get("code", ""))
    if cls is None or issubclass(cls, TaskFailedError):
        return TaskFailedError(
            f"{error['type']}: {error['message']}",
            type=error["type"],
            traceback=error.get("traceback", ""),
            task_id=task_id,
        )
    return cls(error["message"], hint=error.get("hint"), task_id=task_id)
