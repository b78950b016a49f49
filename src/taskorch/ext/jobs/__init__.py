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
learns is in `learning`.

- `_config`: what a configuration says.
- `_contract`: what a job says: its fields, checked all at once, and as a JSON Schema.
- `_system`: the jobs, done by an orchestrator that learns: what programs call.
- `_aftermath`: what follows from events about units: news, rewards, second runs.
- `_improvement`, `_cycles`: what the three cycles of self-improvement do; their driver.
- `_choices`, `_scores`: what is chosen for a job, learnt from rewards; its urgency.
- `_book`, `_record`: the jobs that there are; what has become of one, of its events.
- `_unit`, `_tasks`: one unit of a job while it runs; the tasks that the units are.
- `_hearing`: the channel on which units tell something.
- `_news`, `_ledger`, `_metrics`: who is told; what was granted; what was measured.
- `_policies`: the queue and the router of the orchestrator.
"""

from __future__ import annotations

from taskorch.ext.jobs._contract import Job as Job
from taskorch.ext.jobs._system import JobSystem as JobSystem
from taskorch.ext.jobs._unit import Unit as Unit

__all__ = ("Job", "JobSystem", "Unit")
