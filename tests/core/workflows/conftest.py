"""What the tests of workflows share, as fixtures."""

import pytest
from tests.core.workflows.functions import BROKEN, CALLS

from taskorch import TaskOrchestrator


@pytest.fixture(autouse=True)
def clean():
    """Nothing is broken, and no call of another test is left."""
    BROKEN.clear()
    CALLS.clear()


@pytest.fixture
def orch():
    with TaskOrchestrator(concurrency=4) as orch:
        yield orch
