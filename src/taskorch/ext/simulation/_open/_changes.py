"""Forecasts of changes to open work, and searches for one that meets a deadline."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import combinations, islice
from time import thread_time
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.ext.simulation._open._course import NO_END, OpenRun, Tried
from taskorch.ext.simulation._open._draws import OpenChance
from taskorch.ext.simulation._open._promise import (
    FAILS,
    Deadline,
    moment_of,
    open_of,
    refuse_past,
    time_of,
    with_ticks,
    without_deadlines,
)
from taskorch.ext.simulation._open._record import end_of
from taskorch.ext.simulation._open._work import OpenWork, known_lengths, open_work
from taskorch.kit.checks import check_seconds
from taskorch.kit.limits import MAX_PRIORITY
from taskorch.kit.visible import show
from taskorch.kit.words import in_words, ns_of, some
from taskorch.model import EndChange, InTime, TimelyChange, WhatIf, quantile, to_units

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

#: The draws for one change; nine in ten are in time if so many at most end too late.
_TRIED: Final = 20
_LATE: Final = 2
#: The draws for the effect of a change on others, each with all open work to its end.
_SEEN: Final = 5
#: The number of other tasks that may have to wait; those with the most work are tried.
_OTHERS: Final = 12
#: The number of workers that are tried beside those that there are.
_WORKERS: Final = 64
#: The number of pairs of changes that are named if no single change is enough.
_PAIRS: Final = 3
#: A smaller difference, in seconds and as a share of the time until then, is chance.
_LEAST: Final = 0.05
_PART: Final = 0.01
_WHOLE: Final = 1_000_000
_NOTHING: Final = Tried()


def what_if(
    rt: Runtime,
    priority: Mapping[str, int],
    pools: Mapping[str, float],
    pause: Iterable[str],
    budget: float,
) -> WhatIf:
    """See `TaskOrchestrator.what_if`."""
    check_seconds("budget", budget, zero=False)
    until = thread_time() + budget
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
        calls.append(_act_of_priority(work, of, places, value).call)
    more: dict[str, int] = {}
    free = dict(work.means.pools)
    for name, amount in _read("pools", pools, dict).items():
        if name not in work.means.totals:
            msg = f"pools: there is no pool {show(name)}"
            raise InvalidTaskError(msg, hint="orch.get_stats() names them")
        if name in _named(work):
            msg = f"pools: the units of {name} have names, and a number says not which"
            raise InvalidTaskError(msg, hint="orch.resources.resize() takes names")
        total = to_units(name, amount)
        more[name] = max(total - work.means.totals[name], -free.get(name, 0))
        calls.append(_act_of_pool(name, total).call)
    suspended: list[int] = []
    for of in paused:
        suspended += _places(rt, work, of)
        calls.append(_act_of_pause(work, of, suspended[-1]).call)
    later = tuple(dict.fromkeys(suspended))
    tried = Tried(priorities, more, later=later)
    ends, draws = _differences(work, tried, until, ())
    unknown: tuple[str, ...] = ()
    if not draws:
        unknown = (f"Not within {in_words(budget)} of processor time.",)
    unknown += work.unforeseen
    return WhatIf(time_of(work.now_ns), tuple(calls), tuple(ends), draws, unknown)


def _read(name: str, said: Any, kind: Callable[[Any], Any]) -> Any:
    """
    Make a dict, or a list, of an argument.

    Raises:
        InvalidTaskError: It cannot be one.
    """
    try:
        return kind(said)
    except Exception as error:
        msg = f"{name} cannot be read: {show(said)}"
        hint = 'what_if(priority={"night": 5}, pools={"gpu": 2}, pause=["reports"])'
        raise InvalidTaskError(msg, hint=hint) from error


def in_time(
    rt: Runtime, orch: Any, of: str, deadline: Deadline, budget: float
) -> InTime:
    """See `TaskOrchestrator.in_time`."""
    check_seconds("budget", budget, zero=False)
    until = thread_time() + budget
    rt.look_up()
    asked = rt.now()
    moment = moment_of(deadline, asked)
    wanted = open_of(rt, of)
    if not wanted:
        msg = f"{of} has ended: it is {end_of(orch, of)[0]}"
        raise InvalidTaskError(msg, hint="orch.when() says when it ended", task_id=of)
    refuse_past(moment, asked)
    work, promise = with_ticks(rt, orch, open_work(rt), of, wanted, moment, budget / 4)
    if promise.deadline is None:
        msg = f"{of} has no deadline: say by when it is to end"
        raise InvalidTaskError(msg, hint="deadline='18:00', or 3600: in an hour")
    if promise.risk is not None and promise.risk * 10 <= 1:
        words = "It ends in time in nine of ten cases: nothing has to change."
        if any(sentence.endswith(FAILS) for sentence in promise.basis):
            words = "It ends in time in nine of ten cases, well or with a failure: "
            words += (
                "nothing has to change for that, and no change here prevents a failure."
            )
        return InTime(promise, unknown=(words,))
    if any(each not in work.places for each in wanted):
        return InTime(promise)
    places = [work.places[each] for each in wanted]
    templates = {each.id: each.type for each in orch.agents.list()}
    search = _Search(
        without_deadlines(work, places),
        of,
        places,
        promise.deadline,
        until,
        {name: kind for name, kind in templates.items() if kind is not None},
    )
    changes = [*search.singles()]
    if not changes:
        changes += islice(search.pairs(), _PAIRS)
    changes.sort(key=_delay)
    unknown = []
    if search.is_late():
        unknown.append(
            f"Not within {in_words(budget)} of processor time: not all was tried."
        )
    elif not changes:
        unknown += _why_none(work, wanted)
    return InTime(promise, tuple(changes), tuple(unknown))


def _why_none(work: OpenWork, wanted: Iterable[str]) -> Iterator[str]:
    """Yield why no change is named; nothing if the promise says it already."""
    if work.holds:
        calls = some([f"orch.release_starts({who!r})" for who in sorted(work.holds)])
        yield f"Starts are on hold: call {calls}, and ask again."
        return
    lengths = known_lengths(work)
    needed = {above for each in wanted for above in work.above(each)}
    if all(lengths[work.places[n]] is not None for n in needed if n in work.places):
        yield (
            "No change is enough, nor two together: no priority of it, no pool however "
            "large, no slots and workers, and no other that waits until it has ended."
        )


def _delay(change: TimelyChange) -> tuple[float, str]:
    """Return the total delay of others, and the call, as a key to sort by."""
    if change.ends is None:
        return float("inf"), change.call
    later = (each.seconds for each in change.ends if each.seconds is not None)
    return sum(seconds for seconds in later if seconds > 0), change.call


@attrs.frozen
class _Knob:
    """A kind of change that is made by more or less: by *step* 1, 2, … up to *most*."""

    kind: str
    most: int
    tried: Callable[[int], Tried]
    act: Callable[[int], _Act]


class _Search:
    """A search for changes with which something ends in time."""

    def __init__(
        self,
        work: OpenWork,
        of: str,
        places: Sequence[int],
        deadline: datetime,
        until: float,
        templates: Mapping[str, str],
    ) -> None:
        self._work = work
        self._of = of
        self._of_run = work.tasks[places[0]].run == of
        self._places = places
        self._deadline_ns = ns_of(deadline)
        self._until = until
        #: The ends that are known, by the change and the draw.
        self._ends: dict[tuple[str, int], int] = {}
        #: By the name of a worker that was spawned, its template.
        self._templates = templates

    def is_late(self) -> bool:
        """Return whether the time for the search is over."""
        return thread_time() >= self._until

    def singles(self) -> Iterator[TimelyChange]:
        """Find the smallest change of each kind that is enough by itself."""
        for knob in self._knobs():
            step = self._least(knob)
            if step:
                yield from self._told(knob.kind, (knob.act(step),), knob.tried(step))
        yield from self._later()

    def pairs(self) -> Iterator[TimelyChange]:
        """Find two changes that are enough together: of both the least that does."""
        for one, other in combinations(self._knobs(), 2):
            first = self._least(one, other.tried(other.most))
            second = self._least(other, one.tried(first)) if first else 0
            if second:
                acts = one.act(first), other.act(second)
                both = one.tried(first) | other.tried(second)
                yield from self._told(f"{one.kind} and {other.kind}", acts, both)

    def _knobs(self) -> Iterator[_Knob]:
        work, places = self._work, self._places
        now = min(work.tasks[place].priority for place in places)
        yield _Knob(
            "priority",
            MAX_PRIORITY - now,
            lambda step: Tried(dict.fromkeys(places, min(now + step, MAX_PRIORITY))),
            lambda step: _act_of_priority(work, self._of, places, now + step),
        )
        named = _named(work)
        asked: dict[str, list[int]] = {}
        for each in work.tasks:
            for name, units in each.spec.resources:
                if name in work.means.totals and name not in named:
                    asked.setdefault(name, []).append(units)
        for name, requests in sorted(asked.items()):
            yield self._pool(name, min(requests), sum(requests))
        yield self._slots()
        kinds: dict[str, str] = {}
        for worker in work.means.workers:
            if worker.name in self._templates:
                kinds.setdefault(self._templates[worker.name], worker.name)
        for kind, name in kinds.items():
            yield self._workers(kind, name)

    def _pool(self, name: str, step: int, most: int) -> _Knob:
        """Return the change of a pool, in steps of the demand of one task."""
        total = self._work.means.totals[name]
        mine = [self._work.tasks[place].spec for place in self._places]
        asked = [dict(s.resources).get(name, 0) for s in mine if s.elastic is None]
        lacking = max(asked, default=0) - total
        # With the first step, the pool is large enough for each of them.
        skipped = lacking - step if lacking > 0 else 0
        return _Knob(
            "pool",
            max(1, -(-most // step)),
            lambda steps: Tried(more={name: skipped + steps * step}),
            lambda steps: _act_of_pool(name, total + skipped + steps * step),
        )

    def _slots(self) -> _Knob:
        """Return the change of slots, up to one for each open task."""
        slots = self._work.means.config.concurrency
        return _Knob(
            "slots",
            max(0, len(self._work.tasks) - slots),
            lambda step: Tried(slots=step),
            lambda step: _Act(f"TaskOrchestrator(concurrency={slots + step})"),
        )

    def _workers(self, template: str, name: str) -> _Knob:
        """Return the change of the number of workers of a template, such as *name*."""
        return _Knob(
            "worker",
            _WORKERS,
            lambda step: Tried(workers={name: step}),
            lambda step: _act_of_workers(template, step),
        )

    def _later(self) -> Iterator[TimelyChange]:
        """Find other tasks that must wait for it, so that it ends in time."""
        work, mine = self._work, {*self._places}
        # Tasks that schedules will make cannot be told to wait yet.
        open_count = len(work.tasks) - work.coming
        above = {
            work.places.get(n)
            for p in self._places
            for n in work.above(work.tasks[p].id)
        }
        groups = {
            name: [p for p in places if not work.tasks[p].worker and p < open_count]
            for name, places in groups_of(work).items()
            if mine.isdisjoint(places) and above.isdisjoint(places)
        }
        most = sorted(groups, key=lambda name: (-len(groups[name]), name))[:_OTHERS]
        for name in most:
            if groups[name] and not self.is_late():
                tried = Tried(later=tuple(groups[name]), until=tuple(self._places))
                if self._is_enough(tried):
                    act = _act_of_pause(work, name, groups[name][0])
                    yield from self._told("later", (act,), tried)

    def _least(self, knob: _Knob, beside: Tried = _NOTHING) -> int:
        """Return the least step that is enough, *beside* another change; 0: none is."""

        def is_enough(step: int) -> bool:
            return self._is_enough(beside | knob.tried(step))

        if knob.most < 1 or not is_enough(knob.most):
            return 0
        low, high = 0, 1
        while high < knob.most and not is_enough(high):
            low, high = high, min(knob.most, 2 * high)
        while high - low > 1:
            middle = (low + high) // 2
            if is_enough(middle):
                high = middle
            else:
                low = middle
        # A step without time for a test counts as too small; then the most is taken.
        return knob.most if self.is_late() else high

    def _is_enough(self, tried: Tried) -> bool:
        """Return whether it ends in time in nine of ten draws."""
        late = 0
        for draw in range(_TRIED):
            if self.is_late():
                return False
            late += self._end(tried, draw) > self._deadline_ns
            if late > _LATE:
                return False
        return True

    def _end(self, tried: Tried, draw: int) -> int:
        """Return the end in a draw, in ns; `NO_END` if the time was over before."""
        key = str(tried), draw
        end = self._ends.get(key)
        if end is None:
            end = NO_END if self.is_late() else self._drawn(tried, draw)
            if not self.is_late():
                self._ends[key] = end
        return end

    def _drawn(self, tried: Tried, draw: int) -> int:
        chance = OpenChance(self._work, f"0/{draw}")
        run = OpenRun(
            self._work, chance, self._places, self.is_late, tried, self._deadline_ns
        )
        run.carry_out()
        return run.last_ns(self._places, of_run=self._of_run)

    def _told(
        self, kind: str, acts: Sequence[_Act], tried: Tried
    ) -> Iterator[TimelyChange]:
        ends = sorted(self._end(tried, draw) for draw in range(_TRIED))
        p90 = quantile(ends, 90)
        if p90 == NO_END:
            # The time was over before the draws were sure.
            return
        own = {self._of, *(self._work.tasks[place].id for place in self._places)}
        others, draws = _differences(self._work, tried, self._until, own)
        changed = tuple([each for each in others if each.seconds != 0])
        ends_then = changed if draws else None
        call = "; ".join(act.call for act in acts)
        requests: tuple[Mapping[str, Any], ...] = ()
        if all(act.requests for act in acts):
            requests = tuple([request for act in acts for request in act.requests])
        yield TimelyChange(kind, call, time_of(p90), ends_then, requests)


# -- effects on others -----------------------------------------------------------------


def groups_of(work: OpenWork) -> dict[str, list[int]]:
    """Return the places of the tasks of each run, and of each single task."""
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(work.tasks):
        groups.setdefault(each.run or each.id, []).append(place)
    return groups


def _differences(
    work: OpenWork, tried: Tried, until: float, without: Collection[str]
) -> tuple[list[EndChange], int]:
    """Return the effect of a change on each run and task, the largest first."""
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
            both.append(
                {
                    name: run.last_ns(places, of_run=work.tasks[places[0]].run == name)
                    for name, places in groups.items()
                }
            )
        pairs.append((both[0], both[1]))
    return _ends_of(work, groups, pairs), len(pairs)


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
    Return the places of the open tasks that *of* stands for.

    Raises:
        UnknownTaskError: There are none.
    """
    places = [work.places[each] for each in open_of(rt, of) if each in work.places]
    if not places:
        msg = f"nothing that is open and goes on by itself has the id {of!r}"
        raise UnknownTaskError(msg, task_id=of)
    return places


def _named(work: OpenWork) -> frozenset[str]:
    """Return the pools whose units have names."""
    return frozenset(name for name, _ in work.means.named)


def _is_run(work: OpenWork, of: str, place: int) -> bool:
    """Return whether *of* is the run of the task at *place*, not the task."""
    return work.tasks[place].run == of


@attrs.frozen
class _Act:
    """The call that makes a change: in a program, and over HTTP if a service can."""

    call: str
    requests: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, call: str, operation: str, subject: str = "", **body: Any) -> _Act:
        """Make an act from a call, and from its equivalent over HTTP."""
        request = {"operation": operation, "subject": subject, "body": body}
        return cls(call, [request])


def _act_of_priority(
    work: OpenWork, of: str, places: Sequence[int], value: int
) -> _Act:
    if _is_run(work, of, places[0]):
        call = f"orch.change_tasks('set_priority', ids='{of}/*', priority={value})"
        change: dict[str, Any] = {
            "action": "set_priority",
            "ids": f"{of}/*",
            "priority": value,
        }
        return _Act.of(call, "change_tasks", **change)
    task_id = work.tasks[places[0]].id
    call = f"orch.set_priority({task_id!r}, {value})"
    return _Act.of(call, "set_priority", task_id, priority=value)


def _act_of_pool(name: str, units: int) -> _Act:
    amount = units / _WHOLE
    whole = int(amount) if amount.is_integer() else amount
    call = f"orch.resources.resize({{{name!r}: {whole!r}}})"
    return _Act.of(call, "resize_resources", resources={name: whole})


def _act_of_workers(template: str, count: int) -> _Act:
    one = _Act.of(f"orch.agents.spawn({template!r})", "spawn_agent", type=template)
    if count == 1:
        return one
    return _Act(f"[{one.call} for _ in range({count})]", [*one.requests] * count)


def _act_of_pause(work: OpenWork, of: str, place: int) -> _Act:
    if _is_run(work, of, place):
        return _Act.of(f"orch.workflows.pause({of!r})", "pause_workflow", of)
    return _Act.of(f"orch.suspend_task({of!r})", "suspend_task", of)
