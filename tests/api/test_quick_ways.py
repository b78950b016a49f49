"""
What the runtime has written out for speed does what its general ways do.

The same program is run by two orchestrators with one clock, step by step. In the one,
tasks that need no more than a place are given one, and workers go on with the next task.
In the other everybody is asked about every task, and each call names an executor of the
user's, whose threads hand over the end. That is all the difference there is; events,
states, results, futures, events and what is said of failures are the same.
"""

# pyright: basic

import gc
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from itertools import count
from logging import Handler, LogRecord, getLogger
from pathlib import Path
from queue import SimpleQueue
from random import Random
from tempfile import mkdtemp
from threading import Event, Lock
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import RetryPolicy, Task, TaskOrchestrator, Workflow, current_context
from taskorch.api.journal import MemoryJournal, SqliteJournal
from taskorch.core.kernel import check_invariants, differences
from taskorch.core.kernel._history import past_of
from taskorch.errors import UsageError

SEC = 1_000_000_000
#: The name of the executor that makes the ways general.
OWN = "own"
#: Threads of that executor: all that may run at once, and what was given up and runs on.
ROOM = 64
#: Fewer ended tasks than these runs have stay in memory.
FEW = 2
SIDE: ContextVar["Side"] = ContextVar("SIDE")
VARIABLE: ContextVar[int] = ContextVar("VARIABLE", default=0)


class Odd:
    """Nothing that a journal could keep."""

    def __repr__(self) -> str:
        return "something odd"


# -- what the tasks call ---------------------------------------------------------------


def work(key: int, *rest: Any) -> Any:
    return SIDE.get().run(key, rest)


def other(key: int, *rest: Any, extra: Any = None) -> Any:
    return SIDE.get().run(key, (*rest, extra))


def is_again(value: Any) -> bool:
    return value == "again"


async def coroutine() -> None:
    """Returned, and not awaited."""


async def two(_: int) -> int:
    return 2


def no_more(key: int) -> None:
    raise ValueError(f"task {key} went wrong")


def ends(side: "Side", key: int, rest: tuple[Any, ...], how: int) -> Any:
    """What a call does at its end."""
    match how % 12:
        case 0:
            return None
        case 1:
            no_more(key)
        case 2:
            raise SystemExit(key)
        case 3:
            return Odd()
        case 4:
            return "again"
        case 5:
            return coroutine()
        case 6:
            # Its result is that of another task, or will be.
            return side.handles[how // 12 % len(side.handles)]
        case 7:
            context = current_context()
            return context.task_id, context.attempt, context.fence
        case 8:
            side.add(side.submitted(work, (next(side.keys), "from within"), {}))
            return "it has submitted one"
    return key, *map(str, rest), VARIABLE.get()


# -- the two ---------------------------------------------------------------------------


class Records(Handler):
    """What is logged, without the frames of errors: those are not the same."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: LogRecord) -> None:
        self.lines.append(record.getMessage().partition("\n")[0])


class Side:
    """One of the orchestrators, and what can be seen of it."""

    def __init__(
        self,
        *,
        general: bool,
        folder: Path | None,
        concurrency: int,
        keep: int,
        hears: str,
        events: bool,
    ) -> None:
        self.executor = OWN if general else None
        self.keep = keep
        self.pool = ThreadPoolExecutor(ROOM)
        self.journal: Any = MemoryJournal(keep_events=events)
        self.folder = folder
        if folder is not None:
            self.journal = SqliteJournal(folder / self.name, durability="process")
        self.events = events
        self.handles: list[Any] = []
        self.told: list[Any] = []
        self.heard: list[Any] = []
        self.outcomes: list[Any] = []
        self.keys = count(1)
        self.lock = Lock()
        #: Calls that have begun, and those that wait for the word to end.
        self.begun: dict[int, int] = {}
        self.blocked: dict[tuple[int, int], SimpleQueue[int]] = {}
        self.now = 1_000 * SEC
        self.orch = TaskOrchestrator(
            seed=7,
            concurrency=concurrency,
            keep_finished=keep,
            journal=self.journal,
            executors={OWN: self.pool},
            resources={"cpu": 4},
        )
        if general:
            self.orch._rt.submission.place = lambda _batch, _now: None
        names = {
            "": [],
            "ends": ["task_completed", "task_failed"],
            "all": [
                name
                for name in dir(self.orch.signals)
                if name.startswith(("task_", "attempt_"))
            ],
        }[hears]
        for name in names:
            getattr(self.orch.signals, name).connect(self.heard.append)
        # A journal is opened with the clock of the machine.
        self.orch.start()
        self.orch._rt.now = lambda: self.now
        self.context = copy_context()
        self.context.run(SIDE.set, self)

    @property
    def name(self) -> str:
        return "general" if self.executor else "quick"

    # -- on the threads of tasks -------------------------------------------------------

    def run(self, key: int, rest: tuple[Any, ...]) -> Any:
        go: SimpleQueue[int] = SimpleQueue()
        with self.lock:
            self.begun[key] = self.begun.get(key, 0) + 1
            self.blocked[key, self.begun[key]] = go
        how = go.get(timeout=PATIENCE)
        return ends(self, key, rest, how)

    # -- steps -------------------------------------------------------------------------

    def task(self, fn: Any, args: tuple[Any, ...], **options: Any) -> Task[Any]:
        kwargs = options.pop("kwargs", None)
        return Task.call(fn, *args, kwargs=kwargs, executor=self.executor, **options)

    def add(self, *handles: Any) -> None:
        for handle in handles:
            self.handles.append(handle)
            if len(self.handles) % 2:
                handle.add_done_callback(lambda done: self.told.append(done.task_id))

    def is_settled(self) -> bool:
        """Whether nothing happens until somebody says so."""
        rt = self.orch._rt
        with rt.lock, self.lock:
            kernel = rt.kernel
            due = kernel.timers and kernel.timers[0][0] <= self.now
            calm = not due and not kernel.starts
            if rt.committer is not None:
                calm = (
                    calm
                    and rt.committer.is_idle()
                    and not rt.committer.held_back.attempts
                )
            # What was given up runs on, with its slot or without.
            leaked = kernel.leaked.values()
            working = kernel.running + sum(1 - leak.slots for leak in leaked)
            return bool(calm and working == len(self.blocked))

    def settle(self) -> None:
        rt = self.orch._rt
        before = -1
        while before != rt.kernel.seq:
            eventually(self.is_settled, f"{self.name} did not come to rest")
            before = rt.kernel.seq
            # An attempt that ends as another task does so on the publisher's thread.
            told = Event()
            with rt.lock:
                rt.publisher.put([(lambda _, told=told: told.set(), None)])
            assert told.wait(PATIENCE), f"{self.name}: the publisher has stopped"
            eventually(self.is_settled, f"{self.name} did not come to rest")

    def seen(self) -> Any:
        rt = self.orch._rt
        with rt.lock:
            kernel = rt.kernel
            check_invariants(kernel)
            return {
                "rows": [
                    (row.id, row.named, row.state, row.reason, past_of(row))
                    for row in kernel.tasks.values()
                ],
                "due": sorted(timer[0] for timer in kernel.timers),
                "finished": [row.id for row in kernel.finished],
                "blocked": sorted(self.blocked),
                "begun": sorted(self.begun.items()),
                "unasked": sorted({*rt.notices._failed, *rt.notices._away}),
                "done": [
                    (h.task_id, h.done(), h.cancelled(), repr(h._value))
                    for h in self.handles
                ],
                "keys": sorted(rt.directory.keys.items()),
            }

    def close(self) -> Any:
        """Let all end and stop, and tell what is left to see."""
        while self.blocked:
            self.let(0, 9)
            self.settle()
        records = Records()
        log = getLogger("taskorch")
        log.addHandler(records)
        try:
            self.orch.stop(drain=False)
            self.pool.shutdown()
            seen = self.seen_at_the_end()
            # Of those that nobody asked for, it is said when nobody can any more.
            del self.orch, self.journal, self.context
            self.handles.clear()
            gc.collect()
        finally:
            log.removeHandler(records)
        # What left memory is said once in ten seconds: which, is a matter of chance.
        return seen | {"log": sorted(records.lines) if self.keep > FEW else None}

    def seen_at_the_end(self) -> Any:
        futures = [handle.future() for handle in self.handles[::2] if handle.done()]
        events = []
        if self.folder is not None:
            events = [
                event for event, _ in SqliteJournal(self.folder / self.name).read()
            ]
        elif self.events:
            events = [event for event, _ in self.journal.read()]
        evicted = self.orch._rt.kernel.evicted
        return {
            # Its own beginning was dated by the clock of the machine.
            "facts": [event for event in events if event[2] <= self.now],
            "heard": self.heard,
            "told": sorted(self.told),
            "results": [
                (h.task_id, h.done() and of(h.result)) for h in self.handles[::2]
            ],
            "futures": [(of(f.exception), f.running(), f.done()) for f in futures],
            "digests": sorted(i for i in evicted.by_id if evicted.digest(i)),
        }

    def give_up(self) -> None:
        """Leave nothing behind, after a failure."""
        for go in list(self.blocked.values()):
            go.put(0)
        self.orch.stop(drain=False, timeout=0)
        self.pool.shutdown(wait=False)

    # -- commands: on each of the two --------------------------------------------------

    def rest(self, number: int) -> tuple[Any, ...]:
        """What a call is given besides its key: nothing, or handles, however deep."""
        if not self.handles or number % 4:
            return ()
        handle = self.handles[number // 4 % len(self.handles)]
        return ((handle,), ([handle],), (1, {"it": handle}))[number % 3]

    def submit(self, a: int, b: int, _: int) -> None:
        """One call, perhaps of what others give, perhaps with an argument by its name."""
        key, rest = next(self.keys), self.rest(a)
        if b % 3 == 0:
            self.add(self.submitted(other, (key, *rest), {"extra": b}))
        else:
            self.add(self.submitted(work, (key, *rest), {}))

    def submitted(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.executor is None:
            return self.orch.submit(fn, *args, **kwargs)
        return self.orch.submit_task(self.task(fn, args, kwargs=kwargs))

    def submit_calls(self, a: int, b: int, _: int) -> None:
        """Many calls of one function."""
        fn = (work, other)[b % 2]
        calls = [(next(self.keys), *self.rest(a)) for _ in range(1 + b % 5)]
        if self.executor is None:
            self.add(
                *self.orch._rt.submit_calls(
                    fn, [(args, {}) for args in calls], copy_context()
                )
            )
        else:
            self.add(*self.orch.submit_tasks([self.task(fn, args) for args in calls]))

    def submit_tasks(self, a: int, b: int, c: int) -> None:
        """Many tasks, alike but for what is their own."""
        options = OPTIONS[c % len(OPTIONS)]
        tasks: list[Task[Any]] = []
        for number in range(1 + b % 4):
            key = next(self.keys)
            more: dict[str, Any] = {}
            if a % 3 == 0:
                more["id"] = f"named-{key}"
            if a % 5 == 0 and self.handles:
                more["after"] = [self.handles[(a + number) % len(self.handles)]]
            if a % 7 == 0 and tasks:
                # One of this batch, by its id or itself.
                more["after"] = [tasks[-1].id or tasks[-1]]
            rest = self.rest(a + number)
            tasks.append(self.task(work, (key, *rest), **options, **more))
        self.add(*self.orch.submit_tasks(tasks))
        if b % 8 == 7:
            # They are there, and are not submitted twice.
            self.add(*self.orch.submit_tasks([t for t in tasks if t.id is not None]))

    def start_run(self, a: int, b: int, c: int) -> None:
        """A workflow."""
        key = next(self.keys)
        flow = Workflow(f"flow-{key}")
        nodes: list[Any] = []
        for number in range(1 + b % 4):
            above = nodes[:1] if c % 2 else nodes[-1:]
            task = self.task(work, (next(self.keys),), id=f"n{number}", after=above)
            nodes.append(flow.add(task))
        run = self.orch.workflows.start(flow)
        self.add(*[self.orch.handle(f"{run.workflow_id}/{node.id}") for node in nodes])

    def let(self, a: int, how: int) -> None:
        """One that runs ends."""
        with self.lock:
            keys = sorted(self.blocked)
            if not keys:
                return
            go = self.blocked.pop(keys[a % len(keys)])
        go.put(how)

    def end(self, a: int, b: int, _: int) -> None:
        self.let(a, b)

    def end_well(self, a: int, _b: int, _c: int) -> None:
        self.let(a, 9)

    def on_one(self, a: int, b: int, c: int) -> None:
        """Something else befalls a task."""
        if not self.handles:
            return
        name = self.handles[a % len(self.handles)].task_id
        orch = self.orch
        match b % 4:
            case 0:
                orch.cancel_task(name)
            case 1:
                orch.set_priority(name, c % 5 - 2)
            case 2:
                self.add(orch.rerun_task(name))
            case 3:
                orch.suspend_task(name)
                orch.resume_task(name)

    def pass_time(self, a: int, _b: int, _c: int) -> None:
        rt = self.orch._rt
        with rt.lock:
            self.now += (1, SEC, 3 * SEC)[a % 3]
            # What the timer's thread does, but done when this returns.
            rt.kernel.tick(self.now)
            launch = rt.settle(self.now)
        rt.launch(launch)


def of(ask: Any) -> Any:
    """What *ask* gives or raises, as it can be compared."""
    try:
        value = ask(0)
    except BaseException as error:
        return type(error), str(error)
    return repr(value)


class Pair:
    """Two that are to do the same."""

    def __init__(self, folder: Path | None, options: dict[str, Any]) -> None:
        self.sides = [
            Side(general=general, folder=folder, **options) for general in (False, True)
        ]

    def do(self, name: str, a: int, b: int, c: int) -> None:
        outcomes = []
        for side in self.sides:
            context = side.context.copy()
            context.run(VARIABLE.set, c)
            try:
                context.run(getattr(side, name), a, b, c)
            except UsageError as error:
                outcomes.append(repr(error))
            else:
                outcomes.append(None)
            side.settle()
        assert outcomes[0] == outcomes[1]
        seen = [side.seen() for side in self.sides]
        assert seen[0] == seen[1]
        quick, general = (side.orch._rt.kernel for side in self.sides)
        assert not differences(quick, general)

    def close(self) -> None:
        seen = [side.close() for side in self.sides]
        for name in seen[0]:
            assert seen[0][name] == seen[1][name], name


#: Of tasks that are alike.
OPTIONS: list[dict[str, Any]] = [
    {},
    {},
    {"priority": 1},
    {"priority": -3, "resources": {"cpu": 3}},
    {"retry": RetryPolicy(2, wait="fixed", base=0, jitter=0)},
    {"retry": RetryPolicy(3, wait="fixed", base=2)},
    {"retry": RetryPolicy(2, base=0, retry_if_result=is_again)},
    {"timeout": 2},
    {"idempotent": False},
    {"resources": {"cpu": 2}, "retry": RetryPolicy(2, base=0)},
]
NAMES = (
    ["submit"] * 4
    + ["submit_calls"] * 2
    + ["submit_tasks"] * 3
    + ["end"] * 5
    + ["end_well"] * 4
    + ["start_run", "on_one", "on_one", "pass_time"]
)


CHOICES = {
    "concurrency": [1, 2, 3],
    "keep": [1000, 2, 0],
    "hears": ["", "ends", "all"],
    "events": [True, False],
}


def run(commands: Any, options: dict[str, Any], folder: Path | None = None) -> None:
    """
    All commands to both of a pair; twice more if the two differ.

    What comes first of two things that threads do is the machine's, and so is how far
    one has come when it is looked at; what the code does otherwise, it does each time.
    """
    for again in (True, True, False):
        place = None if folder is None else Path(mkdtemp(dir=folder))
        try:
            run_once(commands, options, place)
        except AssertionError:
            if not again:
                raise
        else:
            return


def run_once(commands: Any, options: dict[str, Any], folder: Path | None) -> None:
    pair = Pair(folder, options)
    try:
        for command in commands:
            pair.do(*command)
    except BaseException:
        for side in pair.sides:
            side.give_up()
        raise
    pair.close()


USUAL = {"concurrency": 2, "keep": 1000, "hears": "", "events": False}


def some(seed: str, length: int) -> list[tuple[Any, ...]]:
    dice = Random(seed)
    return [
        (dice.choice(NAMES), *(dice.randrange(256) for _ in "abc"))
        for _ in range(length)
    ]


#: Nine, in which there is each pair of choices, with events and without in turn.
PAIRS = [
    {
        "concurrency": more,
        "keep": keep,
        "hears": CHOICES["hears"][(a + b) % 3],
        "events": bool((a + b) % 2),
    }
    for a, more in enumerate(CHOICES["concurrency"])
    for b, keep in enumerate(CHOICES["keep"])
]


@pytest.mark.parametrize("options", PAIRS, ids=str)
def test_the_quick_ways_do_so_whatever_they_look_at(options):
    run(some(str(options), 40), options)


@pytest.mark.parametrize(
    ("concurrency", "hears"), [(1, "all"), (2, ""), (3, "ends"), (2, "all")]
)
def test_so_they_do_with_a_journal(concurrency, hears, tmp_path):
    options = USUAL | {"concurrency": concurrency, "hears": hears}
    run(some(str(options), 40), options, tmp_path)
