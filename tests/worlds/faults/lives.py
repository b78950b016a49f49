"""What the processes do that are stopped, forked, killed, or find the journal taken."""

import asyncio
import os
import signal
import threading
import time

from tests.worlds.faults import ledger
from tests.worlds.faults.tools import PATIENCE, is_alive, say

from taskorch import RetryPolicy, Task, TaskOrchestrator, current_context
from taskorch.events import EventEmitted
from taskorch.ext.recovery import Alerts

#: Seconds of every timer here.
DELAY = 0.3


def began():
    context = current_context()
    ledger.note("began", context.task_id, *context.fence)
    return context


# -- timers ------------------------------------------------------------------------


def plain():
    return began().attempt


def fails_once():
    if began().attempt == 1:
        raise OSError("once is never")


def overstays(go):
    """Its first attempt ends when *go* is there, or when it is out of time."""
    context = began()
    while context.attempt == 1 and not go.exists():
        context.checkpoint()
        time.sleep(0.001)


def with_timers(journal):
    """A retry, a task that is not to begin yet, and one that has little time."""
    ledger.open_ledger(journal)
    with TaskOrchestrator(journal=journal, durability="process") as orch:
        retry = RetryPolicy(max_attempts=2, base=DELAY, jitter=0)
        go = journal.with_name("go")
        orch.submit_tasks(
            [
                Task.call(fails_once, id="retried", retry=retry),
                Task.call(plain, id="later", not_before=DELAY),
                Task.call(overstays, go, id="timed", retry=retry, timeout=DELAY),
                Task.call(plain, id="last", after=["retried", "later", "timed"]),
            ]
        )
        say("ready")
        assert orch.wait(PATIENCE)
        say(*sorted(f"{s.task_id}={s.state}:{s.attempts}" for s in orch.tasks()))


# -- owners ------------------------------------------------------------------------


def until(go):
    began()
    while not go.exists():
        time.sleep(0.001)
    return "gone"


def sleeper(go, **options):
    """A program that runs for long, unless *go* is there."""
    script = 'test -e "$1" || exec sleep 1000'
    return Task.program(["sh", "-c", script, "sh", str(go)], **options)


def await_running(orch, *ids):
    while any(orch.get_task_status(i).state != "running" for i in ids):
        time.sleep(0.001)


def owner(journal):
    """Waits for what does not end, and says what it hears."""
    ledger.open_ledger(journal)
    orch = TaskOrchestrator(journal=journal, durability="process")
    go = journal.with_name("go")
    with orch:
        handles = orch.submit_tasks(
            [
                Task.call(until, go, id="until"),
                sleeper(go, id="program"),
                Task.call(plain, id="next", after=["until", "program"]),
            ]
        )
        await_running(orch, "until")
        say("ready")

        def wait_for(handle):
            try:
                handle.result(PATIENCE)
            except Exception as error:
                say("raised", handle.task_id, type(error).__name__, error)

        threads = [threading.Thread(target=wait_for, args=(h,)) for h in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            orch.submit(plain)
        except Exception as error:
            say("raised", "submit", type(error).__name__, error)
        # Nobody catches this one.
        handles[0].result(PATIENCE)


def hold(journal):
    """Has the journal, and does nothing with it."""
    with TaskOrchestrator(journal=journal):
        say("ready")
        time.sleep(PATIENCE)


def look(pid_file):
    """Notes whether the program of the earlier incarnation is alive."""
    context = began()
    if context.fence[0] == 1:
        time.sleep(PATIENCE)
    ledger.note("orphan", is_alive(int(pid_file.read_text())))


def with_program(journal):
    ledger.open_ledger(journal)
    with TaskOrchestrator(journal=journal, durability="process") as orch:
        orch.submit_task(Task.program(["sleep", "1000"], id="program"))
        orch.submit_task(Task.call(look, journal.with_name("pid"), id="look"))
        await_running(orch, "look")
        say("ready")
        time.sleep(PATIENCE)


def keyed():
    return Task.call(plain_value, idempotency_key="the key")


def with_key(journal):
    orch = TaskOrchestrator(journal=journal, keep_finished=0)
    orch.start()
    handle = orch.submit_task(keyed())
    assert handle.result(PATIENCE) == "done"
    say(handle.task_id)
    time.sleep(PATIENCE)


# -- forks -------------------------------------------------------------------------


def calls(orch, handle):
    """Everything that one can ask of an orchestrator, or of a handle, by name."""
    task = Task.call(plain)
    return {
        "submit": lambda: orch.submit(plain),
        "submit_task": lambda: orch.submit_task(task),
        "submit_tasks": lambda: orch.submit_tasks([task]),
        "map": lambda: list(orch.map(pow, [2], [3])),
        "options": lambda: orch.options(timeout=60).submit(plain),
        "events": orch.events,
        "agent": lambda: orch.agent("a", capabilities={"c"})(
            lambda _task, _context: None
        ),
        "cancel_task": lambda: orch.cancel_task("held"),
        "prune": lambda: orch.prune(keep_latest=1),
        "suspend_task": lambda: orch.suspend_task("held"),
        "resume_task": lambda: orch.resume_task("held"),
        "set_priority": lambda: orch.set_priority("held", 3),
        "decide": lambda: orch.decide("held", "retry"),
        "rerun_task": lambda: orch.rerun_task("done"),
        "expire_tasks": lambda: orch.expire_tasks(0),
        "change_tasks": lambda: orch.change_tasks("cancel"),
        "emit": lambda: orch.emit("go"),
        "note_event": lambda: orch.note_event(EventEmitted, "go"),
        "reward_task": lambda: orch.reward_task("done", 1),
        "answer": lambda: orch.answer("held", "yes", by="ada"),
        "questions": orch.questions,
        "failures": orch.failures,
        "escalations": orch.escalations,
        "hold_starts": lambda: orch.hold_starts("for a while"),
        "release_starts": orch.release_starts,
        "notify": lambda: orch.notify("https://example.org/hook", secret="s" * 16),
        "alerts": lambda: orch.alerts,
        "watch_alerts": lambda: orch.watch_alerts(Alerts()),
        "metrics": orch.metrics,
        "doctor": orch.doctor,
        "schedule": lambda: orch.schedule("0 3 * * *")(plain),
        "serve": lambda: orch.serve(port=0),
        "simulate": lambda: orch.simulate([task], 1.0),
        "stuck": orch.stuck,
        "handle": lambda: orch.handle("held"),
        "get_task_status": lambda: orch.get_task_status("held"),
        "log": lambda: orch.log("done"),
        "steps": lambda: orch.steps.of("done"),
        "extensions": lambda: orch.extensions,
        "tasks": orch.tasks,
        "get_stats": orch.get_stats,
        "health": orch.health,
        "explain": lambda: orch.explain("held"),
        "start": orch.start,
        "stop_on": lambda: orch.stop_on(signal.SIGTERM),
        "wait": lambda: orch.wait(1),
        "stop": lambda: orch.stop(drain=False),
        "__enter__": orch.__enter__,
        "handle.result": lambda: handle.result(1),
        "handle.exception": lambda: handle.exception(1),
        "handle.cancel": handle.cancel,
        "aio.submit": lambda: asyncio.run(orch.aio.submit(plain)),
        "aio.wait": lambda: asyncio.run(orch.aio.wait(1)),
        "handle.await": lambda: asyncio.run(awaited(handle)),
    }


def forks(journal):
    """Its child tries everything; then it goes on itself."""
    with TaskOrchestrator(journal=journal, durability="process") as orch:
        go = journal.with_name("go")
        orch.submit_task(Task.call(plain_value, id="done")).result(PATIENCE)
        held = orch.submit_task(Task.call(until_quietly, go, id="held"))
        await_running(orch, "held")
        say(*sorted(name for name in dir(orch) if not name.startswith("_")))
        pid = os.fork()
        if not pid:
            code = 1
            try:
                for name, call in calls(orch, held).items():
                    say(name, *outcome(call))
                code = 0
            finally:
                os._exit(code)
        say("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        go.touch()
        later = orch.submit(pow, 2, 3)
        say("parent", held.result(PATIENCE), later.result(PATIENCE))


async def awaited(handle):
    return await asyncio.wait_for(handle, 1)


def outcome(call):
    try:
        return "gave", call()
    except BaseException as error:
        return "raised", type(error).__name__, error


def plain_value():
    return "done"


def until_quietly(go):
    while not go.exists():
        time.sleep(0.001)
    return "held"
