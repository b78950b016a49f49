"""The program of the page on PostgreSQL, which needs a server: here there is one."""

import re
from pathlib import Path

import pytest

from taskorch import TaskOrchestrator
from taskorch.errors import UnknownTaskError
from taskorch.ext.views import JournalReader

PAGE = Path(__file__).parents[3] / "docs/howto/postgresql.md"
SAID = re.compile(r'"postgresql://db\.example\.com/jobs"')


def test_the_programs_of_the_page_run(postgres, capsys):
    address = postgres.address("billing")
    blocks = re.findall(
        r"^```python no-run\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    for block in blocks:
        program, count = SAID.subn(repr(address), block)
        assert count == 1
        exec(compile(program, str(PAGE), "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == "63\n"
    assert JournalReader(address).get_task_status("total").result == 63


def test_one_program_may_lead_a_partition_for_each_domain(postgres):
    """It hands a result over itself: no task waits for one of another partition."""
    with (
        TaskOrchestrator(journal=postgres.address("invoices")) as invoices,
        TaskOrchestrator(journal=postgres.address("mail")) as mail,
    ):
        amount = invoices.submit(sum, [20, 70])
        assert mail.submit(str, amount.result()).result() == "90"
        with pytest.raises(UnknownTaskError, match="another orchestrator"):
            mail.submit(str, amount)
