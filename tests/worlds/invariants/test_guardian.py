"""What the guardian would end is what runs, and nothing else, whatever befalls it."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest
from tests.api.tools import eventually

from taskorch import Task, TaskOrchestrator
from taskorch.core.executors._programs import _guardian

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def words_of(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def children(others: frozenset[int] = frozenset()) -> dict[int, list[str]]:
    """The processes but *others* that this one has started and that have not ended."""

    def is_ours(pid: int) -> bool:
        state = _guardian.state_of(pid)
        return state is not None and state.parent == os.getpid() and state.alive

    return {pid: words_of(pid) for pid in _guardian.find(is_ours) if pid not in others}


def guardians(others: frozenset[int]) -> list[int]:
    found = children(others).items()
    return [pid for pid, words in found if _guardian.__file__ in words]


def would_end(guardian: int) -> set[int]:
    """The groups that stand in the file that the guardian reads when we die."""
    *_, file, _ = words_of(guardian)
    read = Path(f"/proc/{guardian}/fd/{file}").read_bytes()
    places = (
        read[n : n + _guardian.PLACE] for n in range(0, len(read), _guardian.PLACE)
    )
    return {int.from_bytes(place, "little") for place in places} - {0}


@pytest.mark.parametrize("seed", range(2))
def test_it_would_end_what_runs_and_nothing_else(seed):
    random, others = Random(seed), frozenset(children())

    def begin() -> None:
        seconds = random.choice(["0", "0.02", "1000"])
        handles.append(orch.submit_task(Task.program(["sleep", seconds])))

    def end() -> None:
        random.choice(handles).cancel()

    def meet_with(number: int) -> None:
        for pid in guardians(others):
            os.kill(pid, number)

    def is_right() -> bool:
        # One that was killed is started again with the next program.
        orch.submit_task(Task.program(["sleep", "0"])).exception()
        # None of them has left its group.
        found = children(others).items()
        running = {pid for pid, words in found if words[:1] == ["sleep"]}
        return [would_end(pid) for pid in guardians(others)] == [running]

    acts = [begin, begin, end, partial(meet_with, signal.SIGCONT)]
    acts += [partial(meet_with, number) for number in (signal.SIGSTOP, signal.SIGKILL)]
    with TaskOrchestrator(concurrency=8, stop_timeout=0, grace=0.1) as orch:
        handles = [orch.submit_task(Task.program(["sleep", "1000"]))]
        for _ in range(5):
            for act in random.choices(acts, k=4):
                act()
            eventually(is_right)
