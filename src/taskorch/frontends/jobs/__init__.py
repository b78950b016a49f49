"""
Adaptive jobs: a configuration in YAML, and the jobs that it takes.

    jobs = JobSystem.from_yaml("adaptive.yaml")

    @jobs.objective("index-documents")
    def index(unit, job): ...

    with jobs.orchestrator(journal="jobs.db"):
        jobs.assign_job({"job_id": "j1", "objective": "index-documents", …})

A job is a run of a workflow, and each of its *tadpoles* a task of that, with an elastic
request for what the job asks for. What is in the configuration acts, or is refused by
name. What runs when, and with how much, is the orchestrator's decision, and how it
learns is in `adaptive`.

- `_config`: what a configuration says.
- `_contract`: what a job says: its fields, checked all at once, and as a JSON Schema.
- `_system`: the jobs, done by an orchestrator that learns.
- `_unit`: one unit of a job while it runs: its share, its threads, its way to be heard.
- `_record`: what has become of a job: a projection of the facts about its units.
- `_cycles`: the three cycles of self-improvement: a driver.
"""

from __future__ import annotations

from taskorch.frontends.jobs._contract import Job as Job
from taskorch.frontends.jobs._system import JobSystem as JobSystem
from taskorch.frontends.jobs._unit import Unit as Unit

__all__ = ("Job", "JobSystem", "Unit")
