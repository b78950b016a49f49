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
    "delay": ("base", "not_before"),
    **dict.fromkeys(("exceptions", "retry_exceptions"), ("retry_on",)),
    **dict.fromkeys(("depends_on", "needs", "blocked_by", "dependencies"), _AFTER),
}
#: How an option is written that is often called otherwise.
_EXAMPLES: Final = {
    "retry": "retry=RetryPolicy(max_attempts=3), which counts the first try",
    "max_attempts": "max_attempts=3, which counts the first try",
    "resources": "resources=Resources(cpu=2, memory_mb=512)",
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
    close = nearest(name, choices)
    remedy = meant(name, choices, f"there are {', '.join(choices)}")
    if close in _EXAMPLES and close != name:
        remedy += f" As in {_EXAMPLES[close]}"
    return TypeError(f"{owner} has no option {name!r}: {remedy}")


def no_attribute(thing: object, name: str) -> AttributeError:
    """The error of an attribute that *thing* has not: it names the one meant."""
    text = f"{type(thing).__name__!r} object has no attribute {name!r}"
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


def suggesting(cls: C) -> C:
    """Decorate *cls*: an unknown option is refused with the nearest known one."""
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
            for name in options:
                if name not in names:
                    raise unknown_option(cls.__name__, name, names) from None
            raise

    # From Python 3.14 on, `wraps` hands on only what is evaluated when asked for.
    init.__annotations__ = make.__annotations__
    cls.__init__ = init  # type: ignore[misc]
    return cls
