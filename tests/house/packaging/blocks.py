"""
The blocks of Python of a page, run as files of their own.

As a program, `python blocks.py PAGE FOLDER`, it runs them one after another, each in a
process and an empty folder of its own. The processes are forks: importing taskorch for
each of them would take longer than most of them do. With `notebook` as a third word, it
runs them as a cell of a notebook does, inside a running loop.

The files of examples that the page has shown above a block are in its folder.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shutil
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import taskorch

ROOT = Path(__file__).parents[3]
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A comment that names a file, whose text is in the block below.
_SHOWS = re.compile(r"^<!-- (examples/\S+) -->$", re.MULTILINE)
_SAID_BESIDE = re.compile(r"^\s*print\(.*\)  # ([\dA-Z].*)$")
_SAID_BELOW = re.compile(r"^\s*# +(.*)$")
#: The first line of a block that goes on where the one before it has ended, for a page
#: that walks through one program.
GOES_ON = "# The program goes on."
#: A line that is another one in a notebook.
_IN_A_NOTEBOOK = re.compile(r"^( *)[^\n]*  # in a notebook: ([^\n]*)$", re.MULTILINE)


@dataclass
class Program:
    """A block, or several that go on; its lines have the numbers of the page."""

    line: int
    text: str = ""
    #: The files that the page shows as far as here.
    files: list[str] = field(default_factory=list)
    #: What is said to be printed, and the pattern of such a line.
    says: list[tuple[str, str]] = field(default_factory=list)

    def add(self, line: int, block: str) -> None:
        """Take a block in, with what its comments say that it prints."""
        self.text += "\n" * (line - 1 - self.text.count("\n")) + block
        below = False
        for each in block.splitlines():
            if below and (said := _SAID_BELOW.match(each)):
                self.says.append((said[1], re.escape(said[1])))
                continue
            below = each.lstrip().startswith("print(")
            if said := _SAID_BESIDE.match(each):
                # All of the line, or its beginning, or just this word.
                word = re.escape(re.split(r"[,:]? ", said[1])[0])
                whole = re.escape(said[1].rstrip(" …"))
                self.says.append((said[1], f"{whole}|{word}$"))

    def add_output(self, text: str) -> None:
        """Take in what the page shows as its output; numbers may differ."""
        for line in text.splitlines():
            parts = re.findall(r"\d[\d.,]*|\D+", line.strip())
            pattern = (r"\d[\d.,]*" if p[0].isdigit() else re.escape(p) for p in parts)
            self.says.append((line, "".join(pattern)))

    def unsaid(self, output: str) -> list[str]:
        """What it should have printed and has not."""
        lines = [line.strip() for line in output.splitlines()]
        return [
            said
            for said, pattern in self.says
            if not any(re.match(pattern, line) for line in lines)
        ]


def programs(text: str) -> list[Program]:
    """Those of a page, without those that are marked ```python no-run."""
    found: list[Program] = []
    for match in _FENCE.finditer(text):
        kind, mark, block = match.groups()
        if kind == "text" and found:
            found[-1].add_output(block)
        if kind != "python" or mark.split() == ["no-run"]:
            continue
        line = text.count("\n", 0, match.start(3)) + 1
        if not block.startswith(GOES_ON):
            found.append(Program(line))
        found[-1].files = _SHOWS.findall(text, 0, match.start())
        found[-1].add(line, block)
    return found


def _become(script: Path, *, notebook: bool) -> None:
    """Be what `python script` is, in its folder, or a kernel that has it as a cell."""
    main = types.ModuleType("__main__")
    main.__file__ = str(script)
    sys.modules["__main__"] = main
    sys.argv[:] = [str(script)]
    sys.path[0] = str(script.parent)
    os.chdir(script.parent)
    _say_to(Path("output"), 1)
    # Nobody asks it anything.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    source = script.read_text(encoding="utf-8")
    if not notebook:
        exec(compile(source, script, "exec"), main.__dict__)
        return
    del main.__file__
    cell = compile(
        _IN_A_NOTEBOOK.sub(r"\1\2", source),
        "<cell>",
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )

    async def kernel() -> None:
        waiting = eval(cell, main.__dict__)
        if waiting is not None:
            await waiting

    asyncio.run(kernel())


def run(page: Path, folder: Path, how: str) -> int:
    """Run them all, each as *folder*/LINE/PAGE.py; the number of those that failed."""
    failed = 0
    name = re.sub(r"\W", "_", page.name.lower())
    for program in programs(page.read_text(encoding="utf-8")):
        script = folder / str(program.line) / f"{name}.py"
        script.parent.mkdir()
        for shown in program.files:
            shutil.copy(ROOT / shown, script.parent)
        script.write_text(program.text, encoding="utf-8")
        if (child := os.fork()) == 0:
            _say_to(folder / "errors", 2)
            _become(script, notebook=how == "notebook")
            sys.exit()
        _, status = os.waitpid(child, 0)
        failed += status != 0
    return failed


def _say_to(file: Path, number: int) -> None:
    """What this process writes to the descriptor *number* goes to *file*."""
    output = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, number)
    os.close(output)


def main() -> None:
    """Run what is asked for until there is no more."""
    for name in taskorch.__all__:
        getattr(taskorch, name)
    # By hand: what is forked must not have read further.
    while asked := sys.stdin.buffer.raw.readline():
        page, folder, how = json.loads(asked)
        print(run(Path(page), Path(folder), how), flush=True)


if __name__ == "__main__":
    main()
