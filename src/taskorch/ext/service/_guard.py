"""
The check of callers, before anything else, for every path and every method.

A page that somebody has open in a browser can send requests to this machine. So the
name by which the service was called must be one of its own (a page can give its own
name this machine's address), what another site's page sends is refused, and whoever
has not the token is told nothing.

What stands in an address is kept by a browser: in its history, among the sites that it
shows first, in the files of its sessions. So a link to the page has a code there, which
works once. For it, or for a token, the browser gets a cookie that no script can read.

Decision: tokens-and-roles.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from ipaddress import ip_address
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from taskorch.core.engine import LOOKS
from taskorch.errors import InvalidTaskError
from taskorch.ext.channel import is_framed
from taskorch.ext.people import PLAIN, Identity, Tokens
from taskorch.ext.service._bodies import MAX_BODY, WHO, HttpProblem, too_long
from taskorch.ext.service._server import KNOWN
from taskorch.kit.fence import log_of
from taskorch.kit.visible import as_text, counted, is_text, show, visible

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from taskorch.kit.people import Caller

#: At most so many unused codes are kept, the oldest go first; and a hundred times as
#: many ended sessions.
_MOST: Final = 1_000
#: The seconds for which a session lasts.
_VALID: Final = 7 * 86_400
#: The seconds between two checks whether the reader of a stream may still read it.
_LOOKS: Final = 0.5


def cookie_name(headers: Headers) -> str:
    """The name of the cookie of a service; cookies do not know ports."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"taskorch-{port if port.isdecimal() else ''}"


class Doors:
    """
    The ways in: the one token, named tokens, a session, or the word of a proxy.

    A session stands in a cookie of a browser. That of the one token goes on in the next
    life of the service, as it is made of it; others end with the service.

    Raises:
        InvalidTaskError: The token is none.
    """

    def __init__(
        self,
        token: str | None,
        tokens: Tokens | None = None,
        identity: Identity | None = None,
    ) -> None:
        self._token = check_token(token)
        self._tokens = tokens
        self._identity = identity
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._codes: dict[str, None] = {}
        self._ended: dict[str, None] = {}

    @property
    def tokens(self) -> Tokens | None:
        """The named tokens."""
        return self._tokens

    @property
    def is_open(self) -> bool:
        """True if anybody may do anything."""
        return (self._token, self._tokens, self._identity) == (None, None, None)

    # -- callers -------------------------------------------------------------------

    def who(self, scope: Scope, headers: Headers) -> Caller | None:
        """
        Return the sender of a request; None: nobody who may ask.

        Raises:
            HttpProblem: It says what it may not say.
        """
        if self.is_open:
            return PLAIN
        if self._identity is not None:
            address = str((scope.get("client") or ("",))[0])
            pairs = [(name.lower(), value) for name, value in headers.items()]
            try:
                identified = self._identity.identify(pairs, address)
            except PermissionError as error:
                raise HttpProblem(403, "not_identified", str(error)) from None
            if identified is not None:
                return identified
        sent = headers.getlist("authorization")
        if sent:
            kind, _, token = (sent[0] if len(sent) == 1 else "").partition(" ")
            return self._who_has(token.strip()) if kind.lower() == "bearer" else None
        return self._in_session(scope["method"], headers)

    def _who_has(self, token: str) -> Caller | None:
        if self._token is not None and hmac.compare_digest(token.encode(), self._token):
            return PLAIN
        named = None if self._tokens is None else self._tokens.find(token)
        return None if named is None else named[1]

    def _in_session(self, method: str, headers: Headers) -> Caller | None:
        session = self._session_of(headers)
        if not session:
            return None
        # A browser names the origin of a request that changes something, and the origin
        # has been compared already.
        says = "origin" in headers or headers.get("sec-fetch-site") == "same-origin"
        if method not in ("GET", "HEAD") and not says:
            raise HttpProblem(
                *(403, "foreign_origin", "a cookie alone changes nothing"),
                hint="send the token: Authorization: Bearer …",
            )
        begun, holder, _, mark = ([*session.split("."), "", "", ""])[:4]
        right = self._mark(session.rpartition(".")[0], holder)
        if right is None or not hmac.compare_digest(
            mark.encode("utf-8", "replace"), right.encode()
        ):
            return None
        # The session is one of ours, so that it has a time.
        if session in self._ended or _now() - int(begun, 16) > _VALID:
            return None
        if not holder:
            return PLAIN
        return None if self._tokens is None else self._tokens.caller(holder)

    # -- sessions ------------------------------------------------------------------

    def new_code(self) -> str:
        """A code that works once, for a session of the one token."""
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._codes[code] = None
            while len(self._codes) > _MOST:
                del self._codes[next(iter(self._codes))]
        return code

    def use_code(self, code: str, headers: Headers) -> str | None:
        """The cookie that begins a session for a code; None: it is none."""
        with self._lock:
            if code not in self._codes:
                return None
            del self._codes[code]
        return self._begin("", headers)

    def begin(self, headers: Headers) -> str | None:
        """The cookie that begins a session for a token; None: it has no token."""
        token = headers.get("authorization", "").partition(" ")[2].strip()
        if self._token is not None and hmac.compare_digest(token.encode(), self._token):
            return self._begin("", headers)
        named = None if self._tokens is None else self._tokens.find(token)
        return None if named is None else self._begin(named[0], headers)

    def end(self, headers: Headers) -> str:
        """The cookie that ends the session of a request."""
        session = self._session_of(headers)
        with self._lock:
            if session:
                self._ended[session] = None
            while len(self._ended) > _MOST * 100:
                del self._ended[next(iter(self._ended))]
        return _cookie(headers, "", "; Max-Age=0")

    def _begin(self, holder: str, headers: Headers) -> str:
        begun = f"{_now():x}.{holder}.{secrets.token_hex(16)}"
        return _cookie(headers, f"{begun}.{self._mark(begun, holder)}")

    def _mark(self, begun: str, holder: str) -> str | None:
        secret = self._secret if holder else self._token
        if secret is None:
            return None
        text = f"session {begun}".encode("utf-8", "replace")
        return hmac.new(secret, text, hashlib.sha256).hexdigest()

    @staticmethod
    def _session_of(headers: Headers) -> str:
        name = cookie_name(headers)
        parts = [p.partition("=") for p in headers.get("cookie", "").split(";")]
        values = [value.strip() for key, _, value in parts if key.strip() == name]
        # Two such cookies have two makers, and one of them is not us.
        return values[0] if len(values) == 1 else ""


def _cookie(headers: Headers, value: str, more: str = "") -> str:
    # Only the browser knows whether a proxy has removed the TLS.
    is_secure = headers.get("origin", "").startswith("https://")
    secure = "; Secure" if is_secure else ""
    text = f"{cookie_name(headers)}={value}; Path=/; HttpOnly; SameSite=Strict"
    return f"{text}{secure}{more}"


def _now() -> int:
    return int(time.time())  # noqa: TID251 - of several incarnations, and nothing waits for it


_LOG: Final = log_of(__name__)
#: The names of this machine for itself.
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
#: The allowed requests a second with the token, and from an address without it; as many
#: at once.
_WITH_TOKEN: Final = 2_000.0
_WITHOUT: Final = 20.0
#: The number of addresses whose attempts are counted.
_ADDRESSES: Final = 1_000
#: The number of refusals that the log has at once; after these, one a second.
_TOLD: Final = 20.0
_LEAST_TOKEN: Final = 16
#: Headers of every answer that sets no others: no cache keeps it, no frame shows it,
#: and browsers do not guess its type.
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def new_token() -> str:
    """Return a new token of 256 random bits."""
    return secrets.token_urlsafe(32)


def check_token(token: str | None) -> bytes | None:
    """
    Return *token* as bytes; None stays None.

    Raises:
        InvalidTaskError: It is no text, too short, or cannot stand in a header.
    """
    if token is None:
        return None
    untyped: object = token
    if (
        not is_text(untyped)
        or len(untyped) < _LEAST_TOKEN
        or not all("!" <= letter <= "~" for letter in untyped)
    ):
        # The token is not shown, because it may be nearly right.
        msg = (
            f"a token is a text of {_LEAST_TOKEN} characters or more, of ASCII and "
            "without spaces"
        )
        raise InvalidTaskError(msg, hint="new_token() makes one")
    return untyped.encode()


def check_hosts(hosts: Iterable[str]) -> frozenset[str]:
    """
    Return *hosts* in small letters.

    Raises:
        InvalidTaskError: They are no names.
    """
    untyped: object = hosts
    if not isinstance(untyped, str) and isinstance(untyped, Iterable):
        names: list[object] = list(untyped)
        if all(map(is_text, names)):
            return frozenset(as_text(name).lower() for name in names)
    msg = f"hosts is a collection of names, not {show(untyped)}"
    raise InvalidTaskError(msg, hint="hosts=['orders.example.org']")


def names_at(address: str, hosts: Iterable[str] = ()) -> list[str]:
    """
    The names by which a service at an *address* of this machine is called.

    Args:
        address: Where it listens.
        hosts: More names; where it listens on all addresses, these alone say how
            others call it.
    """
    is_unspecified = False
    with suppress(ValueError):
        is_unspecified = ip_address(address).is_unspecified
    at = [] if is_unspecified else [address]
    return [*dict.fromkeys([*LOOPBACK, *at, *check_hosts(hosts)])]


def host_of(url: str) -> str:
    """
    The name in an address of a service.

    Raises:
        InvalidTaskError: It is none.
    """
    untyped: object = url
    with suppress(ValueError):
        parts = urlsplit(untyped) if isinstance(untyped, str) else urlsplit("")
        if parts.scheme in ("http", "https") and parts.hostname and not parts.fragment:
            return parts.hostname
    msg = f"url: {show(untyped)} is no address of a dashboard"
    raise InvalidTaskError(msg, hint="https://orders.example.org")


class _Bucket:
    """A token bucket: requests per second, and at once."""

    __slots__ = ("left", "most", "rate", "since")

    def __init__(self, rate: float, most: float) -> None:
        self.rate: float = rate
        self.most: float = most
        self.left: float = most
        self.since: float = monotonic()

    def take(self) -> bool:
        now = monotonic()
        self.left = min(self.most, self.left + (now - self.since) * self.rate)
        self.since = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class RequestGuard:
    """The outermost layer of the app; *hosts* are names in small letters."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        doors: Doors,
        hosts: Collection[str],
        opened: Collection[str],
        streams: Collection[str] = (),
    ) -> None:
        self._app = app
        self._doors = doors
        #: Paths with answers in streams, for all methods.
        self._streams = streams
        #: Paths that need no token, and reveal nothing.
        self._opened = opened
        self._hosts = hosts
        self._known = _Bucket(_WITH_TOKEN, _WITH_TOKEN)
        self._unknown: OrderedDict[str, _Bucket] = OrderedDict()
        self._told = _Bucket(1.0, _TOLD)
        #: The refusals that were not logged.
        self._untold = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and pass it to the app."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            msg = f"there is no {scope['type']} here"
            raise RuntimeError(msg)

        is_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                headers = [*message.get("headers", ())]
                named = {name for name, _ in headers}
                headers += (each for each in _HEADERS if each[0] not in named)
                message["headers"] = headers
            await send(message)

        try:
            self._check(scope)
        except HttpProblem as problem:
            self._tell(scope, problem)
            answer = problem.response(scope)
            await answer(scope, receive, send_with_headers)
            return
        # The path is as it was sent: the slashes of an id are escaped in it.
        scope["path"] = scope["raw_path"].partition(b"?")[0].decode("latin-1")
        # A page that shows a failure informs nobody, so that it is logged, too.
        before = LOOKS.set(scope["method"] == "GET")
        who = scope.get(WHO, PLAIN)
        is_stream = scope["method"] == "GET" or scope["path"] in self._streams
        try:
            if who is PLAIN or not is_stream:
                await self._app(scope, receive, send_with_headers)
            else:
                await self._watched(scope, receive, send_with_headers, lambda: is_begun)
        except HttpProblem as problem:
            self._tell(scope, problem)
            await problem.response(scope)(scope, receive, send_with_headers)
        finally:
            LOOKS.reset(before)

    def _tell(self, scope: Scope, problem: HttpProblem) -> None:
        """Log a refused request, and how many refusals were not logged before."""
        if not self._told.take():
            self._untold += 1
            return
        client = (scope.get("client") or ("somebody",))[0]
        asked = f"{scope['method']} {scope['path']} from {client}"
        more = f" ({counted(self._untold, 'other')} before)" if self._untold else ""
        self._untold = 0
        text = f"refused: {asked}: {problem.status}, {problem.detail}"
        _LOG.warning("%s: %s%s", visible(text), problem.hint, more)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = self._check_host(headers)
        _check_origin(headers, host)
        self._check_token(scope, headers)
        _check_body(scope["method"], headers)

    def _check_host(self, headers: Headers) -> str:
        hosts = headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else ""
        name = _name_of(host) if _is_authority(host) else ""
        # Nobody can rebind an address; probes of Kubernetes use that of the pod.
        if name not in self._hosts and not _is_address(name):
            raise HttpProblem(
                421,
                "unknown_host",
                "the service is not known by the name in Host",
                hint="ask for 127.0.0.1, or let its owner allow this name",
            )
        return host

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        if scope["path"] in self._opened and not self._doors.is_open:
            return
        who = self._doors.who(scope, headers)
        if who is not None:
            if not self._doors.is_open and not self._known.take():
                raise _too_many(_WITH_TOKEN)
            scope[KNOWN] = True
            scope[WHO] = who
            return
        if not self._bucket_of(scope).take():
            raise _too_many(_WITHOUT)
        token = headers.get("authorization", "").partition(" ")[2]
        raise HttpProblem(
            401,
            "no_token",
            "the token is not that of this service" if token else "a token is needed",
            hint="send it: Authorization: Bearer …; for curl, write into ~/.curlrc: "
            'header = "Authorization: Bearer …"',
            headers={"WWW-Authenticate": "Bearer"},
        )

    async def _watched(
        self, scope: Scope, receive: Receive, send: Send, is_begun: Callable[[], bool]
    ) -> None:
        """
        Answer what is only looked at, as long as whoever asks may see it.

        Raises:
            HttpProblem: They may not any more, and the answer has not begun.
        """
        who, headers = scope[WHO], Headers(scope=scope)
        answering = asyncio.ensure_future(self._app(scope, receive, send))
        try:
            while not (await asyncio.wait({answering}, timeout=_LOOKS))[0]:
                try:
                    is_same = self._doors.who(scope, headers) == who
                except HttpProblem:
                    is_same = False
                if not is_same:
                    break
        finally:
            is_over = answering.done()
            if not is_over:
                answering.cancel()
                with suppress(asyncio.CancelledError):
                    await answering
        if is_over:
            answering.result()
        elif is_begun():
            await send({"type": "http.response.body", "body": b""})
        else:
            text = "what the token may do has changed meanwhile"
            raise HttpProblem(401, "no_token", text, hint="ask again")

    def _bucket_of(self, scope: Scope) -> _Bucket:
        client = scope.get("client")
        address = str(client[0]) if client else ""
        bucket = self._unknown.pop(address, None) or _Bucket(_WITHOUT, _WITHOUT)
        self._unknown[address] = bucket
        if len(self._unknown) > _ADDRESSES:
            self._unknown.popitem(last=False)
        return bucket


def _too_many(rate: float) -> HttpProblem:
    text = f"there may be {rate:,.0f} requests a second"
    return HttpProblem(429, "too_many_requests", text, hint="wait, and try again")


def _is_authority(host: str) -> bool:
    return not any(letter in host for letter in "/@?#\\ \t")


def _is_address(name: str) -> bool:
    """Say whether *name* is the number of an address, not a name of DNS."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _check_origin(headers: Headers, host: str) -> None:
    """Refuse requests of a browser from another site."""
    site = headers.get("sec-fetch-site", "none")
    origins = headers.getlist("origin")
    # A proxy may have removed the TLS, so that the scheme is not compared.
    is_ours = all(o.partition("://")[2].lower() == host.lower() for o in origins)
    if site not in ("same-origin", "none") or not is_ours:
        raise HttpProblem(
            403, "foreign_origin", "a page of another site may not ask here"
        )


def _check_body(method: str, headers: Headers) -> None:
    if "transfer-encoding" in headers and "content-length" in headers:
        # A proxy may have used the other length, and take the rest for a request.
        raise HttpProblem(
            *(400, "two_lengths", "a body has Content-Length or Transfer-Encoding"),
            hint="send one of them",
            headers={"Connection": "close"},
        )
    if method in ("GET", "HEAD"):
        # The router tests first whether the path has this method.
        return
    kinds = headers.getlist("content-type")
    has_body = sends_body(headers)
    if (kinds or has_body) and not (len(kinds) == 1 and _is_json(kinds[0])):
        raise HttpProblem(
            415,
            "not_json",
            "a body is JSON",
            hint="say so: Content-Type: application/json",
            headers={"Accept": "application/json"},
        )
    if "content-encoding" in headers:
        raise HttpProblem(
            415, "encoded_body", "a body is sent as it is, not compressed"
        )
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > MAX_BODY:
        raise too_long()


def sends_body(headers: Headers) -> bool:
    """Return whether a request with these *headers* has a body."""
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _is_json(kind: str) -> bool:
    name, _, options = kind.partition(";")
    charset = options.strip().lower().removeprefix("charset=").strip('"')
    return is_framed(name) or (
        name.strip().lower() == "application/json" and charset in ("", "utf-8")
    )
