"""
The verdicts of policies on task files, from the contents of the files.

Several runners share a folder, and keep no journal: there is no past to judge by, and
nobody who is asked or whose waiver counts. So policies are asked where a task is handed
over and where it starts, and what they cannot do here is refused.

Decision: policies-as-data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.governance import ConstitutionalRuntime, Operation, Policy
from taskorch.ext.task_files._task_file import TaskFile
from taskorch.kit.frozen import ReadOnly
from taskorch.model import Task

#: Fields of the head that policies see as the payload of a task file.
_SEEN: Final = (
    *("agent", "command", "inputs", "outputs", "gate", "estimate", "retries"),
)


def unfit(policy: Policy) -> str | None:
    """Return why *policy* cannot judge a folder of task files, or None."""
    where = f"policy {policy.id}: "
    for moment in policy.at:
        if moment not in ("submit", "start"):
            return f"{where}at: {moment}: task files are judged before their start"
    if policy.history:
        return f"{where}history: runners of a folder keep no journal of what happened"
    if policy.change:
        return f"{where}change: a task file is run as it stands"
    if policy.revoked != "finish":
        return f"{where}revoked: nobody can be asked for waivers here"
    return None


def judging(policies: Iterable[Policy], governance: Any) -> ConstitutionalRuntime:
    """
    Return the judge of task files by *policies* and by the setting *governance*.

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


def judged(
    governance: ConstitutionalRuntime,
    task: TaskFile,
    made: Task[Any],
    **limits: Any,
) -> tuple[str | None, str | None]:
    """
    Return why policies keep a task from starting, and their notes if they do not.

    Args:
        governance: The policies that judge the task.
        task: The task file.
        made: The task that is made of it.
        **limits: The limits from the configuration: `timeout`, `budget`.
    """
    payload = {name: getattr(task, name) for name in _SEEN}
    payload |= {"phase": task.phase, "spends": dict(task.resources.spends)}
    metadata = {name: sorted(texts) for name, texts in task.rest.items()}
    operation = attrs.evolve(
        Operation.of_task(made),
        payload=payload,
        metadata=ReadOnly(metadata),
        **limits,
    )
    verdict = governance.before_start(operation)
    if verdict is None:
        return None, None
    if not verdict.allowed:
        return f"policies deny it: {verdict.reason}", None
    return None, verdict.text
