"""
What is said of a job: why it failed, why it has what it has; in later incarnations as
well.
"""

from __future__ import annotations

import pytest

from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.jobs import JobSystem
from taskorch.ext.service import create_app, new_token, serve


def body(name, units=1):
    asked = {"compute_units": 0, "memory_mb": 0, "bandwidth_mbps": 0}
    job = {"job_id": name, "objective": "x", "tadpole_count": units}
    return {**job, "requested_resources": asked}


def system(fails=(0,), **options):
    """Jobs of which the units *fails* fail in all their runs."""
    jobs = JobSystem({}, **options)

    @jobs.objective("x")
    def do(unit, job):
        if unit.index in fails:
            message = "the page has no title"
            raise ValueError(message)
        return unit.index

    return jobs


def test_a_status_says_what_each_failed_unit_raised_in_later_incarnations_too(tmp_path):
    told = []
    for incarnation in range(2):
        jobs = system()
        with jobs.orchestrator(journal=tmp_path / "jobs.db") as orch:
            if not incarnation:
                jobs.assign_job(body("a", 2))
                orch.wait()
            told.append(jobs.status("a"))
    units = list(told[0]["units"])
    assert told[0]["errors"] == {units[0]: "ValueError: the page has no title"}
    assert told[1] == {**told[0], "metrics": told[1]["metrics"]}


def test_each_front_end_says_what_failed_units_raised(monkeypatch, capsys):
    jobs, token = system(), new_token()
    monkeypatch.setenv("TASKORCH_TOKEN", token)
    with (
        jobs.orchestrator() as orch,
        serve(create_app(orch, token=token, jobs=jobs), port=0) as server,
    ):
        jobs.assign_job(body("a"))
        orch.wait()
        errors = jobs.status("a")["errors"]
        client = Client(server.url, token=token)
        for action in ("job_status", "job_result"):
            assert client.command(action, job_id="a")["errors"] == errors
        ((unit, error),) = errors.items()
        for verb in ("status", "result"):
            capsys.readouterr()
            main(["jobs", verb, server.url, "a"])
            assert f"unit {unit}: {error}\n" in capsys.readouterr().out


@pytest.mark.parametrize("fails", [(0,), ()])
def test_the_latency_of_a_job_is_the_same_in_the_next_incarnation(tmp_path, fails):
    """Also of one of which a unit was run again: it began with the first."""
    path, latencies, means = tmp_path / "jobs.db", [], []
    for incarnation in range(3):
        jobs = system(fails)
        with jobs.orchestrator(journal=path) as orch:
            if not incarnation:
                jobs.assign_job(body("a"))
                orch.wait()
            metrics = jobs.status("a")["metrics"]
            latencies.append(metrics["job_latency_seconds"])
            means.append(jobs.metrics()["job_latency_seconds"])
    assert latencies[0] > 0
    assert latencies == means == [latencies[0]] * 3


def test_jobs_learn_by_the_algorithm_that_is_named():
    """UCB1 tries each once first; what Thompson draws may be the same twice."""
    tried = {}
    for algorithm in ("thompson", "ucb1"):
        for seed in range(4):
            jobs = system((), algorithm=algorithm, floor=1.0)
            with jobs.orchestrator(seed=seed) as orch:
                for name in ("a", "b", "c"):
                    jobs.assign_job(body(name))
                    jobs.result(name, 30)
                    orch.wait()
                    jobs.reward(name, 0.5)
                    orch.wait()
                threads = {jobs.status(name)["threads"] for name in ("a", "b", "c")}
            tried.setdefault(algorithm, []).append(len(threads))
    assert tried["ucb1"] == [3] * 4
    assert min(tried["thompson"]) < 3
