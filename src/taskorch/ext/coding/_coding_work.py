"""
Work of a coding agent: its prompt, its folder, and its changes there.

Run as a program, it does the tasks of one agent by one long-lived runner, which speaks
the Agent Client Protocol. Each task is a session of its own, so that it sees nothing of
others. It reads tasks and answers in the form of `_line_program`. It imports nothing of
ours, since it starts with each agent.

Decisions: coding-agents, events-and-recovery.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Final

#: Seconds that git has for a query, and to make a worktree, with its hooks.
_PATIENCE: Final = 60.0
_PATIENCE_TO_MAKE: Final = 600.0
#: Seconds to wait while others make their worktrees, one after the other.
_PATIENCE_FOR_OTHERS: Final = 3600.0
#: Seconds between two attempts to get the lock.
_LOOK: Final = 0.05
#: More bytes than the line has that names the task of a worktree.
_SHORT: Final = 4096
#: Seconds for which the state at the start of a task is kept.
_LONG_AGO: Final = 30 * 86_400.0
#: The most characters of the end of a runner's output that a result has.
MOST_SAID: Final = 64 << 10
#: The longest line that is read, in bytes.
_LONGEST: Final = 16 << 20
#: Seconds that a kept runner has to introduce itself, and to begin a session.
_GREETING: Final = 60.0
#: The most characters of a line that an error shows.
_SHOWN: Final = 80
_KEYS: Final = ("prompt", "files")
#: Variables of an outer git, such as that of a hook, which would point our git and the
#: runner's to another work tree.
_OF_GIT: Final = frozenset(
    ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
)
#: Kinds of tools for a runner that only reads files, and for one that changes them.
_LOOKS: Final = frozenset(("read", "search", "think"))
_EDITS: Final = _LOOKS | {"edit", "delete", "move"}
#: The version of the protocol, its reason for a normal end, and its error code for an
#: unknown method.
_VERSION: Final = 1
_DONE: Final = "end_turn"
_UNKNOWN_METHOD: Final = -32601


def prompt_of(instructions: str, payload: Any, writes: Iterable[str] | None) -> str:
    """
    Return the prompt of a runner: the *instructions*, the task and its limits.

    Args:
        instructions: The instructions of the type of agent.
        payload: A text, or a mapping with `prompt` and, if so wanted, `files`.
        writes: The scopes that the task may write; None: it declares none.

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


def name_of_tree(task_id: str) -> str:
    """Do as `taskorch.model.file_name`, which this program does not import."""
    great = sum(1 << place for place, c in enumerate(task_id) if c.isupper())
    name = task_id.lower().replace("/", "+").replace(".", "=").replace("~", "@")
    return f"{name},{great:x}" if great else name


def inherited() -> dict[str, str]:
    """Return our variables without those that point git to another work tree."""
    return {name: os.environ[name] for name in os.environ if name not in _OF_GIT}


#: The commit, and a stamp of each changed file, as in JSON.
_Snapshot = list[Any]


class WorkFolder:
    """
    Folder in which a task is done, and its changes according to git.

    Args:
        folder: The folder of the agents.
        task_id: The id of the task.
        attempt: The number of its attempt, from 1.
        worktree: Whether it gets a worktree of its own, beside the project, on a branch
            that begins at the present commit; a later attempt goes on in it. A file in
            the folder of git names the task.
        run_id: The id of this run of the program: the part before a "." stays for a
            journal.

    Raises:
        ValueError: The worktree cannot be made.
    """

    def __init__(
        self,
        folder: str,
        task_id: str,
        attempt: int,
        *,
        worktree: bool,
        run_id: str = "",
    ) -> None:
        self.path: Path = Path(folder)
        #: The branch of the worktree; "" without one.
        self.branch: str = ""
        #: Whether no runner has worked in its worktree yet.
        self._is_new = False
        self._owner = f"task {task_id} of {run_id.partition('.')[0]}"
        if worktree:
            self._enter(task_id, attempt)
        common = _ask(self.path, "rev-parse", "--git-common-dir")
        #: The file in which attempts at the task leave their state for later ones;
        #: None: the folder is in no git repository.
        self._kept: Path | None = None
        if common is not None:
            marks = self.path / common.rstrip("\n") / "taskorch"
            self._kept = marks / f"{name_of_tree(task_id)}.begun"
        self._before, self._spent = self._begun(attempt)

    def _begun(self, attempt: int) -> tuple[_Snapshot | None, dict[str, float]]:
        """Return the files before the first attempt, and what was spent since."""
        record = _read(self._kept) if attempt > 1 else {}
        if record.get("owner") == self._owner:
            return record["before"], record["spent"]
        if attempt > 1 and not self._is_new:
            # An earlier attempt may have changed files without a record of it.
            return None, {}
        before = _snapshot(self.path)
        self._keep(before, {})
        if self._kept is not None:
            _forget_older(self._kept)
        return before, {}

    def _keep(self, before: _Snapshot | None, spent: Mapping[str, float]) -> None:
        """Store that for later attempts, atomically: a kill leaves no partial file."""
        if self._kept is None or before is None:
            return
        values = {"owner": self._owner, "before": before, "spent": spent}
        draft = self._kept.with_suffix(".draft")
        # Without this file, later attempts report their changes as unknown.
        with suppress(OSError):
            self._kept.parent.mkdir(exist_ok=True)
            draft.write_text(json.dumps(values))
            draft.replace(self._kept)

    def note_spent(self, spent: Mapping[str, float]) -> None:
        """Store the spending of an attempt, for those that follow."""
        for name, much in spent.items():
            self._spent[name] = self._spent.get(name, 0) + much
        if spent:
            self._keep(self._before, self._spent)

    @property
    def spent(self) -> dict[str, float]:
        """Sum of what all attempts have reported as spent."""
        return dict(self._spent)

    def changed(self) -> list[str] | None:
        """
        Return the files that differ from those before the first attempt; None: unknown.

        They include files that others change in the folder meanwhile, but not ignored
        files. A repository in it, such as a submodule, is one name.
        """
        before, after = self._before, _snapshot(self.path)
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
            committed = _ask(self.path, *words)
            if committed is None:
                return None
            names.update(filter(None, committed.split("\0")))
        # Bytes that are no UTF-8 are shown as escapes.
        return sorted(
            os.fsencode(name).decode(errors="backslashreplace") for name in names
        )

    def result(self, **values: Any) -> dict[str, Any]:
        """Return the result of the task: *values*, and the state of the folder."""
        values |= {"changed": self.changed(), "folder": str(self.path)}
        return values | ({"branch": self._left_on()} if self.branch else {})

    def _left_on(self) -> str:
        """Return the branch or commit of the work: the runner may have switched."""
        branch = _ask(self.path, "symbolic-ref", "-q", "--short", "HEAD")
        head = _ask(self.path, "rev-parse", "-q", "--verify", "HEAD")
        return (branch or head or self.branch).rstrip("\n")

    def _enter(self, task_id: str, attempt: int) -> None:
        words = ("rev-parse", "--git-common-dir", "--show-toplevel", "--show-prefix")
        answer = _ask(self.path, *words)
        if answer is None:
            msg = f"{self.path} is in no work tree of git, so it has no worktrees"
            raise ValueError(msg)
        common, top, prefix, *_ = (*answer.split("\n"), "")
        name = name_of_tree(task_id)
        self.branch, tree = f"taskorch/{name}", Path(f"{top}.worktrees") / name
        try:
            marks = self.path / common / "taskorch"
            with _locked(marks) as lock, _opened(marks / name) as mark:
                # Other ids, and tasks of other runs, may have this name, too.
                why = self._claim(lock, mark, tree, attempt)
        except OSError as error:
            why = str(error)
        if why:
            msg = f"the worktree of task {task_id} cannot be made: {why}"
            raise ValueError(msg)
        self.path = tree / prefix

    def _claim(self, lock: int, mark: int, tree: Path, attempt: int) -> str:
        """
        Take the worktree *tree*, which is created if needed; or say why not.

        The first line of the file *mark* names its task. It also says whether git has
        made all of it, since a kill meanwhile leaves a part, in which no runner has
        been.
        """
        owner = self._owner
        unmade = f"{owner}, not made yet"
        marked = os.fsdecode(os.pread(mark, _SHORT, 0)).partition("\n")[0]
        is_there = _has(self.path, f"refs/heads/{self.branch}")
        is_own = marked == unmade or (marked == owner and attempt > 1 and is_there)
        why = ""
        if is_there and not is_own:
            why = f"the branch {self.branch} is there, and not its own: merge it, and "
            why += f"git branch -d {self.branch}, or give the task another id"
        elif not is_own and os.path.lexists(tree):
            why = f"{tree} is there: move it, or give the task another id"
        elif not is_there and not _has(self.path, "HEAD"):
            why = "there is no commit yet, at which it could begin: make one"
        if why and marked == owner:
            # Without this, a later attempt would use the tree that this one is refused.
            _write(mark, "")
        if not why and (marked != owner or not tree.exists()):
            _write(mark, unmade)
            why = self._make(lock, tree, is_there=is_there)
            if not why:
                _write(mark, owner)
                self._is_new = marked != owner
            elif os.path.lexists(tree) and not self._lists(tree):
                # Another program has made the folder meanwhile.
                _write(mark, "")
        if not why and _ask(tree, "rev-parse", "--show-prefix") != "\n":
            why = f"{tree} is there, and no worktree any more: move it"
        return why

    def _make(self, lock: int, tree: Path, *, is_there: bool) -> str:
        """Create the worktree, from its branch if that *is_there*; or say why not."""
        words = ["worktree", "add", "-b", self.branch, str(tree)]
        if is_there:
            words = ["worktree", "add", str(tree), self.branch]
        if tree.exists():
            shutil.rmtree(tree)
        if self._lists(tree):
            _git(self.path, "worktree", "remove", "--force", "--force", str(tree))
        # git goes on if we are killed, and holds the lock until its end: if it were
        # killed too, it would leave a broken worktree.
        git = _git(self.path, *words, patience=_PATIENCE_TO_MAKE, lock=lock)
        return _why(git) if git.returncode else ""

    def _lists(self, tree: Path) -> bool:
        """Return whether git lists a worktree there, even one that is gone."""
        trees = _ask(self.path, "worktree", "list", "--porcelain") or ""
        return f"worktree {tree}" in trees.split("\n")


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """
    Lock a folder, which is created: git may fail if it makes two worktrees at once.

    Raises:
        OSError: Another process holds the lock, or it cannot be made.
    """
    folder.mkdir(exist_ok=True)
    with _opened(folder / ".lock") as lock:
        for _ in range(int(_PATIENCE_FOR_OTHERS / _LOOK)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_LOOK)
        else:
            msg = f"somebody has {folder / '.lock'}"
            raise TimeoutError(msg)
        yield lock


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file, which is created if needed, and return its descriptor."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield file
    finally:
        os.close(file)


def _write(mark: int, text: str) -> None:
    """Write the first line of a file atomically: a kill leaves all of it or none."""
    os.pwrite(mark, os.fsencode(f"{text}\n"), 0)


def _forget_older(kept: Path) -> None:
    """Remove files beside *kept* of tasks that were not used for long."""
    with suppress(OSError):
        now = kept.stat().st_mtime
        for file in kept.parent.glob("*.begun"):
            if now - file.stat().st_mtime > _LONG_AGO:
                file.unlink()


def _read(file: Path | None) -> dict[str, Any]:
    """Return the record in a file; empty if it cannot be read."""
    with suppress(OSError, ValueError):
        record = json.loads("{}" if file is None else file.read_text())
        return record if isinstance(record, dict) else {}
    return {}


def _snapshot(folder: Path, *, is_whole: bool = False) -> _Snapshot | None:
    """
    Return the commit, and the files that differ from it; None: git fails.

    With *is_whole*, the folder must be the top of its work tree.
    """
    words = ("--porcelain", "-z", "--no-renames", "--untracked-files=all")
    prefix = _ask(folder, "rev-parse", "--show-prefix")
    if prefix is None or (is_whole and prefix != "\n"):
        return None
    status = _ask(folder, "status", *words, "--", ".")
    if status is None:
        return None
    prefix = prefix.rstrip("\n")
    files: dict[str, object] = {}
    for entry in filter(None, status.split("\0")):
        name = entry[3:].removeprefix(prefix)
        files[name] = _stamp(folder / name)
    head = (_ask(folder, "rev-parse", "-q", "--verify", "HEAD") or "").strip()
    return [head, files]


def _stamp(path: Path) -> object:
    """Return a stamp that changes when the file is written; empty: there is no file."""
    try:
        stat = path.lstat()
    except OSError:
        return []
    if S_ISDIR(stat.st_mode):
        # It is a repository of its own, in which our git names no files.
        return _snapshot(path, is_whole=True)
    return [stat.st_ctime_ns, stat.st_size, stat.st_ino]


def _has(folder: Path, name: str) -> bool:
    """Return whether a name stands for a commit."""
    return _ask(folder, "rev-parse", "-q", "--verify", name) is not None


def _ask(folder: Path, *words: str) -> str | None:
    """Return the output of a git command in a folder; None if it fails."""
    git = _git(folder, *words)
    return None if git.returncode else os.fsdecode(git.stdout)


def _git(
    folder: Path,
    *words: str,
    patience: float = _PATIENCE,
    lock: int | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run git with our *lock*; it takes no optional locks of its own."""
    args = ["git", "--no-optional-locks", *words]
    variables = inherited()
    # Processes with this mark are killed after our death, and git must not be.
    variables.pop("TASKORCH_RUN", None)
    try:
        process = subprocess.Popen(  # noqa: S603 - a list of our own
            args,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
        )
    except OSError as error:
        why = f"git cannot be run: {error}"
        return subprocess.CompletedProcess(args, -1, b"", os.fsencode(why))
    with process:
        try:
            out, err = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            # After this signal git removes its unfinished work.
            process.terminate()
            out, err = b"", f"git {words[0]} has not ended in {patience:g} s".encode()
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def _why(git: subprocess.CompletedProcess[bytes]) -> str:
    """Return the line of git's output that gives the error, not a hint or a hook's."""
    lines = git.stderr.decode(errors="backslashreplace").strip().splitlines()
    for line in lines:
        if line.startswith(("fatal:", "error:")):
            return line
    return lines[-1] if lines else f"git has ended with {git.returncode}"


# -- a runner that goes on living ------------------------------------------------------


class RunnerEndedError(Exception):
    """Exit of the runner, with its exit code, during a task."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the runner ended with {code}")
        self.code = code


class KeptRunner:
    """
    Runner that speaks the Agent Client Protocol, a line of JSON for each message.

    Args:
        args: The program and its arguments.
        folder: The folder in which it is started.
        edits: Whether it may change files when it asks.
    """

    def __init__(self, args: Sequence[str], folder: str, *, edits: bool) -> None:
        self._args, self._folder = [*args], folder
        self._allowed = _EDITS if edits else _LOOKS
        self._process: subprocess.Popen[bytes] | None = None
        #: Whether it was killed, which may leave processes that it has started.
        self.is_killed: bool = False
        self._number = 0
        #: The present session: its id, its output, its refused tools, and the kinds and
        #: titles of tools by the ids of their calls.
        self._session = ""
        self._said = ""
        self.refused: list[str] = []
        self._calls: dict[str, tuple[str, str]] = {}
        self._tell: Callable[[str], object] = str

    def do(self, prompt: str, folder: str, tell: Callable[[str], object]) -> str:
        """
        Do one task in a session of its own.

        Args:
            prompt: The whole prompt.
            folder: The folder in which it works.
            tell: A function that is called with each step of its work.

        Returns:
            The end of its output.

        Raises:
            ValueError: It refused, or violated the protocol.
            RunnerEndedError: It ended meanwhile.
            OSError: It cannot be started.
        """
        self._tell, self._said, self._session = tell, "", ""
        self.refused, self._calls = [], {}
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._start()
        session = self._greet("session/new", {"cwd": folder, "mcpServers": []})
        number = session.get("sessionId")
        if not isinstance(number, str):
            msg = f"{self._args[0]} named no session for its task"
            raise ValueError(msg)  # noqa: TRY004 - as for all that is wrong in it
        self._session = number
        blocks = [{"type": "text", "text": prompt}]
        turn = {"sessionId": self._session, "prompt": blocks}
        why = self._ask("session/prompt", turn).get("stopReason")
        if why != _DONE:
            msg = f"{self._args[0]} stopped before the end: {why}"
            raise ValueError(msg)
        return self._said

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - as the template says
            self._args,
            cwd=self._folder,
            env=inherited(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        none = {"fs": {"readTextFile": False, "writeTextFile": False}}
        hello = {"protocolVersion": _VERSION, "clientCapabilities": none}
        version = self._greet("initialize", hello).get("protocolVersion")
        if version != _VERSION:
            self._end()
            msg = f"{self._args[0]} speaks version {version} of the protocol, not 1"
            raise ValueError(msg)

    def _greet(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request that is no work; a silent runner is killed."""
        process = self._process
        assert process is not None  # noqa: S101 - it was started
        is_late = threading.Event()

        def give_up() -> None:
            is_late.set()
            process.kill()

        guard = threading.Timer(_GREETING, give_up)
        guard.daemon = True
        guard.start()
        try:
            return self._ask(method, params)
        except (RunnerEndedError, ValueError):
            # The kill may also cut off a line of its output.
            if not is_late.is_set():
                raise
            self.is_killed = True
            msg = f"{self._args[0]} did not answer {method} in {_GREETING:g} s"
            raise ValueError(msg) from None
        finally:
            guard.cancel()

    def _ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, and handle all messages until its answer."""
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
        # The next read notices its end.
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
        """Handle a notification, or answer a request of the runner."""
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
            self._said = (self._said + str(content.get("text", "")))[-MOST_SAID:]
        elif kind in ("tool_call", "tool_call_update"):
            title = self._call_of(update)[1]
            if kind == "tool_call" and title:
                self._tell(title)

    def _call_of(self, update: Mapping[str, Any]) -> tuple[str, str]:
        """Return kind and title of a tool call; earlier messages fill the gaps."""
        number = str(update.get("toolCallId"))
        kind, title = self._calls.get(number, ("other", ""))
        call = str(update.get("kind") or kind), str(update.get("title") or title)
        self._calls[number] = call
        return call

    def _permit(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Answer the question of the runner whether it may use a tool."""
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
        """Kill the runner, since its state is unknown."""
        process, self._process = self._process, None
        if process is not None:
            self.is_killed = process.poll() is None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def main(options: Mapping[str, Any]) -> int:
    """Do the tasks that come on standard input, until its end."""
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
                folder,
                order["id"],
                order["attempt"],
                worktree=options["worktree"],
                run_id=os.environ.get("TASKORCH_RUN", ""),
            )
            output = runner.do(prompt, str(place.path), tell)
            values = {"runner": name, "output": output, "refused": runner.refused}
            answer(order, result=place.result(**values))
        except RunnerEndedError as error:
            sys.stderr.write(f"taskorch: {name}: {error}\n")
            return max(error.code, 1)
        except (ValueError, OSError) as error:
            answer(order, error=str(error), last=runner.is_killed)
            if runner.is_killed:
                break
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
