"""The service: what a client of another process gets of it, over loopback."""

from __future__ import annotations

import secrets
import selectors
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from benchmarks._timing import time_once
from taskorch import Task, TaskOrchestrator
from taskorch.ext.client import Client

_BATCH = 1_000
#: Threads that submit single tasks, each waiting for its answers.
_THREADS = 4
_FOLLOWERS = 50
#: What happens to each task: it is submitted, started and completed.
_EVENTS = 3
_NEEDS = ("starlette", "uvicorn", "prometheus_client")


def served(token: str, count: int = 0) -> Iterator[Mapping[str, float]]:
    """
    Serve an orchestrator whose worker does nothing: its port.

    Args:
        token: What is asked for.
        count: Tasks that are run in each sample after the first one.
    """
    from taskorch.ext.service import create_app, serve

    orch = TaskOrchestrator()

    @orch.agent("worker", capabilities={"noop"}, max_concurrency=None)
    async def nothing(task: Task, context: object) -> None: ...

    app = create_app(orch, token=token)
    with orch, serve(app, port=0) as server:
        while True:
            yield {"port": float(server.port)}
            orch.submit_tasks([Task("noop") for _ in range(count)])
            orch.wait()


@case("http-submit", needs=_NEEDS)
def submit(run: Run) -> Iterator[Row]:
    """Tasks that are submitted by `taskorch.ext.client`, a thousand at once and singly."""
    token = secrets.token_urlsafe(32)
    count = run.size(2_000, quick=40)
    rounds = min(run.pairs, 5)
    with Child(served, token=token) as child:
        url = f"http://127.0.0.1:{child.sample()['port']:.0f}"
        client = Client(url, token=token)

        def batch(tasks: list[Task]) -> None:
            handles.extend(client.submit_tasks(tasks))

        def singly(share: int) -> None:
            for _ in range(share):
                client.submit_task(Task("noop"))

        handles = list[object]()
        batches: list[float] = []
        for _ in range(rounds + 1):
            tasks = [Task("noop") for _ in range(_BATCH)]
            batches.append(time_once(lambda tasks=tasks: batch(tasks)))
            _settle(client)
        rates: list[float] = []
        with ThreadPoolExecutor(_THREADS) as threads:
            for _ in range(rounds + 1):
                shares = [count // _THREADS] * _THREADS
                seconds = time_once(
                    lambda shares=shares: list(threads.map(singly, shares))
                )
                rates.append(count / seconds)
                _settle(client)
    assert len(handles) == _BATCH * (rounds + 1)
    # The first round of each has made the connections, and loaded what is late.
    taken = Samples.of(batches[1:], Unit.SECONDS)
    yield Row(
        what=f"HTTP: {_BATCH:,} tasks in one batch",
        ours=taken,
        goal=Goal.no_more(0.1, Unit.SECONDS),
        note="from the tasks to their handles, with what the client writes; the tasks "
        "begin to run meanwhile",
    )
    rate = Samples.of(rates[1:], Unit.PER_SECOND)
    yield Row(
        what="HTTP: single submissions",
        ours=rate,
        goal=Goal(1_500, Unit.PER_SECOND, at_least=True),
        note=f"{count:,} by {_THREADS} threads of one client, with a token; each has "
        "its handle before the next is sent, and the tasks run meanwhile",
    )


def _settle(client: Client) -> None:
    """Wait until all is done; more than a second, in which the limit of rates ends."""
    while True:
        time.sleep(1.1)
        counts = client.get_stats()["state_machine"]
        if not counts["running"] and not counts["queued"]:
            return


@case("http-events", needs=_NEEDS)
def events(run: Run) -> Iterator[Row]:
    """Fifty clients that follow all events, beside one that does not read."""
    token = secrets.token_urlsafe(32)
    count = run.size(2_000, quick=20)
    rounds = min(run.pairs, 5)
    with Child(served, token=token, count=count) as child:
        port = int(child.sample()["port"])
        stalled = _follow(port, token, receive_buffer=4_096)
        followers = [_Follower(_follow(port, token)) for _ in range(_FOLLOWERS)]
        for one in followers:
            # It is there once it has been told where it begins.
            one.read_until(b"retry:")
        rates: list[float] = []
        with ThreadPoolExecutor(1) as thread:
            for number in range(1, rounds + 2):
                working = thread.submit(child.sample)
                wanted = number * count * _EVENTS
                seconds = time_once(lambda wanted=wanted: _read(followers, wanted))
                rates.append(count * _EVENTS * _FOLLOWERS / seconds)
                working.result()
        for one in followers:
            one.check((rounds + 1) * count * _EVENTS)
        stalled.close()
    rate = Samples.of(rates[1:], Unit.PER_SECOND)
    yield Row(
        what=f"HTTP: events to {_FOLLOWERS} clients",
        ours=rate,
        goal=Goal(20_000, Unit.PER_SECOND, at_least=True),
        note=f"{count * _EVENTS:,} events of {count:,} tasks, to each, as Server-Sent "
        "Events; none was lost, and another client did not read at all",
    )


def _follow(port: int, token: str, *, receive_buffer: int = 0) -> socket.socket:
    """A connection over which all events come."""
    found = socket.socket()
    if receive_buffer:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    found.settimeout(60.0)
    found.connect(("127.0.0.1", port))
    found.sendall(
        f"GET /api/v1/events/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    return found


class _Follower:
    """A client that keeps what it is sent, and counts the events."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.heard = bytearray()
        self.count = 0

    def read(self) -> None:
        found = self.connection.recv(1 << 18)
        if not found:
            raise RuntimeError("the service has ended a stream")
        since = max(0, len(self.heard) - len(_MARK) + 1)
        self.heard += found
        self.count += self.heard.count(_MARK, since)

    def read_until(self, text: bytes) -> None:
        while text not in self.heard:
            self.read()

    def check(self, count: int) -> None:
        """Refuse a stream in which one is missing, is there twice, or is late."""
        numbers = [
            int(line[4:].partition(b"-")[0])
            for line in bytes(self.heard).split(b"\n")
            if line.startswith(b"id: ")
        ]
        # The first says where the stream begins.
        if numbers[1:] != sorted({*numbers[1:]}) or len(numbers) != count + 1:
            raise RuntimeError("events were lost, or came twice")
        if b"events_missed" in self.heard:
            raise RuntimeError("events were missed")


_MARK = b"\nevent: "


def _read(followers: list[_Follower], count: int) -> None:
    """Until each has heard of so many."""
    with selectors.DefaultSelector() as selector:
        for one in followers:
            selector.register(one.connection, selectors.EVENT_READ, one)
        left = len(followers)
        while left:
            for key, _ in selector.select(60.0):
                one: _Follower = key.data
                one.read()
                if one.count >= count:
                    selector.unregister(one.connection)
                    left -= 1
