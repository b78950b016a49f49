"""
How much of the budgets of a workspace is left, as the ledger says it.

Several runners may share a workspace, and none of them outlives its run. So what tasks
have spent stands in the ledger of claims, and what is left is counted from there.

Decision: task-files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from taskorch.ext.budgets._declared import DeclaredBudgets
from taskorch.kit.frozen import ReadOnly
from taskorch.model import BudgetUsage, Units

#: Amounts in millionths, by budget and resource.
Tally: TypeAlias = Mapping[str, Mapping[str, int]]
SCALE: Final = 1_000_000
#: Command that raises a budget.
_RAISE: Final = "taskorch workspace raise-budget"


def plus(*tallies: Tally) -> Tally:
    """Several tallies together."""
    whole: dict[str, dict[str, int]] = {}
    for tally in tallies:
        for budget, amounts in tally.items():
            sums = whole.setdefault(budget, {})
            for name, units in amounts.items():
                sums[name] = sums.get(name, 0) + units
    return whole


def is_tally(value: object) -> bool:
    """Return whether a *value* of a ledger that anybody may edit is a tally."""
    return isinstance(value, dict) and all(
        isinstance(amounts, dict)
        and all(type(units) is int and units >= 0 for units in amounts.values())
        for amounts in value.values()
    )


def amounts_of(units: Mapping[str, int]) -> dict[str, float]:
    """Amounts in millionths, as people know them."""
    return {name: many / SCALE for name, many in units.items()}


def usages_of(
    budgets: DeclaredBudgets,
    spent: Tally,
    reserved: Tally,
    total_of: Callable[[str, Mapping[str, float]], Mapping[str, float]],
) -> list[BudgetUsage]:
    """
    Return the usage of each of *budgets*, from the amounts *spent* and *reserved*.

    *total_of* gives the total of a budget by its name and its declared amounts.
    """
    usages: list[BudgetUsage] = []
    for name, declared in budgets.totals.items():
        total = total_of(name, declared)
        parts = [part for part in budgets.totals if name in budgets.chain(part)]
        used, held = (
            {
                resource: sum(tally.get(part, {}).get(resource, 0) for part in parts)
                for resource in total
            }
            for tally in (spent, reserved)
        )
        usages.append(
            BudgetUsage(
                name,
                ReadOnly(dict(total)),
                ReadOnly(amounts_of(used)),
                ReadOnly(amounts_of(held)),
                budgets.parents.get(name),
                is_low=any(5 * used[n] >= 4 * round(total[n] * SCALE) for n in total),
            )
        )
    return usages


class Lack(NamedTuple):
    """
    What keeps a task from starting: a budget, or policies.

    Attributes:
        name: The budget, or the reason.
        text: The reason, for people.
        is_hopeless: Whether it stays so when all that is reserved comes back.
    """

    name: str
    text: str
    is_hopeless: bool


def short_of(
    budgets: DeclaredBudgets,
    usages: Iterable[BudgetUsage],
    budget: str | None,
    units: Units,
) -> Lack | None:
    """Return why *budget* has too little left for *units*, or None."""
    asked = dict(units)
    chain = () if budget is None else tuple(budgets.chain(budget))
    for usage in usages:
        for name, rest in usage.left.items() if usage.name in chain else ():
            need, total = asked.get(name, 0), usage.total[name]
            if max(1, need) > round(rest * SCALE):
                text = f"it waits for budget {usage.name}: {rest:.12g} of {total:.12g} "
                text += f"{name} are left"
                text += f", and it reserves {need / SCALE:.12g}" if need else ""
                is_hopeless = max(1, need) > round((total - usage.spent[name]) * SCALE)
                if is_hopeless:
                    text += f"; {_RAISE} {usage.name} '{{\"{name}\": …}}'"
                return Lack(usage.name, text, is_hopeless)
    return None
