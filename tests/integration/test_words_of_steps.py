"""What users of durable engines write in a function: it works, or leads on."""

from __future__ import annotations

import pytest
from tests.integration.tools import PATIENCE

from taskorch import Task, TaskOrchestrator, current_context

#: What is asked of a context by users of five engines, and the method that is meant.
IN_FUNCTIONS = {
    "DBOS": {
        "run_step": "step",
        "recv": "wait",
        "get_event": "wait",
        "start_workflow": "child",
        "transaction": "step",
    },
    "Temporal": {
        "execute_activity": "step",
        "execute_local_activity": "step",
        "side_effect": "step",
        "wait_condition": "wait",
        "execute_child_workflow": "child",
        "start_child_workflow": "child",
        "start_timer": "sleep",
    },
    "Restate": {
        "run": "step",
        "run_typed": "step",
        "awakeable": "wait",
        "promise": "wait",
        "service_call": "child",
        "object_call": "child",
    },
    "Inngest": {
        "run": "step",
        "sleep_until": "sleep",
        "wait_for_event": "wait",
        "wait_for_signal": "wait",
        "invoke": "child",
    },
    "Prefect": {
        "task": "step",
        "wait_for_input": "ask",
        "pause_flow_run": "ask",
        "suspend_flow_run": "ask",
        "run_deployment": "child",
        "submit": "child",
    },
}
#: What is asked of an orchestrator by them.
OF_ORCHESTRATORS = {
    "fork_run": "orch.steps.fork(",
    "reset_workflow": "orch.steps.fork(",
    "restart_as_new": "orch.steps.fork(",
    "rerun_from_step": "orch.steps.fork(",
    "list_workflow_steps": "orch.steps.of(",
}


def test_words_of_others_in_a_function_lead_on():
    def asked():
        said = {}
        for tool, words in IN_FUNCTIONS.items():
            for word in words:
                with pytest.raises(AttributeError) as caught:
                    getattr(current_context(), word)
                said[tool, word] = str(caught.value)
        return said

    with TaskOrchestrator() as orch:
        said = orch.submit(asked).result(PATIENCE)
    for (tool, word), text in said.items():
        assert f"context.{IN_FUNCTIONS[tool][word]}(" in text, (tool, word, text)


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
