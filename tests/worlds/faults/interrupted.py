"""
A program that is interrupted again and again: it lives, loses nothing, hears each.

A thread sends SIGINT to the process at random moments; the next one only when the main
thread has had the last, so that each counts. What the main thread does meanwhile is all
that an orchestrator is used for.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from queue import SimpleQueue

from taskorch import Task, TaskOrchestrator, Workflow, as_completed
from taskorch.core.kernel import check_invariants

#: How often each piece of work was done, by its number: appended to by one call each.
done: list[int] = []


def work(number, *parents):
    done.append(number)
    return 2 * number


class Story:
    """What the main thread does, one thing after another, until it is interrupted."""

    def __init__(self, orch, seed):
        self.orch = orch
        self.random = random.Random(seed)
        self.number = 0
        #: What was handed out, with the number that it was made with.
        self.handles = []
        #: Calls of maps that were cut short: those that had not begun are cancelled.
        self.cut_short = 0
        #: Other orchestrators that were begun.
        self.others = []
        self.acts = [
            self.result,
            self.crowd,
            self.map,
            self.batch,
            self.wait,
            self.workflow,
            self.completed,
            self.ask,
            self.other,
        ]

    def next(self):
        self.number += 1
        return self.number

    def submit(self, orch=None):
        number = self.next()
        handle = (orch or self.orch).submit(work, number)
        if orch is None:
            self.handles.append((number, handle))
        return number, handle

    def go_on(self):
        while True:
            self.random.choice(self.acts)()

    def result(self):
        for _ in range(5):
            number, handle = self.submit()
            assert handle.result(60) == 2 * number

    def crowd(self):
        for _ in range(10):
            self.submit()

    def map(self):
        numbers = [self.next() for _ in range(5)]
        self.cut_short += len(numbers)
        assert list(self.orch.map(work, numbers)) == [2 * n for n in numbers]
        self.cut_short -= len(numbers)

    def batch(self):
        first, second = self.next(), self.next()
        tasks = [
            Task.call(work, first, id=f"n{first}", timeout=600),
            Task.call(work, second, id=f"n{second}", after=[f"n{first}"]),
        ]
        handles = self.orch.submit_tasks(tasks)
        self.handles += zip((first, second), handles, strict=True)
        handles[1].result(60)

    def wait(self):
        self.submit()
        assert self.orch.wait(60)

    def workflow(self):
        flow = Workflow("flow")
        first, second = self.next(), self.next()
        above = flow.task(work, first, id="first")
        flow.task(work, second, above, id="second")
        result = self.orch.workflows.start(flow).result(60)
        assert result == {"first": 2 * first, "second": 2 * second}

    def completed(self):
        handles = [self.submit()[1] for _ in range(3)]
        assert set(as_completed(handles, 60)) == set(handles)

    def ask(self):
        _, handle = self.submit()
        assert self.orch.get_task_status(handle.task_id).attempts <= 1
        assert str(self.orch.explain(handle.task_id))
        assert self.orch.get_stats().leaked == 0
        assert self.orch.stuck() == ()

    def other(self):
        other = TaskOrchestrator(stop_timeout=60)
        self.others.append(other)
        with other:
            number, handle = self.submit(other)
            assert handle.result(60) == 2 * number
            self.submit(other)


class Sender:
    """Sends SIGINT, each when the main thread is ready for it."""

    def __init__(self, count, seed):
        self.count = count
        self.random = random.Random(seed)
        self.ready: SimpleQueue[bool] = SimpleQueue()
        self.sent = 0
        self.thread = threading.Thread(target=self._send, daemon=True)

    def _send(self):
        for _ in range(self.count):
            if not self.ready.get(timeout=120):
                return
            time.sleep(self.random.expovariate(1 / 0.002))
            self.sent += 1
            os.kill(os.getpid(), signal.SIGINT)


def interrupted(story, sender):
    """Whether the story was interrupted; it does not end by itself."""
    try:
        sender.ready.put(True)
        story.go_on()
    except KeyboardInterrupt:
        return True


def main(count, seed, journal=None):
    # Whoever runs the tests in the background may have it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.setswitchinterval(1e-4)
    sender = Sender(count, seed)
    ended = Counter()
    orch = TaskOrchestrator(
        journal=journal, **({} if journal is None else {"durability": "process"})
    )
    orch.signals.task_completed.connect(lambda event: ended.update([event.task_id]))
    orch.start()
    story = Story(orch, seed)
    sender.thread.start()
    arrived = sum(interrupted(story, sender) for _ in range(count))
    sender.thread.join(60)
    assert (arrived, sender.sent) == (count, count)
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler

    # It lives, …
    assert orch.health().status == "ok", orch.health()
    assert orch.submit(work, 0).result(60) == 0
    assert orch.wait(60)
    with orch._rt.lock:
        check_invariants(orch._rt.kernel)
    # … nothing was lost, and nothing was done twice, …
    for number, handle in story.handles:
        assert handle.result(0) == 2 * number
    states = orch.get_stats().state_machine
    assert states.failed == 0
    assert states.cancelled <= story.cut_short
    assert all(handle.done() for _, handle in story.handles)
    assert states.completed == len(ended)
    assert set(ended.values()) == {1}
    assert max(Counter(done).values()) == 1
    # … and what was begun has ended.
    for other in story.others:
        assert not other._rt.started or other._lifecycle._report is not None, other
    report = orch.stop(timeout=60)
    assert report.left == ()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # One that was given up ends its threads when its task ends, which may be later.
    end = time.monotonic() + 60
    while ours := [
        t.name for t in threading.enumerate() if t.name.startswith("taskorch")
    ]:
        assert time.monotonic() < end, ours
        time.sleep(0.01)
    print(f"{arrived} interrupts, {states.completed} tasks")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
