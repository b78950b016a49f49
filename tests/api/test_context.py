"""What a task is given: its context."""

import pytest
from tests.api.tools import PATIENCE

from taskorch import (
    NotRunningError,
    Resources,
    Task,
    TaskOrchestrator,
    current_context,
)


def test_the_allocation_is_what_the_attempt_holds() -> None:
    """Its own request, or the worker's."""
    with TaskOrchestrator(resources=Resources(cpu=4)) as orch:

        @orch.agent("worker", capabilities={"work"}, request=Resources(cpu=2))
        def work(task, context):
            return context.allocation

        assert orch.submit_task(Task("work")).result(PATIENCE) == Resources(cpu=2)
        own = Task("work", resources=Resources(cpu=1))
        assert orch.submit_task(own).result(PATIENCE) == Resources(cpu=1)


def test_there_is_no_context_outside() -> None:
    """Outside a task `current_context` raises, on the publisher's thread, too."""
    with pytest.raises(NotRunningError, match="no current task"):
        current_context()
    errors = []

    def receiver(event) -> None:
        try:
            current_context()
        except NotRunningError as error:
            errors.append(error)

    with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(receiver)
        orch.submit(int).add_done_callback(receiver)
        assert orch.wait(PATIENCE)
    assert len(errors) == 2


def logs() -> tuple[str, dict[str, object]]:
    log = current_context().log
    log.info("hello from elsewhere")
    return log.logger.name, dict(log.extra or {})
