"""
Writes docs/explanation/commands.md: python -m tests.kernel.verbs_page

What stands there of a verb is read from the kernel's door; which facts it makes has been
seen in the worlds of `worlds.many`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from inspect import getdoc, getsource
from pathlib import Path

from tests.kernel.seen import VERBS, looking
from tests.kernel.worlds import many

import taskorch
from taskorch.events import CATALOGUE, Event
from taskorch.kernel import Kernel
from taskorch.verbs.table import VERBS as PUBLIC

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "commands.md"
KERNEL = Path(taskorch.__file__).parent / "kernel"
#: The facts of each verb.
Facts = Mapping[str, set[type[Event]]]
NAMES = {cls.__name__: cls for cls in CATALOGUE}

#: What may become of tasks that wait for one that has ended: a word of the page.
ENDS = frozenset(
    NAMES[f"Task{name}"]
    for name in ("Completed", "Failed", "Released", "Blocked", "Cancelled")
)

HEAD = """\
# The commands of the kernel

Only these commands change the state of the kernel ([why](../decisions/0044-verbs-of-the-kernel.md)). Each is a function of
the state, in `taskorch/kernel/`, and a method of `Kernel`. It asks the policies. Then it is refused whole, or records facts
(events), and lets the state [follow each](states.md#what-each-fact-does). Nothing starts before `dispatch`. An incarnation
begins with `fold` and `recover`.

Behind the arrow stand facts about the task, worker (class `Agent`) or resource pool of the command, then those about other
tasks, which follow at once: the tests have seen no others. The word *ends* means {ends}.
Frequent facts, and `TaskReady`, need listeners. A command without a text is [the verb](../reference/verbs.md) of its name.
"""
NO_FACT = "Without facts: "


def page(own: Facts, others: Facts) -> str:
    """The page, with these facts about what a verb is given, and about other tasks."""
    lines = [HEAD.format(ends=listed(ENDS)).rstrip("\n")]
    for title, names in groups().items():
        lines += ["", f"## {title}", ""]
        for name in names:
            facts = [shortened(own[name])] * bool(own[name])
            if others[name]:
                facts.append(f"others: {shortened(others[name])}")
            if facts:
                lines.append(f"- `{name}`{text_of(name)} → {'; '.join(facts)}")
        silent = [f"`{name}`" for name in names if not own[name] | others[name]]
        lines += [f"- {NO_FACT}{', '.join(silent)}."] * bool(silent)
    return "\n".join([*lines, ""])


def text_of(name: str) -> str:
    """What the command does, if it is none that users have by the same name."""
    if not PUBLIC.keys().isdisjoint({name, f"{name}_task", f"{name}_tasks"}):
        return ""
    text = (getdoc(VERBS[name]) or "").partition("\n\n")[0]
    return f": {' '.join(text.split())}"


def shortened(facts: set[type[Event]]) -> str:
    """The names of *facts*, with the word for those that stand together."""
    if facts >= ENDS:
        return ", ".join(["*ends*", listed(facts - ENDS)]).removesuffix(", ")
    return listed(facts)


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


def facts_of(text: str) -> tuple[Facts, Facts]:
    """What stands behind the arrows of the page."""
    own: Facts = defaultdict(set)
    others: Facts = defaultdict(set)
    for line in text.splitlines():
        if line.startswith("- `"):
            command, _, facts = line.rpartition(" → ")
            name = command.split("`")[1]
            before, _, after = facts.partition("others: ")
            for seen, names in ((own, before), (others, after)):
                if "*ends*" in names:
                    seen[name].update(ENDS)
                seen[name].update(NAMES[each] for each in re.findall(r"`(\w+)`", names))
    return own, others


if __name__ == "__main__":
    with looking() as seen:
        for world in many():
            world()
    PAGE.write_text(page(seen.own, seen.others), encoding="utf-8")
