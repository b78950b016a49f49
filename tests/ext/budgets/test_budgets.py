"""Budgets from the outside: what is spent, asked, and known to the next incarnation."""

import asyncio
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold, Recorder, Started, eventually

from taskorch import Task, TaskOrchestrator, Workflow, current_context
from taskorch.errors import AnswerRefusedError, InvalidTaskError, NotRunningError
from taskorch.ext.recovery import RecoveryHandler

ROOT = Path(__file__).parents[3]


def spend(**amounts):
    current_context().spent(**amounts)
    return amounts


def usage(orch, name="release"):
    (budget,) = [each for each in orch.resources.budgets() if each.name == name]
    return budget


def asked(orch):
    eventually(orch.questions)
    (question,) = orch.questions()
    return question


def drawing(tokens, spent, **options):
    """A task that reserves some, and spends as many as it says."""
    needs = {"tokens": tokens}
    return Task.call(spend, kwargs={"tokens": spent}, resources=needs, **options)


@pytest.fixture
def orch():
    with TaskOrchestrator(concurrency=4) as orch:
        yield orch


def test_it_is_spent_and_reserved(orch):
    hold = Hold()
    with orch.budget("release", tokens=100, eur=0.3) as budget:
        orch.submit_task(drawing(40, 30)).result(PATIENCE)
        needs = {"tokens": 20, "eur": 0.1}
        running = orch.submit_task(Task.call(hold, resources=needs))
        hold.wait()
    now = budget.usage
    assert (now.spent["tokens"], now.reserved["tokens"], now.left["tokens"]) == (
        30,
        20,
        50,
    )
    assert now.reserved["eur"] == 0.1
    hold.release()
    running.result(PATIENCE)
    # It has not said what it spent.
    assert budget.usage.spent == {"tokens": 50, "eur": 0.1}
    assert orch.resources.budgets() == [budget.usage]
    assert "release" in repr(budget)


def test_what_is_submitted_inside_draws_on_it(orch):
    def outer():
        (child,) = orch.submit_tasks([drawing(10, 5)])
        return child.result(PATIENCE), orch.submit(spend, tokens=2).result(PATIENCE)

    with orch.budget("release", tokens=100):
        orch.submit(outer).result(PATIENCE)
    assert usage(orch).spent["tokens"] == 7
    with orch.budget("other", tokens=10), orch.budget("part", tokens=5):
        orch.submit(spend, tokens=1).result(PATIENCE)
        named = drawing(3, 3, budget="release")
        orch.submit_task(named).result(PATIENCE)
    assert usage(orch).spent["tokens"] == 10
    assert usage(orch, "part").parent == "other"
    assert usage(orch, "other").spent["tokens"] == 1
    orch.submit(spend, tokens=1).result(PATIENCE)
    assert usage(orch).spent["tokens"] == 10
    # So does what is submitted by a task that names it.
    orch.submit_task(Task.call(outer, budget="release")).result(PATIENCE)
    assert usage(orch).spent["tokens"] == 17


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), "many", None, True])
def test_what_is_no_amount_is_refused(orch, amount):
    with pytest.raises(InvalidTaskError):
        orch.budget("release", tokens=amount)
    orch.budget("release", tokens=5)
    with pytest.raises(InvalidTaskError):
        orch.resources.raise_budget("release", {"tokens": amount})
    with orch.budget("release", tokens=5), pytest.raises(InvalidTaskError):
        raise orch.submit(spend, tokens=amount).exception(PATIENCE)


@pytest.mark.parametrize(
    "declare",
    [
        lambda orch: orch.budget("release", tokens=0),
        lambda orch: orch.budget("release"),
        lambda orch: orch.budget("a/b", tokens=1),
        lambda orch: orch.budget("part", parent="nobody", tokens=1),
        lambda orch: orch.resources.raise_budget("nobody", {"tokens": 1}),
        lambda orch: orch.submit_task(drawing(1, 1, budget="nobody")),
    ],
)
def test_what_makes_no_budget_is_refused(orch, declare):
    with pytest.raises(InvalidTaskError):
        declare(orch)
    assert orch.resources.budgets() == []


def test_after_its_end_an_attempt_spends_nothing(orch):
    budget = orch.budget("release", tokens=10)
    context = orch.submit_task(Task.call(current_context, budget="release"))
    with pytest.raises(NotRunningError, match="has ended"):
        context.result(PATIENCE).spent(tokens=1)
    assert budget.usage.spent["tokens"] == 0


def test_sums_are_exact(orch):
    with orch.budget("release", eur=1):
        for _ in range(10):
            orch.submit(spend, eur=0.1).result(PATIENCE)
        assert usage(orch).spent["eur"] == 1
    # Less than a millionth counts as one.
    part = orch.budget("part", eur=1)
    orch.submit_task(Task.call(spend, kwargs={"eur": 1e-9}, budget="part")).result(
        PATIENCE
    )
    assert Decimal(str(part.usage.spent["eur"])) == Decimal("0.000001")


@pytest.mark.parametrize(
    ("choice", "changes", "total"),
    [
        ("raise", None, 150),
        ("raise", {"tokens": 500}, 500),
        ("finish", None, 100),
    ],
)
def test_people_are_asked_and_work_goes_on(orch, choice, changes, total):
    low = Recorder(orch, "budget_low")
    with orch.budget("release", tokens=100) as budget:
        orch.submit_task(drawing(90, 90)).result(PATIENCE)
        waiting = orch.submit_task(drawing(40, 10))
        question = asked(orch)
    assert "90 of 100 tokens" in question.text
    assert question.options == ("raise", "stop", "finish")
    (event,) = low.wait_for(1)
    assert (event.spent, event.total) == (90_000_000, 100_000_000)
    (blocker,) = orch.explain(waiting.task_id).blockers
    assert (blocker.kind, blocker.name, blocker.need) == ("budget", "release", 40)
    orch.answer(question.id, choice, by="ann", changes=changes)
    waiting.result(PATIENCE)
    assert budget.usage.total["tokens"] == total
    assert budget.usage.is_open is (choice == "finish")
    assert orch.questions() == []


def test_people_stop_it(orch):
    with orch.budget("release", tokens=100), orch.budget("part", tokens=100):
        orch.submit_task(drawing(100, 100)).result(PATIENCE)
        waiting = orch.submit_task(drawing(40, 10))
        question = asked(orch)
        orch.submit_task(Task.call(len, "x", id="other"))
    orch.answer(question.id, "stop", by="ann")
    eventually(waiting.cancelled)
    # It had reserved nothing, and has ended before, or waited too.
    assert orch.status("other").state in ("cancelled", "completed")


def test_after_a_stop_people_are_asked_about_what_comes_then(orch):
    with orch.budget("release", tokens=100) as budget:
        orch.submit_task(drawing(90, 90)).result(PATIENCE)
        waiting = orch.submit_task(drawing(40, 10))
        first = asked(orch)
        orch.answer(first.id, "stop", by="ann")
        eventually(waiting.cancelled)
        assert budget.usage.question is None
        later = orch.submit_task(drawing(40, 10))
        second = asked(orch)
    assert second.id != first.id
    assert budget.usage.question == second.id
    orch.answer(second.id, "raise", by="ann")
    later.result(PATIENCE)


def test_somebody_raises_it_before_it_is_answered(orch):
    with orch.budget("release", tokens=100) as budget:
        orch.submit_task(drawing(90, 90)).result(PATIENCE)
        waiting = orch.submit_task(drawing(40, 10))
        question = asked(orch)
    budget.raise_to(tokens=300)
    waiting.result(PATIENCE)
    # Nobody is asked any more: an answer would do nothing.
    assert orch.questions() == []
    assert orch.get_task_status(question.id).state == "cancelled"
    with pytest.raises(AnswerRefusedError):
        orch.answer(question.id, "raise", by="ann")
    assert (budget.usage.total["tokens"], budget.usage.question) == (300, None)


def test_other_amounts_withdraw_the_question(orch):
    with orch.budget("release", tokens=100):
        orch.submit_task(drawing(90, 90)).result(PATIENCE)
        waiting = orch.submit_task(drawing(40, 10))
        asked(orch)
    orch.budget("release", tokens=400)
    waiting.result(PATIENCE)
    assert orch.questions() == []


def test_a_part_reserves_what_only_the_whole_has(orch):
    """Colons in the name of a resource are part of it."""
    whole = orch.budget("whole", eur=1, **{"of: x": 2})
    orch.budget("part", parent="whole", tokens=100)
    hold, needs = Hold(), {"tokens": 10, "eur": 0.75, "of: x": 1}
    first = orch.submit_task(Task.call(hold, resources=needs, budget="part"))
    hold.wait()
    assert whole.usage.reserved == {"eur": 0.75, "of: x": 1}
    second = orch.submit_task(Task.call(int, resources={"eur": 0.5}, budget="part"))
    (blocker,) = orch.explain(second.task_id).blockers
    assert (blocker.kind, blocker.name, blocker.resource) == ("budget", "whole", "eur")
    second.cancel()
    hold.release()
    first.result(PATIENCE)
    assert whole.usage.spent == {"eur": 0.75, "of: x": 1}
    assert whole.usage.left == {"eur": 0.25, "of: x": 1}


def test_what_is_left_is_no_difference_of_floats(orch):
    budget = orch.budget("small", eur=0.3)
    orch.submit_task(Task.call(int, resources={"eur": 0.1}, budget="small")).result(
        PATIENCE
    )
    assert budget.usage.left == {"eur": 0.2}


def test_the_next_incarnation_knows_and_asks(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.budget("release", tokens=100)
        orch.submit_task(drawing(90, 90, budget="release")).result(PATIENCE)
        orch.submit_task(drawing(40, 10, budget="release", id="waits"))
        asked(orch)
        orch.stop(drain=False, timeout=0)
    with TaskOrchestrator(journal=path) as orch:
        assert usage(orch).spent["tokens"] == 90
        question = asked(orch)
        orch.budget("release", tokens=100)
        assert asked(orch).id == question.id
        orch.answer(question.id, "raise", by="ann")
        eventually(lambda: orch.status("waits").state == "completed")
        assert usage(orch).total["tokens"] == 150
    with TaskOrchestrator(journal=path) as orch:
        # What was raised stays; other amounts in the program hold.
        assert orch.budget("release", tokens=100).usage.total["tokens"] == 150
        assert orch.budget("release", tokens=120).usage.total["tokens"] == 120


@pytest.mark.parametrize("declares", [True, False])
def test_each_incarnation_asks_that_uses_it_up(tmp_path, declares):
    """
    Whether there was a budget before says nothing of who has asked in this incarnation.
    """
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.budget("release", tokens=100)
        orch.submit_task(drawing(40, 40, budget="release")).result(PATIENCE)
    with TaskOrchestrator(journal=path) as orch:
        if declares:
            orch.budget("release", tokens=100)
        orch.submit_task(drawing(60, 60, budget="release")).result(PATIENCE)
        orch.submit_task(drawing(20, 20, budget="release", id="waits"))
        asked(orch)
        orch.stop(drain=False, timeout=0)
    with TaskOrchestrator(journal=path) as orch:
        orch.answer(asked(orch).id, "raise", by="ann")
        eventually(lambda: orch.status("waits").state == "completed")
        orch.submit_task(drawing(90, 90, budget="release", id="later"))
        question = asked(orch)
        assert question.id == "budget-release/2"
        orch.answer(question.id, "finish", by="ann")
        eventually(lambda: orch.status("later").state == "completed")


ANSWERED = """
import os
from taskorch import Task, TaskOrchestrator, current_context

def work(tokens=9):
    current_context().spent(tokens=tokens)

def died(event):
    if event.task_id.startswith("budget-"):
        os._exit(9)

with TaskOrchestrator(journal="runs.db") as orch:
    orch.signals.task_completed.connect(died)
    orch.budget("release", tokens=10)
    for n in range(2):
        task = Task.call(work, id=str(n), resources={"tokens": 9}, budget="release")
        orch.submit_task(task)
    while not orch.questions():
        pass
    # By now more is spent than the question says.
    orch.submit_task(Task.call(work, 0.5, budget="release")).result(60)
    orch.answer("budget-release/1", "finish", by="ann")
    orch.wait()
"""


def test_what_was_answered_as_an_incarnation_ended_is_done_by_the_next(tmp_path):
    (tmp_path / "job.py").write_text(ANSWERED)
    done = subprocess.run([sys.executable, "job.py"], cwd=tmp_path, check=False)
    assert done.returncode == 9
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        assert orch.status("budget-release/1").state == "completed"
        eventually(lambda: usage(orch).state == "open")
        assert orch.questions() == []


KILLED = """
import sys, time
from taskorch import Task, TaskOrchestrator, current_context

def work():
    current_context().spent(tokens=5)
    time.sleep(60)

with TaskOrchestrator(journal="runs.db") as orch:
    with orch.budget("release", tokens=100):
        orch.submit_task(Task.call(work, resources={"tokens": 20}))
        while orch.resources.budgets()[0].spent["tokens"] != 5:
            time.sleep(0.01)
    orch.submit_task(Task.call(len, "x", id="kept")).result()
    print("spent", flush=True)
    orch.wait()
"""


def test_a_kill_between_spending_and_settling_counts_all_that_was_reserved(tmp_path):
    (tmp_path / "flow.py").write_text(KILLED)
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
    command = [sys.executable, "flow.py"]
    pipe = subprocess.PIPE
    with Started(command, stdout=pipe, text=True, env=env, cwd=tmp_path) as incarnation:
        assert incarnation.stdout.readline() == "spent\n"
        incarnation.send_signal(signal.SIGKILL)
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        assert usage(orch).spent["tokens"] == 20
        orch.stop(drain=False, timeout=0)


def test_functions_in_worker_processes_and_coroutines_say_it(orch):
    async def work():
        await current_context().aio.spent(tokens=1)
        await orch.aio.submit_task(Task.call(spend, kwargs={"tokens": 2}))
        return await orch.aio.resources.budgets()

    with orch.budget("release", tokens=100):
        remote = Task.call(spend, kwargs={"tokens": 4}, executor="process")
        orch.submit_task(remote).result(PATIENCE)
    orch.submit_task(Task.call(work, budget="release")).result(PATIENCE)
    eventually(lambda: usage(orch).spent["tokens"] == 7)
    asyncio.run(orch.aio.resources.raise_budget("release", {"tokens": 200}))
    assert usage(orch).total["tokens"] == 200


def test_documents_and_plans(orch):
    orch.budget("release", tokens=10)
    task = {
        "call": "spend",
        "kwargs": {"tokens": 1},
        "budget": "release",
        "resources": {"tokens": 4},
    }
    document = {"workflow": "w", "tasks": {"a": task}}
    workflow = Workflow.from_dict(document, functions={"spend": spend})
    assert orch.simulate(workflow, durations=1).makespan == 1
    orch.workflows.start(workflow).result(timeout=PATIENCE)
    assert usage(orch).spent["tokens"] == 1


def test_it_is_run_again_on_the_same_budget(orch):
    orch.budget("release", tokens=10)
    orch.submit_task(drawing(4, 4, budget="release", id="a")).result(PATIENCE)
    orch.rerun_task("a").result(PATIENCE)
    assert usage(orch).spent["tokens"] == 8


def test_a_retry_that_is_given_more_reserves_it_again():
    def greedy():
        if current_context().attempt == 1:
            current_context().spent(tokens=1)
            raise MemoryError
        return usage(orch).reserved["tokens"]

    handler = RecoveryHandler(retry_delay_seconds=0)
    pools = {"cpu": 4, "memory_mb": 500}
    with TaskOrchestrator(retry_handler=handler, resources=pools) as orch:
        orch.budget("release", tokens=100)
        needs = {"memory_mb": 100, "tokens": 40}
        task = Task.call(greedy, resources=needs, budget="release", id="a")
        assert orch.submit_task(task).result(PATIENCE) == 40
        assert orch.status("a").attempts == 2


def test_nobody_says_that_a_task_starts_soon_whose_budget_has_too_little_left(orch):
    orch.budget("release", tokens=100)
    orch.submit_task(drawing(90, 90, budget="release", id="a")).result(PATIENCE)
    orch.submit_task(drawing(50, 50, budget="release", id="b"))
    found = orch.explain("b").estimate
    assert found.seconds is None
    assert "10 of 100 tokens are left" in found.basis
    orch.cancel_task("b")
