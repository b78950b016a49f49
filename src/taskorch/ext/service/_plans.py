"""Plans of requests; adaptive jobs, whose commands are actions sent to one path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.errors import InvalidTaskError, TaskorchError
from taskorch.ext.incoming import refuse_files, refuse_our_run
from taskorch.ext.planner import ExecutionPlan
from taskorch.ext.planner._schemas import (
    agent_schema,
    plan_schema,
    request_schema,
    workflow_schema,
)
from taskorch.ext.service._bodies import (
    HttpProblem,
    answer,
    document,
    problem_of,
    read,
    read_object,
    refuse,
)
from taskorch.ext.service._operations import Operation, asked, ref, told
from taskorch.kit.checks import check_seconds
from taskorch.kit.verbs import OBJECT, TEXT
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import nearest

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from taskorch.ext.jobs import JobSystem


#: The seconds of a search for a caller over HTTP.
_MOST: Final = 60
#: The seconds of a search for a plan, and the requests about plans that run and that
#: wait. They have threads of their own, so that all else goes on.
_SEARCH: Final = 10.0
_AT_ONCE: Final = 2
_WAITING: Final = 32
_REFUSES: Final = (422, 429)
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": _MOST}
_WANTED: Final = {"anyOf": [OBJECT, TEXT]}
_PLAN: Final = asked("request", request=_WANTED, seconds=_SECONDS)
_CHECK: Final = asked("plan", plan=OBJECT)
_IMPROVE: Final = asked(
    "plan", plan=OBJECT, seconds=_SECONDS, aims=OBJECT, speeds=OBJECT, prices=OBJECT
)
_START: Final = asked("plan", plan=OBJECT, id=TEXT)


class Plans:
    """
    The operations on plans: each is told whole, and none is kept here.

    With *programs*, their tasks may start programs.
    """

    def __init__(
        self,
        orch: TaskOrchestrator,
        functions: Mapping[str, Callable[..., Any]],
        *,
        programs: bool,
    ) -> None:
        self._orch = orch
        self._functions = functions
        self._programs = programs
        self._turns = CapacityLimiter(_AT_ONCE)
        #: The requests that run, or wait.
        self._open = 0

    def operations(self) -> list[Operation]:
        """The operations on plans."""
        every = "/api/v1/plans"
        told_plan = told(id=TEXT, tasks={"type": "array"})
        return [
            Operation(
                *("POST", every, "make_plan"),
                "Plan a request, in words or as an object; nothing is started.",
                partial(self._made, _PLAN, self._plan),
                body=_PLAN,
                answer=told_plan,
                refuses=_REFUSES,
            ),
            Operation(
                *("POST", f"{every}/validate", "validate_plan"),
                "A check that a plan can be carried out.",
                partial(self._made, _CHECK, self._validate),
                body=_CHECK,
                answer=told(ok={"type": "boolean"}, findings={"type": "array"}),
                refuses=_REFUSES,
            ),
            Operation(
                *("POST", f"{every}/optimize", "optimize_plan"),
                "The plan in a better order.",
                partial(self._made, _IMPROVE, self._optimize),
                body=_IMPROVE,
                answer=told_plan,
                refuses=_REFUSES,
            ),
            Operation(
                *("POST", f"{every}/estimate", "estimate_plan"),
                "The time and cost of a plan.",
                partial(self._made, _CHECK, self._estimate),
                body=_CHECK,
                answer=told(estimatedDuration={"type": "number"}),
                refuses=_REFUSES,
            ),
            Operation(
                *("POST", f"{every}/start", "start_plan", "Run a plan."),
                partial(self._made, _START, self._start, 202),
                body=_START,
                status=202,
                answer=told(workflow_id=TEXT, instance=ref("WorkflowInstance")),
                refuses=(409, *_REFUSES),
            ),
            Operation(
                *("GET", f"{every}/schemas", "plan_schemas"),
                "The JSON Schemas of requests, plans, workers and runs.",
                _schemas,
                answer=told(request=OBJECT, plan=OBJECT, agent=OBJECT, workflow=OBJECT),
            ),
        ]

    async def _made(
        self,
        body: Mapping[str, Any],
        act: Callable[[dict[str, Any]], dict[str, Any]],
        *rest: Any,
    ) -> Response:
        *status, request = rest
        members = await read_object(request, body)
        if "seconds" in members:
            members["seconds"] = _seconds(members["seconds"])
        if self._open >= _AT_ONCE + _WAITING:
            text = f"{_WAITING} other requests about plans wait already"
            raise HttpProblem(429, "too_many_requests", text, hint="try again later")
        self._open += 1
        try:
            result = await to_thread.run_sync(act, members, limiter=self._turns)
        finally:
            self._open -= 1
        return answer(result, *status)

    def _plan(self, members: dict[str, Any]) -> dict[str, Any]:
        wanted = members["request"]
        if not isinstance(wanted, dict | str):
            refuse("request", "an object or a text is needed")
        planner = self._orch.planner
        plan = planner.plan(wanted, max_seconds=_SEARCH)
        if members.get("seconds"):
            plan = planner.optimize(plan, seconds=members["seconds"])
        return self._written(plan)

    def _written(self, plan: ExecutionPlan) -> dict[str, Any]:
        try:
            return plan.to_dict(self._functions)
        except InvalidTaskError as error:
            hint = error.hint or ""
            if "functions=" in hint:
                hint = "the service is to name the functions that plans call: "
                hint += 'create_app(orch, functions={"NAME": function})'
            raise HttpProblem(422, error.code, error.message, hint=hint) from None

    def _read(self, members: dict[str, Any]) -> ExecutionPlan:
        written_plan = members["plan"]
        if not isinstance(written_plan, dict):
            refuse("plan", "an object is needed")
        if not self._programs:
            refuse_files(written_plan.get("workflow"), refuse)
        return ExecutionPlan.from_dict(
            written_plan, self._functions, programs=self._programs
        )

    def _validate(self, members: dict[str, Any]) -> dict[str, Any]:
        return self._orch.planner.validate(self._read(members)).to_dict()

    def _optimize(self, members: dict[str, Any]) -> dict[str, Any]:
        names = ("aims", "speeds", "prices")
        options = {name: members[name] for name in names if name in members}
        plan = self._orch.planner.optimize(
            self._read(members), seconds=members.get("seconds", 1.0), **options
        )
        return self._written(plan)

    def _estimate(self, members: dict[str, Any]) -> dict[str, Any]:
        return self._orch.planner.estimate(self._read(members)).to_dict()

    def _start(self, members: dict[str, Any]) -> dict[str, Any]:
        plan, run_id = self._read(members), members.get("id")
        if run_id is not None:
            refuse_our_run(self._orch, run_id, plan.workflow, refuse)
        run = self._orch.workflows.start(plan, run_id)
        instance = document(run.status().to_dict())
        return {"workflow_id": run.workflow_id, "instance": instance}


async def _schemas(_request: Request) -> Response:
    schemas = {"request": request_schema(), "plan": plan_schema()}
    schemas |= {"agent": agent_schema(), "workflow": workflow_schema()}
    return answer(schemas)


def _seconds(value: Any) -> float:
    try:
        duration = check_seconds("seconds", value)
    except TaskorchError as error:
        raise problem_of(error, 422) from None
    if duration > _MOST:
        refuse("seconds", f"at most {_MOST}")
    return duration


_ACTIONS: Final = (
    *("assign_job", "job_status", "job_result", "list_jobs", "cancel_job"),
    *("reward_job", "learned"),
)


class Commands:
    """
    The operation that takes commands of jobs.

    Args:
        jobs: The manager of jobs.
    """

    def __init__(self, jobs: JobSystem) -> None:
        self._jobs = jobs

    def operations(self) -> list[Operation]:
        """The one operation there is."""
        job = self._jobs.schema()
        body = {
            "type": "object",
            "required": ["action"],
            "properties": {
                **job["properties"],
                "action": {"enum": list(_ACTIONS)},
                "payload": {"type": "object"},
                "value": {"type": "number", "minimum": -1, "maximum": 1},
                "source": TEXT,
                "reason": TEXT,
            },
        }
        return [
            Operation(
                *("POST", self._jobs.endpoint, "command"),
                "Assign a job, ask for its status or its result, list, cancel or "
                "reward jobs, or ask what was learnt.",
                self._take,
                body=body,
                status=202,
                refuses=(404, 409, 422),
            )
        ]

    async def _take(self, request: Request) -> Response:
        body = await read(request)
        if not isinstance(body, dict):
            refuse("", "a JSON object is needed")
        action = body.pop("action", None)
        if action not in _ACTIONS:
            near = nearest(str(action), _ACTIONS, 0.5)
            meant = f": did you mean {near}?" if near else ""
            refuse(
                "action", f"there is {', '.join(_ACTIONS)}, not {show(action)}{meant}"
            )
        # The fields of the action stand beside it, or in `payload`.
        fields = body
        if "payload" in body:
            fields = body["payload"]
            if len(body) > 1 or not isinstance(fields, dict):
                refuse("payload", "an object is needed, and nothing beside it")
        doing: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "assign_job": self._jobs.assign_job,
            "job_status": self._status,
            "job_result": self._result,
            "list_jobs": self._list,
            "cancel_job": self._cancel,
            "reward_job": self._reward,
            "learned": lambda _: self._jobs.told(),
        }
        do: Callable[[dict[str, Any]], Any] = doing[action]
        outcome = await run_in_threadpool(lambda: do(fields))
        return answer(outcome, 202)

    def _status(self, fields: dict[str, Any]) -> Any:
        _check(fields, ("job_id",))
        return self._jobs.status(fields["job_id"])

    def _result(self, fields: dict[str, Any]) -> Any:
        """Return the results of the units; None for an unfinished job."""
        _check(fields, ("job_id",))
        job_id = fields["job_id"]
        status = self._jobs.status(job_id)
        state = status["state"]
        units = self._jobs.result(job_id, timeout=0) if state == "completed" else None
        return {
            "job_id": job_id,
            "state": state,
            "result": document(units),
            "errors": status["errors"],
        }

    def _list(self, fields: dict[str, Any]) -> Any:
        _check(fields, ())
        return {"about": self._jobs.about(), "jobs": self._jobs.all_jobs()}

    def _cancel(self, fields: dict[str, Any]) -> Any:
        _check(fields, ("job_id",), ("reason",))
        reason = fields.get("reason", "cancelled over HTTP")
        return {"changed": self._jobs.cancel(fields["job_id"], reason=reason)}

    def _reward(self, fields: dict[str, Any]) -> Any:
        _check(fields, ("job_id", "value"), ("source",))
        source = fields.get("source", "user")
        is_changed = self._jobs.reward(fields["job_id"], fields["value"], source=source)
        return {"changed": is_changed}


def _check(
    fields: Mapping[str, Any], needed: tuple[str, ...], more: tuple[str, ...] = ()
) -> None:
    faults = [f"{name} is needed" for name in needed if name not in fields]
    allowed = (*needed, *more)
    faults += [f"{name} is not known" for name in fields if name not in allowed]
    if "job_id" in fields and not isinstance(fields["job_id"], str):
        faults.append(f"job_id is a text, not {show(fields['job_id'])}")
    if faults:
        raise InvalidTaskError("; ".join(faults))
