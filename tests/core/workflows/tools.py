"""What the tests of workflows share."""

from typing import Any

import pytest
from tests.api.tools import PATIENCE

from taskorch import WorkflowContext, WorkflowFailedError, current_context


def inside() -> WorkflowContext:
    """The run of the task that calls this."""
    found = current_context().workflow
    assert found is not None
    return found


def failures(run: Any) -> dict[str, BaseException]:
    """Why *run* has failed, by task."""
    with pytest.raises(WorkflowFailedError) as caught:
        run.result(PATIENCE)
    return dict(caught.value.failures)
