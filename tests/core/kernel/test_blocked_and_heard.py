"""What is blocked says to somebody why."""

from tests.core.kernel.harness import Machine

from taskorch.core.kernel import row_extra
from taskorch.core.kernel._invariants import check_asked
from taskorch.model import TaskState


def test_a_cause_that_nobody_tells_is_a_fault():
    machine = Machine(concurrency=0)
    machine.submit("t")
    row = machine.row("t")
    extra = row_extra(row)
    extra.decision, extra.error = True, ("OSError", "no disk", "strange")
    row.state = TaskState.BLOCKED
    faults: list[str] = []
    check_asked(machine.kernel, faults)
    assert "nobody hears why t is blocked: strange" in faults
