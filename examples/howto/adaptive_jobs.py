from taskorch.ext.jobs import Job, JobSystem, Unit

jobs = JobSystem({"resource_pools": {"compute_units_total": 256}})


@jobs.objective("index-pages")
def index(unit: Unit, job: Job) -> int:
    words = 0
    for parts in unit.threads.map(str.split, unit.share(job.metadata["pages"])):
        words += len(parts)
        unit.tell({"words": words})
    return words


with jobs.orchestrator() as orch:
    jobs.assign_job(
        {
            "job_id": "night-1",
            "objective": "index-pages",
            "tadpole_count": 2,
            "requested_resources": {
                "compute_units": 16,
                "memory_mb": 0,
                "bandwidth_mbps": 0,
            },
            "metadata": {"pages": ["to be", "or not", "to be"]},
        }
    )
    print(sum(jobs.result("night-1")))  # 6
    orch.wait()
    jobs.reward("night-1", 0.4)
    orch.wait()
    print(jobs.learned())
