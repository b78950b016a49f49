"""Connections of a client: used again, as long as they can be."""

from __future__ import annotations

import gc
import socket
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from tests.frontends.service.tools import orchestrator, served

from taskorch.kit import connections as over_http
from taskorch.kit.connections import HttpConnections

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def ask(connections, body=None, path="/livez"):
    return connections.ask("POST" if body else "GET", path, body, {}, 30.0)


@contextmanager
def server(*answers):
    """Each connection has its list: what is answered to a request; None: its end."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def serve():
            for some in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(30)
                    for one in some:
                        heard.append(connection.recv(65_536))
                        if one is None:
                            break
                        connection.sendall(one)
                ended.release()

        ended = threading.Semaphore(0)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield HttpConnections("http", *listener.getsockname()), heard, ended
        finally:
            thread.join(60)


def test_a_connection_is_used_again():
    with served(orchestrator()) as service:
        connections = HttpConnections("http", "127.0.0.1", service.server.port)
        for _ in range(3):
            assert ask(connections)[0] == 200
            assert len(connections._resting) == 1
        port = connections._resting[0][2].sock.getsockname()[1]
        ask(connections)
        assert connections._resting[0][2].sock.getsockname()[1] == port


def test_the_head_and_the_body_of_a_request_are_one_piece():
    with server([ANSWER]) as (connections, heard, _):
        assert ask(connections, b'{"a":1}') == (200, b"{}")
    assert heard[0].endswith(b'\r\n\r\n{"a":1}')


def test_one_that_the_server_has_ended_is_not_used():
    with server([ANSWER], [ANSWER]) as (connections, heard, ended):
        assert ask(connections) == (200, b"{}")
        assert ended.acquire(timeout=30)
        assert ask(connections) == (200, b"{}")
    assert len(heard) == 2


def test_what_was_sent_is_not_sent_again():
    with server([ANSWER, None]) as (connections, heard, _):
        ask(connections)
        with pytest.raises(ConnectionError):
            ask(connections, b"{}")
        assert not connections._resting
    assert len(heard) == 2


def test_one_that_the_server_wants_to_end_does_not_rest():
    answer = ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with server([answer]) as (connections, _, _):
        assert ask(connections) == (200, b"{}")
        assert not connections._resting


def test_one_that_has_rested_for_long_is_not_used(monkeypatch):
    with served(orchestrator()) as service:
        connections = HttpConnections("http", "127.0.0.1", service.server.port)
        ask(connections)
        first = connections._resting[0][2]
        monkeypatch.setattr(over_http, "_IDLE_SECONDS", 0.0)
        ask(connections)
        assert connections._resting[0][2] is not first
        assert first.sock is None


def test_those_of_another_process_are_not_used(monkeypatch):
    with served(orchestrator()) as service:
        connections = HttpConnections("http", "127.0.0.1", service.server.port)
        ask(connections)
        parents = connections._resting[0][2]
        monkeypatch.setattr(over_http, "os", SimpleNamespace(getpid=lambda: -1))
        ask(connections)
        assert connections._resting[0][2] is not parents


def test_so_many_rest_and_no_more(monkeypatch):
    monkeypatch.setattr(over_http, "_MOST", 0)
    with served(orchestrator()) as service:
        connections = HttpConnections("http", "127.0.0.1", service.server.port)
        ask(connections)
        assert not connections._resting


def test_threads_have_one_each():
    with served(orchestrator()) as service:
        connections = HttpConnections("http", "127.0.0.1", service.server.port)
        together = threading.Barrier(4)
        found = []

        def work():
            together.wait(60)
            found.extend(ask(connections)[0] for _ in range(20))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [200] * 80
        assert 1 <= len(connections._resting) <= 4


def test_those_that_rest_end_with_the_client():
    with served(orchestrator()) as service:
        connections = HttpConnections("http", "127.0.0.1", service.server.port)
        ask(connections)
        last = connections._resting[0][2]
        del connections
        gc.collect()
        assert last.sock is None
