"""
Steps inside a function: each has a name, and its result is kept with the task.

    context = current_context()
    receipt = context.step("charge", charge, order)

When the task runs again, a step that was kept gives its result and calls nothing. What
stands between the steps runs again. It is an extension: see
`taskorch.core.engine._noted`.

- `_step`: the record of a step, and a request for one.
- `_book`: the steps that an attempt asks for, and those that are kept.
- `_calls`: who calls the functions: on threads, on a loop, in worker processes.
- `_sleep`: `context.sleep`.
- `_waits`: `context.wait`, `context.ask` and `context.child`.
- `_marked`: `@step`.
- `_manager`: `orch.steps`.

Decision: steps.
"""

from taskorch.ext.steps._calls import (
    AsyncStepCaller as AsyncStepCaller,
    StepCaller as StepCaller,
)
from taskorch.ext.steps._manager import Steps as Steps
from taskorch.ext.steps._marked import step as step
from taskorch.ext.steps._sleep import AsyncSleeper as AsyncSleeper, Sleeper as Sleeper
from taskorch.ext.steps._step import Step as Step
from taskorch.ext.steps._waits import (
    AsyncChildCaller as AsyncChildCaller,
    AsyncEventWaiter as AsyncEventWaiter,
    AsyncPeopleAsker as AsyncPeopleAsker,
    ChildCaller as ChildCaller,
    EventWaiter as EventWaiter,
    PeopleAsker as PeopleAsker,
)
