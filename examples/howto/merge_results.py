"""Agents work in worktrees; what they did is merged in order, behind a gate."""

import subprocess
import tempfile
from pathlib import Path

from taskorch import Task, TaskOrchestrator
from taskorch.recovery import RecoveryHandler, Rule


class MergeConflictError(Exception):
    """Two results do not fit together: a person, or a coding agent, decides."""


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    who = ("-c", "user.name=fleet", "-c", "user.email=fleet@example.org")
    command = ["git", *who, *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )


def work(tree: Path, name: str, file: str) -> None:
    """In the place of a coding agent: it commits to its branch, in its worktree."""
    (tree / file).write_text(f"by {name}\n")
    git(tree, "add", ".")
    git(tree, "commit", "-m", name)


def merge(project: Path, name: str) -> None:
    if git(project, "merge", "--no-ff", "-m", f"merge {name}", name).returncode:
        git(project, "merge", "--abort")
        raise MergeConflictError(name)
    # The gate: what does not pass it, is not merged.
    if not all(file.read_text() for file in project.glob("*.txt")):
        git(project, "reset", "--hard", "HEAD~1")
        msg = f"{name} does not pass"
        raise MergeConflictError(msg)


#: Each agent, the file that it changes, and whose results are merged before its own.
AGENTS = (("parser", "a.txt", ""), ("docs", "b.txt", ""), ("rival", "a.txt", "parser"))

with tempfile.TemporaryDirectory() as folder:
    project = Path(folder) / "project"
    project.mkdir()
    git(project, "init", "-b", "main")
    git(project, "commit", "--allow-empty", "-m", "begin")
    tasks: list[Task] = []
    for name, file, before in AGENTS:
        tree = Path(folder) / name
        git(project, "worktree", "add", "-b", name, str(tree))
        merges = [f"merge-{other}" for other in before.split()]
        tasks.append(Task.call(work, tree, name, file, id=name))
        tasks.append(
            Task.call(
                merge,
                project,
                name,
                id=f"merge-{name}",
                after=[name, *merges],
                writes=["**"],
            )
        )
    asks = RecoveryHandler(classes=[Rule("logic", error="MergeConflictError")])
    with TaskOrchestrator(retry_handler=asks) as orch:
        orch.submit_tasks(tasks)
        orch.wait()
        # A person mends the branch, and answers "retry"; here, the result is left out.
        (conflict,) = orch.escalations()
        print(conflict.text)
        conflict.answer("skip", by="ada")
    print(git(project, "log", "--first-parent", "--format=%s").stdout)
