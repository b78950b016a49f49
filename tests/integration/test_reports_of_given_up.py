"""What an attempt reports that was given up changes nothing."""

import threading

from tests.integration.tools import PATIENCE, eventually, pass_time

from taskorch import Task, TaskOrchestrator, TaskState, current_context


def test_an_attempt_that_was_given_up_reports_no_progress():
    goes_on, has_reported = threading.Event(), threading.Event()

    def report() -> None:
        context = current_context()
        context.progress("begun")
        goes_on.wait(PATIENCE)
        context.progress("too late")
        has_reported.set()

    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(report, id="t", timeout=3600))
        eventually(lambda: handle.status.progress == "begun")
        pass_time(orch, 3600)
        eventually(lambda: handle.status.state is TaskState.FAILED)
        assert handle.status.progress == "begun"
        goes_on.set()
        assert has_reported.wait(PATIENCE)
        assert handle.status.progress == "begun"
