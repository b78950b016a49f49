"""What is said of jobs is what the one view of runs says of their runs."""

from __future__ import annotations

from contextlib import suppress

from tests.api.tools import eventually
from tests.ext.jobs.test_jobs import body, counting


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
