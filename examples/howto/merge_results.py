"""Agents work in worktrees; what they did is merged in order, behind a gate."""

import subprocess
import sys
import tempfile
from pathlib import Path

from taskorch import Task, TaskOrchestrator
from taskorch.recovery import RecoveryHandler, Rule

#: In the place of "claude", "codex" or another: it writes a file as it is told.
SCRIPT = """
import os, re, sys
name = re.search("Write (.*)", sys.stdin.read())[1]
open(name, "w").write("by " + os.environ["TASKORCH_TASK"])
"""
RUNNER = [sys.executable, "-c", SCRIPT]


class MergeConflictError(Exception):
    """Two results do not fit together: a person, or a coding agent, decides."""


def git(folder: str | Path, *words: str) -> subprocess.CompletedProcess[str]:
    who = ("-c", "user.name=fleet", "-c", "user.email=fleet@example.org")
    command = ["git", *who, *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )


def merge(project: Path, work: dict[str, str]) -> None:
    branch = work["branch"]
    git(work["folder"], "add", ".")
    git(work["folder"], "commit", "-m", branch)
    if git(project, "merge", "--no-ff", "-m", f"merge {branch}", branch).returncode:
        git(project, "merge", "--abort")
        raise MergeConflictError(branch)
    # The gate: what does not pass it, is not merged.
    if not all(file.read_text() for file in project.glob("*.txt")):
        git(project, "reset", "--hard", "HEAD~1")
        msg = f"{branch} does not pass"
        raise MergeConflictError(msg)
    git(project, "worktree", "remove", work["folder"])


#: Each task, the file that it changes, and whose results are merged before its own.
TASKS = (("parser", "a.txt", ""), ("docs", "b.txt", ""), ("rival", "a.txt", "parser"))

with tempfile.TemporaryDirectory() as folder:
    project = Path(folder) / "project"
    project.mkdir()
    git(project, "init", "-b", "main")
    git(project, "commit", "--allow-empty", "-m", "begin")
    asks = RecoveryHandler(classes=[Rule("logic", error="MergeConflictError")])
    with TaskOrchestrator(retry_handler=asks) as orch:
        orch.agents.coding(RUNNER, folder=project, worktree=True)
        for _ in range(2):
            orch.agents.spawn("code")
        for name, file, before in TASKS:
            task = Task("code", f"Write {file}", id=name, requires=["code"])
            work = orch.submit_task(task)
            merges = [f"merge-{other}" for other in before.split()]
            orch.submit_task(
                Task.call(
                    merge,
                    project,
                    work,
                    id=f"merge-{name}",
                    after=merges,
                    writes=["**"],
                )
            )
        orch.wait()
        # A person mends the branch, and answers "retry"; here, the result is left out.
        (conflict,) = orch.escalations()
        print(conflict.text)
        conflict.answer("skip", by="ada")
    print(git(project, "log", "--first-parent", "--format=%s").stdout)
