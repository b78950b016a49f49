"""Jobs as a configuration describes them: every line of it acts, or is refused."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import textwrap
import threading
from functools import partial
from pathlib import Path
from random import Random

import pytest
import yaml
from tests.api.tools import PATIENCE

from taskorch import Task, TaskOrchestrator
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    InvalidTransitionError,
    UnknownTaskError,
)
from taskorch.events import ExtensionKept
from taskorch.ext.jobs import JobSystem
from taskorch.ext.jobs._config import REQUIRED
from taskorch.testing import Simulation

EXAMPLE = Path(__file__).with_name("adaptive.yaml")


def body(job_id="j1", **more):
    asked = {"compute_units": 8, "memory_mb": 1024, "bandwidth_mbps": 400}
    return {
        "job_id": job_id,
        "objective": "count",
        "tadpole_count": 4,
        "requested_resources": asked,
        "metadata": {"words": ["a", "bb", "ccc", "dddd", "eeeee"]},
        **more,
    }


def counting(document=None):
    jobs = JobSystem(document or yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")))

    @jobs.objective("count")
    def count(unit, job):
        found = sum(unit.threads.map(len, unit.share(job.metadata["words"])))
        unit.tell({"done": found})
        unit.checkpoint()
        return found

    return jobs


def test_a_job_is_done_by_units_that_share_it():
    jobs = counting()
    told, published = [], []
    jobs.hook("meta_feedback", told.append)
    jobs.hook("metadata_pipeline", published.append)
    jobs.subscribe("control_plane.job_events", published.append)
    with jobs.orchestrator(seed=1) as orch:
        assert jobs.assign_job(body(reward_signal=0.5))["objective"] == "count"
        assert sum(jobs.result("j1")) == 15
        orch.wait()
        status = jobs.status("j1")
        assert status["state"] == "completed"
        assert len(status["units"]) == 4
        assert all(unit[14] == "4" for unit in status["units"])
        assert {one["message"]["done"] for one in told} <= {1, 2, 3, 4, 6}
        kinds = [one.get("event") or one.get("kind") for one in published]
        assert kinds == ["spawned", "started", "completed", "completed"]
        metrics = status["metrics"]
        assert metrics["job_latency_seconds"] > 0
        assert metrics["compute_efficiency_ratio"] == 1
        assert 0 <= metrics["thread_utilisation"] <= 1
        assert 0 < metrics["binary_channel_entropy"] <= 8
        held = [one["resources"] for one in jobs.ledger() if one["event"] == "granted"]
        assert all(one["bandwidth_mbps"] == 100 for one in held)
        assert jobs.learned()["thread_pool_configuration"][0].mean == 0.5
        jobs.reset()
        assert jobs.learned()["thread_pool_configuration"] == ()


def test_units_of_a_job_meet():
    jobs = counting()

    @jobs.objective("meet")
    def meet(unit, job):
        return unit.context.workflow.barrier("read", unit.count)

    with jobs.orchestrator(seed=1):
        jobs.assign_job(body(objective="meet"))
        assert sorted(jobs.result("j1")) == [0, 1, 2, 3]


@pytest.mark.parametrize("fails", [{1}, {0, 1, 2, 3}])
def test_units_that_fail_once_after_their_meeting_run_again(fails):
    """The others do not come twice: the meeting that was held counts."""
    jobs, left = counting(), set(fails)

    @jobs.objective("meet")
    def meet(unit, job):
        place = unit.context.workflow.barrier("read", unit.count)
        if unit.index in left:
            left.remove(unit.index)
            raise OSError("once")
        return place

    with jobs.orchestrator(seed=1):
        jobs.assign_job(body(objective="meet"))
        assert sorted(jobs.result("j1", PATIENCE)) == [0, 1, 2, 3]


def test_the_id_of_a_job_is_its_identity_in_later_incarnations_too(tmp_path):
    path = tmp_path / "jobs.db"
    jobs = counting()
    with jobs.orchestrator(journal=path):
        jobs.assign_job(body())
        jobs.result("j1")
    again = counting()
    with again.orchestrator(journal=path) as orch:
        assert again.assign_job(body())["state"] == "completed"
        assert sum(again.result("j1")) == 15
        with pytest.raises(DuplicateTaskError, match="tadpole_count"):
            again.assign_job(body(tadpole_count=5))
        assert again.reward("j1", 0.25)
        assert not again.reward("j1", 0.75)
        assert again.reward("j1", 0.75, source="another")
        for bad in (2, float("nan"), True, "1"):
            with pytest.raises(InvalidTaskError, match="-1 to 1"):
                again.reward("j1", bad)
        orch.wait()
        for ask in (again.status, again.result, lambda job: again.reward(job, 1)):
            with pytest.raises(UnknownTaskError):
                ask("nobody")


def test_what_was_learnt_and_said_outlives_a_crash(tmp_path):
    """
    The incarnation is a process that dies without a word; the next one knows the same.
    """
    program = tmp_path / "life.py"
    program.write_text(
        textwrap.dedent(f"""
        import os
        from tests.ext.jobs.test_jobs import body, counting

        jobs = counting()
        with jobs.orchestrator(journal={str(tmp_path / "jobs.db")!r}) as orch:
            for name in ("j1", "j2", "j3"):
                signal = dict(reward_signal=0.5) if name == "j1" else dict()
                jobs.assign_job(body(name, **signal))
                jobs.result(name)
            orch.wait()
            jobs.reward("j2", 0.25)
            orch.wait()
            print(jobs.learned()["thread_pool_configuration"], flush=True)
            print(jobs.learned()["resource_allocation_weights"], flush=True)
            os._exit(1)
        """)
    )
    died = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": "."},
    )
    known = died.stdout.splitlines()
    assert died.returncode == 1, died.stderr
    jobs = counting()
    with jobs.orchestrator(journal=tmp_path / "jobs.db") as orch:
        assert str(jobs.learned()["thread_pool_configuration"]) == known[0]
        assert str(jobs.learned()["resource_allocation_weights"]) == known[1]
        assert jobs.status("j2")["rewards"] == {"user": 0.25}
        assert jobs.status("j1")["rewards"] == {"job_payload.reward_signal": 0.5}
        assert jobs.status("j1")["metrics"]["job_latency_seconds"] > 0
        assert not jobs.reward("j2", 0.75)
        # One of an earlier incarnation, and late: what was picked for it stands in the
        # journal.
        assert jobs.reward("j3", 1)
        orch.wait()
        (one,) = jobs.learned()["thread_pool_configuration"]
        assert one.pulls > 2
        assert jobs.reward("j3", -1, source="another")
        orch.wait()
        assert jobs.learned()["thread_pool_configuration"] == (one,)


def test_jobs_that_wait_follow_what_is_learnt_meanwhile():
    jobs = counting(
        {
            "resource_pools": {"compute_units_total": 256},
            "self_improvement": {
                "reward_processing": {
                    "adaptation_targets": ["thread_pool_configuration"]
                },
                "optimisation_hooks": {"micro_cycle": "adjust_thread_weights"},
            },
        }
    )
    asked = {"compute_units": 1, "memory_mb": 0, "bandwidth_mbps": 0}
    with jobs.orchestrator(concurrency=1, seed=1) as orch:
        go = threading.Event()
        orch.agent("door", capabilities={"door"})(lambda task, context: go.wait())
        door = orch.submit_task(Task("door", requires=["door"]))
        names = [f"j{number}" for number in range(30)]
        for name in names:
            jobs.assign_job(body(name, requested_resources=asked))
        # Nothing is known: a fifth of all may be tried with others, from the first on.
        threads = [jobs.status(name)["threads"] for name in names]
        assert threads[:4] == [4] * 4
        assert 2 <= len(threads) - threads.count(4) <= 6
        # The usual number does badly elsewhere, and so does half of it.
        part = jobs._choices.threads
        for number in range(40):
            picked = part.pick(f"other-{number}", "count", Random(number))
            part.give(f"other-{number}", 1.0 if picked == 8 else -1.0)
        cycles = copy.deepcopy(jobs.cycles)
        assert cycles.tick(None, 0.0) == ([], 1.0)
        for command in cycles.tick(None, 1.0)[0]:
            command.apply(orch)
        assert {jobs.status(name)["threads"] for name in names} >= {8}
        go.set()
        door.result()
        for name in names:
            assert sum(jobs.result(name)) == 15
        orch.wait()


def test_the_cycles_run_in_virtual_time():
    jobs = counting()
    sim = Simulation(seed=1)
    sim.drivers.add(jobs.cycles)
    for number in range(2):
        jobs._choices.threads.pick(f"t{number}", "count", Random(1))
    for number, second in enumerate((4, 24)):
        sim.at(second, partial(jobs._choices.threads.give, f"t{number}", 0.5))
    sim.run(until=100)
    kept = [one for one in sim.events if isinstance(one, ExtensionKept)]
    diary = [one.at for one in kept if one.key == "agent_state.metadata_diary"]
    # Each ten seconds, if something was learnt.
    assert [round(at - sim.events[0].at) for at in diary] == [10, 30]
    assert {one.extension for one in kept} == {
        "adaptive_jobs",
        "population_state.judgement_snapshots",
    }


def test_a_job_that_fails_is_run_again_once():
    jobs = JobSystem({})
    tried = []

    @jobs.objective("fail")
    def fail(unit, job):
        tried.append(unit.id)
        if len(tried) < job.metadata["from"]:
            msg = "not yet"
            raise ValueError(msg)
        return len(tried)

    failed = []
    jobs.subscribe("control_plane.job_events", failed.append)
    with jobs.orchestrator() as orch:
        one = {**body(objective="fail", tadpole_count=1), "metadata": {"from": 2}}
        jobs.assign_job(one)
        orch.wait()
        assert jobs.status("j1")["state"] == "completed"
        assert jobs.status("j1")["recoveries"] == 1
        assert [one["event"] for one in failed if one["event"] == "failed"]
        jobs.assign_job({**one, "job_id": "j2", "metadata": {"from": 99}})
        orch.wait()
        assert jobs.status("j2")["state"] == "failed"
    assert len(tried) == 4


def test_all_faults_of_a_job_are_told_at_once():
    jobs = counting()
    with jobs.orchestrator():
        with pytest.raises(InvalidTaskError) as caught:
            jobs.assign_job({"job_id": "a/b", "objektive": "count"})
        for part in (*REQUIRED[1:], "did you mean 'objective'", "no / may be"):
            assert part in str(caught.value)
        for bad, part in [
            ({"tadpole_count": 10**9}, "1 to 10,000"),
            ({"tadpole_count": 0}, "1 to 10,000"),
            ({"tadpole_count": 1.5}, "a whole number"),
            ({"reward_signal": float("nan")}, "-1 to 1"),
            ({"expected_duration_seconds": 0}, "above 0"),
            ({"requested_resources": {"compute_unit": 1}}, "mean 'compute_units'"),
            ({"requested_resources": 4}, "a mapping"),
            ({"metadata": 4}, "a mapping"),
            ({"objective": "cuont"}, "did you mean count"),
            ({"worker_id": "generalst"}, "did you mean generalist"),
        ]:
            with pytest.raises(InvalidTaskError, match=part):
                jobs.assign_job(body(**bad))
        huge = {"compute_units": 300, "memory_mb": 1, "bandwidth_mbps": 1}
        with pytest.raises(InvalidTaskError, match="there is 256"):
            jobs.assign_job(body(requested_resources=huge))
        with pytest.raises(InvalidTaskError, match="a mapping"):
            jobs.assign_job([])


def test_a_hook_may_refuse_a_job_and_hooks_are_listed():
    jobs = counting()
    assert set(jobs.hooks().values()) == {"unbound"}
    jobs.hook("pre_spawn_judgement", lambda job: f"no {job.job_id} today")
    assert list(jobs.hooks().values()).count("bound") == 1
    with jobs.orchestrator():
        with pytest.raises(InvalidTaskError, match="no j1 today"):
            jobs.assign_job(body())
        with pytest.raises(UnknownTaskError):
            jobs.status("j1")
    with pytest.raises(InvalidTaskError, match="did you mean metadata_pipeline"):
        jobs.hook("metadata_pipelin", print)
    with pytest.raises(InvalidTaskError, match="is no topic"):
        jobs.subscribe("job_events", print)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"resource_pool": {}}, "no 'resource_pool' here; did you mean"),
        ({"resource_pools": {"compute_units_total": 0}}, "from 1"),
        ({"resource_pools": []}, "a mapping is needed"),
        ({"resource_pools": {"thread_pool": {"adaptive_throttling": "on"}}}, "enabled"),
        (
            {
                "resource_pools": {
                    "compute_units_total": 1,
                    "allocation_algorithm": {"min_chunk": {"compute_units": 2}},
                }
            },
            "min_chunk.compute_units: a chunk of it is more than there is",
        ),
        ({"job_lifecycle": {"states": ["queued", "finished"]}}, "not 'finished'"),
        ({"job_lifecycle": {"states": ["queued"]}}, "completed cannot be left out"),
        (
            {
                "job_lifecycle": {
                    "state_transitions": {
                        "running_to_failed": {"actions": ["publish_failure_event"]}
                    }
                }
            },
            "release_resources cannot be left out",
        ),
        (
            {
                "job_lifecycle": {
                    "state_transitions": {
                        "queued_to_running": {"actions": ["spawn_tadpole"]}
                    }
                }
            },
            "did you mean 'spawn_tadpoles'",
        ),
        (
            {
                "tadpole_execution": {
                    "multithreading": {
                        "default_threads_per_tadpole": 8,
                        "max_threads_per_tadpole": 4,
                    }
                }
            },
            "above max_threads_per_tadpole",
        ),
        ([], "a mapping is needed"),
    ],
)
def test_what_does_not_act_is_refused_by_name(change, part):
    with pytest.raises(InvalidTaskError, match=part):
        JobSystem(change)


def test_under_pressure_there_are_more_units_with_fewer_threads():
    jobs = counting()
    told = []
    jobs.subscribe("control_plane.job_events", told.append)
    with jobs.orchestrator() as orch:
        usage = orch.resources.usage()
        part = int(usage["compute_units"].total * 0.9)
        with orch.resources.allocate({"compute_units": part}, owner="somebody"):
            orch.wait()
            assert jobs.pressure() > 0.85
            status = jobs.assign_job(body("pressed"))
            assert status["unit_count"] == 5
            assert status["threads"] == 2
        jobs.result("pressed")
        orch.wait()
        assert jobs.assign_job(body("relieved"))["unit_count"] == 4
    (mitigated,) = [one for one in told if one["event"] == "mitigated"]
    pools = ["compute_units"]
    assert mitigated == {
        "event": "mitigated",
        "job_id": "pressed",
        "pools": pools,
        "units": 5,
        "threads": 2,
    }


@pytest.mark.parametrize(
    ("asked", "units"), [(1, 2), (2, 3), (4, 5), (5, 7), (8, 10), (40, 50)]
)
def test_each_job_has_a_quarter_more_units_under_pressure(asked, units):
    """Also the smallest; and each unit has at least one thread."""
    jobs = counting({"resource_pools": {"compute_units_total": 64}})
    with jobs.orchestrator() as orch:
        with orch.resources.allocate({"compute_units": 60}, owner="somebody"):
            orch.wait()
            status = jobs.assign_job(body("pressed", tadpole_count=asked))
            assert status["unit_count"] == units
            assert status["threads"] >= 1
        assert sum(jobs.result("pressed")) == 15


def test_a_system_has_one_orchestrator():
    jobs = counting()
    with pytest.raises(InvalidTransitionError, match="no orchestrator"):
        jobs.assign_job(body())
    with pytest.raises(InvalidTaskError, match="queue: the configuration"):
        jobs.orchestrator(queue=None)
    jobs.orchestrator()
    with pytest.raises(InvalidTransitionError, match="already"):
        jobs.orchestrator()
    with pytest.raises(InvalidTaskError, match="already"):
        jobs.objective("count")(print)
    assert jobs.schema()["properties"]["tadpole_count"]["minimum"] == 1
    assert jobs.lifecycle()[0][1] == "resource_allocation_success"


@pytest.mark.parametrize("document", ["x", [], {"a": 1}, 1.5])
def test_documents_that_are_none_of_jobs_are_left_out(document, tmp_path):
    """Whatever a program writes under the name of jobs."""
    path, diary = tmp_path / "jobs.db", "agent_state.metadata_diary"
    with TaskOrchestrator(journal=path) as orch:
        orch.kept("adaptive_jobs").update({"followed": document, diary: 3})
    jobs = JobSystem({})
    with jobs.orchestrator(journal=path):
        assert jobs.diary() is None
