"""What `import taskorch` costs, and what it leaves alone."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from taskorch import Task, TaskOrchestrator

ROUNDS = 4
#: Heavy or optional: only what needs one of them may load it.
NOT_LOADED = (
    "asyncio",
    "blinker",
    "dataclasses",
    "decimal",
    "difflib",
    "hashlib",
    "http.server",
    "json",
    "multiprocessing",
    "networkx",
    "opentelemetry",
    "sqlite3",
    "ssl",
    "subprocess",
    "tenacity",
    "textual",
    "urllib.parse",
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    # What measures the coverage of our own children would come along; and users have
    # their modules compiled, whatever is set here.
    not_handed_on = ("COVERAGE_", "PYTHONDONTWRITEBYTECODE")
    env = {k: v for k, v in os.environ.items() if not k.startswith(not_handed_on)}
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=env,
    )


def processor_seconds(code: str) -> float:
    """Processor time of a program, from the start of the interpreter to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


FIRST_RESULT = """
from taskorch import TaskOrchestrator
with TaskOrchestrator() as orch:
    orch.submit(pow, 2, 10).result()
"""
FIRST_OF_THREADS = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor() as pool:
    pool.submit(pow, 2, 10).result()
"""
#: The bare import, and what a user goes on to.
IMPORTS = ("import taskorch", "import taskorch; taskorch.TaskOrchestrator()")


def test_the_first_result_is_cheap():
    """
    From the start of the interpreter to the first result, beside a pool of threads.

    The least of several interleaved runs each: load only ever adds time.
    """
    run(FIRST_RESULT)  # the bytecode is on disk from here on

    rounds = [
        [processor_seconds(code) for code in (FIRST_RESULT, FIRST_OF_THREADS)]
        for _ in range(ROUNDS)
    ]

    ours, theirs = map(min, zip(*rounds, strict=True))
    assert ours <= 10 * theirs, f"{ours * 1000:.0f} ms, threads {theirs * 1000:.0f}"


def modules_after(statement: str) -> set[str]:
    return set(run(f"import sys; {statement}; print(*sys.modules)").stdout.split())


@pytest.fixture(scope="module", params=IMPORTS)
def loaded(request) -> set[str]:
    # A traceback of Python 3.14 is printed by dataclasses.
    return modules_after(request.param) - modules_after("import traceback")


@pytest.mark.parametrize("module", NOT_LOADED)
def test_the_import_leaves_heavy_modules_alone(loaded, module):
    assert module not in loaded


#: Modules of ours that the facade may load, and with a plain program after it.
MOST_OF_FACADE, MOST_OF_PLAIN = 34, 140


def ours(names: set[str]) -> set[str]:
    return {name for name in names if f"{name}.".startswith("taskorch.")}


def test_the_facade_and_a_plain_program_load_few_modules():
    """The golden of ways has the exact numbers."""
    facade = ours(modules_after("from taskorch import TaskOrchestrator"))
    plain = ours(modules_after(f"exec({FIRST_RESULT!r})"))

    assert len(facade) <= MOST_OF_FACADE
    assert len(plain) <= MOST_OF_PLAIN


#: The rooms of what few programs do, by the rooms that know them.
NOT_FOR_PLAIN = (
    "taskorch.core.kernel._invariants",
    "taskorch.policies._measured",
    "taskorch.ext.recovery",
    "taskorch.ext.retention",
    "taskorch.ext.questions",
    "taskorch.ext.schedules",
    "taskorch.core.workflows",
    "taskorch.core.runs",
)


def test_a_plain_program_loads_nothing_once_it_has_an_orchestrator():
    """So no task waits for a module; and nothing is loaded that only others need."""
    code = f"""if True:
        import sys
        from taskorch import TaskOrchestrator
        orch = TaskOrchestrator()
        before = set(sys.modules)
        with orch:
            assert orch.submit(pow, 2, 10).result() == 1024
            assert sum(orch.map(abs, [1, 2])) == 3
        print(sorted(set(sys.modules) - before))
        print([name for name in {NOT_FOR_PLAIN} if name in sys.modules])
    """

    assert run(code).stdout.splitlines() == ["[]", "[]"]


SECOND_INCARNATION = """
import sys
from taskorch import Task, TaskOrchestrator

def fail():
    raise ValueError("no")

def live():
    with TaskOrchestrator(journal=sys.argv[1]) as orch:
        orch.submit_task(Task.call(len, "x")).result(60)
        orch.submit_task(Task.call(fail)).exception(60)

live()
known = {*sys.modules}
live()
print(*sorted({*sys.modules} - known))
"""


def test_a_later_incarnation_of_a_process_loads_nothing_that_its_first_did_not(
    tmp_path,
):
    """So it begins where files cannot be read any more: other rights, another root."""
    code = SECOND_INCARNATION.replace("sys.argv[1]", repr(str(tmp_path / "journal.db")))
    assert run(code).stdout.split() == []


def test_the_import_starts_no_thread_and_configures_no_logging():
    code = """if True:
        import logging, threading, taskorch
        taskorch.TaskOrchestrator()
        print(threading.active_count(), logging.getLogger().handlers)
    """

    assert run(code).stdout.strip() == "1 []"


def test_the_import_writes_the_methods_of_few_classes():
    """Each takes as long as a small module; most programs use few of them."""
    code = """if True:
        from taskorch import TaskOrchestrator, events
        TaskOrchestrator()
        made = [cls for cls in vars(events).values() if isinstance(cls, type)]
        # Looked at as they are: asked for, they would be written.
        written = [cls for cls in made if isinstance(vars(cls).get("__new__"), staticmethod)]
        print(len(written), len(made))
    """

    written, made = map(int, run(code).stdout.split())

    assert made >= 40
    assert written <= 6


def test_a_look_at_one_task_loads_what_it_needs(tmp_path):
    """Nearly all that `taskorch inspect JOURNAL TASK` costs are imports."""
    path = str(tmp_path / "runs.db")
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(len, "abc", id="one")).result(60)
    code = f"""if True:
        import sys
        from taskorch.ext import command_line as cli
        cli.main(["inspect", {path!r}, "one"])
        print([name for name in ("socket", "tempfile", "zoneinfo") if name in sys.modules])
    """

    assert run(code).stdout.splitlines()[-1] == "[]"
