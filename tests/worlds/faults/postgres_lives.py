"""
Orchestrators on one journal in PostgreSQL, of which one owns it and others stand by.

Each is a process, which finds the address of the journal in the file `address` of a
folder, and writes down there what it does (`ledger`).
"""

import time
from contextlib import suppress

from tests.worlds.faults import ledger
from tests.worlds.faults.tools import PATIENCE, say

from taskorch import PostgresJournal, Task, TaskOrchestrator, current_context
from taskorch.errors import InvalidTransitionError


def did(number, *_):
    """What a task does: it says so, and takes a moment."""
    context = current_context()
    ledger.note("effect", context.task_id, *context.fence)
    time.sleep(0.05)
    return number


def use(folder):
    """Write down there what is done in this process."""
    ledger.open_ledger(folder / "journal")


def submit_all(orch, count):
    """
    Submit `t/0`, then `t/1` after it, and so on; or find those that are there.

    One that ran at three deaths in a row fails as poisoned: those after it run as well.
    """
    handles = []
    for number in range(count):
        after = handles[-1:]
        once = number % 3 != 2
        task = Task.call(
            did,
            number,
            id=f"t/{number}",
            after=after,
            join="finished",
            idempotent=once,
            timeout=60,
        )
        handles.append(orch.submit_task(task))
        ledger.note("accepted", handles[-1].task_id)
    return handles


def settle(orch, handles, folder):
    """Wait for the end of all; of what must not run twice, decide as one who can look."""
    while not all(handle.done() for handle in handles):
        for status in orch.tasks(state="blocked"):
            lines = ledger.of(folder / "journal", "effect")
            began = any(words[0] == status.task_id for words in lines)
            # It may have gone on since it was listed: the server is back, for example.
            with suppress(InvalidTransitionError):
                verdict = ("complete", None) if began else ("retry",)
                orch.decide(status.task_id, *verdict)
        time.sleep(0.01)


def node(folder, count):
    """Stand by, own it, do all that there is to do, and say so."""
    use(folder)
    address = (folder / "address").read_text()
    journal = PostgresJournal(address, standby=True, lease=1)
    say("ready")
    with TaskOrchestrator(journal=journal, concurrency=2) as orch:
        say("owner")
        settle(orch, submit_all(orch, int(str(count))), folder)
        say("done")


def hold(folder):
    """Own it, begin a task that does not end, and wait."""
    ledger.open_ledger(folder / "journal")
    address = (folder / "address").read_text()
    with TaskOrchestrator(journal=PostgresJournal(address, lease=1)) as orch:
        handle = orch.submit_task(Task.call(until_told, folder / "go", id="first"))
        orch.submit_task(Task.call(did, 2, id="second", after=["first"]))
        say("ready")
        try:
            handle.result(PATIENCE)
            orch.submit_task(Task.call(did, 3, id="third"))
        except Exception as error:
            say("raised", type(error).__name__)


def elsewhen(folder, shift, name, *args):
    """Do what the function *name* does where the clock is wrong by *shift* seconds."""
    seconds, nanoseconds = int(str(shift)), time.time_ns
    time.time_ns = lambda: nanoseconds() + seconds * 10**9
    time.time = lambda: time.time_ns() / 1e9
    globals()[str(name)](folder, *args)


def until_told(go):
    context = current_context()
    ledger.note("effect", context.task_id, *context.fence)
    while not go.exists():
        time.sleep(0.01)
    return "told"


def until_there(file):
    while not file.exists():
        time.sleep(0.01)


def until_stopped():
    while not current_context().cancelled:
        time.sleep(0.01)
