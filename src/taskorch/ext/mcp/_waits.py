"""
Long waits: a call is answered with a task of the protocol, which the client polls.

It is the extension `io.modelcontextprotocol/tasks`. Nothing is kept for such a task:
its id says which of our tasks is waited for, and until when. The id is signed
with a secret of this server and of its permitted callers. So it cannot be guessed,
belongs to whoever has it, and stays valid after a restart of either side. Its state
follows from our own task, which the journal has.

Decision: language-models.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import attrs
import mcp_types as types
from mcp.shared.exceptions import MCPError

from taskorch.errors import TaskorchError, UnknownTaskError
from taskorch.ext.mcp._calls import brief
from taskorch.model.ids import number_of, numbered, stem_of

EXTENSION: Final = "io.modelcontextprotocol/tasks"
#: The milliseconds after which another question is worth it.
_POLL: Final = 1_000
#: The number of cancelled waits that this incarnation keeps.
_MOST: Final = 10_000
_MOST_LETTERS: Final = 2_000


@attrs.frozen
class _Wait:
    """The contents of the id of a task of the protocol; times are Unix ms."""

    task: str
    since: int
    until: int | None
    salt: str


class Waits:
    """
    The open tasks of the protocol.

    Args:
        place: The place of the tasks.
        secret: By which ids are signed; None: they belong to this incarnation only.
    """

    def __init__(self, place: Any, secret: bytes | None) -> None:
        self._place = place
        key = secrets.token_bytes(32) if secret is None else secret
        self._key = hashlib.sha256(b"waits of taskorch\0" + key).digest()
        self._cancelled: OrderedDict[str, None] = OrderedDict()

    def begin(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """
        The answer to a call of `wait`: a task; None if it can be answered at once.

        Raises:
            UnknownTaskError: No task has this id.
        """
        status = self._place.get_task_status(values["task"])
        seconds = values.get("seconds")
        if status.is_terminal or seconds == 0:
            return None
        # This is the present run, even if the task runs again.
        run_id = numbered(stem_of(status.run_id), number_of(status.run_id))
        now = _now()
        until = None if seconds is None else now + round(seconds * 1_000)
        wait = _Wait(run_id, now, until, secrets.token_hex(16))
        return {"resultType": "task", **self._document(wait, "working", status)}

    def state(self, name: str, answer: Callable[[str], Any]) -> dict[str, Any]:
        """
        Return the state of a task of the protocol; *answer* gives the result of `wait`.

        Raises:
            MCPError: There is none of this name.
        """
        wait = self._read(name)
        status = self._status(wait)
        if name in self._cancelled:
            return self._document(wait, "cancelled", status)
        if not _is_over(wait, status):
            return self._document(wait, "working", status)
        document = self._document(wait, "completed", status)
        return {**document, "result": answer(wait.task)}

    def cancel(self, name: str) -> None:
        """
        Wait no more; our task goes on. A finished one stays as it is.

        Raises:
            MCPError: There is none of this name.
        """
        wait = self._read(name)
        if _is_over(wait, self._status(wait)):
            return
        self._cancelled[name] = None
        while len(self._cancelled) > _MOST:
            self._cancelled.popitem(last=False)

    def check(self, name: str) -> None:
        """
        Refuse a name that is none.

        Raises:
            MCPError: There is none of this name.
        """
        self._read(name)

    def _status(self, wait: _Wait) -> Any:
        """The status of our task; None: it is not known, as the answer says."""
        try:
            return self._place.get_task_status(wait.task)
        except UnknownTaskError:
            return None

    def _document(self, wait: _Wait, state: str, status: Any) -> dict[str, Any]:
        moments = [_moment(wait.since)]
        if status is not None:
            moments += filter(None, (status.submitted, status.started, status.ended))
        document = {
            "taskId": self._name(wait),
            "status": state,
            "createdAt": _moment(wait.since).isoformat(),
            "lastUpdatedAt": max(moments).isoformat(),
            "ttlMs": None,
            "pollIntervalMs": _POLL,
        }
        text = self._why(wait.task)
        return document | ({"statusMessage": text} if text else {})

    def _why(self, task: str) -> str:
        try:
            return brief(self._place.explain(task))
        except TaskorchError:
            return ""

    def _name(self, wait: _Wait) -> str:
        text = json.dumps(attrs.astuple(wait), separators=(",", ":"))
        body = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        return f"{body}.{self._mark(body)}"

    def _mark(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()

    def _read(self, name: str) -> _Wait:
        body, _, mark = name.partition(".")
        if len(name) > _MOST_LETTERS or not hmac.compare_digest(
            mark.encode("utf-8", "replace"),
            self._mark(body.encode("ascii", "replace").decode()).encode(),
        ):
            _refuse()
        # The id has our signature, so that we made it.
        text = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        return _Wait(*json.loads(text))


def _refuse() -> NoReturn:
    text = "there is no task of this id, or it is of somebody else: call `wait` again"
    raise MCPError(types.INVALID_PARAMS, text)


def _is_over(wait: _Wait, status: Any) -> bool:
    """Return whether the wait is over; *status* is that of our task."""
    if status is None or status.is_terminal:
        return True
    return wait.until is not None and _now() >= wait.until


def _now() -> int:
    return time.time_ns() // 1_000_000  # noqa: TID251 - of several incarnations and machines


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1_000, UTC)


def has_tasks(context: Any) -> bool:
    """Return whether the client supports tasks, by this very request."""
    has = context.session.client_capabilities
    return has is not None and EXTENSION in (has.extensions or {})


def check_client(context: Any) -> None:
    """
    Refuse a request about tasks of a client that has not said that it knows them.

    Raises:
        MCPError: It has not.
    """
    if has_tasks(context):
        return
    raise MCPError(
        types.MISSING_REQUIRED_CLIENT_CAPABILITY,
        f"the client has not said that it knows {EXTENSION}",
        {"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
    )
