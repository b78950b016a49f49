"""A workflow is killed at every write of its journal, and goes on."""

import pytest
from tests.core.workflows import rerun_workload
from tests.core.workflows.crash_workload import check, workload

from taskorch.testing import for_every_crash_point


@pytest.mark.slow("kills at every point")
def test_a_workflow_that_grows_survives_every_crash():
    """Nothing is added twice, done twice or forgotten; no gate is passed too early."""
    seen = for_every_crash_point(workload, check=check)
    assert {"claimed", "commit", "kept"} <= set(seen.names)


@pytest.mark.slow("kills at every point")
def test_a_re_run_survives_every_crash():
    """It adds and asks once for each run, not for each attempt; answers are its own."""
    seen = for_every_crash_point(rerun_workload.workload, check=rerun_workload.check)
    assert {"claimed", "commit", "kept"} <= set(seen.names)
