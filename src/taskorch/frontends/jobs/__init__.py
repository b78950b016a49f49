"""
Adaptive jobs: a configuration in YAML, and the jobs that it takes.

    jobs = JobSystem.from_yaml("adaptive.yaml")

    @jobs.objective("index-documents")
    def index(unit, job): ...

    with jobs.orchestrator(journal="jobs.db"):
        jobs.assign_job({"job_id": "j1", "objective": "index-documents", …})

A job is a run of a workflow, and each of its *tadpoles* a task of that, with an elastic
request for what the job asks for. What is in the configuration acts, or is refused by
name.
"""

from __future__ import annotations

from taskorch.frontends.jobs._contract import Job as Job
from taskorch.frontends.jobs._system import JobSystem as JobSystem
from taskorch.frontends.jobs._unit import Unit as Unit

__all__ = ("Job", "JobSystem", "Unit")
