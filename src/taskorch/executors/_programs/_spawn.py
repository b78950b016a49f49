"""
A program as a process: its environment, its pipes, its start and its exit code.

And forks of this process: what they must not keep open, and when they must wait.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from taskorch.model import ProgramVariables

if TYPE_CHECKING:
    from taskorch.executors._programs._output import Input
    from taskorch.model import Program


# Seconds that a fork waits for a program that is just being started.
_FORK_PATIENCE = 5.0


class DescriptorHolder(Protocol):
    """An object with descriptors that a forked child must not keep."""

    def disown(self) -> None:
        """In the child: close them."""


class _Gate:
    """
    Keeps this process from being forked while it starts a program.

    A child that is forked in that moment holds our ends of pipes which nobody closes
    in it: the end of a program's input would not be seen, and `Popen`, which waits for
    such a pipe to be closed, would hang until that child ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forking: int | None = None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait until no process is being started, but not for ever."""
        # A start that hangs, in a dead network folder perhaps, must not hold up others.
        if self._lock.acquire(timeout=_FORK_PATIENCE):
            self._forking = threading.get_ident()

    def after_fork(self) -> None:
        """Allow processes to be started again."""
        if self._forking == threading.get_ident():
            self._forking = None
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew, without what is the parent's."""
        # If a start hung, the thread that held the old lock is not in this process.
        self._lock = threading.Lock()
        self._forking = None
        for owner in list(_owners):
            owner.disown()


#: Held while a process is started: a fork of ours waits for it.
no_fork = _Gate()

_owners: weakref.WeakSet[DescriptorHolder] = weakref.WeakSet()


def at_fork(owner: DescriptorHolder) -> None:
    """Close the descriptors of *owner* in every forked child."""
    _owners.add(owner)


os.register_at_fork(
    before=no_fork.before_fork,
    after_in_parent=no_fork.after_fork,
    after_in_child=no_fork.after_fork_in_child,
)


#: Bytes of what the system counts as written.
_BLOCK: Final = 512
_SPEAKS_UTF_8: Final = sys.getfilesystemencoding() == "utf-8"
#: What is for one program only, and for none that it starts with us.
_ONES_OWN: Final = (
    ProgramVariables.ALLOCATION,
    ProgramVariables.CHECKPOINT,
    ProgramVariables.SPENT,
)
_HINTS = {
    errno.ENOEXEC: "it is no binary for this machine, and a script needs a first line "
    "such as #!/bin/sh",
    errno.E2BIG: "arguments and environment are too long together, or one of them is; "
    "hand the data over through stdin or a file",
    errno.EMFILE: "this process has no file descriptors left; run fewer programs at "
    "once, or raise the limit (ulimit -n)",
    errno.ENFILE: "the machine has no file descriptors left; run fewer programs",
    errno.EAGAIN: "no more processes are allowed; run fewer programs at once, or raise "
    "the limit (ulimit -u, or the pids limit of the container)",
    errno.ENOMEM: "the machine has no memory left; run fewer programs at once",
    errno.ETXTBSY: "its file is open for writing; close it, or try again",
}


def environment(
    program: Program, ours: Mapping[str, str], extra: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """
    What *program* finds in its environment, with *extra* above all.

    Returns:
        Its variables, and the names of *ours* that it does not get, sorted.
    """
    ours = _as_it_stands(ours)
    if program.inherit_env is True:
        env = ours.copy()
    else:
        env = {name: ours[name] for name in ours if program.inherits(name)}
    for name in _ONES_OWN:
        env.pop(name, None)
    env |= program.env
    env |= extra
    return env, tuple(sorted(name for name in ours if name not in env))


def _as_it_stands(variables: Mapping[str, str]) -> dict[str, str]:
    """A copy: each look into our environment decodes what it finds there."""
    while True:
        try:
            return dict(variables)
        except (KeyError, RuntimeError):
            # Another thread has changed it meanwhile.
            continue


@attrs.frozen
class Child:
    """A program that has been started: the process, and our ends of its pipes."""

    process: subprocess.Popen[bytes]
    stdout: int
    stderr: int


def exit_code_of(process: subprocess.Popen[bytes]) -> int | None:
    """
    The exit code of *process*, if it has ended; negative for a signal.

    It stays a zombie, so that its number goes to nobody else.

    Raises:
        ChildProcessError: Somebody else has waited for it.
    """
    pid = process.pid
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode
    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if info is None:
        return None
    return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status


@attrs.frozen
class ReapedUsage:
    """
    What a process, and the children that it waited for, used.

    Attributes:
        memory_mb: The most memory that one of them had at once, in MiB.
        cpu_seconds: Of all.
        written_mb: MiB that all wrote to disks.
    """

    memory_mb: float | None = None
    cpu_seconds: float | None = None
    written_mb: float | None = None


def reap(process: subprocess.Popen[bytes]) -> ReapedUsage:
    """
    Let the system forget *process*, which has ended.

    Returns:
        What it used; None where nobody knows: somebody else has reaped it, or its
        memory is not above ours, from which it was forked.
    """
    if process.returncode is not None:
        return ReapedUsage()
    try:
        _, status, used = os.wait4(process.pid, 0)
    except ChildProcessError:
        process.wait()
        return ReapedUsage()
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = used.ru_maxrss / unit if used.ru_maxrss > ours else None
    # macOS counts how often it wrote, and not how much.
    written = None if sys.platform == "darwin" else used.ru_oublock * _BLOCK / (1 << 20)
    return ReapedUsage(memory, used.ru_utime + used.ru_stime, written)


def spawn(
    program: Program,
    env: Mapping[str, str],
    stdin: Input | None,
    prefix: tuple[str, ...] = (),
) -> Child:
    """
    Start a program in a session of its own, with pipes that never block us.

    In its environment is *env*, and nothing else. It is started by what *prefix* names.

    Raises:
        OSError: It cannot be started; `explain` says why.
        ValueError: An argument or a variable can never be passed.
    """
    variables: Any = env
    if not _SPEAKS_UTF_8:
        variables = {_encoded(name): _encoded(value) for name, value in env.items()}
    with no_fork, ExitStack() as theirs, ExitStack() as ours:

        def pipe() -> tuple[int, int]:
            out, into = os.pipe()
            ours.callback(os.close, out)
            theirs.callback(os.close, into)
            return out, into

        stdout, their_stdout = pipe()
        stderr, their_stderr = pipe()
        their_stdin = subprocess.DEVNULL
        if stdin is not None:
            their_stdin = stdin.open()
            theirs.callback(os.close, their_stdin)
        os.set_blocking(stdout, False)
        os.set_blocking(stderr, False)
        process = subprocess.Popen(  # noqa: S603 - a list, and never a shell
            [_encoded(word) for word in (*prefix, *program.args)],
            stdin=their_stdin,
            stdout=their_stdout,
            stderr=their_stderr,
            cwd=program.cwd,
            env=variables,
            start_new_session=True,
            pass_fds=program.pass_fds,
        )
        ours.pop_all()
    return Child(process, stdout, stderr)


def check_startable(program: Program, env: Mapping[str, str]) -> None:
    """
    See that *program* can be started, where a launcher would begin in any case.

    Raises:
        OSError: It cannot, as `spawn` would say.
    """
    name = os.fsdecode(program.args[0])
    folders = [""] if "/" in name else env.get("PATH", os.defpath).split(":")
    number = errno.ENOENT
    for folder in folders:
        path = Path(program.cwd or ".", folder, name)
        try:
            if path.is_dir() or not os.access(path, os.X_OK):
                number = errno.EACCES if path.exists() else number
                continue
            with path.open("rb") as file:
                start = file.read(4)
        except PermissionError:
            # It can be executed, and not be read.
            return
        if start.startswith((b"#!", *_BINARIES)):
            return
        number = errno.ENOEXEC
        break
    raise OSError(number, os.strerror(number), name)


#: What binaries of Linux begin with, and of others that it may be taught.
_BINARIES: Final = (b"\x7fELF", b"MZ", b"\0asm")


def _encoded(text: str | bytes) -> str | bytes:
    """*text* as UTF-8 where our locale is too poor to say it: that of C is ASCII."""
    if isinstance(text, bytes) or _SPEAKS_UTF_8:
        return text
    return text.encode(errors="surrogateescape")


def explain(error: OSError, program: Program) -> OSError:
    """The same error with a message that says what, where, and what to do."""
    number = error.errno or 0
    name = os.fsdecode(program.args[0])
    if program.cwd is not None and error.filename == program.cwd != name:
        text = (
            f"{name!r} could not be started in {program.cwd!r}: {os.strerror(number)}; "
            "make the folder, or give a cwd that can be entered"
        )
        return _caused(OSError(number, text), error)
    if number == errno.ENOENT:
        hint = _not_found(name, program.cwd)
    elif number in (errno.EACCES, errno.EPERM):
        hint = _not_allowed(name)
    else:
        hint = _HINTS.get(number, "")
    text = f"{name!r} could not be started: {os.strerror(number)}"
    return _caused(OSError(number, f"{text}; {hint}" if hint else text), error)


def _caused(error: OSError, cause: OSError) -> OSError:
    error.__cause__ = cause
    return error


def _not_found(name: str, cwd: str | None) -> str:
    if "/" not in name:
        # The value of PATH stays out: messages are kept, values of variables are not.
        return "it is not on the PATH that it gets; install it, or give its full path"
    path = Path(cwd or ".", name)
    if path.exists():
        return "the file is there, but the interpreter named after its #! is not"
    return f"there is no file {str(path)!r}"


def _not_allowed(name: str) -> str:
    if "/" not in name:
        return (
            "what the PATH has of this name is not executable, or a folder of the PATH "
            "cannot be read; give its full path"
        )
    return "the file is not executable (chmod +x), or its folder cannot be entered"
