"""What the tests of task files share."""

from __future__ import annotations

import pytest
from tests.ext.task_files.tools import Runs


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of task files, and an agent program for it."""
    return Runs(tmp_path, monkeypatch)
