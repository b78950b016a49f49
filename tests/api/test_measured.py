"""Sizes that are measured: real programs, limits that are held, and a kill between."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.api.tools import Started, eventually

from taskorch import Task, TaskOrchestrator
from taskorch.errors import MemoryLimitError
from taskorch.events import TaskRetrying
from taskorch.ext.views import JournalReader
from taskorch.policies import Measured

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="memory is measured, and limits held, on Linux"
)

ASKED = 1000
HOG = "import sys, time; x = bytearray(int(sys.argv[1]) << 20); time.sleep(0.2)"


def hog(mb, name, **options):
    """A program that has *mb* of memory, and asks for much more."""
    command = [sys.executable, "-I", "-S", "-c", HOG, str(mb)]
    options = {"resources": {"memory_mb": ASKED}, "enforce": True, **options}
    return Task.program(command, type="hog", id=name, **options)


def measured_at(path, sizes=1):
    """A Measured that has read the journal at *path*."""
    allocator = Measured()
    with TaskOrchestrator(journal=path, allocator=allocator):
        assert len(allocator.sizes) == sizes
    return allocator.sizes


@pytest.mark.needs("recovery")
def test_the_limit_that_is_held_is_what_was_granted():
    allocator = Measured()
    pools = {"memory_mb": 2 * ASKED}
    with TaskOrchestrator(allocator=allocator, resources=pools) as orch:
        for number in range(5):
            result = orch.submit_task(hog(30, f"small{number}")).result()
            assert result.limits["memory_mb"] == ASKED
        eventually(lambda: allocator.sizes)
        size = allocator.sizes["hog"]
        assert 64 <= size < 150
        sized = orch.submit_task(hog(30, "sized"))
        assert sized.result().limits["memory_mb"] == size
        told = str(orch.explain("sized"))
        assert (
            f"It was given less than it asked for: {size:g} of 1,000 memory_mb" in told
        )
        assert "since 5 tasks of its type used" in told
        assert f"of {size:g} MB of memory" in told

        # It was never to be tried again.
        large = orch.submit_task(hog(300, "large"))
        result = large.result()
        assert result.limits["memory_mb"] == ASKED
        assert large.status.attempts == 2
        told = str(orch.explain("large"))
        assert "It was tried again: now it gets all that it asked for" in told
        assert "It was given 1000 memory_mb, as it asked for." in told
        eventually(lambda: allocator.sizes["hog"] > 300)

        with pytest.raises(MemoryLimitError) as caught:
            orch.submit_task(hog(1300, "larger")).result()
        assert caught.value.limit == ASKED


def test_what_was_measured_is_known_after_a_kill(tmp_path):
    path = tmp_path / "runs.db"
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys, time
            from taskorch import TaskOrchestrator
            from taskorch.policies import Measured
            from tests.api.test_measured import hog
            from tests.api.tools import eventually

            allocator = Measured()
            with TaskOrchestrator(
                journal=sys.argv[1], allocator=allocator, resources={"memory_mb": 8000}
            ) as orch:
                for number in range(5):
                    orch.submit_task(hog(30, f"small{number}")).result()
                eventually(lambda: allocator.sizes)
                orch.submit_task(hog(300, "large")).result()
                print("measured", flush=True)
                time.sleep(600)
            """
        )
    )
    command = [sys.executable, str(program), str(path)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with Started(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "measured\n"
        process.send_signal(signal.SIGKILL)
    happened = list(JournalReader(path).happened())
    unbroken = Measured()
    for event in happened:
        unbroken.hear(event)
    (retried,) = [
        event
        for event in happened
        if isinstance(event, TaskRetrying) and event.cause == "undersized"
    ]
    assert retried.task_id == "large"
    assert retried.usage
    assert measured_at(path) == unbroken.sizes
    assert unbroken.sizes["hog"] > 300
