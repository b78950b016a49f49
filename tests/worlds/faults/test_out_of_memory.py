"""The system kills a program for want of memory: that is said, where it is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from taskorch import ProgramFailedError, Task, TaskOrchestrator

LIMIT = 150 * 2**20
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")

#: A process in a cgroup with little memory: one program wants more, one kills itself,
#: and one is a shell of which a part wants more.
SCRIPT = """
import json, os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
from taskorch import ProgramFailedError, Task, TaskOrchestrator

hungry = "x = [bytearray(2**20) for _ in range(1000)]"
suicide = "import os; os.kill(os.getpid(), 9)"
programs = {
    "hungry": [sys.executable, "-c", hungry],
    "suicide": [sys.executable, "-c", suicide],
    "part": ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, hungry],
}
found = {}
with TaskOrchestrator() as orch:
    for name, args in programs.items():
        error = orch.submit_task(Task.program(args)).exception(60)
        result = error.result
        found[name] = [result.exit_code, result.oom_killed, error.message, error.hint]
print(json.dumps(found))
"""


@pytest.fixture(name="cgroup")
def fixture_cgroup() -> Iterator[Path]:
    """A cgroup with little memory; whoever may not make one cannot test with it."""
    is_v1 = (V1 / "memory.limit_in_bytes").exists()
    folder = (V1 if is_v1 else V2) / f"taskorch-test-{os.getpid()}"
    limit = "memory.limit_in_bytes" if is_v1 else "memory.max"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(LIMIT))
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no cgroup can be made here: {error}")
    if not is_v1:
        with suppress(OSError):
            (folder / "memory.swap.max").write_text("0")
    yield folder
    folder.rmdir()


def test_a_program_that_the_system_kills_for_memory_says_so(cgroup: Path) -> None:
    """And one that is killed by others does not, though the count has grown before."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(cgroup)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    code, killed, message, hint = found["hungry"]
    assert (code, killed) == (-9, True)
    assert "it was killed by the system for want of memory" in message
    assert "resources=" in hint
    code, killed, message, hint = found["suicide"]
    assert (code, killed) == (-9, False)
    assert "memory" not in message
    assert "it may have been the system, for want of memory" in hint
    code, killed, message, hint = found["part"]
    assert (code, killed) == (137, True)
    assert "a process of it was killed by the system for want of memory" in message


def test_signal_9_of_nobody_of_ours_is_a_riddle_with_a_hint() -> None:
    """Where nothing is proven nothing is claimed; and a code of 137 is only a code."""
    with TaskOrchestrator() as orch:
        for args, hints in (
            (["sh", "-c", "kill -9 $$"], True),
            (["sh", "-c", "kill -15 $$"], False),
            (["sh", "-c", "exit 137"], False),
        ):
            error = orch.submit_task(Task.program(args)).exception(60)
            assert isinstance(error, ProgramFailedError)
            assert error.result is not None
            assert not error.result.oom_killed
            assert ("taskorch did not send signal 9" in error.hint) is hints
