"""The blocks of the page on PostgreSQL, which need a server: here there is one."""

import re
from pathlib import Path

from taskorch.reading import JournalReader

PAGE = Path(__file__).parents[2] / "docs/howto/postgresql.md"
SAID = re.compile(r'"postgresql://db\.example\.com/jobs"')


def test_the_programs_of_the_page_run(postgres, capsys):
    address = postgres.address("billing")
    blocks = re.findall(
        r"^```python no-run\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    for block in blocks:
        program, count = SAID.subn(repr(address), block)
        assert count == 1
        exec(compile(program, str(PAGE), "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == "204\nthis machine has it\nplease pay 90\n"
    assert JournalReader(address).get_task_status("total").result == 204
