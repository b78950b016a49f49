"""The works of tasks that were submitted in an earlier life."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any, Protocol

import attrs

from taskorch.errors import InvalidTaskError, InvalidTransitionError
from taskorch.kernel import Kernel, PolicyFault, TaskRow, is_unresolvable
from taskorch.model import Call, Missing, Program, Task, call_type
from taskorch.protocols import AttemptExecutor
from taskorch.runtime._attempt import GONE
from taskorch.runtime._orphans import no_agent
from taskorch.runtime._translation import executor_for
from taskorch.runtime._work import (
    NO_VARIABLES,
    Work,
    note_cache,
    why_unresolvable,
)


class MakesWork(Protocol):
    """What makes the works of tasks: a runtime, or what stands for one."""

    @property
    def executors(self) -> Mapping[str, AttemptExecutor[Any]]:
        """All executors, by name."""
        ...

    def new_work(
        self,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        executor: AttemptExecutor[Any] | None,
        ctx: Context,
    ) -> Work:
        """The work of a task."""
        ...


def work_of(owner: MakesWork, task: Task) -> Work:
    """The work of *task*, which was submitted in an earlier life."""
    payload = task.payload
    work: Work
    if isinstance(payload, Call):
        fn = payload.fn
        executor: AttemptExecutor[Any] | None = GONE
        if not isinstance(fn, Missing):
            try:
                executor = executor_for(fn, payload.executor, owner.executors)
            except InvalidTaskError as error:
                fn = Missing(call_type(fn), error.message)
        work = owner.new_work(fn, payload.args, payload.kwargs, executor, NO_VARIABLES)
    elif isinstance(payload, Missing):
        work = owner.new_work(payload, (), {}, GONE, NO_VARIABLES)
    else:
        is_program = isinstance(payload, Program)
        executor = owner.executors["program"] if is_program else None
        work = owner.new_work(None, (), {}, executor, NO_VARIABLES)
    work._task = task
    note_cache(work)
    return work


def lost_by(work: Work) -> list[Missing]:
    """What *work* needs and was not here when it was looked for last."""
    task = work._task
    if task is None:
        return []
    payload: Any = task.payload
    called = payload.fn if isinstance(payload, Call) else payload
    return [each for each in (called, task.join) if isinstance(each, Missing)]


def bring_back(work: Work) -> None:
    """Under the lock: have *work* call what was missing, if that is here by now."""
    task, lost = work._task, lost_by(work)
    if task is None or not lost:
        return
    found = {id(each): each.look() for each in lost}
    payload: Any = task.payload
    join: Any = found.get(id(task.join), task.join)
    if isinstance(payload, Call):
        payload = attrs.evolve(payload, fn=found.get(id(payload.fn), payload.fn))
    else:
        payload = found.get(id(payload), payload)
    back = work_of(work._rt, attrs.evolve(task, payload=payload, join=join))
    work._task, work._fn, work._executor = back._task, back._fn, back._executor
    work._args, work._kwargs = back._args, back._kwargs
    note_cache(work)


def release_if_back(kernel: Kernel, row: TaskRow, now: int) -> None:
    """Release *row*, held for what it needs, if that is here by now."""
    if not is_unresolvable(row):
        return
    bring_back(row.cargo)
    if not why_unresolvable(row.cargo) and not no_agent(kernel, row, now):
        # A veto of the user's StateMachine leaves it where it is.
        with suppress(InvalidTransitionError, PolicyFault):
            kernel.decide(row, "retry", now)
