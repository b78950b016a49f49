"""
Who asks, told to whoever asks it; sessions of browsers; and tokens, made and ended.

Decision: tokens-and-roles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch.errors import InvalidTaskError
from taskorch.ext.people import EVERYBODY, GRACE, Tokens, may, role_of
from taskorch.ext.service._bodies import (
    WHO,
    HttpProblem,
    answer,
    problem_of,
    read_object,
)
from taskorch.ext.service._guard import Doors
from taskorch.ext.service._operations import Operation, asked, named, told
from taskorch.ext.service._tenants import is_for_bound
from taskorch.kit.verbs import OBJECT, TEXT, listed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from taskorch.kit.people import Caller

_TEXTS: Final = listed(TEXT)
_SECONDS: Final = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e10}
_NAMES: Final = {"anyOf": [_TEXTS, {"type": "null"}]}
_CODE: Final = asked("code", code=TEXT)
_MAKE: Final = asked(
    *("name", "roles"),
    name=TEXT,
    roles=_TEXTS,
    tenants=_NAMES,
    kind={"enum": ["person", "program"]},
    lasts=_SECONDS,
)
_ROTATE: Final = asked(grace={"type": "number", "minimum": 0}, lasts=_SECONDS)
_CHANGE: Final = asked(roles=_TEXTS, tenants=_TEXTS)
_ROLE: Final = asked(*("name", "verbs"), name=TEXT, verbs=_TEXTS)
_TOKEN: Final = told(token=TEXT)


def refuse_role(who: Caller, operation: str, role: str = "") -> None:
    """
    Refuse an operation that *who* may not do; *role* is as `may` has it.

    Raises:
        HttpProblem: They may not.
    """
    role = role or role_of(operation)
    if may(who, operation, role):
        return
    raise HttpProblem(
        *(403, "not_allowed", f"{who.name or 'this token'} may not do {operation}"),
        hint=f"it takes the role {role}" if role else "nobody may, here",
    )


class Sessions:
    """
    The operations of whoever is let in.

    Args:
        doors: The ways in.
        operations: The operations of the service.
    """

    def __init__(
        self, doors: Doors, operations: Callable[[], Iterable[Operation]]
    ) -> None:
        self._doors = doors
        self._operations = operations

    def operations(self) -> list[Operation]:
        """Return the operations to show the caller, to log in and to log out."""
        me = Operation(
            *("GET", "/api/v1/me", "me"),
            "Who asks, and what they may do.",
            self._me,
            answer=told(name=TEXT, roles=_TEXTS, may=_TEXTS),
        )
        if self._doors.is_open:
            return [me]
        return [
            me,
            Operation(
                *("POST", "/api/v1/login", "login"),
                "Begin a session of a browser, by the token of this request.",
                self._login,
            ),
            Operation(
                *("POST", "/api/v1/logout", "logout"),
                "End the session of this browser.",
                self._logout,
            ),
            Operation(
                *("POST", "/api/v1/page/key", "page_key"),
                "Begin a session of a browser, by the code of a link.",
                self._use_code,
                body=_CODE,
                refuses=(401,),
                is_open=True,
            ),
        ]

    async def _me(self, request: Request) -> Response:
        who: Caller = request.scope[WHO]
        # Operations for everybody need not be listed.
        roles = {
            each.name: each.role or role_of(each.name)
            for each in self._operations()
            if not each.is_open and (who.tenants is None or is_for_bound(each))
        }
        document: dict[str, Any] = {
            "name": who.name,
            "kind": who.kind,
            "roles": sorted(who.roles),
            "tenants": None if who.tenants is None else sorted(who.tenants),
            "may": sorted(
                name
                for name, role in roles.items()
                if role != EVERYBODY and may(who, name, role)
            ),
            "speaks_for": who.may("speak_for"),
            "open": self._doors.is_open,
        }
        return answer(document)

    async def _login(self, request: Request) -> Response:
        cookie = self._doors.begin(request.headers)
        if cookie is None:
            raise HttpProblem(
                *(400, "no_token", "a session begins with a token"),
                hint="send it: Authorization: Bearer …",
            )
        return answer({}, Set_Cookie=cookie)

    async def _logout(self, request: Request) -> Response:
        return answer({}, Set_Cookie=self._doors.end(request.headers))

    async def _use_code(self, request: Request) -> Response:
        body = await read_object(request, _CODE)
        cookie = self._doors.use_code(body["code"], request.headers)
        if cookie is None:
            text = "the code of the link was used, or is of another incarnation"
            raise HttpProblem(
                401, "no_code", text, hint="take another link, or the token"
            )
        return answer({}, Set_Cookie=cookie)


class TokenOperations:
    """
    The operations on tokens and roles.

    Args:
        tokens: They.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def operations(self) -> list[Operation]:
        """The operations on tokens and roles."""
        one = "/api/v1/tokens/{token_id}"
        return [
            Operation(
                *("GET", "/api/v1/tokens", "tokens"),
                "Who has tokens, for what, and until when. The tokens nobody knows.",
                self._list,
                answer=told(tokens=listed(OBJECT), roles=OBJECT),
            ),
            Operation(
                *("POST", "/api/v1/tokens", "make_token"),
                "Make a token, which is told once. `lasts`: seconds.",
                self._make,
                body=_MAKE,
                status=201,
                answer=_TOKEN,
                refuses=(422,),
            ),
            Operation(
                *("POST", f"{one}/rotate", "rotate_token"),
                "Make a new token for a name; the one of before ends after `grace` s.",
                self._rotate,
                body=_ROTATE,
                is_body_needed=False,
                status=201,
                answer=_TOKEN,
                refuses=(404, 422),
            ),
            Operation(
                *("POST", f"{one}/change", "change_token"),
                "Give a token, or all of a name, other roles or tenants.",
                self._change,
                body=_CHANGE,
                answer=told(count={"type": "integer"}),
                refuses=(404, 422),
            ),
            Operation(
                *("POST", f"{one}/revoke", "revoke_token"),
                "End a token, or all of a name, at once.",
                self._revoke,
                answer=told(count={"type": "integer"}),
                refuses=(404,),
            ),
            Operation(
                *("POST", "/api/v1/roles", "make_role"),
                "Make a role of verbs, or change it; without verbs it is removed.",
                self._make_role,
                body=_ROLE,
                refuses=(422,),
            ),
        ]

    async def _list(self, _request: Request) -> Response:
        tokens = [each.to_dict() for each in self._tokens.list()]
        roles = {name: [*parts] for name, parts in self._tokens.roles.items()}
        return answer({"tokens": tokens, "roles": roles})

    async def _make(self, request: Request) -> Response:
        body = await read_object(request, _MAKE)
        token = await run_in_threadpool(lambda: self._tokens.add(**body))
        return answer({"token": token}, 201)

    async def _rotate(self, request: Request) -> Response:
        body = await read_object(request, _ROTATE, is_needed=False)
        which, grace = named(request, "token_id"), body.get("grace", GRACE)
        self._refuse_unknown(which)
        token = await run_in_threadpool(
            lambda: self._tokens.rotate(which, grace=grace, lasts=body.get("lasts"))
        )
        return answer({"token": token}, 201)

    async def _change(self, request: Request) -> Response:
        body = await read_object(request, _CHANGE)
        which = named(request, "token_id")
        self._refuse_unknown(which)
        count = await run_in_threadpool(
            lambda: self._tokens.change(
                which, body.get("roles"), tenants=body.get("tenants")
            )
        )
        return answer({"count": count})

    async def _revoke(self, request: Request) -> Response:
        try:
            which = named(request, "token_id")
            count = await run_in_threadpool(self._tokens.revoke, which)
        except InvalidTaskError as error:
            raise problem_of(error, 404) from None
        return answer({"count": count})

    async def _make_role(self, request: Request) -> Response:
        body = await read_object(request, _ROLE)
        await run_in_threadpool(self._tokens.set_role, body["name"], body["verbs"])
        return answer({})

    def _refuse_unknown(self, which: str) -> None:
        try:
            self._tokens.check_known(which)
        except InvalidTaskError as error:
            raise problem_of(error, 404) from None
