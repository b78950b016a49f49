"""
Every block of Python in the README, the docs and the skill runs as a file of its own.

One that cannot run (it shows a mistake, or is a part of your program) begins with
```python no-run, and one that goes on where the one before has ended says so.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.api.tools import Started
from tests.house.packaging import blocks

ROOT = Path(__file__).parents[3]
PAGES = [
    page
    for page in [
        ROOT / "README.md",
        *sorted(ROOT.glob("docs/**/*.md")),
        *sorted(ROOT.glob("src/**/*.md")),
    ]
    if blocks.programs(page.read_text(encoding="utf-8"))
]
#: What a newcomer reads first.
_FIRST = ("README.md", "docs/tutorial")
_LATER = (
    pytest.mark.slow("the others take most of a minute"),
    pytest.mark.timeout(300),
)


def _marks(page: Path) -> tuple[pytest.MarkDecorator, ...]:
    return () if str(page.relative_to(ROOT)).startswith(_FIRST) else _LATER


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=_marks(page)) for page in PAGES],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_each_block_of_a_page_runs_and_prints_what_it_says(page, tmp_path, runner):
    """The name of the page in tracebacks, and its line numbers, lead to the place."""
    run_blocks(runner, page, tmp_path)


@pytest.mark.parametrize(
    "page",
    [
        "README",
        *(
            pytest.param(page, marks=pytest.mark.slow("the first page has all kinds"))
            for page in (
                "docs/tutorial/first",
                "docs/howto/asyncio",
                "docs/howto/durable",
            )
        ),
    ],
)
def test_a_page_runs_in_a_notebook(page, tmp_path, runner):
    """There a loop runs already, and functions are in no file."""
    run_blocks(runner, ROOT / f"{page}.md", tmp_path, "notebook")


@pytest.fixture(scope="module")
def runner():
    """What runs the blocks of pages, one page after another."""
    with Started(
        [sys.executable, "-W", "error", blocks.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        yield process
        process.stdin.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run_blocks(runner, page, folder, how="script"):
    print(json.dumps([str(page), str(folder), how]), file=runner.stdin, flush=True)
    failed = runner.stdout.readline().strip()

    errors = (folder / "errors").read_text(encoding="utf-8")
    assert failed == "0", errors
    for program in blocks.programs(page.read_text(encoding="utf-8")):
        output = (folder / str(program.line) / "output").read_text(encoding="utf-8")
        assert program.unsaid(output) == [], f"line {program.line} printed:\n{output}"


PAGE = """# T
```python
a = 1
```
```python no-run
raise
```
```python
print(1)  # 1, the first
print(2, 3)
# 2 4
```
```python
# The program goes on.
print("rest")  # Rest, …
```
```text
took 3.5 ms
```
"""


def test_a_block_is_a_program_and_some_go_on():
    """Those that are marked no-run are left out."""
    first, second = blocks.programs(PAGE)

    assert (first.line, first.text) == (3, "\n\na = 1\n")
    assert second.text.splitlines()[8 - 1] == ""
    assert second.text.splitlines()[9 - 1].startswith("print(1)")
    assert second.text.splitlines()[15 - 1] == 'print("rest")  # Rest, …'
    assert [said for said, _ in second.says] == [
        "1, the first",
        "2 4",
        "Rest, …",
        "took 3.5 ms",
    ]


def test_a_program_has_the_files_that_its_page_shows_above(runner, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- examples/night/press.py -->\n```python\n```\n\n"
        "```python\nfrom press import print_takings\nprint(1)  # 1\n```\n"
    )
    first, second = blocks.programs(page.read_text())
    assert first.files == second.files == ["examples/night/press.py"]
    run_blocks(runner, page, tmp_path)


def test_what_a_block_says_that_it_prints_is_looked_for():
    """As a line, as its beginning, or as the first word; numbers in texts may differ."""
    _, second = blocks.programs(PAGE)

    assert second.unsaid("1\n2 4\nRest, and so on\ntook 4 ms\n") == []
    assert second.unsaid("2\n3\nrest\ntook 3.5 s\n") == [
        "1, the first",
        "2 4",
        "Rest, …",
        "took 3.5 ms",
    ]


def test_what_pages_say_to_make_can_be_made():
    """In blocks for a shell and in the text, between backticks."""
    pages = "\n".join(
        page.read_text(encoding="utf-8")
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    )
    said = set(re.findall(r"(?:^(?:\$ )?|`)make ([a-z][\w-]*)", pages, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+)(?: [\w-]+)*:(?!=)", makefile, re.MULTILINE))

    assert {"demo", "test", "bench", "soak"} <= said <= targets
