"""
Nothing is kept: what a user has dropped is gone, whatever was done with it.

The collector of garbage is off: what is part of a ring would stay for ever.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import sqlite3
import threading
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise, product
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually, pass_time, uncollected
from tests.ext.service.tools import shown
from tests.worlds.invariants import use

from taskorch import Task
from taskorch.core.engine import _notices
from taskorch.ext.mcp import OrchestratorPlace, _places
from taskorch.ext.service import _board, _feed

LOOKS = 4
#: Before these: until there are as many threads as there is work at once.
EARLY = 6
#: Objects of these are no part of an orchestrator, or lead nowhere.
PASSED_BY = (
    *(str, int, float, bytes, type(None), type, types.ModuleType),
    sqlite3.Connection,
    # What pytest catches of the log is its own.
    *(logging.Logger, logging.Handler, logging.LogRecord),
)
#: What has run something, but for our own: see `has_run`.
RUNNERS = (asyncio.Future, concurrent.futures.Future, threading.Thread)


@pytest.fixture(autouse=True)
def _uncollected(monkeypatch):
    # A task that failed is kept until it is said that nobody has asked for it.
    monkeypatch.setattr(_notices, "_PACE", 10**6)
    with uncollected():
        yield


def of_users() -> set[int]:
    """What users have made, and tasks for them, that is there still."""
    theirs = (use.Thing, use.Oops, use.Receiver)
    return {id(each) for each in gc.get_objects() if type(each) in theirs}


def module_of(each: Any) -> str:
    """Where the class of *each* was made; a metaclass of Cython's has no text there."""
    return str(type(each).__module__)


def of_ours() -> Counter[str]:
    """How many objects of each class of taskorch's there are."""
    return Counter(
        type(each).__qualname__
        for each in gc.get_objects()
        if module_of(each).partition(".")[0] == "taskorch"
    )


def led_to(
    roots: Iterable[Any], is_end: Callable[[Any], bool] = lambda _: False
) -> Iterator[Any]:
    """All that *roots* lead to, locks, lists and all else; nothing through an end."""
    todo = list(roots)
    found = {id(each) for each in todo}
    while todo:
        for each in gc.get_referents(todo.pop()):
            if id(each) in found or isinstance(each, PASSED_BY) or is_end(each):
                continue
            found.add(id(each))
            yield each
            if not isinstance(each, types.FunctionType):
                todo.append(each)


def come_to_rest(orch: Any, resident: Any) -> None:
    """Until nothing goes on but *resident*, a task that always runs, if there is one."""
    if resident is None:
        assert orch.wait(PATIENCE)
    # No timer stands any more of what has ended.
    pass_time(orch, 60)
    # What ended last leaves memory with the next one.
    for _ in range(2):
        orch.submit(int).result(PATIENCE)
    kernel = orch._rt.kernel
    eventually(lambda: kernel.active == (resident is not None))


ACTS = {"threads": use.ON_THREADS, "loops": use.ON_LOOPS}


def cases() -> Iterator[Any]:
    """Every seed with all."""
    for seed, how, is_kept in product(range(4), ACTS, (False, True)):
        yield pytest.param(
            seed,
            ACTS[how],
            is_kept,
            id=f"{seed}-{how}-{'kept' if is_kept else 'in memory'}",
        )


@pytest.mark.parametrize("durable", [False, True], ids=["in memory", "kept"])
def test_a_service_keeps_what_it_shows_and_nothing_that_leads_to_a_task(
    durable, tmp_path, monkeypatch
):
    """However many have ended: results, tasks and handles leave memory as without it."""
    monkeypatch.setattr(_feed, "KEPT", 20)
    monkeypatch.setattr(_board, "_RECTANGLES", 20)
    monkeypatch.setattr(_places, "_EVENTS", 20)
    journal = tmp_path / "runs.db" if durable else None
    before, looks, timeline = of_users(), [], "/api/v1/board/timeline"
    with shown(keep_finished=0, journal=journal) as service:
        place = OrchestratorPlace(service.orch)
        for look in range(LOOKS):
            for number in range(20):
                task = Task.call(use.Thing, number, id=f"thing-{look}-{number}")
                service.orch.submit_task(task).result(PATIENCE)
            # What ended last leaves memory with the next one.
            service.orch.submit_task(Task.call(int, id=f"last-{look}")).result(PATIENCE)
            ended = f"/api/v1/events?names=task_completed&task=last-{look}"
            eventually(lambda ended=ended: service.get(ended)["events"])
            eventually(lambda: service.get(timeline)["attempts"] == 20)
            assert len(service.get("/api/v1/events")["events"]) in range(20, 23)
            assert len(place.latest_events(30)) == 20
            eventually(lambda: of_users() <= before, "results are there still")
            # What answers have left is in rings.
            gc.collect()
            looks.append(of_ours())
    assert grown(looks) == {}


@pytest.mark.slow("sixteen long uses")
@pytest.mark.parametrize(("seed", "acts", "durable"), list(cases()))
def test_what_users_let_go_of_is_gone(seed, acts, durable, tmp_path):
    looks = []
    # Threads that tests before have given up may still have theirs.
    before = of_users()
    with ExitStack() as stack:
        orch = stack.enter_context(
            use.orchestrator(stack, tmp_path if durable else None)
        )
        resident = None
        if seed % 2:
            # Nobody ever sees it come to rest.
            go = tmp_path / "go"
            stack.callback(go.touch)
            resident = orch.submit(use.deaf, None, go)
        for _ in range(EARLY + LOOKS):
            # The same again: what there is more of each time is what is kept.
            user = use.Use(orch, seed, acts=acts)
            for _ in acts:
                user.act()
            come_to_rest(orch, resident)
            eventually(lambda user=user: not any(ref() for ref in user.yielded))
            user.drop_all()
            come_to_rest(orch, resident)
            if acts is use.ON_LOOPS:
                # Rings of asyncio's own: of an error with what awaited it, mostly.
                gc.collect()
            eventually(
                lambda: of_users() <= before, "what users have made is there still"
            )
            # Ours that lead to nothing of users' may be in rings.
            gc.collect()
            counts = Counter(type(each).__qualname__ for each in led_to([orch]))
            # Of what has left memory the ids stay.
            del counts["tuple"]
            looks.append((of_ours(), counts))
    for numbers in zip(*looks[EARLY:], strict=True):
        assert grown(numbers) == {}


def grown(looks: Sequence[Counter[str]]) -> dict[str, list[int]]:
    """Of what there is more at each look than before."""
    found = {name: [look[name] for look in looks] for name in looks[-1]}
    return {
        name: numbers
        for name, numbers in found.items()
        if all(before < after for before, after in pairwise(numbers))
    }


@pytest.mark.slow("follows all references")
@pytest.mark.parametrize("durable", [False, True], ids=["in memory", "kept"])
@pytest.mark.parametrize("seed", range(2))
def test_what_is_remembered_of_a_task_leads_to_nothing_that_has_run_it(
    seed, durable, tmp_path
):
    with ExitStack() as stack:
        folder = tmp_path if durable else None
        orch = stack.enter_context(use.orchestrator(stack, folder, keep_finished=1000))
        orch.submit_task(Task.program(["true"])).result(PATIENCE)
        orch.submit(use.give_later, use.Thing(1)).result(PATIENCE)
        # What is there anyhow.
        known = {id(each) for each in led_to([orch])}
        user = use.Use(orch, seed)
        for _ in use.ALL:
            user.act()
        user.drop_all()
        come_to_rest(orch, None)
        ended = [row for row in orch._rt.kernel.tasks.values() if row.state.is_terminal]
        assert len(ended) > len(use.ALL)

        def is_end(each):
            # The frames of an error are those of who saw it.
            return id(each) in known or isinstance(each, types.TracebackType)

        assert [each for each in led_to(ended, is_end) if has_run(each)] == []


def has_run(each: Any) -> bool:
    return isinstance(each, RUNNERS) or ".executors" in module_of(each)
