"""The folders of task files among the examples run as they lie."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from tests.ext.task_files.tools import cli

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    # `python3` is the one that runs the tests.
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(bin_folder), prepend=":")

    def copy(name: str) -> Path:
        ignored = shutil.ignore_patterns("workspace", "03-implementation")
        source = EXAMPLES / name
        return Path(shutil.copytree(source, tmp_path / "project", ignore=ignored))

    return copy


@pytest.mark.slow("sixty task files")
def test_sixty_task_files_of_which_one_phase_writes_the_next(copy):
    root = copy("workspace")
    assert cli("lint", root) == (0, "60 task files, no problems\n", "")

    code, out, err = cli("run", root)

    assert (code, err) == (0, ""), out
    assert out.splitlines()[-1] == "All tasks complete!"
    _, status, _ = cli("status", root)
    assert status.startswith("=== A survey of Python's library Status ===")
    assert status.count("(100%)") == 5
    features = json.loads(
        (root / "workspace/outputs/02-planning/plan/features.json").read_text()
    )
    folder = root / "workspace/outputs/03-implementation"
    assert sorted(path.parent.name for path in folder.rglob("index.md")) == sorted(
        features
    )
