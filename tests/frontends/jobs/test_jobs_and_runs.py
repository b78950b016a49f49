"""What is said of jobs is what the one view of runs says of their runs."""

from __future__ import annotations

import threading
from contextlib import suppress
from random import Random

import pytest
from tests.frontends.jobs.test_jobs import body, counting
from tests.integration.tools import PATIENCE, eventually

from taskorch.errors import TaskorchError
from taskorch.frontends.jobs._book import PREFIX
from taskorch.reading import JournalReader
from taskorch.reading._runs import RunIndex

BAD = ("failed", "cancelled", "blocked")


def said_by(line):
    """The state of a job, from the line of its run."""
    if line.state in ("completed", "mended"):
        return "completed"
    if line.state in BAD:
        return "failed"
    counts = line.counts["running"] + line.counts["retrying"]
    return "running" if counts + line.completed else "queued"


def index_of(path):
    index = RunIndex()
    for event in JournalReader(path).happened():
        index.take(event)
    return index


def compare(path, jobs):
    """Whether list, status and result say what a fold of all events says."""
    lines = {
        run_id.removeprefix(PREFIX): line
        for run_id, line in index_of(path).lines.items()
        if run_id.startswith(PREFIX)
    }
    listed = jobs.all_jobs()
    statuses = {job_id: jobs.status(job_id) for job_id in listed}
    states = {job_id: said_by(line) for job_id, line in lines.items()}
    completed = {
        job_id: [*status["units"].values()].count("completed")
        for job_id, status in statuses.items()
    }
    return (
        listed == states
        and {job_id: each["state"] for job_id, each in statuses.items()} == states
        and completed == {job_id: line.completed for job_id, line in lines.items()}
    )


@pytest.mark.parametrize("seed", range(4))
def test_jobs_are_told_as_their_runs(tmp_path, seed):
    random, path, gate = Random(seed), tmp_path / "jobs.db", threading.Event()
    jobs = counting()

    @jobs.objective("whim")
    def whim(unit, job):
        way = job.metadata["words"][unit.index]
        if way == "waits":
            assert gate.wait(PATIENCE)
        if way == "fails":
            raise ValueError(job.job_id)
        return way

    with jobs.orchestrator(journal=path, seed=seed):
        for number in range(5):
            ways = random.choices(("well", "fails", "waits"), (6, 1, 2), k=4)
            jobs.assign_job(
                body(f"j{number}", objective="whim", metadata={"words": ways})
            )
            if random.random() < 0.3:
                jobs.cancel(f"j{random.randrange(number + 1)}")
            if random.random() < 0.5:
                eventually(lambda: compare(path, jobs))
        eventually(lambda: compare(path, jobs))
        gate.set()
        for job_id in jobs.all_jobs():
            with suppress(ValueError, TaskorchError):
                jobs.result(job_id, PATIENCE)
        eventually(lambda: compare(path, jobs))
        # The result of a job that fails does not wait for all its units.
        eventually(lambda: {*jobs.all_jobs().values()} <= {"completed", "failed"})


def test_a_job_that_was_kept_as_an_interrupt_came_is_known(monkeypatch):
    jobs = counting()
    with jobs.orchestrator() as orch:
        start = orch.workflows.start

        def interrupted(*args, **options):
            start(*args, **options)
            raise KeyboardInterrupt

        monkeypatch.setattr(orch.workflows, "start", interrupted)
        with suppress(KeyboardInterrupt):
            jobs.assign_job(body())
        job_id = body()["job_id"]
        eventually(lambda: jobs.status(job_id)["state"] == "completed")
        assert jobs.assign_job(body())["state"] == "completed"
