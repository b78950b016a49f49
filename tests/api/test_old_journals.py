"""What a journal names is found, though its file has another name since."""

import subprocess
import sys
from pathlib import Path

from taskorch.ext.views import JournalReader
from taskorch.model import AgentTemplate

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
