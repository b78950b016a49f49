"""The coverage of all tasks together, combined by coverage.py."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from taskorch.frontends.suite._folder import RunFolder, kept_in
from taskorch.frontends.suite._model import Suite, parts_of, template_of

#: Seconds for each of its two steps.
_PATIENCE: Final = 300.0


def combined(suite: Suite, folder: RunFolder) -> tuple[int, int] | None:
    """
    Lines that any task has run, and lines that there are; None is not measured.

    `coverage.json` in the folder says which.
    """
    measured = [
        (template, data)
        for part in parts_of(suite)
        if (template := template_of(suite, part))
        and template.coverage
        and (data := folder.coverage_data(part.id)).exists()
    ]
    if not measured:
        return None
    template = measured[0][0]
    files = [data for _, data in measured]
    target = folder.path / "coverage.json"
    return combine(files, target, template.python, template.cwd)


def combine(
    files: Iterable[Path], target: Path, python: str, cwd: Path
) -> tuple[int, int] | None:
    """
    Lines that any of *files* says were run, and lines that there are, or None.

    *target* gets all of it, as JSON. *python* is an interpreter that has coverage.py,
    and *cwd* is where the tests have run.
    """
    whole = f"--data-file={target.with_suffix('.data').resolve()}"
    steps = (
        ["combine", "--keep", "--quiet", whole, *(str(f.resolve()) for f in files)],
        # How much is enough is said by criteria, and not by the project's settings.
        ["json", "--quiet", "--fail-under=0", whole, "-o", str(target.resolve())],
    )
    for step in steps:
        try:
            subprocess.run(  # noqa: S603 - coverage.py, where the tests have run
                [python, "-m", "coverage", *step],
                cwd=cwd,
                check=True,
                capture_output=True,
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.SubprocessError):
            return None
    return totals_in(target)


def totals_in(path: Path) -> tuple[int, int] | None:
    """Lines that were run, and lines that there are, by a report of coverage.py."""
    totals = kept_in(path).get("totals", {})
    try:
        return totals["covered_lines"], totals["num_statements"]
    except (KeyError, TypeError):
        return None
