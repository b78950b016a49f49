"""Programs that outlive their orchestrator, and its guardian."""

import os
import signal
import sqlite3
import sys
from contextlib import closing

import pytest
from tests.worlds.faults import ledger, lives
from tests.worlds.faults.tools import (
    PATIENCE,
    Process,
    await_program,
    guardian_of,
    is_alive,
)

from taskorch import Task, TaskOrchestrator, TaskState

pytestmark = [
    pytest.mark.slow("processes and programs that are killed"),
    pytest.mark.skipif(sys.platform != "linux", reason="marks are found in /proc"),
]


def test_the_next_incarnation_ends_what_the_one_before_has_left_and_runs_it_again(
    tmp_path,
):
    journal = tmp_path / "journal.db"
    with Process(lives.with_program, journal) as process:
        assert process.line() == "ready"
        orphan = await_program(journal)
        journal.with_name("pid").write_text(str(orphan))
        guardian = guardian_of(process.pid)
        # So that it cannot see that its guardian is gone.
        process.hold()
        os.kill(guardian, signal.SIGKILL)
        process.send(signal.SIGKILL)
        process.wait()
    assert is_alive(orphan)

    ledger.open_ledger(journal)
    with TaskOrchestrator(journal=journal, durability="process") as orch:
        assert not is_alive(orphan)
        orch.handle("look").result(PATIENCE)
        again = await_program(journal)
        assert again != orphan
        assert orch.cancel_task("program")

    assert list(ledger.of(journal, "orphan")) == [["False"]]
    assert not is_alive(again)


def test_a_copy_ends_no_program_of_the_original(tmp_path):
    """It has the same id; what runs for the original is not its own."""
    journal, other = tmp_path / "journal.db", tmp_path / "copy.db"
    with TaskOrchestrator(journal=journal) as orch:
        orch.submit_task(Task.program(["sleep", "1000"], id="program"))
        program = await_program(journal)
        with (
            closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as live,
            closing(sqlite3.connect(other)) as copy,
        ):
            live.backup(copy)

        second = TaskOrchestrator(journal=other)
        second.start()
        assert second.get_task_status("program").state is not TaskState.COMPLETED
        second.stop(drain=False)

        assert is_alive(program)
        assert orch.get_task_status("program").state is TaskState.RUNNING
        assert orch.cancel_task("program")
