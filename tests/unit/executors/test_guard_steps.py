"""The guardian and what looks for processes, each step by itself, without any."""

# pyright: basic

import errno
import gc
import io
import logging
import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from taskorch.executors._programs import _fork, _guard, _guardian, _spawn, _sweep
from taskorch.executors._programs._guard import Guard
from taskorch.executors._programs._spawn import environment, explain, spawn
from taskorch.model import Program

MARK = b"MARK=1"


def descriptors():
    # What earlier tests have left open is no matter of this one.
    gc.collect()
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - only their number


# -- our side of it --------------------------------------------------------------------


class Popen:
    """A guardian that does nothing, and how it was started."""

    made = ()
    problem = None

    def __init__(self, words, **options):
        if Popen.problem is not None:
            raise Popen.problem
        self.words, self.options, self.did = words, options, []
        self.input = socket.socket(fileno=os.dup(options["stdin"]))
        self.input.setblocking(False)
        self.code, self.hangs = None, False
        Popen.made = (*Popen.made, self)

    def poll(self):
        return self.code

    def kill(self):
        self.did.append("kill")

    def wait(self, seconds=None):
        self.did.append(("wait", seconds))
        if self.hangs and seconds is not None:
            raise subprocess.TimeoutExpired("guardian", seconds)


@pytest.fixture
def guard(monkeypatch):
    monkeypatch.setattr(_guard.subprocess, "Popen", Popen)
    monkeypatch.setattr(Popen, "made", ())
    monkeypatch.setattr(Popen, "problem", None)
    found = Guard("run")
    yield found
    found.close()
    for one in Popen.made:
        one.input.close()


def listed(guard):
    return _guardian.listed(guard._table.fd)


def test_it_is_started_alone_and_knows_whom_to_watch(guard, monkeypatch):
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("TASKORCH_RUN", "of an outer run")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    guard.start()
    (made,) = Popen.made
    table = guard._table.fd
    assert made.words[0] == sys.executable
    assert made.words[1:3] == ["-I", "-S"]
    assert made.words[3:] == [
        _guardian.__file__,
        str(os.getpid()),
        "TASKORCH_RUN=run",
        str(table),
    ]
    assert made.options["pass_fds"] == [table]
    assert made.options["start_new_session"] is True
    assert made.options["env"]["PATH"] == "/bin"
    assert set(made.options["env"]) <= {"PATH", "DYLD_LIBRARY_PATH"}
    # One that lives is not started again, and one that has ended is, with its list.
    guard.add(4711)
    guard.start()
    assert len(Popen.made) == 1
    first, made.code = guard._socket, -9
    guard.start()
    assert len(Popen.made) == 2
    assert first.fileno() == -1
    assert guard._table.fd == table
    assert listed(guard) == {4711}


@pytest.mark.parametrize("step", ["add", "remove"])
def test_one_that_has_ended_is_replaced_where_there_is_room(guard, step, caplog):
    guard.add(1)
    guard.remove(1)
    assert guard._table is None
    guard.start()
    guard.add(4711)
    Popen.made[0].code = -9
    Popen.problem = OSError(errno.EAGAIN, "no process")
    getattr(guard, step)(4711)
    assert "the guardian of our programs cannot be started: " in caplog.text
    assert len(Popen.made) == 1
    Popen.problem = None
    getattr(guard, step)(4712)
    assert len(Popen.made) == 2


def test_what_was_opened_for_one_that_cannot_be_started_is_closed(guard):
    Popen.problem = OSError(errno.EAGAIN, "no process")
    with pytest.raises(OSError, match="no process"):
        guard.start()
    before = descriptors()
    with pytest.raises(OSError, match="no process"):
        guard.start()
    assert descriptors() == before
    assert guard._socket is None


@pytest.mark.parametrize("hangs", [True, False])
def test_closed_it_is_sent_home_and_ended_if_it_does_not_go(guard, hangs):
    guard.start()
    (made,) = Popen.made
    made.hangs = hangs
    guard.add(4711)
    guard.close()
    assert made.input.recv(100) == _guardian.QUIT
    assert made.input.recv(100) == b""
    stubborn = ["kill", ("wait", None)] if hangs else []
    assert made.did == [("wait", 2.0), *stubborn]
    assert guard._table is guard._socket is guard._process is None
    guard.close()
    assert len(made.did) == 1 + len(stubborn)


@pytest.mark.parametrize("has_flag", [True, False])
def test_to_send_it_home_neither_waits_nor_raises_a_signal(
    guard, has_flag, monkeypatch
):
    sent = []
    guard._socket = SimpleNamespace(
        send=lambda *given: sent.append(given), close=lambda: None
    )
    if has_flag:
        monkeypatch.setattr(_guard.socket, "MSG_NOSIGNAL", 2**20, raising=False)
    else:
        monkeypatch.delattr(_guard.socket, "MSG_NOSIGNAL", raising=False)
    guard._send_quit()
    flags = socket.MSG_DONTWAIT | (2**20 if has_flag else 0)
    assert sent == [(_guardian.QUIT, flags)]


def test_to_send_home_one_that_has_gone_is_no_error(guard):
    guard.start()
    Popen.made[0].input.close()
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        guard.close()
    finally:
        signal.signal(signal.SIGPIPE, before)


def test_a_forked_child_has_no_guardian(guard):
    """That of the parent is not sent home by it."""
    guard.disown()
    guard.start()
    (made,) = Popen.made
    before = descriptors()
    guard.disown()
    assert descriptors() == before - 2
    guard.disown()
    guard.add(4711)
    guard.remove(4711)
    assert len(Popen.made) == 1
    assert made.input.recv(100) == b""


@pytest.mark.parametrize("lacks", ["Python", "file"])
def test_where_there_can_be_none_it_is_said_once(guard, lacks, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    if lacks == "Python":
        monkeypatch.setattr(sys, "executable", "/bin/application")
    else:
        monkeypatch.setattr(_guardian, "__file__", "/nowhere/_guardian.py")
    for _ in range(2):
        guard.start()
        guard.add(4711)
    assert Popen.made == ()
    assert caplog.text.count("may outlive this process") == 1


# -- the guardian ----------------------------------------------------------------------


class Poll:
    """What a guardian waits for, and what is there when it has waited."""

    def __init__(self, *rounds):
        self.rounds, self.registered, self.waits = iter(rounds), [], []

    def register(self, fd, event):
        assert event == _guardian.select.POLLIN
        self.registered.append(fd)

    def poll(self, patience):
        self.waits.append(patience)
        return [(fd, 1) for fd in next(self.rounds)]


class Watch:
    """A guardian in this process, with what it would find."""

    def __init__(self, monkeypatch, *rounds, parents=(7,), word=b"", handle=99):
        self.poll = Poll(*rounds)
        self.parents = [*parents]
        monkeypatch.setattr(_guardian.select, "poll", lambda: self.poll)
        monkeypatch.setattr(_guardian.os, "read", self.read)
        monkeypatch.setattr(_guardian.os, "getppid", self.getppid)
        monkeypatch.setattr(_guardian.os, "pidfd_open", self.pidfd_open, raising=False)
        self.word, self.handle = word, handle

    def pidfd_open(self, pid):
        assert pid == 7
        if self.handle is None:
            raise OSError
        return self.handle

    def getppid(self):
        return self.parents.pop(0) if len(self.parents) > 1 else self.parents[0]

    def read(self, fd, size):
        assert fd == 0
        if self.word is None:
            raise OSError
        return self.word[:size]


@pytest.mark.parametrize(
    ("word", "has_died"), [(b"", True), (b"quit\n", False), (None, True)]
)
def test_what_its_input_says(monkeypatch, word, has_died):
    watch = Watch(monkeypatch, [], [], [0], word=word)
    monkeypatch.setattr(sys, "platform", "linux")
    assert _guardian._watch(7) is has_died
    assert watch.poll.registered == [0, 99]
    assert watch.poll.waits == [None] * 3


def test_that_its_parent_has_died_a_handle_says(monkeypatch):
    Watch(monkeypatch, [], [99])
    monkeypatch.setattr(sys, "platform", "linux")
    assert _guardian._watch(7) is True


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_without_a_handle_it_looks_each_second_whose_child_it_is(monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    watch = Watch(monkeypatch, [], [], [], parents=(7, 7, 1), handle=None)
    assert _guardian._watch(7) is True
    assert watch.poll.registered == [0]
    assert watch.poll.waits == [1000, 1000, 0]


def test_the_word_counts_though_its_parent_has_gone(monkeypatch):
    Watch(monkeypatch, [0], parents=(1,), word=b"quit\n")
    assert _guardian._watch(7) is False


@pytest.mark.parametrize("has_died", [True, False])
def test_it_hears_no_signal_and_ends_those_that_are_ours(monkeypatch, has_died):
    ignored, ended = {}, []
    monkeypatch.setattr(_guardian.signal, "signal", ignored.__setitem__)
    monkeypatch.setattr(_guardian, "_watch", lambda parent: parent == 7 and has_died)
    monkeypatch.setattr(_guardian, "listed", lambda table: {table})
    monkeypatch.setattr(_guardian, "_end", lambda *given: ended.append(given))
    _guardian.main(7, MARK, 3)
    assert ended == [({3}, MARK)] * has_died
    assert set(ignored.values()) == {signal.SIG_IGN}
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} < set(ignored)


@pytest.mark.parametrize("state", ["there", "gone", "another's"])
def test_whom_the_guardian_kills(monkeypatch, state):
    """The groups that stand in its list, and those of who carries the mark."""
    groups, killed, sent = [], [], []
    rounds = iter([[8]])

    def killpg(group, number):
        groups.append((group, number))
        raise ProcessLookupError

    monkeypatch.setattr(_guardian.os, "killpg", killpg)
    monkeypatch.setattr(_guardian, "find", lambda _: next(rounds, []))
    monkeypatch.setattr(
        _guardian,
        "state_of",
        lambda _: None if state == "gone" else SimpleNamespace(group=9),
    )
    monkeypatch.setattr(
        _guardian, "carries", lambda pid, mark: state != "another's" and mark == MARK
    )
    monkeypatch.setattr(_guardian, "_kill", lambda *given: killed.append(given))
    monkeypatch.setattr(
        _guardian, "send", lambda pid, belongs, number: sent.append((pid, number))
    )
    monkeypatch.setattr(_guardian.time, "sleep", lambda _: None)
    _guardian._end({5, 6}, MARK)
    assert sorted(groups) == [(5, signal.SIGKILL), (6, signal.SIGKILL)]
    assert killed == [(-9, (signal.SIGKILL,))] * (state == "there")
    assert sent == [(8, signal.SIGKILL)]


def test_what_cannot_be_killed_does_not_keep_it_for_ever(monkeypatch):
    pauses = []
    monkeypatch.setattr(_guardian, "find", lambda _: [8])
    monkeypatch.setattr(_guardian, "state_of", lambda _: None)
    monkeypatch.setattr(_guardian, "send", lambda *_: None)
    monkeypatch.setattr(_guardian.time, "sleep", pauses.append)
    _guardian._end(set(), MARK)
    assert pauses == [0.005] * 200


STAT = (
    b"4711 (a) name) S 11 12 13 14 15 %d 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31"
)


@pytest.mark.parametrize("letter", "SRDTZXx")
@pytest.mark.parametrize("flags", [0x0020_0000, 0x0040_0000, 0x0060_0000, 0])
def test_what_the_system_says_of_a_process(letter, flags):
    text = (STAT % flags).replace(b") S ", f") {letter} ".encode())
    state = _guardian.State(text)
    assert (state.letter, state.alive) == (letter, letter not in "ZXx")
    assert (state.parent, state.group, state.session) == (11, 12, 13)
    assert state.is_kernel is bool(flags & 0x0020_0000)
    assert state.started == 29


class Proc:
    """Files of one process, by name; those that are not there cannot be read."""

    def __init__(self, monkeypatch, **files):
        self.files = files
        monkeypatch.setattr(_guardian, "open", self.open, raising=False)

    def open(self, path, mode):
        assert mode == "rb"
        _, proc, pid, name = path.split("/")
        assert (proc, pid) == ("proc", "7")
        if name not in self.files:
            raise FileNotFoundError
        return io.BytesIO(self.files[name])


@pytest.mark.parametrize(
    ("stat", "files", "is_executing"),
    [
        (STAT % 0, {"cmdline": b""}, True),
        (STAT % 0, {"cmdline": b"name\0x\0"}, False),
        (STAT % 0, {"cmdline": b"\0"}, False),
        (STAT % 0, {}, False),
        ((STAT % 0).replace(b") S", b") Z"), {"cmdline": b""}, False),
        (STAT % 0x0020_0000, {"cmdline": b""}, False),
        (None, {"cmdline": b""}, False),
    ],
)
def test_who_begins_to_execute_another_program(monkeypatch, stat, files, is_executing):
    Proc(monkeypatch, **files, **({} if stat is None else {"stat": stat}))
    assert _guardian.is_executing(7) is is_executing


def test_a_mark_is_a_whole_variable(monkeypatch):
    Proc(monkeypatch, environ=b"A=1\0MARK=1\0MARK=12\0")
    assert _guardian.variables_of(7)[:3] == [b"A=1", MARK, b"MARK=12"]
    assert _guardian.carries(7, MARK) is True
    assert _guardian.carries(7, b"MARK=") is False
    Proc(monkeypatch)
    assert _guardian.variables_of(7) == []
    assert _guardian.state_of(7) is None


def test_where_no_processes_can_be_seen_none_is_found(monkeypatch):
    def refused(_):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(_guardian.os, "listdir", refused)
        assert _guardian.find(lambda _: True) == []
        own = os.getpid()
        names = ["self", "7", str(own), "8"]
        patch.setattr(_guardian.os, "listdir", lambda _: names)
        asked = []
        assert _guardian.find(lambda pid: asked.append(pid) or pid == 8) == [8]
    assert asked == [7, 8]


@pytest.mark.parametrize("belongs", [True, False])
@pytest.mark.parametrize("way", ["handle", "gone", "no handle", "none left", "darwin"])
def test_by_which_way_signals_are_sent(monkeypatch, way, belongs):
    sent = []
    monkeypatch.setattr(sys, "platform", "darwin" if way == "darwin" else "linux")

    def pidfd_open(pid):
        problems = {
            "gone": ProcessLookupError(),
            "no handle": AttributeError(),
            "none left": OSError(errno.EMFILE, "none left"),
        }
        if way in problems:
            raise problems[way]
        return os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(_guardian.os, "pidfd_open", pidfd_open, raising=False)
    monkeypatch.setattr(_guardian.os, "kill", lambda *given: sent.append(given))
    monkeypatch.setattr(
        _guardian.signal,
        "pidfd_send_signal",
        lambda handle, number: sent.append(("handle", number)),
        raising=False,
    )
    before = descriptors()
    _guardian.send(7, lambda pid: belongs and pid == 7, 15, 18)
    assert descriptors() == before
    name = "handle" if way == "handle" else 7
    # Where there are no handles at all, whoever asks has seen to that.
    is_sent = way == "darwin" or (belongs and way != "gone")
    assert sent == [(name, 15), (name, 18)] * is_sent


# -- sweeping --------------------------------------------------------------------------


class Swept:
    """A machine of which each look finds others, and each pause takes its time."""

    def __init__(self, monkeypatch, alive, hidden, pause=0.005):
        self.alive, self.hidden = iter(alive), iter(hidden)
        self.now, self.pauses, self.sent = 100.0, [], []
        self.pause = pause
        monkeypatch.setattr(sys, "platform", "linux")
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(_sweep, "time", clock)
        monkeypatch.setattr(_guardian, "find", self.find)
        monkeypatch.setattr(
            _guardian, "send", lambda pid, belongs, number: self.sent.append(pid)
        )
        monkeypatch.setattr(
            _guardian,
            "state_of",
            lambda pid: None if pid == 14 else SimpleNamespace(alive=pid != 13),
        )

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += self.pause

    def find(self, belongs):
        if belongs is _guardian.is_executing:
            return [1] * next(self.hidden, 0)
        return next(self.alive, [])


@pytest.mark.parametrize(
    ("alive", "hidden", "looks", "killed"),
    [
        ([], [], 2, 0),
        ([[7, 8], [7]], [], 4, 2),
        ([[], [7]], [], 4, 1),
        # One that has ended, and that nobody has waited for, is none.
        ([[13], [13]], [], 2, 0),
        ([[14, 7], [14]], [], 3, 1),
        # While somebody shows no mark, that nobody is found means nothing.
        ([], [1, 1, 1], 5, 0),
        ([[], [], [], [7]], [0, 1], 6, 1),
    ],
)
def test_two_looks_in_a_row_must_find_nobody(monkeypatch, alive, hidden, looks, killed):
    swept = Swept(monkeypatch, alive, hidden)
    assert _sweep.sweep("run") == killed
    assert swept.pauses == [0.005] * looks
    assert set(swept.sent) == {pid for each in alive for pid in each} - {13, 14}


def test_what_always_hides_or_never_dies_holds_up_nobody(monkeypatch):
    swept = Swept(monkeypatch, [], [1] * 1000, pause=0.25)
    _sweep.sweep("run")
    # It counts for a second, and then two looks are enough.
    assert len(swept.pauses) == 4 + 2
    swept = Swept(monkeypatch, [[7]] * 1000, [], pause=0.25)
    assert _sweep.sweep("run") == 1
    assert len(swept.pauses) == 20


def test_elsewhere_nobody_is_swept(monkeypatch):
    swept = Swept(monkeypatch, [[7]], [])
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _sweep.sweep("run") == 0
    assert swept.sent == swept.pauses == []


# -- starting --------------------------------------------------------------------------


class Given:
    """An input of which the test knows the descriptor."""

    def open(self):
        self.out, self.into = os.pipe()
        return self.out


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("has_input", [True, False])
def test_our_ends_stay_open_and_theirs_do_not(monkeypatch, fails, has_input):
    seen = {}

    def popen(words, **options):
        seen.update(options, words=words)
        assert _fork.no_fork._lock.locked()
        if fails:
            raise OSError(2, "no such file")
        return "process"

    monkeypatch.setattr(_spawn.subprocess, "Popen", popen)
    before, given = descriptors(), Given() if has_input else None
    program = Program(["prog", "x"], cwd="/", pass_fds=[0])
    if fails:
        with pytest.raises(OSError, match="no such file"):
            spawn(program, {"A": "1"}, given)
    else:
        child = spawn(program, {"A": "1"}, given)
        assert child.process == "process"
        for fd in (child.stdout, child.stderr):
            assert not os.get_blocking(fd)
            os.close(fd)
    if given is not None:
        assert seen["stdin"] == given.out
        os.close(given.into)
    else:
        assert seen["stdin"] == subprocess.DEVNULL
    assert descriptors() == before
    assert seen["words"] == ["prog", "x"]
    assert seen["cwd"] == "/"
    assert seen["env"] == {"A": "1"}
    assert seen["start_new_session"] is True
    assert tuple(seen["pass_fds"]) == (0,)
    assert not _fork.no_fork._lock.locked()


def test_where_the_locale_is_poor_words_are_bytes(monkeypatch):
    seen = {}
    monkeypatch.setattr(_spawn, "_SPEAKS_UTF_8", False)
    monkeypatch.setattr(
        _spawn.subprocess, "Popen", lambda words, **given: seen.update(given, w=words)
    )
    child = spawn(Program(["prög"]), {"Ä": "ö"}, None)
    os.close(child.stdout)
    os.close(child.stderr)
    assert seen["env"] == {"Ä".encode(): "ö".encode()}
    assert seen["w"] == ["prög".encode()]


def test_what_a_program_does_not_inherit_is_said_in_order():
    ours = {"C": "1", "B": "2", "A": "3", "PATH": "/bin"}
    env, withheld = environment(Program(["x"]), ours, {"B": "own"})
    assert env == {"PATH": "/bin", "B": "own"}
    assert withheld == ("A", "C")
    env, withheld = environment(Program(["x"], inherit_env=True), ours, {})
    assert (env, withheld) == (ours, ())
    assert env is not ours


@pytest.mark.parametrize(
    ("args", "cwd", "number", "filename", "says"),
    [
        (
            "prog",
            None,
            2,
            "prog",
            "'prog' could not be started: {}; it is not on the P",
        ),
        ("prog", "/no", 2, "/no", "'prog' could not be started in '/no': {}; make the"),
        (
            "prog",
            "/no",
            13,
            "/no",
            "'prog' could not be started in '/no': {}; make the",
        ),
        ("prog", "/", 2, "prog", "'prog' could not be started: {}; it is not on the P"),
        ("/no", "/no", 2, "/no", "'/no' could not be started: {}; there is no file '/"),
        (
            "./no",
            "/x",
            2,
            "./no",
            "'./no' could not be started: {}; there is no file '/x/no'",
        ),
        (
            "./no",
            None,
            2,
            "./no",
            "'./no' could not be started: {}; there is no file 'no'",
        ),
        (
            "/",
            None,
            2,
            "/",
            "'/' could not be started: {}; the file is there, but the in",
        ),
        (
            "prog",
            None,
            13,
            "prog",
            "{}; what the PATH has of this name is not executable",
        ),
        (
            "prog",
            None,
            1,
            "prog",
            "{}; what the PATH has of this name is not executable",
        ),
        (
            "/x",
            None,
            13,
            "/x",
            "{}; the file is not executable (chmod +x), or its folder",
        ),
        (
            "/x",
            None,
            8,
            "/x",
            "{}; it is no binary for this machine, and a script needs",
        ),
        ("/x", None, 5, "/x", "'/x' could not be started: {}"),
    ],
)
def test_why_a_program_could_not_be_started(args, cwd, number, filename, says):
    cause = OSError(number, "said by the system", filename)
    error = explain(cause, Program([args], cwd=cwd))
    assert error.errno == number
    assert says.format(os.strerror(number)) in str(error)
    assert error.__cause__ is cause
    if number == 5:
        assert str(error).endswith(os.strerror(number))


# -- forks -----------------------------------------------------------------------------


def test_a_fork_waits_for_a_start_and_lets_others_begin_again(monkeypatch):
    gate = _fork._Gate()
    with gate:
        assert gate._lock.locked()
        monkeypatch.setattr(_fork, "_FORK_PATIENCE", 0.0)
        monkeypatch.setattr(gate, "_lock", _Busy(gate._lock))
        gate.before_fork()
        # It went on without: what is held is another's, and stays so.
        gate.after_fork()
        assert gate._lock.locked()
    gate.before_fork()
    assert gate._lock.locked()
    gate.after_fork()
    assert not gate._lock.locked()
    gate.after_fork()
    gate.before_fork()
    gate.after_fork_in_child()
    assert not gate._lock.locked()
    gate.after_fork()


class _Busy:
    """A lock for which a fork does not wait."""

    def __init__(self, lock):
        self._lock = lock
        self.locked, self.release = lock.locked, lock.release

    def acquire(self, timeout=-1):
        return self._lock.acquire(timeout=0)
