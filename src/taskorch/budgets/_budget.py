"""
Budgets as programs see them, and the question when one is used up.

The question is a task, so it is asked once, outlives the process, and is answered as
any other. Each life whose journal has a budget asks, and acts on the answer, whether
its program declares the budget again or not: the task of a life before is found by its
id.

Decisions: 0232, 0257.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from contextvars import Token
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self

from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    NotRunningError,
    TaskorchError,
    UnknownTaskError,
)
from taskorch.events import BudgetExhausted
from taskorch.kernel import (
    BudgetRow,
    Kernel,
    PolicyFault,
    TaskRow,
    change_budget,
    declare_budget,
)
from taskorch.kit.read_only import ReadOnly
from taskorch.kit.visible import is_text, show
from taskorch.model import TERMINAL, Answer, BudgetUsage, Resources, Task, Units
from taskorch.model.ids import budget_question_id, check_name
from taskorch.runtime import BUDGET, Work, question_in

if TYPE_CHECKING:
    from taskorch.runtime import Runtime

_SCALE: Final = 1_000_000
#: What people may answer: there is half as much again, or as much as they say in
#: `changes`; what waits is cancelled; or the budget keeps nobody waiting any more.
CHOICES: Final = ("raise", "stop", "finish")


class Budget:
    """
    A budget: tasks that draw on it spend it, and what is spent does not come back.

    It is a context manager: what is submitted in the block draws on it.

    Attributes:
        name: Its name.
    """

    def __init__(self, runtime: Any, name: str) -> None:
        self._rt: Runtime = runtime
        self.name: str = name
        self._tokens: list[Token[str]] = []

    @property
    def usage(self) -> BudgetUsage:
        """How much there is, is spent and is reserved, all of one instant."""
        with self._rt.lock:
            kernel = self._rt.kernel
            return usage_of(kernel, kernel.budgets[self.name])

    def raise_to(self, **totals: float) -> None:
        """
        Set how much there is in all; what is not named stays.

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
    Let there be a budget: see `ResourceManager.budget`.

    Raises:
        InvalidTaskError: The name or an amount is none, or there is no such parent.
    """
    rt: Runtime = runtime
    check_name("budget", name)
    totals = _totals_of(name, amounts)
    if not totals:
        msg = f"budget {name!r} has no amounts"
        raise InvalidTaskError(msg, hint=f"orch.budget({name!r}, tokens=200_000)")

    def set_up(now: int) -> None:
        kernel = rt.kernel
        above = BUDGET.get() if parent is None else parent
        if above and above not in kernel.budgets:
            msg = f"there is no budget {show(above)}"
            raise InvalidTaskError(msg, hint="declare the whole before its parts")
        declare_budget(kernel, name, totals, "" if above == name else above, now)
        _withdraw(kernel, name, now)

    rt.step(set_up, keep=True)
    attend(rt)
    return Budget(rt, name)


def attend(rt: Runtime) -> None:
    """Ask people in this life about budgets that are used up, by now or later."""
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
    Set how much there is of a budget: see `ResourceManager.raise_budget`.

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
    """Under the lock: nobody is asked any more about a budget that was changed."""
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
    """Under the lock: a budget as a value."""
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
    Under the lock: the row of the question about a budget, if it is in memory.

    Where a task of somebody else has its id, it has the next one.
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
    Find the question about a budget, in memory and in the journal: its id, its task.

    An earlier life may have asked, and have ended before it did what was answered.
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
    """Ask what is to become of a budget that is used up, for the *number*th time."""
    name_of_task, handle = _asked_before(rt, name, number)
    with rt.lock:
        row = rt.kernel.budgets[name]
        if row.asked != number:
            # Somebody has changed it meanwhile.
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
            # It stops: the next life asks.
            return
        except TaskorchError as error:
            fault = PolicyFault(f"question about budget {name}", error)
            rt.step(lambda now: rt.kernel.note_fault(None, fault, now))
            return
    # If an earlier life asked, what is spent may be more by now.
    asked: Any = handle
    asked.add_done_callback(lambda ended: _act(rt, name, number, ended))


def _act(rt: Runtime, name: str, number: int, handle: Any) -> None:
    """Do what people have said, unless somebody has raised the budget meanwhile."""
    with rt.lock:
        row = rt.kernel.budgets[name]
        is_due, totals = row.asked == number, row.totals
    if not is_due or handle.cancelled() or handle.exception() is not None:
        return
    answer: Answer = handle.result()
    if answer.choice == "stop":
        _stop(rt, name)
        # About what comes after that, people are asked again.
        _step(rt, name, (), is_open=False)
    elif answer.choice == "finish":
        _step(rt, name, (), is_open=True)
    elif answer.changes:
        change(rt, name, answer.changes)
    else:
        more = tuple((resource, units + units // 2) for resource, units in totals)
        _step(rt, name, more, is_open=False)


def _stop(rt: Runtime, name: str) -> None:
    """Cancel what draws on a budget, and has not ended."""
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
