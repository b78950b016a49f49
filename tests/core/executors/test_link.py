"""A link that loses, doubles and delays bytes, and is cut: no result is another's."""

from __future__ import annotations

import json
import logging
import pickle
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from random import Random
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch.api.executors.link import Link
from taskorch.core.executors import wire
from taskorch.ext.hosts import _host
from taskorch.ext.hosts._certificate import certificates_in, made_certificate
from taskorch.ext.hosts._connection import (
    Stream,
    introduce,
    versions,
    within_tls,
)
from taskorch.ext.hosts._engine import Engine, HostEnded, HostPlace
from taskorch.ext.hosts._hosts import Hosts
from taskorch.kit.loop import Loop
from taskorch.model import Call, Task
from taskorch.testing.laws._attempt_executor import Try

ONE = (1).to_bytes(wire.NUMBER)


class Ends:
    """The two ends of a link, on one loop: what they hear, and why they have ended."""

    def __init__(self, stack: ExitStack, lease: float | None = None) -> None:
        self.loop, self._is_over = Loop(), threading.Event()
        self.socks = socket.socketpair()
        self.given: dict[bytes, int] = {}
        self.heard: list[tuple[int, bytes, bytes]] = []
        self.why: list[str] = []
        self.hear: Callable[[Any], object] = self.heard.append
        self.link = Link(
            self.loop,
            self.socks[0],
            self.given,
            self._hear,
            self.why.append,
            lease,
        )
        self.loop.open()
        self.link.open()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        stack.callback(self._close)

    def _hear(self, *frame: Any) -> None:
        self.hear(frame)

    def _run(self) -> None:
        self.loop.run(self._is_over.is_set)
        self.link.close()
        self.loop.close()

    def _close(self) -> None:
        self.loop.call(self._is_over.set)
        self._thread.join(PATIENCE)
        self.socks[1].close()

    def say(self, *frames: bytes) -> None:
        self.socks[1].sendall(b"".join(frames))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_what_is_answered_without_a_question_ends_it_and_no_more_is_heard(
    stack: ExitStack,
) -> None:
    ends = Ends(stack)
    ends.given[ONE] = 1
    ends.say(
        wire.frame(wire.END, ONE, b"ours"),
        wire.frame(wire.END, bytes(wire.NUMBER), b"nobody's"),
        wire.frame(wire.END, ONE, b"again"),
    )
    eventually(lambda: ends.why)
    assert ends.why == ["it has answered what it was not asked"]
    assert ends.heard == [(wire.END, ONE, b"ours")]
    assert ends.link.is_garbled
    assert ends.socks[1].recv(1) == b""


def test_what_cannot_be_read_ends_it_and_is_in_the_log(
    stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    """Else what came with it would never be heard, and waited for without end."""
    ends = Ends(stack)

    def hear(frame: object) -> None:
        raise ValueError(frame)

    ends.hear = hear
    with caplog.at_level(logging.ERROR):
        ends.say(wire.frame(wire.LOGGED, ONE), wire.frame(wire.LOGGED, ONE))
        eventually(lambda: ends.why)
    assert ends.why == ["what has come over it cannot be read"]
    assert "cannot be read" in caplog.text


def lives_on_signs(ends: Ends, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not ends.why:
        ends.say(wire.frame(wire.ALIVE, wire.NOBODY))
        time.sleep(0.01)
    return not ends.why


def test_who_gives_signs_of_life_is_not_lost_and_gets_some(stack: ExitStack) -> None:
    # Where this machine stands still for so long, nobody can hear anything.
    tries = (Ends(stack, lease=0.3) for _ in range(20))
    ends = next(each for each in tries if lives_on_signs(each, 0.7))
    assert ends.heard == []
    beats = wire.Frames().feed(ends.socks[1].recv(2**16))
    assert {kind for kind, _, _ in beats} == {wire.ALIVE}
    assert len(beats) >= 2


def test_who_is_silent_for_its_lease_is_gone(stack: ExitStack) -> None:
    began = time.monotonic()
    ends = Ends(stack, lease=0.3)
    eventually(lambda: ends.why)
    assert time.monotonic() - began >= 0.3
    assert ends.why[0].startswith("nothing was heard for ")


def test_who_says_a_byte_now_and_then_is_gone_too(stack: ExitStack) -> None:
    """A frame of a thousand bytes would take an hour."""
    ends = Ends(stack, lease=0.3)
    for byte in wire.frame(wire.LOGGED, ONE, b"x" * 900):
        with suppress(OSError):
            ends.say(bytes([byte]))
        if ends.why:
            break
        time.sleep(0.02)
    assert ends.why[0].startswith("nothing was heard for ")
    large = Ends(stack, lease=PATIENCE)
    large.say(wire.frame(wire.LOGGED, ONE, b"x" * 100_000)[:50_000])
    large.say(wire.frame(wire.LOGGED, ONE, b"x" * 100_000)[50_000:])
    eventually(lambda: large.heard)


def test_who_greets_a_byte_at_a_time_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("taskorch.ext.hosts._connection._PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        is_over = threading.Event()

        def drip() -> None:
            for byte in wire.frame(wire.CHALLENGE, wire.NOBODY, b"x" * 900):
                with suppress(OSError):
                    theirs.sendall(bytes([byte]))
                if is_over.wait(0.02):
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            with pytest.raises(TimeoutError, match=r"has not answered in 0\.3 s"):
                Stream(ours).take(wire.CHALLENGE)
        finally:
            is_over.set()
            dripping.join()


def test_who_may_be_silent_is_not_lost_by_that(stack: ExitStack) -> None:
    def silent() -> Ends:
        ends = Ends(stack, lease=0.1)
        ends.link.may_be_silent = True
        return ends

    # Where this machine stands still for so long, it is said too late.
    ends = next(each for each in (silent() for _ in range(20)) if not each.why)
    time.sleep(0.4)
    assert ends.why == []
    ends.link.may_be_silent = False
    eventually(lambda: ends.why)


def test_within_tls_much_goes_both_ways_at_once(stack: ExitStack) -> None:
    """On several threads, and through sockets that are full."""
    files = stack.enter_context(made_certificate(None))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*files)
    client = _host._trusting(certificates_in(files[0]))
    near, far = socket.socketpair()
    loop, is_over = Loop(), threading.Event()
    loop.open()
    socks = [
        within_tls(near, server, is_server=True),
        within_tls(far, client, is_server=False),
    ]
    threads = [threading.Thread(target=sock.do_handshake) for sock in socks]
    for sock, thread in zip(socks, threads, strict=True):
        sock.settimeout(PATIENCE)
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    heard: list[list[tuple[int, bytes]]] = [[], []]
    why: list[str] = []
    links = [
        Link(
            loop,
            sock,
            (),
            lambda _, n, body, to=to: to.append((n[-1], body)),
            why.append,
        )  # type: ignore[misc]
        for sock, to in zip(socks, heard, strict=True)
    ]
    for link in links:
        link.open()

    def say(link: Link, first: int) -> None:
        for number in range(first, first + 10):
            link.send(wire.TOLD, bytes([0] * 7 + [number]), bytes([number]) * 150_000)

    talking = [
        threading.Thread(target=say, args=(link, first))
        for link in links
        for first in (0, 10, 20)
    ]
    looping = threading.Thread(target=loop.run, args=(is_over.is_set,), daemon=True)
    for thread in [*talking, looping]:
        thread.start()
    eventually(lambda: all(len(bodies) == 30 for bodies in heard))
    for bodies in heard:
        assert sorted(number for number, _ in bodies) == [*range(30)]
        assert all(body == bytes([number]) * 150_000 for number, body in bodies)
    assert why == []
    loop.call(links[0].close)
    eventually(lambda: why == ["it was closed from there"])
    loop.call(is_over.set)
    looping.join(PATIENCE)
    loop.close()


# -- hosts at the other end of a bad wire ----------------------------------------------


class BadWire:
    """Hands on what comes from one socket to another: not all of it, or more than that."""

    def __init__(self, dice: Random, *socks: socket.socket) -> None:
        self._dice, self._socks = dice, socks
        for here, there in (socks, socks[::-1]):
            args = (Random(dice.random()), here, there)
            threading.Thread(target=self._hand_on, args=args, daemon=True).start()

    def _hand_on(self, dice: Random, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while data := here.recv(dice.choice([7, 100, 2**16])):
                fault = dice.choices(
                    ["", "delay", "cut", "drop", "double"], [90, 6, 2, 1, 1]
                )[0]
                at = dice.randrange(len(data) + 1)
                until = dice.randrange(at, len(data) + 1)
                if fault == "delay":
                    time.sleep(dice.random() / 100)
                elif fault == "cut":
                    there.sendall(data[:at])
                    break
                elif fault == "drop":
                    data = data[:at] + data[until:]
                elif fault == "double":
                    data = data[:until] + data[at:]
                there.sendall(data)
                if fault in {"drop", "double"}:
                    # Such a wire does not last.
                    time.sleep(dice.random() / 20)
                    break
        self.cut()

    def cut(self) -> None:
        for sock in self._socks:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class OnBadWires(Engine):
    """Its hosts make calls themselves, at the other end of a bad wire each."""

    name: str = "the test"

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.starts = 0
        #: How often each call was made, by what it was given.
        self.made: Counter[int] = Counter()
        self._stack = ExitStack()

    def open(self) -> None:
        """There is nothing to connect to."""

    def addresses(self) -> Sequence[str]:
        return ("127.0.0.1",)

    def place(self, taken: Sequence[Any]) -> HostPlace:
        return HostPlace(2)

    def start(self, place: HostPlace, arguments: bytes, ended: HostEnded) -> Any:
        self.starts += 1
        run = partial(self._run, pickle.loads(arguments), Random(self.dice.random()))
        threading.Thread(target=lambda: ended(run()), daemon=True).start()

    def _run(self, arguments: Mapping[str, Any], dice: Random) -> str:
        (address,) = arguments["addresses"]
        sock = socket.create_connection(address, PATIENCE)
        stream = Stream(sock)
        introduce(stream, arguments["number"], arguments["secret"])
        hello = json.dumps({**versions(), "pid": 1, "node": "bad"}).encode()
        stream.put(wire.READY, wire.NOBODY, hello)
        stream.take(wire.BEGIN, most=wire.MOST_BYTES)
        sock.settimeout(None)
        near, far = socket.socketpair()
        between = BadWire(dice, sock, far)
        with sock, near, far, suppress(OSError):
            self._work(near, dice)
        between.cut()
        return "its wire was bad"

    def _work(self, sock: socket.socket, dice: Random) -> None:
        frames, waiting = wire.Frames(), list[tuple[bytes, bytes]]()
        while True:
            data = b""
            # It may leave some for later.
            sock.settimeout(0.002 if waiting else None)
            with suppress(TimeoutError):
                if not (data := sock.recv(2**16)):
                    return
            for kind, number, body in frames.feed(data):
                if kind == wire.CALL:
                    size = 2 + int.from_bytes(body[:2])
                    waiting.append((number, body[size:]))
                elif kind == wire.GIVE_BACK and number in dict(waiting):
                    waiting = [one for one in waiting if one[0] != number]
                    sock.sendall(wire.frame(wire.GIVEN_BACK, number))
                elif kind == wire.LEAVE:
                    return
            if frames.is_garbled:
                return
            dice.shuffle(waiting)
            while waiting and dice.random() < 0.8:
                number, call = waiting.pop()
                end = pickle.loads(call)()
                self.made[pickle.loads(end.data)[0]] += 1
                sock.sendall(wire.frame(wire.END, number, pickle.dumps((end, None))))
                if dice.random() < 0.02:
                    # It is killed between two steps.
                    return

    def end(self, handle: Any) -> None:
        """They end by themselves."""

    def keep(self, handle: Any, number: bytes, done: Any) -> None:
        raise NotImplementedError

    def bring(self, handle: Any, asked: Any, reference: Any, failed: Any) -> None:
        raise NotImplementedError

    def fetch(self, reference: Any) -> bytes:
        raise NotImplementedError

    def run_one(self, call: tuple[bytes, bytes], needs: Any, done: Any) -> Any:
        raise NotImplementedError

    def cancel_one(self, handle: Any, *, force: bool) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """There is nothing to let go of."""

    def findings(self) -> Sequence[tuple[str, str]]:
        return ()


def own(number: int, much: bytes) -> tuple[int, int, bytes]:
    return number, number * number, much


@contextmanager
def hosts_on(engine: Engine) -> Iterator[Hosts]:
    limits: dict[str, Any] = {"idle": 300, "lease": PATIENCE, "patience": PATIENCE}
    executor = Hosts(engine, hosts=(0, 3), tls=None, keeps_above=None, **limits)
    try:
        yield executor
    finally:
        executor.close(PATIENCE)


def expect_own_results_over_bad_wires(seed: int, calls: int) -> int:
    """Make *calls*, those that are lost again; how many hosts it took."""
    engine, dice = OnBadWires(seed), Random(seed)
    with hosts_on(engine) as hosts:
        attempts: list[Try] = []

        def begin(number: int) -> Try:
            much = bytes([number % 256]) * dice.choice([0, 10, 5_000])
            attempt = Try(Task("t", Call(own, (number, much)), id=f"t{number}"))
            attempts.append(attempt)
            hosts.begin(attempt)
            return attempt

        under_way = {number: begin(number) for number in range(calls)}
        results: dict[int, Any] = {}
        while under_way:
            number, attempt = next(iter(under_way.items()))
            assert attempt.wait(PATIENCE)
            ((end, error),) = attempt.ends
            if error is None:
                results[number] = end
                del under_way[number]
            else:
                assert isinstance(error, BrokenExecutor), error
                under_way[number] = begin(number)
        for number, (whose, square, much) in results.items():
            assert (whose, square) == (number, number * number)
            assert set(much) <= {number % 256}
    # Nothing has come to a second end, and what has counted was made.
    assert all(len(attempt.ends) == 1 for attempt in attempts)
    assert all(engine.made[number] >= 1 for number in range(calls))
    return engine.starts


@pytest.mark.parametrize("seed", range(2))
def test_over_a_bad_wire_each_call_has_its_own_result_once(seed: int) -> None:
    expect_own_results_over_bad_wires(seed, 60)


@pytest.mark.slow("twelve wires, 400 calls each")
@pytest.mark.timeout(600)
def test_over_many_bad_wires_too() -> None:
    assert (
        sum(expect_own_results_over_bad_wires(seed, 400) for seed in range(20, 32)) > 50
    )
