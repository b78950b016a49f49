"""`orch.in_time` and `orch.what_if`: what would have to change, and what changes do."""

import json
import sys
from itertools import count
from random import Random
from threading import Event

import attrs
import pytest
from tests.api.tools import PATIENCE

from taskorch import (
    InvalidTaskError,
    Resources,
    Task,
    TaskOrchestrator,
    UnknownTaskError,
    Workflow,
)
from taskorch.ext.command_line import main
from taskorch.ext.simulation._open._changes import _Search
from taskorch.ext.simulation._open._course import OpenRun, Tried
from taskorch.ext.simulation._open._draws import OpenChance
from taskorch.ext.simulation._open._work import open_work
from taskorch.model import Agent, NamedUnits, TimelyChange

SECOND = 1_000_000_000


def work_of_time():
    """Take some time."""


def waiting(seconds=60, **options):
    return Task.call(work_of_time, expected=seconds, **options)


def not_begun(tasks, **options):
    """An orchestrator that has not begun: all that it was given waits."""
    orch = TaskOrchestrator(concurrency=1, **options)
    orch.submit_tasks(tasks)
    return orch


def test_a_priority_is_enough_and_it_is_said_who_ends_later():
    tasks = [waiting(id=f"other-{n}") for n in range(9)]
    orch = not_begun([*tasks, waiting(id="mine")])
    answer = orch.in_time("mine", deadline=300)
    assert answer.promise.risk > 0.5
    found = {each.kind: each for each in answer.changes}
    assert found["priority"].call.startswith("orch.set_priority('mine', ")
    assert found["priority"].p90 <= answer.promise.deadline
    assert any(each.seconds > 0 for each in found["priority"].ends)
    assert "orch.set_priority('mine', " in str(answer)
    assert "later" in str(answer)
    assert orch.get_task_status("mine").priority == 0


def test_a_pool_with_more_in_it_is_enough():
    tasks = [waiting(id=f"t{n}", resources=Resources(gpu=1)) for n in range(12)]
    orch = TaskOrchestrator(concurrency=12, resources={"gpu": 1})
    orch.submit_tasks(tasks)
    answer = orch.in_time("t11", deadline=300)
    calls = [each.call for each in answer.changes]
    assert "orch.resources.resize({'gpu': 2})" in calls or any(
        call.startswith("orch.resources.resize({'gpu': ") for call in calls
    )


def test_another_run_waits_until_it_has_ended():
    flow = Workflow("flow")
    for number in range(8):
        flow.add(waiting(id=f"s{number}"))
    orch = TaskOrchestrator(concurrency=1)
    orch.workflows.start(flow, id="other")
    orch.submit_tasks([waiting(id="mine")])
    answer = orch.in_time("mine", deadline=300)
    later = [each for each in answer.changes if each.kind == "later"]
    assert [each.call for each in later] == ["orch.workflows.pause('other')"]
    assert [each.id for each in later[0].ends] == ["other"]
    assert later[0].ends[0].seconds > 0
    run = orch.in_time("other", deadline=300)
    assert not [each for each in run.changes if each.kind == "priority"]


def test_another_task_waits_until_it_has_ended():
    orch = not_begun([waiting(600, id="long"), waiting(id="mine")])
    answer = orch.in_time("mine", deadline=300)
    (later,) = (each for each in answer.changes if each.kind == "later")
    assert later.call == "orch.suspend_task('long')"
    assert "long ends " in str(later)


def test_no_worker_of_a_user_has_the_name_of_one_that_is_tried():
    workers = [Agent("render")]
    orch = not_begun([waiting()])
    means = attrs.evolve(open_work(orch._rt).means, workers=workers)
    (*_, tried) = Tried(workers={"render": 1}).means(means).workers
    with pytest.raises(InvalidTaskError, match="no safe id"):
        orch.agent(tried.name, capabilities=["x"])(print)


def test_more_slots_are_enough_from_the_next_start():
    orch = not_begun([waiting(id=f"t{n}") for n in range(12)])
    (found,) = (
        each
        for each in orch.in_time("t11", deadline=400).changes
        if "slots" in each.kind
    )
    assert found.call == "TaskOrchestrator(concurrency=4)"
    assert f"{found.call}, from the next start of the program" in str(found)
    assert found.requests == ()


def test_more_workers_of_a_template_are_enough():
    with TaskOrchestrator(concurrency=99) as orch:
        orch.agents.template(
            "render",
            executor="lines",
            start=[sys.executable, "-c", "import time; time.sleep(60)"],
            capabilities=["render"],
            max_concurrency=1,
        )
        orch.agents.spawn("render", {"id": "render-1"})
        orch.submit_tasks(
            Task("render", id=f"t{n}", expected=60, requires=["render"])
            for n in range(12)
        )
        answer = orch.in_time("t11", deadline=400)
        found = {each.kind: each for each in answer.changes}
        spawns = "[orch.agents.spawn('render') for _ in range(3)]"
        assert found["worker"].call == spawns
        assert [each["operation"] for each in found["worker"].requests] == [
            "spawn_agent"
        ] * 3
        assert "slots" not in found
        orch.stop(drain=False)


def test_where_no_single_change_is_enough_two_are_named():
    """Neither more slots nor more of the pool help alone."""
    tasks = [waiting(id=f"t{n}", resources=Resources(gpu=1)) for n in range(12)]
    orch = TaskOrchestrator(concurrency=2, resources={"gpu": 2})
    orch.submit_tasks(
        [
            *tasks,
            Task.call(
                work_of_time, expected=1, after=[f"t{n}" for n in range(12)], id="last"
            ),
        ]
    )
    answer = orch.in_time("last", deadline=600)
    assert [each.kind for each in answer.changes] == ["pool and slots"]
    (found,) = answer.changes
    pool, slots = found.call.split("; ")
    assert int(pool.removeprefix("orch.resources.resize({'gpu': ")[:-2]) > 2
    assert int(slots.removeprefix("TaskOrchestrator(concurrency=")[:-1]) > 2
    # A service cannot make both, so it is offered neither.
    assert found.requests == ()


def test_what_ends_in_time_needs_no_change():
    orch = not_begun([waiting(id="mine")])
    answer = orch.in_time("mine", deadline=86_400)
    assert not answer.changes
    assert "nothing has to change" in str(answer)


def test_nothing_that_there_is_may_be_enough():
    orch = not_begun([waiting(id="mine")])
    answer = orch.in_time("mine", deadline=1)
    assert not answer.changes
    assert "No change is enough, nor two together" in str(answer)


def test_a_pool_that_became_too_small_is_made_as_large_as_the_task_asks_for():
    orch = not_begun([waiting(id="mine", resources={"cpu": 12})], resources={"cpu": 16})
    orch.resources.resize({"cpu": 4})
    call = "orch.resources.resize({'cpu': 12})"
    answer = orch.in_time("mine", deadline=600)
    assert [each.call for each in answer.changes] == [call]
    assert "No change is enough" not in str(answer)
    (row,) = orch.what_if(pools={"cpu": 12}).ends
    assert row.before is None
    assert row.after is not None


def test_while_starts_are_on_hold_it_says_how_to_release_them(tmp_path, capsys):
    path = str(tmp_path / "jobs.journal")
    orch = not_begun([waiting(id="mine")], journal=path)
    orch.hold_starts("lunch", by="me")
    answer = str(orch.in_time("mine", deadline=600))
    assert "Starts are on hold: call orch.release_starts('me')" in answer
    assert "No change is enough" not in answer
    orch.stop(drain=False)
    assert main(["in-time", path, "mine", "--deadline", "600"]) == 0
    said = capsys.readouterr().out
    assert f"Starts are on hold: call taskorch release {path} --by me, and" in said


def test_what_cannot_be_asked_is_refused():
    orch = not_begun([waiting(id="mine")])
    with pytest.raises(InvalidTaskError, match="no deadline"):
        orch.in_time("mine")
    with pytest.raises(InvalidTaskError, match="is over"):
        orch.in_time("mine", deadline="2020-01-01")
    with pytest.raises(UnknownTaskError):
        orch.in_time("nobody", deadline=5)
    orch.cancel_task(orch.submit_task(waiting(id="gone")).task_id)
    with pytest.raises(InvalidTaskError, match="gone has ended: it is cancelled"):
        orch.in_time("gone", deadline=5)
    with pytest.raises(UnknownTaskError):
        orch.what_if(priority={"nobody": 1})
    with pytest.raises(InvalidTaskError, match="no pool"):
        orch.what_if(pools={"nothing": 1})
    with pytest.raises(InvalidTaskError, match="an integer within"):
        orch.what_if(priority={"mine": 1.5})


def test_the_call_that_is_named_says_what_was_tried_to_the_last_digit():
    tasks = [waiting(id=f"t{n}", resources={"disk": 1_234_567}) for n in range(8)]
    orch = TaskOrchestrator(concurrency=8, resources={"disk": 1_234_567})
    orch.submit_tasks(tasks)
    for amount in (12_345_678, 0.1):
        answer = orch.what_if(pools={"disk": amount})
        assert answer.changes == (f"orch.resources.resize({{'disk': {amount}}})",)
    (found,) = (
        each for each in orch.in_time("t7", deadline=300).changes if each.kind == "pool"
    )
    total = int(found.call.removeprefix("orch.resources.resize({'disk': ")[:-2])
    assert total % 1_234_567 == 0


def test_a_task_that_ran_again_is_no_run_and_is_none_of_the_others():
    go = Event()
    with TaskOrchestrator(concurrency=1) as orch:
        orch.submit_tasks([waiting(id="mine")])[0].result(PATIENCE)
        orch.submit_task(Task.call(go.wait, PATIENCE, expected=1))
        others = [waiting(id=f"other-{n}", type="slow") for n in range(9)]
        orch.submit_tasks(others)
        orch.rerun_task("mine")
        changes = orch.what_if(priority={"mine": 5}, pause=["mine"]).changes
        assert changes == (
            "orch.set_priority('mine~2', 5)",
            "orch.suspend_task('mine')",
        )
        pause = orch.what_if(pause=["mine"])
        assert {each.id: each.after for each in pause.ends}["mine~2"] is None
        found = {c.kind: c for c in orch.in_time("mine", deadline=300).changes}
        assert found["priority"].call.startswith("orch.set_priority('mine~2', ")
        told = {each.id for change in found.values() for each in change.ends}
        assert "mine~2" not in told
        go.set()


def test_a_number_is_no_change_of_units_with_names():
    orch = not_begun([waiting()], resources={"gpu": NamedUnits("a", "b")})
    with pytest.raises(InvalidTaskError, match="the units of gpu have names"):
        orch.what_if(pools={"gpu": 4})


def test_what_if_is_a_table_of_all_that_is_open():
    orch = not_begun([waiting(id="first"), waiting(id="second"), waiting(id="third")])
    answer = orch.what_if(priority={"third": 1_000_000})
    ends = {each.id: each for each in answer.ends}
    assert ends["third"].seconds < 0
    assert ends["first"].seconds > 0
    rows = str(answer).splitlines()
    assert rows[0] == "If you call orch.set_priority('third', 1000000):"
    assert rows[1].split() == ["ends", "now", "would", "end"]
    assert any(row.startswith("third") and row.endswith("sooner") for row in rows)
    paused = orch.what_if(pause=["first"])
    ends = {each.id: each for each in paused.ends}
    assert ends["first"].after is None
    assert ends["second"].seconds < 0
    assert json.loads(json.dumps(answer.to_dict()))["ends"]
    nothing = orch.what_if()
    assert all(each.seconds == 0 for each in nothing.ends)


@pytest.mark.parametrize(
    "seed",
    [
        *range(4),
        *(
            pytest.param(seed, marks=pytest.mark.slow("other states, each as small"))
            for seed in range(4, 12)
        ),
    ],
)
def test_of_small_states_the_smallest_change_is_named(seed):
    random = Random(f"smallest {seed}")
    orch = TaskOrchestrator(concurrency=2, resources={"gpu": 2})
    tasks = [
        waiting(
            random.randint(10, 90),
            id=f"t{number}",
            priority=random.randint(0, 3),
            resources=Resources(gpu=random.randint(1, 2)),
        )
        for number in range(6)
    ]
    orch.submit_tasks(tasks)
    work = attrs.evolve(open_work(orch._rt), measured={})
    place = random.choice([*work.places.values()])
    ends = [end_of(work, place, Tried(), draw) for draw in range(20)]
    deadline_ns = work.now_ns + int((sorted(ends)[10] - work.now_ns) * 0.7)
    search = _Search(
        work,
        work.tasks[place].id,
        [place],
        moment(deadline_ns),
        float("inf"),
        {},
    )
    for found in search.singles():
        if found.kind not in {"priority", "pool"}:
            continue
        # What is named works, and nothing smaller does.
        value = float(found.call.rpartition(" ")[2].rstrip("})"))
        smaller = {
            "priority": lambda n: Tried({place: n}),
            "pool": lambda n: Tried(more={"gpu": (n - 2) * 1_000_000}),
        }[found.kind]
        least = work.tasks[place].priority if found.kind == "priority" else 2
        enough = (
            n
            for n in count(least + 1)
            if is_enough(work, place, smaller(n), deadline_ns)
        )
        if value <= least + 200:
            assert next(enough) == value
        else:
            assert is_enough(work, place, smaller(int(value)), deadline_ns)


def moment(ns):
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ns / SECOND, UTC)


def end_of(work, place, tried, draw):
    run = OpenRun(work, OpenChance(work, f"0/{draw}"), [place], lambda: False, tried)
    run.carry_out()
    return run.ended_ns(place)


def is_enough(work, place, tried, deadline_ns):
    late = sum(end_of(work, place, tried, draw) > deadline_ns for draw in range(20))
    return late <= 2


def test_the_command_says_commands(tmp_path, capsys):
    path = str(tmp_path / "runs.db")
    orch = TaskOrchestrator(journal=path)
    orch.submit_tasks([waiting(600, id=f"other-{n}") for n in range(20)])
    orch.submit_tasks([waiting(id="mine")])
    orch.stop(drain=False)
    assert main(["in-time", path, "mine", "--deadline", "300"]) == 0
    said = capsys.readouterr().out
    assert f"taskorch priority {path} mine " in said
    assert main(["explain", path, "mine", "--by", "300"]) == 0
    said = capsys.readouterr().out
    assert "mine is queued" in said
    assert f"taskorch priority {path} mine " in said
    assert main(["explain", path, "mine", "--by", "300", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"]
    assert main(["explain", path, "--by", "300"]) == 2
    assert "of one task or run" in capsys.readouterr().err
    with pytest.raises(InvalidTaskError, match="in_time"):
        orch.explain("mine", by="18:00")


def test_the_command_of_runs_says_when_a_run_ends_and_what_helps(tmp_path, capsys):
    path = str(tmp_path / "runs.db")
    orch = TaskOrchestrator(journal=path)
    orch.submit_tasks([waiting(id=f"other-{n}") for n in range(9)])
    flow = Workflow("flow")
    flow.add(waiting(id="a"))
    orch.workflows.start(flow, id="mine")
    orch.stop(drain=False)
    assert main(["runs", path, "show", "mine", "--by", "300"]) == 0
    said = capsys.readouterr().out
    assert "mine ends within" in said
    assert "The risk that it ends later than" in said
    assert main(["runs", path, "show", "mine", "--by", "300", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["promise"]["p50"]
    assert main(["runs", path, "--by", "300"]) == 2
    assert "show RUN --by" in capsys.readouterr().err


def test_what_there_was_no_time_for_is_said_and_not_taken_for_nothing():
    change = TimelyChange("later", "orch.suspend_task('a')", moment(SECOND), None)
    assert "until it has ended: what it does to others, nobody had time" in str(change)
    assert change.to_dict()["ends"] is None
    orch = not_begun([waiting(id=f"t{n}") for n in range(2_000)])
    answer = orch.in_time("t1999", deadline=600, budget=0.05)
    assert "Not within 50 ms of processor time" in str(answer)
    assert orch.what_if(budget=0.001).draws == 0
