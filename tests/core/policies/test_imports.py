"""What `import taskorch.policies` costs."""

from __future__ import annotations

import json
import subprocess
import sys


def loaded_by(code):
    program = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    return set(json.loads(done.stdout))


def test_tenacity_is_not_imported_for_our_own_strategies():
    """Making every default and deciding a retry leaves it alone."""
    code = """if True:
        import taskorch.policies
        from taskorch.model import RetryPolicy, Task
        from taskorch.policies import BackoffRetryHandler
        from tests.core.policies.fakes import FakeContext, failure

        task = Task("t", retry=RetryPolicy(3))
        assert BackoffRetryHandler().decide(failure(task), FakeContext()).retry
    """

    assert "tenacity" not in loaded_by(code)


def test_tenacity_is_imported_for_its_own():
    """The check above would see it."""
    code = """if True:
        from taskorch.policies import TenacityRetryHandler

        TenacityRetryHandler(stop=lambda state: True)
    """

    assert "tenacity" in loaded_by(code)
