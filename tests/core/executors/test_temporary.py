"""Temporary folders go with the process that made them, however it ends."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.api.tools import Started

from taskorch import Task, TaskOrchestrator
from taskorch.kit import temporary

PATIENCE = 60.0
SOURCES = pathlib.Path(temporary.__file__).parents[2]

#: Runs programs in memory, says where their logs are, and waits.
OWNER = f"""
import sys
sys.path.insert(0, {str(SOURCES)!r})
from taskorch import Task, TaskOrchestrator

for _ in range(3):
    with TaskOrchestrator() as orch:
        print(orch.submit_task(Task.program(["echo", "x"])).result(60).log_path)
print("ready", flush=True)
input()
"""


@contextlib.contextmanager
def owner(folder: pathlib.Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process with logs in *folder*, and their paths."""
    with Started(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = list(iter(lambda: process.stdout.readline().strip(), "ready"))
        try:
            yield process, lines
        finally:
            process.kill()


def inside(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow("three processes")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_process_leaves_is_removed_by_the_next(
    tmp_path: pathlib.Path, number: int
) -> None:
    """All that it had is gone when another begins; that of the living stays."""
    with owner(tmp_path) as (living, logs):
        with owner(tmp_path) as (killed, _):
            assert len(inside(tmp_path)) == 2
            killed.send_signal(number)
            killed.wait(PATIENCE)
        assert len(inside(tmp_path)) == 2
        with owner(tmp_path) as (next_one, others):
            assert len(inside(tmp_path)) == 2
            assert all(pathlib.Path(log).read_text() for log in [*logs, *others])
            next_one.communicate("exit")
        # One that exits takes its own with it.
        assert len(inside(tmp_path)) == 1
        living.communicate("exit")
    assert inside(tmp_path) == set()


def test_what_a_child_left_that_was_killed_is_removed_by_the_next(
    tmp_path: pathlib.Path,
) -> None:
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(SOURCES)!r})
from taskorch.kit.temporary import make_temporary
for _ in range(2):
    if (child := os.fork()) == 0:
        make_temporary()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
"""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=PATIENCE)
    assert len(inside(tmp_path)) == 1


def test_a_forked_child_has_its_own_and_leaves_ours(tmp_path: pathlib.Path) -> None:
    """It exits, and our logs stay."""
    with TaskOrchestrator() as orch:
        program = Task.program(["echo", "x"])
        ours = orch.submit_task(program).result(PATIENCE).log_path
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"""
import os, sys
sys.path.insert(0, {str(SOURCES)!r})
from taskorch.kit.temporary import make_temporary
ours = make_temporary()
if (child := os.fork()) == 0:
    assert make_temporary().parent != ours.parent
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
assert ours.is_dir()
""",
        ],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert inside(tmp_path) == set()
    assert ours.read_text() == "x\n"
