"""A new workspace: its folders, a template, and the two scripts of the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from taskorch.frontends.workspace._layout import KINDS, WorkspaceLayout

#: The phases of the protocol, of which the settings say the limits.
_PHASES: Final = (
    "01-analysis",
    "02-planning",
    "03-implementation",
    "04-validation",
    "05-optimization",
)
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

from taskorch.cli import main

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


def init(root: Path, layout: WorkspaceLayout, title: str) -> list[str]:
    """Make what is not there yet, and return the paths of that; what is there stays."""
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
    phases = phases or [root / tasks / name for name in _PHASES]
    within = ["", *(f"/{phase.name}" for phase in sorted(phases))]
    for kind in KINDS:
        phases += [layout.folder(f"{kind}{name}") for name in within]
    for folder in phases:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            if folder.parent.name not in KINDS:
                paths.append(f"{layout.shown(folder)}/")
    return paths
