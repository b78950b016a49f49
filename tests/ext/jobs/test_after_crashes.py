"""A process with jobs is killed at every step: what follows from them is done once."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from taskorch import SqliteJournal
from taskorch.events import TaskCompleted, TaskRewarded, TaskSubmitted
from taskorch.ext.jobs import JobSystem
from taskorch.testing import for_every_crash_point

PATIENCE = 120
#: How many units each job has and what they do, its signal, and its rewards in the end.
STORIES = {
    "well": (1, "work", 0.5, {"job_payload.reward_signal": 0.5}),
    "once": (2, "fail-once", 0.0, {"job_payload.reward_signal": 0.0, "user": 0.25}),
    "ever": (1, "fail", 0.5, {"failure": -1.0}),
}


def system(folder):
    jobs = JobSystem({})

    def work(unit, job):
        return unit.index

    def fail_once(unit, job):
        mark = folder / f"tried-{unit.id}"
        if not unit.context.task_id.endswith("~2"):
            mark.touch()
            msg = "not yet"
            raise ValueError(msg)
        return unit.index

    def fail(unit, job):
        msg = "never"
        raise ValueError(msg)

    for name, function in {"work": work, "fail-once": fail_once, "fail": fail}.items():
        jobs.objective(name)(function)
    return jobs


def body(job_id, units, objective, signal):
    asked = {"compute_units": 1, "memory_mb": 1, "bandwidth_mbps": 1}
    return {
        "job_id": job_id,
        "objective": objective,
        "tadpole_count": units,
        "requested_resources": asked,
        "reward_signal": signal,
    }


def workload(journal: Path) -> None:
    jobs = system(journal.parent)
    with jobs.orchestrator(journal=journal, durability="process") as orch:
        for job_id, (units, objective, signal, _) in STORIES.items():
            jobs.assign_job(body(job_id, units, objective, signal))
        end = time.monotonic() + PATIENCE
        while any(
            jobs.status(job_id)["rewards"] != rewards
            for job_id, (*_, rewards) in STORIES.items()
        ):
            assert time.monotonic() < end, [jobs.status(one) for one in STORIES]
            assert orch.wait(PATIENCE)
            if jobs.status("once")["state"] == "completed":
                jobs.reward("once", 0.25)
            time.sleep(0.005)


def check(journal: Path) -> None:
    events = [event for event, _ in SqliteJournal(journal).read()]
    words = Counter(
        (event.task_id.partition("~")[0], event.source, event.value)
        for event in events
        if type(event) is TaskRewarded
    )
    # Each source has its word once, for each of the units.
    assert set(words.values()) == {1}, words
    of_jobs = Counter((word[0].partition("/")[0], *word[1:]) for word in words)
    assert of_jobs == {
        (f"job-{job_id}", source, value): units
        for job_id, (units, _, _, rewards) in STORIES.items()
        for source, value in rewards.items()
    }
    # Each unit that has failed was run again, once.
    again = [
        event.task_id
        for event in events
        if type(event) is TaskSubmitted and "~" in event.task_id
    ]
    assert sorted(one[:8] for one in again) == ["job-ever"] + ["job-once"] * 2
    assert all(one.endswith("~2") for one in again)
    completed = [event.task_id for event in events if type(event) is TaskCompleted]
    assert len(completed) == len(set(completed)) == 3


@pytest.mark.slow("kills at every point")
@pytest.mark.timeout(900)
def test_what_follows_from_a_job_is_done_once_wherever_the_process_dies():
    seen = for_every_crash_point(workload, check=check, timeout=2 * PATIENCE)
    assert {"commit", "kept"} <= set(seen.names)
