"""The workers of a suite: as many as there is work for; and who is told of failures."""

import json

import pytest
from tests.api.test_shown import asked
from tests.ext.notices.test_notifying import SECRET, Hook

from taskorch.errors import InvalidTaskError
from taskorch.ext.service import create_app
from taskorch.ext.suites import _running, load

pytestmark = pytest.mark.timeout(300)

#: Each waits until all three are there.
MEET = "touch here.$0; until [ -e here.A ] && [ -e here.B ] && [ -e here.C ]; do sleep .05; done"
SUITE = f"""
templates: {{t: {{command: [sh, -c, '{MEET}', "{{id}}"]}}}}
orchestrator:
  task_definitions:
    unit_tests: [{{id: A, template: t}}, {{id: B, template: t}}, {{id: C, template: t}}]
agent_limits: {{total_cpu_cores: 3, total_memory_mb: 300}}
resource_allocation: {{unit_tests: {{memory_mb: 10, timeout_seconds: 200}}}}
"""
FAILING = """
templates: {t: {command: [sh, -c, 'echo no room; exit 3']}}
orchestrator:
  task_definitions: {unit_tests: [{id: A, template: t}, {id: B, template: t}]}
"""


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.close()


def write(path, text):
    path.write_text(text)
    return path


def test_there_are_more_workers_where_there_is_work_for_them(tmp_path):
    pool = "agent_pool: {min_agents: 1, max_agents: 3, scale_up_threshold: 0.8}\n"
    suite = load(write(tmp_path / "suite.yaml", SUITE + pool))
    assert suite.without_effect == ()
    orchs = []
    done = _running.run(
        suite, tmp_path / "out", begun=lambda orch, _: orchs.append(orch)
    )
    assert done.passed
    assert {task.agent for task in done.tasks} == {
        *("agent_001", "agent_002", "agent_003")
    }
    # What its pool has decided is told as that of any other.
    decisions = orchs[0].agents.explain_scaling()
    assert [(each.pool, each.before, each.after) for each in decisions][:1] == [
        ("agent", 1, 3)
    ]
    assert orchs[0].agents.explain_scaling("agent") == decisions
    app = create_app(orchs[0], token=None)
    told = json.loads(asked(app, "/api/v1/scaling"))["decisions"]
    assert [each["reason"] for each in told] == [each.reason for each in decisions]
    lost = orchs[0].get_stats().agents
    assert {name for name in lost if name.startswith("agent_")} <= {
        *("agent_001", "agent_002", "agent_003")
    }


def test_the_matrix_and_the_classes_of_a_suite(tmp_path):
    text = """
recovery:
  matrix: {import_error: {human: never}}
  classes: [{name: system_error, text: no room}]
  timeout_grace_period: 3
"""
    suite = load(write(tmp_path / "s.yaml", text))
    assert suite.matrix["import_error"].human == "never"
    assert [rule.name for rule in suite.classes] == ["system_error"]
    assert suite.retries.grace == 3


def test_a_receiver_is_told_once_of_what_failed_for_one_cause(
    tmp_path, hook, monkeypatch
):
    recovery = f"""
recovery:
  max_retries: 1
  escalation_threshold: 2
  classes: [{{name: system_error, text: no room}}]
  human_notification_webhook: {hook.url}
  webhook_may_be_private: true
  webhook_secret_env: HOOK_SECRET
"""
    suite = load(write(tmp_path / "suite.yaml", FAILING + recovery))
    with pytest.raises(InvalidTaskError, match="HOOK_SECRET"):
        _running.run(suite, tmp_path / "out")
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    assert not _running.run(suite, tmp_path / "out", fresh=True).passed
    ((headers, body), *more) = hook.got
    assert more == []
    assert headers["X-Taskorch-Signature"].startswith("sha256=")
    said = json.loads(body)
    assert (said["message_type"], said["issue_type"]) == ("failure", "system_error")
    assert said["task_id"] in ("suite/A", "suite/B")
    assert said["context"]["attempts"] == 2
    assert said["recommended_actions"] == ["Look at the machine of its worker"]
    assert said["suite"] == suite.title
    assert said["run"] == str(tmp_path / "out")
    assert "taskorch suite run --failed" in said["how_to_answer"]
