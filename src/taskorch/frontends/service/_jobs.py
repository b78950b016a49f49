"""Commands of adaptive jobs: one path, to which an action is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch._base.vocabulary import nearest
from taskorch.errors import InvalidTaskError
from taskorch.frontends.service._bodies import read, refuse
from taskorch.frontends.service._operations import Operation
from taskorch.frontends.service._problems import answer, document
from taskorch.model import TEXT, show

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from taskorch.frontends.jobs import JobSystem

_ACTIONS: Final = (
    *("assign_job", "job_status", "job_result", "list_jobs", "cancel_job"),
    *("reward_job", "learned"),
)


class Commands:
    """
    The operation that takes commands of jobs.

    Args:
        jobs: Who does them.
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
        # What belongs to the action stands beside it, or in `payload`.
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
        """What the units returned; None of a job that has not completed."""
        _check(fields, ("job_id",))
        job_id = fields["job_id"]
        state = self._jobs.status(job_id)["state"]
        units = self._jobs.result(job_id, timeout=0) if state == "completed" else None
        return {"job_id": job_id, "state": state, "result": document(units)}

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
