"""A journal of before facts were objects: they end there with what was not as usual."""

import gzip
from pathlib import Path

import pytest
from tests.integration.tools import PATIENCE

from taskorch import TaskOrchestrator, TaskState
from taskorch.errors import TaskFailedError
from taskorch.events import TaskFailed, TaskSubmitted
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
