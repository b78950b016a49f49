"""One owner at a time, in one process."""

import os
import re
import socket

import pytest
from tests.worlds.faults import lives
from tests.worlds.faults.tools import PATIENCE, Process

from taskorch import JournalTakenError, SqliteJournal, TaskOrchestrator, current_context

pytestmark = pytest.mark.slow("processes that are killed or forked")


def epoch():
    return current_context().fence[0]


def test_a_second_one_is_told_who_has_it_and_has_it_once_that_one_is_dead(tmp_path):
    journal = tmp_path / "journal.db"
    with Process(lives.hold, journal) as process:
        assert process.line() == "ready"
        with pytest.raises(JournalTakenError) as caught:
            TaskOrchestrator(journal=journal).start()
        told = rf"process {process.pid} on {re.escape(socket.gethostname())}, since 2\d"
        assert re.search(told, caught.value.message)
        assert caught.value.hint == "stop that one first"
        process.send(9)
        process.wait()

    with TaskOrchestrator(journal=journal) as orch:
        assert orch.submit(epoch).result(PATIENCE) == 2
        with pytest.raises(JournalTakenError, match=f"process {os.getpid()} on"):
            SqliteJournal(journal).claim()


def test_a_forked_child_can_use_nothing_of_it_and_the_parent_does_not_notice(tmp_path):
    journal = tmp_path / "journal.db"
    with Process(lives.forks, journal) as process:
        public = set(process.line().split())
        said = {}
        while (line := process.line().split(maxsplit=3))[0] != "child":
            said[line[0]] = line[1:]
        assert line[1] == "0"
        assert process.line() == "parent held 8"
        assert process.wait() == 0, process.errors()

    refused = {
        name
        for name, (what, *rest) in said.items()
        if what == "raised" and "the process that forked this one" in rest[-1]
    }
    assert refused == set(said)
    # These only lead to what is refused, or make another.
    only = {
        *("agents", "aio", "drivers", "from_config", "memo", "planner", "recover"),
        *("recovery", "resources", "schedules", "show_progress", "signals"),
        *("as_completed", "concurrency", "gather", "journal", "task", "workflows"),
        *("budget", "governance", "kept"),
    }
    assert public - set(said) == only
