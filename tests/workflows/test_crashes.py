"""A workflow is killed at every write of its journal, and goes on."""

import pytest
from tests.workflows.crash_workload import check, workload

from taskorch.testing import for_every_crash_point


@pytest.mark.slow
def test_a_workflow_that_grows_survives_every_crash():
    """Nothing is added twice, done twice or forgotten; no gate is passed too early."""
    seen = for_every_crash_point(workload, check=check)
    assert {"claimed", "commit", "kept"} <= set(seen.names)
