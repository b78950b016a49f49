"""`orch.when` and `taskorch when`: when a task or a run ends, through all faces."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Event
from time import sleep

import pytest
from tests.api.tools import PATIENCE, eventually, pass_time

from taskorch import (
    InvalidTaskError,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    UnknownTaskError,
    Workflow,
    current_context,
    task,
)
from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.recovery import AlertRule, Alerts
from taskorch.protocols import RetryDecision

GO = Event()
#: What each takes, in seconds, and how often it is measured before anybody asks.
TOOK, MEASURED = 0.02, 12


@task
def step(seconds=TOOK):
    sleep(seconds)


@task
def hold():
    assert GO.wait(PATIENCE)


@task
def never_ran():
    """Do nothing."""


@pytest.fixture(autouse=True)
def _let_go():
    GO.clear()
    yield
    GO.set()


def measured(orch):
    for handle in [orch.submit(step) for _ in range(MEASURED)]:
        handle.result(PATIENCE)


def held(orch):
    """All slots are taken by what runs until somebody lets it go."""
    handles = [orch.submit(hold) for _ in range(2)]
    eventually(lambda: all(each.status.state == "running" for each in handles))
    return handles


def test_what_nobody_has_measured_is_said_and_not_guessed():
    with TaskOrchestrator(concurrency=2) as orch:
        measured(orch)
        held(orch)
        promise = orch.when(orch.submit(step).task_id)
        assert promise.p50 is promise.p90 is None
        assert "No task of type hold has ended yet" in str(promise)
        GO.set()


def test_of_its_own_type_nothing_is_known():
    with TaskOrchestrator(concurrency=1) as orch:
        measured(orch)
        blocker = orch.submit(step, 0.3)
        promise = orch.when(orch.submit(never_ran.options(after=[blocker])).task_id)
    assert promise.p50 is None
    assert "No task of type never_ran has ended yet" in str(promise)
    assert str(promise).startswith("Nobody knows when")


def test_what_its_user_expects_stands_for_what_nobody_has_measured():
    with TaskOrchestrator(concurrency=2) as orch:
        orch.hold_starts("not yet", by="me")
        task_id = orch.submit(never_ran.options(id="x", expected=60)).task_id
        assert "held back by me" in str(orch.when(task_id))
        orch.cancel_task(task_id)


def test_two_measurements_far_apart_leave_a_wide_span_and_none_beyond_all_reason():
    with TaskOrchestrator(concurrency=1) as orch:
        for seconds in (0.002, 0.5):
            orch.submit_task(Task.call(step, seconds)).result(PATIENCE)
        longest = max(each.duration for each in orch.tasks("completed"))
        answer = orch.when(Task.call(step))
    assert answer.p90 - answer.at < timedelta(seconds=20 * longest)


def test_what_has_ended_ended():
    with TaskOrchestrator() as orch:
        handle = orch.submit(step.options(id="done"))
        handle.result(PATIENCE)
        promise = orch.when("done")
        assert promise.ended == handle.status.ended
        assert promise.p50 is promise.p90 is promise.risk is None
        assert str(promise).startswith("done ended at ")
        past = orch.when("done", deadline=promise.ended - timedelta(seconds=1))
        assert "was missed" in str(past)
        assert "was met" in str(orch.when("done", deadline=promise.ended))


def test_a_run_ends_with_the_last_of_its_tasks():
    flow = Workflow("flow")
    flow.task(step, 0.3, id="first")
    flow.task(step, id="last", after=["first"])
    with TaskOrchestrator() as orch:
        measured(orch)
        run = orch.workflows.start(flow, id="night")
        promise = orch.when("night")
        assert promise.p50 == orch.when("night/last").p50 or promise.p50 is not None
        assert promise.state in ("running", "waiting")
        run.result(PATIENCE)
        assert orch.when("night").ended is not None


def behind(orch):
    """What runs until somebody lets it go, and takes a second by what is known."""
    blocker = orch.submit(hold.options(expected=1))
    eventually(lambda: blocker.status.state == "running")


@pytest.mark.parametrize(
    "deadline", ["yesterday", "25:00", object(), True, -1, float("nan")]
)
def test_what_is_no_time_is_refused(deadline):
    with TaskOrchestrator(concurrency=2) as orch:
        held(orch)
        with pytest.raises(InvalidTaskError, match="deadline"):
            orch.when(orch.submit(step.options(id="x")).task_id, deadline=deadline)
        GO.set()


def test_a_time_that_is_over_is_refused():
    with TaskOrchestrator(concurrency=2) as orch:
        held(orch)
        orch.submit(step.options(id="x"))
        with pytest.raises(InvalidTaskError, match="is over"):
            orch.when("x", deadline=datetime.now(UTC) - timedelta(hours=1))
        with pytest.raises(UnknownTaskError):
            orch.when("nobody")
        with pytest.raises(InvalidTaskError, match="budget"):
            orch.when("x", budget=0)
        GO.set()


def test_what_waits_for_a_person_has_no_end_that_is_known():
    flow = Workflow("flow")
    flow.add(Task.question("Ship?", id="ok"))
    flow.task(step, id="last", after=["ok"])
    with TaskOrchestrator() as orch:
        measured(orch)
        orch.workflows.start(flow, id="night")
        eventually(lambda: orch.get_task_status("night/ok").state == "blocked")
        promise = orch.when("night/last")
        assert promise.p50 is None
        assert "night/last waits for night/ok, which is blocked" in str(promise)
        assert "night/ok is blocked" in str(orch.when("night/ok"))
        orch.workflows.cancel("night")


@task
def ask(question):
    if question:
        current_context().ask(question)


@pytest.mark.parametrize("is_measured", [False, True])
def test_a_task_that_asks_a_person_has_no_end_that_is_known(is_measured):
    with TaskOrchestrator() as orch:
        measured(orch)
        if is_measured:
            orch.submit(ask, "").result(PATIENCE)
        orch.submit(ask.options(id="asks", timeout=2 * PATIENCE), "Ship?")
        orch.submit(step.options(id="last", after=["asks"]))
        eventually(orch.questions)
        # The question is there before its task waits for it.
        eventually(lambda: orch.when("asks").p50 is None)
        for name in ("asks", "last"):
            promise = orch.when(name, deadline=3 * PATIENCE)
            assert promise.p50 is promise.risk is None
            assert promise.unknown == ("asks waits for asks.ask, which is blocked.",)
            assert "No change is enough" not in str(orch.in_time(name, deadline=60))
        orch.questions()[0].answer("approve", by="me")
        eventually(lambda: orch.get_task_status("last").state == "completed")


def test_one_that_has_no_time_says_how_far_it_came():
    with TaskOrchestrator(concurrency=1) as orch:
        measured(orch)
        behind(orch)
        for _ in range(3_000):
            last = orch.submit(step).task_id
        promise = orch.when(last, budget=0.001)
        assert promise.p90 is None
        assert "Not within 1 ms of processor time" in str(promise)
        assert promise.not_before or promise.p50
        orch.change_tasks("cancel")
        GO.set()


def test_all_faces_say_the_same(tmp_path, capsys):
    path = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=path, concurrency=1) as orch:
        measured(orch)
        orch.submit(step.options(id="done"), 0.01).result(PATIENCE)
        with orch.serve(port=0) as server:
            said = Client(server.url, token=server.token).when("done")
        assert said["text"] == str(orch.when("done"))
        assert asyncio.run(_awaited(orch)) == orch.when("done").ended
    assert main(["when", path, "done"]) == 0
    assert capsys.readouterr().out.startswith("done ended at ")
    assert main(["when", path, "done", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["promise"]["state"]
    assert main(["when", path, "nobody"]) != 0


def test_of_a_journal_that_nobody_uses_it_says_so(tmp_path, capsys):
    path = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=path, concurrency=1) as orch:
        measured(orch)
    orch = TaskOrchestrator(journal=path, concurrency=1)
    orch.submit(step.options(id="x"))
    orch.stop(drain=False)
    assert main(["when", path, "x"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("x ends within ")
    assert "Nobody works in this journal now" in said


async def _awaited(orch):
    return (await orch.aio.when("done")).ended


@pytest.mark.parametrize("journal", [None, "runs.db"])
def test_it_has_a_record_of_its_promises(tmp_path, journal):
    path = None if journal is None else str(tmp_path / journal)
    with TaskOrchestrator(journal=path, concurrency=1) as orch:
        measured(orch)
        behind(orch)
        first = orch.submit(step)
        assert orch.when(first.task_id).settled == 0
        assert orch.when(first.task_id).settled == 0
        GO.set()
        first.result(PATIENCE)
        GO.clear()
        behind(orch)
        last = orch.submit(step)
        promise = orch.when(last.task_id)
        assert promise.settled == 1
        assert promise.held_p50 <= promise.held_p90 <= 1
        assert "Of 1 such promise before it," in str(promise)
        GO.set()
        last.result(PATIENCE)
        GO.clear()
    if path is not None:
        with TaskOrchestrator(journal=path, concurrency=1) as orch:
            behind(orch)
            # What is promised is known to those who come later.
            assert orch.when(orch.submit(step).task_id).settled == 2
            GO.set()


def test_what_was_called_off_has_neither_held_nor_broken_a_promise():
    with TaskOrchestrator(concurrency=1) as orch:
        measured(orch)
        behind(orch)
        first, last = orch.submit(step), orch.submit(step)
        assert orch.when(first.task_id).p90 is not None
        orch.cancel_task(first.task_id)
        assert orch.when(last.task_id).settled == 0
        GO.set()


# -- attempts that fail ----------------------------------------------------------------

#: The delay of a retry, beside which an attempt takes no time, on a loaded machine too.
DELAY = 0.5
AGAIN = RetryPolicy(8, wait="fixed", base=DELAY, jitter=0)


def fail_first():
    if current_context().attempt == 1:
        raise OSError


def flaky(number):
    return Task.call(fail_first, id=f"f{number}", type="flaky", retry=AGAIN)


def chain(many, **options):
    """Tasks of which each waits for the one before."""
    return [
        Task.call(
            fail_first,
            id=f"c{number}",
            type="flaky",
            after=[f"c{number - 1}"] if number else [],
            **options,
        )
        for number in range(many)
    ]


@pytest.mark.parametrize("journal", [None, "runs.db"])
def test_what_fails_now_and_then_takes_its_retries(tmp_path, journal):
    path = None if journal is None else str(tmp_path / journal)
    with TaskOrchestrator(journal=path) as orch:
        for each in orch.submit_tasks([flaky(number) for number in range(20)]):
            each.result(PATIENCE)
        first = orch.when(chain(10, retry=AGAIN), budget=1)
    # Half of the attempts fail, and each failure takes a delay.
    span = (first.p50 - first.at).total_seconds()
    assert 5 * DELAY < span < 60 * DELAY
    assert "20 ended, and 20 attempts failed" in str(first)
    if path is not None:
        with TaskOrchestrator(journal=path) as orch:
            again = orch.when(chain(10, retry=AGAIN), budget=1)
            assert 5 * DELAY < (again.p50 - again.at).total_seconds() < 60 * DELAY


def test_what_fails_for_good_ends_and_what_needs_it_does_not():
    with TaskOrchestrator() as orch:
        for each in orch.submit_tasks([flaky(number) for number in range(30)]):
            each.result(PATIENCE)
        orch.hold_starts("not yet", most=1)
        last = orch.submit_tasks(chain(6, not_before=60))[-1].task_id
        needed = orch.when(last)
        assert needed.p90 is None
        assert "draws it does not end: what it needs fails for good." in str(needed)
        alone = orch.when("c0")
        assert alone.p90 is not None
        assert "of 100 draws it fails for good, and ends with that." in str(alone)
        # Nobody is to think that it ends well.
        answer = str(orch.in_time("c0", deadline=86_400))
        assert "well or with a failure: nothing has to change for that" in answer
        # A run of which a task has failed has ended when nothing of it goes on.
        flow = Workflow("flow")
        for each in chain(6):
            flow.add(each)
        assert orch.when(flow).p90 is not None
        # The end of the block would wait for the tasks until they are due.
        orch.change_tasks("cancel")


def test_a_failure_after_which_nobody_tried_again_is_not_tried_again():
    def refuse():
        raise KeyError

    few = RetryPolicy(delays=[600] * 4, retry_on=(OSError,))
    with TaskOrchestrator() as orch:
        for number in range(20):
            orch.submit_task(Task.call(refuse, type="t", retry=few)).exception(PATIENCE)
            orch.submit_task(Task.call(int, type="t", retry=few)).result(PATIENCE)
            assert number < 20
        answer = orch.when([Task.call(int, id="x", type="t", retry=few)])
        assert answer.p90 - answer.at < timedelta(seconds=60)
        assert "20 attempts failed, 20 without another try" in str(answer)


def test_tries_that_are_over_count():
    """What has one try left waits for no more retries than that."""
    late = RetryPolicy(2, delays=[600])
    with TaskOrchestrator(concurrency=2) as orch:
        for each in orch.submit_tasks([flaky(number) for number in range(30)]):
            each.result(PATIENCE)
        orch.submit_task(Task.call(fail_first, id="x", type="flaky", retry=late))
        eventually(lambda: orch.get_task_status("x").state == "retrying")
        answer = orch.when("x")
        assert answer.p90 - answer.at < timedelta(seconds=660)
        fresh = orch.when([Task.call(fail_first, id="y", type="flaky", retry=late)])
        assert fresh.p90 - fresh.at > timedelta(seconds=590)
        orch.cancel_task("x")


def failed_draws(answer):
    """In how many of a hundred draws it fails for good."""
    found = re.search(r"In (\d+) of 100 draws it fails for good", str(answer))
    return int(found[1]) if found else 0


def refuse():
    raise KeyError


def test_what_is_tried_for_ever_has_no_end_that_is_known():
    class Stubborn:
        def decide(self, failure, context):
            return RetryDecision(retry=True)

    with TaskOrchestrator(retry_handler=Stubborn()) as orch:
        first = orch.submit_task(Task.call(refuse, type="t"))
        eventually(lambda: first.status.attempts > 300)
        first.cancel()
        task = Task.call(refuse, id="x", type="t", expected=1)
        answer = orch.when([task])
        assert answer.p50 is None
        # A slow machine has time for few draws.
        assert re.search("In [0-9]+ of [0-9]+ draws? it does not end", str(answer))


def test_what_always_fails_since_a_while_is_taken_to_fail():
    with TaskOrchestrator() as orch:
        for call, many in ((int, 250), (refuse, 210)):
            tasks = [Task.call(call, type="t") for _ in range(many)]
            for each in orch.submit_tasks(tasks):
                each.exception(PATIENCE)
        assert failed_draws(orch.when([Task.call(int, id="x", type="t")])) > 90


def test_what_runs_ends_with_its_timeout_at_the_latest():
    with TaskOrchestrator() as orch:
        options = {"expected": 3600, "timeout": PATIENCE}
        orch.submit_task(Task.call(GO.wait, PATIENCE, id="x", **options))
        eventually(lambda: orch.get_task_status("x").state == "running")
        whole = orch.when("x")
        most = timedelta(seconds=PATIENCE)
        assert most / 2 < whole.p90 - whole.at <= most
        sleep(1)
        rest = orch.when("x")
        assert abs(rest.p90 - whole.p90) < timedelta(seconds=0.5)
        assert failed_draws(rest) > 50
        GO.set()


def test_a_timeout_says_nothing_of_how_long_a_task_takes():
    with TaskOrchestrator(concurrency=1) as orch:
        measured(orch)
        options = {"timeout": 2 * PATIENCE, "deadline": PATIENCE}
        orch.submit(hold.options(id="runs", **options))
        orch.submit(never_ran.options(id="waits", **options))
        orch.submit(step.options(id="behind"))
        eventually(lambda: orch.get_task_status("runs").state == "running")
        for name, kind in {"runs": "hold", "waits": "never_ran"}.items():
            promise = orch.when(name)
            assert promise.p50 is promise.p90 is promise.risk is None
            assert f"No task of type {kind} has ended yet" in str(promise)
            (at_risk,) = (each for each in orch.at_risk() if each.id == name)
            assert at_risk.risk is None
            assert at_risk.unknown == promise.unknown[:1]
            assert orch.in_time(name).promise.risk is None
        assert "No task of type hold has ended yet" in str(orch.when("behind"))
        GO.set()


# -- what is not submitted yet ---------------------------------------------------------


def planned(seed):
    """A workflow of some tasks, of which each may wait for earlier ones."""
    rng, flow, names = Random(seed), Workflow("flow"), []
    for number in range(rng.randint(1, 9)):
        after = rng.sample(names, rng.randint(0, min(2, len(names))))
        options = {"priority": rng.randint(0, 3), "expected": rng.randint(1, 90)}
        if rng.random() < 0.4:
            options["resources"] = Resources(gpu=1)
        names.append(f"s{number}")
        flow.add(Task.call(never_ran, id=names[-1], after=after, **options))
    return flow


@pytest.mark.parametrize(
    "seed",
    [
        n
        if n < 4
        else pytest.param(n, marks=pytest.mark.slow("what is rare among random plans"))
        for n in range(25)
    ],
)
def test_a_workflow_ends_as_is_said_before_it_is_started(seed):
    """What is said of the plan is what is said of the run, once it is there."""
    orch = TaskOrchestrator(concurrency=2, resources={"gpu": 1})
    rng = Random(seed)
    orch.submit_tasks(
        Task.call(never_ran, id=f"t{n}", expected=rng.randint(1, 90)) for n in range(9)
    )
    flow = planned(seed)
    before = orch.when(flow)
    assert (before.id, before.state) == ("flow", "planned")
    assert "It is not submitted yet" in str(before)
    orch.workflows.start(flow, id="run")
    after = orch.when("run")
    for earlier, later in ((before.p50, after.p50), (before.p90, after.p90)):
        apart = (later - after.at) - (earlier - before.at)
        assert abs(apart.total_seconds()) < 0.01


def test_of_a_schedule_it_is_the_next_tick_or_what_it_has_made():
    flow = Workflow("flow")
    flow.add(Task.call(never_ran, id="a", expected=60))
    with TaskOrchestrator() as orch:
        orch.schedules.add("nightly", "0 3 * * *", flow, zone="UTC")
        tick = orch.schedules.next("nightly")[0]
        answer = orch.when("nightly", deadline=tick + timedelta(seconds=1))
        assert answer.state == "planned"
        assert answer.id == f"nightly-{tick:%Y-%m-%dT%H%MZ}"
        assert tick + timedelta(seconds=20) < answer.p50 < tick + timedelta(hours=1)
        assert answer.risk > 0.9
        assert f"{tick.astimezone():%H:%M}" in str(answer)
        with pytest.raises(InvalidTaskError, match="is over"):
            orch.when("nightly", deadline=tick - timedelta(seconds=1))
        orch.schedules.add("ticking", "0 3 * * *", Task.call(GO.wait, PATIENCE))
        made = orch.schedules.trigger("ticking")
        assert orch.when("ticking").id == made
        GO.set()
        assert orch.when("ticking", deadline=tick + timedelta(days=2)).risk is None or (
            orch.schedules.status("ticking").running == ()
        )
        orch.schedules.remove("ticking")
        orch.schedules.remove("nightly")


def nightly(orch, seconds=600, **options):
    """Each minute there comes what takes the GPU, before all others."""
    options |= {"expected": seconds, "priority": 10_000, "resources": Resources(gpu=1)}
    flow = Workflow("flow")
    flow.add(Task.call(never_ran, id="a", **options))
    orch.schedules.add("often", "every 60s", flow)


@pytest.mark.parametrize("paused", [False, True])
def test_what_schedules_make_until_then_takes_its_part(paused):
    tasks = [
        Task.call(
            never_ran,
            id=f"t{number}",
            expected=300,
            after=[f"t{number - 1}"] if number else [],
            resources=Resources(gpu=1),
        )
        for number in range(3)
    ]
    orch = TaskOrchestrator(concurrency=4, resources={"gpu": 1})
    orch.submit_tasks(tasks)
    alone = orch.when("t2")
    nightly(orch)
    if paused:
        orch.schedules.pause("often")
    beside = orch.when("t2")
    later = (beside.p50 - beside.at) - (alone.p50 - alone.at)
    assert (later > timedelta(minutes=10)) != paused
    assert ("schedules are taken to make: often (" in str(beside)) != paused
    # A run takes ten minutes: of ten ticks nine are skipped, since it goes on.
    assert later < timedelta(hours=2)
    changes = orch.in_time("t2", deadline=900).changes
    assert not any("often-" in each.call for each in changes)
    orch.schedules.remove("often")


def test_ticks_after_the_first_twenty_are_said_and_left_out():
    orch = TaskOrchestrator()
    orch.submit_tasks([Task.call(never_ran, id="x", expected=300)])
    flow = Workflow("flow")
    flow.add(Task.call(never_ran, id="a", expected=1))
    orch.schedules.add("often", "every 1s", flow)
    answer = str(orch.when("x"))
    assert "often (20 ticks)" in answer
    assert "Ticks of often are left out." in answer


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel"])
def test_a_rule_for_runs_that_overlap_is_kept_or_said(overlap):
    orch = TaskOrchestrator()
    orch.submit_tasks([Task.call(never_ran, id="x", expected=300)])
    flow = Workflow("flow")
    flow.add(Task.call(never_ran, id="a", expected=600))
    orch.schedules.add("often", "every 60s", flow, overlap=overlap)
    said = "Runs of often are taken to go on side by side." in str(orch.when("x"))
    assert said == (overlap != "skip")


def test_a_tick_is_not_skipped_for_a_run_that_has_failed():
    with TaskOrchestrator(resources={"gpu": 1}) as orch:
        # Of many types, one fails always.
        types = [f"type{number % 20}" for number in range(200)]
        good = [Task.call(int, type=each) for each in types]
        for each in orch.submit_tasks(good):
            each.result(PATIENCE)
        for each in orch.submit_tasks([Task.call(refuse) for _ in range(100)]):
            each.exception(PATIENCE)
        flow = Workflow("flow")
        flow.add(Task.call(refuse, id="a", expected=0.01, priority=10_000))
        flow.add(Task.call(never_ran, id="b", after=["a"], expected=1))
        options = {"resources": Resources(gpu=1), "priority": 10_000}
        flow.add(Task.call(never_ran, id="c", type="c", expected=40, **options))
        plan = [
            Task.call(
                hold,
                id=f"t{number}",
                expected=100,
                after=[f"t{number - 1}"] if number else [],
                resources=Resources(gpu=1),
            )
            for number in range(5)
        ]
        alone = orch.when(plan)
        orch.schedules.add("often", "every 60s", flow)
        beside = orch.when(plan)
        later = (beside.p50 - beside.at) - (alone.p50 - alone.at)
        assert later > timedelta(seconds=100)
        orch.schedules.remove("often")


def test_a_tick_of_which_nobody_knows_how_long_it_takes_is_said_and_left_out():
    orch = TaskOrchestrator(concurrency=4, resources={"gpu": 1})
    orch.submit_tasks([Task.call(never_ran, id="x", type="t", expected=300)])
    nightly(orch, None)
    answer = orch.when("x")
    assert answer.p90 is not None
    assert "Ticks of often are left out." in str(answer)


def test_what_cannot_be_carried_out_is_refused():
    with TaskOrchestrator() as orch:
        with pytest.raises(InvalidTaskError, match="no tasks"):
            orch.when([])
        with pytest.raises(InvalidTaskError):
            orch.when(7)
        with pytest.raises(UnknownTaskError):
            orch.when([Task.call(never_ran, after=["nobody"])])
        orch.schedules.add("over", "0 3 * * *", never_ran, end="2020-01-01")
        with pytest.raises(InvalidTaskError, match="no tick any more"):
            orch.when("over")
        orch.schedules.remove("over")


@pytest.mark.parametrize("allow", [False, True])
def test_what_a_plan_waits_for_and_has_failed_is_no_task_that_has_completed(allow):
    with TaskOrchestrator() as orch:
        failed = orch.submit_task(Task.call(int, "x", id="broken", allow_failure=allow))
        assert failed.exception(PATIENCE) is not None
        later = Task.call(never_ran, id="later", after=["broken"], expected=5)
        answer = orch.when([later])
        assert (answer.p50 is not None) == allow
        assert allow or "broken, which is failed" in str(answer)
        # It is said of the task as of the plan.
        orch.hold_starts("not yet")
        orch.submit_task(later)
        assert (orch.get_task_status("later").state == "blocked") != allow


def test_a_service_is_asked_by_ids_alone():
    client = Client("http://127.0.0.1:9", token="x")
    with pytest.raises(InvalidTaskError, match="when: of is a text"):
        client.when(planned(1))


# -- what may miss its deadline --------------------------------------------------------


def late_and_fine(orch, deadline=60):
    """One slot, and what waits for it; of two with a deadline one is too late."""
    for number in range(9):
        orch.submit_task(Task.call(GO.wait, PATIENCE, id=f"t{number}", expected=60))
    call = {"expected": 60, "deadline": deadline}
    orch.submit_task(Task.call(GO.wait, PATIENCE, id="late", **call))
    call["deadline"] = 100_000
    orch.submit_task(Task.call(GO.wait, PATIENCE, id="fine", **call))


def test_all_that_may_miss_a_deadline_is_told_at_once():
    orch = TaskOrchestrator(concurrency=1)
    late_and_fine(orch, 300)
    assert [each.id for each in orch.at_risk()] == ["late"]
    assert [each.id for each in orch.at_risk(least=0)] == ["late", "fine"]
    for each in orch.at_risk(least=0):
        alone = orch.when(each.id)
        assert abs(alone.risk - each.risk) < 0.15
        assert alone.deadline == each.deadline
    orch.submit_task(Task.call(never_ran, id="unknown", deadline=1_000))
    orch.submit_task(Task.wait_for("go", id="waits", deadline=1_100))
    unsure = orch.at_risk()[-2:]
    assert [(each.id, each.risk) for each in unsure] == [
        ("unknown", None),
        ("waits", None),
    ]
    assert all("nobody knows" in str(each).casefold() for each in unsure)
    for wrong in (-1, 2, "much"):
        with pytest.raises(InvalidTaskError, match="0 to 1"):
            orch.at_risk(least=wrong)


def test_nothing_is_at_risk_where_nothing_has_a_deadline(capsys, tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit(step).result(PATIENCE)
        assert orch.at_risk() == ()
    assert main(["at-risk", str(tmp_path / "runs.db")]) == 0
    assert "No task that is open" in capsys.readouterr().out


def test_an_alert_comes_before_a_deadline_is_missed_and_goes_with_the_task():
    with TaskOrchestrator(concurrency=1) as orch:
        orch.watch_alerts(Alerts(interval=0.05, rules=()))
        orch.alerts.rule("will_miss", when="deadline_risk > 0.5", per="task")
        late_and_fine(orch, 400)
        eventually(lambda: [each.subject for each in orch.alerts.firing()] == ["late"])
        assert orch.get_task_status("late").state == "queued"
        assert "will_miss of late" in str(orch.health())
        GO.set()
        eventually(lambda: not orch.alerts.firing())
        assert orch.handle("late").result(PATIENCE)


def watched(orch, *rules):
    """Watch rules, and find out once in an hour how likely deadlines are missed."""
    late_and_fine(orch, 400)
    orch.watch_alerts(Alerts(interval=3_600, rules=rules))


def test_an_alert_goes_with_its_task_before_risks_are_found_out_again():
    with TaskOrchestrator(concurrency=1) as orch:
        watched(orch, AlertRule.of("will_miss", "deadline_risk > 0.5", per="task"))
        eventually(lambda: [each.subject for each in orch.alerts.firing()] == ["late"])
        GO.set()
        assert orch.handle("late").result(PATIENCE)
        orch.drivers.wake("alerts")
        eventually(lambda: not orch.alerts.firing())


def test_a_rule_judges_a_task_anew_when_its_risk_is_found_out_anew():
    """There may be 100,000: between, those come that an alert is about."""
    judged, looks = [], []

    def is_late(measured):
        judged.append(measured["deadline_risk"])
        return judged[-1] > 0.5

    with TaskOrchestrator(concurrency=1) as orch:
        rules = [
            AlertRule.of("will_miss", is_late, per="task"),
            AlertRule.of("looks", lambda _: bool(looks.append(1))),
        ]
        watched(orch, *rules)
        eventually(orch.alerts.firing)
        for _ in range(3):
            before = len(looks)
            orch.drivers.wake("alerts")
            eventually(lambda before=before: len(looks) > before)
        GO.set()
    assert sum(risk <= 0.5 for risk in judged) == 1
    assert sum(risk > 0.5 for risk in judged) > 1


def test_what_follows_a_running_task_whose_deadline_is_over_waits_for_it():
    with TaskOrchestrator() as orch:
        late = orch.options(id="late", deadline=3600, expected=86_400).submit(hold)
        after = Task.call(step, id="after", after=["late"], join="finished", expected=1)
        orch.submit_task(after)
        eventually(lambda: late.status.state.value == "running")
        pass_time(orch, 7200)
        eventually(lambda: "asked to stop" in str(orch.when("late")))
        promise = orch.when("after")
        assert promise.p50 > promise.at + timedelta(hours=1)
        GO.set()


# -- what sleeps inside ----------------------------------------------------------------


def nap(seconds):
    current_context().sleep(seconds)


async def nap_on_a_loop(seconds):
    await current_context().aio.sleep(seconds)


async def nap_twice(seconds):
    context = current_context()
    short = context.aio.sleep(seconds / 2, name="short")
    await asyncio.gather(short, context.aio.sleep(seconds))


def is_asleep(orch, task_id):
    return "sleeps until" in str(orch.explain(task_id))


@pytest.mark.parametrize(
    ("fn", "options"),
    [
        (nap, {}),
        (nap_on_a_loop, {}),
        (nap_twice, {}),
        (nap, {"executor": "process"}),
    ],
)
def test_what_sleeps_inside_does_not_end_before_its_sleep_does(fn, options):
    """Nor does what waits for it, whatever others of its type took."""
    with TaskOrchestrator(concurrency=2, executors={"process": 1}) as orch:
        for _ in range(3):
            orch.submit_task(Task.call(fn, 0.01, **options)).result(PATIENCE)
        long = Task.call(fn, 3_600, id="long", deadline=600, **options)
        after = Task.call(fn, 0.01, id="after", after=["long"], deadline=600, **options)
        orch.submit_tasks([long, after])
        eventually(lambda: is_asleep(orch, "long"))
        for name in ("long", "after"):
            promise = orch.when(name, deadline=600, budget=1)
            assert promise.risk == 1.0
            assert "long ends no earlier than its `context.sleep`." in promise.basis
        assert {each.id: each.risk for each in orch.at_risk()} == {
            "long": 1.0,
            "after": 1.0,
        }
        promise = orch.when("long", deadline=7_200, budget=1)
        assert promise.risk == 0.0
        assert promise.p50 - promise.at > timedelta(seconds=3_500)
        assert not orch.in_time("long", deadline=600).changes
        orch.cancel_task("after")
        orch.cancel_task("long")


def test_a_sleep_that_is_over_or_that_an_earlier_attempt_has_left_counts_no_more():
    naps = []

    def naps_and_goes_on():
        naps.append(1)
        if len(naps) == 4:
            current_context().sleep(0.01)
            assert GO.wait(PATIENCE)

    with TaskOrchestrator() as orch:
        for _ in range(3):
            orch.submit(naps_and_goes_on).result(PATIENCE)
        orch.submit_task(Task.call(naps_and_goes_on, id="x"))
        eventually(lambda: is_asleep(orch, "x"))
        eventually(lambda: "context.sleep" not in str(orch.when("x").basis))
        GO.set()
