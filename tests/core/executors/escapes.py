"""
A program that tries to get out of its scopes; it prints the names of what worked.

Its arguments: its own folder, one outside, the process id of somebody outside who is
in that folder, and the name of an abstract socket that somebody listens on; and names of
attempts, or none for all. Outside are the file `secret` and the folder `empty`.
"""

# ruff: noqa: PTH102, PTH104, PTH105, PTH106, PTH108, PTH111, PTH119, PTH123, PTH208
# ruff: noqa: PTH211, SIM115
# As such programs are written.

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile

OWN, OUTSIDE, VICTIM, ABSTRACT, *NAMES = sys.argv[1:]
PID = int(VICTIM)
SECRET = f"{OUTSIDE}/secret"
LIBC = ctypes.CDLL(None, use_errno=True)
ATTEMPTS = {}


def attempt(function):
    ATTEMPTS[function.__name__] = function
    return function


def call(*args):
    """A system call; fails as all else does."""
    result = LIBC.syscall(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def append(path):
    with open(path, "a") as file:
        file.write("x")


def in_child(function):
    """Whether *function* does not fail in a process of its own."""
    child = os.fork()
    if not child:
        try:
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise OSError("it failed there")


def shell(text):
    subprocess.run(["sh", "-c", text], check=True, stderr=subprocess.DEVNULL)


# -- writing ----------------------------------------------------------------------


@attempt
def write_new():
    append(f"{OUTSIDE}/new")


@attempt
def write_old():
    append(SECRET)


@attempt
def write_by_dots():
    append(f"{OWN}/../{os.path.basename(OUTSIDE)}/secret")


@attempt
def write_through_a_link_that_is_there():
    append(f"{OWN}/link")


@attempt
def write_through_a_link_of_its_own():
    os.symlink(SECRET, f"{OWN}/mine")
    append(f"{OWN}/mine")


@attempt
def write_through_a_linked_folder():
    os.symlink(OUTSIDE, f"{OWN}/folder")
    append(f"{OWN}/folder/new")


@attempt
def write_through_a_hard_link():
    os.link(SECRET, f"{OWN}/hard")
    append(f"{OWN}/hard")


@attempt
def truncate():
    os.truncate(SECRET, 0)


@attempt
def move_in():
    os.rename(SECRET, f"{OWN}/moved")


@attempt
def move_out():
    append(f"{OWN}/from")
    os.rename(f"{OWN}/from", f"{OUTSIDE}/to")


@attempt
def move_over():
    append(f"{OWN}/over")
    os.replace(f"{OWN}/over", SECRET)


@attempt
def exchange():
    append(f"{OWN}/one")
    call(316, -100, f"{OWN}/one".encode(), -100, SECRET.encode(), 2)


@attempt
def link_out():
    append(f"{OWN}/linked")
    os.link(f"{OWN}/linked", f"{OUTSIDE}/linked")


@attempt
def unlink():
    os.unlink(SECRET)


@attempt
def make_folder():
    os.mkdir(f"{OUTSIDE}/folder")


@attempt
def remove_folder():
    os.rmdir(f"{OUTSIDE}/empty")


@attempt
def make_pipe():
    os.mkfifo(f"{OUTSIDE}/pipe")


@attempt
def make_device():
    os.mknod(f"{OUTSIDE}/null", 0o20666, os.makedev(1, 3))


@attempt
def make_link():
    os.symlink("anything", f"{OUTSIDE}/soft")


@attempt
def bind_socket():
    with socket.socketpair()[0], socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{OUTSIDE}/socket")


@attempt
def unnamed_file():
    file = os.open(OUTSIDE, os.O_TMPFILE | os.O_WRONLY)
    source, name = f"/proc/self/fd/{file}".encode(), f"{OUTSIDE}/named".encode()
    if LIBC.linkat(-100, source, -100, name, 0x400):
        raise OSError("linkat")


@attempt
def by_the_root_in_proc():
    append(f"/proc/self/root{SECRET}")


@attempt
def by_its_folder_in_proc():
    append(f"/proc/self/cwd/../{os.path.basename(OUTSIDE)}/secret")


@attempt
def by_the_root_of_another():
    append(f"/proc/{PID}/root{SECRET}")


@attempt
def by_the_folder_of_another():
    append(f"/proc/{PID}/cwd/secret")


@attempt
def by_a_file_of_another():
    append(f"/proc/{PID}/fd/0")


@attempt
def by_a_folder_that_is_open():
    folder = os.open(OUTSIDE, os.O_PATH | os.O_DIRECTORY)
    os.close(os.open("secret", os.O_WRONLY | os.O_APPEND, dir_fd=folder))


@attempt
def by_opening_again():
    file = os.open(SECRET, os.O_PATH)
    append(f"/proc/self/fd/{file}")


@attempt
def by_shared_memory():
    file = os.open(SECRET, os.O_RDONLY)
    mmap.mmap(file, 1, mmap.MAP_SHARED, mmap.PROT_WRITE)[0] = 1


@attempt
def by_a_handle():
    handle = ctypes.create_string_buffer(b"\x80\0\0\0" + bytes(4 + 128))
    mount = ctypes.c_int()
    call(303, -100, SECRET.encode(), handle, ctypes.byref(mount), 0)
    root = os.open("/", os.O_RDONLY)
    call(304, root, handle, os.O_WRONLY)


@attempt
def in_another_session():
    def child():
        os.setsid()
        in_child(lambda: append(SECRET))

    in_child(child)


@attempt
def by_another_program():
    shell(f"echo x >> '{SECRET}'")


@attempt
def in_another_root():
    def child():
        os.chroot(OWN)
        append(f"../{os.path.basename(OUTSIDE)}/secret")

    in_child(child)


@attempt
def by_a_mount():
    def child():
        os.mkdir(f"{OWN}/at")
        arguments = OUTSIDE.encode(), f"{OWN}/at".encode(), b"none", 4096, None
        if LIBC.mount(*arguments):
            raise OSError("mount")
        append(f"{OWN}/at/secret")

    in_child(child)


@attempt
def in_namespaces_of_its_own():
    def child():
        call(272, 0x10020000)
        if LIBC.mount(b"none", OUTSIDE.encode(), b"tmpfs", 0, None):
            raise OSError("mount")

    in_child(child)


@attempt
def by_weaker_rules():
    def child():
        rules = call(444, (ctypes.c_uint64 * 1)(1 << 1), 8, 0)
        path = os.open("/", os.O_PATH)
        rule = (1 << 1).to_bytes(8, "little") + path.to_bytes(4, "little")
        call(445, rules, 1, rule, 0)
        call(446, rules, 0)
        append(SECRET)

    in_child(child)


@attempt
def in_the_memory_of_all():
    append("/dev/shm/taskorch-escape")


@attempt
def in_the_folder_of_all():
    append("/tmp/taskorch-escape")


@attempt
def in_the_home():
    append(f"{os.path.expanduser('~')}/taskorch-escape")


@attempt
def into_a_group():
    open("/sys/fs/cgroup/memory/cgroup.procs", "w").close()


@attempt
def into_the_system():
    open("/proc/sys/kernel/core_pattern", "r+").close()


@attempt
def into_all_memory():
    open("/dev/mem", "r+b").close()


@attempt
def into_the_disk():
    open("/dev/vda", "r+b").close()


# -- other processes ----------------------------------------------------------------


@attempt
def memory_of_another():
    open(f"/proc/{PID}/mem", "r+b").close()


@attempt
def trace_another():
    call(101, 16, PID, 0, 0)


@attempt
def seize_another():
    call(101, 0x4206, PID, 0, 0)


@attempt
def write_memory_of_another():
    data = ctypes.create_string_buffer(8)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(data), 8)
    call(311, PID, vector, 1, vector, 1, 0)


@attempt
def take_a_file_of_another():
    call(438, os.pidfd_open(PID), 3, 0)


@attempt
def signal_another():
    os.kill(PID, signal.SIGTERM)


@attempt
def signal_another_by_descriptor():
    signal.pidfd_send_signal(os.pidfd_open(PID), signal.SIGTERM)


@attempt
def queue_a_signal():
    LIBC.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    if LIBC.sigqueue(PID, signal.SIGTERM, None):
        raise OSError("sigqueue")


@attempt
def reach_an_abstract_socket():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"\0{ABSTRACT}")


@attempt
def send_to_an_abstract_socket():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", f"\0{ABSTRACT}.datagrams")


# -- reading ------------------------------------------------------------------------


@attempt
def read():
    open(SECRET).read()


@attempt
def read_through_a_link():
    open(f"{OWN}/link").read()


@attempt
def read_by_dots():
    open(f"{OWN}/../{os.path.basename(OUTSIDE)}/secret").read()


@attempt
def read_by_proc():
    open(f"/proc/self/root{SECRET}").read()


@attempt
def read_by_another():
    open(f"/proc/{PID}/cwd/secret").read()


@attempt
def read_by_another_program():
    shell(f"cat '{SECRET}'")


@attempt
def read_names():
    os.listdir(OUTSIDE)


@attempt
def read_variables_of_another():
    open(f"/proc/{PID}/environ").read()


# -- sockets ------------------------------------------------------------------------


@attempt
def internet():
    socket.socket(socket.AF_INET).close()


@attempt
def internet_6():
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()


@attempt
def packets():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


@attempt
def the_system():
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


@attempt
def local():
    socket.socket(socket.AF_UNIX).close()


@attempt
def by_a_ring():
    call(425, 4, ctypes.create_string_buffer(120))


@attempt
def by_another_number():
    call(0x40000000 | 41, 2, 1, 0)


def main():
    os.chdir(OWN)
    worked = []
    for name in NAMES or ATTEMPTS:
        try:
            ATTEMPTS[name]()
        except Exception:
            continue
        worked.append(name)
    # What it is promised, works.
    append(f"{OWN}/allowed")
    append(f"{tempfile.gettempdir()}/allowed")
    with open("/dev/null", "w") as file:
        file.write("x")
    shell("true")
    for end in socket.socketpair():
        end.close()
    print(len(ATTEMPTS), *worked)


main()
