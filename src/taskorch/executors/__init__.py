"""
Where attempts run: threads, programs, and calls in other processes.

Here belongs what starts work, sees it end, and can stop or hold it meanwhile; programs
have a package of their own. Nothing here may know of the kernel or the runtime, nor
decide what is run, or when. What is for programs is loaded when it is asked for.
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
