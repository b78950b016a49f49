"""
Orchestrators on one journal in PostgreSQL, of which one owns it and others stand by.

Each is a process, which finds the address of the journal in the file `address` of a
folder, and writes down there what it does (`ledger`).
"""

import time

from tests.faults import ledger
from tests.faults.tools import PATIENCE, say

from taskorch import PostgresJournal, Task, TaskOrchestrator, current_context

#: Tasks that depend on each other: `t/0`, then `t/1`, and so on.
TASKS = 30


def did(number, *_):
    """What a task does: it says so, and takes a moment."""
    context = current_context()
    ledger.note("effect", context.task_id, *context.fence)
    time.sleep(0.02)
    return number


def use(folder):
    """Write down there what is done in this process."""
    global _folder
    _folder = folder
    ledger.open_ledger(folder / "journal")


def submit_all(orch, count=TASKS):
    """Submit what there is to do; what was submitted before is not again."""
    handles = []
    for number in range(count):
        after = handles[-1:]
        once = number % 3 != 2
        task = Task.call(
            did, number, id=f"t/{number}", after=after, idempotent=once, timeout=60
        )
        handles.append(orch.submit_task(task))
        ledger.note("accepted", handles[-1].task_id)
    return handles


def settle(orch, handles):
    """Wait for the end of all; of what must not run twice, decide as one who can look."""
    while not all(handle.done() for handle in handles):
        for status in orch.tasks(state="blocked"):
            began = any(words[1] == status.task_id for words in effects())
            orch.decide(status.task_id, *(("complete", None) if began else ("retry",)))
        time.sleep(0.01)


def effects():
    return [words for words in ledger.lines(_folder / "journal") if words[0] == "effect"]


def node(folder, lease="1.0"):
    """Stand by, own it, do all that there is to do, and say so."""
    use(folder)
    address = (folder / "address").read_text()
    journal = PostgresJournal(address, standby=True, lease=float(str(lease)))
    say("ready")
    with TaskOrchestrator(journal=journal, concurrency=2) as orch:
        say("owner")
        settle(orch, submit_all(orch))
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


def until_told(go):
    context = current_context()
    ledger.note("effect", context.task_id, *context.fence)
    while not go.exists():
        time.sleep(0.01)
    return "told"
