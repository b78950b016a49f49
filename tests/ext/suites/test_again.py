"""Failed tests: run once more, last in a retry, and told as flaky or as broken."""

import json

import pytest

from taskorch.ext.suites import load, run
from taskorch.ext.suites._folder import History

pytestmark = pytest.mark.timeout(300)

#: Each test notes that it runs; those that are flaky fail, or die, the first time only.
HEAD = """
import os, signal
from pathlib import Path
def runs(name):
    with open("runs", "a") as file: file.write(name + "\\n")
    return Path("runs").read_text().split().count(name)
"""
FILES = {
    "test_flaky.py": """
def test_good(): runs("good")
def test_flaky(): assert runs("flaky") > 1, "the first time"
def test_dies():
    if runs("dies") == 1: os.kill(os.getpid(), 11)
def test_behind(): runs("behind")
""",
    "test_broken.py": """
def test_broken(): runs("broken"); assert 0
def test_last():
    runs("last")
    os._exit(7)
""",
    "test_spread.py": """
def test_spread(): assert runs("spread") > 1
def test_other(): runs("other")
""",
    "test_many.py": """
import pytest
@pytest.mark.parametrize("n", range(21))
def test_many(n): runs("many"); assert 0
""",
}
SUITE = """\
templates:
  p: {{pytest: [-q, -p, "no:cacheprovider", "test_{{id}}.py"]}}
  x: {{pytest: [-q, -p, "no:cacheprovider", -n1, "test_{{id}}.py"]}}
  c: {{command: ["{{id}}"]}}
agent_limits: {{max_agents: 1}}
{section}
orchestrator:
  task_definitions:
    unit: [{unit}]
    {late}
"""
ON = "failure_handling: {rerun_failed_tests: true}"


def suite_in(here, section, unit, late=""):
    for name, text in FILES.items():
        (here / name).write_text(HEAD + text)
    (here / "pytest.ini").write_text("[pytest]\n")
    (here / "suite.yaml").write_text(
        SUITE.format(section=section, unit=unit, late=late)
    )
    return load(here / "suite.yaml")


def run_in(here, *arguments, **more):
    suite = suite_in(here, *arguments)
    ended = []
    report = run(suite, here / "out", tell=ended.append, **more)
    return {task.id: task for task in report.tasks}, report, ended


def runs(here):
    names = (here / "runs").read_text().split()
    return {name: names.count(name) for name in names}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two runs of one suite, one after the other, and what ran in the first."""
    here = tmp_path_factory.mktemp("again")
    arguments = ON, "{id: flaky, template: p}", "late: [{id: broken, template: p}]"
    first, ran = run_in(here, *arguments), runs(here)
    (here / "runs").unlink()
    return here / "out", first, ran, run_in(here, *arguments)


def test_a_failed_test_counts_once_it_has_failed_alone_too(both):
    """One that passes then is flaky: no phase fails, and messages say what was done."""
    folder, (tasks, report, ended), ran, _ = both
    flaky, broken = tasks["flaky"], tasks["broken"]
    assert flaky.has_passed
    assert str(flaky.counts) == "4 passed"
    assert flaky.attempts == broken.attempts == 1
    assert set(report.flaky) == {
        f"test_flaky.py::test_{name}" for name in ("flaky", "dies")
    }
    (first,) = [test for test in flaky.tests if test["id"].endswith("test_flaky")]
    assert "the first time" in first["message"]
    # The phase behind it has begun, and has failed for itself.
    assert str(broken.counts) == "1 failed, 1 error"
    assert [test.get("failed_again") for test in broken.tests] == [True, True]
    assert [each.state for each in ended] == ["completed", "failed"]
    assert ran == {
        "good": 1,
        "flaky": 2,
        "dies": 2,
        "behind": 1,
        "broken": 2,
        "last": 2,
    }
    logs = folder / "previous/logs"
    messages = map(json.loads, (logs / "messages.jsonl").read_text().splitlines())
    tried = {
        message["task_id"]: message["recovery_attempts"]
        for message in messages
        if message["message_type"] in ("task_completion", "failure_notification")
    }
    for name, tests, result in (
        ("flaky", ("test_flaky", "test_dies"), "success"),
        ("broken", ("test_broken", "test_last"), "failed"),
    ):
        assert {(each["action"], each["result"]) for each in tried[name]} == {
            (f"rerun_failed_tests test_{name}.py::{test}", result) for test in tests
        }
    events = map(json.loads, (logs / "events.jsonl").read_text().splitlines())
    again = [each for each in events if each["event"] == "recovery_attempted"]
    assert [each["result"] for each in again] == ["success"] * 2 + ["failed"] * 2
    (log,) = logs.glob("**/broken[!_]*.log")
    assert (
        "test_broken.py::test_broken: it has failed, and is run once more, alone"
        in (log.read_text())
    )


def test_a_test_that_xdist_ran_is_run_once_more_without_it(tmp_path):
    tasks, _, _ = run_in(tmp_path, ON, "{id: spread, template: x}")
    assert tasks["spread"].has_passed
    assert runs(tmp_path) == {"spread": 2, "other": 1}


def test_of_many_failed_tests_none_is_run_once_more(tmp_path):
    """That is no chance; the log says so."""
    tasks, _, _ = run_in(tmp_path, ON, "{id: many, template: p}")
    assert runs(tmp_path) == {"many": 21}
    assert str(tasks["many"].counts) == "21 failed"
    (log,) = (tmp_path / "out/logs").glob("**/many[!_]*.log")
    assert "21 tests have failed: none of so many is run once more" in log.read_text()


@pytest.mark.parametrize(
    ("section", "is_again"),
    [
        ("recovery: {max_retries: 2, retry_delay: 0}", True),
        ("recovery: {max_retries: 0}", False),
        ("recovery: {max_retries: 2, rerun_failed_tests: false}", False),
        ("recovery: {max_retries: 2, matrix: {logic: {human: always}}}", False),
        ("failure_handling: {max_retries: 0}", False),
        (ON, True),
    ],
)
def test_the_file_says_whether_or_its_matrix_has_no_row(tmp_path, section, is_again):
    """As that of seed files: retries of what machines do, and none of failed tests."""
    suite = suite_in(tmp_path, section, "{id: flaky, template: p}")
    assert suite.retries.tests_again == is_again


def test_a_retry_runs_the_test_that_ended_the_attempt_last(tmp_path):
    """So those behind it have run, though it ends its worker each time."""
    (tmp_path / "test_kills.py").write_text(
        "import os, time\n"
        "def test_a(): pass\n"
        "def test_kills():\n    os.kill(os.getppid(), 9)\n    time.sleep(600)\n"
        "def test_b(): pass\n"
        "def test_c(): pass\n"
    )
    tasks, _, _ = run_in(
        tmp_path,
        "failure_handling: {max_retries: 1, retry_delay: 0}",
        "{id: kills, template: p}",
    )
    kills = tasks["kills"]
    assert kills.attempts == 2
    assert str(kills.counts) == "3 passed, 1 error"
    assert "under way: test_kills.py::test_kills" in kills.error
    results = json.loads((tmp_path / "out/artifacts/kills_results.json").read_text())
    assert [test["id"][-1] for test in results["tests"]] == ["a", "b", "c", "s"]


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ("", "failed", ""),
        ("ff", "failed", "broken: it failed in each of 3 runs"),
        (
            "pp",
            "error",
            "broken since: it failed in this run, and passed in 2 runs before",
        ),
        (
            "spf",
            "failed",
            (
                "broken since: it failed in each of the latest 2 runs, and passed in "
                "1 run before"
            ),
        ),
        (
            "pfpf",
            "failed",
            "flaky, or broken more than once: it failed in 3 of 5 runs",
        ),
        ("pp", "flaky", "flaky: in 1 of 3 runs it failed, then passed"),
        (
            "~f",
            "failed",
            "flaky: in 1 of 3 runs it failed, then passed, and failed in 2",
        ),
    ],
)
def test_flaky_is_told_from_broken_by_the_latest_runs(before, now, said):
    """What may be either, since something was changed in between, is said to be so."""
    flaky = ["t"] if now == "flaky" else []
    test = {"id": "t", "outcome": "passed" if flaky else now}
    history = History(recent={"t": before})
    assert history.over_runs({"flaky": flaky}, test) == said


def test_reports_have_what_the_latest_runs_say(both):
    """In each form; the suite remembers it from run to run."""
    folder, (_, first, _), _, (_, report, _) = both
    assert first.over_runs == {}
    broken = "broken: it failed in each of 2 runs"
    flaky = "flaky: in 2 of 2 runs it failed, then passed"
    said = {
        name.partition("::test_")[2]: text for name, text in report.over_runs.items()
    }
    assert said == {"broken": broken, "last": broken, "flaky": flaky, "dies": flaky}
    assert json.loads((folder / "report.json").read_text())["over_runs"] == (
        report.over_runs
    )
    for suffix in ("html", "md"):
        text = (folder / f"report.{suffix}").read_text()
        assert f"test_flaky ({flaky})" in text
        assert broken[1:] in text
