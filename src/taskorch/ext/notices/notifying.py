"""
Notifications: who is told of questions and troubles, and how.

A receiver has a thread and a bounded queue of its own, so a slow or dead one delays
nothing. The health of the orchestrator reports messages that were not delivered.
"""

from __future__ import annotations

import atexit
import hashlib
import hmac
import http.client
import ipaddress
import json
import queue
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from urllib.parse import SplitResult, quote, urlsplit

from taskorch.errors import InvalidTaskError
from taskorch.events import QuestionAsked, QuestionReminded
from taskorch.kit.backoff import Backoff
from taskorch.kit.checks import check_count, check_seconds, check_word, needed
from taskorch.kit.clock import wall
from taskorch.kit.connections import HttpConnection
from taskorch.kit.deadline import PeerDeadline
from taskorch.kit.fence import log_of
from taskorch.kit.visible import is_text, show, visible
from taskorch.kit.words import stamp
from taskorch.model import HealthCheck

if TYPE_CHECKING:
    from datetime import timedelta


_LOG: Final = log_of("taskorch.notify")
#: Kinds of messages.
KINDS: Final = (
    "question",
    "reminder",
    "escalation",
    "failure",
    "recovered",
    "blocked",
    "skipped",
    "alert",
)
#: Seconds at the exit of the process for a receiver's waiting messages.
_AT_EXIT: Final = 3.0
#: The most messages that wait for one receiver; more are not sent, and are counted.
_MAX_WAITING: Final = 1_000
#: The most numbers of messages that are kept: more than are ever open.
_MAX_KNOWN: Final = 100_000
#: Pauses before the second attempt to send, and so on.
_PAUSES: Final = Backoff(1.0, 60.0)
_REDIRECTS: Final = range(300, 400)
_PASSING: Final = (408, 425, 429)
_SERVERS_FAULT: Final = 500
_GOOD: Final = range(200, 300)
_LEAST_SECRET: Final = 16
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


#: Function that sends a message, with a number that every attempt shares, and a time.
Send: TypeAlias = Callable[[dict[str, Any], str, float], None]


class _RefusedError(Exception):
    """The receiver will never accept a message, so no attempt follows."""


class Notifier:
    """
    A receiver of notifications: see `TaskOrchestrator.notify`.

    Attributes:
        name: Its address, without parts that may be secret.
        delivered: The number of messages that it has accepted.
        lost: The number of messages that it has not accepted after all attempts.
        trouble: Why it did not accept the latest; empty if it did.
        page: Returns the address of the dashboard; "" if unknown.
    """

    def __init__(
        self,
        orch: Any,
        name: str,
        send: Send,
        attempts: int,
        about: Collection[str] = KINDS,
    ) -> None:
        self.name: str = name
        self.delivered: int = 0
        self.lost: int = 0
        self.trouble: str = ""
        self.page: Callable[[], str] = str
        self._orch = orch
        self._send = send
        self._attempts = attempts
        self._about = frozenset(about)
        self._waiting: queue.Queue[str | dict[str, Any] | None] = queue.Queue(
            _MAX_WAITING
        )
        #: Guards how many messages wait, or are being sent.
        self._changed = threading.Condition()
        self._open = 0
        self._closed = threading.Event()
        #: Whether to look at open questions, once for all that come until then: known
        #: messages are found by their numbers.
        self._is_to_look = False
        #: The numbers of messages, each of which is sent once.
        self._numbers: dict[str, str] = {}
        self._thread = threading.Thread(
            target=self._run, name=f"taskorch-notify-{name}", daemon=True
        )
        signals = orch.signals
        signals.question_asked.connect(self._asked)
        signals.question_reminded.connect(self._reminded)
        signals.orchestrator_started.connect(self._started)
        _RECEIVERS.add(self)

    def __repr__(self) -> str:
        trouble = f", {self.trouble}" if self.trouble else ""
        return f"<Notifier {self.name}: {self.delivered} delivered{trouble}>"

    def close(self) -> None:
        """Accept no new messages; send waiting ones once, without another attempt."""
        self._closed.set()
        with suppress(queue.Full):
            self._waiting.put_nowait(None)

    def await_end(self, seconds: float) -> None:
        """Wait a moment for the waiting messages, as the process ends."""
        self.close()
        begun = self._open and self._thread.ident is not None
        if begun and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message, if it is of a kind for this receiver."""
        if message["message_type"] in self._about:
            self._put(message)

    def flush(self, timeout: float) -> bool:
        """Wait until all are sent or given up; return False after *timeout* seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout)

    def check(self) -> HealthCheck:
        """Return its state, as a part of `health()`."""
        if not self.trouble and not self.lost:
            return HealthCheck("notification", "ok")
        lost = f"{self.lost} not delivered" if self.lost else "not delivered yet"
        why = f": {self.trouble}" if self.trouble else ""
        return HealthCheck("notification", "degraded", f"{self.name}: {lost}{why}")

    def _now(self) -> float:
        return wall()

    # -- what is to be told ----------------------------------------------------------

    def _started(self, _: object) -> None:
        self._look()

    def _asked(self, _: QuestionAsked) -> None:
        self._look()

    def _look(self) -> None:
        """Report open questions; several that come together are looked at once."""
        with self._changed:
            self._is_to_look = self._is_to_look or self._put("")

    def _reminded(self, event: QuestionReminded) -> None:
        self._put(event.task_id)

    def _put(self, subject: str | dict[str, Any]) -> bool:
        """Queue *subject*; return False if the queue is full."""
        with self._changed:
            try:
                self._waiting.put_nowait(subject)
            except queue.Full:
                self.lost += 1
                return False
            self._open += 1
            # A module that declares a receiver starts nothing as it is imported.
            if self._thread.ident is None:
                with suppress(RuntimeError):  # the next message tries it again
                    self._thread.start()
            return True

    def _messages(self, reminded: str) -> list[dict[str, Any]]:
        """Return the question that is *reminded* of; all open ones if ""."""
        with self._changed:
            self._is_to_look = self._is_to_look and bool(reminded)
        messages = []
        for each in self._orch.questions():
            kind = "reminder" if reminded else each.kind
            if kind in self._about and reminded in ("", each.id):
                messages.append({"message_type": kind, **each.to_dict()})
        return messages

    # -- telling it ------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            entry = self._waiting.get()
            if entry is None:
                return
            try:
                if isinstance(entry, dict):
                    self._deliver(entry)
                elif not self._closed.is_set():
                    for message in self._messages(entry):
                        self._deliver(message)
            except Exception as error:  # noqa: BLE001 - no message ends the thread
                self.trouble = _said(error)
            with self._changed:
                self._open -= 1
                self._changed.notify_all()
            if self._closed.is_set() and self.trouble:
                # There is no time to find out whether it is dead.
                return

    def _number_of(self, message: dict[str, Any]) -> str:
        """Return the number of *message*, which is the same after a restart."""
        kind, since = message["message_type"], message.get("asked_at")
        if since is None:
            since = message.get("timestamp")
        if kind == "reminder":
            since = self._now()
        # The id of an escalation has a number only where it needs one; a message of a
        # front end may have no id.
        name = message.get("answer_to", _name_of(message))
        text = json.dumps([kind, name, since]).encode()
        return hashlib.sha256(text).hexdigest()[:32]

    def _deliver(self, message: dict[str, Any]) -> None:
        number = self._number_of(message)
        if number in self._numbers:
            return
        _remember(self._numbers, number, "")
        message = {"message_id": number, **message}
        message.setdefault("timestamp", stamp(self._now(), "microseconds"))
        page = self.page()
        if page:
            message["link"] = f"{page.rstrip('/')}/{_view_of(message)}"
        for attempt in range(self._attempts):
            if attempt and self._closed.wait(_PAUSES.after(attempt - 1)):
                break
            try:
                self._send(message, number, self._now())
            except _RefusedError as error:
                self._fails(error)
                break
            except Exception as error:  # noqa: BLE001 - the receiver is not ours
                self._fails(error)
            else:
                self.delivered += 1
                if self.trouble:
                    _LOG.info("%s takes messages again", self.name)
                self.trouble = ""
                return
        self.lost += 1
        _LOG.error(
            "%s was not told of the %s %s: %s",
            self.name,
            message["message_type"],
            visible(str(_name_of(message))),
            self.trouble or "it was not tried",
        )

    def _fails(self, error: Exception) -> None:
        """Note why it accepted nothing, and log it if that is new."""
        trouble = _said(error)
        if trouble != self.trouble:
            self.trouble = trouble
            _LOG.warning("%s cannot be told: %s", self.name, trouble)


#: Receivers that get their waiting messages at the exit of the process.
_RECEIVERS: Final = weakref.WeakSet[Notifier]()


@atexit.register
def _await_receivers() -> None:
    end = monotonic() + _AT_EXIT
    for receiver in list(_RECEIVERS):
        receiver.await_end(max(0.0, end - monotonic()))


def _name_of(message: Mapping[str, Any]) -> str | None:
    """Return the id of the subject of *message*, if it has one."""
    name: str | None = message.get("id", message.get("escalation_id"))
    return name


def _view_of(message: Mapping[str, Any]) -> str:
    """Return the part of the dashboard that shows the subject of *message*."""
    kind = message["message_type"]
    if kind in ("question", "reminder", "escalation"):
        return "#/questions"
    places = {"runs": "run", "task": "task_id", "schedules": "schedule"}
    for view, field in places.items():
        if message.get(field):
            return f"#/{view}/{quote(str(message[field]), safe='')}"
    return "#/"


def _remember(remembered: dict[Any, str], key: Any, value: str) -> None:
    """Put *key* into *remembered*; of too many, drop the oldest."""
    remembered[key] = value
    if len(remembered) > _MAX_KNOWN:
        del remembered[next(iter(remembered))]


def _said(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in text[:200])


def notifier(
    orch: Any,
    url: str,
    *,
    secret: str | bytes | None,
    allow_private: bool,
    timeout: float | timedelta,
    attempts: int,
    about: Iterable[str] | None,
) -> Notifier:
    """
    Return a receiver at *url*, with the arguments of `TaskOrchestrator.notify`.

    Raises:
        InvalidTaskError: An argument is not well formed.
    """
    check_count("attempts", attempts, least=1)
    kinds = KINDS if about is None else _kinds(about)
    name, send = sender_of(
        url, secret=secret, allow_private=allow_private, timeout=timeout
    )
    return Notifier(orch, name, send, attempts, kinds)


def _kinds(about: Iterable[str]) -> tuple[str, ...]:
    if isinstance(about, str) or not isinstance(about, Iterable):
        msg = f"about is a list of kinds of messages, not {show(about)}"
        raise InvalidTaskError(msg, hint=f"about=['{about}']" if about in KINDS else "")
    kinds = tuple(about)
    for kind in kinds:
        check_word("a kind of messages", kind, KINDS)
    return kinds


def sender_of(
    url: str,
    *,
    secret: str | bytes | None,
    allow_private: bool,
    timeout: float | timedelta,
) -> tuple[str, Send]:
    """
    Return the name of a receiver, and the function that sends to it; see `notifier`.

    Raises:
        InvalidTaskError: An argument is not well formed.
    """
    seconds = check_seconds("timeout", timeout, zero=False)
    untyped: object = url
    if not is_text(untyped) or "://" not in url:
        msg = f"a receiver is a URL, not {show(url)}"
        raise InvalidTaskError(msg, hint="https://alerts.example.com/hook")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        if secret is not None:
            msg = f"secret: it signs a webhook, and {parts.scheme}:// is none"
            raise InvalidTaskError(msg)
        send = _by_apprise(url, seconds, allow_private=allow_private)
        return f"{parts.scheme}://…", send
    hook = Webhook(parts, _key(secret), seconds, allow_private=allow_private)
    return hook.name, hook.send


def _key(secret: str | bytes | None) -> bytes | None:
    if secret is None:
        return None
    untyped: object = secret
    is_key = isinstance(untyped, bytes) or is_text(untyped)
    if is_key and len(secret) >= _LEAST_SECRET:
        # Half of a surrogate pair has no bytes.
        with suppress(UnicodeEncodeError):
            return secret.encode() if isinstance(secret, str) else secret
    msg = f"secret: a text of at least {_LEAST_SECRET} characters is needed"
    raise InvalidTaskError(msg, hint="secrets.token_urlsafe(32) makes one")


class Webhook:
    """
    Sends messages by POST, as JSON; follows no redirect.

    With a key, `X-Taskorch-Signature` is `sha256=` and the HMAC, in hexadecimal, of the
    text of `X-Taskorch-Timestamp`, a full stop, and the body.
    """

    def __init__(
        self,
        parts: SplitResult,
        key: bytes | None,
        timeout: float,
        *,
        allow_private: bool,
    ) -> None:
        host = parts.hostname
        if not host or parts.username is not None or parts.fragment:
            msg = "a webhook has a host, and neither a user nor a fragment"
            raise InvalidTaskError(msg, hint="https://alerts.example.com/hook")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            msg = f"{show(parts.netloc)} has no port that there is"
            raise InvalidTaskError(msg) from None
        self._host, self._port, self._key = host, port, key
        self._is_safe = parts.scheme == "https"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout = timeout
        self._allow_private = allow_private
        #: It has neither a path nor a query, which may be secret.
        self.name: str = f"{parts.scheme}://{host}:{port}"
        if not allow_private:
            try:
                ipaddress.ip_address(host)
            except ValueError:
                if host == "localhost" or host.endswith(".localhost"):
                    raise _private(host) from None
            else:
                self._check(host)

    def _check(self, address: str) -> None:
        if not self._allow_private:
            _check_public(address)

    def send(self, message: dict[str, Any], number: str, at: float) -> None:
        """
        Send *message* with a *number* that every attempt shares, *at* this time.

        Raises:
            _RefusedError: It will never be accepted.
            OSError: It was not accepted now.
        """
        body = json.dumps(message, ensure_ascii=True).encode()
        headers = headers_of(body, number, at, self._key)
        connection = HttpConnection(self._host, self._port)
        connection.deadline.set(self._timeout)
        try:
            connection.sock = self._wrapped(self._connect(connection.deadline))
            connection.request("POST", self._path, body, headers)
            status = connection.getresponse().status
        except http.client.HTTPException as error:
            msg = f"it answers no HTTP: {_said(error)}"
            raise OSError(msg) from error
        finally:
            connection.close()
        if status in _GOOD:
            return
        msg = f"it answers {status}"
        if status in _REDIRECTS:
            msg += ", and a redirect is not followed"
        if status in _PASSING or status >= _SERVERS_FAULT:
            raise OSError(msg)
        raise _RefusedError(msg)

    def _connect(self, deadline: PeerDeadline) -> socket.socket:
        """Connect to an address that was checked, as its name may change."""
        addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        try:
            for *_, place in addresses:
                self._check(str(place[0]))
        except InvalidTaskError as error:
            raise _RefusedError(error.message) from None
        failure: OSError | None = None
        for family, kind, protocol, _, place in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(deadline.left())
                sock.connect(place)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure or OSError(f"{self._host} has no address")

    def _wrapped(self, sock: socket.socket) -> socket.socket:
        if not self._is_safe:
            return sock
        context = ssl.create_default_context()
        try:
            return context.wrap_socket(sock, server_hostname=self._host)
        except BaseException:
            sock.close()
            raise


def headers_of(
    body: bytes, number: str, at: float, key: bytes | None
) -> dict[str, str]:
    """Return the headers of a message, *at* a time, signed with a *key*."""
    now = str(int(at))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "taskorch",
        "X-Taskorch-Delivery": number,
        "X-Taskorch-Timestamp": now,
    }
    if key is not None:
        signed = hmac.new(key, f"{now}.".encode() + body, hashlib.sha256)
        headers["X-Taskorch-Signature"] = f"sha256={signed.hexdigest()}"
    return headers


def _private(host: str) -> InvalidTaskError:
    msg = f"{host} is no public address, and a webhook might reach inside"
    hint = "allow_private=True allows it"
    return InvalidTaskError(msg, hint=hint)


def _check_public(address: str) -> None:
    """
    Refuse an address that is of this machine, or of a network that is not public.

    Raises:
        InvalidTaskError: It is one.
    """
    target = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(target, ipaddress.IPv6Address):
        # An IPv6 address that contains one of IPv4 is judged by that.
        inner = target.ipv4_mapped or target.sixtofour
        if target in _LOCAL_NAT64:
            # Any such address is in the network of the sender.
            raise _private(address)
        if target in _NAT64 or target in _COMPATIBLE:
            inner = ipaddress.IPv4Address(int(target) & 0xFFFF_FFFF)
        target = target if inner is None else inner
    if not target.is_global or target.is_multicast:
        raise _private(address)


def _by_apprise(url: str, seconds: float, *, allow_private: bool) -> Send:
    scheme = url.partition("://")[0]
    apprise = needed("apprise", f"{scheme}://", "notify")
    sender = apprise.Apprise()
    if not sender.add(url):
        msg = f"apprise does not take this URL of {scheme}://"
        raise InvalidTaskError(msg, hint="its documentation says what it needs")
    hosts: list[str] = []
    for plugin in cast("Iterable[Any]", sender):
        plugin.socket_connect_timeout = plugin.socket_read_timeout = seconds
        # A redirect would lead to a host that was not checked.
        plugin.redirects = False
        hosts += _hosts_of(plugin)
    if not allow_private:
        for host in hosts:
            _check_host(host, flags=socket.AI_NUMERICHOST)

    def send(message: dict[str, Any], _: str, _at: float) -> None:
        if not allow_private:
            try:
                for host in hosts:
                    _check_host(host)
            except InvalidTaskError as error:
                raise _RefusedError(error.message) from None
        title = str(message.get("text", ""))
        title = f"{message['message_type']}: {title}"
        body = json.dumps(message, indent=1)
        _within(seconds, lambda: sender.notify(body=body, title=title))

    return send


def _within(seconds: float, deliver: Callable[[], object]) -> None:
    """
    Deliver a message by Apprise, whose own times are those of one step of several.

    Raises:
        OSError: It was not accepted, or not in time.
    """
    answers: list[object] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            answers.append(deliver())
        except Exception as error:  # noqa: BLE001 - it is raised to the caller
            errors.append(error)

    thread = threading.Thread(target=ask, name="taskorch-apprise", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        msg = f"it has not taken it in {seconds:g} s"
        raise TimeoutError(msg)
    if not any(answers):
        msg = "apprise could not deliver it"
        raise OSError("; ".join([msg, *map(_said, errors)]))


def _hosts_of(plugin: Any) -> list[str]:
    """Return the hosts that a URL of Apprise names; other values are tokens."""
    templates = [str(each) for each in getattr(plugin, "templates", ())]
    hosts = [
        value
        for name, value in vars(plugin).items()
        if name.endswith("host") and isinstance(value, str) and value
        if name != "host" or any("{host}" in each for each in templates)
    ]
    return [host.strip("[]") for host in hosts]


def _check_host(host: str, *, flags: int = 0) -> None:
    """
    Refuse a host that is of this machine, or of a network that is not public.

    Raises:
        InvalidTaskError: It is one.
    """
    if host == "localhost" or host.endswith(".localhost"):
        raise _private(host)
    # A name without an address is not reached, and its delivery fails.
    with suppress(socket.gaierror, UnicodeError):
        for *_, place in socket.getaddrinfo(host, None, flags=flags):
            _check_public(str(place[0]))
