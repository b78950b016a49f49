"""Budgets of suites: what tests spend, and what follows when there is no more."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Started, eventually
from tests.ext.remote_workers.tools import at_work
from tests.ext.service.suites import EXECUTE, served

from taskorch.errors import NotRunningError, ValidationFailedError
from taskorch.events import BudgetSpent
from taskorch.ext import command_line as cli, suites as suite
from taskorch.ext.remote_workers import Abilities, Agent
from taskorch.ext.suites import run
from taskorch.ext.views import JournalReader

ROOT = Path(__file__).parents[3]
#: Each task does what a file says, if there is one; else it spends 7 tokens.
SUITE = """\
budgets:
  release: {total: {tokens: 100, eur: 2}}
  slow: {total: {tokens: 50}, parent: release}
templates:
  sh: {command: [sh, -c, 'if [ -e "$0.sh" ]; then . "./$0.sh"; else spend 7; fi', "{id}"]}
orchestrator:
  name: shop
  budget: release
  task_definitions:
    unit_tests:
      - {id: A, template: sh, resources: {tokens: 20}}
      - {id: B, template: sh}
      - {id: P, template: sh, subtasks: [P1, {id: P2, resources: {tokens: 9}}]}
    slow_tests:
      - {id: C, template: sh, resources: {tokens: 30}}
resource_allocation:
  unit_tests: {tokens: 10}
  slow_tests: {budget: slow}
""".replace("spend 7", 'echo "{\\"tokens\\": 7}" >"$TASKORCH_SPENT"')


def said(tokens):
    """A line of a script that says what it has spent."""
    return f'echo \'{{"tokens": {tokens}}}\' >"$TASKORCH_SPENT"\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path


def budgets_of(orch):
    return {each.name: each for each in orch.resources.budgets()}


class Watched:
    """A run of the suite, with its orchestrator, and its report."""

    def __init__(self, folder, **options):
        self.usages = {}

        def begun(orch, _suite):
            self.orch = orch
            for signal_ in (orch.signals.budget_spent, orch.signals.task_completed):
                signal_.connect(lambda _: self.usages.update(budgets_of(orch)))

        self.report = run(
            suite.load(folder / "suite.yaml"), folder / "out", begun=begun, **options
        )
        self.spent = {
            task.id: task.spent and dict(task.spent) for task in self.report.tasks
        }


def test_what_tests_spend_is_told_of_each_and_in_all(here, capsys):
    (here / "B.sh").write_text("true")
    assert cli.main(["suite", "run", "suite.yaml"]) == 0
    assert "; spent 38 tokens; " in capsys.readouterr().out
    report = json.loads((here / ".taskorch/suite/report.json").read_text())
    # B has said nothing, and all that its class reserves counts.
    amounts = {"A": 7, "B": 10, "P1": 7, "P2": 7, "P": 14, "C": 7}
    assert report["spent"] == {"tokens": 38}
    assert {task["id"]: task["spent"] for task in report["tasks"]} == {
        name: {"tokens": much} for name, much in amounts.items()
    }
    for suffix in ("md", "html"):
        page = (here / f".taskorch/suite/report.{suffix}").read_text()
        assert "P: 14 tokens" in page
        assert "in all: 38 tokens" in page
    assert cli.main(["budgets", ".taskorch/suite/journal.db"]) == 0
    out = capsys.readouterr().out
    assert "tokens: 38 of 100 spent, 0 reserved, 62 left" in out
    assert "slow (part of release): ok\n  tokens: 7 of 50 spent" in out
    # The next run has all of it again.
    assert Watched(here).report.spent == {"tokens": 38}


@pytest.mark.slow("a suite for each script")
@pytest.mark.parametrize(
    ("script", "counted"),
    [
        (said(5) + said(6), 11),
        (said(5) + "exit 3", 5),
        (said(25) + "exit 3", 25),
        (said(5) + "kill -9 $$", 20),
        (said(25) + "kill -9 $$", 25),
        ("echo five >$TASKORCH_SPENT", 20),
        ("printf '{\"tokens\": 5}' >$TASKORCH_SPENT", 5),
        # More than a pipe holds.
        (
            "n=0; while [ $n -lt 3000 ]; do n=$((n+1)); "
            + said("0.001           ")
            + "done",
            3,
        ),
    ],
)
def test_what_a_command_says_counts_or_all_that_it_reserved(here, script, counted):
    (here / "A.sh").write_text(script)
    assert Watched(here).spent["A"] == {"tokens": counted}


def test_tests_of_pytest_say_it_too_and_each_attempt_counts(here):
    (here / "test_it.py").write_text(
        "import os\n"
        "def test():\n"
        "    with open(os.environ['TASKORCH_SPENT'], 'w') as pipe:\n"
        "        print('{\"tokens\": 4}', file=pipe)\n"
        "    open('again', 'x' if not os.path.exists('again') else 'r').close()\n"
        "    assert os.path.getsize('again')\n"
        "def test_no(): assert os.path.exists('again')\n"
    )
    (here / "more.yaml").write_text(
        "templates: {py: {pytest: [-q, test_it.py]}}\n"
        "failure_handling: {max_retries: 1}\n"
        "orchestrator:\n"
        "  task_definitions:\n"
        "    py_tests: [{id: Y, template: py, resources: {tokens: 15}}]\n"
    )
    report = run(suite.load("suite.yaml", "more.yaml"), "out")
    (task,) = [task for task in report.tasks if task.id == "Y"]
    assert (task.attempts, task.spent) == (2, {"tokens": 8})


def test_who_draws_on_none_has_no_pipe_also_below_one_that_has(here, monkeypatch):
    monkeypatch.setenv("TASKORCH_SPENT", str(here / "not mine"))
    text = SUITE.replace("  budget: release\n", "").replace("{tokens: 10}", "{}")
    text = text.replace(", resources: {tokens: 20}", "")
    (here / "suite.yaml").write_text(text.replace(", resources: {tokens: 9}", ""))
    for name in ("A", "B", "P1", "P2"):
        (here / f"{name}.sh").write_text('test -z "${TASKORCH_SPENT:-}"')
    done = Watched(here)
    assert done.report.passed
    assert done.spent == {"A": None, "B": None, "P1": None, "P2": None, "P": None} | {
        "C": {"tokens": 7}
    }


def test_at_four_fifths_it_is_told_and_people_are_asked_when_no_more_is_there(
    here, caplog
):
    """They raise it while the run waits, and the run goes on to its end."""
    (here / "A.sh").write_text(said(85))

    def begun(orch, _suite):
        def answer(_event):
            eventually(orch.questions)
            (question,) = orch.questions()
            assert question.id == "budget-release/1"
            orch.answer(question.id, "raise", by="ann", changes={"tokens": 200})

        orch.signals.budget_exhausted.connect(answer)

    report = run(suite.load("suite.yaml"), "out", begun=begun)
    assert report.passed
    assert report.spent == {"tokens": 85 + 7 * 4}
    assert "budget release is low" in caplog.text
    assert "tasks wait, since budget release is used up: " in caplog.text


def test_a_run_ends_where_nobody_can_be_asked_for_more(here):
    """What is left fails, and says why, long before the time of the run is over."""
    (here / "A.sh").write_text(said(99))
    (here / "suite.yaml").write_text(f"{SUITE}agent_limits: {{max_agents: 1}}\n")
    tasks = Watched(here, answered=False, timeout=PATIENCE / 4).report.tasks
    errors = {task.id: task.error for task in tasks}
    assert not errors["A"]
    assert "Nobody can be asked in this run: Of budget 'release'" in errors["B"]


KILLED = """
import sys
from taskorch.ext import suites as suite
suite.run(suite.load("suite.yaml"), "out", tell=lambda ended: print(ended.name, flush=True))
"""


def test_a_kill_between_spending_and_settling_counts_all_that_was_reserved(here):
    """A says 5 of 20 before the kill, and 7 in its next attempt."""
    (here / "A.sh").write_text(
        f"if [ -e once ]; then {said(7)} else {said(5)} touch once; sleep 600; fi"
    )
    # The kill cuts off nothing beside it.
    (here / "suite.yaml").write_text(f"{SUITE}agent_limits: {{max_agents: 1}}\n")
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
    words = [sys.executable, "-c", KILLED]
    with Started(words, stdout=subprocess.PIPE, env=env, cwd=here) as incarnation:

        def is_known():
            events = JournalReader(here / "out/journal.db").events("suite/A")
            return any(isinstance(event, BudgetSpent) for event in events)

        try:
            eventually((here / "once").exists)
            eventually(is_known)
        finally:
            incarnation.send_signal(signal.SIGKILL)
    done = Watched(here)
    assert done.report.passed
    assert done.spent["A"] == {"tokens": 27}
    assert done.report.spent == {"tokens": 27 + 7 * 4}
    assert done.usages["release"].spent["tokens"] == 27 + 7 * 4


def test_a_run_that_goes_on_has_what_its_configuration_says_now(here):
    """Nobody has answered: it is stopped, the file says more, and it goes on."""
    (here / "A.sh").write_text(said(99))

    has_stopped = threading.Event()

    def begun(orch, _suite):
        def stop(_):
            orch.stop(drain=False, timeout=PATIENCE)
            has_stopped.set()

        orch.signals.budget_exhausted.connect(stop)

    text = f"{SUITE}agent_limits: {{max_agents: 1}}\n"
    (here / "suite.yaml").write_text(text)
    with pytest.raises(NotRunningError):
        run(suite.load("suite.yaml"), "out", begun=begun)
    assert has_stopped.wait(PATIENCE)
    text = text.replace("{tokens: 100,", "{tokens: 1000,")
    (here / "suite.yaml").write_text(text)
    report = Watched(here).report
    assert report.passed
    assert report.spent == {"tokens": 99 + 7 * 4}


def test_workers_elsewhere_say_it_and_people_answer_over_http(here):
    """A spends 5 elsewhere, P1 is cut off there, and the rest waits for more."""
    (here / "A.sh").write_text(said(5))
    (here / "P1.sh").write_text(said(2) + "kill -9 $$")
    (here / "C.sh").write_text(said(7))
    text = SUITE.replace("{tokens: 100,", "{tokens: 25,").replace(
        "{tokens: 50}", "{tokens: 50, usd: 1}"
    )
    text += "phases: {ONE: {tests: unit_tests, on_failure: continue}, TWO: {tests: slow_tests}}\n"
    text += "agent_limits: {max_agents: 1}\n"
    (here / "suite.yaml").write_text(text)
    with served(here) as service:
        worker = Agent(
            "far",
            service.server.url,
            token=service.token,
            abilities=Abilities(),
            lease=60.0,
        )
        with at_work(worker):
            eventually(lambda: "far" in service.get("/api/v1/status")["agents"])
            service.post(EXECUTE, {})

            def asked():
                answer = service.ask("GET", "/api/v1/budgets")
                return answer.status == 200 and answer.said["budgets"][0]["question"]

            eventually(asked)
            low = service.get("/api/v1/budgets")["budgets"][0]
            assert low["state"] == "exhausted"
            service.post("/api/v1/budgets/release", {"totals": {"tokens": 500}})
            eventually(lambda: service.get("/api/v1/status")["status"] != "running")
        report = service.get("/api/v1/final-report")
        workers = {task["id"]: task["agent"] for task in report["tasks"]}
        assert workers["A"] == "far"
        spent = {task["id"]: task["spent"] for task in report["tasks"]}
        assert spent["A"] == {"tokens": 5}
        assert spent["P1"] == {"tokens": 10}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("{tokens: 100,", "{tokens: 0,", "budgets.release.total.tokens: a number above 0 is needed, not 0"),
        ("{tokens: 100,", "{tokens: -1,", "budgets.release.total.tokens: a number above 0 is needed, not -1"),
        ("{tokens: 100,", "{tokens: .nan,", "budgets.release.total.tokens: a number above 0 is needed, not nan"),
        ("{tokens: 100,", "{tokens: many,", "budgets.release.total.tokens: a number above 0 is needed, not 'many'"),
        ("{tokens: 100, eur: 2}", "{}", "budgets.release.total: amounts by resource, as in {tokens: 200_000}, is needed, not a mapping"),
        ("{tokens: 100,", "{cpu: 1, tokens: 1,", "budgets.release.total.cpu: cpu is no word for what is spent"),
        ("parent: release", "parent: slow", "budgets.slow.parent: it is part of itself: slow → slow"),
        ("parent: release", "parent: relase", "budgets.slow.parent: there is no budget 'relase'; did you mean 'release'?"),
        ("  budget: release", "  budget: nowhere", "orchestrator.budget: there is no budget 'nowhere'; there are release, slow"),
        ("budget: slow", "budget: slwo", "resource_allocation.slow_tests.budget: there is no budget 'slwo'; did you mean 'slow'?"),
        ("{id: B,", "{id: B, budget: relase,", "B.budget: there is no budget 'relase'; did you mean 'release'?"),
        ("id: P2, ", "id: P2, budget: relase, ", "P2.budget: there is no budget 'relase'; did you mean 'release'?"),
        ("{id: P2, ", "{name: has no id}, {id: P2, budget: relase, ", "P2.budget: there is no budget 'relase'; did you mean 'release'?"),
        ("tokens: 20", "tokens: 0", "unit_tests[0].resources.tokens: a number above 0 is needed, not 0"),
        ("tokens: 20", "tokns: 20", "A.resources: there is no 'tokns' here; did you mean 'tokens'?"),
        ("tokens: 9", "memry_mb: 9", "P2.resources: there is no 'memry_mb' here; did you mean 'memory_mb'?"),
        ("unit_tests: {tokens: 10}", "unit_tests: {tokns: 10}", "resource_allocation.unit_tests: there is no 'tokns' here; did you mean 'tokens'?"),
        ("  budget: release\n", "", "A.resources: tokens is spent of budget 'release', and it draws on none; say: budget: release"),
        ("  slow: {total: {tokens: 50}, parent: release}", "  slow: {total: {usd: 1}}", "C.resources: tokens is spent of budget 'release', and it draws on 'slow'; say: budget: release"),
        ("{id: B,", "{id: B, budget: free,", "B.budget: there is no budget 'free'"),
    ],
)  # fmt: skip
def test_what_is_no_budget_is_refused_where_it_stands(here, before, after, said):
    assert SUITE.count(before) >= 1
    (here / "suite.yaml").write_text(SUITE.replace(before, after, 1))
    with pytest.raises(ValidationFailedError) as caught:
        suite.load("suite.yaml")
    assert re.search(rf"suite.yaml:\d+:\d+: .*{re.escape(said)}", str(caught.value))


def test_a_class_that_reserves_what_the_budget_of_a_task_has_not_is_refused(here):
    text = SUITE.replace("{id: B,", "{id: B, budget: usd,")
    (here / "suite.yaml").write_text(
        text.replace("budgets:\n", "budgets:\n  usd: {total: {usd: 1}}\n")
    )
    with pytest.raises(ValidationFailedError, match="B reserves tokens, as its class"):
        suite.load("suite.yaml")
