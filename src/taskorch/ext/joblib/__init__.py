"""
joblib: `Parallel` runs its calls as tasks, once `register` has been called.

    from joblib import Parallel, delayed, parallel_config
    from taskorch.ext.joblib import register

    register()
    with parallel_config(backend="taskorch"):
        Parallel()(delayed(pow)(n, 2) for n in range(10))

It needs joblib 1.4 or newer.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import cpu_count
from joblib.parallel import ParallelBackendBase, register_parallel_backend

from taskorch.api._executor import TaskExecutor
from taskorch.api._orchestrator import TaskOrchestrator

__all__ = ("register",)


def register() -> None:
    """
    Make `taskorch` the name of a backend of joblib's.

    It shares memory with its caller, as that of threads does.
    `parallel_config(backend="taskorch", orchestrator=orch)` runs the calls on an
    orchestrator that is there already; without, each `Parallel` has one of its own for
    `n_jobs` calls at once, of which -1 means as many as there are processors.
    """
    register_parallel_backend("taskorch", _TaskorchBackend)


class _TaskorchBackend(ParallelBackendBase):  # type: ignore[misc]  # joblib is untyped
    """
    A backend of joblib's over a `TaskExecutor`.

    Args:
        orchestrator: One that is there already; None makes one for each `Parallel`.
        options: The options that joblib gives to backends.
    """

    #: The meaning of `n_jobs=None`: all workers, as for joblib's backend of dask.
    default_n_jobs = -1
    supports_retrieve_callback = True
    supports_sharedmem = True
    uses_threads = True

    def __init__(
        self, orchestrator: TaskOrchestrator | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._orchestrator = orchestrator
        self._executor: TaskExecutor | None = None
        self._n_jobs = 1

    def effective_n_jobs(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, n_jobs: int | None
    ) -> int:
        """
        Return how many calls run at once if *n_jobs* are asked for.

        Raises:
            ValueError: *n_jobs* is 0.
        """
        if n_jobs == 0:
            msg = "n_jobs == 0 in Parallel has no meaning"
            raise ValueError(msg)
        if n_jobs is None:
            n_jobs = 1
        most = cpu_count()
        if self._orchestrator is not None:
            most = self._orchestrator.concurrency
        return n_jobs if n_jobs > 0 else max(1, most + 1 + n_jobs)

    def configure(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, n_jobs: int | None = 1, parallel: Any = None, **_options: Any
    ) -> int:
        """Get ready for the calls of *parallel*, and return how many run at once."""
        self.parallel = parallel
        self._n_jobs = self.effective_n_jobs(n_jobs)
        return self._n_jobs

    def submit(
        self,
        func: Callable[[], Any],
        callback: Callable[[Future[Any]], object] | None = None,
    ) -> Future[Any]:
        """Call *func* as a task, and *callback* with its future once it has ended."""
        if self._executor is None:
            if self._orchestrator is None:
                self._executor = TaskExecutor(self._n_jobs)
            else:
                self._executor = TaskExecutor(orchestrator=self._orchestrator)
        future = self._executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    #: Its name before joblib 1.5.
    apply_async = submit

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the result of a call, or raise the error that it raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the calls that have not begun, since one of them failed."""
        del ensure_ready
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)

    def terminate(self) -> None:
        """Wait for the calls that began, and free their resources."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()
