"""
What may keep a task from starting: worlds in which the task `x` waits for one thing.

There is one for each kind of `Blocker`, and more for what the table of all waits says of
it under a condition.
"""

import importlib
import sys
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from threading import Event

import pytest
from tests.api.tools import PATIENCE, eventually, fail, pass_time, short_grace

from taskorch import (
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    current_context,
)
from taskorch.api.journal import SqliteJournal
from taskorch.core.engine import _committer
from taskorch.errors import JournalUnavailableError, Permanent
from taskorch.events import OrchestratorStarted
from taskorch.ext.governance import ConstitutionalRuntime, Policy, Rule
from taskorch.ext.large_values import LargeValues
from taskorch.kit.backoff import Backoff
from taskorch.kit.extension import Extension, Short
from taskorch.kit.limits import HELD_SECONDS
from taskorch.model import Agent, Breaker, Quota
from taskorch.policies import FifoQueue, PoolAllocator, StandardStateMachine
from taskorch.protocols import Allocation, AttemptExecutor, Permit

#: How long what is in the way lasts, in seconds, and how long the task itself.
LASTS, TAKES = 1_000, 1


def asked_about():
    """Do nothing."""


class World:
    """
    One orchestrator, in which the task `x` waits for one thing.

    `end` ends that wait; it is None if nothing does.
    """

    def __init__(self):
        self.go = Event()
        self.began = Event()
        self.end = self.go.set

    def hold(self):
        self.began.set()
        assert self.go.wait(PATIENCE)

    def linger(self):
        self.hold()
        eventually(lambda: current_context().checkpoint())

    def holder(self, orch, **options):
        options = {"expected": LASTS, **options}
        held = orch.submit_task(Task.call(self.hold, id="holder", **options))
        assert self.began.wait(PATIENCE)
        return held

    def wait_inside(self, orch):
        """Wait, in a task, for a task that somebody must resume."""
        inner = orch.submit_task(Task.call(asked_about, id="inner", not_before=LASTS))
        orch.suspend_task("inner")
        self.end = lambda: orch.cancel_task("inner")
        self.began.set()
        inner.exception()

    def waiter(self, orch, **options):
        inside = Task.call(self.wait_inside, orch, id="holder", **options)
        orch.submit_task(inside)
        assert self.began.wait(PATIENCE)

    @contextmanager
    def orchestrator(self, **options):
        with TaskOrchestrator(**{"concurrency": 4, **options}) as orch:
            try:
                yield orch
            finally:
                self.go.set()
                orch.stop(drain=False)


def x(**options):
    return Task.call(asked_about, id="x", **{"expected": TAKES, **options})


WORLDS = {}


def of_kind(name):
    def note(make):
        WORLDS[name] = contextmanager(make)
        return make

    return note


class _Silent:
    """A store that takes no value before it is let go."""

    url = "memory://silent"

    def __init__(self, take):
        self._take = take

    def put(self, key, data):
        self._take()

    get = list = delete = put


def much():
    return "a" * 9_000


@of_kind("store")
def _store(world, folder):
    values = LargeValues(_Silent(world.hold), keep_mb=0.001)
    kept = {"journal": folder / "runs.db", "extensions": [values]}
    with pytest.MonkeyPatch.context() as patched, world.orchestrator(**kept) as orch:
        patched.setattr("taskorch.ext.large_values._PATIENCE", float(LASTS))
        orch.submit_task(Task.call(much, id="x"))
        yield orch


@of_kind("dependency")
def _dependency(world, _):
    with world.orchestrator() as orch:
        orch.submit_task(x(after=[world.holder(orch)]))
        yield orch


@of_kind("event")
def _event(world, _):
    with world.orchestrator() as orch:
        orch.submit_task(Task.wait_for("go", id="x"))
        world.end = lambda: orch.emit("go")
        yield orch


@of_kind("delay")
def _delay(world, _):
    with world.orchestrator() as orch:
        orch.submit_task(x(not_before=LASTS))
        world.end = lambda: pass_time(orch, LASTS)
        yield orch


@of_kind("deadline")
def _deadline(world, _):
    with world.orchestrator() as orch:
        retry, late = (
            RetryPolicy(delays=[LASTS]),
            {"deadline": LASTS / 2, "expected": 1},
        )
        orch.submit_task(Task.call(int, "no", id="x", retry=retry, **late))
        eventually(lambda: orch.get_task_status("x").state == "retrying")
        world.end = lambda: pass_time(orch, LASTS)
        yield orch


@of_kind("slot")
def _slot(world, _):
    with world.orchestrator(concurrency=1) as orch:
        world.holder(orch)
        orch.submit_task(x())
        yield orch


@of_kind("agent")
def _agent(world, _):
    with world.orchestrator() as orch:
        breaker = Breaker(failures=1, open=LASTS, most_open=1)

        @orch.agent("a", capabilities=["w"], breaker=breaker)
        def work(task, context):
            if task.payload:
                raise Permanent(task.payload)

        orch.submit_task(Task("other", "no", requires=["w"])).exception(PATIENCE)
        eventually(lambda: "breakers are open" in str(orch.health()))
        orch.submit_task(Task("w", "", id="x", requires=["w"], expected=TAKES))
        world.end = lambda: pass_time(orch, LASTS)
        yield orch


@of_kind("resource")
def _resource(world, _):
    with world.orchestrator(resources={"gpu": 1}) as orch:
        world.holder(orch, resources=Resources(gpu=1))
        orch.submit_task(x(resources=Resources(gpu=1)))
        yield orch


@of_kind("quota")
def _quota(world, _):
    with world.orchestrator() as orch:
        orch.resources.set_quotas(Quota(type="t", max_parallel=1))
        world.holder(orch, type="t")
        orch.submit_task(x(type="t"))
        yield orch


@of_kind("rate")
def _rate(world, _):
    with world.orchestrator() as orch:
        orch.resources.set_quotas(Quota(type="t", starts_per_second=1 / LASTS))
        world.holder(orch, type="t", expected=TAKES)
        orch.submit_task(x(type="t"))
        world.end = lambda: pass_time(orch, LASTS)
        yield orch


@of_kind("budget")
def _budget(world, _):
    with world.orchestrator() as orch:
        with orch.budget("money", eur=1):
            world.holder(orch, resources={"eur": 1})
            orch.submit_task(x(resources={"eur": 1}))
        world.end = lambda: orch.resources.raise_budget("money", {"eur": 2})
        yield orch


@of_kind("scope")
def _scope(world, _):
    with world.orchestrator() as orch:
        world.holder(orch, writes=["src/**"])
        orch.submit_task(x(writes=["src/a"]))
        yield orch


@of_kind("capability")
def _capability(world, _):
    with world.orchestrator(unknown_capability="wait") as orch:
        orch.submit_task(Task("w", id="x", requires=["w"], expected=TAKES))
        join = orch.agent("able", capabilities=["w"])
        world.end = lambda: join(lambda task, context: None)
        yield orch


@of_kind("suspended")
def _suspended(world, _):
    with world.orchestrator() as orch:
        orch.submit_task(x(not_before=LASTS))
        orch.suspend_task("x")
        world.end = lambda: orch.resume_task("x")
        yield orch


@of_kind("decision")
def _decision(world, _):
    with world.orchestrator() as orch:
        gone = BrokenProcessPool("gone")
        orch.submit_task(Task.call(fail, gone, id="x", idempotent=False))
        assert orch.wait(PATIENCE)
        world.end = lambda: orch.decide("x", "fail")
        yield orch


@of_kind("reservation")
def _reservation(world, _):
    queue = FifoQueue(backfill=True)
    with world.orchestrator(queue=queue, resources={"gpu": 2}) as orch:
        world.holder(orch, resources=Resources(gpu=1))
        first = {"id": "first", "resources": Resources(gpu=2), "expected": TAKES}
        orch.submit_task(Task.call(world.hold, **first))
        orch.submit_task(x(resources=Resources(gpu=1), expected=5 * LASTS))
        yield orch


class Seats:
    """A limit, and policies, that let `x` start once *go* is set."""

    name = "seats"

    def __init__(self, go):
        self.go = go

    def need(self, kind):
        return 1 if kind.type == "seated" else 0

    def short(self, need, held):
        if self.go.is_set():
            return None
        return Short("All seats are taken.", float(LASTS), 0)


class Licences(Extension):
    name = "licences"

    def __init__(self, go):
        self.limits = (Seats(go),)


@of_kind("limit")
def _limit(world, _):
    with world.orchestrator(extensions=[Licences(world.go)]) as orch:
        orch.submit_task(x(type="seated"))

        def end():
            world.go.set()
            pass_time(orch, LASTS)

        world.end = end
        yield orch


class Never(StandardStateMachine):
    def __init__(self, go):
        self.go = go

    def check(self, transition, context):
        is_start = transition.after == "running"
        return Permit(self.go.is_set() or not is_start, "office hours")


class Mean(PoolAllocator):
    def __init__(self, go):
        self.go = go

    def allocate(self, request, pools, context):
        if self.go.is_set():
            return super().allocate(request, pools, context)
        return Allocation(None, "not in the mood")


def _changes(world, orch):
    """End a wait for a policy: it is asked again when something changes."""
    world.go.set()
    orch.cancel_task(orch.submit_task(Task.call(int, not_before=LASTS)).task_id)


@of_kind("veto")
def _veto(world, _):
    with world.orchestrator(state_machine=Never(world.go)) as orch:
        orch.submit_task(x())
        world.end = partial(_changes, world, orch)
        yield orch


@of_kind("allocator")
def _allocator(world, _):
    with world.orchestrator(allocator=Mean(world.go)) as orch:
        orch.submit_task(x())
        world.end = partial(_changes, world, orch)
        yield orch


@of_kind("policy")
def _policy(world, _):
    rule = Rule("r", "task.type", "not_equals", "t", "Not now.")
    policy = Policy("p", "safety", "critical", rules=[rule], at="start")
    with world.orchestrator(governance=ConstitutionalRuntime([policy])) as orch:
        orch.submit_task(x(type="t"))
        eventually(lambda: orch.get_task_status("x").state == "blocked")

        def end():
            why = {"reason": "once", "requested_by": "ada", "expires": LASTS}
            waiver = orch.governance.request_waiver("p", "x", **why)
            orch.governance.approve_waiver(waiver.id, by="bob")

        world.end = end
        yield orch


@of_kind("not_started")
def _not_started(world, _):
    orch = TaskOrchestrator()
    orch.submit_task(x())
    world.end = orch.start
    yield orch
    orch.stop()


@of_kind("starts_held")
def _starts_held(world, _):
    with world.orchestrator() as orch:
        orch.hold_starts("not yet", by="me")
        orch.submit_task(x())
        world.end = lambda: orch.release_starts(by="me")
        yield orch


@of_kind("journal")
def _journal(world, tmp_path):
    broken = Event()

    class Sick(SqliteJournal):
        def append(self, epoch, group):
            if broken.is_set():
                msg = "the disk is full."
                raise JournalUnavailableError(msg)
            super().append(epoch, group)

    journal = Sick(tmp_path / "runs.db", durability="process")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_committer, "_PAUSES", Backoff(0.002, 0.01))
        with world.orchestrator(journal=journal) as orch:
            orch.submit_task(x(not_before=LASTS))
            broken.set()
            orch._rt.note(OrchestratorStarted)
            eventually(lambda: orch.health().status == "degraded")
            world.end = broken.clear
            yield orch
            broken.clear()
            eventually(lambda: orch.health().status == "ok")


@of_kind("stopping")
def _stopping(world, _):
    with world.orchestrator() as orch:
        orch.submit_task(Task.call(world.linger, id="x", expected=TAKES))
        assert world.began.wait(PATIENCE)
        orch.cancel_task("x")
        yield orch


@of_kind("terminal")
def _terminal(world, _):
    with world.orchestrator() as orch:
        orch.submit_task(x()).result(PATIENCE)
        world.end = None
        yield orch


#: Worlds of a condition in the table of all waits: the kind, the condition in a few
#: words, and then what is said: the kind of the group in `stuck()` and whether it is
#: outside, and the check of the health that is not ok.
MORE = {}


def under(kind, condition, group=None, health=None):
    def note(make):
        MORE[kind, condition] = contextmanager(make), group, health
        return make

    return note


@under("dependency", "that failed", ("dependency", False))
def _failed_parent(world, _):
    with world.orchestrator() as orch:
        parent = orch.submit_task(Task.call(fail, Permanent("no"), id="parent"))
        orch.submit_task(x(after=[parent]))
        eventually(lambda: orch.get_task_status("x").state == "blocked")
        world.end = lambda: orch.cancel_task("x")
        yield orch


@under("dependency", "is stuck", ("suspended", True))
def _suspended_parent(world, _):
    with world.orchestrator() as orch:
        parent = Task.call(asked_about, id="parent", not_before=LASTS)
        orch.submit_task(x(after=[orch.submit_task(parent)]))
        orch.suspend_task("parent")
        world.end = lambda: orch.cancel_task("x")
        yield orch


@under("event", "with a timeout")
def _event_with_a_time(world, _):
    with world.orchestrator() as orch:
        orch.submit_task(Task.wait_for("go", timeout=LASTS, id="x"))
        world.end = lambda: pass_time(orch, LASTS)
        yield orch


@under("decision", "its function is gone", ("gone", True))
def _function_is_gone(world, folder):
    (folder / "of_earlier.py").write_text("def work():\n    return 1\n")
    journal = folder / "runs.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        work = importlib.import_module("of_earlier").work
        with TaskOrchestrator(journal=journal) as orch:
            orch.submit_task(Task.call(work, id="x", not_before=3 * LASTS))
            orch.stop(drain=False)
        del sys.modules["of_earlier"], work
    (folder / "of_earlier.py").unlink()
    importlib.invalidate_caches()
    with world.orchestrator(journal=journal) as orch:
        pass_time(orch, 4 * LASTS)
        world.end = lambda: orch.decide("x", "fail")
        yield orch


@under("slot", "work does not stop", ("waiting", False), "slots")
def _slots_are_leaked(world, _):
    with world.orchestrator(concurrency=1) as orch:
        short_grace(orch)
        world.holder(orch)
        orch.submit_task(x())
        orch.cancel_task("holder")
        eventually(lambda: orch.get_stats().leaked)
        yield orch


under("agent", "its breaker is open", None, "agents")(_agent)


@under("agent", "a worker has room")
def _worker_is_busy(world, _):
    with world.orchestrator() as orch:

        @orch.agent("one", capabilities=["w"], max_concurrency=1)
        def work(task, context):
            world.hold()

        orch.submit_task(Task("w", id="holder"))
        assert world.began.wait(PATIENCE)
        orch.submit_task(Task("w", id="x"))
        yield orch


class Far(AttemptExecutor):
    """A worker elsewhere, which has done at once what it is sent."""

    def begin(self, attempt):
        attempt.end(None)
        return attempt


@under("agent", "all are lost", ("agent", False), "agents")
def _workers_are_lost(world, _):
    with world.orchestrator() as orch:
        far = Agent("far", ("w",), lease=LASTS)
        orch.agents.join(far, Far())
        orch.agents.leave("far")
        orch.submit_task(Task("w", id="x"))
        world.end = lambda: orch.agents.join(far, Far())
        yield orch


@under("agent", "stuck tasks hold it", ("waiting", False))
def _worker_is_held(world, _):
    with world.orchestrator() as orch:

        @orch.agent("one", capabilities=["w"], max_concurrency=3, capacity={"seat": 1})
        def work(task, context):
            if task.payload:
                world.wait_inside(orch)

        orch.submit_task(Task("w", "waits", id="holder", resources={"seat": 1}))
        assert world.began.wait(PATIENCE)
        orch.submit_task(Task("w", id="x", resources={"seat": 1}))
        yield orch


@under("resource", "more than there is", ("resource", False))
def _too_large(world, _):
    with world.orchestrator(resources={"gpu": 1}) as orch:
        world.holder(orch, resources=Resources(gpu=1))
        orch.submit_task(x(resources=Resources(gpu=1)))
        orch.resources.resize({"gpu": 0})
        world.end = lambda: orch.resources.resize({"gpu": 2})
        yield orch


@under("resource", "held for ever", ("waiting", False))
def _held_for_ever(world, _):
    with world.orchestrator(resources={"gpu": 1}) as orch:
        world.waiter(orch, resources=Resources(gpu=1))
        orch.submit_task(x(resources=Resources(gpu=1)))
        yield orch


@under("resource", "held by hand", ("allocation", True), "resources")
def _held_by_hand(world, _):
    with world.orchestrator(resources={"gpu": 1}) as orch:
        held = orch.resources.allocate({"gpu": 1}, owner="ada")
        orch.submit_task(x(resources=Resources(gpu=1)))
        pass_time(orch, HELD_SECONDS + 1)
        world.end = lambda: orch.resources.release(held.id, owner="ada")
        yield orch


@under("quota", "more than the whole limit", ("quota", False))
def _above_a_quota(world, _):
    with world.orchestrator(resources={"gpu": 4}) as orch:
        orch.resources.set_quotas(Quota(owner="o", resources={"gpu": 2}))
        world.holder(orch, owner="o", resources=Resources(gpu=2))
        orch.submit_task(x(owner="o", resources=Resources(gpu=2)))
        orch.resources.set_quotas(Quota(owner="o", resources={"gpu": 1}))
        world.end = lambda: orch.resources.set_quotas(
            Quota(owner="o", resources={"gpu": 4})
        )
        yield orch


@under("budget", "too little is left", ("budget", False), "budgets")
def _spent(world, _):
    with world.orchestrator() as orch:
        with orch.budget("money", eur=1):
            spends = Task.call(asked_about, resources={"eur": 1})
            orch.submit_task(spends).result(PATIENCE)
            orch.submit_task(x(resources={"eur": 1}))
        world.end = lambda: orch.resources.raise_budget("money", {"eur": 2})
        yield orch


@under("scope", "a stuck task may write there", ("waiting", False))
def _written_by_a_stuck_one(world, _):
    with world.orchestrator() as orch:
        world.waiter(orch, writes=["src/**"])
        orch.submit_task(x(writes=["src/a"]))
        yield orch
