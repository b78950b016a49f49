"""When a task or a run ends: the question, and its answer."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_seconds
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted, show
from taskorch.kit.words import in_words, local_moment, ns_of, some
from taskorch.model import TERMINAL, Promise, quantile
from taskorch.simulation._open._ends import NO_END, drawn
from taskorch.simulation._open._record import end_of, recorded
from taskorch.simulation._open._work import OpenWork, known_lengths, open_work

if TYPE_CHECKING:
    from taskorch.runtime import Runtime

#: What `deadline=` may be: see `TaskOrchestrator.when`.
Deadline: TypeAlias = datetime | str | float | None
_SECONDS: Final = re.compile(r"\d{1,12}(\.\d+)?")
_CLOCK: Final = re.compile(r"\d{1,2}:\d\d(:\d\d)?")
#: Draws without which nothing is said of one case in ten.
_FEWEST: Final = 20
_NOBODY: Final = (
    "Nobody works in this journal now: it is taken as if a program with the slots of "
    "this machine took it up at once."
)
#: Types that a sentence names.
_TYPES: Final = 3


def promise(
    rt: Runtime, orch: Any, of: str, deadline: Deadline, budget: float
) -> Promise:
    """See `TaskOrchestrator.when`."""
    check_seconds("budget", budget, zero=False)
    rt.look_up()
    asked = rt.now()
    until = moment_of(deadline, asked)
    wanted = open_of(rt, of)
    if wanted:
        refuse_past(until, asked)
        answer = promise_of(open_work(rt), of, wanted, until, budget)
        if not rt.takes_up:
            answer = attrs.evolve(answer, basis=(*answer.basis, _NOBODY))
    else:
        state, ended = end_of(orch, of)
        answer = Promise(of, state, time_of(rt.now()), ended=ended, deadline=until)
    return recorded(rt, orch, answer)


def moment_of(value: Deadline, now: int) -> datetime | None:
    """
    A moment, as a user says it: see `TaskOrchestrator.when`.

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
    if not isinstance(value, str):
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
    Refuse a *moment* for what has not ended by *now*, when it was asked.

    Raises:
        InvalidTaskError: It is over.
    """
    if moment is not None and ns_of(moment) <= now:
        here = local_moment(time_of(now))
        msg = f"deadline: {local_moment(moment)} is over: it is {here}"
        raise InvalidTaskError(msg, hint="say the day, too: '2026-11-30T06:00'")


def open_of(rt: Runtime, of: str) -> list[str]:
    """The open tasks that *of* stands for, which is a task or a run."""
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
    """When the last of *wanted* ends, all of which are open."""
    stuck = [each for each in wanted if each not in work.places]
    state, at = _state(work, wanted), time_of(work.now_ns)
    deadline, deadline_ns = _deadline(work, wanted, by)
    if stuck:
        return Promise(
            of, state, at, deadline=deadline, unknown=(_why(work, stuck[0]),)
        )
    places = [work.places[each] for each in wanted]
    draws = drawn(without_deadlines(work, places), places, budget)
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
    return Promise(
        of,
        state,
        at,
        p50=None if p50 == NO_END else time_of(p50),
        p90=time_of(p90) if is_enough and p90 != NO_END else None,
        deadline=deadline,
        risk=None if deadline_ns is None else draws.share_after(deadline_ns),
        draws=many,
        unknown=() if is_enough else (f"{late}was time for {many}.",),
        basis=_basis(work, places),
    )


def time_of(ns: int) -> datetime:
    """The moment *ns* after the epoch."""
    return datetime.fromtimestamp(ns / NS, UTC)


def _not_within(budget: float) -> str:
    return f"Not within {in_words(budget)} of processor time:"


def _state(work: OpenWork, wanted: Sequence[str]) -> str:
    if len(wanted) > 1 or wanted[0] in work.places:
        is_begun = any(
            work.tasks[work.places[each]].agent
            for each in wanted
            if each in work.places
        )
        return "running" if is_begun else "waiting"
    return work.outside[wanted[0]].value


def _deadline(
    work: OpenWork, wanted: Sequence[str], by: datetime | None
) -> tuple[datetime | None, int | None]:
    """The time that is asked about, or else the deadline that it has."""
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
    """The same, but those at *places* go on when their deadline is over."""
    if not any(work.tasks[place].deadline_ns is not None for place in places):
        return work
    tasks = [*work.tasks]
    for place in places:
        tasks[place] = attrs.evolve(tasks[place], deadline_ns=None)
    return attrs.evolve(work, tasks=tasks)


# -- what it rests on, and why nobody knows --------------------------------------------


def _basis(work: OpenWork, places: Collection[int]) -> tuple[str, ...]:
    kinds = dict.fromkeys(work.tasks[place].spec.type for place in places)
    words = []
    for kind in [*kinds][:_TYPES]:
        measured = work.measured.get(kind)
        if measured:
            p50, p90 = quantile(measured, 50) / NS, quantile(measured, 90) / NS
            words.append(
                f"{kind} took {in_words(p50)}, and {in_words(p90)} in nine of ten "
                f"cases ({len(measured):,} ended)"
            )
    lines = [f"It rests on what was measured: {'; '.join(words)}."] if words else []
    expected = [kind for kind in kinds if not work.measured.get(kind)]
    if expected:
        lines.append(f"Of {some(expected)}, it is taken what their users expect.")
    before = len(work.tasks) - len(places)
    if before:
        lines.append(
            f"{counted(before, 'other task')} {'is' if before == 1 else 'are'} open, "
            "and nothing new is taken to come."
        )
    blank = {
        each.spec.type
        for each, lengths in zip(work.tasks, known_lengths(work), strict=True)
        if lengths is None
    }
    if blank:
        lines.append(
            f"Of {some(sorted(blank))} none has ended yet: those that are open are "
            "taken to keep what they hold."
        )
    return tuple(lines)


def _why_never(work: OpenWork, wanted: Sequence[str]) -> tuple[str, ...]:
    lengths = known_lengths(work)
    for task_id in wanted:
        for above in work.above(task_id):
            place = work.places.get(above)
            if place is None and above in work.outside:
                state = work.outside[above].value
                return (f"{task_id} waits for {above}, which is {state}.",)
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
    kind = work.tasks[place].spec.type
    words = "and no `expected` says how long one takes"
    return f"No task of type {kind} has ended yet, {words}."


def _why(work: OpenWork, task_id: str) -> str:
    state = work.outside[task_id].value
    words = f"and nobody knows until when: ask explain({task_id!r})"
    return f"{task_id} is {state}, {words}."
