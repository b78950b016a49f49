"""Hosts that do not keep to what was agreed, and the engine that places them."""

from __future__ import annotations

import json
import pickle
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import Task, TaskOrchestrator
from taskorch.core.executors import wire
from taskorch.ext.hosts._connection import Stream, introduce, versions
from taskorch.ext.hosts._engine import Asked, Engine, HostEnded, HostPlace
from taskorch.ext.hosts._host import RunningHost
from taskorch.ext.hosts._hosts import Hosts

#: What a host that is no good does with its first call: its connection, and the number.
Odd = Callable[[Stream, bytes], object]


class OnThreads(Engine):
    """Its first host is odd; later ones are as they should be, and on threads."""

    name: str = "the test"

    def __init__(self, odd: Odd) -> None:
        self.odd = odd
        self.starts = 0
        self.told: list[Sequence[tuple[str, int]]] = []
        self.lost = threading.Event()
        #: For what a host waits before it starts.
        self.until: Callable[[], object] = bool
        #: Tells that the first has ended, though it has not.
        self.say_ended: Callable[[str], object] = str
        #: By which names hosts know this machine, one after the other.
        self.names = ["127.0.0.1"]

    def open(self) -> None:
        """There is nothing to connect to."""

    def addresses(self) -> Sequence[str]:
        return (self.names[min(self.starts, len(self.names) - 1)],)

    def place(self, taken: Sequence[Any]) -> HostPlace:
        return HostPlace(1)

    def start(self, place: HostPlace, arguments: bytes, ended: HostEnded) -> Any:
        self.until()
        self.starts += 1
        self.told.append(pickle.loads(arguments)["addresses"])
        run = RunningHost(arguments).run
        if self.starts == 1:
            self.say_ended = ended
            run = partial(self._run_odd, pickle.loads(arguments))
        threading.Thread(target=lambda: ended(run()), daemon=True).start()

    def _run_odd(self, given: Mapping[str, Any]) -> str:
        (address,) = given["addresses"]
        with socket.create_connection(address, PATIENCE) as sock:
            stream = Stream(sock)
            introduce(stream, given["number"], given["secret"])
            hello = json.dumps({**versions(), "pid": 1, "node": "odd"}).encode()
            stream.put(wire.READY, wire.NOBODY, hello)
            sock.settimeout(PATIENCE)
            stream.take(wire.BEGIN, most=wire.MOST_BYTES)
            kind, number = wire.ALIVE, b""
            while kind != wire.CALL:
                kind, number, _ = stream.take(wire.ALIVE, wire.CALL)
            self.odd(stream, number)
            with suppress(OSError):
                while sock.recv(1):
                    pass
        self.lost.set()
        return "it was odd"

    def end(self, handle: Any) -> None:
        """They end by themselves."""

    def keep(self, handle: Any, number: bytes, done: Any) -> None:
        raise NotImplementedError

    def bring(self, handle: Any, asked: Asked, reference: Any, failed: Any) -> None:
        raise NotImplementedError

    def fetch(self, reference: Any) -> bytes:
        raise NotImplementedError

    def run_one(self, call: tuple[bytes, bytes], needs: Any, done: Any) -> Any:
        done((bytes(wire.NUMBER), "of another"), None)
        return self

    def cancel_one(self, handle: Any, *, force: bool) -> None:
        """It is over."""

    def close(self) -> None:
        """There is nothing to let go of."""

    def findings(self) -> Sequence[tuple[str, str]]:
        return ()


@contextmanager
def on(engine: Engine, most: int | None = 1) -> Iterator[TaskOrchestrator]:
    limits: dict[str, Any] = {"idle": 300, "lease": PATIENCE, "patience": PATIENCE}
    executor = Hosts(engine, hosts=(0, most), tls=None, keeps_above=None, **limits)
    with TaskOrchestrator(executors={"there": executor}) as orch:
        yield orch


def other(number: bytes) -> bytes:
    return (int.from_bytes(number) + 1_000).to_bytes(wire.NUMBER)


def end(stream: Stream, number: bytes) -> None:
    stream.put(wire.END, number, pickle.dumps((7, None)))


def say_unstarted(stream: Stream, number: bytes) -> None:
    body = pickle.dumps((None, ValueError("of another")))
    stream.put(wire.UNSTARTED, number, body)


def give_back(stream: Stream, number: bytes) -> None:
    stream.put(wire.GIVEN_BACK, number)


@pytest.mark.parametrize("answer", [end, say_unstarted, give_back])
def test_a_host_that_answers_what_it_was_not_asked_is_lost(answer: Odd) -> None:
    """And what it has been given is made again elsewhere."""
    engine = OnThreads(lambda stream, number: answer(stream, other(number)))
    with on(engine) as orch:
        handle = orch.submit_task(Task.call(pow, 2, 3, executor="there"))
        assert handle.result(PATIENCE) == 8
        assert orch.get_task_status(handle.task_id).attempts == 2
        assert engine.lost.wait(PATIENCE)
    assert engine.starts == 2


def test_a_host_that_is_lost_to_its_engine_is_heard_no_more() -> None:
    """Though it goes on, and answers: its calls are made elsewhere by then."""

    def answer_late(stream: Stream, number: bytes) -> None:
        engine.say_ended("its node has gone")
        with suppress(OSError):
            while stream.sock.recv(100):
                pass
            end(stream, number)

    engine = OnThreads(answer_late)
    with on(engine) as orch:
        handle = orch.submit_task(Task.call(pow, 2, 3, executor="there"))
        assert handle.result(PATIENCE) == 8
        assert orch.get_task_status(handle.task_id).attempts == 2
        assert engine.lost.wait(PATIENCE / 4)


def test_a_call_that_must_not_run_twice_waits_for_its_turn_elsewhere() -> None:
    """So a host that is lost takes only the call along that it has begun."""
    engine = OnThreads(lambda stream, _: stream.sock.shutdown(socket.SHUT_RDWR))
    both = threading.Event()
    engine.until = lambda: both.wait(PATIENCE)
    with on(engine) as orch:
        task = Task.call(pow, 2, 3, executor="there", idempotent=False)
        handles = [orch.submit_task(task) for _ in range(2)]
        eventually(lambda: {each.status.state for each in handles} == {"running"})
        both.set()
        eventually(lambda: handles[0].status.state == "blocked")
        eventually(lambda: handles[1].status.state in ("blocked", "completed"))
        assert (handles[1].status.state, handles[1].status.attempts) == ("completed", 1)


def test_hosts_know_this_machine_by_the_name_that_it_has_when_they_start() -> None:
    engine = OnThreads(lambda stream, number: end(stream, other(number)))
    engine.names = ["127.0.0.1", "localhost"]
    with on(engine) as orch:
        handle = orch.submit_task(Task.call(pow, 2, 3, executor="there"))
        assert handle.result(PATIENCE) == 8
    assert [name for (name, _), *_ in engine.told] == engine.names


def test_what_it_ends_a_second_time_is_not_heard() -> None:
    def end_twice(stream: Stream, number: bytes) -> None:
        end(stream, number)
        end(stream, number)

    engine = OnThreads(end_twice)
    with on(engine) as orch:
        first = orch.submit_task(Task.call(pow, 2, 3, executor="there"))
        # The orchestrator cannot know better than its host.
        assert first.result(PATIENCE) == 7
        assert engine.lost.wait(PATIENCE)
        second = orch.submit_task(Task.call(pow, 2, 4, executor="there"))
        assert second.result(PATIENCE) == 16


def test_a_task_of_the_engine_that_is_of_another_number_is_no_result() -> None:
    with on(OnThreads(end), most=0) as orch:
        handle = orch.submit_task(Task.call(pow, 2, 3, executor="there"))
        assert "the test has mixed up two calls" in str(handle.exception(PATIENCE))
