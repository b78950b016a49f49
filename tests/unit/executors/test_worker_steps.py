"""What a worker does, in this process, with the other ends of its sockets in hand."""

# pyright: basic

import io
import logging
import os
import pickle
import socket
import sys
import threading

import pytest

from taskorch.errors import AttemptInterrupted, NotRunningError
from taskorch.executors._processes import _wire, _worker
from taskorch.executors._processes._wire import Frames, frame
from taskorch.executors._remote import HERE, RemoteEnd, remote_call

PATIENCE = 20.0
NUMBER = b"number 1"


class Site:
    """A worker, and what the test sends it and hears of it."""

    def __init__(self):
        self.wire, theirs = socket.socketpair()
        kind = socket.SOCK_DGRAM
        self.messages, their_messages = socket.socketpair(socket.AF_UNIX, kind)
        self.wire.settimeout(PATIENCE)
        self.worker = _worker._Worker(theirs, their_messages)
        self.sockets = [self.wire, self.messages, theirs, their_messages]
        self.frames = Frames()

    def heard(self):
        """All that it has said over the wire."""
        self.wire.setblocking(False)
        found = []
        try:
            while data := self.wire.recv(2**20):
                found += self.frames.feed(data)
        except BlockingIOError:
            pass
        return found

    def do(self, call):
        """Have it make *call*, and what it has said of it."""
        whole = NUMBER + (call if isinstance(call, bytes) else pickle.dumps(call))
        self.worker._do(memoryview(whole)[len(NUMBER) :], whole)
        ((kind, body),) = self.heard()
        return kind, body


@pytest.fixture
def forks():
    return []


@pytest.fixture
def site(monkeypatch, forks):
    monkeypatch.setattr(
        _worker.os, "register_at_fork", lambda **given: forks.append(given)
    )
    for name in ("link", "most_bytes", "is_importing_main"):
        monkeypatch.setattr(HERE, name, getattr(HERE, name))
    found = Site()
    yield found
    for there in found.sockets:
        there.close()


# -- its calls -------------------------------------------------------------------------


def test_its_sockets_are_its_own(monkeypatch):
    """Or all that it starts would keep them open."""
    ran = []

    class Runs:
        def __init__(self, *sockets):
            self.sockets = sockets

        def run(self):
            ran.append([there.fileno() for there in self.sockets])
            assert not any(there.get_inheritable() for there in self.sockets)
            for there in self.sockets:
                there.close()

    monkeypatch.setattr(_worker, "_Worker", Runs)
    fds = [there.detach() for there in socket.socketpair()]
    for fd in fds:
        os.set_inheritable(fd, True)
    _worker.main(*fds)
    assert ran == [fds]


def test_it_begins_and_makes_calls_until_the_wire_is_closed(site, monkeypatch):
    begun, worker = [], site.worker
    monkeypatch.setattr(worker, "_begin", begun.append)
    site.wire.send(frame(_wire.BEGIN, pickle.dumps({"argv": ["x"]})))
    site.messages.send(NUMBER + pickle.dumps(remote_call(pow, (2, 3))))
    large = pickle.dumps(remote_call(len, (bytes(2**17),)))
    threading.Thread(
        target=site.wire.sendall, args=(frame(_wire.CALL, b"number 2", large),)
    ).start()
    said = []

    def do(call, whole, does=worker._do):
        assert call == whole[_wire.NUMBER :]
        said.append(worker._current)
        does(call, whole)
        if len(said) == 2:
            site.wire.shutdown(socket.SHUT_WR)

    monkeypatch.setattr(worker, "_do", do)
    with pytest.raises(SystemExit) as left:
        worker.run()
    assert left.value.code == 0
    assert begun == [{"argv": ["x"]}]
    assert said == [NUMBER, b"number 2"]
    kinds, bodies = zip(*site.heard(), strict=True)
    assert kinds == (_wire.READY, _wire.RETURNED, _wire.RETURNED)
    assert bodies[0] == b""
    assert [pickle.loads(body[4:]) for body in bodies[1:]] == [8, 2**17]
    assert HERE.link is worker
    assert HERE.most_bytes == _wire.MOST_BYTES


def test_of_a_call_that_was_made_nothing_is_kept(site, monkeypatch):
    """It may be large, and the next one be long in coming."""

    class Large(bytes):
        """One that says when it goes."""

        def __del__(self):
            gone.append(1)

    def next_call():
        asked.append(len(gone))
        if len(asked) == 2:
            raise SystemExit
        return Large(NUMBER + pickle.dumps(remote_call(pow, (2, 3))))

    asked, gone = [], []
    monkeypatch.setattr(site.worker, "_begin", print)
    monkeypatch.setattr(site.worker, "_next_call", next_call)
    site.wire.send(frame(_wire.BEGIN, pickle.dumps(None)))
    with pytest.raises(SystemExit):
        site.worker.run()
    assert asked == [0, 1]


def test_the_next_call_is_found_wherever_it_is(site):
    """What came over the wire and was read already is not read again."""
    worker = site.worker
    site.messages.send(b"small")
    assert worker._next_call() == b"small"
    site.wire.send(frame(_wire.CALL, b"large") + frame(_wire.CALL, b"larger"))
    assert worker._next_call() == b"large"
    assert worker._next_call() == b"larger"
    site.wire.send(frame(_wire.STOP, b"number 0")[:6])
    threading.Timer(0.01, site.messages.send, (b"last",)).start()
    assert worker._next_call() == b"last"


def test_with_its_messages_closed_it_ends(site):
    site.sockets[-1].close()
    with pytest.raises(SystemExit):
        site.worker._next_call()


def test_what_a_call_returned_is_said_with_its_type(site):
    assert site.do(remote_call(pow, (2, 3))) == (
        _wire.RETURNED,
        b"\3int" + pickle.dumps(8),
    )


def test_a_very_long_name_of_a_type_is_cut(site):
    end = RemoteEnd(b"data", raised=False, kind="a" * 300)
    kind, body = site.do(_Returns(end))
    assert kind == _wire.RETURNED
    assert body == b"\xff" + b"a" * 255 + b"data"


class _Returns:
    """A call that can be sent, and returns what it was made with."""

    def __init__(self, value):
        self.value = value

    def __call__(self):
        return self.value


class _Leaves(Exception):
    """In the place of an exit."""


class _ExplodesThere:
    def __reduce__(self):
        return _explode, ()


class _CannotBeSent:
    def __reduce__(self):
        raise TypeError("no pickle")


def _explode():
    raise LookupError("no module")


@pytest.mark.parametrize(
    "end",
    [
        RemoteEnd(b"data", raised=True, kind="ValueError", message="text"),
        RemoteEnd(None, raised=False, kind="lock", message="no pickle"),
        RemoteEnd(None, raised=True, kind="ValueError"),
        5,
        None,
    ],
)
def test_any_other_end_is_said_whole(site, end):
    kind, body = site.do(_Returns(end))
    assert kind == _wire.END
    assert pickle.loads(body) == end


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (b"rubbish", "UnpicklingError"),
        (pickle.dumps(_ExplodesThere()), "LookupError"),
        (pickle.dumps(5), "TypeError"),
        (pickle.dumps(_explode), "LookupError"),
    ],
)
def test_what_cannot_be_read_or_made_is_said_by_its_reason(site, call, says):
    kind, body = site.do(call)
    assert kind == _wire.UNREADABLE
    assert pickle.loads(body)[0] == says


def test_what_cannot_be_sent_back_is_said_by_its_reason(site, monkeypatch):
    monkeypatch.setattr(_Returns, "__call__", lambda self: _CannotBeSent())
    kind, body = site.do(_Returns(None))
    assert kind == _wire.UNREADABLE
    assert pickle.loads(body) == ("TypeError", "no pickle")


@pytest.mark.parametrize("has_stream", [True, False])
def test_what_was_printed_is_out_before_the_end_is_said(site, has_stream, monkeypatch):
    """Something may stand in the place of a stream that cannot be flushed."""

    class Stream(io.StringIO):
        flushed = 0

        def flush(self):
            assert site.heard() == []
            Stream.flushed += 1

    monkeypatch.setattr(sys, "stdout", Stream() if has_stream else None)
    monkeypatch.setattr(sys, "stderr", Stream())
    site.worker._say(_wire.END, b"bo", b"dy")
    assert site.heard() == [(_wire.END, b"body")]
    assert Stream.flushed == 1 + has_stream


def test_a_child_that_comes_to_the_end_of_the_call_ends_there(site, monkeypatch):
    codes = []

    def leave(code):
        codes.append(code)
        raise _Leaves

    monkeypatch.setattr(_worker.os, "_exit", leave)
    site.worker._pid += 1
    with pytest.raises(_Leaves):
        site.worker._say(_wire.END, b"body")
    assert codes == [0]
    assert site.heard() == []


# -- the main module -------------------------------------------------------------------


@pytest.fixture
def begun(site, monkeypatch):
    """A worker that was told of a script, whose import is noted."""
    imported = []
    monkeypatch.setattr(
        site.worker, "_import_main", lambda *given: imported.append(given)
    )
    site.worker._main = "module", "/path"
    return site, imported


@pytest.mark.parametrize(
    ("text", "is_needed"),
    [(b"cmath\nsqrt\n", False), (b"__main__", True), (b"__mp_main__", True)],
)
def test_the_script_is_brought_in_by_the_first_call_that_names_it(
    begun, text, is_needed
):
    site, imported = begun
    call = pickle.dumps(remote_call(len, (text,)))
    site.do(call)
    assert imported == [("module", "/path")] * is_needed
    # Once it is there, a call is only made.
    site.worker._main = None
    assert site.do(call)[0] == _wire.RETURNED
    assert len(imported) == is_needed


@pytest.fixture
def no_script(monkeypatch):
    """What the main module is put in the place of comes back afterwards."""
    for name in ("__main__", "__mp_main__"):
        monkeypatch.setitem(sys.modules, name, sys.modules["__main__"])


@pytest.mark.parametrize("way", ["name", "path"])
@pytest.mark.usefixtures("no_script")
def test_the_script_is_run_under_another_name(site, way, tmp_path, monkeypatch):
    worker, before = site.worker, sys.modules["__main__"]
    script = tmp_path / "ours_script.py"
    script.write_text(
        "import sys\n"
        "from taskorch.executors._remote import HERE\n"
        "seen = HERE.is_importing_main, __name__, sys.argv[0], __file__\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["before"])
    worker._main = "ours_script", str(script)
    if way == "name":
        worker._import_main("ours_script", "/no/such/path.py")
    else:
        worker._import_main(None, str(script))
    main = sys.modules["__main__"]
    assert main is sys.modules["__mp_main__"] is not before
    assert main.__name__ == "__mp_main__"
    assert main.seen == (True, "__mp_main__", str(script), str(script))
    assert not HERE.is_importing_main
    assert worker._main is None
    assert worker._old_main is before


@pytest.mark.parametrize("name", ["package.__main__", "__main__", None])
@pytest.mark.usefixtures("no_script")
def test_without_one_or_of_a_package_none_is_brought_in(site, name):
    before = sys.modules["__main__"]
    site.worker._main = name, None
    site.worker._import_main(name, None if name is None else "/no/such/path.py")
    assert sys.modules["__main__"] is before
    assert not HERE.is_importing_main
    assert site.worker._main == (name, None)


@pytest.mark.usefixtures("no_script")
def test_a_script_that_fails_is_not_there(site, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("raise LookupError")
    before = sys.modules["__main__"]
    with pytest.raises(LookupError):
        site.worker._import_main(None, str(script))
    assert sys.modules["__main__"] is before
    assert not HERE.is_importing_main


@pytest.fixture
def loggers(monkeypatch):
    """The loggers as they are, whatever the test does to them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(root.manager, "disable", root.manager.disable)
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("own.worker").setLevel(logging.NOTSET)


def test_it_takes_over_what_we_have(site, loggers, monkeypatch):
    argv = ["ours"]
    monkeypatch.setattr(sys, "argv", argv)
    site.worker._begin(
        {
            "argv": ["script", "x"],
            "main_name": "module",
            "main_path": "/path",
            "levels": {"": 31, "own.worker": 13},
            "disabled": 7,
        }
    )
    assert sys.argv is argv
    assert argv == ["script", "x"]
    assert site.worker._main == ("module", "/path")
    assert loggers.level == 31
    assert logging.getLogger("own.worker").level == 13
    assert loggers.manager.disable == 7
    *_, handler = loggers.handlers
    assert isinstance(handler, _worker._Forward)
    assert handler._worker is site.worker


# -- the wire --------------------------------------------------------------------------


def test_without_its_parent_it_ends(site):
    for act in (
        lambda: site.worker._send(_wire.READY, b""),
        lambda: site.worker._receive(0),
    ):
        site.wire.close()
        with pytest.raises(SystemExit) as left:
            act()
        assert left.value.code == 0


def test_without_its_parent_a_thread_of_a_task_ends_it_all(site, monkeypatch):
    codes = []
    monkeypatch.setattr(_worker.os, "_exit", codes.append)
    thread = threading.Thread(target=site.worker._lose)
    thread.start()
    thread.join(PATIENCE)
    assert codes == [1]


def test_what_is_no_frame_ends_it_once_what_came_before_is_taken_in(site):
    site.wire.send(frame(_wire.STOP, b"number 3") + b"rubbish")
    with pytest.raises(SystemExit):
        site.worker._receive(0)
    assert site.worker._stopped == b"number 3"


def test_what_is_not_there_is_not_waited_for(site):
    site.worker._receive(socket.MSG_DONTWAIT)
    assert not site.worker._calls
    assert not site.worker._answers


def test_a_child_of_a_task_has_no_wire(site, forks):
    HERE.link = site.worker
    (given,) = forks
    given["after_in_child"]()
    assert HERE.link is None
    assert site.sockets[2].fileno() == site.sockets[3].fileno() == -1
    given["after_in_child"]()


def test_it_is_to_end_once_its_own_number_was_said(site):
    worker = site.worker
    worker._current = NUMBER
    assert worker.is_to_end is False
    site.wire.send(frame(_wire.STOP, b"number 0"))
    assert worker.is_to_end is False
    site.wire.send(frame(_wire.STOP, NUMBER) + frame(_wire.CALL, b"next"))
    assert worker.is_to_end is True
    assert list(worker._calls) == [b"next"]
    # Once it knows, nothing more is read for the answer.
    site.wire.send(frame(_wire.CALL, b"last"))
    assert worker.is_to_end is True
    assert list(worker._calls) == [b"next"]
    worker._current = b"next"
    assert worker.is_to_end is False
    assert list(worker._calls) == [b"next", b"last"]
    assert not worker._receiving.locked()


def test_whoever_asks_while_another_reads_does_not_wait(site):
    worker = site.worker
    worker._current = NUMBER
    site.wire.send(frame(_wire.STOP, NUMBER))
    with worker._receiving:
        assert worker.is_to_end is False
    assert worker.is_to_end is True


def test_what_is_told_is_sent_and_nobody_answers(site):
    site.worker.tell("progress", ("t1", 2), 5)
    ((kind, body),) = site.heard()
    assert kind == _wire.TOLD
    task, what, number, value = pickle.loads(body)
    assert (task, what, number) == (("t1", 2), "progress", None)
    assert pickle.loads(value) == 5


@pytest.mark.parametrize("error", [None, AttemptInterrupted("suspended")])
def test_who_asks_gets_the_answer_to_its_question(site, error):
    """And not that to another's, which may come before."""
    for number in (1, 2):
        answer = pickle.dumps((number, error, {"cpu": number}))
        other = pickle.dumps((number + 7, None, "another's"))
        site.wire.send(frame(_wire.ANSWER, other) + frame(_wire.ANSWER, answer))
        if error is None:
            asked = site.worker.ask("checkpoint", ("t1", 2), 6)
            assert asked == {"cpu": number}
        else:
            with pytest.raises(AttemptInterrupted, match="suspended"):
                site.worker.ask("checkpoint", ("t1", 2), 6)
        ((kind, body),) = site.heard()
        assert kind == _wire.TOLD
        assert pickle.loads(body)[:3] == (("t1", 2), "checkpoint", number)
    assert set(site.worker._answers) == {8, 9}


def test_what_cannot_be_told_is_refused_with_the_reason(site):
    for act in (site.worker.tell, site.worker.ask):
        with pytest.raises(
            NotRunningError, match=r"progress\(\) cannot be sent"
        ) as got:
            act("progress", ("t1", 2), _CannotBeSent())
        assert "no pickle" in str(got.value)
        assert isinstance(got.value.__cause__, TypeError)
    assert site.heard() == []


# -- records ---------------------------------------------------------------------------


def emitted(site, record, handler=None):
    (handler or _worker._Forward(site.worker)).emit(record)
    found = []
    for kind, body in site.heard():
        assert kind == _wire.LOGGED
        found.append(pickle.loads(body))
    return found


def record(text, *args, exc_info=None, **fields):
    made = logging.LogRecord("ours", 20, __file__, 7, text, args, exc_info)
    made.__dict__.update(fields)
    return made


def caught():
    try:
        raise ValueError("text")
    except ValueError:
        return sys.exc_info()


def test_a_record_is_sent_with_its_text(site):
    (found,) = emitted(site, record("%s of %d", "one", 2, number=5))
    assert (found["msg"], found["args"], found["number"]) == ("one of 2", None, 5)
    assert found["exc_info"] is None
    assert found["exc_text"] is None


@pytest.mark.parametrize("text", [None, "as it was formatted"])
def test_the_traceback_of_a_record_is_text(site, text):
    (found,) = emitted(site, record("caught", exc_info=caught(), exc_text=text))
    assert found["exc_info"] is None
    if text is None:
        assert found["exc_text"].startswith("Traceback")
        assert found["exc_text"].endswith("ValueError: text")
    else:
        assert found["exc_text"] == text


def test_a_traceback_is_formatted_as_its_handler_would(site):
    class Short(logging.Formatter):
        def formatException(self, exc_info):
            return f"short {exc_info[0].__name__}"

    handler = _worker._Forward(site.worker)
    handler.setFormatter(Short())
    (found,) = emitted(site, record("caught", exc_info=caught()), handler)
    assert found["exc_text"] == "short ValueError"


def test_what_cannot_be_sent_of_a_record_is_shown(site):
    given = {"lock": _CannotBeSent(), "half": 0.5, "none": None, "name_": "x", "n": 7}
    (found,) = emitted(site, record("strange", **given))
    assert "_CannotBeSent" in found.pop("lock")
    assert {name: found[name] for name in given if name != "lock"} == {
        "half": 0.5,
        "none": None,
        "name_": "x",
        "n": 7,
    }
    assert found["msg"] == "strange"


def test_a_record_that_cannot_be_made_is_the_handlers_fault(site, monkeypatch):
    failed = []
    monkeypatch.setattr(
        _worker._Forward, "handleError", lambda *given: failed.append(1)
    )
    assert emitted(site, record("%d", "no number")) == []
    assert failed == [1]


def test_a_child_of_a_task_sends_no_records(site):
    site.worker._pid += 1
    assert emitted(site, record("text")) == []
