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

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "commands.md"
KERNEL = Path(taskorch.__file__).parent / "kernel"
#: The facts of each verb.
Facts = Mapping[str, set[type[Event]]]
NAMES = {cls.__name__: cls for cls in CATALOGUE}

HEAD = """\
# The commands of the kernel

Whatever befalls a task, an agent or a pool is said to the kernel as one of these commands: nothing
else changes its state ([why so](../decisions/0044-verbs-of-the-kernel.md)). Each is a function of
the state, its first argument, and `Kernel` binds it as a method: `kernel.cancel(row, now, reason)`
calls the function that stands beside `cancel` below. A command asks the policies, is refused whole or
records as facts what is so from now on, and lets the state follow each fact
([which moves there are](states.md#what-each-fact-does)). Nothing starts before `dispatch`. With which
a life begins, `fold` and `recover`, stands beside the commands: they are functions of `taskorch.kernel`.

The facts of a command are those about the task, the agent or the pool that it is given, and those
about other tasks, for which something follows at once: what waited for a task that ended, what ran
on an agent that is lost, what is due. They have been seen in the worlds of the tests, and no others
have. The frequent ones, and `TaskReady`, are made only where somebody listens. A command without any
says something of the driver, or answers a question; *the driver* is whoever calls the kernel: the
runtime, or a simulation.
"""
TABLE = """\

| command | what it does | where | facts | about other tasks |
|---|---|---|---|---|"""


def page(own: Facts, others: Facts) -> str:
    """The page, with these facts about what a verb is given, and about other tasks."""
    lines = [HEAD.rstrip("\n")]
    for title, names in groups().items():
        lines += ["", f"## {title}", TABLE]
        for name in names:
            verb = VERBS[name]
            file = verb.__module__.rpartition(".")[2]
            text = " ".join((getdoc(verb) or "").partition("\n\n")[0].split())
            text = text.replace("|", "\\|")
            where = f"`kernel/{file}.py`, `{verb.__qualname__}`"
            facts = f"{listed(own[name])} | {listed(others[name])}"
            lines.append(f"| `{name}` | {text} | {where} | {facts} |")
    return "\n".join([*lines, ""])


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
    """What stands in the last two columns of the page."""
    own: Facts = defaultdict(set)
    others: Facts = defaultdict(set)
    for line in text.splitlines():
        cells = re.split(r"(?<!\\)\|", line)
        if line.startswith("| `"):
            name = cells[1].strip(" `")
            for facts, cell in ((own, cells[-3]), (others, cells[-2])):
                facts[name].update(NAMES[each] for each in re.findall(r"\w+", cell))
    return own, others


if __name__ == "__main__":
    with looking() as seen:
        for world in many():
            world()
    PAGE.write_text(page(seen.own, seen.others), encoding="utf-8")
