"""Connections of a client: used again, as long as they can be."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

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


def test_the_head_and_the_body_of_a_request_are_one_piece():
    with server([ANSWER]) as (connections, heard, _):
        assert ask(connections, b'{"a":1}') == (200, b"{}")
    assert heard[0].endswith(b'\r\n\r\n{"a":1}')
