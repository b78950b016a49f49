"""
Goes the way of somebody who has the README and a wheel, and nothing else of ours.

    python .ci/newcomer.py [WHEEL]

What is installed, written and typed is read from the README: its first command, and the
section that `_SECTION` names. Two things are others than there: the address of the
messages is on this machine, and the port of the dashboard is one that is free. Each
step waits for what it promises, and has a deadline. At last it says how long the way is
for people: what there is to read and to type.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

ROOT: Final = Path(__file__).parents[1]
_SECTION: Final = "## A pipeline of your own, in ten minutes\n"
#: Seconds until something that should come is missed: the machine may be busy.
_DEADLINE: Final = 180.0
#: Words that people read, and characters that they type, in a minute.
_READ: Final = 200
_TYPED: Final = 200
#: Minutes for people, of the ten that are promised: the rest is for the machine.
_MINUTES: Final = 8.0
_BLOCK: Final = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT: Final = re.compile(r"\s+#(?: |$).*")
_UNTIL: Final = re.compile(r"# .*\bsays \"(.+?)\"")


class LostError(Exception):
    """Where a newcomer gets no further, and why."""


@dataclass
class Lesson:
    """What the README says, as far as a newcomer reads it."""

    #: What is installed, and with which extras.
    extras: str
    file: str
    program: str
    #: The lines that are typed, each with what it should say before the next, or "".
    commands: list[tuple[str, str]]
    words: int

    @classmethod
    def of(cls, text: str) -> Self:
        """
        Read it.

        Raises:
            LostError: Something is not there.
        """
        before, mark, after = text.partition(_SECTION)
        if not mark:
            msg = f"README.md has no section {_SECTION.strip()!r}"
            raise LostError(msg)
        section = after.partition("\n## ")[0]
        blocks = dict(_BLOCK.findall(section))
        name = re.search(r"`(\w+\.py)`", section)
        extras = re.search(r"pip install '\.(\[[\w,]+\])'", before)
        if name is None or extras is None or not {"python", "sh"} <= blocks.keys():
            msg = "README.md lacks an install command, a program, its name, or commands"
            raise LostError(msg)
        commands = []
        for line in blocks["sh"].splitlines():
            until = _UNTIL.search(line)
            commands.append((_COMMENT.sub("", line), until[1] if until else ""))
        prose = _BLOCK.sub("", before + section)
        words = len(re.sub(r"\]\([^)]*\)|<[^>]*>", "", prose).split())
        return cls(extras[1], name[1], blocks["python"], commands, words)

    @property
    def typed(self) -> int:
        """The characters that are typed, or pasted."""
        return len(self.program) + sum(len(line) for line, _ in self.commands)

    @property
    def minutes(self) -> float:
        """How long people read and type."""
        return self.words / _READ + self.typed / _TYPED


class Said:
    """What something says, piece by piece; who waits for it is told what is missing."""

    def __init__(self) -> None:
        self.text = ""
        self._changed = threading.Condition()

    def add(self, piece: str) -> None:
        """Take in a piece."""
        with self._changed:
            self.text += piece
            self._changed.notify_all()

    def listen(self, stream: IO[str]) -> None:
        """Take in all that comes, on a thread."""

        def read() -> None:
            for line in stream:
                self.add(line)

        threading.Thread(target=read, daemon=True).start()

    def wait(self, what: str, since: int = 0) -> int:
        """
        Wait until *what* was said after the first *since* characters; where it ends.

        Raises:
            LostError: It was not, in time.
        """
        with self._changed:
            there = self._changed.wait_for(
                lambda: what in self.text[since:], timeout=_DEADLINE
            )
        if not there:
            end = self.text[since:][-3000:] or "(nothing)"
            msg = f"{what!r} did not come in {_DEADLINE:g} s; what came:\n{end}"
            raise LostError(msg)
        return self.text.index(what, since) + len(what)


@contextmanager
def receiver() -> Iterator[tuple[str, Said]]:
    """A webhook on this machine: its address, and what it gets."""
    got = Said()

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            got.add(self.rfile.read(size).decode() + "\n")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", got
        finally:
            server.shutdown()


def _run(*command: str | Path, folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        msg = f"{' '.join(map(str, command))}\n{(done.stdout + done.stderr)[-3000:]}"
        raise LostError(msg)


def install(lesson: Lesson, wheel: Path | None, folder: Path) -> Path:
    """Make a bare environment with the wheel and its extras; its folder of commands."""
    if wheel is None:
        built = folder / "built"
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps")
        _run(*pip, "--wheel-dir", built, ROOT, folder=ROOT)
        (wheel,) = built.glob("*.whl")
    _run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    commands = folder / "venv" / "bin"
    wanted = f"{wheel.resolve()}{lesson.extras}"
    _run(commands / "pip", "install", "--quiet", wanted, folder=folder)
    return commands


class Shell:
    """A shell in a folder, into which lines are typed."""

    def __init__(self, folder: Path, commands: Path) -> None:
        path = f"{commands}{os.pathsep}{os.environ['PATH']}"
        self.folder, self.commands = folder, commands
        self.said = Said()
        self.process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={"PATH": path, "HOME": str(folder), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        keys, screen = self.process.stdin, self.process.stdout
        if keys is None or screen is None:
            msg = "bash has no input, or no output"
            raise LostError(msg)
        self._keys: IO[str] = keys
        self.said.listen(screen)
        self._lines = 0

    def type(self, line: str) -> None:
        """Type a line."""
        self._keys.write(line + "\n")
        self._keys.flush()

    def prompt(self, since: int) -> int:
        """Wait until the shell takes the next line; how much was said by then."""
        self._lines += 1
        self.type(f"echo ready:{self._lines}")
        return self.said.wait(f"ready:{self._lines}\n", since)

    def close(self) -> None:
        """End it, with all that it has begun."""
        os.killpg(self.process.pid, 9)
        self.process.wait()


def _asked(request: str | urllib.request.Request) -> tuple[Any, str]:
    with urllib.request.urlopen(request, timeout=_DEADLINE) as answer:
        return answer.headers, answer.read().decode()


def look(link: str) -> dict[str, str]:
    """Open the dashboard by its *link*, as a browser does; the states of the tasks."""
    base, _, code = link.partition("/#code=")
    _, page = _asked(base)
    if "<html" not in page.lower():
        msg = f"{base} is no page: {page[:300]}"
        raise LostError(msg)
    body = json.dumps({"code": code}).encode()
    headers = {"Content-Type": "application/json", "Origin": base}
    login = urllib.request.Request(f"{base}/api/v1/page/key", body, headers)
    cookie = _asked(login)[0]["Set-Cookie"].partition(";")[0]
    tasks = urllib.request.Request(f"{base}/api/v1/tasks", headers={"Cookie": cookie})
    listed = json.loads(_asked(tasks)[1])
    return {each["task_id"]: each["state"] for each in listed["tasks"]}


def kept(shell: Shell, task: str) -> None:
    """
    Wait until the journal has the end of a task, which is kept just after it.

    A person who reads that the next step has begun takes longer than that to kill the
    program; this script does not.

    Raises:
        LostError: It has not, in time.
    """
    command = "taskorch inspect pipeline.db --tasks --state completed"
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline:
        listed = subprocess.run(
            command.split(),
            executable=shell.commands / "taskorch",
            cwd=shell.folder,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            check=False,
        )
        if task in listed.stdout.split():
            return
        time.sleep(0.1)
    msg = f"{command} does not list {task}: {listed.stdout}{listed.stderr}"
    raise LostError(msg)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say how long a step takes; what is wrong in it is said with its name."""
    began = time.monotonic()
    try:
        yield
    except (LostError, OSError, subprocess.SubprocessError) as error:
        msg = f"{name}: {error}"
        raise LostError(msg) from error
    print(f"  {name}: {time.monotonic() - began:.1f} s", flush=True)


def go(lesson: Lesson, shell: Shell, hook: str, got: Said) -> None:
    """
    Type the commands, and see what comes of them.

    Raises:
        LostError: Something does not.
    """
    since = killed = 0
    for line, until in lesson.commands:
        if line.startswith("export WEBHOOK="):
            shell.type(f"export WEBHOOK={hook}")
            continue
        with step(f"$ {line}"):
            if line.startswith("taskorch serve"):
                shell.type(f"{line} --port 0")
                at = shell.said.wait("page: ", since)
                shell.said.wait("\n", at)
                link = shell.said.text[at:].splitlines()[0]
                break
            if line.startswith("kill -9"):
                kept(shell, "extract")
            shell.type(line)
            if line.startswith("kill -9"):
                # It has the journal until it has gone; a person types no faster.
                shell.type("wait")
            since = shell.said.wait(until, since) if until else shell.prompt(since)
            if line.startswith("kill -9"):
                killed = since
    else:
        msg = "no command shows the dashboard"
        raise LostError(msg)
    with step("what had ended is not run again, and the rest is"):
        before, after = shell.said.text[:killed], shell.said.text[killed:]
        found = [text.count(word) for text in (before, after) for word in _RUN]
        if not killed or found != [1, 1, 0, 1]:
            msg = f"{_RUN} ran so often before the kill, and after it: {found}\n"
            raise LostError(msg + shell.said.text[-3000:])
    with step("the dashboard shows it"):
        states = look(link)
        if states != {
            "extract": "completed",
            "transform": "completed",
            "load": "failed",
        }:
            msg = f"the dashboard shows {states}"
            raise LostError(msg)
    with step("the failure was told"):
        got.wait('"task_id": "load"')


#: What the first two steps of the program say.
_RUN: Final = ("extracts\n", "transforms\n")


def main(arguments: list[str]) -> int:
    """Go the way; return the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="newcomer-"))
    began = time.monotonic()
    shell: Shell | None = None
    try:
        lesson = Lesson.of((ROOT / "README.md").read_text(encoding="utf-8"))
        with step(f"install taskorch{lesson.extras}"):
            wheel = Path(arguments[0]) if arguments else None
            commands = install(lesson, wheel, folder)
        work = folder / "empty"
        work.mkdir()
        (work / lesson.file).write_text(lesson.program, encoding="utf-8")
        with receiver() as (hook, got):
            shell = Shell(work, commands)
            go(lesson, shell, hook, got)
    except LostError as error:
        print(f"a newcomer is lost: {error}", file=sys.stderr)
        return 1
    finally:
        if shell is not None:
            shell.close()
        shutil.rmtree(folder, ignore_errors=True)
    machine = (time.monotonic() - began) / 60
    lines, typed = lesson.program.count("\n"), len(lesson.commands) + 1
    print(
        f"a newcomer: {lesson.words} words to read, {lines} lines and {typed} commands "
        f"to type ({lesson.typed} characters): {lesson.minutes:.1f} minutes, and "
        f"{machine:.1f} of waiting"
    )
    if lesson.minutes > _MINUTES:
        print(f"that is more than {_MINUTES:g} minutes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
