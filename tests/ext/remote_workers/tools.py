"""A network that fails when it is told to, and workers in processes of their own."""

from __future__ import annotations

import os
import random
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.api.tools import Started

ROOT = Path(__file__).parents[3]


def free_port():
    """One that no connection is given by chance, and that nobody has now."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


@contextmanager
def at_work(worker):
    """*worker*, on threads of this process; stopped at once in the end."""
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        worker.stop()
        thread.join(60)
        assert not thread.is_alive()


class Proxy:
    """
    What is between a worker and a service.

    Args:
        port: Of the service.
        drop: How likely an answer, or a request, is lost on the way.
        delay: Seconds that what comes may be late, at the most.
    """

    def __init__(self, port, *, drop=0.0, delay=0.0, seed=1):
        self.target, self.drop, self.delay = port, drop, delay
        self.dice = random.Random(seed)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.open = set()
        self.lock = threading.Lock()
        self.is_cut = self.is_closed = False

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.is_closed = True
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self):
        """Nothing gets through, in either direction; what is open ends."""
        self.is_cut = True
        with self.lock:
            for each in self.open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self.is_cut = False

    def _accept(self):
        while not self.is_closed:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(here,), daemon=True).start()

    def _serve(self, here):
        with here:
            if self.is_cut:
                return
            try:
                there = socket.create_connection(("127.0.0.1", self.target), 10)
            except OSError:
                return
            with there:
                there.settimeout(None)
                with self.lock:
                    self.open |= {here, there}
                back = threading.Thread(target=self._pass, args=(there, here))
                back.start()
                self._pass(here, there)
                back.join()
                with self.lock:
                    self.open -= {here, there}

    def _pass(self, source, target):
        with suppress(OSError):
            while data := source.recv(65_536):
                if self.delay:
                    time.sleep(self.dice.random() * self.delay)
                if self.is_cut or self.dice.random() < self.drop:
                    break
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def worker_process(service, log, *arguments, name="agent_001", url=None):
    """The command, against *service*."""
    # One that is killed leaves its files behind.
    place = {"TMPDIR": str(log.parent)}
    env = {**os.environ, **place, "TASKORCH_TOKEN": service.token}
    command = [sys.executable, "-m", "taskorch", "agent", "--agent-id", name]
    command += ["--orchestrator-endpoint", url or service.server.url]
    command += ["--log-file", str(log), *arguments]
    with Started(command, cwd=ROOT, env=env) as process:
        yield process
        process.kill()
