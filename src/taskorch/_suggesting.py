"""The error of an option that there is not: it names the one that was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final, TypeVar

from taskorch._vocabulary import meant, nearest

C = TypeVar("C", bound=type)
_EXAMPLES: Final = {
    "retry": "retry=RetryPolicy(max_attempts=3), which counts the first try",
    "max_attempts": "max_attempts=3, which counts the first try",
    "resources": "resources=Resources(cpu=2, memory_mb=512)",
}


def unknown_option(owner: str, name: str, names: Iterable[str]) -> TypeError:
    """The error of an option that there is not: it names the one that was meant."""
    choices = tuple(names)
    close = nearest(name, choices)
    remedy = meant(name, choices, f"there are {', '.join(choices)}")
    if close in _EXAMPLES and close != name:
        remedy += f" As in {_EXAMPLES[close]}"
    return TypeError(f"{owner} has no option {name!r}: {remedy}")


#: What others call what an orchestrator has, and what handles, runs and workflows have.
_OTHER_WORDS = {
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


def no_attribute(thing: object, name: str) -> AttributeError:
    """The error of an attribute that *thing* has not: it names the one meant."""
    text = f"{type(thing).__name__!r} object has no attribute {name!r}"
    near = None if name.startswith("_") else _meant(thing, name)
    if near is not None:
        text += f": did you mean {near!r}?"
    return AttributeError(text, name=name)


def _meant(thing: object, name: str) -> str | None:
    """The attribute of *thing* that *name* may mean: `submit_task` for `submitTask`."""
    import re  # noqa: PLC0415 - for errors, like the next
    from difflib import get_close_matches  # noqa: PLC0415

    attributes = [each for each in dir(type(thing)) if not each.startswith("_")]
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    for ours, others in _OTHER_WORDS.items():
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
