"""
Waivers: a violation that people let pass, for some tasks and for a time.

A request for a waiver is a question, so that the journal, quorums and messages handle
it as any question. Documents put it in force and revoke it; they stay when its question
has left the journal. Only the predicate `Waivers.covers` decides whether a waiver
counts.

Decision: waivers-and-audits.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from fnmatch import translate
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import attrs

from taskorch.core.kernel import moves_of
from taskorch.errors import (
    AnswerRefusedError,
    DuplicateTaskError,
    InvalidTaskError,
    InvalidTransitionError,
    NotRunningError,
    UnknownTaskError,
)
from taskorch.events import (
    CLS,
    TASK_ID,
    Event,
    ExtensionKept,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskSubmitted,
)
from taskorch.kit.checks import check_answerer, check_seconds, is_name
from taskorch.kit.fence import log_of
from taskorch.kit.frozen import frozen
from taskorch.kit.limits import NS
from taskorch.kit.people import SPEAK_FOR, caller, person
from taskorch.kit.plain import plain
from taskorch.kit.verbs import NAME, SECONDS, listed, verb
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import meant
from taskorch.kit.words import stamp
from taskorch.model import (
    ANSWER_TO,
    Answer,
    Question,
    Task,
    TaskState,
)
from taskorch.model.ids import id_of_waiver, stem_of

if TYPE_CHECKING:
    from taskorch.ext.governance._policies import Operation

_LOG: Final = log_of("taskorch.governance")
#: The state of a waiver.
WaiverState: TypeAlias = Literal[
    "asked", "active", "expired", "rejected", "withdrawn", "revoked"
]
STATES: Final[tuple[WaiverState, ...]] = get_args(WaiverState)
#: The type of the questions that ask for waivers.
TYPE: Final = "waiver"
#: The longest pattern, in characters: longer than any id.
_MAX_PATTERN: Final = 500
#: The longest question, in characters.
_MAX_TEXT: Final = 400
_WILD: Final = re.compile(r"[*?\[\]]")
#: The name of the documents that put waivers in force, by their ids, and revoke them.
WAIVERS: Final = "waivers"
_REVOKED: Final = " revoked"
#: The states in which a question ends without an approval, by the event.
_ENDED: Final[Mapping[type, TaskState]] = {
    TaskFailed: TaskState.FAILED,
    TaskCancelled: TaskState.CANCELLED,
}


def _matches(
    pattern: str, types: tuple[str, ...], task_id: str, task_type: str
) -> bool:
    is_id = matcher(pattern)
    return bool(is_id(task_id) or is_id(stem_of(task_id))) and (
        not types or any(matcher(each)(task_type) for each in types)
    )


@frozen
class WaiverRequest(Question):
    """
    A request for a waiver, as the payload of its question.

    No document and no HTTP request can make one: a payload that only looks like it is
    an ordinary question.

    Attributes:
        policy_id: The policy that is waived.
        pattern: A pattern of ids of tasks, as in file names.
        types: Patterns of types of tasks, of which one must match; none: all do.
        expires_ns: Until when it would count, in ns since the epoch.
        reason: Its purpose.
        requested_ns: When it was asked for, in ns since the epoch.
    """

    policy_id: str = ""
    pattern: str = "*"
    types: tuple[str, ...] = ()
    expires_ns: int = 0
    reason: str = ""
    requested_ns: int = 0

    def matches(self, task_id: str, task_type: str) -> bool:
        """Return whether the waiver would be for such a task."""
        return _matches(self.pattern, self.types, task_id, task_type)

    def keeps(self, task_id: str, result: Any, now: int) -> tuple[str, str, Any] | None:
        """See `Question.keeps`: the waiver is in force, until it expires."""
        is_approval = isinstance(result, Answer) and result.choice == "approve"
        if not is_approval or now >= self.expires_ns:
            return None
        scope = {
            "policy_id": self.policy_id,
            "pattern": self.pattern,
            "types": list(self.types),
            "reason": self.reason,
            "requested_by": self.asked_by,
            "approvals": self.quorum,
            "approved_by": list(result.by),
            "requested_ns": self.requested_ns,
            "since_ns": now,
            "expires_ns": self.expires_ns,
        }
        return WAIVERS, task_id, scope


@frozen
class Waiver:
    """
    A waiver, from the request to its end.

    Attributes:
        id: Its id: that of the task that asks.
        policy_id: The policy that is waived, and no other.
        pattern: A pattern of ids of tasks, as in file names: `*` is any text, `?` any
            character. The whole id must match, or that of all its runs.
        types: Patterns of types of tasks, of which one must match; none: all do.
        reason: Its purpose.
        requested_by: Who asks for it, and may not approve it.
        approvals: How many people must approve it.
        requested_at: Since when it is asked for: seconds since the epoch.
        expires: Until when it counts: seconds since the epoch.
        state: `asked`, `active`, `expired`, `rejected`, `withdrawn` or `revoked`.
        approved_by: Who approved it.
        since: Since when it is in force: seconds since the epoch; None: it never was.
        ended_at: When it was rejected, withdrawn or revoked: seconds since the epoch.
        ended_by: Who rejected or revoked it, if that is known.
        ended_for: Why.
    """

    id: str
    policy_id: str
    pattern: str
    types: tuple[str, ...]
    reason: str
    requested_by: str
    approvals: int
    requested_at: float
    expires: float
    state: WaiverState = "asked"
    approved_by: tuple[str, ...] = ()
    since: float | None = None
    ended_at: float | None = None
    ended_by: str = ""
    ended_for: str = ""

    def matches(self, task_id: str, task_type: str) -> bool:
        """Return whether it is for such a task, in whatever state it is."""
        return _matches(self.pattern, self.types, task_id, task_type)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        document: dict[str, Any] = plain(attrs.asdict(self, recurse=False))
        return {**document, "text": str(self)}

    def __str__(self) -> str:
        types = f" of types {', '.join(self.types)}" if self.types else ""
        by = f" by {' and '.join(self.approved_by)}" if self.approved_by else ""
        ended = f" by {self.ended_by}" if self.ended_by else ""
        ended += f": {self.ended_for}" if self.ended_for else ""
        words = {
            "asked": f"asked for by {self.requested_by}",
            "active": f"active{by}",
            "expired": f"expired{f' (approved{by})' if by else ', nobody decided'}",
        }.get(self.state, f"{self.state}{ended}")
        until = f"until {stamp(self.expires)}"
        return f"{self.id}: {self.policy_id} for {self.pattern}{types} {until}; {words}"


def matcher(pattern: str) -> Callable[[str], object]:
    """Return a test whether a whole text matches *pattern*, in linear time."""
    return re.compile(translate(pattern)).match


class _Alike:
    """Waivers in force of one policy with one pattern, as `covers` compares them."""

    __slots__ = ("is_id", "waivers")

    def __init__(self, pattern: str) -> None:
        self.is_id = matcher(pattern)
        #: For each waiver, by its id: until when it counts, and a test of types.
        self.waivers: dict[str, tuple[float, list[Callable[[str], object]]]] = {}


class _Scopes:
    """
    The waivers of one policy that are in force, by the ends of their patterns.

    So only a few of a thousand are compared.
    """

    __slots__ = ("by_ends", "lengths")

    def __init__(self) -> None:
        #: The waivers by the ends of their patterns; then by the pattern.
        self.by_ends: dict[tuple[str, str], dict[str, _Alike]] = {}
        #: The lengths of these ends.
        self.lengths: tuple[tuple[int, int], ...] = ()

    def add(self, waiver: Waiver) -> None:
        """Add *waiver*."""
        # Other threads may compare meanwhile, so that these objects never change.
        ends, pattern = _ends_of(waiver.pattern), waiver.pattern
        patterns = self.by_ends.get(ends, {})
        alike = patterns.get(pattern) or _Alike(pattern)
        one = waiver.expires, [*map(matcher, waiver.types)]
        alike.waivers = {**alike.waivers, waiver.id: one}
        self.by_ends[ends] = {**patterns, pattern: alike}
        self._measure()

    def remove(self, waiver: Waiver) -> None:
        """Remove *waiver*."""
        ends = _ends_of(waiver.pattern)
        patterns = self.by_ends.get(ends, {})
        alike = patterns.get(waiver.pattern)
        if alike is None or waiver.id not in alike.waivers:
            return
        alike.waivers = {
            name: one for name, one in alike.waivers.items() if name != waiver.id
        }
        if not alike.waivers:
            others = {name: one for name, one in patterns.items() if one is not alike}
            self.by_ends[ends] = others
            if not others:
                del self.by_ends[ends]
        self._measure()

    def _measure(self) -> None:
        lengths = ((len(begin), len(end)) for begin, end in self.by_ends)
        self.lengths = tuple(dict.fromkeys(lengths))

    def covering(self, names: Iterable[str], kind: str, at: float) -> str | None:
        """Return the id of the first waiver for a task with one of *names*."""
        for name in names:
            for begin, end in self.lengths:
                patterns = self.by_ends.get(
                    (name[:begin], name[len(name) - end :] if end else "")
                )
                for alike in patterns.values() if patterns else ():
                    if not alike.is_id(name):
                        continue
                    for waiver_id, (expires, types) in alike.waivers.items():
                        if expires > at and (
                            not types or any(is_type(kind) for is_type in types)
                        ):
                            return waiver_id
        return None


def _ends_of(pattern: str) -> tuple[str, str]:
    """Return the fixed beginning and end of texts that match *pattern*."""
    parts = _WILD.split(pattern)
    return (pattern, "") if len(parts) == 1 else (parts[0], parts[-1])


class WaiverBook:
    """
    All waivers of a history, with their present states.

    It is a fold: the same events give the same book, live, after a restart, and when a
    journal is replayed.
    """

    def __init__(self) -> None:
        self._waivers: dict[str, Waiver] = {}
        self._expires_ns: dict[str, int] = {}
        self._scopes: dict[str, _Scopes] = {}
        #: The documents that revoked waivers, by their ids.
        self._revocations: dict[str, Mapping[str, Any]] = {}
        #: The times at which waivers in force expire, the soonest first.
        self._ends: list[tuple[int, str]] = []
        #: The last id that was asked for, and the patterns that match it.
        self._latest_names: tuple[str, tuple[str, ...]] = ("", ("",))

    def __len__(self) -> int:
        return len(self._waivers)

    def __contains__(self, waiver_id: str) -> bool:
        return waiver_id in self._waivers

    def note(self, event: Event, value: Any) -> None:
        """Take in an event, and what the journal keeps beside it."""
        kind = event[CLS]
        if kind is ExtensionKept:
            self.kept(event)
        elif kind is TaskSubmitted:
            request = value.payload if isinstance(value, Task) else None
            if isinstance(request, WaiverRequest):
                self.ask(event[TASK_ID], request)
        elif kind is TaskCompleted and event[TASK_ID] in self._waivers:
            if isinstance(value, Answer) and not self._waivers[event[TASK_ID]].since:
                # If the approval was in time, the event that puts it in force follows.
                since = event.at_ns / NS
                self._change(event[TASK_ID], approved_by=value.by, since=since)
        elif kind in _ENDED and event[TASK_ID] in self._waivers:
            ended: Any = event
            detail = ended.reason if kind is TaskCancelled else ended.message
            self.end(event[TASK_ID], _ENDED[kind], event.at_ns, detail)

    def ask(self, waiver_id: str, request: WaiverRequest) -> None:
        """Take in a request."""
        if waiver_id in self._waivers:
            return
        self._waivers[waiver_id] = Waiver(
            waiver_id,
            request.policy_id,
            request.pattern,
            request.types,
            request.reason,
            request.asked_by or "",
            request.quorum,
            request.requested_ns / NS,
            request.expires_ns / NS,
        )
        self._expires_ns[waiver_id] = request.expires_ns
        if waiver_id in self._revocations:
            self._revoke(waiver_id)

    def kept(self, event: Any) -> bool:
        """
        Take in a document, if it is of waivers.

        Returns:
            Whether it puts a waiver in force, or revokes one.
        """
        if event.extension != WAIVERS or not event.document:
            return False
        self.take_in(event.key, json.loads(event.document))
        return True

    def take_in(self, key: str, document: Any) -> None:
        """
        Take in a document, which puts a waiver in force or revokes one, by its key.

        A document that somebody else has written under our name is left out, with a
        warning.
        """
        try:
            if key.endswith(_REVOKED):
                self._take_in_revocation(key.removesuffix(_REVOKED), document)
            else:
                self._put_in_force(key, document)
        except (LookupError, TypeError, ValueError) as error:
            _LOG.warning("the document %s of waivers is left out: %r", key, error)

    def _take_in_revocation(self, waiver_id: str, document: Any) -> None:
        self._revocations[waiver_id] = {
            "ended_at": document["at_ns"] / NS,
            "ended_by": str(document["by"]),
            "ended_for": str(document["reason"]),
        }
        if waiver_id in self._waivers:
            self._revoke(waiver_id)

    def end(self, waiver_id: str, state: TaskState, at_ns: int, detail: str) -> None:
        """Note that its question has ended without an approval."""
        if self._waivers[waiver_id].state != "asked":
            return
        if state is not TaskState.CANCELLED and at_ns >= self._expires_ns[waiver_id]:
            # The time of its expiry decides its state.
            return
        changes = {"state": "rejected", "ended_for": detail}
        if state is TaskState.CANCELLED:
            changes["state"] = "withdrawn"
        self._change(waiver_id, ended_at=at_ns / NS, **changes)

    def _put_in_force(self, waiver_id: str, value: Mapping[str, Any]) -> None:
        # Its question may have left the journal.
        request = WaiverRequest(
            f"{ANSWER_TO}{TYPE}",
            text=TYPE,
            quorum=value["approvals"],
            asked_by=value["requested_by"],
            policy_id=value["policy_id"],
            pattern=value["pattern"],
            types=tuple(value["types"]),
            expires_ns=value["expires_ns"],
            reason=value["reason"],
            requested_ns=value["requested_ns"],
        )
        self.ask(waiver_id, request)
        self._let_go_expired(value["since_ns"])
        self._change(
            waiver_id,
            state="active",
            approved_by=tuple(value["approved_by"]),
            since=value["since_ns"] / NS,
        )
        waiver = self._waivers[waiver_id]
        self._scopes.setdefault(waiver.policy_id, _Scopes()).add(waiver)
        heappush(self._ends, (self._expires_ns[waiver_id], waiver_id))
        if waiver_id in self._revocations:
            self._revoke(waiver_id)

    def _let_go_expired(self, now_ns: int) -> None:
        """Remove expired waivers from the comparison."""
        while self._ends and self._ends[0][0] <= now_ns:
            waiver = self._waivers[heappop(self._ends)[1]]
            self._scopes[waiver.policy_id].remove(waiver)

    def _revoke(self, waiver_id: str) -> None:
        waiver = self._waivers[waiver_id]
        scopes = self._scopes.get(waiver.policy_id)
        if scopes is not None:
            scopes.remove(waiver)
        self._change(waiver_id, state="revoked", **self._revocations[waiver_id])

    def covers(self, policy_id: str, operation: Operation, at: float) -> str | None:
        """
        Return the id of a waiver that covers *operation*; None: there is none.

        This is the one predicate: expiry, revocation and scope are decided here.

        Args:
            policy_id: The policy that is violated.
            operation: The operation that violates it.
            at: The time in seconds since the epoch, by the clock of the events.
        """
        scopes = self._scopes.get(policy_id)
        if scopes is None:
            return None
        task_id, names = self._latest_names
        if task_id != operation.id:
            # The same operation is tested against one policy after another.
            task_id = operation.id
            names = tuple(dict.fromkeys((task_id, stem_of(task_id))))
            self._latest_names = task_id, names
        return scopes.covering(names, operation.type, at)

    def at(self, waiver_id: str, now_ns: int) -> Waiver:
        """
        A waiver as it is now.

        Raises:
            UnknownTaskError: There is none of this id.
        """
        waiver = self._waivers.get(waiver_id) if is_text(waiver_id) else None
        if waiver is None:
            msg = f"there is no waiver {show(waiver_id)}"
            raise UnknownTaskError(msg, hint="rt.waivers() lists them")
        over = now_ns >= self._expires_ns[waiver_id]
        if over and waiver.state in ("asked", "active"):
            return attrs.evolve(waiver, state="expired")
        return waiver

    def ids(self, state: WaiverState) -> list[str]:
        """Return the ids of waivers in a state, even if they have expired."""
        return [each.id for each in self._waivers.values() if each.state == state]

    def all(self, now_ns: int) -> list[Waiver]:
        """All waivers as they are now, in the order of their requests."""
        every = (self.at(waiver_id, now_ns) for waiver_id in self._waivers)
        return sorted(every, key=lambda one: (one.requested_at, one.id))

    def _change(self, waiver_id: str, **changes: Any) -> None:
        self._waivers[waiver_id] = attrs.evolve(self._waivers[waiver_id], **changes)


class Waivers:
    """
    The methods of a `ConstitutionalRuntime` about waivers.

    They need an orchestrator, whose journal keeps the waivers.
    """

    def __init__(self) -> None:
        self._book = WaiverBook()
        #: The orchestrator with these policies, and its runtime.
        self._orch: Any = None
        self._rt: Any = None

    # -- for the orchestrator ----------------------------------------------------------

    def serve(self, orchestrator: Any) -> None:
        """Let *orchestrator* ask people for waivers."""
        self._orch, self._rt = orchestrator, orchestrator._rt  # noqa: SLF001 - its part

    def hear_waivers(self, items: Iterable[tuple[Event, Any]]) -> bool:
        """
        Under the lock: take in events, each with its cargo.

        Returns:
            Whether a waiver is in force, or revoked, that was not before.
        """
        is_other = False
        for event, _ in items:
            if event[CLS] is ExtensionKept:
                is_other |= self._book.kept(event)
        return is_other

    def restore_waivers(self) -> None:
        """Take in the waivers of earlier incarnations, under the lock."""
        for key, text in self._rt.kernel.kept.get(WAIVERS, {}).items():
            self._book.take_in(key, json.loads(text))
        for row in self._rt.kernel.asked:
            self._know(row)

    def _know(self, row: Any) -> None:
        """Take in the request of *row*, if it has one, under the lock."""
        question = None if row.cargo is None else row.cargo._task.payload  # noqa: SLF001
        if isinstance(question, WaiverRequest):
            self._book.ask(row.id, question)
            if row.state in (TaskState.FAILED, TaskState.CANCELLED):
                state, at_ns, detail = moves_of(row)[-1]
                self._book.end(row.id, state, at_ns, detail)

    def covers(self, policy_id: str, operation: Operation, at: float) -> str | None:
        """See `WaiverBook.covers`."""
        return self._book.covers(policy_id, operation, at)

    @verb(
        "Ask people for a waiver of a policy.",
        "thread",
        "POST /waivers",
        status=202,
        refuses=(422,),
        forms={"expires": SECONDS, "types": listed(NAME)},
        command="waivers request POLICY: ask people for one",
        needs="submit",
    )
    def request_waiver(
        self,
        policy_id: str,
        pattern: str = "*",
        *,
        reason: str,
        requested_by: str,
        expires: float | timedelta | datetime,
        approvals: int = 1,
        types: Iterable[str] | str = (),
        who: Iterable[str] | None = None,
    ) -> Waiver:
        """
        Ask people for a waiver, which lets violations of a policy pass for a time.

        Anybody but *requested_by* may answer. The waiver counts once enough people have
        approved it.

        The question about a task that policies keep from starting closes once waivers
        cover all that was asked; if they cover a part, it stays.

        In a pattern, `*` is any text, `/` too, and `?` is one character; `load` covers
        all its runs, such as `load~2`. Upper and lower case differ. The clock of
        waivers never goes back, and stands still while a machine sleeps. Without a
        journal, waivers end with the process.

        Args:
            policy_id: The policy; it is the only one that is waived.
            pattern: A pattern of ids of tasks, as in file names, such as
                `maintenance/*`: the whole id must match.
            reason: What it is for, in a line.
            requested_by: Who asks. They may not approve it, however they are spelt.
            expires: Seconds or a timedelta from now on, or a datetime with a zone.
            approvals: How many people must approve it.
            types: Patterns of types of tasks, of which one must match; none: all do.
            who: Who may approve it; None: anybody else.

        Raises:
            InvalidTaskError: An argument is not well formed, or there is no such
                policy.
            NotRunningError: No orchestrator has these policies, or it has stopped.
        """
        rt = self._running()
        self._check_policy(policy_id)
        kinds = (types,) if isinstance(types, str) else tuple(types)
        for each in (pattern, *kinds):
            if not is_name(each) or len(each) > _MAX_PATTERN:
                msg = f"a pattern is a text that can be printed, not {show(each)}"
                raise InvalidTaskError(msg, hint="'maintenance/*'")
        if not is_name(reason):
            msg = f"reason: a line that can be printed is needed, not {show(reason)}"
            raise InvalidTaskError(msg)
        now_ns = rt.now()
        expires_ns = _end_of(expires, now_ns)
        _check_name("requested_by", requested_by)
        scope = f"{pattern} of types {', '.join(kinds)}" if kinds else pattern
        until = datetime.fromtimestamp(expires_ns / NS, UTC)
        asked = Task.question(
            _line(f"waive {policy_id} for {scope}, until {stamp(expires_ns / NS)}?"),
            who=who,
            quorum=approvals,
            asked_by=requested_by,
            not_by="requester",
            details={
                "policy": policy_id,
                "pattern": pattern,
                "types": list(kinds),
                "reason": reason,
                "requested_by": requested_by,
                "expires": stamp(expires_ns / NS),
            },
        ).payload
        request = WaiverRequest(
            **{f.name: getattr(asked, f.name) for f in attrs.fields(Question)},
            policy_id=policy_id,
            pattern=pattern,
            types=kinds,
            expires_ns=expires_ns,
            reason=reason,
            requested_ns=now_ns,
        )
        while True:
            name = id_of_waiver(rt.new_id())
            task: Task[Any] = Task(type=TYPE, id=name, payload=request, deadline=until)
            # The task with this id is another request, so that the next number is
            # tried.
            with suppress(DuplicateTaskError):
                return self.waiver(self._orch.submit_task(task).task_id)

    def approve_waiver(self, waiver_id: str, *, by: str, note: str = "") -> Waiver:
        """
        Approve a waiver: once enough people have, it is in force.

        Raises:
            AnswerRefusedError: *by* asks for it, has answered before or may not; or it
                has expired, or was rejected, withdrawn, revoked or approved before.
            UnknownTaskError: There is no such waiver.
            InvalidTaskError: *by* or *note* is not well formed.
        """
        return self._answer(waiver_id, "approve", by, note)

    def reject_waiver(self, waiver_id: str, *, by: str, note: str = "") -> Waiver:
        """
        Reject a requested waiver: one rejection is enough.

        Raises:
            AnswerRefusedError: See `approve_waiver`.
            UnknownTaskError: There is no such waiver.
            InvalidTaskError: *by* or *note* is not well formed.
        """
        return self._answer(waiver_id, "reject", by, note)

    @verb(
        "Revoke a waiver that is in force.",
        "thread",
        "POST /waivers/{waiver_id}/revoke",
        refuses=(404, 409, 422),
        command="waivers revoke WAIVER: end one",
    )
    def revoke_waiver(self, waiver_id: str, *, by: str, reason: str) -> Waiver:
        """
        Revoke a waiver that is in force: it covers nothing from now on.

        Tasks that run because of it go on, unless its policy says `revoked: stop`.

        Args:
            waiver_id: Its id.
            by: Who revokes it.
            reason: Why, in a line.

        Raises:
            InvalidTransitionError: It is not in force.
            UnknownTaskError: There is no such waiver.
            InvalidTaskError: *by* or *reason* is not well formed.
        """
        rt = self._running()
        _check_name("by", by)
        if not is_name(reason):
            msg = f"reason: a line that can be printed is needed, not {show(reason)}"
            raise InvalidTaskError(msg)

        def change(now: int) -> Waiver:
            self._recall_one(waiver_id)
            waiver = self._book.at(waiver_id, now)
            if waiver.state != "active":
                msg = f"{waiver_id} is not in force: it is {waiver.state}"
                hint = f"orch.answer({waiver_id!r}, 'reject', by=…)"
                hint = hint if waiver.state == "asked" else ""
                raise InvalidTransitionError(msg, hint=hint or None, task_id=waiver_id)
            self._end(waiver_id, by, reason, now)
            return self._book.at(waiver_id, now)

        waiver: Waiver = rt.step(change, keep=True)
        self._stop_covered(waiver)
        return waiver

    def _end(self, waiver_id: str, by: str, reason: str, now: int) -> None:
        """Let a waiver end; hold the lock."""
        # Later lists of waivers know the end by this alone.
        key = f"{waiver_id}{_REVOKED}"
        document = {"by": by, "reason": reason, "at_ns": now}
        self._orch.kept(WAIVERS).note(key, document, now)
        self._book.take_in(key, document)

    def end_for_content(self, task_id: str, now: int) -> None:
        """
        Let the waivers end that name one task alone, which has other content now.

        Hold the lock. *task_id* is the run with that content.
        """
        for waiver_id in self._book.ids("active"):
            if self._book.at(waiver_id, now).pattern in (task_id, stem_of(task_id)):
                self._end(waiver_id, "", f"{task_id} has other content", now)

    @verb(
        "All waivers, or those in a state.",
        "thread",
        "GET /waivers",
        gives="waivers",
        refuses=(422,),
        forms={"state": {"enum": [*STATES]}},
        command="waivers list: show those of all policies",
    )
    def waivers(self, state: WaiverState | None = None) -> list[Waiver]:
        """
        All waivers, or those in a state, in the order of their requests.

        Args:
            state: The state.

        Raises:
            InvalidTaskError: There is no such state.
        """
        if state is not None and state not in STATES:
            msg = f"state: one of {', '.join(STATES)} is needed, not {show(state)}"
            raise InvalidTaskError(msg, hint=meant(str(state), STATES) or None)
        rt = self._running()

        def look(now: int) -> list[Waiver]:
            kept = (
                () if rt.committer is None else rt.committer.journal.ids(id_of_waiver())
            )
            asked = self._book.ids("asked")
            self._recall(dict.fromkeys((*kept, *asked, *map(_id_of, rt.kernel.asked))))
            return self._book.all(now)

        every: list[Waiver] = rt.step(look)
        return [each for each in every if state is None or each.state == state]

    def waiver(self, waiver_id: str) -> Waiver:
        """
        One waiver, as it is now.

        Raises:
            UnknownTaskError: There is none of this id.
        """

        def look(now: int) -> Waiver:
            self._recall_one(waiver_id)
            return self._book.at(waiver_id, now)

        waiver: Waiver = self._running().step(look)
        return waiver

    def _recall_one(self, waiver_id: object) -> None:
        self._recall((waiver_id,) if is_text(waiver_id) else ())

    def _recall(self, ids: Iterable[str]) -> None:
        """Take in the known state of these questions, under the lock."""
        rt: Any = self._rt
        journal: Any = getattr(rt.committer, "journal", None)
        missing: list[str] = []
        for waiver_id in ids:
            if waiver_id not in self._book and journal is not None:
                missing.append(waiver_id)
            elif (row := rt.kernel.tasks.get(waiver_id)) is not None:
                self._know(row)
        if missing and journal is not None:
            entries: Iterable[tuple[Event, Any]] = journal.select(missing, sys.maxsize)
            for event, value in entries:
                self._book.note(event, value)

    def _running(self) -> Any:
        """Return the runtime of the orchestrator that has these policies."""
        if self._rt is None:
            msg = "waivers are in the journal of an orchestrator, and there is none"
            hint = "TaskOrchestrator(governance=rt)"
            raise NotRunningError(msg, hint=hint)
        return self._rt

    def _check_policy(self, policy_id: str) -> None:
        """Refuse the id of an unknown policy."""

    def _stop_covered(self, waiver: Waiver) -> None:
        """Stop tasks that run by a revoked *waiver*, if its policy says so."""

    def _answer(self, waiver_id: str, choice: str, by: str, note: str) -> Waiver:
        waiver = self.waiver(waiver_id)
        if waiver.state != "asked":
            msg = f"the answer of {by} to {waiver_id} does not count: it is "
            raise AnswerRefusedError(msg + waiver.state, task_id=waiver_id)
        self._orch.answer(waiver_id, choice, by=by, note=note)
        return self.waiver(waiver_id)


def _check_name(field: str, name: str) -> None:
    """Refuse a text that is no name, or that is not the caller's."""
    check_answerer(field, name)
    who = caller()
    is_other = who is not None and who.name and person(who.name) != person(name)
    if who is not None and is_other and not who.may(SPEAK_FOR):
        msg = f"{field}: {who.name} asks, and may not speak for {name}"
        raise InvalidTaskError(msg)


def _id_of(row: Any) -> str:
    task_id: str = row.id
    return task_id


def _line(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 2]}…?"


def _end_of(expires: float | timedelta | datetime, now_ns: int) -> int:
    """Return *expires* in ns since the epoch."""
    if isinstance(expires, datetime):
        if expires.tzinfo is None:
            msg = f"expires: a datetime needs a zone, {show(expires)} has none"
            raise InvalidTaskError(msg, hint="datetime.now(UTC) + timedelta(hours=1)")
        end_ns = int(expires.timestamp() * 1e6) * 1_000
    else:
        end_ns = now_ns + int(check_seconds("expires", expires, zero=False) * NS)
    if end_ns <= now_ns:
        msg = f"expires: {show(expires)} has passed"
        raise InvalidTaskError(msg)
    return end_ns
