"""
People and programs of a service: their tokens, their roles, and who they are.

A token is kept as a hash, with the name that it proves, what its holder may do, and for
which tenants. It stands in a file that services and `taskorch tokens` share: who
changes it replaces it as a whole, and a service looks at it before each answer.

A role is a word for verbs. Four stand for many, and anybody may make others. What each
route of the service needs stands here, too, in one table: a route that has no line is
for nobody.

Decision: tokens-and-roles.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

import attrs

from taskorch.api.verbs.table import VERBS
from taskorch.errors import InvalidTaskError, TaskorchError
from taskorch.kit.checks import check_answerer, check_exact
from taskorch.kit.fence import log_of
from taskorch.kit.forms import (
    DATE,
    AnyNames,
    DocumentOf,
    Each,
    FaultList,
    Made,
    Maybe,
    Number,
    Text,
    may_be,
    one_of,
)
from taskorch.kit.frozen import document_of
from taskorch.kit.located import NOWHERE, located
from taskorch.kit.people import NAMED_TOKEN, SPEAK_FOR, Caller, caller, person
from taskorch.kit.plain import object_of, refuse_constant
from taskorch.kit.staged import Staged
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant

__all__ = (
    "ROLES",
    "Caller",
    "Identity",
    "ProxyHeader",
    "TokenInfo",
    "Tokens",
    "caller",
    "caller_of",
    "may",
    "role_of",
)

_LOG: Final = log_of(__name__)

# -- what each role may do -------------------------------------------------------------

#: The roles that there are, and what each stands for.
ROLES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "look": frozenset({"look"}),
        "submit": frozenset({"submit", "look"}),
        "operate": frozenset({"operate", "look"}),
        "administer": frozenset({"administer", "operate", "submit", "look", "worker"}),
        "worker": frozenset({"worker"}),
        SPEAK_FOR: frozenset({SPEAK_FOR}),
    }
)
#: Whoever was let in may ask it.
EVERYBODY: Final = "everybody"


def _all(role: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), role)


#: The role that each route of the service needs, beside those of verbs.
_OTHERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **_all(
            "look",
            "tasks result events follow_events metrics verbs resources alerts "
            "agent_instances schedule_status workflow_report board timeline picture "
            "nights runs run earlier_runs preview artifacts artifact plan_schemas "
            "status progress final_report",
        ),
        **_all(
            "submit",
            "submit_task submit_tasks start_workflow simulate make_plan validate_plan "
            "optimize_plan estimate_plan start_plan",
        ),
        **_all("operate", "edit_schedule command execute_suite"),
        **_all(
            "worker",
            "agent_hello agent_claim agent_heartbeat agent_complete agent_artifact "
            "agent_leave",
        ),
        **_all(
            "administer",
            "tokens make_token revoke_token rotate_token change_token make_role",
        ),
        **_all(EVERYBODY, "me login logout"),
    }
)
#: Whoever may do one of these may do all in the end.
_OF_TOKENS: Final = frozenset(
    {"make_token", "revoke_token", "rotate_token", "change_token", "make_role"}
)
_OF_VERBS: Final = {
    verb.operation: verb.role for verb in VERBS.values() if verb.request
}


def role_of(operation: str) -> str:
    """The role that an operation of the service needs; "": it is for nobody."""
    return _OF_VERBS.get(operation) or _OTHERS.get(operation, "")


def may(who: Caller, operation: str, role: str = "") -> bool:
    """
    Whether *who* may do an operation of the service, for some tenant at least.

    Args:
        who: The caller.
        operation: Its name.
        role: The role that it needs; "": as the table of the service has it.
    """
    role = role or role_of(operation)
    return bool(role) and (role == EVERYBODY or who.may(role, operation))


#: Whoever has the one plain token: they may do all, and under any name.
PLAIN: Final = Caller("", frozenset({"administer", SPEAK_FOR}), kind="program")


def caller_of(
    name: str,
    roles: Iterable[str],
    *,
    tenants: Iterable[str] | None = None,
    kind: str = "person",
    own: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Caller:
    """
    Return the caller of this name, with all that its *roles* permit.

    Args:
        name: The name.
        roles: Roles that there are, or *own* ones; others give nothing.
        tenants: The tenants that the caller is bound to; None: no tenants.
        kind: `person` or `program`.
        own: Roles of one's own: what each stands for.
    """
    names = frozenset(roles)
    bound = None if tenants is None else frozenset(tenants)
    return Caller(name, names, bound, kind, _grants(names, own))


def _grants(roles: Iterable[str], own: Mapping[str, Collection[str]]) -> frozenset[str]:
    grants: set[str] = set()
    for role in roles:
        parts = ROLES.get(role) or own.get(role, ())
        for part in parts:
            grants |= ROLES.get(part, {part})
    return frozenset(grants)


# -- another way to know who asks ------------------------------------------------------


class Identity(Protocol):
    """Another way to know who asks than a token."""

    def identify(
        self, headers: Sequence[tuple[str, str]], address: str
    ) -> Caller | None:
        """
        Return the sender of a request; None: the request names nobody.

        Args:
            headers: The headers of the request, with names in small letters.
            address: Where its connection comes from.

        Raises:
            PermissionError: It says what it may not say; it is refused.
        """
        ...


class ProxyHeader:
    """
    The name that a proxy has checked, and writes into a header.

    Args:
        header: The name of the header, such as `X-Forwarded-User`. The proxy must
            remove one that comes from outside.
        proxies: The addresses of proxies. From others, a request with this header is
            refused.
        people: Who has a name: mostly by `caller_of`. None: that name may not ask.

    Raises:
        InvalidTaskError: *proxies* are no addresses.
    """

    def __init__(
        self,
        header: str,
        *,
        proxies: Collection[str],
        people: Callable[[str], Caller | None],
    ) -> None:
        if isinstance(proxies, str) or not proxies:
            msg = f"proxies is a collection of addresses, not {show(proxies)}"
            raise InvalidTaskError(msg, hint="proxies=['127.0.0.1']")
        self._header = header.lower()
        self._proxies = frozenset(proxies)
        self._people = people

    def identify(
        self, headers: Sequence[tuple[str, str]], address: str
    ) -> Caller | None:
        """Return the caller that the header names: see `Identity`."""
        # A server may take an underscore for a hyphen, and a proxy may let it through.
        header = self._header.replace("_", "-")
        values = [value for name, value in headers if name.replace("_", "-") == header]
        if not values:
            return None
        if address not in self._proxies:
            msg = f"only a proxy may send {self._header}"
            raise PermissionError(msg)
        if len(values) > 1:
            msg = f"{self._header} is there twice"
            raise PermissionError(msg)
        try:
            who = self._people(check_answerer(self._header, values[0]))
        except InvalidTaskError:
            who = None
        if who is None:
            msg = "nobody of this name may ask here"
            raise PermissionError(msg)
        return who


# -- tokens in a file ------------------------------------------------------------------

_VERSION: Final = 1
#: Seconds for which the token of before is one, after a new one was made.
GRACE: Final = 86_400.0
#: Nanoseconds after which a file that is changed again has another time.
_SETTLED_NS: Final = 100_000_000
_KINDS: Final = ("person", "program")
_LONGEST: Final = 200


def _version(number: int) -> int:
    if number != _VERSION:
        msg = f"it is of version {number}, and {_VERSION} is read here"
        raise InvalidTaskError(msg)
    return number


def _time(text: str) -> datetime:
    if DATE.fullmatch(text) is None:
        msg = f"a date as in 2030-01-31T12:00:00+00:00 is needed, not {show(text)}"
        raise InvalidTaskError(msg)
    return datetime.fromisoformat(text)


def _digits(count: int) -> Text:
    """Return a form for *count* hexadecimal digits; its messages hide the value."""

    def check(text: str) -> str:
        if re.fullmatch(f"[0-9a-f]{{{count}}}", text) is None:
            msg = f"{count} hexadecimal digits are needed"
            raise InvalidTaskError(msg)
        return text

    return Text(is_secret=True, check=check)


_TIME: Final = Text(check=_time, needs="a date")
#: A name: which it may be, others say.
_WORD: Final = Text(is_blank=True)
_WORDS: Final = Each(_WORD, 1, "a list of at least one name")


@attrs.frozen
class TokenInfo:
    """
    Data on a token, without its secret.

    Attributes:
        id: Its id, which is no secret.
        name: The name that it proves.
        kind: `person` or `program`.
        roles: The roles of its holder.
        tenants: The tenants that they are bound to; None: none.
        made: When it was made.
        expires: When it ends; None: never.
        used: When this process was last asked with it; None: not yet.
    """

    id: str = attrs.field(metadata=may_be(_digits(12)))
    name: str = attrs.field(metadata=may_be(_WORD))
    kind: str = attrs.field(metadata=may_be(one_of(*_KINDS)))
    roles: tuple[str, ...] = attrs.field(metadata=may_be(_WORDS))
    tenants: tuple[str, ...] | None = attrs.field(metadata=may_be(Maybe(Each(_WORD))))
    made: datetime = attrs.field(metadata=may_be(_TIME))
    expires: datetime | None = attrs.field(
        default=None, metadata=may_be(Maybe(_TIME), is_needed=True)
    )
    used: datetime | None = None
    _digest: str = attrs.field(
        default="",
        alias="digest",
        repr=False,
        eq=False,
        metadata=may_be(_digits(64), name="hash", is_needed=True),
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the data as JSON has them, without the hash."""
        return document_of(self)

    def _kept(self) -> dict[str, Any]:
        fields = self.to_dict()
        del fields["used"]
        return {**fields, "hash": self._digest}


def _token(**fields: Any) -> TokenInfo:
    tenants, digest = fields.pop("tenants"), fields.pop("_digest")
    bound = None if tenants is None else tuple(dict.fromkeys(tenants))
    roles = tuple(dict.fromkeys(fields.pop("roles")))
    return TokenInfo(**fields, roles=roles, tenants=bound, digest=digest)


@attrs.frozen
class _Kept:
    """The contents of the file of tokens."""

    tokens: tuple[TokenInfo, ...] = attrs.field(
        default=(), metadata=may_be(Each(DocumentOf(TokenInfo, _token)), is_needed=True)
    )
    roles: Mapping[str, tuple[str, ...]] = attrs.field(
        factory=dict, metadata=may_be(AnyNames(_WORDS, plain=True), is_needed=True)
    )
    version: int = attrs.field(
        default=_VERSION,
        metadata=may_be(Made(Number(is_whole=True), _version), is_needed=True),
    )

    def text(self) -> str:
        document = {
            "version": self.version,
            "roles": {name: list(parts) for name, parts in self.roles.items()},
            "tokens": [each._kept() for each in self.tokens],  # noqa: SLF001 - of this file
        }
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def of(cls, text: str) -> _Kept:
        """
        Read the contents of the file from *text*.

        Raises:
            ValueError: It means nothing; all that is wrong is named.
        """
        document = json.loads(
            text, parse_constant=refuse_constant, object_pairs_hook=object_of
        )
        faults = FaultList()
        read = DocumentOf(_Kept).read(located(document), "", faults)
        faults.refuse()
        own: dict[str, tuple[str, ...]] = {}
        for name, grants in read.get("roles").items():
            own[name] = tuple(dict.fromkeys(grants))
            with _noted(faults, f"the role {name!r}"):
                _check_role(name)
                _check_grants(grants)
        tokens: tuple[TokenInfo, ...] = tuple(read.get("tokens"))
        ids = Counter(each.id for each in tokens)
        for each in tokens:
            whose = f"the token of {each.name!r}"
            with _noted(faults, whose):
                _check_name(each.name)
                _check_roles(each.roles, own)
                _names("tenants", each.tenants or ())
            if ids[each.id] > 1:
                faults.add(NOWHERE, f"its id {each.id} is that of another, too", whose)
        faults.refuse()
        return cls(tokens, own)


@contextmanager
def _noted(faults: FaultList, path: str) -> Iterator[None]:
    """Note each error in the block as a fault at *path*."""
    try:
        yield
    except InvalidTaskError as error:
        faults.raised(error, NOWHERE, path)


class Tokens:
    """
    Named tokens, each with the roles of its holder, in a file.

    Several services and commands may use one file at once. A change counts for all of
    them from their next answer on, and open streams of whom it concerns end soon.

    A hash is the SHA-256 of 256 random bits. The file has the mode 0600, is written as
    a whole, and works with every journal and without one. You may edit it by hand;
    while it is damaged or others may write it, nobody is let in. A token that has ended
    stays so when the clock is set back. `used` of a token is when the service was last
    asked with it, since the service started. A role of your own is removed once no
    token has it.

    Args:
        path: The file. It is made with the first token, for its owner alone; hashes
            are in it, and no token.

    Raises:
        InvalidTaskError: The file is damaged, or others may write it.
        OSError: It cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._mark: tuple[int, ...] | None = None
        self._kept = _Kept()
        self._by_id: Mapping[str, TokenInfo] = {}
        self._used: dict[str, datetime] = {}
        #: The latest time that was seen: a clock that is set back brings nothing back.
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._load()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    # -- asking --------------------------------------------------------------------

    def find(self, token: str) -> tuple[str, Caller] | None:
        """The id of a token and who has it; None: it is none, or none any more."""
        prefix, _, rest = token.partition("_")
        name, _, _ = rest.partition("_")
        info = self._info(name) if prefix == NAMED_TOKEN else None
        # Whether there is such an id is no secret; what is compared takes one time.
        kept = "0" * 64 if info is None else info._digest  # noqa: SLF001 - of this file
        is_right = hmac.compare_digest(_digest_of(token), kept)
        if info is None or not is_right:
            return None
        who = self._caller(info)
        if who is not None:
            self._used[info.id] = self._now()
        return None if who is None else (info.id, who)

    def caller(self, token_id: str) -> Caller | None:
        """Return the holder of the token with this id; None: the token has ended."""
        info = self._info(token_id)
        return None if info is None else self._caller(info)

    def list(self) -> list[TokenInfo]:
        """The tokens, the first made first; those that have expired, too."""
        self._look()
        return [
            attrs.evolve(each, used=self._used.get(each.id))
            for each in self._kept.tokens
        ]

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """Roles of one's own: what each stands for."""
        self._look()
        return dict(self._kept.roles)

    def _info(self, token_id: str) -> TokenInfo | None:
        self._look()
        return self._by_id.get(token_id)

    def _caller(self, info: TokenInfo) -> Caller | None:
        if info.expires is not None and info.expires <= self._now():
            return None
        return caller_of(
            info.name,
            info.roles,
            tenants=info.tenants,
            kind=info.kind,
            own=self._kept.roles,
        )

    def _now(self) -> datetime:
        now = datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 - of other processes
        self._latest = max(self._latest, now)
        return self._latest

    def _look(self) -> None:
        """Read the file anew if it is another; of one that is damaged, all are gone."""
        try:
            self._load()
        except (InvalidTaskError, OSError) as error:
            _LOG.error("%s: nobody is let in: %s", self._path, error)
            self._kept, self._by_id = _Kept(), {}

    def _load(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._kept, self._by_id, self._mark = _Kept(), {}, None
            return
        mark = status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode
        with self._lock:
            if mark == self._mark:
                return
            # One that was changed just now may be changed again at the same moment.
            age = time.time_ns() - status.st_mtime_ns  # noqa: TID251 - as files have it
            self._mark = mark if age > _SETTLED_NS else None
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                msg = f"{self._path}: others than its owner may write it"
                raise InvalidTaskError(msg, hint=f"chmod 600 {self._path}")
            try:
                kept = _Kept.of(self._path.read_text("utf-8"))
            except (ValueError, RecursionError) as error:
                why = error.message if isinstance(error, TaskorchError) else str(error)
                msg = f"{self._path} is no file of tokens: {why}"
                hint = "mend it, or restore it from a copy"
                raise InvalidTaskError(msg, hint=hint) from None
            self._kept = kept
            self._by_id = {each.id: each for each in kept.tokens}

    # -- changing ------------------------------------------------------------------

    def add(
        self,
        name: str,
        roles: Iterable[str],
        *,
        tenants: Iterable[str] | None = None,
        kind: str = "person",
        lasts: float | timedelta | None = None,
    ) -> str:
        """
        Make a token for somebody who has none; it is told here, and never again.

        Args:
            name: The name that it proves.
            roles: The roles of its holder.
            tenants: The tenants that they are bound to: they see and touch nothing
                else. None: they are bound to none.
            kind: `person` or `program`.
            lasts: Seconds for which it is one; None: for ever.

        Raises:
            InvalidTaskError: Somebody has this name already, in whatever spelling; or
                an argument is not well formed.
        """
        _check_name(name)
        if kind not in _KINDS:
            msg = f"kind: {' or '.join(_KINDS)} is needed, not {show(kind)}"
            raise InvalidTaskError(msg)
        bound = None if tenants is None else _names("tenants", tenants)
        with self._changing() as kept:
            now = self._now()
            same = [each for each in kept.tokens if person(each.name) == person(name)]
            living = [each for each in same if _lives(each, now)]
            if living:
                msg = f"{living[0].name} has a token already"
                hint = "rotate it, or revoke it before"
                raise InvalidTaskError(msg, hint=hint)
            wanted = _check_roles(roles, kept.roles)
            token, info = self._made(name, kind, wanted, bound, lasts)
            others = tuple(each for each in kept.tokens if each not in same)
            self._write(attrs.evolve(kept, tokens=(*others, info)))
        return token

    def rotate(
        self, name: str, *, grace: float = GRACE, lasts: float | timedelta | None = None
    ) -> str:
        """
        Make a new token for somebody; the one of before ends after *grace* seconds.

        Args:
            name: The name of the holder.
            grace: Seconds for which both are valid.
            lasts: Seconds for which the new one is; None: for ever.

        Raises:
            InvalidTaskError: They have none.
        """
        with self._changing() as kept:
            now = self._now()
            same = [each for each in kept.tokens if person(each.name) == person(name)]
            living = [each for each in same if _lives(each, now)]
            if not living:
                raise _unknown(name, kept)
            old = living[-1]
            token, info = self._made(old.name, old.kind, old.roles, old.tenants, lasts)
            end = now + timedelta(seconds=max(0.0, float(grace)))
            ends = [each for each in (old.expires, end) if each is not None]
            others = tuple(each for each in kept.tokens if each not in same)
            last = attrs.evolve(old, expires=min(ends))
            self._write(attrs.evolve(kept, tokens=(*others, last, info)))
        return token

    def check_known(self, which: str) -> None:
        """
        Refuse what is neither the id of a token nor a name that has one.

        Raises:
            InvalidTaskError: It is neither.
        """
        self._look()
        _meant(which, self._kept)

    def revoke(self, which: str) -> int:
        """
        End tokens at once: the one of an id, or all of a name; how many.

        Raises:
            InvalidTaskError: There is none.
        """
        with self._changing() as kept:
            meant_ids = _meant(which, kept)
            rest = tuple(each for each in kept.tokens if each.id not in meant_ids)
            self._write(attrs.evolve(kept, tokens=rest))
        return len(meant_ids)

    def change(
        self,
        which: str,
        roles: Iterable[str] | None = None,
        *,
        tenants: Iterable[str] | None = None,
    ) -> int:
        """
        Give tokens other roles or tenants: that of an id, or all of a name; how many.

        A value of None changes nothing. To unbind somebody, make them a new token.

        Raises:
            InvalidTaskError: There is none, or an argument is not well formed.
        """
        bound = None if tenants is None else _names("tenants", tenants)
        with self._changing() as kept:
            meant_ids = _meant(which, kept)
            changes: dict[str, Any] = {}
            if roles is not None:
                changes["roles"] = _check_roles(roles, kept.roles)
            if bound is not None:
                changes["tenants"] = bound
            changed = tuple(
                attrs.evolve(each, **changes) if each.id in meant_ids else each
                for each in kept.tokens
            )
            self._write(attrs.evolve(kept, tokens=changed))
        return len(meant_ids)

    def set_role(self, name: str, grants: Iterable[str]) -> None:
        """
        Make a role of one's own, or change it; without *grants* it is removed.

        Args:
            name: Its name.
            grants: What it stands for: names of verbs, such as `rerun_task`, and roles
                that there are.

        Raises:
            InvalidTaskError: There is no such verb; the name is that of a role that
                is always there; or what is to be removed is not there, or some tokens
                have it still.
        """
        _check_role(name)
        wanted = _names("grants", grants)
        _check_grants(wanted)
        with self._changing() as kept:
            roles = {**kept.roles, name: wanted}
            if not wanted:
                _check_removable(name, kept)
                del roles[name]
            self._write(attrs.evolve(kept, roles=roles))

    def _made(
        self,
        name: str,
        kind: str,
        roles: tuple[str, ...],
        tenants: tuple[str, ...] | None,
        lasts: float | timedelta | None,
    ) -> tuple[str, TokenInfo]:
        token_id = secrets.token_hex(6)
        token = f"{NAMED_TOKEN}_{token_id}_{secrets.token_urlsafe(32)}"
        now = self._now()
        end = None
        if lasts is not None:
            end = now + (
                lasts if isinstance(lasts, timedelta) else timedelta(seconds=lasts)
            )
            if end <= now:
                msg = f"lasts: a time above 0 is needed, not {show(lasts)}"
                raise InvalidTaskError(msg)
        digest = _digest_of(token)
        info = TokenInfo(token_id, name, kind, roles, tenants, now, end, digest=digest)
        return token, info

    @contextmanager
    def _changing(self) -> Iterator[_Kept]:
        """Yield the contents of the file, which nobody else changes meanwhile."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
        file = os.open(f"{self._path}.lock", flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._mark = None
            self._load()
            yield self._kept
        finally:
            os.close(file)

    def _write(self, kept: _Kept) -> None:
        Staged(self._path, kept.text(), 0o600).commit()
        self._load()


def _digest_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _lives(info: TokenInfo, now: datetime) -> bool:
    return info.expires is None or info.expires > now


def _meant(which: str, kept: _Kept) -> frozenset[str]:
    """Ids of the tokens that *which* means: an id, or a name."""
    ids = frozenset(
        each.id
        for each in kept.tokens
        if which == each.id or person(which) == person(each.name)
    )
    if not ids:
        raise _unknown(which, kept)
    return ids


def _unknown(which: str, kept: _Kept) -> InvalidTaskError:
    names = sorted({each.name for each in kept.tokens})
    # It may be a token, which nobody is to read in a log.
    if which.startswith(f"{NAMED_TOKEN}_"):
        msg = "a token is revoked by its id, or by a name, and not by itself"
    else:
        msg = f"nobody has a token by {show(which)}"
    return InvalidTaskError(msg, hint=meant(which, names) or None)


def _check_name(name: str) -> None:
    untyped: object = name
    if isinstance(untyped, str) and untyped.startswith(f"{NAMED_TOKEN}_"):
        msg = "name: a token is no name"
        raise InvalidTaskError(msg)
    check_answerer("name", untyped)


def _names(field: str, names: Iterable[str]) -> tuple[str, ...]:
    listed: list[object] = [] if isinstance(names, str) else [*names]
    texts = tuple(dict.fromkeys(str(each) for each in listed))
    is_right = all(
        isinstance(each, str) and 0 < len(each) <= _LONGEST and each.isprintable()
        for each in listed
    )
    if isinstance(names, str) or not is_right:
        msg = f"{field}: a collection of names is needed, not {show(names)}"
        raise InvalidTaskError(msg)
    for each in texts:
        check_exact(field, each, "name each; a holder without tenants is bound to none")
    return texts


def _check_roles(
    roles: Iterable[str], own: Mapping[str, Collection[str]]
) -> tuple[str, ...]:
    wanted = _names("roles", roles)
    names = [*ROLES, *own]
    for role in wanted:
        if role not in names:
            msg = f"there is no role {role!r}"
            raise InvalidTaskError(msg, hint=meant(role, names, ", ".join(names)))
    if not wanted:
        msg = "roles: at least one is needed"
        raise InvalidTaskError(msg, hint=", ".join(names))
    return wanted


def _check_role(name: str) -> None:
    """Refuse what is no name for a role of one's own."""
    _check_name(name)
    if name in ROLES or name == EVERYBODY or role_of(name):
        msg = f"{name!r} has a meaning already"
        raise InvalidTaskError(msg, hint="take another name")


def _check_grants(grants: Iterable[str]) -> None:
    """Refuse what a role of one's own cannot stand for."""
    grantable = [*ROLES, *_OF_VERBS, *_OTHERS]
    for grant in grants:
        if grant in _OF_TOKENS:
            msg = f"{grant}: whoever may do that may do all"
            raise InvalidTaskError(msg, hint="give them the role administer")
        if grant not in grantable:
            msg = f"there is no verb {grant!r}"
            hint = meant(grant, grantable) or "GET /api/v1/verbs lists most of them"
            raise InvalidTaskError(msg, hint=hint)


def _check_removable(name: str, kept: _Kept) -> None:
    if name not in kept.roles:
        msg = f"there is no role {name!r} of your own"
        hint = meant(name, kept.roles, ", ".join(kept.roles) or "there is none")
        raise InvalidTaskError(msg, hint=hint)
    holders = sorted({each.name for each in kept.tokens if name in each.roles})
    if holders:
        msg = f"tokens have the role {name!r} still: {', '.join(holders)}"
        hint = f"taskorch tokens FILE change {holders[0]} --role ROLE, or revoke it"
        raise InvalidTaskError(msg, hint=hint)
