"""
Where attempts run: the mechanisms, which know nothing of tasks.

Threads are here, programs are here; coroutines run on the loop of the runtime, and
any `concurrent.futures.Executor` is used as it is.
"""

from taskorch.executors._program_process import ProgramEnd as ProgramEnd
from taskorch.executors._program_process import ProgramProcess as ProgramProcess
from taskorch.executors._programs import ProgramExecutor as ProgramExecutor
from taskorch.executors._threads import Worker as Worker
from taskorch.executors._threads import WorkerThreads as WorkerThreads
