"""Running tasks of a workflow meet: at a barrier, and to swap a value."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random

import pytest
from tests.api.tools import PATIENCE, Hold, eventually, in_loop
from tests.core.workflows.functions import zero
from tests.core.workflows.tools import failures, inside
from tests.house.tools.examples import seeds

from taskorch import (
    InvalidTaskError,
    NotRunningError,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskState,
    Workflow,
    WorkflowFailedError,
    current_context,
)
from taskorch.errors import WouldBlockError, WouldDeadlockError
from taskorch.kit.extension import Extension, Short
from taskorch.model import NamedUnits, Quota


@pytest.fixture
def orch():
    with TaskOrchestrator(concurrency=2) as orch:
        yield orch


def wait_for_parties(orch, count: int = 1) -> None:
    """Until so many have come to the meetings that go on."""
    meetings = orch._rt.runs.meetings._going
    eventually(
        lambda: sum(len(each.parties) for each in list(meetings.values())) >= count
    )


def test_two_swap_values(orch):
    wf = Workflow("w")
    for n in range(2):
        wf.task(lambda n=n: inside().exchange("x", n), id=f"t{n}")
    assert orch.workflows.start(wf).result(PATIENCE) == {"t0": 1, "t1": 0}


def test_alone_one_is_enough_at_a_barrier_for_one(orch):
    wf = Workflow("w")
    wf.task(lambda: inside().barrier("b", 1), id="a")
    assert orch.workflows.start(wf).result(PATIENCE) == {"a": 0}


def test_who_runs_out_of_time_calls_it_off_for_the_others(orch):
    hold = Hold()

    def patient() -> None:
        inside().barrier("b", 3)

    def impatient() -> None:
        wait_for_parties(orch)
        inside().barrier("b", 3, timeout=0.02)

    wf = Workflow("w")
    wf.task(patient, id="patient")
    wf.task(impatient, id="impatient")
    wf.task(hold, id="third")
    run = orch.workflows.start(wf)
    assert isinstance(run.handles["impatient"].exception(PATIENCE), TimeoutError)
    error = run.handles["patient"].exception(PATIENCE)
    hold.release()
    assert isinstance(error, threading.BrokenBarrierError)
    assert "impatient waits no more" in str(error)
    assert "within 0.02 s" in str(run.handles["impatient"].exception())


def test_who_is_cancelled_calls_it_off_for_the_others(orch):
    hold = Hold()
    wf = Workflow("w")
    for name in "ab":
        wf.task(lambda: inside().barrier("b", 3), id=name)
    wf.task(hold, id="third")
    run = orch.workflows.start(wf, id="x")
    wait_for_parties(orch, 2)
    hold.wait()
    orch.cancel_task("x/a")
    assert isinstance(run.handles["a"].exception(PATIENCE), TaskCancelledError)
    error = run.handles["b"].exception(PATIENCE)
    hold.release()
    assert isinstance(error, threading.BrokenBarrierError)


def test_who_was_cancelled_before_does_not_wait():
    """What it was told on the way is not told again."""
    hold = Hold()

    def late() -> None:
        hold()
        inside().barrier("b", 2)

    with TaskOrchestrator(concurrency=2) as orch:
        wf = Workflow("w")
        wf.task(late, id="late")
        other = Hold()
        wf.task(other, id="other")
        run = orch.workflows.start(wf, id="x")
        hold.wait()
        other.wait()
        orch.cancel_task("x/late")
        hold.release()
        assert isinstance(run.handles["late"].exception(PATIENCE), TaskCancelledError)
        # It has ended by itself, and was not given up.
        assert orch.get_stats().leaked == 0
        other.release()


@pytest.mark.parametrize("how", ["dies", "ends", "never begins"])
def test_nobody_waits_for_one_who_will_not_come(orch, how):
    """One that fails before, one that ends without coming, one that is blocked."""

    def other() -> None:
        if how == "dies":
            raise RuntimeError("dead")

    wf = Workflow("w")
    wf.task(lambda: inside().barrier("b", 2), id="a")
    if how == "never begins":
        broken = wf.task(lambda: 1 // 0, id="broken")
        wf.task(zero, id="other", after=[broken])
    else:
        wf.task(other, id="other")
    error = failures(orch.workflows.start(wf, id="x"))["a"]
    assert isinstance(error, threading.BrokenBarrierError)
    assert "2 tasks are to come, and only 1 of workflow x" in str(error)
    assert orch._rt.runs.meetings._going == {}


def test_a_later_attempt_meets_again(orch):
    """One that dies and is tried again comes with its second attempt."""
    attempts: list[int] = []

    def dies_once() -> int:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError
        return inside().barrier("b", 2)

    wf = Workflow("w")
    wf.task(lambda: inside().barrier("b", 2), id="a")
    wf.task(dies_once, id="b", retry=RetryPolicy(2, wait="fixed", base=0))
    assert sorted(orch.workflows.start(wf).result(PATIENCE).values()) == [0, 1]


class Failing:
    """A function that meets, and fails after that in the attempts that it is told."""

    def __init__(self, *fails: str) -> None:
        self.fails = list(fails)
        self.met: list[tuple] = []

    def __call__(self, name: str) -> list:
        run = inside()
        met = [run.barrier("read", 3), run.barrier("read", 3), run.barrier("done", 3)]
        self.met.append((name, *met))
        if name in self.fails:
            self.fails.remove(name)
            raise OSError(name)
        return met

    async def later(self, name: str) -> list:
        run = current_context().aio.workflow
        met = [await run.barrier(b, 3) for b in ("read", "read", "done")]
        self.met.append((name, *met))
        if name in self.fails:
            self.fails.remove(name)
            raise OSError(name)
        return met


@pytest.mark.parametrize("way", ["__call__", "later"])
@pytest.mark.parametrize("fails", ["a", "ab", "abc", "aa"])
def test_a_meeting_that_was_held_counts_for_a_later_attempt(orch, way, fails):
    """It passes at once, at the same place: the others do not come twice."""
    failing = Failing(*fails)
    wf = Workflow("w")
    for name in "abc":
        retry = RetryPolicy(3, wait="fixed", base=0)
        wf.task(getattr(failing, way), name, id=name, retry=retry)
    results = orch.workflows.start(wf).result(PATIENCE)
    for name, met in results.items():
        said = [each[1:] for each in failing.met if each[0] == name]
        assert said == [tuple(met)] * (1 + fails.count(name))


def test_a_swap_counts_for_a_later_attempt(orch):
    again: list[int] = []

    def swap(name: str) -> tuple[str, str]:
        first = inside().exchange("x", name)
        if name == "a" and not again:
            again.append(1)
            raise OSError
        return first, inside().exchange("y", name)

    wf = Workflow("w")
    for name in "ab":
        wf.task(swap, name, id=name, retry=RetryPolicy(2, wait="fixed", base=0))
    result = orch.workflows.start(wf).result(PATIENCE)
    assert result == {"a": ("b", "b"), "b": ("a", "a")}


def test_all_who_met_count_it_again_if_one_of_their_re_runs_did(orch):
    """The first that runs again cannot know whether the others will."""
    failing = Failing(*"abc")
    wf = Workflow("w")
    for name in "abc":
        wf.task(failing, name, id=name)
    failures(orch.workflows.start(wf, id="x"))
    for name in "abc":
        orch.rerun_task(f"x/{name}").result(PATIENCE)


def test_all_who_run_again_together_meet_again(orch):
    """What they did in between is done anew, so they wait for each other anew."""
    hold = Hold()
    turns: list[str] = []

    def work(name: str) -> int:
        turns.append(name)
        if turns.count("b") == 2 and name == "b":
            hold()
        inside().barrier("read", 2)
        if len(turns) == 2:
            raise OSError
        return len(turns)

    wf = Workflow("w")
    for name in "ab":
        wf.task(work, name, id=name)
    run = orch.workflows.start(wf, id="x")
    assert sorted(failures(run)) == ["a", "b"]
    again = orch.workflows.restart("x")
    hold.wait()
    wait_for_parties(orch)
    hold.release()
    assert again.result(PATIENCE) == {"a": 4, "b": 4}


@pytest.mark.parametrize("other", [2, True])
def test_another_value_is_not_swapped_with_what_the_other_gave_before(orch, other):
    """The other one has the earlier value, so this swap was not held."""
    values = iter([1, 1, other])

    def swap(name: str) -> int:
        mine = next(values) if name == "a" else 0
        given = inside().exchange("x", mine)
        if name == "a":
            raise OSError
        return given

    wf = Workflow("w")
    for name in "ab":
        wf.task(swap, name, id=name)
    failures(orch.workflows.start(wf, id="x"))
    error = orch.rerun_task("x/a").exception(PATIENCE)
    assert isinstance(error, OSError)
    error = orch.rerun_task("x/a").exception(PATIENCE)
    assert isinstance(error, threading.BrokenBarrierError)


def test_a_meeting_does_not_keep_a_pause_from_being_complete(orch):
    wf = Workflow("w")
    wf.task(lambda: inside().barrier("b", 2), id="a")
    wf.task(lambda: inside().barrier("b", 2), id="later", not_before=3600)
    run = orch.workflows.start(wf, id="x")
    wait_for_parties(orch)
    orch.workflows.pause("x")
    assert run.wait_paused(PATIENCE)
    assert run.status().pause == "paused"
    orch.workflows.cancel("x")
    assert run.handles["a"].exception(PATIENCE) is not None


@in_loop
async def test_coroutines_meet_each_other_and_threads():
    async with TaskOrchestrator(concurrency=2) as orch:

        async def meet() -> int:
            return await current_context().aio.workflow.barrier("b", 4)

        async def swap(value: int) -> int:
            return await current_context().aio.workflow.exchange("x", value, PATIENCE)

        async def impatient() -> int:
            with pytest.raises(WouldBlockError):
                inside().barrier("c", 2)
            return await current_context().aio.workflow.barrier("c", 2, 0.01)

        wf = Workflow("w")
        for n in range(3):
            wf.task(meet, id=f"m{n}")
        wf.task(lambda: inside().barrier("b", 4), id="thread")
        for n in range(2):
            wf.task(swap, n, id=f"s{n}")
        wf.task(impatient, id="impatient")
        run = await orch.aio.workflows.start(wf)
        with pytest.raises(WorkflowFailedError) as caught:
            await run
        assert list(caught.value.failures) == ["impatient"]
        late = (TimeoutError, threading.BrokenBarrierError)
        assert isinstance(caught.value.failures["impatient"], late)
        assert run.handles["s0"].result() == 1
        assert run.status().counts[TaskState.COMPLETED] == 6


@in_loop
async def test_a_coroutine_that_has_met_has_a_slot_of_its_own_again():
    """Those that go on are no more than may run at once."""
    async with TaskOrchestrator(concurrency=1) as orch:
        awake: set[str] = set()
        most: list[int] = []

        async def meet(name: str) -> None:
            await current_context().aio.workflow.barrier("b", 3)
            awake.add(name)
            for _ in range(20):
                most.append(len(awake))
                await asyncio.sleep(0)
            awake.remove(name)

        wf = Workflow("w")
        for name in "abc":
            wf.task(meet, name, id=name)
        await (await orch.aio.workflows.start(wf))
        assert len(most) == 60
        assert max(most) == 1


def test_who_is_there_already_and_who_is_over(orch):
    """A task comes once; an attempt that is over does not come at all."""
    kept = []
    others: list[threading.Thread] = []

    def twice() -> None:
        run = inside()
        kept.append(run)

        def beside() -> None:
            with suppress(threading.BrokenBarrierError):
                run.barrier("b", 2)

        others.append(threading.Thread(target=beside))
        others[0].start()
        wait_for_parties(orch)
        with pytest.raises(InvalidTaskError, match="already"):
            run.barrier("b", 2)

    hold = Hold()
    wf = Workflow("w")
    wf.task(hold, id="third")
    wf.task(twice, id="a")
    run = orch.workflows.start(wf)
    assert run.handles["a"].result(PATIENCE) is None
    hold.release()
    run.result(PATIENCE)
    for work in run.handles.values():
        work._row.attempt += 1
    others[0].join(PATIENCE)
    with pytest.raises(NotRunningError):
        kept[0].barrier("b", 2)


# -- meetings that can never be held -----------------------------------------------


def meet(parties: int) -> int:
    return inside().barrier("read", parties)


async def meet_async(parties: int) -> int:
    return await current_context().aio.workflow.barrier("read", parties)


def assert_told(run, parties: int) -> WouldDeadlockError:
    """All of its tasks that would have met have failed, for want of what others hold."""
    errors = failures(run).values()
    assert len(errors) == parties
    deadlocks = [error for error in errors if isinstance(error, WouldDeadlockError)]
    others = [error for error in errors if error not in deadlocks]
    assert all(isinstance(error, threading.BrokenBarrierError) for error in others)
    assert "let go of what they hold" in str(deadlocks[0])
    assert deadlocks[0].holders
    return deadlocks[0]


SHORT = {
    "a pool": ({"resources": {"cpu": 2}}, {"resources": {"cpu": 1}}),
    "units": (
        {"resources": {"gpu": NamedUnits("a", "b")}},
        {"resources": {"gpu": 1}},
    ),
    "files": ({}, {"writes": ["src"]}),
    "tasks at once": ({"quotas": [Quota(owner="o", max_parallel=2)]}, {"owner": "o"}),
    "a share": (
        {
            "resources": {"cpu": 8},
            "quotas": [Quota(owner="o", resources={"cpu": 2})],
        },
        {"owner": "o", "resources": {"cpu": 1}},
    ),
    "a type": ({"quotas": [Quota(type="meet", max_parallel=1)]}, {}),
}


@pytest.mark.parametrize("short", SHORT)
def test_a_meeting_for_which_one_too_few_can_start_is_told(short):
    """Whatever it is that those who have come hold, and the others need."""
    settings, options = dict(SHORT[short][0]), SHORT[short][1]
    quotas = settings.pop("quotas", [])
    with TaskOrchestrator(concurrency=10, **settings) as orch:
        orch.resources.set_quotas(*quotas)
        wf = Workflow("w")
        for n in range(3):
            wf.task(meet, 3, id=f"t{n}", **options)
        assert_told(orch.workflows.start(wf), 3)
        assert orch._rt.runs.meetings._going == {}


def test_a_budget_that_those_who_have_come_reserve_is_told(orch):
    """The third one may go on if people raise the budget: they are asked."""
    orch.budget("b", tokens=2)
    wf = Workflow("w")
    for n in range(3):
        wf.task(meet, 3, id=f"t{n}", budget="b", resources={"tokens": 1})
    run = orch.workflows.start(wf, id="x")
    for name in ("t0", "t1"):
        error = run.handles[name].exception(PATIENCE)
        assert isinstance(error, WouldDeadlockError)
    orch.workflows.cancel("x")


def test_two_who_swap_and_have_room_for_one_are_told():
    with TaskOrchestrator(resources={"cpu": 1}) as orch:
        wf = Workflow("w")
        for n in range(2):
            wf.task(
                lambda n=n: inside().exchange("x", n), id=f"t{n}", resources={"cpu": 1}
            )
        error = assert_told(orch.workflows.start(wf), 2)
        assert "1 of 2 tasks cannot come" in str(error)


def test_who_waits_for_a_task_that_waits_for_its_end_is_told(orch):
    """Nothing is held: the other task comes after the one that waits for it."""
    wf = Workflow("w")
    first = wf.task(meet, 2, id="first")
    wf.task(meet, 2, id="second", after=[first])
    error = failures(orch.workflows.start(wf, id="x"))["first"]
    assert isinstance(error, WouldDeadlockError)
    assert error.holders == ("x/first",)


@pytest.mark.parametrize("later", ["pool", "quota", "worker"])
@pytest.mark.parametrize("fn", [meet, meet_async])
def test_a_shortage_that_comes_while_they_wait_is_told(later, fn):
    """There was enough when they came; now a pool shrinks, or a worker drains."""
    hold = Hold()
    with TaskOrchestrator(resources={"cpu": 3}) as orch:
        for name in "abc":

            @orch.agent(name, capabilities={"own"}, capacity={"seat": 1})
            def work(task, context):
                return context.workflow.barrier("read", 3)

        gate = orch.submit_task(Task.call(hold))
        wf = Workflow("w")
        for name, after in (("a", ()), ("b", ()), ("late", [gate])):
            options = {"id": name, "after": after, "owner": "o"}
            if later == "worker":
                wf.add(Task("own", resources={"seat": 1}, **options))
            else:
                wf.task(fn, 3, resources={"cpu": 1}, **options)
        run = orch.workflows.start(wf)
        wait_for_parties(orch, 2)
        if later == "pool":
            orch.resources.resize({"cpu": 2})
        elif later == "quota":
            orch.resources.set_quotas(Quota(owner="o", max_parallel=2))
        else:
            used = {orch.explain(run.handles[name].task_id).agent for name in "ab"}
            (name,) = {*"abc"} - used
            orch.agents.drain(name)
        if later != "pool":
            # Workers and quotas of a task are looked up once it is queued.
            hold.release()
        errors = [run.handles[name].exception(PATIENCE) for name in "ab"]
        assert [type(error) for error in errors] == [WouldDeadlockError] * 2
        hold.release()


def test_a_quota_that_keeps_out_one_who_is_queued_is_told_though_nothing_ends():
    hold = Hold()
    with TaskOrchestrator(resources={"cpu": 3}) as orch:
        orch.submit_task(Task.call(hold, resources={"cpu": 1}))
        wf = Workflow("w")
        for n in range(3):
            wf.task(meet, 3, id=f"t{n}", resources={"cpu": 1}, owner="o")
        run = orch.workflows.start(wf)
        wait_for_parties(orch, 2)
        # Once the quota is there, those who have come end, and the third one starts.
        (queued,) = orch.tasks("queued")
        orch.resources.set_quotas(Quota(owner="o", max_parallel=2))
        here = [each for each in run.handles.values() if each.task_id != queued.task_id]
        errors = [each.exception(PATIENCE) for each in here]
        assert [type(error) for error in errors] == [WouldDeadlockError] * 2
        hold.release()


def test_one_who_ends_without_coming_was_the_last_who_could_start():
    """So many are left as are to come, but one of them has no room."""
    hold = Hold()
    with TaskOrchestrator(resources={"cpu": 2}) as orch:
        wf = Workflow("w")
        for n in range(3):
            wf.task(meet, 3, id=f"t{n}", resources={"cpu": 1})
        wf.task(hold, id="other")
        run = orch.workflows.start(wf, id="x")
        wait_for_parties(orch, 2)
        (queued,) = orch.tasks("queued")
        waits = next(s for s in orch.tasks("running") if s.task_id != "x/other")
        said = str(orch.explain(waits.task_id))
        assert "at the meeting 'read': 1 of 3 tasks are still to come" in said
        assert not run.handles[queued.task_id.removeprefix("x/")].done()
        hold.release()
        assert_told(run, 3)


class Seats:
    """A limit of a program: so many tasks of one owner at once."""

    name = "seats"

    def __init__(self, seats: int) -> None:
        self.seats = seats

    def need(self, kind) -> int:
        return 1 if kind.owner == "seated" else 0

    def short(self, need: float, held: float) -> Short | None:
        is_free = need <= self.seats - held
        return None if is_free else Short("All seats are taken.", 3600)


class Licences(Extension):
    name = "licences"

    def __init__(self, seats: int) -> None:
        self.limits = (Seats(seats),)


@pytest.mark.parametrize("way", ["task", "worker"])
def test_a_meeting_for_which_the_threads_of_an_executor_are_too_few_is_told(way):
    """Those who wait keep their threads, though they have given their slots back."""
    with (
        ThreadPoolExecutor(2) as own,
        TaskOrchestrator(concurrency=10, executors={"own": own}) as orch,
    ):
        wf = Workflow("w")
        if way == "task":
            for n in range(3):
                wf.task(meet, 3, id=f"t{n}", executor="own")
        else:

            @orch.agent("a", capabilities={"read"}, executor="own")
            def work(task, context):
                return context.workflow.barrier("read", 3)

            for n in range(3):
                wf.add(Task("read", id=f"t{n}"))
        error = assert_told(orch.workflows.start(wf), 3)
        assert "more threads" in str(error)


def test_a_nested_wait_for_which_the_threads_are_too_few_is_refused():
    with (
        ThreadPoolExecutor(2) as own,
        TaskOrchestrator(concurrency=10, executors={"own": own}) as orch,
    ):
        came = threading.Barrier(2)

        def parent() -> int:
            came.wait(PATIENCE)
            return orch.submit_task(Task.call(zero, executor="own")).result()

        handles = [
            orch.submit_task(Task.call(parent, executor="own")) for _ in range(2)
        ]
        errors = [each.exception(PATIENCE) for each in handles]
        # The thread of the one that is refused is free for the other's.
        assert sorted(map(type, errors), key=str) == [
            type(None),
            WouldDeadlockError,
        ]


def test_a_meeting_that_a_limit_of_a_program_keeps_too_few_from_is_told():
    with TaskOrchestrator(extensions=[Licences(2)]) as orch:
        wf = Workflow("w")
        for n in range(3):
            wf.task(meet, 3, id=f"t{n}", owner="seated")
        assert_told(orch.workflows.start(wf), 3)


@pytest.mark.parametrize("limit", ["closed", "raises"])
def test_a_limit_that_is_closed_anyway_or_fails_may_still_open(limit):
    """Nobody can tell: it is asked again, and those who have come wait on."""
    seats, begun, gate = Seats(1), Hold(), Hold()

    def first() -> int:
        begun()
        return meet(2)

    licences = Licences(0)
    licences.limits = (seats,)
    with TaskOrchestrator(extensions=[licences]) as orch:
        wf = Workflow("w")
        wf.task(first, id="first", owner="seated")
        held = wf.task(gate, id="gate")
        wf.task(meet, 2, id="second", owner="seated", after=[held])
        run = orch.workflows.start(wf)
        begun.wait()
        gate.wait()
        seats.seats = 0 if limit == "closed" else "no number"
        begun.release()
        wait_for_parties(orch)
        seats.seats = 2
        gate.release()
        assert sorted(run.handles[n].result(PATIENCE) for n in ("first", "second")) == [
            0,
            1,
        ]


@pytest.mark.parametrize("at_once", [2, 3])
def test_a_map_whose_calls_meet_is_held_or_told(orch, at_once):
    """It adds its calls as others end; each of them may be the first to come."""
    wf = Workflow("w")
    calls = wf.map(lambda _: meet(3), [1, 2, 3], max_parallel=at_once, id="calls")
    run = orch.workflows.start(wf)
    if at_once == 3:
        assert sorted(run.handles[calls.id].result(PATIENCE)) == [0, 1, 2]
    else:
        errors = failures(run).values()
        assert any("let go of what they hold" in str(error) for error in errors)


def test_one_who_comes_first_waits_for_those_whom_a_task_adds(orch):
    """Of the run there are fewer tasks than are to come, and one of them adds more."""
    gate = Hold()

    def adds() -> None:
        gate()
        for n in range(2):
            inside().add(Task.call(meet, 3, id=f"late{n}"))

    wf = Workflow("w")
    first = wf.task(meet, 3, id="first")
    wf.task(adds, id="adds")
    run = orch.workflows.start(wf)
    wait_for_parties(orch)
    gate.release()
    assert run.handles[first.id].result(PATIENCE) in range(3)
    run.result(PATIENCE)


def test_those_whose_slots_wait_for_their_threads_go_on():
    """One that has a slot and no thread would keep those with a thread from a slot."""
    with (
        ThreadPoolExecutor(2) as own,
        TaskOrchestrator(concurrency=1, executors={"own": own}) as orch,
    ):
        sleep = Task.call(nap, executor="own")
        handles = [orch.submit_task(sleep) for _ in range(6)]
        for handle in handles:
            handle.result(PATIENCE)


def nap() -> None:
    current_context().sleep(0.01)
    current_context().sleep(0.01, name="more")


def test_workers_of_one_slot_each_meet(orch):
    """Who waits has given back the slot of its worker, too."""

    @orch.agent("one", capabilities={"read"}, max_concurrency=1)
    def work(task, context):
        return context.workflow.barrier("read", 3)

    wf = Workflow("w")
    for n in range(3):
        wf.add(Task("read", id=f"t{n}"))
    assert sorted(orch.workflows.start(wf).result(PATIENCE).values()) == [0, 1, 2]


#: What the parties of a random meeting may need, and the option that says so: all who
#: have come keep it.
NEEDS = {
    "cpu": {"resources": {"cpu": 1}},
    "two cpu": {"resources": {"cpu": 2}},
    "quota": {"owner": "o"},
    "seat": {"owner": "seated"},
    "thread": {"executor": "own"},
    "files": {"writes": ["src"]},
    "type": {"type": "rare"},
    "phase": {},
    "nothing": {},
}


@pytest.mark.parametrize("seed", seeds(8, 24))
def test_random_meetings_are_held_or_told(seed):
    """Held if all fit at once, and else told: none goes on without an end."""
    draw = Random(seed)
    size, slots = draw.randint(2, 5), draw.randint(1, 4)
    most = {name: draw.randint(1, 4) for name in NEEDS} | {"files": 1, "nothing": 9}
    most["cpu"] = draw.randint(2, 8)
    kinds = draw.sample(sorted(NEEDS), 3)
    needs = [draw.choice(kinds) for _ in range(size)]
    used = {name: needs.count(name) for name in NEEDS}
    used["cpu"] += 2 * used.pop("two cpu")
    with (
        ThreadPoolExecutor(most["thread"]) as own,
        TaskOrchestrator(
            resources={"cpu": most["cpu"]},
            concurrency=slots,
            executors={"own": own},
            extensions=[Licences(most["seat"])],
        ) as orch,
    ):
        orch.resources.set_quotas(
            Quota(owner="o", max_parallel=most["quota"]),
            Quota(type="rare", max_parallel=most["type"]),
        )
        wf = Workflow("w")
        phase = wf.phase("p", max_parallel=most["phase"])
        for n, need in enumerate(needs):
            own_executor = need == "thread"
            fn = meet if own_executor else draw.choice((meet, meet_async))
            place = phase if need == "phase" else wf
            place.task(fn, size, id=f"t{n}", **NEEDS[need])
        run = orch.workflows.start(wf)
        if all(used[name] <= most[name] for name in used):
            places = [run.handles[f"t{n}"].result(PATIENCE) for n in range(size)]
            assert sorted(places) == list(range(size))
        else:
            assert_told(run, size)


def test_a_wait_that_became_hopeless_as_a_pool_shrank_is_stuck():
    """A nested wait began when there was enough: what keeps it is named."""
    go = Hold()
    with TaskOrchestrator(resources={"cpu": 2}) as orch:
        blocker = orch.submit_task(Task.call(go, resources={"cpu": 1}))

        def parent() -> int:
            task = Task.call(zero, id="child", resources={"cpu": 1})
            return orch.submit_task(task).result()

        handle = orch.submit_task(Task.call(parent, id="parent", resources={"cpu": 1}))
        eventually(lambda: orch.explain("parent").blockers)
        assert orch.stuck() == ()
        orch.resources.resize({"cpu": 1})
        (group,) = orch.stuck()
        assert group.kind == "waiting"
        assert set(group.tasks) == {"parent", "child"}
        assert "parent hold" in group.detail
        orch.resources.resize({"cpu": 2})
        assert orch.stuck() == ()
        go.release()
        assert handle.result(PATIENCE) == 0
        assert blocker.result(PATIENCE) is None
