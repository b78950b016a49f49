"""
The work of a coding agent: its prompt, its folder, and what it has changed there.

Run as a program, it does the tasks of one agent by one runner that goes on living and
speaks the Agent Client Protocol: each task is a session of its own, so that none sees
what was said in another. It reads tasks and answers as `_line_program` says. It imports
nothing of ours, since it starts with each agent.

Decision: 0236.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

#: Seconds that git has for a question.
_PATIENCE: Final = 60.0
#: Characters of what a runner says that a result has: the last.
_MOST_SAID: Final = 64 << 10
#: The longest line that is read, in bytes.
_LONGEST: Final = 16 << 20
#: Characters of a line that an error shows.
_SHOWN: Final = 80
_KEYS: Final = ("prompt", "files")
#: Variables by which a git that runs us would have ours look elsewhere.
_OF_GIT: Final = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
_NOT_SAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")
#: Kinds of tools that a runner may use which is to look only, and which is to change.
_LOOKS: Final = frozenset(("read", "search", "think"))
_EDITS: Final = _LOOKS | {"edit", "delete", "move"}
#: The version of the protocol, and what it says of an end that is none.
_VERSION: Final = 1
_DONE: Final = "end_turn"
_UNKNOWN_METHOD: Final = -32601


def prompt_of(instructions: str, payload: Any, writes: Iterable[str] | None) -> str:
    """
    What a runner is told: the *instructions* of its type, the task, and its limits.

    Args:
        instructions: Of the type of agent.
        payload: A text, or a mapping with `prompt` and, if so wanted, `files`.
        writes: The scopes that the task may write; None: it says nothing of that.

    Raises:
        ValueError: The payload is neither.
    """
    task = {"prompt": payload} if isinstance(payload, str) else payload
    if not isinstance(task, Mapping):
        msg = f"the payload is a text, or a mapping with prompt, not {payload!r:.80}"
        raise ValueError(msg)  # noqa: TRY004 - as for all that is wrong in it
    for key in task:
        if key not in _KEYS:
            msg = f"the payload has a key {key!r}, and may have {', '.join(_KEYS)}"
            raise ValueError(msg)
    prompt, files = task.get("prompt"), task.get("files", ())
    if not isinstance(prompt, str) or not prompt.strip():
        msg = f"the prompt of the payload is a text, not {prompt!r:.80}"
        raise ValueError(msg)
    is_list = isinstance(files, list | tuple)
    if not is_list or not all(isinstance(name, str) for name in files):
        msg = f"the files of the payload are a list of paths, not {files!r:.80}"
        raise ValueError(msg)
    parts = [instructions, prompt]
    if files:
        parts.append("Files that this is about:\n" + "\n".join(files))
    if writes is not None:
        parts.append("Change no file but these: " + (", ".join(writes) or "none"))
    return "\n\n".join(parts) + "\n"


class WorkFolder:
    """
    The folder in which a task is done, and what git says of it.

    Args:
        folder: The folder of the agents.
        task_id: The id of the task.
        attempt: The number of its attempt, from 1.
        worktree: Whether it gets a worktree of its own, beside the project, on a branch
            that begins at the present commit; a later attempt goes on in it. The
            configuration of the branch names the task.

    Raises:
        ValueError: The worktree cannot be made.
    """

    def __init__(
        self, folder: str, task_id: str, attempt: int, *, worktree: bool
    ) -> None:
        self.path: Path = Path(folder)
        #: The branch of the worktree; "" without one.
        self.branch: str = ""
        if worktree:
            self._enter(task_id, attempt)
        self._before = self._snapshot()

    def changed(self) -> list[str] | None:
        """
        Files that are other than before, below the folder; None: nobody knows.

        Whoever changes files in the folder meanwhile changes them, too. Ignored files
        are not among them.
        """
        before, after = self._before, self._snapshot()
        if before is None or after is None:
            return None
        (head, files), (new_head, new_files) = before, after
        names = {
            name
            for name in {*files, *new_files}
            if files.get(name) != new_files.get(name)
        }
        if head != new_head:
            words = ["ls-tree", "-r", "--name-only", "-z", new_head]
            if head:
                words = ["diff", "--name-only", "--no-renames", "-z", "--relative"]
                words += [head, new_head]
            committed = self._ask(*words)
            if committed is None:
                return None
            names.update(filter(None, committed.split("\0")))
        # What is no UTF-8 is shown by its bytes.
        return sorted(
            os.fsencode(name).decode(errors="backslashreplace") for name in names
        )

    def result(self, **values: Any) -> dict[str, Any]:
        """The result of the task: *values*, and what is known of the folder."""
        values |= {"changed": self.changed(), "folder": str(self.path)}
        return values | ({"branch": self.branch} if self.branch else {})

    def _enter(self, task_id: str, attempt: int) -> None:
        top, prefix = self._ask("rev-parse", "--show-toplevel", "--show-prefix"), ""
        if top is None:
            msg = f"{self.path} is in no work tree of git, so it has no worktrees"
            raise ValueError(msg)
        top, _, prefix = top.rstrip("\n").partition("\n")
        name = _NOT_SAFE.sub("-", task_id)
        self.branch, tree = f"taskorch/{name}", Path(f"{top}.worktrees") / name
        # Other ids, and tasks of other days, have this name, too.
        key, mark = f"branch.{self.branch}.taskorch-task", f"task {task_id}"
        words = ["-b", self.branch, str(tree)]
        if self._ask("rev-parse", "-q", "--verify", f"refs/heads/{self.branch}"):
            words = [str(tree), self.branch]
            if attempt == 1 or self._ask("config", key) != f"{mark}\n":
                # Else a later attempt would go on where this one is refused.
                self._ask("config", "--unset-all", key)
                why = f"the branch {self.branch} is there, and not its own"
                self._refuse(task_id, why)
        else:
            self._ask("config", "--replace-all", key, mark)
        if not tree.exists():
            git = _git(self.path, "worktree", "add", "-q", *words)
            if git is None or git.returncode:
                why = "git is not there" if git is None else _last_line(git.stderr)
                self._refuse(task_id, why)
        elif words[0] == "-b":
            self._refuse(task_id, f"{tree} is there")
        self.path = tree / prefix

    @staticmethod
    def _refuse(task_id: str, why: str) -> NoReturn:
        msg = f"the worktree of task {task_id} cannot be made: {why}"
        raise ValueError(msg)

    def _snapshot(self) -> tuple[str, dict[str, tuple[int, ...]]] | None:
        """The commit, and the files that differ from it; None: git does not say."""
        words = ("--porcelain", "-z", "--no-renames", "--untracked-files=all")
        status = self._ask("status", *words, "--", ".")
        prefix = self._ask("rev-parse", "--show-prefix")
        if status is None or prefix is None:
            return None
        prefix = prefix.rstrip("\n")
        files: dict[str, tuple[int, ...]] = {}
        for entry in filter(None, status.split("\0")):
            name = entry[3:].removeprefix(prefix)
            files[name] = _stamp(self.path / name)
        return (self._ask("rev-parse", "-q", "--verify", "HEAD") or "").strip(), files

    def _ask(self, *words: str) -> str | None:
        """What git answers in the folder; None: it does not."""
        git = _git(self.path, *words)
        return None if git is None or git.returncode else os.fsdecode(git.stdout)


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes] | None:
    """Ask git, which takes no lock that another might need; None: it is not there."""
    variables = {name: os.environ[name] for name in os.environ if name not in _OF_GIT}
    try:
        return subprocess.run(  # noqa: S603 - a list of our own
            ["git", "--no-optional-locks", *words],  # noqa: S607 - of the PATH
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _stamp(path: Path) -> tuple[int, ...]:
    """What is other once a file has been written; empty: there is none."""
    try:
        stat = path.lstat()
    except OSError:
        return ()
    return stat.st_ctime_ns, stat.st_size, stat.st_ino


def _last_line(text: bytes) -> str:
    return text.decode(errors="backslashreplace").strip().rpartition("\n")[2]


# -- a runner that goes on living ------------------------------------------------------


class RunnerEndedError(Exception):
    """The runner has ended, with an exit code, while it had a task."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the runner ended with {code}")
        self.code = code


class KeptRunner:
    """
    A runner that speaks the Agent Client Protocol, a line of JSON for each message.

    Args:
        args: The program and its arguments.
        folder: Where it is started.
        edits: Whether it may change files, if it asks.
    """

    def __init__(self, args: Sequence[str], folder: str, *, edits: bool) -> None:
        self._args, self._folder = [*args], folder
        self._allowed = _EDITS if edits else _LOOKS
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        #: Of the present session: its id, what was said, what was refused, and the
        #: kinds and titles of tools, by the ids of their calls.
        self._session = ""
        self._said = ""
        self.refused: list[str] = []
        self._calls: dict[str, tuple[str, str]] = {}
        self._tell: Callable[[str], object] = str

    def do(self, prompt: str, folder: str, tell: Callable[[str], object]) -> str:
        """
        Do one task in a session of its own.

        Args:
            prompt: All that it is told.
            folder: Where it works.
            tell: Called with what it does, again and again.

        Returns:
            What it said, the end of that.

        Raises:
            ValueError: It refused, or said what is not of the protocol.
            RunnerEndedError: It ended meanwhile.
            OSError: It cannot be started.
        """
        self._tell, self._said, self._session = tell, "", ""
        self.refused, self._calls = [], {}
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._start()
        session = self._ask("session/new", {"cwd": folder, "mcpServers": []})
        self._session = str(session.get("sessionId"))
        blocks = [{"type": "text", "text": prompt}]
        turn = {"sessionId": self._session, "prompt": blocks}
        why = self._ask("session/prompt", turn).get("stopReason")
        if why != _DONE:
            msg = f"{self._args[0]} stopped before the end: {why}"
            raise ValueError(msg)
        return self._said[-_MOST_SAID:]

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - as the template says
            self._args,
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        none = {"fs": {"readTextFile": False, "writeTextFile": False}}
        hello = {"protocolVersion": _VERSION, "clientCapabilities": none}
        version = self._ask("initialize", hello).get("protocolVersion")
        if version != _VERSION:
            self._end()
            msg = f"{self._args[0]} speaks version {version} of the protocol, not 1"
            raise ValueError(msg)

    def _ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, and hear all until its answer."""
        self._number += 1
        number = self._number
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._hear()
            if "method" in message:
                self._answer(message)
            elif message.get("id") == number:
                break
        if "error" in message:
            error = message["error"]
            why = error.get("message") if isinstance(error, dict) else error
            msg = f"{self._args[0]}: {method}: {str(why)[:2000]}"
            raise ValueError(msg)
        result = message.get("result")
        return result if isinstance(result, dict) else {}

    def _send(self, message: Mapping[str, Any]) -> None:
        process = self._process
        assert process is not None  # noqa: S101 - it was started
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        line = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
        # That it has ended is seen when it is to be heard.
        with suppress(OSError):
            process.stdin.write(line)
            process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        process = self._process
        assert process is not None  # noqa: S101 - it was started
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        line = process.stdout.readline(_LONGEST)
        if not line:
            self._end()
            raise RunnerEndedError(process.returncode)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self._end()
            text = line[:_SHOWN].decode(errors="backslashreplace")
            msg = f"{self._args[0]} said {text!r}, which is no message of the protocol"
            raise ValueError(msg)  # noqa: TRY004 - as above
        return message

    def _answer(self, message: Mapping[str, Any]) -> None:
        """Hear a notification, or answer a request of the runner."""
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        update = params.get("update")
        if params.get("sessionId") == self._session and isinstance(update, dict):
            self._note(update)
        if "id" not in message:
            return
        if message["method"] == "session/request_permission":
            outcome = self._permit(params)
            self._send({"id": message["id"], "result": {"outcome": outcome}})
            return
        error = {"code": _UNKNOWN_METHOD, "message": "it is not offered"}
        self._send({"id": message["id"], "error": error})

    def _note(self, update: Mapping[str, Any]) -> None:
        kind, content = update.get("sessionUpdate"), update.get("content")
        if kind == "agent_message_chunk" and isinstance(content, dict):
            self._said += str(content.get("text", ""))
        elif kind in ("tool_call", "tool_call_update"):
            title = self._call_of(update)[1]
            if kind == "tool_call" and title:
                self._tell(title)

    def _call_of(self, update: Mapping[str, Any]) -> tuple[str, str]:
        """The kind and the title of a call of a tool: what is not said now, was."""
        number = str(update.get("toolCallId"))
        kind, title = self._calls.get(number, ("other", ""))
        call = str(update.get("kind") or kind), str(update.get("title") or title)
        self._calls[number] = call
        return call

    def _permit(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Answer whether the runner may use a tool."""
        update, options = params.get("toolCall"), params.get("options")
        kind, title = self._call_of(update if isinstance(update, dict) else {})
        is_allowed = kind in self._allowed
        if not is_allowed:
            self.refused.append(title or kind)
        word = "allow" if is_allowed else "reject"
        for wanted in (f"{word}_once", f"{word}_always"):
            for option in options if isinstance(options, list) else ():
                if isinstance(option, dict) and option.get("kind") == wanted:
                    number = option.get("optionId")
                    return {"outcome": "selected", "optionId": number}
        return {"outcome": "cancelled"}

    def _end(self) -> None:
        """Kill the runner, of which nobody knows what it would say next."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def main(options: Mapping[str, Any]) -> int:
    """Do the tasks that come on standard input, until it ends."""
    folder, name = options["folder"], options["name"]
    runner = KeptRunner(options["args"], folder, edits=options["edits"])

    def answer(order: Mapping[str, Any], **values: Any) -> None:
        line = {"id": order["id"], "attempt": order["attempt"], **values}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    for line in sys.stdin.buffer:
        order = json.loads(line)

        def tell(title: str, order: Mapping[str, Any] = order) -> None:
            answer(order, progress=title)

        try:
            writes = order.get("writes")
            prompt = prompt_of(options["instructions"], order["payload"], writes)
            place = WorkFolder(
                folder, order["id"], order["attempt"], worktree=options["worktree"]
            )
            output = runner.do(prompt, str(place.path), tell)
            values = {"runner": name, "output": output, "refused": runner.refused}
            answer(order, result=place.result(**values))
        except RunnerEndedError as error:
            sys.stderr.write(f"taskorch: {name}: {error}\n")
            return max(error.code, 1)
        except (ValueError, OSError) as error:
            answer(order, error=str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
