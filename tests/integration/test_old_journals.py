"""A journal of before facts were objects: they end there with what was not as usual."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.tools import PATIENCE

from taskorch import TaskOrchestrator, TaskState
from taskorch.errors import TaskFailedError
from taskorch.events import TaskFailed, TaskSubmitted
from taskorch.model import AgentTemplate
from taskorch.reading import JournalReader

KEPT = Path(__file__).parent / "data" / "journal-with-cut-facts.db.gz"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "runs.db"
    found.write_bytes(gzip.decompress(KEPT.read_bytes()))
    return found


def test_it_is_read(path: Path) -> None:
    """All fields of a fact are there, whatever it left out."""
    reader = JournalReader(path)
    (submitted,) = [f for f in reader.events("child") if type(f) is TaskSubmitted]
    (failed,) = [f for f in reader.events("fails") if type(f) is TaskFailed]
    assert (submitted.after, submitted.owner, submitted.join) == (
        ("plain",),
        "ann",
        "finished",
    )
    assert (submitted.resources, submitted.elastic) == ((("cpu", 1_000_000),), None)
    assert (failed.error_type, failed.root_causes) == ("ZeroDivisionError", ())


def test_its_tasks_go_on(path: Path) -> None:
    """Results and failures are there, and what was blocked runs once it can."""
    with TaskOrchestrator(journal=path) as orch:
        assert orch.handle("plain").result(PATIENCE) == 3
        assert orch.handle("child").result(PATIENCE) == 2
        with pytest.raises(TaskFailedError, match="ZeroDivisionError"):
            orch.handle("fails").result(PATIENCE)
        assert orch.handle("skipped").status.state is TaskState.CANCELLED
        assert orch.handle("blocked").status.state is TaskState.BLOCKED
        assert orch.submit(abs, -5).result(PATIENCE) == 5


BEFORE = """
import sys
from types import ModuleType

from taskorch import TaskOrchestrator
from taskorch.model import AgentTemplate

# Where the class stood in an earlier version.
place = sys.modules["taskorch.model._fleet"] = ModuleType("taskorch.model._fleet")
place.AgentTemplate = AgentTemplate
AgentTemplate.__module__ = place.__name__


def template():
    return AgentTemplate("builder")


with TaskOrchestrator(journal=sys.argv[1]) as orch:
    orch.submit(template).result(60)
"""


def test_a_class_of_ours_is_found_though_its_file_has_another_name(
    tmp_path: Path,
) -> None:
    """What an earlier version has kept names the file in which a class stood then."""
    path = tmp_path / "runs.db"
    subprocess.run([sys.executable, "-c", BEFORE, str(path)], check=True)
    assert b"taskorch.model._fleet:AgentTemplate" in path.read_bytes()

    (status,) = JournalReader(path).tasks()
    assert status.result == AgentTemplate("builder")
