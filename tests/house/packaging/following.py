"""
A page that is followed as a reader follows it: its files, its commands, their output.

- A block below `<!-- NAME.py -->` is a file, or what is new in it. A statement takes the
  place of the one that it defines anew. Another goes behind the one before it in the
  block, or else before the one after it, or else to the end.
- A block of `console` has commands, behind `$`, and what they print. `…` is any text; as
  a line, any lines. The lines between two of these may come in any order. Times and durations are those of the day. A date of the
  page is as far from today as from its own. An instant is what it was when it was shown
  first: so the id of a run in a command is that of the run which was shown above.
- What serves goes on until `^C`. What only shows is asked again until it shows what the
  page does.

Each command of taskorch is a process, forked from one that has imported it all: to import
it takes longer than most commands do.

Decision: names-and-docs.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Self

#: Seconds for what takes long on a busy machine alone.
PATIENCE = 60.0
_BLOCK = re.compile(
    r"^(?:<!-- (?:examples/\S*/)?(?P<file>[\w.]+) -->\n)?"
    r"```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
#: What is another one each day, by name, and which texts it may be.
_VARYING = {
    "slot": r"\d{4}-\d\d-\d\dT\d{4}Z",
    "instant": r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)",
    "day": r"\d{4}-\d\d-\d\d",
    "time": r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?",
    "took": r"[\d.]+ (?:µs|ms|s)\b",
    "code": "#code=…",
    "any": "…",
    "blank": r"\s+",
}
_VARIES = re.compile("|".join(f"(?P<{name}>{p})" for name, p in _VARYING.items()))
_STAYS = re.compile(r"taskorch (serve|agent) ")
_SHOWS = re.compile(r"taskorch (inspect|explain|questions|schedules \S+$)|cat ")


# -- a file that grows -----------------------------------------------------------------


def grown(text: str, new: str) -> str:
    """The text of a file of Python, with the statements of a block in it."""
    statements = _statements(text)
    block = _statements(new)
    place = -1
    for number, (name, lines) in enumerate(block):
        names = [each for each, _ in statements]
        later = [names.index(each) for each, _ in block[number:] if each in names]
        if name in names:
            place = names.index(name)
            blanks = re.match("\n*", statements[place][1])[0]
            statements[place] = (name, blanks + lines.lstrip("\n"))
            continue
        if number == 0 and later:
            place = later[0]
        else:
            place = place + 1 if number else len(statements)
        statements.insert(place, (name, lines))
    return "\n".join(lines for _, lines in statements) + "\n"


def _statements(text: str) -> list[tuple[str, str]]:
    """What stands in a file one after the other: its name, and its lines."""
    lines = text.splitlines()
    statements = []
    end = 0
    for node in ast.parse(text).body:
        begin, end = end, node.end_lineno or 0
        statements.append((_name(node), "\n".join(lines[begin:end])))
    return statements


def _name(node: ast.stmt) -> str:
    """What a statement defines, or whom it calls with what first."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[target]):
            return ast.unparse(target)
        case ast.Expr(value=ast.Constant()):
            return "docstring"
        case ast.Expr(value=ast.Call(func=function, args=[first, *_])):
            return f"{ast.unparse(function)} {ast.unparse(first)}"
        case ast.ImportFrom(module=module):
            return f"from {module}"
    return ast.unparse(node)


# -- a reader --------------------------------------------------------------------------


class Reader:
    """
    Whoever follows a page, in a folder.

    Args:
        folder: The folder, which is empty.
        page_day: The day on which the page was written.
        port: The port that is free here, in the place of 8080.
    """

    def __init__(self, folder: Path, page_day: date, port: int) -> None:
        self.folder = folder
        self._today = datetime.now(UTC).date()
        self._later = self._today - page_day
        self._port = port
        self._instants: dict[str, str] = {}
        self._commands = Commands(folder)
        self._services: list[Command] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._commands.close()

    def follow(self, page: str) -> None:
        """Do all that the page says, and see what it shows."""
        for match in _BLOCK.finditer(page):
            text = match["text"]
            if match["file"]:
                file = self.folder / match["file"]
                if file.exists():
                    text = grown(file.read_text("utf-8"), text)
                file.write_text(text, "utf-8")
            elif match["kind"] == "console":
                self._follow(text.replace(":8080", f":{self._port}"))

    def _follow(self, text: str) -> None:
        for part in re.split(r"^(?=\$ |\^C$)", text, flags=re.MULTILINE):
            command, _, shown = part.partition("\n")
            if command == "^C":
                service = self._services.pop()
                os.kill(service.pid, signal.SIGINT)
                self._commands.wait(service)
            elif command:
                self._do(self._as_of_today(command.removeprefix("$ ")), shown)

    def _do(self, command: str, shown: str) -> None:
        if command.startswith("export "):
            name, _, value = shlex.split(command)[1].partition("=")
            self._commands.environment[name] = value
        elif _STAYS.match(command):
            port = f" --port {self._port}" * command.startswith("taskorch serve")
            service = self._commands.begin(command + port)
            self._services.append(service)
            self._see(command, shown, service.output, others=True)
        else:
            self._see(command, shown, lambda: self._commands.run(command))

    def _see(self, command, shown, output, *, others=False) -> None:
        """Wait for what is *shown*; of a command that changes something, look once."""
        end = time.monotonic() + PATIENCE
        while True:
            text = output()
            differences = self._differences(shown, text, others=others)
            if not differences:
                return
            is_last = not others and not _SHOWS.match(command)
            if is_last or time.monotonic() > end:
                break
            time.sleep(0.05)
        told = "\n".join(differences)
        msg = f"$ {command}\n{told}\n--- it printed:\n{text}"
        raise AssertionError(msg)

    def _differences(self, shown: str, output: str, *, others: bool) -> list[str]:
        """The lines of either that are not in the other one."""
        lines = _lines(output)
        first, *parts = map(_lines, re.split(r"^…$", shown, flags=re.MULTILINE))
        instants = dict(self._instants)
        if others or not parts:
            first += chain(*parts)
            problems = self._unlike(first, lines, instants, others=others)
        else:
            # Before the first … and after the last one, there is nothing else.
            *middle, last = parts
            begin, end = len(first), max(len(first), len(lines) - len(last))
            problems = [
                *self._unlike(first, lines[:begin], instants),
                *self._unlike(
                    [*chain(*middle)], lines[begin:end], instants, others=True
                ),
                *self._unlike(last, lines[end:], instants),
            ]
        if not problems:
            self._instants = instants
        return problems

    def _unlike(
        self,
        shown: list[str],
        printed: list[str],
        instants: dict[str, str],
        *,
        others: bool = False,
    ) -> list[str]:
        """The lines that were not printed; and, unless there may be *others*, not shown."""
        missing = []
        rest = list(printed)
        for line in shown:
            same = next(
                (one for one in rest if self._is_like(line, one, instants)), None
            )
            if same is None:
                missing.append(f"the page has: {line}")
            else:
                rest.remove(same)
        return missing + (
            [] if others else [f"and it has not: {line}" for line in rest]
        )

    def _is_like(self, line: str, printed: str, instants: dict[str, str]) -> bool:
        """Whether a line of the page stands for one that was printed."""
        names: list[str] = []
        pattern, end = "", 0
        for match in _VARIES.finditer(line):
            pattern += re.escape(line[end : match.start()])
            end = match.end()
            kind, text = str(match.lastgroup), match[0]
            if kind in ("slot", "day"):
                pattern += re.escape(self._shifted(text))
            elif kind == "instant" and text in instants:
                pattern += re.escape(instants[text])
            elif kind == "instant":
                names.append(text)
                pattern += f"({_VARYING[kind]})"
            elif kind == "any":
                pattern += ".*"
            elif kind == "code":
                # Whoever is no terminal gets none.
                pattern += r"(?:#code=\S+)?"
            else:
                pattern += _VARYING[kind]
        pattern += re.escape(line[end:])
        found = re.fullmatch(pattern, printed)
        if found is None:
            return False
        instants |= dict(zip(names, found.groups(), strict=True))
        return True

    def _as_of_today(self, command: str) -> str:
        def today(match: re.Match[str]) -> str:
            if match.lastgroup in ("slot", "day"):
                return self._shifted(match[0])
            return self._instants.get(match[0], match[0])

        return _VARIES.sub(today, command)

    def _shifted(self, text: str) -> str:
        day = date.fromisoformat(text[:10]) + self._later
        return f"{day}{text[10:]}"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


# -- commands --------------------------------------------------------------------------

#: What the commands of pages import when they are asked for.
_IMPORTED = (
    *(
        "taskorch.ext.command_line._worker",
        "taskorch.ext.command_line._control",
        "taskorch.ext.command_line._explain",
    ),
    *(
        "taskorch.ext.command_line._inspect",
        "taskorch.ext.command_line._run",
        "taskorch.ext.command_line._schedules",
    ),
    *(
        "taskorch.ext.command_line._serve_file",
        "taskorch.ext.remote_workers",
        "taskorch.ext.client",
    ),
    *("taskorch.ext.service", "uvicorn", "uvicorn.loops.auto"),
    *(
        "uvicorn.protocols.http.auto",
        "uvicorn.lifespan.on",
        "asyncio",
        "multiprocessing",
    ),
)


@dataclass
class Command:
    """A process that was begun, and the file with all that it has printed."""

    pid: int
    log: Path

    def output(self) -> str:
        return self.log.read_text("utf-8")


class Commands:
    """
    Begins commands in a folder.

    Attributes:
        environment: What is exported.
    """

    def __init__(self, folder: Path) -> None:
        self.environment: dict[str, str] = {}
        self._folder = folder
        self._logs = folder.with_name(f"{folder.name}-logs")
        self._logs.mkdir()
        self._living: set[int] = set()
        self._parent: subprocess.Popen[str] | None = None

    def run(self, words: str) -> str:
        """What a command prints until it ends."""
        program, _, rest = words.partition(" ")
        if program != "taskorch":
            program = sys.executable if program == "python" else program
            done = subprocess.run(
                [program, *shlex.split(rest)],
                cwd=self._folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            return done.stdout
        command = self.begin(words)
        self.wait(command)
        return command.output()

    def begin(self, words: str) -> Command:
        """Begin a command of taskorch."""
        log = self._logs / str(len(list(self._logs.iterdir())))
        pid = self._ask(
            words=shlex.split(words),
            folder=str(self._folder),
            log=str(log),
            environment=self.environment,
        )
        self._living.add(pid)
        return Command(pid, log)

    def wait(self, command: Command) -> None:
        """Wait for its end."""
        self._ask(wait=command.pid)
        self._living.discard(command.pid)

    def close(self) -> None:
        """End what has not ended."""
        for pid in self._living:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._parent is not None:
            self._parent.communicate()

    def _ask(self, **order: object) -> int:
        if self._parent is None:
            self._parent = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        print(json.dumps(order), file=self._parent.stdin, flush=True)
        return int(self._parent.stdout.readline())


def _obey() -> None:
    """Be the process that has imported it all."""
    for name in _IMPORTED:
        import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        pid = order.get("wait")
        if pid is not None:
            os.waitpid(pid, 0)
        else:
            Path(order["log"]).touch()
            pid = os.fork()
            if pid == 0:
                _become(**order)
        print(pid, flush=True)


def _become(words, folder, log, environment) -> None:
    """Be what the words say, as a shell would begin it."""
    os.chdir(folder)
    os.environ |= environment
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv[:] = words
    del sys.path[0]
    sys.exit(import_module("taskorch.ext.command_line").main())


if __name__ == "__main__":
    _obey()
