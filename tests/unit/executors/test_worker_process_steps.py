"""One worker as we see it, step by step: its wire, its messages, its end."""

# pyright: basic

import gc
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from taskorch.executors._processes import _process, _wire
from taskorch.executors._processes._process import Assignment, WorkerProcess
from taskorch.executors._processes._wire import Frames, frame
from taskorch.model._program import PROGRAM_VARIABLE, RUN_VARIABLE


class Noted:
    """A loop that does nothing, and what it was asked to do."""

    def __init__(self):
        self.called, self.times, self.unwatched = [], [], []
        self.watched = {}
        self.call = self.called.append
        self.unwatch = self.unwatched.append

    def at(self, when, action):
        self.times.append((when, action))

    def watch(self, fd, action, *, write=False):
        self.watched[fd] = action, write


class Worker:
    """A worker without a process, of whose sockets the test has the other ends."""

    def __init__(self):
        self.loop, self.heard, self.ended = Noted(), [], []
        self.process = WorkerProcess(
            self.loop,
            "mark",
            "run",
            lambda worker, kind, body: self.heard.append((worker, kind, body)),
            self.ended.append,
        )
        self.process._wire, self.wire = socket.socketpair()
        kind = socket.SOCK_DGRAM
        pair = socket.socketpair(socket.AF_UNIX, kind)
        self.process._ours, self.process._theirs = pair
        self.fd = self.process._wire.fileno()
        self.wire.setblocking(False)
        self.all = [self.process._wire, self.wire, *pair]

    def read(self):
        """What has been sent to it over the wire, and is there."""
        data = b""
        try:
            while piece := self.wire.recv(2**16):
                data += piece
        except BlockingIOError:
            pass
        return data


@pytest.fixture
def worker():
    found = Worker()
    yield found
    for there in (*found.all, found.process._writer):
        if there is not None:
            there.close()


@pytest.fixture
def killed(monkeypatch):
    """The groups that were killed, which are not."""
    found = []
    monkeypatch.setattr(_process.os, "killpg", lambda *given: found.append(given))
    return found


def test_one_that_was_made_has_done_nothing(worker):
    process = worker.process
    assert not process.is_ready
    assert not process.is_leaving
    assert not process.is_mute
    assert process.exit_code is None
    given = Assignment(None, b"1", b"call")
    assert not given.is_asked
    assert not given.is_over


# -- the wire --------------------------------------------------------------------------


def test_what_there_is_room_for_is_sent_at_once(worker):
    worker.process.send(_wire.STOP, b"num", b"ber")
    assert worker.read() == frame(_wire.STOP, b"number")
    assert worker.loop.called == []


def test_the_rest_is_sent_in_order_once_there_is_room(worker):
    process, loop = worker.process, worker.loop
    large = os.urandom(2**21)
    process.send(_wire.CALL, large)
    process.send(_wire.STOP, b"after")
    process.send(_wire.ANSWER, b"that")
    assert loop.called == [process._watch_room]
    process._watch_room()
    (fd,) = loop.watched
    assert loop.watched[fd] == (process._write, True)
    # It is watched for what comes besides.
    assert fd != worker.fd
    process._watch_room()
    assert list(loop.watched) == [fd]
    # There is no room yet.
    process._write()
    data, frames, found = b"", Frames(), []
    while loop.unwatched == []:
        data = worker.read()
        found += frames.feed(data)
        process._write()
    found += frames.feed(worker.read())
    assert found == [
        (_wire.CALL, large),
        (_wire.STOP, b"after"),
        (_wire.ANSWER, b"that"),
    ]
    assert loop.unwatched == [fd]
    assert process._writer is None
    process.send(_wire.STOP, b"again")
    assert worker.read() == frame(_wire.STOP, b"again")
    assert loop.called == [process._watch_room]


def test_where_nothing_waits_for_room_none_is_watched_for(worker):
    worker.process._watch_room()
    assert worker.loop.watched == {}
    worker.process._unsent = memoryview(b"rest")
    wire, worker.process._wire = worker.process._wire, None
    worker.process._watch_room()
    assert worker.loop.watched == {}
    worker.process._wire = wire


def test_what_nobody_reads_any_more_is_dropped(worker):
    """That it is dying is seen by its end."""
    process = worker.process
    process.send(_wire.CALL, bytes(2**21))
    process._watch_room()
    fd = process._writer.fileno()
    worker.wire.close()
    process._write()
    assert not process._unsent
    assert process._writer is None
    assert worker.loop.unwatched == [fd]
    process.send(_wire.STOP, b"number")
    assert worker.loop.called == [process._watch_room]
    process._wire.close()
    process._wire = None
    process.send(_wire.STOP, b"number")
    assert not process._unsent


def test_what_comes_is_heard(worker):
    process = worker.process
    worker.wire.send(frame(_wire.READY) + frame(_wire.END, b"end")[:5])
    assert process._read() is True
    assert worker.heard == [(process, _wire.READY, b"")]
    assert process._read() is False
    worker.wire.send(frame(_wire.END, b"end")[5:])
    assert process._read() is True
    assert worker.heard[1:] == [(process, _wire.END, b"end")]
    assert not process.is_leaving
    assert worker.loop.unwatched == worker.loop.times == []


@pytest.mark.parametrize("how", ["closed", "broken"])
def test_one_that_has_closed_the_wire_has_a_moment_to_exit(worker, how):
    process = worker.process
    if how == "closed":
        worker.wire.close()
    else:

        class Broken:
            """A wire of which the system says that it was reset."""

            fileno = process._wire.fileno

            def recv(self, *_):
                raise ConnectionResetError

        process._wire = Broken()
    before = time.monotonic()
    assert process._read() is False
    assert process.is_leaving
    assert worker.loop.unwatched == [worker.fd]
    ((when, action),) = worker.loop.times
    assert before + 0.5 <= when <= time.monotonic() + 0.5
    assert action == process._kill_mute
    process._wire = None
    assert process._read() is False
    assert len(worker.loop.times) == 1


def test_what_is_no_frame_ends_it_before_what_it_said_is_heard(worker, killed):
    """Or it would be given more to do."""
    process = worker.process
    process._process = SimpleNamespace(pid=4711)
    seen = []
    process._heard = lambda *given: seen.append((process.is_leaving, *given[1:]))
    worker.wire.send(frame(_wire.END, b"end") + b"rubbish")
    assert process._read() is False
    assert process.is_garbled
    assert seen == [(True, _wire.END, b"end")]
    assert killed == [(4711, signal.SIGKILL)]
    assert worker.loop.unwatched == [worker.fd]


# -- calls -----------------------------------------------------------------------------


def message(worker):
    return worker.process._theirs.recv(2**18, socket.MSG_DONTWAIT)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("size", [1, _wire.SMALL])
def test_a_small_call_is_a_message(worker, size, ahead):
    given = Assignment(None, b"number 1", b"x" * size)
    assert worker.process.give(given, ahead=ahead) is True
    assert message(worker) == b"number 1" + b"x" * size
    assert worker.read() == b""
    assert given.call


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_large_call_goes_over_the_wire_and_never_ahead(worker, is_refused):
    """As one that is too long for the system."""
    call = b"x" * (_wire.SMALL + (not is_refused))
    given = Assignment(None, b"number 1", call)
    if is_refused:
        worker.process._theirs.close()
    assert worker.process.give(given, ahead=True) is False
    assert worker.read() == b""
    assert given.call == call
    assert worker.process.give(given) is True
    assert worker.read() == frame(_wire.CALL, b"number 1", call)
    assert given.call == b""


def test_what_it_has_not_read_is_taken_back(worker):
    process = worker.process
    for number in (b"number 1", b"number 2", b"number 3"):
        process.give(Assignment(None, number, b"call"))
    assert message(worker) == b"number 1call"
    assert process.take_back() == {b"number 2", b"number 3"}
    assert process.take_back() == set()
    with pytest.raises(BlockingIOError):
        message(worker)


def test_once_the_messages_are_closed_there_are_none(worker):
    process = worker.process
    process.give(Assignment(None, b"number 1", b"call"))
    process.close_messages()
    assert process.take_back() == set()
    assert [there.fileno() for there in worker.all[2:]] == [-1, -1]
    process.close_messages()


# -- its end ---------------------------------------------------------------------------


def test_who_is_to_leave_sees_the_end_of_the_wire_and_is_killed_later(worker):
    process = worker.process
    before = time.monotonic()
    process.leave()
    assert process.is_leaving
    assert worker.wire.recv(1) == b""
    ((when, action),) = worker.loop.times
    assert before + 1.0 <= when <= time.monotonic() + 1.0
    assert action == process.kill
    # What it says until then is heard.
    worker.wire.send(frame(_wire.END, b"end"))
    assert process._read()
    assert worker.heard


def test_who_is_to_leave_may_have_left(worker):
    worker.process._wire.close()
    worker.process.leave()
    worker.process._wire = None
    worker.process.leave()
    assert len(worker.loop.times) == 2


def test_only_one_that_is_there_is_killed(worker, killed):
    """Its number may be another's before, and after."""
    process = worker.process
    process.kill()
    assert killed == []
    process._process = SimpleNamespace(pid=4711)
    process.kill()
    assert killed == [(4711, signal.SIGKILL)]
    process._is_over = True
    process.kill()
    assert killed == [(4711, signal.SIGKILL)]


def test_to_kill_one_that_has_gone_is_no_error(worker, monkeypatch):
    def gone(*_):
        raise ProcessLookupError

    monkeypatch.setattr(_process.os, "killpg", gone)
    worker.process._process = SimpleNamespace(pid=4711)
    worker.process.kill()


@pytest.mark.parametrize("has_wire", [True, False])
@pytest.mark.parametrize("has_call", [True, False])
def test_mute_is_who_closed_the_wire_with_a_call_to_make(
    worker, has_wire, has_call, killed
):
    process = worker.process
    process._process = SimpleNamespace(pid=4711)
    if not has_wire:
        process._wire = None
    if has_call:
        process.assignment = Assignment(None, b"1", b"call")
    process._kill_mute()
    assert process.is_mute is (has_wire and has_call)
    assert killed == [(4711, signal.SIGKILL)]


def test_where_the_system_tells_no_end_it_is_looked_for_until_it_came(worker):
    process, looks = worker.process, iter([False, False, True])
    process._look = lambda: next(looks)
    for number in (1, 2):
        before = time.monotonic()
        process._look_again()
        assert len(worker.loop.times) == number
        when, action = worker.loop.times[-1]
        assert before + 0.02 <= when <= time.monotonic() + 0.02
        assert action == process._look_again
    process._look_again()
    assert len(worker.loop.times) == 2


class Left:
    """What a worker has left, which is gone after some looks."""

    looks = 0
    made = ()

    def __init__(self, family, asked_at):
        Left.made = family, asked_at
        self.left = Left.looks

    def end(self, kill_at):
        assert kill_at <= time.monotonic()
        self.left -= 1
        return kill_at + 5 if self.left >= 0 else None


@pytest.fixture
def dying(worker, monkeypatch):
    """A worker of which the test says how it has ended."""
    monkeypatch.setattr(_process, "Leftovers", Left)
    monkeypatch.setattr(Left, "looks", 0)
    waits = []
    worker.process._process = SimpleNamespace(pid=4711, wait=lambda: waits.append(1))
    worker.waits, worker.code = waits, 3

    def exit_code_of(process):
        assert process is worker.process._process
        if isinstance(worker.code, Exception):
            raise worker.code
        return worker.code

    monkeypatch.setattr(_process, "exit_code_of", exit_code_of)
    return worker


def test_one_that_has_not_ended_is_left_as_it_is(dying):
    dying.code = None
    assert dying.process._look() is False
    assert dying.process._wire is not None
    assert not dying.process.is_leaving
    assert dying.ended == []


@pytest.mark.parametrize("code", [0, 3, -9, ChildProcessError()])
def test_what_it_said_last_is_heard_before_its_end_is_told(dying, code, killed):
    process = dying.process
    dying.code = code
    process.exit_code = 7
    # More than is read at a time.
    bodies = [bytes([n]) * 50_000 for n in range(3)]
    process._wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
    dying.wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
    for body in bodies:
        dying.wire.send(frame(_wire.END, body))
    process._heard = lambda _, kind, body: dying.heard.append((body, dying.ended[:]))
    assert process._look() is True
    assert dying.heard == [(body, []) for body in bodies]
    assert process.exit_code == (code if isinstance(code, int) else None)
    assert process.is_leaving
    assert dying.ended == [process]
    assert dying.waits == [1]
    assert dying.fd in dying.loop.unwatched
    assert process._wire is None
    process.kill()
    assert killed == []


def test_rubbish_is_not_read_on(dying, killed):
    dying.wire.send(b"rubbish")
    assert dying.process._look() is True
    assert dying.process.is_garbled
    assert dying.ended == [dying.process]


def test_all_it_has_left_is_gone_before_its_end_is_told(dying, monkeypatch, killed):
    """Until then it stays a zombie, and its number is its own."""
    monkeypatch.setattr(Left, "looks", 2)
    process = dying.process
    assert process._look() is True
    family, asked_at = Left.made
    assert asked_at is None
    assert family.group == 4711
    assert family._mark == f"{PROGRAM_VARIABLE}=mark".encode()
    for _ in range(2):
        assert dying.ended == dying.waits == []
        when, again = dying.loop.times.pop()
        assert when > time.monotonic() + 4
        again()
    assert dying.ended == [process]
    assert dying.waits == [1]


def test_closed_nothing_of_it_is_open_or_watched(worker):
    process, loop = worker.process, worker.loop
    process.send(_wire.CALL, bytes(2**21))
    process._watch_room()
    writer = process._writer
    writer_fd = writer.fileno()
    pidfd = process._pidfd = os.open(os.devnull, os.O_RDONLY)
    process._close()
    assert sorted(loop.unwatched) == sorted([worker.fd, writer_fd, pidfd])
    assert writer.fileno() == worker.all[0].fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pidfd)
    assert process._pidfd < 0
    assert not process._unsent
    assert process._wire is process._writer is None
    process._close()
    assert len(loop.unwatched) == 3


@pytest.mark.parametrize("act", ["_close", "disown"])
@pytest.mark.parametrize(("pidfd", "closed"), [(-1, []), (0, [0]), (1, [1])])
def test_its_handle_is_closed_once_whatever_number_it_has(
    worker, act, pidfd, closed, monkeypatch
):
    """Of a process that was started without a standard input, 0 is the first."""
    process, found = worker.process, []
    process._wire = process._ours = process._theirs = None
    assert process._pidfd < 0
    process._pidfd = pidfd
    with monkeypatch.context() as patch:
        patch.setattr(_process.os, "close", found.append)
        getattr(process, act)()
        getattr(process, act)()
    assert found == closed
    assert process._pidfd < 0


def test_in_a_fork_all_that_leads_to_it_is_closed(worker):
    process = worker.process
    process.send(_wire.CALL, bytes(2**21))
    process._watch_room()
    process.disown()
    ours = [worker.all[0], process._writer, *worker.all[2:]]
    assert [there.fileno() for there in ours] == [-1] * 4


@pytest.mark.parametrize("dies", [True, False])
def test_abandoned_it_is_killed_and_waited_for_but_not_for_ever(worker, dies, killed):
    process, waits = worker.process, []

    def wait(seconds):
        waits.append(seconds)
        if not dies:
            raise subprocess.TimeoutExpired("worker", seconds)

    process._process = SimpleNamespace(pid=4711, wait=wait)
    process.abandon()
    assert killed == [(4711, signal.SIGKILL)]
    assert waits == [0.5]
    assert worker.all[0].fileno() == -1


def test_one_that_was_never_started_may_be_abandoned(worker, killed):
    worker.process.abandon()
    assert killed == []
    assert worker.all[0].fileno() == -1


# -- its start -------------------------------------------------------------------------


class Popen:
    """What is started in the place of an interpreter."""

    def __init__(self, words, **options):
        self.words, self.options, self.pid = words, options, os.getpid()
        self.fds = {fd: os.get_inheritable(fd) for fd in options["pass_fds"]}
        Popen.last = self
        if Popen.problem is not None:
            raise Popen.problem

    last = problem = None


@pytest.fixture
def unstarted(monkeypatch):
    monkeypatch.setattr(_process.subprocess, "Popen", Popen)
    monkeypatch.setattr(Popen, "problem", None)
    loop = Noted()
    process = WorkerProcess(loop, "mark", "run", print, print)
    yield process, loop
    process.disown()


def descriptors():
    # What earlier tests have left open is no matter of this one.
    gc.collect()
    return len(list(Path("/dev/fd").iterdir()))


def test_it_is_started_alone_in_its_session_with_its_marks(unstarted):
    process, loop = unstarted
    before, opened = time.monotonic(), descriptors()
    process.start()
    made = Popen.last
    assert process.pid == made.pid
    assert made.words[0] == sys.executable
    *_, path, wire, messages = made.words
    assert json.loads(path) == sys.path
    assert made.options["pass_fds"] == [int(wire), int(messages)]
    assert made.options["start_new_session"] is True
    assert made.options["stdin"] == subprocess.DEVNULL
    env = made.options["env"]
    assert (env[RUN_VARIABLE], env[PROGRAM_VARIABLE]) == ("run", "mark")
    assert env.items() >= {
        (name, value)
        for name, value in os.environ.items()
        if name not in (RUN_VARIABLE, PROGRAM_VARIABLE)
    }
    assert loop.watched[process._wire.fileno()] == (process._read, False)
    if hasattr(os, "pidfd_open"):
        assert loop.watched[process._pidfd] == (process._look, False)
        assert loop.times == []
    else:
        ((when, action),) = loop.times
        assert before < when
        assert action == process._look_again
    # The end of the wire that is its own is closed here.
    assert descriptors() == opened + 3 + hasattr(os, "pidfd_open")


@pytest.mark.parametrize("has_handles", [True, False])
def test_without_a_handle_its_end_is_looked_for(unstarted, has_handles, monkeypatch):
    process, loop = unstarted

    def none_left(_):
        raise OSError(24, "too many open files")

    if has_handles:
        monkeypatch.setattr(_process.os, "pidfd_open", none_left, raising=False)
    else:
        monkeypatch.delattr(_process.os, "pidfd_open", raising=False)
    before = time.monotonic()
    process.start()
    ((when, action),) = loop.times
    assert before + 0.02 <= when <= time.monotonic() + 0.02
    assert action == process._look_again
    assert list(loop.watched) == [process._wire.fileno()]


def test_a_handle_may_have_any_number(unstarted, monkeypatch):
    process, loop = unstarted
    monkeypatch.setattr(_process.os, "pidfd_open", lambda _: 0, raising=False)
    process._process = SimpleNamespace(pid=4711)
    process._watch_end()
    assert loop.watched == {0: (process._look, False)}
    assert loop.times == []
    process._pidfd = -1


def test_it_is_told_first_what_we_have(unstarted, monkeypatch):
    process, _ = unstarted
    sent = []
    monkeypatch.setattr(process, "send", lambda *given: sent.append(given))
    process.start()
    ((kind, body),) = sent
    assert kind == _wire.BEGIN
    assert pickle.loads(body)["argv"] == sys.argv


@pytest.mark.parametrize("problem", [OSError(24, "none left"), KeyboardInterrupt()])
def test_what_was_opened_for_one_that_cannot_be_started_is_closed(
    unstarted, problem, monkeypatch
):
    process, loop = unstarted
    monkeypatch.setattr(Popen, "problem", problem)
    before = descriptors()
    with pytest.raises(type(problem)):
        process.start()
    assert descriptors() == before
    assert loop.watched == {}


def test_nothing_but_an_interpreter_is_started(unstarted, monkeypatch):
    process, _ = unstarted
    monkeypatch.setattr(sys, "executable", "/bin/application")
    with pytest.raises(OSError, match=r"sys\.executable is '/bin/application'"):
        process.start()


@pytest.mark.parametrize(
    ("fields", "name", "path"),
    [
        ({}, None, None),
        ({"__file__": "script.py"}, None, os.path.abspath("script.py")),  # noqa: PTH100
        ({"__file__": "/x/y.py"}, None, "/x/y.py"),
        ({"__spec__": SimpleNamespace(name="a.b")}, "a.b", None),
    ],
)
def test_what_it_gets_of_the_script(fields, name, path, monkeypatch):
    main = ModuleType("__main__")
    main.__dict__.update(fields)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.delitem(sys.modules, "__mp_main__", raising=False)
    found = _process._surroundings()
    assert (found["main_name"], found["main_path"]) == (name, path)
    assert sys.modules["__mp_main__"] is main
    monkeypatch.setitem(sys.modules, "__mp_main__", sys)
    _process._surroundings()
    assert sys.modules["__mp_main__"] is sys


def test_what_it_gets_of_the_loggers(monkeypatch):
    """Those that have a level of their own; others are only places in the tree."""
    own, without = logging.getLogger("own.level.set"), logging.getLogger("own.none")
    monkeypatch.setattr(own, "level", 13)
    monkeypatch.setattr(logging.getLogger(), "level", 17)
    monkeypatch.setattr(logging.root.manager, "disable", 5)
    monkeypatch.setattr(sys, "argv", ["script", "argument"])
    found = _process._surroundings()
    assert found["levels"]["own.level.set"] == 13
    assert found["levels"][""] == 17
    assert without.level == 0
    assert not {"own.none", "own.level", "own"} & set(found["levels"])
    assert found["disabled"] == 5
    assert found["argv"] == ["script", "argument"]
    assert found["argv"] is not sys.argv
    assert isinstance(_process._flags(), list)
