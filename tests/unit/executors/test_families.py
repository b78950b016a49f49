"""Who belongs to a program, and who of them is asked or killed when, look by look."""

# pyright: basic

import os
import signal
import sys
from types import SimpleNamespace

import pytest

from taskorch.executors._programs import _family, _guardian
from taskorch.executors._programs._family import Family, Leftovers

MARK = b"MARK=1"
TICKS = os.sysconf("SC_CLK_TCK")
ASKED = signal.SIGTERM, signal.SIGCONT


def process(group=1, session=1, parent=1, started=0, *, alive=True):
    return SimpleNamespace(
        group=group, session=session, parent=parent, started=started, alive=alive
    )


@pytest.fixture
def machine(monkeypatch):
    """The processes that there are, by number, and those that carry the mark."""
    found = SimpleNamespace(processes={}, carrying=set(), looks=0, executing=[])

    def find(belongs):
        found.looks += 1
        if belongs is _guardian.is_executing:
            return found.executing
        return [pid for pid in found.processes if belongs(pid)]

    def killpg(group, number):
        assert number == 0
        if group == 666:
            raise PermissionError
        if all(one.group != group for one in found.processes.values()):
            raise ProcessLookupError

    def carries(pid, mark):
        assert mark == MARK
        return pid in found.carrying

    monkeypatch.setattr(_guardian, "find", find)
    monkeypatch.setattr(_guardian, "state_of", found.processes.get)
    monkeypatch.setattr(_guardian, "carries", carries)
    monkeypatch.setattr(_family.os, "killpg", killpg)
    return found


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("mark", [None, MARK])
@pytest.mark.parametrize("group", [None, 7, 8, 666])
def test_it_is_sure_that_nobody_is_left(machine, monkeypatch, system, mark, group):
    """Without a mark, or where none can be seen, by the group alone."""
    monkeypatch.setattr(sys, "platform", system)
    machine.processes[7] = process(group=7)
    is_there = group in (7, 666)
    gone = not is_there and (mark is None or system != "linux")
    family = Family(group, mark)
    assert family.is_gone() is gone
    if gone:
        assert family.find() == []
        assert machine.looks == 0
    elif system != "linux":
        assert family.find() == [-group]
        assert machine.looks == 0
    else:
        assert family.find() == ([7] if group == 7 else [])
        assert machine.looks == 1


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("mark", [None, MARK])
@pytest.mark.parametrize("executing", [[], [9]])
def test_whether_somebody_may_hide_a_mark(
    machine, monkeypatch, system, mark, executing
):
    monkeypatch.setattr(sys, "platform", system)
    machine.executing = executing
    there_are = bool(executing) and mark is not None and system == "linux"
    assert Family(7, mark).may_hide() is there_are


@pytest.mark.parametrize(
    ("group", "mark", "pid", "belongs"),
    [
        (7, None, 1, True),
        (7, None, 2, False),
        (7, MARK, 2, True),
        (7, None, 3, False),
        (7, MARK, 3, False),
        (7, None, 4, False),
        (7, MARK, 4, True),
        (7, MARK, 5, False),
        (7, MARK, 6, False),
        (None, MARK, 4, True),
        (None, MARK, 1, False),
        (7, None, -7, True),
        (7, MARK, -8, False),
        (None, MARK, -7, False),
        (None, MARK, -1, False),
    ],
)
def test_who_belongs_to_a_program(machine, group, mark, pid, belongs):
    """Its group; and with a mark its session, and who carries that."""
    machine.processes |= {
        1: process(group=7),
        2: process(session=7),
        3: process(),
        4: process(),
        5: process(group=7, session=7, alive=False),
    }
    machine.carrying = {4, 5, 6}
    assert Family(group, mark).belongs(pid) is belongs


def test_a_signal_goes_to_one_that_still_belongs(machine, monkeypatch):
    sent = []
    monkeypatch.setattr(_guardian, "send", lambda *given: sent.append(given))
    family = Family(7, None)
    family.signal(1, *ASKED)
    assert sent == [(1, family.belongs, *ASKED)]


# -- what a program leaves -------------------------------------------------------------


class Looks:
    """Looks at a family of which each look finds others, at times that are said."""

    def __init__(self, monkeypatch, *looks, asked_at=None, hides=False, group=7):
        self.looks, self.sent, self.now = iter(looks), [], 100.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(_family, "time", clock)
        family = SimpleNamespace(
            group=group,
            is_gone=lambda: False,
            may_hide=lambda: hides,
            find=lambda: next(self.looks),
            signal=lambda pid, *numbers: self.sent.append((pid, *numbers)),
        )
        self.left = Leftovers(family, asked_at)

    def at(self, now, kill_at=1000.0):
        self.now = now
        return self.left.end(kill_at)


def test_of_whom_it_is_sure_that_nobody_is_left_no_look_is_taken(machine):
    assert Leftovers(Family(7, None), None).end(0.0) is None
    assert machine.looks == 0


@pytest.mark.parametrize(("hides", "looks"), [(False, 2), (True, 8)])
def test_so_many_looks_in_a_row_must_find_nobody(monkeypatch, hides, looks):
    """One who executes another program shows no mark for a while."""
    found = [[], [7], *[[]] * looks]
    left = Looks(monkeypatch, *found, hides=hides)
    ends = [left.at(100.0 + number) is None for number in range(len(found))]
    assert ends == [False] * (looks + 1) + [True]


def test_the_looks_become_rarer_and_none_is_later_than_the_kill(monkeypatch):
    left = Looks(monkeypatch, *[[7]] * 9)
    pauses = [left.at(100.0) - 100.0 for _ in range(6)]
    assert pauses == pytest.approx([0.005, 0.01, 0.02, 0.04, 0.05, 0.05])
    assert left.at(100.0, 100.03) == 100.03
    assert left.at(100.0, 100.5) == pytest.approx(100.05)
    assert left.at(100.0, 100.0) == pytest.approx(100.05)


def test_each_is_asked_once_and_killed_when_the_time_is_up(monkeypatch):
    left = Looks(monkeypatch, [7], [7, 8], [8], [7, 8], [7])
    for now in (100.0, 100.1, 100.2):
        left.at(now, 101.0)
    assert left.sent == [(7, *ASKED), (8, *ASKED)]
    left.sent.clear()
    left.at(101.0, 101.0)
    left.at(101.5, 101.0)
    killed = [(7, signal.SIGKILL), (8, signal.SIGKILL), (7, signal.SIGKILL)]
    assert left.sent == killed


def test_who_was_killed_and_does_not_die_is_left_alone_after_a_second(monkeypatch):
    left = Looks(monkeypatch, *[[7]] * 9)
    for now in (90.0, 99.9, 100.0, 100.5, 100.99):
        assert left.at(now, 100.0) is not None
    assert left.at(101.0, 100.0) is None


@pytest.mark.parametrize(
    ("asked_at", "pid", "state", "first", "again"),
    [
        # Nobody was asked: who is there is; and later who was not begun by them.
        (None, 1, process(group=7, parent=9), True, True),
        (None, 1, process(group=7, parent=2), True, False),
        (None, 1, process(group=9, parent=2), True, False),
        (None, 1, process(group=9, parent=9), True, True),
        # The group was asked, at 9 s: who was there then has heard it.
        (9.0, 1, process(group=7, parent=9, started=9 * TICKS - 1), False, False),
        (9.0, 1, process(group=7, parent=2, started=9 * TICKS - 1), False, False),
        # One that came later has not, unless one of them has begun it to tidy up.
        (9.0, 1, process(group=7, parent=9, started=9 * TICKS), True, True),
        (9.0, 1, process(group=7, parent=2, started=9 * TICKS), False, False),
        # Who has left the group has not heard it in any case.
        (9.0, 1, process(group=9, parent=9, started=0), True, True),
        (9.0, 1, process(group=9, parent=2, started=0), True, False),
        # Where no single ones are known.
        (None, -7, None, True, True),
        (9.0, -7, None, False, False),
    ],
)
def test_who_is_asked_at_the_first_look_and_later(
    machine, monkeypatch, asked_at, pid, state, first, again
):
    machine.processes |= {pid: state, 2: None}
    looks = Looks(monkeypatch, [pid, 2], asked_at=asked_at)
    assert looks.left._should_ask(pid, [pid, 2]) is first
    looks.at(100.0)
    assert looks.left._should_ask(pid, [pid, 2]) is again


def test_one_that_has_gone_is_asked_only_if_nobody_was(machine, monkeypatch):
    assert Looks(monkeypatch).left._should_ask(3, [3]) is True
    assert Looks(monkeypatch, asked_at=1.0).left._should_ask(3, [3]) is False
