"""CPython's own tests of executors, from the interpreter that runs, on a TaskExecutor."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from taskorch import TaskExecutor

_PACKAGE = "test.test_concurrent_futures"
#: Where each class stands; before Python 3.12 all are in one file.
_CLASSES = {
    "ThreadPoolExecutorTest": "test_thread_pool",
    "ThreadPoolShutdownTest": "test_shutdown",
    "ThreadPoolAsCompletedTest": "test_as_completed",
    "ThreadPoolWaitTests": "test_wait",
}
#: They look into `_threads`, which is the thread pool's own; or at its default number
#: of workers, or at the names of its threads.
_PRIVATE = (
    "test_default_workers",
    "test_saturation",
    "test_idle_thread_reuse",
    "test_threads_terminate",
    "test_context_manager_shutdown",
    "test_del_shutdown",
    "test_shutdown_no_wait",
    "test_cancel_futures_wait_false",
    "test_thread_names_assigned",
    "test_thread_names_default",
)


def _load(module: str) -> Any:
    try:
        return importlib.import_module(f"{_PACKAGE}.{module}")
    except ModuleNotFoundError:
        return importlib.import_module(_PACKAGE)


def _adopted(name: str, module: Any) -> type:
    """CPython's class *name*, with our executor in the place of its own."""
    fields: dict[str, Any] = dict.fromkeys(_PRIVATE)
    fields["executor_type"] = TaskExecutor
    fields["__module__"] = __name__
    return type(name, (getattr(module, name),), fields)


try:
    _modules = {name: _load(module) for name, module in _CLASSES.items()}
except ImportError as missing:
    pytest.skip(
        f"this interpreter comes without its own tests: {missing}",
        allow_module_level=True,
    )

for _name, _module in _modules.items():
    globals()[_name] = _adopted(_name, _module)


@pytest.fixture(autouse=True)
def programs_of_ours(monkeypatch):
    """Programs that a test runs import our executor where they would CPython's."""
    module = _modules["ThreadPoolShutdownTest"]
    run = module.assert_python_ok

    def run_ours(flag, program):
        theirs, ours = "from concurrent.futures", "from taskorch"
        name = TaskExecutor.__name__
        return run(
            flag, program.replace(f"{theirs} import {name}", f"{ours} import {name}")
        )

    monkeypatch.setattr(module, "assert_python_ok", run_ours)
