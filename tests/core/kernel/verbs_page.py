"""
Writes docs/explanation/commands.md: python -m tests.core.kernel.verbs_page

What stands there of a verb is read from the kernel's door; which events it makes has
been seen in the worlds of `worlds.many`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from inspect import getsource
from pathlib import Path

from tests.core.kernel.seen import looking
from tests.core.kernel.worlds import many

import taskorch
from taskorch.core.kernel import Kernel
from taskorch.events import CATALOGUE, Event

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "commands.md"
KERNEL = Path(taskorch.__file__).parent / "core" / "kernel"
#: The events of each verb.
Events = Mapping[str, set[type[Event]]]
NAMES = {cls.__name__: cls for cls in CATALOGUE}


def _named(names: str) -> frozenset[type[Event]]:
    return frozenset(NAMES[name] for name in names.split())


#: Events that stand together, by their word on the page, the most first.
WORDS = {
    # What may become of an attempt that ends.
    "outcome": _named(
        "TaskCompleted TaskFailed TaskRetrying TaskBlocked TaskSuspended TaskResumed"
        " TaskCancelled TaskOptionsChanged LateResultIgnored SlotRecovered AgentTripped"
        " ComponentFailed"
    ),
    # What may become of tasks that wait for one that has ended.
    "ends": _named("TaskCompleted TaskFailed TaskReleased TaskBlocked TaskCancelled"),
    # What may become of the attempts of a worker that is lost.
    "loss": _named("TaskRetrying TaskSuspended TaskResumed SlotRecovered"),
}

HEAD = """\
# The commands of the kernel

Only these commands change the state of the kernel ([why](../decisions/kernel.md)). Each is a function of
the state, in `taskorch/core/kernel/`, and a method of `Kernel`, whose docstring says what it does. It asks the policies. Then
it is refused whole, or records events, and lets the state [follow each](states.md#what-each-event-does). Nothing starts
before `dispatch`. An incarnation begins with `fold` and `recover`.

Behind the arrow stand events about the task, worker (class `Agent`) or resource pool of the command, then those about other
tasks, which follow at once: the tests have seen no others. Frequent events, and `TaskReady`, need listeners. Three words stand for
several events:

"""
NO_EVENT = "Without events: "


def page(own: Events, others: Events) -> str:
    """The page, with these events about what a verb is given, and about other tasks."""
    lines = [
        HEAD + "\n".join(f"- *{word}*: {listed(each)}" for word, each in WORDS.items())
    ]
    for title, names in groups().items():
        if not names:
            continue
        lines += ["", f"## {title}", ""]
        for name in names:
            events = [shortened(own[name])] * bool(own[name])
            if others[name]:
                events.append(f"others: {shortened(others[name])}")
            if events:
                lines.append(f"- `{name}` → {'; '.join(events)}")
        silent = [f"`{name}`" for name in names if not own[name] | others[name]]
        lines += [f"- {NO_EVENT}{', '.join(silent)}."] * bool(silent)
    return "\n".join([*lines, ""])


def shortened(events: set[type[Event]]) -> str:
    """The names of *events*, with words for those that stand together."""
    words = []
    for word, together in WORDS.items():
        if events >= together:
            words.append(f"*{word}*")
            events = events - together
    return ", ".join(filter(None, [*words, listed(events)]))


def groups() -> dict[str, list[str]]:
    """The names of the verbs, under the comments that stand above them at the door."""
    titles: dict[str, list[str]] = {}
    names: list[str] = []
    for line in getsource(Kernel).splitlines():
        if line.startswith("    # "):
            names = titles[line[6:].rstrip(".")] = []
        elif line.startswith("    ") and ": Final = " in line:
            names.append(line.partition(":")[0].strip())
    return titles


def listed(classes: Iterable[type[Event]]) -> str:
    return ", ".join(f"`{cls.__name__}`" for cls in CATALOGUE if cls in {*classes})


def facts_of(text: str) -> tuple[Events, Events]:
    """What stands behind the arrows of the page."""
    own: Events = defaultdict(set)
    others: Events = defaultdict(set)
    for line in text.splitlines():
        if line.startswith("- `"):
            command, _, events = line.rpartition(" → ")
            name = command.split("`")[1]
            before, _, after = events.partition("others: ")
            for seen, names in ((own, before), (others, after)):
                for word in re.findall(r"\*(\w+)\*", names):
                    seen[name].update(WORDS[word])
                seen[name].update(NAMES[each] for each in re.findall(r"`(\w+)`", names))
    return own, others


if __name__ == "__main__":
    with looking() as seen:
        for world in many():
            world()
    PAGE.write_text(page(seen.own, seen.others), encoding="utf-8")
