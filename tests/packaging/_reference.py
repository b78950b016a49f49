"""Writes the generated pages of the reference; a test holds them up to date."""

from __future__ import annotations

import inspect
from pathlib import Path

import attrs

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

PAGES = {
    DOCS / "reference" / "events.md": events_page,
    DOCS / "explanation" / "states.md": states_page,
}

if __name__ == "__main__":
    for path, page in PAGES.items():
        path.write_text(page())
