"""Work on a user's value holds nobody up: the lock is held as briefly for a large one."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from tests.api.test_hostile_names import DOORS, ask
from tests.api.tools import PATIENCE
from tests.house.hostile import ERRORS, LARGE

from taskorch import RetryPolicy, Task, TaskOrchestrator, current_context
from taskorch.errors import InvalidTaskError, TaskorchError, ValidationFailedError
from taskorch.ext.governance import ConstitutionalRuntime
from taskorch.ext.recovery import RecoveryHandler, Rule

#: Seconds of processor for which the lock may be held.
MOST = 0.01
#: Parts of the largest values; those of texts are made and gone through more quickly.
LARGEST, LONGEST = 30_000, 300_000
TEXTS = ("a text", "lines", "a path")
#: The public parameters for words of people.
WORDS = [
    door
    for door in DOORS
    if door.parameter in ("reason", "by", "note", "label", "source", "gate")
]
#: The least of what these rounds measure counts, since the machine has other work.
ROUNDS = 6


class MeasuredLock:
    """A lock that notes the processor time of those who hold it."""

    def __init__(self) -> None:
        self._lock = REAL_LOCK()
        self._since = 0.0, 0
        self.longest = 0.0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        got = self._lock.acquire(blocking, timeout)
        if got:
            self._since = time.thread_time(), threading.get_ident()
        return got

    def release(self) -> None:
        since, holder = self._since
        if holder == threading.get_ident():
            self.longest = max(self.longest, time.thread_time() - since)
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


REAL_LOCK = threading.Lock


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[MeasuredLock]:
    """All locks that an orchestrator makes for itself, which measure."""
    if sys.gettrace() is not None:
        pytest.skip("a tracer, as that of coverage, takes longer than what is measured")
    made: list[MeasuredLock] = []

    def make() -> Any:
        if sys._getframe(1).f_globals["__name__"] != "taskorch.core.engine._runtime":
            return REAL_LOCK()
        made.append(MeasuredLock())
        return made[-1]

    monkeypatch.setattr(threading, "Lock", make)
    return made


def held(locks: list[MeasuredLock], act: Callable[[int], object], parts: int) -> float:
    """The longest that a lock was held for a value of so many *parts*, in seconds."""
    found = []
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        try:
            for lock in locks:
                lock.longest = 0.0
            act(parts)
        finally:
            gc.enable()
        found.append(max(lock.longest for lock in locks))
        if found[-1] < MOST / 4:
            break
    return min(found)


def check(locks: list[MeasuredLock], act: Callable[[int], object], name: str) -> None:
    most = LONGEST if name in TEXTS else LARGEST
    times = {parts: held(locks, act, parts) for parts in (10, 1_000, most)}
    assert max(times.values()) < MOST, times
    # What little the clock of a thread can tell apart is no growth.
    assert times[most] < 2 * times[1_000] + MOST / 2, times


def fail(name: str, parts: int) -> None:
    raise ERRORS[name](parts)


def give(name: str, parts: int) -> Any:
    return LARGE[name](parts)


def report(name: str, parts: int) -> None:
    current_context().progress(LARGE[name](parts))


def keep(name: str, parts: int) -> None:
    current_context().checkpoint(LARGE[name](parts))


def step(name: str, parts: int) -> None:
    current_context().step("one", give, name, parts)


def take(*_: Any) -> None:
    pass


POLICIES: dict[str, Callable[[], dict[str, Any]]] = {
    "the usual policies": dict,
    "rules of failures": lambda: {
        "retry_handler": RecoveryHandler(
            classes=[
                Rule("network", error="NoSuchError"),
                Rule("memory", text="no such text"),
            ],
            escalate=False,
            retry_delay_seconds=0,
        )
    },
}


def in_turn(names: Iterable[str], others: Iterable[str]) -> list[Any]:
    """Each name with one of the *others*, in turn; with the rest of them at length."""
    every = [*others]
    return [
        pytest.param(
            name,
            other,
            marks=[pytest.mark.slow("each size under each policy, or place")]
            * (place != number % len(every)),
        )
        for number, name in enumerate(names)
        for place, other in enumerate(every)
    ]


@pytest.mark.parametrize(("name", "policies"), in_turn(ERRORS, POLICIES))
def test_an_error_of_any_size_is_judged_while_others_go_on(measured, name, policies):
    retry = RetryPolicy(2, base=0, retry_on=(ValueError, OSError))
    with TaskOrchestrator(**POLICIES[policies]()) as orch:

        def act(parts: int) -> None:
            for options in ({}, {"retry": retry}):
                failing = orch.submit_task(Task.call(fail, name, parts, **options))
                after = Task.call(take, after=[failing], on_parent_failure="fail")
                assert orch.submit_task(after).exception(PATIENCE) is not None
            orch.get_task_status(failing.task_id)
            orch.explain(failing.task_id)
            orch.failures()

        act(10)
        check(measured, act, name)


@pytest.mark.parametrize(("name", "place"), in_turn(LARGE, ["memory", "journal"]))
def test_a_value_of_any_size_is_kept_and_freed_while_others_go_on(
    measured, name, place, tmp_path
):
    """Results, progress, checkpoints, steps, arguments, metadata, events."""
    journal = tmp_path / "journal.db" if place == "journal" else None
    with TaskOrchestrator(keep_finished_mb=1, journal=journal) as orch:
        before = orch.submit(take)

        def act(parts: int) -> None:
            for function in (give, report, keep, step):
                handle = orch.submit(function, name, parts)
                # A journal refuses some, with an error of the task.
                handle.exception(PATIENCE)
                del handle
            for make in (
                lambda value: Task.call(take, value),
                lambda value: Task.call(take, value, [before]),
                lambda value: Task.call(take, metadata={"value": value}),
            ):
                try:
                    orch.submit_task(make(give(name, parts))).exception(PATIENCE)
                except InvalidTaskError:
                    # It has too many levels, or no journal keeps it.
                    continue
            waiting = orch.submit_task(Task.wait_for("event"))
            try:
                orch.emit("event", give(name, parts))
            except InvalidTaskError:
                orch.cancel_task(waiting.task_id)
            orch.wait(timeout=PATIENCE)

        act(10)
        check(measured, act, name)


@pytest.mark.parametrize("option", ["requires", "writes", "resources"])
def test_more_names_than_a_task_may_have_are_refused(option):
    names = [f"src/{number}" for number in range(1_001)]
    value = dict.fromkeys(names, 1) if option == "resources" else names
    with (
        TaskOrchestrator() as orch,
        pytest.raises(ValidationFailedError, match=r"1,001 .* 1,000 are the most"),
    ):
        orch.submit_task(Task.call(take, **{option: value}))


@pytest.mark.parametrize("door", WORDS, ids=str)
def test_a_text_that_somebody_gives_is_short_or_is_refused(door):
    """Events have it, and what is written of them is copied under the lock."""
    with TaskOrchestrator(governance=ConstitutionalRuntime([])) as orch:
        orch.submit_task(Task.wait_for("event", id="done"))
        with pytest.raises(TaskorchError):
            ask(orch, door, "x" * 1_000_000)
        orch.stop(drain=False)
