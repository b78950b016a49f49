"""
A program that comes to one stage of its life and stays there, until a signal comes.

A process of its own runs the function of that name, and says when it is there.

    submission      it submits task after task, and notes each that was accepted
    running         it waits for the result of a task that runs
    drain           its block has ended, and waits for the task
    stop            it has asked the task to stop, which takes its time
"""

import signal
import threading
from itertools import count

from tests.worlds.faults import ledger
from tests.worlds.faults.tools import say

from taskorch import SqliteJournal, Task, TaskOrchestrator, current_context
from taskorch.errors import AttemptInterrupted

#: Seconds after which a program that nobody has ended gives up.
PATIENCE = 60.0
#: Set: a task does not wait for anything. The next incarnation has it so.
over = threading.Event()
#: Set: the long task runs.
began = threading.Event()
#: Set: a signal has come.
interrupted = threading.Event()


def short(number):
    context = current_context()
    ledger.note("effect", context.task_id, *context.fence)
    return number


def long(patient):
    """Runs until it is asked to stop; one that is patient goes on for a while then."""
    context = current_context()
    began.set()
    while not over.wait(0.002):
        try:
            context.checkpoint()
        except AttemptInterrupted:
            say("stopping")
            if patient:
                interrupted.wait(PATIENCE)
            raise
    ledger.note("effect", context.task_id, *context.fence)
    return "long"


def submit(orch, task):
    handle = orch.submit_task(task)
    ledger.note("accepted", task.id)
    return handle


def live(journal, stage):
    ledger.open_ledger(journal)
    with TaskOrchestrator(journal=journal, durability="process") as orch:
        orch.signals.task_completed.connect(
            lambda event: ledger.note("told", event.task_id)
        )
        submit(orch, Task.call(short, 0, id="task-0"))
        begun = submit(orch, Task.call(long, stage == "stop", id="long"))
        submit(orch, Task.call(short, 1, id="next", after=[begun]))
        if stage == "submission":
            for number in count(1):
                submit(orch, Task.call(short, number, id=f"task-{number}"))
                if number == 3:
                    say(stage)
        elif stage == "running":
            began.wait(PATIENCE)
            say(stage)
            begun.result()
        elif stage == "drain":
            say(stage)
        elif stage == "stop":
            began.wait(PATIENCE)
            orch.stop(drain=False)


def go_on(journal, *, take_over=False):
    """The next incarnation, in this process: it runs what is there to its end."""
    ledger.open_ledger(journal)
    over.set()
    opened = SqliteJournal(journal, durability="process", take_over=take_over)
    with TaskOrchestrator(journal=opened) as orch:
        orch.wait(PATIENCE)
        return {status.task_id: status for status in orch.tasks()}


def interrupt(*args):
    interrupted.set()
    signal.default_int_handler(*args)


def submission(journal):
    live(journal, "submission")


def running(journal):
    live(journal, "running")


def drain(journal):
    live(journal, "drain")


def stop(journal):
    signal.signal(signal.SIGINT, interrupt)
    live(journal, "stop")
