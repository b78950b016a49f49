"""A journal that may only be read, for a user whom that binds: root is none."""

import os
import tempfile
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE
from tests.worlds.faults.tools import Process, say

from taskorch import Task, TaskOrchestrator
from taskorch.errors import JournalUnavailableError


def live(path: Path) -> None:
    """In a process of its own: an incarnation, one that is refused, and one more."""
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(len, "x", id="one")).result(PATIENCE)
    if os.getuid() == 0:
        # Some user that has nothing else.
        user = 2**24 + os.getpid()
        for name in (path.parent, *path.parent.iterdir()):
            os.chown(name, user, user)
        os.setresuid(user, user, user)
    path.chmod(0o400)
    with pytest.raises(JournalUnavailableError) as caught:
        TaskOrchestrator(journal=path).start()
    assert str(path) in str(caught.value)
    path.chmod(0o600)
    with TaskOrchestrator(journal=path) as orch:
        assert orch.handle("one").result() == 1
    # They are its own now: not everybody may remove them.
    for each in path.parent.iterdir():
        each.unlink()
    say("end")


def test_a_journal_that_is_read_only_is_refused_and_opens_when_it_is_not() -> None:
    """The error names the file, and nothing of it is changed."""
    where = Path(tempfile.mkdtemp(prefix="taskorch-"))
    with Process(live, where / "journal.db") as process:
        assert process.line() == "end", process.errors()
        assert process.wait() == 0, process.errors()
    where.rmdir()
