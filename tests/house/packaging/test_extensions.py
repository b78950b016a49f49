"""
What an extension is, one can delete: its files go, and the core works as before.

`fences/bound.txt` lists those that cannot be deleted yet, each with what fails; when one
can, it leaves the list. `tests/house/tools/extensions.py` says which files they are.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.core.kernel.stories import texts
from tests.house.tools.extensions import (
    EXTENSIONS,
    PATIENCE,
    SOURCE,
    copy_without,
    environment,
    extension_of,
    faults_of_acts,
)
from tests.house.tools.fences import ADVICE, COMMAND, broken_by, unbound

from taskorch import TaskOrchestrator

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package without all that can be deleted."""
    return copy_without(unbound(), tmp_path_factory.mktemp("bare"))


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


def test_the_core_works_without_all_that_can_be_deleted(bare):
    assert faults_of_acts(bare) == {}


IMPORTS = """
from importlib import import_module
from pkgutil import walk_packages
import taskorch
for found in walk_packages(taskorch.__path__, "taskorch."):
    if "__main__" not in found.name:
        import_module(found.name)
"""


def test_what_is_no_extension_is_imported_without_any(tmp_path):
    package = copy_without({*EXTENSIONS} - {"testing", "verbs"}, tmp_path)
    assert printed(IMPORTS, package) == []


STORIES = """
from tests.core.kernel.stories import play, stories, texts
for path in texts():
    for told in stories(path) if path.stem != "budgets" else ():
        if not told.startswith("#"):
            print(path.stem, play(told) == told)
"""


def test_the_stories_of_the_kernel_need_no_extension(bare):
    """But for those of budgets, which are one."""
    told = printed(f"import sys; sys.path.append({str(ROOT)!r})\n{STORIES}", bare)
    assert {line.split()[0] for line in told} == {
        path.stem for path in texts() if path.stem != "budgets"
    }
    assert [line for line in told if not line.endswith("True")] == []


KEEPING = "TaskOrchestrator(journal=SqliteJournal('runs.db', keep_for=60)).start()"
DECIDING = (
    "o = TaskOrchestrator(); o.submit_task(Task.question('?', id='a')); "
    "o.decide('a', 'complete')"
)
#: What the error names, and what asks for it.
ASKED = (
    (
        "taskorch.ext.budgets",
        "TaskOrchestrator().budget('a', tokens=1)",
        "TaskOrchestrator().resources.raise_budget('a', {'tokens': 1})",
    ),
    ("taskorch.ext.comparing", "TaskOrchestrator().compare('a', 'b')"),
    (
        "taskorch.ext.questions",
        "TaskOrchestrator().questions()",
        "TaskOrchestrator().answer('a', 'yes', by='ada')",
        DECIDING,
    ),
    (
        "taskorch.ext.recovery",
        "TaskOrchestrator().metrics()",
        "TaskOrchestrator().recover('unknown')",
    ),
    (
        "taskorch.ext.simulation",
        "TaskOrchestrator().simulate([])",
        "TaskOrchestrator().when('a')",
        "TaskOrchestrator().in_time('a')",
        "TaskOrchestrator().what_if(pause=['a'])",
    ),
    (
        "taskorch.ext.schedules",
        "TaskOrchestrator().schedules",
    ),
    (
        "taskorch.ext.notices",
        "TaskOrchestrator().notify('json://127.0.0.1')",
        "TaskOrchestrator().events()",
    ),
    ("taskorch.ext.service", "TaskOrchestrator().serve()"),
    (
        "taskorch.ext.retention",
        KEEPING,
        "TaskOrchestrator(journal='runs.db').prune()",
    ),
)


#: What there is without any extension.
PUBLIC = """
from taskorch import RetryPolicy, SqliteJournal, Task, TaskOrchestrator
from taskorch.errors import UsageError
from taskorch.protocols import RetryDecision
"""


def printed(code: str, package: Path) -> list[str]:
    """The lines that *code* prints, with the copy *package*."""
    done = subprocess.run(
        [*(sys.executable, "-P", "-c"), f"{PUBLIC}{code}"],
        cwd=package.parent,
        env=environment(package),
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_call_that_needs_what_was_deleted_is_refused(bare):
    calls = [(module, call) for module, *every in ASKED for call in every]
    script = "".join(
        f"try: {call}\nexcept UsageError as error: print(error)\nelse: print('done')\n"
        for _, call in calls
    )
    for line, (module, call) in zip(printed(script, bare), calls, strict=True):
        assert f"{module}, and its file was deleted" in line, call


OPENING = """
try:
    with TaskOrchestrator(journal={journal!r}): pass
except UsageError as error: print(error)
"""


def test_without_budgets_a_journal_that_has_some_is_refused(bare, tmp_path):
    without, journal = str(tmp_path / "none.db"), str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=without), TaskOrchestrator(journal=journal) as orch:
        orch.budget("a", tokens=1)
    script = "".join(OPENING.format(journal=each) for each in (without, journal))
    [error] = printed(script, bare)
    assert "a journal with budgets needs taskorch.ext.budgets, and" in error


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


def test_without_recovery_a_task_ends_by_its_own_options(bare):
    """Nobody knows of what class its failures are."""
    told = printed(FAILING, bare)
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


def test_without_memo_a_task_with_a_cache_fails_and_says_why(bare):
    error, other = printed(REMEMBERING, bare)
    assert "cache= of a task needs taskorch.ext.memo, and its file was deleted" in error
    assert other == "0"


@pytest.mark.slow("fifteen acts for each of forty")
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
