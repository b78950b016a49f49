"""
Soft quotas as a user meets them: who comes last, what is said of it, other
incarnations.
"""

import pytest
from tests.api.tools import eventually

from taskorch import InvalidTaskError, Task, TaskOrchestrator
from taskorch.model import Quota


def sweep(name, fn, *args):
    return Task.call(fn, *args, id=name, type="sweep")


def test_it_is_said_once_when_it_is_exceeded_and_when_that_is_over():
    heard = []
    with TaskOrchestrator(resources={"cpu": 20}) as orch:
        for signal in (orch.signals.quota_exceeded, orch.signals.quota_relieved):
            signal.connect(heard.append)
        quota = Quota(owner="ann", resources={"cpu": 10}, soft=True)
        orch.resources.set_quotas(quota)
        ten = orch.resources.allocate({"cpu": 9}, owner="ann")
        orch.resources.allocate({"cpu": 1}, owner="ann")
        orch.wait()
        assert heard == []
        # What hovers around it is no news.
        for _ in range(3):
            with orch.resources.allocate({"cpu": 1}, owner="ann"):
                pass
        orch.wait()
        ten.release()
        orch.wait()
        eventually(lambda: len(heard) == 2)
    said = [(type(e).__name__, e.kind, e.subject, e.resource) for e in heard]
    assert said == [
        ("QuotaExceeded", "owner", "ann", "cpu"),
        ("QuotaRelieved", "owner", "ann", "cpu"),
    ]
    assert [(e.used, e.limit) for e in heard] == [
        (11_000_000, 10_000_000),
        (1_000_000, 10_000_000),
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"soft": 1}, "soft is True or False, not 1"),
        ({"soft": True, "starts_per_second": 2}, "a rate cannot be soft"),
    ],
)
def test_what_is_no_soft_quota_is_refused(wrong, said):
    with pytest.raises(InvalidTaskError, match=said):
        Quota(type="sweep", **wrong)
