"""Which files of a task are there, and which are not."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from pathlib import Path

from taskorch.frontends.workspace._config import PhaseRule
from taskorch.frontends.workspace._layout import WorkspaceLayout
from taskorch.frontends.workspace._scan import maker_of
from taskorch.frontends.workspace._task_file import TaskFile


def missing_inputs(layout: WorkspaceLayout, task: TaskFile) -> list[str]:
    """What a task needs and is not there: each path, and why it does not count."""
    if not task.inputs:
        return []
    return missing_files(layout, layout.folder("outputs"), task.inputs)


def unmade_inputs(
    layout: WorkspaceLayout, task: TaskFile, task_ids: Container[str]
) -> list[str]:
    """Missing inputs of *task* that no task in *task_ids* makes."""
    unmade = [name for name in task.inputs if maker_of(name, task_ids) is None]
    return missing_files(layout, layout.folder("outputs"), unmade)


def missing_outputs(layout: WorkspaceLayout, task: TaskFile) -> list[str]:
    """Missing outputs of *task*, the files that its gate asks for included."""
    if not task.outputs and not task.gate:
        return []
    return [
        *missing_files(layout, layout.outputs(task.task_id), task.outputs),
        *missing_files(layout, layout.root, task.gate),
    ]


def why_shut(layout: WorkspaceLayout, phase: str, rule: PhaseRule) -> list[str]:
    """What the gate of a phase waits for, besides its tasks."""
    missing = missing_files(layout, layout.root, rule.gate)
    why = [f"{path} is not there" for path in missing]
    if rule.approval and not layout.approval(phase).is_file():
        command = f"taskorch workspace approve {phase} --by NAME"
        why.append(f"nobody has approved it ({command})")
    return why


def missing_files(
    layout: WorkspaceLayout, folder: Path, names: Iterable[str]
) -> list[str]:
    """Those of *names* that are no files in *folder*, as paths in the workspace."""
    missing: list[str] = []
    for name in names:
        path = folder / name
        why = _problem(layout, path)
        if why is not None:
            missing.append(f"{layout.shown(path)}{why}")
    return missing


def _problem(layout: WorkspaceLayout, path: Path) -> str | None:
    """Why *path* does not count as a file: None if it does."""
    try:
        if not path.exists():
            return " (a link that leads nowhere)" if path.is_symlink() else ""
        if path.is_dir():
            return " (it is a folder)"
        if not path.is_file():
            return " (it is no file)"
        real = os.path.realpath(path)
        if not Path(real).is_relative_to(os.path.realpath(layout.root)):
            return " (a link that leads out of the workspace)"
    except OSError as error:
        return f" ({error.strerror or error})"
    return None
