"""The door of hosts, with strangers before it."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.integration.tools import PATIENCE, eventually

from taskorch import InvalidTaskError
from taskorch.executors._hosts import _door
from taskorch.executors._hosts._certificate import certificates_in, made_certificate
from taskorch.executors._hosts._connection import Stream, introduce, versions
from taskorch.executors._hosts._door import HostDoor
from taskorch.executors._hosts._engine import HostPlace
from taskorch.executors._hosts._given import RemoteHost
from taskorch.executors._processes import _wire
from taskorch.executors._programs._loop import Loop

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

    def _join(self, host: RemoteHost, stream: Stream) -> None:
        self.joined.append(host)
        stream.sock.close()

    def come(self) -> None:
        """Come in as a host does that was started a moment ago: again, if need be."""
        number = secrets.token_bytes(_wire.NUMBER)
        host = self.hosts[number] = RemoteHost(number, HostPlace(1))
        for _ in range(100):
            with suppress(OSError):
                self._come(host)
                return

    def _come(self, host: RemoteHost) -> None:
        with socket.create_connection(self.address, PATIENCE) as sock:
            stream = Stream(sock, None)
            introduce(stream, host.number, host.secret)
            hello = repr({**versions(), "pid": 1, "node": "n"}).replace("'", '"')
            stream.put(_wire.frame(_wire.READY, _wire.NOBODY, hello.encode()))
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
            # They were greeted: 4 bytes, and a number.
            assert len(stranger.recv(36, socket.MSG_WAITALL)) == 36
        opened.come()
        assert sum(map(is_open, strangers)) > len(strangers) / 2


def is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1))
    except BlockingIOError:
        return True


def test_many_hosts_come_in_at_once(opened: Opened) -> None:
    threads = [threading.Thread(target=opened.come) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(opened.joined) == 100


def test_what_was_refused_is_counted_in_one_line(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(MANY):
            with socket.create_connection(opened.address, PATIENCE) as stranger:
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
