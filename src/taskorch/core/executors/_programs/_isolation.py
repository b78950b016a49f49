"""
Scopes of a program as the paths that it is granted, and the means to hold them.

A scope is held as the folder before its first `*`. A missing path is made: a folder, if
it ends in `/` or in a glob, or else an empty file. Beside its scopes a program may
always write its own temporary folder and devices such as `/dev/null`, and read the
files that programs and Python consist of.

Decision: scopes-and-sandboxes.
"""

from __future__ import annotations

import marshal
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from taskorch.core.executors._programs import _confine
from taskorch.core.executors._programs._governor import UnheldError
from taskorch.model import Program, ProgramVariables

#: Paths that every program may read, where reading is held.
READABLE: Final = (
    *("/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/sbin"),
    # This file may be a link to another folder.
    *("/etc/resolv.conf", "/sys", "/usr"),
)
#: Paths that every program may write.
WRITABLE: Final = (
    *("/dev/full", "/dev/null", "/dev/ptmx", "/dev/pts", "/dev/random", "/dev/tty"),
    *("/dev/urandom", "/dev/zero"),
)
#: Variables that name files of ours for programs: to read, and to write.
_OURS_TO_READ: Final = (ProgramVariables.ALLOCATION,)
_OURS_TO_WRITE: Final = (
    *(ProgramVariables.CHECKPOINT, ProgramVariables.SPENT),
    *(ProgramVariables.ARTIFACTS, ProgramVariables.PROGRESS),
)
_GLOB: Final = re.compile(r"[*?\[\]{}]")
#: Folders of the common repository that a commit in a worktree writes; hooks and
#: settings, which run later, are not among them.
_OF_COMMITS: Final = ("objects", "refs", "logs")


@attrs.frozen
class Confinement:
    """
    The means that confine a program.

    Attributes:
        prefix: The words before its own.
        enforced: The means, in words.
        unenforced: The scopes that are not held.
    """

    prefix: tuple[str, ...] = ()
    enforced: tuple[str, ...] = ()
    unenforced: tuple[str, ...] = ()


def ways() -> dict[str, str]:
    """Return the means to hold `reads`, `writes` and `network` here, by name."""
    by_name: dict[str, str] = {}
    landlock = _confine.version()
    if landlock >= _confine.LEAST_VERSION:
        by_name |= dict.fromkeys(("reads", "writes"), f"landlock-{landlock}")
    if _confine.can_filter():
        by_name["network"] = "seccomp"
    return by_name


def confine(
    program: Program,
    env: Mapping[str, str],
    *,
    temporary: Path | None,
    partly: bool,
) -> Confinement:
    """
    Return the means that confine *program* to its scopes.

    Args:
        program: The program, whose `cwd` exists.
        env: Its variables.
        temporary: Its own temporary folder.
        partly: Whether scopes that cannot be held are left out.

    Raises:
        UnheldError: A scope cannot be held, and may not be left out.
        OSError: A missing path cannot be made.
    """
    declared = [
        name
        for name, is_there in (
            ("reads", program.reads is not None),
            ("writes", program.writes is not None),
            ("network", program.network is False),
        )
        if is_there
    ]
    possible = ways()
    unheld = tuple(name for name in declared if name not in possible)
    if unheld and not partly:
        raise UnheldError(_missing(unheld))
    held = [name for name in declared if name in possible]
    if not held:
        return Confinement(unenforced=unheld)
    handled = 0
    rules: dict[str, int] = {}
    if "writes" in held or "reads" in held:
        handled = _confine.REFER
        handled |= _confine.WRITING if "writes" in held else 0
        handled |= _confine.READING if "reads" in held else 0
        for path, rights in _rules(program, env, temporary, held):
            rules[path] = rules.get(path, 0) | rights
    spec = {
        "handled": handled,
        "rules": sorted(rules.items()),
        "no_sockets": "network" in held,
        # Python may set it for itself.
        "unset": [each for each in ("LC_CTYPE",) if each not in env],
    }
    launcher = str(Path(_confine.__file__).resolve())
    prefix = (sys.executable, "-I", "-S", launcher, marshal.dumps(spec).hex())
    enforced = tuple(dict.fromkeys(possible[name] for name in held))
    return Confinement(prefix, enforced, unheld)


def _rules(
    program: Program, env: Mapping[str, str], temporary: Path | None, held: list[str]
) -> Iterator[tuple[str, int]]:
    top = os.path.realpath(program.cwd or ".")
    everything = _confine.READING | _confine.WRITING
    for scope in program.writes or ():
        yield _granted("writes", scope, top, is_made=True), everything
    for scope in program.reads or ():
        yield _granted("reads", scope, top, is_made=False), _confine.READING
    if "writes" in held:
        usual = (*WRITABLE, *(env.get(name, "") for name in _OURS_TO_WRITE))
        usual = (*usual, str(temporary or ""), *_of_worktree(Path(top)))
    else:
        # Writing is free, but moving files into readable folders is not.
        usual = ("/",)
        everything = _confine.REFER
    for path in _existing(usual):
        yield path, everything
    if "reads" in held:
        python = (sys.prefix, sys.base_prefix, sys.exec_prefix)
        ours = (env.get(name, "") for name in _OURS_TO_READ)
        for path in _existing((*READABLE, *python, *ours, *_executables(program, env))):
            yield path, _confine.READING


def _existing(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if path and os.path.exists(path):  # noqa: PTH110 - plain texts
            yield os.path.realpath(path)


def _executables(program: Program, env: Mapping[str, str]) -> Iterator[str]:
    """Yield the file of the program, wherever it is."""
    name = os.fsdecode(program.args[0])
    if "/" in name:
        yield str(Path(program.cwd or ".", name))
        return
    for folder in env.get("PATH", os.defpath).split(":"):
        if os.access(f"{folder}/{name}", os.X_OK):
            yield f"{folder}/{name}"
            return


def _granted(field: str, scope: str, top: str, *, is_made: bool) -> str:
    """
    Return the path that is granted for *scope*.

    Raises:
        UnheldError: It leads elsewhere, by a link, or is missing.
        OSError: It is missing and cannot be made.
    """
    glob = _GLOB.search(scope)
    literal, is_folder = scope, scope.endswith("/")
    if glob is not None:
        literal, is_folder = scope[: glob.start()].rpartition("/")[0], True
        literal = literal or ("/" if scope.startswith("/") else "")
    path = os.path.normpath(os.path.join(top, literal))  # noqa: PTH118
    at = os.path.realpath(path)
    if at != path:
        msg = f"{field}: {scope!r} leads to {at} by a link; give that path itself"
        raise UnheldError(msg)
    if not os.path.lexists(path):
        if not is_made:
            msg = f"{field}: {scope!r} is missing, and cannot be granted; make it first"
            raise UnheldError(msg)
        if is_folder:
            os.makedirs(path, exist_ok=True)  # noqa: PTH103
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
    return path


def _of_worktree(folder: Path) -> Iterator[str]:
    """Yield paths beside the worktree of *folder*, if any, that a commit writes."""
    for each in (folder, *folder.parents):
        link = each / ".git"
        if not link.exists():
            continue
        try:
            # A folder belongs to the repository itself, and needs none of this.
            own = Path(each, link.read_text().removeprefix("gitdir:").strip()).resolve()
            # A program may have written the link, so the repository must know the
            # worktree.
            back = Path(own, (own / "gitdir").read_text().strip()).resolve()
        except (OSError, UnicodeDecodeError):
            return
        if own.parent.name == "worktrees" and back == link.resolve():
            yield str(own)
            for name in _OF_COMMITS:
                yield str(own.parent.parent / name)
        return


def _missing(unheld: Iterable[str]) -> str:
    if sys.platform != "linux":
        return f"{', '.join(unheld)} cannot be held on {sys.platform}: Linux can"
    needs = {
        "network": "seccomp, on x86_64 or aarch64",
        "reads": "Landlock of Linux 6.2 or later",
        "writes": "Landlock of Linux 6.2 or later",
    }
    names = "; ".join(dict.fromkeys(needs[name] for name in unheld))
    return f"{', '.join(unheld)} cannot be held: that needs {names}, and it is not here"
