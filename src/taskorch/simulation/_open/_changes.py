"""What changes would do to what is open: all of it, or what must end in time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from time import thread_time
from typing import TYPE_CHECKING, Any, Final

from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.kit.checks import check_seconds
from taskorch.kit.limits import MAX_PRIORITY
from taskorch.kit.visible import show
from taskorch.kit.words import in_words, ns_of
from taskorch.model import EndChange, InTime, TimelyChange, WhatIf, quantile, to_units
from taskorch.simulation._open._course import OpenRun, Tried
from taskorch.simulation._open._draws import OpenChance
from taskorch.simulation._open._ends import NO_END
from taskorch.simulation._open._promise import (
    Deadline,
    moment_of,
    open_of,
    promise_of,
    refuse_past,
    time_of,
    without_deadlines,
)
from taskorch.simulation._open._work import OpenWork, open_work

if TYPE_CHECKING:
    from taskorch.runtime import Runtime

#: Draws of one change; so many of them may end too late for nine in ten to be in time.
_TRIED: Final = 20
_LATE: Final = 2
#: Draws that say what a change does to others, which takes all that is open to its end.
_SEEN: Final = 5
#: Others that may come later, that are tried: those with the most work.
_OTHERS: Final = 12
#: A difference below this, in seconds and as a part of the time until then, is chance.
_LEAST: Final = 0.05
_PART: Final = 0.01
_WHOLE: Final = 1_000_000


def what_if(
    rt: Runtime,
    priority: Mapping[str, int],
    pools: Mapping[str, float],
    pause: Iterable[str],
    budget: float,
) -> WhatIf:
    """See `TaskOrchestrator.what_if`."""
    check_seconds("budget", budget, zero=False)
    rt.look_up()
    paused = [pause] if isinstance(pause, str) else _read("pause", pause, list)
    calls: list[str] = []
    priorities: dict[int, int] = {}
    work = open_work(rt)
    for of, value in _read("priority", priority, dict).items():
        places = _places(rt, work, of)
        if type(value) is not int or abs(value) > MAX_PRIORITY:
            most = f"{MAX_PRIORITY:,}"
            msg = f"priority[{of!r}] is an integer within ±{most}, not {show(value)}"
            raise InvalidTaskError(msg)
        priorities |= dict.fromkeys(places, value)
        calls.append(_call_of_priority(work, of, places, value))
    more: dict[str, int] = {}
    free = dict(work.means.pools)
    for name, amount in _read("pools", pools, dict).items():
        if name not in work.totals:
            msg = f"pools: there is no pool {show(name)}"
            raise InvalidTaskError(msg, hint="orch.get_stats() names them")
        if name in _named(work):
            msg = f"pools: the units of {name} have names, and a number says not which"
            raise InvalidTaskError(msg, hint="orch.resources.resize() takes names")
        total = to_units(name, amount)
        more[name] = max(total - work.totals[name], -free.get(name, 0))
        calls.append(_call_of_pool(name, total))
    suspended: list[int] = []
    for of in paused:
        suspended += _places(rt, work, of)
        calls.append(_call_of_pause(work, of, suspended[-1]))
    tried = Tried(priorities, more, tuple(dict.fromkeys(suspended)))
    until = thread_time() + budget
    ends, draws = _differences(work, tried, until, ())
    unknown: tuple[str, ...] = ()
    if not draws:
        unknown = (f"Not within {in_words(budget)} of processor time.",)
    return WhatIf(time_of(work.now_ns), tuple(calls), tuple(ends), draws, unknown)


def _read(name: str, said: Any, kind: Callable[[Any], Any]) -> Any:
    """
    Make a dict, or a list, of what is said.

    Raises:
        InvalidTaskError: It is none.
    """
    try:
        return kind(said)
    except Exception as error:
        msg = f"{name} cannot be read: {show(said)}"
        hint = 'what_if(priority={"night": 5}, pools={"gpu": 2}, pause=["reports"])'
        raise InvalidTaskError(msg, hint=hint) from error


def in_time(rt: Runtime, of: str, deadline: Deadline, budget: float) -> InTime:
    """See `TaskOrchestrator.in_time`."""
    check_seconds("budget", budget, zero=False)
    rt.look_up()
    asked = rt.now()
    moment = moment_of(deadline, asked)
    wanted = open_of(rt, of)
    if not wanted:
        msg = f"{of} has ended, or there is no such task or run"
        raise UnknownTaskError(msg, hint="orch.when() says when it ended", task_id=of)
    refuse_past(moment, asked)
    work = open_work(rt)
    until = thread_time() + budget
    promise = promise_of(work, of, wanted, moment, budget / 4)
    if promise.deadline is None:
        msg = f"{of} has no deadline: say by when it is to end"
        raise InvalidTaskError(msg, hint="deadline='18:00', or 3600: in an hour")
    if promise.risk is not None and promise.risk * 10 <= 1:
        words = "It ends in time in nine of ten cases: nothing has to change."
        return InTime(promise, unknown=(words,))
    if any(each not in work.places for each in wanted):
        return InTime(promise)
    places = [work.places[each] for each in wanted]
    search = _Search(
        without_deadlines(work, places), of, places, promise.deadline, until
    )
    changes = [
        change
        for find in (search.priority, search.pools, search.later)
        for change in find()
    ]
    changes.sort(key=_delay)
    unknown = []
    if search.is_late():
        unknown.append(
            f"Not within {in_words(budget)} of processor time: not all was tried."
        )
    elif not changes:
        unknown.append(
            "No single change is enough: no priority of it, no pool however large, and "
            "no other that waits until it has ended."
        )
    return InTime(promise, tuple(changes), tuple(unknown))


def _delay(change: TimelyChange) -> tuple[float, str]:
    """By how much others end later, and then by what it is called."""
    if change.ends is None:
        return float("inf"), change.call
    later = (each.seconds for each in change.ends if each.seconds is not None)
    return sum(seconds for seconds in later if seconds > 0), change.call


class _Search:
    """Tries changes until something ends in time."""

    def __init__(
        self,
        work: OpenWork,
        of: str,
        places: Sequence[int],
        deadline: datetime,
        until: float,
    ) -> None:
        self._work = work
        self._of = of
        self._places = places
        self._deadline_ns = ns_of(deadline)
        self._until = until

    def is_late(self) -> bool:
        """Whether there is no time left."""
        return thread_time() >= self._until

    def priority(self) -> Iterator[TimelyChange]:
        """The least priority after which it ends in time."""
        work, places = self._work, self._places
        now = min(work.tasks[place].priority for place in places)
        tried = self._least(
            lambda step: Tried(dict.fromkeys(places, min(now + step, MAX_PRIORITY))),
            MAX_PRIORITY - now,
        )
        if tried is not None:
            value = tried.priorities[places[0]]
            call = _call_of_priority(work, self._of, places, value)
            yield from self._told("priority", call, tried)

    def pools(self) -> Iterator[TimelyChange]:
        """The least that each pool must have after which it ends in time."""
        work = self._work
        named = _named(work)
        asked: dict[str, list[int]] = {}
        for each in work.tasks:
            for name, units in each.spec.resources:
                if name in work.totals and name not in named:
                    asked.setdefault(name, []).append(units)
        for name, requests in sorted(asked.items()):
            yield from self._pool(name, min(requests), sum(requests))

    def _pool(self, name: str, step: int, most: int) -> Iterator[TimelyChange]:
        """The least that one pool must have, in steps of what one task asks for."""
        tried = self._least(
            lambda steps: Tried(more={name: steps * step}), max(1, -(-most // step))
        )
        if tried is not None:
            call = _call_of_pool(name, self._work.totals[name] + tried.more[name])
            yield from self._told("pool", call, tried)

    def later(self) -> Iterator[TimelyChange]:
        """Others after which it ends in time, if they wait until it has ended."""
        work, mine = self._work, {*self._places}
        above = {
            work.places.get(n)
            for p in self._places
            for n in work.above(work.tasks[p].id)
        }
        groups = {
            name: [p for p in places if not work.tasks[p].agent]
            for name, places in groups_of(work).items()
            if mine.isdisjoint(places) and above.isdisjoint(places)
        }
        most = sorted(groups, key=lambda name: (-len(groups[name]), name))[:_OTHERS]
        for name in most:
            if groups[name] and not self.is_late():
                tried = Tried(later=tuple(groups[name]), until=tuple(self._places))
                if self._is_enough(tried):
                    call = _call_of_pause(work, name, groups[name][0])
                    yield from self._told("later", call, tried)

    def _least(self, tried_at: Callable[[int], Tried], most: int) -> Tried | None:
        """The change by the least step that is enough, if one up to *most* is."""
        if most < 1 or not self._is_enough(tried_at(most)):
            return None
        low, high = 0, 1
        while high < most and not self._is_enough(tried_at(high)):
            low, high = high, min(most, 2 * high)
        while high - low > 1:
            middle = (low + high) // 2
            if self._is_enough(tried_at(middle)):
                high = middle
            else:
                low = middle
        # What there was no time for counts as too little: the largest that is enough.
        return tried_at(most if self.is_late() else high)

    def _is_enough(self, tried: Tried) -> bool:
        """Whether it ends in time in nine of ten draws."""
        late = 0
        for draw in range(_TRIED):
            if self.is_late():
                return False
            late += self._end(tried, draw) > self._deadline_ns
            if late > _LATE:
                return False
        return True

    def _end(self, tried: Tried, draw: int) -> int:
        chance = OpenChance(self._work, f"0/{draw}")
        run = OpenRun(
            self._work, chance, self._places, self.is_late, tried, self._deadline_ns
        )
        run.carry_out()
        ends = [run.ended_ns(place) for place in self._places]
        return max(NO_END if end is None else end for end in ends)

    def _told(self, kind: str, call: str, tried: Tried) -> Iterator[TimelyChange]:
        ends = sorted(self._end(tried, draw) for draw in range(_TRIED))
        p90 = quantile(ends, 90)
        if p90 == NO_END:
            # There was no time to make sure.
            return
        own = {self._of, *(self._work.tasks[place].id for place in self._places)}
        others, draws = _differences(self._work, tried, self._until, own)
        changed = tuple([each for each in others if each.seconds != 0])
        yield TimelyChange(kind, call, time_of(p90), changed if draws else None)


# -- what it does to others ------------------------------------------------------------


def groups_of(work: OpenWork) -> dict[str, list[int]]:
    """The places of the tasks of each run, and of each task on its own."""
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(work.tasks):
        groups.setdefault(each.run or each.id, []).append(place)
    return groups


def _differences(
    work: OpenWork, tried: Tried, until: float, without: Collection[str]
) -> tuple[list[EndChange], int]:
    """What a change does to each run and task, what it does most to first."""
    groups = {n: p for n, p in groups_of(work).items() if n not in without}
    every = range(len(work.tasks))
    pairs: list[tuple[dict[str, int], dict[str, int]]] = []
    for draw in range(_SEEN):
        both = []
        for change in (Tried(), tried):
            chance = OpenChance(work, f"0/{draw}")
            run = OpenRun(work, chance, every, lambda: thread_time() >= until, change)
            run.carry_out()
            if run.is_cut:
                return _ends_of(work, groups, pairs), len(pairs)
            both.append({name: _last(run, places) for name, places in groups.items()})
        pairs.append((both[0], both[1]))
    return _ends_of(work, groups, pairs), len(pairs)


def _last(run: OpenRun, places: Iterable[int]) -> int:
    ends = [run.ended_ns(place) for place in places]
    return max(NO_END if end is None else end for end in ends)


def _ends_of(
    work: OpenWork,
    groups: Mapping[str, Sequence[int]],
    pairs: Sequence[tuple[Mapping[str, int], Mapping[str, int]]],
) -> list[EndChange]:
    changes: list[EndChange] = []
    for name in groups if pairs else ():
        before = quantile(sorted(pair[0][name] for pair in pairs), 50)
        after = quantile(sorted(pair[1][name] for pair in pairs), 50)
        seconds = None
        if NO_END not in (before, after):
            seconds = (after - before) / 1e9
            least = max(_LEAST, _PART * (before - work.now_ns) / 1e9)
            seconds = seconds if abs(seconds) >= least else 0.0
        changes.append(
            EndChange(
                name,
                None if before == NO_END else time_of(before),
                None if after == NO_END else time_of(after),
                seconds,
            )
        )
    changes.sort(key=lambda each: (-abs(each.seconds or 0.0), each.id))
    return changes


# -- the calls that make them ----------------------------------------------------------


def _places(rt: Runtime, work: OpenWork, of: str) -> list[int]:
    """
    Where the open tasks are that *of* stands for.

    Raises:
        UnknownTaskError: There are none.
    """
    places = [work.places[each] for each in open_of(rt, of) if each in work.places]
    if not places:
        msg = f"nothing that is open and goes on by itself has the id {of!r}"
        raise UnknownTaskError(msg, task_id=of)
    return places


def _named(work: OpenWork) -> frozenset[str]:
    """The pools whose units have names."""
    return frozenset(name for name, _ in work.means.named)


def _is_run(work: OpenWork, of: str, place: int) -> bool:
    """Whether *of* is the run of the task at *place*, and not the task."""
    return work.tasks[place].run == of


def _call_of_priority(
    work: OpenWork, of: str, places: Sequence[int], value: int
) -> str:
    if _is_run(work, of, places[0]):
        return f"orch.change_tasks('set_priority', ids='{of}/*', priority={value})"
    return f"orch.set_priority({work.tasks[places[0]].id!r}, {value})"


def _call_of_pool(name: str, units: int) -> str:
    amount = units / _WHOLE
    whole = int(amount) if amount.is_integer() else amount
    return f"orch.resources.resize({{{name!r}: {whole!r}}})"


def _call_of_pause(work: OpenWork, of: str, place: int) -> str:
    if _is_run(work, of, place):
        return f"orch.workflows.pause({of!r})"
    return f"orch.suspend_task({of!r})"
