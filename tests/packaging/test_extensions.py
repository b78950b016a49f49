"""
What an extension is, one can delete: its files go, and the core works as before.

`fences/bound.txt` lists those that cannot be deleted yet, each with what fails; when one
can, it leaves the list. `tests/tools/extensions.py` says which files they are.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.tools.extensions import (
    EXTENSIONS,
    PATIENCE,
    SOURCE,
    copy_without,
    environment,
    extension_of,
    faults_of_acts,
)
from tests.tools.fences import ADVICE, COMMAND, broken_by, unbound

from taskorch import TaskOrchestrator

ROOT = Path(__file__).parents[2]
#: The tests of the core, and how many of them pass at least.
OF_CORE = {
    "tests/kernel": 2500,
    "tests/unit/events": 150,
    "tests/unit/model": 250,
    "tests/workflows": 700,
}
#: What stands among them, and is about an extension.
OF_EXTENSIONS = ("tests/unit/model/test_fleet.py",)


def test_the_table_names_what_there_is_once():
    places = [place for places in EXTENSIONS.values() for place in places]
    assert [place for place in places if not (SOURCE / place).exists()] == []
    inside = [(a, b) for a in places for b in places if f"{a}/".startswith(f"{b}/")]
    assert inside == [(place, place) for place in places]


def test_a_copy_has_all_but_what_was_deleted(tmp_path):
    copy = copy_without(["planner", "client"], tmp_path)
    ours, copied = (
        {str(path.relative_to(root)) for path in root.rglob("*.py")}
        for root in (SOURCE, copy)
    )
    gone = ours - copied
    assert {extension_of(place) for place in gone} == {"planner", "client"}
    assert copied == {
        place for place in ours if extension_of(place) not in {"planner", "client"}
    }
    assert [*copy.rglob("client.*.pyc")] == []


def test_the_core_works_without_all_that_can_be_deleted(tmp_path):
    assert faults_of_acts(copy_without(unbound(), tmp_path)) == {}


KEEPING = "TaskOrchestrator(journal=SqliteJournal('runs.db', keep_for=60)).start()"
DECIDING = (
    "o = TaskOrchestrator(); o.submit_task(Task.question('?', id='a')); "
    "o.decide('a', 'complete')"
)
#: By extensions, the file that the error names, and what asks for it.
ASKED = {
    "budgets": (
        "taskorch.budgets",
        "TaskOrchestrator().budget('a', tokens=1)",
        "TaskOrchestrator().resources.raise_budget('a', {'tokens': 1})",
    ),
    "comparing": ("taskorch.comparing", "TaskOrchestrator().compare('a', 'b')"),
    "questions": (
        "taskorch.questions",
        "TaskOrchestrator().questions()",
        "TaskOrchestrator().answer('a', 'yes', by='ada')",
        DECIDING,
    ),
    "recovery": (
        "taskorch.recovery",
        "TaskOrchestrator().metrics()",
        "TaskOrchestrator().recover('unknown')",
    ),
    "simulation": (
        "taskorch.simulation",
        "TaskOrchestrator().simulate([])",
        "TaskOrchestrator().when('a')",
        "TaskOrchestrator().in_time('a')",
        "TaskOrchestrator().what_if(pause=['a'])",
    ),
    "retention": (
        "taskorch.retention",
        KEEPING,
        "TaskOrchestrator(journal='runs.db').prune()",
        "TaskOrchestrator().schedules.add('a', 60, Task('a'), keep_latest=1)",
    ),
}


PUBLIC = "".join(
    f"from {room} import *\n"
    for room in ("taskorch", "taskorch.errors", "taskorch.protocols")
)


#: What there is without any extension.
FEW = "from taskorch import TaskOrchestrator\nfrom taskorch.errors import UsageError\n"


def printed(code: str, package: Path, public: str = PUBLIC) -> list[str]:
    """The lines that *code* prints, with the copy *package* and its *public* names."""
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-c"),
            f"{public}{code}",
        ],
        cwd=package.parent,
        env=environment(package),
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ASKED)
def test_a_call_that_needs_what_was_deleted_is_refused(name, tmp_path):
    module, *calls = ASKED[name]
    script = "".join(
        f"try: {call}\nexcept UsageError as error: print(error)\nelse: print('done')\n"
        for call in calls
    )
    # All that is public has names of simulations.
    public = FEW if name == "simulation" else PUBLIC
    told = printed(script, copy_without([name], tmp_path), public)
    for line, call in zip(told, calls, strict=True):
        assert f"{module}, and its file was deleted" in line, call


OPENING = """
try:
    with TaskOrchestrator(journal={journal!r}): pass
except UsageError as error: print(error)
"""


def test_without_budgets_a_journal_that_has_some_is_refused(tmp_path):
    journal = str(tmp_path / "runs.db")
    opening = OPENING.format(journal=journal)
    package = copy_without(["budgets"], tmp_path)
    assert printed(opening, package) == []
    with TaskOrchestrator(journal=journal) as orch:
        orch.budget("a", tokens=1)
    [error] = printed(opening, package)
    assert "a journal with budgets needs taskorch.kernel._budgets" in error


FAILING = """
class Handler:
    def decide(self, failure, context):
        print(failure.kind)
        return RetryDecision(failure.attempts < 3, 0)
def fail(): raise TimeoutError
retry = RetryPolicy(max_attempts=3, base=0.001)
for handler in ({}, {"retry_handler": Handler()}):
    with TaskOrchestrator(**handler) as orch:
        done = orch.submit_task(Task.call(fail, retry=retry))
        print(repr(done.exception()), done.status.attempts)
"""


def test_without_recovery_a_task_ends_by_its_own_options(tmp_path):
    """Nobody knows of what class its failures are."""
    told = printed(FAILING, copy_without(["recovery"], tmp_path))
    assert told == [
        "TimeoutError() 3",
        "unknown",
        "unknown",
        "unknown",
        "TimeoutError() 3",
    ]


REMEMBERING = """
with TaskOrchestrator() as orch:
    done = orch.submit_task(Task.call(int, id="a", cache=True))
    print(done.exception())
    print(orch.submit(int).result())
"""


def test_without_memo_a_task_with_a_cache_fails_and_says_why(tmp_path):
    error, other = printed(REMEMBERING, copy_without(["memo"], tmp_path))
    assert "cache= of a task needs taskorch.memo, and its file was deleted" in error
    assert other == "0"


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_core_works_without_an_extension(name):
    fault = broken_by([name])
    if name in unbound():
        assert not fault, (
            f"{name} cannot be deleted any more: {fault}\n{ADVICE['bound']}"
        )
    else:
        assert fault, (
            f"{name} can be deleted now: shrink the golden, by {COMMAND} bound"
        )


@pytest.mark.slow
@pytest.mark.timeout(4 * PATIENCE)
@pytest.mark.parametrize("tests", OF_CORE)
def test_the_tests_of_the_core_pass_without_all_that_can_be_deleted(tests, tmp_path):
    """But for those that ask for an extension themselves."""
    package = copy_without(unbound(), tmp_path)
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-m", "not slow"),
            *("-p", "no:taskorch", "-p", "no:cacheprovider"),
            *("--hypothesis-profile=few", "--continue-on-collection-errors"),
            *(f"--ignore={place}" for place in OF_EXTENSIONS),
            *(f"--junitxml={report}", tests),
        ],
        cwd=ROOT,
        env=environment(package),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3.5 * PATIENCE,
        check=False,
    )
    assert report.exists(), f"they came to no end:\n{done.stdout[-3000:]}"
    faults = []
    passed = 0
    for case in ET.parse(report).iter("testcase"):
        problems = [part for part in case if part.tag in {"failure", "error"}]
        passed += not len(case)
        faults += [
            f"{case.get('classname')} {case.get('name')}\n{problem.text}"
            for problem in problems
            if not asks_for_an_extension(problem.text or "")
        ]
    assert not faults, "\n".join(faults[:5])
    assert passed >= OF_CORE[tests]


def asks_for_an_extension(text: str) -> bool:
    """Whether a file of the tests has imported what is missing, or was refused so."""
    if re.search(
        r"^E .* needs taskorch\.\S+, and its file was deleted", text, re.MULTILINE
    ):
        return True
    places = re.findall(r"^(\S+\.py):\d+: in ", text, re.MULTILINE)
    missing = re.search(
        r"^E .*(No module named 'taskorch\.|cannot import name \S+ from 'taskorch)",
        text,
        re.MULTILINE,
    )
    return bool(missing and places and Path(places[-1]).parts[0] == "tests")


def test_a_test_that_asks_for_an_extension_is_known_from_a_fault_of_the_core():
    missing = "E   ModuleNotFoundError: No module named 'taskorch.reading'\n"
    test, core = "tests/a.py:1: in <module>\n    x\n", "/t/taskorch/b.py:2: in f\n  y\n"
    assert asks_for_an_extension(test + missing)
    assert asks_for_an_extension(
        f"{test}{core}E   InvalidTaskError: a() needs taskorch.b, and its file was deleted"
    )
    assert asks_for_an_extension(
        f"{test}E   ImportError: cannot import name '_b' from 'taskorch.a' (a.py)"
    )
    assert not asks_for_an_extension(test + core + missing)
    assert not asks_for_an_extension(test + "E   AssertionError\n")
    assert not asks_for_an_extension(
        test + "E   ModuleNotFoundError: No module named 'x'"
    )
