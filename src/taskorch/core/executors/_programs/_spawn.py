"""A program as a process: its environment, its pipes, its start and its end."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.kit.processes import no_fork
from taskorch.model import ProgramVariables

if TYPE_CHECKING:
    from taskorch.core.executors._programs._output import Input
    from taskorch.model import Program


#: Bytes in a block of the system's count of writes.
_BLOCK: Final = 512
_SPEAKS_UTF_8: Final = sys.getfilesystemencoding() == "utf-8"
#: Variables that are for one program only, and not for those that it starts with us.
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
    Return the environment of *program*, in which *extra* replaces all else.

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
    """Return a copy: each look into our environment decodes its values."""
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


@attrs.frozen
class ReapedUsage:
    """
    Resources that a process, and the children that it waited for, used.

    Attributes:
        memory_mb: The most memory that one of them had at once, in MiB.
        cpu_seconds: Seconds of all.
        written_mb: MiB that all wrote to disks.
    """

    memory_mb: float | None = None
    cpu_seconds: float | None = None
    written_mb: float | None = None


def reap(process: subprocess.Popen[bytes]) -> ReapedUsage:
    """
    Reap *process*, which has ended.

    Returns:
        Its use; None where that is unknown: other code has reaped it, or its memory is
        not above ours, from which it was forked.
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
    # macOS counts writes, and not their bytes.
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

    Its environment is *env*, and nothing else. The words *prefix* come before its own.

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
    Check that *program* can be started, where a launcher would begin in any case.

    Raises:
        OSError: It cannot; the error is that of `spawn`.
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


#: The first bytes of binaries of Linux, and of others that it may be taught.
_BINARIES: Final = (b"\x7fELF", b"MZ", b"\0asm")


def _encoded(text: str | bytes) -> str | bytes:
    """Return *text* as UTF-8, where our locale is ASCII, like that of C."""
    if isinstance(text, bytes) or _SPEAKS_UTF_8:
        return text
    return text.encode(errors="surrogateescape")


def explain(error: OSError, program: Program) -> OSError:
    """Return the error with a message that says what, where, and what to do."""
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
        # The value of PATH is left out: messages are kept, values of variables are not.
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
