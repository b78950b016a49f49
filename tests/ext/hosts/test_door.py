"""The door of hosts, with strangers before it."""

from __future__ import annotations

import hmac
import logging
import secrets
import shutil
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import InvalidTaskError
from taskorch.core.executors import wire
from taskorch.ext.hosts import _door, _host
from taskorch.ext.hosts._certificate import certificates_in, made_certificate
from taskorch.ext.hosts._connection import (
    Stream,
    introduce,
    versions,
    within_tls,
)
from taskorch.ext.hosts._door import HostDoor
from taskorch.ext.hosts._engine import HostPlace
from taskorch.ext.hosts._given import RemoteHost
from taskorch.kit.loop import Loop

#: More than the door lets in at once.
MANY = 300


class Opened:
    """A door of hosts, and who came in."""

    def __init__(self, quiet: float = 0.5) -> None:
        self.hosts: dict[bytes, RemoteHost] = {}
        self.joined: list[RemoteHost] = []
        self.loop = Loop()
        self.is_over = False
        self.door = HostDoor(self.loop, self.hosts, self._join, None, quiet)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.door.open(["127.0.0.1"])
        self.address = self.door.addresses[0]

    def _run(self) -> None:
        self.loop.open()
        self.loop.run(lambda: self.is_over)
        self.loop.close()

    def _join(self, host: RemoteHost, sock: socket.socket) -> None:
        self.joined.append(host)
        sock.close()

    def come(self) -> None:
        """Come in as a host does that was started a moment ago: again, if need be."""
        number = secrets.token_bytes(wire.NUMBER)
        host = self.hosts[number] = RemoteHost(number, HostPlace(1))
        for _ in range(100):
            with suppress(OSError):
                self._come(host)
                return

    def _come(self, host: RemoteHost) -> None:
        with socket.create_connection(self.address, PATIENCE) as sock:
            stream = Stream(sock)
            introduce(stream, host.number, host.secret)
            hello = repr({**versions(), "pid": 1, "node": "n"}).replace("'", '"')
            stream.put(wire.READY, wire.NOBODY, hello.encode())
            eventually(lambda: host in self.joined)

    def close(self) -> None:
        self.loop.call(lambda: setattr(self, "is_over", True))
        self.thread.join(PATIENCE)
        self.door.close()


@pytest.fixture
def opened() -> Iterator[Opened]:
    it = Opened()
    yield it
    it.close()


def threads_of_strangers() -> int:
    return sum(t.name == "taskorch-welcome" for t in threading.enumerate())


@pytest.mark.parametrize("words", [b"", b"GET / HTTP/1.1\r\n\r\n", bytes(72)])
def test_strangers_take_few_threads_and_hosts_come_in(
    opened: Opened, words: bytes
) -> None:
    most = 0
    with ExitStack() as stack:
        for _ in range(MANY):
            stranger = socket.create_connection(opened.address, PATIENCE)
            stack.enter_context(stranger)
            stranger.sendall(words)
            most = max(most, threads_of_strangers())
        opened.come()
        most = max(most, threads_of_strangers())
    # Some are about to end; of those that are refused, all may have ended.
    assert most < MANY / 2
    eventually(lambda: not threads_of_strangers())


def test_one_stranger_makes_room_and_not_all(opened: Opened) -> None:
    """Long before the time is over that each has."""
    with ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(opened.address, PATIENCE))
            for _ in range(_door._MOST_UNPROVEN)
        ]
        for stranger in strangers:
            # They were greeted: by a frame with a number.
            size = wire.HEAD + 32 + wire.TAIL
            assert len(stranger.recv(size, socket.MSG_WAITALL)) == size
        opened.come()
        assert sum(map(is_open, strangers)) > len(strangers) / 2


def is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1))
    except BlockingIOError:
        return True


def test_what_was_refused_is_counted_in_one_line(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(MANY):
            stranger = socket.create_connection(opened.address, PATIENCE)
            # It may be refused before it is done.
            with stranger, suppress(OSError):
                stranger.sendall(bytes(72))
                stranger.shutdown(socket.SHUT_WR)
        eventually(lambda: refused(caplog) == MANY)
    assert len(lines(caplog)) < MANY / 10


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = [record.getMessage() for record in caplog.records]
    return [text for text in texts if "refused" in text]


def refused(caplog: pytest.LogCaptureFixture) -> int:
    words = [line.split()[1] for line in lines(caplog)]
    return sum(1 if word == "a" else int(word) for word in words)


@pytest.mark.parametrize(
    "frame",
    [
        wire.frame(wire.LOGGED, bytes(wire.NUMBER), b"of another kind"),
        wire.frame(wire.READY, bytes(wire.NUMBER), bytes(2**12 + 1)),
        wire.frame(wire.READY, bytes(wire.NUMBER), b"of a wrong end")[:-1] + b"x",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"",
    ],
)
def test_of_who_is_not_known_only_what_was_to_come_is_taken(frame: bytes) -> None:
    with connected() as (ours, theirs):
        good = wire.frame(wire.READY, bytes(wire.NUMBER), b"good")
        theirs.sendall(good + frame)
        theirs.shutdown(socket.SHUT_WR)
        stream = Stream(ours)
        assert stream.take(wire.READY) == (wire.READY, bytes(wire.NUMBER), b"good")
        with pytest.raises(ConnectionError):
            stream.take(wire.READY)


@pytest.mark.parametrize(
    "proof", [b"", bytes(32), b"what it has said itself", b"the secret of another"]
)
def test_a_host_works_for_nobody_who_does_not_know_its_secret(proof: bytes) -> None:
    """Nor for who says to it what it has said, or what another host would believe."""
    number, secret = secrets.token_bytes(wire.NUMBER), secrets.token_bytes(32)

    def pretend(sock: socket.socket) -> None:
        stream = Stream(sock)
        challenge = bytes(32)
        stream.put(wire.CHALLENGE, wire.NOBODY, challenge)
        _, _, body = stream.take(wire.PROOF)
        answer = proof
        if proof.startswith(b"what"):
            answer = body[32:]
        elif proof.startswith(b"the"):
            answer = hmac.digest(
                bytes(32), b"orchestrator" + body[:32] + challenge, "sha256"
            )
        stream.put(wire.PROOF, number, answer)

    with connected() as (ours, theirs):
        thread = threading.Thread(target=pretend, args=(theirs,))
        thread.start()
        with pytest.raises(ConnectionError, match="does not know the secret"):
            introduce(Stream(ours), number, secret)
        thread.join(PATIENCE)


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets with TCP between them."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), PATIENCE) as ours,
        server.accept()[0] as theirs,
    ):
        yield ours, theirs


def without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)


@pytest.fixture(params=["cryptography", "openssl"])
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What makes certificates: the library, or the program where that is not there."""
    if request.param == "openssl":
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl")
        without_cryptography(monkeypatch)
    else:
        pytest.importorskip("cryptography")
        monkeypatch.setenv("PATH", "")
    return str(request.param)


def test_whoever_trusts_a_certificate_that_was_made_can_speak_by_it(maker: str) -> None:
    """And who trusts another cannot."""
    assert maker
    with made_certificate(None) as files, made_certificate(None) as others:
        assert spoken(files, trusted=files) == b"said"
        with pytest.raises(ssl.SSLError, match="certificate verify failed"):
            spoken(files, trusted=others)
        key = Path(files[1])
        assert key.stat().st_mode & 0o077 == 0 or key.parent.stat().st_mode & 0o077 == 0
    assert not key.exists()


def spoken(files: tuple[str, str], trusted: tuple[str, str]) -> bytes:
    """What comes over TLS from who has *files*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    ours, theirs = socket.socketpair()

    def speak() -> None:
        with suppress(OSError), within_tls(theirs, context, is_server=True) as sock:
            sock.settimeout(PATIENCE)
            sock.do_handshake()
            sock.sendall(b"said")

    thread = threading.Thread(target=speak)
    thread.start()
    trusts = _host._trusting(certificates_in(trusted[0]))
    try:
        with within_tls(ours, trusts, is_server=False) as sock:
            sock.settimeout(PATIENCE)
            sock.do_handshake()
            return sock.recv(4)
    finally:
        thread.join(PATIENCE)


def test_where_nothing_makes_keys_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_cryptography(monkeypatch)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InvalidTaskError) as refused, made_certificate(None):
        pass
    assert "neither cryptography nor openssl" in refused.value.message
    assert "pip install cryptography" in (refused.value.hint or "")


@pytest.mark.usefixtures("maker")
def test_of_a_bundle_hosts_get_the_certificates_alone(tmp_path: Path) -> None:
    bundle, nothing = tmp_path / "bundle.pem", tmp_path / "nothing.pem"
    with made_certificate(None) as files:
        certificate, key = (Path(file).read_text() for file in files)
    for text in (
        key + certificate + key,
        "café, my certificate\n" + certificate + key,
        certificate + key + certificate,
    ):
        bundle.write_text(text, encoding="latin-1")
        parts = certificates_in(str(bundle))
        assert parts == certificate * text.count("BEGIN CERT")
    for text in ("", key, key.replace("PRIVATE KEY", "CERTIFICATE", 1)):
        nothing.write_text(text)
        with pytest.raises(InvalidTaskError, match=r"no certificate in .*nothing\.pem"):
            certificates_in(str(nothing))
