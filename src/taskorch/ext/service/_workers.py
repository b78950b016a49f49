"""
Workers of other processes: they ask for work, and tell what came of it.

Decision: workers-elsewhere.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial, wraps
from importlib.resources import files
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from starlette.concurrency import run_in_threadpool

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.ext.service._artifacts import Artifacts
from taskorch.ext.service._bodies import (
    WIRE,
    HttpProblem,
    answer,
    read_object,
    refuse,
)
from taskorch.ext.service._operations import Operation, named, ref
from taskorch.ext.service._sessions import Result, WorkerSession
from taskorch.ext.service._waiting import Waiter
from taskorch.kit.fence import log_of
from taskorch.kit.visible import visible
from taskorch.model import Agent, Resources, check_capabilities, check_labels
from taskorch.protocols import AttemptExecutor

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from taskorch.ext.suites._elsewhere import EndsKept

#: The default length of a lease in seconds.
LEASE: Final = 15.0
_USUAL_END: Final = {"stdout_tail": "", "stderr_tail": "", "duration": 0.0}


def info_of(name: str, message: Mapping[str, Any]) -> Agent:
    capacity = message.get("capacity")
    return Agent(
        name,
        check_capabilities(message.get("capabilities", [])),
        message.get("max_concurrency", 1),
        None if capacity is None else Resources.of(capacity, "capacity", named=True),
        lease=float(message["lease"]),
        labels=check_labels(message.get("labels", [])),
        host=message.get("host", ""),
    )


def secret_of(value: str) -> str:
    if not all("!" <= letter <= "~" for letter in value):
        refuse("session", "characters of ASCII are needed, which nobody guesses")
    return value


def names(message: Mapping[str, Any], member: str) -> list[str]:
    return list(dict.fromkeys(message.get(member, ())))


def result(message: Mapping[str, Any]) -> Result:
    error, end = message.get("error", {"type": "Error"}), message.get("program")
    return Result(
        message["attempt"],
        message["outcome"],
        message.get("result"),
        (error["type"], error.get("message", "")),
        None if end is None else {**_USUAL_END, **end},
        tuple(message.get("spent", ())),
    )


_LOG: Final = log_of(__name__)
#: The version of the protocol between a worker and the service.
PROTOCOL: Final = 1
#: The number of heartbeats in a lease, of which two may be lost.
_BEATS: Final = 3
#: The largest number of known workers.
_MAX_WORKERS: Final = 1_000
#: A function that lets a worker join an orchestrator: `orch.agents.join`, or a wrapper.
Admit: TypeAlias = Callable[[Agent, AttemptExecutor[Any]], None]
#: The secret of a worker.
SESSION: Final = "Taskorch-Session"
_HEADER: Final = {
    SESSION: {
        "type": "string",
        "minLength": 16,
        "maxLength": 200,
        "pattern": "^[!-~]+$",
    }
}


@cache
def schemas() -> Mapping[str, Any]:
    """The messages of workers and to them, by name, as the description has them."""
    text = files(__package__ or "").joinpath("agents.schema.json").read_text("utf-8")
    moved = text.replace('"#/$defs/', '"#/components/schemas/')
    parts: dict[str, Any] = json.loads(moved)["$defs"]
    return parts


def _framed(
    do: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Answer in frames who can read them, and say that they may come."""

    @wraps(do)
    async def answered(request: Request) -> Response:
        response = await do(request)
        body, kind = WIRE.packed(bytes(response.body), request.headers.get("accept"))
        if kind != "application/json":
            response.body = body
            response.headers["content-length"] = str(len(body))
            response.headers["content-type"] = kind
        response.headers["accept-post"] = WIRE.offer
        return response

    return answered


def _operation(
    verb: str,
    words: str,
    do: Callable[[Request], Awaitable[Response]],
    answer_schema: str,
) -> Operation:
    return Operation(
        *("POST", f"/api/v1/agents/{{agent_id}}/{verb}", f"agent_{verb}", words),
        _framed(do),
        header={} if verb == "hello" else _HEADER,
        needs=() if verb == "hello" else (SESSION,),
        body=ref(f"Agent{verb.capitalize()}"),
        answer=ref(answer_schema),
        refuses=(404, 409, 503),
    )


class Workers:
    """
    The operations of workers.

    Files that they send are for *artifacts*, or are not taken. *admit* has one join an
    orchestrator; without it, nothing but that is done. *lease*: seconds of a lease, of
    one that does not say it. *late* takes ends of attempts of an earlier incarnation;
    without it, the orchestrator does.
    """

    def __init__(
        self,
        orch: TaskOrchestrator,
        artifacts: Artifacts | None,
        admit: Admit | None = None,
        lease: float | None = None,
        late: EndsKept | None = None,
    ) -> None:
        self._late = late
        self._lease = LEASE if lease is None else lease
        self._workers = orch.agents
        self._admit: Admit = orch.agents.join if admit is None else admit
        self._artifacts = artifacts
        self._sessions: dict[str, WorkerSession] = {}
        #: Guards the names: two workers may not take one name at once.
        self._joining = threading.Lock()
        self._is_closed = False

    def operations(self) -> list[Operation]:
        """The operations on workers."""
        return [
            _operation(
                "hello",
                "A worker has come: it gets work from now on.",
                self._hello,
                "AgentWelcome",
            ),
            _operation(
                "claim",
                "Ask for work, and wait for it for `wait` s.",
                self._claim,
                "AgentOrders",
            ),
            _operation(
                "heartbeat",
                "Renew the lease, and say how far attempts are.",
                self._heartbeat,
                "AgentStops",
            ),
            _operation(
                "complete",
                "Say how attempts have ended, and take new ones.",
                self._complete,
                "AgentCompleted",
            ),
            _operation(
                "artifact",
                "Send a part of a file that an attempt has made.",
                self._artifact,
                "AgentArtifactSize",
            ),
            _operation(
                "leave",
                "Go: what has not ended is for others.",
                self._leave,
                "AgentLeft",
            ),
        ]

    def close(self) -> None:
        """End all waits of workers."""
        self._is_closed = True
        for session in list(self._sessions.values()):
            session.wake()

    # -- coming and going ----------------------------------------------------------

    async def _hello(self, request: Request) -> Response:
        message = await read_object(request, schemas()["AgentHello"], parts=schemas())
        secret = secret_of(message["session"])
        message = {"lease": self._lease, **message}
        info = info_of(named(request, "agent_id"), message)
        await run_in_threadpool(self._join, info, secret)
        assert info.lease is not None  # noqa: S101 - all have one here
        return answer(
            {
                "protocol": PROTOCOL,
                "agent_id": info.name,
                "lease": info.lease,
                "heartbeat": info.lease / _BEATS,
                "artifacts": self._artifacts is not None,
                "round_trip": True,
            }
        )

    def _join(self, info: Agent, secret: str) -> None:
        with self._joining:
            existing = self._sessions.get(info.name)
            if existing is not None and existing.has(secret) and existing.info == info:
                # The answer to its first hello was lost.
                existing.hear(())
                return
            if existing is not None and not self._workers.is_lost(info.name):
                raise HttpProblem(
                    *(409, "agent_taken", f"there is a worker {info.name!r} already"),
                    hint="it is free once the other has left, or its lease is over: "
                    "wait, or take another name",
                    headers={"Retry-After": "1"},
                )
            if existing is None and len(self._sessions) >= _MAX_WORKERS:
                self._forget_one()
            self._take(info, secret)
            _LOG.info("worker %s has come", visible(info.name))

    def _take(self, info: Agent, secret: str) -> None:
        session = WorkerSession(self._workers, info, secret, self._late)
        self._admit(info, session)
        self._sessions[info.name] = session

    def move(self, orch: TaskOrchestrator, admit: Admit) -> None:
        """
        Give the workers, those here and those that come, to another orchestrator.

        Args:
            orch: The orchestrator; it has no workers yet.
            admit: Has one join it; it has started by then.
        """
        with self._joining:
            before, self._workers = self._workers, orch.agents
            self._admit = admit
            for session in [*self._sessions.values()]:
                # Requests of the worker meanwhile go to one of the two sessions.
                if before.is_lost(session.info.name):
                    del self._sessions[session.info.name]
                else:
                    self._take(session.info, session.secret)
                    self._sessions[session.info.name].hear(
                        (), round_trip=session.round_trip
                    )
                session.end_here()

    def names(self) -> list[str]:
        """Names of the workers that are there, sorted."""
        with self._joining:
            living = [n for n in self._sessions if not self._workers.is_lost(n)]
        return sorted(living)

    def _forget_one(self) -> None:
        """Drop one lost worker to make room; it may say hello again."""
        for name in self._sessions:
            if self._workers.is_lost(name):
                del self._sessions[name]
                return
        text = f"there are {_MAX_WORKERS:,} workers already"
        raise HttpProblem(409, "too_many_agents", text)

    async def _leave(self, request: Request) -> Response:
        session, message = await self._read(request, "AgentLeave")
        unbegun = names(message, "unbegun")
        await run_in_threadpool(
            self._let_go, session.info.name, session.secret, unbegun
        )
        return answer({})

    def _let_go(self, name: str, secret: str, unbegun: list[str]) -> None:
        with self._joining:
            session = self._sessions.get(name)
            # The name may belong to another orchestrator by now, or to another worker.
            if session is not None and session.has(secret):
                session.leave(unbegun)
                del self._sessions[name]

    # -- work ----------------------------------------------------------------------

    async def _claim(self, request: Request) -> Response:
        session, message = await self._read(request, "AgentClaim")
        running, most = names(message, "running"), message.get("most", 1)
        lease = session.info.lease or 0.0
        # A claim counts as a heartbeat: a waiting one is followed by another in time.
        wait = min(message.get("wait", 0.0), lease / _BEATS)
        end = monotonic() + wait
        waiter = Waiter()
        session.await_work(waiter)
        stops = await run_in_threadpool(partial(session.hear, running, asks=True))
        while True:
            orders = session.take(most)
            remaining = end - monotonic()
            has_news = session.are_news(stops)
            if orders or has_news or remaining <= 0 or self._is_closed:
                return answer({"orders": orders, "stop": stops})
            await waiter.wait(remaining)
            if not session.is_awaited_by(waiter) or await request.is_disconnected():
                # A newer request gets the work, because the client of this one may be
                # gone.
                return answer({"orders": [], "stop": []})
            # A waiting request is no heartbeat, because the worker may have died since.
            stops = session.unwanted(running)

    async def _heartbeat(self, request: Request) -> Response:
        session, message = await self._read(request, "AgentHeartbeat")
        running, reports = names(message, "running"), message.get("progress", {})

        def hear() -> list[str]:
            stops = session.hear(running, round_trip=message.get("round_trip"))
            session.progress(
                {name: value for name, value in reports.items() if name not in stops}
            )
            return stops

        return answer({"stop": await run_in_threadpool(hear)})

    async def _complete(self, request: Request) -> Response:
        session, message = await self._read(request, "AgentComplete")
        running, most = names(message, "running"), message.get("most", 0)
        results = [result(one) for one in message["results"]]

        def end() -> dict[str, Any]:
            fates = session.end(results)
            stops = session.hear(running) if running else []
            return {
                "results": [
                    {"attempt": result.attempt, "fate": fate}
                    for result, fate in zip(results, fates, strict=True)
                ],
                "orders": session.take(most),
                "stop": stops,
            }

        return answer(await run_in_threadpool(end))

    async def _artifact(self, request: Request) -> Response:
        session, message = await self._read(request, "AgentArtifact")
        if self._artifacts is None:
            raise HttpProblem(409, "no_artifacts", "no files are taken here")
        attempt = message["attempt"]
        task_and_fence = await run_in_threadpool(session.fence_of, attempt)
        if task_and_fence is None:
            raise HttpProblem(
                *(409, "not_yours", "the worker has no such attempt"),
                hint="files are sent before the end of their attempt is told",
            )
        try:
            data = base64.b64decode(message["data"], validate=True)
        except ValueError:
            refuse("data", "base64 is needed")
        keep = partial(
            self._artifacts.keep,
            *(*task_and_fence, message["name"]),
            *(message["offset"], data),
        )
        return answer({"size": await run_in_threadpool(keep)})

    # -- callers -------------------------------------------------------------------

    async def _read(
        self, request: Request, kind: str
    ) -> tuple[WorkerSession, dict[str, Any]]:
        """
        Return the session of the worker that asks, and its message of this *kind*.

        Raises:
            HttpProblem: It has not said hello, or another has since, or it makes no
                sense.
        """
        name = named(request, "agent_id")
        session = self._sessions.get(name)
        if session is None:
            raise HttpProblem(
                *(404, "unknown_agent", f"no worker {name!r} has said hello here"),
                hint="say hello: it may be that the service was started anew",
            )
        sent = request.headers.getlist(SESSION)
        if len(sent) != 1 or not session.has(sent[0]):
            raise HttpProblem(
                *(409, "not_your_session", f"{SESSION} is not that of worker {name!r}"),
                hint="another has come by this name; say hello, or take another",
            )
        return session, await read_object(request, schemas()[kind], parts=schemas())
