"""The forecast of the end of a task or a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from taskorch.core.workflows import Workflow
from taskorch.core.worlds import plan_of
from taskorch.errors import InvalidTaskError, UnknownTaskError, UsageError
from taskorch.ext.simulation._open._course import NO_END
from taskorch.ext.simulation._open._ends import Ends, drawn, each_drawn
from taskorch.ext.simulation._open._record import end_of, recorded
from taskorch.ext.simulation._open._work import (
    OpenWork,
    is_allowed,
    known_lengths,
    open_work,
    with_plan,
)
from taskorch.kit.checks import check_fraction, check_seconds
from taskorch.kit.limits import NS
from taskorch.kit.plain import SCHEDULES
from taskorch.kit.visible import counted, is_text, show
from taskorch.kit.words import in_words, local_moment, ns_of, some
from taskorch.model import TERMINAL, Promise, Task, TaskState, quantile

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

#: Values of `deadline=`: see `TaskOrchestrator.when`.
Deadline: TypeAlias = datetime | str | float | None
#: The end of a sentence on draws in which the task ends badly.
FAILS: Final = "it fails for good, and ends with that."
_SECONDS: Final = re.compile(r"\d{1,12}(\.\d+)?")
_CLOCK: Final = re.compile(r"\d{1,2}:\d\d(:\d\d)?")
#: With fewer draws, no sentence speaks of one case in ten.
_FEWEST: Final = 20
_NOBODY: Final = (
    "Nobody works in this journal now: it is taken as if a program with the slots of "
    "this machine took it up at once."
)
#: The number of types that a sentence names.
_TYPES: Final = 3
#: The number of ticks of schedules that are taken to come, the first ones.
_TICKS: Final = 20
#: The part of the time, one in so many, for a first forecast without ticks.
_PARTS: Final = 4


def promise(
    rt: Runtime, orch: Any, of: object, deadline: Deadline, budget: float
) -> Promise:
    """See `TaskOrchestrator.when`."""
    check_seconds("budget", budget, zero=False)
    rt.look_up()
    asked = rt.now()
    until = moment_of(deadline, asked)
    if not is_text(of):
        name = of.name if isinstance(of, Workflow) else "plan"
        return _of_plan(rt, orch, name, of, asked, until, budget)
    wanted, state = open_of(rt, of), ""
    if wanted and not rt.directory.is_known(of):
        # A run that has failed has ended, though others of its tasks wait for that.
        state = str(orch.workflows.status(of).state)
    if wanted and state not in TERMINAL:
        refuse_past(until, asked)
        _, answer = with_ticks(rt, orch, open_work(rt), of, wanted, until, budget)
        answer = attrs.evolve(answer, state=state or answer.state)
        return recorded(rt, orch, _taken_up(rt, answer))
    try:
        state, ended = end_of(orch, of)
    except UnknownTaskError:
        if of in rt.kernel.kept.get(SCHEDULES, {}):
            return _of_schedule(rt, orch, of, until, budget)
        raise
    answer = Promise(of, state, time_of(rt.now()), ended=ended, deadline=until)
    return recorded(rt, orch, answer)


def _taken_up(rt: Runtime, answer: Promise) -> Promise:
    """Return *answer* with a note, if no orchestrator works there now."""
    if rt.takes_up:
        return answer
    return attrs.evolve(answer, basis=(*answer.basis, _NOBODY))


def _of_schedule(
    rt: Runtime, orch: Any, name: str, until: datetime | None, budget: float
) -> Promise:
    """Forecast the last run of a schedule, or else its next one."""
    running = orch.schedules.status(name).running
    if running:
        return promise(rt, orch, running[-1], until, budget)
    made_id, at, work = orch.schedules.next_work(name)
    return _of_plan(rt, orch, made_id, work, ns_of(at), until, budget)


def _of_plan(
    rt: Runtime,
    orch: Any,
    name: str,
    plan: object,
    begins_ns: int,
    until: datetime | None,
    budget: float,
) -> Promise:
    """Forecast a plan that is not submitted, as if it came at *begins_ns*."""
    refuse_past(until, max(begins_ns, rt.now()))
    work = open_work(rt)
    work, wanted = _planned(rt, orch, work, name, plan, begins_ns)
    _, answer = with_ticks(rt, orch, work, name, wanted, until, budget)
    answer = _taken_up(rt, answer)
    begins = "now"
    if begins_ns > work.now_ns:
        begins = f"at {local_moment(time_of(begins_ns))}"
    basis = (f"It is not submitted yet, and is taken to come {begins}.", *answer.basis)
    return attrs.evolve(answer, state="planned", basis=basis)


def _planned(
    rt: Runtime, orch: Any, work: OpenWork, name: str, plan: object, begins_ns: int
) -> tuple[OpenWork, list[str]]:
    """Add a plan that comes at *begins_ns*; return the work, and the plan's ids."""
    plan = [plan] if isinstance(plan, Task) else plan
    kernel = rt.kernel
    known = (kernel.tasks, kernel.evicted)
    read = plan_of(plan, lambda task_id: any(task_id in each for each in known))
    if not len(read):
        msg = f"{name} has no tasks"
        raise InvalidTaskError(msg, hint="nothing of it would run")
    is_ordered = bool(kernel.deciders.aging_ns)
    outside = {above for others in read.outside.values() for above in others}
    states = {above: _state_outside(rt, orch, above) for above in outside}
    return with_plan(work, read, name, begins_ns, states, is_ordered=is_ordered)


def with_ticks(
    rt: Runtime,
    orch: Any,
    work: OpenWork,
    of: str,
    wanted: Sequence[str],
    until: datetime | None,
    budget: float,
) -> tuple[OpenWork, Promise]:
    """Forecast *of* with the ticks of schedules until then; return the work, too."""
    if not rt.kernel.kept.get(SCHEDULES):
        return work, promise_of(work, of, wanted, until, budget)
    first = promise_of(work, of, wanted, until, budget / _PARTS)
    end = first.p90 or first.p50
    if end is None and not first.not_before:
        return work, first
    # Ticks put the end off, and then more of them come before it.
    more = work if end is None else _coming(rt, orch, work, end + (end - first.at))
    if not more.coming and first.p90 is not None:
        lines = more.unforeseen[len(work.unforeseen) :]
        return more, attrs.evolve(first, basis=(*first.basis, *lines))
    rest = budget * (1 - 1 / _PARTS)
    return more, promise_of(more, of, wanted, until, rest)


def _coming(rt: Runtime, orch: Any, work: OpenWork, until: datetime) -> OpenWork:
    """Add the ticks of schedules until a time, if it is known how long they take."""
    ticks: list[tuple[datetime, str]] = []
    open_places: dict[str, list[int]] = {}
    for place, each in enumerate(work.tasks):
        open_places.setdefault(each.run or each.id, []).append(place)
    before: dict[str, list[int]] = {}
    for status in orch.schedules.list():
        moments = () if status.paused else orch.schedules.next(status.name, _TICKS + 1)
        ticks += [(at, status.name) for at in moments if at <= until]
        if status.overlap == "skip":
            running = [open_places.get(each, []) for each in status.running]
            before[status.name] = [*chain.from_iterable(running)]
    ticks.sort()
    first = len(work.tasks)
    tick_counts: Counter[str] = Counter()
    omitted = [name for _, name in ticks[_TICKS:]]
    skipped: list[tuple[int, Sequence[int], Sequence[int]]] = []
    latest: dict[str, datetime] = {}
    for _, name in ticks[:_TICKS]:
        try:
            made_id, at, plan = orch.schedules.next_work(name, latest.get(name))
            latest[name] = at
            more, ids = _planned(rt, orch, work, made_id, plan, ns_of(at))
        except UsageError:
            omitted.append(name)
            continue
        if None in known_lengths(more, len(work.tasks)):
            omitted.append(name)
        elif made_id in open_places:
            before.get(name, []).extend(open_places[made_id])
        else:
            work = more
            tick_counts[name] += 1
            if name in before:
                places = [more.places[each] for each in ids]
                skipped.append((ns_of(at), places, [*before[name]]))
                before[name] += places
    overlapping = [name for name in tick_counts if name not in before]
    lines = _of_ticks(tick_counts, overlapping, omitted)
    return attrs.evolve(
        work,
        coming=len(work.tasks) - first,
        skipped=skipped,
        unforeseen=(*work.unforeseen, *lines),
    )


def _of_ticks(
    tick_counts: Mapping[str, int], overlapping: Sequence[str], omitted: Sequence[str]
) -> Iterator[str]:
    """Yield which ticks of schedules are simulated, and which are not."""
    if tick_counts:
        names = [f"{name} ({counted(n, 'tick')})" for name, n in tick_counts.items()]
        yield f"Until then, schedules are taken to make: {some(names)}."
    if overlapping:
        yield f"Runs of {some(overlapping)} are taken to go on side by side."
    if omitted:
        yield f"Ticks of {some([*dict.fromkeys(omitted)])} are left out."


def _state_outside(rt: Runtime, orch: Any, task_id: str) -> TaskState:
    """Return the state of an outside parent; an allowed failure counts as done."""
    row = rt.kernel.tasks.get(task_id)
    if row is not None and is_allowed(row):
        return TaskState.COMPLETED
    state: TaskState = orch.get_task_status(task_id).state
    return state


def at_risk(rt: Runtime, least: float, budget: float) -> tuple[Promise, ...]:
    """See `TaskOrchestrator.at_risk`."""
    check_seconds("budget", budget, zero=False)
    check_fraction("least", least)
    rt.look_up()
    with rt.lock:
        deadlines = {
            row.id: row.extra.deadline_ns
            for row in rt.kernel.tasks.values()
            if row.state not in TERMINAL
            and row.extra is not None
            and row.extra.deadline_ns is not None
        }
    if not deadlines:
        return ()
    work = open_work(rt)
    places = [p for p, each in enumerate(work.tasks) if each.deadline_ns is not None]
    free = without_deadlines(work, places)
    draws = [times for times, run in each_drawn(free, places, budget) if not run.is_cut]
    lengths = known_lengths(work)
    promises = [
        _each_of(work, place, draws, budget, is_known=lengths[place] is not None)
        for place in places
    ]
    at = time_of(work.now_ns)
    promises += [
        Promise(
            task_id,
            state.value,
            at,
            deadline=time_of(deadlines[task_id]),
            unknown=(_why(work, task_id),),
        )
        for task_id, state in work.outside.items()
        if task_id in deadlines
    ]
    promises = [each for each in promises if each.risk is None or each.risk >= least]
    return tuple(sorted(promises, key=_likeliest))


def _likeliest(each: Promise) -> tuple[float, float]:
    """Return a key by the risk, then by the deadline; unknown ones come last."""
    due = 0.0 if each.deadline is None else each.deadline.timestamp()
    return (1.0 if each.risk is None else -each.risk, due)


def _each_of(
    work: OpenWork,
    place: int,
    draws: Sequence[Mapping[int, int]],
    budget: float,
    *,
    is_known: bool,
) -> Promise:
    """
    Return the promise for one task, from its ends in these draws.

    Of a task whose duration is not known, the answer says that.
    """
    each, at = work.tasks[place], time_of(work.now_ns)
    state, deadline_ns = _state(work, [each.id]), each.deadline_ns or 0
    deadline, basis = time_of(deadline_ns), work.unforeseen
    unsure = Promise(each.id, state, at, deadline=deadline, basis=basis)
    ends = sorted(times[place] for times in draws)
    if not ends:
        late = f"{_not_within(budget)} there was no time for one draw."
        return attrs.evolve(unsure, unknown=(late,))
    if ends[0] == NO_END:
        why = f"As things stand, it does not end: ask explain({each.id!r})."
        why = why if is_known else _no_length(work, place)
        return attrs.evolve(unsure, draws=len(ends), unknown=(why,))
    p50, p90 = quantile(ends, 50), quantile(ends, 90)
    return attrs.evolve(
        unsure,
        p50=None if p50 == NO_END else time_of(p50),
        p90=None if p90 == NO_END or len(ends) < _FEWEST else time_of(p90),
        risk=sum(end > deadline_ns for end in ends) / len(ends),
        draws=len(ends),
    )


def moment_of(value: Deadline, now: int) -> datetime | None:
    """
    Return the moment that a user gives: see `TaskOrchestrator.when`.

    Raises:
        InvalidTaskError: It is none.
    """
    if value is None:
        return None
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        value = float(value)
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.astimezone()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return time_of(now + int(check_seconds("deadline", value) * NS))
    msg = f"deadline: a time is needed, not {show(value)}"
    hint = "'18:00' is today's, '2026-11-29T18:00' that of another day, 3600 in an hour"
    if not is_text(value):
        raise InvalidTaskError(msg, hint=hint)
    try:
        if _CLOCK.fullmatch(value):
            today = time_of(now).astimezone()
            clock = time.fromisoformat(value.zfill(5))
            return today.replace(
                hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0
            )
        return datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError) as error:
        raise InvalidTaskError(msg, hint=hint) from error


def refuse_past(moment: datetime | None, now: int) -> None:
    """
    Refuse a *moment* before *now*, for tasks that have not ended.

    Raises:
        InvalidTaskError: It is over.
    """
    if moment is not None and ns_of(moment) <= now:
        here = local_moment(time_of(now))
        msg = f"deadline: {local_moment(moment)} is over: it is {here}"
        raise InvalidTaskError(msg, hint="say the day, too: '2026-11-30T06:00'")


def open_of(rt: Runtime, of: str) -> list[str]:
    """Return the open tasks of *of*, which is a task or a run."""
    with rt.lock:
        kernel = rt.kernel
        row = kernel.tasks.get(rt.directory.reruns.latest(of))
        ids = [of] if row is None else [row.id]
        if row is None:
            ids = [*kernel.runs.get(of, ())]
        rows = (kernel.tasks.get(each) for each in ids)
        return [row.id for row in rows if row is not None and row.state not in TERMINAL]


def promise_of(
    work: OpenWork,
    of: str,
    wanted: Sequence[str],
    by: datetime | None,
    budget: float,
) -> Promise:
    """Forecast the end of the last of *wanted*, which are all open."""
    stuck = [each for each in wanted if each not in work.places]
    state, at = _state(work, wanted), time_of(work.now_ns)
    deadline, deadline_ns = _deadline(work, wanted, by)
    if stuck:
        return Promise(
            of, state, at, deadline=deadline, unknown=(_why(work, stuck[0]),)
        )
    places = [work.places[each] for each in wanted]
    of_run = work.tasks[places[0]].run == of
    draws = drawn(without_deadlines(work, places), places, budget, of_run=of_run)
    if draws.is_never:
        why = _why_never(work, [work.tasks[place].id for place in draws.endless])
        return Promise(of, state, at, deadline=deadline, draws=1, unknown=why)
    if not draws.ends:
        attempts = counted(draws.attempts, "attempt")
        late = f"{_not_within(budget)} in the first draw, {attempts} had ended by then."
        reached = time_of(draws.reached_ns)
        return Promise(
            of, state, at, not_before=reached, deadline=deadline, unknown=(late,)
        )
    ends, many = draws.ends, len(draws.ends)
    p50, p90 = quantile(ends, 50), quantile(ends, 90)
    is_enough = many >= _FEWEST
    late = f"{_not_within(budget)} nine of ten cases take {_FEWEST} draws, and there "
    unknown = [] if is_enough else [f"{late}was time for {many}."]
    failures = _failures(draws)
    if p90 == NO_END:
        unknown += failures[:1]
    return Promise(
        of,
        state,
        at,
        p50=None if p50 == NO_END else time_of(p50),
        p90=time_of(p90) if is_enough and p90 != NO_END else None,
        deadline=deadline,
        risk=None if deadline_ns is None else draws.share_after(deadline_ns),
        draws=many,
        unknown=tuple(unknown),
        basis=(*_basis(work, places), *failures),
    )


def time_of(ns: int) -> datetime:
    """Return the moment *ns* after the epoch."""
    return datetime.fromtimestamp(ns / NS, UTC)


def _not_within(budget: float) -> str:
    return f"Not within {in_words(budget)} of processor time:"


def _state(work: OpenWork, wanted: Sequence[str]) -> str:
    if len(wanted) > 1 or wanted[0] in work.places:
        is_begun = any(
            work.tasks[work.places[each]].worker
            for each in wanted
            if each in work.places
        )
        return "running" if is_begun else "waiting"
    return work.outside[wanted[0]].value


def _deadline(
    work: OpenWork, wanted: Sequence[str], by: datetime | None
) -> tuple[datetime | None, int | None]:
    """Return the time that is asked about, or else the deadline."""
    if by is not None:
        return by, ns_of(by)
    deadlines = [
        each.deadline_ns
        for each in (work.tasks[work.places[w]] for w in wanted if w in work.places)
        if each.deadline_ns is not None
    ]
    if not deadlines:
        return None, None
    return time_of(max(deadlines)), max(deadlines)


def without_deadlines(work: OpenWork, places: Collection[int]) -> OpenWork:
    """Return the same work, but tasks at *places* ignore their deadlines."""
    if not any(work.tasks[place].deadline_ns is not None for place in places):
        return work
    tasks = [*work.tasks]
    for place in places:
        tasks[place] = tasks[place]._replace(deadline_ns=None)
    return attrs.evolve(work, tasks=tasks)


# -- the sources of a forecast, and the reasons for none -------------------------------


def _basis(work: OpenWork, places: Collection[int]) -> tuple[str, ...]:
    kinds = dict.fromkeys(work.tasks[place].spec.type for place in places)
    words = []
    for kind in [*kinds][:_TYPES]:
        measured = work.measured.get(kind)
        if measured:
            p50, p90 = quantile(measured, 50) / NS, quantile(measured, 90) / NS
            words.append(
                f"{kind} took {in_words(p50)}, and {in_words(p90)} in nine of ten "
                f"cases ({len(measured):,} ended{_failed_of(work, kind)})"
            )
    lines = [f"It rests on what was measured: {'; '.join(words)}."] if words else []
    expected = [kind for kind in kinds if not work.measured.get(kind)]
    if expected:
        lines.append(f"Of {some(expected)}, it is taken what their users expect.")
    before = len(work.tasks) - len(places) - work.coming
    if before:
        new = "nothing else" if work.coming else "nothing new"
        lines.append(
            f"{counted(before, 'other task')} {'is' if before == 1 else 'are'} open, "
            f"and {new} is taken to come."
        )
    blank = {
        each.spec.type
        for each, lengths in zip(work.tasks, known_lengths(work), strict=True)
        if lengths is None and not each.inside
    }
    if blank:
        lines.append(
            f"Of {some(sorted(blank))} none has ended yet: those that are open are "
            "taken to keep what they hold."
        )
    return (*lines, *work.unforeseen)


def _failed_of(work: OpenWork, kind: str) -> str:
    """Return how many attempts of a type have failed, as the end of a clause."""
    failing = work.failing.get(kind)
    if failing is None or not failing.lengths:
        return ""
    last = sum(not retried for _, retried in failing.tries)
    words = f", and {counted(len(failing.lengths), 'attempt')} failed"
    return f"{words}, {last:,} without another try" if last else words


def _failures(draws: Ends) -> tuple[str, ...]:
    """Return in how many draws it fails, or does not end, and why, if any."""
    many = counted(len(draws.ends), "draw")
    lost = f"In {draws.lost} of {many} it does not end: what it needs fails for good."
    failed = f"In {draws.failed} of {many} {FAILS}"
    faulty = f"In {draws.faulty} of {many} a policy raises an error, such as the retry "
    faulty += "handler about a simulated failure: a task fails with that."
    words = ((draws.lost, lost), (draws.failed, failed), (draws.faulty, faulty))
    return tuple([sentence for number, sentence in words if number])


def _why_never(work: OpenWork, wanted: Sequence[str]) -> tuple[str, ...]:
    lengths = known_lengths(work)
    for task_id in wanted:
        for above in work.above(task_id):
            place = work.places.get(above)
            if place is None and above in work.outside:
                how = _how(work, above)
                return (f"{task_id} waits for {above}, which {how}.",)
            if place is not None and lengths[place] is None:
                return (_no_length(work, place),)
    if work.holds:
        who = some(sorted(work.holds))
        return (f"Starts are held back by {who}, and nobody knows until when.",)
    blank = [place for place, each in enumerate(lengths) if each is None]
    if blank:
        return (_no_length(work, blank[0]), "Such tasks come before it.")
    return (f"As things stand, {wanted[0]} never starts: ask explain({wanted[0]!r}).",)


def _no_length(work: OpenWork, place: int) -> str:
    each = work.tasks[place]
    if each.inside:
        return f"{each.id} waits for {each.inside}, which {_how(work, each.inside)}."
    kind = each.spec.type
    words = "and no `expected` says how long one takes"
    return f"No task of type {kind} has ended yet, {words}."


def _why(work: OpenWork, task_id: str) -> str:
    words = f"and nobody knows until when: ask explain({task_id!r})"
    return f"{task_id} {_how(work, task_id)}, {words}."


def _how(work: OpenWork, task_id: str) -> str:
    """Return why a task does not go on by itself, as the end of a sentence."""
    return work.why.get(task_id) or f"is {work.outside[task_id].value}"
