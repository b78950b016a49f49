"""
What policies say of task files, by what stands in the files.

Several runners share a folder, and keep no journal: there is no past to judge by, and
nobody who is asked or whose waiver counts. So policies are asked where a task is handed
over and where it starts, and what they cannot do here is refused.

Decision: 0249.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.frontends.workspace._config import WorkspaceConfig, unfit
from taskorch.frontends.workspace._task_file import TaskFile
from taskorch.frontends.workspace._tasks import task_for
from taskorch.governance import ConstitutionalRuntime, Operation, Policy
from taskorch.kit.read_only import ReadOnly

#: What of the head of a task file policies see as its payload.
_SEEN: Final = (
    *("agent", "command", "inputs", "outputs", "gate", "estimate", "retries"),
)


def judging(policies: Iterable[Policy], governance: Any) -> ConstitutionalRuntime:
    """
    What judges task files by *policies*, and by the setting *governance*.

    Raises:
        InvalidTaskError: A policy of that can do something that cannot be had here.
        ValidationFailedError: A file is not well formed.
        OSError: It cannot be read.
    """
    if isinstance(governance, str | os.PathLike):
        governance = ConstitutionalRuntime.from_yaml(governance)
    more = () if governance is None else governance.policies
    faults = [fault for one in more if (fault := unfit(one)) is not None]
    if faults:
        hint = "name a file without them, such as TASKORCH_GOVERNANCE=tasks.yaml"
        raise InvalidTaskError("; ".join(faults), hint=hint)
    # A runtime of its own: that of the caller may judge elsewhere.
    return ConstitutionalRuntime(dict.fromkeys((*policies, *more)))


def judged(config: WorkspaceConfig, task: TaskFile) -> tuple[str | None, str | None]:
    """Why policies keep *task* from starting, and else what they say of it."""
    payload = {name: getattr(task, name) for name in _SEEN}
    payload |= {"phase": task.phase, "spends": dict(task.resources.spends)}
    metadata = {name: sorted(texts) for name, texts in task.rest.items()}
    operation = attrs.evolve(
        Operation.of_task(task_for(config, task)),
        payload=payload,
        metadata=ReadOnly(metadata),
        timeout=config.timeout_of(task),
        budget=config.budget_of(task),
    )
    governance: Any = config.governance
    verdict = governance.before_start(operation)
    if verdict is None:
        return None, None
    if not verdict.allowed:
        return f"policies deny it: {verdict.reason}", None
    return None, verdict.text
