"""
Where attempts run: the mechanisms, which know nothing of tasks.

Threads are here, programs are here; coroutines run on the loop of the runtime, and
any `concurrent.futures.Executor` is used as it is. The executor of programs is in
`_programs`, and is loaded when it is first asked for. Nothing here may decide what is
run, or when.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from taskorch.executors._threads import Worker as Worker
from taskorch.executors._threads import WorkerThreads as WorkerThreads

if TYPE_CHECKING:
    from taskorch.executors._programs._executor import (
        ProgramExecutor as ProgramExecutor,
    )
    from taskorch.executors._programs._process import ProgramEnd as ProgramEnd
    from taskorch.executors._programs._process import ProgramProcess as ProgramProcess

_WHERE = {
    "ProgramEnd": "taskorch.executors._programs._process",
    "ProgramExecutor": "taskorch.executors._programs._executor",
    "ProgramProcess": "taskorch.executors._programs._process",
}


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    msg = f"module 'taskorch.executors' has no attribute {name!r}"
    raise AttributeError(msg)
