"""What the tests of task files share."""

from __future__ import annotations

import pytest


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of task files, and an agent program for it."""
    from tests.ext.task_files.tools import Runs

    return Runs(tmp_path, monkeypatch)
