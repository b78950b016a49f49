"""From what a run has done to a plan of what is left."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given, settings, strategies as st
from tests.ext.planner.tools import release, request
from tests.house.tools.examples import examples

from taskorch import Task, TaskOrchestrator, TaskState, Workflow, WorkflowFailedError
from taskorch.errors import InvalidTaskError, PlanningError
from taskorch.ext.planner import Deadline, Domain, MaxCost, TaskRequest


def ended(run):
    """The states of a run's tasks, once no more of them goes on."""
    with pytest.raises(WorkflowFailedError):
        run.result(60)
    return {str(state) for state in run.status().tasks.values()}


def travel():
    """A station is near; from there a train goes, and a taxi from wherever one is."""
    domain = Domain("travel")

    def step(name, needs=None, **changes):
        def apply(state, *args):
            if needs and not needs(state, *args):
                return None
            return state.changed({k: v(state, *args) for k, v in changes.items()})

        domain.operator(apply, name=name, duration=5, cost=2)

    step("walk", at=lambda _s, to: to)
    step("train", lambda s, _to: s["at"] == "station", at=lambda _s, to: to)
    step("taxi", lambda s, begin, _to: s["at"] == begin, at=lambda _s, _from, to: to)
    step("check_in", lambda s: s["at"] == "hotel", there=lambda _s: True)

    @domain.method("go", cost=1)
    def by_train(state, to):
        near = [] if state["at"] == "station" else [("walk", "station")]
        return [*near, ("train", to), ("check_in",)]

    @domain.method("go", cost=2)
    def by_taxi(state, to):
        return [("taxi", state["at"], to), ("check_in",)]

    return domain


def go(**fields):
    context = {"args": ["hotel"], "state": {"at": "home"}}
    return TaskRequest("r", "go", context=context, **fields)


def begun(domain, asked, fails, *, concurrency=4):
    """An orchestrator whose agents do all but what *fails*, and a run of a plan."""
    orch = TaskOrchestrator(concurrency=concurrency)
    did = []

    def does(task, _context):
        if task.type in fails:
            raise ValueError(task.type)
        did.append((task.type, *task.payload))

    orch.agent("all", capabilities=set(domain.operators), max_concurrency=4)(does)
    orch.planner.domain(domain)
    return orch, did, orch.workflows.start(orch.planner.plan(asked))


@contextmanager
def halted(domain, failing, go_on, did):
    """A run in which *failing* has failed; `slow` waits, *did* has what has ended."""
    orch = TaskOrchestrator()

    def does(task, _context):
        if task.type == failing:
            raise ValueError
        if task.type == "slow":
            assert go_on.wait(60)
        did.append(task.type)

    orch.agent("all", capabilities=set(domain.operators), max_concurrency=4)(does)
    orch.planner.domain(domain)
    with orch:
        run = orch.workflows.start(orch.planner.plan(TaskRequest("r", "all")))
        with pytest.raises(ValueError):
            run.handles[failing].result(60)
        yield orch, run


def test_what_failed_is_gone_round_from_where_the_run_is():
    orch, did, run = begun(travel(), go(), fails := {"train"})
    with orch:
        assert ended(run) == {"completed", "failed", "blocked"}
        plan = orch.planner.replan(run)

        assert [task.id for task in plan.tasks] == ["taxi-station-hotel", "check_in"]
        assert "By earlier runs: walk-station." in plan.explain()
        assert orch.planner.validate(plan)
        orch.workflows.start(plan).result(60)
    assert fails
    assert did == [("walk", "station"), ("taxi", "station", "hotel"), ("check_in",)]


def test_what_has_no_other_way_is_tried_again_and_what_is_done_stays():
    domain = release()
    for name in domain.operators:
        # Agents do them.
        domain.operators[name] = _without_run(domain.operators[name])
    orch, did, run = begun(domain, request("a", "b"), fails := {"publish"})
    with orch:
        ended(run)
        fails.clear()
        plan = asyncio.run(orch.aio.planner.replan(run))

        assert [task.id for task in plan.tasks] == ["publish"]
        assert plan.estimated_cost == 3
        again = orch.workflows.start(orch.planner.optimize(plan, seconds=0.05))
        again.result(60)
        assert orch.planner.replan(again).tasks == ()
    assert sorted(each[0] for each in did) == ["build"] * 2 + ["fetch"] * 2 + [
        "publish"
    ]


def _without_run(operator):
    import attrs

    return attrs.evolve(operator, run=None, resources={})


def test_it_can_be_planned_anew_more_than_once():
    orch, did, run = begun(travel(), go(), fails := {"train", "check_in"})
    with orch:
        ended(run)
        second = orch.workflows.start(orch.planner.replan(run))
        ended(second)
        fails.discard("check_in")
        plan = orch.planner.replan(second)

        assert [task.id for task in plan.tasks] == ["check_in"]
        orch.workflows.start(plan).result(60)
    assert did == [("walk", "station"), ("taxi", "station", "hotel"), ("check_in",)]


def test_the_rest_waits_for_what_it_needs_of_what_runs():
    domain = Domain("d")
    domain.operator(lambda s: s.set("base", 1), name="slow")
    domain.operator(lambda s: s.set("x", s["base"]), name="bad")
    domain.operator(lambda s: s.set("x", s["base"]), name="good")
    domain.operator(lambda s: s.set("y", 1), name="fails")
    domain.operator(lambda s: s.set("y", 1), name="works")
    domain.method("all")(lambda _s: [("slow",), ("fails",), ("bad",)])
    domain.method("all")(lambda _s: [("slow",), ("works",), ("good",)])
    go_on, did = threading.Event(), []
    with halted(domain, "fails", go_on, did) as (orch, run):
        orch.workflows.cancel(f"{run.workflow_id}/bad")
        second = orch.workflows.start(orch.planner.replan(run))
        second.handles["works"].result(60)
        assert second.handles["good"].status.state is not TaskState.COMPLETED
        go_on.set()
        second.result(60)
    assert did == ["works", "slow", "good"]


def test_of_a_template_what_failed_runs_again_with_the_results_of_the_rest():
    orch = TaskOrchestrator()
    fails, calls = [True], []

    @orch.planner.template("sum")
    def make():
        wf = Workflow("sum")

        def part(n):
            calls.append(n)
            return n

        def total(parts):
            if fails:
                raise ValueError
            return sum(parts)

        parts = [wf.task(part, n, id=f"part-{n}") for n in (1, 2)]
        wf.task(total, parts, id="total")
        return wf

    with orch:
        run = orch.workflows.start(orch.planner.plan(TaskRequest("r", "sum")))
        ended(run)
        fails.clear()
        plan = orch.planner.replan(run)

        assert [task.id for task in plan.tasks] == ["total"]
        assert orch.workflows.start(plan).result(60) == {"total": 3}
        with pytest.raises(InvalidTaskError, match="goes on from a run"):
            plan.to_dict()
    assert sorted(calls) == [1, 2]


def test_what_has_become_another_runs_again_with_all_that_comes_after_it():
    orch = TaskOrchestrator()
    rows, calls = [1], []

    def load(n):
        calls.append(n)
        return n

    def fail(n):
        calls.append(n)
        if len(rows) == 1:
            raise ValueError

    @orch.planner.template("etl")
    def make():
        wf = Workflow("etl")
        first = wf.task(load, list(rows), id="load")
        wf.task(fail, wf.task(len, first, id="count"), id="end")
        return wf

    with orch:
        run = orch.workflows.start(orch.planner.plan(TaskRequest("r", "etl")))
        ended(run)
        rows.append(2)
        plan = orch.planner.replan(run)
        assert [task.id for task in plan.tasks] == ["load", "count", "end"]
        orch.workflows.start(plan).result(60)
    assert calls == [[1], 1, [1, 2], 2]


def test_the_time_that_is_gone_and_the_cost_that_is_spent_count():
    limits = [Deadline(3_600), MaxCost(9)]
    orch, _did, run = begun(travel(), go(constraints=limits), {"train"})
    with orch:
        ended(run)
        # Two were paid, and the taxi and the hotel are to be.
        plan = orch.planner.replan(run)
        deadline, cost = plan.request.constraints
        assert cost == MaxCost(5)
        assert 3_000 < deadline.seconds < 3_600

    orch, _did, run = begun(travel(), go(constraints=[MaxCost(6)]), {"train"})
    with orch:
        ended(run)
        with pytest.raises(PlanningError) as caught:
            orch.planner.replan(run)
        assert caught.value.conflict == ("the cost of at most 2",)


def test_what_is_no_run_of_a_plan_is_refused():
    orch, _did, run = begun(travel(), go(), {"train"})
    other = orch.planner.plan(go())
    wf = Workflow("w")
    wf.task(print, id="p")
    with orch:
        plain = orch.workflows.start(wf)
        ended(run)
        with pytest.raises(PlanningError, match="not known by which plan"):
            orch.planner.replan(plain)
        with pytest.raises(PlanningError, match="is of another plan"):
            orch.planner.replan(plain, other)
        with pytest.raises(InvalidTaskError):
            orch.planner.replan("run")
        assert orch.planner.replan(run, run.plan).tasks


def parts_domain(kinds, ways):
    """Each part is made in one of some ways, each of some steps; then all is joined."""
    domain = Domain("d")
    for kind in kinds:
        domain.operator(
            lambda s, part, kind=kind: s.changed(
                {(kind, part): True, "count": s.get("count", 0) + (kind == "a")}
            ),
            name=kind,
            duration=1,
        )
    domain.operator(
        lambda s, n: (
            s.set("joined", n) if all(s.get(("made", p)) for p in range(n)) else None
        ),
        name="join",
        duration=1,
    )
    domain.operator(
        lambda s, part: s.set(("made", part), True), name="made", duration=1
    )
    domain.method("all")(lambda _s, n: [*(("part", p) for p in range(n)), ("join", n)])
    for steps in ways:
        domain.method("part")(
            lambda s, part, steps=steps: (
                None
                if s.get(("made", part))
                else [*((kind, part) for kind in steps), ("made", part)]
            )
        )
    domain.method("part")(lambda s, part: [] if s.get(("made", part)) else None)
    return domain


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=2), min_size=1, max_size=3),
    st.integers(1, 3),
    st.sets(st.sampled_from(["a", "b", "c", "made", "join"]), min_size=1, max_size=2),
)
@settings(deadline=None, max_examples=examples(15))
def test_in_the_end_all_that_was_asked_for_is_done_and_nothing_twice(ways, parts, bad):
    asked = TaskRequest("r", "all", context={"args": [parts]})
    orch, did, run = begun(parts_domain("abc", ways), asked, fails := set(bad))
    with orch:
        for attempt in range(6):
            try:
                run.result(60)
                break
            except WorkflowFailedError:
                if attempt == 1:
                    fails.clear()
                run = orch.workflows.start(orch.planner.replan(run))
        else:
            pytest.fail("it does not come to an end")
    assert did.count(("join", parts)) == 1
    made = [each for each in did if each[0] == "made"]
    assert sorted(made) == [("made", part) for part in range(parts)]


def test_a_task_is_for_somebody_else():
    """Payloads are compared: what is the same by its name only is done anew."""
    orch = TaskOrchestrator()
    who = ["ada"]
    did = []
    orch.agent("a", capabilities={"greet", "end"})(
        lambda task, _c: did.append(task.payload) if task.type == "greet" else 1 / 0
    )

    @orch.planner.template("greet all")
    def make():
        wf = Workflow("greet")
        wf.add(Task("greet", who[0], id="greet"))
        wf.add(Task("end", id="end", after=["greet"]))
        return wf

    with orch:
        run = orch.workflows.start(orch.planner.plan(TaskRequest("r", "greet all")))
        ended(run)
        who[0] = "bob"
        assert {t.id for t in orch.planner.replan(run).tasks} == {"greet", "end"}
        who[0] = "ada"
        assert {t.id for t in orch.planner.replan(run).tasks} == {"end"}
