"""Programs that a signal asks to stop; each says what it does, and is run by a test."""

import asyncio
import logging
import os
import pty
import signal
import sys
import threading
import time
from pathlib import Path

from tests.worlds.faults.tools import say

from taskorch import Task, TaskOrchestrator, current_context
from taskorch.errors import AttemptInterrupted

PATIENCE = 60.0
#: Seconds of a stop, of which a quarter is left to what is asked to end.
LITTLE = 4.0
began = threading.Event()


def finishes(file):
    """Goes on until there is a file, whatever it is asked."""
    began.set()
    while not Path(file).exists():
        time.sleep(0.002)
    say("finished")
    return "done"


def never():
    """Runs until it is asked to stop."""
    context = current_context()
    began.set()
    while True:
        time.sleep(0.002)
        try:
            context.checkpoint()
        except AttemptInterrupted:
            say("asked to stop")
            raise


def block(folder, fn, *args, timeout=PATIENCE, signals=(signal.SIGTERM,), drain=True):
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    with TaskOrchestrator(journal=folder / "runs.db", grace=PATIENCE) as orch:
        orch.stop_on(*signals, timeout=timeout, drain=drain)
        first = orch.submit_task(Task.call(fn, *args, id="first"))
        orch.submit_task(Task.call(say, "the second", id="second", after=[first]))
        began.wait(PATIENCE)
        say("ready")
        first.result()
    say("not reached")


def drains(folder):
    block(folder, finishes, str(folder / "go"))


def drains_at_all(folder):
    numbers = signal.SIGTERM, signal.SIGHUP, signal.SIGINT
    block(folder, finishes, str(folder / "go"), signals=numbers)


def leaves_queue(folder):
    block(folder, finishes, str(folder / "go"), drain=None)


def runs_on(folder):
    block(folder, never, drain=None)


def has_little_time(folder):
    block(folder, never, timeout=LITTLE)


def ends_in_drain(folder):
    """The signal comes when the block has been left, and it drains."""
    with TaskOrchestrator(grace=PATIENCE) as orch:
        orch.stop_on(signal.SIGTERM, timeout=LITTLE)
        orch.submit(never)
        began.wait(PATIENCE)
        say("ready")
    say("not reached")


def by_hand(folder):
    """Without a block: whoever stops it in a finally clause has it drain, too."""
    signal.signal(signal.SIGTERM, lambda number, frame: say("heard"))
    orch = TaskOrchestrator()
    orch.stop_on(signal.SIGTERM, timeout=PATIENCE)
    orch.start()
    try:
        handle = orch.submit(finishes, str(folder / "go"))
        began.wait(PATIENCE)
        say("ready")
        handle.result()
    finally:
        report = orch.stop()
        say(report.completed, report.drained)


async def _main(folder, fn, *args, seconds=PATIENCE, drain=None):
    async with TaskOrchestrator(journal=folder / "runs.db", grace=PATIENCE) as orch:
        orch.stop_on(signal.SIGTERM, timeout=seconds, drain=drain)
        first = await orch.aio.submit_task(Task.call(fn, *args, id="first"))
        second = Task.call(say, "the second", id="second", after=[first])
        await orch.aio.submit_task(second)
        await asyncio.to_thread(began.wait, PATIENCE)
        say("ready")
        await first
    say("not reached")


def loop_drains(folder):
    asyncio.run(_main(folder, finishes, str(folder / "go"), drain=True))


def loop_leaves_queue(folder):
    asyncio.run(_main(folder, finishes, str(folder / "go")))


def loop_runs_on(folder):
    asyncio.run(_main(folder, never))


def loop_has_little_time(folder):
    asyncio.run(_main(folder, never, seconds=LITTLE))


def loop_ends_in_drain(folder):
    async def main():
        async with TaskOrchestrator(grace=PATIENCE) as orch:
            orch.stop_on(signal.SIGTERM, timeout=LITTLE)
            await orch.aio.submit(never)
            await asyncio.to_thread(began.wait, PATIENCE)
            say("ready")
        say("not reached")

    asyncio.run(main())


def loses_its_terminal(folder):
    """Both outputs go to a terminal that closes while it works, and it logs and logs."""
    logging.basicConfig(level=logging.DEBUG)
    # A hang-up is another matter: the signal is ignored, as under nohup.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ours, theirs = pty.openpty()
    said, errors = os.dup(1), os.dup(2)
    os.dup2(theirs, 1)
    os.dup2(theirs, 2)
    os.close(theirs)

    told = ""
    try:
        with TaskOrchestrator(journal=folder / "runs.db", concurrency=2) as orch:
            orch.signals.task_failed.connect(lambda event: 1 / 0)
            print("begin", flush=True)
            os.close(ours)
            for number in range(20):
                orch.submit(shout, number)
            talks = Task.program([sys.executable, "-c", "print('x' * 100000)"])
            code = orch.submit_task(talks).result(PATIENCE).exit_code
            assert orch.wait(PATIENCE)
            stats = orch.get_stats()
            counts = stats.state_machine
            told = f"{counts.completed} {counts.failed} {code}"
    finally:
        os.dup2(said, 1)
        os.dup2(errors, 2)
        say(told)
    os._exit(0)


def shout(number):
    current_context().log.warning("attempt %d", number)
    if number % 2:
        raise LookupError(number)
