"""When the units of a job are made, and what they hold while a pool is nearly full."""

from __future__ import annotations

import threading
from itertools import count, takewhile

import pytest
from tests.integration.tools import PATIENCE, eventually

from taskorch.frontends.jobs import JobSystem

POOL = 100
TOPICS = ("control_plane.job_events", "control_plane.resource_updates")


def system(document=None):
    return JobSystem(
        {"resource_pools": {"compute_units_total": POOL}, **(document or {})}
    )


def body(job_id, units=3):
    asked = {"compute_units": units, "memory_mb": 0, "bandwidth_mbps": 0}
    job = {"job_id": job_id, "objective": "do", "tadpole_count": units}
    return {**job, "requested_resources": asked}


def held_up(orch, amount=POOL):
    return orch.resources.allocate({"compute_units": amount}, owner="somebody")


def heard(jobs):
    """What is published, as the words and whom they are about."""
    told = []
    for topic in TOPICS:
        jobs.subscribe(topic, told.append)
    return told


def made(orch, job_id):
    return len([*orch.tasks(id=f"job-{job_id}/*")])


def test_a_job_that_waits_has_no_units_and_one_that_begins_has_all():
    jobs = system()
    told, go = heard(jobs), threading.Event()
    jobs.objective("do")(lambda unit, job: go.wait(PATIENCE))
    with jobs.orchestrator() as orch:
        with held_up(orch):
            assigned = jobs.assign_job(body("j"))
            # What waits in the queue for the job is all that there is.
            assert made(orch, "j") == 1
            waiting = jobs.status("j")
        eventually(lambda: list(jobs.status("j")["units"].values()) == ["running"] * 3)
        assert made(orch, "j") == 3
        go.set()
        assert jobs.result("j", PATIENCE) == [True] * 3
        assert orch.wait(PATIENCE)
        units = list(jobs.status("j")["units"])
    for status in (assigned, waiting):
        assert (status["state"], status["units"], status["unit_count"]) == (
            "queued",
            {},
            3,
        )
    (spawned,) = [each for each in told if each["event"] == "spawned"]
    assert spawned["units"] == units


@pytest.mark.parametrize("units", [1, 3])
def test_what_becomes_of_a_job_is_told_in_its_order(units):
    """It is granted something, its units are made, and it has started."""
    jobs = system()
    told = heard(jobs)
    jobs.objective("do")(lambda unit, job: unit.context.workflow.barrier("b", units))
    with jobs.orchestrator() as orch:
        jobs.assign_job(body("j", units))
        jobs.result("j", PATIENCE)
        assert orch.wait(PATIENCE)
    words = [each["event"] for each in told]
    others = ["granted"] * (units - 1)
    first = ["granted", "spawned", "started", *others]
    assert words == [*first, *["released"] * units, "completed"]


@pytest.mark.parametrize("action", ["spawn_tadpoles", "publish_start_event"])
def test_who_wants_no_word_of_a_start_hears_of_the_units_alone(action):
    actions = list(dict.fromkeys(["spawn_tadpoles", action]))
    change = {"state_transitions": {"queued_to_running": {"actions": actions}}}
    jobs = system({"job_lifecycle": change})
    told = heard(jobs)
    jobs.objective("do")(lambda unit, job: None)
    with jobs.orchestrator() as orch:
        jobs.assign_job(body("j"))
        jobs.result("j", PATIENCE)
        assert orch.wait(PATIENCE)
    words = [each["event"] for each in told if "job_id" in each]
    started = ["started"] * (action == "publish_start_event")
    assert words == ["spawned", *started, "completed"]


def test_a_job_that_is_cancelled_while_it_waits_never_has_units():
    jobs = system()
    told, tried = heard(jobs), []
    jobs.objective("do")(lambda unit, job: tried.append(unit.index))
    with jobs.orchestrator() as orch:
        with held_up(orch):
            jobs.assign_job(body("j"))
            assert jobs.cancel("j")
        assert orch.wait(PATIENCE)
        assert made(orch, "j") == 1
        assert jobs.status("j")["state"] == "failed"
        assert jobs.status("j")["rewards"] == {}
    assert not tried
    assert "spawned" not in [each["event"] for each in told]


def test_a_job_that_waits_when_its_life_ends_has_its_units_in_the_next(tmp_path):
    path, whys = tmp_path / "jobs.db", []
    for life in range(3):
        jobs = system()
        told = heard(jobs)
        jobs.objective("do")(lambda unit, job: unit.index)
        with jobs.orchestrator(journal=path, seed=1) as orch:
            if not life:
                orch.hold_starts("until the next incarnation", by="test")
                jobs.assign_job(body("j"))
            elif life == 1:
                assert jobs.status("j")["units"] == {}
                assert jobs.status("j")["unit_count"] == 3
                orch.release_starts("test")
                assert jobs.result("j", PATIENCE) == [0, 1, 2]
                assert orch.wait(PATIENCE)
            whys.append(jobs.status("j")["why"])
            units = list(jobs.status("j")["units"])
            said = [str(orch.explain(f"job-j/{each}")) for each in units]
        words = [each["event"] for each in told if "job_id" in each]
        assert words == (["spawned", "started", "completed"] if life == 1 else [])
    # Why it has what it has is said of each unit, in the life after it, too.
    assert len(units) == 3
    assert "4 threads (untried, chance 1.00), weight 1 (" in whys[0]
    assert whys == whys[:1] * 3
    assert all(whys[0] in each for each in said)


def test_units_that_run_again_make_no_others():
    jobs, tried = system(), []

    @jobs.objective("do")
    def do(unit, job):
        tried.append(unit.index)
        if tried.count(unit.index) == 1:
            raise ValueError(unit.index)
        return unit.index

    with jobs.orchestrator() as orch:
        jobs.assign_job(body("j"))
        assert jobs.result("j", PATIENCE) == [0, 1, 2]
        assert orch.wait(PATIENCE)
        assert jobs.status("j")["state"] == "completed"
    assert sorted(tried) == [0, 0, 1, 1, 2, 2]


# -- threads, while a pool is nearly full --------------------------------------------


def working(jobs):
    """Have units go from checkpoint to checkpoint until they are told to end."""
    go = threading.Event()

    @jobs.objective("do")
    def do(unit, job):
        while not go.wait(0.01):
            unit.checkpoint()
        return unit.threads.granted

    return go


def threads(jobs, job_id="j"):
    return {*jobs.status(job_id)["threads_held"].values()}


def test_units_that_run_give_threads_back_while_a_pool_is_nearly_full():
    jobs = system()
    told, go = heard(jobs), working(jobs)
    with jobs.orchestrator() as orch:
        jobs.assign_job(body("j"))
        eventually(lambda: len(jobs.status("j")["threads_held"]) == 3)
        assert threads(jobs) == {4}
        unit = f"job-j/{next(iter(jobs.status('j')['units']))}"
        with held_up(orch, 0.85 * POOL):
            eventually(lambda: threads(jobs) == {2})
            assert orch.resources.usage()["threads"].used == 6
            said = str(orch.explain(unit))
            why = "2 of 4 threads, while compute_units is nearly full"
            assert f", by the latest grant: {why}." in said
            # One that is made meanwhile asks for half, and keeps it.
            jobs.assign_job(body("k"))
            eventually(lambda: len(jobs.status("k")["threads_held"]) == 4)
            assert threads(jobs, "k") == {2}
        eventually(lambda: threads(jobs) == {4})
        assert "4 threads, as it asked for." in str(orch.explain(unit))
        go.set()
        assert jobs.result("j", PATIENCE) == [4] * 3
        assert jobs.result("k", PATIENCE) == [2] * 4
        assert orch.wait(PATIENCE)
        assert jobs.status("j")["threads_held"] == {}
    changes = [each for each in told if each["event"] == "changed"]
    assert [each["resources"]["threads"] for each in changes] == [2] * 3 + [4] * 3
    assert {each["why"] for each in changes[:3]} == {why}


def test_calls_under_way_end_before_threads_are_given_back():
    """`map` has as many at once as are granted: between two results it gives back."""
    jobs, go = system(), threading.Event()
    lock, now, most = threading.Lock(), set(), []

    @jobs.objective("do")
    def do(unit, job):
        def part(number):
            with lock:
                now.add(number)
                most.append((unit.threads.granted, len(now)))
            go.wait(0.03)
            with lock:
                now.remove(number)

        parts = takewhile(lambda _: not go.is_set(), count())
        for _ in unit.threads.map(part, parts):
            pass

    with jobs.orchestrator() as orch:
        jobs.assign_job(body("j", 1))
        eventually(lambda: (4, 4) in most)
        with held_up(orch, 0.9 * POOL):
            eventually(lambda: threads(jobs) == {2})
            begun = len(most)
            eventually(lambda: len(most) > begun + 20)
            assert {at_once for _, at_once in most[begun + 4 : begun + 20]} <= {1, 2}
        go.set()
        jobs.result("j", PATIENCE)


def test_a_configuration_that_rebalances_nothing_leaves_units_their_threads():
    policy = {"mitigation_actions": ["spawn_additional_tadpoles"]}
    engine = {"classification_engine": {"escalation_policy": policy}}
    jobs = system({"job_intake_pipeline": engine})
    told, go = heard(jobs), working(jobs)
    with jobs.orchestrator() as orch:
        jobs.assign_job(body("j"))
        eventually(lambda: len(jobs.status("j")["threads_held"]) == 3)
        with held_up(orch, 0.85 * POOL):
            eventually(lambda: "saturated" in [each["event"] for each in told])
            jobs.assign_job(body("k"))
            eventually(lambda: len(jobs.status("k")["threads_held"]) == 4)
            # Each has been at many checkpoints, by the time that others have begun.
            assert threads(jobs) == threads(jobs, "k") == {4}
        go.set()
        assert jobs.result("j", PATIENCE) == [4] * 3


def test_a_full_pool_of_threads_is_shared_and_not_halved():
    """If half were given back it would not be full, and all would be taken again."""
    jobs = JobSystem({"resource_pools": {"thread_pool": {"max_threads": 4}}})
    told, seen, go = heard(jobs), [], threading.Event()

    @jobs.objective("do")
    def do(unit, job):
        while not go.wait(0.005):
            unit.checkpoint()
            seen.append(unit.threads.granted)

    with jobs.orchestrator() as orch:
        jobs.assign_job(body("j", 1))
        eventually(lambda: "saturated" in [each["event"] for each in told])
        begun = len(seen)
        eventually(lambda: len(seen) > begun + 20)
        assert set(seen) == {4}
        # Nor were they given back and taken again in between.
        assert "changed" not in [each["event"] for each in told]
        jobs.assign_job(body("k", 1))
        # That asks for half, since the pool is full, and gets its share of the four.
        eventually(lambda: jobs.status("k")["state"] == "running")
        go.set()
        assert orch.wait(PATIENCE)
