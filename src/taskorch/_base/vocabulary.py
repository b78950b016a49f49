"""
Words that mean something here which is called otherwise: which one was meant.

Others say `cpus`, `retries` and `depends_on`, and pens slip: what refuses a word, an
option or an attribute that there is not names the nearest that there is.

Decision: 0109.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from functools import wraps
from itertools import islice
from typing import Any, Final, TypeVar

C = TypeVar("C", bound=type)

#: Other names of resources: the name here, and by how much an amount is multiplied.
OTHER_RESOURCES: Final[Mapping[str, tuple[str, float]]] = {
    **dict.fromkeys(("cpus", "cpu_cores", "cores", "num_cpus", "vcpus"), ("cpu", 1)),
    **dict.fromkeys(("gpus", "num_gpus"), ("gpu", 1)),
    **dict.fromkeys(("memory_gb", "mem_gb", "ram_gb"), ("memory_mb", 1024)),
    **dict.fromkeys(("mem_mb", "ram_mb"), ("memory_mb", 1)),
    "disk_gb": ("disk_mb", 1024),
}
_CPU: Final = ("cpu", "cpu_cores", "max_cpu_per_agent", "total_cpu_cores", "resources")
_MEMORY: Final = (
    *("memory_mb", "memory_gb", "max_memory_gb", "total_memory_mb", "resources"),
)
_RETRIES: Final = ("retry", "max_attempts", "max_retries", "retries")
_TIMEOUT: Final = ("timeout", "timeout_seconds")
_CONCURRENCY: Final = ("concurrency", "max_concurrency", "max_parallel")
_AFTER: Final = ("after", "dependencies")
#: Words of others, and what may be meant, the likeliest first: what there is, is it.
_MEANT: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("cpu", "cpus", "cpu_cores", "cores", "num_cpus", "vcpus"), _CPU),
    **dict.fromkeys(("max_cpu", "max_cpus", "max_cpu_cores", "total_cpu"), _CPU),
    **dict.fromkeys(("memory_mb", "memory_gb", "memory", "mem", "ram"), _MEMORY),
    **dict.fromkeys(("mem_mb", "mem_gb", "ram_mb", "ram_gb", "max_memory"), _MEMORY),
    **dict.fromkeys(("gpu", "gpus", "num_gpus"), ("gpu", "resources")),
    **dict.fromkeys(("disk", "disk_gb"), ("disk_mb", "resources")),
    **dict.fromkeys((*_RETRIES, "attempts", "tries", "max_tries"), _RETRIES),
    **dict.fromkeys(("workers", "max_workers", "num_workers", "n_jobs"), _CONCURRENCY),
    **dict.fromkeys(("db", "database", "db_path", "storage"), ("journal",)),
    **dict.fromkeys(("backoff", "retry_delay"), ("base", "retry")),
    **dict.fromkeys(("retry_delay_seconds", "retry_backoff"), ("base", "retry")),
    "delay": ("base", "not_before"),
    **dict.fromkeys(("exceptions", "retry_exceptions"), ("retry_on",)),
    **dict.fromkeys(("depends_on", "needs", "blocked_by", "dependencies"), _AFTER),
    **dict.fromkeys(("upstream", "upstreams", "wait_for", "parents"), _AFTER),
    **dict.fromkeys(("execution_timeout", "timeout_seconds", "time_limit"), _TIMEOUT),
    **dict.fromkeys(("soft_time_limit", "start_to_close_timeout"), _TIMEOUT),
    "task_id": ("id",),
    "trigger_rule": ("join",),
    **dict.fromkeys(("countdown", "eta", "run_at", "start_after"), ("not_before",)),
    **dict.fromkeys(("expires", "expiry", "sla"), ("deadline", "expires")),
    **dict.fromkeys(("tenant", "namespace", "team"), ("owner",)),
    **dict.fromkeys(("labels", "tags"), ("metadata", "requires")),
    **dict.fromkeys(("cache_key_fn", "memoize", "persist_result"), ("cache",)),
    "backend": ("journal",),
}
#: How an option is written that is often called otherwise.
_EXAMPLES: Final = {
    "retry": "retry=RetryPolicy(max_attempts=3), which counts the first try; base=5 "
    "waits 5 seconds before the second",
    "max_attempts": "max_attempts=3, which counts the first try",
    "join": "join='finished', which is all done, however they ended",
    "not_before": "not_before=60, which is seconds from now",
    "resources": "resources=Resources(cpu=2, memory_mb=512)",
}
_CONTEXT: Final = "the function asks taskorch.current_context(), and takes no self"
_SCHEDULE: Final = "orch.schedules.add('name', '0 3 * * *', what) runs it on time"
_ON_END: Final = (
    "orch.signals has what has ended; orch.notify(…) sends word of failures"
)
_FUTURES: Final = (
    "concurrent.futures.wait and as_completed know their own futures alone: use "
    "taskorch.as_completed(handles), or orch.gather(handles)"
)
#: What to do where others have an option, and here it is no option.
_INSTEAD: Final[Mapping[str, str]] = {
    "bind": _CONTEXT,
    **dict.fromkeys(("cron", "schedule", "schedule_interval", "interval"), _SCHEDULE),
    **dict.fromkeys(("on_failure", "on_success", "on_completion"), _ON_END),
    **dict.fromkeys(("on_failure_callback", "on_success_callback"), _ON_END),
}
#: The same of what others offer at the root of their packages.
ELSEWHERE: Final[Mapping[str, str]] = {
    "flow": "a flow is a function that submits and takes results, as in "
    "orch.submit(flow), or a taskorch.Workflow",
    **dict.fromkeys(("dag", "DAG"), "a graph of tasks is a taskorch.Workflow"),
    "chain": "f then g is orch.submit(g, orch.submit(f)), or workflow.chain(a, b)",
    "group": "calls side by side are orch.map(f, items)",
    "chord": "what comes after all of them takes their handles: orch.submit(g, hs)",
    "get_run_logger": "taskorch.current_context() knows the task; logging logs",
    "sleep": "Task.wait_for(None, timeout=60, default=None) waits and holds no thread",
    "wait": "handles are waited for by taskorch.as_completed or orch.gather",
    "gather": "orch.gather(handles) gives their results",
}
#: The same of what others have as attributes, by what has them here.
_INSTEAD_OF: Final[Mapping[str, tuple[str, str]]] = {
    "starmap": ("map", "orch.map(f, *zip(*pairs)) takes an iterable an argument"),
    "signal": ("emit", "orch.emit(event, payload) sends an event to what waits for it"),
    "run": (
        "submit_task",
        "orch.submit(f, x).result(), or orch.workflows.start(workflow)",
    ),
    "schedule_task": ("schedules", _SCHEDULE),
    "set_upstream": (
        "workflow",
        "a >> b, or workflow.chain(a, b), lets b come after a",
    ),
    "set_downstream": ("workflow", "a >> b, or workflow.chain(a, b), does"),
    "traceback": ("exception", "handle.exception() is the error, with its traceback"),
    "logs": ("task_id", "taskorch logs TASK shows what a program has printed"),
    "ready": ("done", "handle.done() says whether it has ended"),
    "successful": ("exception", "handle.exception() is None if it has completed"),
    "result": ("close", "list(orch.map(f, items)) has all results, in order"),
    "results": ("close", "list(orch.map(f, items)) has all results, in order"),
    "_condition": (
        "task_id",
        _FUTURES,
    ),
}
#: What others call what an orchestrator has, and what handles, runs and workflows have.
_OTHER_NAMES: Final = {
    "signals": "on once add_listener add_event_listener subscribe listen",
    "submit": "run execute enqueue delay apply apply_async spawn call schedule",
    "submit_task": "add add_task create_task enqueue_task send_task run_task put",
    "agent": "register register_agent add_agent worker register_worker",
    "stop": "close shutdown terminate join_all",
    "start": "open begin launch run submit execute",
    "wait": "join wait_all drain",
    "tasks": "list list_tasks get_tasks all_tasks query",
    "get_task_status": "status get_status get_task task_status get_state",
    "cancel_task": "cancel revoke kill abort",
    "suspend_task": "suspend pause pause_task hold",
    "resume_task": "resume unpause continue_task",
    "rerun_task": "rerun retry retry_task restart_task",
    "get_stats": "stats statistics get_statistics get_metrics metrics",
    "health": "get_health health_check is_healthy",
    "result": "get wait join get_result output results",
    "task_id": "id",
    "workflow_id": "id run_id",
    "status": "state get_status get_state",
    "task": "step add_task add_step add_node submit call",
}
#: Names among which a slip of the pen is looked for.
_MANY: Final = 1_000


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of *choices* that *name* may mean, if one can be told."""
    from difflib import get_close_matches  # noqa: PLC0415 - for errors

    names = list(islice(choices, _MANY))
    if name in _MEANT:
        # It means that alone: a gpu is no cpu.
        return next((meant for meant in _MEANT[name] if meant in names), None)
    return next(iter(get_close_matches(name, names, n=1, cutoff=cutoff)), None)


def meant(name: object, choices: Iterable[str], otherwise: str = "") -> str:
    """The question whether the nearest of *choices* was meant, or else *otherwise*."""
    near = nearest(str(name), choices)
    return f"did you mean {str(near)!r}?" if near else otherwise


def guess(name: str, names: Iterable[str]) -> str:
    """What *name* may have meant, as the end of a message."""
    near = meant(name, names)
    return f"; {near}" if near else ""


def others_words(choices: Container[str]) -> dict[str, str]:
    """The words of others for some of *choices*, and which of these each means."""
    means = {
        word: next((name for name in names if name in choices), None)
        for word, names in _MEANT.items()
    }
    return {word: name for word, name in means.items() if name is not None}


def unknown_option(owner: str, name: str, names: Iterable[str]) -> TypeError:
    """The error of an option that there is not: it names the one that was meant."""
    choices = tuple(names)
    if name in _INSTEAD:
        return TypeError(f"{owner} has no option {name!r}: {_INSTEAD[name]}")
    close = nearest(name, choices)
    remedy = meant(name, choices, f"there are {', '.join(choices)}")
    if close in _EXAMPLES and close != name:
        remedy += f" As in {_EXAMPLES[close]}"
    return TypeError(f"{owner} has no option {name!r}: {remedy}")


def no_attribute(thing: object, name: str) -> AttributeError:
    """The error of an attribute that *thing* has not: it names the one meant."""
    text = f"{type(thing).__name__!r} object has no attribute {name!r}"
    anchor, remedy = _INSTEAD_OF.get(name, ("", ""))
    if anchor and hasattr(type(thing), anchor):
        return AttributeError(f"{text}: {remedy}", name=name)
    near = None if name.startswith("_") else _attribute_meant(thing, name)
    if near is not None:
        text += f": did you mean {near!r}?"
    return AttributeError(text, name=name)


def _attribute_meant(thing: object, name: str) -> str | None:
    """The attribute of *thing* that *name* may mean: `submit_task` for `submitTask`."""
    import re  # noqa: PLC0415 - for errors, like the next
    from difflib import get_close_matches  # noqa: PLC0415

    attributes = [each for each in dir(type(thing)) if not each.startswith("_")]
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    for ours, others in _OTHER_NAMES.items():
        if ours in attributes and word in others.split():
            return ours
    return next(iter(get_close_matches(word, attributes, n=1)), None)


def in_our_words(owner: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """
    *options* with `retry`, which counts the first try, in the place of `retries`.

    Raises:
        TypeError: There are both; or the number is none, or less than 0.
    """
    ours = dict(options)
    retries = ours.pop("retries", None)
    if retries is None:
        return ours
    if "retry" in ours:
        msg = f"{owner}: retries= and retry= say the same: use one of them"
        raise TypeError(msg)
    if type(retries) is not int or retries < 0:
        msg = f"{owner}: retries= is a number of tries after the first, 0 or more"
        raise TypeError(msg)
    ours["retry"] = retries + 1
    return ours


def suggesting(cls: C) -> C:
    """
    Decorate *cls*: an unknown option is refused with the nearest known one.

    If it takes `retry`, it takes `retries` as well.
    """
    make: Callable[..., None] = cls.__init__  # type: ignore[misc]  # of this very class
    # By its code: `inspect` takes longer to import than all that a name needs here.
    code = make.__code__
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

    @wraps(make)
    def init(self: Any, *args: Any, **options: Any) -> None:
        try:
            make(self, *args, **options)
        except TypeError:
            # Checked only after a TypeError: mostly, every option is known.
            if options.get("retries") is not None and "retry" in names:
                init(self, *args, **in_our_words(cls.__name__, options))
                return
            for name in options:
                if name not in names:
                    raise unknown_option(cls.__name__, name, names) from None
            raise

    # From Python 3.14 on, `wraps` hands on only what is evaluated when asked for.
    init.__annotations__ = make.__annotations__
    cls.__init__ = init  # type: ignore[misc]
    return cls
