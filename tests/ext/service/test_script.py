"""The script of a team that runs its suite by curl: `orchestrator.sh`, as they have it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.remote_workers.tools import free_port
from tests.house.pids import is_alive

from taskorch.ext.service import new_token

SCRIPT = Path(__file__).with_name("data") / "orchestrator.sh"
#: What the script starts: a service and its workers.
LINES = {
    "python3 -m orchestrator.main": "taskorch serve{options}",
    "python3 -m orchestrator.agent": "taskorch agent",
}
SUITE = """\
templates:
  sh: {{command: [sh, -c, 'echo $0 >> ran; test ! -e "$0.fails"', "{{id}}"]}}
orchestrator:
  name: cashcow_test_orchestrator
  api_port: {port}
  metrics_port: {metrics}
  task_definitions:
    unit_tests:
      - {{id: A1, template: sh, resources: {{memory_mb: 512, cpu_cores: 1}}}}
      - {{id: A2, template: sh, resources: {{memory_mb: 512, cpu_cores: 1}}}}
    integration_tests: [{{id: B1, template: sh, dependencies: [A1, A2]}}]
    performance_tests: [{{id: C1, template: sh, dependencies: [B1]}}]
"""
#: Who is to do them.
WORKERS = {f"agent_{n:03}" for n in range(1, 7)}
#: Commands that stand before those of the system.
STUBS = {
    "poetry": "exit 0",
    # A machine may take longer than the script has thought of, to begin all of that.
    "sleep": """i=0
agents=$(ls {logs} | grep -c '^agent_.*[.]pid$')
until [ $i -gt 600 ] || [ true = "$(curl -s http://localhost:{port}/api/v1/status |
    jq ".agents | length >= $agents")" ]; do
    {sleep} 0.1; i=$((i + 1))
done
{sleep} 0.1""",
    # Without a token nobody is told who is there: that the service is must do.
    "wait": """i=0
until curl -s http://localhost:{port}/livez || [ $i -gt 600 ]; do
    {sleep} 0.1; i=$((i + 1))
done""",
    "taskorch": 'echo $$ >> {pids}; exec {python} -m taskorch "$@"',
}

#: Seconds that it may take.
LIMIT = 240.0

pytestmark = [
    pytest.mark.timeout(LIMIT + 3 * PATIENCE),
    pytest.mark.skipif(
        not all(map(shutil.which, ("bash", "curl", "jq"))),
        reason="the script needs bash, curl and jq",
    ),
]


class Team:
    """A project with the script in it."""

    def __init__(self, folder, options="", **variables):
        self.project = folder / "project"
        self.project.mkdir()
        self.pids = folder / "pids"
        port, metrics = free_port(), free_port()
        config = self.project / "orchestrator_config.yaml"
        config.write_text(SUITE.format(port=port, metrics=metrics))
        text = SCRIPT.read_text()
        for line, ours in LINES.items():
            assert text.count(line) == 1
            text = text.replace(line, ours.format(options=options))
        text = text.replace("/home/alex/cashcow", str(self.project))
        text = text.replace(":8080", f":{port}")
        self.script = folder / "orchestrator.sh"
        self.script.write_text(text)
        commands = folder / "bin"
        commands.mkdir()
        self.logs = self.project / "orchestration_logs"
        known = {
            "port": port,
            "pids": self.pids,
            "python": sys.executable,
            "logs": self.logs,
        }
        for name, body in STUBS.items():
            path = commands / name
            said = body.format(sleep=shutil.which("sleep"), **known)
            path.write_text(f"#!/bin/sh\n{said}\n")
            path.chmod(0o755)
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TASKORCH_")},
            "PATH": f"{commands}:{os.environ['PATH']}",
            "CURL_HOME": str(folder),
            **variables,
        }

    def run(self):
        """Run it to its end: its status, and what it has printed."""
        out = self.script.with_suffix(".log")
        with out.open("w") as log:
            process = subprocess.Popen(
                ["bash", str(self.script)],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(LIMIT)
                # It has asked what it has started to end, and waits for none of it.
                eventually(lambda: not any(map(is_alive, self.started())))
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return status, out.read_text()

    def doers(self):
        """Who has done the tasks, as the report says and the workers do themselves."""
        folder = self.project / ".taskorch" / "orchestrator_config"
        tasks = json.loads((folder / "report.json").read_text())["tasks"]
        for task in tasks:
            if task["agent"]:
                log = (self.logs / f"{task['agent']}.log").read_text()
                assert f"ended suite/{task['id']}: completed, counted" in log
        return {task["agent"] for task in tasks} - {""}

    def started(self):
        return [int(line) for line in self.pids.read_text().split()]


@pytest.mark.slow("a suite in processes")
def test_it_runs_to_its_end(tmp_path):
    team = Team(tmp_path, " --no-token")
    status, said = team.run()

    assert status == 0, said
    assert '"status":"running"' in said
    assert "Testing suite completed successfully!" in said
    assert "Orchestration completed successfully!" in said
    assert "Cleanup completed" in said
    ran = (team.project / "ran").read_text().split()
    assert sorted(ran[:2]) == ["A1", "A2"]
    assert ran[2:] == ["B1", "C1"]
    assert "Launched agent_006" in said
    assert team.doers() <= WORKERS


@pytest.mark.slow("a suite in processes")
def test_what_failed_is_reported_by_it(tmp_path):
    token = new_token()
    (tmp_path / ".curlrc").write_text(f'header = "Authorization: Bearer {token}"\n')
    team = Team(tmp_path, TASKORCH_TOKEN=token)
    (team.project / "B1.fails").touch()
    status, said = team.run()

    assert status == 1, said
    assert "Testing suite failed!" in said
    assert team.doers() <= WORKERS
    report = team.logs / "failure_report.json"
    found = json.loads(report.read_text())
    tasks = {task["id"]: task["status"] for task in found["tasks"]}
    assert tasks["A1"] == "completed_success"
    assert tasks["B1"] != "completed_success"


def test_without_a_token_it_ends_and_keeps_why(tmp_path):
    team = Team(tmp_path)
    (tmp_path / "bin" / "wait").replace(tmp_path / "bin" / "sleep")
    status, said = team.run()

    assert status == 1, said
    assert "Testing suite failed!" in said
    found = json.loads((team.logs / "failure_report.json").read_text())
    assert found["code"] == "no_token"
    # The screen of the service is that of the script.
    assert "refused: POST /api/v1/execute-suite from 127.0.0.1: 401" in said
