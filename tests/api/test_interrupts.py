"""Ctrl-C: it arrives, and what it meets goes on."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import subprocess
import sys
import threading
import time
import weakref
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
from tests.api.tools import PATIENCE

from taskorch import Task, TaskOrchestrator
from taskorch.errors import ComponentError, InternalError
from taskorch.kit import interrupts
from taskorch.policies import PerformanceRouter
from taskorch.protocols import Admission, Order, Verdict

OURS = interrupts._on_interrupt


@pytest.fixture(autouse=True)
def _handler():
    """Whoever runs the tests in the background may have SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def handler():
    return signal.getsignal(signal.SIGINT)


def interrupt():
    signal.raise_signal(signal.SIGINT)


class Interrupted(PerformanceRouter):
    """Somebody presses Ctrl-C while it is asked, which is during a step."""

    def __init__(self, times=1):
        self.times = times
        self.asked = 0

    def route(self, task, candidates, context):
        for _ in range(self.times):
            interrupt()
        self.asked += 1
        return super().route(task, candidates, context)


def with_worker(orch):
    orch.agent("a", capabilities={"x"})(lambda task, context: task.payload)
    return orch


# -- during a step -----------------------------------------------------------------


def test_one_during_a_step_arrives_at_its_end():
    """The step is done whole, the caller is told, and all goes on."""
    router = Interrupted()
    with with_worker(TaskOrchestrator(router=router)) as orch:
        with pytest.raises(KeyboardInterrupt):
            orch.submit_task(Task("x", 7, id="seven"))
        assert router.asked == 1
        router.times = 0
        assert orch.handle("seven").result(PATIENCE) == 7
        assert orch.submit_task(Task("x", 8)).result(PATIENCE) == 8
        assert orch.health().status == "ok"


def test_some_during_one_step_are_one():
    """As signals are that come before the first was handled; none comes later."""
    router = Interrupted(times=3)
    with with_worker(TaskOrchestrator(router=router)) as orch:
        with pytest.raises(KeyboardInterrupt):
            orch.submit_task(Task("x", 7))
        router.times = 0
        time.sleep(0.1)
        assert orch.submit_task(Task("x", 8)).result(PATIENCE) == 8


class Queue:
    """Interrupted while it is asked about a submission, and then it fails."""

    def order(self, task, context):
        return Order(0)

    def admit(self, task, context):
        interrupt()
        raise LookupError


def test_one_during_a_step_that_fails_is_not_lost():
    """The error of the step is the context of the interrupt."""
    with TaskOrchestrator(queue=Queue()) as orch:
        for submit in (
            lambda: orch.submit(int),
            lambda: orch.submit_task(Task.call(int)),
        ):
            with pytest.raises(KeyboardInterrupt) as caught:
                submit()
            assert isinstance(caught.value.__context__, ComponentError)
        assert orch.health().ready


class Admits:
    """Interrupted while it is asked whether a plain call is admitted."""

    def order(self, task, context):
        return Order(0)

    def admit(self, task, context):
        interrupt()
        return Admission(True)


def test_one_during_a_plain_submission_arrives_at_its_end():
    """The task is there and runs; only the handle did not come back."""
    with TaskOrchestrator(queue=Admits()) as orch:
        ran = threading.Event()
        with pytest.raises(KeyboardInterrupt):
            orch.submit(ran.set)
        assert ran.wait(PATIENCE)


def test_one_while_the_validator_is_asked_ends_that():
    """It may take its time, and nothing has been done yet."""

    class Slow:
        asked = 0

        def validate(self, task, context):
            self.asked += 1
            if self.asked == 1:
                interrupt()
                pytest.fail("it was not interrupted")
            return Verdict()

    with TaskOrchestrator(validator=Slow()) as orch:
        with pytest.raises(KeyboardInterrupt):
            orch.submit(int)
        assert list(orch.tasks()) == []
        assert orch.submit(int, "3").result(PATIENCE) == 3


class Dies:
    """Somebody presses Ctrl-C while it is taken down."""

    def __del__(self):
        interrupt()


class DiesWeakly:
    """Likewise, in the moment in which a WeakSet forgets it."""

    def __init__(self):
        self.others = weakref.WeakSet()
        self.others.add(self)
        # The set calls it to learn that it is gone, which is when.
        remove = self.others._remove
        self.ref = weakref.ref(self, lambda ref: remove(ref, Self()))


class Self:
    """What `_remove` asks for its set."""

    def __call__(self):
        interrupt()


class DiesFinally:
    """Likewise, in the moment in which something is done that was to be done then."""

    def __init__(self):
        weakref.finalize(self, signal.raise_signal, signal.SIGINT)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", [Dies, DiesWeakly, DiesFinally])
def test_one_where_python_would_forget_it_arrives_after_that(kind):
    """It would be printed there, and nobody would hear of it."""
    refs = []
    with TaskOrchestrator() as orch:
        with pytest.raises(KeyboardInterrupt):
            take_down(kind, refs)
        assert orch.submit(int, "3").result(PATIENCE) == 3


def take_down(kind, refs):
    dead = kind()
    refs.append(getattr(dead, "ref", None))
    del dead
    while True:
        time.sleep(0.01)


def test_one_in_what_is_finalized_by_hand_arrives_at_once():
    """There it is raised to the caller, and what is done may take its time."""

    def last():
        interrupt()
        pytest.fail("it was not interrupted")

    with TaskOrchestrator():
        finalize = weakref.finalize(last, last)
        with pytest.raises(KeyboardInterrupt):
            finalize()


class Interrupting:
    """A lock in whose taking, or giving back, an interrupt comes."""

    def __init__(self, when):
        self.lock = threading.RLock()
        self.when = when
        self.acquire, self.release = self.lock.acquire, self.lock.release
        # What a Condition takes of it, from CPython 3.14 on.
        self.locked = getattr(self.lock, "locked", None)

    def __enter__(self):
        self.lock.acquire()
        if self.when == "taken":
            signal.raise_signal(signal.SIGINT)

    def __exit__(self, *_):
        if self.when == "given back":
            signal.raise_signal(signal.SIGINT)
        self.lock.release()


def use(condition):
    """Until the interrupt comes, in it or after it."""
    with condition:
        assert repr(condition)
    time.sleep(PATIENCE)


@pytest.mark.parametrize("when", ["taken", "given back"])
def test_one_does_not_leave_a_condition_locked(when):
    """As that of a future: who sets its result would wait for ever."""
    with TaskOrchestrator():
        condition = threading.Condition(Interrupting(when))
        with pytest.raises(KeyboardInterrupt):
            use(condition)
        assert is_free(condition)


def is_free(condition):
    """Whether another thread can have it."""
    free: list[bool] = []

    def take_and_give_back():
        free.append(condition.acquire(False))
        if free[0]:
            condition.release()

    other = threading.Thread(target=take_and_give_back)
    other.start()
    other.join()
    return free == [True]


def once_interrupted(lock, when):
    """Its next `acquire`, when it has it; or its next `release`, when it still has it."""
    do = getattr(lock, when)

    def interrupted():
        setattr(lock, when, do)
        if when == "release":
            interrupt()
        do()
        if when == "acquire":
            interrupt()

    setattr(lock, when, interrupted)


def import_half():
    """As one does while another thread loads it; until the interrupt comes."""
    import half  # noqa: F401 - it is in the table of modules

    time.sleep(PATIENCE)


@pytest.mark.parametrize("when", ["taken", "given back"])
def test_one_does_not_leave_a_module_locked(when, monkeypatch):
    """Whoever waits until it is loaded would wait for ever: threads of ours, too."""
    half = ModuleType("half")
    half.__spec__ = SimpleNamespace(_initializing=True)
    monkeypatch.setitem(sys.modules, "half", half)
    lock = importlib._bootstrap._get_module_lock("half")
    lock.lock = Interrupting(when)
    with TaskOrchestrator():
        with pytest.raises(KeyboardInterrupt):
            import_half()
        lock.lock.when = ""
        other = threading.Thread(target=__import__, args=("half",), daemon=True)
        other.start()
        other.join(PATIENCE)
        assert not other.is_alive()


def use_handler(handler):
    """As a handler does for itself with each record, until CPython 3.12."""
    handler.acquire()
    try:
        assert repr(handler)
    finally:
        handler.release()
    time.sleep(PATIENCE)


@pytest.mark.parametrize("when", ["acquire", "release"])
def test_one_does_not_leave_what_logs_locked(when):
    """Whoever logs next would wait for ever: threads of ours, too."""
    lock = threading.RLock()
    handler = logging.Handler()
    handler.lock = SimpleNamespace(acquire=lock.acquire, release=lock.release)
    once_interrupted(handler.lock, when)
    with TaskOrchestrator():
        with pytest.raises(KeyboardInterrupt):
            use_handler(handler)
        assert is_free(lock)


class InterruptingWait:
    """A lock that is interrupted while it is let go for a wait, or taken after it."""

    def __init__(self, when):
        self.lock = threading.Lock()
        self.when = when
        self.locked = self.lock.locked

    def __enter__(self):
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()

    def acquire(self, *args):
        if self.when == "taken again" and not args:
            signal.raise_signal(signal.SIGINT)
        return self.lock.acquire(*args)

    def release(self):
        self.lock.release()
        if self.when == "let go":
            signal.raise_signal(signal.SIGINT)


def wait_for_nobody(condition):
    with condition:
        condition.wait(0.01)
    time.sleep(PATIENCE)


@pytest.mark.parametrize("when", ["let go", "taken again"])
def test_one_does_not_cut_short_what_a_wait_does_with_its_lock(when):
    """As that of an Event: its lock would be released by one who does not hold it."""
    with TaskOrchestrator():
        condition = threading.Condition(InterruptingWait(when))
        with pytest.raises(KeyboardInterrupt):
            wait_for_nobody(condition)
        assert condition.acquire(False)


class LetGo:
    """A lock whose functions are in C, as those of a future's: one comes as it is let go."""

    def __init__(self):
        self.taken_again = []
        self.acquire = self.release = self.locked = bool
        self._release_save = partial(signal.raise_signal, signal.SIGINT)
        self._acquire_restore = self.taken_again.append
        self._is_owned = partial(bool, 1)

    def __enter__(self):
        return True

    def __exit__(self, *_):
        pass


def test_one_as_a_wait_begins_leaves_the_lock_to_who_holds_it():
    """As that of a future: what was let go is taken again before it arrives."""
    with TaskOrchestrator():
        lock = LetGo()
        with pytest.raises(KeyboardInterrupt):
            wait_for_nobody(threading.Condition(lock))
        assert lock.taken_again == [None]


class Taken:
    """What is taken by a function in C, as a lock is, at whose end an interrupt comes."""

    def __init__(self):
        self.given_back = False

    __enter__ = staticmethod(partial(signal.raise_signal, signal.SIGINT))

    def __exit__(self, *_):
        self.given_back = True


def take(what):
    with what:
        time.sleep(PATIENCE)


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="only there it comes between the two"
)
def test_one_between_a_lock_and_its_block_leaves_nothing_locked():
    """It waits for the block, which gives back what was taken."""
    with TaskOrchestrator():
        taken = Taken()
        with pytest.raises(KeyboardInterrupt):
            take(taken)
        assert taken.given_back


def test_one_reaches_who_waits_for_a_lock():
    """Whoever holds it may never give it back."""
    with TaskOrchestrator():
        lock = threading.Lock()
        with lock:
            main = threading.main_thread().ident
            later = threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGINT])
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes in here
                later.start()
                take(lock)
            later.join()


def test_a_step_that_hangs_is_cut_short_by_the_next(monkeypatch):
    """Then nobody knows where it stood: the orchestrator says so, and stops."""

    class Hangs(Interrupted):
        def route(self, task, candidates, context):
            # The timer may ask, too, before all is stopped.
            if threading.current_thread() is threading.main_thread():
                interrupt()
                # Much later, the second.
                monkeypatch.setattr(interrupts, "_PATIENCE", -1.0)
                while True:
                    interrupt()
            return super().route(task, candidates, context)

    with with_worker(TaskOrchestrator(router=Hangs())) as orch:
        with pytest.raises(KeyboardInterrupt):
            orch.submit_task(Task("x", 7))
        with pytest.raises(InternalError, match="cut short by KeyboardInterrupt"):
            orch.submit(int)


def test_one_on_the_way_to_a_first_use_leaves_no_half_of_a_module():
    """What is loaded when it is first needed is loaded whole."""
    script = """
import signal, sys
from taskorch import TaskOrchestrator, Workflow
signal.signal(signal.SIGINT, signal.default_int_handler)
orch = TaskOrchestrator()
orch.start()
wf = Workflow("w")
wf.task(int, "3", id="three")

class Finder:
    done = False
    def find_spec(self, name, path=None, target=None):
        if name == "taskorch.core.runs._manager" and not self.done:
            self.done = True
            signal.raise_signal(signal.SIGINT)

finder = Finder()
sys.meta_path.insert(0, finder)
try:
    orch.workflows
    while True:
        pass
except KeyboardInterrupt:
    print(finder.done, orch.workflows.start(wf).result(10))
orch.stop()
"""
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("True {'three': 3}\n", "")


class Alarm(Exception):
    """What the handler of an alarm raises."""


@pytest.fixture(name="alarm")
def fixture_alarm():
    def handle(number, frame):
        raise Alarm

    before = signal.signal(signal.SIGALRM, handle)
    yield
    signal.signal(signal.SIGALRM, before)


class Alarmed(PerformanceRouter):
    """An alarm goes off while it is asked, again and again."""

    times = 3

    def route(self, task, candidates, context):
        if self.times:
            self.times -= 1
            signal.raise_signal(signal.SIGALRM)
        return super().route(task, candidates, context)


@pytest.mark.usefixtures("alarm")
def test_what_a_handler_raises_during_a_step_arrives_at_its_end():
    """It is no fault of the policy that was asked, and the step is done whole."""
    router, failed = Alarmed(), []
    with with_worker(TaskOrchestrator(router=router)) as orch:
        orch.signals.component_failed.connect(failed.append)
        with pytest.raises(Alarm):
            orch.submit_task(Task("x", 7, id="seven"))
        assert router.times == 0
        assert orch.handle("seven").result(PATIENCE) == 7
        assert orch.submit_task(Task("x", 8)).result(PATIENCE) == 8
        assert orch.wait(PATIENCE)
        assert orch.health().status == "ok"
    assert failed == []


@pytest.mark.usefixtures("alarm")
def test_a_policy_that_is_always_cut_short_has_failed():
    """Its task fails with its name; the caller has what was raised, and all goes on."""

    router = Alarmed()
    router.times = 9
    with with_worker(TaskOrchestrator(router=router)) as orch:
        with pytest.raises(Alarm):
            orch.submit_task(Task("x", 7, id="seven"))
        with pytest.raises(ComponentError, match="router"):
            orch.handle("seven").result(PATIENCE)
        assert router.times == 0
        assert orch.submit_task(Task("x", 8)).result(PATIENCE) == 8
        assert orch.health().ready


@pytest.mark.usefixtures("alarm")
def test_what_a_handler_raises_while_the_validator_is_asked_arrives():
    """As it is, and at once: nothing was done yet."""

    class Alarms:
        def validate(self, task, context):
            signal.raise_signal(signal.SIGALRM)
            return Verdict()

    with TaskOrchestrator(validator=Alarms()) as orch, pytest.raises(Alarm):
        orch.submit(int)


# -- while it waits ----------------------------------------------------------------


def sleep(orch, handle):
    """It arrives, too, where nobody of ours looks."""
    handle.add_done_callback(lambda _: None)
    # In parts: one that comes in the moment in which a sleep begins does not end it.
    while True:
        time.sleep(0.01)


def test_one_while_a_journal_is_opened_ends_only_the_wait(tmp_path, monkeypatch):
    """It is open by then, and the next start goes on."""
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    keep = orch._rt.committer.wait_kept

    def slow(seq):
        monkeypatch.undo()
        interrupt()
        keep(seq)

    monkeypatch.setattr(
        orch._rt.committer, "wait_kept", interrupts.takes_interrupts(slow)
    )
    with pytest.raises(KeyboardInterrupt):
        orch.start()
    with orch:
        assert orch.submit(int, "3").result(PATIENCE) == 3


def test_a_block_that_was_not_entered_leaves_nothing_behind():
    """What had begun is stopped: nobody else would do it."""
    orch = TaskOrchestrator()
    orch._lifecycle.start = lambda _: interrupt()
    with pytest.raises(KeyboardInterrupt), orch:
        pytest.fail("it was entered")
    assert orch._rt.closed


# -- whose handler it is -----------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
def test_the_handler_is_there_from_the_first_start_to_the_last_stop(first):
    """In whichever order some are stopped, twice too."""
    orchs = [TaskOrchestrator(), TaskOrchestrator()]
    assert handler() is signal.default_int_handler
    for orch in orchs:
        orch.start()
        assert handler() is OURS
    orchs[first].stop()
    orchs[first].stop()
    assert handler() is OURS
    orchs[1 - first].stop()
    assert handler() is signal.default_int_handler


def test_one_that_was_let_go_needs_no_handler(recwarn):
    """Nobody can stop it any more."""
    with TaskOrchestrator():
        interrupts.guard(type("Gone", (), {})())
    assert handler() is signal.default_int_handler


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_handler_of_the_users_is_left_alone(when):
    """Whenever it was installed; and it is called during steps, too."""
    seen = []

    def mine(number, frame):
        seen.append(number)

    if when == "before":
        signal.signal(signal.SIGINT, mine)
    with with_worker(TaskOrchestrator(router=Interrupted())) as orch:
        if when == "after":
            assert signal.signal(signal.SIGINT, mine) is OURS
        assert handler() is mine
        orch.submit_task(Task("x", 7)).result(PATIENCE)
    assert handler() is mine
    assert seen == [signal.SIGINT]


def test_a_handler_that_is_put_back_too_late_leaves_by_itself():
    """A caller who saved ours, and put it back after the stop, has Python's in effect."""
    orch = TaskOrchestrator()
    orch.start()
    saved = signal.signal(signal.SIGINT, signal.SIG_IGN)
    orch.stop()
    signal.signal(signal.SIGINT, saved)
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert handler() is signal.default_int_handler


def test_another_thread_installs_nothing():
    """Only the main thread may; it can stop what it did not start, and vice versa."""
    orch = TaskOrchestrator()
    thread = threading.Thread(target=orch.start)
    thread.start()
    thread.join(PATIENCE)
    assert handler() is signal.default_int_handler
    orch.stop()

    orch = TaskOrchestrator()
    orch.start()
    thread = threading.Thread(target=orch.stop)
    thread.start()
    thread.join(PATIENCE)
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert handler() is signal.default_int_handler


def test_a_notebook_that_puts_pythons_handler_back_gets_ours_for_each_cell(
    monkeypatch,
):
    """Jupyter's kernel does so before it runs a cell, and tells who asks it to."""
    hooks = {}
    shell = SimpleNamespace(events=SimpleNamespace(register=hooks.__setitem__))
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell)
    )
    with TaskOrchestrator():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        hooks["pre_run_cell"](object())
        assert handler() is OURS
    hooks["pre_run_cell"](object())
    assert handler() is signal.default_int_handler


# -- asyncio -----------------------------------------------------------------------


def test_asyncio_run_inside_a_block_cancels_its_task():
    """As it does without us: it would not find Python's own handler."""
    seen = []

    async def main(orch):
        try:
            await orch.submit(pow, 2, 5)
            interrupt()
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with TaskOrchestrator() as orch:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main(orch))
        assert seen == ["cancelled"]
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32


def test_one_during_a_step_in_asyncio_run_cancels_its_task():
    """Deferred first, and then as above."""
    seen = []

    async def main(orch):
        try:
            orch.submit_task(Task("x", 7, id="seven"))
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    router = Interrupted()
    with with_worker(TaskOrchestrator(router=router)) as orch:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main(orch))
        assert (seen, router.asked) == (["cancelled"], 1)
        assert orch.handle("seven").result(PATIENCE) == 7


def test_the_handler_of_asyncio_run_is_left_alone():
    """One that is begun in it finds that handler, and leaves it there."""

    async def main():
        before = handler()
        assert before is not signal.default_int_handler
        async with TaskOrchestrator() as orch:
            assert handler() is before
            assert await orch.submit(pow, 2, 5) == 32
        assert handler() is before

    asyncio.run(main())
    assert handler() is signal.default_int_handler


def test_the_async_stop_takes_the_handler_back():
    """Its work is done on another thread, which cannot."""
    orch = TaskOrchestrator()
    orch.start()

    async def stop():
        await orch.aio.stop()
        assert handler() is signal.default_int_handler

    asyncio.run(stop())


# -- other signals -----------------------------------------------------------------


class Leave:
    """A handler that ends the program."""

    def __call__(self, number, frame):
        sys.exit(3)

    def leave(self, number, frame):
        sys.exit(3)


@pytest.mark.parametrize("kind", ["object", "method"])
def test_what_a_handler_raises_whenever_a_policy_is_asked_cuts_the_step_short(kind):
    """It is no fault of the policy; it was asked again, and that is of no use."""

    class Terminated(PerformanceRouter):
        def route(self, task, candidates, context):
            signal.raise_signal(signal.SIGTERM)
            return super().route(task, candidates, context)

    leave = Leave()
    before = signal.signal(signal.SIGTERM, leave if kind == "object" else leave.leave)
    try:
        with with_worker(TaskOrchestrator(router=Terminated())) as orch:
            with pytest.raises(SystemExit):
                orch.submit_task(Task("x", 7))
            with pytest.raises(InternalError, match="cut short by SystemExit"):
                orch.submit(int)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_handler_raises_while_the_validator_is_asked_is_the_callers():
    """There nothing was done yet: all goes on."""

    class Terminated:
        def validate(self, task, context):
            signal.raise_signal(signal.SIGTERM)
            return Verdict()

    before = signal.signal(signal.SIGTERM, Leave())
    try:
        with TaskOrchestrator(validator=Terminated()) as orch:
            with pytest.raises(SystemExit):
                orch.submit(int)
            assert orch.health().status == "ok"
    finally:
        signal.signal(signal.SIGTERM, before)


# -- many --------------------------------------------------------------------------


def run_script(*args):
    return subprocess.run(
        [sys.executable, "-c", *args] if len(args) == 1 else [sys.executable, *args],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("count", "seed", "durable"),
    [
        (20, 1, False),
        (15, 2, True),
        pytest.param(1000, 3, False, marks=pytest.mark.slow("a thousand interrupts")),
        pytest.param(500, 4, True, marks=pytest.mark.slow("500 interrupts")),
    ],
)
def test_many_at_random_moments(count, seed, durable, tmp_path):
    """It lives, nothing is lost or done twice, and each of them arrives."""
    journal = [str(tmp_path / "runs.db")] if durable else []
    done = run_script(
        "-m", "tests.worlds.faults.interrupted", str(count), str(seed), *journal
    )
    # A block that one of them ends says what it leaves.
    said = done.stderr.splitlines()
    assert done.returncode == 0, done.stderr
    assert not [line for line in said if not line.startswith(("the block", "  "))]
    assert done.stdout.startswith(f"{count} interrupts, ")


@pytest.mark.parametrize(
    ("importer", "deferred"), [("taskorch.anything", True), ("users.program", False)]
)
def test_an_import_is_not_cut_short_if_it_is_ours(
    importer, deferred, tmp_path, monkeypatch
):
    """What was loaded by half cannot be loaded again; a user's may take its time."""
    name = f"imported_by_{importer.partition('.')[0]}"
    text = "import sys\nfrom taskorch.kit.interrupts import _is_deferred_in\n"
    text += "found = _is_deferred_in(sys._getframe())\n"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    exec(f"import {name}", {"__name__": importer})
    assert sys.modules.pop(name).found is deferred
