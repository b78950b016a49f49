"""
Runs at random, with re-runs of every kind, against a model a page long.

Each value says what it was made of. So what is told as fresh is held against what the
tasks that it was made of have come to by now, and a person's answer against what was
shown to that person.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, begun, eventually
from tests.core.workflows.tools import inside

from taskorch import Task, TaskOrchestrator, TaskState, Workflow
from taskorch.ext.views import JournalReader

#: The versions of the functions, as they are mended; what fails; and the data.
CODE: dict[str, int] = {}
BROKEN: set[str] = set()
DATA: dict[str, Any] = {}

FUNCTIONS = ("source", "call", "again", "part", "inner", "leaf", "shared", "gate")
STATIC = ("source", "up", "twice", "grow", "one", "two", "gate", "all")


def done(name: str, *made_of: Any) -> tuple[Any, ...]:
    if name in BROKEN:
        raise ValueError(name)
    return (name, CODE[name], *made_of)


def source() -> list[tuple[int, int]]:
    done("source")
    return [(DATA["day"], n) for n in range(DATA["items"])]


def call(item: Any) -> Any:
    if f"call {item[1]}" in BROKEN:
        raise ValueError(item)
    return done("call", item)


def again(item: Any) -> Any:
    return done("again", item)


def part(items: Any) -> Any:
    return done("part", items)


def leaf(items: Any) -> Any:
    return done("leaf", items)


def inner(items: Any) -> Any:
    return done("inner", inside().task(leaf, items, id="leaf").result())


def shared() -> Any:
    return done("shared")


def grow(items: Any) -> list[Any]:
    run = inside()
    handles = [run.task(part, items, id="part"), run.task(inner, items, id="inner")]
    return [handle.result() for handle in handles]


def share() -> Any:
    return inside().task(shared, id="shared")


def gate(items: Any) -> Any:
    details = {"day": items[0][0] if items else 0}
    asked = inside().add(Task.question("load?", id="ok", details=details))
    return done("gate", items, asked.result().note)


def build() -> Workflow:
    wf = Workflow("w")
    items = wf.task(source, id="source")
    up = wf.map(call, items, id="up")
    ends = [
        wf.map(again, up, id="twice", max_parallel=2),
        wf.task(grow, items, id="grow"),
        wf.task(share, id="one"),
        wf.task(share, id="two"),
        wf.task(gate, items, id="gate"),
    ]
    wf.task(list, ends, id="all")
    return wf


# -- the model -------------------------------------------------------------------------


def expected(name: str, now: dict[str, Any]) -> Any:
    """What a fresh task has come to, but for the versions, by what others have *now*."""
    word, _, number = name.rpartition("/")
    if word == "up":
        return ("call", now["source"][int(number)])
    if word == "twice":
        return ("again", now["up"][int(number)])
    if name in ("up", "twice"):
        above = now["source" if name == "up" else "up"]
        return [now[f"{name}/{n}"] for n in range(len(above))]
    rules: dict[str, Any] = {
        "part": lambda: ("part", now["source"]),
        "leaf": lambda: ("leaf", now["source"]),
        "inner": lambda: ("inner", now["leaf"]),
        "shared": lambda: ("shared",),
        "grow": lambda: [now["part"], now["inner"]],
        "one": lambda: now["shared"],
        "two": lambda: now["shared"],
        "gate": lambda: ("gate", now["source"], now["ok"].note),
        "all": lambda: [now[n] for n in ("twice", "grow", "one", "two", "gate")],
    }
    return rules[name]()


def plain(name: str, value: Any) -> Any:
    """*value* without the version of the function of that task itself."""
    if name in ("up", "twice", "grow", "one", "two", "all", "source", "ok"):
        return value
    return (value[0], *value[2:])


def check(orch: TaskOrchestrator, reader: JournalReader) -> set[str]:
    """Hold all that is told as fresh against the model; the names of that."""
    told = {status.task_id: status for status in orch.tasks()}
    run = orch.workflows.get("r")
    latest = {name: handle.task_id for name, handle in run.handles.items()}
    now = {
        name: run.handles[name].result(PATIENCE)
        for name, task_id in latest.items()
        if told[task_id].state is TaskState.COMPLETED
    }
    fresh = {n for n in now if not told[latest[n]].stale}
    assert set(run.status().stale) == {n for n, i in latest.items() if told[i].stale}
    for name in fresh - {"source", "ok"}:
        assert plain(name, now[name]) == expected(name, now), name
    if "ok" in fresh:
        day = now["source"][0][0] if now["source"] else 0
        assert now["ok"].note == f"for {day}", now["ok"]
    by_reader = {status.task_id: status.stale for status in reader.tasks()}
    for task_id in latest.values():
        assert by_reader[task_id] == told[task_id].stale, task_id
    some = random.choice(list(latest.values()))
    assert reader.get_task_status(some).stale == told[some].stale, some
    return fresh


# -- the world -------------------------------------------------------------------------


class World:
    """A run that is changed at random; its incarnations end at any moment."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self.random = path, random.Random(seed)
        CODE.update(dict.fromkeys(FUNCTIONS, 1))
        BROKEN.clear()
        DATA.update(day=1, items=2)
        self.live()

    def live(self) -> None:
        keep = self.random.choice((0, 5, 1_000))
        self.orch = begun(
            lambda: TaskOrchestrator(
                journal=self.path, keep_finished=keep, durability="process"
            )
        )
        self.orch.workflows.start(build(), id="r")

    def die(self) -> None:
        """All that runs is cut off, or ends as nobody listens any more."""
        self.orch.stop(drain=False, timeout=0)
        self.live()

    def settle(self) -> None:
        """Until nothing goes on: what is asked is answered for what is shown."""

        def is_quiet() -> bool:
            is_over = self.orch.wait(0.02) and not self.orch.questions()
            self.answer()
            return is_over

        eventually(is_quiet)

    def answer(self) -> None:
        for question in self.orch.questions():
            question.answer("approve", by="ada", note=f"for {question.details['day']}")

    def names(self) -> list[str]:
        return [
            name
            for name, handle in self.orch.workflows.get("r").handles.items()
            if handle.status.is_terminal
        ]

    def step(self) -> None:
        acts = [*[self.rerun] * 6, *[self.new_data, self.mend, self.restart] * 2]
        acts += [self.damage, self.rerun_calls, self.cancel, self.die, self.settle]
        self.random.choice(acts)()
        if self.random.random() < 0.5:
            self.settle()
            check(self.orch, JournalReader(self.path))
        elif self.random.random() < 0.5:
            self.answer()

    def rerun(self) -> None:
        names = self.names()
        if names:
            name = self.random.choice(names)
            downstream = self.random.choice((None, None, True, False))
            self.orch.rerun_task(f"r/{name}", downstream=downstream)

    def rerun_calls(self) -> None:
        which = self.random.choice(("r/up/*", "r/twice/*"))
        self.orch.change_tasks("rerun", ids=which)

    def restart(self) -> None:
        self.orch.workflows.restart("r")

    def cancel(self) -> None:
        self.orch.cancel_task(f"r/{self.random.choice(STATIC)}")

    def new_data(self) -> None:
        DATA["day"] += 1
        DATA["items"] = self.random.randrange(4)

    def mend(self) -> None:
        CODE[self.random.choice(FUNCTIONS)] += 1
        BROKEN.clear()

    def damage(self) -> None:
        BROKEN.add(self.random.choice((*FUNCTIONS, "call 0", "call 1", "call 2")))

    def mend_all(self) -> None:
        """In the end all is fresh, and made by what there is now."""
        BROKEN.clear()
        self.settle()
        for _ in range(3):
            self.orch.workflows.restart("r")
            self.settle()
        fresh = check(self.orch, JournalReader(self.path))
        assert fresh == set(self.orch.workflows.get("r").handles)
        for name in FUNCTIONS:
            CODE[name] += 1
        for name in ("source", "one", "two"):
            self.orch.rerun_task(f"r/{name}")
            self.settle()
        self.orch.workflows.restart("r")
        self.settle()
        fresh = check(self.orch, JournalReader(self.path))
        run = self.orch.workflows.get("r")
        assert fresh == set(run.handles)
        results = run.result(PATIENCE)
        for name in results.keys() - {*STATIC, "ok"}:
            word, version, *_ = results[name]
            assert version == CODE[word], name


def live_through(path: Path, seed: int, steps: int) -> None:
    world = World(path, seed)
    try:
        for _ in range(steps):
            world.step()
        world.mend_all()
    finally:
        world.orch.stop(drain=False, timeout=0)


def test_what_is_told_as_fresh_is(tmp_path):
    live_through(tmp_path / "runs.db", 0, 6)


@pytest.mark.slow("eight worlds of 25 steps")
@pytest.mark.parametrize("seed", range(100, 108))
def test_in_many_runs_what_is_told_as_fresh_is(tmp_path, seed):
    live_through(tmp_path / "runs.db", seed, 25)
