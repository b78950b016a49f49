"""What users of durable engines write in a function: it works, or leads on."""

from __future__ import annotations

import pytest
from tests.api.tools import PATIENCE

from taskorch import Task, TaskOrchestrator, current_context

#: What is asked of an orchestrator by them.
OF_ORCHESTRATORS = {
    "fork_run": "orch.steps.fork(",
    "reset_workflow": "orch.steps.fork(",
    "restart_as_new": "orch.steps.fork(",
    "rerun_from_step": "orch.steps.fork(",
    "list_workflow_steps": "orch.steps.of(",
}


def test_words_of_others_for_a_fork_lead_on_and_fork_is_one():
    def job():
        return current_context().step("a", len, "abc")

    with TaskOrchestrator() as orch:
        for word, call in OF_ORCHESTRATORS.items():
            with pytest.raises(AttributeError) as caught:
                getattr(orch, word)
            assert call in str(caught.value)
        assert orch.submit_task(Task.call(job, id="x")).result(PATIENCE) == 3
        again = orch.fork("x", at="a")
        assert (again.task_id, again.result(PATIENCE)) == ("x~2", 3)
