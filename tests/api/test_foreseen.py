"""Whatever keeps a task from starting, `orch.when` waits for it, or says that it does not."""

import re
from datetime import timedelta

import pytest
from tests.api.in_the_way import (
    LASTS,
    TAKES,
    WORLDS,
    World,
    asked_about,
    x,
)
from tests.api.tools import PATIENCE, eventually

from taskorch import Resources, Task, Workflow, current_context
from taskorch.errors import Permanent
from taskorch.ext.governance import ConstitutionalRuntime, Policy, Rule
from taskorch.model import Blocker, Breaker, Quota

#: The kinds whose end a draw waits for; of all others the answer says something.
WAITED_FOR = {
    *("dependency", "delay", "deadline", "slot", "agent", "resource", "quota", "rate"),
    *("scope", "reservation"),
}


@pytest.fixture
def world():
    one = World()
    yield one
    one.go.set()


#: What the answer says of the kinds that no draw waits for.
SAID = {
    "event": "x is blocked, and nobody knows until when",
    "budget": "x waits for budget 'money', and nobody knows until when",
    "capability": "x never starts",
    "suspended": "x is suspended, and nobody knows until when",
    "decision": "x is blocked, and nobody knows until when",
    "limit": "Limits that the program adds are left out: seats",
    "veto": "x never starts",
    "allocator": "x never starts",
    "policy": "x is blocked, and nobody knows until when",
    "starts_held": "Starts are held back by me",
    "not_started": "taken as if it were started now",
    "journal": "while the journal cannot be written",
    "store": "Nobody knows when x ends",
    "stopping": "Of x, asked to stop",
    "terminal": "x ended at",
}


def kinds():
    lines = re.findall(r"^ *- (`[^:]*):", Blocker.__doc__, re.MULTILINE)
    return [kind for line in lines for kind in re.findall(r"`(\w+)`", line)]


def test_each_kind_is_waited_for_or_said_and_has_a_world():
    assert sorted(WORLDS) == sorted(kinds())
    assert sorted([*WAITED_FOR, *SAID]) == sorted(WORLDS)


@pytest.mark.parametrize("kind", sorted(WORLDS))
def test_what_keeps_a_task_is_waited_for_or_said(kind, world, tmp_path):
    with WORLDS[kind](world, tmp_path) as orch:
        eventually(lambda: kind in kinds_of(orch), str(orch.explain("x")))
        answer = orch.when("x")
        if kind in SAID:
            assert SAID[kind] in str(answer)
        else:
            assert answer.p50 - answer.at > timedelta(seconds=LASTS / 3)


def kinds_of(orch):
    found = orch.explain("x")
    return {each.kind for each in (*found.blockers, *found.then)}


@pytest.mark.parametrize(
    "lower",
    [
        lambda orch: orch.resources.resize({"gpu": 1}),
        lambda orch: orch.resources.set_quotas(Quota(type="t", max_parallel=1)),
        lambda orch: orch.resources.set_quotas(
            Quota(type="t", starts_per_second=1 / LASTS)
        ),
    ],
)
def test_what_runs_goes_on_whatever_was_lowered_since(world, lower):
    with world.orchestrator(resources={"gpu": 2}) as orch:
        both = ["one", "other"]
        for name in both:
            options = {"type": "t", "resources": Resources(gpu=1), "expected": LASTS}
            orch.submit_task(Task.call(world.hold, id=name, **options))
        eventually(
            lambda: {orch.get_task_status(name).state for name in both} == {"running"}
        )
        lower(orch)
        one, other = (orch.when(name) for name in both)
        spans = sorted(each.p50 - each.at for each in (one, other))
        assert spans[1] < 1.5 * spans[0]


def test_an_open_breaker_holds_for_tasks_like_one_that_still_runs(world):
    with world.orchestrator() as orch:
        breaker = Breaker(failures=1, open=LASTS, most_open=1)

        @orch.agent("a", capabilities=["w"], max_concurrency=3, breaker=breaker)
        def work(task, context):
            if task.payload == "no":
                raise Permanent(task.payload)
            if task.payload:
                world.hold()

        orch.submit_task(Task("w", "stay", requires=["w"], expected=TAKES))
        assert world.began.wait(PATIENCE)
        orch.submit_task(Task("other", "no", requires=["w"])).exception(PATIENCE)
        eventually(lambda: "breakers are open" in str(orch.health()))
        orch.submit_task(Task("w", "", id="x", requires=["w"], expected=TAKES))
        answer = orch.when("x")
        assert answer.p50 - answer.at > timedelta(seconds=LASTS / 3)


def test_a_start_that_policies_would_deny_is_said_before_it_comes(world):
    rule = Rule("r", "task.type", "not_equals", "t", "Not now.")
    policy = Policy("p", "safety", "critical", rules=[rule], at="start")
    rules = ConstitutionalRuntime([policy])
    with world.orchestrator(governance=rules, concurrency=1) as orch:
        world.holder(orch)
        orch.submit_task(x(type="t"))
        orch.submit_task(Task.call(asked_about, id="y", type="other", expected=TAKES))
        assert "x may not start by the policies (" in str(orch.when("x"))
        assert "Policies are taken to allow all other" in str(orch.when("y"))


class CountedLock:
    """A lock that counts the starts that are judged each time that it is held."""

    def __init__(self, lock):
        self.lock, self.many, self.counts = lock, 0, []
        self.locked = lock.locked

    def acquire(self, *args, **options):
        has_it = self.lock.acquire(*args, **options)
        if has_it:
            self.many = 0
        return has_it

    def release(self):
        self.counts.append(self.many)
        self.lock.release()

    def __enter__(self):
        self.acquire()

    def __exit__(self, *_):
        self.release()


def test_many_starts_are_judged_without_keeping_others_from_the_lock(world):
    rule = Rule("r", "task.type", "not_equals", "t", "Not now.")
    policy = Policy("p", "safety", "critical", rules=[rule], at="start")
    rules = ConstitutionalRuntime([policy])
    with world.orchestrator(governance=rules, concurrency=1) as orch:
        world.holder(orch)
        orch.submit_tasks(
            Task.call(asked_about, id=f"x{n}", type="t") for n in range(200)
        )
        rt = orch._rt
        judge, rt.lock = rt.deciders.judge, CountedLock(rt.lock)

        def counted(row, now):
            rt.lock.many += 1
            return judge(row, now)

        rt.deciders.judge = counted
        answer = str(orch.when("x199"))
        counts = [*rt.lock.counts]
        del rt.deciders.judge
    assert "x199 may not start by the policies (" in answer
    assert sum(counts) >= 200
    assert max(counts) <= 20


def test_what_waits_inside_leaves_its_slot_to_others(world):
    with world.orchestrator(concurrency=1) as orch:

        def outer():
            inner = Task.call(world.hold, id="inner", expected=LASTS)
            orch.submit_task(inner).result(PATIENCE)

        orch.submit_task(Task.call(outer, id="outer", expected=20 * LASTS))
        assert world.began.wait(PATIENCE)
        orch.submit_task(x(not_before=30))
        answer = orch.when("x")
        assert answer.p50 - answer.at < timedelta(seconds=5 * LASTS)
        assert "Of outer, which waits for other tasks inside" in str(answer)
        world.go.set()


def test_what_spends_is_said_though_nothing_is_short(world):
    with world.orchestrator(concurrency=1) as orch:
        world.holder(orch)
        with orch.budget("money", eur=10):
            orch.submit_task(x(resources={"eur": 1}))
        assert orch.when("x").p50 is not None
        assert "they draw on budget money" in str(orch.when("x"))


def test_that_a_task_adds_others_while_it_runs_is_said(world):
    def split():
        child = Task.call(asked_about, id="child", expected=TAKES, not_before=LASTS)
        current_context().workflow.add(child)
        world.hold()

    flow = Workflow("flow")
    flow.add(Task.call(split, id="split", type="split", expected=TAKES))
    with world.orchestrator() as orch:
        orch.workflows.start(flow, id="run")
        assert world.began.wait(PATIENCE)
        orch.submit_task(x(not_before=LASTS))
        said = "What tasks of type split add while they run is left out."
        assert said in str(orch.when("x"))
        world.go.set()
