"""Write scopes from the outside: declared, refused, kept through a kill."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Started, eventually

import taskorch
from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.errors import DuplicateTaskError, ValidationFailedError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "link").symlink_to("src")
    monkeypatch.chdir(folder)
    return folder


class Watch:
    """Who writes at the moment; two must not be seen together."""

    def __init__(self):
        self.go, self.inside, self.most = threading.Event(), [], 0

    def write(self, name):
        self.inside.append(name)
        self.most = max(self.most, len(self.inside))
        assert self.go.wait(PATIENCE)
        self.inside.remove(name)


def test_they_take_turns_and_others_go_on():
    watch = Watch()
    with TaskOrchestrator(concurrency=8) as orch:
        first = Task.call(watch.write, "a", id="a", writes=["src/**"])
        handles = [orch.submit_task(first)]
        eventually(lambda: watch.inside == ["a"])
        for name in "bc":
            task = Task.call(watch.write, name, id=name, writes=["src/x.py"])
            handles.append(orch.submit_task(task))
        other = orch.submit_task(Task.call(len, "x", writes=["docs/**"]))
        assert other.result(PATIENCE) == 1
        (blocker,) = orch.explain("b").blockers
        assert (blocker.kind, blocker.holders) == ("scope", ("a",))
        assert watch.inside == ["a"]
        watch.go.set()
        for handle in handles:
            handle.result(PATIENCE)
    assert watch.most == 1


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("../x", "'..'"),
        ("src/../../x", "'..'"),
        ("/etc/passwd", "below the folder"),
        ("~/x", "below the folder"),
        ("C:/x", "below the folder"),
        ("!src/**", "below the folder"),
        ("src\\x", "backslash"),
        ("", "no path"),
        ("./", "no path"),
        ("src ", "space"),
        ("x" * 501, "500"),
        ("link/x.py", "is a link to src"),
        (3, "int"),
    ],
)
def test_bad_paths_are_refused(path, word):
    with TaskOrchestrator() as orch, pytest.raises(ValidationFailedError) as refused:
        orch.submit_task(Task.call(len, "x", writes=[path]))
    assert word in str(refused.value)
    assert refused.value.findings[0][0] == "writes[0]"


def test_a_text_is_no_list():
    with TaskOrchestrator() as orch, pytest.raises(ValidationFailedError):
        orch.submit_task(Task.call(len, "x", writes="src/**"))


def test_a_program_writes_below_its_folder(project):
    def program(task_id, cwd, *paths):
        command = [sys.executable, "-c", "input()"]
        return Task.program(command, cwd=cwd, writes=paths, id=task_id, stdin=None)

    watch = Watch()
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(watch.write, "a", id="a", writes=["src/build/**"]))
        eventually(lambda: watch.inside == ["a"])
        orch.submit_task(program("b", "src", "build/x"))
        assert orch.explain("b").blockers[0].kind == "scope"
        # A worktree elsewhere stands for the project.
        elsewhere = project.parent / "tree"
        elsewhere.mkdir()
        orch.submit_task(program("c", str(elsewhere), "src/build"))
        assert orch.explain("c").blockers[0].kind == "scope"
        for name in "bc":
            orch.cancel_task(name)
        watch.go.set()


def test_what_a_task_may_write_is_part_of_it():
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(len, "x", id="a", writes=["src"])).result(PATIENCE)
        with pytest.raises(DuplicateTaskError, match="writes"):
            orch.submit_task(Task.call(len, "x", id="a", writes=["docs"]))
        orch.submit_task(Task.call(len, "x", id="a", writes=["src"]))


def test_functions_and_documents_say_it():
    @taskorch.task(writes=["docs/**"])
    def edit():
        return "done"

    functions = {"edit": edit, "len": len}
    task = {"call": "len", "args": ["x"], "writes": ["src/**"]}
    document = {"workflow": "w", "tasks": {"a": task, "b": {"call": "edit"}}}
    read = Workflow.from_dict(document, functions=functions)
    assert tuple(read["a"].task.writes) == ("src/**",)
    assert tuple(read["b"].task.writes) == ("docs/**",)
    tasks = read.to_dict(functions=functions)["tasks"]
    assert tasks["a"]["writes"] == ["src/**"]


KILLED = """
import sys, time
from taskorch import Task, TaskOrchestrator

def write(name):
    print(name, flush=True)
    time.sleep(float(sys.argv[1]))

with TaskOrchestrator(journal="runs.db", concurrency=4) as orch:
    for name, path in (("a", "src/**"), ("b", "src/b"), ("c", "src/c")):
        orch.submit_task(Task.call(write, name, id=name, writes=[path]))
    orch.wait()
"""


def test_a_kill_changes_nothing(project):
    """The next incarnation begins with what the journal says, and keeps them apart."""
    Path("flow.py").write_text(KILLED)
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}

    def start(seconds):
        command = [sys.executable, "flow.py", seconds]
        return Started(command, stdout=subprocess.PIPE, text=True, env=env)

    with start("60") as first:
        assert first.stdout.readline() == "a\n"
        first.send_signal(signal.SIGKILL)
    with start("0") as second:
        # The other two run at once.
        first_name, *names = second.stdout.read().replace("\n", "")
    assert (first_name, sorted(names)) == ("a", ["b", "c"])
    assert second.returncode == 0
