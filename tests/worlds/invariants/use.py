"""
What users do with an orchestrator, drawn by chance.

What must hold whatever they do is tested with it, from outside: each test beside this
file says one such thing, and none is about one fault.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.api.tools import PATIENCE

from taskorch import (
    RetryPolicy,
    Task,
    TaskExecutor,
    TaskorchError,
    TaskOrchestrator,
    as_completed,
    current_context,
)

#: For the functions of tasks, which a journal can only name.
ORCH: ContextVar[Any] = ContextVar("ORCH")
#: The name of an executor that orchestrators under test have, if they have one.
POOL = "pool"
#: Seconds that somebody waits who does not mind that nothing has come by then.
MOMENT = 0.005


@dataclass
class Thing:
    """What is given to tasks, and got from them."""

    number: int


class Oops(Exception):
    """What tasks raise."""


class Receiver:
    """Hears of events, and keeps the last one."""

    def __call__(self, event):
        self.last = event


# -- what the tasks do -----------------------------------------------------------------


def give(thing):
    return Thing(thing.number + 1)


def fail(thing):
    raise Oops(thing.number)


def recover(thing):
    if current_context().attempt == 1:
        raise Oops(thing.number)
    return thing


def above(thing):
    return ORCH.get().submit(give, thing).result()


def hand_over(thing):
    return ORCH.get().submit(give, thing)


def polite(thing):
    """Runs until it is told to end."""
    while True:
        current_context().checkpoint()
        threading.Event().wait(MOMENT)


def deaf(thing, go):
    """Runs until *go* is there, whatever it is told."""
    while not go.exists():
        threading.Event().wait(MOMENT)
    return thing


async def give_later(thing):
    await asyncio.sleep(0)
    return Thing(thing.number + 1)


async def fail_later(thing):
    await asyncio.sleep(0)
    raise Oops(thing.number)


async def above_later(thing):
    return await (await ORCH.get().aio.submit(give, thing))


async def branches(thing, many=3, times=4):
    """Waits for several at once, again and again, and is at work in between."""
    random = Random(thing.number)

    async def branch():
        for _ in range(times):
            await asyncio.sleep(MOMENT * random.random())
            below = Task.call(give, thing, priority=random.randrange(3))
            await (await ORCH.get().aio.submit_task(below))

    await asyncio.gather(*(branch() for _ in range(many)), return_exceptions=True)
    return thing


SHORT = (give, give, fail, recover, hand_over)
CALLS = (*SHORT, above, give_later, fail_later, above_later, branches)
OPTIONS = (
    {},
    {},
    {"timeout": PATIENCE},
    {"timeout": MOMENT},
    {"priority": 3},
    {"not_before": MOMENT},
    {"deadline": PATIENCE},
    {"retry": RetryPolicy(2, base=0)},
    {"idempotent": False},
    {"metadata": {"it": "matters"}},
)


# -- what is done with them ------------------------------------------------------------


def orchestrator(stack: ExitStack, folder: Path | None, **options: Any) -> Any:
    """One to be used, with a journal in *folder* if there is one; it has a pool."""
    pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
    given = {"concurrency": 2, "keep_finished": 0, "executors": {POOL: pool}}
    if folder is not None:
        given |= {"journal": folder / "runs.db", "durability": "process"}
    return TaskOrchestrator(**(given | options))


ON_THREADS = (
    *["one"] * 4, "batch", "program", "control", "control", "map", "some_of_many",
    "listen", "quiet", "ask", "executor",
)  # fmt: skip
ON_LOOPS = ("on_a_loop",) * 5
ALL = (*ON_THREADS, *ON_LOOPS)
SIGNALS = (
    "task_submitted",
    "task_started",
    "task_completed",
    "task_failed",
    "task_retrying",
    "task_cancelled",
)


class Use:
    """
    One user, on one thread.

    Args:
        orch: Whose; if it has an executor named `POOL`, that is used too.
        seed: Chooses what is done.
        acts: Of these, by their names.
        patience: Seconds to wait for what must come. What is not there by then is a
            TimeoutError, which leaves `act`.
    """

    def __init__(
        self,
        orch: Any,
        seed: object,
        *,
        acts: Sequence[str] = ALL,
        patience: float = PATIENCE,
    ) -> None:
        self.orch = orch
        self.acts = acts
        #: Those that are left, each of which comes once: none is missing by chance.
        self.deck: list[str] = []
        self.random = Random(str(seed))
        self.patience = patience
        #: The handles at hand: in no variable, so that no frame of an error has them.
        self.box: list[Any] = []
        #: Iterators that have not been gone through.
        self.begun: list[Any] = []
        #: What they have yielded, and was dropped.
        self.yielded: list[weakref.ref[Any]] = []
        #: What it was told is accepted, and has completed.
        self.accepted: list[str] = []
        self.completed: list[str] = []

    def act(self) -> None:
        """Do one thing; what tasks raise, and what is refused, is borne."""
        ORCH.set(self.orch)
        if not self.deck:
            self.deck = self.random.sample(self.acts, len(self.acts))
        try:
            getattr(self, self.deck.pop())()
            self.note_ends()
        except (TaskorchError, Oops, concurrent.futures.CancelledError):
            pass
        finally:
            self.box.clear()

    def drop_all(self) -> None:
        """Drop what it still has at hand."""
        while self.begun:
            self.begun.pop().close()
        self.yielded.clear()

    def note_ends(self) -> None:
        for n in range(len(self.box)):
            if self.box[n].done() and not self.box[n].cancelled():
                with suppress(TaskorchError, Oops):
                    self.box[n].result(self.patience)
                    self.completed.append(self.box[n].task_id)

    def accept(self, *handles: Any) -> None:
        self.accepted += [handle.task_id for handle in handles]
        self.box += handles

    # -- to submit ---------------------------------------------------------------------

    def thing(self) -> Thing:
        return Thing(self.random.randrange(100))

    def task(self, *args: Any, **options: Any) -> Task:
        options = {**self.random.choice(OPTIONS), **options}
        if POOL in self.orch._rt.executors and self.random.random() < 0.2:
            return Task.call(give, self.thing(), *args, executor=POOL)
        fn = self.random.choice((*CALLS, polite))
        if fn is polite:
            options["timeout"] = MOMENT
        return Task.call(fn, self.thing(), **options)

    def submit(self) -> None:
        way = self.random.choice(["call", "call", "task", "keyed"])
        if way == "call":
            self.accept(self.orch.submit(self.random.choice(CALLS), self.thing()))
        elif way == "task":
            self.accept(self.orch.submit_task(self.task()))
        else:
            key = f"key {self.random.random()}"
            for _ in range(2):
                again = Task.call(give, Thing(1), idempotency_key=key)
                self.accept(self.orch.submit_task(again))

    def one(self) -> None:
        """Submit something, and wait for it in some way."""
        self.submit()
        self.wait()

    def batch(self) -> None:
        """Tasks that come after one another, and one that is given a handle."""
        first = self.task()
        fate = self.random.choice(["skip", "run", "fail"])
        then = Task.call(give, self.thing(), after=[first], on_parent_failure=fate)
        self.accept(*self.orch.submit_tasks([first, then]))
        self.accept(self.orch.submit(give, self.orch.submit(give, self.thing())))
        self.wait()

    def program(self) -> None:
        command = self.random.choice([["true"], ["false"], ["sleep", "1000"]])
        self.accept(self.orch.submit_task(Task.program(command)))
        if command[0] == "sleep":
            self.box[-1].cancel()
        self.wait()

    # -- to wait -----------------------------------------------------------------------

    def wait(self) -> None:
        """For the last one, in some way, perhaps after one that has run out of time."""
        ways = [
            self.by_result, self.by_exception, self.by_future, self.by_callback,
            self.by_as_completed, self.by_futures,
        ]  # fmt: skip
        if self.random.random() < 0.3:
            with suppress(TimeoutError):
                self.random.choice(ways)(MOMENT)
        self.random.choice(ways)(self.patience)

    def by_result(self, patience: float) -> None:
        self.box[-1].result(patience)

    def by_exception(self, patience: float) -> None:
        self.box[-1].exception(patience)

    def by_future(self, patience: float) -> None:
        self.box[-1].future().result(patience)

    def by_futures(self, patience: float) -> None:
        futures = [handle.future() for handle in self.box]
        _, left = concurrent.futures.wait(futures, patience)
        if left:
            raise TimeoutError

    def by_callback(self, patience: float) -> None:
        called = threading.Event()
        self.box[-1].add_done_callback(lambda _: called.set())
        self.box[-1].exception(patience)
        # It is not, of a task that is left to the next incarnation.
        if self.box[-1].done() and not called.wait(patience):
            raise TimeoutError

    def by_as_completed(self, patience: float) -> None:
        for _ in as_completed(self.box, patience):
            pass

    def quiet(self) -> None:
        """Wait until nothing goes on, or for a moment."""
        self.submit()
        self.orch.wait(self.random.choice([0, MOMENT]))
        self.orch.wait(MOMENT)

    # -- to do other things ------------------------------------------------------------

    def control(self) -> None:
        task = Task.call(polite, self.thing(), retry=RetryPolicy(2, base=0))
        self.accept(self.orch.submit_task(task))
        name = self.box[0].task_id
        what = self.random.choice(["cancel", "suspend", "priority", "rerun"])
        if what == "suspend":
            self.orch.suspend_task(name)
            self.orch.resume_task(name)
        elif what == "priority":
            self.orch.set_priority(name, 7)
        self.box[0].cancel()
        self.by_exception(self.patience)
        if what == "rerun":
            self.accept(self.orch.rerun_task(name))
            self.box[-1].cancel()
            self.by_exception(self.patience)

    def map(self) -> None:
        """Go through some of the results of a map; the others perhaps later."""
        things = [self.thing() for _ in range(3)]
        self.go_through(self.orch.map(self.random.choice(CALLS), things))

    def some_of_many(self) -> None:
        for _ in range(3):
            self.submit()
        self.begun.append(as_completed(self.box, self.patience))
        self.box.clear()
        self.go_through(self.begun.pop())

    def go_through(self, values: Any) -> None:
        for _ in range(self.random.randrange(1, 4)):
            for value in values:
                self.yielded.append(weakref.ref(value))
                del value
                break
        self.begun.append(values)

    def listen(self) -> None:
        signal = getattr(self.orch.signals, self.random.choice(SIGNALS))
        receiver = Receiver()
        signal.connect(receiver)
        try:
            self.one()
        finally:
            signal.disconnect(receiver)

    def ask(self) -> None:
        self.submit()
        name = self.box[-1].task_id
        str(self.orch.get_task_status(name))
        str(self.orch.explain(name))
        list(self.orch.tasks())
        self.orch.get_stats()
        self.orch.health()
        self.orch.stuck()

    def executor(self) -> None:
        pool = TaskExecutor(orchestrator=self.orch)
        futures = [pool.submit(self.random.choice(CALLS), self.thing()) for _ in "abc"]
        self.random.choice(futures).cancel()
        pool.shutdown(wait=False, cancel_futures=self.random.random() < 0.3)
        _, left = concurrent.futures.wait(futures, self.patience)
        if left:
            raise TimeoutError
        for future in futures:
            future.cancelled() or future.exception()
        futures.clear()

    # -- on a loop ---------------------------------------------------------------------

    def on_a_loop(self) -> None:
        asyncio.run(self.act_on_a_loop())

    async def act_on_a_loop(self) -> None:
        aio = self.orch.aio
        things = [self.thing() for _ in range(2)]
        if self.random.random() < 0.2:
            async for _ in aio.map(self.random.choice(CALLS), things):
                pass
            return
        for thing in things:
            if self.random.random() < 0.7:
                self.accept(await aio.submit(self.random.choice(CALLS), thing))
            else:
                self.accept(await aio.submit_task(self.task()))
        if self.random.random() < 0.3:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.box[-1], MOMENT)
        if self.random.random() < 0.2:
            await aio.cancel_task(self.box[0].task_id)
        way = self.random.choice(
            ["await", "gather", "shield", "wait", "wrap", "completed"]
        )
        async with asyncio.timeout(self.patience):
            await getattr(self, f"a_{way}")()

    async def a_await(self) -> None:
        await self.box[-1]

    async def a_gather(self) -> None:
        await asyncio.gather(*self.box, return_exceptions=True)

    async def a_shield(self) -> None:
        await asyncio.shield(self.box[-1])

    async def a_wait(self) -> None:
        done, _ = await asyncio.wait(list(map(asyncio.ensure_future, self.box)))
        for task in done:
            task.exception()

    async def a_wrap(self) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.wrap_future(self.box[-1].future())

    async def a_completed(self) -> None:
        for each in asyncio.as_completed(self.box):
            with suppress(TaskorchError, Oops):
                await each
