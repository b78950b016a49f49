"""Agents work in worktrees; what they did is merged in order, behind a gate."""

import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from taskorch import Task, TaskOrchestrator
from taskorch.ext.recovery import RecoveryHandler, Rule

#: In the place of "claude", "codex" or another: it writes a file as it is told.
SCRIPT = """
import os, re, sys
name = re.search("Write (.*)", sys.stdin.read())[1]
open(name, "w").write("by " + os.environ["TASKORCH_TASK"])
"""
RUNNER = [sys.executable, "-c", SCRIPT]


class NotMergedError(Exception):
    """A result does not fit, or does not pass: a person, or a coding agent, decides."""


def git(folder: str | Path, *words: str) -> str:
    """What git answers; it fails if git, or a hook of yours, refuses."""
    who = ("-c", "user.name=fleet", "-c", "user.email=fleet@example.org")
    command = ["git", *who, *words]
    run = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if run.returncode:
        msg = f"git {' '.join(words)}: {run.stderr or run.stdout}"
        raise NotMergedError(msg)
    return run.stdout


def check(project: Path) -> None:
    """The gate: what does not pass it, is not merged."""
    for file in project.glob("*.txt"):
        if not file.read_text():
            msg = f"{file} is empty"
            raise NotMergedError(msg)


def merge(project: Path, work: dict[str, str]) -> None:
    branch, tree = work["branch"], work["folder"]
    if git(project, "status", "--porcelain", "--untracked-files=no"):
        msg = f"{project} has changes of its own: commit them"
        raise NotMergedError(msg)
    git(tree, "add", "--all", ":/")
    git(tree, "commit", "--allow-empty", "-m", branch)
    try:
        git(project, "merge", "--no-ff", "--no-commit", branch)
        check(project)
        git(project, "commit", "-m", f"merge {branch}")
    except NotMergedError:
        with suppress(NotMergedError):
            git(project, "merge", "--abort")
        raise
    git(project, "worktree", "remove", tree)


#: Each task, and the file that it changes.
TASKS = {"parser": "a.txt", "docs": "b.txt", "rival": "a.txt"}
#: Whose results are merged before those of a task.
BEFORE = {"rival": ["parser"]}

with tempfile.TemporaryDirectory() as folder:
    project = Path(folder) / "project"
    project.mkdir()
    git(project, "init", "-b", "main")
    git(project, "commit", "--allow-empty", "-m", "begin")
    asks = RecoveryHandler(classes=[Rule("logic", error="NotMergedError")])
    with TaskOrchestrator(retry_handler=asks) as orch:
        orch.agents.coding(RUNNER, folder=project, worktree=True)
        for _ in range(len(TASKS)):
            orch.agents.spawn("code")
        works = {
            name: orch.submit_task(
                Task("code", f"Write {file}", id=name, requires=["code"])
            )
            for name, file in TASKS.items()
        }
        # Merges wait for all, so that all have begun at the same commit.
        for name, work in works.items():
            merges = [f"merge-{other}" for other in BEFORE.get(name, ())]
            orch.submit_task(
                Task.call(
                    merge,
                    project,
                    work,
                    id=f"merge-{name}",
                    after=[*works, *merges],
                    writes=["**"],
                )
            )
        orch.wait()
        # A person mends the branch, and answers "retry"; here, the result is left out.
        (conflict,) = orch.escalations()
        print(conflict.text)
        conflict.answer("skip", by="ada")
    print(git(project, "log", "--first-parent", "--format=%s"))
