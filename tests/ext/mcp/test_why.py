"""
What operators ask, over the protocol alone: the first answer has the cause.

Each case is a state that an operator meets, made by an orchestrator, and what a model is
told that asks `why` once: about a task, a run, a schedule, or about nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta

import pytest

pytest.importorskip("mcp")

from tests.api.test_agents_elsewhere import Mailbox, far
from tests.api.tools import PATIENCE, Hold, eventually
from tests.ext.mcp.tools import beside, call, run

from taskorch import Approval, RetryPolicy, Task, TaskOrchestrator, Workflow
from taskorch.ext.mcp import OrchestratorPlace
from taskorch.ext.views import JournalReader
from taskorch.model import Breaker, Cache, Quota

LATE = "late"


@contextmanager
def orchestrator(**options):
    with TaskOrchestrator(unknown_capability="wait", **options) as orch:
        hold = Hold()
        try:
            yield orch, hold
        finally:
            hold.release()
            orch.stop(drain=False)


def fail(page="p1"):
    msg = f"no such page: {page}"
    raise ValueError(msg)


CASES = {}


def mended(hold):
    if not hold.go.is_set():
        fail()


def case(*words, ask=LATE, never=None, **options):
    """What is asked, what must be in the answer, and what makes the state."""

    def add(make):
        CASES[make.__name__] = make, words, ask, never, options
        return make

    return add


@case("It needs 1 gpu, and 0 of 1 is free", "holder", resources={"gpu": 1, "cpu": 4})
def a_pool(orch, hold):
    orch.submit_task(Task.call(hold, id="holder", resources={"gpu": 1}))
    hold.wait()
    orch.submit_task(Task.call(int, id=LATE, resources={"gpu": 1}))


@case("The one slot is taken", concurrency=1)
def a_slot(orch, hold):
    orch.submit_task(Task.call(hold, id="holder"))
    hold.wait()
    orch.submit_task(Task.call(int, id=LATE))


@case("No worker can do it", "tag:arm64")
def a_tag(orch, hold):
    orch.submit_task(Task("tag:arm64", None, id=LATE))


@case("quota of owner 'acme' is 1 task at once", "holder")
def a_quota(orch, hold):
    orch.resources.set_quotas(Quota(owner="acme", max_parallel=1))
    orch.submit_task(Task.call(hold, id="holder", owner="acme"))
    hold.wait()
    orch.submit_task(Task.call(int, id=LATE, owner="acme"))


@case("quota of owner 'acme'", "euro", resources={"euro": 100, "cpu": 4})
def a_budget(orch, hold):
    orch.resources.set_quotas(Quota(owner="acme", resources={"euro": 10}))
    euros = {"euro": 8}
    orch.submit_task(Task.call(hold, id="holder", owner="acme", resources=euros))
    hold.wait()
    orch.submit_task(Task.call(int, id=LATE, owner="acme", resources=euros))


@case("lets 0.001 start in a second", "the next may in")
def a_rate(orch, hold):
    orch.resources.set_quotas(Quota(owner="acme", starts_per_second=0.001))
    orch.submit_task(Task.call(int, id="first", owner="acme")).result(PATIENCE)
    orch.submit_task(Task.call(int, id=LATE, owner="acme"))


@case("Worker far is lost")
def a_worker_that_is_lost(orch, hold):
    orch.agents.join(far(lease=0.05), Mailbox())
    eventually(lambda: orch.agents.is_lost("far"))
    orch.submit_task(Task("x", None, id=LATE))


@case("Worker far gets no new work", "new disk")
def a_worker_that_is_drained(orch, hold):
    orch.agents.join(far(), Mailbox())
    orch.agents.drain("far", "it gets a new disk")
    orch.submit_task(Task("x", None, id=LATE))


@case("breaker of worker bad", "is open")
def a_breaker(orch, hold):
    @orch.agent("bad", capabilities={"do"}, breaker=Breaker(failures=1, most_open=1))
    def bad(task, context):
        raise ValueError

    def is_open():
        return any("breakers" in each.detail for each in orch.health().checks)

    while not is_open():
        failed = orch.submit_task(Task("do", None))
        eventually(lambda failed=failed: failed.done() or is_open())
    orch.submit_task(Task("do", None, id=LATE))


@case("Behind that", "waits for the event 'the file is there'")
def a_parent_that_is_blocked(orch, hold):
    orch.submit_task(Task.wait_for("the file is there", id="first"))
    orch.submit_task(Task.call(int, id="second", after=["first"]))
    orch.submit_task(Task.call(int, id=LATE, after=["second"]))


@case("no such page", "rerun", "first")
def a_parent_that_has_failed(orch, hold):
    orch.submit_task(Task.call(fail, id="first"))
    orch.submit_task(Task.call(int, id="second", after=["first"]))
    orch.submit_task(Task.call(int, id=LATE, after=["second"]))
    eventually(lambda: orch.get_task_status("first").is_terminal)


@case("It asks: Ship it?", "question")
def a_question(orch, hold):
    orch.submit_task(Task.question("Ship it?", id="sign-off"))
    orch.submit_task(Task.call(int, id=LATE, after=["sign-off"]))


@case(
    "waits for somebody to approve",
    "'approve' by ada",
    "does not decide it yet",
    ask="r1/ship",
)
def an_approval_with_a_quorum(orch, hold):
    wf = Workflow("release")
    gate = Approval(who=("ada", "bob", "cy"), quorum=2)
    wf.phase("build", gate=gate).task(int, id="a")
    wf.phase("ship").task(int, id="ship")
    orch.workflows.start(wf, id="r1")
    eventually(orch.questions)
    assert not orch.workflows.approve("r1", "build", by="ada")


@case("suspended", 'release {"task": "late"}')
def what_was_put_aside(orch, hold):
    orch.submit_task(Task.wait_for("go", id=LATE))
    orch.suspend_task(LATE)


@case("may not start for another")
def what_is_not_due(orch, hold):
    orch.submit_task(Task.call(int, id=LATE, not_before=timedelta(hours=1)))


@case("retrying", "for another", "no such page")
def a_retry_that_waits(orch, hold):
    policy = RetryPolicy(2, base=600, jitter=0)
    orch.submit_task(Task.call(fail, id=LATE, retry=policy))
    eventually(lambda: orch.get_task_status(LATE).state == "retrying")


@case("No worker can do it", "paint", ask="r1")
def a_run_that_is_stuck(orch, hold):
    wf = Workflow("house")
    wf.task(int, id="wall")
    paint = wf.add(Task("paint", None, id="paint", after=["wall"]))
    wf.task(int, id="garden", after=[paint])
    orch.workflows.start(wf, id="r1")
    eventually(lambda: orch.get_task_status("r1/wall").is_terminal)


@case("no such page", "failed", "rerun", ask="night")
def a_night_that_has_failed(orch, hold):
    orch.schedules.add("night", "@daily", Task.call(fail))
    made = orch.schedules.trigger("night")
    eventually(lambda: orch.get_task_status(made).is_terminal)


@case("It is paused: the vendor is down", ask="night")
def a_schedule(orch, hold):
    orch.schedules.add("night", "@daily", Task.call(int))
    orch.schedules.pause("night", "the vendor is down")


@case("has not ended", "waits for the event 'go'", ask="night")
def a_schedule_whose_run_goes_on(orch, hold):
    orch.schedules.add("night", "@daily", Task.wait_for("go"))
    orch.schedules.trigger("night")


@case("deadline")
def a_deadline_that_was_missed(orch, hold):
    orch.submit_task(Task.wait_for("go", id=LATE, deadline=0.05))
    eventually(lambda: orch.get_task_status(LATE).is_terminal)


@case("held by ada", "the disk is full", 'release {"by": "ada"}')
def an_orchestrator_that_starts_nothing(orch, hold):
    orch.hold_starts("the disk is full", by="ada")
    orch.submit_task(Task.call(int, id=LATE))


@case("held by ada", "the disk is full", ask=None)
def all_that_is_held(orch, hold):
    orch.hold_starts("the disk is full", by="ada")
    orch.submit_task(Task.call(int, id=LATE))


@case("miss", "argument")
def a_result_that_was_not_remembered(orch, hold):
    def work(page):
        return page

    orch.submit_task(Task.call(work, 1, id="first", cache=Cache())).result(PATIENCE)
    orch.submit_task(Task.call(work, 2, id=LATE, cache=Cache())).result(PATIENCE)


@case("runs", "asked to stop")
def what_does_not_stop(orch, hold):
    orch.submit_task(Task.call(hold, id=LATE))
    hold.wait()
    orch.cancel_task(LATE)


@case("Of the tasks of the run r1, 2 completed.", ask="r1", never="no such page")
def a_run_that_was_mended(orch, hold):
    wf = Workflow("house")
    wf.task(mended, hold, id="wall")
    wf.task(int, id="roof", after=["wall"])
    orch.workflows.start(wf, id="r1")
    eventually(lambda: orch.get_task_status("r1/wall").is_terminal)
    hold.release()
    orch.rerun_task("r1/wall")
    eventually(lambda: orch.get_task_status("r1/roof").is_terminal)


@case("Its next tick is", ask="night", never="is completed")
def a_night_that_was_mended(orch, hold):
    orch.schedules.add("night", "@daily", Task.call(mended, hold))
    made = orch.schedules.trigger("night")
    eventually(lambda: orch.get_task_status(made).is_terminal)
    hold.release()
    orch.rerun_task(made).result(PATIENCE)


def first_answer(place, ask):
    """The text of the first answer of `why`."""

    async def story():
        async with beside(place) as client:
            return await call(client, "why", **({} if ask is None else {"task": ask}))

    return run(story())["text"]


@pytest.mark.parametrize("name", CASES)
def test_the_first_answer_has_the_cause(name):
    make, words, ask, never, options = CASES[name]
    with orchestrator(**options) as (orch, hold):
        make(orch, hold)
        text = first_answer(OrchestratorPlace(orch), ask)
    for word in words:
        assert word in text, text
    assert never is None or never not in text
    assert len(text) < 2_000


def test_a_journal_tells_of_a_night_that_has_failed(tmp_path):
    path = tmp_path / "runs.db"
    with orchestrator(journal=path) as (orch, hold):
        a_night_that_has_failed(orch, hold)
    text = first_answer(JournalReader(path), "night")
    assert "no such page" in text
    assert 'rerun {"task"' in text


@pytest.mark.parametrize("ask", [LATE, None])
def test_of_a_journal_that_nobody_has_open_that_is_the_cause(tmp_path, ask):
    path = tmp_path / "runs.db"
    with orchestrator(journal=path) as (orch, _):
        orch.submit_task(Task("nobody", None, id=LATE))
    text = first_answer(JournalReader(path), ask)
    assert "No orchestrator has its journal open" in text
