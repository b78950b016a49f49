"""
Random programs of steps, loops, branches and failures, killed again and again.

As a program, with a folder, a seed, and how often it is to be killed: it forks a child
for each life, which kills itself as it notes something, or is killed at any moment. The
ledger says what was done and what the function was told. It prints how many kills there
were, and how many steps were told.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random

from tests.worlds.faults import ledger

from taskorch import Task, TaskOrchestrator, current_context

NAMES = "abcd"
#: How deep loops and branches are nested.
DEEPEST = 2
PATIENCE = 60.0


class DeclinedError(Exception):
    """A step that fails whenever it is called."""


def make(random, depth=0):
    """A program: what it does, one after the other."""
    acts = []
    for _ in range(random.randint(3, 5)):
        kind = random.choice(["step", "step", "fail", "loop", "branch"])
        if kind == "loop" and depth < DEEPEST:
            acts.append(("loop", random.randint(0, 3), make(random, depth + 1)))
        elif kind == "branch" and depth < DEEPEST:
            ways = make(random, depth + 1), make(random, depth + 1)
            acts.append(("branch", *ways))
        elif kind == "fail":
            acts.append(("fail", random.choice(NAMES), random.choice(NAMES)))
        else:
            acts.append(("step", random.choice(NAMES)))
    return acts


async def perform(acts, call, value=1):
    """What a program comes to; *call* makes its steps."""
    for kind, *of in acts:
        if kind == "step":
            value = await call(of[0], value, fails=False)
        elif kind == "loop":
            for _ in range(of[0]):
                value = await perform(of[1], call, value)
        elif kind == "branch":
            value = await perform(of[value % 2], call, value)
        else:
            try:
                await call(of[0], value, fails=True)
            except DeclinedError as error:
                value = await call(of[1], value + error.args[0], fails=False)
    return value


def result_of(key, value, *, fails):
    """What a step does."""
    if fails:
        raise DeclinedError(value % 7)
    return (31 * value + sum(map(ord, key))) % 1_009


def model(seed):
    """What the program comes to where nothing is ever killed, and its steps."""
    numbers = Counter()

    async def call(name, value, *, fails):
        numbers[name] += 1
        return result_of(f"{name}#{numbers[name]}", value, fails=fails)

    return asyncio.run(perform(make(Random(seed)), call)), numbers.total()


# -- the real one ----------------------------------------------------------------------

#: The line of this incarnation's ledger at which it kills itself; 0: it does not.
kill_at = 0


def note(*words):
    global kill_at  # noqa: PLW0603 - one for each process
    ledger.note(*words)
    kill_at -= 1
    if not kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


def effect(key, value, *, fails):
    note("did", key)
    return result_of(key, value, fails=fails)


class Told:
    """The steps of an attempt; each result that is told is noted."""

    def __init__(self, *, on_loop):
        self._context = current_context()
        self._on_loop = on_loop
        self._numbers = Counter()

    async def __call__(self, name, value, *, fails):
        self._numbers[name] += 1
        key = f"{name}#{self._numbers[name]}"
        try:
            if self._on_loop:
                told = await self._context.aio.step(
                    name, effect, key, value, fails=fails
                )
            else:
                told = self._context.step(name, effect, key, value, fails=fails)
        except DeclinedError as error:
            note("failed", key, error.args[0])
            raise
        note("told", key, told)
        return told


def on_thread(seed):
    coroutine = perform(make(Random(seed)), Told(on_loop=False))
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("nothing in it waits")


async def on_loop(seed):
    return await perform(make(Random(seed)), Told(on_loop=True))


def run(journal, seed):
    """One incarnation: the task is submitted, or goes on; its result is noted."""
    ledger.open_ledger(journal)
    ledger.note("life", "begins")
    with TaskOrchestrator(journal=journal) as orch:
        function = on_loop if seed % 2 else on_thread
        key = f"seed-{seed}"
        task = Task.call(function, seed, id="x", idempotency_key=key)
        result = orch.submit_task(task).result(PATIENCE)
    ledger.note("result", result)


def live(journal, seed, at, delay):
    """
    One incarnation that kills itself at a line, or after *delay* seconds; how it ended.
    """
    global kill_at  # noqa: PLW0603 - one for each process
    pid = os.fork()
    if not pid:
        code = 1
        try:
            kill_at = at
            run(journal, seed)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if delay is not None:
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check(journal, seed):
    """Compare the ledger with a world without kills."""
    expected, steps = model(seed)
    lines = ledger.lines(journal)
    assert lines[-1] == ["result", str(expected)], (lines[-1], expected, seed)
    told, gone_on = {}, set()
    latest = ""
    for kind, key, *rest in lines:
        if kind == "did":
            assert key not in told, f"{key} was done again, seed {seed}"
            assert key not in gone_on, f"{key} has failed again, seed {seed}"
        elif kind == "told":
            assert told.setdefault(key, rest) == rest, f"{key} has changed, seed {seed}"
        if kind == "told" and latest:
            # The failure before it has decided something, and was kept.
            gone_on.add(latest)
        latest = key if kind == "failed" else ""
    assert len({key for kind, key, *_ in lines if kind == "did"}) == steps
    return len(told)


def main(folder, seed, wanted):
    for name in ("asyncio", "taskorch.api._orchestrator"):
        # What every incarnation would load again.
        importlib.import_module(name)
    random = Random(seed)
    kills = steps = programs = 0
    while kills < wanted:
        number = random.randrange(10**6)
        journal = folder / str(programs) / "journal.db"
        journal.parent.mkdir()
        most = 2 * model(number)[1] + 2
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            by_clock = random.random() < 0.3
            at = 0 if by_clock else random.randint(1, min(most, 12))
            delay = random.uniform(0, 0.5) if by_clock else None
            code = live(journal, number, at, delay)
            kills += code == -signal.SIGKILL
        if code:
            sys.exit(f"it failed, seed {number}: {journal}")
        steps += check(journal, number)
        programs += 1
    print(json.dumps({"kills": kills, "programs": programs, "steps": steps}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
