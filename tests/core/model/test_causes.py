"""Which failures have one cause."""

from __future__ import annotations

import pytest

from taskorch.model import FailureCause
from taskorch.model._status import FailedRun


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


def test_exit_codes_and_signals_are_causes_and_a_cause_is_a_line():
    def failed(number, text):
        return FailedRun(f"t{number}", "ProgramFailedError", text, number)

    texts = ["'x' exited with code 3", "'x' exited with code 137", "page 4", "page 5"]
    texts += ["was ended by signal 9", "[Errno 28] no space", "page 1234"]
    causes = FailureCause.of(failed(n, text) for n, text in enumerate(texts))
    assert sorted((each.count, each.pattern) for each in causes) == [
        (1, "'x' exited with code 137"),
        (1, "'x' exited with code 3"),
        (1, "[Errno 28] no space"),
        (1, "was ended by signal 9"),
        (3, "page #"),
    ]
    assert str(causes[0]) == "3 tasks (t2, t3 and t6): ProgramFailedError: page 4"
