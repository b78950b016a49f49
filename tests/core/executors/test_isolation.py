"""Programs are held to the files and sockets that they declare."""

# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false
# pyright: reportOptionalMemberAccess=false, reportCallIssue=false

from __future__ import annotations

import ast
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys

import pytest
from tests.api.test_limits import python
from tests.api.tools import PATIENCE

from taskorch import Program, Task, TaskOrchestrator
from taskorch.errors import ProgramFailedError, UnenforceableError

ESCAPES = pathlib.Path(__file__).with_name("escapes.py")


@pytest.fixture(scope="module")
def orch(tmp_path_factory):
    """An orchestrator on a machine that can hold scopes."""
    if sys.platform != "linux":
        pytest.skip("Linux holds scopes")
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(
            Task.program(
                ["true"],
                reads=["/"],
                writes=["none/"],
                network=False,
                cwd=tmp_path_factory.mktemp("probe"),
                enforce="if possible",
            )
        )
        unheld = handle.result(PATIENCE).unenforced
        if unheld:
            pytest.skip(f"nothing holds {', '.join(unheld)} here")
        yield orch


def task_of(args, **options) -> Task:
    """A program that is held to what it declares, and so to what its task writes."""
    return Task.program(args, **{"enforce": "writes" in options or None, **options})


def run(orch, code: str, **options):
    return orch.submit_task(task_of(python(code), **options)).result(PATIENCE)


def refused(orch, code: str, **options) -> str:
    error = orch.submit_task(task_of(python(code), **options)).exception(PATIENCE)
    assert isinstance(error, ProgramFailedError)
    return str(error)


@pytest.fixture
def outside(on_disk):
    """A folder outside; somebody who is there, with a file open; and two sockets."""
    own, outside = on_disk / "own", on_disk / "outside"
    own.mkdir()
    (outside / "empty").mkdir(parents=True)
    secret = outside / "secret"
    secret.write_text("secret")
    (own / "link").symlink_to(secret)
    name = f"taskorch-{os.getpid()}"
    with (
        secret.open("r+b") as file,
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        listener.bind(f"\0{name}")
        listener.listen()
        datagrams.bind(f"\0{name}.datagrams")
        victim = subprocess.Popen(["sleep", "600"], cwd=outside, stdin=file)
        yield own, outside, victim, name
        assert victim.poll() is None, "somebody has ended it"
        victim.kill()
        victim.wait()


def tree(folder: pathlib.Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls")
def test_nothing_gets_out_of_what_was_promised(orch, outside):
    """Seventy ways out of scopes, also for root: none leads anywhere."""
    own, beside, victim, name = outside
    before = tree(beside)
    words = [sys.executable, "-I", "-S", ESCAPES, own, beside, victim.pid, name]
    program = Program(
        [str(word) for word in words],
        reads=[ESCAPES, own],
        writes=[f"{own}/**"],
        network=False,
    )
    task = Task("program", program)
    result = orch.submit_task(task).result(PATIENCE)
    number, *worked = result.stdout_tail.split()
    assert int(number) >= 60
    assert worked == []
    assert tree(beside) == before
    assert (own / "allowed").exists()
    assert result.enforced.startswith("landlock-")
    assert result.enforced.endswith("seccomp")
    places = [pathlib.Path(each) for each in ("/tmp", "/dev/shm", "~")]
    assert not any((p.expanduser() / "taskorch-escape").exists() for p in places)


def test_without_scopes_the_same_ways_are_open(orch, outside):
    """So the attempts are real ones."""
    own, beside, victim, name = outside
    open_to_all = [
        *("write_new", "write_old", "write_by_dots", "write_through_a_linked_folder"),
        *("write_through_a_link_that_is_there", "write_through_a_link_of_its_own"),
        *("write_through_a_hard_link", "move_out", "link_out", "make_folder"),
        *("remove_folder", "make_pipe", "make_link", "bind_socket", "unnamed_file"),
        *("by_the_root_in_proc", "by_its_folder_in_proc", "by_the_folder_of_another"),
        *("by_a_file_of_another", "by_a_folder_that_is_open", "by_opening_again"),
        *("in_another_session", "by_another_program", "reach_an_abstract_socket"),
        *("send_to_an_abstract_socket", "read", "read_through_a_link", "read_by_proc"),
        *("read_names", "read_variables_of_another", "local", "truncate", "unlink"),
    ]
    words = [sys.executable, "-I", "-S", ESCAPES, own, beside, victim.pid, name]
    args = [*map(str, words), *open_to_all]
    result = orch.submit_task(Task.program(args)).result(PATIENCE)
    assert result.stdout_tail.split()[1:] == open_to_all


def test_a_scope_is_the_folder_before_its_first_star(orch, tmp_path):
    """A missing one is made; a plain path that is missing is an empty file."""
    code = """
        import os
        assert os.path.isfile(".notes")
        open(".notes", "w").write("x")
        open("build/deep.txt", "w").write("x")
        os.makedirs("out/a/b")
        open("out/a/b/c", "w").write("x")
        """
    scopes = ["build/*.txt", "out/", ".notes"]
    assert run(orch, code, writes=scopes, cwd=tmp_path).exit_code == 0
    text = refused(orch, "open('other', 'w')", writes=scopes, cwd=tmp_path)
    assert "Permission denied: 'other'" in text


def test_all_may_be_read_where_only_writing_is_held(orch, on_disk):
    (on_disk / "text").write_text("text")
    code = f"print(open({str(on_disk / 'text')!r}).read())"
    assert run(orch, code, writes=[]).stdout_tail == "text\n"
    text = refused(orch, code, reads=[])
    assert "Permission denied" in text


def test_files_move_where_only_reading_is_held(orch, tmp_path):
    """From one folder into another, as tools do it."""
    code = """
        import os
        os.makedirs("a"); os.makedirs("b")
        open("a/x", "w").close()
        os.rename("a/x", "b/x")
        """
    assert run(orch, code, reads=[tmp_path], cwd=tmp_path).exit_code == 0


def test_a_program_has_a_temporary_folder_of_its_own(orch, tmp_path):
    """It is gone at the end."""
    code = "import tempfile; print(tempfile.mkstemp()[1])"
    path = pathlib.Path(run(orch, code, writes=[], cwd=tmp_path).stdout_tail.strip())
    assert not path.parent.exists()


def test_a_scope_behind_a_link_is_refused(orch, tmp_path):
    """Somebody may have put it there who may not write where it leads."""
    (tmp_path / "own").symlink_to("/etc")
    program = Program(["true"], writes=["own/**"], cwd=tmp_path)
    handle = orch.submit_task(Task("program", program))
    error = handle.exception(PATIENCE)
    assert isinstance(error, UnenforceableError)
    assert "leads to /etc by a link" in str(error)
    handle = orch.submit_task(Task.program(["true"], reads=["none"], cwd=tmp_path))
    assert "is missing" in str(handle.exception(PATIENCE))


def test_no_network_is_no_sockets_but_pairs(orch):
    code = "import socket; socket.socketpair(); socket.socket()"
    assert "Permission denied" in refused(orch, code, network=False)
    assert run(orch, "import socket; socket.socket()", network=True).exit_code == 0


def test_limits_and_scopes_together(orch, tmp_path):
    """One launcher after the other; the group of limits is joined first."""
    limits = {"cpu_seconds": 30, "memory_mb": 200}
    code = "import os; open('x', 'w'); print(sorted(os.environ))"
    options = {"cwd": tmp_path, "env": {"A": "1"}}
    held = run(orch, code, writes=["**"], limits=limits, **options)
    free = run(orch, code, **options)
    names = ast.literal_eval(held.stdout_tail)
    assert {*names} == {*ast.literal_eval(free.stdout_tail), "TMPDIR"}
    assert "landlock-" in held.enforced
    assert dict(held.limits) == limits
    assert (tmp_path / "x").exists()


def test_a_program_that_is_not_there(orch, tmp_path):
    error = orch.submit_task(
        task_of(["no-such-program"], writes=["**"], cwd=tmp_path)
    ).exception(PATIENCE)
    assert error.result is None
    assert "not on the PATH" in str(error)


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_work_in_a_worktree_can_be_committed(orch, tmp_path):
    """Its history lies elsewhere, and is granted; hooks and settings there are not."""
    main, tree_ = tmp_path / "main", tmp_path / "tree"

    def git(*words, cwd=main):
        subprocess.run(["git", *words], cwd=cwd, check=True, capture_output=True)

    main.mkdir()
    git("init", "-q")
    who = ["-c", "user.name=n", "-c", "user.email=e@example"]
    git(*who, "commit", "-q", "--allow-empty", "-m", "first")
    git("worktree", "add", "-q", "-b", "side", str(tree_))
    program = f"""
        set -e
        echo text > file
        git add file
        git {" ".join(who)} commit -q -m second
        if echo x >> "{main}/.git/config"; then exit 3; fi
        if echo x > "{main}/.git/hooks/pre-commit"; then exit 4; fi
        if echo x > "{main}/other"; then exit 5; fi
        """
    task = task_of(["sh", "-c", program], writes=["**"], cwd=tree_)
    result = orch.submit_task(task).result(PATIENCE)
    assert result.exit_code == 0
    words = ["git", "log", "--format=%s", "side"]
    log = subprocess.check_output(words, cwd=main, text=True)
    assert log.split() == ["second", "first"]


def test_a_worktree_that_nobody_knows_of_grants_nothing(orch, tmp_path):
    """A program may have written the link, for the next one to be let out."""
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    for name in ("worktrees/x", "objects", "refs", "logs"):
        (other / name).mkdir(parents=True)
    (other / "worktrees/x/gitdir").write_text("/somewhere/else/.git\n")
    (own / ".git").write_text(f"gitdir: {other}/worktrees/x\n")
    code = f"open({str(other / 'objects/x')!r}, 'w')"
    assert "Permission denied" in refused(orch, code, writes=["**"], cwd=own)


@pytest.mark.parametrize("lacks", ["landlock", "seccomp"])
def test_a_scope_that_nothing_holds_here_keeps_the_program_from_starting(
    tmp_path, monkeypatch, lacks
):
    """Unless it says that it does without: then its result names what is not held."""
    confine = "taskorch.core.executors._programs._confine"
    if lacks == "landlock":
        monkeypatch.setattr(f"{confine}.version", lambda: 0)
        scopes, unheld = {"writes": ["**"]}, ("writes",)
    else:
        monkeypatch.setattr(f"{confine}.can_filter", lambda: False)
        scopes, unheld = {"network": False}, ("network",)
    with TaskOrchestrator() as orch:
        program = Program(["touch", "made"], cwd=tmp_path, enforce=True, **scopes)
        error = orch.submit_task(Task("program", program)).exception(PATIENCE)
        assert isinstance(error, UnenforceableError)
        assert f"{unheld[0]} cannot be held" in str(error)
        assert not (tmp_path / "made").exists()
        program = Program(
            ["touch", "made"], cwd=tmp_path, enforce="if possible", **scopes
        )
        result = orch.submit_task(Task("program", program)).result(PATIENCE)
        assert result.unenforced == unheld
        assert (tmp_path / "made").exists()
