"""
Runs the whole test suite of networkx, 265 files, through the orchestrator.

The files are dealt into tasks. Each task is a pytest process, run by one of four
agents; of the three phases, each begins when all of the one before has passed.

    python examples/test_suite.py              progress, then a report
    python examples/test_suite.py --compare    then a plain pytest run to compare with

Stop it with Ctrl-C, or kill it with `kill -9`: the next run goes on where it was.
It exits with 1 if a test failed, or if the counts are not those of the plain run.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from xml.etree import ElementTree as ET
from zipfile import ZipFile

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from taskorch import (
    JournalTakenError,
    Program,
    Resources,
    RetryPolicy,
    Task,
    TaskContext,
    TaskOrchestrator,
    TaskState,
    TaskStatus,
)
from taskorch.events import TaskCompleted, TaskFailed, TaskRetrying

# For each phase: folders of tests, what an agent must be able to do, number of tasks.
PHASES = {
    "structures": (["classes", "generators", "utils", "tests"], "pytest", 8),
    "algorithms": (["algorithms"], "algorithms", 20),
    "files": (["readwrite", "drawing", "linalg"], "files", 4),
}
AGENTS = {
    "unit-1": {"pytest", "algorithms"},
    "unit-2": {"pytest", "algorithms"},
    "allround": {"pytest", "algorithms", "files"},
    "files-1": {"pytest", "files"},
}
HOME = Path(__file__).resolve().parents[1] / ".demo"
SITE = HOME / "networkx-3.6.1"  # the unpacked wheel: it brings its tests along
RUN = HOME / "run"  # all of a run that is under way: its journal, reports and logs
FINISHED = HOME / "finished-run"  # where it is then, until the next one has finished
SHA256 = "d47fbf302e7d9cbbb9e2555a0d267983d2aa476bac30e90dfbe5669bd57f3762"
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
ENV = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # this suite needs no plugins
# What a JUnit report calls an outcome, and what pytest does.
NAMES = {"failure": "failed", "error": "errors", "skipped": "skipped"}
COLUMNS = ("passed", *NAMES.values(), "xfailed")

orch = TaskOrchestrator(journal=RUN / "journal.db")


def run_tests(task: Task, context: TaskContext) -> Program:
    """What an agent does with a task: it says which program to run."""
    report = f"--junit-xml={report_of(context.task_id)}"
    return Program([*PYTEST, report, *task.payload], env=ENV, cwd=SITE)


for name, skills in AGENTS.items():
    room = Resources(cpu=1, memory_mb=1024)
    orch.agent(name, capabilities=skills, capacity=room, executor="program")(run_tests)


def plan() -> list[Task]:
    """All tasks; those of a phase come after all of the phase before."""
    tasks: list[Task] = []
    before: list[Task] = []
    for phase, (folders, capability, count) in PHASES.items():
        before = [
            Task(
                "pytest",
                files,
                id=f"{phase}/{number:02}",
                after=before,
                requires={capability},
                resources=Resources(cpu=1, memory_mb=512),
                timeout=300,
                retry=RetryPolicy(max_attempts=2),
            )
            for number, files in enumerate(deal(folders, count), start=1)
        ]
        tasks += before
    return tasks


def deal(folders: list[str], count: int) -> list[list[str]]:
    """The test files in *folders* in *count* piles of about one size."""
    tests = [f for folder in folders for f in SITE.glob(f"*/{folder}/**/test_*.py")]
    tests.sort(key=lambda file: (-file.stat().st_size, file))
    return [
        [str(file.relative_to(SITE)) for file in tests[i::count]] for i in range(count)
    ]


def fetch() -> None:
    """Download and unpack the pinned wheel, unless that is done already."""
    if (SITE / "pytest.ini").exists():
        return
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--dest", str(HOME), "networkx==3.6.1"], check=True)
    wheel = HOME / "networkx-3.6.1-py3-none-any.whl"
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{wheel} is not the file that was published")
    ZipFile(wheel).extractall(SITE)
    # Without a configuration of its own, pytest would take this repository's.
    (SITE / "pytest.ini").write_text("[pytest]\n")


class Board:
    """A bar for each phase and a line for each agent, as they stand when drawn."""

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = tasks

    def __rich__(self) -> Table:
        statuses = [orch.get_task_status(str(task.id)) for task in self.tasks]
        grid = Table.grid(padding=(0, 2))
        for phase in PHASES:
            ended = [s.is_terminal for s in statuses if phase_of(s) == phase]
            bar = ProgressBar(total=len(ended), completed=sum(ended), width=32)
            grid.add_row(phase, bar, f"{sum(ended)} of {len(ended)} tasks")
        running = {s.agent_id: s.task_id for s in statuses if s.state == "running"}
        for agent in AGENTS:
            grid.add_row(f"[dim]{agent}", f"[dim]{running.get(agent, '-')}")
        return grid


def run(console: Console) -> list[TaskStatus]:
    """Run what is left; where no terminal is, progress is a line for each attempt."""
    tasks = plan()
    if known := list(orch.tasks()):  # from the journal: a run was stopped, or killed
        ended = sum(status.is_terminal for status in known)
        done = f"{ended} of {len(tasks)} tasks were finished already"
        console.print(f"resumed: {done}; all times are of this run alone")

    def say(event: TaskCompleted | TaskRetrying | TaskFailed) -> None:
        console.print(f"{type(event).__name__:13} {event.task_id:13} {event.agent_id}")

    live = Live(Board(tasks), console=console) if console.is_terminal else nullcontext()
    if not console.is_terminal:
        orch.signals.task_completed.connect(say)
        orch.signals.task_retrying.connect(say)
        orch.signals.task_failed.connect(say)
    with orch:
        orch.submit_tasks(tasks)  # those that it knows by their ids are not run again
        with live:
            orch.wait()
        return [orch.get_task_status(str(task.id)) for task in tasks]


def phase_of(status: TaskStatus) -> str:
    return status.task_id.partition("/")[0]


def report_of(task_id: str) -> Path:
    return RUN / "reports" / f"{task_id.replace('/', '-')}.xml"


def outcomes(report: Path) -> Counter[str]:
    """What became of the tests of one pytest run; an expected failure is no skip."""
    found = Counter[str]()
    if report.exists():  # else its task never ran
        for case in ET.parse(report).iter("testcase"):
            marks = [mark for mark in case if mark.tag in NAMES]
            xfailed = any(mark.get("type") == "pytest.xfail" for mark in marks)
            kinds = ["xfailed"] if xfailed else [NAMES[mark.tag] for mark in marks]
            found.update(kinds or ["passed"])
    return found


def seconds_of(status: TaskStatus, since: float) -> float:
    """How long the attempts ran that began after the time *since*."""
    steps = zip(status.history, status.history[1:], strict=False)
    attempts = [step for step in steps if step[0].state == "running"]
    return sum(end.at - begin.at for begin, end in attempts if begin.at >= since)


def table(title: str, rows: dict[str, Counter[str]]) -> Table:
    grid = Table(title)
    for column in COLUMNS:
        grid.add_column(column, justify="right")
    for name, found in rows.items():
        grid.add_row(name, *(f"{found[column]:,}" for column in COLUMNS))
    return grid


def report(
    console: Console, statuses: list[TaskStatus], makespan: float, since: float
) -> None:
    """The counts of each phase and each agent, and where the time of this run went."""
    seconds = {status.task_id: seconds_of(status, since) for status in statuses}
    phases = {phase: Counter[str]() for phase in PHASES}
    agents = {agent: Counter[str]() for agent in AGENTS}
    busy = dict.fromkeys(AGENTS, 0.0)
    for status in statuses:
        found = outcomes(report_of(status.task_id))
        phases[phase_of(status)] += found
        if status.agent_id is not None:
            agents[status.agent_id] += found
            busy[status.agent_id] += seconds[status.task_id]
        if status.state is TaskState.FAILED:
            console.print(str(status.error), markup=False, highlight=False)
    if blocked := sum(status.state is TaskState.BLOCKED for status in statuses):
        console.print(f"{blocked} tasks never began: the phase before did not pass")
    console.print(table("phase", phases))
    shares = {agent: f"{agent}, busy {busy[agent] / makespan:.0%}" for agent in AGENTS}
    console.print(table("agent", {shares[a]: found for a, found in agents.items()}))
    for task_id in sorted(seconds, key=seconds.__getitem__, reverse=True)[:5]:
        console.print(f"slow: {task_id} took {seconds[task_id]:.1f} s")


def main() -> int:
    console = Console()
    fetch()
    (RUN / "reports").mkdir(parents=True, exist_ok=True)

    since = time.time()
    statuses = run(console)
    makespan = time.time() - since
    report(console, statuses, makespan, since)
    total = sum((outcomes(report_of(s.task_id)) for s in statuses), Counter[str]())
    runs = {f"{len(statuses)} tasks, {makespan:.0f} s": total}
    if "--compare" in sys.argv:
        start = time.monotonic()
        command = [*PYTEST, f"--junit-xml={report_of('plain')}", "networkx"]
        subprocess.run(command, cwd=SITE, env={**os.environ, **ENV}, check=False)
        plain = f"plain pytest, {time.monotonic() - start:.0f} s"
        runs[plain] = outcomes(report_of("plain"))
    console.print(table(f"{total.total():,} tests", runs))

    # The next run begins anew.
    shutil.rmtree(FINISHED, ignore_errors=True)
    RUN.rename(FINISHED)
    completed = all(status.state is TaskState.COMPLETED for status in statuses)
    same = all(found == total for found in runs.values())
    return 0 if completed and same else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # the programs have been ended on the way here
        sys.exit("stopped: the next run goes on from here")
    except JournalTakenError as error:
        sys.exit(str(error))
