"""When the units of a job are made, and what they hold while a pool is nearly full."""

from __future__ import annotations

import threading
from itertools import count, takewhile

from tests.api.tools import PATIENCE, eventually

from taskorch.ext.jobs import JobSystem

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
