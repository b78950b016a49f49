"""Shortages in words, with remedies for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final

import attrs

from taskorch.core.kernel import _limits
from taskorch.core.kernel._explain._holders import NAMED, Held, Holders, enough
from taskorch.core.kernel._reservation import length_of
from taskorch.core.kernel._rows import (
    PURSE,
    QUOTA,
    SCOPE,
    WHOLE,
    Shortage,
    ShortageKind,
    TaskRow,
    UnitGroup,
    WindowRow,
    WorkerRow,
    without_quotas,
)
from taskorch.core.kernel._shortages import returning
from taskorch.core.kernel._standing import limits_of, meaning_of, so_many
from taskorch.core.kernel._state import KernelState
from taskorch.core.kernel._units import declared, group_of
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted
from taskorch.kit.words import in_words, some
from taskorch.model import (
    BURST,
    STARTS,
    TASKS,
    Blocker,
    Remedy,
    Resources,
    Units,
    is_label,
)
from taskorch.model.scopes import EVERYTHING

#: The reason why nothing starts, if only the driver can know it.
NOT_STARTED: Final = Blocker(
    "not_started",
    "The orchestrator starts nothing: it is not started, or it stops.",
    remedies=(Remedy("start", "Call orch.start(), or enter `with orch:`."),),
)


class Wording:
    """Explanation of the shortages of *row*, with the tasks that hold the resources."""

    def __init__(
        self, kernel: KernelState, row: TaskRow, now: int, paused: Blocker = NOT_STARTED
    ) -> None:
        self._kernel = kernel
        self._row = row
        self._bucket = row.bucket
        self._now = now
        self._paused = paused
        self._holders = Holders(kernel)

    def of(self, short: Shortage) -> Blocker:
        """Return the sentence on *short* with its values, holders and remedies."""
        return self._BY_KIND[short.kind](self, short)

    # -- reasons that hold for all tasks -------------------------------------------

    def _not_started(self, _: Shortage) -> Blocker:
        return self._paused

    def _slot(self, short: Shortage) -> Blocker:
        kernel, missing = self._kernel, short.missing
        limit = kernel.concurrency
        # A freed slot may go to an attempt that waits to go on, on that worker.
        ends = max(missing, 1 + len(returning(kernel)) + kernel.running - limit)
        held = self._holders_of(None, ends)
        remedies = _free(None, ends, held)
        if limit < kernel.room:
            # The strictest hold is named.
            who, (most, why, _) = min(kernel.holds.items(), key=_most_of)
            detail = words_of_hold(who, most, why)
            remedies += (_end_of_hold(kernel, who),)
        elif limit < kernel.config.concurrency:
            # A larger limit would change nothing, since the system has no more room.
            detail = (
                f"The system has room for {counted(limit, 'attempt')} at once, of "
                f"{kernel.config.concurrency} that may run: see health()."
            )
        else:
            slots = "The one slot is" if limit == 1 else f"All {limit} slots are"
            detail = f"{slots} taken (concurrency={limit})."
            if kernel.running < limit:
                detail = "Attempts that wait to go on take all slots that are free."
            more = limit + missing
            words = f"Allow more in the next run: TaskOrchestrator(concurrency={more})."
            remedies += (Remedy("raise_concurrency", words, amount=more),)
        return Blocker(
            "slot",
            detail,
            *("concurrency", 1, 0, _names(held)),
            agent=_where(short),
            remedies=remedies,
        )

    def _veto(self, short: Shortage) -> Blocker:
        words = (
            "The state machine must allow it; it is asked whenever something changes."
        )
        remedy = Remedy("policy", words, name="state_machine")
        detail = f"The state machine does not let it start: {short.name}."
        return Blocker("veto", detail, remedies=(remedy,))

    def _rules(self, short: Shortage) -> Blocker:
        words = "A waiver must cover it, or the policies must allow it."
        remedy = Remedy("policy", words, (self._row.id,), "governance")
        detail = f"Policies do not let it start: {short.name}."
        return Blocker("policy", detail, "governance", remedies=(remedy,))

    def _nobody(self, short: Shortage) -> Blocker:
        reason = self._bucket.match_reason
        detail = f"No worker can do it{f': {reason}' if reason else ''}."
        return Blocker("capability", detail, short.name, remedies=(self._add_worker(),))

    # -- workers --------------------------------------------------------------------

    def _lost(self, short: Shortage) -> Blocker:
        name = _where(short)
        detail = f"Worker {name} is lost: it is to be heard of again first."
        words = f"Worker {name} must give a sign of life, or join again."
        return self._shut(short, detail, Remedy("agent_back", words, name=name))

    def _draining(self, short: Shortage) -> Blocker:
        name = _where(short)
        detail = (
            f"Worker {name} gets no new work: {self._kernel.workers[name].draining}."
        )
        words = f"Let it have work again: orch.agents.drain({name!r}, on=False)."
        return self._shut(short, detail, Remedy("agent_back", words, name=name))

    def _breaker(self, short: Shortage) -> Blocker:
        name, until = _where(short), None
        what = f" for {short.name}" if short.name else ""
        state = "half-open, and all its probes are under way"
        if short.kind == "breaker open":
            until = max(0, short.until_ns - self._now) / NS
            state = (
                "open, because what it does fails: the next probe is in "
                f"{in_words(until)}"
            )
        detail = f"The breaker of worker {name}{what} is {state}."
        words = f"Wait for a probe on {name} that ends well."
        back = Remedy("wait", words, seconds=until)
        return self._shut(short, detail, back, until=until)

    def _failed_there(self, short: Shortage) -> Blocker:
        detail = (
            f"It has failed on worker {_where(short)}, as most does there: others come "
            "first."
        )
        return self._shut(short, detail)

    def _shut(
        self, short: Shortage, detail: str, *back: Remedy, until: float | None = None
    ) -> Blocker:
        """Explain that the worker of *short* gets no such work, while another may."""
        name = _where(short)
        remedies = (*back, *self._others())
        return Blocker(
            "agent", detail, name, until=until, agent=name, remedies=remedies
        )

    def _busy(self, short: Shortage) -> Blocker:
        worker = short.worker
        assert worker is not None  # noqa: S101 - it is the worker's slots
        detail = (
            f"Worker {worker.name} runs {worker.running} of {worker.limit} already."
        )
        if worker.running < worker.limit:
            detail = (
                f"Attempts that wait to go on take the slots of worker {worker.name}."
            )
        return self._slots_of(short, worker, detail, self._others())

    def _fails(self, short: Shortage) -> Blocker:
        worker, better = short.worker, self._kernel.workers[short.name]
        assert worker is not None  # noqa: S101 - it is the worker that fails
        done = worker.view.performance(self._bucket.spec.type)
        detail = (
            f"Worker {worker.name} has failed {done.failed:,} of "
            f"{done.failed + done.completed:,} such tasks: it waits for worker "
            f"{better.name}, which does better."
        )
        return self._slots_of(short, better, detail)

    def _slots_of(
        self,
        short: Shortage,
        worker: WorkerRow,
        detail: str,
        others: tuple[Remedy, ...] = (),
    ) -> Blocker:
        """Explain that the task waits for slots of *worker*."""
        held = self._holders_of(None, short.missing, worker)
        name = _where(short)
        return Blocker(
            "agent",
            detail,
            *(name, 1, 0, _names(held)),
            agent=name,
            remedies=(*_free(None, short.missing, held), *others),
        )

    def _reservation(self, short: Shortage) -> Blocker:
        first = short.name
        left = (short.until_ns - self._now) / NS if short.until_ns else None
        length = length_of(self._kernel, self._row)
        takes = "nobody knows how long this one takes"
        if length is not None:
            takes = f"this one takes about {in_words(length / NS)}"
        if left is None:
            when = "and nobody knows how long some of what holds it takes"
        elif left <= 0:
            when = "as soon as what holds it ends, which is due"
        else:
            when = f"in about {in_words(left)}; and {takes}"
        detail = (
            f"{first} comes first: what it needs is reserved for it, {when}. This one "
            "passes it only if that does not put it off."
        )
        words = f"It is enough that {first} starts, or ends."
        return Blocker(
            "reservation",
            detail,
            first,
            until=None if left is None else max(0.0, left),
            agent=_where(short),
            remedies=(Remedy("complete", words, (first,)),),
        )

    def _allocator(self, short: Shortage) -> Blocker:
        words = "The allocator must grant it; it is asked whenever something changes."
        remedy = Remedy("policy", words, name="allocator")
        detail = f"The allocator puts it off: {short.name}."
        return Blocker("allocator", detail, agent=_where(short), remedies=(remedy,))

    # -- amounts -------------------------------------------------------------------

    def _too_small(self, short: Shortage) -> Blocker:
        name, need, most = short.name, short.need / 1e6, short.have / 1e6
        place = _limits.place_of(short)
        remedy = _enlarge(name, short.need)
        if place.startswith("on worker") and short.worker is not None:
            own = without_quotas(_limits.wanted(self._bucket, short.worker))
            remedy = self._add_worker(own)
        detail = (
            f"It asks for {need:g} {name}, and the most there is, {place}, is {most:g}."
        )
        if short.need <= short.have:
            detail = f"It asks for {need:g} {name}, which is neither whole units nor a "
            detail += "part of one."
        unknown = _limits.of_no_pool(self._kernel, name)
        if unknown:
            detail = f"It asks for {need:g} {name}, and {unknown.rstrip('?')}."
        return Blocker(
            "resource",
            detail,
            *(name, need, most),
            agent=_where(short),
            remedies=(remedy,) if short.need > short.have else (),
        )

    def _too_little(self, short: Shortage) -> Blocker:
        name, where = short.name, _where(short)
        # More may be in use than there is.
        need, free = short.need / 1e6, max(0, short.have) / 1e6
        pool = short.pool
        worker = short.worker if pool is None else None
        held = self._holders_of(name, short.missing, worker)
        group = group_of(self._kernel, short.worker, name)
        if pool is not None and pool.units is not group:
            group = None
        ends = _free(name, short.missing, held)
        if group is not None:
            ends = self._free_units(group, short.need)
        least = "" if self._bucket.spec.elastic is None else " at the least"
        detail = f"It needs {need:g} {name}{least}, and "
        free_there = f"worker {where} has {free:g} free."
        if group is not None:
            free_there = _free_of_units(
                group, short.need, where if pool is None else ""
            )
        if pool is None:
            return Blocker(
                "agent",
                f"{detail}{free_there}",
                *(where, need, free, _names(held)),
                resource=name,
                agent=where,
                remedies=(*ends, *self._others()),
            )
        room = max(pool.total, short.need)
        if group is None:
            free_there = f"{free:g} of {room / 1e6:g} is free."
            more = _enlarge(name, room + short.missing)
        else:
            more = _enlarge(
                name, declared(self._kernel.pools[name])[0] + max(WHOLE, short.missing)
            )
            words = f"Let there be more units: orch.resources.resize({{{name!r}: "
            words += f"NamedUnits({', '.join([*map(repr, group.units), '…'])})}})."
            more = attrs.evolve(more, detail=words)
        return Blocker(
            "resource",
            f"{detail}{free_there}",
            *(name, need, free, _names(held)),
            agent=where,
            remedies=(*ends, more),
        )

    def _free_units(self, group: UnitGroup, need: int) -> tuple[Remedy, ...]:
        """Suggest the fewest ends that free *need* of the units of *group*."""
        whole = max(need, WHOLE) // WHOLE
        each = min(need, WHOLE)
        ways: list[tuple[str, ...]] = []
        for unit in group.units.values():
            missing = each - (unit.total - unit.used)
            held = self._holders_of(unit.name, missing) if missing > 0 else []
            ways.append(enough(held, missing) if held else ())
        ways = sorted(ways, key=len)[:whole]
        if len(ways) < whole:
            return ()
        ends = tuple(dict.fromkeys(name for way in ways for name in way))
        words = f"It is enough that {some(ends)} end{'s' * (len(ends) == 1)}."
        return (
            (Remedy("free", words, ends, group.resource, need / 1e6),) if ends else ()
        )

    def _quota(self, short: Shortage) -> Blocker:
        pool = self._kernel.pools[short.name]
        kind, who, what = meaning_of(pool)
        used, need = pool.used / 1e6, short.need / 1e6
        detail = (
            f"The quota of {kind} {who!r} is {so_many(pool.total, what)} at once: "
            f"{used:g} is in use, and it needs {need:g}."
        )
        missing = short.need - (max(pool.total, short.need) - pool.used)
        held = self._holders_of(pool.name, missing) if missing > 0 else []
        more = (pool.used + short.need) / 1e6
        raised = _raised(self._kernel, (kind, who), what, more)
        words = f"Raise it: orch.resources.set_quotas({raised})."
        remedy = Remedy("raise_quota", words, name=what, amount=more)
        ends = () if short.is_hopeless else _free(what, missing, held)
        return Blocker(
            "quota",
            detail,
            *(pool.name.removeprefix(QUOTA), need, max(0.0, short.have / 1e6)),
            _names(held),
            agent=_where(short),
            remedies=(*ends, remedy),
        )

    def _budget(self, short: Shortage) -> Blocker:
        """Explain that too little of the budget is left, or that others reserve it."""
        name, _, resource = short.name.removeprefix(PURSE).partition(":")
        pool, left = self._kernel.beside[short.name], max(0.0, short.have / 1e6)
        total, need = pool.total / 1e6, short.need / 1e6
        parts = f"{left:.12g} of {total:.12g} {resource} are left"
        needs = f", and it needs {need:.12g}" if short.need > 1 else ""
        detail = f"Of budget {name!r}, {parts}{needs}."
        more = (pool.total + short.missing) / 1e6
        totals = f"{{{resource!r}: {more:.12g}}}"
        raised = f"orch.resources.raise_budget({name!r}, {totals})"
        words = f"Raise it: {raised}."
        remedy = Remedy("raise_budget", words, name=resource, amount=more)
        held = self._holders_of(short.name, short.missing)
        if held and not short.is_hopeless:
            detail = f"{detail} Others have reserved of it: {some(_names(held))}."
        return Blocker(
            "budget",
            detail,
            *(name, need, left, _names(held)),
            resource=resource,
            remedies=(remedy,),
        )

    def _window(self, short: Shortage) -> Blocker:
        """Explain a closed limit in the words of that limit."""
        window = short.pool
        assert isinstance(window, WindowRow)  # noqa: S101 - see `TimedLimit`
        held = self._holders_of(window.name, max(1, short.missing))
        return window.limit.words(short, self._now, _names(held))

    # -- a budget, as it is written ----------------------------------------------------

    def _scope(self, short: Shortage) -> Blocker:
        """Explain which tasks may write the same paths, and which paths."""
        held = self._holders_of(short.name, short.need)
        ends = enough(held, short.missing)
        names = _names(held)
        others = [f"{name} ({_paths(self._kernel, name)})" for name in names]
        detail = f"It may write {_listed(self._bucket.spec.writes)}, and so may "
        words = f"It is enough that {some(ends)} end{'s' * (len(ends) == 1)}."
        path = short.name.removeprefix(SCOPE) or EVERYTHING
        return Blocker(
            "scope",
            f"{detail}{some(others)}.",
            *(path, 1, 0, names),
            remedies=(Remedy("free", words, ends, path, 1),),
        )

    def _turn(self, short: Shortage) -> Blocker:
        first = short.name
        detail = (
            f"{first} comes first, and both may write the same: it waits for what "
            "others may write."
        )
        words = f"It is enough that {first} starts, or ends."
        remedy = Remedy("complete", words, (first,))
        return Blocker("scope", detail, first, remedies=(remedy,))

    # -- remedies ------------------------------------------------------------------

    def _holders_of(
        self, name: str | None, need: int, worker: WorkerRow | None = None
    ) -> Held:
        """Return holders, and attempts that wait for their slots: see `Holders.of`."""
        held = self._holders.of(name, need, worker)
        if name is None:
            rows = [r for r in returning(self._kernel) if worker in (None, r.worker)]
            held += [(row.id, 1) for row in rows]
        return held

    def _others(self) -> tuple[Remedy, ...]:
        """Suggest another worker, where the registry matches by capabilities."""
        return () if self._bucket.spec.requires is None else (self._add_worker(),)

    def _add_worker(self, capacity: Units | None = None) -> Remedy:
        """Suggest one more worker; *capacity* None stands for what no pool has."""
        spec = self._bucket.spec
        if capacity is None:
            own = any(name not in self._kernel.pools for name, _ in spec.resources)
            capacity = spec.resources if own else ()
        needs = spec.requires or ()
        labels = [need for need in needs if is_label(need)]
        skills = " of any kind, with any capabilities"
        if needs:
            can = [need for need in spec.needs if need not in labels]
            skills = f" with capabilities={{{', '.join(map(repr, can))}}}"
        how = "by @orch.agent(…)"
        if labels:
            how = f"on a machine with {', '.join(labels)}, by `taskorch agent`"
        room = ", ".join(f"{units / 1e6:g} {name}" for name, units in capacity)
        room = f" and a capacity of {room}" if room else ""
        return Remedy(
            "add_agent",
            f"Add a worker{skills}{room}, {how}.",
            capabilities=needs,
            resources=Resources.from_units(capacity),
        )

    #: The method for each kind.
    _BY_KIND: ClassVar[Mapping[ShortageKind, Callable[..., Blocker]]] = {
        "not_started": _not_started,
        "slot": _slot,
        "veto": _veto,
        "rules": _rules,
        "rate": _window,
        "capability": _nobody,
        "lost": _lost,
        "draining": _draining,
        "breaker open": _breaker,
        "breaker half-open": _breaker,
        "failed there": _failed_there,
        "busy": _busy,
        "fails": _fails,
        "reservation": _reservation,
        "allocator": _allocator,
        "too small": _too_small,
        "too little": _too_little,
        "quota": _quota,
        "scope": _scope,
        "turn": _turn,
        "budget": _budget,
        "limit": _window,
    }


def _listed(paths: Iterable[str]) -> str:
    return ", ".join(path or EVERYTHING for path in paths)


def _paths(kernel: KernelState, name: str) -> str:
    """Return the paths that the holder *name* may write, or why it still holds them."""
    row = kernel.tasks.get(name.partition(" ")[0])
    return "it would not stop" if row is None else _listed(row.bucket.spec.writes)


def _where(short: Shortage) -> str:
    return "" if short.worker is None else short.worker.name


def _raised(kernel: KernelState, whose: tuple[str, str], what: str, more: float) -> str:
    """Return the quota of *whose* in code, with *more* of *what*."""
    limits = {n: units / 1e6 for n, units in limits_of(kernel, whose)} | {what: more}
    most, rate, burst = (limits.pop(name, None) for name in (TASKS, STARTS, BURST))
    parts = [f"{whose[0]}={whose[1]!r}"]
    if limits:
        amounts = ", ".join(f"{name!r}: {much:g}" for name, much in limits.items())
        parts.append(f"resources={{{amounts}}}")
    if most is not None:
        parts.append(f"max_parallel={most:g}")
    if rate is not None:
        parts.append(f"{STARTS}={rate:g}, {BURST}={burst:.0f}")
    return f"Quota({', '.join(parts)})"


def _free(name: str | None, units: int, held: Held) -> tuple[Remedy, ...]:
    """Suggest the end of holders that free enough of a resource; None: of slots."""
    ends = enough(held, units)
    if sum(many for _, many in held) < units:
        # The search did not find all holders.
        return ()
    if name is None and units == 1 and len(held) > 1:
        words = f"It is enough that one of {some(_names(held))} ends."
    else:
        words = f"It is enough that {some(ends)} end{'s' * (len(ends) == 1)}."
    amount = units if name is None else units / 1e6
    return (Remedy("free", words, ends, name or "slots", amount),)


def _free_of_units(group: UnitGroup, need: int, worker: str) -> str:
    """Return the free amounts of named units as the end of a sentence."""
    units = list(group.units.values())
    frees = [f"{unit.unit} has {(unit.total - unit.used) / 1e6:g}" for unit in units]
    amounts = f": {some(frees)}." if frees else "."
    at = f" of worker {worker}" if worker else ""
    if need <= WHOLE:
        return f"no unit{at} has so much free{amounts}"
    whole = sum(not unit.used for unit in units)
    free = "1 unit is" if whole == 1 else f"{whole or 'no'} units are"
    return f"{free} wholly free{at and f' on{at[3:]}'}{amounts}"


def _enlarge(name: str, units: int) -> Remedy:
    words = f"Let there be more: orch.resources.resize({{{name!r}: {units / 1e6:g}}})."
    return Remedy("enlarge_pool", words, name=name, amount=units / 1e6)


def _names(held: Held) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, _ in held[:NAMED]))


def _most_of(held: tuple[str, tuple[int, str, bool]]) -> int:
    """Return how many may run under a hold; a hold of all starts sorts last."""
    return held[1][0] or 1 << 30


# -- holds of starts -------------------------------------------------------------------


def words_of_hold(who: str, most: int, why: str) -> str:
    """Return a sentence on who holds starts back, how many may run, and why."""
    # An alert repeats its name in the reason.
    why = why.removeprefix(f"{who}: ")
    if most:
        return f"No more than {most} run at once, held by {who}: {why}."
    return f"Starts are held by {who}: {why}."


def words_of_holds(kernel: KernelState) -> list[str]:
    """Describe all holds, the strictest first."""
    # Reading the health takes no lock, so the mapping may change.
    holds = sorted(kernel.holds.copy().items(), key=lambda each: each[1][0])
    return [words_of_hold(who, most, why) for who, (most, why, _) in holds]


def _end_of_hold(kernel: KernelState, who: str) -> Remedy:
    """Return the call that ends a hold of starts."""
    call = f"orch.release_starts({who!r})."
    _, _, lasts = kernel.holds[who]
    words = f"Call {call}" if lasts else f"It ends by itself, or call {call}"
    return Remedy("release_starts", words, name=who)


def hold_of_starts(kernel: KernelState, *, lasts: bool = False) -> Blocker | None:
    """Explain a hold of all starts, if any; *lasts*: one that outlives a restart."""
    for who, (most, why, outlives) in kernel.holds.items():
        if not most and (outlives or not lasts):
            detail = words_of_hold(who, most, why)
            return Blocker("starts_held", detail, remedies=(_end_of_hold(kernel, who),))
    return None
