"""
Every Python snippet of the README and the docs runs, each file's in one namespace.

A snippet that cannot run (it shows a mistake, or needs the network) begins with
```python no-run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```python([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if FENCE.search(page.read_text(encoding="utf-8"))
]
#: What takes seconds is for `make test`.
_SLOW = ("crash-tests.md", "test-your-parts.md", "workflows.md")
_MARKS = dict.fromkeys(_SLOW, pytest.mark.slow)


def program(text: str) -> str:
    """The snippets of a page as one program; its lines keep their numbers."""
    lines: list[str] = []
    for match in FENCE.finditer(text):
        if "no-run" in match[1].split():
            continue
        first = text.count("\n", 0, match.start(2))
        lines += [""] * (first - len(lines))
        lines += match[2].splitlines()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=_MARKS.get(page.name, ())) for page in PAGES],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_the_snippets_of_a_page_run(page, tmp_path):
    # The name of the page in tracebacks, and its line numbers, lead to the place. A
    # file, and not -c, since functions of __main__ must be found again by processes.
    script = tmp_path / f"{page.stem.lower().replace('-', '_')}_md.py"
    script.write_text(program(page.read_text(encoding="utf-8")), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_blocks_marked_no_run_are_left_out():
    text = (
        "# T\n```python\na = 1\n```\n```python no-run\nraise\n```\n```python\na\n```\n"
    )

    assert program(text).split() == ["a", "=", "1", "a"]
    assert program(text).splitlines()[2] == "a = 1"
