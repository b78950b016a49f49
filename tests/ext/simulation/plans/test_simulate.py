"""`TaskOrchestrator.simulate`: what it takes, what it answers, what it leaves alone."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest
from tests.ext.simulation.plans.plans import chain, work

from taskorch import (
    CycleError,
    DuplicateTaskError,
    InvalidTaskError,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    UnknownTaskError,
    ValidationFailedError,
    Workflow,
)
from taskorch.api.workflows import Approval
from taskorch.errors import ComponentError
from taskorch.policies import (
    LeastLoadedRouter,
    PriorityQueue,
    SourceRegistry,
)
from taskorch.protocols import Route


def spans(report):
    return {one.task_id: (one.start, one.end) for one in report.schedule}


# -- what is simulated -------------------------------------------------------------


def test_tasks_are_found_by_id_by_object_and_as_arguments():
    first = Task.call(work)
    second = Task.call(len, first, id="second")
    third = Task.call(work, id="third", after=["second", first])
    report = TaskOrchestrator().simulate([third, second, first], 1)
    assert spans(report) == {"work": (0, 1), "second": (1, 2), "third": (2, 3)}


def test_what_is_outside_of_the_plan_is_taken_to_have_completed():
    orch = TaskOrchestrator()
    handle = orch.submit(work)
    known = orch.submit_task(Task.call(work, id="known"))
    wf = Workflow("w")
    wf.task(work, id="a", after=[handle])
    report = orch.simulate(wf, 1)
    assert report.makespan == 1.0
    assert handle.task_id in report.assumed[0]
    tasks = [Task.call(work, id="b", after=["known", handle, known], join="any")]
    report = orch.simulate(tasks, 1)
    assert report.makespan == 1.0
    assert "known (for b)" in str(report)
    many = [Task.call(work, id=f"t{n}", after=[handle]) for n in range(7)]
    assert "and 2 more" in orch.simulate(many, 1).assumed[0]


@pytest.mark.parametrize(
    ("plan", "error", "match"),
    [
        (5, InvalidTaskError, "a Workflow or a list"),
        ("tasks", InvalidTaskError, "a Workflow or a list"),
        (Task.call(work), InvalidTaskError, "a Workflow or a list"),
        ([5], InvalidTaskError, "no Task"),
        ([Task("x", priority="high")], ValidationFailedError, "priority"),
        ([Task.call(work, id="a")] * 2, DuplicateTaskError, "'a'"),
        ([Task.call(work, after=["b"])], UnknownTaskError, "'b'"),
        (
            [Task.call(work, after=[Task.call(len)])],
            UnknownTaskError,
            "not in the plan",
        ),
        (
            [
                Task.call(work, id="a", after=["b"]),
                Task.call(work, id="b", after=["a"]),
            ],
            CycleError,
            "ring",
        ),
        ([Task.call(work, id="a", after=["a"])], CycleError, "itself"),
    ],
)
def test_what_is_no_plan_is_refused(plan, error, match):
    with pytest.raises(error, match=match):
        TaskOrchestrator().simulate(plan, 1)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"draws": 0}, "draws"),
        ({"seed": "x"}, "seed"),
        ({"seed": True}, "seed"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(InvalidTaskError, match=match):
        TaskOrchestrator().simulate([], 1, **options)


def test_nothing_takes_no_time():
    report = TaskOrchestrator().simulate([], 1)
    assert (report.makespan, report.schedule, report.critical_path) == (0, (), ())
    assert report.lower_bound == 0
    assert report.bottleneck is None
    assert str(report) == "No tasks."


# -- on the kernel -----------------------------------------------------------------


def test_dates_delays_timeouts_and_deadlines_count():
    begin = datetime.now(UTC)
    tasks = [
        Task.call(work, id="late", not_before=5),
        Task.call(work, id="dated", not_before=begin + timedelta(hours=1)),
        Task.call(work, id="slow", timeout=3),
        Task.call(work, id="dead", deadline=4),
        Task.call(work, id="never", after=["dated"], deadline=2),
        Task.call(work, id="quick", timeout=50),
    ]
    lengths = {"slow": 10, "dead": 30, "work": 1}
    report = TaskOrchestrator(concurrency=8).simulate(tasks, lengths)
    found = spans(report)
    assert found["late"] == (5, 6)
    assert 3_590 < found["dated"][0] <= 3_600
    assert found["slow"] == (0, 3)
    assert found["dead"] == (0, 4)
    outcomes = {one.task_id: one.outcome for one in report.schedule}
    assert outcomes["slow"] == outcomes["dead"] == "stopped"
    assert "timeout" in report.failed["slow"]
    assert "deadline" in report.failed["dead"]
    assert "deadline" in report.never["never"]
    assert report.critical_path == ("dated",)
    assert report.incomplete == 1


def test_joins_of_other_kinds_are_the_kernels():
    tasks = [
        Task.call(work, id="a"),
        Task.call(work, id="b"),
        Task.call(work, id="any", after=["a", "b"], join="any"),
        Task.call(
            work, id="asked", after=["a", "b"], join=lambda states: len(states) > 1
        ),
        Task.call(work, id="skip", after=["b"], on_parent_failure="skip"),
        Task.call(work, id="fail", after=["b"], on_parent_failure="fail"),
        Task.call(work, id="run", after=["b"], on_parent_failure="run"),
        Task.call(work, id="block", after=["b"]),
    ]
    lengths = {"a": 5, "work": 3}
    report = TaskOrchestrator().simulate(tasks, lengths, failures={"b": 1})
    found = spans(report)
    assert found["any"] == (5, 8)
    assert found["asked"] == found["run"] == (3, 6)
    assert list(report.failed) == ["b"]
    assert report.never["skip"] == "skipped"
    assert "b" in report.never["fail"]
    assert "b" in report.never["block"]


def test_what_can_never_run_is_said_with_its_reason_and_what_hangs_on_it():
    tasks = [
        Task("fly", id="fly"),
        Task.call(work, id="after", after=["fly"]),
        Task.call(work, id="last", after=["after"]),
        Task.call(work, id="huge", resources=Resources(cpu=99)),
        Task.call(work, id="fine"),
    ]
    report = TaskOrchestrator(resources={"cpu": 2}).simulate(tasks, 1)
    assert list(spans(report)) == ["fine"]
    assert "no worker has 'fly'" in report.never["fly"]
    assert report.never["after"] == "It needs fly, which can never run."
    assert report.never["last"] == "It needs after, which can never run."
    assert "99 cpu" in report.never["huge"]
    assert "1 of 5 tasks would complete" in str(report)
    assert report.incomplete == 1


def test_what_waits_for_a_worker_waits_for_ever():
    orch = TaskOrchestrator(unknown_capability="wait")
    tasks = [Task("fly") for _ in range(3)]
    tasks.append(Task.call(work, after=[tasks[0]]))
    report = orch.simulate(tasks, 1)
    assert len(report.never) == 4
    assert "No worker can do it" in report.never["fly"]
    assert str(report).startswith("4 tasks, of which none can run.")


def test_a_bounded_queue_refuses_what_it_would_refuse():
    report = TaskOrchestrator(max_queued=2).simulate(chain("a", "b", "c"), 1)
    assert list(report.never) == ["c"]
    assert "max_queued" in report.never["c"]


def test_a_policy_that_raises_is_named():
    class Queue(PriorityQueue):
        def order(self, task, context):
            raise OSError("no")

    with pytest.raises(ComponentError, match="queue failed: OSError: no"):
        TaskOrchestrator(queue=Queue()).simulate([Task.call(work)], 1)


def test_a_policy_that_raises_later_fails_its_task():
    class Router:
        def route(self, task, candidates, context):
            raise OSError("no")

    report = TaskOrchestrator(router=Router()).simulate([Task.call(work, id="a")], 1)
    assert "router failed" in report.never["a"]


@pytest.mark.parametrize(
    "links", [3_000, pytest.param(30_000, marks=pytest.mark.slow("30,000 links"))]
)
def test_a_long_chain_is_no_recursion(links):
    tasks = chain(*[f"t{n}" for n in range(links)])
    report = TaskOrchestrator().simulate(tasks, 1)
    assert report.makespan == links
    assert len(report.critical_path) == links
    assert f"{links - 5:,} more" in str(report)


# -- failures ----------------------------------------------------------------------


def test_retries_take_time():
    tasks = [
        Task.call(
            work,
            id="a",
            retry=RetryPolicy(3, wait="fixed", base=4, jitter=0, retry_on=OSError),
        ),
        Task.call(work, id="b", after=["a"]),
    ]
    orch = TaskOrchestrator()
    report = orch.simulate(tasks, 2, failures=lambda task, n: task.id == "a" and n < 3)
    assert [
        (one.task_id, one.start, one.attempt, one.outcome) for one in report.schedule
    ] == [
        ("a", 0, 1, "failed"),
        ("a", 6, 2, "failed"),
        ("a", 12, 3, "completed"),
        ("b", 14, 1, "completed"),
    ]
    assert report.critical_path == ("a", "b")
    assert report.lower_bound == report.makespan == 16.0
    assert "Of 4 attempts, 2 are retries." in str(report)


def test_all_may_fail_alike():
    report = TaskOrchestrator().simulate(chain("a", "b"), 1, failures=1)
    assert list(report.failed) == ["a"]


def test_a_failure_may_say_what_is_raised():
    retry = RetryPolicy(5, retry_on=OSError, base=0)
    task = Task.call(work, id="a", retry=retry)
    orch = TaskOrchestrator()
    report = orch.simulate([task], 1, failures=lambda task, attempt: KeyError("k"))
    assert report.failed == {"a": "KeyError: 'k'"}
    assert len(report.schedule) == 1


class _Picky(OSError):
    def __init__(self, one, two):
        super().__init__(one, two)


@pytest.mark.parametrize(
    "kinds", [(OSError, ValueError), _Picky, lambda error: True, ()]
)
def test_the_failure_is_one_that_the_tasks_policy_knows(kinds):
    """Where one can be made; otherwise it is a RuntimeError."""
    task = Task.call(work, id="a", retry=RetryPolicy(2, retry_on=kinds, base=0))
    report = TaskOrchestrator().simulate([task], 1, failures={"a": 1.0})
    again = kinds not in (_Picky, ())
    assert len(report.schedule) == 1 + again
    assert (
        "OSError" if isinstance(kinds, tuple) and kinds else "RuntimeError"
    ) in report.failed["a"]


@pytest.mark.slow("tries until it counts as for ever")
def test_a_task_that_never_gives_up_is_refused():
    class Handler:
        def decide(self, failure, context):
            from taskorch.protocols import RetryDecision

            return RetryDecision(retry=True, delay=0.0, reason="again")

    orch = TaskOrchestrator(retry_handler=Handler())
    with pytest.raises(InvalidTaskError, match="tried for ever"):
        orch.simulate([Task.call(work, id="a")], 1, failures={"a": 1})


@pytest.mark.parametrize(
    "failures",
    [5, "often", [1], {"work": 2}, {"work": "often"}, lambda task, attempt: "maybe"],
)
def test_bad_failures_are_refused(failures):
    with pytest.raises(InvalidTaskError, match="probabilit"):
        TaskOrchestrator().simulate([Task.call(work)], 1, failures=failures)


def test_some_draws_fail_and_the_report_counts_them():
    report = TaskOrchestrator().simulate(
        chain("a", "b"), 1, failures={"a": 0.5, "b": 0}, draws=40
    )
    assert 5 < report.incomplete < 35
    assert f"In {report.incomplete} of them" in str(report)
    assert {1.0, 2.0} == set(report.makespans)


# -- draws -------------------------------------------------------------------------


def test_draws_give_quantiles_and_the_schedule_of_the_median():
    report = TaskOrchestrator().simulate(
        [Task.call(work)], lambda task, random: random.uniform(1, 2), draws=101
    )
    assert list(report.makespans) == sorted(report.makespans)
    assert report.makespan == report.p50 == report.makespans[50]
    assert report.p90 == report.makespans[90]
    assert report.schedule[0].end == report.makespan
    assert "Of 101 draws" in str(report)


def test_another_seed_is_another_chance_and_a_changed_plan_keeps_the_rest():
    """What is drawn for a task hangs on the task, not on its neighbours."""
    orch = TaskOrchestrator()

    def draw(task, random):
        return random.random()

    one = orch.simulate(chain("a", "b"), draw)
    more = orch.simulate([Task.call(work, id="x"), *chain("a", "b")], draw)
    other = orch.simulate(chain("a", "b"), draw, seed=1)
    lengths = {o.task_id: round(o.end - o.start, 6) for o in one.schedule}
    for o in more.schedule:
        assert o.task_id == "x" or round(o.end - o.start, 6) == lengths[o.task_id]
    assert one.makespan != other.makespan


# -- what stays as it is -----------------------------------------------------------


def test_a_policy_that_cannot_be_copied_is_asked_itself():
    class Router:
        def __init__(self):
            self.lock = threading.Lock()
            self.asked = 0

        def route(self, task, candidates, context):
            self.asked += 1
            return Route(candidates[0].name, "first", reusable=False)

    router = Router()
    TaskOrchestrator(router=router).simulate(chain("a", "b"), 1)
    assert router.asked == 2


def test_a_policy_that_changes_while_it_is_copied_is_copied_again():
    copies = []

    class Router:
        def route(self, task, candidates, context):
            return Route(candidates[0].name, "first")

        def __deepcopy__(self, memo):
            copies.append(self)
            if len(copies) == 1:
                raise RuntimeError("dictionary changed size during iteration")
            return LeastLoadedRouter()

    TaskOrchestrator(router=Router()).simulate(chain("a"), 1)
    assert len(copies) == 2


def test_a_source_of_workers_is_not_read_again():
    reads = []

    def source():
        reads.append(1)
        return {"a": ["review"]}

    orch = TaskOrchestrator(registry=SourceRegistry(source, max_age=0.001))
    orch.agent("a", capabilities={"other"})(lambda task, context: None)
    report = orch.simulate([Task("review"), Task("review")], 60)
    assert {one.agent_id for one in report.schedule} == {"a"}
    assert len(reads) == 1


def test_it_is_awaitable_too():
    async def main():
        return await TaskOrchestrator().aio.simulate(chain("a", "b"), 1)

    report = asyncio.run(main())
    assert report.makespan == 2.0
    assert "savings" in report.__dict__


# -- what workflows add by themselves ----------------------------------------------


def test_phases_keep_their_limits_and_gates_take_no_time():
    wf = Workflow("release")
    build = wf.phase("build", max_parallel=2)
    for _ in range(5):
        build.task(work, type="build")
    check = wf.phase("check", gate=[lambda results: True, Approval()])
    check.task(work, type="check")
    orch = TaskOrchestrator()
    report = orch.simulate(wf, {"build": 60, "check": 30})
    assert report.makespan == 210.0
    assert report.peak.resources["phase build"] == 2.0
    assert report.bottleneck.what == "one more at once in phase build"
    assert "build/gate" in report.assumed[0]
    longer = orch.simulate(
        wf, {"build": 60, "check": 30, "build/gate": 5, "approval": 100}
    )
    assert longer.makespan == 315.0
    assert "build/gate" not in longer.assumed[0]
    with pytest.raises(InvalidTaskError, match="type 'check' takes"):
        orch.simulate(wf, {"build": 60})


def test_what_is_blocked_says_by_whom():
    report = TaskOrchestrator().simulate(chain("a", "b", "c"), 1, failures={"a": 1})
    assert report.never == {
        "b": "It needs a, which would not complete.",
        "c": "It needs b, which would not complete because of a.",
    }


# -- waits -------------------------------------------------------------------------


def waits():
    return [
        Task.call(work, id="a"),
        Task.wait_for("ok", id="ok", after=["a"]),
        Task.call(work, id="b", after=["ok"]),
        Task.wait_for(None, timeout=7, default=1, id="timer"),
        Task.wait_for("late", timeout=3, id="late"),
        Task.wait_for("maybe", timeout=3, default=None, id="maybe"),
        Task.call(work, id="c", after=["maybe"]),
        Task.call(work, id="d", after=["late"]),
    ]


def test_a_wait_takes_what_durations_say_and_nobodys_time():
    lengths = {"work": 2, "ok": 20, "late": 1, "maybe": 10}
    report = TaskOrchestrator(concurrency=1).simulate(waits(), lengths)
    assert spans(report) == {
        "a": (0, 2),
        "late": (0, 1),
        "d": (2, 4),
        "maybe": (0, 3),
        "c": (4, 6),
        "timer": (0, 7),
        "ok": (2, 22),
        "b": (22, 24),
    }
    found = {one.task_id: one for one in report.schedule}["ok"]
    assert (found.agent_id, found.attempt, found.outcome) == ("", 0, "waited")
    assert report.critical_path == ("a", "ok", "b")
    assert report.critical_length == report.lower_bound == 24.0
    assert report.mean.slots == 8 / 24
    assert report.assumed == ()
    assert "retries" not in str(report)
    assert "waits" in report._repr_html_()


def test_a_wait_that_is_not_named_is_over_at_once_and_the_report_says_so():
    report = TaskOrchestrator().simulate(waits(), {"work": 2})
    assert spans(report)["ok"] == (2, 2)
    assert spans(report)["timer"] == (0, 7)
    assert "waits, ok, late and maybe, is taken to be over at once" in report.assumed[0]


def test_a_wait_that_takes_too_long_fails():
    report = TaskOrchestrator().simulate(waits(), {"work": 2, "late": 4})
    assert spans(report)["late"] == (0, 3)
    assert "did not come within 3 s" in report.failed["late"]
    assert "d" in report.never
