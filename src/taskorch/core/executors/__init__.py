"""
Executors of attempts: threads, programs, and calls in other processes.

An executor starts work, sees it end, and can stop or suspend it meanwhile; programs
have a package of their own. No module here may know of the kernel or the runtime, nor
decide what runs, or when. Modules for programs are loaded when they are asked for.

`processes(…)` is for users; its module, too, is loaded when it is asked for.

- `programs`: for authors of an executor or a worker that runs programs as these do.
- `_threads`: worker threads that are parked, not polled.
- `_programs`: programs, from a command to the last process that it leaves behind.
- `_processes`: calls in processes of this machine.
- `link`, `wire`: the link to a worker process or a node worker, and its frames.
- `_futures`: attempts as calls on an executor of `concurrent.futures`; our executors,
  which end with the orchestrator that they were given to.
- `remote`: calls for another process, and their outcomes on the way back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.core.executors._processes._attempts import processes as processes

__all__ = ("processes",)

#: The file of each name, which is loaded when the name is asked for.
_LATE = {
    "processes": "_processes._attempts",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = _load_late(__name__, _LATE)
