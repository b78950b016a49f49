"""The agents that there are, their pools, alerts, and starts that are held."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch._managers import AgentManager
from taskorch.frontends.service._bodies import read_object
from taskorch.frontends.service._operations import (
    CHANGED,
    NAME,
    OBJECT,
    TEXT,
    Current,
    Operation,
    asked,
    listed,
    named,
    told,
)
from taskorch.frontends.service._values import answer, document
from taskorch.model._plain import plain
from taskorch.planning._schemas import agent_schema

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_SPAWN: Final = asked("type", type=NAME, config=OBJECT)
_DRAIN: Final = asked(reason=TEXT, on={"type": "boolean"})
_TERMINATE: Final = asked(grace={"type": "number", "minimum": 0})
_MATCH: Final = asked("requirements", requirements=listed(NAME), type=NAME)
_HOLD: Final = asked(
    "reason", reason=NAME, by=NAME, most={"type": "integer", "minimum": 0}
)
_RELEASE: Final = asked(by=NAME)
_AGENT: Final = told(id=TEXT, status=TEXT, health=OBJECT)
_INSTANCE: Final = {n: v for n, v in agent_schema().items() if n != "$schema"}


class FleetOperations:
    """
    The operations on agents, as those who look after them have them.

    Args:
        orch: Whose agents they are.
    """

    def __init__(self, orch: Current) -> None:
        self._orch = orch

    def operations(self) -> list[Operation]:
        """These operations."""
        every, one = "/api/v1/agents", "/api/v1/agents/{agent_id}"
        return [
            Operation(
                *("GET", every, "agents", "All agents, in the order they came in."),
                partial(self._told, "agents", lambda agents: agents.list()),
                answer=told(agents=listed(_AGENT)),
            ),
            Operation(
                *("POST", every, "spawn_agent", "Start an agent of a template."),
                self._spawn,
                body=_SPAWN,
                status=201,
                answer=_AGENT,
                refuses=(422,),
            ),
            Operation(
                *("GET", one, "agent", "An agent, how it does, and what it holds."),
                self._agent,
                answer=_AGENT,
                refuses=(404,),
            ),
            Operation(
                *("GET", "/api/v1/agent-instances", "agent_instances"),
                "All agents as documents, in the form of requests and plans.",
                self._instances,
                answer=told(agents=listed(_INSTANCE)),
            ),
            Operation(
                *("POST", f"{one}/drain", "drain_agent"),
                "Let an agent end what it has, and give it nothing new; or again.",
                self._drain,
                body=_DRAIN,
                is_body_needed=False,
                answer=CHANGED,
                refuses=(404, 409),
            ),
            Operation(
                *("POST", f"{one}/terminate", "terminate_agent"),
                "Let an agent go, at the latest after `grace` s.",
                self._terminate,
                body=_TERMINATE,
                is_body_needed=False,
                status=202,
                refuses=(404, 409, 422),
            ),
            Operation(
                *("POST", "/api/v1/agent-matches", "match_agents"),
                "Which agents have what is required, and why the others do not.",
                self._match,
                body=_MATCH,
                answer=told(matches=listed(OBJECT)),
                refuses=(422,),
            ),
            Operation(
                *("GET", "/api/v1/scaling", "explain_scaling"),
                "What pools of agents have decided, and why.",
                self._scaling,
                query={"type": NAME},
                answer=told(decisions=listed(OBJECT)),
                refuses=(422,),
            ),
            Operation(
                *("GET", "/api/v1/alerts", "alerts", "How each alert stands."),
                self._alerts,
                answer=told(alerts=listed(OBJECT)),
            ),
            Operation(
                *("POST", "/api/v1/starts/hold", "hold_starts"),
                "Start nothing new, or only while fewer than `most` attempts run.",
                self._hold,
                body=_HOLD,
                refuses=(422,),
            ),
            Operation(
                *("POST", "/api/v1/starts/release", "release_starts"),
                "Start again what was held back.",
                self._release,
                body=_RELEASE,
                is_body_needed=False,
                answer=CHANGED,
            ),
        ]

    def _there(self) -> AgentManager:
        return self._orch().agents

    async def _told(
        self, name: str, ask: Callable[[AgentManager], Any], _: Request
    ) -> Response:
        return answer({name: document(await run_in_threadpool(ask, self._there()))})

    async def _agent(self, request: Request) -> Response:
        agent = await run_in_threadpool(self._there().get, named(request, "agent_id"))
        return answer(document(agent))

    async def _instances(self, _: Request) -> Response:
        agents = await run_in_threadpool(self._there().list)
        return answer({"agents": [plain(each.to_dict()) for each in agents]})

    async def _spawn(self, request: Request) -> Response:
        body = await read_object(request, _SPAWN)
        spawn = partial(self._there().spawn, body["type"], body.get("config"))
        return answer(document(await run_in_threadpool(spawn)), 201)

    async def _drain(self, request: Request) -> Response:
        body = await read_object(request, _DRAIN, is_needed=False)
        drain = partial(
            self._there().drain,
            named(request, "agent_id"),
            body.get("reason", "drained over HTTP"),
            on=body.get("on", True),
        )
        return answer({"changed": await run_in_threadpool(drain)})

    async def _terminate(self, request: Request) -> Response:
        body = await read_object(request, _TERMINATE, is_needed=False)
        agent_id = named(request, "agent_id")
        await run_in_threadpool(partial(self._there().terminate, agent_id, **body))
        return answer({"agent_id": agent_id}, 202)

    async def _match(self, request: Request) -> Response:
        body = await read_object(request, _MATCH)
        match = partial(
            self._there().match, body["requirements"], type=body.get("type")
        )
        return answer({"matches": document(await run_in_threadpool(match))})

    async def _scaling(self, request: Request) -> Response:
        explain = partial(
            self._there().explain_scaling, request.query_params.get("type")
        )
        return answer({"decisions": document(await run_in_threadpool(explain))})

    async def _alerts(self, _: Request) -> Response:
        # The first use of `orch.alerts` would have them act.
        watched = self._orch()._rt.alerts  # noqa: SLF001 - it asks for no more
        alerts = () if watched is None else await run_in_threadpool(watched.list)
        return answer({"alerts": document(alerts)})

    async def _hold(self, request: Request) -> Response:
        body = await read_object(request, _HOLD)
        await run_in_threadpool(partial(self._orch().hold_starts, **body))
        return answer({"by": body.get("by", "user")})

    async def _release(self, request: Request) -> Response:
        body = await read_object(request, _RELEASE, is_needed=False)
        release = partial(self._orch().release_starts, **body)
        return answer({"changed": await run_in_threadpool(release)})
