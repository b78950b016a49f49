"""
Budgets in documents: their declarations, and the amounts that tasks draw.

    budgets:
      release: {total: {tokens: 200_000, eur: 15}}
      reviews: {total: {tokens: 50_000}, parent: release}

A task names its budget, and reserves the amounts in its `resources` that the budget
has.

Decision: task-files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from taskorch.kit.forms import (
    AMOUNT,
    AnyNames,
    DocumentOf,
    FaultList,
    ReadMapping,
    Text,
    field,
    keys_of,
    names_of,
    near,
)
from taskorch.kit.located import Located
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import OTHER_RESOURCES
from taskorch.model import Resources
from taskorch.model.ids import has_segments, id_problem

#: Names that have another meaning among amounts.
_OTHER_WORDS: Final = frozenset(
    {"agents", "cpu", "cpu_cores", "memory_mb", "memory_gb", "disk_mb", "gpu"}
    | {"timeout", "timeout_seconds", "max_parallel", "budget", "parent"}
)


def _check_resource(name: str) -> None:
    if name in _OTHER_WORDS or name in OTHER_RESOURCES:
        msg = f"{name} is no word for what is spent: it means something else"
        raise ValueError(msg)
    Resources.of({name: 1})


def _check_budget(name: str) -> None:
    problem = id_problem(name)
    if problem is not None or has_segments(name):
        raise ValueError(problem or "the name of a budget has no slash")


@attrs.frozen
class BudgetEntry:
    """
    A budget: amounts spent of it do not come back.

    Attributes:
        total: How much there is of each resource, by any name, such as `tokens`.
        parent: The budget that it is part of: its spending counts in both.
    """

    total: Mapping[str, float] = field(
        AnyNames(
            AMOUNT,
            check=_check_resource,
            least=1,
            plain=True,
            needs="amounts by resource, as in {tokens: 200_000},",
        ),
        is_needed=True,
    )
    parent: str = field(Text())


#: The section that declares budgets, by name.
BUDGETS: Final = AnyNames(DocumentOf(BudgetEntry), check=_check_budget)
#: The name of one of them.
BUDGET: Final = Text()


@attrs.frozen
class DeclaredBudgets:
    """
    The budgets of a document.

    Attributes:
        totals: The total of each resource, by budget; a part comes after its parent.
        parents: The budget that each is part of, if it is.
    """

    totals: Mapping[str, Mapping[str, float]] = attrs.field(factory=dict, hash=False)
    parents: Mapping[str, str] = attrs.field(factory=dict, hash=False)

    @classmethod
    def of(cls, section: ReadMapping, faults: FaultList) -> DeclaredBudgets:
        """Read the budgets of a *section*; add errors to *faults*."""
        parents: dict[str, str] = {}
        for name, entry in section.values.items():
            if "parent" in entry.values:
                above = entry.node("parent")
                if above.value in section.values:
                    parents[name] = above.value
                elif above.value not in section.nodes:
                    text = f"there is no budget {above.value!r}; "
                    text += near(above, section.nodes)
                    faults.add(above.place, text, f"budgets.{name}.parent")
        budgets = cls({}, parents)
        ranks: dict[str, int] = {}
        for name, entry in section.values.items():
            chain = list(budgets.chain(name))
            if parents.get(chain[-1]) is not None:
                text = f"it is part of itself: {' → '.join((*chain, chain[0]))}"
                faults.add(entry.at("parent"), text, f"budgets.{name}.parent")
            ranks[name] = len(chain)
        names = sorted(ranks, key=lambda name: ranks[name])
        totals = {name: section.values[name].get("total", {}) for name in names}
        return cls(totals, parents)

    def chain(self, name: str) -> Iterator[str]:
        """Yield the budget *name*, and those that it is part of; each once."""
        seen: set[str] = set()
        above: str | None = name
        while above is not None and above not in seen:
            seen.add(above)
            yield above
            above = self.parents.get(above)

    def resources(self, name: str | None) -> frozenset[str]:
        """Return resources that a task of budget *name* can reserve."""
        chain = () if name is None else self.chain(name)
        return frozenset(
            resource for each in chain for resource in self.totals.get(each, ())
        )

    def check(
        self,
        entry: ReadMapping,
        path: str,
        faults: FaultList,
    ) -> None:
        """Note if an *entry*, at *path*, draws on an unknown budget."""
        if "budget" not in entry.values or entry.get("budget") in self.totals:
            return
        node = entry.node("budget")
        text = f"there is no budget {node.value!r}; {near(node, self.totals)}"
        text += "" if self.totals else ": declare it under budgets"
        faults.add(node.place, text, f"{path}.budget".removeprefix("."))

    def check_reserved(
        self,
        held: ReadMapping,
        cls: type,
        budget: str | None,
        path: str,
        faults: FaultList,
    ) -> None:
        """
        Note names in *held*, of *cls* at *path*, that the *budget* does not have.

        An unknown *budget* was noted before.
        """
        if budget is not None and budget not in self.totals:
            return
        for name, (node, _) in held.nodes.items():
            problem = None
            if name not in keys_of(cls):
                problem = self.problem(node, cls, budget)
            if problem is not None:
                faults.add(node.place, problem, path)

    def problem(self, name: Located, cls: type, budget: str | None) -> str | None:
        """
        Return what is wrong with reserving resource *name* of *budget*, or None.

        The names of *cls* are allowed, too.
        """
        resources = self.resources(budget)
        if name.value in resources:
            return None
        others = [each for each in self.totals if name.value in self.resources(each)]
        if not others:
            meant = near(name, (*names_of(cls), *sorted(resources)))
            return f"there is no {show(name.value, 40)} here; {meant}"
        where = "it draws on none" if budget is None else f"it draws on {budget!r}"
        text = f"{name.value} is spent of budget {others[0]!r}, and {where}"
        return f"{text}; say: budget: {others[0]}"
