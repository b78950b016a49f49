"""A served suite that is started anew while workers elsewhere do its tasks."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
from tests.api.tools import eventually
from tests.ext.remote_workers.tools import free_port, worker_process
from tests.ext.service.suites import EXECUTE, SUITE, served
from tests.ext.service.test_agents import Wire
from tests.ext.service.test_suite_agents import PYTEST, TESTS
from tests.ext.service.tools import Service

SLOW = pytest.mark.slow("a service is started anew")

#: Several waits may follow each other, on a machine that is slow.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def here(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path


def end(service):
    """The status once the run has ended."""
    eventually(lambda: service.get("/api/v1/status")["status"] != "running")
    return service.get("/api/v1/status")["status"]


def ran(here):
    path = here / "ran"
    return path.read_text().split() if path.exists() else []


def done_meanwhile(order):
    """What a worker says that has done *order* while nobody served."""
    ended = subprocess.run(order["program"], check=True, stdout=subprocess.PIPE)
    program = {"exit_code": 0, "stdout_tail": ended.stdout.decode()}
    return {"attempt": order["attempt"], "outcome": "completed", "program": program}


@contextmanager
def joined(here):
    """The next incarnation of the service, which the worker has joined again."""
    with served(here) as service:
        worker = Wire(service)
        worker.hello(lease=60)
        yield service, worker


@contextmanager
def given_out(here):
    """
    An order of an incarnation of the service that has died since; the worker has it.
    """
    with joined(here) as (service, worker):
        service.post(EXECUTE)
        order = worker.order()
        service.orch.stop(drain=False)
    yield order


def fates(worker, *said):
    """What became of ends, which are told until they are taken."""
    path = f"/api/v1/agents/{worker.name}/complete"
    answers = []

    def are_taken():
        about = {"Taskorch_Session": worker.secret}
        answers.append(worker.service.post(path, {"results": [*said]}, **about))
        return answers[-1].status != 503

    eventually(are_taken)
    assert answers[-1].status == 200, answers[-1]
    return [each["fate"] for each in answers[-1].said["results"]]


def results(here, name):
    return json.loads((here / "out" / "artifacts" / f"{name}_results.json").read_text())


@SLOW
@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("is_told_before", [False, True])
def test_what_a_worker_ends_while_the_service_is_started_anew_counts(
    here, code, is_told_before
):
    """It is kept until the run goes on, judged once, and not done again."""
    (here / "A.sh").write_text(f"exit {code}")
    with given_out(here) as order:
        said = done_meanwhile(order)
    with joined(here) as (service, worker):
        if is_told_before:
            problem = worker.say("complete", {"results": [said]}, 503)
            assert problem["code"] == "not_running"
            assert "the end of suite/A is kept" in problem["detail"]
            service.post(EXECUTE)
        else:
            service.post(EXECUTE)
        assert fates(worker, said) == fates(worker, said) == ["counted"]
        worker.say("leave", {})
        assert end(service) == ("failed" if code else "completed")
        report = service.get("/api/v1/final-report")
        tasks = report["tasks"]
        about = service.get("/api/v1/tasks/suite%2FA")
    assert ran(here) == (["A"] if code else ["A", "B", "C"])
    assert (tasks[0]["attempts"], tasks[0]["agent"]) == (1, "far")
    assert about["late_results"] == {}
    kept = results(here, "A")
    (bar,) = [one for one in report["timeline"] if one["task"] == "A"]
    assert bar["outcome"] == ("failed" if code else "completed")
    assert bar["start"] <= kept["started"] <= kept["ended"] <= bar["end"]
    assert (kept["attempt"], kept["agent_id"], kept["exit_code"]) == (1, "far", code)


def finish(service, worker):
    """The report; what is left, the service does itself."""
    worker.say("leave", {})
    end(service)
    return service.get("/api/v1/final-report")


def lost_end(here, said):
    """What a new incarnation makes of an end, of which nothing is done again."""
    with joined(here) as (service, worker):
        service.post(EXECUTE)
        fate = fates(worker, said)
        return fate, finish(service, worker)


@SLOW
def test_it_is_judged_by_what_it_has_left_as_if_it_were_told_at_once(here):
    """Tests, coverage and the share of them that must pass."""
    (here / "suite.yaml").write_text(PYTEST)
    (here / "test_shop.py").write_text(TESTS)
    (here / "shop.py").write_text("def price(n):\n    return 2 * n\n")
    with given_out(here) as order:
        said = done_meanwhile(order)
    fate, report = lost_end(here, said)
    (task,) = report["tasks"]
    assert (fate, report["status"], task["attempts"]) == (["counted"], "completed", 1)
    assert (task["counts"]["passed"], task["counts"]["failed"]) == (9, 1)
    assert task["coverage"] == 1.0
    kept = results(here, "A")
    assert kept["granted_mb"] == 512
    assert kept["memory_mb"] > 0
    assert len(kept["tests"]) == 10
    assert report["test_results"]["coverage"] == 1.0


def test_an_end_that_counted_counts_in_no_later_incarnation_again(here):
    (here / "A.sh").write_text("exit 3")
    text = SUITE + "recovery: {max_retries: 1, retry_delay: 600}\n"
    (here / "suite.yaml").write_text(text)
    with given_out(here) as order:
        said = done_meanwhile(order)
    for _ in range(2):
        with joined(here) as (service, worker):
            service.post(EXECUTE)
            assert fates(worker, said) == ["counted"]
            about = service.get("/api/v1/tasks/suite%2FA")
            assert (about["attempts"], about["state"]) == (1, "retrying")
            assert about["late_results"] == {}
            service.orch.stop(drain=False)
    assert ran(here) == ["A"]


@SLOW
def test_what_was_judged_when_the_service_died_is_not_judged_again(here):
    """Its files are gone by then; the verdict is there, and no journal knows of it."""
    (here / "suite.yaml").write_text(PYTEST)
    (here / "test_shop.py").write_text(TESTS)
    (here / "shop.py").write_text("def price(n):\n    return 2 * n\n")
    with given_out(here) as order:
        said = done_meanwhile(order)
    out, before = here / "out", here / "before"
    shutil.copytree(out, before)
    with joined(here) as (service, worker):
        service.post(EXECUTE)
        eventually(lambda: worker.service.get("/api/v1/status")["agents"])
        assert fates(worker, said) == ["counted"]
        service.orch.stop(drain=False)
    verdict = results(here, "A")
    # As if it had died before that was kept: of the files, nothing was.
    for path in out.glob("journal.db*"):
        path.unlink()
    for path in before.glob("journal.db*"):
        shutil.copy(path, out)
    (out / "report.json").unlink(missing_ok=True)
    shutil.copytree(before / "attempts", out / "attempts", dirs_exist_ok=True)
    (out / "attempts" / "A" / "1.1" / "pytest.jsonl").unlink(missing_ok=True)
    fate, report = lost_end(here, said)
    (task,) = report["tasks"]
    assert (fate, report["status"], task["attempts"]) == (["counted"], "completed", 1)
    assert results(here, "A") == verdict


def test_what_was_begun_again_meanwhile_counts_once(here):
    """The second attempt decides, whoever ends first."""
    with given_out(here) as order:
        said = done_meanwhile(order)
    with served(here) as service:
        other = Wire(service, "other")
        other.hello(lease=60)
        service.post(EXECUTE)
        again = other.order()
        assert (again["task_id"], again["number"]) == ("suite/A", 2)
        far = Wire(service)
        far.hello(lease=60)
        assert fates(far, said) == ["late"]
        assert other.complete(done_meanwhile(again)) == ["counted"]
        assert fates(far, said) == ["late"]
        far.say("leave", {})
        report = finish(service, other)
    assert report["status"] == "completed"
    assert (report["tasks"][0]["attempts"], report["tasks"][0]["agent"]) == (2, "other")
    assert results(here, "A")["attempt"] == 2
    assert sorted(ran(here)) == ["A", "A", "B", "C"]


def forged(said, **program):
    return {**said, "program": {**said["program"], **program}}


def with_mark(said, mark):
    event = json.loads(said["program"]["stdout_tail"])
    return forged(said, stdout_tail=json.dumps({**event, "mark": mark}))


#: What a worker may say of the end of an attempt of an earlier incarnation, and proves
#: nothing.
UNPROVEN = {
    "a result": lambda said: {**said, "program": None, "result": {"exit_code": 0}},
    "nothing": lambda said: {**said, "program": None},
    "another mark": lambda said: with_mark(said, "0" * 16),
    "no mark": lambda said: with_mark(said, None),
    "no end": lambda said: forged(said, stdout_tail=""),
    "killed": lambda said: forged(said, stdout_tail="", exit_code=-9),
    "failed": lambda said: {
        "attempt": said["attempt"],
        "outcome": "failed",
        "error": {"type": "OSError", "message": "no program"},
    },
}


@SLOW
def test_what_nothing_proves_is_done_again(here):
    with given_out(here) as order:
        said = done_meanwhile(order)
    with joined(here) as (service, worker):
        for what, lie in UNPROVEN.items():
            # By another name, as what was told by one is remembered.
            name = said["attempt"].replace(":", what.replace(" ", "_") + ":")
            assert worker.complete(lie({**said, "attempt": name})) == ["unknown"], what
        service.post(EXECUTE)
        # Nor by the run, whether it has begun by now or not.
        assert fates(worker, UNPROVEN["a result"](said)) in (["late"], ["unknown"])
        worker.say("leave", {})
        assert end(service) == "completed"
        report = service.get("/api/v1/final-report")
    assert report["tasks"][0]["attempts"] == 2
    assert ran(here) == ["A", "A", "B", "C"]


def test_nobody_tells_for_another_worker(here):
    with given_out(here) as order:
        said = done_meanwhile(order)
    with served(here) as service:
        other = Wire(service, "other")
        other.hello(lease=60)
        assert other.complete(said) == ["unknown"]


@SLOW
def test_an_end_of_another_run_is_none_of_this_one(here):
    """Its attempts have the same lives and numbers."""
    with given_out(here) as order:
        said = done_meanwhile(order)
    with joined(here) as (service, worker):
        service.post(EXECUTE, {"fresh": True})
        assert worker.order()["number"] == 1
        service.orch.stop(drain=False)
    fate, report = lost_end(here, said)
    assert fate in (["late"], ["unknown"])
    assert report["tasks"][0]["attempts"] == 2
    assert ran(here) == ["A", "A", "B", "C"]


def test_what_a_worker_still_does_goes_on_until_a_run_does(here):
    with given_out(here) as order:
        pass
    with joined(here) as (service, worker):
        name = order["attempt"]
        assert worker.claim(name, "9.9.x:suite/A", wait=0)["stop"] == ["9.9.x:suite/A"]
        assert worker.say("heartbeat", {"running": [name]}) == {"stop": []}
        said = done_meanwhile(order)
        worker.say("complete", {"results": [said]}, 503)
        service.post(EXECUTE)
        assert fates(worker, said) == ["counted"]
        report = finish(service, worker)
    assert report["tasks"][0]["attempts"] == 1
    assert ran(here) == ["A", "B", "C"]


def test_a_run_that_was_stopped_goes_on_in_the_same_incarnation(here):
    with joined(here) as (service, worker):
        service.post(EXECUTE)
        order = worker.order()
        service.orch.orchestrator().stop(drain=False, timeout=0)
        eventually(lambda: service.get("/api/v1/status")["status"] == "interrupted")
        assert worker.claim(order["attempt"], wait=0)["stop"] == []
        said = done_meanwhile(order)
        worker.say("complete", {"results": [said]}, 503)
        service.post(EXECUTE)
        assert fates(worker, said) == ["counted"]
        report = finish(service, worker)
    assert report["tasks"][0]["attempts"] == 1
    assert ran(here) == ["A", "B", "C"]


# -- real processes --------------------------------------------------------------------

#: Each notes that it begins, takes its time, and notes that it has ended.
TIMED = """\
templates:
  sh: {command: [sh, -c, 'echo "$0" >> ran; . "./$0.sh"; echo "$0" >> ended', "{id}"]}
orchestrator:
  name: shop
  task_definitions:
    unit_tests: [%s]
"""
TOKEN = "a-token-that-nobody-guesses"


class Incarnations:
    """A suite's service in processes of its own, and two workers."""

    def __init__(self, here, ids, stack):
        self.here, self.port = here, free_port()
        tasks = ", ".join(f"{{id: {name}, template: sh}}" for name in ids)
        (here / "suite.yaml").write_text(TIMED % tasks)
        server = SimpleNamespace(port=self.port, url=f"http://127.0.0.1:{self.port}")
        self.service = Service(None, server, TOKEN)
        self.process = None
        stack.callback(self.kill)
        self.logs = {name: here / f"{name}.log" for name in ("one", "two")}
        for name, log in self.logs.items():
            more = {"name": name}
            stack.enter_context(
                worker_process(self.service, log, "--lease", "60", **more)
            )

    def begin(self, *, waits=True):
        """Start it; both workers are there, if that is to be waited for."""
        command = [sys.executable, "-m", "taskorch", "serve", "--config", "suite.yaml"]
        command += ["--port", str(self.port), "--metrics-port", "0", "--output", "out"]
        env = {**os.environ, "TASKORCH_TOKEN": TOKEN}
        with (self.here / "serve.log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.here, env=env, stdout=log, stderr=log
            )
        eventually(lambda: self.status().get("agents") == ["one", "two"] or not waits)
        eventually(self.status)

    def status(self):
        try:
            return self.service.get("/api/v1/status")
        except OSError:
            return {}

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def words(self, name):
        path = self.here / name
        return path.read_text().split() if path.exists() else []

    def log(self):
        return "".join(log.read_text() for log in self.logs.values())

    def verdicts(self):
        path = self.here / "out" / "artifacts"
        return {file.name.partition("_")[0] for file in path.glob("*_results.json")}

    def has_come_to_rest(self):
        """All that workers have begun has ended, and its end is kept or judged."""
        begun = re.findall(r"begins suite/(\w+),", self.log())
        ended = self.words("ended")
        kept = set(re.findall(r"the end of suite/(\w+) is kept", self.log()))
        return sorted(begun) == sorted(ended) and {*ended} <= kept | self.verdicts()

    def run_to_its_end(self):
        self.service.post(EXECUTE)
        eventually(lambda: self.status().get("status") == "completed")
        return self.service.get("/api/v1/final-report")


@pytest.mark.slow("kills a service among its workers")
def test_killed_in_the_middle_the_service_takes_what_its_workers_have_done(here):
    for name in "AB":
        (here / f"{name}.sh").write_text("until [ -e go ]; do sleep 0.05; done")
    (here / "C.sh").write_text("")
    with ExitStack() as stack:
        lives = Incarnations(here, "ABC", stack)
        lives.begin()
        lives.service.post(EXECUTE)
        eventually(lambda: sorted(lives.words("ran")) == ["A", "B"])
        lives.kill()
        (here / "go").touch()
        eventually(lambda: sorted(lives.words("ended")) == ["A", "B"])
        # A script does not wait until they are back.
        lives.begin(waits=False)
        report = lives.run_to_its_end()
        assert sorted(lives.words("ran")) == ["A", "B", "C"]
        eventually(lambda: lives.log().count("completed, counted") == 3)
    assert [task["attempts"] for task in report["tasks"]] == [1, 1, 1]
    assert {task["agent"] for task in report["tasks"]} == {"one", "two"}
    found = {name: results(here, name)["attempt"] for name in "ABC"}
    assert found == dict.fromkeys("ABC", 1)


@pytest.mark.slow("two kills, and tasks of seconds")
@pytest.mark.parametrize("seed", [1])
def test_killed_at_any_moment_no_work_that_was_done_is_done_twice(here, seed):
    dice = random.Random(seed)
    # More than the workers can do before both kills: a run that is over would begin
    # anew.
    ids = [f"T{n}" for n in range(8)]
    for name in ids:
        (here / f"{name}.sh").write_text(f"sleep {1 + dice.random():.2f}")
    with ExitStack() as stack:
        lives = Incarnations(here, ids, stack)
        lives.begin()
        for _ in range(2):
            lives.service.post(EXECUTE)
            time.sleep(dice.random())
            lives.kill()
            lives.begin()
            eventually(lives.has_come_to_rest, "the workers come to rest")
        report = lives.run_to_its_end()
        assert sorted(lives.words("ran")) == ids
        eventually(lambda: lives.log().count("completed, counted") == len(ids))
        assert "late" not in lives.log()
    assert {task["status"] for task in report["tasks"]} == {"completed_success"}
