"""Writes the generated pages of the reference; a test holds them up to date."""

from __future__ import annotations

import inspect
from pathlib import Path

import attrs

from taskorch import errors
from taskorch.errors import TaskFailure, TaskorchError, UsageError
from taskorch.events import CATALOGUE, VIEWS, signal_name
from taskorch.kernel import diagram

DOCS = Path(__file__).parents[2] / "docs"


def events_page() -> str:
    lines = [
        "# Events",
        "",
        "Every event has `seq`, `at_ns`, `at` (seconds since the epoch) and `timestamp`",
        "(UTC); events of a task have `task_id`. The signal is `orch.signals.` and the name",
        "in the second column.",
        "",
        "| event | signal | fields | what happened |",
        "|---|---|---|---|",
    ]
    inside = {
        view: fact
        for fact, views in VIEWS.items()
        for view in views
        if view is not fact
    }
    for cls in CATALOGUE:
        names = [
            f.name
            for f in attrs.fields(cls)
            if f.name not in ("seq", "at_ns", "task_id") and not f.name.startswith("_")
        ]
        summary = inspect.getdoc(cls).splitlines()[0]
        if cls in inside and "view" not in summary:
            summary += f" A view of `{inside[cls].__name__}`."
        fields = ", ".join(f"`{name}`" for name in names)
        lines.append(
            f"| `{cls.__name__}` | `{signal_name(cls)}` | {fields} | {summary} |"
        )
    return "\n".join(lines) + "\n"


def states_page() -> str:
    return f"""# States

{_STATES}
```mermaid
{diagram()}
```

The table is fixed (`taskorch.kernel.TRANSITIONS`, from which this picture is drawn). A
StateMachine of yours can forbid a transition and name the states for the outside; it can
add none.
"""


_STATES = """\
PENDING waits for dependencies or for `not_before`, QUEUED for a slot, an agent and
resources, RETRYING for its delay, SUSPENDED for `resume_task`, BLOCKED for a person, for
an event from outside, for the re-run of a dependency that did not complete, or for what a
task of an earlier life needs and is gone. COMPLETED, FAILED and CANCELLED are terminal: a
task reaches exactly one of them, once, and a re-run is a new task, `id~2`.
"""


def errors_page() -> str:
    lines = [_ERRORS]
    for title, root in _ROOTS.items():
        lines += [f"## {title}", ""]
        lines += [
            "| error | `.code` | what happened | what to do |",
            "|---|---|---|---|",
        ]
        for cls in _classes_of(root):
            what = inspect.getdoc(cls).splitlines()[0].replace("|", "\\|")
            remedy = cls.default_hint or _REMEDIES[cls.__name__]
            lines.append(f"| `{cls.__name__}` | `{cls.code}` | {what} | {remedy} |")
        lines.append("")
    return "\n".join([*lines, _NO_ERRORS])


def _classes_of(root: type) -> list[type]:
    """All that is below *root* on the page: what has no heading of its own."""
    found = []
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, TaskorchError):
            nearest = next(base for base in cls.__mro__ if base in _ROOTS.values())
            if nearest is root and cls not in found:
                found.append(cls)
    return found


_ROOTS = {
    "What you asked for cannot be": UsageError,
    "What became of a task": TaskFailure,
    "The journal, and all else": TaskorchError,
}

_ERRORS = """\
# Errors

All are in `taskorch.errors`, and below `TaskorchError`. Each has a `.code`, which stays the same and
is for programs; a `.message`, which says what happened and where; a `.hint`, which says what to do
about this very one (the last column is what that is in general); and the `.task_id`, if it is about
one task.

```python
from taskorch import TaskOrchestrator
from taskorch.errors import TaskorchError

with TaskOrchestrator() as orch:
    try:
        orch.get_task_status("nobody")
    except TaskorchError as error:
        print(error.code)  # unknown_task
        print(error.hint)  # orch.tasks() lists the tasks that are known
```

What your own function raised is raised again by `handle.result()`, as it is. What failed where
nobody asked is in the log, and [can be heard](../howto/follow.md). The [command line](command-line.md)
has exit codes of its own.
"""

_NO_ERRORS = """\
## Raised by you

`Permanent` says, in a task, that another attempt is of no use; `AttemptInterrupted` is raised in a
task, by a checkpoint, when its attempt is to stop. Neither is an error of ours.
"""

_REMEDIES = {
    "AllocationError": "`orch.resources.allocations()` lists those that are there",
    "AttemptLostError": "give the task a `RetryPolicy`; the message says how the worker ended",
    "ComponentError": "mend the policy that `.component` names; its cause is chained",
    "InvalidTaskError": "the message names the argument, and what it may be",
    "InvalidTransitionError": "look at the task's state first",
    "JournalError": "the message says what is wrong with the file",
    "NotRunningError": "use the orchestrator in a `with` block, or call `start()`",
    "ProgramFailedError": "`.result` has its exit code, what it printed, and its log",
    "TaskCancelledError": "`.reason` says who called it off",
    "TaskExpiredError": "raise the `max_age` of the queue, or let more run at once",
    "TaskFailedError": "the message has what it raised; `orch.rerun_task(id)` runs it again",
    "TaskFailure": "catch it for all of these",
    "TaskTimeoutError": "raise `timeout` or `deadline`, or let the task ask `context.cancelled`",
    "TaskorchError": "catch it for all of these",
    "UnkeptResultError": "return what [can be kept](../howto/durable.md#what-is-kept)",
    "UnknownAgentError": "register one of this name: `orch.agent(name, …)`",
    "UnknownCapabilityError": "register an agent that has it",
    "UnsatisfiableError": "ask for less, or make the pool larger",
    "UnwantedResultError": "raise `max_attempts`, or look at what it returns",
    "UsageError": "catch it for all of these",
}

PAGES = {
    DOCS / "reference" / "errors.md": errors_page,
    DOCS / "reference" / "events.md": events_page,
    DOCS / "explanation" / "states.md": states_page,
}

if __name__ == "__main__":
    for path, page in PAGES.items():
        path.write_text(page())
