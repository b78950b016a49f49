"""Which failures have one cause."""

from __future__ import annotations

import pytest

from taskorch.model import FailureCause


def cause(task_id, message):
    return FailureCause.common(task_id, "ConnectionError", message)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("n-1/load", "row 7 has no price"), ("n-2/load", "row 12 has no price")),
        (("n-1/load", "n-1/load is away"), ("n-2/load", "n-2/load is away")),
        (("n-1/ftp", "task ftp is away"), ("n-1/web", "task web is away")),
        (("n/a", "no disk"), ("n/b", "in an earlier incarnation, on 2026-11-27 08:58:07 UTC: no disk")),
        (
            ("n/a", "no disk"),
            ("n/a", "no disk (orch.rerun_task('n/a') runs it again; so does a start)"),
        ),
        (
            ("n/a", "no disk (orch.rerun_task('n/a') runs it again)"),
            ("n/b", "no disk (call orch.rerun_task('n/b'))"),
        ),
        (("s/A", "no room (see out/logs/A.2.log)"), ("s/B", "no room (see out/logs/B.2.log)")),
    ],
)  # fmt: skip
def test_hints_numbers_ids_and_restarts_make_no_other_cause(one, other):
    assert cause(*one) == cause(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("n/ftp", "ftp does not answer"), ("n/web", "web does not answer")),
        (("n/a", "no disk (in rack)"), ("n/a", "no disk (in desk)")),
        (("n/a", "no disk"), ("n/a", "no table")),
    ],
)
def test_what_differs_in_what_failed_is_another_cause(one, other):
    assert cause(*one) != cause(*other)
