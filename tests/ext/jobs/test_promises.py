"""What the page of adaptive jobs promises of rewards, recovery, hooks and history."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from tests.api.tools import eventually
from tests.ext.jobs.test_jobs import EXAMPLE, body, counting

from taskorch import Task
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    UnknownTaskError,
    ValidationFailedError,
)
from taskorch.events import TaskRewarded
from taskorch.ext.client import Client
from taskorch.ext.command_line import main
from taskorch.ext.jobs import JobSystem
from taskorch.ext.learning import Learned
from taskorch.ext.service import create_app, new_token, serve

PATIENCE = 60


def small(document=None):
    return JobSystem({} if document is None else document)


def one(job_id, units=1, **more):
    return {**body(job_id, objective="do", tadpole_count=units), **more}


@pytest.mark.parametrize("order", [("bad", "good"), ("good", "bad")])
def test_reward_decides_the_specialisation_whichever_is_registered_first(order):
    for seed in range(2):
        jobs = small()
        for kind in order:
            jobs.objective("do", specialization=kind)(lambda unit, job, kind=kind: kind)
        with jobs.orchestrator(seed=seed) as orch:
            kinds = []
            for number in range(80):
                jobs.assign_job(one(f"j{number}"))
                kinds += jobs.result(f"j{number}", PATIENCE)
                orch.wait(PATIENCE)
                jobs.reward(f"j{number}", 1.0 if kinds[-1] == "good" else -1.0)
            orch.wait(PATIENCE)
            learnt = {
                each.arm: each for each in jobs.learned()["specialization_selection"]
            }
            assert jobs.status("j0")["specialization"] == kinds[0]
        assert kinds[-40:].count("good") >= 34
        assert learnt["good"].mean == 1
        assert learnt["good"].context == "do"


def test_without_a_reward_no_specialisation_wins():
    jobs = small()
    for kind in ("a", "b"):
        jobs.objective("do", specialization=kind)(lambda unit, job, kind=kind: kind)
    with jobs.orchestrator(seed=3):
        for number in range(60):
            jobs.assign_job(one(f"j{number}"))
        kinds = [jobs.result(f"j{number}", PATIENCE)[0] for number in range(60)]
    assert 10 <= kinds.count("a") <= 50


def test_a_specialisation_may_come_later_and_what_was_learnt_stays():
    jobs = small()
    for kind in ("a", "b"):
        jobs.objective("do", specialization=kind)(lambda unit, job, kind=kind: kind)
    with jobs.orchestrator(seed=1) as orch:
        for number in range(5):
            jobs.assign_job(one(f"j{number}", reward_signal=0.5))
            jobs.result(f"j{number}", PATIENCE)
        orch.wait(PATIENCE)
        before = sum(each.pulls for each in jobs.learned()["specialization_selection"])
        jobs.objective("do", specialization="c")(lambda unit, job: "c")
        after = sum(each.pulls for each in jobs.learned()["specialization_selection"])
        assert before == pytest.approx(after, abs=0.01) == pytest.approx(5, abs=0.2)
        kinds = set()
        for number in range(60):
            jobs.assign_job(one(f"k{number}"))
            kinds |= set(jobs.result(f"k{number}", PATIENCE))
        assert "c" in kinds


def test_a_second_specialisation_that_comes_while_jobs_are_done_is_learnt_of(tmp_path):
    """
    At first there was nothing to choose; a later incarnation knows what was learnt.
    """
    path = tmp_path / "jobs.db"
    jobs = small()
    jobs.objective("do", specialization="bad")(lambda unit, job: "bad")
    with jobs.orchestrator(journal=path, seed=1) as orch:
        jobs.assign_job(one("j"))
        assert jobs.result("j", PATIENCE) == ["bad"]
        jobs.objective("do", specialization="good")(lambda unit, job: "good")
        kinds = []
        for number in range(40):
            jobs.assign_job(one(f"j{number}"))
            kinds += jobs.result(f"j{number}", PATIENCE)
            orch.wait(PATIENCE)
            jobs.reward(f"j{number}", 1.0 if kinds[-1] == "good" else -1.0)
        orch.wait(PATIENCE)
        learnt = jobs.learned()["specialization_selection"]
    assert kinds[-20:].count("good") >= 16
    assert {each.arm: each.mean for each in learnt} == {"bad": -1, "good": 1}
    again = small()
    again.objective("do", specialization="bad")(lambda unit, job: "bad")
    with again.orchestrator(journal=path):
        again.objective("do", specialization="good")(lambda unit, job: "good")
        assert again.learned()["specialization_selection"] == learnt
        again.reset()
    third = small()
    third.objective("do", specialization="bad")(lambda unit, job: "bad")
    with third.orchestrator(journal=path):
        third.objective("do", specialization="good")(lambda unit, job: "good")
        assert third.learned()["specialization_selection"] == ()


def test_a_job_that_is_under_way_when_another_specialisation_comes_is_learnt_from():
    targets = {"persistence_targets": ["agent_state.metadata_diary"]}
    jobs = small({"self_improvement": {"metadata_capture": targets}})
    for kind in ("a", "b"):
        jobs.objective("do", specialization=kind)(lambda unit, job, kind=kind: kind)
    with jobs.orchestrator(seed=1) as orch:
        jobs.assign_job(one("j"))
        (kind,) = jobs.result("j", PATIENCE)
        orch.wait(PATIENCE)
        jobs.objective("do", specialization="c")(lambda unit, job: "c")
        jobs.reward("j", 0.5)
        orch.wait(PATIENCE)
        (learnt,) = jobs.learned()["specialization_selection"]
        assert (learnt.arm, learnt.mean) == (kind, 0.5)


def test_a_worker_id_is_a_specialisation():
    jobs = small()
    for kind in ("a", "b"):
        jobs.objective("do", specialization=kind)(lambda unit, job, kind=kind: kind)
    with jobs.orchestrator():
        for number in range(8):
            jobs.assign_job(one(f"j{number}", worker_id="b"))
        assert {jobs.result(f"j{n}", PATIENCE)[0] for n in range(8)} == {"b"}
        with pytest.raises(InvalidTaskError, match="no specialisation c: there are "):
            jobs.assign_job(one("j9", worker_id="c"))


@pytest.mark.parametrize("units", [1, 2, 4])
@pytest.mark.parametrize("together", [True, False])
def test_each_unit_that_fails_is_run_again_once(units, together):
    jobs = small()
    begun = threading.Barrier(units)
    tried = []

    @jobs.objective("do")
    def do(unit, job):
        first = (unit.index, 1) not in tried
        tried.append((unit.index, 1 if first else 2))
        if first:
            if together:
                begun.wait(PATIENCE)
            else:
                time.sleep(0.02 * unit.index)
            msg = "the net is down"
            raise ConnectionError(msg)
        return unit.index

    with jobs.orchestrator() as orch:
        jobs.assign_job(one("j", units, reward_signal=0.25))
        while jobs.status("j")["state"] != "completed":
            assert orch.wait(PATIENCE)
            assert "failure" not in jobs.status("j")["rewards"]
        orch.wait(PATIENCE)
        status = jobs.status("j")
    assert sorted(tried) == sorted((n, again) for n in range(units) for again in (1, 2))
    assert status["recoveries"] == units
    assert status["rewards"] == {"job_payload.reward_signal": 0.25}


def failing_first(jobs, times):
    tried = Counter()

    @jobs.objective("do")
    def do(unit, job):
        tried[unit.index] += 1
        if tried[unit.index] <= times:
            msg = f"try {tried[unit.index]}"
            raise ConnectionError(msg)
        return unit.index


@pytest.mark.parametrize("is_heard", [True, False])
def test_whoever_waits_for_a_job_waits_for_the_second_try_of_each_unit(is_heard):
    jobs, hold = small(), threading.Event()
    failing_first(jobs, 1)
    with jobs.orchestrator() as orch:

        def late(_event):
            hold.wait(PATIENCE)

        if not is_heard:
            # Who hears of a failure does so only after the test.
            orch.signals.task_started.connect(late)
        jobs.assign_job(one("j", 3))
        assert jobs.result("j", PATIENCE) == [0, 1, 2]
        hold.set()
        orch.wait(PATIENCE)
        assert jobs.status("j")["state"] == "completed"
        assert jobs.status("j")["recoveries"] == 3


def test_a_unit_that_a_person_runs_again_is_no_recovery():
    """Only what follows a failure is: this one had completed."""
    jobs = small()
    jobs.objective("do")(lambda unit, job: unit.index)
    with jobs.orchestrator() as orch:
        jobs.assign_job(one("j", 2))
        assert jobs.result("j", PATIENCE) == [0, 1]
        unit = next(iter(jobs.status("j")["units"]))
        orch.rerun_task(f"job-j/{unit}").result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert jobs.status("j")["recoveries"] == 0
        assert jobs.status("j")["state"] == "completed"


def test_of_many_who_wait_one_runs_a_unit_again():
    jobs = small()
    failing_first(jobs, 1)
    with jobs.orchestrator() as orch:
        for number in range(10):
            jobs.assign_job(one(f"j{number}", 3))
            with ThreadPoolExecutor(16) as pool:
                results = pool.map(
                    lambda _, name=f"j{number}": jobs.result(name, PATIENCE), range(16)
                )
                assert [*results] == [[0, 1, 2]] * 16
        orch.wait(PATIENCE)
        runs = Counter(s.task_id.partition("~")[2] for s in orch.tasks(id="job-j*"))
        assert set(runs) <= {"", "2"}


def test_whoever_waits_for_a_job_is_told_what_the_second_try_raised():
    jobs = small()
    failing_first(jobs, 2)
    with jobs.orchestrator():
        jobs.assign_job(one("j"))
        with pytest.raises(ConnectionError, match="try 2"):
            jobs.result("j", PATIENCE)


def test_a_configuration_without_recovery_has_none():
    actions = ["release_resources", "publish_failure_event"]
    jobs = small(
        {
            "job_lifecycle": {
                "state_transitions": {"running_to_failed": {"actions": actions}}
            }
        }
    )
    jobs.objective("do")(lambda unit, job: 1 / 0)
    with jobs.orchestrator() as orch:
        jobs.assign_job(one("j"))
        with pytest.raises(ZeroDivisionError):
            jobs.result("j", PATIENCE)
        assert orch.wait(PATIENCE)
        assert jobs.status("j")["recoveries"] == 0
        assert jobs.status("j")["rewards"] == {"failure": -1.0}


def test_a_reader_that_raises_is_alone_with_its_fault(caplog):
    jobs = small()
    tried, heard = [], []

    @jobs.objective("do")
    def do(unit, job):
        tried.append(job.job_id)
        if tried.count("once") == 1 and job.job_id == "once":
            msg = "once"
            raise OSError(msg)

    jobs.subscribe("control_plane.job_events", lambda message: 1 / 0)
    jobs.subscribe(
        "control_plane.job_events", lambda message: heard.append(message["event"])
    )
    with jobs.orchestrator() as orch:
        jobs.assign_job(one("a", reward_signal=0.5))
        jobs.assign_job(one("once"))
        while jobs.status("once")["state"] != "completed":
            orch.wait(PATIENCE)
        orch.wait(PATIENCE)
        assert jobs.status("a")["rewards"] == {"job_payload.reward_signal": 0.5}
    assert heard.count("completed") == 2
    assert "a reader of the topic control_plane.job_events has failed" in caplog.text


def test_a_reward_of_nought_is_one_and_a_cancel_is_none():
    jobs = small()
    go = threading.Event()

    @jobs.objective("do")
    def do(unit, job):
        while job.job_id == "stopped" and not go.wait(0.01):
            unit.checkpoint()

    with jobs.orchestrator() as orch:
        jobs.assign_job(one("nought", reward_signal=0.0))
        jobs.assign_job(one("unsaid"))
        jobs.assign_job(one("stopped"))
        while jobs.status("stopped")["state"] == "queued":
            time.sleep(0.005)
        assert jobs.cancel("stopped", reason="not today")
        orch.wait(PATIENCE)
        assert not jobs.cancel("stopped")
        assert jobs.status("nought")["rewards"] == {"job_payload.reward_signal": 0.0}
        assert jobs.status("unsaid")["rewards"] == {}
        assert jobs.status("stopped")["rewards"] == {}
        assert jobs.status("stopped")["state"] == "failed"
        assert [each.mean for each in jobs.learned()["thread_pool_configuration"]] == [
            0
        ]
        assert jobs.all_jobs() == {
            "nought": "completed",
            "unsaid": "completed",
            "stopped": "failed",
        }
        with pytest.raises(UnknownTaskError):
            jobs.cancel("nobody")


def test_a_result_is_waited_for_in_one_time():
    jobs = small()
    go = threading.Event()
    jobs.objective("do")(lambda unit, job: go.wait(PATIENCE))
    with jobs.orchestrator():
        jobs.assign_job(one("j", 60))
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            jobs.result("j", timeout=1)
        # Sixty units that each had the whole time would take a minute.
        assert time.monotonic() - began < 40
        go.set()
        assert jobs.result("j", PATIENCE) == [True] * 60


def test_a_judgement_takes_its_time_and_holds_up_nobody():
    jobs = counting()
    asked, go = threading.Event(), threading.Event()

    def judge(job):
        if job.job_id == "slow":
            asked.set()
            go.wait(PATIENCE)

    jobs.hook("pre_spawn_judgement", judge)
    with jobs.orchestrator():
        jobs.assign_job(body("j1"))
        thread = threading.Thread(target=jobs.assign_job, args=(body("slow"),))
        thread.start()
        assert asked.wait(PATIENCE)
        assert jobs.status("j1")["job_id"] == "j1"
        assert sum(jobs.result("j1", PATIENCE)) == 15
        assert "slow" not in jobs.all_jobs()
        go.set()
        thread.join(PATIENCE)
        assert sum(jobs.result("slow", PATIENCE)) == 15


def test_a_judgement_may_refuse_change_or_fail():
    jobs = counting()
    verdicts = {
        "fails": lambda: 1 / 0,
        "none": dict,
        "two": lambda: {"tadpole_count": 2},
    }
    verdicts |= {"other": lambda: {"job_id": "x"}, "bad": lambda: {"tadpole_count": 0}}
    verdicts |= {"no": lambda: "not today"}
    refused = []
    jobs.subscribe("control_plane.job_events", refused.append)
    jobs.hook("pre_spawn_judgement", lambda job: verdicts[job.job_id]())
    with jobs.orchestrator():
        for name, part in [
            ("fails", "has failed on job fails: division by zero"),
            ("other", "another id"),
            ("bad", "from 1 to"),
            ("no", "not today"),
        ]:
            with pytest.raises(InvalidTaskError, match=part):
                jobs.assign_job(body(name))
            assert name not in jobs.all_jobs()
        assert jobs.assign_job(body("two"))["unit_count"] == 2
        assert jobs.assign_job(body("none"))["unit_count"] == 4
    assert [each for each in refused if each["event"] == "refused"] == [
        {"event": "refused", "job_id": "no", "why": "not today"}
    ]


def test_history_is_read_whatever_the_configuration_says_by_now(tmp_path):
    path = tmp_path / "jobs.db"
    jobs = counting()
    with jobs.orchestrator(journal=path) as orch:
        jobs.assign_job(body("j1"))
        jobs.result("j1", PATIENCE)
        orch.wait(PATIENCE)
        ledger, metrics = jobs.ledger(), jobs.metrics()
    assert {each["event"] for each in ledger} == {"granted", "released"}
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    document["resource_pools"]["compute_units_total"] = 4
    later = counting(document)
    with later.orchestrator(journal=path):
        assert later.status("j1")["state"] == "completed"
        assert sum(later.result("j1", PATIENCE)) == 15
        assert later.ledger() == ledger
        for name in ("job_latency_seconds", "compute_efficiency_ratio"):
            assert later.metrics()[name] == metrics[name]
        assert later.all_jobs() == {"j1": "completed"}
        with pytest.raises(InvalidTaskError, match="there is 4"):
            later.assign_job(body("j2"))


def test_a_job_that_was_taken_is_done_whatever_the_configuration_says_by_now(tmp_path):
    path = tmp_path / "jobs.db"
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    jobs = JobSystem(document)
    began = threading.Event()

    @jobs.objective("count")
    def count(unit, job):
        began.set()
        while True:
            time.sleep(0.001)
            unit.checkpoint()

    with jobs.orchestrator(journal=path) as orch:
        jobs.assign_job(body("j1", tadpole_count=2))
        assert began.wait(PATIENCE)
        orch.stop(drain=False)
    document["resource_pools"]["compute_units_total"] = 4
    contract = document["job_intake_pipeline"]["payload_contract"]
    contract["required_fields"] += ["worker_id"]
    contract["optional_fields"].remove("worker_id")
    later = counting(document)
    with later.orchestrator(journal=path):
        assert sum(later.result("j1", PATIENCE)) == 15
        again = later.assign_job(body("j1", tadpole_count=2))
        assert again["job_id"] == "j1"
        with pytest.raises(InvalidTaskError, match="worker_id: it is missing"):
            later.assign_job(body("j1", tadpole_count=3))


@pytest.mark.parametrize("source", [3, "", None, ["user"]])
def test_a_reward_by_nobody_is_refused_and_none(source):
    jobs = counting()
    with jobs.orchestrator() as orch:
        jobs.assign_job(body("j1"))
        jobs.result("j1", PATIENCE)
        orch.wait(PATIENCE)
        before = jobs.status("j1")["rewards"]
        with pytest.raises(InvalidTaskError, match="the source of a reward is a text"):
            jobs.reward("j1", 1.0, source=source)
        assert jobs.status("j1")["rewards"] == before
        task_id = "job-j1/" + next(iter(jobs.status("j1")["units"]))
        with pytest.raises(InvalidTaskError, match="the source of a reward is a text"):
            orch.reward_task(task_id, 1.0, source=source)


def test_jobs_are_not_read_from_a_file_that_is_no_utf_8(tmp_path):
    path = tmp_path / "jobs.yaml"
    path.write_bytes("a: ü".encode("latin-1"))
    with pytest.raises(ValidationFailedError, match="this is no YAML"):
        JobSystem.from_yaml(path)


def test_what_never_began_releases_nothing():
    jobs = small()
    jobs.objective("do")(lambda unit, job: None)
    with jobs.orchestrator() as orch:
        with orch.resources.allocate({"threads": 128}, owner="somebody"):
            jobs.assign_job(one("j"))
            jobs.cancel("j")
            orch.wait(PATIENCE)
        events = [each["event"] for each in jobs.ledger() if "unit" in each]
    assert events == []


def test_the_diary_can_be_read_in_a_later_incarnation(tmp_path):
    path = tmp_path / "jobs.db"
    jobs = counting()
    with jobs.orchestrator(journal=path) as orch:
        assert jobs.diary() is None
        jobs.assign_job(body("j1", reward_signal=1))
        jobs.result("j1", PATIENCE)
        orch.wait(PATIENCE)
        cycles = copy.deepcopy(jobs.cycles)
        cycles.tick(None, 0.0)
        for command in cycles.tick(None, 10.0)[0]:
            command.apply(orch)
        page = jobs.diary()
    assert page["about"] == jobs.about()
    assert page["workers"]["generalist.count"] == {"completed": 4, "failed": 0}
    later = counting()
    with later.orchestrator(journal=path):
        assert later.diary()["learned"] == json.loads(json.dumps(page["learned"]))


def test_whose_jobs_they_are_is_told():
    jobs = counting()
    assert jobs.about()["name"] == jobs.told()["about"]["name"]
    assert small().about() == {}


def test_half_a_reward_is_made_whole():
    """The word of a source that was kept for one unit is kept for the others, too."""
    jobs = small()
    jobs.objective("do")(lambda unit, job: None)
    rewarded = []
    with jobs.orchestrator() as orch:
        orch.signals.task_rewarded.connect(rewarded.append)
        jobs.assign_job(one("j", 3))
        jobs.result("j", PATIENCE)
        orch.wait(PATIENCE)
        unit = next(iter(jobs.status("j")["units"]))
        orch.reward_task(f"job-j/{unit}", 0.5, source="user")
        orch.wait(PATIENCE)
        # Another incarnation would find it so: here it is only heard.
        assert jobs.reward("j", 0.5)
        orch.wait(PATIENCE)
    assert all(type(event) is TaskRewarded and event.value == 0.5 for event in rewarded)
    assert len({event.task_id for event in rewarded}) == 3


def test_a_unit_that_begins_after_the_word_has_it_too():
    """Of two units one fails for good while the other waits for its second run."""
    jobs, rewarded = small(), []

    def do(unit, job):
        is_again = unit.context.task_id.endswith("~2")
        if is_again and unit.index == 0:
            orch.hold_starts("until the word is kept", by="test")
        if not (is_again and unit.index == 1):
            msg = "not yet"
            raise ValueError(msg)

    jobs.objective("do")(do)
    with jobs.orchestrator(concurrency=1) as orch:
        orch.signals.task_rewarded.connect(rewarded.append)
        jobs.assign_job(one("j", units=2))
        eventually(lambda: rewarded)
        assert orch.release_starts("test")
        eventually(lambda: len(rewarded) == 2)
    units = {event.task_id.partition("~")[0] for event in rewarded}
    assert len(units) == 2
    assert [(event.source, event.value) for event in rewarded] == [("failure", -1)] * 2


def test_no_number_that_is_none_is_learnt():
    learned = Learned([1, 2], reward="given")
    for bad in (float("nan"), float("inf"), 2, "1", None):
        with pytest.raises(InvalidTaskError, match="from -1 to 1"):
            learned.give("j", bad)


def test_results_lists_and_cancels_over_http_and_from_the_command_line(
    monkeypatch, capsys
):
    jobs = counting()
    token = new_token()
    monkeypatch.setenv("TASKORCH_TOKEN", token)
    with (
        jobs.orchestrator() as orch,
        serve(create_app(orch, token=token, jobs=jobs), port=0) as server,
    ):
        client = Client(server.url, token=token)
        client.command("assign_job", **body())
        jobs.result("j1", PATIENCE)
        orch.wait(PATIENCE)
        answer = client.command("job_result", job_id="j1")
        assert answer["state"] == "completed"
        assert sum(answer["result"]) == 15
        assert client.command("list_jobs") == {
            "about": jobs.about(),
            "jobs": {"j1": "completed"},
        }
        assert client.command("cancel_job", job_id="j1") == {"changed": False}
        assert (
            client.command("job_status", job_id="j1")["metadata"] == body()["metadata"]
        )
        with pytest.raises(UnknownTaskError):
            client.command("job_result", job_id="nobody")
        with pytest.raises(InvalidTaskError, match="job_id is not known"):
            client.command("list_jobs", job_id="j1")
        assert main(["jobs", "result", server.url, "j1"]) == 0
        assert main(["jobs", "list", server.url]) == 0
        assert main(["jobs", "cancel", server.url, "j1"]) == 0
    out = capsys.readouterr().out
    assert "unit 3:" in out
    assert "j1: completed\n1 job\n" in out
    assert "j1 has ended" in out


def test_a_job_that_a_judgement_has_changed_is_the_job_that_was_asked_for(tmp_path):
    """
    The same body again is the same job, in the next incarnation too; another is not.
    """
    for incarnation in range(2):
        jobs = counting()
        if not incarnation:
            jobs.hook("pre_spawn_judgement", lambda job: {"tadpole_count": 2})
        with jobs.orchestrator(journal=tmp_path / "jobs.db"):
            for _ in range(2):
                assert jobs.assign_job(body("j1"))["unit_count"] == 2
            with pytest.raises(DuplicateTaskError, match="tadpole_count"):
                jobs.assign_job(body("j1", tadpole_count=2))
            assert sum(jobs.result("j1", PATIENCE)) == 15


def test_of_two_full_pools_one_that_is_relieved_leaves_the_other():
    """And units that are made under pressure have fewer threads, as granted."""
    jobs = counting()
    told = []
    jobs.subscribe("control_plane.job_events", told.append)
    with jobs.orchestrator() as orch:
        usage = orch.resources.usage()
        full = {
            name: int(usage[name].total * 0.9)
            for name in ("compute_units", "memory_mb")
        }
        with orch.resources.allocate({"memory_mb": full["memory_mb"]}, owner="one"):
            with orch.resources.allocate(
                {"compute_units": full["compute_units"]}, owner="another"
            ):
                orch.wait(PATIENCE)
                jobs.assign_job(body("both"))
            # The amounts are free: the pool is relieved, and the other is not.
            orch.wait(PATIENCE)
            pressed = jobs.assign_job(body("one"))
            assert (pressed["unit_count"], pressed["threads"]) == (5, 2)
            for name in ("both", "one"):
                jobs.result(name, PATIENCE)
        orch.wait(PATIENCE)
        relieved = jobs.assign_job(body("none"))
        assert (relieved["unit_count"], relieved["threads"]) == (4, 4)
        jobs.result("none", PATIENCE)
        orch.wait(PATIENCE)
    pools = [each["pools"] for each in told if each["event"] == "mitigated"]
    assert pools == [["compute_units", "memory_mb"], ["memory_mb"]]
    granted = {
        each["unit"].split("/")[0]: each["resources"]["threads"]
        for each in jobs.ledger()
        if each["event"] == "granted"
    }
    assert granted == {"job-both": 2, "job-one": 2, "job-none": 4}


def test_a_job_that_has_begun_is_asked_no_more_whatever_is_learnt():
    """Also if nobody has heard yet that it has: its units run as they were made."""
    jobs = JobSystem(
        {
            "resource_pools": {"compute_units_total": 256},
            "self_improvement": {
                "reward_processing": {
                    "adaptation_targets": ["thread_pool_configuration"]
                },
                "optimisation_hooks": {"micro_cycle": "adjust_thread_weights"},
            },
        },
        floor=1.0,
    )
    go, hearing, heard = threading.Event(), threading.Event(), threading.Event()

    @jobs.objective("count")
    def count(unit, job):
        assert not job.job_id.startswith("large") or go.wait(PATIENCE)

    def asking(units):
        return {"compute_units": units, "memory_mb": 0, "bandwidth_mbps": 0}

    def hear(event):
        if event.task_id == "mark":
            hearing.set()
            heard.wait(PATIENCE)

    names = [f"large-{number}" for number in range(12)]

    def threads():
        return {name: jobs.status(name)["threads"] for name in names}

    with jobs.orchestrator(seed=1) as orch:
        with orch.resources.allocate({"compute_units": 200}, owner="somebody"):
            for name in names:
                jobs.assign_job(
                    body(name, tadpole_count=1, requested_resources=asking(60))
                )
            before = threads()
            for number in range(60):
                name = f"small-{number}"
                made = jobs.assign_job(
                    body(name, tadpole_count=1, requested_resources=asking(1))
                )
                jobs.result(name, PATIENCE)
                jobs.reward(name, 1.0 if made["threads"] == 8 else -1.0)
            orch.wait(0)
            orch.signals.task_completed.connect(hear)
            orch.submit_task(Task.call(int, id="mark")).result(PATIENCE)
            assert hearing.wait(PATIENCE)
        # Some begin, and nobody is told of it before all was asked.
        eventually(lambda: len([*orch.tasks("running", id="job-large-*")]) == 4)
        running = orch.tasks("running", id="job-large-*")
        begun = {each.task_id.split("/")[0].removeprefix("job-") for each in running}
        # A cycle of its own may have asked for them before they began.
        at_begin = threads()
        cycles = copy.deepcopy(jobs.cycles)
        cycles.tick(None, 0.0)
        for command in cycles.tick(None, 1.0)[0]:
            command.apply(orch)
        asked = threads()
        assert any(asked[name] != before[name] for name in set(names) - begun)
        assert all(asked[name] == at_begin[name] for name in begun)
        heard.set()
        go.set()
        for name in names:
            jobs.result(name, PATIENCE)


def test_a_bus_of_ones_own_gets_each_message_once_its_hook_is_declared():
    jobs = small()
    with pytest.raises(InvalidTaskError, match="integration_points"):
        jobs.hook("message_bus_infrastructure", print)
    points = {"integration_points": ["bus.txt#message_bus_infrastructure"]}
    jobs = small({"task_orchestration_metadata": points})
    jobs.objective("do")(lambda unit, job: "done")
    sent = []
    jobs.hook("message_bus_infrastructure", sent.append)
    with jobs.orchestrator() as orch:
        jobs.assign_job(one("j"))
        assert jobs.result("j", PATIENCE) == ["done"]
        orch.wait(PATIENCE)
    events = [each["event"] for each in sent if each.get("job_id") == "j"]
    assert "started" in events
    assert events[-1] == "completed"
    assert {each["topic"] for each in sent} >= {"control_plane.job_events"}
