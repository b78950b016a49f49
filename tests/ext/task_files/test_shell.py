"""What the protocol does with shell and Python, done here by a real shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ext.task_files.tools import cli, write

pytestmark = pytest.mark.skipif(
    shutil.which("jq") is None or shutil.which("bash") is None, reason="needs jq"
)

#: The dashboard of the protocol, word for word but for the names of the phases.
SHOW_PROGRESS = r"""
for phase in 01-analysis 02-planning; do
    total=$(find tasks/${phase} -name "*.md" | wc -l)
    completed=$(find workspace/status/${phase} -name "*.json" | xargs jq -r '.status' | grep -c "completed")
    running=$(find workspace/status/${phase} -name "*.json" | xargs jq -r '.status' | grep -c "running")
    blocked=$(find workspace/status/${phase} -name "*.json" | xargs jq -r '.status' | grep -c "blocked")

    echo "Phase: ${phase}"
    echo "  Total: ${total}"
    echo "  Completed: ${completed} ($(( completed * 100 / total ))%)"
    echo "  Running: ${running}"
    echo "  Blocked: ${blocked}"
    echo ""
done
"""

#: The gate of its first phase.
GATE = """
[ -f workspace/status/01-analysis/01-run.json ] &&
[ -f workspace/status/01-analysis/02-sort.json ] &&
[ -f workspace/outputs/01-analysis/01-run/test-results.json ]
"""

VALIDATE = r"""
validate_outputs() {
    task_id=$1
    all_exist=true
    for output in $2; do
        full_path="workspace/outputs/${task_id}/${output}"
        if [ ! -f "$full_path" ]; then
            echo "ERROR: Missing output: $full_path"
            all_exist=false
        fi
    done
    if $all_exist; then
        jq '.outputs_validated = true' workspace/status/${task_id}.json
    else
        jq '.status = "failed" | .error = "Missing outputs"' workspace/status/${task_id}.json
    fi
}
"""


def shell(root: Path, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script],
        cwd=root,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_snippets_of_the_protocol_work_on_our_files(runs):
    runs.write(
        **{
            "01-analysis_01-run": "outputs: [test-results.json]|"
            "do: bash ../while-it-runs > ../seen",
            "01-analysis_02-sort": "dependencies: [01-analysis/01-run]",
            "02-planning_01-plan": "outputs: [plan]|do: rm $TASK_OUTPUTS/plan",
            "02-planning_02-next": "dependencies: [02-planning/01-plan]",
        }
    )
    pid = "$(cat workspace/pids/01-analysis/01-run.pid)"
    # Both are there at once only a moment after it has begun.
    write(
        runs.root,
        {
            "../while-it-runs": f"while ! [ -e {pid[6:-1]} ]; do :; done\n"
            f"if ! ps -p {pid} > /dev/null; then echo exited; else echo runs; fi\n"
            "jq -r '.status, .task_id' workspace/status/01-analysis/01-run.json\n"
        },
    )

    assert runs.run()[0] == 1

    seen = (runs.root.parent / "seen").read_text()
    assert seen.split() == ["runs", "running", "01-analysis/01-run"]
    assert shell(runs.root, GATE).returncode == 0
    assert shell(runs.root, SHOW_PROGRESS).stdout == (
        "Phase: 01-analysis\n  Total: 2\n  Completed: 2 (100%)\n  Running: 0\n"
        "  Blocked: 0\n\nPhase: 02-planning\n  Total: 2\n  Completed: 0 (0%)\n"
        "  Running: 0\n  Blocked: 1\n\n"
    )
    good = shell(
        runs.root,
        f"{VALIDATE} validate_outputs 01-analysis/01-run test-results.json",
    )
    assert json.loads(good.stdout) == runs.status("01-analysis/01-run")
    bad = shell(runs.root, f"{VALIDATE} validate_outputs 02-planning/01-plan plan")
    line, _, rest = bad.stdout.partition("\n")
    assert json.loads(rest) == runs.status("02-planning/01-plan")
    log = (runs.root / "workspace/logs/02-planning/01-plan.log").read_text()
    assert line in log.splitlines()
    times = shell(
        runs.root,
        "jq '(.completed_at | fromdate) - (.started_at | fromdate)' "
        "workspace/status/01-analysis/01-run.json",
    )
    assert 0 <= int(times.stdout) < 60


@pytest.mark.slow("commands of a shell, in processes")
def test_the_command_lines_of_the_protocol_run_unchanged(tmp_path):
    root = tmp_path / "project"
    code, out, _ = cli("init", root)
    assert code == 0
    assert "made scripts/orchestrator.py" in out
    write(
        root,
        {
            "tasks/01-analysis/01-run.md": "outputs: [a]",
            "tasks/02-planning/01-plan.md": "dependencies: [01-analysis/01-run]",
        },
    )
    write(tmp_path, {"bin/agent": '#!/bin/sh\necho "$@"; touch $TASK_OUTPUTS/a'})
    (tmp_path / "bin/agent").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    dry = shell(root, "./scripts/orchestrator.py --dry-run", PATH=path)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert dry.stdout.startswith("2 tasks would be run.")
    one = shell(root, "./scripts/orchestrator.py --phase 01-analysis", PATH=path)
    assert (one.returncode, one.stderr) == (0, "")
    shown = shell(root, "./scripts/show-progress.sh")
    assert shown.stdout == (
        "=== project Status ===\n\n"
        "Phase: 01-analysis\n  Total: 1\n  Completed: 1 (100%)\n  Running: 0\n"
        "  Blocked: 0\n\n"
        "Phase: 02-planning\n  Total: 1\n  Completed: 0 (0%)\n  Running: 0\n"
        "  Blocked: 0\n\n"
    )
    assert shown.stderr == ""
    full = shell(root, "./scripts/orchestrator.py", PATH=path)
    assert full.returncode == 0
    assert full.stdout.splitlines()[-1] == "All tasks complete!"

    again = cli("init", root)
    assert "made" not in again[1].replace("made scripts", "")
    assert cli("lint", root)[0] == 0


def test_the_folders_of_all_phases_are_there_after_init(tmp_path):
    cli("init", tmp_path)
    phases = [path.name for path in (tmp_path / "tasks").iterdir() if path.is_dir()]
    assert "02-planning" in phases
    for phase in phases:
        command = ["find", f"workspace/status/{phase}", "-name", "*.json"]
        assert subprocess.run(command, cwd=tmp_path, check=True).returncode == 0

    # Whoever has phases of his own gets no others.
    (tmp_path / "other/tasks/mine").mkdir(parents=True)
    cli("init", tmp_path / "other")
    made = tmp_path / "other/workspace/status"
    assert [path.name for path in made.iterdir()] == ["mine"]


def test_the_template_is_a_task_file_without_problems(tmp_path):
    cli("init", tmp_path)
    template = (tmp_path / "tasks/TEMPLATE.md").read_text()
    plain = template.replace("\n# agent: claude ", "\n# ").replace(
        "\n# capability", "\n#"
    )
    every = plain.replace("\n# ", "\n", 6)
    write(tmp_path, {"tasks/a/one.md": template, "tasks/a/two.md": every})
    settings = tmp_path / "workspace.yaml"
    assert cli("lint", tmp_path) == (0, "2 task files, no problems\n", "")

    # What stands in comments holds, too.
    lines = settings.read_text().splitlines()[1:]
    settings.write_text("\n".join(line.removeprefix("# ") for line in lines))
    assert cli("lint", tmp_path) == (0, "2 task files, no problems\n", "")
