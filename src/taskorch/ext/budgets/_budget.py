"""
Budgets in programs, and the question when one is used up.

The question is a task, so it is asked once, outlives the process, and is answered like
any other. Each incarnation whose journal has a budget asks, and acts on the answer,
whether its program declares the budget again or not: an earlier task is found by its
id.

Decisions: events-and-recovery, quotas-and-budgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from contextvars import Token
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self

from taskorch.core.engine import BUDGET, Work, question_in
from taskorch.core.kernel import BudgetRow, Kernel, PolicyFault, TaskRow
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    NotRunningError,
    TaskorchError,
    UnknownTaskError,
)
from taskorch.events import BudgetExhausted
from taskorch.ext.budgets._kernel import change_budget, declare_budget
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.visible import is_text, show
from taskorch.model import TERMINAL, Answer, BudgetUsage, Resources, Task, Units
from taskorch.model.ids import budget_question_id, check_name

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

_SCALE: Final = 1_000_000
#: The choices of people: to add half as much again, or as much as `changes` names; to
#: cancel the waiting tasks; or to let no task wait for the budget any more.
CHOICES: Final = ("raise", "stop", "finish")


class Budget:
    """
    A budget: tasks that draw on it spend it, and spent amounts do not come back.

    It is a context manager: tasks that are submitted in the block draw on it.

    Attributes:
        name: Its name.
    """

    def __init__(self, runtime: Any, name: str) -> None:
        self._rt: Runtime = runtime
        self.name: str = name
        self._tokens: list[Token[str]] = []

    @property
    def usage(self) -> BudgetUsage:
        """Total, spent and reserved amounts, all of one instant."""
        with self._rt.lock:
            kernel = self._rt.kernel
            return usage_of(kernel, kernel.budgets[self.name])

    def raise_to(self, **totals: float) -> None:
        """
        Set the totals; resources that are not named stay.

        Raises:
            InvalidTaskError: An amount is none.
        """
        change(self._rt, self.name, totals)

    def __enter__(self) -> Self:
        self._tokens.append(BUDGET.set(self.name))
        return self

    def __exit__(self, *_: object) -> None:
        BUDGET.reset(self._tokens.pop())

    def __repr__(self) -> str:
        return f"<Budget {self.name}>"


def declare(
    runtime: Any, name: str, parent: str | None, amounts: Mapping[str, float]
) -> Budget:
    """
    Declare a budget: see `ResourceManager.budget`.

    Raises:
        InvalidTaskError: The name or an amount is none, or there is no such parent.
    """
    rt: Runtime = runtime
    check_name("budget", name)
    totals = _totals_of(name, amounts)
    if not totals:
        msg = f"budget {name!r} has no amounts"
        raise InvalidTaskError(msg, hint=f"orch.budget({name!r}, tokens=200_000)")

    above = BUDGET.get() if parent is None else parent

    def set_up(now: int) -> None:
        kernel = rt.kernel
        if above and above not in kernel.budgets:
            msg = f"there is no budget {show(above)}"
            raise InvalidTaskError(msg, hint="declare the whole before its parts")
        declare_budget(kernel, name, totals, "" if above == name else above, now)
        _withdraw(kernel, name, now)

    def act() -> None:
        rt.step(set_up, keep=True)
        attend(rt)

    rt.declare(act)
    return Budget(rt, name)


def attend(rt: Runtime) -> None:
    """Ask people from now on about budgets that are used up, now or later."""
    asking = _Asking(rt)
    if rt.first_made.setdefault("budgets", asking) is not asking:
        return
    rt.signals.budget_exhausted.connect(asking)
    with rt.lock:
        asked = [(row.name, row.asked) for row in rt.kernel.budgets.values()]
    for name, number in asked:
        if number > 0:
            _ask(rt, name, number)


def change(runtime: Any, name: str, amounts: Mapping[str, float]) -> BudgetUsage:
    """
    Set the totals of a budget: see `ResourceManager.raise_budget`.

    Raises:
        InvalidTaskError: There is no such budget, or an amount is none.
    """
    totals = _totals_of(name, amounts)
    if not totals:
        msg = f"nothing is said of how much there is of budget {show(name)}"
        raise InvalidTaskError(msg, hint='name amounts: {"tokens": 300_000}')
    return _step(runtime, name, totals, is_open=False)


def _step(rt: Runtime, name: str, totals: Units, *, is_open: bool) -> BudgetUsage:
    def step(now: int) -> BudgetUsage:
        if not is_text(name) or name not in rt.kernel.budgets:
            msg = f"there is no budget {show(name)}"
            names = ", ".join(rt.kernel.budgets) or "none"
            hint = f"there are {names}; orch.budget(…) declares one"
            raise InvalidTaskError(msg, hint=hint)
        change_budget(rt.kernel, name, totals, now, is_open=is_open)
        _withdraw(rt.kernel, name, now)
        return usage_of(rt.kernel, rt.kernel.budgets[name])

    usage: BudgetUsage = rt.step(step, keep=True)
    return usage


def _withdraw(kernel: Kernel, name: str, now: int) -> None:
    """Cancel the question about a budget that was changed; hold the lock."""
    number = kernel.budgets[name].asked
    question = _question_of(kernel, name, -number) if number < 0 else None
    if question is not None and question.state not in TERMINAL:
        # The state machine may forbid it.
        with suppress(InvalidTransitionError):
            kernel.cancel(question, now, f"budget {name} was changed")


def _totals_of(name: str, amounts: Mapping[str, float]) -> Units:
    checked = Resources.of(amounts)
    if checked.zeros:
        msg = f"budget {name!r}: {checked.zeros[0]} is 0, so nothing could be spent"
        raise InvalidTaskError(msg, hint="name amounts above 0")
    return checked.units


def usage_of(kernel: Kernel, row: BudgetRow) -> BudgetUsage:
    """Return the usage of a budget; hold the lock."""
    asked = _question_of(kernel, row.name, row.asked)
    if asked is not None and asked.state in TERMINAL:
        asked = None
    names = [name for name, _ in row.totals]
    spent = {name: row.spent[name] for name in names}
    used = {name: row.pools[name].used for name in names}
    return BudgetUsage(
        row.name,
        ReadOnly({name: row.pools[name].total / _SCALE for name in names}),
        ReadOnly({name: spent[name] / _SCALE for name in names}),
        ReadOnly({name: (used[name] - spent[name]) / _SCALE for name in names}),
        row.parent or None,
        row.is_open,
        row.is_low,
        None if asked is None else asked.id,
    )


def _question_of(kernel: Kernel, budget: str, number: int) -> TaskRow | None:
    """
    Return the row of the question about a budget, if in memory; hold the lock.

    Where a task of the user has its id, it has the next one.
    """
    for again in count():
        name = budget_question_id(budget, number, again)
        row = kernel.tasks.get(name)
        if row is not None and _is_about(row.cargo, budget):
            return row
        if row is None and name not in kernel.evicted:
            return None
    raise AssertionError


def _asked_before(rt: Runtime, budget: str, number: int) -> tuple[str, Work | None]:
    """
    Find the question about a budget in memory and journal: its id, its task.

    An earlier incarnation may have asked, and ended before it carried out the answer.
    """
    for again in count():
        name = budget_question_id(budget, number, again)
        rt.recall((name,))
        with rt.lock:
            try:
                work = rt.directory.known(name)
            except UnknownTaskError:
                return name, None
        if _is_about(work, budget):
            return name, work
    raise AssertionError


def _is_about(work: Work | None, budget: str) -> bool:
    question = question_in(work)
    details = None if question is None else question.details
    return isinstance(details, Mapping) and details.get("budget") == budget


class _Asking:
    """Asks people when a budget is used up."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt

    def __call__(self, event: BudgetExhausted) -> None:
        _ask(self._rt, event.budget, event.number)


def _ask(rt: Runtime, name: str, number: int) -> None:
    """Ask what to do about a budget that is used up, for the *number*th time."""
    name_of_task, handle = _asked_before(rt, name, number)
    with rt.lock:
        row = rt.kernel.budgets[name]
        if row.asked != number:
            # The budget was changed meanwhile.
            return
        usage = usage_of(rt.kernel, row)
    if handle is None:
        total, spent = dict(usage.total), dict(usage.spent)
        parts = [f"{spent[n]:.12g} of {much:.12g} {n}" for n, much in total.items()]
        question = Task.question(
            f"Budget {name} has too little left: {', '.join(parts)} spent. What now?",
            options=CHOICES,
            id=name_of_task,
            details={"budget": name, "total": total, "spent": spent},
        )
        try:
            (handle,) = rt.submit_tasks([question])
        except NotRunningError:
            # It stops, so the next incarnation asks.
            return
        except TaskorchError as error:
            fault = PolicyFault(f"question about budget {name}", error)
            rt.step(lambda now: rt.kernel.note_fault(None, fault, now))
            return
    # If an earlier incarnation asked, more may be spent by now.
    asked: Any = handle
    asked.add_done_callback(lambda ended: _act(rt, name, number, ended))


def _act(rt: Runtime, name: str, number: int, handle: Any) -> None:
    """Carry out the answer, unless the budget was raised meanwhile."""
    with rt.lock:
        row = rt.kernel.budgets[name]
        is_due, totals = row.asked == number, row.totals
    if not is_due or handle.cancelled() or handle.exception() is not None:
        return
    answer: Answer = handle.result()
    if answer.choice == "stop":
        _stop(rt, name)
        # About later events, people are asked again.
        _step(rt, name, (), is_open=False)
    elif answer.choice == "finish":
        _step(rt, name, (), is_open=True)
    elif answer.changes:
        change(rt, name, answer.changes)
    else:
        more = tuple((resource, units + units // 2) for resource, units in totals)
        _step(rt, name, more, is_open=False)


def _stop(rt: Runtime, name: str) -> None:
    """Cancel unfinished tasks that draw on a budget."""
    with rt.lock:
        budgets = rt.kernel.budgets
        names = {name: None}
        for row in budgets.values():
            if row.parent in names:
                names[row.name] = None
        rows = [
            row
            for row in rt.kernel.tasks.values()
            if row.bucket.spec.budget in names and row.state not in TERMINAL
        ]

    def cancel(now: int) -> None:
        for row in rows:
            # The state machine may forbid it.
            with suppress(InvalidTransitionError):
                rt.kernel.cancel(row, now, f"budget {name} is used up")

    rt.step(cancel, keep=True)
