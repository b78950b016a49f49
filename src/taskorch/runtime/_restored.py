"""The works of tasks that were submitted in an earlier life."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Protocol

from taskorch.errors import InvalidTaskError
from taskorch.model import Call, Missing, Program, Task, call_type
from taskorch.protocols import AttemptExecutor
from taskorch.runtime._attempt import GONE
from taskorch.runtime._translation import executor_for
from taskorch.runtime._work import NO_VARIABLES, Work, note_cache


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
