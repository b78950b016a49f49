"""Programs as tasks, and their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.frozen import frozen, shown
from taskorch.model._resources import Resources

if TYPE_CHECKING:
    # The import is for annotations only: the model does no input or output.
    from os import PathLike
    from pathlib import Path

#: The variables of the orchestrator that every program gets. A name with `*` at its end
#: stands for every name that begins so.
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
    Names of the environment variables shared with programs.

    Attributes:
        RUN: For every program, and all that it starts: the run to which it belongs. It
            finds the programs that have outlived their orchestrator.
        PROGRAM: For every program: its id within the run.
        ALLOCATION: For an elastic task: the file with its present grant.
        CHECKPOINT: For an elastic task: the pipe to which it writes a line at each
            checkpoint.
        SPENT: For a task with a budget: the pipe to which it writes the amounts it has
            spent.
        TASK: The task of the attempt that runs the program.
        FENCE: The fence of that attempt: `epoch.number`.
        ARTIFACTS: For a remote worker: the folder of the files to send.
        PROGRESS: For a remote worker: the file in which the program reports its
            progress.
        CGROUP: For the orchestrator: the folder in which groups for limits may be made,
            or `off`.
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


#: All variables that the orchestrator sets for programs.
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

#: Names that a program gets beside `DEFAULT_ENV` (`*` at the end of a name stands for
#: any rest), or True for all variables.
InheritEnv: TypeAlias = Literal[True] | Iterable[str]


#: The names of limits that can be enforced for a program.
LIMITS: Final = ("cpu", "cpu_seconds", "memory_mb", "processes", "written_mb")
_UNLIMITED: Final = Resources()

#: Whether the declared limits of a program are enforced; None if it has limits, scopes
#: or a `network` option, or else as the orchestrator is set.
Enforce: TypeAlias = Literal["if possible"] | bool | None


def _is_a(value: object, *kinds: type) -> bool:
    # Callers may pass anything at run time, despite the annotations.
    return isinstance(value, kinds)


def _refuse_no_list(field: str, value: object, remedy: str) -> None:
    # A str is iterable too, and would silently be split into its letters.
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        msg = f"{field}: {remedy}, not {value!r}"
        raise TypeError(msg)


def _plain(value: object) -> object:
    """Return *value* as a str if it is a path; leave any other value."""
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
            # Bytes that came in as surrogates go out again unchanged.
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
            # The value may be a secret, and stays out of the message.
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

    Its `repr` shows neither the values of variables nor `stdin`, since either may be
    secret. Arguments are shown: every user of the machine can see them in the list of
    processes, so a secret does not belong there.

    Its writing, and its memory where no cgroup holds it, are looked at every 5 to 200
    ms, and at the end as the system counts them. Not seen are an orphan that clears its
    environment, what an orphan (of a double fork, or of a parent that ignores SIGCHLD)
    writes that ends between two looks, `fallocate`, and writes to a tmpfs.
    Root can leave a cgroup, unless the task has `writes`: taskorch looks for such a
    process every 0.2 s or more, and at the end, and ends it with the program, which
    fails with `exceeded` "group". A process that leaves and ends between two looks is
    not seen.

    All that is left of a program with limits ends with it. Of one with scopes alone, a
    process in a session and an environment of its own goes on, within its scopes. An
    elastic program is held to the most that it was granted.

    In a git worktree, the objects, refs and logs of the common folder are granted, its
    hooks and settings are not. A scope with `..`, and a path that leads elsewhere by a
    link, are refused. As root, a program with scopes loses the rights that reach around
    them.

    `CUDA_VISIBLE_DEVICES` names its GPUs, unless `env` sets it. If its task draws on a
    budget, it finds a pipe in `TASKORCH_SPENT` for lines of JSON. After a line that is
    no JSON of amounts, or names what the budget has not, all that it has reserved
    counts as spent, and the log shows that; so it does if a signal ended it.

    A missing scope of writing is made: a folder if it ends in `/` or a glob, else an
    empty file. A program with such scopes may also write to a temporary folder of its
    own (`TMPDIR`), and to `/dev/null` and its like, but not to `/tmp`, `/dev/shm` and
    the home. One with scopes of reading may also read its own file, the Python that
    runs taskorch, what it may write, and `/usr`, `/lib`, `/bin`, `/sbin`, `/etc`,
    `/dev`, `/proc`, `/sys`.

    Attributes:
        args: The program and its arguments. A name without "/" is looked up on the PATH
            that the program itself gets; a relative path is taken from `cwd`.
        env: Variables to set, by name.
        inherit_env: The variables of the orchestrator's environment that it gets: names
            (those of `DEFAULT_ENV` are always among them), or True for all.
        cwd: The folder in which it runs; None is that of the orchestrator.
        stdin: Its standard input (text as UTF-8); None is empty.
        check: Whether an exit code other than 0 is a failure.
        log: The file for its output, made anew for each attempt; None is a file of its
            own in the folder of the logs.
        pid_file: The file with its process id while it runs, for programs that watch
            it, or None. A relative path of both files starts in the orchestrator's
            folder.
        pass_fds: Open file descriptors of this process that it gets, under the same
            numbers, such as a lock that is held as long as it lives. They mean nothing
            after a restart, so a durable orchestrator refuses them.
        limits: The most that it may use, together with all processes that it starts:
            `memory_mb` (MiB), `cpu` (cores), `processes` (with their threads),
            `cpu_seconds` and `written_mb`. They take precedence over its task's
            `resources`.
        reads: The folders and files that it may read, beside those that every program
            needs; None allows all. A glob stands for the folder before its first `*`.
        writes: The folders and files that it may write, likewise, beside the `writes`
            of its task; None allows all, if the task has no `writes`.
        network: False if it can open no socket.
        enforce: Whether these limits are enforced. True refuses to start the program
            where one cannot be; "if possible" starts it all the same, and its result
            names the limits that were not enforced. None is True for a program with
            limits, scopes or `network=False`, or else the orchestrator's setting.

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
        """Return how its declarations are enforced, given the *usual* setting."""
        if self.enforce is not None:
            return self.enforce
        scopes = self.reads is not None or self.writes is not None
        return bool(self.limits) or scopes or self.network is False or usual

    def inherits(self, name: str) -> bool:
        """Return whether the program gets the environment variable *name*."""
        if self.inherit_env is True:
            return True
        return name in self.inherit_env or any(
            rule.endswith("*") and name.startswith(rule[:-1])
            for rule in self.inherit_env
        )


@frozen
class ProgramResult:
    """
    Result of a program that has ended.

    Attributes:
        args: The program and its arguments.
        exit_code: Its exit code; negative for the number of the signal that killed it.
        stdout_tail: The end of its output, as UTF-8 text. Bytes that are no text, and
            NUL, are shown as U+FFFD; the log has every byte.
        stderr_tail: The end of its standard error, as UTF-8 text.
        log_path: The file with both streams as they arrived; None if it could not be
            made.
        duration: Seconds from its start to its end, with time in which it was stopped.
        withheld_env: Names of the orchestrator's variables that it did not get, sorted.
        truncated_bytes: Bytes of output that are not in the log: over its limit, or not
            writable.
        log_error: Why the log is missing or incomplete; None if it is complete.
        oom_killed: True if Linux has killed it, or a part of it, for want of memory, as
            the count of the cgroup proves. False proves nothing.
        memory_mb: The peak memory in MiB of the program, or of a child that it waited
            for; with a cgroup, that of all its processes together, without the file
            cache. None if unknown, such as without a cgroup and below the
            orchestrator's own memory.
        cpu_seconds: Seconds of CPU time that it took; None if unknown.
        processes: The most processes and threads at once; None if no limits were
            enforced.
        written_mb: MiB that it wrote to disks; None if unknown.
        limits: The limits that were enforced.
        enforced: The means of enforcement, such as "cgroup-v2, landlock-7"; "" for
            none.
        unenforced: The declared limits that could not be enforced.
        exceeded: The limit that it exceeded and was ended for, such as "memory_mb"; ""
            for none.
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
