"""
One life of an orchestrator under stress: what its process does, and sees of itself.

Several threads, an event loop and the main thread, which is interrupted again and
again, do at random what users do. From time to time all of them pause, and what the
kernel says is held against what the system says.
"""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import gc
import itertools
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import attrs
from tests.worlds.faults import ledger
from tests.worlds.faults.disk import Disk
from tests.worlds.faults.interrupted import Sender, interrupted
from tests.worlds.stress import delays

from taskorch import (
    JournalTakenError,
    RetryPolicy,
    SqliteJournal,
    Task,
    TaskExecutor,
    TaskorchError,
    TaskOrchestrator,
    as_completed,
    current_context,
)
from taskorch.core.executors._programs import _guardian
from taskorch.core.kernel import check_invariants
from taskorch.errors import (
    InternalError,
    JournalError,
    JournalUnavailableError,
    UsageError,
)
from taskorch.model import TERMINAL

#: Seconds after which something that should long have happened never will, on a machine
#: that does much else besides.
PATIENCE = 60.0
#: Seconds that a stop may take beyond its timeout, there: far less than what is stubborn.
SLACK = 20.0
GRACE = 2.0
KEEP = 10
#: More objects after the last round than after an earlier one are a leak.
GROWTH = 150
RINGS = 6

#: Holds a lock as long as it or a child of it lives; another of the same task would not
#: get it.
PROGRAM = """
exec 9>>"$1.$TASKORCH_TASK"; flock -n 9 || echo "overlap $TASKORCH_TASK" >> "$2"
echo "pid $TASKORCH_TASK $$" >> "$2"
test "$4" = stays && sleep 100 9>&9 &
test "$4" = stubborn && trap '' TERM
sleep "$3"
"""


@attrs.frozen
class Plan:
    """What is to become of an incarnation."""

    seed: str
    journal: Path | None
    #: How it ends: `drain`, `stop`, `hurry`; or by others: `kill`, `takeover`. Those in
    #: `memory` and on a `disk` that fails now and then have no next incarnation; nor
    #: has one in memory that is killed, and so `forgotten`.
    end: str
    seconds: float
    #: What the wall clock is ahead.
    skew: float = 0.0
    take_over: bool = False


class Broken(Exception):
    """What tasks raise."""


class Value:
    """What tasks return, where it need not be kept."""

    def __init__(self, number):
        self.number = number


class State:
    """For the functions of the tasks, which a journal can only name."""

    life: Any = None
    #: The tasks that run, by their ids.
    running: ClassVar[list[str]] = []


def fault(*words):
    ledger.note("fault", " ".join(map(str, words)).replace("\n", " | "))


# -- what the tasks do -------------------------------------------------------------


@contextmanager
def alone():
    """No other attempt of this task in this process may be in here."""
    task_id = current_context().task_id
    if task_id in State.running:
        ledger.note("overlap", task_id)
    State.running.append(task_id)
    try:
        yield
    finally:
        State.running.remove(task_id)


def work(number, seconds=0.0, how=""):
    context = current_context()
    with alone():
        if how == "fails" or (how == "flaky" and context.attempt == 1):
            raise Broken(number)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            context.checkpoint()
            time.sleep(0.001)
        return State.life.value(number)


def above(number):
    with alone():
        below = State.life.orch.submit(work, number)
        return below.result(PATIENCE)


async def branches(number):
    """Several that wait for something else each, again and again."""

    async def branch(seconds):
        for _ in range(3):
            await State.life.orch.submit(work, number, seconds)

    await asyncio.wait_for(asyncio.gather(*map(branch, [0, 0.01, 0.02])), PATIENCE)
    return number


# -- what is done with them --------------------------------------------------------


class Incarnation:
    """The orchestrator, and all that threads do with it."""

    def __init__(self, plan):
        self.plan = plan
        self.random = Random(plan.seed)
        self.numbers = itertools.count()
        folder = plan.journal.parent
        self.locks, self.ledger = folder / "lock", folder / "ledger"
        journal = None
        if plan.end not in ("memory", "forgotten"):
            journal = SqliteJournal(
                plan.journal,
                durability="power" if plan.end == "disk" else "process",
                take_over=plan.take_over,
            )
        self.disk = Disk(folder)
        self.orch = TaskOrchestrator(
            journal=journal,
            concurrency=self.random.choice([4, 12]),
            grace=GRACE,
            keep_finished=self.random.choice([0, KEEP]),
        )
        self.programs = deque(maxlen=6)
        self.handles = deque(maxlen=20)
        #: Other orchestrators, which may have been interrupted before they stopped.
        self.others = []
        self.over = threading.Event()
        #: Another has taken the journal.
        self.lost = threading.Event()
        self.acts = [
            self.submit, self.batch, self.program, self.program, self.flip, self.flip,
            self.result, self.nested, self.map, self.cancel, self.suspend, self.resume,
            self.wait, self.crowd, self.crowd, self.look, self.callbacks, self.completed, self.executor,
            self.other, self.rerun,
        ]  # fmt: skip

    def value(self, number):
        return Value(number) if self.plan.end == "memory" else number

    def task(self, fn, *args, **options):
        task_id = f"{self.plan.seed.replace('/', '-')}-{next(self.numbers)}"
        return Task.call(fn, *args, id=task_id, **options)

    def accept(self, *tasks):
        """Submit them; from then on it is promised that each of them ends."""
        handles = self.orch.submit_tasks(tasks)
        for handle in handles:
            ledger.note("accepted", handle.task_id)
        self.handles.extend(handles)
        return handles

    # What one thread does at random.

    def some(self, random):
        return random.choice(self.handles) if self.handles else self.accept_one(random)

    def accept_one(self, random):
        how = random.choice(["", "", "fails", "flaky"])
        options = random.choice([{}, {"timeout": 0.03}, {"priority": 3}])
        retry = RetryPolicy(max_attempts=random.choice([1, 3]), base=0.01)
        seconds = random.choice([0, 0, 0.05, 0.2])
        return self.accept(self.task(work, 1, seconds, how, retry=retry, **options))[0]

    def submit(self, random):
        self.accept_one(random)

    def batch(self, random):
        first = self.task(work, 1, random.choice([0, 0.05]))
        after = [first.id, self.some(random).task_id]
        then = {"after": after, "on_parent_failure": random.choice(["skip", "run"])}
        self.accept(first, self.task(work, 2, **then))

    def begin_program(self, seconds, how, **options):
        words = [str(self.locks), str(self.ledger), str(seconds), how]
        command = ["sh", "-c", PROGRAM, "sh", *words]
        task = Task.program(command, id=self.task(work).id, **options)
        return self.accept(task)[0].task_id

    def program(self, random):
        seconds, how = random.choice([0.02, 0.1, 0.5]), random.choice(HOW)
        options = random.choice([{}, {}, {"timeout": 0.1}])
        self.programs.append(self.begin_program(seconds, how, **options))

    def crowd(self, random):
        """Several stop and continue one program, which then is as it should be."""
        task_id = self.begin_program(1, "")

        def begun():
            return dict(ledger.of(self.plan.journal, "pid")).get(task_id)

        if until(lambda: not begun(), 0.3):
            self.orch.cancel_task(task_id)
            return
        acts = [self.orch.suspend_task, self.orch.resume_task]

        def act(plan):
            with suppress(TaskorchError):
                for act in plan:
                    act(task_id)

        plans = [random.choices(acts, k=4) for _ in range(3)]
        threads = [threading.Thread(target=act, args=(plan,)) for plan in plans]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if wrong := until(partial(self.is_as_said, task_id, int(begun()))):
            fault(task_id, "is", *wrong)
        self.orch.cancel_task(task_id)

    def flip(self, random):
        """Others do the same with the same program."""
        if self.programs:
            task_id = random.choice(self.programs)
            self.orch.suspend_task(task_id)
            self.orch.resume_task(task_id)

    def suspend(self, random):
        if self.programs:
            self.orch.suspend_task(random.choice(self.programs))

    def resume(self, random):
        for task_id in list(self.programs):
            self.orch.resume_task(task_id)

    def cancel(self, random):
        self.orch.cancel_task(self.some(random).task_id)

    def rerun(self, random):
        self.orch.rerun_task(self.some(random).task_id)

    def fresh(self, handle):
        """It is asked for by nobody else, so it must come."""
        try:
            return handle.result(PATIENCE)
        except TimeoutError:
            fault("no result came of", self.orch.explain(handle.task_id))

    def result(self, random):
        handle = self.some(random)
        ask = random.choice([handle.result, handle.exception, handle.future().result])
        with suppress(TimeoutError):
            ask(timeout=random.choice([0, 0.01, 0.1]))
        if handle.done() and not handle.cancelled() and handle.exception(0) is None:
            ledger.note("done", handle.task_id)

    def nested(self, random):
        self.fresh(self.orch.submit(random.choice([above, branches]), 1))

    def map(self, random):
        values = self.orch.map(work, [1, 2, 3], [0, 0.02, 0])
        for _ in zip(range(random.choice([1, 3])), values, strict=False):
            pass

    def wait(self, random):
        self.orch.wait(random.choice([0, 0.001, 0.05]))

    def look(self, random):
        handle = self.some(random)
        self.orch.get_task_status(handle.task_id)
        str(self.orch.explain(handle.task_id))
        self.orch.get_stats()
        health = self.orch.health()
        if health.status == "failed":
            # It may say so before any call has.
            if "taken over" not in str(health):
                fault("its health:", health)
            self.lost.set()

    def callbacks(self, random):
        told = threading.Event()
        handle = self.orch.submit(work, 1)
        handle.add_done_callback(lambda _: told.set())
        self.fresh(handle)
        if not told.wait(PATIENCE) and not self.lost.is_set():
            fault("a callback was not called")

    def completed(self, random):
        with suppress(TimeoutError):
            for _ in as_completed(list(self.handles)[:3], random.choice([0.01, 0.1])):
                pass

    def executor(self, random):
        pool = TaskExecutor(orchestrator=self.orch)
        futures = [pool.submit(work, n, 0.02) for n in range(3)]
        random.choice(futures).cancel()
        pool.shutdown(wait=random.random() < 0.5, cancel_futures=random.random() < 0.5)

    def other(self, random):
        """One that stops although a task of its is stubborn, and in time."""
        go = threading.Event()
        other = TaskOrchestrator(grace=2 * SLACK)
        self.others.append(other)
        timeout = random.choice([0, 0.1])
        try:
            other.start()
            for _ in range(random.choice([0, 2])):
                other.submit(go.wait, PATIENCE)
            other.submit(pow, 2, 3).result(PATIENCE)
            stop_in_time(other, drain=random.random() < 0.5, timeout=timeout)
        finally:
            go.set()

    # All of it.

    def act(self, random):
        try:
            random.choice(self.acts)(random)
        except (InternalError, JournalTakenError) as error:
            if "taken over" not in str(error):
                fault("it has failed:", repr(error), repr(error.__cause__))
            self.lost.set()
        except (TaskorchError, Broken, CancelledError):
            pass  # that is how tasks and refusals look
        except TimeoutError as error:
            fault("it was not done in time:", repr(error))

    def go_on(self):
        """On the main thread, until it is interrupted, which is soon."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.act(self.random)
        fault("an interrupt is lost")

    def carry_on(self, seed):
        random = Random(seed)
        while not self.over.is_set() and not self.lost.is_set():
            self.act(random)

    async def on_a_loop(self, seed):
        random = Random(seed)
        aio = self.orch.aio
        while not self.over.is_set() and not self.lost.is_set():
            try:
                handle = await aio.submit(work, 1, random.choice([0, 0.02]))
                way = random.choice(["await", "impatient", "wait", "gather"])
                if way == "await":
                    await asyncio.wait_for(handle, PATIENCE)
                elif way == "impatient":
                    with suppress(TimeoutError):
                        await asyncio.wait_for(handle, 0.01)
                elif way == "gather":
                    more = [await aio.submit(work, n) for n in range(2)]
                    await asyncio.wait_for(asyncio.gather(handle, *more), PATIENCE)
                else:
                    # A handle is refused there.
                    with suppress(UsageError):
                        _, missing = await asyncio.wait([handle], timeout=PATIENCE)
                        if missing:
                            fault("asyncio.wait waits in vain")
            except (InternalError, JournalTakenError) as error:
                if "taken over" not in str(error):
                    fault("it has failed:", repr(error))
                self.lost.set()
            except JournalUnavailableError as error:
                if self.plan.end != "disk":
                    fault("a coroutine got", repr(error))

    def round(self, seconds, seed):
        """All at once for some seconds; then what the kernel says must be so."""
        self.over.clear()
        jobs = [(self.carry_on, f"{seed}/{n}") for n in range(3)]
        jobs.append((lambda seed: asyncio.run(self.on_a_loop(seed)), f"{seed}/loop"))
        threads = [threading.Thread(target=j, args=(s,)) for j, s in jobs]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        sender = Sender(10**6, seed)
        sender.thread.start()
        while time.monotonic() < end and not self.lost.is_set():
            time.sleep(0.05)
            # An interrupt would be lost in the functions that stand for the disk.
            if self.plan.end != "disk":
                interrupted(self, sender)
        sender.ready.put(False)
        self.over.set()
        self.resume_all()
        # Of a journal that is lost, all are told at once.
        end = time.monotonic() + (SLACK if self.lost.is_set() else PATIENCE)
        for thread in (*threads, sender.thread):
            thread.join(max(0, end - time.monotonic()))
            if thread.is_alive():
                fault("a thread still waits:", stack_of(thread))
                thread.join(PATIENCE)
        while self.others:
            self.others.pop().stop(drain=False, timeout=0)

    def resume_all(self):
        if self.lost.is_set():
            return
        with suppress(InternalError, JournalError):
            for status in self.orch.tasks("suspended"):
                with suppress(TaskorchError):
                    self.orch.resume_task(status.task_id)

    def check_stopped(self):
        """What is stopped is suspended, and the other way about."""
        if self.lost.is_set():
            return
        pids = {task: int(pid) for task, pid in ledger.of(self.plan.journal, "pid")}
        with suppress(InternalError, JournalTakenError):
            for task_id in tuple(self.programs):
                wrong = until(partial(self.is_as_said, task_id, pids.get(task_id)))
                if wrong and not self.lost.is_set():
                    fault(task_id, "is", *wrong)

    def is_as_said(self, task_id, pid):
        """Nothing if so, else what is said and what is seen."""
        said = self.orch.get_task_status(task_id).state
        seen = None if pid is None else _guardian.state_of(pid)
        if seen is None or not seen.alive or said not in ("running", "suspended"):
            return None
        # D: it waits for a child that is stopped, as a shell does that begins one.
        right = "TD" if said == "suspended" else "RSD"
        return (
            None if seen.letter in right else (said, "and the system says", seen.letter)
        )

    def settle(self):
        """Nothing is left that could go on: all that was accepted has ended."""
        until(lambda: self.orch.health().status == "degraded", PATIENCE)
        self.resume_all()
        if not self.orch.wait(PATIENCE):
            fault("it does not come to rest:", *self.orch.stuck())
        for status in self.orch.tasks():
            if status.state not in TERMINAL:
                fault("not ended:", status.state, self.orch.explain(status.task_id))

    def check_growth(self, before):
        """In memory, with nobody who has a handle: how many objects there are."""
        self.settle()
        with self.orch._rt.lock:
            check_invariants(self.orch._rt.kernel)
        self.handles.clear()
        self.programs.clear()
        # What is told of the last one goes with the next.
        self.orch.submit(pow, 2, 3).result(PATIENCE)
        self.orch.wait(PATIENCE)
        # The collector was off: some are in rings with the errors of users' tasks.
        values = sum(type(each) is Value for each in gc.get_objects())
        if values > KEEP + RINGS:
            fault("results that nobody has:", values)
        gc.collect()
        now = Counter(type(each).__qualname__ for each in gc.get_objects())
        grown = now - before
        if before and grown.total() > GROWTH + before.total() // 50:
            fault("objects that nobody has:", dict(grown.most_common(8)))
        return now

    def check_power_loss(self):
        """What was promised is there, were the power to fail at any moment."""
        over = threading.Event()

        def fail():
            for number in itertools.count():
                time.sleep(self.random.uniform(0, 0.2))
                self.disk.fail(
                    "EIO", self.random.choice(["sync", "sync", "write", "read"])
                )
                time.sleep(self.random.uniform(0, 0.1))
                self.disk.mend()
                time.sleep(self.random.uniform(0, 0.02))
                promised = [
                    task for (task,) in ledger.of(self.plan.journal, "accepted")
                ]
                self.disk.after_power_loss(self.plan.journal.parent / f"cut-{number}")
                ledger.note("cut", number, len(promised))
                if over.is_set():
                    return

        thread = threading.Thread(target=fail)
        thread.start()
        self.round(self.plan.seconds, self.plan.seed)
        over.set()
        thread.join(PATIENCE)

    def run(self):
        self.orch.start()
        ledger.note("begun", self.plan.seed)
        if self.plan.end == "memory":
            # Its logs need a folder: whatever others have left there goes.
            self.begin_program(0, "")
            gc.collect()
            gc.disable()
            counts = Counter()
            for number in range(4):
                self.round(self.plan.seconds / 4, f"{self.plan.seed}/{number}")
                self.check_stopped()
                counts = self.check_growth(counts if number > 1 else Counter())
        elif self.plan.end in ("kill", "takeover", "forgotten"):
            self.round(PATIENCE, self.plan.seed)
        elif self.plan.end == "disk":
            self.check_power_loss()
        else:
            for number in range(2):
                self.round(self.plan.seconds / 2, f"{self.plan.seed}/{number}")
                self.check_stopped()
        if self.plan.end in ("drain", "disk") and not self.lost.is_set():
            self.settle()
        drain = self.plan.end in ("drain", "memory", "disk")
        timeout = 0.2 if self.plan.end == "hurry" else PATIENCE
        stop_in_time(self.orch, drain=drain, timeout=timeout)
        return 3 if self.lost.is_set() else 0


def stack_of(thread):
    return "".join(traceback.format_stack(sys._current_frames().get(thread.ident)))


#: How programs behave.
HOW = ["", "", "", "stays", "stubborn"]


def stop_in_time(orch, *, drain, timeout):
    began = time.monotonic()
    orch.stop(drain=drain, timeout=timeout)
    took = time.monotonic() - began
    if took > timeout + SLACK:
        fault(f"stop({drain=}, {timeout=}) took {took:.1f} s")


def until(wrong, seconds=PATIENCE):
    """What is wrong still, after some seconds."""
    end = time.monotonic() + seconds
    while (found := wrong()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


# -- the process -------------------------------------------------------------------


class Listener(logging.Handler):
    """What must never be said."""

    def emit(self, record):
        text = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            text += f" {record.exc_info[1]!r}"
        taken = State.life is not None and "taken over" in text
        if not taken and any(words in text for words in UNHEARD_OF):
            fault("the log says:", text)


UNHEARD_OF = ("bug in taskorch", "is given up", "leaves something", "failed: on_end")


def open_files():
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add((link.name, str(link.readlink())))
    return found


def left(files):
    """Threads, descriptors and processes that should not be here any more."""
    gc.collect()
    own = os.getpid()

    def is_child(pid):
        state = _guardian.state_of(pid)
        return state is not None and state.parent == own

    threads = [
        f"{thread.name}: {stack_of(thread)}"
        for thread in threading.enumerate()
        if thread.name.startswith("taskorch")
    ]
    more = [name for _, name in open_files() - files if not name.endswith("/lock")]
    return threads + more + [f"process {pid}" for pid in _guardian.find(is_child)]


def main(plan: Plan) -> int:
    """All that happens in the process of an incarnation; its exit code."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(3 * PATIENCE, exit=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tempfile.tempdir = str(plan.journal.parent / "tmp")
    ledger.open_ledger(plan.journal)
    logging.getLogger("taskorch").addHandler(Listener())
    threading.excepthook = lambda args: fault("a thread raised", repr(args.exc_value))
    sys.unraisablehook = lambda args: fault(
        "unraisable:", args.object, *traceback.format_exception(args.exc_value)
    )
    wall = time.time_ns
    time.time_ns = lambda: wall() + int(plan.skew * 1e9)
    sys.setswitchinterval(1e-6)
    delays.plant(Random(f"{plan.seed}/delays"))
    asyncio.run(asyncio.sleep(0))
    files = open_files()
    try:
        State.life = Incarnation(plan)
        with ExitStack() as stack:
            if plan.end == "disk":
                stack.enter_context(State.life.disk.below_sqlite())
            code = State.life.run()
    except JournalTakenError:
        code = 3
    remains = until(lambda: left(files))
    if remains:
        fault("it leaves", *remains)
    atexit._run_exitfuncs()
    return code
