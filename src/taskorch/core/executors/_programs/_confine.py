"""
The launcher of a confined program: it gives up rights, and becomes the program.

It runs as a script and imports nothing of taskorch. Its first argument says what the
program may do, the others are the program. Landlock of Linux takes away all access to
files but to those that are listed, and seccomp all sockets; neither needs rights, and
both also hold for whatever the program starts. If a step fails, it ends with `UNABLE`,
before the program begins.

Decision: scopes-and-sandboxes.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import struct
import sys

#: Its exit code if a step failed, as in `env` and `timeout`.
UNABLE = 126
_NOT_FOUND = 127

# Numbers of system calls: those of Landlock are the same on all machines.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2

# Rights, in the numbers of Landlock.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REFER, TRUNCATE = 1 << 13, 1 << 14
#: The rights to make, to remove, to write and to move.
WRITING = (WRITE_FILE | TRUNCATE | REFER) | sum(1 << bit for bit in range(4, 13))
READING = EXECUTE | READ_FILE | READ_DIR
#: The rights that apply to files.
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
#: Takes away signals to processes outside, and their abstract sockets.
SCOPES = 3
#: The first versions of Landlock that can confine writing, and `SCOPES`.
LEAST_VERSION, SCOPED_VERSION = 3, 6

# By machine: its name in seccomp, and the numbers of `socket` and `io_uring_setup`.
_MACHINES = {
    "x86_64": (0xC000003E, 41, 425),
    "aarch64": (0xC00000B7, 198, 425),
}
_X32 = 0x4000_0000
_ALLOW, _KILL, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_EACCES, _ENOSYS = 13, 38

#: Capabilities of root that reach around all limits, as bits: to read and to trace
#: others, to open files by number, devices, modules, ports and the machine.
_AROUND = sum(1 << bit for bit in (2, 16, 17, 19, 21, 22, 27, 38, 39, 40))
_CAPABILITIES_3 = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Return the version of Landlock that the system has; 0 for none."""
    if sys.platform != "linux":
        return 0
    number: int = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION)
    return max(0, number)


def can_filter() -> bool:
    """Return whether sockets can be taken away on this machine."""
    if sys.platform != "linux" or os.uname().machine not in _MACHINES:
        return False
    # The file lists the known filters, if there are any.
    return os.path.exists("/proc/sys/kernel/seccomp/actions_avail")  # noqa: PTH110


def _checked(result: int, doing: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}, {doing}")
    return result


def drop_rights() -> None:
    """
    Drop the capabilities of root that reach around the limits.

    Raises:
        OSError: The system refuses.
    """
    header = struct.pack("=Ii", _CAPABILITIES_3, 0)
    data = ctypes.create_string_buffer(24)
    _checked(_libc.capget(header, data), "asking for rights")
    fields = list(struct.unpack("=6I", data.raw))
    kept = [field & ~(_AROUND >> 32 * (at >= 3)) for at, field in enumerate(fields)]  # noqa: PLR2004 - two halves
    if kept != fields:
        data.raw = struct.pack("=6I", *(field & 0xFFFF_FFFF for field in kept))
        _checked(_libc.capset(header, data), "giving up rights")


def hold_files(handled: int, rules: list[tuple[str, int]]) -> None:
    """
    Take away the rights *handled*, except those that *rules* grant, by path.

    Raises:
        OSError: The system refuses, or a path leads elsewhere than it says.
    """
    scopes = SCOPES if version() >= SCOPED_VERSION else 0
    attributes = struct.pack("=QQQ", handled, 0, scopes)
    size = len(attributes) if scopes else 8
    ruleset = _checked(
        _libc.syscall(_CREATE_RULESET, attributes, size, 0), "making rules"
    )
    for path, rights in rules:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        # Since the check, somebody may have put a link in its way.
        at = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - starts fast
        if at != path:
            raise OSError(_EACCES, f"it leads to {at}", path)
        is_folder = os.path.isdir(f"/proc/self/fd/{fd}")  # noqa: PTH112
        granted = handled & rights & (-1 if is_folder else _OF_FILES)
        rule = struct.pack("=Qi", granted, fd)
        if granted:
            call = _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
            _checked(call, f"granting {path}")
        os.close(fd)
    _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "applying rules")
    os.close(ruleset)


def hold_sockets() -> None:
    """
    Take away all sockets but pairs.

    Raises:
        OSError: The system refuses.
    """
    machine, sockets, ring = _MACHINES[os.uname().machine]
    refused, missing = _ERRNO | _EACCES, _ERRNO | _ENOSYS
    # Each line: the operation, the lines to skip if it holds and if not, and its
    # operand.
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        # The same calls have other numbers here.
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, missing),
        (_EQUAL, 0, 1, sockets),
        (_RETURN, 0, 0, refused),
        # Through a ring, sockets are made without the call.
        (_EQUAL, 0, 1, ring),
        (_RETURN, 0, 0, missing),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    _checked(_libc.prctl(_SET_SECCOMP, _FILTER, header, 0, 0), "filtering sockets")


def main(spec: str, args: list[str]) -> int:
    """Give up what *spec* does not grant, and become the program *args*."""
    confined = marshal.loads(bytes.fromhex(spec))  # noqa: S302 - of the same Python
    try:
        _checked(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "giving up rights")
        drop_rights()
        if confined["handled"]:
            hold_files(confined["handled"], confined["rules"])
        if confined["no_sockets"]:
            hold_sockets()
    except OSError as error:
        sys.stderr.write(f"the program cannot be confined: {error}\n")
        return UNABLE
    environment = os.environb.copy()
    for name in confined["unset"]:
        environment.pop(name.encode(), None)
    try:
        os.execvpe(args[0], args, environment)  # noqa: S606 - it was checked
    except OSError as error:
        sys.stderr.write(f"{args[0]}: {error.strerror}\n")
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else UNABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
