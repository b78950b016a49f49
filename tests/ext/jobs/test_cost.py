"""What a job costs, in calls of functions: no load of the machine disturbs that."""

from __future__ import annotations

import sys

from tests.ext.jobs.test_jobs import body, counting

PATIENCE = 60
#: Calls on the thread that assigns a job of one unit: 760, and 1,190 where its status
#: is asked, and each id is made anew.
MOST = 850


def calls_of(act):
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls


def test_what_is_the_same_for_all_jobs_is_not_asked_for_each():
    jobs = counting()
    bodies = [body(f"j{number}", tadpole_count=1) for number in range(120)]
    with jobs.orchestrator(concurrency=2, seed=1) as orch:
        # Held back, so that this thread begins none of them.
        orch.hold_starts("until all are counted", by="test")
        for each in bodies[:20]:
            jobs.assign_job(each)
        counted = calls_of(lambda: [jobs.assign_job(each) for each in bodies[20:]])
        orch.release_starts("test")
        assert orch.wait(PATIENCE)
        assert set(jobs.all_jobs().values()) == {"completed"}
    assert counted / 100 < MOST
