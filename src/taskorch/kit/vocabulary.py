"""
Other words for our names, and the names that they mean.

Others say `execution_timeout`, `depends_on` and `f.delay(x)`. A word that means exactly
the same as one of ours works: `_SAME_OPTIONS` and `_SAME_ATTRIBUTES` list them. Type
checkers and pages know only our own. For any other word, or a typing error, the message
about an unknown word, option or attribute names the nearest known one.

Decision: names-and-docs.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial, wraps
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

C = TypeVar("C", bound=type)

#: Options of other libraries, each with our option of the same meaning.
_SAME_OPTIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("timeout_seconds", "execution_timeout", "job_timeout"), "timeout"),
    "start_to_close_timeout": "timeout",
    **dict.fromkeys(("task_id", "job_id"), "id"),
    "depends_on": "after",
    "trigger_rule": "join",
    **dict.fromkeys(("countdown", "eta"), "not_before"),
    "max_retries": "retries",
    "retry_delay_seconds": "retry_delay",
    "maximum_attempts": "max_attempts",
    "initial_interval": "base",
    "maximum_interval": "max_delay",
    "retry_policy": "retry",
    **dict.fromkeys(("max_workers", "workers", "parallelism"), "concurrency"),
    "cron": "when",
    **dict.fromkeys(("timezone", "tz"), "zone"),
    "start_date": "start",
    "end_date": "end",
}
#: Airflow's trigger rules, each with our join.
_TRIGGER_RULES: Final = {
    "all_success": "all",
    "all_done": "finished",
    "one_success": "any",
}
#: Other names of resources, each with our name and a factor for the amount.
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
#: Words of others, each with our words that may be meant, the likeliest first.
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
    "key": ("id",),
    "name": ("id", "type"),
    "pool": ("resources",),
    "queue": ("requires",),
    "autoretry_for": ("retry",),
    "retry_exponential_backoff": ("retry",),
    "acks_late": ("idempotent",),
    **dict.fromkeys(("coalesce", "misfire_grace_time", "catchup"), ("catch_up",)),
    **dict.fromkeys(("max_instances", "max_active_runs"), ("overlap",)),
    **dict.fromkeys(("seconds", "minutes", "hours", "hour", "minute"), ("when",)),
}
#: Examples of options that often have other names elsewhere.
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
_START: Final = "orch.workflows.start(workflow).result() runs it"
_ON_END: Final = (
    "orch.signals has what has ended; orch.notify(…) sends word of failures"
)
_FUTURES: Final = (
    "concurrent.futures.wait and as_completed know their own futures alone: use "
    "orch.wait(handles) or taskorch.as_completed(handles), or give them "
    "[handle.future() for handle in handles]"
)
#: Options that stand for ours: see `in_our_words`.
_COMBINED: Final[Mapping[str, tuple[str, ...]]] = {
    "retry": ("retries", "retry_delay"),
    "max_attempts": ("retries",),
}
#: Advice for options of others that are no option here.
_INSTEAD: Final[Mapping[str, str]] = {
    "bind": _CONTEXT,
    **dict.fromkeys(("cron", "schedule", "schedule_interval", "interval"), _SCHEDULE),
    **dict.fromkeys(("on_failure", "on_success", "on_completion"), _ON_END),
    **dict.fromkeys(("on_failure_callback", "on_success_callback"), _ON_END),
    "rate_limit": "orch.resources.set_quotas(Quota(…)) bounds how many start in a time",
    "log_prints": "logging in a function goes to the log of the program",
    "depends_on_past": "overlap='queue' of a schedule waits for the run before",
    "chunksize": "each call is a task of its own",
    "executor": "Task.call(f, executor='process') and @task(executor=…) have it; a "
    "program is a process of its own",
    "allow_failures": "map(…, allow_failures=2); for one task, allow_failure=True",
    "return_exceptions": "handle.exception() is that of each",
    "with_results": "each handle that comes has its result()",
    "num_returns": "orch.as_completed(handles) gives the first that end",
    "return_when": "orch.as_completed(handles) gives the first that end",
}
#: The counterpart of words of engines whose functions have steps.
_STEP: Final = "context.step('name', function, argument) keeps its result"
_CHILD: Final = "context.child('name', function or workflow, …) runs it, and waits"
_WAIT: Final = "context.wait(event, timeout=60) waits, and orch.emit(event) ends that"
_EMIT: Final = "orch.emit(event, payload) sends an event to what waits for it"
_SLEEP: Final = "context.sleep(seconds), or sleep(until=moment), waits without a slot"
_ASK: Final = "context.ask('Ship?') asks people, and orch.answer answers"
_FORK: Final = "orch.steps.fork(id, at='step') runs a task again from a step"
#: Advice for attributes of others, by the attribute that the object has here.
_INSTEAD_OF: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    **dict.fromkeys(
        ("delay", "execute_in_process", "test", "apply_async"),
        (("to_mermaid", _START), ("parameters", _START)),
    ),
    "run": (("child", _STEP), ("to_mermaid", _START), ("parameters", _START)),
    **dict.fromkeys(
        (
            *("run_step", "run_async", "run_typed", "execute_activity", "activity"),
            *("start_activity", "execute_local_activity", "side_effect", "task"),
            *("invoke_step", "record", "memoize", "transaction"),
        ),
        (("child", _STEP),),
    ),
    **dict.fromkeys(
        (
            *("execute_child_workflow", "start_child_workflow", "child_workflow"),
            *("invoke", "call", "service_call", "object_call", "sub_workflow"),
            *("run_deployment", "generic_call"),
        ),
        (("child", _CHILD),),
    ),
    "submit": (("child", _CHILD), ("to_mermaid", _START), ("parameters", _START)),
    "signal": (("child", _WAIT), ("emit", _EMIT)),
    **dict.fromkeys(
        (
            *("wait_for_event", "wait_for_signal", "wait_condition", "recv"),
            *("receive", "get_event", "awakeable", "promise", "wait_event"),
            *("wait_for_external_event", "wait_for"),
        ),
        (("child", _WAIT),),
    ),
    **dict.fromkeys(
        ("sleep_until", "sleep_for", "timer", "create_timer", "start_timer"),
        (("child", _SLEEP),),
    ),
    **dict.fromkeys(
        (
            *("ask_human", "wait_for_input", "wait_for_approval", "approval"),
            *("pause_flow_run", "suspend_flow_run"),
        ),
        (("child", _ASK),),
    ),
    **dict.fromkeys(
        (
            *("fork_run", "fork_task", "fork_from_step", "rewind"),
            *("reset_workflow", "replay_from", "rerun_from_step", "restart_from_step"),
            *("restart_as_new", "resume_from"),
        ),
        (("rerun_task", _FORK),),
    ),
    **dict.fromkeys(
        ("list_workflow_steps", "list_steps", "get_steps", "step_history"),
        (("rerun_task", "orch.steps.of(id) lists the steps of a task"),),
    ),
    **dict.fromkeys(
        ("execute_workflow", "start_workflow", "run_workflow"),
        (("workflows", _START), ("child", _CHILD)),
    ),
    **dict.fromkeys(("serve", "deploy"), (("parameters", _SCHEDULE),)),
    **dict.fromkeys(
        ("add_job", "scheduled_job", "schedule_task", "add_schedule"),
        (("schedules", _SCHEDULE), ("backfill", _SCHEDULE)),
    ),
    **dict.fromkeys(
        ("enqueue_in", "enqueue_at", "call_later", "call_at"),
        (("options", "orch.options(not_before=60).submit(f, x) begins later"),),
    ),
    "scatter": (("as_completed", "arguments go with each call: orch.submit(f, x)"),),
    "failed": (("exception", "handle.exception() is not None if it has failed"),),
    "running": (("exception", "handle.status.state says what it does"),),
    "get": (("cancel_task", "orch.handle(id).result(), or handle.result()"),),
    "traceback": (
        ("exception", "handle.exception() is the error, with its traceback"),
    ),
    "logs": (("task_id", "taskorch logs TASK shows what a program has printed"),),
    "result": (
        ("close", "list(orch.map(f, items)) has all results, in order"),
        ("after", "a node has a result when its run has: run.result()[node.id]"),
    ),
    "results": (("close", "list(orch.map(f, items)) has all results, in order"),),
    "_condition": (("task_id", _FUTURES),),
}


def _successful(handle: Any) -> bool:
    return handle.done() and handle.exception(0) is None


def _shutdown(orch: Any, wait: bool = True) -> Any:
    if wait is not True:
        msg = "shutdown(wait=False) leaves work behind: orch.stop(drain=False) ends it"
        raise TypeError(msg)
    return orch.stop()


def _run(orch: Any, work: Any, /, *args: Any, **kwargs: Any) -> Any:
    if hasattr(type(work), "writes_workflow"):
        return orch.workflows.start(work(*args, **kwargs)).result()
    if hasattr(work, "to_mermaid"):
        return orch.workflows.start(work, *args, **kwargs).result()
    return orch.submit(work, *args, **kwargs).result()


def _starmap(orch: Any, fn: Any, items: Iterable[Iterable[Any]]) -> Any:
    return orch.map(fn, *zip(*items, strict=True))


def _cancel(orch: Any, task: Any) -> Any:
    return orch.cancel_task(task) if isinstance(task, str) else task.cancel()


def _fork(orch: Any, task_id: str, *, at: str, **options: Any) -> Any:
    return orch.steps.fork(task_id, at=at, **options)


def _apply_async(
    calls: Any, args: Iterable[Any] = (), kwargs: Any = None, **options: Any
) -> Any:
    return calls.options(**options).submit(*args, **(kwargs or {}))


#: Attributes of others, by an attribute of the object, each with ours of the same
#: meaning, or a function that does the same.
_SAME_ATTRIBUTES: Final[Mapping[str, tuple[str, str | Callable[..., Any]]]] = {
    # These are of a handle, and of a run.
    "get": ("result", "result"),
    "ready": ("done", "done"),
    "successful": ("exception", _successful),
    # These are of an orchestrator. Coroutines do not use the waiting ones.
    "status": ("get_task_status", "get_task_status"),
    "rerun": ("rerun_task", "rerun_task"),
    "enqueue": ("submit_task", "submit"),
    "shutdown": ("submit_task", _shutdown),
    **dict.fromkeys(("with_options", "override"), ("options", "options")),
    "cancel": ("as_completed", _cancel),
    "run": ("as_completed", _run),
    "starmap": ("as_completed", _starmap),
    "imap": ("as_completed", "map"),
    **dict.fromkeys(("fork", "fork_workflow"), ("as_completed", _fork)),
    # These are of a function that `@task` has decorated.
    **dict.fromkeys(("delay", "remote"), ("with_noted", "submit")),
    "apply_async": ("with_noted", _apply_async),
    # These are of a node.
    "set_downstream": ("after", "__rshift__"),
    "set_upstream": ("after", "__rrshift__"),
}
#: Advice for attributes of others on a decorated function.
NOT_OF_FUNCTIONS: Final[Mapping[str, str]] = {
    "retry": "raise the error, and retries=3 of @task tries again",
    "call_local": "{fn}(…), which calls it now",
    **dict.fromkeys(("chunks", "starmap", "expand_kwargs"), "{fn}.map(items)"),
    "bind": "{fn}(…) within @taskorch.workflow adds a task to a graph",
    **dict.fromkeys(("revoke", "restore"), "{fn}.submit(…), whose handle has cancel()"),
    **dict.fromkeys(
        ("schedule", "serve", "deploy"), "orch.schedules.add('name', when, {fn})"
    ),
    "expand": "{fn}.map(items), of a list or of a node of a workflow",
    "partial": "{fn}.map(items), and functools.partial for other arguments",
    "apply": "{fn}(…), which calls it now",
    **dict.fromkeys(
        ("s", "si", "signature"), "{fn}.submit(…), to which handles may go"
    ),
}
#: The attributes above that a decorated function has.
OF_FUNCTIONS: Final = ("delay", "remote", "apply_async", "with_options", "override")
#: Other words for attributes of an orchestrator, and of handles, runs and workflows.
_OTHER_NAMES: Final = {
    "signals": "on once add_listener add_event_listener subscribe listen",
    "submit": "run execute delay apply apply_async spawn call start_soon create_task "
    "to_thread run_in_executor ensure_future",
    "submit_task": "add add_task enqueue_task send_task run_task put",
    "handle": "async_result fetch fetch_job get_job get_handle",
    "agent": "register register_agent add_agent worker register_worker",
    "stop": "close shutdown terminate join_all",
    "start": "open begin launch run submit execute",
    "wait": "join wait_all drain",
    "tasks": "list list_tasks get_tasks all_tasks query",
    "get_task_status": "status get_status get_task task_status get_state",
    "cancel_task": "cancel revoke kill abort",
    "cancel": "revoke kill abort terminate stop",
    "done": "is_finished is_done finished is_ready",
    "suspend_task": "suspend pause pause_task hold",
    "resume_task": "resume unpause continue_task",
    "rerun_task": "rerun retry retry_task restart_task",
    "get_stats": "stats statistics get_statistics get_metrics metrics",
    "health": "get_health health_check is_healthy",
    "result": "get wait join get_result output results return_value value",
    "task_id": "id key job_id",
    "workflow_id": "id run_id",
    "status": "state get_status get_state",
    "task": "step add_task add_step add_node submit call",
}
#: The most names among which a typing error is searched; the least similarity, below
#: which another thing is meant; and the length of words in which a letter matters much.
_MANY: Final = 1_000
_SLIP: Final = 0.8
_SLIP_OF_SHORT: Final = 0.6
_SHORT: Final = 4


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the one of *choices* that *name* may mean, if one can be told."""
    from difflib import get_close_matches  # noqa: PLC0415 - for errors

    names = list(islice(choices, _MANY))
    if name in _MEANT:
        # The word has that meaning alone: a gpu is no cpu.
        return next((meant for meant in _MEANT[name] if meant in names), None)
    return next(iter(get_close_matches(name, names, n=1, cutoff=cutoff)), None)


def meant(name: object, choices: Iterable[str], otherwise: str = "") -> str:
    """Ask whether the nearest of *choices* was meant, or return *otherwise*."""
    near = nearest(name, choices) if type(name) is str else None
    return f"did you mean {str(near)!r}?" if near else otherwise


def guess(name: str, names: Iterable[str]) -> str:
    """Return the name that *name* may mean, as the end of a message."""
    near = meant(name, names)
    return f"; {near}" if near else ""


def others_words(choices: Container[str]) -> dict[str, str]:
    """Return words of other libraries for *choices*, each with its meaning."""
    others = {word: (name,) for word, name in _SAME_OPTIONS.items()} | {**_MEANT}
    means = {
        word: next((name for name in names if name in choices), None)
        for word, names in others.items()
    }
    return {word: name for word, name in means.items() if name is not None}


def unknown_option(owner: str, name: str, names: Iterable[str]) -> TypeError:
    """Return the error for an unknown option, with the name that was meant."""
    choices = tuple(names)
    combined = (word for ours in choices for word in _COMBINED.get(ours, ()))
    choices += tuple(word for word in combined if word not in choices)
    return TypeError(f"{owner} has no option {name!r}: {remedy_of(name, choices)}")


def remedy_of(name: str, names: Iterable[str]) -> str:
    """Return what to use instead of an unknown option *name*."""
    remedy = remedy_of_key(name, names)
    close = remedy.removeprefix("did you mean '").removesuffix("'?")
    if close in _EXAMPLES and close != name:
        remedy += f" As in {_EXAMPLES[close]}"
    return remedy


def remedy_of_key(name: str, names: Iterable[str]) -> str:
    """Return what to use instead of an unknown key *name* of a document."""
    choices = tuple(names)
    if name in _INSTEAD:
        return _INSTEAD[name]
    instead, close = _of_others(name), None
    # Our own key with an s is nearer than any word of others.
    if name in _MEANT or not instead or name.removesuffix("s") in choices:
        close = nearest(name, choices, _alike(name))
    if close is not None:
        return f"did you mean {str(close)!r}?"
    every = f"there are {', '.join(choices)}" if choices else "there is none"
    return instead or every


def _alike(name: str) -> float:
    """Return how similar a word must be for *name* to be a typing error."""
    return _SLIP if len(name) > _SHORT else _SLIP_OF_SHORT


def _of_others(word: object) -> str:
    """Return our counterpart of a *word* of other libraries, or ""."""
    from taskorch.kit.others import elsewhere  # noqa: PLC0415 - for errors

    return elsewhere(word) if isinstance(word, str) else ""


def no_name(module: str, name: str) -> ImportError | AttributeError:
    """Return the error for a missing *name* of *module*, with our counterpart."""
    remedy = "" if name.startswith("_") else _of_others(name)
    if not remedy:
        return AttributeError(f"module {module!r} has no attribute {name!r}", name=name)
    # For `from taskorch import flow`, only an ImportError keeps our message.
    return ImportError(f"{module} has no {name}: {remedy}", name=module)


def other_attribute(thing: object, name: str) -> Any:
    """
    Return the attribute of *thing* that other libraries call *name*.

    Raises:
        AttributeError: There is none; the message names the one that may be meant. Or
            the code of the attribute *name* has raised it, which is raised as it is.
    """
    if hasattr(type(thing), name):
        return object.__getattribute__(thing, name)
    anchor, ours = _SAME_ATTRIBUTES.get(name, ("", ""))
    if not anchor or not hasattr(type(thing), anchor):
        raise _no_attribute(thing, name)
    return getattr(thing, ours) if isinstance(ours, str) else partial(ours, thing)


def _no_attribute(thing: object, name: str) -> AttributeError:
    """Return the error for a missing attribute of *thing*, with the one meant."""
    text = f"{type(thing).__name__!r} object has no attribute {name!r}"
    for anchor, remedy in _INSTEAD_OF.get(name, ()):
        if hasattr(type(thing), anchor):
            return AttributeError(f"{text}: {remedy}", name=name)
    if name.startswith("_"):
        return AttributeError(text, name=name)
    near = _attribute_meant(thing, name)
    remedy = f"did you mean {near!r}?" if near else _of_others(name)
    return AttributeError(f"{text}: {remedy}" if remedy else text, name=name)


def _attribute_meant(thing: object, name: str) -> str | None:
    """Return the attribute that *name* may mean: `submit_task` for `submitTask`."""
    import re  # noqa: PLC0415 - for errors, like the next
    from difflib import get_close_matches  # noqa: PLC0415

    attributes = [each for each in dir(type(thing)) if not each.startswith("_")]
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    for ours, others in _OTHER_NAMES.items():
        if ours in attributes and word in others.split():
            return ours
    if _of_others(word) and word not in attributes:
        return None
    slips = get_close_matches(word, attributes, n=1, cutoff=_alike(word))
    return next(iter(slips), None)


class CountedRetries(NamedTuple):
    """
    The values of `retries=3, retry_delay=5`, before a policy is made of them.

    Attributes:
        attempts: All tries, including the first.
        delay: Seconds before each further try; or a list for the second, the third and
            so on, of which the last one is for all that follow.
    """

    attempts: int
    delay: Any


def in_our_words(
    owner: str, options: Mapping[str, Any], names: Container[str]
) -> dict[str, Any]:
    """
    Return *options* under our own names.

    `retry`, which counts the first try, stands for `retries`, which does not.

    Args:
        owner: The function that takes them, for messages.
        options: The given options. Unknown ones stay as they are.
        names: The names of all known options.

    Raises:
        TypeError: Two mean the same; or one has an invalid value.
    """
    ours: dict[str, Any] = {}
    counts = next((name for name in ("retry", "max_attempts") if name in names), "")
    for name, value in options.items():
        word = name if name in names else _SAME_OPTIONS.get(name, name)
        if word not in names and word not in _COMBINED.get(counts, ()):
            word = name
        if word in ours:
            msg = f"{owner}: two options say the same as {word}=: use one of them"
            raise TypeError(msg)
        ours[word] = value if word == name else _in_our_values(owner, name, value)
    return _counted(owner, ours, counts) if counts else ours


def _in_our_values(owner: str, name: str, value: Any) -> Any:
    """Return our value for *value* of an option of other libraries."""
    if name == "trigger_rule":
        if not isinstance(value, str) or value not in _TRIGGER_RULES:
            rules = ", ".join(_TRIGGER_RULES)
            msg = (
                f"{owner}: trigger_rule= is one of {rules}; for all others, join= "
                "takes a function of the states"
            )
            raise TypeError(msg)
        return _TRIGGER_RULES[value]
    if name == "depends_on" and not isinstance(value, list | tuple | set | frozenset):
        return [value]
    return value


def _counted(owner: str, options: dict[str, Any], name: str) -> dict[str, Any]:
    """Return *options* with `retries` made of *name*, which counts all tries."""
    retries = options.pop("retries", None)
    delay = options.pop("retry_delay", None)
    if retries is None:
        if delay is not None:
            msg = (
                f"{owner}: retry_delay= needs retries=, the number of tries after the "
                "first: retries=3, retry_delay=5"
            )
            raise TypeError(msg)
        return options
    if name in options:
        msg = f"{owner}: retries= and {name}= say the same: use one of them"
        raise TypeError(msg)
    if type(retries) is not int or retries < 0:
        msg = f"{owner}: retries= is a number of tries after the first, 0 or more"
        raise TypeError(msg)
    attempts = retries + 1
    options[name] = attempts if delay is None else CountedRetries(attempts, delay)
    return options


def suggesting(cls: C) -> C:
    """
    Decorate *cls*: an unknown option is refused with the nearest known one.

    Other words for known options are accepted: see `in_our_words`.
    """
    make: Callable[..., None] = cls.__init__  # type: ignore[misc]  # of this very class
    # The code object is read, as `inspect` takes longer to import than the whole check.
    code = make.__code__
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

    @wraps(make)
    def init(self: Any, *args: Any, **options: Any) -> None:
        try:
            make(self, *args, **options)
        except TypeError:
            # The check comes after a TypeError, since mostly every option is known.
            ours = in_our_words(cls.__name__, options, names)
            if ours.keys() != options.keys():
                init(self, *args, **ours)
                return
            for name in options:
                if name not in names:
                    raise unknown_option(cls.__name__, name, names) from None
            if args and callable(args[0]) and hasattr(cls, "call"):
                called = getattr(args[0], "__name__", "f")
                msg = (
                    f"{cls.__name__}.call({called}, …) is the {cls.__name__} of a call"
                )
                raise TypeError(msg) from None
            raise

    # From Python 3.14 on, `wraps` copies only annotations that are evaluated.
    init.__annotations__ = make.__annotations__
    cls.__init__ = init  # type: ignore[misc]
    return cls
