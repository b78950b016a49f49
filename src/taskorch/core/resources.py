"""`orch.resources`: the pools, their holders, and allocations by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from taskorch.core.engine import HYSTERESIS, Latch, with_gpus_found
from taskorch.core.kernel import (
    QUOTA,
    AllocationRow,
    Claim,
    holders_of,
    limits_of,
    pool_shortage,
)
from taskorch.errors import (
    AllocationError,
    InvalidTaskError,
    NotRunningError,
    ResourcesTakenError,
    UnsatisfiableError,
    WouldBlockError,
)
from taskorch.kit.checks import (
    built_in,
    check_exact,
    check_fraction,
    check_seconds,
    to_seconds,
)
from taskorch.kit.frozen import ReadOnly, document_of
from taskorch.kit.limits import NS
from taskorch.kit.verbs import (
    FLAG,
    FOR_PROGRAMS,
    ID,
    SECONDS,
    TEXT,
    lacks,
    listed,
    verb,
)
from taskorch.kit.visible import is_text, show
from taskorch.model import (
    TASKS,
    BudgetUsage,
    PoolUsage,
    Quota,
    QuotaUsage,
    Resources,
    Units,
)
from taskorch.model.ids import check_id

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

_SCALE: Final = 1_000_000
_AMOUNTS: Final = {"type": "object", "additionalProperties": {"type": "number"}}
#: A quota, as `Quota.to_dict` writes it.
_QUOTA: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **dict.fromkeys(("type", "owner", "workflow"), TEXT),
        "resources": _AMOUNTS,
        "max_parallel": {"type": ["integer", "null"], "minimum": 0},
        "starts_per_second": {"type": ["number", "null"]},
        "burst": {"type": "integer", "minimum": 1},
        "soft": FLAG,
    },
}
#: The key for named units in a document.
_UNITS: Final = (
    {
        "type": "object",
        "required": ["named"],
        "additionalProperties": False,
        "properties": {"named": {"type": "array", "items": {"type": "string"}}},
    },
    {"const": "found"},
)
#: The seconds after which a wait checks whether the orchestrator has ended.
_SLICE: Final = 1.0


class HeldResources:
    """
    An allocation that a program has taken from the pools, until it is released.

    It is a context manager: at the end of the block it is released, unless it was.

    Attributes:
        id: Its id.
        owner: Its owner.
        resources: The held resources.
        since: When it was granted, in UTC.
    """

    def __init__(self, manager: ResourceManager, row: AllocationRow) -> None:
        self._manager = manager
        self.id: str = row.id
        self.owner: str = row.owner
        self.resources: Resources = Resources.from_units(row.units)
        self.since: datetime = datetime.fromtimestamp(row.since_ns / NS, UTC)

    def release(self) -> None:
        """
        Release the allocation.

        Raises:
            AllocationError: That was done before.
        """
        self._manager.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._manager._is_held(self.id):
            with self._manager._rt.patience():
                self.release()

    def to_dict(self) -> dict[str, Any]:
        """Return it as a document."""
        return document_of(self, "id", "owner", "resources", "since")

    def __repr__(self) -> str:
        inner = f"{self.id!r}, owner={self.owner!r}, {dict(self.resources)}"
        return f"<HeldResources {inner}>"


class _Patience:
    """A wait for an allocation; called when the allocation is granted."""

    def __init__(self) -> None:
        self.latch = Latch()
        self.is_over = False

    def __call__(self) -> None:
        self.latch.set()

    def end(self) -> None:
        """End the wait without an allocation."""
        self.is_over = True
        self.latch.set()


class ResourceManager:
    """
    `orch.resources`: changes the pools, says who has what, and takes from them by hand.

    An allocation by hand counts like the resources of a task. It is taken whole or not
    at all, before any task that waits, and is an event: an orchestrator with a journal
    has it in its next incarnation, until it is released.

    A smaller request may pass a larger one that waits. Over HTTP a request that would
    wait is refused (409): ask again with the same `id`. The events `ResourcesAllocated`
    and `ResourcesReleased` are the ledger, with the use before. Totals in events are in
    millionths.
    """

    def __init__(
        self,
        # Any keeps the runtime out of the public type.
        runtime: Any,
    ) -> None:
        self._rt: Runtime = runtime

    @verb(
        "Set the totals of the named resources; a new name makes a new pool.",
        "journal",
        "POST /resources/resize",
        operation="resize_resources",
        gives="resources",
        refuses=(422,),
        forms={
            "resources": {
                "type": "object",
                "additionalProperties": {"anyOf": [{"type": "number"}, *_UNITS]},
            }
        },
        command="resize RESOURCES: set how much there is of resource pools",
        needs="administer",
    )
    def resize(self, resources: Resources | Mapping[str, Any]) -> None:
        """
        Set the totals of the named resources; a new name makes a new pool.

        Nothing is taken from anybody. If a pool is smaller than the amount that is held
        of it, nothing is granted until enough has been given back; tasks that ask for
        more than the pool has now go on waiting, and `explain` says so.

        Args:
            resources: The new totals; the other pools stay as they are. Of a pool whose
                units have names, that are names: see `NamedUnits`. `{"gpu": "found"}`
                looks for GPUs again.

        Raises:
            InvalidTaskError: They are no resources; or an amount of units with names.
        """
        pools = Resources.of(with_gpus_found(resources), named=True)
        totals = pools.totals()
        for name, _ in totals:
            if name.startswith(QUOTA):
                msg = f"resource {name!r}: no pool has a name that begins so"
                raise InvalidTaskError(msg, hint="set_quotas() sets quotas")
        rt = self._rt
        self._refuse_nameless(pools)

        def change(now: int) -> None:
            rt.kernel.change_pools(totals, now, named=pools.unit_names)

        rt.declare(lambda: rt.step(change, keep=True))

    def _refuse_nameless(self, pools: Resources) -> None:
        """
        Refuse an amount of what has units with names.

        Raises:
            InvalidTaskError: Which units there would be, nobody could say.
        """
        named = dict(pools.unit_names)
        for name, amount in pools.items():
            pool = self._rt.kernel.pools.get(name)
            group = None if pool is None else pool.units
            if group is not None and name not in named:
                names = ", ".join(map(repr, group.units))
                msg = f"the units of {name} have names: {names}"
                msg += f"; which are there, {amount:g} does not say"
                hint = f"resize({{{name!r}: NamedUnits({names})}}) names them"
                raise InvalidTaskError(msg, hint=hint)

    @verb(
        "The use of each resource pool.",
        "journal",
        lacks=lacks("`GET /resources` has it", "`inspect` shows it"),
    )
    def usage(self, *, holders: bool = False) -> Mapping[str, PoolUsage]:
        """
        How much of each pool is in use, all of one instant.

        Args:
            holders: Whether to say who holds how much: that takes a look at what is in
                memory, for each pool.
        """
        rt = self._rt
        rt.look_up()
        by_pool: dict[str, PoolUsage] = {}
        with rt.lock:
            for name, pool in rt.kernel.pools.items():
                if pool.is_quota:
                    continue
                held = holders_of(rt.kernel, name) if holders and pool.used else []
                by_pool[name] = PoolUsage(
                    pool.total / _SCALE,
                    pool.used / _SCALE,
                    ReadOnly({who: units / _SCALE for who, units in held}),
                    ReadOnly({} if pool.units is None else pool.units.held()),
                )
        return ReadOnly(by_pool)

    @verb(
        "Set limits of all tasks of a type, a run or a tenant.",
        "journal",
        "POST /quotas",
        gives="quotas",
        refuses=(422,),
        forms={"quotas": listed(_QUOTA)},
        lacks=lacks(command="a program, or HTTP, sets them"),
        needs="administer",
    )
    def set_quotas(self, *quotas: Quota | Mapping[str, Any]) -> None:
        """
        Say how much all tasks of a type, a run or a tenant may have; from now on.

        Or how many of them may start in a second. Nothing is taken from anybody: where
        more is in use already, nothing new is granted until enough has been given back.
        Of a soft one, it is granted when nobody within theirs can use what is free;
        `QuotaExceeded` is said when that happens, and `QuotaRelieved` when less than
        0.9 of the quota is in use again.

        Args:
            quotas: Each takes the place of the one that there was for the same type,
                run or tenant, as soft as it is; one without limits lifts it. The others
                stay. A mapping of its attributes will do.

        Raises:
            InvalidTaskError: Something is no quota; then none is set.
        """
        wanted = [Quota.of(quota) for quota in quotas]
        changes = [(*quota.subject, quota.limits) for quota in wanted]
        rt = self._rt

        def change(now: int) -> None:
            rt.kernel.change_quotas(changes, now)

        rt.declare(lambda: rt.step(change, keep=True))

    @verb(
        "The quotas, and how much of each is in use.",
        "journal",
        lacks=lacks("`GET /resources` has it", "`inspect` shows it"),
    )
    def quotas(self) -> list[QuotaUsage]:
        """The quotas, and how much of each is in use, all of one instant."""
        rt = self._rt
        rt.look_up()
        usages = []
        with rt.lock:
            kernel = rt.kernel
            for whose, bounds in kernel.quotas.items():
                used = {resource: kernel.pools[name].used for name, resource in bounds}
                quota = Quota.of_limits(whose, limits_of(kernel, whose))
                running = used.pop(TASKS, 0) // _SCALE
                amounts = {resource: units / _SCALE for resource, units in used.items()}
                usages.append(QuotaUsage(quota, Resources(**amounts), running))
        return usages

    @verb(
        "The budgets, with what is spent, reserved and left.",
        "journal",
        "GET /budgets",
        gives="budgets",
        command="budgets: show how much of budgets is spent and left",
    )
    def budgets(self) -> list[BudgetUsage]:
        """Return the budgets, with spent and reserved amounts of one instant."""
        rt = self._rt
        rt.look_up()
        if not rt.kernel.budgets:
            return []
        usage_of = built_in("budgets._budget", "a budget").usage_of
        with rt.lock:
            kernel = rt.kernel
            return [usage_of(kernel, row) for row in kernel.budgets.values()]

    @verb(
        "Set how much there is of a budget in all.",
        "journal",
        "POST /budgets/{name}",
        gives="budget",
        refuses=(404, 422),
        forms={
            "totals": {"type": "object", "additionalProperties": {"type": "number"}}
        },
        command="raise-budget NAME TOTALS: set how much there is of a budget",
    )
    def raise_budget(self, name: str, totals: Mapping[str, float]) -> BudgetUsage:
        """
        Set how much there is of a budget in all; other amounts stay.

        The result is the usage of the budget after the change.

        Tasks that wait for it go on. Less is allowed: spent amounts stay spent. A
        budget that is declared again, as a program does after a restart, keeps this.

        Args:
            name: The budget.
            totals: How much there is, by resource: `{"tokens": 300000}`.

        Raises:
            InvalidTaskError: There is no such budget, or an amount is invalid.
        """
        budgets = built_in("budgets._budget", "raise_budget()")
        usage: BudgetUsage = budgets.change(self._rt, name, totals)
        return usage

    @verb(
        "Set the share of a pool above which it counts as saturated.",
        "journal",
        lacks=FOR_PROGRAMS,
    )
    def set_saturation(self, threshold: float, relief: float | None = None) -> None:
        """
        Set the share of a pool above which it counts as saturated: 0.85 by default.

        Then there is the event `PoolSaturated`, once; and `PoolRelieved` when less than
        *relief* is in use. Both are said while somebody listens, and not of limits of
        phases, nor of quotas.

        Args:
            threshold: The share, above 0 and up to 1.
            relief: The share below which it is relieved; None is 0.1 less.

        Raises:
            InvalidTaskError: They are no such shares.
        """
        check_fraction("threshold", threshold)
        if relief is not None:
            check_fraction("relief", relief)
        high = float(threshold)
        low = max(0.0, high - HYSTERESIS) if relief is None else float(relief)
        if not low < high:
            msg = f"relief is {low:g}, and has to be below the threshold, {high:g}"
            raise InvalidTaskError(msg)
        saturation = self._rt.saturation

        def change(_now: int) -> None:
            saturation.threshold, saturation.relief = high, low

        self._rt.declare(lambda: self._rt.step(change))

    @verb(
        "Take from the pools by hand.",
        "thread",
        "POST /resources/allocations",
        operation="allocate_resources",
        status=201,
        refuses=(409, 422),
        forms={"resources": _AMOUNTS, "id": ID},
        apart=("timeout",),
        lacks=lacks(command="a program, or HTTP, takes them"),
    )
    def allocate(
        self,
        resources: Resources | Mapping[str, float],
        *,
        owner: str,
        timeout: float | timedelta | None = 0.0,
        id: str | None = None,  # noqa: A002 - as Task calls it
    ) -> HeldResources:
        """
        Take from the pools by hand.

        Args:
            resources: The resources to take, all or nothing.
            owner: Its owner: only with this name it is released again.
            timeout: Seconds, or a timedelta, to wait until it is free; 0 is not to
                wait, None is for ever. Those who wait are served in the order in which
                they came, before tasks.
            id: A name for it, so that a script that is run again has it again: if the
                same tenant holds the same under this id, that is the answer.

        Raises:
            UnsatisfiableError: There is not so much, in use or not.
            ResourcesTakenError: There is, and others hold it; or it was not free in
                time.
            AllocationError: There is another one of this id.
            InvalidTaskError: Something is not well formed.
            WouldBlockError: The caller runs on the event loop, and would wait.
            NotRunningError: The orchestrator has stopped.
        """
        return self._obtain(self._claim(resources, owner, id), timeout)

    def _claim(
        self,
        resources: Resources | Mapping[str, float],
        tenant: str,
        allocation_id: str | None,
    ) -> Claim:
        """Return the claim that `allocate` is to obtain."""
        return Claim(
            self._rt.new_id() if allocation_id is None else check_id(allocation_id),
            _check_tenant(tenant),
            _check_wanted(resources),
            _Patience(),
        )

    def _obtain(self, claim: Claim, timeout: float | timedelta | None) -> HeldResources:
        """Allocate, as for `allocate`, with a wait that may be ended from elsewhere."""
        rt = self._rt
        seconds: float | None = to_seconds(timeout)
        if seconds is not None:
            seconds = check_seconds("timeout", seconds)
        rt.step(lambda now: self._try(claim, now, waits=seconds != 0), keep=True)
        if claim.granted is None:
            self._wait(claim, claim.cargo, seconds)
        granted = claim.granted
        assert granted is not None  # noqa: S101 - else it was refused
        return HeldResources(self, granted)

    @verb(
        "Release an allocation.",
        "journal",
        "POST /resources/allocations/{allocation_id}/release",
        operation="release_resources",
        gives="allocation_id",
        refuses=(404, 409, 422),
        keys={"allocation": "allocation_id"},
        forms={"allocation": ID, "owner": TEXT},
        lacks=lacks(command="a program, or HTTP, releases it"),
    )
    def release(
        self, allocation: HeldResources | str, *, owner: str | None = None
    ) -> None:
        """
        Release an allocation.

        Args:
            allocation: The result of `allocate`, or its id.
            owner: Its owner; needed with an id.

        Raises:
            AllocationError: It was released before, or it is somebody else's.
            InvalidTaskError: Something is not well formed.
        """
        if isinstance(allocation, HeldResources):
            allocation_id = allocation.id
            owner = allocation.owner if owner is None else owner
        else:
            allocation_id = check_id(allocation)
        who = _check_tenant(owner)

        def change(now: int) -> None:
            row = self._rt.kernel.allocations.get(allocation_id)
            if row is None:
                msg = f"there is no allocation {allocation_id!r}"
                raise AllocationError(
                    msg,
                    allocation_id=allocation_id,
                    hint="it was released before, or never made: "
                    "orch.resources.allocations() lists those that are there",
                )
            if row.owner != who:
                msg = (
                    f"allocation {allocation_id!r} is of {row.owner!r}, not of {who!r}"
                )
                raise AllocationError(msg, allocation_id=allocation_id, owner=row.owner)
            self._rt.kernel.release_allocation(row, now)

        self._rt.step(change, keep=True)

    @verb(
        "Allocations by hand, the oldest first.",
        "journal",
        "GET /resources/allocations",
        gives="allocations",
        refuses=(422,),
        forms={"older_than": SECONDS},
        lacks=lacks(command="`inspect` shows it"),
    )
    def allocations(
        self,
        *,
        owner: str | None = None,
        older_than: float | timedelta | None = None,
    ) -> list[HeldResources]:
        """
        Allocations by hand, the oldest first.

        Args:
            owner: Only allocations of this owner; None is everybody's.
            older_than: Only allocations that are older than so many seconds.

        Raises:
            InvalidTaskError: *owner* is no exact name, or *older_than* no seconds.
        """
        rt = self._rt
        rt.look_up()
        if owner is not None:
            check_exact("owner", _check_tenant(owner), "name one; without owner=, all")
        least = 0.0
        if older_than is not None:
            least = check_seconds("older_than", to_seconds(older_than))
        with rt.lock:
            until = rt.now() - int(least * NS)
            return [
                HeldResources(self, row)
                for row in rt.kernel.allocations.values()
                if owner in (None, row.owner) and row.since_ns <= until
            ]

    # -- under the lock ------------------------------------------------------------

    def _try(self, claim: Claim, now: int, *, waits: bool) -> None:
        """
        Grant *claim*, or add it to the waiting ones.

        Raises:
            UsageError: It is refused.
        """
        kernel = self._rt.kernel
        self._rt.refuse_submission()
        allocation = kernel.allocations.get(claim.id)
        if allocation is not None:
            if (allocation.owner, allocation.units) != (claim.owner, claim.units):
                holds = dict(Resources.from_units(allocation.units))
                msg = (
                    f"there is an allocation {claim.id!r} already: "
                    f"{allocation.owner!r} holds {holds}"
                )
                raise AllocationError(
                    msg, allocation_id=claim.id, owner=allocation.owner
                )
            claim.granted = allocation
            return
        for name, units in claim.units:
            pool = kernel.pools.get(name)
            if pool is None or units > pool.total:
                _refuse_more(name, units, 0 if pool is None else pool.total)
        if kernel.allocate(claim, now):
            return
        if not waits:
            self._refuse(claim)
        kernel.await_allocation(claim)

    def _refuse(self, claim: Claim, hint: str | None = None) -> NoReturn:
        """Raise a `ResourcesTakenError` that names the scarce resources."""
        kernel = self._rt.kernel
        short = pool_shortage(kernel, kernel.claimed(claim))
        # The scarce amount may have become free a moment too late.
        pool_name, units = claim.units[0] if short is None else (short.name, short.need)
        pool = kernel.pools[pool_name]
        free = max(0, pool.total - pool.used) / _SCALE
        who = tuple(holder for holder, _ in holders_of(kernel, pool_name))
        name = pool_name.rpartition(":")[2] if pool.is_quota else pool_name
        whose = f" of the quota of {claim.owner!r}" if pool.is_quota else ""
        msg = f"{units / _SCALE:g} {name} was asked for, and {free:g} of "
        msg += f"{pool.total / _SCALE:g}{whose} is free"
        raise ResourcesTakenError(
            msg, hint=hint, resource=name, need=units / _SCALE, free=free, holders=who
        )

    # -- waiting -------------------------------------------------------------------

    def _wait(self, claim: Claim, patience: _Patience, seconds: float | None) -> None:
        """
        Wait until *claim* is granted, and that is kept.

        Raises:
            ResourcesTakenError: It was not granted in time.
            NotRunningError: The orchestrator has stopped.
            WouldBlockError: The caller would block the loop.
        """
        rt = self._rt
        end = None if seconds is None else monotonic() + seconds
        done = False
        try:
            if rt.loops.is_mine():
                msg = "allocate() would block the event loop"
                hint = "use await orch.aio.resources.allocate(…)"
                raise WouldBlockError(msg, hint=hint)
            while not rt.closed and not patience.is_over:
                seconds_left = _SLICE if end is None else min(_SLICE, end - monotonic())
                if patience.latch.wait(max(0.0, seconds_left)) or seconds_left <= 0:
                    break
            done = not patience.is_over
        finally:
            rt.step(lambda now: self._settle(claim, now, wanted=done))
        if claim.granted is None:
            if rt.closed:
                msg = "the orchestrator has stopped"
                raise NotRunningError(msg)
            with rt.lock:
                self._refuse(claim, "wait longer, or until its holders have ended")
        if rt.committer is not None:
            rt.committer.wait_kept(rt.committer.last)

    def _settle(self, claim: Claim, now: int, *, wanted: bool) -> None:
        """End the wait for *claim*; release a grant that is not *wanted* any more."""
        kernel = self._rt.kernel
        kernel.withdraw(claim)
        if claim.granted is not None and not wanted:
            kernel.release_allocation(claim.granted, now)
            claim.granted = None

    def _is_held(self, allocation_id: str) -> bool:
        with self._rt.lock:
            return allocation_id in self._rt.kernel.allocations


def _refuse_more(name: str, units: int, total: int) -> NoReturn:
    needs, most = units / _SCALE, total / _SCALE
    msg = (
        f"{needs:g} {name} was asked for, and the most there is, in the pool, is "
        f"{most:g}"
    )
    raise UnsatisfiableError(
        msg,
        resource=name,
        need=needs,
        most=most,
        hint=f"orch.resources.resize({{{name!r}: {needs:g}}}) makes it larger",
    )


def _check_tenant(tenant: object) -> str:
    if not is_text(tenant) or not tenant or not tenant.isprintable():
        msg = f"owner: the name of somebody is needed, not {show(tenant)}"
        raise InvalidTaskError(msg)
    return tenant


def _check_wanted(resources: Resources | Mapping[str, float]) -> Units:
    units = Resources.of(resources).units
    if not units:
        msg = "allocate() takes something: no amount of the resources is above 0"
        raise InvalidTaskError(msg)
    return units
