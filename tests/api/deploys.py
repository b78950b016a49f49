"""Programs that are deployed in two versions, and what becomes of a night in between."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from taskorch import TaskOrchestrator

PATIENCE = 60
NAME = "deployed_app"
DAY = "2026-11-24", "2026-11-25"
RUN = "night-2026-11-24T0300Z"

#: What a program has: the parts that a deploy may change stand alone.
PROGRAM = """
import os
from taskorch import Task, Workflow, workflow, task, current_context

CALLS = []
FACTOR = 1

def called(name):
    CALLS.append(name)

def helper(rows):
    return [*rows]

def extract():
    called("extract")
    return [1, 2]

def audit():
    called("audit")
    return "audited"

def clean(rows):
    called("clean")
    return [each * 100 for each in rows]

def load(rows, times=1):
    called("load")
    if os.environ.get("DEPLOYED_BROKEN"):
        raise ValueError("it fails tonight")
    return [each * times * FACTOR for each in helper(rows)]

def store(rows, times=1):
    called("store")
    return ["stored", *rows]

def report(rows):
    called("report")
    return {"sum": rows, "times": (current_context().parameters or {}).get("times")}

def build(parameters):
    wf = Workflow("night", parameters=parameters)
    rows = wf.task(extract)
    wf.task(audit)
    loaded = wf.task(load, rows, id="load", retry=1)
    wf.task(report, loaded)
    return wf

PARAMETERS = {"times": 1}

def declare(orch):
    orch.schedules.add("night", "0 3 * * *", build(PARAMETERS), parameters=PARAMETERS)
"""


@attrs.frozen
class Kind:
    """
    A kind of change between two versions of a program.

    Attributes:
        old: What is replaced in the program.
        new: By what.
        says: What a preview says of it.
        calls: What is called again where only what changed is: the rest is kept.
    """

    old: str
    new: str
    says: str
    calls: frozenset[str]

    def program(self) -> str:
        assert self.old in PROGRAM, self.old
        return PROGRAM.replace(self.old, self.new)


def _kind(old: str, new: str, says: str, *calls: str) -> Kind:
    return Kind(old, new, says, frozenset(calls))


_BROKEN = "load", "report"
KINDS: Mapping[str, Kind] = {
    "other code of what completed": _kind(
        "return [1, 2]", "return [3, 4]", "extract: other code", "extract", *_BROKEN
    ),
    "other code of what failed": _kind(
        "each * times * FACTOR for",
        "-each * times * FACTOR for",
        "load: other code",
        *_BROKEN,
    ),
    "other code of a helper": _kind(
        "return [*rows]", "return [0, *rows]", "load: other code", *_BROKEN
    ),
    "another constant": _kind("FACTOR = 1", "FACTOR = 7", "load: other code", *_BROKEN),
    "another argument": _kind(
        'load, rows, id="load"', 'load, rows, 9, id="load"', "load: args", *_BROKEN
    ),
    "another function": _kind(
        'load, rows, id="load"',
        'store, rows, id="load"',
        "function deployed_app.load",
        "store",
        "report",
    ),
    "an added step": _kind(
        "loaded = wf.task(load, rows,",
        "loaded = wf.task(load, wf.task(clean, rows),",
        "+ clean",
        "clean",
        *_BROKEN,
    ),
    "an added leaf": _kind(
        "    return wf\n",
        "    wf.task(clean, rows)\n    return wf\n",
        "+ clean",
        "clean",
        *_BROKEN,
    ),
    "a step that was removed": _kind(
        "    wf.task(report, loaded)\n", "", "- report", "load"
    ),
    "a failed step that was removed": _kind(
        '    loaded = wf.task(load, rows, id="load", retry=1)\n    wf.task(report, loaded)',
        "    wf.task(report, rows)",
        "- load",
        "report",
    ),
    "a step that was renamed": _kind(
        'id="load"', 'id="load2"', "+ load2; - load", *_BROKEN
    ),
    "another edge": _kind(
        "    wf.task(audit)\n",
        '    wf.task(audit, after=["extract"])\n',
        "audit: after",
        "audit",
        *_BROKEN,
    ),
    "other parameters": _kind(
        '{"times": 1}',
        '{"times": 5}',
        "parameters: times 1 → 5",
        "extract",
        "audit",
        *_BROKEN,
    ),
    "more retries": _kind("retry=1", "retry=5", "load: retry", *_BROKEN),
    "a raised timeout": _kind(
        "retry=1", "retry=1, timeout=50", "load: timeout None → 50", *_BROKEN
    ),
    "other resources": _kind(
        "retry=1", 'retry=1, resources={"db": 1}', "load: resources", *_BROKEN
    ),
    "another priority": _kind(
        "retry=1", "retry=1, priority=3", "load: priority 0 → 3", *_BROKEN
    ),
    "a phase before": _kind(
        "    wf = Workflow",
        '    wf = Workflow("night", parameters=parameters)\n'
        '    with wf.phase("checks"):\n        wf.task(audit, id="look")\n'
        "    return wf\n    wf = Workflow",
        "- extract",
        "audit",
    ),
    "a map": _kind(
        "    wf.task(report, loaded)\n",
        '    wf.map(clean, [[1], [2]], id="many")\n    wf.task(report, loaded)\n',
        "+ many",
        "clean",
        *_BROKEN,
    ),
}


@contextmanager
def incarnation(
    folder: Path, source: str, **settings: Any
) -> Iterator[tuple[Any, Any]]:
    """
    An incarnation of the program: it is deployed, declares its schedule, and ends.
    """
    module: Any = ModuleType(NAME)
    module.__file__ = str(folder / f"{NAME}.py")
    sys.modules[NAME] = module
    exec(compile(source, module.__file__, "exec"), vars(module))
    settings.setdefault("journal", folder / "j.db")
    settings.setdefault("resources", {"db": 2})
    with TaskOrchestrator(**settings) as orch:
        module.declare(orch)
        yield orch, module
    del sys.modules[NAME]


Act = Callable[[Any], object]
