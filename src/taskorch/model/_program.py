"""Programs: what to run, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.frozen import frozen, shown
from taskorch.model._resources import Resources

if TYPE_CHECKING:
    # For annotations only: the model does no input or output.
    from os import PathLike
    from pathlib import Path

#: The variables of ours that every program gets. A name that ends in `*` stands for
#: every name that begins so.
DEFAULT_ENV: Final[frozenset[str]] = frozenset(
    {
        "HOME",
        "LANG",
        "LC_*",
        "PATH",
        "SHELL",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
    }
)


class ProgramVariables:
    """
    Names of the environment variables by which programs and we tell each other things.

    Attributes:
        RUN: Of every program, and of all that it starts: the run to which it belongs.
            By it those are found that have outlived their orchestrator.
        PROGRAM: Of every program: which one of the run it is.
        ALLOCATION: Of an elastic task: the file that says what it holds.
        CHECKPOINT: Of an elastic task: the pipe to which it writes a line when it is at
            a checkpoint.
        SPENT: Of a task that draws on a budget: the pipe to which it writes what it has
            spent.
        TASK: The task of which the program is an attempt.
        FENCE: The fence of that attempt: `epoch.number`.
        ARTIFACTS: Of a worker elsewhere: the folder for the files that it is to send.
        PROGRESS: Of a worker elsewhere: the file in which the program says how far it
            is.
        CGROUP: Ours: the folder in which groups for limits may be made, or `off`.
    """

    RUN: Final = "TASKORCH_RUN"
    PROGRAM: Final = "TASKORCH_PROGRAM"
    ALLOCATION: Final = "TASKORCH_ALLOCATION"
    CHECKPOINT: Final = "TASKORCH_CHECKPOINT"
    SPENT: Final = "TASKORCH_SPENT"
    TASK: Final = "TASKORCH_TASK"
    FENCE: Final = "TASKORCH_FENCE"
    ARTIFACTS: Final = "TASKORCH_ARTIFACTS"
    PROGRESS: Final = "TASKORCH_PROGRESS"
    CGROUP: Final = "TASKORCH_CGROUP"

    @classmethod
    def of_attempt(cls, task_id: str, fence: tuple[int, int]) -> dict[str, str]:
        """Return the variables that tell a program which attempt it is."""
        epoch, number = fence
        return {cls.TASK: task_id, cls.FENCE: f"{epoch}.{number}"}


#: All that programs are told in this way.
OUR_VARIABLES: Final = (
    ProgramVariables.RUN,
    ProgramVariables.PROGRAM,
    ProgramVariables.ALLOCATION,
    ProgramVariables.CHECKPOINT,
    ProgramVariables.SPENT,
    ProgramVariables.TASK,
    ProgramVariables.FENCE,
    ProgramVariables.ARTIFACTS,
    ProgramVariables.PROGRESS,
)

#: Names that a program gets besides `DEFAULT_ENV` (`*` at the end of a name stands
#: for any rest), or True for all that we have.
InheritEnv: TypeAlias = Literal[True] | Iterable[str]


#: What a program can be held to, by the names of limits.
LIMITS: Final = ("cpu", "cpu_seconds", "memory_mb", "processes", "written_mb")
_UNLIMITED: Final = Resources()

#: Whether what a program declares is held; None: where it has limits, scopes or a word
#: on the network of its own, or else as the orchestrator says.
Enforce: TypeAlias = Literal["if possible"] | bool | None


def _is_a(value: object, *kinds: type) -> bool:
    # Callers may give anything at all, whatever the annotations promise.
    return isinstance(value, kinds)


def _refuse_no_list(field: str, value: object, remedy: str) -> None:
    # A str is iterable too, and would silently fall apart into its letters.
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        msg = f"{field}: {remedy}, not {value!r}"
        raise TypeError(msg)


def _plain(value: object) -> object:
    """*value* without its path class; what is neither text nor path stays."""
    if isinstance(value, str | bytes):
        return value
    convert = getattr(type(value), "__fspath__", None)
    return value if convert is None else convert(value)


def _check_text(field: str, value: object, kinds: type | tuple[type, ...]) -> None:
    if not isinstance(value, kinds):
        remedy = "os.fsdecode(…)" if isinstance(value, bytes) else "str(…)"
        msg = f"{field} is text, not {type(value).__name__} {value!r}; use {remedy}"
        raise TypeError(msg)
    if isinstance(value, str):
        try:
            # Bytes that came in as "surrogates" go out again as they were.
            value = value.encode(errors="surrogateescape")
        except UnicodeEncodeError as error:
            msg = f"{field} cannot be encoded as UTF-8: {error}"
            raise InvalidTaskError(msg) from error
    if isinstance(value, bytes) and b"\0" in value:
        msg = (
            f"{field} contains a NUL byte, at which the system would cut it off; "
            "hand such data over through stdin or a file"
        )
        raise InvalidTaskError(msg)


def _to_args(
    args: Iterable[str | bytes | PathLike[str]],
) -> tuple[str | bytes, ...]:
    _refuse_no_list(
        "args",
        args,
        "a program is a list of its name and its arguments, as in ['ls', '-l'] (or "
        "['sh', '-c', '…'] where a shell is wanted)",
    )
    plain = tuple(_plain(arg) for arg in args)
    if not plain or plain[0] in ("", b""):
        msg = "args: the first argument is the program to run; there is none"
        raise InvalidTaskError(msg)
    for i, arg in enumerate(plain):
        _check_text(f"args[{i}]", arg, (str, bytes))
    return plain  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def _check_name(field: str, name: object) -> None:
    _check_text(field, name, str)
    if name == "" or "=" in str(name):
        msg = f"{field}: {name!r} cannot name a variable: it is empty or contains '='"
        raise InvalidTaskError(msg)


def _to_env(env: Mapping[str, str]) -> dict[str, str]:
    if not _is_a(env, Mapping):
        msg = f"env: a mapping of names to values, not {type(env).__name__}"
        raise TypeError(msg)
    for name, value in env.items():
        _check_name("env", name)
        if name in (ProgramVariables.RUN, ProgramVariables.PROGRAM):
            msg = f"env: {name} is set by taskorch; choose another name"
            raise InvalidTaskError(msg)
        if not _is_a(value, str):
            # The value itself may be a secret and stays out of the message.
            msg = f"env[{name!r}] is text, not {type(value).__name__}; use str(…)"
            raise TypeError(msg)
        _check_text(f"env[{name!r}]", value, str)
    return dict(env)


def _to_inherit(names: InheritEnv) -> Literal[True] | frozenset[str]:
    if names is True:
        return True
    _refuse_no_list(
        "inherit_env",
        names,
        "True for every variable, or a set of names, as in {'NAME'} (a few harmless "
        "ones are always passed: see DEFAULT_ENV)",
    )
    wanted = DEFAULT_ENV.union(names)
    for name in wanted:
        _check_name("inherit_env", name)
    return wanted


def _to_cwd(cwd: str | PathLike[str] | None) -> str | None:
    return _to_path("cwd", cwd, "an empty path names no folder; use None for our own")


def _to_log(log: str | PathLike[str] | None) -> str | None:
    return _to_path("log", log, "an empty path names no file; use None for one of ours")


def _to_pid_file(pid_file: str | PathLike[str] | None) -> str | None:
    return _to_path("pid_file", pid_file, "an empty path names no file")


def _to_pass_fds(fds: Iterable[int]) -> tuple[int, ...]:
    _refuse_no_list("pass_fds", fds, "numbers of open file descriptors, as in [fd]")
    numbers = tuple(fds)
    for number in numbers:
        if not _is_a(number, int) or number < 0:
            msg = f"pass_fds: {number!r} is no number of a file descriptor"
            raise InvalidTaskError(msg)
    return numbers


def _to_path(field: str, path: object, if_empty: str) -> str | None:
    plain = _plain(path)
    if plain is None:
        return None
    _check_text(field, plain, str)
    if plain == "":
        msg = f"{field}: {if_empty}"
        raise InvalidTaskError(msg)
    return str(plain)


def _to_stdin(stdin: str | bytes | None) -> str | bytes | None:
    if stdin is not None and not _is_a(stdin, str, bytes):
        msg = (
            "stdin: the text or the bytes that the program reads, or None, not "
            f"{type(stdin).__name__}; a file is read with Path(…).read_bytes()"
        )
        raise TypeError(msg)
    if isinstance(stdin, str):
        try:
            stdin.encode()
        except UnicodeEncodeError as error:
            msg = f"stdin cannot be encoded as UTF-8: {error}; give bytes instead"
            raise InvalidTaskError(msg) from error
    return stdin


def _to_check(check: bool) -> bool:
    if not _is_a(check, bool):
        msg = f"check: True or False, not {check!r}"
        raise TypeError(msg)
    return check


def _to_limits(limits: Mapping[str, float]) -> Resources:
    amounts = Resources.of(limits, "limits")
    for name, units in amounts.totals():
        if name not in LIMITS:
            msg = f"limits: there is none of the name {name!r}"
            raise InvalidTaskError(msg, hint=f"there are {', '.join(LIMITS)}")
        if not units:
            msg = f"limits: {name} is 0, and no program can do with nothing"
            raise InvalidTaskError(msg, hint="leave it out for no limit")
    if amounts["processes"] != int(amounts["processes"]):
        msg = f"limits: processes is a whole number, not {amounts['processes']:g}"
        raise InvalidTaskError(msg)
    return amounts or _UNLIMITED


def _to_reads(scopes: Iterable[str | PathLike[str]] | None) -> tuple[str, ...] | None:
    return _to_scopes("reads", scopes)


def _to_writes(scopes: Iterable[str | PathLike[str]] | None) -> tuple[str, ...] | None:
    return _to_scopes("writes", scopes)


def _to_scopes(
    field: str, scopes: Iterable[str | PathLike[str]] | None
) -> tuple[str, ...] | None:
    if scopes is None:
        return None
    _refuse_no_list(field, scopes, "a list of paths, as in ['src/a/**', 'notes.md']")
    plain = tuple(_plain(scope) for scope in scopes)
    for scope in plain:
        _check_text(field, scope, str)
        if scope == "":
            msg = f"{field}: an empty path names nothing; '**' is all of the folder"
            raise InvalidTaskError(msg)
        if ".." in str(scope).split("/"):
            msg = f"{field}: {scope!r} leads out of its folder by '..'"
            raise InvalidTaskError(msg, hint="give the path itself")
    return plain  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def _to_network(network: bool | None) -> bool | None:
    if network is not None and not _is_a(network, bool):
        msg = f"network: True, False or None, not {network!r}"
        raise TypeError(msg)
    return network


def _to_enforce(enforce: Enforce) -> Enforce:
    if enforce is not None and enforce != "if possible" and not _is_a(enforce, bool):
        msg = f"enforce: True, False, 'if possible' or None, not {enforce!r}"
        raise TypeError(msg)
    return enforce


def _show_env(env: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name!r}: …" for name in sorted(env)) + "}"


def _show_inherit(names: Literal[True] | frozenset[str]) -> str:
    if names is True:
        return "True"
    more = sorted(names - DEFAULT_ENV)
    return "{" + ", ".join(map(repr, more)) + "}" if more else "DEFAULT_ENV"


def _show_stdin(stdin: str | bytes) -> str:
    return f"<{len(stdin)} {'characters' if isinstance(stdin, str) else 'bytes'}>"


@frozen
class Program:
    """
    A program to run, from an argument list and without a shell.

    Its `repr` shows neither the values of variables nor what is in `stdin`, since
    either may be secret. Arguments are shown: every user of the machine can see them
    in the list of processes, so a secret does not belong there.

    Attributes:
        args: The program and its arguments. A name without "/" is looked up on the PATH
            that the program itself gets; a relative path is taken from `cwd`.
        env: Variables to set, by name.
        inherit_env: Which of our variables it gets: names (those of `DEFAULT_ENV` are
            always among them), or True for all.
        cwd: The folder in which it runs; None is ours.
        stdin: What it can read (text as UTF-8); None is nothing at all.
        check: Whether an exit code other than 0 is a failure.
        log: The file for what it writes, which is made anew for each attempt; None is
            one of its own in the folder of the logs.
        pid_file: The file that has its process id while it runs, for programs that
            watch it; None is none. Both are taken from our folder, if they are
            relative.
        pass_fds: Open file descriptors of ours that it gets, under the same numbers: a
            lock, say, that is held as long as it lives. They mean nothing in another
            life: a durable orchestrator refuses them.
        limits: The most that it, and all that it starts, may use together: `memory_mb`
            (MiB), `cpu` (cores), `processes` (with their threads), `cpu_seconds` and
            `written_mb`. They go before what its task's `resources` say.
        reads: The folders and files that it may read, beside what every program needs;
            None: all. A glob stands for the folder before its first `*`.
        writes: The folders and files that it may write, likewise, beside what its task
            says; None: all, if that says nothing.
        network: False: it can open no socket.
        enforce: Whether all of that is held. True refuses to start it where something
            cannot be; "if possible" starts it all the same, and its result says what
            was not held. None: True where it has limits, scopes or `network=False`,
            or else as the orchestrator says.

    Raises:
        TypeError: A value is of the wrong kind.
        InvalidTaskError: A value can never work, such as a NUL byte in an argument.
    """

    args: tuple[str | bytes, ...] = attrs.field(converter=_to_args)
    env: Mapping[str, str] = attrs.field(
        factory=dict[str, str],
        converter=_to_env,
        kw_only=True,
        repr=_show_env,
        hash=False,
    )
    inherit_env: Literal[True] | frozenset[str] = attrs.field(
        default=DEFAULT_ENV, converter=_to_inherit, kw_only=True, repr=_show_inherit
    )
    cwd: str | None = attrs.field(default=None, converter=_to_cwd, kw_only=True)
    stdin: str | bytes | None = attrs.field(
        default=None, converter=_to_stdin, kw_only=True, repr=_show_stdin
    )
    check: bool = attrs.field(default=True, converter=_to_check, kw_only=True)
    log: str | None = attrs.field(default=None, converter=_to_log, kw_only=True)
    pid_file: str | None = attrs.field(
        default=None, converter=_to_pid_file, kw_only=True
    )
    pass_fds: tuple[int, ...] = attrs.field(
        default=(), converter=_to_pass_fds, kw_only=True
    )
    limits: Resources = attrs.field(
        default=_UNLIMITED, converter=_to_limits, kw_only=True
    )
    reads: tuple[str, ...] | None = attrs.field(
        default=None, converter=_to_reads, kw_only=True
    )
    writes: tuple[str, ...] | None = attrs.field(
        default=None, converter=_to_writes, kw_only=True
    )
    network: bool | None = attrs.field(
        default=None, converter=_to_network, kw_only=True
    )
    enforce: Enforce = attrs.field(default=None, converter=_to_enforce, kw_only=True)

    __repr__ = shown

    def enforced(self, usual: Enforce) -> Enforce:
        """Whether what it declares is held, where that is *usual* or not."""
        if self.enforce is not None:
            return self.enforce
        scopes = self.reads is not None or self.writes is not None
        return bool(self.limits) or scopes or self.network is False or usual

    def inherits(self, name: str) -> bool:
        """Whether the program gets our variable *name*."""
        if self.inherit_env is True:
            return True
        return name in self.inherit_env or any(
            rule.endswith("*") and name.startswith(rule[:-1])
            for rule in self.inherit_env
        )


@frozen
class ProgramResult:
    """
    What a program left behind when it ended.

    Attributes:
        args: The program and its arguments.
        exit_code: What it returned; negative: the number of the signal that killed it.
        stdout_tail: The end of what it wrote, as UTF-8 text. What cannot be text, NUL
            included, is shown as U+FFFD; the log has every byte.
        stderr_tail: The end of what it wrote to standard error, as UTF-8 text.
        log_path: The file with both streams as they arrived; None if it could not be
            made.
        duration: Seconds from its start to its end, time in which it was stopped
            included.
        withheld_env: Names of our variables that it did not get, sorted.
        truncated_bytes: Bytes of output that are not in the log: over its limit, or not
            writable.
        log_error: Why the log is missing or ends early; None if all is well.
        oom_killed: Whether Linux has killed it, or a part of it, for want of memory, as
            far as the count of our cgroup proves that. False proves nothing.
        memory_mb: The most memory that it had at once, or a child that it waited for;
            where a group of the system held it, all that it had started together, less
            the cache of files. The system kept it, however short it was. None: nobody
            knows, as where there is no group and it is less than our own.
        cpu_seconds: Seconds of processors that it took; None: nobody knows.
        processes: The most processes, with their threads, that there were at once; None
            where it was held to no limits.
        written_mb: MiB that it wrote to disks; None: nobody knows.
        limits: What it was held to.
        enforced: By what it was held, such as "cgroup-v2, landlock-7"; "" by nothing.
        unenforced: What was declared and could not be held.
        exceeded: The limit for which it was ended, such as "memory_mb"; "" for none.
    """

    args: tuple[str | bytes, ...]
    exit_code: int
    stdout_tail: str
    stderr_tail: str
    log_path: Path | None
    duration: float
    withheld_env: tuple[str, ...] = ()
    truncated_bytes: int = 0
    log_error: str | None = None
    oom_killed: bool = False
    memory_mb: float | None = None
    cpu_seconds: float | None = None
    processes: int | None = None
    written_mb: float | None = None
    limits: Resources = _UNLIMITED
    enforced: str = ""
    unenforced: tuple[str, ...] = ()
    exceeded: str = ""

    __repr__ = shown
