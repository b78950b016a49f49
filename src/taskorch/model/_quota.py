"""Quotas of a type, run or tenant, and the use of pools and budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_exact
from taskorch.kit.frozen import ReadOnly, document_of, frozen
from taskorch.kit.limits import MAX_AMOUNT
from taskorch.kit.visible import is_text, show, visible
from taskorch.kit.vocabulary import meant
from taskorch.model._resources import Resources, Units, to_units
from taskorch.model.ids import has_segments

#: The keys of limits beside resources: the number of running attempts,
TASKS = "tasks"
#: the number of starts in a second, and of starts at one moment.
STARTS = "starts_per_second"
BURST = "burst"

_KINDS = ("type", "owner", "workflow")
#: The prefix of the kind of a soft quota.
SOFT = "soft "

_SCALE = 1_000_000


def _resources(value: Resources | Mapping[str, float]) -> Resources:
    return Resources.of(value)


@frozen(kw_only=True)
class Quota:
    """
    The most that all tasks of a type, of a run or of a tenant may hold at once.

    A quota can also bound how many of their attempts may start in a second. A task that
    would exceed the quota waits, and `explain` says so. A quota that becomes less than
    what is in use takes nothing back. A quota without limits removes the old one.

    A soft quota stops no task: a task above it starts once no task within its quotas
    can use the free resources. There may be one quota of each kind for the same tasks.

    `max_parallel=0` puts a type on hold. A task larger than its quota is accepted, and
    waits for a larger quota. A quota of a run bounds nothing in `orch.simulate`, and no
    task that was submitted alone, whatever its id. Retries count as starts. A change
    keeps the starts that have come back, up to the new `burst`; a restart goes on with
    those that were left. Types with `starts_per_second` do not take the fast path.

    Attributes:
        type: The type of the tasks.
        owner: The tenant of the tasks, and of allocations by hand.
        workflow: The id of the run, whose tasks it is for, with those that it adds
            while it goes on, but without tasks that were submitted on their own. It may
            be set before the run is started, and stays when that has ended.
        resources: The most of each resource that is named; others are limited by the
            pools only.
        max_parallel: The most that may run at once; None is without limit.
        starts_per_second: The most attempts that may start in a second, on average: up
            to `burst` starts may come at one moment. 0.2 is one in five seconds; None
            is without limit.
        burst: How many may start at one moment, after a pause; 1 keeps them apart.
        soft: True for a soft quota, whose tasks come last instead of waiting.

    Raises:
        InvalidTaskError: It has no subject, or several; or a limit is invalid.
    """

    type: str = ""
    owner: str = ""
    workflow: str = ""
    resources: Resources = attrs.field(default=Resources(), converter=_resources)
    max_parallel: int | None = None
    starts_per_second: float | None = None
    burst: int = 1
    soft: bool = False

    def __attrs_post_init__(self) -> None:
        self._check_subject()
        most = self.max_parallel
        if isinstance(most, bool) or not isinstance(most, int | None):
            msg = f"max_parallel is a whole number or None, not {show(most)}"
            raise InvalidTaskError(msg)
        if most is not None and most < 0:
            msg = f"max_parallel is {most}, and 0 is the least"
            raise InvalidTaskError(msg, hint="None is without limit")
        named = dict.fromkeys((*self.resources, *self.resources.zeros))
        if TASKS in named:
            msg = "how many tasks run at once is max_parallel, and no resource"
            raise InvalidTaskError(msg)
        for name in (STARTS, BURST):
            if name in named:
                msg = f"{name} is an argument of its own, and no resource"
                raise InvalidTaskError(msg, hint=f"Quota(…, {name}=…)")
        self._check_rate()
        self._check_soft()

    def _check_subject(self) -> None:
        subjects: dict[str, object] = {name: getattr(self, name) for name in _KINDS}
        for name, value in subjects.items():
            if not is_text(value) or (value and not value.isprintable()):
                msg = f"{name}: the {name} that the quota is for, not {show(value)}"
                raise InvalidTaskError(msg)
            hint = f"set one for each {name}; concurrency= bounds all tasks together"
            check_exact(name, value, hint)
        if sum(map(bool, subjects.values())) != 1:
            msg = "a quota is for a type, an owner or a workflow: give one of the three"
            raise InvalidTaskError(
                msg, hint="Quota(type='render', resources={'cpu': 4})"
            )
        if has_segments(self.workflow):
            msg = (
                f"workflow: the id of a run has no slash, as {show(self.workflow)} has"
            )
            hint = "Quota(workflow=run.workflow_id, …)"
            raise InvalidTaskError(msg, hint=hint)

    def _check_rate(self) -> None:
        rate, burst = self.starts_per_second, self.burst
        if isinstance(burst, bool) or not isinstance(burst, int):
            msg = f"burst is a whole number, not {show(burst)}"
            raise InvalidTaskError(msg)
        if not 1 <= burst <= MAX_AMOUNT:
            msg = f"burst is {show(burst)}, and not between 1 and {MAX_AMOUNT:g}"
            raise InvalidTaskError(msg)
        if rate is None:
            if burst != 1:
                msg = f"burst is {burst}, and starts_per_second says nothing"
                raise InvalidTaskError(msg, hint="give both, or none of them")
            return
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            msg = f"starts_per_second is a number or None, not {show(rate)}"
            raise InvalidTaskError(msg)
        if not 1 / _SCALE <= rate <= MAX_AMOUNT:
            msg = (
                f"starts_per_second is {show(rate)}, and not between 0.000001 and "
                f"{MAX_AMOUNT:g}"
            )
            hint = "max_parallel=0 holds all of them back; None is without limit"
            raise InvalidTaskError(msg, hint=hint)

    def _check_soft(self) -> None:
        if not isinstance(self.soft, bool):
            msg = f"soft is True or False, not {show(self.soft)}"
            raise InvalidTaskError(msg)
        if self.soft and self.starts_per_second is not None:
            msg = "a rate cannot be soft: nobody else could use what it holds back"
            hint = "give the rate in a quota of its own, that is not soft"
            raise InvalidTaskError(msg, hint=hint)

    @property
    def subject(self) -> tuple[str, str]:
        """
        Kind and name of the type, run or tenant of the quota.

        The kind is `type`, `owner` or `workflow`, or `soft type` and so on.
        """
        kind = next(name for name in _KINDS if getattr(self, name))
        return f"{SOFT}{kind}" if self.soft else kind, getattr(self, kind)

    @property
    def limits(self) -> Units:
        """
        The limits, in millionths.

        `tasks` is the number of running tasks; `starts_per_second` and `burst` have
        their names.
        """
        limits = list(self.resources.totals())
        if self.max_parallel is not None:
            limits.append((TASKS, self.max_parallel * _SCALE))
        if self.starts_per_second is not None:
            limits.append((STARTS, to_units(STARTS, self.starts_per_second)))
            limits.append((BURST, self.burst * _SCALE))
        return tuple(sorted(limits))

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `of` reads, with limits of 0."""
        fields = attrs.asdict(self, recurse=False)
        limits = self.resources.totals()
        return {**fields, "resources": {name: n / _SCALE for name, n in limits}}

    @classmethod
    def of(cls, quota: Quota | Mapping[str, Any]) -> Quota:
        """
        Return the quota of a mapping of its attributes.

        Raises:
            InvalidTaskError: It is no mapping, has an unknown key, or an invalid value.
        """
        if isinstance(quota, Quota):
            return quota
        if not isinstance(quota, Mapping):
            msg = f"set_quotas() takes quotas, not {show(quota)}"
            hint = "set_quotas(Quota(type='render', resources={'cpu': 4}))"
            raise InvalidTaskError(msg, hint=hint)
        names = [each.name for each in attrs.fields(cls)]
        for name in quota:
            if name not in names:
                hint = meant(name, names, f"a quota has {', '.join(names)}")
                msg = f"a quota has no {show(name)}"
                raise InvalidTaskError(msg, hint=hint)
        return cls(**quota)

    @classmethod
    def of_limits(cls, subject: tuple[str, str], limits: Units) -> Quota:
        """Return the quota for *subject* whose `limits` are *limits*."""
        amounts = dict(limits)
        most, rate = amounts.pop(TASKS, None), amounts.pop(STARTS, None)
        burst = amounts.pop(BURST, _SCALE)
        return cls(
            **{subject[0].removeprefix(SOFT): subject[1]},
            resources={name: units / _SCALE for name, units in amounts.items()},
            max_parallel=None if most is None else most // _SCALE,
            starts_per_second=None if rate is None else rate / _SCALE,
            burst=burst // _SCALE,
            soft=subject[0].startswith(SOFT),
        )


_NOBODY: Mapping[str, float] = ReadOnly({})


@frozen
class QuotaUsage:
    """
    A quota, and its use.

    Attributes:
        quota: The quota.
        used: The amounts held of the resources that it bounds; above the limit if it is
            soft, or was reduced.
        running: The number of running tasks, if it bounds that; else 0.
    """

    quota: Quota
    used: Resources
    running: int = 0


@frozen
class PoolUsage:
    """
    Use of a pool.

    Attributes:
        total: The total amount.
        used: The amount that is held; above the total if that was reduced.
        holders: The amount of each holder, if asked for: ids of tasks, and allocations
            by hand.
        units: The amount that is held of each named unit.
    """

    total: float
    used: float
    holders: Mapping[str, float] = _NOBODY
    units: Mapping[str, float] = _NOBODY

    @property
    def free(self) -> float:
        """Amount that is not held; 0 if more is held than the pool has."""
        return max(0.0, self.total - self.used)

    def __str__(self) -> str:
        text = f"{self.used:.12g} of {self.total:.12g} in use"
        if self.units:
            units = [f"{unit}: {used:.12g}" for unit, used in self.units.items()]
            text += f", of units {', '.join(units)}"
        held = ", ".join(f"{name}: {much:.12g}" for name, much in self.holders.items())
        return visible(f"{text} ({held})" if held else text)


@frozen
class BudgetUsage:
    """
    A budget, and its use.

    Attributes:
        name: Its name.
        total: The total amounts, by resource.
        spent: The spent amounts; above the total if attempts spent more than they had
            reserved.
        reserved: The amounts that running attempts have still reserved.
        parent: The budget that it is part of, or None.
        is_open: True if it stops no task any more.
        is_low: True if four fifths of a resource are spent.
        question: The id of the open question about it, or None.
    """

    name: str
    total: Mapping[str, float]
    spent: Mapping[str, float]
    reserved: Mapping[str, float]
    parent: str | None = None
    is_open: bool = False
    is_low: bool = False
    question: str | None = None

    @property
    def state(self) -> str:
        """
        State of the budget, in a word.

        `ok`; `low`: four fifths are spent; `exhausted`: a resource is spent, or a task
        needs more than is left; `open`: it stops no task.
        """
        if self.is_open:
            return "open"
        is_spent = any(self.spent[name] >= much for name, much in self.total.items())
        if is_spent or self.question:
            return "exhausted"
        return "low" if self.is_low else "ok"

    @property
    def left(self) -> Mapping[str, float]:
        """Amounts that are neither spent nor reserved; 0 if the budget is exceeded."""
        used = {
            name: self.spent[name] + self.reserved.get(name, 0) for name in self.total
        }
        # Amounts are whole millionths, but a difference of floats may not be.
        return {n: max(0.0, round(much - used[n], 6)) for n, much in self.total.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the budget as JSON has it."""
        amounts = ("total", "spent", "reserved", "left")
        return document_of(self, "name", "state", *amounts, "parent", "question")

    def __str__(self) -> str:
        rest, parts = self.left, []
        for name, much in self.total.items():
            text = f"{self.spent[name]:.12g} of {much:.12g} {name} spent"
            held = self.reserved.get(name, 0)
            text += f", {held:.12g} reserved" if held else ""
            parts.append(f"{text}, {rest[name]:.12g} left")
        whole = f" (part of {self.parent})" if self.parent else ""
        return visible(f"{self.name}{whole}: {self.state}; {'; '.join(parts)}")
