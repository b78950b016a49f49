"""Where the files of a workspace are; a new one: folders, a template, two scripts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs

#: The folders in the folder of the workspace.
KINDS: Final = ("status", "outputs", "logs", "pids")
_NUMBER: Final = re.compile("([0-9]+)")


@attrs.frozen
class WorkspaceLayout:
    """
    The folders of a workspace.

    Attributes:
        root: The folder that all is in, absolute: programs run here.
        tasks: The folder of task files.
        workspace: The folder for status, outputs, logs and pids.
    """

    root: Path
    tasks: str = "tasks"
    workspace: str = "workspace"

    def task_file(self, task_id: str) -> str:
        """The file of a task, as seen from `root`."""
        return f"{self.tasks}/{task_id}.md"

    def folder(self, kind: str) -> Path:
        """The folder of one of `KINDS`."""
        return Path(f"{self.root}/{self.workspace}/{kind}")

    def status(self, task_id: str) -> str:
        """The status file of a task: a text, as it is asked for often."""
        return f"{self.root}/{self.workspace}/status/{task_id}.json"

    def outputs(self, task_id: str) -> Path:
        """Return the folder for the outputs of a task."""
        return self.folder(f"outputs/{task_id}")

    def log(self, task_id: str) -> Path:
        """Return the file for the output of a task's program."""
        return self.folder(f"logs/{task_id}.log")

    def pid(self, task_id: str) -> Path:
        """The file with the process id of a task's program, while it runs."""
        return self.folder(f"pids/{task_id}.pid")

    def approval(self, phase: str) -> Path:
        """The file that says who has approved a phase."""
        return self.folder(f"approvals/{phase}.json")

    @property
    def own(self) -> Path:
        """Folder of the ledger and the locks, which the runners share."""
        return self.folder(".taskorch")

    def shown(self, path: str | os.PathLike[str]) -> str:
        """Return *path* relative to `root`."""
        return os.fspath(path).removeprefix(f"{str(self.root).rstrip('/')}/")


def by_numbers(name: str) -> tuple[list[str | int], str]:
    """Return a key to sort names by: numbers count as such, 2 before 10."""
    parts = enumerate(_NUMBER.split(name))
    return [int(part) if place % 2 else part for place, part in parts], name


def read_start(path: str | os.PathLike[str], most: int) -> bytes:
    """
    The first *most* bytes of a file; all, if it has fewer.

    Raises:
        OSError: It cannot be read.
    """
    # A pipe without a writer, or another special file, must not hold us up.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        data = chunk = os.read(file, most)
        while chunk and len(data) < most:
            chunk = os.read(file, most - len(data))
            data += chunk
        return data
    finally:
        os.close(file)


_TEMPLATE: Final = """\
---
dependencies: []            # ids of tasks, such as 01-analysis/01-run-tests
inputs: []                  # files in workspace/outputs: 01-analysis/01-run/a.json
outputs:                    # files that it makes in workspace/outputs/ID
  - report.md
# Where you need them:
# agent: claude             # who does it, by its name in workspace.yaml
# command: pytest -q        # a program that does it instead
# capability: review        # what its agent must be capable of
# timeout: 2h               # 90s, 30m, 2h; a number alone is hours
# estimate: 30m             # for --dry-run
# retries: 2                # how often it is run again if it fails
# priority: high            # low, normal, high, critical, or a number
# resources: {cpu: 2, memory_gb: 4}
# gate: docs/decision.md    # files that must be there when it has ended
---
# What is to be done

Copy this file to tasks/PHASE/NAME.md, and say here what the agent is to do.
"""

_README: Final = """\
# Tasks

Each file here is a task, and each folder a phase; `README.md` and `TEMPLATE.md` are
none. The id of a task is its path: `01-analysis/01-run-tests`.

    taskorch workspace lint       what is wrong with the files
    ./scripts/orchestrator.py --dry-run
    ./scripts/orchestrator.py --phase 01-analysis
    ./scripts/orchestrator.py
    ./scripts/show-progress.sh
"""

_SETTINGS: Final = """\
# All of this is optional; what stands here is what holds without it.
# title: My project
# agent: agent run {task_file}   # or a preset: aider, claude, codex, gemini, goose
# stdin: false                   # whether it reads the task from standard input
# grace: 10s                     # between asking a program to end and killing it
# folders: {tasks: tasks, workspace: workspace}
# limits: {max_concurrent_agents: 10, max_cpu_per_agent: 4, max_memory_gb: 8}
# phases:                        # timeouts in hours; `analysis` governs 01-analysis
#   analysis: {limit: 6, timeout: 8}
#   planning: {limit: 3, timeout: 6, gate: docs/features.md, approval: true}
#   implementation: {limit: 10, timeout: 12}
#   validation: {limit: 2, timeout: 4}
#   optimization: {limit: 5, timeout: 20}
# agents:
#   reviewer: {command: claude -p, stdin: true, capabilities: [review], limit: 2}
"""

_ORCHESTRATOR: Final = """\
#!/usr/bin/env python3
import sys
from pathlib import Path

from taskorch.ext.command_line import main

if __name__ == "__main__":
    root = Path(__file__).resolve().parents[1]
    sys.exit(main(["workspace", "run", str(root), *sys.argv[1:]]))
"""

_PROGRESS: Final = """\
#!/bin/bash
# Needs jq.
cd "$(dirname "$0")/.." || exit 1

echo "=== {title} Status ==="
echo ""

for folder in {tasks}/*/; do
    phase=$(basename "$folder")
    total=$(find "{tasks}/${{phase}}" -name "*.md" \\
        ! -name README.md ! -name TEMPLATE.md | wc -l)
    [ "$total" -gt 0 ] || continue
    states=$(find "{workspace}/status/${{phase}}" -name "*.json" -print0 2>/dev/null |
        xargs -0 -r jq -r '.status')
    completed=$(grep -c "completed" <<< "$states")
    running=$(grep -c "running" <<< "$states")
    blocked=$(grep -c "blocked" <<< "$states")

    echo "Phase: ${{phase}}"
    echo "  Total: ${{total}}"
    echo "  Completed: ${{completed}} ($(( completed * 100 / total ))%)"
    echo "  Running: ${{running}}"
    echo "  Blocked: ${{blocked}}"
    echo ""
done
"""


def init(
    root: Path, layout: WorkspaceLayout, title: str, usual: Iterable[str]
) -> list[str]:
    """
    Make what is not there yet, and return the paths of that; what is there stays.

    If there is no phase, there are the *usual* ones.
    """
    tasks, workspace = layout.tasks, layout.workspace
    progress = _PROGRESS.format(title=title, tasks=tasks, workspace=workspace)
    files = {
        "workspace.yaml": _SETTINGS,
        f"{tasks}/README.md": _README,
        f"{tasks}/TEMPLATE.md": _TEMPLATE,
        "scripts/orchestrator.py": _ORCHESTRATOR,
        "scripts/show-progress.sh": progress,
    }
    paths: list[str] = []
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            continue
        path.write_text(text, encoding="utf-8")
        if name.startswith("scripts/"):
            path.chmod(0o755)
        paths.append(name)
    phases = [entry for entry in (root / tasks).iterdir() if entry.is_dir()]
    phases = phases or [
        root / tasks / f"{number:02}-{name}" for number, name in enumerate(usual, 1)
    ]
    within = ["", *(f"/{phase.name}" for phase in sorted(phases))]
    for kind in KINDS:
        phases += [layout.folder(f"{kind}{name}") for name in within]
    for folder in phases:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            if folder.parent.name not in KINDS:
                paths.append(f"{layout.shown(folder)}/")
    return paths
