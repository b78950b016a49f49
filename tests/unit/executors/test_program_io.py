"""The loop of the supervisor, the pipes of a program and its log, each by itself."""

# pyright: basic

import errno
import fcntl
import gc
import os
import signal
import stat
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.unit.executors.tools import PATIENCE

from taskorch.executors._programs import _loop, _output, _pipes
from taskorch.executors._programs._loop import Loop
from taskorch.executors._programs._output import LogFolder, OutputLog, Tail
from taskorch.executors._programs._pid_file import PidFile
from taskorch.executors._programs._pipes import Input, Output


def descriptors():
    # What earlier tests have left open is no matter of this one.
    gc.collect()
    return len(list(Path("/dev/fd").iterdir()))


# -- the loop --------------------------------------------------------------------------


@pytest.fixture
def loop():
    found = Loop()
    found.open()
    yield found
    found.close()


class Woken:
    """A selector that waits for nothing, and for how long it should have."""

    def __init__(self, waits, ready=()):
        self.waits, self.ready, self.registered = waits, [*ready], {}

    def select(self, patience):
        self.waits.append(patience)
        return [(SimpleNamespace(fd=fd), None) for fd in self.ready]

    def register(self, fd, event):
        self.registered[fd] = event

    def unregister(self, fd):
        del self.registered[fd]

    def close(self):
        pass


@pytest.fixture
def stepped(monkeypatch):
    """A loop whose clock the test sets, and which waits for nothing."""
    found, clock = Loop(), SimpleNamespace(now=100.0)
    monkeypatch.setattr(_loop, "time", SimpleNamespace(monotonic=lambda: clock.now))
    found.waits, found.clock = [], clock
    found._selector = Woken(found.waits)
    return found


def turns(loop, count=1):
    """Let it turn so often."""
    left = iter([False] * count + [True])
    loop.run(lambda: next(left))


def test_what_is_due_is_done_in_its_order_and_what_is_not_is_awaited(stepped):
    done = []
    for name, when in (("b", 102.0), ("a", 101.0), ("c", 102.0), ("d", 109.0)):
        stepped.at(when, lambda name=name: done.append(name))
    turns(stepped)
    assert done == []
    stepped.clock.now = 101.0
    turns(stepped)
    assert done == ["a"]
    stepped.clock.now = 105.0
    turns(stepped)
    assert done == ["a", "b", "c"]
    turns(stepped)
    assert done == ["a", "b", "c"]
    assert stepped.waits == [1.0, 0.0, 0.0, 4.0]
    stepped.clock.now = 109.0
    turns(stepped, 2)
    assert done == ["a", "b", "c", "d"]
    assert stepped.waits[4:] == [0.0, 3600.0]


def test_a_time_beyond_what_a_selector_can_count_is_awaited_in_parts(stepped):
    stepped.at(float("inf"), print)
    stepped.at(10.0**9, print)
    turns(stepped)
    assert stepped.waits == [3600.0]


def test_who_was_forgotten_meanwhile_is_not_run(stepped):
    ran = []
    stepped._selector.ready = [5, 6]
    stepped.watch(5, lambda: (ran.append(5), stepped.unwatch(6)))
    stepped.watch(6, lambda: ran.append(6), write=True)
    assert stepped._selector.registered == {5: 1, 6: 2}
    turns(stepped)
    assert ran == [5]
    stepped.unwatch(6)
    stepped.unwatch(5)
    assert stepped._selector.registered == {}
    turns(stepped)
    assert ran == [5]


def test_one_wakes_it_for_all_that_come_before_it_looks(loop, monkeypatch):
    """Or its pipe would be full some time, and nobody could call."""
    written, write = [], os.write
    monkeypatch.setattr(
        _loop.os, "write", lambda *given: written.append(given) or write(*given)
    )
    done = []
    for number in range(3):
        loop.call(lambda number=number: done.append(number))
    # It was woken by being opened.
    assert written == []
    turns(loop)
    assert done == [0, 1, 2]
    for number in range(3, 6):
        loop.call(lambda number=number: done.append(number))
    assert len(written) == 1
    turns(loop)
    assert done == [0, 1, 2, 3, 4, 5]
    loop.call(lambda: done.append(6))
    assert len(written) == 2
    turns(loop)
    assert done[6:] == [6]


def test_what_an_action_calls_has_its_turn_after_the_others(loop):
    done = []
    loop.call(lambda: loop.call(lambda: done.append("later")))
    loop.call(lambda: done.append("first"))
    turns(loop)
    assert done == ["first"]
    turns(loop)
    assert done == ["first", "later"]


def test_what_was_called_before_it_was_opened_is_done():
    loop, done = Loop(), []
    loop.call(lambda: done.append(1))
    loop.open()
    turns(loop)
    loop.close()
    assert done == [1]
    # Nobody is there any more to be woken.
    loop.call(lambda: done.append(2))
    loop.close()


def test_it_never_waits_for_its_own_pipe(loop):
    for fd in (loop._wake_in, loop._wake_out):
        assert not os.get_blocking(fd)


def test_a_call_wakes_it_from_another_thread(loop):
    done = threading.Event()
    thread = threading.Thread(target=loop.run, args=(done.is_set,))
    thread.start()
    loop.call(done.set)
    thread.join(PATIENCE)
    assert done.is_set()
    assert not thread.is_alive()


def test_a_loop_that_cannot_be_opened_leaves_nothing(monkeypatch):
    def none_left():
        raise OSError(errno.EMFILE, "too many open files")

    before, loop = descriptors(), Loop()
    with monkeypatch.context() as patch:
        patch.setattr(_loop.os, "pipe", none_left)
        with pytest.raises(OSError, match="too many"):
            loop.open()
    assert descriptors() == before
    with pytest.raises(RuntimeError, match="not open"):
        loop.run(lambda: True)


def test_closed_it_has_forgotten_what_it_watched_and_awaited(loop):
    loop.at(0.0, print)
    out, into = os.pipe()
    loop.watch(out, print)
    loop.close()
    loop.unwatch(out)
    assert not loop._times
    os.close(out)
    os.close(into)


@pytest.mark.parametrize("pair", [(0, 1), (1, 2)])
def test_closed_its_pipe_is_whatever_numbers_it_has(pair, monkeypatch):
    loop, closed = Loop(), []
    loop._wake_out, loop._wake_in = pair
    with monkeypatch.context() as patch:
        patch.setattr(_loop.os, "close", closed.append)
        loop.close()
        loop.close()
    assert sorted(closed) == list(pair)


# -- the pipes -------------------------------------------------------------------------


class Pipes:
    """Both output streams of a program; the test has what it writes into."""

    def __init__(self, tmp_path, limit=10**6):
        self.watched, self.ends = {}, []
        loop = SimpleNamespace(
            watch=lambda fd, act, *, write=False: self.watched.update({fd: act}),
            unwatch=self.watched.pop,
        )
        self.log = OutputLog(limit)
        self.log.open(LogFolder(tmp_path), "log")
        self.output = Output(
            loop,
            self.log,
            tail_bytes=10,
            on_end=lambda: self.ends.append(1),
            safe=lambda act: act,
        )
        self.outs, self.intos = zip(os.pipe(), os.pipe(), strict=True)
        for out in self.outs:
            os.set_blocking(out, False)
        self.output.start(*self.outs)
        self.open = [*self.intos]

    def close(self):
        self.output.close()
        self.log.close()
        for fd in self.open:
            os.close(fd)


@pytest.fixture
def pipes(tmp_path):
    found = Pipes(tmp_path)
    yield found
    found.close()


def test_each_stream_has_its_tail_and_both_one_log(pipes):
    os.write(pipes.intos[0], b"to the first")
    os.write(pipes.intos[1], b"second")
    for act in pipes.watched.values():
        act()
    assert pipes.output.tails() == (" the first", "second")
    assert pipes.log.path.read_bytes() == b"to the firstsecond"
    assert pipes.output.is_open is True
    pipes.output.forget()
    assert pipes.output.tails() == ("", "")


def test_the_end_is_told_once_both_have_ended(pipes):
    for number, fd in enumerate(pipes.intos):
        os.close(fd)
        pipes.open.remove(fd)
        pipes.watched[pipes.outs[number]]()
        assert pipes.ends == [1] * number
        assert pipes.outs[number] not in pipes.watched
        assert pipes.output.is_open is (number == 0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(pipes.outs[number])


def test_it_is_known_when_something_came_last(pipes, monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: 4711.0)
    before = pipes.output.last
    monkeypatch.setattr(_pipes, "time", clock)
    pipes.watched[pipes.outs[0]]()
    assert pipes.output.last == before
    os.write(pipes.intos[0], b"x")
    pipes.watched[pipes.outs[0]]()
    assert pipes.output.last == 4711.0


@pytest.mark.skipif(sys.platform != "linux", reason="sets how much a pipe can hold")
def test_all_that_is_in_them_is_read_at_the_end_and_no_more(pipes, monkeypatch):
    """Somebody beyond our reach may write on and on."""
    fcntl.fcntl(pipes.intos[0], fcntl.F_SETPIPE_SZ, 2**18)
    os.write(pipes.intos[0], bytes(2**18))
    os.write(pipes.intos[1], b"err")
    pipes.output.finish()
    assert pipes.log.path.stat().st_size == 2**18 + 3
    assert pipes.ends == []
    reads = []
    monkeypatch.setattr(
        _pipes.os, "read", lambda fd, size: reads.append(fd) or b"x" * 10
    )
    pipes.output.finish()
    # As much as a pipe can hold, in pieces of 64 KiB.
    assert len(reads) == 2 * 16
    monkeypatch.setattr(_pipes.os, "read", lambda fd, size: reads.append(fd) or b"")
    reads.clear()
    pipes.output.finish()
    assert len(reads) == 2


def test_a_stream_that_cannot_be_read_has_ended(pipes, monkeypatch):
    def broken(fd, size):
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(_pipes.os, "read", broken)
        for out in pipes.outs:
            pipes.watched[out]()
    assert pipes.ends == [1]


class Given:
    """What a program reads; the test has its end."""

    def __init__(self, data):
        self.watched, self.unwatched = {}, []
        loop = SimpleNamespace(
            watch=lambda fd, act, *, write=False: self.watched.update(
                {fd: (act, write)}
            ),
            unwatch=self.unwatched.append,
        )
        self.input = Input(loop, data, safe=lambda act: act)
        self.theirs = self.input.open()
        self.input.start()
        self.fd = self.input._fd

    def write(self):
        self.watched[self.fd][0]()


@pytest.fixture
def given():
    found = Given(os.urandom(200_000))
    yield found
    found.input.close()
    os.close(found.theirs)


def test_what_it_reads_is_written_as_there_is_room_and_then_ends(given):
    assert given.watched[given.fd][1] is True
    assert not os.get_blocking(given.fd)
    expected, found = bytes(given.input._data), b""
    given.write()
    while given.unwatched == []:
        # A full pipe is no end.
        given.write()
        found += os.read(given.theirs, 2**20)
    while piece := os.read(given.theirs, 2**20):
        found += piece
    assert found == expected
    assert given.unwatched == [given.fd]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(given.fd)
    assert given.input._fd < 0
    given.input.close()
    given.input.disown()
    assert given.unwatched == [given.fd]


def test_what_nobody_reads_is_dropped(given):
    os.close(given.theirs)
    given.write()
    given.theirs = os.open(os.devnull, os.O_RDONLY)
    assert given.unwatched == [given.fd]
    assert not given.input._data


def test_without_a_pipe_there_is_nothing_to_close(monkeypatch):
    closed, unwatched = [], []
    loop = SimpleNamespace(unwatch=unwatched.append)
    given = Input(loop, b"data", safe=lambda act: act)
    monkeypatch.setattr(_pipes.os, "close", closed.append)
    given.close()
    given.disown()
    assert closed == unwatched == []
    given._fd = 0
    given.disown()
    assert closed == [0]
    given.close()
    assert closed == [0, 0]
    assert unwatched == [0]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
@pytest.mark.parametrize("is_read", [True, False])
def test_to_write_what_nobody_reads_ends_nobody(handler, is_read):
    out, into = os.pipe()
    if not is_read:
        os.close(out)
    before = signal.signal(signal.SIGPIPE, handler)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    try:
        if is_read:
            assert _pipes._write_without_signal(into, memoryview(b"data")) == 4
            assert os.read(out, 10) == b"data"
        else:
            with pytest.raises(BrokenPipeError):
                _pipes._write_without_signal(into, memoryview(b"data"))
        assert signal.SIGPIPE not in signal.sigpending()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == mask
    finally:
        signal.signal(signal.SIGPIPE, before)
        os.close(into)
        if is_read:
            os.close(out)


# -- the tail and the log --------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("length", [0, 9, 10, 11, 19, 20, 21, 40, 95])
def test_of_a_stream_the_end_is_kept(size, length):
    data = bytes(ord("a") + n % 26 for n in range(length))
    tail = Tail(10)
    for at in range(0, length, size):
        tail.add(data[at : at + size])
        assert len(tail._data) <= 20
    assert tail.text() == data[-10:].decode()
    assert tail.text() == data[-10:].decode()


def test_a_limit_of_nothing_keeps_nothing():
    tail = Tail(0)
    tail.add(b"secret")
    assert tail.text() == ""
    assert not tail._data


@pytest.mark.parametrize(
    ("limit", "data", "text"),
    [
        # Only where it was cut, its first bytes may be the rest of a character.
        (5, b"\x80\x80\x80ab", "\ufffd\ufffd\ufffdab"),
        (7, b"x\x80\x80\x80abcd", "abcd"),
        (7, b"xy\x80\x80\x80\x80abc", "\ufffdabc"),
        (6, "😀".encode() + b"abc", "abc"),
        (4, "😀".encode() + b"abc", "abc"),
        (3, "😀".encode() + b"abc", "abc"),
        (7, "😀".encode() + b"abc", "😀abc"),
        (4, b"x\0abc", "\ufffdabc"),
    ],
)
def test_the_rest_of_a_character_that_was_cut_is_no_noise(limit, data, text):
    tail = Tail(limit)
    tail.add(data)
    assert tail.text() == text


def test_a_log_takes_so_much_and_counts_the_rest(tmp_path):
    log = OutputLog(10)
    assert (log.path, log.error, log.dropped) == (None, None, 0)
    log.write(b"before")
    assert log.dropped == 6
    log.open(LogFolder(tmp_path), "one")
    for piece in (b"0123", b"456789", b"x", b"yz"):
        log.write(piece)
    assert log.dropped == 9
    log.close()
    log.write(b"after")
    assert log.dropped == 14
    assert log.path.read_bytes() == b"0123456789"
    assert log.error is None


def test_a_write_may_take_a_part_only(tmp_path, monkeypatch):
    log, write = OutputLog(100), os.write
    log.open(LogFolder(tmp_path), "one")
    with monkeypatch.context() as patch:
        patch.setattr(_output.os, "write", lambda fd, data: write(fd, data[:3]))
        log.write(b"0123456789")
    log.close()
    assert log.path.read_bytes() == b"0123456789"
    assert log.dropped == 0


def test_a_log_that_ends_early_has_no_gap(tmp_path, monkeypatch):
    log = OutputLog(100)
    log.open(LogFolder(tmp_path), "one")
    log.write(b"kept")

    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(_output.os, "write", full)
        log.write(b"lost")
    assert descriptors() == before - 1
    log.write(b"after")
    assert log.path.read_bytes() == b"kept"
    assert log.dropped == 9
    assert log.error == (
        f"{log.path} ends early, it could not be written: [Errno 28] "
        "No space left on device"
    )


def test_a_log_that_is_named_is_emptied_and_its_folders_are_made(tmp_path):
    wanted = tmp_path / "a/b/one.log"
    for text in (b"a long first one", b"second"):
        log = OutputLog(100)
        log.open(LogFolder(tmp_path / "logs"), "t/1", str(wanted))
        assert log.path == wanted
        assert os.get_blocking(log._file)
        flags = fcntl.fcntl(log._file, fcntl.F_GETFL)
        assert flags & os.O_ACCMODE == os.O_WRONLY
        assert flags & os.O_APPEND
        log.write(text)
        log.close()
        assert wanted.read_bytes() == text
    assert not (tmp_path / "logs").exists()
    log = OutputLog(100)
    log.open(LogFolder(tmp_path), "t/1", str(wanted / "below"))
    assert log.path is None
    assert "the log could not be made: " in log.error


def test_a_log_that_is_named_may_be_in_the_folder_where_we_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = OutputLog(100)
    log.open(LogFolder(None), "t/1", "one.log")
    log.close()
    assert log.path == tmp_path / "one.log"


@pytest.fixture
def open_to_all():
    """What is made has all the rights that are asked for."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("open_to_all")
def test_logs_are_for_us_alone_and_those_that_are_named_for_all(tmp_path):
    folder = LogFolder(tmp_path / "x/logs")
    for name in ("a/b/one.log", "a/b/one.2.log", "a/b/one.3.log"):
        file, path = folder.create("a/b/one")
        flags = fcntl.fcntl(file, fcntl.F_GETFL)
        os.close(file)
        assert path == tmp_path / "x/logs" / name
        assert mode(path) == 0o600
        assert flags & os.O_ACCMODE == os.O_WRONLY
        assert flags & os.O_APPEND
    assert mode(tmp_path / "x/logs/a/b") == mode(tmp_path / "x/logs") == 0o700
    for name in ("named", "below/named"):
        os.close(_output._empty(tmp_path / name))
        assert mode(tmp_path / name) == 0o644


def test_nothing_stays_open_for_a_log(tmp_path):
    before, folder = descriptors(), LogFolder(tmp_path)
    file, _ = folder.create("a/b/c/one")
    os.close(file)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        folder.create("file/one")
    assert descriptors() == before


def test_all_logs_without_a_folder_are_in_one():
    folder = LogFolder(None)
    made = [folder.create(name) for name in ("one", "two")]
    for file, _ in made:
        os.close(file)
    (_, one), (_, two) = made
    assert one.parent == two.parent
    assert folder._path == one.parent


# -- the file with the number ----------------------------------------------------------


def test_the_file_with_the_number_is_there_until_it_is_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = PidFile("one.pid")
    file.remove()
    file.write(4711)
    path = tmp_path / "one.pid"
    assert path.read_text() == "4711\n"
    monkeypatch.chdir("/")
    file.remove()
    assert not path.exists()
    # One that is there now is somebody else's.
    path.write_text("8\n")
    file.remove()
    assert path.exists()
    PidFile(None).write(4711)
    PidFile(None).remove()
